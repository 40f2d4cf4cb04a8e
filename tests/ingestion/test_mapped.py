"""Mapping files and explanations: what headers do not tell is settled by a person, and checked before it counts."""

# A row of a table is one line here, as it is in a file.
# ruff: noqa: E501

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import openpyxl
import pytest
import sqlalchemy as sa

from ingestion.api import draft_mapping, ingest_paths, ingest_source
from ingestion.headers import load_synonyms
from ingestion.loader import FileReport
from ingestion.mapped import beside, general_mappings, read_mapping
from turnout.errors import ConfigurationError, InputError
from turnout.quality import accept_everything
from turnout.settings import Settings
from turnout.warehouse import tables as wh

#: A report in words nobody has listed.
STRANGE = (
    "Wann;Was;Nettoausgaben;Einblendungen;Bemerkung\n3/4/2026;Sommer;1.198;1.479;x\n4/4/2026;Sommer;12,50;1.000;y\n"
    "Endstand;;1.210,50;2.479;\n"
)
MAPPING = """\
source: linkedin_ads
columns: {Wann: day, Was: campaign, Nettoausgaben: spend, Einblendungen: impressions, Bemerkung: }
date_order: dmy
decimal_mark: ","
currency: EUR
account: berlin
totals: [Endstand]
"""


class Desk:
    """Files with their mappings in, rows out."""

    def __init__(self, settings: Settings, engine: sa.Engine) -> None:
        self.settings, self.engine = settings, engine
        settings.inbox_path.mkdir(parents=True, exist_ok=True)

    def write(self, text: str, name: str = "strange.csv") -> Path:
        path = self.settings.inbox_path / name
        path.write_text(text, encoding="utf-8")
        return path

    def read(self, path: Path, **options: object) -> list[FileReport]:
        report = ingest_paths([path], settings=self.settings, engine=self.engine, gate=accept_everything, **options)
        return report.files

    def spend(self) -> list[tuple[object, ...]]:
        t = wh.ad_performance
        with self.engine.connect() as connection:
            query = sa.select(t.c.source, t.c.account, t.c.date, t.c.campaign_name, t.c.spend, t.c.currency).order_by(
                t.c.date
            )
            return [tuple(r) for r in connection.execute(query)]


@pytest.fixture
def desk(settings, engine) -> Desk:
    return Desk(settings, engine)


READ = [
    ("linkedin_ads", "berlin", date(2026, 4, 3), "Sommer", Decimal(1198), "EUR"),
    ("linkedin_ads", "berlin", date(2026, 4, 4), "Sommer", Decimal("12.50"), "EUR"),
]


def test_without_a_mapping_the_file_is_refused_and_says_how_to_write_one(desk: Desk):
    (report,) = desk.read(desk.write(STRANGE))
    assert report.status == "refused"
    assert "--write-mapping draft.yaml" in report.problems[0].message


def test_a_mapping_beside_the_file_settles_what_it_is(desk: Desk):
    path = desk.write(STRANGE)
    beside(path).write_text(MAPPING, encoding="utf-8")
    (report,) = desk.read(path)
    assert (report.rows_loaded, report.rows_total, report.columns["Bemerkung"]) == (2, 1, None)
    assert desk.spend() == READ


def test_the_nightly_run_uses_it_too_and_takes_it_for_no_table(desk: Desk):
    path = desk.write(STRANGE)
    beside(path).write_text(MAPPING, encoding="utf-8")
    first, last = date(2026, 4, 1), date(2026, 4, 30)
    report = ingest_source(
        "linkedin_ads", first, last, settings=desk.settings, engine=desk.engine, gate=accept_everything
    )
    assert [f.name for f in report.files] == ["strange.csv"]
    assert desk.spend() == READ


def test_a_mapping_of_the_home_folder_is_used_for_every_file_with_its_headers(desk: Desk):
    folder = desk.settings.home_path / "mappings"
    folder.mkdir(parents=True)
    (folder / "german.yaml").write_text(MAPPING, encoding="utf-8")
    (folder / "less.yaml").write_text("source: meta_ads\ncolumns: {Wann: day}\n", encoding="utf-8")
    desk.read(desk.write("Ein Bericht\n\n" + STRANGE, "any name.txt"))
    assert desk.spend() == READ


