"""Where an event stands while registration is open, and what is left to decide. Pure: no clock, no store, no model.

**The forecast.** A plan expects M registrations in all. The event's luck f, which all its tactics share, is log-normal
with mean 1 and the model's ``shared_log_sd``; the share S of registrations that have come by now is a Beta with the
pacing curve's share F as its mean, for events of one kind fill up at different times (``concentration``). What has been
counted by now is Poisson:

    f ~ LogNormal(−σ²/2, σ)     S ~ Beta(κF, κ(1−F))     y | f, S ~ Poisson(f · M' · S)

M' is M with each tactic's part scaled by how its spend to date compares with the plan's, to the power 0.7 (a guess,
what saturating curves have where they are used): where a campaign began late, few registrations need not be bad luck.
The posterior of (f, S) is computed on a grid; what is still to come is Poisson(f · M · (1 − S)). Few registrations
early mean little, because F is small and S uncertain; a week before the event they mean a lot.

**The question that is left.** Money that is spent cannot be had back. The brief for the planner is the old one as of
today with every tactic that spent: over, it is locked at what it spent; running, it has that as its minimum. Spent
money counts into the budget, so the planner's budget stays the whole one; ``committed`` names what no plan may go
below.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from turnout.brief import Brief, Constraint, GoalMetric, Money
from turnout.errors import InputError, Problem
from turnout.money import Rates, minor_digits
from turnout.plan import Interval, Plan
from turnout.schedule import TooLate, schedule
from turnout.tactics.catalogue import Catalogue, load_catalogue
from turnout.workdays import WorkCalendar

if TYPE_CHECKING:
    from turnout.scoring.types import Pacing, ShowUp

Floats = NDArray[np.float64]
Language = Literal["ja", "en"]
State = Literal["over", "running", "planned", "can_start", "too_late", "excluded"]
Status = Literal["ahead", "on_track", "behind", "too_early"]

#: How much events of one kind differ in when they fill up, as the size of a Beta sample: a guess; a standard deviation
#: of 0.1 where half has come. :func:`concentration_of` measures it.
CONCENTRATION: Final = 25.0
#: Below this expected share of registrations nothing can be said yet.
EARLIEST_SHARE: Final = 0.02
AHEAD, BEHIND = 0.9, 0.1
_ELASTICITY: Final = 0.7
_MOST_RATIO: Final = 2.0
_DRAWS: Final = 4_000
_LUCK_NODES, _PACE_NODES, _TRACK_NODES = 161, 121, 128
_Z80: Final = 1.2816


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Actuals(_Model):
    """What has happened so far.

    Attributes:
        registrations: confirmed so far, in all.
        by_day: the same by day, where known; must add up to ``registrations``.
        until: the last day that is counted whole; default: the day before planning.
        spend: by tactic id, in any currency with a rate.
        staff_hours: by tactic id.
    """

    registrations: int = Field(ge=0)
    by_day: dict[date, int] = {}
    until: date | None = None
    spend: dict[str, Money] = {}
    staff_hours: dict[str, float] = {}

    @model_validator(mode="after")
    def _days_add_up(self) -> Actuals:
        if any(n < 0 for n in self.by_day.values()) or any(not h >= 0 for h in self.staff_hours.values()):
            raise ValueError("registrations by day and staff hours are 0 or more")
        if self.by_day and sum(self.by_day.values()) != self.registrations:
            raise ValueError(f"by_day adds up to {sum(self.by_day.values())}, registrations says {self.registrations}")
        if self.by_day and self.until is not None and max(self.by_day) > self.until:
            raise ValueError(f"by_day goes to {max(self.by_day)}, past until = {self.until}")
        return self

    @classmethod
    def of(cls, by_day: Mapping[date, int], spend: Mapping[str, Money] | None = None) -> Actuals:
        """Actuals from daily counts."""
        return cls(registrations=sum(by_day.values()), by_day=dict(by_day), spend=dict(spend or {}))


class Standing(_Model):
    """Registrations to date against what was expected of them."""

    registered: int
    expected: Interval = Field(description="Registrations to date that the plan expected, at the spend to date.")
    expected_share: float = Field(ge=0, le=1, description="Share of all registrations usually in by now.")
    percentile: float = Field(ge=0, le=1, description="Share of such events that would have fewer by now.")
    status: Status


class Luck(_Model):
    """The factor by which the event does better than planned: posterior mean, quantiles and log spread."""

    mean: float
    p10: float
    p50: float
    p90: float
    log_sd: float


class TacticState(_Model):
    """Where one tactic stands."""

    tactic: str
    name: str
    state: State
    planned: Money | None = Field(default=None, description="Planned spend; none where the plan does not use it.")
    planned_to_date: Money | None = None
    spent: Money
    last_start: date | None = Field(default=None, description="The last day on which to decide for it.")


class TrackPoint(_Model):
    """Cumulative registrations at the end of a day."""

    date: date
    expected: float
    p10: float
    p90: float
    actual: int | None = None


class Replan(_Model):
    """The answer."""

    as_of: date
    days_left: int
    standing: Standing
    luck: Luck
    registrations: Interval = Field(description="In all, going on as planned.")
    attendees: Interval
    goal_probability: float = Field(ge=0, le=1)
    spent: Money
    remaining: Money
    overspent: bool
    staff_hours_left: float
    tactics: list[TacticState]
    committed: dict[str, Money] = Field(description="What each tactic has spent; no plan may go below.")
    brief: Brief = Field(description="The question for the planner.")
    track: list[TrackPoint] = []

    def summary(self, language: Language) -> str:
        """Where the event stands, in a sentence or two."""
        words = _SUMMARY[language]
        standing = self.standing
        said = words[standing.status].format(
            registered=standing.registered, expected=standing.expected.mean, low=standing.expected.p10,
            high=standing.expected.p90, percentile=_percent(standing.percentile),
        )  # fmt: skip
        total = self.registrations
        said += words["total"].format(
            mean=total.mean, low=total.p10, high=total.p90, goal=f"{self.goal_probability:.0%}"
        )
        return said + (words["overspent"] if self.overspent else "")


def _percent(share: float) -> str:
    """Whole percents, but never a rounded certainty."""
    return "<1%" if share < 0.01 else ">99%" if share > 0.99 else f"{share:.0%}"


_SUMMARY: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "ahead": "Ahead: {registered} registered, {expected:.0f} expected ({low:.0f}–{high:.0f}); better than "
        "{percentile} of such events.",
        "on_track": "On track: {registered} registered, {expected:.0f} expected ({low:.0f}–{high:.0f}); better than "
        "{percentile} of such events.",
        "behind": "Behind: {registered} registered, {expected:.0f} expected ({low:.0f}–{high:.0f}); better than only "
        "{percentile} of such events.",
        "too_early": "Too early to tell: {registered} registered.",
        "total": " Going on as planned brings {mean:.0f} ({low:.0f}–{high:.0f}); chance of the goal {goal}.",
        "overspent": " More is spent than the budget allows.",
    },
    "ja": {
        "ahead": "好調:申込{registered}件(想定{expected:.0f}件、{low:.0f}〜{high:.0f}件)。"
        "同様のイベントの{percentile}を上回る水準。",
        "on_track": "順調:申込{registered}件(想定{expected:.0f}件、{low:.0f}〜{high:.0f}件)。"
        "同様のイベントの{percentile}を上回る水準。",
        "behind": "遅れ:申込{registered}件(想定{expected:.0f}件、{low:.0f}〜{high:.0f}件)。"
        "上回っているのは同様のイベントの{percentile}のみ。",
        "too_early": "判断には早い段階:申込{registered}件。",
        "total": "計画どおりなら最終{mean:.0f}件({low:.0f}〜{high:.0f}件)、目標達成の確率{goal}。",
        "overspent": "費用が予算を超えている。",
    },
}  # fmt: skip


def concentration_of(registered: Sequence[tuple[int, int]], share: float) -> float:
    """How alike past events fill up, measured: κ of the Beta-binomial by the method of moments.

    Args:
        registered: (by that many days before the event, in the end) of each past event of a kind.
        share: what the pacing curve says of that day.

    Returns:
        Between 2 (anything goes) and 500; :data:`CONCENTRATION` with fewer than five events or nothing to see.
    """
    known = [(y, n) for y, n in registered if n > 0]
    spread = share * (1 - share)
    if len(known) < 5 or spread <= 0:
        return CONCENTRATION
    total = sum((y / n - share) ** 2 / spread for y, n in known)
    counting = sum(1 / n for _, n in known)
    # E[(y/n − F)² / F(1−F)] = 1/n + (1 − 1/n) / (κ + 1)
    excess = (total - counting) / max(len(known) - counting, 1e-9)
    return min(max(1 / excess - 1 if excess > 0 else math.inf, 2.0), 500.0)


def replan(
    plan: Plan,
    actuals: Actuals,
    as_of: date,
    pacing: Pacing,
    *,
    shared_log_sd: float | None = None,
    concentration: float = CONCENTRATION,
    show_up: ShowUp | None = None,
    rates: Rates | None = None,
    calendar: WorkCalendar | None = None,
    catalogue: Catalogue | None = None,
    seed: int = 0,
) -> Replan:
    """Where the event stands, what it will come to, and the brief for what is left.

    Args:
        plan: the plan that is being carried out.
        as_of: the day of planning, in the event's zone.
        pacing: when registrations of such an event come.
        shared_log_sd: the model's; default: the spread of the plan's own total.
        concentration: how alike events fill up.
        show_up: Beta of the show-up rate; default: the plan's rate, as sure as a published one.
        rates: exchange rates of what was spent in other currencies.
        seed: same seed, same answer.

    Raises:
        InputError: the event is over, a tactic is unknown, a currency has no rate, or days lie in the future; names
            every such field.
    """
    rates = rates or Rates({"JPY": 1.0})
    catalogue = catalogue or load_catalogue()
    calendar = calendar or WorkCalendar.of("JP")
    until = actuals.until or max([as_of - timedelta(days=1), *actuals.by_day])
    spent = _spent(plan, actuals, as_of, until, rates, catalogue)
    event = plan.brief.event
    share = pacing.expected_share((event.date - until).days)
    forecast = _Forecast(plan, actuals.registrations, share, _ratios(plan, spent, until), shared_log_sd, concentration)
    total, attendees, goal = forecast.outcome(plan, show_up, seed)
    states = _states(plan, spent, as_of, until, calendar, catalogue)
    all_spent = sum((m.amount for m in spent.values()), Decimal(0))
    budget = plan.brief.budget
    return Replan(
        as_of=as_of,
        days_left=(event.date - as_of).days,
        standing=forecast.standing(actuals.registrations, seed),
        luck=forecast.luck(),
        registrations=total,
        attendees=attendees,
        goal_probability=goal,
        spent=Money(amount=all_spent, currency=budget.currency),
        remaining=Money(amount=max(budget.amount - all_spent, Decimal(0)), currency=budget.currency),
        overspent=all_spent > budget.amount,
        staff_hours_left=max(plan.brief.staff_hours - sum(actuals.staff_hours.values()), 0.0),
        tactics=states,
        committed={t: m for t, m in spent.items() if m.amount > 0},
        brief=_brief(plan, states, actuals, all_spent, as_of, catalogue),
        track=_track(plan, actuals, pacing, forecast, until),
    )


def _spent(
    plan: Plan, actuals: Actuals, as_of: date, until: date, rates: Rates, catalogue: Catalogue
) -> dict[str, Money]:
    """What each tactic spent, in the budget's currency; refuses what cannot be."""
    problems: list[Problem] = []
    event, currency = plan.brief.event, plan.brief.budget.currency
    if as_of > event.date:
        message = f"the event was on {event.date}; there is nothing left to plan on {as_of}"
        problems.append(Problem("event_is_over", message, column="as_of", value=as_of.isoformat()))
    if until > as_of:
        message = f"{until} is after the day of planning, {as_of}; only days that were can be counted"
        problems.append(Problem("in_the_future", message, column="registrations", value=until.isoformat()))
    found: dict[str, Money] = {}
    for name, money in actuals.spend.items():
        tactic = catalogue.match(name)
        if tactic is None:
            message = f"there is no tactic {name!r}; close are {', '.join(catalogue.suggest(name)) or 'none'}"
            problems.append(Problem("unknown_tactic", message, column="spend", value=name))
            continue
        try:
            rate = Decimal(repr(rates.convert(1.0, money.currency, currency)))
        except InputError as error:
            problems += [Problem(p.code, p.message, column=f"spend.{name}", value=p.value) for p in error.problems]
            continue
        amount = found[tactic].amount if tactic in found else Decimal(0)
        unit = Decimal(1).scaleb(-minor_digits(currency))
        amount += (money.amount * rate).quantize(unit, rounding=ROUND_DOWN)
        found[tactic] = Money(amount=amount, currency=currency)
    if problems:
        raise InputError(problems)
    return found


