"""What the warehouse knows of the weeks before, day by day: the ground that drift is measured on.

One row per source, account, day and key, where the key is what can be compared like with like: the campaign of ads, the
category of mails, the event of registrations. Each day is asked of the warehouse once per gate, and what the gate lets
through counts as known from then on, so that a long file is checked against its own earlier weeks, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from turnout.warehouse import tables as wh


@dataclass(frozen=True, slots=True)
class Measures:
    """What is known of a fact table's days.

    Attributes:
        key: column whose values are compared with themselves.
        sums: columns added up.
        filled: columns of which the rows that have a value are counted.
        volume: sums that tell whether two accounts report the same.
    """

    key: str
    sums: tuple[str, ...]
    filled: tuple[str, ...]
    volume: tuple[str, ...]


MEASURES: Final[Mapping[str, Measures]] = {
    "ad_performance": Measures(
        "campaign_id",
        ("impressions", "clicks", "spend", "spend_base", "conversions"),
        ("impressions", "clicks", "spend", "conversions", "registrations", "leads"),
        ("impressions", "clicks", "spend"),
    ),
    "email_performance": Measures(
        "category",
        (
            "requests", "delivered", "opens", "unique_opens", "clicks", "unique_clicks", "bounces", "blocks",
            "spam_reports", "unsubscribes",
        ),
        (
            "requests", "delivered", "opens", "unique_opens", "clicks", "unique_clicks", "bounces", "spam_reports",
            "unsubscribes",
        ),
        ("requests", "delivered", "opens", "unique_opens"),
    ),
    "registration": Measures(
        "event_label", ("quantity", "cancelled"), ("source_label", "registrant_hash"), ("quantity",)
    ),
}  # fmt: skip

#: A day of an account.
DAY: Final = ["source", "account", "date"]


def columns_of(table: str) -> list[str]:
    """The columns of a table's days, in order."""
    measures = MEASURES[table]
    currency = ["currency", "currency_max"] if table == "ad_performance" else []
    return [*DAY, "key", "rows", *measures.sums, *(f"n_{name}" for name in measures.filled), *currency]


def days_of_frame(table: str, frame: pd.DataFrame, keep: np.ndarray) -> pd.DataFrame:
    """The days of a prepared frame.

    Args:
        keep: which rows count, shape (rows,).
    """
    measures = MEASURES[table]
    if table == "ad_performance":
        keep = keep & (frame["period_end"] == frame["date"]).to_numpy()
    rows = frame[keep & frame["date"].notna().to_numpy()]
    if rows.empty:
        return _nothing(table)
    key = _filled(rows[measures.key])
    work = {
        # categories are grouped by their numbers
        "source": rows["source"], "account": rows["account"], "date": rows["date"], "key": key,
        "rows": 1.0, **{name: _number(rows, name) for name in measures.sums},
        **{f"n_{name}": rows[name].notna().astype(float) for name in measures.filled},
    }  # fmt: skip
    grouped = pd.DataFrame(work).groupby([*DAY, "key"], sort=False, observed=True)
    sums = grouped[["rows", *(f"n_{name}" for name in measures.filled)]].sum()
    # a day of which nothing is known is not a day of zero
    sums[list(measures.sums)] = grouped[list(measures.sums)].sum(min_count=1)
    sums = sums.reset_index().astype({"source": object, "account": object, "key": object})
    if table == "ad_performance":
        _add_currencies(sums, rows, key)
    return sums[columns_of(table)]


def _add_currencies(days: pd.DataFrame, rows: pd.DataFrame, key: pd.Series) -> None:
    """The first and last of each day's currencies, by name: two where they are mixed."""
    known = rows["currency"].dropna().unique()
    if len(known) <= 1:
        days["currency"] = days["currency_max"] = str(known[0]) if len(known) else ""
        return
    named = rows[DAY].assign(key=key, currency=rows["currency"].astype(object).fillna(""))
    grouped = named.groupby([*DAY, "key"], sort=False, observed=True)["currency"]
    days["currency"], days["currency_max"] = grouped.min().to_numpy(), grouped.max().to_numpy()


def _filled(words: pd.Series) -> pd.Series:
    """Categories with the empty string for what is unknown."""
    if not words.isna().any():
        return words
    known = words if "" in words.cat.categories else words.cat.add_categories("")
    return known.fillna("")


def _number(rows: pd.DataFrame, name: str) -> pd.Series:
    if name == "cancelled":
        return (rows["status"] == "cancelled").astype(float)
    return rows[name].astype(float)


