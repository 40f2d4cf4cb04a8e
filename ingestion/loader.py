"""From a table of a file into the warehouse.

Two steps. :func:`stage` reads all rows and decides what each is; it needs no database. :func:`load` then, in the
caller's transaction, asks the gate, replaces the partitions the rows belong to, and writes down what happened: file,
quarantine, validation, campaigns. Killed at any point, the warehouse is as before; run again, it is as after.

What a load replaces
    ``ad_performance``: the days in the file, and of a report that states its period every day of it, for the accounts
    in the file. Rows over a period (no day column) replace only such rows with the same first day; their ``line`` is
    negative, so that both kinds fit beside each other.
    ``email_performance``: the days in the file, per category.
    ``registration``: everything from the file's first to its last day, per event the list names.
    Other tables: rows of the same key. Rows an earlier version of the file had and this one has not are removed, unless
    this one has refused rows that do not say what they are about.

Days whose rows were all refused keep what the warehouse had, as do partitions the gate stops.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
import structlog
from sqlalchemy import Connection, Table
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by
from sqlalchemy.dialects.postgresql import insert as pg_insert

from ingestion import facts
from ingestion.ahead import ahead
from ingestion.facts import Keys, Mask
from ingestion.layouts import Block, ColumnUse, Context, Layout
from ingestion.personal import scrub
from ingestion.rates import DatedRates
from ingestion.reading import RawTable, Stated
from ingestion.records import Blank, Outcome, Record, Rejected, Total
from ingestion.staging import SOURCE_ROW, Batch, Staged
from ingestion.totals import compare, totals_of
from ingestion.values import is_unknown
from turnout.errors import Problem
from turnout.identity import key_of
from turnout.quality import Gate, GateDecision, RejectedRow, StoppedPartition
from turnout.warehouse import tables as wh
from turnout.warehouse.load import copy, lock_account, upsert

log = structlog.get_logger(__name__)

Window = tuple[date, date]
Status = Literal["loaded", "refused", "ignored"]

#: Problems kept in a report; all of them are in quarantine.
REPORTED_PROBLEMS = 100
#: Rows of sums kept to compare the file's rows with.
KEPT_TOTALS = 50

_SIX_PLACES = Decimal("0.000001")

#: More lines than a sheet has rows.
_LINES_OF_A_PART = 2_000_000

#: Fact table → the column that splits an account's partition further.
_SUBSCOPE = {"ad_performance": None, "email_performance": "category", "registration": "event_label"}

#: Table → amounts that get a ``…_base`` column.
_CONVERTED = {"ad_performance": ("spend",), "tactic_result": ("cost",)}
#: Table that holds no facts → the column whose day decides the rate; facts have their own day.
_RATE_DAY = {"event": "event_date"}

#: Tables the expectations know.
_GATED = frozenset(("ad_performance", "email_performance", "registration", "event", "tactic_result"))


class LostRowsError(RuntimeError):
    """Rows in are not rows out: a defect of this program. Nothing of the file was loaded."""


@dataclass
class FileReport:
    """What became of one table of a file.

    Attributes:
        name: as shown, with the sheet of a workbook; ``path`` is resolved.
        status: ``refused`` when nothing of it could be used, and ``problems`` says why; ``ignored`` for a file of a
            folder that is no table at all, such as a note.
        rows_read: equals loaded + quarantined + total + blank + outside.
        problems: the first :data:`REPORTED_PROBLEMS`; all rows are in quarantine.
        columns: header → the field it was taken for, ``personal`` for those dropped, ``None`` for those not used.
        total_labels: what the rows of sums call themselves; ``totals`` are those with figures.
        explained: every column, with why it was taken for what it was; only where that was asked for.
    """

    name: str
    path: Path
    sheet: str | None = None
    status: Status = "loaded"
    source: str = "unknown"
    layout: str | None = None
    table: str | None = None
    encoding: str | None = None
    rows_read: int = 0
    rows_loaded: int = 0
    rows_quarantined: int = 0
    rows_total: int = 0
    rows_blank: int = 0
    rows_outside: int = 0
    first: date | None = None
    last: date | None = None
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    columns: dict[str, str | None] = field(default_factory=dict)
    total_labels: list[str] = field(default_factory=list)
    totals: list[Total] = field(default_factory=list)
    explained: list[ColumnUse] = field(default_factory=list)

    def note_total(self, total: Total) -> None:
        """Count a row of sums."""
        self.rows_total += 1
        if len(self.total_labels) < KEPT_TOTALS:
            self.total_labels.append(total.label)
        if total.values and len(self.totals) < KEPT_TOTALS:
            self.totals.append(total)

    def check(self) -> None:
        """Rows in must be rows out.

        Raises:
            LostRowsError: they are not.
        """
        out = self.rows_loaded + self.rows_quarantined + self.rows_total + self.rows_blank + self.rows_outside
        if out != self.rows_read:
            raise LostRowsError(
                f"{self.name}: {self.rows_read} rows read, but {self.rows_loaded} loaded + {self.rows_quarantined} "
                f"quarantined + {self.rows_total} totals + {self.rows_blank} blank + {self.rows_outside} outside "
                f"= {out}"
            )


@dataclass(frozen=True)
class Origin:
    """Which file, read when, by which run. ``fetched_at`` is when its figures were made."""

    organisation: str
    run_id: UUID
    path: Path
    content_sha256: str
    fetched_at: datetime
    window: Window | None = None


def shown_name(table: RawTable) -> str:
    """A table's name in reports and totals: the file, and the sheet of a workbook."""
    return f"{table.file}#{table.sheet}" if table.sheet else table.file


