"""Rows between reading and loading: typed, without personal data, given out again in whole days.

A partition is replaced whole, so rows of one day must meet whatever the order of the file. Small files stay in memory;
of large ones the rows wait in temporary files per day, so that memory does not grow with the file.

Facts are kept column by column, in Arrow arrays of the warehouse's types, whether they come one by one
(:meth:`Staged.add`) or as whole blocks (:meth:`Staged.add_block`): what follows cannot tell the two apart. Amounts are
rounded to the warehouse's six places here, halves away from zero as PostgreSQL does.
"""

from __future__ import annotations

import itertools
import pickle
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from ingestion.records import Record, Rejected
from turnout.errors import Problem
from turnout.warehouse import tables as wh

#: Rows held in memory at a time.
BATCH_ROWS = 100_000

#: The column with a row's number in the file.
SOURCE_ROW: Final = "source_row"

_PREFIX = "ingest-"
_STALE_SECONDS = 24 * 3600
_EPOCH = date(1970, 1, 1)
_SIX_PLACES = Decimal("0.000001")

#: NUMERIC(20, 6), the warehouse's amounts and fractional counts.
AMOUNT: Final = pa.decimal128(20, 6)

_FACTS: Final = {table.name: table for table in wh.FACT_TABLES}

#: The row's number in the file, then its values in the order of the table's names.
_Kept = tuple[Any, ...]


@dataclass(frozen=True)
class Batch:
    """Rows of one table, column by column; ``rows`` are their numbers in the file."""

    rows: list[int]
    columns: dict[str, list[Any]]


def sweep(folder: Path) -> None:
    """Remove what loads that were killed left in ``folder``; those still running wrote to theirs within the day."""
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - _STALE_SECONDS:
                shutil.rmtree(path)


