"""Other questions than "most for the budget": frontier, cheapest way to a target, cost per registration, risk.

All of them are answered by the exact search, and all say how sure they are:

* :func:`frontier`: a budget with more money may do what one with less does, so that values never fall.
* :func:`cheapest`: V(B), the best total for a budget B, never falls. Every B whose *upper bound* is below the target is
  proved too little, every portfolio found that reaches it is enough; the two close in on the least cost.
* :func:`at_cost`, marginal: the last unit of money may cost at most c per registration: money is worth 1/c.
  Average: all money together at most c per registration added. A portfolio of spend s must add s/c, so that from
  s <= B follows s <= c · (bound(B) − organic): B falls to its fixed point, and nothing above is possible.
* :func:`under_risk`: of a portfolio's totals over draws of the uncertain factors the mean, a quantile, the mean of the
  worst (CVaR) or the share that reaches a target. Sample average approximation: the search solves for the weights of
  the draws that matter at the best portfolio so far (the measure's gradient), then money is moved between pairs. Its
  bound is that of a clairvoyant, who may choose another portfolio for every draw; each draw's best is bounded by
  duality. That is loose where draws differ in who is good, and close where they differ in how good all are. For mean
  and CVaR without candidates that feed on others, the tangents of all draws together give a closer one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from time import perf_counter

import numpy as np
from numpy.typing import ArrayLike

from turnout.allocation.bounds import Floats
from turnout.allocation.coupled import CoupledSearch, Locked
from turnout.allocation.feasibility import absolute
from turnout.allocation.overlap import credit, reach_matrix
from turnout.allocation.problem import Candidate, InfeasibleError, Problem, Solution, Unspent, conflict
from turnout.allocation.solver import solve


def frontier(
    problem: Problem, budgets: Sequence[float], *, gap: float = 1e-3, deadline: float = 1.0
) -> list[Solution | None]:
    """The best portfolio for each of several budgets, in the order given; ``None`` where one is infeasible.

    Args:
        deadline: seconds for each budget.
    """
    answers: dict[float, Solution | None] = {}
    below: Solution | None = None
    for budget in sorted(set(budgets)):
        at = replace(problem, budget=budget)
        try:
            answer: Solution | None = solve(at, gap=gap, deadline=deadline)
        except InfeasibleError:
            answers[budget] = None
            continue
        if below is not None and answer is not None and answer.objective < below.objective and not _has_shares(problem):
            # within the gaps; what a smaller budget does, this one can do, too
            upper = max(answer.upper_bound, below.objective)
            left = budget - below.total_spend
            answer = replace(
                below, upper_bound=upper, gap=(upper - below.objective) / upper if upper > 0 else 0.0, unspent=left,
                unspent_reason=answer.unspent_reason or below.unspent_reason, seconds=answer.seconds,
            )  # fmt: skip
        answers[budget] = below = answer
    return [answers[b] for b in budgets]


def _has_shares(problem: Problem) -> bool:
    return any(g.least is not None or g.least_share is not None or g.most_share is not None for g in problem.groups)


# --- least cost ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cheapest:
    """The portfolio of least spend that reaches a target.

    Attributes:
        solution: it; where the target is out of reach, the portfolio with the highest total.
        reached: whether ``solution`` reaches the target; ``False`` and ``proved``: nothing does.
        lower_bound: no portfolio that reaches the target costs less; inf where none reaches it.
        gap: (spend − lower_bound) / spend; 0 where nothing needs to be spent.
        proved: whether the asked-for gap was reached, or it is proved that nothing reaches the target.
    """

    solution: Solution
    reached: bool
    lower_bound: float
    gap: float
    proved: bool


def cheapest(problem: Problem, target: float, *, gap: float = 1e-3, deadline: float = 1.0) -> Cheapest:
    """The least money for a total of ``target``, within the problem's budget (the most that may be spent) and hours.

    Shares of the budget in groups are shares of the problem's budget. ``money_worth`` and ``hours_worth`` do not count.

    Raises:
        InfeasibleError: no portfolio satisfies the constraints, whatever its total.
    """
    stop_at = perf_counter() + deadline
    groups = [absolute(g, problem.budget) for g in problem.groups]
    plain = replace(problem, groups=groups, money_worth=0.0, hours_worth=0.0)
    enough = target * (1 - 1e-9)

    def at(budget: float) -> Solution:
        left = max(stop_at - perf_counter(), 0.005)
        return solve(replace(plain, budget=budget), gap=0.1 * gap, deadline=min(left, 0.4 * deadline), goal=enough)

    best = at(plain.budget)
    if best.total < enough:
        hopeless = best.upper_bound < enough
        return Cheapest(best, False, math.inf if hopeless else best.total_spend, 0.0 if hopeless else 1.0, hopeless)
    unit = plain.unit or 0.0
    locked = math.fsum(c.money_at(c.lock or 0.0) for c in plain.candidates)
    too_little = locked * (1 - 1e-9)  # proved, or what must be spent anyway
    low, at_low = locked, 0.0  # the largest budget for which nothing was found, and the best total there
    try:
        least = at(locked)
        if least.total >= enough:
            best = least
        at_low = least.total
    except InfeasibleError:
        pass
    step = 0
    while perf_counter() < stop_at:
        high = best.total_spend
        if high - low <= max(0.5 * gap * high, unit):
            break
        # a straight line between the two ends bends away from the curve of falling returns: alternate with the middle
        rise = best.total - at_low
        share = (target - at_low) / rise if rise > 0 else 0.5
        budget = low + (high - low) * (min(max(share, 0.1), 0.9) if step % 2 == 0 else 0.5)
        step += 1
        if unit:
            budget = min(max(math.floor(budget / unit), math.floor(low / unit) + 1) * unit, high - unit)
        if budget <= low:
            break
        try:
            answer = at(budget)
        except InfeasibleError:
            too_little, low = budget, budget
            continue
        if answer.total >= enough:
            best = answer
            continue
        low, at_low = budget, answer.total
        if answer.upper_bound < enough:
            too_little = budget + unit * (1 - 1e-6)
    if too_little < low:  # what was neither found nor proved: step down until the proof succeeds
        too_little = _proved_below(at, low, too_little, max(0.5 * gap * best.total_spend, unit), enough, stop_at)
    spend = best.total_spend
    bound = min(too_little, spend)
    apart = (spend - bound) / spend if spend > 0 else 0.0
    return Cheapest(best, True, bound, apart, apart <= gap * (1 + 1e-6) or spend - bound <= unit * (1 + 1e-6))


def _proved_below(
    at: Callable[[float], Solution], low: float, too_little: float, step: float, enough: float, stop_at: float
) -> float:
    """The first budget below ``low``, in steps, that is proved too little; ``too_little`` where none is in time."""
    budget = low - step
    while budget > too_little and perf_counter() < stop_at:
        try:
            if at(budget).upper_bound < enough:
                return budget
        except InfeasibleError:
            return budget
        budget -= step
    return too_little


# --- cost per registration -------------------------------------------------------------------------------------------


class CostKind(StrEnum):
    """Which cost per registration is meant."""

    average = "average"  # all money by all registrations that would not come without the candidates
    marginal = "marginal"  # of the last one bought


def at_cost(
    problem: Problem, cost: float, kind: CostKind = CostKind.average, *, gap: float = 1e-3, deadline: float = 1.0
) -> Solution:
    """The most registrations at a cost of at most ``cost`` each.

    Average: total spend <= cost · (total − what comes with no candidate used): of the registrations that the candidates
    add. Marginal: no unit of money that brings less than 1/cost is spent.

    The bound and the gap of the answer are those of this question. Average: ``objective`` is the total.

    Raises:
        ValueError: ``cost`` is not above 0.
        InfeasibleError: constraints contradict one another, or no portfolio is as cheap.
    """
    if not cost > 0:
        raise ValueError(f"cost must be above 0; got {cost}")
    if kind is CostKind.marginal:
        return solve(replace(problem, money_worth=max(problem.money_worth, 1.0 / cost)), gap=gap, deadline=deadline)
    stop_at = perf_counter() + deadline
    groups = [absolute(g, problem.budget) for g in problem.groups]
    plain = replace(problem, groups=groups, money_worth=0.0, hours_worth=0.0)
    by_itself = _organic(plain)
    unit = plain.unit or 0.0

    def at(budget: float) -> Solution:
        budget = math.floor(budget / unit + 1e-9) * unit if unit else budget
        left = max(stop_at - perf_counter(), 0.005)
        return solve(replace(plain, budget=budget), gap=0.2 * gap, deadline=min(left, 0.3 * deadline))

    def spare(answer: Solution) -> float:
        return cost * (answer.total - by_itself) * (1 + 1e-9) - answer.total_spend

    answer = at(plain.budget)
    top, ceiling = plain.budget, answer.upper_bound
    locked = math.fsum(c.money_at(c.lock or 0.0) for c in plain.candidates)
    best = answer if spare(answer) >= 0 else None
    low, at_low, at_top = locked, 0.0, spare(answer)
    if best is None:
        with suppress(InfeasibleError):
            least = at(locked)
            at_low = spare(least)
            best = least if at_low >= 0 else None
    while at_top < 0 and perf_counter() < stop_at and top > max(low * (1 + 0.25 * gap), low + unit):
        # whoever spends at most the top brings at most the bound, and may spend at most cost times that
        most = cost * max(answer.upper_bound - by_itself, 0.0)
        top = min(top, most)
        between = low + (top - low) * min(max(at_low / (at_low - at_top), 0.2), 0.95) if at_low > 0 else top
        with suppress(InfeasibleError):
            tried = at(between)
            if spare(tried) >= 0 and (best is None or tried.total > best.total):
                best, low, at_low = tried, between, spare(tried)
        try:
            answer = at(top)
        except InfeasibleError:
            break
        ceiling, at_top = answer.upper_bound, spare(answer)
        if at_top >= 0 and (best is None or answer.total > best.total):
            best = answer
    if best is None:
        raise InfeasibleError([conflict(f"no portfolio costs at most {cost:g} for each registration", None)])
    upper = max(ceiling, best.total)
    apart = (upper - best.total) / upper if upper > 0 else 0.0
    return replace(
        best, upper_bound=upper, gap=apart, proved=apart <= gap * (1 + 1e-6), unspent=problem.budget - best.total_spend,
        unspent_reason=best.unspent_reason or (Unspent.not_worth_it if best.total_spend < problem.budget else None),
    )  # fmt: skip


def _organic(problem: Problem) -> float:
    """The total with no candidate used."""
    nothing = [0.0] * len(problem.candidates)
    none_feeds = [False] * len(problem.candidates)
    found = credit(problem.audiences, [c.reach for c in problem.candidates], nothing, none_feeds, problem.organic)
    return float(found.total)


# --- risk ------------------------------------------------------------------------------------------------------------


class Measure(StrEnum):
    """What of the distribution of the total is made best."""

    mean = "mean"
    quantile = "quantile"
    cvar = "cvar"  # the mean of the worst draws
    probability = "probability"  # of reaching the target


@dataclass(frozen=True, slots=True)
class Draws:
    """S draws of what is uncertain, as factors of what the problem expects.

    Attributes:
        factor: of each candidate's response or share, in the problem's order, shape (S, n).
        shared: of all candidates together, shape (S,).
        organic: of what comes by itself, shape (S,).
        times: of the total, for instance the show-up rate where attendees count, shape (S,).
    """

    factor: ArrayLike
    shared: ArrayLike = 1.0
    organic: ArrayLike = 1.0
    times: ArrayLike = 1.0


@dataclass(frozen=True, slots=True)
class UnderRisk:
    """The best portfolio found for a measure.

    Attributes:
        solution: it, with its expected figures; ``upper_bound`` and ``gap`` there are those of the expected total.
        value: the measure over the draws. upper_bound: no portfolio has more over these draws. gap: their difference,
            relative to the bound.
        totals: the total in each draw, shape (S,).
    """

    solution: Solution
    value: float
    upper_bound: float
    gap: float
    totals: Floats


class _Risk:
    """One question about risk: the problem, its draws and the measure."""

    def __init__(self, problem: Problem, draws: Draws, measure: Measure, target: float, level: float) -> None:
        factor = np.asarray(draws.factor, dtype=np.float64)
        n = len(problem.candidates)
        if factor.ndim != 2 or factor.shape[1] != n or not factor.shape[0]:
            raise ValueError(f"factor must have the shape (draws, {n}); got {factor.shape}")
        if not np.isfinite(factor).all() or (factor < 0).any():
            raise ValueError("factor must be finite and not negative")
        self.problem, self.measure, self.target, self.level = problem, measure, target, level
        s = factor.shape[0]
        self.factor = factor * np.broadcast_to(np.asarray(draws.shared, dtype=np.float64), (s,))[:, None]
        self.by_itself = np.broadcast_to(np.asarray(draws.organic, dtype=np.float64), (s,))
        self.times = np.broadcast_to(np.asarray(draws.times, dtype=np.float64), (s,))
        self.reach = [c.reach for c in problem.candidates]
        self.feeds = [c.of_others for c in problem.candidates]
        self.others = self.by_itself[:, None] * np.array([a.others for a in problem.audiences])

    def totals(self, x: Floats) -> Floats:
        alone = np.array([float(c.curve(float(v))) for c, v in zip(self.problem.candidates, x, strict=True)])
        return self.of_alone(alone)

    def of_alone(self, alone: Floats) -> Floats:
        found = credit(
            self.problem.audiences, self.reach, alone * self.factor, self.feeds, self.problem.organic * self.by_itself,
            others=self.others,
        )  # fmt: skip
        return np.asarray(found.total * self.times)

    def value(self, totals: Floats) -> float:
        match self.measure:
            case Measure.mean:
                return float(totals.mean())
            case Measure.probability:
                return float((totals >= self.target).mean())
            case Measure.quantile:
                return float(np.quantile(totals, self.level, method="lower"))
            case _:
                return float(np.sort(totals)[: self._worst].mean())

    @property
    def _worst(self) -> int:
        return max(math.ceil(self.level * self.times.size - 1e-9), 1)

    def smooth(self, totals: Floats) -> tuple[float, float]:
        """The measure, and what decides between portfolios of the same measure: how near the next draws are."""
        value = self.value(totals)
        if self.measure is Measure.probability:
            width = 0.05 * max(self.target, 1e-12)
            return value, float((1.0 / (1.0 + np.exp(-np.clip((totals - self.target) / width, -50, 50)))).mean())
        return value, float(totals.mean())

    def weights(self, totals: Floats) -> Floats:
        """How much each draw matters for the measure at these totals; sums to 1."""
        s = totals.size
        if self.measure is Measure.mean:
            return np.full(s, 1.0 / s)
        if self.measure is Measure.cvar:
            weights = np.zeros(s)
            weights[np.argsort(totals, kind="stable")[: self._worst]] = 1.0
            return np.asarray(weights / weights.sum())
        at = self.target if self.measure is Measure.probability else self.value(totals)
        width = max(0.25 * float(totals.std()), 1e-3 * abs(at), 1e-300)
        weights = np.exp(-0.5 * ((totals - at) / width) ** 2)
        return np.asarray(weights / weights.sum()) if weights.sum() > 1e-12 else np.full(s, 1.0 / s)

    def tilted(self, weights: Floats) -> Problem:
        """The problem whose expected response is that of the weighted draws."""
        p = self.problem
        by = weights * self.times
        scale = by.sum()
        mean = (by @ self.factor) / scale if scale > 0 else np.ones(len(p.candidates))
        own = float(by @ self.by_itself / scale) if scale > 0 else 1.0
        return replace(
            p, candidates=[_scaled(c, float(f)) for c, f in zip(p.candidates, mean, strict=True)],
            audiences=[replace(a, others=a.others * own) for a in p.audiences], organic=p.organic * own,
            money_worth=0.0, hours_worth=0.0,
        )  # fmt: skip

    # --- the bound -------------------------------------------------------------------------------------------------

    def clairvoyant(self) -> Floats:
        """A bound of the total in each draw, whichever portfolio is chosen for it, shape (S,)."""
        p = self.problem
        lines = {c.name: c for c in p.candidates}
        fixed = [c for c in p.candidates if c.lock is not None or c.is_out]
        free = sorted((c for c in p.candidates if c.lock is None and not c.is_out), key=lambda c: c.name)
        order = {c.name: k for k, c in enumerate(p.candidates)}
        bound = np.full(self.times.size, np.inf)
        # what is locked differs between draws: it is part of what comes by itself there
        alone = np.array([float(c.curve(c.lock or 0.0)) if c in fixed else 0.0 for c in lines.values()])
        money = math.fsum(c.money_at(c.lock or 0.0) for c in fixed)
        hours = math.fsum(c.hours_at(c.lock or 0.0) for c in fixed)
        if not free:
            return self.of_alone(alone)
        plain = replace(p, money_worth=0.0, hours_worth=0.0)
        search = CoupledSearch(
            free, plain, Locked({c.name: c.money_at(c.lock or 0.0) for c in fixed}, {},
                                frozenset(c.name for c in fixed if c.lock)),
            max(p.budget - money, 0.0), max(p.hours - hours, 0.0),
        )  # fmt: skip
        locked = alone * self.factor
        feeds = np.array(self.feeds)
        reach = reach_matrix(p.audiences, self.reach)
        crowd = np.where(feeds, 0.0, locked) @ reach + self.others
        outside = p.organic * self.by_itself + np.where(feeds, 0.0, locked) @ (1.0 - reach.sum(axis=1))
        times = np.where(feeds, 1.0 + locked, 1.0).prod(axis=1)
        columns = [order[c.name] for c in free]
        feeding = any(c.of_others for c in free)
        for shift in (0.7, 1.0, 1.4) if feeding else (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0):
            for lift in (0.75, 0.9, 1.0, 1.15, 1.4) if feeding else (1.0,):
                value = search.bound_draws(self.factor[:, columns], crowd, outside, times, p.audiences, shift, lift)
                bound = np.minimum(bound, value)
        return bound * self.times

    def tangent_bound(self, totals_at: Floats, weights: Floats, stop_at: float) -> float:
        """Σ weights · total <= its tangents at these responses alone, made best; without feeding candidates."""
        p = self.problem
        reach = reach_matrix(p.audiences, self.reach)
        size = np.array([a.size for a in p.audiences])
        crowd = (totals_at * self.factor) @ reach + self.others
        filled = crowd / size
        fresh = np.exp(-filled)
        by = weights * self.times
        # Σ_g N(1 − e^{−r}) at the point, less what the tangent takes back
        base = np.where(np.isinf(size), crowd, -np.where(np.isinf(size), 0.0, size) * np.expm1(-filled))
        constant = by @ (base.sum(axis=1) - (fresh * crowd).sum(axis=1) + (fresh * self.others).sum(axis=1))
        constant += by @ (p.organic * self.by_itself)
        gradient = by @ (self.factor * (fresh @ reach.T + 1.0 - reach.sum(axis=1)))
        apart = replace(
            p, candidates=[
                replace(_scaled(c, float(g)), reach={}) for c, g in zip(p.candidates, gradient, strict=True)
            ],
            audiences=(), organic=0.0, money_worth=0.0, hours_worth=0.0,
        )  # fmt: skip
        return float(constant) + solve(apart, gap=1e-4, deadline=max(stop_at - perf_counter(), 0.01)).upper_bound


def _scaled(c: Candidate, factor: float) -> Candidate:
    return replace(c, curve=c.curve.scaled(factor))


def under_risk(
    problem: Problem,
    draws: Draws,
    measure: Measure,
    *,
    target: float | None = None,
    level: float = 0.1,
    gap: float = 1e-3,
    deadline: float = 1.0,
) -> UnderRisk:
    """The portfolio with the best measure of the total over the draws.

    ``money_worth`` and ``hours_worth`` do not count.

    Args:
        target: of :attr:`Measure.probability`.
        level: of :attr:`Measure.quantile` (0.1: the total reached in nine draws of ten) and the share of the worst
            draws for :attr:`Measure.cvar`, in (0, 1).
        gap: of the solutions that are tried.
        deadline: seconds for all.

    Raises:
        ValueError: a target is missing, ``level`` is not in (0, 1) or the draws do not fit the problem.
        InfeasibleError: constraints contradict one another.
    """
    if measure is Measure.probability and target is None:
        raise ValueError("the probability of which target?")
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1); got {level}")
    stop_at = perf_counter() + deadline
    risk = _Risk(problem, draws, measure, target or 0.0, level)
    plain = replace(problem, money_worth=0.0, hours_worth=0.0)
    s = risk.times.size
    weights = np.full(s, 1.0 / s)
    best: tuple[tuple[float, float], Solution, Floats, Floats] | None = None
    alone_bounds = math.inf
    closer = measure in (Measure.mean, Measure.cvar) and not any(risk.feeds) and not plain.groups
    seen: set[tuple[float, ...]] = set()
    for _ in range(8):
        answer = solve(risk.tilted(weights), gap=gap, deadline=max(0.3 * (stop_at - perf_counter()), 0.01))
        x = np.array([c.x for c in answer.choices])
        alone = np.array([float(c.curve(float(v))) for c, v in zip(problem.candidates, x, strict=True)])
        totals = risk.of_alone(alone)
        score = risk.smooth(totals)
        if best is None or score > best[0]:
            best = (score, answer, totals, x)
        now = risk.weights(totals)
        if closer:
            alone_bounds = min(alone_bounds, risk.tangent_bound(alone, now, stop_at))
        key = tuple(np.round(x, 6).tolist())
        if key in seen or perf_counter() > stop_at:
            break
        seen.add(key)
        weights = 0.5 * weights + 0.5 * now
    assert best is not None
    x, totals = _moved(risk, best[3], best[2], stop_at)
    value = risk.value(totals)
    bound = min(risk.value(risk.clairvoyant()), alone_bounds)
    bound = max(bound, value)
    return UnderRisk(
        _as_solution(plain, best[1], x), value, bound, (bound - value) / bound if bound > 0 else 0.0, totals
    )


def _moved(risk: _Risk, x: Floats, totals: Floats, stop_at: float) -> tuple[Floats, Floats]:
    """Money moved between pairs of candidates as long as the measure rises; whole units where money has them."""
    p = risk.problem
    if p.groups:
        return x, totals
    free = [i for i, c in enumerate(p.candidates) if c.cost > 0 and c.lock is None and not c.is_out and c.unit is None
            and c.hours == 0 and x[i] > 0]  # fmt: skip
    best, step = risk.smooth(totals), 0.1 * p.budget
    alone = np.array([float(c.curve(float(v))) for c, v in zip(p.candidates, x, strict=True)])
    while step > max(1e-3 * p.budget, p.unit or 0.0) and perf_counter() < stop_at:
        improved = False
        for i in free:
            for j in free:
                a, b = p.candidates[i], p.candidates[j]
                money = math.floor(step / p.unit) * p.unit if p.unit is not None else step
                to_i, from_j = x[i] + money / a.cost, x[j] - money / b.cost
                if i == j or to_i > a.maximum or from_j < b.minimum or from_j <= 0:
                    continue
                tried = alone.copy()
                tried[i], tried[j] = float(a.curve(to_i)), float(b.curve(from_j))
                now = risk.of_alone(tried)
                score = risk.smooth(now)
                if score > best:
                    x = x.copy()
                    x[i], x[j] = to_i, from_j
                    best, alone, totals, improved = score, tried, now, True
            if perf_counter() > stop_at:
                break
        if not improved:
            step *= 0.4
    return x, totals


def _as_solution(problem: Problem, like: Solution, x: Floats) -> Solution:
    """The expected figures of a portfolio, with the bound of the expected total."""
    held = [replace(c, lock=float(v), minimum=0.0, exclude=False, available=True, unit=None)
            for c, v in zip(problem.candidates, x, strict=True)]  # fmt: skip
    fixed = solve(replace(problem, candidates=held, groups=(), budget=problem.budget * (1 + 1e-9)))
    choices = tuple(
        replace(c, status=like[c.name].status if (c.x > 0) == (like[c.name].x > 0) else c.status,
                binding=like[c.name].binding)
        for c in fixed.choices
    )  # fmt: skip
    free = solve(problem, gap=1e-3, deadline=0.05)
    upper = max(free.upper_bound, fixed.objective)
    return replace(
        fixed, choices=choices, upper_bound=upper, gap=(upper - fixed.objective) / upper if upper > 0 else 0.0,
        binding=like.binding, marginal_response=like.marginal_response,
        marginal_response_hours=like.marginal_response_hours, unspent=max(problem.budget - fixed.total_spend, 0.0),
        unspent_reason=like.unspent_reason, proved=False, nodes=like.nodes,
    )  # fmt: skip
