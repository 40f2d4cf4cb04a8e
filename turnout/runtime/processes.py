"""Processes by number, without ever hitting another one that got the same number later."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process for good: its number and when it began (seconds since 1970, as the system counts)."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process now running under ``pid``; ``None`` for none, and for a zombie, which only awaits its parent."""
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return cls(pid, process.create_time())
        except psutil.Error:
            return None

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        now = ProcessId.of(self.pid)
        # The start is derived from the boot time, which some systems adjust by fractions of a second.
        return now is not None and abs(now.started - self.started) < 2

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal, to its whole process group if asked; nothing happens when it is gone."""
        if not self.is_alive():
            return
        with suppress(ProcessLookupError):
            if group and os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)

    def wait_gone(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for its end. Returns whether it is gone."""
        deadline = time.monotonic() + timeout
        pause = 0.005
        while self.is_alive():
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
            with suppress(ChildProcessError):  # a child of ours stays a zombie until somebody waits for it
                os.waitpid(self.pid, os.WNOHANG)
        return True


def stop(process: ProcessId, steps: Sequence[tuple[signal.Signals, float]], *, group: bool = False) -> bool:
    """Ask with ever stronger signals, each followed by its patience in seconds. Returns whether it is gone."""
    for number, patience in steps:
        process.signal(number, group=group)
        if process.wait_gone(patience):
            return True
    return not process.is_alive()


def working_in(folder: Path) -> Iterator[ProcessId]:
    """Processes whose working directory is ``folder``: how a server's orphans are found."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd() == str(folder) and (found := ProcessId.of(process.pid)):
                yield found
