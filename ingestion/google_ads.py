"""Google Ads: the campaign report of the web interface, with and without the segment Day.

Days are those of the account's time zone, amounts in the account's currency, conversions fractional and claimed for
the day of the click. The rows below the table ("Total: Campaigns", "Total: Account", "Total: Search" …) overlap.
"""

from __future__ import annotations

import re

from ingestion.ads import AdsLayout, parse_id
from ingestion.values import Cell

_DASHED_ID = re.compile(r"\d{3}-\d{3}-\d{4}")


class _Campaigns(AdsLayout):
    source = "google_ads"
    family = "google_ads"
    required = ("campaign", "spend", "impressions", "clicks")

    def account_id(self, cell: Cell) -> str | None:
        """``123-456-7890`` of the screen is ``1234567890`` of the API."""
        found = parse_id(cell)
        return found.replace("-", "") if found is not None and _DASHED_ID.fullmatch(found) else found


class CampaignDaily(_Campaigns):
    """One row per campaign (or ad) and day."""

    name = "google_ads.campaign_daily"
    dated = True


class CampaignPeriod(_Campaigns):
    """One row per campaign over the period stated above the header."""

    name = "google_ads.campaign_period"
    dated = False


LAYOUTS = (CampaignDaily(), CampaignPeriod())
