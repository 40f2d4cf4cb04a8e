"""Mapping files: what somebody says about a table that the headers alone do not tell.

A mapping file is YAML. It stands beside the file it is about (``report.csv.turnout.yaml``), is given to
``turnout ingest --mapping``, or lies in ``<home>/mappings/`` and is then used for every table that has its headers, the
one with most of them first. One YAML document is about one table; several documents may stand in one file, each with
the sheet it is about.

=============== =====================================================================================================
source          where the figures come from: google_ads, meta_ads, linkedin_ads, sendgrid, registrations, spreadsheet
table           for a spreadsheet what it holds: event, tactic_result, paid_media or insight
layout          the layout itself, where a source has several; seldom needed
sheet           the sheet of a workbook
header_row      where the header stands, as a spreadsheet shows it; only beside a file or with ``--mapping``
headers         in ``<home>/mappings/``: the headers a table must have; those of ``columns`` that are used, by default
columns         header → field, or nothing for a column not to be used; other columns are read as ever
date_order      ymd, mdy or dmy, for days such as 3/4/2026
decimal_mark    "." or ","
currency        ISO code of amounts that state none
account         platform account of the rows
event           name or code of the event a list of registrations belongs to
time_zone       of a campaign or mail report's days
period          first and last day of a report without days
skip_rows       rows that are not read: numbers, or ranges such as "5-9"; they count as blank
totals          words that begin a row of sums, beside those known
=============== =====================================================================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ingestion.headers import Synonyms, header_key, line_of, load_synonyms
from ingestion.layouts import ColumnUse, Layout, all_layouts
from ingestion.reading import RawTable, Settled, known_zones
from turnout.errors import ConfigurationError, InputError, Problem

#: Ending of a mapping file that stands beside the file it is about.
SUFFIX = ".turnout.yaml"

Source = Literal["google_ads", "meta_ads", "linkedin_ads", "sendgrid", "registrations", "spreadsheet"]
TableName = Literal[
    "ad_performance", "email_performance", "registration", "event", "tactic_result", "paid_media", "insight"
]

#: Sources whose days are in a zone that a mapping may state.
_ZONED: frozenset[str] = frozenset(("google_ads", "meta_ads", "linkedin_ads", "sendgrid"))
#: The layout a mapping means where its source has several kinds of lists.
_GENERIC: Mapping[str, str] = {"registrations": "registrations.list"}
_RANGE = re.compile(r"^\s*(\d+)\s*[-–]\s*(\d+)\s*$")
_MOST_SKIPPED = 1_000_000


class Period(BaseModel):
    """First and last day of a report."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: date
    last: date

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last < self.first:
            raise ValueError(f"the last day {self.last} lies before the first {self.first}")
        return self


