"""The gate: what a challenger must show, on real versions in a real registry."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import xgboost

from tests.training import histories
from tests.training.histories import UNTIL
from training import backtest, comparison, demand, promotion, response
from training import registry as models
from training.comparison import LEAST_GAIN, compare, paired_test
from training.promotion import rule
from turnout import registry
from turnout.errors import NotReadyError

# --- the test and the rule --------------------------------------------------------------------------------------------


def losses(level: float, *, noise: float = 0.3, n: int = 40, seed: int = 0) -> np.ndarray:
    return level + np.random.default_rng(seed).normal(0, noise, n)


def test_better_beyond_noise_is_promoted_and_worse_is_not():
    champion = losses(1.0)
    assert rule(paired_test(champion, losses(0.7, seed=1)), fresher=False) == (True, "better beyond noise")
    assert rule(paired_test(champion, losses(1.3, seed=1)), fresher=True) == (False, "worse beyond noise")


def test_as_good_is_promoted_only_with_more_history():
    champion = losses(1.0)
    slightly_off = champion + np.random.default_rng(1).normal(0, 0.05, 40)
    assert rule(paired_test(champion, slightly_off), fresher=True) == (True, "as good and fresher")
    assert not rule(paired_test(champion, slightly_off), fresher=False)[0]
    assert not rule(paired_test(champion, champion), fresher=False)[0]


def test_fresher_is_not_enough_where_it_could_be_much_worse():
    champion = losses(1.0, n=9)
    promoted, reason = rule(paired_test(champion, losses(1.1, n=9, noise=0.8, seed=3)), fresher=True)
    assert not promoted
    assert "could be worse by more than 10%" in reason


def test_a_difference_nobody_would_notice_is_not_progress_however_many_events_show_it():
    champion = losses(1.0, n=5_000)
    test = paired_test(champion, champion * (1 - LEAST_GAIN / 2))
    assert test.p_better < 1e-6
    assert not rule(test, fresher=False)[0]


@pytest.mark.parametrize("n", [10, 40])
def test_noise_is_seldom_taken_for_progress(n):
    found = [rule(paired_test(losses(1.0, n=n, seed=2 * s), losses(1.0, n=n, seed=2 * s + 1)), fresher=False)[0]
             for s in range(300)]  # fmt: skip
    assert sum(found) / 300 < 0.09


def test_the_interval_holds_the_true_gain_about_as_often_as_it_says():
    inside = 0
    for seed in range(200):
        test = paired_test(losses(1.0, seed=2 * seed), losses(0.9, seed=2 * seed + 1))
        inside += test.low <= 0.1 <= test.high
    assert 0.83 <= inside / 200 <= 0.95


def test_many_events_give_what_the_exact_test_gives():
    a, b = losses(1.0, n=400), losses(0.97, n=400, seed=1)
    exact, limit = paired_test(a, b), paired_test(np.append(a, a[:1]), np.append(b, b[:1]))
    assert limit.p_better == pytest.approx(exact.p_better, abs=0.03)
    assert (limit.low, limit.high) == pytest.approx((exact.low, exact.high), abs=0.005)


def test_too_few_common_events_do_not_decide():
    test = paired_test(losses(1.0, n=5), losses(0.1, n=5))
    assert rule(test, fresher=False)[0] is False
    assert rule(test, fresher=True) == (True, "only 5 later events in common, too few to compare")


def test_values_that_are_not_finite_are_left_out_of_the_pairs():
    champion = losses(1.0)
    champion[3] = np.nan
    assert paired_test(champion, losses(0.7, seed=1)).events == 39


# --- versions in the registry -----------------------------------------------------------------------------------------


@pytest.fixture
def told(monkeypatch):
    """Alerts sent."""
    sent: list[tuple[str, str]] = []
    monkeypatch.setattr(promotion, "send_alert", lambda settings, title, text: sent.append((title, text)))
    return sent


def spoil(monkeypatch, *, shift: float, recipe: str) -> None:
    """From now on every fit expects exp(shift) times as many registrations; counts as another recipe."""
    from training.estimator import fit

    def spoilt(*args, **options):
        fitted = fit(*args, **options)
        names = fitted.parameters.feature_names
        rows = xgboost.DMatrix(np.zeros((4, len(names)), dtype=np.float32), label=np.full(4, np.exp(shift)))
        settings = {"objective": "count:poisson", "base_score": 1.0, "eta": 0.5, "lambda": 0.0, "nthread": 1}
        trees = xgboost.train(settings, rows, num_boost_round=30)
        trees.feature_names = list(names)
        return replace(fitted, booster=trees)

    for module in (response, backtest, comparison):
        monkeypatch.setattr(module, "fit", spoilt)
    monkeypatch.setattr(models, "recipe_fingerprint", lambda: recipe)


def night(settings) -> promotion.Decision:
    """What a night does to the response model."""
    return promotion.promote_if_better(settings, response.train(settings, UNTIL))


def promotion_of(settings, version: str) -> dict:
    ref = next(v for v in models.versions(settings, registry.RESPONSE) if str(v.version) == version)
    return json.loads(models.read_table(settings, ref.run_id, "promotion.json"))


@pytest.mark.slow
def test_both_are_asked_for_the_events_after_the_champions_last(settings, engine, empty_registry, told):
    events = histories.records(60)
    histories.store(engine, settings, events[:44])
    night(settings)
    histories.store(engine, settings, events[44:])

    model = night(settings)

    written = promotion_of(settings, "2")
    compared = written["comparison"]
    assert compared["basis"] == "later"
    assert compared["test"]["events"] == 16
    assert {s["segment_id"] for s in compared["by_segment"]} == {"ai_data", "cloud", "marketing"}
    assert sum(s["test"]["events"] for s in compared["by_segment"]) == 16
    assert compared["registered"]["events"] == 16
    assert model.promoted, model.reasons
    assert "the same" in model.reasons[0]
    assert "60 events" in model.reasons[0]
    assert (written["decision"], written["champion_before"], written["reasons"]) == ("promoted", "1", model.reasons)
    version = registry.client(settings).get_model_version(registry.RESPONSE, "2")
    assert version.description.startswith("**promoted** against version 1\n\n- as good and fresher")
    assert not told

    # by hand, the same rows and the same verdict; the other way round the signs turn
    again = promotion.compare_versions(settings, registry.RESPONSE, challenger="2", champion="1")
    assert again.test.gain == pytest.approx(compared["test"]["gain"])
    with pytest.raises(NotReadyError, match="both version 2"):
        promotion.compare_versions(settings, registry.RESPONSE)


@pytest.mark.slow
def test_a_retrain_that_gets_worse_is_refused_told_once_and_left_alone_the_next_night(
    settings, engine, empty_registry, told, monkeypatch
):
    histories.store(engine, settings, histories.records(60))
    night(settings)
    spoil(monkeypatch, shift=0.8, recipe="worse")

    model = night(settings)

    assert not model.promoted
    assert "worse beyond noise" in model.reasons[0] or "not calibrated" in model.reasons[0]
    assert model.champion == "1"
    [(title, text)] = told
    assert title == "Turnout: turnout-response version 2 was not promoted"
    assert "Version 1 goes on serving." in text
    compared = promotion_of(settings, "2")["comparison"]
    assert compared["basis"] == "recorded"
    assert compared["verdict"] == "worse"
    assert compared["challenger_side"]["bias"] > 0.5 > abs(compared["champion_side"]["bias"])

    again = night(settings)
    assert not again.promoted
    assert again.reasons == ["the data are unchanged, and version 2 was decided on before"]
    assert len(told) == 1


@pytest.mark.slow
def test_a_better_recipe_is_promoted_on_the_same_data(settings, engine, empty_registry, told, monkeypatch):
    histories.store(engine, settings, histories.records(60))
    with monkeypatch.context() as patched:
        spoil(patched, shift=0.5, recipe="first")
        night(settings)

    model = night(settings)

    assert model.promoted
    assert model.reasons[0].startswith("better beyond noise: loss ")
    assert registry.alias_version(settings, registry.RESPONSE) == "2"


@pytest.mark.slow
def test_a_model_that_fails_on_what_it_was_fitted_to_is_not_promoted_however_good_its_recipe(
    settings, engine, empty_registry, told, monkeypatch
):
    events = histories.records(60)
    histories.store(engine, settings, events[:44])
    night(settings)
    histories.store(engine, settings, events[44:])
    plain = response.fit
    with monkeypatch.context() as patched:
        spoil(patched, shift=1.0, recipe="broken in the registry only")
        patched.setattr(backtest, "fit", plain)
        patched.setattr(comparison, "fit", plain)
        model = night(settings)

    assert not model.promoted
    assert "even on later events that it was fitted to" in model.reasons[0]
    assert len(told) == 1


@pytest.mark.slow
def test_restated_outcomes_are_compared_as_they_are_known_today_and_said(settings, engine, empty_registry, told):
    import sqlalchemy as sa

    histories.store(engine, settings, histories.records(40))
    night(settings)
    with engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE turnout.registration SET quantity = quantity * 3 WHERE tactic_id = 'meta_ads'")
        )

    night(settings)

    refs = {
        str(v.version): models.reference(settings, v, created=False)
        for v in models.versions(settings, registry.RESPONSE)
    }
    found = compare(settings, refs["1"], refs["2"])
    assert any("restated after the champion was made, +" in note for note in found.notes)
    assert found.challenger_side.wape < found.champion_side.wape


@pytest.mark.slow
def test_a_champion_that_this_code_cannot_load_gives_way_to_a_sane_model(
    settings, engine, empty_registry, told, monkeypatch
):
    histories.store(engine, settings, histories.records(12))
    night(settings)
    directory, _ = registry.champion_directory(settings, registry.RESPONSE)
    (directory / "model.ubj").write_bytes(b"of another time")
    monkeypatch.setattr(models, "recipe_fingerprint", lambda: "another")

    found = night(settings)

    assert found.promoted
    assert "the champion cannot serve: model turnout-response version 1 cannot be read" in found.reasons[0]
    assert registry.alias_version(settings, registry.RESPONSE) == "2"


@pytest.mark.slow
def test_a_decision_cut_short_is_made_again(settings, engine, empty_registry, told, monkeypatch):
    histories.store(engine, settings, histories.records(12))
    monkeypatch.setattr(promotion, "_record", _killed)
    with pytest.raises(KeyboardInterrupt):
        night(settings)
    monkeypatch.undo()

    assert night(settings).promoted
    # killed between the alias and the tag: the tag is written the next time, so that a rollback finds the version
    client = registry.client(settings)
    client.delete_model_version_tag(registry.RESPONSE, "1", "promotion")
    night(settings)
    assert client.get_model_version(registry.RESPONSE, "1").tags["promotion"] == "promoted"


def _killed(*_, **__):
    raise KeyboardInterrupt


# --- the demand model -------------------------------------------------------------------------------------------------


def demand_night(settings, until=UNTIL) -> promotion.Decision:
    return promotion.promote_if_better(settings, demand.train(settings, until))


@pytest.mark.slow
def test_demand_models_are_asked_for_the_organic_registrations_of_later_events(settings, engine, empty_registry, told):
    events = histories.records(60, histories.Law(days=500))
    histories.store(engine, settings, events[:44])
    demand_night(settings)
    histories.store(engine, settings, events[44:])

    decision = demand_night(settings)

    [ref] = [v for v in models.versions(settings, registry.DEMAND) if str(v.version) == "2"]
    written = json.loads(models.read_table(settings, ref.run_id, "promotion.json"))
    compared = written["comparison"]
    assert (compared["basis"], compared["test"]["events"]) == ("later", 16)
    assert compared["registered"]["events"] == 16
    assert compared["champion_side"]["mae"] < 15  # of about 30 organic registrations, not of 150 in all
    assert "the same 16 events" in decision.reasons[0]


@pytest.mark.slow
def test_a_demand_model_that_gets_worse_on_later_events_is_refused_and_told(
    settings, engine, empty_registry, told, monkeypatch
):
    events = histories.records(60, histories.Law(days=500))
    histories.store(engine, settings, events[:40])
    demand_night(settings)
    histories.store(engine, settings, events[40:])
    honest = demand.fit_pooling

    def inflated(*arguments, **options):
        pooled = honest(*arguments, **options)
        return replace(pooled, organic=replace(pooled.organic, level=pooled.organic.level + 1.2))

    monkeypatch.setattr(demand, "fit_pooling", inflated)

    decision = demand_night(settings)

    assert not decision.promoted
    assert decision.champion == "1"
    assert "worse" in decision.reasons[0]
    assert "Version 1 goes on serving." in told[-1][1]
    assert demand_night(settings).reasons == ["the data are unchanged, and version 2 was decided on before"]
    assert len(told) == 1
