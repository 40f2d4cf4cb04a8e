"""Mail events: signed by whom, read how, stored once. On real PostgreSQL."""

from __future__ import annotations

import base64
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from turnout.errors import ConfigurationError
from turnout.mail_events import NotEventsError, Verifier, is_timely, parse, store
from turnout.warehouse import tables
from turnout.warehouse.partitions import ensure_partitions

SHAPES = Path(__file__).parents[1] / "data" / "api_shapes"
VECTOR = json.loads((SHAPES / "sendgrid_webhook_vector.json").read_text())
BODY = (SHAPES / VECTOR["body_file"]).read_bytes()
KEY = VECTOR["public_key_base64_spki_der"]
SIGNATURE = VECTOR["headers"]["X-Twilio-Email-Event-Webhook-Signature"]
TIMESTAMP = VECTOR["headers"]["X-Twilio-Email-Event-Webhook-Timestamp"]
NOW = datetime.fromtimestamp(int(TIMESTAMP), UTC)
TOKYO = ZoneInfo("Asia/Tokyo")
SALT = "salt-of-the-tests"
WORDS = ("open", "click", "delivered")


def read(*elements: object, now: datetime = NOW, zone: ZoneInfo = TOKYO):
    return parse(json.dumps(elements).encode(), zone=zone, salt=SALT, now=now)


def event(number: int = 1, **changes: object) -> dict[str, object]:
    return {
        "email": f"user{number}@example.com", "timestamp": 1779235200 + number, "event": "delivered",
        "sg_event_id": f"ev-{number}", "sg_message_id": f"msg{number}.recvd-77c-1-A.0", **changes,
    }  # fmt: skip


def only(*elements: object, **options):
    batch = read(*elements, **options)
    assert not batch.malformed
    (found,) = batch.events
    return found


def stored(engine) -> list[tuple]:
    with engine.connect() as connection:
        t = tables.email_event
        columns = [c for c in t.c if c.name != "received_at"]
        return [tuple(r) for r in connection.execute(sa.select(*columns).order_by(t.c.date, t.c.sg_event_id))]


def save(engine, batch, account="sendgrid", organisation="default") -> int:
    with engine.begin() as connection:
        return store(connection, organisation, account, batch.events)


# --- signatures ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "timestamp", "genuine"),
    [
        (BODY, TIMESTAMP, True),
        (json.dumps(json.loads(BODY)).encode(), TIMESTAMP, False),
        (BODY.removesuffix(b"\r\n"), TIMESTAMP, False),
        (BODY, str(int(TIMESTAMP) + 1), False),
        (BODY.replace(b"open", b"opem", 1), TIMESTAMP, False),
    ],
    ids=["as posted", "serialised again", "without its last line end", "another time", "one letter changed"],
)
def test_a_signature_holds_for_exactly_the_bytes_that_were_signed(body, timestamp, genuine):
    assert Verifier(KEY).is_genuine(body, SIGNATURE, timestamp) is genuine


@pytest.mark.parametrize("signature", ["", "not base64!", "AAAA", SIGNATURE[:-8], "日本", SIGNATURE.lower()])
def test_a_signature_that_is_none_is_refused_not_an_error(signature):
    assert not Verifier(KEY).is_genuine(BODY, signature, TIMESTAMP)


def test_bytes_that_are_no_text_can_be_signed_too():
    private = ec.generate_private_key(ec.SECP256R1())
    body = b'[{"reason":"\xff\xfe"}]'
    signature = base64.b64encode(private.sign(b"1" + body, ec.ECDSA(hashes.SHA256()))).decode()
    public = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert Verifier(base64.b64encode(public).decode()).is_genuine(body, signature, "1")


def test_a_key_may_be_pasted_with_its_frame_and_line_ends():
    framed = f"-----BEGIN PUBLIC KEY-----\n{KEY[:64]}\n{KEY[64:]}\n-----END PUBLIC KEY-----\n"
    assert Verifier(framed).is_genuine(BODY, SIGNATURE, TIMESTAMP)


def _spki(key) -> str:
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(key.public_key().public_bytes(*form)).decode()


@pytest.mark.parametrize(
    "key",
    [
        "", "nonsense", KEY[:40], _spki(ec.generate_private_key(ec.SECP384R1())),
        _spki(rsa.generate_private_key(65537, 2048)),
    ],
    ids=["empty", "nonsense", "cut", "another curve", "RSA"],
)  # fmt: skip
def test_a_key_that_cannot_be_sendgrids_names_the_setting(key):
    with pytest.raises(ConfigurationError, match="TURNOUT_SENDGRID__WEBHOOK_PUBLIC_KEY"):
        Verifier(key)


