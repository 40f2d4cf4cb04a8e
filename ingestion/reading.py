"""Tables out of files, by content and never by name: CSV of any delimiter and encoding, XLSX, SendGrid's JSON.

They may stand in gzip or zip files. Each member of an archive and each sheet of a workbook is a table of its own: one
that is damaged does not cost the others. What is no table (``.xls``, Numbers, PDF, a web page) is refused with the way
out.

A file is streamed: once to find out what it is (:func:`open_tables`), then as often as :meth:`RawTable.rows` is asked.
No more than one line, and for XLSX the workbook's shared strings, is held in memory. A line longer than the limit is
refused before it is read.

What stands above the header row (report name, period, "(in UTC)", when it was made) is kept as
:attr:`RawTable.preamble` and read into :attr:`RawTable.stated`. Row numbers are those a spreadsheet shows.
"""

from __future__ import annotations

import calendar
import codecs
import csv
import gzip
import io
import itertools
import json
import re
import shutil
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, NoReturn, cast
from zoneinfo import ZoneInfo, available_timezones

from ingestion.headers import Synonyms, header_key, load_synonyms, split_note
from ingestion.values import (
    Cell,
    CellError,
    Formula,
    find_moments,
    find_period,
    fold,
    is_unknown,
    mojibake,
    parse_money,
    parse_month,
    parse_number,
)
from turnout.errors import InputError, Problem

DEFAULT_MAX_LINE_BYTES = 1_000_000
#: How far down a header row is looked for.
_HEADER_SEARCH_ROWS = 60
_CHUNK = 1 << 18
_DELIMITERS = (",", "\t", ";", "|")
#: A workbook's strings and one sheet, unpacked. Beyond it is a zip bomb or no organiser's table.
_MAX_UNPACKED = 1 << 30
_MAX_SHARED_STRINGS = 200 << 20
#: Tables shrink to a tenth or a fiftieth. What unpacks to this many times its size is a bomb, if it is also large.
_MAX_RATIO = 200
_RATIO_COUNTS_FROM = 100 << 20
_MAX_MEMBERS = 1_000
#: What systems leave in archives and folders beside what people put there.
_JUNK = frozenset(("thumbs.db", "desktop.ini", "icon\r"))


