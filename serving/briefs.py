"""From a request body to a brief: every wrong field named at once.

The schema (:class:`turnout.brief.Brief`) says which fields there are and what each may hold. This module adds what the
schema cannot know: the catalogue, the exchange rates and today's date. Both kinds of errors are found in one pass, also
when the schema already refuses the body, so that nobody has to correct a brief twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from serving.problems import FieldError, Language, field_error, from_validation, shown
from turnout.brief import Brief, Objective
from turnout.errors import InputError, Problem
from turnout.money import Rates
from turnout.tactics.catalogue import Catalogue

#: Farther ahead nothing is known of demand, prices or public holidays.
FARTHEST: Final = timedelta(days=3 * 366)
_AMOUNTS: Final = ("lock", "minimum", "maximum")
_OBJECTIVES: Final = (Objective.most_registrations,)

Path = tuple[str | int, ...]
Found = tuple[Path, str, str, str]


class BriefRejectedError(ValueError):
    """The body is no brief that can be planned; ``errors`` names every wrong field."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__(f"{len(errors)} wrong field(s)")
        self.errors = list(errors)


def read_brief(data: object, *, now: datetime, catalogue: Catalogue, rates: Rates, language: Language) -> Brief:
    """The brief in a parsed JSON body.

    Args:
        now: an aware datetime; "today" is its day in the event's time zone.
        language: of the error messages.

    Raises:
        BriefRejectedError: with every schema and every planning error.
    """
    brief: Brief | None = None
    errors: list[FieldError] = []
    try:
        brief = Brief.model_validate(data)
    except ValidationError as invalid:
        errors = from_validation(invalid.errors(include_url=False), language)
    known = {e.pointer for e in errors}
    for path, code, japanese, english in _planning_errors(data, now, catalogue, rates):
        error = field_error(path, code, japanese if language == "ja" else english)
        if error.pointer not in known:
            errors.append(error)
    if brief is None or errors:
        raise BriefRejectedError(sorted(errors, key=lambda e: _order(e.pointer)))
    return brief


def check_brief(brief: Brief, *, now: datetime, catalogue: Catalogue, rates: Rates) -> None:
    """Refuse a well-formed brief that cannot be planned.

    Raises:
        InputError: one problem per wrong field, its ``column`` the dotted path.
    """
    problems = [
        Problem(code, japanese if brief.language == "ja" else english, column=".".join(map(str, path)))
        for path, code, japanese, english in _planning_errors(brief.model_dump(), now, catalogue, rates)
    ]
    if problems:
        raise InputError(problems)


def planning_day(brief: Brief, now: datetime) -> date:
    """The day a brief is planned on: its ``as_of``, else today in the event's time zone."""
    return brief.as_of or now.astimezone(ZoneInfo(brief.event.time_zone)).date()


_ORDER: Final = {name: str(position) for position, name in enumerate(Brief.model_fields)}


def _order(pointer: str) -> tuple[str, str]:
    """Errors in the order of the brief's fields."""
    return _ORDER.get(pointer.split("/")[1] if pointer else "", "~"), pointer


# --- planning errors: each check reads raw values and stays silent where the schema will complain ----------------
def _planning_errors(data: object, now: datetime, catalogue: Catalogue, rates: Rates) -> Iterator[Found]:
    if not isinstance(data, Mapping):
        return
    yield from _text_errors(data)
    yield from _date_errors(data, now)
    yield from _currency_errors(data, rates)
    yield from _constraint_errors(data, catalogue, rates)
    objective = data.get("objective")
    if objective in list(Objective) and objective not in _OBJECTIVES:
        allowed = ", ".join(_OBJECTIVES)
        yield (("objective",), "not_available", f"{shown(objective)} はまだ使えません。使える値: {allowed}",
               f"{shown(objective)} is not available yet; use {allowed}")  # fmt: skip


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


#: PostgreSQL stores no NUL, and no terminal or sheet wants the others.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def _text_errors(data: Mapping[str, Any]) -> Iterator[Found]:
    event = _mapping(data.get("event"))
    for name in ("name", "theme"):
        value = event.get(name)
        if isinstance(value, str) and _CONTROL.search(value):
            yield (("event", name), "control_character", "制御文字は使えません", "control characters are not allowed")


def _day(value: object) -> date | None:
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _date_errors(data: Mapping[str, Any], now: datetime) -> Iterator[Found]:
    event = _mapping(data.get("event"))
    event_date = _day(event.get("date"))
    if event_date is None:
        return
    zone = event.get("time_zone", "Asia/Tokyo")
    try:
        today = now.astimezone(ZoneInfo(zone)).date()
    except (KeyError, ValueError, TypeError, OSError):
        return
    as_of = _day(data.get("as_of")) or today
    if event_date < as_of:
        yield (("event", "date"), "event_in_the_past",
               f"{event_date} は計画日({as_of})より前です。これからのイベントにしてください",
               f"{event_date} is before the day of planning ({as_of}); plan an event to come")  # fmt: skip
    elif event_date - as_of > FARTHEST:
        yield (("event", "date"), "too_far_ahead", f"{event_date} は遠すぎます。{as_of + FARTHEST} までにしてください",
               f"{event_date} is too far ahead; the latest is {as_of + FARTHEST}")  # fmt: skip


