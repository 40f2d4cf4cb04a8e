"""What our model must beat, fitted to the same rows and asked for the same later events.

=================  ====================================================================================================
benchmark          the catalogue's curve, untouched by any data
historical_cpa     registrations per unit of x of each tactic so far (the spreadsheet everybody has)
hill               top · x / (half + x) per tactic by weighted least squares, without any feature of the event
linear             ridge regression on tactic, tactic x amount, segment, format, season, price and demand
lightgbm           gradient boosting (Poisson) on the model's own features plus tactic and amount, without any curve
=================  ====================================================================================================

A tactic that a yardstick has never seen gets its benchmark; without any past event that is every tactic.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from training.dataset import Dataset
from training.hierarchy import codes_of

Floats = NDArray[np.float64]
Yardstick = Callable[[Dataset, Dataset, int], Floats]

_FEWEST_ROWS = 20
_HALVES = np.geomspace(0.05, 20.0, 25)


def predictions(train: Dataset, test: Dataset, *, seed: int) -> dict[str, Floats]:
    """Every yardstick's expected registrations for the rows of ``test``; never negative, always finite."""
    if train.rows.empty:
        return {name: test.rows["baseline"].to_numpy(dtype=np.float64) for name in YARDSTICKS}
    found = {}
    for name, yardstick in YARDSTICKS.items():
        with threadpool_limits(limits=1, user_api="blas"):
            values = yardstick(train, test, seed)
        found[name] = np.where(np.isfinite(values), np.maximum(values, 0.0), test.rows["baseline"].to_numpy())
    return found


def _column(dataset: Dataset, name: str) -> Floats:
    return dataset.rows[name].to_numpy(dtype=np.float64)


def _benchmark(train: Dataset, test: Dataset, seed: int) -> Floats:
    return _column(test, "baseline")


def _historical_cpa(train: Dataset, test: Dataset, seed: int) -> Floats:
    sums = train.rows.groupby("tactic_id")[["y", "x"]].sum()
    rate = (sums["y"] / sums["x"]).where(sums["x"] > 0)
    return test.rows["tactic_id"].map(rate).to_numpy(dtype=np.float64) * _column(test, "x")


def _hill(train: Dataset, test: Dataset, seed: int) -> Floats:
    result = np.full(len(test.rows), np.nan)
    for tactic, at in test.rows.groupby("tactic_id").indices.items():
        own = train.rows[train.rows["tactic_id"] == tactic]
        if own.empty:
            continue
        x, y = own["x"].to_numpy(dtype=np.float64), own["y"].to_numpy(dtype=np.float64)
        halves = _HALVES * float(np.median(x))
        shape = x[None, :] / (halves[:, None] + x[None, :])
        top = np.maximum((shape * y).sum(axis=1) / (shape**2).sum(axis=1), 0.0)
        best = int(((y - top[:, None] * shape) ** 2).sum(axis=1).argmin())
        amount = _column(test, "x")[at]
        result[at] = top[best] * amount / (halves[best] + amount)
    return result


def _one_hot(train: Dataset, test: Dataset, name: str) -> tuple[Floats, Floats]:
    levels = sorted(train.rows[name].astype(str).unique())
    both = []
    for dataset in (train, test):
        codes = codes_of(dataset.rows[name], levels)
        matrix = np.zeros((len(codes), len(levels)))
        matrix[np.flatnonzero(codes >= 0), codes[codes >= 0]] = 1.0
        both.append(matrix)
    return both[0], both[1]


def _linear(train: Dataset, test: Dataset, seed: int) -> Floats:
    from sklearn.linear_model import Ridge

    unseen = ~test.rows["tactic_id"].isin(train.rows["tactic_id"]).to_numpy()
    usual = train.rows.groupby("tactic_id")["x"].mean()
    sides: list[list[Floats]] = [[], []]
    for side, dataset in enumerate((train, test)):
        tactic = _one_hot(train, test, "tactic_id")[side]
        scaled = (dataset.rows["x"] / dataset.rows["tactic_id"].map(usual)).fillna(0.0).to_numpy(dtype=np.float64)
        day = dataset.rows["event_date"].dt.dayofyear.to_numpy(dtype=np.float64) / 365.25 * 2 * np.pi
        plain = [np.sin(day), np.cos(day), np.log1p(_column(dataset, "price_base")), _column(dataset, "demand_index")]
        sides[side] = [tactic, tactic * scaled[:, None], np.column_stack(plain)]
        sides[side] += [_one_hot(train, test, name)[side] for name in ("segment_id", "format")]
    model = Ridge(alpha=1.0).fit(np.hstack(sides[0]), _column(train, "y"))
    values = np.asarray(model.predict(np.hstack(sides[1])), dtype=np.float64)
    return np.where(unseen, np.nan, values)


def _lightgbm(train: Dataset, test: Dataset, seed: int) -> Floats:
    if len(train.rows) < _FEWEST_ROWS:
        return _column(test, "baseline")
    import lightgbm

    levels = sorted(train.rows["tactic_id"].unique())

    def matrix(dataset: Dataset) -> Floats:
        own = [codes_of(dataset.rows["tactic_id"], levels).astype(np.float64), np.log(_column(dataset, "x"))]
        return np.column_stack([dataset.matrix().astype(np.float64), *own])

    parameters = {
        "objective": "poisson", "learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 10, "verbosity": -1,
        "num_threads": 1, "deterministic": True, "force_row_wise": True, "seed": seed,
    }  # fmt: skip
    category = train.matrix().shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = lightgbm.Dataset(matrix(train), label=_column(train, "y"), categorical_feature=[category])
        model = lightgbm.train(parameters, data, num_boost_round=150)
        return np.asarray(model.predict(matrix(test)), dtype=np.float64)


YARDSTICKS: dict[str, Yardstick] = {
    "benchmark": _benchmark,
    "historical_cpa": _historical_cpa,
    "hill": _hill,
    "linear": _linear,
    "lightgbm": _lightgbm,
}
