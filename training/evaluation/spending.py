"""Rows with money spent and what it brought: a curve of the spend, pooled groups, trees on what is left.

The recipe of the response model, without a catalogue behind it:

1. a curve that rises and saturates, Σ_c Σ_h w_ch x_c / (h + x_c) + a with w, a >= 0 (non-negative least squares over
   half-saturations h), for one spend column or several; a is what comes without any spend;
2. effects of the groups, partially pooled (:mod:`training.hierarchy`), and of season and trend where there are days;
3. XGBoost on counts with the log of the fitted mean as base margin, monotone in spend, as many trees as help on rows
   held out of training.

Held out: the last :data:`TEST_SHARE` of the rows where there are days, else :data:`FOLDS` folds in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xgboost
from numpy.typing import NDArray
from scipy.optimize import nnls

from training import hierarchy
from training.calibration import conformal_factor, standardised
from training.estimator import TREE_PARAMETERS
from training.hierarchy import Covariate, Group, codes_of
from turnout.errors import InputError, Problem
from turnout.scoring.effects import season_terms

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Progress = Callable[[str], None]

FOLDS = 5
TEST_SHARE = 0.3
FEWEST_ROWS = 40
_HALVES = (0.1, 0.3, 1.0, 3.0, 10.0, 1000.0)
_GROUP_SD = 0.25
_ROUNDS = 200
_PATIENCE = 20
_Z90 = 1.6448536269514722
#: Money per conversion that the benchmark knows: the catalogue's Meta ads, in dollars.
_BENCHMARK = "meta_ads"
_LABELS = {
    "ours": "Turnout", "benchmark": "published benchmark only", "historical_cpa": "cost per conversion so far",
    "hill": "Hill curve", "linear": "linear regression", "lightgbm": "LightGBM",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Data:
    """Columns as arrays: spend (rows, channels), group codes (rows, groups), days since 1970 or NaN."""

    y: Floats
    spend: Floats
    codes: NDArray[np.int64]
    levels: tuple[int, ...]
    days: Floats | None

    def at(self, rows: Bools) -> _Data:
        days = None if self.days is None else self.days[rows]
        return _Data(self.y[rows], self.spend[rows], self.codes[rows], self.levels, days)

    def features(self) -> Floats:
        """What trees and LightGBM see: log spend per channel, group codes, time."""
        parts = [np.log1p(self.spend), self.codes.astype(np.float64)]
        if self.days is not None:
            parts.append(np.column_stack([season_terms(self.days), self.days]))
        return np.hstack(parts)


def evaluate_spend(
    frame: pd.DataFrame,
    *,
    targets: Sequence[str],
    spend: Sequence[str],
    groups: Sequence[str],
    days: pd.Series | None,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Held-out rows against the yardsticks; see the module.

    Raises:
        InputError: too few usable rows, or negative numbers.
    """
    tables: list[dict[str, Any]] = []
    results: dict[str, Any] = {}
    notes: list[str] = []
    for target in targets:
        columns = [target, *spend]
        usable = frame[columns].notna().all(axis=1)
        if days is not None:
            usable &= days.notna()
        if usable.sum() < FEWEST_ROWS:
            message = f"{int(usable.sum())} rows have {', '.join(columns)}; at least {FEWEST_ROWS} are needed"
            raise InputError([Problem("too_few_rows", message)])
        part = frame[usable]
        if (part[columns] < 0).to_numpy().any():
            raise InputError([Problem("negative", f"{', '.join(columns)} must not hold negative numbers")])
        if (dropped := int((~usable).sum())) > 0:
            notes.append(f"{dropped} rows without {target}, spend or day were left out")
        data = _data_of(part, target, spend, groups, None if days is None else days[usable])
        tables.append(_one_target(data, target, seed, progress, results))
    return {"notes": notes, "tables": tables, "results": results}


