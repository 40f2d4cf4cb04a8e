"""Commands set up logging for their process and print to its terminal; a test sees to both."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from turnout.cli.output import err, out


@pytest.fixture(autouse=True)
def _wide_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parallel test workers have a terminal of 80 columns, which would break words of tables."""
    for console in (out, err):
        monkeypatch.setattr(console, "width", 160)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command run in this process logs to the runner's streams, which are closed afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
