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
from itertools import pairwise

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
        blocks: block of each level, -1 for the core; shape (levels,). Levels of two blocks never meet in a row: the
            levels that belong to one tactic are a block. It changes the time, not the result. None: all in the core.
    """

    matrix: sparse.csr_matrix
    sd: float | Floats
    mean: float = 0.0
    learn: bool = False
    blocks: Ints | None = None

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
class Posterior:
    """The inverse Hessian of an arrow: a core that meets every block, and blocks that do not meet one another.

    With H = [[C, B], [Bᵀ, D]], D block-diagonal, and the Schur complement S = C − B D⁻¹ Bᵀ,

        H⁻¹ = [[S⁻¹, −S⁻¹ B D⁻¹], [−D⁻¹ Bᵀ S⁻¹, D⁻¹ + D⁻¹ Bᵀ S⁻¹ B D⁻¹]]

    so that with hundreds of levels per tactic only S and the single blocks are ever dense.

    Attributes:
        order: parameters of the core, then of each block in turn; positions in the order of ``Fit.starts``.
        bounds: where each block begins in ``order``, and the end.
        core: S⁻¹. blocks: D⁻¹ of each block. cross: D⁻¹ Bᵀ of each block, shape (levels, core).
    """

    order: Ints
    bounds: tuple[int, ...]
    core: Floats
    blocks: tuple[Floats, ...]
    cross: tuple[Floats, ...]

    @property
    def diagonal(self) -> Floats:
        """Posterior variance of each parameter, in the order of ``Fit.starts``."""
        parts = [np.diag(self.core)]
        for inverse, cross in zip(self.blocks, self.cross, strict=True):
            parts.append(np.diag(inverse) + np.einsum("ij,ij->i", cross @ self.core, cross))
        found = np.empty(len(self.order))
        found[self.order] = np.concatenate(parts)
        return found

    def variances(self, design: sparse.csr_matrix) -> Floats:
        """Variance of each row of ``design`` times the parameters, shape (rows,)."""
        ordered = design.tocsc()[:, self.order]
        whole = np.asarray(ordered[:, : self.bounds[0]].toarray(), dtype=np.float64)
        own = np.zeros(design.shape[0])
        for k, (inverse, cross) in enumerate(zip(self.blocks, self.cross, strict=True)):
            part = ordered[:, self.bounds[k] : self.bounds[k + 1]].tocsr()
            used = np.flatnonzero(np.diff(part.indptr))
            if len(used):
                weights = part[used].toarray()
                whole[used] -= weights @ cross
                own[used] += np.einsum("ij,ij->i", weights @ inverse, weights)
        return np.asarray(np.maximum(own + np.einsum("ij,ij->i", whole @ self.core, whole), 0.0))


@dataclass(frozen=True, slots=True)
class Fit:
    """The posterior mode.

    Attributes:
        effects: per group, the effect of each level.
        coefficients: per covariate.
        sd: the groups' standard deviations as used in the end, per level.
        posterior: spread of all effects, then coefficients, in the order of ``starts``.
        overdispersion: φ.
    """

    effects: dict[str, Floats]
    coefficients: dict[str, float]
    sd: dict[str, Floats]
    posterior: Posterior
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
        width = len(self.posterior.order)
        row = sparse.csr_matrix((np.ones(len(positions)), ([0] * len(positions), positions)), shape=(1, width))
        known = float(self.posterior.variances(row)[0])
        return known + sum(float(np.mean(self.sd[n] ** 2)) for n, level in levels.items() if level < 0)

    def variances(self, design: sparse.csr_matrix) -> Floats:
        """Posterior variance of η of each row of ``design``, columns in the order of ``starts``; shape (rows,)."""
        return self.posterior.variances(design)


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
    layout = _layout(groups, covariates, len(counts))
    starts, sd = layout.starts, layout.sd
    data = _Data(counts, log_base, trust, layout)
    theta = layout.means.copy()
    phi = start
    posterior = _prior(layout)
    for _ in range(_ROUNDS if len(counts) else 0):
        theta, posterior = _newton(theta, data, sd, phi, tolerance=1e-2)
        mean = np.exp(np.clip(log_base + layout.design @ theta, -30, 30))
        phi = overdispersion(counts, mean, trust, start=start)
        diagonal = posterior.diagonal
        for name, group in groups.items():
            if group.learn:
                sd[_slice(starts, name, group)] = _learnt_sd(group, theta, diagonal, starts[name])
    if len(counts):
        theta, posterior = _newton(theta, data, sd, phi, tolerance=1e-4)
    return Fit(
        effects={name: theta[_slice(starts, name, group)] for name, group in groups.items()},
        coefficients={name: float(theta[starts[name]]) for name in covariates},
        sd={name: sd[_slice(starts, name, group)].copy() for name, group in groups.items()},
        posterior=posterior,
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


@dataclass(frozen=True, slots=True)
class _Layout:
    """Columns of the design: where each group starts, prior sd and mean of each, and the arrow's order."""

    starts: dict[str, int]
    design: sparse.csr_matrix
    sd: Floats
    means: Floats
    order: Ints
    bounds: tuple[int, ...]


