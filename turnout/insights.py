"""Insights (知見): organisers' rules of thumb, what they claim, and where they apply.

A rule is a sentence with an impact, a confidence and a place: *"Paid events fill up in the last week"*, +20 %, high,
paid events. People write impact as a percentage, a factor or a word; :func:`claim_of` turns it into a bounded range of
multipliers:

===========================  =========================================================================================
written                      range
===========================  =========================================================================================
``+20 %``, ``1.2倍``          the effect to the power 1 ± s, s by confidence: ¼ (high), ½ (medium), 1 (low, or unsaid)
``10〜20 %``, ``1.1-1.2x``     as written
high / medium / low          ×1.25–2, ×1.1–1.25, ×1.02–1.1 (our reading of the words: a guess), or one over it
===========================  =========================================================================================

never beyond a third or three times. The direction is the sign or the word beside it; else the sentence's own words
(減る, lower, …) decide, and without any it is up. It can be said outright.

:mod:`turnout.insight_store` keeps them, :mod:`turnout.insight_check` holds them against the organiser's own history.
"""

from __future__ import annotations

import calendar
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any, Final, Literal

from turnout.brief import Brief
from turnout.identity import normalise_name

Direction = Literal["up", "down"]
Metric = Literal["registrations", "show_up", "other"]
Language = Literal["ja", "en"]
LEVELS: Final = ("high", "medium", "low")
DIRECTIONS: Final[tuple[Direction, ...]] = ("up", "down")
METRICS: Final[tuple[Metric, ...]] = ("registrations", "show_up", "other")
#: No rule of thumb is believed to do more than this, or less than one over it.
MOST: Final = 3.0
ALLOWED_IMPACT: Final = (
    "a percentage (+20%), a range (10-20%), a factor (1.2x, 1.2倍), or high, medium, low (高, 中, 低)"
)

_LEVEL_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "high": (1.25, 2.0), "medium": (1.10, 1.25), "low": (1.02, 1.10),
}  # fmt: skip
_SPREAD: Final[Mapping[str, float]] = {"high": 0.25, "medium": 0.5, "low": 1.0}

