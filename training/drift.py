"""Whether what a model is asked today looks like what it was trained on.

Tactics live on different scales, and plans use other tactics than the history did. So each value is placed in the
distribution of *its own tactic* at training time, and the places of all tactics are pooled: without drift they are
uniform on [0, 1], whatever the mix of tactics. The population stability index over ten bins of places,

    PSI = Σ (p_i − 1/10) · ln(p_i · 10)

says how large a drift is (Siddiqi 2006: below 0.1 none, above 0.25 a shift), less what PSI would be without any drift
from so few values, (bins − 1)(1/n + 1/m) (Yurdakul 2018); a chi-squared test says whether it is more than chance. Both
are asked for, and at least :data:`FEWEST` values. Ties share their places evenly, so that a feature with one value
everywhere does not drift by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from feature_repo.names import RESPONSE_FEATURES

Floats = NDArray[np.float64]
Status = Literal["ok", "too_few", "warning", "alarm"]

FILE = "reference.json"
#: Values that must be compared before anything is said.
FEWEST = 50
WARNING, ALARM = 0.10, 0.25
#: More unknown values than at training time by this share: a column that is no longer delivered.
MISSING = 0.20
_ALPHA = 1e-3
_BINS = 10
_KNOTS = 41
_FEWEST_REFERENCE = 20


def drifting_features() -> tuple[str, ...]:
    """Features that ought to keep their distribution: rates and levels, not counts that grow with the history."""
    growing = ("_total", "days_since_last", "_events_", "_registrations_365d", "_spend_365d", "_hours_365d")
    return tuple(n for n in RESPONSE_FEATURES if not any(part in n for part in growing))


@dataclass(frozen=True, slots=True)
class Reference:
    """Distributions per feature and group (tactic).

    Attributes:
        knots: per feature and group, quantiles at equal steps from 0 to 1.
        missing: per feature and group, the share of unknown values.
        counts: per feature and group, values behind it, known or not.
    """

    knots: Mapping[str, Mapping[str, list[float]]]
    missing: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, rows: pd.DataFrame, features: Iterable[str], group: str = "tactic_id") -> Reference:
        """Measured on ``rows``; groups with fewer than 20 rows are left out."""
        knots: dict[str, dict[str, list[float]]] = {}
        missing: dict[str, dict[str, float]] = {}
        counts: dict[str, dict[str, int]] = {}
        for feature in features:
            if feature not in rows.columns:
                continue
            for key, values in rows.groupby(group, sort=True)[feature]:
                known = values.to_numpy(dtype=np.float64)
                known = known[np.isfinite(known)]
                if len(values) < _FEWEST_REFERENCE:
                    continue
                counts.setdefault(feature, {})[str(key)] = len(values)
                missing.setdefault(feature, {})[str(key)] = 1 - len(known) / len(values)
                if len(known) >= _FEWEST_REFERENCE:
                    marks = np.quantile(known, np.linspace(0, 1, _KNOTS))
                    knots.setdefault(feature, {})[str(key)] = [float(f"{v:.6g}") for v in marks]
        return cls(knots, missing, counts)

    def to_json(self) -> str:
        return json.dumps({"knots": self.knots, "missing": self.missing, "counts": self.counts})

    @classmethod
    def from_json(cls, text: str) -> Reference:
        data: dict[str, Any] = json.loads(text)
        return cls(data["knots"], data["missing"], data["counts"])


@dataclass(frozen=True, slots=True)
class Drift:
    """One feature: ``psi`` is already less its expectation without drift, ``missing`` the excess of unknown values."""

    feature: str
    psi: float
    p: float
    missing: float
    values: int
    status: Status


def measure(reference: Reference, rows: pd.DataFrame, group: str = "tactic_id") -> list[Drift]:
    """Compare ``rows`` (columns: the group and the features) with the reference, feature by feature."""
    found = []
    features = [f for f in reference.counts if f in rows.columns]
    for feature in features:
        mass, values, unknown, expected_unknown, asked, behind = np.zeros(_BINS), 0, 0, 0.0, 0, 0
        for key, own in rows.groupby(group, sort=True)[feature]:
            share = reference.missing[feature].get(str(key))
            if share is None:
                continue
            known = own.to_numpy(dtype=np.float64)
            known = known[np.isfinite(known)]
            asked += len(own)
            unknown += len(own) - len(known)
            expected_unknown += share * len(own)
            marks = reference.knots.get(feature, {}).get(str(key))
            if marks is not None and len(known):
                mass += _places(np.asarray(marks), known)
                values += len(known)
                behind += reference.counts[feature][str(key)]
        excess = (unknown - expected_unknown) / asked if asked else 0.0
        psi, p = stability(mass, values, behind)
        found.append(Drift(feature, psi, p, excess, values, _status(psi, p, excess, asked, values, len(features))))
    return found


def stability(mass: ArrayLike, values: int, behind: int) -> tuple[float, float]:
    """PSI of the bins' mass against uniform, less its expectation without drift, and the chi-squared p-value."""
    from scipy import stats

    if values == 0:
        return 0.0, 1.0
    mass = np.asarray(mass, dtype=np.float64)
    share = (mass + 0.5) / (mass.sum() + 0.5 * _BINS)
    psi = float(((share - 1 / _BINS) * np.log(share * _BINS)).sum())
    noise = (_BINS - 1) * (1 / values + 1 / max(behind, 1))
    # the reference is a sample, too: its noise takes part of the evidence
    effective = values * behind / max(values + behind, 1)
    chi2 = effective * float(((mass / mass.sum() - 1 / _BINS) ** 2 * _BINS).sum())
    return max(psi - noise, 0.0), float(stats.chi2.sf(chi2, _BINS - 1))


def _status(psi: float, p: float, excess: float, asked: int, values: int, tests: int) -> Status:
    if asked < FEWEST:
        return "too_few"
    if excess > MISSING:
        return "alarm"
    if values < FEWEST:
        return "too_few"
    if p >= _ALPHA / max(tests, 1) or psi <= WARNING:
        return "ok"
    return "alarm" if psi > ALARM else "warning"


def _places(marks: Floats, values: Floats) -> Floats:
    """Mass per bin: each value is spread evenly over the part of [0, 1] that it may stand for."""
    steps = len(marks) - 1
    low = np.searchsorted(marks, values, "left")
    high = np.searchsorted(marks, values, "right") - 1
    # between two knots: low is the upper one, high the lower one; on one or several knots: from the first to the last
    between = high < low
    start = np.where(between, high, np.maximum(low - 0.5 * (low == high), 0)) / steps
    end = np.where(between, low, np.minimum(high + 0.5 * (low == high), steps)) / steps
    start, end = np.clip(start, 0, 1), np.clip(end, 0, 1)
    # below the least and above the greatest value seen
    start = np.where(values > marks[-1], 1 - 1 / steps, start)
    end = np.where(values < marks[0], 1 / steps, end)
    edges = np.linspace(0, 1, _BINS + 1)
    overlap = np.minimum(end[:, None], edges[None, 1:]) - np.maximum(start[:, None], edges[None, :-1])
    overlap = np.maximum(overlap, 0.0)
    return np.asarray((overlap / np.maximum(overlap.sum(axis=1, keepdims=True), 1e-12)).sum(axis=0))
