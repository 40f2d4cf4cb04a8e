"""Long-running processes: start together, wait until healthy, restart after a crash, stop for good.

One supervisor per ``TURNOUT_HOME`` at a time, held apart by a lock of the kernel (``supervisor.lock``). It writes what
it runs to ``run/state.json``, which ``turnout status`` reads. What a killed supervisor leaves running, children and
grandchildren alike, is found by several traces (:func:`family`) and ended before anything is started again; a process
number alone is never trusted, for the system gives it to others.

Two ways to run: in the foreground (``with Supervisor(…)``, :func:`run`), or behind (:func:`up`, :func:`down`).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Self

import httpx
import psutil
import structlog

from turnout.errors import ConfigurationError, TurnoutError
from turnout.runtime.processes import ProcessId
from turnout.runtime.servers import Busy, embedded_servers, exclusive, revive, services, stop_unused
from turnout.settings import Settings, load_settings

log = structlog.get_logger(__name__)

State = Literal["preparing", "starting", "running", "restarting", "failed", "stopping", "stopped"]
Phase = Literal["starting", "running", "stopping", "failed", "stopped"]

#: In the environment of every process we start; its value is the home it belongs to.
MARK: Final = "TURNOUT_SUPERVISED_HOME"

#: Settings that hold a port which may be taken.
PORTS: Final = ("service_port", "airflow_port", "mlflow_port")
_PORTS_TRIED: Final = 50

#: Seconds from the request to end (SIGTERM) to force (SIGKILL).
STOP_PATIENCE: Final = 20.0
#: Seconds before the first restart; doubles with each crash up to the limit, and starts over after a quiet while.
BACKOFF_FIRST, BACKOFF_LIMIT, BACKOFF_QUIET = 1.0, 60.0, 300.0
#: A log is cut when it exceeds this many bytes; the part before stays in ``<name>.log.1``.
LOG_LIMIT: Final = 50 * 2**20


class StartError(TurnoutError):
    """A process did not come up; the message names it and ends with its log."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A process to run.

    Attributes:
        name: as shown, and of its log.
        argv: the command line.
        environment: laid over ours. May hold secrets.
        healthy: a URL that answers 2xx, or a function that says so (an exception is a no); ``None``: running is enough.
        url: the address a person opens.
        start_timeout: seconds from start to healthy.
        prepare: called before the start; processes that share one function share one call.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    healthy: str | Callable[[], bool] | None = None
    url: str | None = None
    start_timeout: float = 120.0
    prepare: Callable[[], None] | None = None


@dataclass(slots=True)
class ProcessStatus:
    """A process as the supervisor last saw it. ``since`` is when it began, in ISO 8601 and UTC."""

    name: str
    state: State
    log: str
    pid: int | None = None
    started: float | None = None
    since: str | None = None
    url: str | None = None
    restarts: int = 0

    @property
    def process(self) -> ProcessId | None:
        return ProcessId(self.pid, self.started) if self.pid and self.started else None


@dataclass(slots=True)
class Status:
    """What runs in one home. ``servers`` are the embedded ones; ``pid`` is the supervisor's."""

    phase: Phase
    pid: int | None = None
    started: float | None = None
    ports: dict[str, int] = field(default_factory=dict)
    processes: list[ProcessStatus] = field(default_factory=list)
    servers: list[ProcessStatus] = field(default_factory=list)
    error: str | None = None

    @property
    def supervisor(self) -> ProcessId | None:
        return ProcessId(self.pid, self.started) if self.pid and self.started else None


#: Called with each change of a process, and with the seconds since its start began.
Progress = Callable[[ProcessStatus, float], None]


@dataclass(slots=True)
class _Running:
    spec: Spec
    status: ProcessStatus
    child: subprocess.Popen[bytes] | None = None
    crashes: int = 0
    restart_at: float = 0.0
    started_at: float = 0.0


