"""Ten defects in spreadsheets, through the front door into PostgreSQL: a clear message each, nothing half-written."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from ingestion.api import IngestReport, ingest_paths, quarantine_rows
from turnout.identity import event_key
from turnout.quality import accept_everything
from turnout.settings import Settings
from turnout.warehouse import tables as wh

SAMPLES = Path(__file__).parents[2] / "samples" / "defects"

Ingest = Callable[..., IngestReport]


@pytest.fixture
def ingest(settings: Settings, engine: Engine) -> Ingest:
    def run(*paths: Path, **more: Any) -> IngestReport:
        return ingest_paths(paths, settings=settings, engine=engine, gate=accept_everything, **more)

    return run


def rows(engine: Engine, table: sa.Table, *columns: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        chosen = [table.c[c] for c in columns]
        return sorted(tuple(r) for r in connection.execute(sa.select(*chosen)))


def everything(engine: Engine) -> dict[str, Any]:
    """What the sheets' tables and the quarantine hold, without the marks of the run that wrote it."""
    marks = {"run_id", "fetched_at", "updated_at", "created_at", "loaded_at"}
    tables = (wh.event, wh.tactic_result, wh.paid_media, wh.insight, wh.quarantine)
    with engine.connect() as connection:
        return {
            t.name: sorted(
                repr({k: v for k, v in r.items() if k not in marks})
                for r in connection.execute(sa.select(t)).mappings()
            )
            for t in tables
        }


#: file, what is loaded, and of the defect: row, column, code, and the words that must be in the message.
REFUSED_ROWS = [
    ("02_text_in_number.csv", ["数字の見本 良い行"], 3, "実際申込数", "not_a_number", "'たくさん' is not"),
    ("03_negative_spend.csv", ["費用の見本 良い行"], 3, "実際コスト", "negative", "'-43000' is negative; an"),
    ("06_date_in_1900.csv", ["日付の見本 良い行"], 3, "開催日", "date_out_of_range", "'1900/1/1' is outside of"),
    ("10_formula.csv", ["数式の見本 良い行"], 3, "目標申込数", "formula", "'=1+1' is a formula, not a value"),
    (
        "05_duplicate_event.csv", ["重複の見本", "重複の見本"], 3, "イベント名", "duplicate_conflict",
        "an event of this name and date already stands in row 2, which is stored, and differs in 実際申込数",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "loaded", "row", "column", "code", "words"), REFUSED_ROWS)
def test_a_bad_row_goes_to_quarantine_and_the_good_ones_are_loaded(
    engine: Engine, ingest: Ingest, name: str, loaded: list[str], row: int, column: str, code: str, words: str
):
    report = ingest(SAMPLES / name)
    (file,) = report.files
    assert (file.status, file.rows_loaded, file.rows_quarantined) == ("loaded", len(loaded), 1)
    assert [n for (n,) in rows(engine, wh.event, "name")] == loaded
    (bad,) = quarantine_rows(engine, "default")
    assert (bad["file"], bad["row_number"], bad["column_name"], bad["reason_code"]) == (name, row, column, code)
    assert words in bad["reason"]
    assert bad["table_name"] == "event"
    assert "イベント名" in bad["record"]


def test_an_unknown_tactic_goes_to_quarantine_and_the_known_ones_are_loaded(engine: Engine, ingest: Ingest):
    report = ingest(SAMPLES / "04_unknown_tactic.csv")
    (file,) = report.files
    assert (file.rows_loaded, file.rows_quarantined) == (2, 1)
    assert rows(engine, wh.tactic_result, "tactic_id", "cost_base") == [("meta_ads", 240_000), ("own_email", 0)]
    (bad,) = quarantine_rows(engine, "default")
    assert (bad["row_number"], bad["column_name"], bad["value"]) == (3, "施策名", "宇宙広告")
    assert bad["reason_code"] == "unknown_tactic"
    assert "'宇宙広告' names no tactic" in bad["reason"]


