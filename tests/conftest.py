"""Real PostgreSQL and Redis for every test that asks: started once, shared by all workers, gone afterwards.

Each pytest-xdist worker has databases of its own and its own Redis database. Nothing is flushed to disk.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa
import structlog
from hypothesis import settings as hypothesis_settings
from sqlalchemy.engine import Engine, make_url

from turnout.runtime.servers import embedded, in_use, stop_unused
from turnout.settings import DATABASES, Settings
from turnout.warehouse.engine import create_engine
from turnout.warehouse.migrate import upgrade

# `HYPOTHESIS_PROFILE=fixed` tries the same examples on every machine, so that a change is judged by what it changed; by
# default every run tries new ones, and what they find is worth a test of its own.
hypothesis_settings.register_profile("fixed", derandomize=True, deadline=None, print_blob=True)
hypothesis_settings.register_profile("new", deadline=None, print_blob=True)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "new"))

#: Tells the workers which folder the servers live in. The path is short, for unix sockets.
SERVERS = "PYTEST_TURNOUT_SERVERS"
_PREFIX = "turnout-test-"

_EMPTY_TABLES = """
DO $$
DECLARE
    relation regclass;
    filled boolean;
BEGIN
    FOR relation IN
        SELECT oid FROM pg_class
        WHERE relkind = 'r' AND relname <> 'alembic_version'
          AND relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('turnout', 'features'))
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %s)', relation) INTO filled;
        IF filled THEN
            EXECUTE format('TRUNCATE %s', relation);
        END IF;
    END LOOP;
END $$
"""


def pytest_configure(config: pytest.Config) -> None:
    # Whoever runs the tests may have an installation configured; no test may reach it.
    for name in [n for n in os.environ if n.startswith("TURNOUT_")]:
        del os.environ[name]
    Settings.model_config["env_file"] = None
    if "PYTEST_XDIST_WORKER" not in os.environ:
        _sweep()
        os.environ[SERVERS] = tempfile.mkdtemp(prefix=_PREFIX)
        Path(os.environ[SERVERS]).chmod(0o711)


def pytest_unconfigure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ and (folder := os.environ.pop(SERVERS, None)):
        _remove(Path(folder))


def _sweep() -> None:
    """Remove what killed test runs left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            status = folder.stat()
            if status.st_uid == os.geteuid() and status.st_mtime < time.time() - 3600:
                _remove(folder)


def _remove(folder: Path) -> None:
    settings = Settings(home=folder)
    if not in_use(settings):
        stop_unused(settings)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _worker() -> str:
    return os.environ.get("PYTEST_XDIST_WORKER", "gw0")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command run in this process logs to the runner's streams, which are closed afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def _servers(_worker: str) -> Iterator[dict[str, str]]:
    """URLs of this worker's databases, migrated."""
    with embedded(Settings(home=Path(os.environ[SERVERS])), durable=False) as servers:
        assert servers.database_url is not None
        assert servers.redis_url is not None
        server = make_url(servers.database_url)
        names = {name: f"{name}_{_worker}" for name in DATABASES}
        urls = {
            ("database_url" if name == "turnout" else f"{name}_database_url"): server.set(
                database=database
            ).render_as_string(hide_password=False)
            for name, database in names.items()
        }
        urls["redis_url"] = servers.redis_url.replace("db=0", f"db={int(_worker.removeprefix('gw'))}")
        upgrade(Settings(home=Path(os.environ[SERVERS]), **urls))
        yield urls


@pytest.fixture
def settings(_servers: dict[str, str], tmp_path: Path) -> Settings:
    """Settings of an installation whose servers run and whose home is empty; its warehouse is migrated."""
    return Settings(home=tmp_path / "home", **_servers)


@pytest.fixture(scope="session")
def _engine(_servers: dict[str, str]) -> Iterator[Engine]:
    engine = create_engine(Settings(**_servers))
    yield engine
    engine.dispose()


@pytest.fixture
def engine(_engine: Engine) -> Engine:
    """The migrated, empty warehouse that ``settings`` names."""
    with _engine.begin() as connection:
        connection.execute(sa.text(_EMPTY_TABLES))
    return _engine


@pytest.fixture
def redis_url(_servers: dict[str, str]) -> str:
    """An empty Redis database."""
    with redis.Redis.from_url(_servers["redis_url"]) as client:
        client.flushdb()
    return _servers["redis_url"]


@pytest.fixture
def empty_registry(settings: Settings, redis_url: str) -> object:
    """The model registry of ``settings``, which the tests of a worker share, without models."""
    from turnout import registry

    client = registry.client(settings)
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    return client
