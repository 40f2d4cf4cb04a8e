"""What a file amounts to: "does it match the platform's screen?"

The sums are taken in SQL over the rows a load wrote, in its own transaction, and stored with the file. They stay what
they are when a later file replaces those rows; ``current_rows`` says how many of them still count.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Table
from sqlalchemy.dialects.postgresql import JSONB

from ingestion.records import Total
from turnout.identity import key_of
from turnout.warehouse import tables as wh

#: What :func:`totals` gives for a file: JSON values. Counts are int, amounts int or float, days ISO text.
FileTotals = dict[str, Any]


def _object(values: Mapping[str, Any]) -> sa.ColumnElement[Any]:
    """A JSON object built in SQL, so that sums stay exact."""
    pairs = [element for name, value in values.items() for element in (sa.literal(name), value)]
    return sa.func.jsonb_build_object(*pairs, type_=JSONB)


def _sum(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    return sa.func.trim_scale(sa.cast(sa.func.sum(column), sa.Numeric))


def _only(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """The column's value where all rows agree, else NULL."""
    return sa.case((sa.func.min(column) == sa.func.max(column), sa.func.min(column)), else_=None)


def _sums(table: Table) -> dict[str, Any]:
    """The figures of one table's rows."""
    counted: dict[str, Any] = {"rows": sa.func.count()}
    if table is wh.ad_performance:
        counted |= {
            name: _sum(table.c[name])
            for name in ("spend", "impressions", "clicks", "conversions", "registrations", "leads")
        }
        counted |= {"currency": _only(table.c.currency), "spend_base": _sum(table.c.spend_base)}
        counted |= {"timezone": _only(table.c.account_time_zone)}
    elif table is wh.email_performance:
        counted["totals"] = _object({name: sa.func.sum(table.c[name]) for name in wh.EMAIL_METRICS})
        counted |= {name: sa.func.sum(table.c[name]) for name in ("delivered", "opens", "clicks")}
    elif table is wh.registration:
        quantity = table.c.quantity

        def people(*condition: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
            return sa.func.coalesce(sa.func.sum(quantity).filter(*condition), 0)

        counted |= {status: people(table.c.status == status) for status in ("confirmed", "cancelled", "waitlist")}
        counted["registrations"] = people(table.c.status == "confirmed")
        counted["attended"] = sa.func.sum(quantity).filter(table.c.attended)
    elif table is wh.tactic_result:
        counted |= {name: _sum(table.c[name]) for name in ("clicks", "registrations")}
        counted |= {"spend": _sum(table.c.cost), "reach": _sum(table.c.reach), "currency": _only(table.c.currency)}
    elif table is wh.event:
        counted |= {
            "registrations": sa.func.sum(table.c.actual_registrations),
            "attended": sa.func.sum(table.c.actual_attendees),
            "first": sa.func.min(table.c.event_date),
            "last": sa.func.max(table.c.event_date),
        }
    if "date" in table.c:
        counted["first"] = sa.func.min(table.c.date)
        counted["last"] = sa.func.max(table.c.period_end if "period_end" in table.c else table.c.date)
    return counted


def totals_of(
    table_name: str,
    *,
    organisation: str,
    source: str,
    file_ids: Sequence[str],
    run_id: UUID | None = None,
    days: tuple[date | None, date | None] = (None, None),
) -> sa.Select[tuple[Any]]:
    """A query for one JSON object: the sums over the rows that came from these files.

    Args:
        run_id: only rows this run wrote; all current ones by default.
        days: bounds of the rows' dates, so that few partitions are read.
    """
    table = wh.metadata.tables[f"{wh.SCHEMA}.{table_name}"]
    condition = [table.c.organisation == organisation, table.c.source == source, table.c.file_id.in_(list(file_ids))]
    if run_id is not None:
        condition.append(table.c.run_id == run_id)
    if "date" in table.c:
        condition += [table.c.date >= days[0]] if days[0] is not None else []
        condition += [table.c.date <= days[1]] if days[1] is not None else []
    return sa.select(_object(_sums(table))).where(*condition)


#: What a total row may be about and still be about every row; "Total: Search" is not.
_WHOLE = frozenset(
    ("", "account", "accounts", "campaigns", "campaign", "all campaigns", "filtered campaigns", "all", "results",
     "アカウント", "キャンペーン", "すべてのキャンペーン", "全キャンペーン", "フィルタ済みキャンペーン", "cuenta",
     "campañas", "conta", "campanhas", "konto", "kampagnen", "compte", "campagnes", "row without a campaign")
)  # fmt: skip
_AROUND = re.compile(r"^[\s:：;\-–—(（]+|[\s)）]+$|^\s*\d+$")
#: Rows are rounded one by one, their sum once: per row the sums may be off by half of the last digit shown.
_WHOLE_NUMBERS = frozenset(("impressions", "clicks"))


@dataclass(frozen=True)
class TotalCheck:
    """A file's own row of sums beside the sum of its rows.

    Attributes:
        label, row: of the row of sums that comes nearest.
        matches: whether it, or any other that is about all rows, agrees with the rows.
        differences: column → (the row of sums, the sum of the rows), where they differ.
    """

    label: str
    row: int
    matches: bool
    differences: dict[str, tuple[Decimal, Decimal]]

    def message(self, quarantined: int) -> str:
        """What to tell whoever reads the file."""
        named = "; ".join(
            f"{name} {_plain(stated)} against {_plain(found)} ({_plain(found - stated, sign=True)})"
            for name, (stated, found) in self.differences.items()
        )
        why = (
            f"{quarantined} row{'s are' if quarantined > 1 else ' is'} in quarantine" if quarantined
            else "rows are missing from the file, or its total is about more than its rows (a filter)"
        )  # fmt: skip
        return f"the file's own total (row {self.row}, {self.label!r}) and the sum of its rows differ: {named}; {why}"


def _plain(value: Decimal, *, sign: bool = False) -> str:
    text = f"{value:+,.2f}" if sign else f"{value:,.2f}"
    return text.removesuffix(".00")


def is_whole(label: str, total_words: Collection[str]) -> bool:
    """Whether a row of sums with this label is about every row above it, not about one kind of campaign."""
    text = unicodedata.normalize("NFKC", label).casefold().strip()
    for word in sorted(total_words, key=len, reverse=True):
        if text.startswith(word):
            text = text[len(word) :]
            break
    while (shorter := _AROUND.sub("", text)) != text:
        text = shorter
    return text in _WHOLE


def compare(
    stated: Sequence[Total], found: Mapping[str, Any], rows: int, total_words: Collection[str]
) -> TotalCheck | None:
    """Compare a file's rows of sums with what its rows add up to.

    Rows of sums overlap ("Total: Campaigns", "Total: Account", "Total: Search"), so it is enough that one agrees that
    is about all rows, or that all of them together do.

    Args:
        found: column → sum of the rows; ``spend`` only counts where ``currency`` is one.
        rows: how many were added up, for what rounding may amount to.

    Returns:
        ``None`` where no row of sums is about all rows, or none has a figure to compare.
    """
    compared = ("spend", "impressions", "clicks", "conversions", "registrations", "leads")
    names = [n for n in compared if found.get(n) is not None]
    if found.get("currency") is None:
        names = [n for n in names if n != "spend"]
    sums = {name: Decimal(str(found[name])) for name in names}
    whole = [t for t in stated if is_whole(t.label, total_words) and any(n in t.values for n in sums)]
    if not whole:
        return None

    def differing(values: Mapping[str, Decimal]) -> dict[str, tuple[Decimal, Decimal]]:
        return {
            name: (values[name], total)
            for name, total in sums.items()
            if name in values and abs(values[name] - total) > _tolerance(name, values[name], rows)
        }

    every = {n: sum((t.values[n] for t in stated if n in t.values), Decimal()) for n in sums}
    checks = [(t, differing(t.values)) for t in whole]
    best, differences = min(checks, key=lambda c: (len(c[1]), sum(abs(a - b) for a, b in c[1].values())))
    matches = not differences or not differing(every)
    return TotalCheck(best.label, best.row, matches, {} if matches else differences)


def _tolerance(name: str, stated: Decimal, rows: int) -> Decimal:
    """How far rounding alone may take a sum of ``rows`` figures from the total shown."""
    if name in _WHOLE_NUMBERS:
        return Decimal(0)
    exponent = stated.as_tuple().exponent
    last = Decimal(1).scaleb(max(exponent, -2) if isinstance(exponent, int) else 0)
    # errors of half a digit add up like a random walk; four standard deviations of it
    return last * Decimal(max(1.0, 4 * math.sqrt(rows / 12)))


@dataclass
class _Entry:
    """One read of a file, as recorded."""

    row: Mapping[str, Any]
    lineage: str
    sums: dict[str, Any]


def totals(engine: Engine, organisation: str) -> dict[str, FileTotals]:
    """Sums per file that was read, by file name; by path where two files share a name; ``name#sheet`` for workbooks.

    Keys of an entry: ``platform``, ``source``, ``layout``, ``table``, ``rows``, ``first``, ``last``, ``current_rows``,
    ``rows_read``, ``total_rows_to_drop`` (rows of sums recognised), ``rows_quarantined``, ``rows_blank``,
    ``rows_outside``, ``encoding`` and ``path``, and, by table, ``spend``, ``currency``, ``impressions``,
    ``clicks``, ``conversions``, ``registrations``, ``leads``, ``confirmed``, ``cancelled``, ``totals`` (mail
    statistics). A sum of unknown values only is ``None``.

    A file that was read in windows (by the nightly run) shows the rows that are current now; ``window`` says so.
    """
    with engine.connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ")
        entries = _entries(connection, organisation)
        current = _current_rows(connection, organisation, {e.row["table_name"] for e in entries})
        chosen = _chosen(connection, organisation, entries)
    shown = [(_name(e.row), e) for e in chosen]
    count: dict[str, int] = {}
    for name, _ in shown:
        count[name] = count.get(name, 0) + 1
    result = {}
    for name, entry in shown:
        key = name if count[name] == 1 else _name({**entry.row, "name": entry.row["path"]})
        result[key] = _shown(entry, current.get((entry.row["table_name"], entry.lineage), 0))
    return dict(sorted(result.items()))


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['name']}#{row['sheet']}" if row["sheet"] else str(row["name"])


