"""From a brief to a plan: score, allocate, schedule, say how sure one can be. Pure: no clock, no store, no network.

    1. The demand model gives the organic baseline, the show-up rate and the demand index.
    2. The response model gives one curve per tactic, all of them in one call.
    3. Tactics that are excluded, too late, or have nothing to work with are left out with the reason.
    4. The allocator divides budget and staff hours; its answer carries a proved bound.
    5. What was chosen is scheduled, all of it together (:mod:`turnout.timetable`), and the predictive distribution
       gives the intervals and the goal probability.
    6. The organiser's rules of thumb that apply are shown with their last verdicts; no number changes by them.

Treatments of this version, said where they matter:

* Tactics that reach the same people overlap (:mod:`turnout.scoring.overlap`): together they bring less than one by one,
  and what comes by itself is among it.
* *Referral* asks those who registered and *retargeting* those who visited: both are shares of what the other tactics
  and the organic baseline bring. Their curves hold at as many registrants as a first allocation without them expects,
  referral's at no fewer than the target, which its benchmark assumes.
* A marginal registration that costs more than :data:`MOST_PER_REGISTRATION_JPY` plus the ticket price is not worth its
  money, one that takes more than 1/:data:`HOURS_WORTH` staff hours not its time; what is left stays unspent.
* Money is planned in base currency and leaves in the budget's, each amount rounded down to what can be paid, so that
  the parts never add up past the budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Final
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from serving.briefs import check_brief, planning_day
from serving.messages import ASSETS, UNSPENT, text
from turnout.allocation import (
    Audience,
    Candidate,
    Choice,
    Credited,
    InfeasibleError,
    Problem,
    Solution,
    Status,
    credit,
    solve,
)
from turnout.brief import Brief, Constraint, GoalMetric, Money
from turnout.errors import InputError
from turnout.errors import Problem as Defect
from turnout.insight_check import Verdict, notes
from turnout.insights import Insight
from turnout.money import Rates, minor_digits
from turnout.plan import (
    Allocation,
    Alternative,
    Evidence,
    ModelVersion,
    Optimality,
    Plan,
    Skipped,
    SkipReason,
    Totals,
)
from turnout.schedule import TooLate, Window, schedule
from turnout.scoring import (
    Chosen,
    DemandModel,
    DemandOutlook,
    Predictive,
    ResponseModel,
    ScoringRequest,
    TacticResponse,
    predictive,
)
from turnout.scoring.effects import EventFacts
from turnout.scoring.untried import untried
from turnout.tactics import Tactic, load_catalogue
from turnout.tactics.catalogue import load_audiences
from turnout.timetable import Part, PortfolioSchedule, Timing, portfolio_schedule
from turnout.workdays import WorkCalendar

#: A guess: five times the dearest published benchmark of a B2B registration (20,000 yen).
MOST_PER_REGISTRATION_JPY: Final = 100_000.0
#: A guess: registrations one staff hour must bring. The brief's hours are there to be used, but not on nothing.
HOURS_WORTH: Final = 0.05
#: A tactic that brings less than this at its best is not worth a line in a plan.
FEWEST_REGISTRATIONS: Final = 0.5
STALE_AFTER: Final = timedelta(days=3)
OLD_AFTER: Final = timedelta(days=90)
OUT_OF_REACH: Final = 0.1
#: A goal counts as reached where it is at least as likely as not.
LIKELY: Final = 0.5
#: Less than this share of the budget is change, which needs no reason.
_CHANGE: Final = Decimal("0.001")
#: The cheapest portfolio for the goal is found to this share of its spend.
_CHEAPEST_TOLERANCE: Final = 0.02
_CHEAPEST_STEPS: Final = 9
_REFERRAL: Final = "referral"
#: Tactics that feed on what the others bring.
_OF_OTHERS: Final = frozenset({_REFERRAL, "retargeting"})
#: Proved gap asked of the allocator, and the seconds after which its best answer is taken with the bound it has.
GAP: Final = 1e-3
DEADLINE: Final = 0.4
#: The same for the alternatives, which are shown rounded.
_GAP_ASIDE: Final = 5e-3
_DEADLINE_ASIDE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Bundle:
    """The models a plan is made with."""

    response: ResponseModel
    demand: DemandModel

    @property
    def versions(self) -> list[ModelVersion]:
        return [
            ModelVersion(
                name=m.name,
                version=m.version,
                alias=m.alias,
                trained_until=m.trained_until,
                is_simulated_data=m.is_simulated_data,
            )
            for m in (self.response, self.demand)
        ]


@dataclass(frozen=True, slots=True)
class Features:
    """What the feature store knows of the tactics and the segment of one brief.

    Attributes:
        tactics: per tactic id, feature name → value; ``None`` is unknown.
        segment: features all tactics share.
        as_of: when the values were computed; ``None`` where the store has none.
    """

    tactics: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    segment: Mapping[str, float | None] = field(default_factory=dict)
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class Insights:
    """The rules of thumb of one organisation, and the last verdict on each that was checked."""

    rules: Sequence[Insight] = ()
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Option:
    """A tactic that may be used, with everything the allocator and the schedule need."""

    tactic: Tactic
    response: TacticResponse
    candidate: Candidate
    unit_price: float | None


def make_plan(
    brief: Brief,
    bundle: Bundle,
    features: Features,
    now: datetime,
    *,
    rates: Rates | None = None,
    country: str = "JP",
    calendar: WorkCalendar | None = None,
    insights: Insights | None = None,
    plan_id: UUID | None = None,
) -> Plan:
    """The best portfolio for a brief.

    Args:
        now: an aware datetime: when the plan is made. Its day in the event's zone is the day of planning unless the
            brief says ``as_of``.
        rates: exchange rates and the base currency; default: yen alone.
        country: whose public holidays and customary closures sends avoid, unless ``calendar`` says.
        calendar: the company's working days.
        insights: rules of thumb to show where they apply.

    Raises:
        InputError: the brief is well-formed but cannot be planned (event in the past, unknown tactic, currency without
            a rate, locks above the budget); names every such field.
    """
    rates = rates or Rates({"JPY": 1.0})
    check_brief(brief, now=now, catalogue=load_catalogue(), rates=rates)
    planner = _Planner(
        brief,
        bundle,
        features,
        now=now,
        rates=rates,
        calendar=calendar or WorkCalendar.of(country),
        insights=insights or Insights(),
    )
    return planner.plan(plan_id or uuid4())


class _Planner:
    """One planning question on its way to an answer."""

    def __init__(
        self,
        brief: Brief,
        bundle: Bundle,
        features: Features,
        *,
        now: datetime,
        rates: Rates,
        calendar: WorkCalendar,
        insights: Insights,
    ) -> None:
        self.brief = brief
        self.bundle = bundle
        self.features = features
        self.now = now
        self.rates = rates
        self.calendar = calendar
        self.insights = insights
        self.language = brief.language
        self.currency = brief.budget.currency
        self.as_of = planning_day(brief, now)
        self.catalogue = load_catalogue()
        self.rules: dict[str, Constraint] = {
            self.catalogue.match(rule.tactic) or rule.tactic: rule for rule in brief.constraints
        }
        self.budget = self._payable(rates.to_base(brief.budget))
        self.outlook: DemandOutlook = bundle.demand.outlook(
            brief.event.category,
            brief.event.date,
            self.as_of,
            str(brief.event.format),
            price=float(brief.event.price.amount),
            facts=EventFacts.of(brief, rates),
        )
        model = bundle.response.parameters
        size = model.event_size(EventFacts.of(brief, rates), self.outlook.index)
        self.audiences = model.overlap.audiences(size, self.outlook.organic_mean)
        #: What one more registration from each audience would add beside the plan, and what the plan brings.
        self.fresh = {audience.name: 1.0 for audience in self.audiences}
        self.expected = 0.0
        self.skipped: dict[str, Skipped] = {}
        ticket = rates.to_base(brief.event.price)
        self.money_worth = 1.0 / (rates.from_jpy(MOST_PER_REGISTRATION_JPY) + ticket)

    # --- the whole -------------------------------------------------------------------------------------------------
    def plan(self, plan_id: UUID) -> Plan:
        options = self._options()
        options, solution = self._allocate(options)
        together = self._credited(options, [solution[o.tactic.id].x for o in options])
        self.fresh = {a.name: float(left) for a, left in zip(self.audiences, together.fresh, strict=True)}
        self.expected = float(together.total)
        chosen = self._chosen(options, solution)
        outcome = self._predict(chosen, solution)
        timings = self._timetable(chosen).timings
        allocations = [self._allocation(o, choice, outcome, timings[o.tactic.id]) for o, choice in chosen]
        allocations.sort(key=lambda a: (-a.registrations.mean, a.tactic))
        self._skip_unused(options, solution)
        return Plan(
            plan_id=plan_id,
            created_at=self.now,
            brief=self.brief,
            allocations=allocations,
            skipped=[self.skipped[t.id] for t in self.catalogue if t.id in self.skipped],
            totals=self._totals(allocations, solution, outcome),
            alternatives=self._alternatives(options),
            optimality=_optimality(solution),
            models=self.bundle.versions,
            features_as_of=self.features.as_of,
            warnings=self._warnings(chosen, solution, outcome),
            insights=notes(self.insights.rules, self.insights.verdicts, self.brief),
        )

    # --- what may be used ------------------------------------------------------------------------------------------
    def _options(self) -> list[_Option]:
        """Tactics that may be used; the others are put into ``skipped``."""
        open_tactics = [t for t in self.catalogue if self._is_open(t)]
        # The priors count the days that are left, so they must know the day of planning.
        brief = self.brief.model_copy(update={"as_of": self.as_of})
        responses = self.bundle.response.score(
            ScoringRequest(
                brief=brief,
                as_of=self.as_of,
                tactics=open_tactics,
                features=self.features.tactics,
                segment=self.features.segment,
                demand=self.outlook,
                fx=self.rates,
            )
        )
        found = (self._option(t, r) for t, r in zip(open_tactics, responses, strict=True))
        return [option for option in found if option is not None]

    def _is_open(self, tactic: Tactic) -> bool:
        rule = self.rules.get(tactic.id)
        if rule is not None and (rule.exclude or (rule.lock is not None and rule.lock.amount == 0)):
            self._skip(tactic, SkipReason.excluded, text("excluded", self.language))
            return False
        if tactic.asset and getattr(self.brief.assets, tactic.asset) == 0:
            asset = ASSETS[tactic.asset][self.language]
            self._skip(tactic, SkipReason.no_asset, text("no_asset", self.language, asset=asset))
            return False
        window = self._window(tactic)
        if isinstance(window, TooLate):
            detail = text("too_late", self.language, preparation=tactic.preparation_days, run=tactic.minimum_run_days)
            self._skip(tactic, SkipReason.too_late, detail, window.last_start)
            return False
        return True

    def _option(self, tactic: Tactic, response: TacticResponse) -> _Option | None:
        most = response.curve.maximum
        rule = self.rules.get(tactic.id)
        lock = self.rates.to_base(rule.lock) if rule and rule.lock else None
        if lock is None and most < FEWEST_REGISTRATIONS:
            if most <= 0:
                self._skip(tactic, SkipReason.does_not_apply, text("brings_nothing", self.language))
            else:
                self._skip(tactic, SkipReason.not_worth_it, text("too_few", self.language, most=most))
            return None
        left = 1.0 if tactic.id in _OF_OTHERS else self.bundle.response.parameters.overlap.left(tactic)
        alone = response.curve.scaled(1.0 / left)
        reach = {} if tactic.id in _OF_OTHERS else load_audiences().reach(tactic)
        if not tactic.is_paid:
            candidate = Candidate(tactic.id, alone, cost=0.0, hours=1.0, maximum=_finite(response), reach=reach)
            return _Option(tactic, response, candidate, None)
        price = _unit_price(response) if tactic.cost.kind == "per_unit" else None
        hours = tactic.hours.hours_per_unit / price if price else 0.0
        common = Candidate(tactic.id, alone, hours=hours, fixed_hours=tactic.hours.setup_hours, reach=reach)
        if lock is not None:
            return _Option(tactic, response, replace(common, lock=self._payable(lock)), price)
        low = self.rates.from_jpy(tactic.cost.minimum_spend or 0.0)
        high = self.rates.from_jpy(tactic.cost.maximum_spend) if tactic.cost.maximum_spend else math.inf
        if rule and rule.maximum is not None:
            high = min(high, self.rates.to_base(rule.maximum))
        if rule and rule.minimum is not None:
            low = max(low, self.rates.to_base(rule.minimum))
        if low > high:
            detail = text("over_maximum", self.language, minimum=self._shown(low), maximum=self._shown(high))
            self._skip(tactic, SkipReason.over_budget, detail)
            return None
        return _Option(tactic, response, replace(common, minimum=low, maximum=high), price)

    # --- allocation ------------------------------------------------------------------------------------------------
    def _allocate(self, options: list[_Option]) -> tuple[list[_Option], Solution]:
        """The allocation, and the options it was made from (referral scaled, tactics that bring too few taken out)."""
        without = [o for o in options if o.tactic.id not in _OF_OTHERS]
        held = math.fsum(o.candidate.lock or 0.0 for o in options if o.tactic.id in _OF_OTHERS)
        try:
            solution = self._solve(without, max(self.budget - held, 0.0))
            if len(without) < len(options):
                options = [_feeding(o, solution.total, self.brief.goal.target) for o in options]
                solution = self._solve(options, self.budget)
        except InfeasibleError as conflict:
            raise InputError([self._conflict(p) for p in conflict.problems]) from conflict
        # one that is taken out gives its money to others, of which one may then be too small itself
        while small := _small(solution):
            for option in options:
                if option.tactic.id in small:
                    detail = text("too_few", self.language, most=solution[option.tactic.id].response)
                    self._skip(option.tactic, SkipReason.not_worth_it, detail)
            options = [o for o in options if o.tactic.id not in small]
            solution = self._solve(options, self.budget)
        return options, solution

    def _conflict(self, problem: Defect) -> Defect:
        message = text("conflict", self.language, what=problem.message)
        return replace(problem, message=message, column=problem.column or "constraints")

    def _solve(self, options: Sequence[_Option], budget: float) -> Solution:
        candidates = [o.candidate for o in options]
        return solve(self._problem(candidates, budget, self.audiences), gap=GAP, deadline=DEADLINE)

    def _problem(self, candidates: Sequence[Candidate], budget: float, audiences: Sequence[Audience] = ()) -> Problem:
        return Problem(
            candidates,
            budget=budget,
            hours=self.brief.staff_hours,
            unit=self.rates.unit,
            money_worth=self.money_worth,
            hours_worth=HOURS_WORTH,
            audiences=audiences,
        )

    def _solve_aside(self, options: Sequence[_Option], budget: float) -> Solution:
        """A portfolio for the alternatives: chosen as if the audiences were as full as the plan leaves them.

        That takes a tenth of the time, and the alternatives show what they would bring in truth: it is credited like
        every portfolio. Only that it is the best of its kind is not proved.
        """
        candidates = []
        for option in options:
            own = option.candidate
            left = 1.0 - math.fsum(weight * (1.0 - self.fresh[name]) for name, weight in own.reach.items())
            factor = self.expected if own.of_others else left
            candidates.append(replace(own, curve=own.curve.scaled(factor), reach={}, of_others=False))
        solution = solve(self._problem(candidates, budget), gap=_GAP_ASIDE, deadline=_DEADLINE_ASIDE)
        found = self._credited(options, [choice.x for choice in solution.choices])
        choices = tuple(
            replace(choice, response=float(response))
            for choice, response in zip(solution.choices, found.response, strict=True)
        )
        return replace(solution, choices=choices, response=float(found.response.sum()), organic=float(found.organic))

    def _credited(self, options: Sequence[_Option], x: Sequence[float]) -> Credited:
        """What a portfolio brings together."""
        candidates = [o.candidate for o in options]
        alone = [max(float(c.curve(v)), 0.0) if v > 0 else 0.0 for c, v in zip(candidates, x, strict=True)]
        return credit(self.audiences, [c.reach for c in candidates], alone, [c.of_others for c in candidates])

    def _chosen(self, options: Sequence[_Option], solution: Solution) -> list[tuple[_Option, Choice]]:
        return [(o, solution[o.tactic.id]) for o in options if solution[o.tactic.id].x > 0]

    def _predict(self, chosen: Sequence[tuple[_Option, Choice]], solution: Solution) -> Predictive:
        return predictive(
            [Chosen(o.tactic.id, max(choice.response, 0.0), o.response.log_sd) for o, choice in chosen],
            organic=solution.organic,
            organic_log_sd=self.outlook.organic_log_sd,
            shared_log_sd=self.bundle.response.shared_log_sd,
            goal=self.bundle.response.goal,
            show_up=self.outlook.show_up,
            target=self.brief.goal.target,
            metric=str(self.brief.goal.metric),
        )

    # --- alternatives ----------------------------------------------------------------------------------------------
    def _alternatives(self, options: list[_Option]) -> list[Alternative]:
        free = [o for o in options if not o.tactic.is_paid]
        found: list[Alternative] = []
        if len(free) < len(options):
            found.append(self._alternative("free_only", free, self._solve_aside(free, 0.0)))
        locked = math.fsum(o.candidate.lock or 0.0 for o in options)
        if self.budget > 0 and locked <= self.budget / 2:
            half = self._payable(self.budget / 2)
            found.append(self._alternative("half_budget", options, self._solve_aside(options, half)))
        cheapest = self._cheapest(options, locked)
        if cheapest is not None:
            found.append(self._alternative("cheapest_for_goal", options, cheapest))
        return found

    def _alternative(self, name: str, options: Sequence[_Option], solution: Solution) -> Alternative:
        outcome = self._predict(self._chosen(options, solution), solution)
        return Alternative.model_validate({
            "name": name,
            "spend": self._money(solution.total_spend),
            "registrations": outcome.total,
            "goal_probability": outcome.goal_probability,
        })  # fmt: skip

    def _cheapest(self, options: Sequence[_Option], locked: float) -> Solution | None:
        """The portfolio of least spend that is likelier than not to reach the goal, to within 2 % of its spend.

        ``None`` if none does, whatever the money.
        """
        low, high = locked, math.fsum(
            o.candidate.lock or min(o.candidate.maximum, o.candidate.curve.saturated, self.rates.from_jpy(1e8))
            for o in options if o.tactic.is_paid
        )  # fmt: skip
        high = max(low, self._payable(high))
        best = self._solve_aside(options, high)
        at_high = self._likelihood(options, best)
        if at_high < LIKELY:
            return None
        at_low = self._likelihood(options, cheap := self._solve_aside(options, low))
        if at_low >= LIKELY:
            return cheap
        high = min(high, best.total_spend)
        for step in range(_CHEAPEST_STEPS):
            if high <= low * (1 + _CHEAPEST_TOLERANCE) or high - low <= self.rates.unit:
                break
            # The likelihood rises with the spend and flattens: aim where a straight line would reach the goal, but
            # every second time at the geometric middle, for the answer may be a thousandth of what could be spent.
            share = min(max((LIKELY - at_low) / (at_high - at_low), 0.02), 0.9)
            aim = low + share * (high - low) if step % 2 == 0 else math.sqrt(max(low, self.rates.unit) * high)
            middle = self._payable(aim)
            if not low < middle < high:
                break
            tried = self._solve_aside(options, middle)
            reached = self._likelihood(options, tried)
            if reached >= LIKELY:
                best, high, at_high = tried, min(middle, tried.total_spend), reached
            else:
                low, at_low = middle, reached
        return best

    def _likelihood(self, options: Sequence[_Option], solution: Solution) -> float:
        return self._predict(self._chosen(options, solution), solution).goal_probability

    # --- the parts of the answer -----------------------------------------------------------------------------------
    def _timetable(self, chosen: Sequence[tuple[_Option, Choice]]) -> PortfolioSchedule:
        event = self.brief.event
        found = portfolio_schedule(
            [Part(o.tactic, self._money(c.spend).amount, _units(o, c.x), c.hours) for o, c in chosen],
            event.date,
            self.as_of,
            event.time_zone,
            currency=self.currency,
            pacing=self.outlook.pacing,
            calendar=self.calendar,
            rates=self.rates,
            assets=self.brief.assets,
        )
        assert not found.too_late, "only tactics that fit were offered to the allocator"
        return found

    def _allocation(self, option: _Option, choice: Choice, outcome: Predictive, timing: Timing) -> Allocation:
        tactic, response, window = option.tactic, option.response, timing.window
        reasons = list(response.reasons)
        if choice.status is Status.locked:
            reasons.append(text("locked", self.language))
        if tactic.id == _REFERRAL:
            registrants = outcome.total.mean - outcome.tactics[tactic.id].mean
            reasons.append(text("referral", self.language, registrants=registrants))
        if window.sends:
            days = ", ".join(f"{d.month}/{d.day}" if self.language == "ja" else f"{d:%b} {d.day}" for d in window.sends)
            reasons.append(text("sends", self.language, days=days))
        return Allocation(
            tactic=tactic.id,
            name=tactic.name(self.language),
            channel=tactic.channel,
            is_paid=tactic.is_paid,
            spend=self._money(choice.spend),
            staff_hours=round(choice.hours, 2),
            units=_units(option, choice.x),
            starts=window.starts,
            ends=window.ends,
            registrations=outcome.tactics[tactic.id],
            marginal_cpa=self._marginal_cpa(choice),
            evidence=response.evidence,
            evidence_source=response.evidence_source,
            reasons=[*reasons, *timing.notes(self.language)],
            sends=list(timing.sends),
            daily_spend=list(timing.daily_spend),
            staff_hours_by_week=list(timing.staff_hours_by_week),
            frequency_cap=timing.frequency_cap,
            insights=notes(self.insights.rules, self.insights.verdicts, self.brief, tactic.id),
        )

    def _marginal_cpa(self, choice: Choice) -> Money | None:
        if choice.status is Status.locked or choice.spend <= 0 or not choice.marginal_response:
            return None
        cost = 1.0 / choice.marginal_response
        return self.rates.money(cost, self.currency) if cost < self.rates.from_jpy(1e9) else None

    def _totals(self, allocations: Sequence[Allocation], solution: Solution, outcome: Predictive) -> Totals:
        spend = sum((a.spend.amount for a in allocations), Decimal(0))
        unspent = max(self.brief.budget.amount - spend, Decimal(0))
        reason = solution.unspent_reason if unspent > self.brief.budget.amount * _CHANGE else None
        return Totals(
            spend=Money(amount=spend, currency=self.currency),
            unspent=Money(amount=unspent, currency=self.currency),
            unspent_reason=UNSPENT[reason][self.language] if reason is not None else None,
            staff_hours=round(solution.total_hours, 2),
            organic_registrations=outcome.organic,
            registrations=outcome.total,
            attendees=outcome.attendees,
            show_up_rate=self.outlook.show_up.mean,
            goal_probability=outcome.goal_probability,
        )

    def _skip_unused(self, options: Sequence[_Option], solution: Solution) -> None:
        for option in options:
            choice, candidate = solution[option.tactic.id], option.candidate
            if choice.x > 0 or option.tactic.id in self.skipped:
                continue
            at = max(candidate.minimum, _first_step(option))
            match choice.status:
                case Status.over_budget:
                    detail = text("over_budget", self.language, minimum=self._shown(candidate.money_at(at)))
                    self._skip(option.tactic, SkipReason.over_budget, detail)
                case Status.no_hours:
                    detail = text("no_hours", self.language, hours=candidate.hours_at(max(at, self.rates.unit)))
                    self._skip(option.tactic, SkipReason.no_hours, detail)
                case _:
                    self._skip(option.tactic, SkipReason.not_worth_it, text("not_worth_it", self.language))

    def _warnings(self, chosen: Sequence[tuple[_Option, Choice]], solution: Solution, outcome: Predictive) -> list[str]:
        found: list[tuple[str, dict[str, object]]] = []
        if any(m.is_simulated_data for m in self.bundle.versions):
            found.append(("simulated", {}))
        evidence = {option.response.evidence for option, _ in chosen}
        if chosen and not evidence & {Evidence.own_data, Evidence.similar_events}:
            found.append(("benchmark_only", {}))
        guesses = [o.tactic.name(self.language) for o, _ in chosen if o.response.evidence is Evidence.guess]
        if guesses and evidence & {Evidence.own_data, Evidence.similar_events}:
            found.append(("guesses", {"names": ", ".join(guesses)}))
        found += self._untried_warnings(chosen)
        found += self._age_warnings()
        assumed = {
            o.tactic.asset: None
            for o, _ in chosen
            if o.tactic.asset
            and getattr(self.brief.assets, o.tactic.asset) is None
            and o.response.evidence in (Evidence.benchmark, Evidence.guess)
        }
        if assumed:
            found.append(("assumed", {"assets": ", ".join(ASSETS[a][self.language] for a in assumed)}))
        foreign = sorted(self._currencies() - {self.rates.base})
        if foreign:
            shown = ", ".join(
                f"1 {c} = {self.rates.convert(1.0, c, self.rates.base):g} {self.rates.base}" for c in foreign
            )
            found.append(("converted", {"day": self.rates.day or "?", "rates": shown}))
        goal = self.brief.goal
        if outcome.goal_probability < OUT_OF_REACH:
            expected = outcome.attendees if goal.metric is GoalMetric.attendees else outcome.total
            found.append(("goal_out_of_reach", {"target": goal.target, "expected": expected.mean}))
        capacity = self.brief.event.capacity
        if capacity is not None and outcome.attendees.mean > capacity:
            found.append(("over_capacity", {"expected": outcome.attendees.mean, "capacity": capacity}))
        if not solution.proved:
            found.append(("not_proved", {"gap": solution.gap}))
        return [text(key, self.language, **values) for key, values in found]

    def _untried_warnings(self, chosen: Sequence[tuple[_Option, Choice]]) -> list[tuple[str, dict[str, object]]]:
        """Paid tactics at amounts that history does not cover."""
        known = self.bundle.response.parameters.tactics
        names: dict[str, list[str]] = {}
        for option, choice in chosen:
            for one in untried(known.get(option.tactic.id), choice.x) if option.tactic.is_paid else ():
                seen = self._shown(one.most if one.kind == "beyond" else one.typical)
                key = "beyond_tried" if one.kind == "beyond" else "constant_spend"
                shown = f"{option.tactic.name(self.language)} ({self._shown(choice.x)}; ≤ {seen})"
                if one.kind == "constant":
                    shown = f"{option.tactic.name(self.language)} ({one.events} × {seen})"
                names.setdefault(key, []).append(shown)
        return [(key, {"names": ", ".join(listed)}) for key, listed in names.items()]

    def _age_warnings(self) -> list[tuple[str, dict[str, object]]]:
        found: list[tuple[str, dict[str, object]]] = []
        has_history = self.bundle.response.trained_until is not None
        age = self.now - self.features.as_of if self.features.as_of else None
        if age is None and has_history:
            found.append(("no_features", {}))
        elif age is not None and age > STALE_AFTER:
            found.append(("stale_features", {"days": age.days}))
        untils = [u for u in (self.bundle.response.trained_until, self.bundle.demand.trained_until) if u]
        if untils and self.as_of - min(untils) > OLD_AFTER:
            found.append(("old_model", {"until": min(untils).isoformat()}))
        today = self.now.astimezone(ZoneInfo(self.brief.event.time_zone)).date()
        if self.as_of != today:
            found.append(("as_of", {"as_of": self.as_of.isoformat()}))
        return found

    # --- helpers ---------------------------------------------------------------------------------------------------
    def _window(self, tactic: Tactic) -> Window | TooLate:
        event = self.brief.event
        return schedule(tactic, event.date, self.as_of, event.time_zone, calendar=self.calendar)

    def _skip(self, tactic: Tactic, reason: SkipReason, detail: str, last_start: date | None = None) -> None:
        self.skipped[tactic.id] = Skipped(
            tactic=tactic.id, name=tactic.name(self.language), reason=reason, detail=detail, last_start=last_start
        )

    def _currencies(self) -> set[str]:
        amounts = [self.brief.budget, self.brief.event.price]
        amounts += [m for r in self.brief.constraints for m in (r.lock, r.minimum, r.maximum) if m is not None]
        return {m.currency for m in amounts if m.amount > 0}

    def _payable(self, amount: float) -> float:
        """``amount`` of base currency rounded down to what can be paid."""
        unit = self.rates.unit
        return math.floor(amount / unit * (1 + 1e-12)) * unit

    def _money(self, amount: float) -> Money:
        """``amount`` of base currency in the budget's currency, rounded down to what can be paid."""
        exact = Decimal(repr(self.rates.convert(amount, self.rates.base, self.currency)))
        smallest = Decimal(1).scaleb(-minor_digits(self.currency))
        # A whole amount that a conversion there and back left a hair short is that whole amount.
        nearest = exact.quantize(smallest)
        close = abs(nearest - exact) <= abs(exact) * Decimal("1e-9")
        return Money(amount=nearest if close else exact.quantize(smallest, rounding=ROUND_DOWN), currency=self.currency)

    def _shown(self, amount: float) -> str:
        money = self.rates.money(amount, self.currency)
        return f"{money.amount:,} {money.currency}"


