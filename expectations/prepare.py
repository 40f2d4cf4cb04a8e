"""Turn a frame as the loader has it (Decimal, date, None) into one that Great Expectations can check quickly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from expectations.rules import POSITION

_SHOWN = 60


def prepare(table: sa.Table, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame's columns as the warehouse's types: numbers as float64, days and instants as timestamps.

    Columns of the table that the frame lacks are added as unknown. ``unreadable`` says, for rows with a value that is
    not of its column's type, which one in words; it is empty elsewhere. ``__position`` numbers the rows.
    """
    prepared: dict[str, Any] = {POSITION: np.arange(len(frame))}
    unreadable = np.full(len(frame), None, dtype=object)
    for column in table.columns:
        if isinstance(column.type, sa.ARRAY | sa.JSON):
            continue
        if column.name not in frame.columns:
            prepared[column.name] = _unknown(column.type, len(frame))
            continue
        given = frame[column.name].reset_index(drop=True)
        values, fault = _typed(column.type, given)
        for row in np.flatnonzero(fault & (unreadable == None)):  # noqa: E711 - compared element by element
            unreadable[row] = f"{column.name} is {_shown(given[row])}, not {_wanted(column.type)}"
        prepared[column.name] = values
    prepared["unreadable"] = unreadable
    return pd.DataFrame(prepared)


def _shown(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


def _wanted(kind: sa.types.TypeEngine[Any]) -> str:
    if isinstance(kind, sa.Integer):
        return "a whole number"
    if isinstance(kind, sa.Numeric):
        return "a number"
    if isinstance(kind, sa.DateTime):
        return "a date and time"
    return "a date" if isinstance(kind, sa.Date) else "text" if isinstance(kind, sa.Text) else "yes or no"


def _unknown(kind: sa.types.TypeEngine[Any], rows: int) -> Any:
    if isinstance(kind, sa.Integer | sa.Numeric):
        return np.full(rows, np.nan)
    if isinstance(kind, sa.Date | sa.DateTime):
        return np.full(rows, np.datetime64("NaT", "ns"))
    empty: list[str] = []
    return pd.Categorical([None] * rows, categories=empty) if isinstance(kind, sa.Text) else np.full(rows, None, object)


def _typed(kind: sa.types.TypeEngine[Any], given: pd.Series) -> tuple[Any, np.ndarray]:
    """The values in their type, and where a known value could not be read as such."""
    known = given.notna().to_numpy()
    if isinstance(kind, sa.Integer | sa.Numeric):
        numbers = _numbers(given)
        fault = known & ~np.isfinite(numbers)
        if isinstance(kind, sa.Integer):
            with np.errstate(invalid="ignore"):
                fault |= np.isfinite(numbers) & (numbers != np.round(numbers))
        return np.where(np.isfinite(numbers), numbers, np.nan), fault
    if isinstance(kind, sa.Date | sa.DateTime):
        times = _times(given, is_day=isinstance(kind, sa.Date))
        return times, known & np.isnat(times)
    if isinstance(kind, sa.Boolean):
        return given.to_numpy(dtype=object), known & ~given.isin([True, False]).to_numpy()
    if isinstance(kind, sa.Text):
        # a column repeats few words many times: as categories they are compared and hashed once each
        words = given.astype("category")
        odd = [word for word in words.cat.categories if not isinstance(word, str)]
        return words, known & words.isin(odd).to_numpy() if odd else np.zeros(len(given), dtype=bool)
    return given.to_numpy(dtype=object), np.zeros(len(given), dtype=bool)


def _numbers(given: pd.Series) -> np.ndarray:
    if pd.api.types.is_bool_dtype(given):
        return np.full(len(given), np.nan)
    try:
        return given.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        return pd.to_numeric(given, errors="coerce").to_numpy(dtype=float)


def _times(given: pd.Series, *, is_day: bool) -> np.ndarray:
    # A column repeats few days many times: read each once.
    codes, distinct = pd.factorize(given, use_na_sentinel=True)
    read = pd.to_datetime(pd.Series(distinct, dtype=object), errors="coerce", utc=True).dt.tz_localize(None)
    values = (read.dt.normalize() if is_day else read).to_numpy(dtype="datetime64[ns]")
    filled = np.append(values, np.datetime64("NaT", "ns"))
    return filled[codes]
