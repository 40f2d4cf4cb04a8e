"""A year of a big organisation in the warehouse, for measuring what a night's training costs.

Everything is drawn by the simulated world (:mod:`turnout.simulation`), and every event says that it is simulated. The
figures do not pass through files: reading those is what :mod:`benchmarks.ingest` measures. What the world knows per
campaign and day is copied into a staging table, and PostgreSQL splits it into the ads that ran on it, so that the parts
add up to the whole and the table has as many rows as are asked for.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from turnout.identity import event_key
from turnout.settings import Settings
from turnout.simulation.history import NO_LABEL, ORGANIC, PLATFORM_TACTICS, History, live
from turnout.simulation.population import LABEL
from turnout.simulation.world import World, WorldConfig
from turnout.warehouse import load
from turnout.warehouse import tables as wh
from turnout.warehouse.engine import create_engine
from turnout.warehouse.partitions import ensure_months, months, next_month

#: The last day of the year; training is on the morning after.
UNTIL = date(2026, 10, 31)
AS_OF = UNTIL + timedelta(days=1)
#: Events an organiser (a team with accounts of its own) holds in a year.
EVENTS_PER_ORGANISER = 400
_FETCHED = datetime(2026, 11, 1, 2, 0, tzinfo=UTC)
_RUN = uuid.UUID(int=24_000)
_ZONE = "Asia/Tokyo"
_PART = 500_000

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Filled:
    """What is in the warehouse, in rows; ``bytes`` is the size of the database with its indexes."""

    events: int
    organisers: int
    campaigns: int
    ad_rows: int
    email_rows: int
    registrations: int
    tactic_results: int
    bytes: int

    @property
    def performance_rows(self) -> int:
        return self.ad_rows + self.email_rows

    def as_dict(self) -> dict[str, int]:
        return {**asdict(self), "performance_rows": self.performance_rows}


def fill(settings: Settings, *, events: int, rows: int, seed: int = 1, progress: Progress | None = None) -> Filled:
    """Fill an empty, migrated warehouse.

    Args:
        events: of the year up to :data:`UNTIL`.
        rows: of ``ad_performance`` and ``email_performance`` together, exactly.

    Raises:
        ValueError: fewer rows are asked for than the world's campaigns have days.
    """
    say = progress or (lambda message: None)
    say(f"drawing {events:,} events")
    organisers = max(3, round(events / EVENTS_PER_ORGANISER))
    history = live(World(WorldConfig(seed=seed, until=UNTIL, events=events, organisers=organisers, months=12)))
    least = len(history.ads.event) + len(history.mail.event)
    if rows < least:
        raise ValueError(f"{events} events have {least} days of campaigns and mails; ask for at least as many rows")
    filling = _Filling(settings.organisation, history)
    engine = create_engine(settings, pool_size=1)
    try:
        with engine.begin() as connection:
            say("events and results")
            for table, frame in (
                (wh.event, filling.events()), (wh.campaign, filling.campaigns()),
                (wh.tactic_result, filling.results()),
            ):  # fmt: skip
                load.copy(connection, table, frame)
            mail = filling.mail()
            ensure_months(connection, wh.email_performance, mail["date"].min(), mail["date"].max())
            load.copy(connection, wh.email_performance, mail)
        say(f"{len(history.registrations.event):,} registrations")
        with engine.begin() as connection:
            filling.registrations(connection)
        _ads(engine, filling, rows - len(mail), say)
        say("statistics")
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("VACUUM ANALYZE"))
            size = int(connection.scalar(sa.text("SELECT pg_database_size(current_database())")) or 0)
    finally:
        engine.dispose()
    return Filled(
        events=events,
        organisers=organisers,
        campaigns=len(filling.pairs),
        ad_rows=rows - len(mail),
        email_rows=len(mail),
        registrations=len(history.registrations.event),
        tactic_results=int(history.spending.used.sum()),
        bytes=size,
    )


class _Filling:
    """The world's figures as the warehouse's rows."""

    def __init__(self, organisation: str, history: History) -> None:
        self.organisation, self.history, self.world = organisation, history, history.world
        world = self.world
        self.keys = np.array([event_key(organisation, e.name, e.date) for e in world.events], dtype=object)
        self.codes = np.array([e.code for e in world.events], dtype=object)
        self.folders = np.array([world.organisers[e.organiser].folder for e in world.events], dtype=object)
        self.tactics = np.array(world.tactics, dtype=object)
        self.source_of = {
            world.position(tactic): source for source, tactics in PLATFORM_TACTICS.items() for tactic in tactics
        }
        ads = history.ads
        self.pairs = np.unique(ads.event * len(self.tactics) + ads.tactic)

    def _provenance(self, source: object, account: object) -> dict[str, Any]:
        return {
            "organisation": self.organisation, "source": source, "account": account, "account_time_zone": _ZONE,
            "fetched_at": _FETCHED, "run_id": _RUN,
        }  # fmt: skip

    def events(self) -> pd.DataFrame:
        world, history = self.world, self.history
        who = history.registrations
        attended = np.bincount(who.event[who.attended == 1], minlength=len(world.events))
        known = np.bincount(who.event[who.attended >= 0], minlength=len(world.events)) > 0
        return pd.DataFrame(
            {
                "event_id": self.keys,
                **self._provenance("spreadsheet", self.folders),
                "name": [e.name for e in world.events],
                "event_date": [e.date for e in world.events],
                "time_zone": _ZONE,
                "category": [e.category for e in world.events],
                "theme": [e.theme for e in world.events],
                "format": [e.format for e in world.events],
                "registration_opens": [e.date - timedelta(days=e.opens_before) for e in world.events],
                "price": [e.price for e in world.events],
                "target_registrations": history.target,
                "actual_registrations": history.total_count,
                "actual_attendees": pd.Series(attended).where(known).astype("Int64"),
                "budget": history.spending.budget,
                "currency": "JPY",
                "fx_rate": 1,
                "base_currency": "JPY",
                "industries": [list(e.industries) for e in world.events],
                "job_titles": [list(e.job_titles) for e in world.events],
                "company_sizes": [list(e.company_sizes) for e in world.events],
                "notes": LABEL,
                "is_simulated": True,
            }
        )

    def campaigns(self) -> pd.DataFrame:
        event, tactic = np.divmod(self.pairs, len(self.tactics))
        names = self._campaign_names(event, tactic)
        dates = self.world.dates[event].astype(object)
        starts = self.history.spending.starts[event, tactic]
        return pd.DataFrame(
            {
                **self._provenance(self._sources(tactic), self.folders[event]),
                "campaign_id": self._campaign_ids(event, tactic),
                "name": names,
                "names": [[name] for name in names],
                "tactic_id": self.tactics[tactic],
                "event_id": self.keys[event],
                "mapped_by": "rule",
                "first_seen": [d - timedelta(days=int(s)) for d, s in zip(dates, starts, strict=True)],
                "last_seen": dates,
            }
        )

    def _sources(self, tactic: NDArray[np.int64]) -> NDArray[np.object_]:
        return np.array([self.source_of[int(t)] for t in tactic], dtype=object)

    def _campaign_ids(self, event: NDArray[np.int64], tactic: NDArray[np.int64]) -> list[str]:
        return [f"{10_000_000 + int(e) * 100 + int(t)}" for e, t in zip(event, tactic, strict=True)]

    def _campaign_names(self, event: NDArray[np.int64], tactic: NDArray[np.int64]) -> list[str]:
        return [f"{self.codes[e]}_{self.tactics[t]}_SIM" for e, t in zip(event, tactic, strict=True)]

    def results(self) -> pd.DataFrame:
        """The organiser's sheet: every tactic that was used, with the registrations as labelled."""
        history, world = self.history, self.world
        who = history.registrations
        labelled = np.zeros(history.tactic_count.shape, dtype=np.int64)
        counted = who.is_confirmed & (who.label >= 0)
        np.add.at(labelled, (who.event[counted], who.label[counted]), 1)
        event, tactic = np.nonzero(history.spending.used)
        cost = np.rint(history.spend[event, tactic])
        return pd.DataFrame(
            {
                **self._provenance("spreadsheet", self.folders[event]),
                "result_id": [f"{self.codes[e]}-{self.tactics[t]}" for e, t in zip(event, tactic, strict=True)],
                "event_id": self.keys[event],
                "event_name": [world.events[e].name for e in event],
                "event_date": [world.events[e].date for e in event],
                "tactic_id": self.tactics[tactic],
                "tactic_name": self.tactics[tactic],
                "reach": history.reach[event, tactic],
                "clicks": history.clicks[event, tactic],
                "registrations": labelled[event, tactic],
                "cost": cost,
                "currency": "JPY",
                "cost_base": cost,
                "base_currency": "JPY",
                "fx_rate": 1,
                "fx_date": UNTIL,
                "staff_hours": history.spending.staff_hours[event, tactic],
                "is_simulated": True,
            }
        )

    def mail(self) -> pd.DataFrame:
        """One row per event, e-mail tactic and day: several sendings of a day are one category's figures."""
        mail, width = self.history.mail, len(self.tactics)
        days = mail.day.astype("datetime64[D]").astype(np.int64)
        keys, which = np.unique((mail.event * width + mail.tactic) * 100_000 + days, return_inverse=True)
        pair, day = np.divmod(keys, 100_000)
        event, tactic = np.divmod(pair, width)
        requests, opens, clicks = (
            np.bincount(which, weights=figure).astype(np.int64) for figure in (mail.requests, mail.opens, mail.clicks)
        )
        return pd.DataFrame(
            {
                **self._provenance("sendgrid", self.folders[event]),
                "date": day.astype("datetime64[D]").astype(object),
                "line": 1,
                "category": [f"{self.codes[e]}-{self.tactics[t]}" for e, t in zip(event, tactic, strict=True)],
                "event_id": self.keys[event],
                "tactic_id": self.tactics[tactic],
                "requests": requests,
                "processed": requests,
                "delivered": requests,
                "opens": opens,
                "unique_opens": np.minimum(opens, requests),
                "clicks": clicks,
                "unique_clicks": clicks,
            }
        )

    def registrations(self, connection: sa.Connection) -> None:
        """One row per person, in the order of the days."""
        who = self.history.registrations
        days = who.day.astype("datetime64[D]")
        first, last = days.min().item(), days.max().item()
        ensure_months(connection, wh.registration, first, last)
        order = np.lexsort((who.second, who.event, days))
        event, day = who.event[order], days[order]
        line = _running(event.astype(np.int64) * 100_000 + day.astype(np.int64))
        labels = np.append(self.tactics, ["direct", None])  # ORGANIC is -1, so the last but one of them
        code = np.where(
            who.label == NO_LABEL, len(labels) - 1, np.where(who.label == ORGANIC, len(labels) - 2, who.label)
        )
        code = code[order]
        tactic_of = np.append(self.tactics, [None, None])
        at = pd.to_datetime(day.astype("datetime64[s]") + (who.second[order] - 9 * 3600).astype("timedelta64[s]"))
        for low in range(0, len(order), _PART):
            part = slice(low, low + _PART)
            load.copy(
                connection,
                wh.registration,
                _arrow(
                    self._provenance("registrations", self.folders[event[part]]),
                    date=pa.array(day[part]),
                    line=line[part],
                    event_label=self.codes[event[part]],
                    event_id=self.keys[event[part]],
                    registered_at=pa.array(at[part].tz_localize("UTC")),
                    quantity=np.ones(len(event[part]), dtype=np.int64),
                    status=np.where(who.is_confirmed[order[part]], "confirmed", "cancelled").astype(object),
                    source_label=labels[code[part]],
                    tactic_id=tactic_of[code[part]],
                    attended=np.array([None, False, True], dtype=object)[who.attended[order[part]] + 1],
                ),
            )

    def ad_days(self, rows: int) -> pa.Table:
        """One row per campaign and day: its figures as whole numbers, and how many ads they are split into."""
        ads = self.history.ads
        source, folder = self._sources(ads.tactic), self.folders[ads.event]
        order = np.lexsort((ads.tactic, ads.event, folder.astype(str), source.astype(str), ads.day))
        event, tactic, day = ads.event[order], ads.tactic[order], ads.day[order].astype("datetime64[D]")
        edges = np.arange(len(order) + 1, dtype=np.int64) * rows // len(order)
        count = np.diff(edges)
        account = pd.factorize(pd.Series(source[order]) + "/" + pd.Series(folder[order]))[0].astype(np.int64)
        scope = account * 100_000 + day.astype(np.int64)
        begins = np.cumsum(count) - count
        starts = np.concatenate([[True], scope[1:] != scope[:-1]])
        return pa.table(
            {
                "source": source[order],
                "account": folder[order],
                "campaign_id": self._campaign_ids(event, tactic),
                "campaign_name": self._campaign_names(event, tactic),
                "date": pa.array(day),
                "ads": count,
                "line": begins - np.maximum.accumulate(np.where(starts, begins, 0)),
                "impressions": ads.impressions[order],
                "clicks": ads.clicks[order],
                "cents": ads.cents[order],
                "claimed": np.rint(ads.claimed[order] * 100).astype(np.int64),
            }
        )


