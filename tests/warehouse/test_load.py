"""Partitions are replaced whole, at full speed, whatever runs beside and whatever is killed."""

from __future__ import annotations

import multiprocessing
import threading
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from turnout.settings import Settings
from turnout.warehouse.engine import create_engine
from turnout.warehouse.load import Replaced, copy, lock_account, replace_partitions, upsert
from turnout.warehouse.tables import ad_performance, campaign, email_performance, event, insight, registration

RUN = UUID(int=1)
FETCHED = datetime(2026, 5, 1, tzinfo=UTC)
SCOPE = {"organisation": "acme", "source": "google_ads", "account": "1"}


def ads(days: list[date], rows_per_day: int = 2, **columns: Any) -> pd.DataFrame:
    """A frame of ad performance; ``columns`` override."""
    dates = [day for day in days for _ in range(rows_per_day)]
    values: dict[str, Any] = {
        **SCOPE, "fetched_at": FETCHED, "run_id": RUN, "date": dates, "period_end": dates, "campaign_id": "c",
        "campaign_name": "春の勉強会", "impressions": 100, "clicks": 3, "spend": Decimal("12.50"), "currency": "JPY",
        "spend_base": Decimal("12.50"), "base_currency": "JPY", "fx_rate": 1, "fx_date": date(2026, 1, 1),
    }  # fmt: skip
    return pd.DataFrame(values | columns, index=range(len(dates)))


def days(first: date, count: int) -> list[date]:
    return [first + timedelta(days=n) for n in range(count)]


def stored(engine: Engine, column: str = "spend", table: sa.Table = ad_performance) -> dict[date, list[Any]]:
    query = sa.select(table.c.date, table.c[column]).order_by(table.c.date, table.c.account, table.c.line)
    found: dict[date, list[Any]] = {}
    with engine.connect() as connection:
        for day, value in connection.execute(query):
            found.setdefault(day, []).append(value)
    return found


def load(engine: Engine, frame: pd.DataFrame, **options: Any) -> Replaced:
    with engine.begin() as connection:
        return replace_partitions(connection, ad_performance, frame, **options)


def test_loading_twice_is_loading_once(engine: Engine):
    frame = ads(days(date(2026, 4, 28), 5))
    assert load(engine, frame) == Replaced(deleted=0, inserted=10, partitions=5)
    before = stored(engine)
    assert load(engine, frame) == Replaced(deleted=10, inserted=10, partitions=5)
    assert stored(engine) == before


def test_only_the_dates_present_are_replaced(engine: Engine):
    load(engine, ads(days(date(2026, 5, 1), 3)))
    load(engine, ads([date(2026, 5, 1), date(2026, 5, 3)], rows_per_day=1, spend=Decimal(7)))
    assert {day: len(values) for day, values in stored(engine).items()} == {
        date(2026, 5, 1): 1, date(2026, 5, 2): 2, date(2026, 5, 3): 1,
    }  # fmt: skip


def test_a_window_empties_the_days_without_rows(engine: Engine):
    load(engine, ads(days(date(2026, 4, 29), 5)))
    done = load(engine, ads([date(2026, 5, 1)]), window=(date(2026, 4, 30), date(2026, 5, 2)))
    assert done == Replaced(deleted=6, inserted=2, partitions=3)
    assert list(stored(engine)) == [date(2026, 4, 29), date(2026, 5, 1), date(2026, 5, 3)]


def test_an_empty_frame_empties_the_window_of_its_scope_only(engine: Engine):
    load(engine, ads([date(2026, 5, 1)]))
    load(engine, ads([date(2026, 5, 1)], account="2"))
    window = (date(2026, 5, 1), date(2026, 5, 31))
    assert load(engine, pd.DataFrame(), scope=SCOPE, window=window).deleted == 2
    assert load(engine, pd.DataFrame(), scope=SCOPE | {"account": "9"}, window=window).deleted == 0
    assert {day: len(v) for day, v in stored(engine, "account").items()} == {date(2026, 5, 1): 2}
    with pytest.raises(ValueError, match="needs a scope"):
        load(engine, pd.DataFrame(), window=window)
    assert load(engine, pd.DataFrame()) == Replaced(0, 0, 0)


