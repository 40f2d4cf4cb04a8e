"""The truth: shapes, dependence on the audience, overlap, lead time, season, and what the organisers make of it."""

from datetime import date, timedelta

import numpy as np
import pytest

from turnout.errors import InputError
from turnout.simulation import calendar
from turnout.simulation.history import (
    EVENT_SHOCK_SD,
    MISLABELLED_SHARE,
    NO_LABEL,
    ORGANIC,
    TACTIC_SHOCK_SD,
    hardness,
    live,
    matured,
)
from turnout.simulation.mechanics import MECHANISMS, Shape, respond
from turnout.simulation.population import FIELDS, KINDS
from turnout.simulation.regret import brief_fields, expectation_of, expected_attendees, expected_total
from turnout.simulation.world import World, WorldConfig, check_vocabularies
from turnout.tactics import load_catalogue

UNTIL = date(2026, 9, 30)


@pytest.fixture(scope="module")
def world():
    return World(WorldConfig(seed=1, until=UNTIL))


@pytest.fixture(scope="module")
def history(world):
    return live(world)


def test_every_tactic_of_the_catalogue_has_a_truth():
    assert {m.id for m in MECHANISMS} == set(load_catalogue().ids)


def test_population_speaks_the_taxonomy():
    check_vocabularies()


def test_at_least_fourteen_tactics_of_four_shapes(history):
    used = {m.id for m, k in zip(MECHANISMS, history.spending.used.sum(axis=0), strict=True) if k >= 5}
    assert len(used) >= 14
    kinds = {(m.shape, m.is_s_shaped) for m in MECHANISMS if m.id in used}
    assert {(Shape.hill, False), (Shape.hill, True), (Shape.capped, False), (Shape.step, False)} <= kinds


def test_true_parameters_are_the_worlds_own(world):
    other = World(WorldConfig(seed=2, until=UNTIL))
    reference = np.array([m.top for m in MECHANISMS])
    assert not np.isclose(world.base_top, reference).any()
    assert not np.isclose(world.base_top, other.base_top).any()


def test_responses_have_the_shape_they_claim():
    x = np.linspace(0, 1_000_000, 2001)
    for m in MECHANISMS:
        paid = m.half > 1000
        grid = x if paid else np.linspace(0, 100, 2001)
        y = respond(
            m.shape, grid, top=m.top, half=m.half, power=m.power, decay=m.decay,
            setup=0.0 if m.shape is Shape.step else 2.0, unit=200_000 if paid else 5, max_units=3,
        )  # fmt: skip
        assert y[0] == 0
        assert (np.diff(y) >= -1e-12).all(), m.id
        curvature = np.diff(y, 2)
        match m.shape:
            case Shape.hill if m.is_s_shaped:
                assert curvature[1] > 0 > curvature[-1], m.id
            case Shape.hill:
                assert (curvature <= 1e-9).all(), m.id
            case Shape.capped:
                assert y[-1] == pytest.approx(m.top)
            case Shape.step:
                assert 1 <= len(np.unique(np.round(y, 9))) - 1 <= 3
            case Shape.listing:
                assert y[grid < 2.0].max(initial=0) == 0
                assert y[grid >= 2.0].min() >= 0.69 * m.top


def test_a_unit_bought_at_its_exact_price_counts(world):
    event = world.events[0]
    early = event.date - timedelta(days=60)
    for tactic in ("paid_newsletter", "influencer", "own_email", "connpass"):
        t = world.position(tactic)
        price = world.prices.unit[t] if world.prices.is_paid[t] else world.prices.setup[t] + world.prices.unit[t]
        nothing, one = world.true_expectation(event, tactic, [0.9 * world.prices.setup[t] * 0.9, price], early)
        assert one > 0
        assert nothing == 0


def test_parameters_depend_on_audience_and_theme(world):
    spread = np.log(world.top / world.base_top).std(axis=0)
    assert (spread > 0.2).all()
    marketing = [e.index for e in world.events if e.category == "marketing"]
    themes = {world.events[i].theme for i in marketing}
    assert len(themes) > 1
    assert world.audience_effect[marketing].std(axis=0).min() > 0.05


def test_season_swings_a_quarter_and_holidays_weigh():
    year = np.arange(np.datetime64("2026-01-01"), np.datetime64("2027-01-01"))
    season = calendar.season(year)
    assert season.min() == pytest.approx(0.75, abs=0.001)
    assert season.max() == pytest.approx(1.25, abs=0.001)
    near = calendar.rest_days_near(np.array(["2026-05-07", "2026-06-10"], dtype="datetime64[D]"))
    assert near[0] >= 3 > near[1] == 0
    weights = calendar.day_weights(np.array(["2026-05-04", "2026-06-10"], dtype="datetime64[D]"))
    assert weights[0] < weights[1] / 2  # Greenery Day, a Monday