def lineage_of(path: Path, sheet: str | None, member: str) -> str:
    """The key that rows carry of the file they come from."""
    return key_of(str(path), sheet or "", member, prefix="file_")


# --- reading ----------------------------------------------------------------------------------------------------------


class TableLike(Protocol):
    """What the loader asks of where rows come from: a table of a file, or an account's days from an API."""

    @property
    def file(self) -> str: ...

    @property
    def sheet(self) -> str | None: ...

    @property
    def encoding(self) -> str | None: ...

    @property
    def stated(self) -> Stated: ...

    def problem(
        self, code: str, message: str, *, row: int | None = None, column: str | None = None, value: str | None = None
    ) -> Problem: ...


class LayoutLike(Protocol):
    """What the loader asks of what the rows are."""

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def table(self) -> str: ...


@dataclass
class StagedTable:
    """One table, read: its records and rejected rows, and what to know of it as a whole."""

    table: TableLike
    layout: LayoutLike
    context: Context
    rows: Staged
    report: FileReport
    time_zone: str
    #: Every day seen, inside the window or not.
    first_day: date | None = None
    last_day: date | None = None


def stage(
    table: RawTable,
    layout: Layout,
    context: Context,
    rows: Staged,
    *,
    path: Path,
    window: Window | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> StagedTable:
    """Read all rows of a table.

    Args:
        rows: empty; filled with what is to load.
        window: rows of other days are counted, not kept.
        progress: called with bytes read and bytes in all.

    Raises:
        InputError: the table as a whole cannot be used.
        LostRowsError: the layout made more or fewer outcomes than there are rows.
    """
    report = FileReport(
        name=shown_name(table), path=path, sheet=table.sheet, source=layout.source, layout=layout.name,
        table=layout.table, encoding=table.encoding,
        columns={c.column: c.field for c in layout.explain(table, context.synonyms)},
    )  # fmt: skip
    staged = StagedTable(table, layout, context, rows, report, layout.time_zone(table, context))
    blocks = layout.read_blocks(table, context)
    if blocks is not None:
        for block in blocks:
            take_block(staged, block, window)
            if progress is not None:
                progress(min(table.bytes_read, table.size), table.size)
    else:
        for outcome in layout.read(table, context):
            report.rows_read += 1
            take(staged, outcome, window)
            if progress is not None and not report.rows_read & 0x7FF:
                progress(min(table.bytes_read, table.size), table.size)
    if progress is not None:
        progress(table.size, table.size)
    report.warnings.extend(dict.fromkeys(context.warnings))
    return staged


def take(staged: StagedTable, outcome: Outcome, window: Window | None, records: list[Record] | None = None) -> None:
    """Count one outcome and keep it for :func:`load`, if its day lies in ``window``.

    Args:
        records: takes records, if given, in place of the staged rows.
    """
    report = staged.report
    if outcome.__class__ is Record:
        day = outcome.values.get("date")
        if day is not None:
            end = outcome.values.get("period_end") or day
            if staged.first_day is None or staged.last_day is None or day < staged.first_day or end > staged.last_day:
                _seen(staged, day, end)
            if window is not None and not window[0] <= day <= window[1]:
                report.rows_outside += 1
                return
        if records is None:
            staged.rows.add(outcome)
        else:
            records.append(outcome)
    elif isinstance(outcome, Rejected):
        if outcome.date is not None:
            _seen(staged, outcome.date, outcome.date)
            if window is not None and not window[0] <= outcome.date <= window[1]:
                report.rows_outside += 1
                return
        staged.rows.reject(outcome)
    elif isinstance(outcome, Total):
        report.note_total(outcome)
    elif isinstance(outcome, Blank):
        report.rows_blank += 1


def take_block(staged: StagedTable, block: Block, window: Window | None) -> None:
    """:func:`take` for consecutive rows at once."""
    report, records = staged.report, block.records
    report.rows_read += len(records) + len(block.outcomes)
    if len(records):
        days = facts.day_numbers(records["date"])
        last = facts.day_numbers(records["period_end"])
        _seen(staged, facts.day(int(days.min())), facts.day(int(last.max())))
        if window is not None:
            inside = (days >= facts.day_number(window[0])) & (days <= facts.day_number(window[1]))
            if not inside.all():
                report.rows_outside += len(records) - int(inside.sum())
                records = records.filter(pa.array(inside))
    among: list[Record] = []
    for outcome in block.outcomes:
        take(staged, outcome, window, among)
    staged.rows.add_block(staged.layout.table, records, among)


def _seen(staged: StagedTable, first: date, last: date) -> None:
    staged.first_day = first if staged.first_day is None else min(staged.first_day, first)
    staged.last_day = last if staged.last_day is None else max(staged.last_day, last)


# --- loading ----------------------------------------------------------------------------------------------------------


@dataclass
class _Load:
    """The state of one table's load."""

    connection: Connection
    staged: StagedTable
    origin: Origin
    gate: Gate
    rates: DatedRates
    lineage: str
    loaded: int = 0
    quarantined: int = 0
    checked: int = 0
    rejected_by_gate: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    stopped: list[StoppedPartition] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    campaigns: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    #: (account, subscope) → days that keep what the warehouse has.
    protected: dict[tuple[str, str], set[date]] = field(default_factory=dict)
    #: (account, subscope) pairs of the file.
    scopes: set[tuple[str, str]] = field(default_factory=set)
    #: path of another file → rows of it that this load replaced.
    replaced: Counter[str] = field(default_factory=Counter)
    lost_campaigns: dict[str, set[str]] = field(default_factory=dict)
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    #: Keys of refused rows: what the warehouse has of them stays.
    kept_keys: set[str] = field(default_factory=set)
    #: Parts of one list (a sheet each for the confirmed, the cancelled …), this one among them: they do not replace one
    #: another.
    parts: Sequence[StagedTable] = ()

    @property
    def source(self) -> str:
        return self.staged.layout.source

    @property
    def first_line(self) -> int:
        """Lines of the table's rows begin after this, so that the parts of one list fit beside each other."""
        return next((n for n, part in enumerate(self.parts) if part is self.staged), 0) * _LINES_OF_A_PART

    def written_now(self, target: Table) -> sa.ColumnElement[bool]:
        """Rows that this load wrote, or that those of the list's other parts did."""
        own = target.c.file_id.is_not_distinct_from(self.lineage)
        if self.parts:
            ids = [lineage_of(self.origin.path, p.table.sheet, p.table.file) for p in self.parts]
            own = sa.or_(own, sa.func.coalesce(target.c.file_id, "").in_(ids))
        return sa.and_(target.c.run_id == self.origin.run_id, own)


def load(
    connection: Connection,
    staged: StagedTable,
    origin: Origin,
    *,
    gate: Gate,
    rates: DatedRates,
    beside: Sequence[StagedTable] = (),
) -> FileReport:
    """Load one staged table within the caller's transaction; partitions of its months must exist.

    Args:
        beside: the tables of the same file. Those that are parts of one list add to each other.

    Raises:
        LostRowsError: rows in are not rows out. Roll back.
        sqlalchemy.exc.SQLAlchemyError, psycopg.Error: the database refuses. Roll back.
    """
    lineage = lineage_of(origin.path, staged.table.sheet, staged.table.file)
    beside = [s for s in beside if s.context.is_part] if staged.context.is_part else ()
    state = _Load(connection, staged, origin, gate, rates, lineage, parts=beside)
    # One loader per source at a time: the order of files is then the order of their effects.
    lock_account(connection, origin.organisation, state.source, "*")
    _protect_rejected(state)
    for name in staged.rows.tables:
        target = wh.metadata.tables[f"{wh.SCHEMA}.{name}"]
        if target in wh.FACT_TABLES:
            checked = (_check_facts(state, target, rows) for rows in staged.rows.days_of(name))
            # The gate looks at the next days while the database takes in the last ones.
            with closing(ahead(checked) if staged.rows.is_large(name) else checked) as parts:
                for part in parts:
                    _load_facts(state, target, part)
            _clear_rest(state, target)
            if target is wh.registration:
                _clear_moved(state)
            continue
        for batch in staged.rows.batches(name):
            _load_rows(state, target, batch)
        _clear_gone(state, target)
    _write_campaigns(state)
    for rejected in staged.rows.rejected():
        _quarantine_rejected(state, rejected)
    _flush_quarantine(state, force=True)
    _drop_earlier_quarantine(state)
    return _finish(state)


def _protect_rejected(state: _Load) -> None:
    """Days with refused rows only: what the warehouse has of them stays. Days with good rows are replaced anyway."""
    days = {r.date for r in state.staged.rows.rejected() if r.date is not None}
    written = {day for name in state.staged.rows.tables for day in state.staged.rows.days(name)}
    state.protected[("*", "*")] = days - written


def _frame(state: _Load, target: Table, batch: Batch) -> pd.DataFrame:
    """Typed rows as a frame of the table's columns, plus ``source_row`` and what goes to other tables."""
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in batch.columns.items()})
    frame[SOURCE_ROW] = batch.rows
    account = state.staged.context.account
    frame["account"] = frame["account"].fillna(account) if "account" in frame else account
    for name, value in _provenance(state).items():
        if name in target.c:
            frame[name] = _objects([value] * len(frame), frame)
    return frame


