"""`turnout reconcile`: platforms' claims beside registrations, and the warehouse beside a platform's screen."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from turnout.cli.output import JsonFlag, emit_json, err, out
from turnout.cli.session import warehouse

#: Without dates, `turnout reconcile` shows events of so many days back, and those to come.
SHOWN_DAYS = 120


def reconcile(
    event: Annotated[
        str | None, typer.Argument(help="One event in full: name, code or key. Default: a summary.")
    ] = None,
    first: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="Only events from this day on.")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Only events up to this day.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help=f"Not only events of the last {SHOWN_DAYS} days.")] = False,
    totals: Annotated[
        Path | None,
        typer.Option(
            help="Compare with totals typed from a platform's screen, or with an export, which is not loaded."
        ),
    ] = None,
    account: Annotated[str | None, typer.Option(help="With --totals: account of an export that names none.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare what platforms claim with who registered, event by event.

    What is counted never adds up past the registrations there are: where the registration system knows where people
    came from, it decides; claims only fill what nobody else speaks of, scaled down to what is left.

    With --totals, exit code 1 says that a figure differs.
    """
    if totals is not None:
        _screen(totals, account, as_json=as_json)
        return
    from ingestion.linking import Events
    from ingestion.mapping import find_event
    from turnout.cli.models import today
    from turnout.warehouse.reconciliation import reconcile as compare

    with warehouse() as (settings, engine):
        wanted = None
        if event is not None:
            with engine.connect() as connection:
                wanted = [find_event(Events.load(connection, settings.organisation), event).event_id]
        since = first.date() if first else None
        if not (first or last or everything or event):
            since = today(settings.time_zone) - timedelta(days=SHOWN_DAYS)
        result = compare(
            engine, settings.organisation, currency=settings.currency, events=wanted, first=since,
            last=last.date() if last else None,
        )  # fmt: skip
    if as_json:
        emit_json(_plain(result, settings.language))
        return
    if event is not None:
        for one in result.events:
            print_event(one, result.currency, settings.language)
        return
    _print_summary(result, settings.language)
    if not result.events and not everything:
        err.print("--all shows events of any day")


def _plain(result: Any, language: Any) -> dict[str, Any]:
    """The result as plain values, with the remarks in words."""
    from dataclasses import asdict

    from turnout.warehouse.reconciliation import words

    plain = asdict(result)
    for event, shown in zip(result.events, plain["events"], strict=True):
        for remark, said in zip(event.remarks, shown["remarks"], strict=True):
            said["text"] = words(remark, language)
    for overlap, shown in zip(result.overlaps, plain["overlaps"], strict=True):
        shown |= {"is_double": overlap.is_double, "is_suspect": overlap.is_suspect}
    return plain


def _print_summary(result: Any, language: Any) -> None:
    from turnout.cli.mapping import print_overlaps
    from turnout.warehouse.reconciliation import figure, standing_words, words

    table = Table(title="claims and registrations")
    table.add_column("event", overflow="fold")
    table.add_column("date", no_wrap=True)
    for column in ("registered", "claimed", "ratio", "counted", f"spend {result.currency}", "sheet"):
        table.add_column(column, justify="right")
    table.add_column("checked against")
    for event in result.events:
        ratio = "–" if event.ratio is None else f"{event.ratio:.2f}"
        standing = standing_words(event.standing, language)
        table.add_row(
            escape(event.name), str(event.event_date), figure(event.registrations), figure(event.claimed),
            f"[red]{ratio}[/]" if event.ratio is not None and event.ratio > 1 else ratio, figure(event.counted),
            figure(event.spend_platform), figure(event.spend_sheet),
            f"[yellow]{standing}[/]" if event.standing == "unverified" else standing,
        )  # fmt: skip
    if result.events:
        out.print(table)
        for event in result.events:
            for remark in event.remarks:
                if remark.severity == "warning":
                    out.print(f"[yellow]![/] {escape(event.name)}: {escape(words(remark, language))}", highlight=False)
    else:
        out.print("no events with claims or results in these days")
    for one in result.unmapped:
        out.print(
            f"in no event: {one.campaigns} campaigns of {one.source}, {figure(one.spend)} {result.currency} spent, "
            f"{figure(one.claimed)} claimed (`turnout map list --unmapped`)",
            highlight=False,
        )
    print_overlaps(result.overlaps)


