"""Killed at any point and run again, the warehouse is as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ingestion.api import ingest_paths
from turnout.quality import accept_everything
from turnout.settings import Settings
from turnout.warehouse import tables as wh

#: Says where it is, once while a file is read and once within its transaction, and lingers there.
PROGRAM = """
import json, sys, time
from pathlib import Path
from ingestion.api import ingest_paths
from turnout.quality import accept_everything
from turnout.settings import Settings
from turnout.warehouse.engine import create_engine

def here(*where):
    print("here", flush=True)
    time.sleep(0.05)

def gate(table, frame):
    here()
    return accept_everything(table, frame)

settings = Settings(**json.loads(sys.argv[1]))
engine = create_engine(settings)
ingest_paths([Path(sys.argv[2])], settings=settings, engine=engine, gate=gate, trigger="test", progress=here)
print("done", flush=True)
"""


def write_inbox(folder: Path) -> None:
    chance = random.Random(3)
    folder.mkdir(parents=True)
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(120)]
    for part in range(4):
        lines = ["Day,Campaign,Currency,Cost,Impr.,Clicks"]
        for on in days[part * 25 : part * 25 + 45]:
            lines += [f"{on},Summit {c},JPY,{chance.randrange(10_000)},{chance.randrange(900)},1" for c in range(25)]
        lines += ["2026-01-01,x,JPY,-1,1,1", "Total,,JPY,1,1,1"]
        (folder / f"ads_{part}.csv").write_text("\n".join(lines))
    people = [f"{chance.choice(days)},Summit,confirmed,google,p{n}@example.com" for n in range(3000)]
    (folder / "list.csv").write_text("registered_at,event,status,source,email\n" + "\n".join(people))


def contents(engine: sa.Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that counts; not which run wrote it and when."""
    marks = {"run_id", "updated_at", "loaded_at", "created_at", "checked_at"}
    found = {}
    with engine.connect() as connection:
        for table in (*wh.FACT_TABLES, wh.campaign, wh.quarantine, wh.ingest_file, wh.validation):
            columns = [c for c in table.c if c.name not in marks]
            rows = connection.execute(sa.select(*columns).order_by(*table.primary_key.columns))
            found[table.name] = [tuple(map(repr, row)) for row in rows]
    return found


def kill_after(settings: Settings, inbox: Path, places: int, seconds: float) -> bool:
    """Start a load and kill it some time after it has said ``places`` times where it is. False: it was done before."""
    values = {k: str(v) for k, v in settings.model_dump(exclude_none=True).items() if k.endswith("_url") or k == "home"}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(values), str(inbox)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    said = 0
    while said < places and (line := process.stdout.readline()):
        said += line == "here\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    return process.wait(60) == -signal.SIGKILL


@pytest.mark.slow
def test_loads_killed_at_any_point_leave_no_trace_after_one_clean_run(settings, engine, tmp_path):
    inbox = tmp_path / "inbox"
    write_inbox(inbox)
    ingest_paths([inbox], settings=settings, engine=engine, gate=accept_everything, trigger="test")
    expected = contents(engine)
    with engine.begin() as connection:
        for table in (*wh.FACT_TABLES, wh.campaign, wh.quarantine, wh.ingest_file, wh.ingest_run, wh.validation):
            connection.execute(sa.delete(table))

    chance = random.Random(11)
    for places in (1, 4, 8):
        assert kill_after(settings, inbox, places, chance.random() * 0.1)
        assert_whole_files_only(engine)

    ingest_paths([inbox], settings=settings, engine=engine, gate=accept_everything, trigger="test")
    assert contents(engine) == expected
    with engine.connect() as connection:
        runs = dict(
            connection.execute(
                sa.select(wh.ingest_run.c.status, sa.func.count()).group_by(wh.ingest_run.c.status)
            ).all()
        )
    assert runs == {"failed": 3, "succeeded": 1}


def assert_whole_files_only(engine: sa.Engine) -> None:
    """A day holds all its rows or none: each has twenty-five campaigns."""
    t = wh.ad_performance
    deadline = time.monotonic() + 30
    with engine.connect() as connection:
        # The server notices a dead client when it next talks to it.
        while time.monotonic() < deadline:
            busy = connection.execute(
                sa.text(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' "
                    "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
            ).scalar_one()
            connection.rollback()
            if not busy:
                break
            time.sleep(0.05)
        counts = connection.execute(sa.select(sa.func.count()).select_from(t).group_by(t.c.date)).scalars()
        assert set(counts) <= {25}
