"""Embedded servers: shared by many processes, stopped by the last, recovered after any kill."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import psycopg
import psycopg2
import pytest
import redis
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from turnout.errors import ConfigurationError
from turnout.runtime import postgres, services
from turnout.runtime.postgres import Postgres, ServerError
from turnout.runtime.processes import ProcessId
from turnout.runtime.servers import embedded, embedded_servers, in_use, revive, stop_unused
from turnout.settings import Settings

#: Joins the servers of its home, says so, and stays until told to leave.
USER = """
import sys
from turnout.runtime.servers import services
from turnout.settings import Settings
with services(Settings(_env_file=None), migrate=False, durable=False) as ready:
    print(ready.database_url, flush=True)
    sys.stdin.readline()
print("left", flush=True)
"""


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a home without servers; whatever a test leaves running there ends with it."""
    folder = Path(tempfile.mkdtemp(prefix="tt-"))
    folder.chmod(0o711)
    settings = Settings(home=folder)
    yield settings
    stop_unused(settings)
    shutil.rmtree(folder)


class User:
    """A process that uses the servers of a home."""

    def __init__(self, settings: Settings) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **settings.environment()},
        )

    def wait_in(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def leave(self) -> None:
        self.process.communicate("\n", timeout=60)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def pids(settings: Settings) -> list[ProcessId | None]:
    return [server.running() for server in embedded_servers(settings)]


def kill(settings: Settings) -> None:
    """kill -9 of both servers, not of PostgreSQL's children."""
    for found in pids(settings):
        assert found
        os.kill(found.pid, signal.SIGKILL)
        assert found.wait_gone(10)


def value(url: str | None) -> Any:
    assert url
    with psycopg.connect(url.replace("/turnout?", "/postgres?")) as connection:
        return connection.execute("SELECT 1").fetchone()


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def test_servers_start_for_the_block_and_stop_after_it(own: Settings):
    with services(own, durable=False) as ready:
        assert ready.database_url
        assert ready.redis_url
        assert os.environ["TURNOUT_DATABASE_URL"] == ready.database_url
        assert os.environ["TURNOUT_REDIS_URL"] == ready.redis_url
        assert os.environ["TURNOUT_HOME"] == str(own.home_path)
        assert redis.Redis.from_url(ready.redis_url).ping()
        engine = sa.create_engine(ready.url_for("turnout"))
        with engine.connect() as connection:
            version = connection.scalar(sa.text("SHOW server_version"))
            assert connection.scalar(sa.text("SELECT count(*) FROM turnout.event")) == 0
            assert connection.scalar(sa.text("SHOW listen_addresses")) == ""
        engine.dispose()
        assert version.startswith("18.")
        running = pids(own)
        assert all(running)
        assert in_use(own)
    assert not any(p and p.is_alive() for p in running)
    assert "TURNOUT_DATABASE_URL" not in os.environ
    assert not in_use(own)


def test_data_outlives_a_stop(own: Settings):
    with embedded(own) as ready:
        with psycopg.connect(str(ready.database_url).replace("/turnout?", "/postgres?")) as connection:
            connection.execute("CREATE TABLE kept (n int)")
        redis.Redis.from_url(str(ready.redis_url)).set("kept", "1")
    with embedded(own) as ready:
        with psycopg.connect(str(ready.database_url).replace("/turnout?", "/postgres?")) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        assert redis.Redis.from_url(str(ready.redis_url)).get("kept") == b"1"


def test_urls_that_are_set_are_used_as_they_are(own: Settings):
    given = own.model_copy(
        update={"database_url": "postgresql://u:p@db.example/turnout", "redis_url": "redis://r.example"}
    )
    with services(given) as ready:
        assert (ready.database_url, ready.redis_url) == (given.database_url, given.redis_url)
        assert os.environ["TURNOUT_DATABASE_URL"] == given.database_url
    assert not own.home_path.joinpath("postgres").exists()


def test_one_url_set_leaves_the_other_server_to_us(own: Settings):
    with services(own.model_copy(update={"database_url": "postgresql://u:p@db.example/turnout"})) as ready:
        assert redis.Redis.from_url(str(ready.redis_url)).ping()
        assert [bool(p) for p in pids(own)] == [False, True]
    assert pids(own) == [None, None]


def test_every_driver_connects_by_the_same_url(settings: Settings):
    """Airflow rewrites the URL for psycopg2 and asyncpg, MLflow and Feast for theirs: the socket must survive."""
    query = sa.text("SELECT current_database()")
    for database in ("turnout", "airflow", "mlflow", "feast"):
        url = settings.url_for(database)
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain) as connection:
            assert connection.execute("SELECT current_database()").fetchone() == (url.database,)
        second = psycopg2.connect(plain)
        second.close()
        for driver in ("psycopg", "psycopg2"):
            engine = sa.create_engine(sa.make_url(plain).set(drivername=f"postgresql+{driver}").render_as_string(False))
            with engine.connect() as connection:
                assert connection.scalar(query) == url.database
            engine.dispose()

    async def asynchronous() -> None:
        connection = await asyncpg.connect(plain)
        await connection.close()
        engine = create_async_engine(sa.make_url(plain).set(drivername="postgresql+asyncpg").render_as_string(False))
        async with engine.connect() as connected:
            assert await connected.scalar(query) == url.database
        await engine.dispose()

    asyncio.run(asynchronous())


