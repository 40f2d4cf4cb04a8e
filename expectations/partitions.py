"""Checks of a whole partition, (source, account, date), and of an account as a whole.

A partition stops when most of its rows are faulty, when it holds everything twice, when its amounts are in another
unit, when it is missing although the warehouse has it; an account stops when its currency, its columns or its closed
days are no longer what they were, or when another account reports the very same. What the warehouse had then stays.
Less than that warns. Nothing is compared before there is enough to compare with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from great_expectations import expectations as gxe

from expectations import drift
from expectations.history import DAY, MEASURES, days_of_frame
from expectations.rules import POSITION, Rule, Severity
from expectations.tuning import Limits

#: More faulty rows than this share, and at least so many, mean that the file is not what it seems.
REJECTED_LIMIT, REJECTED_FROM = 0.5, 3
#: So many rows at least before "every row twice" is more than chance.
COPIES_FROM = 4
#: Impressions, mails or the like that make two equal rows more than chance.
_TELLING = 100
#: Days on which two accounts report the same, before it is more than chance; and their share.
_TWIN_DAYS, _TWIN_SHARE = 3, 0.8
#: Rows of history, and share of them that fill a column, before its absence tells.
_FILLED_ROWS, _FILLED_SHARE = 20, 0.9
#: Columns without which an account's figures are worth nothing.
_VITAL = {
    "ad_performance": ("impressions", "clicks", "spend"),
    "email_performance": ("requests", "delivered", "unique_opens"),
    "registration": (),
}
#: Rows a list must have had before losing half of them tells.
_LISTED = 30
#: Days on either side of a gap in which a campaign that goes on has rows.
_NEAR = 3
#: Days named in a reason.
_NAMED = 5

KEYS = DAY
#: What makes two rows of a day the same: everything the platform says, nothing we add.
_COMPARED = [
    "source", "account", "date", "period_end", "campaign_id", "campaign_name", "ad_group", "ad_name", "category",
    "impressions", "clicks", "spend", "conversions", "registrations", "leads", "delivered", "opens",
]  # fmt: skip


def _below(code: str, column: str, limit: float, reason: str, severity: Severity, about: str | None = None) -> Rule:
    return Rule(
        code, gxe.ExpectColumnValuesToBeBetween(column=column, max_value=limit, severity=severity), about, reason
    )


def _above(code: str, column: str, limit: float, reason: str, about: str | None = None) -> Rule:
    return Rule(
        code, gxe.ExpectColumnValuesToBeBetween(column=column, min_value=limit, severity="warning"), about, reason
    )


def _nothing(code: str, column: str, reason: str, severity: Severity, about: str | None = None) -> Rule:
    return Rule(code, gxe.ExpectColumnValuesToBeNull(column=column, severity=severity), about, reason)


def rules(table: str, limits: Limits) -> tuple[Rule, ...]:
    """The checks of a fact table's partitions and accounts."""
    return tuple(_rules(table, limits))


def _rules(table: str, limits: Limits) -> Iterator[Rule]:
    yield _below("mostly_faulty", "rejected_share", REJECTED_LIMIT, "{rejected} of {rows} rows are faulty", "critical")
    if table != "registration":  # whoever registers is a row of their own
        yield _below(
            "everything_twice",
            "copied_rows",
            0,
            "each of the {rows} rows appears more than once: the export may be in the file twice",
            "critical",
        )
        yield _below(
            "repeated_rows",
            "repeated_rows",
            0,
            "{repeated_rows} rows appear more than once, figure by figure",
            "warning",
        )
    yield _nothing("schema_change", "vital_lost", "{vital_lost} is empty throughout; it never was before", "critical")
    yield _nothing("schema_change", "column_lost", "{column_lost} is empty throughout; it never was before", "warning")
    yield _nothing(
        "double_export", "twin",
        "the same figures, day by day, as the account {twin}: one export may have been handed in for two accounts",
        "critical",
    )  # fmt: skip
    yield _nothing(
        "double_export", "known_twin", "the same figures, day by day, as the account {known_twin}", "warning"
    )
    yield _nothing(
        "missing_days", "missing_days", "no rows on {missing_days}, though nearly every such day has", "warning"
    )
    yield _below(
        "restated_out_of_proportion", "restated_loss", limits.restated_stop,
        "{restated}: part of the export may be missing, or it may be of another account", "critical",
    )  # fmt: skip
    yield _below(
        "restated_sums",
        "restated_change",
        limits.restated_warn,
        "{restated}; platforms rarely change figures so old",
        "warning",
    )
    yield from {"ad_performance": _ads, "email_performance": _mails, "registration": _registrations}[table](limits)


