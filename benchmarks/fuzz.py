"""Every parser of ingestion against inputs nobody has thought of.

    python -m benchmarks.fuzz [--examples 100000] [--only csv …] [--seed 1] [--json]

Hypothesis makes the inputs: bytes, damaged samples, workbooks, archives, JSON, single cells, and tables whose headers
are those of real reports, in any language, with cells that are plausible, awkward or absurd. What must hold for each:

* nothing but :class:`turnout.errors.InputError` (for a cell :class:`ingestion.values.CellError`, for the home folder's
  files :class:`turnout.errors.ConfigurationError`) is ever raised;
* rows in = rows staged + rows rejected + rows named as sums or blanks + rows outside of the days asked for;
* read row by row and read in blocks, the outcome of each row is the same;
* what is kept of a rejected row holds no cell of a personal column.

Inputs are made in batches, each with its own seed; a failure names parser and seed, and the smallest input found for
it. Run with ``--only PARSER --seed SEED --examples 500``, it fails again. Exit code 1 where something failed.
"""

# Lists of awkward cells are long, and what is asserted of an error is asserted where it is caught.
# ruff: noqa: E501, PT017

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import math
import random
import re
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any
from zoneinfo import ZoneInfo

import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ingestion import values
from ingestion.ads import parse_currency, parse_id, parse_share
from ingestion.explaining import closest, explain
from ingestion.headers import Synonyms, header_key, load_synonyms
from ingestion.layouts import Context, Layout, all_layouts, is_notes, recognise
from ingestion.loader import stage
from ingestion.mapped import Mappings, read_mapping
from ingestion.reading import RawTable, open_tables
from ingestion.records import Blank, Outcome, Record, Rejected, Total
from ingestion.registrations import parse_attended, parse_status
from ingestion.sheet_cells import READERS, ReadAs, read_cell, unit_of
from ingestion.staging import Staged
from turnout.errors import ConfigurationError, InputError
from turnout.settings import Settings
from turnout.warehouse import tables as wh

_TODAY = date(2026, 11, 25)
_ZONE = ZoneInfo("Asia/Tokyo")
_SAMPLES = Path(__file__).resolve().parent.parent / "tests" / "data" / "exports"
#: Longest line read here: small, so that long lines are met.
_MAX_LINE = 20_000
#: Examples per batch, each batch with a seed of its own.
_BATCH = 500


# --- cells ------------------------------------------------------------------------------------------------------------

_AWKWARD = (
    "", " ", "--", " --", "–", "n/a", "< 10 %", "> 90%", "<10%", "Total", "Total: Account", "合計", "合計: アカウント", "Gesamt", "0", "-0", "1",
    "1,234", "1.234", "1.234,56", "1,234.56", "1 234,56", "1\u00a0234,56", "1\u202f234", "1'234.5", "1’234", "12,34,567.8", "1,2,3", "1.2.3", ",", ".",
    "-5", "(5)", "5-", "△5", "+5", "5%", "%", "1e5", "1E+400", "1e-9", "NaN", "nan", "inf", "Infinity", "∞", "٣", "²", "½", "९", "①", "１２万", "1億2千万",
    "120万円", "¥1,200", "US$ 5", "5 €", "EUR 1.5", "R$ 1.234,5", "\\5", "=1+1", "=", "'=cmd|' /C calc'!A0", "@SUM(1)", "#REF!", "#N/A", "#DIV/0!", "9" * 30,
    "9" * 5_000, "0" * 40, "1." + "0" * 60, "2026-04-01", "2026-02-30", "3/4/2026", "25/4/2026", "4/25/2026", "13/13/2026", "令和8年4月1日", "R8.4.1", "昭和99年1月1日",
    "1900-01-00", "0000-00-00", "9999-12-31", "10000-01-01", "20260401", "46113", "46113.5", "2026-04-01T25:00:00", "2026-04-01 24:00", "2026-04-01T10:00:00+99:99",
    "2026-04-01T10:00:00Z", "午後13時", "April 2026", "2026年4月", "mar. 7 avr. 2026", "2026-04-06 - 2026-04-12", "6/15〜16", "14:00-17:00", "1-9", "10月49日", "true", "○", "×",
    "yes", "確定", "キャンセル", "cancelled", "a@example.org", "+81 90-1234-5678", "オンライン", "in person", "全業種", "製造・メーカー、金融", "メルマガ", "自社メルマガ・ハウスリスト", "高", "★★",
    "ã‚¤ãƒ™ãƒ³ãƒˆ", "繧､繝吶Φ繝", "\ufffd", "\ufeff", "\u200b", "\x00", "\x1a", "\r", "\n", "\t", '"', '""', "a,b", "a;b", "a\nb", "x" * 3_000, "(turnout:notes)", "JPY", "Yen", "€", "jpy",
    "1.23457E+11", '="123456"', "{}", "[]", "<a>", "\u202eabc", "👩‍👩‍👧", "ﾊﾝｶｸ", "¼", "一二三", "万", "千", "12万5000", "1万億", "0x10", "1_000", "１，２３４", "ー", "−5",
)  # fmt: skip

