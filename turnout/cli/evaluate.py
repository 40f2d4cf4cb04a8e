"""``turnout evaluate``: how good the predictions and the plans are, with an HTML report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from turnout.cli.models import today
from turnout.cli.output import JsonFlag, emit_json, err, out
from turnout.cli.session import warehouse
from turnout.cli.worlds import Progress as Say
from turnout.errors import InputError, Problem
from turnout.settings import Settings, load_settings

if TYPE_CHECKING:
    from training.dataset import Dataset
    from training.evaluation.measures import Tested
    from turnout.cli.worlds import SimulatedHistory, WorldSpec

_YARDSTICK_LABELS = {
    "ours": "Turnout",
    "benchmark": "published benchmark only",
    "historical_cpa": "cost per registration so far",
    "hill": "Hill curve per tactic",
    "linear": "linear regression",
    "lightgbm": "LightGBM",
}


def evaluate(
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Own history: only events before this day. Default: today."),
    ] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Measure on simulated worlds, whose truth and best plans are known.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="How many simulated worlds.")] = 5,
    first_seed: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Seed of the first simulated world; the others follow.")
    ] = 1,
    events: Annotated[int, typer.Option(min=20, max=24_000, help="Events in each simulated world.")] = 400,
    months: Annotated[int, typer.Option(min=3, max=240, help="Months each simulated world spans.")] = 24,
    learning_curve: Annotated[
        bool,
        typer.Option("--learning-curve", help="With --simulated: what 0, 5, 20, 100 and 1,000 past events are worth."),
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Simulate and ingest again, whatever was kept.")] = False,
    dataset: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Measure on an outside CSV file instead. See docs/analyst.md."),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Of the file: spend, experiment or daily. Default: found from its columns.")
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Column of the file to predict; may be repeated. Default: found.")
    ] = None,
    spend: Annotated[
        list[str] | None, typer.Option(help="Column of the file with money spent; may be repeated. Default: found.")
    ] = None,
    date_column: Annotated[str | None, typer.Option("--date", help="Column of the file with the day.")] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="Column of the file that forms groups; may be repeated.")
    ] = None,
    arm: Annotated[str | None, typer.Option(help="Column of the file with the arm of an experiment.")] = None,
    event_date: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Daily counts: day of the event. Default: found from the counts."),
    ] = None,
    event_format: Annotated[str, typer.Option(help="Daily counts: offline, online or hybrid.")] = "offline",
    free: Annotated[bool, typer.Option("--free/--paid", help="Daily counts: whether tickets are free.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Where the report goes. Default: reports/evaluation-<date>.html in the home.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """How good the predictions are on events the models have not seen.

    By default on this installation's own history: it is cut at several days, and for each cut everything is fitted to
    the events before and asked for those after. `--simulated` does the same on worlds whose truth is known, and
    measures plans against the best ones possible. `--dataset FILE` takes outside data.

    Accuracy is 1 − Σ|predicted − actual| / Σ actual over event totals.
    """
    if dataset is not None and (simulated or learning_curve):
        raise InputError(
            [Problem("exclusive", "--dataset measures a file; leave --simulated and --learning-curve out")]
        )
    if learning_curve and not simulated:
        raise InputError(
            [Problem("exclusive", "--learning-curve needs --simulated: it simulates histories of each size")]
        )
    settings = load_settings()
    if dataset is not None:
        report, page = _outside(
            settings, dataset, kind=kind, targets=target, spend=spend, day=date_column, groups=group, arm=arm,
            event_date=event_date.date() if event_date else None, event_format=event_format, free=free, quiet=as_json,
        )  # fmt: skip
    elif simulated:
        from turnout.cli.worlds import WorldSpec

        specs = [WorldSpec(seed, events=events, months=months) for seed in range(first_seed, first_seed + seeds)]
        report, page = _simulated(settings, specs, fresh=fresh, learning_curve=learning_curve, quiet=as_json)
    else:
        report, page = _own(settings, until.date() if until else None, quiet=as_json)
    path = html or settings.home_path / "reports" / f"evaluation-{today(settings.time_zone)}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    report["html"] = str(path)
    if as_json:
        emit_json(report)
    else:
        _show(report)
        out.print(f"report: {path}", highlight=False, soft_wrap=True)


# --- own history ------------------------------------------------------------------------------------------------------


def _own(settings: Settings, until: date | None, *, quiet: bool) -> tuple[dict[str, Any], str]:
    from training import backtest
    from training.dataset import build
    from training.evaluation import measures
    from training.evaluation.report import page

    with warehouse(settings) as (ready, engine), _progress("own history", 1, quiet=quiet) as (say, done):
        day = until or today(ready.time_zone)
        say("reading the history")
        dataset = build(ready, day, engine=engine)
        expected = _known_truth(ready, dataset)
        tested = measures.Tested(
            backtest.run(dataset, seed=ready.random_seed, threads=ready.threads, progress=say), None, expected
        )
        is_simulated = bool(dataset.rows["is_simulated"].any()) if len(dataset.rows) else False
        report: dict[str, Any] = {
            "kind": "own_history",
            "until": day.isoformat(),
            "is_simulated": is_simulated,
            **measures.summary([tested]),
            "regret_mean": None,
            "regret_p95": None,
            "events": len(dataset.history.events),
            "notes": _notes(dataset, tested),
        }
        say("writing the report")
        html = page(f"Evaluation of {ready.organisation}", report, [tested], _fitted(dataset, ready))
        done()
    return report, html


def _known_truth(settings: Settings, dataset: Dataset) -> Any:
    """The true expectations where the history is the simulated one of this home; else ``None``."""
    from training.evaluation.measures import true_expectations

    path = settings.home_path / "truth" / "events.json"
    if not len(dataset.rows) or not dataset.rows["is_simulated"].any() or not path.is_file():
        return None
    return true_expectations(dataset.history.events, json.loads(path.read_text(encoding="utf-8")))


def _notes(dataset: Dataset, tested: Tested) -> list[str]:
    from training.cautions import cautions

    notes = [*dataset.notes, *cautions(dataset)]
    if tested.backtest.events.empty:
        notes.append(
            f"{len(dataset.history.events)} past events are too few to measure anything; "
            "`turnout evaluate --simulated` shows what to expect meanwhile"
        )
    return notes


def _fitted(dataset: Dataset, settings: Settings) -> Any:
    """The model of the whole history, for the report's curves and effects."""
    from training.estimator import fit

    return (fit(dataset, seed=settings.random_seed, threads=settings.threads), dataset) if len(dataset.rows) else None


