"""No row knows its future: what is dated after a plan is taken out before training, and looked for after it.

:func:`without_late` leaves out of an event's outcome what is dated after the event's own day: plans are made for that
day, and other plans were made before whatever came later. :func:`check_rows` and :func:`check` run in every training,
the first over dates, the second over the features that the store's join gave. It looks up anew, key by key in the
feature tables, what was known at each row's planning time, and compares. So it does not depend on the join it checks,
nor on what Feast makes of its options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import structlog
from sqlalchemy import Connection, text

from feature_repo import names
from turnout.settings import Settings
from turnout.warehouse.engine import create_engine

if TYPE_CHECKING:
    from training.dataset import Dataset

log = structlog.get_logger(__name__)

#: Keys per view that are looked up again; more are drawn at random. All of them where there are fewer.
MOST_CHECKED = 20_000
#: Registrations after the event's day, by event and tactic: what :func:`without_late` takes.
LATE = """
SELECT event_id, tactic_id, sum(registrations)::float8 AS registrations, sum(attended)::float8 AS attended,
       sum(attendance_known)::float8 AS attendance_known, min(date) AS first_date, max(date) AS last_date
FROM turnout.late_registration
WHERE organisation = :organisation
GROUP BY event_id, tactic_id
"""
_BASIS = "registration_system"


class FutureLeakError(RuntimeError):
    """A row knows something that could not be known when its event was planned."""


def without_late(events: pd.DataFrame, tactics: pd.DataFrame, late: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Outcomes without what is dated after the event's day.

    Only counts of the registration system have days. An event of which nothing is left has an unknown outcome: a list
    whose days are all after the event does not tell when people came.

    Args:
        events: index event_id; registrations, organic_registrations, attendees, show_up_rate, registrations_basis.
        tactics: event_id, tactic_id, registrations, registrations_basis.
        late: rows of :data:`LATE`.

    Returns:
        ``events`` and ``tactics`` with the figures of the event's day.
    """
    counted = events.index[events["registrations_basis"] == _BASIS]
    late = late[late["event_id"].isin(counted)]
    if late.empty:
        return events, tactics
    events = events.copy()
    for name in ("registrations", "organic_registrations", "attendees", "show_up_rate"):
        events[name] = pd.to_numeric(events[name], errors="coerce").astype(np.float64)
    sums = late.groupby("event_id")[["registrations", "attended", "attendance_known"]].sum()
    organic = late[late["tactic_id"].isna()].groupby("event_id")["registrations"].sum().reindex(sums.index).fillna(0.0)
    at = sums.index
    whole = events.loc[at]
    # of how many it is known whether they came
    known = whole["attendees"] / whole["show_up_rate"].where(whole["show_up_rate"] > 0) - sums["attendance_known"]
    is_asked = sums["attendance_known"] > 0
    attendees = (whole["attendees"] - sums["attended"]).where(is_asked, whole["attendees"])
    rate = (attendees / known.where(known > 0)).clip(0.0, 1.0).where(is_asked, whole["show_up_rate"])
    events.loc[at, "registrations"] = whole["registrations"] - sums["registrations"]
    events.loc[at, "organic_registrations"] = (whole["organic_registrations"] - organic).clip(lower=0.0)
    events.loc[at, "attendees"] = attendees
    events.loc[at, "show_up_rate"] = rate
    nothing = at[events.loc[at, "registrations"] <= 0]
    events.loc[nothing, ["registrations", "organic_registrations", "attendees", "show_up_rate"]] = np.nan
    worst = int(sums["registrations"].to_numpy().argmax())
    log.warning(
        "registrations_after_the_event_left_out", source="registration", events=len(sums),
        registrations=float(sums["registrations"].sum()), first=str(late["first_date"].min()),
        last=str(late["last_date"].max()), most_in=str(at[worst]), most=float(sums["registrations"].iloc[worst]),
    )  # fmt: skip
    by_tactic = late.dropna(subset=["tactic_id"])[["event_id", "tactic_id", "registrations"]]
    joined = tactics.merge(by_tactic, on=["event_id", "tactic_id"], how="left", suffixes=("", "_late"))
    came = pd.to_numeric(joined["registrations"], errors="coerce").astype(np.float64)
    system = (joined["registrations_basis"] == _BASIS).to_numpy()
    of_day = (came - joined["registrations_late"].fillna(0.0).astype(np.float64)).clip(lower=0.0)
    corrected = np.where(system, of_day, came)
    tactics = tactics.assign(registrations=corrected)
    return events, tactics[~(tactics["event_id"].isin(nothing) & system)]