def print_event(event: Any, currency: str, language: Any) -> None:
    """One event in full."""
    from turnout.warehouse.reconciliation import basis_words, figure, standing_words, words

    out.print(
        f"\n[bold]{escape(event.name)}[/], {event.event_date}: {figure(event.registrations)} registrations "
        f"({basis_words(event.basis, language)}), claims: {standing_words(event.standing, language)}",
        highlight=False,
    )
    if event.is_simulated:
        out.print("[yellow]simulated[/]")
    table = Table()
    table.add_column("tactic", overflow="fold")
    table.add_column("platform's words", overflow="fold")
    for column in ("claimed", "registration system", "counted"):
        table.add_column(column, justify="right")
    table.add_column("basis", overflow="fold")
    for column in ("difference", f"platform {currency}", f"sheet {currency}"):
        table.add_column(column, justify="right")
    for tactic in event.tactics:
        table.add_row(
            tactic.tactic_id or "[yellow]no tactic[/]", "\n".join(_claim(c) for c in tactic.claims) or "–",
            figure(tactic.claimed), figure(tactic.listed), figure(tactic.counted), basis_words(tactic.basis, language),
            figure(tactic.difference), figure(tactic.spend_platform), figure(tactic.spend_sheet),
        )  # fmt: skip
    table.add_section()
    difference = None if event.claimed is None or event.counted is None else event.claimed - event.counted
    table.add_row(
        "total", "" if event.ratio is None else f"claims are {event.ratio:.2f} of registrations", figure(event.claimed),
        figure(event.registrations), figure(event.counted), "", figure(difference), figure(event.spend_platform),
        figure(event.spend_sheet),
    )  # fmt: skip
    out.print(table)
    for remark in event.remarks:
        mark = "[yellow]![/]" if remark.severity == "warning" else "·"
        out.print(f"{mark} {escape(words(remark, language))}", highlight=False)


def _claim(claim: Any) -> str:
    from turnout.warehouse.reconciliation import figure

    said = [
        f"{figure(value)} {name}"
        for name, value in (
            ("registrations", claim.registrations), ("leads", claim.leads), ("conversions", claim.conversions)
        )
        if value is not None
    ]  # fmt: skip
    return f"{claim.source}: {', '.join(said) or 'nothing claimed'}"


def _screen(path: Path, account: str | None, *, as_json: bool) -> None:
    from ingestion.screen import compare_with_screen

    with warehouse() as (settings, engine):
        lines = compare_with_screen(engine, settings, path, account=account)
    if as_json:
        emit_json({"matches": not any(line.differing for line in lines), "lines": lines})
    else:
        _print_screen(lines)
    if any(line.differing for line in lines):
        raise typer.Exit(1)


def _print_screen(lines: Any) -> None:
    table = Table(title="screen and warehouse")
    for column in ("where", "of"):
        table.add_column(column, overflow="fold")
    table.add_column("figure")
    for column in ("says", "against", "difference"):
        table.add_column(column, justify="right")
    for line in lines:
        days = f"{line.first} – {line.last}" if line.first else ""
        of = ", ".join(str(p) for p in (line.source, line.account, line.campaign, days) if p)
        for name, (stated, found) in line.figures.items():
            unit = f" {line.currency}" if name == "spend" and line.currency else ""
            difference = "–" if found is None else _digits(found - stated, sign=True) if name in line.differing else "0"
            colour = "[red]" if name in line.differing else "[green]"
            table.add_row(
                escape(line.place), escape(of), name + unit, _digits(stated), _digits(found),
                f"{colour}{difference}[/]",
            )  # fmt: skip
        for note in line.notes:
            table.add_row(escape(line.place), escape(of), f"[dim]{escape(note)}[/]", "", "", "")
    out.print(table)


def _digits(value: Any, *, sign: bool = False) -> str:
    """A decimal with all its digits and no idle zeros."""
    if value is None:
        return "–"
    plain = value.normalize() + 0
    return f"{plain:+,f}" if sign else f"{plain:,f}"


def register(app: typer.Typer) -> None:
    app.command()(reconcile)