class Row(NamedTuple):
    """One row. ``number`` counts from 1 as a spreadsheet shows it."""

    number: int
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        index: position, from 0.
        name: the header as written; ``column C`` where it is empty.
        title: like ``name``, but a repeated header is numbered: ``Currency code (2)``.
        note: what stands in brackets at the end: a currency, a unit, a time zone.
    """

    index: int
    name: str
    title: str
    note: str | None = None

    @property
    def key(self) -> str:
        """The header folded for comparison."""
        return header_key(self.name)


@dataclass(frozen=True, slots=True)
class Stated:
    """What the lines above the header, and the headers' notes, say of the report."""

    title: str | None = None
    period: tuple[date, date] | None = None
    generated: datetime | None = None
    time_zone: str | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What somebody has settled about a table in a mapping file; see :mod:`ingestion.mapped`.

    Attributes:
        by: the mapping file, for messages; ``None`` where there is none.
        date_order, decimal_mark: of every column, in place of what the cells show.
        skipped: rows that are not read, by number; they count as blank.
        account, event: in place of the folder's and the caller's.
        time_zone: of the days, in place of the platform's.
        layout: name of the layout to read the table with.
        synonyms: the headers known, the mapping's own before all others.
    """

    by: str | None = None
    date_order: Literal["ymd", "mdy", "dmy"] | None = None
    decimal_mark: Literal[".", ","] | None = None
    skipped: frozenset[int] = frozenset()
    account: str | None = None
    event: str | None = None
    time_zone: str | None = None
    layout: str | None = None
    synonyms: Synonyms | None = None


@dataclass
class RawTable:
    """One table of a file (one sheet of a workbook), its cells untyped.

    Attributes:
        file: name for messages; ``archive.zip/name.csv`` inside an archive.
        sheet: sheet of a workbook, else ``None``.
        format: ``csv``, ``xlsx`` or ``json``.
        language: the one most headers are in, ``None`` where none is known.
        size: bytes of the file on disk; ``bytes_read`` moves towards it while :meth:`rows` is iterated.
        notes: what a user should know of the table as a whole; :meth:`rows` may add to it.
        days_from_1904: whether plain numbers in columns of dates count from 1904, as in workbooks of old Macs.
        settled: what a mapping file says.
    """

    path: Path
    file: str
    sheet: str | None
    format: str
    encoding: str | None
    delimiter: str | None
    preamble: tuple[Row, ...]
    columns: tuple[Column, ...]
    header_row: int
    stated: Stated
    language: str | None
    size: int
    source: _Source = field(repr=False)
    bytes_read: int = 0
    notes: list[str] = field(default_factory=list)
    days_from_1904: bool = False
    settled: Settled = field(default_factory=Settled)

    def rows(self) -> Iterator[Row]:
        """The rows below the header, from the start each time.

        Raises:
            InputError: the file breaks off or a line is too long.
        """
        self.bytes_read = 0
        skipped = self.settled.skipped
        for row in self.source.rows(self):
            if row.number > self.header_row:
                yield Row(row.number, ()) if skipped and row.number in skipped else row
        self.bytes_read = self.size

    def note(self, message: str) -> None:
        """Keep what a user should know, once however often the rows are read."""
        if message not in self.notes:
            self.notes.append(message)

    def problem(
        self, code: str, message: str, *, row: int | None = None, column: str | None = None, value: str | None = None
    ) -> Problem:
        """A :class:`Problem` that knows its file and sheet."""
        return Problem(code, message, file=self.file, sheet=self.sheet, row=row, column=column, value=value)


# --- bytes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Container:
    """Where the bytes of one table are: a plain file, a gzip file, or a member of a zip archive."""

    path: Path
    kind: str = "plain"
    member: str | None = None
    #: The member's name as its author wrote it.
    shown: str | None = None

    @property
    def name(self) -> str:
        return self.path.name if self.member is None else f"{self.path.name}/{self.shown or self.member}"

    @contextmanager
    def open(self) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """The stream of contents, and the stream on disk whose position says how far one is."""
        with self.path.open("rb") as disk:
            if self.kind == "gzip":
                with gzip.GzipFile(fileobj=disk) as stream:
                    yield cast("IO[bytes]", stream), disk
            elif self.kind == "zip":
                assert self.member is not None
                with zipfile.ZipFile(disk) as archive, archive.open(self.member) as stream:
                    yield stream, disk
            else:
                yield disk, disk

    @contextmanager
    def seekable(self) -> Iterator[IO[bytes]]:
        """The contents as a stream one can move about in, as workbooks need."""
        with self.open() as (stream, disk):
            if self.kind == "plain":
                yield disk
                return
            with tempfile.SpooledTemporaryFile(max_size=32 << 20) as copy:
                shutil.copyfileobj(_Bounded(stream, _MAX_UNPACKED, self.name), copy, 1 << 20)
                copy.seek(0)
                yield cast("IO[bytes]", copy)


class _Bounded:
    """A stream that is refused when it holds more than ``limit`` bytes."""

    def __init__(self, stream: IO[bytes], limit: int, file: str) -> None:
        self._stream, self._left, self._limit, self._file = stream, limit, limit, file

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            _refuse_as_bomb(self._file, self._limit)
        return data


def _refuse_as_bomb(file: str, unpacked: int) -> NoReturn:
    _refuse(
        "too_large",
        f"the archive unpacks to {unpacked >> 20:,} MB or more, far beyond its own size; unpack it and hand in the "
        "tables themselves",
        file,
    )


@contextmanager
def _explained(file: str) -> Iterator[None]:
    """Turn the errors of damaged archives and vanished files into messages."""
    try:
        yield
    except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        _refuse("damaged", f"the archive is damaged or breaks off ({error}); export the file again", file)
    except (RuntimeError, NotImplementedError) as error:  # zipfile: encrypted, unknown compression
        _refuse("damaged", f"the archive cannot be opened ({error}); pack it again as a plain zip", file)
    except FileNotFoundError:
        _refuse("no_file", "there is no such file", file)
    except IsADirectoryError:
        _refuse("no_file", "this is a folder, not a file", file)
    except PermissionError:
        _refuse("no_file", "the file may not be read; check its permissions", file)
    except OSError as error:
        _refuse("damaged", f"the file cannot be read ({error.strerror or error})", file)


def _refuse(code: str, message: str, file: str, *, sheet: str | None = None, row: int | None = None) -> NoReturn:
    raise InputError([Problem(code, message, file=file, sheet=sheet, row=row)])


_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (
        b"\xd0\xcf\x11\xe0",
        "old_spreadsheet",
        "this is a workbook of the old format .xls; open it and save it as .xlsx or CSV",
    ),
    (b"Rar!", "not_a_table", "this is a RAR archive; unpack it, or pack it as zip"),
    (b"7z\xbc\xaf", "not_a_table", "this is a 7-Zip archive; unpack it, or pack it as zip"),
    (b"\x28\xb5\x2f\xfd", "not_a_table", "this is a Zstandard archive; unpack it, or pack it as gzip or zip"),
    (b"BZh", "not_a_table", "this is a bzip2 archive; unpack it, or pack it as gzip or zip"),
    (b"GIF8", "not_a_table", "this is a picture; export the report as CSV or XLSX"),
    (b"{\\rtf", "not_a_table", "this is a text document; export the report as CSV or XLSX"),
    (b"%PDF", "not_a_table", "this is a PDF; export the report as CSV or XLSX"),
    (b"\x89PNG", "not_a_table", "this is a picture; export the report as CSV or XLSX"),
    (b"\xff\xd8\xff", "not_a_table", "this is a picture; export the report as CSV or XLSX"),
    (b"PAR1", "not_a_table", "this is a Parquet file; export the report as CSV or XLSX"),
    (b"SQLite format 3", "not_a_table", "this is a database; export the table as CSV or XLSX"),
)  # fmt: skip


@dataclass(frozen=True)
class _Probe:
    """What one pass over the bytes tells."""

    format: str
    encoding: str | None


_BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


def _probe(container: _Container, max_line_bytes: int) -> _Probe:
    """What the bytes are. Long lines are noticed here, before anything would have to hold one."""
    with _explained(container.name), container.open() as (stream, _):
        head = stream.read(_CHUNK)
        if not head.strip(b"\x00 \t\r\n\xef\xbb\xbf\xff\xfe"):
            rest = stream.read(_CHUNK)
            if not rest.strip(b"\x00 \t\r\n"):
                _refuse("empty_file", "the file is empty; export it again", container.name)
            head += rest
        for magic, code, message in _MAGIC:
            if head.startswith(magic):
                locked = code == "old_spreadsheet" and "EncryptedPackage".encode("utf-16-le") in head
                _refuse(code, "the workbook has a password; save it without one" if locked else message, container.name)
        encoding = next((name for bom, name in _BOMS if head.startswith(bom)), None) or _utf16_without_bom(head)
        if encoding is None and b"\x00" in head:
            _refuse("not_a_table", "this is a binary file; export the table as CSV or XLSX", container.name)
        start = head[:400].decode(encoding or "utf-8", errors="replace").lstrip("\ufeff \t\r\n")
        if start.startswith(("[", "{")) and re.match(r"\[\s*[\[{\]]|\{\s*[\"}]", start):
            return _Probe("json", encoding or "utf-8")
        if start.startswith("<"):
            _refuse_markup(start, head, encoding, container.name)
        packed = container.path.stat().st_size if container.kind == "gzip" else None
        found = _scan_text(head, stream, encoding, container.name, max_line_bytes, packed)
    return _Probe("csv", found)


def _refuse_markup(start: str, head: bytes, encoding: str | None, file: str) -> None:
    """A web page, XML, or what some systems save as ``.xls`` and is one of these."""
    text = head.decode(encoding or "utf-8", errors="replace").lower()
    if "urn:schemas-microsoft-com:office:spreadsheet" in text:
        message = "this is an XML spreadsheet of 2003, whatever its name says; open it and save it as .xlsx or CSV"
        _refuse("old_spreadsheet", message, file)
    if re.match(r"<(?:!doctype|html|head|meta|body|style|table|div|\?xml)\b", start, re.IGNORECASE):
        if "<table" in text and "<tr" in text:
            message = (
                "this is a web page with a table in it, as some systems save under the name .xls; open it in a "
                "spreadsheet program and save it as .xlsx or CSV"
            )
            _refuse("not_a_table", message, file)
        _refuse("not_a_table", "this is a web page or XML, not a table; export the report as CSV or XLSX", file)


def _utf16_without_bom(head: bytes) -> str | None:
    """UTF-16 shows in its line ends, digits and delimiters: every other byte of them is zero."""
    sample = head[: 1 << 14]
    if len(sample) < 4 or sample.count(0) < len(sample) // 50 + 1:
        return None
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if odd > 4 * even:
        return "utf-16-le"
    return "utf-16-be" if even > 4 * odd else None


def _scan_text(
    head: bytes, stream: IO[bytes], encoding: str | None, file: str, max_line_bytes: int, packed: int | None = None
) -> str:
    """Go over all bytes once: no line too long, and is it UTF-8 throughout? Returns the encoding.

    Args:
        packed: size of the gzip file the bytes come from.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("strict") if encoding is None else None
    plain_utf8, broken, valid = True, 0, 0
    since_newline = 0
    foreign = bytearray()
    unpacked = 0
    for chunk in itertools.chain((head,), iter(lambda: stream.read(_CHUNK), b"")):
        unpacked += len(chunk)
        if packed is not None and unpacked > max(_RATIO_COUNTS_FROM, _MAX_RATIO * packed):
            _refuse_as_bomb(file, unpacked)
        last = max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
        longest = _longest_line(chunk, since_newline, max_line_bytes)
        if longest > max_line_bytes:
            _refuse(
                "line_too_long",
                f"a line is longer than {max_line_bytes:,} bytes, so this is not a table with one row per line; "
                "export it again (the limit is TURNOUT_MAX_LINE_BYTES)",
                file,
            )
        since_newline = len(chunk) - last - 1 if last >= 0 else since_newline + len(chunk)
        if decoder is None or chunk.isascii():
            continue
        if plain_utf8:
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                plain_utf8 = False
        if len(foreign) < 1 << 20:
            foreign += b"\n".join(
                line for line in chunk.split(b"\n")[1 if last >= 0 and foreign else 0 :] if not line.isascii()
            )
            foreign += b"\n"
    if encoding is not None:
        return encoding
    if plain_utf8 and decoder is not None:
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            plain_utf8 = False
    if plain_utf8:
        return "utf-8"
    valid, broken = _utf8_share(bytes(foreign))
    if valid > 9 * broken:
        return "utf-8"  # a few broken places in UTF-8: they become U+FFFD and are reported row by row
    return _legacy_encoding(bytes(foreign))


