"""Registrations: the lists of connpass, Peatix, Doorkeeper, Eventbrite and Luma, and any other list or daily counts.

The day of a registration is its day in the installation's time zone; times without an offset are in the zone the list
states, else in the platform's. Personal columns are dropped as a row is read; an e-mail address, else an id, becomes a
salted hash. Columns no layout knows are never read, for the answers to a form's questions may hold anything.

What is a registration
    Every row that says confirmed, cancelled or on the waiting list. Rows of people who were only invited, or broke off,
    of staff and speakers (by the ticket's name), and test orders are counted as rows without data and named in a
    warning. Free, paid and complimentary tickets all count.

When somebody came
    Lists say who was checked in; that nobody stands in for "absent" is a guess this module makes only where it is safe.
    Where nobody, or next to nobody, of a kind of ticket was checked in, or the event lies ahead, attendance was not
    recorded: unknown. Else those not checked in stayed away. Marks like × that somebody made by hand are believed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from ingestion.headers import Synonyms
from ingestion.layouts import (
    Context,
    Layout,
    Match,
    Parser,
    is_blank,
    is_empty,
    is_total_word,
    learn,
    problem_of,
    too_wide,
)
from ingestion.personal import scrub
from ingestion.reading import Column, RawTable, Row, known_zones
from ingestion.records import Blank, Outcome, Record, Rejected, Total, Uncounted
from ingestion.registration_dates import OddDay, odd_days, year_back
from ingestion.registration_words import ALLOWED, Words, load_words
from ingestion.values import (
    FIRST_DAY,
    Cell,
    CellError,
    DateOrder,
    has_time,
    parse_count,
    parse_date,
    parse_text,
    parse_timestamp,
    shown,
)
from turnout.errors import Problem
from turnout.identity import hashed_identity
from turnout.tactics import is_organic, match_label, utm_label
from turnout.tactics.utm import parameters_of

#: Fewer check-ins among a kind of ticket than this are chance (an online ticket nobody scans), not a record of
#: attendance: then those not checked in cannot be called absent.
RECORDED_FROM = 0.05
#: Of so few people nobody may come by chance, so a small kind of ticket follows the whole list: at a show-up of one
#: half, five people all stay away once in 32 events.
FEW_PEOPLE = 5
#: An answer to "how did you hear of us" given so often is one to choose from, not words of somebody's own.
COMMON_ANSWER = 3
#: Rows with a doubtful date that are named one by one.
NAMED_ROWS = 10
#: A platform's list is told by headers that no other list has, whatever else a table holds.
_SIGNATURE_BONUS = 50.0

#: Questions of registration forms about where somebody heard of the event.
_HEARD = re.compile(
    r"どこ(?:で|から|を通じて).{0,20}知|(?:何|なに)(?:で|から|を見て).{0,20}知|知った(?:きっかけ|経緯|場所|方法)|"
    r"(?:参加|申込|申し込み|お申込み?)の?(?:きっかけ|経緯)|認知(?:経路|媒体|のきっかけ)|きっかけ(?:は|を)|"
    r"how (?:did|do|have) you (?:hear|heard|learn|find|found|know|come)|where did you (?:hear|find|learn|see)|"
    r"how you (?:heard|found)|heard about (?:this|us|the)|"
    r"c[oó]mo (?:se enter|te enter|supo|supiste|nos conoc)|d[oó]nde (?:se enter|supo)|"
    r"como (?:ficou sabendo|soube|conheceu)|onde (?:ficou sabendo|soube)|"
    r"wie (?:haben sie|hast du|sind sie|bist du).{0,30}(?:erfahren|aufmerksam|gehört)|woher (?:kennen|wissen)|"
    r"comment avez[- ]vous (?:connu|entendu|d[eé]couvert)|par quel (?:moyen|biais)",
    re.IGNORECASE,
)

#: 山田さんの紹介, Ms. Smith told me: of such a label only the tactic is kept.
_PERSON = re.compile(r"\S(?:さん|さま|様|氏|先生|殿|くん|君|ちゃん)|\b(?:Mr|Mrs|Ms|Dr|Prof)\b\.?\s", re.IGNORECASE)
_HOST = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}", re.IGNORECASE)
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)")
_LUMA_EVENT = re.compile(r"\b(evt-[A-Za-z0-9]{6,})\b")
#: What may be shown of a cell that should be a date and is none. Anything else may be somebody's name.
_DATE_LIKE = re.compile(
    r"(?=.*\d)(?!\d{9})(?:[\d\s/.:,'’()（）+\-–年月日時分秒TZ]|[月火水木金土日]曜?日?|令和|平成|"
    r"[ap]\.?m\.?|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6}\.?)+",
    re.IGNORECASE,
)
#: Instead of a person, connpass writes this for everybody who has left it.
_NOBODY = frozenset(("", "-", "--", "(退会ユーザー)", "(退会したユーザー)", "n/a", "none", "info requested"))

_TEXTS = (
    "ticket_type", "source", "utm_source", "utm_medium", "utm_campaign", "referrer", "heard", "event", "event_code",
    "order_kind",
)  # fmt: skip
#: Labels that a quarantine may hold.
_SHOWN = frozenset(("ticket_type", "source", "utm_source", "utm_medium", "utm_campaign", "event", "event_code"))


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def parse_status(cell: Cell) -> tuple[str, bool | None] | None:
    """A status in the words shipped with Turnout; see :meth:`ingestion.registration_words.Words.status`."""
    return load_words().status(cell)


def parse_attended(cell: Cell) -> bool | None:
    """Whether somebody came; see :meth:`ingestion.registration_words.Words.attended`."""
    return load_words().attended(cell)


@dataclass
class _Tally:
    """People by what the list says of their coming; confirmed registrations only."""

    people: int = 0
    came: int = 0
    absent: int = 0

    @property
    def unsaid(self) -> int:
        return self.people - self.came - self.absent

    @property
    def recorded(self) -> bool:
        """Whether enough were checked in for the rest to have stayed away."""
        return self.came > 0 and self.came >= RECORDED_FROM * self.people


@dataclass
class _Facts:
    """What a look at all rows settles before any of them is made a record."""

    whole: _Tally = field(default_factory=_Tally)
    tickets: dict[str | None, _Tally] = field(default_factory=dict)
    #: (order, ticket) → rows; → the one quantity in all of them, else None
    order_rows: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    order_quantity: dict[tuple[str, str | None], int | None] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    days: dict[str, Counter[date]] = field(default_factory=dict)
    #: (field, text) of rows that can be used: known to be labels, not somebody's name in a wrong column
    labels: set[tuple[str, str]] = field(default_factory=set)

    def recorded(self, ticket: str | None) -> bool:
        """Whether attendance of a kind of ticket was recorded."""
        tally = self.tickets.get(ticket, self.whole)
        return tally.recorded or (tally.people < FEW_PEOPLE and self.whole.recorded)

    @property
    def marked(self) -> bool:
        """Whether somebody wrote down who stayed away: some are said to be absent, and not simply all."""
        return self.whole.absent > 0 and self.whole.absent < self.whole.people


@dataclass
class _Reading:
    """What is the same for every row of a table, and what its end has to say."""

    table: RawTable
    fields: Mapping[str, Column]
    parsers: dict[str, Parser]
    moments: Callable[[str | None], Parser]
    context: Context
    words: Words
    today: date
    #: The state a sheet's name gives to rows without one.
    sheet_state: tuple[str, bool | None] | None
    facts: _Facts = field(default_factory=_Facts)
    odd: dict[str, dict[date, OddDay]] = field(default_factory=dict)
    uncounted: Counter[tuple[str, str]] = field(default_factory=Counter)
    odd_rows: list[str] = field(default_factory=list)
    odd_count: int = 0
    ahead: set[date] = field(default_factory=set)
    people: Counter[tuple[str, int]] = field(default_factory=Counter)
    known_events: dict[str, Sequence[date]] = field(default_factory=dict)
    twice: int = 0
    dropped_answers: int = 0
    shared_orders: int = 0
    named: bool = False
    seats: Counter[tuple[str, str | None]] = field(default_factory=Counter)

    @cached_property
    def cells(self) -> tuple[tuple[str, int, Parser], ...]:
        """Field, position and parser of every column that is read."""
        return tuple((name, self.fields[name].index, parser) for name, parser in self.parsers.items())

    def column(self, name: str, row: Row) -> Cell:
        """A raw cell, ``None`` where there is no such column or cell."""
        column = self.fields.get(name)
        return row.cells[column.index] if column is not None and column.index < len(row.cells) else None

    def events(self, label: str) -> Sequence[date]:
        """Days of the events the label may name, as far as the warehouse knows them."""
        if self.context.event_days is None:
            return ()
        found = self.known_events.get(label)
        if found is None:
            found = self.known_events[label] = self.context.event_days(label)
        return found


class Registrations(Layout):
    """A list of registrations, or counts by day.

    Attributes:
        signature: sets of fields of which one must be there in full; none for the generic list.
        platform: of ids, so that a user called ``taro`` here is nobody on another platform.
        zones: language of the headers → zone of times without an offset; ``""`` for any.
        machine_made: the list writes "not checked in" for everybody until they are, so this says nothing by itself.
        codes: states by number, where the platform writes these.
    """

    name = "registrations.list"
    source = "registrations"
    table = "registration"
    family = "registrations"
    required: tuple[str, ...] = ("registered_at",)
    private = (
        "email", "buyer_email", "registrant_id", "order_id", "attendee_id", "guest_id", "ticket_number", "check_in_url",
        "heard", "referrer", "account_name", "attendee_name", "display_name", "first_name", "last_name", "eth_address",
        "solana_address",
    )  # fmt: skip
    date_hints: Mapping[str, DateOrder] = {}

    #: One of these beside a date makes a table a list of registrations.
    evidence = ("status", "ticket_type", "quantity", "email", "registrant_id", "attended")

    signature: tuple[frozenset[str], ...] = ()
    platform = ""
    zones: Mapping[str, str] = {}
    machine_made = False
    codes: Mapping[str, str] = {}

    # --- recognising -------------------------------------------------------------------------------------------------

    def recognise(self, table: RawTable, synonyms: Synonyms | None = None) -> Match | None:
        match = super().recognise(table, synonyms)
        if match is None:
            return None
        if self.signature:
            if match.missing or not any(fields <= match.fields.keys() for fields in self.signature):
                return None
            match = replace(match, score=match.score + _SIGNATURE_BONUS)
        elif not any(f in match.fields for f in self.evidence):
            return None
        return self._with_question(table, match)

    @staticmethod
    def _with_question(table: RawTable, match: Match) -> Match:
        """Add the form's question about where somebody heard of the event, if there is one.

        A list's only origin may be such a question: what people wrote there is no label of a system.
        """
        origin = match.fields.get("source")
        if origin is not None and "heard" not in match.fields and _HEARD.search(origin.name):
            others = {name: column for name, column in match.fields.items() if name != "source"}
            return replace(match, fields={**others, "heard": origin})
        taken = {column.index for column in match.fields.values()}
        question = next((c for c in table.columns if c.index not in taken and _HEARD.search(c.name)), None)
        return match if question is None else replace(match, fields={**match.fields, "heard": question})

    def time_zone(self, table: RawTable, context: Context) -> str:
        return context.settings.time_zone

    def naive_zone(self, table: RawTable, context: Context) -> ZoneInfo:
        """The zone of times without an offset: what the list states, else the platform's, else the installation's."""
        known = table.stated.time_zone or self.zones.get(table.language or "") or self.zones.get("")
        return _zone(known) if known else context.settings.zone

    def parsers(self, table: RawTable, fields: Mapping[str, Column], context: Context) -> Mapping[str, Parser]:
        reading = self._reading(table, fields, context)
        return {**reading.parsers, "registered_at": reading.moments(None)}

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, table: RawTable, context: Context) -> Iterator[Outcome]:
        match = self.recognise(table, context.synonyms)
        assert match is not None, "read is called on a table that recognise accepted"
        reading = self._reading(table, match.fields, context)
        context.is_part = reading.sheet_state is not None
        self._look(reading)
        for row in table.rows():
            yield self._row(row, reading)
        self._conclude(reading)

    def _reading(self, table: RawTable, fields: Mapping[str, Column], context: Context) -> _Reading:
        dates = {name: fields[name] for name in ("registered_at", "event_day") if name in fields}
        known = learn(table, dates=dates, numbers={}, hint=self.date_hints.get(table.language or ""))
        words = load_words(context.settings.home_path)
        order, home, naive = known.order["registered_at"], context.settings.zone, self.naive_zone(table, context)
        today = context.today or datetime.now(home).date()
        last_plausible = datetime.combine(today + timedelta(days=1), time(), UTC)

        @lru_cache(maxsize=64)
        def moments(zone_name: str | None) -> Parser:
            zone = naive if zone_name is None else _zone(zone_name)

            def moment(cell: Cell) -> tuple[date, datetime | None] | None:
                if (known := _iso(cell, last_plausible)) is not None:
                    return known.astimezone(home).date(), known
                if has_time(cell, order=order):
                    at = parse_timestamp(cell, zone=zone, order=order, today=context.today)
                    return None if at is None else (at.astimezone(home).date(), at)
                day = parse_date(cell, order=order, zone=home, today=context.today)
                return None if day is None else (day, None)

            return Parser(moment)

        def event_day(cell: Cell) -> date | None:
            try:
                return parse_date(cell, order=known.order.get("event_day"), zone=home, today=context.today)
            except CellError:
                return None  # only a help; "20–22 June" is no reason to refuse a registration

        def zone(cell: Cell) -> str | None:
            text = parse_text(cell)
            return text if text in known_zones() else None

        def state(cell: Cell) -> tuple[str, bool | None] | None:
            text = "" if cell is None else str(cell).strip()
            return (self.codes[text], None) if text in self.codes else words.status(cell)

        every: dict[str, Callable[[Cell], Any]] = {
            "status": state,
            "order_status": state,
            "quantity": lambda c: parse_count(c, what="the number of registrations"),
            "attended": words.attended,
            "checked_in_at": words.attended,
            "event_day": event_day,
            "time_zone": zone,
            "check_in_url": _luma_event,
            **dict.fromkeys(_TEXTS, parse_text),
        }
        parsers = {name: Parser(parse) for name, parse in every.items() if name in fields}
        return _Reading(table, fields, parsers, moments, context, words, today, self._sheet_state(table, fields, words))

    @staticmethod
    def _sheet_state(table: RawTable, fields: Mapping[str, Column], words: Words) -> tuple[str, bool | None] | None:
        """What a sheet's name says of its rows where no column does: 参加者, キャンセル待ち, Cancelled."""
        if table.sheet is None or "status" in fields or "order_status" in fields:
            return None
        try:
            return words.status(table.sheet)
        except CellError:
            return None

    def _values(self, row: Row, reading: _Reading) -> dict[str, Any]:
        """Every known cell of a row parsed; a :class:`CellError` where it cannot be."""
        values: dict[str, Any] = {}
        cells = row.cells
        width = len(cells)
        for name, index, parser in reading.cells:
            cell = cells[index] if index < width else None
            values[name] = None if cell is None else parser(cell)
        zone = values.get("time_zone")
        values["registered_at"] = reading.moments(zone if isinstance(zone, str) else None)(
            reading.column("registered_at", row)
        )
        return values

    # --- the look beforehand -----------------------------------------------------------------------------------------

    def _look(self, reading: _Reading) -> None:
        """Count over all rows what single rows cannot say."""
        facts, fields = reading.facts, reading.fields
        counts_orders = {"order_id", "attendee_id", "quantity"} <= fields.keys()
        for row in reading.table.rows():
            if all(is_blank(c) for c in row.cells) or self._total(row, reading) is not None:
                continue
            values = self._values(row, reading)
            ticket = _good(values.get("ticket_type"))
            state = self._state(values, reading)
            if isinstance(state, CellError) or self._uncounted(values, state, reading) is not None:
                continue
            quantity = _good(values.get("quantity"))
            if counts_orders and (order := str(reading.column("order_id", row) or "").strip()):
                key = (order, ticket)
                facts.order_rows[key] += 1
                same = facts.order_quantity.setdefault(key, quantity)
                facts.order_quantity[key] = quantity if same == quantity else None
            if (answer := _good(values.get("heard"))) is not None:
                facts.answers[answer] += 1
            moment = _good(values["registered_at"])
            if moment is not None:
                facts.days.setdefault(self._label(values, reading), Counter())[moment[0]] += 1
                if state is not None:
                    facts.labels.update((name, v) for name in _SHOWN if isinstance(v := values.get(name), str))
            if state is not None and state[0] == "confirmed":
                self._tally(values, state, ticket, quantity, facts)
        for label, days in facts.days.items():
            reading.odd[label] = odd_days(days, reading.events(label), reading.today)

    def _tally(
        self,
        values: Mapping[str, Any],
        state: tuple[str, bool | None],
        ticket: str | None,
        quantity: Any,
        facts: _Facts,
    ) -> None:
        people = quantity if isinstance(quantity, int) else 1
        said = self._said(values, state)
        for tally in (facts.whole, facts.tickets.setdefault(ticket, _Tally())):
            tally.people += people
            tally.came += people if said is True else 0
            tally.absent += people if said is False else 0

    @staticmethod
    def _said(values: Mapping[str, Any], state: tuple[str, bool | None]) -> bool | None:
        """What the row itself says of somebody's coming: a check-in anywhere in it, else a mark, else the status."""
        said = [_good(values.get("checked_in_at")), _good(values.get("attended")), state[1]]
        return True if True in said else False if False in said else None

    def _state(self, values: Mapping[str, Any], reading: _Reading) -> tuple[str, bool | None] | CellError | None:
        """The row's state; where person and order each have one, a cancelled or unpaid order is cancelled or unpaid."""
        fields = reading.fields
        if "status" not in fields and "order_status" not in fields:
            return reading.sheet_state or ("confirmed", None)
        own, order = values.get("status"), values.get("order_status")
        for value in (own, order):
            if isinstance(value, CellError):
                return value
        if own is None or order is None:
            found: tuple[str, bool | None] | None = own if own is not None else order
            return found
        chosen: tuple[str, bool | None] = order if own[0] == "confirmed" and order[0] != "confirmed" else own
        return chosen

    def _uncounted(
        self, values: Mapping[str, Any], state: tuple[str, bool | None] | None, reading: _Reading
    ) -> tuple[str, str] | None:
        """Why a row is no registration: (kind, the word that says so)."""
        if state is not None and state[0] == "none":
            return "not registered", "invited or not finished"
        for name in ("ticket_type", "order_kind", "source"):
            text = _good(values.get(name))
            if text is not None and reading.words.is_test(text):
                return "test", text
        ticket = _good(values.get("ticket_type"))
        if ticket is not None and reading.words.is_staff(ticket):
            return "staff", ticket
        return None

    # --- rows --------------------------------------------------------------------------------------------------------

    def _row(self, row: Row, reading: _Reading) -> Outcome:
        if all(is_blank(c) for c in row.cells):
            return Blank(row.number)
        if (total := self._total(row, reading)) is not None:
            return total
        if (wide := too_wide(reading.table, row)) is not None:
            return wide
        values = self._values(row, reading)
        state = self._state(values, reading)
        if not isinstance(state, CellError) and (why := self._uncounted(values, state, reading)) is not None:
            reading.uncounted[why] += 1
            return Uncounted(row.number, ": ".join(why))
        problems = self._problems(row, values, state, reading)
        moment = _good(values["registered_at"])
        if problems:
            kept = self._shown(row, values, reading)
            return Rejected(row.number, tuple(problems), kept, moment[0] if moment is not None else None)
        assert isinstance(state, tuple), "a row without a state has a problem"
        return Record(self.table, row.number, self._record(row, values, state, reading))

    def _total(self, row: Row, reading: _Reading) -> Total | None:
        """A row of sums: it says so where the day would stand, or in the first cell of a row without a day."""
        day = reading.column("registered_at", row)
        for cell in (day, row.cells[0]) if is_empty(day) else (day,):
            if is_total_word(cell, reading.context.synonyms):
                return Total(row.number, str(cell).strip())
        return None

    def _problems(self, row: Row, values: Mapping[str, Any], state: object, reading: _Reading) -> list[Problem]:
        """Everything that keeps a row from being used.

        A date that is none may mean that the cells stand in wrong columns: then none is quoted but what looks like a
        date, since any of them may be somebody's name.
        """
        table, fields = reading.table, reading.fields
        problems: list[Problem] = []
        shifted = not isinstance(values["registered_at"], tuple)
        for name, value in values.items():
            if isinstance(value, CellError):
                problem = problem_of(table, row, fields[name], value)
                cell = reading.column(name, row)
                is_date = name == "registered_at" and _DATE_LIKE.fullmatch(str(cell).strip()) is not None
                if (shifted and not is_date) or name in self.private:
                    message = problem.message.replace(shown(cell), "the cell")
                    problem = replace(problem, message=message, value=None)
                problems.append(problem)
        reported = {p.column for p in problems}

        def missing(name: str, message: str) -> None:
            if name in fields and fields[name].title not in reported:
                problems.append(table.problem("missing_value", message, row=row.number, column=fields[name].title))

        if values["registered_at"] is None:
            missing("registered_at", "the day of registration is missing; write it as 2026-06-15")
        if state is None:
            missing("status" if "status" in fields else "order_status", f"the status is empty; allowed are {ALLOWED}")
        if "quantity" in fields and values["quantity"] is None:
            missing("quantity", "the number of registrations is missing; write a whole number")
        if values.get("quantity") == 0:
            problems.append(
                table.problem(
                    "zero_quantity", "0 registrations are no row; leave days without any out",
                    row=row.number, column=fields["quantity"].title,
                )
            )  # fmt: skip
        if (future := self._future(row, values, reading)) is not None:
            problems.append(future)
        return problems

    def _shown(self, row: Row, values: Mapping[str, Any], reading: _Reading) -> dict[str, str]:
        """What a quarantine keeps of a row: dates and numbers, and of texts those that other rows have too."""
        kept: dict[str, str] = {}
        for name, column in reading.fields.items():
            cell = reading.column(name, row)
            if cell is None or name in self.private or reading.context.synonyms.personal(column.name):
                continue
            text, value = str(cell), values.get(name)
            if name == "registered_at":
                fits = _DATE_LIKE.fullmatch(text.strip()) is not None
            elif name in _SHOWN:
                fits = (name, str(value)) in reading.facts.labels
            else:
                fits = name in ("status", "order_status", "quantity", "attended") and value is not None
                fits = fits and not isinstance(value, CellError)
            if fits and scrub(text) == text:
                kept[column.title] = text[:500]
        return kept

    def _future(self, row: Row, values: Mapping[str, Any], reading: _Reading) -> Problem | None:
        """A registration of a day to come cannot be; a day ahead is allowed, for the zones of the world."""
        moment = _good(values["registered_at"])
        if moment is None or moment[0] <= reading.today + timedelta(days=1):
            return None
        likely = year_back(moment[0], reading.today)
        cell = reading.column("registered_at", row)
        return reading.table.problem(
            "date_in_future",
            f"{shown(cell)} lies in the future, so nobody can have registered then; probably {likely} is meant",
            row=row.number, column=reading.fields["registered_at"].title, value=str(cell)[:200],
        )  # fmt: skip

    def _record(
        self, row: Row, values: Mapping[str, Any], state: tuple[str, bool | None], reading: _Reading
    ) -> dict[str, Any]:
        day, at = values["registered_at"]
        ticket = values.get("ticket_type")
        label = self._label(values, reading)
        reading.named = reading.named or bool(label)
        self._note_odd(row, label, day, reading)
        who = self._hash(row, ticket, reading)
        if state[0] == "confirmed" and who is not None:
            self._note_person(label, who, reading)
        return {
            "date": day,
            "registered_at": at,
            "quantity": self._quantity(row, values, ticket, reading),
            "ticket_type": None if ticket is None else _scrubbed(ticket),
            "status": state[0],
            "source_label": self._origin(values, reading),
            "attended": self._attended(values, state, ticket, label, day, reading),
            "event_label": label,
            "registrant_hash": who,
        }

    def _label(self, values: Mapping[str, Any], reading: _Reading) -> str:
        """What the list calls its event. A bare id of the platform says less than what the caller named."""
        code, name = _good(values.get("event_code")), _good(values.get("event"))
        if code or name:
            return _scrubbed(" ".join(filter(None, (code, name))))
        if reading.context.event:
            return reading.context.event
        return values.get("check_in_url") or ""

    def _quantity(self, row: Row, values: Mapping[str, Any], ticket: str | None, reading: _Reading) -> int:
        """How many registrations a row is.

        Lists with a row per ticket may repeat the order's number of tickets in each of them: three rows that say 3 are
        three registrations, not nine.
        """
        quantity: int = values.get("quantity") or 1
        if quantity > 1 and reading.facts.order_rows:
            key = (str(reading.column("order_id", row) or "").strip(), ticket)
            if reading.facts.order_rows[key] == quantity == reading.facts.order_quantity.get(key):
                reading.shared_orders += 1
                return 1
        return quantity

    def _attended(
        self,
        values: Mapping[str, Any],
        state: tuple[str, bool | None],
        ticket: str | None,
        label: str,
        day: date,
        reading: _Reading,
    ) -> bool | None:
        """Whether somebody came; see the head of this module."""
        if state[0] != "confirmed":
            return None
        event = _good(values.get("event_day")) or next((e for e in reading.events(label) if e >= day), None)
        if event is not None and event > reading.today:
            reading.ahead.add(event)
            return None
        said, facts = self._said(values, state), reading.facts
        by_hand = not self.machine_made and {"attended", "checked_in_at"} & reading.fields.keys()
        if by_hand and facts.marked:
            return said
        if state[1] is False and not by_hand and not self.machine_made:
            return False  # a status of no-show is set on purpose
        return (said is True) if facts.recorded(ticket) else None

    def _origin(self, values: Mapping[str, Any], reading: _Reading) -> str | None:
        """Where somebody came from, as the list says it: UTM parameters, else a tracking code, a page, an answer."""
        utm = [_good(values.get(name)) for name in ("utm_source", "utm_medium", "utm_campaign")]
        source = _good(values.get("source"))
        if any(utm):
            label = utm_label(utm[0] or source, utm[1], utm[2])
        else:
            label = _address(source) or _page(_good(values.get("referrer")))
            if label is None:
                label = self._answer(_good(values.get("heard")), reading)
            elif _PERSON.search(label):
                label = match_label(label)
        return None if label is None else _scrubbed(label)[:500]

    @staticmethod
    def _answer(answer: str | None, reading: _Reading) -> str | None:
        """An answer of a form: kept where it is one to choose from, else only the tactic it names, if it does."""
        if answer is None:
            return None
        is_choice = reading.facts.answers[answer] >= COMMON_ANSWER
        if is_organic(answer) or (is_choice and not _PERSON.search(answer) and scrub(answer) == answer):
            return answer
        tactic = match_label(answer)
        reading.dropped_answers += tactic is None
        return tactic

    def _hash(self, row: Row, ticket: str | None, reading: _Reading) -> str | None:
        """Who registered, as a salted hash of the e-mail address, else of the person's id, else of the registration's.

        Several tickets of one order may all carry the buyer's address: the second one on is another person, whose
        address nobody wrote down. The cells themselves go no further.
        """
        for name in ("email", "buyer_email", "registrant_id", "guest_id", "order_id"):
            cell = reading.column(name, row)
            if is_blank(cell) or (text := str(cell).strip()).casefold() in _NOBODY:
                continue
            kind = f"{self.platform}:{name}" if self.platform and name not in ("email", "buyer_email") else name
            parts = ["email" if kind == "buyer_email" else kind, text]
            seat = reading.column("attendee_id", row)
            order = str(reading.column("order_id", row) or "").strip()
            if order and not is_blank(seat):
                key = (f"{order}\x1f{text}", ticket)
                reading.seats[key] += 1
                if reading.seats[key] > 1:
                    parts.append(str(reading.seats[key]))
            return hashed_identity(reading.context.salt, *parts)
        return None

    # --- what the end has to say -------------------------------------------------------------------------------------

    def _note_odd(self, row: Row, label: str, day: date, reading: _Reading) -> None:
        odd = reading.odd.get(label, {}).get(day)
        if odd is None:
            return
        reading.odd_count += 1
        if len(reading.odd_rows) < NAMED_ROWS:
            column = reading.fields["registered_at"]
            likely = f"; probably {odd.likely} is meant" if odd.likely else ""
            reading.odd_rows.append(f"row {row.number}, column {column.title}: {day} {odd.why}{likely}")

    @staticmethod
    def _note_person(label: str, who: str, reading: _Reading) -> None:
        key = (label, int(who[:15], 16))
        reading.people[key] += 1
        reading.twice += reading.people[key] == 2

    def _conclude(self, reading: _Reading) -> None:
        """Say what a user should know of the whole list."""
        warnings, facts, fields = reading.context.warnings, reading.facts, reading.fields
        if not {"status", "order_status"} & fields.keys() and reading.sheet_state is None:
            warnings.append("the list has no status, so every row counts as a confirmed registration")
        self._say_attendance(reading)
        self._say_uncounted(reading)
        warnings.extend(reading.odd_rows)
        if reading.odd_count > len(reading.odd_rows):
            warnings.append(f"{reading.odd_count - len(reading.odd_rows)} more rows have doubtful dates of this kind")
        if reading.twice:
            warnings.append(
                f"{reading.twice} people are confirmed more than once for one event; all their rows count, as they do "
                "on the platform"
            )
        if reading.shared_orders:
            warnings.append(
                f"{reading.shared_orders} rows repeat the number of tickets of their whole order; each counts as one"
            )
        if reading.dropped_answers:
            warnings.append(
                f"{reading.dropped_answers} answers to {fields['heard'].name!r} name no tactic and are not kept, for "
                "they may hold anything"
            )
        if not reading.named and facts.days:
            warnings.append(self._nameless(reading))

    def _say_attendance(self, reading: _Reading) -> None:
        warnings, facts = reading.context.warnings, reading.facts
        if reading.ahead:
            days = ", ".join(day.isoformat() for day in sorted(reading.ahead)[:3])
            warnings.append(f"the event lies ahead ({days}), so nobody's attendance is known yet")
            return
        for ticket, tally in sorted(facts.tickets.items(), key=lambda item: str(item[0])):
            if tally.came and not facts.recorded(ticket) and not facts.marked:
                name = "registrations" if ticket is None else scrub(ticket)
                warnings.append(
                    f"{tally.came} check-ins among {tally.people} {name}: too few to be a "
                    "record of attendance, which is left unknown"
                )
        if facts.whole.absent and not facts.whole.came and (self.machine_made or not facts.marked):
            warnings.append(
                f"none of {facts.whole.people} confirmed registrations is checked in, so attendance was not recorded "
                "and is left unknown"
            )

    @staticmethod
    def _say_uncounted(reading: _Reading) -> None:
        reasons = {
            "not registered": "are of people who were invited or did not finish, and are no registrations",
            "staff": (
                "are tickets of staff or speakers and are not counted as registrations; list the ticket's name under "
                "`counted` in statuses.yaml of the home folder to count them"
            ),
            "test": "are tests and are not counted as registrations",
        }
        for kind, reason in reasons.items():
            words = {word: n for (k, word), n in sorted(reading.uncounted.items()) if k == kind}
            if not words:
                continue
            names = "" if kind == "not registered" else f" ({', '.join(f'{w} {n}' for w, n in words.items())})"
            reading.context.warnings.append(f"{sum(words.values())} rows{names} {reason}")

    def _nameless(self, reading: _Reading) -> str:
        account = reading.context.account
        place = f"the folder {account!r} names it, or it is the only one around these days" if account else (
            "it counts for the only event around these days, if there is one"
        )  # fmt: skip
        return (
            f"the list names no event: {place}. To be sure, read it with --event NAME, or put each event's lists into "
            f"a folder of the inbox called after the event (the file's name {reading.table.path.stem!r} is not trusted)"
        )


