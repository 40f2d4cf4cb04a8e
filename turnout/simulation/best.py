"""The best portfolio of the simulated world, for its regret: found with the truth in hand, with a proved bound.

With a_t(x) what tactic t would bring alone and N_g the people in shared audience g, the truth of a portfolio is

    F(a) = Σ_g N_g (1 − exp(−(Σ_t reach_tg a_t + organic_g) / N_g)),    total = F(a) · Π_d (1 + share_d(x_d))

with d the tactics that feed on the others. log F is concave in a, so its tangent at any point lies above it:

    log total  <=  log F(a°) + ∇log F(a°) · (a(x) − a°) + Σ_d log(1 + share_d(x_d))

The right-hand side is a sum of one curve per tactic: the allocator solves it exactly, which bounds every portfolio from
above and proposes a good one. Repeated at points between the proposals (Frank and Wolfe's method, 1956), the bound
falls and the proposals rise; what is left between them is the indivisibility of whole units.

Everybody gets the same world: the same tactics in time, minimum and whole units, money and staff hours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from turnout.allocation import Candidate, Problem, Solution, solve
from turnout.curves import CappedLinear, Curve, Hill, Step, Tabulated
from turnout.simulation.mechanics import LISTING_JUMP, Floats, Shape
from turnout.simulation.world import SimulatedEvent, World
from turnout.tactics import load_catalogue

#: Tangent points tried.
_ROUNDS = 10
_GAP = 1e-4
_DEADLINE = 0.2
#: Share of the staff hours that a simple rule lets paid tactics take.
PAID_HOURS = 0.5
#: Points of the logarithm of a feeding tactic's curve.
_POINTS = 60


@dataclass(frozen=True, slots=True)
class Best:
    """The best portfolio found, and what none can exceed.

    Attributes:
        portfolio: tactic id → yen or staff hours, tactics that are used.
        total: its expected registrations, organic ones included.
        bound: no allowed portfolio has more.
    """

    portfolio: dict[str, float]
    total: float
    bound: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What every portfolio must keep to.

    Attributes:
        budget: yen.
        hours: staff hours.
        starts: tactics in time, and the day each would begin.
    """

    budget: float
    hours: float
    starts: Mapping[str, date]


def best_portfolio(world: World, event: SimulatedEvent | str | int, limits: Limits) -> Best:
    """The portfolio that brings most in truth within ``limits``."""
    at = world.event(event)
    problem = _Truth(world, at, limits)
    point = np.zeros(len(problem.tactics))
    best, bound = Best({}, problem.total(point, {}), math.inf), math.inf
    for turn in range(_ROUNDS):
        solution, ceiling = problem.tangent(point)
        bound = min(bound, ceiling)
        portfolio = {c.name: c.x for c in solution.choices if c.x > 0}
        alone = problem.alone(portfolio)
        total = problem.total(alone, portfolio)
        if total > best.total:
            best = Best(portfolio, total, bound)
        if bound <= best.total * (1 + _GAP):
            break
        # first towards the proposals themselves, later in ever smaller steps between them
        point = alone if turn < 2 else point + (alone - point) * 2.0 / (turn + 2.0)
    return Best(best.portfolio, best.total, max(bound, best.total))