class TableMapping(BaseModel):
    """One document of a mapping file; see the module for its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Source
    table: TableName | None = None
    layout: str | None = None
    sheet: str | None = None
    header_row: int | None = Field(default=None, ge=1, le=60)
    headers: tuple[str, ...] = ()
    columns: dict[str, str | None] = Field(default_factory=dict)
    date_order: Literal["ymd", "mdy", "dmy"] | None = None
    decimal_mark: Literal[".", ","] | None = None
    currency: str | None = Field(default=None, pattern=r"^[A-Z]{3}$")
    account: str | None = None
    event: str | None = None
    time_zone: str | None = None
    period: Period | None = None
    skip_rows: tuple[int | str, ...] = ()
    totals: tuple[str, ...] = ()

    @field_validator("columns", mode="before")
    @classmethod
    def _headers_are_text(cls, value: Any) -> Any:
        return {str(k): v for k, v in value.items()} if isinstance(value, Mapping) else value

    @field_validator("headers", "totals", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        return [str(v) for v in value] if isinstance(value, list) else value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None and value not in known_zones():
            raise ValueError(f"there is no time zone {value!r}; write it as Europe/Berlin or Asia/Tokyo")
        return value if value is None else ZoneInfo(value).key

    @field_validator("skip_rows")
    @classmethod
    def _rows(cls, value: tuple[int | str, ...]) -> tuple[int | str, ...]:
        _numbers(value)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        layouts = _candidates(self)
        family = layouts[0].family
        allowed = load_synonyms().families[family]
        for header, name in self.columns.items():
            if name is not None and name not in allowed:
                raise ValueError(
                    f"columns.{header}: {name!r} is no field of {family}; allowed are {', '.join(sorted(allowed))}, or "
                    "nothing for a column that is not used"
                )
        by_field: dict[str, str] = {}
        for header, name in self.columns.items():
            if name is not None and by_field.setdefault(name, header) != header:
                raise ValueError(f"columns.{header}: the field {name} already has the column {by_field[name]!r}")
        if self.time_zone is not None and self.source not in _ZONED:
            raise ValueError(f"time_zone: only for {', '.join(sorted(_ZONED))}; other days are the installation's")
        if self.event is not None and self.source != "registrations":
            raise ValueError("event: only for registrations")
        return self

    @property
    def skipped(self) -> frozenset[int]:
        """The numbers of the rows that are not read."""
        return _numbers(self.skip_rows)

    @property
    def needed(self) -> tuple[str, ...]:
        """The headers by which a table is known to be the one that is meant."""
        return self.headers or tuple(h for h, f in self.columns.items() if f is not None)


def _numbers(rows: Sequence[int | str]) -> frozenset[int]:
    numbers: set[int] = set()
    for row in rows:
        match = _RANGE.match(str(row))
        first, last = (
            (int(match[1]), int(match[2])) if match else (int(row), int(row)) if str(row).isdigit() else (0, 0)
        )
        if first < 1 or last < first or last - first > _MOST_SKIPPED:
            raise ValueError(f"{row!r} is no row; write a number, or a range such as '5-9'")
        numbers.update(range(first, last + 1))
    return frozenset(numbers)


def _candidates(mapping: TableMapping) -> list[Layout]:
    """The layouts a mapping may mean: of one family, the first of which names it.

    Raises:
        ValueError: none, or several kinds of tables.
    """
    of_source = [layout for layout in all_layouts() if layout.source == mapping.source]
    if mapping.layout is not None:
        chosen = [layout for layout in of_source if layout.name == mapping.layout]
        if not chosen:
            allowed = ", ".join(layout.name for layout in of_source)
            raise ValueError(f"layout: {mapping.source} has no layout {mapping.layout!r}; allowed are {allowed}")
        return chosen
    chosen = [layout for layout in of_source if mapping.table in (None, layout.table)]
    if not chosen:
        allowed = ", ".join(sorted({layout.table for layout in of_source}))
        raise ValueError(f"table: {mapping.source} fills {allowed}, not {mapping.table}")
    generic = _GENERIC.get(mapping.source)
    chosen = [layout for layout in chosen if generic in (None, layout.name)]
    if len({layout.family for layout in chosen}) > 1:
        allowed = ", ".join(sorted({layout.table for layout in chosen}))
        raise ValueError(f"table: required for {mapping.source}; allowed are {allowed}")
    return chosen


@dataclass(frozen=True)
class MappingFile:
    """A mapping file that was read: its name for messages, and what it says of each table."""

    path: Path
    tables: tuple[TableMapping, ...]
    for_any_file: bool = False

    @property
    def headers(self) -> list[str]:
        """Every header it names."""
        return [h for t in self.tables for h in (*t.headers, *t.columns)]

    def header_row(self, sheet: str | None) -> int | None:
        """Where the header of a sheet stands, if the file says so."""
        return next((t.header_row for t in self.tables if t.header_row and t.sheet in (None, sheet)), None)


def read_mapping(path: Path, *, for_any_file: bool = False) -> MappingFile:
    """Read and check a mapping file.

    Args:
        for_any_file: it lies in the home folder and is tried on every table.

    Raises:
        InputError: with every defect: file, line, key, and what is allowed.
    """

    def problem(message: str, line: int | None = None) -> Problem:
        return Problem("bad_mapping", f"{f'line {line}: ' if line else ''}{message}", file=path.name)

    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8-sig")))
    except yaml.YAMLError as error:
        raise InputError([problem(f"this is not YAML: {' '.join(str(error).split())}")]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError([problem(f"the mapping file cannot be read ({error})")]) from error
    tables: list[TableMapping] = []
    problems: list[Problem] = []
    for number, document in enumerate(documents):
        if document is None:
            continue
        if not isinstance(document, Mapping):
            problems.append(problem("expected keys such as source and columns", line_of(path, (), number)))
            continue
        try:
            made = TableMapping.model_validate(dict(document))
        except ValidationError as error:
            problems.extend(_explained(error, path, number, problem))
            continue
        if for_any_file and made.header_row is not None:
            line = line_of(path, ["header_row"], number)
            problems.append(problem("header_row: only in a mapping beside a file or with --mapping", line))
        elif for_any_file and not made.needed:
            problems.append(problem("columns or headers: required here, for they tell which tables are meant"))
        tables.append(made)
    if not documents or not (tables or problems):
        problems.append(problem("the mapping file is empty"))
    if problems:
        raise InputError(problems)
    return MappingFile(path, tuple(tables), for_any_file)


def _explained(error: ValidationError, path: Path, document: int, problem: Any) -> Iterable[Problem]:
    """Pydantic's words as ours: key, what was given, what is allowed."""
    for item in error.errors():
        keys = [k for k in item["loc"] if isinstance(k, str | int)]
        message = item["msg"].removeprefix("Value error, ")
        where = ".".join(str(k) for k in keys)
        if not keys and (match := re.match(r"columns\.(.*?): ", message)):
            keys = ["columns", match[1]]
        elif not keys and (match := re.match(r"(\w+): ", message)):
            keys = [match[1]]
        if item["type"] == "extra_forbidden" and len(keys) == 1:
            message = f"there is no such key; allowed are {', '.join(TableMapping.model_fields)}"
        elif item["type"] == "missing":
            allowed = f"; allowed are {', '.join(Source.__args__)}" if where == "source" else ""  # type: ignore[attr-defined]
            message = f"required{allowed}"
        elif item["type"] in ("string_pattern_mismatch",):
            message = f"{item['input']!r} is no currency; write an ISO code such as JPY or EUR"
        elif item["type"] == "literal_error":
            message = f"{item['input']!r} is not allowed; allowed are {item['ctx']['expected'].replace(' or ', ', ')}"
        line = line_of(path, keys[:2], document)
        yield problem(f"{where}: {message}" if where else message, line)


