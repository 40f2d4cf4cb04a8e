"""Campaign reports some thousand rows at a time: what :meth:`ingestion.ads.AdsLayout._row` says, for columns at once.

Texts, days and ids are parsed once per different cell, by the very parsers that rows use. Numbers of the plain forms
(``1234``, ``1234.56``, ``1,234.56``, and with the comma as decimal mark) go straight into Arrow's integers and
decimals; other cells to the parser. Rows that are not plain records (sums, blanks, faults, other widths) are handed to
the row's own code. So is a handful of every block's plain rows, to be compared: should the two ever differ, the block
is read row by row and the difference logged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog
from numpy.typing import NDArray

from ingestion.blocks import CellBlock, cell_blocks, texts
from ingestion.layouts import Block, Context, Parser, is_blank
from ingestion.reading import Column, RawTable, Row
from ingestion.records import Outcome, Record
from ingestion.staging import AMOUNT, SOURCE_ROW, amount, arrow_type, table_of
from ingestion.values import Amount, CellError, DecimalMark
from turnout.warehouse import tables as wh

if TYPE_CHECKING:
    from ingestion.ads import AdsLayout, Columns

log = structlog.get_logger(__name__)

Mask = NDArray[np.bool_]
Codes = NDArray[np.int64]

#: Rows of each block that are also read by the row's own code.
_COMPARED = 6

#: Unsigned digits with at most one decimal mark: no other reading exists in a column with this mark.
_PLAIN: Mapping[DecimalMark, str] = {
    ".": r"^[0-9]{1,13}(?:\.[0-9]{1,12})?$",
    ",": r"^[0-9]{1,13}(?:,[0-9]{1,12})?$",
}
#: Thousands in groups. A first group that begins with 0 is none.
_GROUPED: Mapping[DecimalMark, str] = {
    ".": r"^[1-9][0-9]{0,2}(?:,[0-9]{3}){1,3}(?:\.[0-9]{1,12})?$",
    ",": r"^[1-9][0-9]{0,2}(?:\.[0-9]{3}){1,3}(?:,[0-9]{1,12})?$",
}
_PROVEN = r"^[0-9]{1,13}(?:\.(?:[0-9]{1,2}|[0-9]{4,12}))?$"
_WHOLE = r"^[0-9]{1,13}$"
_GROUPED_WHOLE = r"^[1-9][0-9]{0,2}(?:(?:,[0-9]{3}){1,3}|(?:\.[0-9]{3}){1,3})$"
_WIDE = pa.decimal128(28, 12)


@dataclass
class _Reader:
    """One table being read."""

    layout: AdsLayout
    table: RawTable
    fields: Mapping[str, Column]
    columns: Columns
    context: Context
    row: Callable[[Row], Outcome]
    in_rows: bool = False
    _nothing: pa.Table = field(init=False)

    def __post_init__(self) -> None:
        self._nothing = pa.table({SOURCE_ROW: pa.array([], pa.int64()), "date": pa.array([], pa.date32())})

    def read(self, block: CellBlock) -> Block:
        count = len(block.numbers)
        everything = np.arange(count)
        if self.in_rows or block.width <= max(index for _, index, _, _ in self.columns.plan):
            return Block(self._nothing, self._outcomes(block, everything))
        try:
            records, plain = self._records(block)
        except _NotInColumns:
            self.in_rows = True
            return Block(self._nothing, self._outcomes(block, everything))
        at = np.flatnonzero(plain)
        records = records if len(at) == count else records.take(pa.array(at))
        if not self._agrees(block, records, at):
            log.error("columns and rows differ", file=self.table.file, layout=self.layout.name)
            self.in_rows = True
            return Block(self._nothing, self._outcomes(block, everything))
        return Block(records, self._outcomes(block, np.flatnonzero(~plain)))

    def _outcomes(self, block: CellBlock, at: NDArray[np.int64]) -> list[Outcome]:
        rows = block.rows(at) if len(at) else []
        if block.others:
            rows = sorted([*rows, *block.others], key=lambda r: r.number)
        return [self.row(row) for row in rows]

    def _agrees(self, block: CellBlock, records: pa.Table, at: NDArray[np.int64]) -> bool:
        """Whether a few rows are what the row's own code makes of them."""
        if not len(at):
            return True
        some = np.unique(np.linspace(0, len(at) - 1, _COMPARED).astype(np.int64))
        outcomes = [self.row(row) for row in block.rows(at[some])]
        alike = [o for o in outcomes if isinstance(o, Record)]
        if len(alike) < len(outcomes):
            return False
        expected = table_of(wh.ad_performance, alike)
        found = records.take(pa.array(some))
        names = {*found.column_names, *expected.column_names}
        return all(_column(found, n).equals(_column(expected, n)) for n in names)

    # --- columns ------------------------------------------------------------------------------------------------

    def _records(self, block: CellBlock) -> tuple[pa.Table, Mask]:
        """All rows as if they were records, and which of them are."""
        count = len(block.numbers)
        special = np.zeros(count, dtype=bool)
        name_at = self.columns.index["campaign"]
        for index in {0, name_at}:
            at, cells = texts(block.columns[index])
            said = [self.columns.words(c) for c in cells]
            if index == name_at:
                title = self.table.columns[name_at].name
                said = [s or self.columns.empty(c) or c == title for s, c in zip(said, cells, strict=True)]
            special |= np.array(said, dtype=bool)[at]
        for index in range(len(self.table.columns), block.width):
            at, cells = texts(block.columns[index])
            special |= ~np.array([is_blank(c) for c in cells], dtype=bool)[at]
        parsed: dict[str, _Texts] = {}
        numbers: dict[str, _Numbers] = {}
        for name, index, _, parser in self.columns.plan:
            cells = block.columns[index]
            if name in self.columns.counts:
                numbers[name] = counts(cells, parser)
                special |= numbers[name].faulty
            elif name in self.columns.mark:
                numbers[name] = amounts(cells, parser, self.columns.mark[name])
                special |= numbers[name].faulty
            else:
                parsed[name] = _parsed(cells, parser)
                special |= parsed[name].faulty
        first, last = self._period(parsed, count)
        special |= (first == _NO_DAY) | ((last != _NO_DAY) & (last < first))
        campaign = parsed["campaign"]
        special |= campaign.missing
        records = {
            SOURCE_ROW: pa.array(block.numbers),
            "date": _days(first),
            "period_end": _days(last),
            "campaign_id": self._campaign_id(parsed),
            "campaign_name": campaign.column,
            "spend": numbers["spend"].column if "spend" in numbers else pa.nulls(count, AMOUNT),
            "currency": self._currency(parsed, numbers, count),
            **self._results(parsed, numbers, count),
        }
        for name, source in (("campaign_type", "campaign_type"), ("ad_group", "ad_group"), ("ad_name", "ad")):
            records[name] = parsed[source].column if source in parsed else pa.nulls(count, pa.string())
        clicks = "clicks" if "clicks" in self.fields else "clicks_all"
        for name, source in (("impressions", "impressions"), ("clicks", clicks)):
            records[name] = numbers[source].column if source in numbers else pa.nulls(count, pa.int64())
        accounts = [parsed[n].column for n in ("account_id", "account") if n in parsed]
        if accounts:
            records["account"] = pc.coalesce(*accounts)
        return pa.table(records), ~special

    def _period(self, parsed: Mapping[str, _Texts], count: int) -> tuple[Codes, Codes]:
        """First and last day of each row, asked once per different combination of cells."""
        names = [n for n in self.columns.days if n in parsed]
        code = np.zeros(count, dtype=np.int64)
        for name in names:
            code = code * len(parsed[name].values) + parsed[name].at
        different, at = np.unique(code, return_inverse=True)
        spans = []
        for combination in different.tolist():
            values: dict[str, Any] = {}
            for name in reversed(names):
                combination, position = divmod(combination, len(parsed[name].values))  # noqa: PLW2901
                values[name] = parsed[name].values[position]
            spans.append([
                _NO_DAY if day is None else day.toordinal() - _EPOCH for day in self.layout.period(self.table, values)
            ])  # fmt: skip
        numbers = np.array(spans, dtype=np.int64).reshape(-1, 2)[at]
        return numbers[:, 0], numbers[:, 1]

    def _campaign_id(self, parsed: Mapping[str, _Texts]) -> pa.Array:
        campaign = parsed["campaign"]
        keys = pa.array([None if v is None else self.columns.key(v) for v in campaign.values], pa.string())
        by_name = keys.take(pa.array(campaign.at))
        stated = parsed.get("campaign_id")
        # an empty text is no id, as in a row
        return by_name if stated is None else pc.coalesce(_without_empty(stated), by_name)

    def _currency(self, parsed: Mapping[str, _Texts], numbers: Mapping[str, _Numbers], count: int) -> pa.Array:
        fallback = self.table.stated.currency or self.context.settings.currency
        said = [_without_empty(parsed["currency"])] if "currency" in parsed else []
        if "spend" in numbers and numbers["spend"].currency is not None:
            said.append(numbers["spend"].currency)
        if not said:
            return pa.array([fallback], pa.string()).take(pa.array(np.zeros(count, dtype=np.int64)))
        return pc.coalesce(*said, fallback)

    def _results(
        self, parsed: Mapping[str, _Texts], numbers: Mapping[str, _Numbers], count: int
    ) -> dict[str, pa.Array]:
        """The platform's claims. Which figure becomes which claim is asked once per kind and pattern of unknowns.

        Raises:
            _NotInColumns: the layout computes with the figures instead of choosing among them.
        """
        names = [n for n in self.columns.mark if n in numbers and n != "spend"]
        kind = parsed.get("result_kind")
        code = np.zeros(count, dtype=np.int64) if kind is None else kind.at
        for name in names:
            code = code * 2 + np.asarray(numbers[name].column.is_valid())
        different, at = np.unique(code, return_inverse=True)
        chosen: dict[str, list[str | None]] = {}
        for combination in different.tolist():
            given: dict[str, Any] = {}
            for name in reversed(names):
                combination, known = divmod(combination, 2)  # noqa: PLW2901
                given[name] = _Figure(name) if known else None
            if kind is not None:
                given["result_kind"] = kind.values[combination]
            for claim, figure in self._claims(given).items():
                chosen.setdefault(claim, []).append(figure)
        return {claim: self._chosen(figures, at, numbers, count) for claim, figures in chosen.items()}

    def _claims(self, given: Mapping[str, Any]) -> dict[str, str | None]:
        def value(name: str) -> Any:
            if name in self.fields and name not in given:
                raise _NotInColumns(name)
            return given.get(name)

        try:
            claims = self.layout.results(value, self.fields)
        except (TypeError, AttributeError, ArithmeticError) as error:
            raise _NotInColumns from error
        if not all(v is None or isinstance(v, _Figure) for v in claims.values()):
            raise _NotInColumns
        return {name: v.name if isinstance(v, _Figure) else None for name, v in claims.items()}

    def _chosen(
        self, figures: Sequence[str | None], at: Codes, numbers: Mapping[str, _Numbers], count: int
    ) -> pa.Array:
        column = pa.nulls(count, AMOUNT)
        for name in dict.fromkeys(f for f in figures if f is not None):
            of_name = np.array([f == name for f in figures], dtype=bool)[at]
            source = numbers[name].column
            column = source if of_name.all() else pc.if_else(pa.array(of_name), source, column)
        return column