class _Truth:
    """One event's truth as curves of the allocator."""

    def __init__(self, world: World, event: SimulatedEvent, limits: Limits) -> None:
        self.world, self.event, self.limits = world, event, limits
        self.catalogue = load_catalogue()
        everywhere = [t for t in world.tactics if t in limits.starts]
        self.tactics = [t for t in everywhere if not world.feeds_on_others[world.position(t)]]
        self.feeding = [t for t in everywhere if world.feeds_on_others[world.position(t)]]
        at = np.array([event.index])
        self.curves = {t: self._curve(t) for t in everywhere}
        self.reach = np.array([world.reach[world.position(t)] for t in self.tactics]).reshape(-1, world.reach.shape[1])
        self.audience = world.audience[event.index]
        self.organic = float(world.organic[at][0]) * np.asarray(world.organic_reach)
        self.candidates = {t: self._candidate(t) for t in everywhere}

    def _curve(self, tactic: str) -> Curve:
        """Registrations alone as a function of x; for a feeding tactic its share of the others'."""
        world, index, t = self.world, self.event.index, self.world.position(tactic)
        before = float(max((self.event.date - self.limits.starts[tactic]).days, 0))
        lead = np.full(len(world.tactics), before)
        middle = np.datetime64(self.event.date) - np.timedelta64(int(np.rint(before / 2)), "D")
        scale = float(world.lead_factor(lead)[t] * world.efficiency(np.array([middle]), t)[0])
        if not world.feeds_on_others[t]:
            scale *= float(world.size[index] ** world.elasticity[t])
        top, half = float(world.top[index, t]) * scale, float(world.half[index, t])
        prices = world.prices
        if top <= 0:
            return CappedLinear(0.0, 0.0)
        match Shape(int(world.shape[t])):
            case Shape.hill:
                return Hill(top, half, float(world.power[t]))
            case Shape.capped:
                return CappedLinear(top / half, top)
            case Shape.step:
                unit, setup = float(prices.unit[t]), float(prices.setup[t])
                return Step.units(unit, top, float(world.decay[t]), int(prices.max_units[t]), start=setup)
            case _:
                setup = float(prices.setup[t])
                return Tabulated((setup, setup + half), (LISTING_JUMP * top, top))

    def _candidate(self, name: str) -> Candidate:
        """Costs and limits as the planner has them."""
        tactic, curve = self.catalogue.get(name), self.curves[name]
        if not tactic.is_paid:
            setup = float(self.world.prices.setup[self.world.position(name)])
            low = setup if isinstance(curve, Tabulated) else 0.0
            return Candidate(name, curve, cost=0.0, hours=1.0, minimum=low, maximum=max(curve.saturated, low))
        price = tactic.cost.unit_price if tactic.cost.kind == "per_unit" else None
        return Candidate(
            name,
            curve,
            hours=tactic.hours.hours_per_unit / price if price else 0.0,
            fixed_hours=tactic.hours.setup_hours,
            minimum=tactic.cost.minimum_spend or 0.0,
            maximum=tactic.cost.maximum_spend or math.inf,
        )

    def alone(self, portfolio: Mapping[str, float]) -> Floats:
        """a(x) of the tactics that do not feed on others."""
        return np.array([self.curves[t](portfolio[t]) if t in portfolio else 0.0 for t in self.tactics])

    def _base(self, alone: Floats) -> tuple[float, Floats]:
        """F and its gradient."""
        crowd = alone @ self.reach + self.organic if len(alone) else self.organic
        left = np.exp(-crowd / self.audience)
        return float((self.audience * (1 - left)).sum()), np.asarray(self.reach @ left)

    def total(self, alone: Floats, portfolio: Mapping[str, float]) -> float:
        """Expected registrations of a portfolio in truth."""
        shares = [1.0 + self.curves[t](portfolio[t]) for t in self.feeding if t in portfolio]
        return self._base(alone)[0] * math.prod(shares)

    def tangent(self, point: Floats) -> tuple[Solution, float]:
        """The best portfolio of the tangent at ``point``, and what it proves: no total is above the second value."""
        base, gradient = self._base(point)
        scale = 100.0  # the allocator's figures are those of registrations, not of logarithms
        candidates = [
            self._with(t, self.curves[t].scaled(scale * float(w) / base))
            for t, w in zip(self.tactics, gradient, strict=True)
        ]
        candidates += [self._with(t, _logarithm(self.curves[t], scale)) for t in self.feeding]
        problem = Problem(candidates, budget=self.limits.budget, hours=self.limits.hours)
        solution = solve(problem, gap=_GAP, deadline=_DEADLINE)
        ceiling = math.log(base) - float(gradient @ point) / base + solution.upper_bound / scale
        return solution, math.exp(ceiling)

    def _with(self, name: str, curve: Curve) -> Candidate:
        like = self.candidates[name]
        return Candidate(
            name, curve, cost=like.cost, hours=like.hours, fixed_hours=like.fixed_hours, minimum=like.minimum,
            maximum=like.maximum,
        )  # fmt: skip


def _logarithm(curve: Curve, scale: float) -> Curve:
    """scale · log(1 + curve), as straight lines; the shares are below 0.2, where they are off by less than 0.1 %."""
    far = min(curve.saturated, 1e7)
    if far <= 0:
        return CappedLinear(0.0, 0.0)
    x = far * np.linspace(0.0, 1.0, _POINTS) ** 2
    return Tabulated(tuple(x.tolist()), tuple((scale * np.log1p(curve(x))).tolist()))


