"""The event team's own sheets, as people keep them: every row becomes something, and nothing is guessed silently."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingestion.headers import load_synonyms
from ingestion.layouts import Context, recognise
from ingestion.reading import RawTable, open_tables
from ingestion.records import Blank, Outcome, Record, Rejected, Total
from ingestion.sheet_cells import unit_of
from ingestion.sheets import REGISTRATIONS, load_sheets
from turnout.errors import InputError
from turnout.identity import event_key
from turnout.settings import Settings

TODAY = date(2026, 4, 1)

EVENTS = (
    "イベント名", "開催日", "カテゴリ", "テーマ", "形式", "目標申込数", "実際申込数", "実際参加数", "予算",
    "実際コスト", "主要ターゲット業種", "主要ターゲット職種", "主要ターゲット規模", "備考",
)  # fmt: skip
RESULTS = (
    "施策名", "カンファレンス名", "テーマ・カテゴリ", "形式", "ターゲット(業種)",
    "ターゲット(職種)", "ターゲット(従業員規模)", "配信数/PV", "クリック数", "申込(CV数)", "費用(税抜)", "CPA",
)  # fmt: skip
MEDIA = (
    "メディア名", "タイプ", "主要読者層_業種", "主要読者層_職種", "主要読者層_規模", "リーチ数", "CTR_平均",
    "CVR_平均", "CPA_平均", "最低出稿金額", "備考・特徴",
)  # fmt: skip


def as_csv(*rows: tuple[Any, ...] | list[Any]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


class Reader:
    """Writes a sheet to a file, reads it with the real reader, and keeps what came out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(home=folder / "home")

    def text(self, content: str, encoding: str = "utf-8") -> Read:
        path = self.folder / "sheet.csv"
        path.write_bytes(content.encode(encoding))
        return self.path(path)[0]

    def rows(self, header: tuple[str, ...], *rows: tuple[Any, ...]) -> Read:
        return self.text(as_csv(header, *rows))

    def workbook(self, **sheets: list[list[Any]]) -> list[Read]:
        book = openpyxl.Workbook()
        book.remove(book.active)
        for name, rows in sheets.items():
            page = book.create_sheet(name)
            for row in rows:
                page.append(row)
        path = self.folder / "book.xlsx"
        book.save(path)
        return self.path(path)

    def path(self, path: Path) -> list[Read]:
        return [self._read(table) for table in open_tables(path)]

    def _read(self, table: RawTable) -> Read:
        layout, _ = recognise(table)
        context = Context(self.settings, today=TODAY)
        return Read(layout.name, list(layout.read(table, context)), context.warnings)


class Read:
    def __init__(self, layout: str, outcomes: list[Outcome], warnings: list[str]) -> None:
        self.layout, self.outcomes, self.warnings = layout, outcomes, warnings

    @property
    def records(self) -> list[dict[str, Any]]:
        return [o.values for o in self.outcomes if isinstance(o, Record)]

    @property
    def rejected(self) -> list[Rejected]:
        return [o for o in self.outcomes if isinstance(o, Rejected)]

    @property
    def kinds(self) -> list[str]:
        return [type(o).__name__ for o in self.outcomes]

    def one(self) -> dict[str, Any]:
        assert self.kinds == ["Record"], [str(p) for r in self.rejected for p in r.problems]
        return self.records[0]

    def problem(self) -> str:
        (rejected,) = self.rejected
        (problem,) = rejected.problems
        return str(problem)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def event(**cells: Any) -> tuple[Any, ...]:
    """A row of the Japanese events sheet; what is not named is plausible or empty."""
    row = {"イベント名": "AIセミナー", "開催日": "2024/6/15", "カテゴリ": "AI・データ", "形式": "オンライン"} | cells
    return tuple(row.get(h, "") for h in EVENTS)


def result(**cells: Any) -> tuple[Any, ...]:
    row = {"施策名": "メルマガ", "カンファレンス名": "AIセミナー", "申込(CV数)": "30"} | cells
    return tuple(row.get(h, "") for h in RESULTS)


# --- what a sheet is --------------------------------------------------------------------------------------------------


def test_every_listed_spelling_of_a_header_means_its_field():
    synonyms = load_synonyms()
    for sheet in load_sheets().values():
        if sheet.name == REGISTRATIONS:
            continue
        assert set(synonyms.families[sheet.name]) == set(sheet.fields)
        for name, languages in synonyms.families[sheet.name].items():
            for spelling in (s for spellings in languages.values() for s in spellings):
                assert synonyms.field(sheet.name, spelling) == name, spelling


