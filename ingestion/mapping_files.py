"""Mapping in a spreadsheet: rules and open ends out as CSV or YAML, edited, and in again.

The export holds every rule, and a row for each thing that lacks an event or tactic, the costliest first, with the best
suggestion beside it. Who edits fills in ``event`` or ``tactic``, or ``yes`` under ``ignore``, and hands the file in. A
row with none of the three is no rule: it is passed over, or takes away the rule it was. Reading it twice is as once.

CSV is made for spreadsheet programs: ids keep all their digits (``="120210000000000001"``), a name that begins like a
formula is marked with an apostrophe, and the file may come back in any encoding, with any delimiter, or as XLSX.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from sqlalchemy import Connection, Engine

from ingestion.headers import Synonyms, header_key
from ingestion.linking import Events
from ingestion.mapping import Edit, delete, edit, list_mapped, list_rules, make_rule, rule_parts, save
from ingestion.reading import RawTable, open_tables
from ingestion.rules import NO_TACTIC, Rule, load_rules, rule_key
from ingestion.values import Cell, Formula
from turnout.errors import InputError, Problem

Format = Literal["csv", "yaml"]

#: Columns that say what a rule is, then those that help to decide and are not read.
_RULE_COLUMNS = ("source", "account", "kind", "pattern", "event", "tactic", "ignore", "position", "note")
_HELP_COLUMNS = ("name", "spend", "amount", "days", "last_seen", "suggested_event", "score", "reason")
_HEADERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "source": {"en": ("source",), "ja": ("媒体", "ソース")},
    "account": {"en": ("account",), "ja": ("アカウント",)},
    "kind": {"en": ("kind",), "ja": ("照合方法", "種類")},
    "pattern": {"en": ("pattern",), "ja": ("照合する文字列", "パターン")},
    "event": {"en": ("event",), "ja": ("イベント", "イベント名")},
    "tactic": {"en": ("tactic",), "ja": ("施策",)},
    "ignore": {"en": ("ignore",), "ja": ("対象外",)},
    "position": {"en": ("position",), "ja": ("順番",)},
    "note": {"en": ("note",), "ja": ("メモ", "備考")},
    "name": {"en": ("name",), "ja": ("名称",)},
    "spend": {"en": ("spend",), "ja": ("費用",)},
    "amount": {"en": ("amount",), "ja": ("件数",)},
    "days": {"en": ("days",), "ja": ("日数",)},
    "last_seen": {"en": ("last seen",), "ja": ("最終日",)},
    "suggested_event": {"en": ("suggestion",), "ja": ("候補",)},
    "score": {"en": ("score",), "ja": ("確からしさ",)},
    "reason": {"en": ("reason",), "ja": ("理由",)},
}  # fmt: skip
_YES = frozenset(("yes", "y", "true", "1", "x", "○", "はい", "対象外", "ignore"))
_NO = frozenset(("", "no", "n", "false", "0", "-", "いいえ"))
_DAMAGED = re.compile(r"^\d(?:[.,]\d+)?E\+?\d+$", re.IGNORECASE)
_DIGITS = re.compile(r"^\d{12,}$")
_LARGEST_SAFE = 2**53


# --- out --------------------------------------------------------------------------------------------------------------


def export_mapping(
    engine: Engine, organisation: str, kind: Format = "csv", *, language: str = "en", unmapped: bool = True
) -> str:
    """The mapping as text, for a file.

    Args:
        language: of the headers of CSV.
        unmapped: also what lacks an event or tactic.
    """
    rows = list(_rows(engine, organisation, unmapped=unmapped))
    if kind == "yaml":
        plain = [{n: v for n, v in row.items() if v not in ("", None)} for row in rows]
        return yaml.safe_dump(plain, allow_unicode=True, sort_keys=False, width=1000)
    text = io.StringIO()
    text.write("\ufeff")  # without it spreadsheet programs take UTF-8 for the local code page
    writer = csv.writer(text)
    writer.writerow([_HEADERS[n].get(language, _HEADERS[n]["en"])[0] for n in (*_RULE_COLUMNS, *_HELP_COLUMNS)])
    for row in rows:
        writer.writerow([_guarded(row.get(n, "")) for n in (*_RULE_COLUMNS, *_HELP_COLUMNS)])
    return text.getvalue()


def _guarded(value: Any) -> Any:
    """A cell that a spreadsheet program neither shortens nor calculates."""
    if not isinstance(value, str):
        return value
    if _DIGITS.match(value):
        return f'="{value}"'
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "'", "\t", "\r")) else value


def _rows(engine: Engine, organisation: str, *, unmapped: bool) -> Iterator[dict[str, Any]]:
    mapped = list_mapped(engine, organisation, suggestions=1)
    by_rule = {rule_key(**rule_parts(m)): m for m in mapped}
    written = set()
    for use in list_rules(engine, organisation):
        rule = use.rule
        written.add(rule.rule_id)
        about = by_rule.get(rule.rule_id)
        yield {
            "source": rule.source, "account": rule.account, "kind": rule.kind, "pattern": rule.pattern,
            "event": use.event or (f"{rule.event_name} @ {rule.event_date}" if use.event_gone else ""),
            "tactic": "none" if rule.tactic_id == NO_TACTIC else rule.tactic_id or "",
            "ignore": "yes" if rule.ignored else "", "position": rule.position, "note": rule.note or "",
            **({} if about is None else _help(about)),
        }  # fmt: skip
    for thing in mapped if unmapped else ():
        parts = rule_parts(thing)
        if thing.is_unmapped and rule_key(**parts) not in written:
            yield {**parts, "event": "", "tactic": "", "ignore": "", "position": 0, "note": "", **_help(thing)}


def _help(thing: Any) -> dict[str, Any]:
    best = thing.suggestions[0] if thing.suggestions else None
    return {
        "name": thing.name, "spend": "" if thing.spend is None else str(round(thing.spend, 2)),
        "amount": "" if thing.amount is None else str(round(thing.amount, 2)), "days": thing.days,
        "last_seen": thing.last_seen.isoformat() if thing.last_seen else "",
        "suggested_event": "" if best is None else best.tactic_id or f"{best.event_name} @ {best.event_date}",
        "score": best.score if best else "", "reason": best.reason if best else "",
    }  # fmt: skip


# --- in ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Line:
    """One row of a file, with where it stands."""

    cells: Mapping[str, str]
    file: str
    sheet: str | None
    row: int
    titles: Mapping[str, str]

    def problem(self, code: str, message: str, column: str | None = None, value: str | None = None) -> Problem:
        title = self.titles.get(column, column) if column else None
        return Problem(code, message, file=self.file, sheet=self.sheet, row=self.row, column=title, value=value)


def import_mapping(
    engine: Engine, organisation: str, path: Path, *, replace: bool = False, dry_run: bool = False
) -> Edit:
    """Write the rules of a file, take away those whose row has been emptied, and tie everything anew.

    Args:
        replace: also remove every rule that the file does not have.

    Returns:
        ``rules`` are those that are new or changed.

    Raises:
        InputError: every defect of the file at once, with row and column. Nothing is written then.
    """
    lines = list(_lines(path))

    def write(connection: Connection, events: Events) -> tuple[Iterable[Rule], Iterable[Rule]]:
        before = {rule.rule_id: rule for rule in load_rules(connection, organisation)}
        wanted, emptied, problems = _wanted(lines, events, before)
        if problems:
            raise InputError(problems)
        gone = {i for i in emptied if i in before} | ({*before} - {*wanted} if replace else set())
        changed = [r for i, r in wanted.items() if i not in before or _said(before[i]) != _said(r)]
        for rule in changed:
            save(connection, organisation, rule)
        delete(connection, organisation, gone)
        return changed, [before[i] for i in sorted(gone)]

    return edit(engine, organisation, write, dry_run=dry_run)


def _said(rule: Rule) -> tuple[Any, ...]:
    return (
        rule.position, rule.event_id, rule.event_name, rule.event_date, rule.tactic_id, rule.ignored, rule.note or None,
    )  # fmt: skip


def _wanted(
    lines: Iterable[_Line], events: Events, before: Mapping[str, Rule]
) -> tuple[dict[str, Rule], set[str], list[Problem]]:
    """The rules the lines want, the keys of lines that say nothing, and what is wrong with lines."""
    wanted: dict[str, Rule] = {}
    emptied: set[str] = set()
    problems: list[Problem] = []
    places: dict[str, int] = {}
    for line in lines:
        cells = line.cells
        parts = {n: cells.get(n, "") for n in ("source", "account", "kind", "pattern")}
        key = rule_key(**parts)
        if key in places:
            problems.append(
                line.problem("duplicate", f"the same rule stands in row {places[key]}; keep one", "pattern")
            )
            continue
        places[key] = line.row
        ignore = cells.get("ignore", "").casefold()
        position = cells.get("position", "") or "0"
        found = [
            line.problem(
                "damaged_id", f"{cells[n]} has lost digits in a spreadsheet program; export again", n, cells[n]
            )
            for n in ("account", "pattern")
            if _DAMAGED.match(cells.get(n, ""))
        ]
        if ignore not in _YES | _NO:
            found.append(line.problem("not_yes_or_no", f"{ignore!r} is neither yes nor no", "ignore", ignore))
        if not re.fullmatch(r"[+-]?\d{1,6}(?:\.0)?", position):
            found.append(line.problem("not_a_number", f"{position!r} is no whole number", "position", position))
        event = cells.get("event", "")
        if not event and not cells.get("tactic") and ignore not in _YES:
            if not found:
                emptied.add(key)
            problems += found
            continue
        old = before.get(key)
        gone = old is not None and old.event_id is not None and old.event_id not in events.by_id
        if gone and old is not None and event == f"{old.event_name} @ {old.event_date}":
            # An event that is gone is written as the rule knows it, and reading it back is no change.
            wanted[key] = old
            continue
        try:
            rule = make_rule(
                events, **parts, event=event or None, tactic=cells.get("tactic") or None, ignore=ignore in _YES,
                position=0 if found else int(float(position)), note=cells.get("note") or None,
            )  # fmt: skip
        except InputError as error:
            found += [line.problem(p.code, p.message, p.column, p.value) for p in error.problems]
        problems += found
        if not found:
            wanted[key] = rule
    return wanted, emptied, problems


def _lines(path: Path) -> Iterator[_Line]:
    """The rows of a file.

    Raises:
        InputError: it is not of the form of an export.
    """
    if not path.is_file():
        raise InputError([Problem("no_file", "there is no such file", file=str(path))])
    if path.suffix.casefold() in (".yaml", ".yml", ".json"):
        yield from _yaml_lines(path)
        return
    synonyms = Synonyms({"mapping": _HEADERS})
    for table in open_tables(path, synonyms=synonyms):
        yield from _table_lines(table, synonyms)


def _table_lines(table: RawTable, synonyms: Synonyms) -> Iterator[_Line]:
    columns = {name: c for c in table.columns if (name := synonyms.field("mapping", c.name)) is not None}
    if missing := [n for n in ("kind", "pattern") if n not in columns]:
        found = ", ".join(c.title for c in table.columns[:12])
        raise InputError([
            table.problem(
                "missing_column",
                f"the column {name!r} is missing; columns found: {found}. `turnout map export` shows the form",
                row=table.header_row, column=name,
            )
            for name in missing
        ])  # fmt: skip
    titles = {name: column.title for name, column in columns.items()}
    for row in table.rows():
        cells = {n: _text(row.cells[c.index]) for n, c in columns.items() if c.index < len(row.cells)}
        if any(cells.get(n) for n in _RULE_COLUMNS):
            yield _Line(cells, table.file, table.sheet, row.number, titles)


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, Formula):
        cell = str(cell)
    if isinstance(cell, float) and cell.is_integer():
        return f"{cell:.0f}" if abs(cell) < _LARGEST_SAFE else f"{cell:E}"
    text = str(cell).strip()
    if text.startswith('="') and text.endswith('"'):
        text = text[2:-1]
    return text[1:] if len(text) > 1 and text[0] == "'" else text


def _yaml_lines(path: Path) -> Iterator[_Line]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError([Problem("not_yaml", f"the file is not YAML: {error}", file=path.name)]) from error
    if not isinstance(loaded or [], list) or not all(isinstance(entry, dict) for entry in loaded or []):
        message = "expected a list of rules, each with kind, pattern and event, tactic or ignore"
        raise InputError([Problem("not_a_list", message, file=path.name)])
    known = {header_key(n) for n in (*_RULE_COLUMNS, *_HELP_COLUMNS)}
    problems = []
    lines = []
    for number, entry in enumerate(loaded or [], start=1):
        strange = [str(n) for n in entry if header_key(str(n)) not in known]
        problems += [
            Problem(
                "unknown_field", f"{n!r} is no part of a rule; known are {', '.join(_RULE_COLUMNS)}", file=path.name,
                row=number, column=n,
            )
            for n in strange
        ]  # fmt: skip
        cells = {str(n): "yes" if v is True else "" if v in (None, False) else str(v).strip() for n, v in entry.items()}
        lines.append(_Line(cells, path.name, None, number, {}))
    if problems:
        raise InputError(problems)
    yield from lines


__all__ = ["Format", "export_mapping", "import_mapping"]
