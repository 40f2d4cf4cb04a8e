"""Decisions measured in the simulated world: the serving planner's portfolios against the best ones and simple rules.

Models are fitted to the events before a day; the planner then answers for the events announced after it, with each
event's real budget, staff hours and assets. What a portfolio is worth is the world's true expectation of it.

    regret = 1 − truth(portfolio) / truth(best portfolio)

The best portfolio keeps to the same tactics in time, minimum spends, whole units, money and hours, and its value is
proved to be so (:mod:`turnout.simulation.best`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np

from turnout.brief import Brief
from turnout.cli.worlds import Progress, Question, SimulatedHistory
from turnout.money import Rates
from turnout.plan import Plan
from turnout.schedule import Window, schedule
from turnout.settings import Settings
from turnout.simulation.best import Habit, Limits, best_portfolio, splits
from turnout.simulation.regret import brief_fields, expected_total, load_world
from turnout.simulation.world import World
from turnout.tactics import load_catalogue

if TYPE_CHECKING:
    from serving.planner import Bundle
    from training.dataset import Dataset

_ZONE = ZoneInfo("Asia/Tokyo")
#: The simulated worlds' currency and exchange rates.
_RATES = Rates({"JPY": 1.0, "USD": 150.0, "EUR": 163.0, "GBP": 190.0})


@dataclass(frozen=True, slots=True)
class Decision:
    """One held-out event.

    Attributes:
        forecast: registrations the plan expected; ``ours`` is what its portfolio is worth in truth.
        best, bound: the best portfolio found and what none exceeds.
        unpromoted: truth of doing nothing.
        rules: truth of each simple rule's portfolio.
    """

    seed: int
    event: str
    budget: float
    hours: float
    forecast: float
    ours: float
    best: float
    bound: float
    unpromoted: float
    rules: dict[str, float]

    @property
    def regret(self) -> float:
        return 1.0 - self.ours / self.best if self.best > 0 else 0.0

    def regret_of(self, rule: str) -> float:
        """Regret of one of :attr:`rules`."""
        return 1.0 - self.rules[rule] / self.best if self.best > 0 else 0.0


def decide(history: SimulatedHistory, settings: Settings, progress: Progress) -> list[Decision]:
    """Plan every held-out event of a world, and value the plans in truth."""
    if history.demand is None or not history.questions:
        return []
    progress(f"fitting to the events before {history.cut}")
    bundle = bundle_of(history, settings)
    world = world_of(history)
    habits = _habits(history.dataset.before(history.cut))
    budgets = {str(e["name"]): (float(e["budget"]), int(e["target"])) for e in history.truth}
    decisions = []
    for number, question in enumerate(history.questions, start=1):
        progress(f"decision {number}/{len(history.questions)}")
        budget, target = budgets[question.name]
        hours = history.hours.get(question.name, 0.0)
        decisions.append(_decide(world, bundle, question, habits, (budget, hours, target), history.spec.seed))
    return decisions


def world_of(history: SimulatedHistory) -> World:
    """The world, drawn again from its manifest."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "manifest.json").write_bytes(history.manifest)
        return load_world(Path(folder))


def bundle_of(history: SimulatedHistory, settings: Settings) -> Bundle:
    """The models of the morning of ``history.cut``, without a registry."""
    from serving.planner import Bundle
    from training import backtest
    from training.estimator import fit
    from turnout.registry import DEMAND, RESPONSE
    from turnout.scoring import DemandModel, ResponseModel

    assert history.demand is not None, "a world without events before its cut has no models"
    before = history.dataset.before(history.cut)
    spread = backtest.run(before, seed=settings.random_seed, threads=settings.threads).spread
    fitted = fit(before, seed=settings.random_seed, threads=settings.threads).with_spread(spread)
    return Bundle(
        ResponseModel(fitted.booster, fitted.parameters, name=RESPONSE, version="0", alias=None),
        DemandModel(history.demand, name=DEMAND, version="0", alias=None),
    )


