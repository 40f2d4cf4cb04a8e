"""Compute feature snapshots from the warehouse, in SQL, many days at once.

A snapshot of day *t* uses

* outcomes of events whose day is before *t* (``event_tactic``, ``event_summary``: figures grow until the event's day),
* reach, clicks and spend by day, of days before *t* (``tactic_daily``), also of events still to come,
* registrations by day, of days before *t* (``segment_daily``).

Nothing dated *t* or later enters, whatever the warehouse holds by now. What is dated after an event's own day is no
outcome of it for any snapshot: registrations of on-demand viewers, spend of a campaign that was left running.

The warehouse keeps the newest figures only. So that corrections made after *t* stay out of the snapshot of *t*, a
snapshot that was computed is not computed from corrected figures again: as long as there are the same events, tactics
and days before *t* (its *basis*) and the code is the same, its rows stay. History that is loaded later, or taken away,
is another basis: the snapshot is computed anew. ``rebuild=True`` does that on demand, after a faulty import was mended.

Shrinkage (Bühlmann and Straub, "Glaubwürdigkeit für Schadensätze", 1970; the empirical-Bayes estimator of credibility
theory). For one rate and one snapshot, group *g* (a tactic) has the count ``y_g`` on the exposure ``e_g`` in the long
window, made of ``n_g`` parts (events or days) with ``q_g = Σ y²/e`` over them. With the pooled rate ``m = Σy / Σe`` and
the expected count ``μ_g = m·e_g``::

    within  = (Σ_g q_g/m − Σ_g y_g²/μ_g) / Σ_g (n_g − 1)          variance of a part in units of Poisson's, at least 1
    between = (Σ_g y_g²/μ_g − Σμ − (G − 1)·within) / (Σμ − Σμ²/Σμ)    variance of the true rates around m, relative
    k       = within / between                                    at least 1; infinite where between ≤ 0: full pooling
    rate_g  = m · (y_g + k) / (μ_g + k)

A shorter window is shrunk in the same way and with the same ``k`` towards the long window's rate. A tactic's rate in a
segment is shrunk towards the tactic's own, its strength estimated over all tactics' segments together.

Written once per (organisation, snapshot): running again with the same facts changes nothing. See
:mod:`feature_repo.schema` for what happens when facts changed since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection, Table, text

from feature_repo import names, schema
from turnout import taxonomy
from turnout.settings import Settings
from turnout.tactics import load_catalogue
from turnout.warehouse.engine import create_engine, for_large_reads, refresh_statistics

log = structlog.get_logger(__name__)

#: Snapshots older than this are not rebuilt: markets and platforms have changed since.
MOST_HISTORY = timedelta(days=3 * 366)

_LONG = names.LONG_WINDOW

#: Rates over events, each ``(numerator, exposure)`` in columns of the temporary table ``played``.
_EVENT_RATES = {
    "registrations_per_1000": ("registrations", "spend / 1000"),
    "registrations_per_hour": ("registrations", "hours"),
    "cvr": ("registrations", "clicks"),
}
#: Plain ratios and rates over days, in columns of ``attention``.
_DAILY_RATES = {
    "ctr": ("clicks", "reach"),
    "cost_per_click": ("spend", "clicks"),
    "cost_per_mille": ("spend", "reach / 1000"),
}
_SEGMENT_RATES = {
    "registrations_per_event": ("registrations", "1"),
    "organic_per_event": ("organic", "1"),
    "show_up_rate": ("registrations * show_up_rate", "registrations"),
}

#: One row per past event × tactic with a known outcome; one per tactic, segment and day of attention; one per event.
#: Outcomes are without what is dated after the event's day: some snapshots lie between the two.
_FACTS = f"""
CREATE TEMP TABLE daily ON COMMIT DROP AS
SELECT event_id, tactic_id, segment_id, date, reach::float8 AS reach, clicks::float8 AS clicks,
       spend_base::float8 AS spend
FROM turnout.tactic_daily
WHERE organisation = :organisation;

CREATE TEMP TABLE late ON COMMIT DROP AS
SELECT event_id, tactic_id, sum(registrations)::float8 AS registrations, sum(attended)::float8 AS attended,
       sum(attendance_known)::float8 AS attendance_known
FROM turnout.late_registration
WHERE organisation = :organisation
GROUP BY event_id, tactic_id;

