"""Tables out of files: encoding, delimiter, header and preamble are found by content."""

from __future__ import annotations

import gzip
import io
import json
import resource
import time
import zipfile
from datetime import date, datetime
from pathlib import Path

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion.layouts import recognise
from ingestion.reading import RawTable, open_tables
from ingestion.values import Formula
from turnout.errors import InputError

JAPANESE = (
    "キャンペーンのパフォーマンス\n2026年4月1日 - 2026年6月30日\n"
    "日,キャンペーン,費用,表示回数,クリック数\n2026-04-01,02_指名／年次,126210,1479,105\n"
)
DAY = datetime.fromisoformat("2026-04-01")
WESTERN = "Día;Campaña;Coste;Impr.;Clics\n2026-04-01;Campaña de otoño – año;12,50;1.479;105\n"


def one(path: Path, **options) -> RawTable:
    tables = list(open_tables(path, **options))
    assert len(tables) == 1
    return tables[0]


def written(folder: Path, content: bytes, name: str = "file.dat") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refusal(path: Path, **options) -> str:
    with pytest.raises(InputError) as caught:
        _ = [list(table.rows()) for table in open_tables(path, **options)]
    problem = caught.value.problems[0]
    assert problem.file is not None
    assert problem.file.startswith(path.name)
    return problem.code


# --- encodings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp932", "shift_jis", "euc_jp"]
)
def test_japanese_in_every_encoding_reads_the_same(tmp_path, encoding):
    text = JAPANESE.replace("／", "") if encoding == "shift_jis" else JAPANESE
    table = one(written(tmp_path, text.encode(encoding)))
    assert [c.name for c in table.columns] == ["日", "キャンペーン", "費用", "表示回数", "クリック数"]
    assert next(table.rows()).cells[1].startswith("02_指名")
    assert table.language == "ja"


@pytest.mark.parametrize("bom", [b"\xff\xfe", b"\xfe\xff"])
def test_utf16_with_a_bom_of_either_order(tmp_path, bom):
    body = JAPANESE.encode("utf-16-le" if bom == b"\xff\xfe" else "utf-16-be")
    assert one(written(tmp_path, bom + body)).columns[0].name == "日"


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "latin-1", "utf-16-le"])
def test_western_letters(tmp_path, encoding):
    text = WESTERN.replace("–", "-") if encoding == "latin-1" else WESTERN
    table = one(written(tmp_path, text.encode(encoding)))
    assert table.columns[1].name == "Campaña"
    assert next(table.rows()).cells[1].startswith("Campaña de otoño")
    assert table.language == "es"


def test_an_encoding_that_shows_only_late_in_the_file(tmp_path):
    rows = "2026-04-01,Brand,1,2,3\n" * 30_000
    text = "Day,Campaign,Cost,Impr.,Clicks\n" + rows + "2026-04-02,年次カンファレンス,1,2,3\n"
    table = one(written(tmp_path, text.encode("cp932")))
    assert table.encoding == "cp932"
    assert list(table.rows())[-1].cells[1] == "年次カンファレンス"


def test_a_broken_place_in_utf8_does_not_cost_the_file(tmp_path):
    content = JAPANESE.encode() + "2026-04-02,壊れた".encode()[:-1] + b",1,2,3\n" + "2026-04-03,良い行,1,2,3\n".encode()
    table = one(written(tmp_path, content))
    assert table.encoding == "utf-8"
    rows = list(table.rows())
    assert "\ufffd" in rows[1].cells[1]
    assert rows[2].cells[1] == "良い行"


def test_headers_in_the_wrong_encoding_are_refused_with_what_they_mean(tmp_path):
    path = written(tmp_path, "イベント名,開催日\nA,2026-04-01\n".encode().decode("latin-1").encode())
    with pytest.raises(InputError, match=r"headers cannot be read.*probably means 'イベント名'"):
        list(open_tables(path))


# --- delimiters, rows, headers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_any_delimiter_and_line_end(tmp_path, delimiter, newline):
    lines = ["Day|Campaign|Cost|Impr.|Clicks", '2026-04-01|"a, b; c"|1|2|3'.replace("|", "\x00")]
    text = newline.join(lines).replace("|", delimiter).replace("\x00", delimiter) + newline
    table = one(written(tmp_path, text.encode()))
    assert table.delimiter == delimiter
    assert [list(r.cells) for r in table.rows()] == [["2026-04-01", "a, b; c", "1", "2", "3"]]


def test_excels_separator_hint(tmp_path):
    table = one(written(tmp_path, b"sep=;\nDay;Campaign;Cost;Impr.;Clicks\n2026-04-01;x;1,5;2;3\n"))
    assert table.delimiter == ";"
    assert table.header_row == 2
    assert next(table.rows()).number == 3


