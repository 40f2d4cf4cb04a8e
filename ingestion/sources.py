"""What each source amounts to so far: behind ``turnout sources list``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy import Engine

from ingestion.connectors.run import CONNECTED_SOURCES, is_configured
from turnout.settings import Settings
from turnout.warehouse import tables as wh

#: Source → the table its rows go to, where that has days.
_FACTS = {
    "google_ads": wh.ad_performance,
    "meta_ads": wh.ad_performance,
    "linkedin_ads": wh.ad_performance,
    "sendgrid": wh.email_performance,
    "registrations": wh.registration,
}


@dataclass(frozen=True)
class SourceState:
    """One source of an organisation.

    Attributes:
        has_api: whether its API is set up; ``None`` for a source that has none.
        lookback_days: how far back each night reads.
        rows, first, last: what the warehouse holds of it; a sheet's rows are its events and results.
        read_at: when anything of it was last read.
    """

    source: str
    has_api: bool | None
    lookback_days: int
    accounts: tuple[str, ...]
    rows: int
    first: date | None
    last: date | None
    read_at: datetime | None


def source_states(settings: Settings, engine: Engine) -> list[SourceState]:
    """Every source, in the order in which a night reads them."""
    with engine.connect() as connection:
        t = wh.ingest_file
        read = dict(
            connection.execute(
                sa.select(t.c.source, sa.func.max(t.c.loaded_at))
                .where(t.c.organisation == settings.organisation)
                .group_by(t.c.source)
            )
            .tuples()
            .all()
        )
        states = []
        for source, days in settings.lookback_days.items():
            rows, first, last, accounts = _held(connection, settings.organisation, source)
            states.append(
                SourceState(
                    source,
                    is_configured(source, settings) if source in CONNECTED_SOURCES else None,
                    days, accounts, rows, first, last, read.get(source),
                )
            )  # fmt: skip
    return states


def _held(
    connection: sa.Connection, organisation: str, source: str
) -> tuple[int, date | None, date | None, tuple[str, ...]]:
    if source in _FACTS:
        target, day = _FACTS[source], _FACTS[source].c.date
    else:
        target, day = wh.event, wh.event.c.event_date
    rows, first, last, accounts = connection.execute(
        sa.select(
            sa.func.count(), sa.func.min(day), sa.func.max(day),
            sa.func.coalesce(sa.func.array_agg(target.c.account.distinct()), sa.cast([], sa.ARRAY(sa.Text))),
        ).where(target.c.organisation == organisation, target.c.source == source)
    ).one()  # fmt: skip
    return rows, first, last, tuple(sorted(a for a in accounts if a))