def _provenance(state: _Load) -> dict[str, Any]:
    """What every row says of where it comes from."""
    return {
        "organisation": state.origin.organisation,
        "source": state.source,
        "account_time_zone": state.staged.time_zone,
        "fetched_at": state.origin.fetched_at,
        "run_id": state.origin.run_id,
        "file_id": state.lineage,
    }


def _objects(values: Sequence[Any], frame: pd.DataFrame) -> pd.Series:
    """A column of Python objects: pandas must neither round a Decimal nor turn a None into NaN."""
    return pd.Series(values, dtype=object, index=frame.index)


def _convert(state: _Load, target: Table, frame: pd.DataFrame) -> tuple[pd.DataFrame, list[RejectedRow]]:
    """Fill rate and base amounts. Rows in a currency without a rate are rejected."""
    if "fx_rate" not in target.c:
        return frame, []
    base = state.rates.base
    if "currency" not in frame:
        frame["currency"] = base
    frame["currency"] = frame["currency"].fillna(base)
    days = frame[_RATE_DAY[target.name]] if target.name in _RATE_DAY else [None] * len(frame)
    pairs = list(zip(frame["currency"], days, strict=True))
    found = {pair: state.rates.rate(*pair) for pair in set(pairs)}
    frame["base_currency"] = base
    frame["fx_rate"] = _objects([None if (rate := found[p]) is None else rate[0] for p in pairs], frame)
    frame["fx_date"] = _objects([None if (rate := found[p]) is None else rate[1] for p in pairs], frame)
    for name in _CONVERTED.get(target.name, ()):
        if name in frame:
            base_amounts = [
                None if amount is None or rate is None else (amount * rate).quantize(_SIX_PLACES)
                for amount, rate in zip(frame[name], frame["fx_rate"], strict=True)
            ]
            frame[f"{name}_base"] = _objects(base_amounts, frame)
    bad = frame.index[frame["fx_rate"].isna()]
    return frame.drop(index=bad), [_without_rate(state, n, str(frame.at[n, "currency"])) for n in bad]


