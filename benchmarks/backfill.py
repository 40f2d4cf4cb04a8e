"""A year of daily history through the real Airflow: how long it takes, and whether it can be told how it was read.

    python -m benchmarks.backfill [--json] [--events 200] [--seed 1]

A simulated organiser's year is written as exports (Google Ads, Meta, LinkedIn, SendGrid, besides sheets and
registration lists) and read by the DAG ``backfill_history``, in a home and on servers of its own:

1. the whole year at once; 2. the whole year again; 3. from an empty warehouse month by month in shuffled order.

After each, every table is compared byte for byte, but for run ids and clocks. Quarantine and the record of files
(``ingest_file``, ``validation``) say in which windows they were read, so they are compared between 1 and 2 only.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from turnout.runtime import services
from turnout.runtime.airflow import AirflowClient
from turnout.runtime.stack import airflow_specs
from turnout.runtime.supervisor import Supervisor
from turnout.settings import Settings
from turnout.simulation import simulate
from turnout.warehouse import tables as wh
from turnout.warehouse.engine import create_engine
from turnout.warehouse.fingerprint import LOADED_TABLES, fingerprint
from turnout.warehouse.load import empty_all
from turnout.warehouse.migrate import upgrade

#: What says how data was read.
_ACCOUNTS_OF_READS = (wh.ingest_file, wh.validation, wh.quarantine)
FOUR_SOURCES = ("google_ads", "meta_ads", "linkedin_ads", "sendgrid")
UNTIL = date(2026, 10, 31)
_LIMIT_SECONDS = 600


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def months_of(first: date, last: date) -> list[tuple[date, date]]:
    """The months from ``first`` to ``last``, the outer ones cut."""
    found = []
    while first <= last:
        following = (first.replace(day=1) + timedelta(days=32)).replace(day=1)
        found.append((first, min(following - timedelta(days=1), last)))
        first = following
    return found


def measure(home: Path, *, events: int, seed: int) -> dict[str, Any]:
    """Run the three readings; see the module."""
    first = date(UNTIL.year - 1, UNTIL.month + 1, 1)
    year = {"from": str(first), "to": str(UNTIL)}
    result: dict[str, Any] = {"from": year["from"], "to": year["to"], "limit_seconds": _LIMIT_SECONDS}
    with services(Settings(home=home, airflow_port=free_port(), identity_salt="benchmark")) as settings:
        upgrade(settings)
        simulate(home, seed=seed, events=events, organisers=1, months=12, until=UNTIL)
        engine = create_engine(settings)
        with Supervisor(settings) as supervisor:
            supervisor.start(airflow_specs(supervisor.settings, ("api-server", "scheduler", "dag-processor")))
            with AirflowClient(supervisor.settings) as airflow:
                whole = {}
                for name in ("once", "again"):
                    started = time.monotonic()
                    airflow.run("backfill_history", year, timeout=3 * _LIMIT_SECONDS)
                    result[f"{name}_seconds"] = round(time.monotonic() - started, 1)
                    whole[name] = fingerprint(engine)
                result["rows"] = _rows(engine)
                result["identical_again"] = whole["once"] == whole["again"]
                with engine.begin() as connection:
                    empty_all(connection)
                started = time.monotonic()
                months = months_of(first, UNTIL)
                random.Random(seed).shuffle(months)  # noqa: S311 - an order, no secret
                for begins, ends in months:
                    airflow.run("backfill_history", {"from": str(begins), "to": str(ends)}, timeout=_LIMIT_SECONDS)
                result["shuffled_seconds"] = round(time.monotonic() - started, 1)
                shuffled = fingerprint(engine)
                names = [t.name for t in LOADED_TABLES if t not in _ACCOUNTS_OF_READS]
                result["differs_shuffled"] = [n for n in names if shuffled[n] != whole["once"][n]]
                result["identical_shuffled"] = not result["differs_shuffled"]
        engine.dispose()
    return result


def _rows(engine: sa.Engine) -> dict[str, int]:
    """Rows per source."""
    counts: dict[str, int] = {}
    with engine.connect() as connection:
        for table in wh.FACT_TABLES:
            counts |= dict(
                connection.execute(sa.select(table.c.source, sa.func.count()).group_by(table.c.source)).tuples().all()
            )
    return counts


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backfill", description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=200, help="events of the simulated year")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="turnout-backfill-") as folder:
        result = measure(Path(folder), events=options.events, seed=options.seed)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print(f"{result['from']} to {result['to']}, rows: {result['rows']}")
        print(f"once       {result['once_seconds']:7.1f} s   (limit {_LIMIT_SECONDS} s)")
        print(f"again      {result['again_seconds']:7.1f} s   identical: {result['identical_again']}")
        print(f"shuffled   {result['shuffled_seconds']:7.1f} s   identical: {result['identical_shuffled']}")
    return 0 if result["identical_again"] and result["identical_shuffled"] else 1


if __name__ == "__main__":
    sys.exit(main())
