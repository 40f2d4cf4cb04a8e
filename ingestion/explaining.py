"""What each column of a table was taken for, why, and what its cells were read as: behind ``turnout ingest --explain``.

No cell of a personal or private column is ever shown, nor a text of a column nobody knows: it may be anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from ingestion.headers import split_note
from ingestion.layouts import ColumnUse, Context, Layout, Match, Parser, all_layouts, is_blank
from ingestion.personal import scrub
from ingestion.reading import Column, RawTable
from ingestion.values import Amount, Cell, CellError, parse_date, parse_number
from turnout.errors import InputError

#: Rows looked at for samples, and samples shown of a column.
_LOOKED_AT = 200
_SAMPLES = 3
_LONGEST = 40


def closest(table: RawTable, context: Context) -> Layout | None:
    """The layout that explains most columns of a table, complete or not; ``None`` where none explains two."""
    matches = [
        (layout, match) for layout in all_layouts() if (match := layout.recognise(table, context.synonyms)) is not None
    ]
    layout, match = max(matches, key=lambda m: m[1].score - 2 * len(m[1].missing), default=(None, None))
    return layout if match is not None and len(match.fields) >= 2 else None


def explain(table: RawTable, layout: Layout | None, context: Context) -> list[ColumnUse]:
    """Every column of ``table`` as ``layout`` takes it.

    Args:
        layout: the one the table is read with, or the :func:`closest`; ``None`` where nothing comes close.
    """
    match = layout.recognise(table, context.synonyms) if layout is not None else None
    used = {column.index: name for name, column in match.fields.items()} if match is not None else {}
    parsers = _parsers(table, layout, match, context)
    cells = _cells(table)
    explained = []
    for column in table.columns:
        name = used.get(column.index)
        personal = context.synonyms.personal(column.name) is not None
        hidden = (personal and name is None) or (name is not None and layout is not None and name in layout.private)
        if layout is not None and name is not None:
            why = _why(table, column, layout, context)
        elif personal:
            why = "a header of a personal column: dropped as it is read"
        elif layout is not None and (twin := context.synonyms.field(layout.family, column.name)) is not None and match:
            other = match.fields.get(twin)
            why = f"means {twin}, like {other.title!r}, which is used" if other else ""
        else:
            why = ""
        suggestions: list[str] = []
        if name is None and not personal and not why and layout is not None:
            suggestions = context.synonyms.close_fields(layout.family, column.name)
        # what people answered in a form may be anything, a telephone number too
        hidden = hidden or (name is None and layout is not None and layout.source == "registrations")
        samples = [] if hidden or personal else _samples(cells.get(column.index, []), parsers.get(name or ""), name)
        explained.append(
            ColumnUse(
                column.title, name or ("personal" if personal else None), column.note or "", why, tuple(samples),
                tuple(suggestions),
            )
        )  # fmt: skip
    return explained


def _why(table: RawTable, column: Column, layout: Layout, context: Context) -> str:
    origin = context.synonyms.origin(layout.family, column.name)
    where = {"mapping": f"the mapping {table.settled.by}", "home": "your headers.yaml"}.get(
        origin or "", "a known header"
    )
    if origin != "mapping" and not context.synonyms.is_exact(layout.family, column.name):
        base, note = split_note(column.name)
        if note is None:
            return "a header of this kind"
        return f"{where}: {base}, without its bracket ({note})"
    return where


def _parsers(table: RawTable, layout: Layout | None, match: Match | None, context: Context) -> Mapping[str, Parser]:
    if layout is None or match is None or match.missing:
        return {}
    try:
        return layout.parsers(table, match.fields, context)
    except InputError:
        return {}


def _cells(table: RawTable) -> dict[int, list[Cell]]:
    """The first different cells of each column."""
    cells: dict[int, list[Cell]] = {}
    try:
        for row in itertools.islice(table.rows(), _LOOKED_AT):
            for index, cell in enumerate(row.cells):
                seen = cells.setdefault(index, [])
                if not is_blank(cell) and len(seen) < 10 * _SAMPLES and cell not in seen:
                    seen.append(cell)
    except InputError:
        return cells
    return cells


def _samples(cells: list[Cell], parser: Parser | None, name: str | None) -> list[str]:
    """The first few cells as they are read; of an unknown column only figures and days."""
    found: list[str] = []
    for cell in cells:
        value = parser(cell) if parser is not None else _plain(cell, name)
        if value is None or isinstance(value, CellError):
            continue
        text = scrub(_shown(value))
        if text and text not in found:
            found.append(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")
        if len(found) == _SAMPLES:
            break
    return found


def _plain(cell: Cell, name: str | None) -> Any:
    """A cell without a parser of its own: a figure or a day where it is one, else the text of a known column."""
    for parse in (parse_number, parse_date):
        try:
            return parse(cell)
        except CellError:
            continue
    return str(cell) if name is not None else None


def _shown(value: Any) -> str:
    value = getattr(value, "value", value)  # Noted
    if isinstance(value, Amount):
        return f"{value.amount} {value.currency}" if value.currency else str(value.amount)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="minutes")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple | list):
        parts = [_shown(v) for v in value if v is not None]
        return (" – " if len(value) == 2 and all(isinstance(v, date) for v in value) else ", ").join(parts)
    if isinstance(value, Mapping):
        return str(value.get("as_written", value))
    return str(value)
