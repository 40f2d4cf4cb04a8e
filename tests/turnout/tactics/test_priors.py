"""Prior curves: what the benchmarks say of a tactic in one brief."""

from datetime import date
from decimal import Decimal

import numpy as np
import pytest

from turnout.brief import Assets, Audience, Brief, Event, Goal, Money
from turnout.curves import CappedLinear, Hill, Step
from turnout.money import Rates
from turnout.plan import Evidence
from turnout.tactics import load_catalogue
from turnout.tactics.priors import PriorCurve, prior_curve

CATALOGUE = load_catalogue()
JPY = Rates({"USD": 150.0, "EUR": 163.0})


def brief(*, fmt="offline", price=0, assets=None, audience=None, as_of=None, target=200) -> Brief:
    return Brief(
        event=Event(
            name="AI Summit",
            date=date(2026, 12, 10),
            category="ai_data",
            format=fmt,
            price=Money(amount=Decimal(price)),
            audience=audience or Audience(),
        ),
        goal=Goal(target=target),
        budget=Money(amount=Decimal(500_000)),
        assets=assets or Assets(),
        as_of=as_of,
    )


def prior(tactic_id: str, rates: Rates = JPY, **kwargs) -> PriorCurve:
    return prior_curve(CATALOGUE.get(tactic_id), brief(**kwargs), rates)


@pytest.mark.parametrize("tactic", CATALOGUE.tactics, ids=lambda t: t.id)
def test_every_tactic_has_a_rising_finite_curve_with_evidence(tactic):
    curve = prior_curve(tactic, brief(), JPY)
    x = np.linspace(0, 2e6 if tactic.is_paid else 60, 50)
    y = curve.curve(x)
    assert np.isfinite(y).all()
    assert (np.diff(y) >= 0).all()
    assert y[0] == 0 < y[-1]
    assert 0.3 < curve.log_sd < 2
    assert curve.evidence in (Evidence.benchmark, Evidence.guess)
    assert curve.source_text


def test_an_auctions_first_registration_costs_the_published_price():
    curve = prior("linkedin_ads").curve
    assert isinstance(curve, Hill)
    assert 1 / curve.slope(0.0) == pytest.approx(79 * 150)


def test_a_click_price_is_divided_by_its_conversion_rate():
    assert 1 / prior("yahoo_search").curve.slope(0.0) == pytest.approx(350 / 0.05)


def test_an_impression_price_is_per_thousand():
    curve = prior("retargeting", assets=Assets(site_visitors=5000)).curve
    assert isinstance(curve, CappedLinear)
    cpm, ctr, cvr = 150 * (3 * 8) ** 0.5, (0.007 * 0.012) ** 0.5, (0.03 * 0.10) ** 0.5
    assert 1 / curve.slope(0.0) == pytest.approx(cpm / 1000 / (ctr * cvr))


def test_only_published_figures_make_a_benchmark():
    assert prior("google_search").evidence is Evidence.benchmark
    assert prior("meta_ads").evidence is Evidence.guess


def test_own_email_follows_the_list_and_tires_it():
    curve = prior("own_email", assets=Assets(email_list=10_000))
    assert isinstance(curve.curve, Step)
    assert curve.curve.levels == pytest.approx((60, 90, 105))
    assert curve.unit_at == pytest.approx((3.5, 5.0, 6.5))
    assert curve.units(5.2) == 2
    assert curve.assumptions == ()


def test_an_unknown_asset_gets_the_typical_size_and_says_so():
    curve = prior("own_email")
    assert "email_list is not known" in curve.assumptions[0]
    assert curve.curve.maximum == pytest.approx(3000 * 0.006 * 1.75)


def test_an_asset_known_to_be_empty_brings_nothing():
    empty = {"own_email": "email_list", "partner": "partners", "retargeting": "site_visitors",
             "sales_invite": "sales_contacts"}  # fmt: skip
    for tactic, asset in empty.items():
        assets = Assets.model_validate({asset: 0})
        curve = prior(tactic, assets=assets)
        assert curve.curve.maximum == 0
        assert curve.curve(1000.0) == 0


def test_the_number_of_partners_is_the_number_of_units():
    assert prior("partner", assets=Assets(partners=3)).units(1e9) == 3


def test_sales_invitations_take_time_each_until_the_contacts_are_used_up():
    curve = prior("sales_invite", assets=Assets(sales_contacts=50)).curve
    assert isinstance(curve, CappedLinear)
    assert curve(1.0) == 0
    assert curve(1 + 50 * 0.2) == pytest.approx(50 * 0.12) == curve.maximum


def test_online_reaches_further_at_the_same_cost():
    offline, online = prior("meta_ads").curve, prior("meta_ads", fmt="online").curve
    assert online.maximum == pytest.approx(1.5 * offline.maximum)
    assert online.slope(0.0) == pytest.approx(offline.slope(0.0))


def test_a_ticket_price_halves_the_response_at_three_thousand_yen():
    assert prior("meta_ads", price=3000).curve(1e5) == pytest.approx(prior("meta_ads").curve(1e5) / 2)
    assert prior("own_email", price=50_000).curve.maximum < 0.1 * prior("own_email").curve.maximum


def test_a_narrow_audience_saturates_sooner_but_never_below_the_floor():
    narrow = Audience(industries=["manufacturing"], job_titles=[], company_sizes=[])
    one = prior("meta_ads", audience=narrow).curve
    assert one.maximum == pytest.approx(0.25 * prior("meta_ads").curve.maximum)
    assert one.slope(0.0) == pytest.approx(prior("meta_ads").curve.slope(0.0))


def test_less_time_means_less_reach_and_fewer_sends():
    late = date(2026, 12, 5)
    assert prior("meta_ads", as_of=late).curve.maximum < prior("meta_ads").curve.maximum
    assert prior("own_email", as_of=late).units(1e9) == 1
    assert prior("own_email", as_of=date(2026, 11, 1)).units(1e9) == 3


def test_amounts_follow_the_base_currency():
    dollars = Rates({"USD": 150.0}, base="USD")
    yen, usd = prior("meta_ads").curve, prior("meta_ads", dollars).curve
    assert usd(1000.0) == pytest.approx(yen(150_000.0))
    assert prior("pr_release", dollars).unit_at[0] == pytest.approx(200)


def test_a_referral_counts_on_the_target():
    assert prior("referral", target=400).curve.maximum == pytest.approx(2 * prior("referral", target=200).curve.maximum)
