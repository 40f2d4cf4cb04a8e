"""Tables out of files, by content and never by name: CSV of any delimiter and encoding, XLSX, SendGrid's JSON.

A file is streamed: once to find out what it is (:func:`open_tables`), then as often as :meth:`RawTable.rows` is asked.
No more than one line, and for XLSX the workbook's shared strings, is held in memory. A line longer than the limit is
refused before it is read.

What stands above the header row (report name, period, "(in UTC)", when it was made) is kept as
:attr:`RawTable.preamble` and read into :attr:`RawTable.stated`. Row numbers are those a spreadsheet shows.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import json
import re
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn, cast
from zoneinfo import ZoneInfo, available_timezones

from ingestion.headers import Synonyms, header_key, load_synonyms, split_note
from ingestion.values import Cell, CellError, Formula, find_moments, fold, is_unknown, mojibake, parse_number
from turnout.errors import InputError, Problem

DEFAULT_MAX_LINE_BYTES = 1_000_000
#: How far down a header row is looked for.
_HEADER_SEARCH_ROWS = 60
_CHUNK = 1 << 18
_DELIMITERS = (",", "\t", ";", "|")
#: A workbook's strings and one sheet, unpacked. Beyond it is a zip bomb or no organiser's table.
_MAX_UNPACKED = 1 << 30
_MAX_SHARED_STRINGS = 200 << 20


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


@dataclass
class RawTable:
    """One table of a file (one sheet of a workbook), its cells untyped.

    Attributes:
        file: name for messages; ``archive.zip/name.csv`` inside an archive.
        sheet: sheet of a workbook, else ``None``.
        format: ``csv``, ``xlsx`` or ``json``.
        language: the one most headers are in, ``None`` where none is known.
        size: bytes of the file on disk; ``bytes_read`` moves towards it while :meth:`rows` is iterated.
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

    def rows(self) -> Iterator[Row]:
        """The rows below the header, from the start each time.

        Raises:
            InputError: the file breaks off or a line is too long.
        """
        self.bytes_read = 0
        for row in self.source.rows(self):
            if row.number > self.header_row:
                yield row
        self.bytes_read = self.size

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

    @property
    def name(self) -> str:
        return self.path.name if self.member is None else f"{self.path.name}/{self.member}"

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
def _explained(file: str) -> Iterator[None]:
    """Turn the errors of damaged archives and vanished files into messages."""
    try:
        yield
    except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        _refuse("damaged", f"the archive is damaged or breaks off ({error}); export the file again", file)
    except (RuntimeError, NotImplementedError) as error:  # zipfile: encrypted, unknown compression
        _refuse("damaged", f"the archive cannot be opened ({error}); export it without a password", file)
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
    (b"\xd0\xcf\x11\xe0", "old_spreadsheet", "this is .xls, or has a password; save it as .xlsx without one"),
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
                _refuse(code, message, container.name)
        encoding = next((name for bom, name in _BOMS if head.startswith(bom)), None) or _utf16_without_bom(head)
        if encoding is None and b"\x00" in head:
            _refuse("not_a_table", "this is a binary file; export the table as CSV or XLSX", container.name)
        start = head[:400].decode(encoding or "utf-8", errors="replace").lstrip("\ufeff \t\r\n")
        if start.startswith(("[", "{")) and re.match(r"\[\s*[\[{\]]|\{\s*[\"}]", start):
            return _Probe("json", encoding or "utf-8")
        if start[:200].lower().startswith(("<!doctype", "<html", "<?xml")):
            _refuse(
                "not_a_table",
                "this is a web page or XML, not a table; export the report as CSV or XLSX",
                container.name,
            )
        found = _scan_text(head, stream, encoding, container.name, max_line_bytes)
    return _Probe("csv", found)


def _utf16_without_bom(head: bytes) -> str | None:
    """UTF-16 shows in its line ends, digits and delimiters: every other byte of them is zero."""
    sample = head[: 1 << 14]
    if len(sample) < 4 or sample.count(0) < len(sample) // 50 + 1:
        return None
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if odd > 4 * even:
        return "utf-16-le"
    return "utf-16-be" if even > 4 * odd else None


def _scan_text(head: bytes, stream: IO[bytes], encoding: str | None, file: str, max_line_bytes: int) -> str:
    """Go over all bytes once: no line too long, and is it UTF-8 throughout? Returns the encoding."""
    decoder = codecs.getincrementaldecoder("utf-8")("strict") if encoding is None else None
    plain_utf8, broken, valid = True, 0, 0
    since_newline = 0
    foreign = bytearray()
    for chunk in itertools.chain((head,), iter(lambda: stream.read(_CHUNK), b"")):
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


