"""Connections to the warehouse."""

from __future__ import annotations

import json
from functools import partial

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from turnout.settings import DatabaseName, Settings


def create_engine(settings: Settings, database: DatabaseName = "turnout", *, pool_size: int = 5) -> Engine:
    """An engine on one of Turnout's databases; sessions speak UTC and broken connections are replaced.

    Args:
        settings: as yielded by :func:`turnout.runtime.services`, so with a ``database_url``.
        database: ``turnout`` is the warehouse.
        pool_size: connections kept; as many again may be opened for a burst.

    Raises:
        RuntimeError: ``settings`` names no database.
    """
    # The options reach PostgreSQL in the start packet: no round trip, and no driver may forget them. Figures by day are
    # added up within each month's partition, whose groups fit into memory where those of a year do not.
    return sa.create_engine(
        settings.url_for(database),
        pool_pre_ping=True,
        pool_size=pool_size,
        max_overflow=pool_size,
        connect_args={
            "options": "-c timezone=UTC -c enable_partitionwise_aggregate=on",
            "application_name": "turnout",
            "connect_timeout": 10,
        },
        json_serializer=partial(json.dumps, ensure_ascii=False, allow_nan=False),
    )


#: Memory for one sort or hash of a statement that adds up a whole history.
LARGE_WORK_MEM = "128MB"


def for_large_reads(connection: Connection) -> None:
    """Give the statements of the current transaction memory to add up a whole history in.

    With the server's usual few megabytes the planner would rather walk through every ad in the order of an index, or
    sort years of them on disk.
    """
    connection.execute(sa.text(f"SET LOCAL work_mem = '{LARGE_WORK_MEM}'"))


_STALE = """
SELECT format('%I.%I', n.nspname, c.relname)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE n.nspname = 'turnout' AND c.relkind = 'r' AND pg_relation_size(c.oid) > 0
  AND (c.reltuples < 0 OR s.n_mod_since_analyze > 500 + c.reltuples / 10)
ORDER BY 1
"""


def refresh_statistics(engine: Engine) -> int:
    """Tell PostgreSQL's planner how large the tables have become, where it does not know yet; returns how many.

    PostgreSQL does so by itself, but some minutes after a load: a night reads what it has loaded a second ago, and a
    plan made for empty tables then takes minutes.
    """
    with engine.begin() as connection:
        stale = list(connection.scalars(sa.text(_STALE)))
        for table in stale:
            connection.execute(sa.text(f"ANALYZE {table}"))
    return len(stale)