_NUMBER = r"\d+(?:\.\d+)?"
_RANGE = (
    rf"(?P<sign>[+-])?\s*(?P<a>{_NUMBER})\s*(?P<mid>[%倍x×])?\s*(?:(?:[~〜–-]|から|to)\s*[+-]?\s*(?P<b>{_NUMBER})\s*)?"
)
_PERCENT = re.compile(_RANGE + r"(?:%|パーセント|percent)", re.IGNORECASE)
_FACTOR = re.compile(_RANGE + r"(?:倍|x\b|×|times)", re.IGNORECASE)
_FACTOR_FIRST = re.compile(rf"^[x×]\s*(?P<a>{_NUMBER})$", re.IGNORECASE)
_HALF = re.compile(r"半分|半減|\bhal(?:f|ves|ved)\b", re.IGNORECASE)
_DOUBLE = re.compile(r"倍増|\bdoubl", re.IGNORECASE)
_DOWN = re.compile(
    r"マイナス|下が|減|低下|低い|低く|悪化|悪い|悪く|落ち|少な|伸びな|効かな|弱い|弱く|▼|▲|"
    r"\b(?:minus|negative|decreas\w*|lower|fewer|less|worse|drops?|falls?|down|reduces?|weak\w*|hurts?)\b",
    re.IGNORECASE,
)
_SHOW_UP = re.compile(
    r"参加率|出席|歩留|ノーショー|当日参加|来場率|no-?shows?|show[- ]?up|attendance|attendees|\battend\b", re.IGNORECASE
)
_OTHER = re.compile(
    r"開封|クリック|満足|商談|受注|売上|アンケート|単価|"
    r"\bopens?\b|\bopened\b|\bopen rate|\bclick|\bCT[RA]\b|\bCP[AC]\b|"
    r"satisf|revenue|\bcosts?\b|\bcheap",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a rule says: its outcome is multiplied by ``low`` to ``high`` where it applies.

    Attributes:
        low, high: None where the impact says nothing that can be read; the direction stands all the same.
    """

    direction: Direction
    low: float | None = None
    high: float | None = None

    @property
    def sign(self) -> int:
        return 1 if self.direction == "up" else -1


def claim_of(
    impact: str | None, *, confidence: str | None = None, text: str = "", direction: Direction | None = None
) -> Claim:
    """The claim of a rule from the words of its author.

    Args:
        impact: as written; a level is high, medium or low.
        confidence: a level; widens what a single figure claims.
        text: the sentence, whose words give the direction where the impact has none.
        direction: said outright; wins over everything.
    """
    written = unicodedata.normalize("NFKC", impact or "").replace("−", "-").strip()
    spread = _SPREAD.get(confidence or "", 1.0)
    down = bool(_DOWN.search(written)) or written.startswith("-")
    effect = _effect(written, down)
    if effect is not None:
        low, high = sorted(effect)
        if low == high:
            low, high = sorted((low ** (1 - spread), low ** (1 + spread)))
        way: Direction = direction or ("down" if low * high < 1 else "up")
        if (math.log(low * high) < 0) != (way == "down") and low * high != 1:
            low, high = 1 / high, 1 / low
        return Claim(way, *_bounded(low, high))
    way = direction or ("down" if down or (not written.startswith("+") and _DOWN.search(text)) else "up")
    level = level_of(written)
    if level is None:
        return Claim(way)
    low, high = _LEVEL_RANGES[level]
    return Claim(way, low, high) if way == "up" else Claim(way, 1 / high, 1 / low)


def level_of(text: str) -> str | None:
    """The level a word of impact or confidence names, also with a sign before it; else None."""
    bare = unicodedata.normalize("NFKC", text).strip().lstrip("+-").strip().casefold()
    words = {"high": "high 高 大 強", "medium": "medium 中", "low": "low 低 小 弱"}
    return next((level for level, known in words.items() if bare in known.split()), None)


def readable_impact(text: str) -> bool:
    """Whether an impact is a figure or a level, so that a size is claimed."""
    return claim_of(text).low is not None


def _effect(written: str, down: bool) -> tuple[float, float] | None:
    """The multipliers at both ends of what is written; None where no number is."""
    if found := _PERCENT.search(written):
        sign = -1 if found["sign"] == "-" or down else 1
        ends = [sign * float(found[n]) / 100 for n in ("a", "b") if found[n]]
        a, b = ends[0], ends[-1]
        return (1 + a, 1 + b) if min(a, b) > -1 else (1 / MOST, 1 / MOST)
    if found := _FACTOR.search(written) or _FACTOR_FIRST.search(written):
        groups = found.groupdict()
        ends = [float(v) for n in ("a", "b") if (v := groups.get(n))]
        return (ends[0], ends[-1]) if min(ends) > 0 else (1 / MOST, 1 / MOST)
    if _HALF.search(written):
        return (0.5, 0.5)
    if _DOUBLE.search(written):
        return (2.0, 2.0)
    return None


def _bounded(low: float, high: float) -> tuple[float, float]:
    return min(max(low, 1 / MOST), MOST), min(max(high, 1 / MOST), MOST)


# --- where it applies -------------------------------------------------------------------------------------------------

_MONTHS = {
    name.casefold(): number
    for number in range(1, 13)
    for name in (calendar.month_name[number], calendar.month_abbr[number])
}
_WEEKDAY_NAMES = {
    name.casefold(): number
    for number, kanji in enumerate("月火水木金土日")
    for day in (calendar.day_name[number],)
    for name in (day, f"{day}s", calendar.day_abbr[number], f"{kanji}曜", f"{kanji}曜日")
}
_PERIODS: Final[Mapping[str, tuple[int, ...]]] = {
    "春": (3, 4, 5), "夏": (6, 7, 8), "秋": (9, 10, 11), "冬": (12, 1, 2), "年末": (12,), "年始": (1,), "年度末": (3,),
    "spring": (3, 4, 5), "summer": (6, 7, 8), "autumn": (9, 10, 11), "fall": (9, 10, 11), "winter": (12, 1, 2),
    "q1": (1, 2, 3), "q2": (4, 5, 6), "q3": (7, 8, 9), "q4": (10, 11, 12),
}  # fmt: skip
_DAY_GROUPS: Final[Mapping[str, tuple[int, ...]]] = {
    "平日": (0, 1, 2, 3, 4), "週末": (5, 6), "土日": (5, 6), "weekday": (0, 1, 2, 3, 4), "weekdays": (0, 1, 2, 3, 4),
    "weekend": (5, 6), "weekends": (5, 6),
}  # fmt: skip
_PRICES: Final[Mapping[str, Literal["paid", "free"]]] = {
    "有料": "paid", "有料イベント": "paid", "paid": "paid", "paid events": "paid", "paid event": "paid",
    "無料": "free", "無料イベント": "free", "free": "free", "free events": "free", "free event": "free",
}  # fmt: skip
_MONTH_RANGE = re.compile(r"(\d{1,2})月?\s*(?:[~〜–-]|から)\s*(\d{1,2})月")
_MONTH_WORDS = re.compile(r"([a-z]+)\.?\s*(?:[-–~]|to)\s*([a-z]+)\.?")
_ORGANISER = re.compile(r"(?:主催(?:者)?|organi[sz]er|account)\s*[:=]?\s*(.+)", re.IGNORECASE)
_FILLER = re.compile(r"(?:の(?:イベント|セミナー)?|開催|events?|のみ|のとき)$")


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a rule applies: every condition that is set must hold; of one condition any value will do.

    Attributes:
        months, weekdays: of the event's day; 1 is January, 0 is Monday.
        unknown: what was written and cannot be read; it is left to people to judge.
    """

    tactics: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    formats: frozenset[str] = frozenset()
    industries: frozenset[str] = frozenset()
    job_titles: frozenset[str] = frozenset()
    company_sizes: frozenset[str] = frozenset()
    organisers: frozenset[str] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    price: Literal["paid", "free"] | None = None
    unknown: tuple[str, ...] = ()

    @classmethod
    def of(cls, applies_to: Mapping[str, Any]) -> Scope:
        """Read ``applies_to`` as ingestion writes it: ids by kind, and other words in ``other``."""
        words = _Words()
        for word in applies_to.get("other") or ():
            words.read(str(word))
        for kind in ("organisers", "months", "weekdays"):
            getattr(words, kind).update(applies_to.get(kind) or ())
        return cls(
            **{k: frozenset(applies_to.get(k) or ()) for k in _VOCABULARIES},
            organisers=frozenset(normalise_name(str(o)) for o in words.organisers),
            months=frozenset(words.months),
            weekdays=frozenset(words.weekdays),
            price=words.price or applies_to.get("price"),
            unknown=tuple(words.unknown),
        )

    @property
    def is_everywhere(self) -> bool:
        """Whether nothing that can be read restricts it."""
        return not self.conditions

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions that are set."""
        return tuple(n for n in (*_VOCABULARIES, "organisers", "months", "weekdays", "price") if getattr(self, n))

    def holds_for(self, facts: Facts, *, tactics: bool = True) -> bool:
        """Whether every condition holds for an event (and a tactic)."""
        return all((
            not tactics or not self.tactics or facts.tactic in self.tactics,
            not self.categories or facts.category in self.categories,
            not self.formats or facts.format in self.formats,
            self.price is None or self.price == ("paid" if facts.is_paid else "free"),
            not self.organisers or normalise_name(facts.organiser) in self.organisers,
            not self.months or facts.day.month in self.months,
            not self.weekdays or facts.day.weekday() in self.weekdays,
            *(
                not getattr(self, n) or not getattr(facts, n) or bool(getattr(self, n) & getattr(facts, n))
                for n in AUDIENCES
            ),
        ))  # fmt: skip


#: Conditions on who is addressed; an event that names nobody addresses everybody.
AUDIENCES: Final = ("industries", "job_titles", "company_sizes")
_VOCABULARIES: Final = ("tactics", "categories", "formats", *AUDIENCES)


@dataclass(slots=True)
class _Words:
    """Reads conditions that no vocabulary knows: months, weekdays, price, organiser."""

    organisers: set[str] = field(default_factory=set)
    months: set[int] = field(default_factory=set)
    weekdays: set[int] = field(default_factory=set)
    price: Literal["paid", "free"] | None = None
    unknown: list[str] = field(default_factory=list)

    def read(self, word: str) -> None:
        plain = unicodedata.normalize("NFKC", word).strip()
        if found := _ORGANISER.fullmatch(plain):
            self.organisers.add(found[1].strip())
            return
        key = plain.casefold()
        bare = _FILLER.sub("", key).strip()
        months = _months_of(key) or _months_of(bare)
        if months:
            self.months.update(months)
        elif bare in _WEEKDAY_NAMES or key in _WEEKDAY_NAMES:
            self.weekdays.add(_WEEKDAY_NAMES.get(bare, _WEEKDAY_NAMES.get(key, 0)))
        elif bare in _DAY_GROUPS:
            self.weekdays.update(_DAY_GROUPS[bare])
        elif key in _PRICES or bare in _PRICES:
            self.price = _PRICES.get(key) or _PRICES[bare]
        else:
            self.unknown.append(plain)


def _months_of(word: str) -> tuple[int, ...]:
    if word in _PERIODS:
        return _PERIODS[word]
    if word in _MONTHS:
        return (_MONTHS[word],)
    if found := _MONTH_RANGE.fullmatch(word):
        return _from_to(int(found[1]), int(found[2]))
    if (found := _MONTH_WORDS.fullmatch(word)) and found[1] in _MONTHS and found[2] in _MONTHS:
        return _from_to(_MONTHS[found[1]], _MONTHS[found[2]])
    if (found := re.fullmatch(r"(\d{1,2})月", word)) and 1 <= int(found[1]) <= 12:
        return (int(found[1]),)
    return ()


def _from_to(first: int, last: int) -> tuple[int, ...]:
    if not (1 <= first <= 12 and 1 <= last <= 12):
        return ()
    return tuple((first - 1 + i) % 12 + 1 for i in range((last - first) % 12 + 1))


@dataclass(frozen=True, slots=True)
class Facts:
    """What of an event (and a tactic) conditions look at. Empty audiences are everybody."""

    day: date
    category: str
    format: str
    is_paid: bool = False
    organiser: str = ""
    industries: frozenset[str] = frozenset()
    job_titles: frozenset[str] = frozenset()
    company_sizes: frozenset[str] = frozenset()
    tactic: str | None = None

    @classmethod
    def of(cls, brief: Brief, tactic: str | None = None) -> Facts:
        event = brief.event
        return cls(
            day=event.date,
            category=event.category,
            format=str(event.format),
            is_paid=event.price.amount > 0,
            organiser=event.organiser,
            industries=frozenset(event.audience.industries),
            job_titles=frozenset(event.audience.job_titles),
            company_sizes=frozenset(event.audience.company_sizes),
            tactic=tactic,
        )


@dataclass(frozen=True)
class Insight:
    """One rule of thumb.

    Attributes:
        impact, confidence: as written; levels are high, medium, low.
        applies_to: ids by kind, other words in ``other``, the original in ``as_written``.
        direction, metric: said outright; None: read from the words.
        source: ``spreadsheet``, or ``manual`` for what was typed in.
    """

    insight_id: str
    text: str
    impact: str | None = None
    confidence: str | None = None
    applies_to: Mapping[str, Any] = field(default_factory=dict)
    direction: Direction | None = None
    metric: Metric | None = None
    source: str = "manual"

    @cached_property
    def scope(self) -> Scope:
        return Scope.of(self.applies_to)

    @cached_property
    def claim(self) -> Claim:
        return claim_of(self.impact, confidence=self.confidence, text=self.text, direction=self.direction)

    @cached_property
    def about(self) -> Metric:
        """What the rule speaks of; clicks, costs and such are ``other``: the check looks at people only."""
        if self.metric is not None:
            return self.metric
        if _SHOW_UP.search(self.text):
            return "show_up"
        return "other" if _OTHER.search(self.text) else "registrations"


def applicable(insights: Iterable[Insight], brief: Brief, tactic: str | None = None) -> list[Insight]:
    """The rules to show beside a tactic of a plan; without ``tactic`` those that speak of the event as a whole.

    Conditions that could not be read do not keep a rule away: people see them in its words. The surest come first.
    """
    facts = Facts.of(brief, tactic)
    found = [i for i in insights if bool(i.scope.tactics) == (tactic is not None) and i.scope.holds_for(facts)]
    order = {level: number for number, level in enumerate(LEVELS)}
    return sorted(found, key=lambda i: (order.get(i.confidence or "", len(order)), i.insight_id))