@pytest.mark.parametrize(
    ("age", "tolerance", "timely"),
    [(0, 300, True), (300, 300, True), (301, 300, False), (-299, 300, True), (-301, 300, False), (10**8, 0, True)],
)
def test_a_signed_time_counts_within_its_tolerance(age, tolerance, timely):
    assert is_timely(str(int(NOW.timestamp()) - age), NOW, tolerance) is timely


@pytest.mark.parametrize("timestamp", ["", "abc", "-5", "1.5", "１２３", "9" * 40])
def test_a_signed_time_that_is_none_is_never_timely(timestamp):
    assert not is_timely(timestamp, NOW, 0)


# --- reading ---------------------------------------------------------------------------------------------------------
def test_the_sample_batch_is_read_as_documented():
    batch = parse(BODY, zone=TOKYO, salt=SALT, now=NOW)
    assert batch.received == VECTOR["expect_events"]["in_body"]
    assert len(batch.events) == VECTOR["expect_events"]["distinct_sg_event_id"]
    assert (batch.repeated, batch.examples, batch.malformed.total()) == (1, 0, 0)
    opens = [e.is_machine for e in batch.events if e.event == "open"]
    assert (opens.count(False), opens.count(True)) == (0, 1)
    words = {e.sg_event_id: e.event for e in batch.events}
    assert words["ev-2-bounce"] == "block", "a blocked mail is no bounce in SendGrid's statistics"
    assert words["ev-3-dropped"] == "bounce_drop"


def test_nothing_personal_is_kept():
    kept = repr(parse(BODY, zone=TOKYO, salt=SALT, now=NOW))
    for word in ("example.com", "@", "192.0.2", "Mozilla", "https://", "250 OK", "msg1"):
        assert word not in kept


def test_a_recipient_is_the_same_however_written_and_another_under_another_salt():
    first, second = (only(event(email=e)) for e in ("Taro@Example.com", "taro@example.com "))
    assert first.recipient_hash == second.recipient_hash
    other = parse(json.dumps([event(email="taro@example.com")]).encode(), zone=TOKYO, salt="other", now=NOW)
    assert other.events[0].recipient_hash != first.recipient_hash


def test_events_of_one_message_share_its_hash_whatever_machine_took_it_in():
    first = only(event(1, sg_message_id="14c5d7.abc.filter0001.16648.5515E0B88.0"))
    second = only(event(2, sg_message_id="14c5d7.abc.filter0009.1.5515E0B88.0"))
    other = only(event(3, sg_message_id="14c5d8.abc.filter0001.16648.5515E0B88.0"))
    assert first.message_hash == second.message_hash != other.message_hash


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("summit", ("summit",)),
        (["summit", "early", "summit"], ("summit", "early")),
        (None, ()),
        ([], ()),
        ("", ()),
        (["  a "], ("a",)),
        (2026, ("2026",)),
        (["for taro@example.com"], ("for [e-mail]",)),
        ("nul\x00 and half \ud83d", ("nul and half",)),
    ],
)
def test_a_category_is_text_or_an_array(given, kept):
    assert only(event(category=given)).categories == kept


@pytest.mark.parametrize(("said", "machine"), [(True, True), (False, False), ("true", True), (None, None), (1, None)])
def test_machine_opens_are_told_apart_and_the_unclear_stay_unclear(said, machine):
    assert only(event(event="open", sg_machine_open=said)).is_machine is machine


def test_only_opens_can_be_machines():
    assert only(event(event="click", sg_machine_open=True)).is_machine is None


def test_a_day_is_the_accounts_day():
    late = event(timestamp=int(datetime(2026, 5, 19, 15, 30, tzinfo=UTC).timestamp()))
    assert only(late).date == date(2026, 5, 20)
    assert only(late, zone=ZoneInfo("UTC")).date == date(2026, 5, 19)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (None, "not an object"),
        ("text", "not an object"),
        ([], "not an object"),
        ({}, "event"),
        (event(event=5), "event"),
        (event(event="DROP TABLE"), "event"),
        (event(timestamp=None), "timestamp"),
        (event(timestamp=True), "timestamp"),
        (event(timestamp="yesterday"), "timestamp"),
        (event(timestamp=1779235200123), "timestamp"),
        (event(timestamp=0), "timestamp"),
        (event(timestamp=10**19), "timestamp"),
        (event(timestamp=-1), "timestamp"),
        (event(sg_event_id=7), "sg_event_id"),
        (event(sg_event_id=""), "sg_event_id"),
        (event(sg_event_id="x" * 201), "sg_event_id"),
        (event(sg_event_id="a\x00b"), "sg_event_id"),
        (event(sg_event_id="a\ud800b"), "sg_event_id"),
        ({"event": "open", "timestamp": 1779235200}, "sg_event_id"),
        (event(category={"a": 1}), "category"),
        (event(category=[["a"]]), "category"),
        (event(email=["a@example.com"]), "email"),
    ],
)
def test_a_malformed_event_is_counted_and_the_others_are_read(wrong, field):
    batch = read(event(1), wrong, event(2))
    assert [e.sg_event_id for e in batch.events] == ["ev-1", "ev-2"]
    assert batch.malformed == {field: 1}


