"""Is this warehouse the same as that one? One digest per table, of everything but who wrote it and when.

For drills that kill loads, shuffle them or run them twice: the outcome must not show it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy import Engine, Table

from turnout.warehouse import tables as wh

#: Which run wrote a row, and when: they differ between two runs of the same data, and nothing else may.
CLOCK_COLUMNS: Final = frozenset((
    "run_id", "created_at", "updated_at", "loaded_at", "checked_at", "fetched_at", "received_at",
))  # fmt: skip
#: Tables that ingestion fills, but for ``ingest_run``, which is a log of the runs themselves.
LOADED_TABLES: Final[tuple[Table, ...]] = (
    *wh.FACT_TABLES, wh.event, wh.tactic_result, wh.paid_media, wh.insight, wh.attendance, wh.campaign, wh.quarantine,
    wh.ingest_file, wh.validation,
)  # fmt: skip


def fingerprint(
    engine: Engine, tables: Sequence[Table] = LOADED_TABLES, *, without: frozenset[str] = CLOCK_COLUMNS
) -> dict[str, str]:
    """Table → rows and SHA-256 of its content in the order of its key, as PostgreSQL's own text.

    Args:
        without: columns left out.
    """
    found = {}
    with engine.connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ")
        connection.execute(sa.text("SELECT 1"))
        driver = connection.connection.driver_connection
        assert driver is not None
        for table in tables:
            columns = [c.name for c in table.c if c.name not in without]
            keys = [c.name for c in table.primary_key.columns if c.name not in without]
            query = sql.SQL("COPY (SELECT {} FROM {} ORDER BY {}) TO STDOUT").format(
                sql.SQL(", ").join(map(sql.Identifier, columns)),
                sql.Identifier(wh.SCHEMA, table.name),
                sql.SQL(", ").join(map(sql.Identifier, keys)),
            )
            digest, rows = hashlib.sha256(), 0
            with driver.cursor() as cursor, cursor.copy(query) as stream:
                for chunk in stream:
                    data = bytes(chunk)
                    digest.update(data)
                    rows += data.count(b"\n")
            found[table.name] = f"{rows} rows {digest.hexdigest()}"
    return found
