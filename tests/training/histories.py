"""Small histories with a known law, as frames and in the warehouse.

Each event draws registrations per tactic as Poisson(benchmark at its spend x level of the tactic x season x shocks), so
that a test can ask what a model found against what was put in.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from training.dataset import History, brief_of, expected, prepared, usual_effort
from turnout.identity import event_key
from turnout.money import Rates
from turnout.settings import Settings
from turnout.tactics import load_catalogue
from turnout.tactics.priors import prior_curve
from turnout.warehouse import tables
from turnout.warehouse.partitions import ensure_months

RATES = Rates({"JPY": 1.0, "USD": 150.0})
UNTIL = date(2026, 11, 1)

#: Levels against the benchmark, by tactic.
LEVELS = {"meta_ads": 1.6, "google_search": 0.7, "own_email": 1.3, "linkedin_ads": 1.0, "partner": 0.8}


@dataclass(frozen=True)
class Law:
    """How registrations come about."""

    levels: dict[str, float] = field(default_factory=lambda: dict(LEVELS))
    organic: float = 30.0
    season: float = 0.2
    event_sd: float = 0.10
    tactic_sd: float = 0.25
    show_up: float = 0.6
    days: int = 730
    segments: tuple[str, ...] = ("ai_data", "cloud", "marketing")


def records(
    count: int, law: Law | None = None, *, seed: int = 0, until: date = UNTIL, organisation: str = "default"
) -> list[dict[str, Any]]:
    """``count`` events over ``law.days`` days before ``until``, oldest first, each with its tactics."""
    law = law or Law()
    rng = np.random.default_rng(seed)
    catalogue = load_catalogue()
    events = []
    for i in range(count):
        day = until - timedelta(days=1 + int(law.days * (count - 1 - i) / max(count, 1)))
        event: dict[str, Any] = {
            "name": f"Event {i:04d}",
            "event_date": day,
            "segment_id": law.segments[i % len(law.segments)],
            "format": ("online", "offline", "hybrid")[int(rng.integers(3))],
            "price_base": 0.0 if rng.random() < 0.8 else 3000.0,
            "target_registrations": 100,
            "industries": [],
            "job_titles": [],
            "company_sizes": [],
            "is_simulated": True,
        }
        event["event_id"] = event_key(organisation, event["name"], day)
        brief = brief_of(event, "JPY")
        demand = math.exp(law.season * math.sin(2 * math.pi * day.timetuple().tm_yday / 365)) * math.exp(
            rng.normal(0, law.event_sd)
        )
        event["tactics"] = {}
        for tactic_id, level in law.levels.items():
            if rng.random() > 0.75:
                continue
            tactic = catalogue.get(tactic_id)
            prior = prior_curve(tactic, brief, RATES)
            x = float(np.exp(rng.normal(np.log(200_000), 0.6))) if tactic.is_paid else usual_effort(prior)
            mean = expected(prior.curve, x) * level * demand * math.exp(rng.normal(0, law.tactic_sd))
            event["tactics"][tactic_id] = {
                "spend_base": round(x) if tactic.is_paid else None,
                "staff_hours": None if tactic.is_paid else x,
                "registrations": int(rng.poisson(mean)),
            }
        event["organic"] = int(rng.poisson(law.organic * demand))
        event["registrations"] = event["organic"] + sum(t["registrations"] for t in event["tactics"].values())
        event["attendees"] = int(rng.binomial(event["registrations"], law.show_up))
        events.append(event)
    return events


def daily_of(event: dict[str, Any], rng: np.random.Generator) -> dict[tuple[str | None, int], int]:
    """Registrations by tactic and days before the event: half of them in the last week."""
    counts: dict[tuple[str | None, int], int] = {}
    each = [(t, r["registrations"]) for t, r in event["tactics"].items()] + [(None, event["organic"])]
    for tactic, number in each:
        for ahead in np.minimum(rng.exponential(10.0, number), 59).astype(int):
            counts[tactic, int(ahead)] = counts.get((tactic, int(ahead)), 0) + 1
    return counts


def history(events: list[dict[str, Any]], *, until: date = UNTIL, daily: bool = True) -> History:
    """The frames that :func:`training.dataset.load_history` would read."""
    rng = np.random.default_rng(1)
    columns = (
        "event_id", "event_date", "segment_id", "format", "price_base", "registrations", "organic_registrations",
        "attendees", "show_up_rate", "is_simulated", "name", "target_registrations", "industries", "job_titles",
        "company_sizes",
    )  # fmt: skip
    frame = pd.DataFrame.from_records(
        [
            event
            | {
                "organic_registrations": event["organic"],
                "show_up_rate": event["attendees"] / event["registrations"] if event["registrations"] else None,
            }
            for event in events
        ],
        columns=list(columns) if not events else None,
    )[list(columns)].set_index("event_id")
    tactics = pd.DataFrame.from_records(
        [
            {"event_id": event["event_id"], "tactic_id": tactic, "registrations_basis": "registration_system", **result}
            for event in events
            for tactic, result in event["tactics"].items()
        ],
        columns=["event_id", "tactic_id", "registrations_basis", "spend_base", "staff_hours", "registrations"],
    )
    counted = pd.DataFrame.from_records(
        [
            {"event_id": event["event_id"], "days_before": ahead, "registrations": number}
            for event in events
            for (_, ahead), number in (daily_of(event, rng) if daily else {}).items()
        ],
        columns=["event_id", "days_before", "registrations"],
    )
    return prepared(frame, tactics, counted, until)


def store(engine: Engine, settings: Settings, events: list[dict[str, Any]]) -> None:
    """Write events, the organiser's tactic results and dated registrations to the warehouse."""
    rng = np.random.default_rng(1)
    source = {
        "organisation": settings.organisation, "account": "", "account_time_zone": "Asia/Tokyo",
        "fetched_at": datetime(2026, 11, 1, tzinfo=UTC), "run_id": uuid.UUID(int=1),
    }  # fmt: skip
    money = {"currency": "JPY", "base_currency": "JPY", "fx_rate": 1, "fx_date": date(2026, 1, 1)}
    event_rows, results, registrations = [], [], []
    for event in events:
        event_rows.append(
            source
            | money
            | {
                "source": "spreadsheet", "event_id": event["event_id"], "name": event["name"],
                "event_date": event["event_date"], "time_zone": "Asia/Tokyo", "category": event["segment_id"],
                "format": event["format"], "price": event["price_base"],
                "target_registrations": event["target_registrations"], "is_simulated": event["is_simulated"],
            }
        )  # fmt: skip
        for tactic, result in event["tactics"].items():
            results.append(
                source
                | money
                | {
                    "source": "spreadsheet", "result_id": f"{event['event_id']}-{tactic}",
                    "event_id": event["event_id"], "event_name": event["name"], "tactic_id": tactic,
                    "tactic_name": tactic, "cost": result["spend_base"] or 0, "cost_base": result["spend_base"] or 0,
                    "staff_hours": result["staff_hours"], "registrations": result["registrations"],
                }
            )  # fmt: skip
        came = event["attendees"]
        for (tactic, ahead), number in daily_of(event, rng).items():
            attending = min(number, came)
            came -= attending
            for quantity, attended in ((attending, True), (number - attending, False)):
                if quantity:
                    registrations.append(
                        source
                        | {
                            "source": "registrations", "account": event["event_id"],
                            "date": event["event_date"] - timedelta(days=ahead), "event_id": event["event_id"],
                            "quantity": quantity, "status": "confirmed", "source_label": tactic or "direct",
                            "tactic_id": tactic, "attended": attended,
                        }
                    )  # fmt: skip
    for line, row in enumerate(registrations):
        row["line"] = line
    with engine.begin() as connection:
        for table, rows in (
            (tables.event, event_rows),
            (tables.tactic_result, results),
            (tables.registration, registrations),
        ):
            if not rows:
                continue
            if table is tables.registration:
                days = [row["date"] for row in rows]
                ensure_months(connection, table, min(days), max(days))
            connection.execute(sa.insert(table), rows)