def _layout(groups: Mapping[str, Group | Members], covariates: Mapping[str, Covariate], rows: int) -> _Layout:
    starts: dict[str, int] = {}
    parts: list[sparse.csr_matrix] = []
    sd: list[Floats] = []
    means: list[Floats] = []
    blocks: list[Ints] = []
    width = 0
    for name, group in groups.items():
        starts[name] = width
        parts.append(_matrix(group, rows))
        sd.append(np.broadcast_to(np.asarray(group.sd, dtype=np.float64), (group.levels,)).copy())
        means.append(np.full(group.levels, group.mean if isinstance(group, Members) else 0.0))
        own = group.blocks if isinstance(group, Members) else None
        blocks.append(np.full(group.levels, -1, dtype=np.int64) if own is None else own)
        width += group.levels
    for name, covariate in covariates.items():
        starts[name] = width
        parts.append(sparse.csr_matrix(np.asarray(covariate.values, dtype=np.float64).reshape(rows, 1)))
        sd.append(np.array([covariate.sd]))
        means.append(np.array([covariate.mean]))
        blocks.append(np.array([-1], dtype=np.int64))
        width += 1
    block = np.concatenate(blocks)
    order = np.argsort(block, kind="stable")
    bounds = np.searchsorted(block[order], np.arange(int(block.max(initial=-1)) + 2))
    design = sparse.hstack(parts, format="csr")
    return _Layout(starts, design, np.concatenate(sd), np.concatenate(means), order, tuple(bounds.tolist()))


@dataclass(frozen=True, slots=True)
class _Data:
    counts: Floats
    log_base: Floats
    trust: Floats
    layout: _Layout


def _newton(theta: Floats, data: _Data, sd: Floats, phi: float, *, tolerance: float) -> tuple[Floats, Posterior]:
    layout = data.layout
    design, order = layout.design, layout.order
    ordered = design.tocsc()[:, order].tocsr()
    transposed = ordered.T.tocsr()
    precision = 1.0 / sd[order] ** 2
    arrow = _Arrow.of(sparse.csr_matrix((len(order), len(order))), precision, layout.bounds)
    now, prior = theta[order], layout.means[order]
    for _ in range(_STEPS):
        mean = np.exp(np.clip(data.log_base + ordered @ now, -30, 30))
        spread = np.sqrt(mean * (1 + phi * mean))
        residual = (data.counts - mean) / spread
        huber = np.minimum(1.0, _HUBER / np.maximum(np.abs(residual), 1e-12))
        gradient = transposed @ (data.trust * huber * (data.counts - mean) / (1 + phi * mean)) - precision * (
            now - prior
        )
        information = data.trust * mean / (1 + phi * mean)
        arrow = _Arrow.of(transposed @ ordered.multiply(information[:, None]), precision, layout.bounds)
        step = arrow.solve(gradient)
        largest = float(np.abs(step).max(initial=0.0))
        # far from the mode the quadratic is a poor guide: never move an effect by more than e-fold times two at once
        now = np.clip(now + step * min(1.0, 2.0 / max(largest, 1e-12)), -_LIMIT, _LIMIT)
        if largest < tolerance:
            break
    found = np.empty_like(theta)
    found[order] = now
    return found, arrow.posterior(order)


