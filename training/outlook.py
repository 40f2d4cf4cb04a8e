"""The demand index: Prophet on what the model of tactics does not explain, day by day.

Raw registrations a day say more about how many events are open, and what is spent on them, than about demand. So the
series that Prophet sees is a ratio::

    y(day) = Σ registrations on the day / Σ E_e · pace(days before event e)      over events open on that day

with ``E_e`` what the partially pooled curves and the organic baseline expect of event e at its own spend, and ``pace``
the pacing curve of its kind, which takes the run-up to each event out. A day on which events were open and nobody
registered is a zero; a day without any open event has no ratio and is left out (absent days of a *count* are zeros,
absent days of a *ratio* are not). Events known only by their total are spread over their pacing curve.

Prophet gets trend, yearly season (from 500 days on), weekdays and the public holidays of the installation's country;
no regressors (they explode outside their range), no time zones, no negative forecasts. The index of a week is the
forecast averaged over the run-up to an event in that week, divided by the average of the last year. Per segment the
index is a geometric mean of the segment's own and the pooled one, weighted by how many events the segment has; a sparse
segment has the pooled shape.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.dataset import History
from turnout.scoring.demand import ALL_SEGMENTS
from turnout.scoring.published import published_pacing
from turnout.scoring.types import Pacing

Floats = NDArray[np.float64]

#: Below this there is nothing to fit: the index is 1.
FEWEST_EVENTS = 12
FEWEST_DAYS = 120
#: From here a segment gets a Prophet of its own; :data:`POOLING_EVENTS` events weigh as much as the pooled shape.
SEGMENT_EVENTS = 25
SEGMENT_DAYS = 500
POOLING_EVENTS = 40.0
YEARLY_DAYS = 400
TREND_DAYS = 730
INDEX_RANGE = (0.4, 2.5)
_RATIO_LIMIT = 4.0
_THIN_DAY = 0.15
#: Days of history that a forecast of the level needs; older ones cost time and say little.
_LONGEST_HISTORY = 4 * 366


@dataclass(frozen=True, slots=True)
class DailySeries:
    """Ratios of one segment, or of all.

    Attributes:
        days: datetime64[D], rising; only days with events open.
        ratio: registrations over expected registrations.
        weight: expected registrations of the day.
        events: number of events behind it.
    """

    days: NDArray[np.datetime64]
    ratio: Floats
    weight: Floats
    events: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """Demand forecast of one cutoff.

    Attributes:
        first_week: Monday of the first entry of each list.
        index: per segment and ``all``, one value per week.
        trend: per segment, relative change of the level per year at the cutoff.
        prophets: the fitted models.
    """

    first_week: date
    index: dict[str, Floats]
    trend: dict[str, float]
    prophets: dict[str, Any] = field(default_factory=dict)

    def of(self, segment_id: str, week: int) -> float:
        return float(self.index.get(segment_id, self.index[ALL_SEGMENTS])[week])


def daily_series(
    history: History, expected_totals: pd.Series, pacing: Mapping[str, Pacing], segment_id: str | None = None
) -> DailySeries:
    """Ratios by day.

    Args:
        expected_totals: E_e per event id; events without one, or without a known total, are left out.
        segment_id: one segment; ``None`` pools all.
    """
    events = history.events
    if segment_id is not None:
        events = events[events["segment_id"] == segment_id]
    totals = expected_totals.reindex(events.index)
    events = events[(totals > 0).to_numpy() & events["registrations"].notna().to_numpy()]
    if events.empty:
        return DailySeries(np.zeros(0, dtype="datetime64[D]"), np.zeros(0), np.zeros(0), 0)
    event_days = events["event_date"].to_numpy().astype("datetime64[D]")
    origin = event_days.min() - np.timedelta64(120, "D")
    length = int((event_days.max() - origin).astype(int)) + 1
    exposure, actual = np.zeros(length), np.zeros(length)
    at = (event_days - origin).astype(np.int64)
    expected = totals.reindex(events.index).to_numpy(dtype=np.float64)
    came = events["registrations"].to_numpy(dtype=np.float64)
    kinds = events["kind"].to_numpy()
    paces = {kind: (pacing.get(kind) or published_pacing(kind)).daily() for kind in events["kind"].unique()}
    place = events.index.get_indexer(pd.Index(history.daily["event_id"]))
    counted = place >= 0
    place = place[counted]
    has_days = np.zeros(len(events), dtype=np.bool_)
    has_days[place] = True
    for kind, pace in paces.items():
        own = kinds == kind
        exposure += _run_up(at[own], expected[own], pace, length)
        spread = own & ~has_days
        actual += _run_up(at[spread], came[spread], pace, length)
    before = history.daily["days_before"].to_numpy(dtype=np.int64)[counted]
    # what came before the pacing curve begins belongs to its first day
    longest = np.array([len(paces[kind]) for kind in kinds], dtype=np.int64) - 1
    day = np.maximum(at[place] - np.minimum(before, longest[place]), 0)
    actual += np.bincount(
        day, weights=history.daily["registrations"].to_numpy(dtype=np.float64)[counted], minlength=length
    )
    is_open = exposure > 0
    is_open &= exposure >= _THIN_DAY * float(np.median(exposure[is_open]))
    days = (origin + np.arange(length))[is_open]
    ratio = np.clip(actual[is_open] / exposure[is_open], 0.0, _RATIO_LIMIT)
    recent = slice(-_LONGEST_HISTORY, None)
    return DailySeries(days[recent], ratio[recent], exposure[is_open][recent], len(events))


def _run_up(at: NDArray[np.int64], amount: Floats, pace: Floats, length: int) -> Floats:
    """``amount`` of each event spread over the days up to the event's, by ``pace`` (share by days before the event)."""
    on_the_day = np.bincount(at, weights=amount, minlength=length)
    # backwards in time the run-up follows the event, so it is a plain convolution
    return np.asarray(np.convolve(on_the_day[::-1], pace)[:length][::-1])


