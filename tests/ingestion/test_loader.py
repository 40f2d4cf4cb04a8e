"""Loading: partitions replaced whole, rows accounted for, the gate obeyed, nothing counted twice."""

from __future__ import annotations

import csv
import io
import random
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import ingestion.api
import ingestion.staging
from ingestion.api import ingest_paths, ingest_source, quarantine_rows, totals
from ingestion.loader import FileReport, LostRowsError
from turnout.quality import GateDecision, RejectedRow, StoppedPartition, accept_everything
from turnout.settings import Settings
from turnout.warehouse import tables as wh
from turnout.warehouse.load import empty_all
from turnout.warehouse.migrate import upgrade

ADS = wh.ad_performance
HEADER = "Day,Campaign,Currency,Cost,Impr.,Clicks\n"


class Desk:
    """Files in, rows out."""

    def __init__(self, settings: Settings, engine: sa.Engine) -> None:
        self.settings, self.engine = settings, engine
        self.settings.inbox_path.mkdir(parents=True, exist_ok=True)

    def write(self, text: str, name: str = "a.csv") -> Any:
        path = self.settings.inbox_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def read(self, text: str, name: str = "a.csv", *, gate=accept_everything, **options) -> FileReport:
        path = self.write(text, name)
        options.setdefault("settings", self.settings)
        return ingest_paths([path], engine=self.engine, gate=gate, trigger="test", **options).files[-1]

    def rows(self, table: sa.Table = ADS, *columns: str) -> list[tuple[Any, ...]]:
        names = columns or ("date", "campaign_name", "spend")
        with self.engine.connect() as connection:
            query = sa.select(*[table.c[n] for n in names]).order_by(*table.primary_key.columns)
            return [tuple(row) for row in connection.execute(query)]

    def count(self, table: sa.Table) -> int:
        with self.engine.connect() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


@pytest.fixture
def desk(settings, engine) -> Desk:
    return Desk(settings, engine)


def day(n: int) -> date:
    return date(2026, 4, n)


def ads(*rows: str) -> str:
    return HEADER + "".join(f"2026-04-{row}\n" for row in rows)


# --- partitions -------------------------------------------------------------------------------------------------------


def test_a_restated_day_is_replaced_and_other_days_stay(desk: Desk):
    desk.read(ads("01,a,JPY,10,1,1", "01,b,JPY,20,1,1", "02,a,JPY,30,1,1"))
    desk.read(ads("02,a,JPY,31,1,1", "03,a,JPY,40,1,1"), "b.csv")
    assert desk.rows() == [(day(1), "a", 10), (day(1), "b", 20), (day(2), "a", 31), (day(3), "a", 40)]


def test_a_report_that_states_its_period_empties_days_it_has_no_row_of(desk: Desk):
    desk.read(ads("01,a,JPY,10,1,1", "02,a,JPY,20,1,1", "05,a,JPY,50,1,1"))
    desk.read("Report\n1 April 2026 - 3 April 2026\n" + ads("01,a,JPY,11,1,1"), "b.csv")
    assert desk.rows() == [(day(1), "a", 11), (day(5), "a", 50)]


def test_days_and_periods_of_a_campaign_stand_beside_each_other(desk: Desk):
    period = "Report\n1 April 2026 - 30 April 2026\nCampaign,Currency,Cost,Impr.,Clicks\na,JPY,{},9,9\nb,JPY,7,9,9\n"
    desk.read(ads("01,a,JPY,10,1,1"))
    desk.read(period.format(99), "p.csv")
    desk.read(ads("01,a,JPY,12,1,1"), "c.csv")
    desk.read(period.format(100), "p2.csv")
    assert desk.rows(ADS, "date", "period_end", "campaign_name", "spend") == [
        (day(1), day(30), "b", 7),
        (day(1), day(30), "a", 100),
        (day(1), day(1), "a", 12),
    ]


def test_accounts_are_replaced_apart(desk: Desk):
    desk.read(ads("01,a,JPY,10,1,1"), "tokyo/a.csv")
    desk.read(ads("01,a,JPY,20,1,1"), "osaka/a.csv")
    desk.read(ads("01,a,JPY,30,1,1"), "b.csv")
    desk.read(ads("01,a,JPY,40,1,1"), "c.csv", account="named")
    text = "Day,Account,Campaign,Currency,Cost,Impr.,Clicks\n2026-04-01,in the file,a,JPY,50,1,1\n"
    desk.read(text, "tokyo/d.csv")
    found = desk.rows(ADS, "account", "spend")
    assert found == [("", 30), ("in the file", 50), ("named", 40), ("osaka", 20), ("tokyo", 10)]


