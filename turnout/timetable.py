"""When everything of a plan happens: all tactics together, so that they do not wear the same people out.

Tactics that write to one list share its patience: two mails to the same people are never on the same or on adjacent
days, whichever tactic sends them (:data:`turnout.schedule.FATIGUE_DAYS`). Sends go out in the morning of a working
day, posts at noon. Advertisements get a limit of how often one person should see them (:data:`FREQUENCY`), which
campaigns of one platform share, for they show to the same people; where the number of these people is known (visitors
to retarget), no day spends more than that many views cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal
from zoneinfo import ZoneInfo

from turnout.brief import Assets
from turnout.flighting import flight, hours_by_week
from turnout.money import Rates, rounded
from turnout.plan import DailySpend, FrequencyCap, WeekHours
from turnout.schedule import TooLate, Window, day_in, fatigue_days, place, schedule, send_wishes
from turnout.tactics.catalogue import Tactic
from turnout.workdays import WorkCalendar

if TYPE_CHECKING:
    from turnout.scoring.types import Pacing

Language = Literal["ja", "en"]

#: Views one person should get at most, and in how many days, by channel: guesses in the range that agencies advise.
FREQUENCY: Final[Mapping[str, tuple[int, int]]] = {"paid_social": (3, 7), "display": (5, 7), "video": (3, 7)}
#: When sends go out in the event's zone: mail to offices in the morning, posts when people look at their telephones.
SEND_TIMES: Final[Mapping[str, time]] = {
    "email": time(10), "pr": time(10), "media": time(10), "organic_social": time(12), "community": time(12),
    "influencer": time(12),
}  # fmt: skip
_MORNING = time(10)
_MAIL: Final = "email"

_WORDS: Final[dict[str, dict[Language, str]]] = {
    "given_up": {
        "en": "{count} of {wanted} sends found no day {gap} days apart from the other sends to the same people",
        "ja": "{wanted}回のうち{count}回は、同じ宛先への配信と{gap}日以上あける日がないため見送り",
    },
    "later": {
        "en": "starts on {day}: before that the money would be below the platform's daily minimum",
        "ja": "1日あたりの最低出稿額を下回らないよう{day}に開始",
    },
    "cap": {
        "en": "set the frequency limit to {impressions} views per person in {days} days",
        "ja": "フリークエンシー上限は{days}日で1人{impressions}回に設定",
    },
    "shared": {"en": "{cap}, together with {names}", "ja": "{cap}({names}と合算)"},
}


@dataclass(frozen=True, slots=True)
class Part:
    """One tactic of a plan, as allocated.

    Attributes:
        spend: in the plan's currency, payable.
        units: whole units, where the tactic has them.
    """

    tactic: Tactic
    spend: Decimal = Decimal(0)
    units: int | None = None
    staff_hours: float = 0.0


@dataclass(frozen=True, slots=True)
class Timing:
    """When one tactic of a plan does what.

    Attributes:
        window: first and last day; for auctions the first day on which money is spent.
        sends: moments of single sends in the event's zone, rising.
        daily_spend: adds up to the spend exactly.
        staff_hours_by_week: adds up to the hours, rounded to hundredths.
        given_up: sends wanted that found no day.
        frequency_cap: what to set on the platform.
        postponed: the money begins later than the window would allow.
    """

    tactic_id: str
    window: Window
    sends: tuple[datetime, ...] = ()
    daily_spend: tuple[DailySpend, ...] = ()
    staff_hours_by_week: tuple[WeekHours, ...] = ()
    given_up: int = 0
    frequency_cap: FrequencyCap | None = None
    postponed: bool = False
    gap: int = 1
    names: Mapping[Language, tuple[str, ...]] = field(default_factory=dict)

    def notes(self, language: Language) -> list[str]:
        """What a planner should know of it, one sentence each."""

        def say(key: str, **values: object) -> str:
            return _WORDS[key][language].format(**values)

        found = []
        if self.given_up:
            wanted = len(self.sends) + self.given_up
            found.append(say("given_up", count=self.given_up, wanted=wanted, gap=self.gap))
        if self.postponed:
            found.append(say("later", day=self.window.starts.isoformat()))
        if self.frequency_cap is not None:
            cap = say("cap", impressions=self.frequency_cap.impressions, days=self.frequency_cap.days)
            others = self.names.get(language, ())
            found.append(say("shared", cap=cap, names=", ".join(others)) if others else cap)
        return found


@dataclass(frozen=True, slots=True)
class PortfolioSchedule:
    """Timings by tactic id, and what is too late to be part of it."""

    timings: Mapping[str, Timing]
    too_late: Mapping[str, TooLate] = field(default_factory=dict)


def portfolio_schedule(
    parts: Sequence[Part],
    event_date: date,
    as_of: date | datetime,
    zone: ZoneInfo | str,
    *,
    currency: str,
    pacing: Pacing,
    calendar: WorkCalendar | None = None,
    rates: Rates | None = None,
    assets: Assets | None = None,
) -> PortfolioSchedule:
    """Dates, sends, daily spend and weekly hours of all tactics of a plan, so that they go together.

    The answer does not depend on the order of ``parts``. A tactic that does not fit any more is in ``too_late``.

    Args:
        event_date: the event's day in ``zone``.
        as_of: the day of planning; an aware datetime is read in ``zone``.
        currency: of every part's spend.
        pacing: when registrations of such an event come.
        calendar: days off; default: Japan's.
        rates: converts the platforms' minimums and prices.
        assets: who may be retargeted, if that is known.

    Raises:
        ValueError: two parts are the same tactic, a spend is not payable, or ``as_of`` has no zone.
    """
    calendar = calendar or WorkCalendar.of("JP")
    place_of = ZoneInfo(zone) if isinstance(zone, str) else zone
    today = day_in(as_of, place_of)
    ordered = sorted(parts, key=lambda part: part.tactic.id)
    if len({part.tactic.id for part in ordered}) < len(ordered):
        raise ValueError("a tactic may stand in a portfolio only once")
    windows: dict[str, Window] = {}
    late: dict[str, TooLate] = {}
    for part in ordered:
        found = schedule(part.tactic, event_date, today, place_of, units=part.units, calendar=calendar)
        if isinstance(found, TooLate):
            late[part.tactic.id] = found
        else:
            windows[part.tactic.id] = found
    fitting = [part for part in ordered if part.tactic.id in windows]
    given_up = _coordinate(fitting, windows, event_date, today, calendar)
    timings = {}
    for part in fitting:
        tactic, window = part.tactic, windows[part.tactic.id]
        cap, sharing = _frequency(part, fitting)
        limit = _daily_limit(tactic, cap, assets, currency, rates)
        daily = flight(
            tactic, window, part.spend, currency, pacing,
            event_date=event_date, calendar=calendar, rates=rates, daily_limit=limit,
        )  # fmt: skip
        postponed = bool(daily) and tactic.cost.kind == "auction" and daily[0].date > window.starts
        if postponed:
            window = replace(window, starts=daily[0].date)
        at = SEND_TIMES.get(tactic.channel, _MORNING)
        timings[tactic.id] = Timing(
            tactic.id,
            window,
            sends=tuple(datetime.combine(day, at, tzinfo=place_of) for day in window.sends),
            daily_spend=daily,
            staff_hours_by_week=hours_by_week(tactic, window, part.staff_hours, as_of=today, calendar=calendar),
            given_up=given_up.get(tactic.id, 0),
            frequency_cap=cap,
            postponed=postponed,
            gap=fatigue_days(tactic),
            names={"en": tuple(t.name_en for t in sharing), "ja": tuple(t.name_ja for t in sharing)},
        )
    return PortfolioSchedule(timings, late)


def _coordinate(
    parts: Sequence[Part], windows: dict[str, Window], event_date: date, today: date, calendar: WorkCalendar
) -> dict[str, int]:
    """Give the sends to one list days of their own; changes ``windows``. Returns how many sends each had to give up."""
    groups: dict[str, list[Part]] = {}
    for part in parts:
        if part.tactic.send_days:
            groups.setdefault(_list_of(part.tactic), []).append(part)
    given_up: dict[str, int] = {}
    for group in groups.values():
        wishes = []
        for part in group:
            tactic = part.tactic
            earliest = max(
                today + timedelta(days=tactic.preparation_days), event_date - timedelta(days=tactic.window.first_day)
            )
            latest = event_date - timedelta(days=tactic.window.last_day)
            wishes += send_wishes(tactic, event_date, earliest=earliest, latest=latest, units=part.units)
        placed = place(wishes, max(fatigue_days(part.tactic) for part in group), calendar)
        for part in group:
            days = placed[part.tactic.id]
            missing = sum(w.owner == part.tactic.id for w in wishes) - len(days)
            if missing:
                given_up[part.tactic.id] = missing
            if days:
                windows[part.tactic.id] = Window(days[0], days[-1], days)
            else:
                windows[part.tactic.id] = replace(windows[part.tactic.id], sends=())
    return given_up


def _list_of(tactic: Tactic) -> str:
    """Whose patience the sends of a tactic use up: that of a mailing list, else only that of its own audience."""
    return f"list:{tactic.asset}" if tactic.channel == _MAIL and tactic.asset else f"tactic:{tactic.id}"


def _frequency(part: Part, parts: Sequence[Part]) -> tuple[FrequencyCap | None, list[Tactic]]:
    """The cap of an auction's campaign, and the other tactics that show to the same people."""
    tactic = part.tactic
    limit = FREQUENCY.get(tactic.channel)
    if limit is None or tactic.cost.kind != "auction" or not part.spend:
        return None, []
    others = [
        p.tactic for p in parts
        if p is not part and p.spend and tactic.platform and p.tactic.platform == tactic.platform
        and p.tactic.channel == tactic.channel
    ]  # fmt: skip
    return FrequencyCap(impressions=limit[0], days=limit[1], shared_with=[t.id for t in others]), others


def _daily_limit(
    tactic: Tactic, cap: FrequencyCap | None, assets: Assets | None, currency: str, rates: Rates | None
) -> Decimal | None:
    """What as many views as the cap allows cost on one day, where the number of people is known."""
    visitors = assets.site_visitors if assets is not None and tactic.asset == "site_visitors" else None
    if cap is None or not visitors or rates is None:
        return None
    metric = next((p.metric for p in tactic.priors if p.metric in ("cpm_usd", "cpm_jpy")), None)
    if metric is None:
        return None
    own = metric.removeprefix("cpm_").upper()
    views = visitors * cap.impressions / cap.days
    return rounded(rates.convert(views * tactic.prior(metric).value / 1000, own, currency), currency)