CREATE TEMP TABLE played ON COMMIT DROP AS
WITH late_daily AS (
    SELECT d.event_id, d.tactic_id, sum(d.spend) AS spend, sum(d.reach) AS reach, sum(d.clicks) AS clicks
    FROM daily d
    JOIN turnout.event e ON e.organisation = :organisation AND e.event_id = d.event_id
    WHERE d.date > e.event_date
    GROUP BY 1, 2
)
SELECT t.event_id, t.tactic_id, t.segment_id, t.event_date AS date,
       CASE WHEN t.registrations_basis = 'registration_system'
            THEN greatest(t.registrations::float8 - coalesce(late.registrations, 0), 0)
            ELSE t.registrations::float8 END AS registrations,
       CASE WHEN t.spend_base IS NOT NULL AND t.spend_basis = 'platform_daily'
            THEN greatest(t.spend_base::float8 - coalesce(late_daily.spend, 0), 0)
            ELSE t.spend_base::float8 END AS spend,
       t.staff_hours::float8 AS hours,
       CASE WHEN late_daily.reach > 0 THEN greatest(t.reach::float8 - late_daily.reach, 0)
            ELSE t.reach::float8 END AS reach,
       CASE WHEN late_daily.clicks > 0 THEN greatest(t.clicks::float8 - late_daily.clicks, 0)
            ELSE t.clicks::float8 END AS clicks
FROM turnout.event_tactic t
LEFT JOIN late ON late.event_id = t.event_id AND late.tactic_id = t.tactic_id
LEFT JOIN late_daily ON late_daily.event_id = t.event_id AND late_daily.tactic_id = t.tactic_id
WHERE t.organisation = :organisation AND t.event_date < :last_day;

CREATE TEMP TABLE attention ON COMMIT DROP AS
SELECT tactic_id, segment_id, date, sum(reach) AS reach, sum(clicks) AS clicks, sum(spend) AS spend
FROM (
    SELECT tactic_id, segment_id, date, reach, clicks, spend FROM daily WHERE date < :last_day
    UNION ALL
    SELECT tactic_id, segment_id, date, reach, clicks, spend FROM played
    WHERE NOT EXISTS (SELECT FROM daily WHERE daily.event_id = played.event_id AND daily.tactic_id = played.tactic_id)
) AS fact
WHERE date >= CAST(:first_day AS date) - {_LONG}
GROUP BY tactic_id, segment_id, date;

DELETE FROM played WHERE registrations IS NULL;

CREATE TEMP TABLE held ON COMMIT DROP AS
WITH late_event AS (
    SELECT event_id, sum(registrations) AS registrations,
           coalesce(sum(registrations) FILTER (WHERE tactic_id IS NULL), 0) AS organic, sum(attended) AS attended,
           sum(attendance_known) AS attendance_known
    FROM late GROUP BY event_id
), figure AS (
    SELECT s.event_id, s.segment_id, s.event_date AS date, s.registrations::float8 AS registrations,
           s.organic_registrations::float8 AS organic, s.show_up_rate::float8 AS show_up_rate,
           s.attendees::float8 AS attendees, late_event.registrations AS late, late_event.organic AS late_organic,
           late_event.attended AS late_attended, late_event.attendance_known AS late_known
    FROM turnout.event_summary s
    LEFT JOIN late_event ON late_event.event_id = s.event_id AND s.registrations_basis = 'registration_system'
    WHERE s.organisation = :organisation AND s.event_date < :last_day AND s.registrations IS NOT NULL
)
SELECT event_id, segment_id, date, greatest(registrations - coalesce(late, 0), 0) AS registrations,
       greatest(organic - coalesce(late_organic, 0), 0) AS organic,
       CASE WHEN late_known > 0 AND show_up_rate > 0  -- attendees / rate is of how many attendance is known
            THEN least(greatest((attendees - late_attended)
                 / nullif(attendees / show_up_rate - late_known, 0), 0), 1)
            ELSE show_up_rate END AS show_up_rate
FROM figure;

CREATE TEMP TABLE registered ON COMMIT DROP AS
SELECT segment_id, date, registrations::float8 AS registrations
FROM turnout.segment_daily
WHERE organisation = :organisation AND date < :last_day AND date >= CAST(:first_day AS date) - 90 AND registrations > 0;

CREATE TEMP TABLE tactic_list ON COMMIT DROP AS
SELECT unnest(CAST(:tactics AS text[])) AS tactic_id
UNION SELECT tactic_id FROM played
UNION SELECT tactic_id FROM attention;

CREATE TEMP TABLE segment_list ON COMMIT DROP AS
SELECT unnest(CAST(:segments AS text[])) AS segment_id
UNION SELECT segment_id FROM held
UNION SELECT segment_id FROM registered;