_texts = st.one_of(
    st.sampled_from(_AWKWARD),
    st.text(max_size=12),
    st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-10_000_000, max_value=10_000_000).map(str),
    st.integers(-5, 10**7).map("{:,}".format),
    st.integers(0, 10**7).map(lambda n: f"{n:,}".replace(",", ".") + ",5"),
    st.dates(date(1990, 1, 1), date(2040, 1, 1)).map(str),
    st.dates(date(2024, 1, 1), date(2027, 1, 1)).map(lambda d: f"{d.month}/{d.day}/{d.year}"),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(str),  # noqa: DTZ001 - cells have no zone
    st.lists(st.sampled_from("0123456789.,-/: 年月日%()万千円$€'\u00a0+eE"), max_size=14).map("".join),
)
_natives = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.decimals(),
    st.datetimes(timezones=st.one_of(st.none(), st.just(UTC), st.just(_ZONE))),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.builds(
        values.Formula, st.sampled_from(("=A1", "=1+1", "=")), st.one_of(st.none(), st.text(max_size=5), st.floats())
    ),
)
_cells = st.one_of(_texts, _texts, _natives)
_marks = st.sampled_from((".", ",", None))
_orders = st.sampled_from(("ymd", "mdy", "dmy", None))


@lru_cache(maxsize=1)
def _home() -> Path:
    return Path(tempfile.mkdtemp(prefix="turnout-fuzz-"))


@lru_cache(maxsize=1)
def _settings() -> Settings:
    return Settings(home=_home())


def _context(table: RawTable | None = None) -> Context:
    settled = table.settled if table is not None else None
    synonyms = settled.synonyms if settled is not None and settled.synonyms is not None else load_synonyms()
    return Context(_settings(), today=_TODAY, synonyms=synonyms, warnings=table.notes if table is not None else [])


def check_cell(cell: Any, mark: Any, order: Any) -> None:
    """No reader of cells raises anything but :class:`CellError`, and each gives what it says it gives."""
    kinds: Sequence[tuple[Callable[[], Any], Any]] = (
        (lambda: values.parse_text(cell), str),
        (lambda: values.parse_number(cell, mark=mark), Decimal),
        (lambda: values.parse_money(cell, mark=mark), values.Amount),
        (lambda: values.parse_money(cell, mark=mark, allow_negative=True), values.Amount),
        (lambda: values.parse_integer(cell), int),
        (lambda: values.parse_count(cell), int),
        (lambda: values.parse_percent(cell, mark=mark), Decimal),
        (lambda: values.parse_percent(cell, mark=mark, bare="percent"), Decimal),
        (lambda: values.parse_date(cell, order=order, zone=_ZONE, today=_TODAY), date),
        (lambda: values.parse_month(cell, order=order, today=_TODAY), date),
        (lambda: values.parse_week(cell, order=order, today=_TODAY), tuple),
        (lambda: values.parse_timestamp(cell, zone=_ZONE, order=order, today=_TODAY), datetime),
        (lambda: values.has_time(cell, order=order), bool),
        (lambda: values.is_unknown(cell), bool),
        (lambda: parse_id(cell), str),
        (lambda: parse_share(cell, mark), Decimal),
        (lambda: parse_currency(cell), str),
        (lambda: parse_status(cell), tuple),
        (lambda: parse_attended(cell), bool),
    )
    for parse, kind in kinds:
        try:
            value = parse()
        except values.CellError as error:
            assert error.code
            assert error.message
            continue
        assert value is None or isinstance(value, kind), (value, kind)
        _check_value(value)
    numbers, dates = values.NumberColumn(), values.DateColumn()
    numbers.add(cell)
    dates.add(cell)
    assert numbers.decide(".") in (".", ",", None)
    dates.decide("de")
    if isinstance(cell, str):
        values.find_moments(cell, order)
        period = values.find_period(cell, "de")
        assert period is None or period[0] <= period[1]
        values.mojibake(cell)
        unit_of(cell)
        header_key(cell)