def test_categories_of_mail_are_replaced_apart(desk: Desk):
    metrics = "requests,processed,delivered,opens,unique_opens,clicks,unique_clicks,bounces"
    desk.read(f"date,{metrics}\n2026-04-01,9,9,9,9,9,9,9,9\n", "all.csv")
    desk.read(f"date,category,{metrics}\n2026-04-01,x,1,1,1,1,1,1,1,1\n2026-04-01,y,2,2,2,2,2,2,2,2\n", "c.csv")
    desk.read(f"date,category,{metrics}\n2026-04-01,x,3,3,3,3,3,3,3,3\n", "d.csv")
    assert desk.rows(wh.email_performance, "category", "delivered") == [("", 9), ("x", 3), ("y", 2)]


def test_replacing_another_files_campaigns_is_said(desk: Desk):
    desk.read(ads("01,a,JPY,10,1,1", "01,b,JPY,10,1,1"))
    report = desk.read(ads("01,c,JPY,20,1,1"), "b.csv")
    assert report.warnings == [
        "2 rows of a.csv were replaced, and 2 of its campaigns are not in this file; exports of different accounts "
        "belong into different folders of the inbox (or use --account)"
    ]
    assert desk.read(ads("01,c,JPY,21,1,1"), "c.csv").warnings == []


def test_two_lists_that_name_no_event_warn(desk: Desk):
    desk.read("registered_at,status\n2026-04-01,confirmed\n2026-04-09,confirmed\n", "a.csv")
    report = desk.read("registered_at,status\n2026-04-01,cancelled\n2026-04-02,confirmed\n", "b.csv")
    assert [w for w in report.warnings if "--event" in w]


def test_the_later_stated_period_wins_whatever_the_order(desk: Desk):
    early = "Report\n1 April 2026 - 2 April 2026\n" + ads("01,a,JPY,10,1,1", "02,a,JPY,20,1,1")
    late = "Report\n1 April 2026 - 3 April 2026\n" + ads("01,a,JPY,11,1,1", "02,a,JPY,21,1,1", "03,a,JPY,31,1,1")
    paths = [desk.write(late, "a_late.csv"), desk.write(early, "z_early.csv")]
    for order in (paths, paths[::-1]):
        ingest_paths(order, settings=desk.settings, engine=desk.engine, gate=accept_everything)
        assert [r[2] for r in desk.rows()] == [11, 21, 31]


def test_without_a_stated_period_the_later_last_day_wins(desk: Desk):
    paths = [
        desk.write(ads("01,a,JPY,11,1,1", "03,a,JPY,31,1,1"), "a_late.csv"),
        desk.write(ads("01,a,JPY,10,1,1"), "z_early.csv"),
    ]
    ingest_paths(paths, settings=desk.settings, engine=desk.engine, gate=accept_everything)
    assert [r[2] for r in desk.rows()] == [11, 31]


# --- windows ----------------------------------------------------------------------------------------------------------


def test_a_window_touches_its_days_only(desk: Desk):
    desk.read(ads("01,a,JPY,10,1,1", "02,a,JPY,20,1,1", "03,a,JPY,30,1,1"))
    text = "Report\n1 April 2026 - 4 April 2026\n" + ads("01,a,JPY,11,1,1", "03,a,JPY,31,1,1")
    report = desk.read(text, "b.csv", window=(day(2), day(3)))
    assert (report.rows_read, report.rows_loaded, report.rows_outside) == (2, 1, 1)
    assert desk.rows() == [(day(1), "a", 10), (day(3), "a", 31)]


