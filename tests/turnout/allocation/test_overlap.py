"""Shared audiences and candidates that feed on others."""

import math
from dataclasses import replace

import numpy as np
import pytest

from turnout.allocation import Audience, Candidate, CappedLinear, Hill, Problem, Step, credit, solve


def test_two_who_reach_the_same_people_are_credited_less_than_alone():
    people = [Audience("developers", 100.0)]
    found = credit(people, [{"developers": 1.0}, {"developers": 1.0}], [50.0, 50.0], [False, False])
    assert found.total == pytest.approx(100 * (1 - math.exp(-1)))
    assert found.response == pytest.approx([found.total / 2, found.total / 2])
    assert found.overlap == pytest.approx(100 - found.total)
    assert found.fresh == pytest.approx([math.exp(-1)])


def test_nothing_overlaps_in_an_endless_audience_or_apart_from_it():
    found = credit([Audience("all", math.inf, others=4.0)], [{"all": 0.7}, {}], [30.0, 10.0], [False, False], 5.0)
    assert found.total == 49.0
    assert found.organic == 9.0
    assert found.overlap == 0.0
    assert found.response.tolist() == [30.0, 10.0]


def test_shares_of_others_come_on_top_of_all_that_is_brought():
    found = credit([Audience("a", 80.0, others=10.0)], [{"a": 0.5}, {}, {}], [40.0, 0.1, 0.2], [False, True, True], 5.0)
    assert found.total == pytest.approx(found.base * 1.1 * 1.2)
    assert found.response.sum() + found.organic == pytest.approx(found.total)
    assert found.response[2] / found.response[1] == pytest.approx(math.log(1.2) / math.log(1.1))


def test_many_draws_are_credited_at_once():
    people, reach = [Audience("a", 80.0, others=10.0)], [{"a": 0.5}, {"a": 0.2}, {}]
    draws = np.random.default_rng(1).uniform(0, 50, (7, 3)) * [1, 1, 0.01]
    together = credit(people, reach, draws, [False, False, True], np.arange(7.0))
    for k in range(7):
        one = credit(people, reach, draws[k], [False, False, True], float(k))
        assert together.total[k] == pytest.approx(float(one.total))
        assert together.response[k] == pytest.approx(one.response)


def candidates():
    return [
        Candidate("search", CappedLinear(1 / 6000, 40), reach={"near": 0.8}),
        Candidate("social", Hill(90, 300_000), minimum=30_000, reach={"near": 0.5, "far": 0.5}),
        Candidate("press", Step.units(60_000, 15, 0.4, 2), fixed_hours=3, reach={"far": 0.9}),
        Candidate("mail", Step.units(1.5, 18, 0.5, 3, start=2), cost=0, hours=1, reach={"near": 1.0}),
        Candidate("referral", Step.units(1.0, 0.08, 0.5, 2), cost=0, hours=1, of_others=True),
    ]


def problem(**changes) -> Problem:
    people = [Audience("near", 50.0, others=8.0), Audience("far", 120.0)]
    return replace(Problem(candidates(), 500_000, hours=9, unit=1, audiences=people, organic=12.0), **changes)


def test_the_answer_adds_up():
    answer = solve(problem(), gap=1e-4)
    assert answer.proved
    assert answer.total == pytest.approx(sum(c.response for c in answer.choices) + answer.organic)
    alone = sum(c.alone for c in answer.choices)
    assert alone + 20.0 - answer.overlap == pytest.approx(answer.total)
    assert answer.overlap > 0
    assert answer.objective == pytest.approx(answer.total)
    assert answer.total_spend == 500_000


def test_overlap_moves_money_to_those_who_reach_others():
    apart = solve(problem(audiences=[Audience("near", math.inf), Audience("far", math.inf)]))
    crowded = solve(problem(audiences=[Audience("near", 20.0, others=15.0), Audience("far", math.inf)]))
    assert crowded.spend["search"] < apart.spend["search"]
    assert crowded.spend["social"] > apart.spend["social"]