@dataclass
class Mappings:
    """The mapping files that may be about a file: one given or beside it, and those of the home folder.

    Attributes:
        own: about this very file; ``None`` where there is none.
        general: of the home folder.
        used: whether :meth:`settle` has applied ``own``.
    """

    own: MappingFile | None = None
    general: Sequence[MappingFile] = ()
    used: bool = field(default=False, init=False)

    def headers(self) -> list[str]:
        """Every header some mapping names: by them a header row is found."""
        return [h for f in ([self.own] if self.own else []) + list(self.general) for h in f.headers]

    def settle(self, table: RawTable, synonyms: Synonyms) -> Layout | None:
        """Tell ``table`` what a mapping says of it.

        Returns:
            The layout to read it with; ``None`` where no mapping is about it, which leaves the table as it is.

        Raises:
            InputError: the mapping names a column the table lacks, or does not name one that the layout needs.
        """
        chosen = self._choose(table)
        if chosen is None:
            return None
        file, mapping = chosen
        self.used = self.used or file is self.own
        return _settle(table, file, mapping, synonyms)

    def _choose(self, table: RawTable) -> tuple[MappingFile, TableMapping] | None:
        keys = {c.key for c in table.columns}

        def fits(mapping: TableMapping) -> bool:
            return mapping.sheet in (None, table.sheet) and all(header_key(h) in keys for h in mapping.needed)

        if self.own is not None:
            named = [m for m in self.own.tables if m.sheet is not None and m.sheet == table.sheet]
            # Beside a plain file there is only one table that can be meant, whether or not it has the headers.
            sole = self.own.tables if table.sheet is None and table.file == table.path.name else ()
            found = next((m for m in (*named, *filter(fits, self.own.tables), *sole)), None)
            if found is not None:
                return self.own, found
        general = [(f, m) for f in self.general for m in f.tables if fits(m)]
        return max(general, key=lambda pair: len(pair[1].needed), default=None)


