"""What is tied to which event and tactic, and how a user changes it.

Four sorts of things are tied: **campaigns** of the ad platforms, **mail** categories, **lists** (the event that a
registration list names) and **origins** (what a registration system says of where somebody came from; tied to a tactic
only).

Every change is a rule in table ``mapping_rule`` followed by :func:`ingestion.linking.link` in the same transaction, so
that what a change would do can be shown exactly (``dry_run``), and a removed rule gives back what stood before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Literal

import sqlalchemy as sa
import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.dialects.postgresql import insert as pg_insert

from ingestion.linking import Event, Events, codes_in, folded, link_within, lock_all, origin_subject
from ingestion.rules import (
    KINDS,
    NO_TACTIC,
    Decision,
    Kind,
    Rule,
    RuleBook,
    Subject,
    check_pattern,
    load_rules,
    rule_key,
)
from ingestion.suggestions import Suggester, Suggestion, tactics_like
from turnout.errors import InputError, Problem
from turnout.identity import normalise_name
from turnout.tactics import Catalogue, is_organic, load_catalogue
from turnout.warehouse import tables as wh

log = structlog.get_logger(__name__)

What = Literal["campaign", "mail", "list", "origin"]
#: Sources that a rule may name.
RULE_SOURCES = ("google_ads", "meta_ads", "linkedin_ads", "sendgrid", "registrations")
#: How a user says that something belongs to no tactic, on purpose.
NO_TACTIC_WORDS = ("none", "organic", "なし", "自然流入")

_DAY_AT_END = re.compile(r"^(?P<name>.*?)[\s@(（]*(?P<day>\d{4}-\d{2}-\d{2})[)）]?$")


# --- events and tactics by what people call them ----------------------------------------------------------------------


def find_event(events: Events, text: str) -> Event:
    """The event a user means: by key, code or name, the day behind the name where several share it.

    Raises:
        InputError: ``unknown_event`` with the nearest names, or ``ambiguous_event`` with the days.
    """
    text = text.strip()
    if text in events.by_id:
        return events.by_id[text]
    day: date | None = None
    found = _events_named(events, text)
    if not found and (match := _DAY_AT_END.match(text)):
        try:
            day = date.fromisoformat(match["day"])
        except ValueError:
            day = None
        found = [e for e in _events_named(events, match["name"]) if e.day == day]
    if len(found) == 1:
        return found[0]
    if found:
        days = ", ".join(f"“{event_label(events, e)}”" for e in found[:8])
        message = f"{len(found)} events are called {text!r}; say which: {days}"
        raise InputError([Problem("ambiguous_event", message, column="event", value=text)])
    names = {event.title: event for event in events.every}
    near = get_close_matches(text, names, n=3, cutoff=0.4)
    hint = "; did you mean " + ", ".join(f"“{event_label(events, names[n])}”" for n in near) + "?" if near else ""
    if not events.every:
        hint = "; there are no events yet: hand in the sheet of events first"
    raise InputError([Problem("unknown_event", f"there is no event {text!r}{hint}", column="event", value=text)])


def _events_named(events: Events, text: str) -> list[Event]:
    wanted = folded(text)
    found = [e for e in events.every if e.name == wanted] if wanted else []
    codes = codes_in(text)
    if not found and len(codes) == 1 and wanted == (code := next(iter(codes))):
        found = events.by_code.get(code, [])
    return found


def event_label(events: Events, event: Event) -> str:
    """How an event is written so that :func:`find_event` finds it again: its name, with its day where need be."""
    same = events.by_name.get(event.name) or [e for e in events.every if e.name == event.name]
    alone = len(same) == 1
    return event.title if alone and folded(event.title) else f"{event.title} @ {event.day}"


def find_tactic(text: str) -> str:
    """The id of the tactic a user means; empty for :data:`NO_TACTIC_WORDS`.

    Raises:
        InputError: ``unknown_tactic`` with the nearest ids.
    """
    text = text.strip()
    if text.casefold() in NO_TACTIC_WORDS:
        return NO_TACTIC
    catalogue = load_catalogue()
    if text in catalogue:
        return text
    if (found := catalogue.match(text)) is not None:
        return found
    near = catalogue.suggest(text) or get_close_matches(text.casefold(), catalogue.ids, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(catalogue.ids)}, and none"
    message = f"there is no tactic {text!r}; {hint}"
    raise InputError([Problem("unknown_tactic", message, column="tactic", value=text)])


# --- what there is ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mapped:
    """One thing that is tied, or is not.

    Attributes:
        id: a campaign's id as the platform gives it; else the name.
        other_names: names a campaign had before, or has on other days.
        events: where it belongs to: several events for the list of a series.
        mapped_by: ``rule`` (found by itself), ``user`` or ``unmapped``.
        ignored: belongs to no event, on purpose.
        rule_ids: rules that decide it.
        spend: in the base currency; ``None`` where unknown or not a cost.
        amount: registrations, mails delivered, or a platform's claimed registrations.
        days: days with a row.
    """

    what: What
    source: str
    account: str
    id: str
    name: str
    other_names: tuple[str, ...] = ()
    event_ids: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    tactic_id: str | None = None
    mapped_by: str = "unmapped"
    ignored: bool = False
    rule_ids: tuple[str, ...] = ()
    is_unmapped: bool = False
    spend: Decimal | None = None
    amount: Decimal | None = None
    days: int = 0
    first_seen: date | None = None
    last_seen: date | None = None
    suggestions: tuple[Suggestion, ...] = ()


@dataclass(frozen=True)
class _Thing:
    """A row of one of the four sorts before rules are asked: its subject, figures, and where it belongs now."""

    what: What
    subject: Subject
    id: str
    event_ids: tuple[str | None, ...]
    tactic_id: str | None
    spend: Decimal | None = None
    amount: Decimal | None = None
    days: int = 0
    first: date | None = None
    last: date | None = None


_CAMPAIGNS_ONLY = """
SELECT source, account, campaign_id, name, names, event_id, tactic_id, NULL AS spend, NULL AS claims, 0 AS days,
       first_seen, last_seen