def test_other_accounts_sources_and_organisations_stay(engine: Engine):
    others = [{"account": "2"}, {"source": "meta_ads"}, {"organisation": "other"}]
    for other in others:
        load(engine, ads([date(2026, 5, 1)], **other))
    load(engine, ads([date(2026, 5, 1)]))
    load(engine, ads([date(2026, 5, 1)], rows_per_day=1))
    assert len(stored(engine)[date(2026, 5, 1)]) == 2 * len(others) + 1


def test_one_frame_may_hold_several_accounts(engine: Engine):
    frame = pd.concat([ads(days(date(2026, 5, 1), 2)), ads([date(2026, 5, 9)], account="2")], ignore_index=True)
    assert load(engine, frame) == Replaced(deleted=0, inserted=6, partitions=3)
    with engine.connect() as connection:
        lines = connection.execute(sa.select(ad_performance.c.account, ad_performance.c.line)).all()
    assert sorted(lines) == [("1", 1), ("1", 1), ("1", 2), ("1", 2), ("2", 1), ("2", 2)]


def test_scope_may_stand_for_columns_and_is_checked_against_them(engine: Engine):
    load(engine, ads([date(2026, 5, 1)]).drop(columns=list(SCOPE)), scope=SCOPE)
    assert len(stored(engine)[date(2026, 5, 1)]) == 2
    with pytest.raises(ValueError, match="outside the scope account='7'"):
        load(engine, ads([date(2026, 5, 1)]), scope=SCOPE | {"account": "7"})
    with pytest.raises(ValueError, match="exactly the keys"):
        load(engine, ads([date(2026, 5, 1)]), scope={"account": "1"})


def test_nothing_is_visible_before_the_commit_and_nothing_stays_after_a_rollback(engine: Engine):
    load(engine, ads([date(2026, 5, 1)], spend=Decimal(1)))
    with engine.connect() as connection:
        replace_partitions(connection, ad_performance, ads([date(2026, 5, 1)], spend=Decimal(2)))
        assert stored(engine) == {date(2026, 5, 1): [1, 1]}
        connection.rollback()
    assert stored(engine) == {date(2026, 5, 1): [1, 1]}


def test_refused_rows_leave_what_was_there(engine: Engine):
    load(engine, ads([date(2026, 5, 1)], spend=Decimal(1)))
    with pytest.raises(psycopg.errors.NotNullViolation):
        load(engine, ads([date(2026, 5, 1)], campaign_name=None))
    with pytest.raises(psycopg.errors.CheckViolation):
        load(engine, ads([date(2026, 5, 1)], period_end=date(2026, 4, 1)))
    assert stored(engine) == {date(2026, 5, 1): [1, 1]}


@pytest.mark.parametrize(
    ("column", "given", "expected"),
    [
        ("impressions", [np.nan, 5.0], [None, 5]),
        ("impressions", pd.array([pd.NA, 5], dtype="Int64"), [None, 5]),
        ("impressions", [None, 2**40], [None, 2**40]),
        ("spend", [None, Decimal("0.000001")], [None, Decimal("0.000001")]),
        ("spend", [float("nan"), 1e-5], [None, Decimal("0.00001")]),
        ("spend", [Decimal("NaN"), 3], None),
        ("spend", [12345678901234, "1.5"], [12345678901234, Decimal("1.5")]),
        ("conversions", [np.float32(0.5), np.nan], [Decimal("0.5"), None]),
        ("ad_group", [None, ""], [None, ""]),
        ("ad_group", [np.nan, pd.NA], [None, None]),
        ("ad_group", ['a,"b"\n\\N', "\\."], ['a,"b"\n\\N', "\\."]),
        ("ad_group", pd.Categorical(["x", None]), ["x", None]),
        ("ad_group", ["😀　ＡＩ", "'; DROP TABLE event; --"], ["😀　ＡＩ", "'; DROP TABLE event; --"]),
        (
            "period_end",
            [datetime(2026, 5, 3, 4, 5, tzinfo=UTC), date(2026, 5, 4)],
            [date(2026, 5, 3), date(2026, 5, 4)],
        ),
        ("period_end", pd.to_datetime(["2026-05-03", "2026-05-04"]), [date(2026, 5, 3), date(2026, 5, 4)]),
        ("is_partial", [True, False], [True, False]),
        ("is_partial", np.array([True, False], dtype=object), [True, False]),
    ],
)
def test_values_arrive_as_they_are(engine: Engine, column: str, given: Any, expected: list[Any] | None):
    frame = ads([date(2026, 5, 1)])
    frame[column] = given
    if expected is None:
        with pytest.raises(ValueError, match=rf"ad_performance\.{column}: .*not a number"):
            load(engine, frame)
    else:
        load(engine, frame)
        assert stored(engine, column) == {date(2026, 5, 1): expected}


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("impressions", 1.5, "1.5"),
        ("impressions", float("inf"), "inf"),
        ("clicks", "many", "many"),
        ("spend", float("inf"), "inf is not a number"),
        ("spend", "¥5", "¥5"),
        ("campaign_name", "a\x00b", "NUL"),
        ("campaign_name", 5, "5 is not text"),
        ("fetched_at", FETCHED.replace(tzinfo=None), "zone"),
        ("fx_date", "first of May", "isoformat"),
        ("is_partial", "maybe", "maybe"),
    ],
)
def test_values_a_column_cannot_hold_are_named(engine: Engine, column: str, value: Any, why: str):
    frame = ads([date(2026, 5, 1)])
    frame[column] = pd.Series([frame[column].iloc[0] if column in frame else None, value], dtype=object)
    with pytest.raises(ValueError, match=rf"ad_performance\.{column}: .*{why}"):
        load(engine, frame)
    assert stored(engine) == {}


