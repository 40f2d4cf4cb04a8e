"""The demonstration: every stage for real, on a sample history, in one go."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

import httpx
from sqlalchemy import Engine, func, select

from turnout.brief import Brief
from turnout.cli.models import today
from turnout.cli.output import Steps
from turnout.cli.plans import ask_service, read_brief
from turnout.cli.session import warehouse
from turnout.errors import ConfigurationError, TurnoutError
from turnout.plan import Plan
from turnout.runtime.airflow import Component
from turnout.settings import Settings
from turnout.warehouse.tables import event, ingest_file

#: The demonstration needs no triggerer: no DAG defers a task.
_COMPONENTS: tuple[Component, ...] = ("api-server", "scheduler", "dag-processor")


def run_demo(
    settings: Settings, *, events: int, seed: int, brief_file: Path | None, steps: Steps
) -> tuple[Plan, dict[str, float]]:
    """Run everything once; returns the plan and the seconds of each step.

    Raises:
        ConfigurationError: this home holds somebody's own history, which sample data must not mix with; or Turnout
            runs here already.
        TurnoutError: a stage failed; the message says which.
    """
    from turnout.runtime.airflow import AirflowClient
    from turnout.runtime.stack import airflow_specs, service_spec
    from turnout.runtime.supervisor import Supervisor
    from turnout.simulation.sample import write_sample_history

    question = read_brief(brief_file) if brief_file else sample_brief(today(settings.time_zone))
    with ExitStack() as stack:
        with steps.step("PostgreSQL and Redis"):
            ready, engine = stack.enter_context(warehouse(settings))
        _refuse_own_history(engine, ready)
        with Supervisor(ready) as supervisor:
            ready = supervisor.settings
            with ThreadPoolExecutor(1) as pool:
                history = pool.submit(write_sample_history, ready, seed=seed, events=events)
                with steps.step("sample history and Airflow"):
                    supervisor.start(airflow_specs(ready, _COMPONENTS))
                    sample = history.result()
            first = min(sample.world.first, date(2024, 1, 1))
            with AirflowClient(ready) as airflow:
                for dag, conf in (
                    # one chunk a source: the sample is small, and each task costs seconds of imports
                    (
                        "backfill_history",
                        {"from": str(first), "to": str(today(ready.time_zone)), "chunk_days": 3660},
                    ),
                    ("nightly_retrain", {}),
                ):
                    with steps.step(f"DAG {dag}"):
                        airflow.wait(dag, airflow.trigger(dag, conf), timeout=1800)
            with steps.step("service"):
                supervisor.start([service_spec(ready)])
                url = f"http://{ready.host}:{ready.service_port}"
                _wait_until_ready(url)
            with steps.step("plan over HTTP"):
                answer = ask_service(url, question, ready.api_key)
    return answer, steps.seconds


def sample_brief(now: date) -> Brief:
    """The question the demonstration asks: an event ten weeks from ``now``, on a working day."""
    day = now + timedelta(days=70)
    while day.weekday() > 3:
        day += timedelta(days=1)
    return Brief.model_validate({
        "event": {
            "name": f"AI in Practice {day.year}",
            "date": day,
            "category": "AI・データ",
            "theme": "generative AI at work",
            "format": "hybrid",
            "audience": {"industries": ["製造"], "job_titles": ["マーケティング"]},
        },
        "goal": {"target": 300, "metric": "registrations"},
        "budget": {"amount": 1_500_000, "currency": "JPY"},
        "staff_hours": 80,
        "assets": {"email_list": 8000, "social_followers": 3000, "community_members": 1200, "speakers": 5,
                   "partners": 2, "employees": 60, "sales_contacts": 200, "site_visitors": 6000},
    })  # fmt: skip


def _refuse_own_history(engine: Engine, settings: Settings) -> None:
    """Sample data must not mix with somebody's own: the models would learn from both."""
    from turnout.simulation.sample import CONFERENCE_NAME

    with engine.connect() as connection:
        own = connection.scalar(
            select(func.count())
            .select_from(event)
            .where(event.c.organisation == settings.organisation)
            .where(~event.c.is_simulated, event.c.name != CONFERENCE_NAME)
        )
        outside = connection.scalar(
            select(func.count())
            .select_from(ingest_file)
            .where(ingest_file.c.organisation == settings.organisation)
            .where(~ingest_file.c.path.startswith(str(settings.inbox_path), autoescape=True))
        )
    if own or outside:
        raise ConfigurationError(
            f"{settings.home_path} holds your own history ({own} events, {outside} files from elsewhere), which sample "
            "data must not mix with. Run the demonstration apart: TURNOUT_HOME=.turnout-demo make demo"
        )


def _wait_until_ready(url: str, timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            answer = httpx.get(f"{url}/readyz", timeout=5, trust_env=False)
            if answer.is_success:
                return
            reason = answer.text[:500]
        except httpx.HTTPError as error:
            reason = repr(error)
        if time.monotonic() > deadline:
            raise TurnoutError(f"the service at {url} is not ready after {timeout:.0f} s: {reason}")
        time.sleep(0.3)
