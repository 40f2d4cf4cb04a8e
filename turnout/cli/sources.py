"""Commands about where data comes from: sources list, check, read."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from turnout.cli.output import JsonFlag, emit_json, err, out
from turnout.cli.session import warehouse

sources_app = typer.Typer(
    help="Where data comes from: exports in the inbox, and platforms asked through their APIs.", no_args_is_help=True
)

_MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "missing": "[dim]–[/]", "failed": "[red]✗[/]"}


@sources_app.command("list")
def list_sources(as_json: JsonFlag = False) -> None:
    """Every source: whether its API is set up, how far back each night reads, and the newest day there is."""
    from ingestion.sources import source_states

    with warehouse() as (settings, engine):
        states = source_states(settings, engine)
    if as_json:
        emit_json([asdict(s) for s in states])
        return
    table = Table(title=f"sources of {settings.organisation}")
    for column in ("source", "API", "accounts"):
        table.add_column(column)
    for column in ("window", "rows", "first day", "newest day", "last read"):
        table.add_column(column, justify="right")
    for state in states:
        table.add_row(
            state.source,
            {True: "[green]set up[/]", False: "exports only", None: "files"}[state.has_api],
            ", ".join(state.accounts) or "–",
            f"{state.lookback_days} d",
            f"{state.rows:,}",
            str(state.first or "–"),
            str(state.last or "–"),
            f"{state.read_at.astimezone(settings.zone):%Y-%m-%d %H:%M}" if state.read_at else "never",
        )
    out.print(table)


@sources_app.command("check")
def check_sources(
    names: Annotated[list[str] | None, typer.Argument(help="Only these sources. Default: all with an API.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask each platform whether Turnout may read it, step by step, and say what is missing.

    Nothing is written. Exit code 1 if a source that is set up fails. Credentials come from the environment or `.env`
    (`TURNOUT_<SOURCE>__…`); those kept as Airflow connections are checked by the DAG `check_sources`.
    """
    from ingestion.connectors.check import check_source, connected_sources
    from turnout.settings import load_settings

    settings = load_settings()
    known = connected_sources()
    for name in names or []:
        if name not in known:
            raise typer.BadParameter(f"{name!r} has no API; choose from {', '.join(known)}")
    results: dict[str, list[Any]] = {}
    for name in names or known:
        with _spinner(f"asking {name}", quiet=as_json):
            results[name] = list(check_source(name, settings))
    if as_json:
        emit_json({name: [asdict(c) for c in checks] for name, checks in results.items()})
    else:
        for name, checks in results.items():
            out.print(f"[bold]{name}[/]")
            for check in checks:
                out.print(f"  {_MARKS[check.status]} {check.what}: {check.message}", highlight=False)
    if any(c.status == "failed" for checks in results.values() for c in checks):
        raise typer.Exit(1)


@sources_app.command("read")
def read(
    source: Annotated[str, typer.Argument(help="E.g. google_ads; see `turnout sources list`.")],
    first: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day. Default: the source's window.")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day. Default: today.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, write nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Read one source now, as the night would: its exports in the inbox, then its API.

    Days are replaced, never added to; reading twice leaves the same data.
    """
    from expectations.gate import make_gate
    from ingestion.api import ingest_source
    from turnout.cli.data import print_report

    with warehouse() as (settings, engine):
        until = last.date() if last else datetime.now(settings.zone).date()
        since = first.date() if first else _window_start(settings.lookback_days, source, until)
        with _spinner(f"reading {source} {since} to {until}", quiet=as_json), make_gate(settings) as gate:
            try:
                report = ingest_source(
                    source, since, until, settings=settings, engine=engine, gate=gate, trigger="cli", dry_run=dry_run
                )
            except ValueError as error:
                raise typer.BadParameter(str(error)) from error
    if as_json:
        emit_json(report)
    else:
        print_report(report, explain=False, dry_run=dry_run)
    if report.refused:
        raise typer.Exit(1)


def _window_start(lookback_days: dict[str, int], source: str, until: date) -> date:
    if source not in lookback_days:
        raise typer.BadParameter(f"unknown source {source!r}; known are {', '.join(lookback_days)}")
    return until - timedelta(days=lookback_days[source])


def _spinner(text: str, *, quiet: bool) -> Progress:
    """A running clock on a terminal; nothing else when ``quiet``."""
    progress = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=err, transient=True,
        disable=quiet or not err.is_terminal,
    )  # fmt: skip
    progress.add_task(text)
    return progress


def register(app: typer.Typer) -> None:
    app.add_typer(sources_app, name="sources")
