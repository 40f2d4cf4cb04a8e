"""A plan without a running service: the same models, features, planner and storage, in this process."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Engine, insert

from serving.features import FeatureReader
from serving.planner import Insights, make_plan
from serving.state import load_bundle
from serving.store import plan_row, prediction_rows
from turnout.brief import Brief
from turnout.identity import event_key
from turnout.insight_store import read, read_verdicts
from turnout.money import Rates
from turnout.plan import Plan
from turnout.settings import Settings
from turnout.tactics import load_catalogue
from turnout.warehouse.tables import plan as plan_table
from turnout.warehouse.tables import prediction as prediction_table


def plan_in_process(settings: Settings, engine: Engine, brief: Brief) -> Plan:
    """Make and store a plan.

    Args:
        settings: with servers (inside :func:`turnout.runtime.services`).
        engine: the warehouse.

    Raises:
        NotReadyError: no model was trained, or no features are registered.
        InputError: the brief cannot be planned.
    """
    rates = Rates.of(settings)
    loaded = load_bundle(settings)
    features = FeatureReader(settings).read(load_catalogue().ids, brief.event.category)
    bundle = loaded.bundle_for(
        event_key(settings.organisation, brief.event.name, brief.event.date), settings.challenger_share
    )
    with engine.connect() as connection:
        insights = Insights(read(connection, settings.organisation), read_verdicts(connection, settings.organisation))
    plan = make_plan(
        brief, bundle, features, datetime.now(UTC), rates=rates, calendar=settings.calendar, insights=insights
    )
    with engine.begin() as connection:
        connection.execute(insert(plan_table), plan_row(settings.organisation, plan))
        connection.execute(
            insert(prediction_table), prediction_rows(settings.organisation, plan, features.tactics, rates)
        )
    return plan
