"""Meta Ads Manager: ads by day.

"Results" mixes kinds: a row's result indicator says which, and only completed registrations are registrations. Two ads
of one name on one day are two ads. The summary row of an export covers the whole period and names no campaign.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from ingestion.ads import AdsLayout
from ingestion.layouts import Context
from ingestion.reading import Column

_REGISTRATION = re.compile(
    r"complete[_ ]registration|registrations? completed|登録(の)?完了|registros? (completad|finalizad)"
    r"|cadastros? conclu|abgeschlossene registrierung|inscriptions? termin",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"(?:^|[:._ ])(?:onsite_conversion\.)?lead(?:s|_grouped)?\b|リード|clientes? potencial|prospect", re.IGNORECASE
)
_CONVERSION = re.compile(r"offsite_conversion|onsite_conversion|purchase|subscribe|submit|schedule|購入", re.IGNORECASE)


@lru_cache(maxsize=4_096)
def _kinds(indicator: str) -> tuple[bool, bool, bool]:
    """Whether a result is a conversion, of these a registration or a lead."""
    is_registration = _REGISTRATION.search(indicator) is not None
    is_lead = not is_registration and _LEAD.search(indicator) is not None
    return is_registration or is_lead or _CONVERSION.search(indicator) is not None, is_registration, is_lead


class AdsDaily(AdsLayout):
    """One row per ad (or ad set, or campaign) and day, or over the reporting period where days are not broken down."""

    name = "meta_ads.ads"
    source = "meta_ads"
    family = "meta_ads"
    required = ("campaign", "spend", "impressions")
    dated = True

    def results(self, value: Callable[[str], Any], fields: Mapping[str, Column]) -> dict[str, Decimal | None]:
        results = value("results")
        is_conversion, is_registration, is_lead = _kinds(value("result_kind") or "")
        registrations, leads = value("registrations"), value("leads")
        return {
            "conversions": results if is_conversion else None,
            "registrations": registrations if registrations is not None else results if is_registration else None,
            "leads": leads if leads is not None else results if is_lead else None,
        }

    def warn(self, fields: Mapping[str, Column], context: Context) -> None:
        if "results" in fields and "result_kind" not in fields and "registrations" not in fields:
            context.warnings.append(
                "the column of results says nothing of their kind, so no registrations are read; add the column "
                "'Result indicator' or 'Registrations completed' and export again"
            )


LAYOUTS = (AdsDaily(),)