FROM turnout.campaign WHERE organisation = :organisation ORDER BY source, account, campaign_id
"""
_CAMPAIGNS = """
SELECT c.source, c.account, c.campaign_id, c.name, c.names, c.event_id, c.tactic_id, s.spend, s.claims,
       coalesce(s.days, 0) AS days, c.first_seen, c.last_seen
FROM turnout.campaign c
LEFT JOIN (
    SELECT source, account, campaign_id, sum(spend_base) AS spend, sum(registrations_claimed) AS claims,
           count(DISTINCT date) AS days
    FROM turnout.ad_counted WHERE organisation = :organisation GROUP BY 1, 2, 3
) s ON s.source = c.source AND s.account = c.account AND s.campaign_id = c.campaign_id
WHERE c.organisation = :organisation
ORDER BY c.source, c.account, c.campaign_id
"""
_MAILS = """
SELECT source, account, category, array_agg(DISTINCT event_id) AS events, max(tactic_id) AS tactic_id,
       sum(delivered) AS delivered, count(DISTINCT date) AS days, min(date) AS first, max(date) AS last
FROM turnout.email_performance
WHERE organisation = :organisation AND category <> ''
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_LISTS = """
SELECT source, account, event_label, array_agg(DISTINCT event_id) AS events, sum(quantity) AS registrations,
       count(DISTINCT date) AS days, min(date) AS first, max(date) AS last
FROM turnout.registration
WHERE organisation = :organisation
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_ORIGINS = """
SELECT source_label, max(tactic_id) AS tactic_id, sum(quantity) AS registrations, count(DISTINCT date) AS days,
       min(date) AS first, max(date) AS last
