"""Partial pooling of tactics and the organic baseline, in one fit.

Organic registrations are a row of their own beside an event's tactics: what lifts an event (its segment, its theme, its
organiser, the season, demand) lifts both, so each tells of the other. Their level has a guessed prior
(:data:`turnout.scoring.demand.ORGANIC_GUESS`), wide enough that a few events overrule it; the tactics' priors are the
benchmarks' (:mod:`turnout.tactics.priors`). The effects are those of :mod:`turnout.scoring.effects`:

    log mean = log benchmark(x) + Σ weight · effect + elasticity · log(demand index) + event

The last term is an effect of each past event, N(0, sd²) with sd learnt: what its rows share beyond everything that is
known of it. Without it ten rows of one event would count as ten witnesses of its theme. A new event has none; what it
does to the mean, a factor of e^(sd²/2), is measured on the counts (:func:`_raised`).

Per tactic, the size of the audience (``log_stretch``) is found on a grid, with a log-normal prior of sd
:data:`STRETCH_SD`; then everything is fitted once more on the stretched curves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from training import hierarchy
from training.calibration import NOISE_LOG_SD, PRIOR_EVENTS, SHARED_LOG_SD
from training.dataset import Dataset, columns_of, demand_index_of, expected
from training.experiments import effect_columns
from training.hierarchy import Covariate, Group, Members
from turnout import taxonomy
from turnout.curves import Tabulated
from turnout.scoring.demand import ORGANIC_GUESS, ORGANIC_GUESS_LOG_SD, Organic
from turnout.scoring.effects import OPEN_GROUPS, ORGANIC, PRIORS, TACTIC_GROUPS, Columns, Terms, terms
from turnout.scoring.overlap import Overlap, reach_of, usual_overlap
from turnout.scoring.parameters import NEW_SEGMENT, ResponseParameters, TacticHistory, stretch
from turnout.tactics import load_catalogue

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Spread of the log size of an audience against the benchmark's: a guess.
STRETCH_SD = 0.9
#: Demand moves registrations about in proportion, a guess: mean and sd of the elasticity.
DEMAND_ELASTICITY = (0.8, 0.4)

_SPREAD_SAMPLE = 4_000
_STRETCH_ROWS = 6
_STRETCH_SAMPLE = 300
_STRETCH_GRID = np.linspace(-2.5, 2.5, 21)
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
    whole, dataset = dataset, sampled(dataset)
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
    eta = data.eta(fitted)
    raised = _raised(data, data.base * np.exp(eta), fitted.overdispersion)
    means = data.base * np.exp(eta + raised)
    spreads = _Spreads(data, fitted)
    parameters = _parameters(dataset, whole, data, fitted, spreads, stretches)
    parameters = replace(
        parameters,
        effects=parameters.effects
        | {"organisation": {k: v + raised for k, v in parameters.effects["organisation"].items()}},
        overlap=_overlap(dataset, data, parameters, means),
    )
    organic = _organic(dataset, data, fitted, spreads)
    organic = replace(organic, level=organic.level + raised)
    if whole is not dataset:
        return Pooled(parameters, organic, pooled_means(parameters, whole))
    return Pooled(parameters, organic, means[: len(dataset.rows)])


def pooled_means(parameters: ResponseParameters, dataset: Dataset, trees: Floats | None = None) -> Floats:
    """Expected registrations of each row, shape (rows,); ``trees``: what trees add to their log."""
    rows = dataset.rows
    added = np.zeros(len(rows)) if trees is None else trees
    correction = parameters.log_correction(added, rows["demand_index"].to_numpy(dtype=np.float64))
    stretches = {t: h.log_stretch for t, h in parameters.tactics.items() if h.log_stretch}
    scale = parameters.log_scales(columns_of(rows), len(rows))
    return np.asarray(stretched_baseline(dataset, stretches) * np.exp(scale + correction))


#: More events than this add time and no accuracy: the effects of an event are known to a few per cent by then.
MOST_POOLED = 5_000
#: Of them the latest, and of each tactic the latest that used it.
_LATEST_POOLED = 1_500
_OF_EACH_TACTIC = 50


def sampled(dataset: Dataset) -> Dataset:
    """The events that effects are fitted to: all, or the latest and every n-th of those before them."""
    events = dataset.history.events
    if len(events) <= MOST_POOLED:
        return dataset
    older = len(events) - _LATEST_POOLED
    chosen = np.zeros(len(events), dtype=np.bool_)
    chosen[older:] = True
    chosen[np.linspace(0, older - 1, MOST_POOLED - _LATEST_POOLED).astype(np.int64)] = True
    rows = dataset.rows
    rare = rows.groupby("tactic_id", sort=False).tail(_OF_EACH_TACTIC)["event_id"]
    kept = events.index[chosen | events.index.isin(rare)]
    part = dataset.subset(rows["event_id"].isin(kept).to_numpy(dtype=np.bool_))
    return replace(part, history=replace(dataset.history, events=events.loc[kept]))


#: Imaginary registrations that hold the mean near the mode.
_HELD = 500.0


def _raised(data: _Stacked, means: Floats, phi: float) -> float:
    """From the mode of the effects to the mean of the counts, on the log scale: luck multiplies, so it raises means."""
    y = np.minimum(data.y, means + _OUTLIER * np.sqrt(means * (1 + phi * means)))
    total, expected_total = float((data.weights * y).sum()), float((data.weights * means).sum())
    return float(np.log((total + _HELD) / (expected_total + _HELD)))


def _overlap(dataset: Dataset, data: _Stacked, parameters: ResponseParameters, means: Floats) -> Overlap:
    known = dataset.history.events["organic_registrations"].notna()
    ids = np.concatenate([dataset.rows["event_id"].to_numpy(), known.index[known].to_numpy()])
    rows = len(ids)
    if not len(dataset.rows):
        return Overlap()
    columns = {name: column[:rows] for name, column in data.keys.items()}
    sizes = parameters.table.event_size(columns, rows) + parameters.demand_elasticity * data.demand.values[:rows]
    catalogue = load_catalogue()
    tactics = {key: catalogue.get(key) if key else None for key in set(columns["tactic_id"].tolist())}
    events = pd.factorize(ids)[0].astype(np.int64)
    return usual_overlap(means[:rows], reach_of(tactics, columns["tactic_id"]), events, sizes)


@dataclass(frozen=True, slots=True)
class _Stacked:
    """Rows of the dataset, one organic row per event whose organic count is known, then one per lift test.

    Attributes:
        keys: columns that :func:`turnout.scoring.effects.terms` reads, arrays of length (rows,).
        levels: per group, the keys that occur, in the order of the effects.
        origin: the day trends are counted from.
    """

    y: Floats
    base: Floats
    weights: Floats
    keys: Columns
    levels: dict[str, list[str]]
    groups: dict[str, Group | Members]
    demand: Covariate
    origin: date | None

    @classmethod
    def of(cls, dataset: Dataset) -> _Stacked:
        rows, events = dataset.rows, dataset.history.events
        known = events["organic_registrations"].notna().to_numpy()
        organic = events[known]
        lifts = dataset.lifts
        keys = stacked_columns(columns_of(rows), organic_columns(organic), effect_columns(lifts, rows))
        count = len(rows) + len(organic) + len(lifts)
        days = keys["event_date"].astype("datetime64[D]")
        origin = days.max().item() if count else None
        indices = (rows["demand_index"].to_numpy(dtype=np.float64), demand_index_of(events)[known], np.ones(len(lifts)))
        index = np.concatenate(indices)
        guess = [ORGANIC_GUESS_LOG_SD] * len(organic)
        sd = pd.Series([*rows["prior_log_sd"], *guess, *lifts["prior_log_sd"]], dtype=np.float64)
        own = sd.groupby(keys["tactic_id"]).median().to_dict()
        levels: dict[str, list[str]] = {}
        groups: dict[str, Group | Members] = {}
        for name, entries in terms(keys, count, origin, dataset.country).items():
            levels[name], matrix = _membership(name, entries, count)
            prior = PRIORS[name]
            spread = np.array([own[t] for t in levels[name]]) if name == "tactic" else prior.sd
            groups[name] = Members(matrix, spread, prior.mean, prior.learn, _blocks(name, levels[name]))
        event, shared = _events(dataset, organic, count)
        groups[EVENT] = Members(event, shared, learn=True)
        return cls(
            y=np.array([*rows["y"], *organic["organic_registrations"].clip(lower=0), *lifts["y"]], dtype=np.float64),
            base=np.array([*rows["baseline"], *([ORGANIC_GUESS] * len(organic)), *lifts["baseline"]], dtype=np.float64),
            weights=np.array([*rows["weight"], *([1.0] * len(organic)), *lifts["weight"]], dtype=np.float64),
            keys=keys,
            levels=levels,
            groups=groups,
            demand=Covariate(np.log(np.maximum(index, 1e-6)), *DEMAND_ELASTICITY),
            origin=origin,
        )

    @property
    def matrices(self) -> dict[str, sparse.csr_matrix]:
        return {n: g.matrix for n, g in self.groups.items() if isinstance(g, Members) and n != EVENT}

    def fit(self) -> hierarchy.Fit:
        return hierarchy.fit(self.y, self.base, self.groups, {"demand": self.demand}, weights=self.weights)

    def eta(self, fitted: hierarchy.Fit) -> Floats:
        eta = fitted.coefficients["demand"] * self.demand.values
        for name, matrix in self.matrices.items():
            eta = eta + matrix @ fitted.effects[name]
        return np.asarray(eta)

    def effects(self, fitted: hierarchy.Fit) -> dict[str, dict[str, float]]:
        """Group → key → effect."""
        return {name: dict(zip(keys, fitted.effects[name].tolist(), strict=True)) for name, keys in self.levels.items()}

    def stretched(self, dataset: Dataset, stretches: Mapping[str, float]) -> _Stacked:
        """The same with the benchmark read from stretched curves."""
        base = self.base.copy()
        base[: len(dataset.rows)] = stretched_baseline(dataset, stretches)
        if len(lifts := dataset.lifts):
            base[-len(lifts) :] = _stretched(lifts, lifts["curve"], stretches)
        return replace(self, base=base)


def organic_columns(events: pd.DataFrame) -> dict[str, Any]:
    """The columns of :func:`turnout.scoring.effects.terms` for the organic rows of ``events``."""
    names = events.rename(columns={"account": "organiser"})
    columns = {name: names[name].to_numpy() for name in _KEYS if name in names}
    audience = {}
    for name, vocabulary in AUDIENCE:
        audience[name] = np.empty(len(events), dtype=object)
        audience[name][:] = [tuple(i for i in listed if i in vocabulary) for listed in events[name]]
    organic = np.full(len(events), ORGANIC, dtype=object)
    return columns | audience | {"tactic_id": organic, "run_days": np.full(len(events), np.nan)}


_KEYS = (
    "tactic_id", "segment_id", "kind", "event_date", "organiser", "theme", "opens_days", "run_days", "price_ratio",
    "company_sizes", "job_titles",
)  # fmt: skip
AUDIENCE = (("company_sizes", taxonomy.company_sizes), ("job_titles", taxonomy.job_titles))


def stacked_columns(*parts: Columns) -> dict[str, Any]:
    """Columns of several frames below one another."""
    return {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in _KEYS}


EVENT = "event"
#: Prior spread of what all rows of one event share beyond every effect: a guess, learnt.
EVENT_SD = 0.15
#: Levels of an open group (themes, organisers), and on average of each tactic in it.
MOST_LEVELS = 250
#: So many of the latest events get an effect of their own.
MOST_EVENTS = 1_500


def _events(dataset: Dataset, organic: pd.DataFrame, rows: int) -> tuple[sparse.csr_matrix, float]:
    """One level per event, the latest :data:`MOST_EVENTS`: rows of an event err together, so they count less."""
    ids = np.concatenate([dataset.rows["event_id"].to_numpy(), organic.index.to_numpy()])
    latest = dataset.history.events.index.to_numpy()[-MOST_EVENTS:]
    codes = pd.Index(latest).get_indexer(ids)
    used = np.flatnonzero(codes >= 0)
    matrix = sparse.csr_matrix((np.ones(len(used)), (used, codes[used])), shape=(rows, len(latest)))
    return matrix, EVENT_SD


def _blocks(group: str, keys: Sequence[str]) -> Ints | None:
    """The tactic of each level, as a number; None for groups that all tactics share."""
    if group not in TACTIC_GROUPS:
        return None
    place = TACTIC_GROUPS[group]
    catalogue = {t.id: n for n, t in enumerate(load_catalogue(), start=1)} | {ORGANIC: 0}
    named = [k.split("|", 1)[0] if place == 0 else k.rsplit("|", 1)[-1] for k in keys]
    return np.array([catalogue[t] for t in named], dtype=np.int64)


def _membership(group: str, entries: Terms, rows: int) -> tuple[list[str], sparse.csr_matrix]:
    """The keys of a group and the weight of each in each row; in open groups '' is "not known", no level."""
    known = np.ones(len(entries.keys), dtype=np.bool_)
    if group in OPEN_GROUPS:
        known = entries.keys != ""
        # free texts never end: those seen least go without an effect of their own
        most = MOST_LEVELS * (len(load_catalogue()) if group in TACTIC_GROUPS else 1)
        counts = pd.Series(entries.keys[known]).value_counts()
        if len(counts) > most:
            known &= np.isin(entries.keys, counts.index[:most].to_numpy(dtype=object))
    codes, keys = pd.factorize(entries.keys[known], sort=True)
    shape = (rows, len(keys))
    return [str(k) for k in keys], sparse.csr_matrix(
        (entries.weights[known], (entries.rows[known], codes)), shape=shape
    )


def stretched_baseline(dataset: Dataset, stretches: Mapping[str, float]) -> Floats:
    """The benchmark of each row over audiences of another size."""
    return _stretched(dataset.rows, dataset.curves, stretches)


def _stretched(rows: pd.DataFrame, curves: Iterable[Any], stretches: Mapping[str, float]) -> Floats:
    cells = zip(rows["tactic_id"], curves, rows["x"], rows["baseline"], strict=True)
    return np.array([
        expected(stretch(curve, stretches[tactic]), x) if tactic in stretches else base
        for tactic, curve, x, base in cells
    ])  # fmt: skip


def _stretches(dataset: Dataset, data: _Stacked, fitted: hierarchy.Fit) -> dict[str, float]:
    """Posterior mean of each tactic's log audience size, on a grid, its level fitted anew at each point."""
    found: dict[str, float] = {}
    phi, eta = fitted.overdispersion, data.eta(fitted)
    tactic_codes = np.asarray(data.matrices["tactic"].argmax(axis=1)).ravel()[: len(dataset.rows)]
    x_all = dataset.rows["x"].to_numpy(dtype=np.float64)
    for position, tactic in enumerate(data.levels["tactic"]):
        chosen = np.flatnonzero(tactic_codes == position)
        if len(chosen) < _STRETCH_ROWS or isinstance(dataset.curves[chosen[0]], Tabulated):
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


