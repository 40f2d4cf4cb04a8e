"""Layouts: what a table is, and how its rows become records.

A layout names the family of headers it understands (a section of ``headers*.yaml``) and the fields it cannot do
without. :func:`recognise` picks the one that explains most columns; the file's name plays no part. One module per
source holds its layouts in a tuple ``LAYOUTS``; :data:`MODULES` lists them.
"""

from __future__ import annotations

import importlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ingestion.blocks import can_block, cell_blocks
from ingestion.headers import Synonyms, header_key, load_synonyms
from ingestion.lookalikes import lookalike
from ingestion.personal import identity_salt, scrub
from ingestion.reading import Column, RawTable, Row
from ingestion.records import Outcome, Rejected
from ingestion.values import (
    Cell,
    CellError,
    DateColumn,
    DateOrder,
    DecimalMark,
    NumberColumn,
    fold,
    is_unknown,
    language_mark,
    shown,
)
from turnout.errors import InputError, Problem
from turnout.settings import Settings

#: In a cell of a sheet that is there for people only: how to fill a template in, and the words to choose from.
NOTES_MARKER = "(turnout:notes)"

#: Where layouts live, in the order in which they are asked.
MODULES = (
    "ingestion.google_ads",
    "ingestion.meta_ads",
    "ingestion.linkedin_ads",
    "ingestion.sendgrid",
    "ingestion.registrations",
    "ingestion.spreadsheets",
)


@dataclass
class Context:
    """What a layout may need to know beside the table.

    Attributes:
        account: of rows whose file names none: the inbox folder, or the caller's choice.
        event: the event a registration list belongs to where the list does not say.
        today: for checks of plausible dates; ``None`` is the current day.
        is_part: set by a layout whose table is one part of its list, the other sheets of the file being the rest.
        event_days: what a list calls its event → days of the events the warehouse knows by that, in order.
        warnings: a layout adds what a user should know of the whole table.
    """

    settings: Settings
    account: str = ""
    event: str | None = None
    synonyms: Synonyms = field(default_factory=load_synonyms)
    today: date | None = None
    event_days: Callable[[str], Sequence[date]] | None = None
    is_part: bool = False
    warnings: list[str] = field(default_factory=list)

    @cached_property
    def salt(self) -> str:
        """The salt of hashed identities; made in the home folder when first needed."""
        return identity_salt(self.settings)


@dataclass(frozen=True)
class Match:
    """How well a layout explains a table.

    Attributes:
        fields: field → the column that holds it.
        missing: required fields that no column holds, as the table's language spells them. Not empty: cannot be read.
        score: columns explained, plus their share of all columns; comparable between layouts.
    """

    fields: Mapping[str, Column]
    missing: tuple[str, ...]
    score: float


@dataclass(frozen=True)
class Block:
    """Outcomes of consecutive rows.

    Attributes:
        records: rows for the layout's table, which holds facts: columns of the warehouse's types
            (:func:`ingestion.staging.arrow_type`), and ``source_row``.
        outcomes: of the other rows, in order; records among them are merged with those above by ``source_row``.
    """

    records: pa.Table
    outcomes: Sequence[Outcome]


@dataclass(frozen=True)
class ColumnUse:
    """What a column was taken for: a field of the layout, ``personal`` (dropped), or nothing.

    Attributes:
        note: what stands in brackets at the header's end.
        why: what ties the header to the field.
        samples: some of its cells as they are read.
        suggestions: of a column nobody knows, the fields whose headers resemble it.
    """

    column: str
    field: str | None
    note: str = ""
    why: str = ""
    samples: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()


