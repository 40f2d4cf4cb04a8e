"""Does the gate catch what is wrong, and keep quiet about what is not?

    python -m benchmarks.quality [--json] [--nights 200]

**Faults**, one each: single cells in single rows (:mod:`benchmarks.quality_rows`), and what goes wrong with a night's
reading of an account that has a history in the warehouse (:mod:`benchmarks.quality_nights`): cut off, pasted twice,
in another unit or currency, a column or a day that lacks, rates that drift, another account's file. A fault is caught
when the gate says so with the expected code and severity: ``reject`` (the row goes to quarantine), ``stop`` (the
partition keeps what it had) or ``warn``.

**Clean nights**: readings of accounts of every kind in which nothing is wrong but much is unusual
(:mod:`benchmarks.quality_world`). Anything the gate says of one is a false alarm.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy import Engine

from benchmarks.quality_nights import NIGHT_FAULTS, NightFault, accounts, clean_nights
from benchmarks.quality_rows import REJECTED, TODAY, WARNED, clean_rows
from benchmarks.quality_world import Account, event_day, event_label
from expectations.gate import TurnoutGate
from turnout.logs import configure
from turnout.quality import GateDecision
from turnout.runtime import services
from turnout.settings import Settings
from turnout.warehouse import tables as wh
from turnout.warehouse.engine import create_engine
from turnout.warehouse.load import replace_partitions, upsert
from turnout.warehouse.migrate import upgrade

#: What must hold.
MAX_FALSE_ALARMS = 0.01


@dataclass(frozen=True)
class Outcome:
    """One fault: what it was caught as, ``said`` being all the gate had to say."""

    name: str
    table: str
    code: str
    severity: str
    caught: bool
    said: list[str]


@dataclass(frozen=True)
class Night:
    """One clean night: ``partitions`` checked, and what was said of it."""

    account: str
    morning: str
    partitions: int
    alarms: list[str]


def said(decision: GateDecision) -> set[tuple[str, str]]:
    """(severity, code) of everything in a decision."""
    return {
        *(("reject", row.code) for row in decision.rejected), *(("stop", stop.code) for stop in decision.stopped),
        *(("warn", warning.split(":")[0]) for warning in decision.warnings),
    }  # fmt: skip


def load_history(engine: Engine, account: Account, rows: pd.DataFrame) -> None:
    """Put an account's days into the warehouse, instead of those it has; a list's events as well."""
    target = wh.metadata.tables[f"{wh.SCHEMA}.{account.table}"]
    with engine.begin() as connection:
        connection.execute(sa.delete(target).where(target.c.account == account.name))
        if account.table == "registration":
            upsert(
                connection, wh.event, [_event(account, label) for label in sorted(account.rows["event_label"].unique())]
            )
        if len(rows):
            # a mail account's categories are one partition here
            replace_partitions(connection, target, rows.assign(line=range(1, len(rows) + 1)))


def _event(account: Account, label: str) -> dict[str, Any]:
    number = int(label.split(" ")[2])
    return {
        "event_id": f"evt_{account.name}_{number}", "organisation": "default", "source": "spreadsheet",
        "account": account.name, "account_time_zone": "Asia/Tokyo", "fetched_at": account.rows["fetched_at"].iloc[0],
        "run_id": account.rows["run_id"].iloc[0], "name": event_label(account.name, number),
        "event_date": event_day(number), "time_zone": "Asia/Tokyo", "category": "ai_data", "format": "online",
        "currency": "JPY",
    }  # fmt: skip


def row_faults(gate: TurnoutGate) -> list[Outcome]:
    """Every single-cell fault, each in a frame of its own."""
    found = []
    for severity, corpus in (("reject", REJECTED), ("warn", WARNED)):
        for table, faults in corpus.items():
            for name, changes, code in faults:
                frame = clean_rows(table, 12)
                for column, value in changes.items():
                    frame.at["r6", column] = value
                heard = said(gate(table, frame))
                found.append(Outcome(name, table, code, severity, (severity, code) in heard, _words(heard)))
                gate.forget()
    return found


def night_faults(gate: TurnoutGate, engine: Engine) -> list[Outcome]:
    """Every fault of a night's reading."""
    found = []
    made = accounts()
    histories = {base: account.known(TODAY) for base, account in made.items()}
    for base, account in made.items():
        load_history(engine, account, histories[base])
    for fault in NIGHT_FAULTS:
        found.append(_night_fault(gate, engine, fault, made[fault.base], histories[fault.base]))
    return found


