"""The question and the answer of the allocator."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from turnout.curves import Curve
from turnout.errors import InputError
from turnout.errors import Problem as Defect

#: Amounts that differ by less than this share are the same amount.
TOLERANCE = 1e-9


class InfeasibleError(InputError):
    """No portfolio satisfies the constraints; ``problems`` names a smallest set of them that conflict."""


def _number(owner: str, name: str, value: float, low: float = 0.0, *, infinite: bool = False) -> None:
    if math.isnan(value) or value < low or (math.isinf(value) and not infinite):
        raise ValueError(f"{owner}: {name} must be a {'' if infinite else 'finite '}number >= {low:g}; got {value!r}")


@dataclass(frozen=True, slots=True)
class Audience:
    """People whom several candidates reach: who registers through one does not register again through another.

    Attributes:
        name: unique within a problem.
        size: people of it who would register at all; inf: no overlap.
        others: registrations from it that come by themselves.
    """

    name: str
    size: float
    others: float = 0.0

    def __post_init__(self) -> None:
        owner = f"audience {self.name!r}"
        _number(owner, "size", self.size, infinite=True)
        if self.size == 0:
            raise ValueError(f"{owner}: size must be above 0")
        _number(owner, "others", self.others)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One tactic the money or the hours may go to.

    The decision is x, the argument of ``curve``: usually spend, for a free tactic staff hours. Using x > 0 costs
    ``fixed_cost + cost · x`` of money and ``fixed_hours + hours · x`` of staff time; x = 0 costs nothing.

    Attributes:
        name: unique within a problem.
        curve: x → response (:mod:`turnout.curves`).
        cost: money per unit of x. 1 where x is the spend, 0 for a free tactic.
        fixed_cost: money to use it at all, on top of ``cost · x``.
        hours: staff hours per unit of x.
        fixed_hours: staff hours to use it at all.
        minimum: the smallest x if used: "at least this or nothing". ``minimum == maximum`` makes a yes/no tactic.
        maximum: the largest x.
        unit: x only in whole multiples of this; ``None``: any x.
        lock: x is this and nothing else.
        exclude: x is 0 and nothing else.
        available: ``False``: it cannot be used now, for instance because its lead time is over; x is 0.
        reach: audience → share of the candidate's response that comes from it, each in [0, 1], together at most 1. The
            rest overlaps with nobody.
        of_others: the curve is no response but a share of what all the others and the organic part bring together
            (referral, retargeting); how high the share may get is the curve's maximum.
    """

    name: str
    curve: Curve
    cost: float = 1.0
    fixed_cost: float = 0.0
    hours: float = 0.0
    fixed_hours: float = 0.0
    minimum: float = 0.0
    maximum: float = math.inf
    unit: float | None = None
    lock: float | None = None
    exclude: bool = False
    available: bool = True
    reach: Mapping[str, float] = field(default_factory=dict, hash=False)
    of_others: bool = False

    def __post_init__(self) -> None:
        owner = f"candidate {self.name!r}"
        if not isinstance(self.curve, Curve):
            raise TypeError(f"{owner}: curve must be a turnout.curves.Curve; got {type(self.curve).__name__}")
        for name in ("cost", "fixed_cost", "hours", "fixed_hours", "minimum"):
            _number(owner, name, getattr(self, name))
        _number(owner, "maximum", self.maximum, infinite=True)
        if self.lock is not None:
            _number(owner, "lock", self.lock)
        if self.unit is not None:
            _number(owner, "unit", self.unit)
            if self.unit == 0:
                raise ValueError(f"{owner}: unit must be above 0")
        for audience, weight in self.reach.items():
            _number(owner, f"reach in {audience!r}", weight)
        if math.fsum(self.reach.values()) > 1 + TOLERANCE:
            raise ValueError(f"{owner}: reach must sum to at most 1; got {math.fsum(self.reach.values()):g}")
        if self.of_others and self.reach:
            raise ValueError(f"{owner}: reach has no meaning for a share of what the others bring; leave it empty")

    @property
    def is_out(self) -> bool:
        """Whether x is 0 whatever else holds."""
        return self.exclude or not self.available

    def money_at(self, x: float) -> float:
        """Money that x costs."""
        return self.fixed_cost + self.cost * x if x > 0 else 0.0

    def hours_at(self, x: float) -> float:
        """Staff hours that x takes."""
        return self.fixed_hours + self.hours * x if x > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Group:
    """Limits on several candidates together: at most 60 % of the budget on paid social, at least two channels.

    Attributes:
        name: unique within a problem.
        members: names of candidates.
        least, most: money that they get together. A candidate with steps or units spends what whole ones cost, here as
            everywhere.
        least_share, most_share: the same as a share of the problem's budget, in [0, 1].
        at_least, at_most: how many of them are used. Used is an x that brings something (one below the first step or
            the start of a curve does not), of at least the candidate's minimum, or of one unit where it has none; where
            money is not counted in units, of a millionth of what it could get.
    """

    name: str
    members: Sequence[str]
    least: float | None = None
    most: float | None = None
    least_share: float | None = None
    most_share: float | None = None
    at_least: int | None = None
    at_most: int | None = None

    def __post_init__(self) -> None:
        owner = f"group {self.name!r}"
        object.__setattr__(self, "members", tuple(dict.fromkeys(self.members)))
        for name in ("least", "most", "least_share", "most_share", "at_least", "at_most"):
            value = getattr(self, name)
            if value is not None:
                _number(owner, name, value)
        for name in ("least_share", "most_share"):
            if (getattr(self, name) or 0.0) > 1:
                raise ValueError(f"{owner}: {name} must be at most 1; got {getattr(self, name):g}")

    def money(self, budget: float) -> tuple[float, float]:
        """The least and the most money of the group."""
        least = max(self.least or 0.0, (self.least_share or 0.0) * budget)
        most = min(
            math.inf if self.most is None else self.most,
            math.inf if self.most_share is None else self.most_share * budget,
        )
        return least, most


