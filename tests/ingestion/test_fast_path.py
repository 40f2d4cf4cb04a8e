"""Blocks of columns and single rows are two ways to the same outcome, whatever a file holds."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import structlog
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import ingestion.blocks
from ingestion.ads import AdsLayout
from ingestion.api import ingest_paths
from ingestion.blocks import can_block, cell_blocks
from ingestion.layouts import Context, Layout, recognise
from ingestion.loader import stage
from ingestion.reading import RawTable, Row, open_tables
from ingestion.staging import Staged
from turnout.errors import InputError
from turnout.quality import GateDecision, RejectedRow
from turnout.settings import Settings
from turnout.warehouse import tables as wh

EXPORTS = sorted(p for p in (Path(__file__).parents[1] / "data" / "exports").rglob("*") if p.is_file())

HEADERS = {
    "google": "Day,Campaign,Campaign ID,Campaign type,Ad group,Ad name,Currency code,Cost,Impr.,Clicks,Conversions",
    "google_ja": "日,キャンペーン,キャンペーン ID,キャンペーン タイプ,広告グループ,広告名,通貨コード,費用,表示回数,"
    "クリック数,コンバージョン",
    "google_de": "Tag,Kampagne,Kampagnen-ID,Kampagnentyp,Anzeigengruppe,Anzeigenname,Währungscode,Kosten,"
    "Impressionen,Klicks,Conversions",
    "meta": "Reporting starts,Reporting ends,Campaign name,Ad set name,Ad name,Result indicator,Results,Currency,"
    "Amount spent,Impressions,Link clicks,Registrations completed",
    "linkedin": "Start Date (in UTC),Campaign Name,Campaign Type,Account Name,Currency,Total Spent,Impressions,"
    "Clicks,Leads",
}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Blocks of a few rows, so that what crosses from one into the next is tried too."""
    monkeypatch.setattr(ingestion.blocks, "BLOCK_CHARACTERS", 400)


def row_by_row(layout: Layout) -> Layout:
    """The layout without its short cut."""
    slow = copy.copy(layout)
    slow.read_blocks = lambda table, context: None  # type: ignore[method-assign]
    return slow


def outcome(table: RawTable, layout: Layout, settings: Settings, folder: Path, window: Any = None) -> Any:
    """Everything that reading a table says, in a form that can be compared."""
    context = Context(settings, account="folder")
    with Staged(folder, batch_rows=40) as rows:
        try:
            staged = stage(table, layout, context, rows, path=table.path, window=window)
        except InputError as error:
            return error.problems
        kept = {
            name: [
                {k: v for k, v in row.items() if v is not None}
                for part in rows.days_of(name)
                for row in part.to_pylist()
            ]
            for name in rows.tables
        }
        report = staged.report
        counts = (report.rows_read, report.rows_total, report.rows_blank, report.rows_outside)
        days = {name: rows.days(name) for name in rows.tables}
        return (
            counts,
            report.total_labels,
            report.warnings,
            days,
            kept,
            list(rows.rejected()),
            staged.first_day,
            staged.last_day,
        )


def assert_same(path: Path, settings: Settings, folder: Path, window: Any = None) -> int:
    """Compare both ways for every table of ads in a file; returns the rows that came as columns."""
    in_columns = 0
    try:
        tables = list(open_tables(path))
    except InputError:
        return 0
    for table in tables:
        try:
            layout, _ = recognise(table)
        except InputError:
            continue
        if not isinstance(layout, AdsLayout) or not can_block(table):
            continue
        with structlog.testing.capture_logs() as logs:
            fast = outcome(table, layout, settings, folder, window)
        assert fast == outcome(table, row_by_row(layout), settings, folder, window)
        assert "columns and rows differ" not in [entry["event"] for entry in logs]
        try:
            blocks = layout.read_blocks(table, Context(settings))
            in_columns += sum(len(block.records) for block in blocks or ())
        except InputError:
            pass
    return in_columns


# --- cells ------------------------------------------------------------------------------------------------------------


def cells_of(table: RawTable) -> list[tuple[int, list[Any]]]:
    found: list[Row] = []
    for block in cell_blocks(table):
        found += block.rows(np.arange(len(block.numbers)))
        found += block.others
    return sorted((row.number, list(row.cells)) for row in found)


def or_codes(read: Callable[[RawTable], Any], table: RawTable) -> Any:
    """What is read, or the codes of why it cannot be."""
    try:
        return read(table)
    except InputError as error:
        return {problem.code for problem in error.problems}


PIECES = st.sampled_from([
    '"', '""', ",", ";", "\n", "\r\n", "\r", "a", "b c", "1", "日本", " ", "\0", '","', '"\n"', '",\r\n"', "''", "=",
    "\ufeff", "é", "\u2028",
])  # fmt: skip


