"""Registrations: the generic list of a registration system, one row per person or per day and ticket.

The day of a registration is its day in the installation's time zone. Personal columns are dropped as a row is read; an
e-mail address, else an id, becomes a salted hash. Attendance is unknown where it was never recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ingestion.headers import Synonyms
from ingestion.layouts import (
    Context,
    Conventions,
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
from ingestion.reading import Column, RawTable, Row
from ingestion.records import Blank, Outcome, Record, Rejected, Total
from ingestion.values import (
    Cell,
    CellError,
    DateOrder,
    fold,
    has_time,
    parse_count,
    parse_date,
    parse_text,
    parse_timestamp,
    shown,
)
from turnout.errors import Problem
from turnout.identity import hashed_identity


@lru_cache(maxsize=1)
def _words() -> tuple[dict[str, tuple[str, bool | None]], dict[str, bool]]:
    """Folded words → (status, attended where the status says), and → attended, from ``statuses.yaml``."""
    loaded = yaml.safe_load(Path(__file__).with_name("statuses.yaml").read_text(encoding="utf-8"))
    words = {
        group: [fold(str(w)).casefold() for ws in languages.values() for w in ws] for group, languages in loaded.items()
    }
    statuses: dict[str, tuple[str, bool | None]] = {}
    for group, meaning in (
        ("confirmed", ("confirmed", None)),
        ("attended", ("confirmed", True)),
        ("absent", ("confirmed", False)),
        ("cancelled", ("cancelled", None)),
        ("waitlist", ("waitlist", None)),
    ):
        statuses.update(dict.fromkeys(words[group], meaning))
    attendance = dict.fromkeys((*words["yes"], *words["attended"]), True) | dict.fromkeys(
        (*words["no"], *words["absent"]), False
    )
    return statuses, attendance


#: Fewer check-ins among a kind of ticket than this are chance (an online ticket nobody scans), not a record of
#: attendance: then those not checked in cannot be called absent.
RECORDED_FROM = 0.05


def parse_status(cell: Cell) -> tuple[str, bool | None] | None:
    """A status as (confirmed, cancelled or waitlist; attended or not where the status says).

    Raises:
        CellError: ``unknown_status``.
    """
    text = parse_text(cell)
    if text is None:
        return None
    try:
        return _words()[0][fold(text).casefold()]
    except KeyError:
        raise CellError(
            "unknown_status",
            f"{shown(text)} is not a known status; allowed are confirmed, attended, no-show, cancelled, waitlist and "
            "what registration systems call these in ja, en, es, pt, de and fr",
        ) from None


def parse_attended(cell: Cell) -> bool | None:
    """Whether somebody came; a moment of check-in counts as yes, an empty cell is unknown.

    Raises:
        CellError: ``not_yes_or_no``.
    """
    if isinstance(cell, bool):
        return cell
    if isinstance(cell, datetime):
        return True
    if isinstance(cell, int | float) and cell in (0, 1):
        return bool(cell)
    text = parse_text(cell)
    if text is None:
        return None
    if (known := _words()[1].get(fold(text).casefold())) is not None:
        return known
    try:
        parse_date(text)
    except CellError:
        raise CellError(
            "not_yes_or_no", f"{shown(text)} is neither yes nor no; write yes, no, ○, × or leave it empty"
        ) from None
    return True


@dataclass
class _Tickets:
    """Registrations and check-ins per kind of ticket, counted before the rows are made."""

    registered: Counter[str | None] = field(default_factory=Counter)
    attended: Counter[str | None] = field(default_factory=Counter)

    def recorded(self, ticket: str | None) -> bool:
        """Whether enough were checked in for the rest to have stayed away."""
        return self.attended[ticket] > 0 and self.attended[ticket] >= RECORDED_FROM * self.registered[ticket]


@dataclass(frozen=True)
class _Reading:
    """What is the same for every row of a table."""

    fields: Mapping[str, Column]
    parsers: Mapping[str, Parser]
    tickets: _Tickets
    context: Context


class Registrations(Layout):
    """A list of registrations, or counts by day."""

    name = "registrations.list"
    source = "registrations"
    table = "registration"
    family = "registrations"
    required = ("registered_at",)
    private = ("email", "registrant_id")
    date_hints: Mapping[str, DateOrder] = {}

    #: One of these beside a date makes a table a list of registrations.
    evidence = ("status", "ticket_type", "quantity", "email", "registrant_id", "attended")

    def recognise(self, table: RawTable, synonyms: Synonyms | None = None) -> Match | None:
        match = super().recognise(table, synonyms)
        if match is None or not any(f in match.fields for f in self.evidence):
            return None
        return match

    def time_zone(self, table: RawTable, context: Context) -> str:
        return context.settings.time_zone

    def read(self, table: RawTable, context: Context) -> Iterator[Outcome]:
        match = self.recognise(table, context.synonyms)
        assert match is not None, "read is called on a table that recognise accepted"
        fields = match.fields
        parsers = self._parsers(fields)
        tickets = _Tickets()

        def count(row: Row) -> None:
            status = self._cell(row, fields, parsers, "status")
            if isinstance(status, tuple) and status[0] == "confirmed":
                quantity = self._cell(row, fields, parsers, "quantity") if "quantity" in fields else 1
                ticket = self._cell(row, fields, parsers, "ticket_type")
                people = quantity if isinstance(quantity, int) else 1
                key = None if isinstance(ticket, CellError) else ticket
                tickets.registered[key] += people
                tickets.attended[key] += people if status[1] is True else 0

        known = learn(
            table,
            dates={"registered_at": fields["registered_at"]},
            numbers={},
            hint=self.date_hints.get(table.language or ""),
            also=count if "status" in fields and "attended" not in fields else None,
        )
        self._warn(tickets, context)
        if "status" not in fields:
            context.warnings.append("the list has no status, so every row counts as a confirmed registration")
        moments = self._moments(known, context)
        for row in table.rows():
            yield self._row(table, row, _Reading(fields, parsers | moments, tickets, context))

    def _parsers(self, fields: Mapping[str, Column]) -> dict[str, Parser]:
        every: dict[str, Any] = {
            "status": parse_status,
            "quantity": lambda c: parse_count(c, what="the number of registrations"),
            "attended": parse_attended,
            **dict.fromkeys(("ticket_type", "source", "event", "event_code"), parse_text),
        }
        return {name: Parser(parse) for name, parse in every.items() if name in fields}

    def _moments(self, known: Conventions, context: Context) -> dict[str, Parser]:
        order, zone, today = known.order["registered_at"], context.settings.zone, context.today

        def moment(cell: Cell) -> tuple[date, datetime | None] | None:
            if has_time(cell, order=order):
                at = parse_timestamp(cell, zone=zone, order=order, today=today)
                return None if at is None else (at.date(), at)
            day = parse_date(cell, order=order, today=today)
            return None if day is None else (day, None)

        return {"registered_at": Parser(moment)}

    def _warn(self, tickets: _Tickets, context: Context) -> None:
        for ticket, came in sorted(tickets.attended.items(), key=lambda item: str(item[0])):
            if came and not tickets.recorded(ticket):
                context.warnings.append(
                    f"{came} check-ins among {tickets.registered[ticket]} {ticket or 'registrations'}: too few to be a "
                    "record of attendance, which is left unknown"
                )

    def _cell(self, row: Row, fields: Mapping[str, Column], parsers: Mapping[str, Parser], name: str) -> Any:
        """A parsed cell, a :class:`CellError`, or ``None`` where there is no such column or cell."""
        column = fields.get(name)
        return parsers[name](row.cells[column.index]) if column is not None and column.index < len(row.cells) else None

    def _row(self, table: RawTable, row: Row, reading: _Reading) -> Outcome:
        fields, context = reading.fields, reading.context
        if all(is_blank(c) for c in row.cells):
            return Blank(row.number)
        if (total := self._total(row, fields["registered_at"].index, context)) is not None:
            return total
        if (wide := too_wide(table, row)) is not None:
            return wide
        values: dict[str, Any] = {}
        problems: list[Problem] = []
        for name in reading.parsers:
            value = self._cell(row, fields, reading.parsers, name)
            if isinstance(value, CellError):
                problems.append(problem_of(table, row, fields[name], value))
                value = None
            values[name] = value
        moment = values["registered_at"]
        self._check(table, row, fields, values, problems)
        day = moment[0] if moment is not None else None
        if problems:
            return Rejected(row.number, tuple(problems), self.kept(fields, row, context.synonyms), day)
        return Record(self.table, row.number, self._record(row, values, reading))

    def _total(self, row: Row, at: int, context: Context) -> Total | None:
        """A row of sums: it says so where the day would stand, or in the first cell of a row without a day."""
        day = row.cells[at] if at < len(row.cells) else None
        for cell in (day, row.cells[0]) if is_empty(day) else (day,):
            if is_total_word(cell, context.synonyms):
                return Total(row.number, str(cell).strip())
        return None

    def _check(
        self,
        table: RawTable,
        row: Row,
        fields: Mapping[str, Column],
        values: Mapping[str, Any],
        problems: list[Problem],
    ) -> None:
        """Add what is missing, unless the cell's own problem says so already."""
        reported = {p.column for p in problems}

        def missing(name: str, message: str) -> None:
            if name in fields and values.get(name) is None and fields[name].title not in reported:
                problems.append(table.problem("missing_value", message, row=row.number, column=fields[name].title))

        missing("registered_at", "the day of registration is missing; write it as 2026-06-15")
        missing("status", "the status is empty; allowed are confirmed, attended, no-show, cancelled and waitlist")
        missing("quantity", "the number of registrations is missing; write a whole number")
        if values.get("quantity") == 0:
            title = fields["quantity"].title
            problems.append(
                table.problem(
                    "zero_quantity",
                    "0 registrations are no row; leave days without any out",
                    row=row.number,
                    column=title,
                )
            )

    def _record(self, row: Row, values: Mapping[str, Any], reading: _Reading) -> dict[str, Any]:
        fields, tickets, context = reading.fields, reading.tickets, reading.context
        day, at = values["registered_at"]
        status, attended = values["status"] if "status" in fields else ("confirmed", None)
        ticket = values.get("ticket_type")
        if "attended" in fields:
            attended = values["attended"] if values["attended"] is not None else attended
        elif status == "confirmed" and attended is not False:
            attended = (attended is True) if tickets.recorded(ticket) else None
        label = " ".join(filter(None, (values.get("event_code"), values.get("event")))) or context.event or ""
        source = values.get("source")
        return {
            "date": day,
            "registered_at": at,
            "quantity": values.get("quantity") or 1,
            "ticket_type": ticket,
            "status": status,
            "source_label": scrub(source) if source is not None else None,
            "attended": attended if status == "confirmed" else None,
            "event_label": label,
            "registrant_hash": self._hash(row, fields, context),
        }

    def _hash(self, row: Row, fields: Mapping[str, Column], context: Context) -> str | None:
        """Who registered, as a salted hash of the e-mail address, else of the id; the cell itself goes no further."""
        for name in ("email", "registrant_id"):
            column = fields.get(name)
            if column is not None and column.index < len(row.cells):
                cell = row.cells[column.index]
                if not is_blank(cell) and str(cell).strip() not in ("-", "--"):
                    return hashed_identity(context.salt, name, str(cell))
        return None


LAYOUTS = (Registrations(),)
