"""A difference is real only when it is, however often one looks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.training import histories
from tests.training.histories import UNTIL, Law
from tests.training.test_monitoring import plan
from training import abtest, promotion, response
from training import registry as models
from training.abtest import FEWEST, needed_events, sequential
from turnout import registry


def arms(rng, n, *, shift=0.0, share=0.5):
    mine = rng.random(n) < share
    values = np.abs(rng.normal(1.0 + shift * mine, 0.5))
    return values, mine


def looked_at_daily(rng, n, *, shift=0.0):
    """The verdict of somebody who looks after every fourth event and stops at the first difference."""
    values, mine = arms(rng, n, shift=shift)
    for seen in range(20, n + 1, 4):
        old, new = values[:seen][~mine[:seen]], values[:seen][mine[:seen]]
        found = sequential("error", old, new, effect=0.1, share=0.5, lower_is_better=True)
        if found.better in ("challenger", "champion"):
            return found.better, seen
    return "not_yet", n


def test_looking_every_day_finds_no_difference_where_there_is_none():
    rng = np.random.default_rng(0)
    found = [looked_at_daily(rng, 400)[0] for _ in range(200)]
    assert sum(f != "not_yet" for f in found) / 200 <= 0.05


def test_a_real_difference_is_found_the_right_way_round():
    rng = np.random.default_rng(1)
    found = [looked_at_daily(rng, 600, shift=-0.3)[0] for _ in range(50)]
    assert found.count("challenger") >= 45
    assert "champion" not in found
    assert looked_at_daily(rng, 600, shift=0.5)[0] == "champion"


def test_the_sample_size_it_asks_for_finds_the_effect_about_as_often_as_promised():
    needed = needed_events(0.5, 0.2, 0.5)
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(200):
        values, mine = rng.normal(0, 0.5, needed), np.arange(needed) % 2 == 0
        values[mine] -= 0.2
        found += (
            sequential("e", values[~mine], values[mine], effect=0.2, share=0.5, lower_is_better=True).better
            == "challenger"
        )
    assert 0.72 <= found / 200 <= 0.88
    assert needed_events(0.5, 0.2, 0.1) > needed, "an uneven split needs more"


def test_a_handful_of_events_decides_nothing():
    few = sequential("error", np.ones(FEWEST - 1), np.zeros(50), effect=0.1, share=0.5, lower_is_better=True)
    assert few.better == "too_few"
    assert sequential("error", [], [1.0], effect=0.1, share=0.5, lower_is_better=True).difference is None


@pytest.mark.slow
def test_outcomes_of_both_arms_are_compared_from_the_challengers_first_plan_on(
    settings, engine, empty_registry, monkeypatch
):
    events = histories.records(120, Law(days=300))
    histories.store(engine, settings, events)
    promotion.promote_if_better(settings, response.train(settings, UNTIL))
    alone = abtest.report(settings, UNTIL)
    assert alone.measures == []
    assert "the champion itself" in alone.verdict
    monkeypatch.setattr(models, "recipe_fingerprint", lambda: "another")
    decided = promotion.promote_if_better(settings, response.train(settings, UNTIL))
    assert (decided.promoted, registry.alias_version(settings, registry.RESPONSE, "challenger")) == (False, "2")
    rng = np.random.default_rng(3)
    for i, event in enumerate(events):
        challenger = i >= 40 and i % 2 == 0
        sd = 0.05 if challenger else 0.5
        plan(engine, settings, event, factor=float(np.exp(rng.normal(0, sd))),
             version="2" if challenger else "1", arm="challenger" if challenger else "champion")  # fmt: skip

    found = abtest.report(settings, UNTIL)

    error, attainment = found.measures
    assert (error.champion_events, error.challenger_events) == (40, 40)
    assert error.better == "challenger"
    assert "error: challenger version 2 is better" in found.verdict
    assert attainment.better == "not_yet"
    assert f"takes about {attainment.needed} events" in found.verdict
    assert "Infinity" not in json.dumps(found.as_dict())