@given(pieces=st.lists(PIECES, max_size=60), size=st.integers(3, 60), ends=st.sampled_from(["\n", "\r\n", "\r", ""]))
@example(pieces=['"a""b"', ",", "c", "\n", '"x', "\n", 'y"', ",", "d"], size=4, ends="\n")
@hypothesis_settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_hold_the_cells_that_rows_hold(tmp_path, monkeypatch, pieces, size, ends):
    monkeypatch.setattr(ingestion.blocks, "BLOCK_CHARACTERS", size)
    path = tmp_path / "a.csv"
    path.write_bytes(f"Day,Campaign,Cost,Clicks,Impr.{ends or chr(10)}{''.join(pieces)}{ends}".encode())
    try:
        table = next(open_tables(path))
    except InputError:
        return
    assert or_codes(cells_of, table) == or_codes(
        lambda t: sorted((row.number, list(row.cells)) for row in t.rows()), table
    )


@pytest.mark.parametrize("path", EXPORTS, ids=lambda p: p.name)
def test_blocks_hold_the_cells_of_samples(path):
    try:
        tables = list(open_tables(path))
    except InputError:
        return
    for table in tables:
        if can_block(table):
            assert cells_of(table) == sorted((row.number, list(row.cells)) for row in table.rows())


# --- rows -------------------------------------------------------------------------------------------------------------

PLAIN_DAYS = ["2026-04-01", "2026-04-02", "2026/4/3", "2026-03-31"]
ODD_DAYS = [
    "",
    "--",
    "04/05/2026",
    "31.03.2026",
    "2026-02-30",
    "1900-01-00",
    "45748",
    "Total",
    "6 Apr 2026",
    "=1+1",
    "x",
]
PLAIN_WORDS = ["Summit", "春のセミナー", "Summit, autumn", "a b", 'the "big" one']
ODD_WORDS = [
    "",
    "--",
    "Total",
    "Total: Account",
    "合計",
    "=A1",
    "  two  spaces ",
    "nan",
    "unknown",
    "Ã©tÃ©",
    "Campaign",
    "ＡＢＣ",
]
PLAIN_NUMBERS = ["0", "12", "1234", "12.5", "1234.56", "0.25", "99.999"]
PLAIN_COUNTS = ["0", "12", "1234", "12"]
INDICATORS = ["actions:offsite_conversion.fb_pixel_complete_registration", "link_click"]
ODD_NUMBERS = [
    "", "--", "1,234", "1.234", "1,234.56", "1.234,56", "12,5", "0,5", "-3", "1e3", "¥1,200", "USD 20", "< 10",
    "1.2345678901", "0.0000005", "0.0000004999999999999", "99999999999999", "9999999999999.9999999", "１２", "12,34",
    "1,23,456", "(5)", "5 %", "1万", "x", "#REF!", "007", "0,123", "1 234", "1\xa0234,5", "00.5", "5.", ".5",
]  # fmt: skip
CURRENCIES = ["JPY", "USD", "EUR", "", "yen", "dollar", "--"]
IDS = ["1", "123456789", "1.23E+11", "'77", '="88"', "", "--"]


def kind_of(header: str) -> tuple[list[str], list[str]]:
    """What plain and odd cells under a header are."""
    folded = header.casefold()
    for words, plain, odd in (
        (("impr", "click", "klick", "回数", "クリック数"), PLAIN_COUNTS, ODD_NUMBERS),
        (("currency", "通貨", "währung"), ["JPY", "USD"], CURRENCIES),
        ((" id", "-id"), ["1", "123456789"], IDS),
        (("indicator",), INDICATORS, ["lead", "", "登録完了"]),
        (("cost", "費用", "kosten", "spent", "conv", "result", "regis", "lead", "コンバ"), PLAIN_NUMBERS, ODD_NUMBERS),
        (("campaign", "キャンペーン", "kampagne"), PLAIN_WORDS, ODD_WORDS),
        (("day", "日", "tag", "start", "reporting"), PLAIN_DAYS, ODD_DAYS),
    ):  # fmt: skip
        if any(word in folded for word in words):
            return plain, odd
    return PLAIN_WORDS, ODD_WORDS


def cells(header: str, chance: random.Random, oddness: float) -> Iterator[str]:
    """One cell for each header."""
    for name in header.split(","):
        plain, odd = kind_of(name)
        yield chance.choice(odd if chance.random() < oddness else plain)


def written(cell: str, chance: random.Random) -> str:
    quoted = any(c in cell for c in ',"\n') or chance.random() < 0.1
    return '"' + cell.replace('"', '""') + '"' if quoted else cell


@given(
    header=st.sampled_from(sorted(HEADERS)),
    seed=st.integers(0, 2**32),
    oddness=st.sampled_from([0.0, 0.02, 0.3]),
    rows=st.integers(0, 60),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]),
    window=st.sampled_from([None, None, "days"]),
)
@hypothesis_settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_generated_reports_read_alike_both_ways(tmp_path, header, seed, oddness, rows, encoding, window):
    chance = random.Random(seed)
    lines = ["Report", "1 March 2026 - 30 April 2026"] if chance.random() < 0.5 else []
    lines.append(HEADERS[header])
    for _ in range(rows):
        line = ",".join(written(c, chance) for c in cells(HEADERS[header], chance, oddness))
        if chance.random() < oddness / 4:
            line = chance.choice(
                ["", line + ",more", line.rpartition(",")[0], ",,,,,,,,,,", line.replace(",", ', "', 1), '"' + line]
            )
        lines.append(line)
    path = tmp_path / "report.csv"
    path.write_bytes(chance.choice(["\n", "\r\n"]).join(lines).encode(encoding))
    settings = Settings(home=tmp_path / "home")
    span = (date(2026, 4, 1), date(2026, 4, 2)) if window else None
    assert_same(path, settings, tmp_path, span)