def _entries(connection: Connection, organisation: str) -> list[_Entry]:
    target = wh.ingest_file
    query = (
        sa.select(*[c for c in target.c if c.name != "totals"], sa.cast(target.c.totals, sa.Text).label("sums"))
        .where(target.c.organisation == organisation)
        .order_by(target.c.loaded_at, target.c.file_id)
    )
    return [
        _Entry(dict(row), key_of(row["path"], row["sheet"], row["name"], prefix="file_"), json.loads(row["sums"]))
        for row in connection.execute(query).mappings()
    ]


def _current_rows(connection: Connection, organisation: str, names: set[str]) -> dict[tuple[str, str], int]:
    """Rows in the warehouse per table and file of origin."""
    counts: dict[tuple[str, str], int] = {}
    for name in names:
        table = wh.metadata.tables[f"{wh.SCHEMA}.{name}"]
        query = (
            sa.select(table.c.file_id, sa.func.count())
            .where(table.c.organisation == organisation, table.c.file_id.is_not(None))
            .group_by(table.c.file_id)
        )
        counts.update({(name, file_id): count for file_id, count in connection.execute(query)})
    return counts


def _chosen(connection: Connection, organisation: str, entries: Sequence[_Entry]) -> list[_Entry]:
    """One entry per file: its last whole read if the content has not changed since, else what is current of it."""
    by_file: dict[str, list[_Entry]] = {}
    for entry in entries:
        by_file.setdefault(entry.lineage, []).append(entry)
    chosen = []
    for reads in by_file.values():
        newest = reads[-1]
        whole = [e for e in reads if e.row["window_first"] is None]
        if whole and whole[-1].row["content_sha256"] == newest.row["content_sha256"]:
            chosen.append(whole[-1])
            continue
        sums = totals_of(
            newest.row["table_name"], organisation=organisation, source=newest.row["source"], file_ids=[newest.lineage]
        )
        row = connection.execute(sa.select(sa.cast(sums.scalar_subquery(), sa.Text))).scalar_one()
        windows = [e.row for e in reads if e.row["window_first"] is not None]
        window = [
            min(r["window_first"] for r in windows).isoformat(),
            max(r["window_last"] for r in windows).isoformat(),
        ]
        chosen.append(_Entry(newest.row, newest.lineage, {**json.loads(row), "window": window}))
    return chosen


def _shown(entry: _Entry, current: int) -> FileTotals:
    row = entry.row
    return {
        "platform": row["source"], "source": row["source"], "layout": row["layout"], "table": row["table_name"],
        **entry.sums,
        "rows_read": row["rows_read"], "total_rows_to_drop": row["rows_total"],
        "rows_quarantined": row["rows_quarantined"], "rows_blank": row["rows_blank"],
        "rows_outside": row["rows_outside"], "current_rows": current,
        "encoding": row["encoding"], "path": str(Path(row["path"])),
    }  # fmt: skip
