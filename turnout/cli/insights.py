"""Commands around insights (知見): add, list, remove, undo, import, check."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer
from rich.table import Table
from rich.text import Text

from turnout.cli.output import JsonFlag, emit_json, out
from turnout.cli.session import warehouse

if TYPE_CHECKING:
    from turnout.insight_check import Verdict
    from turnout.insights import Insight

insights_app = typer.Typer(
    help="Insights (知見): your rules of thumb, shown where they apply and checked against your history.",
    no_args_is_help=True,
)
_DAY = ["%Y-%m-%d"]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, store nothing.")]

_HEADINGS: Final[dict[Literal["ja", "en"], tuple[str, ...]]] = {
    "en": ("id", "insight", "impact", "confidence", "applies to", "verdict"),
    "ja": ("ID", "知見", "影響度", "確信度", "適用範囲", "検証結果"),
}
_STYLE: Final = {"supported": "green", "contradicted": "red", "untested": "dim"}


@insights_app.command("add")
def insights_add(
    text: Annotated[str, typer.Argument(help="The rule, in one sentence.")],
    impact: Annotated[str | None, typer.Option(help="+20%, 10-20%, 1.2x, or high, medium, low (高, 中, 低).")] = None,
    confidence: Annotated[str | None, typer.Option(help="high, medium or low (高, 中, 低).")] = None,
    where: Annotated[
        str | None,
        typer.Option(
            help="Where it applies: tactics, categories, formats, audiences, months, weekdays of the event, paid or"
            " free, 'organiser: name'; separated by commas or ・. Default: everywhere."
        ),
    ] = None,
    direction: Annotated[str | None, typer.Option(help="up or down. Default: read from the words.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="registrations, show_up or other. Default: read from the words.")
    ] = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Add a rule, or correct its impact and confidence: words and place say which rule it is."""
    from ingestion.insights import make_insight
    from turnout import insight_store

    rule = make_insight(
        text, impact=impact, confidence=confidence, applies_to=where, direction=direction, metric=metric
    )
    with warehouse() as (settings, engine), engine.connect() as connection, connection.begin() as transaction:
        change = insight_store.save(connection, settings.organisation, [rule], time_zone=settings.time_zone)
        if dry_run:
            transaction.rollback()
    _tell(change, as_json, dry_run=dry_run)
    if not as_json and rule.scope.unknown:
        words = ", ".join(rule.scope.unknown)
        out.print(f"not understood, so it cannot be checked: {words}", highlight=False, markup=False)


@insights_app.command("list")
def insights_list(as_json: JsonFlag = False) -> None:
    """Every rule, how it is understood, and the last verdict on it."""
    from turnout import insight_store

    with warehouse() as (settings, engine), engine.connect() as connection:
        rules = insight_store.read(connection, settings.organisation)
        verdicts = insight_store.read_verdicts(connection, settings.organisation)
    found = [(rule, verdicts.get(rule.insight_id)) for rule in rules]
    if as_json:
        emit_json([_as_dict(rule, verdict) for rule, verdict in found])
    elif not found:
        out.print("no insight yet: `turnout insights add --help` says how to add one")
    else:
        out.print(_table(found, settings.language))


@insights_app.command("remove")
def insights_remove(
    insights: Annotated[list[str], typer.Argument(help="Ids, or words that only one insight has.")],
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Take rules out, also those of a sheet: reading it again does not bring them back. `undo` does."""
    from turnout import insight_store

    with warehouse() as (settings, engine), engine.connect() as connection, connection.begin() as transaction:
        change = insight_store.remove(connection, settings.organisation, insights)
        if dry_run:
            transaction.rollback()
    _tell(change, as_json, dry_run=dry_run)


@insights_app.command("undo")
def insights_undo(as_json: JsonFlag = False) -> None:
    """Take the last add, remove or import back; once more, the one before it."""
    from turnout import insight_store

    with warehouse() as (settings, engine), engine.begin() as connection:
        change = insight_store.undo(connection, settings.organisation)
    _tell(change, as_json)


@insights_app.command("import")
def insights_import(
    file: Annotated[Path, typer.Argument(help="CSV or XLSX, one row per insight; columns as in docs/analyst.md.")],
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Read rules from a file. All of it or nothing; every defect is named with row and column."""
    from ingestion.insights import import_insights

    with warehouse() as (settings, engine):
        change = import_insights(
            engine, settings.organisation, file, time_zone=settings.time_zone, home=settings.home_path, dry_run=dry_run
        )
    _tell(change, as_json, dry_run=dry_run)


@insights_app.command("check")
def insights_check(
    as_of: Annotated[
        datetime | None, typer.Option("--as-of", formats=_DAY, help="Only events before this day. Default: today.")
    ] = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Hold every rule against your own history: supported, contradicted or untested, with the numbers."""
    from training.insights import check_insights
    from turnout import insight_store
    from turnout.insight_check import caution

    with warehouse() as (settings, engine):
        day = as_of.date() if as_of else datetime.now(settings.zone).date()
        found = check_insights(settings, day, engine=engine)
        if not dry_run:
            with engine.begin() as connection:
                insight_store.save_verdicts(connection, settings.organisation, day, [v for _, v in found])
    verdicts = [verdict for _, verdict in found]
    warning = caution(verdicts, settings.language)
    if as_json:
        emit_json({
            "as_of": day, "insights": [_as_dict(rule, verdict) for rule, verdict in found], "caution": warning,
        })  # fmt: skip
        return
    if not found:
        out.print("no insight yet: `turnout insights add --help` says how to add one")
        return
    for rule, verdict in found:
        out.print(Text(rule.text, style="bold"))
        out.print(Text(f"  {verdict.sentence(settings.language)}", style=_STYLE[verdict.verdict]))
    if warning:
        out.print(Text(f"\n{warning}", style="yellow"))


def _as_dict(rule: Insight, verdict: Verdict | None) -> dict[str, Any]:
    return {
        "insight_id": rule.insight_id, "text": rule.text, "impact": rule.impact, "confidence": rule.confidence,
        "applies_to": dict(rule.applies_to), "source": rule.source, "metric": rule.about, "claim": rule.claim,
        "not_understood": list(rule.scope.unknown), "verdict": verdict,
    }  # fmt: skip


def _table(found: list[tuple[Insight, Verdict | None]], language: Literal["ja", "en"]) -> Table:
    table = Table()
    for heading in _HEADINGS[language]:
        table.add_column(heading, overflow="fold")
    for rule, verdict in found:
        claim = rule.claim
        claimed = f"{rule.impact or '–'}"
        if claim.low is not None and claim.high is not None:
            claimed += f" (×{claim.low:.2f}–{claim.high:.2f})"
        table.add_row(
            rule.insight_id,
            Text(rule.text),
            Text(claimed),
            Text(rule.confidence or "–"),
            Text(str(rule.applies_to.get("as_written") or "–")),
            Text(verdict.sentence(language), style=_STYLE[verdict.verdict]) if verdict else Text("–", style="dim"),
        )
    return table


def _tell(change: Any, as_json: bool, *, dry_run: bool = False) -> None:
    if as_json:
        emit_json(change.as_dict())
        return
    said = ", ".join(f"{len(ids)} {verb} ({', '.join(ids)})" for verb, ids in change.as_dict().items() if ids)
    ending = " (dry run: nothing was stored)" if dry_run else ""
    out.print(f"insights: {said or 'nothing changed'}{ending}", highlight=False, markup=False)


def register(app: typer.Typer) -> None:
    app.add_typer(insights_app, name="insights")
