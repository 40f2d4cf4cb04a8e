"""Ties what was loaded to events and tactics: campaigns, registrations, tactic results, mail categories.

Everything is decided anew from what the warehouse holds, so it does not matter which file came first, and running it
again changes nothing. What a user has mapped is a rule (:mod:`ingestion.rules`): rules go before all that is below, and
``campaign.mapped_by`` is then ``user``.

How an event is found in a text (a campaign's name, the event a list names, a mail category)
    1. its code: a word of letters and digits such as ``EV2026-014`` in the event's name or notes, standing in the text
       as a word of its own, and of one event only;
    2. its name, contained in the text when case, width, spaces and punctuation are folded; the longest one wins;
    3. of events of one name, the next one on or after the activity's day.
    Events of the account (inbox folder) the text comes from go before those of other ones. A campaign whose newest name
    says nothing is of the event that its other names agree on.

How a tactic is found
    Of a campaign: by the words in its name, then by its type, then the platform's main tactic. Of a registration: by
    its source label in the catalogue's words; ``direct`` and the like are no tactic. Of mail: a category's words,
    else ``own_email``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import structlog
from sqlalchemy import Connection, Engine

from ingestion.layouts import all_layouts
from ingestion.rules import Decision, Rule, RuleBook, Subject, load_rules
from turnout.warehouse import tables as wh
from turnout.warehouse.load import lock_account

if TYPE_CHECKING:
    from turnout.tactics import Catalogue

log = structlog.get_logger(__name__)

#: The tactic of a platform's campaign whose name and type say nothing more.
MAIN_TACTIC = {"google_ads": "google_search", "meta_ads": "meta_ads", "linkedin_ads": "linkedin_ads"}
MAIL_TACTIC = "own_email"

#: Words for showing ads to visitors again, which every platform offers.
#: What joins the parts of a campaign's name.
_PARTS = re.compile(r"[_|｜/／]+")
_RETARGETING = re.compile(r"re-?targe?t|re-?market|リタゲ|リターゲ|リマケ|リマーケ", re.IGNORECASE)
#: A code has letters and digits: EV2026-014, S24-031, AI0612.
_CODE = re.compile(r"(?<![a-z0-9])(?=[a-z0-9_-]*[0-9])[a-z]{1,12}[-_]?[0-9][a-z0-9]*(?:[-_][a-z0-9]+)*(?![a-z0-9])")
#: The id Luma gives an event; in an event's notes, or in a link there, it ties the event's guest list to it.
_LUMA_ID = re.compile(r"(?<![a-z0-9])evt-[a-z0-9]{6,}(?![a-z0-9])")
_SHORTEST_CODE = 4
_SHORTEST_NAME = 4
#: A registration on the day after the event is late entry of one who came; later ones belong to the next event.
_LATE_DAYS = 1
#: Platforms report a few clicks and corrections for days after a campaign has ended with its event.
_TRAILING_DAYS = 3
#: With no event named at all, a list is of the only event within this time after its last registration.
_NAMELESS_DAYS = 45


@dataclass(frozen=True)
class Links:
    """Rows whose event or tactic changed."""

    campaigns: int = 0
    registrations: int = 0
    tactic_results: int = 0
    mails: int = 0
    unmapped_campaigns: int = 0


def folded(text: str) -> str:
    """Letters and digits only, width and case folded: how names are compared."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum() or c in "ー々")


def codes_in(text: str) -> set[str]:
    """The codes in a text, folded, without their separators."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    found = (re.sub(r"[-_]", "", code) for code in (*_CODE.findall(plain), *_LUMA_ID.findall(plain)))
    return {code for code in found if len(code) >= _SHORTEST_CODE}


def _codes_by_part(text: str) -> set[str]:
    """Codes of a text that joins parts by underscores (``EV2026-014_meta_AI``): the parts' codes too."""
    return codes_in(text) | {code for part in re.split(r"[_|｜/\s]+", text) for code in codes_in(part)}


@dataclass(frozen=True)
class Event:
    event_id: str
    account: str
    day: date
    #: Folded, for comparison; ``title`` is as written.
    name: str
    title: str = ""
    codes: frozenset[str] = frozenset()


