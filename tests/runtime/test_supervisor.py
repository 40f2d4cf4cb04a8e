"""Processes come up together, survive crashes, and are gone when they should be, whatever was killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from turnout.errors import ConfigurationError
from turnout.runtime import supervisor as sv
from turnout.runtime.processes import ProcessId
from turnout.runtime.supervisor import MARK, Spec, StartError, Supervisor, down, free_port, status
from turnout.settings import Settings

#: Answers /health once it listens. With a file named, its child writes its own process number there.
SERVER = """
import http.server, os, subprocess, sys, time
port, child_file = int(sys.argv[1]), sys.argv[2]
if child_file:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    open(child_file, "w").write(str(child.pid))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *args): print("asked", flush=True)
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """Settings whose servers nobody needs here."""
    return Settings(
        home=tmp_path / "home", database_url="postgresql://nobody@127.0.0.1:1/none", redis_url="redis://127.0.0.1:1"
    )


def web(name: str = "web", child_file: Path | None = None, **options: object) -> Spec:
    port = free_port("127.0.0.1", 20000 + os.getpid() % 20000)
    argv = (sys.executable, "-c", SERVER, str(port), str(child_file or ""))
    url = f"http://127.0.0.1:{port}"
    return Spec(name, argv, healthy=f"{url}/health", url=url, **options)  # type: ignore[arg-type]


