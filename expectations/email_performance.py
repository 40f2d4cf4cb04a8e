"""Checks of ``email_performance``: SendGrid's statistics by category and day.

A mail may be delivered, opened and clicked on later days than it was requested, so of the relations between columns
only those within one kind of event hold: unique opens do not exceed opens, unique clicks do not exceed clicks. Unique
opens above deliveries are legal (yesterday's mail is opened today), as are more deliveries than requests.
"""

from __future__ import annotations

import pandas as pd

from expectations import partitions
from expectations.rules import Suite, at_most, filled, not_negative, plausible_day, readable, required, unique
from turnout.warehouse.tables import EMAIL_METRICS


def _derive(frame: pd.DataFrame, today: pd.Timestamp) -> pd.DataFrame:
    return frame.assign(
        delivery_limit=frame["requests"] * 1.5 + 1000, open_limit=frame["delivered"] * 3 + 1000,
        category=filled(frame["category"]),
    )  # fmt: skip


def suite(today: pd.Timestamp, base_per_yen: float) -> Suite:
    """The checks as of ``today``."""
    return Suite(
        table="email_performance",
        derive=_derive,
        rows=(
            *readable(),
            *required("date"),
            *plausible_day("date", "2009-01-01", today),
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
            *at_most(
                "delivered",
                "delivery_limit",
                "many_deliveries",
                "{delivered} mails delivered of {requests} requested",
                severity="warning",
            ),
            *at_most(
                "unique_opens",
                "open_limit",
                "many_opens",
                "{unique_opens} unique opens of {delivered} mails delivered",
                severity="warning",
            ),
            unique(
                ["source", "account", "date", "category"],
                "duplicate",
                "the day {date} of category {category} appears twice; the first row was kept",
            ),
        ),
        partitions=partitions.rules(with_spend=False),
    )