def event_days(engine: Engine, organisation: str, account: str) -> Callable[[str], list[date]]:
    """A way to ask on which days the events are that a list calls so, in order; '' stands for the list's folder.

    The warehouse is asked when it is first needed: most tables never do.
    """
    known: list[Events] = []

    def days(label: str) -> list[date]:
        if not known:
            with engine.connect() as connection:
                known.append(Events.load(connection, organisation))
        return [event.day for event in known[0].candidates(label or account, account)]

    return days


@dataclass
class Events:
    """The organisation's events, to be found by code or name."""

    by_code: dict[str, list[Event]] = field(default_factory=dict)
    by_name: dict[str, list[Event]] = field(default_factory=dict)
    every: list[Event] = field(default_factory=list)
    by_id: dict[str, Event] = field(default_factory=dict)
    #: First letters of a name → how long the names are that begin so.
    beginnings: dict[str, set[int]] = field(default_factory=dict)
    _known: dict[tuple[str, str], list[Event]] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, connection: Connection, organisation: str) -> Events:
        found = cls()
        t = wh.event
        query = (
            sa.select(t.c.event_id, t.c.account, t.c.event_date, t.c.name, t.c.notes)
            .where(t.c.organisation == organisation)
            .order_by(t.c.event_date, t.c.event_id)
        )
        for event_id, account, day, name, notes in connection.execute(query):
            codes = codes_in(name) | codes_in(notes or "")
            event = Event(event_id, account, day, folded(name), name, frozenset(codes))
            found.every.append(event)
            found.by_id[event_id] = event
            if len(event.name) >= _SHORTEST_NAME:
                found.by_name.setdefault(event.name, []).append(event)
            for code in codes:
                found.by_code.setdefault(code, []).append(event)
        for name in found.by_name:
            found.beginnings.setdefault(name[:_SHORTEST_NAME], set()).add(len(name))
        return found

    def find(self, text: str, account: str, day: date | None) -> Event | None:
        """The event a text names, for activity on ``day``."""
        candidates = self.candidates(text, account)
        return self.next(candidates, day)

    def find_by_any(self, names: Sequence[str], account: str, day: date | None) -> Event | None:
        """The event the first name says; where it says none, the one that the others agree on."""
        if not names or (found := self.find(names[0], account, day)) is not None or len(names) == 1:
            return found if names else None
        others = {event.event_id: event for name in names[1:] if (event := self.find(name, account, day)) is not None}
        return next(iter(others.values())) if len(others) == 1 else None

    def again(self, rule: Rule) -> str | None:
        """The id of the event a rule means: its own, or after a correction of name or day the nearest of its name."""
        if rule.event_id in self.by_id or rule.event_name is None or rule.event_date is None:
            return rule.event_id if rule.event_id in self.by_id else None
        meant = rule.event_date
        same = [event for event in self.every if event.name == folded(rule.event_name)]
        # The name was corrected: an event of that day and of the code in the old name.
        same = same or [e for e in self.every if e.day == meant and e.codes & codes_in(rule.event_name)]
        return min(same, key=lambda e: (abs(e.day - meant), e.day, e.event_id)).event_id if same else None

    def candidates(self, text: str, account: str) -> list[Event]:
        """The events a text may name: one, or several of one name, in order of their days."""
        known = self._known.get((text, account))
        if known is None:
            known = self._known[text, account] = self._candidates(text, account)
        return known

    def _candidates(self, text: str, account: str) -> list[Event]:
        for code in sorted(_codes_by_part(text), key=lambda c: (-len(c), c)):
            events = self.near(self.by_code.get(code, []), account)
            if len(events) == 1:
                return events
        compact = folded(text)
        names = {
            name
            for at in range(len(compact) - _SHORTEST_NAME + 1)
            for length in self.beginnings.get(compact[at : at + _SHORTEST_NAME], ())
            if (name := compact[at : at + length]) in self.by_name
        }
        # A name inside a longer name that is there too does not count.
        longest = [n for n in names if not any(n != other and n in other for other in names)]
        if len(longest) != 1:
            return []
        return self.near(self.by_name[longest[0]], account)

    @staticmethod
    def near(events: Sequence[Event], account: str) -> list[Event]:
        """Those of the account where there are any, else all."""
        return [e for e in events if e.account == account] or list(events)

    @staticmethod
    def next(events: Sequence[Event], day: date | None) -> Event | None:
        """The first event on or after ``day``, else the last one; without a day only if there is one event."""
        if len(events) <= 1 or day is None:
            return events[0] if len(events) == 1 else None
        later = [e for e in events if e.day >= day]
        return later[0] if later else events[-1]


