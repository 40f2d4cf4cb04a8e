"""Figures of a day beside those of the weeks before.

Everything is compared **like with like**: a campaign's clicks with what its own click rate lets expect, summed over the
campaigns that have run before. A search campaign that starts beside display ads changes the account's rates tenfold and
is no drift; the same campaigns with a quarter of their clicks are. What is usual is taken from the same weekday where
there are enough of them, and no figure counts before there is enough evidence.

All functions work on one account: arrays over keys (campaigns, or one row for the whole account) and consecutive days.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from expectations.tuning import Limits

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Campaigns of an account that are compared with themselves: those with most rows.
_MOST_KEYS: Final = 200
#: Days a campaign must have run before its own rates say something.
_KNOWN_DAYS: Final = 7
#: Times its median that a day's rate may be, to count for what is usual.
_OUTLYING: Final = 4.0
_MAD_TO_SD: Final = 1.4826
_DAY: Final = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Grid:
    """One account's days as arrays.

    Attributes:
        first: the day of column 0.
        own: columns of the days to judge, ascending.
        values: name → (keys, days); zero where there is no row, NaN where a row's figure is unknown.
        keys: the names of the rows.
    """

    first: np.datetime64
    own: Ints
    values: dict[str, Floats]
    keys: list[str]

    @property
    def days(self) -> int:
        return int(self.values["rows"].shape[1])

    def day(self, column: int) -> pd.Timestamp:
        """The day of a column."""
        return pd.Timestamp(self.first + column * _DAY)

    def total(self, name: str) -> Floats:
        """A figure summed over keys, shape (days,); what is unknown counts as nothing."""
        return np.asarray(np.nansum(self.values[name], axis=0), dtype=np.float64)


def grid(series: pd.DataFrame, own_days: pd.DatetimeIndex, names: tuple[str, ...], *, merge: bool = False) -> Grid:
    """Days of one account, of :func:`expectations.history.days_of_frame`, as arrays.

    Args:
        series: the days to judge and those before.
        own_days: the days to judge.
        names: the sums wanted; ``rows`` comes by itself.
        merge: all keys as one row. Mail categories overlap: where the whole account has rows of its own (``''``), only
            they count.
    """
    if merge and (series["key"] == "").any():
        series = series[series["key"] == ""]
    first, last = series["date"].min(), max(series["date"].max(), own_days.max())
    column = ((series["date"] - first).dt.days).to_numpy()
    days = (last - first).days + 1
    if merge:
        keys, row = [""], np.zeros(len(series), dtype=int)
    else:
        rows_of = series.groupby("key")["rows"].sum()
        keys = sorted(rows_of.nlargest(_MOST_KEYS).index)
        place = {key: n for n, key in enumerate(keys)}
        row = series["key"].map(place).fillna(-1).to_numpy(dtype=int)
    kept = row >= 0
    values = {}
    for name in ("rows", *names):
        array = np.zeros((len(keys), days))
        np.add.at(array, (row[kept], column[kept]), series[name].to_numpy(dtype=float)[kept])
        values[name] = array
    own = np.asarray(sorted({int(day) for day in (own_days - first).days}), dtype=np.int64)
    return Grid(np.datetime64(first, "D"), own[(own >= 0) & (own < days)], values, keys)


def before(values: Floats, at: Ints, length: int) -> Floats:
    """The ``length`` entries before each of ``at``, shape (…, len(at), length); NaN before the beginning."""
    pad = np.full((*values.shape[:-1], length), np.nan)
    padded = np.concatenate([pad, values], axis=-1)
    return np.lib.stride_tricks.sliding_window_view(padded, length, axis=-1)[..., at, :]


def sum_before(values: Floats, at: Ints, length: int, *, ends: int = 0) -> Floats:
    """Sums over the ``length`` entries that end ``ends`` entries before each of ``at`` (0: the one just before it; -1:
    with it)."""
    running = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.nancumsum(values, axis=-1)], axis=-1)
    stop = np.clip(at - ends, 0, values.shape[-1])
    start = np.clip(at - ends - length, 0, values.shape[-1])
    return np.asarray(running[..., stop] - running[..., start], dtype=np.float64)


def _quiet_median(values: Floats) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a window without any day has no median
        return np.asarray(np.nanmedian(values, axis=-1), dtype=np.float64)


def _quiet_max(values: Floats) -> Floats:
    highest = np.where(np.isnan(values), -np.inf, values).max(axis=-1)
    return np.where(np.isfinite(highest), highest, np.nan)


def ratio(observed: Floats, expected: Floats) -> Floats:
    """How far apart two figures are, at least 1 in either direction; NaN where both are nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.maximum(observed / expected, expected / observed)
    return np.where((observed <= 0) & (expected <= 0), np.nan, apart)