@dataclass(frozen=True, slots=True)
class Problem:
    """Candidates and what may be spent on them.

    Attributes:
        candidates: names must differ; their order does not matter.
        budget: money, finite and >= 0.
        hours: staff hours; inf where they do not matter.
        unit: what money is counted in (1 for yen, 0.01 for dollars); every spend is then a whole multiple. ``None``:
            any amount.
        money_worth: response that one unit of money is worth elsewhere. Money whose marginal response is below it
            stays unspent.
        hours_worth: the same for an hour.
        audiences: what the candidates' ``reach`` names.
        organic: response that comes by itself, from people whom no candidate reaches.
        groups: limits on candidates together.
    """

    candidates: Sequence[Candidate]
    budget: float
    hours: float = math.inf
    unit: float | None = None
    money_worth: float = 0.0
    hours_worth: float = 0.0
    audiences: Sequence[Audience] = ()
    organic: float = 0.0
    groups: Sequence[Group] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "candidates", tuple(self.candidates))
        object.__setattr__(self, "groups", tuple(self.groups))
        object.__setattr__(self, "audiences", tuple(self.audiences))
        _number("problem", "budget", self.budget)
        _number("problem", "hours", self.hours, infinite=True)
        _number("problem", "money_worth", self.money_worth)
        _number("problem", "hours_worth", self.hours_worth)
        _number("problem", "organic", self.organic)
        if self.unit is not None:
            _number("problem", "unit", self.unit)
            if self.unit == 0:
                raise ValueError("problem: unit must be above 0")
        names = [c.name for c in self.candidates]
        twice = sorted({n for n in names if names.count(n) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise ValueError(f"problem: candidate names must differ; given twice: {', '.join(twice)}")
        known = {a.name for a in self.audiences}
        if len(known) < len(self.audiences):
            raise ValueError("problem: audience names must differ")
        for c in self.candidates:
            unknown = sorted(set(c.reach) - known)
            if unknown:
                raise ValueError(
                    f"candidate {c.name!r}: reach names {', '.join(unknown)}; audiences are "
                    f"{', '.join(sorted(known)) or 'not given'}"
                )
        if len({g.name for g in self.groups}) < len(self.groups):
            raise ValueError("problem: group names must differ")
        for g in self.groups:
            strangers = sorted(set(g.members) - set(names))
            if strangers:
                raise ValueError(f"group {g.name!r}: no candidate is named {', '.join(strangers)}")

    @property
    def is_coupled(self) -> bool:
        """Whether what one candidate brings depends on the others."""
        return any(a.others > 0 for a in self.audiences) or any(c.of_others or c.reach for c in self.candidates)


class Status(StrEnum):
    """Why a candidate has the x it has."""

    used = "used"
    locked = "locked"
    excluded = "excluded"
    unavailable = "unavailable"  # it cannot be used now
    over_budget = "over_budget"  # the smallest x costs more money than there is
    no_hours = "no_hours"  # the smallest x takes more hours than there are
    not_worth_it = "not_worth_it"  # money or hours bring more elsewhere


class Unspent(StrEnum):
    """Why money is left."""

    nothing_to_buy = "nothing_to_buy"  # no candidate takes money
    at_maximum = "at_maximum"  # every candidate has all it can use
    not_worth_it = "not_worth_it"  # more would bring less than money_worth
    no_hours = "no_hours"  # what would use the money needs hours that are not there
    indivisible = "indivisible"  # the rest is less than the next step, minimum or unit


@dataclass(frozen=True, slots=True)
class Choice:
    """What one candidate gets.

    Attributes:
        x: the decision; ``spend`` and ``hours`` are what it costs.
        response: what it is expected to bring, credited after overlap with the others; a candidate that feeds on the
            others is credited with its part of what comes on top.
        alone: what it would bring if nobody else reached its people; ``response`` where nothing overlaps.
        marginal_response: response of one more unit of money at x; ``None`` where the next one buys nothing by itself
            (whole units, free tactics, unused ones).
        binding: which of the candidate's own limits hold it: ``minimum``, ``maximum``, ``lock``, ``exclude``.
    """

    name: str
    x: float
    spend: float
    hours: float
    response: float
    status: Status
    marginal_response: float | None = None
    binding: tuple[str, ...] = ()
    alone: float = 0.0


@dataclass(frozen=True, slots=True)
class Solution:
    """The best portfolio found and how good it provably is.

    Attributes:
        choices: one per candidate, in the problem's order.
        response: expected response of the portfolio's choices together, after overlap.
        objective: total − money_worth · spend − hours_worth · hours: what was made best.
        upper_bound: no portfolio has an objective above this.
        gap: (upper_bound − objective) / upper_bound, 0 when both are 0.
        marginal_response: response that one more unit of money would bring (the budget's multiplier).
        marginal_response_hours: the same for one more hour.
        binding: ``budget`` and ``hours`` where they hold the answer, and ``<candidate>.<limit>``.
        unspent: money left; ``unspent_reason`` says why, ``None`` when nothing is left.
        proved: whether the asked-for gap was reached before the deadline.
        nodes: subproblems looked at; seconds: time taken.
        organic: what comes by itself, credited after overlap with the choices.
        overlap: registrations that are lost because several reach the same people: the sum of ``alone`` and of the
            organic part before overlap, less ``total``.
    """

    choices: tuple[Choice, ...]
    response: float
    objective: float
    upper_bound: float
    gap: float
    marginal_response: float
    marginal_response_hours: float
    binding: tuple[str, ...]
    total_spend: float
    total_hours: float
    unspent: float
    unspent_reason: Unspent | None
    proved: bool
    nodes: int
    seconds: float
    organic: float = 0.0
    overlap: float = 0.0
    _by_name: dict[str, Choice] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {c.name: c for c in self.choices})

    def __getitem__(self, name: str) -> Choice:
        return self._by_name[name]

    @property
    def total(self) -> float:
        """All that is expected: the choices' responses and the organic part, after overlap."""
        return self.response + self.organic

    @property
    def spend(self) -> dict[str, float]:
        """Money per candidate."""
        return {c.name: c.spend for c in self.choices}

    @property
    def x(self) -> dict[str, float]:
        """Decision per candidate."""
        return {c.name: c.x for c in self.choices}


def contradictions(problem: Problem) -> list[Defect]:
    """Candidates whose own constraints contradict one another."""
    found: list[Defect] = []
    for c in problem.candidates:
        if c.minimum > c.maximum * (1 + TOLERANCE):
            found.append(conflict(f"{c.name}: minimum {c.minimum:g} is above maximum {c.maximum:g}", c.name))
        if c.lock is None:
            continue
        if c.exclude and c.lock > 0:
            found.append(conflict(f"{c.name}: locked at {c.lock:g} and excluded", c.name))
        elif not c.available and c.lock > 0:
            found.append(conflict(f"{c.name}: locked at {c.lock:g} and not available", c.name))
        if 0 < c.lock < c.minimum * (1 - TOLERANCE):
            found.append(conflict(f"{c.name}: locked at {c.lock:g}, below its minimum {c.minimum:g}", c.name))
        if c.lock > c.maximum * (1 + TOLERANCE):
            found.append(conflict(f"{c.name}: locked at {c.lock:g}, above its maximum {c.maximum:g}", c.name))
        if c.unit is not None and abs(c.lock / c.unit - round(c.lock / c.unit)) > 1e-6:
            found.append(conflict(f"{c.name}: locked at {c.lock:g}, no whole multiple of {c.unit:g}", c.name))
    return found


def locks_above(problem: Problem) -> list[Defect]:
    """The fewest locks that together need more than the budget or the hours."""
    found: list[Defect] = []
    locks = [c for c in problem.candidates if c.lock]
    for what, limit, needs in (
        ("budget", problem.budget, {c.name: c.money_at(c.lock or 0.0) for c in locks}),
        ("staff hours", problem.hours, {c.name: c.hours_at(c.lock or 0.0) for c in locks}),
    ):
        if math.fsum(needs.values()) <= limit * (1 + TOLERANCE):
            continue
        # the largest first: the fewest locks that break the limit together
        total, culprits = 0.0, []
        for name, need in sorted(needs.items(), key=lambda item: (-item[1], item[0])):
            culprits.append(f"{name} {need:g}")
            total += need
            if total > limit * (1 + TOLERANCE):
                break
        found.append(
            conflict(f"the locks {', '.join(culprits)} need {total:g} together; the {what} is {limit:g}", None)
        )
    return found


def conflict(message: str, value: str | None) -> Defect:
    """One set of constraints that contradict one another, in words."""
    return Defect("infeasible", message, value=value)
