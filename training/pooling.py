"""Partial pooling of tactics and the organic baseline, in one fit.

Organic registrations are a row of their own beside an event's tactics: what lifts an event (its segment, its kind, the
season, demand) lifts both, so each tells of the other. Their level has a guessed prior
(:data:`turnout.scoring.demand.ORGANIC_GUESS`), wide enough that a few events overrule it; the tactics' priors are the
benchmarks' (:mod:`turnout.tactics.priors`).

Segment and kind also have effects of their own on the baseline.

Per tactic with a smooth curve, the size of the audience (``log_stretch``) is found on a grid, with a log-normal prior
of sd :data:`STRETCH_SD`; then everything is fitted once more on the stretched curves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training import hierarchy
from training.calibration import NOISE_LOG_SD, SHARED_LOG_SD
from training.dataset import Dataset, demand_index_of, expected
from training.hierarchy import Covariate, Group, codes_of
from turnout.curves import Step, Tabulated
from turnout.scoring.demand import ORGANIC_GUESS, ORGANIC_GUESS_LOG_SD, Organic
from turnout.scoring.parameters import NEW_SEGMENT, ResponseParameters, TacticHistory, season_terms, stretch

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Prior spreads of what a benchmark cannot know, on the log scale: guesses, learnt where there are levels enough.
ORGANISATION_SD = 0.35
SEGMENT_SD = 0.25
KIND_SD = 0.15
PAIR_SD = 0.15
SEASON_SD = 0.10
ORGANIC_SEGMENT_SD = 0.3
ORGANIC_KIND_SD = 0.3
STRETCH_SD = 0.6
#: Demand moves registrations about in proportion, a guess: mean and sd of the elasticity.
DEMAND_ELASTICITY = (0.8, 0.4)

_ORGANIC = ""  # the level of the organic baseline among the tactics
_STRETCH_ROWS = 6
_STRETCH_SAMPLE = 300
_STRETCH_GRID = np.linspace(-1.5, 1.5, 13)
_OUTLIER = 4.0
_SMALLEST_LOG_SD = 0.05


@dataclass(frozen=True, slots=True)
class Pooled:
    """The outcome.

    Attributes:
        parameters: of the response model, spreads not yet calibrated.
        organic: the organic baseline.
        means: expected registrations of each row of the dataset.
    """

    parameters: ResponseParameters
    organic: Organic
    means: Floats


def fit_pooling(dataset: Dataset, *, stretched: bool = True) -> Pooled:
    """Fit levels, elasticity and season to the dataset and its history.

    Args:
        stretched: whether audience sizes are fitted; saves time where only the level matters.

    Returns:
        With nothing to fit to: the benchmarks and the guessed baseline.
    """
    data = _Stacked.of(dataset)
    if not len(data.y):
        return Pooled(ResponseParameters(feature_names=dataset.feature_names), Organic(), np.zeros(0))
    fitted = data.fit()
    stretches: dict[str, float] = {}
    if stretched and not dataset.rows.empty:
        stretches = _stretches(dataset, data, fitted)
        if stretches:
            data = data.stretched(dataset, stretches)
            fitted = data.fit()
    means = (data.base * np.exp(data.eta(fitted)))[: len(dataset.rows)]
    return Pooled(_parameters(dataset, data, fitted, stretches), _organic(dataset, data, fitted), means)


@dataclass(frozen=True, slots=True)
class _Stacked:
    """Rows of the dataset, then one organic row per event whose organic count is known."""

    y: Floats
    base: Floats
    weights: Floats
    tactics: tuple[str, ...]
    segments: tuple[str, ...]
    kinds: tuple[str, ...]
    pairs: dict[tuple[int, int], int]  # (tactic, segment) that occur → level
    groups: dict[str, Group]
    covariates: dict[str, Covariate]

    @classmethod
    def of(cls, dataset: Dataset) -> _Stacked:
        rows, events = dataset.rows, dataset.history.events
        known = events["organic_registrations"].notna().to_numpy()
        organic = events[known]
        kind_of_event = events["kind"]
        stacked = pd.DataFrame(
            {
                "tactic": [*rows["tactic_id"], *([_ORGANIC] * len(organic))],
                "segment": [*rows["segment_id"], *organic["segment_id"]],
                "kind": [*kind_of_event.reindex(rows["event_id"]), *organic["kind"]],
                "y": [*rows["y"], *organic["organic_registrations"].clip(lower=0)],
                "base": [*rows["baseline"], *([ORGANIC_GUESS] * len(organic))],
                "weight": [*rows["weight"], *([1.0] * len(organic))],
                "index": [*rows["demand_index"], *demand_index_of(events)[known]],
                "sd": [*rows["prior_log_sd"], *([ORGANIC_GUESS_LOG_SD] * len(organic))],
                "day": [*_day_numbers(rows["event_date"]), *_day_numbers(organic["event_date"])],
            }
        )
        tactics, segments, kinds = (tuple(sorted(stacked[n].unique())) for n in ("tactic", "segment", "kind"))
        tactic, segment = codes_of(stacked["tactic"], tactics), codes_of(stacked["segment"], segments)
        kind = codes_of(stacked["kind"], kinds)
        is_organic = (stacked["tactic"] == _ORGANIC).to_numpy(dtype=np.bool_)
        pair_code = tactic * max(len(segments), 1) + segment
        seen = np.unique(pair_code[~is_organic])
        pair = np.where(is_organic, -1, np.searchsorted(seen, pair_code))
        prior = stacked.groupby("tactic")["sd"].median().reindex(list(tactics)).to_numpy(dtype=np.float64)
        season = season_terms(stacked["day"].to_numpy(dtype=np.float64))
        index = np.log(np.maximum(stacked["index"].to_numpy(dtype=np.float64), 1e-6))
        return cls(
            y=stacked["y"].to_numpy(dtype=np.float64),
            base=stacked["base"].to_numpy(dtype=np.float64),
            weights=stacked["weight"].to_numpy(dtype=np.float64),
            tactics=tactics,
            segments=segments,
            kinds=kinds,
            pairs={divmod(int(code), len(segments)): level for level, code in enumerate(seen)},
            groups={
                "organisation": Group(np.where(is_organic, -1, 0), 1, ORGANISATION_SD),
                "tactic": Group(tactic, len(tactics), prior),
                "segment": Group(segment, len(segments), SEGMENT_SD, learn=True),
                "kind": Group(kind, len(kinds), KIND_SD),
                "pair": Group(pair.astype(np.int64), len(seen), PAIR_SD, learn=True),
                "organic_segment": Group(
                    np.where(is_organic, segment, -1), len(segments), ORGANIC_SEGMENT_SD, learn=True
                ),
                "organic_kind": Group(np.where(is_organic, kind, -1), len(kinds), ORGANIC_KIND_SD, learn=True),
            },
            covariates={
                "demand": Covariate(index, *DEMAND_ELASTICITY),
                **{f"season_{i}": Covariate(season[:, i], 0.0, SEASON_SD) for i in range(4)},
            },
        )

    def fit(self) -> hierarchy.Fit:
        return hierarchy.fit(self.y, self.base, self.groups, self.covariates, weights=self.weights)

    def eta(self, fitted: hierarchy.Fit) -> Floats:
        codes = {name: group.codes for name, group in self.groups.items()}
        return fitted.eta(codes, {name: c.values for name, c in self.covariates.items()}, len(self.y))

    def stretched(self, dataset: Dataset, stretches: Mapping[str, float]) -> _Stacked:
        """The same with the benchmark read from stretched curves."""
        base = self.base.copy()
        base[: len(dataset.rows)] = stretched_baseline(dataset, stretches)
        return _Stacked(
            self.y,
            base,
            self.weights,
            self.tactics,
            self.segments,
            self.kinds,
            self.pairs,
            self.groups,
            self.covariates,
        )


def stretched_baseline(dataset: Dataset, stretches: Mapping[str, float]) -> Floats:
    """The benchmark of each row over audiences of another size."""
    rows = zip(dataset.rows["tactic_id"], dataset.curves, dataset.rows["x"], dataset.rows["baseline"], strict=True)
    return np.array([
        expected(stretch(curve, stretches[tactic]), x) if tactic in stretches else base
        for tactic, curve, x, base in rows
    ])  # fmt: skip


def _day_numbers(dates: pd.Series) -> list[float]:
    return [float(d) for d in dates.to_numpy().astype("datetime64[D]").astype(np.int64)]


def _stretches(dataset: Dataset, data: _Stacked, fitted: hierarchy.Fit) -> dict[str, float]:
    """Posterior mean of each tactic's log audience size, on a grid, its level fitted anew at each point."""
    found: dict[str, float] = {}
    phi, eta = fitted.overdispersion, data.eta(fitted)
    tactic_codes = data.groups["tactic"].codes[: len(dataset.rows)]
    x_all = dataset.rows["x"].to_numpy(dtype=np.float64)
    for position, tactic in enumerate(data.tactics):
        chosen = np.flatnonzero(tactic_codes == position)
        if len(chosen) < _STRETCH_ROWS or isinstance(dataset.curves[chosen[0]], Step | Tabulated):
            continue
        if len(chosen) > _STRETCH_SAMPLE:
            chosen = chosen[np.linspace(0, len(chosen) - 1, _STRETCH_SAMPLE).astype(int)]
        now = data.base[chosen] * np.exp(eta[chosen])
        # a typing error must not bend the curve
        y = np.minimum(data.y[chosen], now + _OUTLIER * np.sqrt(now * (1 + phi * now)))
        others = eta[chosen] - fitted.effects["tactic"][position]
        points = list(zip(dataset.curves[chosen], x_all[chosen], strict=True))
        base = np.array([[expected(stretch(c, float(b)), x) for c, x in points] for b in _STRETCH_GRID])
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


