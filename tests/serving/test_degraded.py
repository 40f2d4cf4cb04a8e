"""What is missing is named, and nothing ends in a stack trace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from serving import state
from serving.http import create_app
from serving.state import Planning
from tests.serving.conftest import brief
from tests.serving.models import bundle
from turnout.settings import Settings

CLOSED = "127.0.0.1:9"


@pytest.fixture
def nothing(tmp_path) -> Settings:
    """Settings whose every server is away."""
    return Settings(
        home=tmp_path, database_url=f"postgresql://nobody@{CLOSED}/turnout", redis_url=f"redis://{CLOSED}/0",
        request_timeout_seconds=2, auth="local",
    )  # fmt: skip


@asynccontextmanager
async def client(planning: Planning) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(planning), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as http:
        yield http


def with_models(planning: Planning) -> Planning:
    """As if both models were loaded and the features open."""
    planning.loaded = state.Loaded(bundle(), state.datetime.now(state.UTC), ("1", "1"))
    planning._reader = object()
    return planning


async def test_readiness_names_each_part_that_is_away(nothing):
    planning = Planning(nothing)
    await planning.start()
    try:
        async with client(planning) as http:
            answer = await http.get("/readyz")
            alive = await http.get("/livez")
    finally:
        await planning.close()
    assert answer.status_code == 503
    parts = answer.json()["parts"]
    assert set(parts) == {"model", "features", "postgresql", "redis"}
    assert "ok" not in parts.values()
    assert CLOSED not in answer.text, "addresses are nobody's business"
    assert alive.status_code == 200


async def test_without_a_model_a_plan_is_refused_with_when_to_come_back(nothing):
    async with client(Planning(nothing)) as http:
        answer = await http.post("/v1/plans", json=brief())
        models = await http.get("/v1/models")
    assert answer.status_code == models.status_code == 503
    assert answer.json()["type"] == "urn:turnout:problem:not-ready"
    assert int(answer.headers["retry-after"]) > 0


async def test_a_database_that_is_away_is_named(nothing):
    planning = with_models(Planning(nothing))
    await planning.start()
    try:
        async with client(planning) as http:
            answer = await http.post("/v1/plans", json=brief(), headers={"Idempotency-Key": "k"})
    finally:
        await planning.close()
    assert answer.status_code == 503
    assert "PostgreSQL" in answer.json()["detail"]


async def test_what_takes_too_long_is_ended(nothing, monkeypatch):
    planning = Planning(nothing.model_copy(update={"request_timeout_seconds": 0.2}))

    async def slow(*_):
        await asyncio.sleep(30)

    monkeypatch.setattr(planning, "_plan", slow)
    began = time.monotonic()
    async with client(planning) as http:
        answer = await http.post("/v1/plans", json=brief(language="en"))
    assert time.monotonic() - began < 5
    assert answer.status_code == 504
    assert "0.2 s" in answer.json()["detail"]
    assert planning.admission.running == 0


async def test_too_many_at_once_are_refused_early(nothing, monkeypatch):
    planning = Planning(nothing.model_copy(update={"max_in_flight": 3, "max_waiting": 0}))

    async def slow(*_):
        await asyncio.sleep(0.5)
        raise state.NotReadyError("in the end")

    monkeypatch.setattr(planning, "_plan", slow)
    async with client(planning) as http:
        answers = await asyncio.gather(*(http.post("/v1/plans", json=brief()) for _ in range(8)))
    assert sorted(a.status_code for a in answers) == [429] * 5 + [503] * 3
    assert all(a.headers["retry-after"] for a in answers)


@pytest.mark.parametrize("language", ["ja", "en"])
async def test_the_unexpected_is_a_problem_with_an_id_and_no_details(nothing, monkeypatch, language):
    planning = Planning(nothing)

    async def broken(*_):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(planning, "_plan", broken)
    async with client(planning) as http:
        answer = await http.post("/v1/plans", json=brief(), headers={"Accept-Language": language, "X-Request-ID": "r1"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "r1" in answer.json()["detail"]
    assert "secret" not in answer.text
