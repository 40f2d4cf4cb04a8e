"""LinkedIn Campaign Manager: campaign performance by day. Its days are days in UTC, whatever the account's zone.

An export in English writes 3/4/2026 for the 4th of March, one in Spanish for the 3rd of April.
"""

from __future__ import annotations

from collections.abc import Mapping

from ingestion.ads import AdsLayout
from ingestion.layouts import Context
from ingestion.reading import RawTable
from ingestion.values import DateOrder


class _Campaigns(AdsLayout):
    source = "linkedin_ads"
    family = "linkedin_ads"
    required = ("campaign", "spend", "impressions")
    date_hints: Mapping[str, DateOrder] = {"en": "mdy"}

    def time_zone(self, table: RawTable, context: Context) -> str:
        return table.stated.time_zone or "UTC"


class CampaignDaily(_Campaigns):
    """One row per campaign (or ad) and day."""

    name = "linkedin_ads.campaign_daily"
    dated = True


class CampaignPeriod(_Campaigns):
    """One row per campaign over the period stated above the header."""

    name = "linkedin_ads.campaign_period"
    dated = False


LAYOUTS = (CampaignDaily(), CampaignPeriod())
