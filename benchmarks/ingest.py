"""Loading beside a bare PostgreSQL ``COPY`` of the same rows.

    python -m benchmarks.ingest [--rows 1000000 10000000] [--json] [--folder DIR]

Exports as the platforms write them (Google Ads in English, Japanese and German, Meta Ads, LinkedIn; UTF-8 and UTF-16;
decimal points and commas; quoted amounts; sums below the table) are generated, then read with
:func:`ingestion.api.ingest_paths` and the real gate into an embedded PostgreSQL of its own: parsing, checking, exchange
rates, replacing of partitions, linking, everything that a reading does. **Bare COPY** is the same rows, taken from the
warehouse into one CSV file beforehand and copied into the same emptied table (indexes, partitions, server settings) in
one transaction from one process that does nothing else. Both times are wall clock in one run; the
reading's begins when everything is imported.

Memory is the peak resident size of the reading process alone, from its start to its end; the database server has its
own. Files, server and warehouse are removed afterwards.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import psycopg
import sqlalchemy as sa
import structlog

from turnout.settings import Settings
from turnout.warehouse import tables as wh
from turnout.warehouse.engine import create_engine

#: Bytes of exports, spooled rows, warehouse and its log, and the CSV for the bare COPY, per row.
_DISK_PER_ROW = 1_600
_CAMPAIGNS = 40
_LAST_DAY = date(2026, 6, 30)


@dataclass(frozen=True)
class Measured:
    """One size.

    Attributes:
        rows: in the warehouse afterwards; equals the rows with figures in the files.
        file_bytes: size of all exports.
        cpu_seconds: of the reading process; the database server's are its own.
        rows_per_second, copy_rows_per_second: of the whole reading, and of the bare COPY.
        ratio: time of the reading over time of the bare COPY.
        peak_memory: resident bytes of the reading process at its highest; ``start_memory`` before the first row, with
            everything imported.
    """

    rows: int
    files: int
    file_bytes: int
    quarantined: int
    seconds: float
    cpu_seconds: float
    rows_per_second: float
    copy_seconds: float
    copy_rows_per_second: float
    ratio: float
    peak_memory: int
    start_memory: int


# --- exports ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Export:
    """How one platform writes its report in one language."""

    name: str
    encoding: str
    delimiter: str
    head: tuple[str, ...]
    row: Callable[[date, str, int, random.Random], str]
    tail: tuple[str, ...] = ()
    language: str = "en"


def _grouped(amount: float, mark: str) -> str:
    text = f"{amount:,.2f}"
    return text if mark == "." else text.translate(str.maketrans(",.", ".,"))


def _google_en(day: date, name: str, n: int, r: random.Random) -> str:
    shown = int(r.expovariate(1 / 900)) + 120
    clicks, cost = shown // (20 + n % 30), shown * r.random() * 2.1
    return (
        f'{day},Enabled,"{name}",Search,Group {n % 7},Ad {n},JPY,"{_grouped(cost, ".")}",{shown},{clicks},'
        f"{clicks / 9:.2f}"
    )


def _google_ja(day: date, name: str, n: int, r: random.Random) -> str:
    shown = int(r.expovariate(1 / 900)) + 120
    clicks = shown // (20 + n % 30)
    cells = (f"{day:%Y/%m/%d}", "有効", name, "検索", f"グループ {n % 7}", f"広告 {n}", "JPY")
    return "\t".join((*cells, f"{int(shown * r.random() * 2)}", f"{shown:,}", f"{clicks}", f"{clicks / 9:.1f}"))


def _google_de(day: date, name: str, n: int, r: random.Random) -> str:
    shown = int(r.expovariate(1 / 900)) + 120
    clicks, cost = shown // (20 + n % 30), shown * r.random() / 60
    return (
        f"{day:%d.%m.%Y};Aktiviert;{name};Suche;Gruppe {n % 7};Anzeige {n};EUR;{_grouped(cost, ',')};{shown};{clicks};"
        f"{clicks / 9:.2f}"
    )


def _meta(day: date, name: str, n: int, r: random.Random) -> str:
    shown = int(r.expovariate(1 / 900)) + 120
    clicks = shown // (20 + n % 30)
    done = str(clicks // 8) if n % 3 else ""
    kind = "actions:offsite_conversion.fb_pixel_complete_registration" if n % 3 else "link_click"
    cost = shown * r.random() / 50
    return f'{day},{day},"{name}",Set {n % 5},"Ad, {n}",{kind},{done},USD,{cost:.2f},{shown},{clicks}'


def _linkedin(day: date, name: str, n: int, r: random.Random) -> str:
    shown = int(r.expovariate(1 / 300)) + 110
    clicks = shown // (40 + n % 30)
    when = f"{day.month}/{day.day}/{day.year}"
    return f"{when}\t{name}\tSponsored Content\tUSD\t{shown * r.random() / 9:.2f}\t{shown}\t{clicks}"


EXPORTS = (
    _Export(
        "google_en", "utf-8", ",",
        (
            "Campaign report",
            "Day,Campaign state,Campaign,Campaign type,Ad group,Ad name,Currency code,Cost,Impr.,Clicks,Conversions",
        ),
        _google_en, ('Total: Account, , , , , , ,"1,234,567.89",1,1,1',),
    ),
    _Export(
        "google_ja", "utf-16", "\t",
        ("キャンペーン レポート", "\t".join((
            "日", "キャンペーンの状態", "キャンペーン", "キャンペーン タイプ", "広告グループ", "広告名", "通貨コード",
            "費用", "表示回数", "クリック数", "コンバージョン",
        ))),
        _google_ja, ("合計: アカウント\t\t\t\t\t\t\t1\t1\t1\t1",), "ja",
    ),
    _Export(
        "google_de", "utf-8-sig", ";",
        ("Kampagnenbericht", ";".join((
            "Tag", "Kampagnenstatus", "Kampagne", "Kampagnentyp", "Anzeigengruppe", "Anzeigenname", "Währungscode",
            "Kosten", "Impressionen", "Klicks", "Conversions",
        ))),
        _google_de, (), "de",
    ),
    _Export(
        "meta", "utf-8", ",",
        (
            "Reporting starts,Reporting ends,Campaign name,Ad set name,Ad name,Result indicator,Results,Currency,"
            "Amount spent,Impressions,Link clicks",
        ),
        _meta,
    ),
    _Export(
        "linkedin", "utf-16", "\t",
        ("Campaign performance report", "\t".join((
            "Start Date (in UTC)", "Campaign Name", "Campaign Type", "Currency", "Total Spent", "Impressions", "Clicks",
        ))),
        _linkedin,
    ),
)  # fmt: skip

_NAMES = {
    "en": "{} Summit {:03} - remarketing, search",
    "ja": "{}春の技術セミナー{:03}_検索",
    "de": "{} Fachtagung Köln {:03}",
}


def write_exports(folder: Path, rows: int, *, seed: int = 1) -> list[Path]:
    """Write ``rows`` rows with figures into one file per export, each in the folder of an account of its own.

    The days are as many as rows allow, up to three years: what grows with more rows is history, then ads a day.
    """
    paths = []
    for position, export in enumerate(EXPORTS):
        count = rows // len(EXPORTS) + (position < rows % len(EXPORTS))
        path = folder / f"account_{position}" / f"{export.name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding=export.encoding, newline="") as file:
            file.writelines(f"{line}\r\n" for line in export.head)
            chance = random.Random(seed + position)  # noqa: S311 - figures, no secrets
            for line in _lines(export, count, chance):
                file.write(line)
            file.writelines(f"{line}\r\n" for line in export.tail)
        paths.append(path)
    return paths


def _lines(export: _Export, count: int, chance: random.Random) -> Iterator[str]:
    days = max(1, min(3 * 365, count // 100))
    a_day, more = divmod(count, days)
    made = _NAMES[export.language].format
    names = [made(2023 + c % 3, c) for c in range(_CAMPAIGNS)]
    row = export.row
    for d in range(days):
        day = _LAST_DAY - timedelta(days=days - 1 - d)
        for n in range(a_day + (d < more)):
            yield row(day, names[n % _CAMPAIGNS], n, chance) + "\r\n"


# --- measuring --------------------------------------------------------------------------------------------------------


@contextmanager
def _server(home: Path) -> Iterator[Settings]:
    """A durable embedded server with a migrated, empty warehouse; the installation's own is not touched."""
    from turnout.runtime.servers import embedded
    from turnout.warehouse.migrate import upgrade

    # rates of no consequence, but several currencies need some
    with embedded(Settings(home=home)) as settings:
        upgrade(settings)
        yield settings


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def read(home: str, database_url: str, inbox: str) -> dict[str, Any]:
    """One reading, in the process that calls it; what :class:`Measured` wants to know of it."""
    from expectations.gate import make_gate
    from ingestion.api import ingest_paths

    settings = Settings(home=Path(home), database_url=database_url)
    engine = create_engine(settings)
    gate = make_gate(settings)
    # What is imported at first use is a matter of starting, not of rows.
    with tempfile.TemporaryDirectory() as warm:
        write_exports(Path(warm), 50)
        ingest_paths([Path(warm)], settings=settings, engine=engine, gate=gate, dry_run=True)
    start_memory, start_cpu = _peak(), time.process_time()
    started = perf_counter()
    report = ingest_paths([Path(inbox)], settings=settings, engine=engine, gate=gate, trigger="benchmark")
    seconds = perf_counter() - started
    engine.dispose()
    counts = report.summary()
    return {
        "seconds": seconds, "rows": counts["rows_loaded"], "quarantined": counts["rows_quarantined"],
        "refused": counts["files_refused"], "cpu_seconds": time.process_time() - start_cpu, "peak_memory": _peak(),
        "start_memory": start_memory,
    }  # fmt: skip


