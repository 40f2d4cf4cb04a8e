"""The predictive distribution of a portfolio."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.curves import Hill
from turnout.plan import Evidence
from turnout.scoring import Chosen, ShowUp, TacticResponse, predictive

SHOW_UP = ShowUp(13.0, 7.0)
PORTFOLIO = [Chosen(f"t{i}", 3.0 + i, 0.3) for i in range(8)]


def ask(chosen=PORTFOLIO, **changes):
    options = {"organic": 20.0, "organic_log_sd": 0.3, "shared_log_sd": 0.2, "show_up": SHOW_UP, "target": 80}
    return predictive(chosen, **(options | changes))


def test_means_are_kept_whatever_the_spread():
    for spread in (0.0, 0.3, 0.8):
        outcome = ask([Chosen("a", 40.0, spread), Chosen("b", 60.0, spread)], shared_log_sd=spread / 2)
        assert outcome.total.mean == pytest.approx(120, rel=0.04)
        assert outcome.tactics["a"].mean == 40.0


def test_quantiles_are_those_of_the_law_drawn_by_brute_force():
    rng = np.random.default_rng(5)
    n = 400_000
    shock = np.exp(rng.normal(-0.02, 0.2, n))
    rate = shock * sum(m * np.exp(rng.normal(-(s**2) / 2, s, n)) for m, s in ((40, 0.5), (15, 0.3), (20, 0.3)))
    total = rng.poisson(rate)
    attending = rng.binomial(total, rng.beta(13, 7, n))
    outcome = ask([Chosen("a", 40.0, 0.5), Chosen("b", 15.0, 0.3)])
    for name, drawn in (("total", total), ("attendees", attending)):
        found = getattr(outcome, name)
        for level in (10, 50, 90):
            assert getattr(found, f"p{level}") == pytest.approx(np.quantile(drawn, level / 100), rel=0.06, abs=1), name
    assert outcome.goal_probability == pytest.approx(float((total >= 80).mean()), abs=0.03)


def test_small_rates_have_the_quantiles_of_a_poisson_within_one_person():
    rng = np.random.default_rng(6)
    for mean in (0.3, 1.0, 4.0, 30.0):
        drawn = rng.poisson(mean, 200_000)
        found = ask([Chosen("a", mean, 0.0)], shared_log_sd=0.0).tactics["a"]
        for level in (10, 50, 90):
            assert abs(getattr(found, f"p{level}") - np.quantile(drawn, level / 100)) <= 1.0


def test_the_same_seed_gives_the_same_answer_in_any_order():
    one, other = ask(), ask(PORTFOLIO[::-1])
    assert one.total == other.total
    assert one.tactics == other.tactics
    assert one.goal_probability == other.goal_probability
    assert ask(seed=3).total != one.total


def test_the_goal_may_count_attendees():
    assert ask(target=60, metric="attendees").goal_probability < ask(target=60).goal_probability
    assert ask(target=1).goal_probability == 1.0
    assert ask(target=1_000_000).goal_probability == 0.0


def test_a_shared_shock_widens_the_total_but_hardly_a_single_tactic():
    calm, shaken = ask(shared_log_sd=0.0), ask(shared_log_sd=0.4)
    assert shaken.total.p90 - shaken.total.p10 > 1.5 * (calm.total.p90 - calm.total.p10)


def test_an_unused_tactic_brings_nobody():
    response = TacticResponse("a", Hill(100, 1000), 0.4, Evidence.benchmark, "")
    outcome = ask([(response, 0.0)])
    assert outcome.tactics["a"].p90 == 0.0
    assert outcome.tactics["a"].mean == 0.0


def test_nothing_expected_at_all_is_answered():
    outcome = ask([], organic=0.0)
    assert outcome.total.p90 == 0
    assert outcome.goal_probability == 0.0


@pytest.mark.parametrize(
    "changes", [{"organic": -1.0}, {"organic": float("nan")}, {"shared_log_sd": -0.1}, {"organic_log_sd": float("inf")}]
)
def test_impossible_means_and_spreads_are_refused(changes):
    with pytest.raises(ValueError, match="must"):
        ask(**changes)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 5)), max_size=40),
    st.floats(0, 1e5),
    st.floats(0, 3),
)
def test_quantiles_are_ordered_and_finite(parts, organic, shared):
    outcome = ask([Chosen(f"t{i}", m, s) for i, (m, s) in enumerate(parts)], organic=organic, shared_log_sd=shared)
    for interval in (outcome.total, outcome.attendees, outcome.organic, *outcome.tactics.values()):
        assert 0 <= interval.p10 <= interval.p50 <= interval.p90 < np.inf
    assert 0 <= outcome.goal_probability <= 1


def test_thirty_two_tactics_take_a_few_milliseconds():
    chosen = [Chosen(f"t{i}", 3.0 + i, 0.3) for i in range(32)]
    ask(chosen)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        ask(chosen)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.006  # 2 ms on an idle core
