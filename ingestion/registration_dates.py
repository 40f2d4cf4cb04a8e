"""Dates of registrations that cannot be right, or hardly: mostly the year, typed wrong in January.

A day is doubtful where the event it is for is over or more than a year away, or where hardly any other registration of
the event lies within half a year of it. The likely year is the one that puts the day among its neighbours, or into the
year before the event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

#: A registration on the day after the event is late entry of one who came.
LATE_DAYS = 1
YEAR = 366
#: Days without any registration that part two groups of them.
GAP_DAYS = 180
#: A group of at most this share of the registrations may be mistyped; a larger one is a group of its own.
STRAY_SHARE = 0.05
#: How far beyond its neighbours a corrected day may lie.
MARGIN_DAYS = 31


@dataclass(frozen=True)
class OddDay:
    """Why a day is doubtful, as the end of a sentence that begins with it, and the day that was probably meant."""

    why: str
    likely: date | None = None


def in_year(day: date, year: int) -> date:
    """The same day of another year; 29 February becomes the 28th where there is none."""
    try:
        return day.replace(year=year)
    except ValueError:
        return day.replace(year=year, day=28)


def year_back(day: date, latest: date) -> date:
    """The same day of the last year in which it is not after ``latest``."""
    same = in_year(day, latest.year)
    return same if same <= latest else in_year(day, latest.year - 1)


def odd_days(days: Mapping[date, int], events: Sequence[date], today: date) -> dict[date, OddDay]:
    """The doubtful days among those of one event's registrations.

    Args:
        days: day → registrations on it.
        events: days of the events they may be for, in order; empty where nobody knows.
        today: days after it are another check's matter.
    """
    main = _main_group(days)
    found: dict[date, OddDay] = {}
    for day in days:
        if day > today + timedelta(days=1):
            continue
        odd = _against_events(day, events) or _against_neighbours(day, main)
        if odd is not None:
            found[day] = odd
    return found


def _against_events(day: date, events: Sequence[date]) -> OddDay | None:
    if not events:
        return None
    ahead = [e for e in events if e >= day - timedelta(days=LATE_DAYS)]
    if not ahead:
        event = events[-1]
        likely = next((d for d in _other_years(day) if event - timedelta(days=YEAR) <= d <= event), None)
        return OddDay(f"is after the event on {event}", likely)
    event = ahead[0]
    if (event - day).days <= YEAR:
        return None
    likely = next((d for d in _other_years(day) if event - timedelta(days=YEAR) <= d <= event), None)
    return OddDay(f"is more than a year before the event on {event}", likely)


def _against_neighbours(day: date, main: tuple[date, date] | None) -> OddDay | None:
    if main is None or main[0] <= day <= main[1]:
        return None
    first, last = main[0] - timedelta(days=MARGIN_DAYS), main[1] + timedelta(days=MARGIN_DAYS)
    likely = next((d for d in _other_years(day) if first <= d <= last), None)
    return None if likely is None else OddDay(f"is far from all others ({main[0]} to {main[1]})", likely)


def _other_years(day: date) -> Iterator[date]:
    """The same day of nearby years, the nearest first."""
    for years in (1, -1, 2, -2, 10, -10):
        if date.min.year <= day.year + years <= date.max.year:
            yield in_year(day, day.year + years)


def _main_group(days: Mapping[date, int]) -> tuple[date, date] | None:
    """First and last day of the group that holds nearly all registrations; ``None`` where no group does, or all do."""
    groups: list[list[date]] = []
    for day in sorted(days):
        if groups and (day - groups[-1][-1]).days <= GAP_DAYS:
            groups[-1].append(day)
        else:
            groups.append([day])
    if len(groups) < 2:
        return None
    total = sum(days.values())
    largest = max(groups, key=lambda g: sum(days[d] for d in g))
    strays = total - sum(days[d] for d in largest)
    # one stray among a handful may be a mistake too
    return (largest[0], largest[-1]) if strays <= max(1, STRAY_SHARE * total) and total > 2 * strays else None
