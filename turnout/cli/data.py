"""Commands that bring data in and look at it: ingest, totals, quarantine, templates, simulate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from turnout.cli.output import JsonFlag, byte_progress, emit_json, err, out
from turnout.cli.session import warehouse
from turnout.errors import ConfigurationError

DateOption = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])]


def _day(value: datetime | None) -> date | None:
    return value.date() if value else None


def ingest(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files or folders. Default: the inbox of the nightly run.")
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="Platform account of the files, when they do not name one.")
    ] = None,
    event: Annotated[str | None, typer.Option(help="Event a registration list belongs to: name or key.")] = None,
    first: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="Only rows from this day on.")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Only rows up to this day.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, write nothing.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what each column was taken for, why, and some of its values.")
    ] = False,
    mapping: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A mapping file that says what the columns are."),
    ] = None,
    write_mapping: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Draft a mapping file for the file, to correct by hand; reads nothing in."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Read exports and spreadsheets into the warehouse. The kind of file is found from its content, never its name.

    What the headers do not tell is said by a mapping file: FILE.turnout.yaml beside it, --mapping, or
    mappings/*.yaml in the home folder. --explain --write-mapping draft.yaml drafts one.

    Reading a file again replaces what it wrote before: nothing is counted twice. Rows that cannot be used go to the
    quarantine with the reason; `turnout quarantine list` shows them.
    """
    from expectations.gate import make_gate
    from ingestion.api import draft_mapping, ingest_paths

    dry_run = dry_run or write_mapping is not None
    window = (_day(first) or date.min, _day(last) or date.max) if first or last else None
    with warehouse() as (settings, engine):
        targets = paths or [settings.inbox_path]
        total = sum(
            f.stat().st_size
            for p in targets
            if p.exists()
            for f in ([p] if p.is_file() else p.rglob("*"))
            if f.is_file()
        )
        with byte_progress("reading", total, quiet=as_json) as progress, make_gate(settings) as gate:
            report = ingest_paths(
                targets,
                settings=settings,
                engine=engine,
                gate=gate,
                account=account,
                event=event,
                window=window,
                trigger="cli",
                dry_run=dry_run,
                mapping=mapping,
                explain=explain or write_mapping is not None,
                progress=None if progress is None else lambda done: progress.advance(progress.task_ids[0], done),
            )
    if as_json:
        emit_json(report)
    else:
        print_report(report, explain=explain, dry_run=dry_run)
    if write_mapping is not None:
        _write_mapping(write_mapping, report, draft_mapping)
        return
    if report.refused:
        raise typer.Exit(1)


def _write_mapping(path: Path, report: Any, draft_mapping: Callable[[Any], str]) -> None:
    """Write the draft of a mapping; never over a file that exists, for it may have been corrected already."""
    if path.exists():
        raise ConfigurationError(f"{path} exists already; name another file, or remove it first")
    try:
        text = draft_mapping(report.files)
    except ValueError as error:
        raise ConfigurationError(f"{error}; name one file") from error
    path.write_text(text, encoding="utf-8")
    err.print(f"draft written to {path}: correct it, then put it beside the file or use --mapping", highlight=False)


def print_report(report: Any, *, explain: bool, dry_run: bool) -> None:
    table = Table(title="read (dry run, nothing written)" if dry_run else "read")
    for column in ("file", "kind"):
        table.add_column(column)
    for column in ("rows", "loaded", "quarantined", "totals", "blank"):
        table.add_column(column, justify="right")
    for file in report.files:
        table.add_row(
            file.name, file.layout, f"{file.rows_read:,}", f"{file.rows_loaded:,}",
            f"[yellow]{file.rows_quarantined:,}[/]" if file.rows_quarantined else "0",
            f"{file.rows_total:,}", f"{file.rows_blank:,}",
        )  # fmt: skip
    if report.files:
        out.print(table)
    if explain:
        for file in report.files:
            _print_explained(file)
    for file in report.files:
        for warning in file.warnings:
            err.print(f"[yellow]warning:[/] {file.name}: {warning}", highlight=False)
    for problem in report.refused:
        err.print(f"[red]not read:[/] {problem}", highlight=False)
    if any(file.rows_quarantined for file in report.files) and not dry_run:
        err.print("rows in quarantine: see `turnout quarantine list`")