def _check_value(value: Any) -> None:
    """Amounts are finite and fit the warehouse, days are days of our time."""
    number: Any = value.amount if isinstance(value, values.Amount) else value
    if isinstance(number, Decimal | int) and not isinstance(number, bool):
        assert Decimal(number).is_finite()
        assert abs(Decimal(number)) < values.LIMIT
    elif isinstance(number, date) and not isinstance(number, datetime):
        assert values.FIRST_DAY <= number <= date(_TODAY.year + values.YEARS_AHEAD, 12, 31)


def check_sheet_cell(cell: Any, kind: str, mark: Any, order: Any, header: str) -> None:
    """The same for the cells of the event team's own sheets."""
    at = ReadAs(order, mark, unit_of(header), _context())
    try:
        read_cell(READERS[kind], at, cell)
    except values.CellError as error:
        assert error.code


# --- tables -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _families() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Family of headers → the fields its layout needs."""
    return tuple({layout.family: layout.required for layout in all_layouts()}.items())


@lru_cache(maxsize=1)
def _spellings() -> Mapping[tuple[str, str], tuple[str, ...]]:
    synonyms = load_synonyms()
    return {
        (family, name): tuple(w for words in languages.values() for w in words)
        for family, fields in synonyms.families.items()
        for name, languages in fields.items()
    }


_PLAUSIBLE: Mapping[str, st.SearchStrategy[Any]] = {
    "day": st.dates(date(2026, 1, 1), date(2026, 10, 1)).map(str),
    "campaign": st.sampled_from(("Summit 2026", "夏のイベント", "Brand – DE", "a")),
    "spend": st.decimals(0, 100_000, places=2).map(str),
    "currency": st.sampled_from(("JPY", "EUR", "")),
    "count": st.integers(0, 100_000).map(str),
    "status": st.sampled_from(("confirmed", "キャンセル", "waitlist", "参加", "")),
    "format": st.sampled_from(("オンライン", "In person", "hybrid")),
    "tactic": st.sampled_from(("メルマガ", "Facebook広告", "connpass", "Press release")),
    "name": st.sampled_from(("AI Day", "データ展", "KI-Gipfel")),
}
_DAYS = ("day", "period_start", "period_end", "week", "month", "registered_at", "event_date", "registration_opens")
_NAMED: Mapping[str, str] = {
    "campaign": "campaign", "spend": "spend", "cost": "spend", "budget": "spend", "currency": "currency", "status": "status",
    "format": "format", "tactic": "tactic", "name": "name", "event_name": "name", "event": "name", "text": "name",
    "ticket_type": "name", "campaign_id": "count", "account": "campaign", "ad_group": "campaign", "ad": "campaign",
}  # fmt: skip


def _plausible(name: str) -> st.SearchStrategy[Any]:
    return _PLAUSIBLE["day" if name in _DAYS else _NAMED.get(name, "count")]


