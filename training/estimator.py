"""Fit one response model to one dataset: benchmark curve → partial pooling → trees.

1. :mod:`training.hierarchy` finds how far each tactic, segment and format stands from its benchmark (MAP), with the
   benchmark's own spread as the prior, and how strongly registrations follow the demand index.
2. Per tactic with a smooth curve, the size of the audience (``log_stretch``) is found on a grid, its prior a log-normal
   of sd :data:`STRETCH_SD`; then step 1 is repeated on the stretched curves.
3. XGBoost (``count:poisson``) learns what is left, with the log of the fitted mean as base margin. Its number of trees
   is chosen on the latest quarter of the events, the pooling fitted anew without them; trees that do not beat "no
   trees" there by more than half the noise are not grown at all.

Rows are weighted by 1 / (1 + φ μ), so that a large event counts as what it is, one overdispersed observation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import xgboost
from numpy.typing import NDArray

from training import hierarchy
from training.calibration import NOISE_LOG_SD, SHARED_LOG_SD, Spread
from training.dataset import Dataset, expected
from training.hierarchy import Covariate, Group, codes_of
from turnout.curves import Step, Tabulated
from turnout.scoring.parameters import NEW_SEGMENT, ResponseParameters, TacticHistory, stretch
from turnout.scoring.response import tree_margins

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Prior spreads of what a benchmark cannot know, on the log scale: guesses, learnt where there are levels enough.
ORGANISATION_SD = 0.35
SEGMENT_SD = 0.25
FORMAT_SD = 0.15
PAIR_SD = 0.15
STRETCH_SD = 0.6
#: Demand moves registrations about in proportion, a guess.
DEMAND_ELASTICITY = (0.8, 0.4)
_STRETCH_ROWS = 6
_STRETCH_SAMPLE = 300
_STRETCH_GRID = np.linspace(-1.5, 1.5, 13)

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

    @classmethod
    def without_trees(cls, parameters: ResponseParameters) -> Fitted:
        return cls(parameters, _empty_booster(parameters.feature_names))

    def means(self, dataset: Dataset) -> Floats:
        """Expected registrations of each row."""
        rows, parameters = dataset.rows, self.parameters
        if rows.empty:
            return np.zeros(0)
        trees = tree_margins(self.booster, dataset.matrix())
        correction = parameters.log_correction(trees, rows["demand_index"].to_numpy(dtype=np.float64))
        keys = zip(rows["tactic_id"], rows["segment_id"], rows["format"], strict=True)
        scale = np.array([parameters.log_scale(t, s, f) for t, s, f in keys])
        base = np.array([
            expected(parameters.curve(t, c), x)
            for t, c, x in zip(rows["tactic_id"], dataset.curves, rows["x"], strict=True)
        ])  # fmt: skip
        return np.asarray(base * np.exp(scale + correction))

    def height_log_sds(self, dataset: Dataset) -> Floats:
        """How uncertain the height of each row's curve is."""
        rows = dataset.rows
        keys = zip(rows["tactic_id"], rows["segment_id"], rows["prior_log_sd"], strict=True)
        return np.array([self.parameters.height_log_sd(t, s, prior_log_sd=p) for t, s, p in keys])

    def with_spread(self, spread: Spread) -> Fitted:
        """The same model with calibrated spreads."""
        tactics = {t: replace(h, noise_log_sd=spread.of(t)) for t, h in self.parameters.tactics.items()}
        parameters = replace(self.parameters, tactics=tactics, noise_log_sd=spread.noise, shared_log_sd=spread.shared)
        return Fitted(parameters, self.booster)


def fit(dataset: Dataset, *, seed: int, threads: int, rounds: int | None = None) -> Fitted:
    """Fit a model to all rows of ``dataset``.

    Args:
        rounds: number of trees; by default chosen on the latest events.

    Returns:
        With no rows at all: the benchmark itself, zero trees.
    """
    if rounds is None:
        rounds = choose_rounds(dataset, seed=seed, threads=threads)
    parameters, means = fit_pooling(dataset)
    return Fitted(parameters, _grow(dataset, means, parameters.overdispersion, rounds, seed=seed, threads=threads))


# --- pooling ----------------------------------------------------------------------------------------------------------


