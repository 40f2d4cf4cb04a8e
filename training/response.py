"""The response model: read, backtest, fit, register.

Everything about the mathematics stands in :mod:`training.estimator` (one fit), :mod:`training.calibration` (interval
widths) and :mod:`training.backtest` (what it is worth on later events).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine

from training import backtest as backtests
from training import drift
from training import registry as models
from training.backtest import Backtest
from training.cautions import cautions
from training.dataset import Dataset, build
from training.estimator import TREE_PARAMETERS, Fitted, fit
from training.monitoring import OUTCOMES_FILE
from training.registry import Card, ModelRef
from turnout.registry import RESPONSE
from turnout.scoring.parameters import FILE
from turnout.settings import Settings

log = structlog.get_logger(__name__)

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """A response model in memory, with its backtest.

    Attributes:
        metrics: of the backtest.
        report: metrics by tactic and by segment, yardsticks, notes; JSON-able.
    """

    fitted: Fitted
    backtest: Backtest
    metrics: dict[str, float]
    report: dict[str, Any]


def train(
    settings: Settings, until: date, *, engine: Engine | None = None, progress: Progress | None = None
) -> ModelRef:
    """Train on the events before ``until`` and register the model.

    On data and code that a registered version was made from already, that version is returned and nothing registered.
    With no history at all the benchmark is registered: zero trees, prior parameters, and it says so.
    """
    dataset = build(settings, until, engine=engine)
    fingerprint = models.combined_fingerprint(settings, dataset.fingerprint)
    existing = models.find(settings, RESPONSE, fingerprint)
    if existing is not None:
        log.info("model_unchanged", model=RESPONSE, version=existing.version)
        return existing
    trained = fit_and_measure(dataset, seed=settings.random_seed, threads=settings.threads, progress=progress)
    card = _card(dataset, trained, fingerprint, settings)
    return models.register(settings, RESPONSE, card, lambda mlflow: log_model(mlflow, trained.fitted))


def fit_and_measure(dataset: Dataset, *, seed: int, threads: int, progress: Progress | None = None) -> Trained:
    """Backtest the recipe, then fit it to everything with the interval widths that the backtest found."""
    tested = backtests.run(dataset, seed=seed, threads=threads, progress=progress)
    if progress is not None:
        progress(f"fitting to {len(dataset.rows)} rows")
    fitted = fit(dataset, seed=seed, threads=threads).with_spread(tested.spread)
    metrics = backtests.metrics(tested)
    warned = cautions(dataset)
    for caution in warned:
        log.warning("caution", model=RESPONSE, caution=caution)
    report = {
        "metrics": metrics,
        "by_tactic": backtests.by_group(tested, "tactic_id"),
        "by_segment": backtests.by_group(tested, "segment_id"),
        "trees": fitted.booster.num_boosted_rounds(),
        "notes": [*dataset.notes, *warned],
    }
    return Trained(fitted, tested, metrics, report)


def _card(dataset: Dataset, trained: Trained, fingerprint: str, settings: Settings) -> Card:
    rows, parameters = dataset.rows, trained.fitted.parameters
    dates = rows["event_date"]
    return Card(
        fingerprint=fingerprint,
        events=parameters.events,
        rows=len(rows),
        first_event=None if rows.empty else dates.min().date(),
        last_event=parameters.trained_until,
        simulated_share=float(rows["is_simulated"].mean()) if len(rows) else 0.0,
        params={
            **{f"xgb_{name}": value for name, value in TREE_PARAMETERS.items()},
            "trees": trained.report["trees"],
            "seed": settings.random_seed,
            "features": len(dataset.feature_names),
            "shared_log_sd": round(parameters.shared_log_sd, 4),
            "noise_log_sd": round(parameters.noise_log_sd, 4),
            "overdispersion": round(parameters.overdispersion, 4),
            "demand_elasticity": round(parameters.demand_elasticity, 4),
        },
        metrics=trained.metrics,
        tables={
            "features.txt": "\n".join(dataset.feature_names) + "\n",
            "report.json": json.dumps(trained.report, ensure_ascii=False, indent=1),
            "backtest.csv": trained.backtest.events.to_csv(),
            "backtest_rows.csv": trained.backtest.rows.to_csv(index=False),
            OUTCOMES_FILE: dataset.history.events["registrations"].to_csv(),
            drift.FILE: drift.Reference.of(rows, drift.drifting_features()).to_json(),
        },
    )


def log_model(mlflow: Any, fitted: Fitted) -> Any:
    """Log the booster with its parameters beside it."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    signature = ModelSignature(
        inputs=Schema([ColSpec("double", name) for name in fitted.parameters.feature_names]),
        outputs=Schema([ColSpec("double")]),
    )
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / FILE
        path.write_text(fitted.parameters.to_json(), encoding="utf-8")
        return mlflow.xgboost.log_model(
            fitted.booster,
            name="model",
            signature=signature,
            pip_requirements=models.requirements(),
            extra_files=[str(path)],
            registered_model_name=RESPONSE,
        )