def wait_for(condition, seconds: float = 20.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
    return found


def test_processes_start_together_and_are_reported(home: Settings):
    seen: list[tuple[str, str]] = []
    prepared: list[int] = []
    prepare = lambda: prepared.append(1)  # noqa: E731
    with Supervisor(home, lambda p, _: seen.append((p.name, p.state))) as running:
        running.start(
            [
                web("one", prepare=prepare),
                Spec("two", (sys.executable, "-c", "import time; time.sleep(600)"), prepare=prepare),
            ]
        )
        now = status(home)
        assert now.phase == "running"
        assert {p.name: p.state for p in now.processes} == {"one": "running", "two": "running"}
        assert sv.process_url(home, "one") == now.processes[0].url
        processes = [p.process for p in now.processes]
    assert prepared == [1], "what two processes share is prepared once"
    assert ("one", "preparing") in seen
    assert ("one", "running") in seen
    assert not any(p and p.is_alive() for p in processes)
    assert status(home).phase == "stopped"
    assert sv.process_url(home, "one") is None


def test_a_process_that_ends_at_once_stops_the_others_and_shows_its_log(home: Settings):
    broken = Spec(
        "broken", (sys.executable, "-c", "import sys; sys.exit('no such model')"), healthy="http://127.0.0.1:1/"
    )
    with Supervisor(home) as running:
        with pytest.raises(StartError, match=r"(?s)broken ended with exit code 1.*no such model"):
            running.start([web(), broken])
        now = status(home)
    assert now.phase == "failed"
    assert "no such model" in (now.error or "")
    assert not any(p.process and p.process.is_alive() for p in now.processes)


def test_a_process_that_never_gets_healthy_is_given_up(home: Settings):
    deaf = Spec(
        "deaf", (sys.executable, "-c", "import time; time.sleep(600)"), healthy="http://127.0.0.1:1/", start_timeout=0.5
    )
    with Supervisor(home) as running, pytest.raises(StartError, match=r"deaf was not healthy after"):
        running.start([deaf])


def test_a_crashed_process_is_restarted_and_counted(home: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sv, "BACKOFF_FIRST", 0.1)
    with Supervisor(home) as running:
        running.start([web()])
        first = status(home).processes[0]
        until = threading.Event()
        watching = threading.Thread(target=running.watch, args=(until, 0.05))
        watching.start()
        assert first.pid
        os.kill(first.pid, signal.SIGKILL)
        again = wait_for(
            lambda: next((p for p in status(home).processes if p.state == "running" and p.pid != first.pid), None)
        )
        until.set()
        watching.join()
    assert again.restarts == 1


def test_only_one_supervisor_runs_in_a_home(home: Settings):
    with Supervisor(home), pytest.raises(ConfigurationError, match="already runs"), Supervisor(home):
        pass


def test_children_in_sessions_of_their_own_are_ended_too(home: Settings, tmp_path: Path):
    with Supervisor(home) as running:
        running.start([web(child_file=tmp_path / "child")])
        child = ProcessId.of(int((tmp_path / "child").read_text()))
        assert child
        assert child.is_alive()
    assert not child.is_alive()


def test_logs_are_kept_once_and_cut_when_too_long(home: Settings, monkeypatch: pytest.MonkeyPatch):
    spec = Spec("talker", (sys.executable, "-c", "import time; print('x' * 5000, flush=True); time.sleep(600)"))
    log = home.home_path / "logs" / "talker.log"
    for _ in range(2):
        with Supervisor(home) as running:
            running.start([spec])
            wait_for(lambda: log.stat().st_size > 5000)
            monkeypatch.setattr(sv, "LOG_LIMIT", 1000)
            running.look()
            assert log.stat().st_size == 0
            assert log.with_name("talker.log.1").stat().st_size > 5000


def run_supervisor(home: Settings, child_file: Path) -> subprocess.Popen[bytes]:
    """A supervisor in a process of its own, running one web server that has a child."""
    code = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_supervisor as t
        from pathlib import Path
        from turnout.runtime.servers import services
        with services(t.Settings(_env_file=None)) as ready, t.Supervisor(ready) as running:
            running.start([t.web(child_file=Path({str(child_file)!r}))])
            running.watch()
    """)
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **home.environment()})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_everything_in_order(home: Settings, tmp_path: Path, number: signal.Signals):
    process = run_supervisor(home, tmp_path / "child")
    wait_for(lambda: status(home).phase == "running")
    processes = [p.process for p in status(home).processes]
    for _ in range(3):
        process.send_signal(number)
        # Python drops an interrupt that reaches it within a finalizer; a person presses Ctrl-C again
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
            break
    assert process.poll() is not None
    assert not any(p and p.is_alive() for p in processes)
    assert status(home).phase == "stopped"


def test_what_a_killed_supervisor_leaves_is_ended_before_the_next_starts(home: Settings, tmp_path: Path):
    process = run_supervisor(home, tmp_path / "child")
    wait_for(lambda: status(home).phase == "running")
    left = [p.process for p in status(home).processes] + [ProcessId.of(int((tmp_path / "child").read_text()))]
    process.kill()
    process.wait()
    assert all(p and p.is_alive() for p in left)
    assert status(home).phase == "stopped"
    with Supervisor(home) as running:
        assert not any(p and p.is_alive() for p in left)
        running.start([web()])
        assert status(home).phase == "running"


#: Starts a worker that carries no mark and lives in a session of its own.
ARBITER = """
import subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True, env={})
open(sys.argv[1], "w").write(str(worker.pid))
time.sleep(600)
"""


def test_a_worker_without_a_mark_in_a_session_of_its_own_is_found(home: Settings, tmp_path: Path):
    """Programs that set their title wipe their environment, and an arbiter that is killed leaves its workers."""
    spec = Spec("arbiter", (sys.executable, "-c", ARBITER, str(tmp_path / "child")))
    with Supervisor(home) as running:
        running.start([spec])
        wait_for(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
        worker = ProcessId.of(int((tmp_path / "child").read_text()))
        arbiter = status(home).processes[0].process
        assert worker
        assert arbiter
        os.kill(arbiter.pid, signal.SIGKILL)
        assert running._running["arbiter"].child
        running._running["arbiter"].child.wait()
        assert worker.is_alive()
        running.look()
        assert not worker.is_alive()


def test_readers_of_a_log_are_left_alone(home: Settings):
    with Supervisor(home) as running:
        running.start([web()])
        reader = subprocess.Popen(["tail", "-f", status(home).processes[0].log], stdout=subprocess.DEVNULL)
    assert reader.poll() is None
    reader.kill()
    reader.wait()


def test_down_stops_a_supervisor_and_what_a_killed_one_left(home: Settings, tmp_path: Path):
    process = run_supervisor(home, tmp_path / "child")
    wait_for(lambda: status(home).phase == "running")
    assert down(home) == ["web", "supervisor"]
    process.wait(10)

    process = run_supervisor(home, tmp_path / "child")
    wait_for(lambda: status(home).phase == "running")
    left = [p.process for p in status(home).processes]
    process.kill()
    process.wait()
    assert down(home) == ["web"]
    assert not any(p and p.is_alive() for p in left)
    assert down(home) == []


def test_a_reused_process_number_is_never_hit(home: Settings):
    with Supervisor(home) as running:
        running.start([Spec("one", (sys.executable, "-c", "import time; time.sleep(600)"))])
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        # The state a killed supervisor would leave, whose process numbers the system has given to others since.
        state = json.loads(sv.state_file(home).read_text())
        state["phase"], state["pid"], state["started"] = "running", bystander.pid, 1.0
        state["processes"][0] |= {"state": "running", "pid": bystander.pid, "started": 1.0}
        sv.state_file(home).write_text(json.dumps(state))
        assert status(home).phase == "stopped"
        assert status(home).processes[0].state == "stopped"
        assert down(home) == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_another_homes_processes_are_left_alone(home: Settings, tmp_path: Path):
    other = home.model_copy(update={"home": tmp_path / "other"})
    other = Settings(**other.model_dump())
    with Supervisor(other) as running:
        running.start([web()])
        with Supervisor(home):
            pass
        assert status(other).phase == "running"
        assert os.environ.get(MARK) is None


def test_taken_ports_are_stepped_around(home: Settings):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        crowded = home.model_copy(update={"service_port": port, "airflow_port": port, "mlflow_port": port})
        with Supervisor(crowded) as running:
            chosen = [running.settings.service_port, running.settings.airflow_port, running.settings.mlflow_port]
            assert status(crowded).ports == dict(zip(sv.PORTS, chosen, strict=True))
    assert len(set(chosen)) == 3
    assert port not in chosen


def test_two_homes_that_start_at_once_choose_different_ports(home: Settings, tmp_path: Path):
    """Nobody listens yet while a stack comes up: the choice itself must be known to others."""
    other = Settings(**home.model_dump() | {"home": tmp_path / "other"})
    with Supervisor(home) as first, Supervisor(other) as second:
        ports = [getattr(s.settings, name) for s in (first, second) for name in sv.PORTS]
    assert len(set(ports)) == 6


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(ConfigurationError, match="TURNOUT_HOST"):
        free_port("192.0.2.1", 3000)