@st.composite
def tables(draw: st.DrawFn, *, native: bool = False) -> list[list[Any]]:
    """Rows of a report: lines above, a header in the words of some layout, rows, sums."""
    family, required = draw(st.sampled_from(_families()))
    spelled = _spellings()
    names = [name for (f, name) in spelled if f == family]
    chosen = [n for n in required if draw(st.integers(0, 19))]
    chosen += draw(st.lists(st.sampled_from(names), max_size=6, unique=True))
    chosen = draw(st.permutations(list(dict.fromkeys(chosen))))
    header: list[Any] = []
    for name in chosen:
        words = spelled[family, name] or (name,)
        word = draw(st.sampled_from(words))
        header.append(
            draw(st.sampled_from((word, word, word, word.upper(), f" {word} ", f"{word} (EUR)", f"{word}（税込）")))
        )
    columns = list(chosen)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(header)))
        header.insert(at, draw(st.one_of(_texts, st.sampled_from(header or ["x"]))))
        columns.insert(at, "")
    any_cell = _cells if native else _texts
    rows: list[list[Any]] = []
    for _ in range(draw(st.integers(0, 7))):
        kind = draw(st.integers(0, 11))
        if kind == 0:
            rows.append([])
        elif kind == 1:
            rows.append(
                [draw(st.sampled_from(("Total", "合計", "Total: Account", "Summe", "x")))]
                + [draw(any_cell) for _ in columns[1:]]
            )
        elif kind == 2:
            rows.append(list(header))
        elif kind == 3:
            rows.append(draw(st.lists(any_cell, max_size=len(header) + 3)))
        else:
            odd = draw(st.integers(0, 2)) == 0
            rows.append(
                [draw(any_cell) if not n or (odd and draw(st.booleans())) else draw(_plausible(n)) for n in columns]
            )
    above = draw(
        st.lists(
            st.lists(
                st.one_of(
                    _texts,
                    st.sampled_from(("Report", "1 April 2026 - 30 April 2026", "Report Start: 4/1/2026", "(in UTC)")),
                ),
                max_size=3,
            ),
            max_size=3,
        )
    )
    return [*above, header, *rows]


def _as_text(rows: Sequence[Sequence[Any]], delimiter: str, newline: str) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=newline)
    for row in rows:
        writer.writerow(["" if c is None else str(c).replace("\x00", "") for c in row])
    return out.getvalue()


@st.composite
def csv_files(draw: st.DrawFn) -> bytes:
    """A report as text, in some encoding, now and then damaged."""
    text = _as_text(draw(tables()), draw(st.sampled_from(",;\t|")), draw(st.sampled_from(("\n", "\r\n", "\r"))))
    encoding = draw(
        st.sampled_from(
            ("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp932", "cp1252", "euc_jp")
        )
    )
    raw = text.encode(encoding, errors="replace")
    return draw(_damaged(raw)) if draw(st.integers(0, 5)) == 0 else raw


@st.composite
def _damaged(draw: st.DrawFn, raw: bytes) -> bytes:
    """Bytes cut, doubled, overwritten or swapped somewhere."""
    data = bytearray(raw)
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        what = draw(st.integers(0, 4))
        if what == 0:
            del data[at : at + draw(st.integers(1, 40))]
        elif what == 1:
            data[at:at] = draw(st.binary(min_size=1, max_size=6))
        elif what == 2:
            data[at] = draw(st.integers(0, 255))
        elif what == 3:
            data[at:at] = data[at : at + draw(st.integers(1, 60))]
        else:
            del data[at:]
    return bytes(data)


@lru_cache(maxsize=1)
def _sample_bytes() -> tuple[bytes, ...]:
    files = [
        p for p in sorted(_SAMPLES.rglob("*")) if p.suffix in (".csv", ".json", ".xlsx") and p.name != "expected.json"
    ]
    cut = [p.read_bytes() if p.suffix == ".xlsx" else p.read_bytes()[:6_000] for p in files]
    return tuple(cut) or (b"Day,Campaign,Cost,Impr.,Clicks\n2026-04-01,a,1,2,3\n",)


@st.composite
def sample_files(draw: st.DrawFn) -> bytes:
    """A real export, damaged."""
    return draw(_damaged(draw(st.sampled_from(_sample_bytes()))))


def _excel(cell: Any) -> Any:
    """What openpyxl can write of a cell."""
    if isinstance(cell, str):
        return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "", str(cell))[:32_000]
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    if isinstance(cell, Decimal) and (not cell.is_finite() or cell.adjusted() > 300):
        return None
    if isinstance(cell, datetime):
        cell = cell.replace(tzinfo=None)
    if isinstance(cell, date) and cell.year < 1900:
        return None
    return None if isinstance(cell, timedelta) and abs(cell) > timedelta(days=10_000) else cell


