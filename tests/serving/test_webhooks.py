"""SendGrid's events over HTTP: a real service process on real PostgreSQL, and the same application without one."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from serving import store
from serving.http import create_app
from serving.state import Planning
from serving.webhooks import MOST_BYTES
from tests.serving.conftest import Service
from tests.serving.signing import PUBLIC_KEY, body_of, event, signed
from turnout.credentials import SendGridCredentials
from turnout.mail_events import SIGNATURE_HEADER, TIMESTAMP_HEADER
from turnout.settings import Settings
from turnout.warehouse import tables
from turnout.warehouse.engine import create_engine

pytestmark = pytest.mark.xdist_group("service")

PATH = "/v1/webhooks/sendgrid"
SHAPES = Path(__file__).parents[1] / "data" / "api_shapes"


def post(service: Service, body: bytes, headers: dict[str, str] | None = None, path: str = PATH) -> httpx.Response:
    return service.http.post(path, content=body, headers=signed(body) if headers is None else headers)


def rows(settings: Settings, prefix: str) -> list[sa.RowMapping]:
    engine = create_engine(settings)
    try:
        with engine.connect() as connection:
            t = tables.email_event
            return list(connection.execute(sa.select(t).where(t.c.sg_event_id.like(f"id-{prefix}%"))).mappings())
    finally:
        engine.dispose()


def counter(service: Service, name: str, outcome: str) -> float:
    for line in service.http.get("/metrics").text.splitlines():
        if line.startswith(f'{name}_total{{outcome="{outcome}"}}'):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


@asynccontextmanager
async def application(settings: Settings, **sendgrid: object) -> AsyncIterator[httpx.AsyncClient]:
    """The application on a database that may be away, without models."""
    credentials = SendGridCredentials(**{"webhook_public_key": PUBLIC_KEY, **sendgrid})
    planning = Planning(settings.model_copy(update={"sendgrid": credentials}))
    planning._engine = store.create_engine(planning.settings)
    transport = httpx.ASGITransport(create_app(planning), raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as http:
            yield http
    finally:
        await planning.engine.dispose()


# --- taken -----------------------------------------------------------------------------------------------------------
def test_signed_events_are_stored_before_they_are_taken(service):
    body = body_of([event("plain-1"), event("plain-2", event="open", sg_machine_open=True), event("plain-1")])
    answer = post(service, body)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"received": 3, "stored": 2, "repeated": 1, "malformed": 0, "examples": 0}
    stored = {r["sg_event_id"]: r for r in rows(service.settings, "plain-")}
    assert set(stored) == {"id-plain-1", "id-plain-2"}
    assert stored["id-plain-2"]["is_machine"] is True
    assert {r["account"] for r in stored.values()} == {"sendgrid"}
    assert "example.com" not in str(stored)


def test_a_repeated_request_is_taken_and_stores_nothing(service):
    body = body_of([event("again-1"), event("again-2")])
    assert post(service, body).json()["stored"] == 2
    assert post(service, body).json() == {"received": 2, "stored": 0, "repeated": 2, "malformed": 0, "examples": 0}
    assert len(rows(service.settings, "again-")) == 2


def test_a_burst_with_every_request_three_times_gives_each_event_once(service):
    batches = [body_of(event(f"burst-{b}-{n}") for n in range(40)) for b in range(50)]
    # Neighbours overlap as well, and the third round comes in another order.
    batches = [b[:-3] + b",\r\n" + c[1:] for b, c in zip(batches, batches[1:] + batches[:1], strict=True)]
    rounds = [*batches, *batches, *reversed(batches)]
    before = counter(service, "turnout_mail_events", "stored")
    limits = httpx.Limits(max_connections=50, max_keepalive_connections=50)
    with (
        httpx.Client(base_url=service.url, timeout=60, trust_env=False, limits=limits) as http,
        ThreadPoolExecutor(50) as pool,
    ):
        answers = list(pool.map(lambda body: http.post(PATH, content=body, headers=signed(body)), rounds))
    # What a request could not store in its time is answered 503, and comes again: so does this test.
    late = [body for body, answer in zip(rounds, answers, strict=True) if answer.status_code == 503]
    assert {a.status_code for a in answers} <= {200, 503}
    answers += [post(service, body) for body in late]
    taken = [a.json() for a in answers if a.status_code == 200]
    assert len(taken) == 150
    assert sum(t["stored"] for t in taken) == 50 * 40
    assert sum(t["received"] for t in taken) == 150 * 80
    assert len(rows(service.settings, "burst-")) == 50 * 40
    assert counter(service, "turnout_mail_events", "stored") - before == 50 * 40


def test_a_malformed_event_does_not_cost_the_others_and_is_never_logged(service):
    secret = "Confidential Subject 4711"
    before = counter(service, "turnout_mail_events", "malformed")
    body = body_of([event("mixed-1"), event("mixed-2", timestamp=secret), secret, event("mixed-3", subject=secret)])
    answer = post(service, body)
    assert answer.json() == {"received": 4, "stored": 2, "repeated": 0, "malformed": 2, "examples": 0}
    assert {r["sg_event_id"] for r in rows(service.settings, "mixed-")} == {"id-mixed-1", "id-mixed-3"}
    assert counter(service, "turnout_mail_events", "malformed") - before == 2
    log = service.log.read_text()
    assert "mail events malformed" in log
    assert secret not in log
    assert "mixed-1" not in log


def test_a_late_event_gets_its_month_in_the_background(service):
    old = event("late", timestamp=int(datetime(2017, 2, 3, tzinfo=UTC).timestamp()))
    assert post(service, body_of([old])).json()["stored"] == 1
    engine = create_engine(service.settings)
    where = sa.text("SELECT tableoid::regclass::text FROM turnout.email_event WHERE sg_event_id = 'id-late'")

    def place() -> str:
        with engine.connect() as connection:
            return str(connection.scalar(where))

    try:
        service.wait_for(place, lambda found: found == "turnout.email_event_2017_02", seconds=20)
    finally:
        engine.dispose()
    assert post(service, body_of([old])).json()["repeated"] == 1


def test_sendgrids_test_button_is_answered_and_not_counted(service):
    example = event(
        "example", sg_message_id="14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0", category="cat facts"
    )
    assert post(service, body_of([example])).json()["examples"] == 1
    assert not rows(service.settings, "example")


def test_an_empty_array_is_taken(service):
    assert post(service, b"[]").json()["received"] == 0


# --- refused ---------------------------------------------------------------------------------------------------------
def _forged(body: bytes) -> dict[str, dict[str, str]]:
    good = signed(body)
    return {
        "no signature": {k: v for k, v in good.items() if k != SIGNATURE_HEADER},
        "no timestamp": {k: v for k, v in good.items() if k != TIMESTAMP_HEADER},
        "another body's": {**good, SIGNATURE_HEADER: signed(body + b" ")[SIGNATURE_HEADER]},
        "another time's": {**good, TIMESTAMP_HEADER: str(int(good[TIMESTAMP_HEADER]) - 1)},
        "no base64": {**good, SIGNATURE_HEADER: "%%%"},
        "no number": {**good, TIMESTAMP_HEADER: "now"},
        "too old": signed(body, at=float(good[TIMESTAMP_HEADER]) - 200_000),
        "too early": signed(body, at=float(good[TIMESTAMP_HEADER]) + 3_600),
    }


@pytest.mark.parametrize("how", list(_forged(b"")))
def test_what_sendgrid_did_not_sign_is_refused_and_not_repeated(service, how):
    body = body_of([event("forged")])
    answer = post(service, body, _forged(body)[how])
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:turnout:problem:forbidden"
    assert "forged" not in answer.text
    assert not rows(service.settings, "forged")


def test_refusals_are_counted_by_reason(service):
    before = counter(service, "turnout_mail_posts", "unsigned")
    post(service, b"[]", {})
    assert counter(service, "turnout_mail_posts", "unsigned") == before + 1


def test_refusals_speak_the_language_asked_for(service):
    answer = post(service, b"[]", {"Accept-Language": "ja"})
    assert "署名" in answer.json()["detail"]


@pytest.mark.parametrize("body", [b"{}", b'"text"', b"[{]", b"null", b"", b"[" * 50_000])
def test_a_body_that_is_no_array_is_a_bad_request(service, body):
    answer = post(service, body)
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:turnout:problem:bad-request"


def test_compressed_bodies_are_not_accepted(service):
    body = gzip.compress(body_of([event("packed")]))
    answer = post(service, body, {**signed(body), "Content-Encoding": "gzip"})
    assert answer.status_code == 415
    assert not rows(service.settings, "packed")


def test_a_form_is_not_accepted(service):
    answer = post(service, b"a=b", {**signed(b"a=b"), "Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 415


def test_a_body_beyond_the_limit_is_not_even_read_when_it_says_so(service):
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {MOST_BYTES + 1}\r\n{SIGNATURE_HEADER}: AAAA\r\n{TIMESTAMP_HEADER}: 1\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.settings.service_port), timeout=20) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_of_unknown_length_is_cut_at_the_limit(service):
    def parts():
        for _ in range(MOST_BYTES // 2**20 + 1):
            yield b" " * 2**20

    try:
        answer = service.http.post(PATH, content=parts(), headers=signed(b""))
    except httpx.TransportError:
        return  # cut off while it was still sending
    assert answer.status_code == 413


def test_the_endpoint_is_documented(service):
    described = service.http.get("/openapi.json").json()["paths"][PATH]["post"]
    assert {"200", "403", "503"} <= set(described["responses"])
    assert SIGNATURE_HEADER in {p["name"] for p in described["parameters"]}


# --- configuration ---------------------------------------------------------------------------------------------------
async def test_the_sample_vector_holds_over_http_and_only_as_it_was_posted(settings, engine):
    vector = json.loads((SHAPES / "sendgrid_webhook_vector.json").read_text())
    body = (SHAPES / vector["body_file"]).read_bytes()
    headers = {**vector["headers"], "Content-Type": "application/json"}
    async with application(
        settings, webhook_public_key=vector["public_key_base64_spki_der"], webhook_tolerance_seconds=0
    ) as http:
        answer = await http.post(PATH, content=body, headers=headers)
        assert answer.json() == {"received": 11, "stored": 10, "repeated": 1, "malformed": 0, "examples": 0}
        again = json.dumps(json.loads(body)).encode()
        assert (await http.post(PATH, content=again, headers=headers)).status_code == 403
    with engine.connect() as connection:
        (day,) = connection.execute(
            sa.text("SELECT * FROM turnout.mail_event_daily WHERE category = '' AND date = '2026-05-20'")
        ).mappings()
    expected = vector["expect_events"]
    assert (day["opens"], day["machine_opens"]) == (expected["human_opens"], expected["machine_opens"])
    assert day["clicks"] == expected["clicks"]


@pytest.mark.parametrize("credentials", [None, SendGridCredentials(api_key="SG.x")])
async def test_without_a_key_the_setting_is_named(settings, credentials):
    planning = Planning(settings.model_copy(update={"sendgrid": credentials}))
    transport = httpx.ASGITransport(create_app(planning))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answer = await http.post(PATH, content=b"[]", headers=signed(b"[]"))
    assert answer.status_code == 404
    assert "TURNOUT_SENDGRID__WEBHOOK_PUBLIC_KEY" in answer.json()["detail"]


async def test_a_key_that_cannot_be_read_asks_sendgrid_to_come_back(settings):
    async with application(settings, webhook_public_key="nonsense") as http:
        answer = await http.post(PATH, content=b"[]", headers=signed(b"[]"))
    assert answer.status_code == 503
    assert "TURNOUT_SENDGRID__WEBHOOK_PUBLIC_KEY" in answer.json()["detail"]


async def test_each_of_several_accounts_has_its_address_and_may_have_its_key(settings, engine):
    body = body_of([event("several")])
    async with application(
        settings, accounts=("tokyo", "osaka"), webhook_public_key=None, webhook_public_keys={"osaka": PUBLIC_KEY}
    ) as http:
        assert "/v1/webhooks/sendgrid/" in (await http.post(PATH, content=body, headers=signed(body))).json()["detail"]
        assert (await http.post(f"{PATH}/nagoya", content=body, headers=signed(body))).status_code == 404
        assert (await http.post(f"{PATH}/tokyo", content=body, headers=signed(body))).status_code == 404
        assert (await http.post(f"{PATH}/osaka", content=body, headers=signed(body))).json()["stored"] == 1
    assert [r["account"] for r in rows(settings, "several")] == ["osaka"]


async def test_days_are_those_of_the_accounts_zone(settings, engine):
    late = event("zoned", timestamp=int(datetime(2026, 5, 19, 15, 30, tzinfo=UTC).timestamp()))
    body = body_of([late])
    async with application(settings, time_zone="UTC") as http:
        assert (await http.post(PATH, content=body, headers=signed(body))).status_code == 200
    assert [r["date"] for r in rows(settings, "zoned")] == [date(2026, 5, 19)]


# --- no database -----------------------------------------------------------------------------------------------------
async def test_without_a_database_sendgrid_is_asked_to_come_back_and_nothing_is_lost(settings, engine, tmp_path):
    body = body_of([event("waiting-1"), event("waiting-2")])
    away = Settings(
        home=tmp_path, database_url="postgresql://nobody@127.0.0.1:9/turnout", redis_url="redis://127.0.0.1:9/0",
        request_timeout_seconds=2,
    )  # fmt: skip
    async with application(away) as http:
        answer = await http.post(PATH, content=body, headers=signed(body))
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert answer.json()["type"] == "urn:turnout:problem:unavailable"
    assert "127.0.0.1" not in answer.text
    async with application(settings) as http:
        assert (await http.post(PATH, content=body, headers=signed(body))).json()["stored"] == 2


async def test_a_database_that_hangs_is_not_waited_for_and_plans_keep_their_connections(settings, engine):
    """Somebody locks the table: requests end in their time, and do not take more of the pool than their share."""
    bodies = [body_of([event(f"stuck-{n}")]) for n in range(12)]
    with engine.connect() as blocker, blocker.begin():
        blocker.execute(sa.text("LOCK TABLE turnout.email_event IN ACCESS EXCLUSIVE MODE"))
        async with application(settings.model_copy(update={"request_timeout_seconds": 2})) as http:
            posts = [asyncio.create_task(http.post(PATH, content=b, headers=signed(b))) for b in bodies]
            await asyncio.sleep(1)
            with engine.connect() as other:
                # of this database alone: other tests wait for locks of theirs on the same server
                waiting = other.scalar(
                    sa.text(
                        "SELECT count(*) FROM pg_stat_activity "
                        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
                    )
                )
            answers = await asyncio.gather(*posts)
    assert 1 <= waiting <= 4
    assert {a.status_code for a in answers} == {503}
    async with application(settings) as http:
        assert [(await http.post(PATH, content=b, headers=signed(b))).json()["stored"] for b in bodies] == [1] * 12