def test_a_result_is_tied_to_its_event_whichever_comes_first(engine: Engine, ingest: Ingest):
    ingest(SAMPLES / "04_unknown_tactic.csv")
    assert {e for (e,) in rows(engine, wh.tactic_result, "event_id")} == {None}
    ingest(SAMPLES / "02_text_in_number.csv")
    key = event_key("default", "数字の見本 良い行", date(2025, 4, 10))
    assert {e for (e,) in rows(engine, wh.tactic_result, "event_id")} == {key}


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("01_missing_header.csv", "missing_column", ["開催日", "イベント名, カテゴリ, テーマ, 形式, 目標申込数"]),
        ("07_mojibake.csv", "mojibake", ["saved in the wrong encoding", "イベント名", "CSV UTF-8"]),
        ("08_empty.csv", "empty_file", ["the file is empty"]),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_one_message(
    engine: Engine, ingest: Ingest, name: str, code: str, words: list[str]
):
    report = ingest(SAMPLES / name)
    assert not report.ok
    (problem,) = report.refused
    assert problem.code == code
    assert str(problem).startswith(name)
    assert all(w in problem.message for w in words), problem.message
    assert rows(engine, wh.event, "name") == []
    (bad,) = quarantine_rows(engine, "default")
    assert (bad["file"], bad["reason_code"], bad["reason"]) == (name, code, problem.message)


def test_two_hundred_megabytes_in_one_line_are_refused_without_being_held(
    tmp_path: Path, engine: Engine, ingest: Ingest
):
    path = tmp_path / "one_line.csv"
    with path.open("wb") as file:
        file.write("イベント名,開催日,形式,備考".encode())
        for _ in range(200):
            file.write(b"x," * (1 << 19))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = ingest(path, SAMPLES / "02_text_in_number.csv")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    path.unlink()
    (problem,) = report.refused
    assert problem.code == "line_too_long"
    assert "a line is longer than 1,000,000 bytes" in problem.message
    assert grown < 100, f"{grown:.0f} MB more"
    assert [n for (n,) in rows(engine, wh.event, "name")] == ["数字の見本 良い行"]


def test_all_at_once_in_one_folder_and_again_without_change(engine: Engine, ingest: Ingest):
    report = ingest(SAMPLES)
    by_status: dict[str, list[str]] = {}
    for file in report.files:
        by_status.setdefault(file.status, []).append(file.path.name)
    assert sorted(by_status["refused"]) == ["01_missing_header.csv", "07_mojibake.csv", "08_empty.csv"]
    assert by_status.get("ignored") == ["README.md"]
    assert len(rows(engine, wh.event, "event_id")) == 6
    assert len(rows(engine, wh.tactic_result, "result_id")) == 2
    assert all(simulated for (simulated,) in rows(engine, wh.event, "is_simulated"))
    assert len(quarantine_rows(engine, "default")) == 9
    for file in report.files:
        out = file.rows_loaded + file.rows_quarantined + file.rows_total + file.rows_blank + file.rows_outside
        assert file.rows_read == out, file.path.name
    first = everything(engine)
    ingest(SAMPLES)
    assert everything(engine) == first


def test_a_dry_run_says_the_same_and_writes_nothing(engine: Engine, ingest: Ingest):
    nothing = everything(engine)
    dry = ingest(SAMPLES, dry_run=True)
    assert everything(engine) == nothing
    real = ingest(SAMPLES)
    assert [str(p) for p in dry.refused] == [str(p) for p in real.refused]
    assert dry.summary() == real.summary()