def _data_of(
    frame: pd.DataFrame, target: str, spend: Sequence[str], groups: Sequence[str], days: pd.Series | None
) -> _Data:
    levels = [sorted(frame[g].astype(str).unique()) for g in groups]
    codes = [codes_of(frame[g].astype(str), own) for g, own in zip(groups, levels, strict=True)]
    return _Data(
        y=frame[target].to_numpy(dtype=np.float64),
        spend=frame[list(spend)].to_numpy(dtype=np.float64),
        codes=np.column_stack(codes) if codes else np.zeros((len(frame), 0), dtype=np.int64),
        levels=tuple(len(own) for own in levels),
        days=None if days is None else days.to_numpy().astype("datetime64[D]").astype(np.float64),
    )


def _splits(data: _Data, seed: int) -> Iterator[tuple[Bools, Bools]]:
    n = len(data.y)
    if data.days is not None:
        cut = np.sort(data.days)[int(n * (1 - TEST_SHARE))]
        yield data.days < cut, data.days >= cut
        return
    fold = np.random.default_rng(seed).permutation(n) % FOLDS
    for number in range(FOLDS):
        yield fold != number, fold == number


def _one_target(data: _Data, target: str, seed: int, progress: Progress, results: dict[str, Any]) -> dict[str, Any]:
    actual: list[Floats] = []
    predicted: dict[str, list[Floats]] = {name: [] for name in _LABELS}
    z: list[Floats] = []
    splits = list(_splits(data, seed))
    for number, (train, test) in enumerate(splits, start=1):
        progress(f"{target}: part {number}/{len(splits)}")
        known, asked = data.at(train), data.at(test)
        model = fit_spend(known, seed)
        ours = model.means(asked)
        actual.append(asked.y)
        predicted["ours"].append(ours)
        z.append(standardised(np.round(asked.y / model.unit), ours / model.unit, np.full(len(ours), model.log_sd)))
        for name, values in _yardsticks(known, asked, seed).items():
            predicted[name].append(values)
    y = np.concatenate(actual)
    scores = {}
    for name, parts in predicted.items():
        error = np.abs(np.concatenate(parts) - y)
        scores[name] = {"wape": round(float(error.sum() / y.sum()), 4), "mae": round(float(error.mean()), 4)}
    coverage = float((np.abs(np.concatenate(z)) <= _Z90).mean())
    results[target] = {"test_rows": len(y), "coverage_90": round(coverage, 4), "scores": scores}
    held_out = "the latest rows" if data.days is not None else f"{FOLDS} folds"
    return {
        "title": f"{target} on {len(y):,} held-out rows",
        "columns": ["", "WAPE", "mean absolute error"],
        "rows": [[_LABELS[n], f"{100 * s['wape']:.1f} %", f"{s['mae']:,.3f}"] for n, s in scores.items()],
        "caption": f"held out: {held_out}; 90 % intervals cover {100 * coverage:.1f} %",
    }


# --- ours -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpendModel:
    """The fitted recipe.

    Attributes:
        weights: of the basis curves, then of what comes without spend; ``scale`` the usual spend per channel.
        unit: what one count stands for (1 for conversions; sums of money are counted in larger units).
        log_sd: spread of a row around its mean beyond counting noise, calibrated on rows held out of training.
    """

    weights: Floats
    scale: Floats
    fit: hierarchy.Fit
    booster: Any
    unit: float
    log_sd: float
    first_day: float

    def base(self, data: _Data) -> Floats:
        """The curve, in counts."""
        return np.maximum(_basis(data.spend, self.scale) @ self.weights, 1e-3)

    def pooled(self, data: _Data) -> Floats:
        """The curve times the groups' effects, in counts."""
        groups = {f"group_{i}": data.codes[:, i] for i in range(data.codes.shape[1])}
        groups["level"] = np.zeros(len(data.y), dtype=np.int64)
        covariates = _time_values(data, self.first_day)
        return self.base(data) * np.exp(np.clip(self.fit.eta(groups, covariates, len(data.y)), -3, 3))

    def means(self, data: _Data) -> Floats:
        """Expected target of each row; finite, never negative."""
        pooled = self.pooled(data)
        return pooled * np.exp(_margins(self.booster, data)) * self.unit


