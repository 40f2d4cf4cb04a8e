"""How long a night's retraining takes, and in how much memory: up to a year of 24,000 events and 30 million rows.

    python -m benchmarks.retrain [--json] [--fractions 1/16,1/8,1/4,1/2,1] [--rows 30e6] [--events 24000]
                                 [--results FILE] [--folder FOLDER] [--threads N] [--seed 1]

For each fraction, in a home and on servers of its own: the warehouse is filled with that share of the events and of
the ad and e-mail rows (:mod:`benchmarks.retrain_world`, simulated), then the stages of the nightly DAG run one after
another, each in a process of its own (:mod:`benchmarks.retrain_stages`):

    features → publish → demand → response (with its backtest) → promote

Reported per stage: seconds, and CPU seconds of its process and of PostgreSQL; the memory of its process and of
PostgreSQL, apart, each at its highest. Memory is the proportional set size (PSS) of all processes of the stage, or of
the server: pages that several share count once. The server's is taken without what it held before the stage began
("growth") and whole. ``growth`` of the report is the exponent b of seconds ~ fraction^b between the smallest and the
largest fraction: 1 is linear. It needs two fractions.

Ctrl-C stops the run and removes everything; ``--results FILE`` keeps what finished fractions measured, and a later
run with the same file and the same sizes goes on after them. Homes are removed in every case.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import psutil
import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.retrain_stages import STAGES
from benchmarks.retrain_world import AS_OF
from turnout.runtime.servers import embedded_servers, services
from turnout.settings import Settings
from turnout.warehouse.migrate import upgrade

FRACTIONS = ("1/16", "1/8", "1/4", "1/2", "1")
EVENTS, ROWS = 24_000, 30_000_000
LIMIT_SECONDS, LIMIT_BYTES = 1_800, 6 * 10**9
#: Disk of one performance row with its indexes, its share of everything else, and the server's log.
_DISK_PER_ROW = 900
_SAMPLE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of one fraction; memory in bytes.

    Attributes:
        cpu_seconds: of the stage's processes; ``database_cpu_seconds`` of PostgreSQL's meanwhile. On a machine that
            does other things too they grow more truly than ``seconds``.
        process_memory: PSS of the stage's processes together, at its highest.
        process_rss: resident size of the largest of them, at its highest.
        database_memory: PSS of all of PostgreSQL's processes, at its highest; ``database_growth`` without what it was
            when the stage began.
        memory: of both together, at its highest.
    """

    name: str
    seconds: float
    cpu_seconds: float
    database_cpu_seconds: float
    process_memory: int
    process_rss: int
    database_memory: int
    database_growth: int
    memory: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One fraction.

    Attributes:
        filled: rows by kind, and bytes of the database (:class:`benchmarks.retrain_world.Filled`).
        disk: bytes of the whole home at the end: database, its log, models.
        answers: what the stages said: versions registered, rows computed, decisions.
    """

    fraction: str
    events: int
    rows: int
    filled: dict[str, int]
    fill_seconds: float
    stages: list[Stage]
    disk: int
    answers: dict[str, Any]

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def cpu_seconds(self) -> float:
        return sum(stage.cpu_seconds + stage.database_cpu_seconds for stage in self.stages)

    @property
    def memory(self) -> int:
        return max(stage.memory for stage in self.stages)


# --- memory -----------------------------------------------------------------------------------------------------------


def pss(pid: int) -> int:
    """Proportional set size of a process in bytes: 0 where it is gone, its resident size where that is all there is."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except ProcessLookupError:
        return 0
    except OSError:
        with suppress(psutil.Error):
            return int(psutil.Process(pid).memory_info().rss)
    return 0


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    with suppress(psutil.Error):
        own = psutil.Process(pid)
        return [pid, *(child.pid for child in own.children(recursive=True))]
    return []


