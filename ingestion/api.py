"""Ingestion's front door: files in, warehouse and reports out.

* :func:`ingest_paths` reads files or folders, as a person asks for them.
* :func:`ingest_source` reads one source's files of the inbox over a window of days, as the nightly run does.
* :func:`link`, :func:`totals`, :func:`quarantine_rows`: what follows.

Each file is one transaction: all of it counts, or nothing. Of exports that overlap, the one that states the later
period wins, then the one made later, then the later name: whatever order they arrive in, the outcome is the same.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pyarrow.compute as pc
import sqlalchemy as sa
import structlog
from sqlalchemy import Connection, Engine

from ingestion.absent import stopped_figures
from ingestion.ahead import ahead
from ingestion.blocks import can_block, cell_blocks
from ingestion.connectors.run import SourceOutcome, is_configured, known_accounts, note_failures, read_source
from ingestion.explaining import closest, explain
from ingestion.headers import Synonyms, load_synonyms
from ingestion.layouts import Context, Layout, Parser, all_layouts, is_blank, is_notes, recognise
from ingestion.linking import Links, event_days, link
from ingestion.loader import (
    FileReport,
    Origin,
    StagedTable,
    Window,
    days_of,
    drop_quarantine,
    drop_refusals,
    load,
    quarantine_row,
    shown_name,
    stage,
)
from ingestion.mapped import MappingFile, Mappings, beside, draft, general_mappings, is_mapping, read_mapping
from ingestion.personal import scrub
from ingestion.rates import DatedRates
from ingestion.reading import RawTable, open_tables
from ingestion.staging import Staged, sweep
from ingestion.totals import FileTotals, totals
from ingestion.values import Cell, parse_date
from turnout.errors import InputError, Problem
from turnout.quality import Gate
from turnout.settings import Settings
from turnout.warehouse import tables as wh
from turnout.warehouse.load import upsert
from turnout.warehouse.partitions import ensure_months

__all__ = [
    "FileReport", "FileTotals", "IngestReport", "Links", "draft_mapping", "ingest_paths", "ingest_source", "link",
    "quarantine_rows", "totals",
]  # fmt: skip

log = structlog.get_logger(__name__)

#: Sources whose rows are not dated facts: they are always read whole.
_UNDATED_SOURCES = frozenset(("spreadsheet",))
#: What makes a file of a folder no table at all.
_NO_TABLES = frozenset(("unknown_layout", "unknown_json", "not_a_table"))
#: Never tables, in any folder.
_NOT_DATA = (".lock", ".tmp", ".part", ".crdownload")


@dataclass
class IngestReport:
    """What one call did.

    Attributes:
        files: one entry per table of a file, in the order in which they were loaded.
        links: rows tied to events and tactics afterwards; ``None`` for a dry run.
    """

    run_id: UUID
    organisation: str
    dry_run: bool = False
    files: list[FileReport] = field(default_factory=list)
    links: Links | None = None

    @property
    def refused(self) -> list[Problem]:
        """Why files, or sheets, could not be used at all."""
        return [p for f in self.files if f.status == "refused" for p in f.problems]

    @property
    def ok(self) -> bool:
        """Whether every file could be used."""
        return not any(f.status == "refused" for f in self.files)

    def summary(self) -> dict[str, int]:
        """Counts over all files, for logs and task results."""
        names = ("rows_read", "rows_loaded", "rows_quarantined", "rows_total", "rows_blank", "rows_outside")
        return {
            "files": sum(f.status == "loaded" for f in self.files),
            "files_refused": sum(f.status == "refused" for f in self.files),
            **{name: sum(getattr(f, name) for f in self.files) for name in names},
        }


# --- files ------------------------------------------------------------------------------------------------------------


@dataclass
class _File:
    """One file to read: its tables with their layouts, or why there are none."""

    path: Path
    account: str
    from_folder: bool
    sha256: str = ""
    tables: list[tuple[RawTable, Layout]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    #: Tables nobody knows, with why.
    strange: list[tuple[RawTable, list[Problem]]] = field(default_factory=list)
    ignored: bool = False
    of_another_source: bool = False
    last_day: date | None = None

    @property
    def order(self) -> tuple[date, datetime, str]:
        """Where the file stands among overlapping ones: stated period, then generation, then name."""
        ends = [t.stated.period[1] for t, _ in self.tables if t.stated.period is not None]
        made = [t.stated.generated for t, _ in self.tables if t.stated.generated is not None]
        end = max(ends, default=self.last_day or date.min)
        return end, max(made, default=datetime.combine(date.min, time(), UTC)), str(self.path)


def _expand(paths: Iterable[Path], settings: Settings, account: str | None) -> list[_File]:
    """The files of ``paths``; a folder stands for all below it, its own subfolders naming the accounts."""
    found: dict[Path, _File] = {}
    inbox = settings.inbox_path
    for given in paths:
        path = given.expanduser().resolve()
        folder = path if path.is_dir() else None
        members = sorted(_walk(path)) if folder is not None else [path]
        root = inbox if path.is_relative_to(inbox) else folder
        for member in members:
            if is_mapping(member):
                continue
            relative = member.relative_to(root).parts if root is not None and member.is_relative_to(root) else ()
            named = account if account is not None else relative[0] if len(relative) > 1 else ""
            found.setdefault(member, _File(member, named, folder is not None))
    return list(found.values())


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(p.startswith((".", "~$")) for p in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.suffix.lower() not in _NOT_DATA:
            yield path


def _sha256(path: Path) -> str:
    """What a file holds, and what the mapping file beside it says of it."""
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256")
    if beside(path).is_file():
        content.update(beside(path).read_bytes())
    return content.hexdigest()


def _inspect(
    file: _File,
    settings: Settings,
    synonyms: Synonyms,
    sources: Sequence[str] = (),
    *,
    general: Sequence[MappingFile] = (),
    given: MappingFile | None = None,
) -> None:
    """Find the tables of a file and what they are, without reading their rows.

    Args:
        general, given: mapping files of the home folder, and the one a caller named; one beside the file is looked for.
    """
    strange = 0
    try:
        own = given or (read_mapping(beside(file.path)) if beside(file.path).is_file() else None)
        mappings = Mappings(own, general)
        for table in open_tables(
            file.path,
            max_line_bytes=settings.max_line_bytes,
            synonyms=synonyms.with_headers(mappings.headers()) if mappings.headers() else synonyms,
            header_row=own.header_row if own is not None else None,
        ):
            if is_notes(table):
                continue
            try:
                layout = mappings.settle(table, synonyms) or recognise(table, synonyms)[0]
            except InputError as error:
                file.problems.extend(error.problems)
                file.strange.append((table, error.problems))
                strange += _is_regular(table)
                continue
            if not sources or layout.source in sources:
                file.tables.append((table, layout))
            else:
                file.of_another_source = True
        if own is not None and not (mappings.used or file.problems):
            message = f"the mapping {own.path.name} fits no table of the file: none has all the columns it names"
            file.problems.append(Problem("bad_mapping", message, file=file.path.name))
        file.sha256 = file.sha256 or _sha256(file.path)
    except InputError as error:
        file.problems.extend(error.problems)
    except OSError as error:
        file.problems.append(Problem("no_file", f"the file cannot be read ({error.strerror})", file=file.path.name))
    if file.problems and not file.sha256 and file.path.is_file():
        with file.path.open("rb") as head:
            file.sha256 = hashlib.sha256(head.read(1 << 20)).hexdigest()
    # A note or picture beside the exports is no defect, nor is a sheet of instructions in a workbook that has others. A
    # regular table that nobody understands may be an export: that must be said.
    codes = {p.code for p in file.problems}
    if codes and codes <= _NO_TABLES and not strange and (file.from_folder or file.tables):
        file.ignored = True


def _is_regular(table: RawTable) -> bool:
    """Whether rows go on as the header begins: at least three columns, and nearly all rows of that width."""
    rows = [r for r in itertools.islice(table.rows(), 30) if not all(is_blank(c) for c in r.cells)]
    width = len(table.columns)
    return width >= 3 and len(rows) >= 2 and sum(len(r.cells) == width for r in rows) >= 0.8 * len(rows)


def _order_days(files: Sequence[_File]) -> None:
    """Give files that state no period the last day in them, where that decides which of several wins."""
    by_source: dict[str, list[_File]] = {}
    for file in files:
        for table, layout in file.tables:
            if layout.source not in _UNDATED_SOURCES and table.stated.period is None:
                by_source.setdefault(layout.source, []).append(file)
    for same in by_source.values():
        for file in same if len(same) > 1 else ():
            file.last_day = max(
                (d for t, layout in file.tables if (d := _last_day(t, layout)) is not None), default=None
            )


def _last_day(table: RawTable, layout: Layout) -> date | None:
    """The latest plausible date of a table; ambiguous ones say nothing."""
    match = layout.recognise(table, table.settled.synonyms)
    column = next(
        (c for f in ("day", "period_end", "period_start", "registered_at") if match and (c := match.fields.get(f))),
        None,
    )
    if column is None:
        return None
    parse = Parser(parse_date)
    days = (parse(cell) for cell in _cells(table, column.index))
    return max((day for day in days if isinstance(day, date)), default=None)


def _cells(table: RawTable, index: int) -> Iterator[Cell]:
    """The cells of a column; repeated ones may be left out."""
    if not can_block(table):
        yield from (row.cells[index] for row in table.rows() if index < len(row.cells))
        return
    for block in cell_blocks(table, [index]):
        if index in block.columns:
            yield from pc.unique(block.columns[index]).to_pylist()
        yield from (row.cells[index] for row in block.others if index < len(row.cells))


# --- runs -------------------------------------------------------------------------------------------------------------


def _code_version() -> str:
    try:
        return version("turnout")
    except PackageNotFoundError:  # pragma: no cover - running from a source tree that was never installed
        return "unknown"


@contextmanager
def _run(engine: Engine, organisation: str, trigger: str, *, dry_run: bool) -> Iterator[UUID]:
    """A row of ``ingest_run`` around the work. Runs that were killed are closed by the next one."""
    run_id = uuid4()
    if dry_run:
        yield run_id
        return
    with engine.connect() as guard:
        # Held as long as this process lives: who can take another run's lock knows that its process is gone.
        guard.execute(sa.text("SELECT pg_advisory_lock(hashtextextended(:key, 0))"), {"key": f"turnout:run:{run_id}"})
        guard.commit()
        try:
            with engine.begin() as connection:
                _close_killed(connection, organisation)
                connection.execute(
                    sa.insert(wh.ingest_run).values(
                        run_id=run_id, organisation=organisation, trigger=trigger, code_version=_code_version()
                    )
                )
            try:
                yield run_id
            except BaseException as error:
                _close(engine, run_id, "failed", f"{type(error).__name__}: {scrub(str(error))}"[:2000])
                raise
            _close(engine, run_id, "succeeded", None)
        finally:
            guard.execute(
                sa.text("SELECT pg_advisory_unlock(hashtextextended(:key, 0))"), {"key": f"turnout:run:{run_id}"}
            )
            guard.commit()


def _close(engine: Engine, run_id: UUID, status: str, error: str | None) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.update(wh.ingest_run)
            .where(wh.ingest_run.c.run_id == run_id)
            .values(status=status, finished_at=sa.func.now(), error=error)
        )


def _close_killed(connection: Connection, organisation: str) -> None:
    """Mark runs as failed whose process is gone."""
    t = wh.ingest_run
    running = connection.execute(
        sa.select(t.c.run_id).where(t.c.organisation == organisation, t.c.status == "running")
    ).scalars()
    for run_id in list(running):
        gone = connection.execute(
            sa.text("SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"turnout:run:{run_id}"}
        ).scalar_one()
        if gone:
            connection.execute(
                sa.update(t)
                .where(t.c.run_id == run_id, t.c.status == "running")
                .values(status="failed", finished_at=sa.func.now(), error="the process was killed")
            )


@dataclass(frozen=True)
class _Job:
    """What is the same for all files of a call."""

    settings: Settings
    engine: Engine
    gate: Gate
    synonyms: Synonyms
    run_id: UUID
    window: Window | None
    event: str | None = None
    dry_run: bool = False
    progress: Callable[[int], None] | None = None
    explain: bool = False

    @property
    def organisation(self) -> str:
        return self.settings.organisation

    @cached_property
    def api_accounts(self) -> dict[str, str]:
        """Source → the account its API knows: an export that names none is of this one."""
        with self.engine.connect() as connection:
            return known_accounts(connection, self.organisation)

    def origin(self, file: _File, made: datetime | None) -> Origin:
        modified = datetime.fromtimestamp(file.path.stat().st_mtime, UTC) if file.path.exists() else datetime.now(UTC)
        return Origin(
            self.organisation,
            self.run_id,
            file.path,
            file.sha256,
            min(made or modified, datetime.now(UTC)),
            self.window,
        )


@dataclass
class _Read:
    """A file whose rows wait to be loaded.

    Attributes:
        refused: tables of it that cannot be used, with the reasons.
        rows: closed by whoever is done with the file.
    """

    file: _File
    staged: list[StagedTable] = field(default_factory=list)
    refused: list[tuple[RawTable, Layout, InputError]] = field(default_factory=list)
    rows: ExitStack = field(default_factory=ExitStack)


class _Abandoned(BaseException):
    """Nobody waits for the rows any more."""


def _stage_file(job: _Job, file: _File, folder: Path, abandoned: threading.Event | None = None) -> _Read:
    """Read a file's rows; nothing is written to the warehouse."""
    read = _Read(file)
    advanced = 0

    def progress(done: int, size: int) -> None:
        nonlocal advanced
        if abandoned is not None and abandoned.is_set():
            raise _Abandoned
        # A workbook's sheets are all read of one file: each stands for its share.
        share = done // max(len(file.tables), 1) + (len(read.staged) * size) // max(len(file.tables), 1)
        if job.progress is not None and share > advanced:
            job.progress(share - advanced)
            advanced = share

    try:
        for table, layout in file.tables:
            account = file.account or job.api_accounts.get(layout.source, "")
            settled = table.settled
            account = settled.account or account
            context = Context(
                job.settings, account=account, event=settled.event or job.event,
                synonyms=settled.synonyms or job.synonyms,
                event_days=event_days(job.engine, job.organisation, account), warnings=table.notes,
            )  # fmt: skip
            window = None if layout.source in _UNDATED_SOURCES else job.window
            rows = read.rows.enter_context(Staged(folder))
            try:
                staged = stage(table, layout, context, rows, path=file.path, window=window, progress=progress)
                if job.explain:
                    staged.report.explained = explain(table, layout, context)
                read.staged.append(staged)
            except InputError as error:
                read.refused.append((table, layout, error))
    except BaseException:
        read.rows.close()
        raise
    return read


