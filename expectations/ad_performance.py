"""Checks of ``ad_performance``: what ad platforms report by campaign and day.

Relations that hold and that need not:

* Clicks do not exceed impressions, but a click counts on its own day and the impression on the day before, so around
  midnight a small campaign may show more clicks. LinkedIn's message ads count clicks against sends and have no
  impressions of their own, so for LinkedIn the rule does not hold.
* Conversions may exceed clicks: people convert days later, and view-through conversions have no click at all.
* Unknown figures are no zeros, and none of these rules looks at them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from great_expectations import expectations as gxe

from expectations import partitions
from expectations.rules import (
    Rule,
    Suite,
    at_most,
    finished,
    not_negative,
    plausible_day,
    readable,
    required,
    unfinished,
)
from expectations.tuning import Limits

#: Clicks above impressions that the turn of the day explains: a share and a few.
_CLICK_SLACK_SHARE, _CLICK_SLACK = 0.10, 10
#: So many more are not worth a word.
_FEW_CLICKS = 3
#: Base currency per thousand impressions beyond which a figure is in the wrong unit (millionths, or a lost decimal
#: point): LinkedIn messages, the dearest, cost about 100 yen each, which is 100,000 per thousand.
_COST_PER_MILLE_LIMIT = 5_000_000.0
#: Fewer impressions than this say nothing about the price.
_ENOUGH_IMPRESSIONS = 100
_COUNTS = ("impressions", "clicks", "conversions", "registrations", "leads")


def _derive(frame: pd.DataFrame, today: pd.Timestamp) -> pd.DataFrame:
    impressions, clicks, spend = frame["impressions"], frame["clicks"], frame["spend_base"]
    most_clicks = impressions * (1 + _CLICK_SLACK_SHARE) + _CLICK_SLACK
    strict = frame["source"].isin(["google_ads", "meta_ads"])
    return frame.assign(
        click_limit=np.where(strict, most_clicks, np.nan),
        cost_per_mille=np.where(impressions >= _ENOUGH_IMPRESSIONS, spend / impressions * 1000, np.nan),
        # beyond the limit a row is refused, and needs no warning
        close_click_limit=np.where(strict & (clicks <= most_clicks), impressions + _FEW_CLICKS, np.nan),
        conversion_limit=clicks * 5 + 50,
        spend_error=(frame["spend"] * frame["fx_rate"] - spend).abs() - (spend.abs() * 1e-3 + 1),
        idle_spend=np.where((impressions == 0) & (clicks.fillna(0) == 0), frame["spend"], np.nan),
        claimed_limit=frame["conversions"],
        unmarked_day=unfinished(frame),
    )


def suite(today: pd.Timestamp, base_per_yen: float, limits: Limits) -> Suite:
    """The checks as of ``today``; ``base_per_yen`` turns limits given in yen into the base currency."""
    return Suite(
        table="ad_performance",
        derive=_derive,
        rows=(
            *readable(),
            *required("date", "period_end", "campaign_id", "campaign_name", "currency", "fx_rate"),
            *plausible_day("date", "2005-01-01", today),
            *at_most("date", "period_end", "period_reversed", "the period ends {period_end}, before its start {date}"),
            finished(),
            *not_negative(_COUNTS, 1e10),
            *not_negative(("spend",), 1e10),
            Rule(
                "unknown_currency",
                gxe.ExpectColumnValuesToMatchRegex(column="currency", regex=r"^[A-Z]{3}$"),
                "currency",
                "currency is {currency}; expected a code of three capital letters such as JPY",
            ),
            Rule(
                "bad_rate",
                gxe.ExpectColumnValuesToBeBetween(column="fx_rate", min_value=0, strict_min=True, max_value=1e7),
                "fx_rate",
                "the exchange rate is {fx_rate}; it must be above 0",
            ),
            Rule(
                "wrong_conversion",
                gxe.ExpectColumnValuesToBeBetween(column="spend_error", max_value=0),
                "spend_base",
                "spend {spend} at the rate {fx_rate} is not {spend_base}",
            ),
            *at_most(
                "clicks",
                "click_limit",
                "clicks_over_impressions",
                "{clicks} clicks on {impressions} impressions: columns may be swapped",
            ),
            *at_most(
                "clicks",
                "close_click_limit",
                "more_clicks_than_impressions",
                "{clicks} clicks on {impressions} impressions",
                severity="warning",
            ),
            Rule(
                "implausible_price",
                gxe.ExpectColumnValuesToBeBetween(
                    column="cost_per_mille", max_value=_COST_PER_MILLE_LIMIT * base_per_yen
                ),
                "spend",
                "spend of {spend} {currency} for {impressions} impressions: the amount may be in millionths",
            ),
            *at_most(
                "conversions",
                "conversion_limit",
                "many_conversions",
                "{conversions} conversions from {clicks} clicks",
                severity="warning",
            ),
            *at_most(
                "registrations",
                "claimed_limit",
                "more_registrations_than_conversions",
                "{registrations} registrations among {conversions} conversions",
                severity="warning",
            ),
            Rule(
                "spend_without_impressions",
                gxe.ExpectColumnValuesToBeBetween(column="idle_spend", max_value=0, severity="warning"),
                "spend",
                "spend of {spend} {currency} without an impression or a click",
            ),
        ),
        partitions=partitions.rules("ad_performance", limits),
    )
