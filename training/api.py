"""Training in one call, for the command line, the nightly run and tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

import structlog

from training import demand, response
from training import registry as models
from training.dataset import build
from training.promotion import Decision, promote, promote_if_better, rollback
from training.registry import ModelRef
from turnout import registry
from turnout.settings import Settings
from turnout.warehouse.engine import create_engine

__all__ = [
    "ListedModel",
    "ModelReport",
    "RetrainReport",
    "evaluate",
    "list_models",
    "promote",
    "promote_if_better",
    "retrain",
    "rollback",
]

log = structlog.get_logger(__name__)

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What became of one model in a retraining."""

    name: str
    version: str
    created: bool
    promoted: bool
    champion: str | None
    reasons: list[str]
    events: int
    trained_until: str | None
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RetrainReport:
    """A whole retraining; :meth:`as_dict` is plain JSON."""

    as_of: str
    organisation: str
    models: list[ModelReport]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ListedModel:
    """One registered version."""

    name: str
    version: str
    aliases: list[str]
    trained_until: str | None
    events: int
    simulated_share: float
    code_version: str
    promotion: str | None
    promotion_reasons: list[str]
    metrics: dict[str, float]


def retrain(settings: Settings, as_of: date, progress: Progress | None = None) -> RetrainReport:
    """Train both models on what was known on the morning of ``as_of``, and promote what is better.

    Reads the features as they are in the store; refresh them first. Running it again on the same data registers and
    promotes nothing.
    """
    say = progress or (lambda message: None)
    engine = create_engine(settings, pool_size=2)
    try:
        say("demand model: walking through the history")
        refs: list[ModelRef] = [demand.train(settings, as_of, engine=engine)]
        say("response model: reading features")
        refs.append(response.train(settings, as_of, engine=engine, progress=progress))
    finally:
        engine.dispose()
    reports = []
    for ref in refs:
        say(f"{ref.name} version {ref.version}: comparing with the champion")
        reports.append(_report(ref, promote_if_better(settings, ref)))
    return RetrainReport(as_of.isoformat(), settings.organisation, reports)


def _report(ref: ModelRef, decision: Decision) -> ModelReport:
    return ModelReport(
        name=ref.name,
        version=ref.version,
        created=ref.created,
        promoted=decision.promoted,
        champion=decision.champion,
        reasons=decision.reasons,
        events=ref.events,
        trained_until=ref.trained_until,
        metrics=ref.metrics,
    )


def evaluate(settings: Settings, until: date, progress: Progress | None = None) -> dict[str, Any]:
    """Backtest today's recipe on the history before ``until``, without registering anything.

    Returns:
        The report of :class:`training.response.Trained`, with ``interval_spread``: plain JSON.
    """
    trained = response.fit_and_measure(
        build(settings, until), seed=settings.random_seed, threads=settings.threads, progress=progress
    )
    return trained.report | {"interval_spread": asdict(trained.backtest.spread)}


def list_models(settings: Settings) -> list[ListedModel]:
    """Every registered version, models in order of name, newest version first."""
    client = registry.client(settings)
    listed = []
    for name in sorted(registry.MODELS):
        found = models.versions(settings, name)
        aliases: dict[str, list[str]] = {}
        if found:
            for alias, version in client.get_registered_model(name).aliases.items():
                aliases.setdefault(str(version), []).append(alias)
        for version in found:
            tags, ref = version.tags, models.reference(settings, version, created=False)
            listed.append(
                ListedModel(
                    name=name,
                    version=ref.version,
                    aliases=sorted(aliases.get(ref.version, [])),
                    trained_until=ref.trained_until,
                    events=ref.events,
                    simulated_share=float(tags.get("simulated_share") or 0.0),
                    code_version=tags.get("code_version", ""),
                    promotion=tags.get("promotion"),
                    promotion_reasons=json.loads(tags.get("promotion_reasons") or "[]"),
                    metrics=ref.metrics,
                )
            )
    return listed
