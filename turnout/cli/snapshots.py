"""What an organisation's warehouse holds, kept as files, put back, or copied in part to another organisation.

For evaluation only: ingesting a simulated world takes minutes, putting it back seconds, and a history of the last five
events is a copy of those five.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Table

from turnout.warehouse import tables
from turnout.warehouse.partitions import ensure_months

#: Tables that make up a history, those that others refer to first.
TABLES: tuple[Table, ...] = (
    tables.event, tables.campaign, tables.ad_performance, tables.email_performance, tables.registration,
    tables.attendance, tables.tactic_result,
)  # fmt: skip


def dump(engine: Engine, organisation: str, folder: Path) -> None:
    """Write the rows of ``organisation``, one binary COPY file per table."""
    folder.mkdir(parents=True, exist_ok=True)
    with engine.connect() as connection, _cursor(connection) as cursor:
        for table in TABLES:
            query = sa.select(*_columns(table)).where(table.c.organisation == organisation)
            text = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
            with (
                (folder / f"{table.name}.bin").open("wb") as file,
                cursor.copy(f"COPY ({text}) TO STDOUT BINARY") as copy,
            ):
                for part in copy:
                    file.write(part)
        spans = {t.name: _span(connection, t, organisation) for t in TABLES if t in tables.PARTITIONED_TABLES}
    (folder / "spans.txt").write_text("".join(f"{n} {a} {b}\n" for n, (a, b) in spans.items() if a is not None))


def restore(engine: Engine, folder: Path) -> None:
    """Put back what :func:`dump` wrote, into a warehouse that does not hold it."""
    spans = [line.split() for line in (folder / "spans.txt").read_text().splitlines()]
    with engine.begin() as connection:
        for name, first, last in spans:
            table = next(t for t in TABLES if t.name == name)
            ensure_months(connection, table, date.fromisoformat(first), date.fromisoformat(last))
        with _cursor(connection) as cursor:
            for table in TABLES:
                names = ", ".join(c.name for c in _columns(table))
                data = (folder / f"{table.name}.bin").read_bytes()
                with cursor.copy(f"COPY {tables.SCHEMA}.{table.name} ({names}) FROM STDIN BINARY") as copy:
                    copy.write(data)
        connection.execute(sa.text("ANALYZE"))


def copy_events(engine: Engine, source: str, target: str, event_ids: Sequence[str]) -> None:
    """Copy the history of some events of ``source`` to the empty organisation ``target``.

    Event ids, unique over organisations, get ``target:`` in front.
    """
    prefix = sa.literal(f"{target}:")
    with engine.begin() as connection:
        for table in TABLES:
            chosen = {
                "organisation": sa.literal(target),
                **({"event_id": prefix + table.c.event_id} if "event_id" in table.c else {}),
            }
            values = [chosen.get(c.name, c).label(c.name) for c in _columns(table)]
            query = sa.select(*values).where(table.c.organisation == source, _of_events(table, event_ids))
            connection.execute(sa.insert(table).from_select([c.name for c in _columns(table)], query))


def _of_events(table: Table, event_ids: Sequence[str]) -> sa.ColumnElement[bool]:
    wanted = list(event_ids)
    if "event_id" in table.c:
        return table.c.event_id.in_(wanted)
    campaign = tables.campaign
    ours = sa.select(sa.literal(1)).where(
        campaign.c.organisation == table.c.organisation,
        campaign.c.source == table.c.source,
        campaign.c.account == table.c.account,
        campaign.c.campaign_id == table.c.campaign_id,
        campaign.c.event_id.in_(wanted),
    )
    return sa.exists(ours)


def _columns(table: Table) -> list[sa.Column[Any]]:
    return [c for c in table.c if c.computed is None]


def _span(connection: Connection, table: Table, organisation: str) -> tuple[Any, Any]:
    found = sa.select(sa.func.min(table.c.date), sa.func.max(table.c.date)).where(table.c.organisation == organisation)
    first, last = connection.execute(found).one()
    return first, last


def _cursor(connection: Connection) -> Any:
    return connection.connection.cursor()
