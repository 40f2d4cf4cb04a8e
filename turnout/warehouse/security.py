"""Row level security: an organisation sees its own rows, whatever a query forgets to ask.

Two kinds of roles
    * The *owner* (``TURNOUT_DATABASE_URL``) made the tables. Policies do not bind it: ingestion, training and the
      command line work for every organisation, each in statements that name theirs.
    * :data:`SERVICE_ROLE` is what the service is, in every transaction. It owns nothing, may not log in by itself, and
      sees the rows of the organisation that the transaction named (``app.organisation``); without a name, none.

The service's connections take the role with their first packet, so no transaction can forget it; which organisation it
works for is set anew for each transaction and gone with it.
"""

from __future__ import annotations

from typing import Final

import psycopg
import structlog
from psycopg import sql
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from turnout.errors import ConfigurationError
from turnout.settings import Settings
from turnout.warehouse.tables import SCHEMA, api_key, email_event, outcome, plan, prediction

log = structlog.get_logger(__name__)

SERVICE_ROLE: Final = "turnout_service"
#: Names the organisation of a transaction.
ORGANISATION: Final = "app.organisation"
POLICY: Final = "own_organisation"
#: An unset name is NULL or, after its first use in a session, empty: neither equals any row's.
_OWN: Final = f"organisation = nullif(current_setting('{ORGANISATION}', true), '')"
#: What the service adds rows to. It never deletes, and changes only when a key was used.
_INSERTS: Final = frozenset(table.name for table in (plan, prediction, outcome, email_event))
#: Tables the service does not read: keys are looked up one by one, through a function.
_HIDDEN: Final = frozenset({api_key.name, "alembic_version"})
_SCHEMAS: Final = (SCHEMA, "features")


def secure(connection: Connection, settings: Settings) -> None:
    """Make roles, policies and grants what the tables need now. Repeatable; changes only what is missing.

    Raises:
        ConfigurationError: the role does not exist and this log-in may not create it; the message says what to run.
    """
    _ensure_role(connection)
    for schema in _SCHEMAS:
        protect(connection, schema)
    _grant(connection)
    if settings.service_database_url:
        _ensure_login(connection, settings)


def protect(connection: Connection, schema: str) -> list[str]:
    """Row level security on every table of a schema with an organisation. Returns those that had none."""
    found = connection.execute(
        text("""
            SELECT c.relname, c.relrowsecurity,
                   EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = :policy)
            FROM pg_class c
            JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'organisation' AND NOT a.attisdropped
            WHERE n.nspname = :schema AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            ORDER BY 1"""),
        {"schema": schema, "policy": POLICY},
    ).all()
    made = []
    for name, enabled, has_policy in found:
        if not has_policy:
            connection.exec_driver_sql(f'CREATE POLICY {POLICY} ON {schema}."{name}" USING ({_OWN})')
        if not enabled:
            connection.exec_driver_sql(f'ALTER TABLE {schema}."{name}" ENABLE ROW LEVEL SECURITY')
            made.append(name)
    return made


def _ensure_role(connection: Connection) -> None:
    known = text("SELECT 1 FROM pg_roles WHERE rolname = :role")
    if not connection.scalar(known, {"role": SERVICE_ROLE}):
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(f"CREATE ROLE {SERVICE_ROLE} NOLOGIN")
        except DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None)
            if state not in ("42710", "23505"):  # somebody made it for another database of this server meanwhile
                if state != "42501":
                    raise
                raise ConfigurationError(_say_role(connection)) from error
    # PostgreSQL 16 tells being a member from being allowed to become one.
    kind = "SET" if connection.scalar(text("SHOW server_version_num")) >= "160000" else "MEMBER"
    member = text("SELECT pg_has_role(current_user, :role, :kind)")
    if connection.scalar(member, {"role": SERVICE_ROLE, "kind": kind}):
        return
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"GRANT {SERVICE_ROLE} TO CURRENT_USER")
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in ("42501", "0LP01"):
            raise
        raise ConfigurationError(_say_role(connection)) from error


