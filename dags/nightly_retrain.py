"""Every night at 03:00: fresh features, both models trained, the better one promoted."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, dag, task

from _common import refresh_store, report_run_failure, run_window, task_defaults, train_demand
from turnout.settings import load_settings

DOC = """
### nightly_retrain

At 03:00 in the installation's time zone (`TURNOUT_TIME_ZONE`, Asia/Tokyo unless set), after `ingest_performance`:

1. `features` – snapshots computed, those of past weeks rebuilt for training, the newest published;
2. `demand` – the demand model (Prophet) is trained on the history up to this day, and its forecasts published;
3. `response` – the response model (XGBoost) is trained, evaluated on later events, and registered;
4. `promote` – a challenger becomes champion only if it is better. The service notices by itself.

Beside it, after the features, `monitor` compares past predictions with what came of them; an alarm is told to the team.
And `insights` checks the organiser's rules of thumb against the history; plans show the verdicts.

A night that fails leaves yesterday's champion in place. Roll back by hand with `turnout models rollback`.
"""


@dag(
    dag_id="nightly_retrain",
    schedule=CronDataIntervalTimetable("0 3 * * *", timezone=load_settings().time_zone),
    start_date=datetime(2020, 1, 1),  # noqa: DTZ001 - Airflow reads it in its default time zone, which is ours
    catchup=False,
    max_active_runs=1,
    default_args=task_defaults(timedelta(hours=2)),
    on_failure_callback=report_run_failure,
    tags=["turnout", "training"],
    doc_md=DOC,
)
def nightly_retrain() -> None:
    @task
    def features() -> dict[str, Any]:
        """Compute, register and publish the features."""
        settings, window = run_window()
        return refresh_store(settings, window.last, history=True)

    @task
    def demand() -> dict[str, Any]:
        """Train the demand model and publish its forecasts."""
        settings, window = run_window()
        return train_demand(settings, window.last)

    @task
    def response() -> dict[str, Any]:
        """Train and register the response model."""
        from training import response as stage

        settings, window = run_window()
        return stage.train(settings, window.last).as_dict()

    @task
    def promote(refs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Make the better model champion."""
        from training.promotion import promote_if_better
        from training.registry import ModelRef

        settings, _ = run_window()
        return [promote_if_better(settings, ModelRef(**ref)).as_dict() for ref in refs]

    @task
    def monitor() -> dict[str, Any]:
        """Compare predictions with outcomes."""
        from training.monitoring import observe

        settings, window = run_window()
        return {"alarms": observe(settings, window.last).alarms}

    @task
    def insights() -> dict[str, int]:
        """Check the rules of thumb against the history."""
        from training.insights import refresh_verdicts

        settings, window = run_window()
        return refresh_verdicts(settings, window.last)

    fresh, outlook = features(), demand()
    model = response()
    fresh >> outlook >> model
    # a failed training must not keep them from looking, nor they a training from failing the run
    fresh >> [monitor(), insights()]
    promote([outlook, model])


nightly_retrain()