def test_processes_share_the_servers_and_the_last_one_stops_them(own: Settings):
    users = [User(own) for _ in range(3)]
    urls = {user.wait_in() for user in users}
    assert len(urls) == 1
    running = pids(own)
    users[0].leave()
    users[1].leave()
    assert pids(own) == running
    assert value(urls.pop())
    users[2].leave()
    assert pids(own) == [None, None]


def test_a_killed_user_neither_keeps_nor_stops_the_servers(own: Settings):
    first, second = User(own), User(own)
    first.wait_in()
    url = second.wait_in()
    first.kill()
    assert value(url)
    second.leave()
    assert pids(own) == [None, None]


def test_servers_left_by_killed_users_are_joined_or_stopped(own: Settings):
    user = User(own)
    user.wait_in()
    running = pids(own)
    user.kill()
    assert all(running)
    with embedded(own, durable=False):
        assert pids(own) == running
    assert pids(own) == [None, None]

    user = User(own)
    user.wait_in()
    user.kill()
    assert stop_unused(own) == ["postgres", "redis"]
    assert stop_unused(own) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_the_servers(own: Settings, number: signal.Signals):
    user = User(own)
    user.wait_in()
    running = pids(own)
    user.process.send_signal(number)
    user.process.wait(60)
    assert user.process.returncode not in (0, -number) or number == signal.SIGINT
    assert not any(p and p.is_alive() for p in running)


def test_killed_servers_recover_with_what_was_committed(own: Settings):
    with embedded(own) as ready:
        url = str(ready.database_url).replace("/turnout?", "/postgres?")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE counted (n int)")
            connection.execute("INSERT INTO counted SELECT generate_series(1, 1000)")
        with redis.Redis.from_url(str(ready.redis_url)) as client:
            client.set("kept", "1")
        time.sleep(1.1)  # Redis flushes once a second
        kill(own)
        assert (own.home_path / "postgres" / "18" / "postmaster.pid").exists()
        assert (own.runtime_path / "redis.sock").exists()
        assert revive(own) == ["postgres", "redis"]
        assert revive(own) == []
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM counted").fetchone() == (1000,)
        assert redis.Redis.from_url(str(ready.redis_url)).get("kept") == b"1"
    assert pids(own) == [None, None]


def test_everything_killed_at_once_recovers_at_the_next_start(own: Settings):
    user = User(own)
    user.wait_in()
    kill(own)
    user.kill()
    with embedded(own, durable=False) as ready:
        assert value(ready.database_url)


def test_workers_that_outlive_their_server_are_ended_first(own: Settings):
    """A worker in the middle of a statement does not notice at once; a second server on its data would destroy it."""
    with embedded(own, durable=False) as ready:
        url = str(ready.database_url).replace("/turnout?", "/postgres?")
        connection = psycopg.connect(url, autocommit=True)
        worker = ProcessId.of(connection.info.backend_pid)
        assert worker
        os.kill(worker.pid, signal.SIGSTOP)  # busy beyond reach
        kill(own)
        assert worker.is_alive()
        revive(own)
        assert not worker.is_alive()
        assert value(ready.database_url)
        connection.close()


def test_a_stale_pid_file_with_a_number_used_by_another_process_is_seen_through(own: Settings):
    with embedded(own, durable=False):
        pass
    pid_file = own.home_path / "postgres" / "18" / "postmaster.pid"
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        pid_file.write_text(f"{bystander.pid}\n{pid_file.parent}\n1\n5432\n{own.runtime_path}/pg\n\n  1 1\nready   \n")
        (own.home_path / "redis" / "redis.pid").write_text(str(bystander.pid))
        with embedded(own, durable=False) as ready:
            assert value(ready.database_url)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_stale_sockets_are_removed(own: Settings):
    own.runtime_path.joinpath("pg").mkdir(parents=True)
    with psutil.Popen([sys.executable, "-c", f"""
import socket
for path in ({str(own.runtime_path / "pg" / ".s.PGSQL.5432")!r}, {str(own.runtime_path / "redis.sock")!r}):
    socket.socket(socket.AF_UNIX).bind(path)
"""]) as maker:  # fmt: skip
        maker.wait()
    with embedded(own, durable=False) as ready:
        assert value(ready.database_url)
        assert redis.Redis.from_url(str(ready.redis_url)).ping()


