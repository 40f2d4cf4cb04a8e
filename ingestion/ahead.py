"""Preparing the next piece of work while the last one is carried out."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

_END = object()

#: How long a thread that computes may keep one waiting that only has to hand the next bytes to the database. Python's
#: own 5 ms, at every filled socket buffer, would halve the speed of ``COPY``.
_SWITCH_SECONDS = 0.0005
_lock = threading.Lock()
_waiting: list[float] = []


@contextmanager
def _quick_switches() -> Iterator[None]:
    """Threads of this process give way to one another sooner, until the last one leaves."""
    with _lock:
        _waiting.append(_waiting[0] if _waiting else sys.getswitchinterval())
        sys.setswitchinterval(min(_SWITCH_SECONDS, _waiting[0]))
    try:
        yield
    finally:
        with _lock:
            before = _waiting.pop()
            if not _waiting:
                sys.setswitchinterval(before)


def ahead(items: Iterable[T], depth: int = 1) -> Generator[T, None, None]:
    """The items, in order, made by a thread that is at most ``depth`` items ahead.

    What ``items`` raises is raised here, after the items before it. Whoever stops early (``close``, an error) waits
    until the item in the making is done, and no further one is begun.
    """
    made: queue.Queue[tuple[object, BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: object, error: BaseException | None = None) -> bool:
        while not stopped.is_set():
            try:
                made.put((item, error), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:
            put(_END, error)
        else:
            put(_END)

    worker = threading.Thread(target=work, name="ahead", daemon=True)
    with _quick_switches():
        worker.start()
        try:
            while True:
                item, error = made.get()
                if error is not None:
                    raise error
                if item is _END:
                    return
                yield item  # type: ignore[misc]
        finally:
            stopped.set()
            worker.join()
