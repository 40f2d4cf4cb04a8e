"""Commands that run the whole: demo, up, down, status, doctor, pipeline."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from turnout.cli.models import today
from turnout.cli.output import JsonFlag, Steps, emit_json, err, out
from turnout.cli.session import warehouse
from turnout.errors import InputError, Problem, TurnoutError
from turnout.identity_roles import auth_mode
from turnout.settings import Settings, load_settings

if TYPE_CHECKING:
    from turnout.runtime.supervisor import ProcessStatus, Status

DayOption = typer.Option(formats=["%Y-%m-%d"])


# --- demo ----------------------------------------------------------------------------------------------------------
def demo(
    events: Annotated[int, typer.Option(min=20, help="Events in the simulated part of the history.")] = 160,
    seed: Annotated[int, typer.Option(help="Same seed, same history.")] = 1,
    brief: Annotated[Path | None, typer.Option(help="Ask this brief instead of the sample.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """The whole path once, on a sample history: files, Airflow, models, service, plan. Stops everything at the end.

    The sample is a simulated world, labelled as such, plus the real daily registrations of one conference.
    """
    from turnout.cli.demo import run_demo

    answer, seconds = run_demo(load_settings(), events=events, seed=seed, brief_file=brief, steps=Steps(quiet=as_json))
    if as_json:
        emit_json({"plan": answer.model_dump(mode="json"), "seconds": seconds})
        return
    from turnout.render import render_plan

    out.print(render_plan(answer))
    err.print(f"done in {sum(seconds.values()):.0f} s. Next: `make up` leaves everything running.", highlight=False)


# --- up, down, status ----------------------------------------------------------------------------------------------
def up(
    foreground: Annotated[
        bool, typer.Option("--foreground", "-f", help="Stay attached; Ctrl-C stops everything.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Start PostgreSQL, Redis, Airflow, MLflow and the service, and leave them running."""
    from turnout.runtime import supervisor

    settings = load_settings()
    auth_mode(settings, default="local")  # before anything starts
    if foreground:
        supervisor.run(settings, progress=None if as_json else _tell)
        return
    status = supervisor.up(settings, progress=None if as_json else _tell)
    _show_status(settings, status, as_json=as_json)


def _tell(process: ProcessStatus, seconds: float) -> None:
    colour = {"running": "green", "failed": "red", "restarting": "yellow"}.get(process.state, "dim")
    err.print(f"  [{colour}]{process.state:<11}[/] {process.name} ({seconds:.0f} s)", highlight=False)


def down(as_json: JsonFlag = False) -> None:
    """Stop everything that `turnout up` started here, and what a killed process left behind."""
    from turnout.runtime import supervisor

    stopped = supervisor.down(load_settings())
    if as_json:
        emit_json({"stopped": stopped})
    else:
        out.print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


def status(as_json: JsonFlag = False) -> None:
    """What runs here, on which port, and where its log is. Exit code 3 when it is not all running."""
    from turnout.runtime import supervisor

    settings = load_settings()
    now = supervisor.status(settings)
    _show_status(settings, now, as_json=as_json)
    if now.phase != "running":
        raise typer.Exit(3)


def _show_status(settings: Settings, now: Status, *, as_json: bool) -> None:
    if as_json:
        emit_json(now)
        return
    table = Table(title=f"Turnout in {settings.home_path}: {now.phase}")
    for column in ("part", "state", "address", "pid", "since", "restarts", "log"):
        table.add_column(column, overflow="fold")
    for part in [*now.servers, *now.processes]:
        table.add_row(
            part.name,
            part.state,
            part.url or "–",
            str(part.pid or "–"),
            part.since or "–",
            str(part.restarts),
            part.log,
        )
    out.print(table)
    if now.phase != "running":
        return
    from turnout.runtime.airflow import credentials

    url = next((p.url for p in now.processes if p.name == "service" and p.url), None)
    if url:
        out.print(f"plans: {url}/v1/plans    API documentation: {url}/docs", highlight=False)
    user, password = credentials(settings)
    out.print(f"Airflow login: {user} / {password}", highlight=False)


def doctor(as_json: JsonFlag = False) -> None:
    """Check everything and say how to mend what is wrong. Exit code 1 when something is."""
    from turnout.runtime.doctor import doctor as examine

    checks = examine(load_settings())
    if as_json:
        emit_json(checks)
    else:
        marks = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}
        table = Table(title="doctor", show_lines=False)
        for column in ("", "check", "found", "to mend it"):
            table.add_column(column, overflow="fold")
        for check in checks:
            table.add_row(marks[check.status], check.name, check.detail, check.fix or "")
        out.print(table)
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


# --- pipeline ------------------------------------------------------------------------------------------------------
pipeline_app = typer.Typer(help="Run the nightly steps by hand, here or through Airflow.", no_args_is_help=True)


