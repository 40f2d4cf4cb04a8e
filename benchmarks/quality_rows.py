"""Single faults in single rows, and the clean rows they are put into, as the loader hands them to the gate."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd

TODAY = date(2026, 11, 25)


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
    clicks = int(impressions * rng.uniform(0.02, 0.05))
    spend = Decimal(clicks * rng.randint(80, 160))
    day = date(2026, 9, 1) + timedelta(days=n // 6 % 60)
    return {
        **_provenance(("google_ads", "meta_ads", "linkedin_ads")[n % 3]),
        "date": day,
        "line": n,
        "period_end": day,
        "campaign_id": f"c{n % 6}",
        "campaign_name": f"集客 {n % 6}",
        "ad_group": None,
        "ad_name": f"ad {n}",
        "impressions": impressions,
        "clicks": clicks,
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


def clean_rows(table: str, rows: int, *, seed: int = 1) -> pd.DataFrame:
    """A frame nothing is wrong with; its labels are ``r0, r1, …``."""
    rng = random.Random(seed)  # noqa: S311 - makes examples, no secrets
    records = [_MAKERS[table](rng, n) for n in range(rows)]
    return pd.DataFrame(records, index=[f"r{n}" for n in range(rows)], dtype=object)


#: name of the fault, what it does to a row, the code it is caught by.
Fault = tuple[str, dict[str, Any], str]

REJECTED: dict[str, list[Fault]] = {
    "ad_performance": [
        ("no day", {"date": None}, "missing"),
        ("no end of period", {"period_end": None}, "missing"),
        ("no campaign", {"campaign_id": None}, "missing"),
        ("no campaign name", {"campaign_name": None}, "missing"),
        ("no currency", {"currency": None}, "missing"),
        ("no rate", {"fx_rate": None}, "missing"),
        ("text in a count", {"impressions": "many"}, "wrong_type"),
        ("text in an amount", {"spend": "¥1,2oo"}, "wrong_type"),
        ("text in a day", {"date": "sometime"}, "wrong_type"),
        ("half a click", {"clicks": Decimal("3.5")}, "wrong_type"),
        ("infinite spend", {"spend": float("inf")}, "wrong_type"),
        ("a number for a name", {"campaign_name": 12}, "wrong_type"),
        ("day in 1900", {"date": date(1900, 1, 1)}, "implausible_date"),
        ("day in 2099", {"date": date(2099, 1, 1), "period_end": date(2099, 1, 1)}, "implausible_date"),
        ("period backwards", {"period_end": date(2026, 8, 1)}, "period_reversed"),
        ("negative impressions", {"impressions": -5}, "out_of_range"),
        ("negative clicks", {"clicks": -5}, "out_of_range"),
        ("negative spend", {"spend": Decimal(-1), "spend_base": Decimal(-1)}, "out_of_range"),
        ("negative conversions", {"conversions": Decimal(-2)}, "out_of_range"),
        ("negative registrations", {"registrations": Decimal(-2)}, "out_of_range"),
        ("absurd impressions", {"impressions": 10**12}, "out_of_range"),
        ("absurd spend", {"spend": Decimal(10**12), "spend_base": Decimal(10**12)}, "out_of_range"),
        ("currency sign", {"currency": "¥"}, "unknown_currency"),
        ("currency in words", {"currency": "yen"}, "unknown_currency"),
        ("rate of zero", {"fx_rate": Decimal(0)}, "bad_rate"),
        ("wrongly converted", {"spend_base": Decimal(1)}, "wrong_conversion"),
        ("columns swapped", {"source": "google_ads", "impressions": 40, "clicks": 9_000}, "clicks_over_impressions"),
        ("clicks on nothing", {"source": "meta_ads", "impressions": 0, "clicks": 300}, "clicks_over_impressions"),
        (
            "spend in millionths",
            {"impressions": 900, "spend": Decimal(9_000_000_000), "spend_base": Decimal(9_000_000_000)},
            "implausible_price",
        ),
    ],
    "email_performance": [
        ("no day", {"date": None}, "missing"),
        ("text in a count", {"opens": "n/a"}, "wrong_type"),
        ("day in 1970", {"date": date(1970, 1, 1)}, "implausible_date"),
        ("negative deliveries", {"delivered": -1}, "out_of_range"),
        ("negative bounces", {"bounces": -3}, "out_of_range"),
        ("absurd requests", {"requests": 10**13}, "out_of_range"),
        ("more unique opens than opens", {"opens": 10, "unique_opens": 20}, "unique_opens_over_opens"),
        ("more unique clicks than clicks", {"clicks": 1, "unique_clicks": 2}, "unique_clicks_over_clicks"),
    ],
    "registration": [
        ("no day", {"date": None}, "missing"),
        ("no status", {"status": None}, "missing"),
        ("no quantity", {"quantity": None}, "missing"),
        ("unknown status", {"status": "maybe"}, "unknown_status"),
        ("quantity of zero", {"quantity": 0}, "out_of_range"),
        ("quantity below zero", {"quantity": -1}, "out_of_range"),
        ("text in a quantity", {"quantity": "two"}, "wrong_type"),
        ("attendance neither yes nor no", {"attended": "perhaps"}, "wrong_type"),
        ("day in 1900", {"date": date(1900, 1, 1), "registered_at": None}, "implausible_date"),
        ("day and instant a year apart", {"registered_at": datetime(2025, 9, 1, tzinfo=UTC)}, "dates_apart"),
    ],
    "event": [
        ("no name", {"name": None}, "missing"),
        ("blank name", {"name": " 　"}, "missing"),
        ("no day", {"event_date": None}, "missing"),
        ("day in 1900", {"event_date": date(1900, 1, 1)}, "implausible_date"),
        ("day in 2126", {"event_date": date(2126, 1, 1)}, "implausible_date"),
        ("unknown format", {"format": "somewhere"}, "unknown_format"),
        ("unknown category", {"category": "gardening"}, "unknown_category"),
        ("negative target", {"target_registrations": -1}, "out_of_range"),
        ("negative attendees", {"actual_attendees": -1}, "out_of_range"),
        ("negative budget", {"budget": Decimal(-1)}, "out_of_range"),
        ("absurd price", {"price": Decimal(10**10)}, "out_of_range"),
        ("text in a budget", {"budget": "120万円くらい"}, "wrong_type"),
        ("currency sign", {"currency": "$"}, "unknown_currency"),
        ("same event again", {"event_id": "evt_0"}, "duplicate"),
    ],
    "tactic_result": [
        ("no event", {"event_name": None}, "missing"),
        ("blank event", {"event_name": ""}, "missing"),
        ("no tactic", {"tactic_id": None}, "missing"),
        ("unknown tactic", {"tactic_id": "skywriting"}, "unknown_tactic"),
        ("negative reach", {"reach": -1}, "out_of_range"),
        ("negative registrations", {"registrations": Decimal(-1)}, "out_of_range"),
        ("negative cost", {"cost": Decimal(-1), "cost_base": Decimal(-1)}, "out_of_range"),
        ("a year of hours in a day", {"staff_hours": Decimal(50_000)}, "out_of_range"),
        ("text in a cost", {"cost": "unknown"}, "wrong_type"),
        ("columns swapped", {"reach": 10, "clicks": 5_000}, "clicks_over_reach"),
        ("same result again", {"result_id": "r0"}, "duplicate"),
    ],
}
WARNED: dict[str, list[Fault]] = {
    "ad_performance": [
        ("day to come", {"date": date(2027, 3, 1), "period_end": date(2027, 3, 1)}, "date_in_future"),
        ("more clicks", {"source": "meta_ads", "impressions": 20, "clicks": 27}, "more_clicks_than_impressions"),
        ("many conversions", {"clicks": 2, "conversions": Decimal(900)}, "many_conversions"),
        (
            "more registrations than conversions",
            {"clicks": 90, "conversions": Decimal(1), "registrations": Decimal(9)},
            "more_registrations_than_conversions",
        ),
        ("spend on nothing", {"impressions": 0, "clicks": 0}, "spend_without_impressions"),
    ],
    "registration": [
        ("came without registration", {"status": "cancelled", "attended": True}, "attended_without_registration"),
    ],
    "event": [
        ("opens after", {"registration_opens": date(2030, 1, 1)}, "opens_after_event"),
        (
            "a crowd",
            {"actual_registrations": 10, "actual_attendees": 400},
            "more_attendees_than_registrations",
        ),
        ("ten cinemas in one", {"capacity": 10, "actual_registrations": 900}, "far_over_capacity"),
        ("budget in thousands", {"budget": Decimal(100), "actual_cost": Decimal(1_000_000)}, "far_over_budget"),
    ],
    "tactic_result": [
        ("registrations past clicks", {"clicks": 3, "registrations": Decimal(30)}, "more_registrations_than_clicks"),
        ("CPA of another row", {"reported_cpa": Decimal(9_999_999)}, "cpa_differs"),
    ],
}
