"""What predictions turned out to be worth: each joined to what came of it, night after night, in ``model_monitor``.

**Which plan counts.** An event is planned several times, and the organiser follows one plan or none. Of the plans made
before the event's day, the one nearest to what was then done is taken: least Σ |planned − actual spend| over the
tactics, as a share of the larger of the two sums; of equally near ones the last. A plan's registrations hold for its
spend alone, so an event counts only where that share is at most :data:`FOLLOWED`; the others are ``not_followed``.
Where nobody knows what was spent, the last plan counts. What came in plays no part in the choice.

The outcome is the newest one known, of the event's day: restated figures replace the earlier ones for predictions made
long ago, too, and ``restated`` says so.

**What is measured**, over the last 28, 90 and 365 days of events, per segment ('' all) and model version ('' any):

===============  =======================================================================================================
mae, rmse        of registrations per event
wape             Σ |error| / Σ actual, judged against the version's own backtest
bias             Σ (predicted − actual) / Σ actual; judged by a t-test of √predicted − √actual
coverage_80      share of events within their 80 % interval (P10 to P90); judged by a binomial test
not_followed     share of planned events that were done otherwise
tactic_mae,      the same per tactic (``subject``), of tactics whose spend came within :data:`FOLLOWED` of the plan
tactic_bias
psi, missing     drift of features and of predictions (``subject``), :mod:`training.drift`
restated         change of outcomes that the champion was trained on, since; ``evidence`` of ``reference`` events
ab               where champion and challenger share the events: difference of the arms (:mod:`training.abtest`),
                 per measure (``subject``); ``reference`` is p, ``detail`` the better version, if one is
===============  =======================================================================================================

A judgement needs :data:`FEWEST` events (coverage and wape :data:`ENOUGH`), and its level is divided by the number of
segments judged beside each other. Everything is computed anew for one morning, and replaced in one transaction.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, delete, func, insert, select, text

from training import drift
from training import registry as models
from training.drift import Drift, Reference, Status
from turnout import registry
from turnout.alerts import send_alert
from turnout.errors import NotReadyError
from turnout.model_news import DRIFT_DAYS, FEWEST_SHOWN, MAIN_WINDOW, sentence
from turnout.settings import Settings
from turnout.warehouse.engine import create_engine
from turnout.warehouse.tables import model_monitor

log = structlog.get_logger(__name__)

Floats = NDArray[np.float64]

#: Days of events looked back on.
WINDOWS = (28, 90, 365)
#: Days of earlier predictions that those of the last :data:`~turnout.model_news.DRIFT_DAYS` are compared with.
DRIFT_REFERENCE_DAYS = 180
#: Share of the money that may have been spent otherwise than planned.
FOLLOWED = 0.25
FEWEST, ENOUGH = 8, 20
#: Artefact of a response model: the outcomes it was trained on, by event.
OUTCOMES_FILE = "outcomes.csv"
#: An outcome counts as restated when it moved by more than this share, and by more than one person.
RESTATED = 0.02
_WARNING_P, _ALARM_P = 0.01, 0.001
_BIAS_WARNING, _BIAS_ALARM = 0.15, 0.25
_WAPE_WARNING, _WAPE_ALARM = 1.25, 1.5

#: Registrations after the event's day are no outcome of a plan (:mod:`training.point_in_time`): joined as ``late``,
#: added up by event, or by event and tactic.
_LATE = """
LEFT JOIN (
    SELECT {keys}, sum(registrations) AS registrations
    FROM turnout.late_registration WHERE organisation = :organisation GROUP BY {keys}
) AS late ON late.event_id = {of}.event_id AND {of}.registrations_basis = 'registration_system'
"""
_OF_DAY = "greatest({of}.registrations - coalesce(late.registrations, 0), 0) AS registrations"
_LATE_EVENTS, _EVENT_OF_DAY = _LATE.format(keys="event_id", of="s"), _OF_DAY.format(of="s")
_PLANS = f"""
SELECT p.plan_id, p.event_id, p.created_at, p.model_versions -> 0 ->> 'alias' AS arm,
       (p.brief -> 'goal' ->> 'target')::float8 AS target,
       r.tactic_id, r.spend_base, r.staff_hours, r.registrations_mean AS mean, r.registrations_p10 AS p10,
       r.registrations_p90 AS p90, r.model_name, r.model_version,
       s.segment_id, s.event_date, {_EVENT_OF_DAY}, s.attendees
