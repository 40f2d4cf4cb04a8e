"""Checks of a whole partition: (source, account, date).

A partition stops when most of its rows are faulty, when it holds everything twice, or when its spend is out of all
proportion to the weeks before. What the warehouse had of that day then stays. Less than that warns.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from great_expectations import expectations as gxe

from expectations.rules import POSITION, Rule

#: More faulty rows than this share, and at least so many, mean that the file is not what it seems.
REJECTED_LIMIT, REJECTED_FROM = 0.5, 3
#: So many rows at least before "every row twice" is more than chance.
COPIES_FROM = 4
#: A day's rows below this share of the usual number are worth a word, where the usual number is enough to tell.
FEW_ROWS, ENOUGH_ROWS = 0.2, 20
#: A day's spend against the dearest day of the weeks before: worth a word, and impossible. An account in which only a
#: small campaign ran is ten or twenty times dearer on the day a large one starts.
SPEND_WARNING, SPEND_LIMIT = 30.0, 300.0
#: Days before which the weeks say nothing.
ENOUGH_DAYS = 14

KEYS = ["source", "account", "date"]
#: What makes two rows of a day the same: everything the platform says, nothing we add.
_COMPARED = [
    "source", "account", "date", "period_end", "campaign_id", "campaign_name", "ad_group", "ad_name", "category",
    "impressions", "clicks", "spend", "conversions", "registrations", "leads", "delivered", "opens",
]  # fmt: skip


def rules(*, is_advertising: bool, with_copies: bool = True) -> tuple[Rule, ...]:
    """The checks of partitions.

    Args:
        is_advertising: the table has spend, and as many rows each day as there are ads; mails and registrations come
            in waves, so few of them on a day say nothing.
        with_copies: rows of a day can be told apart by their figures.
    """
    found = [
        Rule(
            "mostly_faulty",
            gxe.ExpectColumnValuesToBeBetween(column="rejected_share", max_value=REJECTED_LIMIT),
            None,
            "{rejected} of {rows} rows are faulty",
        ),
    ]
    if with_copies:
        found.append(
            Rule(
                "everything_twice",
                gxe.ExpectColumnValuesToBeBetween(column="copied_rows", max_value=0),
                None,
                "each of the {rows} rows appears more than once: the export may be in the file twice",
            )
        )
    if is_advertising:
        found += [
            Rule(
                "few_rows",
                gxe.ExpectColumnValuesToBeBetween(column="row_ratio", min_value=FEW_ROWS, severity="warning"),
                None,
                "{rows} rows where {usual_rows} are usual",
            ),
            Rule(
                "spend_out_of_proportion",
                gxe.ExpectColumnValuesToBeBetween(column="spend_ratio", max_value=SPEND_LIMIT),
                "spend",
                "spend of {spend_base} where {usual_spend} a day was the most: the unit may be wrong",
            ),
            Rule(
                "spend_jump",
                gxe.ExpectColumnValuesToBeBetween(column="spend_ratio", max_value=SPEND_WARNING, severity="warning"),
                "spend",
                "spend of {spend_base} where {usual_spend} a day was the most",
            ),
        ]
    return tuple(found)


def _daily_spend(frame: pd.DataFrame) -> pd.Series:
    """Spend of rows that stand for one day; a report over weeks compares with no day."""
    if "spend_base" not in frame:
        return pd.Series(np.nan, index=frame.index)
    return frame["spend_base"].where(frame["period_end"] == frame["date"])


def summarise(frame: pd.DataFrame, rejected: np.ndarray, usual: pd.DataFrame | None) -> pd.DataFrame:
    """One row per partition of a prepared frame.

    Args:
        rejected: whether each row is, shape (rows,).
        usual: per source and account what the weeks before had a day: the median ``usual_rows``, the
            highest ``usual_spend``, and ``usual_days``.
    """
    compared = [column for column in _COMPARED if column in frame and frame[column].notna().any()]
    figures = [c for c in ("impressions", "delivered", "quantity") if c in frame]
    telling = frame[figures].fillna(0).gt(0).any(axis=1) if figures else pd.Series(True, index=frame.index)
    work = frame[KEYS].assign(
        rejected=rejected,
        copied=(frame.duplicated(compared, keep=False) & telling).to_numpy(),
        spend=_daily_spend(frame),
        is_partial=frame.get("is_partial", pd.Series(False, index=frame.index)).eq(True),
    )
    grouped = work.groupby(KEYS, dropna=False, sort=True, observed=True)
    summary = grouped.agg(
        rows=("rejected", "size"),
        rejected=("rejected", "sum"),
        copied=("copied", "sum"),
        spend_base=("spend", "sum"),
        is_partial=("is_partial", "any"),
    ).reset_index()
    telling_share = summary["rejected"] >= REJECTED_FROM
    summary["rejected_share"] = np.where(telling_share, summary["rejected"] / summary["rows"], 0.0)
    all_copied = (summary["copied"] == summary["rows"]) & (summary["rows"] >= COPIES_FROM)
    summary["copied_rows"] = np.where(all_copied, summary["copied"], 0)
    for column in ("usual_rows", "usual_spend", "usual_days"):
        summary[column] = np.nan
    if usual is not None and not usual.empty:
        summary = summary.drop(columns=["usual_rows", "usual_spend", "usual_days"]).merge(
            usual, on=["source", "account"], how="left"
        )
    enough = summary["usual_days"] >= ENOUGH_DAYS
    summary["row_ratio"] = np.where(
        enough & (summary["usual_rows"] >= ENOUGH_ROWS) & ~summary["is_partial"],
        summary["rows"] / summary["usual_rows"],
        np.nan,
    )
    summary["spend_ratio"] = np.where(
        enough & (summary["usual_spend"] > 0), summary["spend_base"] / summary["usual_spend"], np.nan
    )
    summary[POSITION] = np.arange(len(summary))
    return summary
