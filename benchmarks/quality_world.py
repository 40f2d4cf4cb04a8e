"""Clean days as real accounts have them, for measuring the gate: histories and the frames of one night's reading.

Each account is drawn from its seed. What makes clean data look odd is in it on purpose: weekends, campaigns that start
and end with their events, pauses between events, a sale that multiplies spend for a day, accounts of a few clicks a
day, first days of a new account, figures that are restated for weeks, today's unfinished day, mailings in bursts whose
opens come later, registration lists that jump with the press.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

#: The morning on which every night's frame is read: two o'clock, Tokyo.
TODAY = date(2026, 11, 25)
ZONE = "Asia/Tokyo"
HISTORY_DAYS = 100
_LOOKBACK = 28
_EVENT_WORDS = ("AI", "DX", "HR", "SaaS", "FinTech", "マーケティング", "製造", "医療")

Table = Literal["ad_performance", "email_performance", "registration"]
AdKind = Literal["steady", "search", "small", "events", "new", "sale", "mixed", "weekdays", "dollars", "display"]
AD_KINDS: tuple[AdKind, ...] = (
    "steady", "search", "small", "events", "new", "sale", "mixed", "weekdays", "dollars", "display",
)  # fmt: skip


def provenance(source: str, account: str, morning: date = TODAY) -> dict[str, Any]:
    """What every row says of where it comes from."""
    return {
        "organisation": "default", "source": source, "account": account, "account_time_zone": ZONE,
        "fetched_at": datetime.combine(morning, datetime.min.time(), ZoneInfo(ZONE)).astimezone(UTC)
        + timedelta(hours=2), "run_id": uuid.UUID(int=7),
    }  # fmt: skip


@dataclass
class Account:
    """One account: everything it ever shows, and what of it is known when.

    Attributes:
        rows: all days up to the last morning, as the loader hands them to the gate.
        restate: what a row of some age (days) shows of its final figures.
    """

    table: Table
    name: str
    rows: pd.DataFrame
    restate: Callable[[pd.DataFrame, date], pd.DataFrame] = field(default=lambda rows, morning: rows)
    lookback: int = _LOOKBACK

    def known(self, morning: date) -> pd.DataFrame:
        """The warehouse before the reading of ``morning``: what the last night read."""
        before = morning - timedelta(days=1)
        rows = self.rows[self.rows["date"] < before]
        return self.restate(rows, before)

    def night(self, morning: date) -> pd.DataFrame:
        """The frame that ``morning`` reads: the look-back window up to now."""
        first = morning - timedelta(days=self.lookback)
        rows = self.rows[(self.rows["date"] >= first) & (self.rows["date"] <= morning)].copy()
        rows["fetched_at"] = provenance("", "", morning)["fetched_at"]
        rows = self.restate(rows, morning)
        if "is_partial" in rows:
            going = rows["date"] >= morning
            rows["is_partial"] = pd.Series(going.to_numpy(dtype=object), index=rows.index, dtype=object)
            rows = pd.concat([rows[~going], self._so_far(rows[going].copy())])
        return rows.reset_index(drop=True)

    @staticmethod
    def _so_far(rows: pd.DataFrame) -> pd.DataFrame:
        """Two of a day's twenty-four hours."""
        for name in ("impressions", "clicks", "spend", "requests", "processed", "delivered", "opens"):
            if name in rows:
                rows[name] = _objects([v // 12 for v in rows[name]], rows)
        for name in ("unique_opens", "unique_clicks", "bounces", "conversions", "spam_reports", "unsubscribes"):
            if name in rows:
                rows[name] = _objects([v * 0 for v in rows[name]], rows)
        if "spend" not in rows:
            return rows
        rows["spend_base"] = _objects([s * r for s, r in zip(rows["spend"], rows["fx_rate"], strict=True)], rows)
        return rows[[i > 0 for i in rows["impressions"]]]  # what was not shown is not in a report


def _objects(values: list[Any], frame: pd.DataFrame) -> pd.Series:
    return pd.Series(values, index=frame.index, dtype=object)


# --- ads --------------------------------------------------------------------------------------------------------------

#: Type of campaign → click rate, yen per click, conversions per click, impressions a day.
_TYPES = {
    "search": (0.045, 180.0, 0.06, 900), "display": (0.0035, 45.0, 0.008, 25_000),
    "social": (0.011, 110.0, 0.025, 7_000), "lead": (0.006, 620.0, 0.05, 2_500),
}  # fmt: skip


def ad_account(kind: AdKind, seed: int, *, name: str | None = None, last: date = TODAY) -> Account:
    """An account of advertisements."""
    rng = np.random.default_rng([seed, AD_KINDS.index(kind)])
    source = {"dollars": "linkedin_ads", "search": "google_ads", "mixed": "google_ads"}.get(
        kind, ("google_ads", "meta_ads")[seed % 2]
    )
    account = name or f"{kind}-{seed}"
    days = [last - timedelta(days=n) for n in range(5 if kind == "new" else HISTORY_DAYS, -1, -1)]
    sale = days[-1 - int(rng.integers(1, 4))] if kind == "sale" else None
    records: list[dict[str, Any]] = []
    for number, (what, first, until) in enumerate(_campaigns(kind, rng, days)):
        click_rate, per_click, per_conversion, shown = _TYPES[what]
        # campaigns of an account differ, and days waver
        click_rate *= float(rng.lognormal(0, 0.3))
        per_click *= float(rng.lognormal(0, 0.3))
        size = shown * float(rng.lognormal(0, 0.4)) * (0.02 if kind == "small" else 1.0)
        ads = int(rng.integers(1, 6))
        share = rng.dirichlet(np.full(ads, 3.0))
        for day in days:
            if not first <= day <= until or (kind == "weekdays" and day.weekday() >= 5):
                continue
            level = size * (0.55 if day.weekday() >= 5 else 1.0) * float(rng.lognormal(0, 0.25))
            level *= 5.0 if day == sale else 1.0
            for ad in range(ads):
                row = _ad_row(
                    rng, source, account, day, f"c{number}", what, ad, level * share[ad], click_rate, per_click,
                    per_conversion, kind,
                )  # fmt: skip
                if row is not None:
                    records.append(row)
    frame = pd.DataFrame(records, dtype=object)
    frame = frame.sort_values(["date", "campaign_id", "ad_name"], kind="stable").reset_index(drop=True)
    frame["line"] = frame.groupby("date").cumcount() + 1
    return Account("ad_performance", account, frame, _restated_ads)


def _campaigns(kind: AdKind, rng: np.random.Generator, days: list[date]) -> list[tuple[str, date, date]]:
    first, last = days[0], days[-1]
    if kind == "events":
        # an event every three weeks with a run-up of two: pauses between, everything ends on its day
        starts = range(0, len(days), 21)
        return [
            (what, days[s], min(days[s] + timedelta(days=13), last)) for s in starts for what in ("search", "social")
        ]
    if kind == "mixed":
        # display all along; a search campaign, a hundred times dearer a view, starts in the last days
        start = days[-1 - int(rng.integers(1, 4))]
        return [("display", first, last), ("display", first, last), ("search", start, last), ("search", start, last)]
    whats = {
        "steady": ["search", "search", "social", "display", "social", "social"], "search": ["search"] * 5,
        "small": ["search", "social"], "new": ["social", "search"], "sale": ["search", "social", "social"],
        "weekdays": ["lead", "search", "lead"], "dollars": ["lead", "lead", "lead"], "display": ["display"] * 8,
    }[kind]  # fmt: skip
    return [(what, first, last) for what in whats]


def _ad_row(
    rng: np.random.Generator, source: str, account: str, day: date, campaign: str, what: str, ad: int, level: float,
    click_rate: float, per_click: float, per_conversion: float, kind: str,
) -> dict[str, Any] | None:  # fmt: skip
    impressions = int(rng.poisson(level))
    if impressions == 0:
        return None  # platforms leave such rows out
    clicks = int(rng.binomial(impressions, min(0.9, click_rate * float(rng.lognormal(0, 0.12)))))
    yen = clicks * per_click * float(rng.lognormal(0, 0.15))
    rate, currency = (Decimal(150), "USD") if kind == "dollars" else (Decimal(1), "JPY")
    spend = Decimal(round(yen)) if currency == "JPY" else Decimal(str(round(yen / 150, 2)))
    conversions = Decimal(int(rng.binomial(clicks, min(1.0, per_conversion))))
    return {
        **provenance(source, account), "date": day, "line": 0, "period_end": day,
        "campaign_id": f"{account}-{campaign}", "campaign_name": f"{what} {campaign}", "ad_group": None,
        "ad_name": f"ad {ad}", "impressions": impressions, "clicks": clicks, "spend": spend, "currency": currency,
        "spend_base": spend * rate, "base_currency": "JPY", "fx_rate": rate, "fx_date": date(2026, 1, 1),
        "conversions": conversions, "registrations": None, "leads": None, "is_partial": False,
    }  # fmt: skip


def _restated_ads(rows: pd.DataFrame, morning: date) -> pd.DataFrame:
    """Conversions arrive for weeks; a hundredth of the clicks turns out invalid and is taken back."""
    rows = rows.copy()
    age = np.array([(morning - day).days for day in rows["date"]])
    share = np.where(age >= 30, 1.0, 1.0 - 0.66 * np.exp(-np.maximum(age, 0) / 8.0))
    # each row's conversions arrive at times of their own
    phase = np.random.default_rng(len(rows)).random(len(rows)) if len(rows) else np.zeros(0)
    shown = [
        None if c is None else Decimal(min(int(c), int(float(c) * s + p)))
        for c, s, p in zip(rows["conversions"], share, phase, strict=True)
    ]
    rows["conversions"] = _objects(shown, rows)
    fresh = age <= 5
    rows["clicks"] = _objects(
        [c if c is None or not f else c + c // 100 for c, f in zip(rows["clicks"], fresh, strict=True)], rows
    )
    return rows


# --- mails ------------------------------------------------------------------------------------------------------------

_MAIL_COUNTS = (
    "requests", "processed", "delivered", "opens", "unique_opens", "clicks", "unique_clicks", "bounces", "blocks",
    "spam_reports", "unsubscribes",
)  # fmt: skip


def mail_account(
    seed: int, *, name: str | None = None, last: date = TODAY, small: bool = False, lookback: int = 7
) -> Account:
    """A mail account: the account's days, and two categories; newsletters on Tuesdays, invitations in bursts."""
    rng = np.random.default_rng([seed, 101])
    account = name or f"mail-{seed}"
    days = [last - timedelta(days=n) for n in range(HISTORY_DAYS, -1, -1)]
    size = 400 if small else int(rng.integers(6_000, 20_000))
    counts = {c: {d: dict.fromkeys(_MAIL_COUNTS, 0) for d in days} for c in ("newsletter", "invite")}
    open_rate, click_rate = float(rng.uniform(0.22, 0.38)), float(rng.uniform(0.02, 0.05))
    for category, sends in counts.items():
        for n, day in enumerate(days):
            is_send = day.weekday() == 1 if category == "newsletter" else bool(rng.random() < 0.14)
            if not is_send:
                continue
            mails = int(size * float(rng.lognormal(0, 0.2)) * (0.4 if category == "invite" else 1.0))
            today = sends[day]
            bounced, blocked = int(rng.binomial(mails, 0.012)), int(rng.binomial(mails, 0.004))
            today["requests"] += mails
            today["processed"] += mails
            today["bounces"] += bounced
            today["blocks"] += blocked
            today["delivered"] += mails - bounced - blocked
            today["spam_reports"] += int(rng.binomial(mails, 0.0003))
            today["unsubscribes"] += int(rng.binomial(mails, 0.002))
            for later, share in enumerate((0.62, 0.21, 0.10, 0.07)):
                if n + later >= len(days):
                    break
                there = sends[days[n + later]]
                opened = int(rng.binomial(mails, open_rate * share))
                clicked = int(rng.binomial(mails, click_rate * share))
                there["unique_opens"] += opened
                there["opens"] += int(opened * 1.6)
                there["unique_clicks"] += clicked
                there["clicks"] += int(clicked * 1.3)
    records = []
    for day in days:
        total = {name: sum(counts[c][day][name] for c in counts) for name in _MAIL_COUNTS}
        records.append({**provenance("sendgrid", account), "date": day, "category": "", **total, "is_partial": False})
        for category in counts:
            if any(counts[category][day].values()):
                records.append({
                    **provenance("sendgrid", account), "date": day, "category": category, **counts[category][day],
                    "is_partial": False,
                })  # fmt: skip
    frame = pd.DataFrame(records, dtype=object)
    frame["line"] = 1
    return Account("email_performance", account, frame, lookback=lookback)


# --- registrations ----------------------------------------------------------------------------------------------------


def registration_account(seed: int, *, name: str | None = None, last: date = TODAY, events: int = 8) -> Account:
    """Lists of an organiser's events, one after another; the last is still to come, and nobody has attended it."""
    rng = np.random.default_rng([seed, 202])
    account = name or f"lists-{seed}"
    records: list[dict[str, Any]] = []
    come = float(rng.uniform(0.5, 0.75))
    for number in range(events):
        # the last of them two weeks from now
        day = last + timedelta(days=14 - 12 * (events - 1 - number))
        people = int(rng.integers(90, 260))
        press = int(rng.integers(5, 35))
        lead = np.minimum(rng.exponential(14, people).astype(int), 44)
        lead[: people // 6] = press  # a day in the press
        held = day < last
        show = float(np.clip(come + rng.normal(0, 0.05), 0.05, 0.95))
        for person in range(people):
            on = day - timedelta(days=int(lead[person]))
            if on >= last:
                continue
            at = datetime.combine(on, datetime.min.time(), ZoneInfo(ZONE)) + timedelta(
                hours=int(rng.integers(8, 23)), minutes=int(rng.integers(60)), seconds=int(rng.integers(60))
            )
            status = str(rng.choice(["confirmed", "cancelled", "waitlist"], p=[0.9, 0.08, 0.02]))
            records.append({
                **provenance("registrations", account), "date": on, "event_label": event_label(account, number),
                "registered_at": at.astimezone(UTC), "quantity": 1, "ticket_type": str(rng.choice(["一般", "学生"])),
                "status": status, "source_label": [None, "メルマガ", "X", "connpass"][int(rng.integers(1, 4))],
                "attended": bool(rng.random() < show) if held and status == "confirmed" else None,
                "registrant_hash": f"{int(rng.integers(1 << 62)):024x}",
            })  # fmt: skip
    frame = pd.DataFrame(records, dtype=object).sort_values(["date", "registered_at"], kind="stable")
    frame = frame.reset_index(drop=True)
    frame["line"] = frame.groupby(["event_label", "date"]).cumcount() + 1
    return Account("registration", account, frame, _not_yet_attended, lookback=365)


def event_label(account: str, number: int) -> str:
    """What a list calls an event."""
    return f"{_EVENT_WORDS[number % len(_EVENT_WORDS)]} カンファレンス {number} ({account})"


def event_day(number: int, events: int = 8, last: date = TODAY) -> date:
    """When it takes place."""
    return last + timedelta(days=14 - 12 * (events - 1 - number))


def _not_yet_attended(rows: pd.DataFrame, morning: date) -> pd.DataFrame:
    """Nobody has attended an event before its day."""
    rows = rows.copy()
    days: dict[Any, date] = {}
    for label in rows["event_label"].unique():
        days[label] = event_day(int(str(label).split(" ")[2]))
    attended = [
        a if days[label] < morning else None for a, label in zip(rows["attended"], rows["event_label"], strict=True)
    ]
    rows["attended"] = _objects(attended, rows)
    return rows