FROM turnout.plan p
JOIN turnout.prediction r ON r.plan_id = p.plan_id
JOIN turnout.event_summary s ON s.organisation = p.organisation AND s.event_id = p.event_id
{_LATE_EVENTS}
WHERE p.organisation = :organisation AND s.event_date >= :since AND s.event_date < :until
  AND (p.created_at AT TIME ZONE :zone)::date < s.event_date
ORDER BY p.event_id, p.created_at, p.plan_id, r.tactic_id
"""
_ACTUAL = f"""
SELECT t.event_id, t.tactic_id, t.spend_base, {_OF_DAY.format(of="t")}
FROM turnout.event_tactic t
{_LATE.format(keys="event_id, tactic_id", of="t")} AND late.tactic_id = t.tactic_id
WHERE t.organisation = :organisation AND t.event_date >= :since AND t.event_date < :until
"""
_OUTCOMES = f"""
SELECT s.event_id, {_EVENT_OF_DAY}
FROM turnout.event_summary s
{_LATE_EVENTS}
WHERE s.organisation = :organisation AND s.event_date < :until
"""
#: One row per tactic, category and day: what-ifs of one day share their features. Those of older days are not needed.
_SERVED = """
SELECT DISTINCT ON (r.tactic_id, p.brief -> 'event' ->> 'category', (r.created_at AT TIME ZONE :zone)::date)
       r.tactic_id, (r.created_at AT TIME ZONE :zone)::date AS day, r.spend_base, r.staff_hours,
       r.registrations_mean AS mean,
       CASE WHEN (r.created_at AT TIME ZONE :zone)::date >= :recent THEN r.features END AS features
FROM turnout.prediction r
JOIN turnout.plan p ON p.plan_id = r.plan_id
WHERE r.organisation = :organisation AND r.tactic_id <> ''
  AND r.created_at >= CAST(:since AS date) AT TIME ZONE :zone AND r.created_at < CAST(:until AS date) AT TIME ZONE :zone
ORDER BY r.tactic_id, p.brief -> 'event' ->> 'category', (r.created_at AT TIME ZONE :zone)::date, r.created_at DESC
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of ``model_monitor``."""

    model_name: str
    metric: str
    value: float | None
    evidence: int
    status: Status
    window_days: int
    segment_id: str = ""
    model_version: str = ""
    subject: str = ""
    reference: float | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """Predictions with what came of them.

    Attributes:
        events: one row per planned event: event_id, segment_id, event_date, plan_id, created_at, arm (alias of the
            response model then), model_version, target, mean, p10, p90, registrations, followed.
        tactics: one row per event and tactic that was done as planned: tactic_id, segment_id, event_date,
            model_version, mean, registrations.
    """

    events: pd.DataFrame
    tactics: pd.DataFrame


@dataclass(frozen=True, slots=True)
class Report:
    """A morning's monitoring. ``alarms`` are those that the morning before did not have."""

    as_of: str
    organisation: str
    rows: list[Row] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def observe(settings: Settings, as_of: date, *, engine: Engine | None = None) -> Report:
    """Measure everything as of the morning of ``as_of``, store it, and tell the team of new alarms.

    Idempotent: running it again replaces the morning's rows, and does not tell again what was told.
    """
    own = engine or create_engine(settings, pool_size=1)
    try:
        rows = list(_rows(settings, own, as_of))
        with own.begin() as connection:
            _lock(connection, settings.organisation)
            told = _alarms_stored(connection, settings, as_of)
            here = model_monitor.c.organisation == settings.organisation
            connection.execute(delete(model_monitor).where(here, model_monitor.c.as_of == as_of))
            if rows:
                key = {"organisation": settings.organisation, "as_of": as_of}
                connection.execute(insert(model_monitor), [asdict(row) | key for row in rows])
    finally:
        if engine is None:
            own.dispose()
    new = [r for r in rows if r.status == "alarm" and not r.model_version and _key(r) not in told]
    alarms = [sentence(row, settings.language) for row in new if row.window_days in (MAIN_WINDOW, DRIFT_DAYS)]
    if alarms:
        send_alert(settings, "Turnout: predictions need a look", "\n".join(alarms))
    log.info("monitored", as_of=as_of.isoformat(), rows=len(rows), new_alarms=len(alarms))
    return Report(as_of.isoformat(), settings.organisation, rows, alarms)


