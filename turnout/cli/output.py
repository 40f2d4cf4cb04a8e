"""What the commands share for printing: consoles, JSON, progress bars."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

#: Into a file or a pipe there is no width to respect, so tables get room for their names.
out = Console(width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else 120)
err = Console(stderr=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def _plain(value: object) -> Any:
    match value:
        case BaseModel():
            return value.model_dump(mode="json")
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case date() | datetime():
            return value.isoformat()
        case UUID() | Path():
            return str(value)
        case set() | frozenset():
            return sorted(value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
    raise TypeError(f"cannot print {type(value).__name__} as JSON")


def emit_json(value: object) -> None:
    """Print ``value`` as JSON on stdout, unwrapped and uncoloured."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, default=_plain))


def settings_problems(error: ValidationError) -> list[str]:
    """One line per unusable setting, named as the environment variable that holds it."""
    lines = []
    for item in error.errors():
        name = "TURNOUT_" + "__".join(str(p) for p in item["loc"]).upper() if item["loc"] else "settings"
        lines.append(f"{name}: {item['msg']}")
    return lines


@contextmanager
def byte_progress(description: str, total: int, *, quiet: bool) -> Iterator[Progress | None]:
    """A progress bar in bytes on stderr; nothing when ``quiet`` or when stderr is no terminal."""
    if quiet or not err.is_terminal:
        yield None
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
    ) as progress:
        progress.add_task(description, total=total)
        yield progress


class Steps:
    """A list of named steps, each shown with its time when done. Long steps show a running clock on a terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        started = time.monotonic()
        progress: Progress | None = None
        task: TaskID | None = None
        if not self.quiet and err.is_terminal:
            progress = Progress(
                SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=err, transient=True
            )
            task = progress.add_task(title)
            progress.start()
        try:
            yield
        except BaseException:
            if progress is not None and task is not None:
                progress.stop()
            if not self.quiet:
                err.print(f"[red]✗[/] {title} ({time.monotonic() - started:.1f} s)", highlight=False)
            raise
        if progress is not None:
            progress.stop()
        self.seconds[title] = round(time.monotonic() - started, 1)
        if not self.quiet:
            err.print(f"[green]✓[/] {title} ({self.seconds[title]} s)", highlight=False)
