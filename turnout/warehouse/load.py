"""Bulk loading: replace partitions of facts, upsert everything else.

A fact partition (organisation, source, account, date) is replaced as a whole: ``DELETE`` and ``COPY`` in the caller's
transaction, under an advisory lock per (organisation, source, account). Loading twice is loading once, two loaders of
one account queue up, and a loader killed half-way leaves what was there before.

Values: ``None``, ``NaN``, ``NaT`` and ``pd.NA`` are NULL; the empty string stays an empty string. Infinite numbers,
fractions in whole-number columns and NUL characters are refused, with the column's name.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import sqlalchemy as sa
import structlog
from psycopg import sql
from sqlalchemy import Column, Connection, Table, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as pg_insert

from turnout.warehouse.partitions import ensure_partitions, holds_default, missing_months
from turnout.warehouse.tables import FACT_TABLES, SCHEMA

log = structlog.get_logger(__name__)

#: What names a partition besides its date.
SCOPE: Final = ("organisation", "source", "account")

#: Rows turned into CSV at a time: memory stays flat, and a chunk is large enough for Arrow to be fast.
CHUNK_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Replaced:
    """What :func:`replace_partitions` did, in rows; ``partitions`` counts the (scope, date) it wrote or emptied."""

    deleted: int
    inserted: int
    partitions: int


def replace_partitions(
    connection: Connection,
    table: Table,
    frame: pd.DataFrame,
    *,
    scope: Mapping[str, str] | None = None,
    window: tuple[date, date] | None = None,
) -> Replaced:
    """Replace partitions of a fact table by the rows of ``frame``, within the caller's transaction.

    Args:
        connection: nothing is visible to others before its transaction commits.
        table: one of :data:`turnout.warehouse.tables.FACT_TABLES`.
        frame: columns named as the table's; absent columns take their default. Without a column ``line``, rows are
            numbered from 1 within their partition in the frame's order.
        scope: organisation, source and account that all rows belong to; may stand for the three columns, and is needed
            to empty a window with an empty frame.
        window: first and last day, inclusive, to replace, whether or not the frame has rows on each day. Without it,
            exactly the dates in the frame are replaced.

    Returns:
        Rows deleted and inserted.

    Raises:
        ValueError: unknown or missing columns, rows outside ``scope`` or ``window``, values a column cannot hold.
        sqlalchemy.exc.IntegrityError, psycopg.Error: the database refuses the rows; the transaction is void.
    """
    if table not in FACT_TABLES:
        raise ValueError(f"{table.name} has no partitions; use upsert")
    frame = _with_scope(table, frame, scope)
    parts = _partitions(frame, scope, window)
    if not parts:
        return Replaced(0, 0, 0)
    if len(frame):
        if "line" not in frame.columns:
            frame = frame.assign(line=frame.groupby([*SCOPE, "date"], sort=False).cumcount() + 1)
        _columns(table, frame)
        _make_room(connection, table, frame["date"].drop_duplicates().map(_day))
    for key in sorted(parts):
        lock_account(connection, *key)
    deleted = sum(_delete(connection, table, key, days, window) for key, days in sorted(parts.items()))
    inserted = copy(connection, table, frame) if len(frame) else 0
    log.debug("partitions replaced", table=table.name, deleted=deleted, inserted=inserted)
    return Replaced(deleted, inserted, sum(len(days) for days in parts.values()))


def lock_account(connection: Connection, organisation: str, source: str, account: str) -> None:
    """Wait until no other loader writes this account, and keep others out until the transaction ends."""
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"),
        {"key": "\x1f".join(("turnout:load", organisation, source, account))},
    )


def upsert(
    connection: Connection,
    table: Table,
    rows: Iterable[Mapping[str, Any]] | pd.DataFrame,
    *,
    keep: Sequence[str] = (),
) -> int:
    """Insert rows, or update those whose primary key exists, within the caller's transaction.

    Rows that change nothing are not written, so ``updated_at`` tells when something did. Of two rows with one key in a
    call, the later wins. Concurrent calls take row locks in key order and so cannot deadlock each other.

    Args:
        connection: nothing is visible to others before its transaction commits.
        table: any table with a primary key.
        rows: mappings by column name, or a frame; columns left out keep their value, or take their default.
        keep: columns set when the row is new and never overwritten, e.g. ``mapped_by``.

    Returns:
        Rows inserted or changed.

    Raises:
        ValueError: an unknown column, or a primary key column missing.
    """
    records = _records(table, rows)
    keys = [c.name for c in table.primary_key.columns]
    stamped = "updated_at" in table.c
    by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for record in sorted(records, key=lambda r: tuple(str(r[k]) for k in keys)):
        by_columns.setdefault(tuple(sorted(record)), []).append(record)
    written = 0
    for names, batch in by_columns.items():
        statement = pg_insert(table)
        values = {n: statement.excluded[n] for n in names if n not in keys and n not in keep and n != "updated_at"}
        if values:
            changed = sa.or_(*[table.c[n].is_distinct_from(v) for n, v in values.items()])
            updated_at = {"updated_at": sa.func.now()} if stamped else {}
            upserting = statement.on_conflict_do_update(index_elements=keys, set_=values | updated_at, where=changed)
        else:
            upserting = statement.on_conflict_do_nothing(index_elements=keys)
        written += connection.execute(upserting, batch, execution_options={"preserve_rowcount": True}).rowcount
    return written


def copy(connection: Connection, table: Table, rows: pd.DataFrame | pa.Table) -> int:
    """COPY a frame, or an Arrow table, into any table, within the caller's transaction. Returns the rows written.

    Columns of an Arrow table are of types whose text PostgreSQL reads as it is: text (also as dictionaries), whole
    numbers, decimals, days, booleans, moments in UTC. Numbers may also be given as text.

    Raises:
        ValueError: unknown columns, or values a column cannot hold.
        psycopg.Error: the database refuses the rows; the transaction is void.
    """
    if isinstance(rows, pa.Table):
        names = _known(table, rows.column_names)
        chunks = _arrow_chunks(table, rows)
    else:
        names = _columns(table, rows)
        chunks = _csv_chunks(table, rows, names)
    if not connection.in_transaction():
        connection.begin()  # the driver would begin one that SQLAlchemy does not know and so never commits
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    target = sql.Identifier(table.schema, table.name) if table.schema else sql.Identifier(table.name)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        target, sql.SQL(", ").join(map(sql.Identifier, names))
    )
    with driver.cursor() as cursor:
        with cursor.copy(statement) as stream:
            for chunk in chunks:
                stream.write(chunk)
        return cursor.rowcount


def _make_room(connection: Connection, table: Table, days: Iterable[date]) -> None:
    """Give new months their partition, in a short transaction of its own: it locks out readers until it commits."""
    days = list(days)
    if not missing_months(connection, table, days):
        return
    if holds_default(connection, table):
        return  # we would wait for ourselves; the rows go to the DEFAULT partition and move with the next load
    # Beside the pool, where loaders that each hold a connection and wait for a second one would starve each other.
    own = sa.create_engine(connection.engine.url, poolclass=sa.NullPool)
    with own.begin() as brief:
        ensure_partitions(brief, table, days)


# --- what a frame covers ----------------------------------------------------------------------------------------------


def _with_scope(table: Table, frame: pd.DataFrame, scope: Mapping[str, str] | None) -> pd.DataFrame:
    if scope is not None:
        if set(scope) != set(SCOPE):
            raise ValueError(f"scope must have exactly the keys {', '.join(SCOPE)}; got {', '.join(scope) or 'none'}")
        for name, value in scope.items():
            if name in frame.columns:
                if not (frame[name] == value).all():
                    raise ValueError(f"{table.name}: rows outside the scope {name}={value!r}")
            else:
                frame = frame.assign(**{name: value})
    missing = [name for name in (*SCOPE, "date") if name not in frame.columns] if len(frame) else []
    if missing:
        raise ValueError(f"{table.name}: the frame lacks {', '.join(missing)}")
    return frame


def _partitions(
    frame: pd.DataFrame, scope: Mapping[str, str] | None, window: tuple[date, date] | None
) -> dict[tuple[str, str, str], set[date]]:
    """Per account, the dates to replace."""
    parts: dict[tuple[str, str, str], set[date]] = {}
    if len(frame):
        present = frame[[*SCOPE, "date"]].drop_duplicates()
        if present.isna().to_numpy().any():
            raise ValueError(f"every row needs {', '.join(SCOPE)} and a date")
        for organisation, source, account, day in present.itertuples(index=False, name=None):
            parts.setdefault((str(organisation), str(source), str(account)), set()).add(_day(day))
    if window is None:
        return parts
    first, last = window
    if last < first:
        raise ValueError(f"window: the last day {last} lies before the first {first}")
    if parts:
        earliest, latest = _span(parts)
        if earliest < first or latest > last:
            raise ValueError(f"rows from {earliest} to {latest} do not lie within the window {first} to {last}")
    elif scope is None:
        raise ValueError("an empty frame with a window needs a scope: whose days are to be emptied?")
    keys = set(parts) | ({(scope["organisation"], scope["source"], scope["account"])} if scope else set())
    return {key: {first + timedelta(days=n) for n in range((last - first).days + 1)} for key in keys}


def _span(parts: Mapping[tuple[str, str, str], set[date]]) -> tuple[date, date]:
    """The first and the last date of all accounts."""
    return min(map(min, parts.values())), max(map(max, parts.values()))


def _delete(
    connection: Connection,
    table: Table,
    key: tuple[str, str, str],
    days: set[date],
    window: tuple[date, date] | None,
) -> int:
    statement = sa.delete(table).where(*[table.c[name] == value for name, value in zip(SCOPE, key, strict=True)])
    # Dates listed one by one let the planner leave out every other month, and with it the DEFAULT partition.
    when = table.c.date.in_(sorted(days)) if window is None else table.c.date.between(*window)
    return connection.execute(statement.where(when)).rowcount


def _columns(table: Table, frame: pd.DataFrame) -> list[str]:
    return _known(table, [str(c) for c in frame.columns])


def _known(table: Table, names: Sequence[str]) -> list[str]:
    unknown = [name for name in names if name not in table.c]
    if unknown:
        raise ValueError(f"{table.name} has no column {', '.join(unknown)}")
    return list(names)


# --- values -----------------------------------------------------------------------------------------------------------


def _csv_chunks(table: Table, frame: pd.DataFrame, names: Sequence[str]) -> Iterator[memoryview]:
    """The frame as CSV: NULL is an empty unquoted field, text is always quoted."""
    converters = [(name, _converter(table.c[name])) for name in names]
    for start in range(0, len(frame), CHUNK_ROWS):
        part = frame.iloc[start : start + CHUNK_ROWS]
        arrays = []
        for name, convert in converters:
            try:
                arrays.append(convert(part[name]))
            except (ValueError, TypeError, OverflowError, ArithmeticError) as error:  # pa.ArrowInvalid is a ValueError
                raise ValueError(f"{table.name}.{name}: {error}") from error
        yield _as_csv(pa.Table.from_arrays(arrays, names=list(names)))


def _as_csv(rows: pa.Table) -> memoryview:
    buffer = io.BytesIO()
    pa_csv.write_csv(rows, buffer, pa_csv.WriteOptions(include_header=False, quoting_style="needed"))
    return buffer.getbuffer()


def _arrow_chunks(table: Table, rows: pa.Table) -> Iterator[memoryview]:
    """Arrow rows as the CSV of :func:`_csv_chunks`."""
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if isinstance(table.c[name].type, sa.String):
            for chunk in column.chunks:
                try:
                    _without_nul(chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk)
                except ValueError as error:
                    raise ValueError(f"{table.name}.{name}: {error}") from error
    for start in range(0, len(rows), CHUNK_ROWS):
        yield _as_csv(rows.slice(start, CHUNK_ROWS))


def _converter(column: Column[Any]) -> Callable[[pd.Series], pa.Array]:
    """How a pandas column becomes Arrow values whose CSV form PostgreSQL reads as ``column``'s type."""
    kind = column.type
    for types, convert in _CONVERTERS:
        if isinstance(kind, types):
            return convert
    raise TypeError(f"{column.name}: no converter for {kind!r}")