def forecast_index(
    history: History,
    expected_totals: pd.Series,
    pacing: Mapping[str, Pacing],
    *,
    cutoff: date,
    weeks: int,
    country: str,
    seed: int,
    threads: int = 1,
) -> Outlook:
    """The index of every segment for ``weeks`` weeks from that of ``cutoff`` on, from events before ``cutoff``.

    Raises:
        ValueError: ``history`` holds an event on or after ``cutoff``.
    """
    if len(history.events) and history.events["event_date"].max() >= pd.Timestamp(cutoff):
        raise ValueError(f"the history reaches past the cutoff {cutoff}")
    first_week = cutoff - timedelta(days=cutoff.weekday())
    segments = sorted(history.events["segment_id"].unique())
    pooled = daily_series(history, expected_totals, pacing)
    flat = np.ones(weeks)
    if not _is_enough(pooled, FEWEST_EVENTS, FEWEST_DAYS):
        return Outlook(
            first_week, dict.fromkeys([ALL_SEGMENTS, *segments], flat), dict.fromkeys([ALL_SEGMENTS, *segments], 0.0)
        )
    trust = _trust(pooled)
    series = {ALL_SEGMENTS: pooled}
    for segment in segments:
        own = daily_series(history, expected_totals, pacing, segment)
        if _is_enough(own, SEGMENT_EVENTS, SEGMENT_DAYS):
            series[segment] = own
    horizon = _Horizon(first_week, weeks, _average_pace(history, pacing), country, seed)
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:  # Stan runs in a process of its own
        fitted = dict(zip(series, pool.map(horizon.fit, series.values()), strict=True))
    index, trend = {}, {}
    for segment in [ALL_SEGMENTS, *segments]:
        _, shape, slope = fitted[ALL_SEGMENTS]
        if segment in fitted and segment != ALL_SEGMENTS:
            weight = series[segment].events / (series[segment].events + POOLING_EVENTS)
            _, own_shape, own_slope = fitted[segment]
            shape = own_shape**weight * shape ** (1 - weight)
            slope = weight * own_slope + (1 - weight) * slope
        index[segment] = np.clip(shape**trust, *INDEX_RANGE)
        trend[segment] = slope
    return Outlook(first_week, index, trend, {segment: model for segment, (model, _, _) in fitted.items()})


def _trust(series: DailySeries) -> float:
    """How far an index may leave 1: a season seen once may be chance, and a year is needed to see it at all."""
    return max(0.0, 1.0 - 365.0 / _span(series))