def _ads(limits: Limits) -> Iterator[Rule]:
    yield _below(
        "days_gone", "gone_rows", 0, "no rows, where the warehouse has {gone_rows} with a spend of {spend_base}",
        "critical",
    )  # fmt: skip
    yield _nothing(
        "currency_changed", "new_currency", "amounts are in {new_currency}; they were in {old_currency}", "critical",
        "currency",
    )  # fmt: skip
    yield _nothing(
        "currency_changed", "mixed_currency", "amounts are in {mixed_currency}; they were in {old_currency}", "warning",
        "currency",
    )  # fmt: skip
    yield _above("few_rows", "row_ratio", limits.few_rows, "{rows} rows where {usual_rows} are usual")
    yield _below(
        "many_rows", "row_jump", limits.many_rows,
        "{rows} rows where campaigns had {most_rows} at most: a breakdown may have been exported", "warning",
    )  # fmt: skip
    yield _below(
        "spend_out_of_proportion", "spend_ratio", limits.spend_out_of_proportion,
        "spend of {spend_base} where {usual_spend} a day was the most: the unit may be wrong", "critical", "spend",
    )  # fmt: skip
    yield _below(
        "amount_scale", "amount_scale", limits.amount_scale,
        "a click and a view cost {amount_scale} times more, or less, than usual: amounts may be in another unit "
        "or currency", "critical", "spend",
    )  # fmt: skip
    yield _below(
        "spend_jump", "spend_jump", 1, "spend of {spend_base} where {usual_spend} a day was the most", "warning",
        "spend",
    )  # fmt: skip
    yield _below(
        "cost_drift", "cost_drift", limits.cost_drift,
        "spend of {seen_spend}, where these campaigns' clicks usually cost {expected_spend}", "warning", "spend",
    )  # fmt: skip
    yield _below(
        "click_rate_drift", "click_rate_drift", limits.click_rate_drift,
        "{seen_clicks} clicks, where these campaigns' impressions usually bring {expected_clicks}", "warning", "clicks",
    )  # fmt: skip
    yield _below(
        "conversion_drift", "conversion_drift", limits.conversion_drift,
        "{seen_conversions} conversions, where these campaigns' clicks usually bring {expected_conversions}", "warning",
        "conversions",
    )  # fmt: skip


def _mails(limits: Limits) -> Iterator[Rule]:
    yield _below(
        "mails_jump", "mails_jump", limits.mails_jump, "{requests} mails where {most_mails} a day was the most",
        "warning", "requests",
    )  # fmt: skip
    yield _below(
        "open_rate_drift", "open_rate_drift", limits.open_rate_drift,
        "{recent_unique_opens} opens a mail over the last days, where {usual_unique_opens} are usual", "warning",
        "unique_opens",
    )  # fmt: skip
    yield _below(
        "mail_click_drift", "mail_click_drift", limits.mail_click_drift,
        "{recent_unique_clicks} clicks a mail over the last days, where {usual_unique_clicks} are usual", "warning",
        "unique_clicks",
    )  # fmt: skip
    yield _below(
        "bounce_drift", "bounce_excess", 1, "a share of {bounce_share} bounced, where {usual_bounces} is usual",
        "warning", "bounces",
    )  # fmt: skip
    yield _above(
        "delivery_drift", "delivered_share", limits.delivered_share, "only a share of {delivered_share} was delivered",
        "delivered",
    )  # fmt: skip
    yield _below(
        "spam_reports", "spam_share", limits.spam_share, "a share of {spam_share} was reported as spam", "warning",
        "spam_reports",
    )  # fmt: skip