def test_row_numbers_are_those_a_spreadsheet_shows(tmp_path):
    text = 'Report\n\n"Day","Campaign","Cost"\n2026-04-01,"two\nlines",1\n\n2026-04-02,x,2\n'
    table = one(written(tmp_path, text.encode()))
    assert table.header_row == 3
    assert [r.number for r in table.rows()] == [4, 5, 6]
    assert next(table.rows()).cells[1] == "two\nlines"


def test_rows_may_be_read_again(tmp_path):
    table = one(written(tmp_path, JAPANESE.encode()))
    assert list(table.rows()) == list(table.rows())


def test_repeated_headers_are_kept_apart_and_empty_ones_named(tmp_path):
    table = one(written(tmp_path, b"Day,Currency code,,Currency code,Cost,\n2026-04-01,JPY,x,JPY,1,\n"))
    assert [c.title for c in table.columns] == ["Day", "Currency code", "column C", "Currency code (2)", "Cost"]


def test_a_header_nobody_knows_is_found_all_the_same(tmp_path):
    table = one(written(tmp_path, b"My list\n2026-01-01\nFoo,Bar,Baz\n1,2,3\n4,5,6\n"))
    assert [c.name for c in table.columns] == ["Foo", "Bar", "Baz"]
    with pytest.raises(InputError, match="the columns are of no known report \\(Foo, Bar, Baz\\)"):
        recognise(table)


def test_what_stands_above_the_header_is_read(tmp_path):
    lines = (
        "Campaign Performance Report (in UTC)",
        "Report Start: February 27, 2026, 12:00 AM",
        "Report End: March 22, 2026, 11:59 PM",
        "Date Generated: April 9, 2026, 8:54 AM",
        "",
        "Start Date (in UTC)\tCurrency\tCampaign Name\tTotal Spent\tImpressions",
        "2/27/2026\tEUR\tx\t1\t2",
    )
    stated = one(written(tmp_path, "\n".join(lines).encode())).stated
    assert stated.period == (date(2026, 2, 27), date(2026, 3, 22))
    assert stated.generated is not None
    assert stated.generated.isoformat() == "2026-04-09T08:54:00+00:00"
    assert stated.time_zone == "UTC"
    assert stated.title == "Campaign Performance Report (in UTC)"


@pytest.mark.parametrize(
    ("line", "first", "last"),
    [
        ("July 8, 2026 - July 31, 2026", (2026, 7, 8), (2026, 7, 31)),
        ("8 de julio de 2026 - 31 de julio de 2026", (2026, 7, 8), (2026, 7, 31)),
        ("8. Juli 2026 – 31. Juli 2026", (2026, 7, 8), (2026, 7, 31)),
        ("8 juil. 2026 au 31 juil. 2026", None, None),
        ("2026/7/8～2026/7/31", (2026, 7, 8), (2026, 7, 31)),
        ("期間: 令和8年7月8日～令和8年7月31日", (2026, 7, 8), (2026, 7, 31)),
    ],
)
def test_periods_in_many_languages(tmp_path, line, first, last):
    stated = one(written(tmp_path, f"x\n{line}\nCampaign,Cost,Impr.,Clicks\na,1,2,3\n".encode())).stated
    if first is None:
        assert stated.period in (None, (date(2026, 7, 8), date(2026, 7, 31)))
    else:
        assert stated.period == (date(*first), date(*last))


def test_currency_in_a_header(tmp_path):
    table = one(written(tmp_path, b"Day,Campaign name,Amount spent (EUR),Impressions\n2026-04-01,x,1,2\n"))
    assert table.stated.currency == "EUR"


# --- formats ----------------------------------------------------------------------------------------------------------


