"""Google Ads: the campaign report of the web interface, with and without the segment Day.

Days are those of the account's time zone, amounts in the account's currency, conversions fractional and claimed for
the day of the click. The rows below the table ("Total: Campaigns", "Total: Account", "Total: Search" …) overlap.
"""

from __future__ import annotations

from ingestion.ads import AdsLayout


class _Campaigns(AdsLayout):
    source = "google_ads"
    family = "google_ads"
    required = ("campaign", "spend", "impressions", "clicks")


class CampaignDaily(_Campaigns):
    """One row per campaign (or ad) and day."""

    name = "google_ads.campaign_daily"
    dated = True


class CampaignPeriod(_Campaigns):
    """One row per campaign over the period stated above the header."""

    name = "google_ads.campaign_period"
    dated = False


LAYOUTS = (CampaignDaily(), CampaignPeriod())
