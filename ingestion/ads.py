"""What the campaign reports of all ad platforms have in common: one row per day (or period), campaign and ad.

The platforms' own modules say which columns they have, what a result is, and in whose time zone the days are.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any

from ingestion.ads_blocks import read_blocks
from ingestion.blocks import can_block
from ingestion.headers import Synonyms
from ingestion.layouts import (
    Block,
    Context,
    Conventions,
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
from ingestion.values import (
    Amount,
    Cell,
    CellError,
    DateOrder,
    DecimalMark,
    parse_count,
    parse_date,
    parse_money,
    parse_month,
    parse_number,
    parse_text,
    parse_week,
)
from turnout.errors import InputError, Problem
from turnout.identity import key_of, normalise_name

#: Fields that say whose row it is. In a row of sums they are empty or say "total".
IDENTITY = (
    "campaign", "campaign_id", "ad_group", "ad", "status", "account", "account_id", "day", "period_start", "week",
    "month",
)  # fmt: skip
#: Fields that say when: any of the first four makes rows dated.
DAYS = ("day", "period_start", "week", "month", "period_end")
COUNTS = ("impressions", "clicks", "clicks_all")
FRACTIONS = ("conversions", "results", "registrations", "leads")
TEXTS = ("campaign", "ad_group", "ad", "campaign_type", "result_kind", "account")
#: Columns an exporter writes twice itself, with the same content.
_OFTEN_TWICE = frozenset(("currency", "status", "account", "account_id", "campaign_type"))
_DAMAGED_ID = re.compile(r"^\d(?:[.,]\d+)?E\+?\d+$", re.IGNORECASE)
_CURRENCY_WORDS = {
    "円": "JPY",
    "yen": "JPY",
    "日本円": "JPY",
    "¥": "JPY",
    "￥": "JPY",
    "$": "USD",
    "€": "EUR",
    "euro": "EUR",
}
_CURRENCY_CODE = re.compile(r"^[A-Z]{3}$")


@lru_cache(maxsize=65_536)
def campaign_key(name: str) -> str:
    """The id of a campaign whose report states none."""
    return key_of(normalise_name(name), prefix="cmp_")


def parse_id(cell: Cell) -> str | None:
    """A platform's id as text. ``1.23457E+11`` has lost digits in a spreadsheet and counts as unknown.

    Raises:
        CellError: a formula that is not text of an id.
    """
    if isinstance(cell, str):
        cell = cell.removeprefix('="').removesuffix('"') if cell.startswith('="') else cell
    text = parse_text(cell)
    return None if text is None or _DAMAGED_ID.match(text) else text.removeprefix("'")


def parse_share(cell: Cell, mark: Any) -> Decimal | None:
    """Conversions: may be fractional, never negative.

    Raises:
        CellError: not a number, or negative.
    """
    value = parse_number(cell, mark=mark)
    if value is not None and value < 0:
        raise CellError("negative", f"{cell!r} is negative; conversions are 0 or more")
    return value


def parse_currency(cell: Cell) -> str | None:
    """An ISO 4217 code.

    Raises:
        CellError: ``not_a_currency``.
    """
    text = parse_text(cell)
    if text is None:
        return None
    code = _CURRENCY_WORDS.get(text.casefold(), text.upper())
    if not _CURRENCY_CODE.match(code):
        raise CellError("not_a_currency", f"{text!r} is not a currency; write an ISO code such as JPY or USD")
    return code


def _month(first: date | None) -> tuple[date, date] | None:
    """A month's first and last day, of its first."""
    return None if first is None else (first, first.replace(day=calendar.monthrange(first.year, first.month)[1]))


def _within(span: tuple[date, date], period: tuple[date, date] | None) -> tuple[date, date]:
    """The part of a week or month that lies in the period the report states: of the first and last it is a part."""
    if period is None or span[1] < period[0] or span[0] > period[1]:
        return span
    return max(span[0], period[0]), min(span[1], period[1])


