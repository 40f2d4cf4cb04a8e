"""Campaign reports: what is a row, what a sum; languages; results of several kinds; days and periods."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion.ads import campaign_key
from ingestion.layouts import Context, Layout, recognise
from ingestion.reading import open_tables
from ingestion.records import Blank, Outcome, Record, Rejected, Total
from turnout.errors import InputError
from turnout.settings import Settings

TODAY = date(2026, 11, 25)


class Reader:
    """Reads text as a file would be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = Context(Settings(home=folder / "home"), today=TODAY)
        self.layout: Layout | None = None

    def outcomes(self, text: str) -> list[Outcome]:
        path = self.folder / "export"
        path.write_text(text, encoding="utf-8")
        (table,) = open_tables(path)
        self.layout, _ = recognise(table)
        return list(self.layout.read(table, self.context))

    def records(self, text: str) -> list[dict]:
        found = self.outcomes(text)
        assert not [o for o in found if isinstance(o, Rejected)]
        return [o.values for o in found if isinstance(o, Record)]

    def kinds(self, text: str) -> list[str]:
        return [type(o).__name__ for o in self.outcomes(text)]

    def problems(self, text: str) -> list[tuple[str, int | None, str | None]]:
        return [(p.code, p.row, p.column) for o in self.outcomes(text) if isinstance(o, Rejected) for p in o.problems]


@pytest.fixture
def reader(tmp_path) -> Reader:
    return Reader(tmp_path)


# --- languages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "header"),
    [
        ("google_ads", "Day;Campaign;Cost;Impr.;Clicks;Conversions"),
        ("google_ads", "日;キャンペーン;費用;表示回数;クリック数;コンバージョン"),
        ("google_ads", "Día;Campaña;Coste;Impr.;Clics;Conversiones"),
        ("google_ads", "Dia;Campanha;Custo;Impr.;Cliques;Conversões"),
        ("google_ads", "Tag;Kampagne;Kosten;Impr.;Klicks;Conversions"),
        ("google_ads", "Jour;Campagne;Coût;Impr.;Clics;Conversions"),
        ("meta_ads", "Reporting starts;Campaign name;Amount spent (EUR);Impressions;Link clicks"),
        ("meta_ads", "日;キャンペーンの名前;消化金額 (EUR);インプレッション;リンクのクリック"),
        ("meta_ads", "Inicio del informe;Nombre de la campaña;Importe gastado (EUR);Impresiones;Clics en el enlace"),
        ("meta_ads", "Dia;Nome da campanha;Valor usado (EUR);Impressões;Cliques no link"),
        ("meta_ads", "Tag;Kampagnenname;Ausgegebener Betrag (EUR);Impressionen;Link-Klicks"),
        ("meta_ads", "Jour;Nom de la campagne;Montant dépensé (EUR);Impressions;Clics sur un lien"),
        ("linkedin_ads", "Start Date (in UTC);Campaign Name;Total Spent;Impressions;Clicks"),
        ("linkedin_ads", "Fecha de inicio (huso horario de UTC);Nombre de la campaña;Gasto total;Impresiones;Clics"),
        ("linkedin_ads", "Startdatum (UTC);Kampagnenname;Gesamtausgaben;Impressions;Klicks"),
        ("linkedin_ads", "Date de début (UTC);Nom de la campagne;Dépenses totales;Impressions;Clics"),
    ],
)
def test_reports_are_recognised_in_every_language(reader: Reader, source, header):
    (record,) = reader.records(f'{header}\n2026-04-01;Summit;"12,50";1479;105\n')
    assert reader.layout is not None
    assert reader.layout.source == source
    assert record["date"] == record["period_end"] == date(2026, 4, 1)
    assert (record["campaign_name"], record["spend"]) == ("Summit", Decimal("12.50"))
    assert (record["impressions"], record["clicks"]) == (1479, 105)