class Supervisor:
    """Runs processes for the length of a ``with`` block.

    Args:
        settings: as yielded by :func:`turnout.runtime.services`.
        progress: called from several threads, one call at a time.

    Attributes:
        settings: the same, with ports that are free; make specs from these.

    Raises:
        ConfigurationError: on entering, when another supervisor runs in this home.
    """

    def __init__(self, settings: Settings, progress: Progress | None = None) -> None:
        self.settings = settings
        self._progress = progress
        self._running: dict[str, _Running] = {}
        self._phase: Phase = "starting"
        self._error: str | None = None
        self._ending = threading.Event()
        self._changing = threading.RLock()
        self._held = ExitStack()

    def __enter__(self) -> Self:
        home = self.settings.home_path
        home.mkdir(parents=True, exist_ok=True)
        try:
            self._held.enter_context(exclusive(home / "supervisor.lock"))
        except Busy as error:
            raise ConfigurationError(
                "Turnout already runs here: see `turnout status`, or `turnout down` first"
            ) from error
        try:
            sweep(self.settings)
            self.settings = self._held.enter_context(reserved_ports(self.settings))
            self._write()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._held.close()

    # --- start ------------------------------------------------------------------------------------------------------

    def start(self, specs: Sequence[Spec]) -> None:
        """Start all at once and wait until each is healthy.

        Raises:
            StartError: the first that fails; all are stopped then.
        """
        for spec in specs:
            path = self.settings.home_path / "logs" / f"{spec.name}.log"
            status = ProcessStatus(spec.name, "preparing" if spec.prepare else "starting", str(path), url=spec.url)
            self._running[spec.name] = _Running(spec, status)
        began = time.monotonic()
        pool = ThreadPoolExecutor(max_workers=max(1, 2 * len(specs)), thread_name_prefix="start")
        try:
            prepared: dict[Callable[[], None], Future[None]] = {}
            for spec in specs:
                if spec.prepare and spec.prepare not in prepared:
                    prepared[spec.prepare] = pool.submit(spec.prepare)
            starts = [
                pool.submit(
                    self._start_one, self._running[s.name], prepared.get(s.prepare) if s.prepare else None, began
                )
                for s in specs
            ]
            # Waited for in slices, so that Ctrl-C and SIGTERM are noticed at once.
            pending: set[Future[None]] = set(starts)
            while pending:
                done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                for finished in done:
                    finished.result()
        except BaseException as error:
            self._error = str(error) if isinstance(error, TurnoutError) else repr(error)
            self._ending.set()
            pool.shutdown(wait=False, cancel_futures=True)
            self.stop(phase="failed")
            raise
        pool.shutdown()
        self._phase = "running"
        self._write()

    def _start_one(self, running: _Running, prepared: Future[None] | None, began: float) -> None:
        self._report(running, running.status.state, began)
        if prepared is not None:
            prepared.result()
        if self._ending.is_set():
            return
        self._spawn(running)
        self._report(running, "starting", began)
        deadline = time.monotonic() + running.spec.start_timeout
        while not self._ending.is_set():
            assert running.child is not None
            if (code := running.child.poll()) is not None:
                self._report(running, "failed", began)
                raise StartError(f"{running.spec.name} ended with {_exit(code)}:\n{_tail(running.status.log)}")
            if is_healthy(running.spec):
                self._report(running, "running", began)
                return
            if time.monotonic() > deadline:
                self._report(running, "failed", began)
                raise StartError(
                    f"{running.spec.name} was not healthy after {running.spec.start_timeout:.0f} s:\n"
                    f"{_tail(running.status.log)}"
                )
            self._ending.wait(0.2)

    def _spawn(self, running: _Running) -> None:
        path = Path(running.status.log)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size:
            path.replace(path.with_name(f"{path.name}.1"))
        with self._changing:
            if self._ending.is_set():
                return
            # Appending, so that a log cut while it is written goes on at its new end.
            with path.open("ab") as output:
                running.child = subprocess.Popen(
                    running.spec.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **running.spec.environment, MARK: str(self.settings.home_path)},
                    cwd=self.settings.home_path,
                    start_new_session=True,
                )
            found = ProcessId.of(running.child.pid)
            running.status.pid = running.child.pid
            running.status.started = found.started if found else time.time()
            running.status.since = datetime.now(UTC).isoformat(timespec="seconds")
            running.started_at = time.monotonic()
            self._write()

    # --- watch ------------------------------------------------------------------------------------------------------

    def watch(
        self,
        until: threading.Event | None = None,
        interval: float = 0.5,
        also: Callable[[], object] = lambda: None,
    ) -> None:
        """Keep everything running until the event is set, or an exception (Ctrl-C, SIGTERM) ends it.

        Args:
            until: set it from another thread to return.
            interval: seconds between two looks.
            also: called with every look; what it raises is logged, and tried again with the next.
        """
        never = until or threading.Event()
        while not never.wait(interval):
            self.look()
            try:
                also()
            except (TurnoutError, OSError) as error:
                log.warning("will try again", reason=str(error))

    def look(self) -> None:
        """Restart what has crashed, when its time has come; cut logs that have grown too long."""
        for running in self._running.values():
            if running.child is not None and (code := running.child.poll()) is not None:
                if time.monotonic() - running.started_at > BACKOFF_QUIET:
                    running.crashes = 0
                pause = min(BACKOFF_FIRST * 2**running.crashes, BACKOFF_LIMIT)
                running.crashes += 1
                running.child, running.restart_at = None, time.monotonic() + pause
                log.warning("process ended", name=running.spec.name, how=_exit(code), restart_in_seconds=pause)
                end(family(self.settings, [running.status], marked=False), patience=0)  # what it left behind
                running.status.pid = running.status.started = None
                self._report(running, "restarting", running.started_at)
            elif running.child is None and running.status.state == "restarting":
                if time.monotonic() >= running.restart_at:
                    running.status.restarts += 1
                    self._spawn(running)
            elif running.status.state == "restarting" and is_healthy(running.spec):
                self._report(running, "running", running.started_at)
            _cut_log(Path(running.status.log))

    # --- stop -------------------------------------------------------------------------------------------------------

    def stop(self, phase: Phase = "stopped") -> None:
        """End all processes with everything they started. Safe to call again."""
        with self._changing:
            self._ending.set()
        if self._phase in ("failed", "stopped"):
            return
        alive = [r for r in self._running.values() if r.child is not None]
        # Looked up while all are alive: a worker in a session of its own is found by its parent.
        everything = family(self.settings, [r.status for r in alive])
        for running in alive:
            if running.status.state != "failed":
                self._report(running, "stopping", running.started_at)
        end(everything, first=[r.status.process for r in alive if r.status.process])
        for running in alive:
            assert running.child is not None
            running.child.wait(10)
            running.child = None
            if running.status.state != "failed":
                self._report(running, "stopped", running.started_at)
        self._phase = phase
        self._write()

    # --- telling ----------------------------------------------------------------------------------------------------

    def _report(self, running: _Running, state: State, began: float) -> None:
        with self._changing:
            running.status.state = state
            self._write()
            if self._progress:
                self._progress(running.status, time.monotonic() - began)

    def _write(self) -> None:
        with self._changing:
            me = ProcessId.of(os.getpid())
            assert me is not None
            _write_state(
                self.settings,
                Status(
                    phase=self._phase,
                    pid=me.pid,
                    started=me.started,
                    ports={name: getattr(self.settings, name) for name in PORTS},
                    processes=[r.status for r in self._running.values()],
                    error=self._error,
                ),
            )


