"""Where an event stands, what it will come to, and what may still be decided."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from turnout.brief import Brief, Money
from turnout.errors import InputError
from turnout.money import Rates
from turnout.plan import Allocation, Evidence, Interval, Optimality, Plan, Totals
from turnout.replan import CONCENTRATION, Actuals, concentration_of, replan
from turnout.scoring.published import published_pacing
from turnout.scoring.types import Pacing, ShowUp
from turnout.tactics import load_catalogue
from turnout.timetable import Part, portfolio_schedule

EVENT = date(2026, 12, 16)
MADE = date(2026, 11, 1)
PACING = published_pacing("online|free")
CATALOGUE = load_catalogue()
RATES = Rates({"JPY": 1.0, "USD": 150.0})
SPEND = {"meta_ads": 210_000, "own_email": 0, "pr_release": 60_000, "retargeting": 30_000}
MEANS = {"meta_ads": 60.0, "own_email": 50.0, "pr_release": 15.0, "retargeting": 15.0}


def yen(amount: float) -> Money:
    return Money(amount=Decimal(str(amount)), currency="JPY")


def some(mean: float, log_sd: float = 0.3) -> Interval:
    low, high = mean * np.exp(-1.28 * log_sd), mean * np.exp(1.28 * log_sd)
    return Interval(mean=mean, p10=low, p50=mean, p90=high)


def plan(target: int = 200, metric: str = "registrations", language: str = "en", **brief: object) -> Plan:
    """200 registrations: 140 by tactics, 60 by themselves."""
    parts = [Part(CATALOGUE.get(t), Decimal(s), len(CATALOGUE.get(t).send_days) or None, 5.0) for t, s in SPEND.items()]
    timings = portfolio_schedule(parts, EVENT, MADE, "Asia/Tokyo", currency="JPY", pacing=PACING, rates=RATES).timings
    return Plan(
        plan_id=UUID(int=1), created_at=datetime(2026, 11, 1, tzinfo=UTC),
        brief=Brief.model_validate({
            "event": {"name": "会", "date": EVENT, "category": "cloud", "format": "online"},
            "goal": {"target": target, "metric": metric}, "budget": {"amount": 400_000}, "staff_hours": 40,
            "language": language, **brief,
        }),
        allocations=[
            Allocation(
                tactic=t, name=t, channel=CATALOGUE.get(t).channel, is_paid=CATALOGUE.get(t).is_paid, spend=yen(s),
                staff_hours=5, starts=timings[t].window.starts, ends=timings[t].window.ends,
                registrations=some(MEANS[t]), evidence=Evidence.guess, evidence_source="guess",
                daily_spend=list(timings[t].daily_spend), sends=list(timings[t].sends),
            )
            for t, s in SPEND.items()
        ],
        skipped=[],
        totals=Totals(
            spend=yen(300_000), unspent=yen(100_000), staff_hours=20, organic_registrations=some(60),
            registrations=some(200), attendees=some(100), show_up_rate=0.5, goal_probability=0.45,
        ),
        optimality=Optimality(expected_registrations=140, upper_bound=140, gap=0), models=[],
    )  # fmt: skip


def expected_by(day: date, total: float = 200.0) -> int:
    return round(total * PACING.expected_share((EVENT - day).days + 1))


def at(day: date, registrations: int, answer: Plan | None = None, **options: object):
    spend = options.pop("spend", {})
    actuals = Actuals(registrations=registrations, spend=spend)
    return replan(answer or plan(), actuals, day, PACING, shared_log_sd=0.3, rates=RATES, **options)


def test_an_event_as_expected_stands_in_the_middle_and_keeps_its_forecast():
    day = EVENT - timedelta(days=6)
    found = at(day, expected_by(day))
    assert found.standing.status == "on_track"
    assert 0.35 < found.standing.percentile < 0.65
    assert found.luck.mean == pytest.approx(1.0, abs=0.06)
    assert found.registrations.mean == pytest.approx(200, rel=0.06)
    assert found.days_left == 6


@pytest.mark.parametrize(("factor", "status"), [(0.4, "behind"), (2.0, "ahead")])
def test_far_from_expected_moves_luck_and_total_the_same_way(factor, status):
    day = EVENT - timedelta(days=6)
    found = at(day, round(expected_by(day) * factor))
    assert found.standing.status == status
    assert (found.luck.mean > 1) == (factor > 1)
    assert (found.registrations.mean > 200) == (factor > 1)
    assert (found.goal_probability > 0.5) == (factor > 1)


def test_the_same_shortfall_means_little_early_and_much_late():
    early, late = EVENT - timedelta(days=24), EVENT - timedelta(days=2)
    found = [at(d, round(expected_by(d) * 0.6)) for d in (early, late)]
    assert 1 - found[0].luck.mean < 1 - found[1].luck.mean
    assert found[1].luck.log_sd < found[0].luck.log_sd < 0.3


def test_before_anything_is_expected_nothing_is_concluded():
    found = at(EVENT - timedelta(days=57), 0)
    assert found.standing.status == "too_early"
    assert found.luck.mean == pytest.approx(1.0, abs=1e-3)
    assert found.luck.log_sd == pytest.approx(0.3, abs=0.01)
    assert "Too early" in found.summary("en")


def test_the_posterior_is_that_of_the_model_itself():
    """Against plain simulation: draw luck, share and count; keep the draws with the count that was seen."""
    rng = np.random.default_rng(0)
    day, y = EVENT - timedelta(days=6), 70
    share = PACING.expected_share(7)
    luck = np.exp(rng.normal(-0.045, 0.3, 2_000_000))
    came = rng.beta(CONCENTRATION * share, CONCENTRATION * (1 - share), luck.size)
    kept = rng.poisson(200 * luck * came) == y
    final = y + rng.poisson(200 * luck[kept] * (1 - came[kept]))
    found = at(day, y)
    assert found.luck.mean == pytest.approx(luck[kept].mean(), rel=0.01)
    assert found.luck.p10 == pytest.approx(np.quantile(luck[kept], 0.1), rel=0.02)
    assert found.registrations.mean == pytest.approx(final.mean(), rel=0.01)
    for q, ours in ((0.1, found.registrations.p10), (0.9, found.registrations.p90)):
        assert ours == pytest.approx(np.quantile(final, q), rel=0.02)
    assert found.goal_probability == pytest.approx((final >= 200).mean(), abs=0.02)


def test_intervals_hold_the_end_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    answer, day, inside, low = plan(), EVENT - timedelta(days=8), 0, 0
    share = PACING.expected_share(9)
    for _ in range(120):
        luck, came = np.exp(rng.normal(-0.045, 0.3)), rng.beta(25 * share, 25 * (1 - share))
        y = int(rng.poisson(200 * luck * came))
        final = y + int(rng.poisson(200 * luck * (1 - came)))
        found = at(day, y, answer).registrations
        inside += found.p10 <= final <= found.p90
        low += final < found.p10
    assert 0.7 <= inside / 120 <= 0.9
    assert low / 120 <= 0.18


def test_what_was_not_spent_yet_explains_missing_registrations():
    day = EVENT - timedelta(days=6)
    few = round(expected_by(day) * 0.75)
    late = at(day, few, spend={"meta_ads": yen(10_000)})
    on_time = at(day, few, spend={"meta_ads": yen(120_000)})
    assert late.standing.percentile > on_time.standing.percentile
    assert late.luck.mean > on_time.luck.mean


def test_money_and_hours_that_are_left():
    day = EVENT - timedelta(days=6)
    spend = {"Facebook広告": Money(amount=Decimal(400), currency="USD"), "pr_release": yen(60_000)}
    actuals = Actuals(registrations=90, spend=spend, staff_hours={"own_email": 4.0, "pr_release": 5.0})
    found = replan(plan(), actuals, day, PACING, shared_log_sd=0.3, rates=RATES)
    assert (found.spent, found.remaining, found.overspent) == (yen(120_000), yen(280_000), False)
    assert found.committed == {"meta_ads": yen(60_000), "pr_release": yen(60_000)}
    assert found.staff_hours_left == 31.0
    assert found.brief.staff_hours == 35.0, "the hours of what is over are gone"


def states(found) -> dict[str, str]:
    return {s.tactic: s.state for s in found.tactics}


def test_every_tactic_has_a_state():
    found = at(EVENT - timedelta(days=6), 90, spend={"meta_ads": yen(60_000), "pr_release": yen(60_000)})
    now = states(found)
    assert (now["meta_ads"], now["pr_release"], now["own_email"]) == ("running", "over", "running")
    assert (now["media_article"], now["own_email_last"], now["google_search"]) == ("too_late", "can_start", "can_start")
    by_id = {s.tactic: s for s in found.tactics}
    assert by_id["media_article"].last_start < EVENT - timedelta(days=6)
    assert by_id["meta_ads"].planned == yen(210_000)
    assert 0 < by_id["meta_ads"].planned_to_date.amount < 210_000
    early = states(at(date(2026, 11, 10), 0, plan(constraints=[{"tactic": "x_ads", "exclude": True}])))
    assert (early["meta_ads"], early["x_ads"], early["google_search"]) == ("planned", "excluded", "can_start")


def test_the_brief_holds_fast_what_is_spent():
    rules = [{"tactic": "x_ads", "exclude": True}, {"tactic": "meta_ads", "maximum": {"amount": 50_000}}]
    answer = plan(constraints=rules)
    day = EVENT - timedelta(days=6)
    brief = at(day, 90, answer, spend={"meta_ads": yen(60_000), "pr_release": yen(60_000)}).brief
    held = {r.tactic: r for r in brief.constraints}
    assert brief.as_of == day
    assert brief.budget == yen(400_000)
    assert held["pr_release"].lock == yen(60_000)
    assert (held["meta_ads"].minimum, held["meta_ads"].maximum) == (yen(60_000), yen(60_000))
    assert held["x_ads"].exclude
    assert Brief.model_validate(brief.model_dump()) == brief


def test_what_was_spent_on_an_excluded_tactic_is_locked():
    answer = plan(constraints=[{"tactic": "x_ads", "exclude": True}])
    brief = at(EVENT - timedelta(days=6), 90, answer, spend={"x_ads": yen(20_000)}).brief
    assert next(r for r in brief.constraints if r.tactic == "x_ads").lock == yen(20_000)


def test_what_is_over_without_money_is_not_done_again():
    brief = at(EVENT - timedelta(days=1), 150).brief
    mail = next(r for r in brief.constraints if r.tactic == "own_email")
    assert mail.exclude


def test_more_spent_than_the_budget_is_said_and_can_still_be_planned():
    found = at(EVENT - timedelta(days=6), 90, spend={"meta_ads": yen(500_000)})
    assert found.overspent
    assert found.remaining == yen(0)
    assert found.brief.budget == yen(500_000)
    assert "More is spent" in found.summary("en")
    assert "超えて" in found.summary("ja")


def test_the_course_by_day_ends_with_what_is_expected():
    day = EVENT - timedelta(days=6)
    by_day = {day - timedelta(days=d): 3 for d in range(1, 21)}
    found = replan(plan(), Actuals.of(by_day), day, PACING, shared_log_sd=0.3, rates=RATES)
    assert found.track[-1].date == EVENT
    assert found.track[-1].expected == pytest.approx(200)
    known = {p.date: p.actual for p in found.track if p.actual is not None}
    assert known[day - timedelta(days=1)] == 60
    assert day not in known
    assert all(p.p10 <= p.p90 for p in found.track)
    assert [p.expected for p in found.track] == sorted(p.expected for p in found.track)


def test_attendees_count_where_they_are_the_goal():
    day = EVENT - timedelta(days=2)
    answer = plan(target=100, metric="attendees")
    certain = at(day, 190, answer, show_up=ShowUp(900, 100))
    seldom = at(day, 190, answer, show_up=ShowUp(100, 900))
    assert certain.goal_probability > 0.99
    assert seldom.goal_probability < 0.01
    assert certain.attendees.mean == pytest.approx(certain.registrations.mean * 0.9)


def test_on_the_events_own_day_hardly_anything_is_open():
    found = at(EVENT, 180)
    assert found.days_left == 0
    assert found.registrations.p10 >= 180


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.integers(0, 2000), st.integers(0, 80), st.floats(0, 1.5), st.floats(2, 500))
def test_any_state_has_an_answer_that_makes_sense(registrations, ahead, log_sd, concentration):
    actuals = Actuals(registrations=registrations)
    day = EVENT - timedelta(days=ahead)
    found = replan(PLAN, actuals, day, PACING, shared_log_sd=log_sd, concentration=concentration, rates=RATES)
    total = found.registrations
    assert registrations <= total.p10 <= total.p50 <= total.p90
    assert total.mean >= registrations
    assert 0 <= found.standing.percentile <= 1
    assert found.luck.p10 <= found.luck.p50 <= found.luck.p90
    again = replan(PLAN, actuals, day, PACING, shared_log_sd=log_sd, concentration=concentration, rates=RATES)
    assert found == again


PLAN = plan()


def test_what_cannot_be_is_refused_all_at_once():
    spend = {"skywriting": yen(1), "meta_ads": Money(amount=Decimal(1), currency="CHF")}
    actuals = Actuals(registrations=1, until=EVENT + timedelta(days=9), spend=spend)
    with pytest.raises(InputError) as caught:
        replan(PLAN, actuals, EVENT + timedelta(days=1), PACING, rates=RATES)
    assert {p.code for p in caught.value.problems} == {
        "event_is_over", "in_the_future", "unknown_tactic", "unknown_currency",
    }  # fmt: skip
    with pytest.raises(ValidationError, match="adds up"):
        Actuals(registrations=3, by_day={EVENT: 2})
    with pytest.raises(ValueError, match="concentration"):
        replan(PLAN, Actuals(registrations=3), EVENT, PACING, concentration=0.0)


def test_the_plans_own_spread_serves_where_the_models_is_not_given():
    found = replan(PLAN, Actuals(registrations=0), EVENT - timedelta(days=57), PACING, rates=RATES)
    assert found.luck.log_sd == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("true", [8.0, 40.0])
def test_how_alike_events_fill_up_can_be_measured(true):
    rng = np.random.default_rng(2)
    registered = []
    for _ in range(800):
        n = int(rng.integers(80, 400))
        registered.append((int(rng.binomial(n, rng.beta(true * 0.4, true * 0.6))), n))
    assert concentration_of(registered, 0.4) == pytest.approx(true, rel=0.2)
    assert concentration_of(registered[:3], 0.4) == CONCENTRATION
    alike = [(int(n * 0.4), n) for _, n in registered]
    assert concentration_of(alike, 0.4) == 500.0


def test_a_flat_pacing_curve_is_no_trouble():
    flat = Pacing((10, 0), (0.0, 1.0))
    assert (
        replan(PLAN, Actuals(registrations=10), EVENT - timedelta(days=5), flat, rates=RATES).standing.registered == 10
    )
