"""One figure per event and tactic, wherever it was reported, never twice."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from turnout.warehouse import tables as wh
from turnout.warehouse.partitions import ensure_months
from turnout.warehouse.views import VIEWS, create_views

DAY = date(2026, 6, 15)
FETCHED = datetime(2026, 6, 30, tzinfo=UTC)


class World:
    """Writes rows as sources would, with defaults for what a test does not care about."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.lines = 0

    def _insert(self, table: sa.Table, **values: Any) -> None:
        provenance = {
            "organisation": "org", "source": "spreadsheet", "account": "", "account_time_zone": "Asia/Tokyo",
            "fetched_at": FETCHED, "run_id": uuid.UUID(int=1),
        }  # fmt: skip
        row = {name: value for name, value in provenance.items() if name in table.c} | values
        with self.engine.begin() as connection:
            if table in wh.FACT_TABLES:
                self.lines += 1
                row = {"line": self.lines} | row
                ensure_months(connection, table, row["date"], row["date"])
            connection.execute(table.insert().values(row))

    def event(self, event_id: str = "e1", **values: Any) -> None:
        row = {
            "event_id": event_id, "name": event_id, "event_date": DAY, "time_zone": "Asia/Tokyo", "category": "ai_data",
            "format": "online", "currency": "JPY", "base_currency": "JPY",
        }  # fmt: skip
        self._insert(wh.event, **(row | values))

    def campaign(self, campaign_id: str = "c1", tactic_id: str | None = "meta_ads", **values: Any) -> None:
        row = {"source": "meta_ads", "campaign_id": campaign_id, "name": campaign_id, "event_id": "e1"}
        self._insert(wh.campaign, **(row | {"tactic_id": tactic_id} | values))

    def ad(self, day: date, spend: float | None, *, campaign_id: str = "c1", **values: Any) -> None:
        row = {
            "source": "meta_ads", "date": day, "period_end": day, "campaign_id": campaign_id,
            "campaign_name": campaign_id, "currency": "JPY", "base_currency": "JPY", "fx_rate": 1, "fx_date": DAY,
            "spend": spend, "spend_base": spend, "impressions": 1000, "clicks": 20,
        }  # fmt: skip
        self._insert(wh.ad_performance, **(row | values))

    def mail(self, day: date, delivered: int, *, category: str, event_id: str | None = "e1", **values: Any) -> None:
        row = {
            "source": "sendgrid", "date": day, "category": category, "event_id": event_id, "tactic_id": "own_email",
            "delivered": delivered, "unique_clicks": delivered // 50,
        }  # fmt: skip
        self._insert(wh.email_performance, **(row | values))

    def registered(self, quantity: int, tactic_id: str | None = None, label: str | None = None, **values: Any) -> None:
        row = {
            "source": "registrations", "date": DAY - timedelta(days=3), "event_id": "e1", "quantity": quantity,
            "status": "confirmed", "tactic_id": tactic_id, "source_label": label or tactic_id,
        }  # fmt: skip
        self._insert(wh.registration, **(row | values))

    def result(self, tactic_id: str, registrations: float | None, cost: float | None = None, **values: Any) -> None:
        row = {
            "result_id": uuid.uuid4().hex, "event_id": "e1", "event_name": "e1", "tactic_id": tactic_id,
            "tactic_name": tactic_id, "registrations": registrations, "cost": cost, "currency": "JPY",
            "cost_base": cost, "base_currency": "JPY", "fx_rate": 1, "fx_date": DAY,
        }  # fmt: skip
        self._insert(wh.tactic_result, **(row | values))

    def outcome(self, tactic_id: str = "", **values: Any) -> None:
        self._insert(wh.outcome, **({"event_id": "e1", "tactic_id": tactic_id} | values))

    def attendance(self, registered: int, attended: int, source: str = "registrations") -> None:
        self._insert(wh.attendance, event_id="e1", registered=registered, attended=attended, source=source)

    def view(self, name: str) -> pd.DataFrame:
        with self.engine.connect() as connection:
            frame = pd.read_sql(sa.text(f"SELECT * FROM turnout.{name}"), connection)
        for column in frame.columns:
            if frame[column].map(lambda v: isinstance(v, Decimal)).any():
                frame[column] = frame[column].astype(float)
        return frame

    def tactics(self) -> pd.DataFrame:
        return self.view("event_tactic").set_index("tactic_id").sort_index()

    def summary(self) -> pd.Series:
        return self.view("event_summary").iloc[0]


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


