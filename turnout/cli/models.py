"""Commands around the models: train, list, roll back."""

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


def register(app: typer.Typer) -> None:
    app.command()(train)
    app.add_typer(models_app, name="models")
