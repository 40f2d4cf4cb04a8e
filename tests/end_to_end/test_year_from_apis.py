"""A year of four platforms' days through the real Airflow, asked from their APIs over sockets by the real libraries.

The platforms are servers of the tests that hold a year each and answer for the days they are asked for. What the
warehouse then says must be what they hold, to the cent, however often and in whatever order it was read.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from tests.ingestion.connectors import google_server, linkedin_server, meta_server, sendgrid_server
from turnout.credentials import (
    GoogleAdsCredentials,
    LinkedInAdsCredentials,
    MetaAdsCredentials,
    SendGridCredentials,
)
from turnout.runtime.airflow import AirflowClient
from turnout.runtime.stack import airflow_specs
from turnout.runtime.supervisor import Supervisor
from turnout.settings import Settings
from turnout.warehouse import tables as wh
from turnout.warehouse.engine import create_engine
from turnout.warehouse.fingerprint import fingerprint
from turnout.warehouse.load import empty_all

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.xdist_group("airflow"), pytest.mark.timeout(900)]

FIRST, LAST = date(2025, 11, 1), date(2026, 10, 31)
DAYS = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
SOURCES = ["google_ads", "meta_ads", "linkedin_ads", "sendgrid"]
MIDDLE = FIRST + timedelta(days=181)
CAMPAIGNS = 4
FACTS = (wh.ad_performance, wh.email_performance, wh.campaign)


class GoogleYear(google_server.GoogleServer):
    """Answers the campaign report from :attr:`rows`, for the days the query names."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def _answer(self, asked: google_server.Asked, context: grpc.ServicerContext) -> list[Any]:
        if asked.kind != "performance":
            return super()._answer(asked, context)
        found = re.findall(r"\d{4}-\d{2}-\d{2}", asked.query)
        days = (date.fromisoformat(found[0]) + timedelta(days=n) for n in range(10_000))
        wanted = []
        for day in days:
            if day > date.fromisoformat(found[-1]):
                break
            wanted += self.rows.get(str(day), [])
        return [google_server.batch(results=wanted[n : n + 50], requestId="r") for n in range(0, len(wanted) or 1, 50)]


@dataclass
class Platforms:
    """Four servers with a year each, and the sums they hold."""

    google: GoogleYear
    meta: meta_server.MetaServer
    linkedin: linkedin_server.LinkedInServer
    sendgrid: sendgrid_server.SendGridServer
    sendgrid_url: str
    truth: dict[str, Any] = field(default_factory=dict)

    def fill(self, seed: int) -> None:
        """Hold a year of figures; another seed restates all of them."""
        rng = random.Random(seed)
        self.google.rows.clear()
        self.meta.accounts["901"].rows.clear()
        self.linkedin.accounts["901"].elements.clear()
        self.linkedin.accounts["901"].campaigns = {str(500 + c): f"EV-{c} LinkedIn" for c in range(CAMPAIGNS)}
        self.sendgrid.own.days = {"": {}}
        spend = {source: Decimal(0) for source in ("google_ads", "meta_ads", "linkedin_ads")}
        delivered = 0
        for day in DAYS:
            for c in range(CAMPAIGNS):
                micros = rng.randrange(1_000_000, 90_000_000_000, 10_000)
                self.google.rows.setdefault(str(day), []).append(
                    google_server.campaign_day(
                        100 + c, str(day), f"EV-{c} Search", costMicros=str(micros), impressions="9000", clicks="120",
                        conversions=1.5,
                    )
                )  # fmt: skip
                cents = Decimal(rng.randrange(100, 9_000_000)) / 100
                self.meta.accounts["901"].rows.append(
                    meta_server.row(day, campaign_id=f"c{c}", ad_id=f"a{c}", spend=str(cents), impressions="5000")
                )
                euros = Decimal(rng.randrange(100, 900_000)) / 100
                self.linkedin.accounts["901"].elements.append(
                    linkedin_server.element(day, str(500 + c), costInLocalCurrency=str(euros))
                )
                spend["google_ads"] += Decimal(micros) / 1_000_000
                spend["meta_ads"] += cents
                spend["linkedin_ads"] += euros
            sent = rng.randrange(0, 3000)
            delivered += sent
            self.sendgrid.own.days[""][day] = sendgrid_server.metrics(requests=sent, delivered=sent)
        self.truth = {**{source: (CAMPAIGNS * len(DAYS), total) for source, total in spend.items()}}
        self.truth["sendgrid"] = (len(DAYS), Decimal(delivered))