# --- spend ------------------------------------------------------------------------------------------------------------


def test_daily_rows_win_over_the_period_report_and_the_sheets_cost(world):
    world.event()
    world.campaign()
    world.ad(DAY - timedelta(days=5), 3000)
    world.ad(DAY - timedelta(days=4), 4000)
    world.ad(DAY - timedelta(days=10), 99_000, period_end=DAY)
    world.result("meta_ads", 5, cost=50_000, staff_hours=2.5)
    row = world.tactics().loc["meta_ads"]
    assert (row.spend_base, row.spend_basis, row.reach, row.clicks) == (7000, "platform_daily", 2000, 40)
    assert row.staff_hours == 2.5
    assert row.first_date == DAY - timedelta(days=5)


@pytest.mark.parametrize(("by_period", "by_day"), [("cmp_1", "777"), ("777", "cmp_1")])
def test_a_report_without_ids_names_the_same_campaign_as_one_with_ids(world, by_period, by_day):
    world.event()
    world.campaign(by_period)
    world.campaign(by_day)
    world.ad(DAY - timedelta(days=5), 400, campaign_id=by_day, campaign_name="Spring")
    world.ad(DAY - timedelta(days=10), 99_000, campaign_id=by_period, campaign_name="Spring", period_end=DAY)
    assert world.tactics().loc["meta_ads"].spend_base == 400


def test_two_periods_of_one_name_count_once_where_one_report_states_no_ids(world):
    world.event()
    for campaign in ("cmp_1", "777"):
        world.campaign(campaign)
        world.ad(DAY - timedelta(days=10), 500, campaign_id=campaign, campaign_name="Spring", period_end=DAY)
    assert world.tactics().loc["meta_ads"].spend_base == 500
    assert world.view("ad_counted").campaign_id.tolist() == ["777"]


def test_two_campaigns_of_one_name_with_ids_of_their_own_both_count(world):
    world.event()
    world.campaign("777")
    world.campaign("778")
    world.ad(DAY - timedelta(days=5), 400, campaign_id="777", campaign_name="Spring")
    world.ad(DAY - timedelta(days=10), 600, campaign_id="778", campaign_name="Spring", period_end=DAY)
    assert sorted(world.view("ad_counted").campaign_id) == ["777", "778"]


def test_a_period_report_counts_where_there_are_no_days(world):
    world.event()
    world.campaign()
    world.ad(DAY - timedelta(days=40), 500)  # outside the period: both count
    world.ad(DAY - timedelta(days=10), 60_000, period_end=DAY, ad_name="one")
    world.ad(DAY - timedelta(days=10), 30_000, period_end=DAY, ad_name="two")
    assert world.tactics().loc["meta_ads"].spend_base == 90_500


def test_the_sheets_cost_counts_where_the_platform_is_silent(world):
    world.event()
    world.result("partner", 5, cost=50_000)
    world.campaign()
    world.ad(DAY, None)
    world.result("meta_ads", 2, cost=8_000)
    tactics = world.tactics()
    assert (tactics.loc["partner"].spend_base, tactics.loc["partner"].spend_basis) == (50_000, "tactic_result")
    assert (tactics.loc["meta_ads"].spend_base, tactics.loc["meta_ads"].spend_basis) == (8_000, "tactic_result")


def test_only_a_period_report_is_a_period_figure(world):
    world.event()
    world.campaign()
    world.ad(DAY - timedelta(days=10), 60_000, period_end=DAY)
    assert world.tactics().loc["meta_ads"].spend_basis == "platform_period"