class Staged:
    """Records by table and day, and the rejected rows, of one table of a file.

    Use as a context manager: temporary files go with it, also when a load fails.
    """

    def __init__(self, folder: Path, batch_rows: int = BATCH_ROWS) -> None:
        self._folder = folder
        self._batch_rows = batch_rows
        self._stack = ExitStack()
        self._spool: Path | None = None
        self._facts: dict[str, _Facts] = {}
        self._plain: dict[str, list[Record]] = {}
        self._rejected: list[Rejected] = []
        self._rejected_spooled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.clear()

    def add(self, record: Record) -> None:
        """Keep a record until :meth:`batches` or :meth:`days_of`."""
        if record.table not in _FACTS:
            self._plain.setdefault(record.table, []).append(record)
            return
        facts = self._of(record.table)
        facts.add(record)
        self._spill_if_full(facts)

    def add_block(self, table: str, block: pa.Table, among: Sequence[Record] = ()) -> None:
        """Keep rows of a fact table, in their order: columns of the warehouse's types, and :data:`SOURCE_ROW`.

        Args:
            among: records from between the block's rows; they are put where their row numbers say.
        """
        self._settle()
        facts = self._of(table)
        for record in among:
            facts.add(record)
        extra, rejected = facts.columns()
        for one in rejected:
            self.reject(one)
        if extra is not None:
            block = _joined([block, extra])
            block = block.take(pa.array(np.argsort(block[SOURCE_ROW].to_numpy(), kind="stable")))
        if block.num_rows:
            facts.hold(block)
            self._spill_if_full(facts)

    def reject(self, rejected: Rejected) -> None:
        """Keep a rejected row until :meth:`rejected`."""
        self._rejected.append(rejected)
        if len(self._rejected) >= self._batch_rows // 5:
            with (self._spooled() / "rejected").open("ab") as file:
                pickle.dump(self._rejected, file, protocol=pickle.HIGHEST_PROTOCOL)
            self._rejected = []
            self._rejected_spooled = True

    def clear(self) -> None:
        """Forget everything: what was read has to be read again."""
        self._stack.close()
        self._spool = None
        self._facts, self._plain = {}, {}
        self._rejected, self._rejected_spooled = [], False

    def is_large(self, table: str) -> bool:
        """Whether there is more than one batch of a fact table."""
        self._settle()
        return table in self._facts and sum(self._facts[table].counts.values()) > self._batch_rows

    @property
    def tables(self) -> list[str]:
        """Tables with a record."""
        self._settle()
        return sorted({*self._plain, *(name for name, facts in self._facts.items() if facts.counts)})

    def days(self, table: str) -> list[date]:
        """Days with a record, in order."""
        self._settle()
        return sorted(day for day in self._facts[table].counts if day is not None) if table in self._facts else []

    def batches(self, table: str) -> Iterator[Batch]:
        """The records of a table that holds no facts, in order."""
        records = self._plain.get(table, [])
        names = tuple(dict.fromkeys(name for record in records for name in record.values))
        for start in range(0, len(records), self._batch_rows):
            part = records[start : start + self._batch_rows]
            yield Batch([r.row for r in part], {name: [r.values.get(name) for r in part] for name in names})

    def days_of(self, table: str) -> Iterator[pa.Table]:
        """The rows of a fact table in whole days, days and rows in order; one batch holds one day at least."""
        self._settle()
        facts = self._facts[table]
        facts.sort()
        days: list[date | None] = []
        size = 0
        for day in sorted(facts.counts, key=lambda d: d or date.min):
            if days and size + facts.counts[day] > self._batch_rows:
                yield facts.of(days)
                days, size = [], 0
            days.append(day)
            size += facts.counts[day]
        if days:
            yield facts.of(days)

    def rejected(self) -> Iterator[Rejected]:
        """The rejected rows in order."""
        self._settle()
        if self._rejected_spooled and self._spool is not None:
            # What this very object wrote; nobody else can write into its private folder.
            with (self._spool / "rejected").open("rb") as file, suppress(EOFError):
                while True:
                    yield from pickle.load(file)  # noqa: S301
        yield from self._rejected

    def _of(self, table: str) -> _Facts:
        facts = self._facts.get(table)
        if facts is None:
            facts = self._facts[table] = _Facts(_FACTS[table])
        return facts

    def _spill_if_full(self, facts: _Facts) -> None:
        if facts.size >= self._batch_rows:
            self._settle()
            facts.spill(self._spooled())

    def _settle(self) -> None:
        """Turn rows that came one by one into columns; those that do not fit their column are rejected."""
        for facts in self._facts.values():
            block, rejected = facts.columns()
            if block is not None:
                facts.hold(block)
            for one in rejected:
                self.reject(one)

    def _spooled(self) -> Path:
        if self._spool is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            made = self._stack.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX, dir=self._folder))
            self._spool = Path(made)
        return self._spool


