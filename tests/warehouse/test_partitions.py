"""Months get partitions of their own when they can, and rows find a place when they cannot."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from turnout.warehouse import partitions
from turnout.warehouse.partitions import ensure_months, existing_months, is_partition, months
from turnout.warehouse.tables import ad_performance, email_performance, event


@pytest.fixture(autouse=True)
def _no_months(engine: Engine):
    """Each test begins without months, whatever ran before in this database."""
    with engine.begin() as connection:
        for month in existing_months(connection, email_performance):
            connection.execute(sa.text(f"DROP TABLE turnout.{partitions.partition_name(email_performance, month)}"))


def insert_mail(connection: sa.Connection, day: date) -> None:
    row = {"organisation": "o", "source": "sendgrid", "account": "", "date": day, "line": 1, "opens": 3}
    connection.execute(
        sa.insert(email_performance), row | {"fetched_at": datetime(2026, 1, 1, tzinfo=UTC), "run_id": UUID(int=1)}
    )


def place(connection: sa.Connection, day: date) -> str:
    """The partition that holds the row of a day."""
    query = sa.text("SELECT tableoid\\:\\:regclass\\:\\:text FROM turnout.email_performance WHERE date = :day")
    return str(connection.scalar(query, {"day": day}))


def test_every_month_of_a_range_gets_one_partition(engine: Engine):
    with engine.begin() as connection:
        first = ensure_months(connection, email_performance, date(2025, 11, 30), date(2026, 2, 1))
        again = ensure_months(connection, email_performance, date(2025, 11, 1), date(2026, 3, 31))
    assert first == [date(2025, 11, 1), date(2025, 12, 1), date(2026, 1, 1), date(2026, 2, 1)]
    assert again == [date(2026, 3, 1)]


def test_a_month_takes_its_rows_out_of_the_default_partition(engine: Engine):
    with engine.begin() as connection:
        for day in (date(2026, 5, 1), date(2026, 5, 31), date(2026, 6, 1)):
            insert_mail(connection, day)
    with engine.begin() as connection:
        ensure_months(connection, email_performance, date(2026, 5, 5), date(2026, 5, 5))
        assert place(connection, date(2026, 5, 1)) == "turnout.email_performance_2026_05"
        assert place(connection, date(2026, 5, 31)) == "turnout.email_performance_2026_05"
        assert place(connection, date(2026, 6, 1)) == "turnout.email_performance_default"


def test_partitions_have_the_tables_keys_and_checks(engine: Engine):
    with engine.begin() as connection:
        ensure_months(connection, ad_performance, date(2026, 5, 5), date(2026, 5, 5))
        inspector = sa.inspect(connection)
        key = inspector.get_pk_constraint("ad_performance_2026_05", schema="turnout")["constrained_columns"]
        checks = inspector.get_check_constraints("ad_performance_2026_05", schema="turnout")
        indexes = inspector.get_indexes("ad_performance_2026_05", schema="turnout")
    assert key == ["organisation", "source", "account", "date", "line"]
    assert len(checks) == 1
    assert ["campaign_id", "date"] in [i["column_names"] for i in indexes]


def test_a_reader_of_the_whole_table_postpones_the_partition(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT_MS", 100)
    with engine.begin() as reader:
        reader.execute(sa.text("SELECT count(*) FROM turnout.email_performance"))
        with engine.begin() as connection:
            assert ensure_months(connection, email_performance, date(2026, 5, 1), date(2026, 5, 1)) == []
            insert_mail(connection, date(2026, 5, 1))
            assert place(connection, date(2026, 5, 1)) == "turnout.email_performance_default"
            assert connection.scalar(sa.text("SHOW lock_timeout")) == "0"
    with engine.begin() as connection:
        assert ensure_months(connection, email_performance, date(2026, 5, 1), date(2026, 5, 1)) == [date(2026, 5, 1)]
        assert place(connection, date(2026, 5, 1)) == "turnout.email_performance_2026_05"


def test_many_at_once_make_each_month_once(engine: Engine):
    created: list[date] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            with engine.begin() as connection:
                created.extend(ensure_months(connection, email_performance, date(2026, 1, 1), date(2026, 12, 31)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(created) == list(months(date(2026, 1, 1), date(2026, 12, 31)))


def test_impossible_dates_make_no_partitions(engine: Engine):
    with engine.begin() as connection:
        assert ensure_months(connection, email_performance, date(1900, 1, 1), date(1900, 12, 31)) == []
        assert ensure_months(connection, email_performance, date(9999, 1, 1), date(9999, 12, 31)) == []


def test_what_is_not_partitioned_is_refused(engine: Engine):
    with engine.begin() as connection:
        with pytest.raises(ValueError, match="event is not partitioned"):
            ensure_months(connection, event, date(2026, 1, 1), date(2026, 1, 1))
        with pytest.raises(ValueError, match="lies before"):
            ensure_months(connection, email_performance, date(2026, 1, 2), date(2026, 1, 1))


def test_partitions_are_told_from_tables():
    assert is_partition("ad_performance_2026_05")
    assert is_partition("registration_default")
    assert not is_partition("registration")
    assert not is_partition("event_2026_05")


def test_a_query_that_waits_for_rows_that_move_finds_them(engine: Engine):
    with engine.begin() as connection:
        insert_mail(connection, date(2026, 5, 5))
    found: list[object] = []

    def count() -> None:
        with engine.connect() as connection:
            found.append(connection.scalar(sa.select(sa.func.count()).select_from(email_performance)))

    with engine.begin() as connection:
        ensure_months(connection, email_performance, date(2026, 5, 5), date(2026, 5, 5))
        reader = threading.Thread(target=count)
        reader.start()
        reader.join(0.5)
        assert not found, "it waits"
    reader.join(10)
    assert found == [1]
