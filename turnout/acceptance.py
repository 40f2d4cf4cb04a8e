"""What the gate stopped and somebody vouched for: the way past a check that is wrong this time.

A stopped partition keeps what the warehouse had, and its rows lie in quarantine. Whoever knows that the data is right
accepts it (``turnout quarantine accept``); from the next read on the check only warns there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from turnout.identity import key_of
from turnout.quality import StoppedPartition
from turnout.warehouse import tables as wh
from turnout.warehouse.load import upsert


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A stopped partition that somebody vouched for: it warns from then on.

    Attributes:
        first, last: days it holds for; ``None`` is open.
    """

    acceptance_id: str
    table: str
    source: str
    account: str
    code: str
    first: date | None
    last: date | None
    note: str | None = None
    accepted_at: datetime | None = None

    def covers(self, stop: StoppedPartition, table: str) -> bool:
        """Whether it lets this stop of ``table`` through. One for some days lets no whole account through."""
        if (self.table, self.source, self.account, self.code) != (table, stop.source, stop.account, stop.code):
            return False
        if stop.date is None:
            return self.first is None and self.last is None
        return (self.first is None or self.first <= stop.date) and (self.last is None or stop.date <= self.last)


def accepted_partitions(connection: Connection, organisation: str) -> list[Acceptance]:
    """Everything that was accepted, oldest first."""
    t = wh.accepted_partition
    rows = connection.execute(
        sa.select(
            t.c.acceptance_id, t.c.table_name, t.c.source, t.c.account, t.c.code, t.c.first_date, t.c.last_date,
            t.c.note, t.c.accepted_at,
        ).where(t.c.organisation == organisation).order_by(t.c.accepted_at, t.c.acceptance_id)
    )  # fmt: skip
    return [Acceptance(*row) for row in rows]


def accept_partition(
    engine: Engine,
    organisation: str,
    *,
    table: str,
    source: str,
    account: str,
    code: str,
    first: date | None = None,
    last: date | None = None,
    note: str | None = None,
) -> str:
    """Let what the gate stopped for ``code`` through from the next read on; returns the acceptance's key.

    Raises:
        ValueError: the last day lies before the first.
    """
    if first is not None and last is not None and last < first:
        raise ValueError(f"the last day {last} lies before the first {first}")
    key = key_of(table, source, account, code, str(first), str(last), prefix="acc_")
    row = {
        "organisation": organisation, "acceptance_id": key, "table_name": table, "source": source, "account": account,
        "code": code, "first_date": first, "last_date": last, "note": note,
    }  # fmt: skip
    with engine.begin() as connection:
        upsert(connection, wh.accepted_partition, [row])
    return key


def withdraw_acceptance(engine: Engine, organisation: str, acceptance_id: str) -> bool:
    """Stop what was accepted again; returns whether there was such an acceptance."""
    t = wh.accepted_partition
    with engine.begin() as connection:
        done = connection.execute(
            sa.delete(t).where(t.c.organisation == organisation, t.c.acceptance_id == acceptance_id)
        )
    return done.rowcount > 0


def stopped_partitions(engine: Engine, organisation: str) -> list[dict[str, Any]]:
    """What the newest check of each table of a file stopped: source, account, date, code and reason, newest first."""
    t = wh.validation
    query = (
        sa.select(t.c.table_name, t.c.source, t.c.account, t.c.checked_at, t.c.failures)
        .where(t.c.organisation == organisation, t.c.status == "stopped").order_by(t.c.checked_at.desc())
    )  # fmt: skip
    with engine.connect() as connection:
        rows = connection.execute(query).all()
    return [
        {
            "table": row.table_name, "source": row.source, "account": failure.get("account", row.account),
            "date": None if failure["stopped"] == "None" else failure["stopped"], "code": failure["code"],
            "reason": failure["reason"], "checked_at": row.checked_at,
        }
        for row in rows for failure in row.failures if "stopped" in failure
    ]  # fmt: skip