def cpu_of(pid: int) -> float:
    """CPU seconds of a process, of those of its descendants that live, and of those that have ended."""
    total = 0.0
    for one in family(pid):
        with suppress(psutil.Error):
            spent = psutil.Process(one).cpu_times()
            total += spent.user + spent.system + spent.children_user + spent.children_system
    return total


class Watch:
    """Looks at the memory of a stage's processes and of the database server while it is entered."""

    def __init__(self, stage: int, server: int) -> None:
        self._stage, self._server = stage, server
        self.process = self.rss = self.database = self.together = 0
        self.before = sum(map(pss, family(server)))
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.is_set():
            started = time.monotonic()
            own = family(self._stage)
            process, database = sum(map(pss, own)), sum(map(pss, family(self._server)))
            for pid in own:
                with suppress(psutil.Error):
                    self.rss = max(self.rss, int(psutil.Process(pid).memory_info().rss))
            self.process, self.database = max(self.process, process), max(self.database, database)
            self.together = max(self.together, process + database)
            # looking costs time itself where there is much to look at
            self._end.wait(max(_SAMPLE_SECONDS, 4 * (time.monotonic() - started)))


# --- one fraction -----------------------------------------------------------------------------------------------------


class Shown:
    """A bar over all stages of all fractions, and what the current one says of itself."""

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(), console=Console(stderr=True), disable=quiet, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=total)
        self._where = ""

    def __enter__(self) -> Shown:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, where: str) -> None:
        self._where = where
        self._bar.update(self._task, description=where)

    def say(self, message: str) -> None:
        self._bar.update(self._task, description=f"{self._where}: {message}")

    def advance(self, steps: int = 1) -> None:
        self._bar.advance(self._task, steps)


def run_stage(name: str, state: Path, home: Path, server: int, shown: Shown) -> Stage:
    """Run one stage in a process of its own and watch it.

    Raises:
        RuntimeError: it failed; the message ends with what it wrote.
    """
    log = home / f"{name}.log"
    started, cpu, database_cpu = time.perf_counter(), _cpu_of_ended_children(), cpu_of(server)
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.retrain_stages", name, str(state)],
            stdout=subprocess.PIPE, stderr=errors, text=True, cwd=home, env=os.environ | {"PYTHONPATH": _ROOT},
        ) as child,
        Watch(child.pid, server) as watch,
    ):  # fmt: skip
        try:
            assert child.stdout is not None
            for line in child.stdout:
                shown.say(line.strip())
            child.wait()
        except BaseException:
            child.terminate()
            raise
        seconds = time.perf_counter() - started
    if child.returncode != 0:
        raise RuntimeError(f"stage {name} failed:\n{log.read_text()[-4000:]}")
    return Stage(
        name=name,
        seconds=seconds,
        cpu_seconds=_cpu_of_ended_children() - cpu,
        database_cpu_seconds=max(cpu_of(server) - database_cpu, 0.0),
        process_memory=watch.process,
        process_rss=watch.rss,
        database_memory=watch.database,
        database_growth=max(watch.database - watch.before, 0),
        memory=watch.together,
    )


def _cpu_of_ended_children() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


_ROOT = str(Path(__file__).resolve().parent.parent)


def measure(
    fraction: str, *, events: int, rows: int, seed: int, threads: int | None, folder: Path, shown: Shown
) -> Measured:
    """One fraction, in a folder of its own below ``folder``, which is removed.

    Args:
        events, rows: of this fraction.

    Raises:
        RuntimeError: the disk is too small, or a stage failed.
    """
    free = shutil.disk_usage(folder).free
    if free < rows * _DISK_PER_ROW:
        raise RuntimeError(f"{rows:,} rows need {rows * _DISK_PER_ROW >> 20:,} MB of disk; {free >> 20:,} MB are free")
    with tempfile.TemporaryDirectory(prefix="turnout-retrain-", dir=folder) as name:
        home = Path(name)
        home.chmod(0o711)  # the server may run under an account of its own
        given = Settings(home=home / "home", identity_salt="benchmark")
        before = {name: os.environ.get(name) for name in ("TURNOUT_THREADS", "TURNOUT_MLFLOW_TRACKING_URI")}
        if threads is not None:
            os.environ["TURNOUT_THREADS"] = str(threads)
        try:
            with services(given, migrate=False) as settings:
                upgrade(settings)
                return _measure(settings, fraction, events, rows, seed, home, shown)
        finally:
            for key, value in before.items():
                os.environ.pop(key, None)
                if value is not None:
                    os.environ[key] = value