def _ratios(plan: Plan, spent: Mapping[str, Money], until: date) -> dict[str, float]:
    """How much of its planned effect to date each tactic can have had, by its spend."""
    found = {}
    for a in plan.allocations:
        planned = sum((d.amount for d in a.daily_spend if d.date <= until), Decimal(0))
        if a.tactic in spent and planned > 0:
            found[a.tactic] = min(float(spent[a.tactic].amount / planned), _MOST_RATIO) ** _ELASTICITY
    return found


class _Forecast:
    """Prior and posterior of (luck, share that has come), on a grid."""

    def __init__(
        self,
        plan: Plan,
        registered: int,
        share: float,
        ratios: Mapping[str, float],
        shared_log_sd: float | None,
        concentration: float,
    ) -> None:
        if not (math.isfinite(concentration) and concentration > 0):
            raise ValueError(f"concentration must be positive; got {concentration}")
        total = plan.totals.registrations
        self.mean, self.share = total.mean, share
        self.log_sd = _log_sd_of(total) if shared_log_sd is None else shared_log_sd
        if not (math.isfinite(self.log_sd) and self.log_sd >= 0):
            raise ValueError(f"shared_log_sd is 0 or more; got {shared_log_sd}")
        expected = {a.tactic: a.registrations.mean for a in plan.allocations}
        rest = max(self.mean - sum(expected.values()), 0.0)
        self.to_date = rest + sum(mean * ratios.get(tactic, 1.0) for tactic, mean in expected.items())
        self.concentration = concentration
        nodes = np.linspace(-5.0, 5.0, _LUCK_NODES)
        self.luck_nodes = np.exp(self.log_sd * nodes - self.log_sd**2 / 2)
        luck_weight = np.exp(-nodes * nodes / 2)
        self.shares = self.shares_at(share, (np.arange(_PACE_NODES) + 0.5) / _PACE_NODES)
        self.prior = np.outer(luck_weight / luck_weight.sum(), np.full(_PACE_NODES, 1 / _PACE_NODES))
        self.rates = np.outer(self.luck_nodes, self.shares) * self.to_date
        self.registered = registered
        self.informative = share >= EARLIEST_SHARE
        self.posterior = self._posterior()

    def shares_at(self, share: float, levels: Floats) -> Floats:
        """Quantiles of the share that has come where the pacing curve says ``share``."""
        from scipy.special import betaincinv

        if not 0 < share < 1:
            return np.full_like(levels, min(max(share, 0.0), 1.0))
        k = self.concentration
        return np.asarray(betaincinv(k * share, k * (1 - share), levels), dtype=np.float64)

    def _posterior(self) -> Floats:
        if not self.informative:
            return self.prior
        rates = np.maximum(self.rates, 1e-9)
        log = np.log(np.maximum(self.prior, 1e-300)) + self.registered * np.log(rates) - rates
        weights = np.exp(log - log.max())
        return np.asarray(weights / weights.sum())

    def standing(self, registered: int, seed: int) -> Standing:
        """Registrations to date among those that the plan expected."""
        from scipy.special import pdtr

        below = pdtr(registered - 1, self.rates) if registered > 0 else np.zeros_like(self.rates)
        percentile = float((self.prior * (below + pdtr(registered, self.rates)) / 2).sum())
        rates = self._drawn(self.prior, self.rates, seed)
        drawn = np.random.default_rng(seed).poisson(rates)
        status: Status = "ahead" if percentile > AHEAD else "behind" if percentile < BEHIND else "on_track"
        return Standing(
            registered=registered,
            expected=_interval(drawn, float((self.prior * self.rates).sum())),
            expected_share=self.share,
            percentile=min(max(percentile, 0.0), 1.0),
            status=status if self.informative else "too_early",
        )

    def luck(self) -> Luck:
        """The posterior of the event's factor."""
        weights = self.posterior.sum(axis=1)
        cumulative = np.cumsum(weights) - weights / 2
        low, middle, high = np.interp((0.1, 0.5, 0.9), cumulative, self.luck_nodes)
        logs = np.log(self.luck_nodes)
        mean_log = float(weights @ logs)
        return Luck(
            mean=float(weights @ self.luck_nodes), p10=float(low), p50=float(middle), p90=float(high),
            log_sd=math.sqrt(max(float(weights @ (logs - mean_log) ** 2), 0.0)),
        )  # fmt: skip

    def outcome(self, plan: Plan, show_up: ShowUp | None, seed: int) -> tuple[Interval, Interval, float]:
        """Registrations and attendees in the end, and the chance of the goal."""
        left = np.outer(self.luck_nodes, 1 - self.shares) * self.mean
        drawn = self._drawn(self.posterior, left, seed)
        rng = np.random.default_rng(seed + 1)
        total = self.registered + rng.poisson(drawn)
        mean = self.registered + float((self.posterior * left).sum())
        rate = min(max(plan.totals.show_up_rate, 1e-3), 1 - 1e-3)
        alpha, beta = (show_up.alpha, show_up.beta) if show_up else (20 * rate, 20 * (1 - rate))
        coming = rng.binomial(total, rng.beta(alpha, beta, len(total)))
        goal = plan.brief.goal
        reached = coming if goal.metric is GoalMetric.attendees else total
        return (
            _interval(total, mean), _interval(coming, mean * alpha / (alpha + beta)),
            float(np.mean(reached >= goal.target)),
        )  # fmt: skip

    @staticmethod
    def _drawn(weights: Floats, values: Floats, seed: int) -> Floats:
        """Values of the grid drawn by weight, systematically: the same seed gives the same values."""
        order = np.argsort(values, axis=None, kind="stable")
        cumulative = np.cumsum(weights.ravel()[order])
        at = (np.arange(_DRAWS) + np.random.default_rng(seed).random()) / _DRAWS * cumulative[-1]
        picked = order[np.minimum(np.searchsorted(cumulative, at), len(order) - 1)]
        return np.asarray(values.ravel()[picked], dtype=np.float64)


