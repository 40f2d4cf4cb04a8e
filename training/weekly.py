"""Training rows by week: event × tactic × week before the event, where the data are daily.

The response model learns from one row per event and tactic: what is asked of it is what an amount brings by the event's
day, and attribution, staff hours and sheets know no weeks. These rows are for what happens on the way: pacing by
tactic, decay after a send, planning anew half-way. A week is seven days counted back from the event (0: the last one,
with the event's day), and its row is as of its first morning: what came in the weeks before is known, what comes in the
week is the label, and features are joined point-in-time for that morning.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
from sqlalchemy import Engine, text

from feature_repo import names
from training import point_in_time
from turnout.settings import Settings
from turnout.warehouse.engine import create_engine

#: Weeks before an event that rows begin at, at the earliest; what came before is in ``…_before``.
MOST_WEEKS = 26
#: What a row counts, of its week and of the weeks before it.
COUNTS = ("spend_base", "reach", "clicks", "registrations")

#: Days up to the event's own; what is dated after it is no part of its run-up (:mod:`training.point_in_time`).
_DAILY = """
WITH fact AS (
    SELECT event_id, tactic_id, date, spend_base, reach, clicks, NULL::numeric AS registrations
    FROM turnout.tactic_daily
    WHERE organisation = :organisation AND event_id IS NOT NULL
    UNION ALL
    SELECT event_id, tactic_id, date, NULL, NULL, NULL, quantity
    FROM turnout.registration
    WHERE organisation = :organisation AND status = 'confirmed' AND event_id IS NOT NULL AND tactic_id IS NOT NULL
)
SELECT f.event_id, f.tactic_id, e.category AS segment_id, e.event_date, (e.event_date - f.date) / 7 AS weeks_before,
       sum(f.spend_base)::float8 AS spend_base, sum(f.reach)::float8 AS reach, sum(f.clicks)::float8 AS clicks,
       sum(f.registrations)::float8 AS registrations
FROM fact f
JOIN turnout.event e ON e.organisation = :organisation AND e.event_id = f.event_id
WHERE e.event_date < :until AND f.date <= e.event_date
GROUP BY 1, 2, 3, 4, 5
"""


def build(settings: Settings, until: date, *, engine: Engine | None = None) -> pd.DataFrame:
    """Rows of the events before ``until`` with the features of each week's first morning.

    Returns:
        event_id, tactic_id, segment_id, event_date, weeks_before (falling to 0 within event and tactic, without gaps),
        as_of (the week's first day), :data:`COUNTS` of the week (0 where nothing is dated in it), the same with
        ``_before`` up to the day before ``as_of``, and :data:`feature_repo.names.RESPONSE_FEATURES`.

    Raises:
        NotReadyError: no features are registered.
        FutureLeakError: the join gave a row a feature that was not known yet.
    """
    from feature_repo import store

    own = engine or create_engine(settings, pool_size=1)
    try:
        with own.connect() as connection:
            found = connection.execute(text(_DAILY), {"organisation": settings.organisation, "until": until})
            counted = pd.DataFrame(found.fetchall(), columns=list(found.keys()))
    finally:
        if engine is None:
            own.dispose()
    rows = spread(counted)
    keyed = rows.copy()
    keyed[names.ORGANISATION] = settings.organisation
    keyed[names.EVENT_TIMESTAMP] = [names.snapshot_timestamp(day.date(), settings.zone) for day in rows["as_of"]]
    joined = store.historical(settings, keyed, names.RESPONSE_SERVICE)
    point_in_time.check(settings, joined, names.RESPONSE_SERVICE)
    return joined[[*rows.columns, *names.RESPONSE_FEATURES]]


def spread(counted: pd.DataFrame) -> pd.DataFrame:
    """Weeks without gaps from the first one of each event and tactic to the event, with what was known before each.

    Args:
        counted: event_id, tactic_id, segment_id, event_date, weeks_before and :data:`COUNTS`, one row per week that
            anything is dated in.
    """
    keys = ["event_id", "tactic_id"]
    counted = counted.assign(weeks_before=counted["weeks_before"].astype(np.int64))
    first = counted.groupby(keys, sort=True).agg(
        segment_id=("segment_id", "first"), event_date=("event_date", "first"), weeks=("weeks_before", "max")
    )
    numbers = [np.arange(n, -1, -1) for n in first["weeks"]]
    rows = first.drop(columns="weeks").loc[first.index.repeat([len(n) for n in numbers])].reset_index()
    rows["weeks_before"] = np.concatenate(numbers) if numbers else np.zeros(0, dtype=np.int64)
    rows = rows.merge(counted[[*keys, "weeks_before", *COUNTS]], on=[*keys, "weeks_before"], how="left")
    rows["event_date"] = pd.to_datetime(rows["event_date"]).astype("datetime64[s]")
    rows.insert(5, "as_of", rows["event_date"] - pd.to_timedelta(7 * rows["weeks_before"] + 6, unit="D"))
    for name in COUNTS:
        rows[name] = rows[name].astype(np.float64).fillna(0.0)
        rows[f"{name}_before"] = rows.groupby(keys, sort=False)[name].cumsum() - rows[name]
    return rows[rows["weeks_before"] <= MOST_WEEKS].reset_index(drop=True)