def test_decimal_marks_are_settled_per_column(reader: Reader):
    records = reader.records(
        "Día\tCampaña\tCoste\tImpr.\tClics\tConversiones\n"
        "2026-04-01\ta\t1.198,94\t1.479\t5\t1.7967991533\n"
        "2026-04-02\ta\t1.198\t1.479\t5\t3.361\n"
    )
    assert [r["spend"] for r in records] == [Decimal("1198.94"), Decimal(1198)]
    assert [r["impressions"] for r in records] == [1479, 1479]
    assert [r["conversions"] for r in records] == [Decimal("1.7967991533"), Decimal("3.361")]


def test_dates_are_settled_by_the_column_the_period_or_the_platform(reader: Reader):
    header = "Start Date (in UTC)\tCampaign Name\tTotal Spent\tImpressions"
    period = "Report Start: 3/1/2026\nReport End: {}\n"
    assert reader.records(f"{header}\n3/4/2026\ta\t1\t1\n")[0]["date"] == date(2026, 3, 4)
    spanish = "Fecha de inicio\tNombre de la campaña\tGasto total\tImpresiones\n3/4/2026\ta\t1\t1\n"
    assert reader.records(spanish)[0]["date"] == date(2026, 4, 3)
    stated = (
        "Report\n1 March 2026 - 31 March 2026\nDay,Campaign,Cost,Impr.,Clicks\n3/4/2026,a,1,1,1\n3/5/2026,a,1,1,1\n"
    )
    assert [r["date"] for r in reader.records(stated)] == [date(2026, 3, 4), date(2026, 3, 5)]
    assert period


def test_dates_that_nothing_settles_are_refused(reader: Reader):
    text = "Day,Campaign,Cost,Impr.,Clicks\n3/4/2026,a,1,1,1\n"
    assert reader.problems(text) == [("ambiguous_date", 2, "Day")]


# --- sums -------------------------------------------------------------------------------------------------------------

DAILY = "Day,Campaign,Cost,Impr.,Clicks\n2026-04-01,a,1,1,1\n"


@pytest.mark.parametrize(
    "row",
    [
        "Total,--,1,1,1",
        "Total: Account, --,1,1,1",
        "合計,,1,1,1",
        "総計: すべて, --,1,1,1",
        "Gesamt,,1,1,1",
        "Итого,,1,1,1",
        ",Total,1,1,1",
        ",Total: Search,1,1,1",
        ",,1,1,1",
        " --, --,1,1,1",
        "总计,,1,1,1",
        "TOTAL GENERAL,,1,1,1",
    ],
)
def test_rows_of_sums_are_recognised_and_not_counted(reader: Reader, row):
    assert reader.kinds(f"{DAILY}{row}\n") == ["Record", "Total"]


@pytest.mark.parametrize(
    "name", ["Total Recall Seminar", "Totally new", "合計算数セミナー", "Summary of AI", "Gesamtschule"]
)
def test_a_campaign_that_begins_like_a_sum_is_a_campaign(reader: Reader, name):
    assert reader.kinds(f"{DAILY}2026-04-01,{name},1,1,1\n") == ["Record", "Record"]


def test_a_campaign_called_total_with_an_ad_of_its_own_is_a_campaign(reader: Reader):
    text = "Day,Campaign,Ad group,Cost,Impr.,Clicks\n2026-04-01,Total,Group 1,1,1,1\n2026-04-01,Total,,1,1,1\n"
    assert reader.kinds(text) == ["Record", "Total"]


def test_a_day_without_a_campaign_is_a_defect_not_a_sum(reader: Reader):
    assert reader.problems(f"{DAILY}2026-04-02,,5,5,5\n") == [("missing_value", 3, "Campaign")]


def test_the_summary_row_of_a_daily_report_covers_the_period(reader: Reader):
    text = (
        "Reporting starts,Reporting ends,Campaign name,Amount spent (USD),Impressions\n"
        "2026-04-01,2026-04-30,,60,600\n2026-04-01,2026-04-01,a,1,10\n"
    )
    assert reader.kinds(text) == ["Total", "Record"]


