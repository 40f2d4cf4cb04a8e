"""Servers and a migrated warehouse for the length of one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from turnout.settings import Settings


@contextmanager
def warehouse(settings: Settings | None = None) -> Iterator[tuple[Settings, Engine]]:
    """Enter the services (embedded ones start when none are configured) and bring the warehouse up to date."""
    from turnout.runtime import services
    from turnout.warehouse.engine import create_engine
    from turnout.warehouse.migrate import upgrade

    with services(settings) as ready:
        upgrade(ready)
        engine = create_engine(ready)
        try:
            yield ready, engine
        finally:
            engine.dispose()