def test_of_overlapping_reports_the_longest_counts_and_of_equal_ones_the_newest(world):
    world.event()
    world.campaign()
    world.ad(DAY - timedelta(days=30), 1000, period_end=DAY)
    world.ad(DAY - timedelta(days=10), 400, period_end=DAY)
    assert world.tactics().loc["meta_ads"].spend_base == 1000

    world.event("e2")
    world.campaign("c2", event_id="e2")
    world.ad(DAY - timedelta(days=10), 111, campaign_id="c2", period_end=DAY)
    later = FETCHED + timedelta(days=1)
    world.ad(DAY - timedelta(days=9), 222, campaign_id="c2", period_end=DAY + timedelta(days=1), fetched_at=later)
    assert world.view("event_tactic").set_index("event_id").loc["e2"].spend_base == 222


def test_campaigns_of_one_name_in_two_accounts_are_two(world):
    world.event()
    for account in ("a", "b"):
        world.campaign(account=account)
        world.ad(DAY, 1000, account=account)
    assert world.tactics().loc["meta_ads"].spend_base == 2000


def test_an_unmapped_campaign_counts_for_no_event(world):
    world.event()
    world.campaign(tactic_id=None)
    world.ad(DAY, 1000)
    world.ad(DAY, 1000, campaign_id="never_seen")
    assert world.tactics().empty
    assert len(world.view("ad_counted")) == 2


# --- registrations ----------------------------------------------------------------------------------------------------


def test_the_registration_system_wins_over_sheet_and_claim(world):
    world.event()
    world.campaign()
    world.ad(DAY, 1000, registrations=40)
    world.result("own_email", 70)
    world.registered(8, "meta_ads")
    world.registered(30, "own_email")
    world.registered(20, None, label="direct")
    tactics = world.tactics()
    assert dict(tactics.registrations) == {"meta_ads": 8, "own_email": 30}
    assert set(tactics.registrations_basis) == {"registration_system"}
    assert tactics.loc["meta_ads"].registrations_claimed == 40
    summary = world.summary()
    assert (summary.registrations, summary.attributed_registrations, summary.organic_registrations) == (58, 38, 20)


def test_a_tactic_that_nobody_names_brought_none(world):
    world.event()
    world.campaign()
    world.ad(DAY, 1000, registrations=12)
    world.registered(30, "own_email")
    row = world.tactics().loc["meta_ads"]
    assert (row.registrations, row.registrations_basis, row.registrations_claimed) == (0, "registration_system", 12)


def test_where_hardly_any_origin_is_known_sheet_and_claims_speak_but_not_past_the_count(world):
    world.event()
    world.campaign()
    world.registered(90)
    world.registered(10, "speaker_share")
    world.ad(DAY, 1000, registrations=60)
    world.result("own_email", 70)
    tactics = world.tactics()
    assert tactics.loc["speaker_share"].registrations == 10
    assert (tactics.loc["own_email"].registrations, tactics.loc["own_email"].registrations_basis) == (
        70, "tactic_result",
    )  # fmt: skip
    assert tactics.loc["meta_ads"].registrations_basis == "claimed"
    assert tactics.loc["meta_ads"].registrations == pytest.approx(20)  # what is left of 100
    assert tactics.registrations.sum() == pytest.approx(100)
    assert tactics.loc["meta_ads"].registrations_claimed == 60


def test_claims_alone_are_scaled_to_the_organisers_count(world):
    world.event(actual_registrations=50)
    for campaign, tactic, claim in (("c1", "meta_ads", 60), ("c2", "google_search", 40)):
        world.campaign(campaign, tactic)
        world.ad(DAY, 1000, campaign_id=campaign, registrations=claim)
    tactics = world.tactics()
    assert tactics.loc["meta_ads"].registrations == pytest.approx(30)
    assert tactics.loc["google_search"].registrations == pytest.approx(20)


def test_a_sheet_that_counts_people_twice_is_scaled_too_and_claims_get_nothing(world):
    world.event(actual_registrations=50)
    world.campaign()
    world.ad(DAY, 1000, registrations=10)
    world.result("own_email", 60)
    world.result("partner", 40)
    tactics = world.tactics()
    assert tactics.loc["own_email"].registrations == pytest.approx(30)
    assert tactics.loc["partner"].registrations == pytest.approx(20)
    assert tactics.loc["meta_ads"].registrations == 0