def _log_sd_of(total: Interval) -> float:
    """The spread of a total's rate, from its quantiles without the counting noise."""
    if total.p10 <= 0 or total.p90 <= total.p10:
        return 0.5
    spread = math.log(total.p90 / total.p10) / (2 * _Z80)
    return math.sqrt(max(spread**2 - 1 / max(total.mean, 1.0), 0.01))


def _interval(draws: NDArray[np.int64], mean: float) -> Interval:
    low, middle, high = (float(q) for q in np.quantile(draws, (0.1, 0.5, 0.9)))
    return Interval(mean=max(mean, 0.0), p10=low, p50=middle, p90=high)


# --- tactics and the question that is left ----------------------------------------------------------------------------


def _states(
    plan: Plan, spent: Mapping[str, Money], as_of: date, until: date, calendar: WorkCalendar, catalogue: Catalogue
) -> list[TacticState]:
    language, currency = plan.brief.language, plan.brief.budget.currency
    planned = {a.tactic: a for a in plan.allocations}
    excluded = {catalogue.match(r.tactic) or r.tactic for r in plan.brief.constraints if r.exclude}
    nothing = Money(amount=Decimal(0), currency=currency)
    found = []
    for tactic in catalogue:
        part, paid = planned.get(tactic.id), spent.get(tactic.id, nothing)
        window = schedule(
            tactic, plan.brief.event.date, as_of, plan.brief.event.time_zone, calendar.country, calendar=calendar
        )
        state, last = _state(tactic.id, part is not None, window, paid.amount > 0, tactic.id in excluded)
        if part is not None:
            begun = part.starts <= until or paid.amount > 0
            state = "over" if part.ends < as_of else "running" if begun else state
            state = "planned" if state == "can_start" else state
        due = sum((d.amount for d in part.daily_spend if d.date <= until), Decimal(0)) if part else Decimal(0)
        found.append(
            TacticState(
                tactic=tactic.id, name=tactic.name(language), state=state, spent=paid,
                planned=part.spend if part else None, last_start=last if state in ("too_late", "can_start") else None,
                planned_to_date=Money(amount=due, currency=currency) if part and part.daily_spend else None,
            )
        )  # fmt: skip
    return found


