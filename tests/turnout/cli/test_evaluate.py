"""``turnout evaluate`` from end to end: a small simulated world, a history of one's own, an outside file."""

from __future__ import annotations

import json
from datetime import date

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.training import histories
from turnout.cli import decisions, learning, snapshots, worlds
from turnout.cli.app import app
from turnout.errors import InputError

KEYS = {
    "accuracy", "attainable_accuracy", "coverage_90", "coverage_90_by_group", "goal_ece", "regret_mean", "regret_p95",
    "yardsticks", "seeds", "test_events",
}  # fmt: skip


@pytest.fixture
def run(settings, monkeypatch):
    """The command with the settings of the test's installation; returns its JSON."""
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)

    def invoke(*arguments):
        done = CliRunner().invoke(app, ["evaluate", "--json", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return invoke


@pytest.fixture
def quick_gate(monkeypatch):
    """The gate that lets everything pass: Great Expectations takes longer than the rest of a small world."""
    from contextlib import contextmanager

    from expectations import gate
    from turnout.quality import accept_everything

    @contextmanager
    def open_gate(settings):
        yield accept_everything

    monkeypatch.setattr(gate, "make_gate", open_gate)


@pytest.mark.slow
def test_a_simulated_world_is_measured_from_files_to_decisions_and_kept(run, settings, quick_gate, tmp_path):
    page = tmp_path / "report.html"
    arguments = ("--simulated", "--seeds", "1", "--events", "50", "--html", str(page))
    report = run(*arguments)
    assert set(report) >= KEYS
    assert report["seeds"] == [1]
    assert report["is_simulated"]
    assert report["test_events"] >= 20
    assert 0 < report["accuracy"] < report["attainable_accuracy"] < 1
    assert 0 <= report["regret_mean"] < 0.5
    assert report["decisions"]["proved_gap_max"] < 0.01
    for rule in report["decisions"]["rules"].values():
        assert rule["regret_mean"] > 0
    html = page.read_text(encoding="utf-8")
    assert "SIMULATED DATA" in html
    assert "Decisions: regret" in html
    kept = worlds.cached(settings, worlds.WorldSpec(1, events=50))
    assert kept is not None
    assert all(question.as_of >= kept.cut for question in kept.questions)
    assert kept.dataset.before(kept.cut).rows["event_date"].max() < pd.Timestamp(kept.cut)
    again = run(*arguments)
    assert {k: again[k] for k in KEYS} == {k: report[k] for k in KEYS}


@pytest.mark.slow
def test_a_learning_curve_knows_no_more_than_its_past_events(settings, quick_gate):
    points = learning.learning_curve(settings, seed=1, progress=lambda what: None, draws={0: 1, 12: 1}, test_events=20)
    assert [p["past_events"] for p in points] == [0, 12]
    assert points[0]["test_events"] == points[1]["test_events"] >= 20
    nothing = points[0]["accuracy"]
    assert nothing["ours"] == pytest.approx(nothing["benchmark"], abs=0.02)
    assert points[1]["accuracy"]["ours"] > nothing["ours"]


def test_an_own_history_is_measured_without_truth_or_regret(run, settings, engine, empty_registry):
    histories.store(engine, settings, [e | {"is_simulated": False} for e in histories.records(60)])
    report = run("--until", "2026-11-01")
    assert set(report) >= KEYS
    assert report["kind"] == "own_history"
    assert report["test_events"] == 30
    assert report["regret_mean"] is None
    assert report["attainable_accuracy"] is None
    assert not report["is_simulated"]
    assert (settings.home_path / "reports").is_dir()


def test_an_empty_warehouse_says_what_to_do(run, engine, empty_registry):
    report = run("--until", "2026-11-01")
    assert report["test_events"] == 0
    assert any("--simulated" in note for note in report["notes"])


def test_an_outside_file_is_measured(run, tmp_path):
    rng = np.random.default_rng(0)
    spend = rng.lognormal(3, 1, 200)
    frame = pd.DataFrame({"cost": spend, "leads": rng.poisson(10 * spend / (40 + spend)), "campaign": "a"})
    frame.to_csv(tmp_path / "ads.csv", index=False)
    report = run("--dataset", str(tmp_path / "ads.csv"), "--target", "leads", "--spend", "cost")
    assert report["data_kind"] == "spend"
    assert report["results"]["leads"]["test_rows"] == 200


@pytest.mark.parametrize("arguments", [("--learning-curve",), ("--simulated", "--dataset", "FILE")])
def test_options_that_exclude_each_other_say_so(arguments, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    given = [str(path) if a == "FILE" else a for a in arguments]
    with pytest.raises(InputError, match="--learning-curve"):
        CliRunner().invoke(app, ["evaluate", *given], catch_exceptions=False)


def test_a_snapshot_comes_back_whole_and_parts_of_it_can_be_copied(settings, engine, tmp_path):
    events = histories.records(12)
    histories.store(engine, settings, events)
    snapshots.dump(engine, settings.organisation, tmp_path / "kept")
    chosen = [event["event_id"] for event in events[:5]]
    snapshots.copy_events(engine, settings.organisation, "other", chosen)
    other = worlds.organisation_settings(settings, "other", tmp_path)
    from training.dataset import load_history

    whole, part = (load_history(s, date(2026, 11, 1), engine=engine) for s in (settings, other))
    assert part.events.index.tolist() == [f"other:{e}" for e in chosen]
    same = whole.events.loc[chosen, ["registrations", "organic_registrations", "attendees"]]
    assert part.events[same.columns].to_numpy().tolist() == same.to_numpy().tolist()
    assert len(part.tactics) == sum(len(e["tactics"]) for e in events[:5])
    with engine.begin() as connection:
        for table in snapshots.TABLES:
            connection.execute(table.delete())
    snapshots.restore(engine, tmp_path / "kept")
    back = load_history(settings, date(2026, 11, 1), engine=engine)
    pd.testing.assert_frame_equal(back.events, whole.events)
    pd.testing.assert_frame_equal(back.tactics, whole.tactics)


def test_a_world_is_known_by_what_it_is_made_of():
    assert worlds.WorldSpec(1).key == worlds.WorldSpec(1).key
    assert len({worlds.WorldSpec(1).key, worlds.WorldSpec(2).key, worlds.WorldSpec(1, events=50).key}) == 3
    assert worlds.WorldSpec(1).key != worlds.WorldSpec(1).warehouse_key
    assert decisions.summary([])["regret_mean"] is None