class _Spreads:
    """Posterior spreads of the log scale at events like those of the data, averaged over them."""

    def __init__(self, data: _Stacked, fitted: hierarchy.Fit) -> None:
        chosen = np.arange(len(data.y))
        if len(chosen) > _SPREAD_SAMPLE:
            chosen = np.linspace(0, len(chosen) - 1, _SPREAD_SAMPLE).astype(np.int64)
        event = data.groups[EVENT]
        nothing = sparse.csr_matrix((len(data.y), event.levels))
        columns = {**data.matrices, EVENT: nothing, "demand": sparse.csr_matrix(data.demand.values[:, None])}
        self.tactics, self.segments = data.keys["tactic_id"][chosen], data.keys["segment_id"][chosen]
        self.whole = fitted.variances(sparse.hstack([m[chosen] for m in columns.values()], format="csr"))
        # what is left of a height where the tactic has no history
        without = [m[chosen] * (0.0 if n in _OF_TACTIC else 1.0) for n, m in columns.items()]
        self.level = fitted.variances(sparse.hstack(without, format="csr"))
        # a distinction that the data do not make (one account, no themes) leaves nothing unknown
        self.new = {name: float(np.mean(sd**2)) if len(sd) else 0.0 for name, sd in fitted.sd.items()}

    def _table(
        self, variance: Floats, chosen: NDArray[np.bool_], segments: Sequence[str], new: float
    ) -> dict[str, float]:
        everywhere = float(variance[chosen].mean()) if chosen.any() else 0.0
        table = {}
        for segment in segments:
            here = chosen & (self.segments == segment)
            value = variance[here].mean() if here.any() else everywhere + self.new["tactic_segment"]
            table[segment] = float(np.sqrt(value))
        return table | {NEW_SEGMENT: float(np.sqrt(everywhere + new))}

    def of(self, tactic: str, segments: Sequence[str], *, extra: float = 0.0) -> dict[str, float]:
        """By segment, a new one under :data:`NEW_SEGMENT`; ``extra`` variance is added."""
        new = self.new["segment"] + self.new["tactic_segment"]
        return self._table(self.whole + extra, self.tactics == tactic, segments, new)

    def of_new_tactic(self, segments: Sequence[str]) -> dict[str, float]:
        new = self.new["segment"]
        used = self.tactics != ORGANIC
        return self._table(self.level + self.new["tactic_segment"], used, segments, new)