def latest(settings: Settings, *, as_of: date | None = None, engine: Engine | None = None) -> tuple[date, list[Row]]:
    """The newest morning stored, not after ``as_of``, and its rows.

    Raises:
        NotReadyError: nothing was measured yet.
    """
    own = engine or create_engine(settings, pool_size=1)
    table = model_monitor.c
    try:
        with own.connect() as connection:
            newest = select(func.max(table.as_of)).where(table.organisation == settings.organisation)
            if as_of is not None:
                newest = newest.where(table.as_of <= as_of)
            day = connection.execute(newest).scalar_one()
            if day is None:
                raise NotReadyError("nothing was monitored yet; run `turnout models monitor`, or wait for the night")
            names = list(Row.__dataclass_fields__)
            stored = select(*(table[n] for n in names)).where(
                table.organisation == settings.organisation, table.as_of == day
            )
            found = connection.execute(
                stored.order_by(table.model_version, table.segment_id, table.window_days, table.metric, table.subject)
            )
            return day, [Row(**row) for row in found.mappings()]
    finally:
        if engine is None:
            own.dispose()


# --- joining ----------------------------------------------------------------------------------------------------------


def join(connection: Connection, settings: Settings, since: date, until: date) -> Joined:
    """Predictions of the events in [since, until) with what came of them."""
    bound = {"organisation": settings.organisation, "since": since, "until": until, "zone": settings.time_zone}
    planned = _read(connection, _PLANS, bound, ("spend_base", "mean", "p10", "p90", "registrations", "attendees"))
    actual = _read(connection, _ACTUAL, bound, ("spend_base", "registrations"))
    return joined(planned, actual)


def joined(planned: pd.DataFrame, actual: pd.DataFrame) -> Joined:
    """Choose each event's plan and lay its predictions beside what came.

    Args:
        planned: one row per plan and tactic ('' is the total) with the event's outcome.
        actual: event_id, tactic_id, spend_base, registrations of the tactics that were used.
    """
    totals = planned[planned["tactic_id"] == ""].set_index("plan_id")
    parts = planned[planned["tactic_id"] != ""]
    deviation = _deviations(totals, parts, actual)
    order = pd.DataFrame({
        "event_id": totals["event_id"], "deviation": deviation.round(6), "created_at": totals["created_at"],
    }).sort_values(["event_id", "deviation", "created_at"], ascending=[True, True, False], kind="stable")  # fmt: skip
    chosen = order.groupby("event_id", sort=False).head(1).index
    events = totals.loc[chosen].reset_index()
    events["followed"] = (deviation.loc[chosen] <= FOLLOWED).to_numpy()
    events = events[events["registrations"].notna()].reset_index(drop=True)
    done = parts[parts["plan_id"].isin(events["plan_id"])].drop(columns="registrations")
    done = done.merge(actual, on=["event_id", "tactic_id"], how="inner", suffixes=("", "_actual"))
    gap = (done["spend_base"] - done["spend_base_actual"]).abs()
    most = np.maximum(np.maximum(done["spend_base"], done["spend_base_actual"].fillna(0.0)), 1e-9)
    as_planned = done["spend_base_actual"].isna() | (gap / most <= FOLLOWED) | (done["spend_base"] == 0)
    return Joined(events, done[as_planned & done["registrations"].notna()].reset_index(drop=True))


def _deviations(totals: pd.DataFrame, parts: pd.DataFrame, actual: pd.DataFrame) -> pd.Series:
    """Per plan, the share of the money that was spent otherwise; 0 where nobody knows."""
    spent = actual[actual["spend_base"].notna() & (actual["spend_base"] > 0)]
    pairs = parts[["plan_id", "tactic_id", "spend_base"]].rename(columns={"spend_base": "planned"})
    wanted = totals.reset_index()[["plan_id", "event_id"]].merge(
        spent[["event_id", "tactic_id", "spend_base"]].rename(columns={"spend_base": "actual"}), on="event_id"
    )
    both = pairs.merge(wanted[["plan_id", "tactic_id", "actual"]], on=["plan_id", "tactic_id"], how="outer")
    both = both.assign(planned=both["planned"].fillna(0.0), actual=both["actual"].fillna(0.0))
    both["gap"] = (both["planned"] - both["actual"]).abs()
    sums = both.groupby("plan_id")[["planned", "actual", "gap"]].sum().reindex(totals.index).fillna(0.0)
    share: pd.Series = sums["gap"] / sums[["planned", "actual"]].max(axis=1).clip(lower=1e-9)
    return share.where(totals["event_id"].isin(spent["event_id"]), 0.0)


