"""How a tactic's money and hours are spread over its days.

**Money of auctions** (:func:`flight`). With pace(d) the share of an event's registrations that arrive on day d and w(d)
the channel's weekday shape, the level of a day is

    level(d) = ½ + ½ · pace(d) / mean pace,   spend(d) ∝ level(d) · w(d)

Half of it follows the run-up, half is even: people decide late, but an advertisement must be seen before that, and the
pacing curve already holds what late spending brought (the half is a guess). Platforms punish unrest, so

* every day of the run gets money, at least the platform's minimum (:data:`MINIMUM_A_DAY`); where the total does not
  suffice, the run starts later rather than pausing;
* in the learning phase (:data:`LEARNING_DAYS`, Meta's own figure) the level does not move;
* after it no level is more than :data:`STEADY` times the one of the day before, either way: larger edits of a budget
  start the learning anew (Meta's advice is 20 %);
* no day exceeds what the audience may see, where its size is known (``daily_limit``).

The days are whole units of the currency and add up to the total exactly (largest remainders; the earlier day first).

**Money of whole units** goes out with the sends, in equal parts; without sends, all of it on the first day.

**Hours** (:func:`hours_by_week`): the set-up before the start, the rest with the sends, else over the working days.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from turnout.money import Rates, minor_digits
from turnout.plan import DailySpend, WeekHours
from turnout.schedule import Window
from turnout.tactics.catalogue import Tactic
from turnout.workdays import WorkCalendar

if TYPE_CHECKING:
    from turnout.scoring.types import Pacing

#: Least a platform takes on one day: LinkedIn per campaign; Meta for an ad set that pays for clicks or results.
MINIMUM_A_DAY: Final[Mapping[str, tuple[float, str]]] = {"linkedin_ads": (10.0, "USD"), "meta_ads": (5.0, "USD")}
#: Meta: the learning phase lasts about 50 results, or 7 days.
LEARNING_DAYS: Final = 7
STEADY: Final = 1.2
#: Spend of a day off relative to a working day, by channel: guesses for people who look at work things at work.
DAY_OFF: Final[Mapping[str, float]] = {"paid_search": 0.5, "paid_social": 0.8, "display": 0.8, "video": 0.9}
_RUN_UP: Final = 0.5
_CENT_HOURS: Final = 100
_ONE_DAY = timedelta(days=1)
_NO_RATES: Final = Rates({"JPY": 1.0, "USD": 150.0})


def flight(
    tactic: Tactic,
    window: Window,
    total: Decimal,
    currency: str,
    pacing: Pacing,
    *,
    event_date: date | None = None,
    calendar: WorkCalendar | None = None,
    rates: Rates | None = None,
    daily_limit: Decimal | None = None,
) -> tuple[DailySpend, ...]:
    """What ``tactic`` spends on each day, adding up to ``total`` exactly; only days on which something is spent.

    Args:
        window: when it runs. The first day may be later than its start, where the money does not last.
        total: in units the currency can pay.
        pacing: when registrations of such an event come.
        event_date: default: the day that the window's end is the tactic's last day before.
        calendar: which days are days off; default: Japan's.
        rates: converts the platforms' minimums; default: the settings' default for the dollar.
        daily_limit: most on one day, in ``currency``. It gives way where the total cannot be spent otherwise.

    Raises:
        ValueError: the total is negative, not finite or not payable in whole minor units.
    """
    digits = minor_digits(currency)
    units = _in_units(total, digits)
    if units == 0:
        return ()
    if tactic.cost.kind != "auction":
        days = list(window.sends) or [window.starts]
        parts = apportion(units, [1.0] * len(days))
        return _spends(days, parts, digits)
    low = _least(tactic, currency, digits, rates or _NO_RATES)
    days = _affordable(tactic, window, units, low)
    low = min(low, units // len(days))
    event_day = event_date or window.ends + timedelta(days=tactic.window.last_day)
    weights = _weights(tactic, days, event_day, pacing, calendar or WorkCalendar.of("JP"))
    high = None
    if daily_limit is not None:
        high = max(int(daily_limit.scaleb(digits)), -(-units // len(days)), low)
    return _spends(days, apportion(units, weights, low, high), digits)


def _in_units(total: Decimal, digits: int) -> int:
    if not total.is_finite() or total < 0:
        raise ValueError(f"a total to be spent is 0 or more; got {total}")
    units = total.scaleb(digits)
    if units != units.to_integral_value():
        raise ValueError(f"{total} is not payable: the currency has {digits} decimal places")
    return int(units)


def _spends(days: Sequence[date], parts: Sequence[int], digits: int) -> tuple[DailySpend, ...]:
    return tuple(
        DailySpend(date=day, amount=Decimal(part).scaleb(-digits))
        for day, part in zip(days, parts, strict=True)
        if part
    )


def _least(tactic: Tactic, currency: str, digits: int, rates: Rates) -> int:
    """The platform's minimum a day in minor units, at least one: a day without money would pause the campaign."""
    amount, own = MINIMUM_A_DAY.get(tactic.platform or "", (0.0, currency))
    if amount and own != currency:
        known = {"JPY", *rates.to_jpy}
        if own not in known or currency not in known:
            return 1
    return max(1, math.ceil(rates.convert(amount, own, currency) * 10**digits - 1e-6)) if amount else 1


