"""The allocator on problems whose answer is known."""

import doctest
import math
import subprocess
import sys

import pytest

import turnout.allocation
from turnout.allocation import (
    Candidate,
    CappedLinear,
    Hill,
    InfeasibleError,
    Logistic,
    Problem,
    Status,
    Step,
    Tabulated,
    Unspent,
    solve,
)


def three_logistics(money=1.0, people=1.0):
    shapes = ((0.6, 40_000), (0.2, 15_000), (0.05, 20_000))
    return [Candidate(f"t{i}", Logistic(top * people, half * money)) for i, (top, half) in enumerate(shapes)]


def test_three_logistic_curves_are_split_as_published():
    answer = solve(Problem(three_logistics(), 30_000, unit=1))
    assert answer.spend == {"t0": 26_745.0, "t1": 3_255.0, "t2": 0.0}
    assert answer.response == pytest.approx(0.2347, abs=5e-5)
    assert answer.gap < 1e-8
    assert answer.proved


def test_three_hill_curves_reach_the_published_optimum():
    candidates = [
        Candidate("a", Hill(100, 1000, 0.9)),
        Candidate("b", Hill(60, 400, 0.7)),
        Candidate("c", Hill(20, 5000, 0.8)),
    ]
    answer = solve(Problem(candidates, 1500))
    assert answer.response == pytest.approx(82.360, abs=5e-4)
    assert answer.total_spend == 1500


@pytest.mark.parametrize("money", [1e-6, 1.0, 1e9])
@pytest.mark.parametrize("people", [1e-9, 1.0, 1e6])
def test_the_split_does_not_depend_on_units(money, people):
    answer = solve(Problem(three_logistics(money, people), 30_000 * money))
    assert answer.spend["t0"] == pytest.approx(26_744.54 * money, rel=1e-5)
    assert answer.response == pytest.approx(0.234694 * people, rel=1e-5)


def test_the_split_does_not_depend_on_the_order():
    candidates = [
        Candidate("meta", Hill(120, 400_000), minimum=30_000),
        Candidate("search", CappedLinear(1 / 9000, 25), minimum=30_000),
        Candidate("press", Step.units(30_000, 5, 0.2, 2)),
        Candidate("display", Hill(40, 300_000, 1.8)),
    ]
    first = solve(Problem(candidates, 412_345, unit=1))
    second = solve(Problem(candidates[::-1], 412_345, unit=1))
    assert first.spend == second.spend
    assert first.response == second.response


@pytest.mark.parametrize("budget", [1, 7, 12_345, 999_999, 12_345_678])
def test_spends_are_whole_yen_that_sum_to_the_budget(budget):
    candidates = [Candidate(f"t{i}", Hill(50 + 7 * i, 90_000 / (i + 1), 0.6 + 0.1 * i)) for i in range(4)]
    answer = solve(Problem(candidates, budget, unit=1))
    assert sum(answer.spend.values()) == budget
    assert all(spend == int(spend) for spend in answer.spend.values())


def test_cents_are_cents():
    candidates = [Candidate("a", Hill(10, 50)), Candidate("b", Hill(7, 30))]
    answer = solve(Problem(candidates, 99.99, unit=0.01))
    assert all(spend == round(spend, 2) for spend in answer.spend.values())
    assert sum(round(100 * spend) for spend in answer.spend.values()) == 9999


def test_a_minimum_is_met_or_the_candidate_left_out():
    big, small = Candidate("big", Hill(100, 50_000)), Candidate("small", Hill(5, 20_000), minimum=30_000)
    answer = solve(Problem([big, small], 40_000, unit=1))
    assert answer.spend == {"big": 40_000.0, "small": 0.0}
    assert answer["small"].status is Status.not_worth_it
    rich = solve(Problem([big, small], 5_000_000, unit=1))
    assert rich.spend["small"] >= 30_000


def test_an_s_shaped_curve_gets_nothing_or_enough():
    # half the money each would leave both in their flat feet
    candidates = [Candidate("a", Hill(100, 60_000, 4)), Candidate("b", Hill(101, 60_000, 4))]
    answer = solve(Problem(candidates, 60_000, unit=1))
    assert answer.spend == {"a": 0.0, "b": 60_000.0}


