"""Google Ads through its real client library, over real sockets, against a server that plays scripted answers."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
import sqlalchemy as sa
import structlog
from sqlalchemy import Engine

from ingestion.api import ingest_paths
from ingestion.connectors import google_client, run
from ingestion.connectors.base import (
    AccessDenied,
    RateLimited,
    ReadExpired,
    SourceAccount,
    SourceFault,
    TooMuchData,
    Unavailable,
)
from ingestion.connectors.google_ads import CONNECTOR, GoogleAdsConnector
from ingestion.records import Record, Rejected
from tests.ingestion.connectors.google_server import (
    CLIENT_SECRET,
    DEVELOPER_TOKEN,
    REFRESH_TOKEN,
    Customer,
    Cut,
    GoogleServer,
    Refuse,
    RevokeTokens,
    Wait,
    action,
    batch,
    campaign_day,
    converted,
    page,
    shape,
    stream_batches,
)
from turnout.credentials import GoogleAdsCredentials
from turnout.quality import accept_everything
from turnout.settings import Settings
from turnout.warehouse import tables as wh

ACCOUNT = SourceAccount("google_ads", "1112223333", "Events KK", "Asia/Tokyo", "JPY")
FIRST, LAST = date(2026, 5, 1), date(2026, 5, 2)
SECRETS = (DEVELOPER_TOKEN, REFRESH_TOKEN, CLIENT_SECRET, "ya29.access-token")


@pytest.fixture
def server() -> Iterator[GoogleServer]:
    with GoogleServer() as found:
        yield found


def credentials(server: GoogleServer, **changes: Any) -> GoogleAdsCredentials:
    return GoogleAdsCredentials.model_validate({
        "developer_token": DEVELOPER_TOKEN, "client_id": "client-1", "client_secret": CLIENT_SECRET,
        "refresh_token": REFRESH_TOKEN, "base_url": server.url, "token_url": server.token_url, "timeout_seconds": 20,
        **changes,
    })  # fmt: skip


class Patient:
    """A connector whose waits are noted instead of waited for."""

    def __init__(self, server: GoogleServer, **changes: Any) -> None:
        self.waits: list[float] = []
        self.connector = GoogleAdsConnector(Settings(google_ads=credentials(server, **changes)))
        self.connector.client.sleep = self.waits.append

    def __enter__(self) -> Patient:
        return self

    def __exit__(self, *_: object) -> None:
        self.connector.close()

    def records(self, first: date = FIRST, last: date = LAST) -> list[dict[str, Any]]:
        rows = list(self.connector.rows(ACCOUNT, first, last))
        assert all(isinstance(row, Record) for row in rows)
        return [row.values for row in rows if isinstance(row, Record)]


@pytest.fixture
def patient(server: GoogleServer) -> Iterator[Patient]:
    with Patient(server) as found:
        yield found


def one_row(**metrics: Any) -> list[Any]:
    return [batch(results=[campaign_day(**metrics)])]


# -- what is read ------------------------------------------------------------------------------------------------------


def test_the_recorded_report_is_read_to_the_micro(server: GoogleServer, patient: Patient) -> None:
    server.script("performance", stream_batches("google_searchstream_rest"))
    by_key = {(r["campaign_id"], r["date"]): r for r in patient.records()}
    assert list(by_key) == [("11", FIRST), ("12", FIRST), ("11", LAST), ("13", LAST)]
    search, pmax = by_key["11", FIRST], by_key["12", FIRST]
    assert search == {
        "date": FIRST, "period_end": FIRST, "campaign_id": "11", "campaign_name": "年次カンファレンス｜指名",
        "campaign_type": "Search", "ad_group": None, "ad_name": None, "impressions": 180, "clicks": 8,
        "spend": Decimal(7650), "currency": "JPY", "conversions": Decimal("1.0"), "registrations": None, "leads": None,
    }  # fmt: skip
    assert (pmax["campaign_type"], pmax["conversions"]) == ("Performance Max", Decimal("1.87"))
    assert by_key["13", LAST]["spend"] == Decimal("0.123456")
    assert sum(r["spend"] for r in by_key.values()) == Decimal("33791.123456")


def test_a_figure_left_out_is_unknown_and_a_zero_is_zero(server: GoogleServer, patient: Patient) -> None:
    server.script("performance", stream_batches("google_searchstream_rest"))
    by_key = {(r["campaign_id"], r["date"]): r for r in patient.records()}
    assert by_key["13", LAST]["conversions"] is None
    quiet = by_key["11", LAST]
    assert (quiet["impressions"], quiet["spend"], quiet["conversions"]) == (0, Decimal(0), Decimal(0))


def test_every_campaign_is_asked_for_whatever_its_state_or_kind(server: GoogleServer, patient: Patient) -> None:
    patient.records()
    (asked,) = server.calls("performance")
    assert asked.query.endswith("FROM campaign WHERE segments.date BETWEEN '2026-05-01' AND '2026-05-02'")
    assert "ad_group" not in asked.query
    assert "status" not in asked.query


def test_a_renamed_campaign_stays_one_campaign(server: GoogleServer, patient: Patient) -> None:
    rows = [
        campaign_day(day="2026-05-01", name="Old", clicks="1"),
        campaign_day(day="2026-05-02", name="New", clicks="1"),
    ]
    server.script("performance", [batch(results=rows)])
    assert [(r["campaign_id"], r["campaign_name"]) for r in patient.records()] == [("11", "Old"), ("11", "New")]


def test_money_has_no_rounding(server: GoogleServer, patient: Patient) -> None:
    rows = [campaign_day(campaign=n, costMicros=str(10_000 + n)) for n in range(1, 1001)]
    server.script("performance", [batch(results=rows[:600]), batch(results=rows[600:])])
    assert sum(r["spend"] for r in patient.records()) == Decimal("10.5005")


def test_a_metric_no_row_carries_is_told(server: GoogleServer, patient: Patient) -> None:
    server.script("performance", one_row(costMicros="1000000", clicks="1", impressions="10"))
    (row,) = patient.records()
    assert row["conversions"] is None
    assert patient.connector.notes.take() == [
        "Google Ads says metrics.conversions of no campaign: it is stored as unknown"
    ]


def test_the_platforms_own_total_is_compared(server: GoogleServer, patient: Patient) -> None:
    row = campaign_day(costMicros="2000000", clicks="1", impressions="9", conversions=0)
    server.script("performance", [batch(results=[row]), batch(summaryRow={"metrics": {"costMicros": "2500000"}})])
    patient.records()
    (warning,) = patient.connector.notes.take()
    assert "adds up to 2.000000, Google Ads' own total of the same days is 2.500000" in warning


def test_a_row_without_its_campaign_or_with_no_number_is_refused_with_the_reason(
    server: GoogleServer, patient: Patient
) -> None:
    nameless = campaign_day(costMicros="5")
    del nameless["campaign"]["id"]
    server.script("performance", [batch(results=[nameless, campaign_day(conversions="NaN")])])
    rows = list(patient.connector.rows(ACCOUNT, FIRST, LAST))
    assert [(type(r), [p.code for p in r.problems]) for r in rows if isinstance(r, Rejected)] == [
        (Rejected, ["missing_value"]), (Rejected, ["not_a_number"]),
    ]  # fmt: skip


# -- registrations and leads -------------------------------------------------------------------------------------------


def claims(server: GoogleServer, patient: Patient, found: list[dict[str, Any]], counted: tuple[str, ...]) -> Any:
    server.script("performance", one_row(costMicros="9000000", clicks="9", impressions="90", conversions=3.5))
    server.script("conversions", [batch(results=found)])
    server.script("actions", [page(results=[action(c) for c in counted])])
    (row,) = patient.records()
    assert (row["spend"], row["conversions"]) == (Decimal(9), Decimal("3.5"))
    return row["registrations"], row["leads"]


def test_conversions_are_told_apart_by_category_and_cost_stays_whole(server: GoogleServer, patient: Patient) -> None:
    found = [converted("SIGNUP", 1.5), converted("SUBMIT_LEAD_FORM", 1.25), converted("PAGE_VIEW", 0.75)]
    assert claims(server, patient, found, ("SIGNUP", "SUBMIT_LEAD_FORM")) == (Decimal("1.5"), Decimal("1.25"))


def test_a_kind_that_the_account_counts_but_the_row_has_not_is_zero(server: GoogleServer, patient: Patient) -> None:
    assert claims(server, patient, [converted("SUBMIT_LEAD_FORM", 3.5)], ("SIGNUP", "SUBMIT_LEAD_FORM")) == (
        Decimal(0), Decimal("3.5"),
    )  # fmt: skip


def test_a_kind_that_the_account_does_not_count_is_unknown(server: GoogleServer, patient: Patient) -> None:
    assert claims(server, patient, [converted("PURCHASE", 3.5)], ("PURCHASE",)) == (None, None)


def test_a_category_newer_than_the_library_leaves_both_unknown(server: GoogleServer, patient: Patient) -> None:
    assert claims(server, patient, [converted("SIGNUP", 1), converted("UNKNOWN", 2.5)], ("SIGNUP",)) == (None, None)


def test_conversions_without_a_category_are_of_an_unknown_kind(server: GoogleServer, patient: Patient) -> None:
    assert claims(server, patient, [], ("SIGNUP", "CONTACT")) == (None, None)


def test_a_lead_that_grew_is_not_counted_twice(server: GoogleServer, patient: Patient) -> None:
    found = [converted("SUBMIT_LEAD_FORM", 2), converted("QUALIFIED_LEAD", 1), converted("CONVERTED_LEAD", 0.5)]
    assert claims(server, patient, found, ("SUBMIT_LEAD_FORM", "QUALIFIED_LEAD")) == (None, Decimal(2))


def test_days_without_conversions_cost_no_second_report(server: GoogleServer, patient: Patient) -> None:
    server.script("performance", one_row(costMicros="1", conversions=0))
    server.script("actions", [page(results=[action("SIGNUP")])])
    (row,) = patient.records()
    assert (row["registrations"], row["leads"]) == (Decimal(0), None)
    assert server.calls("conversions") == []


# -- accounts ----------------------------------------------------------------------------------------------------------


def test_without_configuration_all_accounts_and_those_below_managers_are_read(server: GoogleServer) -> None:
    server.customers = {
        "1000000001": Customer("Direct", "USD", "America/New_York"),
        "1000000002": Customer("Agency", manager=True, clients={
            "1000000002": {"manager": True},
            "1000000003": {"descriptiveName": "Client"},
            "1000000004": {"descriptiveName": "Inner manager", "manager": True},
            "1000000005": {"descriptiveName": "Gone", "status": "CANCELED"},
            "1000000001": {"descriptiveName": "Direct"},
        }),
        "1000000003": Customer("Client"),
    }  # fmt: skip
    server.accessible = ["1000000001", "1000000002", "1000000009"]  # the last one was cancelled
    with Patient(server) as patient:
        found = {a.account_id: a for a in patient.connector.accounts()}
        assert set(found) == {"1000000001", "1000000003"}
        assert found["1000000001"] == SourceAccount("google_ads", "1000000001", "Direct", "America/New_York", "USD")
        list(patient.connector.rows(found["1000000003"], FIRST, LAST))
        list(patient.connector.rows(found["1000000001"], FIRST, LAST))
        through = [c.metadata.get("login-customer-id") for c in server.calls("performance")]
        assert through == ["1000000002", None]
        (warning,) = patient.connector.notes.take()
        assert warning.startswith("account 100-000-0009 is not read: Google Ads (USER_PERMISSION_DENIED)")


def test_login_customer_id_alone_means_the_accounts_below_it(server: GoogleServer) -> None:
    server.customers["1000000002"] = Customer(manager=True, clients={"1112223333": {}})
    with Patient(server, login_customer_id="100-000-0002") as patient:
        assert [a.account_id for a in patient.connector.accounts()] == ["1112223333"]
        assert server.calls("accessible") == []
        patient.records()
        assert server.calls("performance")[0].metadata["login-customer-id"] == "1000000002"


def test_a_manager_account_gives_no_figures_and_says_so(server: GoogleServer) -> None:
    server.customers["1000000002"] = Customer(manager=True)
    with (
        Patient(server, accounts=("100-000-0002",)) as patient,
        pytest.raises(AccessDenied, match="100-000-0002 is a manager account and has no figures of its own"),
    ):
        patient.connector.accounts()
    with Patient(server) as patient, pytest.raises(AccessDenied, match="manager account and has no figures"):
        list(patient.connector.rows(SourceAccount("google_ads", "1000000002"), FIRST, LAST))


def test_one_account_that_says_no_does_not_keep_the_others(server: GoogleServer) -> None:
    server.script(
        "customer", [Refuse.of("authorization_error.CUSTOMER_NOT_ENABLED", "Not enabled.")], customer="9998887777"
    )
    with Patient(server, accounts=("111-222-3333", "999-888-7777", "events")) as patient:
        good, closed, wrong = patient.connector.accounts()
        assert good == ACCOUNT
        with pytest.raises(AccessDenied, match="reactivate it or take it out"):
            list(patient.connector.rows(closed, FIRST, LAST))
        with pytest.raises(AccessDenied, match="'events' is no account id"):
            patient.connector.confirm_access(wrong)


def test_an_empty_answer_is_believed_only_of_an_account_that_may_be_read(
    server: GoogleServer, patient: Patient
) -> None:
    assert patient.records() == []
    patient.connector.confirm_access(ACCOUNT)
    server.script("probe", [Refuse.of("authorization_error.METRIC_ACCESS_DENIED", "No metrics.")])
    with pytest.raises(AccessDenied, match="METRIC_ACCESS_DENIED"):
        patient.connector.confirm_access(ACCOUNT)
    server.script("customer", [page(results=[])])
    with pytest.raises(AccessDenied, match="111-222-3333 does not answer"):
        patient.connector.confirm_access(ACCOUNT)


def test_lists_are_read_page_by_page_and_again_when_their_token_died(server: GoogleServer) -> None:
    server.customers["1000000002"] = Customer(manager=True)
    client = {"timeZone": "Asia/Tokyo", "status": "ENABLED", "currencyCode": "JPY"}
    first = page(results=[{"customerClient": {"id": "1", **client}}], nextPageToken="second")
    second = page(results=[{"customerClient": {"id": "2", **client}}])
    server.script("clients", [first], [Refuse.shape("google_error_expired_page_token")], [first], [second])
    with Patient(server, login_customer_id="1000000002") as patient:
        assert [a.account_id for a in patient.connector.accounts()] == ["1", "2"]
    assert [c.page_token for c in server.calls("clients")] == ["", "second", "", "second"]


def test_a_list_that_always_goes_stale_is_for_later(server: GoogleServer) -> None:
    server.customers["1000000002"] = Customer(manager=True)
    server.script("clients", [Refuse.shape("google_error_expired_page_token")])
    with Patient(server, login_customer_id="1000000002") as patient, pytest.raises(Unavailable, match="stale 3 times"):
        patient.connector.accounts()


def test_a_time_zone_nobody_knows_is_named(server: GoogleServer) -> None:
    server.customers["1112223333"] = Customer(zone="Mars/Olympus")
    with Patient(server) as patient, pytest.raises(SourceFault, match="111-222-3333 has the unknown time zone 'Mars/"):
        patient.connector.accounts()


# -- refusals ----------------------------------------------------------------------------------------------------------


def refused(
    server: GoogleServer, patient: Patient, *plays: list[Any], days: int = 2
) -> pytest.ExceptionInfo[Exception]:
    server.script("performance", *plays)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the caller looks at the kind
        patient.records(FIRST, FIRST + timedelta(days=days - 1))
    return caught


def test_a_rate_limit_is_waited_out_as_long_as_google_says(server: GoogleServer, patient: Patient) -> None:
    said = Refuse.of(
        "quota_error.RESOURCE_TEMPORARILY_EXHAUSTED", "Too many requests.",
        details={"quotaErrorDetails": {"rateName": "Requests per account", "retryDelay": "7.5s"}},
    )  # fmt: skip
    server.script("performance", [said], one_row(costMicros="1000000"))
    assert [r["spend"] for r in patient.records()] == [Decimal(1)]
    assert patient.waits == [7.5]


def test_a_daily_quota_is_left_to_the_scheduler(server: GoogleServer, patient: Patient) -> None:
    caught = refused(server, patient, [Refuse.shape("google_error_resource_exhausted")])
    assert isinstance(caught.value, RateLimited)
    assert caught.value.retry_after == 900  # in words only: "Retry in 900 seconds."
    assert patient.waits == []


def test_a_query_too_expensive_waits_what_the_documentation_asks(server: GoogleServer, patient: Patient) -> None:
    said = Refuse.of("quota_error.EXCESSIVE_SHORT_TERM_QUERY_RESOURCE_CONSUMPTION")
    server.script("performance", [said], one_row(costMicros="1"))
    patient.records()
    assert patient.waits == [300]


@pytest.mark.parametrize("said", [
    Refuse(grpc.StatusCode.UNAVAILABLE),
    Refuse(grpc.StatusCode.INTERNAL),
    Refuse.of("internal_error.TRANSIENT_ERROR"),
    Refuse(grpc.StatusCode.UNKNOWN, message="Stream removed"),
])  # fmt: skip
def test_a_server_in_trouble_is_asked_again(server: GoogleServer, patient: Patient, said: Refuse) -> None:
    rows = one_row(costMicros="1000000")
    server.script("performance", [*rows, said], [said], rows)  # once in the middle, once at the start
    assert [r["spend"] for r in patient.records()] == [Decimal(1)]
    assert len(patient.waits) == 2


def test_a_broken_connection_loses_and_doubles_nothing(server: GoogleServer, patient: Patient) -> None:
    rows = [batch(results=[campaign_day(campaign=n, costMicros="1000000")]) for n in (1, 2)]
    server.script("performance", [rows[0], Cut(), rows[1]], rows)
    patient.connector.client.sleep = time.sleep  # the library needs its time to connect anew
    assert [(r["campaign_id"], r["spend"]) for r in patient.records()] == [("1", Decimal(1)), ("2", Decimal(1))]
    assert len(server.calls("performance")) == 2


def test_nobody_there_is_unavailable(server: GoogleServer, patient: Patient) -> None:
    patient.connector.client.patience_seconds = 5
    server.__exit__()
    patient.connector.client._oauth = None
    with pytest.raises(Unavailable, match="token server does not answer"):
        patient.records()


def test_a_silent_server_is_given_up_on_in_time(server: GoogleServer) -> None:
    server.script("performance", [Wait(1.5)])
    with Patient(server, timeout_seconds=0.2) as patient:
        patient.connector.client.patience_seconds = 0
        started = time.monotonic()
        with pytest.raises(Unavailable, match=r"DEADLINE_EXCEEDED.*timeout_seconds is 0\.2"):
            patient.records()
        assert time.monotonic() - started < 1.2


def test_an_answer_still_arriving_when_time_is_up_was_too_long(server: GoogleServer) -> None:
    server.script("performance", [*one_row(costMicros="1"), Wait(1.0)])
    with Patient(server, timeout_seconds=0.4) as patient:
        patient.connector.client.patience_seconds = 0
        with pytest.raises(TooMuchData):
            patient.records()
        with pytest.raises(Unavailable):  # a day cannot be halved
            patient.records(FIRST, FIRST)


def test_an_answer_larger_than_the_channel_takes_is_too_much_data(server: GoogleServer, patient: Patient) -> None:
    big = [campaign_day(campaign=n, name="x" * 1_000_000, clicks="1") for n in range(70)]
    server.script("performance", [batch(results=big)])
    with pytest.raises(TooMuchData, match="larger than max"):
        patient.records()


@pytest.mark.parametrize("said", [
    Refuse.of("query_error.DATE_RANGE_TOO_WIDE"), Refuse.of("internal_error.DEADLINE_EXCEEDED"),
])  # fmt: skip
def test_too_much_for_google_is_too_much_data(server: GoogleServer, patient: Patient, said: Refuse) -> None:
    assert isinstance(refused(server, patient, [said]).value, TooMuchData)


def test_more_rows_than_memory_should_hold_are_asked_for_in_parts(
    server: GoogleServer, patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(google_client, "MOST_ROWS", 10)
    server.script("performance", [batch(results=[campaign_day(campaign=n, clicks="1") for n in range(1, 12)])])
    with pytest.raises(TooMuchData, match="more than 10 rows"):
        patient.records()
    assert len(patient.records(FIRST, FIRST)) == 11  # a single day is read whatever its size


def test_an_expired_page_token_asks_for_the_slice_anew(server: GoogleServer, patient: Patient) -> None:
    caught = refused(server, patient, [*one_row(clicks="1"), Refuse.shape("google_error_expired_page_token")])
    assert isinstance(caught.value, ReadExpired)


def test_a_token_that_ran_out_while_reading_is_renewed(server: GoogleServer, patient: Patient) -> None:
    server.script("performance", [*one_row(costMicros="1000000", conversions=1), RevokeTokens()])
    server.script("conversions", [batch(results=[converted("SIGNUP", 1)])])
    assert [(r["spend"], r["registrations"]) for r in patient.records()] == [(Decimal(1), Decimal(1))]
    assert len(server.token_server.asked) == 2
    assert patient.waits == []


def test_a_token_refused_twice_is_a_denial(server: GoogleServer, patient: Patient) -> None:
    caught = refused(server, patient, [Refuse(grpc.StatusCode.UNAUTHENTICATED)])
    assert isinstance(caught.value, AccessDenied)
    assert "consent again" in str(caught.value)
    assert len(server.token_server.asked) == 2


@pytest.mark.parametrize(("said", "advice"), [
    ("authorization_error.USER_PERMISSION_DENIED", "set login_customer_id"),
    ("authorization_error.CUSTOMER_NOT_ENABLED", "take it out of accounts"),
    ("authorization_error.DEVELOPER_TOKEN_NOT_APPROVED", "apply for Basic access"),
    ("authorization_error.DEVELOPER_TOKEN_PROHIBITED", "another Google Cloud project"),
    ("authentication_error.DEVELOPER_TOKEN_INVALID", "API Center"),
    ("authentication_error.OAUTH_TOKEN_REVOKED", "[Cc]onsent again"),
    ("header_error.INVALID_LOGIN_CUSTOMER_ID", "ten digits of a manager"),
    ("quota_error.ACCESS_PROHIBITED", "closed the API"),
])  # fmt: skip
def test_a_denial_says_what_to_do(server: GoogleServer, patient: Patient, said: str, advice: str) -> None:
    caught = refused(server, patient, [Refuse.of(said, "You may not.")])
    assert isinstance(caught.value, AccessDenied)
    assert caught.match(said.split(".")[1])
    assert caught.match(advice)
    assert len(server.calls("performance")) == 1


@pytest.mark.parametrize(("said", "message"), [
    ("query_error.UNRECOGNIZED_FIELD", "Unrecognized field in the query: 'metrics.cost_micros'."),
    ("query_error.PROHIBITED_FIELD_IN_SELECT_CLAUSE", "Cannot select: metrics.cost_micros."),
])  # fmt: skip
def test_a_field_google_no_longer_knows_is_named(
    server: GoogleServer, patient: Patient, said: str, message: str
) -> None:
    caught = refused(server, patient, [Refuse.of(said, message)])
    assert isinstance(caught.value, SourceFault)
    assert caught.match(r"no longer answers for metrics\.cost_micros: ")
    assert len(server.calls("performance")) == 1


def test_other_refusals_are_faults_in_googles_words(server: GoogleServer, patient: Patient) -> None:
    caught = refused(server, patient, [Refuse.of("request_error.UNSUPPORTED_VERSION", "Version v26 is gone.")])
    assert isinstance(caught.value, SourceFault)
    assert caught.match(r"Version v26 is gone\. Google ended v26")
    caught = refused(server, patient, [Refuse(grpc.StatusCode.UNIMPLEMENTED, message="Method not found!")])
    assert caught.match("Method not found!; Google Ads v26 is not offered there")


def test_a_refused_refresh_token_says_how_to_get_a_new_one(server: GoogleServer) -> None:
    with Patient(server, refresh_token="1//old") as patient, pytest.raises(AccessDenied) as caught:
        patient.connector.accounts()
    assert caught.match("Google refuses the refresh token: invalid_grant: Token has been expired or revoked")
    assert caught.match("consent again")
    assert "1//old" not in str(caught.value)
    assert server.asked == []


def test_missing_credentials_are_named(server: GoogleServer) -> None:
    with Patient(server, client_secret=None, refresh_token=None) as patient:
        with pytest.raises(AccessDenied, match="needs client_secret, refresh_token"):
            patient.records()
        (check,) = patient.connector.check()
    assert (check.what, check.status) == ("credentials", "missing")
    assert "TURNOUT_GOOGLE_ADS__REFRESH_TOKEN" in check.message


# -- the way there -----------------------------------------------------------------------------------------------------


def test_the_version_spoken_is_the_newest_of_the_library() -> None:
    from google.ads.googleads import client

    assert client._VALID_API_VERSIONS[0] == google_client.API_VERSION


def test_https_is_never_answered_in_plain_text(server: GoogleServer) -> None:
    with Patient(server, base_url=server.url.replace("http:", "https:")) as patient:
        patient.connector.client.patience_seconds = 0
        with pytest.raises(Unavailable):
            patient.records()
    assert server.asked == []


def test_https_goes_over_tls_with_the_token(tmp_path: Path) -> None:
    certificate, key = self_signed()
    roots = tmp_path / "roots.pem"
    roots.write_bytes(certificate)
    script = (
        "import sys, json; from turnout.settings import Settings; from turnout.credentials import GoogleAdsCredentials;"
        "from ingestion.connectors.google_ads import CONNECTOR;"
        "c = CONNECTOR(Settings(google_ads=GoogleAdsCredentials(**json.loads(sys.stdin.read()))));"
        "print([a.account_id for a in c.accounts()])"
    )
    with GoogleServer((key, certificate)) as server:
        asked = credentials(server)
        fields = {n: getattr(v, "get_secret_value", lambda v=v: v)() for n, v in asked}
        # a process of its own: gRPC reads the trusted roots once
        done = subprocess.run(
            [sys.executable, "-c", script], input=_json(fields), capture_output=True, text=True, check=False,
            timeout=60, env={"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(roots), "PATH": "", "HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.stdout.strip() == "['1112223333']", done.stderr
        assert all(a.metadata["authorization"].startswith("Bearer ya29.") for a in server.asked)


def test_an_address_with_a_path_is_refused(server: GoogleServer) -> None:
    with Patient(server, base_url=f"{server.url}/proxy") as patient, pytest.raises(AccessDenied, match="no paths"):
        patient.records()


def test_a_service_account_signs_for_its_token(server: GoogleServer, tmp_path: Path) -> None:
    _, key = self_signed()
    file = tmp_path / "key.json"
    file.write_text(_json({
        "type": "service_account", "client_email": "robot@example.iam.gserviceaccount.com", "private_key": key.decode(),
        "token_uri": "https://oauth2.example/token", "private_key_id": "k1",
    }))  # fmt: skip
    server.script("performance", one_row(costMicros="1"))
    with Patient(
        server, refresh_token=None, client_id=None, client_secret=None, service_account_file=str(file)
    ) as robot:
        assert len(robot.records()) == 1
    (form,) = server.token_server.asked
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    with (
        Patient(server, service_account_file=str(tmp_path / "absent.json")) as robot,
        pytest.raises(AccessDenied, match="service_account_file cannot be used"),
    ):
        robot.records()


def test_importing_the_connector_is_light() -> None:
    script = (
        "import sys; import ingestion.connectors.google_ads;"
        "print([m for m in sys.modules if m.startswith(('google.ads', 'google.auth', 'grpc'))])"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_no_secret_reaches_a_log_or_an_error(server: GoogleServer, patient: Patient) -> None:
    """With everything logged that the library can log, and a platform that repeats what it was sent."""
    lines: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.getMessage()} {record.__dict__}")

    collect = Collect(logging.DEBUG)
    loggers = [logging.getLogger(n) for n in (None, "google", "google.ads.googleads", "grpc", "urllib3")]
    levels = [(one, one.level) for one in loggers]
    for one in loggers:
        one.addHandler(collect)
        one.setLevel(logging.DEBUG)
    errors: list[str] = []
    try:
        with structlog.testing.capture_logs() as captured:
            server.script("performance", one_row(costMicros="1", conversions=1))
            patient.connector.accounts()
            patient.records()
            echo = f"Bad token {DEVELOPER_TOKEN} with {server.token_server.given[-1]}"
            repeating = Refuse.of("authentication_error.DEVELOPER_TOKEN_INVALID", echo)
            field = Refuse.of("query_error.BAD_SYMBOL", "No.", trigger={"stringValue": DEVELOPER_TOKEN})
            quota = Refuse(grpc.StatusCode.UNAVAILABLE, message=echo)
            for said in (repeating, field, quota):
                errors.extend(_traceback(lambda said=said: refused_with(server, patient, said)))
            server.token_server.answers = [(400, {"error": "invalid_grant", "error_description": f"{REFRESH_TOKEN}!"})]
            patient.connector.close()
            errors.extend(_traceback(patient.records))
    finally:
        for one, level in levels:
            one.removeHandler(collect)
            one.setLevel(level)
    assert any("***" in e for e in errors)
    assert len(errors) == 4
    told = "\n".join([*lines, *errors, *map(str, captured), repr(patient.connector.credentials)])
    assert [s for s in SECRETS if s in told] == []


def refused_with(server: GoogleServer, patient: Patient, said: Refuse) -> None:
    server.script("performance", [said])
    patient.records()


def _traceback(call: Any) -> list[str]:
    try:
        call()
    except Exception:
        return [traceback.format_exc()]
    return []


# -- check -------------------------------------------------------------------------------------------------------------


def test_check_tells_each_account_with_currency_and_zone(server: GoogleServer) -> None:
    server.customers["1000000007"] = Customer("Test KK", "USD", "Europe/Berlin", test=True)
    with Patient(server) as patient:
        checks = list(patient.connector.check())
    assert [(c.what, c.status) for c in checks] == [
        ("credentials", "ok"), ("developer token", "ok"), ("account 111-222-3333", "ok"),
        ("account 100-000-0007", "warning"),
    ]  # fmt: skip
    assert checks[2].message == "Events KK, JPY, days of Asia/Tokyo"
    assert "a test account" in checks[3].message


def test_check_stops_at_what_fails_and_waits_for_nobody(server: GoogleServer) -> None:
    with Patient(server, refresh_token="1//old") as patient:
        (check,) = patient.connector.check()
        assert (check.what, check.status) == ("credentials", "failed")
    with Patient(server, developer_token="wrong-developer-token") as patient:
        checks = list(patient.connector.check())
        assert [(c.what, c.status) for c in checks] == [("credentials", "ok"), ("developer token", "failed")]
        assert "wrong-developer-token" not in str(checks)
    server.script("accessible", [Refuse.shape("google_error_resource_exhausted")])
    with Patient(server) as patient:
        assert list(patient.connector.check())[-1].status == "failed"
        assert patient.waits == []


def test_check_tests_figures_too(server: GoogleServer) -> None:
    server.customers["1000000002"] = Customer(manager=True)
    server.script("probe", [Refuse.of("authorization_error.METRIC_ACCESS_DENIED", "No.")])
    with Patient(server, accounts=("1112223333", "1000000002")) as patient:
        checks = list(patient.connector.check())
    assert [(c.what, c.status) for c in checks[2:]] == [
        ("account 111-222-3333", "failed"), ("account 100-000-0002", "failed"),
    ]  # fmt: skip
    assert "manager" in checks[3].message


# -- into the warehouse ------------------------------------------------------------------------------------------------


def test_a_second_read_replaces_what_google_restated(server: GoogleServer, settings: Settings, engine: Engine) -> None:
    configured = settings.model_copy(update={"google_ads": credentials(server), "currency": "JPY"})

    def read() -> run.SourceOutcome:
        outcome = run.read_source(
            "google_ads", FIRST, LAST, settings=configured, engine=engine, gate=accept_everything, run_id=uuid4()
        )
        outcome.raise_failures()
        return outcome

    def stored() -> tuple[Any, ...]:
        t = wh.ad_performance
        with engine.connect() as connection:
            query = sa.select(
                sa.func.count(), sa.func.sum(t.c.spend), sa.func.sum(t.c.conversions), sa.func.sum(t.c.registrations)
            )
            return tuple(connection.execute(query).one())

    server.script("performance", stream_batches("google_searchstream_rest"))
    server.script("conversions", [batch(results=[converted("SIGNUP", 0.87, campaign=12), converted("SIGNUP", 1)])])
    read()
    assert stored() == (4, Decimal("33791.123456"), Decimal("2.87"), Decimal("1.87"))

    restated = shape("google_searchstream_rest")
    restated[0]["results"][1]["metrics"] |= {"conversions": 4.37, "costMicros": "26140000001"}
    del restated[1]["results"][0]  # an all-zero row is left out today
    server.script("performance", [batch(results=restated[0]["results"])], [batch(results=restated[1]["results"])])
    server.script("performance", [batch(**one) for one in restated])
    server.script("conversions", [batch(results=[converted("SIGNUP", 3.37, campaign=12), converted("SIGNUP", 1)])])
    read()
    after = stored()
    assert after == (3, Decimal("33790.123457"), Decimal("5.37"), Decimal("4.37"))
    read()
    assert stored() == after
    with engine.connect() as connection:
        zone, currency = connection.execute(
            sa.select(wh.ad_performance.c.account_time_zone, wh.ad_performance.c.currency).distinct()
        ).one()
        assert (zone, currency) == ("Asia/Tokyo", "JPY")


def test_a_read_that_fails_in_the_middle_leaves_what_was_there(
    server: GoogleServer, settings: Settings, engine: Engine
) -> None:
    configured = settings.model_copy(update={"google_ads": credentials(server)})
    server.script("performance", stream_batches("google_searchstream_rest"))

    def read() -> run.SourceOutcome:
        return run.read_source(
            "google_ads", FIRST, LAST, settings=configured, engine=engine, gate=accept_everything, run_id=uuid4()
        )

    read().raise_failures()
    first, _ = stream_batches("google_searchstream_rest")
    server.script("performance", [first, Refuse.of("query_error.UNRECOGNIZED_FIELD", "Unrecognized: 'campaign.id'.")])
    outcome = read()
    assert [(a, type(e)) for a, e in outcome.failures] == [("1112223333", SourceFault)]
    server.script(
        "performance",
        [first, Refuse.shape("google_error_expired_page_token")],
        stream_batches("google_searchstream_rest"),
    )
    read().raise_failures()
    with engine.connect() as connection:
        total = connection.execute(sa.select(sa.func.sum(wh.ad_performance.c.spend))).scalar_one()
    assert total == Decimal("33791.123456")


def test_an_export_of_the_same_account_does_not_count_beside_the_api(
    server: GoogleServer, settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    export = tmp_path / "report.csv"
    export.write_text(
        "Day,Customer ID,Campaign,Campaign ID,Currency code,Impr.,Clicks,Cost\n"
        "2026-05-01,111-222-3333,Old name,11,JPY,100,5,7000\n"
    )
    ingest_paths([export], settings=settings, engine=engine, gate=accept_everything)
    configured = settings.model_copy(update={"google_ads": credentials(server)})
    server.script("performance", stream_batches("google_searchstream_rest"))
    run.read_source(
        "google_ads", FIRST, LAST, settings=configured, engine=engine, gate=accept_everything, run_id=uuid4()
    ).raise_failures()
    with engine.connect() as connection:
        accounts, total = connection.execute(
            sa.select(sa.func.array_agg(wh.ad_performance.c.account.distinct()), sa.func.sum(wh.ad_performance.c.spend))
        ).one()
    assert (accounts, total) == (["1112223333"], Decimal("33791.123456"))


def test_too_much_data_is_asked_for_in_halves(server: GoogleServer, settings: Settings, engine: Engine) -> None:
    configured = settings.model_copy(update={"google_ads": credentials(server)})
    whole = Refuse.of("query_error.DATE_RANGE_TOO_WIDE")
    days = [[batch(results=[campaign_day(day=f"2026-05-0{n}", costMicros="1000000")])] for n in (1, 2)]
    server.script("performance", [whole], *days)
    run.read_source(
        "google_ads", FIRST, LAST, settings=configured, engine=engine, gate=accept_everything, run_id=uuid4()
    ).raise_failures()
    ranges = [c.query.rsplit("BETWEEN ", 1)[1] for c in server.calls("performance")]
    assert ranges == ["'2026-05-01' AND '2026-05-02'", "'2026-05-01' AND '2026-05-01'", "'2026-05-02' AND '2026-05-02'"]
    with engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.sum(wh.ad_performance.c.spend))).scalar_one() == 2


def test_the_module_names_its_connector() -> None:
    assert CONNECTOR.source == "google_ads"
    assert run.connector_class("google_ads") is CONNECTOR


def self_signed() -> tuple[bytes, bytes]:
    """A certificate for localhost, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    return certificate.public_bytes(pem), key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _json(value: Any) -> str:
    import json

    return json.dumps(value)
