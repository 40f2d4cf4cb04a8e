"""The doctor finds each defect, names its cure, and never breaks itself."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import psutil
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from turnout.runtime import doctor as dr
from turnout.runtime.doctor import Check, doctor
from turnout.runtime.servers import embedded, stop_unused
from turnout.runtime.supervisor import MARK, ProcessStatus, Status, free_port
from turnout.settings import Settings
from turnout.warehouse.tables import ingest_run

NAMES = [
    "python", "packages", "lock", "memory", "home", "disk", "secrets", "time zone", "sockets", "ports", "leftovers",
    "postgres", "databases", "migrations", "models", "ingestion", "redis", "processes",
]  # fmt: skip


@pytest.fixture
def own() -> Iterator[Settings]:
    """Settings of a home without servers."""
    folder = Path(tempfile.mkdtemp(prefix="tt-"))
    folder.chmod(0o711)
    settings = Settings(home=folder)
    yield settings
    stop_unused(settings)
    shutil.rmtree(folder)


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_a_working_installation_passes_every_check(settings: Settings, engine: Engine, redis_url: str):
    record_run(engine, settings, status="succeeded")
    checks = doctor(settings)
    assert [check.name for check in checks] == NAMES
    assert [c for c in checks if c.status == "fail"] == []
    assert all(check.fix is None for check in checks if check.status == "ok")
    assert all(check.fix for check in checks if check.status != "ok")


def test_a_machine_where_nothing_ever_ran_passes_and_stays_untouched(tmp_path: Path):
    home = tmp_path / "home"
    checks = by_name(doctor(Settings(home=home)))
    assert not [c for c in checks.values() if c.status == "fail"]
    assert "not created yet" in checks["postgres"].detail
    assert "not created yet" in checks["redis"].detail
    assert not home.exists()


def test_embedded_servers_are_started_for_the_examination_and_stopped_after_it(own: Settings):
    with embedded(own, durable=False):
        pass
    checks = by_name(doctor(own))
    assert checks["postgres"].status == "ok"
    assert checks["redis"].status == "ok"
    assert checks["migrations"].status == "ok"
    assert stop_unused(own) == []


def test_embedded_servers_that_cannot_start_are_a_finding(own: Settings):
    with embedded(own, durable=False):
        pass
    (own.home_path / "postgres" / "18" / "postgresql.conf").write_text("nonsense = 1\n")
    found = by_name(doctor(own))["servers"]
    assert found.status == "fail"
    assert "nonsense" in found.detail


def test_servers_that_cannot_be_reached_are_told_without_their_password(tmp_path: Path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        checks = by_name(
            doctor(
                Settings(
                    home=tmp_path,
                    database_url=f"postgresql://turnout:hunter2@127.0.0.1:{port}/turnout",
                    redis_url=f"redis://:hunter2@127.0.0.1:{port}/0",
                )
            )
        )
    assert checks["postgres"].status == "fail"
    assert "refused" in checks["postgres"].detail
    assert "TURNOUT_DATABASE_URL" in str(checks["postgres"].fix)
    assert checks["redis"].status == "fail"
    assert "TURNOUT_REDIS_URL" in str(checks["redis"].fix)
    assert "hunter2" not in str(checks)


def test_a_missing_database_is_named(settings: Settings):
    url = settings.url_for("mlflow").set(database="gone").render_as_string(hide_password=False)
    found = dr.check_databases(settings.model_copy(update={"mlflow_database_url": url}))
    assert found.status == "fail"
    assert found.detail.startswith("cannot be opened: mlflow (")


def test_an_old_warehouse_is_named(settings: Settings, engine: Engine):
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE turnout.alembic_version SET version_num = '0000'"))
    try:
        found = dr.check_migrations(settings)
    finally:
        with engine.begin() as connection:
            connection.execute(
                sa.text("UPDATE turnout.alembic_version SET version_num = :head"), {"head": dr.head_revision()}
            )
    assert (found.status, found.fix) == ("fail", "turnout migrate")
    assert dr.check_migrations(settings).status == "ok"


def test_champions_are_read_from_the_registry(settings: Settings, empty_registry: Any):
    assert dr.check_models(settings).status == "warn"
    for name in ("turnout-response", "turnout-demand"):
        empty_registry.create_registered_model(name)
        empty_registry.create_model_version(name, source=settings.home_path.as_uri(), run_id=None)
    empty_registry.set_registered_model_alias("turnout-response", "champion", "1")
    found = dr.check_models(settings)
    assert found.status == "warn"
    assert found.detail == "champions: turnout-response version 1; missing: turnout-demand"
    empty_registry.set_registered_model_alias("turnout-demand", "champion", "1")
    assert dr.check_models(settings) == Check(
        "models", "ok", "champions: turnout-demand version 1, turnout-response version 1"
    )


def record_run(engine: Engine, settings: Settings, **columns: Any) -> None:
    row = {
        "run_id": uuid4(), "organisation": settings.organisation, "trigger": "test", "code_version": "1",
        "started_at": datetime.now(UTC),
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(sa.insert(ingest_run), row | columns)


def test_the_last_reading_counts(settings: Settings, engine: Engine):
    assert dr.check_ingestion(settings).detail == "nothing read yet"
    record_run(engine, settings, status="succeeded", started_at=datetime.now(UTC) - timedelta(days=9))
    assert dr.check_ingestion(settings).status == "warn"
    record_run(
        engine, settings, status="failed", error="no such file\nTraceback", started_at=datetime.now(UTC) - timedelta(1)
    )
    found = dr.check_ingestion(settings)
    assert found.status == "fail"
    assert found.detail.endswith(": no such file")
    record_run(engine, settings, status="succeeded")
    assert dr.check_ingestion(settings).status == "ok"


def test_versions_that_do_not_fit_are_named(tmp_path: Path):
    assert dr.check_python((3, 9)).status == "fail"
    assert dr.check_python((3, 13)).status == "fail"
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "pytest==0.1 \\\n    --hash=sha256:00\nnot-installed==1 ; python_version >= '3.9' \\\n    --hash=sha256:00\n"
        "windows-only==1 ; sys_platform == 'win32' \\\n    --hash=sha256:00\n# a comment\n"
    )
    found = dr.check_lock(lock)
    assert found.status == "warn"
    assert "pytest is" in found.detail
    assert "not-installed is missing" in found.detail
    assert "windows-only" not in found.detail
    assert dr.check_lock(tmp_path / "none").status == "ok"


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dr, "PACKAGES", ("psycopg", "no_such_package"))
    assert dr.check_packages() == Check("packages", "fail", "cannot be imported: no_such_package", "make env")


@pytest.mark.parametrize(("free", "verdict"), [(0.5, "fail"), (2.0, "warn"), (50.0, "ok")])
def test_disk_space_is_judged(settings: Settings, monkeypatch: pytest.MonkeyPatch, free: float, verdict: str):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free * dr.GIB))
    assert dr.check_disk(settings).status == verdict


@pytest.mark.parametrize(("total", "verdict"), [(1.0, "fail"), (3.0, "warn")])
def test_memory_is_judged(monkeypatch: pytest.MonkeyPatch, total: float, verdict: str):
    memory = SimpleNamespace(total=int(total * dr.GIB), available=dr.GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert dr.check_memory().status == verdict


def test_a_home_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    found = dr.check_home(Settings(home=tmp_path / "file"))
    assert found.status == "fail"
    assert "TURNOUT_HOME" in str(found.fix)
    assert dr.check_home(Settings(home=tmp_path / "new" / "home")).status == "ok"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert dr.check_home(Settings(home=tmp_path / "new" / "home")).detail == f"{tmp_path} is not writable"


def test_passwords_others_may_read_are_named(tmp_path: Path):
    secrets = tmp_path / ".env"
    assert dr.check_secrets_file(secrets).status == "ok"
    secrets.write_text("POSTGRES_PASSWORD=x")
    secrets.chmod(0o644)
    assert dr.check_secrets_file(secrets) == Check(
        "secrets", "warn", f"other users may read {secrets}", f"chmod 600 {secrets}"
    )
    secrets.chmod(0o600)
    assert dr.check_secrets_file(secrets).status == "ok"


def test_long_socket_paths_and_taken_ports_are_named(settings: Settings):
    found = dr.check_sockets(settings.model_copy(update={"runtime_dir": Path("/tmp") / ("x" * 100)}))
    assert found.status == "fail"
    assert "TURNOUT_RUNTIME_DIR" in str(found.fix)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        free = free_port("127.0.0.1", 1 + port)
        given = settings.model_copy(update={"service_port": port, "airflow_port": free, "mlflow_port": free})
        found = dr.check_ports(given, Status("stopped"))
        assert (found.status, found.detail) == ("warn", f"taken by others: service_port {port}")
        assert dr.check_ports(given, Status("running", ports={"service_port": port})).status == "ok"


def test_processes_left_by_a_killed_supervisor_are_named(settings: Settings):
    left = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], env={**os.environ, MARK: str(settings.home_path)}
    )
    try:
        found = dr.check_leftovers(settings, Status("stopped"))
    finally:
        left.kill()
        left.wait()
    assert (found.status, found.fix) == ("warn", "turnout down")
    assert f"process {left.pid}" in found.detail
    assert dr.check_leftovers(settings, Status("stopped")).status == "ok"


def test_processes_that_are_not_well_are_named():
    def part(name: str, **columns: Any) -> ProcessStatus:
        return ProcessStatus(name, **{"state": "running", "log": "log", **columns})

    assert dr.check_processes(Status("stopped")).status == "ok"
    assert dr.check_processes(Status("failed", error="mlflow ended")).detail == "mlflow ended"
    well = Status("running", processes=[part("mlflow")])
    assert dr.check_processes(well).status == "ok"
    ill = Status("running", processes=[part("mlflow", state="restarting"), part("airflow-scheduler", restarts=7)])
    found = dr.check_processes(ill)
    assert found.status == "warn"
    assert found.detail == "mlflow is restarting; airflow-scheduler crashed 7 times"


def test_a_check_that_breaks_is_a_finding(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    def broken() -> Check:
        raise RuntimeError("out of order")

    monkeypatch.setattr(dr, "check_python", broken)
    found = by_name(doctor(settings))["python"]
    assert (found.status, found.detail) == ("fail", "could not be checked: RuntimeError: out of order")
