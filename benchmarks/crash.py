"""Loads killed at random moments, then one clean run: is the warehouse that of an undisturbed one?

    python -m benchmarks.crash [--kills 200] [--seed 1] [--json]

An inbox of platform exports and a list of registrations, faulty rows and sums among them, is read with the real gate
into an embedded PostgreSQL of its own. Each round starts that reading in a new process and kills something after a
random part of its usual time:

* most rounds ``SIGKILL`` the reading process;
* every 12th round ``SIGKILL`` a server process of it that is within a transaction, upon which PostgreSQL restarts
  itself and recovers;
* every 40th round ``SIGKILL`` the whole server, which is then started again.

Every other round reads an earlier version of the exports, with other figures for the same days, so that what is
overwritten half-way differs from what overwrites it. After every round no day may be there in part. At the end the
current version is read once, undisturbed, and each table is compared with the warehouse that never saw anything else:
every byte of every column, in the order of the key, except ``run_id`` and the clock columns (when a row was read,
loaded or changed), which no two runs share. See :mod:`turnout.warehouse.fingerprint`.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import psutil
import sqlalchemy as sa
import structlog

from benchmarks.ingest import write_exports
from turnout.runtime.servers import embedded, embedded_servers
from turnout.settings import Settings
from turnout.warehouse import tables as wh
from turnout.warehouse.engine import create_engine
from turnout.warehouse.fingerprint import fingerprint
from turnout.warehouse.load import empty_all
from turnout.warehouse.migrate import upgrade

Target = Literal["process", "backend", "server"]

#: Rows of ads in the inbox: enough for several transactions, few enough for hundreds of readings.
_ROWS = 2_000
_EVERY_BACKEND, _EVERY_SERVER = 12, 40


@dataclass
class Outcome:
    """What became of the rounds.

    Attributes:
        killed: target → how often it was killed while the reading was under way.
        finished: rounds in which the reading was done before it could be killed; they do not count as kills.
        partial_days: days found with some of their rows; must be empty.
        different: tables whose content differs at the end; must be empty.
        rows: in the warehouse at the end, per table, all alike.
    """

    kills: int
    killed: dict[str, int] = field(default_factory=dict)
    finished: int = 0
    partial_days: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    rows: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing shows."""
        return not self.partial_days and not self.different


def write_inbox(folder: Path, version: int) -> None:
    """Exports and a list of registrations; versions differ in their figures, not in their days."""
    shutil.rmtree(folder, ignore_errors=True)
    paths = write_exports(folder, _ROWS, seed=1 + version)
    with paths[0].open("a", encoding="utf-8") as file:  # rows to be refused
        file.write("2026-06-30,Enabled,Broken,Search,g,Ad,JPY,-5,1,1,0\r\n")
        file.write(f"2026-06-30,Enabled,Swapped {version},Search,g,Ad,JPY,5,10,9000,0\r\n")
    chance = random.Random(version)  # noqa: S311 - figures, no secrets
    people = [
        f"2026-06-{1 + n % 30:02},Summit,{chance.choice(['confirmed', 'cancelled'])},google,p{n}@example.com"
        for n in range(200)
    ]
    (folder / "account_0" / "list.csv").write_text(
        "registered_at,event,status,source,email\n" + "\n".join(people), encoding="utf-8"
    )


def read_inbox(home: str, database_url: str, inbox: str, quiet: bool) -> None:
    """One reading, to be killed."""
    if quiet:  # a reading whose server is killed has much to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    from expectations.gate import make_gate
    from ingestion.api import ingest_paths

    settings = Settings(home=Path(home), database_url=database_url)
    engine = create_engine(settings)
    ingest_paths([Path(inbox)], settings=settings, engine=engine, gate=make_gate(settings), trigger="benchmark")
    engine.dispose()