def test_the_nightly_read_takes_one_source_of_the_inbox(desk: Desk):
    desk.write(ads("01,a,JPY,10,1,1", "02,a,JPY,20,1,1"), "tokyo/google.csv")
    desk.write("registered_at,status\n2026-04-01,confirmed\n", "tokyo/list.csv")
    desk.write("just a note\n", "README.txt")
    desk.write("", "tokyo/empty.csv")
    report = ingest_source(
        "google_ads", day(1), day(1), settings=desk.settings, engine=desk.engine, gate=accept_everything
    )
    assert report.summary() == {
        "files": 1,
        "files_refused": 1,
        "rows_read": 2,
        "rows_loaded": 1,
        "rows_quarantined": 0,
        "rows_total": 0,
        "rows_blank": 0,
        "rows_outside": 1,
    }
    assert desk.rows(ADS, "account", "date") == [("tokyo", day(1))]
    assert desk.count(wh.registration) == 0
    assert [p.code for p in report.refused] == ["empty_file"]
    assert [r["reason_code"] for r in quarantine_rows(desk.engine, desk.settings.organisation)] == ["empty_file"]
    assert totals(desk.engine, desk.settings.organisation)["google.csv"]["rows"] == 1


def test_files_known_to_hold_no_day_of_the_window_are_left_alone(desk: Desk):
    desk.read(ads("01,a,JPY,10,1,1"))
    source = ("google_ads", day(20), day(21))
    options = {"settings": desk.settings, "engine": desk.engine, "gate": accept_everything}
    assert ingest_source(*source, **options).files == []
    desk.write(ads("01,a,JPY,10,1,1", "20,a,JPY,10,1,1"))
    assert len(ingest_source(*source, **options).files) == 1


def test_windows_that_make_no_sense_are_refused(desk: Desk):
    options = {"settings": desk.settings, "engine": desk.engine, "gate": accept_everything}
    with pytest.raises(ValueError, match="unknown source 'tiktok'; known are google_ads"):
        ingest_source("tiktok", day(1), day(2), **options)
    with pytest.raises(ValueError, match="lies before the first"):
        ingest_source("google_ads", day(2), day(1), **options)


def test_totals_of_a_file_read_in_windows_are_what_is_current(desk: Desk):
    desk.write(ads("01,a,JPY,10,1,1", "02,a,JPY,20,1,1", "03,a,JPY,30,1,1"))
    options = {"settings": desk.settings, "engine": desk.engine, "gate": accept_everything}
    for n in (1, 2, 3):
        ingest_source("google_ads", day(n), day(n), **options)
    entry = totals(desk.engine, desk.settings.organisation)["a.csv"]
    assert (entry["rows"], entry["spend"], entry["window"]) == (3, 60, ["2026-04-01", "2026-04-03"])
    desk.read(ads("01,a,JPY,10,1,1", "02,a,JPY,20,1,1", "03,a,JPY,30,1,1"))
    entry = totals(desk.engine, desk.settings.organisation)["a.csv"]
    assert "window" not in entry
    assert entry["spend"] == 60


# --- the gate ---------------------------------------------------------------------------------------------------------


def test_rows_the_gate_rejects_go_to_quarantine_and_the_rest_is_loaded(desk: Desk):
    def gate(table: str, frame: pd.DataFrame) -> GateDecision:
        bad = frame.index[frame["campaign_name"] == "b"]
        reasons = [RejectedRow(i, "clicks", "9", "clicks_exceed", "9 clicks of 1 impression") for i in bad]
        return GateDecision(rejected=reasons, rows_checked=len(frame), failures=[{"expectation": "x"}])

    report = desk.read(ads("01,a,JPY,10,1,1", "01,b,JPY,20,1,9", "02,b,JPY,20,1,9"), gate=gate)
    assert (report.rows_loaded, report.rows_quarantined) == (1, 2)
    assert desk.rows() == [(day(1), "a", 10)]
    rows = quarantine_rows(desk.engine, desk.settings.organisation)
    assert [(r["row_number"], r["reason_code"], r["column_name"], r["value"]) for r in rows] == [
        (3, "clicks_exceed", "clicks", "9"),
        (4, "clicks_exceed", "clicks", "9"),
    ]
    assert rows[0]["record"]["campaign_name"] == "b"
    assert desk.rows(wh.validation, "status", "rows_checked", "rows_rejected") == [("warned", 3, 2)]


