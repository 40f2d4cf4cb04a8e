"""The allocator against brute force on random small problems of every kind.

Set ``TURNOUT_ALLOCATION_CASES`` for a longer run (10,000 takes about a minute on one core).
"""

import math
import os

import numpy as np
import pytest

from turnout.allocation import Candidate, CappedLinear, Hill, InfeasibleError, Logistic, Problem, Step, Tabulated, solve

CASES = int(os.environ.get("TURNOUT_ALLOCATION_CASES", "600"))
CHUNKS = 6


def random_curve(r, scale, budget):
    top = scale * r.uniform(0.05, 1) * 10 ** r.uniform(-1, 0.3)
    half = budget * 10 ** r.uniform(-2, 0.5)
    kind = r.integers(0, 7)
    if kind == 0:
        return Hill(top, half, float(r.choice([1.0, r.uniform(0.3, 1), r.uniform(1, 4)])))
    if kind == 1:
        return Logistic(top, half)
    if kind == 2:
        n = r.integers(1, 4)
        return Step(np.cumsum(r.uniform(0.02, 0.6, n) * budget), np.cumsum(r.uniform(0, 1, n) * top))
    if kind == 3:
        return CappedLinear(top / half, top, float(r.choice([0, r.uniform(0, 0.3)])) * budget)
    if kind == 4:
        n = r.integers(1, 12)
        return Tabulated(np.cumsum(r.uniform(0.01, 0.3, n) * budget), np.abs(np.cumsum(r.normal(0.3, 1, n))) * top)
    if kind == 5:
        return Hill(top, half, r.uniform(1.5, 6))
    return Step.units(r.uniform(0.05, 0.5) * budget, top, r.uniform(0.3, 1), int(r.integers(1, 4)))


def random_problem(r) -> Problem:
    budget, scale = 10 ** r.uniform(-2, 6), 10 ** r.uniform(-6, 6)
    candidates = []
    for i in range(int(r.integers(1, 6))):
        rules: dict = {}
        if r.random() < 0.3:
            rules["minimum"] = r.uniform(0, 0.5) * budget
        if r.random() < 0.3:
            rules["maximum"] = rules.get("minimum", 0) + r.uniform(0.01, 0.8) * budget
        if r.random() < 0.3:
            rules["fixed_cost"] = r.uniform(0, 0.2) * budget
        if r.random() < 0.4:
            rules["fixed_hours"] = r.uniform(0, 6)
        if r.random() < 0.2:
            rules["hours"] = r.uniform(0, 10) / budget
        if r.random() < 0.1:
            rules["cost"] = 0.0
            rules["hours"] = r.uniform(1, 10) / budget
            rules["maximum"] = rules.get("maximum", 2 * budget)
        if r.random() < 0.15:
            rules["unit"] = r.uniform(0.02, 0.3) * budget
        elif r.random() < 0.1:
            rules["lock"] = min(max(r.uniform(0, 0.3) * budget, rules.get("minimum", 0)), rules.get("maximum", budget))
        elif r.random() < 0.05:
            rules["exclude"] = True
        candidates.append(Candidate(f"c{i}", random_curve(r, scale, budget), **rules))
    hours = float(r.choice([math.inf, r.uniform(1, 20)]))
    unit = budget / int(r.integers(5, 100_000)) if r.random() < 0.3 else None
    return Problem(
        candidates, budget, hours, unit, money_worth=float(r.choice([0, 0, r.uniform(0, 0.5) * scale / budget]))
    )


def options(problem: Problem, c: Candidate, r) -> np.ndarray:
    """Some x that are allowed for one candidate by itself; payable ones where money has a unit."""
    if c.lock is not None or c.exclude:
        return np.array([c.lock or 0.0])
    most = min(c.maximum, 2 * problem.budget)
    if c.unit is not None:
        xs = c.unit * np.arange(1, math.floor(most / c.unit * (1 + 1e-9)) + 1)
    elif problem.unit is not None and c.cost > 0:
        counts = np.unique(r.integers(0, round(problem.budget / problem.unit) + 1, 30))
        xs = (counts * problem.unit - c.fixed_cost) / c.cost
    else:
        xs = np.concatenate((np.linspace(c.minimum, most, 9), *(c.curve.knots() or ())[:1]))
    xs = np.unique(xs[(xs > 0) & (xs >= c.minimum) & (xs <= most)])
    return np.concatenate(([0.0], np.sort(r.choice(xs, min(xs.size, 12), replace=False)) if xs.size else []))