# --- simulated worlds -------------------------------------------------------------------------------------------------


def _simulated(
    settings: Settings, specs: Sequence[WorldSpec], *, fresh: bool, learning_curve: bool, quiet: bool
) -> tuple[dict[str, Any], str]:
    from training import backtest
    from training.evaluation import measures
    from training.evaluation.report import page
    from turnout.cli import decisions

    tested: list[measures.Tested] = []
    made: list[decisions.Decision] = []
    fitted = None
    for history, say in _histories(settings, specs, fresh=fresh, quiet=quiet):
        run = backtest.run(history.dataset, seed=settings.random_seed, threads=settings.threads, progress=say)
        expected = measures.true_expectations(history.dataset.history.events, history.truth)
        tested.append(measures.Tested(run, history.spec.seed, expected))
        made += decisions.decide(history, settings, say)
        if fitted is None:
            say("fitting to the whole history")
            fitted = _fitted(history.dataset, settings)
    report: dict[str, Any] = {
        "kind": "simulated",
        "is_simulated": True,
        "worlds": {"events": specs[0].events, "months": specs[0].months, "organisers": specs[0].organisers},
        **measures.summary(tested),
        **decisions.summary(made),
        "notes": [],
    }
    if learning_curve:
        from turnout.cli.learning import learning_curve as learn

        with _progress("learning curve", 1, quiet=quiet) as (say, done):
            report["learning_curve"] = learn(settings, seed=specs[0].seed, progress=say, fresh=fresh)
            done()
    return report, page("Evaluation on simulated worlds", report, tested, fitted, made)


def _histories(
    settings: Settings, specs: Sequence[WorldSpec], *, fresh: bool, quiet: bool
) -> Iterator[tuple[SimulatedHistory, Say]]:
    """Every world's history, from what was kept or made now; servers start only where something must be made."""
    from contextlib import ExitStack

    from turnout.cli import worlds

    with ExitStack() as stack, _progress("worlds", len(specs), quiet=quiet) as (say, done):
        ready: Settings | None = None
        for spec in specs:

            def told(what: str, seed: int = spec.seed) -> None:
                say(f"world {seed}: {what}")

            history = None if fresh else worlds.cached(settings, spec)
            if history is None:
                if ready is None:
                    told("starting servers")
                    ready = stack.enter_context(worlds.workshop(settings))
                history = worlds.build(ready, spec, told, keep_in=settings, fresh=fresh)
                worlds.keep(settings, history)
            yield history, told
            done()


