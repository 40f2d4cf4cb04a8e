"""Rows between reading and loading: typed, without personal data, given out again in whole days.

A partition is replaced whole, so rows of one day must meet whatever the order of the file. Small files stay in memory;
of large ones the rows wait in temporary files per day, so that memory does not grow with the file.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ingestion.records import Record, Rejected

#: Rows held in memory at a time.
BATCH_ROWS = 100_000


class Staged:
    """Records by table and day, and the rejected rows, of one table of a file.

    Use as a context manager: temporary files go with it, also when a load fails.
    """

    def __init__(self, folder: Path, batch_rows: int = BATCH_ROWS) -> None:
        self._folder = folder
        self._batch_rows = batch_rows
        self._stack = ExitStack()
        self._spool: Path | None = None
        self._held: dict[tuple[str, date | None], list[Record]] = {}
        self._held_count = 0
        self._rejected: list[Rejected] = []
        self._rejected_spooled = False
        #: Rows per table and day; ``None`` for tables without days.
        self.counts: dict[tuple[str, date | None], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def add(self, record: Record) -> None:
        """Keep a record until :meth:`batches`."""
        key = (record.table, record.values.get("date"))
        self._held.setdefault(key, []).append(record)
        self.counts[key] = self.counts.get(key, 0) + 1
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

    @property
    def tables(self) -> list[str]:
        return sorted({table for table, _ in self.counts})

    def days(self, table: str) -> list[date]:
        """Days with a record, in order."""
        return sorted(day for name, day in self.counts if name == table and day is not None)

    def batches(self, table: str) -> Iterator[list[Record]]:
        """The records of a table in whole days, days and rows in order; one batch holds one day at least."""
        batch: list[Record] = []
        keys = sorted((k for k in self.counts if k[0] == table), key=lambda k: k[1] or date.min)
        for key in keys:
            if batch and len(batch) + self.counts[key] > self._batch_rows:
                yield batch
                batch = []
            batch.extend(self._of(key))
        if batch:
            yield batch

    def rejected(self) -> Iterator[Rejected]:
        """The rejected rows in order."""
        if self._rejected_spooled:
            yield from self._load("rejected")
        yield from self._rejected

    def _of(self, key: tuple[str, date | None]) -> Iterator[Record]:
        if self._spool is not None:
            yield from self._load(self._name(key))
        yield from self._held.get(key, ())

    def _spill(self) -> None:
        for key, records in self._held.items():
            self._append(self._name(key), records)
        self._held, self._held_count = {}, 0

    @staticmethod
    def _name(key: tuple[str, date | None]) -> str:
        return f"{key[0]}.{key[1] or 'undated'}"

    def _append(self, name: str, items: list[Any]) -> None:
        if self._spool is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            made = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ingest-", dir=self._folder))
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