def _saved(book: Any) -> bytes:
    """A workbook's bytes: the same of the same cells, whenever it is saved; none where openpyxl cannot write it."""
    out = io.BytesIO()
    try:
        book.save(out)
    except (ValueError, TypeError, OverflowError, IndexError):
        return b""
    with zipfile.ZipFile(out) as archive:
        return _zipped({name: archive.read(name) for name in archive.namelist() if not name.startswith("docProps/")})


@st.composite
def workbooks(draw: st.DrawFn) -> bytes:
    """A workbook of one or two sheets, with merged cells; now and then with damaged bytes or XML."""
    import openpyxl

    book = openpyxl.Workbook()
    for number in range(draw(st.integers(1, 2))):
        sheet = book.active if number == 0 else book.create_sheet()
        rows = draw(tables(native=True))
        for row in rows:
            sheet.append([_excel(c) for c in row])
        for _ in range(draw(st.integers(0, 2))):
            top, left = draw(st.integers(1, len(rows))), draw(st.integers(1, 5))
            sheet.merge_cells(
                start_row=top,
                start_column=left,
                end_row=top + draw(st.integers(0, 3)),
                end_column=left + draw(st.integers(0, 2)),
            )
        if draw(st.integers(0, 9)) == 0:
            sheet.sheet_state = "hidden" if number else "visible"
    raw = _saved(book)
    how = draw(st.integers(0, 5)) if raw else 5
    if how == 0:
        return draw(_damaged(raw))
    return draw(_damaged_member(raw)) if how == 1 else raw


@st.composite
def _damaged_member(draw: st.DrawFn, raw: bytes) -> bytes:
    """A workbook or archive with one of its parts damaged and the archive sound."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    chosen = draw(st.sampled_from(sorted(parts)))
    parts[chosen] = draw(_damaged(parts[chosen]))
    return _zipped(parts)


def _zipped(parts: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


_member_names = st.sampled_from(
    (
        "a.csv",
        "b/c.csv",
        "__MACOSX/._a.csv",
        ".DS_Store",
        "x.xlsx",
        "deep/er/y.json",
        "広告.csv",
        "z.zip",
        "../up.csv",
        "Thumbs.db",
    )
)


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """gzip, zip, or one within the other, of anything; now and then damaged."""
    content = st.one_of(
        csv_files(), sample_files(), st.binary(max_size=60), st.just(gzip.compress(b"a,b\n1,2\n", mtime=0))
    )
    if draw(st.booleans()):
        raw = _zipped(draw(st.dictionaries(_member_names, content, max_size=3)))
    else:
        raw = gzip.compress(draw(content), 1, mtime=0)
    return draw(_damaged(raw)) if draw(st.integers(0, 2)) == 0 else raw


_json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**18), 10**18),
        st.floats(),
        st.text(max_size=6),
        st.sampled_from(_AWKWARD[:60]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
_metrics = st.dictionaries(
    st.sampled_from((*wh.EMAIL_METRICS, "other")), st.one_of(st.integers(0, 1000), _json_values), max_size=12
)
_stats = st.fixed_dictionaries({"metrics": _metrics}, optional={"name": _json_values, "type": _json_values})
_days = st.fixed_dictionaries(
    {
        "date": st.one_of(st.dates(date(2026, 1, 1), date(2026, 9, 1)).map(str), _json_values),
        "stats": st.lists(_stats, max_size=2),
    }
)


@st.composite
def json_files(draw: st.DrawFn) -> bytes:
    """SendGrid's statistics, nearly; or any JSON; now and then damaged."""
    value = draw(
        st.one_of(
            st.lists(_days, max_size=4), st.lists(_days, max_size=4), _json_values, st.lists(_json_values, max_size=2)
        )
    )
    raw = json.dumps(value, ensure_ascii=draw(st.booleans())).encode(errors="replace")
    return draw(_damaged(raw)) if draw(st.integers(0, 3)) == 0 and raw else raw


_windows = st.sampled_from((None, None, (date(2026, 3, 1), date(2026, 6, 30)), (date(2026, 4, 1), date(2026, 4, 1))))