def _finite(response: TacticResponse) -> float:
    """Beyond this many hours a free tactic brings nothing more."""
    return response.curve.saturated


def _unit_price(response: TacticResponse) -> float | None:
    knots = response.curve.knots()
    return float(knots[0][knots[0] > 0][0]) if knots is not None and (knots[0] > 0).any() else None


def _units(option: _Option, x: float) -> int | None:
    """Whole units that x pays for; ``None`` where the tactic has none."""
    if option.response.curve.knots() is None or option.tactic.curve_kind != "step":
        return None
    at = option.response.curve.knots()[0]  # type: ignore[index]
    return int((at[at > 0] <= x * (1 + 1e-9)).sum())


def _first_step(option: _Option) -> float:
    """The smallest x that brings anything, where that is a step."""
    if option.tactic.curve_kind != "step":
        return option.tactic.hours.setup_hours if not option.tactic.is_paid else 0.0
    return _unit_price(option.response) or 0.0


def _small(solution: Solution) -> set[str]:
    """Tactics that are used and bring less than is worth a line."""
    return {c.name for c in solution.choices if c.status is Status.used and c.response < FEWEST_REGISTRATIONS}


def _feeding(option: _Option, others: float, target: int) -> _Option:
    """A tactic that feeds on the others, its curve as a share of what they bring; every other option as it is."""
    if option.tactic.id not in _OF_OTHERS:
        return option
    registrants = max(others, float(target)) if option.tactic.id == _REFERRAL else max(others, 1.0)
    share = option.response.curve.scaled(1.0 / registrants)
    return replace(option, candidate=replace(option.candidate, curve=share, reach={}, of_others=True))


def _optimality(solution: Solution) -> Optimality:
    bound = solution.response + max(solution.upper_bound - solution.objective, 0.0)
    return Optimality(
        expected_registrations=solution.response,
        upper_bound=bound,
        gap=(bound - solution.response) / bound if bound > 0 else 0.0,
    )