def is_healthy(spec: Spec) -> bool:
    """One look at a process's health; never raises."""
    if spec.healthy is None:
        return True
    try:
        if callable(spec.healthy):
            return spec.healthy()
        # trust_env off: a proxy of the machine must not see calls to the loopback
        return httpx.get(spec.healthy, timeout=5.0, trust_env=False).is_success
    except Exception:  # whatever a half-started process answers, it is not healthy
        return False


# --- the whole stack --------------------------------------------------------------------------------------------------


def run(settings: Settings, *, progress: Progress | None = None, activate: bool = True) -> None:
    """Run the whole stack in the foreground until Ctrl-C or SIGTERM.

    Args:
        settings: those of the environment; servers without URL are embedded.
        progress: told of each process's changes.
        activate: let Airflow's scheduled DAGs run from now on.

    Raises:
        ConfigurationError: it runs already.
        StartError: a process does not come up.
    """
    from turnout.runtime.stack import activate_schedules, stack

    with services(settings) as ready, Supervisor(ready, progress) as supervisor:
        supervisor.start(stack(supervisor.settings))
        if activate:
            activate_schedules(supervisor.settings)
        supervisor.watch(also=partial(revive, settings))


def up(settings: Settings, *, progress: Progress | None = None, timeout: float = 600.0) -> Status:
    """Run the whole stack in the background, and wait until it is healthy. Does nothing when it runs already.

    Call outside of :func:`turnout.runtime.services`: the background process starts, or joins, the servers itself.

    Raises:
        StartError: it did not come up within ``timeout`` seconds; nothing is left running.
    """
    if (now := status(settings)).phase == "running":
        return now
    logs = settings.home_path / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    path = logs / "supervisor.log"
    if path.exists():
        path.replace(logs / "supervisor.log.1")
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TURNOUT_")}
    with path.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "turnout.runtime.supervisor"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**ours, **settings.environment()},
            start_new_session=True,
        )
    try:
        return _wait_up(settings, child, path, progress, timeout)
    except BaseException:  # Ctrl-C too: half a stack is of no use
        if child.poll() is None:
            child.terminate()
        down(settings)
        raise


