"""What the event team's own sheets hold: tables, columns, kinds of cells, hints. Data stands in ``sheets.yaml``.

The reader (:mod:`ingestion.spreadsheets`) and the templates (:mod:`ingestion.templates`) share this description: what a
template asks for is what the reader understands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from ingestion.headers import load_synonyms

Language = Literal["ja", "en"]

Kind = Literal[
    "text", "day", "time", "instant", "count", "quantity", "money", "price", "percent", "hours", "currency",
    "category", "format", "industries", "job_titles", "company_sizes", "tactic", "level", "scope", "status", "yes_no",
    "data_kind",
]  # fmt: skip

#: The template of registration lists; read by the layout for registration systems, not by this family.
REGISTRATIONS = "registrations_template"


@dataclass(frozen=True, slots=True)
class SheetField:
    """One column.

    Attributes:
        kind: what its cells hold; see ``ingestion.spreadsheets`` for how each kind is read.
        required: a sheet without this column is refused, a row without a value quarantined.
        in_template: whether the template offers it.
        header: the template's header per language.
        hint, example: shown in the template per language; may be empty.
    """

    name: str
    kind: Kind
    required: bool
    in_template: bool
    header: Mapping[str, str]
    hint: Mapping[str, str] = field(default_factory=dict)
    example: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sheet:
    """One kind of sheet. ``name`` is its family in the table of headers, ``table`` the warehouse table it fills."""

    name: str
    table: str
    title: Mapping[str, str]
    fields: Mapping[str, SheetField]

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.fields.values() if f.required)


def _field(sheet: str, name: str, spec: Mapping[str, Any]) -> SheetField:
    kind = spec["kind"]
    assert kind in get_args(Kind), f"sheets.yaml: {sheet}.{name} has the unknown kind {kind!r}"
    synonyms = load_synonyms()
    header = spec.get("header") or {lang: synonyms.spelling(sheet, name, lang) for lang in get_args(Language)}
    return SheetField(
        name=name,
        kind=kind,
        required=bool(spec.get("required", False)),
        in_template=bool(spec.get("template", True)),
        header=header,
        hint=spec.get("hint") or {},
        example=spec.get("example") or {},
    )


@lru_cache(maxsize=1)
def load_sheets() -> Mapping[str, Sheet]:
    """Every kind of sheet by name, in the order in which templates are written."""
    data: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("sheets.yaml").read_text(encoding="utf-8"))
    return {
        name: Sheet(
            name=name,
            table=spec.get("table", "registration"),
            title=spec["title"],
            fields={f: _field(name, f, s) for f, s in spec["fields"].items()},
        )
        for name, spec in data.items()
    }
