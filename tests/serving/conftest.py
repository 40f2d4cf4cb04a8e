"""A planning service as it runs for a user: its own process, real PostgreSQL, Redis and MLflow."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa

from tests.serving.models import HISTORY, register
from tests.serving.signing import PUBLIC_KEY
from turnout import insight_store
from turnout.credentials import SendGridCredentials
from turnout.insight_check import Verdict
from turnout.insights import Insight
from turnout.runtime.stack import service_spec
from turnout.runtime.supervisor import free_port
from turnout.settings import Settings
from turnout.warehouse import tables
from turnout.warehouse.engine import create_engine

TODAY = datetime.now(UTC).date()
#: The organiser's only rule of thumb.
MAIL_RULE = Insight(
    "", "朝のメールはよく読まれる", impact="+20%", confidence="high", applies_to={"tactics": ["own_email"]}
)


def brief(**changes: Any) -> dict[str, Any]:
    """A brief that can be planned, as JSON; ``changes`` replace top-level fields."""
    return {
        "event": {
            "name": "生成AI活用セミナー", "date": (TODAY + timedelta(days=45)).isoformat(), "category": "AI・データ",
            "format": "オンライン", "audience": {"industries": ["製造"], "job_titles": ["情報システム"]},
        },
        "goal": {"target": 150},
        "budget": {"amount": 600_000, "currency": "JPY"},
        "staff_hours": 60,
        "assets": {"email_list": 5000, "partners": 0},
        "language": "ja",
        **changes,
    }  # fmt: skip


def add_history(settings: Settings) -> None:
    """A year of past events with results, so that there are features to serve."""
    provenance = {
        "organisation": settings.organisation, "source": "spreadsheet", "account": "", "run_id": uuid4(),
        "fetched_at": datetime.now(UTC),
    }  # fmt: skip
    events, results = [], []
    for number in range(8):
        day = TODAY - timedelta(days=30 + 40 * number)
        event_id = f"evt_{number:020d}"
        events.append({
            **provenance, "event_id": event_id, "name": f"past {number}", "event_date": day, "time_zone": "Asia/Tokyo",
            "category": "ai_data", "format": "online", "currency": "JPY", "actual_registrations": 120 + number,
            "actual_attendees": 70,
        })  # fmt: skip
        for tactic, registrations, cost, hours in (("own_email", 60, 0, 5), ("meta_ads", 25, 200_000, 6)):
            results.append({
                **provenance, "result_id": f"{event_id}-{tactic}", "event_id": event_id, "event_name": f"past {number}",
                "tactic_id": tactic, "tactic_name": tactic, "registrations": registrations, "cost": cost,
                "cost_base": cost, "currency": "JPY", "base_currency": "JPY", "fx_rate": 1, "fx_date": date(2026, 1, 1),
                "staff_hours": hours, "reach": 5000, "clicks": 200,
            })  # fmt: skip
    engine = create_engine(settings)
    with engine.begin() as connection:
        for table in (tables.event, tables.tactic_result, tables.plan, tables.prediction, tables.insight,
                      tables.insight_verdict):  # fmt: skip
            connection.execute(sa.delete(table))
        connection.execute(sa.insert(tables.event), events)
        connection.execute(sa.insert(tables.tactic_result), results)
        insight_store.save(connection, settings.organisation, [MAIL_RULE])
        [rule] = insight_store.read(connection, settings.organisation)
        verdict = Verdict(rule.insight_id, "untested", "too_few_events", events_with=2, events_without=6)
        insight_store.save_verdicts(connection, settings.organisation, TODAY, [verdict])
    engine.dispose()


def publish_features(settings: Settings) -> None:
    from feature_repo import build, store

    as_of = datetime.now(settings.zone).date()
    build.refresh(settings, as_of, None)
    store.apply(settings)
    store.materialize_latest(settings, as_of)


class Service:
    """A running service."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.log = folder / "service.log"
        spec = service_spec(settings)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TURNOUT_")}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                spec.argv, env={**environment, **spec.environment}, cwd=folder, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.url = f"http://127.0.0.1:{settings.service_port}"
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def wait(self, path: str, status: int, seconds: float = 90) -> httpx.Response:
        """Until ``path`` answers with ``status``."""
        deadline = time.monotonic() + seconds
        last: object = None
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                answer = self.http.get(path)
                if answer.status_code == status:
                    return answer
                last = answer.text
            except httpx.TransportError as error:
                last = error
            time.sleep(0.2)
        raise AssertionError(f"{path} never answered {status}: {last}\n{self.log.read_text()[-3000:]}")

    def wait_for(self, ask: Callable[[], Any], good: Callable[[Any], bool], seconds: float = 40) -> Any:
        """Ask until the answer is good; returns it."""
        deadline = time.monotonic() + seconds
        while not good(answer := ask()):
            assert time.monotonic() < deadline, answer
            time.sleep(0.3)
        return answer

    def stop(self) -> None:
        self.http.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture(scope="module")
def service(_servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A ready service with both models and features of a short history."""
    folder = tmp_path_factory.mktemp("service")
    settings = Settings(
        home=folder / "home", service_port=free_port("127.0.0.1", 3100 + os.getpid() % 500), identity_salt="salt",
        sendgrid=SendGridCredentials(webhook_public_key=PUBLIC_KEY), **_servers,
    )  # fmt: skip
    add_history(settings)
    publish_features(settings)
    register(settings, folder / "models", tactics=HISTORY, trained_until=TODAY, is_simulated_data=True, events=12)
    running = Service(settings, folder)
    try:
        running.wait("/readyz", 200)
        yield running
    finally:
        running.stop()