@dataclass
class Columns:
    """The columns of one table with their parsers, and what its rows are compared with."""

    index: Mapping[str, int]
    parsers: Mapping[str, Parser]
    plan: Sequence[tuple[str, int, Mapping[str, Any], Parser]]
    words: Callable[[Cell], bool]
    empty: Callable[[Cell], bool]
    identity: tuple[int, ...]
    #: Columns of amounts and fractions → their decimal mark.
    mark: Mapping[str, DecimalMark | None]
    counts: Sequence[str]
    days: Sequence[str]
    #: The id of a campaign whose report states none, by its name.
    key: Callable[[str], str]


class AdsLayout(Layout):
    """A campaign report. Subclasses say what is particular to a platform.

    Attributes:
        dated: whether rows have a day; ``False`` is a report over the period stated above its header.
        date_hints: language → order of dates known of this platform's exports.
    """

    table = "ad_performance"
    dated = True
    date_hints: Mapping[str, DateOrder] = {}

    def recognise(self, table: RawTable, synonyms: Synonyms | None = None) -> Match | None:
        match = super().recognise(table, synonyms)
        if match is None or "spend" not in match.fields:
            return match
        return match if self.has_day(match) == self.dated else None

    def has_day(self, match: Match) -> bool:
        """Whether the table's rows say their day."""
        return any(f in match.fields for f in DAYS[:4])

    def results(self, value: Callable[[str], Any], fields: Mapping[str, Column]) -> dict[str, Decimal | None]:
        """The platform's claims of one row: conversions, registrations, leads; unknown is ``None``."""
        return {
            "conversions": value("conversions"),
            "registrations": value("registrations"),
            "leads": value("leads"),
        }

    def account_id(self, cell: Cell) -> str | None:
        """The id of an account as the platform's API writes it: one account must not have two names."""
        return parse_id(cell)

    def warn(self, fields: Mapping[str, Column], context: Context) -> None:
        """Add what a user should know of the columns."""

    def read(self, table: RawTable, context: Context) -> Iterator[Outcome]:
        fields, columns = self._begin(table, context)
        for row in table.rows():
            yield self._row(table, row, fields, columns, context)

    def read_blocks(self, table: RawTable, context: Context) -> Iterator[Block] | None:
        if not can_block(table):
            return None
        fields, columns = self._begin(table, context)
        return read_blocks(
            self, table, fields, columns, context, lambda row: self._row(table, row, fields, columns, context)
        )

    def _begin(self, table: RawTable, context: Context) -> tuple[Mapping[str, Column], Columns]:
        """Settle what the columns hold."""
        match = self.recognise(table, context.synonyms)
        assert match is not None, "read is called on a table that recognise accepted"
        period = table.stated.period
        if not self.dated and period is None:
            raise InputError([
                table.problem(
                    "no_period",
                    "the report has no day column and states no period above its header; add the segment Day and "
                    "export again, or keep the lines above the header",
                    row=table.header_row,
                )
            ])  # fmt: skip
        fields = match.fields
        name_twins(table, self.family, {f: c for f, c in fields.items() if f not in _OFTEN_TWICE}, context.synonyms)
        known = learn(
            table,
            dates={f: c for f, c in fields.items() if f in DAYS},
            numbers={f: c for f, c in fields.items() if f == "spend" or f in FRACTIONS},
            hint=self.date_hints.get(table.language or ""),
        )
        columns = self._columns(table, fields, known, context)
        self.warn(fields, context)
        if "currency" not in fields and table.stated.currency is None:
            context.warnings.append(f"the report names no currency: {context.settings.currency} is assumed")
        return fields, columns

    def parsers(self, table: RawTable, fields: Mapping[str, Column], context: Context) -> Mapping[str, Parser]:
        known = learn(
            table,
            dates={f: c for f, c in fields.items() if f in DAYS},
            numbers={f: c for f, c in fields.items() if f == "spend" or f in FRACTIONS},
            hint=self.date_hints.get(table.language or ""),
        )
        return self._columns(table, fields, known, context).parsers

    def _columns(self, table: RawTable, fields: Mapping[str, Column], known: Conventions, context: Context) -> Columns:
        parsers: dict[str, Parser] = {}
        for name in fields:
            if name in DAYS:
                parse = {"week": parse_week, "month": parse_month}.get(name, parse_date)
                day = partial(parse, order=known.order[name], today=context.today)
                parsers[name] = Parser(dated_cell(table, day))
            elif name in COUNTS:
                parsers[name] = Parser(lambda c, n=name: parse_count(c, what=n))  # type: ignore[misc]
            elif name in FRACTIONS:
                parsers[name] = Parser(lambda c, m=known.mark[name]: parse_share(c, m))  # type: ignore[misc]
            elif name == "spend":
                parsers[name] = Parser(lambda c, m=known.mark[name]: parse_money(c, mark=m))  # type: ignore[misc]
            elif name == "currency":
                parsers[name] = Parser(parse_currency)
            elif name == "campaign_id":
                parsers[name] = Parser(parse_id)
            elif name == "account_id":
                parsers[name] = Parser(self.account_id)
            elif name in TEXTS:
                parsers[name] = Parser(parse_text)
        words = Parser(lambda c: is_total_word(c, context.synonyms))
        # An exporter's first column says "Total" whether or not it is one of those used.
        identity = tuple(dict.fromkeys((0, *(fields[f].index for f in IDENTITY if f in fields))))
        plan = [(name, fields[name].index, parser.cache, parser) for name, parser in parsers.items()]
        return Columns(
            {f: c.index for f, c in fields.items()}, parsers, plan, words, Parser(is_empty), identity, known.mark,
            COUNTS, DAYS, campaign_key,
        )  # fmt: skip

    def _row(
        self, table: RawTable, row: Row, fields: Mapping[str, Column], columns: Columns, context: Context
    ) -> Outcome:
        cells = row.cells
        width = len(cells)
        name_at = columns.index["campaign"]
        name_cell = cells[name_at] if name_at < width else None
        if (
            columns.empty(name_cell)
            or columns.words(name_cell)
            or columns.words(cells[0])
            or (name_cell == table.columns[name_at].name)
        ):
            special = self._special(table, row, fields, columns)
            if special is not None:
                return special
        if width > len(table.columns) and (wide := too_wide(table, row)) is not None:
            return wide
        values: dict[str, Any] = {}
        problems: list[Problem] = []
        for name, index, cache, parser in columns.plan:
            cell = cells[index] if index < width else None
            try:
                value = cache[cell]  # type: ignore[index]
            except KeyError:
                value = parser(cell)
            if value.__class__ is CellError:
                problems.append(problem_of(table, row, fields[name], value))
                value = None
            values[name] = value
        day, end = self.period(table, values)
        if day is None and not problems:
            name = next((f for f in DAYS[:4] if f in fields), "day")
            problems.append(self._missing(table, row, fields, name, "a day"))
        elif day is not None and end is not None and end < day:
            problems.append(
                table.problem("bad_period", f"the period ends {end}, before it starts {day}", row=row.number)
            )
        if values["campaign"] is None and not any(p.column == fields["campaign"].title for p in problems):
            problems.append(self._missing(table, row, fields, "campaign", "the campaign's name"))
        if problems:
            return Rejected(row.number, tuple(problems), self.kept(fields, row, context.synonyms), day)
        record = self._record(values, table, fields, context)
        return Record(self.table, row.number, {"date": day, "period_end": end, **record})

    def _special(
        self, table: RawTable, row: Row, fields: Mapping[str, Column], columns: Columns
    ) -> Blank | Total | None:
        """A blank row or a row of sums, or ``None``: a row like any other, or a defective one."""
        cells = row.cells
        if all(is_blank(c) for c in cells):
            return Blank(row.number)
        said = [i for i in columns.identity if i < len(cells) and columns.words(cells[i])]
        others = [i for i in columns.identity if i < len(cells) and i not in said and not is_empty(cells[i])]
        day_at = {fields[f].index for f in DAYS[:4] if f in fields}
        if (repeated := repeats_header(table, row)) or (said and not [i for i in others if i not in day_at]):
            sums = {} if repeated else self._sums(cells, fields, columns)
            return Total(row.number, "repeated header" if repeated else str(cells[said[0]]).strip(), sums)
        name_at = columns.index["campaign"]
        if name_at in said or not is_empty(cells[name_at] if name_at < len(cells) else None) or said:
            return None
        # No word says so, and no campaign, ad or account is named: sums, unless the row has a day of its own.
        if [i for i in others if i not in day_at and i in columns.index.values()]:
            return None
        if self.dated and day_at and not self._spans_days(cells, fields, columns):
            return None
        metrics = [columns.index[f] for f in (*COUNTS, "spend", *FRACTIONS) if f in columns.index]
        has_figures = any(i < len(cells) and not is_empty(cells[i]) for i in metrics)
        sums = self._sums(cells, fields, columns) if has_figures else {}
        return Total(row.number, "row without a campaign", sums) if has_figures else None

    def _sums(self, cells: Sequence[Cell], fields: Mapping[str, Column], columns: Columns) -> dict[str, Decimal]:
        """The figures of a row of sums, by warehouse column; those that cannot be read are left out."""

        def value(name: str) -> Any:
            index = columns.index.get(name)
            found = columns.parsers[name](cells[index]) if index is not None and index < len(cells) else None
            return None if found.__class__ is CellError else found

        spend = value("spend")
        figures = {
            "impressions": value("impressions"),
            "clicks": value("clicks" if "clicks" in fields else "clicks_all"),
            "spend": spend.amount if isinstance(spend, Amount) else None,
            **self.results(value, fields),
        }
        return {name: Decimal(figure) for name, figure in figures.items() if figure is not None}

    def _spans_days(self, cells: Any, fields: Mapping[str, Column], columns: Columns) -> bool:
        """Whether a row of a daily report covers no single day: its day is empty, or its period is longer."""

        def day(name: str) -> Any:
            index = columns.index.get(name)
            value = columns.parsers[name](cells[index]) if index is not None and index < len(cells) else None
            return None if value.__class__ is CellError else value

        if day("week") is not None or day("month") is not None:
            return False
        start = day("day") or day("period_start")
        end = day("period_end")
        return start is None or (end is not None and end != start)

    def _missing(self, table: RawTable, row: Row, fields: Mapping[str, Column], name: str, what: str) -> Problem:
        title = fields[name].title if name in fields else name
        return table.problem(
            "missing_value", f"{what} is missing; the row cannot be placed", row=row.number, column=title
        )

    def period(self, table: RawTable, values: Mapping[str, Any]) -> tuple[date | None, date | None]:
        """First and last day of a row."""
        if not self.dated:
            assert table.stated.period is not None
            return table.stated.period
        day = values.get("day")
        if day is not None:
            return day, day
        for span in (values.get("week"), _month(values.get("month"))):
            if span is not None:
                return _within(span, table.stated.period)
        start = values.get("period_start")
        return start, values.get("period_end") or start

    def _record(
        self,
        values: Mapping[str, Any],
        table: RawTable,
        fields: Mapping[str, Column],
        context: Context,
    ) -> dict[str, Any]:
        spend: Amount | None = values.get("spend")
        currency = values.get("currency") or (spend.currency if spend else None) or table.stated.currency
        clicks = values.get("clicks")
        record = {
            "campaign_id": values.get("campaign_id") or campaign_key(values["campaign"]),
            "campaign_name": values["campaign"],
            "campaign_type": values.get("campaign_type"),
            "ad_group": values.get("ad_group"),
            "ad_name": values.get("ad"),
            "impressions": values.get("impressions"),
            "clicks": values.get("clicks_all") if clicks is None and "clicks" not in fields else clicks,
            "spend": None if spend is None else spend.amount,
            "currency": currency or context.settings.currency,
            **self.results(values.get, fields),
        }
        account = values.get("account_id") or values.get("account")
        if account is not None:
            record["account"] = account
        return record
