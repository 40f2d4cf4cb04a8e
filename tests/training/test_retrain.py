"""The whole of training on real PostgreSQL, feature store and MLflow store."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from feature_repo import names, schema
from feature_repo import store as feature_store
from feature_repo.build import refresh
from tests.training import histories
from tests.training.histories import RATES, UNTIL
from training import api, promotion
from training import registry as models
from turnout import registry
from turnout.brief import Brief
from turnout.errors import NotReadyError
from turnout.plan import Evidence
from turnout.scoring import DemandModel, ResponseModel, ScoringRequest
from turnout.tactics import load_catalogue

pytestmark = pytest.mark.slow

BRIEF = Brief.model_validate(
    {
        "event": {"name": "next", "date": UNTIL + timedelta(days=40), "category": "ai_data", "format": "online"},
        "goal": {"target": 120},
        "budget": {"amount": 1_000_000},
    }
)


def champion(settings) -> tuple[ResponseModel, DemandModel]:
    response, version = registry.champion_directory(settings, registry.RESPONSE)
    demand, demand_version = registry.champion_directory(settings, registry.DEMAND)
    return (
        ResponseModel.load(response, registry.RESPONSE, version, registry.CHAMPION),
        DemandModel.load(demand, registry.DEMAND, demand_version, registry.CHAMPION),
    )


def test_a_history_becomes_champions_and_the_same_history_changes_nothing(settings, engine, empty_registry):
    events = histories.records(60)
    histories.store(engine, settings, events)
    feature_store.apply(settings)
    refresh(settings, UNTIL, UNTIL - timedelta(days=800))

    report = api.retrain(settings, UNTIL)

    assert json.loads(json.dumps(report.as_dict()))["models"][1]["events"] == 60
    assert [m.promoted for m in report.models] == [True, True]
    measured = report.models[1].metrics
    assert measured["test_events"] == 30
    assert measured["wape_events"] < min(measured["wape_events_benchmark"], measured["wape_events_historical_cpa"])
    response, demand = champion(settings)
    assert response.trained_until == max(e["event_date"] for e in events)
    assert response.is_simulated_data
    outlook = demand.outlook("ai_data", BRIEF.event.date, UNTIL, "online")
    scored = {
        r.tactic_id: r
        for r in response.score(ScoringRequest(BRIEF, UNTIL, list(load_catalogue()), demand=outlook, fx=RATES))
    }
    assert scored["meta_ads"].evidence is Evidence.own_data
    assert "events 2024-" in scored["meta_ads"].evidence_source
    assert scored["pr_release"].evidence in (Evidence.benchmark, Evidence.guess)
    assert outlook.organic_mean == pytest.approx(30, rel=0.4)

    with engine.connect() as connection:
        before = connection.execute(
            sa.select(schema.demand_forecast).order_by(*schema.demand_forecast.primary_key)
        ).all()
    again = api.retrain(settings, UNTIL + timedelta(days=1))

    assert [(m.created, m.promoted) for m in again.models] == [(False, False)] * 2
    assert [len(models.versions(settings, name)) for name in registry.MODELS] == [1, 1]
    with engine.connect() as connection:
        after = connection.execute(
            sa.select(schema.demand_forecast).order_by(*schema.demand_forecast.primary_key)
        ).all()
    assert after == before
    stamps = {row.event_timestamp for row in after}
    assert names.snapshot_timestamp(UNTIL, settings.zone) in stamps
    tags = {v.name: v for v in api.list_models(settings)}
    assert tags[registry.RESPONSE].promotion == "promoted"
    assert set(tags[registry.RESPONSE].aliases) == {registry.CHAMPION, registry.CHALLENGER}


def test_more_history_makes_a_fresher_champion_and_a_rollback_takes_it_back(
    settings, engine, empty_registry, monkeypatch
):
    events = histories.records(48)
    histories.store(engine, settings, events[:40])
    api.retrain(settings, UNTIL)
    histories.store(engine, settings, events[40:])

    report = api.retrain(settings, UNTIL)

    assert [m.version for m in report.models] == ["2", "2"]
    response = report.models[1]
    assert response.promoted, response.reasons
    assert registry.champion_directory(settings, registry.RESPONSE)[1] == "2"
    assert api.rollback(settings, registry.RESPONSE) == "1"
    assert registry.champion_directory(settings, registry.RESPONSE)[1] == "1"
    with pytest.raises(NotReadyError, match="first champion"):
        api.rollback(settings, registry.RESPONSE)
    with pytest.raises(NotReadyError, match="no version 99; registered: 2, 1"):
        api.rollback(settings, registry.RESPONSE, to="99")

    # the registry goes away: serving goes on with what it loaded last
    monkeypatch.setattr(registry, "alias_version", _unreachable)
    assert registry.champion_directory(settings, registry.RESPONSE)[1] == "1"


def _unreachable(*_):
    raise ConnectionError("registry down")


def test_without_any_event_the_benchmark_is_registered_and_says_so(settings, engine, empty_registry):
    report = api.retrain(settings, UNTIL)

    assert [m.promoted for m in report.models] == [True, True]
    response, demand = champion(settings)
    assert response.trained_until is None
    assert response.booster.num_boosted_rounds() == 0
    tactics = list(load_catalogue())
    for scored, tactic in zip(response.score(ScoringRequest(BRIEF, UNTIL, tactics, fx=RATES)), tactics, strict=True):
        assert scored.evidence in (Evidence.benchmark, Evidence.guess)
        assert scored.curve == scored.prior.curve, tactic.id
        assert scored.log_sd > scored.prior.log_sd
    assert demand.outlook("ai_data", BRIEF.event.date, UNTIL, "online").evidence is Evidence.guess


def test_one_event_and_a_tactic_that_brought_nobody_stay_near_the_benchmark(settings, engine, empty_registry):
    [event] = histories.records(1)
    event["tactics"] = {"meta_ads": {"spend_base": 300_000, "staff_hours": None, "registrations": 0}}
    event["registrations"] = event["organic"]
    histories.store(engine, settings, [event])

    api.retrain(settings, UNTIL)

    response, _ = champion(settings)
    [scored] = response.score(ScoringRequest(BRIEF, UNTIL, [load_catalogue().get("meta_ads")], fx=RATES))
    assert 0 < scored.curve(300_000) < scored.prior.curve(300_000)
    assert "1 events" in scored.evidence_source
    assert scored.evidence is not Evidence.own_data


def test_a_model_that_would_fall_in_spend_is_refused(settings, engine, empty_registry, monkeypatch):
    histories.store(engine, settings, histories.records(3))
    monkeypatch.setattr(promotion, "response_faults", lambda model, fx: ["meta_ads: falls although more is spent"])

    report = api.retrain(settings, UNTIL)

    response = report.models[1]
    assert not response.promoted
    assert response.champion is None
    listed = {m.name: m for m in api.list_models(settings)}[registry.RESPONSE]
    assert listed.promotion == "refused"
    assert listed.promotion_reasons == ["meta_ads: falls although more is spent"]
    with pytest.raises(NotReadyError, match="must not serve"):
        api.promote(settings, registry.RESPONSE, "1")


def test_the_logged_models_open_with_plain_mlflow(settings, engine, empty_registry):
    histories.store(engine, settings, histories.records(3))
    api.retrain(settings, UNTIL)
    import mlflow
    import pandas as pd

    demand = mlflow.pyfunc.load_model(f"models:/{registry.DEMAND}@champion")
    asked = pd.DataFrame(
        {"segment_id": ["ai_data"], "event_date": ["2026-12-01"], "format": ["online"], "price": [0.0]}
    )
    assert demand.predict(asked)["organic_mean"].iloc[0] > 0
    response = mlflow.pyfunc.load_model(f"models:/{registry.RESPONSE}@champion")
    columns = response.metadata.get_input_schema().input_names()
    assert np.isfinite(response.predict(pd.DataFrame(np.zeros((2, len(columns))), columns=columns))).all()