@pytest.mark.parametrize("language", ["ja", "en"])
@pytest.mark.parametrize("name", ["events", "tactic_results", "paid_media", "insights"])
def test_a_sheet_is_recognised_by_its_headers_in_either_language(reader: Reader, name: str, language: str):
    headers = tuple(f.header[language] for f in load_sheets()[name].fields.values())
    read = reader.rows(headers)
    assert read.layout == f"spreadsheet.{name}"
    assert read.outcomes == []


def test_the_japanese_sheet_of_events(reader: Reader):
    read = reader.rows(
        EVENTS,
        event(
            イベント名="ＡＩ活用セミナー（夏）", 開催日="令和6年6月15日", カテゴリ="ＡＩ・データ",
            テーマ="生成AI", 目標申込数="２００",
            実際申込数="236名", 実際参加数="151", 予算="¥1,200,000", 実際コスト="１０８．５万円",
            主要ターゲット業種="製造・メーカー、IT・通信", 主要ターゲット職種="エンジニア・情シス",
            主要ターゲット規模="1,000名以上",
            備考="好評",
        ),
    )  # fmt: skip
    record = read.one()
    assert record["event_id"] == event_key("default", "AI活用セミナー(夏)", date(2024, 6, 15))
    assert record["name"] == "ＡＩ活用セミナー（夏）"
    assert record["event_date"] == date(2024, 6, 15)
    assert record["category"] == "ai_data"
    assert record["format"] == "online"
    assert (record["target_registrations"], record["actual_registrations"], record["actual_attendees"]) == (
        200,
        236,
        151,
    )
    assert (record["budget"], record["actual_cost"], record["currency"]) == (
        Decimal(1_200_000),
        Decimal(1_085_000),
        "JPY",
    )
    assert record["industries"] == ["manufacturing", "it_services"]
    assert record["job_titles"] == ["software_engineer", "it_systems"]
    assert record["company_sizes"] == ["1000-4999", "5000+"]
    assert record["notes"] == "好評"
    assert record["is_simulated"] is False
    assert read.warnings == []


def test_the_english_sheet_of_events(reader: Reader):
    headers = ("Event title", "Event date", "Category", "Format", "Capacity", "Ticket price", "Registrations",
               "Attendees", "Promotion budget (USD)", "Target industries")  # fmt: skip
    read = reader.rows(
        headers,
        ("DevNight", "15 June 2024 18:30", "Security", "In person", 80, "free", 70, 52, "8,000", "Banking, Retail"),
    )
    record = read.one()
    assert record["event_date"] == date(2024, 6, 15)
    assert record["starts_at"].isoformat() == "2024-06-15T18:30:00+09:00"
    assert record["price"] == 0
    assert (record["budget"], record["currency"]) == (Decimal(8000), "USD")
    assert record["industries"] == ["banking", "wholesale_retail"]


def test_the_sheet_of_tactic_results(reader: Reader):
    read = reader.rows(
        (*RESULTS, "工数(時間)"),
        (*result(**{
            "テーマ・カテゴリ": "AI", "形式": "オンライン", "ターゲット(業種)": "製造・メーカー・金融",
            "配信数/PV": "8,200",
            "クリック数": "340", "費用(税抜)": "0",
        }), "1時間30分"),
        (*result(施策名="Facebook広告 2回目", **{"費用(税抜)": "30万円", "CPA": "10,000", "申込(CV数)": "30.5"}), ""),
    )  # fmt: skip
    mail, ads = read.records
    assert (mail["tactic_id"], mail["tactic_name"], mail["event_name"]) == ("own_email", "メルマガ", "AIセミナー")
    assert (mail["reach"], mail["clicks"], mail["registrations"], mail["cost"]) == (8200, 340, 30, 0)
    assert mail["industries"] == ["manufacturing", "finance"]
    assert mail["staff_hours"] == Decimal("1.50")
    assert (ads["tactic_id"], ads["cost"], ads["registrations"]) == ("meta_ads", Decimal(300_000), Decimal("30.5"))
    assert ads["reach"] is None
    assert ads["staff_hours"] is None


