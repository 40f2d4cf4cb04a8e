"""The allocator against brute force on random small problems of every kind.

Set ``ALLOCATION_CASES`` for a longer run (10,000 take some minutes on one core; settings named TURNOUT_… are cleared
before tests).
"""

import math
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.allocation import (
    Audience,
    Candidate,
    CappedLinear,
    Group,
    Hill,
    InfeasibleError,
    Logistic,
    Problem,
    Step,
    Tabulated,
    solve,
)

CASES = int(os.environ.get("ALLOCATION_CASES", "600"))
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


# --- where candidates depend on one another --------------------------------------------------------------------------


def coupled_problem(seed: int) -> Problem:
    """A random problem with shared audiences, shares of others and limits on groups."""
    r = np.random.default_rng(seed)
    given = random_problem(r)
    scale = max(c.curve.maximum for c in given.candidates) or 1.0
    names = [c.name for c in given.candidates]
    audiences = [
        Audience(
            f"g{k}",
            scale * float(10 ** r.uniform(-1, 1)) if r.random() < 0.9 else math.inf,
            scale * float(r.choice([0, r.uniform(0, 0.5)])),
        )
        for k in range(int(r.integers(1, 4)))
    ]
    candidates = []
    for c in given.candidates:
        if r.random() < 0.25:
            share = float(r.uniform(0.05, 0.6)) / max(c.curve.maximum, 1e-300)
            candidates.append(replace(c, curve=c.curve.scaled(share), of_others=True))
        else:
            weights = r.dirichlet(np.ones(len(audiences) + 1))
            candidates.append(replace(c, reach={a.name: float(w) for a, w in zip(audiences, weights, strict=False)}))
    groups = []
    for k in range(int(r.integers(0, 3))):
        members = [n for n in names if r.random() < 0.6] or names[:1]
        kinds = (
            {"most": given.budget * r.uniform(0.05, 0.6)}, {"most_share": r.uniform(0.05, 0.6)},
            {"least": given.budget * r.uniform(0.02, 0.3)}, {"at_most": int(r.integers(0, 3))},
            {"at_least": int(r.integers(1, 3))},
        )  # fmt: skip
        groups.append(Group(f"group{k}", members, **kinds[int(r.integers(0, 5))]))
    organic = scale * float(r.choice([0, r.uniform(0, 1)]))
    return replace(given, candidates=candidates, audiences=audiences, groups=groups, organic=organic)


def is_stepped(c: Candidate) -> bool:
    return isinstance(c.curve, Step) and c.lock is None and not c.exclude and c.unit is None


def whole_steps(c: Candidate) -> np.ndarray:
    """A candidate with steps pays what whole ones cost: more money than that is not spent on it for a group's sake."""
    at = np.asarray(c.curve.at)
    return np.unique(
        [0.0, *([c.minimum] if c.curve(c.minimum) > c.curve(0.0) else []), *at[(at >= c.minimum) & (at <= c.maximum)]]
    )


def brute_force_coupled(problem: Problem, r) -> float | None:
    """The best of all combinations of :func:`options`, by the definition of the total."""
    columns = [whole_steps(c) if is_stepped(c) else options(problem, c, r) for c in problem.candidates]
    grid = np.stack([g.ravel() for g in np.meshgrid(*columns, indexing="ij")], axis=1)
    money, hours, alone, used = (np.zeros(grid.shape) for _ in range(4))
    for i, c in enumerate(problem.candidates):
        x = grid[:, i]
        money[:, i] = np.where(x > 0, c.fixed_cost + c.cost * x, 0.0)
        if problem.unit is not None and c.lock is None:
            money[:, i] = np.ceil(money[:, i] / problem.unit - 1e-6) * problem.unit
        hours[:, i] = np.where(x > 0, c.fixed_hours + c.hours * x, 0.0)
        alone[:, i] = c.curve(x)
        used[:, i] = (x > 0) if c.lock else alone[:, i] > c.curve(0.0)
    fits = money.sum(axis=1) <= problem.budget * (1 + 1e-12)
    fits &= hours.sum(axis=1) <= problem.hours * (1 + 1e-12)
    names = [c.name for c in problem.candidates]
    for g in problem.groups:
        at = [names.index(m) for m in g.members]
        least, most = g.money(problem.budget)
        spent, count = money[:, at].sum(axis=1), used[:, at].sum(axis=1)
        fits &= (spent >= least) & (spent <= most * (1 + 1e-12)) & (count >= (g.at_least or 0))
        fits &= count <= (g.at_most if g.at_most is not None else math.inf)
    if not fits.any():
        return None
    # by the definition, not by the allocator's own function
    feeds = np.array([c.of_others for c in problem.candidates])
    sources = np.where(feeds, 0.0, alone[fits])
    base = np.full(sources.shape[0], problem.organic)
    apart = np.ones(len(names))
    for a in problem.audiences:
        weight = np.array([c.reach.get(a.name, 0.0) for c in problem.candidates])
        crowd = a.others + sources @ weight
        base = base + (crowd if math.isinf(a.size) else a.size * (1 - np.exp(-crowd / a.size)))
        apart -= weight
    total = (base + sources @ apart) * np.where(feeds, 1 + alone[fits], 1.0).prod(axis=1)
    cost = problem.money_worth * money[fits].sum(axis=1) + problem.hours_worth * hours[fits].sum(axis=1)
    return float((total - cost).max())