def _read(connection: Connection, query: str, bound: Mapping[str, Any], numbers: Iterable[str] = ()) -> pd.DataFrame:
    result = connection.execute(text(query), dict(bound))
    frame = pd.DataFrame.from_records(result.fetchall(), columns=list(result.keys()), coerce_float=True)
    for name in numbers:
        frame[name] = pd.to_numeric(frame[name], errors="coerce").astype(np.float64)
    return frame


# --- measuring --------------------------------------------------------------------------------------------------------


def _rows(settings: Settings, engine: Engine, as_of: date) -> Iterator[Row]:
    since = as_of - timedelta(days=max(WINDOWS))
    bound = {
        "organisation": settings.organisation, "zone": settings.time_zone, "until": as_of,
        "since": as_of - timedelta(days=DRIFT_DAYS + DRIFT_REFERENCE_DAYS),
        "recent": as_of - timedelta(days=DRIFT_DAYS),
    }  # fmt: skip
    with engine.connect() as connection:
        found = join(connection, settings, since, as_of)
        served = _read(connection, _SERVED, bound, ("spend_base", "staff_hours", "mean"))
        outcomes = _read(connection, _OUTCOMES, bound, ("registrations",)).set_index("event_id")["registrations"]
    expected = _backtested(settings)
    for window in WINDOWS:
        first = as_of - timedelta(days=window)
        events = found.events[found.events["event_date"] >= first]
        tactics = found.tactics[found.tactics["event_date"] >= first]
        versions = ["", *sorted(events["model_version"].unique())]
        for version in versions:
            mine = events if not version else events[events["model_version"] == version]
            yield from event_rows(mine, window, version, expected.get(version))
        yield from tactic_rows(tactics, window)
    yield from _drift_rows(settings, served, as_of)
    yield from _restated_rows(settings, outcomes)
    yield from _ab_rows(settings, as_of, engine)


def event_rows(events: pd.DataFrame, window: int, version: str = "", expected: float | None = None) -> Iterator[Row]:
    """Rows about event totals, for all segments together and for each."""
    segments = sorted(events["segment_id"].unique())
    for segment in ["", *segments]:
        own = events if not segment else events[events["segment_id"] == segment]
        if own.empty:
            continue
        common = {"window_days": window, "segment_id": segment, "model_version": version}
        yield from _measured(own, expected, 1 if not segment else len(segments), common)


def _measured(own: pd.DataFrame, expected: float | None, tests: int, common: Mapping[str, Any]) -> Iterator[Row]:
    name = registry.RESPONSE
    planned = len(own)
    others = 1 - float(own["followed"].mean())
    yield Row(name, "not_followed", others, planned, "ok" if planned >= FEWEST_SHOWN else "too_few", **common)
    own = own[own["followed"]]
    n = len(own)
    if not n:
        return
    actual, mean = (own[c].to_numpy(dtype=np.float64) for c in ("registrations", "mean"))
    error = mean - actual
    shown: Status = "ok" if n >= FEWEST_SHOWN else "too_few"
    yield Row(name, "mae", float(np.abs(error).mean()), n, shown, **common)
    yield Row(name, "rmse", float(np.sqrt((error**2).mean())), n, shown, **common)
    inside = int(((actual >= own["p10"]) & (actual <= own["p90"])).sum())
    yield Row(name, "coverage_80", inside / n, n, _coverage_status(inside, n, tests), reference=0.8, **common)
    if actual.sum() > 0:
        wape = float(np.abs(error).sum() / actual.sum())
        yield Row(name, "wape", wape, n, _wape_status(wape, expected, n), reference=expected, **common)
        bias = float(error.sum() / actual.sum())
        status = _bias_status(np.sqrt(mean) - np.sqrt(actual), bias, tests)
        yield Row(name, "bias", bias, n, status, reference=0.0, **common)