def test_the_sheet_of_paid_media(reader: Reader):
    read = reader.rows(
        MEDIA,
        (
            "テック誌",
            "記事広告",
            "情報サービス",
            "エンジニア",
            "全規模",
            "５万",
            "1.8%",
            "0.03",
            "¥12,000",
            "50万円〜",
            "x",
        ),
    )
    assert "minimum_price" not in "".join(read.warnings)
    problem = read.problem()
    assert "最低出稿金額" in problem
    read = reader.rows(
        MEDIA,
        (
            "テック誌",
            "記事広告",
            "情報サービス",
            "エンジニア",
            "全規模",
            "５万",
            "1.8%",
            "0.03",
            "¥12,000",
            "50万円",
            "x",
        ),
    )
    record = read.one()
    assert (record["reach"], record["ctr"], record["cvr"]) == (50_000, Decimal("0.018"), Decimal("0.03"))
    assert (record["cpa"], record["minimum_price"]) == (Decimal(12_000), Decimal(500_000))
    assert record["company_sizes"] == []


def test_the_sheet_of_insights(reader: Reader):
    read = reader.rows(
        ("知見", "影響度", "確信度", "適用範囲"),
        ("水曜午前のメールがよく開かれる", "中", "★★★", "自社メルマガ・オンライン・製造・メーカー、東日本"),
        ("有料イベントは直前に伸びる", "+20%", "", "指定なし"),
    )
    first, second = read.records
    assert (first["impact"], first["confidence"]) == ("medium", "high")
    assert first["applies_to"] == {
        "as_written": "自社メルマガ・オンライン・製造・メーカー、東日本",
        "tactics": ["own_email"],
        "formats": ["online"],
        "categories": ["manufacturing"],
        "other": ["東日本"],
    }
    assert (second["impact"], second["confidence"], second["applies_to"]) == ("+20%", None, {})


def test_all_sheets_of_a_workbook_with_titles_above_the_headers(reader: Reader):
    events, results = reader.workbook(
        イベント=[
            ["2024年度 イベント一覧"],
            [],
            [None, *EVENTS],
            [1, "AIセミナー", datetime(2024, 6, 15, 14), "AI", None, "会場", 100.0, 80, None, 1_200_000],  # noqa: DTZ001
            [2],
            [None, "合計", None, None, None, None, 100, 80],
        ],
        施策=[
            ["施策別の実績"],
            list(RESULTS),
            ["connpass", "AIセミナー", None, None, None, None, None, 900, 80, 12, 0, 0],
        ],
    )
    assert events.kinds == ["Record", "Blank", "Total"]
    assert events.records[0]["target_registrations"] == 100
    assert events.records[0]["starts_at"].hour == 14
    assert results.one()["tactic_id"] == "connpass"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932", "utf-16"])
def test_encodings_of_japanese_spreadsheets(reader: Reader, encoding: str):
    rows = [event(イベント名=f"第{n}回 データ活用セミナー", 備考="①～㈱") for n in range(1, 30)]
    read = reader.text(as_csv(EVENTS, *rows), encoding)
    assert len(read.records) == 29
    assert read.records[0]["name"] == "第1回 データ活用セミナー"


# --- cells ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "day", "start"),
    [
        ("2024/6/15", date(2024, 6, 15), None),
        ("２０２４年６月１５日（土）", date(2024, 6, 15), None),
        ("令和6年6月15日", date(2024, 6, 15), None),
        ("R6.6.15", date(2024, 6, 15), None),
        ("2024/6/15 14:00", date(2024, 6, 15), time(14)),
        ("2024/6/15(土) 14:00〜17:00", date(2024, 6, 15), time(14)),
        ("2024/6/15-2024/6/16", date(2024, 6, 15), None),
        ("2024年6月15日〜16日", date(2024, 6, 15), None),
    ],
)
def test_days_of_events(reader: Reader, cell: str, day: date, start: time | None):
    record = reader.rows(EVENTS, event(開催日=cell)).one()
    assert record["event_date"] == day
    assert (record["starts_at"].timetz().replace(tzinfo=None) if record["starts_at"] else None) == start


def test_a_start_time_in_its_own_column(reader: Reader):
    record = reader.rows((*EVENTS, "開始時刻"), (*event(), "午後2時30分")).one()
    assert record["starts_at"].isoformat() == "2024-06-15T14:30:00+09:00"


