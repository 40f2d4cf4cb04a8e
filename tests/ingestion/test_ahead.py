"""Work prepared by a thread: in order, with its errors, and not for nobody."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import pytest

from ingestion.ahead import ahead


def test_items_come_in_order_and_one_is_made_while_another_is_used():
    threads: set[int] = set()

    def numbers() -> Iterator[int]:
        for n in range(20):
            threads.add(threading.get_ident())
            yield n

    assert list(ahead(numbers())) == list(range(20))
    assert threads.isdisjoint({threading.get_ident()})


def test_an_error_comes_after_the_items_before_it():
    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("three")

    made = ahead(numbers())
    assert [next(made), next(made)] == [1, 2]
    with pytest.raises(ValueError, match="three"):
        next(made)


def test_who_stops_early_leaves_no_thread_and_little_made():
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for n in range(1000):
            made.append(n)
            yield n

    before = sys.getswitchinterval()
    used = ahead(numbers())
    assert next(used) == 0
    time.sleep(0.05)
    assert sys.getswitchinterval() < before
    used.close()
    assert len(made) <= 4
    assert not [t for t in threading.enumerate() if t.name == "ahead"]
    assert sys.getswitchinterval() == before