def test_endless_audiences_are_the_same_as_none():
    plain = [replace(c, reach={}) for c in candidates() if not c.of_others]
    shared = [c for c in candidates() if not c.of_others]
    endless = [Audience("near", math.inf), Audience("far", math.inf)]
    one, two = solve(Problem(plain, 400_000, hours=9)), solve(Problem(shared, 400_000, hours=9, audiences=endless))
    assert two.total == pytest.approx(one.total, rel=2e-4)


@pytest.mark.parametrize("money", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("people", [1e-6, 1.0, 1e6])
def test_the_answer_does_not_depend_on_units(money, people):
    given = problem(unit=None)
    scaled = [
        replace(
            c,
            curve=stretched(c.curve, money if c.cost else 1.0, 1.0 if c.of_others else people),
            minimum=c.minimum * money,
        )
        for c in candidates()
    ]
    audiences = [replace(a, size=a.size * people, others=a.others * people) for a in given.audiences]
    other = replace(
        given, candidates=scaled, audiences=audiences, organic=given.organic * people, budget=given.budget * money
    )
    one, two = solve(given, gap=1e-4), solve(other, gap=1e-4)
    assert two.total / people == pytest.approx(one.total, rel=2e-4)
    for c in candidates():
        factor = money if c.cost else 1.0
        assert two[c.name].x / factor == pytest.approx(one[c.name].x, rel=1e-3, abs=0.01 * 500_000)


def stretched(curve, money, people):
    if isinstance(curve, Hill):
        return Hill(curve.top * people, curve.half * money, curve.shape)
    if isinstance(curve, CappedLinear):
        return CappedLinear(curve.rate * people / money, curve.cap * people)
    return Step([x * money for x in curve.at], [y * people for y in curve.levels])


def test_the_answer_does_not_depend_on_the_order():
    one = solve(problem())
    two = solve(problem(candidates=candidates()[::-1], audiences=problem().audiences[::-1]))
    assert one.x == two.x


def test_money_and_hours_keep_their_worth():
    free = solve(problem(money_worth=0.0))
    dear = solve(problem(money_worth=1 / 8000, hours_worth=0.5), gap=1e-3)
    assert dear.total_spend < free.total_spend
    assert dear.proved
    assert dear.objective == pytest.approx(dear.total - dear.total_spend / 8000 - 0.5 * dear.total_hours)


def test_locked_candidates_fill_the_audience_and_feed_the_others():
    locked = [replace(c, lock=400_000.0) if c.name == "social" else c for c in candidates()]
    answer = solve(problem(candidates=locked))
    assert answer.x["social"] == 400_000
    assert answer.proved
    assert answer.upper_bound >= answer.total
    everything = solve(problem(candidates=[replace(c, lock=0.0, minimum=0.0) for c in candidates()]))
    assert everything.total == pytest.approx(50 * (1 - math.exp(-8 / 50)) + 12)


def test_the_marginal_response_is_what_one_more_yen_brings():
    given = problem(unit=None)
    used = solve(given, gap=1e-6)
    more = solve(replace(given, budget=500_100), gap=1e-6)
    assert used.marginal_response == pytest.approx((more.total - used.total) / 100, rel=0.05)
    assert used["social"].marginal_response == pytest.approx(used.marginal_response, rel=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Audience("a", 0.0), "size"),
        (lambda: Audience("a", 5.0, others=-1.0), "others"),
        (lambda: Candidate("c", Hill(1, 1), reach={"a": 0.7, "b": 0.7}), "sum to at most 1"),
        (lambda: Candidate("c", Hill(1, 1), reach={"a": -0.1}), "reach in 'a'"),
        (lambda: Candidate("c", Hill(1, 1), reach={"a": 0.1}, of_others=True), "leave it empty"),
        (lambda: Problem([Candidate("c", Hill(1, 1), reach={"b": 1})], 1, audiences=[Audience("a", 5)]), "names b"),
        (lambda: credit([], [{}], [1.0, 2.0], [False]), "must agree"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
