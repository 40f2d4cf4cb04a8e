"""The simulated world's calendar: season, Japanese holidays, weekdays, and the run-up of registrations to an event."""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache

import holidays
import numpy as np
import numpy.typing as npt

from turnout.simulation.mechanics import Floats

Days = npt.NDArray[np.datetime64]

#: Demand swings this much above and below its yearly middle.
SEASON_AMPLITUDE = 0.25

#: Longest run-up of an event, in days; a registration list opens at most this long before.
LONGEST_RUN_UP = 75

#: Days on which most Japanese offices rest though no law says so: Obon and the turn of the year.
_CUSTOMARY = {(8, 13), (8, 14), (8, 15), (8, 16), (12, 29), (12, 30), (12, 31), (1, 2), (1, 3)}

#: Registrations by weekday, Monday first: office days against weekends.
_WEEKDAY_WEIGHT = np.array([1.05, 1.15, 1.15, 1.10, 0.95, 0.40, 0.45])
_HOLIDAY_WEIGHT = 0.40


@lru_cache(maxsize=8)
def _rest_days(first_year: int, last_year: int) -> Days:
    official = holidays.country_holidays("JP", years=range(first_year, last_year + 1))
    customary = {date(y, m, d) for y in range(first_year, last_year + 1) for m, d in _CUSTOMARY}
    return np.array(sorted(set(official) | customary), dtype="datetime64[D]")


def rest_days(first: date, last: date) -> Days:
    """Japanese public holidays with Obon and the turn of the year, of every year from ``first`` to ``last``."""
    return _rest_days(first.year - 1, last.year + 1)


def business_days(first: date, last: date) -> Days:
    """Every Monday to Friday from ``first`` to ``last``, both included, that is no rest day."""
    span = np.arange(np.datetime64(first), np.datetime64(last) + 1)
    return span[np.is_busday(span, holidays=rest_days(first, last))]


def _swing(day_of_year: Floats) -> Floats:
    """A year of event demand: lowest at the end of winter, highest in November, with a lesser wave in May."""
    turn = 2 * np.pi / 365.25
    raw = 0.45 * np.cos(turn * (day_of_year - 300)) + 0.60 * np.cos(2 * turn * (day_of_year - 140))
    return np.asarray(raw, dtype=np.float64)


_YEAR = _swing(np.arange(0.0, 365.25, 0.25))
_MIDDLE, _HALF_RANGE = (_YEAR.max() + _YEAR.min()) / 2, (_YEAR.max() - _YEAR.min()) / 2


def season(days: Days, phase_days: npt.ArrayLike = 0.0) -> Floats:
    """The seasonal factor of demand, 0.75 to 1.25. ``phase_days`` moves the year later, e.g. per category."""
    day_of_year = (days - days.astype("datetime64[Y]")).astype(np.float64)
    swing = (_swing(day_of_year - np.asarray(phase_days, dtype=np.float64)) - _MIDDLE) / _HALF_RANGE
    return np.asarray(1.0 + SEASON_AMPLITUDE * swing, dtype=np.float64)


def rest_days_near(days: Days, *, before: int = 10, after: int = 3) -> npt.NDArray[np.int64]:
    """How many rest days on Mondays to Fridays lie within ``before`` days before to ``after`` days after each day."""
    if days.size == 0:
        return np.zeros(0, dtype=np.int64)
    first, last = days.min().astype(object), days.max().astype(object)
    rest = rest_days(first - timedelta(days=before), last + timedelta(days=after))
    rest = rest[np.is_busday(rest)]
    low = np.searchsorted(rest, days - before, side="left")
    high = np.searchsorted(rest, days + after, side="right")
    return np.asarray(high - low, dtype=np.int64)


def day_weights(days: Days) -> Floats:
    """How readily people register on each day (any shape of array): weekdays against weekends and holidays."""
    if days.size == 0:
        return np.zeros(days.shape)
    weekday = (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    rest = rest_days(days.min().astype(object), days.max().astype(object))
    weight = _WEEKDAY_WEIGHT[weekday]
    return np.asarray(np.where(np.isin(days, rest), np.minimum(weight, _HOLIDAY_WEIGHT), weight), dtype=np.float64)


def run_up(opens_before: npt.NDArray[np.int64], late_share: Floats) -> Floats:
    """How organic registrations spread over the days before the event, without weekday effects.

    Args:
        opens_before: days from the opening of registration to the event, shape (n,), at most the longest run-up.
        late_share: share that comes in the last-minute wave, shape (n,). Half of the registrations of many events
            come in the last week (ON24 2014: 58 % for webinars; Ticketleap: 50 % for tickets).

    Returns:
        Weights of shape (n, LONGEST_RUN_UP + 1) that sum to 1 per row; column d is d days before the event.
    """
    ahead = np.arange(LONGEST_RUN_UP + 1, dtype=np.float64)[None, :]
    opens = opens_before[:, None].astype(np.float64)
    is_open = ahead <= opens

    def spread(weight: Floats) -> Floats:
        weight = np.where(is_open, weight, 0.0)
        return np.asarray(weight / weight.sum(axis=1, keepdims=True), dtype=np.float64)

    announcement = spread(np.exp(-(opens - ahead) / 4.0))
    steady = spread(np.ones_like(ahead))
    late = spread(np.exp(-ahead / 4.5))
    share = late_share[:, None]
    return np.asarray(share * late + (1 - share) * (0.35 * announcement + 0.65 * steady), dtype=np.float64)