def _wait_up(
    settings: Settings, child: subprocess.Popen[bytes], path: Path, progress: Progress | None, timeout: float
) -> Status:
    began = time.monotonic()
    seen: dict[str, State] = {}
    while True:
        now = status(settings)
        mine = now.pid == child.pid
        for process in now.processes if mine else []:
            if seen.get(process.name) != process.state:
                seen[process.name] = process.state
                if progress:
                    progress(process, time.monotonic() - began)
        if mine and now.phase == "running":
            return now
        if child.poll() is not None:
            raise StartError(now.error if mine and now.error else f"Turnout did not come up:\n{_tail(str(path))}")
        if time.monotonic() - began > timeout:
            raise StartError(f"Turnout was not up after {timeout:.0f} s:\n{_tail(str(path))}")
        time.sleep(0.2)


def down(settings: Settings, *, timeout: float = 120.0) -> list[str]:
    """Stop everything that runs in this home, or was left running by a killed process.

    Returns:
        The names of what was stopped; empty when nothing ran.

    Raises:
        TurnoutError: the supervisor does not end within ``timeout`` seconds.
    """
    before = status(settings)
    stopped = [p.name for p in before.processes if p.process and p.process.is_alive()]
    supervisor = before.supervisor
    if supervisor and supervisor.is_alive() and supervisor.pid != os.getpid():
        stopped.append("supervisor")
        supervisor.signal(signal.SIGTERM)
        if not supervisor.wait_gone(timeout):
            raise TurnoutError(f"the supervisor (process {supervisor.pid}) does not end; see its log in home/logs")
    if settings.home_path.exists():
        # Busy: somebody else starts it again already, whose processes are none of ours.
        with suppress(Busy), exclusive(settings.home_path / "supervisor.lock"):
            sweep(settings)
            stop_unused(settings)
            state_file(settings).unlink(missing_ok=True)
    after = {s.name for s in status(settings).servers}
    return stopped + [s.name for s in before.servers if s.name not in after]