def _longest_line(chunk: bytes, carried: int, limit: int) -> int:
    """Length of the longest line that ends in, or reaches over, ``chunk``, looked at no closer than needed."""
    first = min((p for p in (chunk.find(b"\n"), chunk.find(b"\r")) if p >= 0), default=-1)
    if first < 0:
        return carried + len(chunk)
    if carried + first > limit or len(chunk) <= limit:
        return carried + first
    return max(carried + first, *map(len, re.split(rb"[\r\n]", chunk)))


def _utf8_share(raw: bytes) -> tuple[int, int]:
    """How many non-ASCII characters of ``raw`` are sound UTF-8, and how many places are not."""
    text = raw.decode("utf-8", errors="replace")
    broken = text.count("\ufffd")
    return sum(not c.isascii() for c in text) - broken, broken


_LEVEL_1_KANJI = (0x889F, 0x9872)


def _japanese_score(text: str) -> float:
    """How much like Japanese prose ``text`` is: kana and everyday kanji for, half-width kana and gaps against."""
    score, counted = 0.0, 0
    for char in text:
        code = ord(char)
        if code < 0x80:
            continue
        counted += 1
        if 0x3041 <= code <= 0x30FF or 0x3000 <= code <= 0x303F or 0xFF01 <= code <= 0xFF60:
            score += 1.0
        elif 0x4E00 <= code <= 0x9FFF:
            raw = char.encode("cp932", errors="replace")
            everyday = len(raw) == 2 and _LEVEL_1_KANJI[0] <= int.from_bytes(raw, "big") <= _LEVEL_1_KANJI[1]
            score += 1.0 if everyday else -0.5
        elif 0xFF61 <= code <= 0xFF9F or 0xE000 <= code <= 0xF8FF:
            score -= 1.0
        else:
            score += 0.2
    return score / counted if counted else 0.0


def _legacy_encoding(raw: bytes) -> str:
    """Shift_JIS, EUC-JP or a Western code page, by which reading makes sense."""
    best, best_score = "cp1252", 0.35
    for encoding in ("cp932", "euc_jp"):
        text = raw.decode(encoding, errors="replace")
        characters = sum(not c.isascii() for c in text)
        lost = text.count("\ufffd")
        if lost * 20 > characters:
            continue
        score = _japanese_score(text.replace("\ufffd", "")) - 5 * lost / max(characters, 1)
        if score > best_score:
            best, best_score = encoding, score
    if best == "cp1252":
        try:
            raw.decode("cp1252")
        except UnicodeDecodeError:
            return "latin-1"
    return best


# --- sources of rows -------------------------------------------------------------------------------------------------


class _Source(ABC):
    """Gives the rows of one table, header and preamble included, numbered from 1."""

    @abstractmethod
    def rows(self, table: RawTable | None) -> Iterator[Row]:
        """All rows from the start; ``table`` is told how far one is."""


@dataclass
class _CsvSource(_Source):
    container: _Container
    encoding: str
    delimiter: str
    max_line_bytes: int

    def rows(self, table: RawTable | None) -> Iterator[Row]:
        with _explained(self.container.name), self.container.open() as (stream, disk):
            text = io.TextIOWrapper(
                cast("IO[bytes]", io.BufferedReader(_Raw(stream), 1 << 17)), self.encoding, "replace", newline=""
            )
            lines = _limited_lines(text, self.max_line_bytes, self.container.name)
            reader = csv.reader(_without_separator_hint(lines), delimiter=self.delimiter, strict=False)
            number = 0
            while True:
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    _refuse(
                        "broken_csv",
                        f"the text cannot be split into cells ({error}); a quotation mark is probably not closed",
                        self.container.name,
                        row=number + 1,
                    )
                number += 1
                if table is not None and not number & 0x3FF:
                    table.bytes_read = disk.tell()
                yield Row(number, cells)