def fit_spend(data: _Data, seed: int) -> SpendModel:
    """Fit curve, groups and trees; the spread is calibrated on a quarter held out."""
    inner = np.random.default_rng([seed, 1]).random(len(data.y)) < 0.75
    if data.days is not None:
        inner = data.days < np.sort(data.days)[int(0.75 * len(data.y))]
    rounds, log_sd = 0, 0.4
    if inner.sum() >= FEWEST_ROWS // 2 and (~inner).any():
        rounds, log_sd = _choose(data.at(inner), data.at(~inner), seed)
    return _fitted(data, rounds, log_sd, seed)


def _choose(known: _Data, asked: _Data, seed: int) -> tuple[int, float]:
    plain = _fitted(known, 0, 0.4, seed)
    means = plain.pooled(asked)
    y = asked.y / plain.unit
    history: dict[str, dict[str, list[float]]] = {}
    xgboost.train(
        _tree_settings(known, seed) | {"eval_metric": "poisson-nloglik"},
        _matrix(known, known.y / plain.unit, plain.pooled(known)),
        num_boost_round=_ROUNDS,
        evals=[(_matrix(asked, y, means), "later")],
        early_stopping_rounds=_PATIENCE,
        evals_result=history,
        verbose_eval=False,
    )
    losses = np.asarray(history["later"]["poisson-nloglik"])
    before = float(np.mean(means - y * np.log(means)))
    best = int(losses.argmin())
    trees = _fitted(known, best + 1, 0.4, seed)
    with_trees = trees.means(asked) / trees.unit
    after = float(np.mean(with_trees - y * np.log(np.maximum(with_trees, 1e-9))))
    rounds = best + 1 if after < before else 0
    chosen = trees if rounds else plain
    log_sd = float(np.sqrt(np.log1p(chosen.fit.overdispersion)))
    for _ in range(3):
        z = standardised(np.round(y), chosen.means(asked) / chosen.unit, np.full(len(y), log_sd))
        log_sd = float(np.clip(log_sd * conformal_factor(z, prior=15.0), 0.02, 2.0))
    return rounds, log_sd


def _fitted(data: _Data, rounds: int, log_sd: float, seed: int) -> SpendModel:
    usual = np.array([np.median(c[c > 0]) if (c > 0).any() else 1.0 for c in data.spend.T])
    # counts far above a thousand are sums: in units that keep Poisson noise what it is, a part of all noise
    unit = max(float(data.y.mean()) / 1000.0, 1.0)
    y = data.y / unit
    design = _basis(data.spend, usual)
    trust = 1 / np.sqrt(np.maximum(y, 1.0))
    weights, _ = nnls(design * trust[:, None], y * trust)
    base = np.maximum(design @ weights, 1e-3)
    groups = {
        f"group_{i}": Group(data.codes[:, i], levels, _GROUP_SD, learn=True) for i, levels in enumerate(data.levels)
    }
    groups["level"] = Group(np.zeros(len(y), dtype=np.int64), 1, _GROUP_SD)
    first = 0.0 if data.days is None else float(data.days.min())
    covariates = {n: Covariate(np.asarray(v), 0.0, 0.2) for n, v in _time_values(data, first).items()}
    fit = hierarchy.fit(y, base, groups, covariates)
    model = SpendModel(weights, usual, fit, None, unit, log_sd, first)
    if not rounds:
        return model
    booster = xgboost.train(_tree_settings(data, seed), _matrix(data, y, model.pooled(data)), num_boost_round=rounds)
    return SpendModel(weights, usual, fit, booster, unit, log_sd, first)


def _basis(spend: Floats, usual: Floats) -> Floats:
    curves = [spend[:, [c]] / (h * usual[c] + spend[:, [c]]) for c in range(spend.shape[1]) for h in _HALVES]
    # the last half-saturation lies far beyond the data: a straight line
    return np.hstack([*curves, np.ones((len(spend), 1))])


def _time_values(data: _Data, first_day: float) -> dict[str, Floats]:
    if data.days is None:
        return {}
    season = season_terms(data.days)
    years = (data.days - first_day) / 365.25
    return {**{f"season_{i}": season[:, i] for i in range(4)}, "trend": np.minimum(years, years.max() or 0.0)}