def test_a_stopped_partition_keeps_yesterdays_good_data(desk: Desk):
    def gate(table: str, frame: pd.DataFrame) -> GateDecision:
        return GateDecision(
            stopped=[StoppedPartition("google_ads", "", day(1), "spend_jump", "spend is 100 times usual")]
        )

    desk.read(ads("01,a,JPY,10,1,1", "02,a,JPY,20,1,1"))
    text = "Report\n1 April 2026 - 2 April 2026\n" + ads("01,a,JPY,1000,1,1", "02,a,JPY,21,1,1")
    report = desk.read(text, "b.csv", gate=gate)
    assert (report.rows_loaded, report.rows_quarantined) == (1, 1)
    assert desk.rows() == [(day(1), "a", 10), (day(2), "a", 21)]
    assert sorted(desk.rows(wh.validation, "status")) == [("passed",), ("stopped",)]
    assert "stopped: spend is 100 times usual" in quarantine_rows(desk.engine, desk.settings.organisation)[0]["reason"]


def test_a_whole_table_may_be_stopped(desk: Desk):
    def gate(table: str, frame: pd.DataFrame) -> GateDecision:
        return GateDecision(stopped=[StoppedPartition("google_ads", "", None, "schema", "nothing is right")])

    desk.read(ads("01,a,JPY,10,1,1"))
    report = desk.read(ads("01,a,JPY,11,1,1", "02,a,JPY,21,1,1"), "b.csv", gate=gate)
    assert (report.rows_loaded, report.rows_quarantined) == (0, 2)
    assert desk.rows() == [(day(1), "a", 10)]


def test_a_day_with_refused_rows_only_keeps_what_was_good(desk: Desk):
    desk.read(ads("01,a,JPY,10,1,1", "02,a,JPY,20,1,1"))
    text = "Report\n1 April 2026 - 2 April 2026\n" + ads("01,a,JPY,-5,1,1", "02,a,JPY,21,1,1")
    report = desk.read(text, "b.csv")
    assert (report.rows_loaded, report.rows_quarantined) == (1, 1)
    assert desk.rows() == [(day(1), "a", 10), (day(2), "a", 21)]


def test_the_gate_sees_the_tables_columns_and_nothing_else(desk: Desk):
    seen: dict[str, pd.DataFrame] = {}

    def gate(table: str, frame: pd.DataFrame) -> GateDecision:
        seen[table] = frame
        return GateDecision()

    desk.read(ads("01,a,USD,10.50,1,1"), gate=gate)
    desk.read("registered_at,status\n2026-04-01,confirmed\n", "r.csv", gate=gate)
    for name, frame in seen.items():
        table = wh.metadata.tables[f"{wh.SCHEMA}.{name}"]
        assert set(frame.columns) <= set(table.c.keys())
        required = {c.name for c in table.c if not c.nullable and c.server_default is None}
        assert required <= set(frame.columns), name
    row = seen["ad_performance"].iloc[0]
    assert (row["spend"], row["spend_base"], row["date"]) == (Decimal("10.50"), Decimal(1575), day(1))


# --- quarantine -------------------------------------------------------------------------------------------------------


def test_quarantine_does_not_grow_and_a_corrected_file_clears_it(desk: Desk):
    bad = ads("01,a,JPY,-10,1,1", "02,a,JPY,many,1,1", "03,a,JPY,30,1,1")
    for _ in range(2):
        desk.read(bad)
        assert desk.count(wh.quarantine) == 2
    desk.read(bad, "copy.csv")
    assert desk.count(wh.quarantine) == 2
    desk.read(ads("01,a,JPY,10,1,1", "02,a,JPY,many,1,1", "03,a,JPY,30,1,1"), "copy.csv")
    assert desk.count(wh.quarantine) == 1
    desk.read(ads("01,a,JPY,10,1,1"), "copy.csv")
    assert desk.count(wh.quarantine) == 0


def test_a_window_leaves_the_quarantine_of_other_days(desk: Desk):
    bad = ads("01,a,JPY,-10,1,1", "02,a,JPY,-20,1,1")
    desk.read(bad)
    desk.read(bad, window=(day(2), day(2)))
    assert desk.count(wh.quarantine) == 2


def test_a_refused_file_is_in_quarantine_until_it_is_mended_and_its_old_rows_stay(desk: Desk):
    desk.read(ads("01,a,JPY,10,1,1"))
    report = desk.read("Day,Campaign,Impr.,Clicks\n2026-04-01,a,1,1\n")
    assert report.status == "refused"
    (row,) = quarantine_rows(desk.engine, desk.settings.organisation)
    assert (row["reason_code"], row["row_number"], row["file"]) == ("missing_column", 1, "a.csv")
    assert desk.rows() == [(day(1), "a", 10)]
    desk.read(ads("01,a,JPY,11,1,1"))
    assert desk.count(wh.quarantine) == 0


