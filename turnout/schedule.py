"""When a tactic runs.

Counting in days before the event, a tactic decided on day ``as_of`` can begin ``preparation_days`` later. It starts
``lead_time_days`` before the event if there is still time, else as soon as it can, and ends on the last day of its
window. When less than ``minimum_run_days`` would be left, it is too late, and :class:`TooLate` names the last day on
which deciding for it would have worked.

Sends and posts (tactics with ``send_days``) go out on working days: a planned day that falls on a weekend or a public
holiday moves to the working day before it, and to the one after where the former is gone. Only when the whole window
holds no working day at all, the day before a Sunday's event for one, a day off is used rather than none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from turnout.errors import ConfigurationError
from turnout.tactics.catalogue import Tactic

_SATURDAY = 5


@dataclass(frozen=True, slots=True)
class Window:
    """First and last day the tactic runs, both included; ``sends`` are the days of single sends, rising."""

    starts: date
    ends: date
    sends: tuple[date, ...] = ()

    @property
    def days(self) -> int:
        return (self.ends - self.starts).days + 1


@dataclass(frozen=True, slots=True)
class TooLate:
    """The tactic no longer fits; ``last_start`` is the last day on which deciding for it would have worked."""

    last_start: date


@lru_cache(maxsize=256)
def public_holidays(country: str, year: int) -> frozenset[date]:
    """The public holidays of a country (ISO 3166 code) in one year.

    Raises:
        ConfigurationError: the holidays library does not know the country.
    """
    import holidays

    try:
        return frozenset(holidays.country_holidays(country, years=year))
    except NotImplementedError:
        raise ConfigurationError(f"no public holidays are known for country {country!r}; set TURNOUT_COUNTRY") from None


def is_working_day(day: date, country: str) -> bool:
    """Neither a weekend nor a public holiday."""
    return day.weekday() < _SATURDAY and day not in public_holidays(country, day.year)


def _send_on(planned: date, earliest: date, latest: date, taken: set[date], country: str) -> date | None:
    """The working day nearest to ``planned``: before it if possible, else after; ``None`` when there is none."""
    day = min(planned, latest)
    while day >= earliest:
        if day not in taken and is_working_day(day, country):
            return day
        day -= timedelta(days=1)
    day = max(planned + timedelta(days=1), earliest)
    while day <= latest:
        if day not in taken and is_working_day(day, country):
            return day
        day += timedelta(days=1)
    return None


def _sends(
    tactic: Tactic, event_date: date, *, earliest: date, latest: date, units: int, country: str
) -> tuple[date, ...]:
    taken: set[date] = set()
    planned = [event_date - timedelta(days=d) for d in tactic.send_days[:units]]
    ahead = [day for day in planned if day >= earliest] or [earliest]
    for day in ahead:
        chosen = _send_on(day, earliest, latest, taken, country)
        if chosen is not None:
            taken.add(chosen)
    return tuple(sorted(taken)) or (latest,)


def schedule(
    tactic: Tactic,
    event_date: date,
    as_of: date | datetime,
    zone: ZoneInfo | str,
    country: str = "JP",
    *,
    units: int | None = None,
) -> Window | TooLate:
    """Start and end of ``tactic`` for an event, or that it is too late.

    Args:
        event_date: the event's day in ``zone``.
        as_of: the day of the decision; an aware datetime is read in ``zone``.
        country: whose public holidays count.
        units: how many sends are wanted; default: all of the tactic's ``send_days``.

    Raises:
        ValueError: ``as_of`` is a datetime without a time zone.
        ConfigurationError: the country's holidays are not known.
    """
    if isinstance(as_of, datetime):
        if as_of.tzinfo is None:
            raise ValueError("as_of must be a date or a datetime with a time zone")
        as_of = as_of.astimezone(ZoneInfo(zone) if isinstance(zone, str) else zone).date()
    ends = event_date - timedelta(days=tactic.window.last_day)
    last_start = ends - timedelta(days=tactic.minimum_run_days - 1)
    earliest = as_of + timedelta(days=tactic.preparation_days)
    if earliest > last_start:
        return TooLate(last_start - timedelta(days=tactic.preparation_days))
    starts = max(event_date - timedelta(days=tactic.lead_time_days), earliest)
    if not tactic.send_days:
        return Window(min(starts, last_start), ends)
    first_useful = max(earliest, event_date - timedelta(days=tactic.window.first_day))
    wanted = len(tactic.send_days) if units is None else max(1, units)
    sends = _sends(tactic, event_date, earliest=first_useful, latest=ends, units=wanted, country=country)
    return Window(sends[0], sends[-1], sends)
