"""What the planner of PostgreSQL is told before a whole history is read."""

from __future__ import annotations

import sqlalchemy as sa

from turnout.warehouse.engine import refresh_statistics

KNOWN = "SELECT reltuples FROM pg_class WHERE oid = 'turnout.just_loaded'::regclass"


def test_tables_just_loaded_are_measured_once(engine):
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE turnout.just_loaded AS SELECT generate_series(1, 3) AS n"))
    try:
        with engine.connect() as connection:
            assert connection.scalar(sa.text(KNOWN)) < 0, "nobody has counted yet"
        assert refresh_statistics(engine) >= 1
        with engine.connect() as connection:
            assert connection.scalar(sa.text(KNOWN)) == 3
        assert refresh_statistics(engine) == 0, "nothing changed since"
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE turnout.just_loaded"))