def check_file(raw: bytes, window: tuple[date, date] | None = None) -> None:
    """A file of these bytes is read or refused in words, and no row of it is lost."""
    path = _home() / "input.bin"
    path.write_bytes(raw)
    synonyms = load_synonyms()
    tables_: list[RawTable] = []
    try:
        tables_.extend(open_tables(path, max_line_bytes=_MAX_LINE, synonyms=synonyms))
    except InputError as error:
        assert error.problems
        assert all(p.code and p.message and p.file for p in error.problems)
    for table in tables_:
        check_table(table, synonyms, window)


def check_table(table: RawTable, synonyms: Synonyms, window: tuple[date, date] | None) -> None:
    """A table that could be opened: recognised or refused, explained, and every row accounted for."""
    is_notes(table)
    try:
        numbers = [row.number for row in table.rows()]
    except InputError:
        numbers = None  # breaks off: then reading it must say so as well
    assert numbers is None or numbers == sorted(set(numbers))
    try:
        layout, _ = recognise(table, synonyms)
    except InputError as error:
        assert all(p.code and p.message for p in error.problems)
        near = closest(table, _context(table))
        assert len(explain(table, near, _context(table))) == len(table.columns)
        return
    assert len(explain(table, layout, _context(table))) == len(table.columns)
    try:
        outcomes = list(layout.read(table, _context(table)))
    except InputError as error:
        assert all(p.code and p.message for p in error.problems)
        _check_refused_in_blocks(table, layout)
        return
    assert numbers is not None, "a table whose rows break off was read"
    assert [o.row for o in outcomes] == numbers, "outcomes are not one for each row, in order"
    for outcome in outcomes:
        _check_outcome(outcome, table, layout, synonyms)
    _check_staged(table, layout, outcomes, window)


def _check_refused_in_blocks(table: RawTable, layout: Layout) -> None:
    try:
        blocks = layout.read_blocks(table, _context(table))
        if blocks is not None:
            for _ in blocks:
                pass
    except InputError:
        return
    assert blocks is None, "refused row by row, but read in blocks"


def _check_outcome(outcome: Outcome, table: RawTable, layout: Layout, synonyms: Synonyms) -> None:
    assert isinstance(outcome, Record | Rejected | Total | Blank)
    if isinstance(outcome, Rejected):
        assert outcome.problems
        titles = {c.title: c.name for c in table.columns}
        assert not [t for t in outcome.values if t in titles and synonyms.personal(titles[t])]
    elif isinstance(outcome, Record):
        assert outcome.table == layout.table
        target = wh.metadata.tables[f"{wh.SCHEMA}.{outcome.table}"]
        unknown = [name for name in outcome.values if name not in target.c and name not in _LOADERS]
        assert not unknown, unknown


#: Values of records that are no column of their table; the loader takes them elsewhere.
_LOADERS = frozenset(("campaign_name", "campaign_type", "account"))


def _check_staged(
    table: RawTable, layout: Layout, outcomes: Sequence[Outcome], window: tuple[date, date] | None
) -> None:
    """Staging keeps, rejects or counts every row, whether it reads rows or blocks."""
    with Staged(_home() / "tmp") as rows:
        staged = stage(table, layout, _context(table), rows, path=table.path, window=window)
        report = staged.report
        kept = 0
        for name in rows.tables:
            if wh.metadata.tables[f"{wh.SCHEMA}.{name}"] in wh.FACT_TABLES:
                for part in rows.days_of(name):
                    kept += part.num_rows
                    _check_alike(part.to_pylist(), outcomes)
            else:
                kept += sum(len(batch.rows) for batch in rows.batches(name))
        rejected = len(list(rows.rejected()))
        accounted = kept + rejected + report.rows_total + report.rows_blank + report.rows_outside
        assert report.rows_read == len(outcomes) == accounted, (report.rows_read, len(outcomes), kept, rejected, report)
        if window is None:
            assert report.rows_total == sum(isinstance(o, Total) for o in outcomes)
            assert report.rows_blank == sum(isinstance(o, Blank) for o in outcomes)
            assert rejected >= sum(isinstance(o, Rejected) for o in outcomes)


_SIX_PLACES = Decimal("0.000001")