def _state(
    tactic: str, is_planned: bool, window: object, has_spent: bool, is_excluded: bool
) -> tuple[State, date | None]:
    """The state of a tactic that is not under way by the plan."""
    if isinstance(window, TooLate):
        return ("over" if has_spent else "too_late"), window.last_start
    if has_spent:
        return "running", None
    return ("excluded" if is_excluded and not is_planned else "can_start"), None


def _brief(
    plan: Plan,
    states: Iterable[TacticState],
    actuals: Actuals,
    all_spent: Decimal,
    as_of: date,
    catalogue: Catalogue,
) -> Brief:
    """The old question as of today, with what is spent held fast."""
    old = plan.brief
    rules = {catalogue.match(rule.tactic) or rule.tactic: rule for rule in old.constraints}
    finished_hours = 0.0
    for state in states:
        rule = rules.get(state.tactic)
        if state.spent.amount > 0:
            rules[state.tactic] = _held(state, rule)
        elif state.state == "over":
            rules[state.tactic] = Constraint(tactic=state.tactic, exclude=True)
        if state.state == "over":
            finished_hours += actuals.staff_hours.get(state.tactic, 0.0)
    budget = Money(amount=max(old.budget.amount, all_spent), currency=old.budget.currency)
    return old.model_copy(
        update={
            "as_of": as_of,
            "budget": budget,
            "constraints": list(rules.values()),
            "staff_hours": max(old.staff_hours - finished_hours, 0.0),
        }
    )


