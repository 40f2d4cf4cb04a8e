"""``turnout simulate``: draw a world, let it live, hand in its files, keep its truth apart."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import structlog

from turnout.errors import InputError, Problem
from turnout.simulation.exports import Exporter
from turnout.simulation.history import hardness, live
from turnout.simulation.population import FOLDER_PREFIX
from turnout.simulation.publish import staging
from turnout.simulation.truth import MANIFEST, manifest, truth_files
from turnout.simulation.world import World, WorldConfig

log = structlog.get_logger(__name__)

#: The world's zone; its days are Japanese days.
ZONE = ZoneInfo("Asia/Tokyo")

#: Called with organisers written and organisers in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class WorldSummary:
    """What was written.

    Attributes:
        inbox, truth: folders.
        registrations: confirmed ones, in truth.
        spend: yen.
        files: path below the inbox → bytes.
        rows, messy_rows: of all files.
        checks: measured hardness (:func:`turnout.simulation.history.hardness`) and ``messy_share``.
    """

    inbox: Path
    truth: Path
    seed: int
    first: date
    until: date
    organisers: int
    events: int
    registrations: int
    spend: float
    files: dict[str, int] = field(repr=False)
    rows: int = 0
    messy_rows: int = 0
    checks: dict[str, float] = field(default_factory=dict)


def yesterday() -> date:
    """The last complete day in the world's zone: where a history without ``until`` ends."""
    return datetime.now(UTC).astimezone(ZONE).date() - timedelta(days=1)


def simulate(
    out_dir: Path,
    *,
    seed: int,
    events: int = 160,
    organisers: int = 3,
    months: int = 24,
    until: date | None = None,
    messy: bool = True,
    fx_rates: Mapping[str, float] | None = None,
    inbox: Path | None = None,
    recent_months: int = 12,
    progress: Progress | None = None,
) -> WorldSummary:
    """Write a simulated history to ``out_dir/inbox`` and its truth to ``out_dir/truth``.

    The same arguments give byte-identical files. Writing again replaces what an earlier simulation wrote; other
    folders of the inbox are left alone. Killed at any point, the next run completes it.

    Args:
        until: last day of the history; default yesterday in Tokyo.
        messy: with faults in 2 % of the rows.
        fx_rates: yen for one unit, for accounts billed in another currency; default 150 for USD.
        inbox: elsewhere than ``out_dir/inbox``.
        recent_months: months of ad exports with a file each; earlier ones come by half-years.

    Raises:
        InputError: an argument is out of range, or ``out_dir/truth`` holds something that is not a simulation's truth.
    """
    chosen = {} if fx_rates is None else {"fx_rates": {"USD": float(fx_rates["USD"])}}
    config = WorldConfig(
        seed=seed, until=until or yesterday(), events=events, organisers=organisers, months=months, **chosen
    )
    inbox, truth = inbox or out_dir / "inbox", out_dir / "truth"
    if truth.exists() and any(truth.iterdir()) and not (truth / MANIFEST).exists():
        problem = f"{truth} holds files that no simulation wrote; nothing was written, choose another folder"
        raise InputError([Problem("not_a_truth_folder", problem)])
    history = live(World(config))
    exporter = Exporter(history, messy=messy, recent_months=recent_months)
    files: dict[str, int] = {}
    digests: dict[str, str] = {}
    with staging(inbox.parent) as part:
        folders = []
        for number in range(organisers):
            handed_in = exporter.hand_in(number)
            part.write(f"inbox/{handed_in.folder}", handed_in.files)
            folders.append(handed_in.folder)
            for name, content in handed_in.files.items():
                files[f"{handed_in.folder}/{name}"] = len(content)
                digests[f"{handed_in.folder}/{name}"] = hashlib.sha256(content).hexdigest()
            if progress is not None:
                progress(number + 1, organisers)
        checks = {**hardness(history), "messy_share": exporter.log.share}
        part.write("truth", truth_files(history, exporter))
        part.write(
            "truth",
            {MANIFEST: manifest(config, messy=messy, recent_months=recent_months, checks=checks, files=digests)},
        )
        for stale in _earlier_folders(inbox):
            if stale.name not in folders:
                shutil.rmtree(stale)
        for folder in folders:
            part.publish(f"inbox/{folder}", inbox / folder)
        part.publish("truth", truth)
    log.info("simulated", inbox=str(inbox), events=events, organisers=organisers, files=len(files), seed=seed)
    return WorldSummary(
        inbox=inbox,
        truth=truth,
        seed=seed,
        first=config.first,
        until=config.until,
        organisers=organisers,
        events=events,
        registrations=int(history.total_count.sum()),
        spend=float(history.spend.sum()),
        files=files,
        rows=exporter.log.rows,
        messy_rows=len(exporter.log.faults),
        checks=checks,
    )


def _earlier_folders(inbox: Path) -> list[Path]:
    """Folders an earlier simulation wrote: by name, and because their README says so."""
    if not inbox.is_dir():
        return []
    found = []
    for folder in sorted(inbox.glob(f"{FOLDER_PREFIX}*")):
        readme = folder / "README.txt"
        if readme.is_file() and "turnout simulate: seed" in readme.read_text(encoding="utf-8", errors="replace"):
            found.append(folder)
    return found
