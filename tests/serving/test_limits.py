"""Limits: exact over workers, early refusals, and what becomes of them without Redis."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest
import redis
from redis.asyncio.connection import AbstractConnection

from serving import limits, metrics
from serving.limits import Admission, Limiter, OverloadedError, Verdict, is_deeper
from serving.state import Planning
from tests.serving.conftest import brief
from tests.serving.test_auth import bearer, client, make_key
from turnout.settings import Settings

AWAY = "redis://127.0.0.1:9/0"


@pytest.fixture
def few(settings: Settings, redis_url: str) -> Settings:
    """Five requests a minute."""
    return settings.model_copy(update={"auth": "keys", "rate_limit_per_minute": 5})


async def test_workers_share_one_limit_exactly(settings, redis_url):
    given = settings.model_copy(update={"rate_limit_per_minute": 100})
    workers = [Limiter(given) for _ in range(4)]
    verdicts = await asyncio.gather(*(workers[n % 4].hit("ours", "me") for n in range(300)))
    other = await workers[0].hit("theirs", "me")
    for worker in workers:
        await worker.close()
    assert sum(v.allowed for v in verdicts) == 100
    assert sorted(v.remaining for v in verdicts if v.allowed) == list(range(100))
    assert other.remaining == 99, "another user's hits are another user's"


async def test_the_window_moves(settings, redis_url, monkeypatch):
    monkeypatch.setattr(limits, "WINDOW_SECONDS", 1)
    limiter = Limiter(settings.model_copy(update={"rate_limit_per_minute": 4}))
    allowed = []
    began = time.monotonic()
    while time.monotonic() - began < 2.6:
        if (await limiter.hit("ours", "me")).allowed:
            allowed.append(time.monotonic())
        await asyncio.sleep(0.02)
    await limiter.close()
    for first in allowed:
        assert sum(first <= at < first + 0.97 for at in allowed) <= 4
    assert len(allowed) >= 10


async def test_a_refusal_says_when_to_come_back_and_then_lets_in(settings, redis_url, monkeypatch):
    monkeypatch.setattr(limits, "WINDOW_SECONDS", 1)
    limiter = Limiter(settings.model_copy(update={"rate_limit_per_minute": 2}))
    await limiter.hit("ours", "me")
    await asyncio.sleep(0.4)
    await limiter.hit("ours", "me")
    refused = await limiter.hit("ours", "me")
    assert not refused.allowed
    assert 0.3 < refused.reset <= 0.6
    await asyncio.sleep(refused.reset + 0.02)
    assert (await limiter.hit("ours", "me")).allowed
    assert not (await limiter.hit("ours", "me")).allowed
    await limiter.close()


async def test_one_round_trip_a_request(settings, redis_url, monkeypatch):
    limiter = Limiter(settings)
    await limiter.hit("ours", "me")
    sent, send = [], AbstractConnection.send_packed_command

    async def counted(self, *arguments, **options):
        sent.append(1)
        return await send(self, *arguments, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
    for _ in range(50):
        await limiter.hit("ours", "me")
    await limiter.close()
    assert len(sent) == 50
    with redis.Redis.from_url(redis_url) as direct:
        (name,) = direct.keys("*")
        assert 0 < direct.pttl(name) <= 60_000, "one key a user, and it goes away by itself"


@pytest.mark.parametrize("verdict", [Verdict(True, 10, 3, 12.2, ""), Verdict(False, 10, 0, 0.2, "")])
def test_headers_are_those_of_the_draft(verdict):
    headers = verdict.headers
    assert headers["RateLimit-Limit"] == "10"
    assert headers["RateLimit-Policy"] == "10;w=60"
    assert headers["RateLimit-Remaining"] == str(verdict.remaining)
    assert int(headers["RateLimit-Reset"]) >= max(1, verdict.reset)
    assert ("Retry-After" in headers) is not verdict.allowed


async def test_every_answer_carries_the_limit_and_the_sixth_is_refused(few, engine):
    _, key = make_key(engine, few)
    _, other = make_key(engine, few)
    async with client(few) as http:
        answers = [await http.get("/v1/tactics", headers=bearer(key)) for _ in range(5)]
        refused = await http.post("/v1/plans", json=brief(), headers={**bearer(key), "Accept-Language": "ja"})
        somebody_else = await http.get("/v1/tactics", headers=bearer(other))
        nobody = await http.get("/v1/tactics", headers=bearer("turnout_" + "0" * 12 + "_" + "0" * 64))
        open_to_all = await http.get("/livez")
    assert [a.headers["ratelimit-remaining"] for a in answers] == ["4", "3", "2", "1", "0"]
    assert refused.status_code == 429
    assert refused.json()["type"] == "urn:turnout:problem:rate-limited"
    assert "1分あたり5件" in refused.json()["detail"]
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert somebody_else.status_code == 200
    assert nobody.status_code == 401, "who is not let in uses up nobody's limit"
    assert "ratelimit-limit" not in open_to_all.headers


async def test_without_redis_requests_are_let_in_and_limited_here(few, engine):
    _, key = make_key(engine, few)
    refused = metrics.RATE_LIMITS.labels("local_refused")
    before = refused._value.get()
    async with client(few.model_copy(update={"redis_url": AWAY})) as http:
        began = time.monotonic()
        answers = [await http.get("/v1/tactics", headers=bearer(key)) for _ in range(8)]
        assert time.monotonic() - began < 3
        assert [a.status_code for a in answers] == [200] * 5 + [429] * 3
        assert answers[-1].headers["retry-after"]
    assert refused._value.get() - before == 3


async def test_a_worker_alone_keeps_to_its_share(settings):
    limiter = Limiter(settings.model_copy(update={
        "redis_url": AWAY, "rate_limit_per_minute": 10, "service_workers": 4,
    }))  # fmt: skip
    verdicts = [await limiter.hit("ours", "me") for _ in range(10)]
    assert sum(v.allowed for v in verdicts) == 3
    assert {v.mark for v in verdicts} == {None}
    await limiter.close()


async def test_redis_that_comes_back_is_used_again(settings, redis_url, monkeypatch):
    monkeypatch.setattr(limits, "PAUSE_SECONDS", 0.1)
    limiter = Limiter(settings)
    script, limiter._script = limiter._script, _broken
    assert (await limiter.hit("ours", "me")).mark is None
    limiter._script = script
    assert (await limiter.hit("ours", "me")).mark is None, "not asked again at once"
    await asyncio.sleep(0.15)
    assert (await limiter.hit("ours", "me")).mark == ""
    await limiter.close()


async def _broken(**_):
    raise redis.ConnectionError("gone")


async def test_no_limit_is_no_limit(settings, redis_url):
    limiter = Limiter(settings.model_copy(update={"rate_limit_per_minute": 0}))
    verdicts = [await limiter.hit("ours", "me") for _ in range(50)]
    assert all(v.allowed and v.headers == {} for v in verdicts)
    await limiter.close()


# --- turns ------------------------------------------------------------------------------------------------------------
async def test_more_than_may_wait_are_sent_away_at_once_and_who_waits_too_long_later():
    admission, done = Admission(at_once=2, waiting=3, seconds=0.3), []

    async def work(seconds: float) -> str:
        began = time.monotonic()
        try:
            async with admission.turn():
                await asyncio.sleep(seconds)
        except OverloadedError:
            return "at once" if time.monotonic() - began < 0.1 else "late"
        done.append(1)
        return "done"

    outcomes = await asyncio.gather(*(work(1.0) for _ in range(10)))
    assert sorted(outcomes) == ["at once"] * 5 + ["done"] * 2 + ["late"] * 3
    assert (admission.running, admission.waiting) == (0, 0)
    assert await work(0.01) == "done"


async def test_a_turn_comes_when_another_ends():
    admission = Admission(at_once=1, waiting=5, seconds=1.0)
    order: list[int] = []

    async def work(number: int) -> None:
        async with admission.turn():
            order.append(number)
            await asyncio.sleep(0.02)

    await asyncio.gather(*(work(n) for n in range(5)))
    assert order == list(range(5))


async def test_a_turn_is_given_back_by_who_fails_or_goes_away():
    admission = Admission(at_once=1, waiting=5, seconds=0.2)

    async def hold() -> None:
        async with admission.turn():
            await asyncio.sleep(30)

    held = asyncio.create_task(hold())
    await asyncio.sleep(0.01)
    waits = asyncio.create_task(hold())
    await asyncio.sleep(0.01)
    for task in (held, waits):
        task.cancel()
    await asyncio.gather(held, waits, return_exceptions=True)
    with pytest.raises(ValueError, match="no"):
        async with admission.turn():
            raise ValueError("no")
    assert (admission.running, admission.waiting) == (0, 0)


async def test_the_queue_answers_429_early(settings, redis_url, engine, monkeypatch):
    given = settings.model_copy(update={
        "auth": "keys", "max_in_flight": 2, "max_waiting": 4, "queue_seconds": 0.3,
    })  # fmt: skip
    _, key = make_key(engine, given)

    async def slow(*_):
        await asyncio.sleep(2.5)
        raise TimeoutError

    monkeypatch.setattr(Planning, "_plan", slow)

    async def ask(http: httpx.AsyncClient) -> tuple[int, float]:
        began = time.monotonic()
        answer = await http.post("/v1/plans", json=brief(), headers=bearer(key))
        if answer.status_code == 429:
            assert answer.json()["type"] == "urn:turnout:problem:overloaded"
            assert answer.headers["retry-after"] == "1"
        return answer.status_code, time.monotonic() - began

    async with client(given) as http:
        answers = await asyncio.gather(*(ask(http) for _ in range(40)))
    assert sorted(status for status, _ in answers) == [429] * 38 + [504] * 2
    assert max(seconds for status, seconds in answers if status == 429) < 2


# --- depth ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "deeper"),
    [
        (b"[[[1]]]", False), (b"[[[[1]]]]", True), (b"[]" * 100, False), (b'{"a": [{"b": 1}]}', False),
        (b'{"a": [{"b": {}}]}', True), (b'["[[[[[["]', False), (b'["\\"[[[[[["]', False), (b'["\\\\", [[[1]]]]', True),
        (b'"', False), (b"[" * 100_000, True), (b'{"\xe3\x82\xa4[[[[": 1}', False),
    ],
)  # fmt: skip
def test_depth_is_told_without_parsing(body, deeper):
    assert is_deeper(body, 3) is deeper


@pytest.mark.parametrize("unit", [b'\\"', b'"', b'"\\', b"\\", b'[""', b'"["', b"{}"])
def test_depth_is_told_in_linear_time(unit):
    began = time.perf_counter()
    is_deeper(b'{"a": "' + unit * (250_000 // len(unit)) + b"[" * 40, 32)
    assert time.perf_counter() - began < 0.5