def _load_read(job: _Job, read: _Read) -> list[FileReport]:
    """Load a file's rows, everything of it in one transaction, or a report that says why not."""
    with read.rows:
        reports = _refusals(job, read.file)
        reports += [_refused(job, read.file, e.problems, table=t, layout=layout) for t, layout, e in read.refused]
        return [*reports, *_load_file(job, read.file, read.staged)] if read.staged else reports


def _load_file(job: _Job, file: _File, staged: Sequence[StagedTable]) -> list[FileReport]:
    if not job.dry_run:
        # In a transaction of its own: a new partition locks the table's default one against everybody until commit.
        with job.engine.begin() as connection:
            for name, (first, last) in days_of(staged).items():
                ensure_months(connection, wh.metadata.tables[f"{wh.SCHEMA}.{name}"], first, last)
    with job.engine.connect() as connection, connection.begin() as transaction:
        rates = DatedRates.load(connection, job.settings)
        for one in staged:
            one.report.warnings.extend(_about_absent(connection, job, one))
        reports = [
            load(
                connection, one, job.origin(file, one.table.stated.generated), gate=job.gate, rates=rates, beside=staged
            )
            for one in staged
        ]
        if not file.problems:
            drop_refusals(connection, job.origin(file, None))
        if job.dry_run:
            transaction.rollback()
    return reports