class _NotInColumns(Exception):  # noqa: N818 - a way out, not a fault
    """What the layout does is not done in columns."""


@dataclass(frozen=True)
class _Figure:
    """Stands for a row's figure while a layout chooses among them."""

    name: str


def read_blocks(
    layout: AdsLayout,
    table: RawTable,
    fields: Mapping[str, Column],
    columns: Columns,
    context: Context,
    row: Callable[[Row], Outcome],
) -> Iterator[Block]:
    """The outcomes of all rows.

    Args:
        row: what one row is.
    """
    reader = _Reader(layout, table, fields, columns, context, row)
    for block in cell_blocks(table):
        yield reader.read(block)


# --- cells ------------------------------------------------------------------------------------------------------------

_EPOCH = date(1970, 1, 1).toordinal()
_NO_DAY = int(np.iinfo(np.int32).min)


def _days(numbers: Codes) -> pa.Array:
    return pa.array(numbers.astype(np.int32), pa.int32(), mask=numbers == _NO_DAY).cast(pa.date32())


def _column(rows: pa.Table, name: str) -> pa.Array:
    if name not in rows.column_names:
        return pa.nulls(len(rows), arrow_type(wh.ad_performance, name))
    return rows[name].combine_chunks()


@dataclass(frozen=True)
class _Texts:
    """A column of which each different cell was parsed once. A faulty one's value is ``None``."""

    at: Codes
    values: list[Any]
    faulty: Mask

    @property
    def column(self) -> pa.Array:
        return pa.array(self.values, pa.string()).take(pa.array(self.at))

    @property
    def missing(self) -> Mask:
        found: Mask = np.array([v is None for v in self.values], dtype=bool)[self.at]
        return found


