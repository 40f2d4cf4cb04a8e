"""The loading benchmark: every row it writes arrives, and the report says so."""

import json
import tempfile
from dataclasses import fields
from pathlib import Path

import pytest
import structlog

from benchmarks.ingest import EXPORTS, Measured, main, write_exports
from ingestion.layouts import recognise
from ingestion.reading import open_tables


@pytest.fixture
def folder():
    """A folder that a server under an account of its own may pass through, as pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="turnout-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def test_exports_are_what_they_claim_to_be(tmp_path):
    paths = write_exports(tmp_path, 203)
    tables = [next(open_tables(path)) for path in paths]
    assert [recognise(t)[0].source for t in tables] == ["google_ads"] * 3 + ["meta_ads", "linkedin_ads"]
    assert [t.encoding for t in tables] == ["utf-8", "utf-16", "utf-8-sig", "utf-8", "utf-16"]
    assert {t.language for t in tables} == {"en", "ja", "de"}
    again = write_exports(tmp_path / "again", 203)
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in paths]


@pytest.mark.slow
def test_a_small_run_reports_all_rows(folder, capfd):
    assert main(["--json", "--rows", "600", "--folder", str(folder)]) == 0
    structlog.reset_defaults()
    report = json.loads(capfd.readouterr().out)
    assert [size["rows"] for size in report["sizes"]] == [600]
    for size in report["sizes"]:
        assert set(size) == {field.name for field in fields(Measured)}
        assert size["files"] == len(EXPORTS)
        assert size["quarantined"] == 0
        assert size["ratio"] == pytest.approx(size["seconds"] / size["copy_seconds"])
        assert size["rows_per_second"] == pytest.approx(size["rows"] / size["seconds"])
        assert size["peak_memory"] >= size["start_memory"] > 0
    assert report["memory_growth"] == 1
    assert not list(folder.iterdir()), "files, server and warehouse are gone"
