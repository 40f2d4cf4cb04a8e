"""Whether any portfolio satisfies the constraints, and if none does, the smallest set of them in conflict.

Found by deletion: one constraint after another is left out; where the rest is still in conflict, it was not needed.
What remains is irreducible: without any one of its members the others can be satisfied.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from turnout.allocation.coupled import CoupledSearch, Locked
from turnout.allocation.problem import Candidate, Group, Problem, conflict
from turnout.curves import Step, Tabulated
from turnout.errors import Problem as Defect

_DEADLINE = 2.0


def some_portfolio(problem: Problem) -> dict[str, float] | None:
    """x per candidate of some portfolio that satisfies every constraint; ``None`` where there is none.

    The search itself with responses of nothing: every portfolio is worth 0, and a bound below that says that there is
    none.
    """
    counted = {m for g in problem.groups if g.at_least for m in g.members}
    counted -= {m for g in problem.groups if g.money(problem.budget)[0] > 0 for m in g.members}
    plain = [_without_response(c, c.name in counted) for c in problem.candidates]
    bare = replace(
        problem, candidates=plain, audiences=(), organic=0.0, money_worth=0.0, hours_worth=0.0,
    )  # fmt: skip
    fixed = [c for c in plain if c.lock is not None or c.is_out]
    free = sorted((c for c in plain if c.lock is None and not c.is_out), key=lambda c: c.name)
    x = {c.name: 0.0 if c.is_out else c.lock or 0.0 for c in fixed}
    money = math.fsum(c.money_at(x[c.name]) for c in fixed)
    hours = math.fsum(c.hours_at(x[c.name]) for c in fixed)
    if (
        any(c.is_out and c.lock for c in fixed)
        or money > problem.budget * (1 + 1e-9)
        or hours > problem.hours * (1 + 1e-9)
    ):
        return None
    locked = Locked(
        {c.name: c.money_at(x[c.name]) for c in fixed}, {}, frozenset(c.name for c in fixed if x[c.name] > 0)
    )
    if not free:
        return x if _groups_hold(bare, locked) else None
    search = CoupledSearch(
        free, bare, locked, max(problem.budget - money, 0.0), max(problem.hours - hours, 0.0), only_feasible=True
    )
    search.run(0.0, perf_counter() + _DEADLINE)
    if search.best is None:
        return None
    return x | {c.name: float(v) for c, v in zip(free, search.best.x, strict=True)}


def _groups_hold(problem: Problem, locked: Locked) -> bool:
    for g in problem.groups:
        least, most = g.money(problem.budget)
        spent = math.fsum(locked.money.get(m, 0.0) for m in g.members)
        used = len(locked.used & set(g.members))
        if spent > most * (1 + 1e-9) or spent < least * (1 - 1e-9):
            return False
        if used < (g.at_least or 0) or (g.at_most is not None and used > g.at_most):
            return False
    return True


def _without_response(c: Candidate, counted: bool) -> Candidate:
    """The candidate as far as limits go; one that is counted starts where its curve brings something."""
    if isinstance(c.curve, Step):
        return replace(c, curve=c.curve.scaled(0.0), reach={}, of_others=False)
    low, knots = c.minimum, c.curve.knots()
    if counted and knots is not None and c.lock is None:
        rises = np.flatnonzero(knots[1] > knots[1][0])
        low = max(low, float(knots[0][rises[0] - 1])) if rises.size else math.inf
    if math.isinf(low):  # it never brings anything
        return replace(c, curve=Tabulated((0.0, 1.0), (0.0, 0.0)), reach={}, of_others=False, exclude=True)
    flat = Tabulated((0.0, max(low, 1.0)), (0.0, 0.0))
    return replace(c, curve=flat, minimum=low, reach={}, of_others=False)


@dataclass(frozen=True, slots=True)
class _Rule:
    """One constraint: how it reads, and the problem without it."""

    text: str
    owner: str | None
    drop: Callable[[Problem], Problem]


def _change(name: str, **changes: object) -> Callable[[Problem], Problem]:
    def drop(problem: Problem) -> Problem:
        return replace(
            problem,
            candidates=[replace(c, **changes) if c.name == name else c for c in problem.candidates],  # type: ignore[arg-type]
        )

    return drop


def _change_group(name: str, *limits: str) -> Callable[[Problem], Problem]:
    def drop(problem: Problem) -> Problem:
        changes = dict.fromkeys(limits)
        return replace(
            problem, groups=[replace(g, **changes) if g.name == name else g for g in problem.groups]  # type: ignore[arg-type]
        )  # fmt: skip

    return drop


def _rules(problem: Problem) -> list[_Rule]:
    """Every constraint, those that are easiest to give up last: they are what the answer should name."""
    found = []
    for c in problem.candidates:
        if math.isfinite(c.maximum):
            found.append(_Rule(f"{c.name}: at most {c.maximum:g}", c.name, _change(c.name, maximum=math.inf)))
        if c.minimum > 0:
            found.append(_Rule(f"{c.name}: at least {c.minimum:g} or nothing", c.name, _change(c.name, minimum=0.0)))
        if c.is_out:
            text = "excluded" if c.exclude else "not available"
            found.append(_Rule(f"{c.name}: {text}", c.name, _change(c.name, exclude=False, available=True)))
        if c.lock is not None:
            found.append(_Rule(f"{c.name}: locked at {c.lock:g}", c.name, _change(c.name, lock=None)))
    for g in problem.groups:
        least, most = g.money(problem.budget)
        if math.isfinite(most):
            found.append(_Rule(f"{g.name}: at most {most:g} of money", g.name, _change_group(g.name, "most")))
        if least > 0:
            found.append(_Rule(f"{g.name}: at least {least:g} of money", g.name, _change_group(g.name, "least")))
        if g.at_most is not None:
            found.append(_Rule(f"{g.name}: at most {g.at_most} used", g.name, _change_group(g.name, "at_most")))
        if g.at_least:
            found.append(_Rule(f"{g.name}: at least {g.at_least} used", g.name, _change_group(g.name, "at_least")))
    if math.isfinite(problem.hours):
        found.append(_Rule(f"staff hours: {problem.hours:g}", None, lambda p: replace(p, hours=math.inf)))
    enough = problem.budget + math.fsum(
        c.money_at(max(c.lock or 0.0, c.minimum)) + c.fixed_cost for c in problem.candidates
    )
    enough += math.fsum(g.money(problem.budget)[0] for g in problem.groups)
    found.append(_Rule(f"budget: {problem.budget:g}", None, lambda p: replace(p, budget=2.0 * enough + 1.0)))
    return found


def smallest_conflict(problem: Problem) -> list[Defect]:
    """Irreducible sets of constraints in conflict, in words; empty where some portfolio satisfies all of them.

    Where several sets conflict for reasons of their own, each is one entry.
    """
    # shares of the budget as amounts, so that the budget can be left out by itself
    groups = [absolute(g, problem.budget) for g in problem.groups]
    whole = replace(problem, groups=groups)
    rules = _rules(whole)
    found: list[Defect] = []
    while some_portfolio(whole) is None:
        current, needed = whole, []
        for rule in rules:
            without = rule.drop(current)
            if some_portfolio(without) is None:
                current = without
            else:
                needed.append(rule)
        if not needed:
            break
        words = "; ".join(rule.text for rule in needed)
        owners = {rule.owner for rule in needed if rule.owner is not None}
        found.append(conflict(f"cannot all hold: {words}", owners.pop() if len(owners) == 1 else None))
        for rule in needed:  # what else is in conflict
            whole = rule.drop(whole)
        rules = [rule for rule in rules if rule not in needed]
    return found


def absolute(g: Group, budget: float) -> Group:
    """The group with shares of the budget as amounts."""
    least, most = g.money(budget)
    return replace(
        g, least=least or None, most=most if math.isfinite(most) else None, least_share=None, most_share=None
    )  # fmt: skip
