"""The rules of thumb a worker keeps: each organisation's own, read seldom, and no reason not to plan."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest

from serving import state, store
from serving.planner import Insights
from serving.state import Planning
from turnout import insight_store
from turnout.insight_check import Verdict
from turnout.insights import Insight
from turnout.settings import Settings

OURS, THEIRS = "ours", "theirs"
TODAY = date(2026, 11, 1)


@pytest.fixture
def stored(engine) -> None:
    with engine.begin() as connection:
        for organisation in (OURS, THEIRS):
            insight_store.save(connection, organisation, [Insight("", f"a rule of {organisation}")])


def texts(found: Insights) -> list[str]:
    return [rule.text for rule in found.rules]


def test_each_organisation_sees_its_own_and_many_requests_read_once(settings, stored, monkeypatch):
    readings = []
    read = store.insights

    async def counted(engine, organisation):
        readings.append(organisation)
        return await read(engine, organisation)

    async def ask() -> list[Insights]:
        planning = Planning(settings)
        planning._engine = store.create_engine(settings)
        try:
            many = await asyncio.gather(*(planning.insights(name) for name in (OURS, THEIRS) * 10))
            return [*many, await planning.insights(OURS)]
        finally:
            await planning.close()

    monkeypatch.setattr(store, "insights", counted)
    ours, theirs, *rest = asyncio.run(ask())
    assert texts(ours) == ["a rule of ours"]
    assert texts(theirs) == ["a rule of theirs"]
    assert rest[-1] is ours
    assert sorted(readings) == [OURS, THEIRS]


def test_a_new_rule_and_a_new_verdict_are_seen_and_outlast_the_database(settings, engine, stored, monkeypatch):
    away = Settings(**{**settings.model_dump(), "database_url": "postgresql+psycopg://nobody@127.0.0.1:1/turnout"})
    monkeypatch.setattr(state, "INSIGHT_SECONDS", 0.0)

    async def ask() -> tuple[Insights, Insights]:
        planning = Planning(settings)
        planning._engine = reachable = store.create_engine(settings)
        try:
            await planning.insights(OURS)
            with engine.begin() as connection:
                insight_store.save(connection, OURS, [Insight("", "another rule")])
                rules = insight_store.read(connection, OURS)
                verdict = Verdict(rules[0].insight_id, "untested", "too_few_events")
                insight_store.save_verdicts(connection, OURS, TODAY, [verdict])
            now = await planning.insights(OURS)
            planning._engine = store.create_engine(away)
            return now, await planning.insights(OURS)
        finally:
            await planning.close()
            await reachable.dispose()

    now, later = asyncio.run(ask())
    assert texts(now) == ["a rule of ours", "another rule"]
    assert {v.verdict for v in now.verdicts.values()} == {"untested"}
    assert later is now


def test_a_database_that_was_never_there_leaves_plans_without_rules(settings):
    planning = Planning(settings)

    async def ask() -> Insights:
        try:
            return await planning.insights(OURS)
        finally:
            await planning.close()

    assert asyncio.run(ask()) == Insights()