@dataclass
class _Facts:
    """The rows of one fact table: those not yet in columns, those in memory, and how many there are of each day."""

    target: sa.Table
    counts: dict[date | None, int] = field(default_factory=dict)
    _names: tuple[str, ...] = ()
    _single: list[_Kept] = field(default_factory=list)
    _held: list[pa.Table] = field(default_factory=list)
    _held_rows: int = 0
    _spilled: list[Path] = field(default_factory=list)
    #: Day → where its rows are: number of the block, first row, end.
    _pieces: dict[date | None, list[tuple[int, int, int]]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Rows in memory."""
        return len(self._single) + self._held_rows

    def add(self, record: Record) -> None:
        values = record.values
        given = tuple(values)
        if given == self._names:
            self._single.append((record.row, *values.values()))
        else:
            # Names are only ever added, so rows kept before are shorter, never in another order.
            self._names = tuple(dict.fromkeys((*self._names, *given)))
            self._single.append((record.row, *map(values.get, self._names)))

    def columns(self) -> tuple[pa.Table | None, list[Rejected]]:
        """The rows that came one by one as columns, and those that do not fit."""
        if not self._single:
            return None, []
        single, self._single = self._single, []
        try:
            return _columns(self.target, self._names, single), []
        except _UNFIT:
            fit, rejected = self._fit(single)
            return _columns(self.target, self._names, fit) if fit else None, rejected

    def _fit(self, single: list[_Kept]) -> tuple[list[_Kept], list[Rejected]]:
        fit: list[_Kept] = []
        rejected: list[Rejected] = []
        for kept in single:
            row, values = kept[0], dict(zip(self._names, kept[1:], strict=False))
            problems = []
            for name, value in values.items():
                kind = arrow_type(self.target, name)
                try:
                    arrow_array([value], kind)
                except _UNFIT:
                    message = f"{name} is {str(value)[:60]!r}, not {_WANTED.get(kind.id, 'text')}"
                    problems.append(Problem("wrong_type", message, row=row, column=name, value=str(value)[:200]))
            if problems:
                day = values.get("date")
                rejected.append(Rejected(row, tuple(problems), {}, day if isinstance(day, date) else None))
            else:
                fit.append(kept)
        return fit, rejected

    def hold(self, block: pa.Table) -> None:
        self._held.append(block)
        self._held_rows += block.num_rows
        days, counts = np.unique(_day_numbers(block), return_counts=True)
        for number, count in zip(days.tolist(), counts.tolist(), strict=True):
            day = _day(number)
            self.counts[day] = self.counts.get(day, 0) + count

    def sort(self) -> pa.Table | None:
        """Put what is in memory in the order of days, as the last of the blocks."""
        if not self._held:
            return None
        block = _joined(self._held)
        numbers = _day_numbers(block)
        if np.any(numbers[1:] < numbers[:-1]):
            order = np.argsort(numbers, kind="stable")
            block, numbers = block.take(pa.array(order)), numbers[order]
        days, starts = np.unique(numbers, return_index=True)
        ends = [*starts[1:].tolist(), block.num_rows]
        at = len(self._spilled)
        for number, start, end in zip(days.tolist(), starts.tolist(), ends, strict=True):
            pieces = self._pieces.setdefault(_day(number), [])
            if not pieces or pieces[-1] != (at, start, end):
                pieces.append((at, start, end))
        block = _encoded(block)
        self._held = [block]
        return block

    def spill(self, folder: Path) -> None:
        """Write what is in memory to a file."""
        block = self.sort()
        if block is None:
            return
        path = folder / f"{self.target.name}.{len(self._spilled)}"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, block.schema) as writer:
            writer.write_table(block)
        self._spilled.append(path)
        self._held, self._held_rows = [], 0

    def of(self, days: Sequence[date | None]) -> pa.Table:
        """The rows of some days, in order."""
        pieces: list[tuple[int, int, int]] = []
        for day in days:
            for at, start, end in self._pieces[day]:
                if pieces and pieces[-1][0] == at and pieces[-1][2] == start:
                    pieces[-1] = (at, pieces[-1][1], end)
                else:
                    pieces.append((at, start, end))
        # Mapped, not read: of a file that is sorted by campaign each batch needs a little of every block. What is
        # mapped goes again with the batch, so that memory does not grow with the file.
        blocks = {at: self._block(at) for at in {at for at, _, _ in pieces}}
        return _joined([blocks[at].slice(start, end - start) for at, start, end in pieces])

    def _block(self, at: int) -> pa.Table:
        if at == len(self._spilled):
            return self._held[0]
        with pa.memory_map(str(self._spilled[at])) as file:
            return pa.ipc.open_file(file).read_all()


def table_of(target: sa.Table, records: Sequence[Record]) -> pa.Table:
    """Records of a fact table as columns.

    Raises:
        ValueError, TypeError, OverflowError, ArithmeticError: a value is not of its column's type.
    """
    names = tuple(dict.fromkeys(name for record in records for name in record.values))
    return _columns(target, names, [(r.row, *map(r.values.get, names)) for r in records])


def _columns(target: sa.Table, names: Sequence[str], kept: Sequence[_Kept]) -> pa.Table:
    rows, *columns = map(list, itertools.zip_longest(*kept))  # rows kept before a name was met lack its value
    arrays = [arrow_array(column, arrow_type(target, name)) for name, column in zip(names, columns, strict=False)]
    return pa.Table.from_arrays([pa.array(rows, pa.int64()), *arrays], [SOURCE_ROW, *names[: len(arrays)]])


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables with any of a fact's columns as one, in which each column is one array."""
    if len(tables) == 1:
        return tables[0]
    joined = pa.concat_tables(tables, promote_options="default")
    if any(pa.types.is_dictionary(kind) for kind in joined.schema.types):
        joined = joined.unify_dictionaries()
    return joined.combine_chunks()


def _encoded(block: pa.Table) -> pa.Table:
    """Texts as dictionaries: most of them come again and again."""
    for at, (name, column) in enumerate(zip(block.column_names, block.columns, strict=True)):
        if pa.types.is_string(column.type):
            block = block.set_column(at, name, column.combine_chunks().dictionary_encode())
    return block


def _day_numbers(block: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Days since 1970; the smallest number where there is none."""
    numbers = block["date"].cast(pa.int32()).cast(pa.int64())
    filled: np.ndarray[Any, np.dtype[np.int64]] = pc.fill_null(numbers, _NO_DAY).to_numpy()
    return filled


_NO_DAY = int(np.iinfo(np.int64).min)


def _day(number: int) -> date | None:
    return None if number == _NO_DAY else date.fromordinal(_EPOCH.toordinal() + number)


# --- values -----------------------------------------------------------------------------------------------------------

#: What a value that is not of its column's type makes Arrow, or us, raise.
_UNFIT = (ValueError, TypeError, OverflowError, ArithmeticError)  # pa.ArrowInvalid is a ValueError


def arrow_type(target: sa.Table, name: str) -> pa.DataType:
    """The Arrow type of a column of a fact table; what the table does not have, for other tables, is text."""
    kind = target.c[name].type if name in target.c else sa.Text()
    for sql, arrow in _TYPES:
        if isinstance(kind, sql):
            return arrow
    return pa.string()


_TYPES: Final[tuple[tuple[Any, pa.DataType], ...]] = (
    (sa.Boolean, pa.bool_()), (sa.Integer, pa.int64()), (sa.Numeric, AMOUNT), (sa.Date, pa.date32()),
    (sa.DateTime, pa.timestamp("us", "UTC")),
)  # fmt: skip
_WANTED = {
    pa.bool_().id: "yes or no", pa.int64().id: "a whole number", AMOUNT.id: "a number", pa.date32().id: "a date",
    pa.timestamp("us", "UTC").id: "a date and time",
}  # fmt: skip


def arrow_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Typed values as a column of ``kind``.

    Raises:
        ValueError, TypeError, OverflowError, ArithmeticError: a value is not of it.
    """
    if kind == AMOUNT:
        return pa.array([None if v is None else amount(v) for v in values], AMOUNT)
    if kind == pa.int64():
        # a fraction is refused by the cast
        return pa.array([v if v is None or isinstance(v, int) else Decimal(str(v)) for v in values]).cast(kind)
    return pa.array(values, kind)


def amount(value: Any) -> Decimal:
    """A number as the warehouse stores it, six places, halves away from zero.

    Raises:
        ArithmeticError, ValueError: it is none, or too large for NUMERIC(20, 6).
    """
    number = value if isinstance(value, Decimal) else Decimal(str(value))
    rounded = number.quantize(_SIX_PLACES, ROUND_HALF_UP)
    if not rounded.is_finite() or abs(rounded) >= _LIMIT:
        raise ValueError(f"{value!r} is not a number one can store")
    return rounded


_LIMIT = Decimal(10) ** 14
