"""The servers behind the application: yours where a URL is set, embedded ones otherwise.

Several processes share the embedded servers of one ``TURNOUT_HOME``. Each holds a shared lock (flock) on
``servers.users`` while it needs them; starting and stopping happen under an exclusive lock on ``servers.lock``. The
last one out stops them. The kernel drops the locks of a killed process, so nothing has to be counted or repaired: what
a ``kill -9`` leaves running is joined by the next process, and what it leaves lying about is cleared.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import structlog

from turnout.runtime.postgres import MAJOR, Postgres
from turnout.runtime.redis_server import RedisServer
from turnout.settings import Settings, load_settings

log = structlog.get_logger(__name__)


@contextmanager
def services(
    settings: Settings | None = None, *, migrate: bool | None = None, durable: bool = True
) -> Iterator[Settings]:
    """PostgreSQL and Redis for the length of a ``with`` block.

    URLs set in ``settings`` are used as they are. For the others embedded servers are started, or joined where another
    process runs them already. Ctrl-C, SIGTERM and SIGHUP leave the block in the ordinary way.

    Args:
        settings: those of the environment when left out.
        migrate: bring the databases up to date first; by default only embedded ones, for yours are migrated on purpose
            (``turnout up`` or :func:`turnout.warehouse.migrate.upgrade`).
        durable: ``False`` does not flush to disk, for data that lives no longer than a test.

    Yields:
        The settings with ``database_url`` and ``redis_url`` filled in. They are in ``os.environ`` too, for child
        processes, until the block ends.

    Raises:
        ConfigurationError: the machine or the settings do not allow it; the message names the fix.
        ServerError: a server does not start; the message ends with its log.
    """
    given = settings or load_settings()
    with ExitStack() as stack:
        stack.enter_context(_orderly_end())
        ready = given
        if given.database_url is None or given.redis_url is None:
            ready = stack.enter_context(embedded(given, durable=durable))
        stack.enter_context(_exported(ready))
        if migrate if migrate is not None else given.database_url is None:
            from turnout.warehouse.migrate import upgrade

            upgrade(ready)
        yield ready


def embedded_servers(settings: Settings, *, durable: bool = True) -> tuple[Postgres, RedisServer]:
    """The embedded servers of this home, running or not."""
    home, runtime = settings.home_path, settings.runtime_path
    return (
        Postgres(home / "postgres" / str(MAJOR), runtime / "pg", home / "logs" / "postgres.log", durable=durable),
        RedisServer(home / "redis", runtime / "redis.sock", home / "logs" / "redis.log", durable=durable),
    )


def stop_unused(settings: Settings) -> list[str]:
    """Stop embedded servers that nobody uses, as a killed process leaves them. Returns the names of those stopped."""
    if not settings.home_path.exists():
        return []
    with _lock(settings.home_path / "servers.lock", fcntl.LOCK_EX):
        return _stop_if_unused(settings)


def revive(settings: Settings) -> list[str]:
    """Start embedded servers again that have died, for a process that holds them. Returns the names of those started.

    Args:
        settings: as they were before :func:`services`: a server with a URL of its own is not ours to start.

    Raises:
        ServerError: one does not start.
    """
    dead = [s for s in without_url(settings, embedded_servers(settings)) if not s.running()]
    if not dead:
        return []
    with _lock(settings.home_path / "servers.lock", fcntl.LOCK_EX):
        for server in dead:
            server.start()
        for server in dead:
            server.wait_ready()
    names = [s.name for s in dead]
    log.warning("embedded servers had died and run again", servers=names)
    return names


def without_url(settings: Settings, servers: tuple[Postgres, RedisServer]) -> list[Postgres | RedisServer]:
    """Those that the settings leave to us."""
    postgres, redis_server = servers
    wanted: list[Postgres | RedisServer] = []
    if settings.database_url is None:
        wanted.append(postgres)
    if settings.redis_url is None:
        wanted.append(redis_server)
    return wanted


def in_use(settings: Settings) -> bool:
    """Whether some process holds the embedded servers right now."""
    users = settings.home_path / "servers.users"
    if not users.exists():
        return False
    try:
        with exclusive(users):
            return False
    except Busy:
        return True


@contextmanager
def embedded(settings: Settings, *, durable: bool = True) -> Iterator[Settings]:
    """The embedded servers alone: no migration, no environment, no signals. See :func:`services`."""
    home = settings.home_path
    home.mkdir(parents=True, exist_ok=True)
    postgres, redis_server = servers = embedded_servers(settings, durable=durable)
    wanted = without_url(settings, servers)
    with ExitStack() as using:
        with _lock(home / "servers.lock", fcntl.LOCK_EX):
            try:
                for server in wanted:
                    server.start()
                for server in wanted:
                    server.wait_ready()
            except BaseException:
                _stop_if_unused(settings)
                raise
            using.enter_context(_lock(home / "servers.users", fcntl.LOCK_SH))
        try:
            yield settings.model_copy(
                update={
                    "database_url": settings.database_url or postgres.url(),
                    "redis_url": settings.redis_url or redis_server.url(),
                }
            )
        finally:
            with _lock(home / "servers.lock", fcntl.LOCK_EX):
                using.close()
                _stop_if_unused(settings)


def _stop_if_unused(settings: Settings) -> list[str]:
    """Stop what nobody holds; the caller holds ``servers.lock``."""
    if in_use(settings):
        return []
    stopped = []
    for server in embedded_servers(settings):
        if server.stop():
            stopped.append(server.name)
    return stopped


class Busy(Exception):  # noqa: N818 - a state, not a fault
    """Another process holds the lock."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file alone, without waiting; the kernel lets go of it when the process ends.

    Raises:
        Busy: another process holds it.
    """
    with _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB):
        yield


@contextmanager
def _lock(path: Path, kind: int) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, kind)
        except BlockingIOError as error:
            raise Busy(str(path)) from error
        yield
    finally:
        # Unlocked, not only closed: a forked child may still hold the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


@contextmanager
def _exported(settings: Settings) -> Iterator[None]:
    """Put what child processes need into the environment, and take it back afterwards."""
    values: Mapping[str, str | None] = {
        "TURNOUT_HOME": str(settings.home_path),
        "TURNOUT_DATABASE_URL": settings.database_url,
        "TURNOUT_REDIS_URL": settings.redis_url,
    }
    before = {name: os.environ.get(name) for name in values}
    _set_environment(values)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def _orderly_end() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exit that runs ``finally`` blocks, as Ctrl-C does already."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    mine = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) is signal.SIG_DFL]
    for number in mine:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)