def _about_absent(connection: Connection, job: _Job, staged: StagedTable) -> Iterator[str]:
    """What earlier reports of the account had and this one has not."""
    if staged.first_day is None or staged.last_day is None:
        return
    fields = {field for field in staged.report.columns.values() if field is not None}
    names_accounts = bool(fields & {"account", "account_id"})
    yield from stopped_figures(
        connection, organisation=job.organisation, source=staged.layout.source, table=staged.layout.table,
        account=None if names_accounts else staged.context.account, fields=fields, first=staged.first_day,
        last=staged.last_day,
    )  # fmt: skip


def _refusals(job: _Job, file: _File) -> list[FileReport]:
    """Reports of what of a file was no known table."""
    if not file.problems:
        return []
    if file.ignored:
        names = sorted({f"{p.file}#{p.sheet}" if p.sheet else str(p.file) for p in file.problems})
        return [FileReport(name=name, path=file.path, status="ignored", problems=file.problems) for name in names]
    if not job.explain or not file.strange:
        return [_refused(job, file, file.problems)]
    # One report for each table nobody knows, so that its columns can be shown.
    shown = [p for _, problems in file.strange for p in problems]
    rest = [p for p in file.problems if p not in shown]
    reports = [_refused(job, file, rest)] if rest else []
    for table, problems in file.strange:
        context = Context(job.settings, synonyms=table.settled.synonyms or job.synonyms)
        layout = closest(table, context)
        report = _refused(job, file, problems, table=table, layout=layout)
        report.name = shown_name(table)
        report.explained = explain(table, layout, context)
        reports.append(report)
    return reports


