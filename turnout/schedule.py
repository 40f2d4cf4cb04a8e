"""When a tactic runs.

Counting in days before the event, a tactic decided on day ``as_of`` can begin ``preparation_days`` later. It starts
``lead_time_days`` before the event if there is still time, else as soon as it can, and ends on the last day of its
window. When less than ``minimum_run_days`` would be left, it is too late, and :class:`TooLate` names the last day on
which deciding for it would have worked.

Sends and posts (tactics with ``send_days``) go out on working days (:mod:`turnout.workdays`: no weekends, public
holidays, New Year, Obon or days the company is closed): a planned day off moves to the working day before it, or to
the one after where that is much nearer. Two sends to the same people keep :data:`FATIGUE_DAYS` apart. All of it at once
is a small shortest-path problem over the days (:func:`place`): as few sends as possible are given up, then as few as
possible go out while the company is closed, then the shifts are as small as can be. A day off is used only where a
tactic would otherwise not go out at all, the day before a Sunday's event for one.

:mod:`turnout.timetable` does this for all tactics of a plan together, :mod:`turnout.flighting` divides the money.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from turnout.tactics.catalogue import Tactic
from turnout.workdays import WorkCalendar, is_working_day, public_holidays

__all__ = [
    "FATIGUE_DAYS",
    "SendWish",
    "TooLate",
    "Window",
    "fatigue_days",
    "is_working_day",
    "place",
    "public_holidays",
    "schedule",
    "send_days",
    "send_wishes",
]

#: Days from one send to the next to the same people, by channel: 2 is "not the same and not the next day". Guesses; one
#: community gets one post only, so posts to several may follow each other daily.
FATIGUE_DAYS: Final[Mapping[str, int]] = {
    "email": 2, "organic_social": 2, "community": 1, "influencer": 2, "media": 3, "pr": 3,
}  # fmt: skip

_ONE_DAY = timedelta(days=1)
#: (number of the next wish of each owner, days until the next send may go out)
_State = tuple[tuple[int, ...], int]
#: (cost, the sends so far as (day, number of the owner))
_Path = tuple[int, tuple[tuple[date, int], ...]]
#: Costs of a placement. Each kind outweighs everything listed before it.
_SHIFT, _LATER, _CLOSED, _GIVEN_UP, _DAY_OFF, _NONE_AT_ALL = 10, 35, 2_000, 20_000, 50_000, 1_000_000


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


@dataclass(frozen=True, slots=True)
class SendWish:
    """One send that wants a day.

    Attributes:
        owner: whose send it is. Wishes of one owner share ``earliest`` and ``latest``.
        planned: the day it would best go out.
    """

    owner: str
    planned: date
    earliest: date
    latest: date


def fatigue_days(tactic: Tactic) -> int:
    """Days from one send of ``tactic`` to the next to the same people."""
    return FATIGUE_DAYS.get(tactic.channel, 1)


def place(wishes: Sequence[SendWish], gap: int, calendar: WorkCalendar) -> dict[str, tuple[date, ...]]:
    """Give every send a day, any two of them at least ``gap`` days apart, whoever's they are.

    Sends that find no day are given up. The same wishes always get the same days, in whatever order they come.

    Returns:
        The days per owner, rising; empty where none was found.
    """
    by_owner: dict[str, list[SendWish]] = {}
    for wish in sorted(wishes, key=lambda w: (w.owner, w.planned)):
        by_owner.setdefault(wish.owner, []).append(wish)
    owners = [tuple(group) for group in by_owner.values()]
    if (found := _as_planned(owners, gap, calendar)) is not None:
        return found
    costs = {wish: _costs(wish, calendar) for group in owners for wish in group}
    return _each_at_its_best(owners, costs, gap) or _shortest_path(owners, costs, gap)


def _as_planned(
    owners: Sequence[Sequence[SendWish]], gap: int, calendar: WorkCalendar
) -> dict[str, tuple[date, ...]] | None:
    """Every send on its planned day, where nothing speaks against any of them."""
    wishes = [wish for group in owners for wish in group]
    if not all(w.earliest <= w.planned <= w.latest and calendar.is_working_day(w.planned) for w in wishes):
        return None
    days = sorted(wish.planned for wish in wishes)
    if any((b - a).days < gap for a, b in pairwise(days)):
        return None
    return {group[0].owner: tuple(wish.planned for wish in group) for group in owners}


def _costs(wish: SendWish, calendar: WorkCalendar) -> dict[date, int]:
    """What it costs to send on each day of the window."""
    found = {}
    day = wish.earliest
    while day <= wish.latest:
        shift = (day - wish.planned).days
        cost = _SHIFT * abs(shift) + _LATER * max(shift, 0)
        if not calendar.is_working_day(day):
            cost += _CLOSED if calendar.is_closed(day) and is_working_day(day, calendar.country) else _DAY_OFF
        found[day] = cost
        day += _ONE_DAY
    return found


def _each_at_its_best(
    owners: Sequence[Sequence[SendWish]], costs: Mapping[SendWish, Mapping[date, int]], gap: int
) -> dict[str, tuple[date, ...]] | None:
    """Every send on the day it likes best, if they do not get into each other's way: usual, and then the best."""
    chosen: dict[str, list[date]] = {}
    for group in owners:
        for wish in group:
            if not costs[wish]:
                return None
            day = min(costs[wish], key=lambda d: (costs[wish][d], d))
            if costs[wish][day] >= _GIVEN_UP:
                return None
            chosen.setdefault(wish.owner, []).append(day)
    days = sorted(day for group in chosen.values() for day in group)
    if any((b - a).days < gap for a, b in pairwise(days)):
        return None
    return {owner: tuple(sorted(group)) for owner, group in chosen.items()}