# --- outside data -----------------------------------------------------------------------------------------------------


def _outside(settings: Settings, path: Path, *, quiet: bool, **options: Any) -> tuple[dict[str, Any], str]:
    from training.evaluation import outside
    from training.evaluation.report import outside_page

    with _progress(path.name, 1, quiet=quiet) as (say, done):
        report = outside.evaluate(path, seed=settings.random_seed, progress=say, **options)
        done()
    return report, outside_page(f"Evaluation on {path.name}", report)


# --- printing ---------------------------------------------------------------------------------------------------------


@contextmanager
def _progress(title: str, total: int, *, quiet: bool) -> Iterator[tuple[Say, Any]]:
    """A bar on a terminal; lines in a log otherwise; nothing when ``quiet``."""
    if quiet or not err.is_terminal:

        def say(what: str) -> None:
            if not quiet:
                err.print(f"{datetime.now():%H:%M:%S} {what}", highlight=False)  # noqa: DTZ005 - the reader's own clock

        yield say, lambda: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield (
            lambda what: bar.update(task, description=what),
            lambda: bar.advance(task),
        )


def _percent(value: object, digits: int = 1) -> str:
    return f"{100 * float(value):.{digits}f} %" if isinstance(value, int | float) else "–"


def _show(report: dict[str, Any]) -> None:
    if report["kind"] == "outside":
        _show_outside(report)
        return
    if report["is_simulated"]:
        out.print("[bold yellow]SIMULATED DATA[/]: nothing here is a finding about real events", highlight=False)
    for note in report["notes"]:
        out.print(f"note: {note}", highlight=False)
    figures = Table(title=f"{report['test_events']} held-out events", show_header=False)
    figures.add_column("")
    figures.add_column("", justify="right")
    for label, value in (
        ("accuracy of event totals", _percent(report["accuracy"])),
        ("attainable: the world's own expectation", _percent(report["attainable_accuracy"])),
        ("share of the attainable", _percent(report.get("share_of_attainable"))),
        ("90 % intervals cover, events", _percent(report["coverage_90"])),
        ("90 % intervals cover, tactics", _percent(report["coverage_90_tactics"])),
        ("goal probability: calibration error", _percent(report["goal_ece"])),
        ("regret of plans, mean", _percent(report["regret_mean"])),
        ("regret of plans, 95th percentile", _percent(report["regret_p95"])),
    ):
        figures.add_row(label, value)
    out.print(figures)
    table = Table(title="against the yardsticks")
    table.add_column("")
    for column in ("accuracy of event totals", "WAPE per tactic"):
        table.add_column(column, justify="right")
    for name, row in report["yardsticks"].items():
        table.add_row(_YARDSTICK_LABELS.get(name, name), _percent(row["accuracy"]), _percent(row["wape_tactics"]))
    for name, row in ((report.get("decisions") or {}).get("rules") or {}).items():
        table.add_row(f"split {name}: regret {_percent(row['regret_mean'])}", "", "")
    out.print(table)
    groups = Table(title="90 % intervals cover, by group")
    groups.add_column("group")
    groups.add_column("coverage", justify="right")
    for key in ("coverage_90_by_group", "coverage_90_by_segment", "coverage_90_by_size"):
        for name, value in report[key].items():
            groups.add_row(name, _percent(value))
        groups.add_section()
    out.print(groups)
    if "learning_curve" in report:
        _show_learning(report["learning_curve"])


def _show_learning(points: Sequence[dict[str, Any]]) -> None:
    table = Table(title="accuracy by number of past events")
    table.add_column("past events", justify="right")
    names = list(points[0]["accuracy"]) if points else []
    for name in names:
        table.add_column(_YARDSTICK_LABELS.get(name, name), justify="right")
    for point in points:
        table.add_row(f"{point['past_events']:,}", *(_percent(point["accuracy"][name]) for name in names))
    out.print(table)


def _show_outside(report: dict[str, Any]) -> None:
    for note in report["notes"]:
        out.print(f"note: {note}", highlight=False)
    for part in report["tables"]:
        table = Table(title=part["title"], caption=part.get("caption"))
        for number, column in enumerate(part["columns"]):
            table.add_column(column, justify="left" if number == 0 else "right")
        for row in part["rows"]:
            table.add_row(*(f"{v:,.4g}" if isinstance(v, float) else str(v) for v in row))
        out.print(table)


def register(app: typer.Typer) -> None:
    app.command()(evaluate)