def _running(scope: NDArray[np.int64]) -> NDArray[np.int64]:
    """1, 2, 3 … within each run of equal values."""
    place = np.arange(len(scope), dtype=np.int64)
    starts = np.concatenate([[True], scope[1:] != scope[:-1]]) if len(scope) else np.zeros(0, dtype=bool)
    return place - np.maximum.accumulate(np.where(starts, place, 0)) + 1


def _arrow(same: dict[str, Any], **columns: Any) -> pa.Table:
    length = len(next(iter(columns.values())))
    shared = {
        name: value if isinstance(value, np.ndarray) else pa.repeat(str(value) if name == "run_id" else value, length)
        for name, value in same.items()
    }
    return pa.table(shared | columns)


_STAGING = sa.Table(
    "retrain_ad_day", sa.MetaData(schema=wh.SCHEMA),
    *(sa.Column(name, sa.Text) for name in ("source", "account", "campaign_id", "campaign_name")),
    sa.Column("date", sa.Date),
    *(sa.Column(name, sa.BigInteger) for name in ("ads", "line", "impressions", "clicks", "cents", "claimed")),
    prefixes=["UNLOGGED"],
)  # fmt: skip


def _share(column: str) -> str:
    """The i-th of ``ads`` whole parts of ``column``; they add up to it."""
    return f"({column} * i / ads - {column} * (i - 1) / ads)"


