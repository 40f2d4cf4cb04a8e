"""Every DAG loads lightly and keeps the rules that let one leave it alone at night."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from turnout.runtime.airflow import dags_folder

#: Parsing happens every minute on two cores; each of these costs seconds.
HEAVY = {
    "feast", "great_expectations", "mlflow", "prophet", "xgboost", "lightgbm", "bentoml", "pandas", "pyarrow",
    "sklearn", "scipy", "ingestion", "expectations", "feature_repo", "training", "serving",
}  # fmt: skip

LOAD = """
import json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization

before = {m.split(".")[0] for m in sys.modules}
bag = BundleDagBag(sys.argv[1], bundle_path=Path(sys.argv[1]), bundle_name="dags-folder")
after = {m.split(".")[0] for m in sys.modules}

def describe(dag):
    return {
        "doc": dag.doc_md, "tags": sorted(dag.tags), "max_active_runs": dag.max_active_runs, "catchup": dag.catchup,
        "callback": dag.on_failure_callback is not None, "schedule": type(dag.timetable).__name__,
        "cron": getattr(dag.timetable, "expression", None), "zone": str(getattr(dag.timetable, "timezone", "")),
        "serialises": bool(DagSerialization.to_dict(dag)),
        "tasks": {
            t.task_id: {
                "retries": t.retries, "backoff": t.retry_exponential_backoff, "owner": t.owner,
                "timeout": t.execution_timeout.total_seconds() if t.execution_timeout else None,
                "delay": t.retry_delay.total_seconds(), "upstream": sorted(t.upstream_task_ids),
                "rule": t.trigger_rule.value,
            } for t in dag.tasks
        },
    }

print(json.dumps({
    "errors": bag.import_errors, "imported": sorted(after - before),
    "dags": {d.dag_id: describe(d) for d in bag.dags.values()},
}))
"""


@pytest.fixture(scope="module")
def bag(tmp_path_factory) -> dict:
    """What a fresh process sees in the folder of DAG files. It needs no database and no server."""
    home = tmp_path_factory.mktemp("airflow")
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "TURNOUT_HOME": str(home),
        "TURNOUT_TIME_ZONE": "Asia/Tokyo",
    }
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(dags_folder())],
        env=environment, cwd=home, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_six_dags_load_without_an_error(bag):
    assert bag["errors"] == {}
    assert set(bag["dags"]) == {
        "ingest_performance", "refresh_features", "nightly_retrain", "nightly_report", "backfill_history",
        "check_sources",
    }  # fmt: skip


def test_loading_them_imports_nothing_heavy(bag):
    assert set(bag["imported"]) & HEAVY == set()


def test_each_dag_explains_itself_and_runs_one_at_a_time(bag):
    for dag_id, dag in bag["dags"].items():
        assert f"### {dag_id}" in dag["doc"], dag_id
        assert "turnout" in dag["tags"], dag_id
        assert dag["max_active_runs"] == 1, dag_id
        assert dag["catchup"] is False, dag_id
        assert dag["callback"], f"{dag_id} fails in silence"
        assert dag["serialises"]


def test_each_task_retries_with_back_off_and_ends_in_time(bag):
    for dag_id, dag in bag["dags"].items():
        for task_id, task in dag["tasks"].items():
            where = f"{dag_id}.{task_id}"
            assert task["owner"] == "turnout", where
            assert task["retries"] >= 2, where
            assert task["backoff"] > 1, where
            assert timedelta(seconds=5) <= timedelta(seconds=task["delay"]) <= timedelta(minutes=5), where
            assert 0 < task["timeout"] <= timedelta(hours=2).total_seconds(), where


def test_the_night_starts_in_local_time_and_has_intervals_of_a_day(bag):
    for dag_id, cron in (
        ("ingest_performance", "0 2 * * *"), ("nightly_retrain", "0 3 * * *"), ("nightly_report", "30 6 * * *"),
    ):  # fmt: skip
        dag = bag["dags"][dag_id]
        assert (dag["schedule"], dag["cron"], dag["zone"]) == ("CronDataIntervalTimetable", cron, "Asia/Tokyo")
    assert {bag["dags"][by_hand]["schedule"] for by_hand in ("backfill_history", "check_sources")} == {"NullTimetable"}


def test_sheets_come_first_and_a_broken_sheet_stops_no_other_source(bag):
    tasks = bag["dags"]["ingest_performance"]["tasks"]
    others = {"registrations", "google_ads", "meta_ads", "linkedin_ads", "sendgrid"}
    assert set(tasks) == others | {"spreadsheet", "done"}
    for source in others:
        assert tasks[source]["upstream"] == ["spreadsheet"]
        assert tasks[source]["rule"] == "all_done"
    # But the run as a whole must fail then.
    assert tasks["done"]["upstream"] == sorted(others | {"spreadsheet"})
    assert tasks["done"]["rule"] == "all_success"


def test_neither_monitoring_nor_the_check_of_insights_stands_before_training(bag):
    tasks = bag["dags"]["nightly_retrain"]["tasks"]
    assert set(tasks) == {"features", "demand", "response", "promote", "monitor", "insights"}
    for beside in ("monitor", "insights"):
        assert tasks[beside]["upstream"] == ["features"]
        assert not any(beside in task["upstream"] for task in tasks.values())


def test_every_source_of_the_settings_is_read(bag):
    from turnout.settings import Settings

    sources = set(Settings.model_fields["lookback_days"].default)
    assert sources == set(bag["dags"]["ingest_performance"]["tasks"]) - {"done"}


def test_dag_files_hold_no_paths_of_a_machine():
    for path in Path(dags_folder()).glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "/home/" not in text
        assert "/tmp" not in text
