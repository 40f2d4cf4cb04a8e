"""What runs below the application: embedded PostgreSQL and Redis, and the long-running processes.

Importing this package is cheap; the parts import their own libraries.
"""

from turnout.runtime.servers import services

__all__ = ["services"]