def test_frames_that_do_not_fit_are_refused(engine: Engine):
    with pytest.raises(ValueError, match="has no column cost"):
        load(engine, ads([date(2026, 5, 1)], cost=1))
    with pytest.raises(ValueError, match="lacks date"):
        load(engine, ads([date(2026, 5, 1)]).drop(columns="date"))
    with pytest.raises(ValueError, match="every row needs"):
        load(engine, ads([date(2026, 5, 1)], date=[None, date(2026, 5, 1)]))
    with pytest.raises(ValueError, match="do not lie within the window"):
        load(engine, ads([date(2026, 5, 1)]), window=(date(2026, 5, 2), date(2026, 5, 3)))
    with pytest.raises(ValueError, match="lies before the first"):
        load(engine, ads([date(2026, 5, 1)]), window=(date(2026, 5, 2), date(2026, 5, 1)))
    with engine.begin() as connection, pytest.raises(ValueError, match="use upsert"):
        replace_partitions(connection, event, pd.DataFrame())


def test_every_fact_table_loads(engine: Engine):
    with engine.begin() as connection:
        mails = pd.DataFrame(
            [
                {
                    **SCOPE,
                    "source": "sendgrid",
                    "fetched_at": FETCHED,
                    "run_id": RUN,
                    "date": date(2026, 5, 1),
                    "opens": 5,
                }
            ]
        )
        people = pd.DataFrame(
            [
                {**SCOPE, "source": "registrations", "fetched_at": FETCHED, "run_id": RUN, "date": date(2026, 5, 1),
                 "status": "confirmed", "registered_at": at, "attended": attended}
                for at, attended in ((pd.Timestamp("2026-05-01 10:00:00.5", tz="Asia/Tokyo"), True), (pd.NaT, None))
            ]
        )  # fmt: skip
        assert replace_partitions(connection, email_performance, mails).inserted == 1
        assert replace_partitions(connection, registration, people).inserted == 2
    assert stored(engine, "registered_at", registration) == {
        date(2026, 5, 1): [datetime(2026, 5, 1, 1, 0, 0, 500_000, tzinfo=UTC), None]
    }
    assert stored(engine, "attended", registration) == {date(2026, 5, 1): [True, None]}


def test_rows_of_impossible_dates_find_a_place(engine: Engine):
    load(engine, ads([date(1900, 1, 1), date(2999, 1, 1)], rows_per_day=1))
    load(engine, ads([date(1900, 1, 1), date(2999, 1, 1)], rows_per_day=1))
    assert {day: len(v) for day, v in stored(engine).items()} == {date(1900, 1, 1): 1, date(2999, 1, 1): 1}


def test_several_loads_may_share_a_transaction_whatever_months_they_touch(engine: Engine):
    start = time.perf_counter()
    with engine.begin() as connection:
        # An impossible date puts the transaction into the DEFAULT partition; new months must not wait for that.
        for day in (date(1900, 1, 1), date(2033, 1, 31), date(2033, 5, 31), date(2033, 2, 1)):
            replace_partitions(connection, ad_performance, ads([day]))
            replace_partitions(connection, ad_performance, ads([day]), window=(day, day + timedelta(days=40)))
    assert time.perf_counter() - start < 2
    assert {day: len(v) for day, v in stored(engine).items()} == {
        date(1900, 1, 1): 2, date(2033, 1, 31): 2, date(2033, 2, 1): 2, date(2033, 5, 31): 2,
    }  # fmt: skip


