"""What a plan says, on real models without a store."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.planner import STALE_AFTER, Features, Insights, make_plan
from tests.serving.models import HISTORY, bundle
from turnout.brief import Brief
from turnout.errors import InputError
from turnout.insight_check import Verdict
from turnout.insights import Insight
from turnout.money import Rates
from turnout.plan import Evidence, Plan, SkipReason
from turnout.tactics import load_catalogue
from turnout.workdays import WorkCalendar

NOW = datetime(2026, 11, 25, 3, tzinfo=UTC)
RATES = Rates({"JPY": 1.0, "USD": 150.0, "EUR": 163.0}, day="2026-01-01")
BENCHMARK = bundle()
NO_FEATURES = Features()
SAMPLES = Path(__file__).parents[2] / "samples" / "briefs"


def brief(**changes) -> Brief:
    event = {
        "name": "Data meetup", "date": date(2027, 1, 20), "category": "ai_data", "format": "hybrid",
        **changes.pop("event", {}),
    }  # fmt: skip
    return Brief.model_validate({
        "event": event, "goal": {"target": 200}, "budget": {"amount": 500_000, "currency": "JPY"}, "staff_hours": 60,
        "language": "en", **changes,
    })  # fmt: skip


def plan(question: Brief, models=BENCHMARK, features=NO_FEATURES, now=NOW) -> Plan:
    return make_plan(question, models, features, now, rates=RATES)


def skipped(answer: Plan) -> dict[str, SkipReason]:
    return {s.tactic: s.reason for s in answer.skipped}


def used(answer: Plan) -> set[str]:
    return {a.tactic for a in answer.allocations}


def assert_sound(answer: Plan) -> None:
    """What must hold of every plan."""
    budget, totals = answer.brief.budget, answer.totals
    assert sum((a.spend.amount for a in answer.allocations), Decimal(0)) == totals.spend.amount <= budget.amount
    assert totals.spend.amount + totals.unspent.amount == budget.amount
    assert totals.staff_hours <= answer.brief.staff_hours + 0.01
    assert totals.staff_hours == pytest.approx(sum(a.staff_hours for a in answer.allocations), abs=0.2)
    assert {a.spend.currency for a in answer.allocations} <= {budget.currency}
    assert used(answer).isdisjoint(skipped(answer))
    assert used(answer) | set(skipped(answer)) == set(load_catalogue().ids), "every tactic is used or says why not"
    as_of = answer.brief.as_of or answer.created_at.date()
    for a in answer.allocations:
        assert 0 <= a.registrations.p10 < a.registrations.p50 < a.registrations.p90, a.tactic
        assert as_of <= a.starts <= a.ends <= answer.brief.event.date, a.tactic
        assert a.spend.amount == 0 if not a.is_paid else a.spend.amount > 0, a.tactic
        assert a.evidence_source
        assert a.marginal_cpa is None or a.marginal_cpa.amount > 0
        assert sum((d.amount for d in a.daily_spend), Decimal(0)) == a.spend.amount, a.tactic
        assert all(a.starts <= d.date <= a.ends for d in a.daily_spend), a.tactic
        zone = ZoneInfo(answer.brief.event.time_zone)
        assert all(a.starts <= at.astimezone(zone).date() <= a.ends for at in a.sends), a.tactic
        assert sum(w.hours for w in a.staff_hours_by_week) == pytest.approx(a.staff_hours, abs=0.01), a.tactic
    assert 0 <= totals.goal_probability <= 1
    assert totals.registrations.p10 <= totals.registrations.p50 <= totals.registrations.p90
    assert totals.attendees.mean <= totals.registrations.mean
    assert answer.optimality.expected_registrations <= answer.optimality.upper_bound * (1 + 1e-9)
    Plan.model_validate_json(answer.model_dump_json())


# --- content ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["brief_ja.yaml", "brief_en.yaml", "brief.json"])
def test_the_sample_briefs_can_be_planned(name):
    answer = plan(Brief.model_validate(yaml.safe_load((SAMPLES / name).read_text(encoding="utf-8"))))
    assert_sound(answer)
    assert {a.is_paid for a in answer.allocations} == {True, False}


def test_without_history_every_number_is_a_benchmark_and_the_plan_says_so():
    answer = plan(brief())
    assert {a.evidence for a in answer.allocations} <= {Evidence.benchmark, Evidence.guess}
    assert any("no own history" in w for w in answer.warnings)


def test_own_data_are_named_with_their_events():
    answer = plan(brief(), bundle(tactics=HISTORY, trained_until=date(2026, 10, 20)))
    email = next(a for a in answer.allocations if a.tactic == "own_email")
    assert email.evidence is Evidence.own_data
    assert "12 events" in email.evidence_source
    assert not any("no own history" in w for w in answer.warnings)


def test_simulated_training_data_are_said_first():
    answer = plan(brief(), bundle(is_simulated_data=True))
    assert "SIMULATED" in answer.warnings[0]
    assert answer.models[0].is_simulated_data


def test_the_same_question_has_the_same_answer():
    one, other = plan(brief()), plan(brief())
    assert one.plan_id != other.plan_id
    assert one.model_dump(exclude={"plan_id"}) == other.model_dump(exclude={"plan_id"})


def test_a_raised_goal_does_not_raise_the_forecast_of_other_tactics():
    low, high = plan(brief(goal={"target": 100})), plan(brief(goal={"target": 1000}))
    assert low.totals.goal_probability > high.totals.goal_probability
    both = {a.tactic: a.registrations.mean for a in low.allocations}
    for a in high.allocations:
        if a.tactic in both and a.tactic != "referral" and not a.is_paid:
            assert a.registrations.mean == pytest.approx(both[a.tactic], rel=1e-6)


def test_more_money_never_brings_fewer():
    means = [
        plan(brief(budget={"amount": amount, "currency": "JPY"})).optimality.expected_registrations
        for amount in (0, 50_000, 200_000, 800_000, 3_200_000)
    ]
    assert all(a <= b * 1.002 for a, b in pairwise(means))


def test_texts_are_in_the_briefs_language():
    japanese = plan(brief(language="ja"))
    assert next(a for a in japanese.allocations if a.tactic == "own_email").name == "自社メルマガ・ハウスリスト"
    assert all(any(ord(c) > 0x3000 for c in w) for w in japanese.warnings)
    assert all(any(ord(c) > 0x3000 for c in s.detail) for s in japanese.skipped)


def test_alternatives_are_ordered_by_what_they_cost():
    answer = plan(brief(goal={"target": 150}))
    by_name = {a.name: a for a in answer.alternatives}
    assert set(by_name) == {"free_only", "half_budget", "cheapest_for_goal"}
    assert by_name["free_only"].spend.amount == 0
    assert by_name["half_budget"].spend.amount <= 250_000
    assert by_name["free_only"].registrations.mean <= by_name["half_budget"].registrations.mean * 1.01
    assert by_name["cheapest_for_goal"].goal_probability >= 0.5


def test_a_goal_no_budget_reaches_has_no_cheapest_portfolio():
    answer = plan(brief(goal={"target": 100_000}))
    assert "cheapest_for_goal" not in {a.name for a in answer.alternatives}
    assert answer.totals.goal_probability == 0
    assert any("100,000" in w for w in answer.warnings)


# --- what is left out, and why ----------------------------------------------------------------------------------------
def test_an_excluded_tactic_is_left_out():
    answer = plan(brief(constraints=[{"tactic": "Meta広告", "exclude": True}]))
    assert skipped(answer)["meta_ads"] is SkipReason.excluded


def test_too_little_time_names_the_last_day():
    answer = plan(brief(event={"date": NOW.date() + timedelta(days=6)}))
    late = next(s for s in answer.skipped if s.tactic == "seo_blog")
    assert late.reason is SkipReason.too_late
    assert late.last_start is not None
    assert late.last_start < NOW.date()
    assert_sound(answer)


def test_an_asset_that_is_not_there_is_not_used_and_one_not_known_is_assumed():
    answer = plan(brief(assets={"email_list": 0}))
    assert skipped(answer)["own_email"] is SkipReason.no_asset
    assumed = next(w for w in answer.warnings if "typical figure" in w)
    assert "e-mail list" not in assumed
    assert "e-mail list" in next(w for w in plan(brief()).warnings if "typical figure" in w)


def test_no_money_leaves_the_free_tactics():
    answer = plan(brief(budget={"amount": 0, "currency": "JPY"}))
    assert answer.allocations
    assert not any(a.is_paid for a in answer.allocations)
    assert skipped(answer)["meta_ads"] is SkipReason.over_budget
    assert_sound(answer)


def test_no_hours_leave_nothing_to_do():
    answer = plan(brief(staff_hours=0))
    assert answer.allocations == []
    assert SkipReason.no_hours in skipped(answer).values()
    assert answer.totals.registrations.mean > 0, "some come by themselves"
    assert answer.totals.unspent.amount == 500_000
    assert answer.totals.unspent_reason
    assert_sound(answer)


def test_everything_excluded_is_an_empty_plan():
    rules = [{"tactic": t, "exclude": True} for t in load_catalogue().ids]
    answer = plan(brief(constraints=rules))
    assert answer.allocations == []
    assert set(skipped(answer).values()) == {SkipReason.excluded}
    assert_sound(answer)


def test_a_maximum_below_what_makes_sense_is_said():
    answer = plan(brief(constraints=[{"tactic": "linkedin_ads", "maximum": {"amount": 1_000}}]))
    left_out = next(s for s in answer.skipped if s.tactic == "linkedin_ads")
    assert left_out.reason is SkipReason.over_budget
    assert "50,000 JPY" in left_out.detail


# --- constraints ------------------------------------------------------------------------------------------------------
def test_a_lock_is_kept_to_the_yen():
    answer = plan(brief(constraints=[{"tactic": "google_search", "lock": {"amount": 123_457}}]))
    locked = next(a for a in answer.allocations if a.tactic == "google_search")
    assert locked.spend.amount == 123_457
    assert locked.marginal_cpa is None
    assert_sound(answer)


def test_minimum_and_maximum_hold():
    rules = [
        {"tactic": "meta_ads", "maximum": {"amount": 60_000}},
        {"tactic": "x_ads", "minimum": {"amount": 150_000}},
    ]
    spend = {a.tactic: a.spend.amount for a in plan(brief(constraints=rules)).allocations}
    assert spend.get("meta_ads", 0) <= 60_000
    assert spend.get("x_ads", 150_000) >= 150_000


def test_a_budget_in_dollars_is_answered_in_dollars_to_the_cent():
    rules = [{"tactic": "meta_ads", "lock": {"amount": "333.33", "currency": "USD"}}]
    answer = plan(brief(budget={"amount": "3000.01", "currency": "USD"}, constraints=rules))
    assert_sound(answer)
    assert {a.spend.currency for a in answer.allocations} == {"USD"}
    assert abs(next(a for a in answer.allocations if a.tactic == "meta_ads").spend.amount - Decimal("333.33")) <= 1
    assert any("1 USD = 150 JPY" in w for w in answer.warnings)


def test_a_dear_ticket_is_planned_and_not_called_worthless():
    answer = plan(brief(event={"price": {"amount": 50_000}}, goal={"target": 20}))
    assert_sound(answer)
    assert answer.allocations


def test_attendees_are_the_goal_where_asked():
    answer = plan(brief(goal={"target": 200, "metric": "attendees"}))
    assert answer.totals.goal_probability <= plan(brief()).totals.goal_probability


def test_a_full_room_is_warned_of():
    answer = plan(brief(event={"capacity": 5}))
    assert any("capacity of 5" in w for w in answer.warnings)


# --- when things happen -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("budget", [{"amount": 800_000, "currency": "JPY"}, {"amount": "3000.01", "currency": "USD"}])
def test_the_days_of_all_tactics_add_up_to_the_plans_spend(budget):
    answer = plan(brief(budget=budget))
    days = [d.amount for a in answer.allocations for d in a.daily_spend]
    assert sum(days, Decimal(0)) == answer.totals.spend.amount > 0
    assert any(len(a.daily_spend) > 7 for a in answer.allocations), "an auction runs for days"


def test_two_mails_to_one_list_are_days_apart_and_sends_are_named():
    answer = plan(brief(assets={"email_list": 20_000}, staff_hours=200))
    mails = [a for a in answer.allocations if a.tactic in ("own_email", "own_email_last")]
    assert len(mails) == 2
    days = sorted(at.date() for a in mails for at in a.sends)
    assert all(later - earlier > timedelta(days=1) for earlier, later in pairwise(days))
    for a in answer.allocations:
        for at in a.sends:
            assert any(f"{at:%b} {at.day}" in reason for reason in a.reasons), a.tactic


def test_the_companys_own_days_off_are_kept_free():
    def sends(calendar=None):
        answer = make_plan(brief(), BENCHMARK, NO_FEATURES, NOW, rates=RATES, calendar=calendar)
        assert_sound(answer)
        return {at.date() for a in answer.allocations for at in a.sends if a.tactic == "own_email"}

    off = min(sends())
    closed = WorkCalendar.of("JP", ["12-29/01-03", off.isoformat()])
    assert sends(closed)
    assert off not in sends(closed)


# --- rules of thumb ---------------------------------------------------------------------------------------------------
def test_rules_that_apply_stand_beside_the_tactic_or_the_plan_and_others_do_not():
    rules = [
        Insight("ins_mail", "mails at ten", impact="+20%", confidence="high", applies_to={"tactics": ["own_email"]}),
        Insight("ins_hybrid", "hybrid events draw more", applies_to={"formats": ["hybrid"]}),
        Insight("ins_online", "online mails do worse", applies_to={"tactics": ["own_email"], "formats": ["online"]}),
        Insight("ins_offline", "rooms fill late", applies_to={"formats": ["offline"]}),
    ]
    verdicts = {"ins_mail": Verdict("ins_mail", "untested", "too_few_events", events_with=2, events_without=9)}
    answer = make_plan(brief(), BENCHMARK, NO_FEATURES, NOW, rates=RATES, insights=Insights(rules, verdicts))
    shown = {a.tactic: [n.insight_id for n in a.insights] for a in answer.allocations}
    assert shown.pop("own_email") == ["ins_mail"]
    assert not any(shown.values())
    assert [n.insight_id for n in answer.insights] == ["ins_hybrid"]
    assert answer.insights[0].verdict is None
    [note] = next(a.insights for a in answer.allocations if a.tactic == "own_email")
    assert (note.impact, note.confidence, note.verdict) == ("+20%", "high", "untested")
    assert "2 events with, 9 without" in note.detail
    without = plan(brief())
    assert [a.registrations for a in without.allocations] == [a.registrations for a in answer.allocations]


# --- age --------------------------------------------------------------------------------------------------------------
def test_old_features_and_models_are_warned_of():
    models = bundle(tactics=HISTORY, trained_until=date(2026, 3, 1))
    old = Features(as_of=NOW - STALE_AFTER - timedelta(hours=30))
    warnings = plan(brief(), models, old).warnings
    assert any("4 days old" in w for w in warnings)
    assert any("2026-03-01" in w for w in warnings)
    fresh = plan(brief(), models, Features(as_of=NOW - timedelta(hours=8))).warnings
    assert not any("days old" in w for w in fresh)
    assert any("refresh_features" in w for w in plan(brief(), models).warnings)


def test_planning_as_of_another_day_says_that_features_are_of_today():
    answer = plan(brief(as_of=date(2026, 12, 20)))
    assert any("2026-12-20" in w for w in answer.warnings)
    assert_sound(answer)


# --- refusals ---------------------------------------------------------------------------------------------------------
def test_what_cannot_be_planned_is_refused_with_every_reason():
    question = brief(
        event={"date": date(2026, 11, 1), "price": {"amount": 1, "currency": "CHF"}},
        constraints=[
            {"tactic": "warp drive", "exclude": True},
            {"tactic": "own_email", "lock": {"amount": 10}},
            {"tactic": "meta_ads", "lock": {"amount": 400_000}},
            {"tactic": "Facebook広告", "exclude": True},
            {"tactic": "google_search", "lock": {"amount": 200_000}},
        ],
        objective="least_cost",
    )
    with pytest.raises(InputError) as refused:
        plan(question)
    assert {(p.column, p.code) for p in refused.value.problems} == {
        ("event.date", "event_in_the_past"),
        ("event.price.currency", "unknown_currency"),
        ("constraints.0.tactic", "unknown_tactic"),
        ("constraints.1", "free_tactic"),
        ("constraints.3.tactic", "two_rules"),
        ("budget.amount", "locks_above_budget"),
        ("objective", "not_available"),
    }


def test_today_is_the_events_day_in_its_own_zone():
    late_evening_in_london = datetime(2026, 11, 25, 16, tzinfo=UTC)  # the 26th in Tokyo
    question = brief(event={"date": date(2026, 11, 25)})
    with pytest.raises(InputError, match="2026-11-26"):
        plan(question, now=late_evening_in_london)
    assert_sound(
        plan(brief(event={"date": date(2026, 11, 25), "time_zone": "Europe/London"}), now=late_evening_in_london)
    )


def test_money_in_another_base_currency_gives_the_same_portfolio():
    dollars = Rates({"JPY": 1.0, "USD": 150.0}, base="USD")
    answer = make_plan(brief(), BENCHMARK, Features(), NOW, rates=dollars)
    assert_sound(answer)
    assert answer.optimality.expected_registrations == pytest.approx(
        plan(brief()).optimality.expected_registrations, rel=2e-3
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    days=st.integers(0, 400),
    amount=st.integers(0, 5_000_000),
    hours=st.floats(0, 300),
    target=st.integers(1, 3000),
    format=st.sampled_from(["offline", "online", "hybrid"]),
    price=st.sampled_from([0, 1000, 30_000]),
    email=st.one_of(st.none(), st.integers(0, 100_000)),
    language=st.sampled_from(["ja", "en"]),
)
def test_every_plan_is_sound(days, amount, hours, target, format, price, email, language):
    question = brief(
        event={"date": NOW.date() + timedelta(days=days), "format": format, "price": {"amount": price}},
        budget={"amount": amount, "currency": "JPY"}, staff_hours=hours, goal={"target": target},
        assets={"email_list": email}, language=language,
    )  # fmt: skip
    assert_sound(plan(question))


def test_tactics_that_reach_the_same_people_bring_less_together():
    """One after the other locked at the same spend: the plan's total grows by less than each brings alone."""

    def total(*tactics):
        rules = [{"tactic": t, "lock": {"amount": 400_000}} for t in tactics]
        others = [{"tactic": t.id, "exclude": True} for t in load_catalogue() if t.id not in tactics]
        return plan(brief(budget={"amount": 800_000}, constraints=rules + others)).totals

    nothing = total().registrations.mean
    first, second = (total(t).registrations.mean - nothing for t in ("meta_ads", "meta_traffic"))
    both = total("meta_ads", "meta_traffic").registrations.mean - nothing
    assert max(first, second) < both < first + second - 0.5
