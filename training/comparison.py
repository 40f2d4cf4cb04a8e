"""Two versions of a model asked for the same events, none of which either was fitted to.

Which events, and whose predictions of them:

* **later**: events after the champion's last one. The champion as registered, loaded from the registry, is asked for
  them; the challenger was fitted to them, so its *recipe* is fitted once more to the events before, and that is asked.
  Both then know the same events. Of demand models, what is asked is how many come without any tactic (``organic``):
  the part of an event's registrations that is theirs alone. Where there are fewer than :data:`FEWEST` such events,
* **recorded**: events that both versions' backtests held out. Both predictions were written down when the versions were
  made and are compared with one outcome: the one known today, not what was known then. The histories differ by a few
  events only, so both backtests were cut at nearly the same days; those of demand models by steps of four weeks, whose
  days never change.

The loss of an event is |√actual − √predicted|, of the sum of its tactics and of each of them in equal parts: the square
root gives large and small events a like say. Losses are paired by event, because events differ far more than models do:

* the interval of the gain is a percentile bootstrap over events (Efron & Tibshirani 1993, ch. 13);
* the p-values flip the signs of the paired differences at random (Fisher's randomisation test, exact for any
  distribution that is symmetric under "no difference"; with many events by its normal limit).

"Better" needs both: p <= :data:`ALPHA` and a gain of at least :data:`LEAST_GAIN`, so that a thousand events do not
promote a change that nobody would notice.
"""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray

from training import registry as models
from training.calibration import standardised
from training.dataset import Dataset, build
from training.estimator import Fitted, fit
from training.registry import ModelRef
from turnout import registry
from turnout.errors import NotReadyError
from turnout.scoring import ResponseModel
from turnout.settings import Settings

log = structlog.get_logger(__name__)

Floats = NDArray[np.float64]
Verdict = Literal["better", "worse", "as_good", "too_few"]

#: One-sided level of "beyond noise".
ALPHA = 0.05
#: Share of the champion's loss that a gain must reach to be worth a change.
LEAST_GAIN = 0.01
#: Fewer events than this decide nothing.
FEWEST = 8
#: Share of the champion's loss by which "as good" may still turn out worse (lower end of the 90 % interval).
MARGIN = 0.10
#: A label counts as restated when it moved by more than this.
_RESTATED = 0.02
_RESAMPLES = 2_000
_EXACT_UP_TO = 400
_Z90 = 1.6448536269514722


@dataclass(frozen=True, slots=True)
class Paired:
    """The paired test of two series of losses.

    Attributes:
        events: pairs compared.
        gain: mean(champion − challenger) as a share of the champion's mean loss; positive: the challenger is better.
        low, high: 90 % interval of the gain.
        p_better, p_worse: one-sided p-values of "no difference" against either.
    """

    events: int
    gain: float
    low: float
    high: float
    p_better: float
    p_worse: float

    def verdict(self, alpha: float = ALPHA) -> Verdict:
        if self.events < FEWEST:
            return "too_few"
        if self.p_better <= alpha and self.gain >= LEAST_GAIN:
            return "better"
        if self.p_worse <= alpha and self.gain <= -LEAST_GAIN:
            return "worse"
        return "as_good"