def brute_force(problem: Problem, r) -> float | None:
    """The best of all combinations of :func:`options`: a lower bound of the optimum."""
    money = hours = value = np.zeros(1)
    for c in problem.candidates:
        xs = options(problem, c, r)
        spend = np.where(xs > 0, c.fixed_cost + c.cost * xs, 0.0)
        if problem.unit is not None and c.lock is None:
            spend = np.ceil(spend / problem.unit - 1e-6) * problem.unit
        effort = np.where(xs > 0, c.fixed_hours + c.hours * xs, 0.0)
        gain = c.curve(xs) - problem.money_worth * spend
        money, hours = (money[:, None] + spend).ravel(), (hours[:, None] + effort).ravel()
        value = (value[:, None] + gain).ravel()
        fits = (money <= problem.budget * (1 + 1e-12)) & (hours <= problem.hours * (1 + 1e-12))
        money, hours, value = money[fits], hours[fits], value[fits]
    return float(value.max()) if value.size else None


def assert_feasible(problem: Problem, answer) -> None:
    assert answer.total_spend <= problem.budget * (1 + 1e-9)
    assert answer.total_hours <= problem.hours * (1 + 1e-8)
    for c in problem.candidates:
        choice = answer[c.name]
        assert choice.response == c.curve(choice.x)
        if c.exclude or c.lock is not None:
            assert choice.x == (c.lock or 0.0)
            continue
        if choice.x > 0:
            assert c.minimum * (1 - 1e-9) <= choice.x <= c.maximum * (1 + 1e-9)
            assert choice.hours == pytest.approx(c.hours_at(choice.x))
            assert choice.spend >= c.money_at(choice.x) * (1 - 1e-9) - 2e-6 * (problem.unit or 0)
        if c.unit is not None:
            assert choice.x / c.unit == pytest.approx(round(choice.x / c.unit), abs=1e-6)
        if problem.unit is not None:
            assert choice.spend / problem.unit == pytest.approx(round(choice.spend / problem.unit), abs=1e-6)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_feasible_honest_and_never_worse_than_brute_force(chunk):
    solved = 0
    for seed in range(chunk, CASES, CHUNKS):
        r = np.random.default_rng(seed)
        problem = random_problem(r)
        try:
            answer = solve(problem)
        except InfeasibleError:
            continue
        assert_feasible(problem, answer)
        best = brute_force(problem, np.random.default_rng(seed + 10**9))
        size = max(abs(answer.upper_bound), answer.response)
        assert answer.objective <= answer.upper_bound + 1e-12 * size, seed
        if best is not None:
            assert best <= answer.upper_bound + 1e-9 * size, f"seed {seed}: the bound is below a feasible portfolio"
            # what a coarse unit of money costs beyond the asked-for gap is in the stated gap
            assert best <= answer.objective + max(1.01e-4, answer.gap) * size, f"seed {seed}: brute force is better"
        assert answer.proved or problem.unit is not None or answer.gap < 5e-4, seed
        solved += 1
    assert solved > 0.8 * CASES / CHUNKS


def test_discrete_problems_are_solved_exactly():
    """Steps only, so that brute force is the optimum itself."""
    for seed in range(CASES // 3):
        r = np.random.default_rng(seed)
        n = int(r.integers(3, 8))
        candidates = [
            Candidate(f"c{i}", Step(np.cumsum(r.integers(5, 40, 2)), np.cumsum(r.integers(1, 30, 2))),
                      fixed_hours=float(r.integers(0, 5)))
            for i in range(n)
        ]  # fmt: skip
        problem = Problem(candidates, float(r.integers(20, 120)), hours=float(r.integers(3, 15)), unit=1)
        money = hours = value = np.zeros(1)
        for c in candidates:
            xs = np.array([0.0, *c.curve.at])
            money = (money[:, None] + xs).ravel()
            hours = (hours[:, None] + np.where(xs > 0, c.fixed_hours, 0)).ravel()
            value = (value[:, None] + c.curve(xs)).ravel()
            fits = (money <= problem.budget) & (hours <= problem.hours)
            money, hours, value = money[fits], hours[fits], value[fits]
        answer = solve(problem, gap=0.0)
        assert answer.response == value.max(), seed
        assert answer.upper_bound == pytest.approx(value.max()), seed
