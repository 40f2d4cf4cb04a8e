"""Airflow as part of Turnout: its environment, its processes, and runs over its REST API.

Airflow keeps its own configuration file and home. Turnout needs neither: :func:`airflow_environment` derives every
option from :class:`~turnout.settings.Settings`, so that the same settings run Airflow on the embedded servers, in
Docker and on a cluster. Nothing here imports Airflow; its processes do.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import httpx
import structlog

from turnout.errors import ConfigurationError, TurnoutError
from turnout.settings import Settings

log = structlog.get_logger(__name__)

Component = Literal["api-server", "scheduler", "dag-processor", "triggerer"]
#: Everything a complete Airflow runs. The demo leaves the triggerer out: no DAG of ours defers a task.
COMPONENTS: tuple[Component, ...] = ("api-server", "scheduler", "dag-processor", "triggerer")

#: The one account of Airflow's local login. Its password is generated per installation.
USER = "admin"

_PRELOADED: tuple[str, ...] = (
    "airflow", "airflow.executors.local_executor", "airflow.sdk.execution_time.task_runner", "pandas",
    "great_expectations", "feast", "mlflow", "xgboost", "prophet",
)  # fmt: skip
#: Libraries that log every import and query at INFO.
_CHATTY: tuple[str, ...] = ("great_expectations", "feast", "mlflow", "prophet", "cmdstanpy", "alembic", "httpx")

RunState = Literal["queued", "running", "success", "failed"]
FINISHED: frozenset[str] = frozenset({"success", "failed"})


class AirflowError(TurnoutError):
    """Airflow refused a request or a run ended badly; the message says which and where its log is."""


# --- environment -------------------------------------------------------------------------------------------------
def airflow_home(settings: Settings) -> Path:
    """Airflow's folder below ``home``: secrets, logs."""
    return settings.home_path / "airflow"


def dags_folder() -> Path:
    """The folder of DAG files: ``TURNOUT_DAGS_FOLDER``, else ``dags/`` beside the ``turnout`` package.

    Raises:
        ConfigurationError: neither exists.
    """
    configured = os.environ.get("TURNOUT_DAGS_FOLDER")
    folder = Path(configured).expanduser().resolve() if configured else Path(__file__).resolve().parents[2] / "dags"
    if not folder.is_dir():
        raise ConfigurationError(f"no DAG files at {folder}; set TURNOUT_DAGS_FOLDER to the folder that holds them")
    return folder


def _write_private(path: Path, text: str) -> None:
    """Create ``path`` readable by its owner alone, whole or not at all. A file that exists is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    try:
        # link() fails where another process was first, so that all processes agree on one secret.
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _secrets(settings: Settings) -> dict[str, str]:
    path = airflow_home(settings) / "secrets.json"
    if not path.exists():
        _write_private(path, json.dumps({
            "fernet_key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "jwt_secret": secrets.token_urlsafe(48),
            "secret_key": secrets.token_urlsafe(48),
        }))  # fmt: skip
    loaded: dict[str, str] = json.loads(path.read_text())
    return loaded


def password_file(settings: Settings) -> Path:
    """Where Airflow's local login reads its password from; made on first use, mode 0600."""
    path = airflow_home(settings) / "passwords.json"
    if not path.exists():
        _write_private(path, json.dumps({USER: secrets.token_urlsafe(18)}))
    return path


def credentials(settings: Settings) -> tuple[str, str]:
    """User name and password of Airflow's local login, to be shown to the person at this machine only."""
    passwords: dict[str, str] = json.loads(password_file(settings).read_text())
    return USER, passwords[USER]


def base_url(settings: Settings) -> str:
    """Address of the API server: ``airflow_url``, else on this machine."""
    if settings.airflow_url:
        return settings.airflow_url.rstrip("/")
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104
    return f"http://{host}:{settings.airflow_port}"


