"""Faults of a whole night's reading: one each, put into the frame of an account that has a history in the warehouse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pandas as pd

from benchmarks.quality_world import (
    AD_KINDS,
    TODAY,
    Account,
    Table,
    ad_account,
    event_label,
    mail_account,
    registration_account,
)

Severity = Literal["reject", "stop", "warn"]
Change = Callable[[pd.DataFrame], pd.DataFrame]
YESTERDAY = TODAY - timedelta(days=1)


@dataclass(frozen=True)
class NightFault:
    """One fault.

    Attributes:
        base: the account it happens to, a key of :func:`accounts`.
        change: what it does to the night's frame.
        code, severity: how it must be caught.
        known: what it does to the warehouse before; ``None`` leaves it.
    """

    name: str
    base: str
    change: Change
    code: str
    severity: Severity
    known: Change | None = None


@lru_cache(maxsize=1)
def accounts() -> dict[str, Account]:
    """The accounts that faults happen to."""
    return {
        "ads": ad_account("steady", 900), "display": ad_account("display", 901), "dollars": ad_account("dollars", 902),
        "mails": mail_account(903, lookback=14), "lists": registration_account(904),
    }  # fmt: skip


_MONEY = ("spend", "spend_base")


def _objects(values: list[Any], frame: pd.DataFrame) -> pd.Series:
    return pd.Series(values, index=frame.index, dtype=object)


# --- what can go wrong ------------------------------------------------------------------------------------------------


def on(first: date, last: date, change: Change) -> Change:
    """``change`` on some days only."""

    def changed(frame: pd.DataFrame) -> pd.DataFrame:
        there = (frame["date"] >= first) & (frame["date"] <= last)
        parts = [frame[~there], change(frame[there].copy())]
        return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)

    return changed


def yesterday(change: Change) -> Change:
    """``change`` on the last whole day only."""
    return on(YESTERDAY, YESTERDAY, change)


def times(factor: float, *columns: str) -> Change:
    """Figures multiplied; whole numbers stay whole."""

    def one(value: Any, is_amount: bool) -> Any:
        if isinstance(value, Decimal):
            return value * Decimal(str(factor)) if is_amount else Decimal(round(float(value) * factor))
        return None if value is None else round(value * factor)

    def changed(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(**{n: _objects([one(v, n in _MONEY) for v in frame[n]], frame) for n in columns})

    return changed


def filled_with(value: Any, *columns: str) -> Change:
    """Columns of one value."""

    def changed(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(
            **{name: pd.Series([value] * len(frame), index=frame.index, dtype=object) for name in columns}
        )

    return changed


def _where(wanted: Callable[[pd.Series[Any]], pd.Series[bool]]) -> Change:
    def changed(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[wanted(frame["date"])].reset_index(drop=True)

    return changed


def without(day: date) -> Change:
    """A day that lacks."""
    return _where(lambda days: days != day)


def until(day: date) -> Change:
    """Nothing after a day."""
    return _where(lambda days: days <= day)


def first_rows(share: float) -> Change:
    """A file cut off."""
    return lambda frame: frame[: max(1, int(len(frame) * share))]


def twice(frame: pd.DataFrame) -> pd.DataFrame:
    """Everything pasted twice."""
    return pd.concat([frame, frame], ignore_index=True)


def one_campaign_twice(frame: pd.DataFrame) -> pd.DataFrame:
    """One campaign pasted twice."""
    return pd.concat([frame, only_one_campaign(frame)], ignore_index=True)


def only_one_campaign(frame: pd.DataFrame) -> pd.DataFrame:
    """A filter left on in the platform's page."""
    chosen: pd.Series[bool] = frame["campaign_id"] == frame["campaign_id"].iloc[0]
    return frame[chosen].reset_index(drop=True)