def workbook(folder: Path, sheets: dict[str, list[list[object]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    path = folder / "book.dat"
    book.save(path)
    return path


def test_a_workbook_gives_a_table_per_sheet_with_content(tmp_path):
    header = ["Day", "Campaign", "Cost"]
    path = workbook(
        tmp_path,
        {"A": [["Report"], [], header, [DAY, "x", 1.5]], "Empty": [], "B": [header, [None, "y", 2]]},
    )
    first, second = open_tables(path)
    assert (first.sheet, first.header_row) == ("A", 3)
    assert [r.number for r in first.rows()] == [4]
    assert next(first.rows()).cells[2] == 1.5
    assert second.sheet == "B"


def test_formulas_stay_formulas(tmp_path):
    path = workbook(tmp_path, {"A": [["Day", "Campaign", "Cost"], ["2026-04-01", "x", "=1+1"]]})
    cell = next(one(path).rows()).cells[2]
    assert isinstance(cell, Formula)
    assert cell == "=1+1"


def test_archives_are_looked_into(tmp_path):
    packed = written(tmp_path, gzip.compress(JAPANESE.encode("cp932")), "a.bin")
    assert one(packed).columns[0].name == "日"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("one.csv", JAPANESE)
        archive.writestr("__MACOSX/._one.csv", "x")
        archive.writestr("two.csv", WESTERN)
    tables = list(open_tables(written(tmp_path, buffer.getvalue(), "b.bin")))
    assert [t.file for t in tables] == ["b.bin/one.csv", "b.bin/two.csv"]
    assert len(list(tables[1].rows())) == 1


def test_sendgrids_json_is_a_table_of_days(tmp_path):
    metrics = {"delivered": 5, "opens": 2}
    days = [{"date": f"2026-03-0{n}", "stats": [{"metrics": metrics}]} for n in (1, 2)]
    table = one(written(tmp_path, json.dumps(days).encode()))
    assert [list(r.cells) for r in table.rows()] == [["2026-03-01", None, 5, 2], ["2026-03-02", None, 5, 2]]
    assert [r.number for r in table.rows()] == [1, 2]


def test_categories_of_json_are_rows_of_their_own(tmp_path):
    stats = [{"type": "category", "name": n, "metrics": {"delivered": 5}} for n in ("a", "b")]
    table = one(written(tmp_path, json.dumps([{"date": "2026-03-01", "stats": stats}]).encode()))
    assert [r.cells[1] for r in table.rows()] == ["a", "b"]


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b" \n\r\n\t\n", "empty_file"),
        (b"\xff\xfe", "empty_file"),
        (b"\xef\xbb\xbf\n", "empty_file"),
        (b"[]", "empty_file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "old_spreadsheet"),
        (b"%PDF-1.7 something", "not_a_table"),
        (b"\x89PNG\r\n\x1a\n", "not_a_table"),
        (b"\x7fELF\x02\x01\x01" + b"\0\x01\x02" * 40, "not_a_table"),
        (b"<!DOCTYPE html><html></html>", "not_a_table"),
        (b'{"errors": [{"message": "no"}]}', "unknown_json"),
        (b'[{"date": "2026-01-01", "stats": [{"met', "broken_json"),
        (b'[{"date": "2026-01-01", "stats": [{"metrics": {"opens": ' + b"9" * 5000 + b"}}]}]", "broken_json"),
        (b"[" * 100_000, "broken_json"),
        (b"PK\x03\x04 not really an archive", "damaged"),
        (gzip.compress(b"Day,Campaign\n" * 1000, mtime=0)[:40], "damaged"),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_what_is_no_table_is_refused_with_the_reason(tmp_path, content, code):
    assert refusal(written(tmp_path, content)) == code


def test_a_missing_file_and_a_folder(tmp_path):
    assert refusal(tmp_path / "nothing.csv") == "no_file"
    assert refusal(tmp_path) == "no_file"


def test_a_workbook_without_content(tmp_path):
    assert refusal(workbook(tmp_path, {"A": [], "B": []})) == "empty_file"


def test_a_quotation_mark_that_is_never_closed(tmp_path):
    text = 'Day,Campaign,Cost\n2026-04-01,"open,1\n' + "2026-04-02,x,1\n" * 2000
    assert refusal(written(tmp_path, text.encode()), max_line_bytes=10_000) == "broken_csv"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("prefix", [b"", b"Day,Campaign,Cost\n2026-04-01,x,1\n"])
def test_200_megabytes_of_one_line_are_refused_at_once(tmp_path, prefix, packed):
    path = tmp_path / "long.csv"
    with gzip.open(path, "wb", compresslevel=1) if packed else path.open("wb") as file:
        file.write(prefix)
        for _ in range(200):
            file.write(b"a,b;c d" * 149_797)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    assert refusal(path) == "line_too_long"
    assert time.perf_counter() - started < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kilobytes


def test_the_limit_of_a_line_is_a_setting(tmp_path):
    path = written(tmp_path, b"Day,Campaign,Cost\n2026-04-01," + b"x" * 5000 + b",1\n")
    assert refusal(path, max_line_bytes=2000) == "line_too_long"
    assert len(list(one(path).rows())) == 1


# --- properties -------------------------------------------------------------------------------------------------------

CELL = st.text(alphabet=st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(CELL, CELL, CELL), max_size=8),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(",\t;"),
)
def test_a_table_comes_back_as_it_was_written(tmp_path, rows, encoding, delimiter):
    import csv

    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow(["Day", "Campaign", "Cost"])
    writer.writerows(rows)
    table = one(written(tmp_path, buffer.getvalue().encode(encoding)))
    assert [tuple(r.cells) for r in table.rows()] == rows


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=400),
        st.text(max_size=200).map(str.encode),
        st.tuples(
            st.sampled_from([b"[{", b"PK\x03\x04", b"\x1f\x8b", b"\xff\xfe", b"Day,Campaign,Cost\n"]),
            st.binary(max_size=200),
        ).map(b"".join),
    )
)
def test_any_bytes_are_read_or_refused(tmp_path, content):
    try:
        for table in open_tables(written(tmp_path, content)):
            list(table.rows())
            recognise(table)
    except InputError as error:
        assert error.problems  # noqa: PT017
        assert all(p.message and p.file for p in error.problems)  # noqa: PT017
