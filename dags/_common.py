"""What every DAG of Turnout shares: task defaults, callbacks, and the settings of the process. No pipeline logic."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from airflow.sdk import Asset, Context, ExceptionRetryPolicy, RetryAction, RetryRule

from turnout.runtime.windows import Window, resolve_window
from turnout.settings import Settings, load_settings

#: Updated by every run that loads data; features are refreshed after it.
WAREHOUSE = Asset("turnout://warehouse")

#: Bad input, a wrong setting or a missing prerequisite stays wrong however often it is tried.
_NO_RETRY = ExceptionRetryPolicy(rules=[
    RetryRule(
        exception="turnout.errors.TurnoutError", action=RetryAction.FAIL,
        reason="the input or the configuration must change first",
    ),
])  # fmt: skip


def report_task_failure(context: Context) -> None:
    """Log a failed attempt as one structured line."""
    import structlog

    instance = context["task_instance"]
    structlog.get_logger("turnout.dags").error(
        "task failed",
        dag_id=instance.dag_id, run_id=instance.run_id, task_id=instance.task_id, map_index=instance.map_index,
        attempt=instance.try_number, error=str(context.get("exception") or "")[:500],
    )  # fmt: skip


def report_run_failure(context: Context) -> None:
    """Tell the team once per failed run, not once per task: of the night's runs in the morning's message, with
    everything else that matters; of others, and where the warehouse does not answer, at once."""
    from turnout.alerts import send_alert
    from turnout.nightly_report import note_failure

    run, settings = context.get("dag_run"), load_settings()
    dag_id = getattr(context.get("dag"), "dag_id", None) or getattr(run, "dag_id", "?")
    run_id = getattr(run, "run_id", None) or context.get("run_id")
    title, text = f"Turnout: {dag_id} failed", f"Run {run_id}: {context.get('reason', 'see its log')}"
    kind = getattr(run, "run_type", None)
    of_the_night = str(getattr(kind, "value", kind)) in {"scheduled", "asset_triggered"} and dag_id != "nightly_report"
    if not (of_the_night and note_failure(settings, title, text, str(run_id))):
        send_alert(settings, title, text)


def task_defaults(limit: timedelta) -> dict[str, Any]:
    """Arguments of every task of a DAG whose tasks may take ``limit``."""
    return {
        "owner": "turnout",
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=15),
        "retry_policy": _NO_RETRY,
        "execution_timeout": limit,
        "on_failure_callback": report_task_failure,
    }


def run_window() -> tuple[Settings, Window]:
    """Settings of this process and the days the current run stands for."""
    from airflow.sdk import get_current_context

    settings, context = load_settings(), get_current_context()
    return settings, resolve_window(context.get("dag_run"), context.get("params"), settings.zone)


def with_connection(settings: Settings, source: str) -> Settings:
    """The settings with a source's credentials from the Airflow connection ``turnout_<source>``, where there is one."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    from turnout.credentials import CREDENTIALS, connection_id, from_connection

    if source not in CREDENTIALS:
        return settings
    try:
        found = BaseHook.get_connection(connection_id(source))
    except AirflowNotFoundException:
        return settings
    credentials = from_connection(
        source, host=found.host, scheme=found.schema, port=found.port, login=found.login, password=found.password,
        extra=found.extra_dejson,
    )  # fmt: skip
    return settings.model_copy(update={source: credentials})


def read_source(source: str, window: Window, settings: Settings) -> dict[str, Any]:
    """Read one source, files and API, over ``window`` through the gate; returns the counts."""
    from expectations.gate import make_gate
    from ingestion.api import ingest_source
    from turnout.warehouse.engine import create_engine

    settings = with_connection(settings, source)
    engine = create_engine(settings)
    try:
        with make_gate(settings) as gate:
            report = ingest_source(
                source, window.first, window.last, settings=settings, engine=engine, gate=gate, trigger="airflow"
            )
    finally:
        engine.dispose()
    return {"source": source, "first": str(window.first), "last": str(window.last), **report.summary()}


def refresh_store(settings: Settings, as_of: date, *, history: bool = False) -> dict[str, Any]:
    """Compute the features as of ``as_of``, register them and publish the newest; returns the counts.

    Args:
        history: also rebuild the past snapshots that training joins to past events.
    """
    from feature_repo import build, store

    since = build.history_start(settings, as_of) if history else None
    computed = build.refresh(settings, as_of, since)
    store.apply(settings)
    return {"as_of": str(as_of), "computed": computed, "published": store.materialize_latest(settings, as_of)}


def train_demand(settings: Settings, as_of: date) -> dict[str, Any]:
    """Train the demand model and publish its forecasts; returns the registered version."""
    from feature_repo import store
    from training import demand

    ref = demand.train(settings, as_of)
    store.materialize_latest(settings, as_of)
    return ref.as_dict()
