"""The databases come up from nothing, once, whoever asks and how often."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import Engine, make_url

from turnout.settings import DATABASES, Settings
from turnout.warehouse import migrate
from turnout.warehouse.engine import create_engine
from turnout.warehouse.migrations.compare import OPTIONS
from turnout.warehouse.tables import PARTITIONED_TABLES, metadata


@pytest.fixture
def fresh(settings: Settings):
    """Settings of four databases that do not exist yet."""
    assert settings.database_url is not None
    url = make_url(settings.database_url)
    names = {name: f"fresh_{url.database}_{name}" for name in DATABASES}
    yield settings.model_copy(
        update={
            ("database_url" if name == "turnout" else f"{name}_database_url"): url.set(
                database=database
            ).render_as_string(hide_password=False)
            for name, database in names.items()
        }
    )
    admin = sa.create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        for database in names.values():
            connection.execute(sa.text(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)'))
    admin.dispose()


def test_migrations_and_table_definitions_agree(engine: Engine):
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=OPTIONS), metadata) == []


def test_fact_tables_are_partitioned_and_take_any_date(engine: Engine):
    with engine.connect() as connection:
        for table in PARTITIONED_TABLES:
            kind, default = connection.execute(
                sa.text(
                    "SELECT relkind, to_regclass(:default) IS NOT NULL FROM pg_class WHERE oid = to_regclass(:name)"
                ),
                {"name": f"turnout.{table.name}", "default": f"turnout.{table.name}_default"},
            ).one()
            assert (kind, default) == ("p", True)


def test_upgrade_creates_all_databases_and_can_be_repeated(fresh: Settings):
    migrate.upgrade(fresh)
    migrate.upgrade(fresh)
    for name in DATABASES:
        engine = create_engine(fresh, name)
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT current_database()")) == fresh.url_for(name).database
            if name == "turnout":
                assert migrate.current_revision(connection) == migrate.head_revision()
        engine.dispose()


def test_upgrades_at_the_same_time_do_the_work_once(fresh: Settings):
    errors: list[BaseException] = []

    def run() -> None:
        try:
            migrate.upgrade(fresh)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_downgrade_leaves_no_table_behind(fresh: Settings):
    migrate.upgrade(fresh)
    engine = create_engine(fresh)
    with engine.begin() as connection:
        migrate.drop_views(connection)
        command.downgrade(migrate.alembic_config(connection), "base")
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names(schema="turnout") == ["alembic_version"]
    engine.dispose()
    migrate.upgrade(fresh)
