"""When people register, and how many of them come: pacing curves and show-up rates by kind of event.

Both start from the published figures (:mod:`turnout.scoring.published`) and move to the organiser's own as events add
up.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.dataset import History
from turnout.scoring.published import SHOW_UP_CONCENTRATION, published_pacing, published_show_up
from turnout.scoring.types import Pacing, ShowUp

Floats = NDArray[np.float64]

#: Days before the event at which pacing curves have a knot.
PACING_DAYS: tuple[int, ...] = (84, 56, 42, 28, 21, 14, 10, 7, 5, 3, 2, 1, 0)
#: Imaginary events behind the published curves.
PRIOR_EVENTS = 4.0
_FEWEST_REGISTRATIONS = 10
_CONCENTRATION_RANGE = (3.0, 400.0)


def pacing_curves(history: History) -> dict[str, Pacing]:
    """Per kind with at least one usable event, the mean cumulative share over events, towards the published one."""
    if history.daily.empty:
        return {}
    by_event = history.daily.pivot_table(
        index="event_id", columns="days_before", values="registrations", aggfunc="sum", fill_value=0.0
    )
    totals = by_event.sum(axis=1)
    by_event = by_event[totals >= _FEWEST_REGISTRATIONS]
    if by_event.empty:
        return {}
    days = by_event.columns.to_numpy(dtype=np.float64)
    counts = by_event.to_numpy(dtype=np.float64)
    shares = np.column_stack([counts[:, days >= d].sum(axis=1) for d in PACING_DAYS]) / counts.sum(axis=1)[:, None]
    kinds = history.events["kind"].reindex(by_event.index).to_numpy()
    curves: dict[str, Pacing] = {}
    for kind in sorted(set(kinds)):
        own = shares[kinds == kind]
        published = published_pacing(kind)
        prior = np.array([published.expected_share(d) for d in PACING_DAYS])
        mean = (own.sum(axis=0) + PRIOR_EVENTS * prior) / (len(own) + PRIOR_EVENTS)
        mean = np.maximum.accumulate(np.clip(mean, 0.0, 1.0))
        mean[-1] = 1.0
        curves[kind] = Pacing(PACING_DAYS, tuple(mean.tolist()), f"own data: {len(own)} events; {published.source}")
    return curves


def show_up_rates(events: pd.DataFrame) -> dict[str, ShowUp]:
    """Per kind, the Beta of an event's show-up rate.

    The mean is pooled over events (each weighing n / (n + 20) for its n registrations, :data:`PRIOR_EVENTS` imaginary
    ones at the published rate); the concentration comes from the variance between events beyond binomial noise, held
    near the published spread in the same way.
    """
    known = events[events["show_up_rate"].notna() & (events["registrations"].fillna(0) > 0)]
    rates: dict[str, ShowUp] = {}
    for kind, group in known.groupby("kind"):
        published = published_show_up(str(kind))
        rate = np.clip(group["show_up_rate"].to_numpy(dtype=np.float64), 0.0, 1.0)
        size = group["registrations"].to_numpy(dtype=np.float64)
        weight = size / (size + 20.0)
        mean = float(((weight * rate).sum() + PRIOR_EVENTS * published.mean) / (weight.sum() + PRIOR_EVENTS))
        mean = min(max(mean, 0.005), 0.995)
        usual = mean * (1 - mean) / (SHOW_UP_CONCENTRATION + 1)
        own = float((weight * ((rate - mean) ** 2 - mean * (1 - mean) / size)).sum())
        variance = max((own + PRIOR_EVENTS * usual) / (weight.sum() + PRIOR_EVENTS), 1e-6)
        concentration = float(np.clip(mean * (1 - mean) / variance - 1, *_CONCENTRATION_RANGE))
        rates[str(kind)] = ShowUp(
            mean * concentration,
            (1 - mean) * concentration,
            f"own data: {len(group)} events; {published.source}",
            len(group),
        )
    return rates