ANALYZE snapshot;
ANALYZE played;
ANALYZE attention;
ANALYZE held;
ANALYZE registered
"""


def refresh(settings: Settings, as_of: date, since: date | None = None, *, rebuild: bool = False) -> dict[str, int]:
    """Compute the snapshot of ``as_of``, and with ``since`` also every Monday's from then on.

    Args:
        settings: as yielded by :func:`turnout.runtime.services`; its organisation is computed.
        as_of: the day a plan is made: facts of the days before it count.
        since: first day of history to (re)build.
        rebuild: compute past snapshots from today's figures even where only figures have changed, corrections and all:
            after a faulty import was mended. What was served stays in any case.

    Returns:
        Rows per feature table, and the number of ``snapshots``.

    Raises:
        ValueError: ``since`` is after ``as_of``.
    """
    days = names.snapshot_days(since or as_of, as_of)
    today = names.snapshot_timestamp(datetime.now(settings.zone).date(), settings.zone)
    engine = create_engine(settings, pool_size=1)
    try:
        refresh_statistics(engine)
        with engine.begin() as connection:
            schema.create_tables(connection)
            for_large_reads(connection)
            connection.execute(
                text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"),
                {"key": f"turnout:features:{settings.organisation}"},
            )
            if rebuild:  # the next training makes its past forecasts anew
                connection.execute(
                    schema.demand_forecast.update()
                    .where(schema.demand_forecast.c.organisation == settings.organisation)
                    .values(basis=None)
                )
            _read_facts(connection, settings, days)
            _find_kept(connection, settings.organisation, today, rebuild=rebuild)
            _compute(connection)
            corrected = _corrected(connection, settings.organisation)
            counts = {
                table.name: _write(connection, table, settings.organisation, today) for table in schema.SNAPSHOT_TABLES
            }
            _store_basis(connection, settings.organisation)
        if corrected:
            log.info(
                "features_kept", snapshots=corrected, reason="figures were corrected later; rebuild=True takes them"
            )
        if since is not None:
            _analyze(settings)
    finally:
        engine.dispose()
    log.info("features computed", as_of=as_of.isoformat(), snapshots=len(days), **counts)
    return {**counts, "snapshots": len(days)}


def history_start(settings: Settings, as_of: date) -> date | None:
    """The day of the first event that past plans can be rebuilt for: what ``since`` is after a load of history.

    At most :data:`MOST_HISTORY` before ``as_of``; ``None`` where no event lies before it.
    """
    engine = create_engine(settings, pool_size=1)
    try:
        with engine.connect() as connection:
            first: date | None = connection.scalar(
                text(
                    "SELECT min(event_date) FROM turnout.event WHERE organisation = :organisation AND event_date < :day"
                ),
                {"organisation": settings.organisation, "day": as_of},
            )
    finally:
        engine.dispose()
    return None if first is None else max(first, as_of - MOST_HISTORY)


def _run(connection: Connection, sql: str, parameters: dict[str, Any] | None = None) -> None:
    for statement in sql.split(";\n"):
        connection.execute(text(statement), parameters or {})


def _read_facts(connection: Connection, settings: Settings, days: list[date]) -> None:
    """The facts that any of the snapshots may see, and what the snapshots speak of, as temporary tables."""
    _run(connection, "CREATE TEMP TABLE snapshot (day date PRIMARY KEY, at timestamptz NOT NULL) ON COMMIT DROP")
    connection.execute(
        text("INSERT INTO snapshot VALUES (:day, :at)"),
        [{"day": day, "at": names.snapshot_timestamp(day, settings.zone)} for day in days],
    )
    _run(
        connection,
        _FACTS,
        {
            "organisation": settings.organisation,
            "first_day": days[0],
            "last_day": days[-1],
            "tactics": [tactic.id for tactic in load_catalogue().tactics],
            "segments": list(taxonomy.categories.ids),
        },
    )


@lru_cache(maxsize=1)
def _recipe() -> str:
    """Changes with the code that makes snapshots out of facts."""
    folder = Path(__file__).parent
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in ("build.py", "names.py"))).hexdigest()[:16]


def _find_kept(connection: Connection, organisation: str, today: datetime, *, rebuild: bool) -> None:
    """``basis``: what each snapshot is computed of now, and whether the one stored was computed of the same.

    The basis is a sum of hashes over the keys of the facts before the snapshot's day, summed up by day first: years of
    facts are not joined with every snapshot.
    """
    keys = " UNION ALL ".join(
        f"SELECT date, {reach} AS reach,"
        f" hashtextextended(concat_ws('/', '{table}', {', '.join(columns)}), 0)::numeric AS hash FROM {table}"
        for table, columns, reach in (
            ("played", ("event_id", "tactic_id"), MOST_HISTORY.days * 10),
            ("held", ("event_id",), MOST_HISTORY.days * 10),
            # of these, older rows were read or not depending on where the history began
            ("attention", ("tactic_id", "segment_id", "date"), _LONG),
            ("registered", ("segment_id", "date"), 90),
        )
    )
    _run(
        connection,
        f"""
        CREATE TEMP TABLE basis ON COMMIT DROP AS
        WITH daily_keys AS (
            SELECT date, reach, sum(hash) AS hash, count(*) AS facts FROM ({keys}) AS k GROUP BY date, reach
        ), now AS (
            SELECT s.at, concat_ws('/', CAST(:recipe AS text), coalesce(sum(facts), 0), coalesce(sum(hash), 0)) AS basis
            FROM snapshot s
            LEFT JOIN daily_keys k ON k.date < s.day AND k.date >= s.day - k.reach
            GROUP BY s.at
        )
        SELECT now.at, now.basis,
               NOT CAST(:rebuild AS boolean) AND now.at <> :today AND coalesce(b.basis = now.basis, false) AS is_kept
        FROM now
        LEFT JOIN {schema.SCHEMA}.snapshot_basis b ON b.organisation = :organisation AND b.event_timestamp = now.at
        """,
        {"organisation": organisation, "today": today, "recipe": _recipe(), "rebuild": rebuild},
    )


def _store_basis(connection: Connection, organisation: str) -> None:
    connection.execute(
        text(
            f"INSERT INTO {schema.SCHEMA}.snapshot_basis SELECT :organisation, at, basis FROM basis"
            " ON CONFLICT (organisation, event_timestamp) DO UPDATE SET basis = excluded.basis"
        ),
        {"organisation": organisation},
    )


def _corrected(connection: Connection, organisation: str) -> int:
    """How many snapshots that are kept would be different with today's figures."""
    features = names.FEATURES_BY_VIEW[names.TACTIC_VIEW]
    return int(
        connection.scalar(
            text(f"""
            SELECT count(DISTINCT new.event_timestamp)
            FROM new_{names.TACTIC_VIEW} new
            JOIN basis ON basis.at = new.event_timestamp AND basis.is_kept
            JOIN {schema.SCHEMA}.{names.TACTIC_VIEW} old ON old.organisation = :organisation
             AND old.tactic_id = new.tactic_id AND old.event_timestamp = new.event_timestamp
             AND old.created_timestamp = old.event_timestamp AND NOT old.is_live
            WHERE {_row("old", features)} IS DISTINCT FROM {_row("new", features)}
            """),
            {"organisation": organisation},
        )
        or 0
    )


