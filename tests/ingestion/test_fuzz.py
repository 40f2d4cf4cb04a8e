"""A few hundred of the inputs of ``python -m benchmarks.fuzz``, the same each time; some all the way into tables."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from benchmarks import fuzz
from ingestion.api import ingest_paths
from turnout.quality import accept_everything
from turnout.warehouse import tables as wh

#: Inputs per parser here; the long run has a hundred thousand in all.
EXAMPLES = {
    "cells": 120, "sheet cells": 50, "reports as text": 50, "damaged samples": 25, "any bytes": 40, "workbooks": 10,
    "archives": 20, "JSON": 40, "mapping files": 30, "headers.yaml": 15,
}  # fmt: skip


@pytest.mark.parametrize("parser", fuzz.PARSERS, ids=lambda p: p.name)
def test_nothing_but_errors_in_words_and_no_row_lost(parser):
    tried, failure = fuzz.run_batch(parser, EXAMPLES[parser.name], 20261125)
    assert failure is None, f"{failure.error}\n{failure.example}"
    assert tried >= min(EXAMPLES[parser.name], 5)


def test_a_failing_batch_is_reported_with_its_seed_and_smallest_input():
    def fails(raw: bytes) -> None:
        assert raw.find(b"\x07") < 0

    broken = fuzz.Parser("broken", 1.0, fails, {"raw": fuzz.st.binary(max_size=20)})
    _, failure = fuzz.run_batch(broken, 500, 3)
    assert failure is not None
    assert failure.seed == 3
    assert "raw=b'\\x07'" in failure.example


@hypothesis_settings(
    max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
@given(raw=fuzz.csv_files())
def test_rows_in_are_rows_stored_and_rows_named(settings, engine, raw):
    settings.inbox_path.mkdir(parents=True, exist_ok=True)
    path = settings.inbox_path / "fuzz.csv"
    path.write_bytes(raw)
    report = ingest_paths([path], settings=settings, engine=engine, gate=accept_everything, trigger="test")
    for file in report.files:
        assert file.status in ("loaded", "refused", "ignored")
        file.check()
        if file.status != "loaded" or not file.rows_loaded:
            continue
        target = wh.metadata.tables[f"{wh.SCHEMA}.{file.table}"]
        with engine.connect() as connection:
            stored = connection.execute(
                sa.select(sa.func.count()).where(target.c.run_id == report.run_id).select_from(target)
            ).scalar_one()
        assert stored == file.rows_loaded
