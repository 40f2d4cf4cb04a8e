"""From a connector into the warehouse: slices of days, each staged, checked and replaced in one transaction.

A slice is one account over at most :attr:`~ingestion.connectors.base.Connector.max_days` days. It is read to its end
before anything is written; what fails in the middle leaves the warehouse as it was, and what was loaded before stays.
Every day of a slice is replaced, also by nothing, except that

* an **empty slice** counts only after the platform confirmed that the account may be read, and never empties days the
  warehouse has rows for: platforms restate figures, they do not take them back, so that is a fault worth a word;
* days whose rows the gate refuses keep what they had.

Exports of the same platform that name no account are taken for the account of the API where there is only one: they
replace each other's days, and nothing counts twice.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import sqlalchemy as sa
import structlog
from sqlalchemy import Connection, Engine

from ingestion.connectors.base import (
    AccessDenied,
    Connector,
    ReadExpired,
    SourceAccount,
    SourceFault,
    TooMuchData,
    TransientError,
)
from ingestion.layouts import Context
from ingestion.loader import FileReport, Origin, StagedTable, days_of, drop_refusals, load, quarantine_row, take
from ingestion.rates import DatedRates
from ingestion.reading import Stated
from ingestion.records import Record, Rejected
from ingestion.staging import Staged
from turnout.errors import Problem
from turnout.identity import key_of
from turnout.quality import Gate
from turnout.settings import Settings
from turnout.warehouse import tables as wh
from turnout.warehouse.load import lock_account, upsert
from turnout.warehouse.partitions import ensure_months

log = structlog.get_logger(__name__)

#: Sources with a connector, each a module of this package with a ``CONNECTOR``.
CONNECTED_SOURCES = ("google_ads", "meta_ads", "linkedin_ads", "sendgrid")
#: No platform answers for days before; a call for "everything" starts here.
_EARLIEST = date(2015, 1, 1)
#: How often a slice whose answer went stale is read again from its start.
_EXPIRY_ATTEMPTS = 3
#: Layouts of reads through an API end so; that is how the warehouse tells them from exports.
LAYOUT_SUFFIX = ".api"


def connector_class(source: str) -> type[Connector]:
    """The connector of a source.

    Raises:
        ValueError: the source is read from files only.
    """
    if source not in CONNECTED_SOURCES:
        raise ValueError(f"{source!r} has no API; sources with one are {', '.join(CONNECTED_SOURCES)}")
    found: type[Connector] = importlib.import_module(f"ingestion.connectors.{source}").CONNECTOR
    return found


def is_configured(source: str, settings: Settings) -> bool:
    """Whether there are credentials to ask the source's API with."""
    credentials = getattr(settings, source) if source in CONNECTED_SOURCES else None
    return credentials is not None and credentials.can_ask


@dataclass
class _ApiTable:
    """What stands in for the table of a file: the loader asks it for names and problems."""

    account: SourceAccount
    span: tuple[date, date]
    stated: Stated
    sheet: str | None = None
    encoding: str | None = None

    @property
    def file(self) -> str:
        return f"{self.account.source}/{self.account.account_id}"

    def problem(
        self, code: str, message: str, *, row: int | None = None, column: str | None = None, value: str | None = None
    ) -> Problem:
        slice_name = f"{self.file}/{self.span[0]}..{self.span[1]}"
        return Problem(code, message, file=slice_name, row=row, column=column, value=value)


@dataclass(frozen=True)
class _ApiLayout:
    """What stands in for a layout. ``dated``: days of the slice without a row have none."""

    source: str
    table: str
    dated: bool = True

    @property
    def name(self) -> str:
        return f"{self.source}{LAYOUT_SUFFIX}"


@dataclass
class SourceOutcome:
    """What became of one call.

    Attributes:
        reports: one per slice that was loaded or refused.
        failures: accounts (or the whole source, as ``''``) that could not be read to the end, and why.
    """

    reports: list[FileReport] = field(default_factory=list)
    failures: list[tuple[str, Exception]] = field(default_factory=list)

    def raise_failures(self) -> None:
        """Raise what went wrong, after everything that could be read was.

        Raises:
            TransientError: a later try may help with at least one account.
            AccessDenied, SourceFault: it will not.
        """
        if not self.failures:
            return
        text = "; ".join(f"account {a}: {e}" if a else str(e) for a, e in self.failures)
        for kind in (TransientError, AccessDenied):
            if any(isinstance(error, kind) for _, error in self.failures):
                raise kind(text) from self.failures[0][1]
        raise SourceFault(text) from self.failures[0][1]


@dataclass(frozen=True)
class _Job:
    """What is the same for all slices of a call."""

    connector: Connector
    settings: Settings
    engine: Engine
    gate: Gate
    run_id: UUID
    dry_run: bool
    progress: Callable[[str, int], None] | None


