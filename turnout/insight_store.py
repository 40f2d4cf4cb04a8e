"""Insights as stored: add, remove, undo, and the verdicts of the last check.

Rules come from the organiser's sheets (ingestion writes them) and from people (here). Both have one key, made of the
words and the place, so that a rule typed in and the same rule in a sheet are one. A rule that somebody removed stays
removed when its sheet is read again. Every command can be taken back (:func:`undo`), one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import Connection, delete, func, select, text
from sqlalchemy.dialects.postgresql import distinct_on, insert

from turnout.errors import InputError, Problem
from turnout.identity import key_of, normalise_name
from turnout.insight_check import Verdict
from turnout.insights import ALLOWED_IMPACT, DIRECTIONS, LEVELS, METRICS, Insight, readable_impact
from turnout.warehouse.tables import insight, insight_verdict

SOURCE: Final = "manual"
_SAID: Final = ("text", "impact", "confidence", "applies_to", "direction", "metric")
_MOST_TEXT: Final = 1000


def insight_key(words: str, applies_to: Mapping[str, Any]) -> str:
    """The key of a rule, the same as a sheet's row of these words and this place gets."""
    return key_of(normalise_name(words), _plain(applies_to.get("as_written")), prefix="ins_")


def _plain(value: Any) -> str | None:
    return None if value is None else normalise_name(str(value))


def check(rule: Insight) -> list[Problem]:
    """What is wrong with a rule; ``column`` names the field, the message what is allowed."""
    found: list[Problem] = []
    if not rule.text.strip():
        found.append(Problem("missing", "an insight needs a text", column="text"))
    elif len(rule.text) > _MOST_TEXT:
        message = f"{len(rule.text)} characters; at most {_MOST_TEXT} are allowed"
        found.append(Problem("too_long", message, column="text", value=rule.text[:60]))
    if rule.impact and not readable_impact(rule.impact):
        message = f"{rule.impact!r} is no impact; allowed are {ALLOWED_IMPACT}"
        found.append(Problem("not_an_impact", message, column="impact", value=rule.impact))
    for name, allowed in (("confidence", LEVELS), ("direction", DIRECTIONS), ("metric", METRICS)):
        value = getattr(rule, name)
        if value is not None and value not in allowed:
            message = f"{value!r} is no {name}; allowed are {', '.join(allowed)}"
            found.append(Problem("not_a_choice", message, column=name, value=str(value)))
    return found


