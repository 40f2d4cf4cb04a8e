"""What resembles a campaign report and must not be read as one: bulk sheets, partial reports, charts.

The rules are data, ``lookalikes.yaml``. A table refused here names the reason and the report to download instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ingestion.headers import Synonyms, header_key
from turnout.errors import Problem

if TYPE_CHECKING:
    from ingestion.reading import RawTable

#: Sources whose reports are by campaign.
_AD_SOURCES = ("google_ads", "meta_ads", "linkedin_ads")
#: Fields of a chart: days and figures, and nothing that says of what.
_CHART_DAYS = frozenset(("day", "week", "month"))
_CHART_FIGURES = frozenset(("spend", "impressions", "clicks", "clicks_all", "conversions", "results", "leads"))


@dataclass(frozen=True)
class _Rule:
    source: str
    code: str
    reason: str
    any: frozenset[str]
    several: frozenset[str]
    count: int
    with_fields: tuple[str, ...]
    without: tuple[str, ...]

    def holds(self, keys: frozenset[str], fields: frozenset[str]) -> bool:
        return (
            (not self.any or not self.any.isdisjoint(keys))
            and len(self.several & keys) >= self.count
            and all(f in fields for f in self.with_fields)
            and not any(f in fields for f in self.without)
        )


@lru_cache(maxsize=1)
def _rules() -> tuple[_Rule, ...]:
    loaded: Mapping[str, Mapping[str, Any]] = yaml.safe_load(
        Path(__file__).with_name("lookalikes.yaml").read_text(encoding="utf-8")
    )
    return tuple(
        _Rule(
            source=rule["source"],
            code=rule["code"],
            reason=rule["reason"].strip(),
            any=frozenset(map(header_key, rule.get("any", ()))),
            several=frozenset(map(header_key, rule.get("several", ()))),
            count=int(rule.get("count", 0)),
            with_fields=tuple(rule.get("with", ())),
            without=tuple(rule.get("without", ())),
        )
        for rule in loaded.values()
    )


def lookalike(table: RawTable, synonyms: Synonyms) -> Problem | None:
    """Why ``table`` must not be read as the report it resembles; ``None`` for what is no lookalike."""
    keys = frozenset(header_key(c.name.lstrip("*")) for c in table.columns)
    fields = {
        source: frozenset(f for c in table.columns if (f := synonyms.field(source, c.name)) is not None)
        for source in _AD_SOURCES
    }
    for rule in _rules():
        if rule.holds(keys, fields[rule.source]):
            return table.problem(rule.code, rule.reason, row=table.header_row)
    return _chart(table, fields)


def _chart(table: RawTable, fields: Mapping[str, frozenset[str]]) -> Problem | None:
    """A chart's download: days and one or two figures of the whole account."""
    if not 2 <= len(table.columns) <= 4:
        return None
    for known in fields.values():
        figures = known & _CHART_FIGURES
        if len(known) == len(table.columns) and known & _CHART_DAYS and figures and known <= _CHART_DAYS | figures:
            message = (
                "this is the download of a chart: days and sums of the whole account, without campaigns. Download the "
                "table of campaigns with the segment Day"
            )
            return table.problem("chart", message, row=table.header_row)
    return None