def _parts(rates: dict[str, tuple[str, str]], source: str, tactic: str) -> Iterable[str]:
    """Per rate: counts and exposures by group and day, where both are known and there is exposure."""
    for rate, (numerator, exposure) in rates.items():
        yield f"""
            SELECT '{rate}' AS rate, {tactic} AS tactic_id, segment_id, date, sum({numerator}) AS y,
                   sum({exposure}) AS e, sum(power({numerator}, 2) / ({exposure})) AS q, count(*)::float8 AS n
            FROM {source}
            WHERE {numerator} IS NOT NULL AND {exposure} > 0
            GROUP BY 1, 2, 3, 4
        """


def _windows(column: str) -> str:
    return ", ".join(
        f"coalesce(sum({column}) FILTER (WHERE bucket <= {window}), 0) AS {column}{window}" for window in names.WINDOWS
    )


def _compute(connection: Connection) -> None:
    """Fill ``cell`` (counts per snapshot, rate, group and window), then the rates of tactics, segments and both."""
    parts = [
        *_parts(_EVENT_RATES, "played", "tactic_id"),
        *_parts(_DAILY_RATES, "attention", "tactic_id"),
        *_parts(_SEGMENT_RATES, "held", "''"),
    ]
    buckets = " ".join(
        f"WHEN fact.date >= snapshot.day - {window} THEN {window}" for window in names.WINDOWS
    )  # fmt: skip
    _run(
        connection,
        f"""
        CREATE TEMP TABLE fact ON COMMIT DROP AS
        SELECT *, dense_rank() OVER (ORDER BY rate, tactic_id, segment_id)::int AS id
        FROM ({" UNION ALL ".join(parts)}) AS part;
        ANALYZE fact;
        CREATE TEMP TABLE cell ON COMMIT DROP AS
        WITH aged AS (
            -- one number for what a row is about: years of facts are grouped here for every snapshot
            SELECT snapshot.day, fact.id, CASE {buckets} END AS bucket,
                   sum(y) AS y, sum(e) AS e, sum(q) AS q, sum(n) AS n
            FROM snapshot
            JOIN fact ON fact.date < snapshot.day AND fact.date >= snapshot.day - {_LONG}
            GROUP BY 1, 2, 3
        ), summed AS (
            SELECT day, id, {_windows("y")}, {_windows("e")}, sum(q) AS q, sum(n) AS n FROM aged GROUP BY 1, 2
        )
        SELECT summed.*, about.rate, about.tactic_id, about.segment_id
        FROM summed
        JOIN (SELECT DISTINCT id, rate, tactic_id, segment_id FROM fact) AS about USING (id);
        ANALYZE cell
        """,
    )
    _pool(connection, "tactic_rate", group="tactic_id", where="tactic_id <> ''")
    _pool(connection, "segment_rate", group="segment_id", where="tactic_id = ''")
    _pool_within(connection)
    _tactic_tables(connection)
    _segment_table(connection)


