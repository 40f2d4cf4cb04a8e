"""One fit: benchmark, pooling, trees; on histories whose law is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.training import histories
from tests.training.histories import RATES, Law
from training import estimator
from training.calibration import Spread
from training.dataset import assemble, columns_of, expected
from training.promotion import response_faults
from turnout.curves import CappedLinear, Hill, Step
from turnout.scoring import ResponseModel, design_matrix
from turnout.scoring.effects import EventFacts
from turnout.scoring.parameters import LOG_CORRECTION_LIMIT


def dataset(count=120, law=None, **changes):
    return assemble(histories.history(histories.records(count, law, **changes)), RATES)


def test_levels_of_the_tactics_are_found():
    found = estimator.fit(dataset(200, Law(season=0.0)), seed=1, threads=1).parameters
    for tactic, level in histories.LEVELS.items():
        scale = (
            found.log_scale(tactic, EventFacts("ai_data", "online|free", histories.UNTIL))
            + found.tactics[tactic].log_stretch * 0.3
        )
        assert scale == pytest.approx(math.log(level), abs=0.3), tactic
    assert found.trained_until == dataset(200).history.events["event_date"].max().date()


def test_training_twice_gives_the_same_model_to_the_bit():
    data = dataset(90)
    one, other = (estimator.fit(data, seed=1, threads=2, rounds=15) for _ in range(2))
    assert one.parameters == other.parameters
    assert one.booster.save_raw() == other.booster.save_raw()


def test_trees_learn_what_a_feature_tells_and_the_pooling_cannot_know():
    data = dataset(160, Law(season=0.0))
    rng = np.random.default_rng(3)
    signal = rng.normal(size=len(data.rows))
    rows = data.rows.assign(y=rng.poisson(data.rows["baseline"] * np.exp(0.5 * signal)), tactic_ctr_28d=signal)
    informed = replace(data, rows=rows)
    assert estimator.choose_rounds(informed, seed=1, threads=1) > 5
    fitted = estimator.fit(informed, seed=1, threads=1)
    without = estimator.Fitted.without_trees(fitted.parameters)
    y = rows["y"].to_numpy()
    assert np.abs(fitted.means(informed) - y).sum() < 0.85 * np.abs(without.means(informed) - y).sum()


def test_trees_that_find_only_noise_are_not_grown():
    data = dataset(160, Law(season=0.0, event_sd=0.0))
    rng = np.random.default_rng(4)
    rows = data.rows.assign(y=rng.poisson(data.rows["baseline"]), tactic_ctr_28d=rng.normal(size=len(data.rows)))
    assert estimator.choose_rounds(replace(data, rows=rows), seed=1, threads=1) <= 3


def test_too_little_history_grows_no_tree():
    assert estimator.choose_rounds(dataset(15), seed=1, threads=1) == 0
    assert estimator.fit(dataset(2), seed=1, threads=1).booster.num_boosted_rounds() == 0


def test_hostile_histories_give_bounded_models():
    base = dataset(60)
    rows = base.rows
    meta = (rows["tactic_id"] == "meta_ads").to_numpy()
    cases = {
        "a tactic of zeros": rows.assign(y=np.where(meta, 0.0, rows["y"])),
        "a hundredfold outlier": rows.assign(y=np.where(np.arange(len(rows)) == 9, 100 * rows["y"] + 500, rows["y"])),
        "everything zero": rows.assign(y=0.0),
        "one spend for all": rows.assign(x=np.where(meta, 100_000.0, rows["x"])),
        "no index": rows.assign(demand_index=1.0),
    }
    for name, changed in cases.items():
        fitted = estimator.fit(replace(base, rows=changed), seed=1, threads=1, rounds=20)
        model = ResponseModel(fitted.booster, fitted.parameters, name="m", version="1", alias=None)
        known = replace(fitted.parameters, feature_names=tuple(fitted.parameters.feature_names))
        assert model.parameters == known
        assert response_faults(model, RATES) == [], name
        means = fitted.means(base)
        assert np.isfinite(means).all(), name
        assert means.max() < 5_000, name


def test_features_that_are_all_unknown_change_nothing():
    data = dataset(90)
    assert data.matrix().shape == (len(data.rows), len(data.feature_names))
    blank = data.rows.assign(price_base=np.nan, tactic_ctr_28d=np.nan)
    fitted = estimator.fit(replace(data, rows=blank), seed=1, threads=1, rounds=10)
    assert np.isfinite(fitted.means(data)).all()


def test_serving_and_training_build_the_same_matrix_for_the_same_event():
    data = dataset(5)
    whole = data.matrix()
    first = data.rows[data.rows["event_id"] == data.rows["event_id"].iloc[0]]
    scalars = {
        name: first[name].iloc[0] if name in ("category", "format", "price_base", "demand_index") else column
        for name, column in columns_of(first).items()
    }
    alone = design_matrix(scalars, data.feature_names, len(first))
    assert np.array_equal(alone, whole[: len(first)], equal_nan=True)


def test_calibrated_spreads_reach_the_parameters():
    fitted = estimator.fit(dataset(30), seed=1, threads=1)
    spread = Spread(shared=0.3, noise=0.5, tactics={"meta_ads": 0.7})
    calibrated = fitted.with_spread(spread).parameters
    assert calibrated.shared_log_sd == 0.3
    assert calibrated.tactics["meta_ads"].noise_log_sd == 0.7
    assert calibrated.tactics["own_email"].noise_log_sd == 0.5
    assert LOG_CORRECTION_LIMIT == 1.5


def test_the_benchmark_is_read_between_its_whole_units():
    step = Step((100.0, 200.0), (10.0, 15.0))
    assert expected(step, 50.0) == pytest.approx(5.0)
    assert expected(step, 150.0) == pytest.approx(12.5)
    assert expected(step, 900.0) == 15.0
    assert expected(CappedLinear(1.0, 40.0, start=2.0), 1.0) > 0
    assert expected(Hill(100.0, 100.0), 100.0) == pytest.approx(50.0)
    assert expected(Hill(100.0, 1e9), 1e-6) == 0.05


def test_event_dates_split_a_history_without_parting_a_day():
    rows = pd.DataFrame(
        {
            "event_id": ["a", "b", "c", "c", "d"],
            "event_date": pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-02", "2026-01-02", "2026-01-03"]),
        }
    )
    assert estimator.later_events(rows, 0.5).tolist() == [False, True, True, True, True]
