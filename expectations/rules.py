"""What a check is: a Great Expectations expectation, a stable code and a reason in plain words.

An expectation of severity ``critical`` on rows sends the row to quarantine; on partitions it stops the partition.
``warning`` only speaks. Rules work on a *prepared* frame (:mod:`expectations.prepare`): numbers are floats, days are
timestamps, and columns that hold no figure of their own but a relation (``click_limit``) are added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd
from great_expectations import expectations as gxe

Severity = Literal["critical", "warning"]

#: The column that says which row of the handed-in frame a row is.
POSITION = "__position"


@dataclass(frozen=True, slots=True)
class Rule:
    """One check.

    Attributes:
        code: stable machine-readable reason, e.g. ``clicks_over_impressions``.
        expectation: the Great Expectations object; it carries the severity.
        column: the column a reader should look at.
        reason: words for a person; ``{column}`` names are filled with the row's values.
        keep_first: for duplicates: the first row of each group stays.
    """

    code: str
    expectation: Any
    column: str | None
    reason: str
    keep_first: bool = False

    @property
    def columns(self) -> list[str]:
        """The columns the expectation reads."""
        named = (getattr(self.expectation, name, None) for name in ("column", "column_A", "column_B"))
        return [*(name for name in named if name), *getattr(self.expectation, "column_list", ())]

    def asks(self, is_unknown: pd.Series) -> bool:
        """Whether the rule can fail at all, of a frame of which ``is_unknown`` tells the columns without any value."""
        if isinstance(self.expectation, gxe.ExpectColumnValuesToNotBeNull):
            return True
        return not any(is_unknown[column] for column in self.columns)

    @property
    def is_critical(self) -> bool:
        return str(getattr(self.expectation.severity, "value", self.expectation.severity)) == "critical"


def _no_change(frame: pd.DataFrame, today: pd.Timestamp) -> pd.DataFrame:
    return frame


@dataclass(frozen=True, slots=True)
class Suite:
    """All checks of one warehouse table.

    Attributes:
        table: its name.
        rows: checks of each row.
        partitions: checks of each (source, account, date); empty for tables without days.
        derive: adds the columns that rules need to a prepared frame.
    """

    table: str
    rows: tuple[Rule, ...]
    partitions: tuple[Rule, ...] = ()
    derive: Callable[[pd.DataFrame, pd.Timestamp], pd.DataFrame] = field(default=_no_change)


def filled(words: pd.Series) -> pd.Series:
    """Text with the empty string for what is unknown, so that unknown equals unknown."""
    return words.astype(object).where(words.notna(), "")


def required(*columns: str) -> Iterator[Rule]:
    """Columns that must have a value in every row."""
    for column in columns:
        yield Rule("missing", gxe.ExpectColumnValuesToNotBeNull(column=column), column, f"{column} is missing")


def readable() -> Iterator[Rule]:
    """Every value is of its column's type; see :func:`expectations.prepare.prepare`."""
    yield Rule(
        "wrong_type",
        gxe.ExpectColumnValuesToBeNull(column="unreadable"),
        None,
        "{unreadable}",
    )


def not_negative(columns: Iterable[str], maximum: float) -> Iterator[Rule]:
    """Counts and amounts lie between zero and what no real row exceeds."""
    for column in columns:
        yield Rule(
            "out_of_range",
            gxe.ExpectColumnValuesToBeBetween(column=column, min_value=0, max_value=maximum),
            column,
            f"{column} is {{{column}}}; it must lie between 0 and {maximum:,.0f}",
        )


def one_of(column: str, allowed: Iterable[str], what: str) -> Iterator[Rule]:
    """Values of a closed list."""
    values = sorted(allowed)
    listed = ", ".join(values) if len(values) <= 12 else f"{', '.join(values[:8])}, …"
    yield Rule(
        f"unknown_{what}",
        gxe.ExpectColumnValuesToBeInSet(column=column, value_set=values),
        column,
        f"{column} is {{{column}}}, which is no {what.replace('_', ' ')} (allowed: {listed})",
    )


def at_most(
    column: str, limit: str, code: str, reason: str, *, severity: Severity = "critical"
) -> Iterator[Rule]:  # fmt: skip
    """``column`` does not exceed the column ``limit``, where both are known."""
    yield Rule(
        code,
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A=limit,
            column_B=column,
            or_equal=True,
            ignore_row_if="either_value_is_missing",
            severity=severity,
        ),
        column,
        reason,
    )


def plausible_day(column: str, first: str, today: pd.Timestamp) -> Iterator[Rule]:
    """Days from ``first`` to about a year ahead; a day that has not come yet is worth a word.

    A future day is no error as such: the clock of this machine, not the data, may be wrong.
    """
    last = today + pd.Timedelta(days=400)
    yield Rule(
        "implausible_date",
        gxe.ExpectColumnValuesToBeBetween(
            column=column, min_value=pd.Timestamp(first).to_pydatetime(), max_value=last.to_pydatetime()
        ),
        column,
        f"{column} is {{{column}}}; expected a day from {first} to {last:%Y-%m-%d}",
    )
    yield Rule(
        "date_in_future",
        gxe.ExpectColumnValuesToBeBetween(
            column=column, max_value=(today + pd.Timedelta(days=2)).to_pydatetime(), severity="warning"
        ),
        column,
        f"{column} is {{{column}}}, after today ({today:%Y-%m-%d})",
    )


def unfinished(frame: pd.DataFrame) -> pd.Series:
    """The day of rows that were read before it was over, in their account's time zone, and do not say so."""
    last = frame["period_end"] if "period_end" in frame else frame["date"]
    found = pd.Series(pd.NaT, index=frame.index, dtype="datetime64[ns]")
    zones = frame["account_time_zone"]
    for zone in zones.dropna().unique():
        ours = (zones == zone) & frame["fetched_at"].notna()
        try:
            there = frame.loc[ours, "fetched_at"].dt.tz_localize("UTC").dt.tz_convert(str(zone)).dt.tz_localize(None)
        except (KeyError, ValueError):  # a zone nobody knows says nothing of the day
            continue
        going = (last[ours] == there.dt.normalize()) & ~frame.loc[ours, "is_partial"].eq(True)
        found[going.index[going]] = last[going.index[going]]
    return found


def finished() -> Rule:
    """No row of a day that was not over passes for a whole day's; see :func:`unfinished`."""
    return Rule(
        "unfinished_day",
        gxe.ExpectColumnValuesToBeNull(column="unmarked_day", severity="warning"),
        "date",
        "read on {unmarked_day} itself, before the day was over, but not marked as partial",
    )


def unique(columns: list[str], code: str, reason: str) -> Rule:
    """No two rows share all of ``columns``; of those that do, the first stays."""
    return Rule(
        code,
        gxe.ExpectCompoundColumnsToBeUnique(column_list=columns, ignore_row_if="any_value_is_missing"),
        columns[-1],
        reason,
        keep_first=True,
    )
