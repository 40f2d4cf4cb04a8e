"""Commands around models and lift tests, as somebody types them: JSON for programs, words for people."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import timedelta

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from tests.training import histories
from tests.training.histories import UNTIL, Law
from tests.training.test_monitoring import plan
from training import promotion, response
from training import registry as models
from turnout import registry
from turnout.cli import lift as lift_commands
from turnout.cli import models as model_commands
from turnout.cli.app import app
from turnout.errors import InputError, NotReadyError


@pytest.fixture
def run(settings, engine, monkeypatch):
    """Run a command against the test's warehouse; JSON is parsed."""

    @contextmanager
    def here(_=None):
        yield settings, engine

    for module in (model_commands, lift_commands):
        monkeypatch.setattr(module, "warehouse", here)
    monkeypatch.setattr(model_commands, "today", lambda zone: UNTIL)
    # logs would go to the runner's own standard error, and go on going there when it is closed
    monkeypatch.setattr("turnout.cli.app.configure", lambda *_: None)

    def invoke(*arguments: str, fails: bool = False):
        with capture_logs():
            result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert (result.exit_code != 0) == fails, result.output
        return json.loads(result.stdout) if "--json" in arguments and not fails else result.output

    return invoke


@pytest.mark.slow
def test_models_are_compared_promoted_and_rolled_back_by_hand(run, settings, engine, empty_registry, monkeypatch):
    histories.store(engine, settings, histories.records(40))
    promotion.promote_if_better(settings, response.train(settings, UNTIL))
    with pytest.raises(NotReadyError, match="both version 1"):
        run("models", "compare")
    monkeypatch.setattr(models, "recipe_fingerprint", lambda: "another")
    promotion.promote_if_better(settings, response.train(settings, UNTIL))

    found = run("models", "compare", "--json")
    assert (found["champion"], found["challenger"], found["basis"], found["verdict"]) == (
        "1",
        "2",
        "recorded",
        "as_good",
    )
    assert found["test"]["events"] == 20
    assert {s["segment_id"] for s in found["by_segment"]} == {"ai_data", "cloud", "marketing"}
    table = run("models", "compare", "--challenger", "2", "--champion", "1")
    assert "20 events" in table
    assert "cloud" in table
    assert "as good" in table

    assert run("models", "promote", registry.RESPONSE, "2", "--json") == {"name": registry.RESPONSE, "champion": "2"}
    assert registry.alias_version(settings, registry.RESPONSE) == "2"
    with pytest.raises(NotReadyError, match="no version 9"):
        run("models", "promote", registry.RESPONSE, "9")
    assert run("models", "rollback", registry.RESPONSE, "--json")["champion"] == "1"


def test_monitoring_is_shown_per_segment_and_as_json(run, settings, engine, empty_registry):
    events = histories.records(20, Law(days=80))
    histories.store(engine, settings, events)
    for event in events:
        plan(engine, settings, event, factor=1.2)
    rows = run("models", "monitor", "--json")["rows"]
    [mae] = [
        r for r in rows if (r["metric"], r["window_days"], r["segment_id"], r["model_version"]) == ("mae", 90, "", "")
    ]
    assert mae["evidence"] == 20
    table = run("models", "monitor", "--stored", "--window", "28")
    assert "coverage_80" in table
    assert "ai_data" in table
    assert "no champion" in run("models", "ab")
    assert run("models", "ab", "--json")["measures"] == []


def test_before_the_first_night_there_is_nothing_to_show_and_that_is_said(run, engine, empty_registry):
    with pytest.raises(NotReadyError, match="nothing was monitored yet"):
        run("models", "monitor", "--stored")


def test_lift_tests_are_added_listed_removed_and_brought_back(run, settings, engine):
    [event] = histories.records(1)
    histories.store(engine, settings, [event])
    added = run(
        "lift", "add", "メルマガ", "--treated", "84/5,000", "--control", "51/5000", "--event", event["name"], "--json"
    )
    assert added["lift"]["incremental"] == 33
    assert added["change"]["added"] == [added["test_id"]]
    said = run("lift", "add", "own_email", "--treated", "90/5000", "--control", "51/5000", "--event", event["name"])
    assert "corrected: 39 registrations caused (+76%)" in said
    ads = run(
        "lift", "add", "meta_ads", "--treated", "240/400", "--control", "150/600", "--split", "region",
        "--from", "2026-03-01", "--to", "2026-03-31", "--spend", "2000 USD", "--name", "kansai", "--json",
    )  # fmt: skip
    assert ads["lift"]["cost_per_registration"] == pytest.approx(2000 / 140)
    listed = run("lift", "list", "--json")
    assert {t["test"]["tactic_id"]: t["test"]["treated_registrations"] for t in listed} == {
        "own_email": 90, "meta_ads": 240,
    }  # fmt: skip
    assert "kansai" in run("lift", "list")
    assert "1 removed" in run("lift", "remove", "kansai")
    assert len(run("lift", "list", "--json")) == 1
    run("lift", "undo")
    assert len(run("lift", "list", "--json")) == 2
    assert "no lift test" not in run("lift", "list")


def test_a_lift_test_that_cannot_be_is_refused_in_words(run, engine, tmp_path):
    period = ("--from", "2026-03-01", "--to", "2026-03-31")
    assert "84/5000" in run("lift", "add", "own_email", "--treated", "84", "--control", "1/2", *period, fails=True)
    assert "no split" in run(
        "lift", "add", "own_email", "--treated", "1/2", "--control", "1/2", "--split", "both", *period, fails=True
    )
    with pytest.raises(InputError, match="name the event, or the first and last day"):
        run("lift", "add", "own_email", "--treated", "84/5000", "--control", "51/5000")
    with pytest.raises(InputError, match="say what was spent"):
        run("lift", "add", "meta_ads", "--treated", "84/5000", "--control", "51/5000", *period)
    with pytest.raises(InputError, match="no such file"):
        run("lift", "import", str(tmp_path / "none.csv"))
    assert "no lift test yet" in run("lift", "list")


def test_a_file_of_lift_tests_is_tried_before_it_is_stored(run, engine, tmp_path):
    path = tmp_path / "tests.csv"
    path.write_text(
        "tactic,from,to,treated units,control units,treated registrations,control registrations\n"
        f"own_email,{UNTIL - timedelta(days=9)},{UNTIL},5000,5000,84,51\n",
        encoding="utf-8",
    )
    assert "1 added (dry run" in run("lift", "import", str(path), "--dry-run")
    assert run("lift", "list", "--json") == []
    assert len(run("lift", "import", str(path), "--json")["added"]) == 1
    assert "1 unchanged" in run("lift", "import", str(path))
