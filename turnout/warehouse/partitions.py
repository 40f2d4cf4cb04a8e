"""Monthly partitions of the fact tables.

Each fact table has one partition per month, ``<table>_2026_05``, and a DEFAULT partition that takes any other date.
So a row always finds a place: a month's own partition makes reading and replacing fast, it is no condition of loading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date

import structlog
from sqlalchemy import Connection, Table, text
from sqlalchemy.exc import OperationalError

from turnout.warehouse.tables import PARTITIONED_TABLES, SCHEMA

log = structlog.get_logger(__name__)

_PARTITION = re.compile(rf"^(?:{'|'.join(t.name for t in PARTITIONED_TABLES)})_(?:\d{{4}}_\d{{2}}|default)$")

#: How long to wait for the locks a new partition needs before its rows go to the DEFAULT partition for now.
LOCK_TIMEOUT_MS = 2_000

#: Dates outside are typing errors (1900-01-00 of spreadsheets): they stay in the DEFAULT partition.
FIRST_MONTH, LAST_MONTH = date(2000, 1, 1), date(2100, 1, 1)


class _RowsCameError(Exception):
    """Rows of a month came into the DEFAULT partition after it was found without."""


def is_partition(name: str) -> bool:
    """Whether a relation of schema ``turnout`` is a partition, which no table definition names."""
    return _PARTITION.match(name) is not None


def months(first: date, last: date) -> Iterator[date]:
    """The first day of every month that has a day in ``[first, last]``."""
    month = first.replace(day=1)
    while month <= last:
        yield month
        month = next_month(month)


def next_month(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def partition_name(table: Table, month: date) -> str:
    return f"{table.name}_{month:%Y_%m}"


def existing_months(connection: Connection, table: Table) -> set[date]:
    """The months that have a partition of their own."""
    names = connection.execute(
        text("""
            SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = CAST(:parent AS regclass) AND NOT i.inhdetachpending"""),
        {"parent": f"{SCHEMA}.{table.name}"},
    ).scalars()
    return {date(int(n[-7:-3]), int(n[-2:]), 1) for n in names if re.search(r"_\d{4}_\d{2}$", n)}


def missing_months(connection: Connection, table: Table, days: Iterable[date]) -> set[date]:
    """The months of some days that have no partition of their own and should have."""
    wanted = {day.replace(day=1) for day in days if FIRST_MONTH <= day < LAST_MONTH}
    return wanted - existing_months(connection, table) if wanted else wanted


def holds_default(connection: Connection, table: Table) -> bool:
    """Whether the connection's own transaction has touched the DEFAULT partition, which a new month would lock."""
    query = text(
        "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE pid = pg_backend_pid() AND relation = to_regclass(:name))"
    )
    return bool(connection.scalar(query, {"name": f"{SCHEMA}.{table.name}_default"}))


def ensure_months(connection: Connection, table: Table, first: date, last: date) -> list[date]:
    """Give every month of ``[first, last]`` its partition, moving rows that wait in the DEFAULT partition.

    Works in the caller's transaction, safe against others doing the same. When a lock is not to be had within
    :data:`LOCK_TIMEOUT_MS` (somebody reads the whole table), the month is left for the next time: its rows go to the
    DEFAULT partition meanwhile.

    Returns:
        The months created.

    Raises:
        ValueError: ``table`` is not partitioned, or ``last`` lies before ``first``.
    """
    if table not in PARTITIONED_TABLES:
        raise ValueError(
            f"{table.name} is not partitioned; partitioned are {', '.join(t.name for t in PARTITIONED_TABLES)}"
        )
    if last < first:
        raise ValueError(f"the last day {last} lies before the first {first}")
    return ensure_partitions(connection, table, months(max(first, FIRST_MONTH), min(last, LAST_MONTH)))


def ensure_partitions(connection: Connection, table: Table, days: Iterable[date]) -> list[date]:
    """:func:`ensure_months` for the months of some days, not of all between them."""
    days = list(days)
    created: list[date] = []
    if not missing_months(connection, table, days):
        return created
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"turnout:partitions:{table.name}"}
    )
    for month in sorted(missing_months(connection, table, days)):
        try:
            with connection.begin_nested():
                _create(connection, table, month)
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != "55P03":  # lock_not_available
                raise
            log.warning("partition postponed: table is being read", table=table.name, month=f"{month:%Y-%m}")
        except _RowsCameError:
            log.info("partition postponed: rows came meanwhile", table=table.name, month=f"{month:%Y-%m}")
        else:
            created.append(month)
    return created


def _create(connection: Connection, table: Table, month: date) -> None:
    """Create one month. ATTACH lets loaders go on, which CREATE TABLE … PARTITION OF would not.

    Except where rows move: a query that was planned before and waits for the DEFAULT partition would find them neither
    there nor in a partition it does not know. So then nobody may be planning on the table at all.
    """
    name, parent, default = partition_name(table, month), f"{SCHEMA}.{table.name}", f"{SCHEMA}.{table.name}_default"
    start, end = month.isoformat(), next_month(month).isoformat()
    waiting = text(f"SELECT EXISTS (SELECT 1 FROM {default} WHERE date >= '{start}' AND date < '{end}')")
    moves = bool(connection.scalar(waiting))
    connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
    # Taken before anything else, in the order ATTACH takes them: two-step upgrades of locks are how deadlocks begin.
    mode = "ACCESS EXCLUSIVE" if moves else "SHARE UPDATE EXCLUSIVE"
    connection.execute(text(f"LOCK TABLE ONLY {parent} IN {mode} MODE"))
    connection.execute(text(f"LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE"))
    if not moves and connection.scalar(waiting):
        raise _RowsCameError
    connection.execute(text(f"CREATE TABLE {SCHEMA}.{name} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"))
    connection.execute(
        text(f"""
            WITH moved AS (DELETE FROM {default} WHERE date >= '{start}' AND date < '{end}' RETURNING *)
            INSERT INTO {SCHEMA}.{name} SELECT * FROM moved""")
    )
    connection.execute(
        text(f"ALTER TABLE {parent} ATTACH PARTITION {SCHEMA}.{name} FOR VALUES FROM ('{start}') TO ('{end}')")
    )
    connection.execute(text("SET LOCAL lock_timeout = DEFAULT"))
