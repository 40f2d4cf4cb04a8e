"""SendGrid: global and category statistics by day, as CSV of the web interface or JSON of ``/v3/stats``.

A mail with two categories counts under both, so categories never add up to the account. Opens are counted on the day of
opening: a day may have more unique opens than mails delivered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ingestion.headers import Synonyms
from ingestion.layouts import (
    Context,
    Layout,
    Match,
    Parser,
    dated_cell,
    is_blank,
    is_empty,
    is_total_word,
    learn,
    name_twins,
    problem_of,
    repeats_header,
    too_wide,
)
from ingestion.reading import Column, RawTable, Row
from ingestion.records import Blank, Outcome, Record, Rejected, Total
from ingestion.values import CellError, parse_count, parse_date, parse_text
from turnout.errors import Problem
from turnout.warehouse.tables import EMAIL_METRICS


class Statistics(Layout):
    """One row per day, or per day and category."""

    name = "sendgrid.stats"
    source = "sendgrid"
    table = "email_performance"
    family = "sendgrid"
    required = ("day", "delivered", "requests")

    def recognise(self, table: RawTable, synonyms: Synonyms | None = None) -> Match | None:
        match = super().recognise(table, synonyms)
        # Half of SendGrid's own words: "clicks" and "opens" alone are in any report.
        return match if match and sum(f in EMAIL_METRICS for f in match.fields) * 2 >= len(EMAIL_METRICS) else None

    def read(self, table: RawTable, context: Context) -> Iterator[Outcome]:
        match = self.recognise(table, context.synonyms)
        assert match is not None, "read is called on a table that recognise accepted"
        fields = match.fields
        name_twins(table, self.family, fields, context.synonyms)
        parsers = self.parsers(table, fields, context)
        for row in table.rows():
            yield self._row(table, row, fields, parsers, context)

    def parsers(self, table: RawTable, fields: Mapping[str, Column], context: Context) -> Mapping[str, Parser]:
        known = learn(table, dates={"day": fields["day"]}, numbers={}, hint=None)
        day = Parser(dated_cell(table, lambda c: parse_date(c, order=known.order["day"], today=context.today)))
        text = Parser(parse_text)
        counts = {f: Parser(lambda c, n=f: parse_count(c, what=n)) for f in fields if f in EMAIL_METRICS}  # type: ignore[misc]
        return {"day": day, **counts, **({"category": text} if "category" in fields else {})}

    def _row(
        self, table: RawTable, row: Row, fields: Mapping[str, Column], parsers: Mapping[str, Parser], context: Context
    ) -> Outcome:
        cells = row.cells
        first = cells[fields["day"].index] if fields["day"].index < len(cells) else None
        if all(is_blank(c) for c in cells):
            return Blank(row.number)
        if (repeated := repeats_header(table, row)) or is_total_word(first, context.synonyms):
            return Total(row.number, "repeated header" if repeated else str(first).strip())
        if (wide := too_wide(table, row)) is not None:
            return wide
        values: dict[str, Any] = {}
        problems: list[Problem] = []
        for name, parser in parsers.items():
            index = fields[name].index
            value = parser(cells[index]) if index < len(cells) else None
            if value.__class__ is CellError:
                problems.append(problem_of(table, row, fields[name], value))
                value = None
            values[name] = value
        if values["day"] is None and is_empty(first):
            title = fields["day"].title
            problems.append(
                table.problem(
                    "missing_value", "the day is missing; the row cannot be placed", row=row.number, column=title
                )
            )
        if problems:
            return Rejected(row.number, tuple(problems), self.kept(fields, row, context.synonyms), values["day"])
        record = {
            "date": values["day"],
            "category": values.get("category") or "",
            **{n: values.get(n) for n in EMAIL_METRICS},
        }
        return Record(self.table, row.number, record)


LAYOUTS = (Statistics(),)
