"""The whole path in one process: an organiser's files become champions in the registry and a plan one can act on."""

from datetime import date

import pytest
import sqlalchemy as sa

from serving.local import plan_in_process
from turnout.cli.demo import sample_brief
from turnout.cli.nightly import run_nightly
from turnout.cli.output import Steps
from turnout.plan import Evidence
from turnout.simulation.sample import write_sample_history
from turnout.warehouse.tables import plan as plan_table
from turnout.warehouse.tables import prediction as prediction_table
from turnout.warehouse.tables import registration

UNTIL = date(2026, 9, 30)


def _registrations(engine):
    with engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count(), sa.func.sum(registration.c.quantity))).one()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_files_become_a_plan_and_a_second_night_changes_nothing(settings, engine, empty_registry):
    write_sample_history(settings, events=36, months=9, organisers=1, until=UNTIL)
    tonight = date(2026, 10, 1)
    report = run_nightly(settings, engine, tonight, steps=Steps(quiet=True), full_history=True)
    assert all(model.promoted for model in report["training"].models)

    answer = plan_in_process(settings, engine, sample_brief(tonight).model_copy(update={"as_of": tonight}))
    assert {allocation.is_paid for allocation in answer.allocations} == {True, False}
    assert answer.totals.spend.amount <= answer.brief.budget.amount
    assert sum(a.spend.amount for a in answer.allocations) == answer.totals.spend.amount
    for interval in (answer.totals.registrations, answer.totals.attendees):
        assert interval.p10 < interval.p50 < interval.p90
    assert answer.optimality.expected_registrations <= answer.optimality.upper_bound
    assert any(a.evidence is Evidence.own_data for a in answer.allocations)
    assert {m.name: m.version for m in answer.models} == {m.name: m.version for m in report["training"].models}
    assert all(m.is_simulated_data for m in answer.models)
    with engine.connect() as connection:
        assert connection.scalar(sa.select(plan_table.c.plan_id)) == answer.plan_id
        stored = set(connection.scalars(sa.select(prediction_table.c.tactic_id)))
    assert stored >= {a.tactic for a in answer.allocations}

    before = _registrations(engine)
    again = run_nightly(settings, engine, tonight, steps=Steps(quiet=True), full_history=True)
    assert _registrations(engine) == before
    assert not any(model.created or model.promoted for model in again["training"].models)