def test_bytes_and_numbers_that_are_no_json_spoil_only_where_they_stand():
    good = json.dumps(event(1))
    bad = json.dumps(event(2)).replace("1779235202", "NaN")
    odd = json.dumps(event(3)).replace("}", f', "custom": {"9" * 5000}, "reason": "\\u3042BYTES"}}')
    body = f"[{good},{bad},{odd}]".encode().replace(b"BYTES", b"\xff\xfe")
    batch = parse(body, zone=TOKYO, salt=SALT, now=NOW)
    assert [e.sg_event_id for e in batch.events] == ["ev-1", "ev-3"]
    assert batch.malformed == {"timestamp": 1}


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"[", b"[{]", b"text", b"[" * 100_000, b'{"a":[]}', b"\xff"])
def test_a_body_that_is_no_array_is_refused(body):
    with pytest.raises(NotEventsError):
        parse(body, zone=TOKYO, salt=SALT, now=NOW)


def test_an_event_without_sendgrids_key_is_known_by_what_it_says():
    bare = {k: v for k, v in event().items() if k != "sg_event_id"}
    first, again, other = only(bare), only(dict(reversed(bare.items()))), only({**bare, "timestamp": 1779235299})
    assert first.sg_event_id == again.sg_event_id != other.sg_event_id
    assert "example.com" not in first.sg_event_id


def test_sendgrids_own_test_events_are_no_mail():
    batch = read(event(1), event(2, sg_message_id="14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0"))
    assert (len(batch.events), batch.examples, batch.malformed.total()) == (1, 1, 0)


# --- storing ---------------------------------------------------------------------------------------------------------
def test_storing_again_changes_nothing(engine):
    batch = parse(BODY, zone=TOKYO, salt=SALT, now=NOW)
    assert save(engine, batch) == 10
    before = stored(engine)
    assert save(engine, batch) == 0
    assert stored(engine) == before
    assert save(engine, batch, organisation="another") == 10, "tenants share tables, never rows"


def test_what_is_stored_is_what_was_said(engine):
    save(engine, read(event(1, event="open", sg_machine_open=False, category=["夏の会", 'quo"te, {x}'])))
    (row,) = stored(engine)
    named = dict(zip([c.name for c in tables.email_event.c if c.name != "received_at"], row, strict=True))
    assert named["account"] == "sendgrid"
    assert named["occurred_at"] == datetime.fromtimestamp(1779235201, UTC)
    assert named["categories"] == ["夏の会", 'quo"te, {x}']
    assert named["is_machine"] is False
    assert len(named["recipient_hash"]) == 24


def test_a_late_event_of_an_old_day_finds_its_place_and_later_its_month(engine):
    old = read(event(1, timestamp=int(datetime(2019, 3, 5, tzinfo=UTC).timestamp())))
    assert save(engine, old) == 1
    where = sa.text("SELECT tableoid::regclass::text FROM turnout.email_event")
    with engine.begin() as connection:
        assert connection.scalar(where) == "turnout.email_event_default"
        ensure_partitions(connection, tables.email_event, old.days)
        assert connection.scalar(where) == "turnout.email_event_2019_03"
    assert save(engine, old) == 0
    assert len(stored(engine)) == 1


def test_writers_of_the_same_events_in_any_order_neither_lose_nor_block_each_other(engine):
    numbers = list(range(400))
    start = threading.Barrier(6)

    def write(seed: int) -> int:
        mixed = random.Random(seed).sample(numbers, len(numbers))
        start.wait()
        return sum(
            save(engine, read(*(event(n) for n in mixed[i : i + 100]))) for i in range(0, len(mixed), 100)
        )  # fmt: skip

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(write, range(6))) == len(numbers)
    assert len(stored(engine)) == len(numbers)


@examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.lists(st.integers(0, 11), max_size=60), cuts=st.lists(st.integers(0, 60), max_size=6))
def test_any_mix_of_repeats_and_order_gives_the_same_rows(engine, order, cuts):
    """However often and in whatever batches events come, the table is what each of them once would have made it."""
    everything = [
        event(n, timestamp=1779235200 + 86_400 * (n % 5), event=WORDS[n % 3], category=f"{n % 2}")
        for n in range(12)
    ]  # fmt: skip
    with engine.begin() as connection:
        connection.execute(sa.delete(tables.email_event))
    said = order + list(range(12))
    edges = sorted({0, len(said), *(c for c in cuts if c < len(said))})
    new = sum(
        save(engine, read(*(everything[n] for n in said[a:b]), now=datetime(2026, 11, 1, tzinfo=UTC)))
        for a, b in pairwise(edges)
    )
    assert new == 12
    mixed = stored(engine)
    with engine.begin() as connection:
        connection.execute(sa.delete(tables.email_event))
    save(engine, read(*everything, now=datetime(2026, 11, 1, tzinfo=UTC)))
    assert stored(engine) == mixed


# --- daily counts ----------------------------------------------------------------------------------------------------
def daily(engine, category: str = "") -> dict[date, sa.RowMapping]:
    query = sa.text("SELECT * FROM turnout.mail_event_daily WHERE category = :category")
    with engine.connect() as connection:
        return {r["date"]: r for r in connection.execute(query, {"category": category}).mappings()}


def test_days_count_persons_and_machines_apart_and_each_recipient_once(engine):
    day, message = 86_400, {"sg_message_id": "one.recvd-1", "category": ["a", "b"]}
    human, machine = {"event": "open", "sg_machine_open": False}, {"event": "open", "sg_machine_open": True}
    elements = [
        event(1, **message), event(2, **message), event(3, **message),
        event(11, **message, **human, email="user1@example.com"),
        event(12, **message, **human, email="user1@example.com"),
        event(13, **message, **human, email="user1@example.com", timestamp=1779235213 + day),
        event(14, **message, **machine, email="user2@example.com"),
        event(15, **message, **human, email="user2@example.com", timestamp=1779235215 + day),
        event(16, **message, event="open", email="user3@example.com"),
        event(17, **message, event="click", email="user1@example.com"),
        event(18, **message, event="click", email="user1@example.com"),
        event(19, event="bounce"), event(20, event="bounce", type="blocked"),
        event(21, event="dropped", reason="Invalid"),
        event(22, event="spamreport"), event(23, event="group_unsubscribe"), event(24, event="unsubscribe"),
    ]  # fmt: skip
    save(engine, read(*elements, now=datetime(2026, 11, 1, tzinfo=UTC)))
    first, second = daily(engine)[date(2026, 5, 20)], daily(engine)[date(2026, 5, 21)]
    assert (first["delivered"], first["opens"], first["machine_opens"], first["unclear_opens"]) == (3, 2, 1, 1)
    assert first["unique_opens"] == 2, "user1, and user3 who may be a person"
    assert (second["opens"], second["unique_opens"]) == (2, 1), "user1 was counted the day before; user2 is new"
    assert (first["clicks"], first["unique_clicks"]) == (2, 1)
    assert (first["bounces"], first["blocks"], first["drops"]) == (1, 1, 1)
    assert (first["spam_reports"], first["unsubscribes"]) == (1, 2)
    assert first["human_open_share"] == pytest.approx(2 / 3)
    assert second["human_open_share"] == 1
    for category in ("a", "b"):
        assert daily(engine, category)[date(2026, 5, 20)]["delivered"] == 3, "each category counts the mail in full"
        assert daily(engine, category)[date(2026, 5, 20)]["bounces"] == 0


def test_the_statistics_opens_stand_beside_the_share_of_persons(engine, settings):
    save(engine, read(
        event(1, event="open", sg_machine_open=True, category="a"), event(2, event="open", sg_machine_open=False),
    ))  # fmt: skip
    row = {
        "organisation": settings.organisation, "source": "sendgrid", "account": "sendgrid", "date": date(2026, 5, 20),
        "run_id": "00000000-0000-0000-0000-000000000000", "fetched_at": NOW, "opens": 10, "line": 1,
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(
            sa.insert(tables.email_performance),
            [{**row, "category": ""}, {**row, "category": "a"}, {**row, "category": "silent"}],
        )
        found = {
            r.category: (r.opens, r.human_open_share, r.opens_by_persons)
            for r in connection.execute(sa.text("SELECT * FROM turnout.mail_opens"))
        }
    assert found == {"": (10, 0.5, 5.0), "a": (10, 0.0, 0.0), "silent": (10, None, None)}
