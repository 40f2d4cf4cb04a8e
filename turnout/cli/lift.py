"""Commands around lift tests: add, list, remove, undo, import."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from turnout.cli.output import JsonFlag, emit_json, out
from turnout.cli.session import warehouse

lift_app = typer.Typer(
    help="Lift tests: a tactic kept from half of a list or from a region. They calibrate what training believes of it.",
    no_args_is_help=True,
)
_DAY = ["%Y-%m-%d"]


@lift_app.command("add")
def lift_add(
    tactic: Annotated[str, typer.Argument(help="Tactic, by id or any of its names.")],
    treated: Annotated[str, typer.Option(help="Treated group as REGISTRATIONS/UNITS, e.g. 84/5000.")],
    control: Annotated[str, typer.Option(help="Control group, likewise.")],
    event: Annotated[str | None, typer.Option(help="Event it ran for: name, code or id.")] = None,
    first: Annotated[
        datetime | None, typer.Option("--from", formats=_DAY, help="First day, where it ran by period.")
    ] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=_DAY, help="Last day.")] = None,
    split: Annotated[str, typer.Option(help="list (people by lot) or region.")] = "list",
    spend: Annotated[str | None, typer.Option(help="Spent on the treated group, e.g. 120000 or '800 USD'.")] = None,
    hours: Annotated[float | None, typer.Option(help="Staff hours on the treated group, of free tactics.")] = None,
    category: Annotated[str | None, typer.Option(help="Event category. Default: the event's.")] = None,
    name: Annotated[str | None, typer.Option(help="Tells tests of one tactic and time apart.")] = None,
    notes: Annotated[str | None, typer.Option()] = None,
    as_json: JsonFlag = False,
) -> None:
    """Add a test, or correct its figures. Registrations are everybody's in the group, whatever their origin."""
    from ingestion.lift_tests import make_test
    from ingestion.linking import Events
    from ingestion.values import CellError, parse_money
    from turnout import lift
    from turnout.money import Rates

    y_t, n_t = _group(treated, "--treated")
    y_c, n_c = _group(control, "--control")
    if split not in lift.SPLITS:
        raise typer.BadParameter(f"{split!r} is no split; choose from {', '.join(lift.SPLITS)}", param_hint="--split")
    try:
        money = parse_money(spend) if spend else None
    except CellError as error:
        raise typer.BadParameter(error.message, param_hint="--spend") from error
    with warehouse() as (settings, engine), engine.begin() as connection:
        organisation = settings.organisation
        test = make_test(
            connection, organisation, Events.load(connection, organisation), tactic=tactic, name=name, split=split,
            event=event, category=category, first_date=first.date() if first else None,
            last_date=last.date() if last else None, treated_units=n_t, control_units=n_c,
            treated_registrations=y_t, control_registrations=y_c, spend=money, staff_hours=hours, notes=notes,
        )  # fmt: skip
        change = lift.save(connection, organisation, [test], Rates.of(settings))
        found = lift.measure(test)
        key = test.test_id(organisation)
    if as_json:
        emit_json({"test_id": key, "change": change, "lift": found})
        return
    verb = "added" if change.added else "corrected" if change.changed else "was there already"
    out.print(f"{key} {verb}: {_said(found)}", highlight=False)


def _group(text: str, option: str) -> tuple[int, float]:
    registrations, _, units = text.replace(",", "").partition("/")
    try:
        return int(registrations), float(units)
    except ValueError as error:
        message = f"{text!r} is not REGISTRATIONS/UNITS, e.g. 84/5000"
        raise typer.BadParameter(message, param_hint=option) from error


def _said(found: Any) -> str:
    relative = f" ({found.relative:+.0%})" if found.relative is not None else ""
    return (
        f"{found.incremental:.0f} registrations caused{relative}, 90 % interval {found.low:.0f} to {found.high:.0f}, "
        f"brings somebody with {found.probability:.0%} certainty"
    )


@lift_app.command("list")
def lift_list(as_json: JsonFlag = False) -> None:
    """Every test with its lift and interval."""
    from turnout import lift

    with warehouse() as (settings, engine), engine.connect() as connection:
        tests = lift.read(connection, settings.organisation)
    if as_json:
        emit_json(tests)
        return
    if not tests:
        out.print("no lift test yet: `turnout lift add --help` says how to add one")
        return
    table = Table(title="lift tests")
    for column in ("id", "name", "tactic", "period"):
        table.add_column(column, overflow="fold")
    for column in ("treated", "control", "caused", "90 % interval", "lift", "cost each"):
        table.add_column(column, justify="right")
    for one in tests:
        test, found = one.test, one.lift
        cost = found.cost_per_registration
        table.add_row(
            one.test_id, test.name, test.tactic_id, f"{test.first_date} – {test.last_date}",
            f"{test.treated_registrations}/{test.treated_units:g}",
            f"{test.control_registrations}/{test.control_units:g}",
            f"{found.incremental:.0f}", f"{found.low:.0f} … {found.high:.0f}",
            "–" if found.relative is None else f"{found.relative:+.0%}",
            "–" if cost is None else f"{cost:,.0f} {test.currency}",
        )  # fmt: skip
    out.print(table)


@lift_app.command("remove")
def lift_remove(tests: Annotated[list[str], typer.Argument(help="Ids or names.")], as_json: JsonFlag = False) -> None:
    """Take tests out. `turnout lift undo` brings them back."""
    from turnout import lift

    with warehouse() as (settings, engine), engine.begin() as connection:
        change = lift.remove(connection, settings.organisation, tests)
    _tell(change, as_json)


@lift_app.command("undo")
def lift_undo(as_json: JsonFlag = False) -> None:
    """Take the last add, remove or import back; once more, the one before it."""
    from turnout import lift

    with warehouse() as (settings, engine), engine.begin() as connection:
        change = lift.undo(connection, settings.organisation)
    _tell(change, as_json)


@lift_app.command("import")
def lift_import(
    file: Annotated[Path, typer.Argument(help="CSV or XLSX, one row per test; see docs/analyst.md.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, store nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Read tests from a file. All of it or nothing; every defect is named with row and column."""
    from ingestion.lift_tests import import_tests
    from turnout.money import Rates

    with warehouse() as (settings, engine):
        change = import_tests(engine, settings.organisation, file, Rates.of(settings), dry_run=dry_run)
    _tell(change, as_json, dry_run=dry_run)


def _tell(change: Any, as_json: bool, *, dry_run: bool = False) -> None:
    if as_json:
        emit_json(change.as_dict())
        return
    said = ", ".join(f"{len(ids)} {verb}" for verb, ids in change.as_dict().items() if ids) or "nothing changed"
    out.print(f"lift tests: {said}{' (dry run: nothing was stored)' if dry_run else ''}", highlight=False)


def register(app: typer.Typer) -> None:
    app.add_typer(lift_app, name="lift")