def link(engine: Engine, organisation: str) -> Links:
    """Tie everything of an organisation to events and tactics, in one transaction.

    Returns:
        How many rows changed.
    """
    with engine.begin() as connection:
        links = link_within(connection, organisation)
    log.info(
        "linked", campaigns=links.campaigns, registrations=links.registrations, results=links.tactic_results,
        mails=links.mails, unmapped_campaigns=links.unmapped_campaigns,
    )  # fmt: skip
    return links


def lock_all(connection: Connection, organisation: str) -> None:
    """Keep loaders and others who tie out until the caller's transaction ends.

    Loaders hold one source's lock; this takes all, in one order, so that nobody writes in between.
    """
    for source in sorted({layout.source for layout in all_layouts()}):
        lock_account(connection, organisation, source, "*")


def link_within(connection: Connection, organisation: str, events: Events | None = None) -> Links:
    """:func:`link` within the caller's transaction, with the organisation's events where they have been read."""
    from turnout.tactics import load_catalogue

    catalogue = load_catalogue()
    lock_all(connection, organisation)
    events = events or Events.load(connection, organisation)
    rules = RuleBook(load_rules(connection, organisation, events.again))
    campaigns, unmapped = _link_campaigns(connection, organisation, events, catalogue, rules)
    return Links(
        campaigns=campaigns,
        registrations=_link_registrations(connection, organisation, events, catalogue, rules),
        tactic_results=_link_results(connection, organisation, events),
        mails=_link_mails(connection, organisation, events, catalogue, rules),
        unmapped_campaigns=unmapped,
    )


@lru_cache(maxsize=65_536)
def campaign_tactic(catalogue: Catalogue, source: str, name: str, kind: str | None) -> str | None:
    """The tactic of a platform's campaign: named by one part of its name, by the whole name, or by its type.

    Parts come first, because the theme of the event is one of them: ``EV-023_GDN_インサイドセールス`` is a display ad.
    """
    if _RETARGETING.search(name):
        return "retargeting"
    main = MAIN_TACTIC.get(source)
    named = {_of_platform(catalogue, part, source) for part in _PARTS.split(name)} - {None}
    # the platform's main tactic is what its bare name stands for, so a part that says more wins
    special = named - {main}
    if len(special) == 1:
        return special.pop()
    return _of_platform(catalogue, name, source) or _of_platform(catalogue, kind, source) or main


def _of_platform(catalogue: Catalogue, text: str | None, source: str) -> str | None:
    """The platform's own tactic that a text names: an ad for a partner's webinar is an ad, no partner's post."""
    tactic = catalogue.match(text, source)
    return tactic if tactic is not None and catalogue.get(tactic).platform == source else None