def status(settings: Settings) -> Status:
    """What runs in this home: read from the state file, checked against the system."""
    now = _read_state(settings) or Status("stopped")
    if not (now.supervisor and now.supervisor.is_alive()):
        now.phase = "failed" if now.phase == "failed" else "stopped"
        now.ports = {}
    for process in now.processes:
        if not (process.process and process.process.is_alive()) and process.state in (
            "starting",
            "running",
            "stopping",
        ):
            process.state = "restarting" if now.phase == "running" else "stopped"
            process.pid = process.started = None
    for server in embedded_servers(settings):
        if found := server.running():
            since = datetime.fromtimestamp(found.started, UTC).isoformat(timespec="seconds")
            now.servers.append(
                ProcessStatus(
                    server.name, "running", str(server.log_file), found.pid, found.started, since, server.url()
                )
            )
    return now


def service_url(settings: Settings) -> str | None:
    """The address of the planner's service that runs in this home, if one does."""
    return process_url(settings, "service")


def process_url(settings: Settings, name: str) -> str | None:
    """The address of a process that runs in this home, if it does."""
    now = _read_state(settings)
    for process in now.processes if now else []:
        if process.name == name and process.state == "running" and process.process and process.process.is_alive():
            return process.url
    return None


def sweep(settings: Settings) -> list[ProcessId]:
    """End what a killed supervisor of this home left: only the holder of the lock may call it. Returns those found.

    Raises:
        TurnoutError: one of them does not end.
    """
    found = leftovers(settings)
    if found:
        recorded = _read_state(settings)
        leaders = [p.process for p in recorded.processes if p.process] if recorded else []
        end(found, first=leaders)
        log.warning("ended processes of an earlier run", count=len(found))
    return found


def leftovers(settings: Settings) -> list[ProcessId]:
    """Processes of this home's last supervisor, to be called when no supervisor runs."""
    recorded = _read_state(settings)
    return family(settings, recorded.processes if recorded else [])


def family(settings: Settings, recorded: Sequence[ProcessStatus], *, marked: bool = True) -> list[ProcessId]:
    """Everything alive that belongs to some recorded processes, whoever is its parent now.

    No single trace is enough: programs that change their title wipe their environment, workers open sessions of their
    own, and parents die first. So a process belongs when it is recorded itself, is in the session or group of one,
    writes to one's log, carries this home's mark, or descends from one that belongs.
    """
    leaders: dict[int, ProcessId] = {}
    for leader in (status.process for status in recorded):
        # A number that went to another process says that all of the old session is gone.
        if leader and (leader.is_alive() or ProcessId.of(leader.pid) is None):
            leaders[leader.pid] = leader
    logs = {path for status in recorded for path in (status.log, f"{status.log}.1")}
    servers = [server.running() for server in embedded_servers(settings)]
    spared = {os.getpid(), *(p.pid for p in psutil.Process().parents()), *(s.pid for s in servers if s)}
    found: dict[int, ProcessId] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid not in spared and (
                process.pid in leaders
                or _in_session(process, leaders)
                or (marked and process.environ().get(MARK) == str(settings.home_path))
                or _writes(process, logs)
            ):
                for member in (process, *process.children(recursive=True)):
                    if member.pid not in spared and (alive := ProcessId.of(member.pid)):
                        found[member.pid] = alive
    return list(found.values())


def _in_session(process: psutil.Process, leaders: Mapping[int, ProcessId]) -> bool:
    leader = leaders.get(os.getsid(process.pid)) or leaders.get(os.getpgid(process.pid))
    return leader is not None and process.create_time() > leader.started - 2


def _writes(process: psutil.Process, paths: set[str]) -> bool:
    # Somebody who reads a log, with tail -f or an editor, is none of ours.
    return any(f.path in paths and getattr(f, "mode", "a") != "r" for f in process.open_files())


def end(processes: Sequence[ProcessId], *, first: Sequence[ProcessId] = (), patience: float = STOP_PATIENCE) -> None:
    """End processes: ``first`` are asked and waited for, then the others, then whoever is left is killed.

    Raises:
        TurnoutError: one of them survives even that.
    """
    deadline = time.monotonic() + patience
    for batch in (first, processes):
        for process in batch:
            process.signal(signal.SIGTERM)
        for process in batch:
            process.wait_gone(max(0.0, deadline - time.monotonic()))
    for process in processes:
        if process.is_alive():
            log.warning("process does not end, killed", pid=process.pid)
            process.signal(signal.SIGKILL)
    for process in processes:
        if not process.wait_gone(10):
            raise TurnoutError(f"process {process.pid} does not end")