def _shrunk(window: int, pooled: str, prior: str) -> str:
    """The rate of one window: ``pooled`` times the group's shrunk factor, whose prior mean is ``prior``."""
    return (
        f"CASE WHEN k IS NULL THEN {pooled} * {prior}"
        f" ELSE {pooled} * (y{window} + k * {prior}) / ({pooled} * e{window} + k) END"
    )


def _pool(connection: Connection, table: str, *, group: str, where: str) -> None:
    """Shrink each group's rate towards the pooled rate. ``pooled_<w>`` columns hold the pooled rate of each window."""
    sums = ", ".join(f"sum({column}{window}) AS {column}{window}" for column in "ye" for window in names.WINDOWS)
    pooled = ", ".join(f"sum(y{window}) / nullif(sum(e{window}), 0) AS pooled_{window}" for window in names.WINDOWS)
    shorter = ", ".join(f"{_shrunk(window, 'm', 'factor')} AS r{window}" for window in names.WINDOWS if window != _LONG)
    _run(
        connection,
        f"""
        CREATE TEMP TABLE {table} ON COMMIT DROP AS
        WITH own AS (
            SELECT day, rate, {group}, {sums}, sum(q) AS q, sum(n) AS n
            FROM cell WHERE {where} AND {group} IS NOT NULL
            GROUP BY 1, 2, 3
        ), pool AS (
            SELECT day, rate, {pooled}, sum(y{_LONG}) / sum(e{_LONG}) AS m, count(*) AS groups, sum(n) AS n,
                   sum(q) AS q, sum(y{_LONG}) AS y, sum(e{_LONG}) AS e,
                   sum(y{_LONG} * y{_LONG} / e{_LONG}) AS ye, sum(e{_LONG} * e{_LONG}) AS ee
            FROM own GROUP BY 1, 2
        ), spread AS (
            SELECT *, CASE WHEN n > groups AND m > 0 THEN greatest((q - ye) / m / (n - groups), 1) ELSE 1 END AS within
            FROM pool
        ), strength AS (
            SELECT day, rate, m, {", ".join(f"pooled_{window}" for window in names.WINDOWS)},
                   CASE WHEN groups > 1 AND m > 0 AND ye / m - y > (groups - 1) * within
                        THEN greatest(within * m * (e - ee / e) / (ye / m - y - (groups - 1) * within), 1) END AS k
            FROM spread
        ), long AS (
            SELECT own.*, m, k, {", ".join(f"pooled_{window}" for window in names.WINDOWS)},
                   CASE WHEN k IS NULL THEN 1 ELSE (y{_LONG} + k) / (m * e{_LONG} + k) END AS factor
            FROM own JOIN strength USING (day, rate)
        )
        SELECT *, m * factor AS r{_LONG}, {shorter}
        FROM long;
        ANALYZE {table}
        """,
    )


