"""The feature matrix: one function for training and for serving.

Both hand over *raw columns* (:data:`RAW_COLUMNS` plus the features of the feature store, by name) and the list of
feature names the model was trained with; :func:`design_matrix` computes them in that order. A raw column may be an
array with one value per row or a scalar that holds for all rows. What is unknown is NaN, never zero.

Two kinds of names exist: *derived* ones (:func:`derived_names`), computed here from the brief, the tactic and the
demand outlook; every other name is a feature of the store and is taken as it is.

Left out on purpose: spend and staff hours (the curve alone carries them, see :mod:`turnout.scoring`), the target number
and the budget (wishes: raising a target must not raise the forecast).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout import taxonomy
from turnout.brief import Brief
from turnout.tactics import Tactic

Columns = Mapping[str, Any]
Floats32 = NDArray[np.float32]

#: What :func:`design_matrix` reads besides the features of the store.
RAW_COLUMNS: tuple[str, ...] = (
    "channel", "is_paid", "category", "format", "event_date", "as_of", "price_base", "industries_n",
    "job_titles_n", "company_sizes_n", "demand_index",
)  # fmt: skip

#: Channels of the catalogue that get a column of their own; others are all zeros.
CHANNELS: tuple[str, ...] = (
    "paid_social", "paid_search", "display", "video", "media", "pr", "influencer", "email", "organic_social",
    "partner", "event_platform", "community", "content", "referral",
)  # fmt: skip

_YEAR = 365.2425


def _days(columns: Columns, name: str) -> NDArray[np.float64]:
    """Days since 1970 as floats; NaN where the date is not known."""
    values = np.asarray(columns[name], dtype="datetime64[D]")
    days = values.astype(np.int64).astype(np.float64)
    return np.where(np.isnat(values), np.nan, days)


def _number(columns: Columns, name: str) -> NDArray[np.float64]:
    return np.asarray(columns[name], dtype=np.float64)


def _is(column: str, value: str) -> Callable[[Columns], Any]:
    return lambda columns: np.asarray(columns[column], dtype=object) == value


def _season(turn: Callable[[Any], Any], harmonic: int) -> Callable[[Columns], Any]:
    return lambda columns: turn(2 * np.pi * harmonic * _days(columns, "event_date") / _YEAR)


@lru_cache(maxsize=1)
def _derived() -> dict[str, Callable[[Columns], Any]]:
    features: dict[str, Callable[[Columns], Any]] = {
        "lead_days": lambda c: _days(c, "event_date") - _days(c, "as_of"),
        # 1970-01-01 was a Thursday; 0 is Monday
        "weekday": lambda c: (_days(c, "event_date") + 3) % 7,
        "season_sin": _season(np.sin, 1),
        "season_cos": _season(np.cos, 1),
        "season_sin_2": _season(np.sin, 2),
        "season_cos_2": _season(np.cos, 2),
        "log_price": lambda c: np.log1p(_number(c, "price_base")),
        "industries_n": lambda c: _number(c, "industries_n"),
        "job_titles_n": lambda c: _number(c, "job_titles_n"),
        "company_sizes_n": lambda c: _number(c, "company_sizes_n"),
        "demand_index": lambda c: _number(c, "demand_index"),
        "is_paid": lambda c: np.asarray(c["is_paid"], dtype=np.float64),
    }
    features |= {f"format:{f}": _is("format", f) for f in taxonomy.formats.ids}
    features |= {f"category:{c}": _is("category", c) for c in taxonomy.categories.ids}
    features |= {f"channel:{c}": _is("channel", c) for c in CHANNELS}
    return features


def derived_names() -> tuple[str, ...]:
    """Every feature computed from the brief, the tactic and the outlook, in their fixed order."""
    return tuple(_derived())


def design_matrix(columns: Columns, names: Sequence[str], rows: int) -> Floats32:
    """The model's inputs.

    Args:
        columns: raw columns: arrays of length ``rows``, or scalars that hold for every row.
        names: features wanted, in the model's order.
        rows: number of rows.

    Returns:
        Shape (rows, len(names)), float32, NaN for unknown. Infinite values count as unknown.

    Raises:
        KeyError: a derived feature lacks a raw column. A store feature that is absent is unknown instead: a model
            must survive a column that is no longer delivered.
    """
    derived = _derived()
    matrix = np.full((rows, len(names)), np.nan, dtype=np.float32)
    for position, name in enumerate(names):
        compute = derived.get(name)
        if compute is not None:
            matrix[:, position] = compute(columns)
        elif (values := columns.get(name)) is not None:
            matrix[:, position] = values
    matrix[~np.isfinite(matrix)] = np.nan
    return matrix


def event_columns(brief: Brief, as_of: date, *, price_base: float, demand_index: float) -> dict[str, Any]:
    """The raw columns of one event, as scalars."""
    event = brief.event
    return {
        "category": event.category,
        "format": str(event.format),
        "event_date": np.datetime64(event.date, "D"),
        "as_of": np.datetime64(as_of, "D"),
        "price_base": price_base,
        "industries_n": float(len(event.audience.industries)),
        "job_titles_n": float(len(event.audience.job_titles)),
        "company_sizes_n": float(len(event.audience.company_sizes)),
        "demand_index": demand_index,
    }


def tactic_columns(tactics: Sequence[Tactic]) -> dict[str, Any]:
    """The raw columns of catalogue tactics: arrays of their length."""
    return {
        "channel": np.array([t.channel for t in tactics], dtype=object),
        "is_paid": np.array([t.is_paid for t in tactics], dtype=np.float64),
    }


def store_columns(
    names: Sequence[str],
    tactic_ids: Sequence[str],
    features: Mapping[str, Mapping[str, float | None]],
    segment: Mapping[str, float | None],
) -> dict[str, NDArray[np.float64]]:
    """Features of the store as arrays: the tactic's own value, else the segment's, else NaN."""
    derived = _derived()
    columns: dict[str, NDArray[np.float64]] = {}
    for name in names:
        if name in derived:
            continue
        shared = segment.get(name)
        values = [features.get(t, {}).get(name, shared) for t in tactic_ids]
        columns[name] = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    return columns