# --- ads --------------------------------------------------------------------------------------------------------------


def ads(g: Grid, limits: Limits, today: pd.Timestamp, present: pd.Series) -> dict[str, Floats]:
    """Columns of the days in ``g.own``, each shape (len(own),); NaN where there is not enough to tell.

    Args:
        present: rows of each day of the frame, those of a day that is not over yet, too.
    """
    window, at = limits.weeks * 7, g.own
    rows, spend = g.total("rows"), g.total("spend_base")
    active = np.where(rows > 0, 1.0, np.nan)
    past = before(rows * active, at, window)
    usual_days = np.isfinite(past).sum(axis=-1).astype(float)
    enough = usual_days >= limits.enough_days
    usual_rows = _usual(past)
    usual_spend = _quiet_max(before(spend * active, at, window))
    found: dict[str, Floats] = {
        "usual_days": usual_days, "usual_rows": usual_rows, "usual_spend": usual_spend,
        "spend_ratio": _when(enough & (usual_spend > 0), _div(spend[at], usual_spend)),
    }  # fmt: skip

    own = {name: np.nan_to_num(values[:, at]) for name, values in g.values.items()}
    ran = (g.values["rows"] > 0).astype(float)
    ran_days = sum_before(ran, at, window)
    known = (ran_days >= _KNOWN_DAYS) & (own["rows"] > 0)

    # rows: those of campaigns that ran before
    usual_of_known = np.where(known, _div(sum_before(g.values["rows"], at, window), ran_days), 0.0)
    expected_rows = usual_of_known.sum(axis=0)
    seen_rows = (own["rows"] * known).sum(axis=0)
    is_cut = (seen_rows < 0.5 * expected_rows) & (expected_rows >= 5)
    thin = _when(enough & (usual_rows >= limits.enough_rows), _div(rows[at], usual_rows))
    found["row_ratio"] = np.where(is_cut | _is_dip(g, present, usual_rows), thin, np.nan)
    most_rows = (np.nan_to_num(_quiet_max(before(_none_as_nan(g.values["rows"]), at, window))) * known).sum(axis=0)
    found["row_jump"] = _when(enough & (seen_rows >= limits.enough_rows) & (most_rows > 0), _div(seen_rows, most_rows))
    found["most_rows"] = most_rows

    # spend: of campaigns that ran before against their own dearest day, of others against the account's
    most_spend = (np.nan_to_num(_quiet_max(before(_none_as_nan(g.values["spend_base"]), at, window))) * known).sum(
        axis=0
    )
    seen_spend = (own["spend_base"] * known).sum(axis=0)
    jump = _when(enough & (most_spend > 0), _div(seen_spend, most_spend)) / limits.spend_jump
    found["spend_jump"] = np.fmax(jump, found["spend_ratio"] / limits.spend_jump_new)

    return found | _rates(g, known, enough, limits, today)