def _pool_within(connection: Connection) -> None:
    """Shrink each tactic's rate in a segment towards the tactic's own, in every window."""
    rates = ", ".join(f"t.r{window} AS t{window}" for window in names.WINDOWS)
    windows = ", ".join(
        f"{_shrunk(window, f't{window}', '1' if window == _LONG else 'factor')} AS r{window}"
        for window in names.WINDOWS
    )
    _run(
        connection,
        f"""
        CREATE TEMP TABLE tactic_segment_rate ON COMMIT DROP AS
        WITH own AS (
            SELECT cell.*, {rates}, t.y{_LONG} / t.e{_LONG} AS m, t.e{_LONG} AS tactic_e
            FROM cell JOIN tactic_rate t USING (day, rate, tactic_id)
            WHERE cell.segment_id IS NOT NULL AND cell.tactic_id <> ''
        ), pool AS (
            SELECT day, rate, count(*) AS groups, count(DISTINCT tactic_id) AS tactics, sum(n) AS n,
                   sum(q / m) AS q, sum(y{_LONG}) AS y, sum(m * e{_LONG}) AS mu,
                   sum(y{_LONG} * y{_LONG} / (m * e{_LONG})) AS yy,
                   sum(m * e{_LONG} * e{_LONG} / tactic_e) AS own_share
            FROM own WHERE m > 0 GROUP BY 1, 2
        ), spread AS (
            SELECT *, CASE WHEN n > groups THEN greatest((q - yy) / (n - groups), 1) ELSE 1 END AS within FROM pool
        ), strength AS (
            SELECT day, rate,
                   CASE WHEN groups > tactics AND yy - 2 * y + mu > (groups - tactics) * within
                        THEN greatest(
                            within * (mu - own_share) / (yy - 2 * y + mu - (groups - tactics) * within), 1
                        ) END AS k
            FROM spread
        ), long AS (
            SELECT own.*, k,
                   CASE WHEN k IS NULL THEN 1 ELSE (y{_LONG} + k) / (t{_LONG} * e{_LONG} + k) END AS factor
            FROM own LEFT JOIN strength USING (day, rate)
        )
        SELECT *, {windows} FROM long;
        ANALYZE tactic_segment_rate
        """,
    )


def _rates(prefix: str, fallback: str | None = None) -> dict[str, str]:
    """The rate columns of a wide table, from joined rows ``own`` and, where own is absent, the tactic's."""
    columns = {}
    for rate in names.RATES:
        for window in names.WINDOWS:
            value = f"max(own.r{window}) FILTER (WHERE own.rate = '{rate}')"
            if fallback:
                value = f"coalesce({value}, max({fallback}.r{window}) FILTER (WHERE {fallback}.rate = '{rate}'))"
            columns[f"{prefix}_{rate}_{window}d"] = value
    return columns


def _costs() -> dict[str, str]:
    """Plain trailing cost levels: these are prices paid, not estimates of a rate."""
    return {
        f"tactic_{rate}_{window}d": f"max(own.y{window} / nullif(own.e{window}, 0)) FILTER (WHERE own.rate = '{rate}')"
        for rate, window in (("cost_per_click", 28), ("cost_per_click", _LONG), ("cost_per_mille", _LONG))
    }


def _columns(expressions: Mapping[str, str]) -> str:
    return ", ".join(f"{expression} AS {name}" for name, expression in expressions.items())


#: What is counted over the past events ``p`` of a group before the snapshot ``s``.
_LONG_AGO = f"p.date >= s.day - {_LONG}"
_USES = {
    **{f"events_{window}d": f"count(*) FILTER (WHERE p.date >= s.day - {window})" for window in names.WINDOWS},
    "events_total": "count(*)",
    **{
        f"{column}_{_LONG}d": f"coalesce(sum(p.{column}) FILTER (WHERE {_LONG_AGO}), 0)"
        for column in ("registrations", "spend", "hours", "clicks")
    },
    **{f"{column}_known": f"count(p.{column}) FILTER (WHERE {_LONG_AGO})" for column in ("spend", "hours")},
    "days_since_last": "min(s.day - p.date)",
}
_MEANS = {
    "registrations_per_event_365d": "used.registrations_365d / nullif(used.events_365d, 0)",
    "spend_per_event_365d": "used.spend_365d / nullif(used.spend_known, 0)",
    "hours_per_event_365d": "used.hours_365d / nullif(used.hours_known, 0)",
}


def _from_uses(prefix: str, features: Iterable[str]) -> dict[str, str]:
    """Expressions for those ``features`` that come from the table ``used``: a count of nothing is 0, a mean is NULL."""
    found = {}
    for feature in features:
        name = feature.removeprefix(f"{prefix}_")
        if name in _MEANS:
            found[feature] = _MEANS[name]
        elif name == "days_since_last":
            found[feature] = f"used.{name}"
        elif name in _USES:
            found[feature] = f"coalesce(used.{name}, 0)"
    return found