def _parsed(cells: pa.StringArray, parser: Parser) -> _Texts:
    at, different = texts(cells)
    values = [parser(cell) for cell in different]
    faulty = np.array([v.__class__ is CellError for v in values], dtype=bool)[at]
    return _Texts(at, [None if v.__class__ is CellError else v for v in values], faulty)


def _without_empty(column: _Texts) -> pa.Array:
    return pa.array([v or None for v in column.values], pa.string()).take(pa.array(column.at))


@dataclass(frozen=True)
class _Numbers:
    """A column of numbers; ``currency`` is what the cells themselves state, if any does."""

    column: pa.Array
    faulty: Mask
    currency: pa.Array | None = None


def amounts(cells: pa.StringArray, parser: Parser, mark: DecimalMark | None) -> _Numbers:
    """Amounts and fractional counts as decimals of six places.

    Args:
        parser: what a cell is; asked about every cell of another form than the plain ones.
        mark: the column's decimal mark; ``None`` where it has both, and a point counts where it can be nothing else.
    """
    if mark is None:
        return _numbers(cells, parser, ((_PROVEN, lambda found: found),), _decimals, AMOUNT)
    other = "," if mark == "." else "."

    def grouped(found: pa.StringArray) -> pa.StringArray:
        return pc.replace_substring(pc.replace_substring(found, other, ""), mark, ".")

    forms = ((_PLAIN[mark], lambda found: pc.replace_substring(found, mark, ".")), (_GROUPED[mark], grouped))
    return _numbers(cells, parser, forms, _decimals, AMOUNT)