def _text(column: pd.Series) -> pa.Array:
    try:
        array = pa.array(column, pa.string(), from_pandas=True)
    except pa.ArrowTypeError:
        bad = next(v for v in column if not _is_null(v) and not isinstance(v, str))
        raise ValueError(f"{bad!r} is not text") from None
    return _without_nul(array)


def _without_nul(array: pa.Array) -> pa.Array:
    """A NUL within text is refused by PostgreSQL without saying where."""
    at = pc.index(pc.match_substring(array, "\x00"), True).as_py()
    if at >= 0:
        raise ValueError(f"{array[at].as_py()!r} holds a NUL character, which text in PostgreSQL cannot")
    return array


def _integer(column: pd.Series) -> pa.Array:
    array = pa.array(column, from_pandas=True)
    return array if pa.types.is_integer(array.type) else array.cast(pa.int64())  # refuses fractions and infinities


def _numeric(column: pd.Series) -> pa.Array:
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        if pd.api.types.is_float_dtype(column) and np.isinf(column.to_numpy(dtype=float, na_value=0.0)).any():
            raise ValueError("inf is not a number one can store")
        return pa.array(column, from_pandas=True)
    return pa.array([None if _is_null(v) else _number(v) for v in column], pa.string())


def _number(value: Any) -> str:
    try:
        number = value if isinstance(value, Decimal) else Decimal(str(value))
    except ArithmeticError:
        number = Decimal("NaN")
    if not number.is_finite():
        raise ValueError(f"{value!r} is not a number one can store")
    return str(number)