def _tree_settings(data: _Data, seed: int) -> dict[str, Any]:
    width, channels = data.features().shape[1], data.spend.shape[1]
    monotone = "(" + ",".join(["1"] * channels + ["0"] * (width - channels)) + ")"
    return {**TREE_PARAMETERS, "min_child_weight": 10.0, "seed": seed, "nthread": 1, "monotone_constraints": monotone}


def _matrix(data: _Data, y: Floats, means: Floats) -> xgboost.DMatrix:
    return xgboost.DMatrix(data.features(), label=y, base_margin=np.log(means), nthread=1)


def _margins(booster: Any, data: _Data) -> Floats:
    if booster is None or not len(data.y):
        return np.zeros(len(data.y))
    zero = xgboost.DMatrix(data.features(), base_margin=np.zeros(len(data.y)), nthread=1)
    return np.clip(np.asarray(booster.predict(zero, output_margin=True), dtype=np.float64), -1.5, 1.5)


# --- yardsticks -------------------------------------------------------------------------------------------------------


def _yardsticks(known: _Data, asked: _Data, seed: int) -> dict[str, Floats]:
    total = known.spend.sum(axis=1)
    rate = float(known.y.sum() / total.sum()) if total.sum() > 0 else 0.0
    found = {
        "benchmark": _benchmark(asked.spend.sum(axis=1)),
        "historical_cpa": rate * asked.spend.sum(axis=1),
        "hill": _hill(total, known.y, asked.spend.sum(axis=1)),
        "linear": _linear(known, asked),
        "lightgbm": _lightgbm(known, asked, seed),
    }
    return {name: np.maximum(np.nan_to_num(values), 0.0) for name, values in found.items()}


def _benchmark(spend: Floats) -> Floats:
    from turnout.brief import Brief
    from turnout.money import Rates
    from turnout.tactics import load_catalogue
    from turnout.tactics.priors import prior_curve

    brief = Brief.model_validate({
        "event": {"name": "benchmark", "date": "2026-06-01", "category": "marketing", "format": "online"},
        "goal": {"target": 100}, "budget": {"amount": 0, "currency": "USD"},
    })  # fmt: skip
    curve = prior_curve(load_catalogue().get(_BENCHMARK), brief, Rates({"JPY": 1.0, "USD": 150.0})).curve
    return np.asarray(curve(spend * 150.0), dtype=np.float64)


def _hill(x: Floats, y: Floats, asked: Floats) -> Floats:
    halves = np.geomspace(0.05, 100.0, 40) * max(float(np.median(x)), 1e-9)
    shape = x[None, :] / (halves[:, None] + x[None, :])
    top = np.maximum((shape * y).sum(axis=1) / np.maximum((shape**2).sum(axis=1), 1e-12), 0.0)
    best = int(((y - top[:, None] * shape) ** 2).sum(axis=1).argmin())
    return np.asarray(top[best] * asked / (halves[best] + asked))


def _linear(known: _Data, asked: _Data) -> Floats:
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    def matrix(data: _Data) -> Floats:
        dummies = [np.eye(levels)[data.codes[:, i]] for i, levels in enumerate(data.levels)]
        time = [] if data.days is None else [np.column_stack([season_terms(data.days), data.days])]
        return np.hstack([data.spend, *dummies, *time])

    scaler = StandardScaler().fit(matrix(known))
    model = Ridge(alpha=1.0).fit(scaler.transform(matrix(known)), known.y)
    return np.asarray(model.predict(scaler.transform(matrix(asked))), dtype=np.float64)


def _lightgbm(known: _Data, asked: _Data, seed: int) -> Floats:
    import lightgbm

    parameters = {
        "objective": "poisson", "learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 10, "verbosity": -1,
        "num_threads": 1, "deterministic": True, "force_row_wise": True, "seed": seed,
    }  # fmt: skip
    if known.y.sum() <= 0:
        return np.zeros(len(asked.y))
    channels, groups = known.spend.shape[1], known.codes.shape[1]
    data = lightgbm.Dataset(
        known.features(), label=known.y, categorical_feature=list(range(channels, channels + groups))
    )
    return np.asarray(lightgbm.train(parameters, data, num_boost_round=150).predict(asked.features()), dtype=np.float64)
