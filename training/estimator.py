"""Fit one response model to one dataset: benchmark curve → partial pooling → trees.

1. :mod:`training.pooling` finds how far each tactic, segment and kind of event stands from its benchmark, how strongly
   registrations follow season and demand, and what comes by itself.
2. XGBoost (``count:poisson``) learns what is left, with the log of the fitted mean as base margin. Its number of trees
   is chosen on the latest quarter of the events, the pooling fitted anew without them; trees that do not beat "no
   trees" there by more than half the noise are not grown at all.

Rows are weighted by 1 / (1 + φ μ), so that a large event counts as what it is, one overdispersed observation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import xgboost
from numpy.typing import NDArray

from training.calibration import Spread
from training.dataset import Dataset, columns_of
from training.pooling import fit_pooling, pooled_means
from turnout.scoring.demand import Organic
from turnout.scoring.parameters import ResponseParameters
from turnout.scoring.response import tree_margins

Floats = NDArray[np.float64]

#: Below this, trees cannot learn anything that the pooling does not know.
TREE_ROWS = 80
TREE_EVENTS = 20
_LATEST = 0.25
_MOST_ROUNDS = 300
_PATIENCE = 30
_OUTLIER = 4.0
_MANY_ROWS = 20_000

TREE_PARAMETERS: Mapping[str, Any] = {
    "objective": "count:poisson",
    "base_score": 1.0,
    "tree_method": "hist",
    "max_depth": 3,
    "eta": 0.05,
    "min_child_weight": 30.0,
    "lambda": 10.0,
    "subsample": 0.8,
    "colsample_bytree": 0.6,
    "max_delta_step": 0.7,
    "verbosity": 0,
}


@dataclass(frozen=True, slots=True)
class Fitted:
    """A response model in memory: what :class:`turnout.scoring.ResponseModel` loads from disk."""

    parameters: ResponseParameters
    booster: Any
    organic: Organic = field(default_factory=Organic)

    @classmethod
    def without_trees(cls, parameters: ResponseParameters) -> Fitted:
        return cls(parameters, _empty_booster(parameters.feature_names))

    def means(self, dataset: Dataset) -> Floats:
        """Expected registrations of each row."""
        if dataset.rows.empty:
            return np.zeros(0)
        return pooled_means(self.parameters, dataset, tree_margins(self.booster, dataset.matrix()))

    def height_log_sds(self, dataset: Dataset) -> Floats:
        """How uncertain the height of each row's curve is."""
        rows = dataset.rows
        return self.parameters.height_log_sds(columns_of(rows), rows["prior_log_sd"].to_numpy(dtype=np.float64))

    def with_spread(self, spread: Spread) -> Fitted:
        """The same model with calibrated spreads."""
        tactics = {t: replace(h, noise_log_sd=spread.of(t)) for t, h in self.parameters.tactics.items()}
        parameters = replace(
            self.parameters,
            tactics=tactics,
            noise_log_sd=spread.noise,
            shared_log_sd=spread.shared,
            goal_offset=spread.goal.offset,
            goal_slope=spread.goal.slope,
        )
        return replace(self, parameters=parameters)


def fit(dataset: Dataset, *, seed: int, threads: int, rounds: int | None = None) -> Fitted:
    """Fit a model to all rows of ``dataset``.

    Args:
        rounds: number of trees; by default chosen on the latest events.

    Returns:
        With no rows at all: the benchmark itself, zero trees.
    """
    if rounds is None:
        rounds = choose_rounds(dataset, seed=seed, threads=threads)
    pooled = fit_pooling(dataset)
    phi = pooled.parameters.overdispersion
    booster = _grow(dataset, pooled.means, phi, rounds, seed=seed, threads=threads)
    return Fitted(pooled.parameters, booster, pooled.organic)


# --- trees ------------------------------------------------------------------------------------------------------------


