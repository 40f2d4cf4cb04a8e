"""The DAGs on a real Airflow: history is loaded once however often it is read, and whatever dies on the way."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from turnout.runtime.airflow import AirflowClient, AirflowError
from turnout.runtime.stack import airflow_specs
from turnout.runtime.supervisor import Supervisor, status
from turnout.settings import Settings
from turnout.simulation import simulate
from turnout.warehouse.engine import create_engine

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.xdist_group("airflow"), pytest.mark.timeout(600)]

UNTIL = date(2026, 9, 30)
SOURCES = ["spreadsheet", "registrations", "google_ads", "meta_ads"]
RANGE = {"from": "2026-06-01", "to": UNTIL.isoformat(), "sources": SOURCES}

_SUMS = """
    SELECT 'ads', count(*), sum(spend), sum(clicks) FROM turnout.ad_performance
    UNION ALL SELECT 'registrations', count(*), sum(quantity), count(event_id) FROM turnout.registration
    UNION ALL SELECT 'events', count(*), sum(budget), sum(actual_registrations) FROM turnout.event
    UNION ALL SELECT 'results', count(*), sum(cost), sum(registrations) FROM turnout.tactic_result
    UNION ALL SELECT 'quarantine', count(*), 0, 0 FROM turnout.quarantine
    ORDER BY 1
"""


@pytest.fixture(scope="module")
def installation(_servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A home with a small inbox and a running Airflow, on databases of its own."""
    home = tmp_path_factory.mktemp("installation")
    settings = Settings(home=home, identity_salt="salt", airflow_port=18100 + os.getpid() % 800, **_servers)
    engine = create_engine(settings)
    with engine.begin() as connection:
        for table in ("event", "tactic_result", "registration", "ad_performance", "email_performance", "quarantine",
                      "campaign", "attendance", "ingest_file", "ingest_run"):  # fmt: skip
            connection.execute(sa.text(f"TRUNCATE turnout.{table}"))
    engine.dispose()
    simulate(home, seed=3, events=8, organisers=1, months=3, until=UNTIL)
    with Supervisor(settings) as supervisor:
        supervisor.start(airflow_specs(supervisor.settings, ("api-server", "scheduler", "dag-processor")))
        yield supervisor.settings


def sums(settings: Settings) -> list[tuple]:
    engine = create_engine(settings)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(_SUMS))]
    finally:
        engine.dispose()


def tasks_of(settings: Settings) -> list[psutil.Process]:
    """Processes that run a task now: children of the executor's workers."""
    scheduler = next(p for p in status(settings).processes if p.name == "airflow-scheduler")
    found = []
    for process in psutil.Process(scheduler.pid).children(recursive=True):
        with suppress(psutil.Error):
            if "airflow worker" in " ".join(process.cmdline()):
                found += process.children(recursive=True)
    return found


def kill_a_load(settings: Settings, client: AirflowClient, run_id: str) -> int:
    """Kill every task process while a load is under way; returns how many were."""
    engine = create_engine(settings)
    loading = sa.text("SELECT count(*) FROM turnout.ingest_run WHERE status = 'running'")
    deadline = time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            with engine.connect() as connection:
                if connection.scalar(loading):
                    killed = 0
                    for process in tasks_of(settings):
                        process.kill()
                        killed += 1
                    if killed:
                        return killed
            assert client.status("backfill_history", run_id).state != "success", "it was over before it could be killed"
    finally:
        engine.dispose()
    raise AssertionError("no load was ever seen")


def test_a_history_loads_once_however_often_it_is_read_and_whatever_dies(installation):
    with AirflowClient(installation) as client:
        client.run("backfill_history", {**RANGE, "chunk_days": 90}, timeout=300)
        once = sums(installation)
        assert {name: count for name, count, *_ in once if count == 0 and name != "quarantine"} == {}

        # killed in the middle of reading again: nothing of what was there is lost or doubled
        run_id = client.trigger("backfill_history", RANGE)
        assert kill_a_load(installation, client, run_id) > 0
        client.stop("backfill_history", run_id)
        assert sums(installation) == once

        # and the next reading, in other chunks, ends with the same data
        again = client.run("backfill_history", RANGE, timeout=300)
        assert sums(installation) == once
        assert client.result("backfill_history", again.run_id, "sheets", 0)["rows_read"] > 0


def test_a_mistaken_request_fails_at_once_with_the_reason(installation):
    with AirflowClient(installation) as client:
        with pytest.raises(AirflowError, match="swap them"):
            client.run("backfill_history", {"from": "2026-02-01", "to": "2026-01-01"}, timeout=120)
        with pytest.raises(AirflowError, match="400"):
            client.trigger("backfill_history", {**RANGE, "sources": ["crystal_ball"]})
        with pytest.raises(AirflowError, match="400"):
            client.trigger("backfill_history", {"to": "2026-01-01"})


def test_the_login_is_the_generated_one_alone(installation):
    import httpx

    from turnout.runtime.airflow import base_url, credentials

    with httpx.Client(base_url=base_url(installation), trust_env=False) as http:
        assert http.get("/api/v2/dags").status_code == 401
        for password in ("admin", "airflow", ""):
            body = {"username": "admin", "password": password}
            assert http.post("/auth/token", json=body).status_code in {400, 401}
        user, password = credentials(installation)
        assert http.post("/auth/token", json={"username": user, "password": password}).status_code == 201
    logs = (installation.home_path / "logs").rglob("*.log")
    assert not any(password in Path(log).read_text(errors="replace") for log in logs)