def _amounts(x: Floats) -> tuple[float, float, float, float]:
    """Least, mean, most and relative spread of the amounts a tactic was tried at."""
    mean = float(x.mean())
    return float(x.min()), mean, float(x.max()), float(x.std()) / max(mean, 1e-9)


_OF_TACTIC = tuple(TACTIC_GROUPS)


def _parameters(
    dataset: Dataset,
    whole: Dataset,
    data: _Stacked,
    fitted: hierarchy.Fit,
    spreads: _Spreads,
    stretches: Mapping[str, float],
) -> ResponseParameters:
    """``dataset`` is what was fitted to, ``whole`` what the answers may say they rest on."""
    rows, segments = whole.rows, data.levels["segment"]
    effects = data.effects(fitted)
    own = effects.pop("tactic")
    tactics: dict[str, TacticHistory] = {}
    for tactic, group in rows.groupby("tactic_id", sort=True):
        dates = group["event_date"]
        tactics[str(tactic)] = TacticHistory(
            log_scale=own[str(tactic)],
            log_sd=spreads.of(str(tactic), segments),
            noise_log_sd=NOISE_LOG_SD,
            events=int(group["event_id"].nunique()),
            segments={str(k): int(v) for k, v in group.groupby("segment_id")["event_id"].nunique().items()},
            first=dates.min().date(),
            last=dates.max().date(),
            log_stretch=stretches.get(str(tactic), 0.0),
            amounts=_amounts(group["x"].to_numpy(dtype=np.float64)),
        )
    # known from lift tests alone
    effects["tactic"] = {tactic: own[tactic] for tactic in sorted({*dataset.lifts["tactic_id"]} - {*tactics})}
    return ResponseParameters(
        feature_names=dataset.feature_names,
        tactics=tactics,
        effects=effects,
        effect_sd={name: float(np.sqrt(variance)) for name, variance in spreads.new.items()},
        trend_origin=data.origin,
        country=dataset.country,
        level_log_sd=spreads.of_new_tactic(segments),
        demand_elasticity=fitted.coefficients["demand"],
        noise_log_sd=NOISE_LOG_SD,
        shared_log_sd=_shared_log_sd(data, fitted),
        overdispersion=fitted.overdispersion,
        trained_until=None if rows.empty else rows["event_date"].max().date(),
        is_simulated_data=bool(rows["is_simulated"].any()),
        rows=len(rows),
        events=int(rows["event_id"].nunique()),
    )