def test_blank_rows(reader: Reader):
    assert reader.kinds(f"{DAILY}\n,,,,\n  ,\u3000,,,\n") == ["Record", "Blank", "Blank", "Blank"]


# --- rows -------------------------------------------------------------------------------------------------------------


def test_every_reason_of_a_row_is_given_at_once(reader: Reader):
    assert reader.problems(f"{DAILY}1900-01-01,b,-5,many,1.5\n") == [
        ("date_out_of_range", 3, "Day"),
        ("negative", 3, "Cost"),
        ("not_a_number", 3, "Impr."),
        ("not_whole", 3, "Clicks"),
    ]


def test_unknown_is_not_zero(reader: Reader):
    (record,) = reader.records("Day,Campaign,Cost,Impr.,Clicks,Conversions\n2026-04-01,a,--,< 10,,0\n")
    assert (record["spend"], record["impressions"], record["clicks"]) == (None, None, None)
    assert record["conversions"] == 0


def test_too_many_cells_mean_an_unquoted_delimiter(reader: Reader):
    assert reader.problems(f"{DAILY}2026-04-02,a,b,1,1,1\n") == [("too_many_cells", 3, None)]
    assert reader.kinds(f"{DAILY}2026-04-02,a,1,1,1,,\n") == ["Record", "Record"]


def test_meta_counts_only_completed_registrations_as_registrations(reader: Reader):
    kinds = (
        "actions:offsite_conversion.fb_pixel_complete_registration",
        "actions:link_click",
        "actions:onsite_conversion.lead_grouped",
        "actions:offsite_conversion.fb_pixel_purchase",
        "",
    )
    rows = "".join(f"2026-04-01,a,1,10,5,{kind}\n" for kind in kinds)
    records = reader.records(
        f"Reporting starts,Campaign name,Amount spent (USD),Impressions,Results,Result indicator\n{rows}"
    )
    assert [r["registrations"] for r in records] == [5, None, None, None, None]
    assert [r["leads"] for r in records] == [None, None, 5, None, None]
    assert [r["conversions"] for r in records] == [5, None, 5, 5, None]


def test_results_without_a_kind_are_no_registrations_and_said_so(reader: Reader):
    (record,) = reader.records("Day,Campaign name,Amount spent (USD),Impressions,Results\n2026-04-01,a,1,10,5\n")
    assert record["registrations"] is None
    assert any("Result indicator" in w for w in reader.context.warnings)


def test_same_day_and_ad_twice_are_two_ads(reader: Reader):
    row = "2026-04-01,a,Speaker teaser,1,10\n"
    assert len(reader.records(f"Day,Campaign name,Ad name,Amount spent (USD),Impressions\n{row}{row}")) == 2


def test_currency_of_row_header_or_installation(reader: Reader):
    assert reader.records("Day,Campaign,Currency,Cost,Impr.,Clicks\n2026-04-01,a,usd,1,1,1\n")[0]["currency"] == "USD"
    assert (
        reader.records("Day,Campaign name,Amount spent (EUR),Impressions\n2026-04-01,a,1,1\n")[0]["currency"] == "EUR"
    )
    assert reader.records("Day,Campaign,Cost,Impr.,Clicks\n2026-04-01,a,€1.50,1,1\n")[0]["currency"] == "EUR"
    reader.context.warnings.clear()
    assert reader.records(DAILY)[0]["currency"] == "JPY"
    assert reader.context.warnings == ["the report names no currency: JPY is assumed"]
    assert reader.problems("Day,Campaign,Currency,Cost,Impr.,Clicks\n2026-04-01,a,dollars,1,1,1\n") == [
        ("not_a_currency", 2, "Currency")
    ]


