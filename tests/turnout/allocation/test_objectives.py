"""Frontier, least cost, cost per registration and risk, against all combinations of a small problem's choices."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from turnout.allocation import (
    Audience,
    Candidate,
    CostKind,
    Draws,
    Hill,
    InfeasibleError,
    Measure,
    Problem,
    Step,
    at_cost,
    cheapest,
    credit,
    frontier,
    solve,
    under_risk,
)


def steps(seed: int, coupled: bool = True) -> Problem:
    """Whole units only, so that all combinations are the truth."""
    r = np.random.default_rng(seed)
    n = int(r.integers(3, 6))
    people = [Audience("a", float(r.uniform(20, 80)), others=float(r.uniform(0, 10))), Audience("b", 60.0)]
    candidates = [
        Candidate(
            f"c{i}",
            Step(np.cumsum(r.integers(5, 40, 2)).tolist(), np.cumsum(r.integers(1, 30, 2)).tolist()),
            fixed_hours=float(r.integers(0, 5)),
            reach={"a": float(r.uniform(0, 0.5)), "b": float(r.uniform(0, 0.5))} if coupled else {},
        )
        for i in range(n)
    ]
    if coupled:
        candidates.append(Candidate("referral", Step((10, 20), (0.1, 0.15)), of_others=True))
    return Problem(
        candidates, float(r.integers(40, 160)), hours=float(r.integers(4, 15)), unit=1,
        audiences=people if coupled else [], organic=5.0,
    )  # fmt: skip


def every_portfolio(given: Problem):
    """x, money and alone of every combination within budget and hours."""
    choices = [(0.0, *(float(v) for v in c.curve.at)) for c in given.candidates]
    for x in itertools.product(*choices):
        money = sum(x)
        hours = sum(c.fixed_hours for c, v in zip(given.candidates, x, strict=True) if v > 0)
        if money <= given.budget and hours <= given.hours:
            yield x, money, [float(c.curve(v)) for c, v in zip(given.candidates, x, strict=True)]


def totals_of(given: Problem, alone, factor=1.0):
    reach, feeds = [c.reach for c in given.candidates], [c.of_others for c in given.candidates]
    return credit(given.audiences, reach, np.asarray(alone) * factor, feeds, given.organic).total


@pytest.mark.parametrize("seed", range(12))
def test_the_cheapest_way_to_a_target_costs_what_brute_force_says(seed):
    given = steps(seed, coupled=seed % 3 > 0)
    table = [(money, float(totals_of(given, alone))) for _, money, alone in every_portfolio(given)]
    highest = max(t for _, t in table)
    for share in (0.3, 0.7, 0.95):
        target = 5.0 + share * (highest - 5.0)
        least = min(m for m, t in table if t >= target * (1 - 1e-9))
        found = cheapest(given, target, gap=1e-4)
        assert found.reached
        assert found.proved
        assert found.solution.total >= target * (1 - 1e-9)
        assert found.lower_bound <= least * (1 + 1e-9)
        assert found.solution.total_spend <= least * (1 + 1e-3) + 1


def test_a_target_out_of_reach_is_proved_to_be():
    given = steps(1)
    found = cheapest(given, 1000.0)
    assert not found.reached
    assert found.proved
    assert found.lower_bound == math.inf
    assert found.solution.total <= found.solution.upper_bound < 1000


def test_what_comes_by_itself_costs_nothing():
    found = cheapest(steps(1), 4.0)
    assert found.solution.total_spend == 0
    assert (found.gap, found.proved) == (0.0, True)


@pytest.mark.parametrize("seed", range(12))
def test_the_most_at_an_average_cost_is_what_brute_force_says(seed):
    given = steps(seed, coupled=seed % 3 > 0)
    nothing = float(totals_of(given, [0.0] * len(given.candidates)))
    table = [(money, float(totals_of(given, alone))) for _, money, alone in every_portfolio(given)]
    for cost in (1.0, 2.0, 4.0):
        best = max(t for m, t in table if m <= cost * (t - nothing) * (1 + 1e-9))
        found = at_cost(given, cost, gap=1e-3)
        assert found.total_spend <= cost * (found.total - nothing) * (1 + 1e-8)
        assert best <= found.upper_bound * (1 + 1e-9)
        assert best <= found.total * (1 + 1e-9) or not found.proved


def test_the_last_registration_costs_what_was_asked():
    given = Problem([Candidate("a", Hill(100, 100_000)), Candidate("b", Hill(40, 50_000))], 2_000_000, unit=1)
    found = at_cost(given, 4_000, CostKind.marginal)
    for choice in found.choices:
        assert 1 / choice.marginal_response == pytest.approx(4_000, rel=1e-3)
    with pytest.raises(ValueError, match="above 0"):
        at_cost(given, 0.0)


def test_no_portfolio_is_as_cheap():
    with pytest.raises(InfeasibleError, match="no portfolio costs at most"):
        at_cost(Problem([Candidate("a", Hill(10, 1000), lock=5000)], 10_000), 1.0)


@pytest.mark.parametrize("coupled", [False, True])
def test_the_frontier_never_falls_and_each_point_holds(coupled):
    given = steps(7, coupled)
    budgets = [160.0, 0.0, 40.0, 80.0, 20.0]
    answers = frontier(given, budgets, gap=1e-3)
    by_budget = sorted(zip(budgets, answers, strict=True), key=lambda e: e[0])
    values = [a.total for _, a in by_budget]
    assert values == sorted(values)
    for budget, answer in by_budget:
        best = max(float(totals_of(given, alone)) for _, m, alone in every_portfolio(replace(given, budget=budget)))
        assert answer.total_spend <= budget
        assert answer.total * (1 - 1e-9) <= best <= answer.upper_bound * (1 + 1e-9)
        assert best <= answer.total * (1 + 1.01e-3)
    locked = replace(given, candidates=[replace(given.candidates[0], lock=30.0), *given.candidates[1:]])
    assert frontier(locked, [10.0, 60.0])[0] is None


@pytest.mark.parametrize("measure", list(Measure))
@pytest.mark.parametrize("seed", range(5))
def test_no_portfolio_has_a_better_measure_than_the_bound(measure, seed):
    given = steps(seed, coupled=seed % 2 > 0)
    r = np.random.default_rng(seed)
    factor = np.exp(r.normal(-0.1, 0.4, (60, len(given.candidates)))) * np.exp(r.normal(0, 0.2, (60, 1)))
    target = solve(given).total
    found = under_risk(given, Draws(factor), measure, target=target, level=0.2)
    best, value_of_ours = -math.inf, None
    ours = tuple(c.x for c in found.solution.choices)
    for x, _, alone in every_portfolio(given):
        totals = np.sort(totals_of(given, alone, factor))
        value = {
            Measure.mean: totals.mean(),
            Measure.probability: (totals >= target).mean(),
            Measure.quantile: np.quantile(totals, 0.2, method="lower"),
            Measure.cvar: totals[:12].mean(),
        }[measure]
        best = max(best, float(value))
        if x == ours:
            value_of_ours = float(value)
    assert value_of_ours == pytest.approx(found.value)
    assert best <= found.upper_bound * (1 + 1e-9)
    assert best <= found.value + (found.gap + 1e-3) * found.upper_bound
    slack = 0.1 if measure is Measure.probability else 0.05 * best
    assert found.value >= best - slack


def test_a_sure_tactic_is_preferred_where_the_worst_counts():
    sure, chancy = Candidate("sure", Step(100, 20)), Candidate("chancy", Step(100, 24))
    factor = np.column_stack((np.ones(100), np.tile([0.2, 1.8], 50)))
    given = Problem([sure, chancy], 100, unit=1)
    assert under_risk(given, Draws(factor), Measure.mean).solution.spend["chancy"] == 100
    worst = under_risk(given, Draws(factor), Measure.cvar, level=0.1)
    assert worst.solution.spend["sure"] == 100
    assert worst.value == pytest.approx(20)
    likely = under_risk(given, Draws(factor), Measure.probability, target=19.0)
    assert likely.value == 1.0


def test_shared_shocks_and_the_show_up_count():
    given = Problem([Candidate("a", Step(100, 20))], 100, organic=10.0)
    shared, times = np.array([0.5, 1.0, 2.0]), np.array([0.5, 0.5, 0.5])
    found = under_risk(given, Draws(np.ones((3, 1)), shared=shared, organic=[2.0, 1.0, 1.0], times=times), Measure.mean)
    assert found.totals == pytest.approx([15.0, 15.0, 25.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"measure": Measure.probability}, "which target"),
        ({"measure": Measure.cvar, "level": 1.5}, "level"),
        ({"measure": Measure.mean, "draws": Draws(np.ones((3, 2)))}, "shape"),
        ({"measure": Measure.mean, "draws": Draws(-np.ones((3, 1)))}, "not negative"),
    ],
)
def test_questions_that_make_no_sense_are_refused(arguments, message):
    given = Problem([Candidate("a", Hill(1, 1))], 1)
    with pytest.raises(ValueError, match=message):
        under_risk(given, **{"draws": Draws(np.ones((3, 1))), **arguments})
