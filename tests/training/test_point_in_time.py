"""A future planted in each source that training reads leaves its rows as they were, or is named and stops it."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from feature_repo import build, names, schema
from feature_repo import store as feature_store
from tests.training import histories
from tests.training.histories import RATES, UNTIL, Law
from training import dataset as datasets
from training import point_in_time
from training.dataset import PLANNING_DAYS, assemble
from training.point_in_time import FutureLeakError
from turnout.warehouse import tables as wh
from turnout.warehouse.partitions import ensure_months

LAW = Law(days=200)
ABSURD = 90_000
PROVENANCE = {
    "account_time_zone": "Asia/Tokyo", "fetched_at": datetime(2026, 11, 20, tzinfo=UTC), "run_id": uuid.UUID(int=9),
}  # fmt: skip
MONEY = {"currency": "JPY", "base_currency": "JPY", "fx_rate": 1, "fx_date": date(2026, 1, 1)}


class World:
    """A history in the warehouse, and ways to write into its future."""

    def __init__(self, settings, engine) -> None:
        self.settings, self.engine = settings, engine
        self.events = histories.records(30, LAW)
        histories.store(engine, settings, self.events)
        self._line = 10_000

    def insert(self, table: sa.Table, **values) -> None:
        self._line += 1
        given = PROVENANCE | MONEY | {"organisation": self.settings.organisation, "account": "late", "line": self._line}
        row = {name: value for name, value in given.items() if name in table.c} | values
        with self.engine.begin() as connection:
            if table in wh.FACT_TABLES:
                ensure_months(connection, table, row["date"], row["date"])
            connection.execute(table.insert().values(row))

    def change(self, table: sa.Table, event_id: str, **values) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.update(table).where(table.c.event_id == event_id).values(values))

    def rows(self) -> pd.DataFrame:
        """Rows, labels and features as the nightly run would read them."""
        self.refresh()
        return self.read()

    def refresh(self, **options) -> None:
        build.refresh(self.settings, UNTIL, UNTIL - timedelta(days=230), **options)
        feature_store.apply(self.settings)

    def read(self, until: date = UNTIL) -> pd.DataFrame:
        return datasets.build(self.settings, until, engine=self.engine).rows

    def event_of(self, tactic: str, at: int = -1) -> dict:
        return [e for e in self.events if tactic in e["tactics"]][at]


@pytest.fixture
def world(settings, engine, redis_url) -> World:
    return World(settings, engine)


def campaign(world: World, event: dict, tactic: str, first: date, days: int, *, spend: float, name: str = "c") -> None:
    """Daily rows of a campaign, with a sign of life ten days before the event."""
    world.insert(
        wh.campaign, source="meta_ads", campaign_id=f"{name}-{event['event_id']}", name=name, tactic_id=tactic,
        event_id=event["event_id"],
    )  # fmt: skip
    for n in range(days):
        day = first + timedelta(days=n)
        world.insert(
            wh.ad_performance, source="meta_ads", date=day, period_end=day,
            campaign_id=f"{name}-{event['event_id']}", campaign_name=name, impressions=1000 * spend, clicks=10 * spend,
            spend=spend, spend_base=spend,
        )  # fmt: skip


def after_the_event(world: World) -> date:
    event = world.event_of("meta_ads", 5)
    day = event["event_date"] + timedelta(days=3)
    world.insert(
        wh.registration, source="registrations", account=event["event_id"], date=day, event_id=event["event_id"],
        quantity=ABSURD, status="confirmed", source_label="meta", tactic_id="meta_ads", attended=True,
    )  # fmt: skip
    return day


def without_origin_after_the_event(world: World) -> date:
    event = world.events[7]
    world.insert(
        wh.registration, source="registrations", account=event["event_id"], date=date(2062, 1, 1),
        event_id=event["event_id"], quantity=ABSURD, status="confirmed", source_label="direct",
    )  # fmt: skip
    return date(2062, 1, 1)


def a_campaign_left_running(world: World) -> date:
    event = world.event_of("meta_ads", 4)
    day = event["event_date"] + timedelta(days=1)
    campaign(world, event, "meta_ads", day, 3, spend=ABSURD, name="left")
    return day


def an_event_to_come(world: World) -> date:
    event = dict(world.events[-1], name="to come", event_id="evt_to_come", event_date=UNTIL + timedelta(days=2))
    event["tactics"] = {t: dict(r, registrations=ABSURD) for t, r in event["tactics"].items()}
    event |= {"organic": ABSURD, "registrations": ABSURD * 4, "attendees": 0}
    late = dict(event, event_date=UNTIL)
    late |= {"name": "today", "event_id": "evt_today"}
    for one in (event, late):
        world.insert(
            wh.event, source="spreadsheet", event_id=one["event_id"], name=one["name"], event_date=one["event_date"],
            time_zone="Asia/Tokyo", category=one["segment_id"], format="online", actual_registrations=ABSURD,
            actual_attendees=ABSURD, target_registrations=1,
        )  # fmt: skip
        for tactic in one["tactics"]:
            world.insert(
                wh.tactic_result, source="spreadsheet", result_id=f"{one['event_id']}-{tactic}",
                event_id=one["event_id"], event_name=one["name"], tactic_id=tactic, tactic_name=tactic, cost=1,
                cost_base=1, registrations=ABSURD,
            )  # fmt: skip
        world.insert(
            wh.outcome, event_id=one["event_id"], registrations=ABSURD, attendees=ABSURD, tactic_id="", currency="JPY"
        )
        world.insert(
            wh.attendance, source="registrations", event_id=one["event_id"], registered=ABSURD, attended=ABSURD
        )
    campaign(world, event, "meta_ads", UNTIL, 3, spend=ABSURD, name="future")
    return UNTIL


def mail_after_the_event(world: World) -> date:
    event = world.event_of("own_email", 3)
    day = event["event_date"] + timedelta(days=2)
    world.insert(
        wh.email_performance, source="sendgrid", date=day, category="thanks", event_id=event["event_id"],
        tactic_id="own_email", delivered=ABSURD, unique_clicks=ABSURD,
    )  # fmt: skip
    return day


def a_test_that_runs_on(world: World) -> date:
    world.insert(
        wh.lift_test, test_id="lift_future", name="future", tactic_id="meta_ads", split="list",
        first_date=UNTIL - timedelta(days=9), last_date=UNTIL, treated_units=1000, control_units=1000,
        treated_registrations=900, control_registrations=0, spend=1, spend_base=1, change_id=uuid.UUID(int=3),
    )  # fmt: skip
    return UNTIL


def features_of_later_snapshots(world: World) -> None:
    _plant(world, event_days_after=1, written_days_after=1)


def features_written_later(world: World) -> None:
    """The snapshot was there in time, the correction of it was not."""
    _plant(world, event_days_after=0, written_days_after=1)


def _plant(world: World, *, event_days_after: int, written_days_after: int) -> None:
    """Rows in every feature table for every key that training joins, just after each row's planning day."""
    rows = world.read()
    with world.engine.begin() as connection:
        for view, keys in names.KEYS_BY_VIEW.items():
            table = schema.metadata.tables[f"features.{view}"]
            planted = {}
            for row in rows.to_dict("records"):
                row |= {
                    names.ORGANISATION: world.settings.organisation,
                    names.TARGET_WEEK: names.target_week(row["event_date"].date()),
                }
                planned = row["as_of"].date()
                at = names.snapshot_timestamp(planned + timedelta(days=event_days_after), world.settings.zone)
                if not event_days_after:  # as another version of the newest snapshot there is
                    monday = planned - timedelta(days=planned.weekday())
                    at = names.snapshot_timestamp(monday, world.settings.zone)
                written = names.snapshot_timestamp(planned + timedelta(days=written_days_after), world.settings.zone)
                key = {name: row[name] for name in keys}
                planted[(*key.values(), at)] = key | {
                    names.EVENT_TIMESTAMP: at, names.CREATED_TIMESTAMP: written,
                    **dict.fromkeys(names.FEATURES_BY_VIEW[view], float(ABSURD)),
                }  # fmt: skip
            # where one row's future is another row's past it would be known to that one: keep the newest rows' only
            newest = max(row[names.CREATED_TIMESTAMP] for row in planted.values())
            connection.execute(
                sa.insert(table), [row for row in planted.values() if row[names.CREATED_TIMESTAMP] == newest]
            )