def _ask_gate(state: _Load, target: Table, frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, GateDecision]:
    """The rows that may be loaded, the rows of stopped partitions, and the gate's decision."""
    if target.name not in _GATED or frame.empty:
        return frame, frame.iloc[:0], GateDecision()
    columns = [c for c in frame.columns if c in target.c]
    decision = state.gate(target.name, frame[columns])
    state.checked += len(frame)
    state.rejected_by_gate += len({r.index for r in decision.rejected})
    state.failures.extend(dict(f) for f in decision.failures)
    state.stopped.extend(decision.stopped)
    state.warnings.extend(decision.warnings)
    good = frame.drop(index=[r.index for r in decision.rejected], errors="ignore")
    held = pd.Series(False, index=good.index)
    for stopped in decision.stopped:
        mask = (good["source"] == stopped.source) & (good["account"] == stopped.account)
        if stopped.date is not None and "date" in good:
            day = stopped.date.date() if isinstance(stopped.date, datetime) else stopped.date
            mask &= good["date"] == day
        held |= mask
    return good[~held], good[held], decision


def _reject(
    state: _Load, values_of: Callable[[Any], Mapping[str, Any]], rejected: Iterable[RejectedRow], table: str
) -> None:
    """Quarantine rows, each once, with every reason. ``values_of`` gives a row by its label."""
    reasons: dict[Any, list[RejectedRow]] = {}
    for row in rejected:
        reasons.setdefault(row.index, []).append(row)
    for label, rows in reasons.items():
        values = values_of(label)
        number = int(values[SOURCE_ROW])
        problems = tuple(
            state.staged.table.problem(
                r.code, scrub(r.reason), row=number, column=r.column, value=_rejected_value(values, r)
            )
            for r in rows
        )
        _quarantine(state, Rejected(number, problems, _plain_row(values), values.get("date")), table)


def _rejected_value(values: Mapping[str, Any], rejected: RejectedRow) -> str | None:
    if rejected.value is None:
        return None
    given = values.get(rejected.column) if rejected.column is not None else None
    return scrub(_plain(given) if isinstance(given, Decimal | int) else str(rejected.value))[:200]


#: Columns that say nothing of the row itself.
_PROVENANCE = frozenset((
    "organisation", "source", "account_time_zone", "fetched_at", "run_id", "file_id", SOURCE_ROW, "line",
    "registrant_hash", "base_currency", "fx_rate", "fx_date",
))  # fmt: skip


def _plain_row(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(name): scrub(_plain(value))[:500]
        for name, value in values.items()
        if name not in _PROVENANCE and not is_unknown(value)
    }


def _plain(value: Any) -> str:
    """A value as text; a number without zeros that say nothing."""
    return f"{value.normalize():f}" if isinstance(value, Decimal) and value.is_finite() else str(value)


def _of_frame(frame: pd.DataFrame) -> Callable[[Any], Mapping[str, Any]]:
    return lambda label: {str(name): value for name, value in frame.loc[label].items()}


# --- facts ------------------------------------------------------------------------------------------------------------


@dataclass
class _Part:
    """Whole days of a fact table, as they are stored, with what the gate says of them.

    Attributes:
        rows: the columns to store, :data:`SOURCE_ROW` and what goes to other tables.
        keys: account, subscope and day of each row.
        is_period: whether a row covers more than one day.
        good: rows to store; ``held`` are those of stopped partitions.
        rejected: rows refused one by one.
    """

    rows: pa.Table
    keys: Keys
    is_period: Mask
    good: Mask
    held: list[RejectedRow]
    rejected: list[RejectedRow]

    def values_of(self, position: Any) -> Mapping[str, Any]:
        """One row."""
        row: Mapping[str, Any] = self.rows.slice(int(position), 1).to_pylist()[0]
        return row


def _check_facts(state: _Load, target: Table, rows: pa.Table) -> _Part:
    """Complete the rows of some whole days and ask the gate. Touches no connection of the load."""
    rows = facts.with_account(rows, state.staged.context.account)
    keys = Keys.of(rows, _SUBSCOPE[target.name])
    is_period = facts.covers_days(rows) if target is wh.ad_performance else np.zeros(len(rows), dtype=bool)
    rows = facts.put(rows, "line", pa.array(keys.lines(is_period) + state.first_line))
    if "is_partial" in target.c:
        today = state.origin.fetched_at.astimezone(ZoneInfo(state.staged.time_zone)).date()
        rows = facts.put(rows, "is_partial", facts.not_before(rows, today))
    unconvertible: list[RejectedRow] = []
    if "fx_rate" in target.c:
        rows, without_rate = facts.convert(rows, state.rates, _CONVERTED[target.name])
        unconvertible = [_without_rate(state, n, rows["currency"][n].as_py()) for n in np.flatnonzero(without_rate)]
    provenance = {name: value for name, value in _provenance(state).items() if name in target.c}
    frame = facts.frame(rows, target, provenance).drop(index=[r.index for r in unconvertible])
    good, held, decision = _ask_gate(state, target, frame)
    is_good = np.zeros(len(rows), dtype=bool)
    is_good[good.index.to_numpy(dtype=int)] = True
    for name, value in provenance.items():
        rows = facts.put(rows, name, facts.constant(value, len(rows)))
    return _Part(
        rows, keys, is_period, is_good, list(_held_back(held, decision.stopped)), [*unconvertible, *decision.rejected]
    )


