"""Demand index, pacing, show-up and the organic baseline."""

from __future__ import annotations

import math
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from tests.training import histories
from tests.training.histories import RATES, UNTIL, Law
from training import demand
from training.attendance import pacing_curves, show_up_rates
from training.dataset import assemble
from training.outlook import INDEX_RANGE, daily_series, fit_prophet, forecast_index
from training.pooling import fit_pooling
from turnout.scoring.demand import Organic
from turnout.scoring.effects import ORGANIC, EventFacts
from turnout.scoring.published import published_show_up


def fitted(count, law=None, **changes):
    return demand.fit(
        assemble(histories.history(histories.records(count, law), **changes), RATES), UNTIL, country="JP", seed=1
    )


SEGMENTS = ("ai_data", "security")  # with and without events


def usual(organic: Organic) -> float:
    """Organic registrations of an event at usual demand."""
    columns = EventFacts("ai_data", "online|free", UNTIL).columns([ORGANIC])
    return math.exp(organic.log_means(columns, [1.0])[0])


def test_a_season_is_found_and_the_future_follows_it():
    history = histories.history(histories.records(240, Law(season=0.35, days=1095, event_sd=0.05)))
    totals = pd.Series(history.events["registrations"].median(), index=history.events.index)
    outlook = forecast_index(history, totals, {}, cutoff=UNTIL, weeks=52, country="JP", seed=1)
    days = [outlook.first_week + timedelta(weeks=w) for w in range(52)]
    wave = np.array([math.sin(2 * math.pi * d.timetuple().tm_yday / 365) for d in days])
    assert np.corrcoef(outlook.index["all"], wave)[0, 1] > 0.8
    assert (outlook.index["all"].max() - 1) > 0.08
    assert set(outlook.index) == {"all", "ai_data", "cloud", "marketing"}


def test_spend_does_not_look_like_demand():
    events = histories.records(150, Law(season=0.0, days=900))
    history = histories.history(events)
    # spend, and with it registrations, doubled in every spring: expected totals know, so the ratio must not
    spring = history.events["event_date"].dt.month.between(3, 6).to_numpy()
    doubled = history.events.assign(registrations=history.events["registrations"] * np.where(spring, 2.0, 1.0))
    daily = history.daily.assign(
        registrations=history.daily["registrations"]
        * history.daily["event_id"].map(pd.Series(np.where(spring, 2.0, 1.0), index=history.events.index))
    )
    changed = type(history)(doubled, history.tactics, daily, history.until)
    totals = pd.Series(doubled["registrations"].to_numpy(), index=doubled.index)
    series = daily_series(changed, totals, pacing_curves(changed))
    months = pd.DatetimeIndex(series.days).month
    weighted = [np.average(series.ratio[at], weights=series.weight[at]) for at in (months == 5, months == 11)]
    assert weighted[0] == pytest.approx(weighted[1], rel=0.15)


def test_days_without_registrations_are_zeros_while_events_are_open():
    history = histories.history(histories.records(4, Law(days=60)), daily=False)
    kept = history.events.iloc[:1]
    one = type(history)(
        kept,
        history.tactics,
        pd.DataFrame({"event_id": kept.index, "days_before": [5.0], "registrations": [30.0]}),
        UNTIL,
    )
    series = daily_series(one, pd.Series(30.0, index=kept.index), {})
    assert (series.ratio > 0).sum() == 1
    assert len(series.days) > 5


def test_without_a_year_of_history_the_index_stays_at_one():
    trained = fitted(40, Law(days=250))
    assert all(np.allclose(values, 1.0) for values in trained.parameters.index.values())


@pytest.mark.parametrize("count", [0, 1, 3])
def test_sparse_histories_give_published_figures(count):
    trained = fitted(count)
    assert trained.metrics.get("test_events", 0) == 0
    if count:
        assert trained.parameters.events == count
        assert len(trained.parameters.index["all"]) == 104


def test_forecasts_are_made_only_from_earlier_events():
    dataset = assemble(histories.history(histories.records(40, Law(days=480))), RATES)
    whole = demand.fit(dataset, UNTIL, country="JP", seed=1)
    middle = whole.steps[-5]
    past = demand.fit(dataset.before(middle.cutoff), middle.cutoff, country="JP", seed=1)
    assert past.steps[-1].cutoff == middle.cutoff
    weeks = len(middle.outlook.index["all"])
    for segment, values in middle.outlook.index.items():
        assert past.steps[-1].outlook.index[segment][:weeks] == pytest.approx(values, abs=1e-9), segment
    assert past.steps[-1].organic == middle.organic
    with pytest.raises(ValueError, match="past the cutoff"):
        forecast_index(dataset.history, pd.Series(dtype=float), {}, cutoff=middle.cutoff, weeks=4, country="JP", seed=1)


