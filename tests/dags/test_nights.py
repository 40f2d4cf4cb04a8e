"""Two nights of the nightly DAG's own tasks on real PostgreSQL, Redis, Feast and MLflow: the second changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta

import pytest
import sqlalchemy as sa

from feature_repo import schema
from tests.training import histories
from tests.training.histories import UNTIL
from training import registry as models
from turnout import insight_store, registry
from turnout.insights import Insight
from turnout.runtime.airflow import dags_folder
from turnout.warehouse import tables

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: Loads the DAG as Airflow does and calls its tasks in their order, handing on what they return, once per night.
NIGHTS = """
import json, sys
from datetime import date
from pathlib import Path
from airflow.dag_processing.dagbag import BundleDagBag

from turnout.runtime.windows import Window
from turnout.settings import load_settings

folder = Path(sys.argv[1])
bag = BundleDagBag(str(folder / "nightly_retrain.py"), bundle_path=folder, bundle_name="dags-folder")
assert not bag.import_errors, bag.import_errors
dag = bag.dags["nightly_retrain"]
called = []
for night in map(date.fromisoformat, sys.argv[2:]):
    results = {}
    for name in dag.topological_sort():
        task = dag.get_task(name.task_id)
        function = task.python_callable
        function.__globals__["run_window"] = lambda: (load_settings(), Window(night, night))
        arguments = [
            [results[value.operator.task_id] for value in argument] if isinstance(argument, (list, tuple)) else argument
            for argument in task.op_args
        ]
        results[task.task_id] = function(*arguments)
    called.append(json.loads(json.dumps(results, default=str)))
print("NIGHTS " + json.dumps(called))
"""


def nights(settings, servers, *days) -> list[dict]:
    """What each task returned, night by night."""
    environment = {
        **os.environ,
        **{f"TURNOUT_{name.upper()}": str(value) for name, value in servers.items()},
        "TURNOUT_HOME": str(settings.home_path),
        "TURNOUT_TIME_ZONE": settings.time_zone,
        "AIRFLOW_HOME": str(settings.home_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }
    done = subprocess.run(
        [sys.executable, "-c", NIGHTS, str(dags_folder()), *(str(day) for day in days)],
        env=environment, cwd=settings.home_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    [line] = [line for line in done.stdout.splitlines() if line.startswith("NIGHTS ")]
    return json.loads(line.removeprefix("NIGHTS "))


def everything(settings, engine) -> dict:
    """All that a night may change: versions with their tags and aliases, forecasts, past snapshots."""
    client = registry.client(settings)
    found: dict = {
        name: [
            (v.version, sorted(v.tags.items()), sorted(client.get_registered_model(name).aliases.items()))
            for v in models.versions(settings, name)
        ]
        for name in registry.MODELS
    }
    with engine.connect() as connection:
        for table in (schema.demand_forecast, *schema.SNAPSHOT_TABLES):
            rows = connection.execute(
                sa.select(table)
                .where(table.c.event_timestamp < sa.func.cast(UNTIL - timedelta(days=2), sa.Date))
                .order_by(*table.primary_key)
            )
            found[table.name] = rows.all()
    return found


def test_the_second_night_on_unchanged_data_registers_and_promotes_nothing(
    settings,
    engine,
    empty_registry,
    redis_url,
    _servers,  # noqa: PT019
):
    settings.home_path.mkdir(parents=True, exist_ok=True)
    histories.store(engine, settings, histories.records(32, histories.Law(days=260)))
    with engine.begin() as connection:
        rule = Insight("", "online events draw more", applies_to={"formats": ["online"]})
        insight_store.save(connection, settings.organisation, [rule])

    [first] = nights(settings, _servers, UNTIL)

    assert set(first) == {"features", "demand", "response", "promote", "monitor", "insights"}
    assert [(d["version"], d["promoted"]) for d in first["promote"]] == [("1", True), ("1", True)]
    assert [first[name]["created"] for name in ("demand", "response")] == [True, True]
    assert sum(first["insights"].values()) == 1
    with engine.connect() as connection:
        assert len(insight_store.read_verdicts(connection, settings.organisation)) == 1
    before = everything(settings, engine)
    assert all(len(before[name]) == 1 for name in registry.MODELS)

    second, third = nights(settings, _servers, UNTIL + timedelta(days=1), UNTIL + timedelta(days=8))

    for night in (second, third):
        assert [night[name]["created"] for name in ("demand", "response")] == [False, False]
        assert [(d["version"], d["promoted"], d["champion"]) for d in night["promote"]] == [("1", False, "1")] * 2
        assert night["response"]["fingerprint"] == first["response"]["fingerprint"]
        assert night["monitor"] == {"alarms": []}
        assert night["insights"] == first["insights"]
    assert everything(settings, engine) == before

    # one figure is put right: the data are others, so there is something to decide, by the same tasks
    with engine.begin() as connection:
        newest = sa.select(tables.event.c.event_id).order_by(tables.event.c.event_date.desc()).limit(1)
        [event_id] = connection.scalars(newest)
        connection.execute(
            sa.update(tables.registration)
            .where(tables.registration.c.event_id == event_id)
            .values(quantity=tables.registration.c.quantity + 1)
        )
    [fourth] = nights(settings, _servers, UNTIL + timedelta(days=9))
    assert [fourth[name]["created"] for name in ("demand", "response")] == [True, True]
    assert [d["version"] for d in fourth["promote"]] == ["2", "2"]
    after = everything(settings, engine)
    for table in schema.SNAPSHOT_TABLES:
        assert after[table.name] == before[table.name], "a correction got into the past"
