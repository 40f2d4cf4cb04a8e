"""Pooling of any size: what is fitted to, and what an event's rows share."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training import histories
from tests.training.histories import RATES, Law
from training import pooling
from training.dataset import assemble
from training.pooling import fit_pooling, sampled
from turnout.scoring.effects import ONE


def dataset(count=160, law=None, **changes):
    return assemble(histories.history(histories.records(count, law, **changes)), RATES)


def test_small_histories_are_fitted_whole():
    data = dataset(40)
    assert sampled(data) is data


def test_of_a_large_history_the_latest_events_and_an_even_part_of_the_others_are_fitted(monkeypatch):
    monkeypatch.setattr(pooling, "MOST_POOLED", 60)
    monkeypatch.setattr(pooling, "_LATEST_POOLED", 20)
    monkeypatch.setattr(pooling, "_OF_EACH_TACTIC", 3)
    data = dataset(160)
    part = sampled(data)
    kept = list(part.history.events.index)
    assert 60 <= len(kept) <= 60 + 3 * len(data.rows["tactic_id"].unique())
    assert kept[-20:] == list(data.history.events.index[-20:]), "the latest are all there"
    assert set(part.rows["event_id"]) <= set(kept)
    assert set(part.rows["tactic_id"]) == set(data.rows["tactic_id"]), "no tactic is lost"
    assert kept == list(sampled(data).history.events.index), "twice the same"


def test_a_part_of_the_events_gives_nearly_the_model_of_all(monkeypatch):
    data = dataset(240)
    whole = fit_pooling(data, stretched=False)
    monkeypatch.setattr(pooling, "MOST_POOLED", 150)
    monkeypatch.setattr(pooling, "_LATEST_POOLED", 60)
    part = fit_pooling(data, stretched=False)
    assert len(part.means) == len(whole.means) == len(data.rows), "every row has its mean"
    assert np.abs(np.log(part.means / whole.means)).mean() < 0.08
    assert part.parameters.events == whole.parameters.events, "what the answers rest on is counted whole"
    assert part.parameters.tactics["meta_ads"].events == whole.parameters.tactics["meta_ads"].events


def test_free_texts_without_end_get_no_effects_without_end(monkeypatch):
    monkeypatch.setattr(pooling, "MOST_LEVELS", 5)
    records = histories.records(60)
    for number, event in enumerate(records):
        event["theme"] = f"theme {number % 2 if number < 30 else number}"
    found = fit_pooling(assemble(histories.history(records), RATES), stretched=False)
    assert len(found.parameters.effects["theme"]) <= 5


def test_the_shock_that_an_events_rows_share_is_found():
    calm, wild = (fit_pooling(dataset(160, Law(event_sd=sd)), stretched=False).parameters for sd in (0.02, 0.4))
    assert calm.shared_log_sd < 0.2
    assert 0.3 < wild.shared_log_sd < 0.5


def test_fitted_means_add_up_to_what_came():
    """Luck multiplies: the mode of its logarithm lies below the mean, and a forecast must not."""
    data = dataset(200, Law(event_sd=0.35))
    found = fit_pooling(data, stretched=False)
    assert found.means.sum() / data.rows["y"].sum() == pytest.approx(1.0, abs=0.03)
    assert ONE in found.parameters.effects["organisation"]


def test_past_events_say_how_much_overlap_is_usual():
    found = fit_pooling(dataset(80), stretched=False).parameters.overlap
    assert all(0.4 < left < 1.0 for left in found.usual.values())