# --- ports ------------------------------------------------------------------------------------------------------------


@contextmanager
def reserved_ports(settings: Settings) -> Iterator[Settings]:
    """The settings with ports nobody listens on: those configured, or the next ones free.

    Between the choice and the moment a process listens lies most of a minute, in which another installation on this
    machine would choose the same. For the length of the block no other supervisor does.
    """
    with ExitStack() as stack:
        chosen = {name: _reserve(settings.host, getattr(settings, name), stack) for name in PORTS}
        yield settings.model_copy(update=chosen)


def _reserve(host: str, wanted: int, stack: ExitStack) -> int:
    refused: set[int] = set()
    while True:
        port = free_port(host, wanted, refused)
        try:
            stack.enter_context(_claimed(port))
        except Busy:
            refused.add(port)
        else:
            if port != wanted:
                log.warning("port is taken", wanted=wanted, chosen=port)
            return port


@contextmanager
def _claimed(port: int) -> Iterator[None]:
    """Say to other supervisors on this machine that a port is ours, until we end, however we end.

    Raises:
        Busy: it is another's.
    """
    if sys.platform != "linux":
        with exclusive(Path(tempfile.gettempdir()) / f"turnout-{os.getuid()}-port-{port}.lock"):
            yield
        return
    # A name in the kernel's own space, seen by every user and container that shares these ports, and by no other.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as claim:
        try:
            claim.bind(f"\0turnout-port-{port}")
        except OSError as error:
            raise Busy(f"port {port}") from error
        yield


def free_port(host: str, wanted: int, taken: set[int] | None = None) -> int:
    """``wanted`` if nobody listens there, else the next free one above, else any.

    Raises:
        ConfigurationError: ``host`` is no address of this machine.
    """
    for port in [*range(wanted, min(wanted + _PORTS_TRIED, 65536)), 0]:
        if port in (taken or ()):
            continue
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                # Ports whose last connection has not quite ended are free; ports somebody listens on are not.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                return int(probe.getsockname()[1])
        except PermissionError:
            continue  # below 1024 for an ordinary user
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno not in _TAKEN:
                raise ConfigurationError(f"cannot listen on TURNOUT_HOST={host}: {error}") from error
    raise ConfigurationError(f"no free port on {host}")


_TAKEN: Final = {98, 48}  # EADDRINUSE of Linux and macOS


# --- state file -------------------------------------------------------------------------------------------------------


def state_file(settings: Settings) -> Path:
    """Where the supervisor writes what runs; below ``home`` also when sockets live elsewhere."""
    return settings.home_path / "run" / "state.json"


def _write_state(settings: Settings, now: Status) -> None:
    path = state_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".state-", delete=False) as stream:
        json.dump(asdict(now), stream, indent=1)
    Path(stream.name).replace(path)  # whole or not at all: status reads at any time


def _read_state(settings: Settings) -> Status | None:
    try:
        raw: dict[str, Any] = json.loads(state_file(settings).read_text())
        raw["processes"] = [ProcessStatus(**p) for p in raw["processes"]]
        raw["servers"] = []
        return Status(**raw)
    except (OSError, ValueError, TypeError, KeyError):
        return None  # absent, or of another version


# --- helpers ----------------------------------------------------------------------------------------------------------


def _cut_log(path: Path) -> None:
    with suppress(OSError):
        if path.stat().st_size > LOG_LIMIT:
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
            os.truncate(path, 0)


def _tail(path: str, lines: int = 20) -> str:
    try:
        return "\n".join(Path(path).read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return str(error)


def _exit(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def main() -> None:
    """The background process of :func:`up`."""
    try:
        run(load_settings())
    except TurnoutError as error:
        log.error("cannot run", reason=str(error))  # noqa: TRY400 - expected: the reason says all
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
