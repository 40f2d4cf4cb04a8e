"""Empty spreadsheets to fill in: events, tactic results, paid media, insights, registrations.

Headers come from the same description the reader uses, so a filled template loads and an empty one loads as nothing. An
XLSX template has drop-down lists, a comment with hint and example on every header, and two more sheets: how to fill it
in, and the words to choose from. Both carry :data:`ingestion.layouts.NOTES_MARKER`, so the reader passes them over. A
CSV template is its header row.
"""

from __future__ import annotations

import csv
import io
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ingestion.layouts import NOTES_MARKER
from ingestion.sheets import REGISTRATIONS, Language, Sheet, SheetField, load_sheets
from turnout import taxonomy
from turnout.errors import InputError, Problem
from turnout.tactics import load_catalogue

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.worksheet.worksheet import Worksheet

TemplateKind = Literal["xlsx", "csv"]

#: Rows a drop-down list reaches down to.
LIST_ROWS = 2_000

_WORDS: Mapping[str, Mapping[Language, str]] = {
    "notes": {"ja": "記入のしかた", "en": "How to fill in"},
    "lists": {"ja": "選択肢", "en": "Choices"},
    "not_read": {"ja": "このシートは読み込まれません", "en": "This sheet is not read"},
    "column": {"ja": "列", "en": "Column"},
    "needed": {"ja": "必須", "en": "Required"},
    "hint": {"ja": "書き方", "en": "How"},
    "example": {"ja": "例", "en": "Example"},
    "yes": {"ja": "必須", "en": "required"},
    "no": {"ja": "任意", "en": "optional"},
    "choose": {"ja": "「選択肢」シートから選ぶ", "en": "Choose from the sheet “Choices”"},
}
_GENERAL: Mapping[Language, Sequence[str]] = {
    "ja": (
        "最初のシートの見出しの下に1行ずつ記入してください。列の順序の変更や、任意の列の削除はかまいません。",
        "分からない値は空欄のままにしてください。空欄は「不明」、0 は「ゼロ」として扱われます。",
        "合計行は書いても書かなくてもかまいません。数えられません。",
        "読み込み: turnout ingest このファイル。読み込めなかった行: turnout quarantine list",
    ),
    "en": (
        "Fill in one row each below the headers of the first sheet. Columns may be moved, optional ones deleted.",
        "Leave empty what you do not know. Empty means unknown, 0 means zero.",
        "A row of totals does no harm; it is not counted.",
        "To load: turnout ingest this-file. Rows that could not be used: turnout quarantine list",
    ),
}

_LEVELS: Mapping[Language, Sequence[str]] = {"ja": ("高", "中", "低"), "en": ("high", "medium", "low")}
_STATUSES: Mapping[Language, Sequence[str]] = {
    "ja": ("確定", "キャンセル", "補欠"),
    "en": ("confirmed", "cancelled", "waitlist"),
}
_YES_NO: Mapping[Language, Sequence[str]] = {"ja": ("参加", "不参加"), "en": ("yes", "no")}

#: How cells of a kind are shown; text where a spreadsheet would make a date of ``10-49``.
_FORMATS: Mapping[str, str] = {
    "day": "yyyy-mm-dd",
    "instant": "yyyy-mm-dd hh:mm",
    "count": "#,##0",
    "quantity": "#,##0",
    "money": "#,##0",
    "price": "#,##0",
    "percent": "0.0%",
    "hours": "0.0",
    "company_sizes": "@",
}
_WIDTHS: Mapping[str, int] = {
    "text": 32,
    "tactic": 30,
    "industries": 30,
    "job_titles": 30,
    "company_sizes": 24,
    "scope": 40,
}
#: Kinds that hold one of a closed list (others may hold several, or anything).
_SINGLE = frozenset(("category", "format", "tactic", "level", "status", "yes_no"))