class Layout(ABC):
    """One kind of table.

    Attributes:
        name: e.g. ``google_ads.campaign_daily``; stored with every file.
        source, table: the warehouse's words for where rows come from and go to.
        family: section of ``headers*.yaml``.
        required: fields that must have a column.
        private: fields whose cells are never quoted in quarantine, beside those whose headers are personal.
    """

    name: str
    source: str
    table: str
    family: str
    required: tuple[str, ...] = ()
    private: tuple[str, ...] = ()

    def recognise(self, table: RawTable, synonyms: Synonyms | None = None) -> Match | None:
        """How well this layout explains ``table``; ``None`` when not at all."""
        synonyms = synonyms or load_synonyms()
        fields = bind(table, self.family, synonyms)
        if not fields:
            return None
        missing = tuple(synonyms.spelling(self.family, f, table.language) for f in self.required if f not in fields)
        return Match(fields, missing, len(fields) + len(fields) / max(len(table.columns), 1))

    @abstractmethod
    def read(self, table: RawTable, context: Context) -> Iterator[Outcome]:
        """Make exactly one outcome of every row of ``table``, in order.

        Raises:
            InputError: the table as a whole cannot be used.
        """

    def read_blocks(self, table: RawTable, context: Context) -> Iterator[Block] | None:
        """Like :meth:`read`, some thousand rows at a time, with those that become records as columns.

        ``None`` where the layout, or this table, is read row by row only.

        Raises:
            InputError: the table as a whole cannot be used; raised here or while the blocks are taken.
        """
        return None

    def time_zone(self, table: RawTable, context: Context) -> str:
        """The zone the table's days are in: what it states, else the installation's."""
        return table.stated.time_zone or context.settings.time_zone

    def parsers(self, table: RawTable, fields: Mapping[str, Column], context: Context) -> Mapping[str, Parser]:
        """Field → how its cells are read, to show some; fields left out are shown as written.

        Raises:
            InputError: the table as a whole cannot be used.
        """
        return {}

    def explain(self, table: RawTable, synonyms: Synonyms | None = None) -> list[ColumnUse]:
        """What each column was taken for."""
        synonyms = synonyms or load_synonyms()
        match = self.recognise(table, synonyms)
        used = {column.index: name for name, column in (match.fields if match else {}).items()}
        return [
            ColumnUse(c.title, used.get(c.index) or ("personal" if synonyms.personal(c.name) else None), c.note or "")
            for c in table.columns
        ]

    def kept(self, fields: Mapping[str, Column], row: Row, synonyms: Synonyms) -> dict[str, str]:
        """The cells of a row that a quarantine may hold: known fields, and of these no personal cell."""
        kept: dict[str, str] = {}
        for name, column in fields.items():
            if name in self.private or synonyms.personal(column.name) or column.index >= len(row.cells):
                continue
            cell = row.cells[column.index]
            if cell is not None and cell != "" and scrub(text := str(cell)) == text:
                kept[column.title] = text[:500]
        return kept


def bind(table: RawTable, family: str, synonyms: Synonyms) -> dict[str, Column]:
    """Field → column. A header listed as it stands wins over one that matches without its bracket; then the first."""
    exact: dict[str, Column] = {}
    loose: dict[str, Column] = {}
    for column in table.columns:
        if (name := synonyms.field(family, column.name)) is not None:
            (exact if synonyms.is_exact(family, column.name) else loose).setdefault(name, column)
    return {**loose, **exact}


# --- the registry ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def all_layouts() -> tuple[Layout, ...]:
    """Every layout, in the order of :data:`MODULES`."""
    return tuple(layout for module in MODULES for layout in importlib.import_module(module).LAYOUTS)


def layout_named(name: str) -> Layout:
    """The layout called ``name``.

    Raises:
        KeyError: there is none.
    """
    return {layout.name: layout for layout in all_layouts()}[name]


def is_notes(table: RawTable) -> bool:
    """Whether a sheet is there for people only: :data:`NOTES_MARKER` stands in its header or above."""
    lines = (*(row.cells for row in table.preamble), [c.name for c in table.columns])
    return any(isinstance(cell, str) and NOTES_MARKER in cell for cells in lines for cell in cells)