class History:
    """Days of the warehouse, read once each.

    Args:
        connect: opens a connection; ``None`` where there is no warehouse, and so no history.
    """

    def __init__(self, connect: Callable[[], sa.Connection] | None, organisation: str, weeks: int) -> None:
        self._connect = connect
        self._organisation = organisation
        self._days = timedelta(weeks=weeks)
        self._known: dict[tuple[str, str], tuple[date, date, pd.DataFrame]] = {}

    def around(self, table: str, sources: Iterable[str], first: date, last: date) -> pd.DataFrame:
        """What is known of the weeks before ``first`` up to ``last``, all accounts of the sources."""
        found = [self._of(table, source, first - self._days, last) for source in sorted(set(sources))]
        found = [days for days in found if len(days)]
        return pd.concat(found, ignore_index=True) if found else _nothing(table)

    def nothing(self, table: str) -> pd.DataFrame:
        """No days, with the columns of some."""
        return _nothing(table)

    def note(self, table: str, loaded: pd.DataFrame) -> None:
        """Take the days of a frame, as :func:`days_of_frame` has them, for what the warehouse holds from now on."""
        by_key = table != "ad_performance"
        for source, days in loaded.groupby("source"):
            known = self._known.get((table, str(source)))
            if known is None:
                continue
            if table == "registration":
                # what a list replaces depends on the events it names: ask again
                del self._known[table, str(source)]
                continue
            lo, hi, before = known
            marks = [*DAY[1:], *(["key"] if by_key else [])]
            replaced = pd.MultiIndex.from_frame(before[marks]).isin(pd.MultiIndex.from_frame(days[marks]))
            self._known[table, str(source)] = (lo, hi, _joined(table, [before[~replaced], days]))

    def _of(self, table: str, source: str, first: date, last: date) -> pd.DataFrame:
        if self._connect is None:
            return _nothing(table)
        known = self._known.get((table, source))
        if known is None:
            lo, hi, days = first, last, self._read(table, source, first, last)
        else:
            lo, hi, days = known
            parts = [days]
            if first < lo:
                parts.append(self._read(table, source, first, lo - timedelta(days=1)))
                lo = first
            if last > hi:
                parts.append(self._read(table, source, hi + timedelta(days=1), last))
                hi = last
            days = _joined(table, parts)
        self._known[table, source] = (lo, hi, days)
        return days[days["date"].between(pd.Timestamp(first), pd.Timestamp(last))]

    def _read(self, table: str, source: str, first: date, last: date) -> pd.DataFrame:
        assert self._connect is not None
        t, measures = wh.metadata.tables[f"{wh.SCHEMA}.{table}"], MEASURES[table]
        keys = [t.c.source, t.c.account, t.c.date, sa.func.coalesce(t.c[measures.key], "").label("key")]
        wanted: list[sa.ColumnElement[object]] = [
            sa.cast(sa.func.count(), sa.Double()).label("rows"),
            *(_sum(t, name).label(name) for name in measures.sums),
            *(sa.cast(sa.func.count(t.c[name]), sa.Double()).label(f"n_{name}") for name in measures.filled),
        ]
        conditions = [
            t.c.organisation == self._organisation, t.c.source == source, t.c.date.between(first, last),
        ]  # fmt: skip
        if table == "ad_performance":
            wanted += [sa.func.min(t.c.currency).label("currency"), sa.func.max(t.c.currency).label("currency_max")]
            conditions.append(t.c.period_end == t.c.date)
        query = sa.select(*keys, *wanted).where(*conditions).group_by(*keys)
        with self._connect() as connection:
            rows = connection.execute(query).all()
        if not rows:
            return _nothing(table)
        found = pd.DataFrame(rows, columns=columns_of(table))
        found["date"] = pd.to_datetime(found["date"]).astype("datetime64[ns]")
        numbers = ["rows", *measures.sums, *(f"n_{name}" for name in measures.filled)]
        return found.astype(dict.fromkeys(numbers, float))


def _sum(t: sa.Table, name: str) -> sa.ColumnElement[object]:
    if name == "cancelled":
        return sa.cast(sa.func.count().filter(t.c.status == "cancelled"), sa.Double())
    return sa.func.sum(sa.cast(t.c[name], sa.Double()))


@lru_cache(maxsize=len(MEASURES))
def _nothing(table: str) -> pd.DataFrame:
    measures = MEASURES[table]
    numbers = ["rows", *measures.sums, *(f"n_{name}" for name in measures.filled)]
    return pd.DataFrame(columns=columns_of(table)).astype({"date": "datetime64[ns]", **dict.fromkeys(numbers, float)})


def _joined(table: str, parts: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else _nothing(table)