def write_templates(
    folder: Path, language: Language = "ja", kind: TemplateKind = "xlsx", *, force: bool = False
) -> list[Path]:
    """Write one template per kind of sheet.

    Args:
        folder: made where it does not exist.
        language: of headers, hints and choices.
        force: overwrite files that exist.

    Returns:
        The files written, in the order in which one would fill them in.

    Raises:
        InputError: a file exists and ``force`` is false, naming each of them; or the folder cannot be written to.
            Nothing is written then.
    """
    sheets = load_sheets()
    paths = {folder / f"{_stem(name)}.{kind}": sheet for name, sheet in sheets.items()}
    present = [path for path in paths if path.exists()]
    if present and not force:
        raise InputError([
            Problem("exists", "the file exists; use --force to overwrite it, or another folder", file=str(path))
            for path in present
        ])  # fmt: skip
    contents = {
        path: (_csv(sheet, language) if kind == "csv" else _xlsx(sheet, language)) for path, sheet in paths.items()
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            _replace(path, content)
    except OSError as error:
        message = f"templates cannot be written there ({error.strerror or error})"
        raise InputError([Problem("not_writable", message, file=str(folder))]) from error
    return list(paths)


def _stem(name: str) -> str:
    return "registrations" if name == REGISTRATIONS else name


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that nobody sees half of it."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        draft.write_bytes(content)
        os.replace(draft, path)  # noqa: PTH105 - Path.replace, but of a name that may be a directory
    finally:
        draft.unlink(missing_ok=True)


def _columns(sheet: Sheet) -> list[SheetField]:
    return [f for f in sheet.fields.values() if f.in_template]


def _csv(sheet: Sheet, language: Language) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow([f.header[language] for f in _columns(sheet)])
    return text.getvalue().encode("utf-8-sig")  # with the mark, so that Excel reads Japanese headers


# --- workbooks --------------------------------------------------------------------------------------------------------


def _choices(kind: str, language: Language) -> list[str]:
    """The words a cell of this kind is chosen from; empty for free ones."""
    vocabularies = {
        "category": taxonomy.categories,
        "format": taxonomy.formats,
        "industries": taxonomy.industries,
        "job_titles": taxonomy.job_titles,
        "company_sizes": taxonomy.company_sizes,
    }
    if kind in vocabularies:
        return [vocabularies[kind].label(i, language) for i in vocabularies[kind].ids]
    if kind == "tactic":
        return [t.name(language) for t in load_catalogue()]
    plain = {"level": _LEVELS, "status": _STATUSES, "yes_no": _YES_NO}.get(kind)
    return list(plain[language]) if plain is not None else []


def _xlsx(sheet: Sheet, language: Language) -> bytes:
    from openpyxl import Workbook

    workbook = Workbook()
    page = workbook.active
    assert page is not None
    page.title = sheet.title[language]
    ranges = _lists(workbook, sheet, language)
    _data_page(page, sheet, language, ranges)
    _notes(workbook, sheet, language)
    buffer = io.BytesIO()
    workbook.save(buffer)
    return buffer.getvalue()


def _lists(workbook: Workbook, sheet: Sheet, language: Language) -> dict[str, str]:
    """The sheet of choices; kind → the range that holds its words."""
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter, quote_sheetname

    kinds: dict[str, str] = {f.kind: f.header[language] for f in _columns(sheet) if _choices(f.kind, language)}
    if not kinds:
        return {}
    page: Any = workbook.create_sheet(_WORDS["lists"][language])
    page["A1"] = f"{_WORDS['not_read'][language]} {NOTES_MARKER}"
    page["A1"].font = Font(italic=True)
    ranges = {}
    for column, (kind, header) in enumerate(kinds.items(), start=1):
        letter = get_column_letter(column)
        page.cell(2, column, header).font = Font(bold=True)
        words = _choices(kind, language)
        for row, word in enumerate(words, start=3):
            page.cell(row, column, word)
        page.column_dimensions[letter].width = max(12, *(_width(w) + 2 for w in words))
        ranges[kind] = f"{quote_sheetname(page.title)}!${letter}$3:${letter}${len(words) + 2}"
    return ranges


def _data_page(page: Worksheet, sheet: Sheet, language: Language, ranges: Mapping[str, str]) -> None:
    """The sheet to fill in: headers, nothing below them but drop-down lists."""
    from openpyxl.comments import Comment
    from openpyxl.styles import Alignment, Font, PatternFill
    from openpyxl.utils import get_column_letter
    from openpyxl.worksheet.datavalidation import DataValidation

    for column, f in enumerate(_columns(sheet), start=1):
        letter = get_column_letter(column)
        cell: Any = page.cell(1, column, f.header[language])
        cell.font = Font(bold=True, color="FFFFFF")
        cell.fill = PatternFill("solid", fgColor="1F4E79" if f.required else "5B7FA6")
        cell.alignment = Alignment(horizontal="center", vertical="center", wrap_text=True)
        comment = Comment(_explanation(f, language), "Turnout")
        comment.width, comment.height = 320, 120
        cell.comment = comment
        dimension: Any = page.column_dimensions[letter]
        dimension.width = max(_WIDTHS.get(f.kind, 14), _width(f.header[language]) + 3)
        if f.kind in _FORMATS:
            dimension.number_format = _FORMATS[f.kind]
        if f.kind in ranges:
            single = f.kind in _SINGLE
            validation = DataValidation(
                type="list",
                formula1=f"={ranges[f.kind]}",
                allow_blank=True,
                # Other spellings and several values are understood too, so a word not in the list only warns.
                showErrorMessage=single,
                errorStyle="stop" if f.kind == "format" else "warning",
                showInputMessage=True,
            )
            validation.promptTitle = f.header[language][:32]
            validation.prompt = (f.hint.get(language) or _WORDS["choose"][language])[:250]
            validation.add(f"{letter}2:{letter}{LIST_ROWS}")
            page.add_data_validation(validation)
    page.freeze_panes = "A2"
    page.row_dimensions[1].height = 30


def _notes(workbook: Workbook, sheet: Sheet, language: Language) -> None:
    """The sheet that explains every column."""
    from openpyxl.styles import Alignment, Font

    page: Any = workbook.create_sheet(_WORDS["notes"][language], 1)
    page["A1"] = f"{_WORDS['not_read'][language]} {NOTES_MARKER}"
    page["A1"].font = Font(italic=True)
    for row, line in enumerate(_GENERAL[language], start=2):
        page.cell(row, 1, line)
    top = len(_GENERAL[language]) + 3
    for column, word in enumerate(("column", "needed", "hint", "example"), start=1):
        page.cell(top, column, _WORDS[word][language]).font = Font(bold=True)
    for row, f in enumerate(_columns(sheet), start=top + 1):
        needed = _WORDS["yes" if f.required else "no"][language]
        hint = f.hint.get(language) or (_WORDS["choose"][language] if _choices(f.kind, language) else "")
        for column, text in enumerate((f.header[language], needed, hint, f.example.get(language, "")), start=1):
            cell = page.cell(row, column, text)
            cell.alignment = Alignment(wrap_text=True, vertical="top")
    for letter, width in zip("ABCD", (30, 10, 64, 40), strict=True):
        page.column_dimensions[letter].width = width


def _explanation(f: SheetField, language: Language) -> str:
    lines = [_WORDS["yes" if f.required else "no"][language]]
    if hint := f.hint.get(language):
        lines.append(hint)
    if example := f.example.get(language):
        lines.append(f"{_WORDS['example'][language]}: {example}")
    return "\n".join(lines)


def _width(text: str) -> int:
    """Columns a text takes: Japanese letters are two wide."""
    return sum(1 if ord(c) < 0x2E80 else 2 for c in text)
