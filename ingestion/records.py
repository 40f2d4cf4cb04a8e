"""What a layout makes of a row: exactly one of four things, so that rows in = rows out can be checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from turnout.errors import Problem


@dataclass(slots=True)
class Record:
    """One row for the warehouse.

    Attributes:
        table: warehouse table.
        row: where it stands, as a spreadsheet shows it.
        values: column → typed value (Decimal for money, date, int, …). Columns the loader fills are left out:
            organisation, source, account_time_zone, fetched_at, run_id, file_id, line, the ``…_base`` amounts,
            base_currency, fx_rate, fx_date, is_partial. ``account`` only where the file names one.
    """

    table: str
    row: int
    values: dict[str, Any]


@dataclass(slots=True)
class Rejected:
    """A row that cannot be used, with every reason at once.

    Attributes:
        values: what may be kept of the row: header → cell as text. Never a personal column.
        date: the row's day where it could be read.
        key: what the row is about, in a table with keys of its own, where that could be read: the warehouse's row of
            this key stays as it is. Of a row without, nobody knows which one it was meant to replace.
    """

    row: int
    problems: tuple[Problem, ...]
    values: dict[str, str] = field(default_factory=dict)
    date: date | None = None
    key: str | None = None


@dataclass(slots=True)
class Total:
    """A row of sums, recognised and not counted. ``label`` is what says so.

    Attributes:
        values: the sums themselves, by warehouse column, where the layout reads them: the loaded rows are compared
            with them (:func:`ingestion.totals.compare`).
    """

    row: int
    label: str
    values: dict[str, Decimal] = field(default_factory=dict)


@dataclass(slots=True)
class Uncounted(Total):
    """A row that is no data though it is no sum: an invitation, a test order, staff. Counted with the totals."""


@dataclass(slots=True)
class Blank:
    """A row without content."""

    row: int


Outcome = Record | Rejected | Total | Blank
