"""Commands around insights, as somebody types them."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from tests.training import histories
from tests.training.histories import UNTIL
from turnout.cli import insights as commands
from turnout.cli.app import app
from turnout.errors import InputError


@pytest.fixture
def run(settings, engine, monkeypatch):
    """Run a command against the test's warehouse; JSON is parsed."""

    @contextmanager
    def here(_=None):
        yield settings, engine

    monkeypatch.setattr(commands, "warehouse", here)
    monkeypatch.setattr("turnout.cli.app.configure", lambda *_: None)

    def invoke(*arguments: str):
        with capture_logs():
            result = CliRunner().invoke(app, ["insights", *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout) if "--json" in arguments else result.output

    return invoke


def test_rules_are_added_listed_removed_and_brought_back(run):
    assert "no insight yet" in run("list")
    added = run(
        "add", "Online mail works", "--impact", "+20%", "--confidence", "高", "--where", "own email, online", "--json"
    )
    assert len(added["added"]) == 1
    assert "東日本" in run("add", "東は強い", "--where", "東日本")
    listed = run("list", "--json")
    assert [(r["text"], r["claim"]["direction"], r["not_understood"]) for r in listed] == [
        ("Online mail works", "up", []), ("東は強い", "up", ["東日本"]),
    ]  # fmt: skip
    assert "×1.15–1.26" in run("list")
    assert "dry run" in run("remove", "Online", "--dry-run")
    assert "1 removed" in run("remove", "Online")
    assert len(run("list", "--json")) == 1
    run("undo")
    assert len(run("list", "--json")) == 2
    run("undo")
    assert [r["text"] for r in run("list", "--json")] == ["Online mail works"]


@pytest.mark.parametrize(("language", "heading"), [("ja", "適用範囲"), ("en", "applies to")])
def test_the_list_is_in_the_language_of_the_settings(run, settings, engine, monkeypatch, language, heading):
    @contextmanager
    def here(_=None):
        yield settings.model_copy(update={"language": language}), engine

    monkeypatch.setattr(commands, "warehouse", here)
    run("add", "rule", "--where", "online")
    assert heading in run("list")


def test_a_dry_run_adds_nothing(run):
    assert "dry run" in run("add", "rule", "--dry-run")
    assert run("list", "--json") == []


def test_a_wrong_option_is_named_with_what_is_allowed(run):
    with pytest.raises(InputError, match="high, medium, low"):
        run("add", "rule", "--confidence", "sure")


def test_a_file_is_imported(run, tmp_path):
    path = tmp_path / "rules.csv"
    path.write_text("知見,影響度\n平日がよい,中\n", encoding="utf-8")
    assert "dry run" in run("import", str(path), "--dry-run")
    assert "1 added" in run("import", str(path))
    assert [r["text"] for r in run("list", "--json")] == ["平日がよい"]


def test_rules_are_checked_against_the_history(run, settings, engine):
    assert "no insight yet" in run("check")
    histories.store(engine, settings, histories.records(60))
    run("add", "Events on site draw more", "--impact", "60-90%", "--where", "offline")
    run("add", "8月は少ない", "--where", "8月")
    day = ["--as-of", UNTIL.isoformat()]
    said = " ".join(run("check", *day).split())
    assert "contradicted: an effect of the claimed size is ruled out" in said
    assert "no proof of cause" in said
    found = run("check", *day, "--json")
    on_site = next(i["verdict"] for i in found["insights"] if i["text"].startswith("Events"))
    assert on_site["low"] < 1 < on_site["high"] < 1.6
    assert found["caution"]
    verdicts = {r["text"]: r["verdict"] for r in run("list", "--json")}
    assert verdicts["Events on site draw more"]["verdict"] == "contradicted"
