"""Rows between reading and loading: typed, without personal data, given out again in whole days.

A partition is replaced whole, so rows of one day must meet whatever the order of the file. Small files stay in memory;
of large ones the rows wait in temporary files per day, so that memory does not grow with the file.
"""

from __future__ import annotations

import itertools
import pickle
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ingestion.records import Record, Rejected

#: Rows held in memory at a time.
BATCH_ROWS = 100_000

_PREFIX = "ingest-"
_STALE_SECONDS = 24 * 3600

_Key = tuple[str, date | None]
#: The row's number in the file, then its values in the order of the table's names.
_Kept = tuple[Any, ...]


@dataclass(frozen=True)
class Batch:
    """Rows of one table, column by column; ``rows`` are their numbers in the file."""

    rows: list[int]
    columns: dict[str, list[Any]]


def sweep(folder: Path) -> None:
    """Remove what loads that were killed left in ``folder``; those still running wrote to theirs within the day."""
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - _STALE_SECONDS:
                shutil.rmtree(path)


class Staged:
    """Records by table and day, and the rejected rows, of one table of a file.

    Use as a context manager: temporary files go with it, also when a load fails.
    """

    def __init__(self, folder: Path, batch_rows: int = BATCH_ROWS) -> None:
        self._folder = folder
        self._batch_rows = batch_rows
        self._stack = ExitStack()
        self._spool: Path | None = None
        self._names: dict[str, tuple[str, ...]] = {}
        self._held: dict[_Key, list[_Kept]] = {}
        self._held_count = 0
        self._rejected: list[Rejected] = []
        self._rejected_spooled = False
        #: Rows per table and day; ``None`` for tables without days.
        self.counts: dict[_Key, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def add(self, record: Record) -> None:
        """Keep a record until :meth:`batches`."""
        table, values = record.table, record.values
        names = self._names.get(table)
        given = tuple(values)
        if given == names:
            kept = (record.row, *values.values())
        else:
            # Names are only ever added, so rows kept before are shorter, never in another order.
            names = self._names[table] = tuple(dict.fromkeys((*(names or ()), *given)))
            kept = (record.row, *map(values.get, names))
        key = (table, values.get("date"))
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = []
            self.counts.setdefault(key, 0)
        held.append(kept)
        self.counts[key] += 1
        self._held_count += 1
        if self._held_count >= self._batch_rows:
            self._spill()

    def reject(self, rejected: Rejected) -> None:
        """Keep a rejected row until :meth:`rejected`."""
        self._rejected.append(rejected)
        if len(self._rejected) >= self._batch_rows // 5:
            self._append("rejected", self._rejected)
            self._rejected = []
            self._rejected_spooled = True

    def clear(self) -> None:
        """Forget everything: what was read has to be read again."""
        self._stack.close()
        self._spool = None
        self._names, self._held, self._held_count = {}, {}, 0
        self._rejected, self._rejected_spooled = [], False
        self.counts = {}

    @property
    def tables(self) -> list[str]:
        return sorted({table for table, _ in self.counts})

    def days(self, table: str) -> list[date]:
        """Days with a record, in order."""
        return sorted(day for name, day in self.counts if name == table and day is not None)

    def batches(self, table: str) -> Iterator[Batch]:
        """The records of a table in whole days, days and rows in order; one batch holds one day at least."""
        kept: list[_Kept] = []
        keys = sorted((k for k in self.counts if k[0] == table), key=lambda k: k[1] or date.min)
        for key in keys:
            if kept and len(kept) + self.counts[key] > self._batch_rows:
                yield self._batch(table, kept)
                kept = []
            kept.extend(self._of(key))
        if kept:
            yield self._batch(table, kept)

    def rejected(self) -> Iterator[Rejected]:
        """The rejected rows in order."""
        if self._rejected_spooled:
            yield from self._load("rejected")
        yield from self._rejected

    def _batch(self, table: str, kept: list[_Kept]) -> Batch:
        columns = list(map(list, itertools.zip_longest(*kept)))  # rows kept before a name was met lack its value
        names = self._names[table]
        return Batch(columns[0], dict(zip(names, columns[1:], strict=False)))

    def _of(self, key: _Key) -> Iterator[_Kept]:
        if self._spool is not None:
            yield from self._load(self._name(key))
        yield from self._held.get(key, ())

    def _spill(self) -> None:
        for key, kept in self._held.items():
            self._append(self._name(key), kept)
        self._held, self._held_count = {}, 0

    @staticmethod
    def _name(key: _Key) -> str:
        return f"{key[0]}.{key[1] or 'undated'}"

    def _append(self, name: str, items: list[Any]) -> None:
        if self._spool is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            made = self._stack.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX, dir=self._folder))
            self._spool = Path(made)
        with (self._spool / name).open("ab") as file:
            pickle.dump(items, file, protocol=pickle.HIGHEST_PROTOCOL)

    def _load(self, name: str) -> Iterator[Any]:
        """Read back what this very object wrote; nobody else can write into its private folder."""
        assert self._spool is not None
        path = self._spool / name
        if not path.exists():
            return
        with path.open("rb") as file:
            while True:
                try:
                    items = pickle.load(file)  # noqa: S301
                except EOFError:
                    return
                yield from items