def _without_rate(state: _Load, label: Any, currency: str) -> RejectedRow:
    known = ", ".join(state.rates.currencies)
    message = f"there is no exchange rate for {currency}; known are {known} (setting TURNOUT_FX_RATES)"
    return RejectedRow(label, "currency", currency, "unknown_currency", message)


def _load_facts(state: _Load, target: Table, part: _Part) -> None:
    """Replace the partitions of some whole days."""
    _reject(state, part.values_of, part.rejected, target.name)
    _reject(state, part.values_of, part.held, target.name)
    written = part.keys.distinct(part.good)
    # Partitions of which the gate let nothing through keep what they had.
    for scope, day in part.keys.distinct():
        if (scope, day) not in written:
            state.protected.setdefault(scope, set()).add(day)
        state.scopes.add(scope)
    if not written:
        return
    for period in (False, True):
        if keys := part.keys.distinct(part.good & (part.is_period == period)):
            _delete(state, target, list(keys), _SUBSCOPE[target.name], period=period)
    rows = part.rows if part.good.all() else part.rows.filter(pa.array(part.good))
    state.loaded += copy(state.connection, target, rows.select([n for n in rows.column_names if n in target.c]))
    if target is wh.ad_performance:
        _note_campaigns(state, rows)


def _held_back(held: pd.DataFrame, stopped: Sequence[StoppedPartition]) -> Iterator[RejectedRow]:
    """The rows of stopped partitions, with the partition's reason."""
    for label, source, account, day in zip(
        held.index, held["source"], held["account"], held.get("date", held.index), strict=True
    ):
        for partition in stopped:
            theirs = partition.date.date() if isinstance(partition.date, datetime) else partition.date
            if (partition.source, partition.account) == (source, account) and theirs in (None, day):
                yield RejectedRow(label, None, None, partition.code, f"the partition is stopped: {partition.reason}")
                break


def _delete(
    state: _Load, target: Table, keys: Sequence[tuple[tuple[str, str], date]], subscope: str | None, *, period: bool
) -> None:
    """Delete what the rows of these partitions replace, and note which other file's rows go."""
    days = [day for _, day in keys]
    values = (
        sa.func.unnest(
            sa.cast([scope[0] for scope, _ in keys], sa.ARRAY(sa.Text)),
            sa.cast([scope[1] for scope, _ in keys], sa.ARRAY(sa.Text)),
            sa.cast(days, sa.ARRAY(sa.Date)),
        )
        .table_valued("account", "subscope", "day", name="replaced")
        .render_derived()
    )
    condition = [
        target.c.organisation == state.origin.organisation,
        target.c.source == state.source,
        target.c.date.between(min(days), max(days)),
        target.c.account == values.c.account,
        target.c.date == values.c.day,
    ]
    if subscope is not None:
        condition.append(target.c[subscope] == values.c.subscope)
    if target is wh.ad_performance:
        condition.append((target.c.period_end > target.c.date) if period else (target.c.period_end == target.c.date))
    if state.parts:
        condition.append(sa.not_(state.written_now(target)))
    campaign = target.c.campaign_id if target is wh.ad_performance else sa.null()
    gone = sa.delete(target).where(*condition).returning(target.c.file_id, campaign.label("campaign")).cte("gone")
    grouped = sa.select(gone.c.file_id, sa.func.count(), sa.func.array_agg(gone.c.campaign.distinct())).group_by(
        gone.c.file_id
    )
    for file_id, count, campaigns in state.connection.execute(grouped):
        if file_id is not None and file_id != state.lineage:
            state.replaced[file_id] += count
            state.lost_campaigns.setdefault(file_id, set()).update(c for c in campaigns if c is not None)


def _clear_rest(state: _Load, target: Table) -> None:
    """Empty the days the file covers without a row: they have none any more."""
    stated = state.staged.table.stated.period
    if target is wh.registration:
        spans = [(s.first_day, s.last_day) for s in (state.staged, *state.parts)]
        first = min((begins for begins, _ in spans if begins is not None), default=None)
        last = max((ends for _, ends in spans if ends is not None), default=None)
        assert first is not None, "a file with rows to load has a first day"
        assert last is not None
        covered = dict.fromkeys(state.scopes, _clipped((first, last), state.origin.window))
    elif target is wh.ad_performance and stated is not None and getattr(state.staged.layout, "dated", False):
        covered = dict.fromkeys(state.scopes, _clipped(stated, state.origin.window))
    else:
        return
    subscope = _SUBSCOPE[target.name]
    for (account, sub), span in covered.items():
        if span is None:
            continue
        stopped = {s.date for s in state.stopped if s.account == account}
        if None in stopped:  # nothing of the account is believed, its empty days no more than the others
            continue
        keep = state.protected[("*", "*")] | state.protected.get((account, sub), set()) | stopped
        condition = [
            target.c.organisation == state.origin.organisation,
            target.c.source == state.source,
            target.c.account == account,
            target.c.date.between(*span),
            sa.not_(state.written_now(target)),
        ]
        if subscope is not None:
            condition.append(target.c[subscope] == sub)
        if target is wh.ad_performance:
            condition.append(target.c.period_end == target.c.date)
        if keep:
            condition.append(target.c.date.not_in(sorted(keep)))
        state.connection.execute(sa.delete(target).where(*condition))


