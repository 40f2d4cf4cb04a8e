"""A plan's calendar: on the terminal and as CSV."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from rich.console import Console

from turnout.agenda import as_csv, entries
from turnout.brief import Brief, Money
from turnout.plan import Allocation, Evidence, InsightNote, Interval, Optimality, Plan, Totals
from turnout.render import render_plan
from turnout.scoring.published import published_pacing
from turnout.tactics import load_catalogue
from turnout.timetable import Part, portfolio_schedule

EVENT = date(2026, 12, 16)
CATALOGUE = load_catalogue()
NOBODY = Interval(mean=1, p10=0, p50=1, p90=2)


def plan(language: str = "en", as_of: date = date(2026, 10, 1), **spend: int) -> Plan:
    """A plan with the timetable of its tactics."""
    chosen = spend or {"meta_ads": 100_001, "own_email": 0, "partner": 0, "paid_newsletter": 200_000}
    parts = [
        Part(CATALOGUE.get(t), Decimal(s), len(CATALOGUE.get(t).send_days) or None, 5.0) for t, s in chosen.items()
    ]
    found = portfolio_schedule(
        parts, EVENT, as_of, "Asia/Tokyo", currency="JPY", pacing=published_pacing("online|free")
    )
    allocations = []
    for part in parts:
        timing = found.timings[part.tactic.id]
        allocations.append(Allocation(
            tactic=part.tactic.id, name=part.tactic.name(language), channel=part.tactic.channel,
            is_paid=part.tactic.is_paid, spend=Money(amount=part.spend, currency="JPY"), staff_hours=5,
            starts=timing.window.starts, ends=timing.window.ends, registrations=NOBODY, evidence=Evidence.guess,
            evidence_source="guess", sends=list(timing.sends), daily_spend=list(timing.daily_spend),
            staff_hours_by_week=list(timing.staff_hours_by_week), frequency_cap=timing.frequency_cap,
        ))  # fmt: skip
    total = Money(amount=Decimal(sum(chosen.values())), currency="JPY")
    return Plan(
        plan_id=UUID(int=1), created_at=datetime(2026, 10, 1, tzinfo=UTC),
        brief=Brief.model_validate({
            "event": {"name": "=秋の会", "date": EVENT, "category": "cloud", "format": "online"},
            "goal": {"target": 300}, "budget": {"amount": 400_000}, "language": language,
        }),
        allocations=allocations, skipped=[],
        totals=Totals(
            spend=total, unspent=Money(amount=Decimal(0)), staff_hours=20, organic_registrations=NOBODY,
            registrations=NOBODY, attendees=NOBODY, show_up_rate=0.5, goal_probability=0.5,
        ),
        optimality=Optimality(expected_registrations=1, upper_bound=1, gap=0), models=[],
    )  # fmt: skip


def shown(answer: Plan, width: int = 140) -> str:
    console = Console(width=width, record=True, force_terminal=False)
    with console.capture() as captured:
        console.print(render_plan(answer))
    return captured.get()


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_csv_holds_every_send_and_every_yen():
    answer = plan()
    found = rows(as_csv(answer))
    sends = [r for r in found if r["tactic"] == "own_email"]
    assert [(r["action"], r["time"]) for r in sends] == [("send", "10:00")] * 3
    for tactic, total in (("meta_ads", 100_001), ("paid_newsletter", 200_000)):
        assert sum(Decimal(r["spend"] or 0) for r in found if r["tactic"] == tactic) == total
    assert [r["action"] for r in found if r["tactic"] == "partner"] == ["start", "end"]
    assert found[-1]["action"] == "event"
    assert [r["date"] for r in found] == sorted(r["date"] for r in found)
    assert date.fromisoformat(found[0]["date"]).strftime("%a") == found[0]["weekday"]


def test_the_csv_speaks_the_briefs_language_and_computes_nothing():
    text = as_csv(plan("ja"))
    assert text.startswith("日付,曜日,時刻")
    assert "配信" in text
    assert ",'=秋の会," in text


def test_a_days_spend_stands_beside_the_send_that_costs_it():
    paid = [e for e in entries(plan(paid_newsletter=300_000)) if e.tactic]
    assert [e.action for e in paid] == ["send"] * 3
    assert all(e.spend == 100_000 and e.currency == "JPY" for e in paid)


@pytest.mark.parametrize(("language", "words"), [("en", ("Calendar", "week of Nov 23")), ("ja", ("日程", "11/23週"))])
def test_the_calendar_is_shown_with_money_and_hours_by_week(language, words):
    text = shown(plan(language))
    assert all(word in text for word in words)
    assert text.count("●") >= 6
    assert "◆" in text
    assert "█" in text


def test_a_send_stands_below_its_day():
    lines = shown(plan(own_email=0)).splitlines()
    at = next(i for i, line in enumerate(lines) if "Calendar" in line)
    head, mail, event = lines[at + 1 : at + 4]
    monday = head.index("Nov 23")
    assert mail.index("●") - monday == (date(2026, 11, 25) - date(2026, 11, 23)).days
    assert event.index("◆") - monday == (EVENT - date(2026, 11, 23)).days


def test_a_long_calendar_has_one_sign_a_week_and_fits_a_narrow_terminal():
    answer = plan(seo_blog=0, meta_ads=60_000)
    narrow = shown(answer, 60)
    assert "one sign is a week" in " ".join(narrow.split())
    assert max(len(line) for line in narrow.splitlines()) <= 60
    assert "one sign is a week" not in shown(answer, 140)
    lines = shown(answer, 60).splitlines()
    assert any("◆" in line for line in lines)


def test_a_plan_of_older_days_has_no_calendar():
    answer = plan()
    bare = [
        a.model_copy(update={"sends": [], "daily_spend": [], "staff_hours_by_week": []}) for a in answer.allocations
    ]
    assert "Calendar" not in shown(answer.model_copy(update={"allocations": bare}))
    old = answer.model_dump(mode="json")
    for part in old["allocations"]:
        for name in ("sends", "daily_spend", "staff_hours_by_week", "frequency_cap"):
            del part[name]
    assert Plan.model_validate(old).allocations[0].sends == []


def test_a_plan_survives_json_with_its_timetable():
    answer = plan(as_of=EVENT - timedelta(days=30))
    assert Plan.model_validate_json(answer.model_dump_json()) == answer


def test_rules_of_thumb_stand_in_the_plan_with_their_verdicts():
    answer = plan(own_email=0)
    whole = InsightNote(insight_id="a", text="Fridays are weak", verdict="contradicted", detail="contradicted: ×1.02")
    mail = InsightNote(insight_id="b", text="[b]Mornings[/]", impact="+20%", confidence="high")
    part = answer.allocations[0].model_copy(update={"insights": [mail]})
    text = shown(answer.model_copy(update={"insights": [whole], "allocations": [part]}))
    assert "Fridays are weak – contradicted: ×1.02" in text
    assert "Own email list invitation: [b]Mornings[/] (+20% · high)" in text
    assert "Your rules of thumb" not in shown(answer)
