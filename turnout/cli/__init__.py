"""The command line. Wiring only: each command calls one function of a stage and prints what it returns.

Stages are imported inside the commands, so that ``turnout --help`` answers at once.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the ``turnout`` command: expected errors become one message and exit code 1."""
    import psycopg
    from pydantic import ValidationError
    from sqlalchemy.exc import OperationalError

    from turnout.cli.app import app
    from turnout.cli.output import err, settings_problems
    from turnout.errors import TurnoutError

    try:
        app()
    except TurnoutError as error:
        err.print(f"[bold red]error:[/] {error}", highlight=False)
        sys.exit(1)
    except ValidationError as error:
        if error.title != "Settings":
            raise
        err.print("[bold red]error:[/] the settings (environment or .env) are not usable:", highlight=False)
        for line in settings_problems(error):
            err.print(f"  {line}", highlight=False)
        sys.exit(1)
    except (OperationalError, psycopg.OperationalError) as error:
        # the driver's message names host and port, never the password
        err.print(
            f"[bold red]error:[/] PostgreSQL does not answer: {str(getattr(error, 'orig', None) or error).strip()}",
            highlight=False,
        )
        err.print("check TURNOUT_DATABASE_URL, or see `turnout doctor`", highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("stopped")
        sys.exit(130)
