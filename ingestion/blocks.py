"""The rows of a CSV file a few thousand at a time, column by column.

The cells are exactly those :meth:`ingestion.reading.RawTable.rows` gives. Stretches of regular text (every quotation
mark opens or closes a cell, no line break within one, each row as wide as the first) are split by Arrow, in a
twentieth of the time; all others by :mod:`csv`, as ever. What is regular is decided by the text, not by trying.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from ingestion.reading import (
    RawTable,
    Row,
    _CsvSource,
    _explained,
    _Raw,
    _refuse,
)

#: Characters decoded at a time: some thousand rows, a few megabytes with everything made of them.
BLOCK_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class CellBlock:
    """Consecutive rows.

    Attributes:
        numbers: of the rows of ``width`` cells, as a spreadsheet shows them.
        columns: position → the cells of these rows; only those asked for.
        others: the rows of any other width.
    """

    numbers: NDArray[np.int64]
    columns: dict[int, pa.StringArray]
    width: int
    others: list[Row]

    def rows(self, at: NDArray[np.int64]) -> list[Row]:
        """The rows at some positions, as :meth:`RawTable.rows` gives them; needs all columns."""
        places = pa.array(at)
        columns = [self.columns[n].take(places).to_pylist() for n in range(self.width)]
        cells = zip(*columns, strict=True) if columns else itertools.repeat((), len(at))  # blank lines have no cell
        return [Row(int(number), list(row)) for number, row in zip(self.numbers[at], cells, strict=True)]


def can_block(table: RawTable) -> bool:
    """Whether :func:`cell_blocks` can read the table."""
    return isinstance(table.source, _CsvSource) and not table.settled.skipped


def cell_blocks(table: RawTable, wanted: Collection[int] | None = None) -> Iterator[CellBlock]:
    """The rows below the header, from the start each time.

    Args:
        table: one that :func:`can_block`.
        wanted: positions of the columns needed; all by default.

    Raises:
        InputError: the file breaks off, a line is too long or cannot be split.
    """
    source = table.source
    assert isinstance(source, _CsvSource)
    table.bytes_read = 0
    with _explained(source.container.name), source.container.open() as (stream, disk):
        text = io.TextIOWrapper(
            cast("IO[bytes]", io.BufferedReader(_Raw(stream), 1 << 17)), source.encoding, "replace", newline=""
        )
        for block in _Splitter(source, text, table.header_row, wanted).blocks():
            table.bytes_read = disk.tell()
            yield block
    table.bytes_read = table.size


class _Splitter:
    """Splits the text of one file; lines wait in ``_lines`` while :mod:`csv` is at work."""

    def __init__(
        self, source: _CsvSource, text: io.TextIOWrapper, header_row: int, wanted: Collection[int] | None
    ) -> None:
        self._source, self._header_row, self._wanted = source, header_row, wanted
        self._texts = _whole_lines(text, source)
        self._lines: deque[str] = deque()
        self._reader = csv.reader(iter(self._line, None), delimiter=source.delimiter, strict=False)
        self._row = 0
        self._quoted = _quoted_cell(source.delimiter)

    def blocks(self) -> Iterator[CellBlock]:
        for text in self._texts:
            self._lines.extend(io.StringIO(text, newline=""))
            if self._row == 0 and self._lines and re.match(r'^\ufeff?"?sep=.', self._lines[0], re.IGNORECASE):
                self._lines[0] = "\n"
            while self._row < self._header_row and self._lines:
                self._next()
            rest = text if self._row > self._header_row else "".join(self._lines)
            if not rest or not self._lines:
                continue
            block = self._regular(rest)
            if block is not None:
                self._lines.clear()
            else:
                block = self._irregular()
            yield block

    def _line(self) -> str | None:
        """The next line for :mod:`csv`, which asks for more than a block's where a cell goes on."""
        while not self._lines:
            text = next(self._texts, None)
            if text is None:
                return None
            self._lines.extend(io.StringIO(text, newline=""))
        return self._lines.popleft().replace("\0", "")

    def _next(self) -> list[str] | None:
        try:
            cells = next(self._reader, None)
        except csv.Error as error:
            _refuse(
                "broken_csv",
                f"the text cannot be split into cells ({error}); a quotation mark is probably not closed",
                self._source.container.name,
                row=self._row + 1,
            )
        self._row += cells is not None
        return cells

    def _irregular(self) -> CellBlock:
        rows: list[Row] = []
        while self._lines and (cells := self._next()) is not None:
            rows.append(Row(self._row, cells))
        width = Counter(len(r.cells) for r in rows).most_common(1)[0][0] if rows else 0
        alike = [r for r in rows if len(r.cells) == width]
        columns = list(zip(*(r.cells for r in alike), strict=True))
        chosen = range(width) if self._wanted is None else [n for n in self._wanted if n < width]
        return CellBlock(
            np.array([r.number for r in alike], dtype=np.int64),
            {n: pa.array(columns[n], pa.string()) for n in chosen},
            width,
            [r for r in rows if len(r.cells) != width],
        )

    def _regular(self, text: str) -> CellBlock | None:
        """A block of regular text, else ``None``."""
        data = text.encode()
        if not self._is_regular(text, data):
            return None
        first = next(csv.reader([text[: text.find("\n") + 1] or text], delimiter=self._source.delimiter))
        if len(first) < 2:
            return None
        names = [str(n) for n in range(len(first))]
        chosen = names if self._wanted is None else [str(n) for n in sorted(self._wanted) if n < len(first)]
        if not chosen:
            return None
        try:
            found = pa_csv.read_csv(
                pa.py_buffer(data),
                read_options=pa_csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
                parse_options=pa_csv.ParseOptions(delimiter=self._source.delimiter, ignore_empty_lines=False),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(chosen, pa.string()), include_columns=chosen, strings_can_be_null=False
                ),
            )
        except pa.ArrowInvalid:  # rows of different widths
            return None
        numbers = np.arange(self._row + 1, self._row + 1 + found.num_rows)
        self._row += found.num_rows
        columns = {int(name): _whole(found[name]) for name in chosen}
        return CellBlock(numbers, columns, len(first), [])

    def _is_regular(self, text: str, data: bytes) -> bool:
        """Whether Arrow and :mod:`csv` agree on the text, but for rows of different widths, which Arrow refuses."""
        # a blank line has no cell, but Arrow gives it all of them; and it drops a mark of byte order
        if text.startswith(("\n", "\r\n", "\ufeff")) or "\n\n" in text or "\n\r\n" in text:
            return False
        if "\0" in text or text.count("\r") != text.count("\r\n"):
            return False
        if '"' not in text or _plainly_quoted(data, self._source.delimiter):
            return True
        return '"' not in self._quoted.sub("", text)