def _held(state: TacticState, rule: Constraint | None) -> Constraint:
    """A rule under which a tactic keeps what it spent: over, exactly that; running, at least that."""
    spent = state.spent
    if state.state == "over" or (rule is not None and rule.exclude):
        return Constraint(tactic=state.tactic, lock=spent)
    if rule is None:
        return Constraint(tactic=state.tactic, minimum=spent)
    if rule.lock is not None:
        return Constraint(tactic=state.tactic, lock=_larger(rule.lock, spent))
    return Constraint(
        tactic=state.tactic,
        minimum=_larger(rule.minimum, spent),
        maximum=_larger(rule.maximum, spent) if rule.maximum is not None else None,
    )


def _larger(given: Money | None, spent: Money) -> Money:
    """The larger of two amounts; of another currency, the given one is left to the planner unless nothing was said."""
    if given is None or (given.currency == spent.currency and given.amount < spent.amount):
        return spent
    return given


def _track(plan: Plan, actuals: Actuals, pacing: Pacing, forecast: _Forecast, until: date) -> list[TrackPoint]:
    """The expected course from the first day on which something is expected, and what came."""
    event_date = plan.brief.event.date
    levels = (np.arange(_TRACK_NODES) + 0.5) / _TRACK_NODES
    luck = np.exp(forecast.log_sd * np.sqrt(2) * _erfinv(2 * levels - 1) - forecast.log_sd**2 / 2)
    turned = np.random.default_rng(0).permutation(levels)
    came, points = 0, []
    for ahead in range(pacing.days[0], -1, -1):
        day = event_date - timedelta(days=ahead)
        share = pacing.expected_share(ahead)
        rates = forecast.mean * luck * forecast.shares_at(share, turned)
        low, high = np.quantile(rates, (0.1, 0.9))
        came = sum(n for d, n in actuals.by_day.items() if d <= day)
        known = bool(actuals.by_day) and day <= until
        if not actuals.by_day and day == until:
            came, known = actuals.registrations, True
        points.append(
            TrackPoint(
                date=day, expected=forecast.mean * share, p10=float(low), p90=float(high),
                actual=came if known else None,
            )
        )  # fmt: skip
    return points


def _erfinv(x: Floats) -> Floats:
    from scipy.special import erfinv

    return np.asarray(erfinv(x), dtype=np.float64)
