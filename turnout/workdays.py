"""Which days people work on: weekends, public holidays, and the days on which companies close by custom.

The `holidays` library knows public holidays alone. Japanese companies also close over New Year and Obon, which no law
makes holidays for them: :data:`CUSTOMARY_CLOSURES`. Golden Week is public holidays with working days between; a company
that closes on those says so in the setting ``TURNOUT_CLOSURES``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from typing import Self

from turnout.errors import ConfigurationError

_SATURDAY = 5

#: Days on which most companies of a country are closed though the law does not say so. New Year as public offices keep
#: it (行政機関の休日に関する法律, article 1: 29 December to 3 January); Obon by custom.
CUSTOMARY_CLOSURES: Mapping[str, tuple[str, ...]] = {"JP": ("12-29/01-03", "08-13/08-16")}

_YEARLY = re.compile(r"(\d{1,2})-(\d{1,2})(?:/(\d{1,2})-(\d{1,2}))?")
_DATED = re.compile(r"(\d{4}-\d{2}-\d{2})(?:/(\d{4}-\d{2}-\d{2}))?")
_A_LEAP_YEAR = 2024


@lru_cache(maxsize=256)
def public_holidays(country: str, year: int) -> frozenset[date]:
    """The public holidays of a country (ISO 3166 code) in one year.

    Raises:
        ConfigurationError: the holidays library does not know the country.
    """
    import holidays

    if country not in holidays.list_supported_countries():
        raise ConfigurationError(f"no public holidays are known for country {country!r}; set TURNOUT_COUNTRY")
    return frozenset(holidays.country_holidays(country, years=year))


def is_working_day(day: date, country: str) -> bool:
    """Neither a weekend nor a public holiday. Companies may be closed all the same: :class:`WorkCalendar`."""
    return day.weekday() < _SATURDAY and day not in public_holidays(country, day.year)


@dataclass(frozen=True, slots=True)
class Closure:
    """Days a company is closed, both ends included; of every year, or of one.

    Attributes:
        first, last: (month, day) of a closure of every year, which may pass New Year; else dates.
    """

    first: tuple[int, int] | date
    last: tuple[int, int] | date

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``MM-DD``, ``MM-DD/MM-DD``, ``YYYY-MM-DD`` or ``YYYY-MM-DD/YYYY-MM-DD``.

        Raises:
            ValueError: none of these, no such day, or a range that ends before it begins.
        """
        allowed = "MM-DD/MM-DD for every year, or YYYY-MM-DD/YYYY-MM-DD with the first day first"
        text = text.strip()
        try:
            if found := _DATED.fullmatch(text):
                first, last = date.fromisoformat(found[1]), date.fromisoformat(found[2] or found[1])
                if first <= last:
                    return cls(first, last)
            elif found := _YEARLY.fullmatch(text):
                start = (int(found[1]), int(found[2]))
                end = (int(found[3]), int(found[4])) if found[3] else start
                for month, day in (start, end):
                    date(_A_LEAP_YEAR, month, day)
                return cls(start, end)
        except ValueError as error:
            raise ValueError(f"closure {text!r}: {error}; allowed are {allowed}") from error
        raise ValueError(f"closure {text!r} cannot be read; allowed are {allowed}")

    def __contains__(self, day: date) -> bool:
        first, last = self.first, self.last
        if isinstance(first, date) and isinstance(last, date):
            return first <= day <= last
        here = (day.month, day.day)
        if isinstance(first, tuple) and isinstance(last, tuple):
            return first <= here <= last if first <= last else here >= first or here <= last
        return False


@dataclass(frozen=True, slots=True)
class WorkCalendar:
    """The working days of one company.

    Attributes:
        country: whose public holidays count.
        closures: when the company is closed beside them.
    """

    country: str = "JP"
    closures: tuple[Closure, ...] = ()
    _years: dict[int, tuple[frozenset[date], frozenset[date]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def of(cls, country: str, closures: Iterable[str] | None = None) -> WorkCalendar:
        """A calendar from settings; without ``closures``, those that are customary in the country.

        Raises:
            ValueError: a closure cannot be read.
        """
        return _calendar(country, None if closures is None else tuple(closures))

    def is_working_day(self, day: date) -> bool:
        """Neither a weekend, nor a public holiday, nor a closure."""
        return day in self._year(day.year)[0]

    def is_closed(self, day: date) -> bool:
        """Whether the company is closed on ``day``, be it a working day of others or not."""
        return day in self._year(day.year)[1]

    def _year(self, year: int) -> tuple[frozenset[date], frozenset[date]]:
        """The working days of a year, and the closed ones; worked out once."""
        if (known := self._years.get(year)) is not None:
            return known
        first = date(year, 1, 1)
        days = [first + timedelta(days=d) for d in range((date(year, 12, 31) - first).days + 1)]
        closed = frozenset(day for day in days if any(day in closure for closure in self.closures))
        working = frozenset(day for day in days if day not in closed and is_working_day(day, self.country))
        self._years[year] = (working, closed)
        return working, closed


@lru_cache(maxsize=64)
def _calendar(country: str, closures: tuple[str, ...] | None) -> WorkCalendar:
    texts = CUSTOMARY_CLOSURES.get(country, ()) if closures is None else closures
    return WorkCalendar(country, tuple(Closure.parse(text) for text in texts))