def _tactic_tables(connection: Connection) -> None:
    """``new_tactic_stats`` and ``new_tactic_segment_stats``: every tactic, and every tactic in every segment."""
    rated = {**_rates("tactic"), **_costs()}
    _run(
        connection,
        f"""
        CREATE TEMP TABLE new_tactic_stats ON COMMIT DROP AS
        WITH used AS (
            SELECT s.day, p.tactic_id, {_columns(_USES)}
            FROM snapshot s JOIN played p ON p.date < s.day
            GROUP BY 1, 2
        ), rated AS (
            SELECT own.day, own.tactic_id, {_columns(rated)}
            FROM tactic_rate own GROUP BY 1, 2
        )
        SELECT s.at AS event_timestamp, tactic_id, {", ".join(rated)},
               {_columns(_from_uses("tactic", names.TACTIC_FEATURES))}
        FROM snapshot s
        CROSS JOIN tactic_list
        LEFT JOIN rated USING (day, tactic_id)
        LEFT JOIN used USING (day, tactic_id)
        """,
    )
    rated = _rates("tactic_segment", fallback="parent")
    features = names.TACTIC_SEGMENT_FEATURES
    _run(
        connection,
        f"""
        CREATE TEMP TABLE new_tactic_segment_stats ON COMMIT DROP AS
        WITH used AS (
            SELECT s.day, p.tactic_id, p.segment_id, {_columns(_USES)}
            FROM snapshot s JOIN played p ON p.date < s.day
            GROUP BY 1, 2, 3
        ), rated AS (
            SELECT day, tactic_id, segment_id, {_columns(rated)}
            FROM tactic_rate parent
            CROSS JOIN segment_list
            LEFT JOIN tactic_segment_rate own USING (day, rate, tactic_id, segment_id)
            GROUP BY 1, 2, 3
        )
        SELECT s.at AS event_timestamp, tactic_id, segment_id, {", ".join(rated)},
               {_columns(_from_uses("tactic_segment", features))}
        FROM snapshot s
        CROSS JOIN tactic_list
        CROSS JOIN segment_list
        LEFT JOIN rated USING (day, tactic_id, segment_id)
        LEFT JOIN used USING (day, tactic_id, segment_id);
        INSERT INTO new_tactic_segment_stats (event_timestamp, tactic_id, segment_id, {", ".join(features)})
        SELECT event_timestamp, tactic_id, '{names.ALL_SEGMENTS}',
               {", ".join(feature.replace("tactic_segment_", "tactic_", 1) for feature in features)}
        FROM new_tactic_stats
        """,
    )


def _segment_table(connection: Connection) -> None:
    """``new_segment_stats``: every segment, and all together."""
    per_event = {
        f"segment_{rate}_{window}d": (rate, window)
        for rate, window in (
            ("registrations_per_event", 90),
            ("registrations_per_event", _LONG),
            ("organic_per_event", _LONG),
            ("show_up_rate", _LONG),
        )
    }
    own = {
        feature: f"max(own.r{window}) FILTER (WHERE own.rate = '{rate}')"
        for feature, (rate, window) in per_event.items()
    }
    pooled = {
        feature: f"max(coalesce(own.pooled_{window}, own.m)) FILTER (WHERE own.rate = '{rate}')"
        for feature, (rate, window) in per_event.items()
    }
    counts = {
        "segment_events_90d": "count(*) FILTER (WHERE p.date >= s.day - 90)",
        "segment_events_365d": f"count(*) FILTER (WHERE p.date >= s.day - {_LONG})",
        "segment_events_total": "count(*)",
        "segment_days_since_last": "min(s.day - p.date)",
    }
    arrivals = {
        f"segment_registrations_{window}d": f"sum(p.registrations) FILTER (WHERE p.date >= s.day - {window})"
        for window in (28, 90)
    }
    zero = [name for name in (*counts, *arrivals) if name != "segment_days_since_last"]

    def grouped(source: str, expressions: Mapping[str, str]) -> str:
        """Per segment, and over all segments as the pooled one."""
        return f"""
            SELECT s.day, coalesce(p.segment_id, '{names.ALL_SEGMENTS}') AS segment_id, {_columns(expressions)}
            FROM snapshot s JOIN {source} p ON p.date < s.day
            GROUP BY GROUPING SETS ((s.day, p.segment_id), (s.day))
        """

    _run(
        connection,
        f"""
        CREATE TEMP TABLE new_segment_stats ON COMMIT DROP AS
        WITH held_counts AS ({grouped("held", counts)}
        ), arrival_counts AS ({grouped("registered", arrivals)}
        ), pooled AS (
            SELECT day, {_columns(pooled)} FROM segment_rate own GROUP BY 1
        ), own AS (
            SELECT day, segment_id, {_columns(own)} FROM segment_rate own GROUP BY 1, 2
        )
        SELECT s.at AS event_timestamp, segment_id,
               {_columns({feature: f"coalesce(own.{feature}, pooled.{feature})" for feature in per_event})},
               {_columns({feature: f"coalesce({feature}, 0)" for feature in zero})}, segment_days_since_last
        FROM snapshot s
        CROSS JOIN (SELECT segment_id FROM segment_list UNION SELECT '{names.ALL_SEGMENTS}') AS listed
        LEFT JOIN held_counts USING (day, segment_id)
        LEFT JOIN arrival_counts USING (day, segment_id)
        LEFT JOIN pooled USING (day)
        LEFT JOIN own USING (day, segment_id)
        """,
    )


