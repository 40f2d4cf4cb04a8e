"""Meta's connector over a real socket, with Meta's own SDK."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from facebook_business.api import FacebookAdsApi
from facebook_business.session import FacebookSession
from sqlalchemy import Engine
from structlog.testing import capture_logs

from ingestion.connectors import run
from ingestion.connectors.base import (
    AccessDenied,
    RateLimited,
    ReadExpired,
    SourceAccount,
    SourceFault,
    TooMuchData,
    Unavailable,
)
from ingestion.connectors.meta_ads import MetaAdsConnector
from ingestion.records import Record, Rejected
from tests.ingestion.connectors.http_server import Answer, shape
from tests.ingestion.connectors.meta_server import APP_SECRET, TOKEN, Account, MetaServer, error, row
from turnout.credentials import MetaAdsCredentials
from turnout.quality import accept_everything
from turnout.settings import Settings
from turnout.warehouse import tables as wh

FIRST, LAST = date(2026, 5, 1), date(2026, 5, 10)
ACCOUNT = SourceAccount("meta_ads", "901", "Main", "Asia/Tokyo", "JPY")


@pytest.fixture
def server() -> Iterator[MetaServer]:
    with MetaServer() as found:
        found.accounts["901"].rows = [row(FIRST), row(FIRST + timedelta(days=1), spend="4.82")]
        yield found


Connect = Callable[..., MetaAdsConnector]


@pytest.fixture
def connect(server: MetaServer) -> Iterator[Connect]:
    made = []

    def call(**fields: Any) -> MetaAdsConnector:
        given = {"access_token": TOKEN, "base_url": server.url, "timeout_seconds": 5, **fields}
        connector = MetaAdsConnector(Settings(meta_ads=MetaAdsCredentials(**given)))
        connector.waits = []  # type: ignore[attr-defined]
        connector.sleep = connector.waits.append  # type: ignore[attr-defined]
        made.append(connector)
        return connector

    yield call
    for connector in made:
        connector.close()


def read(connector: MetaAdsConnector, first: date = FIRST, last: date = LAST) -> list[dict[str, Any]]:
    outcomes = list(connector.rows(ACCOUNT, first, last))
    assert all(isinstance(o, Record) for o in outcomes), outcomes
    assert [o.row for o in outcomes] == list(range(1, len(outcomes) + 1))
    return [o.values for o in outcomes if isinstance(o, Record)]


# --- what a row is ---------------------------------------------------------------------------------------------------


def test_a_row_is_an_ad_and_a_day_in_the_account_s_currency(server: MetaServer, connect: Connect) -> None:
    values = read(connect())[0]
    assert values == {
        "date": FIRST, "period_end": FIRST, "campaign_id": "c1", "campaign_name": "EV-1 Spring",
        "campaign_type": "OUTCOME_LEADS", "ad_group": "Tokyo", "ad_name": "Video", "impressions": 10441, "clicks": 256,
        "spend": Decimal("158.72"), "currency": "JPY", "conversions": Decimal(20), "registrations": Decimal(20),
        "leads": Decimal(0),
    }  # fmt: skip


def test_the_recorded_pages_are_read_to_the_cent(server: MetaServer, connect: Connect) -> None:
    server.script("results", *(Answer(shape(f"meta_insights_page{n}.json")) for n in (1, 2)))
    rows = read(connect())
    assert [r["spend"] for r in rows] == [Decimal("158.72"), Decimal("4.82")]
    assert [r["clicks"] for r in rows] == [256, 6]
    assert [r["registrations"] for r in rows] == [Decimal(20), None]
    assert server.asked_for("results")[1].query["after"] == "MAZDZE"


def test_one_registration_of_three_names_counts_once(server: MetaServer, connect: Connect) -> None:
    names = ("complete_registration", "omni_complete_registration", "offsite_conversion.fb_pixel_complete_registration")
    server.accounts["901"].rows = [
        row(FIRST, actions=[{"action_type": n, "value": "20"} for n in names]),
        row(FIRST, actions=[{"action_type": n, "value": str(7 + i)} for i, n in enumerate(names)]),
        row(FIRST, actions=[{"action_type": names[0], "value": "5"}, {"action_type": names[2], "value": "3"}]),
        row(FIRST, actions=[{"action_type": names[2], "value": "2"}, {"action_type": "link_click", "value": "9"}]),
        row(FIRST, actions=[
            {"action_type": names[2], "value": "2"},
            {"action_type": "app_custom_event.fb_mobile_complete_registration", "value": "1"},
        ]),
    ]  # fmt: skip
    assert [r["registrations"] for r in read(connect())] == [Decimal(n) for n in (20, 8, 5, 2, 3)]


def test_leads_of_several_names_count_once_and_forms_and_pixel_add_up(server: MetaServer, connect: Connect) -> None:
    def of(**values: str) -> dict[str, Any]:
        return row(FIRST, actions=[{"action_type": n.replace("__", "."), "value": v} for n, v in values.items()])

    server.accounts["901"].rows = [
        of(lead="5", onsite_conversion__lead_grouped="3", offsite_conversion__fb_pixel_lead="2"),
        of(omni_lead="4", lead="5"),
        of(onsite_conversion__lead_grouped="3", leadgen_grouped="3", offsite_conversion__fb_pixel_lead="2"),
    ]
    assert [r["leads"] for r in read(connect())] == [Decimal(n) for n in (5, 4, 5)]


def test_fractional_values_and_only_the_default_window(server: MetaServer, connect: Connect) -> None:
    action = {"action_type": "omni_complete_registration", "value": "2.5", "7d_click": "9", "1d_view": "4"}
    windows_only = {"action_type": "omni_complete_registration", "7d_click": "9"}
    server.accounts["901"].rows = [row(FIRST, actions=[action]), row(FIRST, actions=[windows_only])]
    assert [r["registrations"] for r in read(connect())] == [Decimal("2.5"), None]
    assert [r["conversions"] for r in read(connect())] == [Decimal("2.5"), None]


def test_what_is_zero_and_what_is_unknown(server: MetaServer, connect: Connect) -> None:
    click = {"action_type": "link_click", "value": "9"}
    lead = {"action_type": "lead", "value": "3"}
    server.accounts["901"].rows = [
        row(FIRST, actions=[click]),  # a list that names no registration
        row(FIRST, actions=None, clicks="0", inline_link_clicks=None),  # nothing happened at all
        row(FIRST, actions=None),  # clicks without the actions they are: kept back
        row(FIRST, actions=None, clicks=None, inline_link_clicks=None),
        row(FIRST, actions=[lead]),  # the leads may be how people register
    ]
    rows = read(connect())
    assert [r["registrations"] for r in rows] == [0, 0, None, None, None]
    assert [r["conversions"] for r in rows] == [0, 0, None, None, 3]
    assert [r["leads"] for r in rows] == [0, 0, None, None, 3]


def test_absent_fields_are_unknown(server: MetaServer, connect: Connect) -> None:
    absent = ("impressions", "spend", "objective", "adset_name", "ad_name", "account_currency", "campaign_name")
    server.accounts["901"].rows = [row(FIRST, **dict.fromkeys(absent))]
    values = read(connect())[0]
    for name in ("impressions", "spend", "campaign_type", "ad_group", "ad_name", "currency"):
        assert values[name] is None, name
    assert values["campaign_name"] == "c1"


def test_clicks_on_links_are_never_clicks_of_all_kinds(server: MetaServer, connect: Connect) -> None:
    click = {"action_type": "link_click", "value": "9"}
    server.accounts["901"].rows = [
        row(FIRST, inline_link_clicks=None, actions=[click]),
        row(FIRST, inline_link_clicks=None, actions=[{"action_type": "post_engagement", "value": "3"}]),
        row(FIRST, inline_link_clicks=None, actions=None),
        row(FIRST, inline_link_clicks=None, actions=None, clicks="0"),
    ]
    assert [r["clicks"] for r in read(connect())] == [9, 0, None, 0]


def test_a_row_that_cannot_be_read_is_refused_with_its_reason(server: MetaServer, connect: Connect) -> None:
    server.accounts["901"].rows = [row(FIRST, spend="n/a"), row(FIRST, impressions="-3"), row(FIRST, campaign_id=None)]
    outcomes = list(connect().rows(ACCOUNT, FIRST, LAST))
    assert [type(o) for o in outcomes] == [Rejected] * 3
    assert [o.problems[0].column for o in outcomes if isinstance(o, Rejected)] == [
        "spend",
        "impressions",
        "campaign_id",
    ]
    assert [o.date for o in outcomes if isinstance(o, Rejected)] == [FIRST] * 3


def test_a_row_over_several_days_is_refused(server: MetaServer, connect: Connect) -> None:
    server.accounts["901"].rows = [row(FIRST, date_stop="2026-05-03")]
    (outcome,) = connect().rows(ACCOUNT, FIRST, LAST)
    assert isinstance(outcome, Rejected)
    assert outcome.problems[0].code == "bad_period"


def test_japanese_names_survive_an_answer_without_a_charset(server: MetaServer, connect: Connect) -> None:
    server.accounts["901"].rows = [row(FIRST, campaign_name="春のイベント 登録", ad_name="動画")]
    values = read(connect())[0]
    assert (values["campaign_name"], values["ad_name"]) == ("春のイベント 登録", "動画")


# --- reports and pages -------------------------------------------------------------------------------------------


def test_ads_by_day_are_ordered_as_a_report_with_archived_and_deleted_ads(server: MetaServer, connect: Connect) -> None:
    server.accounts["901"].rows += [row(FIRST, ad_id="a2", status="ARCHIVED"), row(FIRST, ad_id="a3", status="DELETED")]
    server.polls = 4
    connector = connect()
    assert len(read(connector)) == 4
    order = server.asked_for("order")[0]
    assert (order.query["level"], order.query["time_increment"]) == ("ad", "1")
    assert order.query["time_range"] == '{"since":"2026-05-01","until":"2026-05-10"}'
    assert "reach" not in order.query["fields"]
    waits = connector.waits  # type: ignore[attr-defined]
    assert len(waits) == 4
    assert waits == sorted(waits)
    assert waits[0] < waits[-1] <= 30
    assert connector.notes.take() == []


def test_pages_end_where_next_is_absent(server: MetaServer, connect: Connect) -> None:
    server.accounts["901"].rows = [row(FIRST, ad_id=f"a{n}") for n in range(7)]
    server.page = 3
    assert len(read(connect())) == 7
    assert [a.query.get("after") for a in server.asked_for("results")] == [None, "3", "6"]


def test_an_empty_page_in_the_middle_is_not_the_end(server: MetaServer, connect: Connect) -> None:
    empty = {"data": [], "paging": {"cursors": {"after": "0"}, "next": "…"}}
    server.script("results", Answer(empty))
    assert len(read(connect())) == 2


def test_a_cursor_that_leads_in_a_circle_is_a_stale_answer(server: MetaServer, connect: Connect) -> None:
    page = shape("meta_insights_page1.json")
    server.script("results", *[Answer(page)] * 5)
    with pytest.raises(ReadExpired):
        read(connect())


@pytest.mark.parametrize(
    "said",
    [
        error(2642, "(#2642) Invalid cursors values"),
        error(100, "(#100) The cursor has expired"),
        error(2601, "Error accessing adreport job.", 1815107, is_transient=True),
        error(100, "Unsupported get request. Object with ID does not exist", 33),
    ],
    ids=["2642", "cursor", "2601", "gone"],
)
def test_a_report_that_expires_while_it_is_read_went_stale(server: MetaServer, connect: Connect, said: Answer) -> None:
    server.accounts["901"].rows = [row(FIRST, ad_id=f"a{n}") for n in range(7)]
    server.page = 3
    server.script("results", None, said)
    with pytest.raises(ReadExpired):
        read(connect())


def test_a_failed_report_is_ordered_again(server: MetaServer, connect: Connect) -> None:
    server.script("poll", Answer(shape("meta_async_3_failed.json")), None, Answer({"async_status": "Job Skipped"}))
    assert len(read(connect())) == 2
    assert len(server.asked_for("order")) == 3


def test_a_report_that_always_fails_is_too_much_data_unless_of_one_day(server: MetaServer, connect: Connect) -> None:
    server.script("poll", *[Answer(shape("meta_async_3_failed.json"))] * 30)
    with pytest.raises(TooMuchData, match="Generating the report failed"):
        read(connect())
    tries = len(server.asked_for("order"))
    assert 3 <= tries <= 8
    with pytest.raises(Unavailable, match=r"error -2/2490547"):
        read(connect(), FIRST, FIRST)


@pytest.mark.parametrize(
    ("code", "subcode", "expected"),
    [(100, 1487534, TooMuchData), (2, 1504038, TooMuchData), (4, 1504022, RateLimited), (2, 1504041, SourceFault)],
)
def test_the_error_of_a_failed_report_is_understood(
    server: MetaServer, connect: Connect, code: int, subcode: int, expected: type[Exception]
) -> None:
    failed = {"async_status": "Job Failed", "async_percent_completion": 3, "error_code": code, "error_subcode": subcode}
    server.script("poll", Answer({**failed, "error_message": "m", "error_user_msg": "in words"}))
    connector = connect()
    connector.patience_seconds = 0
    with pytest.raises(expected, match="in words"):
        read(connector)


def test_a_report_that_never_finishes_is_given_up(server: MetaServer, connect: Connect) -> None:
    server.polls = 10_000
    connector = connect()
    with pytest.raises(TooMuchData, match="42 % after 60 minutes"):
        read(connector)
    assert sum(connector.waits) < 4000  # type: ignore[attr-defined]


def test_ads_that_do_not_add_up_to_the_account_are_told(server: MetaServer, connect: Connect) -> None:
    server.accounts["901"].rows.append(row(FIRST, spend="10.00", status="A_STATUS_NOBODY_KNOWS"))
    connector = connect()
    read(connector)
    (warning,) = connector.notes.take()
    assert "totals_differ" in warning
    assert "168.72 against 158.72" in warning


@pytest.mark.parametrize("said", [Answer("nothing here", 404), Answer("down", 503), Answer({"data": [{"spend": "1"}]})])
def test_ads_are_read_where_the_account_s_total_is_not_given(
    server: MetaServer, connect: Connect, said: Answer
) -> None:
    server.script("totals", *[said] * 20)
    connector = connect()
    assert len(read(connector)) == 2
    assert "totals_not_compared" in connector.notes.take()[0]
    assert sum(connector.waits) < 100  # type: ignore[attr-defined]


def test_today_is_not_compared_with_the_account(server: MetaServer, connect: Connect) -> None:
    today = datetime.now(UTC).date() + timedelta(days=1)  # Tokyo is ahead
    server.accounts["901"].rows = [row(today)]
    connector = connect()
    read(connector, today, today)
    assert server.asked_for("totals") == []


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [4, 17, 32, 613, 80000, 80004, 80014])
def test_a_rate_limit_is_waited_for_as_long_as_meta_says(server: MetaServer, connect: Connect, code: int) -> None:
    usage = '{"901":[{"type":"ads_insights","call_count":100,"estimated_time_to_regain_access":3}]}'
    server.script(
        "order",
        error(code, "(#4) Application request limit reached", headers={"x-business-use-case-usage": usage}),
        error(code, "limit", headers={"Retry-After": "7"}),
        Answer(shape("meta_error_rate_limit.json"), 400),
    )
    connector = connect()
    assert len(read(connector)) == 2
    waits = connector.waits  # type: ignore[attr-defined]
    assert waits[:2] == [180.0, 7.0]
    assert 1 <= waits[2] <= 10


def test_a_limit_longer_than_patience_is_raised_at_once(server: MetaServer, connect: Connect) -> None:
    usage = '{"901":[{"estimated_time_to_regain_access":55}]}'
    server.script("order", *[error(80000, "limit", headers={"x-business-use-case-usage": usage})] * 9)
    with pytest.raises(RateLimited) as caught:
        read(connect())
    assert caught.value.retry_after == 55 * 60
    assert len(server.asked_for("order")) == 1


@pytest.mark.parametrize(
    "said",
    [
        Answer("<html><body>502 error: success is near</body></html>", 502),
        Answer("Service Unavailable", 200),
        Answer("", 200),
        Answer([], 503),
        Answer({"data": []}, cut=True),
        error(2, "An unexpected error has occurred.", is_transient=True, status=500),
        error(2, "Intermittent", 1504043),
        error(1, "An unknown error occurred", 99, status=500),
    ],
    ids=["html", "text", "empty", "503", "cut", "transient", "intermittent", "unknown"],
)
def test_trouble_that_passes_is_waited_out(server: MetaServer, connect: Connect, said: Answer) -> None:
    for what in ("order", "poll", "results"):
        server.script(what, said)
    assert len(read(connect())) == 2


def test_an_answer_that_takes_too_long_is_asked_for_again(server: MetaServer, connect: Connect) -> None:
    server.script("results", Answer({"data": []}, hang=1.5))
    assert len(read(connect(timeout_seconds=0.3))) == 2


def test_a_platform_that_stays_away_is_unavailable(connect: Connect) -> None:
    connector = connect(base_url="http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="ConnectionError"):
        read(connector)
    assert 300 <= sum(connector.waits) <= 700  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "said",
    [
        Answer(shape("meta_error_too_much_data.json"), 500),
        error(100, "too much", 1487534),
        error(100, "timeout", 1504018),
        error(2, "timeout", 1504038, is_transient=True),
    ],
    ids=["1", "1487534", "1504018", "1504038"],
)
def test_too_much_data_is_told_and_not_tried_again(server: MetaServer, connect: Connect, said: Answer) -> None:
    server.script("order", said)
    with pytest.raises(TooMuchData):
        read(connect())
    server.script("results", said)
    with pytest.raises(TooMuchData):
        read(connect())
    assert len(server.asked_for("order")) == 2


def test_a_token_that_expires_while_a_report_is_read(server: MetaServer, connect: Connect) -> None:
    server.accounts["901"].rows = [row(FIRST, ad_id=f"a{n}") for n in range(7)]
    server.page = 3
    server.script("results", None, error(190, "Error validating access token: Session has expired", 463, status=401))
    with pytest.raises(AccessDenied, match=r"expired.*system user.*TURNOUT_META_ADS__ACCESS_TOKEN"):
        read(connect())


@pytest.mark.parametrize("code", [10, 200, 294])
def test_a_permission_that_is_missing(server: MetaServer, connect: Connect, code: int) -> None:
    server.script("order", error(code, f"(#{code}) Permissions error"))
    with pytest.raises(AccessDenied, match="ads_read"):
        read(connect())


@pytest.mark.parametrize(
    "message",
    [
        "(#100) inline_link_clicks is not valid for fields param. please check the docs for all valid values",
        "(#100) Tried accessing nonexisting field (inline_link_clicks) on node type (AdsInsights)",
    ],
)
def test_a_field_meta_no_longer_knows_is_named(server: MetaServer, connect: Connect, message: str) -> None:
    server.script("order", error(100, message))
    with pytest.raises(SourceFault, match=r"no field inline_link_clicks.*API_VERSION"):
        read(connect())
    server.retired_fields = {"objective"}
    with pytest.raises(SourceFault, match="no field objective"):
        read(connect())


@pytest.mark.parametrize(
    "said",
    [
        error(2635, "(#2635) You are calling a deprecated version of the Ads API. Please update to: v27.0."),
        error(2500, "Unknown path components: /v11.0"),
    ],
)
def test_a_version_meta_no_longer_answers(server: MetaServer, connect: Connect, said: Answer) -> None:
    server.script("order", said)
    with pytest.raises(SourceFault, match=r"version v24.0 .*TURNOUT_META_ADS__API_VERSION"):
        read(connect(api_version="v24.0"))
    assert server.asked_for("order")[0].path.startswith("/v24.0/")


# --- accounts and access -------------------------------------------------------------------------------------------


def test_every_account_the_token_sees_over_pages(server: MetaServer, connect: Connect) -> None:
    server.accounts |= {str(n): Account(f"No. {n}", "EUR", "Europe/Berlin") for n in range(902, 907)}
    server.page = 2
    found = connect().accounts()
    assert [a.account_id for a in found] == ["901", *(str(n) for n in range(902, 907))]
    assert found[0] == ACCOUNT
    assert (found[1].time_zone, found[1].currency, found[1].name) == ("Europe/Berlin", "EUR", "No. 902")


def test_configured_accounts_with_and_without_act(server: MetaServer, connect: Connect) -> None:
    server.accounts["902"] = Account("Other")
    assert [a.account_id for a in connect(accounts=("act_902", "901")).accounts()] == ["902", "901"]
    with pytest.raises(AccessDenied, match="View performance"):
        connect(accounts=("555",)).accounts()


def test_a_token_that_sees_no_account(server: MetaServer, connect: Connect) -> None:
    server.accounts.clear()
    with pytest.raises(AccessDenied, match="assign the system user"):
        connect().accounts()


def test_a_zone_nobody_knows_becomes_its_offset(server: MetaServer, connect: Connect) -> None:
    server.accounts["901"].zone = "Mars/Olympus"
    connector = connect()
    assert connector.accounts()[0].time_zone == "Etc/GMT-9"
    assert "time_zone_assumed" in connector.notes.take()[0]


def test_an_empty_answer_is_confirmed_with_the_account(server: MetaServer, connect: Connect) -> None:
    server.accounts["901"].rows = []
    connector = connect()
    assert read(connector) == []
    connector.confirm_access(ACCOUNT)
    server.accounts["901"].tasks = ["DRAFT"]
    with pytest.raises(AccessDenied, match="View performance"):
        connector.confirm_access(ACCOUNT)
    server.accounts["901"].tasks = None  # a system user's token does not always tell
    connector.confirm_access(ACCOUNT)
    server.accounts.clear()
    with pytest.raises(AccessDenied):
        connector.confirm_access(ACCOUNT)


def test_check_goes_from_the_token_to_each_account(server: MetaServer, connect: Connect) -> None:
    server.accounts |= {"902": Account("Old", status=101), "903": Account("Foreign", tasks=[])}
    checks = {c.what: c for c in connect().check()}
    assert checks["credentials"].status == "ok"
    assert (checks["app secret"].status, checks["account 901"].status) == ("missing", "ok")
    assert "Asia/Tokyo" in checks["account 901"].message
    assert (checks["account 902"].status, checks["account 903"].status) == ("warning", "failed")
    assert "closed" in checks["account 902"].message


def test_check_says_what_is_wrong_and_never_raises(server: MetaServer, connect: Connect) -> None:
    (only,) = connect(access_token="wrong").check()
    assert only.status == "failed"
    assert "TURNOUT_META_ADS__ACCESS_TOKEN" in only.message
    server.script("me/permissions", Answer({"data": [{"permission": "email", "status": "granted"}]}))
    checks = {c.what: c for c in connect(accounts=("555",)).check()}
    assert "ads_read" in checks["permissions"].message
    assert checks["account 555"].status == "failed"
    server.script("totals", Answer(shape("meta_error_too_much_data.json"), 500))
    assert {c.what: c.status for c in connect().check()}["account 901"] == "failed"
    server.script("me", *[Answer("down", 500)] * 30)
    assert [c.status for c in connect().check()] == ["failed"]


def test_calls_carry_a_proof_where_the_app_s_secret_is_known(server: MetaServer, connect: Connect) -> None:
    server.app_secret = APP_SECRET
    assert len(read(connect(app_id="1", app_secret=APP_SECRET))) == 2
    with pytest.raises(AccessDenied, match="TURNOUT_META_ADS__APP_SECRET"):
        read(connect())


def test_a_base_address_with_a_path_and_nothing_global(connect: Connect) -> None:
    with MetaServer(prefix="/proxy/meta") as other:
        other.accounts["901"].rows = [row(FIRST)]
        assert len(read(connect(base_url=f"{other.url}/"))) == 1
    assert FacebookSession.GRAPH == "https://graph.facebook.com"
    assert FacebookAdsApi.get_default_api() is None


def test_secrets_are_in_no_address_log_or_error(
    server: MetaServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.script("order", Answer("down", 503), error(190, f"Malformed access token {TOKEN}", status=400))
    with capture_logs() as logs, pytest.raises(AccessDenied) as caught:
        read(connect(app_id="1", app_secret=APP_SECRET))
    failing = connect(base_url="http://127.0.0.1:9", app_secret=APP_SECRET)
    failing.patience_seconds = 0
    with capture_logs() as more, pytest.raises(Unavailable) as away:
        read(failing)
    told = [repr(logs), repr(more), caplog.text, *(repr(a.raw_query) for a in server.asked)]
    told += [str(caught.value), str(away.value), repr(caught.value.__cause__), repr(connect().__dict__)]
    assert logs
    assert caplog.text
    for text in told:
        assert TOKEN not in text
        assert APP_SECRET not in text


# --- through the runner into the warehouse ---------------------------------------------------------------------------


@pytest.fixture
def load(server: MetaServer, settings: Settings, engine: Engine) -> Callable[..., run.SourceOutcome]:
    credentials = MetaAdsCredentials(access_token=TOKEN, base_url=server.url, timeout_seconds=5)
    configured = settings.model_copy(update={"meta_ads": credentials})
    server.polls = 0

    def call(first: date = FIRST, last: date = LAST) -> run.SourceOutcome:
        return run.read_source(
            "meta_ads", first, last, settings=configured, engine=engine, gate=accept_everything, run_id=uuid4()
        )

    return call


def stored(engine: Engine) -> dict[str, Any]:
    t = wh.ad_performance
    with engine.connect() as connection:
        found = connection.execute(
            sa.select(
                sa.func.count().label("rows"), sa.func.sum(t.c.spend).label("spend"),
                sa.func.sum(t.c.registrations).label("registrations"), sa.func.min(t.c.currency).label("currency"),
                sa.func.min(t.c.account_time_zone).label("zone"),
            )
        )  # fmt: skip
        return dict(found.one()._mapping)


def test_totals_match_to_the_cent_and_a_restated_read_replaces(
    server: MetaServer, load: Callable[..., run.SourceOutcome], engine: Engine
) -> None:
    days = [FIRST + timedelta(days=n) for n in range(10)]
    server.accounts["901"] = Account(currency="EUR", zone="Europe/Berlin", rows=[
        row(d, account_currency="EUR", ad_id=a, spend=f"{d.day}.{n}7") for d in days for n, a in enumerate(("a1", "a2"))
    ])  # fmt: skip
    server.page = 7
    load().raise_failures()
    total = sum(Decimal(r["spend"]) for r in server.accounts["901"].rows)
    assert stored(engine) == {
        "rows": 20, "spend": total, "registrations": 400, "currency": "EUR", "zone": "Europe/Berlin",
    }  # fmt: skip
    for item in server.accounts["901"].rows[6:]:  # restated, and the campaign renamed
        item |= {"spend": "99.99", "campaign_name": "EV-1 Spring (final)"}
    outcome = load(days[3], LAST)
    outcome.raise_failures()
    assert not [w for r in outcome.reports for w in r.warnings if "totals" in w]
    again = stored(engine)
    assert again["rows"] == 20
    assert again["spend"] == sum(Decimal(r["spend"]) for r in server.accounts["901"].rows)
    with engine.connect() as connection:
        names = connection.execute(sa.select(wh.campaign.c.campaign_id, wh.campaign.c.name)).all()
    assert [tuple(n) for n in names] == [("c1", "EV-1 Spring (final)")]


def test_too_much_data_is_read_in_halves(
    server: MetaServer, load: Callable[..., run.SourceOutcome], engine: Engine
) -> None:
    server.accounts["901"].rows = [row(FIRST + timedelta(days=n), spend="1.10") for n in range(10)]
    server.longest_days = 3
    load().raise_failures()
    assert (stored(engine)["rows"], stored(engine)["spend"]) == (10, Decimal("11.00"))


def test_a_read_that_expires_is_read_again_and_nothing_counts_twice(
    server: MetaServer, load: Callable[..., run.SourceOutcome], engine: Engine
) -> None:
    server.accounts["901"].rows = [row(FIRST, ad_id=f"a{n}", spend="1.00") for n in range(7)]
    server.page = 3
    server.script("results", None, None, error(2642, "(#2642) Invalid cursors values"))
    load().raise_failures()
    assert (stored(engine)["rows"], stored(engine)["spend"]) == (7, Decimal("7.00"))


def test_no_access_leaves_what_is_stored(
    server: MetaServer, load: Callable[..., run.SourceOutcome], engine: Engine
) -> None:
    load().raise_failures()
    before = stored(engine)
    server.accounts["901"].rows = []
    server.accounts["901"].tasks = []
    with pytest.raises(AccessDenied, match="View performance"):
        load().raise_failures()
    assert stored(engine) == before


def test_the_day_that_is_not_over_in_the_account_s_zone_is_marked(
    server: MetaServer, load: Callable[..., run.SourceOutcome], engine: Engine
) -> None:
    today = datetime.now(ZoneInfo("Pacific/Kiritimati")).date()  # fourteen hours ahead of UTC
    server.accounts["901"] = Account(zone="Pacific/Kiritimati", rows=[row(today), row(today - timedelta(days=1))])
    load(today - timedelta(days=1), today).raise_failures()
    t = wh.ad_performance
    with engine.connect() as connection:
        marked = connection.execute(sa.select(t.c.date, t.c.is_partial)).all()
    assert dict(map(tuple, marked)) == {today: True, today - timedelta(days=1): False}