@dataclass
class _XlsxSource(_Source):
    path: Path
    file: str
    sheet: str

    def rows(self, table: RawTable | None) -> Iterator[Row]:
        with _workbook(self.path, self.file) as book, ExitStack() as stack:
            sheet = book[self.sheet]
            sheet.reset_dimensions()  # exporters write wrong dimensions; the rows themselves tell
            total = max(sheet.max_row or 0, 1)
            results: Iterator[tuple[int, Sequence[Any]]] | None = None
            for number, cells in enumerate(_sheet_rows(sheet, self.file, self.sheet), start=1):
                if table is not None and not number & 0xFF:
                    table.bytes_read = min(table.size, table.size * number // max(total, number))
                row = [_xlsx_cell(c) for c in cells]
                if table is not None and any(isinstance(c, Formula) for c in row):
                    results = self._results(stack) if results is None else results
                    saved = next((r for n, r in results if n == number), ())
                    row = [
                        Formula(c, _result(saved[i]) if i < len(saved) else None) if isinstance(c, Formula) else c
                        for i, c in enumerate(row)
                    ]
                yield Row(number, row)

    def _results(self, stack: ExitStack) -> Iterator[tuple[int, Sequence[Any]]]:
        """The same rows with formulas' results as last saved; opened only when a first formula is met."""
        sheet = stack.enter_context(_workbook(self.path, self.file, results=True))[self.sheet]
        sheet.reset_dimensions()
        return enumerate(_sheet_rows(sheet, self.file, self.sheet, values_only=False), start=1)


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
def _workbook(path: Path, file: str, *, results: bool = False) -> Iterator[Any]:
    """A workbook with its formulas, or with their ``results`` as the spreadsheet program last saved them."""
    import openpyxl

    with _explained(file), path.open("rb") as stream:  # as a stream: openpyxl goes by the name otherwise
        try:
            book = openpyxl.load_workbook(stream, read_only=True, data_only=results)
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
        flat = {k: v if not isinstance(v, dict | list) else json.dumps(v) for k, v in metrics.items()}
        yield {"date": element["date"], "category": stat.get("name"), **flat}


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
    path: Path, *, max_line_bytes: int = DEFAULT_MAX_LINE_BYTES, synonyms: Synonyms | None = None
) -> Iterator[RawTable]:
    """The tables of a file: one for CSV and JSON, one per sheet with content of a workbook, all of an archive.

    Args:
        synonyms: the headers known, by which the header row is found; the shipped ones by default.

    Raises:
        InputError: the file is empty, no table, damaged, has a line longer than ``max_line_bytes``, or its header is
            mojibake. The message names the file and the way out.
    """
    synonyms = synonyms or load_synonyms()
    csv.field_size_limit(max_line_bytes)
    with _explained(path.name), path.open("rb") as file:
        magic = file.read(4)
    if magic[:2] == b"\x1f\x8b":
        yield from _open_text(_Container(path, "gzip"), max_line_bytes, synonyms)
    elif magic == b"PK\x03\x04":
        yield from _open_zip(path, max_line_bytes, synonyms)
    else:
        yield from _open_text(_Container(path), max_line_bytes, synonyms)


def _open_zip(path: Path, max_line_bytes: int, synonyms: Synonyms) -> Iterator[RawTable]:
    with _explained(path.name), zipfile.ZipFile(path) as archive:
        members = [m for m in archive.infolist() if not m.is_dir()]
        names = {m.filename for m in members}
    if "[Content_Types].xml" in names:
        if not any(n.startswith("xl/") for n in names):
            _refuse("not_a_table", "this is a document, not a workbook; save the table as CSV or XLSX", path.name)
        for member in members:
            limit = _MAX_SHARED_STRINGS if member.filename.endswith("sharedStrings.xml") else _MAX_UNPACKED
            if member.filename.endswith(".xml") and member.file_size > limit:
                _refuse(
                    "too_large",
                    f"the workbook unpacks to more than {limit >> 20} MB; export it as CSV instead",
                    path.name,
                )
        yield from _open_xlsx(path, synonyms)
        return
    wanted = [
        m.filename
        for m in members
        if not m.filename.startswith("__MACOSX/") and not Path(m.filename).name.startswith(".")
    ]
    if not wanted:
        _refuse("empty_file", "the archive holds no file", path.name)
    for name in sorted(wanted):
        if name.lower().endswith((".zip", ".xlsx", ".gz")):
            _refuse("nested_archive", f"the archive holds another one, {name}; unpack it first", path.name)
        yield from _open_text(_Container(path, "zip", name), max_line_bytes, synonyms)


def _open_text(container: _Container, max_line_bytes: int, synonyms: Synonyms) -> Iterator[RawTable]:
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


def _open_xlsx(path: Path, synonyms: Synonyms) -> Iterator[RawTable]:
    with _workbook(path, path.name) as book:
        names = [s.title for s in book.worksheets]
    empty = True
    for name in names:
        source = _XlsxSource(path, path.name, name)
        head = list(itertools.islice(source.rows(None), _HEADER_SEARCH_ROWS))
        if not any(_filled(c) for row in head for c in row.cells):
            continue
        empty = False
        yield _table(path, path.name, source, head, synonyms, kind="xlsx", sheet=name)
    if empty:
        _refuse("empty_file", "no sheet of the workbook has any content", path.name)


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
) -> RawTable:
    at = _header_index(head, synonyms)
    header = head[at]
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
        stated=_stated(preamble, columns),
        language=synonyms.language(c.name for c in columns),
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


def _stated(preamble: Sequence[Row], columns: Sequence[Column]) -> Stated:
    """Read the period, the making, the zone and the currency a report states of itself."""
    start: date | None = None
    end: date | None = None
    generated: datetime | None = None
    lines = [" ".join(str(c) for c in row.cells if _filled(c)) for row in preamble]
    zone = next((z for line in lines if (z := _zone(line))), None)
    for line in lines:
        moments = find_moments(line)
        if not moments:
            continue
        day, clock = moments[0]
        if _GENERATED.search(line):
            generated = datetime.combine(day, clock or time(), ZoneInfo(zone or "UTC"))
        elif len(moments) >= 2:
            start, end = min(m[0] for m in moments[:2]), max(m[0] for m in moments[:2])
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


def _zone(text: str) -> str | None:
    match = _ZONE.search(text)
    if match is None:
        return None
    name, hours, minutes, iana = match.groups()
    if iana:
        return iana if iana in available_timezones() else None
    if not hours:
        return _ZONE_NAMES[name]
    if minutes and int(minutes):
        return None
    offset = f"Etc/GMT{-int(hours):+d}" if int(hours) else "UTC"
    return offset if offset in available_timezones() else None
