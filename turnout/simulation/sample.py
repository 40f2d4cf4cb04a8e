"""The history that the demonstration learns from: a simulated world and one real conference, each labelled.

The conference is Python Brasil 2024 (``data/pybr2024/README.md`` in this package): real daily counts of tickets. It
stands in the inbox as an event of its own account with a registration list of daily counts, marked 実データ.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path

from turnout import taxonomy
from turnout.settings import Settings
from turnout.simulation.api import Progress, WorldSummary, simulate
from turnout.simulation.publish import staging
from turnout.simulation.xlsx import Cell, workbook_bytes

#: Folder of the inbox, and so the account, of the real conference.
CONFERENCE_FOLDER = "pybr2024"
CONFERENCE_NAME = "Python Brasil 2024"
#: First day: tutorials on the 16th and 17th, talks from the 18th to the 20th, sprints on the 21st.
CONFERENCE_DATE = date(2024, 10, 16)
REAL_LABEL = "実データ"

_CHECKED_IN = "Fez check-in"
_REMOTE = "Ingresso Online"
_DONATED = "Doe um ingresso"


@dataclass(frozen=True)
class SampleSummary:
    """What was written: the simulated world, and the real conference's folder and number of tickets."""

    world: WorldSummary
    conference: Path
    conference_registrations: int


def write_sample_history(
    settings: Settings,
    *,
    seed: int = 1,
    events: int = 160,
    until: date | None = None,
    organisers: int = 2,
    months: int = 24,
    progress: Progress | None = None,
) -> SampleSummary:
    """Write the sample history to the inbox of ``settings`` and the simulated world's truth to ``home/truth``.

    Idempotent, and complete when run again after it was killed. Other folders of the inbox are left alone.

    Args:
        until: last day of the simulated history; default yesterday in Tokyo.
    """
    world = simulate(
        settings.home_path,
        seed=seed,
        events=events,
        organisers=organisers,
        months=months,
        until=until,
        fx_rates=_yen(settings),
        inbox=settings.inbox_path,
        recent_months=6,
        progress=progress,
    )
    files, count = conference_files()
    target = settings.inbox_path / CONFERENCE_FOLDER
    with staging(settings.inbox_path.parent) as part:
        part.write(CONFERENCE_FOLDER, files)
        part.publish(CONFERENCE_FOLDER, target)
    return SampleSummary(world=world, conference=target, conference_registrations=count)


def _yen(settings: Settings) -> dict[str, float]:
    """Yen for one dollar as ingestion will convert it."""
    return {"USD": settings.fx_rates.get("USD", 150.0)}


def conference_daily() -> list[dict[str, str]]:
    """The real daily counts as published, one dict per row; columns in ``data/pybr2024/README.md``."""
    source = resources.files("turnout.simulation") / "data" / "pybr2024" / "registrations_daily.csv"
    return list(csv.DictReader(io.StringIO(source.read_text(encoding="utf-8"))))


def conference_files() -> tuple[dict[str, bytes], int]:
    """The conference as an organiser would hand it in: events sheet, registration list, and where it is from.

    Returns:
        File name → bytes, and the number of tickets.
    """
    rows = conference_daily()
    listing = io.StringIO(newline="")
    writer = csv.writer(listing, lineterminator="\n")
    writer.writerow(["date", "event", "ticket_type", "status", "quantity", "source", "attended"])
    for row in rows:
        ticket, quantity = row["tipo_de_ingresso"], int(row["n"])
        writer.writerow([row["date"], CONFERENCE_NAME, ticket, "confirmed", quantity, "", _attended(row)])
    count = sum(int(row["n"]) for row in rows)
    header = [
        "イベント名",
        "開催日",
        "カテゴリ",
        "テーマ",
        "形式",
        "募集開始日",
        "実際申込数",
        "通貨",
        "備考",
        "データ区分",
    ]
    event: tuple[Cell, ...] = (
        CONFERENCE_NAME,
        CONFERENCE_DATE,
        taxonomy.categories.label("development", "ja"),
        "Python",
        taxonomy.formats.label("hybrid", "ja"),
        date.fromisoformat(min(row["date"] for row in rows)),
        count,
        "BRL",
        f"{REAL_LABEL}：リオデジャネイロ、2024年10月16〜21日。主催者が公開した日別申込数。流入元・費用は不明",
        REAL_LABEL,
    )
    about = (resources.files("turnout.simulation") / "data" / "pybr2024" / "README.md").read_text(encoding="utf-8")
    return {
        "events.xlsx": workbook_bytes("イベント一覧", [header, event]),
        "registrations_daily.csv": listing.getvalue().encode("utf-8"),
        "README.txt": about.encode("utf-8"),
    }, count


def _attended(row: dict[str, str]) -> str:
    """Whether the people behind a row came: unknown for remote and donated tickets that nobody checked in."""
    if row["status_do_participante"] == _CHECKED_IN:
        return "yes"
    is_unknown = row["tipo_de_ingresso"].startswith((_REMOTE, _DONATED))
    return "" if is_unknown else "no"