def recognise(
    table: RawTable, synonyms: Synonyms | None = None, *, sources: Sequence[str] = ()
) -> tuple[Layout, Match]:
    """The layout that explains a table best.

    Args:
        sources: only layouts of these sources are considered; all by default.

    Raises:
        InputError: ``missing_column`` when the closest layout lacks a required column, ``unknown_layout`` when nothing
            comes close; ``bulk_sheet``, ``partial_report`` or ``chart`` for what only resembles a report. The message
            names the columns found and those needed.
    """
    synonyms = synonyms or load_synonyms()
    if (reason := lookalike(table, synonyms)) is not None:
        raise InputError([reason])
    matches = [
        (layout, match)
        for layout in all_layouts()
        if (not sources or layout.source in sources) and (match := layout.recognise(table, synonyms)) is not None
    ]
    complete = [m for m in matches if not m[1].missing]
    if complete:
        return max(complete, key=lambda m: m[1].score)
    found = ", ".join(c.title for c in table.columns[:12]) + (", …" if len(table.columns) > 12 else "")
    if any(scrub(c.title) != c.title for c in table.columns):
        # somebody's row where headers should be: none of it may be told
        found = "not shown, for an address or telephone number stands among them: the row of headers is missing"
    close = max(matches, key=lambda m: m[1].score - 2 * len(m[1].missing), default=None)
    if close is not None and len(close[1].fields) >= 2 and len(close[1].missing) <= len(close[1].fields):
        layout, match = close
        raise InputError([
            table.problem(
                "missing_column",
                f"this looks like {layout.name}, but the column {name!r} is missing; columns found: {found}. If one of "
                "them is it, a mapping file says so: `turnout ingest --explain --write-mapping draft.yaml` drafts one",
                row=table.header_row, column=name,
            )
            for name in match.missing
        ])  # fmt: skip
    raise InputError([
        table.problem(
            "unknown_layout",
            f"the columns are of no known report ({found}); `turnout ingest --explain --write-mapping draft.yaml` "
            "drafts a mapping file that says what they are, `turnout templates` writes sheets to fill in",
            row=table.header_row,
        )
    ])  # fmt: skip


# --- helpers for layouts ---------------------------------------------------------------------------------------------

#: Texts are cached per column up to this many different ones; exports repeat most of theirs.
_CACHE_LIMIT = 50_000


class Parser:
    """A cell parser that remembers texts it has seen. Errors come back as values: all of a row are collected."""

    __slots__ = ("_parse", "cache")

    def __init__(self, parse: Callable[[Cell], Any]) -> None:
        self._parse = parse
        #: Text → what it was parsed to; a tight loop may look here first.
        self.cache: dict[str, Any] = {}

    def __call__(self, cell: Cell) -> Any:
        """The value, or the :class:`CellError` that says why there is none."""
        if cell.__class__ is str:
            try:
                return self.cache[cell]
            except KeyError:
                pass
        try:
            value = self._parse(cell)
        except CellError as error:
            value = error.with_traceback(None)
        if cell.__class__ is str:
            if len(self.cache) >= _CACHE_LIMIT:
                self.cache.clear()
            self.cache[cell] = value
        return value


@dataclass(frozen=True)
class Conventions:
    """What a column-by-column look at the whole table settled.

    Attributes:
        order: field → whether ``3/4/2026`` is in March or April; ``None`` is unsettled.
        mark: field → the decimal mark of the column; ``None`` where its cells use both.
    """

    order: Mapping[str, DateOrder | None]
    mark: Mapping[str, DecimalMark | None]


def learn(
    table: RawTable,
    *,
    dates: Mapping[str, Column],
    numbers: Mapping[str, Column],
    hint: DateOrder | None = None,
    also: Callable[[Row], None] | None = None,
) -> Conventions:
    """Read the whole table once and settle date order and decimal mark of each column.

    Args:
        hint: the date order known of this platform in this language, used where nothing else speaks. What a mapping
            file says goes before everything.
        also: called with every row, for what a layout wants to know beforehand itself.

    Raises:
        InputError: a column's dates contradict one another.
    """
    date_columns = [(name, column.index, DateColumn()) for name, column in dates.items()]
    number_columns = [(name, column.index, NumberColumn()) for name, column in numbers.items()]
    by_index: list[tuple[int, DateColumn | NumberColumn]] = [(i, k) for _, i, k in date_columns]
    by_index += [(i, k) for _, i, k in number_columns]
    if also is None and can_block(table):
        _learn_blocks(table, by_index)
    else:
        for row in table.rows():
            cells = row.cells
            width = len(cells)
            for index, known_column in by_index:
                if index < width:
                    known_column.add(cells[index])
            if also is not None:
                also(row)
    settled = table.settled
    order: dict[str, DateOrder | None] = {}
    for name, index, known in date_columns:
        if settled.date_order is not None:
            order[name] = settled.date_order
            continue
        try:
            order[name] = known.decide(table.language, table.stated.period, hint)
        except CellError as error:
            title = table.columns[index].title
            raise InputError([table.problem(error.code, error.message, column=title)]) from error
    fallback = language_mark(table.language)
    mark = {name: settled.decimal_mark or known.decide(fallback) for name, _, known in number_columns}
    return Conventions(order, mark)


