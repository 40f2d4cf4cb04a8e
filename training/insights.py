"""Insights checked against the warehouse's history: what :mod:`turnout.insight_check` looks at, and the nightly run.

Rows of registrations are those the response model learns from, with the benchmark at their own spend as expectation;
rows of show-up are the events whose attendance is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import structlog
from sqlalchemy import Engine

from training.dataset import Dataset, assemble, load_history
from turnout.insight_check import Observations, Verdict, check
from turnout.insight_store import read, save_verdicts
from turnout.insights import Facts, Insight
from turnout.money import Rates
from turnout.settings import Settings
from turnout.warehouse.engine import create_engine

log = structlog.get_logger(__name__)


def observations(dataset: Dataset) -> dict[str, Observations]:
    """``registrations`` and ``show_up`` of a data set's events; simulated events count like others, as in training."""
    events = dataset.history.events
    facts = {str(key): _facts(event) for key, event in events.to_dict("index").items()}
    rows = dataset.rows[dataset.rows["event_id"].isin(facts)]
    registrations = Observations(
        events=[str(e) for e in rows["event_id"]],
        facts=[_with_tactic(facts[str(e)], str(t)) for e, t in zip(rows["event_id"], rows["tactic_id"], strict=True)],
        y=rows["y"].to_numpy(dtype=np.float64),
        expected=rows["baseline"].to_numpy(dtype=np.float64),
        weight=rows["weight"].to_numpy(dtype=np.float64),
    )
    known = events[events["attendees"].notna() & (events["registrations"] > 0)]
    signed_up = known["registrations"].to_numpy(dtype=np.float64)
    came = np.minimum(known["attendees"].to_numpy(dtype=np.float64), signed_up)
    usual = came.sum() / signed_up.sum() if signed_up.sum() > 0 else 1.0
    show_up = Observations(
        events=[str(e) for e in known.index],
        facts=[facts[str(e)] for e in known.index],
        y=came,
        expected=np.maximum(signed_up * usual, 1e-6),
        weight=np.ones(len(known)),
    )
    return {"registrations": registrations, "show_up": show_up}


def check_insights(settings: Settings, as_of: date, *, engine: Engine | None = None) -> list[tuple[Insight, Verdict]]:
    """Every rule of the organisation with its verdict from the events before ``as_of``. Stores nothing."""
    own = engine or create_engine(settings, pool_size=1)
    try:
        with own.connect() as connection:
            rules = read(connection, settings.organisation)
        if not rules:
            return []
        history = load_history(settings, as_of, engine=own)
        verdicts = check(rules, observations(assemble(history, Rates.of(settings))))
    finally:
        if engine is None:
            own.dispose()
    return list(zip(rules, verdicts, strict=True))


def refresh_verdicts(settings: Settings, as_of: date, *, engine: Engine | None = None) -> dict[str, int]:
    """Check all rules and store the verdicts of the day; repeating it changes nothing. Returns how many of each."""
    own = engine or create_engine(settings, pool_size=1)
    try:
        found = [verdict for _, verdict in check_insights(settings, as_of, engine=own)]
        with own.begin() as connection:
            save_verdicts(connection, settings.organisation, as_of, found)
    finally:
        if engine is None:
            own.dispose()
    counts = {name: sum(v.verdict == name for v in found) for name in ("supported", "contradicted", "untested")}
    log.info("insights_checked", organisation=settings.organisation, as_of=as_of.isoformat(), **counts)
    return counts


def _facts(event: Mapping[Any, Any]) -> Facts:
    price = event["price_base"]
    return Facts(
        day=pd.Timestamp(event["event_date"]).date(),
        category=str(event["segment_id"]),
        format=str(event["format"]),
        is_paid=bool(pd.notna(price) and price > 0),
        organiser=str(event["account"]),
        industries=frozenset(map(str, event["industries"])),
        job_titles=frozenset(map(str, event["job_titles"])),
        company_sizes=frozenset(map(str, event["company_sizes"])),
    )


def _with_tactic(facts: Facts, tactic: str) -> Facts:
    return replace(facts, tactic=tactic)