def _season(fitted: hierarchy.Fit) -> tuple[float, ...]:
    return tuple(fitted.coefficients[f"season_{i}"] for i in range(4))


def _usual_kind(data: _Stacked) -> int:
    """The commonest kind: the spread of a level hardly differs between them."""
    return int(np.bincount(data.groups["kind"].codes).argmax())


def _parameters(
    dataset: Dataset, data: _Stacked, fitted: hierarchy.Fit, stretches: Mapping[str, float]
) -> ResponseParameters:
    rows, segments, kind = dataset.rows, data.segments, _usual_kind(data)

    def height(tactic: int, segment: int) -> float:
        effects = {"organisation": 0, "tactic": tactic, "segment": segment, "kind": kind}
        return float(np.sqrt(fitted.variance(effects | {"pair": data.pairs.get((tactic, segment), -1)})))

    def level(segment: int) -> float:
        return float(np.sqrt(fitted.variance({"organisation": 0, "segment": segment, "kind": kind})))

    tactics: dict[str, TacticHistory] = {}
    for tactic, group in rows.groupby("tactic_id", sort=True):
        position, dates = data.tactics.index(str(tactic)), group["event_date"]
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
        kinds=dict(zip(data.kinds, fitted.effects["kind"].tolist(), strict=True)),
        tactic_segments={
            f"{data.tactics[t]}|{segments[s]}": float(fitted.effects["pair"][at]) for (t, s), at in data.pairs.items()
        },
        season=_season(fitted),
        level_log_sd={s: level(i) for i, s in enumerate(segments)} | {NEW_SEGMENT: level(-1)},
        demand_elasticity=fitted.coefficients["demand"],
        noise_log_sd=NOISE_LOG_SD,
        shared_log_sd=SHARED_LOG_SD,
        overdispersion=fitted.overdispersion,
        trained_until=None if rows.empty else rows["event_date"].max().date(),
        is_simulated_data=bool(rows["is_simulated"].any()),
        rows=len(rows),
        events=int(rows["event_id"].nunique()),
    )