def _check_alike(staged: Sequence[Mapping[str, Any]], outcomes: Sequence[Outcome]) -> None:
    """What was staged of a row, maybe read in a block, is what reading that row alone gave."""
    by_row = {o.row: o.values for o in outcomes if isinstance(o, Record)}
    for row in staged:
        alone = by_row[row["source_row"]]
        for name, value in alone.items():
            other = row.get(name)
            if isinstance(value, Decimal):
                assert other is not None, (name, value)
                assert Decimal(other) == value.quantize(_SIX_PLACES), (name, value, other)
            elif not isinstance(value, datetime | dict | list):
                assert other == value, (name, value, other)


# --- mapping files and headers.yaml -----------------------------------------------------------------------------------

_yaml_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 50), st.text(max_size=6), st.dates(), st.sampled_from(("day", "spend", "campaign", "dmy", ",", "EUR", "5-9"))),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.text(max_size=5), st.integers(0, 3)), inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip
_mapping_keys = st.sampled_from((
    "source", "table", "layout", "sheet", "header_row", "headers", "columns", "date_order", "decimal_mark", "currency", "account", "event", "time_zone",
    "period", "skip_rows", "totals", "other",
))  # fmt: skip
_sources = st.sampled_from(("google_ads", "meta_ads", "linkedin_ads", "sendgrid", "registrations", "spreadsheet", "x"))
_columns = st.dictionaries(
    st.sampled_from(("Day", "Campaign", "Cost", "Impr.", "Clicks", "X")),
    st.sampled_from(("day", "campaign", "spend", "impressions", "clicks", None, "z")),
    max_size=6,
)
_mappings = st.dictionaries(_mapping_keys, _yaml_values, max_size=3).flatmap(
    lambda d: st.builds(lambda s, c: {"source": s, "columns": c, **d}, _sources, _columns)
)


def check_mapping(text: str) -> None:
    """A mapping file of this text is read or refused in words; used on a report, it reads or refuses that as well."""
    path = _home() / "mapping.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        mapping = read_mapping(path)
    except InputError as error:
        assert all(p.code == "bad_mapping" and p.message and p.file for p in error.problems)
        return
    report = _home() / "report.csv"
    if not report.exists():
        report.write_text(
            "Day,Campaign,Cost,Impr.,Clicks,X\n2026-04-01,a,1,2,3,4\n3/4/2026,b,1,2,3,4\n\nTotal,,1,1,1,\n",
            encoding="utf-8",
        )
    mappings = Mappings(mapping)
    try:
        (table,) = open_tables(
            report, synonyms=load_synonyms().with_headers(mappings.headers()), header_row=mapping.header_row
        )
        layout = mappings.settle(table, load_synonyms())
        if layout is None:
            return
        outcomes = list(layout.read(table, _context(table)))
    except InputError as error:
        assert error.problems
        return
    assert [o.row for o in outcomes] == [r.number for r in table.rows()]
    _check_staged(table, layout, outcomes, None)


def check_headers_yaml(text: str) -> None:
    """A ``headers.yaml`` of this text is understood or refused in words."""
    folder = _home() / "headers"
    folder.mkdir(exist_ok=True)
    (folder / "headers.yaml").write_text(text, encoding="utf-8", errors="replace")
    try:
        load_synonyms(folder)
    except ConfigurationError as error:
        assert "headers.yaml" in str(error)


_yaml_texts = st.one_of(st.text(max_size=40), _yaml_values.map(lambda v: yaml.safe_dump(v, allow_unicode=True)))
_header_files = st.dictionaries(
    st.sampled_from(("google_ads", "events", "nowhere")),
    st.one_of(_yaml_values, st.dictionaries(st.sampled_from(("day", "name", "x")), st.one_of(_yaml_values, st.dictionaries(st.sampled_from(("ja", "de", "xx")), _yaml_values, max_size=2)), max_size=2)),
    max_size=2,
).map(lambda v: yaml.safe_dump(v, allow_unicode=True))  # fmt: skip


# --- running ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parser:
    """One property: what it makes inputs of, and its share of all examples."""

    name: str
    share: float
    check: Callable[..., None]
    inputs: Mapping[str, st.SearchStrategy[Any]]


