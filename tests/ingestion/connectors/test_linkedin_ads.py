"""LinkedIn's connector over a real socket."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar
from uuid import uuid4

import pytest
import sqlalchemy as sa
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
    TransientError,
    Unavailable,
)
from ingestion.connectors.linkedin_ads import MAX_ELEMENTS, LinkedInAdsConnector
from ingestion.records import Record, Rejected
from tests.ingestion.connectors.http_server import Answer, shape
from tests.ingestion.connectors.linkedin_server import (
    CLIENT_SECRET,
    REFRESH_TOKEN,
    RENEWED,
    TOKEN,
    VERSION,
    Account,
    LinkedInServer,
    element,
    error,
)
from turnout.credentials import LinkedInAdsCredentials
from turnout.quality import accept_everything
from turnout.settings import Settings
from turnout.warehouse import tables as wh

FIRST, LAST = date(2026, 5, 1), date(2026, 5, 10)
ACCOUNT = SourceAccount("linkedin_ads", "901", "Main", "UTC", "EUR")
RENEWAL = {"refresh_token": REFRESH_TOKEN, "client_id": "me", "client_secret": CLIENT_SECRET}


class TwoMetricsACall(LinkedInAdsConnector):
    metrics_per_call: ClassVar[int] = 2


@pytest.fixture
def server() -> Iterator[LinkedInServer]:
    with LinkedInServer() as found:
        found.accounts["901"].elements = [element(FIRST), element(FIRST, "312345679", costInLocalCurrency="3444.29")]
        yield found


Connect = Callable[..., LinkedInAdsConnector]


@pytest.fixture
def connect(server: LinkedInServer) -> Iterator[Connect]:
    made = []

    def call(kind: type[LinkedInAdsConnector] = LinkedInAdsConnector, **fields: Any) -> LinkedInAdsConnector:
        given = {
            "access_token": TOKEN, "base_url": server.url, "token_url": server.token_url, "timeout_seconds": 5,
            "api_version": VERSION, **fields,
        }  # fmt: skip
        connector = kind(Settings(linkedin_ads=LinkedInAdsCredentials(**given)))
        connector.waits = []  # type: ignore[attr-defined]
        connector.sleep = connector.waits.append  # type: ignore[attr-defined]
        made.append(connector)
        return connector

    yield call
    for connector in made:
        connector.close()


def read(connector: LinkedInAdsConnector, first: date = FIRST, last: date = LAST) -> list[dict[str, Any]]:
    outcomes = list(connector.rows(ACCOUNT, first, last))
    assert all(isinstance(o, Record) for o in outcomes), outcomes
    assert [o.row for o in outcomes] == list(range(1, len(outcomes) + 1))
    return [o.values for o in outcomes if isinstance(o, Record)]


# --- what a row is ---------------------------------------------------------------------------------------------------


def test_a_row_is_a_campaign_and_a_utc_day_in_the_account_s_currency(server: LinkedInServer, connect: Connect) -> None:
    values = read(connect())[0]
    assert values == {
        "date": FIRST, "period_end": FIRST, "campaign_id": "312345678", "campaign_name": "EV-1 Spring",
        "campaign_type": "LEAD_GENERATION", "ad_group": "Spring group", "ad_name": None, "impressions": 1000,
        "clicks": 4, "spend": Decimal("33.33"), "currency": "EUR", "conversions": 0, "registrations": None, "leads": 1,
    }  # fmt: skip


def test_the_recorded_answer_is_read_to_the_cent(server: LinkedInServer, connect: Connect) -> None:
    server.script("adAnalytics", Answer(shape("linkedin_adanalytics.json")))
    connector = connect()
    rows = read(connector)
    assert [(r["date"].day, r["spend"], r["conversions"], r["leads"]) for r in rows] == [
        (1, Decimal("33.33"), 0, 1), (2, Decimal("0.33"), 0, 0), (1, Decimal("3444.29"), 1, 0),
    ]  # fmt: skip
    assert [r["registrations"] for r in rows] == [None, None, None]
    (warning,) = connector.notes.take()
    assert "fields_missing: LinkedIn sends no registrations any more" in warning


def test_the_request_is_written_as_rest_li_wants_it(server: LinkedInServer, connect: Connect) -> None:
    read(connect())
    (asked,) = server.asked_for("adAnalytics")
    assert asked.raw_query == (
        "q=analytics&pivot=CAMPAIGN&timeGranularity=DAILY"
        "&dateRange=(start:(year:2026,month:5,day:1),end:(year:2026,month:5,day:10))"
        "&accounts=List(urn%3Ali%3AsponsoredAccount%3A901)"
        "&fields=impressions,clicks,costInLocalCurrency,externalWebsiteConversions,oneClickLeads,registrations"
        ",dateRange,pivotValues"
    )
    sent = {k.lower(): v for k, v in asked.headers.items()}
    assert (sent["linkedin-version"], sent["x-restli-protocol-version"]) == (VERSION, "2.0.0")


def test_absent_metrics_are_unknown(server: LinkedInServer, connect: Connect) -> None:
    names = ("impressions", "clicks", "costInLocalCurrency", "externalWebsiteConversions", "oneClickLeads")
    server.accounts["901"].elements = [element(FIRST), element(FIRST, "312345679", **dict.fromkeys(names))]
    values = read(connect())[1]
    assert [values[k] for k in ("impressions", "clicks", "spend", "conversions", "leads", "registrations")] == [
        None
    ] * 6


def test_which_registrations_are_zero_and_which_unknown(server: LinkedInServer, connect: Connect) -> None:
    server.accounts["901"].elements = [
        element(FIRST, oneClickLeads=0),
        element(FIRST, oneClickLeads=0, externalWebsiteConversions=3),  # any of them may be registrations
        element(FIRST, oneClickLeads=2),
        element(FIRST, oneClickLeads=2, registrations=5),
    ]
    server.accounts["901"].elements = [
        e | {"dateRange": element(FIRST + timedelta(days=n))["dateRange"]}
        for n, e in enumerate(server.accounts["901"].elements)
    ]
    assert [r["registrations"] for r in read(connect())] == [0, None, None, 5]


def test_rows_that_cannot_be_read_are_refused_with_their_reason(server: LinkedInServer, connect: Connect) -> None:
    longer = element(FIRST)["dateRange"] | {"end": {"year": 2026, "month": 5, "day": 3}}
    broken = [
        element(FIRST, costInLocalCurrency="a lot"), element(FIRST, clicks=-1), element(FIRST, pivotValues=[]),
        element(FIRST, dateRange=longer), element(FIRST, dateRange={"start": {"year": 2026}}),
    ]  # fmt: skip
    server.script("adAnalytics", Answer({"elements": broken}))
    outcomes = list(connect().rows(ACCOUNT, FIRST, LAST))
    assert [o.problems[0].column for o in outcomes if isinstance(o, Rejected)] == [
        "costInLocalCurrency", "clicks", "pivotValues", "dateRange", "dateRange",
    ]  # fmt: skip
    assert [o.date for o in outcomes if isinstance(o, Rejected)] == [FIRST, FIRST, FIRST, FIRST, None]


def test_fields_of_several_calls_are_put_together_by_campaign_and_day(server: LinkedInServer, connect: Connect) -> None:
    server.accounts["901"].elements = [
        element(FIRST + timedelta(days=n), c, impressions=n, clicks=None if n == 2 else 7)
        for n in range(4)
        for c in ("312345678", "312345679")
    ]
    whole = read(connect())
    assert read(connect(TwoMetricsACall)) == whole
    assert len(server.asked_for("adAnalytics")) == 1 + 3
    assert sum(r["clicks"] is None for r in whole) == 2


def test_an_element_that_only_one_call_knows_keeps_the_rest_unknown(server: LinkedInServer, connect: Connect) -> None:
    server.script("adAnalytics", None, Answer({"elements": []}))
    rows = read(connect(TwoMetricsACall))
    assert [(r["impressions"], r["spend"], r["leads"]) for r in rows] == [(1000, None, 1), (1000, None, 1)]


def test_the_silent_cap_is_too_much_data(server: LinkedInServer, connect: Connect) -> None:
    server.script("adAnalytics", Answer({"elements": [{"impressions": 1}] * MAX_ELEMENTS}))
    with pytest.raises(TooMuchData, match="15000"):
        read(connect())


# --- names ---------------------------------------------------------------------------------------------------------


def test_names_come_over_pages_and_once(server: LinkedInServer, connect: Connect) -> None:
    server.accounts["901"].campaigns = {str(n): f"Campaign {n}" for n in range(100, 107)}
    server.accounts["901"].elements = [element(FIRST, str(n)) for n in range(100, 107)]
    server.page = 3
    connector = connect()
    assert [r["campaign_name"] for r in read(connector)] == [f"Campaign {n}" for n in range(100, 107)]
    read(connector)
    asked = server.asked_for("adAccounts/901/adCampaigns")
    assert [a.query.get("pageToken") for a in asked] == [None, "t3", "t6"]


def test_a_campaign_the_search_leaves_out_is_looked_up(server: LinkedInServer, connect: Connect) -> None:
    server.script("adAccounts/901/adCampaigns", Answer({"elements": []}))
    server.accounts["901"].campaigns.pop("312345679")
    connector = connect()
    assert [r["campaign_name"] for r in read(connector)] == ["EV-1 Spring", "312345679"]
    assert "campaign_unknown" in connector.notes.take()[0]


def test_a_page_token_that_expired_is_a_stale_answer(server: LinkedInServer, connect: Connect) -> None:
    server.page = 1
    server.script("adAccounts/901/adCampaigns", None, error(400, "Invalid pageToken: it has expired"))
    with pytest.raises(ReadExpired):
        read(connect())
    again = {"elements": [], "metadata": {"nextPageToken": "t1"}}
    server.script("adAccounts/901/adCampaigns", *[Answer(again)] * 3)
    with pytest.raises(ReadExpired, match="circle"):
        read(connect())


# --- refusals --------------------------------------------------------------------------------------------------------


def test_an_address_that_is_too_long_goes_into_the_body(server: LinkedInServer, connect: Connect) -> None:
    server.longest_query = 100
    assert len(read(connect())) == 2
    plain, tunnelled = server.asked_for("adAnalytics")
    assert (plain.method, tunnelled.method, tunnelled.raw_query) == ("GET", "POST", "")
    assert tunnelled.body == plain.raw_query
    sent = {k.lower(): v for k, v in tunnelled.headers.items()}
    assert sent["x-http-method-override"] == "GET"
    assert sent["content-type"] == "application/x-www-form-urlencoded"


def test_a_daily_limit_lasts_until_midnight_utc(server: LinkedInServer, connect: Connect) -> None:
    server.script("adAnalytics", *[Answer(shape("linkedin_error_429.json"), 429)] * 20)
    connector = connect()
    connector.patience_seconds = 1
    now = datetime.now(UTC)
    left = (now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1) - now).total_seconds()
    with pytest.raises(RateLimited, match="throttle limit") as caught:
        read(connector)
    assert caught.value.retry_after == pytest.approx(left, abs=10)
    assert isinstance(caught.value, TransientError)
    assert len(server.asked_for("adAnalytics")) == 1


def test_a_limit_with_retry_after_is_waited_for(server: LinkedInServer, connect: Connect) -> None:
    said = shape("linkedin_error_429.json")
    server.script("adAnalytics", Answer(said, 429, {"Retry-After": "9"}), error(429, "45M values per 5 minutes"))
    connector = connect()
    assert len(read(connector)) == 2
    waits = connector.waits  # type: ignore[attr-defined]
    assert waits[0] == 9
    assert 1 <= waits[1] <= 5


@pytest.mark.parametrize(
    "said",
    [
        Answer("<html>Bad gateway</html>", 502),
        error(504, "timeout"),
        error(500, "Internal Server Error"),
        Answer("not JSON", 200),
        Answer([], 200),
        Answer({"elements": []}, cut=True),
    ],
    ids=["502", "504", "500", "text", "list", "cut"],
)
def test_trouble_that_passes_is_waited_out(server: LinkedInServer, connect: Connect, said: Answer) -> None:
    server.script("adAnalytics", said, said)
    server.script("adAccounts/901/adCampaigns", said)
    assert len(read(connect())) == 2


def test_an_answer_that_takes_too_long_is_asked_for_again(server: LinkedInServer, connect: Connect) -> None:
    server.script("adAnalytics", Answer({"elements": []}, hang=1.5))
    assert len(read(connect(timeout_seconds=0.3))) == 2


def test_a_platform_that_stays_away_is_unavailable(connect: Connect) -> None:
    connector = connect(base_url="http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="ConnectError"):
        read(connector)
    assert 300 <= sum(connector.waits) <= 700  # type: ignore[attr-defined]


@pytest.mark.parametrize("said", [error(400, "Request would return too many entities."), Answer("", 413)])
def test_too_much_data_is_told(server: LinkedInServer, connect: Connect, said: Answer) -> None:
    server.script("adAnalytics", said)
    with pytest.raises(TooMuchData):
        read(connect())


def test_an_expired_token_is_renewed_in_the_middle(server: LinkedInServer, connect: Connect) -> None:
    connector = connect(**RENEWAL)
    server.script("adAccounts/901/adCampaigns", error(401, "expired", "EXPIRED_ACCESS_TOKEN", serviceErrorCode=65602))
    assert len(read(connector)) == 2
    assert len(server.asked_for("oauth")) == 1
    assert server.asked_for("adAccounts/901/adCampaigns")[-1].headers["Authorization"] == f"Bearer {RENEWED}"
    read(connector)
    assert len(server.asked_for("oauth")) == 1


def test_a_token_is_made_where_there_is_none(server: LinkedInServer, connect: Connect) -> None:
    assert len(read(connect(access_token=None, **RENEWAL))) == 2
    with pytest.raises(AccessDenied, match="TURNOUT_LINKEDIN_ADS__ACCESS_TOKEN"):
        connect(access_token=None)


@pytest.mark.parametrize(("code", "name"), [(65601, "REVOKED_ACCESS_TOKEN"), (65602, "EXPIRED_ACCESS_TOKEN")])
def test_an_expired_token_that_nothing_renews(server: LinkedInServer, connect: Connect, code: int, name: str) -> None:
    server.script("adAnalytics", None, error(401, "The token has expired", name, serviceErrorCode=code))
    connector = connect(TwoMetricsACall)
    with pytest.raises(AccessDenied, match=rf"{code}.*60 days.*TURNOUT_LINKEDIN_ADS__ACCESS_TOKEN.*REFRESH_TOKEN"):
        read(connector)


def test_a_refresh_token_that_ended(server: LinkedInServer, connect: Connect) -> None:
    server.tokens = set()
    with pytest.raises(AccessDenied, match=r"invalid.*last a year.*TURNOUT_LINKEDIN_ADS__REFRESH_TOKEN") as caught:
        read(connect(**(RENEWAL | {"refresh_token": "AQX-old-secret"})))
    assert "AQX-old-secret" not in str(caught.value)


def test_an_oauth_server_that_is_down_is_waited_for(server: LinkedInServer, connect: Connect) -> None:
    server.tokens = set()
    server.script("oauth", Answer("down", 503), Answer({"error": "slow down"}, 429, {"Retry-After": "2"}))
    assert len(read(connect(**RENEWAL))) == 2


def test_a_scope_that_is_missing_is_named(server: LinkedInServer, connect: Connect) -> None:
    server.script("adAnalytics", error(403, "Not enough permissions to access: GET /adAnalytics", "ACCESS_DENIED"))
    with pytest.raises(AccessDenied, match="r_ads_reporting"):
        read(connect())
    server.script("adAccounts/901/adCampaignGroups", error(403, "Not enough permissions"))
    with pytest.raises(AccessDenied, match=r"scope r_ads,"):
        read(connect())


def test_a_version_that_ended_names_the_setting(server: LinkedInServer, connect: Connect) -> None:
    with pytest.raises(SourceFault, match=r"version 202511 .*TURNOUT_LINKEDIN_ADS__API_VERSION"):
        read(connect(api_version="202511"))


@pytest.mark.parametrize(
    "said",
    [
        error(400, 'Projected field "oneClickLeads" not present in schema "com.linkedin.adsexternalapi.AdAnalytics"'),
        error(400, "Invalid query", errorDetails={"inputErrors": [{"input": {"inputPath": "fields/oneClickLeads"}}]}),
    ],
)
def test_a_field_linkedin_no_longer_knows_is_named(server: LinkedInServer, connect: Connect, said: Answer) -> None:
    server.script("adAnalytics", said)
    with pytest.raises(SourceFault, match="refuses the field oneClickLeads"):
        read(connect())


def test_any_other_refusal_is_shown(server: LinkedInServer, connect: Connect) -> None:
    server.script("adAnalytics", error(400, "Invalid dateRange"))
    with pytest.raises(SourceFault, match="Invalid dateRange"):
        read(connect())


# --- accounts and access ---------------------------------------------------------------------------------------------


def test_every_account_of_the_member_over_pages(server: LinkedInServer, connect: Connect) -> None:
    server.accounts |= {str(n): Account(f"No. {n}", "JPY") for n in range(902, 907)}
    server.page = 2
    found = connect().accounts()
    assert [a.account_id for a in found] == ["901", *(str(n) for n in range(902, 907))]
    assert found[0] == ACCOUNT
    assert (found[1].time_zone, found[1].currency) == ("UTC", "JPY")


def test_configured_accounts_by_number_or_urn(server: LinkedInServer, connect: Connect) -> None:
    server.accounts["902"] = Account("Other")
    found = connect(accounts=("urn:li:sponsoredAccount:902", "901")).accounts()
    assert [a.account_id for a in found] == ["902", "901"]
    with pytest.raises(AccessDenied, match="555"):
        connect(accounts=("555",)).accounts()
    server.accounts.clear()
    with pytest.raises(AccessDenied, match="Viewer"):
        connect().accounts()


def test_an_empty_answer_is_confirmed_with_the_account_and_the_role(server: LinkedInServer, connect: Connect) -> None:
    server.accounts |= {str(n): Account(f"No. {n}") for n in range(902, 907)}
    server.accounts["906"].elements = []
    server.page = 2
    connector = connect()
    server.script("adAnalytics", Answer(shape("linkedin_adanalytics_empty.json")))
    assert read(connector) == []
    assert server.asked_for("adAccounts/901/adCampaigns") == []
    connector.confirm_access(SourceAccount("linkedin_ads", "906"))
    server.accounts["906"].role = None
    with pytest.raises(AccessDenied, match="no role"):
        connector.confirm_access(SourceAccount("linkedin_ads", "906"))
    with pytest.raises(AccessDenied, match="555"):
        connector.confirm_access(SourceAccount("linkedin_ads", "555"))


def test_check_goes_from_the_token_to_each_account(server: LinkedInServer, connect: Connect) -> None:
    server.accounts |= {"902": Account("Old", status="CANCELED"), "903": Account("Foreign", role=None)}
    checks = {c.what: c for c in connect(api_version="202512").check()}
    assert (checks["renewal"].status, checks["credentials"].status) == ("missing", "ok")
    assert (checks["account 901"].status, checks["account 902"].status) == ("ok", "warning")
    assert checks["account 903"].status == "failed"
    assert "VIEWER" in checks["account 901"].message
    assert "renewal" not in {c.what for c in connect(**RENEWAL).check()}


def test_check_says_what_is_wrong_and_never_raises(server: LinkedInServer, connect: Connect) -> None:
    checks = {c.what: c for c in connect(access_token="wrong").check()}
    assert checks["credentials"].status == "failed"
    assert "60 days" in checks["credentials"].message
    old = {c.what: c for c in connect(api_version="202401").check()}
    assert old["version"].status == "warning"
    assert "API_VERSION" in old["credentials"].message
    server.script("adAnalytics", error(403, "Not enough permissions"))
    one = {c.what: c for c in connect(accounts=("901", "555")).check()}
    assert "r_ads_reporting" in one["account 901"].message
    assert one["account 555"].status == "failed"
    server.script("adAccounts", *[Answer("down", 500)] * 30)
    assert {c.what: c.status for c in connect().check()}["accounts"] == "failed"


@pytest.mark.parametrize("suffix", ["", "/", "/rest", "/rest/"])
def test_a_base_address_may_have_a_path(connect: Connect, suffix: str) -> None:
    with LinkedInServer(prefix="/proxy/linkedin") as other:
        other.accounts["901"].elements = [element(FIRST)]
        assert len(read(connect(base_url=other.url + suffix))) == 1


def test_secrets_are_in_no_address_log_or_error(
    server: LinkedInServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.script("adAnalytics", Answer("down", 503), error(401, f"{TOKEN} expired"), error(401, f"{RENEWED} too"))
    connector = connect(**RENEWAL)
    with capture_logs() as logs, pytest.raises(AccessDenied) as caught:
        read(connector)
    failing = connect(base_url="http://127.0.0.1:9", **RENEWAL)
    failing.patience_seconds = 0
    with capture_logs() as more, pytest.raises(Unavailable) as away:
        read(failing)
    told = [repr(logs), repr(more), caplog.text, *(a.raw_query for a in server.asked), repr(connector.__dict__)]
    told += [str(caught.value), str(away.value), repr(caught.value.__cause__), repr(away.value.__cause__)]
    assert logs
    assert caplog.text
    for text in told:
        for secret in (TOKEN, RENEWED, REFRESH_TOKEN, CLIENT_SECRET):
            assert secret not in text


# --- through the runner into the warehouse ---------------------------------------------------------------------------


@pytest.fixture
def load(server: LinkedInServer, settings: Settings, engine: Engine) -> Callable[..., run.SourceOutcome]:
    credentials = LinkedInAdsCredentials(
        access_token=TOKEN, base_url=server.url, timeout_seconds=5, api_version=VERSION
    )
    configured = settings.model_copy(update={"linkedin_ads": credentials})

    def call(first: date = FIRST, last: date = LAST) -> run.SourceOutcome:
        return run.read_source(
            "linkedin_ads", first, last, settings=configured, engine=engine, gate=accept_everything, run_id=uuid4()
        )

    return call


def stored(engine: Engine) -> tuple[int, Decimal, str, str]:
    t = wh.ad_performance
    with engine.connect() as connection:
        found = connection.execute(
            sa.select(
                sa.func.count(), sa.func.sum(t.c.spend), sa.func.min(t.c.currency), sa.func.min(t.c.account_time_zone)
            )
        )
        return tuple(found.one())


def test_totals_match_to_the_cent_and_a_restated_read_replaces(
    server: LinkedInServer, load: Callable[..., run.SourceOutcome], engine: Engine
) -> None:
    account = server.accounts["901"]
    account.elements = [
        element(FIRST + timedelta(days=n), c, costInLocalCurrency=f"{n}.{n}7")
        for n in range(10)
        for c in ("312345678", "312345679")
    ]

    def total() -> Decimal:
        return sum((Decimal(e["costInLocalCurrency"]) for e in account.elements), Decimal())

    load().raise_failures()
    assert stored(engine) == (20, total(), "EUR", "UTC")
    for item in account.elements[8:]:
        item["costInLocalCurrency"] = "77.77"
    account.campaigns["312345678"] = "EV-1 Spring (final)"
    load(FIRST + timedelta(days=4), LAST).raise_failures()
    assert stored(engine) == (20, total(), "EUR", "UTC")
    with engine.connect() as connection:
        names = connection.execute(sa.select(wh.campaign.c.campaign_id, wh.campaign.c.name)).all()
    assert dict(names) == {"312345678": "EV-1 Spring (final)", "312345679": "EV-2"}


def test_too_much_data_is_read_in_halves(
    server: LinkedInServer, load: Callable[..., run.SourceOutcome], engine: Engine
) -> None:
    server.accounts["901"].elements = [
        element(FIRST + timedelta(days=n), costInLocalCurrency="1.10") for n in range(10)
    ]
    server.longest_days = 3
    load().raise_failures()
    assert stored(engine)[:2] == (10, Decimal("11.00"))


def test_no_access_leaves_what_is_stored(
    server: LinkedInServer, load: Callable[..., run.SourceOutcome], engine: Engine
) -> None:
    load().raise_failures()
    before = stored(engine)
    server.accounts["901"].role = None
    with pytest.raises(AccessDenied, match="no role"):
        load().raise_failures()
    assert stored(engine) == before


def test_the_day_that_is_not_over_in_utc_is_marked(
    server: LinkedInServer, load: Callable[..., run.SourceOutcome], engine: Engine
) -> None:
    today = datetime.now(UTC).date()
    server.accounts["901"].elements = [element(today), element(today - timedelta(days=1))]
    load(today - timedelta(days=1), today).raise_failures()
    t = wh.ad_performance
    with engine.connect() as connection:
        marked = connection.execute(sa.select(t.c.date, t.c.is_partial)).all()
    assert dict(map(tuple, marked)) == {today: True, today - timedelta(days=1): False}