def test_row_defects_in_one_workbook_beside_good_rows(tmp_path: Path, engine: Engine, ingest: Ingest):
    book = openpyxl.Workbook()
    page = book.active
    page.title = "イベント"
    page.append(["2025年度 イベント一覧"])
    page.append(["イベント名", "開催日", "カテゴリ", "形式", "目標申込数", "実際コスト"])
    page.append(["良い回", date(2025, 4, 1), "AI", "会場", 100, 50_000])
    page.append(["数式の回", date(2025, 4, 2), "AI", "会場", "=1+1", 50_000])
    page.append(["文字の回", date(2025, 4, 3), "AI", "会場", "百人", 50_000])
    page.append(["負の回", date(2025, 4, 4), "AI", "会場", 100, -1])
    page.append(["昔の回", date(1900, 1, 1), "AI", "会場", 100, 1])
    page.append(["良い回", date(2025, 4, 1), "AI", "会場", 999, 50_000])
    page.append(["化けた回 ã‚¤ãƒ™ãƒ³ãƒˆ", date(2025, 4, 5), "AI", "会場", 100, 1])
    page.append(["最後の良い回", date(2025, 4, 6), "AI", "会場", None, None])
    page.append(["合計", None, None, None, "=SUM(E3:E10)", "=SUM(F3:F10)"])
    results = book.create_sheet("施策")
    results.append(["施策名", "カンファレンス名", "申込(CV数)", "費用(税抜)"])
    results.append(["メルマガ", "良い回", 30, 0])
    results.append(["のろし", "良い回", 1, 0])
    path = tmp_path / "集客管理.xlsx"
    book.save(path)
    report = ingest(path)
    assert [(f.sheet, f.rows_loaded, f.rows_quarantined, f.rows_total) for f in report.files] == [
        ("イベント", 2, 6, 1),
        ("施策", 1, 1, 0),
    ]
    assert [n for (n,) in rows(engine, wh.event, "name")] == ["最後の良い回", "良い回"]
    assert [(b["sheet"], b["row_number"], b["reason_code"]) for b in quarantine_rows(engine, "default")] == [
        ("イベント", 4, "formula"), ("イベント", 5, "not_a_number"), ("イベント", 6, "negative"),
        ("イベント", 7, "date_out_of_range"), ("イベント", 8, "duplicate_conflict"), ("イベント", 9, "mojibake"),
        ("施策", 3, "unknown_tactic"),
    ]  # fmt: skip


def test_nothing_is_half_written_when_the_load_breaks_off(engine: Engine, settings: Settings):
    def breaks_off(table: str, frame: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest_paths([SAMPLES / "05_duplicate_event.csv"], settings=settings, engine=engine, gate=breaks_off)
    assert rows(engine, wh.event, "name") == []
    assert quarantine_rows(engine, "default") == []


# --- a sheet that is corrected ----------------------------------------------------------------------------------------

HEADER = "イベント名,開催日,形式,実際コスト\n"


def test_a_corrected_sheet_replaces_what_it_said_before(tmp_path: Path, engine: Engine, ingest: Ingest):
    path = tmp_path / "events.csv"
    path.write_text(HEADER + "春の会,2025/4/1,会場,100\n夏の会,2025/7/1,会場,-5\n秋の会,2025/10/1,会場,300\n")
    ingest(path)
    assert [n for (n,) in rows(engine, wh.event, "name")] == ["春の会", "秋の会"]
    assert len(quarantine_rows(engine, "default")) == 1
    path.write_text(HEADER + "春の大会,2025/4/1,会場,100\n夏の会,2025/7/1,会場,200\n")
    ingest(path)
    assert rows(engine, wh.event, "name", "actual_cost") == [("夏の会", 200), ("春の大会", 100)]
    assert quarantine_rows(engine, "default") == []


def test_a_row_that_becomes_bad_keeps_its_last_good_version(tmp_path: Path, engine: Engine, ingest: Ingest):
    path = tmp_path / "events.csv"
    path.write_text(HEADER + "春の会,2025/4/1,会場,100\n夏の会,2025/7/1,会場,200\n秋の会,2025/10/1,会場,300\n")
    ingest(path)
    path.write_text(HEADER + "春の会,2025/4/1,会場,many\n夏の会,2025/7/1,会場,250\n")
    ingest(path)
    assert rows(engine, wh.event, "name", "actual_cost") == [("夏の会", 250), ("春の会", 100)]
    # A row without a date may have been any of them: nothing is removed until it is mended.
    path.write_text(HEADER + "春の会,1900/1/1,会場,100\n夏の会,2025/7/1,会場,260\n")
    ingest(path)
    assert rows(engine, wh.event, "name", "actual_cost") == [("夏の会", 260), ("春の会", 100)]


def test_a_copy_of_the_file_does_not_count_twice(tmp_path: Path, engine: Engine, ingest: Ingest):
    for name in ("a.csv", "b.csv"):
        shutil.copy(SAMPLES / "04_unknown_tactic.csv", tmp_path / name)
    ingest(tmp_path)
    assert len(rows(engine, wh.tactic_result, "result_id")) == 2
    assert len(quarantine_rows(engine, "default")) == 1