PARSERS: tuple[Parser, ...] = (
    Parser("cells", 0.40, check_cell, {"cell": _cells, "mark": _marks, "order": _orders}),
    Parser(
        "sheet cells", 0.12, check_sheet_cell,
        {"cell": _cells, "kind": st.sampled_from(sorted(READERS)), "mark": _marks, "order": _orders, "header": _texts},
    ),
    Parser("reports as text", 0.20, check_file, {"raw": csv_files(), "window": _windows}),
    Parser("damaged samples", 0.08, check_file, {"raw": sample_files(), "window": _windows}),
    Parser("any bytes", 0.06, check_file, {"raw": st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode))}),
    Parser("workbooks", 0.02, check_file, {"raw": workbooks(), "window": _windows}),
    Parser("archives", 0.04, check_file, {"raw": archives()}),
    Parser("JSON", 0.05, check_file, {"raw": json_files(), "window": _windows}),
    Parser("mapping files", 0.03, check_mapping, {"text": st.one_of(_mappings.map(lambda v: yaml.safe_dump(v, allow_unicode=True)), _yaml_texts)}),
    Parser("headers.yaml", 0.02, check_headers_yaml, {"text": st.one_of(_header_files, _yaml_texts)}),
)  # fmt: skip


@dataclass
class Failure:
    """One batch that failed."""

    seed: int
    error: str
    example: str


@dataclass
class Tally:
    """What became of one parser."""

    parser: str
    examples: int = 0
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)


def run_batch(parser: Parser, examples: int, with_seed: int) -> tuple[int, Failure | None]:
    """One batch of inputs.

    Returns:
        How many inputs were tried, and the failure if there was one.
    """
    tried = 0

    def check(**inputs: Any) -> None:
        nonlocal tried
        tried += 1
        parser.check(**inputs)

    wrapped = settings(
        max_examples=examples, database=None, deadline=None, derandomize=False,
        suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink), report_multiple_bugs=False,
    )(given(**parser.inputs)(check))  # fmt: skip
    try:
        seed(with_seed)(wrapped)()
    except Exception as error:  # whatever a parser raises is what is looked for
        notes = " ".join(getattr(error, "__notes__", []))
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        return tried, Failure(with_seed, f"{type(error).__name__}: {error} ({place})"[:600], notes[:2_000])
    return tried, None


def run(examples: int, *, first_seed: int = 1, only: Sequence[str] = (), quiet: bool = False) -> list[Tally]:
    """All parsers, by their shares.

    Args:
        only: names of parsers; all by default, each then gets its share of ``examples``.
    """
    chosen = [p for p in PARSERS if not only or p.name in only]
    whole = sum(p.share for p in chosen)
    tallies = []
    for parser in chosen:
        wanted = max(1, round(examples * parser.share / whole))
        tally = Tally(parser.name)
        started, number = perf_counter(), first_seed
        while tally.examples < wanted:
            tried, failure = run_batch(parser, min(_BATCH, wanted - tally.examples), number)
            tally.examples += tried
            if failure is not None:
                tally.failures.append(failure)
            if not tried:
                break
            number += 1
        tally.seconds = perf_counter() - started
        tallies.append(tally)
        if not quiet:
            print(
                f"{parser.name:18} {tally.examples:>8,} inputs {tally.seconds:8.1f} s {len(tally.failures):>4} failures",
                flush=True,
            )
            for failure in tally.failures[:5]:
                print(f"    seed {failure.seed}: {failure.error}\n    {failure.example}", flush=True)
    return tallies


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--examples", type=int, default=100_000, help="inputs in all")
    parser.add_argument(
        "--only", action="append", default=[], choices=[p.name for p in PARSERS], help="only this parser"
    )
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(1, 10**6), help="of the first batch"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    tallies = run(options.examples, first_seed=options.seed, only=options.only, quiet=options.json)
    failures = sum(len(t.failures) for t in tallies)
    total = sum(t.examples for t in tallies)
    if options.json:
        report = {
            "examples": total,
            "failures": failures,
            "first_seed": options.seed,
            "parsers": [asdict(t) for t in tallies],
        }
        print(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        print(f"{total:,} inputs, {failures} failures; seeds from {options.seed}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
