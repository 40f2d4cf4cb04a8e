"""Training rows: one per event and tactic that was used, as known when the event was planned.

The label is what the event's day showed (view ``event_tactic``; what is dated after that day is left out,
:mod:`training.point_in_time`); everything else is dated :data:`PLANNING_DAYS` before
the event. Only events whose day is over are read (``event_date < until``), features come point-in-time from the feature
store, and the demand index from the forecasts made by then. So a model never sees what a planner could not have known.

A row needs a label and an x the curve can be asked at:

* paid tactics: x is the spend in base currency; a row without spend is left out;
* free tactics: x is the staff hours; organisers seldom write them down, so unknown hours count as the usual effort
  (:func:`usual_effort`), and the tactic's level is learnt at that effort;
* a free tactic of which the organiser wrote down nothing, in an event whose other free ones are written down, was not
  used: the few people who name it mixed it up with something else, and count as organic, like whoever else no
  tactic of the plan brought;
* between whole units the curve is read as straight lines (:func:`expected`): prices paid differ from the catalogue's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, text

from feature_repo import names
from training import experiments, point_in_time
from turnout import taxonomy
from turnout.brief import Brief
from turnout.curves import CappedLinear, Curve, Step
from turnout.errors import NotReadyError
from turnout.money import Rates
from turnout.scoring.design import derived_names, design_matrix
from turnout.scoring.effects import price_ratio
from turnout.scoring.published import kind_of
from turnout.settings import Settings
from turnout.tactics import Tactic, load_catalogue
from turnout.tactics.priors import PriorCurve, prior_curve
from turnout.warehouse.engine import create_engine, for_large_reads, refresh_statistics

log = structlog.get_logger(__name__)

#: Plans are made about four weeks ahead: the lead time of most tactics.
PLANNING_DAYS = 28
#: Trust in a label by where it comes from, relative to the registration system's own count.
BASIS_WEIGHTS: Mapping[str, float] = {
    "registration_system": 1.0,
    "tactic_result": 0.8,
    "outcome": 0.8,
    "claimed": 0.4,
}
#: The least a used tactic is expected to bring, so that its logarithm exists.
LEAST_EXPECTED = 0.05
#: A target the organiser did not write down; only the referral prior looks at it.
_TYPICAL_TARGET = 100

#: The features a response model is trained on, in order.
FEATURE_NAMES: tuple[str, ...] = (*derived_names(), *names.RESPONSE_FEATURES)

_EVENTS = """
SELECT s.event_id, s.event_date, s.segment_id, s.format, s.price_base, s.registrations, s.organic_registrations,
       s.attendees, s.show_up_rate, s.first_registration, s.is_simulated,
       e.name, e.target_registrations, e.industries, e.job_titles, e.company_sizes, e.account, e.theme,
       e.registration_opens, s.registrations_basis
FROM turnout.event_summary s
JOIN turnout.event e ON e.organisation = s.organisation AND e.event_id = s.event_id
WHERE s.organisation = :organisation AND s.event_date < :until
ORDER BY s.event_date, s.event_id
"""
_TACTICS = """
WITH begun AS MATERIALIZED (
    -- a campaign that was left running: what it spent after the event's day bought none of its registrations
    SELECT d.event_id, d.tactic_id, min(d.date) FILTER (WHERE d.date <= e.event_date) AS first_date,
           sum(d.spend_base) FILTER (WHERE d.date > e.event_date) AS late_spend
    FROM turnout.tactic_daily d
    JOIN turnout.event e ON e.organisation = d.organisation AND e.event_id = d.event_id
    WHERE d.organisation = :organisation AND (d.reach > 0 OR d.spend_base > 0)
    GROUP BY d.event_id, d.tactic_id
)
SELECT t.event_id, t.tactic_id,
       CASE WHEN t.spend_basis = 'platform_daily' THEN greatest(t.spend_base - coalesce(b.late_spend, 0), 0)
            ELSE t.spend_base END AS spend_base,
       t.staff_hours, t.registrations, t.registrations_basis, t.spend_basis, t.reach,
       t.event_date - b.first_date AS run_days