def test_events_take_place_on_business_days_within_the_period(world):
    days = np.array([e.date for e in world.events], dtype="datetime64[D]")
    assert np.is_busday(days, holidays=calendar.rest_days(date(2024, 1, 1), UNTIL)).all()
    assert days.min() >= np.datetime64(world.config.first)
    assert days.max() <= np.datetime64(UNTIL)
    assert (np.diff(days.astype(int)) >= 0).all()


def test_codes_and_names_are_unique_and_no_name_contains_another():
    world = World(WorldConfig(seed=3, until=UNTIL, events=600))
    names = [e.name for e in world.events]
    assert len(set(names)) == len({e.code for e in world.events}) == 600
    longer = sorted(set(names), key=len)
    assert not any(a != b and a in b for a in longer[:200] for b in longer)


def test_tactics_that_share_an_audience_lose_registrations_to_each_other(world):
    event = world.events[10]
    both = expectation_of(world, event, {"meta_ads": 800_000, "google_display": 800_000, "own_email": 5})
    assert both.tactics.sum() < both.alone.sum()
    apart = sum(
        expectation_of(world, event, {t: x}).tactics.sum()
        for t, x in (("meta_ads", 800_000), ("google_display", 800_000), ("own_email", 5))
    )
    assert both.tactics.sum() < apart


def test_more_of_anything_never_brings_fewer(world):
    rng = np.random.default_rng(0)
    for _ in range(50):
        amount = rng.uniform(0, 1, (2, len(world.tactics))) * np.where(world.prices.is_paid, 500_000, 20)
        amount[1] = amount[0]
        t = int(rng.integers(len(world.tactics)))
        amount[1, t] *= 1.5
        totals = world.expectation(np.full(2, int(rng.integers(len(world.events)))), amount).total
        assert totals[1] >= totals[0] - 1e-9


def test_dependent_tactics_need_the_others(world):
    event = world.events[5]
    alone = expectation_of(world, event, {"referral": 5}).tactics.sum()
    with_ads = expectation_of(world, event, {"referral": 5, "meta_ads": 900_000, "own_email": 5})
    assert with_ads.tactics[0, world.position("referral")] > alone


def test_starting_late_costs_and_starting_after_the_event_brings_nothing(world):
    event = world.events[20]
    days = [event.date - timedelta(days=d) for d in (60, 10, 3, 0, -1)]
    brought = [float(world.true_expectation(event, "linkedin_ads", 300_000, day)) for day in days]
    assert brought[0] > brought[1] > brought[2] > brought[3] == brought[4] == 0


def test_one_tactic_in_ten_changes_efficiency_within_each_year(world):
    share = hardness(live(world))["changing_share"]
    assert share >= 0.10
    change = world.changes[-1]
    days = np.array([change.day - timedelta(days=1), change.day], dtype="datetime64[D]")
    before, after = world.efficiency(days, world.position(change.tactic))
    assert after / before == pytest.approx(change.factor)
    assert abs(np.log(change.factor)) >= 0.3


def test_event_expectation_is_the_tactics_and_the_baseline(world, history):
    amount, starts = history.spending.amount, history.spending.starts.astype(float)
    again = world.expectation(np.arange(len(world.events)), amount, starts)
    np.testing.assert_allclose(again.total, history.expected.total)
    index = 7
    portfolio = {t: x for t, x in zip(world.tactics, amount[index], strict=True) if x}
    begun = {
        t: world.events[index].date - timedelta(days=int(d))
        for t, d in zip(world.tactics, history.spending.starts[index], strict=True)
    }
    assert expected_total(world, index, portfolio, begun) == pytest.approx(history.expected.total[index])
    assert 0 < expected_attendees(world, index, portfolio) < expected_total(world, index, portfolio)


def test_questions_about_what_is_not_there_are_refused(world):
    with pytest.raises(KeyError, match="no tactic 'tiktok'"):
        expected_total(world, 0, {"tiktok": 1})
    with pytest.raises(KeyError, match="no event"):
        expected_total(world, "EV1999-001", {})
    with pytest.raises(ValueError, match="zero or more"):
        expected_total(world, 0, {"meta_ads": -1})
    with pytest.raises(InputError) as refused:
        WorldConfig(seed=1, until=UNTIL, events=0, months=1)
    assert len(refused.value.problems) == 2


def test_a_simulated_event_makes_a_valid_brief(world):
    from turnout.brief import Brief

    brief = Brief.model_validate(brief_fields(world, 3, target=200, budget=1_000_000))
    assert brief.event.category == world.events[3].category
    assert brief.as_of is not None
    assert brief.as_of < brief.event.date


# --- hardness -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def histories():
    return [live(World(WorldConfig(seed=seed, until=UNTIL))) for seed in range(1, 9)]