def fit_pooling(dataset: Dataset, *, stretched: bool = True) -> tuple[ResponseParameters, Floats]:
    """Steps 1 and 2: the parameters without trees, and each row's mean under them.

    Args:
        stretched: whether audience sizes are fitted; saves time where only the level matters.
    """
    rows = dataset.rows
    if rows.empty:
        return ResponseParameters(feature_names=dataset.feature_names), np.zeros(0)
    levels = _Levels.of(rows)
    y = rows["y"].to_numpy(dtype=np.float64)
    weights = rows["weight"].to_numpy(dtype=np.float64)
    base = rows["baseline"].to_numpy(dtype=np.float64)
    log_index = np.log(np.maximum(rows["demand_index"].to_numpy(dtype=np.float64), 1e-6))
    covariates = {"demand": Covariate(log_index, *DEMAND_ELASTICITY)}
    fitted = hierarchy.fit(y, base, levels.groups, covariates, weights=weights)
    eta = fitted.eta(levels.codes, {"demand": log_index}, len(rows))
    stretches: dict[str, float] = {}
    if stretched:
        stretches = _stretches(dataset, levels, fitted, eta)
        if stretches:
            base = np.array([
                expected(stretch(c, stretches.get(t, 0.0)), x)
                for t, c, x in zip(rows["tactic_id"], dataset.curves, rows["x"], strict=True)
            ])  # fmt: skip
            fitted = hierarchy.fit(y, base, levels.groups, covariates, weights=weights)
            eta = fitted.eta(levels.codes, {"demand": log_index}, len(rows))
    return _parameters(dataset, levels, fitted, stretches), np.asarray(base * np.exp(eta))


@dataclass(frozen=True, slots=True)
class _Levels:
    tactics: tuple[str, ...]
    segments: tuple[str, ...]
    formats: tuple[str, ...]
    pairs: dict[tuple[int, int], int]  # (tactic, segment) that occur → level
    groups: dict[str, Group]

    @property
    def codes(self) -> dict[str, Ints]:
        return {name: group.codes for name, group in self.groups.items()}

    @classmethod
    def of(cls, rows: pd.DataFrame) -> _Levels:
        tactics = tuple(sorted(rows["tactic_id"].unique()))
        segments = tuple(sorted(rows["segment_id"].unique()))
        formats = tuple(sorted(rows["format"].unique()))
        tactic, segment = codes_of(rows["tactic_id"], tactics), codes_of(rows["segment_id"], segments)
        seen, pair = np.unique(tactic * len(segments) + segment, return_inverse=True)
        pairs = {divmod(int(code), len(segments)): level for level, code in enumerate(seen)}
        prior = rows.groupby("tactic_id")["prior_log_sd"].median().reindex(list(tactics))
        groups = {
            "organisation": Group(np.zeros(len(rows), dtype=np.int64), 1, ORGANISATION_SD),
            "tactic": Group(tactic, len(tactics), prior.to_numpy(dtype=np.float64)),
            "segment": Group(segment, len(segments), SEGMENT_SD, learn=True),
            "format": Group(codes_of(rows["format"], formats), len(formats), FORMAT_SD),
            "pair": Group(pair.astype(np.int64), len(seen), PAIR_SD, learn=True),
        }
        return cls(tactics, segments, formats, pairs, groups)


def _stretches(dataset: Dataset, levels: _Levels, fitted: hierarchy.Fit, eta: Floats) -> dict[str, float]:
    """Posterior mean of each tactic's log audience size, on a grid, its level fitted anew at each point."""
    rows = dataset.rows
    found: dict[str, float] = {}
    phi = fitted.overdispersion
    tactic_codes = levels.groups["tactic"].codes
    y_all, x_all = rows["y"].to_numpy(dtype=np.float64), rows["x"].to_numpy(dtype=np.float64)
    base_all = rows["baseline"].to_numpy(dtype=np.float64)
    for position, tactic in enumerate(levels.tactics):
        chosen = np.flatnonzero(tactic_codes == position)
        if len(chosen) < _STRETCH_ROWS or isinstance(dataset.curves[chosen[0]], Step | Tabulated):
            continue
        if len(chosen) > _STRETCH_SAMPLE:
            chosen = chosen[np.linspace(0, len(chosen) - 1, _STRETCH_SAMPLE).astype(int)]
        x = x_all[chosen]
        now = base_all[chosen] * np.exp(eta[chosen])
        # a typing error must not bend the curve
        y = np.minimum(y_all[chosen], now + _OUTLIER * np.sqrt(now * (1 + phi * now)))
        others = eta[chosen] - fitted.effects["tactic"][position]
        points = list(zip(dataset.curves[chosen], x, strict=True))
        base = np.array([[expected(stretch(c, float(b)), amount) for c, amount in points] for b in _STRETCH_GRID])
        sd = float(fitted.sd["tactic"][position])
        log_posterior = _profile(y, base * np.exp(others), phi, sd) - _STRETCH_GRID**2 / (2 * STRETCH_SD**2)
        mass = np.exp(log_posterior - log_posterior.max())
        found[tactic] = float((mass * _STRETCH_GRID).sum() / mass.sum())
    return found