@dataclass(frozen=True, slots=True)
class Change:
    """What a command changed; the ids of the rules."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, list[str]]:
        return asdict(self)


def save(
    connection: Connection, organisation: str, rules: Iterable[Insight], *, time_zone: str = "UTC", file: str = ""
) -> Change:
    """Store rules; one that is there gets the new impact and confidence, one that says the same stays untouched.

    Args:
        file: name of the file they were read from; empty: typed in.

    Raises:
        InputError: a rule is wrong (:func:`check`). Nothing is stored then.
    """
    rules = list(rules)
    if problems := [p for rule in rules for p in check(rule)]:
        raise InputError(problems)
    _lock(connection, organisation)
    there = _rows(connection, organisation)
    change, outcome = uuid4(), Change()
    for rule in rules:
        key = insight_key(rule.text, rule.applies_to)
        said = {name: getattr(rule, name) for name in _SAID} | {"applies_to": dict(rule.applies_to)}
        old = there.get(key)
        if old is not None and not old["is_removed"] and all(old[n] == said[n] for n in _SAID):
            outcome.unchanged.append(key)
            continue
        (outcome.added if old is None or old["is_removed"] else outcome.changed).append(key)
        row = {
            "organisation": organisation, "insight_id": key, **said, "source": SOURCE, "account": "",
            "account_time_zone": time_zone, "run_id": change, "file_id": file or None, "is_removed": False,
        }  # fmt: skip
        _write(connection, row, change, old)
        there[key] = {**(old or {}), **row}
    return outcome


def remove(connection: Connection, organisation: str, names: Iterable[str]) -> Change:
    """Take rules out, by id, by their whole text or by words that only one of them has.

    Raises:
        InputError: a name is unknown or fits several rules. Nothing is removed then.
    """
    _lock(connection, organisation)
    there = {k: row for k, row in _rows(connection, organisation).items() if not row["is_removed"]}
    problems: list[Problem] = []
    chosen: dict[str, Mapping[str, Any]] = {}
    for name in names:
        found = _find(there, name)
        if len(found) == 1:
            chosen[found[0]] = there[found[0]]
        elif found:
            problems.append(Problem("ambiguous", f"{name!r} fits several insights: {', '.join(found)}", value=name))
        else:
            message = f"there is no insight {name!r}; `turnout insights list` shows all"
            problems.append(Problem("unknown_insight", message, value=name))
    if problems:
        raise InputError(problems)
    change = uuid4()
    for row in chosen.values():
        _write(connection, {**row, "is_removed": True}, change, row)
    return Change(removed=list(chosen))


def _find(there: Mapping[str, Mapping[str, Any]], name: str) -> list[str]:
    wanted = normalise_name(name)
    same = [k for k, row in there.items() if name == k or normalise_name(row["text"]) == wanted]
    return sorted(same or [k for k, row in there.items() if wanted and wanted in normalise_name(row["text"])])


def undo(connection: Connection, organisation: str) -> Change:
    """Take the last command back: every rule it wrote is again what it was before. May be repeated.

    Raises:
        InputError: there is nothing to take back.
    """
    _lock(connection, organisation)
    here = insight.c.organisation == organisation
    last = connection.execute(
        select(insight.c.change_id).where(here, insight.c.change_id.is_not(None))
        .order_by(insight.c.changed_at.desc()).limit(1)
    ).scalar_one_or_none()  # fmt: skip
    if last is None:
        raise InputError([Problem("nothing_to_undo", "there is no change of insights to take back")])
    outcome = Change()
    for row in connection.execute(select(insight).where(here, insight.c.change_id == last)).mappings().all():
        was = row["previous"]
        connection.execute(delete(insight).where(here, insight.c.insight_id == row["insight_id"]))
        if was is None:
            outcome.removed.append(row["insight_id"])
            continue
        connection.execute(insert(insight), {c.name: _from_json(c.name, was.get(c.name)) for c in insight.columns})
        back = outcome.removed if was["is_removed"] else outcome.added if row["is_removed"] else outcome.changed
        back.append(row["insight_id"])
    return outcome


def read(connection: Connection, organisation: str) -> list[Insight]:
    """The rules that stand, in order of their text."""
    found = [
        Insight(
            insight_id=key, text=row["text"], impact=row["impact"], confidence=row["confidence"],
            applies_to=row["applies_to"], direction=row["direction"], metric=row["metric"], source=row["source"],
        )
        for key, row in _rows(connection, organisation).items()
        if not row["is_removed"]
    ]  # fmt: skip
    return sorted(found, key=lambda i: (i.text, i.insight_id))


# --- verdicts ---------------------------------------------------------------------------------------------------------


def save_verdicts(connection: Connection, organisation: str, as_of: date, verdicts: Sequence[Verdict]) -> int:
    """Store the verdicts of one day's check in place of those that day has. Returns how many."""
    here = (insight_verdict.c.organisation == organisation, insight_verdict.c.as_of == as_of)
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"insight_verdict:{organisation}"}
    )
    connection.execute(delete(insight_verdict).where(*here))
    rows = [
        {
            "organisation": organisation, "insight_id": v.insight_id, "as_of": as_of, "verdict": v.verdict,
            "reason": v.reason, "effect": v.effect, "low": v.low, "high": v.high, "p_value": v.p_value,
            "q_value": v.q_value, "events_with": v.events_with, "events_without": v.events_without,
            "checked": v.checked,
        }
        for v in verdicts
    ]  # fmt: skip
    if rows:
        connection.execute(insert(insight_verdict), rows)
    return len(rows)


def read_verdicts(connection: Connection, organisation: str, *, as_of: date | None = None) -> dict[str, Verdict]:
    """The last verdict on each rule, made with events before ``as_of`` at most."""
    column = insight_verdict.c
    statement = (
        select(insight_verdict).ext(distinct_on(column.insight_id))
        .where(column.organisation == organisation).order_by(column.insight_id, column.as_of.desc())
    )  # fmt: skip
    if as_of is not None:
        statement = statement.where(column.as_of <= as_of)
    return {
        row["insight_id"]: Verdict(**{name: row[name] for name in Verdict.__dataclass_fields__})
        for row in connection.execute(statement).mappings()
    }


# --- rows -------------------------------------------------------------------------------------------------------------


def _lock(connection: Connection, organisation: str) -> None:
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"insight:{organisation}"}
    )


def _rows(connection: Connection, organisation: str) -> dict[str, Mapping[str, Any]]:
    found = connection.execute(select(insight).where(insight.c.organisation == organisation)).mappings()
    return {row["insight_id"]: dict(row) for row in found}


def _write(connection: Connection, row: Mapping[str, Any], change: UUID, previous: Mapping[str, Any] | None) -> None:
    values = {c.name: row[c.name] for c in insight.columns if c.name in row}
    was = None if previous is None else {name: _to_json(value) for name, value in previous.items()}
    now = func.clock_timestamp()
    values |= {"change_id": change, "previous": was, "changed_at": now, "updated_at": now}
    values.setdefault("fetched_at", now)
    statement = insert(insight).values(values)
    keys = ("organisation", "insight_id")
    updated = {name: statement.excluded[name] for name in values if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=updated))


def _to_json(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | str | dict) else str(value)


def _from_json(name: str, value: Any) -> Any:
    """A value of ``previous`` in its column's type."""
    if value is None or isinstance(value, dict | bool):
        return value
    kind = insight.c[name].type.python_type
    if kind is UUID:
        return UUID(value)
    if kind is datetime:
        return datetime.fromisoformat(value)
    return value
