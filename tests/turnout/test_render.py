"""A plan as text."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from rich.console import Console

from turnout.brief import Brief, Money
from turnout.plan import (
    Allocation,
    Alternative,
    Evidence,
    Interval,
    ModelVersion,
    Optimality,
    Plan,
    Skipped,
    SkipReason,
    Totals,
)
from turnout.render import money, render_plan


def yen(amount: int) -> Money:
    return Money(amount=Decimal(amount), currency="JPY")


def some(mean: float) -> Interval:
    return Interval(mean=mean, p10=mean * 0.6, p50=mean * 0.95, p90=mean * 1.5)


def plan(language: str, **changes) -> Plan:
    allocations = [
        Allocation(
            tactic="meta_ads", name="Meta [bold]広告[/]", channel="paid_social", is_paid=True, spend=yen(120_000),
            staff_hours=6, starts=date(2027, 1, 5), ends=date(2027, 1, 24), registrations=some(15.4),
            marginal_cpa=yen(9_876), evidence=Evidence.own_data, evidence_source="12 events", reasons=["because"],
        ),
        Allocation(
            tactic="own_email", name="メルマガ", channel="email", is_paid=False, spend=yen(0), staff_hours=5, units=3,
            starts=date(2027, 1, 20), ends=date(2027, 1, 20), registrations=some(1200), evidence=Evidence.guess,
            evidence_source="guess",
        ),
    ]  # fmt: skip
    return Plan(
        plan_id=UUID(int=7), created_at=datetime(2026, 12, 1, tzinfo=UTC),
        brief=Brief.model_validate({
            "event": {"name": "秋の会", "date": "2027-01-25", "category": "cloud", "format": "online"},
            "goal": {"target": 300}, "budget": {"amount": 150_000}, "language": language,
        }),
        allocations=changes.pop("allocations", allocations),
        skipped=[Skipped(tactic="seo_blog", name="SEO", reason=SkipReason.too_late, detail="late",
                         last_start=date(2026, 11, 1))],
        totals=Totals(
            spend=yen(120_000), unspent=yen(30_000), unspent_reason="why not", staff_hours=11,
            organic_registrations=some(12), registrations=some(1227), attendees=some(700), show_up_rate=0.57,
            goal_probability=0.996,
        ),
        alternatives=[Alternative(name="free_only", spend=yen(0), registrations=some(100), goal_probability=0.004)],
        optimality=Optimality(expected_registrations=1215, upper_bound=1216, gap=0.0008),
        models=[ModelVersion(name="turnout-response", version="4", alias="champion", trained_until=date(2026, 11, 20),
                             is_simulated_data=changes.pop("simulated", False))],
        features_as_of=datetime(2026, 11, 30, 18, tzinfo=UTC), warnings=["mind this"],
    )  # fmt: skip


def text(answer: Plan, width: int = 140) -> str:
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(render_plan(answer))
    return captured.get()


@pytest.mark.parametrize("language", ["ja", "en"])
def test_everything_a_planner_needs_is_there(language):
    shown = text(plan(language))
    for part in ("秋の会", "¥120,000", "¥9,876", "12 events", "because", "why not", "mind this", "2026-11-01",
                 "turnout-response v4@champion", "0.08%", ">99 %", "<1 %", "1,200", "9.2–23"):  # fmt: skip
        assert part in shown, part


def test_words_are_in_the_briefs_language():
    assert "目標達成の確率" in text(plan("ja"))
    assert "Chance of reaching the goal" in text(plan("en"))
    assert "Jan 5–Jan 24" in text(plan("en"))
    assert "1/5–1/24" in text(plan("ja"))


def test_simulated_data_cannot_be_overlooked():
    assert "SIMULATED DATA" in text(plan("en", simulated=True))
    assert "シミュレーションデータ" in text(plan("ja", simulated=True))
    assert "SIMULATED" not in text(plan("en"))


def test_names_are_text_never_markup():
    assert "Meta [bold]広告[/]" in text(plan("en"))


def test_a_plan_without_tactics_says_so():
    assert "No tactic can be used." in text(plan("en", allocations=[]))


def test_a_narrow_terminal_loses_no_number():
    shown = text(plan("en"), width=80)
    assert "¥120,000" in shown
    assert "1,200" in shown


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [("1200000", "JPY", "¥1,200,000"), ("12.50", "USD", "$12.50"), ("9.00", "CHF", "CHF 9.00"), ("0", "EUR", "€0")],
)
def test_money_is_written_as_its_currency_is(amount, currency, shown):
    assert money(Money(amount=Decimal(amount), currency=currency)) == shown