def assert_groups_hold(problem: Problem, answer, seed: int) -> None:
    for g in problem.groups:
        spent, used = math.fsum(answer.spend[m] for m in g.members), sum(answer.x[m] > 0 for m in g.members)
        least, most = g.money(problem.budget)
        assert least * (1 - 1e-8) <= spent <= most * (1 + 1e-8) + 1e-12, seed
        assert used >= (g.at_least or 0), seed
        assert g.at_most is None or used <= g.at_most, seed


@given(st.integers(0, 2**31))
@settings(max_examples=max(CASES // 3, 50), deadline=None, derandomize=True)
def test_overlap_and_groups_are_honest_and_never_worse_than_brute_force(seed):
    problem = coupled_problem(seed)
    best = brute_force_coupled(problem, np.random.default_rng(seed + 10**9))
    try:
        answer = solve(problem)
    except InfeasibleError:
        assert best is None, "said to be infeasible, but is not"
        return
    assert answer.total_spend <= problem.budget * (1 + 1e-9)
    assert answer.total_hours <= problem.hours * (1 + 1e-8)
    assert_groups_hold(problem, answer, seed)
    size = max(abs(answer.upper_bound), answer.total)
    assert answer.objective <= answer.upper_bound + 1e-12 * size
    if best is not None:
        assert best <= answer.upper_bound + 1e-9 * size, "the bound is below a feasible portfolio"
        assert best <= answer.objective + max(1.01e-4, answer.gap) * size, "brute force is better"


@given(st.integers(0, 2**31), st.sampled_from([1e-6, 1e3, 1e6]), st.sampled_from([1e-6, 1e3, 1e6]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_coupled_answers_do_not_depend_on_units_or_order(seed, money, people):
    given_problem = replace(coupled_problem(seed), unit=None)
    if any(c.cost == 0 for c in given_problem.candidates):  # its x is not money
        return

    def table(c: Candidate, money: float, people: float) -> Tabulated:
        xs = np.linspace(0, 1, 12)[1:] ** 2 * min(2 * given_problem.budget, max(c.maximum, c.minimum))
        return Tabulated(xs * money, c.curve(xs) * (1.0 if c.of_others else people))

    one = replace(given_problem, candidates=[replace(c, curve=table(c, 1.0, 1.0)) for c in given_problem.candidates])
    two = replace(
        one,
        candidates=[
            replace(
                c, curve=table(c, money, people), fixed_cost=c.fixed_cost * money,
                minimum=c.minimum * money, maximum=c.maximum * money, hours=c.hours / money,
                unit=c.unit and c.unit * money, lock=c.lock and c.lock * money,
            )
            for c in given_problem.candidates
        ][::-1],
        audiences=[replace(a, size=a.size * people, others=a.others * people) for a in one.audiences][::-1],
        groups=[replace(g, least=g.least and g.least * money, most=g.most and g.most * money) for g in one.groups],
        budget=one.budget * money, organic=one.organic * people, money_worth=one.money_worth * people / money,
        hours_worth=one.hours_worth * people,
    )  # fmt: skip
    try:
        first = solve(one)
    except InfeasibleError:
        with pytest.raises(InfeasibleError):
            solve(two)
        return
    second = solve(two)
    size = max(abs(first.upper_bound), first.total)
    apart = abs(second.objective / people - first.objective)
    assert apart <= (max(1.01e-4, first.gap) + max(0, second.gap if second.gap < 1 else 0)) * size
