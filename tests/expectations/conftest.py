"""Clean frames as the loader hands them to the gate: Decimal, date, None, object columns."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.quality_rows import clean_rows
from expectations.gate import TurnoutGate
from turnout.settings import Settings

TODAY = date(2026, 11, 25)
Frames = Callable[..., pd.DataFrame]


@pytest.fixture(scope="session")
def gate_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate")


@pytest.fixture(scope="session")
def gate(gate_home: Path) -> TurnoutGate:
    """A gate without a warehouse: what was usual is not known."""
    return TurnoutGate(Settings(home=gate_home), today=TODAY)


@pytest.fixture(scope="session")
def clean() -> Frames:
    """``clean(table, rows, seed=…)``: a frame nothing is wrong with; its labels are ``r0, r1, …``."""
    return clean_rows