def _date(column: pd.Series) -> pa.Array:
    if pd.api.types.is_datetime64_any_dtype(column):
        return pa.array(column.dt.tz_localize(None), from_pandas=True).cast(pa.date32())
    return pa.array([None if _is_null(v) else _day(v) for v in column], pa.date32())


def _day(value: Any) -> date:
    """A calendar day of what pandas may hold for one; a string must be ISO 8601."""
    if isinstance(value, datetime):  # pd.Timestamp is one
        return value.date()
    return value if isinstance(value, date) else date.fromisoformat(str(value))


def _instant(column: pd.Series) -> pa.Array:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return pa.array(column.dt.tz_convert("UTC"), from_pandas=True).cast(pa.timestamp("us", "UTC"), safe=False)
    values = [None if _is_null(v) else v for v in column]
    for value in values:
        if value is not None and (not isinstance(value, datetime) or value.tzinfo is None):
            raise ValueError(f"{value!r} is not a date and time with a zone")
    return pa.array(values, pa.timestamp("us", "UTC"))


def _boolean(column: pd.Series) -> pa.Array:
    return pa.array(column, pa.bool_(), from_pandas=True)


def _uuid(column: pd.Series) -> pa.Array:
    return pa.array([None if _is_null(v) else str(v) for v in column], pa.string())