def test_a_mapping_that_is_given_goes_before_the_one_beside(desk: Desk):
    path = desk.write(STRANGE)
    beside(path).write_text(MAPPING.replace("berlin", "beside"), encoding="utf-8")
    given = desk.settings.home_path / "given.yaml"
    given.write_text(MAPPING, encoding="utf-8")
    desk.read(path, mapping=given)
    assert desk.spend() == READ


def test_a_mapping_corrected_is_read_again_by_the_nightly_run(desk: Desk):
    path = desk.write("Day,Campaign,Cost,Impr.,Clicks,Other\n2026-04-03,a,1,1,1,7\n")
    first, last = date(2026, 4, 1), date(2026, 4, 30)
    for source in ("google_ads", "linkedin_ads"):
        ingest_source(source, first, last, settings=desk.settings, engine=desk.engine, gate=accept_everything)
    columns = "columns: {Day: day, Campaign: campaign, Other: spend, Impr.: impressions}"
    beside(path).write_text(f"source: linkedin_ads\n{columns}\n", encoding="utf-8")
    ingest_source("linkedin_ads", first, last, settings=desk.settings, engine=desk.engine, gate=accept_everything)
    assert ("linkedin_ads", Decimal(7)) in [(r[0], r[4]) for r in desk.spend()]


def test_rows_left_out_count_as_blank_and_the_header_may_be_told(desk: Desk):
    path = desk.write(
        "Day,Campaign,Cost,Impr.,Clicks\nfrom,to,x,y,z\nA,B,C,D,E\n2026-04-03,a,1,1,1\n2026-04-04,a,2,1,1\n"
    )
    beside(path).write_text(
        "source: google_ads\nheader_row: 3\nskip_rows: [5-6, 9]\n"
        "columns: {A: day, B: campaign, C: spend, D: impressions, E: clicks}\n", encoding="utf-8",
    )  # fmt: skip
    (report,) = desk.read(path)
    assert (report.rows_read, report.rows_loaded, report.rows_blank) == (2, 1, 1)


def test_a_period_can_be_told_of_a_report_without_days(desk: Desk):
    path = desk.write("Campaign,Cost,Impr.,Clicks\na,1,1,1\n")
    beside(path).write_text("source: google_ads\nperiod: {first: 2026-04-01, last: 2026-04-30}\n", encoding="utf-8")
    (report,) = desk.read(path)
    assert (report.layout, report.rows_loaded, report.first) == ("google_ads.campaign_period", 1, date(2026, 4, 1))


def test_each_sheet_of_a_workbook_may_have_its_own(desk: Desk):
    book = openpyxl.Workbook()
    for title, header, row in (
        ("Ads", ["Wann", "Was", "Geld", "Sichten"], [date(2026, 4, 3), "Sommer", 12.5, 10]),
        ("Liste", ["Treffen", "Termin", "Art"], ["KI-Gipfel", date(2026, 6, 15), "Präsenz"]),
    ):
        sheet = book.create_sheet(title)
        sheet.append(header)
        sheet.append(row)
    book.remove(book["Sheet"])
    path = desk.settings.inbox_path / "book.xlsx"
    book.save(path)
    beside(path).write_text(
        "source: linkedin_ads\nsheet: Ads\ncolumns: {Wann: day, Was: campaign, Geld: spend, Sichten: impressions}\n---\n"
        "source: spreadsheet\ntable: event\nsheet: Liste\ncolumns: {Treffen: name, Termin: event_date, Art: format}\n",
        encoding="utf-8",
    )
    assert sorted((r.sheet, r.layout, r.rows_loaded) for r in desk.read(path)) == [
        ("Ads", "linkedin_ads.campaign_daily", 1), ("Liste", "spreadsheet.events", 1),
    ]  # fmt: skip


def test_a_mapping_may_say_what_looks_like_a_bulk_sheet_is_a_report(desk: Desk):
    text = "Day,Action,Campaign,Cost,Impr.,Clicks\n2026-04-03,x,a,1,1,1\n"
    path = desk.write(text)
    assert desk.read(path)[0].problems[0].code == "bulk_sheet"
    beside(path).write_text("source: google_ads\ncolumns: {Action: }\n", encoding="utf-8")
    assert desk.read(path)[0].rows_loaded == 1