def _registrations(limits: Limits) -> Iterator[Rule]:
    yield _below(
        "registrations_jump", "registrations_jump", limits.registrations_jump,
        "{rows} registrations where {most_rows} a day was the most", "warning",
    )  # fmt: skip
    yield _below(
        "cancellations_jump", "cancelled_share", limits.cancelled_share,
        "a share of {cancelled_share} of a week's registrations is cancelled, where {usual_cancelled} is usual",
        "warning", "status",
    )  # fmt: skip
    yield _nothing(
        "show_up_drift", "show_up", "{show_up}", "warning", "attended",
    )  # fmt: skip


# --- the frame that the rules read ------------------------------------------------------------------------------------

_FLOATS = (
    "rejected_share", "copied_rows", "repeated_rows", "row_ratio", "row_jump", "usual_rows", "usual_days",
    "usual_spend", "most_rows", "spend_ratio", "spend_jump", "amount_scale", "cost_drift", "expected_spend",
    "seen_spend", "click_rate_drift", "expected_clicks", "seen_clicks", "conversion_drift", "seen_conversions",
    "expected_conversions", "gone_rows", "restated_loss", "restated_change", "open_rate_drift", "mail_click_drift",
    "usual_unique_opens", "recent_unique_opens", "usual_unique_clicks", "recent_unique_clicks", "bounce_share",
    "usual_bounces", "bounce_excess", "delivered_share", "spam_share", "most_mails", "mails_jump", "requests",
    "registrations_jump", "usual_cancelled", "cancelled_share",
)  # fmt: skip
_WORDS = (
    "vital_lost", "column_lost", "twin", "known_twin", "missing_days", "restated", "new_currency", "mixed_currency",
    "old_currency", "show_up",
)  # fmt: skip


