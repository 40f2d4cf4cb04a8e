"""`turnout ingest`: what it says of columns, and how a mapping comes to be."""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import expectations.gate
import turnout.cli.data as data_commands
from turnout.cli.app import app
from turnout.quality import accept_everything

REPORT = "Tag;Kampagne;Nettokosten;Einblendungen;Klicks\n03.04.2026;Sommer;12,50;1.479;1\n"


@pytest.fixture
def turnout(engine, settings, monkeypatch):
    """Run a command against the test's own warehouse, with a gate that lets everything pass."""

    @contextmanager
    def warehouse():
        yield settings, engine

    monkeypatch.setattr(data_commands, "warehouse", warehouse)
    monkeypatch.setattr(expectations.gate, "make_gate", lambda _: nullcontext(accept_everything))

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == code, done.output
        return done.output

    return run


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "bericht.csv"
    path.write_text(REPORT, encoding="utf-8")
    return path


def test_a_draft_is_written_corrected_and_used(turnout, report, tmp_path):
    draft = tmp_path / "draft.yaml"
    said = turnout("ingest", "--explain", "--write-mapping", str(draft), str(report))
    assert "did you mean spend?" in said
    mapping = yaml.safe_load(draft.read_text(encoding="utf-8"))
    assert mapping["source"] == "google_ads"
    assert mapping["columns"]["Nettokosten"] is None
    mapping["columns"] |= {"Nettokosten": "spend", "Einblendungen": "impressions"}
    draft.write_text(yaml.safe_dump(mapping, allow_unicode=True), encoding="utf-8")
    done = json.loads(turnout("ingest", "--json", "--explain", "--mapping", str(draft), str(report)))
    (file,) = done["files"]
    assert (file["rows_loaded"], file["columns"]["Nettokosten"]) == (1, "spend")
    explained = {use["column"]: use for use in file["explained"]}
    assert explained["Nettokosten"]["why"] == "the mapping draft.yaml"
    assert explained["Nettokosten"]["samples"] == ["12.50"]


def test_a_draft_is_never_written_over_another(turnout, report, tmp_path):
    draft = tmp_path / "draft.yaml"
    draft.write_text("mine", encoding="utf-8")
    turnout("ingest", "--write-mapping", str(draft), str(report), code=1)
    assert draft.read_text(encoding="utf-8") == "mine"


def test_a_defective_mapping_is_one_message(turnout, report, tmp_path):
    mapping = tmp_path / "m.yaml"
    mapping.write_text("source: google\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["ingest", "--mapping", str(mapping), str(report)])
    assert done.exit_code == 1
    assert "line 1" in str(done.exception)
    assert "allowed are 'google_ads'" in str(done.exception)