FROM turnout.event_tactic t
LEFT JOIN begun b ON b.event_id = t.event_id AND b.tactic_id = t.tactic_id
WHERE t.organisation = :organisation AND t.event_date < :until AND t.registrations IS NOT NULL
ORDER BY t.event_date, t.event_id, t.tactic_id
"""
_DAILY = """
SELECT r.event_id, e.event_date - r.date AS days_before, sum(r.quantity) AS registrations
FROM turnout.registration r
JOIN turnout.event e ON e.organisation = r.organisation AND e.event_id = r.event_id
WHERE r.organisation = :organisation AND r.status = 'confirmed' AND e.event_date < :until AND r.date <= e.event_date
GROUP BY 1, 2
ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class History:
    """What the warehouse holds on events that are over.

    Attributes:
        events: one row per event, in order of date; index ``event_id``. Columns event_date (datetime64), segment_id,
            format, kind, price_base, registrations, organic_registrations, attendees, show_up_rate, is_simulated,
            name, target_registrations, industries, job_titles, company_sizes, account, theme, opens_days (days from
            the opening of registration to the event, NaN if unknown).
        tactics: one row per event and tactic: spend_base, staff_hours, registrations, registrations_basis, recorded
            (whether anything but registrations is known of it), run_days (days from the first paid or sent one to the
            event, NaN where no day is known; never from registrations, which are the outcome).
        daily: event_id, days_before (>= 0), registrations: how they came in, where the day is known.
        until: only events before this day.
    """

    events: pd.DataFrame
    tactics: pd.DataFrame
    daily: pd.DataFrame
    until: date

    def before(self, day: date) -> History:
        """The events before ``day`` alone: what was known on its morning."""
        events = self.events[self.events["event_date"] < pd.Timestamp(day)]
        tactics = self.tactics[self.tactics["event_id"].isin(events.index)]
        daily = self.daily[self.daily["event_id"].isin(events.index)]
        return History(events, tactics, daily, day)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows ready for training.

    Attributes:
        rows: event_id, tactic_id, segment_id, x, y (registrations), weight, baseline (benchmark at x), prior_log_sd,
            and the raw columns and store features that :func:`turnout.scoring.design_matrix` reads.
        curves: the benchmark curve of each row, shape (rows,).
        history: the events behind them, also those without any usable row.
        feature_names: columns of the design matrix.
        lifts: lift tests as observations of the tactics' levels (:mod:`training.experiments`); of no event.
        country: whose public holidays count.
    """

    rows: pd.DataFrame
    curves: NDArray[np.object_]
    history: History
    feature_names: tuple[str, ...] = FEATURE_NAMES
    notes: tuple[str, ...] = field(default=())
    lifts: pd.DataFrame = field(default_factory=experiments.nothing)
    country: str = "JP"

    def matrix(self) -> NDArray[np.float32]:
        """The design matrix of all rows."""
        return design_matrix(columns_of(self.rows), self.feature_names, len(self.rows))

    def before(self, day: date) -> Dataset:
        """The rows of events before ``day``, with the history of that morning."""
        part = self.subset(np.asarray(self.rows["event_date"] < pd.Timestamp(day), dtype=np.bool_))
        known = self.lifts[self.lifts["day"] < pd.Timestamp(day)].reset_index(drop=True)
        return replace(part, history=self.history.before(day), lifts=known)

    def subset(self, mask: NDArray[np.bool_]) -> Dataset:
        """The rows where ``mask`` holds; the history stays whole."""
        return replace(self, rows=self.rows[mask].reset_index(drop=True), curves=self.curves[mask])

    @property
    def fingerprint(self) -> str:
        """Changes exactly when something that training reads changes; not with the night it is read in."""
        hasher = hashlib.sha256()
        for frame in (self.rows, self.history.events, self.history.daily, self.lifts.drop(columns="curve")):
            plain = frame.reset_index()
            hasher.update("\x1f".join(map(str, plain.columns)).encode())
            texts = plain.select_dtypes(include="object")
            listed = [str(c) for c in texts if texts[c].map(lambda v: isinstance(v, list | tuple | np.ndarray)).any()]
            plain = plain.assign(**{c: plain[c].map(str) for c in listed})
            hasher.update(pd.util.hash_pandas_object(plain, index=False).to_numpy().tobytes())
        return hasher.hexdigest()[:32]


def demand_index_of(events: pd.DataFrame) -> NDArray[np.float64]:
    """The index forecast when each event was planned; 1 where none was."""
    if "demand_index" not in events.columns:
        return np.ones(len(events))
    return events["demand_index"].fillna(1.0).to_numpy(dtype=np.float64)


def columns_of(rows: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """The columns of a frame as arrays, for :func:`turnout.scoring.design_matrix`."""
    return {str(name): rows[name].to_numpy() for name in rows.columns}


def build(settings: Settings, until: date, *, engine: Engine | None = None) -> Dataset:
    """Read the history and the features known when each event was planned.

    Args:
        until: only events before this day count.
    """
    history = load_history(settings, until, engine=engine)
    rates = Rates.of(settings)
    tests = experiments.observations(settings, until, engine=engine)
    dataset = replace(assemble(history, rates), lifts=experiments.with_benchmark(tests, rates))
    point_in_time.check_rows(dataset)
    return with_features(settings, replace(dataset, country=settings.country))


def load_history(settings: Settings, until: date, *, engine: Engine | None = None) -> History:
    """Read the events before ``until`` and what they brought."""
    own = engine or create_engine(settings, pool_size=1)
    try:
        refresh_statistics(own)
        with own.connect() as connection:
            for_large_reads(connection)
            bound = {"organisation": settings.organisation, "until": until}
            events = _read(connection, _EVENTS, bound).set_index("event_id")
            tactics = _read(connection, _TACTICS, bound)
            daily = _read(connection, _DAILY, bound)
            events, tactics = point_in_time.without_late(events, tactics, _read(connection, point_in_time.LATE, bound))
    finally:
        if engine is None:
            own.dispose()
    return prepared(events, tactics, daily, until)


def prepared(events: pd.DataFrame, tactics: pd.DataFrame, daily: pd.DataFrame, until: date) -> History:
    """Give the columns their types, and let nothing dated ``until`` or later in."""
    events = events.assign(event_date=pd.to_datetime(events["event_date"]).astype("datetime64[s]"))
    events = events[events["event_date"] < pd.Timestamp(until)].sort_values("event_date", kind="stable")
    for name in ("price_base", "registrations", "organic_registrations", "attendees", "show_up_rate"):
        events[name] = pd.to_numeric(events[name], errors="coerce").astype(np.float64)
    prices = events["price_base"].fillna(0.0)
    events["kind"] = [kind_of(f, p) for f, p in zip(events["format"], prices, strict=True)]
    for name in ("account", "theme"):
        events[name] = events[name].fillna("").astype(str) if name in events else ""
    events["opens_days"] = np.nan
    if "registration_opens" in events:
        opens = pd.to_datetime(events["registration_opens"])
        events["opens_days"] = (events["event_date"] - opens) / pd.Timedelta(days=1)
    events = events.drop(columns=["registration_opens", "registrations_basis"], errors="ignore")
    tactics = tactics[tactics["event_id"].isin(events.index)].copy()
    if "run_days" not in tactics:
        tactics["run_days"] = np.nan
    for name in ("spend_base", "staff_hours", "registrations", "run_days"):
        tactics[name] = pd.to_numeric(tactics[name], errors="coerce").astype(np.float64)
    known = [tactics[n].notna() for n in ("staff_hours", "spend_basis", "reach") if n in tactics]
    tactics["recorded"] = np.logical_or.reduce(known)
    tactics = tactics.drop(columns=["spend_basis", "reach"], errors="ignore")
    daily = daily[daily["event_id"].isin(events.index)].copy()
    for name in ("days_before", "registrations"):
        daily[name] = pd.to_numeric(daily[name], errors="coerce").astype(np.float64)
    return History(events, tactics.reset_index(drop=True), daily.reset_index(drop=True), until)


def _read(connection: Connection, query: str, bound: Mapping[str, Any]) -> pd.DataFrame:
    result = connection.execute(text(query), dict(bound))
    return pd.DataFrame.from_records(result.fetchall(), columns=list(result.keys()), coerce_float=True)


# --- curves -----------------------------------------------------------------------------------------------------------


def brief_of(event: Mapping[str, Any], currency: str) -> Brief:
    """The question a planner would have asked for a past event. Its assets of the time are not known."""
    price, target = event["price_base"], event["target_registrations"]
    return Brief.model_validate(
        {
            "event": {
                "name": str(event["name"])[:200] or "event",
                "date": pd.Timestamp(event["event_date"]).date(),
                "category": event["segment_id"],
                "format": event["format"],
                "price": {"amount": 0 if pd.isna(price) else float(price), "currency": currency},
                "audience": {
                    name: [i for i in event[name] if i in vocabulary]
                    for name, vocabulary in (
                        ("industries", taxonomy.industries),
                        ("job_titles", taxonomy.job_titles),
                        ("company_sizes", taxonomy.company_sizes),
                    )
                },
            },
            "goal": {"target": _TYPICAL_TARGET if pd.isna(target) or target < 1 else int(target)},
            "budget": {"amount": 0, "currency": currency},
        }
    )


def usual_effort(prior: PriorCurve) -> float:
    """Staff hours that a free tactic usually takes: half of its whole units, or half of its audience."""
    if prior.unit_at:
        return prior.unit_at[min((len(prior.unit_at) + 1) // 2, 4) - 1]
    curve = prior.curve
    if isinstance(curve, CappedLinear):
        return curve.start + 0.5 * curve.cap / curve.rate if curve.rate > 0 else max(curve.start, 1.0)
    return 4.0


def expected(curve: Curve, x: float) -> float:
    """The benchmark's registrations at ``x`` for a past event, at least :data:`LEAST_EXPECTED`.

    Steps are read as straight lines through their corners: half the catalogue's price bought something, too.
    """
    if isinstance(curve, Step):
        value = float(np.interp(x, *curve.knots()))
    elif isinstance(curve, CappedLinear) and 0 < x < curve.start:
        value = float(curve(curve.start * 1.25)) * x / curve.start
    else:
        value = float(curve(x))
    return max(value, LEAST_EXPECTED)


def assemble(history: History, rates: Rates) -> Dataset:
    """The rows of ``history`` with their benchmark curves, without features of the store."""
    catalogue = load_catalogue()
    records: list[dict[str, Any]] = []
    curves: list[Curve] = []
    skipped = {"unknown_tactic": 0, "not_used": 0, "no_audience": 0}
    for event_id, event, tactics in _by_event(history):
        brief = brief_of(event, rates.base)
        keeps_records = any(r["recorded"] and _is_free(r["tactic_id"]) for r in tactics)
        shared = {
            "event_id": event_id,
            "segment_id": event["segment_id"],
            "category": event["segment_id"],
            "format": event["format"],
            "event_date": event["event_date"],
            "as_of": event["event_date"] - pd.Timedelta(days=PLANNING_DAYS),
            "price_base": 0.0 if math.isnan(event["price_base"]) else event["price_base"],
            "kind": event["kind"],
            "organiser": event["account"],
            "theme": event["theme"],
            "opens_days": event["opens_days"],
            "price_ratio": price_ratio(0.0 if math.isnan(event["price_base"]) else event["price_base"], rates),
            "company_sizes": tuple(brief.event.audience.company_sizes),
            "job_titles": tuple(brief.event.audience.job_titles),
            "industries_n": float(len(brief.event.audience.industries)),
            "job_titles_n": float(len(brief.event.audience.job_titles)),
            "company_sizes_n": float(len(brief.event.audience.company_sizes)),
            "demand_index": 1.0,
            "is_simulated": bool(event["is_simulated"]),
        }
        for row in tactics:
            if row["tactic_id"] not in catalogue:
                skipped["unknown_tactic"] += 1
                continue
            tactic = catalogue.get(row["tactic_id"])
            prior = prior_curve(tactic, _as_planned(brief, tactic, row["run_days"]), rates)
            x = _amount(tactic, prior, row["spend_base"], row["staff_hours"], row["registrations"])
            if x is None or not (tactic.is_paid or row["recorded"] or not keeps_records):
                skipped["not_used"] += 1
                continue
            if prior.curve.maximum <= 0:
                skipped["no_audience"] += 1
                continue
            curves.append(prior.curve)
            records.append(
                shared
                | {
                    "tactic_id": tactic.id,
                    "channel": tactic.channel,
                    "is_paid": float(tactic.is_paid),
                    "x": x,
                    "y": max(row["registrations"], 0.0),
                    "weight": BASIS_WEIGHTS.get(row["registrations_basis"], BASIS_WEIGHTS["claimed"]),
                    "baseline": expected(prior.curve, x),
                    "prior_log_sd": prior.log_sd,
                    "run_days": row["run_days"],
                }
            )
    if any(skipped.values()):
        log.info("rows_left_out", **skipped)
    rows = pd.DataFrame.from_records(records, columns=_ROW_COLUMNS)
    rows["event_date"] = pd.to_datetime(rows["event_date"]).astype("datetime64[s]")
    rows["as_of"] = pd.to_datetime(rows["as_of"]).astype("datetime64[s]")
    shapes = np.empty(len(curves), dtype=object)
    shapes[:] = curves
    return Dataset(rows, shapes, _with_rest(history, rows, rates))


def _as_planned(brief: Brief, tactic: Tactic, run_days: float) -> Brief:
    """``brief`` as of the last day on which the tactic could still begin when it did: late ones reach fewer."""
    if math.isnan(run_days) or run_days >= tactic.lead_time_days:
        return brief
    left = timedelta(days=int(run_days) + tactic.preparation_days)
    return brief.model_copy(update={"as_of": brief.event.date - left})


def _is_free(tactic_id: str) -> bool:
    catalogue = load_catalogue()
    return tactic_id in catalogue and not catalogue.get(tactic_id).is_paid


def _with_rest(history: History, rows: pd.DataFrame, rates: Rates) -> History:
    """Organic registrations with those of tactics that were left out, and the price ratio of each event."""
    events = history.events.copy()

    def by_event(frame: pd.DataFrame, name: str) -> pd.Series[float]:
        return frame.groupby("event_id")[name].sum().reindex(events.index).fillna(0.0)

    strays = (by_event(history.tactics, "registrations") - by_event(rows, "y")).clip(lower=0.0)
    organic = events["organic_registrations"]
    most = np.fmax(organic, events["registrations"])
    events["organic_registrations"] = np.minimum(organic + strays, most)
    events["price_ratio"] = [price_ratio(float(p), rates) for p in events["price_base"].fillna(0.0)]
    return replace(history, events=events)


_ROW_COLUMNS = (
    "event_id", "tactic_id", "segment_id", "event_date", "as_of", "category", "format", "channel", "is_paid",
    "price_base", "industries_n", "job_titles_n", "company_sizes_n", "demand_index", "x", "y", "weight", "baseline",
    "prior_log_sd", "is_simulated", "kind", "organiser", "theme", "opens_days", "run_days", "price_ratio",
    "company_sizes", "job_titles",
)  # fmt: skip


def _by_event(history: History) -> Iterator[tuple[str, dict[str, Any], list[dict[str, Any]]]]:
    """Each event in order of date, with its tactics."""
    tactics: dict[str, list[dict[str, Any]]] = {}
    for row in history.tactics.to_dict(
        "records"
    ):  # at once: a frame per event costs more than all that is done with it
        tactics.setdefault(str(row["event_id"]), []).append(_plain(row))
    for event in history.events.reset_index().to_dict("records"):
        group = tactics.pop(str(event["event_id"]), None)
        if group is not None:
            yield str(event["event_id"]), _plain(event), group


def _plain(record: Mapping[Hashable, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in record.items()}


def _amount(tactic: Tactic, prior: PriorCurve, spend: float, hours: float, registrations: float) -> float | None:
    """x of a row; ``None`` where the tactic was not used, or nobody knows how much."""
    if tactic.is_paid:
        return spend if spend > 0 else None
    if hours > 0:
        return hours
    # unknown hours are the usual ones; zero hours mean that nobody did anything, unless people came all the same
    return usual_effort(prior) if math.isnan(hours) or registrations > 0 else None


# --- features ---------------------------------------------------------------------------------------------------------


def with_features(settings: Settings, dataset: Dataset) -> Dataset:
    """Add the store's features as of each event's planning day, and the demand index forecast by then.

    Events get their index as the column ``demand_index`` of the history, 1 where no forecast was made. A store that
    nothing was ever registered with gives unknown values and a note: training goes on with what it has.
    """
    from feature_repo import store

    events, rows = dataset.history.events, dataset.rows
    try:
        response = store.historical(settings, _entities(rows, settings), names.RESPONSE_SERVICE)
        demand = store.historical(
            settings, _entities(events.assign(as_of=_planned(events["event_date"])), settings), names.DEMAND_SERVICE
        )
    except NotReadyError as error:
        log.warning("features_missing", reason=str(error))
        unknown = rows.assign(**{name: np.full(len(rows), np.nan) for name in names.RESPONSE_FEATURES})
        return replace(dataset, rows=unknown, notes=(*dataset.notes, "the feature store holds no features yet"))
    point_in_time.check(settings, response, names.RESPONSE_SERVICE)
    point_in_time.check(settings, demand, names.DEMAND_SERVICE)
    index = demand["demand_index"].to_numpy(dtype=np.float64)
    index = np.where(np.isfinite(index) & (index > 0), index, 1.0)
    rows = response[[*rows.columns, *names.RESPONSE_FEATURES]].copy()
    return with_index(replace(dataset, rows=rows), index)


def with_index(dataset: Dataset, index: NDArray[np.float64]) -> Dataset:
    """The dataset with a demand index per event of its history, shape (events,)."""
    events = dataset.history.events.assign(demand_index=index)
    rows = dataset.rows.copy()
    rows["demand_index"] = rows["event_id"].map(events["demand_index"]).to_numpy(dtype=np.float64)
    return replace(dataset, rows=rows, history=replace(dataset.history, events=events))


def _planned(event_date: pd.Series) -> pd.Series:
    return event_date - pd.Timedelta(days=PLANNING_DAYS)


def _entities(frame: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """``frame`` with the store's keys: organisation, planning time and the week of the event."""
    keyed = frame.copy()
    keyed[names.ORGANISATION] = settings.organisation
    keyed[names.EVENT_TIMESTAMP] = [names.snapshot_timestamp(d.date(), settings.zone) for d in frame["as_of"]]
    keyed[names.TARGET_WEEK] = [names.target_week(d.date()) for d in frame["event_date"]]
    return keyed