def _learn_blocks(table: RawTable, by_index: Sequence[tuple[int, DateColumn | NumberColumn]]) -> None:
    """Show each column its cells, equal ones together."""
    for block in cell_blocks(table, {index for index, _ in by_index}):
        for index, known in by_index:
            if index in block.columns:
                cells = block.columns[index]
                counts = pc.value_counts(_shapes(cells) if isinstance(known, NumberColumn) else cells)
                for cell, times in zip(counts.field(0).to_pylist(), counts.field(1).to_pylist(), strict=True):
                    known.add(cell, times)
            for row in block.others:
                if index < len(row.cells):
                    known.add(row.cells[index])


def _shapes(cells: pa.StringArray) -> pa.StringArray:
    """Cells that prove the same about the decimal mark made alike: what counts is how many digits stand where."""
    # a leading zero says something of its own
    return pc.if_else(pc.match_substring_regex(cells, "^[1-9]"), pc.replace_substring_regex(cells, "[0-9]", "1"), cells)


@lru_cache(maxsize=16)
def _total_pattern(words: frozenset[str]) -> re.Pattern[str]:
    listed = "|".join(sorted((re.escape(w) for w in words), key=len, reverse=True))
    return re.compile(rf"^(?:{listed})(?:\s*[:：;\-–—(（].*|\s*\d+)?$", re.IGNORECASE)


def is_total_word(cell: Cell, synonyms: Synonyms) -> bool:
    """Whether a cell says "total" in any language known: ``Total``, ``合計``, ``Total: Account``, ``Gesamt (12)``."""
    return isinstance(cell, str) and _total_pattern(synonyms.total_words).match(fold(cell).casefold()) is not None


def is_blank(cell: Cell) -> bool:
    """Whether a cell is empty or only white space; a dash is not blank."""
    return cell is None or (isinstance(cell, str) and not cell.strip("\ufeff \t\r\n\u3000\xa0"))


def is_empty(cell: Cell) -> bool:
    """Whether a cell says nothing: blank, or dashes."""
    return cell is None or (isinstance(cell, str) and is_unknown(cell))


def name_twins(table: RawTable, family: str, fields: Mapping[str, Column], synonyms: Synonyms) -> None:
    """Note every column that means the same as another one, and which of them is used."""
    for column in table.columns:
        name = synonyms.field(family, column.name)
        if name is None or name not in fields or fields[name].index == column.index:
            continue
        table.note(f"the column {column.title!r} means the same as {fields[name].title!r}, which is used")


def repeats_header(table: RawTable, row: Row) -> bool:
    """Whether a row is the header once more, as tables that were put one below the other have it."""
    filled = [(i, c) for i, c in enumerate(row.cells) if not is_blank(c)]
    columns = table.columns
    return len(filled) >= 2 and all(
        isinstance(c, str) and i < len(columns) and header_key(c) == columns[i].key for i, c in filled
    )


#: The days between the beginnings of the two calendars of workbooks.
_FROM_1900_TO_1904 = 1_462


def dated_cell(table: RawTable, parse: Callable[[Cell], Any]) -> Callable[[Cell], Any]:
    """``parse`` for a column of dates of ``table``: plain numbers count from 1904 where the workbook does."""
    if not table.days_from_1904:
        return parse

    def shifted(cell: Cell) -> Any:
        bare = isinstance(cell, int | float) and not isinstance(cell, bool) and cell < 100_000
        return parse(cell + _FROM_1900_TO_1904 if bare else cell)  # type: ignore[operator]

    return shifted


def too_wide(table: RawTable, row: Row) -> Rejected | None:
    """A row with more cells than headers: its cells may be in wrong columns, so nothing of it is used or kept."""
    width = len(table.columns)
    if len(row.cells) <= width or all(is_blank(c) for c in row.cells[width:]):
        return None
    message = (
        f"the row has {len(row.cells)} cells under {width} headers; a text with the delimiter in it probably lacks "
        "its quotation marks"
    )
    return Rejected(row.number, (table.problem("too_many_cells", message, row=row.number),))


def problem_of(table: RawTable, row: Row, column: Column, error: CellError) -> Problem:
    """The problem of one cell. A cell with somebody's address or telephone number in it is not quoted at all."""
    cell = row.cells[column.index] if column.index < len(row.cells) else None
    value = None if cell is None else str(cell)
    message = error.message
    if value is not None and scrub(value) != value:
        value, message = None, message.replace(shown(cell), "a cell with an address or telephone number in it")
    value = None if value is None else value[:200]
    return table.problem(error.code, scrub(message), row=row.number, column=column.title, value=value)
