"""Which accounts have gone quiet for longer than they ever do: asked once a night, of all of them, in one query."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Final

import sqlalchemy as sa
from sqlalchemy import Connection

from turnout.warehouse import tables as wh

#: Days that say what an account's rhythm is, and days with data among them below which it has none yet.
_SEEN_DAYS: Final = 120
_ENOUGH_DAYS: Final = 10
#: An account may be late by half its longest pause and a day, and by so many days whatever its rhythm.
_SLACK, _LEAST_AGE = 1.5, 3
#: Whoever has been quiet for so long has ended, and was reported when it began.
_ENDED_DAYS: Final = 60
#: A platform that answered so lately says itself that there is nothing.
_READ_DAYS: Final = 2


@dataclass(frozen=True, slots=True)
class StaleAccount:
    """An account whose newest day is older than its rhythm explains.

    Attributes:
        newest: its newest day with data.
        age: days since.
        longest_pause: days between two days with data, at most, in the weeks before.
        read_at: when anything of the source was last read, as far as known.
    """

    source: str
    account: str
    newest: date
    age: int
    longest_pause: int
    read_at: date | None


def stale_accounts(connection: Connection, organisation: str, today: date) -> list[StaleAccount]:
    """Accounts that are late as of ``today``, the latest first."""
    days = sa.union(*[
        sa.select(t.c.source, t.c.account, t.c.date).where(
            t.c.organisation == organisation, t.c.date > today - timedelta(days=_SEEN_DAYS), t.c.date <= today
        )
        for t in wh.FACT_TABLES
    ]).subquery()  # fmt: skip
    f = wh.ingest_file
    read = (
        sa.select(
            f.c.source,
            sa.func.max(sa.cast(f.c.loaded_at, sa.Date)).label("read_at"),
            # reads through an API, by account: "api/<source>/<account>"
            sa.func.array_agg(f.c.path).filter(
                f.c.path.like("api/%"), f.c.loaded_at > today - timedelta(days=_READ_DAYS),
                f.c.last_date >= today - timedelta(days=_READ_DAYS),
            ).label("answered"),
        ).where(f.c.organisation == organisation).group_by(f.c.source).subquery()
    )  # fmt: skip
    query = (
        sa.select(
            days.c.source, days.c.account, sa.func.array_agg(sa.distinct(days.c.date)),
            sa.func.max(read.c.read_at), sa.func.max(sa.cast(read.c.answered, sa.ARRAY(sa.Text))),
        )
        .select_from(days.outerjoin(read, read.c.source == days.c.source))
        .group_by(days.c.source, days.c.account)
    )  # fmt: skip
    found = []
    for source, account, dates, read_at, answered in connection.execute(query):
        known = sorted(dates)
        age = (today - known[-1]).days
        if len(known) < _ENOUGH_DAYS or age > _ENDED_DAYS or f"api/{source}/{account}" in (answered or []):
            continue
        pause = max((b - a).days for a, b in pairwise(known))
        if age > max(_LEAST_AGE, _SLACK * pause + 1):
            found.append(StaleAccount(source, account, known[-1], age, pause, read_at))
    return sorted(found, key=lambda stale: (-stale.age, stale.source, stale.account))
