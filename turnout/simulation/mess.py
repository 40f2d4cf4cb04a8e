"""Faults in files, as people and systems make them, and a record of each so that a test knows what must be caught.

At least :data:`MESSY_SHARE` of a table's rows are faulty. Half of the faults spoil a row that was good, the others add
a row that is no data: a sum, an empty line, a repetition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from turnout.simulation.xlsx import Cell

#: Smallest share of messy rows in every table.
MESSY_SHARE = 0.02

Row = list[Cell]
#: Turns a good row into a bad one, or makes a row to add from a good one.
Fault = Callable[[Row], Row]


@dataclass(frozen=True, slots=True)
class Spoiler:
    """One kind of fault.

    Attributes:
        kind: what it is.
        make: the faulty row, from a good one.
        adds: the row stands beside the good one instead of in its place.
        sums: columns that hold the sum over all good rows, as a platform's own total row does → how it is written.
    """

    kind: str
    make: Fault
    adds: bool = False
    sums: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MessyRow:
    """One fault as it stands in a file.

    Attributes:
        file: path below the inbox.
        row: counted from 1 as a spreadsheet shows it; in JSON, the position of the entry from 1.
        kind: see the spoilers of :mod:`turnout.simulation.exports`.
        loses: the good row is no longer in the file.
        key: what the spoilt row was about (event code, or code and day), for tracing.
    """

    file: str
    row: int
    kind: str
    loses: bool
    key: str


@dataclass
class MessLog:
    """Every fault made, and how many rows were written in all."""

    rows: int = 0
    faults: list[MessyRow] = field(default_factory=list)

    @property
    def share(self) -> float:
        return len(self.faults) / self.rows if self.rows else 0.0

    def plain(self) -> list[dict[str, Any]]:
        return [asdict(f) for f in self.faults]


def put(column: int, value: Cell) -> Fault:
    """A fault that replaces one cell."""
    return lambda row: [*row[:column], value, *row[column + 1 :]]


def put_text(column: int, change: Callable[[str], str]) -> Fault:
    """A fault that changes one cell's text."""
    return lambda row: [*row[:column], change(str(row[column])), *row[column + 1 :]]


def total(cells: Mapping[int, Cell], keep: Sequence[int] = ()) -> Fault:
    """A row that is no data: ``cells`` by column, the good row's cells in the columns ``keep``, the rest empty."""
    return lambda row: [cells.get(k, row[k] if k in keep else None) for k in range(len(row))]


def garble(text: str) -> str:
    """Text saved as UTF-8 and opened as Western Windows text."""
    return text.encode("utf-8").decode("cp1252", errors="replace").replace("\ufffd", "")


def _with_sums(row: Row, sums: Mapping[int, str], rows: Sequence[Row]) -> Row:
    for column, written in sums.items():
        figures = (str(other[column] or 0).replace(",", "") for other in rows)
        row = put(column, format(sum(map(float, figures)), written))(row)
    return row


def spoil(
    rows: Sequence[Row],
    spoilers: Sequence[Spoiler],
    *,
    rng: np.random.Generator,
    log: MessLog,
    file: str,
    first_row: int,
    key: Callable[[Row], str],
    messy: bool,
) -> list[Row]:
    """``rows`` with faults in them; ``log`` learns of each.

    Args:
        first_row: number of the first of ``rows`` in the file.
        key: names a row, for the log.
        messy: without it nothing is changed, and the rows are counted only.
    """
    log.rows += len(rows)
    if not messy or not rows:
        return list(rows)
    # rows that are added enlarge the table they are measured against
    count = int(np.ceil(MESSY_SHARE * 1.03 * len(rows)))
    replacing = [s for s in spoilers if not s.adds]
    adding = [s for s in spoilers if s.adds]
    # a table of a few rows has one fault: let it be one that costs nothing as often as one that costs a row
    add = [bool(rng.random() < 0.5) for _ in range(count)] if adding and replacing else [not replacing] * count
    places = sorted(int(p) for p in rng.choice(len(rows), size=min(count, len(rows)), replace=False))
    result: list[Row] = []
    faults = dict(zip(places, add, strict=False))
    for position, row in enumerate(rows):
        if position not in faults:
            result.append(row)
            continue
        pool = adding if faults[position] else replacing
        spoiler = pool[int(rng.integers(len(pool)))]
        if spoiler.adds:
            result.append(row)
            log.rows += 1
        result.append(_with_sums(spoiler.make(row), spoiler.sums, rows))
        log.faults.append(
            MessyRow(file, first_row + len(result) - 1, spoiler.kind, loses=not spoiler.adds, key=key(row))
        )
    return result
