"""`turnout map` and `turnout reconcile`, as they are typed."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import date, timedelta

import pytest
from typer.testing import CliRunner

from tests.warehouse.test_views import DAY, World
from turnout.cli import mapping, reconcile
from turnout.cli.app import app
from turnout.errors import InputError


@pytest.fixture
def turnout(engine, settings, monkeypatch):
    """Run a command on the tests' warehouse; returns its standard output."""
    ours = settings.model_copy(update={"organisation": "org"})

    @contextmanager
    def warehouse():
        yield ours, engine

    for module in (mapping, reconcile):
        monkeypatch.setattr(module, "warehouse", warehouse)

    def run(*arguments: str, code: int = 0, typed: str | None = None) -> str:
        done = CliRunner().invoke(app, arguments, input=typed)
        if isinstance(done.exception, InputError):
            raise done.exception
        assert done.exit_code == code, done.output
        return done.stdout

    return run


@pytest.fixture
def world(engine) -> World:
    world = World(engine)
    world.event(name="AIサミット2026", event_date=DAY)
    world.event("e2", name="DXフォーラム", event_date=date.today() - timedelta(days=3))  # noqa: DTZ011
    seen = {"first_seen": DAY - timedelta(days=9), "last_seen": DAY - timedelta(days=4), "event_id": None}
    world.campaign("11", name="AI サミット brand", **seen)
    world.ad(DAY - timedelta(days=4), 900, campaign_id="11", registrations=12)
    world.campaign("12", name="DXフォーラム広告", **(seen | {"event_id": "e2"}))
    world.ad(DAY - timedelta(days=4), 50, campaign_id="12", registrations=30)
    world.registered(20, event_id="e2", event_label="DXフォーラム", source_label="謎")
    return world


def listed(turnout, *arguments: str) -> dict[str, dict]:
    return {r["name"]: r for r in json.loads(turnout("map", "list", "--json", *arguments))["rows"]}


def test_what_is_open_is_listed_dearest_first_with_suggestions(turnout, world):
    turnout("map", "apply")
    text = turnout("map", "list", "--unmapped")
    assert text.index("AI サミット brand") < text.index("謎")
    assert "AIサミット2026" in text
    rows = listed(turnout, "--unmapped")
    assert set(rows) == {"AI サミット brand", "謎"}
    assert rows["AI サミット brand"]["suggestions"][0]["event_id"] == "e1"
    assert rows["AI サミット brand"]["spend"] == 900
    assert set(listed(turnout, "--source", "meta_ads")) == {"AI サミット brand", "DXフォーラム広告"}


def test_set_rule_test_add_list_and_remove(turnout, world):
    turnout("map", "apply")
    assert "would be set" in turnout("map", "rule", "test", "contains", "brand", "--event", "DXフォーラム")
    assert listed(turnout)["AI サミット brand"]["event_ids"] == []
    done = json.loads(turnout("map", "rule", "add", "contains", "brand", "--event", "DXフォーラム", "--json"))
    assert [c["events_after"] for c in done["changes"]] == [["DXフォーラム"]]
    assert "AI サミット brand" in turnout("map", "set", "11", "--event", "AIサミット2026", "--tactic", "youtube")
    row = listed(turnout)["AI サミット brand"]
    assert (row["event_ids"], row["tactic_id"], row["mapped_by"]) == (["e1"], "youtube", "user")
    rules = json.loads(turnout("map", "rule", "list", "--json"))
    assert [(r["rule"]["kind"], r["decides"]) for r in rules] == [("id", 1), ("contains", 0)]
    assert "brand" in turnout("map", "rule", "list")
    turnout("map", "rule", "remove", rules[0]["rule"]["rule_id"])
    assert listed(turnout)["AI サミット brand"]["event_ids"] == ["e2"]


def test_mistakes_are_one_message(turnout, world):
    with pytest.raises(InputError, match="did you mean “AIサミット2026”"):
        turnout("map", "set", "11", "--event", "AIサミット")
    with pytest.raises(InputError, match="no campaign"):
        turnout("map", "set", "99", "--tactic", "youtube")


