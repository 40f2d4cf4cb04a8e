"""The gate as the loader meets it: whole files, speed, records, Data Docs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import great_expectations as gx
import pandas as pd
import pytest

from expectations import docs
from expectations.gate import TurnoutGate, build_docs, make_gate, pending
from ingestion.api import ingest_paths
from turnout.settings import Settings

EXPORTS = Path(__file__).parents[1] / "data" / "exports"


def test_real_exports_pass_whole(settings, engine):
    gate = make_gate(settings)
    decisions = []

    def listen(table: str, frame: pd.DataFrame):
        decisions.append(gate(table, frame))
        return decisions[-1]

    files = [path for path in sorted(EXPORTS.iterdir()) if path.name != "expected.json"]
    report = ingest_paths(files, settings=settings, engine=engine, gate=listen)
    assert report.ok
    assert len(decisions) >= len(files)
    assert [row for decision in decisions for row in decision.rejected] == []
    assert [stop for decision in decisions for stop in decision.stopped] == []


def test_fifty_thousand_rows_take_about_a_second(gate, clean):
    small = clean("ad_performance", 5_000)
    frame = pd.concat([small] * 10, ignore_index=True)
    frame["ad_name"] = [f"ad {n}" for n in range(len(frame))]
    gate("ad_performance", small)
    started = time.process_time()
    decision = gate("ad_performance", frame)
    assert decision.rows_checked == 50_000
    assert time.process_time() - started < 2.0


def test_a_file_that_is_faulty_throughout_is_refused_row_by_row(gate, clean):
    frame = pd.concat([clean("ad_performance", 5_000)] * 2, ignore_index=True)
    frame["clicks"] = -1
    started = time.process_time()
    decision = gate("ad_performance", frame)
    assert time.process_time() - started < 4.0
    assert [row.index for row in decision.rejected] == list(range(10_000))
    assert {stop.code for stop in decision.stopped} >= {"mostly_faulty"}


def test_labels_of_any_kind_come_back(gate, clean):
    frame = clean("event", 3)
    frame.index = pd.Index([(7, "a"), (7, "b"), (9, "c")], tupleize_cols=False)
    frame.iat[1, frame.columns.get_loc("name")] = None
    assert [row.index for row in gate("event", frame).rejected] == [(7, "b")]


def test_an_empty_frame_is_fine(gate, clean):
    decision = gate("event", clean("event", 1)[:0])
    assert (decision.rows_checked, list(decision.rejected), list(decision.stopped)) == (0, [], [])


def test_failures_can_be_stored_as_json(gate, clean):
    frame = clean("ad_performance", 12)
    frame.at["r1", "clicks"] = -4
    frame.at["r2", "date"] = None
    failures = list(gate("ad_performance", frame).failures)
    assert json.loads(json.dumps(failures, allow_nan=False)) == failures
    negative = next(f for f in failures if f["code"] == "out_of_range")
    assert (negative["failed"], negative["checked"], negative["severity"]) == (1, 12, "critical")
    assert negative["expectation"] == "expect_column_values_to_be_between"


def test_great_expectations_phones_nobody(gate):
    assert not gx.get_context(mode="ephemeral").config.analytics_enabled


@pytest.fixture
def own(tmp_path, gate, monkeypatch) -> TurnoutGate:
    """The shared gate with a home of its own, so that its suites are made once."""
    monkeypatch.setattr(gate, "_settings", Settings(home=tmp_path))
    return gate


def _pages(index: Path) -> list[Path]:
    return sorted((index.parent / "validations").rglob("*.html"))


def test_data_docs_are_written_once_per_run_and_kept(own, clean):
    settings = own._settings
    assert build_docs(settings) is None
    with own:
        own("event", clean("event", 5))
        own("ad_performance", clean("ad_performance", 6))
        assert len(list(pending(settings))) == 2
    assert list(pending(settings)) == []
    index = build_docs(settings)
    assert index is not None
    assert "ad_performance" in index.read_text(encoding="utf-8")
    front = settings.home_path / "data_docs" / "index.html"
    page = front.read_text(encoding="utf-8")
    assert f'href="{index.relative_to(front.parent).as_posix()}"' in page
    assert "<td>ad_performance</td>" in page
    first = _pages(index)
    assert len(first) == 3  # events, and rows and days of ads

    faulty = clean("event", 5)
    faulty.at["r2", "format"] = "somewhere"
    own("event", faulty)
    build_docs(settings)
    new = set(_pages(index)) - set(first)
    assert len(new) == 1
    assert "somewhere" in new.pop().read_text(encoding="utf-8")
    page = front.read_text(encoding="utf-8")
    assert "unknown_format" in page
    # one night: ten events of two sheets, and the row that was refused
    assert '<td class="n">10</td><td class="n bad">1</td>' in page


def test_a_build_killed_before_its_end_is_made_up_for(own, clean):
    own("event", clean("event", 5))
    left = [(path, path.read_bytes()) for path in pending(own._settings)]
    index = own.write_docs()
    for path, content in left:  # what a kill after building leaves
        path.write_bytes(content)
    assert own.write_docs() == index
    assert len(_pages(index)) == 1


def test_old_results_and_their_pages_go(own, clean, monkeypatch):
    monkeypatch.setattr(docs, "KEPT_RESULTS", 3)
    for _ in range(5):
        own("event", clean("event", 2))
    index = own.write_docs()
    assert index is not None
    assert len(_pages(index)) == 3
    own("event", clean("event", 2))
    own.write_docs()
    assert len(_pages(index)) == 3


def test_extra_pages_are_linked_from_the_front_page(own, clean):
    folder = own._settings.home_path / "data_docs"
    with own:
        own("event", clean("event", 2))
    page = docs.add_page(folder, "claims", "Claims & registrations", "<h1>Claims</h1>")
    front = (folder / "index.html").read_text(encoding="utf-8")
    assert page.name in front
    assert "Claims &amp; registrations" in front
    own("event", clean("event", 2))
    own.write_docs()
    assert page.name in (folder / "index.html").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="no name of a page"):
        docs.add_page(folder, "../claims", "x", "x")


def test_the_front_page_forgets_nights_long_past(own, clean, monkeypatch):
    monkeypatch.setattr(docs, "KEPT_NIGHTS", 1)
    folder = own._settings.home_path / "data_docs"
    with own:
        own("event", clean("event", 2))
    log = folder / "checked.jsonl"
    entry = json.loads(log.read_text(encoding="utf-8").splitlines()[0])
    old = json.dumps(entry | {"name": "old", "at": "2020-01-01T00:00:00", "day": "2020-01-01"})
    log.write_text(old + "\n{half a li", encoding="utf-8")
    own("event", clean("event", 2))
    own.write_docs()
    assert "2020-01-01" not in (folder / "index.html").read_text(encoding="utf-8")
