"""The warehouse beside a platform's screen: typed totals, and exports that are not loaded."""

from __future__ import annotations

from decimal import Decimal

import pytest
import sqlalchemy as sa

from ingestion.api import ingest_paths
from ingestion.screen import compare_with_screen
from turnout.errors import InputError
from turnout.quality import accept_everything
from turnout.warehouse import tables as wh

HEADER = "Day,Campaign,Campaign ID,Campaign type,Currency,Cost,Impr.,Clicks\n"
ROWS = (
    "2026-05-01,a,1,Search,JPY,100,1000,10\n2026-05-02,b,2,Search,JPY,250.50,500,5\n2026-06-01,a,1,Search,JPY,7,1,1\n"
)
MAIL = "date,category,requests,processed,delivered,opens,unique_opens,clicks,unique_clicks,bounces\n"


@pytest.fixture
def desk(settings, engine, tmp_path):
    class Desk:
        def read(self, text: str, name: str = "a.csv", account: str | None = None) -> None:
            report = ingest_paths(
                [self.file(name, text)], settings=settings, engine=engine, gate=accept_everything, account=account
            )
            assert report.ok, report.refused

        def file(self, name: str, text: str):
            path = tmp_path / name
            path.write_text(text, encoding="utf-8")
            return path

        def compare(self, text: str, name: str = "screen.csv", **parts):
            return compare_with_screen(engine, settings, self.file(name, text), **parts)

    return Desk()


def test_typed_totals_of_a_month_agree_to_the_cent_or_show_the_difference(desk):
    desk.read(HEADER + ROWS)
    same, other = desk.compare(
        'source,month,spend,impressions,clicks\ngoogle_ads,2026-05,"¥350.50","1,500",15\ngoogle_ads,2026-05,350.51,1500,16\n'
    )
    assert same.differing == ()
    assert same.figures["spend"] == (Decimal("350.50"), Decimal("350.50"))
    assert other.differing == ("spend", "clicks")
    assert other.figures["clicks"] == (16, 15)
    assert other.place == "screen.csv, row 3"


def test_amounts_typed_without_their_last_digits_agree(desk):
    desk.read(HEADER + ROWS)
    [whole] = desk.compare("source,from,to,spend\ngoogle_ads,2026-05-01,2026-05-31,350\n")
    assert whole.differing == ()
    [wrong] = desk.compare("source,from,to,spend\ngoogle_ads,2026-05-01,2026-05-31,349\n")
    assert wrong.differing == ("spend",)


def test_a_campaign_or_account_narrows_the_totals_and_yaml_is_read_too(desk):
    desk.read(HEADER + ROWS, account="x")
    desk.read(HEADER + "2026-05-01,a,9,Search,JPY,11,1,1\n", "b.csv", account="y")
    found = desk.compare(
        "[{source: google_ads, from: 2026-05-01, to: 2026-06-30, campaign: a, account: x, spend: 107},"
        " {source: google_ads, month: 2026-05, campaign: '9', clicks: 1}]",
        "screen.yaml",
    )
    assert [line.differing for line in found] == [(), ()]


def test_mail_and_registrations_are_compared_in_their_own_words(desk):
    desk.read(MAIL + "2026-05-01,x,9,9,8,4,1,3,1,1\n")
    desk.read("date,requests,processed,delivered,opens,unique_opens,clicks,unique_clicks,bounces\n"
              "2026-05-01,19,9,18,4,1,3,1,1\n", "b.csv")  # fmt: skip
    desk.read("registered_at,event,status\n2026-05-01,e,confirmed\n2026-05-02,e,cancelled\n", "c.csv")
    found = desk.compare(
        "source,month,campaign,delivered,registrations\nsendgrid,2026-05,,18,\nsendgrid,2026-05,x,8,\n"
        "registrations,2026-05,,,1\n"
    )
    assert [line.differing for line in found] == [(), (), ()]


def test_what_the_warehouse_does_not_have_differs_and_is_said(desk):
    [line] = desk.compare("source,month,spend\nmeta_ads,2026-05,5\n")
    assert line.differing == ("spend",)
    assert line.notes == ("the warehouse has no rows of this",)


def test_days_half_inside_are_left_out_and_said(desk):
    desk.read(
        "Report\n2026-04-20 - 2026-05-10\nCampaign,Currency,Cost,Impr.,Clicks\na,JPY,5,1,1\n".replace(
            "2026-04-20 - 2026-05-10", '"April 20, 2026 - May 10, 2026"'
        )
    )
    [line] = desk.compare("source,month,spend\ngoogle_ads,2026-05,5\n")
    assert "1 rows cover days both inside and outside" in " ".join(line.notes)


def test_every_mistake_of_typed_totals_is_named_with_its_place(desk):
    with pytest.raises(InputError) as caught:
        desk.compare(
            "source,from,to,month,spend,delivered\n"
            "google,2026-05-01,2026-05-02,,1,\n"
            "google_ads,2026-05-03,2026-05-02,,1,\n"
            "google_ads,,,2026-13,1,\n"
            "google_ads,2026-05-01,2026-05-02,,lots,\n"
            "google_ads,2026-05-01,2026-05-02,,,3\n"
            "google_ads,2026-05-01,,,3,\n"
        )
    assert {(p.row, p.column) for p in caught.value.problems} == {
        (2, "source"), (3, "to"), (4, "month"), (5, "spend"), (6, "delivered"), (7, "to"),
    }  # fmt: skip


# --- exports ----------------------------------------------------------------------------------------------------------


def test_an_export_is_compared_and_not_loaded(desk, engine):
    desk.read(HEADER + ROWS)
    rows, own = desk.compare(HEADER + ROWS + "Total,,,,JPY,357.50,1501,16\n", "export.csv")
    assert (rows.what, rows.differing, own.what, own.differing) == ("export", (), "total row", ())
    changed = ROWS.replace("250.50", "300.50")
    rows, own = desk.compare(HEADER + changed + "Total,,,,JPY,357.50,1501,16\n", "export.csv")
    assert rows.figures["spend"] == (Decimal("407.50"), Decimal("357.50"))
    assert (rows.differing, own.differing) == (("spend",), ("spend",))
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(wh.ingest_file)) == 1


def test_an_export_of_part_of_the_campaigns_is_compared_with_these(desk):
    desk.read(HEADER + ROWS)
    [rows] = desk.compare(HEADER + "2026-05-02,b,2,Search,JPY,250.50,500,5\n", "export.csv")
    assert rows.differing == ()


def test_a_list_of_registrations_has_no_screen(desk):
    with pytest.raises(InputError) as caught:
        desk.compare("registered_at,event,status\n2026-05-01,e,confirmed\n", "list.csv")
    assert caught.value.problems[0].code == "no_campaign_report"