def _organic(dataset: Dataset, data: _Stacked, fitted: hierarchy.Fit) -> Organic:
    if _ORGANIC not in data.tactics:
        return Organic()
    position, kind = data.tactics.index(_ORGANIC), _usual_kind(data)
    own = data.groups["tactic"].codes == position
    mean = (data.base * np.exp(data.eta(fitted)))[own]
    overdispersion = hierarchy.overdispersion(data.y[own], mean, data.weights[own], start=0.15)
    # overdispersion holds the shared shock, which the predictive distribution adds by itself
    noise2 = max(float(np.log1p(overdispersion)) - SHARED_LOG_SD**2, _SMALLEST_LOG_SD**2)

    def spread(segment: int) -> float:
        levels = {
            "tactic": position,
            "segment": segment,
            "kind": kind,
            "organic_segment": segment,
            "organic_kind": kind,
        }
        return float(np.sqrt(fitted.variance(levels) + noise2))

    segments = fitted.effects["segment"] + fitted.effects["organic_segment"]
    kinds = fitted.effects["kind"] + fitted.effects["organic_kind"]
    events = dataset.history.events
    known = events[events["organic_registrations"].notna()]
    return Organic(
        level=float(np.log(ORGANIC_GUESS) + fitted.effects["tactic"][position]),
        segments=dict(zip(data.segments, segments.tolist(), strict=True)),
        kinds=dict(zip(data.kinds, kinds.tolist(), strict=True)),
        season=_season(fitted),
        elasticity=fitted.coefficients["demand"],
        log_sd={s: spread(i) for i, s in enumerate(data.segments)} | {NEW_SEGMENT: spread(-1)},
        events={str(k): int(v) for k, v in known.groupby("segment_id").size().items()},
    )


@dataclass(frozen=True, slots=True)
class OrganicForecast:
    """Expected organic registrations and the spread of their log, shape (events,)."""

    mean: Floats
    log_sd: Floats


def forecast_organic(organic: Organic, events: pd.DataFrame, demand_index: Floats) -> OrganicForecast:
    """The baseline of each event at its demand index."""
    asked = zip(events["segment_id"], events["kind"], events["event_date"], demand_index, strict=True)
    log_mean = np.array([organic.log_mean(s, kind, day.date(), float(index)) for s, kind, day, index in asked])
    return OrganicForecast(np.exp(log_mean), np.array([organic.spread(s) for s in events["segment_id"]]))
