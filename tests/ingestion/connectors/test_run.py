"""The runner between a connector and the warehouse: what a platform's answers, and its refusals, do to the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from ingestion import api
from ingestion.connectors import run
from ingestion.connectors.base import (
    AccessDenied,
    Check,
    Connector,
    RateLimited,
    ReadExpired,
    SourceAccount,
    SourceFault,
    TooMuchData,
    TransientError,
    Unavailable,
)
from ingestion.connectors.retry import patiently
from ingestion.records import Record
from turnout.credentials import MetaAdsCredentials
from turnout.quality import accept_everything
from turnout.settings import Settings
from turnout.warehouse import tables as wh

FIRST = date(2026, 3, 1)
LAST = date(2026, 3, 20)
ORGANISATION = "default"


class Platform:
    """What a platform holds and how it answers; a connector below asks it."""

    def __init__(self) -> None:
        self.days: dict[tuple[str, date], Decimal] = {}
        self.accounts = [SourceAccount("meta_ads", "111", "Main", "Asia/Tokyo", "JPY")]
        self.longest = 10_000
        self.refuse: dict[str, Exception] = {}
        self.fail_once: list[Exception] = []
        self.asked: list[tuple[str, date, date]] = []
        self.readable = True

    def fill(self, account: str = "111", spend: int = 1000) -> None:
        for n in range((LAST - FIRST).days + 1):
            self.days[account, FIRST + timedelta(days=n)] = Decimal(spend + n)


class Scripted(Connector):
    source = "meta_ads"
    table = "ad_performance"
    max_days = 7
    platform: Platform

    def accounts(self) -> list[SourceAccount]:
        if "" in self.platform.refuse:
            raise self.platform.refuse[""]
        return self.platform.accounts

    def rows(self, account: SourceAccount, first: date, last: date) -> Iterator[Record]:
        platform = self.platform
        platform.asked.append((account.account_id, first, last))
        if account.account_id in platform.refuse:
            raise platform.refuse[account.account_id]
        found = sorted(d for a, d in platform.days if a == account.account_id and first <= d <= last)
        if len(found) > platform.longest:
            raise TooMuchData("please reduce the amount of data")
        for number, day in enumerate(found, 1):
            if number == 2 and platform.fail_once:
                raise platform.fail_once.pop()
            spend = platform.days[account.account_id, day]
            yield Record(self.table, number, {
                "date": day, "period_end": day, "campaign_id": "c1", "campaign_name": "EV-1 Spring",
                "impressions": 1000, "clicks": 10, "spend": spend, "conversions": None,
            })  # fmt: skip

    def confirm_access(self, account: SourceAccount) -> None:
        if not self.platform.readable:
            raise AccessDenied("the token may not read this account")

    def check(self) -> Iterator[Check]:
        yield Check("credentials", "ok", "accepted")


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Platform:
    found = Platform()
    Scripted.platform = found
    monkeypatch.setattr(run, "connector_class", lambda source: Scripted)
    return found


Read = Callable[..., run.SourceOutcome]


@pytest.fixture
def read(settings: Settings, engine: Engine) -> Read:
    def call(first: date = FIRST, last: date = LAST, **options: Any) -> run.SourceOutcome:
        return run.read_source(
            "meta_ads", first, last, settings=settings, engine=engine, gate=accept_everything, run_id=uuid4(), **options
        )

    return call


def stored(engine: Engine) -> dict[tuple[str, date], Decimal]:
    t = wh.ad_performance
    with engine.connect() as connection:
        rows = connection.execute(
            sa.select(t.c.account, t.c.date, sa.func.sum(t.c.spend)).group_by(t.c.account, t.c.date)
        )
        return {(account, day): spend for account, day, spend in rows}


def test_reading_twice_replaces_and_never_adds(platform: Platform, read: Read, engine: Engine) -> None:
    platform.fill()
    read()
    platform.fill(spend=1500)  # restated
    read()
    assert stored(engine) == platform.days


def test_only_the_days_asked_for_change(platform: Platform, read: Read, engine: Engine) -> None:
    platform.fill()
    read()
    before = stored(engine)
    platform.fill(spend=9000)
    read(first=LAST - timedelta(days=2))
    after = stored(engine)
    changed = {day for (_, day), spend in after.items() if before["111", day] != spend}
    assert changed == {LAST - timedelta(days=n) for n in range(3)}


def test_a_range_with_too_much_data_is_halved_until_it_fits(platform: Platform, read: Read, engine: Engine) -> None:
    platform.fill()
    platform.longest = 1
    read()
    assert stored(engine) == platform.days
    assert max((last - first).days for _, first, last in platform.asked[-3:]) <= 1


def test_a_day_that_alone_is_too_much_is_a_fault_that_names_it(platform: Platform, read: Read, engine: Engine) -> None:
    platform.fill()
    platform.longest = 0
    outcome = read()
    with pytest.raises(SourceFault, match="2026-03-01 alone"):
        outcome.raise_failures()
    assert stored(engine) == {}


def test_an_answer_that_goes_stale_midway_is_read_again_from_its_start(
    platform: Platform, read: Read, engine: Engine
) -> None:
    platform.fill()
    platform.fail_once = [ReadExpired("page token expired")]
    assert not read().failures
    assert stored(engine) == platform.days


def test_a_slice_that_breaks_midway_leaves_the_warehouse_as_it_was(
    platform: Platform, read: Read, engine: Engine
) -> None:
    platform.fill()
    read()
    before = stored(engine)
    platform.fill(spend=7)
    platform.fail_once = [Unavailable("HTTP 502")]
    outcome = read()
    with pytest.raises(TransientError, match="HTTP 502"):
        outcome.raise_failures()
    assert stored(engine) == before


def test_one_account_that_says_no_does_not_keep_the_others_out(platform: Platform, read: Read, engine: Engine) -> None:
    platform.accounts.append(SourceAccount("meta_ads", "222", "Second", "UTC", "USD"))
    platform.fill("111")
    platform.fill("222")
    platform.refuse["111"] = AccessDenied("the token has expired; make a new one")
    outcome = read()
    assert {account for account, _ in stored(engine)} == {"222"}
    with pytest.raises(AccessDenied, match="account 111: the token has expired"):
        outcome.raise_failures()


def test_an_empty_answer_without_access_is_no_zero(platform: Platform, read: Read, engine: Engine) -> None:
    platform.fill()
    read()
    before = stored(engine)
    platform.days.clear()
    platform.readable = False
    outcome = read()
    assert isinstance(outcome.failures[0][1], AccessDenied)
    assert stored(engine) == before


def test_an_empty_answer_over_known_days_keeps_them_and_says_so(platform: Platform, read: Read, engine: Engine) -> None:
    platform.fill()
    read()
    before = stored(engine)
    platform.days.clear()
    outcome = read()
    assert stored(engine) == before
    assert any("empty_answer" in w for report in outcome.reports for w in report.warnings)


def test_a_day_the_platform_has_no_row_of_any_more_is_emptied(platform: Platform, read: Read, engine: Engine) -> None:
    platform.fill()
    read()
    del platform.days["111", FIRST + timedelta(days=3)]
    read()
    assert stored(engine) == platform.days


def test_figures_the_platform_left_out_are_unknown(platform: Platform, read: Read, engine: Engine) -> None:
    platform.fill()
    read()
    t = wh.ad_performance
    with engine.connect() as connection:
        rows = connection.execute(sa.select(t.c.conversions, t.c.registrations, t.c.leads).distinct()).all()
    assert rows == [(None, None, None)]


def test_the_accounts_currency_zone_and_rate_go_with_each_row(platform: Platform, read: Read, engine: Engine) -> None:
    platform.accounts = [SourceAccount("meta_ads", "111", "US", "America/New_York", "USD")]
    platform.fill()
    read()
    t = wh.ad_performance
    with engine.connect() as connection:
        row = connection.execute(
            sa.select(t.c.currency, t.c.account_time_zone, t.c.fx_rate, t.c.spend_base, t.c.spend).limit(1)
        ).one()
    assert (row.currency, row.account_time_zone) == ("USD", "America/New_York")
    assert row.spend_base == row.spend * row.fx_rate


def test_today_is_marked_as_not_over(platform: Platform, read: Read, engine: Engine) -> None:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    today = datetime.now(ZoneInfo("Asia/Tokyo")).date()
    for n in range(3):
        platform.days["111", today - timedelta(days=n)] = Decimal(100)
    read(first=today - timedelta(days=2), last=today + timedelta(days=5))
    t = wh.ad_performance
    with engine.connect() as connection:
        partial = dict(connection.execute(sa.select(t.c.date, t.c.is_partial)).all())  # type: ignore[arg-type]
    assert partial == {today: True, today - timedelta(days=1): False, today - timedelta(days=2): False}


def test_days_before_the_platforms_history_are_left_alone(
    platform: Platform, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scripted, "history_days", 30)
    read(first=date(2020, 1, 1), last=date(2020, 12, 31))
    assert platform.asked == []


def test_a_dry_run_reads_everything_and_writes_nothing(platform: Platform, read: Read, engine: Engine) -> None:
    platform.fill()
    outcome = read(dry_run=True)
    assert sum(r.rows_loaded for r in outcome.reports) == len(platform.days)
    assert stored(engine) == {}


def test_an_export_without_an_account_becomes_the_one_accounts_and_counts_once(
    platform: Platform, read: Read, engine: Engine, settings: Settings
) -> None:
    inbox = settings.inbox_path
    inbox.mkdir(parents=True)
    lines = ["Day,Campaign name,Impressions,Link clicks,Amount spent (JPY),Results,Result type"]
    lines += [
        f"{FIRST - timedelta(days=n)},EV-1 Spring,1000,10,{500 + n},1,Website registrations" for n in range(-4, 3)
    ]
    (inbox / "export.csv").write_text("\n".join(lines) + "\n")
    api.ingest_paths([inbox], settings=settings, engine=engine, gate=accept_everything)
    assert {account for account, _ in stored(engine)} == {""}
    platform.fill()
    read()
    found = stored(engine)
    assert {account for account, _ in found} == {"111"}
    assert {day: spend for (_, day), spend in found.items() if day >= FIRST} == {
        d: s for (_, d), s in platform.days.items()
    }
    assert found["111", FIRST - timedelta(days=1)] == 501
    # and an export read later replaces the account's days instead of standing beside them
    api.ingest_paths([inbox], settings=settings, engine=engine, gate=accept_everything)
    assert {account for account, _ in stored(engine)} == {"111"}


def test_the_nightly_call_reads_exports_then_the_api_and_fails_at_the_end(
    platform: Platform, engine: Engine, settings: Settings
) -> None:
    configured = settings.model_copy(update={"meta_ads": MetaAdsCredentials(access_token="x")})  # type: ignore[arg-type]
    platform.fill()
    report = api.ingest_source("meta_ads", FIRST, LAST, settings=configured, engine=engine, gate=accept_everything)
    assert report.summary()["rows_loaded"] == len(platform.days)
    assert report.links is not None
    platform.refuse[""] = AccessDenied("the token has expired")
    with pytest.raises(AccessDenied):
        api.ingest_source("meta_ads", FIRST, LAST, settings=configured, engine=engine, gate=accept_everything)
    with engine.connect() as connection:
        status, error = connection.execute(
            sa.select(wh.ingest_run.c.status, wh.ingest_run.c.error)
            .order_by(wh.ingest_run.c.started_at.desc())
            .limit(1)
        ).one()
    assert (status, "the token has expired" in error) == ("failed", True)
    assert [r["reason_code"] for r in api.quarantine_rows(engine, ORGANISATION)] == ["access_denied"]
    del platform.refuse[""]
    api.ingest_source("meta_ads", FIRST, LAST, settings=configured, engine=engine, gate=accept_everything)
    assert api.quarantine_rows(engine, ORGANISATION) == []
    assert stored(engine) == platform.days


@given(
    cuts=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), min_size=1, max_size=6), longest=st.integers(1, 9)
)
@example_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_slices_read_in_any_order_and_size_give_the_same_days(
    platform: Platform, read: Read, engine: Engine, cuts: list[tuple[int, int]], longest: int
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.delete(wh.ad_performance))
    platform.fill()
    platform.longest = longest
    covered = set()
    for a, b in cuts:
        first, last = FIRST + timedelta(days=min(a, b)), FIRST + timedelta(days=max(a, b))
        read(first=first, last=last)
        covered |= {("111", first + timedelta(days=n)) for n in range((last - first).days + 1)}
    assert stored(engine) == {key: platform.days[key] for key in covered}


# --- patience ---------------------------------------------------------------------------------------------------------


def test_the_platforms_own_word_on_waiting_is_kept() -> None:
    waits: list[float] = []
    answers: list[Exception | str] = [RateLimited("slow down", retry_after=17.0), Unavailable("HTTP 503"), "fine"]

    def call() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(call, what="test", sleep=waits.append) == "fine"
    assert waits[0] == 17.0
    assert 1.0 <= waits[1] <= 4.0


def test_a_wait_longer_than_the_patience_is_not_begun() -> None:
    waits: list[float] = []

    def call() -> str:
        raise RateLimited("daily quota used up", retry_after=40_000)

    with pytest.raises(RateLimited, match="daily quota"):
        patiently(call, what="test", patience_seconds=600, sleep=waits.append)
    assert waits == []


def test_what_waiting_does_not_help_is_raised_at_once() -> None:
    calls = []

    def call() -> str:
        calls.append(1)
        raise AccessDenied("no")

    with pytest.raises(AccessDenied):
        patiently(call, what="test", sleep=lambda _: None)
    assert len(calls) == 1