def test_suggestions_are_taken_over_only_when_asked(turnout, world):
    turnout("map", "apply")
    turnout("map", "suggest")
    assert listed(turnout)["AI サミット brand"]["event_ids"] == []
    assert "nothing taken over" in turnout("map", "suggest", "--accept-above", "1.0")
    turnout("map", "suggest", "--accept", "11", "--dry-run")
    assert listed(turnout)["AI サミット brand"]["event_ids"] == []
    turnout("map", "suggest", "--accept", "11")
    assert listed(turnout)["AI サミット brand"]["event_ids"] == ["e1"]
    with pytest.raises(InputError, match="names 0 things"):
        turnout("map", "suggest", "--accept", "11")


def test_suggestions_one_by_one(turnout, world):
    turnout("map", "apply")
    turnout("map", "suggest", "--interactive", typed="x\n1\ni\n")
    rows = listed(turnout)
    assert rows["AI サミット brand"]["event_ids"] == ["e1"]
    assert (rows["謎"]["is_unmapped"], rows["謎"]["mapped_by"]) == (False, "user")


def test_the_mapping_goes_through_a_spreadsheet(turnout, world, tmp_path):
    turnout("map", "apply")
    path = tmp_path / "mapping.csv"
    turnout("map", "export", str(path))
    text = path.read_text("utf-8-sig")
    assert "meta_ads,,id,11,,," in text
    path.write_text(text.replace("meta_ads,,id,11,,,", "meta_ads,,id,11,AIサミット2026,,"), "utf-8")
    assert "would be set" in turnout("map", "import", str(path), "--dry-run")
    turnout("map", "import", str(path))
    assert listed(turnout)["AI サミット brand"]["event_ids"] == ["e1"]
    yaml = tmp_path / "mapping.yaml"
    turnout("map", "export", str(yaml), "--rules-only")
    assert json.loads(turnout("map", "import", str(yaml), "--replace", "--json"))["changes"] == []


def test_claims_are_reconciled_in_a_summary_and_in_full(turnout, world):
    turnout("map", "apply")
    text = turnout("reconcile")
    assert "DXフォーラム" in text
    assert "1.50" in text
    assert "meta_ads claims 30 of 20 registrations" in " ".join(text.split())
    assert "in no event: 1 campaigns of meta_ads, 900 JPY" in text
    assert "AIサミット2026" not in text
    full = turnout("reconcile", "DXフォーラム")
    assert "claims: registration list" in full
    assert "platforms claim 30, the registration system says 0" in full
    result = json.loads(turnout("reconcile", "--all", "--json"))
    assert [e["event_id"] for e in result["events"]] == ["e2"]
    assert result["events"][0]["remarks"][0]["text"].startswith("meta_ads claims 30")
    assert json.loads(turnout("reconcile", "--to", "2000-01-01", "--json"))["events"] == []


def test_a_campaign_read_under_two_accounts_is_warned_about(turnout, world):
    for account, campaign in (("1", "21"), ("", "cmp_x")):
        world.campaign(campaign, account=account, name="Twice", first_seen=DAY, last_seen=DAY)
        world.ad(DAY, 700, campaign_id=campaign, account=account)
    for command in (("map", "list"), ("reconcile", "--all")):
        [overlap] = json.loads(turnout(*command, "--json"))["account_overlaps" if command[0] == "map" else "overlaps"]
        assert (overlap["name"], overlap["spend_twice"]) == ("Twice", 700)
    turnout("reconcile")


def test_a_screen_that_differs_is_exit_code_one(turnout, world, tmp_path):
    path = tmp_path / "screen.csv"
    path.write_text("source,month,spend\nmeta_ads,2026-06,950\n", "utf-8")
    assert "950" in turnout("reconcile", "--totals", str(path))
    path.write_text("source,month,spend\nmeta_ads,2026-06,951\n", "utf-8")
    assert "-1" in turnout("reconcile", "--totals", str(path), code=1)
    assert json.loads(turnout("reconcile", "--totals", str(path), "--json", code=1))["matches"] is False