def _iso(cell: Cell, before: datetime) -> datetime | None:
    """A moment as machines write it, with its offset, before a day; ``None`` for all others, which take longer."""
    if not isinstance(cell, str) or not _ISO.fullmatch(cell):
        return None
    try:
        at = datetime.fromisoformat(cell)
    except ValueError:
        return None
    return at if at.year >= FIRST_DAY.year and at < before else None


def _luma_event(cell: Cell) -> str | None:
    """The event's id in a guest's check-in link; the rest of it lets the guest in."""
    found = _LUMA_EVENT.search(cell) if isinstance(cell, str) else None
    return found.group(1) if found else None


_scrubbed = lru_cache(maxsize=4_096)(scrub)


def _good(value: Any) -> Any:
    """A parsed value, ``None`` where the cell could not be parsed."""
    return None if isinstance(value, CellError) else value


def _address(text: str | None) -> str | None:
    """A label; of an address its site and UTM parameters only, for the rest may say who somebody is."""
    if text is None or "://" not in text:
        return text
    parameters = parameters_of(text)
    if parameters is not None:
        return utm_label(*parameters)
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.hostname}/" if parts.hostname else None


def _page(text: str | None) -> str | None:
    """A referring page as :func:`_address` keeps it; of words that are no address only the tactic they name."""
    if text is None or "://" in text:
        return _address(text)
    return text if _HOST.fullmatch(text) else match_label(text)


