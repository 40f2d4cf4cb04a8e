"""`turnout keys`, as it is typed."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
import redis
from typer.testing import CliRunner

from turnout.cli import keys, plans
from turnout.cli.app import app
from turnout.errors import InputError
from turnout.identity_keys import MARK, key_id_of


@pytest.fixture
def turnout(engine, settings, redis_url, monkeypatch):
    """Run a command on the tests' warehouse; returns its standard output."""

    @contextmanager
    def warehouse():
        yield settings, engine

    monkeypatch.setattr(keys, "warehouse", warehouse)

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, arguments)
        if isinstance(done.exception, InputError):
            raise done.exception
        assert done.exit_code == code, done.output
        return done.stdout

    return run


def test_a_key_is_shown_once_and_listed_without_itself(turnout):
    key = turnout("keys", "create", "web site", "--role", "planner", "--role", "analyst").strip()
    assert key_id_of(key)
    listed = turnout("keys", "list")
    assert key_id_of(key) in listed
    assert "web site" in listed
    assert "active" in listed
    assert key not in listed
    assert key.rsplit("_", 1)[1] not in turnout("keys", "list", "--json")


def test_revoking_tells_the_workers_and_can_be_repeated(turnout, redis_url):
    made = json.loads(turnout("keys", "create", "x", "--json"))
    with redis.Redis.from_url(redis_url) as direct:
        marks = []
        for _ in range(2):
            revoked = json.loads(turnout("keys", "revoke", made["key_id"], "--json"))
            marks.append(direct.get(MARK))
            assert revoked["workers_told"] is True
    assert None not in marks
    assert marks[0] != marks[1]
    (listed,) = json.loads(turnout("keys", "list", "--json"))
    assert listed["state"] == "revoked"


def test_rotating_gives_a_successor(turnout):
    made = json.loads(turnout("keys", "create", "x", "--scope", "plans:read", "--expires", "2099-01-31", "--json"))
    assert made["expires_at"].startswith("2099-01-31T15:00"), "the end of the day in Tokyo"
    new = json.loads(turnout("keys", "rotate", made["key_id"], "--grace-hours", "0", "--json"))
    assert new["scopes"] == ["plans:read"]
    states = {k["key_id"]: k["state"] for k in json.loads(turnout("keys", "list", "--json"))}
    assert states == {made["key_id"]: "expired", new["key_id"]: "active"}


def test_what_is_not_there_or_makes_no_sense_is_said(turnout):
    with pytest.raises(InputError, match="turnout keys list"):
        turnout("keys", "revoke", "000000000000")
    with pytest.raises(InputError, match="plans:write"):
        turnout("keys", "create", "x", "--scope", "everything")
    turnout("keys", "create", "x", "--role", "root", code=2)


def test_another_organisations_keys_are_its_own(turnout):
    made = json.loads(turnout("keys", "create", "x", "--organisation", "theirs", "--json"))
    assert json.loads(turnout("keys", "list", "--json")) == []
    with pytest.raises(InputError):
        turnout("keys", "revoke", made["key_id"])
    turnout("keys", "revoke", made["key_id"], "--organisation", "theirs")


def test_a_plan_is_asked_with_the_key_of_the_settings(monkeypatch, settings):
    from tests.serving.conftest import brief
    from turnout.brief import Brief
    from turnout.errors import TurnoutError

    sent = {}

    def post(url, **options):
        sent.update(options["headers"])
        raise plans.httpx.ConnectError("nobody there")

    monkeypatch.setattr(plans.httpx, "post", post)
    for key in (None, "turnout_key"):
        sent.clear()
        given = type(settings)(api_key=key).api_key
        with pytest.raises(TurnoutError):
            plans.ask_service("http://127.0.0.1:1", Brief.model_validate(brief()), given)
        assert sent.get("Authorization") == (f"Bearer {key}" if key else None)
