"""Commands around the models: train, list, compare, promote, roll back, monitor, A/B."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

import typer
from rich.table import Table

from turnout.cli.output import JsonFlag, Steps, emit_json, out
from turnout.cli.session import warehouse


def train(
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Learn only from what was known before this day. Default: today."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Retrain both models on the warehouse's history, and promote what is better beyond noise.

    Uses the features as they are; `turnout pipeline run` refreshes them first.
    """
    from training.api import retrain

    with warehouse() as (settings, _), Steps(quiet=as_json).step("train"):
        report = retrain(settings, until.date() if until else today(settings.time_zone))
    if as_json:
        emit_json(report)
        return
    for model in report.models:
        verdict = "promoted" if model.promoted else "not promoted"
        out.print(f"[bold]{model.name}[/] version {model.version}: {verdict}", highlight=False)
        for reason in model.reasons:
            out.print(f"  {reason}", highlight=False)


def today(time_zone: str) -> date:
    """The calendar day in ``time_zone``."""
    from zoneinfo import ZoneInfo

    return datetime.now(ZoneInfo(time_zone)).date()


models_app = typer.Typer(help="Registered models: versions, metrics, aliases.", no_args_is_help=True)


@models_app.command("list")
def models_list(as_json: JsonFlag = False) -> None:
    """Every registered version with its aliases, data window and metrics on later events."""
    from training.api import list_models

    with warehouse() as (settings, _):
        rows = list_models(settings)
    if as_json:
        emit_json(rows)
        return
    if not rows:
        out.print("no model yet: `turnout pipeline run` or `turnout train` makes one")
        return
    table = Table(title="models")
    for column in ("model", "version", "alias", "trained until", "events", "metrics on later events", "code"):
        table.add_column(column, overflow="fold")
    for row in rows:
        metrics = ", ".join(f"{name} {value:.3g}" for name, value in sorted(row.metrics.items()))
        table.add_row(
            row.name, row.version, ", ".join(row.aliases) or "–", str(row.trained_until or "–"), str(row.events),
            metrics or "–", row.code_version,
        )  # fmt: skip
    out.print(table)


