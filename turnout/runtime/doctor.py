"""Is everything as it should be, and if not, how is it mended?

Every check is independent, reports instead of raising, and imports nothing heavy. Embedded servers that exist but do
not run are started, and migrated as by any command, for the length of the examination. None is created.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import httpx
import psutil
import psycopg
import redis
import sqlalchemy as sa
from packaging.requirements import InvalidRequirement, Requirement
from sqlalchemy import text

from turnout.registry import CHAMPION, MODELS
from turnout.runtime import postgres, redis_server
from turnout.runtime.servers import embedded_servers, in_use, services, without_url
from turnout.runtime.supervisor import PORTS, Status, leftovers, status
from turnout.settings import DATABASES, Settings
from turnout.warehouse.engine import create_engine
from turnout.warehouse.migrate import current_revision, head_revision

Verdict = Literal["ok", "warn", "fail"]

GIB: Final = 2**30
#: The whole stack at rest takes about 2.5 GB of memory, a nightly run on one year of history about 1 GB more.
MEMORY_NEEDED, MEMORY_WANTED = 2 * GIB, 4 * GIB
DISK_NEEDED, DISK_WANTED = 1 * GIB, 5 * GIB
#: The nightly run reads every night; two missed nights are worth a word.
INGEST_AGE_WANTED: Final = timedelta(days=2)
#: Declarative partitioning with all we use, and ``security_invoker`` views, came with this version.
POSTGRES_NEEDED: Final = 15
REDIS_NEEDED: Final = (6, 2)

#: Import names of what the stages cannot do without.
PACKAGES: Final = (
    "airflow", "alembic", "asyncpg", "bentoml", "feast", "great_expectations", "mlflow", "pandas", "prophet", "psycopg",
    "psycopg2", "pyarrow", "redis", "sqlalchemy", "xgboost",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. ``fix`` says what to type or change; it is ``None`` where nothing is wrong."""

    name: str
    status: Verdict
    detail: str
    fix: str | None = None


def doctor(settings: Settings) -> list[Check]:
    """Examine this machine and this installation, in the order in which one would mend things."""
    now = status(settings)
    before: list[tuple[str, Callable[[], Check]]] = [
        ("python", check_python),
        ("packages", check_packages),
        ("lock", check_lock),
        ("memory", check_memory),
        ("home", partial(check_home, settings)),
        ("disk", partial(check_disk, settings)),
        ("secrets", check_secrets_file),
        ("time zone", partial(check_time_zone, settings)),
        ("sockets", partial(check_sockets, settings)),
        ("ports", partial(check_ports, settings, now)),
        ("leftovers", partial(check_leftovers, settings, now)),
    ]
    found = [_examine(name, check) for name, check in before]
    found += check_stores(settings)
    found.append(_examine("processes", partial(check_processes, now)))
    return found