def test_spend_is_confounded_with_demand(histories):
    assert min(hardness(h)["spend_demand_correlation"] for h in histories) >= 0.5


def test_shocks_are_as_large_as_said(histories):
    event = np.concatenate([np.log(h.event_shock) for h in histories])
    tactic = np.concatenate([np.log(h.tactic_shock[h.spending.used]) for h in histories])
    assert event.std() == pytest.approx(EVENT_SHOCK_SD, rel=4 / np.sqrt(2 * event.size))
    assert tactic.std() == pytest.approx(TACTIC_SHOCK_SD, rel=4 / np.sqrt(2 * tactic.size))
    assert EVENT_SHOCK_SD >= 0.10
    assert TACTIC_SHOCK_SD >= 0.25


def test_counts_scatter_around_the_expectation_as_shocks_and_poisson_say(histories):
    expected = np.concatenate([h.expected.tactics[h.spending.used] for h in histories])
    count = np.concatenate([h.tactic_count[h.spending.used] for h in histories])
    shock = np.exp(EVENT_SHOCK_SD**2 + TACTIC_SHOCK_SD**2) - 1
    standard = (count - expected) / np.sqrt(expected + shock * expected**2)
    assert abs(standard.mean()) < 0.05
    assert standard.std() == pytest.approx(1.0, abs=0.05)


def test_one_registration_in_twenty_has_no_source_or_a_wrong_one(histories):
    for h in histories:
        who = h.registrations
        wrong = who.label != who.tactic
        assert wrong.mean() >= MISLABELLED_SHARE
        assert wrong.mean() == pytest.approx(MISLABELLED_SHARE, abs=0.001)
        assert 0.4 < (who.label[wrong] == NO_LABEL).mean() < 0.6
        assert (who.label[~wrong & (who.tactic == ORGANIC)] == ORGANIC).all()


def test_platforms_claim_thirty_per_cent_too_much(histories):
    for h in histories:
        assert hardness(h)["claim_ratio"] == pytest.approx(1.30, abs=0.01)
        assert (h.ads.claimed >= 0).all()


def test_claims_grow_as_the_clicks_age():
    claimed = np.array([0.0, 0.07, 1.0, 12.34, 500.0])
    for fractional in (True, False):
        shown = np.stack([matured(claimed, np.full(5, age), fractional=fractional) for age in range(45)])
        assert (np.diff(shown, axis=0) >= 0).all()
        np.testing.assert_array_equal(shown[30], claimed)
        assert shown[0].sum() < 0.5 * claimed.sum()


def test_audiences_overlap(histories):
    assert min(hardness(h)["overlap_share"] for h in histories) > 0.05


def test_registrations_come_before_the_event_and_after_the_opening(history):
    world, who = history.world, history.registrations
    ahead = (world.dates[who.event] - who.day).astype(int)
    assert ahead.min() >= 0
    assert (ahead <= world.opens_before[who.event]).all()
    assert 0.25 < (ahead <= 7).mean() < 0.65  # about half in the last week
    counted = np.bincount(who.event[who.is_confirmed], minlength=len(world.events))
    np.testing.assert_array_equal(counted, history.total_count)
    assert (who.attended[~who.is_confirmed] == -1).all()


def test_more_of_the_paid_and_offline_events_show_up(histories):
    rates = {"offline": [], "online": []}
    for h in histories:
        who = h.registrations
        for kind, found in rates.items():
            free = np.array([e.format == kind and e.price == 0 for e in h.world.events])
            known = (who.attended >= 0) & free[who.event]
            found.append((who.attended[known] == 1).mean())
    assert np.mean(rates["offline"]) > np.mean(rates["online"]) + 0.1


def test_daily_spend_adds_up_to_what_was_spent(history):
    world = history.world
    daily = np.zeros(history.spend.shape)
    np.add.at(daily, (history.ads.event, history.ads.tactic), history.ads.spend)
    on_platforms = [world.position(t) for t in ("google_search", "meta_ads", "meta_traffic", "linkedin_ads", "youtube")]
    np.testing.assert_allclose(daily[:, on_platforms], history.spend[:, on_platforms], atol=1e-6)
    clicks = np.zeros(history.clicks.shape, dtype=int)
    np.add.at(clicks, (history.ads.event, history.ads.tactic), history.ads.clicks)
    assert (history.ads.clicks <= history.ads.impressions).all()
    assert (clicks <= history.clicks).all()


def test_a_tactics_label_is_not_read_out_of_most_event_names():
    """Some are: 営業 names a tactic too. A team's events do not avoid such words, so neither does the world."""
    catalogue = load_catalogue()
    names = [theme + kind for f in FIELDS for theme in f.themes for kinds in KINDS.values() for kind in kinds]
    assert 0 < sum(catalogue.match(name) is not None for name in names) < len(names) / 8