def _read_apart(settings: Settings, inbox: Path) -> dict[str, Any]:
    """:func:`read` in a process of its own, so that its memory is its own."""
    code = (
        "import json, logging, structlog, sys; from benchmarks.ingest import read; "
        "structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)); "
        "print(json.dumps(read(*sys.argv[1:])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(settings.home_path), str(settings.database_url), str(inbox)],
        stdout=subprocess.PIPE, check=True, text=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def bare_copy(settings: Settings, folder: Path) -> tuple[int, float]:
    """Empty ``ad_performance`` and copy its rows back from one CSV file: rows, and seconds with the commit."""
    table = f"{wh.SCHEMA}.{wh.ad_performance.name}"
    names = ", ".join(c.name for c in wh.ad_performance.columns)
    prepared = folder / "rows.csv"
    engine = create_engine(settings)
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        order = "source, account, date, line"  # as a reading writes them
        with driver.cursor() as cursor, prepared.open("wb") as file:
            copying = f"COPY (SELECT {names} FROM {table} ORDER BY {order}) TO STDOUT (FORMAT csv)"
            with cursor.copy(copying) as stream:
                for part in stream:
                    file.write(part)
        driver.commit()
        _settle(engine, table)
        started = perf_counter()
        with driver.cursor() as cursor, prepared.open("rb") as file:
            with cursor.copy(f"COPY {table} ({names}) FROM STDIN (FORMAT csv)") as stream:
                while part := file.read(1 << 20):
                    stream.write(part)
            rows = cursor.rowcount
        driver.commit()
        seconds = perf_counter() - started
    engine.dispose()
    prepared.unlink()
    return rows, seconds


def _settle(engine: sa.Engine, table: str) -> None:
    """Empty the table and flush, so that neither of the two pays for the other's writes."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f"TRUNCATE {table}"))
        connection.execute(sa.text("CHECKPOINT"))


def measure(rows: int, folder: Path) -> Measured:
    """One size, in ``folder``, which is empty afterwards.

    Raises:
        RuntimeError: rows are missing, or the disk is too small.
    """
    free = shutil.disk_usage(folder).free
    if free < rows * _DISK_PER_ROW:
        raise RuntimeError(f"{rows:,} rows need {rows * _DISK_PER_ROW >> 20:,} MB of disk; {free >> 20:,} MB are free")
    with tempfile.TemporaryDirectory(prefix="ingest-", dir=folder) as name:
        home, inbox = Path(name) / "home", Path(name) / "inbox"
        paths = write_exports(inbox, rows)
        size = sum(path.stat().st_size for path in paths)
        with _server(home) as settings:
            engine = create_engine(settings)
            _settle(engine, f"{wh.SCHEMA}.{wh.ad_performance.name}")
            engine.dispose()
            found = _read_apart(settings, inbox)
            copied, copy_seconds = bare_copy(settings, Path(name))
    if (found["rows"], copied, found["refused"]) != (rows, rows, 0):
        raise RuntimeError(f"{rows} rows written, {found['rows']} loaded, {copied} in the warehouse: {found}")
    return Measured(
        rows=rows, files=len(paths), file_bytes=size, quarantined=found["quarantined"],
        seconds=found["seconds"], cpu_seconds=found["cpu_seconds"], rows_per_second=rows / found["seconds"],
        copy_seconds=copy_seconds, copy_rows_per_second=rows / copy_seconds, ratio=found["seconds"] / copy_seconds,
        peak_memory=found["peak_memory"], start_memory=found["start_memory"],
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000], help="sizes, one after another")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where to work")
    options = parser.parse_args(arguments)
    if min(options.rows) < len(EXPORTS):
        parser.error(f"--rows must be at least {len(EXPORTS)}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if not options.json:
        print(
            f"{'rows':>12} {'MB':>7} {'seconds':>8} {'CPU s':>7} {'rows/s':>9} "
            f"{'COPY rows/s':>12} {'ratio':>6} {'peak MB':>8}"
        )
    found = []
    for rows in options.rows:
        one = measure(rows, options.folder)
        found.append(one)
        if not options.json:
            print(
                f"{one.rows:>12,} {one.file_bytes / 1e6:>7,.0f} {one.seconds:>8.1f} {one.cpu_seconds:>7.1f} "
                f"{one.rows_per_second:>9,.0f} {one.copy_rows_per_second:>12,.0f} {one.ratio:>6.2f} "
                f"{one.peak_memory / 1e6:>8,.0f}",
                flush=True,
            )
    growth = found[-1].peak_memory / found[0].peak_memory
    if options.json:
        print(json.dumps({"sizes": [asdict(one) for one in found], "memory_growth": growth}, indent=1))
    elif len(found) > 1:
        print(f"memory at {found[-1].rows:,} rows against {found[0].rows:,}: {growth:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
