"""Plans in PostgreSQL: what was answered, and what it predicted, in one transaction."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import RowMapping, Select, func, make_url, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from serving.planner import Insights
from turnout import insight_store
from turnout.brief import Brief
from turnout.errors import TurnoutError
from turnout.identity import event_key
from turnout.money import Rates
from turnout.plan import Allocation, Interval, Plan
from turnout.settings import Settings
from turnout.warehouse.security import ORGANISATION, SERVICE_ROLE
from turnout.warehouse.tables import model_monitor
from turnout.warehouse.tables import plan as plan_table
from turnout.warehouse.tables import prediction as prediction_table

#: The row of a plan's predictions that stands for the whole event.
TOTAL: Final = ""
_PLACES: Final = Decimal("0.000001")


class KeyConflictError(TurnoutError):
    """The idempotency key was used for another brief."""


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A plan as it was answered (JSON), and whether it was there already."""

    answer: dict[str, Any]
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Monitored:
    """One figure of the nightly monitoring: how predictions did, whichever version made them."""

    metric: str
    segment_id: str
    window_days: int
    subject: str
    value: float
    evidence: int
    status: str


def create_engine(settings: Settings) -> AsyncEngine:
    """An asynchronous engine that gives up early: a request has a deadline.

    Its connections are :data:`~turnout.warehouse.security.SERVICE_ROLE` from their first packet on, so what a
    transaction sees is what :func:`session` names, and nothing where nothing is named.
    """
    seconds = max(1, round(settings.request_timeout_seconds))
    url = settings.url_for("turnout")
    if settings.service_database_url:
        url = make_url(settings.service_database_url).set(drivername=url.drivername)
    return create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=4,
        max_overflow=12,
        pool_timeout=seconds,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": min(3, seconds),
            "options": f"-c statement_timeout={seconds * 1000} -c timezone=UTC -c role={SERVICE_ROLE}",
        },
    )


def owners_engine(settings: Settings) -> AsyncEngine:
    """An engine with the rights of the tables' owner, for what only the owner may: making partitions. No pool."""
    return create_async_engine(
        settings.url_string("turnout"), poolclass=NullPool,
        connect_args={"connect_timeout": 3, "options": "-c statement_timeout=30000 -c timezone=UTC"},
    )  # fmt: skip


_NAME: Final = text("SELECT set_config(:name, :organisation, true)")


@asynccontextmanager
async def session(engine: AsyncEngine, organisation: str) -> AsyncIterator[AsyncConnection]:
    """A transaction that sees and writes one organisation's rows only, whatever its queries say."""
    async with engine.begin() as connection:
        await connection.execute(_NAME, {"name": ORGANISATION, "organisation": organisation})
        yield connection


async def find_by_key(engine: AsyncEngine, organisation: str, key: str, brief: Brief) -> StoredPlan | None:
    """The plan that was answered under an idempotency key.

    Raises:
        KeyConflictError: it was made for another brief.
    """
    async with session(engine, organisation) as connection:
        return await _by_key(connection, organisation, key, brief)


async def find(engine: AsyncEngine, organisation: str, plan_id: UUID) -> StoredPlan | None:
    """A plan of this organisation by its id."""
    query = select(plan_table.c.answer).where(
        plan_table.c.plan_id == plan_id, plan_table.c.organisation == organisation
    )
    async with session(engine, organisation) as connection:
        answer = (await connection.execute(query)).scalar_one_or_none()
    return None if answer is None else StoredPlan(answer, replayed=True)


async def monitored(engine: AsyncEngine, organisation: str) -> list[Monitored]:
    """The figures of the newest morning; none before the first."""
    table = model_monitor.c
    names = [table[name] for name in Monitored.__dataclass_fields__]
    here = table.organisation == organisation
    newest = select(func.max(table.as_of)).where(here).scalar_subquery()
    query = select(*names).where(here, table.as_of == newest, table.model_version == "", table.value.is_not(None))
    async with session(engine, organisation) as connection:
        return [Monitored(**row) for row in (await connection.execute(query)).mappings()]


