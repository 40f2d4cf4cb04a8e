"""Clean frames as the loader hands them to the gate: Decimal, date, None, object columns."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from expectations.gate import TurnoutGate
from turnout.settings import Settings

TODAY = date(2026, 11, 25)
Frames = Callable[..., pd.DataFrame]


@pytest.fixture(scope="session")
def gate_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate")


@pytest.fixture(scope="session")
def gate(gate_home: Path) -> TurnoutGate:
    """A gate without a warehouse: what was usual is not known."""
    return TurnoutGate(Settings(home=gate_home), today=TODAY)


def _provenance(source: str) -> dict[str, Any]:
    return {
        "organisation": "org",
        "source": source,
        "account": "a1",
        "account_time_zone": "Asia/Tokyo",
        "fetched_at": datetime(2026, 11, 24, 18, tzinfo=UTC),
        "run_id": uuid.UUID(int=7),
    }


def _ad(rng: random.Random, n: int) -> dict[str, Any]:
    impressions = rng.randint(300, 20_000)
    spend = Decimal(rng.randint(100, 90_000))
    day = date(2026, 9, 1) + timedelta(days=n // 6 % 60)
    return {
        **_provenance(rng.choice(["google_ads", "meta_ads", "linkedin_ads"])),
        "date": day,
        "line": n,
        "period_end": day,
        "campaign_id": f"c{n % 6}",
        "campaign_name": f"集客 {n % 6}",
        "ad_group": None,
        "ad_name": f"ad {n}",
        "impressions": impressions,
        "clicks": rng.randint(0, impressions // 15),
        "spend": spend,
        "currency": "JPY",
        "spend_base": spend,
        "base_currency": "JPY",
        "fx_rate": Decimal(1),
        "fx_date": date(2026, 1, 1),
        "conversions": Decimal(rng.randint(0, 300)) / 100,
        "registrations": None,
        "leads": None,
        "is_partial": False,
    }


def _mail(rng: random.Random, n: int) -> dict[str, Any]:
    requests = rng.randint(100, 30_000)
    delivered = requests - rng.randint(0, requests // 20)
    opens = rng.randint(0, delivered)
    clicks = rng.randint(0, opens // 5 + 1)
    return {
        **_provenance("sendgrid"),
        "date": date(2026, 6, 1) + timedelta(days=n // 3),
        "line": n,
        "category": ["", "invite", "reminder"][n % 3],
        "requests": requests,
        "processed": requests,
        "delivered": delivered,
        "opens": opens,
        "unique_opens": rng.randint(opens // 2, opens),
        "clicks": clicks,
        "unique_clicks": rng.randint(clicks // 2, clicks),
        "bounces": rng.randint(0, 20),
        "unsubscribes": None,
        "is_partial": False,
    }


def _registration(rng: random.Random, n: int) -> dict[str, Any]:
    at = datetime(2026, 6, 1, 10, tzinfo=UTC) + timedelta(hours=7 * n)
    return {
        **_provenance("registrations"),
        "date": at.date(),
        "line": n,
        "event_id": "evt_1",
        "registered_at": at,
        "quantity": 1,
        "ticket_type": rng.choice(["一般", "学生", None]),
        "status": rng.choices(["confirmed", "cancelled", "waitlist"], [90, 8, 2])[0],
        "source_label": rng.choice(["メルマガ", "X", None]),
        "tactic_id": None,
        "attended": None,
        "registrant_hash": f"{rng.getrandbits(96):024x}",
    }


def _event(rng: random.Random, n: int) -> dict[str, Any]:
    registrations = rng.randint(20, 900)
    return {
        **_provenance("spreadsheet"),
        "event_id": f"evt_{n}",
        "name": f"AI カンファレンス {n}",
        "event_date": date(2025, 1, 1) + timedelta(days=5 * n),
        "time_zone": "Asia/Tokyo",
        "category": "ai_data",
        "theme": "生成AI",
        "format": rng.choice(["online", "offline", "hybrid"]),
        "registration_opens": None,
        "price": Decimal(0),
        "capacity": None,
        "target_registrations": rng.randint(50, 1_000),
        "actual_registrations": registrations,
        "actual_attendees": int(registrations * rng.uniform(0.3, 1.0)),
        "budget": Decimal(rng.randint(200_000, 3_000_000)),
        "actual_cost": Decimal(rng.randint(0, 3_000_000)),
        "currency": "JPY",
        "industries": ["it"],
        "job_titles": [],
        "company_sizes": [],
        "is_simulated": False,
    }


def _result(rng: random.Random, n: int) -> dict[str, Any]:
    reach = rng.randint(1_000, 50_000)
    clicks = rng.randint(50, reach // 10)
    registrations, cost = rng.randint(1, 40), Decimal(rng.randint(0, 800_000))
    return {
        **_provenance("spreadsheet"),
        "result_id": f"r{n}",
        "event_id": None,
        "event_name": f"AI カンファレンス {n}",
        "tactic_id": rng.choice(["own_email", "meta_ads", "google_search", "partner"]),
        "tactic_name": "施策",
        "industries": [],
        "job_titles": [],
        "company_sizes": [],
        "reach": reach,
        "clicks": clicks,
        "registrations": Decimal(registrations),
        "cost": cost,
        "currency": "JPY",
        "cost_base": cost,
        "base_currency": "JPY",
        "fx_rate": Decimal(1),
        "fx_date": date(2026, 1, 1),
        "staff_hours": Decimal("4.5"),
        "reported_cpa": (cost / registrations).quantize(Decimal(1)),
    }


_MAKERS = {
    "ad_performance": _ad,
    "email_performance": _mail,
    "registration": _registration,
    "event": _event,
    "tactic_result": _result,
}


@pytest.fixture(scope="session")
def clean() -> Frames:
    """``clean(table, rows, seed=…)``: a frame nothing is wrong with; its labels are ``r0, r1, …``."""

    def make(table: str, rows: int, *, seed: int = 1) -> pd.DataFrame:
        rng = random.Random(seed)
        records = [_MAKERS[table](rng, n) for n in range(rows)]
        return pd.DataFrame(records, index=[f"r{n}" for n in range(rows)], dtype=object)

    return make
