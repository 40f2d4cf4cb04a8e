"""What a lift test says, and how tests are kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import numpy as np
import pytest
import sqlalchemy as sa

from turnout import lift
from turnout.errors import InputError
from turnout.lift import LiftTest, measure
from turnout.money import Rates
from turnout.warehouse.tables import lift_test

RATES = Rates({"JPY": 1.0, "USD": 150.0}, day="2026-01-01")
MAIL = LiftTest("spring", "own_email", "list", date(2026, 3, 1), date(2026, 3, 31), 5000, 5000, 84, 51)
ADS = LiftTest(
    "kansai", "meta_ads", "region", date(2026, 3, 1), date(2026, 3, 31), 400, 600, 240, 150, spend=Decimal(2000),
    currency="USD",
)  # fmt: skip


def ids(stored):
    return [s.test.name for s in stored]


def test_the_lift_is_what_the_control_group_would_have_had_too_few():
    found = measure(MAIL)
    assert found.incremental == 33
    assert found.relative == pytest.approx(33 / 51)
    assert found.whole == 66
    assert found.low < 33 < found.high
    assert 0.99 < found.probability < 1
    assert found.cost_per_registration is None
    uneven = measure(ADS)
    assert uneven.incremental == 240 - 150 * 400 / 600
    assert uneven.cost_per_registration == pytest.approx(2000 / 140)
    assert measure(ADS) == uneven, "the same test, the same figures"


def test_a_tactic_that_brings_nobody_is_seldom_certain():
    rng = np.random.default_rng(0)
    certain = 0
    for _ in range(200):
        y_t, y_c = rng.binomial(4000, 0.01, 2)
        certain += measure(replace(MAIL, treated_units=4000, control_units=4000, treated_registrations=int(y_t),
                                   control_registrations=int(y_c))).probability > 0.95  # fmt: skip
    assert certain / 200 <= 0.08


def test_the_interval_holds_the_true_lift_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(300):
        y_t, y_c = int(rng.binomial(3000, 0.02)), int(rng.binomial(6000, 0.012))
        found = measure(replace(MAIL, treated_units=3000, control_units=6000, treated_registrations=y_t,
                                control_registrations=y_c))  # fmt: skip
        inside += found.low <= 3000 * 0.008 <= found.high
    assert 0.85 <= inside / 300 <= 0.95


def test_areas_tell_less_than_people_for_they_drift_apart_by_themselves():
    assert measure(replace(MAIL, split="region")).sd > measure(MAIL).sd


def test_nothing_registered_at_all_is_no_error():
    found = measure(replace(MAIL, treated_registrations=0, control_registrations=0))
    assert (found.incremental, found.relative) == (0.0, None)
    assert found.low < 0 < found.high


@pytest.mark.parametrize(
    ("change", "column", "said"),
    [
        ({"treated_units": 0}, "treated_units", "more than 0 units"),
        ({"control_units": float("nan")}, "control_units", "more than 0 units"),
        ({"treated_registrations": 5001}, "treated_registrations", "5001 registrations from 5000 people"),
        ({"control_registrations": -1}, "control_registrations", "-1 is negative"),
        ({"last_date": date(2026, 2, 1)}, "last_date", "before the first"),
        ({"tactic_id": "meta_ads"}, "spend", "say what was spent"),
        ({"tactic_id": "nothing"}, "tactic_id", "no tactic 'nothing'"),
        ({"name": " "}, "name", "needs a name"),
    ],
)
def test_a_wrong_test_names_the_field(change, column, said):
    problems = lift.check(replace(MAIL, **change))
    assert [p.column for p in problems] == [column]
    assert said in problems[0].message


def test_saving_twice_changes_nothing_and_other_figures_correct(engine):
    with engine.begin() as connection:
        first = lift.save(connection, "a", [MAIL, ADS], RATES)
        again = lift.save(connection, "a", [MAIL, ADS], RATES)
        corrected = lift.save(connection, "a", [replace(MAIL, treated_registrations=90)], RATES)
        stored = lift.read(connection, "a")
        others = lift.read(connection, "b")
    assert (len(first.added), len(again.added), len(again.unchanged)) == (2, 0, 2)
    assert len(corrected.changed) == 1
    assert others == []
    by_name = {s.test.name: s for s in stored}
    assert by_name["spring"].test == replace(MAIL, treated_registrations=90)
    assert (by_name["kansai"].spend_base, by_name["kansai"].base_currency) == (300_000.0, "JPY")


def test_each_command_can_be_taken_back(engine):
    with engine.begin() as connection:
        lift.save(connection, "a", [MAIL, ADS], RATES)
        lift.save(connection, "a", [replace(MAIL, treated_registrations=90)], RATES)
        lift.remove(connection, "a", ["Spring", ADS.test_id("a")])
        assert lift.read(connection, "a") == []
        lift.undo(connection, "a")
        assert {s.test.name: s.test.treated_registrations for s in lift.read(connection, "a")} == {
            "spring": 90, "kansai": 240,
        }  # fmt: skip
        lift.undo(connection, "a")
        assert lift.read(connection, "a")[0].test.treated_registrations in (84, 240)
        assert sorted(ids(lift.read(connection, "a"))) == ["kansai", "spring"]
        assert next(s for s in lift.read(connection, "a") if s.test.name == "spring").test == MAIL
        lift.undo(connection, "a")
        assert connection.scalar(sa.select(sa.func.count()).select_from(lift_test)) == 0
        with pytest.raises(InputError, match="no change of lift tests"):
            lift.undo(connection, "a")


def test_a_removed_test_that_is_added_again_counts_again(engine):
    with engine.begin() as connection:
        lift.save(connection, "a", [MAIL], RATES)
        lift.remove(connection, "a", ["spring"])
        assert lift.save(connection, "a", [MAIL], RATES).added == [MAIL.test_id("a")]
        assert ids(lift.read(connection, "a")) == ["spring"]


def test_names_must_be_clear_before_anything_is_removed(engine):
    with engine.begin() as connection:
        lift.save(connection, "a", [MAIL, replace(MAIL, last_date=date(2026, 4, 1)), ADS], RATES)
        with pytest.raises(InputError, match="'spring' is several tests") as raised:
            lift.remove(connection, "a", ["spring", "nothing", "kansai"])
        assert len(raised.value.problems) == 2
        assert len(lift.read(connection, "a")) == 3


def test_only_tests_that_are_over_are_read(engine):
    with engine.begin() as connection:
        lift.save(connection, "a", [MAIL], RATES)
        assert lift.read(connection, "a", until=date(2026, 3, 31)) == []
        assert len(lift.read(connection, "a", until=date(2026, 4, 1))) == 1