def _clear_moved(state: _Load) -> None:
    """Remove registrations that an earlier read of this file had on other days, of people it has again.

    Somebody corrected a year: the day as it was lies outside of what the file covers now. Only the same person in the
    same list of the same file says so; of other old rows nobody knows whether the file merely goes back less far now.
    """
    if state.origin.window is not None:
        return
    old, new = wh.registration, wh.registration.alias("new")
    ids = [state.lineage, *(lineage_of(state.origin.path, p.table.sheet, p.table.file) for p in state.parts)]
    again = sa.exists().where(
        new.c.organisation == old.c.organisation, new.c.source == old.c.source, new.c.account == old.c.account,
        new.c.event_label == old.c.event_label, new.c.registrant_hash == old.c.registrant_hash,
        new.c.run_id == state.origin.run_id, new.c.file_id.in_(ids),
        new.c.date.between(state.staged.first_day, state.staged.last_day),
    )  # fmt: skip
    state.connection.execute(
        sa.delete(old).where(
            old.c.organisation == state.origin.organisation, old.c.source == state.source,
            old.c.file_id.in_(ids), old.c.run_id != state.origin.run_id, again,
        )
    )  # fmt: skip


def _clipped(span: Window, window: Window | None) -> Window | None:
    first, last = (span[0], span[1]) if window is None else (max(span[0], window[0]), min(span[1], window[1]))
    return (first, last) if first <= last else None


# --- tables that are not facts ----------------------------------------------------------------------------------------


def _load_rows(state: _Load, target: Table, batch: Batch) -> None:
    """Upsert rows by key. Of two rows of one key in a file the first stands, the second is refused."""
    frame = _frame(state, target, batch)
    before = frame
    frame, unconvertible = _convert(state, target, frame)
    frame, twice = _without_duplicates(target, frame)
    good, held, decision = _ask_gate(state, target, frame)
    _reject(state, _of_frame(before), [*unconvertible, *twice, *decision.rejected], target.name)
    _reject(state, _of_frame(before), _held_back(held, decision.stopped), target.name)
    state.kept_keys.update(before[_key_of(target)].drop(index=good.index))
    if good.empty:
        return
    upsert(state.connection, target, good[[c for c in good.columns if c in target.c]])
    state.loaded += len(good)


def _key_of(target: Table) -> str:
    """The natural key of a table that is no fact, beside the organisation."""
    return next(c.name for c in target.primary_key.columns if c.name != "organisation")


def _clear_gone(state: _Load, target: Table) -> None:
    """Remove what an earlier version of this file wrote and this one no longer says: a corrected name is a new key."""
    refused = list(state.staged.rows.rejected())
    if any(r.key is None for r in refused):
        return
    key = target.c[_key_of(target)]
    state.connection.execute(
        sa.delete(target).where(
            target.c.organisation == state.origin.organisation,
            target.c.source == state.source,
            target.c.file_id == state.lineage,
            target.c.run_id != state.origin.run_id,
            key.not_in(sorted(state.kept_keys | {r.key for r in refused if r.key is not None})),
        )
    )


def _without_duplicates(target: Table, frame: pd.DataFrame) -> tuple[pd.DataFrame, list[RejectedRow]]:
    keys = [c.name for c in target.primary_key.columns if c.name in frame.columns]
    again = frame.duplicated(keys, keep="first")
    if not again.any():
        return frame, []
    firsts = frame[~again].set_index(keys)[SOURCE_ROW]
    name = next((c for c in ("name", "event_name", "tactic_name") if c in frame.columns), keys[-1])
    rejected = []
    for label in frame.index[again]:
        key = tuple(frame.loc[label, keys])
        first = firsts.loc[key if len(keys) > 1 else key[0]]
        rejected.append(
            RejectedRow(
                label, name, str(frame.at[label, name]), "duplicate",
                f"{frame.at[label, name]!r} is already in row {first}, which was kept; remove one of the two rows",
            )
        )  # fmt: skip
    return frame[~again], rejected


# --- campaigns --------------------------------------------------------------------------------------------------------


def _note_campaigns(state: _Load, rows: pa.Table) -> None:
    """Remember the campaigns of rows in their order: all their names, the newest day's name and type, their days."""
    for account, campaign_id, name, kind, first, last in facts.campaigns(rows):
        known = state.campaigns.get((account, campaign_id))
        if known is None:
            state.campaigns[account, campaign_id] = {
                "name": name, "names": {name}, "campaign_type": kind, "first_seen": first, "last_seen": last,
            }  # fmt: skip
            continue
        known["names"].add(name)
        known["first_seen"] = min(known["first_seen"], first)
        if last >= known["last_seen"]:
            known.update(last_seen=last, name=name, campaign_type=kind or known["campaign_type"])


