"""Checks of ``tactic_result``: what a tactic brought, as the organiser wrote it down."""

from __future__ import annotations

import pandas as pd
from great_expectations import expectations as gxe

from expectations.rules import Rule, Suite, at_most, filled, not_negative, one_of, readable, required, unique
from expectations.tuning import Limits
from turnout.tactics import load_catalogue


def _derive(frame: pd.DataFrame, today: pd.Timestamp) -> pd.DataFrame:
    computed = frame["cost"] / frame["registrations"].where(frame["registrations"] > 0)
    return frame.assign(
        # a sheet's reach may be unique people and its clicks all clicks
        click_limit=frame["reach"] * 2 + 10,
        cpa_error=(computed - frame["reported_cpa"]).abs() - computed * 0.1,
        registration_limit=frame["clicks"].where(frame["clicks"] > 0),
        blank_event=frame["event_name"].where(filled(frame["event_name"]).str.strip() == ""),
    )


def suite(today: pd.Timestamp, base_per_yen: float, limits: Limits) -> Suite:
    """The checks as of ``today``."""
    return Suite(
        table="tactic_result",
        derive=_derive,
        rows=(
            *readable(),
            *required("result_id", "event_name", "tactic_id", "tactic_name", "currency", "fx_rate"),
            Rule(
                "missing", gxe.ExpectColumnValuesToBeNull(column="blank_event"), "event_name", "event_name is missing"
            ),
            *one_of("tactic_id", (tactic.id for tactic in load_catalogue().tactics), "tactic"),
            *not_negative(("reach", "clicks"), 1e10),
            *not_negative(("registrations",), 5_000_000),
            *not_negative(("cost", "reported_cpa"), 1e11),
            *not_negative(("staff_hours",), 20_000),
            Rule(
                "unknown_currency",
                gxe.ExpectColumnValuesToMatchRegex(column="currency", regex=r"^[A-Z]{3}$"),
                "currency",
                "currency is {currency}; expected a code of three capital letters such as JPY",
            ),
            *at_most(
                "clicks",
                "click_limit",
                "clicks_over_reach",
                "{clicks} clicks from a reach of {reach}: columns may be swapped",
            ),
            unique(
                ["organisation", "result_id"],
                "duplicate",
                "the tactic {tactic_name} of {event_name} appears twice with one audience; the first row was kept",
            ),
            *at_most(
                "registrations",
                "registration_limit",
                "more_registrations_than_clicks",
                "{registrations} registrations from {clicks} clicks",
                severity="warning",
            ),
            Rule(
                "cpa_differs",
                gxe.ExpectColumnValuesToBeBetween(column="cpa_error", max_value=1, severity="warning"),
                "reported_cpa",
                "the CPA written down ({reported_cpa}) is not cost by registrations ({cost} / {registrations})",
            ),
        ),
    )