def _say_role(connection: Connection) -> str:
    user = connection.scalar(text("SELECT current_user"))
    return (
        f"the role {SERVICE_ROLE}, which keeps organisations apart, cannot be made by {user}: let an administrator run"
        f' CREATE ROLE {SERVICE_ROLE} NOLOGIN; GRANT {SERVICE_ROLE} TO "{user}"; and then `turnout migrate` again'
    )


def _grant(connection: Connection) -> None:
    """What the service may do; whatever it may already is left alone, for this runs with every command."""
    if not connection.scalar(
        text("SELECT has_schema_privilege(:role, :schema, 'USAGE')"), {"role": SERVICE_ROLE, "schema": SCHEMA}
    ):
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {SERVICE_ROLE}")
    relations = connection.execute(
        text("""
            SELECT c.relname, has_table_privilege(:role, c.oid, 'SELECT'), has_table_privilege(:role, c.oid, 'INSERT')
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = :schema AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
            ORDER BY 1"""),
        {"role": SERVICE_ROLE, "schema": SCHEMA},
    ).all()
    for name, reads, adds in relations:
        if name in _HIDDEN:
            continue
        wanted = [*(["SELECT"] if not reads else []), *(["INSERT"] if name in _INSERTS and not adds else [])]
        if wanted:
            connection.exec_driver_sql(f'GRANT {", ".join(wanted)} ON {SCHEMA}."{name}" TO {SERVICE_ROLE}')
    function = f"{SCHEMA}.find_api_key(text)"
    if not connection.scalar(
        text("SELECT has_function_privilege(:role, :function, 'EXECUTE')"), {"role": SERVICE_ROLE, "function": function}
    ):
        connection.exec_driver_sql(f"GRANT EXECUTE ON FUNCTION {function} TO {SERVICE_ROLE}")
        # When a key was used; the row is found by what is no secret.
        table = f"{SCHEMA}.{api_key.name}"
        connection.exec_driver_sql(f"GRANT SELECT (key_id, organisation, last_used_at) ON {table} TO {SERVICE_ROLE}")
        connection.exec_driver_sql(f"GRANT UPDATE (last_used_at) ON {table} TO {SERVICE_ROLE}")


def _ensure_login(connection: Connection, settings: Settings) -> None:
    """The service's own log-in: made, or given the password of the settings, where it cannot log in."""
    assert settings.service_database_url is not None
    url = make_url(settings.service_database_url).set(drivername="postgresql")
    if not url.username:
        raise ConfigurationError("TURNOUT_SERVICE_DATABASE_URL names no user")
    powers = connection.execute(
        text("SELECT rolsuper OR rolbypassrls OR rolname = current_user FROM pg_roles WHERE rolname = :name"),
        {"name": url.username},
    ).scalar()
    if powers:
        raise ConfigurationError(
            f"TURNOUT_SERVICE_DATABASE_URL logs in as {url.username}, whom row level security does not bind; name"
            " another user, for instance turnout_web, and `turnout migrate` makes it"
        )
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    user = sql.Identifier(url.username)
    if powers is None or not _logs_in(url.render_as_string(hide_password=False)):
        verb = "CREATE" if powers is None else "ALTER"
        statement = sql.SQL(f"{verb} ROLE {{}} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE").format(user)
        if url.password:
            # hashed here, so that no log of the server holds it
            password = driver.pgconn.encrypt_password(
                str(url.password).encode(), url.username.encode(), b"scram-sha-256"
            ).decode()
            statement += sql.SQL(" PASSWORD {}").format(sql.Literal(password))
        connection.exec_driver_sql(statement.as_string(driver))
        log.info("log-in of the service made", role=url.username)
    if not connection.scalar(text("SELECT pg_has_role(:name, :role, 'MEMBER')"), {
        "name": url.username, "role": SERVICE_ROLE,
    }):  # fmt: skip
        connection.exec_driver_sql(
            sql.SQL("GRANT {} TO {}").format(sql.Identifier(SERVICE_ROLE), user).as_string(driver)
        )


def _logs_in(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