def _write_campaigns(state: _Load) -> None:
    """Add campaigns, or widen their days; the newest day's name is the name. What ties them to an event stays."""
    if not state.campaigns:
        return
    target = wh.campaign
    rows = [
        {
            "organisation": state.origin.organisation, "source": state.source, "account": account,
            "account_time_zone": state.staged.time_zone, "fetched_at": state.origin.fetched_at,
            "run_id": state.origin.run_id, "file_id": state.lineage, "campaign_id": campaign_id,
            **known, "names": sorted(known["names"]),
        }
        for (account, campaign_id), known in sorted(state.campaigns.items())
    ]  # fmt: skip
    statement = pg_insert(target)
    new = statement.excluded
    newer = new.last_seen >= target.c.last_seen
    seen = sa.func.unnest(target.c.names + new.names).table_valued("name").render_derived(name="seen")
    # in the order of code points, as a new campaign's names are sorted here
    name = seen.c.name.collate("C")
    changed = {
        "names": sa.select(sa.func.array_agg(aggregate_order_by(sa.distinct(name), name))).scalar_subquery(),
        "name": sa.case((newer, new.name), else_=target.c.name),
        "campaign_type": sa.case(
            (newer, sa.func.coalesce(new.campaign_type, target.c.campaign_type)),
            else_=sa.func.coalesce(target.c.campaign_type, new.campaign_type),
        ),
        "first_seen": sa.func.least(target.c.first_seen, new.first_seen),
        "last_seen": sa.func.greatest(target.c.last_seen, new.last_seen),
        # of the file with its last day, whichever was read first
        "file_id": sa.case(
            (new.last_seen > target.c.last_seen, new.file_id),
            (new.last_seen < target.c.last_seen, target.c.file_id),
            else_=sa.func.greatest(target.c.file_id, new.file_id),
        ),
    }
    state.connection.execute(
        statement.on_conflict_do_update(
            index_elements=[c.name for c in target.primary_key.columns],
            set_={**changed, "updated_at": sa.func.now()},
            where=sa.or_(*[target.c[n].is_distinct_from(value) for n, value in changed.items()]),
        ),
        rows,
    )


# --- quarantine -------------------------------------------------------------------------------------------------------


def _quarantine_rejected(state: _Load, rejected: Rejected) -> None:
    _quarantine(state, rejected, state.staged.layout.table)


def _quarantine(state: _Load, rejected: Rejected, table: str) -> None:
    state.quarantined += 1
    report = state.staged.report
    for problem in rejected.problems:
        if len(report.problems) < REPORTED_PROBLEMS:
            report.problems.append(problem)
        state.quarantine.append(
            quarantine_row(
                problem, state.origin, source=state.source, table=table, record=rejected.values, day=rejected.date
            )
        )
    _flush_quarantine(state)


def quarantine_row(
    problem: Problem,
    origin: Origin,
    *,
    source: str,
    table: str | None,
    record: Mapping[str, str] | None = None,
    day: date | None = None,
) -> dict[str, Any]:
    """A row of table ``quarantine``. Its key is of content and place: reading again, or a copy, does not add."""
    place = (
        problem.file if "/" in (problem.file or "") else None,
        problem.sheet,
        problem.row,
        problem.column,
        problem.code,
    )
    return {
        "quarantine_id": key_of(origin.content_sha256, *place), "organisation": origin.organisation,
        "run_id": origin.run_id, "source": source, "table_name": table, "file": str(origin.path),
        "content_sha256": origin.content_sha256, "sheet": problem.sheet, "row_number": problem.row, "row_date": day,
        "column_name": problem.column, "value": problem.value, "reason_code": problem.code, "reason": problem.message,
        "record": dict(record or {}),
    }  # fmt: skip


def _flush_quarantine(state: _Load, *, force: bool = False) -> None:
    if state.quarantine and (force or len(state.quarantine) >= 5_000):
        upsert(state.connection, wh.quarantine, state.quarantine)
        state.quarantine = []


def drop_quarantine(connection: Connection, origin: Origin, sheet: str | None) -> None:
    """Remove what earlier reads of this file, or of its content elsewhere, quarantined and this one did not."""
    target = wh.quarantine
    stale = [
        target.c.organisation == origin.organisation,
        sa.or_(target.c.file == str(origin.path), target.c.content_sha256 == origin.content_sha256),
        sa.or_(target.c.sheet.is_not_distinct_from(sheet), target.c.row_number.is_(None)),
        target.c.run_id != origin.run_id,
    ]
    if origin.window is not None:
        # Rows of other days were not looked at; they stand unless the file has changed.
        stale.append(
            sa.or_(
                target.c.content_sha256 != origin.content_sha256,
                target.c.row_date.is_(None),
                target.c.row_date.between(*origin.window),
            )
        )
    connection.execute(sa.delete(target).where(*stale))


def drop_refusals(connection: Connection, origin: Origin) -> None:
    """What could be read has no refusal of an earlier read left."""
    t = wh.quarantine
    connection.execute(
        sa.delete(t).where(
            t.c.organisation == origin.organisation, t.c.file == str(origin.path), t.c.run_id != origin.run_id,
            t.c.table_name.is_(None),
        )
    )  # fmt: skip


def _drop_earlier_quarantine(state: _Load) -> None:
    drop_quarantine(state.connection, state.origin, state.staged.table.sheet)


# --- what is written down ---------------------------------------------------------------------------------------------