class _Drill:
    """The rounds, on one server."""

    def __init__(self, settings: Settings, inbox: Path, seed: int) -> None:
        self._settings, self._inbox = settings, inbox
        self._chance = random.Random(seed)  # noqa: S311 - moments, no secrets
        # Processes forked from one that has everything imported start at once, as many hundreds have to.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["benchmarks.crash", "expectations.gate", "ingestion.api"])
        self._engine = create_engine(settings)
        self._usual_seconds = 0.0
        self._complete: Counter[tuple[str, str]] = Counter()

    def undisturbed(self) -> dict[str, str]:
        """Read the current version once; what the warehouse then holds."""
        write_inbox(self._inbox, 0)
        self._finish(self._start())  # the first one imports
        self._empty()
        started = perf_counter()
        self._finish(self._start())
        self._usual_seconds = perf_counter() - started
        self._complete = self._days()
        return fingerprint(self._engine)

    def undisturbed_again(self) -> dict[str, str]:
        """Read the current version into the warehouse as it is; what it then holds."""
        write_inbox(self._inbox, 0)
        self._finish(self._start())
        return fingerprint(self._engine)

    def round(self, number: int) -> Target | None:
        """Start a reading and kill it; what was killed, ``None`` if it was done before."""
        write_inbox(self._inbox, number % 2)
        target: Target = "process"
        if number % _EVERY_SERVER == _EVERY_SERVER - 1:
            target = "server"
        elif number % _EVERY_BACKEND == _EVERY_BACKEND - 1:
            target = "backend"
        process = self._start(quiet=True)
        process.join(self._chance.random() * self._usual_seconds)
        if process.exitcode is not None:
            return None
        if target == "process":
            process.kill()
        elif target == "server" or not self._kill_backend(process):
            target = "server"
            self._kill_server()
        process.join(60)
        process.kill()
        process.join()
        if target != "process":
            self._revive()
        return target

    def partial_days(self) -> list[str]:
        """Days that have some of their rows, but not all."""
        self._wait_for_backends()
        found, complete = self._days(), self._complete
        return [f"{account} {day}: {n}" for (account, day), n in found.items() if n != complete[account, day]]

    def empty(self) -> None:
        """Start from an empty warehouse."""
        self._empty()

    def _start(self, *, quiet: bool = False) -> Any:
        url = str(self._settings.database_url)
        process = self._context.Process(
            target=read_inbox, args=(str(self._settings.home_path), url, str(self._inbox), quiet), daemon=True
        )
        process.start()
        return process

    @staticmethod
    def _finish(process: Any) -> None:
        process.join()
        if process.exitcode != 0:
            raise RuntimeError(f"an undisturbed reading failed with {process.exitcode}")

    def _empty(self) -> None:
        with self._engine.begin() as connection:
            empty_all(connection)

    def _days(self) -> Counter[tuple[str, str]]:
        t = wh.ad_performance
        query = sa.select(t.c.account, sa.cast(t.c.date, sa.Text), sa.func.count()).group_by(t.c.account, t.c.date)
        with self._engine.connect() as connection:
            return Counter({(account, day): n for account, day, n in connection.execute(query)})

    def _backends(self) -> list[int]:
        """Server processes of the reading that are within a transaction."""
        query = sa.text("""
            SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type = 'client backend' AND state <> 'idle' ORDER BY xact_start""")
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def _kill_backend(self, process: Any) -> bool:
        deadline = time.monotonic() + self._usual_seconds
        while process.exitcode is None and time.monotonic() < deadline:
            if found := self._backends():
                with suppress(ProcessLookupError):
                    os.kill(self._chance.choice(found), signal.SIGKILL)
                    return True
            time.sleep(0.002)
        return False

    def _kill_server(self) -> None:
        running = embedded_servers(self._settings)[0].running()
        assert running is not None, "the drill keeps its server up"
        postmaster = psutil.Process(running.pid)
        for one in [postmaster, *postmaster.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                one.kill()

    def _revive(self) -> None:
        """Have the server answer again: with a backend killed it recovers by itself, as a whole it is started."""
        self._engine.dispose()
        server = embedded_servers(self._settings)[0]
        deadline = time.monotonic() + 120
        while True:
            try:
                if server.running() is None:
                    server.start()
                    server.wait_ready()
                with self._engine.connect() as connection:
                    connection.execute(sa.text("SELECT 1"))
                    return
            except sa.exc.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _wait_for_backends(self) -> None:
        """The server notices that a client is gone when it next talks to it; until then its locks are held."""
        deadline = time.monotonic() + 60
        while self._backends() and time.monotonic() < deadline:
            time.sleep(0.01)


def drill(kills: int, folder: Path, *, seed: int = 1, progress: bool = False) -> Outcome:
    """Kill ``kills`` readings in ``folder``, then compare."""
    started = perf_counter()
    outcome = Outcome(kills)
    killed: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="crash-", dir=folder) as name:
        home = Path(name) / "home"
        with embedded(Settings(home=home)) as settings:
            upgrade(settings)
            rounds = _Drill(settings, Path(name) / "inbox", seed)
            expected = rounds.undisturbed()
            rounds.empty()
            number = 0
            while killed.total() < kills:
                target = rounds.round(number)
                if target is None:
                    outcome.finished += 1
                else:
                    killed[target] += 1
                outcome.partial_days += rounds.partial_days()
                number += 1
                if progress and not number % 20:
                    print(f"{killed.total()} killed, {perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
            found = rounds.undisturbed_again()
    outcome.different = [table for table in expected if expected[table] != found[table]]
    outcome.rows = {table: text.split(" ", 1)[0] for table, text in found.items()}
    outcome.killed, outcome.seconds = dict(killed), perf_counter() - started
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crash", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="readings to kill")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where to work")
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    outcome = drill(options.kills, options.folder, seed=options.seed, progress=not options.json)
    if options.json:
        print(json.dumps({**asdict(outcome), "ok": outcome.ok}, indent=1))
        return 0 if outcome.ok else 1
    killed = ", ".join(f"{n} × {target}" for target, n in sorted(outcome.killed.items()))
    print(f"killed {killed}; {outcome.finished} were done before; {outcome.seconds:.0f} s")
    print(f"days in part: {len(outcome.partial_days)}")
    print(f"rows: {', '.join(f'{table} {n}' for table, n in outcome.rows.items() if n != '0')}")
    print(f"different from an undisturbed warehouse: {', '.join(outcome.different) or 'nothing'}")
    return 0 if outcome.ok else 1


if __name__ == "__main__":
    sys.exit(main())