def read_source(
    source: str,
    first: date,
    last: date,
    *,
    settings: Settings,
    engine: Engine,
    gate: Gate,
    run_id: UUID,
    dry_run: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> SourceOutcome:
    """Ask a source's API for all its accounts' days ``first`` to ``last``, both included.

    Args:
        run_id: of the ``ingest_run`` under way.
        progress: called with an account's id and the number of its days newly done.

    Returns:
        Reports and failures; nothing is raised for an account that says no, so that the others are read.
    """
    outcome = SourceOutcome()
    with connector_class(source)(settings) as connector:
        job = _Job(connector, settings, engine, gate, run_id, dry_run, progress)
        try:
            accounts = list(connector.accounts())
        except (AccessDenied, SourceFault, TransientError) as error:
            outcome.failures.append(("", error))
            return outcome
        for account in accounts:
            try:
                for report in _read_account(job, account, first, last, alone=len(accounts) == 1):
                    outcome.reports.append(report)
            except (AccessDenied, SourceFault, TransientError) as error:
                log.warning("account not read", source=source, account=account.account_id, error=str(error)[:500])
                outcome.failures.append((account.account_id, error))
    return outcome


def _read_account(job: _Job, account: SourceAccount, first: date, last: date, *, alone: bool) -> Iterator[FileReport]:
    connector = job.connector
    today = datetime.now(ZoneInfo(account.time_zone)).date()
    first, last = max(first, _EARLIEST), min(last, today)
    if connector.history_days is not None and first < (oldest := today - timedelta(days=connector.history_days)):
        log.info("before the platform's history", source=account.source, account=account.account_id, first=str(oldest))
        first = oldest
    pending = _cut(first, last, connector.max_days)
    while pending:
        begins, ends = pending.pop(0)
        with Staged(job.settings.home_path / "tmp") as rows:
            try:
                staged = _stage(job, account, begins, ends, rows)
            except TooMuchData as error:
                if begins == ends:
                    raise SourceFault(
                        f"{begins} alone is more than the platform gives in one answer: {error}"
                    ) from error
                middle = begins + (ends - begins) // 2
                log.info("range halved", source=account.source, account=account.account_id, first=str(begins))
                pending[:0] = [(begins, middle), (middle + timedelta(days=1), ends)]
                continue
            yield _load(job, account, staged, alone=alone)
        if job.progress is not None:
            job.progress(account.account_id, (ends - begins).days + 1)


def _cut(first: date, last: date, days: int) -> list[tuple[date, date]]:
    """Ranges of at most ``days`` days, oldest first."""
    cuts = []
    while first <= last:
        ends = min(first + timedelta(days=days - 1), last)
        cuts.append((first, ends))
        first = ends + timedelta(days=1)
    return cuts


def _stage(job: _Job, account: SourceAccount, first: date, last: date, rows: Staged) -> StagedTable:
    """Read a slice to its end; from the start again where the answer went stale."""
    connector = job.connector
    for attempt in range(1, _EXPIRY_ATTEMPTS + 1):
        staged = _empty(job, account, first, last, rows)
        try:
            for outcome in connector.rows(account, first, last):
                staged.report.rows_read += 1
                if isinstance(outcome, Record) and account.currency and outcome.values.get("currency") is None:
                    outcome.values["currency"] = account.currency
                take(staged, _dated(staged, outcome), (first, last))
        except ReadExpired as error:
            rows.clear()
            if attempt == _EXPIRY_ATTEMPTS:
                raise TransientError(f"the answer went stale {attempt} times: {error}") from error
            log.info("slice read again", source=account.source, account=account.account_id, first=str(first))
            continue
        break
    if staged.report.rows_read == 0:
        connector.confirm_access(account)
    staged.report.warnings.extend(connector.notes.take())
    return staged


def _dated(staged: StagedTable, outcome: Record | Rejected) -> Record | Rejected:
    """A row of a day nobody asked for is refused: it would be replaced by nobody's slice."""
    day = outcome.values.get("date") if isinstance(outcome, Record) else None
    assert isinstance(staged.table, _ApiTable)
    first, last = staged.table.span
    if day is None or first <= day <= last:
        return outcome
    problem = staged.table.problem(
        "outside_range",
        f"the platform answered with {day}, asked for {first} to {last}",
        row=outcome.row,
        column="date",
    )
    return Rejected(outcome.row, (problem,), date=None)


def _empty(job: _Job, account: SourceAccount, first: date, last: date, rows: Staged) -> StagedTable:
    connector = job.connector
    table = _ApiTable(account, (first, last), Stated(period=(first, last), currency=account.currency))
    layout = _ApiLayout(account.source, connector.table)
    report = FileReport(
        name=f"{table.file} {first}..{last}", path=_path(account), source=account.source, layout=layout.name,
        table=connector.table, first=first, last=last,
    )  # fmt: skip
    context = Context(job.settings, account=account.account_id)
    return StagedTable(table, layout, context, rows, report, account.time_zone)


def _path(account: SourceAccount) -> Path:
    """What stands in for a file's path: one per account, so that each read replaces what the last one said."""
    return Path("api", account.source, account.account_id)


def _load(job: _Job, account: SourceAccount, staged: StagedTable, *, alone: bool) -> FileReport:
    """Replace the slice's days in one transaction."""
    assert isinstance(staged.table, _ApiTable)
    span = staged.table.span
    origin = Origin(
        job.settings.organisation, job.run_id, _path(account), key_of(account.source, account.account_id),
        datetime.now(UTC), span,
    )  # fmt: skip
    if not job.dry_run:
        with job.engine.begin() as connection:
            for name, (first, last) in days_of([staged]).items():
                ensure_months(connection, wh.metadata.tables[f"{wh.SCHEMA}.{name}"], first, last)
    with job.engine.connect() as connection, connection.begin() as transaction:
        if alone:
            adopt_unlabelled(connection, job.settings.organisation, account)
        if not staged.rows.tables:
            _say_if_emptied(connection, staged, origin)
        report = load(connection, staged, origin, gate=job.gate, rates=DatedRates.load(connection, job.settings))
        drop_refusals(connection, origin)
        if job.dry_run:
            transaction.rollback()
    return report


def _say_if_emptied(connection: Connection, staged: StagedTable, origin: Origin) -> None:
    """Nothing came where there was something: the rows stay, and somebody should look."""
    assert isinstance(staged.table, _ApiTable)
    target = wh.metadata.tables[f"{wh.SCHEMA}.{staged.layout.table}"]
    account, (first, last) = staged.table.account, staged.table.span
    kept = connection.execute(
        sa.select(sa.func.count()).where(
            target.c.organisation == origin.organisation, target.c.source == account.source,
            target.c.account == account.account_id, target.c.date.between(first, last),
        )
    ).scalar_one()  # fmt: skip
    if kept:
        staged.report.warnings.append(
            f"empty_answer: the platform gave nothing for {first} to {last}, where {kept} rows are known; they stay"
        )


def adopt_unlabelled(connection: Connection, organisation: str, account: SourceAccount) -> int:
    """Give rows of exports that named no account to the one account there is, within the caller's transaction.

    Days that the account has already win over the export's. Returns the rows that changed hands.
    """
    lock_account(connection, organisation, account.source, "*")
    moved = 0
    for target in (wh.ad_performance, wh.email_performance):
        unlabelled = [target.c.organisation == organisation, target.c.source == account.source, target.c.account == ""]
        if not connection.execute(sa.select(sa.literal(1)).where(*unlabelled).limit(1)).scalar():
            continue
        own = sa.select(target.c.date).where(
            target.c.organisation == organisation, target.c.source == account.source,
            target.c.account == account.account_id,
        )  # fmt: skip
        connection.execute(sa.delete(target).where(*unlabelled, target.c.date.in_(own)))
        moved += connection.execute(sa.update(target).where(*unlabelled).values(account=account.account_id)).rowcount
    if moved:
        t = wh.campaign
        known = sa.select(t.c.campaign_id).where(
            t.c.organisation == organisation, t.c.source == account.source, t.c.account == account.account_id
        )
        unlabelled = [t.c.organisation == organisation, t.c.source == account.source, t.c.account == ""]
        connection.execute(sa.delete(t).where(*unlabelled, t.c.campaign_id.in_(known)))
        connection.execute(sa.update(t).where(*unlabelled).values(account=account.account_id))
        log.info("unlabelled exports adopted", source=account.source, account=account.account_id, rows=moved)
    return moved


def known_accounts(connection: Connection, organisation: str) -> dict[str, str]:
    """Source → the one account that was read through its API, for sources with exactly one."""
    t = wh.ingest_file
    rows = connection.execute(
        sa.select(t.c.source, sa.func.min(t.c.path))
        .where(t.c.organisation == organisation, t.c.layout.like(f"%{LAYOUT_SUFFIX}"))
        .group_by(t.c.source)
        .having(sa.func.count(sa.distinct(t.c.path)) == 1)
    )
    return {source: Path(path).name for source, path in rows}


def note_failures(engine: Engine, organisation: str, run_id: UUID, source: str, outcome: SourceOutcome) -> None:
    """Put what could not be read into quarantine, where people look for it; a later good read clears it."""

    def origin(account: str) -> Origin:
        path = Path("api", source, account or "all")
        return Origin(organisation, run_id, path, key_of(source, account), datetime.now(UTC))

    rows = [
        quarantine_row(
            Problem(_code(error), str(error)[:1000], file=f"{source}/{account}/"),
            origin(account), source=source, table=None,
        )
        for account, error in outcome.failures
    ]  # fmt: skip
    with engine.begin() as connection:
        upsert(connection, wh.quarantine, rows)
        drop_refusals(connection, origin(""))  # of an earlier run: the platform let us in this time, or says it again


def _code(error: Exception) -> str:
    kinds: Sequence[tuple[type[Exception], str]] = (
        (AccessDenied, "access_denied"), (SourceFault, "source_fault"), (TransientError, "source_unavailable"),
    )  # fmt: skip
    return next(code for kind, code in kinds if isinstance(error, kind))
