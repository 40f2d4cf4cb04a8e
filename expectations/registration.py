"""Checks of ``registration``: who registered, from the registration system. The truth that claims are held against."""

from __future__ import annotations

import pandas as pd
from great_expectations import expectations as gxe

from expectations import partitions
from expectations.rules import Rule, Suite, filled, one_of, plausible_day, readable, required, unique


def _derive(frame: pd.DataFrame, today: pd.Timestamp) -> pd.DataFrame:
    apart = (frame["registered_at"].dt.normalize() - frame["date"]).dt.days.abs()
    identity = frame["registrant_hash"].where(frame["registrant_hash"] != "")
    return frame.assign(
        days_apart=apart,
        # whoever cancelled and came again is two rows with two states, not a duplicate
        person=identity,
        at=frame["registered_at"].fillna(frame["date"]),
        ticket=filled(frame["ticket_type"]),
        event=filled(frame["event_id"]),
        absent_attendee=frame["status"].where((frame["status"] != "confirmed") & frame["attended"].eq(True)),
    )


def suite(today: pd.Timestamp, base_per_yen: float) -> Suite:
    """The checks as of ``today``."""
    return Suite(
        table="registration",
        derive=_derive,
        rows=(
            *readable(),
            *required("date", "status", "quantity"),
            *plausible_day("date", "2000-01-01", today),
            *one_of("status", ("confirmed", "cancelled", "waitlist"), "status"),
            Rule(
                "out_of_range",
                gxe.ExpectColumnValuesToBeBetween(column="quantity", min_value=1, max_value=1_000_000),
                "quantity",
                "quantity is {quantity}; it must be at least 1",
            ),
            Rule(
                "dates_apart",
                gxe.ExpectColumnValuesToBeBetween(column="days_apart", max_value=2),
                "registered_at",
                "registered at {registered_at}, but counted on {date}",
            ),
            unique(
                ["source", "account", "event", "person", "at", "ticket", "status"],
                "duplicate",
                "this registration appears twice; the first row was kept",
            ),
            Rule(
                "attended_without_registration",
                gxe.ExpectColumnValuesToBeNull(column="absent_attendee", severity="warning"),
                "attended",
                "attended, though the registration is {status}",
            ),
        ),
        partitions=partitions.rules(is_advertising=False, with_copies=False),
    )
