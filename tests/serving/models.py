"""Small real models for tests: benchmark parameters, a booster that corrects nothing, registered in MLflow."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import xgboost

from feature_repo.names import RESPONSE_FEATURES
from serving.planner import Bundle
from turnout import registry
from turnout.scoring import DemandModel, ResponseModel
from turnout.scoring.demand import FILE as DEMAND_FILE
from turnout.scoring.demand import DemandParameters
from turnout.scoring.design import derived_names
from turnout.scoring.parameters import FILE as PARAMETERS_FILE
from turnout.scoring.parameters import ResponseParameters, TacticHistory
from turnout.settings import Settings

NAMES = (*derived_names(), *RESPONSE_FEATURES)

#: An organiser who has used two tactics in a dozen events.
HISTORY = {
    "own_email": TacticHistory(
        log_scale=0.3, log_sd={"": 0.25, "ai_data": 0.15}, noise_log_sd=0.2, events=12, segments={"ai_data": 8},
        first=date(2025, 4, 10), last=date(2026, 10, 20),
    ),
    "meta_ads": TacticHistory(
        log_scale=-0.2, log_sd={"": 0.3}, noise_log_sd=0.25, events=9, segments={"cloud": 9},
        first=date(2025, 6, 1), last=date(2026, 9, 1),
    ),
}  # fmt: skip


def booster() -> xgboost.Booster:
    """Trees that say nothing: every correction is (nearly) zero."""
    rows = xgboost.DMatrix(np.zeros((8, len(NAMES)), dtype=np.float32), label=np.ones(8), feature_names=list(NAMES))
    return xgboost.train(
        {"objective": "count:poisson", "base_score": 1.0, "nthread": 1, "max_depth": 1}, rows, num_boost_round=1
    )


def parameters(**changes) -> ResponseParameters:
    return replace(ResponseParameters(feature_names=NAMES), **changes)


def bundle(**changes) -> Bundle:
    """Models without any history, unless ``changes`` give the response model some."""
    response = ResponseModel(booster(), parameters(**changes), name=registry.RESPONSE, version="7", alias="champion")
    return Bundle(response, DemandModel(DemandParameters(), name=registry.DEMAND, version="3", alias="champion"))


def register(settings: Settings, folder: Path, **changes) -> tuple[str, str]:
    """Register both models as champions; returns their versions."""
    client = registry.client(settings)
    folder.mkdir(parents=True, exist_ok=True)
    booster().save_model(folder / "model.ubj")
    (folder / PARAMETERS_FILE).write_text(parameters(**changes).to_json(), encoding="utf-8")
    demand = folder / "demand"
    demand.mkdir(exist_ok=True)
    (demand / DEMAND_FILE).write_text(DemandParameters(events=12).to_json(), encoding="utf-8")
    experiment = client.get_experiment_by_name("serving-tests")
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(
        "serving-tests", artifact_location=registry.artifact_location(settings)
    )  # fmt: skip
    versions = []
    for name, files in (
        (registry.RESPONSE, [folder / "model.ubj", folder / PARAMETERS_FILE]),
        (registry.DEMAND, [demand / DEMAND_FILE]),
    ):
        run = client.create_run(experiment_id)
        for file in files:
            client.log_artifact(run.info.run_id, str(file), "model")
        if not client.search_registered_models(f"name='{name}'"):
            client.create_registered_model(name)
        version = client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id).version
        client.set_registered_model_alias(name, registry.CHAMPION, version)
        versions.append(str(version))
    return versions[0], versions[1]
