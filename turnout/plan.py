"""The answer: a portfolio of tactics with what to expect of it. Also the response schema of ``POST /v1/plans``."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from turnout.brief import Brief, Money


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Interval(_Model):
    """Mean and quantiles of a predictive distribution, in people."""

    mean: float = Field(ge=0)
    p10: float = Field(ge=0)
    p50: float = Field(ge=0)
    p90: float = Field(ge=0)


class Evidence(StrEnum):
    """Where a number comes from, best first."""

    own_data = "own_data"
    similar_events = "similar_events"
    benchmark = "benchmark"
    guess = "guess"


Day = date  # a field of DailySpend is called date


class DailySpend(_Model):
    """What is spent on one day, in the currency of the tactic's spend."""

    date: Day
    amount: Decimal = Field(gt=0)


class WeekHours(_Model):
    """Staff hours of one week."""

    week: date = Field(description="Its Monday.")
    hours: float = Field(gt=0)


class FrequencyCap(_Model):
    """How often one person should see an advertisement: to be set on the platform."""

    impressions: int = Field(ge=1)
    days: int = Field(ge=1)
    shared_with: list[str] = Field(default=[], description="Tactics that show to the same people: one cap for all.")


class InsightNote(_Model):
    """A rule of thumb of the organiser's that applies here, and what the history says of it."""

    insight_id: str
    text: str
    impact: str | None = None
    confidence: str | None = None
    verdict: Literal["supported", "contradicted", "untested"] | None = Field(
        default=None, description="Of the last check; none where it was not checked yet."
    )
    detail: str = Field(default="", description="The verdict in words, with its numbers.")


class Allocation(_Model):
    """One tactic of the portfolio."""

    tactic: str
    name: str = Field(description="In the brief's language.")
    channel: str
    is_paid: bool
    spend: Money
    staff_hours: float = Field(ge=0)
    units: int | None = Field(
        default=None, description="Whole units bought (releases, slots), where the tactic has them."
    )
    starts: date
    ends: date
    registrations: Interval
    marginal_cpa: Money | None = Field(
        default=None, description="Cost of the next registration; none where spend is 0 or fixed."
    )
    evidence: Evidence
    evidence_source: str = Field(description="Which data or publication the number rests on.")
    reasons: list[str] = []
    sends: list[datetime] = Field(default=[], description="When each send or post goes out, in the event's zone.")
    daily_spend: list[DailySpend] = Field(default=[], description="Adds up to the spend to the last unit.")
    staff_hours_by_week: list[WeekHours] = []
    frequency_cap: FrequencyCap | None = None
    insights: list[InsightNote] = Field(default=[], description="Rules of thumb that speak of this tactic, here.")


class SkipReason(StrEnum):
    excluded = "excluded"
    too_late = "too_late"
    no_asset = "no_asset"
    not_worth_it = "not_worth_it"
    over_budget = "over_budget"
    no_hours = "no_hours"
    does_not_apply = "does_not_apply"


class Skipped(_Model):
    """A tactic left out, and why."""

    tactic: str
    name: str
    reason: SkipReason
    detail: str
    last_start: date | None = Field(default=None, description="The last day it would have worked, for too_late.")


class Totals(_Model):
    spend: Money
    unspent: Money
    unspent_reason: str | None = None
    staff_hours: float
    organic_registrations: Interval = Field(description="What would come without any tactic.")
    registrations: Interval
    attendees: Interval
    show_up_rate: float = Field(ge=0, le=1)
    goal_probability: float = Field(ge=0, le=1)


class Optimality(_Model):
    """How good the allocation provably is."""

    expected_registrations: float
    upper_bound: float
    gap: float = Field(ge=0, description="(bound - value) / bound")


class ModelVersion(_Model):
    name: str
    version: str
    alias: str | None = None
    trained_until: date | None = None
    is_simulated_data: bool = False


class Alternative(_Model):
    """A different portfolio worth knowing of."""

    name: Literal["free_only", "half_budget", "cheapest_for_goal"]
    spend: Money
    registrations: Interval
    goal_probability: float


class Plan(_Model):
    plan_id: UUID
    created_at: datetime
    brief: Brief
    allocations: list[Allocation]
    skipped: list[Skipped]
    totals: Totals
    alternatives: list[Alternative] = []
    optimality: Optimality
    models: list[ModelVersion]
    features_as_of: datetime | None = None
    warnings: list[str] = []
    insights: list[InsightNote] = Field(default=[], description="Rules of thumb that speak of the event as a whole.")