def test_american_dates_are_settled_by_the_column(reader: Reader):
    headers = ("Event name", "Date", "Format", "Category")
    read = reader.rows(headers, ("A", "6/7/2024", "online", "AI"), ("B", "6/25/2024", "online", "AI"))
    assert [r["event_date"] for r in read.records] == [date(2024, 6, 7), date(2024, 6, 25)]
    read = reader.rows(headers, ("A", "6/7/2024", "online", "AI"))
    assert "may be day/month or month/day" in read.problem()


@pytest.mark.parametrize(
    ("header", "cell", "amount", "currency"),
    [
        ("予算", "¥1,200,000", 1_200_000, "JPY"),
        ("予算", "120万円", 1_200_000, "JPY"),
        ("予算", "１２０万", 1_200_000, "JPY"),
        ("予算(千円)", "1,200", 1_200_000, "JPY"),
        ("予算（万円）", "120", 1_200_000, "JPY"),
        ("予算（万円）", "120万円", 1_200_000, "JPY"),
        ("予算（単位：百万円）", "1.2", 1_200_000, "JPY"),
        ("予算(USD)", "8000", 8_000, "USD"),
        ("予算", "$8,000", 8_000, "USD"),
        ("予算", "0", 0, "JPY"),
        ("予算", "", None, "JPY"),
        ("予算", "未定", None, "JPY"),
    ],
)
def test_amounts_and_the_units_of_their_headers(
    reader: Reader, header: str, cell: str, amount: int | None, currency: str
):
    headers = tuple(header if h == "予算" else h for h in EVENTS)
    record = reader.rows(headers, event(予算=cell)).one()
    assert record["budget"] == amount
    assert record["currency"] == currency


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("費用(税込)", {"with_tax": True}),
        ("Cost (incl. tax)", {"with_tax": True}),
        ("CTR(%)", {"is_percent": True}),
        ("工数(人日)", {"is_days": True}),
        ("Average CPA", {"currency": None}),
        ("Budget in thousand yen", {"scale": 1000}),
    ],
)
def test_units_in_headers(header: str, expected: dict[str, Any]):
    unit = unit_of(header)
    assert {name: getattr(unit, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("header", "cell", "hours"),
    [
        ("工数(時間)", "6", 6), ("工数(時間)", "2.5h", Decimal("2.5")), ("工数", "1時間30分", Decimal("1.5")),
        ("工数", "90分", Decimal("1.5")), ("工数", "3人日", 24), ("工数(人日)", "3", 24), ("Staff hours", "2 hours", 2),
        ("工数", "0", 0), ("工数", "", None), ("工数", "-", None),
    ],
)  # fmt: skip
def test_staff_hours(reader: Reader, header: str, cell: str, hours: Any):
    assert reader.rows((*RESULTS, header), (*result(), cell)).one()["staff_hours"] == hours


def test_hours_as_a_spreadsheet_stores_durations(reader: Reader):
    rows = [[*RESULTS, "工数"], [*result(), timedelta(hours=30)], [*result(施策名="connpass"), time(1, 30)]]
    (read,) = reader.workbook(実績=rows)
    assert [r["staff_hours"] for r in read.records] == [Decimal(30), Decimal("1.5")]


def test_company_sizes_that_a_spreadsheet_made_dates_of(reader: Reader):
    rows = [list(EVENTS), list(event(主要ターゲット規模=datetime(2026, 1, 9)))]  # noqa: DTZ001
    rows.append(list(event(イベント名="B", 主要ターゲット規模=datetime(1949, 10, 1))))  # noqa: DTZ001
    (read,) = reader.workbook(イベント=rows)
    assert [r["company_sizes"] for r in read.records] == [["1-9"], ["10-49"]]
    assert "made a date of a company size" in read.warnings[0]


def test_an_empty_cell_is_unknown_and_zero_is_zero(reader: Reader):
    unknown, zero = reader.rows(
        EVENTS, event(), event(イベント名="B", 実際申込数="0", 実際参加数="0", 実際コスト="0円")
    ).records
    figures = ("target_registrations", "actual_registrations", "actual_attendees", "budget", "actual_cost")
    assert [unknown[f] for f in figures] == [None] * 5
    assert [zero[f] for f in figures] == [None, 0, 0, None, 0]


def test_several_values_in_a_cell_and_words_nobody_knows(reader: Reader):
    read = reader.rows(EVENTS, event(主要ターゲット業種="製造・メーカー，宇宙開発／金融", カテゴリ="宇宙"))
    record = read.one()
    assert record["industries"] == ["manufacturing", "finance"]
    assert record["category"] == "other"
    assert any("row 2: カテゴリ: '宇宙' is no known category, stored as other" in w for w in read.warnings)
    assert any("row 2: 主要ターゲット業種: '宇宙開発' is no known industry, left out" in w for w in read.warnings)


def test_everybody_is_no_restriction(reader: Reader):
    read = reader.rows(
        EVENTS, event(主要ターゲット業種="全業種", 主要ターゲット職種="-", 主要ターゲット規模="指定なし")
    )
    record = read.one()
    assert (record["industries"], record["job_titles"], record["company_sizes"]) == ([], [], [])
    assert read.warnings == []


@pytest.mark.parametrize(
    ("notes", "kind", "simulated"),
    [
        ("シミュレーション", "", True), ("※シミュレーションデータ", "", True), ("春の回 (simulated)", "", True),
        ("シミュレーション技術の紹介", "", False), ("", "シミュレーション", True), ("シミュレーション", "実績", False),
        ("", "", False),
    ],
)  # fmt: skip
def test_rows_marked_as_simulated(reader: Reader, notes: str, kind: str, simulated: bool):
    record = reader.rows((*EVENTS, "データ区分"), (*event(備考=notes), kind)).one()
    assert record["is_simulated"] is simulated
    record = reader.rows((*RESULTS, "備考", "データ区分"), (*result(), notes, kind)).one()
    assert record["is_simulated"] is simulated


def test_addresses_in_notes_are_struck_out(reader: Reader):
    record = reader.rows(EVENTS, event(備考="担当 hanako@example.com 03-1234-5678")).one()
    assert record["notes"] == "担当 [e-mail] [telephone]"


# --- rows that are refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "code", "words"),
    [
        ({"予算": "たくさん"}, "not_a_number", "column 予算: 'たくさん' is not an amount of money"),
        ({"実際コスト": "-5000"}, "negative", "column 実際コスト: '-5000' is negative; an amount here is 0 or more"),
        ({"実際コスト": "▲5,000"}, "negative", "is negative"),
        ({"目標申込数": "=1+1"}, "formula", "column 目標申込数: '=1+1' is a formula, not a value; copy the column"),
        ({"イベント名": "=A1"}, "formula", "is a formula"),
        ({"開催日": "1900/1/0"}, "not_a_date", "names a day that does not exist"),
        ({"開催日": "1900/1/1"}, "date_out_of_range", "'1900/1/1' is outside of what is allowed, 2000-01-01"),
        ({"開催日": "2204/6/15"}, "date_out_of_range", "correct the year"),
        ({"開催日": "6/15"}, "not_a_date", "has no year"),
        ({"開催日": "来月"}, "not_a_date", "is not a date"),
        ({"開催日": ""}, "missing_value", "column 開催日: 開催日 is empty"),
        ({"イベント名": ""}, "missing_value", "column イベント名: イベント名 is empty"),
        ({"形式": ""}, "missing_value", "column 形式: 形式 is empty"),
        ({"形式": "郵送"}, "unknown_format", "会場 (In person), オンライン (Online), ハイブリッド (Hybrid)"),
        ({"実際申込数": "12.5"}, "not_whole", "fractions are not allowed"),
        ({"実際申込数": "99999999999"}, "number_too_large", "at most 1,000,000,000"),
        ({"イベント名": "ã‚¤ãƒ™ãƒ³ãƒˆ"}, "mojibake", "was saved in the wrong encoding and probably means 'イベント'"),
        ({"イベント名": "あ" * 301}, "too_long", "has 301 letters; a name has at most 300"),
        ({"予算": "$100", "実際コスト": "¥100"}, "two_currencies", "this one has 予算 in USD, 実際コスト in JPY"),
    ],
)  # fmt: skip
def test_a_bad_event_is_refused_with_place_value_and_what_is_allowed(
    reader: Reader, cells: dict[str, str], code: str, words: str
):
    read = reader.rows(EVENTS, event(イベント名="前の回"), event(**cells), event(イベント名="次の回"))
    assert read.kinds == ["Record", "Rejected", "Record"]
    (problem,) = read.rejected[0].problems
    assert (problem.code, problem.row, problem.file) == (code, 3, "sheet.csv")
    assert words in str(problem)