def _money_places(data: Mapping[str, Any]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    yield ("event", "price"), _mapping(_mapping(data.get("event")).get("price"))
    yield ("budget",), _mapping(data.get("budget"))
    for index, rule in _rules(data):
        for name in _AMOUNTS:
            yield ("constraints", index, name), _mapping(rule.get(name))


def _rules(data: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    rules = data.get("constraints")
    if isinstance(rules, list):
        for index, rule in enumerate(rules[:200]):
            if isinstance(rule, Mapping):
                yield index, rule


def _currency_errors(data: Mapping[str, Any], rates: Rates) -> Iterator[Found]:
    for path, amount in _money_places(data):
        currency = amount.get("currency")
        if not isinstance(currency, str) or len(currency) != 3 or currency in {"JPY", *rates.to_jpy}:
            continue
        known = ", ".join(sorted({"JPY", *rates.to_jpy}))
        yield ((*path, "currency"), "unknown_currency", f"{currency} の為替レートがありません。使える通貨: {known}",
               f"there is no exchange rate for {currency}; known are {known}")  # fmt: skip


def _base_amount(value: object, rates: Rates) -> float | None:
    amount = _mapping(value)
    try:
        number = float(Decimal(str(amount.get("amount"))[:60]))
        if not 0 <= number <= 1e12:  # the schema complains, also of what is no number
            return None
        return rates.convert(number, str(amount.get("currency", "JPY")), rates.base)
    except (InvalidOperation, InputError, ValueError, OverflowError):
        return None


def _constraint_errors(data: Mapping[str, Any], catalogue: Catalogue, rates: Rates) -> Iterator[Found]:
    seen: dict[str, int] = {}
    locked = 0.0
    for index, rule in _rules(data):
        name = rule.get("tactic")
        if not isinstance(name, str) or not 0 < len(name) <= 60:
            continue
        path: Path = ("constraints", index, "tactic")
        tactic_id = catalogue.match(name)
        if tactic_id is None:
            near = catalogue.suggest(name)
            hint_ja = f"もしかして: {', '.join(near)}" if near else "施策の一覧は GET /v1/tactics で見られます"
            hint_en = f"did you mean {' or '.join(near)}?" if near else "GET /v1/tactics lists them"
            yield (path, "unknown_tactic", f"{shown(name)} という施策はありません。{hint_ja}",
                   f"there is no tactic {shown(name)}; {hint_en}")  # fmt: skip
            continue
        if tactic_id in seen:
            yield (path, "two_rules",
                   f"施策 {tactic_id} の条件は {seen[tactic_id]} 番目にもあります。一つにまとめてください",
                   f"rule {seen[tactic_id]} names the tactic {tactic_id} too; merge them")  # fmt: skip
        seen.setdefault(tactic_id, index)
        amounts = {n: _base_amount(rule[n], rates) for n in _AMOUNTS if rule.get(n) is not None}
        if not catalogue.get(tactic_id).is_paid and any(amounts.values()):
            given = ", ".join(amounts)
            yield (("constraints", index), "free_tactic", f"{tactic_id} は無料の施策なので {given} は指定できません",
                   f"{tactic_id} is a free tactic, so {given} has no meaning")  # fmt: skip
        low, high = amounts.get("minimum"), amounts.get("maximum")
        if low is not None and high is not None and low > high and not _same_currency(rule):
            yield (("constraints", index), "minimum_above_maximum", "最小が最大を超えています(為替換算後)",
                   "the minimum is above the maximum once both are in one currency")  # fmt: skip
        locked += amounts.get("lock") or 0.0
    budget = _base_amount(data.get("budget"), rates)
    if budget is not None and locked > budget * (1 + 1e-9):
        sums = f"{rates.money(locked).amount:,} {rates.base}", f"{rates.money(budget).amount:,} {rates.base}"
        yield (("budget", "amount"), "locks_above_budget", f"固定額の合計 {sums[0]} が予算 {sums[1]} を超えています",
               f"the locked amounts add up to {sums[0]}, above the budget of {sums[1]}")  # fmt: skip


def _same_currency(rule: Mapping[str, Any]) -> bool:
    """Whether the schema compares the two amounts already."""
    low, high = _mapping(rule.get("minimum")), _mapping(rule.get("maximum"))
    return bool(low.get("currency", "JPY") == high.get("currency", "JPY"))