def _link_campaigns(
    connection: Connection, organisation: str, events: Events, catalogue: Catalogue, rules: RuleBook
) -> tuple[int, int]:
    t = wh.campaign
    others = sa.case((sa.func.cardinality(t.c.names) > 1, t.c.names)).label("names")
    query = (
        sa.select(t.c.source, t.c.account, t.c.campaign_id, t.c.name, others, t.c.campaign_type, t.c.last_seen)
        .where(t.c.organisation == organisation)
        .order_by(t.c.source, t.c.account, t.c.campaign_id)
    )
    campaigns = connection.execute(query).all()
    subjects = [
        Subject(source, account, campaign_id, (name, *[n for n in names or () if n != name]))
        for source, account, campaign_id, name, names, _, _ in campaigns
    ]
    rows, unmapped = [], 0
    for campaign, subject, said in zip(campaigns, subjects, rules.decide(subjects), strict=True):
        if said.event is not None:
            event_id = None if said.event.ignored else said.event.event_id
        else:
            day = campaign.last_seen - timedelta(days=_TRAILING_DAYS) if campaign.last_seen else None
            event = events.find_by_any(subject.names, subject.account, day)
            event_id = event.event_id if event else None
        tactic = decided_tactic(said)
        if said.tactic is None:
            tactic = campaign_tactic(catalogue, subject.source, campaign.name, campaign.campaign_type)
        unmapped += event_id is None and said.event is None
        mapped_by = "user" if said.event or said.tactic else "rule" if event_id or tactic else "unmapped"
        rows.append((subject.source, subject.account, subject.key, event_id, tactic, mapped_by))
    changed = _update(
        connection, organisation, wh.campaign, rows,
        keys=("source", "account", "campaign_id"), values=("event_id", "tactic_id", "mapped_by"),
    )  # fmt: skip
    return changed, unmapped


def decided_tactic(said: Decision) -> str | None:
    """The tactic a rule names; ``None`` where none does, or where one says that there is none."""
    return (said.tactic.tactic_id or None) if said.tactic is not None else None


def _link_registrations(
    connection: Connection, organisation: str, events: Events, catalogue: Catalogue, rules: RuleBook
) -> int:
    t = wh.registration
    lists = connection.execute(
        sa.select(t.c.source, t.c.account, t.c.event_label, sa.func.min(t.c.date), sa.func.max(t.c.date))
        .where(t.c.organisation == organisation)
        .group_by(t.c.source, t.c.account, t.c.event_label)
        .order_by(t.c.source, t.c.account, t.c.event_label)
    ).all()
    spans: list[tuple[Any, ...]] = []
    decisions = rules.decide([Subject(source, account, None, (label,)) for source, account, label, _, _ in lists])
    for (source, account, label, first, last), said in zip(lists, decisions, strict=True):
        if said.event is not None:
            spans.append((source, account, label, first, last, None if said.event.ignored else said.event.event_id))
            continue
        for event_id, begins, ends in _spans(events, label, account, first, last):
            spans.append((source, account, label, begins, ends, event_id))
    changed = _update(
        connection, organisation, t, spans,
        keys=("source", "account", "event_label"), span=True, values=("event_id",),
    )  # fmt: skip
    from turnout.tactics import match_label

    labels = sorted(
        connection.execute(
            sa.select(t.c.source_label)
            .where(t.c.organisation == organisation, t.c.source_label.is_not(None))
            .distinct()
        ).scalars()
    )
    tactics = [
        (label, match_label(label, catalogue) if said.tactic is None else decided_tactic(said))
        for label, said in zip(labels, rules.decide([origin_subject(label) for label in labels]), strict=True)
    ]
    changed += _update(connection, organisation, t, tactics, keys=("source_label",), values=("tactic_id",))
    stale = sa.and_(t.c.organisation == organisation, t.c.source_label.is_(None), t.c.tactic_id.is_not(None))
    return changed + connection.execute(sa.update(t).where(stale).values(tactic_id=None)).rowcount


def origin_subject(label: str) -> Subject:
    """What a registration system says of the origin: rules of any account that name a tactic decide it."""
    return Subject("registrations", "", None, (label,))


def _spans(
    events: Events, label: str, account: str, first: date, last: date
) -> Iterable[tuple[str | None, date, date]]:
    """Which event the registrations of a list belong to, by day."""
    candidates = events.candidates(label, account) if label else []
    if not candidates and (not label or _LUMA_ID.fullmatch(label.casefold())):
        candidates = _nameless(events, account, last)
    if not candidates:
        return [(None, first, last)]
    spans: list[tuple[str | None, date, date]] = []
    begins = first
    for position, event in enumerate(candidates):
        is_last = position == len(candidates) - 1
        ends = last if is_last else min(event.day + timedelta(days=_LATE_DAYS), candidates[position + 1].day)
        if ends >= begins:
            spans.append((event.event_id, begins, min(ends, last)))
            begins = ends + timedelta(days=1)
        if begins > last:
            break
    return spans


