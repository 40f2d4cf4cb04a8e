"""The retraining benchmark: its year adds up, its stages really run, and its report says what they took."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
import structlog

from benchmarks import retrain
from benchmarks.retrain import Measured, Shown, Stage, Watch, exponent, main, pss, report, run_stage
from benchmarks.retrain_stages import STAGES
from benchmarks.retrain_world import UNTIL, fill
from turnout.simulation.history import PLATFORM_TACTICS, live
from turnout.simulation.world import World, WorldConfig
from turnout.warehouse import tables as wh

EVENTS, ROWS = 30, 4_001


@pytest.fixture
def folder():
    """A folder that a server under an account of its own may pass through, as pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="turnout-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


# --- the year ---------------------------------------------------------------------------------------------------------


def test_the_year_has_the_rows_asked_for_and_adds_up_to_the_worlds_figures(settings, engine):
    filled = fill(settings, events=EVENTS, rows=ROWS)
    history = live(World(WorldConfig(seed=1, until=UNTIL, events=EVENTS, organisers=3, months=12)))
    with engine.connect() as connection:

        def scalar(query):
            return connection.scalar(sa.text(query))

        ads = connection.execute(
            sa.text(
                "SELECT sum(impressions), sum(clicks), sum(spend_base) FILTER (WHERE source <> 'linkedin_ads'),"
                " sum(coalesce(conversions, registrations)) FROM turnout.ad_performance"
            )
        ).one()
        rows = {table.name: scalar(f"SELECT count(*) FROM turnout.{table.name}") for table in wh.FACT_TABLES}
        simulated = scalar("SELECT bool_and(is_simulated) FROM turnout.event")
        counted = scalar("SELECT sum(registrations) FROM turnout.event_summary")
        used = scalar("SELECT count(*) FROM turnout.event_tactic WHERE spend_base > 0")
        left = scalar("SELECT to_regclass('turnout.retrain_ad_day')")
    assert filled.performance_rows == ROWS == rows["ad_performance"] + rows["email_performance"]
    in_yen = ~np.isin(history.ads.tactic, [history.world.position(t) for t in PLATFORM_TACTICS["linkedin_ads"]])
    assert [int(total) for total in ads[:3]] == [
        int(history.ads.impressions.sum()), int(history.ads.clicks.sum()), int(history.ads.cents[in_yen].sum())
    ]  # fmt: skip
    assert float(ads[3]) == pytest.approx(history.ads.claimed.sum(), abs=0.01 * len(history.ads.claimed))
    assert rows["registration"] == len(history.registrations.event)
    assert int(counted) == int(history.total_count.sum())
    assert used == int((history.spend > 0).sum())
    assert simulated, "nobody may take this history for a real one"
    assert left is None


def test_fewer_rows_than_the_campaigns_have_days_are_refused(settings, engine):
    with pytest.raises(ValueError, match="ask for at least as many rows"):
        fill(settings, events=EVENTS, rows=10)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM turnout.event")) == 0


# --- the report -------------------------------------------------------------------------------------------------------


def measured(fraction, seconds, memory, rows=100):
    stages = [Stage(name, s, s, s, m, m, m, m, m) for name, s, m in zip(STAGES, seconds, memory, strict=True)]
    return Measured(fraction, 10, rows, {"registrations": 5}, 1.0, stages, 10, {})


def test_growth_is_the_exponent_between_the_smallest_and_the_largest_fraction():
    small = measured("1/16", [1, 2, 3, 4, 5], [10**8] * 5)
    middle = measured("1/4", [50, 50, 50, 50, 50], [10**8] * 5)
    large = measured("1", [16, 2, 3 * 16**1.5, 4 * 4, 5 * 256], [16 * 10**8] + [10**8] * 4)
    told = report([large, small, middle])
    assert [one["fraction"] for one in told["sizes"]] == ["1/16", "1/4", "1"]
    times = {name: grown["seconds"] for name, grown in told["growth"].items()}
    assert times == pytest.approx({
        "features": 1.0, "publish": 0.0, "demand": 1.5, "response": 0.5, "promote": 2.0,
        "all": exponent(15, sum(s.seconds for s in large.stages), 16),
    })  # fmt: skip
    assert {name: grown["cpu"] for name, grown in told["growth"].items()} == pytest.approx(times)
    assert told["growth"]["features"]["memory"] == pytest.approx(1.0)
    assert told["largest"] == "1"


def test_one_fraction_has_no_growth():
    told = report([measured("1/16", [1] * 5, [1] * 5)])
    assert told["growth"] == {}


