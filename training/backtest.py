"""How well the response model would have done: rolling origin by event date, metrics on later events alone.

The history is cut at several days. For each cut everything (pooling, trees, organic baseline, show-up, interval widths)
is fitted to the events before it and asked for the events up to the next cut. Interval widths of a fold come from the
held-out predictions of the folds before it, so their coverage is measured on events that had no part in setting them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.attendance import show_up_rates
from training.calibration import Spread, calibrate, standardised
from training.dataset import Dataset, History, demand_index_of
from training.estimator import Fitted, fit
from training.pooling import forecast_organic
from training.yardsticks import YARDSTICKS, predictions
from turnout.scoring.demand import ORGANIC_GUESS
from turnout.scoring.predictive import Chosen, GoalScale, predictive
from turnout.scoring.published import published_show_up

Floats = NDArray[np.float64]

#: Shares of the events, by date, at which the history is cut.
CUTS: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
#: Fewer events than this before the first cut, and nothing can be measured.
FEWEST_EVENTS = 10
#: Levels at which the predictive distribution of an event's registrations is kept.
LEVELS: Floats = (np.arange(200) + 0.5) / 200
_Z = {80: 1.2815515655446004, 90: 1.6448536269514722}


@dataclass(frozen=True, slots=True)
class Backtest:
    """Held-out predictions.

    Attributes:
        rows: per event and tactic: event_id, tactic_id, segment_id, fold, y, mean, post_log_sd, log_sd, shared_log_sd,
            and one column per yardstick.
        events: per event: event_date, segment_id, fold, registrations, predicted, organic, organic_mean,
            organic_log_sd, p05 … p95, target, goal_probability, attendees, attendees_p10, attendees_p90,
            in_sample_shared (the shared shock as the fit itself saw it), and per yardstick its total.
        spread: calibrated on all folds: what a model fitted to everything should use.
        quantiles: of each event's predictive distribution, index event_id, columns :data:`LEVELS`. They answer how
            likely any goal was, not only the organiser's.
    """

    rows: pd.DataFrame
    events: pd.DataFrame
    spread: Spread = field(default_factory=Spread)
    quantiles: pd.DataFrame = field(default_factory=pd.DataFrame)


def run(
    dataset: Dataset,
    *,
    seed: int,
    threads: int,
    cuts: tuple[float, ...] = CUTS,
    progress: Callable[[str], None] | None = None,
) -> Backtest:
    """Backtest the recipe on ``dataset``; empty frames where the history is too short."""
    rows_seen: list[pd.DataFrame] = []
    events_seen: list[pd.DataFrame] = []
    quantiles: list[pd.DataFrame] = []
    events = dataset.history.events
    used = events[events.index.isin(dataset.rows["event_id"])]
    if len(used) * cuts[0] < FEWEST_EVENTS:
        return Backtest(_empty(_ROWS), _empty(_EVENTS).set_index("event_id"))
    days = [used["event_date"].iloc[int(len(used) * share)] for share in cuts]
    ends = [*days[1:], events["event_date"].max() + pd.Timedelta(days=1)]
    for fold, (start, end) in enumerate(zip(days, ends, strict=True)):
        spread = calibrate(pd.concat(rows_seen), pd.concat(events_seen)) if rows_seen else None
        if progress is not None:
            progress(f"backtest {fold + 1}/{len(days)}: events from {start.date()}")
        found = hold_out(dataset, start, end, seed=seed, threads=threads, spread=spread, fold=fold)
        if found is None:
            continue
        rows_seen.append(found.rows)
        events_seen.append(found.events)
        quantiles.append(found.quantiles)
    if not rows_seen:
        return Backtest(_empty(_ROWS), _empty(_EVENTS).set_index("event_id"))
    all_rows, all_events = pd.concat(rows_seen, ignore_index=True), pd.concat(events_seen)
    return Backtest(all_rows, all_events, calibrate(all_rows, all_events), pd.concat(quantiles))


def hold_out(
    dataset: Dataset,
    start: pd.Timestamp,
    end: pd.Timestamp,
    *,
    seed: int,
    threads: int,
    spread: Spread | None = None,
    fold: int = 0,
) -> Backtest | None:
    """One fold: fitted to the events before ``start``, asked for those in [start, end).

    Args:
        spread: interval widths, from events that are not asked for; default what the fit itself says of them.

    Returns:
        ``None`` where nothing is asked for. With nothing to fit to, the answers are the benchmark's.
    """
    earlier = dataset.before(start.date())
    later = dataset.subset(
        ((dataset.rows["event_date"] >= start) & (dataset.rows["event_date"] < end)).to_numpy(dtype=np.bool_)
    )
    if later.rows.empty:
        return None
    fitted = fit(earlier, seed=seed, threads=threads)
    in_sample = fitted.parameters.shared_log_sd
    spread = spread or Spread(shared=in_sample)
    fitted = fitted.with_spread(spread)
    rows = _predict_rows(fitted, spread, earlier, later, fold, seed)
    quantiles: dict[str, Floats] = {}
    events = _predict_events(fitted, earlier.history, dataset.history, rows, fold, quantiles)
    events["in_sample_shared"] = in_sample
    return Backtest(rows, events, spread, pd.DataFrame.from_dict(quantiles, orient="index", columns=LEVELS))


_ROWS = (
    "event_id",
    "tactic_id",
    "segment_id",
    "fold",
    "y",
    "mean",
    "post_log_sd",
    "log_sd",
    "shared_log_sd",
    *YARDSTICKS,
)
_EVENTS = (
    "event_id", "event_date", "segment_id", "fold", "registrations", "predicted", "organic", "organic_mean",
    "organic_log_sd", "p05", "p10", "p50", "p90", "p95", "target", "goal_probability", "goal_share", "goal_offset",
    "goal_slope", "attendees", "attendees_p10", "attendees_p90", "in_sample_shared", *YARDSTICKS,
)  # fmt: skip


def _empty(columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=object if name.endswith("_id") else np.float64) for name in columns})


def _predict_rows(
    fitted: Fitted, spread: Spread, earlier: Dataset, later: Dataset, fold: int, seed: int
) -> pd.DataFrame:
    post = fitted.height_log_sds(later)
    noise = np.array([spread.of(t) for t in later.rows["tactic_id"]])
    return pd.DataFrame(
        {
            "event_id": later.rows["event_id"].to_numpy(),
            "tactic_id": later.rows["tactic_id"].to_numpy(),
            "segment_id": later.rows["segment_id"].to_numpy(),
            "fold": fold,
            "y": later.rows["y"].to_numpy(dtype=np.float64),
            "mean": fitted.means(later),
            "post_log_sd": post,
            "log_sd": np.hypot(post, noise),
            "shared_log_sd": fitted.parameters.shared_log_sd,
            **predictions(earlier, later, seed=seed),
        }
    )


def _predict_events(
    fitted: Fitted, earlier: History, whole: History, rows: pd.DataFrame, fold: int, quantiles: dict[str, Floats]
) -> pd.DataFrame:
    """The events of one fold; adds each one's :data:`LEVELS` to ``quantiles``."""
    rates = show_up_rates(earlier.events)
    by_event = {str(key): group for key, group in rows.groupby("event_id", sort=False)}
    events = whole.events.loc[list(by_event)]
    baseline = forecast_organic(fitted.organic, events, demand_index_of(events))
    records: list[dict[str, Any]] = []
    for (event_id, event), mean, log_sd in zip(
        events.to_dict("index").items(), baseline.mean, baseline.log_sd, strict=True
    ):
        group = by_event[str(event_id)]
        target = event["target_registrations"]
        chosen = zip(group["tactic_id"], group["mean"], group["log_sd"], strict=True)
        outcome = predictive(
            [Chosen(t, float(m), float(s)) for t, m, s in chosen],
            organic=float(mean),
            organic_log_sd=float(log_sd),
            shared_log_sd=fitted.parameters.shared_log_sd,
            show_up=rates.get(event["kind"]) or published_show_up(event["kind"]),
            target=1 if pd.isna(target) else int(target),
            goal=GoalScale(fitted.parameters.goal_offset, fitted.parameters.goal_slope),
        )
        quantiles[str(event_id)] = np.quantile(outcome.draws, LEVELS).astype(np.float32)
        p05, p10, p50, p90, p95 = np.quantile(outcome.draws, (0.05, 0.1, 0.5, 0.9, 0.95))
        records.append(
            {
                "event_id": event_id,
                "event_date": event["event_date"].date().isoformat(),
                "segment_id": event["segment_id"],
                "fold": fold,
                "registrations": event["registrations"],
                "predicted": float(group["mean"].sum() + mean),
                "organic": event["organic_registrations"],
                "organic_mean": float(mean),
                "organic_log_sd": float(log_sd),
                "p05": p05, "p10": p10, "p50": p50, "p90": p90, "p95": p95,
                "target": target,
                "goal_probability": np.nan if pd.isna(target) else outcome.goal_probability,
                "goal_share": np.nan if pd.isna(target) else outcome.goal_share,
                "goal_offset": fitted.parameters.goal_offset,
                "goal_slope": fitted.parameters.goal_slope,
                "attendees": event["attendees"],
                "attendees_p10": outcome.attendees.p10,
                "attendees_p90": outcome.attendees.p90,
                **{
                    name: float(group[name].sum()) + (ORGANIC_GUESS if name == "benchmark" else float(mean))
                    for name in YARDSTICKS
                },
            }
        )  # fmt: skip
    return pd.DataFrame.from_records(records, columns=[c for c in _EVENTS if c != "in_sample_shared"]).set_index(
        "event_id"
    )