def test_forecasts_stay_within_bounds_when_history_is_wild():
    history = histories.history(histories.records(60))
    wild = history.events["registrations"].to_numpy().copy()
    wild[30] *= 100
    changed = type(history)(history.events.assign(registrations=wild), history.tactics, history.daily.iloc[:0], UNTIL)
    outlook = forecast_index(
        changed, pd.Series(60.0, index=changed.events.index), {}, cutoff=UNTIL, weeks=104, country="JP", seed=1
    )
    for values in outlook.index.values():
        assert np.isfinite(values).all()
        assert values.min() >= INDEX_RANGE[0]
        assert values.max() <= INDEX_RANGE[1]


def test_prophet_takes_days_without_a_zone_and_any_country():
    days = pd.date_range("2025-01-01", periods=40)
    with pytest.raises(ValueError, match="time zone"):
        fit_prophet(pd.Series(1.0, index=days.tz_localize("Asia/Tokyo")), country="JP", seed=1)
    with pytest.raises(ValueError, match="two days"):
        fit_prophet(pd.Series(1.0, index=days[:1]), country="JP", seed=1)
    model = fit_prophet(pd.Series(np.arange(40) % 7 + 1.0, index=days), country="ZZ", seed=1)
    assert model.country_holidays is None


def test_the_index_and_the_baseline_are_measured_on_later_events():
    trained = fitted(70, Law(days=520))
    assert trained.metrics["test_events"] > 40
    assert trained.metrics["wape_events"] < 0.4
    assert trained.metrics["mae_show_up"] <= trained.metrics["mae_show_up_published"] + 0.02
    assert trained.backtest["event_id"].is_unique
    assert usual(trained.parameters.organic) == pytest.approx(30, rel=0.35)


def test_show_up_moves_from_the_published_rate_to_the_own_one():
    few, many = (histories.history(histories.records(n, Law(show_up=0.3))).events for n in (12, 150))
    own = {n: show_up_rates(events)["online|free"] for n, events in (("few", few), ("many", many))}
    published = published_show_up("online|free").mean
    assert 0.3 < own["many"].mean < own["few"].mean < published
    assert own["many"].mean == pytest.approx(0.3, abs=0.05)
    assert own["many"].events > 20
    assert own["many"].alpha + own["many"].beta > published_show_up("online|free").alpha


def test_pacing_moves_from_the_published_curve_to_the_own_one():
    curves = pacing_curves(histories.history(histories.records(120)))
    assert curves["online|free"].expected_share(7) == pytest.approx(math.exp(-0.7), abs=0.07)
    assert pacing_curves(histories.history(histories.records(20), daily=False)) == {}


def test_the_organic_baseline_follows_the_counts_and_the_guess_stands_without_any():
    history = histories.history(histories.records(60, Law(season=0.0)))
    found = fit_pooling(assemble(history, RATES)).organic
    assert usual(found) == pytest.approx(30, rel=0.15)
    known, new = (found.spreads(EventFacts(s, "online|free", UNTIL).columns([ORGANIC]), [s])[0] for s in SEGMENTS)
    assert 0.05 < known < 0.3
    assert known < new
    for counts, wanted in ((np.nan, Organic()), (0.0, None)):
        events = history.events.assign(organic_registrations=counts)
        alone = type(history)(events, history.tactics.iloc[:0], history.daily, UNTIL)
        found = fit_pooling(assemble(alone, RATES)).organic
        if wanted is not None:
            assert found == wanted
        else:
            assert 0 < math.exp(found.level) < 5


def test_the_steps_are_the_same_ones_every_night():
    first = list(demand.cutoffs(date(2025, 1, 10), date(2026, 3, 10)))
    second = list(demand.cutoffs(date(2025, 1, 10), date(2026, 3, 11)))
    assert first[:-1] == second[:-1]
    assert all(d.weekday() == 0 for d in first[:-1])
    assert (first[-1], second[-1]) == (date(2026, 3, 10), date(2026, 3, 11))