def test_one_bad_file_does_not_stop_the_others(desk: Desk):
    paths = [
        desk.write("", "empty.csv"),
        desk.write(ads("01,a,JPY,10,1,1"), "good.csv"),
        desk.settings.inbox_path / "gone.csv",
    ]
    report = ingest_paths(paths, settings=desk.settings, engine=desk.engine, gate=accept_everything)
    assert not report.ok
    assert sorted(p.code for p in report.refused) == ["empty_file", "no_file"]
    assert desk.rows() == [(day(1), "a", 10)]
    assert desk.rows(wh.ingest_run, "status", "trigger") == [("succeeded", "cli")]


def test_notes_in_a_folder_are_ignored_but_not_when_asked_for(desk: Desk):
    note = desk.write("Please read me\nthank you\n", "README.txt")
    desk.write(ads("01,a,JPY,10,1,1"))
    desk.write('{"rows": 1}', "expected.json")
    desk.write("x", "half.csv.part")
    desk.write("x", ".hidden/a.csv")
    folder = ingest_paths(
        [desk.settings.inbox_path], settings=desk.settings, engine=desk.engine, gate=accept_everything
    )
    assert folder.ok
    assert sorted((f.name, f.status) for f in folder.files) == [
        ("README.txt", "ignored"),
        ("a.csv", "loaded"),
        ("expected.json", "ignored"),
    ]
    asked = ingest_paths([note], settings=desk.settings, engine=desk.engine, gate=accept_everything)
    assert [p.code for p in asked.refused] == ["unknown_layout"]


def test_a_table_of_a_folder_that_nobody_understands_is_refused(desk: Desk):
    desk.write("Foo,Bar,Baz\n1,2,3\n4,5,6\n", "export.csv")
    report = ingest_paths(
        [desk.settings.inbox_path], settings=desk.settings, engine=desk.engine, gate=accept_everything
    )
    assert [p.code for p in report.refused] == ["unknown_layout"]


# --- money ------------------------------------------------------------------------------------------------------------


def test_a_dated_rate_of_the_warehouse_wins_over_the_settings(desk: Desk):
    with desk.engine.begin() as connection:
        for n, rate in ((1, "149.25"), (3, "151.5")):
            row = {"date": day(n), "currency": "USD", "base_currency": "JPY", "rate": rate, "source": "test"}
            connection.execute(sa.insert(wh.fx_rate).values(row))
    desk.read(ads("02,a,USD,10,1,1", "03,a,USD,10,1,1", "20,a,USD,10,1,1"))
    assert desk.rows(ADS, "date", "spend_base", "fx_date") == [
        (day(2), Decimal("1492.5"), day(1)),
        (day(3), Decimal(1515), day(3)),
        (day(20), Decimal(1500), date(2026, 1, 1)),
    ]


def test_a_currency_without_a_rate_is_quarantined_with_those_known(desk: Desk):
    report = desk.read(ads("01,a,XAU,10,1,1", "01,b,JPY,10,1,1"))
    assert report.rows_loaded == 1
    assert report.problems[0].code == "unknown_currency"
    assert "known are BRL, EUR, GBP, JPY, USD (setting TURNOUT_FX_RATES)" in report.problems[0].message


def test_another_base_currency(desk: Desk, settings):
    euro = settings.model_copy(update={"currency": "EUR", "fx_rates": {"JPY": 1.0, "EUR": 160.0, "USD": 152.0}})
    desk.read(ads("01,a,USD,10,1,1"), settings=euro)
    assert desk.rows(ADS, "spend_base", "base_currency", "fx_rate") == [(Decimal("9.5"), "EUR", Decimal("0.95"))]


# --- days -------------------------------------------------------------------------------------------------------------


def test_a_day_that_was_not_over_when_the_report_was_made_is_partial(desk: Desk):
    desk.read(
        "Report (in UTC)\nReport Start: 1 April 2026\nReport End: 2 April 2026\nDate Generated: 2 April 2026, 8:54 AM\n"
        "Start Date (in UTC),Campaign Name,Currency,Total Spent,Impressions\n"
        "2026-04-01,a,JPY,1,1\n2026-04-02,a,JPY,1,1\n"
    )
    assert desk.rows(ADS, "date", "is_partial") == [(day(1), False), (day(2), True)]