@pytest.mark.parametrize(
    ("cells", "code", "words"),
    [
        ({"施策名": "ロケット打ち上げ"}, "unknown_tactic", "'ロケット打ち上げ' names no tactic, or more than one"),
        ({"施策名": "Facebok広告"}, "unknown_tactic", "did you mean"),
        ({"カンファレンス名": ""}, "missing_value", "in merged cells only the first row has the name"),
        ({"費用(税抜)": "-1"}, "negative", "is negative"),
        ({"申込(CV数)": "-1"}, "negative", "is negative"),
        ({"申込(CV数)": ""}, "no_figures", "no figure at all"),
        ({"クリック数": "=SUM(A1:A3)"}, "formula", "is a formula"),
    ],
)  # fmt: skip
def test_a_bad_result_is_refused(reader: Reader, cells: dict[str, str], code: str, words: str):
    read = reader.rows(RESULTS, result(**cells), result(施策名="connpass"))
    assert read.kinds == ["Rejected", "Record"]
    (problem,) = read.rejected[0].problems
    assert problem.code == code
    assert words in str(problem)


@pytest.mark.parametrize(
    ("header", "cell", "code"),
    [
        ("CTR_平均", "1.8", "not_a_percentage"), ("CTR_平均", "180%", "not_a_percentage"),
        ("CTR_平均", "-1%", "negative"), ("CPA_平均", "安い", "not_a_number"),
    ],
)  # fmt: skip
def test_a_rate_is_a_share(reader: Reader, header: str, cell: str, code: str):
    row = tuple({"メディア名": "誌", header: cell}.get(h, "") for h in MEDIA)
    (problem,) = reader.rows(MEDIA, row).rejected[0].problems
    assert (problem.code, problem.column) == (code, header)


