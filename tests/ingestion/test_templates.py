"""Templates: empty ones load as nothing, filled ones load, and no file of the user's is ever overwritten."""

from __future__ import annotations

import csv
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from ingestion.api import IngestReport, ingest_paths, quarantine_rows
from ingestion.sheets import load_sheets
from ingestion.templates import write_templates
from turnout import taxonomy
from turnout.errors import InputError
from turnout.quality import accept_everything
from turnout.settings import Settings
from turnout.tactics import load_catalogue
from turnout.warehouse import tables as wh

NAMES = ["events", "tactic_results", "paid_media", "insights", "registrations"]
TABLES = (wh.event, wh.tactic_result, wh.paid_media, wh.insight, wh.registration)

both_languages = pytest.mark.parametrize("language", ["ja", "en"])
both_kinds = pytest.mark.parametrize("kind", ["xlsx", "csv"])


def ingest(folder: Path, settings: Settings, engine: Engine) -> IngestReport:
    return ingest_paths([folder], settings=settings, engine=engine, gate=accept_everything)


def counts(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {t.name: connection.execute(sa.select(sa.func.count()).select_from(t)).scalar_one() for t in TABLES}


@both_languages
@both_kinds
def test_one_file_per_sheet_with_the_headers_of_the_language(tmp_path: Path, language: str, kind: str):
    paths = write_templates(tmp_path / "new" / "folder", language, kind)
    assert [p.name for p in paths] == [f"{name}.{kind}" for name in NAMES]
    for path, sheet in zip(paths, load_sheets().values(), strict=True):
        if kind == "csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                header, *rest = csv.reader(file)
            assert rest == []
        else:
            page = openpyxl.load_workbook(path).worksheets[0]
            header = [cell.value for cell in page[1]]
            assert page.max_row == 1
        assert header == [f.header[language] for f in sheet.fields.values() if f.in_template]


@both_languages
@both_kinds
def test_an_empty_template_loads_as_nothing_without_a_complaint(
    tmp_path: Path, settings: Settings, engine: Engine, language: str, kind: str
):
    write_templates(tmp_path, language, kind)
    report = ingest(tmp_path, settings, engine)
    assert report.ok
    assert [f.status for f in report.files] == ["loaded"] * len(NAMES)
    assert report.summary() | {"files": 0} == dict.fromkeys(report.summary(), 0)
    assert [w for f in report.files for w in f.warnings] == []
    assert set(counts(engine).values()) == {0}
    assert quarantine_rows(engine, "default") == []


def fill(path: Path, language: str, *rows: dict[str, Any]) -> None:
    """Write rows under the headers of a template, by the names of the fields."""
    sheet = next(s for n, s in load_sheets().items() if n.startswith(path.stem))
    headers = [(n, f.header[language]) for n, f in sheet.fields.items() if f.in_template]
    if path.suffix == ".csv":
        with path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([[row.get(n, "") for n, _ in headers] for row in rows])
        return
    book = openpyxl.load_workbook(path)
    page = book.worksheets[0]
    for number, row in enumerate(rows, start=2):
        for column, (name, header) in enumerate(headers, start=1):
            assert page.cell(1, column).value == header
            if name in row:
                page.cell(number, column).value = row[name]
    book.save(path)


@both_languages
@both_kinds
def test_a_filled_template_loads(tmp_path: Path, settings: Settings, engine: Engine, language: str, kind: str):
    """Every example the template shows, the way a person would copy it."""
    paths = write_templates(tmp_path, language, kind)
    for path, sheet in zip(paths, load_sheets().values(), strict=True):
        example = {n: f.example[language] for n, f in sheet.fields.items() if f.in_template and f.example}
        fill(path, language, example)
    report = ingest(tmp_path, settings, engine)
    assert report.ok
    assert quarantine_rows(engine, "default") == []
    assert [w for f in report.files for w in f.warnings] == []
    assert set(counts(engine).values()) == {1}
    with engine.connect() as connection:
        event = connection.execute(sa.select(wh.event)).mappings().one()
        result = connection.execute(sa.select(wh.tactic_result)).mappings().one()
        medium = connection.execute(sa.select(wh.paid_media)).mappings().one()
        registration = connection.execute(sa.select(wh.registration)).mappings().one()
    assert (event["category"], event["format"], event["budget"]) == ("ai_data", "online", 1_200_000)
    assert event["company_sizes"] == ["300-499", "500-999", "1000-4999", "5000+"]
    assert (result["tactic_id"], result["cost"], result["staff_hours"]) == ("own_email", 0, 6)
    assert result["event_id"] == event["event_id"]
    assert (medium["ctr"], medium["minimum_price"]) == (Decimal("0.018"), 500_000)
    assert (registration["event_id"], registration["tactic_id"]) == (event["event_id"], "own_email")
    assert (registration["status"], registration["attended"]) == ("confirmed", True)


@both_languages
def test_every_word_of_the_drop_down_lists_is_understood(tmp_path: Path, language: str):
    vocabularies = (
        taxonomy.categories, taxonomy.formats, taxonomy.industries, taxonomy.job_titles, taxonomy.company_sizes,
    )  # fmt: skip
    write_templates(tmp_path, language, "xlsx")

    def choices(name: str) -> dict[str, list[str]]:
        page = openpyxl.load_workbook(tmp_path / f"{name}.xlsx").worksheets[2]
        return {c[1].value: [cell.value for cell in c[2:] if cell.value is not None] for c in page.iter_cols()}

    for vocabulary, words in zip(vocabularies, choices("events").values(), strict=True):
        assert [vocabulary.parse(w) for w in words] == list(vocabulary.ids)
        assert [vocabulary.parse_many(w) for w in words] == [([i], []) for i in vocabulary.ids]
    header = load_sheets()["tactic_results"].fields["tactic"].header[language]
    assert [load_catalogue().match(w) for w in choices("tactic_results")[header]] == list(load_catalogue().ids)


@both_languages
def test_drop_down_lists_point_at_their_words(tmp_path: Path, language: str):
    for path in write_templates(tmp_path, language, "xlsx"):
        book = openpyxl.load_workbook(path)
        page = book.worksheets[0]
        for validation in page.data_validations.dataValidation:
            name, _, cells = validation.formula1.removeprefix("=").rpartition("!")
            target = book[name.strip("'").replace("''", "'")]
            words = [c.value for (c,) in target[cells.replace("$", "")]]
            assert words
            assert all(isinstance(w, str) and w for w in words)
        kinds = {
            f.kind for f in load_sheets()[next(n for n in load_sheets() if n.startswith(path.stem))].fields.values()
        }
        if kinds & {"category", "format", "tactic", "level"}:
            assert page.data_validations.dataValidation


def test_headers_carry_hints(tmp_path: Path):
    page = openpyxl.load_workbook(write_templates(tmp_path, "ja", "xlsx")[0]).worksheets[0]
    comments = {cell.value: cell.comment.text for cell in page[1]}
    assert comments["イベント名"].startswith("必須\n1行に1イベント")
    assert "例: 2025/6/15" in comments["開催日"]


def test_files_that_exist_are_not_overwritten_unless_asked(tmp_path: Path):
    (tmp_path / "events.csv").write_text("mine")
    (tmp_path / "insights.csv").write_text("mine too")
    with pytest.raises(InputError) as caught:
        write_templates(tmp_path, "en", "csv")
    assert [Path(p.file or "").name for p in caught.value.problems] == ["events.csv", "insights.csv"]
    assert "--force" in caught.value.problems[0].message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events.csv", "insights.csv"]
    assert (tmp_path / "events.csv").read_text() == "mine"
    write_templates(tmp_path, "en", "csv", force=True)
    assert "Event name" in (tmp_path / "events.csv").read_text(encoding="utf-8-sig")


def test_a_folder_that_cannot_be_made_is_a_clear_message(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="templates cannot be written there"):
        write_templates(tmp_path / "file" / "below")


def test_dates_typed_into_a_workbook_load(tmp_path: Path, settings: Settings, engine: Engine):
    paths = write_templates(tmp_path, "ja", "xlsx")
    fill(paths[0], "ja", {"name": "春の会", "event_date": datetime(2025, 4, 1), "format": "会場", "price": 0})  # noqa: DTZ001
    ingest(tmp_path, settings, engine)
    with engine.connect() as connection:
        event = connection.execute(sa.select(wh.event)).mappings().one()
    assert (event["event_date"].isoformat(), event["starts_at"], event["price"]) == ("2025-04-01", None, 0)


@both_languages
def test_the_analysts_page_names_every_column_of_the_templates(language: str):
    docs = Path(__file__).parents[2] / "docs"
    page = " ".join((docs / ("ja" if language == "ja" else ".") / "analyst.md").read_text(encoding="utf-8").split())
    for sheet in load_sheets().values():
        for column in sheet.fields.values():
            assert not column.in_template or column.header[language] in page, column.header[language]