class Connpass(Registrations):
    """``event_<id>_participants.csv``. Its only time is that of the last change, in Japan's time."""

    name = "registrations.connpass"
    family = "registrations_connpass"
    platform = "connpass"
    signature = (
        frozenset(("ticket_type", "registered_at", "order_id")),
        frozenset(("ticket_type", "registered_at", "status")),
    )
    zones: Mapping[str, str] = {"": "Asia/Tokyo"}
    machine_made = True


class Peatix(Registrations):
    """The list of attendees, a row per order and kind of ticket; also a lottery's list, with numbers for states."""

    name = "registrations.peatix"
    family = "registrations_peatix"
    platform = "peatix"
    signature = (
        frozenset(("order_id", "registered_at", "ticket_type", "registrant_id")),
        frozenset(("order_id", "registered_at", "ticket_type", "account_name")),
        frozenset(("order_id", "registered_at", "ticket_type", "attendee_id")),
        frozenset(("account_name", "registered_at", "ticket_type", "quantity")),
    )
    zones: Mapping[str, str] = {"ja": "Asia/Tokyo"}
    machine_made = True
    #: help-organizer.peatix.com, 抽選イベントの当選者の選定方法: 10 won, 0 reserve, 20 lost, -10 not drawn yet.
    codes: Mapping[str, str] = {"10": "confirmed", "0": "waitlist", "-10": "waitlist", "20": "cancelled"}