def test_a_percent_sign_in_the_header_makes_bare_numbers_percentages(reader: Reader):
    record = reader.rows(("メディア名", "CTR(%)"), ("誌", "1.8")).one()
    assert record["ctr"] == Decimal("0.018")


def test_all_reasons_of_a_row_at_once(reader: Reader):
    read = reader.rows(EVENTS, event(開催日="1900/1/1", 形式="郵送", 予算="x", 目標申込数="-1"))
    assert [p.column for p in read.rejected[0].problems] == ["開催日", "形式", "目標申込数", "予算"]


def test_an_event_twice_points_to_the_first(reader: Reader):
    read = reader.rows(
        EVENTS,
        event(予算="1"),
        event(イベント名="ＡＩ　セミナー"),
        event(イベント名="ＡＩセミナー", 予算="2"),
        event(予算="1"),
    )
    assert read.kinds == ["Record", "Record", "Rejected", "Rejected"]
    conflict, copy = (r.problems[0] for r in read.rejected)
    assert (conflict.code, conflict.row) == ("duplicate_conflict", 4)
    assert "already stands in row 2, which is stored, and differs in イベント名, 予算" in conflict.message
    assert (copy.code, copy.message) == (
        "duplicate",
        "the same as row 2, which is stored; this copy is not counted again",
    )


def test_a_result_twice_is_refused_but_a_second_send_is_its_own(reader: Reader):
    read = reader.rows(RESULTS, result(), result(施策名="メルマガ 2回目"), result(**{"申込(CV数)": "31"}), result())
    assert read.kinds == ["Record", "Record", "Rejected", "Rejected"]
    assert [r["tactic_id"] for r in read.records] == ["own_email", "own_email"]
    assert [r.problems[0].code for r in read.rejected] == ["duplicate_conflict", "duplicate"]


def test_events_of_one_name_are_told_apart_by_the_day_in_results(reader: Reader):
    read = reader.rows((*RESULTS, "開催日"), (*result(), "2024/5/1"), (*result(), "2024/6/1"))
    assert [r["event_date"] for r in read.records] == [date(2024, 5, 1), date(2024, 6, 1)]


def test_rows_of_sums_and_repeated_headers_are_not_counted(reader: Reader):
    read = reader.rows(
        EVENTS,
        event(),
        ("合計", *[""] * 4, "100", *[""] * 8),
        EVENTS,
        ("Total: 2 events", *[""] * 13),
        ("", "小計", *[""] * 12),
        event(イベント名="Summary"),
        ("",) * 14,
    )
    assert read.kinds == ["Record", "Total", "Total", "Total", "Total", "Record", "Blank"]
    assert [o.label for o in read.outcomes if isinstance(o, Total)] == [
        "合計", "repeated header", "Total: 2 events", "小計",
    ]  # fmt: skip


