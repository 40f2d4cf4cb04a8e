"""Effects are looked up alike for one brief and for a whole history, and what is not known is said to be."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from turnout.brief import Brief
from turnout.money import Rates
from turnout.scoring.effects import ORGANIC, EffectTable, EventFacts, normalised, terms

RATES = Rates({"JPY": 1.0})
DAY = date(2026, 12, 16)
FACTS = EventFacts(
    "ai_data", "online|free", DAY, organiser="tokyo", theme="生成ＡＩ  活用", opens_days=45.0,
    company_sizes=("100-299", "300-499"),
)  # fmt: skip
TABLE = EffectTable(
    effects={
        "organiser": {"tokyo": 0.2, "osaka": -0.2},
        "organiser_tactic": {"tokyo|own_email": 0.3},
        "theme": {"生成ai 活用": 0.1},
        "size": {"100-299": 0.4, "300-499": 0.2},
        "trend": {"": 0.2, "ai_data": 0.2},
        "organisation": {"": 1.0},
    },
    sd={"organiser": 0.2, "organiser_tactic": 0.3, "theme": 0.1, "size": 0.2},
    origin=date(2026, 9, 16),
)


def scale(facts: EventFacts, tactic: str = "own_email", table: EffectTable = TABLE) -> float:
    return float(table.log_scale(facts.columns([tactic]), 1)[0])


def unseen(facts: EventFacts, tactic: str = "own_email", table: EffectTable = TABLE) -> float:
    return float(table.unseen_variance(facts.columns([tactic]), 1)[0])


def test_the_effects_of_one_event_add_up():
    drift = 0.4 * 91 / 365.2425
    assert scale(FACTS) == pytest.approx(1.0 + 0.2 + 0.3 + 0.1 + 0.3 + drift)
    # what comes by itself has no organisation-wide effect: that is the tactics' distance from their benchmarks
    assert scale(FACTS, ORGANIC) == pytest.approx(0.2 + 0.1 + 0.3 + drift)


def test_what_is_not_known_adds_no_effect_but_its_spread():
    assert unseen(FACTS) == 0.0
    nameless = replace(FACTS, organiser="", theme="")
    assert scale(nameless) == pytest.approx(scale(FACTS) - 0.2 - 0.3 - 0.1)
    assert unseen(nameless) == pytest.approx(0.2**2 + 0.3**2 + 0.1**2)
    assert unseen(FACTS, "partner") == pytest.approx(0.3**2)
    one_new_size = replace(FACTS, company_sizes=("100-299", "1-9"))
    assert unseen(one_new_size) == pytest.approx((0.5 * 0.2) ** 2)


def test_an_event_is_the_only_organisers_if_nobody_is_named():
    alone = EffectTable({"organiser": {"tokyo": 0.2}}, {"organiser": 0.2})
    assert scale(replace(FACTS, organiser=""), table=alone) == pytest.approx(0.2)
    assert unseen(replace(FACTS, organiser=""), table=alone) == 0.0


def test_a_trend_ends_half_a_year_after_the_data():
    far, further = (scale(replace(FACTS, event_date=date(year, 12, 16))) for year in (2027, 2040))
    assert far == pytest.approx(further)


def test_many_rows_get_what_each_would_get_alone():
    days = [date(2026, 10, 1), date(2025, 3, 2), date(2026, 12, 30)]
    facts = [replace(FACTS, event_date=days[0]), replace(FACTS, event_date=days[1], company_sizes=()), FACTS]
    tactics = ["own_email", ORGANIC, "partner"]
    columns = {
        name: np.array([f.columns([t])[name] for f, t in zip(facts, tactics, strict=True)]).reshape(3)
        for name in ("segment_id", "kind", "event_date", "organiser", "theme", "opens_days", "run_days", "price_ratio")
    }
    for name in ("company_sizes", "job_titles"):
        columns[name] = np.empty(3, dtype=object)
        columns[name][:] = [getattr(f, name) for f in facts]
    columns |= {"tactic_id": np.array(tactics, dtype=object)}
    alone = [scale(f, t) for f, t in zip(facts, tactics, strict=True)]
    assert TABLE.log_scale(columns, 3) == pytest.approx(alone)


def test_a_theme_is_one_however_it_is_written():
    assert normalised("生成ＡＩ　活用 ") == normalised("生成AI 活用") == "生成ai 活用"


def test_a_brief_says_what_effects_hang_on():
    brief = Brief.model_validate(
        {
            "event": {
                "name": "e", "date": "2026-12-16", "category": "ai_data", "format": "online", "theme": "RAG",
                "organiser": "tokyo", "registration_opens": "2026-11-01", "price": {"amount": 5000},
                "audience": {"company_sizes": ["100-299"]},
            },
            "goal": {"target": 100},
            "budget": {"amount": 0},
        }
    )  # fmt: skip
    facts = EventFacts.of(brief, RATES)
    assert (facts.organiser, facts.theme, facts.opens_days, facts.kind) == ("tokyo", "RAG", 45.0, "online|paid")
    assert facts.price_ratio > 0
    assert facts.company_sizes == ("100-299",)
    entries = terms(facts.columns(["own_email"]), 1, None)
    assert entries["size"].weights.tolist() == [1.0]
    assert entries["opens"].weights.tolist() == [0.0]
    assert entries["weekday"].keys.tolist() == ["2"]


def test_a_late_start_counts_by_the_share_of_the_usual_run_that_is_left():
    late = EffectTable({"run": {"": 0.5}, "run_tactic": {"meta_ads": 0.1}}, {})
    scales = [scale(replace(FACTS, left_days=days), "meta_ads", late) for days in (5.0, 10.0, 16.0, 60.0)]
    assert scales == sorted(scales)
    assert scales[0] < -0.3
    assert scales[-1] == 0.0
    assert scale(FACTS, "meta_ads", late) == 0.0
    assert scale(replace(FACTS, left_days=5.0), ORGANIC, late) == 0.0


def test_a_week_with_holidays_is_told_from_an_ordinary_one():
    holidays = EffectTable({"rest": {"": -0.1}}, {})
    after_golden_week, ordinary = date(2026, 5, 7), date(2026, 6, 11)
    # 30 April to 6 May 2026: a Saturday and a Sunday, and three public holidays on weekdays
    assert scale(replace(FACTS, event_date=after_golden_week), table=holidays) == pytest.approx(-0.3)
    assert scale(replace(FACTS, event_date=ordinary), table=holidays) == 0.0
    nowhere = replace(holidays, country="ZZ")
    assert scale(replace(FACTS, event_date=after_golden_week), table=nowhere) == 0.0


def test_a_random_walk_is_told_backwards_from_the_end_of_the_data():
    origin = date(2026, 9, 30)
    table = EffectTable({"segment_recent": {"1|ai_data": 0.1, "2|ai_data": 0.04}}, {}, origin)

    def at(day):
        return float(table.log_scale(replace(FACTS, segment_id="ai_data", event_date=day).columns(["meta_ads"]), 1)[0])

    assert at(date(2026, 12, 1)) == at(origin) == 0.0, "today and later: the other effects alone"
    assert at(date(2026, 6, 1)) == pytest.approx(0.1)
    assert at(date(2026, 2, 20)) == pytest.approx(0.14)


def test_the_size_of_an_event_holds_what_all_its_tactics_share_and_nothing_of_one_tactic():
    table = EffectTable(
        {
            "segment": {FACTS.segment_id: 0.3},
            "kind": {FACTS.kind: 0.1},
            "tactic": {"meta_ads": 2.0},
            "organisation": {"one": 1.0},
        },
        {},
    )
    assert float(table.event_size(FACTS.columns(["meta_ads"]), 1)[0]) == pytest.approx(0.4)
