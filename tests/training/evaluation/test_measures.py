"""Figures of an evaluation against ones worked out by hand, and on a history whose law is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.training import histories
from tests.training.histories import RATES
from training import backtest
from training.backtest import LEVELS, Backtest
from training.dataset import assemble
from training.estimator import fit
from training.evaluation import measures
from training.evaluation.measures import Tested
from training.evaluation.report import page
from training.yardsticks import YARDSTICKS

KEYS = {
    "accuracy", "attainable_accuracy", "coverage_90", "coverage_90_by_group", "goal_ece", "yardsticks", "seeds",
    "test_events",
}  # fmt: skip


@pytest.fixture(scope="module")
def dataset():
    return assemble(histories.history(histories.records(120)), RATES)


@pytest.fixture(scope="module")
def tested(dataset):
    return Tested(backtest.run(dataset, seed=1, threads=1), seed=7)


def by_hand(actual, predicted, draws):
    """A backtest of events with these totals; ``draws`` is one sample per event."""
    names = [f"e{i}" for i in range(len(actual))]
    events = pd.DataFrame(
        {
            "segment_id": "ai_data", "registrations": actual, "predicted": predicted, "target": np.nan,
            "goal_probability": np.nan,
            "attendees": np.nan, "attendees_p10": 0.0, "attendees_p90": 1.0,
            "p50": [np.median(d) for d in draws], "p05": [np.quantile(d, 0.05) for d in draws],
            "p95": [np.quantile(d, 0.95) for d in draws], "p10": 0.0, "p90": 1e9,
            **dict.fromkeys(YARDSTICKS, 100.0),
        },
        index=pd.Index(names, name="event_id"),
    )  # fmt: skip
    rows = pd.DataFrame(
        {
            "event_id": names, "tactic_id": "meta_ads", "segment_id": "ai_data", "y": actual, "mean": predicted,
            "log_sd": 0.2, "shared_log_sd": 0.1, **dict.fromkeys(YARDSTICKS, 100.0),
        }
    )  # fmt: skip
    quantiles = pd.DataFrame([np.quantile(d, LEVELS) for d in draws], index=names, columns=LEVELS)
    return Backtest(rows, events, quantiles=quantiles)


def test_accuracy_and_the_limit_are_one_minus_the_weighted_error():
    run = by_hand([100.0, 50.0], [80.0, 60.0], [np.arange(50, 150)] * 2)
    expected = pd.Series({"e0": 90.0, "e1": 50.0})
    found = measures.summary([Tested(run, 1, expected), Tested(run, 2, expected)])
    assert found["accuracy"] == pytest.approx(1 - 30 / 150)
    assert found["attainable_accuracy"] == pytest.approx(1 - 10 / 150, abs=1e-4)
    assert found["yardsticks"]["linear"]["accuracy"] == pytest.approx(1 - 50 / 150, abs=1e-4)
    assert found["seeds"] == [1, 2]
    assert found["test_events"] == 4
    assert found["bias"] == pytest.approx(-10 / 150, abs=1e-4)
    assert [one["accuracy"] for one in found["by_seed"]] == [0.8, 0.8]
    assert found["coverage_90_by_group"].keys() == {"paid_social"}
    assert found["coverage_90_by_size"].keys() == {"below 100"}


def test_probabilities_of_any_goal_come_from_the_whole_distribution():
    draws = np.sort(np.random.default_rng(0).poisson(80, 4000))
    quantiles = np.quantile(draws, LEVELS)
    for goal in (60, 75, 80, 90, 110):
        assert measures.reach_probability(quantiles, goal) == pytest.approx((draws >= goal).mean(), abs=0.01)


def test_calibrated_goals_have_no_error_and_boasting_ones_do():
    rng = np.random.default_rng(1)
    means = rng.uniform(40, 300, 500)
    actual = rng.poisson(means * np.exp(rng.normal(0, 0.2, 500) - 0.02)).astype(float)
    honest = [rng.poisson(m * np.exp(rng.normal(0, 0.2, 800) - 0.02)) for m in means]
    boasting = [rng.poisson(m * 1.3, 800) for m in means]
    assert measures.expected_calibration_error(measures.goal_table([Tested(by_hand(actual, means, honest))])) < 0.03
    assert measures.expected_calibration_error(measures.goal_table([Tested(by_hand(actual, means, boasting))])) > 0.15


def test_few_goals_look_wrong_though_every_probability_is_right():
    rng = np.random.default_rng(2)

    def luck(goals):
        p = rng.uniform(0.05, 0.95, goals)
        return measures.perfect_calibration_error(pd.DataFrame({"probability": p, "reached": 0.0}))

    # 0.08 on 150 goals, a quarter of it on sixteen times as many
    assert 0.06 < luck(150) < 0.11
    assert luck(2400) == pytest.approx(luck(150) / 4, rel=0.25)
    assert measures.perfect_calibration_error(pd.DataFrame()) is None


def test_a_real_backtest_has_every_key_and_figures_that_belong_together(dataset, tested):
    found = measures.summary([tested])
    assert set(found) >= KEYS
    assert found["test_events"] == len(tested.backtest.events)
    assert 0.5 < found["accuracy"] < 1
    assert found["attainable_accuracy"] is None
    assert set(found["yardsticks"]) == {"ours", *YARDSTICKS}
    assert found["accuracy"] == found["yardsticks"]["ours"]["accuracy"]
    assert found["accuracy"] == pytest.approx(1 - backtest.metrics(tested.backtest)["wape_events"], abs=1e-4)
    assert sum(found["group_sizes"].values()) == len(tested.backtest.rows)
    assert found["goal_ece"] < 0.15
    assert 0 <= found["goal_ece_own_targets"] < 0.3
    assert 0 < found["goal_ece_own_targets_of_perfect"] < 0.3
    # an organiser's target is answered as the plan would answer it
    goals = measures.goal_table([tested]).groupby("event_id").last()
    events = tested.backtest.events
    assert np.abs(goals["probability"].reindex(events.index) - events["goal_probability"]).max() < 0.02
    assert sum(b["goals"] for b in found["reliability"]) >= 9 * found["test_events"]
    assert sum(r["events"] for r in found["error_by_segment"].values()) == found["test_events"]


def test_nothing_to_measure_gives_none_and_no_crash():
    short = assemble(histories.history(histories.records(6)), RATES)
    empty = Tested(backtest.run(short, seed=1, threads=1))
    for tested in ([empty], []):
        found = measures.summary(tested)
        assert found["accuracy"] is None
        assert found["goal_ece"] is None
        assert found["test_events"] == 0
        assert found["coverage_90_by_group"] == {}
    assert "SIMULATED" not in page("Nothing", measures.summary([empty]) | {"notes": ["too few"]}, [empty], None)


def test_true_expectations_find_their_events_by_name_and_day(dataset):
    events = dataset.history.events
    truth = [
        {"name": n, "date": d.date().isoformat(), "expected": 5.0 + i}
        for i, (n, d) in enumerate(zip(events["name"], events["event_date"], strict=True))
    ]
    assert measures.true_expectations(events, truth[::-1]).tolist() == [5.0 + i for i in range(len(events))]
    assert measures.true_expectations(events, []).isna().all()


def test_the_page_is_whole_labelled_and_loads_nothing(dataset, tested):
    class Decision:
        regret, rules = 0.05, {"equal": 40.0}

        def regret_of(self, rule):
            return 0.3

    report = measures.summary([tested]) | {
        "is_simulated": True, "notes": ["<b>a note</b>"], "regret_mean": 0.05, "regret_p95": 0.1,
        "decisions": {
            "events": 2, "proved_gap_max": 0.0,
            "rules": {"equal": {"regret_mean": 0.3, "regret_p95": 0.4, "ours_is_better": 1.0}},
        },
        "learning_curve": [
            {"past_events": n, "accuracy": {"ours": 0.6, "linear": None}, "attainable_accuracy": 0.9} for n in (0, 5)
        ],
    }  # fmt: skip
    html = page("World", report, [tested], (fit(dataset, seed=1, threads=1), dataset), [Decision(), Decision()])
    assert html.startswith("<!doctype html>")
    assert html.count("<svg") == html.count("</svg>") >= 7
    assert "SIMULATED DATA" in html
    assert "&lt;b&gt;a note" in html
    for outside in ("<script", "http-equiv", "<link", "<img", 'src="'):
        assert outside not in html
    assert html == page("World", report, [tested], (fit(dataset, seed=1, threads=1), dataset), [Decision(), Decision()])