def _night_fault(
    gate: TurnoutGate, engine: Engine, fault: NightFault, account: Account, history: pd.DataFrame
) -> Outcome:
    if fault.known is not None:
        load_history(engine, account, fault.known(history))
    gate.forget()
    heard = said(gate(account.table, fault.change(account.night(TODAY))))
    if fault.known is not None:
        load_history(engine, account, history)
    caught = (fault.severity, fault.code) in heard
    return Outcome(fault.name, account.table, fault.code, fault.severity, caught, _words(heard))


def quiet_nights(
    settings: Settings, gate: TurnoutGate, engine: Engine, count: int, mornings_each: int = 5
) -> list[Night]:
    """Clean nights. Each account is read on its mornings in order, as it would be."""
    found = []
    gates: dict[date, TurnoutGate] = {TODAY: gate}
    for account, morning in sorted(clean_nights(count, mornings_each), key=lambda night: (night[0].name, night[1])):
        if morning not in gates:
            gates[morning] = TurnoutGate(settings, today=morning)
        load_history(engine, account, account.known(morning))
        asked = gates[morning]
        asked.forget()
        frame = account.night(morning)
        decision = asked(account.table, frame)
        alarms = [
            *(f"reject {row.code}: {row.reason}" for row in decision.rejected),
            *(f"stop {stop.code}: {stop.reason}" for stop in decision.stopped),
            *(f"warn {warning}" for warning in decision.warnings),
        ]
        found.append(Night(account.name, str(morning), int(frame["date"].nunique()), alarms))
    return found


def _words(heard: set[tuple[str, str]]) -> list[str]:
    return [f"{severity} {code}" for severity, code in sorted(heard)]


def measure(settings: Settings, engine: Engine, nights: int) -> dict[str, Any]:
    """Everything; the warehouse should be empty, and is not afterwards."""
    started = time.monotonic()
    gate = TurnoutGate(settings, today=TODAY)
    alone = TurnoutGate(Settings(home=settings.home), today=TODAY)
    faults = [*row_faults(alone), *night_faults(gate, engine)]
    quiet = quiet_nights(settings, gate, engine, nights)
    alarmed = [night for night in quiet if night.alarms]
    return {
        "faults": len(faults), "caught": sum(fault.caught for fault in faults),
        "by_fault": [asdict(fault) for fault in faults],
        "clean_nights": len(quiet), "clean_partitions": sum(night.partitions for night in quiet),
        "false_alarms": len(alarmed), "false_alarm_share": len(alarmed) / max(1, len(quiet)),
        "alarms": [asdict(night) for night in alarmed], "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 if every fault is caught and at most one clean night in a hundred raises an alarm."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--nights", type=int, default=200, help="clean nights to read")
    options = parser.parse_args(arguments)
    configure("console", "WARNING")
    with tempfile.TemporaryDirectory() as folder, services(Settings(home=Path(folder))) as settings:
        upgrade(settings)
        engine = create_engine(settings)
        try:
            result = measure(settings, engine, options.nights)
        finally:
            engine.dispose()
    if options.json:
        print(json.dumps(result, ensure_ascii=False, indent=2))
    else:
        for fault in result["by_fault"]:
            mark = "caught" if fault["caught"] else "MISSED"
            print(f"{mark}  {fault['table']:<18} {fault['severity']:<6} {fault['code']:<28} {fault['name']}")
            if not fault["caught"]:
                print(f"        said: {', '.join(fault['said']) or 'nothing'}")
        print(f"\ncaught {result['caught']}/{result['faults']} faults")
        for night in result["alarms"]:
            print(f"false alarm: {night['account']} {night['morning']}: {'; '.join(night['alarms'])}")
        print(
            f"false alarms {result['false_alarms']}/{result['clean_nights']} nights "
            f"({result['clean_partitions']} partitions), in {result['seconds']} s"
        )
    is_good = result["caught"] == result["faults"] and result["false_alarm_share"] <= MAX_FALSE_ALARMS
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
