"""Partial pooling of counts: how far the organiser's own results stand from a baseline, level by level.

The model of a count y with baseline mean b (the benchmark curve at the spend):

    y ~ negative binomial, mean b · exp(η), variance μ + φ μ²
    η = Σ_g Σ_j w_gj θ_g[j] + covariates · β
    θ_g[j] ~ N(mean_g, sd_g²),   β ~ N(prior mean, prior sd²)

A row belongs to one level of a :class:`Group` (w = 1), or to several of :class:`Members` with weights: the company
sizes an event names (1/n each), or the years since a day (a trend per segment: w = years).

fitted at its mode (MAP) by Newton's method with the expected information, with the inverse Hessian as the posterior's
covariance (Laplace). Three things make it safe on the little and dirty data of a real organiser:

* every effect has a prior, so a tactic with one event, or with zeros only, stays finite and near its benchmark;
* residuals are Huberised at five standard deviations, so that one typing error of 100 × does not set the level;
* a group's sd is itself estimated (EM), held near its default by :data:`PRIOR_LEVELS` imaginary levels.

φ is estimated from the squared residuals. Events share shocks that this model does not name; their effect on the spread
is measured on held-out events instead (:mod:`training.calibration`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, sparse
from threadpoolctl import threadpool_limits

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Imaginary levels that hold a learnt sd near its default.
PRIOR_LEVELS = 6.0
_HUBER = 5.0
_OVERDISPERSION_RANGE = (0.01, 2.0)
_STEPS = 40
_ROUNDS = 4
_LIMIT = 8.0  # of an effect, and of a Newton step times four: e^8 is 3,000 times the benchmark


@dataclass(frozen=True, slots=True)
class Group:
    """Effects of one kind, one per level.

    Attributes:
        codes: level of each row, -1 for none; shape (rows,).
        levels: number of levels.
        sd: prior standard deviation, one for all levels or one each.
        learn: whether the sd is estimated from the data.
    """

    codes: Ints
    levels: int
    sd: float | Floats
    learn: bool = False


@dataclass(frozen=True, slots=True)
class Members:
    """Effects of one kind of which several may act on one row.

    Attributes:
        matrix: weight of each level in each row, shape (rows, levels).
        sd: prior standard deviation, one for all levels or one each.
        mean: prior mean of every level.
        learn: whether the sd is estimated from the data.
    """

    matrix: sparse.csr_matrix
    sd: float | Floats
    mean: float = 0.0
    learn: bool = False

    @property
    def levels(self) -> int:
        return int(self.matrix.shape[1])


@dataclass(frozen=True, slots=True)
class Covariate:
    """A linear effect: ``values`` (rows,) times a coefficient ~ N(mean, sd²)."""

    values: Floats
    mean: float
    sd: float


@dataclass(frozen=True, slots=True)
class Fit:
    """The posterior mode.

    Attributes:
        effects: per group, the effect of each level.
        coefficients: per covariate.
        sd: the groups' standard deviations as used in the end, per level.
        covariance: of all effects, then coefficients, in the order of ``starts``.
        overdispersion: φ.
    """

    effects: dict[str, Floats]
    coefficients: dict[str, float]
    sd: dict[str, Floats]
    covariance: Floats
    overdispersion: float
    starts: dict[str, int] = field(default_factory=dict)

    def eta(self, codes: Mapping[str, Ints], covariates: Mapping[str, ArrayLike], rows: int) -> Floats:
        """η of new rows; a code of -1, or a group that is not named, adds nothing."""
        eta = np.zeros(rows)
        for name, values in codes.items():
            if not (values >= 0).any():
                continue
            eta += np.where(values >= 0, self.effects[name][np.maximum(values, 0)], 0.0)
        for name, column in covariates.items():
            eta += self.coefficients[name] * np.asarray(column, dtype=np.float64)
        return eta

    def variance(self, levels: Mapping[str, int]) -> float:
        """Posterior variance of the sum of one level per group; -1 is a new level: its prior variance is added."""
        positions = [self.starts[name] + level for name, level in levels.items() if level >= 0]
        known = float(self.covariance[np.ix_(positions, positions)].sum())
        return max(known, 0.0) + sum(float(np.mean(self.sd[n] ** 2)) for n, level in levels.items() if level < 0)

    def variances(self, design: sparse.csr_matrix) -> Floats:
        """Posterior variance of η of each row of ``design``, columns in the order of ``starts``; shape (rows,)."""
        products = np.asarray(design.multiply(design @ self.covariance).sum(axis=1), dtype=np.float64)
        return np.asarray(np.maximum(products.ravel(), 0.0))


def fit(
    y: ArrayLike,
    baseline: ArrayLike,
    groups: Mapping[str, Group | Members],
    covariates: Mapping[str, Covariate] | None = None,
    *,
    weights: ArrayLike | None = None,
    start: float = 0.15,
) -> Fit:
    """Fit the effects.

    Args:
        y: counts >= 0 (fractions allowed), shape (rows,). No rows at all gives the prior.
        baseline: expected counts before any effect, > 0, shape (rows,).
        weights: of the rows, relative to 1.
        start: where the estimate of φ starts; also what imaginary rows hold it near.

    Raises:
        ValueError: shapes differ, or a value is negative or not finite.
    """
    counts, log_base = np.asarray(y, dtype=np.float64), np.log(np.asarray(baseline, dtype=np.float64))
    covariates = covariates or {}
    trust = np.ones_like(counts) if weights is None else np.asarray(weights, dtype=np.float64)
    if not (
        counts.shape == log_base.shape == trust.shape and np.isfinite(counts).all() and np.isfinite(log_base).all()
    ):
        raise ValueError("counts, baseline and weights must have one shape; counts finite, baseline > 0")
    if (counts < 0).any():
        raise ValueError("counts must not be negative")

    # matrices of a few hundred rows: a second BLAS thread spins more than it helps, and ruins a shared machine
    with threadpool_limits(limits=1, user_api="blas"):
        return _fit((counts, log_base, trust), groups, covariates, start)


def _fit(
    rows: tuple[Floats, Floats, Floats],
    groups: Mapping[str, Group | Members],
    covariates: Mapping[str, Covariate],
    start: float,
) -> Fit:
    counts, log_base, trust = rows
    starts, design, sd, means = _layout(groups, covariates, len(counts))
    data = _Data(counts, log_base, trust, design, means)
    theta = means.copy()
    phi = start
    covariance = np.diag(sd**2)
    for _ in range(_ROUNDS if len(counts) else 0):
        theta, covariance = _newton(theta, data, sd, phi, tolerance=1e-3)
        mean = np.exp(np.clip(log_base + design @ theta, -30, 30))
        phi = overdispersion(counts, mean, trust, start=start)
        for name, group in groups.items():
            if group.learn:
                sd[_slice(starts, name, group)] = _learnt_sd(group, theta, covariance, starts[name])
    if len(counts):
        theta, covariance = _newton(theta, data, sd, phi, tolerance=1e-6)
    return Fit(
        effects={name: theta[_slice(starts, name, group)] for name, group in groups.items()},
        coefficients={name: float(theta[starts[name]]) for name in covariates},
        sd={name: sd[_slice(starts, name, group)].copy() for name, group in groups.items()},
        covariance=covariance,
        overdispersion=phi,
        starts=starts,
    )


def _slice(starts: Mapping[str, int], name: str, group: Group | Members) -> slice:
    return slice(starts[name], starts[name] + group.levels)


def _matrix(group: Group | Members, rows: int) -> sparse.csr_matrix:
    if isinstance(group, Members):
        return group.matrix
    used = np.flatnonzero(group.codes >= 0)
    return sparse.csr_matrix((np.ones(len(used)), (used, group.codes[used])), shape=(rows, group.levels))


def _layout(
    groups: Mapping[str, Group | Members], covariates: Mapping[str, Covariate], rows: int
) -> tuple[dict[str, int], sparse.csr_matrix, Floats, Floats]:
    starts: dict[str, int] = {}
    blocks: list[sparse.csr_matrix] = []
    sd: list[Floats] = []
    means: list[Floats] = []
    width = 0
    for name, group in groups.items():
        starts[name] = width
        blocks.append(_matrix(group, rows))
        sd.append(np.broadcast_to(np.asarray(group.sd, dtype=np.float64), (group.levels,)).copy())
        means.append(np.full(group.levels, group.mean if isinstance(group, Members) else 0.0))
        width += group.levels
    for name, covariate in covariates.items():
        starts[name] = width
        blocks.append(sparse.csr_matrix(np.asarray(covariate.values, dtype=np.float64).reshape(rows, 1)))
        sd.append(np.array([covariate.sd]))
        means.append(np.array([covariate.mean]))
        width += 1
    return starts, sparse.hstack(blocks, format="csr"), np.concatenate(sd), np.concatenate(means)


@dataclass(frozen=True, slots=True)
class _Data:
    counts: Floats
    log_base: Floats
    trust: Floats
    design: sparse.csr_matrix
    means: Floats


def _newton(theta: Floats, data: _Data, sd: Floats, phi: float, *, tolerance: float) -> tuple[Floats, Floats]:
    design = data.design
    transposed = design.T.tocsr()
    precision = 1.0 / sd**2
    factor = (np.diag(np.sqrt(precision)), False)
    for _ in range(_STEPS):
        mean = np.exp(np.clip(data.log_base + design @ theta, -30, 30))
        spread = np.sqrt(mean * (1 + phi * mean))
        residual = (data.counts - mean) / spread
        huber = np.minimum(1.0, _HUBER / np.maximum(np.abs(residual), 1e-12))
        gradient = transposed @ (data.trust * huber * (data.counts - mean) / (1 + phi * mean)) - precision * (
            theta - data.means
        )
        information = data.trust * mean / (1 + phi * mean)
        hessian = (transposed @ design.multiply(information[:, None])).toarray() + np.diag(precision)
        factor = linalg.cho_factor(hessian, check_finite=False)
        step = linalg.cho_solve(factor, gradient, check_finite=False)
        largest = float(np.abs(step).max(initial=0.0))
        # far from the mode the quadratic is a poor guide: never move an effect by more than e-fold times two at once
        theta = np.clip(theta + step * min(1.0, 2.0 / max(largest, 1e-12)), -_LIMIT, _LIMIT)
        if largest < tolerance:
            break
    return theta, _inverse(factor)


def _inverse(factor: tuple[Floats, bool]) -> Floats:
    """The inverse from a Cholesky factor, whole."""
    matrix, lower = factor
    half, _ = linalg.lapack.dpotri(matrix, lower=lower)
    triangle = np.tril(half) if lower else np.triu(half)
    return np.asarray(triangle + triangle.T - np.diag(np.diag(half)))


def overdispersion(counts: Floats, mean: Floats, trust: Floats, *, start: float) -> float:
    """Moment estimate of φ from Huberised residuals, held near ``start`` by ten imaginary rows."""
    spread = np.sqrt(mean * (1 + start * mean))
    residual = np.clip((counts - mean) / spread, -_HUBER, _HUBER) * spread
    # rows with few expected people say nothing of φ: weigh by how much of their variance it makes
    weight = trust * (start * mean / (1 + start * mean)) ** 2 / np.maximum(mean, 1e-9) ** 2
    exact = float((weight * (residual**2 - mean)).sum())
    scale = float((weight * mean**2).sum())
    imaginary = 10.0 * float(np.mean(weight * mean**2))
    if scale + imaginary <= 0:
        return start
    return float(np.clip((exact + imaginary * start) / (scale + imaginary), *_OVERDISPERSION_RANGE))


def _learnt_sd(group: Group | Members, theta: Floats, covariance: Floats, start: int) -> float:
    if isinstance(group, Members):
        seen, mean = np.unique(group.matrix.indices[group.matrix.data != 0]), group.mean
    else:
        seen, mean = np.unique(group.codes[group.codes >= 0]), 0.0
    positions = start + seen
    moments = (theta[positions] - mean) ** 2 + np.diag(covariance)[positions]
    default = float(np.mean(np.asarray(group.sd, dtype=np.float64) ** 2))
    return float(np.sqrt((moments.sum() + PRIOR_LEVELS * default) / (len(seen) + PRIOR_LEVELS)))


def codes_of(values: Iterable[object], levels: Sequence[str]) -> Ints:
    """Positions of ``values`` in ``levels``; -1 where a value is not among them."""
    position = {level: i for i, level in enumerate(levels)}
    return np.array([position.get(str(value), -1) for value in values], dtype=np.int64)
