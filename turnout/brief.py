"""The question: what a planner asks. Also the request schema of ``POST /v1/plans``.

A brief may be written in Japanese or English: categories, formats, industries, job titles and sizes are looked up in
:mod:`turnout.taxonomy` by any spelling it knows.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import Annotated, Literal, Self
from zoneinfo import available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from turnout import taxonomy

Day = date  # a field of Event is called date


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, validate_default=False)


class Money(_Model):
    """An amount in one currency. ``amount`` is in major units (yen, dollars)."""

    amount: Decimal = Field(ge=0, le=Decimal("1e12"), description="Major units, never negative.")
    currency: str = Field(default="JPY", pattern=r"^[A-Z]{3}$", description="ISO 4217 code.")


Category = Annotated[
    str, BeforeValidator(taxonomy.categories.parse), Field(description="Category id or any ja/en spelling.")
]
Format = Annotated[Literal["offline", "online", "hybrid"], BeforeValidator(taxonomy.formats.parse)]
Industry = Annotated[str, BeforeValidator(taxonomy.industries.parse)]
JobTitle = Annotated[str, BeforeValidator(taxonomy.job_titles.parse)]
CompanySize = Annotated[str, BeforeValidator(taxonomy.company_sizes.parse)]


class Audience(_Model):
    """Who should come. Empty lists mean everybody."""

    industries: list[Industry] = Field(default=[], max_length=34)
    job_titles: list[JobTitle] = Field(default=[], max_length=31)
    company_sizes: list[CompanySize] = Field(default=[], max_length=8)


class Event(_Model):
    """The room to fill."""

    name: str = Field(min_length=1, max_length=200)
    date: date
    time_zone: str = Field(default="Asia/Tokyo", max_length=64)
    category: Category
    theme: str = Field(default="", max_length=500)
    format: Format
    price: Money = Field(default_factory=lambda: Money(amount=Decimal(0)), description="Ticket price; 0 is free.")
    capacity: int | None = Field(default=None, ge=1, le=1_000_000)
    audience: Audience = Field(default_factory=Audience)
    organiser: str = Field(
        default="", max_length=200, description="The account the event is held under. Empty: any of the organisation's."
    )
    registration_opens: Day | None = Field(default=None, description="Day on which people can first register.")

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        if value not in _time_zones():
            raise ValueError(f"unknown time zone {value!r}; use an IANA name such as Asia/Tokyo")
        return value


class GoalMetric(StrEnum):
    registrations = "registrations"
    attendees = "attendees"


class Goal(_Model):
    """The number to reach."""

    target: int = Field(ge=1, le=1_000_000)
    metric: GoalMetric = GoalMetric.registrations


class Objective(StrEnum):
    """What the allocation makes best. The first version offers the first one."""

    most_registrations = "most_registrations"
    least_cost = "least_cost"
    highest_probability = "highest_probability"


class Assets(_Model):
    """What the team already has; sizes free tactics. ``None`` is unknown: the catalogue's typical size is used."""

    email_list: int | None = Field(default=None, ge=0, le=50_000_000, description="Addresses one may invite.")
    social_followers: int | None = Field(default=None, ge=0, le=500_000_000)
    community_members: int | None = Field(
        default=None, ge=0, le=50_000_000, description="connpass/Peatix/… group members."
    )
    partners: int | None = Field(default=None, ge=0, le=1_000)
    speakers: int | None = Field(default=None, ge=0, le=1_000)
    employees: int | None = Field(default=None, ge=0, le=1_000_000)
    sales_contacts: int | None = Field(default=None, ge=0, le=10_000_000)
    site_visitors: int | None = Field(
        default=None, ge=0, le=500_000_000, description="Monthly visitors one may retarget."
    )


class Constraint(_Model):
    """A rule about one tactic. ``lock`` fixes its spend; ``minimum`` holds only if the tactic is used at all."""

    tactic: str = Field(min_length=1, max_length=60)
    exclude: bool = False
    lock: Money | None = None
    minimum: Money | None = None
    maximum: Money | None = None

    @model_validator(mode="after")
    def _not_contradictory(self) -> Self:
        given = [n for n in ("lock", "minimum", "maximum") if getattr(self, n) is not None]
        if self.exclude and given:
            raise ValueError(f"tactic {self.tactic!r} is excluded, so it cannot also have {', '.join(given)}")
        if self.lock is not None and len(given) > 1:
            raise ValueError(f"tactic {self.tactic!r} is locked, so it cannot also have a minimum or maximum")
        if (
            self.minimum
            and self.maximum
            and self.minimum.currency == self.maximum.currency
            and self.minimum.amount > self.maximum.amount
        ):
            raise ValueError(
                f"tactic {self.tactic!r}: minimum {self.minimum.amount} is above maximum {self.maximum.amount}"
            )
        return self


class Brief(_Model):
    """One planning question."""

    event: Event
    goal: Goal
    budget: Money
    staff_hours: float = Field(default=80.0, ge=0, le=100_000, description="Hours the team can spend on promotion.")
    assets: Assets = Field(default_factory=Assets)
    constraints: list[Constraint] = Field(default=[], max_length=200)
    objective: Objective = Objective.most_registrations
    language: Literal["ja", "en"] = "en"
    as_of: date | None = Field(
        default=None, description="Plan as if it were this day. Default: today in the event's zone."
    )

    @model_validator(mode="after")
    def _one_rule_per_tactic(self) -> Self:
        seen: set[str] = set()
        for rule in self.constraints:
            if rule.tactic in seen:
                raise ValueError(f"two constraints name the tactic {rule.tactic!r}; merge them into one")
            seen.add(rule.tactic)
        return self