def tactic_rows(tactics: pd.DataFrame, window: int) -> Iterator[Row]:
    """Rows about tactics that were done as planned."""
    names = sorted(tactics["tactic_id"].unique())
    for tactic in names:
        own = tactics[tactics["tactic_id"] == tactic]
        actual, mean = (own[c].to_numpy(dtype=np.float64) for c in ("registrations", "mean"))
        common: dict[str, Any] = {"window_days": window, "subject": tactic}
        shown: Status = "ok" if len(own) >= FEWEST_SHOWN else "too_few"
        yield Row(registry.RESPONSE, "tactic_mae", float(np.abs(mean - actual).mean()), len(own), shown, **common)
        if actual.sum() > 0:
            bias = float((mean - actual).sum() / actual.sum())
            status = _bias_status(np.sqrt(mean) - np.sqrt(actual), bias, len(names))
            yield Row(registry.RESPONSE, "tactic_bias", bias, len(own), status, reference=0.0, **common)


def _coverage_status(inside: int, n: int, tests: int) -> Status:
    from scipy import stats

    if n < ENOUGH:
        return "too_few"
    status = _by_p(float(stats.binomtest(inside, n, 0.8).pvalue) * tests)
    # intervals that are too wide promise too little: worth knowing, no reason to wake anybody
    return "warning" if status == "alarm" and inside / n > 0.8 else status


def _bias_status(difference: Floats, bias: float, tests: int) -> Status:
    from scipy import stats

    if len(difference) < FEWEST:
        return "too_few"
    spread = float(difference.std(ddof=1)) / math.sqrt(len(difference))
    p = 2 * float(stats.t.sf(abs(float(difference.mean())) / max(spread, 1e-9), len(difference) - 1)) * tests
    if abs(bias) < _BIAS_WARNING:
        return "ok"
    judged = _by_p(p)
    return "warning" if judged == "alarm" and abs(bias) < _BIAS_ALARM else judged


def _wape_status(wape: float, expected: float | None, n: int) -> Status:
    if n < ENOUGH or not expected:
        return "too_few"
    ratio = wape / expected
    return "alarm" if ratio > _WAPE_ALARM else "warning" if ratio > _WAPE_WARNING else "ok"


def _by_p(p: float) -> Status:
    return "alarm" if p < _ALARM_P else "warning" if p < _WARNING_P else "ok"


def _backtested(settings: Settings) -> dict[str, float]:
    """WAPE of event totals in each version's own backtest; '' is the champion's."""
    found: dict[str, float] = {}
    champion = registry.alias_version(settings, registry.RESPONSE)
    for version in models.versions(settings, registry.RESPONSE):
        wape = models.reference(settings, version, created=False).metrics.get("wape_events")
        if wape:
            found[str(version.version)] = wape
            if str(version.version) == champion:
                found[""] = wape
    return found


def _drift_rows(settings: Settings, served: pd.DataFrame, as_of: date) -> Iterator[Row]:
    recent = served[served["day"] >= as_of - timedelta(days=DRIFT_DAYS)]
    earlier = served[served["day"] < as_of - timedelta(days=DRIFT_DAYS)]
    trained_on = _reference(settings)
    if trained_on is not None and len(recent):
        yield from _drifts(drift.measure(trained_on, _features(recent)))
    if len(earlier) and len(recent):
        sides = [_per_unit(part) for part in (earlier, recent)]
        yield from _drifts(drift.measure(Reference.of(sides[0], ["prediction_per_unit"]), sides[1]))


def _drifts(found: Iterable[Drift]) -> Iterator[Row]:
    for one in found:
        common: dict[str, Any] = {"window_days": DRIFT_DAYS, "subject": one.feature, "evidence": one.values}
        gone = one.missing > drift.MISSING and one.status == "alarm"
        yield Row(
            registry.RESPONSE, "psi", one.psi, status="ok" if gone else one.status, reference=drift.ALARM,
            detail=f"p = {one.p:.2g}", **common,
        )  # fmt: skip
        yield Row(
            registry.RESPONSE, "missing", one.missing, status="alarm" if gone else "ok", reference=drift.MISSING,
            **common,
        )  # fmt: skip