@pipeline_app.command("run")
def pipeline_run(
    as_of: Annotated[datetime | None, DayOption] = None,
    skip_ingest: Annotated[bool, typer.Option("--skip-ingest", help="Use the warehouse as it is.")] = False,
    full_history: Annotated[
        bool, typer.Option("--full-history", help="Read the whole inbox, not only each source's look-back window.")
    ] = False,
    rebuild_features: Annotated[
        bool,
        typer.Option(
            "--rebuild-features", help="Compute past features from corrected figures, too: after a faulty import."
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """In this process: read the inbox, refresh the features, retrain, promote what is better."""
    from turnout.cli.nightly import run_nightly

    with warehouse() as (settings, engine):
        day = as_of.date() if as_of else today(settings.time_zone)
        report = run_nightly(
            settings, engine, day, steps=Steps(quiet=as_json), ingest=not skip_ingest, full_history=full_history,
            rebuild_features=rebuild_features,
        )  # fmt: skip
    if as_json:
        emit_json(report)
        return
    for name, value in report.items():
        out.print(f"[bold]{name}[/]: {value}", highlight=False)


@pipeline_app.command("trigger")
def pipeline_trigger(
    dag: Annotated[str, typer.Argument(help="ingest_performance, refresh_features or nightly_retrain.")],
    wait: Annotated[bool, typer.Option(help="Wait for the end.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Start a run of a DAG in the running Airflow."""
    settings = _running_airflow()
    from turnout.runtime.airflow import AirflowClient

    with AirflowClient(settings) as client, Steps(quiet=as_json).step(dag):
        run_id = client.trigger(dag)
        state = client.wait(dag, run_id).state if wait else "queued"
    _show_run(dag, run_id, state, as_json=as_json)


@pipeline_app.command("backfill")
def pipeline_backfill(
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, included.")],
    source: Annotated[list[str] | None, typer.Option(help="Only this source; may be repeated. Default: all.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the end.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Read history again through Airflow's `backfill_history`. Days are replaced, never added."""
    settings = _running_airflow()
    from turnout.runtime.airflow import AirflowClient

    days = day_range(settings, first.date(), last.date())
    conf: dict[str, Any] = {"from": days[0].isoformat(), "to": days[1].isoformat()}
    if source:
        conf["sources"] = source
    with AirflowClient(settings) as client, Steps(quiet=as_json).step("backfill_history"):
        run_id = client.trigger("backfill_history", conf)
        state = client.wait("backfill_history", run_id).state if wait else "queued"
    _show_run("backfill_history", run_id, state, as_json=as_json)


def _show_run(dag: str, run_id: str, state: str, *, as_json: bool) -> None:
    if as_json:
        emit_json({"dag": dag, "run_id": run_id, "state": state})
    else:
        out.print(f"{dag}: run {run_id} is {state}", highlight=False)


def _running_airflow() -> Settings:
    """Settings with the port Airflow really listens on."""
    from turnout.runtime import supervisor

    settings = load_settings()
    now = supervisor.status(settings)
    if now.phase != "running":
        raise TurnoutError("Airflow is not running: start it with `turnout up`, or use `turnout pipeline run`")
    return settings.model_copy(update=now.ports)


def airflow(context: typer.Context) -> None:
    """Airflow's own command line, with this installation's settings.

    Example: `turnout airflow backfill create --dag-id ingest_performance --from-date 2026-11-01 --to-date 2026-11-15`.
    """
    import os
    import subprocess
    import sys

    from turnout.runtime import services, supervisor
    from turnout.runtime.airflow import airflow_environment

    def environment(settings: Settings) -> dict[str, str]:
        # Airflow's own variables win, so that any of its options can be set from outside.
        given = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW__")}
        return {**os.environ, **airflow_environment(settings), **given}

    settings = load_settings()
    command = [sys.executable, "-m", "airflow", *context.args]
    if settings.database_url and settings.redis_url:
        # Nothing to stop afterwards: become Airflow, so that signals reach it (as a container's first process).
        os.execve(command[0], command, environment(settings))  # noqa: S606
    running = supervisor.status(settings)
    with services(settings.model_copy(update=running.ports)) as ready:
        done = subprocess.run(command, env=environment(ready), check=False)
    raise typer.Exit(done.returncode)


def migrate() -> None:
    """Bring all databases up to date: the warehouse, and Airflow's own. Safe to run again, and by several at once."""
    from turnout.runtime import airflow as engine
    from turnout.runtime import services

    with services(migrate=True) as settings, Steps().step("databases"):
        engine.migrate(settings)


def day_range(settings: Settings, first: date, last: date) -> tuple[date, date]:
    """``first`` and ``last`` if they are in order and not in the future.

    Raises:
        InputError: they are not.
    """
    if first > last:
        raise InputError([Problem("window_reversed", f"--from {first} is after --to {last}; swap them")])
    if last > today(settings.time_zone):
        raise InputError([Problem("window_in_future", f"--to {last} is in the future; nothing is known of it yet")])
    return first, last


def register(app: typer.Typer) -> None:
    app.command()(demo)
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(doctor)
    app.command(
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    )(airflow)
    app.command()(migrate)
    app.add_typer(pipeline_app, name="pipeline")
