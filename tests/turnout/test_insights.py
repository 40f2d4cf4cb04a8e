"""What a rule of thumb claims, and where it applies."""

from __future__ import annotations

import math
from datetime import date

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from turnout.brief import Brief
from turnout.insights import MOST, Insight, Scope, applicable, claim_of


@pytest.mark.parametrize(
    ("impact", "confidence", "low", "high"),
    [
        ("10〜20%", None, 1.1, 1.2),
        ("+10%〜+30%", None, 1.1, 1.3),
        ("10-20% lower", None, 0.8, 0.9),
        ("1.1〜1.5倍", None, 1.1, 1.5),
        ("1.2x", "low", 1.0, 1.44),
        ("×1.2", "high", 1.2**0.75, 1.2**1.25),
        ("－１０％", "medium", 0.9**1.5, 0.9**0.5),
        ("20%減", "low", 0.64, 1.0),
        ("半減", "high", 0.5**1.25, 0.5**0.75),
        ("high", None, 1.25, 2.0),
        ("中", None, 1.1, 1.25),
        ("-low", None, 1 / 1.1, 1 / 1.02),
        ("100倍", None, 1.0, MOST),
        ("-100%", None, 1 / MOST, 1.0),
    ],
)
def test_an_impact_is_a_bounded_range_of_multipliers(impact, confidence, low, high):
    claim = claim_of(impact, confidence=confidence)
    assert (claim.low, claim.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    ("impact", "text", "said", "direction"),
    [
        ("中", "雨の日は参加者が減る", None, "down"),
        ("medium", "Fewer people come in August", None, "down"),
        ("中", "水曜午前のメールがよく開かれる", None, "up"),
        ("+10%", "Fewer people cancel", None, "up"),
        ("high", "people love it", "down", "down"),
        (None, "8月は申込が落ちる", None, "down"),
        ("だいぶ", "", None, "up"),
    ],
)
def test_the_direction_is_read_from_sign_or_words_unless_it_is_said(impact, text, said, direction):
    claim = claim_of(impact, text=text, direction=said)
    assert claim.direction == direction
    if claim.low is not None:
        assert (claim.low * claim.high > 1) == (direction == "up")


@hypothesis_settings(deadline=None)
@given(st.text(max_size=40), st.sampled_from([None, "high", "medium", "low"]), st.sampled_from([None, "up", "down"]))
def test_whatever_is_written_the_claim_is_bounded_and_points_one_way(impact, confidence, direction):
    claim = claim_of(impact, confidence=confidence, direction=direction)
    if claim.low is None:
        assert claim.high is None
        return
    assert 1 / MOST - 1e-9 <= claim.low <= claim.high <= MOST + 1e-9
    assert claim.sign * math.log(claim.low * claim.high) >= -1e-9


@pytest.mark.parametrize(
    ("other", "condition", "value"),
    [
        ("12月", "months", {12}),
        ("11月〜2月", "months", {11, 12, 1, 2}),
        ("Jan-Mar", "months", {1, 2, 3}),
        ("December", "months", {12}),
        ("夏", "months", {6, 7, 8}),
        ("Q4", "months", {10, 11, 12}),
        ("金曜開催", "weekdays", {4}),
        ("Fridays", "weekdays", {4}),
        ("週末", "weekdays", {5, 6}),
        ("主催: ＡＢＣ社", "organisers", {"abc社"}),
        ("organiser: Tech Team", "organisers", {"tech team"}),
        ("有料イベント", "price", "paid"),
        ("free", "price", "free"),
        ("東日本", "unknown", ("東日本",)),
        ("13月", "unknown", ("13月",)),
    ],
)
def test_conditions_that_no_vocabulary_knows_are_read_from_words(other, condition, value):
    scope = Scope.of({"other": [other]})
    found = getattr(scope, condition)
    assert found == (frozenset(value) if isinstance(value, set) else value)
    assert scope.is_everywhere == (condition == "unknown")


def brief(**event: object) -> Brief:
    return Brief.model_validate({
        "event": {"name": "会", "date": "2026-12-11", "category": "cloud", "format": "online", **event},
        "goal": {"target": 100}, "budget": {"amount": 0},
    })  # fmt: skip


def rule(name: str, confidence: str | None = None, **applies_to: object) -> Insight:
    return Insight(name, f"text {name}", confidence=confidence, applies_to=applies_to)


def names(found: list[Insight]) -> list[str]:
    return [i.insight_id for i in found]


def test_a_rule_is_shown_where_all_its_conditions_hold():
    rules = [
        rule("mail", tactics=["own_email"], formats=["online"]),
        rule("mail_offline", tactics=["own_email"], formats=["offline"]),
        rule("ads", tactics=["meta_ads", "google_search"]),
        rule("december", other=["12月"]),
        rule("everywhere"),
        rule("east", other=["東日本"]),
        rule("friday", other=["金曜"]),
        rule("monday", other=["月曜"]),
        rule("paid", other=["有料"]),
        rule("finance", industries=["finance"]),
        rule("ours", other=["主催:Team A"]),
    ]
    assert names(applicable(rules, brief(), "own_email")) == ["mail"]
    assert names(applicable(rules, brief(), "google_search")) == ["ads"]
    assert names(applicable(rules, brief())) == ["december", "east", "everywhere", "finance", "friday"]
    assert names(applicable(rules, brief(organiser="team a"))) == [
        "december", "east", "everywhere", "finance", "friday", "ours",
    ]  # fmt: skip
    elsewhere = brief(date=date(2026, 6, 1), price={"amount": 1000}, audience={"industries": ["manufacturing"]})
    assert names(applicable(rules, elsewhere)) == ["east", "everywhere", "monday", "paid"]


def test_the_surest_rule_comes_first():
    rules = [rule("a"), rule("b", "low"), rule("c", "high"), rule("d", "medium")]
    assert names(applicable(rules, brief())) == ["c", "d", "b", "a"]


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("有料イベントは参加率が高い", "show_up"),
        ("No-shows are fewer at paid events", "show_up"),
        ("水曜午前のメールがよく開かれる", "registrations"),
        ("件名に数字を入れると開封率が上がる", "other"),
        ("Mails sent on Wednesday morning are opened most", "other"),
        ("オンラインは申込が集まる", "registrations"),
    ],
)
def test_what_a_rule_speaks_of_is_read_from_its_words(text, about):
    assert Insight("i", text).about == about
    assert Insight("i", text, metric="show_up").about == "show_up"