def choose_rounds(dataset: Dataset, *, seed: int, threads: int) -> int:
    """How many trees help on events later than those they were grown on; 0 where none do."""
    rows = dataset.rows
    if len(rows) < TREE_ROWS or rows["event_id"].nunique() < TREE_EVENTS:
        return 0
    later = later_events(rows, 1 - _LATEST)
    earlier, held_out = dataset.before(rows["event_date"][later].min().date()), dataset.subset(later)
    if earlier.rows.empty:
        return 0
    pooled = fit_pooling(earlier, stretched=False)
    phi = pooled.parameters.overdispersion
    plain = Fitted.without_trees(pooled.parameters).means(held_out)
    booster, scores = _grow_with_early_stopping(
        _matrix(earlier, pooled.means, phi), _matrix(held_out, plain, phi), seed=seed, threads=threads
    )
    best = int(np.argmin(scores)) + 1
    trees = tree_margins(booster[:best], held_out.matrix())
    y, trust = held_out.rows["y"].to_numpy(dtype=np.float64), _weights(held_out, plain, phi)
    gain = trust * (_deviance(y, plain) - _deviance(y, plain * np.exp(trees)))
    by_event = pd.Series(gain).groupby(held_out.rows["event_id"].to_numpy()).sum()
    noise = float(by_event.std(ddof=1) / np.sqrt(len(by_event))) if len(by_event) > 1 else np.inf
    return best if by_event.mean() > 0.5 * noise else 0


def later_events(rows: pd.DataFrame, share: float) -> NDArray[np.bool_]:
    """Rows of the events after the first ``share`` of them by date; events of one day stay together."""
    dates = rows.groupby("event_id")["event_date"].first().sort_values()
    cut = dates.iloc[min(int(len(dates) * share), len(dates) - 1)]
    return np.asarray(rows["event_date"] >= cut, dtype=np.bool_)


def _deviance(y: Floats, mean: Floats) -> Floats:
    return np.asarray(mean - y * np.log(mean))


def _weights(dataset: Dataset, means: Floats, phi: float) -> Floats:
    return np.asarray(dataset.rows["weight"].to_numpy(dtype=np.float64) / (1 + phi * means))


def _matrix(dataset: Dataset, means: Floats, phi: float) -> xgboost.DMatrix:
    y = dataset.rows["y"].to_numpy(dtype=np.float64)
    limit = _OUTLIER * np.sqrt(means * (1 + phi * means))
    return xgboost.DMatrix(
        dataset.matrix(),
        label=np.clip(y, np.maximum(means - limit, 0.0), means + limit),
        weight=_weights(dataset, means, phi),
        base_margin=np.log(means),
        nthread=1,
    )


def _empty_booster(names: tuple[str, ...]) -> Any:
    nothing = xgboost.DMatrix(np.zeros((1, len(names)), dtype=np.float32), label=[1.0], nthread=1)
    return _named(xgboost.train({**TREE_PARAMETERS, "nthread": 1}, nothing, num_boost_round=0), names)


def _named(booster: Any, names: tuple[str, ...]) -> Any:
    """Names are given to the finished trees: during training XGBoost would check them again with every tree."""
    booster.feature_names = list(names)
    return booster


def _grow(dataset: Dataset, means: Floats, phi: float, rounds: int, *, seed: int, threads: int) -> Any:
    if rounds == 0 or dataset.rows.empty:
        return _empty_booster(dataset.feature_names)
    settings = {**TREE_PARAMETERS, "seed": seed, "nthread": _threads(len(dataset.rows), threads)}
    booster = xgboost.train(settings, _matrix(dataset, means, phi), num_boost_round=rounds)
    return _named(booster, dataset.feature_names)


def _threads(rows: int, threads: int) -> int:
    """On few rows threads wait for one another longer than they work, all the more on a busy machine."""
    return 1 if rows < _MANY_ROWS else threads


def _grow_with_early_stopping(
    train: xgboost.DMatrix, later: xgboost.DMatrix, *, seed: int, threads: int
) -> tuple[Any, Floats]:
    history: dict[str, dict[str, list[float]]] = {}
    booster = xgboost.train(
        {
            **TREE_PARAMETERS,
            "seed": seed,
            "nthread": _threads(train.num_row(), threads),
            "eval_metric": "poisson-nloglik",
        },
        train,
        num_boost_round=_MOST_ROUNDS,
        evals=[(later, "later")],
        early_stopping_rounds=_PATIENCE,
        evals_result=history,
        verbose_eval=False,
    )
    return booster, np.asarray(history["later"]["poisson-nloglik"])