def _print_explained(file: Any) -> None:
    """What each column of a file was taken for, why, and what its cells were read as."""
    if not file.explained:
        return
    kind = (
        f"read as {file.layout}"
        if file.status == "loaded"
        else f"not read; closest to {file.layout or 'nothing known'}"
    )
    encoding = f", {file.encoding}" if file.encoding else ""
    table = Table(title=escape(f"{file.name}: {kind}{encoding}"), title_justify="left")
    for column in ("column", "taken for", "why", "values as read"):
        table.add_column(column, overflow="fold")
    for use in file.explained:
        meaning = {None: "[dim](not used)[/]", "personal": "[dim](personal, dropped)[/]"}.get(use.field, use.field)
        why = use.why
        if not why and use.suggestions:
            why = f"no known header; did you mean {' or '.join(use.suggestions)}?"
        table.add_row(escape(use.column), meaning, escape(why or "no known header"), escape(" | ".join(use.samples)))
    out.print(table)


def totals(as_json: JsonFlag = False) -> None:
    """Does it match the platform's screen? Sums per source and file, as loaded into the warehouse."""
    from ingestion.api import totals as read_totals

    with warehouse() as (settings, engine):
        result = read_totals(engine, settings.organisation)
    if as_json:
        emit_json(result)
        return
    table = Table(title=f"totals of {settings.organisation}")
    for column in ("source", "file"):
        table.add_column(column)
    names = ("rows", "spend", "currency", "impressions", "clicks", "conversions", "registrations", "first", "last")
    for column in names:
        table.add_column(column, justify="right")
    for file, entry in result.items():
        row = entry if isinstance(entry, dict) else entry.model_dump()
        table.add_row(str(row.get("platform", "")), file, *[_figure(row.get(name)) for name in names])
    out.print(table)


def _figure(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, int | float) or hasattr(value, "quantize"):
        return f"{value:,}"
    return str(value)


quarantine_app = typer.Typer(help="Rows that were not loaded, and why.", no_args_is_help=True)


@quarantine_app.command("list")
def quarantine_list(
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    file: Annotated[str | None, typer.Option(help="Only files whose name contains this.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many rows.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List the rows in quarantine: file, row, column, value and the reason."""
    from ingestion.api import quarantine_rows

    with warehouse() as (settings, engine):
        rows = quarantine_rows(engine, settings.organisation, source=source, file=file, limit=limit)
    if as_json:
        emit_json(rows)
        return
    if not rows:
        out.print("nothing in quarantine")
        return
    table = Table(title="quarantine")
    for column in ("file", "row", "column", "value", "reason"):
        table.add_column(column, overflow="fold")
    for row in rows:
        place = f"{row['file'] or '–'}" + (f" [{row['sheet']}]" if row.get("sheet") else "")
        table.add_row(
            place, str(row["row_number"] or "–"), row["column_name"] or "–", row["value"] or "–", row["reason"]
        )
    out.print(table)
    if len(rows) == limit:
        err.print(f"the first {limit} rows; --limit shows more")


def templates(
    folder: Annotated[Path, typer.Argument(help="Where to write them.")] = Path("templates"),
    language: Annotated[Literal["ja", "en"] | None, typer.Option(help="Headers and notes in this language.")] = None,
    kind: Annotated[Literal["xlsx", "csv"], typer.Option(help="File format.")] = "xlsx",
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")] = False,
) -> None:
    """Write spreadsheets to fill in: events, tactic results, paid media, insights, registrations."""
    from ingestion.templates import write_templates
    from turnout.settings import load_settings

    for path in write_templates(folder, language=language or load_settings().language, kind=kind, force=force):
        out.print(str(path), highlight=False, soft_wrap=True)


def simulate(
    folder: Annotated[Path, typer.Argument(help="Gets inbox/ (the files) and truth/ (for evaluation only).")],
    events: Annotated[int, typer.Option(min=1, help="Number of events.")] = 160,
    organisers: Annotated[int, typer.Option(min=1, help="Number of organisers.")] = 3,
    months: Annotated[int, typer.Option(min=3, help="Months of history.")] = 24,
    until: DateOption = None,
    seed: Annotated[int, typer.Option(help="Same seed, same files.")] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Write the files a simulated world of organisers would hand in. Always labelled as simulated."""
    from turnout.cli.output import Steps
    from turnout.simulation import simulate as run_simulation

    with Steps(quiet=as_json).step("simulate"):
        summary = run_simulation(
            folder, seed=seed, events=events, organisers=organisers, months=months, until=_day(until)
        )
    if as_json:
        emit_json(summary)
    else:
        out.print(f"simulated history in {folder}/inbox, its truth in {folder}/truth", highlight=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    app.command()(ingest)
    app.command()(totals)
    app.add_typer(quarantine_app, name="quarantine")
    app.command()(templates)
    app.command()(simulate)