def paired_test(champion: Floats, challenger: Floats, *, seed: int = 0) -> Paired:
    """Compare losses (lower is better) of the same events in the same order; pairs that are not finite are left out."""
    difference = np.asarray(champion, dtype=np.float64) - np.asarray(challenger, dtype=np.float64)
    known = np.isfinite(difference)
    difference, level = difference[known], np.asarray(champion, dtype=np.float64)[known]
    n = len(difference)
    if n == 0:
        return Paired(0, 0.0, 0.0, 0.0, 1.0, 1.0)
    scale = max(float(level.mean()), 1e-9)
    mean = float(difference.mean())
    if not np.any(difference):
        return Paired(n, 0.0, 0.0, 0.0, 1.0, 1.0)
    if n > _EXACT_UP_TO:
        from scipy.special import ndtr

        half = _Z90 * float(difference.std(ddof=1)) / math.sqrt(n)
        low, high = mean - half, mean + half
        z = mean / (math.sqrt(float((difference**2).mean())) / math.sqrt(n))
        p_better, p_worse = float(ndtr(-z)), float(ndtr(z))
    else:
        rng = np.random.default_rng(seed)
        drawn = difference[rng.integers(0, n, (_RESAMPLES, n))].mean(axis=1)
        low, high = (float(q) for q in np.quantile(drawn, (0.05, 0.95)))
        flipped = (rng.integers(0, 2, (_RESAMPLES, n)) * 2 - 1) @ difference / n
        # the observed signs are one of the possible ones: never a p of zero
        p_better = (1 + int((flipped >= mean - 1e-12).sum())) / (_RESAMPLES + 1)
        p_worse = (1 + int((flipped <= mean + 1e-12).sum())) / (_RESAMPLES + 1)
    return Paired(n, mean / scale, low / scale, high / scale, p_better, p_worse)


@dataclass(frozen=True, slots=True)
class Side:
    """One version on a set of events.

    Attributes:
        loss: mean loss.
        mae, wape, bias: of event totals; None where nothing came.
        coverage_90: share of tactic results within their 90 % intervals; None where intervals were not recorded.
    """

    loss: float
    mae: float
    wape: float | None
    bias: float | None
    coverage_90: float | None


