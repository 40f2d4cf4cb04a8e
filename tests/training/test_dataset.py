"""Rows as they could be known, and what becomes of dirty ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from feature_repo import names, schema
from feature_repo import store as feature_store
from tests.training import histories
from tests.training.histories import RATES, UNTIL
from training import dataset as datasets
from training.dataset import PLANNING_DAYS, assemble, load_history
from turnout.warehouse import tables


def assembled(events, **changes):
    return assemble(histories.history(events, **changes), RATES)


def test_a_row_holds_what_was_spent_and_what_came():
    [event] = histories.records(1)
    event["tactics"] = {"meta_ads": {"spend_base": 250_000, "staff_hours": None, "registrations": 31}}
    rows = assembled([event]).rows
    assert rows[["tactic_id", "x", "y", "weight", "channel", "is_paid"]].values.tolist() == [
        ["meta_ads", 250_000.0, 31.0, 1.0, "paid_social", 1.0]
    ]
    assert (rows["event_date"] - rows["as_of"]).dt.days.tolist() == [PLANNING_DAYS]


def test_only_tactics_that_were_used_make_rows():
    [event] = histories.records(1)
    used = {"staff_hours": None, "registrations": 3}
    event["tactics"] = {
        "meta_ads": {"spend_base": 0.0, "staff_hours": None, "registrations": 4},
        "google_search": {"spend_base": None, "staff_hours": 5.0, "registrations": 4},
        "own_email": {"spend_base": None, "staff_hours": 0.0, "registrations": 0},
        "partner": {"spend_base": None, **used},
        "no_such_tactic": {"spend_base": 10.0, **used},
        "peatix": {"spend_base": None, "staff_hours": 0.0, "registrations": 6},
    }
    rows = assembled([event]).rows.set_index("tactic_id")
    assert sorted(rows.index) == ["peatix"]
    assert (rows["x"] > 0).all()


def test_people_who_name_a_tactic_nobody_wrote_down_came_by_themselves():
    [event] = histories.records(1)
    strays = {"spend_base": None, "staff_hours": None, "registrations": 3}
    kept = {"spend_base": None, "staff_hours": 5.0, "registrations": 20}
    event |= {"tactics": {"partner": strays, "own_email": kept}, "organic": 10, "registrations": 33}
    found = assembled([event])
    assert list(found.rows["tactic_id"]) == ["own_email"]
    assert found.history.events["organic_registrations"].tolist() == [13]
    # where nothing at all is written down, the labels are all there is
    event["tactics"] = {"partner": strays, "own_email": kept | {"staff_hours": None}}
    assert sorted(assembled([event]).rows["tactic_id"]) == ["own_email", "partner"]


def test_a_label_of_lower_standing_weighs_less():
    history = histories.history(histories.records(3))
    claimed = replace(history, tactics=history.tactics.assign(registrations_basis="claimed"))
    assert (assemble(claimed, RATES).rows["weight"] == 0.4).all()


def test_the_fingerprint_follows_the_data_and_nothing_else():
    events = histories.records(12)
    one = assembled(events)
    assert one.fingerprint == assembled(events).fingerprint
    assert one.fingerprint == assembled(events, until=UNTIL + timedelta(days=30)).fingerprint
    events[3]["tactics"]["meta_ads"] = {"spend_base": 1.0, "staff_hours": None, "registrations": 1}
    assert one.fingerprint != assembled(events).fingerprint


def test_an_empty_history_is_a_dataset_without_rows():
    empty = assembled([])
    assert empty.rows.empty
    assert empty.matrix().shape == (0, len(empty.feature_names))
    assert len(empty.fingerprint) == 32


def test_before_a_day_only_earlier_events_are_left():
    whole = assembled(histories.records(30))
    day = whole.history.events["event_date"].iloc[14].date()
    part = whole.before(day)
    assert part.history.events["event_date"].max() < pd.Timestamp(day)
    assert set(part.rows["event_id"]) <= set(part.history.events.index)
    assert set(part.history.daily["event_id"]) <= set(part.history.events.index)
    assert len(part.curves) == len(part.rows)


def test_the_warehouse_gives_the_same_rows_as_the_frames(settings, engine):
    events = histories.records(20)
    histories.store(engine, settings, events)
    read = load_history(settings, UNTIL, engine=engine)
    made = histories.history(events)
    assert read.events.index.tolist() == made.events.index.tolist()
    for name in ("registrations", "organic_registrations", "attendees", "kind", "segment_id"):
        assert read.events[name].tolist() == made.events[name].tolist(), name
    assert read.daily["registrations"].sum() == made.events["registrations"].sum()
    one, other = assemble(read, RATES).rows, assemble(made, RATES).rows
    keys = ["event_id", "tactic_id"]
    one, other = (rows.sort_values(keys).reset_index(drop=True)[[*keys, "x", "y", "baseline"]] for rows in (one, other))
    pd.testing.assert_frame_equal(one, other)


def test_events_of_the_day_and_later_are_not_read(settings, engine):
    events = histories.records(10)
    histories.store(engine, settings, events)
    day = events[6]["event_date"]
    read = load_history(settings, day, engine=engine)
    assert read.events["event_date"].max() < pd.Timestamp(day)
    assert set(read.tactics["event_id"]) <= set(read.events.index)


def test_another_organisation_is_not_read(settings, engine):
    histories.store(engine, settings, histories.records(5))
    other = settings.model_copy(update={"organisation": "somebody else"})
    assert load_history(other, UNTIL, engine=engine).events.empty


@pytest.mark.slow
def test_features_are_those_known_when_the_event_was_planned(settings, engine, redis_url):
    [event] = histories.records(1)
    histories.store(engine, settings, [event])
    feature_store.apply(settings)
    planned = event["event_date"] - timedelta(days=PLANNING_DAYS)
    with engine.begin() as connection:
        schema.create_tables(connection)
        for day, value in ((planned - timedelta(days=3), 0.5), (planned + timedelta(days=1), 99.0)):
            stamp = names.snapshot_timestamp(day, settings.zone)
            rows = [
                {
                    "organisation": "default",
                    "tactic_id": tactic,
                    "event_timestamp": stamp,
                    "created_timestamp": stamp,
                    "tactic_ctr_28d": value,
                }
                for tactic in event["tactics"]
            ]
            connection.execute(sa.insert(schema.tactic_stats), rows)
            week = names.target_week(event["event_date"])
            forecast = pd.DataFrame(
                {
                    "segment_id": [event["segment_id"]], "target_week": [week], "demand_index": [1.1 * value / 0.5],
                    "demand_organic_per_event": [1.0], "demand_trend": [0.0],
                }
            )  # fmt: skip
            schema.replace_demand_forecast(connection, "default", stamp, forecast, "test")
    rows = datasets.build(settings, UNTIL, engine=engine).rows
    assert (rows["tactic_ctr_28d"] == 0.5).all()
    assert rows["demand_index"].tolist() == pytest.approx([1.1] * len(rows))
    assert np.isnan(rows["segment_events_90d"]).all()


def test_a_store_without_features_gives_unknown_ones_and_says_so(settings, engine, monkeypatch):
    from turnout.errors import NotReadyError

    def nothing(*_):
        raise NotReadyError("nothing is registered yet")

    monkeypatch.setattr(feature_store, "historical", nothing)
    histories.store(engine, settings, histories.records(4))
    found = datasets.build(settings, UNTIL, engine=engine)
    assert "no features" in found.notes[0]
    assert (found.rows["demand_index"] == 1.0).all()
    assert np.isnan(found.matrix()[:, -1]).all()


def test_a_sheet_without_hours_counts_as_the_usual_effort(settings, engine):
    events = histories.records(6)
    histories.store(engine, settings, events)
    with engine.begin() as connection:
        connection.execute(sa.update(tables.tactic_result).values(staff_hours=None))
    rows = assemble(load_history(settings, UNTIL, engine=engine), RATES).rows
    assert (rows.loc[rows["is_paid"] == 0, "x"] > 0).all()
    assert isinstance(UNTIL, date)
