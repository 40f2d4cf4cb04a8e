"""The nightly run in one process: what the DAGs do, in the same order, by the same functions."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from sqlalchemy import Engine

from turnout.cli.output import Steps
from turnout.settings import Settings

#: Sheets first, because they name the events the other sources belong to.
SOURCES = ("spreadsheet", "registrations", "google_ads", "meta_ads", "linkedin_ads", "sendgrid")


def run_nightly(
    settings: Settings,
    engine: Engine,
    as_of: date,
    *,
    steps: Steps,
    ingest: bool = True,
    full_history: bool = False,
    rebuild_features: bool = False,
) -> dict[str, Any]:
    """Ingest, features, training, promotion; returns each step's counts.

    Args:
        as_of: the day the run stands for.
        ingest: read the inbox first, going back each source's look-back window.
        full_history: read everything in the inbox, whatever its date.
        rebuild_features: let corrected figures into features of the past, see :func:`feature_repo.build.refresh`.
    """
    from feature_repo import build, store
    from training.api import retrain
    from training.insights import refresh_verdicts
    from training.monitoring import observe

    report: dict[str, Any] = {}
    if ingest:
        from expectations.gate import make_gate
        from ingestion.api import ingest_source

        with make_gate(settings) as gate:
            for source in SOURCES:
                first = date.min if full_history else as_of - timedelta(days=settings.lookback_days[source])
                with steps.step(f"ingest {source}"):
                    done = ingest_source(
                        source, first, as_of, settings=settings, engine=engine, gate=gate, trigger="cli"
                    )
                report[source] = done.summary()
    with steps.step("features"):
        report["features"] = build.refresh(
            settings, as_of, build.history_start(settings, as_of), rebuild=rebuild_features
        )
        store.apply(settings)
        store.materialize_latest(settings, as_of)
    with steps.step("train"):
        report["training"] = retrain(settings, as_of)
        # the demand model's new forecasts are features, too
        store.materialize_latest(settings, as_of)
    with steps.step("monitor"):
        report["monitoring"] = observe(settings, as_of, engine=engine)
    with steps.step("insights"):
        report["insights"] = refresh_verdicts(settings, as_of, engine=engine)
    return report
