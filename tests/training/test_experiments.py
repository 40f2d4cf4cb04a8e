"""Lift tests reach the tactic's level, as far as they were precise, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pytest

from tests.training import histories
from tests.training.histories import RATES, UNTIL, Law
from training import experiments, response
from training.dataset import assemble, build
from training.estimator import fit
from training.experiments import TRUST, observations, with_benchmark
from training.pooling import fit_pooling
from turnout import lift
from turnout.lift import LiftTest

ADS = LiftTest(
    "half the regions", "meta_ads", "region", date(2026, 5, 1), date(2026, 5, 31), 500, 500, 900, 500,
    spend=Decimal(150_000), currency="JPY", segment_id="cloud",
)  # fmt: skip
MAIL = LiftTest("half the list", "own_email", "list", date(2026, 6, 1), date(2026, 6, 1), 4000, 6000, 120, 60)


@pytest.fixture
def stored(engine, settings):
    with engine.begin() as connection:
        lift.save(connection, settings.organisation, [ADS, MAIL], RATES)


def test_a_test_is_told_as_if_everybody_had_been_treated(settings, engine, stored):
    found = observations(settings, UNTIL).set_index("tactic_id")
    ads, mail = found.loc["meta_ads"], found.loc["own_email"]
    assert (ads["x"], ads["y"]) == (300_000, 800)
    assert mail["y"] == (120 - 60 * 4000 / 6000) * 10_000 / 4000
    assert np.isnan(mail["x"]), "nobody wrote the hours down"
    assert (ads["segment_id"], mail["segment_id"]) == ("cloud", "")
    assert ads["sd"] == pytest.approx(2 * lift.measure(ADS).sd)
    assert 0 < ads["log_sd"] < 1
    assert 0 < ads["weight"] < mail["weight"] <= TRUST, "areas tell less"
    assert observations(settings, date(2026, 6, 1))["tactic_id"].tolist() == ["meta_ads"]


def test_no_lift_or_less_than_none_is_a_count_of_zero_with_its_uncertainty(settings, engine):
    with engine.begin() as connection:
        lift.save(connection, settings.organisation, [replace(MAIL, treated_registrations=10)], RATES)
    [row] = observations(settings, UNTIL).to_dict("records")
    assert row["y"] == 0
    assert row["sd"] > 0
    assert np.isfinite([row["log_sd"], row["weight"]]).all()


def lifts_of(*tests: LiftTest):
    stored = [
        lift.Stored(t.test_id("o"), t, lift.measure(t), float(t.spend) if t.spend else None, "JPY") for t in tests
    ]
    return with_benchmark(experiments.as_frame(stored), RATES)


def levels(dataset, *tests: LiftTest) -> dict[str, float]:
    """The tactic effects that the pooled fit finds with these tests."""
    pooled = fit_pooling(replace(dataset, lifts=lifts_of(*tests)), stretched=False)
    return pooled.parameters.table.effects["tactic"]


def test_a_test_moves_its_tactic_and_hardly_any_other():
    dataset = assemble(histories.history(histories.records(12, Law(tactic_sd=0.4))), RATES)
    before, after = levels(dataset), levels(dataset, ADS)
    assert before["meta_ads"] + 0.05 < after["meta_ads"]
    for other in ("own_email", "google_search", "partner"):
        assert abs(after[other] - before[other]) < 0.5 * (after["meta_ads"] - before["meta_ads"]), other


def test_what_was_measured_sharply_counts_more_and_much_history_moves_less():
    dataset = assemble(histories.history(histories.records(12, Law(tactic_sd=0.4))), RATES)
    base = levels(dataset)["meta_ads"]
    blunt = replace(ADS, treated_registrations=500, control_registrations=480)
    assert levels(dataset, ADS)["meta_ads"] > base > levels(dataset, blunt)["meta_ads"]
    much = assemble(histories.history(histories.records(150, Law(tactic_sd=0.4))), RATES)
    moved = [levels(d, ADS)["meta_ads"] - levels(d)["meta_ads"] for d in (dataset, much)]
    assert 0 < moved[1] < moved[0] / 2


def test_a_tactic_known_from_an_experiment_alone_leaves_its_benchmark():
    dataset = assemble(histories.history(histories.records(12, Law(levels={"own_email": 1.0}))), RATES)
    found = levels(dataset, ADS)
    assert found["meta_ads"] > 0.1
    fitted = fit(replace(dataset, lifts=lifts_of(ADS)), seed=1, threads=1)
    assert "meta_ads" not in fitted.parameters.tactics, "an experiment is no event"
    assert fitted.parameters.table.effects["tactic"]["meta_ads"] > 0.1


def test_without_any_event_an_experiment_speaks_alone():
    dataset = assemble(histories.history([]), RATES)
    pooled = fit_pooling(replace(dataset, lifts=lifts_of(ADS)))
    assert np.isfinite(pooled.parameters.table.effects["tactic"]["meta_ads"])


def test_stretched_audiences_and_trees_go_on_as_before():
    dataset = assemble(histories.history(histories.records(60)), RATES)
    fitted = fit(replace(dataset, lifts=lifts_of(ADS, MAIL)), seed=1, threads=1)
    means = fitted.means(dataset)
    assert means.shape == (len(dataset.rows),)
    assert np.isfinite(means).all()
    assert (means > 0).all()


def test_a_backtest_knows_only_the_tests_that_were_over():
    dataset = replace(assemble(histories.history(histories.records(20)), RATES), lifts=lifts_of(ADS, MAIL))
    assert len(dataset.before(date(2026, 6, 1)).lifts) == 1
    assert len(dataset.before(date(2026, 5, 31)).lifts) == 0
    assert len(dataset.subset(np.zeros(len(dataset.rows), dtype=np.bool_)).lifts) == 2


@pytest.mark.slow
def test_a_new_test_makes_a_new_model_and_the_same_tests_make_none(settings, engine, empty_registry):
    histories.store(engine, settings, histories.records(15))
    first = response.train(settings, UNTIL)
    with engine.begin() as connection:
        lift.save(connection, settings.organisation, [ADS], RATES)
    second = response.train(settings, UNTIL)
    assert (second.version, second.created) == ("2", True)
    assert not response.train(settings, UNTIL + timedelta(days=1)).created
    with engine.begin() as connection:
        lift.undo(connection, settings.organisation)
    again = response.train(settings, UNTIL)
    assert (again.version, again.created) == (first.version, False)
    assert build(settings, UNTIL).lifts.empty