# --- metrics ----------------------------------------------------------------------------------------------------------


def metrics(backtest: Backtest) -> dict[str, float]:
    """Metrics over all held-out events: accuracy, bias, coverage, and the yardsticks' WAPE of event totals."""
    rows, events = backtest.rows, backtest.events.dropna(subset=["registrations"])
    found: dict[str, float] = {"test_events": float(len(events)), "test_rows": float(len(rows))}
    if events.empty:
        return found
    actual = events["registrations"].to_numpy(dtype=np.float64)
    error = events["predicted"].to_numpy(dtype=np.float64) - actual
    found |= {
        "mae_events": float(np.abs(error).mean()),
        "rmse_events": float(np.sqrt((error**2).mean())),
        "coverage_80_events": _inside(actual, events["p10"], events["p90"]),
        "coverage_90_events": _inside(actual, events["p05"], events["p95"]),
    }
    if actual.sum() > 0:
        found["wape_events"] = float(np.abs(error).sum() / actual.sum())
        found["bias_events"] = float(error.sum() / actual.sum())
        for name in YARDSTICKS:
            own = events[name].to_numpy(dtype=np.float64)
            found[f"wape_events_{name}"] = float(np.abs(own - actual).sum() / actual.sum())
    found |= _row_metrics(rows)
    goals = events.dropna(subset=["goal_probability", "target"])
    if len(goals):
        reached = (goals["registrations"] >= goals["target"]).to_numpy(dtype=np.float64)
        found["brier_goal"] = float(((goals["goal_probability"].to_numpy(dtype=np.float64) - reached) ** 2).mean())
    shown = events.dropna(subset=["attendees"])
    if len(shown):
        found["coverage_80_attendees"] = _inside(
            shown["attendees"].to_numpy(dtype=np.float64), shown["attendees_p10"], shown["attendees_p90"]
        )
    return found


