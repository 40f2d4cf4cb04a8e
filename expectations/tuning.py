"""What a user may adjust: limits, severities and silences, from ``<home>/expectations.yaml``.

    limits:
      spend_jump: 15            # warn when known campaigns spend so many times their dearest day
    checks:
      few_rows: off             # off, warn or stop
      click_rate_drift: stop
    silence:
      - {check: missing_days, source: linkedin_ads, account: "512", until: 2027-03-31, note: paused over winter}

Every key is checked: a name nobody knows is an error that lists the known ones, for a setting that does nothing is
worse than none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from turnout.errors import ConfigurationError

FILE_NAME = "expectations.yaml"
Level = Literal["off", "warn", "stop"]


class Limits(BaseModel):
    """Limits of the checks that compare with the weeks before. Ratios are above 1 and count in both directions where a
    figure may be too high or too low."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weeks: int = Field(default=8, ge=2, le=52, description="Weeks before a day that say what is usual.")
    enough_days: int = Field(default=14, ge=3, le=365, description="Days with data before which nothing is usual yet.")
    enough_rows: float = Field(default=20, ge=1, description="Usual rows a day below which a thin day says nothing.")
    few_rows: float = Field(default=0.2, gt=0, lt=1, description="Share of the usual rows.")
    many_rows: float = Field(default=4, gt=1, description="Times the most rows the same campaigns had.")
    spend_jump: float = Field(default=8, gt=1, description="Times the most the same campaigns spent in a day.")
    spend_jump_new: float = Field(default=30, gt=1, description="Times the account's dearest day, new campaigns.")
    spend_out_of_proportion: float = Field(default=300, gt=1, description="Times the account's dearest day: stops.")
    amount_scale: float = Field(default=40, gt=5, description="Times the usual cost per click and per view: stops.")
    cost_drift: float = Field(default=5, gt=1, description="Times the same campaigns' cost per click.")
    click_rate_drift: float = Field(default=4, gt=1, description="Times the same campaigns' click rate.")
    conversion_drift: float = Field(default=6, gt=1, description="Times the same campaigns' conversions per click.")
    enough_clicks: float = Field(default=30, ge=5, description="Clicks, seen or expected, below which rates vary.")
    enough_conversions: float = Field(default=25, ge=5, description="Likewise conversions.")
    open_rate_drift: float = Field(default=3, gt=1, description="Times the usual opens per mail over a week.")
    mail_click_drift: float = Field(default=5, gt=1, description="Times the usual clicks per mail over a week.")
    enough_mails: float = Field(default=1000, ge=50, description="Mails a week below which rates vary.")
    bounce_share: float = Field(default=0.05, gt=0, lt=1, description="Share of bounces that is worth a word.")
    bounce_drift: float = Field(default=4, gt=1, description="Times the usual share of bounces.")
    spam_share: float = Field(default=0.005, gt=0, lt=1, description="Share of spam reports; providers act at 0.3 %.")
    delivered_share: float = Field(default=0.7, gt=0, lt=1, description="Share delivered, where more is usual.")
    mails_jump: float = Field(default=20, gt=1, description="Times the most mails of a day.")
    registrations_jump: float = Field(default=10, gt=1, description="Times the most registrations of a day.")
    cancelled_share: float = Field(default=0.5, gt=0, lt=1, description="Share cancelled in a week.")
    show_up: float = Field(default=0.25, gt=0, lt=1, description="Share of attendees that events differ by.")
    restated_warn: float = Field(default=0.15, gt=0, lt=1, description="Change of closed days' sums: worth a word.")
    restated_stop: float = Field(default=0.5, gt=0, lt=1, description="Loss of closed days' sums: stops.")
    closed_days: int = Field(default=7, ge=1, le=365, description="Days after which figures hardly change.")
    presence: float = Field(default=0.95, gt=0.5, le=1, description="Share of days with data: a missing one tells.")


class Silence(BaseModel):
    """A check that says nothing for a source or account, until a day."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    check: str
    source: str | None = None
    account: str | None = None
    until: date | None = None
    note: str | None = None

    def covers(self, code: str, source: str, account: str, today: date) -> bool:
        """Whether it keeps ``code`` quiet for this account today."""
        return (
            self.check == code
            and self.source in (None, source)
            and self.account in (None, account)
            and (self.until is None or today <= self.until)
        )


class Tuning(BaseModel):
    """The whole file; its absence is the defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limits: Limits = Limits()
    checks: dict[str, Level] = Field(default_factory=dict)
    silence: tuple[Silence, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _words(cls, given: object) -> object:
        # YAML 1.1 reads a bare off as False
        if isinstance(given, dict) and isinstance(given.get("checks"), dict):
            given = {**given, "checks": {k: "off" if v is False else v for k, v in given["checks"].items()}}
        return given

    def naming_only(self, known: Iterable[str], origin: str) -> Self:
        """This tuning, all of whose checks exist.

        Raises:
            ConfigurationError: names those that do not.
        """
        codes = set(known)
        odd = sorted({*self.checks, *(s.check for s in self.silence)} - codes)
        if odd:
            known_codes = ", ".join(sorted(codes))
            raise ConfigurationError(f"{origin}: there is no check {', '.join(odd)}; known are {known_codes}")
        return self


def load_tuning(home: Path) -> Tuning:
    """The tuning of an installation.

    Raises:
        ConfigurationError: the file cannot be read, or holds something it should not; every fault is named.
    """
    path = home / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Tuning()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    try:
        return Tuning.model_validate(yaml.safe_load(text) or {})
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is no YAML: {error}") from error
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {'; '.join(_faults(error))}") from error


def _faults(error: ValidationError) -> Sequence[str]:
    return [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
