"""The event team's own sheets: events, tactic results, paid media, insights; in Japanese or English, CSV or XLSX.

``sheets.yaml`` says which columns a sheet has, ``headers_sheets.yaml`` what they may be called, and
:mod:`ingestion.sheet_cells` how their cells are read.

An empty cell is unknown, never zero. Each row becomes one of: a record, a rejected row with all its reasons, a total, a
blank.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from ingestion.headers import Synonyms
from ingestion.layouts import (
    Context,
    Layout,
    Match,
    Parser,
    dated_cell,
    is_blank,
    is_total_word,
    learn,
    problem_of,
    repeats_header,
    too_wide,
)
from ingestion.personal import scrub
from ingestion.reading import Column, RawTable, Row
from ingestion.records import Blank, Outcome, Record, Rejected, Total
from ingestion.sheet_cells import (
    HOURS_PER_DAY,
    READERS,
    VOCABULARIES,
    Noted,
    ReadAs,
    marks_as_simulated,
    read_cell,
    read_name,
    unit_of,
)
from ingestion.sheets import REGISTRATIONS, Kind, Sheet, load_sheets
from ingestion.values import Amount, Cell, CellError, Formula, fold, is_unknown
from turnout.errors import InputError, Problem
from turnout.identity import event_key, key_of, normalise_name

#: A CPA further than this from cost / registrations is worth a warning; rounding is not.
CPA_TOLERANCE = Decimal("0.02")
#: Japanese consumption tax: a CPA off by exactly this was calculated with tax.
CONSUMPTION_TAX = Decimal("1.10")

_KINDS_OF_NUMBERS: frozenset[Kind] = frozenset(("money", "price", "quantity", "percent", "hours"))

#: Columns whose bad cells cost the cell and not the row: nothing is calculated from them.
_SOFT: Mapping[str, frozenset[str]] = {
    "tactic_results": frozenset(("reported_cpa", "format")),
    "events": frozenset(("starts_at", "registration_opens")),
}
#: Warehouse table → the column that is its natural key.
_KEYS: Mapping[str, str] = {
    "event": "event_id",
    "tactic_result": "result_id",
    "paid_media": "media_id",
    "insight": "insight_id",
}
#: What makes two rows be about the same thing.
_IDENTITY: Mapping[str, tuple[str, ...]] = {
    "events": ("name", "event_date"),
    "tactic_results": ("tactic", "event_name", "event_date", "theme", "format", *VOCABULARIES),
    "paid_media": ("name", "media_type"),
    "insights": ("text", "applies_to"),
}
#: Text that names the row.
_NAMES: Mapping[str, frozenset[str]] = {
    "events": frozenset(("name",)),
    "tactic_results": frozenset(("event_name",)),
    "paid_media": frozenset(("name",)),
}


def _says_nothing(cell: Cell) -> bool:
    """Blank, or a formula filled down beyond the rows that are in use: its result is blank or an error."""
    if isinstance(cell, Formula):
        return cell.result is not None and (is_blank(cell.result) or str(cell.result).startswith("#"))
    return is_blank(cell)


def _plain(value: Any) -> Any:
    """A value as part of a key: names folded, lists in any order, of moments the day, of scopes the words."""
    if isinstance(value, str):
        return normalise_name(value) or None
    if isinstance(value, list):
        return ",".join(sorted(value)) or None
    if isinstance(value, dict):
        return _plain(value["as_written"])
    if isinstance(value, tuple):
        return _plain("\x1e".join(str(v) for v in value[:2] if v is not None and not isinstance(v, datetime)))
    return value


# --- tables -----------------------------------------------------------------------------------------------------------


@dataclass
class _Notices:
    """Warnings of a table, one for each message, with the rows they are about."""

    rows: dict[str, list[int]] = field(default_factory=dict)

    #: More messages than this are one: the sheet then has a common fault.
    MOST = 40
    MOST_ROWS = 8

    def add(self, message: str, row: int) -> None:
        self.rows.setdefault(message, []).append(row)

    def texts(self) -> list[str]:
        texts = []
        for message, rows in list(self.rows.items())[: self.MOST]:
            shown_rows = ", ".join(map(str, rows[: self.MOST_ROWS])) + (", …" if len(rows) > self.MOST_ROWS else "")
            texts.append(f"{'row' if len(rows) == 1 else 'rows'} {shown_rows}: {message}")
        if len(self.rows) > self.MOST:
            texts.append(f"and {len(self.rows) - self.MOST} more warnings of this sheet")
        return texts


@dataclass
class _Reading:
    """What is the same for every row of a table."""

    table: RawTable
    context: Context
    fields: Mapping[str, Column]
    parsers: Mapping[str, Parser]
    notices: _Notices = field(default_factory=_Notices)
    #: What was noticed in the row at hand; forgotten when the row is refused, for then nothing of it is stored.
    noticed: list[str] = field(default_factory=list)
    first_rows: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)


class OrganiserSheet(Layout):
    """One kind of the event team's own sheets; ``name`` is ``spreadsheet.events`` and the like."""

    source = "spreadsheet"

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.name = f"spreadsheet.{sheet.name}"
        self.table = sheet.table
        self.family = sheet.name
        self.required = sheet.required

    def recognise(self, table: RawTable, synonyms: Synonyms | None = None) -> Match | None:
        """As any layout, but one word in common is chance, except where it is the sheet's only column."""
        match = super().recognise(table, synonyms)
        if match is None or (len(match.fields) < 2 and len(table.columns) > 1):
            return None
        return match

    def time_zone(self, table: RawTable, context: Context) -> str:
        return context.settings.time_zone

    def read(self, table: RawTable, context: Context) -> Iterator[Outcome]:
        """Make exactly one outcome of every row; warnings go to ``context.warnings`` when the last row is read.

        Raises:
            InputError: a required column is missing, or a column mixes day/month with month/day.
        """
        match = self.recognise(table, context.synonyms)
        if match is None or match.missing:
            wanted = ", ".join(match.missing if match else self.required)
            seen = ", ".join(c.title for c in table.columns)
            raise InputError([
                table.problem("missing_column", f"missing: {wanted}; columns found: {seen}", row=table.header_row)
            ])  # fmt: skip
        reading = _Reading(table, context, match.fields, self.parsers(table, match.fields, context))
        context.warnings.extend(self._about_columns(table, match.fields, context))
        for row in table.rows():
            yield self._row(row, reading)
        context.warnings.extend(reading.notices.texts())

    # --- columns ------------------------------------------------------------------------------------------------

    def parsers(self, table: RawTable, fields: Mapping[str, Column], context: Context) -> dict[str, Parser]:
        kinds = {name: self.sheet.fields[name].kind for name in fields}
        conventions = learn(
            table,
            dates={n: c for n, c in fields.items() if kinds[n] == "day"},
            numbers={n: c for n, c in fields.items() if kinds[n] in _KINDS_OF_NUMBERS},
        )
        parsers = {}
        for name, column in fields.items():
            at = ReadAs(conventions.order.get(name), conventions.mark.get(name, "."), unit_of(column.name), context)
            reader = read_name if name in _NAMES.get(self.sheet.name, ()) else READERS[kinds[name]]
            read = partial(read_cell, reader, at)
            parsers[name] = Parser(dated_cell(table, read) if kinds[name] == "day" else read)
        return parsers

    def _about_columns(self, table: RawTable, fields: Mapping[str, Column], context: Context) -> Iterator[str]:
        """What a user should know of the header row."""
        for column in table.columns:
            name = context.synonyms.field(self.family, column.name)
            if name is not None and fields[name].index != column.index:
                yield f"the column {column.title!r} means the same as {fields[name].title!r}, which is used"
        for name, column in fields.items():
            unit = unit_of(column.name)
            if self.sheet.fields[name].kind in ("money", "price") and unit.with_tax:
                yield f"the column {column.title!r} includes tax; amounts are stored as written"
            if self.sheet.fields[name].kind == "hours" and unit.is_days:
                yield f"the column {column.title!r} is in person-days, counted as {HOURS_PER_DAY} hours each"
        if self.sheet.name == "events" and "category" not in fields:
            yield "there is no column of categories; every event is stored as other, which makes its plans less precise"

    # --- rows ---------------------------------------------------------------------------------------------------

    def _row(self, row: Row, reading: _Reading) -> Outcome:
        table, fields, synonyms = reading.table, reading.fields, reading.context.synonyms
        if all(_says_nothing(c) for c in row.cells):
            return Blank(row.number)
        if (label := self._total(row, reading)) is not None:
            return Total(row.number, label)
        if (wide := too_wide(table, row)) is not None:
            return wide
        cells = {n: row.cells[c.index] for n, c in fields.items() if c.index < len(row.cells)}
        if all(_says_nothing(c) for c in cells.values()):
            return self._outside(row, reading)
        reading.noticed.clear()
        values, problems = self._values(row, cells, reading)
        key = self._key(values, problems, reading)
        if not problems:
            build = {
                "events": self._event,
                "tactic_results": self._tactic_result,
                "paid_media": self._paid_media,
                "insights": self._insight,
            }[self.sheet.name]
            record = build(row, values, reading, problems)
            if not problems and (again := self._seen_before(row, record, reading)) is not None:
                problems.append(again)
            if not problems:
                for message in reading.noticed:
                    reading.notices.add(message, row.number)
                return Record(self.table, row.number, record)
        day = values.get("event_date")
        return Rejected(
            row.number,
            tuple(problems),
            self.kept(fields, row, synonyms),
            date=day[0] if isinstance(day, tuple) else None,
            key=key,
        )

    def _total(self, row: Row, reading: _Reading) -> str | None:
        """What makes a row one of sums or a repeated header, else ``None``."""
        filled = [c for c in row.cells if not _says_nothing(c)]
        if repeats_header(reading.table, row):
            return "repeated header"
        if self.sheet.name == "insights":
            return None
        naming = [reading.fields[n].index for n in self.required if self.sheet.fields[n].kind in ("text", "tactic")]
        candidates = [filled[0], *(row.cells[i] for i in naming if i < len(row.cells))]
        if self.sheet.name == "events" and "event_date" in reading.fields:
            # An event may be called "Summary"; it then has a date, and a row of sums has none.
            at = reading.fields["event_date"].index
            if (
                at < len(row.cells)
                and not is_unknown(row.cells[at])
                and not is_total_word(row.cells[at], reading.context.synonyms)
            ):
                return None
            candidates.append(row.cells[at] if at < len(row.cells) else None)
        return next((fold(str(c)) for c in candidates if is_total_word(c, reading.context.synonyms)), None)

    def _outside(self, row: Row, reading: _Reading) -> Outcome:
        """A row whose only content lies under headers nobody knows: a running number is nothing, text is refused."""
        filled = [c for c in row.cells if not _says_nothing(c)]
        if all(not isinstance(c, str) or re.fullmatch(r"[\d.\-]+", fold(c)) for c in filled):
            return Blank(row.number)
        message = "no column that is understood has a value in this row"
        return Rejected(row.number, (reading.table.problem("no_value", message, row=row.number),))

    def _values(self, row: Row, cells: Mapping[str, Cell], reading: _Reading) -> tuple[dict[str, Any], list[Problem]]:
        values: dict[str, Any] = {}
        problems: list[Problem] = []
        for name in reading.fields:
            value = reading.parsers[name](cells.get(name))
            title = reading.fields[name].title
            if isinstance(value, CellError):
                if name in _SOFT.get(self.sheet.name, ()) and value.code != "mojibake":
                    reading.noticed.append(f"{title}: {value.message}; the cell is left out")
                else:
                    problems.append(problem_of(reading.table, row, reading.fields[name], value))
                values[name] = None
                continue
            if isinstance(value, Noted):
                for note in value.notes:
                    reading.noticed.append(f"{title}: {note}")
                value = value.value
            values[name] = value
        reported = {p.column for p in problems}
        for name in self.required:
            title = reading.fields[name].title
            if values.get(name) is None and title not in reported:
                message = f"{title} is empty"
                if name == "event_name":
                    message += "; in merged cells only the first row has the name: write it in every row"
                problems.append(reading.table.problem("missing_value", message, row=row.number, column=title))
        return values, problems

    def _key(self, values: Mapping[str, Any], problems: list[Problem], reading: _Reading) -> str | None:
        """The natural key of what a row is about; ``None`` where a cell that is part of it could not be read."""
        unread = {p.column for p in problems}
        parts = [n for n in _IDENTITY[self.sheet.name] if n in reading.fields]
        if any(reading.fields[n].title in unread for n in parts):
            return None
        if self.sheet.name == "events":
            return event_key(reading.context.settings.organisation, values["name"], values["event_date"][0])
        return key_of(*(_plain(values.get(n)) for n in _IDENTITY[self.sheet.name]), prefix=f"{self.sheet.name[:3]}_")

    def _seen_before(self, row: Row, record: dict[str, Any], reading: _Reading) -> Problem | None:
        """Whether this table already held the same event, result, medium or insight."""
        key = str(record[_KEYS[self.table]])
        first = reading.first_rows.setdefault(key, (row.number, record))
        if first[0] == row.number:
            return None
        name = reading.fields[self.required[0]]
        value = scrub(str(row.cells[name.index]))[:200]
        what = {
            "events": "an event of this name and date",
            "tactic_results": "this tactic with this event and audience",
            "paid_media": "this medium",
            "insights": "this insight",
        }[self.sheet.name]
        if first[1] == record:
            return reading.table.problem(
                "duplicate",
                f"the same as row {first[0]}, which is stored; this copy is not counted again",
                row=row.number,
                column=name.title,
                value=value,
            )
        differing = [n for n in record if record[n] != first[1][n]]
        titles = ", ".join(reading.fields[n].title for n in differing if n in reading.fields) or ", ".join(differing)
        hint = {
            "events": "keep one of them, or give this one its own name or date",
            "tactic_results": "add them up in one row, or give this one its own name, such as “… 2回目”",
        }.get(self.sheet.name, "keep one of them")
        return reading.table.problem(
            "duplicate_conflict",
            f"{what} already stands in row {first[0]}, which is stored, and differs in {titles}; {hint}",
            row=row.number,
            column=name.title,
            value=value,
        )

    # --- what each sheet makes of a row ---------------------------------------------------------------------------

    def _currency_of(self, row: Row, values: Mapping[str, Any], reading: _Reading, problems: list[Problem]) -> str:
        """The currency of a row's amounts: of its cells, the column 通貨, the header, else the installation's."""
        stated = {
            name: value.currency
            for name, value in values.items()
            if isinstance(value, Amount) and value.currency is not None
        }
        if values.get("currency") is not None:
            stated = {"currency": values["currency"], **stated}
        if len(set(stated.values())) > 1:
            listed = ", ".join(f"{reading.fields[n].title} in {c}" for n, c in stated.items())
            problems.append(
                reading.table.problem(
                    "two_currencies", f"one row has one currency, this one has {listed}", row=row.number
                )
            )
        default = reading.table.stated.currency or reading.context.settings.currency
        return next(iter(stated.values()), default)

    @staticmethod
    def _amount(values: Mapping[str, Any], name: str) -> Decimal | None:
        value = values.get(name)
        return value.amount if isinstance(value, Amount) else None

    @staticmethod
    def _is_simulated(values: Mapping[str, Any]) -> bool:
        if values.get("data_kind") is not None:
            return bool(values["data_kind"])
        notes = values.get("notes")
        return isinstance(notes, str) and marks_as_simulated(notes)

    @staticmethod
    def _audience(values: Mapping[str, Any]) -> dict[str, list[str]]:
        return {name: list(values.get(name) or ()) for name in VOCABULARIES}

    def _event(self, row: Row, values: dict[str, Any], reading: _Reading, problems: list[Problem]) -> dict[str, Any]:
        settings, noticed = reading.context.settings, reading.noticed
        day, moment = values["event_date"]
        if moment is None and values.get("starts_at") is not None:
            moment = datetime.combine(day, values["starts_at"], settings.zone)
        opens = values["registration_opens"][0] if values.get("registration_opens") else None
        if opens is not None and opens > day:
            noticed.append("registration opens after the event; that date is left out")
            opens = None
        registered, attended = values.get("actual_registrations"), values.get("actual_attendees")
        if registered is not None and attended is not None and attended > registered:
            noticed.append(
                "more attendees than registrations; stored as written (walk-ins?), the show-up rate counts as 100 %"
            )
        if values.get("capacity") == 0:
            noticed.append("a capacity of 0 is taken as not known")
            values["capacity"] = None
        return {
            "event_id": self._key(values, problems, reading),
            "name": values["name"],
            "event_date": day,
            "starts_at": moment,
            "time_zone": settings.time_zone,
            "category": values.get("category") or "other",
            "theme": values.get("theme"),
            "format": values["format"],
            "registration_opens": opens,
            "price": self._amount(values, "price"),
            "capacity": values.get("capacity"),
            "target_registrations": values.get("target_registrations"),
            "actual_registrations": registered,
            "actual_attendees": attended,
            "budget": self._amount(values, "budget"),
            "actual_cost": self._amount(values, "actual_cost"),
            "currency": self._currency_of(row, values, reading, problems),
            **self._audience(values),
            "notes": values.get("notes"),
            "is_simulated": self._is_simulated(values),
        }

    def _tactic_result(
        self, row: Row, values: dict[str, Any], reading: _Reading, problems: list[Problem]
    ) -> dict[str, Any]:
        tactic_id, tactic_name = values["tactic"]
        day = values["event_date"][0] if values.get("event_date") else None
        record = {
            "event_name": values["event_name"],
            "event_date": day,
            "tactic_id": tactic_id,
            "tactic_name": tactic_name,
            "theme": values.get("theme"),
            "format": values.get("format"),
            **self._audience(values),
        }
        figures = {
            "reach": values.get("reach"),
            "clicks": values.get("clicks"),
            "registrations": values.get("registrations"),
            "cost": self._amount(values, "cost"),
            "staff_hours": values.get("staff_hours"),
        }
        if all(v is None for v in figures.values()):
            problems.append(
                reading.table.problem(
                    "no_figures",
                    "the row has no figure at all: sends, clicks, registrations, cost or hours",
                    row=row.number,
                )
            )
        self._check_result(row, figures, self._amount(values, "reported_cpa"), reading)
        return {
            "result_id": self._key(values, problems, reading),
            **record,
            **figures,
            "currency": self._currency_of(row, values, reading, problems),
            "reported_cpa": self._amount(values, "reported_cpa"),
            "is_simulated": self._is_simulated(values),
        }

    @staticmethod
    def _check_result(row: Row, figures: Mapping[str, Any], reported: Decimal | None, reading: _Reading) -> None:
        """Figures that contradict one another: warned about, stored as written."""
        reach, clicks, registrations, cost = (figures[n] for n in ("reach", "clicks", "registrations", "cost"))
        if reach is not None and clicks is not None and clicks > reach:
            reading.noticed.append("more clicks than sends or views; stored as written")
        if reported is None or cost is None or not registrations:
            return
        expected = cost / registrations
        off = abs(reported - expected)
        if off <= max(Decimal(1), expected * CPA_TOLERANCE):
            return
        message = f"the CPA written, {reported:,.0f}, is not cost / registrations = {expected:,.0f}"
        if abs(reported - expected * CONSUMPTION_TAX) <= max(Decimal(1), expected * CPA_TOLERANCE):
            message += "; it seems to include tax"
        reading.noticed.append(f"{message}; both are stored, plans use cost and registrations")

    def _paid_media(
        self, row: Row, values: dict[str, Any], reading: _Reading, problems: list[Problem]
    ) -> dict[str, Any]:
        return {
            "media_id": self._key(values, problems, reading),
            "name": values["name"],
            "media_type": values.get("media_type"),
            **self._audience(values),
            "reach": values.get("reach"),
            "ctr": values.get("ctr"),
            "cvr": values.get("cvr"),
            "cpa": self._amount(values, "cpa"),
            "minimum_price": self._amount(values, "minimum_price"),
            "currency": self._currency_of(row, values, reading, problems),
            "notes": values.get("notes"),
        }

    def _insight(self, row: Row, values: dict[str, Any], reading: _Reading, problems: list[Problem]) -> dict[str, Any]:
        return {
            "insight_id": self._key(values, problems, reading),
            "text": values["text"],
            "impact": values.get("impact"),
            "confidence": values.get("confidence"),
            "applies_to": values.get("applies_to") or {},
        }


LAYOUTS = tuple(OrganiserSheet(sheet) for name, sheet in load_sheets().items() if name != REGISTRATIONS)