def _measure(
    settings: Settings, fraction: str, events: int, rows: int, seed: int, home: Path, shown: Shown
) -> Measured:
    server = embedded_servers(settings)[0].running()
    assert server is not None, "services() started it"
    state = home / "state.json"
    state.write_text(
        json.dumps({"as_of": AS_OF.isoformat(), "world": {"events": events, "rows": rows, "seed": seed}}),
        encoding="utf-8",
    )
    found: list[Stage] = []
    for name in ("fill", *STAGES):
        shown.begin(f"{fraction} {name}")
        found.append(run_stage(name, state, home, server.pid, shown))
        shown.advance()
    answers: dict[str, Any] = json.loads(state.read_text(encoding="utf-8"))
    return Measured(
        fraction=fraction,
        events=events,
        rows=rows,
        filled=answers["fill"],
        fill_seconds=found[0].seconds,
        stages=found[1:],
        disk=disk_of(home),
        answers={name: answers[name] for name in STAGES},
    )


def disk_of(folder: Path) -> int:
    """Bytes that the files below ``folder`` occupy."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # the server removes files of its own
            total += path.lstat().st_blocks * 512
    return total


# --- the report -------------------------------------------------------------------------------------------------------


def exponent(small: float, large: float, ratio: float) -> float:
    """b of large = small · ratio^b."""
    return math.log(max(large, 1e-9) / max(small, 1e-9)) / math.log(ratio)


def _cpu(stage: Stage) -> float:
    return stage.cpu_seconds + stage.database_cpu_seconds


def report(found: Sequence[Measured]) -> dict[str, Any]:
    """Everything measured, growth from the smallest to the largest fraction, and the largest one against the limits."""
    ordered = sorted(found, key=lambda one: Fraction(one.fraction))
    first, last = ordered[0], ordered[-1]
    ratio = float(Fraction(last.fraction) / Fraction(first.fraction))
    growth: dict[str, dict[str, float]] = {}
    if ratio > 1:
        growth = {
            small.name: {
                "seconds": exponent(small.seconds, large.seconds, ratio),
                "cpu": exponent(_cpu(small), _cpu(large), ratio),
                "memory": exponent(small.memory, large.memory, ratio),
            }
            for small, large in zip(first.stages, last.stages, strict=True)
        }
        growth["all"] = {
            "seconds": exponent(first.seconds, last.seconds, ratio),
            "cpu": exponent(first.cpu_seconds, last.cpu_seconds, ratio),
            "memory": exponent(first.memory, last.memory, ratio),
        }
    return {
        "simulated": True,
        "machine": {"cores": os.cpu_count(), "memory": psutil.virtual_memory().total},
        "sizes": [
            asdict(one) | {"seconds": one.seconds, "cpu_seconds": one.cpu_seconds, "memory": one.memory}
            for one in ordered
        ],
        "growth": growth,
        "largest": last.fraction,
        "limits": {"seconds": LIMIT_SECONDS, "memory": LIMIT_BYTES},
        "within_limits": last.seconds <= LIMIT_SECONDS and last.memory <= LIMIT_BYTES,
    }


def print_report(told: Mapping[str, Any]) -> None:
    sizes = told["sizes"]
    for one in sizes:
        print(
            f"{one['fraction']:>5}: {one['events']:,} events, {one['rows']:,} performance rows, "
            f"{one['filled']['registrations']:,} registrations (simulated); filled in {one['fill_seconds']:.0f} s, "
            f"disk {one['disk'] / 1e9:.1f} GB"
        )
    print(f"\n{'':10}" + "".join(f"{one['fraction']:>37}" for one in sizes) + f"{'growth':>18}")
    print(
        f"{'stage':10}" + f"{'s':>9}{'CPU s':>9}{'MB':>9}{'MB of DB':>10}" * len(sizes) + f"{'s':>7}{'CPU':>5}{'MB':>6}"
    )
    for position, stage in enumerate(sizes[0]["stages"]):
        cells = "".join(
            f"{s['seconds']:>9.1f}{s['cpu_seconds'] + s['database_cpu_seconds']:>9.1f}"
            f"{s['process_memory'] / 1e6:>9,.0f}{s['database_memory'] / 1e6:>10,.0f}"
            for s in (one["stages"][position] for one in sizes)
        )
        print(f"{stage['name']:10}{cells}{_growth(told, stage['name'])}")
    cells = "".join(
        f"{one['seconds']:>9.1f}{one['cpu_seconds']:>9.1f}{one['memory'] / 1e6:>14,.0f} both" for one in sizes
    )
    print(f"{'all':10}{cells}{_growth(told, 'all')}")
    verdict = "within" if told["within_limits"] else "NOT within"
    print(f"\n{told['largest']}: {verdict} {LIMIT_SECONDS} s and {LIMIT_BYTES / 1e9:.0f} GB for process and database")


def _growth(told: Mapping[str, Any], name: str) -> str:
    grown = told["growth"].get(name)
    return f"{grown['seconds']:>7.2f}{grown['cpu']:>5.2f}{grown['memory']:>6.2f}" if grown else ""


# --- going on ---------------------------------------------------------------------------------------------------------


def _load(path: Path | None, wanted: Iterable[tuple[str, int, int, int]]) -> dict[str, Measured]:
    """What an earlier run measured of the same sizes and seed."""
    if path is None or not path.exists():
        return {}
    sizes = set(wanted)
    kept = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        if (one["fraction"], one["events"], one["rows"], one.pop("seed")) in sizes:
            kept[one["fraction"]] = Measured(**one | {"stages": [Stage(**stage) for stage in one["stages"]]})
    return kept


def _keep(path: Path | None, one: Measured, seed: int) -> None:
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(one) | {"seed": seed}) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrain", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fractions", default=",".join(FRACTIONS), help="shares of the full size, with commas")
    parser.add_argument("--rows", type=float, default=ROWS, help="ad and e-mail rows at full size")
    parser.add_argument("--events", type=float, default=EVENTS, help="events of the year at full size")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=None, help="of training (TURNOUT_THREADS)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where to work")
    parser.add_argument(
        "--results", type=Path, help="file that keeps finished fractions; a later run goes on after them"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        fractions = {text.strip(): Fraction(text.strip()) for text in options.fractions.split(",")}
    except (ValueError, ZeroDivisionError) as error:
        parser.error(f"--fractions: {error}")
    if not all(0 < share <= 1 for share in fractions.values()):
        parser.error("--fractions must lie above 0 and not above 1")
    sizes = {text: (round(options.events * share), round(options.rows * share)) for text, share in fractions.items()}
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    found = _load(options.results, ((text, *size, options.seed) for text, size in sizes.items()))
    with Shown(len(sizes) * (1 + len(STAGES)), quiet=options.json) as shown:
        shown.advance(len(found) * (1 + len(STAGES)))
        for text, (events, rows) in sizes.items():
            if text in found:
                continue
            one = measure(
                text, events=events, rows=rows, seed=options.seed, threads=options.threads, folder=options.folder,
                shown=shown,
            )  # fmt: skip
            found[text] = one
            _keep(options.results, one, options.seed)
    told = report([found[text] for text in sizes])
    if options.json:
        print(json.dumps(told, indent=1))
    else:
        print_report(told)
    return 0 if told["within_limits"] else 1


if __name__ == "__main__":
    sys.exit(main())
