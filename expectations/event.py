"""Checks of ``event``: what the organiser holds."""

from __future__ import annotations

import pandas as pd
from great_expectations import expectations as gxe

from expectations.rules import (
    Rule,
    Suite,
    at_most,
    filled,
    not_negative,
    one_of,
    readable,
    required,
    unique,
)
from expectations.tuning import Limits
from turnout import taxonomy


def _derive(frame: pd.DataFrame, today: pd.Timestamp) -> pd.DataFrame:
    registrations = frame["actual_registrations"]
    return frame.assign(
        attendee_limit=registrations * 1.5 + 20,
        capacity_limit=frame["capacity"] * 20 + 100,
        cost_limit=frame["budget"] * 100 + 1,
        blank_name=frame["name"].where(filled(frame["name"]).str.strip() == ""),
    )


def suite(today: pd.Timestamp, base_per_yen: float, limits: Limits) -> Suite:
    """The checks as of ``today``."""
    latest = (today + pd.Timedelta(days=5 * 366)).to_pydatetime()
    return Suite(
        table="event",
        derive=_derive,
        rows=(
            *readable(),
            *required("event_id", "name", "event_date", "category", "format", "currency"),
            Rule("missing", gxe.ExpectColumnValuesToBeNull(column="blank_name"), "name", "name is missing"),
            Rule(
                "implausible_date",
                gxe.ExpectColumnValuesToBeBetween(
                    column="event_date", min_value=pd.Timestamp("2000-01-01").to_pydatetime(), max_value=latest
                ),
                "event_date",
                f"event_date is {{event_date}}; expected a day from 2000-01-01 to {latest:%Y-%m-%d}",
            ),
            *one_of("format", taxonomy.formats.ids, "format"),
            *one_of("category", taxonomy.categories.ids, "category"),
            *not_negative(
                ("target_registrations", "actual_registrations", "actual_attendees", "capacity"), 5_000_000
            ),
            *not_negative(("budget", "actual_cost"), 1e12),
            *not_negative(("price",), 1e8),
            Rule(
                "unknown_currency",
                gxe.ExpectColumnValuesToMatchRegex(column="currency", regex=r"^[A-Z]{3}$"),
                "currency",
                "currency is {currency}; expected a code of three capital letters such as JPY",
            ),
            unique(["organisation", "event_id"], "duplicate", "the event {name} of {event_date} appears twice"),
            *at_most(
                "registration_opens",
                "event_date",
                "opens_after_event",
                "registration opens {registration_opens}, after the event ({event_date})",
                severity="warning",
            ),
            *at_most(
                "actual_attendees",
                "attendee_limit",
                "more_attendees_than_registrations",
                "{actual_attendees} attendees of {actual_registrations} registrations",
                severity="warning",
            ),
            *at_most(
                "actual_registrations",
                "capacity_limit",
                "far_over_capacity",
                "{actual_registrations} registrations for {capacity} places",
                severity="warning",
            ),
            *at_most(
                "actual_cost",
                "cost_limit",
                "far_over_budget",
                "cost {actual_cost} on a budget of {budget}",
                severity="warning",
            ),
        ),
    )  # fmt: skip
