"""Rows of fact tables as columns: what the loader adds to them, and how the gate and PostgreSQL get to see them.

Amounts are Arrow decimals from reading to ``COPY``: no float ever stores one. The gate's frame holds floats, which is
enough to check a figure; what is stored comes from the columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from numpy.typing import NDArray

from ingestion.rates import DatedRates

Mask = NDArray[np.bool_]
Codes = NDArray[np.int64]

_EPOCH = date(1970, 1, 1).toordinal()
_SIX_PLACES = Decimal("0.000001")
#: Amounts in base currency, however large; the gate refuses those that NUMERIC(20, 6) cannot hold.
_BASE_AMOUNT = pa.decimal128(38, 6)
#: Rates of more digits are multiplied one by one: the product of 20 and 8 digits is exact in Python's 28 too.
_VECTOR_RATE_DIGITS = 8


def put(rows: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    """``rows`` with a column added or replaced."""
    at = rows.schema.get_field_index(name)
    return rows.append_column(name, column) if at < 0 else rows.set_column(at, name, column)


def constant(value: Any, count: int) -> pa.Array:
    """One text for all rows, stored once."""
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), pa.array([text], pa.string()))


def with_account(rows: pa.Table, account: str) -> pa.Table:
    """Rows that name no account are of ``account``."""
    if "account" not in rows.column_names:
        return put(rows, "account", constant(account, len(rows)))
    return put(rows, "account", pc.fill_null(plain(rows["account"]), account))


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of texts without a dictionary."""
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def codes(column: pa.ChunkedArray) -> tuple[Codes, list[Any]]:
    """A column as positions in the list of its different values; ``None`` is one of them."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    encoded = encoded.unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0) if encoded.num_chunks else pa.array([], encoded.type)
    values = encoded.dictionary.to_pylist()
    if not encoded.null_count:
        return encoded.indices.to_numpy().astype(np.int64), values
    return pc.fill_null(encoded.indices, len(values)).to_numpy().astype(np.int64), [*values, None]


def day_numbers(column: pa.ChunkedArray) -> Codes:
    """Days since 1970; days that are unknown lie before all others."""
    found: Codes = pc.fill_null(column.cast(pa.int32()).cast(pa.int64()), np.iinfo(np.int32).min).to_numpy()
    return found


def day(number: int) -> date:
    """The day of a known number."""
    return date.fromordinal(_EPOCH + number)


def day_number(known: date) -> int:
    """Days since 1970."""
    return known.toordinal() - _EPOCH


def _day(number: int) -> date | None:
    return None if number == np.iinfo(np.int32).min else day(number)


def covers_days(rows: pa.Table) -> Mask:
    """Whether each row stands for more than one day."""
    found: Mask = day_numbers(rows["period_end"]) != day_numbers(rows["date"])
    return found


def not_before(rows: pa.Table, today: date) -> pa.Array:
    """Whether a row's last day is ``today`` or later."""
    last = rows["period_end" if "period_end" in rows.column_names else "date"]
    return pa.array(day_numbers(last) >= day_number(today))