def test_without_any_count_claims_stay_as_they_are(world):
    world.event()
    world.campaign()
    world.ad(DAY, 1000, registrations=60)
    row = world.tactics().loc["meta_ads"]
    assert (row.registrations, row.registrations_basis) == (60, "claimed")
    assert pd.isna(world.summary().registrations)


def test_a_claim_is_registrations_else_leads_else_conversions(world):
    world.event()
    for campaign, figures in (
        ("c1", {"registrations": 3, "leads": 9, "conversions": 20}),
        ("c2", {"leads": 5, "conversions": 20}),
        ("c3", {"leads": 0, "conversions": 7}),
    ):
        world.campaign(campaign)
        world.ad(DAY, 1, campaign_id=campaign, **figures)
    assert world.tactics().loc["meta_ads"].registrations_claimed == 3 + 5 + 7


def test_cancelled_and_waiting_people_do_not_count(world):
    world.event()
    world.registered(10, "own_email")
    world.registered(4, "own_email", status="cancelled")
    world.registered(2, "own_email", status="waitlist")
    assert world.tactics().loc["own_email"].registrations == 10
    assert world.summary().registrations == 10


def test_rows_of_one_tactic_for_different_audiences_add_up(world):
    world.event()
    world.result("own_email", 10, cost=100, theme="a", reach=1000, clicks=20)
    world.result("own_email", 5, cost=50, theme="b", reach=500, clicks=10)
    row = world.tactics().loc["own_email"]
    assert (row.registrations, row.spend_base, row.reach, row.clicks) == (15, 150, 1500, 30)


def test_unknown_stays_unknown(world):
    world.event()
    world.result("own_email", 10, cost=100, theme="a", reach=1000)
    world.result("own_email", None, cost=None, theme="b", reach=500)
    row = world.tactics().loc["own_email"]
    assert pd.isna(row.registrations)
    assert pd.isna(row.registrations_basis)
    assert pd.isna(row.spend_base)
    assert pd.isna(row.staff_hours)
    assert pd.isna(row.clicks)
    assert row.reach == 1500


def test_outcomes_reported_through_the_api_stand_in_for_a_sheet(world):
    world.event(currency="USD", fx_rate=150)
    world.outcome("partner", registrations=12, spend=20, currency="USD")
    world.outcome(registrations=40, attendees=30)
    row = world.tactics().loc["partner"]
    assert (row.registrations, row.registrations_basis, row.spend_base, row.spend_basis) == (
        12, "outcome", 3000, "outcome",
    )  # fmt: skip
    summary = world.summary()
    assert (summary.registrations, summary.registrations_basis, summary.organic_registrations) == (40, "outcome", 28)
    assert summary.show_up_rate == pytest.approx(0.75)


def test_organisations_do_not_mix(world):
    world.event()
    world.registered(5, "own_email")
    world.event("e9", organisation="other")
    world.registered(7, "own_email", event_id="e9", organisation="other")
    world.registered(100, "own_email", event_id="e1", organisation="other")  # somebody else's event: nobody's
    tactics = world.view("event_tactic").set_index("organisation")
    assert dict(tactics.registrations) == {"org": 5, "other": 7}


# --- mail -------------------------------------------------------------------------------------------------------------


def test_overlapping_mail_categories_count_once(world):
    world.event()
    for day in (DAY - timedelta(days=9), DAY - timedelta(days=2)):
        world.mail(day, 5000, category="event-1")
        world.mail(day, 3000, category="event-1-managers")
    row = world.tactics().loc["own_email"]
    assert (row.reach, row.clicks) == (10_000, 200)
    daily = world.view("tactic_daily").set_index("date")
    assert list(daily.reach) == [5000, 5000]
    assert set(daily.segment_id) == {"ai_data"}


def test_mail_of_no_event_is_daily_data_only(world):
    world.mail(DAY, 900, category="newsletter", event_id=None)
    assert world.tactics().empty
    daily = world.view("tactic_daily").iloc[0]
    assert (daily.reach, daily.segment_id) == (900, None)