def test_a_cluster_half_made_is_made_again(own: Settings):
    draft = own.home_path / "postgres" / "18.new"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18\n")
    with embedded(own, durable=False) as ready:
        assert value(ready.database_url)
    assert not draft.exists()


def test_two_homes_do_not_meet(own: Settings):
    other = Settings(home=own.home_path / "nested" / "home")
    with embedded(own, durable=False) as first, embedded(other, durable=False) as second:
        assert first.database_url != second.database_url
        assert first.redis_url != second.redis_url
        assert not {p.pid for p in pids(own) if p} & {p.pid for p in pids(other) if p}
    assert [*pids(own), *pids(other)] == [None] * 4


def test_two_homes_that_are_given_one_runtime_folder_are_told(own: Settings):
    other = Settings(home=own.home_path / "other", runtime_dir=own.runtime_path)
    with (
        embedded(own, durable=False),
        pytest.raises(ConfigurationError, match="TURNOUT_RUNTIME_DIR"),
        embedded(other, durable=False),
    ):
        pass
    assert [*pids(own), *pids(other)] == [None] * 4


def test_a_server_started_with_another_runtime_folder_is_joined(own: Settings):
    elsewhere = Settings(home=own.home_path, runtime_dir=own.home_path / "elsewhere")
    with embedded(own, durable=False) as first, embedded(elsewhere, durable=False) as second:
        assert (first.database_url, first.redis_url) == (second.database_url, second.redis_url)


def test_a_deep_checkout_gets_short_sockets(own: Settings):
    deep = Settings(home=own.home_path / ("deep" * 20) / ("er" * 20))
    with embedded(deep, durable=False) as ready:
        assert value(ready.database_url)
    shutil.rmtree(deep.runtime_path)


def test_a_runtime_folder_that_is_too_long_is_refused_with_the_setting_to_change(own: Settings):
    long = Settings(home=own.home_path, runtime_dir=own.home_path / ("x" * 100))
    with (
        pytest.raises(ConfigurationError, match=r"TURNOUT_RUNTIME_DIR to a folder whose path has at most \d+"),
        embedded(long),
    ):
        pass


def test_a_server_that_cannot_start_shows_its_log(own: Settings):
    with embedded(own, durable=False):
        pass
    (own.home_path / "postgres" / "18" / "postgresql.conf").write_text("nonsense = 1\n")
    with pytest.raises(ServerError, match=r"(?s)PostgreSQL ended.*nonsense"), embedded(own, durable=False):
        pass
    assert pids(own) == [None, None]


def test_sockets_are_closed_to_other_users(own: Settings):
    with embedded(own, durable=False):
        assert not (own.runtime_path / "pg").stat().st_mode & 0o077
        assert not (own.runtime_path / "redis.sock").stat().st_mode & 0o077


def run_as_an_ordinary_user(action: Callable[[], None]) -> None:
    """Run in a forked process, as nobody when we are root."""
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                nobody = pwd.getpwnam("nobody")
                os.setgroups([])
                os.setgid(nobody.pw_gid)
                os.setuid(nobody.pw_uid)
            action()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_ordinary_user_runs_the_servers_as_themselves():
    def action() -> None:
        settings = Settings(home=Path(tempfile.mkdtemp(prefix="tt-")))
        with embedded(settings, durable=False) as ready:
            assert value(ready.database_url)
            assert redis.Redis.from_url(str(ready.redis_url)).ping()
            for found in pids(settings):
                assert found
                assert psutil.Process(found.pid).uids().real == os.getuid() != 0
        assert pids(settings) == [None, None]
        shutil.rmtree(settings.home_path)

    run_as_an_ordinary_user(action)


def test_the_server_never_runs_as_root_and_passes_through_closed_folders(own: Settings):
    closed = own.home_path / "closed"
    closed.mkdir(mode=0o700)
    inside = Settings(home=closed / "home")
    with embedded(inside, durable=False) as ready:
        assert value(ready.database_url)
        server = pids(inside)[0]
        assert server
        assert psutil.Process(server.pid).uids().real != 0
    assert not closed.stat().st_mode & 0o066, "passing may be allowed, reading is not"


def test_root_without_any_account_is_told_what_to_create(own: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(postgres, "ACCOUNTS", ("no-such-account",))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    server = Postgres(own.home_path / "pg", own.runtime_path / "pg", own.home_path / "log")
    with pytest.raises(ConfigurationError, match="useradd"):
        server.start()