# --- scale ------------------------------------------------------------------------------------------------------------


def shuffled_ads(count: int) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    chance = random.Random(7)
    writer.writerow(["Day", "Campaign", "Currency", "Cost", "Impr.", "Clicks"])
    for n in range(count):
        on = date(2026, 1, 1) + timedelta(days=chance.randrange(90))
        writer.writerow(
            [on, f"c{chance.randrange(5)}", "USD", f"{chance.randrange(10_000) / 100:.2f}", n, 1 if n % 10 else "x"]
        )
    return buffer.getvalue()


def test_a_large_unsorted_file_gives_what_a_small_one_would(desk: Desk, monkeypatch):
    text = shuffled_ads(2_000)
    names = [c.name for c in ADS.c if c.name not in ("run_id", "fetched_at")]
    report = desk.read(text)
    at_once, quarantined = desk.rows(ADS, *names), desk.rows(wh.quarantine, "row_number", "reason")
    monkeypatch.setattr(ingestion.staging, "BATCH_ROWS", 150)
    monkeypatch.setattr(ingestion.staging.Staged.__init__, "__defaults__", (150,))
    seen: list[int] = []

    def gate(table: str, frame: pd.DataFrame) -> GateDecision:
        seen.append(len(frame))
        return GateDecision(rows_checked=len(frame))

    again = desk.read(text, gate=gate)
    assert len(seen) > 8
    assert max(seen) <= 150
    assert (again.rows_loaded, again.rows_quarantined) == (report.rows_loaded, report.rows_quarantined) == (1800, 200)
    assert desk.rows(ADS, *names) == at_once
    assert desk.rows(wh.quarantine, "row_number", "reason") == quarantined
    assert not list(desk.settings.home_path.glob("tmp/*"))


def test_what_killed_loads_left_is_swept_away(desk: Desk):
    import os
    import time

    old, new = (desk.settings.home_path / "tmp" / f"ingest-{name}" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "rows").write_text("x")
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    desk.read(ads("01,a,JPY,10,1,1"))
    assert not old.exists()
    assert new.exists()


# --- books ------------------------------------------------------------------------------------------------------------


def test_rows_that_go_missing_are_a_loud_failure(desk: Desk, monkeypatch):
    desk.read(ads("01,a,JPY,10,1,1"))
    monkeypatch.setattr(ingestion.loader, "copy", lambda *a: 1)
    with pytest.raises(LostRowsError, match="2 rows read, but 1 loaded"):
        desk.read(ads("01,a,JPY,11,1,1", "02,b,JPY,20,1,1"))
    assert desk.rows() == [(day(1), "a", 10)]
    assert ("failed",) in desk.rows(wh.ingest_run, "status")


def test_campaigns_keep_their_newest_name_and_a_users_mapping(desk: Desk):
    header = "Day,Campaign,Campaign ID,Currency,Cost,Impr.,Clicks\n"
    desk.read(header + "2026-04-10,New name,77,JPY,1,1,1\n")
    rule = {"organisation": desk.settings.organisation, "rule_id": "map_1", "kind": "id", "pattern": "77"}
    with desk.engine.begin() as connection:
        connection.execute(sa.insert(wh.mapping_rule).values(rule | {"tactic_id": "line_ads"}))
    desk.read(header + "2026-04-01,Old name,77,JPY,1,1,1\n", "old.csv")
    names = ("campaign_id", "name", "first_seen", "last_seen", "mapped_by", "tactic_id")
    assert desk.rows(wh.campaign, *names) == [("77", "New name", day(1), day(10), "user", "line_ads")]
    desk.read(header + "2026-04-20,Newest name,77,JPY,1,1,1\n", "new.csv")
    assert desk.rows(wh.campaign, "name", "last_seen", "mapped_by") == [("Newest name", day(20), "user")]


def test_every_name_a_campaign_had_is_kept_whatever_the_order(desk: Desk):
    header = "Day,Campaign,Campaign ID,Currency,Cost,Impr.,Clicks\n"
    texts = [
        header + "2026-04-10,新しい名前,77,JPY,1,1,1\n2026-04-09,B name,77,JPY,1,1,1\n",
        header + "2026-04-09,b name,77,JPY,1,1,1\n",
        header + "2026-04-10,新しい名前,77,JPY,1,1,1\n2026-04-09,ア,77,JPY,1,1,1\n",
    ]
    for number, text in enumerate([*texts, texts[0]]):
        desk.read(text, f"{number}.csv")
    assert desk.rows(wh.campaign, "name", "names") == [("新しい名前", sorted(["B name", "b name", "ア", "新しい名前"]))]