class _Raw(io.RawIOBase):
    """A readable stream as the RawIOBase that BufferedReader wants, so that every container reads alike."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _limited_lines(text: io.TextIOWrapper, limit: int, file: str) -> Iterator[str]:
    """Lines of at most ``limit`` characters; more is an error before more is read. NUL characters are dropped."""
    number = 0
    while line := text.readline(limit + 1):
        number += 1
        if len(line) > limit:
            _refuse(
                "line_too_long",
                f"line {number} is longer than {limit:,} characters, so this is not a table with one row per line; "
                "export it again (the limit is TURNOUT_MAX_LINE_BYTES)",
                file,
                row=number,
            )
        yield line.replace("\0", "") if "\0" in line else line


def _without_separator_hint(lines: Iterator[str]) -> Iterator[str]:
    """Blank out Excel's ``sep=;`` line: it is a row to a spreadsheet, but none of the table's."""
    first = next(lines, None)
    if first is not None:
        yield "\n" if re.match(r'^\ufeff?"?sep=.', first, re.IGNORECASE) else first
        yield from lines


@dataclass(frozen=True)
class _Shape:
    """What of a sheet stands outside of its cells.

    Attributes:
        merged: (first row, first column, last row) of cells merged over several rows; rows from 1, columns from 0.
        hidden: how many rows are hidden.
    """

    merged: tuple[tuple[int, int, int], ...] = ()
    hidden: int = 0


_MERGED = re.compile(rb'<(?:\w+:)?mergeCell\s[^>]*?ref="([A-Z]+)(\d+):([A-Z]+)(\d+)"')
_HIDDEN = re.compile(rb'<(?:\w+:)?row\s[^>]*?\bhidden="(?:1|true)"')


def _shape(book: Any, sheet: Any, file: str) -> _Shape:
    """Merged cells and hidden rows, which openpyxl does not tell when it streams: looked for in the sheet's XML."""
    merged: list[tuple[int, int, int]] = []
    hidden = 0
    part = getattr(sheet, "_worksheet_path", None)
    archive = getattr(book, "_archive", None)
    if part is None or archive is None:
        return _Shape()
    with _explained(file), archive.open(part) as stream:
        kept = b""
        while chunk := stream.read(1 << 20):
            text = kept + chunk
            end = text.rfind(b"<")  # the last element may go on in the next chunk
            if end < 0 or len(text) - end > _CHUNK:
                end = len(text)
            whole, kept = text[:end], text[end:]
            hidden += len(_HIDDEN.findall(whole)) if b"hidden=" in whole else 0
            for left, top, _, bottom in _MERGED.findall(whole) if b"mergeCell" in whole else ():
                if bottom != top and len(merged) < _MAX_MERGED:
                    merged.append((int(top), _column_index(left.decode()), int(bottom)))
    return _Shape(tuple(sorted(merged)), hidden)


#: A sheet with more merged cells than this is a picture, not a table.
_MAX_MERGED = 100_000


def _column_index(letters: str) -> int:
    """``A`` → 0, ``AB`` → 27."""
    index = 0
    for letter in letters:
        index = index * 26 + ord(letter) - 64
    return index - 1


def _goes_for_all(cell: Cell) -> bool:
    """Whether what merged cells say holds for each of their rows: a text or a day does, a figure is one figure."""
    if isinstance(cell, Formula):
        return cell.result is not None and _goes_for_all(cell.result)
    if isinstance(cell, datetime | date):
        return True
    if not isinstance(cell, str) or is_unknown(cell):
        return False
    try:
        parse_money(cell, allow_negative=True)
    except CellError:
        return True
    return False