def check_rows(dataset: Dataset) -> None:
    """Dates alone: every row was planned before its event, and everything read is over.

    Raises:
        FutureLeakError: naming what is dated when.
    """
    history, rows = dataset.history, dataset.rows
    until = pd.Timestamp(history.until) if history.until.year < 2262 else pd.Timestamp.max
    for source, frame, dates in (
        ("event", history.events, history.events["event_date"]),
        ("training row", rows, rows["event_date"]),
        ("lift test", dataset.lifts, dataset.lifts["day"]),
    ):
        late = np.flatnonzero((dates >= until).to_numpy(dtype=np.bool_))
        if len(late):
            name = frame.reset_index().iloc[late[0]][_NAMES[source]]
            raise FutureLeakError(f"{source} {name} is dated {dates.iloc[late[0]].date()}, not before {history.until}")
    planned = np.flatnonzero((rows["as_of"] >= rows["event_date"]).to_numpy(dtype=np.bool_))
    if len(planned):
        row = rows.iloc[planned[0]]
        raise FutureLeakError(
            f"training row {row['event_id']}/{row['tactic_id']} counts as planned on {row['as_of'].date()}, its event "
            f"is on {row['event_date'].date()}"
        )
    if len(history.daily) and float(history.daily["days_before"].min()) < 0:
        first = history.daily.iloc[int(history.daily["days_before"].to_numpy().argmin())]
        raise FutureLeakError(
            f"registration of {first['event_id']} is dated {-first['days_before']:.0f} days after its event"
        )


_NAMES = {"event": "event_id", "training row": "event_id", "lift test": "test_id"}


def check(settings: Settings, joined: pd.DataFrame, service: str, *, seed: int = 0) -> int:
    """Compare joined features with what the feature tables say was known at each row's ``event_timestamp``.

    Args:
        joined: as :func:`feature_repo.store.historical` returns it, with the keys of ``service``.
        service: whose features they are.
        seed: of the draw where there are more than :data:`MOST_CHECKED` keys in a view.

    Returns:
        Keys looked up.

    Raises:
        FutureLeakError: naming the table, the row, its times and the feature.
    """
    checked = 0
    if joined.empty:
        return checked
    engine = create_engine(settings, pool_size=1)
    try:
        with engine.connect() as connection:
            for view, features in names.SERVICES[service].items():
                keys = [*names.KEYS_BY_VIEW[view], names.EVENT_TIMESTAMP]
                distinct = joined[[*keys, *features]].drop_duplicates(keys, ignore_index=True)
                if len(distinct) > MOST_CHECKED:
                    distinct = distinct.sample(MOST_CHECKED, random_state=seed).reset_index(drop=True)
                _check_view(connection, view, list(features), distinct)
                checked += len(distinct)
    finally:
        engine.dispose()
    return checked


def _check_view(connection: Connection, view: str, features: list[str], joined: pd.DataFrame) -> None:
    keys = names.KEYS_BY_VIEW[view]
    asked = ", ".join(f"CAST(:{key} AS text[])" for key in keys)
    columns = ", ".join(f'f."{name}"' for name in features)
    query = f"""
        SELECT k.n, f.* FROM unnest({asked}, CAST(:at AS timestamptz[])) WITH ORDINALITY AS k ({", ".join(keys)}, at, n)
        LEFT JOIN LATERAL (
            SELECT {columns} FROM features."{view}" f
            WHERE {" AND ".join(f"f.{key} = k.{key}" for key in keys)}
              AND f.event_timestamp <= k.at AND f.created_timestamp <= k.at
              AND f.event_timestamp >= k.at - CAST(:oldest AS interval)
            ORDER BY f.event_timestamp DESC, f.created_timestamp DESC LIMIT 1
        ) AS f ON true
        ORDER BY k.n
    """
    times = [at.to_pydatetime() for at in pd.to_datetime(joined[names.EVENT_TIMESTAMP], utc=True)]
    bound: dict[str, Any] = {key: joined[key].astype(str).tolist() for key in keys}
    found = connection.execute(text(query), bound | {"at": times, "oldest": names.MAXIMUM_AGE})
    known = pd.DataFrame(found.fetchall(), columns=["n", *features])[features].to_numpy(dtype=np.float64)
    given = joined[features].to_numpy(dtype=np.float64)
    wrong = np.argwhere(~((given == known) | (np.isnan(given) & np.isnan(known))))
    if not len(wrong):
        return
    row, column = (int(i) for i in wrong[0])
    feature, value = features[column], given[row, column]
    where = {key: bound[key][row] for key in keys}
    source = connection.execute(
        text(
            f'SELECT event_timestamp, created_timestamp FROM features."{view}"'
            f" WHERE {' AND '.join(f'{key} = :{key}' for key in keys)}"
            f' AND "{feature}" IS NOT DISTINCT FROM CAST(:value AS float8)'
            " AND (event_timestamp > :at OR created_timestamp > :at)"
            " ORDER BY event_timestamp, created_timestamp LIMIT 1"
        ),
        where | {"value": None if np.isnan(value) else value, "at": times[row]},
    ).one_or_none()
    origin = (
        "which no row of its future holds either"
        if source is None
        else f"of the row dated {source.event_timestamp.isoformat()}, written {source.created_timestamp.isoformat()}"
    )
    raise FutureLeakError(
        f"{view} {', '.join(f'{key}={value}' for key, value in where.items())}: a plan of {times[row].isoformat()} was "
        f"given {feature} = {value:g} {origin}; known then: {known[row, column]:g} "
        f"({len({int(i) for i, _ in wrong})} of {len(joined)} keys)"
    )