def _features(served: pd.DataFrame) -> pd.DataFrame:
    values = pd.DataFrame.from_records([dict(f or {}) for f in served["features"]], index=served.index)
    wanted = values.reindex(columns=list(drift.drifting_features())).astype(np.float64)
    return wanted.assign(tactic_id=served["tactic_id"])


def _per_unit(served: pd.DataFrame) -> pd.DataFrame:
    """Predicted registrations per unit of money, or per staff hour where none is spent."""
    amount = served["spend_base"].where(served["spend_base"] > 0, served["staff_hours"])
    rate = (served["mean"] / amount).where(amount > 0)
    return pd.DataFrame({"tactic_id": served["tactic_id"], "prediction_per_unit": rate})


def _restated_rows(settings: Settings, outcomes: pd.Series) -> Iterator[Row]:
    """Whether outcomes that the champion learnt from are other ones by now."""
    written = _written(settings, OUTCOMES_FILE)
    if written is None:
        return
    then = pd.read_csv(io.StringIO(written), dtype={"event_id": str}).set_index("event_id")["registrations"].dropna()
    now = outcomes.reindex(then.index)
    both = now.notna()
    then, now = then[both], now[both]
    moved = (now - then).abs() > np.maximum(RESTATED * then, 1.0)
    count, before = int(moved.sum()), float(then[moved].sum())
    change = float(now[moved].sum()) / before - 1 if before > 0 else float(count > 0)
    worst = (now - then)[moved].abs().sort_values(ascending=False).head(3)
    named = ", ".join(f"{event} {then[event]:,.0f} → {now[event]:,.0f}" for event in worst.index)
    yield Row(
        registry.RESPONSE, "restated", change, count, "warning" if count else "ok", MAIN_WINDOW,
        reference=float(len(then)), detail=named or None,
    )  # fmt: skip


def _ab_rows(settings: Settings, as_of: date, engine: Engine) -> Iterator[Row]:
    """How the test of challenger against champion stands, where one runs."""
    if settings.challenger_share <= 0:
        return
    from training import abtest

    found = abtest.report(settings, as_of, engine=engine)
    versions = {"champion": found.champion, "challenger": found.challenger}
    for one in found.measures:
        decided = one.better in versions
        status: Status = "warning" if decided else "too_few" if one.better == "too_few" else "ok"
        yield Row(
            registry.RESPONSE, "ab", one.difference, one.champion_events + one.challenger_events, status, MAIN_WINDOW,
            subject=one.name, reference=one.p,
            detail=f"{one.better} v{versions[one.better]}" if decided else None,
        )  # fmt: skip


def _reference(settings: Settings) -> Reference | None:
    """The distributions the champion was trained on; None for a version that did not record them."""
    written = _written(settings, drift.FILE)
    return None if written is None else Reference.from_json(written)


def _written(settings: Settings, name: str) -> str | None:
    """A file that the champion's training wrote down; None where there is none."""
    champion = registry.alias_version(settings, registry.RESPONSE)
    if champion is None:
        return None
    run = registry.client(settings).get_model_version(registry.RESPONSE, champion).run_id
    return models.read_table(settings, run, name)


# --- telling ----------------------------------------------------------------------------------------------------------


def _lock(connection: Connection, organisation: str) -> None:
    key = {"key": f"model_monitor:{organisation}"}
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), key)


def _key(row: Row) -> tuple[str, ...]:
    return (row.model_name, row.segment_id, str(row.window_days), row.metric, row.subject)


def _alarms_stored(connection: Connection, settings: Settings, as_of: date) -> set[tuple[str, ...]]:
    """Alarms of this morning, where it was measured before, and of the newest one before it."""
    table = model_monitor.c
    here = table.organisation == settings.organisation
    before = select(func.max(table.as_of)).where(here, table.as_of < as_of).scalar_subquery()
    found = connection.execute(
        select(table.model_name, table.segment_id, table.window_days, table.metric, table.subject).where(
            here, table.status == "alarm", table.model_version == "", (table.as_of == as_of) | (table.as_of == before)
        )
    )
    return {(r.model_name, r.segment_id, str(r.window_days), r.metric, r.subject) for r in found}