#: What a new event adds to the shock seen in sample: level and season of a later day. A guess.
_LATER_LOG_SD = 0.07


def _shared_log_sd(data: _Stacked, fitted: hierarchy.Fit) -> float:
    """The shock that an event's rows share, as the fit sees it; with few events near the default."""
    if not len(fitted.sd[EVENT]):
        return SHARED_LOG_SD
    in_sample = float(np.mean(fitted.sd[EVENT] ** 2)) + _LATER_LOG_SD**2
    shared = data.groups[EVENT]
    assert isinstance(shared, Members)
    events = float(len(np.unique(shared.matrix.indices)))
    trust = events / (events + PRIOR_EVENTS)
    return float(np.sqrt(trust * in_sample + (1 - trust) * SHARED_LOG_SD**2))


def _organic(dataset: Dataset, data: _Stacked, fitted: hierarchy.Fit, spreads: _Spreads) -> Organic:
    own = data.keys["tactic_id"] == ORGANIC
    if not own.any():
        return Organic()
    mean = (data.base * np.exp(data.eta(fitted)))[own]
    overdispersion = hierarchy.overdispersion(data.y[own], mean, data.weights[own], start=0.15)
    # overdispersion holds the shared shock, which the predictive distribution adds by itself
    noise2 = max(float(np.log1p(overdispersion)) - SHARED_LOG_SD**2, _SMALLEST_LOG_SD**2)
    events = dataset.history.events
    known = events[events["organic_registrations"].notna()]
    effects = data.effects(fitted)
    return Organic(
        level=float(np.log(ORGANIC_GUESS) + effects.pop("tactic")[ORGANIC]),
        effects=effects,
        effect_sd={name: float(np.sqrt(variance)) for name, variance in spreads.new.items()},
        trend_origin=data.origin,
        country=dataset.country,
        elasticity=fitted.coefficients["demand"],
        log_sd=spreads.of(ORGANIC, data.levels["segment"], extra=noise2),
        events={str(k): int(v) for k, v in known.groupby("segment_id").size().items()},
    )


@dataclass(frozen=True, slots=True)
class OrganicForecast:
    """Expected organic registrations and the spread of their log, shape (events,)."""

    mean: Floats
    log_sd: Floats


def forecast_organic(organic: Organic, events: pd.DataFrame, demand_index: Floats) -> OrganicForecast:
    """The baseline of each event at its demand index."""
    columns = organic_columns(events)
    log_mean = organic.log_means(columns, demand_index)
    return OrganicForecast(np.exp(log_mean), organic.spreads(columns, [str(s) for s in events["segment_id"]]))
