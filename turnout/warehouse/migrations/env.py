"""Alembic's entry point; :func:`turnout.warehouse.migrate.upgrade` hands in its connection.

Without one (``alembic … --sql``, or a developer's own call) the settings of the process are used.
"""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection

from turnout.settings import load_settings
from turnout.warehouse.engine import create_engine
from turnout.warehouse.migrate import VERSION_TABLE
from turnout.warehouse.partitions import is_partition
from turnout.warehouse.tables import SCHEMA, metadata


def include_name(name: str | None, kind: str, parents: Any) -> bool:
    """Keep autogenerate to our own tables: no other schema, no partitions."""
    if kind == "schema":
        return name == SCHEMA
    return not (kind == "table" and name is not None and is_partition(name))


OPTIONS: dict[str, Any] = {
    "target_metadata": metadata,
    "version_table": VERSION_TABLE,
    "version_table_schema": SCHEMA,
    "include_schemas": True,
    "include_name": include_name,
    "compare_type": True,
    "compare_server_default": True,
}


def run(connection: Connection) -> None:
    context.configure(connection=connection, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()
elif (given := context.config.attributes.get("connection")) is not None:
    run(given)
else:
    with create_engine(load_settings(), pool_size=1).begin() as own:
        run(own)
