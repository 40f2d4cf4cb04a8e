"""Experiments by e-mail: outcomes per segment and arm on people held out, and the lift over the control arm.

Half of the people, drawn anew :data:`SPLITS` times, are known; the other half's total in each cell (segment × arm) is
predicted. Ours is a Poisson regression on what was known of each person, whatever the arm, times effects of arm,
segment and pair from :mod:`training.hierarchy`: a cell with few people leans on its arm and its segment. Sums of money
are treated as counts of usual orders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training import hierarchy
from training.calibration import standardised
from training.hierarchy import Group

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Progress = Callable[[str], None]

SPLITS = 10
#: Spreads of effects on the log scale, guesses; those of segments and pairs are learnt.
_ARM_SD = 0.5
_SEGMENT_SD = 0.15
_PAIR_SD = 0.1
_SHRINKAGE = (0.003, 0.03, 0.3, 1.0)
_FEWEST_OUTCOMES = 30
_Z90 = 1.6448536269514722
_LABELS = {
    "ours": "Turnout", "cell": "each cell's own rate", "arm": "rate per arm", "overall": "one rate for all",
    "linear": "linear regression", "lightgbm": "LightGBM",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Cells:
    """Cell of each person: segment × arms + arm."""

    code: Ints
    arms: list[str]
    segments: list[str]

    @property
    def count(self) -> int:
        return len(self.arms) * len(self.segments)


def evaluate_experiment(
    frame: pd.DataFrame,
    *,
    arm: str,
    control: str | None,
    groups: Sequence[str],
    targets: Sequence[str],
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Held-out cell totals against the yardsticks, and lifts; see the module."""
    segment = frame[list(groups)].astype(str).agg(" · ".join, axis=1) if groups else pd.Series("all", index=frame.index)
    arms, segments = sorted(frame[arm].astype(str).unique()), sorted(segment.unique())
    code = hierarchy.codes_of(segment, segments) * len(arms) + hierarchy.codes_of(frame[arm].astype(str), arms)
    cells = _Cells(code, arms, segments)
    known = [str(c) for c in frame.columns if c not in {arm, *targets} and c not in _outcomes_of(frame, targets)]
    features = _features(frame[[*known, arm]])
    people = _features(frame[known]) if known else np.zeros((len(frame), 0))
    tables: list[dict[str, Any]] = []
    results: dict[str, Any] = {}
    notes: list[str] = []
    for target in targets:
        y = frame[target].to_numpy(dtype=np.float64)
        errors: dict[str, list[float]] = {name: [] for name in _LABELS}
        inside: list[float] = []
        lifts = []
        for split in range(SPLITS):
            progress(f"{target}: split {split + 1}/{SPLITS}")
            train = np.random.default_rng([seed, split]).random(len(y)) < 0.5
            totals = np.bincount(cells.code[~train], y[~train], minlength=cells.count).astype(np.float64)
            ours, z = _ours(y, cells, people, train, totals, seed)
            predictions = {"ours": ours, **_yardsticks(y, cells, train, features, seed)}
            for name, values in predictions.items():
                errors[name].append(float(np.abs(values - totals).sum() / max(totals.sum(), 1e-9)))
            inside += (np.abs(z) <= _Z90).tolist()
            if control is not None:
                lifts.append(_lifts(ours, totals, cells, train, control))
        scores = {name: float(np.mean(values)) for name, values in errors.items()}
        noise = _noise(y, cells)
        results[target] = {
            "wape_cells": {k: round(v, 4) for k, v in scores.items()}, "wape_of_luck_alone": round(noise, 4),
            "coverage_90": round(float(np.mean(inside)), 4),
        }  # fmt: skip
        caption = (
            f"mean of {SPLITS} random halves; luck alone leaves about {100 * noise:.1f} %; 90 % intervals cover "
            f"{100 * float(np.mean(inside)):.1f} %"
        )
        rows = [[_LABELS[name], f"{100 * value:.1f} %"] for name, value in scores.items()]
        columns = ["", "WAPE of held-out cells"]
        tables.append({"title": f"{target} per segment and arm", "columns": columns, "rows": rows, "caption": caption})
        if lifts:
            tables.append(_lift_table(target, lifts, cells, control or "", results[target]))
    if control is None:
        notes.append("no control arm was found: lifts are not shown")
    return {"notes": notes, "tables": tables, "results": results}