FROM turnout.registration
WHERE organisation = :organisation AND btrim(source_label) <> ''
GROUP BY 1 ORDER BY 1
"""


def _things(connection: Connection, organisation: str, *, figures: bool = False) -> list[_Thing]:
    """What can be tied; ``figures`` are what campaigns cost and claim, for which all facts are read."""

    def rows(query: str) -> Iterable[Any]:
        return connection.execute(sa.text(query), {"organisation": organisation})

    found = [
        _Thing(
            "campaign", Subject(r.source, r.account, r.campaign_id, (r.name, *[n for n in r.names if n != r.name])),
            r.campaign_id, (r.event_id,), r.tactic_id, r.spend, r.claims, r.days, r.first_seen, r.last_seen,
        )
        for r in rows(_CAMPAIGNS if figures else _CAMPAIGNS_ONLY)
    ]  # fmt: skip
    found += [
        _Thing(
            "mail", Subject(r.source, r.account, None, (r.category,)), r.category, tuple(r.events), r.tactic_id,
            None, r.delivered, r.days, r.first, r.last,
        )
        for r in rows(_MAILS)
    ]  # fmt: skip
    found += [
        _Thing(
            "list", Subject(r.source, r.account, None, (r.event_label,)), r.event_label, tuple(r.events), None,
            None, r.registrations, r.days, r.first, r.last,
        )
        for r in rows(_LISTS)
    ]  # fmt: skip
    return found + [
        _Thing(
            "origin", origin_subject(r.source_label), r.source_label, (), r.tactic_id,
            None, r.registrations, r.days, r.first, r.last,
        )
        for r in rows(_ORIGINS)
    ]  # fmt: skip


def _is_open(thing: _Thing, said: Decision) -> bool:
    """Whether something is missing that nobody left out on purpose."""
    event_open = None in thing.event_ids and not (said.event is not None and said.event.ignored)
    if thing.what == "origin":
        return thing.tactic_id is None and said.tactic is None and not is_organic(thing.id)
    if thing.what == "campaign":
        left = said.event is not None and said.event.ignored
        return event_open or (thing.tactic_id is None and said.tactic is None and not left)
    return event_open


def list_mapped(
    engine: Engine,
    organisation: str,
    *,
    source: str | None = None,
    unmapped: bool = False,
    suggestions: int = 3,
    suggest_for: int | None = None,
) -> list[Mapped]:
    """Everything that can be tied, the costliest first, then what brought or reached most.

    Args:
        unmapped: only what lacks an event or tactic.
        suggestions: at most so many for each thing that lacks one.
        suggest_for: only for the first so many rows.
    """
    catalogue = load_catalogue()
    with engine.connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ")
        events = Events.load(connection, organisation)
        book = RuleBook(load_rules(connection, organisation, events.again))
        things = [t for t in _things(connection, organisation, figures=True) if source in (None, t.subject.source)]
    result = []
    for thing, said in zip(things, book.decide([t.subject for t in things]), strict=True):
        if (is_open := _is_open(thing, said)) or not unmapped:
            result.append(_mapped(thing, said, events, is_open=is_open))
    result.sort(key=_cost)
    suggester = Suggester(events)
    for number, row in enumerate(result[:suggest_for] if suggestions else ()):
        if row.is_unmapped:
            offered = _suggestions(row, suggester, catalogue, suggestions)
            result[number] = replace(row, suggestions=tuple(offered))
    return result


def _suggestions(row: Mapped, suggester: Suggester, catalogue: Catalogue, count: int) -> Sequence[Suggestion]:
    if row.what == "origin":
        return tactics_like(catalogue, row.id)[:count]
    if row.events and row.what != "list":
        return ()  # only its tactic is open
    return suggester.events((row.name, *row.other_names), row.account, row.first_seen, row.last_seen, count=count)


def _cost(row: Mapped) -> tuple[Any, ...]:
    return (
        row.spend is None, -(row.spend or 0), -(row.amount or 0), -row.days, row.what, row.source, row.account, row.id,
    )  # fmt: skip


def _mapped(thing: _Thing, said: Decision, events: Events, *, is_open: bool) -> Mapped:
    ids = tuple(sorted(i for i in thing.event_ids if i is not None))
    by_user = said.event is not None or said.tactic is not None
    rules = dict.fromkeys(rule.rule_id for rule in (said.event, said.tactic) if rule is not None)
    name, *others = thing.subject.names
    return Mapped(
        thing.what, thing.subject.source, thing.subject.account, thing.id, name, tuple(sorted(others)), ids,
        tuple(event_label(events, events.by_id[i]) if i in events.by_id else i for i in ids), thing.tactic_id,
        "user" if by_user else "rule" if ids or thing.tactic_id else "unmapped",
        said.event is not None and said.event.ignored, tuple(rules), is_open, thing.spend, thing.amount,
        thing.days, thing.first, thing.last,
    )  # fmt: skip


@dataclass(frozen=True)
class RuleUse:
    """A rule and what it does now.

    Attributes:
        event: the event it means, as :func:`find_event` finds it; ``None`` where it names none or it is gone.
        event_gone: the event is no longer there, so the rule leaves it to the others.
        decides: how many things it decides.
    """

    rule: Rule
    event: str | None
    event_gone: bool
    decides: int


def list_rules(engine: Engine, organisation: str) -> list[RuleUse]:
    """The rules in the order in which they are asked."""
    with engine.connect() as connection:
        events = Events.load(connection, organisation)
        written = load_rules(connection, organisation)
        meant = {rule.rule_id: rule for rule in load_rules(connection, organisation, events.again)}
        things = _things(connection, organisation)
    decides: dict[str, int] = {}
    for said in RuleBook(meant.values()).decide([t.subject for t in things]):
        for rule_id in {r.rule_id for r in (said.event, said.tactic) if r is not None}:
            decides[rule_id] = decides.get(rule_id, 0) + 1
    result = []
    for rule in written:
        event = events.by_id.get(meant[rule.rule_id].event_id or "")
        result.append(
            RuleUse(
                rule, event_label(events, event) if event else None, rule.event_id is not None and event is None,
                decides.get(rule.rule_id, 0),
            )
        )  # fmt: skip
    return result


# --- changes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """One thing that belongs elsewhere after an edit; events as :func:`find_event` finds them."""

    what: What
    source: str
    account: str
    id: str
    name: str
    events_before: tuple[str, ...]
    events_after: tuple[str, ...]
    tactic_before: str | None
    tactic_after: str | None


@dataclass(frozen=True)
class Edit:
    """What an edit did, or with ``dry_run`` would have done."""

    dry_run: bool
    rules: tuple[Rule, ...] = ()
    removed: tuple[Rule, ...] = ()
    changes: tuple[Change, ...] = ()


@dataclass
class _Written:
    rules: list[Rule] = field(default_factory=list)
    removed: list[Rule] = field(default_factory=list)


_State = tuple[tuple[str, ...], str | None]
_STATES = """
SELECT 'campaign' AS what, source, account, campaign_id AS id, name, ARRAY[event_id] AS events, tactic_id
FROM turnout.campaign WHERE organisation = :organisation
UNION ALL
SELECT 'mail', source, account, category, category, array_agg(DISTINCT event_id), max(tactic_id)
FROM turnout.email_performance WHERE organisation = :organisation AND category <> '' GROUP BY 2, 3, 4
UNION ALL
SELECT 'list', source, account, event_label, event_label, array_agg(DISTINCT event_id), NULL
FROM turnout.registration WHERE organisation = :organisation GROUP BY 2, 3, 4
UNION ALL
SELECT 'origin', 'registrations', '', source_label, source_label, '{}', max(tactic_id)
FROM turnout.registration WHERE organisation = :organisation AND btrim(source_label) <> '' GROUP BY 4
"""


def _states(connection: Connection, organisation: str) -> dict[tuple[Any, ...], _State]:
    """(what, source, account, id, name) → (events, tactic), as the warehouse has it."""
    rows = connection.execute(sa.text(_STATES), {"organisation": organisation})
    return {
        (r.what, r.source, r.account, r.id, r.name): (tuple(sorted(e for e in r.events if e)), r.tactic_id)
        for r in rows
    }


def _changes(
    events: Events, before: Mapping[tuple[Any, ...], _State], after: Mapping[tuple[Any, ...], _State]
) -> tuple[Change, ...]:
    def shown(ids: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(event_label(events, events.by_id[i]) if i in events.by_id else i for i in ids)

    changes = []
    for key, (ids, tactic) in after.items():
        if key in before and before[key] != (ids, tactic):
            what, source, account, name_id, name = key
            before_ids, before_tactic = before[key]
            changes.append(
                Change(what, source, account, name_id, name, shown(before_ids), shown(ids), before_tactic, tactic)
            )
    return tuple(changes)


def edit(
    engine: Engine,
    organisation: str,
    write: Callable[[Connection, Events], tuple[Iterable[Rule], Iterable[Rule]]],
    *,
    dry_run: bool = False,
) -> Edit:
    """Run ``write`` (which returns rules written and removed), tie everything anew, and say what changed by it.

    One transaction, with loaders kept out; ``dry_run`` takes it back at the end.
    """
    with engine.connect() as connection, connection.begin() as transaction:
        lock_all(connection, organisation)
        events = Events.load(connection, organisation)
        link_within(connection, organisation, events)  # so that what changes below is this edit's doing
        before = _states(connection, organisation)
        rules, removed = write(connection, events)
        link_within(connection, organisation, events)
        after = _states(connection, organisation)
        if dry_run:
            transaction.rollback()

    changes = _changes(events, before, after)
    done = Edit(dry_run, tuple(rules), tuple(removed), changes)
    log.info(
        "mapping edited", rules=len(done.rules), removed=len(done.removed), changes=len(changes), dry_run=dry_run
    )  # fmt: skip
    return done


def apply(engine: Engine, organisation: str, *, dry_run: bool = False) -> tuple[Change, ...]:
    """Tie everything anew by the rules there are; what changed is what an earlier load had not seen."""
    with engine.connect() as connection, connection.begin() as transaction:
        lock_all(connection, organisation)
        before = _states(connection, organisation)
        link_within(connection, organisation)
        after = _states(connection, organisation)
        events = Events.load(connection, organisation)
        if dry_run:
            transaction.rollback()

    return _changes(events, before, after)


def save(connection: Connection, organisation: str, rule: Rule) -> None:
    """Write a rule, or replace the one of its source, account, kind and pattern."""
    t = wh.mapping_rule
    values = {
        c.name: getattr(rule, c.name) for c in t.c if c.name not in ("organisation", "created_at")
    } | {"organisation": organisation}  # fmt: skip
    statement = pg_insert(t).values(values)
    changing = {n: statement.excluded[n] for n in values if n not in ("organisation", "rule_id")}
    connection.execute(statement.on_conflict_do_update(index_elements=["organisation", "rule_id"], set_=changing))


def make_rule(
    events: Events,
    *,
    kind: str,
    pattern: str,
    source: str = "",
    account: str = "",
    position: int = 0,
    event: str | None = None,
    tactic: str | None = None,
    ignore: bool = False,
    note: str | None = None,
) -> Rule:
    """A rule from what a user wrote.

    Raises:
        InputError: every problem at once; ``column`` names the part.
    """
    problems: list[Problem] = []

    def tried(part: Callable[[], Any]) -> Any:
        try:
            return part()
        except InputError as error:
            problems.extend(error.problems)
            return None

    if source and source not in RULE_SOURCES:
        near = get_close_matches(source, RULE_SOURCES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        message = f"{source!r} is no source; allowed are {', '.join(RULE_SOURCES)}{hint}"
        problems.append(Problem("unknown_source", message, column="source", value=source))
    nameless = kind == "exact" and source == "registrations" and account and not pattern.strip()
    if not nameless:
        tried(lambda: check_pattern(kind, pattern, narrowed=bool(source or account)))
    found: Event | None = tried(lambda: find_event(events, event)) if event else None
    tactic_id = tried(lambda: find_tactic(tactic)) if tactic else None
    if ignore and event:
        message = "a rule cannot name an event and say that there is none"
        problems.append(Problem("contradiction", message, column="ignore"))
    if not ignore and not event and not tactic:
        problems.append(
            Problem("says_nothing", "the rule names neither event nor tactic; add one, or ignore", column="event")
        )
    if problems:
        raise InputError(problems)
    checked: Kind = kind  # type: ignore[assignment]
    return Rule(
        rule_key(source, account, kind, pattern), source, account, checked, pattern, position,
        found.event_id if found else None, found.title if found else None, found.day if found else None,
        tactic_id, ignore, note,
    )  # fmt: skip


def add_rule(engine: Engine, organisation: str, *, dry_run: bool = False, **parts: Any) -> Edit:
    """Write a rule made of :func:`make_rule`'s arguments and tie everything anew.

    Raises:
        InputError: the rule cannot be made.
    """

    def write(connection: Connection, events: Events) -> tuple[list[Rule], list[Rule]]:
        rule = make_rule(events, **parts)
        save(connection, organisation, rule)
        return [rule], []

    return edit(engine, organisation, write, dry_run=dry_run)


def remove_rules(engine: Engine, organisation: str, names: Sequence[str], *, dry_run: bool = False) -> Edit:
    """Remove rules, given by id (or its beginning) or by pattern; what stood before them stands again.

    Raises:
        InputError: ``unknown_rule`` or ``ambiguous_rule``; nothing is removed then.
    """

    def write(connection: Connection, events: Events) -> tuple[list[Rule], list[Rule]]:
        rules = load_rules(connection, organisation)
        removed: dict[str, Rule] = {}
        problems: list[Problem] = []
        for name in names:
            found = [r for r in rules if r.rule_id == name]
            found = found or [r for r in rules if r.pattern == name]
            found = found or [r for r in rules if len(name) >= 4 and r.rule_id.startswith(name)]
            if len(found) == 1:
                removed[found[0].rule_id] = found[0]
            elif found:
                ids = ", ".join(r.rule_id for r in found)
                problems.append(Problem("ambiguous_rule", f"{name!r} is several rules: {ids}", value=name))
            else:
                near = get_close_matches(name, [t for r in rules for t in (r.rule_id, r.pattern)], n=2)
                hint = f"; did you mean {' or '.join(near)}?" if near else "; `turnout map rule list` shows them"
                problems.append(Problem("unknown_rule", f"there is no rule {name!r}{hint}", value=name))
        if problems:
            raise InputError(problems)
        delete(connection, organisation, removed)
        return [], list(removed.values())

    return edit(engine, organisation, write, dry_run=dry_run)


def delete(connection: Connection, organisation: str, rule_ids: Iterable[str]) -> None:
    """Delete rules within the caller's transaction."""
    t = wh.mapping_rule
    connection.execute(sa.delete(t).where(t.c.organisation == organisation, t.c.rule_id.in_(sorted(rule_ids))))


