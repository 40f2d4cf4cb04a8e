"""Checks of ``email_performance``: SendGrid's statistics by category and day.

A mail may be delivered, opened and clicked on later days than it was requested, so of the relations between columns
only those within one kind of event hold: unique opens do not exceed opens, unique clicks do not exceed clicks. A day
with a thousand unique opens and no delivery is an ordinary day after a mailing, and says nothing.
"""

from __future__ import annotations

import pandas as pd

from expectations import partitions
from expectations.rules import (
    Suite,
    at_most,
    filled,
    finished,
    not_negative,
    plausible_day,
    readable,
    required,
    unfinished,
    unique,
)
from expectations.tuning import Limits
from turnout.warehouse.tables import EMAIL_METRICS


def _derive(frame: pd.DataFrame, today: pd.Timestamp) -> pd.DataFrame:
    return frame.assign(category=filled(frame["category"]), unmarked_day=unfinished(frame))


def suite(today: pd.Timestamp, base_per_yen: float, limits: Limits) -> Suite:
    """The checks as of ``today``."""
    return Suite(
        table="email_performance",
        derive=_derive,
        rows=(
            *readable(),
            *required("date"),
            *plausible_day("date", "2009-01-01", today),
            finished(),
            *not_negative(EMAIL_METRICS, 1e10),
            *at_most(
                "unique_opens", "opens", "unique_opens_over_opens", "{unique_opens} unique opens among {opens} opens"
            ),
            *at_most(
                "unique_clicks",
                "clicks",
                "unique_clicks_over_clicks",
                "{unique_clicks} unique clicks among {clicks} clicks",
            ),
            unique(
                ["source", "account", "date", "category"],
                "duplicate",
                "the day {date} of category {category} appears twice; the first row was kept",
            ),
        ),
        partitions=partitions.rules("email_performance", limits),
    )
