"""Registrations that come without any tactic: a partially pooled level by segment and by kind of event.

Organic registrations are those of unknown or direct origin (``event_summary.organic_registrations``). The level has
a guessed prior (:data:`turnout.scoring.demand.ORGANIC_GUESS`), wide enough that a few events overrule it; the demand
index multiplies it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training import hierarchy
from training.calibration import SHARED_LOG_SD
from training.hierarchy import Group, codes_of
from turnout.scoring.demand import ORGANIC_GUESS, ORGANIC_GUESS_LOG_SD, Organic

Floats = NDArray[np.float64]

SEGMENT_SD = 0.4
KIND_SD = 0.3
_SMALLEST_LOG_SD = 0.05


def fit_organic(events: pd.DataFrame, demand_index: Floats) -> Organic:
    """Fit the baseline.

    Args:
        events: as of :class:`training.dataset.History`; rows without a known organic count are left out.
        demand_index: of each event, shape (events,).
    """
    known = events["organic_registrations"].notna().to_numpy()
    usable = events[known]
    if usable.empty:
        return Organic()
    segments = tuple(sorted(usable["segment_id"].unique()))
    kinds = tuple(sorted(usable["kind"].unique()))
    fitted = hierarchy.fit(
        np.maximum(usable["organic_registrations"].to_numpy(dtype=np.float64), 0.0),
        ORGANIC_GUESS * np.maximum(demand_index[known], 1e-3),
        {
            "level": Group(np.zeros(len(usable), dtype=np.int64), 1, ORGANIC_GUESS_LOG_SD),
            "segment": Group(codes_of(usable["segment_id"], segments), len(segments), SEGMENT_SD, learn=True),
            "kind": Group(codes_of(usable["kind"], kinds), len(kinds), KIND_SD, learn=True),
        },
        overdispersion=0.3,
    )
    usual_kind = int(np.bincount(codes_of(usable["kind"], kinds)).argmax())
    # overdispersion holds the shared shock, which the predictive distribution adds by itself
    noise2 = max(float(np.log1p(fitted.overdispersion)) - SHARED_LOG_SD**2, _SMALLEST_LOG_SD**2)

    def spread(segment: int) -> float:
        return float(np.sqrt(fitted.variance({"level": 0, "segment": segment, "kind": usual_kind}) + noise2))

    return Organic(
        level=float(np.log(ORGANIC_GUESS) + fitted.effects["level"][0]),
        segments=dict(zip(segments, fitted.effects["segment"].tolist(), strict=True)),
        kinds=dict(zip(kinds, fitted.effects["kind"].tolist(), strict=True)),
        log_sd={s: spread(i) for i, s in enumerate(segments)} | {"": spread(-1)},
        events={str(k): int(v) for k, v in usable.groupby("segment_id").size().items()},
    )


@dataclass(frozen=True, slots=True)
class OrganicForecast:
    """Expected organic registrations and the spread of their log, shape (events,)."""

    mean: Floats
    log_sd: Floats


def forecast(organic: Organic, events: pd.DataFrame, demand_index: Floats) -> OrganicForecast:
    """The baseline of each event."""
    log_mean = np.array([
        organic.log_mean(segment, kind) for segment, kind in zip(events["segment_id"], events["kind"], strict=True)
    ])  # fmt: skip
    return OrganicForecast(
        np.exp(log_mean) * demand_index, np.array([organic.spread(segment) for segment in events["segment_id"]])
    )