# --- defects ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("source: google\n", 1, "source: 'google' is not allowed; allowed are 'google_ads', 'meta_ads'"),
        ("columns: {a: day}\n", 1, "source: required; allowed are google_ads"),
        ("source: google_ads\ncolums: {}\n", 2, "there is no such key; allowed are source, table, layout"),
        ("source: google_ads\ncolumns:\n  Tag: day\n  Geld: money\n", 4, "columns.Geld: 'money' is no field of google_ads; allowed are account"),
        ("source: google_ads\ncolumns:\n  A: day\n  B: day\n", 4, "the field day already has the column 'A'"),
        ("source: google_ads\ndate_order: md\n", 2, "date_order: 'md' is not allowed; allowed are 'ymd', 'mdy', 'dmy'"),
        ("source: google_ads\ndecimal_mark: ;\n", 2, "decimal_mark"),
        ("source: google_ads\ncurrency: Euro\n", 2, "'Euro' is no currency; write an ISO code"),
        ("source: google_ads\ntime_zone: Berlin\n", 2, "there is no time zone 'Berlin'; write it as Europe/Berlin"),
        ("source: spreadsheet\n", 1, "table: required for spreadsheet; allowed are event, insight, paid_media, tactic_result"),
        ("source: google_ads\ntable: event\n", 2, "table: google_ads fills ad_performance, not event"),
        ("source: google_ads\nskip_rows: [x]\n", 2, "'x' is no row"),
        ("source: google_ads\nperiod: {first: 2026-05-01, last: 2026-04-01}\n", 2, "lies before the first"),
        ("source: registrations\ntime_zone: Asia/Tokyo\n", 2, "time_zone: only for"),
        ("source: [\n", None, "this is not YAML"),
        ("- a\n", 1, "expected keys such as source and columns"),
        ("", None, "the mapping file is empty"),
    ],
)  # fmt: skip
def test_defects_of_a_mapping_name_file_line_key_and_what_is_allowed(tmp_path, text, line, word):
    path = tmp_path / "m.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_mapping(path)
    (problem,) = caught.value.problems
    assert problem.file == "m.yaml"
    assert word in problem.message
    assert line is None or problem.message.startswith(f"line {line}: ")


def test_a_defective_mapping_costs_its_own_file_only(desk: Desk):
    path = desk.write(STRANGE)
    beside(path).write_text("source: nowhere\n", encoding="utf-8")
    desk.write("Day,Campaign,Cost,Impr.,Clicks\n2026-04-03,a,1,1,1\n", "good.csv")
    reports = {r.name: r.status for r in desk.read(desk.settings.inbox_path)}
    assert reports == {"strange.csv.turnout.yaml": "refused", "good.csv": "loaded"}


def test_a_mapping_that_names_a_column_the_file_lacks_is_said(desk: Desk):
    path = desk.write(STRANGE)
    beside(path).write_text(MAPPING.replace("Was:", "Wo:"), encoding="utf-8")
    (report,) = desk.read(path)
    assert "names the column 'Wo', which is not there; columns found: Wann, Was" in report.problems[0].message