@pytest.fixture(scope="module")
def platforms() -> Iterator[Platforms]:
    with ExitStack() as stack:
        servers = [
            stack.enter_context(made)
            for made in (GoogleYear(), meta_server.MetaServer(), linkedin_server.LinkedInServer())
        ]
        mail, url = stack.enter_context(sendgrid_server.running())
        yield Platforms(*servers, mail, url)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def installation(
    _servers: dict[str, str], platforms: Platforms, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    settings = Settings(
        home=tmp_path_factory.mktemp("year"), identity_salt="salt", airflow_port=19000 + os.getpid() % 800,
        google_ads=GoogleAdsCredentials(
            developer_token=google_server.DEVELOPER_TOKEN, client_id="client",
            client_secret=google_server.CLIENT_SECRET, refresh_token=google_server.REFRESH_TOKEN,
            base_url=platforms.google.url, token_url=platforms.google.token_url,
        ),
        meta_ads=MetaAdsCredentials(access_token=meta_server.TOKEN, base_url=platforms.meta.url),
        linkedin_ads=LinkedInAdsCredentials(access_token=linkedin_server.TOKEN, base_url=platforms.linkedin.url),
        sendgrid=SendGridCredentials(
            api_key=sendgrid_server.KEY, base_url=platforms.sendgrid_url, time_zone="Asia/Tokyo"
        ),
        **_servers,
    )  # fmt: skip
    engine = create_engine(settings)
    with engine.begin() as connection:
        empty_all(connection)
    engine.dispose()
    with Supervisor(settings) as supervisor:
        supervisor.start(airflow_specs(supervisor.settings, ("api-server", "scheduler", "dag-processor")))
        yield supervisor.settings


def held(settings: Settings) -> dict[str, tuple[int, Decimal]]:
    """Rows and the sum of spend (of mails: delivered) per source."""
    engine = create_engine(settings)
    try:
        with engine.connect() as connection:
            found = {
                source: (rows, total)
                for table, column in ((wh.ad_performance, "spend"), (wh.email_performance, "delivered"))
                for source, rows, total in connection.execute(
                    sa.select(
                        table.c.source, sa.func.count(), sa.cast(sa.func.sum(table.c[column]), sa.Numeric)
                    ).group_by(table.c.source)
                )
            }
    finally:
        engine.dispose()
    return found


def prints(settings: Settings) -> dict[str, str]:
    engine = create_engine(settings)
    try:
        return fingerprint(engine, FACTS, without=frozenset(("run_id", "fetched_at", "updated_at")))
    finally:
        engine.dispose()


def test_a_year_of_four_platforms_is_what_they_hold_however_it_was_read(
    installation: Settings, platforms: Platforms
) -> None:
    platforms.fill(seed=1)
    with AirflowClient(installation) as airflow:
        year = {"from": str(FIRST), "to": str(LAST), "sources": SOURCES}
        airflow.run("backfill_history", year, timeout=600)
        assert held(installation) == platforms.truth
        once = prints(installation)

        airflow.run("backfill_history", year, timeout=600)
        assert prints(installation) == once

        # the later half before the earlier one, over figures that were restated meanwhile
        platforms.fill(seed=2)
        for first, last in ((MIDDLE + timedelta(days=1), LAST), (FIRST, MIDDLE)):
            airflow.run("backfill_history", {**year, "from": str(first), "to": str(last)}, timeout=600)
        assert held(installation) == platforms.truth
        assert prints(installation) != once
