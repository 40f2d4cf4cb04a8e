"""Insights from a file, or as somebody types them in: words into :class:`turnout.insights.Insight`.

A file has one row per rule; the columns are those of the sheet of insights (:mod:`ingestion.spreadsheets`), which the
nightly run reads from the inbox, too. Reading it here stores all of it or nothing, and can be taken back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine

from ingestion.headers import Synonyms, load_synonyms
from ingestion.reading import Column, RawTable, Row, open_tables
from ingestion.sheet_cells import read_level, read_scope
from ingestion.values import CellError, parse_text
from turnout import insight_store
from turnout.errors import InputError, Problem
from turnout.insight_store import Change, insight_key
from turnout.insights import Insight

FAMILY: Final = "insights"
#: Columns that only this file may have, beside those of the sheet.
HEADERS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "direction": {"en": ("direction", "up or down"), "ja": ("方向", "増減")},
    "metric": {"en": ("metric", "about", "measure"), "ja": ("指標", "対象指標")},
}
FIELDS: Final = ("text", "impact", "confidence", "applies_to", "direction", "metric")
_CHOICES: Final[Mapping[str, Mapping[str, str]]] = {
    "direction": {"up": "up", "down": "down", "増": "up", "増加": "up", "上がる": "up", "プラス": "up", "+": "up",
                  "減": "down", "減少": "down", "下がる": "down", "マイナス": "down", "-": "down"},
    "metric": {"registrations": "registrations", "申込": "registrations", "申込数": "registrations",
               "show_up": "show_up", "show-up": "show_up", "参加率": "show_up", "出席率": "show_up",
               "other": "other", "その他": "other"},
}  # fmt: skip


def make_insight(
    text: str,
    *,
    impact: str | None = None,
    confidence: str | None = None,
    applies_to: str | None = None,
    direction: str | None = None,
    metric: str | None = None,
) -> Insight:
    """A rule from the words people use: levels and places in any spelling that sheets may have."""
    scope = (read_scope(applies_to) if applies_to else None) or {}
    way: Any = _choice("direction", direction)
    about: Any = _choice("metric", metric)
    return Insight(
        insight_id=insight_key(text, scope),
        text=text.strip(),
        impact=read_level(impact) if impact else None,
        confidence=read_level(confidence) if confidence else None,
        applies_to=scope,
        direction=way,
        metric=about,
    )


def _choice(name: str, value: str | None) -> str | None:
    """A word of a closed list by its id; an unknown one as it is, for the check to name."""
    return None if not value else _CHOICES[name].get(value.strip().casefold(), value.strip())


def import_insights(
    engine: Engine,
    organisation: str,
    path: Path,
    *,
    time_zone: str = "UTC",
    home: Path | None = None,
    dry_run: bool = False,
) -> Change:
    """Store the rules of a file. Reading it again changes nothing.

    Args:
        home: folder whose ``headers.yaml`` adds the organiser's own column names.

    Raises:
        InputError: every defect of the file at once, with row, column, value and what is allowed. Nothing is stored.
    """
    if not path.is_file():
        raise InputError([Problem("no_file", "there is no such file", file=str(path))])
    rules: list[Insight] = []
    problems: list[Problem] = []
    places: dict[str, int] = {}
    for row, made in _rows(path, home):
        if isinstance(made, list):
            problems += made
            continue
        if made.insight_id in places:
            message = f"the same insight stands in row {places[made.insight_id]}; keep one"
            problems.append(Problem("duplicate", message, file=path.name, row=row, column="text", value=made.text[:60]))
        places.setdefault(made.insight_id, row)
        rules.append(made)
    if problems:
        raise InputError(problems)
    if not rules:
        raise InputError([Problem("no_rows", "the file holds no insight", file=path.name)])
    with engine.connect() as connection, connection.begin() as transaction:
        change = insight_store.save(connection, organisation, rules, time_zone=time_zone, file=path.name)
        if dry_run:
            transaction.rollback()
    return change


def _rows(path: Path, home: Path | None) -> Iterator[tuple[int, Insight | list[Problem]]]:
    shipped = load_synonyms(home)
    synonyms = Synonyms({FAMILY: {**shipped.families[FAMILY], **HEADERS}})
    for table in open_tables(path, synonyms=synonyms):
        columns = {name: column for column in table.columns if (name := synonyms.field(FAMILY, column.name)) in FIELDS}
        if "text" not in columns:
            found = ", ".join(c.title for c in table.columns[:12])
            message = f"the column 'text' (Insight, 知見) is missing; columns found: {found}"
            raise InputError([table.problem("missing_column", message, row=table.header_row, column="text")])
        for row in table.rows():
            if any(cell not in (None, "") for cell in row.cells):
                yield row.number, _read(table, row, columns)


def _read(table: RawTable, row: Row, columns: Mapping[str, Column]) -> Insight | list[Problem]:
    values: dict[str, str | None] = {}
    problems: list[Problem] = []

    def place(problem: Problem) -> Problem:
        column = columns.get(problem.column or "")
        title = column.title if column is not None else problem.column
        return replace(problem, file=table.file, sheet=table.sheet, row=row.number, column=title)

    for name, column in columns.items():
        cell = row.cells[column.index] if column.index < len(row.cells) else None
        try:
            values[name] = parse_text(cell)
        except CellError as error:
            problems.append(place(Problem(error.code, error.message, column=name, value=str(cell)[:60])))
    if not problems and not values.get("text"):
        problems.append(place(Problem("missing", "an insight needs a text", column="text")))
    if problems:
        return problems
    made = make_insight(**{n: v or "" for n, v in values.items()})
    return [place(p) for p in insight_store.check(made)] or made