@dataclass(frozen=True)
class Keys:
    """Which partition each row belongs to: account, what splits it further, day.

    Attributes:
        partition: of each row, its position in ``scopes`` and ``days`` as one number.
    """

    partition: Codes
    scopes: list[tuple[str, str]]
    days: list[date]

    @classmethod
    def of(cls, rows: pa.Table, subscope: str | None) -> Keys:
        """The keys of rows.

        Args:
            subscope: the column that splits an account's days further.
        """
        account, accounts = codes(rows["account"])
        sub, subs = codes(rows[subscope]) if subscope else (np.zeros(len(rows), dtype=np.int64), [""])
        number, at = np.unique(day_numbers(rows["date"]), return_inverse=True)
        days = [_day(n) or date.min for n in number.tolist()]
        scopes = [(a, s or "") for a in accounts for s in subs]
        return cls((account * len(subs) + sub) * len(days) + at, scopes, days)

    def distinct(self, mask: Mask | None = None) -> dict[tuple[tuple[str, str], date], None]:
        """The partitions of the rows in ``mask``, of all by default."""
        found = np.unique(self.partition if mask is None else self.partition[mask]).tolist()
        count = len(self.days)
        return {(self.scopes[n // count], self.days[n % count]): None for n in found}

    def lines(self, is_period: Mask) -> Codes:
        """Rows numbered from 1 within their partition; those over several days count apart, and downwards."""
        group = self.partition * 2 + is_period
        order = np.argsort(group, kind="stable")
        ordered = group[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        sizes = np.diff(np.r_[starts, len(ordered)])
        lines = np.empty(len(group), dtype=np.int64)
        lines[order] = np.arange(1, len(group) + 1) - np.repeat(starts, sizes)
        return np.where(is_period, -lines, lines)


# --- money ------------------------------------------------------------------------------------------------------------


def convert(rows: pa.Table, rates: DatedRates, amounts: tuple[str, ...]) -> tuple[pa.Table, Mask]:
    """Fill currency, rate, its day and base currency, and the ``…_base`` of ``amounts``.

    Returns:
        The rows, and which of them are in a currency without a rate.
    """
    base = rates.base
    count = len(rows)
    currency = pc.fill_null(plain(rows["currency"]), base) if "currency" in rows.column_names else constant(base, count)
    rows = put(rows, "currency", currency)
    of_currency, currencies = codes(rows["currency"])
    number, of_day = np.unique(day_numbers(rows["date"]), return_inverse=True)
    pairs, of_pair = np.unique(of_currency * len(number) + of_day, return_inverse=True)
    found = [rates.rate(currencies[p // len(number)], _day(int(number[p % len(number)]))) for p in pairs.tolist()]
    different = list(dict.fromkeys(None if f is None else f[0] for f in found))
    of_rate = np.array([different.index(None if f is None else f[0]) for f in found], dtype=np.int64)[of_pair]
    rows = put(rows, "base_currency", constant(base, count))
    rows = put(rows, "fx_rate", _taken([None if r is None else str(r) for r in different], of_rate, pa.string()))
    rows = put(rows, "fx_date", _taken([None if f is None else f[1] for f in found], of_pair, pa.date32()))
    for name in amounts:
        if name in rows.column_names:
            rows = put(rows, f"{name}_base", _in_base(rows[name].combine_chunks(), different, of_rate))
    without = np.array([f is None for f in found], dtype=bool)[of_pair]
    return rows, without


def _taken(values: list[Any], at: Codes, kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind).take(pa.array(at))


def _in_base(amounts: pa.Array, rates: list[Decimal | None], of_rate: Codes) -> pa.Array:
    """Each amount times its rate."""
    if isinstance(amounts, pa.ChunkedArray):
        amounts = amounts.combine_chunks()
    if len(rates) == 1:
        return times(amounts, rates[0])
    order = np.argsort(of_rate, kind="stable")
    bounds = np.searchsorted(of_rate[order], np.arange(len(rates) + 1))
    parts = [
        times(amounts.take(pa.array(order[bounds[n] : bounds[n + 1]])), rate)
        for n, rate in enumerate(rates)
    ]  # fmt: skip
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    return pa.concat_arrays(parts).take(pa.array(back))


def times(amounts: pa.Array, rate: Decimal | None) -> pa.Array:
    """Amounts times one rate, exact, rounded to six places with halves to the even digit, as Python's Decimal does."""
    if rate is None:
        return pa.nulls(len(amounts), _BASE_AMOUNT)
    if rate == 1:
        return amounts.cast(_BASE_AMOUNT)
    digits, exponent = rate.as_tuple().digits, rate.as_tuple().exponent
    if len(digits) <= _VECTOR_RATE_DIGITS and isinstance(exponent, int) and -_VECTOR_RATE_DIGITS <= exponent <= 0:
        product = pc.multiply(amounts, pa.scalar(rate, pa.decimal128(_VECTOR_RATE_DIGITS + 1, -exponent)))
        return pc.round(product, 6, "half_to_even").cast(_BASE_AMOUNT)
    return pa.array(
        [None if a is None else (a * rate).quantize(_SIX_PLACES) for a in amounts.to_pylist()], _BASE_AMOUNT
    )


# --- the gate's frame -------------------------------------------------------------------------------------------------


def frame(rows: pa.Table, target: sa.Table, provenance: Mapping[str, Any]) -> pd.DataFrame:
    """The rows as pandas columns to be checked, labelled by position: texts as categories, amounts as floats."""
    columns: dict[str, Any] = {
        name: _series(column, target.c[name].type)
        for name, column in zip(rows.column_names, rows.columns, strict=True)
        if name in target.c
    }
    for name, value in provenance.items():
        columns[name] = pd.Categorical.from_codes(np.zeros(len(rows), dtype=np.int8), pd.Index([value])) if isinstance(
            value, str
        ) else value  # fmt: skip
    return pd.DataFrame(columns, index=pd.RangeIndex(len(rows)))


def _series(column: pa.ChunkedArray, kind: Any) -> Any:
    if isinstance(kind, sa.Numeric):
        if pa.types.is_string(column.type):
            at, texts = codes(column)
            return np.array([np.nan if t is None else float(t) for t in texts])[at]
        return column.cast(pa.float64()).to_numpy()
    if pa.types.is_date32(column.type):
        number, at = np.unique(day_numbers(column), return_inverse=True)
        days = np.empty(len(number), dtype=object)
        days[:] = [_day(n) for n in number.tolist()]
        return days[at]
    if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
        at, texts = codes(column)
        # a dictionary may hold words of other rows
        used = np.unique(at).tolist()
        known = sorted(texts[n] for n in used if texts[n] is not None)
        place = {text: n for n, text in enumerate(known)}
        moved = np.full(len(texts) + 1, -1, dtype=np.int64)
        moved[used] = [-1 if texts[n] is None else place[texts[n]] for n in used]
        return pd.Categorical.from_codes(moved[at], pd.Index(known, dtype=object))
    return column.to_pandas()  # whole numbers with unknown ones among them as floats


# --- campaigns --------------------------------------------------------------------------------------------------------


def campaigns(rows: pa.Table) -> Iterator[tuple[str, str, str, str | None, date, date]]:
    """Account, campaign, name, type, first and last day, of rows of ad performance in their order.

    Rows of a campaign that never changes its name or type come as one, over all their days: whoever keeps the name
    and type of the last day, and the earliest and latest day, keeps the same.
    """
    if not len(rows):
        return
    account, accounts = codes(rows["account"])
    identity, identities = codes(rows["campaign_id"])
    name, names = codes(rows["campaign_name"])
    has_kind = "campaign_type" in rows.column_names
    kind, kinds = codes(rows["campaign_type"]) if has_kind else (np.zeros(len(rows), dtype=np.int64), [None])
    first, last = day_numbers(rows["date"]), day_numbers(rows["period_end"])
    group = account * len(identities) + identity
    said = name * len(kinds) + kind
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.r_[True, group[order][1:] != group[order][:-1]])
    ends = np.r_[starts[1:], len(order)]
    first, last, said, group = first[order], last[order], said[order], group[order]
    earliest, latest = np.minimum.reduceat(first, starts), np.maximum.reduceat(last, starts)
    constant_name = np.minimum.reduceat(said, starts) == np.maximum.reduceat(said, starts)
    for n, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        who = accounts[group[start] // len(identities)], identities[group[start] % len(identities)]
        spans = [(start, earliest[n], latest[n])] if constant_name[n] else (
            (at, first[at], last[at]) for at in range(start, end)
        )  # fmt: skip
        for at, begins, ends_on in spans:
            what = names[said[at] // len(kinds)], kinds[said[at] % len(kinds)]
            yield (*who, *what, day(int(begins)), day(int(ends_on)))