def _shortest_path(
    owners: Sequence[Sequence[SendWish]], costs: Mapping[SendWish, Mapping[date, int]], gap: int
) -> dict[str, tuple[date, ...]]:
    """Day by day, the cheapest way to every state: (next wish of each owner, days until the next send may go out).

    Wishes of one owner share their window and a shift costs in proportion to its length, so that some best placement
    keeps their order. A wish that is passed over is given up.
    """
    every = [wish for group in owners for wish in group]
    if not every:
        return {}
    first, last = min(w.earliest for w in every), max(w.latest for w in every)
    start = (tuple(0 for _ in owners), 0)
    states: dict[_State, _Path] = {start: (0, ())}
    day = first
    while day <= last:
        after: dict[_State, _Path] = {}

        def offer(state: _State, path: _Path, known: dict[_State, _Path] = after) -> None:
            if state not in known or path < known[state]:
                known[state] = path

        for (done, rest), (cost, sent) in states.items():
            offer((done, max(rest - 1, 0)), (cost, sent))
            if rest > 0:
                continue
            for number, group in enumerate(owners):
                for at in range(done[number], len(group)):
                    price = costs[group[at]].get(day)
                    if price is None:
                        continue
                    skipped = (at - done[number]) * _GIVEN_UP
                    ahead = (*done[:number], at + 1, *done[number + 1 :])
                    offer((ahead, gap - 1), (cost + price + skipped, (*sent, (day, number))))
        states = after
        day += _ONE_DAY

    def final(state: _State, path: _Path) -> _Path:
        cost, sent = path
        cost += sum((len(group) - at) * _GIVEN_UP for at, group in zip(state[0], owners, strict=True))
        cost += _NONE_AT_ALL * (len(owners) - len({number for _, number in sent}))
        return cost, sent

    _, sent = min(final(state, path) for state, path in states.items())
    return {group[0].owner: tuple(d for d, number in sent if number == at) for at, group in enumerate(owners)}


def send_wishes(
    tactic: Tactic, event_date: date, *, earliest: date, latest: date, units: int | None = None
) -> list[SendWish]:
    """The days on which ``tactic`` would best go out, of those that are still ahead; one at least.

    Args:
        earliest, latest: first and last day on which it may.
        units: how many sends are wanted; default: all of the tactic's ``send_days``.
    """
    wanted = len(tactic.send_days) if units is None else max(1, units)
    planned = (event_date - timedelta(days=d) for d in tactic.send_days[:wanted])
    ahead = [min(day, latest) for day in planned if day >= earliest] or [min(earliest, latest)]
    return [SendWish(tactic.id, day, earliest, latest) for day in ahead]


def send_days(
    tactic: Tactic,
    event_date: date,
    *,
    earliest: date,
    latest: date,
    units: int | None = None,
    calendar: WorkCalendar | None = None,
) -> tuple[date, ...]:
    """The days on which a tactic's sends go out, rising, when it need not mind other tactics."""
    wishes = send_wishes(tactic, event_date, earliest=earliest, latest=latest, units=units)
    return place(wishes, fatigue_days(tactic), calendar or WorkCalendar.of("JP"))[tactic.id]


def schedule(
    tactic: Tactic,
    event_date: date,
    as_of: date | datetime,
    zone: ZoneInfo | str,
    country: str = "JP",
    *,
    units: int | None = None,
    calendar: WorkCalendar | None = None,
) -> Window | TooLate:
    """Start and end of ``tactic`` for an event, or that it is too late.

    Args:
        event_date: the event's day in ``zone``.
        as_of: the day of the decision; an aware datetime is read in ``zone``.
        country: whose public holidays and customary closures count, unless ``calendar`` says.
        units: how many sends are wanted; default: all of the tactic's ``send_days``.

    Raises:
        ValueError: ``as_of`` is a datetime without a time zone.
        ConfigurationError: the country's holidays are not known.
    """
    day = day_in(as_of, zone)
    ends = event_date - timedelta(days=tactic.window.last_day)
    last_start = ends - timedelta(days=tactic.minimum_run_days - 1)
    earliest = day + timedelta(days=tactic.preparation_days)
    if earliest > last_start:
        return TooLate(last_start - timedelta(days=tactic.preparation_days))
    starts = max(event_date - timedelta(days=tactic.lead_time_days), earliest)
    if not tactic.send_days:
        return Window(min(starts, last_start), ends)
    first_useful = max(earliest, event_date - timedelta(days=tactic.window.first_day))
    sends = send_days(
        tactic,
        event_date,
        earliest=first_useful,
        latest=ends,
        units=units,
        calendar=calendar or WorkCalendar.of(country),
    )
    return Window(sends[0], sends[-1], sends)


def day_in(moment: date | datetime, zone: ZoneInfo | str) -> date:
    """The day of ``moment`` in ``zone``; a plain date is itself.

    Raises:
        ValueError: a datetime without a time zone.
    """
    if not isinstance(moment, datetime):
        return moment
    if moment.tzinfo is None:
        raise ValueError("as_of must be a date or a datetime with a time zone")
    return moment.astimezone(ZoneInfo(zone) if isinstance(zone, str) else zone).date()
