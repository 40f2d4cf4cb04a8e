"""Histories that go wrong in the ways real ones do: bounded, non-negative, finite, and said so; never a crash."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from serving.planner import Bundle, Features, make_plan
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


def planned(dataset, *, language: str = "en", budget: int = 1_000_000, **changes):
    """A whole plan by models fitted to ``dataset``."""
    fitted = fit(dataset, seed=1, threads=1)
    model = ResponseModel(fitted.booster, fitted.parameters, name="turnout-response", version="1", alias="champion")
    brief = Brief.model_validate({
        "event": {
            "name": "Next", "date": UNTIL + timedelta(days=40), "category": "ai_data", "format": "online",
        },
        "goal": {"target": 100}, "budget": {"amount": budget, "currency": "JPY"}, "staff_hours": 60,
        "language": language, **changes,
    })  # fmt: skip
    now = datetime.combine(UNTIL, datetime.min.time(), UTC)
    return make_plan(brief, Bundle(model, DemandModel.benchmark()), Features(), now, rates=RATES)


def assert_sound(plan):
    assert plan.totals.spend.amount <= plan.brief.budget.amount
    for interval in (plan.totals.registrations, plan.totals.attendees, *(a.registrations for a in plan.allocations)):
        values = [interval.mean, interval.p10, interval.p50, interval.p90]
        assert np.isfinite(values).all()
        assert 0 <= interval.p10 <= interval.p50 <= interval.p90 < 20_000
    assert 0 <= plan.totals.goal_probability <= 1


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


def constant_spend(amount: float = 100_000) -> list:
    """Fourteen days with one event each, whose only paid tactic always cost about the same."""
    events = histories.records(14, histories.Law(levels={"meta_ads": 1.0}, days=14))
    rng = np.random.default_rng(0)
    for event in events:
        event["tactics"] = {
            "meta_ads": {
                "spend_base": amount + float(rng.uniform(0, 200)), "staff_hours": None,
                "registrations": int(rng.poisson(6)),
            }
        }  # fmt: skip
        event["registrations"] = event["organic"] + event["tactics"]["meta_ads"]["registrations"]
    return events


def test_fourteen_days_of_near_constant_spend_do_not_explode_at_half_as_much_again():
    dataset = dataset_of(constant_spend())
    responses = scored(dataset)
    assert_sane(responses)
    curve = responses["meta_ads"].curve
    assert 3 < curve(100_000.0) < 14
    assert curve(100_000.0) <= curve(150_000.0) <= 1.5 * curve(100_000.0) * (1 + 1e-9)
    assert any("meta_ads: spend was 100," in caution for caution in cautions(dataset))


LOCKED = [{"tactic": "meta_ads", "lock": {"amount": 150_000, "currency": "JPY"}}]


@pytest.mark.parametrize(
    ("language", "beyond", "constant"),
    [
        ("en", "more than was ever spent before", "always about the same was spent"),
        ("ja", "最高額を超える", "ほぼ同額"),
    ],
)
def test_a_plan_at_half_as_much_again_of_what_was_always_spent_says_so(language, beyond, constant):
    answer = planned(dataset_of(constant_spend()), language=language, budget=150_000, constraints=LOCKED)
    assert_sound(answer)
    [meta] = [a for a in answer.allocations if a.tactic == "meta_ads"]
    assert meta.spend.amount == 150_000
    assert meta.registrations.mean <= 1.5 * 14
    [more] = [w for w in answer.warnings if beyond in w]
    assert "150,000 JPY" in more
    assert "100,1" in more
    [same] = [w for w in answer.warnings if constant in w]
    assert "14 × 100,1" in same


def test_a_plan_within_what_was_tried_has_nothing_to_say_of_it():
    within = planned(dataset_of(constant_spend(148_000)), budget=150_000, constraints=LOCKED)
    varied = planned(dataset_of(histories.records(60)), budget=150_000, constraints=LOCKED)
    for answer in (within, varied):
        assert not [w for w in answer.warnings if "ever spent" in w or "the same was spent" in w]
    beyond = planned(
        dataset_of(histories.records(60)), budget=9_000_000,
        constraints=[{"tactic": "meta_ads", "lock": {"amount": 5_000_000, "currency": "JPY"}}],
    )  # fmt: skip
    [more] = [w for w in beyond.warnings if "ever spent" in w]
    assert "5,000,000 JPY" in more
    assert not [w for w in beyond.warnings if "the same was spent" in w]


def _zeroed() -> list:
    events = histories.records(40)
    for event in events:
        for tactic in ("meta_ads", "google_search"):
            if tactic in event["tactics"]:
                event["registrations"] -= event["tactics"][tactic]["registrations"]
                event["tactics"][tactic]["registrations"] = 0
    return events


def _mistyped(*, spend: bool = False) -> list:
    events = histories.records(40)
    wrong = next(e for e in events if e["tactics"].get("meta_ads", {}).get("registrations", 0) > 10)
    wrong["tactics"]["meta_ads"]["registrations"] *= 100
    wrong["tactics"]["meta_ads"]["spend_base"] *= 100 if spend else 1
    wrong["registrations"] += wrong["tactics"]["meta_ads"]["registrations"]
    return events


@pytest.mark.parametrize(
    ("history", "warned"),
    [
        (_zeroed, "meta_ads: no registration in"), (_mistyped, "typing error"),
        (lambda: _mistyped(spend=True), "check the amount"),
        (lambda: histories.records(1), "1 past event"), (lambda: [], "no past event"),
    ],
    ids=["all zero", "hundred times", "hundred times the money", "one event", "nothing"],
)  # fmt: skip
def test_whole_plans_from_hostile_histories_are_sound_and_somebody_is_told(history, warned):
    dataset = dataset_of(history())
    assert_sound(planned(dataset))
    assert_sound(planned(dataset, constraints=LOCKED))
    assert any(warned in caution for caution in cautions(dataset))


def test_a_whole_plan_with_columns_that_hold_nothing_is_sound():
    dataset = dataset_of(histories.records(60))
    for name in ("price_base", "show_up_rate", "attendees", "target_registrations", "registrations"):
        dataset.history.events[name] = np.nan
    assert_sound(planned(dataset))


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