def _rates(
    g: Grid, known: npt.NDArray[np.bool_], enough: npt.NDArray[np.bool_], limits: Limits, today: pd.Timestamp
) -> dict[str, Floats]:
    """What the same campaigns let expect, and what is seen.

    Args:
        known: whether a campaign ran before a day, (keys, days to judge); ``enough``, whether its account did.
    """
    window, at = limits.weeks * 7, g.own
    own = {name: np.nan_to_num(values[:, at]) for name, values in g.values.items()}
    found: dict[str, Floats] = {}

    def rate(part: str, whole: str) -> tuple[Floats, Floats, Floats]:
        """Seen and expected ``part``, and the ``whole`` it was seen on, over known campaigns of known figures."""
        both = np.isfinite(g.values[part]) & np.isfinite(g.values[whole])
        believed = both & ~_outliers(g, part, whole, window)
        over = sum_before(np.where(believed, g.values[whole], 0.0), at, window)
        share = _div(sum_before(np.where(believed, g.values[part], 0.0), at, window), over)
        use = known & both[:, at] & (over > 0)
        expected = np.where(use, own[whole] * np.nan_to_num(share), 0.0).sum(axis=0)
        return (own[part] * use).sum(axis=0), expected, (own[whole] * use).sum(axis=0)

    clicks, expected_clicks, _ = rate("clicks", "impressions")
    found["expected_clicks"], found["seen_clicks"] = expected_clicks, clicks
    telling = enough & (np.maximum(clicks, expected_clicks) >= limits.enough_clicks)
    click_rate = _erratic(g, "clicks", "impressions", at, window)
    found["click_rate_drift"] = _beyond(_when(telling, ratio(clicks, expected_clicks)), click_rate)

    by_click, expected_by_click, on_clicks = rate("spend_base", "clicks")
    by_view, expected_by_view, on_views = rate("spend_base", "impressions")
    per_click = _when(enough & (on_clicks >= limits.enough_clicks), ratio(by_click, expected_by_click))
    click_cost = _erratic(g, "spend_base", "clicks", at, window)
    found["cost_drift"] = _beyond(per_click, click_cost)
    found["expected_spend"], found["seen_spend"] = expected_by_click, by_click
    found["amount_scale"] = _scale(
        _when(enough & (on_clicks >= 10), _div(by_click, expected_by_click)),
        _when(enough & (on_views >= 300), _div(by_view, expected_by_view)),
    )
    new_scale = _scale(*(
        _when(enough & (own[whole].sum(axis=0) >= least), _div(
            _div(own["spend_base"].sum(axis=0), own[whole].sum(axis=0)),
            _div(sum_before(g.total("spend_base"), at, window), sum_before(g.total(whole), at, window)),
        )) for whole, least in (("clicks", 10), ("impressions", 300))
    ), both=True)  # fmt: skip
    scale = np.where(known.any(axis=0), found["amount_scale"], new_scale)
    found["amount_scale"] = _beyond(scale, click_cost)

    converted, expected_conversions, _ = rate("conversions", "clicks")
    found["seen_conversions"], found["expected_conversions"] = converted, expected_conversions
    found["conversion_drift"] = _conversions(g, converted, expected_conversions, enough, limits, today)
    return found


def _daily(g: Grid, part: str, whole: str) -> Floats:
    """The logarithm of an account's rate each day; NaN where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        daily = np.log(g.total(part) / g.total(whole))
    return np.where(np.isfinite(daily), daily, np.nan)


def _erratic(g: Grid, part: str, whole: str, at: Ints, window: int) -> Floats:
    """By what factor an account's daily rate strays from its own median: five robust standard deviations."""
    past = before(_daily(g, part, whole), at, window)
    spread = _MAD_TO_SD * _quiet_median(np.abs(past - _quiet_median(past)[..., None]))
    return np.exp(5 * np.nan_to_num(spread))


def _outliers(g: Grid, part: str, whole: str, window: int) -> npt.NDArray[np.bool_]:
    """Days whose rate is so far from the median before them that they say nothing of what is usual: one bad day must
    not excuse the next."""
    daily = _daily(g, part, whole)
    usual = _quiet_median(before(daily, np.arange(g.days), window))
    return np.asarray(np.abs(daily - usual) > np.log(_OUTLYING), dtype=bool)


def _beyond(ratios: Floats, erratic: Floats) -> Floats:
    """Ratios that the account's own wavering does not explain."""
    return np.where(ratios > erratic, ratios, np.nan)


def _usual(past: Floats) -> Floats:
    """The median of the same weekday where there are four of them, else of all days."""
    same_weekday = past[..., ::-1][..., 6::7]
    enough = np.isfinite(same_weekday).sum(axis=-1) >= 4
    return np.where(enough, _quiet_median(same_weekday), _quiet_median(past))


def _none_as_nan(values: Floats) -> Floats:
    return np.where(values > 0, values, np.nan)


