"""Which event an unmapped name may belong to: a score from 0 to 1, and why.

Names are compared by pairs of neighbouring characters, which works for Japanese, written without spaces, as it does for
other languages. Pairs that many events share (セミナー, 2026) count little. What speaks for an event

    * its code, written with more or fewer zeros,
    * how much of its name the text holds, and in how long a run,
    * its day: campaigns run in the weeks before their event,
    * that it is of the same account (inbox folder).

A suggestion is never applied by itself.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from difflib import SequenceMatcher
from functools import lru_cache

from ingestion.linking import Event, Events, codes_in, folded
from turnout.tactics import Catalogue

#: Suggestions below this are not made.
LOWEST_SCORE = 0.3
#: What a name, the days and the account weigh.
_NAME, _DAYS, _ACCOUNT = 0.7, 0.22, 0.08
#: A code that differs only in zeros is nearly certain.
_CODE = 0.75
#: Campaigns end at most so long before their event.
_BEFORE = timedelta(days=30)
#: After so many days apart, closeness in time has fallen to a third.
_FADES = 30.0
#: Events looked at closely, of those that share most pairs of characters.
_CLOSE = 12
#: A pair of characters that no more events than this have, or a twentieth of them, tells events apart.
_FEW = 20


@dataclass(frozen=True)
class Suggestion:
    """An event, or for the origin of registrations a tactic, with its score (0 to 1) and the reasons."""

    score: float
    reason: str
    event_id: str | None = None
    event_name: str | None = None
    event_date: date | None = None
    tactic_id: str | None = None


@lru_cache(maxsize=65_536)
def _pairs(text: str) -> frozenset[str]:
    return frozenset(text[i : i + 2] for i in range(len(text) - 1))


def _without_zeros(code: str) -> str:
    return code.replace("0", "")


class Suggester:
    """Ready to look for the events of many names."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._by_pair: dict[str, list[Event]] = defaultdict(list)
        self._by_code: dict[str, list[Event]] = defaultdict(list)
        for event in events.every:
            for pair in _pairs(event.name):
                self._by_pair[pair].append(event)
            for code in event.codes:
                self._by_code[_without_zeros(code)].append(event)
        count = len(events.every)
        self._common = max(_FEW, count // 20)
        self._weight = {pair: math.log(1 + count / len(having)) for pair, having in self._by_pair.items()}
        self._whole = {e.event_id: sum(self._weight[p] for p in _pairs(e.name)) for e in events.every}

    def events(
        self, names: Sequence[str], account: str, first: date | None, last: date | None, *, count: int = 3
    ) -> list[Suggestion]:
        """The likeliest events of something called ``names`` and active from ``first`` to ``last``, best first."""
        best: dict[str, Suggestion] = {}
        for name in names:
            for event, likeness, reasons in self._alike(name):
                made = self._judged(event, likeness, reasons, account, first, last)
                if made.score >= LOWEST_SCORE and (
                    event.event_id not in best or made.score > best[event.event_id].score
                ):
                    best[event.event_id] = made
        if not best and (only := self._only(account, first, last)) is not None:
            best[only.event_id] = Suggestion(
                LOWEST_SCORE, "the only event of the account in these weeks", only.event_id, only.title, only.day
            )
        ranked = sorted(best.values(), key=lambda s: (-s.score, s.event_date, s.event_id))
        return ranked[:count]

    def _alike(self, name: str) -> list[tuple[Event, float, list[str]]]:
        """Events whose code or name resembles ``name``: how much, from 0 to 1 (a code: above 1), and why."""
        text = folded(name)
        pairs = _pairs(text) & self._by_pair.keys()
        found: dict[str, tuple[Event, float, list[str]]] = {}
        # Pairs that most events share cannot tell them apart; they only count where there are no others.
        telling = [p for p in pairs if len(self._by_pair[p]) <= self._common] or pairs
        shared: dict[str, float] = defaultdict(float)
        for pair in telling:
            weight = self._weight[pair]
            for event in self._by_pair[pair]:
                shared[event.event_id] += weight
        whole = self._whole
        likeliest = heapq.nsmallest(_CLOSE, shared, key=lambda i: (-shared[i] / whole[i], i))
        for event_id in likeliest:
            event = self._events.by_id[event_id]
            shared[event_id] = sum(self._weight[p] for p in _pairs(event.name) & pairs)
            run = SequenceMatcher(None, text, event.name, autojunk=False).find_longest_match().size
            likeness = (shared[event_id] / self._whole[event_id] + run / len(event.name)) / 2
            if run >= 2:
                found[event_id] = (event, likeness, [f"{likeness:.0%} of the event's name"])
        for code in codes_in(name):
            near = [e for e in self._by_code.get(_without_zeros(code), ()) if code not in e.codes]
            for event in near if len(near) <= 3 else ():
                found[event.event_id] = (event, 2.0, [f"the code {code} but for zeros"])
        return list(found.values())

    def _judged(
        self, event: Event, likeness: float, reasons: list[str], account: str, first: date | None, last: date | None
    ) -> Suggestion:
        reasons = list(reasons)
        days = 0.0
        if last is not None:
            begins, ends = first or last, last + _BEFORE
            apart = max((begins - event.day).days, (event.day - ends).days, 0)
            days = math.exp(-apart / _FADES)
            before = (event.day - last).days
            if apart == 0:
                reasons.append(f"last seen {before} days before the event" if before > 0 else "runs on the event's day")
            else:
                reasons.append(f"{apart} days away from its time")
        same = event.account == account
        if same and account:
            reasons.append("same account")
        if likeness > 1:
            score = _CODE + (1 - _CODE) * (0.8 * days + 0.2 * same)
        else:
            score = _NAME * likeness + likeness**0.5 * (_DAYS * days + _ACCOUNT * same)
        return Suggestion(round(score, 3), ", ".join(reasons), event.event_id, event.title, event.day)

    def _only(self, account: str, first: date | None, last: date | None) -> Event | None:
        """The only event that activity of these days can be for."""
        if last is None:
            return None
        near = self._events.near(self._events.every, account)
        found = [e for e in near if (first or last) <= e.day <= last + _BEFORE]
        return found[0] if len(found) == 1 else None


def tactics_like(catalogue: Catalogue, label: str) -> list[Suggestion]:
    """The tactics whose names or labels come nearest to what a registration system says of an origin."""
    return [
        Suggestion(round(score, 3), "resembles a name or label of the tactic", tactic_id=tactic_id)
        for tactic_id, score in catalogue.ranked(label)
    ]