def splits(world: World, limits: Limits, habits: Mapping[str, Habit]) -> dict[str, dict[str, float]]:
    """What people do without a planner, with the same money and hours: tactic id → yen or hours, per rule.

    ``equal`` gives every tactic in time the same, ``proportional`` what it had of past spending, ``cpa_greedy`` fills
    the tactics in order of their past cost per registration, each up to the most it was ever given. What a minimum or
    the price of one unit does not allow is shared among the others. Paid tactics take staff hours, too: up to
    :data:`PAID_HOURS` of them, the free ones get what is left.
    """
    names = [t for t in world.tactics if t in limits.starts]
    paid = [t for t in names if world.prices.is_paid[world.position(t)]]
    free = [t for t in names if t not in paid]
    rules: dict[str, dict[str, float]] = {}
    for rule in ("equal", "proportional", "cpa_greedy"):

        def spread(own: Sequence[str], amount: float, hours: float, rule: str = rule) -> dict[str, float]:
            known = _amounts(own, habits)
            if rule == "cpa_greedy":
                return _greedy(world, list(known), habits, amount, hours)
            return _shared(world, known if rule == "proportional" else dict.fromkeys(own, 1.0), amount, hours)

        bought = spread(paid, limits.budget, limits.hours * PAID_HOURS)
        left = limits.hours - sum(staff_hours(world, t, x) for t, x in bought.items())
        rules[rule] = bought | spread(free, left, math.inf)
    return rules


def staff_hours(world: World, tactic: str, amount: float) -> float:
    """Staff hours that ``amount`` yen of a paid tactic take; those of a free tactic are its amount itself."""
    t, prices = world.position(tactic), world.prices
    if not prices.is_paid[t]:
        return amount
    units = amount / prices.unit[t] if world.shape[t] == Shape.step else 0.0
    return float(prices.staff_setup[t] + prices.staff_per_unit[t] * units)


def _amounts(names: Sequence[str], habits: Mapping[str, Habit]) -> dict[str, float]:
    return {t: habits[t].amount for t in names if t in habits and habits[t].amount > 0}


@dataclass(frozen=True, slots=True)
class Habit:
    """What was done with one tactic before: totals over past events, and the most in one of them."""

    amount: float
    registrations: float
    most: float


def least_amount(world: World, tactic: str) -> float:
    """The smallest yen or hours that do anything: a minimum spend, one unit, or the set-up of a free tactic."""
    t, prices = world.position(tactic), world.prices
    one_unit = prices.unit[t] if world.shape[t] == Shape.step else 0.0
    return float(max(prices.minimum[t], prices.setup[t] + one_unit))


def _shared(world: World, weights: Mapping[str, float], amount: float, hours: float) -> dict[str, float]:
    chosen = dict(weights)
    while chosen:
        total = sum(chosen.values())
        parts = {t: amount * w / total for t, w in chosen.items()}
        short = [t for t, part in parts.items() if part < least_amount(world, t)]
        if short:
            # the one furthest from its least goes first: its share may save the others
            chosen.pop(max(short, key=lambda t: (least_amount(world, t) / max(parts[t], 1e-9), t)))
            continue
        work = {t: staff_hours(world, t, part) for t, part in parts.items()}
        if sum(work.values()) <= hours:
            return parts
        chosen.pop(max(chosen, key=lambda t: (work[t] / parts[t], t)))
    return {}


def _greedy(
    world: World, names: Sequence[str], habits: Mapping[str, Habit], amount: float, hours: float
) -> dict[str, float]:
    parts: dict[str, float] = {}
    left = amount
    for tactic in sorted(names, key=lambda t: (habits[t].amount / max(habits[t].registrations, 0.1), t)):
        part = min(habits[tactic].most, left)
        work = staff_hours(world, tactic, part) if world.prices.is_paid[world.position(tactic)] else 0.0
        if part > 0 and part >= least_amount(world, tactic) * (1 - 1e-9) and work <= hours:
            parts[tactic] = part
            left -= part
            hours -= work
    return parts