_SPLIT = f"""
INSERT INTO {wh.SCHEMA}.ad_performance (
    organisation, source, account, account_time_zone, fetched_at, run_id, date, line, period_end, campaign_id,
    campaign_name, ad_group, ad_name, impressions, clicks, spend, currency, spend_base, base_currency, fx_rate, fx_date,
    conversions, registrations
)
SELECT :organisation, source, account, :zone, :fetched, :run, date, line + i, date, campaign_id, campaign_name,
       'group ' || i % 4, 'ad ' || i, {_share("impressions")}, {_share("clicks")},
       CASE source WHEN 'linkedin_ads' THEN {_share("cents")} / 100.0 ELSE {_share("cents")} END,
       CASE source WHEN 'linkedin_ads' THEN 'USD' ELSE 'JPY' END,
       CASE source WHEN 'linkedin_ads' THEN {_share("cents")} / 100.0 * :usd ELSE {_share("cents")} END,
       'JPY', CASE source WHEN 'linkedin_ads' THEN CAST(:usd AS numeric) ELSE 1 END, :fx_date,
       CASE source WHEN 'google_ads' THEN {_share("claimed")} / 100.0 END,
       CASE WHEN source <> 'google_ads' THEN {_share("claimed")} / 100.0 END
FROM {_STAGING.fullname}
CROSS JOIN LATERAL generate_series(1, ads) AS i
WHERE date >= :first AND date < :last
ORDER BY source, account, date, line, i
"""