def test_loading_works_after_a_truncate(engine: Engine):
    load(engine, ads([date(2026, 5, 1)]))
    with engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE turnout.ad_performance"))
    assert load(engine, ads([date(2026, 5, 1)])) == Replaced(deleted=0, inserted=2, partitions=1)


def test_loaders_of_one_account_wait_for_each_other(engine: Engine):
    order: list[str] = []

    def second() -> None:
        load(engine, ads([date(2026, 5, 1)], spend=Decimal(2)))
        order.append("second")

    with engine.begin() as connection:
        replace_partitions(connection, ad_performance, ads([date(2026, 5, 1)], spend=Decimal(1)))
        waiting = threading.Thread(target=second)
        waiting.start()
        with engine.begin() as elsewhere:
            lock_account(elsewhere, "acme", "google_ads", "2")  # another account does not wait
        time.sleep(0.2)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
    assert stored(engine) == {date(2026, 5, 1): [2, 2]}


@pytest.mark.slow
def test_many_loaders_at_once_neither_deadlock_nor_lose_rows(engine: Engine):
    """Eight threads load overlapping accounts and new months in different orders while others read everything."""
    errors: list[BaseException] = []
    months = [date(2031, month, 28) for month in range(1, 13)]
    reading = threading.Event()

    def loader(number: int) -> None:
        mix = np.random.default_rng(number)
        try:
            for _ in range(6):
                first = months[mix.integers(len(months))]
                accounts = mix.permutation(4)[:2]
                frame = pd.concat([ads(days(first, 5), account=str(a), spend=Decimal(number)) for a in accounts])
                load(engine, frame, window=(first, first + timedelta(days=4)))
        except BaseException as error:
            errors.append(error)

    def reader() -> None:
        while not reading.is_set():
            stored(engine)

    threads = [threading.Thread(target=loader, args=(n,)) for n in range(8)]
    readers = [threading.Thread(target=reader) for _ in range(2)]
    for thread in [*threads, *readers]:
        thread.start()
    for thread in threads:
        thread.join()
    reading.set()
    for thread in readers:
        thread.join()
    assert errors == []
    with engine.connect() as connection:
        # Each partition holds the two rows of exactly one loader.
        groups = connection.execute(
            sa.text("SELECT count(*), count(DISTINCT spend) FROM turnout.ad_performance GROUP BY source, account, date")
        ).all()
    assert set(groups) == {(2, 1)}


def test_loaders_killed_at_any_moment_leave_whole_partitions(engine: Engine, settings: Settings):
    """kill -9 in the middle of a load: old rows or new ones, whole; a clean run then gives the undisturbed result."""
    wanted = ads(days(date(2026, 3, 1), 60), rows_per_day=100, spend=Decimal(0))
    load(engine, wanted)
    undisturbed = stored(engine)

    def load_once(started: Any, value: int) -> None:
        own = create_engine(settings)
        started.set()
        load(own, wanted.assign(spend=Decimal(value)))
        time.sleep(60)

    forked = multiprocessing.get_context("fork")  # to start in milliseconds, without importing pandas again
    mix = np.random.default_rng(1)
    before, interrupted = Decimal(0), 0
    for turn in range(1, 21):
        started = forked.Event()
        loader = forked.Process(target=load_once, args=(started, turn), daemon=True)
        loader.start()
        started.wait()
        time.sleep(mix.uniform(0.0, 0.3))
        loader.kill()
        loader.join()
        with engine.begin() as connection:
            lock_account(connection, *SCOPE.values())  # until the server has noticed
            count, *values = connection.execute(
                sa.text("SELECT count(*), min(spend), max(spend) FROM turnout.ad_performance")
            ).one()
        assert count == len(wanted)
        assert values in ([before, before], [turn, turn])
        interrupted += values[0] == before
        before = values[0]
    assert interrupted, "no loader was killed before its commit"
    load(engine, wanted)
    assert stored(engine) == undisturbed