class Doorkeeper(Registrations):
    """``<group>-tickets-<id>.xlsx``; where a sheet holds one state only, its name says which."""

    name = "registrations.doorkeeper"
    family = "registrations_doorkeeper"
    platform = "doorkeeper"
    signature = (frozenset(("ticket_number", "registered_at", "ticket_type")),)
    zones: Mapping[str, str] = {"ja": "Asia/Tokyo"}
    machine_made = True


class Eventbrite(Registrations):
    """The attendee report (a row per ticket) and the orders report (a row per order with its number of tickets)."""

    name = "registrations.eventbrite"
    family = "registrations_eventbrite"
    platform = "eventbrite"
    signature = tuple(
        frozenset(("order_id", "registered_at", other))
        for other in ("attendee_id", "order_kind", "status", "fees", "order_status")
    )
    machine_made = True


class Luma(Registrations):
    """The guest list; times in UTC, check-ins by their time, the event by the id in each guest's check-in link."""

    name = "registrations.luma"
    family = "registrations_luma"
    platform = "luma"
    signature = (
        frozenset(("guest_id", "registered_at", "status")),
        frozenset(("guest_id", "registered_at", "check_in_url")),
        frozenset(("guest_id", "registered_at", "checked_in_at")),
    )
    zones: Mapping[str, str] = {"": "UTC"}
    machine_made = True


LAYOUTS = (Registrations(), Connpass(), Peatix(), Doorkeeper(), Eventbrite(), Luma())