def _div(part: Floats, whole: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def _when(condition: npt.NDArray[np.bool_], values: Floats) -> Floats:
    return np.where(condition, values, np.nan)


def _is_dip(g: Grid, present: pd.Series, usual: Floats) -> npt.NDArray[np.bool_]:
    """Days thin between days that are not: a campaign that ends does not come back the day after."""
    known = dict(enumerate(g.total("rows").tolist()))
    columns = (pd.DatetimeIndex(present.index) - pd.Timestamp(g.first)).days
    for column, rows in zip(columns.tolist(), present.tolist(), strict=True):
        known[column] = max(rows, known.get(column, 0))
    is_dip = np.zeros(len(g.own), dtype=bool)
    for place, column in enumerate(g.own.tolist()):
        least = 0.5 * usual[place]
        earlier = any(known.get(column - n, 0) >= least for n in (1, 2, 3))
        is_dip[place] = earlier and any(known.get(column + n, 0) >= least for n in (1, 2, 3))
    return is_dip


def _scale(per_click: Floats, per_view: Floats, *, both: bool = False) -> Floats:
    """How many times too dear, or too cheap, a day is by clicks and by views alike."""
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = np.log(per_click), np.log(per_view)
    a, b = np.where(np.isneginf(a), np.nan, a), np.where(np.isneginf(b), np.nan, b)
    if not both:  # of campaigns compared with themselves, one figure is enough where the other is unknown
        a, b = np.where(np.isnan(a), b, a), np.where(np.isnan(b), a, b)
    agreed = np.where(np.sign(a) == np.sign(b), np.minimum(np.abs(a), np.abs(b)), np.nan)
    return np.exp(agreed)


def _conversions(
    g: Grid, seen: Floats, expected: Floats, enough: npt.NDArray[np.bool_], limits: Limits, today: pd.Timestamp
) -> Floats:
    """Conversions arrive late, so that fewer only count over a week, a few days later, and when nearly all are gone."""
    high = (seen >= 2 * limits.enough_conversions) & (expected > 0)
    drift = _when(enough & high, _div(seen, expected))
    column = {int(c): n for n, c in enumerate(g.own)}
    for n, c in enumerate(g.own):
        if not enough[n] or (today - g.day(int(c))).days < 2:
            continue
        week = [column[d] for d in range(int(c) - 6, int(c) + 1) if d in column]
        wanted, got = expected[week].sum(), seen[week].sum()
        if wanted >= limits.enough_conversions and got < wanted / (limits.conversion_drift + 2):
            drift[n] = np.inf if got == 0 else wanted / got
    return drift


# --- mails ------------------------------------------------------------------------------------------------------------


def mails(g: Grid, limits: Limits) -> dict[str, Floats]:
    """Like :func:`ads`. A mail is opened on the days after it was sent, so rates are those of a week, and a day is
    never blamed for opens of a mailing before it or for a mailing that nobody could open yet."""
    window, at = limits.weeks * 7, g.own
    total = {name: g.total(name) for name in g.values}

    def recent(name: str, days: int, ends: int) -> Floats:
        return sum_before(total[name], at, days, ends=ends)

    def base(name: str) -> Floats:
        return sum_before(total[name], at, window, ends=10)

    send_days = sum_before((total["delivered"] > 0).astype(float), at, window, ends=10)
    usual = (base("delivered") >= 2 * limits.enough_mails) & (send_days >= 5)
    found: dict[str, Floats] = {}
    for name, code in (("unique_opens", "open_rate_drift"), ("unique_clicks", "mail_click_drift")):
        rate = _div(base(name), base("delivered"))
        # too few: mails sent up to two days ago, all that came since; too many: all mails, what came in a week
        least = usual & (recent("delivered", 7, 1) >= limits.enough_mails)
        low = _when(least, _div(recent("delivered", 7, 1) * rate, recent(name, 9, -1)))
        low = np.where(least & (recent(name, 9, -1) <= 0) & (rate > 0), np.inf, low)
        high = _when(usual & (recent(name, 7, -1) >= limits.enough_mails * np.nan_to_num(rate)), _div(
            recent(name, 7, -1), recent("delivered", 11, -1) * rate
        ))  # fmt: skip
        counted = np.maximum(recent(name, 9, -1), recent("delivered", 7, 1) * np.nan_to_num(rate))
        found[code] = _when(counted >= 50, np.fmax(low, high))
        found[f"usual_{name}"], found[f"recent_{name}"] = rate, _div(recent(name, 9, -1), recent("delivered", 9, -1))
    requests = recent("requests", 2, -1)
    many = requests >= 0.3 * limits.enough_mails
    bounced = _div(recent("bounces", 2, -1), requests)
    usual_bounces = np.nan_to_num(_div(base("bounces"), base("requests")))
    found["bounce_share"], found["usual_bounces"] = bounced, usual_bounces
    found["bounce_excess"] = _when(many, bounced / np.maximum(limits.bounce_share, limits.bounce_drift * usual_bounces))
    has_next = at + 1 < g.days
    delivered = _div(sum_before(total["delivered"], np.minimum(at + 1, g.days - 1), 3, ends=-1), requests)
    usually = _div(base("delivered"), base("requests"))
    found["delivered_share"] = _when(many & has_next & usual & (usually >= 0.9), delivered)
    spam = _div(recent("spam_reports", 7, -1), recent("delivered", 7, -1))
    found["spam_share"] = _when(recent("delivered", 7, -1) >= limits.enough_mails, spam)
    most = _quiet_max(before(total["requests"], at, window))
    found["most_mails"] = most
    found["mails_jump"] = _when(
        usual & (total["requests"][at] >= 10 * limits.enough_mails), _div(total["requests"][at], most)
    )
    return found


# --- registrations ----------------------------------------------------------------------------------------------------


def registrations(g: Grid, limits: Limits) -> dict[str, Floats]:
    """Like :func:`ads`; few registrations on a day say nothing."""
    window, at = limits.weeks * 7, g.own
    rows = g.total("rows")
    past = before(np.where(rows > 0, rows, np.nan), at, window)
    most = _quiet_max(past)
    enough = np.isfinite(past).sum(axis=-1) >= limits.enough_days
    recent, cancelled = sum_before(rows, at, 7, ends=-1), sum_before(g.total("cancelled"), at, 7, ends=-1)
    base = sum_before(rows, at, window, ends=6)
    usual = _div(sum_before(g.total("cancelled"), at, window, ends=6), base)
    return {
        "most_rows": most,
        "registrations_jump": _when(enough & (rows[at] >= 100), _div(rows[at], most)),
        "usual_cancelled": usual,
        "cancelled_share": _when(
            (base >= 100) & (recent >= 30) & (usual < 0.5 * limits.cancelled_share), _div(cancelled, recent)
        ),
    }


# --- days that lack ---------------------------------------------------------------------------------------------------


def missing_days(has_rows: npt.NDArray[np.bool_], first: int, last: int, weekday_of_0: int, presence: float) -> Ints:
    """Days between two columns without rows, in an account that has them on such weekdays nearly always.

    Args:
        has_rows: whether each day has rows, shape (days,).
        first, last: columns between which a day should have been in the file.
        weekday_of_0: weekday of column 0.
        presence: share of such days, four weeks around, that must have rows.

    Returns:
        Their columns. More than a week in a row is a pause, and says nothing.
    """
    weekday = (np.arange(len(has_rows)) + weekday_of_0) % 7
    gaps = np.flatnonzero(~has_rows[first : last + 1]) + first
    found = []
    for gap in gaps.tolist():
        lo, hi = max(0, gap - 28), min(len(has_rows), gap + 29)
        near, days = has_rows[lo:hi], weekday[lo:hi]
        others = np.arange(lo, hi) != gap
        share = np.array([near[(days == d) & others].mean() if ((days == d) & others).any() else 0 for d in range(7)])
        counts = np.array([int(((days == d) & others).sum()) for d in range(7)])
        if counts[weekday[gap]] < 4 or share[weekday[gap]] < 0.75:
            continue
        expected = (share[days] >= 0.75) & others
        if expected.sum() < 20 or near[expected].mean() < presence:
            continue
        found.append(gap)
    return np.array(found, dtype=np.int64)
