"""Rules held against histories whose law is known."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest

from turnout.brief import Brief
from turnout.insight_check import FEWEST_EVENTS, Observations, caution, check, measure, notes
from turnout.insights import Facts, Insight

TACTICS = ("own_email", "meta_ads", "google_search", "partner")
LEVELS = dict(zip(TACTICS, (0.5, -0.4, 0.2, -0.1), strict=True))


def history(seed: int, events: int = 60, *, online: float = 1.0, mail_online: float = 1.0, share: float = 0.3):
    """Events of which some are online: all tactics then bring ``online`` times as many, mail ``mail_online`` times."""
    rng = np.random.default_rng(seed)
    names, facts, y, expected = [], [], [], []
    for event in range(events):
        is_online, shock = rng.random() < share, rng.normal(0, 0.2)
        day = date(2025, 1, 1) + timedelta(days=event * 365 // events)
        for tactic in rng.choice(TACTICS, rng.integers(2, 5), replace=False):
            base = rng.gamma(2, 8)
            mean = base * np.exp(LEVELS[str(tactic)] + shock + rng.normal(0, 0.25))
            if is_online:
                mean *= online * (mail_online if tactic == "own_email" else 1.0)
            names.append(f"e{event}")
            facts.append(Facts(day, str(rng.choice(["cloud", "dx"])), "online" if is_online else "offline",
                               tactic=str(tactic)))  # fmt: skip
            y.append(rng.poisson(mean))
            expected.append(base)
    return Observations(names, facts, np.array(y, float), np.array(expected), np.ones(len(y)))


def rule(name="online", impact=None, text="more people", **applies_to):
    return Insight(name, text, impact=impact, applies_to=applies_to or {"formats": ["online"]})


def one(insight, data):
    return check([insight], {"registrations": data})[0]


def test_where_nothing_is_there_few_rules_are_called_different():
    called, runs = 0, 150
    for seed in range(runs):
        data = history(seed)
        holds = np.array([f.format == "online" for f in data.facts])
        found = measure(data, holds, spoken_of=("formats",))
        called += found is not None and found.p_value < 0.05
    assert called / runs <= 0.09


def test_the_interval_holds_the_true_effect_about_as_often_as_it_says():
    inside, runs = 0, 150
    for seed in range(runs):
        data = history(1000 + seed, online=1.4)
        found = measure(data, np.array([f.format == "online" for f in data.facts]), spoken_of=("formats",))
        inside += found.low <= 1.4 <= found.high
    assert inside / runs >= 0.89


def test_a_true_rule_is_supported_with_its_numbers():
    verdict = one(rule(impact="+40%"), history(1, online=1.5))
    assert (verdict.verdict, verdict.reason) == ("supported", "confirmed")
    assert verdict.low < 1.5 < verdict.high
    assert verdict.events_with + verdict.events_without == 60
    assert f"×{verdict.effect:.2f}" in verdict.sentence("en")
    assert "裏付けあり" in verdict.sentence("ja")


def test_a_rule_of_the_wrong_direction_is_contradicted():
    down = one(rule(impact="-20%"), history(1, online=1.5))
    assert (down.verdict, down.reason) == ("contradicted", "opposite")


def test_a_rule_that_claims_far_too_much_is_told_so():
    assert one(rule(impact="high"), history(2, 300)).reason == "no_such_size"
    assert one(rule(impact="2〜3倍"), history(2, 300, online=1.4)).reason == "confirmed_smaller"
    assert one(rule(impact="1〜5%"), history(2, 300, online=1.6)).reason == "confirmed_larger"


def test_a_rule_about_a_tactic_is_measured_within_that_tactic():
    data = history(3, 200, mail_online=1.6)
    mail = one(rule(tactics=["own_email"], formats=["online"]), data)
    ads = one(rule(tactics=["meta_ads"], formats=["online"]), data)
    assert mail.verdict == "supported"
    assert mail.low < 1.6 < mail.high
    assert ads.high < mail.low, "the advertisements gain nothing"


def test_a_rule_about_a_tactic_alone_compares_with_the_others():
    verdict = one(rule(tactics=["own_email"]), history(4, 100))
    assert verdict.verdict == "supported"
    assert 1.3 < verdict.effect < 2.6, "e^0.5 against the others' mean level"


@pytest.mark.parametrize(
    ("insight", "reason"),
    [
        (rule(text="開封率が上がる"), "other_metric"),
        (Insight("i", "x", applies_to={"other": ["東日本"]}), "unknown_condition"),
        (Insight("i", "x"), "no_comparison"),
        (rule(other=["1月"], formats=["online"]), "too_few_events"),
        (rule(categories=["hr"]), "too_few_events"),
        (Insight("i", "参加率が高い", applies_to={"tactics": ["own_email"]}), "no_comparison"),
        (Insight("i", "参加率が高い", applies_to={"formats": ["online"]}), "too_few_events"),
    ],
)
def test_what_cannot_be_decided_says_why(insight, reason):
    verdict = one(insight, history(5))
    assert (verdict.verdict, verdict.reason) == ("untested", reason)
    assert verdict.sentence("en")
    assert verdict.sentence("ja")


def test_too_few_events_on_either_side_are_never_measured():
    data = history(6, FEWEST_EVENTS * 2 - 1, online=5.0, share=0.5)
    verdict = one(rule(), data)
    assert verdict.effect is None
    assert min(verdict.events_with, verdict.events_without) < FEWEST_EVENTS


def test_many_rules_at_once_need_stronger_evidence():
    data = history(7, 80)
    months = [rule(f"m{m}", other=[f"{m}月"]) for m in range(1, 13)]
    verdicts = check([*months, rule()], {"registrations": data})
    tested = [v for v in verdicts if v.p_value is not None]
    assert len(tested) >= 8
    assert all(v.q_value >= v.p_value for v in tested)
    assert all(v.checked == len(tested) for v in verdicts)
    assert sum(v.verdict != "untested" for v in tested) <= 1
    said = caution(verdicts, "en")
    assert f"{len(tested)} insights" in said
    assert "no proof of cause" in said
    assert "因果" in caution(verdicts, "ja")
    assert caution([], "en") == ""


def test_show_up_is_measured_on_events():
    rng = np.random.default_rng(8)
    facts, y, expected = [], [], []
    for i in range(60):
        paid = i % 3 == 0
        signed = int(rng.integers(40, 200))
        facts.append(Facts(date(2025, 1, 1) + timedelta(days=i * 6), "cloud", "offline", is_paid=paid))
        y.append(rng.binomial(signed, 0.8 if paid else 0.6))
        expected.append(signed * 0.65)
    data = Observations([f"e{i}" for i in range(60)], facts, np.array(y, float), np.array(expected), np.ones(60))
    insight = Insight("paid", "有料イベントは参加率が高い", impact="中", applies_to={"other": ["有料"]})
    verdict = check([insight], {"show_up": data})[0]
    assert verdict.verdict == "supported"
    assert verdict.effect == pytest.approx(0.8 / 0.6, rel=0.12)


def test_events_that_address_everybody_say_nothing_of_an_audience():
    base = history(9, 80)
    facts = [
        Facts(f.day, f.category, f.format, tactic=f.tactic,
              industries=frozenset([["finance"], ["it"], []][int(e[1:]) % 3]))
        for e, f in zip(base.events, base.facts, strict=True)
    ]  # fmt: skip
    data = Observations(base.events, facts, base.y, base.expected, base.weight)
    verdict = one(rule(industries=["finance"]), data)
    assert verdict.events_with + verdict.events_without < 60


def test_the_order_of_rows_does_not_matter():
    data = history(10)
    order = np.random.default_rng(0).permutation(len(data.y))
    mixed = Observations(
        [data.events[i] for i in order], [data.facts[i] for i in order], data.y[order], data.expected[order],
        data.weight[order],
    )  # fmt: skip
    a, b = one(rule(), data), one(rule(), mixed)
    assert a.effect == pytest.approx(b.effect)
    assert a.high == pytest.approx(b.high)


def test_observations_must_fit_together():
    data = history(11, 10)
    with pytest.raises(ValueError, match="as many"):
        Observations(data.events, data.facts[1:], data.y, data.expected, data.weight)
    with pytest.raises(ValueError, match="above 0"):
        Observations(data.events, data.facts, data.y, data.expected * 0, data.weight)


def test_a_rule_is_shown_beside_its_tactic_with_its_last_verdict():
    brief = Brief.model_validate({
        "event": {"name": "会", "date": "2026-12-11", "category": "cloud", "format": "online"}, "language": "ja",
        "goal": {"target": 100}, "budget": {"amount": 0},
    })  # fmt: skip
    rules = [rule("a", "+40%"), rule("b", tactics=["own_email"]), rule("c", tactics=["meta_ads"])]
    verdicts = {v.insight_id: v for v in check(rules[:1], {"registrations": history(1, online=1.5)})}
    [whole] = notes(rules, verdicts, brief)
    [mail] = notes(rules, verdicts, brief, "own_email")
    assert (whole.insight_id, whole.verdict, whole.impact) == ("a", "supported", "+40%")
    assert "裏付けあり" in whole.detail
    assert (mail.insight_id, mail.verdict, mail.detail) == ("b", None, "")