def _inside(actual: Floats, low: pd.Series, high: pd.Series) -> float:
    return float(((actual >= low.to_numpy(dtype=np.float64)) & (actual <= high.to_numpy(dtype=np.float64))).mean())


def _row_metrics(rows: pd.DataFrame) -> dict[str, float]:
    if rows.empty:
        return {}
    y, mean = rows["y"].to_numpy(dtype=np.float64), rows["mean"].to_numpy(dtype=np.float64)
    found = {"mae_tactics": float(np.abs(y - mean).mean())}
    if y.sum() > 0:
        found["wape_tactics"] = float(np.abs(y - mean).sum() / y.sum())
        for name in YARDSTICKS:
            found[f"wape_tactics_{name}"] = float(np.abs(rows[name].to_numpy(dtype=np.float64) - y).sum() / y.sum())
    z = np.abs(standardised(y, mean, np.hypot(rows["log_sd"], rows["shared_log_sd"])))
    found["coverage_80_tactics"] = float((z <= _Z[80]).mean())
    found["coverage_90_tactics"] = float((z <= _Z[90]).mean())
    return found


def by_group(backtest: Backtest, column: str) -> dict[str, dict[str, float]]:
    """Row metrics per ``tactic_id`` or ``segment_id``."""
    rows = backtest.rows
    if rows.empty:
        return {}
    return {str(key): {"rows": float(len(group)), **_row_metrics(group)} for key, group in rows.groupby(column)}
