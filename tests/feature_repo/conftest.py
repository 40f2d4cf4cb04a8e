"""A small history in the warehouse, written event by event."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from turnout.settings import Settings
from turnout.warehouse import tables as wh
from turnout.warehouse.partitions import ensure_months

Hold = Callable[..., str]


class History:
    """Adds events with what their tactics brought.

    ``hold(day, meta_ads=(40, 100_000, 3))`` is an event with 40 registrations from 100,000 yen and 3 staff hours.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self.organisation = settings.organisation
        self._count = 0

    def insert(self, table: sa.Table, **values: Any) -> None:
        self._count += 1
        provenance = {
            "organisation": self.organisation, "source": "spreadsheet", "account": "", "account_time_zone": "UTC",
            "fetched_at": datetime(2026, 1, 1, tzinfo=UTC), "run_id": uuid.UUID(int=1), "line": self._count,
        }  # fmt: skip
        row = {name: value for name, value in provenance.items() if name in table.c} | values
        with self.engine.begin() as connection:
            if table in wh.FACT_TABLES:
                ensure_months(connection, table, row["date"], row["date"])
            connection.execute(table.insert().values(row))

    def hold(
        self, day: date, segment: str = "ai_data", *, organic: int = 0, attended: float | None = None,
        organisation: str | None = None, clicks: int | None = 200, reach: int | None = 10_000,
        **tactics: tuple[float | None, float | None, float | None],
    ) -> str:  # fmt: skip
        self._count += 1
        organisation = organisation or self.organisation
        event_id = f"{organisation}-{self._count}"
        total = sum(int(brought or 0) for brought, _, _ in tactics.values()) + organic
        self.insert(
            wh.event, organisation=organisation, event_id=event_id, name=event_id, event_date=day,
            time_zone="Asia/Tokyo", category=segment, format="online", currency="JPY", base_currency="JPY",
            actual_registrations=total, actual_attendees=None if attended is None else round(total * attended),
        )  # fmt: skip
        for tactic, (brought, spend, hours) in tactics.items():
            self.insert(
                wh.tactic_result, organisation=organisation, result_id=f"{event_id}-{tactic}", event_id=event_id,
                event_name=event_id, tactic_id=tactic, tactic_name=tactic, registrations=brought, cost=spend,
                cost_base=spend, staff_hours=hours, currency="JPY", base_currency="JPY", fx_rate=1, fx_date=day,
                reach=reach, clicks=clicks,
            )  # fmt: skip
        return event_id

    def advertise(self, event_id: str, first: date, days: int, *, clicks: int, impressions: int, spend: float) -> None:
        """Daily figures of a campaign on Meta."""
        self.insert(
            wh.campaign, source="meta_ads", campaign_id=f"c-{event_id}", name="c", tactic_id="meta_ads",
            event_id=event_id,
        )  # fmt: skip
        for n in range(days):
            day = first + timedelta(days=n)
            self.insert(
                wh.ad_performance, source="meta_ads", date=day, period_end=day, campaign_id=f"c-{event_id}",
                campaign_name="c", impressions=impressions, clicks=clicks, spend=spend, spend_base=spend,
                currency="JPY", base_currency="JPY", fx_rate=1, fx_date=day,
            )  # fmt: skip

    def register(self, event_id: str, day: date, quantity: int) -> None:
        self.insert(
            wh.registration, source="registrations", date=day, event_id=event_id, quantity=quantity, status="confirmed"
        )


@pytest.fixture
def history(engine: Engine, settings: Settings) -> History:
    return History(engine, settings)