def _plainly_quoted(data: bytes, delimiter: str) -> bool:
    """Whether quotation marks come in pairs, each around a whole cell within one line; none is doubled."""
    text = np.frombuffer(data, dtype=np.uint8)
    marks = np.flatnonzero(text == ord('"'))
    if len(marks) % 2:
        return False
    opening, closing = marks[0::2], marks[1::2]
    before = text[np.maximum(opening - 1, 0)]
    after = text[np.minimum(closing + 1, len(text) - 1)]
    feeds = np.flatnonzero(text == ord("\n"))
    return bool(
        np.all((opening == 0) | np.isin(before, [ord(delimiter), ord("\n")]))
        and np.all((closing == len(text) - 1) | np.isin(after, [ord(delimiter), ord("\r"), ord("\n")]))
        and np.array_equal(np.searchsorted(feeds, opening), np.searchsorted(feeds, closing))
    )


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


@lru_cache(maxsize=8)
def _quoted_cell(delimiter: str) -> re.Pattern[str]:
    """A cell in quotation marks, from delimiter to delimiter, within one line.

    Where all quotation marks of a text belong to such cells, taken from left to right, every reader of CSV splits the
    text alike: before the first cell nothing is quoted, and each cell ends where the next one can begin.
    """
    d = re.escape(delimiter)
    return re.compile(rf'(?:(?<=[{d}\n])|\A)"(?:[^"\r\n]|"")*"(?=[{d}\r\n]|\Z)')


def _whole_lines(text: io.TextIOWrapper, source: _CsvSource) -> Iterator[str]:
    """The text in pieces that end with a line."""
    carried: list[str] = []
    for number in itertools.count():
        piece = text.read(BLOCK_CHARACTERS)
        if not piece:
            break
        cut = piece.rfind("\n") + 1
        # in a file with no line feed at all, a carriage return ends the line unless it is the last character so far
        cut = cut or piece.rfind("\r", 0, len(piece) - 1) + 1
        if cut:
            yield "".join((*carried, piece[:cut]))
            carried = [piece[cut:]]
        else:
            carried.append(piece)
        if sum(map(len, carried)) > source.max_line_bytes:
            _refuse(
                "line_too_long",
                f"a line in part {number + 1} is longer than {source.max_line_bytes:,} characters, so this is not a "
                "table with one row per line; export it again (the limit is TURNOUT_MAX_LINE_BYTES)",
                source.container.name,
            )
    if rest := "".join(carried):
        yield rest


def texts(column: pa.StringArray) -> tuple[NDArray[np.int64], Sequence[Any]]:
    """A column of cells as positions in the list of its different ones."""
    encoded = column.dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()
