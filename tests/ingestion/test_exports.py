"""Exports in the layouts people have: what is read, what is refused and with which reason."""

# A row of a table is one line here, as it is in a file.
# ruff: noqa: E501

from __future__ import annotations

import gzip
import io
import zipfile
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from ingestion.layouts import Context, recognise
from ingestion.reading import RawTable, open_tables
from ingestion.records import Outcome, Record, Rejected, Total
from turnout.errors import InputError
from turnout.settings import Settings

TODAY = date(2026, 11, 25)


class Desk:
    """Reads files as the loader would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warnings: list[str] = []

    def file(self, content: bytes | str, name: str = "export.csv") -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def outcomes(self, file: Path | str | bytes) -> list[Outcome]:
        path = file if isinstance(file, Path) else self.file(file)
        found: list[Outcome] = []
        for table in open_tables(path):
            layout, _ = recognise(table)
            context = Context(Settings(home=self.folder / "home"), today=TODAY, warnings=table.notes)
            found += layout.read(table, context)
            self.warnings += table.notes
        return found

    def records(self, file: Path | str | bytes) -> list[dict[str, Any]]:
        found = self.outcomes(file)
        assert not [o for o in found if isinstance(o, Rejected)]
        return [o.values for o in found if isinstance(o, Record)]

    def problems(self, file: Path | str | bytes) -> list[tuple[str, int | None, str | None]]:
        found = self.outcomes(file)
        return [(p.code, p.row, p.column) for o in found if isinstance(o, Rejected) for p in o.problems]

    def refusal(self, file: Path | str | bytes) -> tuple[str, str]:
        with pytest.raises(InputError) as caught:
            self.outcomes(file)
        problem = caught.value.problems[0]
        return problem.code, problem.message


def sound(path: Path) -> tuple[list[RawTable], str]:
    """The tables of a file that can be read, and what is said of the others."""
    found: list[RawTable] = []
    try:
        found.extend(open_tables(path))  # list.extend keeps what came before the error
    except InputError as error:
        return found, str(error)
    return found, ""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def workbook(folder: Path, rows: list[list[Any]], *, merge: tuple[str, ...] = (), change: Any = None) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in rows:
        sheet.append(row)
    for cells in merge:
        sheet.merge_cells(cells)
    if change is not None:
        change(book, sheet)
    path = folder / "book.xlsx"
    book.save(path)
    return path


# --- figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1\u00a0198,94", "1198.94"),
        ("1\u202f198,94", "1198.94"),
        ("1\u2009198,94", "1198.94"),
        ("1'198.94", "1198.94"),
        ("1’198.94", "1198.94"),
        ("12,34,567.50", "1234567.50"),
        ("1.198,94 €", "1198.94"),
        ("12,50", "12.50"),
        ("１２．５０", "12.50"),
        ("--", None),
        (" --", None),
        ("–", None),
        ("n/a", None),
        ("< 10 %", None),
        ("> 90%", None),
        ("<\u00a010\u00a0%", None),
    ],
)
def test_figures_as_exports_write_them(desk: Desk, written, meant):
    (record,) = desk.records(f"Day\tCampaign\tCost\tImpr.\tClicks\n2026-04-01\ta\t{written}\t1\t1\n")
    assert record["spend"] == (None if meant is None else Decimal(meant))


def test_points_and_commas_in_one_column_leave_nothing_to_guess(desk: Desk):
    text = (
        "Day;Campaign;Cost;Impr.;Clicks\n2026-04-01;a;1.198,94;1;1\n2026-04-02;a;1,198.94;1;1\n"
        "2026-04-03;a;12,5;1;1\n2026-04-04;a;1.198;1;1\n"
    )
    assert desk.problems(text) == [("ambiguous_number", 5, "Cost")]
    kept = [o.values["spend"] for o in desk.outcomes(text) if isinstance(o, Record)]
    assert kept == [Decimal("1198.94"), Decimal("1198.94"), Decimal("12.5")]


def test_one_slip_of_the_hand_does_not_unsettle_a_column(desk: Desk):
    rows = "".join(f"2026-04-01;c{n};{n}.50;1;1\n" for n in range(30))
    text = f"Day;Campaign;Cost;Impr.;Clicks\n{rows}2026-04-02;slip;12,5;1;1\n2026-04-02;open;1,198;1;1\n"
    by_name = {r["campaign_name"]: r["spend"] for r in desk.records(text)}
    assert (by_name["slip"], by_name["open"]) == (Decimal("12.5"), Decimal(1198))


def test_each_column_has_its_own_decimal_mark(desk: Desk):
    (record,) = desk.records(
        "Día\tCampaña\tCoste\tImpr.\tClics\tConversiones\n2026-04-01\ta\t1.198,94\t1.479\t105\t1.7967991533\n"
    )
    assert (record["spend"], record["impressions"]) == (Decimal("1198.94"), 1479)
    assert record["conversions"] == Decimal("1.7967991533")


# --- sums -------------------------------------------------------------------------------------------------------------


def test_overlapping_sums_in_many_languages_are_all_left_out(desk: Desk):
    words = (
        "Total", "Total: Campaigns", "Total: Account", "Total: Search", "合計", "合計: アカウント", "総計", "Gesamt", "Gesamtsumme: Konto",
        "Totaal", "Totale", "Total general", "Total geral", "Total général", "합계", "총계: 캠페인", "总计", "總計", "Итого: Аккаунт", "Razem", "Totalt", "Toplam",
    )  # fmt: skip
    rows = "".join(f"{word}, --,10,100,5\n" for word in words)
    found = desk.outcomes(f"Day,Campaign,Cost,Impr.,Clicks\n2026-04-01,a,10,100,5\n{rows}")
    assert [type(o).__name__ for o in found] == ["Record"] + ["Total"] * len(words)


def test_a_header_repeated_between_the_rows_is_no_row(desk: Desk):
    header = "Day,Campaign,Cost,Impr.,Clicks\n"
    found = desk.outcomes(f"{header}2026-04-01,a,1,1,1\n{header}2026-04-02,a,1,1,1\n")
    assert [type(o).__name__ for o in found] == ["Record", "Total", "Record"]


def test_of_two_headers_that_mean_the_same_the_first_counts_and_the_user_is_told(desk: Desk):
    (record,) = desk.records("Day,Campaign,Cost,Clicks,Impr.,Clicks\n2026-04-01,a,1,5,9,7\n")
    assert record["clicks"] == 5
    assert desk.warnings[0] == "the column 'Clicks (2)' means the same as 'Clicks', which is used"


# --- days -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "day",
    [
        "Wed, Apr 1, 2026", "Wednesday, April 1, 2026", "1 April 2026", "mié, 1 abr 2026", "miércoles, 1 de abril de 2026", "1 de abr. de 2026",
        "qua., 1 de abr. de 2026", "quarta-feira, 1 de abril de 2026", "01/abr/2026", "Mi., 01.04.2026", "Mittwoch, 1. April 2026", "1. Apr. 2026",
        "mer. 1 avr. 2026", "mercredi 1er avril 2026", "1 avril 2026", "2026年4月1日(水)", "2026年4月1日 水曜日", "令和8年4月1日",
        "2026/04/01", "20260401", "01.04.2026 (Mi)", "1-Apr-26",
    ],
)  # fmt: skip
def test_days_in_many_languages(desk: Desk, day):
    (record,) = desk.records(f"Day;Campaign;Cost;Impr.;Clicks\n{day};a;1;1;1\n")
    assert record["date"] == date(2026, 4, 1)


def test_tuesday_and_march_are_told_apart(desk: Desk):
    text = "Jour;Campagne;Coût;Impr.;Clics\nmar. 7 avr. 2026;a;1;1;1\nmar 3, 2026;a;1;1;1\n"
    assert [r["date"] for r in desk.records(text)] == [date(2026, 4, 7), date(2026, 3, 3)]


@pytest.mark.parametrize(
    ("header", "cell"),
    [
        ("Month,Campaign,Cost,Impr.,Clicks", "2026-04-01"),
        ("Month,Campaign,Cost,Impr.,Clicks", "April 2026"),
        ("月,キャンペーン,費用,表示回数,クリック数", "2026年4月"),
        ("Mes,Campaña,Coste,Impr.,Clics", "abril de 2026"),
        ("Mês,Campanha,Custo,Impr.,Cliques", "abr. de 2026"),
        ("Monat,Kampagne,Kosten,Impr.,Klicks", "Apr. 2026"),
        ("Mois,Campagne,Coût,Impr.,Clics", "avr. 2026"),
        ("Month,Campaign,Cost,Impr.,Clicks", "2026-04"),
        ("Month,Campaign,Cost,Impr.,Clicks", "04/2026"),
    ],
)
def test_reports_by_month_cover_the_month(desk: Desk, header, cell):
    (record,) = desk.records(f"{header}\n{cell},a,1,1,1\n")
    assert (record["date"], record["period_end"]) == (date(2026, 4, 1), date(2026, 4, 30))


def test_reports_by_week_cover_the_part_of_the_week_the_report_has(desk: Desk):
    text = (
        "Report\nApril 1, 2026 - April 12, 2026\nWeek,Campaign,Cost,Impr.,Clicks\n"
        "2026-03-30,a,1,1,1\n2026-04-06,a,2,2,2\n"
    )
    spans = [(r["date"].isoformat(), r["period_end"].isoformat()) for r in desk.records(text)]
    assert spans == [("2026-04-01", "2026-04-05"), ("2026-04-06", "2026-04-12")]


def test_a_report_without_days_takes_the_period_above_it(desk: Desk):
    text = "Kampagnenbericht\n1. April 2026 - 30. April 2026\nKampagne;Kosten;Impr.;Klicks\nSommer;12,50;10;1\n"
    (record,) = desk.records(text)
    assert (record["date"], record["period_end"]) == (date(2026, 4, 1), date(2026, 4, 30))
    code, message = desk.refusal("Campaign,Cost,Impr.,Clicks\na,1,1,1\n")
    assert code == "no_period"
    assert "add the segment Day" in message


@pytest.mark.parametrize(
    "line",
    [
        "April 1, 2026 - April 30, 2026", "Apr 1 – Apr 30, 2026", "April 1-30, 2026", "1–30 April 2026", "1 Apr - 30 Apr 2026", "2026-04-01 to 2026-04-30",
        "1.–30. April 2026", "1. April 2026 bis 30. April 2026", "01.04.2026 - 30.04.2026", "del 1 de abril de 2026 al 30 de abril de 2026",
        "1 de abr. de 2026 - 30 de abr. de 2026", "du 1er avril 2026 au 30 avril 2026", "1 avr. - 30 avr. 2026", "2026年4月1日～2026年4月30日", "2026年4月1日～4月30日",
        "2026年4月1日～30日", "2026/4/1～4/30", "期間: 2026年4月1日(水)から30日", "4/1/2026 - 4/30/2026", "01/04/2026 - 30/04/2026", "Zeitraum: 01.04.2026–30.04.2026",
        "April 2026", "2026年4月", "abril de 2026", "20260401-20260430", "令和8年4月1日～令和8年4月30日",
    ],
)  # fmt: skip
def test_periods_above_the_header_in_the_ways_of_reports(desk: Desk, line):
    (record,) = desk.records(f"Report\n{line}\nCampaign;Cost;Impr.;Clicks\na;1;1;1\n")
    assert (record["date"], record["period_end"]) == (date(2026, 4, 1), date(2026, 4, 30))


def test_a_period_that_can_be_read_both_ways_goes_by_the_language_or_not_at_all(desk: Desk):
    above = "Report\n3/4/2026 - 5/6/2026\n"
    (record,) = desk.records(f"{above}Kampagne;Kosten;Impr.;Klicks\na;1;1;1\n")
    assert (record["date"], record["period_end"]) == (date(2026, 4, 3), date(2026, 6, 5))
    assert desk.refusal(f"{above}Campaign;Cost;Impr.;Clicks\na;1;1;1\n")[0] == "no_period"


def test_currency_may_change_from_row_to_row(desk: Desk):
    records = desk.records(
        "Day,Campaign,Currency code,Cost,Impr.,Clicks\n2026-04-01,a,EUR,1,1,1\n2026-04-01,b,JPY,100,1,1\n"
    )
    assert [r["currency"] for r in records] == ["EUR", "JPY"]


# --- what only resembles a report -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "word", "text"),
    [
        ("bulk_sheet", "bulk uploads to Google Ads", "Action,Campaign status,Campaign,Campaign ID,Budget,Cost,Impr.,Clicks\n,enabled,a,1,10,1,1,1\n"),
        ("bulk_sheet", "bulk uploads", "Row Type,Action,Campaign,Ad group,Default max. CPC\nCampaign,add,a,,\n"),
        ("bulk_sheet", "Google Ads Editor", "Campaign\tCampaign Daily Budget\tNetworks\tLanguages\tBid Strategy Type\tAd Schedule\tClicks\tImpressions\tCost\n"
         "a\t10\tGoogle search\ten\tManual CPC\t[]\t1\t1\t1\n"),
        ("bulk_sheet", "bulk import and export", "Campaign ID,Campaign Name,Campaign Status,Buying Type,Campaign Start Time,Ad Set Run Status,Ad Set Daily Budget,"
         "Optimization Goal,Billing Event,Ad Name,Title,Body,Link\n1,a,ACTIVE,AUCTION,2026-04-01,ACTIVE,10,LEADS,IMPRESSIONS,x,y,z,w\n"),
        ("bulk_sheet", "LinkedIn's sheet", "*Campaign Group Name,*Campaign Name,*Ad Name,Introductory Text,Headline,Destination URL,Call to Action\na,b,c,d,e,f,g\n"),
        ("partial_report", "search terms", "Search term,Campaign,Day,Cost,Impr.,Clicks\nevent,a,2026-04-01,1,1,1\n"),
        ("partial_report", "search terms", "検索語句,キャンペーン,日,費用,表示回数,クリック数\nイベント,a,2026-04-01,1,1,1\n"),
        ("partial_report", "keywords", "Day,Keyword,Campaign,Cost,Impr.,Clicks\n2026-04-01,event,a,1,1,1\n"),
        ("partial_report", "assets", "Day,Asset,Asset type,Campaign,Cost,Impr.,Clicks\n2026-04-01,x,Headline,a,1,1,1\n"),
        ("partial_report", "demographic", "Start Date (in UTC),Campaign Name,Job Title Segment,Impressions,Clicks\n4/1/2026,a,Engineer,1,1\n"),
        ("chart", "chart", "Date,Clicks,Impressions\n2026-04-01,1,2\n2026-04-02,1,2\n"),
        ("chart", "chart", "日,費用\n2026-04-01,100\n2026-04-02,200\n"),
    ],
)  # fmt: skip
def test_what_only_resembles_a_report_is_refused_with_the_reason(desk: Desk, code, word, text):
    found, message = desk.refusal(text)
    assert found == code
    assert word in message


@pytest.mark.parametrize(
    "text",
    [
        "Start Date (in UTC),Campaign Group Status,Campaign Name,Campaign Status,Daily Budget,Total Budget,Bid Type,Ad Introduction Text,Ad Headline,Click URL,"
        "Total Spent,Impressions,Clicks\n4/25/2026,Active,a,Active,10,100,CPC,x,y,https://example.org,12.5,10,1\n",
        "Day,Campaign status,Campaign,Budget,Budget type,Bid strategy type,Final URL,Headline 1,Description 1,Currency code,Cost,Impr.,Clicks\n"
        "2026-04-25,Enabled,a,10,Daily,CPC,https://example.org,x,y,EUR,12.5,10,1\n",
        "Day,Campaign name,Buying type,Objective,Ad set budget,Ad set budget type,Ends,Amount spent (EUR),Impressions,Link clicks\n2026-04-25,a,Auction,Leads,10,Daily,Ongoing,12.5,10,1\n",
    ],
)  # fmt: skip
def test_a_report_that_also_shows_settings_is_a_report(desk: Desk, text):
    (record,) = desk.records(text)
    assert (record["date"], record["spend"], record["clicks"]) == (date(2026, 4, 25), Decimal("12.5"), 1)


def test_segments_that_add_up_to_the_campaign_are_read(desk: Desk):
    text = "Day,Campaign,Device,Cost,Impr.,Clicks\n2026-04-01,a,Phones,1,10,1\n2026-04-01,a,Computers,2,20,2\n"
    assert sum(r["spend"] for r in desk.records(text)) == 3


# --- workbooks --------------------------------------------------------------------------------------------------------


def test_a_header_of_two_rows_with_merged_groups(desk: Desk):
    rows = [
        ["Day", "Campaign", "Delivery", None, "Cost"],
        [None, None, "Impr.", "Clicks", None],
        ["2026-04-01", "a", 10, 1, 12.5],
    ]
    path = workbook(desk.folder, rows, merge=("A1:A2", "B1:B2", "C1:D1", "E1:E2"))
    (record,) = desk.records(path)
    assert (record["impressions"], record["clicks"], record["spend"]) == (10, 1, Decimal("12.5"))


def test_a_header_of_two_rows_saved_as_text(desk: Desk):
    (record,) = desk.records("Day,Campaign,Delivery,,Cost\n,,Impr.,Clicks,\n2026-04-01,a,10,1,12.5\n")
    assert (record["impressions"], record["clicks"], record["spend"]) == (10, 1, Decimal("12.5"))


def test_the_title_of_a_sheet_is_no_part_of_its_header(desk: Desk):
    rows = [["イベント"], [None, "イベント名", "開催日", "形式"], [1, "AI Day", "2026-06-15", "会場"]]
    (record,) = desk.records(workbook(desk.folder, rows))
    assert record["name"] == "AI Day"


def test_merged_texts_hold_for_each_of_their_rows(desk: Desk):
    rows = [
        ["カンファレンス名", "開催日", "施策名", "申込(CV数)", "費用(税抜)"],
        ["AI Day", datetime.fromisoformat("2026-06-15"), "自社メルマガ", 10, 0],
        [None, None, "Facebook広告", 5, 10000],
        [None, None, "connpass", 3, 0],
        ["Data Day", datetime.fromisoformat("2026-07-15"), "connpass", 2, 0],
    ]
    records = desk.records(workbook(desk.folder, rows, merge=("A2:A4", "B2:B4")))
    assert [r["event_name"] for r in records] == ["AI Day"] * 3 + ["Data Day"]
    assert [str(r["event_date"]) for r in records] == ["2026-06-15"] * 3 + ["2026-07-15"]


def test_a_merged_amount_is_one_amount(desk: Desk):
    rows = [
        ["カンファレンス名", "施策名", "申込(CV数)", "費用(税抜)"],
        ["AI Day", "Facebook広告", 10, 90000],
        ["AI Day", "connpass", 5, None],
        ["AI Day", "自社メルマガ", 3, 0],
    ]
    records = desk.records(workbook(desk.folder, rows, merge=("D2:D3",)))
    assert [r["cost"] for r in records] == [Decimal(90000), None, Decimal(0)]
    assert any("'費用(税抜)' has figures in cells merged over several rows" in w for w in desk.warnings)


def test_hidden_rows_are_read_and_hidden_sheets_are_not(desk: Desk):
    def hide(book: Any, sheet: Any) -> None:
        sheet.row_dimensions[3].hidden = True
        old = book.create_sheet("old")
        old.append(["Day", "Campaign", "Cost", "Impr.", "Clicks"])
        old.append(["2025-04-01", "old", 1, 1, 1])
        old.sheet_state = "hidden"

    rows = [["Day", "Campaign", "Cost", "Impr.", "Clicks"], ["2026-04-01", "a", 1, 1, 1], ["2026-04-02", "a", 1, 1, 1]]
    records = desk.records(workbook(desk.folder, rows, change=hide))
    assert [str(r["date"]) for r in records] == ["2026-04-01", "2026-04-02"]
    assert "1 hidden rows are read like the others" in desk.warnings
    assert "the sheet 'old' is hidden and not read; unhide it if it counts" in desk.warnings


@pytest.mark.parametrize("mac", [False, True])
def test_days_as_numbers_count_from_where_the_workbook_does(desk: Desk, mac):
    from openpyxl.utils.datetime import CALENDAR_MAC_1904

    def calendar(book: Any, sheet: Any) -> None:
        if mac:
            book.epoch = CALENDAR_MAC_1904
        sheet["A3"] = datetime.fromisoformat("2026-04-02")

    serial = 46113 - (1462 if mac else 0)
    rows = [["Day", "Campaign", "Cost", "Impr.", "Clicks"], [serial, "a", 1, 1, 1], [None, "a", 1, 1, 1]]
    records = desk.records(workbook(desk.folder, rows, change=calendar))
    assert [str(r["date"]) for r in records] == ["2026-04-01", "2026-04-02"]


def test_a_formula_without_its_result_costs_the_row_only(desk: Desk):
    rows = [
        ["Day", "Campaign", "Cost", "Impr.", "Clicks"],
        ["2026-04-01", "a", "=1+1", 1, 1],
        ["2026-04-02", "a", 2, 1, 1],
    ]
    assert desk.problems(workbook(desk.folder, rows)) == [("formula", 2, "Cost")]


def test_one_bad_sheet_does_not_cost_the_others(desk: Desk):
    def add(book: Any, sheet: Any) -> None:
        bad = book.create_sheet("bad")
        bad.append(["ã‚¤ãƒ™ãƒ³ãƒˆå", "é–‹å‚¬æ—¥"])
        bad.append(["x", "y"])

    rows = [["Day", "Campaign", "Cost", "Impr.", "Clicks"], ["2026-04-01", "a", 1, 1, 1]]
    path = workbook(desk.folder, rows, change=add)
    found, message = sound(path)
    assert [t.sheet for t in found] == ["Sheet"]
    assert "headers cannot be read" in message


# --- archives and other formats ---------------------------------------------------------------------------------------

REPORT = "Day,Campaign,Cost,Impr.,Clicks\n2026-04-0{},a,1,1,1\n"


def archive(folder: Path, members: dict[str, bytes], name: str = "exports.zip") -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member, content in members.items():
            file.writestr(member, content)
    return path


def test_an_archive_of_folders_workbooks_and_what_macos_leaves(desk: Desk):
    book = workbook(desk.folder, [["Day", "Campaign", "Cost", "Impr.", "Clicks"], ["2026-04-03", "a", 1, 1, 1]])
    members = {
        "2026/april/one.csv": REPORT.format(1).encode(),
        "2026/two.csv": b"\xff\xfe" + REPORT.format(2).encode("utf-16-le"),
        "2026/three.xlsx": book.read_bytes(),
        "__MACOSX/2026/april/._one.csv": b"\x00\x05\x16\x07\x00junk",
        "2026/.DS_Store": b"\x00\x00\x00\x01Bud1",
        "2026/Thumbs.db": b"\xd0\xcf\x11\xe0",
    }
    records = desk.records(archive(desk.folder, members))
    assert sorted(str(r["date"]) for r in records) == ["2026-04-01", "2026-04-02", "2026-04-03"]


def test_a_damaged_member_does_not_cost_the_others(desk: Desk):
    path = archive(desk.folder, {"a.pdf": b"%PDF-1.7 x", "b.csv": REPORT.format(1).encode()})
    found, message = sound(path)
    assert [t.file for t in found] == ["exports.zip/b.csv"]
    assert "this is a PDF" in message


def test_member_names_of_japanese_windows_are_shown_as_written(desk: Desk):
    name = "広告.csv".encode("cp932")
    path = archive(desk.folder, {"x" * len(name): REPORT.format(1).encode()})
    path.write_bytes(path.read_bytes().replace(b"x" * len(name), name))
    (table,) = open_tables(path)
    assert table.file == "exports.zip/広告.csv"


def test_an_archive_with_a_password_says_so(desk: Desk):
    path = archive(desk.folder, {"a.csv": REPORT.format(1).encode()})
    raw = bytearray(path.read_bytes())
    raw[6] |= 1  # flag of the local header
    at = raw.find(b"PK\x01\x02")
    raw[at + 8] |= 1
    path.write_bytes(bytes(raw))
    code, message = desk.refusal(path)
    assert code == "encrypted"
    assert "password" in message


@pytest.mark.parametrize("kind", ["zip", "gzip"])
def test_an_archive_that_unpacks_to_far_more_than_itself_is_refused(desk: Desk, kind):
    line = b"2026-04-01,a,1,1,1\n"
    bomb = line * (110_000_000 // len(line))
    packed = {
        "zip": lambda: archive(desk.folder, {"a.csv": bomb}),
        "gzip": lambda: desk.file(gzip.compress(bomb), "a.gz"),
    }
    path = packed[kind]()
    code, message = desk.refusal(path)
    assert code == "too_large"
    assert "far beyond its own size" in message


def test_a_workbook_in_gzip(desk: Desk):
    book = workbook(desk.folder, [["Day", "Campaign", "Cost", "Impr.", "Clicks"], ["2026-04-03", "a", 1, 1, 1]])
    (record,) = desk.records(desk.file(gzip.compress(book.read_bytes()), "b.xlsx.gz"))
    assert record["date"] == date(2026, 4, 3)


def numbers_document() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("Index/Document.iwa", b"\x00")
        file.writestr("preview.jpg", b"\xff\xd8\xff")
    return content.getvalue()


def open_document() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        file.writestr("content.xml", "<x/>")
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 600, "old format .xls; open it and save it as .xlsx"),
        ("a.xlsx", b"\xd0\xcf\x11\xe0" + b"\x00" * 600 + "EncryptedPackage".encode("utf-16-le"), "has a password"),
        ("a.numbers", numbers_document(), "Export To > Excel or CSV"),
        ("a.ods", open_document(), "OpenDocument"),
        ("a.pdf", b"%PDF-1.7\n", "this is a PDF"),
        ("a.xls", b"<html><body><table><tr><td>Day</td></tr></table></body></html>", "web page with a table in it"),
        ("a.xls", b'<?xml version="1.0"?><Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet">', "XML spreadsheet of 2003"),
        ("a.csv", b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page or XML, not a table"),
        ("a.rar", b"Rar!\x1a\x07", "RAR archive"),
    ],
)  # fmt: skip
def test_what_is_no_table_says_what_to_do(desk: Desk, name, content, word):
    _, message = desk.refusal(desk.file(content, name))
    assert word in message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_utf16_under_the_name_of_csv(desk: Desk, encoding):
    text = "キャンペーン レポート\n2026年4月1日～2026年4月30日\n日\tキャンペーン\t費用\t表示回数\tクリック数\n2026-04-01\t夏\t1,234\t10\t1\n"
    (record,) = desk.records(desk.file(text.encode(encoding), "report.csv"))
    assert (record["campaign_name"], record["spend"]) == ("夏", Decimal(1234))


# --- languages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("Nombre del evento;Fecha;Formato;Inscripciones;Asistentes;Presupuesto", "Cumbre de IA;15/6/2026;Presencial;1.200;800;12.500,50"),
        ("Nome do evento;Data;Formato;Inscrições;Participantes;Orçamento", "Cúpula de IA;15/6/2026;Presencial;1.200;800;12.500,50"),
        ("Name der Veranstaltung;Datum;Format;Anmeldungen;Teilnehmer;Budget", "KI-Gipfel;15.6.2026;Präsenz;1.200;800;12.500,50"),
        ("Nom de l'événement;Date;Format;Inscriptions;Participants;Budget", "Sommet IA;15/6/2026;Présentiel;1 200;800;12 500,50"),
        ("Event name;Date;Format;Registrations;Attendees;Budget", "AI Summit;2026-06-15;In person;1,200;800;12,500.50"),
        ("イベント名;開催日;形式;実際申込数;実際参加数;予算", "AIサミット;2026年6月15日;会場;1,200;800;12,500.50"),
    ],
)  # fmt: skip
def test_the_teams_own_sheets_in_six_languages(desk: Desk, header, row):
    (record,) = desk.records(f"{header}\n{row}\n")
    assert (record["event_date"], record["format"]) == (date(2026, 6, 15), "offline")
    assert (record["actual_registrations"], record["actual_attendees"]) == (1200, 800)
    assert record["budget"] == Decimal("12500.50")


@pytest.mark.parametrize(
    "header",
    [
        "日付,リクエスト数,配信数,開封数,ユニーク開封数,クリック数,ユニーククリック数,バウンス数,ブロック数,迷惑メール報告数,配信停止数",
        "fecha,solicitudes,entregados,aperturas,aperturas únicas,clics,clics únicos,rebotes,bloqueos,informes de spam,bajas",
        "data,solicitações,entregues,aberturas,aberturas únicas,cliques,cliques únicos,rejeições,bloqueios,denúncias de spam,cancelamentos",
        "Datum,Anfragen,zugestellt,Öffnungen,eindeutige Öffnungen,Klicks,eindeutige Klicks,Bounces,Blockierungen,Spammeldungen,Abmeldungen",
        "date,demandes,distribués,ouvertures,ouvertures uniques,clics,clics uniques,rebonds,blocages,signalements de spam,désabonnements",
    ],
)  # fmt: skip
def test_mail_statistics_in_other_languages(desk: Desk, header):
    (record,) = desk.records(f"{header}\n2026-04-01,100,98,50,40,10,8,1,1,0,2\n")
    assert (record["requests"], record["delivered"], record["unique_opens"], record["unsubscribes"]) == (100, 98, 40, 2)


def test_total_rows_of_a_workbook_are_named(desk: Desk):
    found = desk.outcomes("Day,Campaign,Cost,Impr.,Clicks\n2026-04-01,a,1,1,1\nGesamt: Konto,,1,1,1\n")
    assert [o.label for o in found if isinstance(o, Total)] == ["Gesamt: Konto"]