def test_a_fixed_cost_is_paid_once_and_only_if_used():
    cheap = Candidate("cheap", Hill(50, 40_000), fixed_cost=10_000)
    answer = solve(Problem([cheap, Candidate("other", Hill(20, 40_000))], 50_000, unit=1))
    assert answer["cheap"].spend == answer["cheap"].x + 10_000
    poor = solve(Problem([cheap], 9_000, unit=1))
    assert poor["cheap"].status is Status.over_budget
    assert poor.unspent == 9_000


def test_whole_units_of_a_release():
    press = Candidate("press", Step.units(30_000, 5, 0.2, 2))
    answer = solve(Problem([press], 100_000, unit=1))
    assert answer.spend["press"] == 60_000
    assert answer.unspent == 40_000
    assert answer.unspent_reason is Unspent.at_maximum
    slots = solve(Problem([Candidate("slots", Hill(50, 3), cost=20_000, unit=1)], 70_000, unit=1))
    assert slots["slots"].x == 3
    assert slots.unspent_reason is Unspent.indivisible


def test_a_price_between_two_units_of_money_is_rounded_up():
    answer = solve(Problem([Candidate("post", Step(86_602.54, 9))], 100_000, unit=1))
    assert answer.spend["post"] == 86_603
    assert answer.response == 9


def test_a_yes_no_candidate_is_bought_whole():
    talk = Candidate("talk", Hill(30, 10_000), minimum=25_000, maximum=25_000)
    answer = solve(Problem([talk, Candidate("ads", Hill(10, 10_000))], 40_000, unit=1))
    assert answer.spend["talk"] == 25_000
    assert set(answer["talk"].binding) == {"minimum", "maximum"}


def test_noise_in_a_table_is_not_bought():
    noisy = Tabulated((10_000, 20_000, 30_000, 40_000), (10, 8, 8, 11))
    answer = solve(Problem([Candidate("noisy", noisy)], 30_000, unit=1))
    assert answer.spend["noisy"] == 10_000
    assert answer.unspent == 20_000


def test_flat_parts_are_never_bought():
    capped = Candidate("capped", CappedLinear(1 / 1000, 20))
    logistic = Candidate("logistic", Logistic(3, 1000))
    answer = solve(Problem([capped, logistic], 10_000_000, unit=1))
    assert answer.spend["capped"] == 20_000
    assert answer.spend["logistic"] < 100_000
    assert answer.unspent_reason is Unspent.at_maximum


def test_staff_hours_are_a_second_budget():
    mail = Candidate("mail", Step.units(1.5, 18, 0.5, 3, start=2.0), cost=0, hours=1)
    posts = Candidate("posts", Step.units(0.75, 2, 0.8, 6, start=0.5), cost=0, hours=1)
    ads = Candidate("ads", Hill(80, 200_000), fixed_hours=6)
    tight = solve(Problem([mail, posts, ads], 100_000, hours=9.5, unit=1))
    assert tight.total_hours <= 9.5
    assert tight["mail"].x == pytest.approx(3.5)
    assert tight.spend["ads"] == 100_000
    assert "hours" in tight.binding or tight.gap < 1e-4
    none = solve(Problem([mail, posts, ads], 100_000, hours=0, unit=1))
    assert none.response == 0
    assert {c.status for c in none.choices} == {Status.no_hours}
    assert none.unspent_reason is Unspent.no_hours


def test_continuous_hours_and_money_together():
    calls = Candidate("calls", CappedLinear(0.6, 12, start=1.0), cost=0, hours=1)
    advice = Candidate("advice", Hill(40, 20_000), hours=1 / 10_000)
    answer = solve(Problem([calls, advice], 100_000, hours=12))
    assert answer.total_hours <= 12 * (1 + 1e-9)
    assert answer.proved


def test_locks_and_exclusions_are_kept():
    candidates = [Candidate("a", Hill(100, 50_000), lock=12_345), Candidate("b", Hill(90, 50_000), exclude=True),
                  Candidate("c", Hill(10, 50_000))]  # fmt: skip
    answer = solve(Problem(candidates, 50_000, unit=1))
    assert answer.spend == {"a": 12_345.0, "b": 0.0, "c": 37_655.0}
    assert [c.status for c in answer.choices] == [Status.locked, Status.excluded, Status.used]
    assert {"budget", "a.lock", "b.exclude"} <= set(answer.binding)