def airflow_environment(settings: Settings) -> dict[str, str]:
    """Every variable an Airflow process of this installation needs, ours included.

    Args:
        settings: with ``database_url`` and ``redis_url`` set (inside :func:`turnout.runtime.services`), and
            ``airflow_port`` being the port the API server really listens on.

    Returns:
        Variables to lay over ``os.environ``. Contains secrets: never log it.

    Raises:
        ConfigurationError: there is no folder of DAG files.
    """
    home = airflow_home(settings)
    home.mkdir(parents=True, exist_ok=True)
    url = settings.url_for("airflow")
    # asyncpg takes libpq's sslmode under the name ssl.
    options_async = {"ssl" if key == "sslmode" else key: value for key, value in url.query.items()}
    asynchronous = url.set(drivername="postgresql+asyncpg", query=options_async)
    kept = _secrets(settings)
    options: dict[str, dict[str, object]] = {
        "core": {
            "dags_folder": dags_folder(),
            "executor": "LocalExecutor",
            # Each slot is a forked, idle process; a heavy task wants a core to itself.
            "parallelism": max(2, min(4, os.cpu_count() or 2)),
            "max_active_tasks_per_dag": 4,
            "load_examples": False,
            "default_timezone": settings.time_zone,
            "dags_are_paused_at_creation": True,
            "fernet_key": kept["fernet_key"],
            "auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_all_admins": False,
            "simple_auth_manager_passwords_file": password_file(settings),
            "execution_api_server_url": f"{base_url(settings)}/execution/",
            # The default asks DNS, which a machine without a network answers after a long time-out.
            "hostname_callable": "socket.gethostname",
            "internal_api_secret_key": kept["secret_key"],
        },
        "database": {
            "sql_alchemy_conn": url.render_as_string(hide_password=False),
            "sql_alchemy_conn_async": asynchronous.render_as_string(hide_password=False),
            "sql_alchemy_pool_size": 3,
        },
        "api": {
            "host": settings.host,
            "port": settings.airflow_port,
            "base_url": base_url(settings),
            "workers": 1,
            "secret_key": kept["secret_key"],
            "expose_config": False,
            "instance_name": "Turnout",
        },
        "api_auth": {"jwt_secret": kept["jwt_secret"], "jwt_issuer": "turnout"},
        "execution_api": {"jwt_expiration_time": 3600},
        "scheduler": {
            "scheduler_idle_sleep_time": 0.5,
            "catchup_by_default": False,
            # A task whose supervisor was killed is noticed after this many seconds without a sign of life.
            "task_instance_heartbeat_timeout": 60,
            "orphaned_tasks_check_interval": 60,
            "enable_health_check": False,
            # Tasks are forked from one process that has imported the engines: seconds saved on every task. Only what
            # others wrote is named here, so that our own code is always read afresh.
            "mp_start_method": "forkserver",
            "mp_forkserver_preload": ",".join(_PRELOADED),
        },
        "dag_processor": {
            "min_file_process_interval": 60,
            "refresh_interval": 30,
            "parsing_processes": 1,
            "dag_file_processor_timeout": 120,
        },
        "logging": {
            "base_log_folder": home / "logs",
            "dag_processor_child_process_log_directory": home / "logs" / "dag_processor",
            "logging_level": "INFO",
            "namespace_levels": ",".join(f"{name}=WARNING" for name in _CHATTY),
            "colored_console_log": False,
            # Task logs may hold paths and campaign names: for the owner's eyes.
            "file_task_handler_new_folder_permissions": "0o700",
            "file_task_handler_new_file_permissions": "0o600",
        },
        "metrics": {"statsd_on": False, "otel_on": False},
    }
    variables = {
        f"AIRFLOW__{section.upper()}__{key.upper()}": str(value)
        for section, values in options.items()
        for key, value in values.items()
    }
    return {
        **settings.environment(),
        **variables,
        "AIRFLOW_HOME": str(home),
        "PYTHONUNBUFFERED": "1",
        # No stage may call home from a task.
        "SCARF_ANALYTICS": "false",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GX_ANALYTICS_ENABLED": "false",
        "BENTOML_DO_NOT_TRACK": "true",
        # Two tasks on two cores: libraries that spawn a thread per core would only wait for one another.
        "OMP_NUM_THREADS": str(settings.threads),
    }


def command(settings: Settings, component: Component) -> tuple[str, ...]:
    """The command line of one Airflow process."""
    airflow = (sys.executable, "-m", "airflow")
    match component:
        case "api-server":
            return (*airflow, "api-server", "--host", settings.host, "--port", str(settings.airflow_port),
                    "--workers", "1")  # fmt: skip
        case "scheduler" | "triggerer":
            # Task logs are files the API server reads itself; a log server per component would only hold a port.
            return (*airflow, component, "--skip-serve-logs")
        case "dag-processor":
            return (*airflow, component)