def _examine(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # a check that breaks is a finding, not the end of the examination
        return Check(name, "fail", f"could not be checked: {type(error).__name__}: {error}", "see the detail")


# --- the machine ------------------------------------------------------------------------------------------------------


def check_python(found: tuple[int, int] = sys.version_info[:2]) -> Check:
    detail = f"{platform.python_version()} in {sys.prefix}"
    if not (3, 11) <= found < (3, 13):
        return Check("python", "fail", detail, "make PYTHON=/path/to/python3.11 env")
    return Check("python", "ok", detail)


def check_packages() -> Check:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        return Check("packages", "fail", f"cannot be imported: {', '.join(missing)}", "make env")
    return Check("packages", "ok", f"{len(PACKAGES)} of {len(PACKAGES)} importable")


def check_lock(lock: Path | None = None) -> Check:
    """Whether what is installed is what ``requirements.lock`` names."""
    lock = lock or Path(__file__).resolve().parents[2] / "requirements.lock"
    if not lock.exists():
        return Check("lock", "ok", "no requirements.lock here: installed as a package")
    differing: list[str] = []
    count = 0
    for wanted in _locked(lock):
        count += 1
        try:
            installed = version(wanted.name)
        except PackageNotFoundError:
            differing.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(installed, prereleases=True):
            differing.append(f"{wanted.name} is {installed}, not {wanted.specifier}")
    if differing:
        shown = "; ".join(differing[:5]) + (f"; and {len(differing) - 5} more" if len(differing) > 5 else "")
        return Check("lock", "warn", f"differs from requirements.lock: {shown}", "make env (or rm .venv/.ready first)")
    return Check("lock", "ok", f"{count} packages as locked")


def _locked(lock: Path) -> Iterator[Requirement]:
    for line in lock.read_text().splitlines():
        if line and not line[0].isspace() and line[0] not in "#-":
            with suppress(InvalidRequirement):
                wanted = Requirement(line.removesuffix("\\").strip())
                if wanted.marker is None or wanted.marker.evaluate():
                    yield wanted


def check_memory() -> Check:
    total, free = psutil.virtual_memory().total, psutil.virtual_memory().available
    with suppress(OSError, ValueError):  # a container's own limit, where there is one
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        total, free = min(total, limit), min(free, limit - used)
    detail = f"{free / GIB:.1f} of {total / GIB:.1f} GB free"
    if total < MEMORY_NEEDED:
        return Check("memory", "fail", detail, f"the whole stack needs {MEMORY_NEEDED / GIB:.0f} GB")
    if total < MEMORY_WANTED:
        return Check("memory", "warn", detail, f"{MEMORY_WANTED / GIB:.0f} GB leave room for the nightly training")
    return Check("memory", "ok", detail)


def check_home(settings: Settings) -> Check:
    home = settings.home_path
    place = _existing(home)
    if not os.access(place, os.W_OK | os.X_OK):
        return Check("home", "fail", f"{place} is not writable", "set TURNOUT_HOME to a folder of yours")
    if not home.exists():
        return Check("home", "ok", f"{home} will be created")
    if not home.is_dir():
        return Check("home", "fail", f"{home} is not a folder", "set TURNOUT_HOME to a folder")
    if os.geteuid() == 0 and (owner := home.stat().st_uid) != 0:
        return Check(
            "home", "warn", f"{home} belongs to user {owner}, you are root", "run Turnout as the user it belongs to"
        )
    return Check("home", "ok", str(home))


def check_disk(settings: Settings) -> Check:
    place = _existing(settings.home_path)
    free = shutil.disk_usage(place).free
    detail = f"{free / GIB:.1f} GB free at {place}"
    if free < DISK_NEEDED:
        return Check("disk", "fail", detail, "free some space, or move TURNOUT_HOME to a larger disk")
    if free < DISK_WANTED:
        return Check("disk", "warn", detail, f"{DISK_WANTED / GIB:.0f} GB leave room for history and models")
    return Check("disk", "ok", detail)


def check_secrets_file(path: Path = Path(".env")) -> Check:
    """``.env`` holds passwords: others must not read it."""
    if not path.exists():
        return Check("secrets", "ok", "no .env file here")
    if path.stat().st_mode & 0o077:
        return Check("secrets", "warn", f"other users may read {path.resolve()}", f"chmod 600 {path}")
    return Check("secrets", "ok", f"{path.resolve()} is for its owner only")


def check_time_zone(settings: Settings) -> Check:
    try:
        offset = datetime.now(ZoneInfo(settings.time_zone)).strftime("%z")
    except ZoneInfoNotFoundError:
        return Check("time zone", "fail", f"no data for {settings.time_zone}", "install tzdata: make env")
    return Check("time zone", "ok", f"{settings.time_zone}, now UTC{offset[:3]}:{offset[3:]}")


def check_sockets(settings: Settings) -> Check:
    server, _ = embedded_servers(settings)
    longest = server.sockets / postgres.SOCKET_NAME
    over = len(str(longest)) - postgres.SOCKET_PATH_LIMIT
    if over > 0:
        return Check(
            "sockets",
            "fail",
            f"{longest} is {over} characters too long for a socket",
            "set TURNOUT_RUNTIME_DIR shorter",
        )
    return Check("sockets", "ok", str(settings.runtime_path))


def check_ports(settings: Settings, now: Status) -> Check:
    if now.ports:
        return Check("ports", "ok", ", ".join(f"{n.removesuffix('_port')} {p}" for n, p in now.ports.items()))
    taken = [f"{name} {getattr(settings, name)}" for name in PORTS if _listens(settings.host, getattr(settings, name))]
    if taken:
        variables = ", ".join(f"TURNOUT_{name.split()[0].upper()}" for name in taken)
        return Check(
            "ports",
            "warn",
            f"taken by others: {', '.join(taken)}",
            f"none needed: the next ones are used ({variables})",
        )
    return Check("ports", "ok", ", ".join(f"{n.removesuffix('_port')} {getattr(settings, n)}" for n in PORTS) + " free")


def _listens(host: str, port: int) -> bool:
    host = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def check_leftovers(settings: Settings, now: Status) -> Check:
    """What a killed supervisor or command left running."""
    left = [] if now.phase in ("running", "starting") else [f"process {p.pid}" for p in leftovers(settings)]
    if not in_use(settings):
        left += [server.name for server in now.servers]
    if left:
        return Check("leftovers", "warn", f"still running though nobody uses them: {', '.join(left)}", "turnout down")
    return Check("leftovers", "ok", "none")


# --- the stores -------------------------------------------------------------------------------------------------------


def check_stores(settings: Settings) -> list[Check]:
    """PostgreSQL with all that should be in it, and Redis."""
    servers = embedded_servers(settings)
    absent = [server for server in without_url(settings, servers) if not server.data.exists()]
    checks = [_examine(server.name, partial(_check_program, server)) for server in absent]
    if absent:
        return checks
    with ExitStack() as stack:
        try:
            ready = stack.enter_context(services(settings))
        except Exception as error:  # whatever keeps them from starting is what is to be told
            fix = f"see the log in {settings.home_path / 'logs'}"
            return [*checks, Check("servers", "fail", str(error), fix)]
        checks.append(_examine("postgres", partial(check_postgres, ready)))
        if checks[-1].status != "fail":
            checks.append(_examine("databases", partial(check_databases, ready)))
            checks.append(_examine("migrations", partial(check_migrations, ready)))
            checks.append(_examine("models", partial(check_models, ready)))
            checks.append(_examine("ingestion", partial(check_ingestion, ready)))
        checks.append(_examine("redis", partial(check_redis, ready)))
    return checks


def _check_program(server: postgres.Postgres | redis_server.RedisServer) -> Check:
    """The server was never started here: will its program run?"""
    done = subprocess.run([server.program(), "--version"], capture_output=True, text=True, check=False)
    if done.returncode:
        return Check(
            server.name, "fail", f"its program does not run: {done.stderr.strip()}", "rm .venv/.ready; make env"
        )
    return Check(server.name, "ok", f"not created yet; will be with the first command ({done.stdout.strip()})")


def check_postgres(settings: Settings) -> Check:
    url = settings.url_for("turnout")
    try:
        with psycopg.connect(_plain(url), connect_timeout=10) as connection:
            number = connection.info.server_version // 10000
            encoding = connection.info.parameter_status("server_encoding")
    except psycopg.OperationalError as error:
        detail = f"{url.render_as_string(hide_password=True)}: {_first_line(error)}"
        return Check("postgres", "fail", detail, "check TURNOUT_DATABASE_URL, or let turnout up create the database")
    detail = f"PostgreSQL {number}, {encoding}, {url.render_as_string(hide_password=True)}"
    if number < POSTGRES_NEEDED:
        return Check("postgres", "fail", detail, f"use PostgreSQL {POSTGRES_NEEDED} or later")
    if encoding != "UTF8":
        return Check("postgres", "fail", detail, "create the database with ENCODING 'UTF8'")
    return Check("postgres", "ok", detail)


def check_databases(settings: Settings) -> Check:
    missing = []
    for name in DATABASES:
        try:
            psycopg.connect(_plain(settings.url_for(name)), connect_timeout=10).close()
        except psycopg.OperationalError as error:
            missing.append(f"{name} ({_first_line(error)})")
    if missing:
        return Check("databases", "fail", f"cannot be opened: {', '.join(missing)}", _MIGRATE)
    return Check("databases", "ok", ", ".join(DATABASES))


def check_migrations(settings: Settings) -> Check:
    engine = create_engine(settings, pool_size=1)
    try:
        with engine.connect() as connection:
            current = current_revision(connection)
    finally:
        engine.dispose()
    if current != (head := head_revision()):
        return Check(
            "migrations", "fail", f"the warehouse is at {current or 'nothing'}, the code expects {head}", _MIGRATE
        )
    return Check("migrations", "ok", f"the warehouse is at {current}")


def check_models(settings: Settings) -> Check:
    """Champions in the registry, read from its tables: importing MLflow takes seconds."""
    if settings.mlflow_tracking_uri:
        return Check("models", "ok", f"kept by the server {settings.mlflow_tracking_uri}: see turnout models list")
    train = "turnout train, or wait for the nightly run"
    query = text("SELECT name, version FROM registered_model_aliases WHERE alias = :alias")
    engine = create_engine(settings, "mlflow", pool_size=1)
    try:
        with engine.connect() as connection:
            if not sa.inspect(connection).has_table("registered_model_aliases"):
                return Check("models", "warn", "none yet: plans rest on benchmarks alone", train)
            champions = {row.name: row.version for row in connection.execute(query, {"alias": CHAMPION})}
    finally:
        engine.dispose()
    missing = [name for name in MODELS if name not in champions]
    detail = ", ".join(f"{n} version {v}" for n, v in sorted(champions.items()) if n in MODELS) or "none"
    if missing:
        return Check("models", "warn", f"champions: {detail}; missing: {', '.join(missing)}", train)
    return Check("models", "ok", f"champions: {detail}")


def check_ingestion(settings: Settings) -> Check:
    query = text(
        "SELECT status, started_at, coalesce(error, '') FROM turnout.ingest_run"
        " WHERE organisation = :organisation ORDER BY started_at DESC LIMIT 1"
    )
    engine = create_engine(settings, pool_size=1)
    try:
        with engine.connect() as connection:
            last = connection.execute(query, {"organisation": settings.organisation}).one_or_none()
    finally:
        engine.dispose()
    if last is None:
        return Check(
            "ingestion", "warn", "nothing read yet", f"turnout ingest FILES, or put exports in {settings.inbox_path}"
        )
    state, started_at, error = last
    detail = f"last run {state}, {started_at.astimezone(settings.zone):%Y-%m-%d %H:%M}"
    if state == "failed":
        return Check(
            "ingestion", "fail", f"{detail}: {error.splitlines()[0] if error else 'no reason given'}", "run it again"
        )
    if datetime.now(UTC) - started_at > INGEST_AGE_WANTED:
        return Check(
            "ingestion", "warn", detail, "unpause ingest_performance in Airflow (turnout up), or turnout ingest"
        )
    return Check("ingestion", "ok", detail)


def check_redis(settings: Settings) -> Check:
    assert settings.redis_url
    shown = sa.make_url(settings.redis_url).render_as_string(hide_password=True)
    client = redis_server.impatient_client(settings.redis_url)
    try:
        info: dict[str, Any] = client.info("server") | client.info("memory")  # type: ignore[operator]
    except redis.RedisError as error:
        return Check("redis", "fail", f"{shown}: {_first_line(error)}", "check TURNOUT_REDIS_URL")
    finally:
        client.close()
    number, policy = str(info["redis_version"]), str(info.get("maxmemory_policy", ""))
    detail = f"Redis {number}, {info['used_memory_human']}, {shown}"
    if tuple(int(part) for part in number.split(".")[:2]) < REDIS_NEEDED:
        return Check("redis", "warn", detail, f"use Redis {'.'.join(map(str, REDIS_NEEDED))} or later")
    if policy.startswith("allkeys"):
        fix = "set maxmemory-policy to noeviction or volatile-lru"
        return Check("redis", "warn", f"{detail}: {policy} may drop features", fix)
    return Check("redis", "ok", detail)


# --- the processes ----------------------------------------------------------------------------------------------------


def check_processes(now: Status) -> Check:
    if now.phase == "stopped":
        return Check("processes", "ok", "not running; turnout up starts them")
    if now.phase == "failed":
        return Check("processes", "fail", now.error or "the last start failed", "turnout up; the logs are in home/logs")
    bad = [f"{p.name} is {p.state}" for p in now.processes if p.state != "running"]
    bad += [f"{p.name} crashed {p.restarts} times" for p in now.processes if p.restarts > 2]
    for process in now.processes:
        if process.name == "service" and process.url and process.state == "running":
            answer = httpx.get(f"{process.url}/readyz", timeout=5.0, trust_env=False)
            if not answer.is_success:
                bad.append(f"the service is not ready ({answer.status_code}): {answer.text[:200]}")
    if bad:
        return Check("processes", "warn", "; ".join(bad), "see turnout status for their logs")
    return Check("processes", "ok", f"{len(now.processes)} running")


# --- helpers ----------------------------------------------------------------------------------------------------------

_MIGRATE: Final = "turnout migrate"


def _existing(path: Path) -> Path:
    """The path itself, or the nearest folder above that exists."""
    return next(p for p in (path, *path.parents) if p.exists())


def _plain(url: sa.URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
