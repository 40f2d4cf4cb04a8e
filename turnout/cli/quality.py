"""Commands around checks: the night's message, stopped partitions, what somebody vouches for."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from turnout.cli.data import quarantine_app
from turnout.cli.output import JsonFlag, emit_json, err, out
from turnout.cli.session import warehouse

DayOption = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="YYYY-MM-DD.")]

report_app = typer.Typer(help="Messages to the team.", no_args_is_help=True)


@report_app.command("night")
def night(
    day: Annotated[
        datetime | None,
        typer.Option("--date", formats=["%Y-%m-%d"], help="The morning after the night. Default: today."),
    ] = None,
    send: Annotated[
        bool, typer.Option("--send", help="Send it over Slack and e-mail, as the nightly run does.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="With --send: whatever was sent before.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what mattered in a night: from noon to noon, in every source, most important first.

    --send sends it once per channel; again only if there is something new in it.
    """
    from turnout import nightly_report
    from turnout.alerts import NotDelivered
    from turnout.cli.models import today

    with warehouse() as (settings, engine):
        morning = day.date() if day else today(settings.time_zone)
        found = nightly_report.gather(settings, engine, morning)
        title, text = nightly_report.render(found, settings)
        sent = None
        if send:
            try:
                sent = nightly_report.send_nightly_report(settings, morning, force=force)
            except NotDelivered as error:
                err.print(f"[red]not delivered:[/] {escape(str(error))}")
                raise typer.Exit(1) from error
    if as_json:
        emit_json({**found.as_dict(), "title": title, "text": text, "sent": None if sent is None else sent.channels})
        return
    out.print(f"[bold]{escape(title)}[/]")
    out.print(escape(text), highlight=False, soft_wrap=True)
    if sent is not None:
        err.print(f"sent over {', '.join(sent.channels)}" if sent.channels else f"not sent: {sent.reason}")


@quarantine_app.command("stopped")
def stopped(as_json: JsonFlag = False) -> None:
    """List the partitions that were stopped at their last read: the warehouse keeps what it had of them."""
    from turnout.acceptance import stopped_partitions

    with warehouse() as (settings, engine):
        found = stopped_partitions(engine, settings.organisation)
    if as_json:
        emit_json(found)
        return
    if not found:
        out.print("nothing is stopped")
        return
    table = Table(title="stopped partitions")
    for column in ("table", "source", "account", "date", "check", "reason"):
        table.add_column(column, overflow="fold")
    for row in found:
        table.add_row(
            row["table"],
            row["source"],
            row["account"] or "–",
            row["date"] or "whole account",
            row["code"],
            row["reason"],
        )  # fmt: skip
    out.print(table)
    err.print("if the data is right: turnout quarantine accept SOURCE --account ACCOUNT --check CHECK")


@quarantine_app.command("accept")
def accept(
    source: Annotated[str, typer.Argument(help="E.g. google_ads.")],
    check: Annotated[str, typer.Option(help="The check that stopped it, e.g. spend_out_of_proportion.")],
    account: Annotated[str, typer.Option(help="The account, as `turnout quarantine stopped` shows it.")] = "",
    first: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="Only from this day on.")
    ] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Only up to this day.")] = None,
    note: Annotated[str | None, typer.Option(help="Why the data is right.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Vouch for stopped data: from the next read on, this check only warns there.

    Without days, it holds for every stopped day of the account, and for the account as a whole. Read the file, or the
    source, again afterwards. `turnout quarantine accepted` lists and withdraws.
    """
    from turnout.acceptance import accept_partition, stopped_partitions

    with warehouse() as (settings, engine):
        matching = [
            s for s in stopped_partitions(engine, settings.organisation)
            if (s["source"], s["account"], s["code"]) == (source, account, check) and _within(s["date"], first, last)
        ]  # fmt: skip
        if not matching:
            err.print("[red]nothing of that kind is stopped[/]; see `turnout quarantine stopped`")
            raise typer.Exit(1)
        days = [date.fromisoformat(s["date"]) for s in matching if s["date"]]
        is_whole = len(days) < len(matching)  # of a whole account, days say nothing
        keys = [
            accept_partition(
                engine, settings.organisation, table=table, source=source, account=account, code=check,
                first=None if is_whole else min(days), last=None if is_whole else max(days), note=note,
            )
            for table in sorted({s["table"] for s in matching})
        ]  # fmt: skip
    if as_json:
        emit_json({"accepted": keys, "partitions": len(matching)})
        return
    out.print(f"accepted ({', '.join(keys)}); read it again to load it")


def _within(day: str | None, first: datetime | None, last: datetime | None) -> bool:
    if day is None:
        return first is None and last is None
    on = date.fromisoformat(day)
    return (first is None or first.date() <= on) and (last is None or on <= last.date())


@quarantine_app.command("accepted")
def accepted(
    withdraw: Annotated[str | None, typer.Option(help="Key of one that shall stop again.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List what was accepted; --withdraw makes a check stop again."""
    from turnout.acceptance import accepted_partitions, withdraw_acceptance

    with warehouse() as (settings, engine):
        if withdraw is not None and not withdraw_acceptance(engine, settings.organisation, withdraw):
            err.print(f"[red]there is no acceptance {escape(withdraw)}[/]")
            raise typer.Exit(1)
        with engine.connect() as connection:
            found = accepted_partitions(connection, settings.organisation)
    if as_json:
        emit_json(found)
        return
    if not found:
        out.print("nothing is accepted")
        return
    table = Table(title="accepted")
    for column in ("key", "table", "source", "account", "check", "from", "to", "note"):
        table.add_column(column, overflow="fold")
    for one in found:
        table.add_row(
            one.acceptance_id, one.table, one.source, one.account or "–", one.code, str(one.first or "–"),
            str(one.last or "–"), one.note or "",
        )  # fmt: skip
    out.print(table)


def register(app: typer.Typer) -> None:
    app.add_typer(report_app, name="report")
