"""Bring the databases to what this version of the code expects.

Everything happens in one transaction under an advisory lock: any number of processes may call :func:`upgrade` at once,
and one killed half-way leaves nothing behind.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path

import psycopg
import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Connection, text

from turnout.errors import ConfigurationError
from turnout.settings import DATABASES, DatabaseName, Settings
from turnout.warehouse.engine import create_engine
from turnout.warehouse.security import secure
from turnout.warehouse.tables import SCHEMA

log = structlog.get_logger(__name__)

#: Schemas of the warehouse database: our tables, and what feature_repo computes.
SCHEMAS = (SCHEMA, "features")
VERSION_TABLE = "alembic_version"
_LOCK = "turnout:migrate"


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration without an ini file, so that it works from an installed package."""
    config = Config()
    location = str(Path(__file__).with_name("migrations"))
    config.set_main_option("script_location", location.replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def head_revision() -> str:
    """The revision this code expects."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert head is not None, "the package ships at least one revision"
    return head


def current_revision(connection: Connection) -> str | None:
    """The revision the warehouse is at; ``None`` when it was never migrated."""
    context = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE, "version_table_schema": SCHEMA}
    )
    return context.get_current_revision()


def upgrade(settings: Settings) -> None:
    """Create the databases that do not exist, then migrate the warehouse and its views to the head.

    Raises:
        ConfigurationError: a database, or the service's role, is absent and this role may not create it.
        sqlalchemy.exc.OperationalError: the server cannot be reached.
    """
    for name in DATABASES:
        ensure_database(settings, name)
    engine = create_engine(settings, pool_size=1)
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": _LOCK})
            for schema in SCHEMAS:
                # IF NOT EXISTS still wants the right to create: roles without it may use schemas made for them.
                if not connection.scalar(text("SELECT to_regnamespace(:name) IS NOT NULL"), {"name": schema}):
                    connection.execute(text(f"CREATE SCHEMA {schema}"))
            before = current_revision(connection)
            if before != head_revision():
                drop_views(connection)  # a column that a view reads cannot change its type
                command.upgrade(alembic_config(connection), "head")
                log.info("warehouse migrated", before=before, after=current_revision(connection))
            create_views(connection)
            secure(connection, settings)
    finally:
        engine.dispose()


def create_views(connection: Connection) -> None:
    """(Re)create the SQL views that :mod:`turnout.warehouse.views` defines."""
    if find_spec("turnout.warehouse.views") is not None:
        importlib.import_module("turnout.warehouse.views").create_views(connection)


def drop_views(connection: Connection) -> None:
    """Drop every view of the warehouse; :func:`create_views` makes them again."""
    connection.execute(
        text(f"""
            DO $$
            DECLARE name text;
            BEGIN
                FOR name IN SELECT viewname FROM pg_views WHERE schemaname = '{SCHEMA}' LOOP
                    EXECUTE format('DROP VIEW IF EXISTS {SCHEMA}.%I CASCADE', name);
                END LOOP;
            END $$""")
    )


def ensure_database(settings: Settings, name: DatabaseName) -> bool:
    """Create one of the databases if it is absent. Returns whether it was created.

    Raises:
        ConfigurationError: it is absent and this role may not create databases.
        psycopg.OperationalError: the server cannot be reached.
    """
    url = settings.url_for(name).set(drivername="postgresql")
    database = url.database or name
    try:
        psycopg.connect(url.render_as_string(hide_password=False), connect_timeout=10).close()
    except psycopg.OperationalError:
        # Absent or unreachable: the maintenance database knows which. libpq reports no SQLSTATE for a failed connect.
        maintenance = url.set(database="postgres").render_as_string(hide_password=False)
        with psycopg.connect(maintenance, connect_timeout=10, autocommit=True) as connection:
            return _create_database(connection, database, name)
    return False


def _create_database(connection: psycopg.Connection, database: str, name: str) -> bool:
    # A session lock, for CREATE DATABASE runs in no transaction; it goes with the connection.
    connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [f"{_LOCK}:{database}"])
    if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
        return False
    try:
        # template0: template1 refuses while anybody else is connected to it.
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(database))
        )
    except psycopg.errors.InsufficientPrivilege as error:
        variable = "TURNOUT_DATABASE_URL" if name == "turnout" else f"TURNOUT_{name.upper()}_DATABASE_URL"
        raise ConfigurationError(
            f"the database {database!r} does not exist and this role may not create it: "
            f"let an administrator create it, or point {variable} at an existing one"
        ) from error
    log.info("database created", database=database)
    return True