def broken_down(frame: pd.DataFrame) -> pd.DataFrame:
    """Each row split by eight hours of the day."""
    parts = []
    for hour in range(8):
        part = frame.copy()
        for name in ("impressions", "clicks"):
            part[name] = _objects([int(v) // 8 + hour % 2 * (int(v) // 80) for v in part[name]], part)
        for name in _MONEY:
            part[name] = _objects([v / 8 for v in part[name]], part)
        part["conversions"] = _objects([Decimal(0)] * len(part), part)
        part["ad_name"] = _objects([f"{name} {hour}h" for name in part["ad_name"]], part)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def of_account(name: str) -> Change:
    """The same file in another account's folder."""
    return filled_with(name, "account")


def in_currency(code: str, rate: str) -> Change:
    """Amounts said to be in another currency."""

    def changed(frame: pd.DataFrame) -> pd.DataFrame:
        base = [None if v is None else v * Decimal(rate) for v in frame["spend"]]
        rates = _objects([Decimal(rate)] * len(frame), frame)
        return frame.assign(currency=code, fx_rate=rates, spend_base=_objects(base, frame))

    return changed


def swapped(a: str, b: str) -> Change:
    """Two columns taken for each other."""
    return lambda frame: frame.assign(**{a: frame[b], b: frame[a]})


def moved(**days: int) -> Change:
    """Dates off by some days, instants too."""

    def changed(frame: pd.DataFrame) -> pd.DataFrame:
        shift = timedelta(**days)
        frame = frame.assign(date=[d + shift for d in frame["date"]])
        if "period_end" in frame:
            frame["period_end"] = frame["date"]
        if "registered_at" in frame:
            frame["registered_at"] = [t + shift for t in frame["registered_at"]]
        return frame

    return changed


def all_of(*changes: Change) -> Change:
    """Several at once, of one fault."""

    def changed(frame: pd.DataFrame) -> pd.DataFrame:
        for change in changes:
            frame = change(frame)
        return frame

    return changed


def of_event(number: int, change: Change) -> Change:
    """On the list of one event only."""

    def changed(frame: pd.DataFrame) -> pd.DataFrame:
        there = frame["event_label"] == event_label(str(frame["account"].iloc[0]), number)
        parts = [frame[~there], change(frame[there].copy())]
        return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)

    return changed


def attended(share: float) -> Change:
    """So many of the confirmed came."""

    def changed(frame: pd.DataFrame) -> pd.DataFrame:
        rng = np.random.default_rng(5)
        came = rng.random(len(frame)) < share
        values = [
            bool(c) if status == "confirmed" else None for c, status in zip(came, frame["status"], strict=True)
        ]  # fmt: skip
        return frame.assign(attended=_objects(values, frame))

    return changed


def every(step: int) -> Change:
    """Every so many rows only."""
    return lambda frame: frame[::step]


def cancelled(share: float) -> Change:
    """So many cancelled."""

    def changed(frame: pd.DataFrame) -> pd.DataFrame:
        rng = np.random.default_rng(6)
        status = ["cancelled" if rng.random() < share else s for s in frame["status"]]
        return frame.assign(status=_objects(status, frame), attended=None)

    return changed


def crowd(rows: int) -> Change:
    """A day's registrations copied to so many people."""

    def changed(frame: pd.DataFrame) -> pd.DataFrame:
        many = frame.iloc[np.arange(rows) % len(frame)].copy()
        many["registrant_hash"] = [f"{n:024x}" for n in range(rows)]
        return many

    return changed


_ALL_ADS = ("impressions", "clicks", "spend", "spend_base")
_TEN_DAYS = (TODAY - timedelta(days=10), TODAY)
_WEEK = (TODAY - timedelta(days=6), TODAY)
_OLD = (date(2000, 1, 1), TODAY - timedelta(days=8))
_MIDDLE = TODAY - timedelta(days=9)
#: The last two weeks' mailings and what followed.
_MAILING = (TODAY - timedelta(days=14), TODAY)

NIGHT_FAULTS: tuple[NightFault, ...] = (
    # volume
    NightFault("file cut off", "display", yesterday(first_rows(0.1)), "few_rows", "warn"),
    NightFault("day lost most of its rows", "display", on(_MIDDLE, _MIDDLE, every(9)), "few_rows", "warn"),
    NightFault("exported by hour", "ads", yesterday(broken_down), "many_rows", "warn"),
    NightFault("export pasted twice", "ads", yesterday(twice), "everything_twice", "stop"),
    NightFault("one campaign pasted twice", "ads", yesterday(one_campaign_twice), "repeated_rows", "warn"),
    NightFault("day gone that was there", "ads", without(_MIDDLE), "days_gone", "stop"),
    NightFault(
        "day missing after an outage", "ads", without(_MIDDLE), "missing_days", "warn",
        known=until(TODAY - timedelta(days=20)),
    ),
    # money
    NightFault("minor units, one day", "ads", yesterday(times(100, *_MONEY)), "amount_scale", "stop"),
    NightFault("minor units throughout", "ads", times(100, *_MONEY), "amount_scale", "stop"),
    NightFault("hundredths", "ads", yesterday(times(0.01, *_MONEY)), "amount_scale", "stop"),
    NightFault("yen as dollars", "ads", in_currency("USD", "150"), "currency_changed", "stop"),
    NightFault("dollars as yen", "dollars", in_currency("JPY", "1"), "currency_changed", "stop"),
    NightFault(
        "one day in another currency", "ads", yesterday(in_currency("EUR", "163")), "currency_changed",
        "warn",
    ),
    NightFault("micros", "ads", yesterday(times(1_000_000, *_MONEY)), "mostly_faulty", "stop"),
    NightFault("spend seven times", "ads", yesterday(times(7, *_MONEY)), "cost_drift", "warn"),
    NightFault("spend of nothing", "ads", yesterday(times(0, *_MONEY)), "cost_drift", "warn"),
    NightFault("everything forty times", "ads", yesterday(times(40, *_ALL_ADS)), "spend_jump", "warn"),
    NightFault(
        "everything two thousand times", "ads", yesterday(times(2_000, *_ALL_ADS)),
        "spend_out_of_proportion", "stop",
    ),
    # rates
    NightFault("clicks six times", "ads", yesterday(times(6, "clicks")), "click_rate_drift", "warn"),
    NightFault("a sixth of the clicks", "ads", yesterday(times(1 / 6, "clicks")), "click_rate_drift", "warn"),
    NightFault("clicks of nothing", "ads", yesterday(times(0, "clicks")), "click_rate_drift", "warn"),
    NightFault("views of another column", "ads", yesterday(times(8, "impressions")), "click_rate_drift", "warn"),
    NightFault(
        "conversions forty times", "ads", on(_MIDDLE, _MIDDLE, times(40, "conversions")), "conversion_drift", "warn"
    ),
    NightFault("conversion tag gone", "ads", on(*_TEN_DAYS, times(0, "conversions")), "conversion_drift", "warn"),
    # columns
    NightFault("no column of spend", "ads", filled_with(None, *_MONEY), "schema_change", "stop"),
    NightFault("no column of clicks", "ads", filled_with(None, "clicks"), "schema_change", "stop"),
    NightFault("no column of impressions", "ads", filled_with(None, "impressions"), "schema_change", "stop"),
    NightFault("no column of conversions", "ads", filled_with(None, "conversions"), "schema_change", "warn"),
    NightFault("columns swapped", "ads", swapped("impressions", "clicks"), "clicks_over_impressions", "reject"),
    # accounts and closed days
    NightFault("file of another account", "ads", of_account("the-other"), "double_export", "stop"),
    NightFault("filter left on", "ads", only_one_campaign, "restated_out_of_proportion", "stop"),
    NightFault("closed days doubled", "ads", on(*_OLD, times(2.3, *_ALL_ADS)), "restated_out_of_proportion", "stop"),
    NightFault("closed days a fourth less", "ads", on(*_OLD, times(0.75, *_ALL_ADS)), "restated_sums", "warn"),
    NightFault("today passes for a whole day", "ads", filled_with(False, "is_partial"), "unfinished_day", "warn"),
    NightFault("days to come", "ads", yesterday(moved(days=40)), "date_in_future", "warn"),
    # mails
    NightFault(
        "nobody opens", "mails", on(*_MAILING, times(0, "opens", "unique_opens")), "open_rate_drift", "warn"
    ),
    NightFault(
        "opens four times", "mails", on(*_MAILING, times(4, "opens", "unique_opens")), "open_rate_drift", "warn"
    ),
    NightFault(
        "nobody clicks", "mails", on(*_MAILING, times(0, "clicks", "unique_clicks")), "mail_click_drift", "warn"
    ),
    NightFault("no column of opens", "mails", filled_with(None, "unique_opens"), "schema_change", "stop"),
    NightFault("no column of unsubscribes", "mails", filled_with(None, "unsubscribes"), "schema_change", "warn"),
    NightFault("many bounce", "mails", on(*_MAILING, times(14, "bounces")), "bounce_drift", "warn"),
    NightFault("half is delivered", "mails", on(*_MAILING, times(0.45, "delivered")), "delivery_drift", "warn"),
    NightFault("spam", "mails", on(*_MAILING, times(60, "spam_reports")), "spam_reports", "warn"),
    NightFault(
        "mails fifty times", "mails", yesterday(times(50, "requests", "processed", "delivered")), "mails_jump", "warn"
    ),
    NightFault("export of another mail account", "mails", of_account("mail-other"), "double_export", "stop"),
    NightFault(
        "mail day missing", "mails", without(TODAY - timedelta(days=3)), "missing_days", "warn",
        known=until(TODAY - timedelta(days=15)),
    ),
    NightFault("today's mails as a whole day", "mails", filled_with(False, "is_partial"), "unfinished_day", "warn"),
    NightFault("mails pasted twice", "mails", twice, "duplicate", "reject"),
    # registrations
    NightFault("only attendees exported", "lists", of_event(5, attended(1.0)), "show_up_drift", "warn"),
    NightFault("attendance not recorded but no", "lists", of_event(5, attended(0.0)), "show_up_drift", "warn"),
    NightFault("few came", "lists", of_event(5, attended(0.08)), "show_up_drift", "warn"),
    NightFault("attended an event to come", "lists", of_event(7, attended(0.5)), "attended_before_event", "warn"),
    NightFault("a year off", "lists", of_event(7, moved(days=-365)), "far_from_event", "warn"),
    NightFault("no column of origins", "lists", filled_with(None, "source_label"), "schema_change", "warn"),
    NightFault("no identities", "lists", filled_with(None, "registrant_hash"), "schema_change", "warn"),
    NightFault("half the list", "lists", of_event(4, every(3)), "restated_out_of_proportion", "stop"),
    NightFault("list of another account", "lists", of_account("lists-other"), "double_export", "stop"),
    NightFault("list pasted twice", "lists", twice, "duplicate", "reject"),
    NightFault("a crowd at once", "lists", yesterday(crowd(1_500)), "registrations_jump", "warn"),
    NightFault("most cancel", "lists", on(*_WEEK, cancelled(0.8)), "cancellations_jump", "warn"),
)  # fmt: skip


def clean_nights(count: int, mornings_each: int = 5) -> list[tuple[Account, date]]:
    """Nights nothing is wrong with: accounts of every kind in turn, several mornings each."""
    mornings = [TODAY - timedelta(days=n) for n in (0, 2, 4, 7, 11)][:mornings_each]
    made: list[Account] = []
    seed = 0
    while len(made) * len(mornings) < count:
        kinds = len(AD_KINDS)
        turn = seed % (kinds + 4)
        if turn < kinds:
            made.append(ad_account(AD_KINDS[turn], seed))
        elif turn < kinds + 2:
            made.append(mail_account(seed, small=turn == kinds))
        else:
            made.append(registration_account(seed))
        seed += 1
    nights = [(account, morning) for account in made for morning in mornings]
    return nights[:count]


TABLES: tuple[Table, ...] = ("ad_performance", "email_performance", "registration")
