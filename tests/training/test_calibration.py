"""Interval widths from held-out predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from training.calibration import (
    NOISE_LOG_SD,
    SHARED_LOG_SD,
    Spread,
    calibrate,
    conformal_factor,
    goal_scale,
    standardised,
)
from turnout.scoring.predictive import GoalScale


def held_out(events: int, *, shared: float, noise: float, seed: int = 0, bias: float = 1.0):
    """Predictions with known spreads: six tactics an event, post_log_sd 0.1."""
    rng = np.random.default_rng(seed)
    event = np.repeat(np.arange(events), 6)
    mean = np.exp(rng.normal(2.8, 0.5, len(event)))
    shock = rng.normal(-(shared**2) / 2, shared, events)
    rate = mean * np.exp(
        shock[event] + rng.normal(-(noise**2) / 2, noise, len(event)) + rng.normal(-0.005, 0.1, len(event))
    )
    y = rng.poisson(rate * bias)
    rows = pd.DataFrame(
        {
            "event_id": event.astype(str), "tactic_id": [f"t{i % 6}" for i in range(len(event))], "y": y, "mean": mean,
            "post_log_sd": 0.1,
        }
    )  # fmt: skip
    organic = rng.poisson(30 * np.exp(shock + rng.normal(-0.02, 0.2, events)))
    totals = np.bincount(event, y) + organic
    frame = pd.DataFrame(
        {"registrations": totals.astype(float), "organic_mean": 30.0, "organic_log_sd": 0.2},
        index=[str(i) for i in range(events)],
    )
    return rows, frame


def test_spreads_that_were_put_in_are_found():
    spread = calibrate(*held_out(300, shared=0.25, noise=0.45))
    assert spread.shared == pytest.approx(0.25, abs=0.06)
    assert spread.noise == pytest.approx(0.45, abs=0.08)
    assert all(abs(sd - 0.45) < 0.12 for sd in spread.tactics.values())


@pytest.mark.parametrize(("shared", "noise"), [(0.1, 0.25), (0.3, 0.6)])
def test_intervals_cover_later_events_as_they_promise(shared, noise):
    spread = calibrate(*held_out(150, shared=shared, noise=noise))
    rows, _ = held_out(600, shared=shared, noise=noise, seed=9)
    own = np.array([spread.of(t) for t in rows["tactic_id"]])
    z = np.abs(standardised(rows["y"], rows["mean"], np.sqrt(0.01 + own**2 + spread.shared**2)))
    assert (z <= 1.645).mean() == pytest.approx(0.9, abs=0.025)
    assert (z <= 1.2816).mean() == pytest.approx(0.8, abs=0.035)


def test_a_biased_model_gets_wider_intervals():
    honest = calibrate(*held_out(150, shared=0.15, noise=0.3))
    biased = calibrate(*held_out(150, shared=0.15, noise=0.3, bias=1.6))
    assert biased.shared > 1.3 * honest.shared


def test_little_evidence_leaves_the_defaults():
    assert calibrate(*held_out(0, shared=0.1, noise=0.1)) == Spread()
    spread = calibrate(*held_out(1, shared=0.1, noise=0.1))
    assert spread.shared == pytest.approx(SHARED_LOG_SD, rel=0.35)
    assert spread.of("never used") == pytest.approx(NOISE_LOG_SD, rel=0.45)


def test_one_typing_error_does_not_widen_every_interval():
    rows, events = held_out(100, shared=0.15, noise=0.3)
    clean = calibrate(rows, events)
    rows.loc[5, "y"] *= 100
    events.loc["0", "registrations"] += 99 * rows.loc[5, "y"] / 100
    spoilt = calibrate(rows, events)
    assert spoilt.noise < 1.35 * clean.noise
    assert spoilt.shared < 1.5 * clean.shared


def test_a_standardised_count_is_standard_normal():
    rng = np.random.default_rng(2)
    mean, sd = np.full(20_000, 25.0), np.full(20_000, 0.4)
    z = standardised(rng.poisson(mean * np.exp(rng.normal(-0.08, 0.4, 20_000))), mean, sd)
    assert z.mean() == pytest.approx(0, abs=0.03)
    assert z.std() == pytest.approx(1, abs=0.03)


def test_the_conformal_factor_is_one_when_intervals_fit_and_shrinks_with_little_data():
    rng = np.random.default_rng(1)
    z = rng.normal(size=4000)
    assert conformal_factor(z, prior=10) == pytest.approx(1, abs=0.04)
    assert conformal_factor(2 * z, prior=10) == pytest.approx(2, rel=0.05)
    assert conformal_factor(2 * z[:3], prior=30) < 1.3
    assert conformal_factor([], prior=10) == 1.0


def test_goals_that_are_reached_less_surely_than_the_draws_say_get_a_flatter_scale():
    rng = np.random.default_rng(5)
    share = rng.uniform(0.01, 0.99, 1500)
    logit = np.log(share / (1 - share))
    scale = goal_scale(share, (rng.random(1500) < 1 / (1 + np.exp(-0.6 * logit))).astype(float))
    assert scale.slope == pytest.approx(0.6, abs=0.08)
    assert [scale(p) for p in (0.05, 0.5, 0.95)] == sorted(scale(p) for p in (0.05, 0.5, 0.95))
    assert scale(0.95) < 0.9
    assert goal_scale(np.zeros(0), np.zeros(0)) == GoalScale()
    believed = goal_scale(share, (rng.random(1500) < share).astype(float))
    assert (believed.offset, believed.slope) == (pytest.approx(0, abs=0.15), pytest.approx(1, abs=0.12))


def test_a_scale_that_does_not_rise_is_refused():
    with pytest.raises(ValueError, match="rise"):
        GoalScale(0.0, 0.0)
