"""Rows by week: what came in it, what had come before it, and what was known on its first morning."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from feature_repo import build as features
from feature_repo import names
from feature_repo import store as feature_store
from tests.training import histories
from tests.training.histories import UNTIL, Law
from training import weekly
from training.point_in_time import FutureLeakError


def counted(*weeks: tuple[str, str, int, float, float]) -> pd.DataFrame:
    return pd.DataFrame([
        {
            "event_id": event, "tactic_id": tactic, "segment_id": "ai_data", "event_date": date(2026, 6, 30),
            "weeks_before": week, "spend_base": spend, "reach": np.nan, "clicks": None, "registrations": came,
        }
        for event, tactic, week, spend, came in weeks
    ])  # fmt: skip


def test_weeks_have_no_gaps_and_know_what_came_before_them():
    rows = weekly.spread(counted(("e", "meta_ads", 3, 500.0, 2.0), ("e", "meta_ads", 0, 100.0, 9.0)))
    assert rows["weeks_before"].tolist() == [3, 2, 1, 0]
    assert rows["spend_base"].tolist() == [500, 0, 0, 100]
    assert rows["spend_base_before"].tolist() == [0, 500, 500, 500]
    assert rows["registrations_before"].tolist() == [0, 2, 2, 2]
    assert [day.date() for day in rows["as_of"]] == [
        date(2026, 6, 3), date(2026, 6, 10), date(2026, 6, 17), date(2026, 6, 24),
    ]  # fmt: skip


def test_long_run_ups_are_cut_and_nothing_of_them_is_lost():
    rows = weekly.spread(counted(("e", "meta_ads", 60, 500.0, 2.0), ("e", "meta_ads", 0, 100.0, 9.0)))
    assert len(rows) == weekly.MOST_WEEKS + 1
    assert set(rows["registrations_before"]) == {2.0}
    assert weekly.spread(counted(("e", "x", 0, 1.0, 1.0)).iloc[:0]).empty


@pytest.mark.slow
def test_the_warehouse_gives_rows_whose_features_are_those_of_each_weeks_first_morning(
    settings, engine, redis_url, monkeypatch
):
    events = histories.records(16, Law(days=150))
    histories.store(engine, settings, events)
    features.refresh(settings, UNTIL, UNTIL - timedelta(days=220))
    feature_store.apply(settings)

    rows = weekly.build(settings, UNTIL, engine=engine)

    by_event = rows.groupby(["event_id", "tactic_id"])["registrations"].sum()
    for event in events:
        for tactic, result in event["tactics"].items():
            if result["registrations"]:
                assert by_event[event["event_id"], tactic] == result["registrations"]
    assert (rows["as_of"] <= rows["event_date"]).all()
    last = rows[rows["weeks_before"] == 0]
    assert ((last["event_date"] - last["as_of"]).dt.days == 6).all()
    # more events are over from week to week, and never one that was not
    for row in rows.iloc[:: max(len(rows) // 40, 1)].to_dict("records"):
        over = [e for e in events if row["tactic_id"] in e["tactics"] and e["event_date"] < row["as_of"].date()]
        assert np.isnan(row["tactic_events_total"]) or row["tactic_events_total"] <= len(over)
    assert rows["tactic_events_total"].max() > 0

    honest = feature_store._point_in_time

    def as_of_the_event(settings, keys, service):
        later = keys.assign(event_timestamp=keys["event_timestamp"] + timedelta(days=21))
        answer = honest(settings, later, service)
        return answer.assign(event_timestamp=pd.to_datetime(answer["event_timestamp"], utc=True) - timedelta(days=21))

    monkeypatch.setattr(feature_store, "_point_in_time", as_of_the_event)
    with pytest.raises(FutureLeakError):
        weekly.build(settings, UNTIL, engine=engine)
    assert set(names.RESPONSE_FEATURES) <= set(rows.columns)