def migrate(settings: Settings) -> None:
    """Bring Airflow's own database to the installed version; does nothing where it is there already.

    Raises:
        AirflowError: the migration failed; the message holds the end of its output.
    """
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env={**os.environ, **airflow_environment(settings)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise AirflowError(f"airflow db migrate failed:\n{(done.stdout + done.stderr)[-2000:]}")


# --- runs over the REST API --------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class TaskState:
    """One task of a run. ``map_index`` is -1 for a task that is not mapped."""

    task_id: str
    state: str | None
    map_index: int = -1
    try_number: int = 0
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Where a run stands."""

    dag_id: str
    run_id: str
    state: RunState
    tasks: tuple[TaskState, ...] = ()

    @property
    def succeeded(self) -> bool:
        return self.state == "success"

    @property
    def failed_tasks(self) -> tuple[str, ...]:
        return tuple(t.task_id for t in self.tasks if t.state == "failed")


@dataclass
class AirflowClient:
    """Airflow's REST API (v2) with the local login. Use as a context manager.

    Args:
        settings: as for :func:`airflow_environment`.
        timeout: seconds one request may take.
    """

    settings: Settings
    timeout: float = 30.0
    _http: httpx.Client = field(init=False)
    _token: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        # trust_env off: a proxy of the machine must not see calls to the loopback.
        self._http = httpx.Client(base_url=base_url(self.settings), timeout=self.timeout, trust_env=False)

    def __enter__(self) -> AirflowClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def _login(self) -> str:
        user, password = credentials(self.settings)
        answer = self._http.post("/auth/token", json={"username": user, "password": password})
        if answer.status_code != httpx.codes.CREATED:
            raise AirflowError(f"Airflow refused its own login with {answer.status_code}: {answer.text[:300]}")
        return str(answer.json()["access_token"])

    def request(self, method: str, path: str, *, accept: tuple[int, ...] = (), **options: Any) -> httpx.Response:
        """Send one request below ``/api/v2``; log in first, and once more when the token has run out.

        Raises:
            AirflowError: Airflow cannot be reached, or answers an error that is not among ``accept``.
        """
        try:
            for fresh in (False, True):
                if self._token is None or fresh:
                    self._token = self._login()
                answer = self._http.request(
                    method, f"/api/v2{path}", headers={"Authorization": f"Bearer {self._token}"}, **options
                )
                if answer.status_code != httpx.codes.UNAUTHORIZED:
                    break
        except httpx.TransportError as error:
            raise AirflowError(
                f"Airflow does not answer at {base_url(self.settings)} ({error}); start it with 'turnout up'"
            ) from error
        if answer.is_error and answer.status_code not in accept:
            raise AirflowError(f"Airflow answered {answer.status_code} to {method} {path}: {_detail(answer)}")
        return answer

    def health(self) -> dict[str, str | None]:
        """State of each component by Airflow's own word: ``{"metadatabase": "healthy", "scheduler": …}``."""
        body = self._http.get("/api/v2/monitor/health").raise_for_status().json()
        return {name: part.get("status") for name, part in body.items() if isinstance(part, Mapping)}

    def wait_for_dag(self, dag_id: str, timeout: float = 90.0) -> dict[str, Any]:
        """The DAG's description, as soon as the DAG processor has read its file.

        Raises:
            AirflowError: it is not there in time; the message names import errors Airflow found.
        """
        deadline = time.monotonic() + timeout
        while True:
            answer = self.request("GET", f"/dags/{quote(dag_id)}", accept=(404,))
            if answer.status_code == httpx.codes.OK:
                found: dict[str, Any] = answer.json()
                return found
            if time.monotonic() > deadline:
                errors = self.request("GET", "/importErrors").json().get("import_errors", [])
                causes = "; ".join(f"{e['filename']}: {e['stack_trace'].strip()[-500:]}" for e in errors)
                raise AirflowError(
                    f"Airflow has no DAG {dag_id!r} after {timeout:.0f} s. {causes or 'No file errors.'}"
                )
            time.sleep(0.5)

    def set_paused(self, dag_id: str, paused: bool) -> None:
        self.request("PATCH", f"/dags/{quote(dag_id)}", json={"is_paused": paused})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Create a run and let the DAG run; returns the run's id.

        A paused DAG with a schedule owes the run of its last interval, and Airflow creates that run as soon as the
        DAG is unpaused. The run made here therefore stands for that interval, so the work is done once, not twice.
        """
        dag = self.wait_for_dag(dag_id)
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        answer: httpx.Response | None = None
        due = dag.get("next_dagrun_run_after")
        if dag["is_paused"] and due and datetime.fromisoformat(due) <= datetime.now().astimezone():
            owed = {
                "logical_date": dag["next_dagrun_logical_date"],
                "data_interval_start": dag["next_dagrun_data_interval_start"],
                "data_interval_end": dag["next_dagrun_data_interval_end"],
            }
            # 409: that interval has its run already, so unpausing will create none.
            answer = self.request("POST", f"/dags/{quote(dag_id)}/dagRuns", json={**body, **owed}, accept=(409,))
        if answer is None or answer.status_code == httpx.codes.CONFLICT:
            answer = self.request("POST", f"/dags/{quote(dag_id)}/dagRuns", json=body)
        if dag["is_paused"]:
            self.set_paused(dag_id, False)
        run_id = str(answer.json()["dag_run_id"])
        log.info("dag triggered", dag_id=dag_id, run_id=run_id)
        return run_id

    def status(self, dag_id: str, run_id: str) -> RunStatus:
        """Where a run and its tasks stand."""
        path = f"/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}"
        run = self.request("GET", path).json()
        tasks = self.request("GET", f"{path}/taskInstances", params={"limit": 100}).json()["task_instances"]
        return RunStatus(dag_id, run_id, run["state"], tuple(
            TaskState(t["task_id"], t["state"], t["map_index"], t["try_number"], t["duration"]) for t in tasks
        ))  # fmt: skip

    def wait(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout: float = 3600.0,
        progress: Callable[[RunStatus], None] | None = None,
        poll: float = 1.0,
    ) -> RunStatus:
        """Block until the run has ended; call ``progress`` with every look.

        Raises:
            AirflowError: the run failed or did not end in time; names the failed tasks and the end of their logs.
        """
        deadline = time.monotonic() + timeout
        while True:
            status = self.status(dag_id, run_id)
            if progress:
                progress(status)
            if status.succeeded:
                return status
            if status.state in FINISHED:
                raise AirflowError(f"run {run_id} of {dag_id} failed: {self._causes(status)}")
            if time.monotonic() > deadline:
                raise AirflowError(f"run {run_id} of {dag_id} is still {status.state} after {timeout:.0f} s")
            time.sleep(poll)

    def run(
        self,
        dag_id: str,
        conf: Mapping[str, Any] | None = None,
        *,
        timeout: float = 3600.0,
        progress: Callable[[RunStatus], None] | None = None,
    ) -> RunStatus:
        """:meth:`trigger` and :meth:`wait`; a DAG that was paused is paused again afterwards.

        Raises:
            AirflowError: as :meth:`wait`.
        """
        was_paused = bool(self.wait_for_dag(dag_id)["is_paused"])
        try:
            return self.wait(dag_id, self.trigger(dag_id, conf), timeout=timeout, progress=progress)
        finally:
            if was_paused:
                self.set_paused(dag_id, True)

    def _causes(self, status: RunStatus) -> str:
        causes = []
        for task in status.tasks:
            if task.state == "failed":
                where = f"{task.task_id}[{task.map_index}]" if task.map_index >= 0 else task.task_id
                lines = [line for line in self.task_log(status, task).splitlines() if not line.startswith("::")]
                causes.append(f"task {where}: {' | '.join(lines)[-800:] or 'no log'}")
        return "\n".join(causes) or f"no task failed; see {airflow_home(self.settings) / 'logs'}"

    def stop(self, dag_id: str, run_id: str, *, timeout: float = 60.0) -> None:
        """Mark a run as failed, whatever its tasks are at; they are ended, and not tried again.

        Raises:
            AirflowError: tasks still run after ``timeout`` seconds.
        """
        path = f"/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}"
        self.request("PATCH", path, json={"state": "failed"})
        deadline = time.monotonic() + timeout
        while any(task.state in {"running", "queued"} for task in self.status(dag_id, run_id).tasks):
            if time.monotonic() > deadline:
                raise AirflowError(f"tasks of run {run_id} of {dag_id} still run after {timeout:.0f} s")
            time.sleep(0.5)

    def task_log(self, status: RunStatus, task: TaskState) -> str:
        """The log of a task's last attempt as text, or nothing where there is none."""
        with contextlib.suppress(AirflowError, ValueError):
            answer = self.request(
                "GET",
                f"/dags/{quote(status.dag_id)}/dagRuns/{quote(status.run_id, safe='')}"
                f"/taskInstances/{quote(task.task_id)}/logs/{max(task.try_number, 1)}",
                params={"map_index": task.map_index, "full_content": True},
            )
            lines = answer.json().get("content", [])
            return "\n".join(_log_line(line) for line in lines)
        return ""

    def result(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Any:
        """What a task returned (its XCom), or ``None``."""
        answer = self.request(
            "GET",
            f"/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}"
            f"/taskInstances/{quote(task_id)}/xcomEntries/return_value",
            params={"map_index": map_index}, accept=(404,),
        )  # fmt: skip
        return None if answer.status_code == httpx.codes.NOT_FOUND else answer.json()["value"]

    def backfill(self, dag_id: str, first: date, last: date, *, reprocess: bool = True) -> int:
        """Ask Airflow for a run of each interval that starts on ``first`` … ``last``; returns the backfill's id.

        Args:
            reprocess: run days that have a run already once more (safe: every load replaces, none adds).
        """
        zone = self.settings.zone
        dag = self.wait_for_dag(dag_id)
        body = {
            "dag_id": dag_id,
            "from_date": datetime.combine(first, clock.min, zone).isoformat(),
            # The end of the day, not its midnight: midnight would leave out that day's run.
            "to_date": (datetime.combine(last + timedelta(days=1), clock.min, zone) - timedelta(seconds=1)).isoformat(),
            "run_backwards": False,
            "max_active_runs": 1,
            "dag_run_conf": {},
            "reprocess_behavior": "completed" if reprocess else "none",
        }
        created = int(self.request("POST", "/backfills", json=body).json()["id"])
        if dag["is_paused"]:
            self.set_paused(dag_id, False)
        log.info("backfill created", dag_id=dag_id, backfill=created, first=str(first), last=str(last))
        return created

    def wait_for_backfill(self, backfill_id: int, *, timeout: float = 3600.0, poll: float = 1.0) -> None:
        """Block until every run of the backfill has ended.

        Raises:
            AirflowError: it did not end in time, or a run of it failed.
        """
        deadline = time.monotonic() + timeout
        while True:
            body = self.request("GET", f"/backfills/{backfill_id}").json()
            if body["completed_at"]:
                break
            if time.monotonic() > deadline:
                raise AirflowError(f"backfill {backfill_id} has not ended after {timeout:.0f} s")
            time.sleep(poll)
        runs = self.request(
            "GET", f"/dags/{quote(body['dag_id'])}/dagRuns",
            params={"run_type": "backfill", "state": "failed", "updated_at_gte": body["created_at"], "limit": 100},
        ).json()["dag_runs"]  # fmt: skip
        if runs:
            raise AirflowError(
                f"{len(runs)} run(s) of backfill {backfill_id} failed: {', '.join(r['dag_run_id'] for r in runs)}"
            )


def trigger(settings: Settings, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
    """Start a run of ``dag_id`` with parameters ``conf``; returns its id. See :meth:`AirflowClient.trigger`."""
    with AirflowClient(settings) as client:
        return client.trigger(dag_id, conf)


def wait(
    settings: Settings,
    dag_id: str,
    run_id: str,
    *,
    timeout: float = 3600.0,
    progress: Callable[[RunStatus], None] | None = None,
) -> RunStatus:
    """Block until a run has ended. See :meth:`AirflowClient.wait`."""
    with AirflowClient(settings) as client:
        return client.wait(dag_id, run_id, timeout=timeout, progress=progress)


def backfill(settings: Settings, dag_id: str, first: date, last: date, *, timeout: float = 3600.0) -> None:
    """Run ``dag_id`` once for every day ``first`` … ``last`` and wait for the end."""
    with AirflowClient(settings) as client:
        client.wait_for_backfill(client.backfill(dag_id, first, last), timeout=timeout)


def activate(settings: Settings, dag_ids: tuple[str, ...]) -> None:
    """Let scheduled DAGs run from now on (``turnout up``)."""
    with AirflowClient(settings) as client:
        for dag_id in dag_ids:
            client.wait_for_dag(dag_id)
            client.set_paused(dag_id, False)


def _detail(answer: httpx.Response) -> str:
    try:
        detail = answer.json().get("detail", answer.text)
    except ValueError:
        detail = answer.text
    return str(detail)[:600]


def _log_line(line: object) -> str:
    if not isinstance(line, Mapping):
        return str(line)
    # Airflow logs an exception as a list of frames; its type and message are what a person looks for.
    errors = [f"{e.get('exc_type')}: {e.get('exc_value')}" for e in line.get("error_detail") or [] if e]
    return " ".join([str(line.get("event", "")), *errors])