@pytest.mark.parametrize("header", sorted(HEADERS))
def test_regular_reports_take_the_short_cut(tmp_path, header):
    """Cells by turns, not by chance: a period that ends before it begins, or doubled quotes, go row by row."""
    lines = [HEADERS[header]]
    for number in range(40):
        plain = [kind_of(name)[0] for name in HEADERS[header].split(",")]
        lines.append(",".join(choices[0] if number % 2 else choices[-2] for choices in plain).replace('"', ""))
    path = tmp_path / "report.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert assert_same(path, Settings(home=tmp_path / "home"), tmp_path) == 40


@pytest.mark.parametrize("path", EXPORTS, ids=lambda p: p.name)
def test_samples_and_their_mutations_read_alike_both_ways(path, tmp_path):
    settings = Settings(home=tmp_path / "home")
    assert_same(path, settings, tmp_path)
    original = path.read_bytes()
    for seed in range(6):
        chance = random.Random(seed)
        mutated = bytearray(original)
        for _ in range(chance.randrange(1, 8)):
            at = chance.randrange(len(mutated))
            mutated[at : at + chance.randrange(3)] = chance.choice(
                [b'"', b",", b"\n", b"9", b".", b"-", b"\r", b"", b"\xff", b";"]
            )
        copied = tmp_path / path.name
        copied.write_bytes(bytes(mutated))
        assert_same(copied, settings, tmp_path)


def test_a_difference_is_noticed_and_the_rows_win(tmp_path, monkeypatch):
    path = tmp_path / "report.csv"
    path.write_text(HEADERS["google"] + "\n" + "2026-04-01,a,1,Search,g,n,JPY,10,5,1,0.5\n" * 30)
    settings = Settings(home=tmp_path / "home")
    table = next(open_tables(path))
    layout, _ = recognise(table)
    expected = outcome(table, row_by_row(layout), settings, tmp_path)
    monkeypatch.setattr("ingestion.ads.AdsLayout.period", lambda self, table, values: (values["day"], values["day"]))
    monkeypatch.setattr(
        "ingestion.ads_blocks._decimals",
        lambda digits: ingestion.staging.arrow_array([1] * len(digits), ingestion.staging.AMOUNT),
    )
    with structlog.testing.capture_logs() as logs:
        assert outcome(table, layout, settings, tmp_path) == expected
    assert [entry["event"] for entry in logs].count("columns and rows differ") == 1


# --- warehouse --------------------------------------------------------------------------------------------------------

#: Which run wrote a row, and when.
MARKS = {"run_id", "updated_at", "loaded_at", "created_at", "checked_at", "fetched_at"}


def contents(engine: sa.Engine) -> dict[str, list[Any]]:
    found = {}
    with engine.connect() as connection:
        for table in (wh.ad_performance, wh.campaign, wh.quarantine, wh.ingest_file, wh.validation):
            columns = [sa.cast(c, sa.Text) for c in table.c if c.name not in MARKS]
            found[table.name] = [
                tuple(r) for r in connection.execute(sa.select(*columns).order_by(*table.primary_key.columns))
            ]
    return found


def refuse_some(table: str, frame: Any) -> GateDecision:
    """A gate that refuses rows by a figure, and so has them written down."""
    refused = [
        RejectedRow(n, "spend", str(frame.at[n, "spend"]), "test", "refused")
        for n in frame.index
        if frame.at[n, "clicks"] == 12
    ]
    return GateDecision(refused, rows_checked=len(frame))


def test_the_warehouse_is_the_same_to_the_byte(settings, engine, tmp_path, monkeypatch):
    chance = random.Random(5)
    inbox = tmp_path / "inbox"
    for name, header in HEADERS.items():
        path = inbox / name / "report.csv"
        path.parent.mkdir(parents=True)
        lines = [",".join(written(c, chance) for c in cells(header, chance, 0.05)) for _ in range(300)]
        path.write_text("\n".join([header, *lines]), encoding="utf-8")
    found = []
    for in_blocks in (True, False):
        if not in_blocks:
            monkeypatch.setattr(AdsLayout, "read_blocks", lambda self, table, context: None)
        report = ingest_paths([inbox], settings=settings, engine=engine, gate=refuse_some, trigger="test")
        assert report.ok
        found.append(contents(engine))
        with engine.begin() as connection:
            for table in (wh.ad_performance, wh.campaign, wh.quarantine, wh.ingest_file, wh.validation):
                connection.execute(sa.delete(table))
    assert found[0] == found[1]
    assert len(found[0]["ad_performance"]) > 500
    assert len(found[0]["quarantine"]) > 50