def test_a_defective_mapping_of_the_home_folder_stops_the_run(tmp_path):
    (tmp_path / "mappings").mkdir()
    (tmp_path / "mappings" / "a.yaml").write_text("source: google_ads\nheader_row: 3\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"mappings/a.yaml: line 2: header_row: only in a mapping beside"):
        general_mappings(tmp_path)


# --- headers.yaml -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("google:\n  day: {de: [Wann]}\n", 1, "there is no kind of report 'google'; allowed are events, google_ads"),
        ("google_ads:\n  day: {de: [Wann]}\n  money: {de: [Geld]}\n", 3, "google_ads has no field 'money'; allowed are account"),
        ("google_ads:\n  day:\n    klingon: [x]\n", 3, "'klingon' is no language; allowed are ja, en"),
        ("google_ads:\n  day:\n    de: {a: b}\n", 3, "must be a list of headers"),
        ("google_ads:\n  day: 5\n", 2, "must be a list of headers, or languages with lists"),
        ("- x\n", 1, "expected kind of report"),
        ("google_ads: {\n", None, "is not YAML"),
    ],
)  # fmt: skip
def test_defects_of_headers_yaml_name_the_line_and_what_is_allowed(tmp_path, text, line, word):
    (tmp_path / "headers.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_synonyms(tmp_path)
    assert word in str(caught.value)
    assert line is None or f"headers.yaml, line {line}: " in str(caught.value)


def test_the_users_own_headers_win_over_those_shipped(tmp_path):
    (tmp_path / "headers.yaml").write_text("google_ads:\n  spend: [Nettoausgaben, Clicks]\n", encoding="utf-8")
    synonyms = load_synonyms(tmp_path)
    assert (synonyms.field("google_ads", "Nettoausgaben"), synonyms.origin("google_ads", "Nettoausgaben")) == (
        "spend",
        "home",
    )
    assert synonyms.field("google_ads", "Clicks") == "spend"
    assert load_synonyms().field("google_ads", "Clicks") == "clicks"


# --- explanations -----------------------------------------------------------------------------------------------------


def test_each_column_says_what_it_was_taken_for_why_and_how_its_cells_were_read(desk: Desk):
    text = (
        "Day,Campaign name,Amount spent (EUR),Impressions,Link clicks,Amountspend total,E-mail\n"
        '3/4/2026,Summer,"1,198.94",10,1,5,a@example.org\n25/4/2026,Winter,12.5,20,2,6,b@example.org\n'
    )
    (report,) = desk.read(desk.write(text), dry_run=True, explain=True)
    uses = {u.column: u for u in report.explained}
    assert (uses["Day"].field, uses["Day"].samples) == ("day", ("2026-04-03", "2026-04-25"))
    assert uses["Amount spent (EUR)"].why == "a known header: Amount spent, without its bracket (EUR)"
    assert uses["Amount spent (EUR)"].samples == ("1198.94", "12.5")
    assert (uses["Amountspend total"].field, uses["Amountspend total"].suggestions[:1]) == (None, ("spend",))
    assert (uses["E-mail"].field, uses["E-mail"].samples) == ("personal", ())


def test_a_mapping_and_the_users_own_headers_are_named_as_the_reason(desk: Desk):
    desk.settings.home_path.mkdir(parents=True, exist_ok=True)
    (desk.settings.home_path / "headers.yaml").write_text("linkedin_ads:\n  clicks: [Bemerkung]\n", encoding="utf-8")
    path = desk.write(STRANGE.replace(";x\n", ";1\n").replace(";y\n", ";2\n"))
    beside(path).write_text(MAPPING.replace(", Bemerkung: ", ""), encoding="utf-8")
    (report,) = desk.read(path, dry_run=True, explain=True)
    why = {u.column: u.why for u in report.explained}
    assert why["Wann"] == "the mapping strange.csv.turnout.yaml"
    assert why["Bemerkung"] == "your headers.yaml"


def test_of_a_table_nobody_knows_no_text_is_shown(desk: Desk):
    path = desk.write("Kontaktperson,Betrag,Tag\nErika Mustermann,12.50,2026-04-01\n")
    (report,) = desk.read(path, dry_run=True, explain=True)
    assert [u.samples for u in report.explained] == [(), ("12.50",), ("2026-04-01",)]


def test_a_draft_is_a_mapping_to_be_completed(desk: Desk):
    path = desk.write("Tag;Kampagne;Nettokosten;Einblendungen;Klicks\n03.04.2026;Sommer;12,50;1.479;1\n")
    text = draft_mapping(desk.read(path, dry_run=True, explain=True))
    assert "source: google_ads" in text
    assert '"Kampagne": campaign' in text
    drafted = text.replace('"Nettokosten":', '"Nettokosten": spend').replace(
        '"Einblendungen":', '"Einblendungen": impressions'
    )
    beside(path).write_text(drafted, encoding="utf-8")
    (report,) = desk.read(path)
    assert (report.rows_loaded, report.status) == (1, "loaded")


# --- figures that stop ------------------------------------------------------------------------------------------------


def test_a_figure_earlier_reports_had_and_this_one_lacks_is_named(desk: Desk):
    header = "Day,Campaign,Campaign ID,Cost,Impr.,Clicks,Conversions"
    desk.read(desk.write(f"{header}\n2026-04-01,a,123456,1,1,1,2.5\n", "before.csv"))
    (again,) = desk.read(desk.write(f"{header}\n2026-04-02,a,123456,1,1,1,--\n", "same.csv"))
    assert not [w for w in again.warnings if "no column" in w]
    (report,) = desk.read(desk.write("Day,Campaign,Cost,Impr.,Clicks\n2026-04-03,a,1,1,1\n", "after.csv"))
    warnings = " / ".join(report.warnings)
    assert (
        "the report has no column of conversions, which earlier ones of this account had until 2026-04-01" in warnings
    )
    assert "the report has no campaign ids, earlier ones had" in warnings
