"""Registrations per day before one event: how many still come, from 30, 14 and 7 days before it.

With s(d) the published share of registrations that have come by d days before the event, each stretch of days that is
over, from d₁ to d₂ before it, gives an estimate of the event's size: count / (s(d₂) − s(d₁)). They are averaged on the
log scale, each with the weight of what is known of its share: days before the published curve's first knot are a guess
(sd :data:`EARLY_SD`), later stretches vary from event to event (:data:`STRETCH_SD`, and counting noise). Stretches
further back say less of what comes next (:data:`FADE`). What still comes is the size times the shares still to come.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from turnout.scoring.published import kind_of, published_pacing
from turnout.scoring.types import Pacing

Floats = NDArray[np.float64]
Progress = Callable[[str], None]

AHEAD = (30, 14, 7)
#: Spread of an early stretch's share on the log scale, and of one within the published window: guesses.
EARLY_SD = 0.8
STRETCH_SD = 0.45
#: Added to the spread per week that a stretch lies back.
FADE = 0.05
#: What is not known of the shares still to come, on the log scale: a guess.
COMING_SD = 0.35
_HISTORY = 14
_Z90 = 1.6448536269514722


def evaluate_daily(
    counts: pd.Series, *, event_date: date | None, event_format: str, is_free: bool, progress: Progress
) -> dict[str, Any]:
    """Forecasts beside what came, ours and the yardsticks'.

    Args:
        counts: registrations per day, index every day.
        event_date: default the last day of ``counts``.
        event_format: offline, online or hybrid.
    """
    event = event_date or counts.index[-1].date()
    pacing = published_pacing(kind_of(event_format, 0.0 if is_free else 1.0))
    notes = [f"event on {event}{'' if event_date else ' (the last day with counts; set --event-date)'}", pacing.source]
    rows: list[list[Any]] = []
    results: dict[str, Any] = {}
    for ahead in AHEAD:
        first = pd.Timestamp(event - timedelta(days=ahead))
        known, coming = counts[counts.index < first], counts[(counts.index >= first) & (counts.index < str(event))]
        if len(known) < _HISTORY or known.sum() <= 0:
            notes.append(f"fewer than {_HISTORY} days are known {ahead} days before the event: not forecast")
            continue
        progress(f"forecasting from {ahead} days before the event")
        actual = float(coming.sum())
        mean, log_sd = still_to_come(known, pacing, event, ahead)
        low, high = (max(mean * math.exp(s * _Z90 * log_sd), 0.0) for s in (-1, 1))
        forecasts = {"ours": mean, **yardsticks(known, ahead)}
        results[str(ahead)] = {
            "actual": actual, "p05": round(low, 1), "p95": round(high, 1),
            "forecasts": {k: round(v, 1) for k, v in forecasts.items()},
        }  # fmt: skip
        rows.append([f"{ahead} days before", actual, mean, f"{low:.0f} to {high:.0f}", *list(forecasts.values())[1:]])
    scores = {
        name: round(float(np.mean([abs(r["forecasts"][name] - r["actual"]) for r in results.values()])), 1)
        for name in (next(iter(results.values()))["forecasts"] if results else ())
    }
    if scores:
        rows.append(["mean absolute error", "", scores["ours"], "", *[scores[n] for n in list(scores)[1:]]])
    columns = ["forecast made", "came", "Turnout", "90 % interval", "default Prophet", "last 28 days", "straight line"]
    caption = "registrations from the day of the forecast until the day before the event"
    return {
        "notes": notes,
        "tables": [{"title": "registrations still to come", "columns": columns, "rows": rows, "caption": caption}],
        "results": results | {"mean_absolute_error": scores},
        "daily": {"days": [d.date().isoformat() for d in counts.index], "counts": counts.tolist(), "event": str(event)},
    }


def still_to_come(known: pd.Series, pacing: Pacing, event: date, ahead: int) -> tuple[float, float]:
    """Registrations of the last ``ahead`` days before the event's own, and the spread of their log."""
    before = np.array([(pd.Timestamp(event) - day).days for day in known.index], dtype=np.float64)
    numbers = known.to_numpy(dtype=np.float64)
    # stretches: all that is older than the published curve, then from knot to knot until the day of the forecast
    borders = [float("inf"), *(float(d) for d in pacing.days if d > ahead), float(ahead)]
    estimates, weights = [], []
    for far, near in pairwise(borders):
        inside = (before >= near) & (before < far)
        share = pacing.expected_share(near) - (0.0 if math.isinf(far) else pacing.expected_share(far))
        count = float(numbers[inside].sum())
        if share <= 0 or not inside.any():
            continue
        sd = EARLY_SD if math.isinf(far) else STRETCH_SD
        back = 0.0 if math.isinf(far) else FADE * (near - ahead) / 7
        # half a registration keeps the logarithm finite where nobody came
        variance = (sd + back) ** 2 + 1 / (count + 0.5)
        estimates.append(math.log((count + 0.5) / share))
        weights.append(1 / variance)
    log_size = float(np.average(estimates, weights=weights))
    coming = pacing.expected_share(1) - pacing.expected_share(ahead)
    mean = math.exp(log_size) * coming
    return mean, math.sqrt(1 / sum(weights) + COMING_SD**2 + 1 / max(mean, 1.0))


def yardsticks(known: pd.Series, ahead: int) -> dict[str, float]:
    """What the usual ways say: Prophet with its defaults, the pace of the last four weeks, a straight line."""
    recent = known.iloc[-28:]
    x = np.arange(len(recent), dtype=np.float64)
    slope, level = np.polyfit(x, recent.to_numpy(dtype=np.float64), 1)
    ahead_x = len(recent) + np.arange(ahead, dtype=np.float64)
    return {
        "prophet": _prophet(known, ahead),
        "recent_pace": float(recent.mean() * ahead),
        "straight_line": float(np.maximum(level + slope * ahead_x, 0.0).sum()),
    }


def _prophet(known: pd.Series, ahead: int) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("cmdstanpy", "prophet", "prophet.plot"):
            logging.getLogger(name).setLevel(logging.ERROR)
        from prophet import Prophet

        # as people feed it: the days that are in the file
        frame = pd.DataFrame({"ds": known.index, "y": known.to_numpy(dtype=np.float64)})
        model = Prophet()
        model.fit(frame[frame["y"] > 0] if (frame["y"] > 0).sum() >= 2 else frame)
        future = pd.DataFrame({"ds": pd.date_range(known.index[-1] + pd.Timedelta(days=1), periods=ahead, freq="D")})
        return float(model.predict(future)["yhat"].sum())
