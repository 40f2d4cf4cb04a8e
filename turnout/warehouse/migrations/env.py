"""Alembic's entry point; :func:`turnout.warehouse.migrate.upgrade` hands in its connection.

Without one (``alembic … --sql``, or a developer's own call) the settings of the process are used.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from turnout.settings import load_settings
from turnout.warehouse.engine import create_engine
from turnout.warehouse.migrations.compare import OPTIONS


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
