"""Writing models to MLflow: one run per training, one version per run, everything a reader must know as tags.

Tags of a version: ``fingerprint`` (of data and recipe), ``trained_until``, ``first_event``, ``last_event``, ``rows``,
``events``, ``simulated_share``, ``code_version``; after promotion was decided ``promotion`` and ``promotion_reasons``.
Metrics, parameters and the feature list are on its run.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import structlog

from turnout import registry
from turnout.settings import Settings

log = structlog.get_logger(__name__)

EXPERIMENT = "turnout"
_PACKAGES = ("xgboost-cpu", "prophet", "numpy", "pandas", "scipy")


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A registered version, in plain values so that it can travel between tasks as JSON.

    Attributes:
        created: False where an existing version had the same fingerprint, and nothing new was registered.
        events: events it was trained on; ``trained_until`` the last of them (ISO), None without history.
    """

    name: str
    version: str
    run_id: str
    fingerprint: str
    events: int = 0
    trained_until: str | None = None
    created: bool = True
    metrics: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Card:
    """What is recorded with a version."""

    fingerprint: str
    events: int
    rows: int
    first_event: date | None
    last_event: date | None
    simulated_share: float
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tables: Mapping[str, str]  # file name → text, artefacts of the run

    def tags(self) -> dict[str, str]:
        return {
            "fingerprint": self.fingerprint,
            "events": str(self.events),
            "rows": str(self.rows),
            "first_event": _iso(self.first_event),
            "last_event": _iso(self.last_event),
            "trained_until": _iso(self.last_event),
            "simulated_share": f"{self.simulated_share:.4f}",
            "code_version": code_version(),
        }


def _iso(day: date | None) -> str:
    return "" if day is None else day.isoformat()


@lru_cache(maxsize=1)
def code_version() -> str:
    """The package's version, with the commit where the code runs from a checkout."""
    version = metadata.version("turnout")
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return version
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version}+{commit.stdout.strip()}"


@lru_cache(maxsize=1)
def recipe_fingerprint() -> str:
    """Changes when the code or the catalogue that makes a model out of data changes."""
    root = Path(__file__).resolve().parent
    product = root.parent / "turnout"
    files = [*root.glob("*.py"), *(product / "scoring").glob("*.py"), *(product / "tactics").glob("*.*")]
    files += [product / "curves.py", root.parent / "feature_repo" / "names.py"]
    hasher = hashlib.sha256()
    for path in sorted(p for p in files if p.suffix in {".py", ".yaml"}):
        hasher.update(path.name.encode())
        hasher.update(path.read_bytes())
    return hasher.hexdigest()[:32]


def combined_fingerprint(settings: Settings, data: str) -> str:
    """Of everything a training depends on."""
    knobs = json.dumps([settings.organisation, settings.random_seed, settings.country, settings.currency])
    return hashlib.sha256(f"{data}|{recipe_fingerprint()}|{knobs}".encode()).hexdigest()[:32]


def requirements() -> list[str]:
    """What a model needs to be loaded; given to MLflow, which would take ten seconds to find it out."""
    return [f"{name}=={metadata.version(name)}" for name in _PACKAGES]


def find(settings: Settings, name: str, fingerprint: str) -> ModelRef | None:
    """The newest version with this fingerprint."""
    for version in versions(settings, name):
        if version.tags.get("fingerprint") == fingerprint:
            return reference(settings, version, created=False)
    return None


def versions(settings: Settings, name: str) -> list[Any]:
    """All versions of a model, newest first."""
    client = registry.client(settings)
    found: list[Any] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name='{name}'", max_results=200, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            break
    return sorted(found, key=lambda v: int(v.version), reverse=True)


def reference(settings: Settings, version: Any, *, created: bool) -> ModelRef:
    """A :class:`ModelRef` of an ``mlflow`` model version."""
    client = registry.client(settings)
    tags = version.tags
    return ModelRef(
        name=version.name,
        version=str(version.version),
        run_id=version.run_id,
        fingerprint=tags.get("fingerprint", ""),
        events=int(tags.get("events") or 0),
        trained_until=tags.get("trained_until") or None,
        created=created,
        metrics={k: float(v) for k, v in client.get_run(version.run_id).data.metrics.items()},
    )


def register(settings: Settings, name: str, card: Card, log_model: Callable[[Any], Any]) -> ModelRef:
    """Log a run with its model and register the version. The gate makes it challenger or champion.

    Args:
        log_model: called inside the run with the ``mlflow`` module; logs the model under ``registered_model_name=name``
            and returns MLflow's ``ModelInfo``.
    """
    client = registry.client(settings)
    with _run(settings, name) as mlflow:
        mlflow.log_params({k: str(v)[:500] for k, v in card.params.items()})
        mlflow.log_metrics({k: float(v) for k, v in card.metrics.items() if math.isfinite(v)})
        mlflow.set_tags(card.tags())
        for file, content in card.tables.items():
            mlflow.log_text(content, file)
        # MLflow tells standard error what our log says better
        with contextlib.redirect_stderr(io.StringIO()):
            info = log_model(mlflow)
        version = str(info.registered_model_version)
        for key, value in card.tags().items():
            client.set_model_version_tag(name, version, key, value)
    log.info("model_registered", model=name, version=version, events=card.events, until=_iso(card.last_event))
    return reference(settings, client.get_model_version(name, version), created=True)


@contextlib.contextmanager
def _run(settings: Settings, name: str) -> Iterator[Any]:
    registry.client(settings)
    import mlflow

    experiment = mlflow.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        location = None if settings.mlflow_tracking_uri else registry.artifact_location(settings)
        experiment_id = _create_experiment(mlflow, location)
    else:
        experiment_id = experiment.experiment_id
    with mlflow.start_run(experiment_id=experiment_id, run_name=name):
        yield mlflow


def _create_experiment(mlflow: Any, location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return str(mlflow.create_experiment(EXPERIMENT, artifact_location=location))
    except MlflowException:
        # another process was first
        experiment = mlflow.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            raise
        return str(experiment.experiment_id)


def read_table(settings: Settings, run_id: str, file: str) -> str | None:
    """An artefact of a run as text; ``None`` where it has none of that name."""
    client = registry.client(settings)
    import mlflow

    if all(item.path != file for item in client.list_artifacts(run_id)):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        path = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=file, dst_path=scratch)
        return Path(path).read_text(encoding="utf-8")