# --- one thing --------------------------------------------------------------------------------------------------------


def set_mapping(
    engine: Engine,
    organisation: str,
    name: str,
    *,
    event: str | None = None,
    tactic: str | None = None,
    ignore: bool = False,
    source: str | None = None,
    account: str | None = None,
    note: str | None = None,
    dry_run: bool = False,
) -> Edit:
    """Tie one thing by a rule of its own.

    A campaign's rule is of its id, so it holds whatever the campaign is called later. What is not given stays as an
    earlier rule of the thing has it.

    Args:
        name: a campaign's id or name, a mail category, the event a list names, or an origin.
        source, account: where several things are called so.

    Raises:
        InputError: ``unknown_name`` with near ones, ``ambiguous_name`` with all, or what :func:`make_rule` refuses.
    """

    def write(connection: Connection, events: Events) -> tuple[list[Rule], list[Rule]]:
        things = _things(connection, organisation)
        thing = _named(things, name, source, account, tactic_only=bool(tactic) and not (event or ignore))
        known = {rule.rule_id: rule for rule in load_rules(connection, organisation)}
        rule = _merged(thing, known, events, event=event, tactic=tactic, ignore=ignore, note=note)
        save(connection, organisation, rule)
        return [rule], []

    return edit(engine, organisation, write, dry_run=dry_run)