async def insights(engine: AsyncEngine, organisation: str) -> Insights:
    """The organisation's rules of thumb with the last verdict on each."""
    async with session(engine, organisation) as connection:
        return Insights(
            await connection.run_sync(insight_store.read, organisation),
            await connection.run_sync(insight_store.read_verdicts, organisation),
        )


async def save(
    engine: AsyncEngine,
    organisation: str,
    plan: Plan,
    *,
    features: Mapping[str, Mapping[str, float | None]],
    rates: Rates,
    idempotency_key: str | None = None,
) -> StoredPlan:
    """Store a plan with its predictions; of two requests with one key the first wins and both get its answer.

    Args:
        features: what the response model saw, per tactic; kept for the tactics used.

    Raises:
        KeyConflictError: the key belongs to another brief.
    """
    row = plan_row(organisation, plan, idempotency_key)
    async with session(engine, organisation) as connection:
        statement = insert(plan_table).on_conflict_do_nothing().returning(plan_table.c.plan_id)
        if (await connection.execute(statement, row)).scalar_one_or_none() is None:
            assert idempotency_key is not None, "plan ids are random; only a key can be taken"
            earlier = await _by_key(connection, organisation, idempotency_key, plan.brief)
            assert earlier is not None, "the row that was in the way is there"
            return earlier
        await connection.execute(insert(prediction_table), prediction_rows(organisation, plan, features, rates))
    return StoredPlan(row["answer"])


def plan_row(organisation: str, plan: Plan, idempotency_key: str | None = None) -> dict[str, Any]:
    """The row of ``plan``."""
    answer = plan.model_dump(mode="json")
    return {
        "plan_id": plan.plan_id,
        "organisation": organisation,
        "event_id": event_key(organisation, plan.brief.event.name, plan.brief.event.date),
        "idempotency_key": idempotency_key,
        "brief": answer["brief"],
        "answer": answer,
        "model_versions": answer["models"],
        "created_at": plan.created_at,
    }


def prediction_rows(
    organisation: str, plan: Plan, features: Mapping[str, Mapping[str, float | None]], rates: Rates
) -> list[dict[str, Any]]:
    """Rows of ``prediction``: one per tactic used, and one for the event's total."""
    model = plan.models[0]

    def row(tactic: str, spend: float, hours: float, expected: Interval, seen: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "plan_id": plan.plan_id,
            "organisation": organisation,
            "tactic_id": tactic,
            "spend_base": _decimal(spend),
            "staff_hours": _decimal(hours),
            "registrations_mean": _decimal(expected.mean),
            "registrations_p10": _decimal(expected.p10),
            "registrations_p50": _decimal(expected.p50),
            "registrations_p90": _decimal(expected.p90),
            "model_name": model.name,
            "model_version": model.version,
            # JSON has no NaN; what is not finite is not known
            "features": {k: v if v is not None and math.isfinite(v) else None for k, v in seen.items()},
            "created_at": plan.created_at,
        }

    def of(a: Allocation) -> dict[str, Any]:
        return row(a.tactic, rates.to_base(a.spend), a.staff_hours, a.registrations, features.get(a.tactic, {}))

    totals = plan.totals
    total = row(TOTAL, rates.to_base(totals.spend), totals.staff_hours, totals.registrations, {})
    return [*map(of, plan.allocations), total]


async def _by_key(connection: AsyncConnection, organisation: str, key: str, brief: Brief) -> StoredPlan | None:
    query: Select[Any] = select(plan_table.c.brief, plan_table.c.answer).where(
        plan_table.c.organisation == organisation, plan_table.c.idempotency_key == key
    )
    row: RowMapping | None = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        return None
    if row["brief"] != brief.model_dump(mode="json"):
        raise KeyConflictError(f"the idempotency key {key!r} was used for another brief")
    return StoredPlan(row["answer"], replayed=True)


def _decimal(value: float) -> Decimal:
    return Decimal(repr(float(value))).quantize(_PLACES)