def _nameless(events: Events, account: str, last: date) -> list[Event]:
    """The event of a list that names none: its folder's name says it, or there is only one it can be."""
    if account and (named := events.candidates(account, account)):
        return named
    ahead = [
        e for e in events.near(events.every, account)
        if last - timedelta(days=_LATE_DAYS) <= e.day <= last + timedelta(days=_NAMELESS_DAYS)
    ]  # fmt: skip
    return ahead if len(ahead) == 1 else []


def _link_results(connection: Connection, organisation: str, events: Events) -> int:
    """Tie sheet rows to events by name, and by the event's day where the sheet gives it; anew each time."""
    t = wh.tactic_result
    query = (
        sa.select(t.c.result_id, t.c.account, t.c.event_name, t.c.event_date)
        .where(t.c.organisation == organisation)
        .order_by(t.c.result_id)
    )
    rows = []
    for result_id, account, name, day in connection.execute(query):
        candidates = events.candidates(name, account)
        if day is not None:
            candidates = [e for e in candidates if e.day == day]
        rows.append((result_id, candidates[0].event_id if len(candidates) == 1 else None))
    return _update(connection, organisation, t, rows, keys=("result_id",), values=("event_id",))


def _link_mails(
    connection: Connection, organisation: str, events: Events, catalogue: Catalogue, rules: RuleBook
) -> int:
    t = wh.email_performance
    categories = connection.execute(
        sa.select(t.c.source, t.c.account, t.c.category, sa.func.min(t.c.date))
        .where(t.c.organisation == organisation)
        .group_by(t.c.source, t.c.account, t.c.category)
        .order_by(t.c.source, t.c.account, t.c.category)
    ).all()
    with_categories = {(source, account) for source, account, category, _ in categories if category}
    rows = []
    # the account's own sums have no category, so no rule is about them
    subjects = [
        Subject(source, account, None, (category,) if category else ()) for source, account, category, _ in categories
    ]
    for (source, account, category, first), said in zip(categories, rules.decide(subjects), strict=True):
        event = events.find(category, account, first) if category and said.event is None else None
        event_id = event.event_id if event else None
        if said.event is not None:
            event_id = None if said.event.ignored else said.event.event_id
        tactic: str | None
        if said.tactic is not None:
            tactic = decided_tactic(said)
        elif category:
            tactic = _of_platform(catalogue, category, source) or MAIL_TACTIC
        else:
            # The account's own sums hold the categories' mails once more.
            tactic = None if (source, account) in with_categories else MAIL_TACTIC
        rows.append((source, account, category, event_id, tactic))
    return _update(
        connection, organisation, t, rows, keys=("source", "account", "category"), values=("event_id", "tactic_id")
    )


def _update(
    connection: Connection,
    organisation: str,
    table: sa.Table,
    rows: Sequence[tuple[Any, ...]],
    *,
    keys: Sequence[str],
    values: Sequence[str],
    span: bool = False,
    only_unset: str | None = None,
) -> int:
    """Set ``values`` where ``keys`` match (with ``span``: and the date lies between two days). Counts changed rows."""
    if not rows:
        return 0
    names = [*keys, *(("begins", "ends") if span else ()), *(f"new_{v}" for v in values)]
    columns = list(zip(*rows, strict=True))
    arrays = [
        sa.cast(list(column), sa.ARRAY(sa.Date if name in ("begins", "ends") else sa.Text))
        for name, column in zip(names, columns, strict=True)
    ]
    new = sa.func.unnest(*arrays).table_valued(*names, name="link").render_derived()
    condition = [table.c.organisation == organisation, *[table.c[k] == new.c[k] for k in keys]]
    if span:
        condition.append(table.c.date.between(new.c.begins, new.c.ends))
    if only_unset is not None:
        condition.append(table.c[only_unset].is_(None))
    different = sa.or_(*[table.c[v].is_distinct_from(new.c[f"new_{v}"]) for v in values])
    statement = sa.update(table).where(*condition, different).values({v: new.c[f"new_{v}"] for v in values})
    return connection.execute(statement).rowcount