def set_things(
    engine: Engine, organisation: str, chosen: Iterable[tuple[Mapped, Mapping[str, Any]]], *, dry_run: bool = False
) -> Edit:
    """Tie several things of :func:`list_mapped` at once, each with ``event``, ``tactic`` and ``ignore`` of its own.

    Raises:
        InputError: what :func:`make_rule` refuses of any of them; nothing is written then.
    """

    def write(connection: Connection, events: Events) -> tuple[list[Rule], list[Rule]]:
        known = {rule.rule_id: rule for rule in load_rules(connection, organisation)}
        made = [_merged(thing, known, events, **parts) for thing, parts in chosen]
        for rule in made:
            save(connection, organisation, rule)
        return made, []

    return edit(engine, organisation, write, dry_run=dry_run)


def _merged(
    thing: _Thing | Mapped,
    known: Mapping[str, Rule],
    events: Events,
    *,
    event: str | None = None,
    tactic: str | None = None,
    ignore: bool = False,
    note: str | None = None,
) -> Rule:
    rule = make_rule(events, **rule_parts(thing), event=event, tactic=tactic, ignore=ignore, note=note)
    before = known.get(rule.rule_id)
    if before is None:
        return rule
    if not rule.decides_event:
        kept = {n: getattr(before, n) for n in ("event_id", "event_name", "event_date", "ignored")}
        rule = replace(rule, **kept)
    return replace(
        rule,
        tactic_id=before.tactic_id if rule.tactic_id is None else rule.tactic_id,
        position=before.position,
        note=before.note if rule.note is None else rule.note,
    )


