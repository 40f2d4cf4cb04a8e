"""What ``turnout up`` runs: Airflow's processes, the MLflow server and the planner's service."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import httpx
import structlog

from turnout.errors import TurnoutError
from turnout.identity_roles import auth_mode
from turnout.runtime import airflow
from turnout.runtime.supervisor import Spec
from turnout.settings import Settings

log = structlog.get_logger(__name__)

#: DAGs with a schedule: what ``turnout up`` sets going.
SCHEDULED = ("ingest_performance", "refresh_features", "nightly_retrain", "nightly_report")

#: Airflow's own names of its parts, where they differ from the command's.
_HEALTH_KEYS = {"api-server": "metadatabase", "dag-processor": "dag_processor"}


def stack(
    settings: Settings, *, components: Sequence[airflow.Component] = airflow.COMPONENTS, service: bool = True
) -> list[Spec]:
    """Specs of everything, for settings whose servers run and whose ports are free."""
    specs = airflow_specs(settings, components) if components else []
    specs.append(mlflow_spec(settings))
    if service:
        specs.append(service_spec(settings))
    return specs


def airflow_specs(settings: Settings, components: Sequence[airflow.Component] = airflow.COMPONENTS) -> list[Spec]:
    """Airflow's processes; its database is migrated once before them."""
    environment = airflow.airflow_environment(settings)
    migrate = partial(airflow.migrate, settings)
    return [
        Spec(
            name=f"airflow-{component}",
            argv=airflow.command(settings, component),
            environment=environment,
            healthy=partial(_airflow_healthy, settings, _HEALTH_KEYS.get(component, component)),
            url=airflow.base_url(settings) if component == "api-server" else None,
            start_timeout=180.0,
            prepare=migrate,
        )
        for component in components
    ]


def mlflow_spec(settings: Settings) -> Spec:
    """The MLflow server, which also hands out artefacts; it creates its tables itself."""
    url = f"http://{_local(settings.host)}:{settings.mlflow_port}"
    return Spec(
        name="mlflow",
        argv=(
            sys.executable, "-m", "mlflow", "server", "--host", settings.host, "--port", str(settings.mlflow_port),
            "--workers", "1", "--artifacts-destination", (settings.home_path / "mlflow").as_uri(),
        ),
        environment={
            **settings.environment(),
            # Not an argument: those are for every user of the machine to see.
            "MLFLOW_BACKEND_STORE_URI": settings.url_string("mlflow"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            # Its job queue is for evaluating language models: seven more processes and half a gigabyte.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        },
        healthy=f"{url}/health",
        url=url,
    )  # fmt: skip


def service_spec(settings: Settings) -> Spec:
    """The planner's service. Alive is enough to be up: it becomes ready with the first model.

    Raises:
        ConfigurationError: it would let in anybody from anywhere.
    """
    url = f"http://{_local(settings.host)}:{settings.service_port}"
    return Spec(
        name="service",
        argv=(
            sys.executable, "-m", "bentoml", "serve", "serving.service:Turnout",
            "--host", settings.host, "--port", str(settings.service_port),
        ),
        environment={
            **settings.environment(),
            "TURNOUT_AUTH": auth_mode(settings, default="local"),
            "BENTOML_HOME": str(settings.home_path / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        healthy=f"{url}/livez",
        url=url,
    )  # fmt: skip


def activate_schedules(settings: Settings) -> None:
    """Let the nightly DAGs run from now on. Airflow goes on without, so a failure is told and no more."""
    try:
        airflow.activate(settings, SCHEDULED)
    except (TurnoutError, httpx.HTTPError) as error:
        log.warning("the nightly runs are paused; unpause them in Airflow", reason=str(error))


def _airflow_healthy(settings: Settings, part: str) -> bool:
    url = airflow.base_url(settings)
    answer = httpx.get(f"{url}/api/v2/monitor/health", timeout=5.0, trust_env=False)
    if not (answer.is_success and (answer.json().get(part) or {}).get("status") == "healthy"):
        return False
    if part != "metadatabase":
        return True
    # Somebody else's Airflow may have taken the port a moment ago: only ours knows our password.
    user, password = airflow.credentials(settings)
    login = httpx.post(f"{url}/auth/token", json={"username": user, "password": password}, timeout=5.0, trust_env=False)
    return login.status_code == httpx.codes.CREATED


def _local(host: str) -> str:
    """The address to call a process by that listens on ``host``."""
    return "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