def _settle(table: RawTable, file: MappingFile, mapping: TableMapping, synonyms: Synonyms) -> Layout:
    keys = {c.key for c in table.columns}
    found = ", ".join(c.title for c in table.columns)
    absent = [h for h, f in mapping.columns.items() if f is not None and header_key(h) not in keys]
    if absent:
        raise InputError([
            table.problem(
                "missing_column",
                f"the mapping {file.path.name} names the column {h!r}, which is not there; columns found: {found}",
                row=table.header_row, column=h,
            )
            for h in absent
        ])  # fmt: skip
    candidates = _candidates(mapping)
    family = candidates[0].family
    known = synonyms.mapped(family, mapping.columns)
    if mapping.totals:
        known = known.with_total_words(mapping.totals)
    table.stated = replace(
        table.stated,
        currency=mapping.currency or table.stated.currency,
        time_zone=mapping.time_zone or table.stated.time_zone,
        period=(mapping.period.first, mapping.period.last) if mapping.period else table.stated.period,
    )
    matches = [(layout, match) for layout in candidates if (match := layout.recognise(table, known)) is not None]
    if not matches:
        message = f"the mapping {file.path.name} says {mapping.source}, but no column is one of its; found: {found}"
        raise InputError([table.problem("missing_column", message, row=table.header_row)])
    layout, match = max(matches, key=lambda pair: (not pair[1].missing, pair[1].score))
    if match.missing:
        raise InputError([
            table.problem(
                "missing_column",
                f"the mapping {file.path.name} says {layout.name}, which needs the column {name!r}: say under columns "
                f"which one that is; columns found: {found}",
                row=table.header_row, column=name,
            )
            for name in match.missing
        ])  # fmt: skip
    table.settled = Settled(
        by=file.path.name,
        date_order=mapping.date_order,
        decimal_mark=mapping.decimal_mark,
        skipped=mapping.skipped,
        account=mapping.account,
        event=mapping.event,
        time_zone=mapping.time_zone,
        layout=layout.name,
        synonyms=known,
    )
    return layout


def beside(path: Path) -> Path:
    """Where the mapping file of a file stands."""
    return path.with_name(path.name + SUFFIX)


def is_mapping(path: Path) -> bool:
    """Whether a file is a mapping file, and no table."""
    return path.name.endswith(SUFFIX)


def general_mappings(home: Path) -> list[MappingFile]:
    """The mapping files of ``<home>/mappings/``.

    Raises:
        ConfigurationError: one of them is defective; the message names file, line, key and what is allowed.
    """
    files: list[MappingFile] = []
    folder = home / "mappings"
    for path in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))) if folder.is_dir() else ():
        try:
            files.append(read_mapping(path, for_any_file=True))
        except InputError as error:
            raise ConfigurationError("\n".join(f"{folder.name}/{p}" for p in error.problems)) from error
    return files


# --- drafts -----------------------------------------------------------------------------------------------------------

_DRAFT_HEAD = """\
# What the columns of {name} are: a draft to be corrected. Put it beside the file as
#   {name}{suffix}
# or into the folder mappings of the home folder, for every table with these headers; or use it once with
#   turnout ingest --mapping THIS_FILE {name}
# A column without a field is not used. docs/analyst.md explains the keys.
"""


def draft(file: str, tables: Sequence[tuple[str | None, Layout | None, Sequence[ColumnUse]]]) -> str:
    """A mapping file for the tables of a file: sheet, closest layout, and what each column was taken for.

    What nothing is known of is left open, with the closest fields as a remark.
    """
    lines = [_DRAFT_HEAD.format(name=file, suffix=SUFFIX)]
    sources: tuple[str, ...] = Source.__args__  # type: ignore[attr-defined]
    for number, (sheet, layout, columns) in enumerate(tables):
        lines += ["---"] if number else []
        if layout is None:
            lines.append(f"source:  # required; one of {', '.join(sources)}")
        else:
            lines.append(f"source: {layout.source}")
            lines += [f"table: {layout.table}"] if layout.source == "spreadsheet" else []
            if layout.source == "registrations" and layout.name != _GENERIC["registrations"]:
                lines.append(f"layout: {layout.name}")
        lines += [f"sheet: {_quoted(sheet)}"] if sheet else []
        lines.append("columns:")
        named: set[str] = set()
        for column in columns:
            if header_key(column.column) in named:
                continue
            named.add(header_key(column.column))
            field_name = column.field if column.field not in (None, "personal") else ""
            remarks = ["about a person, never read"] if column.field == "personal" else []
            remarks += [f"e.g. {' | '.join(column.samples)}"] if column.samples else []
            remarks += [f"perhaps {' or '.join(column.suggestions)}"] if column.suggestions else []
            remark = f"  # {'; '.join(remarks)}" if remarks else ""
            lines.append(f"  {_quoted(column.column)}: {field_name}{remark}".rstrip())
        if layout is not None:
            fields = sorted(load_synonyms().families.get(layout.family, {}))
            lines.append(f"# fields: {', '.join(fields)}")
        lines += [
            "# date_order: dmy          # ymd, mdy or dmy, for days such as 3/4/2026",
            '# decimal_mark: ","        # "." or ","',
            "# currency: EUR            # of amounts that state none",
            "# account: my-account",
            "# skip_rows: [5, 9-12]",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
