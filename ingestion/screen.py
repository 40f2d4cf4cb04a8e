"""Does the warehouse show what the platform's own screen shows?

Two sorts of files can be compared with it, and neither is loaded:

* **totals that somebody typed** from a platform's screen: a table (CSV, XLSX or YAML) with ``source``, ``from`` and
  ``to`` (or ``month``), optionally ``account`` and ``campaign`` (name or id), and any of ``spend``, ``impressions``,
  ``clicks``, ``conversions``, ``registrations`` and ``leads``; for ``sendgrid`` of ``requests``, ``delivered``,
  ``opens`` and ``clicks``; for ``registrations`` of ``registrations`` (confirmed people);
* **an export**: the sum of its rows is compared with the warehouse's figures of the same campaigns and days, and its
  own total row with its rows.

Counts must agree exactly, amounts to the last digit that is shown.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml
from sqlalchemy import Connection, Engine

from ingestion.headers import Synonyms, load_synonyms
from ingestion.layouts import Context, recognise
from ingestion.mapping import RULE_SOURCES
from ingestion.reading import RawTable, open_tables
from ingestion.records import Record, Total
from ingestion.totals import compare
from ingestion.values import Amount, Cell, CellError, parse_date, parse_money, parse_number, parse_text
from turnout.errors import InputError, Problem
from turnout.settings import Settings
from turnout.warehouse import tables as wh

ADS_FIGURES = ("spend", "impressions", "clicks", "conversions", "registrations", "leads")
MAIL_FIGURES = ("requests", "delivered", "opens", "clicks")
_FIGURES = tuple(dict.fromkeys((*ADS_FIGURES, *MAIL_FIGURES)))

_HEADERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "source": {"en": ("source", "platform"), "ja": ("媒体", "ソース")},
    "account": {"en": ("account",), "ja": ("アカウント",)},
    "campaign": {"en": ("campaign",), "ja": ("キャンペーン",)},
    "from": {"en": ("from", "first", "start"), "ja": ("開始日", "から")},
    "to": {"en": ("to", "last", "end"), "ja": ("終了日", "まで")},
    "month": {"en": ("month",), "ja": ("月",)},
    "currency": {"en": ("currency",), "ja": ("通貨",)},
    "spend": {"en": ("spend", "cost"), "ja": ("費用",)},
    "impressions": {"en": ("impressions",), "ja": ("表示回数",)},
    "clicks": {"en": ("clicks",), "ja": ("クリック数",)},
    "conversions": {"en": ("conversions",), "ja": ("コンバージョン",)},
    "registrations": {"en": ("registrations",), "ja": ("申込数",)},
    "leads": {"en": ("leads",), "ja": ("リード",)},
    "requests": {"en": ("requests",), "ja": ("リクエスト",)},
    "delivered": {"en": ("delivered",), "ja": ("配信数",)},
    "opens": {"en": ("opens",), "ja": ("開封数",)},
}  # fmt: skip
_MONTH = re.compile(r"^(\d{4})[-/年](\d{1,2})月?$")


@dataclass(frozen=True)
class ScreenLine:
    """One comparison.

    Attributes:
        what: ``screen`` (typed), ``export`` (the rows of a file) or ``total row`` (a file's total beside its rows).
        figures: name → (what the screen or file says, what the warehouse or the rows say); ``None`` is unknown.
        differing: names whose figures differ.
        notes: what to know of the comparison.
    """

    what: str
    place: str
    source: str
    account: str | None
    campaign: str | None
    first: date | None
    last: date | None
    currency: str | None
    figures: dict[str, tuple[Decimal, Decimal | None]]
    differing: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass
class _Scope:
    """Which rows of the warehouse are meant."""

    source: str
    accounts: Sequence[str] | None
    campaigns: Sequence[str] | None
    names: Sequence[str] | None
    first: date | None
    last: date | None


@dataclass
class _Sums:
    values: dict[str, Decimal | None] = field(default_factory=dict)
    currency: str | None = None
    notes: list[str] = field(default_factory=list)


def compare_with_screen(
    engine: Engine, settings: Settings, path: Path, *, account: str | None = None
) -> list[ScreenLine]:
    """Compare a file with the warehouse.

    Args:
        account: of an export that names none; by default any account counts.

    Raises:
        InputError: the file is neither totals nor an export; or cells of it cannot be read, each with its place.
    """
    if not path.is_file():
        raise InputError([Problem("no_file", "there is no such file", file=str(path))])
    if path.suffix.casefold() in (".yaml", ".yml"):
        lines: Iterable[ScreenLine] = _typed(engine, settings, list(_yaml_rows(path)))
        return list(lines)
    typed = Synonyms({"screen": _HEADERS})
    tables = list(open_tables(path, max_line_bytes=settings.max_line_bytes, synonyms=typed))
    found: list[ScreenLine] = []
    exports = False
    for table in tables:
        columns = {n: c for c in table.columns if (n := typed.field("screen", c.name)) is not None}
        if "source" in columns and ("month" in columns or {"from", "to"} <= columns.keys()):
            rows = [
                _Row(
                    {n: row.cells[c.index] for n, c in columns.items() if c.index < len(row.cells)}, table.file,
                    table.sheet, row.number, {n: c.title for n, c in columns.items()},
                )
                for row in table.rows()
            ]  # fmt: skip
            found += _typed(engine, settings, [r for r in rows if any(_said(c) for c in r.cells.values())])
        else:
            exports = True
    if exports:
        synonyms = load_synonyms(settings.home_path)
        for table in open_tables(path, max_line_bytes=settings.max_line_bytes, synonyms=synonyms):
            found += _export(engine, settings, table, synonyms, account)
    return found


def _said(cell: Cell) -> bool:
    return cell is not None and str(cell).strip() != ""


# --- typed totals -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    cells: Mapping[str, Any]
    file: str
    sheet: str | None
    number: int
    titles: Mapping[str, str]

    def problem(self, code: str, message: str, column: str | None = None) -> Problem:
        value = self.cells.get(column) if column else None
        said = None if value is None else str(value)[:200]
        title = self.titles.get(column, column) if column else None
        return Problem(code, message, file=self.file, sheet=self.sheet, row=self.number, column=title, value=said)


def _yaml_rows(path: Path) -> Iterator[_Row]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError([Problem("not_yaml", f"the file is not YAML: {error}", file=path.name)]) from error
    if not isinstance(loaded, list) or not all(isinstance(entry, dict) for entry in loaded):
        message = "expected a list of totals, each with source, from and to, and figures"
        raise InputError([Problem("not_a_list", message, file=path.name)])
    for number, entry in enumerate(loaded, start=1):
        yield _Row({str(n): v for n, v in entry.items()}, path.name, None, number, {})


def _typed(engine: Engine, settings: Settings, rows: Sequence[_Row]) -> list[ScreenLine]:
    problems: list[Problem] = []
    wanted: list[tuple[_Row, _Scope, dict[str, Decimal], str | None]] = []
    for row in rows:
        read = _typed_row(row, problems)
        if read is not None:
            wanted.append((row, *read))
    if problems:
        raise InputError(problems)
    lines = []
    with engine.connect() as connection:
        for row, scope, figures, currency in wanted:
            sums = _sums(connection, settings, scope, currency)
            place = f"{row.file}, row {row.number}"
            names = scope.names[0] if scope.names else None
            account = scope.accounts[0] if scope.accounts else None
            lines.append(_line("screen", place, scope, account, names, figures, sums))
    return lines


def _typed_row(row: _Row, problems: list[Problem]) -> tuple[_Scope, dict[str, Decimal], str | None] | None:
    before = len(problems)

    def read(name: str, parse: Any) -> Any:
        try:
            return parse(row.cells[name]) if _said(row.cells.get(name)) else None
        except CellError as error:
            problems.append(row.problem(error.code, error.message, name))
            return None

    source = read("source", parse_text) or ""
    if source not in RULE_SOURCES:
        message = f"{source!r} is no source; allowed are {', '.join(RULE_SOURCES)}"
        problems.append(row.problem("unknown_source", message, "source"))
    first, last = _days(row, read("from", parse_date), read("to", parse_date), problems)
    allowed = MAIL_FIGURES if source == "sendgrid" else ("registrations",) if source == "registrations" else ADS_FIGURES
    figures = {}
    stated: str | None = None
    for name in _FIGURES:
        cell = read(name, parse_money if name == "spend" else parse_number)
        value: Decimal | None = cell.amount if isinstance(cell, Amount) else cell
        stated = cell.currency if isinstance(cell, Amount) else stated
        if value is not None and name not in allowed and source in RULE_SOURCES:
            problems.append(row.problem("unknown_figure", f"{source} has no {name}; it has {', '.join(allowed)}", name))
        elif value is not None:
            figures[name] = value
    if not figures and len(problems) == before:
        problems.append(row.problem("missing_value", f"no figure is given; write any of {', '.join(allowed)}"))
    if len(problems) > before:
        return None
    account, campaign, currency = (read(n, parse_text) for n in ("account", "campaign", "currency"))
    currency = currency or stated
    scope = _Scope(
        source, None if account is None else [account], None, None if campaign is None else [campaign], first, last
    )
    return scope, figures, currency


def _days(row: _Row, first: date | None, last: date | None, problems: list[Problem]) -> tuple[date | None, date | None]:
    """The days a row is about: its month, or from its first to its last day."""
    if _said(row.cells.get("month")):
        match = _MONTH.match(str(row.cells["month"]).strip()[:7].rstrip("-/"))
        if match is None or not 1 <= int(match[2]) <= 12:
            problems.append(row.problem("not_a_month", "write the month as 2026-05", "month"))
            return None, None
        year, month = int(match[1]), int(match[2])
        return date(year, month, 1), date(year, month, monthrange(year, month)[1])
    if first is None or last is None:
        missing = "from" if first is None else "to"
        if not _said(row.cells.get(missing)):
            problems.append(row.problem("missing_value", "say from which day to which, or the month", missing))
    elif last < first:
        problems.append(row.problem("bad_period", f"the last day {last} lies before the first {first}", "to"))
    return first, last


# --- exports ----------------------------------------------------------------------------------------------------------


def _export(
    engine: Engine, settings: Settings, table: RawTable, synonyms: Synonyms, account: str | None
) -> Iterator[ScreenLine]:
    layout, _ = recognise(table, synonyms)
    place = f"{table.file}#{table.sheet}" if table.sheet else table.file
    if layout.table != "ad_performance":
        message = f"{layout.name} is no campaign report; type its totals into a table with source, from, to and figures"
        raise InputError([table.problem("no_campaign_report", message)])
    sums: dict[str, Decimal] = {}
    totals: list[Total] = []
    accounts: set[str | None] = set()
    campaigns: set[str] = set()
    currencies: set[str] = set()
    days: list[date] = []
    rows = 0
    for outcome in layout.read(table, Context(settings, account or "", synonyms=synonyms)):
        if isinstance(outcome, Total):
            totals.append(outcome)
        elif isinstance(outcome, Record):
            rows += 1
            values = outcome.values
            for name in ADS_FIGURES:
                if values.get(name) is not None:
                    sums[name] = sums.get(name, Decimal()) + Decimal(values[name])
            accounts.add(values.get("account", account))
            campaigns.add(values["campaign_id"])
            currencies.add(values["currency"])
            days += [values["date"], values["period_end"]]
            days = [min(days), max(days)]
    currency = currencies.pop() if len(currencies) == 1 else None
    first, last = (days[0], days[1]) if days else (None, None)
    named = None if None in accounts else sorted(a for a in accounts if a is not None)
    scope = _Scope(layout.source, named, sorted(campaigns), None, first, last)
    shown = named[0] if named is not None and len(named) == 1 else None
    with engine.connect() as connection:
        found = _sums(connection, settings, scope, currency)
    yield _line("export", place, scope, shown, None, sums, found)
    check = compare(totals, {**sums, "currency": currency}, rows, synonyms.total_words)
    if check is not None:
        figures: dict[str, tuple[Decimal, Decimal | None]] = dict(check.differences)
        yield ScreenLine(
            "total row", f"{place}, row {check.row} ({check.label})", layout.source, shown, None, first, last, currency,
            figures, tuple(figures), () if figures else ("the file's own total is the sum of its rows",),
        )  # fmt: skip


# --- the warehouse's side ---------------------------------------------------------------------------------------------


def _line(
    what: str,
    place: str,
    scope: _Scope,
    account: str | None,
    campaign: str | None,
    figures: Mapping[str, Decimal],
    sums: _Sums,
) -> ScreenLine:
    pairs = {name: (stated, sums.values.get(name)) for name, stated in figures.items()}
    differing = tuple(n for n, (stated, found) in pairs.items() if _differs(n, stated, found))
    return ScreenLine(
        what, place, scope.source, account, campaign, scope.first, scope.last, sums.currency, pairs, differing,
        tuple(sums.notes),
    )  # fmt: skip


def _differs(name: str, stated: Decimal, found: Decimal | None) -> bool:
    if found is None:
        return stated != 0
    if name not in ("spend", "conversions", "registrations", "leads"):
        return stated != found
    exponent = stated.normalize().as_tuple().exponent
    shown = min(exponent, 0) if isinstance(exponent, int) else 0
    return abs(stated - found) > Decimal(1).scaleb(shown) / 2


def _sums(connection: Connection, settings: Settings, scope: _Scope, currency: str | None) -> _Sums:
    if scope.source == "sendgrid":
        return _mail_sums(connection, settings, scope)
    if scope.source == "registrations":
        t = wh.registration
        query = sa.select(sa.func.sum(t.c.quantity)).where(
            *_where(t, settings, scope), t.c.status == "confirmed", t.c.date.between(scope.first, scope.last)
        )
        value = connection.execute(query).scalar_one()
        return _Sums({"registrations": None if value is None else Decimal(value)})
    return _ad_sums(connection, settings, scope, currency)


def _where(table: sa.FromClause, settings: Settings, scope: _Scope) -> list[sa.ColumnElement[bool]]:
    c = table.c
    found = [c.organisation == settings.organisation, c.source == scope.source]
    return found + ([c.account.in_(scope.accounts)] if scope.accounts is not None else [])


def _ad_sums(connection: Connection, settings: Settings, scope: _Scope, currency: str | None) -> _Sums:
    names = ("organisation", "source", "account", "campaign_id", "date", "period_end", "currency", "spend_base")
    t = sa.table("ad_counted", *[sa.column(n) for n in (*names, *ADS_FIGURES)], schema=wh.SCHEMA)
    condition = _where(t, settings, scope)
    if scope.names is not None:
        wanted = scope.names[0]
        of_name = sa.select(wh.campaign.c.account, wh.campaign.c.campaign_id).where(
            *_where(wh.campaign, settings, scope),
            sa.or_(wh.campaign.c.campaign_id == wanted, wh.campaign.c.names.any(wanted), wh.campaign.c.name == wanted),
        )
        condition.append(sa.tuple_(t.c.account, t.c.campaign_id).in_(of_name))
    if scope.campaigns is not None:
        condition.append(t.c.campaign_id == sa.func.any(sa.cast(list(scope.campaigns), sa.ARRAY(sa.Text))))
    inside = sa.and_(t.c.date >= scope.first, t.c.period_end <= scope.last)
    across = sa.and_(t.c.date <= scope.last, t.c.period_end >= scope.first, sa.not_(inside))
    sums = connection.execute(
        sa.select(
            *[sa.func.sum(t.c[n]).label(n) for n in ADS_FIGURES], sa.func.min(t.c.currency).label("low"),
            sa.func.max(t.c.currency).label("high"), sa.func.sum(t.c.spend_base).label("base"),
        ).where(*condition, inside)
    ).one()  # fmt: skip
    values: dict[str, Decimal | None] = {
        n: None if getattr(sums, n) is None else Decimal(getattr(sums, n)) for n in ADS_FIGURES
    }
    result = _Sums(values, sums.low if sums.low == sums.high else None)
    if sums.low is None:
        result.notes.append("the warehouse has no rows of this")
    elif result.currency is None or (currency is not None and currency != result.currency):
        values["spend"] = sums.base if currency in (None, settings.currency) else None
        result.currency = settings.currency
        result.notes.append(f"the rows are in {sums.low}–{sums.high}; amounts are compared in {settings.currency}")
    periods = connection.execute(sa.select(sa.func.count()).select_from(t).where(*condition, across)).scalar_one()
    if periods:
        result.notes.append(f"{periods} rows cover days both inside and outside the range, and are left out")
    return result


def _mail_sums(connection: Connection, settings: Settings, scope: _Scope) -> _Sums:
    t = wh.email_performance
    condition = [*_where(t, settings, scope), t.c.date.between(scope.first, scope.last)]
    condition.append(t.c.category == (scope.names[0] if scope.names else ""))
    row = connection.execute(sa.select(*[sa.func.sum(t.c[n]).label(n) for n in MAIL_FIGURES]).where(*condition)).one()
    found = {n: None if getattr(row, n) is None else Decimal(getattr(row, n)) for n in MAIL_FIGURES}
    notes = [] if any(v is not None for v in found.values()) else ["the warehouse has no rows of this"]
    return _Sums(found, None, notes)