def rule_parts(thing: _Thing | Mapped) -> dict[str, Any]:
    """Source, account, kind and pattern of the rule that is about this thing alone."""
    place = thing.subject if isinstance(thing, _Thing) else thing
    kind = "id" if thing.what == "campaign" else "exact"
    return {"source": place.source, "account": place.account, "kind": kind, "pattern": thing.id}


def _named(
    things: Sequence[_Thing], name: str, source: str | None, account: str | None, *, tactic_only: bool
) -> _Thing:
    """The one thing a user means by ``name``."""
    within = [
        t for t in things
        if source in (None, t.subject.source) and (account in (None, t.subject.account) or t.what == "origin")
    ]  # fmt: skip
    # An event ties lists, a tactic origins, and one of each may be called the same.
    within = [t for t in within if t.what != ("list" if tactic_only else "origin")]
    wanted = normalise_name(name)
    found = [t for t in within if t.id == name and t.what == "campaign"]
    found = found or [t for t in within if normalise_name(t.subject.names[0]) == wanted]
    found = found or [t for t in within if any(normalise_name(n) == wanted for n in t.subject.names)]
    if len(found) == 1:
        return found[0]
    if found:
        places = "; ".join(
            f"{t.what} {t.id} of {t.subject.source}, account {t.subject.account or '(none)'}" for t in found[:8]
        )
        message = f"{len(found)} things are called {name!r}: {places}. Give the id, --source or --account"
        raise InputError([Problem("ambiguous_name", message, value=name)])
    near = get_close_matches(wanted, {normalise_name(n): n for t in within for n in t.subject.names}, n=3, cutoff=0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else "; `turnout map list` shows what there is"
    where = "".join(f" of {part}" for part in (source, account) if part)
    message = f"no campaign, mail category, list or origin{where} is called {name!r}{hint}"
    raise InputError([Problem("unknown_name", message, value=name)])


__all__ = [
    "KINDS", "Change", "Edit", "Mapped", "RuleUse", "add_rule", "apply", "edit", "event_label", "find_event",
    "find_tactic", "list_mapped", "list_rules", "make_rule", "remove_rules", "set_mapping",
    "set_things",
]  # fmt: skip