def test_files_of_one_name_are_told_apart_by_path(desk: Desk):
    desk.read(ads("01,a,JPY,10,1,1"), "tokyo/a.csv")
    desk.read(ads("01,a,JPY,20,1,1"), "osaka/a.csv")
    found = totals(desk.engine, desk.settings.organisation)
    assert sorted(entry["spend"] for entry in found.values()) == [10, 20]
    assert all(name.endswith("/a.csv") for name in found)


def test_organisations_do_not_see_each_other(desk: Desk, settings):
    desk.read(ads("01,a,JPY,10,1,1"))
    other = settings.model_copy(update={"organisation": "other"})
    desk.read(ads("01,a,JPY,20,1,1"), settings=other)
    assert sorted(r[2] for r in desk.rows()) == [10, 20]
    assert totals(desk.engine, "other")["a.csv"]["spend"] == 20
    assert totals(desk.engine, settings.organisation)["a.csv"]["current_rows"] == 1


def test_the_schema_is_that_of_the_tables(settings, engine):
    upgrade(settings)
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        for table in (wh.registration, wh.email_performance, wh.quarantine, wh.ingest_file):
            assert {c["name"] for c in inspector.get_columns(table.name, schema=wh.SCHEMA)} == set(table.c.keys())


ROW = st.one_of(
    st.tuples(st.integers(1, 28), st.sampled_from("abc"), st.integers(0, 10**6).map(lambda c: f"{c / 100:.2f}")).map(
        lambda t: f"2026-04-{t[0]:02d},{t[1]},USD,{t[2]},5,1"
    ),
    st.sampled_from(
        [
            "",
            ",,,,,",
            "Total,,USD,999999,5,1",
            "2026-04-31,a,USD,1,1,1",
            "2026-04-01,a,USD,x,1,1",
            "1900-01-01,a,USD,1,1,1",
        ]
    ),
)


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROW, max_size=40), st.tuples(st.integers(1, 28), st.integers(1, 28)).map(sorted) | st.none())
def test_rows_in_are_rows_out_and_sums_are_exact(desk: Desk, rows, window):
    span = None if window is None else (day(window[0]), day(window[1]))
    report = desk.read(HEADER + "".join(f"{r}\n" for r in rows), window=span)
    counted = (report.rows_loaded, report.rows_quarantined, report.rows_total, report.rows_blank, report.rows_outside)
    assert report.rows_read == len(rows) == sum(counted)
    good = [
        r.split(",") for r in rows if r.startswith("2026-04-") and r.count("USD") and "x" not in r and "-31" not in r
    ]
    wanted = [r for r in good if span is None or span[0] <= date.fromisoformat(r[0]) <= span[1]]
    assert report.rows_loaded == len(wanted)
    with desk.engine.connect() as connection:
        query = sa.select(sa.func.coalesce(sa.func.sum(ADS.c.spend), 0)).where(
            ADS.c.run_id
            == connection.execute(
                sa.select(wh.ingest_run.c.run_id).order_by(wh.ingest_run.c.started_at.desc()).limit(1)
            ).scalar_one()
        )
        assert connection.execute(query).scalar_one() == sum((Decimal(r[3]) for r in wanted), Decimal(0))


def test_a_campaign_is_of_the_file_with_its_last_day_whichever_was_read_first(settings, engine, tmp_path):
    texts = {
        "april.csv": "Day,Campaign name,Impressions,Link clicks,Amount spent (JPY)\n2026-04-29,Spring,100,3,500\n",
        "may.csv": "Day,Campaign name,Impressions,Link clicks,Amount spent (JPY)\n2026-05-02,Spring,100,3,700\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    origins = []
    for order in (["april.csv", "may.csv"], ["may.csv", "april.csv"]):
        with engine.begin() as connection:
            empty_all(connection)
        for name in order:
            ingest_paths([tmp_path / name], settings=settings, engine=engine, gate=accept_everything, trigger="test")
        with engine.connect() as connection:
            origins.append(connection.execute(sa.select(wh.campaign.c.file_id)).scalar_one())
    assert origins[0] == origins[1]