def test_text_under_unknown_headers_only_is_not_lost_silently(reader: Reader):
    read = reader.rows((*EVENTS, "社内メモ"), (*[""] * 14, "3"), (*[""] * 14, "要確認"))
    assert read.kinds == ["Blank", "Rejected"]
    assert read.rejected[0].problems[0].code == "no_value"


def test_a_row_with_too_many_cells_is_refused(reader: Reader):
    read = reader.rows(EVENTS, (*event(), "余り"))
    assert read.rejected[0].problems[0].code == "too_many_cells"


def test_a_missing_required_header_names_what_is_there_and_what_is_wanted(reader: Reader):
    with pytest.raises(InputError) as caught:
        reader.rows(tuple(h for h in EVENTS if h != "開催日"), event())
    (problem,) = caught.value.problems
    assert problem.code == "missing_column"
    assert "開催日" in problem.message
    assert "イベント名, カテゴリ, テーマ, 形式" in problem.message


def save_results(path: Path, results: dict[str, str]) -> None:
    """Put the results of formulas into a workbook, as a spreadsheet program does when it saves."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    page = parts["xl/worksheets/sheet1.xml"].decode()
    for cell, result in results.items():
        kind = "" if result.replace(".", "").isdigit() else ' t="e"' if result.startswith("#") else ' t="str"'
        page, count = re.subn(
            rf'<c r="{cell}"([^>]*?)(?: t="\w+")?><f>(.*?)</f><v ?/?>(?:</v>)?',
            rf'<c r="{cell}"\1{kind}><f>\2</f><v>{result}</v>',
            page,
        )
        assert count == 1, cell
    parts["xl/worksheets/sheet1.xml"] = page.encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_formulas_are_read_by_the_results_the_workbook_was_saved_with(reader: Reader):
    header = ["イベント名", "開催日", "形式", "目標申込数", "予算", "実際コスト"]
    day = datetime(2025, 4, 1)  # noqa: DTZ001
    rows = [
        header,
        ["第一回", day, "会場", "=50*2", 1000, "=E2*0.9"],
        ["第二回", day, "会場", 100, 1000, "=E3/0"],
        ["第三回", day, "会場", 100, 1000, "=1+1"],
        [None, None, None, None, None, '=IF(A5="","",E5*0.9)'],
        ["第四回", day, "会場", 100, 1000, 900],
        ["合計", None, None, "=SUM(D2:D6)"],
    ]
    reader.workbook(イベント=rows)
    path = reader.folder / "book.xlsx"
    save_results(path, {"D2": "100", "F2": "900", "F3": "#REF!", "F5": "", "D7": "400"})
    (read,) = reader.path(path)
    assert read.kinds == ["Record", "Rejected", "Rejected", "Blank", "Record", "Total"]
    assert (read.records[0]["target_registrations"], read.records[0]["actual_cost"]) == (100, 900)
    assert [r.problems[0].code for r in read.rejected] == ["spreadsheet_error", "formula"]
    assert read.warnings[1:] == [
        "row 2: 目標申込数: formulas, read by the results the file was last saved with",
        "row 2: 実際コスト: formulas, read by the results the file was last saved with",
    ]


# --- figures that contradict one another ------------------------------------------------------------------------------


def test_contradictions_are_warned_about_and_stored_as_written(reader: Reader):
    read = reader.rows(EVENTS, event(実際申込数="50", 実際参加数="60"))
    assert read.one()["actual_attendees"] == 60
    assert "more attendees than registrations" in read.warnings[0]
    read = reader.rows((*EVENTS, "募集開始日"), (*event(), "2024/7/1"))
    assert read.one()["registration_opens"] is None
    assert "registration opens after the event" in read.warnings[0]
    read = reader.rows(RESULTS, result(**{"クリック数": "10", "配信数/PV": "5"}))
    assert "more clicks than sends" in read.warnings[0]


@pytest.mark.parametrize(
    ("cpa", "words"),
    [
        ("10,000", None),
        ("9,999", None),
        ("12,000", "the CPA written, 12,000, is not cost / registrations = 10,000"),
        ("11,000", "it seems to include tax"),
        ("=K2/J2", "is a formula"),
    ],
)
def test_a_reported_cpa_is_compared_and_never_costs_the_row(reader: Reader, cpa: str, words: str | None):
    read = reader.rows(RESULTS, result(**{"費用(税抜)": "300000", "CPA": cpa}))
    assert read.one()["cost"] == 300_000
    assert (words in "".join(read.warnings)) if words else read.warnings == []


def test_warnings_of_one_kind_are_one_and_name_their_rows(reader: Reader):
    rows = [event(イベント名=f"会 {n}", カテゴリ="宇宙") for n in range(20)]
    (warning,) = reader.rows(EVENTS, *rows).warnings
    assert warning.startswith("rows 2, 3, 4, 5, 6, 7, 8, 9, …: カテゴリ: '宇宙' is no known category")


def test_a_refused_row_is_not_warned_about(reader: Reader):
    assert reader.rows(EVENTS, event(カテゴリ="宇宙", 開催日="x")).warnings == []


def test_two_columns_of_one_meaning_are_said(reader: Reader):
    read = reader.rows((*EVENTS, "申込者数"), (*event(実際申込数="5"), "7"))
    assert read.one()["actual_registrations"] == 5
    assert read.warnings == ["the column '申込者数' means the same as '実際申込数', which is used"]


def test_amounts_with_tax_are_said(reader: Reader):
    headers = tuple("費用(税込)" if h == "費用(税抜)" else h for h in RESULTS)
    read = reader.rows(headers, result())
    assert read.warnings == ["the column '費用(税込)' includes tax; amounts are stored as written"]


# --- any input --------------------------------------------------------------------------------------------------------

_CELLS = st.one_of(
    # A NUL makes the file a binary one, which is refused as a whole.
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
    st.sampled_from([
        "", "-", "合計", "2024/6/15", "令和6年6月15日", "¥1,200,000", "120万円", "1.8%", "-5", "=1+1", "オンライン",
        "メルマガ", "製造・メーカー、金融", "1〜9名", "AIセミナー", "シミュレーション", "ã‚¤ãƒ™", "9" * 30, "1e400",
        "２０２４年１３月", "#REF!", "NaN",
    ]),
)  # fmt: skip


@pytest.mark.parametrize("name", ["events", "tactic_results", "paid_media", "insights"])
def test_any_cells_give_one_outcome_per_row_and_no_exception(name: str, tmp_path: Path):
    headers = [f.header["ja"] for f in load_sheets()[name].fields.values()]
    reader = Reader(tmp_path)

    @hypothesis_settings(max_examples=40, deadline=None)
    @given(rows=st.lists(st.lists(_CELLS, min_size=len(headers), max_size=len(headers)), max_size=6))
    def check(rows: list[list[str]]) -> None:
        read = reader.text(as_csv(headers, *rows))
        assert read.layout == f"spreadsheet.{name}"
        numbers = [o.row for o in read.outcomes]
        assert numbers == sorted(set(numbers))
        assert len(read.outcomes) == sum(1 for _ in csv.reader(io.StringIO(as_csv(*rows), newline="")))
        assert all(isinstance(o, Record | Rejected | Total | Blank) for o in read.outcomes)
        assert all(o.problems for o in read.rejected)

    check()


_NATIVE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False),
    st.datetimes(min_value=datetime(1900, 3, 1), max_value=datetime(9000, 1, 1)),  # noqa: DTZ001
    st.sampled_from([time(1, 30), "AIセミナー", "オンライン", "メルマガ", 45458, 45458.5, 0.018]),
)


@pytest.mark.parametrize("name", ["events", "tactic_results", "paid_media", "insights"])
def test_any_native_cells_of_a_workbook_give_one_outcome_per_row(name: str, tmp_path: Path):
    headers = [f.header["en"] for f in load_sheets()[name].fields.values()]
    reader = Reader(tmp_path)

    @hypothesis_settings(max_examples=15, deadline=None)
    @given(rows=st.lists(st.lists(_NATIVE, min_size=len(headers), max_size=len(headers)), min_size=1, max_size=4))
    def check(rows: list[list[Any]]) -> None:
        (read,) = reader.workbook(sheet=[headers, *rows, ["end"]])
        assert len(read.outcomes) == len(rows) + 1

    check()