def counts(cells: pa.StringArray, parser: Parser) -> _Numbers:
    """Whole numbers."""

    def grouped(found: pa.StringArray) -> pa.StringArray:
        return pc.replace_substring_regex(found, "[.,]", "")

    forms = ((_WHOLE, lambda found: found), (_GROUPED_WHOLE, grouped))
    return _numbers(cells, parser, forms, lambda found: found.cast(pa.int64()), pa.int64())


def _decimals(digits: pa.StringArray) -> pa.Array:
    try:
        return digits.cast(AMOUNT)
    except pa.ArrowInvalid:  # more than six places
        return pc.round(digits.cast(_WIDE), 6, "half_towards_infinity").cast(AMOUNT)


def _numbers(
    cells: pa.StringArray,
    parser: Parser,
    forms: Sequence[tuple[str, Callable[[pa.StringArray], pa.StringArray]]],
    read: Callable[[pa.StringArray], pa.Array],
    kind: pa.DataType,
) -> _Numbers:
    """Cells of each form at once, the rest by the parser."""
    left = np.arange(len(cells))
    parts: list[pa.Array] = []
    places: list[NDArray[np.int64]] = []
    faulty = np.zeros(len(cells), dtype=bool)
    currency = None
    for pattern, digits in forms:
        if not len(left):
            break
        found = cells if len(left) == len(cells) else cells.take(pa.array(left))
        fits = np.asarray(pc.match_substring_regex(found, pattern))
        if fits.all():
            parts.append(read(digits(found)))
            places.append(left)
            left = left[:0]
        elif fits.any():
            parts.append(read(digits(found.filter(pa.array(fits)))))
            places.append(left[fits])
            left = left[~fits]
    if len(left):
        at, different = texts(cells.take(pa.array(left)))
        values = [_stored(parser(cell), kind) for cell in different]
        faulty[left] = np.array([v is _FAULTY for v, _ in values], dtype=bool)[at]
        parts.append(pa.array([None if v is _FAULTY else v for v, _ in values], kind).take(pa.array(at)))
        places.append(left)
        if any(code for _, code in values):
            said = np.full(len(cells), None, dtype=object)
            said[left] = np.array([code for _, code in values], dtype=object)[at]
            currency = pa.array(said, pa.string())
    if len(parts) == 1 and len(places[0]) == len(cells):
        column = parts[0]
    else:
        back = np.empty(len(cells), dtype=np.int64)
        back[np.concatenate(places)] = np.arange(len(cells))
        column = pa.concat_arrays(parts).take(pa.array(back))
    return _Numbers(column, faulty, currency)


_FAULTY = object()


def _stored(value: Any, kind: pa.DataType) -> tuple[Any, str | None]:
    """A parsed cell as it is stored, and the currency it states."""
    if value.__class__ is CellError:
        return _FAULTY, None
    code = value.currency if isinstance(value, Amount) else None
    value = value.amount if isinstance(value, Amount) else value
    if isinstance(value, Decimal) and kind == AMOUNT:
        try:
            return amount(value), code
        except (ValueError, ArithmeticError):
            return _FAULTY, None
    return value, code
