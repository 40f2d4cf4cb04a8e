"""``python -m feature_repo <arguments>``: Feast's own command line on Turnout's feature store.

For example ``python -m feature_repo feature-views list`` or ``python -m feature_repo ui``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from feature_repo.store import cli_environment
from turnout.runtime import services

_FEAST = "import sys; from feast.cli.cli import cli; sys.argv[0] = 'feast'; cli()"


def main(arguments: list[str]) -> int:
    """Run ``feast`` with the variables that ``feature_store.yaml`` names; returns its exit code."""
    with services() as settings:
        command = [sys.executable, "-c", _FEAST, "--chdir", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, env={**os.environ, **cli_environment(settings)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