def _decide(
    world: World,
    bundle: Bundle,
    question: Question,
    habits: Mapping[str, Habit],
    means: tuple[float, float, int],
    seed: int,
) -> Decision:
    from serving.planner import Features, make_plan

    budget, hours, target = means
    event = world.event(question.name)
    brief = Brief.model_validate(brief_fields(world, event, target=target, budget=budget, staff_hours=hours))
    now = datetime.combine(question.as_of, time(9), tzinfo=_ZONE)
    plan = make_plan(brief, bundle, Features(tactics=question.features, as_of=now), now, rates=_RATES)
    portfolio, starts = portfolio_of(plan, world)
    limits = Limits(budget, hours, _starts(world, event.date, question.as_of))
    best = best_portfolio(world, event, limits)
    rules = {
        name: expected_total(world, event, chosen, limits.starts)
        for name, chosen in splits(world, limits, habits).items()
    }
    ours = expected_total(world, event, portfolio, starts)
    return Decision(
        seed=seed, event=question.name, budget=budget, hours=hours, forecast=plan.totals.registrations.mean, ours=ours,
        best=max(best.total, ours), bound=best.bound, unpromoted=expected_total(world, event, {}),
        rules=rules,
    )  # fmt: skip


def portfolio_of(plan: Plan, world: World) -> tuple[dict[str, float], dict[str, date]]:
    """A plan as the world takes it: yen of paid tactics, staff hours of free ones, and when each starts."""
    portfolio: dict[str, float] = {}
    for part in plan.allocations:
        # hours are rounded for people to read; a unit must not be lost by it
        portfolio[part.tactic] = float(part.spend.amount) if part.is_paid else part.staff_hours + 0.005
    return portfolio, {part.tactic: part.starts for part in plan.allocations if part.tactic in world.tactics}


def _starts(world: World, event_date: date, as_of: date) -> dict[str, date]:
    """Tactics that are still in time, and their first day."""
    found = {}
    for tactic in load_catalogue():
        window = schedule(tactic, event_date, as_of, "Asia/Tokyo", "JP")
        if tactic.id in world.tactics and isinstance(window, Window):
            found[tactic.id] = window.starts
    return found


def _habits(before: Dataset) -> dict[str, Habit]:
    """Past use of each tactic, as the organiser's own books show it."""
    return {
        str(tactic): Habit(float(group["x"].sum()), float(group["y"].sum()), float(group["x"].max()))
        for tactic, group in before.rows.groupby("tactic_id")
    }


# --- figures ----------------------------------------------------------------------------------------------------------


def summary(decisions: Sequence[Decision]) -> dict[str, Any]:
    """``regret_mean``, ``regret_p95`` and the same of each rule; ``None`` without any decision."""
    if not decisions:
        return {"regret_mean": None, "regret_p95": None, "decisions": None}
    regret = np.array([d.regret for d in decisions])
    promoted = np.array([(d.best - d.ours) / max(d.best - d.unpromoted, 1e-9) for d in decisions])
    ours = np.array([d.ours for d in decisions])
    return {
        "regret_mean": _plain(regret.mean()),
        "regret_p95": _plain(np.quantile(regret, 0.95)),
        "decisions": {
            "events": len(decisions),
            "regret_median": _plain(np.median(regret)),
            "regret_max": _plain(regret.max()),
            "regret_of_promoted_mean": _plain(promoted.mean()),
            "proved_gap_max": _plain(max(1 - d.best / d.bound for d in decisions)),
            "forecast_error": _plain(float(np.abs([d.forecast - d.ours for d in decisions]).sum()) / ours.sum()),
            "rules": {
                name: {
                    "regret_mean": _plain(np.mean([d.regret_of(name) for d in decisions])),
                    "regret_p95": _plain(np.quantile([d.regret_of(name) for d in decisions], 0.95)),
                    "ours_is_better": _plain(np.mean([d.ours >= d.rules[name] for d in decisions])),
                }
                for name in decisions[0].rules
            },
        },
    }


def _plain(value: float | np.floating[Any]) -> float:
    return round(float(value), 4)