def test_copy_is_fast(engine: Engine):
    """The budget is 50,000 rows/s on two cores; held to a fraction here, where other tests run beside."""
    rows = 60_000
    frame = ads(days(date(2026, 1, 1), 60), rows_per_day=rows // 60)
    start = time.perf_counter()
    assert load(engine, frame).inserted == rows
    assert rows / (time.perf_counter() - start) > 15_000


def test_copy_fills_tables_without_partitions(engine: Engine):
    frame = pd.DataFrame(
        [
            {
                **SCOPE,
                "fetched_at": FETCHED,
                "run_id": RUN,
                "insight_id": "i",
                "text": "t",
                "applies_to": {"a": ["ü", None]},
            }
        ]
    )
    with engine.connect() as connection:
        assert copy(connection, insight, frame) == 1
        connection.commit()
        assert connection.execute(sa.select(insight.c.applies_to)).scalar_one() == {"a": ["ü", None]}


def campaigns(*names: str, **columns: Any) -> list[dict[str, Any]]:
    return [
        {**SCOPE, "fetched_at": FETCHED, "run_id": RUN, "campaign_id": name, "name": name, **columns} for name in names
    ]


def test_upsert_inserts_changes_and_leaves_alone(engine: Engine):
    with engine.begin() as connection:
        assert upsert(connection, campaign, campaigns("a", "b")) == 2
        stamp = connection.execute(sa.select(campaign.c.updated_at).where(campaign.c.campaign_id == "b")).scalar_one()
    with engine.begin() as connection:
        assert upsert(connection, campaign, [*campaigns("a", name="renamed"), *campaigns("b")]) == 1
        assert upsert(connection, campaign, campaigns("a", name="renamed")) == 0
        found = connection.execute(sa.select(campaign.c.campaign_id, campaign.c.name, campaign.c.updated_at)).all()
    assert {(i, n) for i, n, _ in found} == {("a", "renamed"), ("b", "b")}
    assert next(at for i, _, at in found if i == "b") == stamp
    assert next(at for i, _, at in found if i == "a") > stamp


def test_upsert_keeps_what_it_is_told_to_and_what_it_is_not_given(engine: Engine):
    with engine.begin() as connection:
        upsert(connection, campaign, campaigns("a", tactic_id="meta_ads", mapped_by="user", campaign_type="video"))
        assert (
            upsert(
                connection, campaign, campaigns("a", tactic_id=None, mapped_by="rule"), keep=("tactic_id", "mapped_by")
            )
            == 0
        )
        row = connection.execute(sa.select(campaign)).mappings().one()
    assert (row["tactic_id"], row["mapped_by"], row["campaign_type"]) == ("meta_ads", "user", "video")


def test_upsert_takes_frames_nulls_and_repeated_keys(engine: Engine):
    frame = pd.DataFrame(campaigns("a", "a", "b"))
    frame["name"] = ["first", "last", "b"]
    frame["campaign_type"] = [np.nan, None, pd.NA]
    frame["first_seen"] = [pd.NaT, pd.Timestamp("2026-05-01"), pd.NaT]
    with engine.begin() as connection:
        assert upsert(connection, campaign, frame) == 2
        found = connection.execute(sa.select(campaign.c.name, campaign.c.campaign_type, campaign.c.first_seen)).all()
    assert sorted(found) == [("b", None, None), ("last", None, date(2026, 5, 1))]


def test_upsert_stores_lists_and_names_its_errors(engine: Engine):
    row = {
        **SCOPE, "fetched_at": FETCHED, "run_id": RUN, "event_id": "evt_1", "name": "n", "event_date": date(2026, 6, 1),
        "time_zone": "Asia/Tokyo", "category": "it", "format": "online", "currency": "JPY",
        "industries": ["情報通信業", 'a"b,c'],
    }  # fmt: skip
    with engine.begin() as connection:
        assert upsert(connection, event, [row]) == 1
        assert connection.execute(sa.select(event.c.industries)).scalar_one() == ["情報通信業", 'a"b,c']
        with pytest.raises(ValueError, match="has no column colour"):
            upsert(connection, event, [row | {"colour": "red"}])
        with pytest.raises(ValueError, match="lacks event_id"):
            upsert(connection, event, [row | {"event_id": None}])
        assert upsert(connection, event, []) == 0


def test_upserts_in_opposite_orders_do_not_deadlock(engine: Engine):
    names = [f"c{n}" for n in range(200)]
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            for turn in range(5):
                with engine.begin() as connection:
                    upsert(
                        connection,
                        campaign,
                        campaigns(*(names if number % 2 else names[::-1]), name=f"{number}-{turn}"),
                    )
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
