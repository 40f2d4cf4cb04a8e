"""Histories that go wrong in the ways real ones do: bounded, non-negative, finite, and said so; never a crash."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from tests.training import histories
from tests.training.histories import LEVELS, RATES, UNTIL
from training import backtest
from training.cautions import cautions
from training.dataset import assemble
from training.estimator import fit
from training.response import fit_and_measure
from turnout.brief import Brief
from turnout.scoring import DemandModel, ResponseModel, ScoringRequest
from turnout.tactics import load_catalogue


def dataset_of(events):
    return assemble(histories.history(events), RATES)


def scored(dataset, day: date = UNTIL + timedelta(days=40)):
    """Responses of every tactic of the catalogue to a model fitted to ``dataset``, by tactic id."""
    fitted = fit(dataset, seed=1, threads=1)
    model = ResponseModel(fitted.booster, fitted.parameters, name="turnout-response", version="1", alias=None)
    brief = Brief.model_validate({
        "event": {"name": "Next", "date": day, "category": "ai_data", "format": "online"},
        "goal": {"target": 100}, "budget": {"amount": 1_000_000, "currency": "JPY"},
    })  # fmt: skip
    demand = DemandModel.benchmark().outlook("ai_data", day, UNTIL, "online")
    tactics = list(load_catalogue())
    answers = model.score(ScoringRequest(brief=brief, as_of=UNTIL, tactics=tactics, demand=demand, fx=RATES))
    return {answer.tactic_id: answer for answer in answers}


def assert_sane(responses):
    x = np.geomspace(1.0, 3e7, 60)
    for tactic, response in responses.items():
        values = response.curve(x)
        assert np.isfinite(values).all(), tactic
        assert (values >= 0).all(), tactic
        assert (np.diff(values) >= -1e-9).all(), tactic
        assert values.max() < 20_000, tactic
        assert np.isfinite(response.log_sd), tactic
        assert response.log_sd > 0, tactic


def test_fourteen_days_of_near_constant_spend_do_not_explode_at_half_as_much_again():
    events = histories.records(14, histories.Law(levels={"meta_ads": 1.0}, days=14))
    rng = np.random.default_rng(0)
    for event in events:
        event["tactics"] = {
            "meta_ads": {
                "spend_base": 100_000 + float(rng.uniform(0, 200)), "staff_hours": None,
                "registrations": int(rng.poisson(6)),
            }
        }  # fmt: skip
        event["registrations"] = event["organic"] + event["tactics"]["meta_ads"]["registrations"]
    dataset = dataset_of(events)
    responses = scored(dataset)
    assert_sane(responses)
    curve = responses["meta_ads"].curve
    assert 3 < curve(100_000.0) < 14
    assert curve(100_000.0) <= curve(150_000.0) <= 1.5 * curve(100_000.0) * (1 + 1e-9)
    assert any("meta_ads: spend was 100," in caution for caution in cautions(dataset))


def test_a_tactic_that_never_brought_anybody_stays_finite_and_sinks_below_its_benchmark():
    events = histories.records(60)
    for event in events:
        if "google_search" in event["tactics"]:
            event["registrations"] -= event["tactics"]["google_search"]["registrations"]
            event["tactics"]["google_search"]["registrations"] = 0
    dataset = dataset_of(events)
    responses = scored(dataset)
    assert_sane(responses)
    benchmark = responses["google_search"].prior.curve(200_000.0)
    assert 0 <= responses["google_search"].curve(200_000.0) < 0.3 * benchmark
    assert any(caution.startswith("google_search: no registration in") for caution in cautions(dataset))


def test_one_event_is_close_to_the_benchmark_and_says_so():
    one = dataset_of(histories.records(1))
    none = scored(dataset_of([]))
    responses = scored(one)
    assert_sane(responses)
    for tactic in LEVELS:
        ratio = responses[tactic].curve(100_000.0) / max(none[tactic].curve(100_000.0), 1e-9)
        assert 0.3 < ratio < 3.5, tactic
    assert cautions(one)[0].startswith("1 past event:")
    assert cautions(dataset_of([]))[0].startswith("no past event")
    assert backtest.run(one, seed=1, threads=1).rows.empty


def test_columns_without_any_value_are_ignored():
    dataset = dataset_of(histories.records(80))
    events = dataset.history.events
    for name in ("price_base", "show_up_rate", "attendees", "target_registrations"):
        events[name] = np.nan
    blank = dict.fromkeys(dataset.feature_names[-30:], np.nan)
    emptied = type(dataset)(dataset.rows.assign(**blank), dataset.curves, dataset.history, dataset.feature_names)
    assert_sane(scored(emptied))
    assert any("features without any value" in caution for caution in cautions(emptied))
    tested = backtest.run(emptied, seed=1, threads=1)
    assert np.isfinite(tested.events["predicted"].to_numpy(dtype=float)).all()
    assert tested.events["goal_probability"].isna().all()


def test_staff_hours_nobody_wrote_down_count_as_usual():
    events = histories.records(60)
    for event in events:
        for result in event["tactics"].values():
            result["staff_hours"] = None
    assert_sane(scored(dataset_of(events)))


@pytest.fixture(scope="module")
def clean():
    events = histories.records(80)
    return events, scored(dataset_of(events))


def test_a_typing_error_of_a_hundred_times_moves_little_and_is_named(clean):
    events, before = clean
    wrong = next(e for e in events if e["tactics"].get("meta_ads", {}).get("registrations", 0) > 20)
    changed = [
        event
        | {
            "tactics": {
                tactic: result | {"registrations": 100 * result["registrations"]}
                if event is wrong and tactic == "meta_ads"
                else result
                for tactic, result in event["tactics"].items()
            }
        }
        for event in events
    ]
    dataset = dataset_of(changed)
    after = scored(dataset)
    assert_sane(after)
    for tactic in LEVELS:
        x = 200_000.0 if load_catalogue().get(tactic).is_paid else before[tactic].curve.saturated
        assert 0.7 < after[tactic].curve(x) / before[tactic].curve(x) < 1.45, tactic
    named = [c for c in cautions(dataset) if wrong["event_id"] in c]
    assert len(named) == 1
    assert "typing error" in named[0]
    assert not [c for c in cautions(dataset_of(events)) if "typing error" in c]


def test_labels_restated_after_training_are_new_data_and_do_no_harm(clean):
    events, _ = clean
    restated = [
        event
        | {
            "registrations": event["registrations"] * 3,
            "organic": event["organic"] * 3,
            "tactics": {t: r | {"registrations": r["registrations"] * 3} for t, r in event["tactics"].items()},
        }
        if number >= len(events) // 2
        else event
        for number, event in enumerate(events)
    ]
    first, second = dataset_of(events), dataset_of(restated)
    assert first.fingerprint != second.fingerprint
    responses = scored(second)
    assert_sane(responses)
    trained = fit_and_measure(second, seed=1, threads=1)
    assert np.isfinite(list(trained.metrics.values())).all()


def test_counts_below_zero_and_infinite_features_do_not_pass():
    events = histories.records(40)
    events[3]["tactics"]["own_email"] = {"spend_base": None, "staff_hours": 5.0, "registrations": -4}
    dataset = assemble(histories.history(events, daily=False), RATES)
    assert (dataset.rows["y"] >= 0).all()
    wild = type(dataset)(
        dataset.rows.assign(**{dataset.feature_names[-1]: np.inf}),
        dataset.curves,
        dataset.history,
        dataset.feature_names,
    )
    assert_sane(scored(wild))
    assert pd.isna(wild.matrix()[:, -1]).all()
