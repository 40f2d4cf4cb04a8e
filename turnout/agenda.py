"""A plan as a calendar: what happens on which day, for people to put into theirs.

One row per day and thing to do, as CSV that Excel opens (UTF-8 with a mark), in the language of the brief.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final, Literal

from turnout.plan import Plan

Language = Literal["ja", "en"]
Action = Literal["start", "send", "spend", "end", "event"]

_COLUMNS: Final[dict[Language, tuple[str, ...]]] = {
    "en": ("date", "weekday", "time", "tactic", "name", "action", "spend", "currency"),
    "ja": ("日付", "曜日", "時刻", "施策ID", "施策", "内容", "費用", "通貨"),
}
_ACTIONS: Final[dict[Action, dict[Language, str]]] = {
    "start": {"en": "start", "ja": "開始"},
    "send": {"en": "send", "ja": "配信"},
    "spend": {"en": "spend", "ja": "出稿"},
    "end": {"en": "end", "ja": "終了"},
    "event": {"en": "event", "ja": "開催"},
}
_WEEKDAYS: Final[dict[Language, str]] = {"en": "Mon Tue Wed Thu Fri Sat Sun", "ja": "月 火 水 木 金 土 日"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to do on one day.

    Attributes:
        at: the moment of a send in the event's zone; None: any time of the day.
        spend: of that day, in ``currency``; None where nothing is spent.
    """

    day: date
    tactic: str
    name: str
    action: Action
    at: datetime | None = None
    spend: Decimal | None = None
    currency: str = ""


def entries(plan: Plan) -> list[Entry]:
    """Everything a plan does, in order of time."""
    event = plan.brief.event
    found = [Entry(event.date, "", event.name, "event")]
    for part in plan.allocations:
        spend = {d.date: d.amount for d in part.daily_spend}
        currency = part.spend.currency
        sends = {at.date(): at for at in part.sends}
        for day, at in sends.items():
            paid = spend.pop(day, None)
            found.append(Entry(day, part.tactic, part.name, "send", at, paid, currency if paid else ""))
        if not sends:
            first = spend.pop(part.starts, None)
            found.append(Entry(part.starts, part.tactic, part.name, "start", None, first, currency if first else ""))
            if part.ends > part.starts:
                last = spend.pop(part.ends, None)
                found.append(Entry(part.ends, part.tactic, part.name, "end", None, last, currency if last else ""))
        found += [Entry(day, part.tactic, part.name, "spend", None, paid, currency) for day, paid in spend.items()]
    order = {action: number for number, action in enumerate(_ACTIONS)}
    return sorted(found, key=lambda e: (e.day, order[e.action], e.at.isoformat() if e.at else "", e.tactic))


def as_csv(plan: Plan) -> str:
    """The calendar of a plan as CSV, first line the headings."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS[plan.brief.language])
    writer.writerows(_rows(plan))
    return text.getvalue()


def _rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    language: Language = plan.brief.language
    weekdays = _WEEKDAYS[language].split()
    for entry in entries(plan):
        yield (
            entry.day.isoformat(),
            weekdays[entry.day.weekday()],
            f"{entry.at:%H:%M}" if entry.at else "",
            entry.tactic,
            _plain(entry.name),
            _ACTIONS[entry.action][language],
            "" if entry.spend is None else f"{entry.spend:f}",
            entry.currency,
        )


def _plain(text: str) -> str:
    """A name that a spreadsheet shows rather than computes."""
    return f"'{text}" if text[:1] in "=+-@\t\r" else text
