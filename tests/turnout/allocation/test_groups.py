"""Limits on several candidates together, and the words where constraints contradict one another."""

from dataclasses import replace

import numpy as np
import pytest

from turnout.allocation import (
    Audience,
    Candidate,
    Group,
    Hill,
    InfeasibleError,
    Logistic,
    Problem,
    Status,
    Step,
    solve,
)
from turnout.allocation.feasibility import _rules as rules_of
from turnout.allocation.feasibility import some_portfolio


def ads():
    return [Candidate("meta", Hill(100, 100_000)), Candidate("linkedin", Hill(60, 100_000)),
            Candidate("search", Hill(20, 100_000)), Candidate("press", Step(50_000, 5))]  # fmt: skip


def money(answer, *names):
    return sum(answer.spend[n] for n in names)


def test_a_share_of_the_budget_is_not_exceeded():
    free = solve(Problem(ads(), 300_000, unit=1))
    assert money(free, "meta", "linkedin") > 180_000
    social = Group("social", ["meta", "linkedin"], most_share=0.6)
    answer = solve(Problem(ads(), 300_000, unit=1, groups=[social]))
    assert money(answer, "meta", "linkedin") == 180_000
    assert answer.total_spend == 300_000
    assert answer.proved
    assert "social.most" in answer.binding


def test_a_least_amount_is_spent_even_where_others_bring_more():
    brand = Group("brand", ["search", "press"], least=123_457)
    answer = solve(Problem(ads(), 300_000, unit=1, groups=[brand]))
    assert money(answer, "search", "press") >= 123_457
    assert answer.total < solve(Problem(ads(), 300_000, unit=1)).total
    assert answer.proved


def test_a_least_amount_is_spent_where_it_brings_nothing():
    flat = Candidate("flat", Logistic(3, 100))
    answer = solve(
        Problem([flat, Candidate("meta", Hill(100, 100_000))], 200_000, groups=[Group("g", ["flat"], least=90_000)])
    )
    assert answer.spend["flat"] == pytest.approx(90_000, rel=1e-6)


def test_at_most_and_at_least_so_many_are_used():
    few = solve(Problem(ads(), 300_000, unit=1, groups=[Group("channels", [c.name for c in ads()], at_most=1)]))
    assert [n for n, s in few.spend.items() if s > 0] == ["meta"]
    assert few.proved
    yes_no = [replace(c, minimum=100_000, maximum=100_000) for c in ads()[:3]]
    two = Group("channels", ["search", "linkedin"], at_least=2)
    many = solve(Problem(yes_no, 200_000, unit=1, groups=[two]))
    assert many.spend == {"meta": 0, "linkedin": 100_000, "search": 100_000}


def test_locks_count_in_their_group():
    locked = [replace(ads()[0], lock=150_000), *ads()[1:]]
    answer = solve(Problem(locked, 300_000, unit=1, groups=[Group("social", ["meta", "linkedin"], most=160_000)]))
    assert answer.spend["linkedin"] == 10_000


def test_what_is_not_available_is_not_used():
    late = [replace(ads()[0], available=False), *ads()[1:]]
    answer = solve(Problem(late, 300_000, unit=1))
    assert answer.spend["meta"] == 0
    assert answer["meta"].status is Status.unavailable


def test_groups_and_overlap_together():
    reach = {"meta": 0.9, "linkedin": 0.9, "search": 0.4, "press": 0.0}
    shared = [replace(c, reach={"a": reach[c.name]}) for c in ads()]
    groups = [Group("social", ["meta", "linkedin"], most_share=0.5), Group("all", list(reach), at_least=3)]
    given = Problem(shared, 300_000, unit=1, audiences=[Audience("a", 80.0)], groups=groups)
    answer = solve(given)
    assert answer.proved
    assert money(answer, "meta", "linkedin") <= 150_000
    assert sum(s > 0 for s in answer.spend.values()) >= 3


def test_the_smallest_conflict_is_named_and_nothing_else():
    given = Problem(
        [
            Candidate("a", Hill(9, 9), minimum=70),
            Candidate("b", Hill(9, 9), minimum=60),
            Candidate("c", Hill(9, 9), lock=5),
        ],
        100,
        hours=8,
        groups=[Group("both", ["a", "b"], at_least=2), Group("c", ["c"], most=50)],
    )
    with pytest.raises(InfeasibleError) as error:
        solve(given)
    message = str(error.value)
    for part in ("a: at least 70 or nothing", "b: at least 60 or nothing", "both: at least 2 used", "budget: 100"):
        assert part in message
    assert "locked at 5" not in message
    assert "hours" not in message
    assert "c: at most" not in message


def test_exclusions_can_be_in_conflict_with_a_count():
    gone = [replace(c, exclude=True) for c in ads()[:2]] + ads()[2:]
    with pytest.raises(InfeasibleError, match=r"excluded.*at least 1 used"):
        solve(Problem(gone, 100_000, groups=[Group("social", ["meta", "linkedin"], at_least=1)]))


def test_a_conflict_is_irreducible():
    """Leaving out any one of the named constraints makes the rest possible."""
    found = 0
    for seed in range(60):
        r = np.random.default_rng(seed)
        names = [f"c{i}" for i in range(int(r.integers(2, 5)))]
        candidates = []
        for n in names:
            rules = {"minimum": float(r.choice([0, r.integers(10, 70)])), "fixed_hours": float(r.integers(0, 4))}
            if r.random() < 0.2:
                rules["lock"] = float(r.integers(70, 90))
            elif r.random() < 0.1:
                rules["exclude"] = True
            candidates.append(Candidate(n, Hill(10, 50), **rules))
        some = names[: int(r.integers(1, 4))]
        groups = [
            Group("g", some, at_least=int(r.integers(0, 4)), least=float(r.integers(0, 120))),
            Group("h", names[1:], most=float(r.integers(10, 80))),
        ]
        given = Problem(candidates, float(r.integers(60, 200)), hours=float(r.integers(2, 8)), groups=groups)
        try:
            answer = solve(given)
        except InfeasibleError as error:
            if "cannot all hold" not in str(error):
                continue
            found += 1
            for defect in error.problems:
                named = defect.message.removeprefix("cannot all hold: ").split("; ")
                rules = {rule.text: rule for rule in rules_of(given)}
                only = given
                for rule in rules.values():
                    only = only if rule.text in named else rule.drop(only)
                assert some_portfolio(only) is None, (seed, named)
                for text in named:
                    assert some_portfolio(rules[text].drop(only)) is not None, (seed, text, named)
        else:
            assert some_portfolio(given) is not None
            assert sum(answer.spend.values()) <= given.budget * (1 + 1e-9)
    assert found > 15


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Group("g", ["a"], most_share=1.5), "at most 1"),
        (lambda: Group("g", ["a"], least=-1.0), "least"),
        (lambda: Problem([Candidate("a", Hill(1, 1))], 1, groups=[Group("g", ["b"])]), "no candidate is named b"),
    ],
)
def test_impossible_groups_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
