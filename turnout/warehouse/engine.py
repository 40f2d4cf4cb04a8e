"""Connections to the warehouse."""

from __future__ import annotations

import json
from functools import partial

import sqlalchemy as sa
from sqlalchemy.engine import Engine

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
    # The option reaches PostgreSQL in the start packet: no round trip, and no driver may forget it.
    return sa.create_engine(
        settings.url_for(database),
        pool_pre_ping=True,
        pool_size=pool_size,
        max_overflow=pool_size,
        connect_args={"options": "-c timezone=UTC", "application_name": "turnout", "connect_timeout": 10},
        json_serializer=partial(json.dumps, ensure_ascii=False, allow_nan=False),
    )
