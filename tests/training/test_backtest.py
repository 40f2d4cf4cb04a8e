"""Metrics on later events, the yardsticks beside them, and the gate's comparison."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training import histories
from tests.training.histories import RATES, Law
from training import backtest, response
from training.dataset import assemble
from training.yardsticks import YARDSTICKS, predictions


@pytest.fixture(scope="module")
def dataset():
    return assemble(histories.history(histories.records(160)), RATES)


@pytest.fixture(scope="module")
def tested(dataset):
    return backtest.run(dataset, seed=1, threads=1)


def test_every_prediction_is_of_an_event_later_than_those_trained_on(dataset, tested):
    dates = dataset.history.events["event_date"]
    for fold, group in tested.events.groupby("fold"):
        start = dates[group.index].min()
        trained = dataset.before(start.date()).rows
        assert trained["event_date"].max() < start, fold
        assert not set(trained["event_id"]) & set(group.index)
    assert tested.events.index.is_unique
    assert len(tested.events) == 80


def test_the_model_beats_every_yardstick_where_its_assumptions_hold(tested):
    found = backtest.metrics(tested)
    for name in YARDSTICKS:
        assert found["wape_events"] < found[f"wape_events_{name}"] + 0.005, name
        assert found["wape_tactics"] < found[f"wape_tactics_{name}"], name
    assert abs(found["bias_events"]) < 0.08


def test_intervals_cover(tested):
    found = backtest.metrics(tested)
    assert 0.8 <= found["coverage_90_events"] <= 0.99
    assert 0.83 <= found["coverage_90_tactics"] <= 0.96
    assert 0.7 <= found["coverage_80_events"] <= 0.95
    assert found["brier_goal"] < 0.25


def test_a_future_that_is_changed_does_not_change_the_past(dataset, tested):
    cut = dataset.history.events["event_date"].iloc[-16]
    rows = dataset.rows.assign(
        y=np.where(dataset.rows["event_date"] >= cut, 7 * dataset.rows["y"] + 9, dataset.rows["y"])
    )
    changed = backtest.run(type(dataset)(rows, dataset.curves, dataset.history), seed=1, threads=1)
    earlier = tested.events["fold"] < 4
    assert changed.events[earlier]["predicted"].tolist() == tested.events[earlier]["predicted"].tolist()
    assert changed.events[~earlier]["predicted"].tolist() == tested.events[~earlier]["predicted"].tolist()


def test_a_short_history_is_not_measured():
    short = assemble(histories.history(histories.records(12)), RATES)
    tested = backtest.run(short, seed=1, threads=1)
    assert tested.rows.empty
    assert backtest.metrics(tested) == {"test_events": 0.0, "test_rows": 0.0}
    trained = response.fit_and_measure(short, seed=1, threads=1)
    assert trained.report["by_tactic"] == {}


def test_groups_are_reported(tested):
    by_tactic = backtest.by_group(tested, "tactic_id")
    assert set(by_tactic) == set(histories.LEVELS)
    assert sum(g["rows"] for g in by_tactic.values()) == len(tested.rows)


def test_yardsticks_are_finite_and_never_negative_for_tactics_they_never_saw():
    train = assemble(histories.history(histories.records(30, Law(levels={"meta_ads": 1.0, "own_email": 1.0}))), RATES)
    test = assemble(histories.history(histories.records(10, seed=2)), RATES)
    for name, values in predictions(train, test, seed=1).items():
        assert values.shape == (len(test.rows),), name
        assert np.isfinite(values).all(), name
        assert (values >= 0).all(), name
