"""Checks of ``registration``: who registered, from the registration system. The truth that claims are held against."""

from __future__ import annotations

import pandas as pd
from great_expectations import expectations as gxe

from expectations import partitions
from expectations.rules import Rule, Suite, filled, one_of, plausible_day, readable, required, unique
from expectations.tuning import Limits

#: Days before its event on which nobody registers yet, and after which nobody does any more: dates are a year off then.
_EARLIEST, _LATEST = 400, 14


def _derive(frame: pd.DataFrame, today: pd.Timestamp) -> pd.DataFrame:
    apart = (frame["registered_at"].dt.normalize() - frame["date"]).dt.days.abs()
    identity = frame["registrant_hash"].where(frame["registrant_hash"] != "")
    # the day of the event, where the warehouse knows it; see expectations.gate
    event_day = frame["event_day"] if "event_day" in frame else pd.Series(pd.NaT, index=frame.index)
    lead = (event_day - frame["date"]).dt.days
    fetched = frame["fetched_at"].dt.normalize()
    return frame.assign(
        days_apart=apart,
        event_day=event_day,
        far_day=event_day.where((lead > _EARLIEST) | (lead < -_LATEST)),
        early_attendee=event_day.where(frame["attended"].eq(True) & (event_day > fetched + pd.Timedelta(days=1))),
        # whoever cancelled and came again is two rows with two states, not a duplicate
        person=identity,
        at=frame["registered_at"].fillna(frame["date"]),
        ticket=filled(frame["ticket_type"]),
        event=filled(frame["event_id"]),
        absent_attendee=frame["status"].where((frame["status"] != "confirmed") & frame["attended"].eq(True)),
    )


def suite(today: pd.Timestamp, base_per_yen: float, limits: Limits) -> Suite:
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
            Rule(
                "attended_before_event",
                gxe.ExpectColumnValuesToBeNull(column="early_attendee", severity="warning"),
                "attended",
                "attended, though the event is on {event_day}",
            ),
            Rule(
                "far_from_event",
                gxe.ExpectColumnValuesToBeNull(column="far_day", severity="warning"),
                "date",
                "registered on {date} for an event on {event_day}: the year may be wrong",
            ),
        ),
        partitions=partitions.rules("registration", limits),
    )
