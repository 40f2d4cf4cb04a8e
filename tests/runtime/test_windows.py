"""Which days a run stands for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.errors import InputError
from turnout.runtime.windows import Window, resolve_window

TOKYO = ZoneInfo("Asia/Tokyo")


@dataclass
class Run:
    partition_key: str | None = None
    data_interval_start: datetime | None = None
    data_interval_end: datetime | None = None
    logical_date: datetime | None = None
    run_after: datetime | None = None


#: The interval of the run at 02:00 on 2 April in Tokyo.
INTERVAL = {
    "data_interval_start": datetime(2026, 3, 31, 17, tzinfo=UTC),
    "data_interval_end": datetime(2026, 4, 1, 17, tzinfo=UTC),
}


def test_the_data_interval_counts_in_the_local_calendar():
    assert resolve_window(Run(**INTERVAL), {}, TOKYO) == Window(date(2026, 4, 1), date(2026, 4, 2))


def test_a_partition_key_wins_over_the_interval():
    run = Run(partition_key="2026-01-05T00:00:00", **INTERVAL)
    assert resolve_window(run, None, TOKYO) == Window(date(2026, 1, 5), date(2026, 1, 5))


def test_days_that_a_person_names_win_over_everything():
    run = Run(partition_key="2026-01-05", **INTERVAL)
    window = resolve_window(run, {"from": "2025-04-01", "to": "2026-03-31", "sources": ["sendgrid"]}, TOKYO)
    assert window == Window(date(2025, 4, 1), date(2026, 3, 31))


def test_an_interval_of_no_width_is_not_an_interval():
    moment = datetime(2026, 4, 1, 17, tzinfo=UTC)
    run = Run(data_interval_start=moment, data_interval_end=moment, logical_date=moment)
    assert resolve_window(run, {}, TOKYO) == Window(date(2026, 4, 2), date(2026, 4, 2))


def test_a_run_by_hand_without_a_date_means_the_day_it_was_started():
    run = Run(run_after=datetime(2026, 4, 1, 23, tzinfo=UTC))
    assert resolve_window(run, {}, TOKYO) == Window(date(2026, 4, 2), date(2026, 4, 2))


@pytest.mark.parametrize(
    ("run", "params", "said"),
    [
        (None, None, "parameters 'from' and 'to'"),
        (Run(), {}, "parameters 'from' and 'to'"),
        (Run(), {"from": "2026-01-01"}, "'to' is missing"),
        (Run(), {"to": "2026-01-01"}, "'from' is missing"),
        (Run(), {"from": "1 January", "to": "2026-01-01"}, "'1 January'"),
        (Run(), {"from": "2026-02-01", "to": "2026-01-01"}, "swap them"),
        (Run(partition_key="tokyo"), {}, "the partition key is 'tokyo'"),
    ],
)
def test_an_unclear_run_is_refused_with_what_to_do(run, params, said):
    with pytest.raises(InputError) as refused:
        resolve_window(run, params, TOKYO)
    assert said in str(refused.value)


def test_looking_back_counts_from_the_end_and_never_narrows():
    window = Window(date(2026, 4, 1), date(2026, 4, 2))
    assert window.looking_back(30) == Window(date(2026, 3, 3), date(2026, 4, 2))
    assert window.looking_back(0) == window


@given(first=st.dates(date(2000, 1, 1), date(2030, 1, 1)), days=st.integers(1, 2_000), size=st.integers(1, 500))
def test_chunks_cover_every_day_exactly_once(first, days, size):
    window = Window(first, date.fromordinal(first.toordinal() + days - 1))
    chunks = window.chunks(size)
    covered = [d for c in chunks for d in range(c.first.toordinal(), c.last.toordinal() + 1)]
    assert covered == list(range(window.first.toordinal(), window.last.toordinal() + 1))
    assert all(c.days <= size for c in chunks)
