"""The crash benchmark: it kills what it says, and nothing shows."""

import tempfile
from pathlib import Path

import pytest

from benchmarks import crash


@pytest.fixture
def folder():
    """A folder that a server under an account of its own may pass through, as pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="turnout-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_readings_and_servers_are_killed_without_a_trace(folder, monkeypatch):
    monkeypatch.setattr(crash, "_EVERY_BACKEND", 4)
    monkeypatch.setattr(crash, "_EVERY_SERVER", 5)
    outcome = crash.drill(10, folder, seed=2)
    assert sum(outcome.killed.values()) == outcome.kills == 10
    assert outcome.killed["process"] >= 1
    assert outcome.killed.get("server", 0) + outcome.killed.get("backend", 0) >= 1
    assert outcome.rows["ad_performance"] == "2000"
    assert outcome.rows["quarantine"] == "2"
    assert outcome.ok, (outcome.partial_days, outcome.different)
    assert not list(folder.iterdir())
