"""Commands print to their process's terminal; a test sees to its width."""

from __future__ import annotations

import pytest

from turnout.cli.output import err, out


@pytest.fixture(autouse=True)
def _wide_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parallel test workers have a terminal of 80 columns, which would break words of tables."""
    for console in (out, err):
        monkeypatch.setattr(console, "width", 160)
