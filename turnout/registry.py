"""Where trained models live: the MLflow registry, and a copy of the champions on this machine.

Two registered models exist, :data:`RESPONSE` and :data:`DEMAND`. The alias ``champion`` is what serving uses,
``challenger`` the newest version that is fit to be compared with it. Artefacts of a version never change, so a version
is downloaded once into ``home/models/<name>/<version>-<run>``; the alias last seen is kept beside it, and serving
starts from there while the registry cannot be reached.

MLflow is imported inside the functions: it takes seconds, and the command line must stay quick.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final, Literal

import psycopg
import structlog

from turnout.errors import NotReadyError
from turnout.settings import Settings

log = structlog.get_logger(__name__)

RESPONSE: Final = "turnout-response"
DEMAND: Final = "turnout-demand"
MODELS: Final = (RESPONSE, DEMAND)
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
Alias = Literal["champion", "challenger"]

#: Seconds a store may take to accept a connection.
_PATIENCE: Final = 5
_TRACKING_VARIABLE: Final = "MLFLOW_TRACKING_URI"
#: Read by MLflow while it is imported.
_QUIET: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_SCHEMA_DETAILS": "true",
}


def tracking_uri(settings: Settings) -> str:
    """The MLflow server when one is set, else its PostgreSQL store directly. May hold a password: never log it."""
    return settings.mlflow_tracking_uri or settings.url_string("mlflow")


def artifact_location(settings: Settings) -> str:
    """Where runs put their artefacts when no server decides: a URI of ``home/mlflow``."""
    return (settings.home_path / "mlflow").as_uri()


def client(settings: Settings) -> Any:
    """An ``mlflow.MlflowClient`` of this installation, with MLflow's own telemetry and progress bars off.

    Raises:
        psycopg.OperationalError: the store is a database that does not answer. MLflow itself would go on trying for
            hours.
    """
    if settings.mlflow_tracking_uri is None:
        url = settings.url_for("mlflow").set(drivername="postgresql")
        psycopg.connect(url.render_as_string(hide_password=False), connect_timeout=_PATIENCE).close()
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    import mlflow

    uri = tracking_uri(settings)
    if mlflow.get_tracking_uri() != uri:
        given = os.environ.get(_TRACKING_VARIABLE)
        mlflow.set_tracking_uri(uri)
        # MLflow also writes the address into the environment, where it would pass for a server that somebody set, and
        # hand a database's password to every child process.
        if given is None:
            os.environ.pop(_TRACKING_VARIABLE, None)
        else:
            os.environ[_TRACKING_VARIABLE] = given
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def alias_version(settings: Settings, name: str, alias: str = CHAMPION) -> str | None:
    """The version behind an alias, ``None`` where there is none."""
    registry = client(settings)
    from mlflow.exceptions import MlflowException

    try:
        return str(registry.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        # an alias that is not set is an invalid parameter to MLflow, a model that does not exist a missing resource
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def version_directory(settings: Settings, name: str, version: str) -> Path:
    """The artefacts of one version on this machine, downloaded if they are not yet.

    Raises:
        NotReadyError: the registry does not have the version.
    """
    registry = client(settings)
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        run_id = str(registry.get_model_version(name, version).run_id)
        # versions count from 1 again in a new registry; the run keeps the two apart
        target = _models_path(settings) / name / f"{version}-{run_id[:12]}"
        if target.is_dir():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".download-", dir=target.parent))
        try:
            downloaded = mlflow.artifacts.download_artifacts(
                artifact_uri=f"models:/{name}/{version}", dst_path=str(scratch / "model")
            )
            # complete or not there: a killed download leaves only the scratch folder
            try:
                Path(downloaded).rename(target)
            except OSError:
                if not target.is_dir():
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except MlflowException as error:
        raise NotReadyError(f"model {name} version {version} is not in the registry: {error.message}") from error
    return target


def champion_directory(settings: Settings, name: str, alias: str = CHAMPION) -> tuple[Path, str]:
    """The artefacts of the model behind ``alias``, and its version.

    When the registry does not answer, the version last seen here is used and a warning logged.

    Raises:
        NotReadyError: no such model was ever registered, or the registry is down and nothing is cached.
    """
    try:
        directory, version = _registered(settings, name, alias)
    except NotReadyError:
        raise
    except Exception as error:  # whatever a store that is away raises: its driver, its server, its disk
        cached = cached_champion(settings, name, alias)
        if cached is None:
            raise NotReadyError(f"the model registry does not answer, and no {name} is cached: {error}") from error
        log.warning("registry_unreachable", model=name, alias=alias, version=cached[1], error=type(error).__name__)
        return cached
    pointer = _pointer(settings, name, alias)
    if cached_champion(settings, name, alias) != (directory, version):
        scratch = pointer.with_suffix(f".{os.getpid()}")
        scratch.write_text(f"{version} {directory.name}", encoding="utf-8")
        scratch.replace(pointer)
    return directory, version


def cached_champion(settings: Settings, name: str, alias: str = CHAMPION) -> tuple[Path, str] | None:
    """What :func:`champion_directory` found last on this machine, without asking the registry."""
    pointer = _pointer(settings, name, alias)
    try:
        version, folder = pointer.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return None
    directory = pointer.parent / folder
    return (directory, version) if directory.is_dir() else None


def _registered(settings: Settings, name: str, alias: str) -> tuple[Path, str]:
    version = alias_version(settings, name, alias)
    if version is None:
        raise NotReadyError(f"no {alias} of {name} is registered; train one: turnout pipeline run")
    return version_directory(settings, name, version), version


def _models_path(settings: Settings) -> Path:
    return settings.home_path / "models"


def _pointer(settings: Settings, name: str, alias: str) -> Path:
    return _models_path(settings) / name / f"{alias}.txt"
