"""After every load: bring the feature store up to date."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from _common import WAREHOUSE, refresh_store, report_run_failure, run_window, task_defaults

DOC = """
### refresh_features

Computes the feature snapshots in PostgreSQL, registers the feature views, and publishes the newest values to the online
store that the planning service reads.

Starts by itself after `ingest_performance` and `backfill_history`; may be triggered at any time. Running it twice gives
the same values.
"""


@dag(
    dag_id="refresh_features",
    schedule=[WAREHOUSE],
    catchup=False,
    max_active_runs=1,
    default_args=task_defaults(timedelta(hours=1)),
    on_failure_callback=report_run_failure,
    tags=["turnout", "features"],
    doc_md=DOC,
)
def refresh_features() -> None:
    # Computing and publishing are one task: publishing half a computation is what a retry must never do.
    @task
    def refresh() -> dict[str, Any]:
        """Compute, register and publish."""
        settings, window = run_window()
        return refresh_store(settings, window.last)

    refresh()


refresh_features()
