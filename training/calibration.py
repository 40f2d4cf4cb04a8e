"""How wide the intervals must be, from predictions of events later than those trained on.

Every held-out row carries the mean and the spread that a model gave it which had not seen its event. Around a mean μ a
count varies as

    y ~ Poisson(μ · exp(post + noise + shared)),   normals with mean-preserving shifts

``post`` (sd known: the height of the curve) and ``noise`` (sd per tactic) are of the row, ``shared`` is of the event.
Moments give first values: pairs of rows of one event vary together by the shared shock alone. Then both are scaled
until the intervals cover: the conformal step. With u the mid-PIT of each held-out count and |z| = |Φ⁻¹(u)|, the 80 %
and 90 % intervals cover if the empirical ⌈(n+1)·level⌉/n quantiles of |z| equal 1.28 and 1.64; the spread is multiplied
by the mean of the two ratios. Few held-out events leave the published-size defaults nearly as they are.

Probabilities of reaching a goal get a logistic scale of their own (:func:`goal_scale`): a target says something that
the model does not know, so the shares of draws are too sure.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, pdtr

from turnout.scoring.predictive import GoalScale

Floats = NDArray[np.float64]

#: Event-to-event spread of a tactic and the shared shock until held-out events say otherwise: guesses.
NOISE_LOG_SD = 0.5
SHARED_LOG_SD = 0.20
#: Imaginary held-out events and rows behind the defaults.
PRIOR_EVENTS = 12.0
PRIOR_ROWS = 15.0
_LEVELS = (0.8, 0.9)
_SMALLEST = 0.05
_SCALE_RANGE = (0.5, 2.5)
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(24)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True, slots=True)
class Spread:
    """Spreads on the log scale.

    Attributes:
        shared: of the shock that all parts of one event share.
        noise: of a tactic without held-out rows.
        tactics: per tactic, beyond counting noise, the shared shock and the uncertainty of its height.
        rows, events: size of the evidence.
        goal: scale of goal probabilities.
    """

    shared: float = SHARED_LOG_SD
    noise: float = NOISE_LOG_SD
    tactics: dict[str, float] | None = None
    rows: int = 0
    events: int = 0
    goal: GoalScale = field(default_factory=GoalScale)

    def of(self, tactic_id: str) -> float:
        return (self.tactics or {}).get(tactic_id, self.noise)


def calibrate(rows: pd.DataFrame, events: pd.DataFrame) -> Spread:
    """Spreads from held-out predictions.

    Args:
        rows: event_id, tactic_id, y, mean, post_log_sd; one row per held-out event and tactic.
        events: index event_id; registrations (actual), organic_mean, organic_log_sd (without the shared shock), and
            perhaps in_sample_shared: what the fits themselves said of it, which a few events do not overrule.
    """
    if rows.empty:
        return Spread()
    guess = SHARED_LOG_SD
    if "in_sample_shared" in events and events["in_sample_shared"].notna().any():
        guess = float(events["in_sample_shared"].mean())
    y, mean = rows["y"].to_numpy(dtype=np.float64), np.maximum(rows["mean"].to_numpy(dtype=np.float64), 1e-6)
    post = rows["post_log_sd"].to_numpy(dtype=np.float64)
    event_codes, _ = pd.factorize(rows["event_id"])
    # one typing error must not widen every interval
    reach = 5 * np.sqrt(mean + 0.25 * mean**2)
    residual = np.clip(y - mean, -reach, reach)
    shared = _shared(residual, mean, event_codes, guess)
    excess = (residual**2 - mean) / mean**2
    weight = 1 / (1 / mean + 0.15) ** 2
    known = np.expm1(shared**2 + post**2)
    default = np.expm1(NOISE_LOG_SD**2)
    pooled_weight = PRIOR_ROWS * float(np.median(weight))
    pooled = (float((weight * (excess - known)).sum()) + pooled_weight * default) / (weight.sum() + pooled_weight)
    noise = _sd(pooled)
    tactics: dict[str, float] = {}
    for tactic, at in rows.groupby("tactic_id").indices.items():
        own = float((weight[at] * (excess - known)[at]).sum())
        held = PRIOR_ROWS * float(np.median(weight))
        tactics[str(tactic)] = _sd((own + held * max(pooled, 0.0)) / (float(weight[at].sum()) + held))

    names = rows["tactic_id"].to_numpy()
    for _ in range(2):
        own_noise = np.array([tactics[t] for t in names])
        z = standardised(y, mean, np.sqrt(post**2 + own_noise**2 + shared**2))
        factor = conformal_factor(z, prior=PRIOR_ROWS)
        noise *= factor
        tactics = {t: max(sd * factor, _SMALLEST) for t, sd in tactics.items()}

    spread = Spread(shared, noise, tactics, len(rows), int(rows["event_id"].nunique()))
    for _ in range(3):
        z = _total_z(rows, events, spread)
        if not len(z):
            break
        factor = conformal_factor(z, prior=PRIOR_EVENTS)
        spread = replace(spread, shared=max(spread.shared * factor, _SMALLEST))
    if "goal_share" not in events:
        return spread
    asked = events.dropna(subset=["goal_share", "target", "registrations"])
    reached = np.asarray(asked["registrations"] >= asked["target"], dtype=np.float64)
    return replace(spread, goal=goal_scale(asked["goal_share"].to_numpy(dtype=np.float64), reached))


def goal_scale(share: Floats, reached: Floats) -> GoalScale:
    """Logistic regression of whether goals were reached on the logit of the share of draws that reached them.

    Offset ~ N(0, 0.5²) and slope ~ N(1, 0.25²) hold it near the shares themselves where little was seen; the slope
    stays within 0.3 and 1.5.
    """
    kept = np.clip(share, 1e-3, 1 - 1e-3)
    design = np.column_stack([np.ones(len(kept)), np.log(kept / (1 - kept))])
    mean, precision = np.array([0.0, 1.0]), 1.0 / np.array([0.5, 0.25]) ** 2
    found = mean.copy()
    for _ in range(25):
        p = 1 / (1 + np.exp(-design @ found))
        gradient = design.T @ (reached - p) - precision * (found - mean)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(precision)
        found = found + np.clip(np.linalg.solve(hessian, gradient), -1, 1)
    return GoalScale(float(found[0]), float(np.clip(found[1], 0.3, 1.5)))


def _sd(relative_variance: float) -> float:
    return float(np.sqrt(np.log1p(max(relative_variance, np.expm1(_SMALLEST**2)))))


def _shared(residual: Floats, mean: Floats, codes: NDArray[np.intp], guess: float) -> float:
    """From the covariance of rows of one event; held near a guess by imaginary events."""
    total, total_mean = np.bincount(codes, residual), np.bincount(codes, mean)
    cross = total**2 - np.bincount(codes, residual**2)
    pairs = total_mean**2 - np.bincount(codes, mean**2)
    # an event counts by how well its rows tell the shock, not by the square of its size
    weight = np.where(pairs > 0, 1 / np.maximum(pairs, 1e-9), 0.0) * np.minimum(total_mean / 50.0, 1.0)
    evidence = float((weight * pairs).sum())
    own = float((weight * cross).sum())
    return _sd((own + PRIOR_EVENTS * np.expm1(guess**2)) / (evidence + PRIOR_EVENTS))


def _total_z(rows: pd.DataFrame, events: pd.DataFrame, spread: Spread) -> Floats:
    usable = events.dropna(subset=["registrations"])
    if usable.empty:
        return np.zeros(0)
    noise = np.array([spread.of(t) for t in rows["tactic_id"]])
    mean = rows["mean"].to_numpy(dtype=np.float64)
    variance = mean**2 * np.expm1(rows["post_log_sd"].to_numpy(dtype=np.float64) ** 2 + noise**2)
    sums = pd.DataFrame({"mean": mean, "variance": variance}).groupby(rows["event_id"].to_numpy()).sum()
    sums = sums.reindex(usable.index).fillna(0.0)
    organic = usable["organic_mean"].fillna(0.0).to_numpy(dtype=np.float64)
    organic_sd2 = usable["organic_log_sd"].fillna(0.0).to_numpy(dtype=np.float64) ** 2
    total = np.maximum(sums["mean"].to_numpy(dtype=np.float64) + organic, 1e-6)
    own = sums["variance"].to_numpy(dtype=np.float64) + organic**2 * np.expm1(organic_sd2)
    log_sd = np.sqrt(np.log1p(own / total**2) + spread.shared**2)
    return standardised(usable["registrations"].to_numpy(dtype=np.float64), total, log_sd)


def standardised(y: ArrayLike, mean: ArrayLike, log_sd: ArrayLike) -> Floats:
    """Φ⁻¹ of the mid-PIT of counts under Poisson(mean · exp(sd z − sd²/2)): standard normal if the spread is right.

    The mixture is summed over 24 Gauss-Hermite nodes.
    """
    counts = np.floor(np.asarray(y, dtype=np.float64))[:, None]
    sd = np.asarray(log_sd, dtype=np.float64)[:, None]
    rates = np.asarray(mean, dtype=np.float64)[:, None] * np.exp(sd * _NODES[None, :] - sd**2 / 2)
    upper = pdtr(counts, rates) @ _WEIGHTS
    lower = np.where(counts[:, 0] > 0, pdtr(np.maximum(counts - 1, 0), rates) @ _WEIGHTS, 0.0)
    return np.asarray(ndtri(np.clip((upper + lower) / 2, 1e-6, 1 - 1e-6)))


def conformal_factor(z: ArrayLike, *, prior: float) -> float:
    """What the spread must be multiplied by so that the 80 % and 90 % intervals cover.

    Shrunk towards 1 by ``prior`` imaginary values that fit.
    """
    size = np.sort(np.abs(np.asarray(z, dtype=np.float64)))
    n = len(size)
    if n == 0:
        return 1.0
    ratios = []
    for level in _LEVELS:
        rank = min(int(np.ceil((n + 1) * level)), n)
        ratios.append(size[rank - 1] / float(ndtri((1 + level) / 2)))
    ratio = float(np.clip(np.mean(ratios), *_SCALE_RANGE))
    return float(ratio ** (n / (n + prior)))
