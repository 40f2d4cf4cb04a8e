"""Expected failures are one message and an exit code, never a traceback."""

import os
import subprocess
import sys

import pytest


def turnout(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from turnout.cli import main; main()", *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["status"], {"TURNOUT_TIME_ZONE": "Mars"}, "TURNOUT_TIME_ZONE"),
        (["plan", "nowhere.yaml"], {}, "nowhere.yaml"),
        (
            ["totals"],
            {"TURNOUT_DATABASE_URL": "postgresql://u:hidden@127.0.0.1:9/x", "TURNOUT_REDIS_URL": "redis://127.0.0.1:9"},
            "PostgreSQL does not answer",
        ),
    ],
)
def test_a_failure_is_told_in_words(tmp_path, arguments, environment, said):
    done = turnout(*arguments, TURNOUT_HOME=str(tmp_path), **environment)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "hidden" not in done.stdout + done.stderr


def test_every_command_has_a_help_text():
    done = turnout("--help")
    assert done.returncode == 0
    for command in (
        "demo", "up", "down", "status", "ingest", "totals", "pipeline", "train", "plan", "models", "simulate",
        "quarantine", "doctor", "templates", "migrate", "airflow", "map", "reconcile",
    ):  # fmt: skip
        assert f" {command} " in done.stdout