def test_ids_of_platforms_and_ids_a_spreadsheet_has_damaged(reader: Reader):
    records = reader.records(
        "Day,Campaign,Campaign ID,Account,Cost,Impr.,Clicks\n2026-04-01,a,123456789012,Main,1,1,1\n"
        "2026-04-01,b,1.23457E+11,Main,1,1,1\n2026-04-01,c,,Main,1,1,1\n"
    )
    assert [r["campaign_id"] for r in records] == ["123456789012", campaign_key("b"), campaign_key("c")]
    assert {r["account"] for r in records} == {"Main"}
    assert campaign_key("ＡＩ　Seminar") == campaign_key("ai seminar")


def test_a_report_over_a_period(reader: Reader):
    (record,) = reader.records('x\n"July 8, 2026 - July 31, 2026"\nCampaign,Cost,Impr.,Clicks\na,1,1,1\n')
    assert (record["date"], record["period_end"]) == (date(2026, 7, 8), date(2026, 7, 31))


def test_a_report_with_neither_days_nor_period_is_refused(reader: Reader):
    with pytest.raises(InputError, match="no day column and states no period"):
        reader.outcomes("Campaign,Cost,Impr.,Clicks\na,1,1,1\n")


def test_a_missing_column_is_named_with_those_found(reader: Reader):
    with pytest.raises(
        InputError, match=r"looks like google_ads.*the column 'Cost' is missing; columns found: Day, Campaign"
    ):
        reader.outcomes("Day,Campaign,Impr.,Clicks\n2026-04-01,a,1,1\n")


def test_a_users_own_headers_are_understood(tmp_path):
    from ingestion.headers import load_synonyms

    home = tmp_path / "home"
    home.mkdir()
    (home / "headers.yaml").write_text("google_ads:\n  spend: {ja: [ネット金額]}\n")
    path = tmp_path / "export"
    path.write_text("日,キャンペーン,ネット金額,表示回数,クリック数\n2026-04-01,a,1,1,1\n")
    synonyms = load_synonyms(home)
    (table,) = open_tables(path, synonyms=synonyms)
    layout, match = recognise(table, synonyms)
    assert match.fields["spend"].name == "ネット金額"
    assert layout.name == "google_ads.campaign_daily"


# --- properties -------------------------------------------------------------------------------------------------------

CELL = st.one_of(
    st.sampled_from(
        ["", "--", " --", "Total", "合計: x", "2026-04-01", "3/4/2026", "5", "1,234.5", "< 10%", "=1+1", "-3", "a"]
    ),
    st.text(alphabet=st.characters(blacklist_categories=["Cs", "Cc"]), max_size=8),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(
        [
            ["Day", "Campaign", "Cost", "Impr.", "Clicks", "Conversions"],
            ["Reporting starts", "Reporting ends", "Campaign name", "Amount spent (USD)", "Impressions", "Results"],
            ["Start Date (in UTC)", "Campaign Name", "Campaign ID", "Total Spent", "Impressions", "Leads"],
            ["date", "requests", "delivered", "opens", "unique_opens", "clicks", "unique_clicks", "bounces", "blocks"],
            ["registered_at", "ticket_type", "status", "source", "quantity", "email"],
        ]
    ),
    st.lists(st.lists(CELL, max_size=10), max_size=12),
)
def test_every_row_becomes_exactly_one_thing(tmp_path, header, rows):
    import csv
    import io

    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    writer.writerow(header)
    writer.writerows(rows)
    try:
        outcomes = Reader(tmp_path).outcomes(buffer.getvalue())
    except InputError as error:
        assert {p.code for p in error.problems} == {"mixed_date_order"}  # noqa: PT017
        return
    assert len(outcomes) == len(rows)
    assert [o.row for o in outcomes] == list(range(2, len(rows) + 2))
    for outcome, cells in zip(outcomes, rows, strict=True):
        if isinstance(outcome, Blank):
            assert all(not c.strip() for c in cells)
        elif isinstance(outcome, Total):
            assert outcome.label
        elif isinstance(outcome, Rejected):
            assert outcome.problems
        else:
            assert outcome.values["date"] >= date(2000, 1, 1)