def _text_array(column: pd.Series) -> pa.Array:
    return pa.array([None if _is_null(v) else _array_literal(v) for v in column], pa.string())


def _array_literal(values: Iterable[Any]) -> str:
    quoted = ("NULL" if v is None else '"' + str(v).replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values)
    return "{" + ",".join(quoted) + "}"


def _json(column: pd.Series) -> pa.Array:
    dumped = [None if _is_null(v) else json.dumps(v, ensure_ascii=False, allow_nan=False) for v in column]
    return pa.array(dumped, pa.string())


#: First match wins; SQLAlchemy's ``Double`` and ``Float`` are ``Numeric`` too.
_CONVERTERS: Final[list[tuple[Any, Callable[[pd.Series], pa.Array]]]] = [
    (JSONB, _json),
    (sa.ARRAY, _text_array),
    (sa.Boolean, _boolean),
    (sa.Integer, _integer),
    (sa.Numeric, _numeric),
    (sa.DateTime, _instant),
    (sa.Date, _date),
    (sa.Uuid, _uuid),
    (sa.String, _text),
]


def _is_null(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def _records(table: Table, rows: Iterable[Mapping[str, Any]] | pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain mappings without NaN, the last of each primary key only."""
    keys = [c.name for c in table.primary_key.columns]
    mappings = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
    unique: dict[tuple[Any, ...], dict[str, Any]] = {}
    for mapping in mappings:
        record = {str(k): _plain(v) for k, v in mapping.items()}
        if unknown := [k for k in record if k not in table.c]:
            raise ValueError(f"{table.name} has no column {', '.join(unknown)}")
        if missing := [k for k in keys if record.get(k) is None and table.c[k].server_default is None]:
            raise ValueError(f"{table.name}: a row lacks {', '.join(missing)}")
        key = tuple(record.get(k) for k in keys)
        unique.pop(key, None)
        unique[key] = record
    return list(unique.values())


def _plain(value: Any) -> Any:
    """A value the driver knows: no NaN, no numpy scalars, no pandas timestamps."""
    if _is_null(value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    if isinstance(value, np.generic):
        return value.item()
    return value


def empty_all(connection: Connection) -> None:
    """Empty every table of the warehouse, partitions included, within the caller's transaction."""
    names = [t.name for t in FACT_TABLES[0].metadata.sorted_tables]
    connection.execute(text("TRUNCATE " + ", ".join(f"{SCHEMA}.{n}" for n in names)))
