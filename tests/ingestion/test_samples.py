"""The sample exports in one warehouse: every figure is the platform's own, however often and in whatever copy read."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ingestion.api import ingest_paths, ingest_source, totals
from turnout.quality import accept_everything
from turnout.settings import Settings
from turnout.warehouse import tables as wh

EXPORTS = Path(__file__).parents[1] / "data" / "exports"
EXPECTED: dict[str, dict[str, Any]] = json.loads((EXPORTS / "expected.json").read_text())
FILES = sorted(EXPORTS / name for name in EXPECTED)

#: Descriptions of the samples, no figures one could sum.
NOTES = {"granularity", "note", "event", "naive_sum_including_totals_spend"}
#: The day registration opened, two days before anybody registered: the file itself cannot say it.
NOT_IN_THE_FILE = {("event_registrations.csv", "first")}


def ingest(settings: Settings, engine: sa.Engine, paths: list[Path], **more: Any):
    return ingest_paths(paths, settings=settings, engine=engine, gate=accept_everything, trigger="test", **more)


def warehouse(engine: sa.Engine) -> dict[str, list[tuple[Any, ...]]]:
    """All rows that count, without the marks of the run that wrote them."""
    marks = {"run_id", "fetched_at", "updated_at"}
    found = {}
    with engine.connect() as connection:
        for table in (*wh.FACT_TABLES, wh.campaign):
            columns = [c for c in table.c if c.name not in marks]
            query = sa.select(*columns).order_by(*table.primary_key.columns)
            found[table.name] = [tuple(row) for row in connection.execute(query)]
    return found


@pytest.fixture
def loaded(settings: Settings, engine: sa.Engine) -> tuple[Settings, sa.Engine]:
    report = ingest(settings, engine, FILES)
    assert report.ok
    assert report.summary()["rows_quarantined"] == 0
    return settings, engine


def test_every_file_of_one_warehouse_equals_the_platforms_own_screen(loaded):
    settings, engine = loaded
    found = totals(engine, settings.organisation)
    assert set(found) == set(EXPECTED)
    for name, expected in EXPECTED.items():
        for key, value in expected.items():
            if key not in NOTES and (name, key) not in NOT_IN_THE_FILE:
                assert found[name][key] == value, (name, key)
    assert found["event_registrations.csv"]["first"] == "2026-03-22"


def test_copies_of_one_export_count_once(loaded):
    _, engine = loaded
    with engine.connect() as connection:
        rows = dict(
            connection.execute(
                sa.select(wh.ad_performance.c.source, sa.func.count()).group_by(wh.ad_performance.c.source)
            ).all()
        )
        mails = connection.execute(sa.select(sa.func.count()).select_from(wh.email_performance)).scalar_one()
        campaigns = connection.execute(sa.select(sa.func.count()).select_from(wh.campaign)).scalar_one()
    assert rows == {"google_ads": 231 + 6, "meta_ads": 105, "linkedin_ads": 24}
    assert mails == 31
    assert campaigns == 3 + 6 + 1 + 1


def test_current_rows_say_which_copy_counts(loaded):
    settings, engine = loaded
    found = totals(engine, settings.organisation)
    assert found["gads_ja_daily.csv"]["current_rows"] + found["gads_ja_daily_cp932.csv"]["current_rows"] == 231
    assert found["gads_ja_daily_cp932.csv"]["current_rows"] == 231
    assert found["event_registrations.csv"]["current_rows"] == 98


def test_reading_everything_again_changes_nothing(loaded):
    settings, engine = loaded
    before, sums = warehouse(engine), totals(engine, settings.organisation)
    ingest(settings, engine, FILES)
    assert warehouse(engine) == before
    after = totals(engine, settings.organisation)
    assert after == sums


def test_the_order_of_files_does_not_matter(loaded):
    settings, engine = loaded
    before = warehouse(engine)
    with engine.begin() as connection:
        for table in (*wh.FACT_TABLES, wh.campaign, wh.ingest_file):
            connection.execute(sa.delete(table))
    ingest(settings, engine, FILES[::-1])
    assert warehouse(engine) == before


def test_nightly_windows_rebuild_what_reading_whole_files_gives(loaded):
    settings, engine = loaded
    shutil.copytree(EXPORTS, settings.inbox_path, ignore=shutil.ignore_patterns("registrations"))
    before = warehouse(engine)
    columns = {
        t.name: [c.name for c in t.c if c.name not in ("run_id", "fetched_at", "updated_at")] for t in wh.FACT_TABLES
    }

    def without_file(rows: dict[str, Any]) -> dict[str, Any]:
        return {
            name: [tuple(v for c, v in zip(columns[name], row, strict=True) if c != "file_id") for row in rows[name]]
            for name in columns
        }

    with engine.begin() as connection:
        for table in wh.FACT_TABLES:
            connection.execute(sa.delete(table))
    months = [(date(2026, m, 1), date(2026, m + 1, 1)) for m in (7, 3, 5, 2, 6, 4)]
    for source in ("google_ads", "meta_ads", "linkedin_ads", "sendgrid", "registrations"):
        for first, last in months:
            ingest_source(source, first, last, settings=settings, engine=engine, gate=accept_everything, trigger="test")
    assert without_file(warehouse(engine)) == without_file(before)


def test_readers_that_run_at_the_same_time_do_not_disturb_one_another(loaded):
    from concurrent.futures import ThreadPoolExecutor

    settings, engine = loaded
    before = warehouse(engine)
    with ThreadPoolExecutor(4) as pool:
        orders = [FILES, FILES[::-1], FILES, FILES[::-1]]
        assert all(report.ok for report in pool.map(lambda files: ingest(settings, engine, files), orders))
    assert warehouse(engine) == before


def test_a_dry_run_reports_the_same_and_writes_nothing(settings, engine):
    report = ingest(settings, engine, FILES, dry_run=True)
    assert report.summary()["rows_loaded"] == sum(entry["rows"] for entry in EXPECTED.values())
    with engine.connect() as connection:
        for table in (*wh.FACT_TABLES, wh.campaign, wh.ingest_file, wh.ingest_run, wh.quarantine, wh.validation):
            assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 0, table.name


def test_progress_adds_up_to_the_bytes_of_the_files(settings, engine):
    done: list[int] = []
    ingest(settings, engine, FILES, progress=done.append)
    assert sum(done) == sum(path.stat().st_size for path in FILES)
    assert all(step > 0 for step in done)


def test_money_is_exact_and_converted_with_the_rate_that_is_kept(loaded):
    _, engine = loaded
    t = wh.ad_performance
    with engine.connect() as connection:
        rows = connection.execute(
            sa.select(t.c.spend, t.c.spend_base, t.c.fx_rate, t.c.fx_date, t.c.currency, t.c.base_currency)
        ).all()
    assert {r.currency for r in rows} == {"JPY", "USD", "EUR"}
    for row in rows:
        assert row.base_currency == "JPY"
        assert row.spend_base == row.spend * row.fx_rate
    assert {r.fx_rate for r in rows if r.currency == "USD"} == {150}
    assert {r.fx_date for r in rows if r.currency == "USD"} == {date(2026, 1, 1)}


def test_linkedin_days_are_utc_whatever_the_installation(loaded):
    _, engine = loaded
    t = wh.ad_performance
    with engine.connect() as connection:
        zones = dict(
            connection.execute(sa.select(t.c.source, sa.func.min(t.c.account_time_zone)).group_by(t.c.source)).all()
        )
    assert zones == {"google_ads": "Asia/Tokyo", "meta_ads": "Asia/Tokyo", "linkedin_ads": "UTC"}


def test_every_column_is_explained(settings, engine):
    report = ingest(settings, engine, [EXPORTS / "linkedin_es_utf16.csv"], dry_run=True)
    columns = report.files[0].columns
    assert columns["Gasto total"] == "spend"
    assert columns["Fecha de inicio (huso horario de UTC)"] == "day"
    assert columns["Posibles contactos"] == "leads"
    assert columns["Promedio de permanencia (en segundos)"] is None


def as_workbook(source: Path, target: Path) -> Path:
    """The export as somebody saves it again from a spreadsheet: numbers and days are native cells."""
    import openpyxl

    from ingestion.reading import open_tables
    from ingestion.values import CellError, parse_date, parse_number

    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    (table,) = open_tables(source)
    for row in table.preamble:
        sheet.append(list(row.cells))
    sheet.append([c.name for c in table.columns])
    for row in table.rows():
        cells: list[Any] = []
        for cell in row.cells:
            try:
                number = parse_number(cell)
                cells.append(float(number) if number is not None else cell)
            except CellError:
                try:
                    cells.append(parse_date(cell))
                except CellError:
                    cells.append(cell)
        sheet.append(cells)
    book.save(target)
    return target


@pytest.mark.parametrize("how", ["xlsx", "gzip", "zip", "semicolon", "utf-16"])
def test_the_same_export_in_another_wrapping_counts_once(loaded, tmp_path, how):
    import csv
    import gzip
    import io
    import zipfile

    settings, engine = loaded
    source, target = EXPORTS / "gads_ja_daily.csv", tmp_path / "z_copy"
    if how == "xlsx":
        as_workbook(source, target)
    elif how == "gzip":
        target.write_bytes(gzip.compress(source.read_bytes()))
    elif how == "zip":
        with zipfile.ZipFile(target, "w") as archive:
            archive.write(source, "export.csv")
    else:
        buffer = io.StringIO()
        writer = csv.writer(buffer, delimiter=";" if how == "semicolon" else "\t")
        writer.writerows(csv.reader(io.StringIO(source.read_text(encoding="utf-8"))))
        target.write_text(buffer.getvalue(), encoding="utf-8-sig" if how == "semicolon" else "utf-16-le")
    report = ingest(settings, engine, [target])
    assert report.ok
    name = report.files[0].name
    found = totals(engine, settings.organisation)
    for key in ("rows", "spend", "currency", "impressions", "clicks", "conversions", "first", "last"):
        assert found[name][key] == EXPECTED["gads_ja_daily.csv"][key], key
    assert found[name]["current_rows"] == 231
    assert found["gads_ja_daily.csv"]["current_rows"] == found["gads_ja_daily_cp932.csv"]["current_rows"] == 0