def _refused(
    job: _Job, file: _File, problems: Sequence[Problem], *, table: RawTable | None = None, layout: Layout | None = None
) -> FileReport:
    """Quarantine a file, or a sheet of it, as a whole. What an earlier read of it loaded stays."""
    report = FileReport(
        name=problems[0].file or file.path.name, path=file.path, sheet=problems[0].sheet, status="refused",
        source=layout.source if layout else "unknown", layout=layout.name if layout else None,
        encoding=table.encoding if table else None,
        problems=[_scrubbed(p) for p in problems],
        columns={c.column: c.field for c in layout.explain(table, job.synonyms)} if layout and table else {},
    )  # fmt: skip
    log.warning("file refused", file=report.name, reasons=sorted({p.code for p in problems}))
    if job.progress is not None and table is None and file.path.exists():
        job.progress(file.path.stat().st_size)
    if job.dry_run:
        return report
    origin = job.origin(file, None)
    rows = [quarantine_row(p, origin, source=report.source, table=None) for p in report.problems]
    with job.engine.begin() as connection:
        upsert(connection, wh.quarantine, rows)
        drop_quarantine(connection, origin, report.sheet) if table is None else None
    return report


def _scrubbed(problem: Problem) -> Problem:
    value = None if problem.value is None else scrub(problem.value)[:200]
    return Problem(
        problem.code, scrub(problem.message), problem.file, problem.sheet, problem.row, problem.column, value
    )