def _ads(engine: sa.Engine, filling: _Filling, rows: int, say: Progress) -> None:
    """Split the days of campaigns into ads, month by month. A month's table is new, so it is written without a log."""
    staged = filling.ad_days(rows)
    first, last = (staged["date"].to_numpy().astype("datetime64[D]")[i].item() for i in (0, -1))
    bound = {
        "organisation": filling.organisation, "zone": _ZONE, "fetched": _FETCHED, "run": _RUN, "fx_date": UNTIL,
        "usd": filling.world.config.fx_rates["USD"],
    }  # fmt: skip
    with engine.begin() as connection:
        _STAGING.drop(connection, checkfirst=True)
        _STAGING.create(connection)
        load.copy(connection, _STAGING, staged)
        connection.execute(sa.text(f"ANALYZE {_STAGING.fullname}"))
    done = 0
    for month in months(first, last):
        with engine.begin() as connection:
            ensure_months(connection, wh.ad_performance, month, month)
            connection.execute(sa.text("SET LOCAL work_mem = '128MB'"))
            done += connection.execute(sa.text(_SPLIT), {**bound, "first": month, "last": next_month(month)}).rowcount
        say(f"{done:,} of {rows:,} ad rows")
    with engine.begin() as connection:
        _STAGING.drop(connection)
    if done != rows:
        raise RuntimeError(f"{rows} ad rows were asked for, {done} written")
