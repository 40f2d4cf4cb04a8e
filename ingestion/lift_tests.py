"""Lift tests from a file, or as somebody types them in: words into :class:`turnout.lift.LiftTest`.

A file has one row per test. Needed are a tactic, the registrations of both groups, their units (``list``: people;
``region``: population, or registrations before the test), and an event or a period.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, select

from ingestion.headers import Synonyms
from ingestion.linking import Events
from ingestion.mapping import find_event, find_tactic
from ingestion.reading import Column, RawTable, Row, open_tables
from ingestion.values import (
    Cell,
    CellError,
    is_unknown,
    parse_choice,
    parse_count,
    parse_date,
    parse_money,
    parse_number,
    parse_text,
)
from turnout import lift, taxonomy
from turnout.errors import InputError, Problem
from turnout.lift import Change, LiftTest
from turnout.money import Rates
from turnout.warehouse import tables as wh

FAMILY: Final = "lift_tests"
HEADERS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "name": {"en": ("name", "test", "test name"), "ja": ("テスト名", "名称")},
    "tactic": {"en": ("tactic", "channel"), "ja": ("施策", "施策名")},
    "split": {"en": ("split", "kind"), "ja": ("分け方", "種別")},
    "event": {"en": ("event", "event name"), "ja": ("イベント", "イベント名")},
    "category": {"en": ("category", "segment"), "ja": ("カテゴリ",)},
    "first_date": {"en": ("first date", "first day", "from", "start"), "ja": ("開始日",)},
    "last_date": {"en": ("last date", "last day", "to", "end"), "ja": ("終了日",)},
    "treated_units": {"en": ("treated units", "treated people", "treated"), "ja": ("実施群の規模", "実施群の人数")},
    "control_units": {"en": ("control units", "control people", "control"), "ja": ("対照群の規模", "対照群の人数")},
    "treated_registrations": {"en": ("treated registrations", "treated outcomes"), "ja": ("実施群の申込数",)},
    "control_registrations": {"en": ("control registrations", "control outcomes"), "ja": ("対照群の申込数",)},
    "spend": {"en": ("spend", "cost"), "ja": ("費用",)},
    "currency": {"en": ("currency",), "ja": ("通貨",)},
    "staff_hours": {"en": ("staff hours", "hours"), "ja": ("工数", "工数(時間)")},
    "notes": {"en": ("notes", "note"), "ja": ("備考",)},
}
REQUIRED: Final = ("tactic", "treated_units", "control_units", "treated_registrations", "control_registrations")
_SPLITS: Final = {
    "list": "list", "people": "list", "mail": "list", "リスト": "list", "名簿": "list",
    "region": "region", "geo": "region", "area": "region", "地域": "region", "エリア": "region",
}  # fmt: skip

#: Field → how its cell is read; events and tactics need the warehouse and are found later.
_PARSERS: Final[Mapping[str, Callable[[Cell], Any]]] = {
    "name": parse_text, "tactic": parse_text, "event": parse_text, "category": parse_text, "currency": parse_text,
    "notes": parse_text,
    "split": lambda cell: parse_choice(cell, _SPLITS, what="split"),
    "first_date": parse_date, "last_date": parse_date,
    "treated_units": lambda cell: parse_number(cell, what="a number of units"),
    "control_units": lambda cell: parse_number(cell, what="a number of units"),
    "treated_registrations": parse_count, "control_registrations": parse_count,
    "spend": parse_money,
    "staff_hours": lambda cell: parse_number(cell, what="hours"),
}  # fmt: skip


def import_tests(engine: Engine, organisation: str, path: Path, rates: Rates, *, dry_run: bool = False) -> Change:
    """Store the tests of a file. Reading it again changes nothing; a row with other figures corrects its test.

    Raises:
        InputError: every defect of the file at once, with row and column. Nothing is stored then.
    """
    if not path.is_file():
        raise InputError([Problem("no_file", "there is no such file", file=str(path))])
    with engine.connect() as connection, connection.begin() as transaction:
        events = Events.load(connection, organisation)
        tests: list[LiftTest] = []
        problems: list[Problem] = []
        places: dict[str, int] = {}
        for table in open_tables(path, synonyms=Synonyms({FAMILY: HEADERS})):
            for row, made in _table_tests(table, connection, organisation, events, rates):
                if isinstance(made, LiftTest):
                    key = made.test_id(organisation)
                    if key in places:
                        message = f"the same test stands in row {places[key]}; keep one, or give them names"
                        problems.append(table.problem("duplicate", message, row=row))
                    places[key] = row
                    tests.append(made)
                else:
                    problems += made
        if problems:
            raise InputError(problems)
        if not tests:
            raise InputError([Problem("no_rows", "the file holds no lift test", file=path.name)])
        change = lift.save(connection, organisation, tests, rates, file=path.name)
        if dry_run:
            transaction.rollback()
    return change


def _table_tests(
    table: RawTable, connection: Connection, organisation: str, events: Events, rates: Rates
) -> Iterator[tuple[int, LiftTest | list[Problem]]]:
    synonyms = Synonyms({FAMILY: HEADERS})
    columns = {name: c for c in table.columns if (name := synonyms.field(FAMILY, c.name)) is not None}
    if missing := [n for n in REQUIRED if n not in columns]:
        found = ", ".join(c.title for c in table.columns[:12])
        raise InputError([
            table.problem(
                "missing_column", f"the column {n!r} is missing; columns found: {found}", row=table.header_row, column=n
            )
            for n in missing
        ])  # fmt: skip
    for row in table.rows():
        if all(cell is None or cell == "" for cell in row.cells):
            continue
        yield row.number, _read(table, row, columns, connection, organisation, events, rates)


def _read(
    table: RawTable,
    row: Row,
    columns: Mapping[str, Column],
    connection: Connection,
    organisation: str,
    events: Events,
    rates: Rates,
) -> LiftTest | list[Problem]:
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    titles = {name: column.title for name, column in columns.items()}

    def place(problem: Problem) -> Problem:
        return replace(
            problem, file=table.file, sheet=table.sheet, row=row.number,
            column=titles.get(_FIELDS.get(problem.column or "", problem.column or ""), problem.column),
        )  # fmt: skip

    for name, column in columns.items():
        cell = row.cells[column.index] if column.index < len(row.cells) else None
        try:
            values[name] = _PARSERS[name](cell)
        except CellError as error:
            problems.append(place(Problem(error.code, error.message, column=name, value=str(cell)[:60])))
            continue
        if values[name] is None and name in REQUIRED:
            said = "is empty" if is_unknown(cell) else "cannot be read"
            problems.append(place(Problem("missing", f"{name} {said}", column=name)))
    if problems:
        return problems
    try:
        test = make_test(connection, organisation, events, **values)
        if test.currency:
            rates.rate(test.currency)
    except InputError as error:
        return [place(p if p.code != "unknown_currency" else replace(p, column="currency")) for p in error.problems]
    return [place(p) for p in lift.check(test)] or test


#: Columns of problems that other modules name otherwise.
_FIELDS: Final = {"tactic_id": "tactic", "event_id": "event", "segment_id": "category"}


def make_test(
    connection: Connection,
    organisation: str,
    events: Events,
    *,
    tactic: str,
    treated_units: Decimal | float,
    control_units: Decimal | float,
    treated_registrations: int,
    control_registrations: int,
    name: str | None = None,
    split: str | None = None,
    event: str | None = None,
    category: str | None = None,
    first_date: Any = None,
    last_date: Any = None,
    spend: Any = None,
    currency: str | None = None,
    staff_hours: Decimal | float | None = None,
    notes: str | None = None,
) -> LiftTest:
    """A test from what people call its event, tactic and category. An event gives it its day and category.

    Raises:
        InputError: there is no such event, tactic or category; or neither an event nor a period is named.
    """
    problems: list[Problem] = []
    event_id = segment = None
    tactic_id = ""
    try:
        tactic_id = find_tactic(tactic)
        if not tactic_id:
            problems.append(Problem("no_tactic", "what nobody does cannot be tested", column="tactic", value=tactic))
    except InputError as error:
        problems += error.problems
    if event:
        try:
            found = find_event(events, event)
            event_id = found.event_id
            first_date, last_date = first_date or last_date or found.day, last_date or found.day
            column = wh.event.c
            segment = connection.scalar(
                select(column.category).where(column.organisation == organisation, column.event_id == event_id)
            )
        except InputError as error:
            problems += error.problems
    if category:
        try:
            segment = taxonomy.categories.parse(category)
        except ValueError as error:
            problems.append(Problem("unknown_category", str(error), column="category", value=category))
    if not problems and (first_date is None or last_date is None):
        problems.append(Problem("missing", "name the event, or the first and last day of the test", column="event"))
    if problems:
        raise InputError(problems)
    amount, own = (spend.amount, spend.currency) if hasattr(spend, "amount") else (spend, None)
    return LiftTest(
        name=name or tactic_id, tactic_id=tactic_id, split="region" if split == "region" else "list",
        first_date=first_date, last_date=last_date, treated_units=float(treated_units),
        control_units=float(control_units), treated_registrations=treated_registrations,
        control_registrations=control_registrations, event_id=event_id, segment_id=segment,
        spend=None if amount is None else Decimal(str(amount)), currency=(currency or own or "").upper() or None,
        staff_hours=None if staff_hours is None else float(staff_hours), notes=notes,
    )  # fmt: skip