# --- calls ------------------------------------------------------------------------------------------------------------


def ingest_paths(
    paths: Iterable[Path],
    *,
    settings: Settings,
    engine: Engine,
    gate: Gate,
    account: str | None = None,
    event: str | None = None,
    window: Window | None = None,
    trigger: str = "cli",
    progress: Callable[[int], None] | None = None,
    dry_run: bool = False,
    mapping: Path | None = None,
    explain: bool = False,
) -> IngestReport:
    """Read files, and all files of folders, into the warehouse.

    Args:
        gate: e.g. ``expectations.gate.make_gate(settings)``.
        account: of files that name none. Default: the subfolder of the inbox, or of a folder given, a file lies in.
        event: name or code of the event that registration lists without one belong to.
        window: only rows of these days, both included.
        progress: called with bytes newly read.
        dry_run: read, check and report everything, then write nothing.
        mapping: a mapping file about these files, in place of those beside them; see :mod:`ingestion.mapped`.
        explain: fill :attr:`FileReport.explained`, also of tables nobody knows.

    Returns:
        One entry per table. A file that cannot be used is reported, and the others are read all the same.

    Raises:
        InputError: ``mapping`` is defective.
        ConfigurationError: ``headers.yaml`` or a mapping file of the home folder is.
        LostRowsError: a defect of this program; the file was not loaded.
        sqlalchemy.exc.SQLAlchemyError: the database refuses. Files before it are loaded.
    """
    files = _expand(paths, settings, account)
    synonyms = load_synonyms(settings.home_path)
    general = general_mappings(settings.home_path)
    given = read_mapping(mapping) if mapping is not None else None
    for file in files:
        _inspect(file, settings, synonyms, general=general, given=given)
    _order_days(files)
    with _run(engine, settings.organisation, trigger, dry_run=dry_run) as run_id:
        job = _Job(settings, engine, gate, synonyms, run_id, window, event, dry_run, progress, explain)
        return _work(job, sorted(files, key=lambda f: f.order))