@dataclass(frozen=True, slots=True)
class Segment:
    """Both versions on the events of one segment."""

    segment_id: str
    test: Paired
    champion: Side
    challenger: Side
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two versions were worth on the same events. :meth:`as_dict` is plain JSON.

    Attributes:
        basis: ``later``, ``recorded`` or ``none``: which events, and whose predictions of them.
        test, by_segment: the tests. Segments are tested at ``ALPHA / segments`` (Bonferroni).
        registered: the challenger as registered, which knows the later events, against the champion, which does not;
            None without later events. Only losing this one means anything.
        notes: what a reader must know of the data, one sentence each.
    """

    name: str
    champion: str
    challenger: str
    basis: str
    test: Paired
    champion_side: Side | None
    challenger_side: Side | None
    verdict: Verdict
    by_segment: list[Segment] = field(default_factory=list)
    registered: Paired | None = None
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        """The measured difference in words."""
        test = self.test
        lower = "lower" if test.gain >= 0 else "higher"
        return (
            f"loss {abs(test.gain):.1%} {lower} than the champion's on the same {test.events} events "
            f"(90 % interval of the gain {test.low:+.1%} to {test.high:+.1%})"
        )


def compare(settings: Settings, champion: ModelRef, challenger: ModelRef, *, seed: int = 0) -> Comparison:
    """Compare two registered versions of one model on events that neither was fitted to."""
    notes: list[str] = []
    rows, registered, basis = pd.DataFrame(), None, "none"
    ours, theirs = recorded(settings, challenger), recorded(settings, champion)
    if len(_later_events(ours, champion)) >= FEWEST:
        ask = _asked_again if challenger.name == registry.RESPONSE else _demand_asked_again
        try:
            asked, lost = ask(settings, champion, challenger, seed)
            if asked["event_id"].nunique() >= FEWEST:
                rows, registered, basis = asked, lost, "later"
        except NotReadyError as error:
            notes.append(f"the champion cannot be asked again ({error}); recorded predictions are compared")
    if ours is not None and theirs is not None:
        notes += _restated(theirs, ours)
        if basis == "none":
            rows = _recorded_pairs(theirs, ours)
            basis = "none" if rows.empty else "recorded"
    found = _measure(rows, champion, challenger, seed)
    return replace(found, basis=basis, registered=registered, notes=[*notes, *found.notes])


# --- the events and their predictions ---------------------------------------------------------------------------------


def recorded(settings: Settings, ref: ModelRef) -> pd.DataFrame | None:
    """Held-out predictions that a version's own backtest wrote down; None where it had nothing to hold out.

    Returns:
        event_id, part (tactic, or '' for an event's total), segment_id, event_date, y, mean, log_sd.
    """
    table = models.read_table(settings, ref.run_id, "backtest.csv")
    if table is None:
        return None
    events = pd.read_csv(io.StringIO(table))
    if events.empty:
        return None
    rows_table = models.read_table(settings, ref.run_id, "backtest_rows.csv")
    if rows_table is None:
        found = pd.DataFrame({
            "event_id": events["event_id"], "part": "", "segment_id": events.get("segment_id", ""),
            "y": events["actual"], "mean": events["predicted"], "log_sd": np.nan,
        })  # fmt: skip
    else:
        rows = pd.read_csv(io.StringIO(rows_table))
        found = pd.DataFrame({
            "event_id": rows["event_id"], "part": rows["tactic_id"], "segment_id": rows["segment_id"],
            "y": rows["y"], "mean": rows["mean"], "log_sd": np.hypot(rows["log_sd"], rows["shared_log_sd"]),
        })  # fmt: skip
    dates = events.drop_duplicates("event_id").set_index("event_id")["event_date"]
    found["event_date"] = pd.to_datetime(found["event_id"].map(dates))
    found = found.dropna(subset=["y", "mean"])
    return None if found.empty else found


def _later_events(ours: pd.DataFrame | None, champion: ModelRef) -> NDArray[np.object_]:
    """Events of the challenger's backtest that came after everything the champion knows."""
    if ours is None:
        return np.zeros(0, dtype=object)
    since = pd.Timestamp(champion.trained_until) if champion.trained_until else pd.Timestamp.min
    return np.asarray(ours.loc[ours["event_date"] > since, "event_id"].unique(), dtype=object)


def _asked_again(
    settings: Settings, champion: ModelRef, challenger: ModelRef, seed: int
) -> tuple[pd.DataFrame, Paired]:
    """The champion as registered and the challenger's recipe, both knowing the events up to the champion's last one.

    Returns:
        The pairs, and the challenger as registered against the champion.
    """
    model, new = _loaded(settings, champion), _loaded(settings, challenger)
    until = date.fromisoformat(challenger.trained_until or date.max.isoformat())
    dataset = build(settings, until + timedelta(days=1))
    cut = model.trained_until + timedelta(days=1) if model.trained_until else date.min
    earlier = (
        dataset.before(cut) if model.trained_until else dataset.subset(np.zeros(len(dataset.rows), dtype=np.bool_))
    )
    later = dataset.subset((dataset.rows["event_date"] >= pd.Timestamp(cut)).to_numpy(dtype=np.bool_))
    refitted = fit(earlier, seed=settings.random_seed, threads=settings.threads)
    then, now = _as_registered(model, later), _as_registered(new, later)
    losses = [event_losses(_pairs(later, then, now), c).to_numpy(dtype=np.float64) for c in ("champion", "challenger")]
    return _pairs(later, then, _answers(refitted, later)), paired_test(*losses, seed=seed)


def _demand_asked_again(
    settings: Settings, champion: ModelRef, challenger: ModelRef, seed: int
) -> tuple[pd.DataFrame, Paired]:
    """The same of demand models: organic registrations of the later events, the recipe fitted by one step of its own.

    Past demand is what was forecast at the time, as the feature table holds it.
    """
    from training import demand
    from training.pooling import forecast_organic
    from turnout.scoring import DemandModel

    sides = [
        DemandModel.load(registry.version_directory(settings, r.name, r.version), r.name, r.version)
        for r in (champion, challenger)
    ]
    until = date.fromisoformat(challenger.trained_until or date.max.isoformat())
    dataset = build(settings, until + timedelta(days=1))
    cut = sides[0].trained_until + timedelta(days=1) if sides[0].trained_until else date.min
    events = dataset.history.events
    later = events[(events["event_date"] >= pd.Timestamp(cut)) & events["organic_registrations"].notna()]
    if later.empty or not sides[0].trained_until:
        return pd.DataFrame({"event_id": []}), paired_test(np.zeros(0), np.zeros(0))
    step = demand.step_at(dataset, cut, last=later["event_date"].max().date(), settings=settings)
    answers = [
        forecast_organic(
            model.parameters.organic,
            later,
            np.array([model.index(s, d.date()) for s, d in zip(later["segment_id"], later["event_date"], strict=True)]),
        ).mean
        for model in sides
    ]
    again = forecast_organic(step.organic, later, demand.index_of(step.outlook, later)).mean
    unknown = np.full(len(later), np.nan)  # widths were never calibrated on organic registrations alone
    pairs = pd.DataFrame({
        "event_id": later.index.to_numpy(), "segment_id": later["segment_id"].to_numpy(),
        "y": later["organic_registrations"].to_numpy(dtype=np.float64), "champion": np.maximum(answers[0], 0.0),
        "challenger": np.maximum(again, 0.0), "z_champion": unknown, "z_challenger": unknown,
    })  # fmt: skip
    both = pairs.assign(challenger=np.maximum(answers[1], 0.0))
    losses = [event_losses(both, side).to_numpy(dtype=np.float64) for side in ("champion", "challenger")]
    return pairs, paired_test(*losses, seed=seed)


def _loaded(settings: Settings, ref: ModelRef) -> ResponseModel:
    return ResponseModel.load(registry.version_directory(settings, ref.name, ref.version), ref.name, ref.version)


def _as_registered(model: ResponseModel, dataset: Dataset) -> tuple[Floats, Floats]:
    return _answers(Fitted(model.parameters, model.booster), replace(dataset, feature_names=model.feature_names))


def _answers(fitted: Fitted, dataset: Dataset) -> tuple[Floats, Floats]:
    """Expected registrations of each row, and the spread of their log."""
    parameters, rows = fitted.parameters, dataset.rows
    noise = np.array([
        parameters.tactics[t].noise_log_sd if t in parameters.tactics else parameters.noise_log_sd
        for t in rows["tactic_id"]
    ])  # fmt: skip
    spread = np.sqrt(fitted.height_log_sds(dataset) ** 2 + noise**2 + parameters.shared_log_sd**2)
    return np.maximum(fitted.means(dataset), 0.0), spread


def _pairs(dataset: Dataset, champion: tuple[Floats, Floats], challenger: tuple[Floats, Floats]) -> pd.DataFrame:
    rows = dataset.rows
    y = rows["y"].to_numpy(dtype=np.float64)
    return pd.DataFrame({
        "event_id": rows["event_id"], "segment_id": rows["segment_id"], "y": y,
        "champion": champion[0], "challenger": challenger[0],
        "z_champion": _z(y, *champion), "z_challenger": _z(y, *challenger),
    })  # fmt: skip


def _z(y: Floats, mean: Floats, log_sd: Floats) -> Floats:
    """Where the result fell in its distribution, in normal units; NaN where no distribution was recorded."""
    z = np.full(len(y), np.nan)
    known = np.isfinite(log_sd)
    if known.any():
        z[known] = standardised(y[known], np.maximum(mean[known], 1e-6), log_sd[known])
    return z


def _recorded_pairs(theirs: pd.DataFrame, ours: pd.DataFrame) -> pd.DataFrame:
    """Rows that both recorded, with the newer one's outcome."""
    both = ours.merge(theirs[["event_id", "part", "mean", "log_sd"]], on=["event_id", "part"], suffixes=("", "_then"))
    y = both["y"].to_numpy(dtype=np.float64)
    champion = both["mean_then"].to_numpy(dtype=np.float64), both["log_sd_then"].to_numpy(dtype=np.float64)
    challenger = both["mean"].to_numpy(dtype=np.float64), both["log_sd"].to_numpy(dtype=np.float64)
    return pd.DataFrame({
        "event_id": both["event_id"], "segment_id": both["segment_id"].fillna(""), "y": y,
        "champion": np.maximum(champion[0], 0.0), "challenger": np.maximum(challenger[0], 0.0),
        "z_champion": _z(y, *champion), "z_challenger": _z(y, *challenger),
    })  # fmt: skip


def _restated(theirs: pd.DataFrame, ours: pd.DataFrame) -> list[str]:
    """A warning where outcomes changed after the champion was made."""
    both = ours.merge(theirs[["event_id", "part", "y"]], on=["event_id", "part"], suffixes=("", "_then"))
    if both.empty:
        return []
    by_event = both.groupby("event_id")[["y", "y_then"]].sum()
    moved = by_event[(by_event["y"] - by_event["y_then"]).abs() > _RESTATED * by_event["y_then"].clip(lower=1.0)]
    if moved.empty:
        return []
    before, after = float(moved["y_then"].sum()), float(moved["y"].sum())
    change = f", {after / before - 1:+.0%} in all" if before > 0 else ""
    return [
        f"outcomes of {len(moved)} of {len(by_event)} compared events were restated after the champion was made{change}"
    ]


# --- measuring --------------------------------------------------------------------------------------------------------


def event_losses(rows: pd.DataFrame, column: str) -> pd.Series:
    """Loss per event of the predictions in ``column``: of the sum, and the mean over the parts, in equal shares."""
    sums = rows.groupby("event_id", sort=True)[["y", column]].sum()
    total = (np.sqrt(sums["y"]) - np.sqrt(sums[column])).abs()
    each = (np.sqrt(rows["y"].clip(lower=0)) - np.sqrt(rows[column].clip(lower=0))).abs()
    losses: pd.Series = (total + each.groupby(rows["event_id"]).mean().reindex(total.index)) / 2
    return losses


def _side(rows: pd.DataFrame, column: str) -> Side:
    sums = rows.groupby("event_id", sort=True)[["y", column]].sum()
    error, actual = (sums[column] - sums["y"]).to_numpy(dtype=np.float64), float(sums["y"].sum())
    z = rows[f"z_{column}"].dropna().abs()
    return Side(
        loss=float(event_losses(rows, column).mean()),
        mae=float(np.abs(error).mean()),
        wape=float(np.abs(error).sum()) / actual if actual > 0 else None,
        bias=float(error.sum()) / actual if actual > 0 else None,
        coverage_90=float((z <= _Z90).mean()) if len(z) else None,
    )


def _test(rows: pd.DataFrame, seed: int) -> Paired:
    losses = [event_losses(rows, side).to_numpy(dtype=np.float64) for side in ("champion", "challenger")]
    return paired_test(*losses, seed=seed)


def _measure(rows: pd.DataFrame, champion: ModelRef, challenger: ModelRef, seed: int) -> Comparison:
    if rows.empty:
        nothing = paired_test(np.zeros(0), np.zeros(0))
        return Comparison(challenger.name, champion.version, challenger.version, "none", nothing, None, None, "too_few")
    test = _test(rows, seed)
    groups = [(str(key), group) for key, group in rows.groupby("segment_id", sort=True) if str(key)]
    segments = []
    for key, group in groups:
        own = _test(group, seed)
        sides = _side(group, "champion"), _side(group, "challenger")
        segments.append(Segment(key, own, *sides, own.verdict(ALPHA / len(groups))))
    worse = [s.segment_id for s in segments if s.verdict == "worse"]
    return Comparison(
        name=challenger.name,
        champion=champion.version,
        challenger=challenger.version,
        basis="none",
        test=test,
        champion_side=_side(rows, "champion"),
        challenger_side=_side(rows, "challenger"),
        verdict=test.verdict(),
        by_segment=segments,
        notes=[f"worse beyond noise in {', '.join(worse)}"] if worse else [],
    )