def _outcomes_of(frame: pd.DataFrame, targets: Sequence[str]) -> list[str]:
    """Other columns that are only known after the mail: they must not predict."""
    names = {"visit", "visits", "conversion", "conversions", "spend", "click", "clicks", "open", "opens", "registered"}
    return [str(c) for c in frame.columns if str(c).lower() in names and c not in targets]


def _features(frame: pd.DataFrame) -> Floats:
    parts = []
    for name in frame.columns:
        if pd.api.types.is_numeric_dtype(frame[name]):
            parts.append(frame[[name]].fillna(frame[name].median()).to_numpy(dtype=np.float64))
        else:
            parts.append(pd.get_dummies(frame[name].astype(str)).to_numpy(dtype=np.float64))
    return np.hstack(parts)


def _ours(
    y: Floats, cells: _Cells, people: Floats, train: NDArray[np.bool_], totals: Floats, seed: int
) -> tuple[Floats, Floats]:
    """Predicted totals of the held-out cells, and how many standard deviations each was off."""
    n_arms, n_segments = len(cells.arms), len(cells.segments)
    paid = y[train][y[train] > 0]
    unit = float(paid.mean()) if len(paid) else 1.0
    # what a single order varies by makes every sum vary more than a count would
    spread = float((paid**2).mean() / unit**2) if len(paid) else 1.0
    each = _propensity(y / unit, people, train, seed)
    expected = np.bincount(cells.code[train], each[train], minlength=cells.count)
    sums = np.bincount(cells.code[train], y[train], minlength=cells.count) / unit
    used = np.flatnonzero(expected > 0)
    groups = {
        "arm": Group((used % n_arms).astype(np.int64), n_arms, _ARM_SD),
        "segment": Group((used // n_arms).astype(np.int64), n_segments, _SEGMENT_SD, learn=True),
        "pair": Group(used.astype(np.int64), cells.count, _PAIR_SD, learn=True),
    }
    fit = hierarchy.fit(sums[used] / spread, expected[used] / spread, groups, start=0.02)
    at = np.arange(cells.count)
    effects = np.exp(fit.eta({"arm": at % n_arms, "segment": at // n_arms, "pair": at}, {}, cells.count))
    mean = np.bincount(cells.code[~train], each[~train], minlength=cells.count) * effects
    sd = np.sqrt([
        fit.variance({"arm": i % n_arms, "segment": i // n_arms, "pair": i}) for i in range(cells.count)
    ])  # fmt: skip
    seen = mean > 0
    z = standardised(np.round(totals[seen] / unit / spread), mean[seen] / spread, sd[seen])
    return np.asarray(mean * unit, dtype=np.float64), z


def _propensity(counts: Floats, people: Floats, train: NDArray[np.bool_], seed: int) -> Floats:
    """What is expected of each person whatever the arm: a Poisson regression, as strongly shrunk as helps."""
    from sklearn.linear_model import PoissonRegressor
    from sklearn.metrics import mean_poisson_deviance
    from sklearn.preprocessing import StandardScaler

    rate = max(float(counts[train].mean()), 1e-6)
    if not people.shape[1] or (counts[train] > 0).sum() < _FEWEST_OUTCOMES:
        return np.full(len(counts), rate)
    scaled = StandardScaler().fit(people[train]).transform(people)
    inner = train & (np.random.default_rng([seed, SPLITS]).random(len(counts)) < 0.7)
    left = train & ~inner
    tried = {
        alpha: PoissonRegressor(alpha=alpha, max_iter=100).fit(scaled[inner], counts[inner]).predict(scaled[left])
        for alpha in _SHRINKAGE
    }
    best = min(tried, key=lambda alpha: mean_poisson_deviance(counts[left], np.maximum(tried[alpha], 1e-9)))
    found = PoissonRegressor(alpha=best, max_iter=100).fit(scaled[train], counts[train]).predict(scaled)
    values = np.clip(np.asarray(found, dtype=np.float64), rate / 10, rate * 10)
    return np.asarray(values * (counts[train].sum() / values[train].sum()), dtype=np.float64)


def _yardsticks(y: Floats, cells: _Cells, train: NDArray[np.bool_], features: Floats, seed: int) -> dict[str, Floats]:
    n = cells.count
    people, sums = np.bincount(cells.code[train], minlength=n), np.bincount(cells.code[train], y[train], minlength=n)
    held_out = np.bincount(cells.code[~train], minlength=n).astype(np.float64)
    overall = float(y[train].mean())
    own = np.where(people > 0, sums / np.maximum(people, 1), overall)
    arm = np.arange(n) % len(cells.arms)
    by_arm = np.bincount(arm, sums) / np.maximum(np.bincount(arm, people), 1)
    return {
        "cell": own * held_out,
        "arm": by_arm[arm] * held_out,
        "overall": overall * held_out,
        "linear": _summed(_linear(y, features, train), cells, train),
        "lightgbm": _summed(_lightgbm(y, features, train, seed), cells, train),
    }


def _summed(predicted: Floats, cells: _Cells, train: NDArray[np.bool_]) -> Floats:
    return np.bincount(cells.code[~train], np.maximum(predicted, 0.0), minlength=cells.count).astype(np.float64)


def _linear(y: Floats, features: Floats, train: NDArray[np.bool_]) -> Floats:
    from sklearn.linear_model import Ridge

    return np.asarray(Ridge(alpha=1.0).fit(features[train], y[train]).predict(features[~train]), dtype=np.float64)


def _lightgbm(y: Floats, features: Floats, train: NDArray[np.bool_], seed: int) -> Floats:
    import lightgbm

    parameters = {
        "objective": "poisson", "learning_rate": 0.05, "num_leaves": 15, "verbosity": -1, "num_threads": 1,
        "deterministic": True, "force_row_wise": True, "seed": seed,
    }  # fmt: skip
    if y[train].sum() <= 0:
        return np.zeros(int((~train).sum()))
    model = lightgbm.train(parameters, lightgbm.Dataset(features[train], label=y[train]), num_boost_round=100)
    return np.asarray(model.predict(features[~train]), dtype=np.float64)


def _noise(y: Floats, cells: _Cells) -> float:
    """WAPE of somebody who knows every cell's rate: the mean absolute deviation of a cell's held-out total."""
    table = pd.DataFrame({"cell": cells.code, "y": y}).groupby("cell")["y"].agg(["var", "size", "sum"])
    spread = np.sqrt(table["var"].fillna(0.0) * table["size"] / 2)
    return float(np.sqrt(2 / np.pi) * spread.sum() / max(table["sum"].sum() / 2, 1e-9))


def _lifts(ours: Floats, totals: Floats, cells: _Cells, train: NDArray[np.bool_], control: str) -> dict[str, Any]:
    """Per arm: lift over the control per person, predicted and in the held-out half."""
    arm = np.arange(cells.count) % len(cells.arms)
    people = np.bincount(cells.code[~train], minlength=cells.count)
    per_arm = [np.bincount(arm, values) / np.maximum(np.bincount(arm, people), 1) for values in (ours, totals)]
    at = cells.arms.index(control)
    return {
        name: (float(per_arm[0][i] - per_arm[0][at]), float(per_arm[1][i] - per_arm[1][at]))
        for i, name in enumerate(cells.arms)
        if i != at
    }


def _lift_table(
    target: str, lifts: Sequence[dict[str, Any]], cells: _Cells, control: str, results: dict[str, Any]
) -> dict[str, Any]:
    rows = []
    results["lift"] = {}
    for name in (a for a in cells.arms if a != control):
        predicted, seen = (float(np.mean([lift[name][i] for lift in lifts])) for i in (0, 1))
        rows.append([name, f"{predicted:.4f}", f"{seen:.4f}"])
        results["lift"][name] = {"predicted": round(predicted, 5), "held_out": round(seen, 5)}
    columns = ["arm", "Turnout", "held out"]
    return {"title": f"{target}: lift per person over {control}", "columns": columns, "rows": rows, "caption": None}
