"""SendGrid's own client against a recorded SendGrid, over a real socket."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from email.utils import formatdate
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
import structlog
from sqlalchemy import Engine

from ingestion.connectors.base import (
    AccessDenied,
    RateLimited,
    ReadExpired,
    SourceAccount,
    SourceFault,
    TooMuchData,
    Unavailable,
)
from ingestion.connectors.run import is_configured, read_source
from ingestion.connectors.sendgrid import CONNECTOR, SendGridConnector
from ingestion.records import Record, Rejected
from tests.ingestion.connectors.sendgrid_server import KEY, Account, Fault, SendGridServer, metrics, running, shape
from turnout.credentials import SendGridCredentials
from turnout.quality import accept_everything
from turnout.settings import Settings
from turnout.warehouse import tables

FIRST, LAST = date(2026, 5, 20), date(2026, 5, 22)
STATS, CATEGORIES, CATEGORY_STATS = "/v3/stats", "/v3/categories", "/v3/categories/stats"


@pytest.fixture
def platform() -> Iterator[SendGridServer]:
    with running() as (server, address):
        server.address = address  # type: ignore[attr-defined]
        yield server


def configured(platform: SendGridServer, settings: Settings | None = None, **changes: Any) -> Settings:
    credentials = SendGridCredentials(
        **{"api_key": KEY, "base_url": platform.address, "time_zone": "UTC", "timeout_seconds": 5, **changes}  # type: ignore[attr-defined]
    )
    if settings is None:
        return Settings(sendgrid=credentials)
    return settings.model_copy(update={"sendgrid": credentials})


def connect(platform: SendGridServer, **changes: Any) -> SendGridConnector:
    """A connector whose waits are noted in ``waits``, not sat through."""
    connector = SendGridConnector(configured(platform, **changes))
    connector.waits = []  # type: ignore[attr-defined]
    connector.sleep = connector.waits.append  # type: ignore[attr-defined]
    return connector


def read(connector: SendGridConnector, first: date = FIRST, last: date = LAST) -> list[Record]:
    (account,) = connector.accounts()
    found = list(connector.rows(account, first, last))
    assert [r.row for r in found] == list(range(1, len(found) + 1))
    assert all(isinstance(r, Record) for r in found), found
    return found  # type: ignore[return-value]


def by_key(records: list[Record]) -> dict[tuple[date, str], dict[str, Any]]:
    found = {(r.values["date"], r.values["category"]): r.values for r in records}
    assert len(found) == len(records)
    return found


# --- what is read ----------------------------------------------------------------------------------------------------
def test_the_account_and_each_category_are_read_as_sendgrid_tells_them(platform):
    platform.replay()
    found = by_key(read(connect(platform)))
    assert found[date(2026, 5, 20), ""]["delivered"] == 11_800
    assert found[date(2026, 5, 21), ""] | {"opens": 900, "clicks": 41, "delivered": 0} == found[date(2026, 5, 21), ""]
    assert {c for _, c in found} == {"", "summit-2026", "early-bird"}
    assert found[date(2026, 5, 20), "summit-2026"]["delivered"] == 11_800
    assert found[date(2026, 5, 20), "early-bird"]["delivered"] == 11_800, "categories overlap; nothing is divided"
    for element in shape("sendgrid_v3_stats.json"):
        for name, value in element["stats"][0]["metrics"].items():
            assert found[date.fromisoformat(element["date"]), ""][name] == value


def test_days_before_the_first_mail_are_zeros_and_what_is_left_out_is_unknown(platform):
    platform.own.days[""][FIRST] = metrics(delivered=5, opens=None)
    connector = connect(platform)
    found = by_key(read(connector))
    assert found[FIRST, ""]["opens"] is None
    assert found[FIRST, ""]["clicks"] == 0
    assert found[LAST, ""]["opens"] == 0
    assert not any("fields_missing" in w for w in connector.notes.warnings)


def test_a_metric_sendgrid_stops_sending_is_unknown_and_said(platform):
    for n in range(3):
        platform.own.days[""][FIRST + timedelta(days=n)] = metrics(deferred=None, amp_opens=4)
    connector = connect(platform)
    assert {r.values["deferred"] for r in read(connector)} == {None}
    said = " ".join(connector.notes.warnings)
    assert "deferred" in said
    assert "amp_opens" in said


@pytest.mark.parametrize("value", ["12", 1.5, True, [], {}])
def test_a_metric_that_is_no_number_is_refused_with_its_name(platform, value):
    platform.own.days[""][FIRST] = metrics() | {"opens": value}
    connector = connect(platform)
    (account,) = connector.accounts()
    refused, *others = connector.rows(account, FIRST, LAST)
    assert isinstance(refused, Rejected)
    assert (refused.problems[0].column, refused.date) == ("opens", FIRST)
    assert len(others) == 2


def test_pages_are_read_to_the_end_however_short_they_are(platform):
    platform.page = 4
    for n in range(23):
        platform.own.days[f"c{n}"] = {}
        platform.own.days[""][FIRST + timedelta(days=n)] = metrics(delivered=n)
    found = by_key(read(connect(platform), FIRST, FIRST + timedelta(days=22)))
    assert len(found) == 23 * 24
    assert [found[FIRST + timedelta(days=n), ""]["delivered"] for n in range(23)] == list(range(23))
    assert [q["offset"] for q in platform.asked(STATS)] == [["0"], ["4"], ["8"], ["12"], ["16"], ["20"]]


def test_categories_are_asked_ten_at_a_time_and_listed_once(platform):
    for n in range(21):
        platform.own.days[f"c{n}"] = {}
    connector = connect(platform)
    read(connector)
    read(connector)
    assert [len(q["categories"]) for q in platform.asked(CATEGORY_STATS)] == [10, 10, 1] * 2
    assert len({q["offset"][0] for q in platform.asked(CATEGORIES)}) == len(platform.asked(CATEGORIES))


def test_only_the_categories_configured_are_read_and_one_that_is_not_there_is_said(platform):
    platform.replay()
    connector = connect(platform, categories=("SUMMIT-2026", "gone"))
    assert {r.values["category"] for r in read(connector)} == {"", "summit-2026"}
    assert any("'gone'" in w for w in connector.notes.warnings)


def test_names_of_categories_come_through_in_any_script(platform):
    name = "夏の会 & 50% / ü?"
    platform.own.days[name] = {FIRST: metrics(delivered=3)}
    assert by_key(read(connect(platform)))[FIRST, name]["delivered"] == 3


def test_pages_that_move_while_they_are_read_are_read_again(platform):
    platform.page = 2
    connector = connect(platform)
    (account,) = connector.accounts()

    def shift(path: str, query: dict[str, list[str]]) -> None:
        if path == STATS and query.get("offset") == ["2"]:
            query["offset"] = ["1"]

    platform.before.append(shift)
    with pytest.raises(ReadExpired):
        list(connector.rows(account, FIRST, LAST))


# --- accounts --------------------------------------------------------------------------------------------------------
def test_the_keys_own_account_has_an_id_that_never_changes(platform):
    (account,) = connect(platform).accounts()
    assert account == SourceAccount("sendgrid", "sendgrid", "kaigi", "UTC", None)
    platform.own.scopes = ("stats.read", "categories.read")
    (account,) = connect(platform).accounts()
    assert (account.account_id, account.name) == ("sendgrid", "")


def test_subusers_are_read_on_their_behalf_and_the_own_account_is_not(platform):
    platform.own.days[""][FIRST] = metrics(delivered=1)
    platform.subusers["osaka"] = Account({"": {FIRST: metrics(delivered=2)}})
    connector = connect(platform, accounts=("kaigi", "osaka"))
    own, osaka = connector.accounts()
    assert [r.values["delivered"] for r in connector.rows(own, FIRST, FIRST)] == [1]
    assert [r.values["delivered"] for r in connector.rows(osaka, FIRST, FIRST)] == [2]
    behalf = [headers.get("on-behalf-of") for path, _, headers in platform.requests if path == STATS]
    assert behalf == [None, "osaka"]


def test_the_zone_is_the_accounts_else_the_installations_with_a_word_about_it(platform):
    told, assumed = connect(platform, time_zone="Asia/Seoul"), connect(platform, time_zone=None)
    assert told.accounts()[0].time_zone == "Asia/Seoul"
    assert not told.notes.warnings
    assert assumed.accounts()[0].time_zone == assumed.settings.time_zone
    assert any("TURNOUT_SENDGRID__TIME_ZONE" in w for w in assumed.notes.warnings)


def test_a_key_for_the_webhook_alone_asks_nothing():
    assert not is_configured("sendgrid", Settings(sendgrid=SendGridCredentials(webhook_public_key="x")))
    assert is_configured("sendgrid", Settings(sendgrid=SendGridCredentials(api_key=KEY)))


# --- refusals --------------------------------------------------------------------------------------------------------
def test_a_rate_limit_is_waited_for_until_the_moment_sendgrid_names(platform):
    limit = shape("sendgrid_error_429.json")
    headers = {**limit.pop("_headers"), "X-RateLimit-Reset": str(int(time.time()) + 40)}
    platform.faults.append(Fault(STATS, status=429, body=limit, headers=headers))
    connector = connect(platform)
    assert len(read(connector)) == 3
    (waited,) = connector.waits
    assert 38 <= waited <= 41


def test_a_rate_limit_is_measured_by_sendgrids_clock_not_ours(platform):
    there = time.time() + 5_000
    headers = {"X-RateLimit-Reset": str(int(there) + 20), "Date": formatdate(there, usegmt=True)}
    platform.faults.append(Fault(STATS, status=429, body={}, headers=headers))
    connector = connect(platform)
    read(connector)
    assert 18 <= connector.waits[0] <= 21


def test_a_rate_limit_beyond_all_patience_is_left_to_the_scheduler(platform):
    headers = {"X-RateLimit-Reset": str(int(time.time()) + 100_000)}
    platform.faults.append(Fault(STATS, status=429, body={}, headers=headers, times=99))
    connector = connect(platform)
    with pytest.raises(RateLimited) as caught:
        read(connector)
    assert caught.value.retry_after > 90_000
    assert not connector.waits, "nobody sits through a wait that is too long anyway"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(STATS, status=500, body={}),
        Fault(STATS, status=503, body="<html>busy</html>"),
        Fault(STATS, status=502, body=""),
        Fault(CATEGORIES, status=504, body={}),
        Fault(CATEGORY_STATS, status=500, body={}),
        Fault("/v3/scopes", status=500, body={}),
        Fault(STATS, kind="cut"),
        Fault(CATEGORY_STATS, kind="cut"),
        Fault(STATS, kind="text", body="<html>a proxy says hello</html>"),
    ],
    ids=lambda f: f"{f.path} {f.kind} {f.status}",
)
def test_what_passes_is_asked_again_and_nothing_is_lost_or_doubled(platform, fault):
    platform.replay()
    platform.faults.append(Fault(**vars(fault)))
    connector = connect(platform)
    assert len(by_key(read(connector))) == 9
    assert len(connector.waits) == 1


def test_an_answer_that_does_not_come_is_not_waited_for_beyond_the_timeout(platform):
    platform.faults.append(Fault(STATS, kind="hang"))
    connector = connect(platform, timeout_seconds=0.5)
    began = time.monotonic()
    assert len(read(connector)) == 3
    assert time.monotonic() - began < 3
    assert len(connector.waits) == 1


def test_nobody_there_is_unavailable():
    settings = Settings(sendgrid=SendGridCredentials(api_key=KEY, base_url="http://127.0.0.1:9"))
    connector = SendGridConnector(settings)
    connector.patience_seconds = 0
    with pytest.raises(Unavailable, match="SendGrid cannot be reached"):
        connector.accounts()


def test_a_refused_key_says_what_to_do(platform):
    with pytest.raises(AccessDenied, match="TURNOUT_SENDGRID__API_KEY"):
        connect(platform, api_key="SG.other").accounts()


def test_a_key_that_is_revoked_while_reading_ends_the_read(platform):
    for n in range(21):
        platform.own.days[f"c{n}"] = {}
    platform.faults.append(Fault(CATEGORY_STATS, status=401, body={}, after=1))
    with pytest.raises(AccessDenied, match="TURNOUT_SENDGRID__API_KEY"):
        read(connect(platform))


@pytest.mark.parametrize("scope", ["stats.read", "categories.read", "categories.stats.read"])
def test_a_missing_scope_is_named(platform, scope):
    platform.replay()
    platform.own.scopes = tuple(s for s in platform.own.scopes if s != scope)
    with pytest.raises(AccessDenied, match=scope):
        read(connect(platform))


def test_somebody_elses_subuser_is_no_access(platform):
    connector = connect(platform, accounts=("strangers",))
    (account,) = connector.accounts()
    with pytest.raises(AccessDenied, match="TURNOUT_SENDGRID__ACCOUNTS"):
        list(connector.rows(account, FIRST, LAST))


def test_a_refused_range_is_a_fault_with_sendgrids_words(platform):
    connector = connect(platform)
    (account,) = connector.accounts()
    with pytest.raises(SourceFault, match="end_date cannot be before start_date"):
        list(connector.rows(account, LAST, FIRST))


def test_too_large_a_range_asks_for_a_smaller_one(platform):
    platform.faults.append(Fault(STATS, status=413, body={}))
    with pytest.raises(TooMuchData):
        read(connect(platform))


@pytest.mark.parametrize(
    "body",
    [{}, {"errors": []}, ["x"], [{"stats": []}], [{"date": "soon", "stats": []}], [{"date": "2026-05-20"}],
     [{"date": "2026-05-20", "stats": [{}]}], [{"date": "2026-05-20", "stats": [{"metrics": []}]}], None],
)  # fmt: skip
def test_a_shape_nobody_documented_is_a_fault_not_a_zero(platform, body):
    platform.faults.append(Fault(STATS, status=200, body=body))
    with pytest.raises(SourceFault):
        read(connect(platform))


def test_an_empty_answer_is_confirmed_before_it_is_believed(platform):
    platform.silent = True
    connector = connect(platform)
    assert read(connector) == []
    (account,) = connector.accounts()
    connector.confirm_access(account)
    platform.own.scopes = ("mail.send",)
    with pytest.raises(AccessDenied, match=r"stats\.read, categories\.read"):
        connector.confirm_access(account)


def test_the_key_is_in_no_log_and_no_error(platform, caplog):
    caplog.set_level(logging.DEBUG)
    platform.replay()
    echo = {"errors": [{"field": None, "message": f"bad key {KEY} of taro@example.com"}]}
    connector = connect(platform)
    with structlog.testing.capture_logs() as events:
        read(connector)
        platform.faults += [Fault(STATS, status=503, body=echo), Fault(STATS, status=400, body=echo)]
        with pytest.raises(SourceFault) as caught:
            read(connector)
        checks = list(connector.check())
    told = f"{caplog.text}{events}{caught.value!r}{connector.settings!r}{checks}"
    assert "bad key" in told
    assert KEY not in told
    assert "taro@" not in told


# --- check -----------------------------------------------------------------------------------------------------------
def checks(connector: SendGridConnector) -> dict[str, tuple[str, str]]:
    return {c.what: (c.status, c.message) for c in connector.check()}


def test_check_tells_step_by_step_what_works(platform):
    platform.replay()
    found = checks(connect(platform))
    assert found["credentials"][0] == "ok"
    assert "kaigi" in found["credentials"][1]
    assert found["account sendgrid"] == ("ok", "statistics and 2 categories can be read")
    assert found["time zone"] == ("ok", "UTC")
    assert found["event webhook"][0] == "missing"


def test_check_names_the_scopes_that_lack(platform):
    platform.own.scopes = ("categories.read", "mail.send")
    status, message = checks(connect(platform))["account sendgrid"]
    assert status == "failed"
    assert "stats.read" in message


def test_check_warns_of_what_may_go_wrong(platform):
    platform.own.scopes = ("stats.read", "categories.read", "user.username.read")
    found = checks(connect(platform, time_zone=None, webhook_public_key="nonsense", categories=("gone",)))
    assert found["account sendgrid, scopes"][0] == "warning"
    assert found["account sendgrid, categories"][0] == "warning"
    assert found["time zone"][0] == "warning"
    assert found["event webhook of sendgrid"][0] == "failed"


def test_check_never_raises(platform):
    assert checks(connect(platform, api_key="SG.other"))["credentials"][0] == "failed"
    platform.faults.append(Fault(STATS, status=500, body={}, times=99))
    assert checks(connect(platform))["account sendgrid"][0] == "failed"
    found = checks(connect(platform, accounts=("strangers",)))
    assert found["account strangers"][0] == "failed"


# --- into the warehouse ----------------------------------------------------------------------------------------------
def ingest(platform: SendGridServer, settings: Settings, engine: Engine, first: date, last: date, **changes: Any):
    return read_source(
        CONNECTOR.source, first, last, settings=configured(platform, settings, **changes), engine=engine,
        gate=accept_everything, run_id=uuid4(),
    )  # fmt: skip


def kept(engine: Engine) -> dict[tuple[str, str, date], tuple[int | None, int | None, bool]]:
    t = tables.email_performance
    with engine.connect() as connection:
        rows = connection.execute(sa.select(t)).mappings().all()
    found = {(r["account"], r["category"], r["date"]): (r["delivered"], r["opens"], r["is_partial"]) for r in rows}
    assert len(found) == len(rows)
    return found


def test_days_are_replaced_when_sendgrid_restates_them(platform, settings, engine):
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=n) for n in range(7, -1, -1)]
    for day in days:
        platform.own.days[""][day] = metrics(delivered=100, opens=10)
        platform.own.days.setdefault("summit", {})[day] = metrics(delivered=60, opens=None)
    assert not ingest(platform, settings, engine, days[0], days[-1]).failures
    before = kept(engine)
    assert len(before) == 16
    assert before["sendgrid", "", days[0]] == (100, 10, False)
    assert before["sendgrid", "summit", days[0]] == (60, None, False)
    assert before["sendgrid", "", today][2], "today is not over"
    platform.own.days[""][days[3]] = metrics(delivered=100, opens=25)
    ingest(platform, settings, engine, days[0], days[-1])
    ingest(platform, settings, engine, days[0], days[-1])
    after = kept(engine)
    assert after["sendgrid", "", days[3]] == (100, 25, False)
    assert {k: v for k, v in after.items() if k != ("sendgrid", "", days[3])} == {
        k: v for k, v in before.items() if k != ("sendgrid", "", days[3])
    }


def test_a_read_that_breaks_in_the_middle_leaves_what_was_there(platform, settings, engine):
    platform.own.days[""][FIRST] = metrics(delivered=1)
    platform.own.days["summit"] = {FIRST: metrics(delivered=1)}
    today = datetime.now(UTC).date()
    first = today - timedelta(days=5)
    ingest(platform, settings, engine, first, today)
    before = kept(engine)
    platform.own.days[""][today] = metrics(delivered=9)
    platform.faults.append(Fault(CATEGORY_STATS, status=403, body={}))
    outcome = ingest(platform, settings, engine, first, today)
    assert [account for account, _ in outcome.failures] == ["sendgrid"]
    assert kept(engine) == before


def test_nothing_from_an_account_without_access_is_no_zero(platform, settings, engine):
    today = datetime.now(UTC).date()
    platform.own.days[""][today] = metrics(delivered=9)
    ingest(platform, settings, engine, today, today)
    before = kept(engine)
    platform.silent = True
    platform.own.scopes = ("stats.read", "categories.read")
    outcome = ingest(platform, settings, engine, today, today)
    assert not outcome.failures
    assert any("empty_answer" in w for r in outcome.reports for w in r.warnings)
    platform.own.scopes = ("categories.read", "stats.global.read")
    platform.faults.append(Fault(STATS, status=200, body=[], times=99))
    outcome = ingest(platform, settings, engine, today, today)
    assert isinstance(outcome.failures[0][1], AccessDenied)
    assert kept(engine) == before


def test_what_lies_before_thirteen_months_is_not_asked_for(platform, settings, engine):
    today = datetime.now(UTC).date()
    outcome = ingest(platform, settings, engine, today - timedelta(days=800), today)
    assert not outcome.failures
    assert min(q["start_date"][0] for q in platform.asked(STATS)) == (today - timedelta(days=392)).isoformat()
    assert len(kept(engine)) == 393
