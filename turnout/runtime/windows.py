"""Which days a scheduled run reads: one helper for every DAG, plain and testable without Airflow.

A run may know its days in several ways. :func:`resolve_window` asks in this order and never guesses:

1. explicit ``from`` and ``to`` parameters (a person asked for these days);
2. the partition key of a partitioned run;
3. the data interval of a scheduled or backfilled run, if it is wider than nothing;
4. the logical date, or the moment a person triggered the run: that one day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Protocol, Self
from zoneinfo import ZoneInfo

from turnout.errors import InputError, Problem


@dataclass(frozen=True, slots=True)
class Window:
    """Days ``first`` to ``last``, both included, in the installation's time zone."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise InputError([Problem(
                "window_reversed", f"the first day {self.first} is after the last day {self.last}; swap them"
            )])  # fmt: skip

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    def looking_back(self, days: int) -> Self:
        """The window that ends with this one and starts ``days`` before its end."""
        return type(self)(min(self.first, self.last - timedelta(days=days)), self.last)

    def chunks(self, days: int) -> list[Self]:
        """This window cut, oldest first, into windows of at most ``days`` days that do not overlap."""
        if days < 1:
            raise ValueError(f"a chunk needs at least one day, not {days}")
        starts = range(0, self.days, days)
        return [
            type(self)(
                self.first + timedelta(days=start),
                min(self.first + timedelta(days=start + days - 1), self.last),
            )
            for start in starts
        ]


class RunDates(Protocol):
    """The dates of an Airflow run, under Airflow's names."""

    @property
    def partition_key(self) -> str | None: ...
    @property
    def data_interval_start(self) -> datetime | None: ...
    @property
    def data_interval_end(self) -> datetime | None: ...
    @property
    def logical_date(self) -> datetime | None: ...
    @property
    def run_after(self) -> datetime | None: ...


def _day(text: object, name: str) -> date:
    try:
        return date.fromisoformat(str(text)[:10])
    except ValueError:
        raise InputError([Problem(
            "not_a_date", f"{name} is {text!r}; give a day as YYYY-MM-DD, for example 2026-04-01", value=str(text)
        )]) from None  # fmt: skip


def resolve_window(run: RunDates | None, params: Mapping[str, Any] | None, zone: ZoneInfo) -> Window:
    """The days a run stands for, by the order of this module's docstring.

    Args:
        run: the Airflow run (``context["dag_run"]``), or anything with its date attributes.
        params: the run's parameters; only ``from`` and ``to`` are looked at.
        zone: the time zone whose calendar days count (``settings.zone``).

    Raises:
        InputError: the parameters are half given, unreadable or reversed, or nothing says which days are meant.
    """
    given = {name: (params or {}).get(name) for name in ("from", "to")}
    if any(given.values()):
        missing = [name for name, value in given.items() if not value]
        if missing:
            raise InputError([Problem("missing", f"parameter {missing[0]!r} is missing; give both 'from' and 'to'")])
        return Window(_day(given["from"], "parameter 'from'"), _day(given["to"], "parameter 'to'"))
    # An absent attribute is an absent date: `airflow dags test` leaves several unset.
    key = getattr(run, "partition_key", None)
    if key:
        day = _day(key, "the partition key")
        return Window(day, day)
    start, end = getattr(run, "data_interval_start", None), getattr(run, "data_interval_end", None)
    if start is not None and end is not None and start < end:
        return Window(start.astimezone(zone).date(), end.astimezone(zone).date())
    moment = getattr(run, "logical_date", None) or getattr(run, "run_after", None)
    if moment is not None:
        day = moment.astimezone(zone).date()
        return Window(day, day)
    raise InputError([Problem(
        "no_window",
        "this run says neither a partition, a data interval nor a date; trigger it with parameters 'from' and 'to'",
    )])  # fmt: skip