def test_reach_and_clicks_come_from_one_system(world):
    world.event()
    world.mail(DAY, 1000, category="x", unique_clicks=None)
    world.result("own_email", 3, reach=1200, clicks=77)
    row = world.tactics().loc["own_email"]
    assert row.reach == 1000
    assert pd.isna(row.clicks)


# --- whole events -----------------------------------------------------------------------------------------------------


def test_attendance_by_person_wins_over_lists_and_over_what_was_written_down(world):
    world.event(actual_registrations=99, actual_attendees=98, price=1000)
    world.attendance(50, 10)
    world.registered(30, "own_email", attended=True)
    world.registered(10, "own_email", attended=False)
    world.registered(60, "own_email")
    summary = world.summary()
    assert (summary.registrations, summary.registrations_basis) == (100, "registration_system")
    assert (summary.attendees, summary.show_up_rate) == (30, 0.75)
    assert summary.price_base == 1000


def test_lists_overlap_and_walk_ins_make_no_rate_above_one(world):
    world.event(actual_registrations=99, actual_attendees=98)
    world.attendance(50, 55, source="door")
    world.attendance(40, 20, source="survey")
    summary = world.summary()
    assert (summary.registrations, summary.attendees, summary.show_up_rate) == (50, 55, 1)


def test_an_event_of_which_nothing_is_known_has_no_figures(world):
    world.event()
    summary = world.summary()
    for column in ("registrations", "attributed_registrations", "organic_registrations", "attendees", "show_up_rate"):
        assert pd.isna(summary[column]), column


def test_attendance_unknown_is_not_zero(world):
    world.event()
    world.registered(10, "own_email")
    assert pd.isna(world.summary().show_up_rate)
    assert pd.isna(world.summary().attendees)


def test_all_direct_registrations_are_organic(world):
    world.event()
    world.registered(10, None, label="direct")
    summary = world.summary()
    assert (summary.attributed_registrations, summary.organic_registrations) == (0, 10)


def test_prices_are_converted(world):
    world.event(currency="USD", price=20, fx_rate=150)
    world.event("e2", currency="USD", price=0)
    prices = world.view("event_summary").set_index("event_id").price_base
    assert dict(prices) == {"e1": 3000, "e2": 0}


# --- daily demand -----------------------------------------------------------------------------------------------------


def test_days_without_registrations_are_zeros(world):
    world.event()
    world.event("e2", category="marketing")
    world.registered(3, date=DAY - timedelta(days=5))
    world.registered(2, date=DAY - timedelta(days=5))
    world.registered(1, date=DAY - timedelta(days=2))
    world.registered(4, date=DAY - timedelta(days=1), event_id="e2")
    world.registered(9, date=DAY, status="cancelled")
    daily = world.view("segment_daily").sort_values(["segment_id", "date"])
    assert list(daily[daily.segment_id == "ai_data"].registrations) == [5, 0, 0, 1, 0]
    assert list(daily[daily.segment_id == "marketing"].registrations) == [4]


# --- the views themselves ---------------------------------------------------------------------------------------------


def test_views_are_left_alone_while_they_are_right_and_remade_when_not(engine):
    with engine.begin() as connection:
        assert create_views(connection) is False
        connection.execute(sa.text("DROP VIEW turnout.segment_daily"))
        assert create_views(connection) is True
        assert create_views(connection) is False
        connection.execute(sa.text("COMMENT ON VIEW turnout.ad_counted IS 'an older version'"))
        assert create_views(connection) is True
        for name in VIEWS:
            connection.execute(sa.text(f"SELECT * FROM turnout.{name} LIMIT 0"))


def test_views_run_with_the_rights_of_whoever_asks(engine):
    with engine.connect() as connection:
        options = connection.execute(
            sa.text(
                "SELECT relname, reloptions FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
                " WHERE nspname = 'turnout' AND relkind = 'v'"
            )
        ).all()
    assert dict(tuple(row) for row in options) == {name: ["security_invoker=true"] for name in VIEWS}