def _is_enough(series: DailySeries, events: int, days: int) -> bool:
    return series.events >= events and len(series.days) >= days // 2 and _span(series) >= days


def _span(series: DailySeries) -> int:
    return int((series.days[-1] - series.days[0]).astype(int)) + 1


def _average_pace(history: History, pacing: Mapping[str, Pacing]) -> Floats:
    """Share of registrations by days before the event, averaged over the kinds in the history."""
    kinds = history.events["kind"].value_counts()
    paces = {kind: (pacing.get(kind) or published_pacing(kind)).daily() for kind in kinds.index}
    average = np.zeros(max(map(len, paces.values())))
    for kind, count in kinds.items():
        average[: len(paces[kind])] += count * paces[kind]
    return np.asarray(average / average.sum())


@dataclass(frozen=True, slots=True)
class _Horizon:
    """What to forecast, the same for every segment."""

    first_week: date
    weeks: int
    pace: Floats
    country: str
    seed: int

    def fit(self, series: DailySeries) -> tuple[Any, Floats, float]:
        """Prophet's fit, the index by week, and the trend's change per year."""
        model = fit_prophet(
            pd.Series(series.ratio, index=pd.DatetimeIndex(series.days)), country=self.country, seed=self.seed
        )
        monday = np.datetime64(self.first_week, "D")
        start = monday - np.timedelta64(len(self.pace) + 366, "D")
        days = np.arange(start, monday + np.timedelta64(7 * self.weeks, "D"))
        predicted = model.predict(pd.DataFrame({"ds": pd.DatetimeIndex(days)}))
        # ratios cannot be negative, Prophet's forecasts can
        yhat = np.maximum(predicted["yhat"].to_numpy(dtype=np.float64), 0.05)
        # the average over the run-up to an event on each day, then over the event days of a week
        by_event_day = np.convolve(yhat, self.pace, mode="full")[: len(yhat)]
        first = len(self.pace) + 366
        level = by_event_day[first : first + 7 * self.weeks].reshape(self.weeks, 7).mean(axis=1)
        last_year = slice(first - 365, first)
        known = days[last_year] >= series.days[0]
        usual = float(by_event_day[last_year][known].mean()) if known.any() else float(by_event_day[last_year].mean())
        trend = predicted["trend"].to_numpy(dtype=np.float64)
        change = trend[first] / max(float(trend[first - 365]), 0.05) - 1
        return model, level / max(usual, 0.05), float(np.clip(change, -1.0, 2.0))


def fit_prophet(series: pd.Series, *, country: str, seed: int) -> Any:
    """Fit Prophet to a daily series (index of days without a time zone), quietly and reproducibly.

    Raises:
        ValueError: the index has a time zone, or fewer than two values.
    """
    index = pd.DatetimeIndex(series.index)
    if index.tz is not None:
        raise ValueError("Prophet takes days without a time zone; convert to the event's zone and drop it")
    if len(index) < 2:
        raise ValueError("Prophet needs at least two days")
    _silence()
    import holidays
    from prophet import Prophet

    span = (index.max() - index.min()).days + 1
    model = Prophet(
        # in less than two years a trend and a season look the same
        growth="linear" if span >= TREND_DAYS else "flat",
        n_changepoints=min(10, max(1, span // 90)),
        changepoint_prior_scale=0.02,
        yearly_seasonality=4 if span >= YEARLY_DAYS else False,
        weekly_seasonality=span >= 28,
        daily_seasonality=False,
        seasonality_prior_scale=0.3,
        holidays_prior_scale=0.2,
        seasonality_mode="multiplicative",
        uncertainty_samples=0,
    )
    if country in holidays.list_supported_countries():
        model.add_country_holidays(country_name=country)
    frame = pd.DataFrame({"ds": index, "y": series.to_numpy(dtype=np.float64)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(frame, seed=seed)


def _silence() -> None:
    """Stan reports every fit at INFO, and Prophet that it cannot plot. A logger with a handler is left as it is."""
    for name in ("cmdstanpy", "prophet", "prophet.plot"):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
        logger.setLevel(logging.CRITICAL)
        logger.propagate = False
