"""The best portfolio of the simulated world: feasible, worth what the world says, better than anything else tried."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pytest

from turnout.schedule import Window, schedule
from turnout.simulation.best import Habit, Limits, best_portfolio, least_amount, splits, staff_hours
from turnout.simulation.regret import expected_total
from turnout.simulation.world import World, WorldConfig
from turnout.tactics import load_catalogue


@pytest.fixture(scope="module")
def world():
    return World(WorldConfig(seed=3, events=24, until=date(2026, 9, 30)))


def limits_of(world, event, budget=1_000_000.0, hours=60.0):
    as_of = event.date - timedelta(days=event.opens_before)
    windows = {t.id: schedule(t, event.date, as_of, "Asia/Tokyo", "JP") for t in load_catalogue()}
    starts = {k: w.starts for k, w in windows.items() if isinstance(w, Window) and k in world.tactics}
    return Limits(budget, hours, starts)


def cost(world, portfolio):
    paid = {t: x for t, x in portfolio.items() if world.prices.is_paid[world.position(t)]}
    return sum(paid.values()), sum(staff_hours(world, t, x) for t, x in portfolio.items())


@pytest.mark.parametrize("index", [0, 7, 15, 23])
def test_it_is_feasible_and_worth_what_the_world_says_within_its_bound(world, index):
    event = world.events[index]
    limits = limits_of(world, event)
    best = best_portfolio(world, event, limits)
    spend, hours = cost(world, best.portfolio)
    assert spend <= limits.budget * (1 + 1e-9)
    assert hours <= limits.hours * (1 + 1e-6)
    assert set(best.portfolio) <= set(limits.starts)
    assert best.total == pytest.approx(expected_total(world, event, best.portfolio, limits.starts), rel=1e-6)
    assert best.total <= best.bound * (1 + 1e-9)
    assert best.bound <= best.total * 1.01


def test_no_random_portfolio_and_no_small_change_is_better(world):
    event = world.events[10]
    limits = limits_of(world, event)
    best = best_portfolio(world, event, limits)
    rng = np.random.default_rng(0)
    paid = [t for t in limits.starts if world.prices.is_paid[world.position(t)]]
    free = [t for t in limits.starts if t not in paid]
    for _ in range(300):
        shares = rng.dirichlet(np.full(len(paid), 0.4))
        tried = {t: float(s) * limits.budget for t, s in zip(paid, shares, strict=True)}
        tried = {t: x for t, x in tried.items() if x >= least_amount(world, t)}
        left = limits.hours - cost(world, tried)[1]
        if left <= 0:
            continue
        tried |= {
            t: float(s) * left for t, s in zip(free, rng.dirichlet(np.full(len(free), 0.4)), strict=True) if s > 0
        }
        assert expected_total(world, event, tried, limits.starts) <= best.bound * (1 + 1e-9)


def test_more_money_never_brings_less_and_nothing_brings_the_organic_ones(world):
    event = world.events[5]
    totals = [best_portfolio(world, event, limits_of(world, event, budget=b)).total for b in (0, 3e5, 1e6, 4e6)]
    assert all(b >= a * (1 - 1e-3) for a, b in pairwise(totals))
    nothing = best_portfolio(world, event, Limits(0.0, 0.0, {}))
    assert nothing.portfolio == {}
    assert nothing.total == pytest.approx(expected_total(world, event, {}), rel=1e-9)


def test_simple_rules_keep_to_the_same_limits_and_stay_below_the_best(world):
    event = world.events[12]
    limits = limits_of(world, event)
    habits = {t: Habit(1e6 if world.prices.is_paid[world.position(t)] else 50.0, 40.0, 4e5) for t in world.tactics[::2]}
    found = splits(world, limits, habits)
    assert set(found) == {"equal", "proportional", "cpa_greedy"}
    best = best_portfolio(world, event, limits)
    for rule, portfolio in found.items():
        spend, hours = cost(world, portfolio)
        assert spend <= limits.budget * (1 + 1e-9), rule
        assert hours <= limits.hours * (1 + 1e-9), rule
        assert all(x >= least_amount(world, t) * (1 - 1e-9) for t, x in portfolio.items()), rule
        assert expected_total(world, event, portfolio, limits.starts) <= best.bound, rule
    assert set(found["proportional"]) <= set(habits)
    assert splits(world, Limits(0.0, 0.0, {}), habits) == {"equal": {}, "proportional": {}, "cpa_greedy": {}}