def ingest_source(
    source: str,
    first: date,
    last: date,
    *,
    settings: Settings,
    engine: Engine,
    gate: Gate,
    trigger: str = "airflow",
    dry_run: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> IngestReport:
    """Read the inbox's files of one source, rows of ``first`` to ``last`` only; then its API, where it is configured.

    Restated figures replace earlier ones; days outside the window stay. A file of the inbox that cannot be read at all
    is reported by every source's call, for nobody knows whose it is.

    Args:
        progress: called with an API account's id and the number of its days newly read.

    Raises:
        ValueError: there is no such source, or ``last`` lies before ``first``.
        TransientError: an account could not be read now; everything else was.
        AccessDenied, SourceFault: an account cannot be read until somebody acts; everything else was.
    """
    known = sorted({layout.source for layout in all_layouts()})
    if source not in known:
        raise ValueError(f"unknown source {source!r}; known are {', '.join(known)}")
    if last < first:
        raise ValueError(f"the last day {last} lies before the first {first}")
    synonyms = load_synonyms(settings.home_path)
    inbox = settings.inbox_path
    files = _expand([inbox], settings, None) if inbox.is_dir() else []
    window = None if source in _UNDATED_SOURCES else (first, last)
    files = _not_known_to_be_apart(files, source, window, engine, settings.organisation)
    general = general_mappings(settings.home_path)
    for file in files:
        _inspect(file, settings, synonyms, [source], general=general)
    files = [f for f in files if f.tables or (f.problems and not f.ignored and not f.of_another_source)]
    _order_days(files)
    with _run(engine, settings.organisation, trigger, dry_run=dry_run) as run_id:
        job = _Job(settings, engine, gate, synonyms, run_id, (first, last), dry_run=dry_run)
        report = _read_files(job, sorted(files, key=lambda f: f.order))
        outcome = SourceOutcome()
        if is_configured(source, settings):
            # After the exports: of a day that both tell, the platform's own word stands.
            outcome = read_source(
                source, first, last, settings=settings, engine=engine, gate=gate, run_id=run_id, dry_run=dry_run,
                progress=progress,
            )  # fmt: skip
            report.files.extend(outcome.reports)
        if not dry_run:
            note_failures(engine, settings.organisation, run_id, source, outcome)
            report.links = link(engine, settings.organisation)
        outcome.raise_failures()
        return report


def _not_known_to_be_apart(
    files: Sequence[_File], source: str, window: Window | None, engine: Engine, organisation: str
) -> list[_File]:
    """Leave out files of which an earlier read, of the same content, says that they hold nothing asked for.

    A workbook or archive may hold tables nobody has read yet, so only plain files are left out by their source.
    """
    t = wh.ingest_file
    single = sa.func.bool_and(sa.and_(t.c.sheet == "", ~t.c.name.contains("/")))
    with engine.connect() as connection:
        query = (
            sa.select(
                t.c.path, t.c.content_sha256, sa.func.min(t.c.first_date), sa.func.max(t.c.last_date), single,
                sa.func.min(t.c.source),
            )
            .where(t.c.organisation == organisation, t.c.path.in_([str(f.path) for f in files]))
            .group_by(t.c.path, t.c.content_sha256)
        )  # fmt: skip
        known = {(path, sha): rest for path, sha, *rest in connection.execute(query)}
    read_before = {path for path, _ in known}
    wanted = []
    for file in files:
        if str(file.path) in read_before:
            with suppress(OSError):
                file.sha256 = _sha256(file.path)
        seen = known.get((str(file.path), file.sha256))
        if seen is not None and seen[2]:
            lo, hi, _, of_source = seen
            if of_source != source or (window and lo is not None and (hi < window[0] or lo > window[1])):
                continue
        wanted.append(file)
    return wanted


def _read_files(job: _Job, files: Sequence[_File]) -> IngestReport:
    folder = job.settings.home_path / "tmp"
    sweep(folder)
    report = IngestReport(job.run_id, job.organisation, job.dry_run)
    for alone, group in itertools.groupby(files, key=_reads_warehouse):
        several = list(group)
        if alone or len(several) == 1:
            for file in several:
                report.files.extend(_load_read(job, _stage_file(job, file, folder)))
        else:
            _read_ahead(job, several, folder, report)
    return report


def _reads_warehouse(file: _File) -> bool:
    """Whether reading a file may depend on what files before it brought: registrations look at events."""
    return any(layout.table not in ("ad_performance", "email_performance") for _, layout in file.tables)


def _read_ahead(job: _Job, files: Sequence[_File], folder: Path, report: IngestReport) -> None:
    """Read the next file's rows while the database takes in the last one's; loads stay in order."""
    abandoned = threading.Event()
    reads: list[_Read] = []

    def staged() -> Iterator[_Read]:
        for file in files:
            reads.append(_stage_file(job, file, folder, abandoned))
            yield reads[-1]

    ahead_of_us = ahead(staged())
    try:
        for read in ahead_of_us:
            report.files.extend(_load_read(job, read))
    finally:
        abandoned.set()
        ahead_of_us.close()
        for read in reads:
            read.rows.close()


def _work(job: _Job, files: Sequence[_File]) -> IngestReport:
    report = _read_files(job, files)
    if not job.dry_run:
        report.links = link(job.engine, job.organisation)
    return report


def draft_mapping(reports: Sequence[FileReport]) -> str:
    """A mapping file to be corrected by hand, for the tables of one file that were read with ``explain``.

    Raises:
        ValueError: nothing was explained, or of several files.
    """
    explained = [r for r in reports if r.explained]
    if len({r.path for r in explained}) != 1:
        raise ValueError("a mapping is drafted for one file with a table in it")
    layouts = {layout.name: layout for layout in all_layouts()}
    return draft(explained[0].path.name, [(r.sheet, layouts.get(r.layout or ""), r.explained) for r in explained])


def quarantine_rows(
    engine: Engine,
    organisation: str,
    *,
    source: str | None = None,
    file: str | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Rows in quarantine, newest run first, in the order of the file.

    Args:
        file: part of the file's name.

    Returns:
        The columns of table ``quarantine``; ``file`` is the name only, ``path`` the whole.
    """
    t = wh.quarantine
    query = (
        sa.select(t).where(t.c.organisation == organisation)
        .order_by(t.c.created_at.desc(), t.c.file, t.c.sheet, t.c.row_number, t.c.column_name, t.c.reason_code)
    )  # fmt: skip
    if source is not None:
        query = query.where(t.c.source == source)
    with engine.connect() as connection:
        rows = [dict(r) for r in connection.execute(query).mappings()]
    for row in rows:
        row["path"] = row["file"]
        row["file"] = os.path.basename(row["file"]) if row["file"] else None  # noqa: PTH119  (text, not a path here)
    chosen = [r for r in rows if file is None or file in (r["file"] or "")]
    return chosen if limit is None else chosen[:limit]
