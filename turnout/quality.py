"""The contract between loading and validation.

Ingestion must not import the expectations stage, so the loader takes a :class:`Gate` and the caller (CLI, DAG) hands
it :func:`expectations.gate.validate`. What fails never replaces what was good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pandas as pd


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One row the gate refuses. ``index`` is the row's label in the frame that was handed in."""

    index: Any
    column: str | None
    value: str | None
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class StoppedPartition:
    """A (source, account, date) whose data must not be loaded. ``date=None`` stops every date of the frame."""

    source: str
    account: str
    date: Any
    code: str
    reason: str


@dataclass
class GateDecision:
    """What the gate says of one frame: load everything but ``rejected`` rows and ``stopped`` partitions."""

    rejected: Sequence[RejectedRow] = field(default_factory=list)
    stopped: Sequence[StoppedPartition] = field(default_factory=list)
    warnings: Sequence[str] = field(default_factory=list)
    rows_checked: int = 0
    failures: Sequence[dict[str, Any]] = field(default_factory=list)


class Gate(Protocol):
    """Checks a frame whose columns are those of the warehouse table ``table``."""

    def __call__(self, table: str, frame: pd.DataFrame) -> GateDecision: ...


def accept_everything(table: str, frame: pd.DataFrame) -> GateDecision:
    """The gate that checks nothing: for tests of the loader alone."""
    return GateDecision(rows_checked=len(frame))