def _prior(layout: _Layout) -> Posterior:
    width = len(layout.order)
    precision = 1.0 / layout.sd[layout.order] ** 2
    return _Arrow.of(sparse.csr_matrix((width, width)), precision, layout.bounds).posterior(layout.order)


@dataclass(frozen=True, slots=True)
class _Arrow:
    """A Hessian of the shape described at :class:`Posterior`, factorised; parameters in its order."""

    bounds: tuple[int, ...]
    schur: tuple[Floats, bool]
    factors: tuple[tuple[Floats, bool], ...]
    cross: tuple[Floats, ...]

    @classmethod
    def of(cls, information: sparse.spmatrix, precision: Floats, bounds: tuple[int, ...]) -> _Arrow:
        columns = information.tocsc()
        core = bounds[0]
        schur = columns[:, :core].tocsr()[:core].toarray() + np.diag(precision[:core])
        factors, crosses = [], []
        for start, end in pairwise(bounds):
            part = columns[:, start:end].tocsr()
            own = part[start:end].toarray() + np.diag(precision[start:end])
            meets = part[:core].toarray()
            factor = linalg.cho_factor(own, check_finite=False)
            cross = linalg.cho_solve(factor, meets.T, check_finite=False)
            touched = np.flatnonzero(np.diff(part[:core].indptr))
            schur[np.ix_(touched, touched)] -= meets[touched] @ cross[:, touched]
            factors.append(factor)
            crosses.append(cross)
        return cls(bounds, linalg.cho_factor(schur, check_finite=False), tuple(factors), tuple(crosses))

    def solve(self, gradient: Floats) -> Floats:
        core = gradient[: self.bounds[0]].copy()
        for cross, (start, end) in zip(self.cross, pairwise(self.bounds), strict=True):
            core -= gradient[start:end] @ cross
        parts = [linalg.cho_solve(self.schur, core, check_finite=False)]
        for factor, cross, (start, end) in zip(self.factors, self.cross, pairwise(self.bounds), strict=True):
            parts.append(linalg.cho_solve(factor, gradient[start:end], check_finite=False) - cross @ parts[0])
        return np.concatenate(parts)

    def posterior(self, order: Ints) -> Posterior:
        return Posterior(order, self.bounds, _inverse(self.schur), tuple(_inverse(f) for f in self.factors), self.cross)


def _inverse(factor: tuple[Floats, bool]) -> Floats:
    """The inverse from a Cholesky factor, whole."""
    matrix, lower = factor
    if not len(matrix):
        return np.zeros((0, 0))
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


def _learnt_sd(group: Group | Members, theta: Floats, variances: Floats, start: int) -> float:
    if isinstance(group, Members):
        seen, mean = np.unique(group.matrix.indices[group.matrix.data != 0]), group.mean
    else:
        seen, mean = np.unique(group.codes[group.codes >= 0]), 0.0
    positions = start + seen
    moments = (theta[positions] - mean) ** 2 + variances[positions]
    default = float(np.mean(np.asarray(group.sd, dtype=np.float64) ** 2))
    return float(np.sqrt((moments.sum() + PRIOR_LEVELS * default) / (len(seen) + PRIOR_LEVELS)))


def codes_of(values: Iterable[object], levels: Sequence[str]) -> Ints:
    """Positions of ``values`` in ``levels``; -1 where a value is not among them."""
    position = {level: i for i, level in enumerate(levels)}
    return np.array([position.get(str(value), -1) for value in values], dtype=np.int64)