SOURCES = [
    after_the_event, without_origin_after_the_event, a_campaign_left_running, mail_after_the_event, an_event_to_come,
    a_test_that_runs_on,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("plant", SOURCES, ids=lambda plant: plant.__name__)
def test_what_is_dated_later_changes_neither_labels_nor_features(world, plant):
    event = world.event_of("meta_ads", 4)
    campaign(world, event, "meta_ads", event["event_date"] - timedelta(days=10), 5, spend=900)
    before = world.rows()
    whole = datasets.build(world.settings, UNTIL, engine=world.engine)

    day = plant(world)
    world.refresh(rebuild=True)  # the past computed anew, with the future in the warehouse

    after = datasets.build(world.settings, UNTIL, engine=world.engine)
    labels = ["event_id", "tactic_id", "x", "y", "weight", "baseline", "run_days"]
    pd.testing.assert_frame_equal(before[labels], after.rows[labels])
    # of plans made later than what was planted, clicks and arrivals of past days are features
    planned = before["as_of"] <= pd.Timestamp(day)
    assert planned.sum() >= 15
    pd.testing.assert_frame_equal(before[planned], after.rows[planned])
    pd.testing.assert_frame_equal(whole.history.events, after.history.events)
    pd.testing.assert_frame_equal(whole.history.daily, after.history.daily)
    assert after.lifts.empty
    assert (after.rows[["x", "y"]].to_numpy() < ABSURD * 10).all()


@pytest.mark.slow
@pytest.mark.parametrize("plant", [features_of_later_snapshots, features_written_later], ids=lambda p: p.__name__)
def test_features_of_the_future_are_not_joined(world, plant):
    before = world.rows()
    plant(world)
    pd.testing.assert_frame_equal(before, world.read())
    assert not (before[list(names.RESPONSE_FEATURES)] == ABSURD).to_numpy().any()


@pytest.mark.slow
def test_without_the_guards_each_plant_would_be_seen(world, monkeypatch):
    """The plants above are no paper tigers: each moves something where nothing holds it back."""
    event = world.event_of("meta_ads", 5)
    before = world.rows().set_index(["event_id", "tactic_id"])
    monkeypatch.setattr(point_in_time, "without_late", lambda events, tactics, late: (events, tactics))
    monkeypatch.setattr(point_in_time, "check_rows", lambda dataset: None)
    after_the_event(world)
    seen = world.read().set_index(["event_id", "tactic_id"])
    key = event["event_id"], "meta_ads"
    assert seen.loc[key, "y"] >= before.loc[key, "y"] + ABSURD


# --- corrections ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_figures_corrected_later_are_labels_at_once_and_never_features_of_the_past(world):
    event = world.events[4]
    before = world.rows()
    world.change(wh.event, event["event_id"], actual_registrations=ABSURD)
    with world.engine.begin() as connection:
        connection.execute(
            sa.update(wh.registration).where(wh.registration.c.event_id == event["event_id"]).values(quantity=700)
        )
    after = world.rows()

    features = list(names.RESPONSE_FEATURES)
    pd.testing.assert_frame_equal(before[features], after[features])
    mine = before["event_id"] == event["event_id"]
    assert (after.loc[mine, "y"] >= before.loc[mine, "y"]).all()
    assert after.loc[mine, "y"].sum() > 2 * before.loc[mine, "y"].sum()
    pd.testing.assert_series_equal(before.loc[~mine, "y"], after.loc[~mine, "y"])

    world.refresh(rebuild=True)  # a faulty import that was mended
    assert not world.read()[features].equals(before[features])


@pytest.mark.slow
def test_history_that_is_loaded_later_is_history(world):
    before = world.rows()
    older = histories.records(1, Law(days=195), seed=5, organisation="added")
    older[0]["event_date"] = UNTIL - timedelta(days=190)
    histories.store(world.engine, world.settings, older)
    after = world.rows()
    known = after["event_id"].isin(before["event_id"])
    assert after.loc[known, "tactic_events_total"].sum() > before["tactic_events_total"].sum()


@pytest.mark.slow
def test_a_snapshot_corrected_underneath_is_kept_and_the_log_says_so(world):
    world.refresh()
    world.change(wh.tactic_result, world.events[2]["event_id"], staff_hours=999)
    with capture_logs() as logs:
        world.refresh()
    [kept] = [entry for entry in logs if entry["event"] == "features_kept"]
    assert kept["snapshots"] > 0


# --- the guard --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_join_that_leaks_stops_training_and_names_the_row(world, monkeypatch):
    world.rows()
    honest = feature_store._point_in_time

    def tomorrow(settings, keys, service):
        later = keys.assign(event_timestamp=keys["event_timestamp"] + timedelta(days=28))
        answer = honest(settings, later, service)
        moved = pd.to_datetime(answer["event_timestamp"], utc=True) - timedelta(days=28)
        return answer.assign(event_timestamp=moved)

    monkeypatch.setattr(feature_store, "_point_in_time", tomorrow)
    with pytest.raises(FutureLeakError, match=r"tactic_\w*stats organisation=default, .* a plan of 2026-.* was given"):
        world.read()


@pytest.mark.slow
def test_a_join_that_lets_corrections_in_stops_training_and_names_when_they_were_written(world, monkeypatch):
    before = world.rows()
    features_written_later(world)
    honest = feature_store._make_store

    def forgetful(settings, *, create):
        store = honest(settings, create=create)
        ask = store.get_historical_features
        store.get_historical_features = lambda **options: ask(**options | {"filter_by_created_timestamp": False})
        return store

    feature_store._opened.cache_clear()
    monkeypatch.setattr(feature_store, "_make_store", forgetful)
    try:
        with pytest.raises(FutureLeakError, match=r"= 90000 of the row dated .*, written 2026-"):
            world.read()
    finally:
        feature_store._opened.cache_clear()
    assert len(before)


def test_a_forecast_of_the_future_is_found_by_the_guard(world):
    world.refresh()
    stamp = names.snapshot_timestamp(UNTIL, world.settings.zone)
    key = {"organisation": "default", "segment_id": "ai_data", "target_week": names.target_week(UNTIL)}
    frame = pd.DataFrame([
        key | {names.EVENT_TIMESTAMP: stamp, **dict.fromkeys(names.DEMAND_FEATURES, 1.7)}
    ])  # fmt: skip
    for name in names.SEGMENT_FEATURES:
        frame[name] = np.nan
    with pytest.raises(FutureLeakError, match=r"segment_stats|demand_forecast"):
        point_in_time.check(world.settings, frame, names.DEMAND_SERVICE)


def test_dates_that_cannot_be_are_named():
    whole = assemble(histories.history(histories.records(12)), RATES)
    point_in_time.check_rows(whole)
    day = whole.history.events["event_date"].iloc[6].date()
    event = whole.history.events.index[6]
    with pytest.raises(FutureLeakError, match=f"event {event} is dated {day}, not before {day}"):
        point_in_time.check_rows(replace(whole, history=replace(whole.history, until=day)))
    with pytest.raises(FutureLeakError, match="counts as planned on"):
        point_in_time.check_rows(replace(whole, rows=whole.rows.assign(as_of=whole.rows["event_date"])))
    daily = whole.history.daily.assign(days_before=whole.history.daily["days_before"] - 30)
    with pytest.raises(FutureLeakError, match="days after its event"):
        point_in_time.check_rows(replace(whole, history=replace(whole.history, daily=daily)))
    assert PLANNING_DAYS > 0


def test_an_event_whose_registrations_all_come_after_it_has_no_known_outcome():
    events = pd.DataFrame({
        "event_id": ["a", "b"], "registrations": [10, 20], "organic_registrations": [4, 5], "attendees": [5, 10],
        "show_up_rate": [0.5, 0.5], "registrations_basis": ["registration_system", "organiser"],
    }).set_index("event_id")  # fmt: skip
    tactics = pd.DataFrame({
        "event_id": ["a", "b"], "tactic_id": ["partner", "partner"], "registrations": [6, 15],
        "registrations_basis": ["registration_system", "tactic_result"],
    })  # fmt: skip
    late = pd.DataFrame({
        "event_id": ["a", "a", "b"], "tactic_id": ["partner", None, None], "registrations": [6.0, 4.0, 20.0],
        "attended": [3.0, 2.0, 0.0], "attendance_known": [6.0, 4.0, 0.0], "first_date": date(2026, 1, 5),
        "last_date": date(2026, 1, 9),
    })  # fmt: skip
    found, rows = point_in_time.without_late(events, tactics, late)
    assert found.loc["a", ["registrations", "attendees", "show_up_rate"]].isna().all()
    assert found.loc["b", "registrations"] == 20  # the organiser's own figure has no days
    assert rows["event_id"].tolist() == ["b"]
