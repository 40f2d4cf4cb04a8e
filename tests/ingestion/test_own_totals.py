"""A file's own total row is not counted, and is compared with what its rows add up to."""

from __future__ import annotations

from decimal import Decimal

import pytest
import sqlalchemy as sa

from ingestion.api import ingest_paths
from ingestion.headers import load_synonyms
from ingestion.records import Total
from ingestion.totals import compare, is_whole, totals
from turnout.quality import accept_everything
from turnout.warehouse import tables as wh

WORDS = load_synonyms().total_words
HEADER = "Day,Campaign,Campaign type,Currency,Cost,Impr.,Clicks\n"
ROWS = "2026-05-01,a,Search,JPY,100,1000,10\n2026-05-02,b,Display,JPY,250,500,5\n"


@pytest.fixture
def read(settings, engine, tmp_path):
    def read(text: str, **parts):
        path = tmp_path / "report.csv"
        path.write_text(text, encoding="utf-8")
        [file] = ingest_paths([path], settings=settings, engine=engine, gate=accept_everything, **parts).files
        return file

    return read


def warned(file) -> list[str]:
    return [w for w in file.warnings if "own total" in w]


@pytest.mark.parametrize(
    "total",
    [
        "Total,,,JPY,350,1500,15\n",
        "Total: Search,,,JPY,100,1000,10\nTotal: Account,,,JPY,350,1500,15\n",
        "Total: Search,,,JPY,100,1000,10\nTotal: Display,,,JPY,250,500,5\n",  # both are parts
        ",,,,350,1500,15\n",
        "合計,,,JPY,350,1500,15\n",
        "Total,,,JPY,--,1500,\n",
        "",
    ],
)
def test_a_total_that_agrees_says_nothing(read, total):
    assert warned(read(HEADER + ROWS + total)) == []


def test_a_total_that_does_not_agree_is_said_with_the_difference(read, settings, engine):
    file = read(HEADER + ROWS + "Total: Search,,,JPY,100,1000,10\nTotal: Campaigns,,,JPY,1350,1500,16\n")
    [said] = warned(file)
    assert "row 5, 'Total: Campaigns'" in said
    assert "spend 1,350 against 350 (-1,000)" in said
    assert "clicks 16 against 15 (-1)" in said
    assert "impressions" not in said
    assert (file.rows_loaded, file.rows_total) == (2, 2)
    own = totals(engine, settings.organisation)["report.csv"]["own_total"]
    assert own["matches"] is False
    assert own["differences"]["spend"] == {"stated": "1350", "rows": "350"}


def test_the_difference_names_rows_in_quarantine(read):
    [said] = warned(read(HEADER + ROWS + "2026-05-03,c,Search,JPY,lots,1,1\nTotal,,,JPY,360,1501,16\n"))
    assert "1 row is in quarantine" in said


def test_part_of_a_file_is_not_compared_with_its_total(read):
    from datetime import date

    assert warned(read(HEADER + ROWS + "Total,,,JPY,350,1500,15\n", window=(date(2026, 5, 2), date(2026, 5, 2)))) == []


def test_amounts_of_two_currencies_are_not_compared(read):
    text = HEADER + "2026-05-01,a,Search,JPY,100,1000,10\n2026-05-02,b,Search,USD,2,500,5\nTotal,,,JPY,400,1500,15\n"
    assert warned(read(text)) == []


def test_reading_twice_keeps_what_was_found(read, engine):
    text = HEADER + ROWS + "Total,,,JPY,350,1500,15\n"
    kept = []
    for _ in range(2):
        read(text)
        with engine.connect() as connection:
            kept.append(connection.execute(sa.select(wh.ingest_file.c.totals)).scalar_one())
    assert kept[0] == kept[1]
    assert kept[0]["own_total"]["matches"] is True


@pytest.mark.parametrize(
    ("label", "whole"),
    [
        ("Total", True), ("Total: Account", True), ("合計 - キャンペーン", True), ("Gesamt (12)", True),
        ("Summe", True), ("Total general", True), ("row without a campaign", True), ("Total: Search", False),
        ("合計: 検索", False), ("Total: Performance Max", False),
    ],
)  # fmt: skip
def test_which_totals_are_about_every_row(label, whole):
    assert is_whole(label, WORDS) is whole


@pytest.mark.parametrize(
    ("stated", "found", "rows", "matches"),
    [
        ("12345.68", "12345.674", 1, True),
        ("12345.68", "12345.66", 1, False),
        ("100.10", "100.00", 1000, True),  # a thousand rows, each rounded to the cent
        ("101.00", "100.00", 1000, False),
        ("1000", "1004", 100, True),  # whole yen
        ("1000", "1100", 100, False),
    ],
)
def test_rounding_row_by_row_is_no_difference(stated, found, rows, matches):
    check = compare([Total(9, "Total", {"spend": Decimal(stated)})], {"spend": found, "currency": "JPY"}, rows, WORDS)
    assert check is not None
    assert check.matches is matches


def test_counts_must_agree_exactly():
    check = compare([Total(9, "Total", {"clicks": Decimal(10)})], {"clicks": 11, "currency": None}, 1000, WORDS)
    assert check is not None
    assert not check.matches