def _affordable(tactic: Tactic, window: Window, units: int, low: int) -> list[date]:
    """The days of the run that the money lasts for, the last ones: people decide late."""
    shortest = min(tactic.minimum_run_days, window.days)
    count = min(window.days, max(units // low, shortest), units)
    return [window.ends - timedelta(days=d) for d in range(count - 1, -1, -1)]


def _weights(
    tactic: Tactic, days: Sequence[date], event_day: date, pacing: Pacing, calendar: WorkCalendar
) -> list[float]:
    came = _shares(pacing)
    last = len(came) - 1
    ahead = [(event_day - day).days for day in days]
    pace = [came[min(k, last)] - came[min(k + 1, last)] for k in ahead]
    mean = sum(pace) / len(pace)
    wanted = [1.0 - _RUN_UP + _RUN_UP * p / mean if mean > 0 else 1.0 for p in pace]
    learning = min(LEARNING_DAYS, max(len(days) // 2, 1))
    level = sum(wanted[:learning]) / learning
    levels = [level] * learning
    for want in wanted[learning:]:
        level = min(max(want, level / STEADY), level * STEADY)
        levels.append(level)
    quiet = DAY_OFF.get(tactic.channel, 1.0)
    return [x if calendar.is_working_day(d) else x * quiet for x, d in zip(levels, days, strict=True)]


@lru_cache(maxsize=64)
def _shares(pacing: Pacing) -> tuple[float, ...]:
    """Share of registrations in by 0, 1, 2 … days before the event; the last one is 0."""
    return tuple(pacing.expected_share(k) for k in range(pacing.days[0] + 2))


def apportion(total: int, weights: Sequence[float], low: int = 0, high: int | None = None) -> list[int]:
    """Whole numbers in proportion to ``weights`` that add up to ``total`` exactly, each from ``low`` to ``high``.

    What a bound takes or gives is spread over the others in proportion (water-filling); fractions are settled by the
    largest remainder, of equal ones the first.

    Raises:
        ValueError: no weights, a weight that is not positive, or bounds that the total cannot keep to.
    """
    count = len(weights)
    if not count or not all(w > 0 and math.isfinite(w) for w in weights):
        raise ValueError("every weight must be positive and finite")
    top = total if high is None else high
    if not low * count <= total <= top * count:
        raise ValueError(f"{total} cannot be divided into {count} parts from {low} to {top}")
    exact = _water_filled(total, weights, low, top)
    parts = [min(max(math.floor(x), low), top) for x in exact]
    rest = total - sum(parts)
    order = sorted(range(count), key=lambda i: (parts[i] - exact[i], i))
    while rest:
        step = 1 if rest > 0 else -1
        for i in order if rest > 0 else reversed(order):
            if rest and low <= parts[i] + step <= top:
                parts[i] += step
                rest -= step
    return parts


def _water_filled(total: int, weights: Sequence[float], low: int, high: int) -> list[float]:
    """x_i = clip(c · w_i, low, high) with the c that makes them add up to ``total``."""
    free = set(range(len(weights)))
    exact = [0.0] * len(weights)
    left = float(total)
    while free:
        scale = left / math.fsum(weights[i] for i in free)
        under = {i for i in free if scale * weights[i] < low}
        over = {i for i in free if scale * weights[i] > high}
        if not under and not over:
            for i in free:
                exact[i] = scale * weights[i]
            break
        # Only the side that is further off may be fixed: fixing it moves the scale towards the other one.
        short = math.fsum(low - scale * weights[i] for i in under)
        excess = math.fsum(scale * weights[i] - high for i in over)
        fixed, at = (under, low) if short >= excess else (over, high)
        for i in fixed:
            exact[i] = float(at)
        left -= at * len(fixed)
        free -= fixed
    return exact


def hours_by_week(
    tactic: Tactic, window: Window, hours: float, *, as_of: date | None = None, calendar: WorkCalendar | None = None
) -> tuple[WeekHours, ...]:
    """Staff hours of ``tactic`` by week (Monday to Sunday), adding up to ``hours`` rounded to hundredths.

    Args:
        window: when it runs.
        as_of: the day of planning; no set-up is done before it.

    Raises:
        ValueError: the hours are negative or not finite.
    """
    if not (math.isfinite(hours) and hours >= 0):
        raise ValueError(f"hours are 0 or more; got {hours}")
    calendar = calendar or WorkCalendar.of("JP")
    total = int((Decimal(repr(float(hours))) * _CENT_HOURS).to_integral_value(ROUND_HALF_EVEN))
    set_up = min(total, round(tactic.hours.setup_hours * _CENT_HOURS))
    before = _working(window.starts - max(tactic.preparation_days, 1) * _ONE_DAY, window.starts - _ONE_DAY, calendar)
    if as_of is not None:
        before = [day for day in before if day >= as_of]
    before = before or [max(window.starts - _ONE_DAY, as_of) if as_of else window.starts - _ONE_DAY]
    during = list(window.sends) or _working(window.starts, window.ends, calendar) or [window.starts]
    weeks: dict[date, int] = {}
    for days, part in ((before, set_up), (during, total - set_up)):
        for day, share in zip(days, apportion(part, [1.0] * len(days)), strict=True):
            monday = day - timedelta(days=day.weekday())
            weeks[monday] = weeks.get(monday, 0) + share
    return tuple(WeekHours(week=monday, hours=share / _CENT_HOURS) for monday, share in sorted(weeks.items()) if share)


def _working(first: date, last: date, calendar: WorkCalendar) -> list[date]:
    days = [first + timedelta(days=d) for d in range((last - first).days + 1)]
    return [day for day in days if calendar.is_working_day(day)]