def test_money_that_brings_less_than_it_is_worth_stays_unspent():
    answer = solve(Problem([Candidate("ads", Hill(100, 100_000))], 1_000_000, unit=1, money_worth=1 / 4000))
    # slope 100·100,000/(100,000 + x)² = 1/4,000 at x = 100,000
    assert answer.spend["ads"] == pytest.approx(100_000, abs=2)
    assert answer.unspent_reason is Unspent.not_worth_it
    assert answer["ads"].marginal_response == pytest.approx(1 / 4000, rel=1e-4)


def test_the_multiplier_is_what_one_more_yen_brings():
    problem = Problem(three_logistics(), 30_000)
    more = Problem(three_logistics(), 30_001)
    assert solve(problem).marginal_response == pytest.approx(solve(more).response - solve(problem).response, rel=1e-3)
    used = solve(problem)
    assert used["t0"].marginal_response == pytest.approx(used["t1"].marginal_response, rel=1e-3)


def test_nothing_to_spend_and_nothing_to_spend_on():
    assert solve(Problem(three_logistics(), 0, unit=1)).total_spend == 0
    empty = solve(Problem([], 1000, unit=1))
    assert (empty.response, empty.gap, empty.unspent) == (0, 0, 1000)
    assert empty.unspent_reason is Unspent.nothing_to_buy


def test_locks_above_the_budget_name_the_fewest_that_conflict():
    candidates = [
        Candidate("a", Hill(1, 1), lock=70),
        Candidate("b", Hill(1, 1), lock=5),
        Candidate("c", Hill(1, 1), lock=60),
    ]
    with pytest.raises(InfeasibleError) as error:
        solve(Problem(candidates, 100))
    message = str(error.value)
    assert "a 70" in message
    assert "c 60" in message
    assert "b 5" not in message
    assert "budget is 100" in message


def test_every_contradiction_is_named_at_once():
    candidates = [
        Candidate("a", Hill(1, 1), minimum=5, maximum=4),
        Candidate("b", Hill(1, 1), lock=3, exclude=True),
        Candidate("c", Hill(1, 1), lock=3, minimum=5),
        Candidate("d", Hill(1, 1), lock=3, unit=2),
    ]
    with pytest.raises(InfeasibleError) as error:
        solve(Problem(candidates, 100))
    assert [p.value for p in error.value.problems] == ["a", "b", "c", "d"]


def test_locked_hours_above_the_hours_are_infeasible():
    with pytest.raises(InfeasibleError, match="staff hours is 5"):
        solve(Problem([Candidate("a", Step(3, 1), cost=0, hours=1, fixed_hours=4, lock=3)], 100, hours=5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cost": -1}, "cost"),
        ({"minimum": math.inf}, "minimum"),
        ({"lock": math.nan}, "lock"),
        ({"unit": 0}, "unit"),
    ],
)
def test_impossible_numbers_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        Candidate("a", Hill(1, 1), **arguments)


def test_names_must_differ_and_curves_be_curves():
    with pytest.raises(ValueError, match="given twice: a"):
        Problem([Candidate("a", Hill(1, 1)), Candidate("a", Hill(2, 1))], 1)
    with pytest.raises(TypeError, match="curve"):
        Candidate("a", lambda x: x)  # type: ignore[arg-type]


def test_the_deadline_returns_the_best_so_far_with_its_bound():
    candidates = [Candidate(f"t{i}", Step(1000 + 37 * i, 10 + 0.371 * i), fixed_hours=1 + i % 5) for i in range(60)]
    answer = solve(Problem(candidates, 31_415, hours=77, unit=1), gap=0.0, deadline=0.05)
    assert answer.seconds < 1.0
    assert answer.upper_bound >= answer.objective > 0
    assert answer.gap < 0.02


def test_it_imports_without_the_rest_of_the_project():
    script = (
        "import sys, turnout.allocation; "
        "bad = {'pydantic', 'pandas', 'sqlalchemy', 'yaml'} & set(sys.modules); sys.exit(repr(bad) if bad else 0)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_the_manual_s_examples_hold():
    assert doctest.testmod(turnout.allocation).failed == 0