@dataclass
class _XlsxSource(_Source):
    container: _Container
    sheet: str
    shape: _Shape = field(default_factory=_Shape)

    def rows(self, table: RawTable | None) -> Iterator[Row]:
        with _workbook(self.container) as book, ExitStack() as stack:
            sheet = book[self.sheet]
            sheet.reset_dimensions()  # exporters write wrong dimensions; the rows themselves tell
            total = max(sheet.max_row or 0, 1)
            results: Iterator[tuple[int, Sequence[Any]]] | None = None
            merged = _MergedCells(self.shape.merged)
            for number, cells in enumerate(_sheet_rows(sheet, self.container.name, self.sheet), start=1):
                if table is not None and not number & 0xFF:
                    table.bytes_read = min(table.size, table.size * number // max(total, number))
                row = [_xlsx_cell(c) for c in cells]
                if any(isinstance(c, Formula) for c in row):
                    results = self._results(stack) if results is None else results
                    saved = next((r for n, r in results if n == number), ())
                    row = [
                        Formula(c, _result(saved[i]) if i < len(saved) else None) if isinstance(c, Formula) else c
                        for i, c in enumerate(row)
                    ]
                merged.fill(number, row, table)
                yield Row(number, row)

    def _results(self, stack: ExitStack) -> Iterator[tuple[int, Sequence[Any]]]:
        """The same rows with formulas' results as last saved; opened only when a first formula is met."""
        sheet = stack.enter_context(_workbook(self.container, results=True))[self.sheet]
        sheet.reset_dimensions()
        return enumerate(_sheet_rows(sheet, self.container.name, self.sheet, values_only=False), start=1)


class _MergedCells:
    """Writes what cells merged over several rows say into each of these rows, as a reader of the sheet would."""

    def __init__(self, merged: Sequence[tuple[int, int, int]]) -> None:
        self._waiting = list(reversed(merged))
        #: Column → last row and content.
        self._open: dict[int, tuple[int, Cell]] = {}

    def fill(self, number: int, row: list[Cell], table: RawTable | None) -> None:
        """Complete row ``number``; to be called with every row in order."""
        for column, (last, content) in list(self._open.items()):
            if number > last:
                del self._open[column]
                continue
            row.extend([None] * (column + 1 - len(row)))
            if row[column] is None:
                row[column] = content
        while self._waiting and self._waiting[-1][0] <= number:
            first, column, last = self._waiting.pop()
            content = row[column] if first == number and column < len(row) else None
            if _goes_for_all(content):
                self._open[column] = (last, content)
            elif table is not None and _filled(content) and first > table.header_row:
                name = table.columns[column].title if column < len(table.columns) else column_letter(column)
                table.note(
                    f"{name!r} has figures in cells merged over several rows: each counts once, in the first of them, "
                    "and is unknown in the others"
                )


def _result(cell: Any) -> Cell:
    """A formula's result; the empty text that ``=IF(A1="","",…)`` gives differs from no result at all."""
    return "" if cell.value is None and cell.data_type == "str" else _xlsx_cell(cell.value)


def _sheet_rows(sheet: Any, file: str, name: str, *, values_only: bool = True) -> Iterator[Sequence[Any]]:
    rows = sheet.iter_rows(values_only=values_only)
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except Exception as error:
            # openpyxl raises whatever its XML parser meets: KeyError, ValueError, ParseError, …
            raise InputError(
                [Problem("damaged", f"the sheet cannot be read ({error})", file=file, sheet=name)]
            ) from error
        yield cells


def _xlsx_cell(value: Any) -> Cell:
    if isinstance(value, str):
        return Formula(value) if value.startswith("=") and len(value) > 1 else value
    if value is None or isinstance(value, bool | int | float | datetime | date | time | timedelta):
        return cast("Cell", value)
    text = getattr(value, "text", None)  # ArrayFormula and its like
    return Formula(text if isinstance(text, str) and text.startswith("=") else "=…")


@contextmanager
def _workbook(container: _Container, *, results: bool = False) -> Iterator[Any]:
    """A workbook with its formulas, or with their ``results`` as the spreadsheet program last saved them."""
    import openpyxl

    file = container.name
    with _explained(file), container.seekable() as stream:  # as a stream: openpyxl goes by the name otherwise
        try:
            book = openpyxl.load_workbook(stream, read_only=True, data_only=results)
        except InputError:
            raise
        except Exception as error:
            # openpyxl raises whatever its XML parser meets: KeyError, ValueError, BadZipFile, ParseError, …
            raise InputError(
                [Problem("damaged", f"the workbook cannot be opened ({error}); save it again as .xlsx", file=file)]
            ) from error
        try:
            yield book
        finally:
            book.close()


@dataclass
class _JsonSource(_Source):
    """SendGrid's statistics: ``[{date, stats: [{type, name, metrics: {…}}]}]`` as one row per date and category."""

    container: _Container
    encoding: str
    max_element: int
    header: tuple[str, ...]

    def rows(self, table: RawTable | None) -> Iterator[Row]:
        yield Row(0, list(self.header))
        number = 0
        for element, position in _json_elements(self.container, self.encoding, self.max_element):
            if table is not None:
                table.bytes_read = position
            for entry in _stats(element, self.container.name, number):
                number += 1
                yield Row(number, [entry.get(name) for name in self.header])


def _stats(element: Any, file: str, number: int) -> Iterator[dict[str, Any]]:
    """The flat rows of one element of SendGrid's answer."""
    if not isinstance(element, dict) or not isinstance(element.get("stats"), list) or "date" not in element:
        _refuse(
            "unknown_json",
            'this JSON is not SendGrid\'s statistics, [{"date": …, "stats": [{"metrics": {…}}]}]; '
            "export the table as CSV or XLSX",
            file,
            row=number + 1,
        )
    for stat in element["stats"]:
        metrics = stat.get("metrics") if isinstance(stat, dict) else None
        if not isinstance(metrics, dict):
            _refuse("unknown_json", 'an entry of "stats" has no "metrics"', file, row=number + 1)
        flat = {"date": element["date"], "category": stat.get("name"), **metrics}
        yield {k: json.dumps(v, default=str) if isinstance(v, dict | list) else v for k, v in flat.items()}


def _json_elements(container: _Container, encoding: str, limit: int) -> Iterator[tuple[Any, int]]:
    """The elements of a JSON array, one at a time; a single object counts as an array of one."""
    decoder = json.JSONDecoder(parse_float=Decimal)
    with _explained(container.name), container.open() as (stream, disk):
        text = io.TextIOWrapper(cast("IO[bytes]", io.BufferedReader(_Raw(stream), 1 << 17)), encoding, "replace")
        buffer = text.read(_CHUNK).lstrip("\ufeff \t\r\n")
        array, ended, count = buffer.startswith("["), False, 0
        buffer = buffer[1:] if array else buffer
        while True:
            buffer = buffer.lstrip(" \t\r\n,") if count else buffer.lstrip()
            if array and buffer.startswith("]"):
                return
            try:
                element, end = decoder.raw_decode(buffer)
            except (ValueError, RecursionError) as error:  # also of a number with thousands of digits
                if ended or len(buffer) > limit:
                    _refuse(
                        "broken_json", f"the JSON breaks off or is not valid ({error}); export it again", container.name
                    )
                more = text.read(_CHUNK)
                ended = not more
                buffer += more
                continue
            yield element, disk.tell()
            count += 1
            buffer = buffer[end:]
            if not array:
                return


# --- opening ---------------------------------------------------------------------------------------------------------


def open_tables(
    path: Path,
    *,
    max_line_bytes: int = DEFAULT_MAX_LINE_BYTES,
    synonyms: Synonyms | None = None,
    header_row: Callable[[str | None], int | None] | None = None,
) -> Iterator[RawTable]:
    """The tables of a file: one for CSV and JSON, one per sheet with content of a workbook, all of an archive.

    Args:
        synonyms: the headers known, by which the header row is found; the shipped ones by default.
        header_row: of a sheet (``None``: no workbook), where its header stands, if that is known.

    Raises:
        InputError: the file is empty, no table, damaged, has a line longer than ``max_line_bytes``, or its header is
            mojibake. The message names the file and the way out. Of several tables the sound ones come first.
    """
    synonyms = synonyms or load_synonyms()
    csv.field_size_limit(max_line_bytes)
    how = _How(max_line_bytes, synonyms, header_row or (lambda _: None))
    with _explained(path.name), path.open("rb") as file:
        magic = file.read(4)
    if magic[:2] == b"\x1f\x8b":
        yield from _open_any(_Container(path, "gzip"), how)
    elif magic in (b"PK\x03\x04", b"PK\x05\x06"):
        yield from _open_zip(path, how)
    else:
        yield from _open_text(_Container(path), how)


@dataclass(frozen=True)
class _How:
    """What is the same for all tables of a file."""

    max_line_bytes: int
    synonyms: Synonyms
    header_row: Callable[[str | None], int | None]


def _each(opened: Iterable[Iterator[RawTable]]) -> Iterator[RawTable]:
    """All tables that can be opened; what is wrong with the others is said at the end."""
    problems: list[Problem] = []
    for tables in opened:
        try:
            yield from tables
        except InputError as error:
            problems.extend(error.problems)
    if problems:
        raise InputError(problems)


_PACKED_DOCUMENTS = (
    (re.compile(r"^Index/.*\.iwa$|^Index\.zip$"), "this is an Apple Numbers (or Pages, Keynote) document; use File > "
     "Export To > Excel or CSV"),
    (re.compile(r"^xl/workbook\.bin$"), "this is a binary workbook, .xlsb; save it as .xlsx"),
    (re.compile(r"^content\.xml$"), "this is an OpenDocument file, .ods; save it as .xlsx or CSV"),
)  # fmt: skip


def _open_zip(path: Path, how: _How) -> Iterator[RawTable]:
    with _explained(path.name), zipfile.ZipFile(path) as archive:
        members = [m for m in archive.infolist() if not m.is_dir()]
    names = {m.filename for m in members}
    for pattern, message in _PACKED_DOCUMENTS:
        if any(pattern.match(n) for n in names):
            _refuse("old_spreadsheet", message, path.name)
    if "[Content_Types].xml" in names:
        _check_workbook(members, path.name)
        yield from _open_xlsx(_Container(path), how)
        return
    wanted = [m for m in members if not _is_junk(m.filename)]
    if not wanted:
        _refuse("empty_file", "the archive holds no file", path.name)
    if len(wanted) > _MAX_MEMBERS:
        _refuse("too_large", f"the archive holds {len(wanted):,} files; at most {_MAX_MEMBERS:,} are read", path.name)
    yield from _each(_open_member(path, m, how) for m in sorted(wanted, key=lambda m: m.filename))


def _check_workbook(members: Sequence[zipfile.ZipInfo], file: str) -> None:
    if not any(m.filename.startswith("xl/") for m in members):
        _refuse("not_a_table", "this is a document, not a workbook; save the table as CSV or XLSX", file)
    for member in members:
        limit = _MAX_SHARED_STRINGS if member.filename.endswith("sharedStrings.xml") else _MAX_UNPACKED
        if member.filename.endswith(".xml") and member.file_size > limit:
            message = f"the workbook unpacks to more than {limit >> 20} MB; export it as CSV instead"
            _refuse("too_large", message, file)


def _is_junk(name: str) -> bool:
    """What systems and programs put beside the files one packs: resource forks, thumbnails, locks."""
    parts = name.replace("\\", "/").split("/")
    return "__MACOSX" in parts or parts[-1].startswith((".", "~$")) or parts[-1].lower() in _JUNK


def _open_member(path: Path, member: zipfile.ZipInfo, how: _How) -> Iterator[RawTable]:
    shown = member.filename
    if not member.flag_bits & 0x800:  # not said to be UTF-8: zipfile took it for the code page of DOS
        for encoding in ("utf-8", "cp932"):
            try:
                shown = member.filename.encode("cp437").decode(encoding)
                break
            except UnicodeError:
                continue
    container = _Container(path, "zip", member.filename, shown)
    if member.flag_bits & 0x1:
        message = "the archive has a password; unpack it, or pack it again without one"
        _refuse("encrypted", message, container.name)
    if member.file_size > max(_RATIO_COUNTS_FROM, _MAX_RATIO * member.compress_size):
        _refuse_as_bomb(container.name, member.file_size)
    yield from _open_any(container, how)


def _open_any(container: _Container, how: _How) -> Iterator[RawTable]:
    """Text or a workbook within gzip or zip; an archive within an archive is refused."""
    with _explained(container.name), container.open() as (stream, _):
        magic = stream.read(4)
    if magic[:2] == b"\x1f\x8b":
        _refuse("nested_archive", "this is an archive within an archive; unpack it first", container.name)
    if magic != b"PK\x03\x04":
        yield from _open_text(container, how)
        return
    with _explained(container.name), container.seekable() as stream, zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
    if "[Content_Types].xml" not in {m.filename for m in members}:
        _refuse("nested_archive", "this is an archive within an archive; unpack it first", container.name)
    _check_workbook(members, container.name)
    yield from _open_xlsx(container, how)


def _open_text(container: _Container, how: _How) -> Iterator[RawTable]:
    max_line_bytes, synonyms = how.max_line_bytes, how.synonyms
    probe = _probe(container, max_line_bytes)
    encoding = probe.encoding or "utf-8"
    if probe.format == "json":
        yield _open_json(container, encoding, max_line_bytes, synonyms)
        return
    best: tuple[tuple[float, float], _CsvSource, list[Row]] | None = None
    broken: InputError | None = None
    for delimiter in _hinted_delimiter(container, encoding, max_line_bytes) or _DELIMITERS:
        source = _CsvSource(container, encoding, delimiter, max_line_bytes)
        try:
            head = list(itertools.islice(source.rows(None), _HEADER_SEARCH_ROWS))
        except InputError as error:
            broken = broken or error
            continue
        fit = _delimiter_fit(head, synonyms)
        if best is None or fit > best[0]:
            best = (fit, source, head)
    if broken is not None and (best is None or best[0] == (0.0, 0.0)):
        raise broken
    assert best is not None
    _, source, head = best
    yield _table(
        container.path,
        container.name,
        source,
        head,
        synonyms,
        kind="csv",
        encoding=encoding,
        delimiter=source.delimiter,
        header_row=how.header_row(None),
    )


def _hinted_delimiter(container: _Container, encoding: str, limit: int) -> tuple[str, ...] | None:
    """The delimiter of Excel's ``sep=;`` first line, if there is one."""
    with _explained(container.name), container.open() as (stream, _):
        first = stream.read(64).decode(encoding, errors="replace").lstrip("\ufeff")
    match = re.match(r'^"?sep=(.)', first, re.IGNORECASE)
    return (match.group(1),) if match and limit else None


def _delimiter_fit(head: Sequence[Row], synonyms: Synonyms) -> tuple[float, float]:
    """How well a delimiter explains the first rows: headers recognised, then rows of one width above 1."""
    known = max((_known_headers(row, synonyms) for row in head), default=0)
    widths = [len(row.cells) for row in head if any(_filled(c) for c in row.cells)]
    modal = max(set(widths), key=lambda w: (widths.count(w), w), default=1)
    share = widths.count(modal) / len(widths) if widths and modal > 1 else 0.0
    return float(known), share * min(modal, 12)


def _open_json(container: _Container, encoding: str, max_element: int, synonyms: Synonyms) -> RawTable:
    first = [e for e, _ in itertools.islice(_json_elements(container, encoding, max_element), _HEADER_SEARCH_ROWS)]
    if not first:
        _refuse(
            "empty_file", "the JSON list is empty: the platform reported nothing, or access is missing", container.name
        )
    header: dict[str, None] = {"date": None, "category": None}
    for number, element in enumerate(first):
        for entry in _stats(element, container.name, number):
            header.update(dict.fromkeys(entry))
    source = _JsonSource(container, encoding, max_element, tuple(header))
    return _table(
        container.path, container.name, source, [Row(0, list(header))], synonyms, kind="json", encoding=encoding
    )


def _open_xlsx(container: _Container, how: _How) -> Iterator[RawTable]:
    from openpyxl.utils.datetime import CALENDAR_MAC_1904

    with _workbook(container) as book:
        sheets = [(s.title, s.sheet_state == "visible", _shape(book, s, container.name)) for s in book.worksheets]
        days_from_1904 = book.epoch == CALENDAR_MAC_1904
    hidden = [title for title, visible, _ in sheets if not visible]
    shown = [(title, shape) for title, visible, shape in sheets if visible]
    empty = True

    def tables() -> Iterator[Iterator[RawTable]]:
        nonlocal empty
        for name, shape in shown:
            source = _XlsxSource(container, name, shape)
            head = list(itertools.islice(source.rows(None), _HEADER_SEARCH_ROWS))
            if any(_filled(c) for row in head for c in row.cells):
                first, empty = empty, False
                yield _sheet(source, head, hidden if first else (), days_from_1904, how)

    yield from _each(tables())
    if empty and hidden:
        message = f"every sheet with content is hidden ({', '.join(hidden)}); unhide those that count"
        _refuse("empty_file", message, container.name)
    if empty:
        _refuse("empty_file", "no sheet of the workbook has any content", container.name)


def _sheet(
    source: _XlsxSource, head: Sequence[Row], hidden: Sequence[str], days_from_1904: bool, how: _How
) -> Iterator[RawTable]:
    container, name = source.container, source.sheet
    table = _table(
        container.path, container.name, source, head, how.synonyms, kind="xlsx", sheet=name,
        header_row=how.header_row(name),
    )  # fmt: skip
    table.days_from_1904 = days_from_1904
    if source.shape.hidden:
        table.note(f"{source.shape.hidden} hidden rows are read like the others")
    for title in hidden:
        table.note(f"the sheet {title!r} is hidden and not read; unhide it if it counts")
    yield table


def _table(
    path: Path,
    file: str,
    source: _Source,
    head: Sequence[Row],
    synonyms: Synonyms,
    *,
    kind: str,
    sheet: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    header_row: int | None = None,
) -> RawTable:
    at = next((i for i, row in enumerate(head) if row.number == header_row), None)
    if header_row is not None and at is None:
        message = f"there is no row {header_row} among the first {len(head)}, where the mapping says the headers are"
        _refuse("bad_mapping", message, file, sheet=sheet)
    if at is None:
        at = _header_index(head, synonyms)
    header, at = _whole_header(head, at, synonyms)
    columns = _columns(header.cells)
    for column in columns:
        if reason := mojibake(column.name):
            raise InputError([
                Problem(
                    "mojibake",
                    f"the headers cannot be read: {reason}; save the file again as UTF-8 (CSV UTF-8) or XLSX",
                    file=file, sheet=sheet, row=header.number, column=column.name, value=column.name,
                )
            ])  # fmt: skip
    preamble = tuple(row for row in head[:at] if any(_filled(c) for c in row.cells))
    language = synonyms.language(c.name for c in columns)
    return RawTable(
        path=path,
        file=file,
        sheet=sheet,
        format=kind,
        encoding=encoding,
        delimiter=delimiter,
        preamble=preamble,
        columns=columns,
        header_row=header.number,
        stated=_stated(preamble, columns, language),
        language=language,
        size=path.stat().st_size,
        source=source,
    )


# --- header and preamble ---------------------------------------------------------------------------------------------


def _filled(cell: Cell) -> bool:
    return cell is not None and (not isinstance(cell, str) or bool(cell.strip("\ufeff \t\r\n\u3000\xa0")))


def _known_headers(row: Row, synonyms: Synonyms) -> int:
    """How many different cells of a row are headers somebody knows."""
    return len({header_key(c) for c in row.cells if isinstance(c, str) and _filled(c) and synonyms.is_known(c)})


def _header_index(head: Sequence[Row], synonyms: Synonyms) -> int:
    """Where the header is: the row with most known headers (two at least), else the first that looks like one."""
    scores = [_known_headers(row, synonyms) for row in head]
    if scores and max(scores) >= 2:
        return scores.index(max(scores))
    for index, row in enumerate(head):
        filled = [c for c in row.cells if _filled(c)]
        following = next((r for r in head[index + 1 :] if any(_filled(c) for c in r.cells)), None)
        width = sum(_filled(c) for c in following.cells) if following is not None else len(filled)
        if len(filled) >= 2 and all(_is_label(c) for c in filled) and width * 2 >= len(filled):
            return index
    if scores and max(scores) == 1:
        return scores.index(1)
    return next((i for i, row in enumerate(head) if any(_filled(c) for c in row.cells)), 0)


def _whole_header(head: Sequence[Row], at: int, synonyms: Synonyms) -> tuple[Row, int]:
    """The header with what stands in a second row of it: groups (``Delivery``) above columns (``Impr.``, ``Clicks``).

    Returns:
        The cells of both rows as one, and where the row stands below which the data begin.
    """
    header = head[at]

    def known(cell: Cell) -> bool:
        return isinstance(cell, str) and _filled(cell) and synonyms.is_known(cell)

    if at + 1 < len(head):
        below = head[at + 1]
        new = {i: c for i, c in enumerate(below.cells) if _filled(c)}
        width = max(len(header.cells), len(below.cells))
        same = [i < len(header.cells) and header.cells[i] == c for i, c in new.items()]
        grouped = any(same) or any(i >= len(header.cells) or not _filled(header.cells[i]) for i in range(width))
        if len(new) >= 2 and grouped and not all(same) and all(known(c) for c in new.values()):
            joined = [new.get(i, header.cells[i] if i < len(header.cells) else None) for i in range(width)]
            return Row(below.number, joined), at + 1
    if at > 0:
        above = head[at - 1].cells
        gaps = {i for i, c in enumerate(above) if known(c) and (i >= len(header.cells) or not _filled(header.cells[i]))}
        if gaps and sum(map(_filled, above)) >= 2:  # a single cell is the title of the sheet
            width = max(len(header.cells), max(gaps) + 1)
            joined = [
                above[i] if i in gaps else header.cells[i] if i < len(header.cells) else None for i in range(width)
            ]
            return Row(header.number, joined), at
    return header, at


def _is_label(cell: Cell) -> bool:
    """Whether a cell could be a header: text that is no number and no date."""
    if not isinstance(cell, str) or isinstance(cell, Formula) or is_unknown(cell):
        return False
    try:
        parse_number(cell)
    except CellError:
        return not re.match(r"^\d{1,4}[-/.年]\d{1,2}", fold(cell))
    return False


def _columns(cells: Iterable[Cell]) -> tuple[Column, ...]:
    seen: dict[str, int] = {}
    columns: list[Column] = []
    for index, cell in enumerate(cells):
        name = " ".join(str(cell).replace("\ufeff", "").split()) if _filled(cell) else f"column {column_letter(index)}"
        count = seen[header_key(name)] = seen.get(header_key(name), 0) + 1
        title = name if count == 1 else f"{name} ({count})"
        columns.append(Column(index, name, title, split_note(name)[1]))
    while columns and columns[-1].name == f"column {column_letter(columns[-1].index)}":
        columns.pop()
    return tuple(columns)


def column_letter(index: int) -> str:
    """The letter a spreadsheet shows for a column: 0 → A, 27 → AB."""
    letters, index = "", index + 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


_GENERATED = re.compile(
    r"generated|created on|creation|downloaded|exported|creación|generado|criação|gerado|erstellt|création|généré"
    r"|作成|生成|出力|ダウンロード",
    re.IGNORECASE,
)
_START = re.compile(r"\b(?:start|from|since)|inicio|início|beginn|début|開始", re.IGNORECASE)
_END = re.compile(r"\b(?:end|until|through)\b|\bfin\b|término|\bfim\b|\bende\b|終了", re.IGNORECASE)
_ZONE = re.compile(r"\b(UTC|GMT|JST)\b(?:\s*([+-]\d{1,2})(?::?(\d{2}))?)?|([A-Z][A-Za-z_]+/[A-Z][A-Za-z_/]+)")
_ZONE_NAMES = {"UTC": "UTC", "GMT": "UTC", "JST": "Asia/Tokyo"}
_CURRENCY = re.compile(r"(?:currency|通貨|moneda|moeda|währung|devise)\W{0,3}([A-Z]{3})\b", re.IGNORECASE)
# fmt: off
_ISO_CODES = frozenset((
    "JPY", "USD", "EUR", "GBP", "BRL", "AUD", "CAD", "CHF", "CNY", "HKD", "INR", "KRW", "MXN", "NOK", "NZD", "PLN",
    "SEK", "SGD", "THB", "TWD", "TRY", "ZAR", "DKK", "CZK", "HUF", "ILS", "IDR", "MYR", "PHP", "VND", "AED", "SAR",
    "ARS", "CLP", "COP", "PEN",
))
# fmt: on


def _stated(preamble: Sequence[Row], columns: Sequence[Column], language: str | None) -> Stated:
    """Read the period, the making, the zone and the currency a report states of itself."""
    start: date | None = None
    end: date | None = None
    generated: datetime | None = None
    lines = [" ".join(str(c) for c in row.cells if _filled(c)) for row in preamble]
    zone = next((z for line in lines if (z := _zone(line))), None)
    for line in lines:
        moments = find_moments(line)
        made = _GENERATED.search(line)
        if not made and (named := find_period(line, language) or _month_of(line)):
            start, end = named
            continue
        if not moments:
            continue
        day, clock = moments[0]
        if made:
            generated = datetime.combine(day, clock or time(), ZoneInfo(zone or "UTC"))
        elif _START.search(line):
            start = day
        elif _END.search(line):
            end = day
    period = (start, end) if start is not None and end is not None and start <= end else None
    notes = [c.note for c in columns if c.note]
    currency = next((n.upper() for n in notes if n.upper() in _ISO_CODES and len(n) == 3), None)
    currency = currency or next((m.group(1).upper() for line in lines if (m := _CURRENCY.search(line))), None)
    title = lines[0] if lines and not find_moments(lines[0]) else None
    return Stated(
        title=title,
        period=period,
        generated=generated,
        time_zone=zone or next((z for note in notes if (z := _zone(note))), None),
        currency=currency if currency in _ISO_CODES else None,
    )


def _month_of(line: str) -> tuple[date, date] | None:
    """The month a line consists of: ``April 2026``, ``2026年4月``."""
    if len(line) > _LONGEST_MONTH or find_moments(line):
        return None
    try:
        first = parse_month(line)
    except CellError:
        return None
    return None if first is None else (first, first.replace(day=calendar.monthrange(first.year, first.month)[1]))


#: "septiembre de 2026" and a bit.
_LONGEST_MONTH = 24


@lru_cache(maxsize=1)
def known_zones() -> frozenset[str]:
    """Every IANA time zone; looked up on disk once only."""
    return frozenset(available_timezones())


def _zone(text: str) -> str | None:
    match = _ZONE.search(text)
    if match is None:
        return None
    name, hours, minutes, iana = match.groups()
    if iana:
        return iana if iana in known_zones() else None
    if not hours:
        return _ZONE_NAMES[name]
    if minutes and int(minutes):
        return None
    offset = f"Etc/GMT{-int(hours):+d}" if int(hours) else "UTC"
    return offset if offset in known_zones() else None