def _finish(state: _Load) -> FileReport:
    """Count, check that no row is lost, and record file and validation."""
    staged, origin, report = state.staged, state.origin, state.staged.report
    report.rows_loaded, report.rows_quarantined = state.loaded, state.quarantined
    report.first, report.last = staged.first_day, staged.last_day
    report.warnings.extend(dict.fromkeys(state.warnings))
    report.warnings.extend(_replaced_warnings(state))
    report.check()
    window = origin.window or (None, None)
    stated = staged.table.stated.period or (None, None)
    covered = (
        min((d for d in (staged.first_day, stated[0]) if d), default=None),
        max((d for d in (staged.last_day, stated[1]) if d), default=None),
    )
    file_id = state.lineage if origin.window is None else key_of(state.lineage, *origin.window, prefix="file_")
    upsert(state.connection, wh.ingest_file, [{
        "organisation": origin.organisation, "file_id": file_id, "run_id": origin.run_id, "name": staged.table.file,
        "path": str(origin.path), "sheet": staged.table.sheet or "", "content_sha256": origin.content_sha256,
        "source": state.source, "layout": staged.layout.name, "table_name": staged.layout.table,
        "encoding": staged.table.encoding, "rows_read": report.rows_read, "rows_loaded": report.rows_loaded,
        "rows_quarantined": report.rows_quarantined, "rows_total": report.rows_total, "rows_blank": report.rows_blank,
        "rows_outside": report.rows_outside, "first_date": covered[0], "last_date": covered[1],
        "window_first": window[0], "window_last": window[1], "totals": {}, "loaded_at": datetime.now(UTC),
    }])  # fmt: skip
    sums = totals_of(
        staged.layout.table, organisation=origin.organisation, source=state.source, file_ids=[state.lineage],
        run_id=origin.run_id, days=(staged.first_day, staged.last_day),
    )  # fmt: skip
    state.connection.execute(
        sa.update(wh.ingest_file)
        .where(wh.ingest_file.c.organisation == origin.organisation, wh.ingest_file.c.file_id == file_id)
        .values(totals=sums.scalar_subquery())
    )
    _compare_totals(state, file_id)
    if state.checked:
        _record_validation(state, file_id)
    log.info(
        "file loaded", file=report.name, layout=report.layout, read=report.rows_read,
        loaded=report.rows_loaded, quarantined=report.rows_quarantined, totals=report.rows_total,
        blank=report.rows_blank, outside=report.rows_outside,
    )  # fmt: skip
    return report


def _compare_totals(state: _Load, file_id: str) -> None:
    """Say when the file's own total is not what its rows add up to; both are kept with the file."""
    staged, report, target = state.staged, state.staged.report, wh.ingest_file
    if not report.totals or report.rows_outside:
        return
    this = sa.and_(target.c.organisation == state.origin.organisation, target.c.file_id == file_id)
    found = json.loads(state.connection.execute(sa.select(sa.cast(target.c.totals, sa.Text)).where(this)).scalar_one())
    check = compare(report.totals, found, report.rows_loaded, staged.context.synonyms.total_words)
    if check is None:
        return
    said: dict[str, Any] = {"label": check.label, "row": check.row, "matches": check.matches}
    said["differences"] = {n: {"stated": str(a), "rows": str(b)} for n, (a, b) in check.differences.items()}
    state.connection.execute(
        sa.update(target).where(this).values(totals=target.c.totals.op("||")(sa.cast({"own_total": said}, JSONB)))
    )
    if not check.matches:
        report.warnings.append(check.message(report.rows_quarantined))


def _record_validation(state: _Load, file_id: str) -> None:
    accounts = {scope[0] for scope in state.scopes}
    status = "stopped" if state.stopped else "warned" if state.warnings or state.rejected_by_gate else "passed"
    stops = [{"stopped": str(s.date), "account": s.account, "code": s.code, "reason": s.reason} for s in state.stopped]
    failures = [*stops, *state.failures]
    upsert(state.connection, wh.validation, [{
        "organisation": state.origin.organisation, "validation_id": key_of(file_id, state.staged.layout.table),
        "run_id": state.origin.run_id, "table_name": state.staged.layout.table, "source": state.source,
        "account": accounts.pop() if len(accounts) == 1 else state.staged.context.account,
        "first_date": state.staged.first_day, "last_date": state.staged.last_day, "status": status,
        "rows_checked": state.checked, "rows_rejected": state.rejected_by_gate, "failures": failures[:200],
    }])  # fmt: skip


def _replaced_warnings(state: _Load) -> Iterator[str]:
    """Say when rows of another file went, and what of them is not in this one."""
    if not state.replaced:
        return
    query = sa.select(wh.ingest_file.c.file_id, wh.ingest_file.c.name, wh.ingest_file.c.content_sha256).where(
        wh.ingest_file.c.organisation == state.origin.organisation, wh.ingest_file.c.file_id.in_(sorted(state.replaced))
    )
    present = {campaign for _, campaign in state.campaigns}
    for file_id, name, content in state.connection.execute(query):
        if content == state.origin.content_sha256:
            continue
        lost = state.lost_campaigns.get(file_id, set()) - present
        if lost:
            yield (
                f"{state.replaced[file_id]} rows of {name} were replaced, and {len(lost)} of its campaigns are not in "
                "this file; exports of different accounts belong into different folders of the inbox (or use --account)"
            )
        elif state.staged.layout.table == "registration" and any(sub == "" for _, sub in state.scopes):
            yield (
                f"{state.replaced[file_id]} registrations of {name} were replaced; lists of different events need a "
                "column with the event, a folder of the inbox each, or --event"
            )


def days_of(staged: Iterable[StagedTable]) -> dict[str, Window]:
    """First and last day per fact table, for making its partitions beforehand."""
    spans: dict[str, Window] = {}
    for one in staged:
        for target in wh.FACT_TABLES:
            days = one.rows.days(target.name)
            if days:
                first, last = spans.get(target.name, (days[0], days[-1]))
                spans[target.name] = (min(first, days[0]), max(last, days[-1]))
    return spans