def summarise(
    table: str,
    frame: pd.DataFrame,
    rejected: np.ndarray,
    history: pd.DataFrame,
    limits: Limits,
    today: pd.Timestamp,
    show_up: pd.DataFrame | None = None,
    twins: Mapping[tuple[str, str], str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the rules read of a prepared frame.

    Args:
        rejected: whether each row is, shape (rows,).
        history: days of the warehouse around those of the frame, as :class:`expectations.history.History` has them.
        show_up: columns source, account and ``show_up``, a reason, of events whose attendance is odd.
        twins: (source, account) of a list → the other account that has the same people.

    Returns:
        One row per partition, one per account (no ``date``), one per day that is missing though it was there; and the
        frame's days as :func:`expectations.history.days_of_frame` has them.
    """
    partial = frame.get("is_partial", pd.Series(False, index=frame.index)).eq(True).to_numpy()
    summary = _partitions(frame, rejected, partial)
    own = days_of_frame(table, frame, ~rejected & ~partial)
    parts = [summary]
    for (source, account), days in own.groupby(["source", "account"], sort=True):
        theirs = (history["source"] == source) & (history["account"] == account)
        mine = (summary["source"] == source) & (summary["account"] == account)
        one = _Account(table, str(source), str(account), days, history[theirs], summary[mine], limits, today)
        if one.has_past:
            for name, values in one.drift().items():
                summary.loc[one.at, name] = values
        others = pd.concat([history[(history["source"] == source) & ~theirs], own[own["account"] < account]])
        twin = (twins or {}).get((str(source), str(account)))
        parts.extend(one.rows(others[others["source"] == source], {"twin": twin} if twin else {}))
    if show_up is not None and len(show_up):
        parts.append(show_up)
    summary = pd.concat(parts, ignore_index=True) if len(parts) > 1 else summary
    for name in _WORDS:
        summary[name] = summary[name].astype(object).where(summary[name].notna(), None) if name in summary else None
    for name in _FLOATS:
        summary[name] = summary[name].astype(float) if name in summary else np.nan
    summary[POSITION] = np.arange(len(summary))
    return summary, own


def _partitions(frame: pd.DataFrame, rejected: np.ndarray, partial: np.ndarray) -> pd.DataFrame:
    compared = [column for column in _COMPARED if column in frame and frame[column].notna().any()]
    figures = [c for c in ("impressions", "delivered", "quantity") if c in frame]
    count = frame[figures].fillna(0).max(axis=1) if figures else pd.Series(1.0, index=frame.index)
    copied = frame.duplicated(compared, keep=False)
    again = (frame.duplicated(compared, keep="first") if copied.any() else copied) & (count >= _TELLING)
    spend = frame["spend_base"].where(frame["period_end"] == frame["date"]) if "spend_base" in frame else np.nan
    work = frame[KEYS].assign(
        rejected=rejected,
        copied=(copied & count.gt(0)).to_numpy(),
        again=again.to_numpy(),
        spend=spend,
        sent=frame.get("requests", np.nan),
        is_partial=partial,
    )
    grouped = work.groupby(KEYS, dropna=False, sort=True, observed=True)
    summary = grouped.agg(
        rows=("rejected", "size"), rejected=("rejected", "sum"), copied=("copied", "sum"),
        repeated_rows=("again", "sum"), spend_base=("spend", "sum"), requests=("sent", "sum"),
        is_partial=("is_partial", "any"),
    ).reset_index()  # fmt: skip
    summary["source"], summary["account"] = summary["source"].astype(object), summary["account"].astype(object)
    telling = summary["rejected"] >= REJECTED_FROM
    summary["rejected_share"] = np.where(telling, summary["rejected"] / summary["rows"], 0.0)
    all_copied = (summary["copied"] == summary["rows"]) & (summary["rows"] >= COPIES_FROM)
    summary["copied_rows"] = np.where(all_copied, summary["copied"], 0)
    return summary


class _Account:
    """One account of a frame beside what the warehouse knows of it."""

    def __init__(
        self,
        table: str,
        source: str,
        account: str,
        own: pd.DataFrame,
        known: pd.DataFrame,
        summary: pd.DataFrame,
        limits: Limits,
        today: pd.Timestamp,
    ) -> None:
        self.table, self.source, self.account = table, source, account
        self.own, self.known, self.limits, self.today = own, known, limits, today
        #: Days the frame has rows of, faulty and unfinished ones too.
        self.mentioned = pd.DatetimeIndex(summary["date"].dropna().unique())
        #: Rows of each of these days.
        self.present = summary.groupby("date")["rows"].sum()
        judged = pd.DatetimeIndex(own["date"].unique())
        self.at = summary.index[summary["date"].isin(judged)]
        self.judged = pd.DatetimeIndex(summary.loc[self.at, "date"])
        in_frame = known["date"].isin(self.mentioned)
        #: What the warehouse has of the frame's own days, and of the days before it. What others may have told of days
        #: within is left aside, so that reading the same files again says the same.
        self.old, self.before = known[in_frame], known[known["date"] < self.mentioned.min()]

    @property
    def has_past(self) -> bool:
        """Whether there is anything to compare with; a long file is its own history."""
        return len(self.before) > 0 or self.own["date"].nunique() > self.limits.enough_days

    def drift(self) -> dict[str, Any]:
        """Columns of the partitions at ``self.at``."""
        series = pd.concat([self.before, self.own], ignore_index=True) if len(self.before) else self.own
        first = self.judged.min() - pd.Timedelta(weeks=self.limits.weeks)
        series = series[series["date"] >= first]
        sums = MEASURES[self.table].sums
        g = drift.grid(series, self.judged, sums, merge=self.table == "email_performance")
        if self.table == "ad_performance":
            return drift.ads(g, self.limits, self.today, self.present)
        return drift.mails(g, self.limits) if self.table == "email_performance" else drift.registrations(g, self.limits)

    def rows(self, others: pd.DataFrame, told: dict[str, Any]) -> Iterator[pd.DataFrame]:
        """The row of the account, with what is ``told`` of it, and those of days that are gone."""
        found = {**told, **self._lost_columns(), **self._twin(others), **self._missing(), **self._restated()}
        if self.table == "ad_performance":
            found |= self._currency()
            yield from self._gone()
        if found:
            spend = float(self.own["spend_base"].sum()) if "spend_base" in self.own else np.nan
            yield self._row(pd.NaT, {**found, "rows": self.own["rows"].sum(), "spend_base": spend})

    def _row(self, day: Any, values: dict[str, Any]) -> pd.DataFrame:
        row = {"source": self.source, "account": self.account, "date": day, **values}
        return pd.DataFrame([row]).astype({"date": "datetime64[ns]"})

    def _lost_columns(self) -> dict[str, Any]:
        rows, ours = self.known["rows"].sum(), self.own["rows"].sum()
        if rows < _FILLED_ROWS or ours < 3 or self.known["date"].nunique() < 7:
            return {}
        measures = MEASURES[self.table]
        lost = [
            name for name in measures.filled
            if self.known[f"n_{name}"].sum() >= _FILLED_SHARE * rows and self.own[f"n_{name}"].sum() == 0
        ]  # fmt: skip
        vital = [name for name in lost if name in _VITAL[self.table]]
        rest = [name for name in lost if name not in vital]
        return {key: ", ".join(names) for key, names in (("vital_lost", vital), ("column_lost", rest)) if names}

    def _twin(self, others: pd.DataFrame) -> dict[str, Any]:
        volume = list(MEASURES[self.table].volume)
        if others.empty or self.table == "registration":  # lists are told apart by their people
            return {}
        ours = self.own.groupby("date")[volume].sum()
        ours = ours[ours.max(axis=1) >= _TELLING]
        theirs = others.groupby(["account", "date"])[volume].sum()
        named = set(others["account"]) | {self.account}
        for account in sorted(theirs.index.get_level_values("account").unique()):
            if "" in (account, self.account) and len(named - {""}) < 2:
                continue  # exports that name no account: they become the one account's
            same = theirs.loc[account]
            common = ours.index.intersection(same[same.max(axis=1) >= _TELLING].index)
            if len(common) < _TWIN_DAYS:
                continue
            equal = np.isclose(ours.loc[common, volume], same.loc[common, volume], rtol=1e-9).all(axis=1)
            if equal.sum() >= max(_TWIN_DAYS, _TWIN_SHARE * len(common)):
                is_new = not self.old["date"].isin(common[np.flatnonzero(equal)]).any()
                return {"twin" if is_new else "known_twin": account or "without a name"}
        return {}

    def _missing(self) -> dict[str, Any]:
        if self.table == "registration":
            return {}
        days = pd.concat([self.before, self.own])
        volume = days.groupby("date")[list(MEASURES[self.table].volume)].sum().max(axis=1)
        if self.table == "email_performance":
            # whoever reports days without a mail, too, reports every day
            if not (volume == 0).any():
                return {}
        elif volume.median() < _TELLING:  # so little may well be nothing on a day
            return {}
        series = pd.DatetimeIndex(self.before["date"].unique()).union(self.mentioned)
        first = series.min()
        has_rows = np.zeros((series.max() - first).days + 1, dtype=bool)
        has_rows[(series - first).days] = True
        lo, hi = (self.mentioned.min() - first).days, (self.mentioned.max() - first).days
        columns = [
            column for column in drift.missing_days(has_rows, lo, hi, first.weekday(), self.limits.presence)
            if self._is_within(days, first + pd.Timedelta(days=int(column)))
        ]  # fmt: skip
        if not columns:
            return {}
        named = [f"{first + pd.Timedelta(days=int(c)):%Y-%m-%d}" for c in columns[:_NAMED]]
        more = f" and {len(columns) - _NAMED} more" if len(columns) > _NAMED else ""
        return {"missing_days": ", ".join(named) + more}

    def _is_within(self, days: pd.DataFrame, gap: pd.Timestamp) -> bool:
        """Whether the same campaign has rows in the days before and after: else one ended, and another began later."""
        near = pd.Timedelta(days=_NEAR)
        earlier = days["key"][days["date"].between(gap - near, gap)]
        later = days["key"][days["date"].between(gap, gap + near)]
        return bool(set(earlier) & set(later))

    def _span(self) -> pd.Series:
        """Which known days lie in the frame's span."""
        return self.known["date"].between(self.mentioned.min(), self.mentioned.max())

    def _gone(self) -> Iterator[pd.DataFrame]:
        """Days between the first and last of the frame of which it has nothing, and the warehouse has."""
        gone = self.known[self._span() & ~self.known["date"].isin(self.mentioned)]
        if gone.empty:
            return
        days = gone.groupby("date")[["rows", "spend_base", "impressions"]].sum()
        days = days[(days["rows"] >= 3) & ((days["spend_base"] > 0) | (days["impressions"] >= _TELLING))]
        for day, row in days.iterrows():
            yield self._row(day, {"gone_rows": row["rows"], "rows": 0, "spend_base": row["spend_base"]})

    def _restated(self) -> dict[str, Any]:
        """Sums of closed days that the warehouse has, as they were and as they are now."""
        closed = self.today - pd.Timedelta(days=self.limits.closed_days)
        old = self.known[self._span() & (self.known["date"] <= closed)]
        if self.table == "registration":
            return self._fewer_registrations(old)
        # of mails, only the categories in the frame are replaced
        if self.table == "email_performance":
            old = old[old["key"].isin(self.own["key"]) & old["date"].isin(self.own["date"])]
        new = self.own[self.own["date"].isin(old["date"])]
        if old["date"].nunique() < 2:
            return {}
        worst: tuple[float, float, str] | None = None
        for name, least in (("impressions", 1000), ("clicks", 30), ("spend", 0), ("requests", 500), ("delivered", 500)):
            if name not in old:
                continue
            was, now = old[name].sum(), new[name].sum()
            common = new["key"].isin(old["key"])
            was_common, now_common = old[name][old["key"].isin(new["key"])].sum(), new[name][common].sum()
            if was <= least or new[f"n_{name}"].sum() == 0:
                continue
            loss = 1 - now / was
            growth = now_common / was_common - 1 if was_common > least else 0.0
            change = max(loss, growth)
            # doubled is as far off as halved
            off = max(loss, growth / 2)
            if worst is None or off > worst[0]:
                days = f"{old['date'].nunique()} days before {closed:%Y-%m-%d}"
                worst = off, change, f"{name} of {days} went from {was:,.0f} to {now:,.0f}"
        if worst is None or worst[1] <= self.limits.restated_warn:
            return {}
        is_stop = worst[0] >= self.limits.restated_stop
        return {
            "restated_loss": worst[0] if is_stop else np.nan,
            "restated_change": np.nan if is_stop else worst[1],
            "restated": worst[2],
        }

    def _fewer_registrations(self, old: pd.DataFrame) -> dict[str, Any]:
        was = old[old["key"].isin(self.own["key"])].groupby("key")["rows"].sum()
        now = self.own.groupby("key")["rows"].sum().reindex(was.index, fill_value=0.0)
        for key, before, after in zip(was.index, was, now, strict=True):
            if key and before >= _LISTED and after < (1 - self.limits.restated_stop) * before:
                words = f"registrations for {key} on the same days went from {before:,.0f} to {after:,.0f}"
                return {"restated_loss": 1 - after / before, "restated": words}
        return {}

    def _currency(self) -> dict[str, Any]:
        known = set(self.known["currency"]) | set(self.known["currency_max"])
        ours = set(self.own["currency"]) | set(self.own["currency_max"])
        new = sorted(c for c in ours - known if c)
        if not known or not new:
            return {}
        where = "new_currency" if self.account and not ours & known else "mixed_currency"
        return {where: ", ".join(new), "old_currency": ", ".join(sorted(c for c in known if c))}