@pytest.mark.parametrize(
    ("seconds", "memory", "within"),
    [(300, 10**9, True), (400, 10**9, False), (300, 7 * 10**9, False)],
)
def test_the_largest_fraction_is_held_against_the_limits(seconds, memory, within):
    assert report([measured("1", [seconds] * 5, [memory] * 5)])["within_limits"] is within


def test_the_table_names_every_stage_and_the_verdict(capsys):
    retrain.print_report(report([measured("1/16", [1] * 5, [10**8] * 5), measured("1", [20] * 5, [10**9] * 5)]))
    printed = capsys.readouterr().out
    assert all(name in printed for name in STAGES)
    assert "1: within 1800 s and 6 GB" in printed
    assert "simulated" in printed


# --- measuring --------------------------------------------------------------------------------------------------------

_HOARD = "import time; held = bytearray(b'x' * 80_000_000); print('held', flush=True); time.sleep(30)"


def test_a_watch_sees_what_processes_and_their_children_hold():
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_HOARD!r}])"
    child = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE)
    try:
        with Watch(child.pid, os.getpid()) as watch:
            assert child.stdout.readline() == b"held\n"
            time.sleep(1.0)
    finally:
        for one in reversed(retrain.family(child.pid)):
            os.kill(one, 9)
        child.wait()
        child.stdout.close()
    assert 80e6 < watch.process < 200e6
    assert watch.rss > 80e6
    assert watch.together >= watch.process
    assert pss(child.pid) == 0, "gone"


def test_a_stage_that_fails_says_why(folder):
    state = folder / "state.json"
    state.write_text("{}")
    with Shown(1, quiet=True) as shown, pytest.raises(RuntimeError, match=r"stage promote failed(.|\n)*KeyError"):
        run_stage("promote", state, folder, os.getpid(), shown)


def test_finished_fractions_are_not_measured_again(folder, monkeypatch, capsys):
    kept = folder / "kept.jsonl"
    sizes = {"1/2": (15, 2000), "1": (30, 4000)}
    asked = []

    def measure(fraction, *, events, rows, **_):
        asked.append((fraction, events, rows))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return replace(measured(fraction, [1] * 5, [1] * 5), events=events, rows=rows)

    monkeypatch.setattr(retrain, "measure", measure)
    command = ["--json", "--fractions", "1/2,1", "--events", "30", "--rows", "4e3", "--results", str(kept)]
    with pytest.raises(KeyboardInterrupt):
        main(command)
    assert asked == [("1/2", *sizes["1/2"]), ("1", *sizes["1"])]
    assert main(command) == 0
    assert asked[2:] == [("1", *sizes["1"])]
    assert [one["fraction"] for one in json.loads(capsys.readouterr().out)["sizes"]] == ["1/2", "1"]
    assert main([*command, "--seed", "2"]) == 0, "another world is another measurement"
    assert len(asked) == 5
    structlog.reset_defaults()


@pytest.mark.parametrize("given", ["2", "0", "1/0", "half"])
def test_fractions_that_are_none_are_refused(given, capsys):
    with pytest.raises(SystemExit):
        main(["--fractions", given])
    assert "--fractions" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_small_year_goes_through_every_stage_and_leaves_nothing(folder, capfd):
    given = ["--json", "--fractions", "1", "--events", "30", "--rows", "4000", "--folder", str(folder)]
    assert main([*given, "--results", str(folder / "kept")]) == 0
    structlog.reset_defaults()
    told = json.loads(capfd.readouterr().out)
    (one,) = told["sizes"]
    assert [stage["name"] for stage in one["stages"]] == ["features", "publish", "demand", "response", "promote"]
    assert all(stage["seconds"] > 0 and stage["process_memory"] > 50e6 for stage in one["stages"])
    assert all(0 < stage["cpu_seconds"] < 2 * os.cpu_count() * stage["seconds"] for stage in one["stages"])
    assert one["stages"][0]["database_cpu_seconds"] > 0
    assert all(s["memory"] >= max(s["process_memory"], s["database_memory"]) for s in one["stages"])
    assert one["seconds"] == pytest.approx(sum(stage["seconds"] for stage in one["stages"]))
    assert one["filled"]["performance_rows"] == one["rows"] == 4000
    assert one["disk"] > one["filled"]["bytes"]
    answers = one["answers"]
    assert answers["features"]["snapshots"] > 40
    assert answers["publish"]["tactic_stats"] > 0
    assert answers["demand"]["events"] == answers["response"]["events"] == 30
    assert [decision["promoted"] for decision in answers["promote"]] == [True, True]
    kept = [json.loads(line) for line in (folder / "kept").read_text().splitlines()]
    assert [asdict(Measured(**{k: v for k, v in line.items() if k != "seed"}))["fraction"] for line in kept] == ["1"]
    assert [path.name for path in folder.iterdir()] == ["kept"], "the home is gone, and the server with it"