@models_app.command("rollback")
def models_rollback(
    name: Annotated[str, typer.Argument(help="turnout-response or turnout-demand.")],
    to: Annotated[str | None, typer.Option(help="A version. Default: the champion before this one.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Move the champion alias back. A running service notices by itself."""
    from training.api import rollback

    with warehouse() as (settings, _):
        version = rollback(settings, name, to=to)
    if as_json:
        emit_json({"name": name, "champion": version})
    else:
        out.print(f"{name}: version {version} is champion again", highlight=False)


@models_app.command("promote")
def models_promote(
    name: Annotated[str, typer.Argument(help="turnout-response or turnout-demand.")],
    version: Annotated[str, typer.Argument(help="The version that shall serve.")],
    as_json: JsonFlag = False,
) -> None:
    """Make a version champion by hand. It must be sane; whether it is better is your word."""
    from training.api import promote

    with warehouse() as (settings, _):
        promote(settings, name, version)
    if as_json:
        emit_json({"name": name, "champion": version})
    else:
        out.print(f"{name}: version {version} is champion", highlight=False)


@models_app.command("compare")
def models_compare(
    name: Annotated[str, typer.Argument(help="turnout-response or turnout-demand.")] = "turnout-response",
    challenger: Annotated[str | None, typer.Option(help="A version. Default: the challenger.")] = None,
    champion: Annotated[str | None, typer.Option(help="A version. Default: the champion.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Both versions on the same later events, that neither was fitted to, by segment, with the verdict."""
    from training.promotion import compare_versions

    with warehouse() as (settings, _), Steps(quiet=as_json).step("compare"):
        found = compare_versions(settings, name, challenger, champion)
    if as_json:
        emit_json(found)
        return
    title = f"{name}: version {found.challenger} against version {found.champion}"
    table = Table(title=f"{title}, {found.test.events} events ({found.basis})")
    table.add_column("segment")
    for column in ("events", "WAPE", "was", "bias", "was", "in 90 %", "was", "loss lower by", "interval", "verdict"):
        table.add_column(column, justify="right")
    whole = [("all", found.test, found.champion_side, found.challenger_side, found.verdict)]
    parts = [(s.segment_id, s.test, s.champion, s.challenger, s.verdict) for s in found.by_segment]
    for segment, test, old, new, verdict in [*whole, *parts]:
        if old is None or new is None:
            continue
        table.add_row(
            segment, str(test.events), _percent(new.wape), _percent(old.wape), _percent(new.bias, sign=True),
            _percent(old.bias, sign=True), _percent(new.coverage_90), _percent(old.coverage_90),
            _percent(test.gain, sign=True), f"{test.low:+.1%} … {test.high:+.1%}", verdict.replace("_", " "),
        )  # fmt: skip
    out.print(table)
    for note in found.notes:
        out.print(note, highlight=False)


def _percent(value: float | None, *, sign: bool = False) -> str:
    return "–" if value is None else f"{value:+.1%}" if sign else f"{value:.1%}"


@models_app.command("monitor")
def models_monitor(
    stored: Annotated[
        bool, typer.Option("--stored", help="Show what the last night measured, measure nothing.")
    ] = False,
    window: Annotated[int, typer.Option(help="Days of events: 28, 90 or 365.")] = 90,
    as_json: JsonFlag = False,
) -> None:
    """How predictions turned out: error, bias, coverage and drift, per segment. Stored, and told where it alarms."""
    from training import monitoring
    from turnout.model_news import DRIFT_DAYS

    with warehouse() as (settings, engine):
        if not stored:
            monitoring.observe(settings, today(settings.time_zone), engine=engine)
        day, rows = monitoring.latest(settings, engine=engine)
    if as_json:
        emit_json({"as_of": day, "organisation": settings.organisation, "rows": rows})
        return
    table = Table(title=f"predictions against outcomes, as of {day}")
    for column in ("segment", "version", "metric", "of"):
        table.add_column(column)
    for column in ("value", "judged against", "events", "status"):
        table.add_column(column, justify="right")
    for row in rows:
        if row.window_days not in (window, DRIFT_DAYS) or (row.window_days != window and not row.subject):
            continue
        table.add_row(
            row.segment_id or "all", row.model_version or "any", row.metric, row.subject,
            "–" if row.value is None else f"{row.value:.3g}",
            "–" if row.reference is None else f"{row.reference:.3g}", str(row.evidence), row.status.replace("_", " "),
        )  # fmt: skip
    out.print(table)


@models_app.command("ab")
def models_ab(
    champion: Annotated[str | None, typer.Option(help="A version. Default: the champion.")] = None,
    challenger: Annotated[str | None, typer.Option(help="A version. Default: the challenger.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Champion and challenger on the events each has planned, and whether the difference is real.

    `TURNOUT_CHALLENGER_SHARE` sets the share of events that the challenger plans. Look as often as you like: the test
    stays valid.
    """
    from training.abtest import report

    with warehouse() as (settings, engine):
        found = report(
            settings, today(settings.time_zone), champion=champion, challenger=challenger, engine=engine
        )  # fmt: skip
    if as_json:
        emit_json(found)
        return
    if found.measures:
        table = Table(title=f"version {found.challenger} (challenger) against version {found.champion} (champion)")
        table.add_column("measure")
        for column in (
            "champion",
            "events",
            "challenger",
            "events",
            "difference",
            "95 % interval",
            "p",
            "events needed",
        ):
            table.add_column(column, justify="right")
        for m in found.measures:
            known = m.difference is not None
            table.add_row(
                m.name, "–" if m.champion is None else f"{m.champion:.3f}", str(m.champion_events),
                "–" if m.challenger is None else f"{m.challenger:.3f}", str(m.challenger_events),
                f"{m.difference:+.3f}" if known else "–", f"{m.low:+.3f} … {m.high:+.3f}" if known else "–",
                f"{m.p:.3f}", "–" if m.needed is None else str(m.needed),
            )  # fmt: skip
        out.print(table)
    out.print(found.verdict, highlight=False)


def register(app: typer.Typer) -> None:
    app.command()(train)
    app.add_typer(models_app, name="models")