def _write(connection: Connection, table: Table, organisation: str, today: datetime) -> int:
    """Store the computed snapshots of one view; returns the rows that the snapshots have.

    A snapshot rebuilt from history replaces what was there, unless that was made of the same facts
    (:func:`_find_kept`). A live one (taken on its own day) is what was served: from the next day on it stays, and rows
    that would be different now get a second version, stamped with this moment.
    """
    keys = [key for key in names.KEYS_BY_VIEW[table.name] if key != names.ORGANISATION]
    features = names.FEATURES_BY_VIEW[table.name]
    target, new = f"{schema.SCHEMA}.{table.name}", f"new_{table.name}"
    columns = ", ".join([*keys, *features])
    same_row = " AND ".join(f"old.{key} = new.{key}" for key in [*keys, names.EVENT_TIMESTAMP])
    of_snapshot = "old.organisation = :organisation AND old.event_timestamp IN (SELECT at FROM snapshot)"
    values = {"organisation": organisation, "today": today}
    for delete in (
        f"DELETE FROM {target} old WHERE {of_snapshot} AND (NOT old.is_live OR old.event_timestamp = :today)"
        " AND old.event_timestamp NOT IN (SELECT at FROM basis WHERE is_kept)",
        # of a live snapshot: versions between what was served and now are of no more use
        f"""
        DELETE FROM {target} old USING {new} new
        WHERE {of_snapshot} AND {same_row} AND old.created_timestamp > old.event_timestamp
          AND {_row("old", features)} IS DISTINCT FROM {_row("new", features)}
        """,
    ):
        connection.execute(text(delete), values)
    insert = f"""
        INSERT INTO {target} (organisation, event_timestamp, created_timestamp, is_live, {columns})
        SELECT :organisation, new.event_timestamp,
               CASE WHEN taken.at IS NULL THEN new.event_timestamp ELSE now() END,
               taken.at IS NOT NULL OR new.event_timestamp = :today,
               {", ".join(f"new.{column}" for column in [*keys, *features])}
        FROM {new} new
        LEFT JOIN (
            SELECT old.event_timestamp AS at, bool_or(old.is_live) AS is_live
            FROM {target} old WHERE {of_snapshot} GROUP BY 1
        ) AS taken ON taken.at = new.event_timestamp
        WHERE taken.is_live IS NOT FALSE AND NOT EXISTS (
            SELECT FROM {target} old
            WHERE old.organisation = :organisation AND {same_row}
              AND {_row("old", features)} IS NOT DISTINCT FROM {_row("new", features)}
              AND NOT EXISTS (
                  SELECT FROM {target} later
                  WHERE later.organisation = :organisation AND later.created_timestamp > old.created_timestamp
                    AND {" AND ".join(f"later.{key} = old.{key}" for key in [*keys, names.EVENT_TIMESTAMP])}
              )
        )
    """
    connection.execute(text(insert), values)
    return int(connection.scalar(text(f"SELECT count(*) FROM {new}")) or 0)


def _row(alias: str, columns: Iterable[str]) -> str:
    return "ROW(" + ", ".join(f"{alias}.{column}" for column in columns) + ")"


def _analyze(settings: Settings) -> None:
    """Tell the planner how much history there is now; the point-in-time join is slow on a wrong guess."""
    engine = create_engine(settings, pool_size=1)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in schema.SNAPSHOT_TABLES:
                connection.execute(text(f"ANALYZE {schema.SCHEMA}.{table.name}"))
    finally:
        engine.dispose()
