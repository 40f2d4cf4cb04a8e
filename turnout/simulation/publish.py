"""Folders that appear whole or not at all, so that a killed run leaves nothing that a second one does not mend."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from turnout.errors import InputError, Problem

_STAGING = ".simulation.part"
_LOCK = ".simulation.lock"


class Staging:
    """A folder beside the final ones in which a run is prepared."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Prepare ``folder`` with ``files``; names may not leave it."""
        for name, content in files.items():
            path = self.root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def publish(self, folder: str, target: Path) -> None:
        """Put the prepared ``folder`` in the place of ``target``, whatever was there."""
        target.parent.mkdir(parents=True, exist_ok=True)
        old = self.root / f"old {folder.replace('/', ' ')}"
        if target.exists():
            target.rename(old)
        (self.root / folder).rename(target)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def staging(beside: Path) -> Iterator[Staging]:
    """A fresh staging folder in ``beside``, for one run at a time; what a killed run left there is thrown away.

    Raises:
        InputError: ``beside`` is no folder, or cannot be made.
    """
    try:
        beside.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError([Problem("not_a_folder", f"{beside} is not a folder; name another one")]) from error
    root = beside / _STAGING
    with (beside / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        try:
            yield Staging(root)
        finally:
            shutil.rmtree(root, ignore_errors=True)