def _profile(y: Floats, means: Floats, phi: float, sd: float) -> Floats:
    """Log posterior at each row of ``means`` (grid, rows), the common level at its best, prior N(0, sd²)."""
    level = np.zeros(len(means))
    for _ in range(12):
        mu = means * np.exp(level)[:, None]
        gradient = ((y - mu) / (1 + phi * mu)).sum(axis=1) - level / sd**2
        level = np.clip(level + gradient / ((mu / (1 + phi * mu)).sum(axis=1) + 1 / sd**2), -6, 6)
    mu = means * np.exp(level)[:, None]
    likelihood = (y * np.log(mu) - (y + 1 / phi) * np.log1p(phi * mu)).sum(axis=1)
    return np.asarray(likelihood - level**2 / (2 * sd**2))


def _parameters(
    dataset: Dataset, levels: _Levels, fitted: hierarchy.Fit, stretches: Mapping[str, float]
) -> ResponseParameters:
    rows = dataset.rows
    segments, formats = levels.segments, levels.formats
    # the spread of a level is taken at the commonest format: it hardly differs between them
    usual_format = int(np.bincount(levels.groups["format"].codes).argmax())

    def height(tactic: int, segment: int) -> float:
        effects = {"organisation": 0, "tactic": tactic, "segment": segment, "format": usual_format}
        return float(np.sqrt(fitted.variance(effects | {"pair": levels.pairs.get((tactic, segment), -1)})))

    def level(segment: int) -> float:
        return float(np.sqrt(fitted.variance({"organisation": 0, "segment": segment, "format": usual_format})))

    tactics: dict[str, TacticHistory] = {}
    for position, (tactic, group) in enumerate(rows.groupby("tactic_id", sort=True)):
        dates = group["event_date"]
        tactics[str(tactic)] = TacticHistory(
            log_scale=float(fitted.effects["tactic"][position]),
            log_sd={s: height(position, i) for i, s in enumerate(segments)} | {NEW_SEGMENT: height(position, -1)},
            noise_log_sd=NOISE_LOG_SD,
            events=int(group["event_id"].nunique()),
            segments={str(k): int(v) for k, v in group.groupby("segment_id")["event_id"].nunique().items()},
            first=dates.min().date(),
            last=dates.max().date(),
            log_stretch=stretches.get(str(tactic), 0.0),
        )
    return ResponseParameters(
        feature_names=dataset.feature_names,
        tactics=tactics,
        organisation=float(fitted.effects["organisation"][0]),
        segments=dict(zip(segments, fitted.effects["segment"].tolist(), strict=True)),
        formats=dict(zip(formats, fitted.effects["format"].tolist(), strict=True)),
        tactic_segments={
            f"{levels.tactics[t]}|{segments[s]}": float(fitted.effects["pair"][level])
            for (t, s), level in levels.pairs.items()
        },
        level_log_sd={s: level(i) for i, s in enumerate(segments)} | {NEW_SEGMENT: level(-1)},
        demand_elasticity=fitted.coefficients["demand"],
        noise_log_sd=NOISE_LOG_SD,
        shared_log_sd=SHARED_LOG_SD,
        overdispersion=fitted.overdispersion,
        trained_until=last_event(dataset),
        is_simulated_data=bool(rows["is_simulated"].any()),
        rows=len(rows),
        events=int(rows["event_id"].nunique()),
    )


def last_event(dataset: Dataset) -> date | None:
    """The date of the latest event with a row."""
    return None if dataset.rows.empty else dataset.rows["event_date"].max().date()


# --- trees ------------------------------------------------------------------------------------------------------------


def choose_rounds(dataset: Dataset, *, seed: int, threads: int) -> int:
    """How many trees help on events later than those they were grown on; 0 where none do."""
    rows = dataset.rows
    if len(rows) < TREE_ROWS or rows["event_id"].nunique() < TREE_EVENTS:
        return 0
    later = later_events(rows, 1 - _LATEST)
    earlier = dataset.subset(~later)
    if earlier.rows.empty or not later.any():
        return 0
    parameters, means = fit_pooling(earlier, stretched=False)
    phi = parameters.overdispersion
    held_out = dataset.subset(later)
    plain = Fitted(parameters, _empty_booster(dataset.feature_names)).means(held_out)
    booster, scores = _grow_with_early_stopping(
        _matrix(earlier, means, phi), _matrix(held_out, plain, phi), seed=seed, threads=threads
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
