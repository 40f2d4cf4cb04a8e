"""From backtests to figures.

==================  ===================================================================================================
accuracy            1 − Σ|predicted − actual| / Σ actual over held-out events (1 − WAPE of event totals)
attainable          the same for the simulated world's true expectation: what one reaches who knows all but luck
coverage            events: share of actual totals inside the 5 %–95 % quantiles. Tactics: share of counts whose mid-PIT
                    lies within the middle 90 %, because the interval of a small count always holds more than its level
goal ECE            goal probabilities, as plans give them, of several goals per event (:data:`GOALS` times the
                    forecast, and the organiser's own target) in ten bins: mean distance of the probability from how
                    often the goal was reached, weighted by bin size; of the own targets alone beside it, with what
                    luck alone would make of so few
==================  ===================================================================================================

Groups are formed from what was known beforehand: the tactic's channel in the catalogue, the event's segment, and the
size that was predicted (actual size would sort the surprises into groups).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.backtest import LEVELS, Backtest
from training.calibration import standardised
from training.yardsticks import YARDSTICKS
from turnout.scoring.predictive import GoalScale
from turnout.tactics import load_catalogue

Floats = NDArray[np.float64]

#: Goals asked of every held-out event, as multiples of its predicted median.
GOALS: tuple[float, ...] = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5)
#: Borders of the sizes of events, predicted registrations.
SIZES: tuple[float, ...] = (100.0, 200.0, 400.0)
_BINS = 10
_LUCK = 100
_Z90 = 1.6448536269514722


@dataclass(frozen=True, slots=True)
class Tested:
    """One history's backtest.

    Attributes:
        seed: of the simulated world; ``None`` for a real history.
        expected: the world's true expectation by event_id; ``None`` where nobody knows it.
    """

    backtest: Backtest
    seed: int | None = None
    expected: pd.Series | None = None


def summary(tested: Sequence[Tested]) -> dict[str, Any]:
    """Figures over all histories together; plain JSON.

    ``accuracy``, ``attainable_accuracy`` and the yardsticks' accuracies pool the events of all histories; the figures
    of each are under ``by_seed``. Values that cannot be had are ``None``.
    """
    events, rows = pooled_events(tested), pooled_rows(tested)
    goals = goal_table(tested)
    found: dict[str, Any] = {
        "accuracy": _accuracy(events, "predicted"),
        "attainable_accuracy": _accuracy(events, "expected"),
        "coverage_90": _rounded(_covered(events)),
        "coverage_90_by_group": coverage_by_channel(rows),
        "goal_ece": _rounded(expected_calibration_error(goals)),
        "yardsticks": yardstick_table(events, rows),
        "seeds": [t.seed for t in tested if t.seed is not None],
        "test_events": len(events),
        "goal_ece_own_targets": _rounded(expected_calibration_error(own_goals(events))),
        "goal_ece_own_targets_of_perfect": _rounded(perfect_calibration_error(own_goals(events))),
        "coverage_90_by_segment": coverage_by(events, "segment_id"),
        "coverage_90_by_size": coverage_by(events, "size"),
        "group_sizes": {n: int(c) for n, c in rows["channel"].value_counts().sort_index().items()} if len(rows) else {},
        "bias": _bias(events),
        "coverage_80": _rounded(_covered(events, "p10", "p90")),
        "coverage_90_tactics": _rounded(_row_coverage(rows)),
        "coverage_80_attendees": _rounded(_attendees(events)),
        "reliability": reliability(goals),
        "error_by_segment": error_by(events, "segment_id"),
        "error_by_size": error_by(events, "size"),
        "test_rows": len(rows),
    }
    if found["attainable_accuracy"]:
        found["share_of_attainable"] = _rounded((found["accuracy"] or 0.0) / found["attainable_accuracy"])
    if len(tested) > 1:
        found["by_seed"] = [_of_seed(t) for t in tested]
    return found


def _of_seed(tested: Tested) -> dict[str, Any]:
    events = pooled_events([tested])
    return {
        "seed": tested.seed,
        "test_events": len(events),
        "accuracy": _accuracy(events, "predicted"),
        "attainable_accuracy": _accuracy(events, "expected"),
        "coverage_90": _rounded(_covered(events)),
        "bias": _bias(events),
        **{name: _accuracy(events, name) for name in YARDSTICKS},
    }


# --- frames -----------------------------------------------------------------------------------------------------------


def pooled_events(tested: Sequence[Tested]) -> pd.DataFrame:
    """Held-out events whose registrations are known, of all histories, with ``expected`` and ``size``."""
    frames = []
    for number, one in enumerate(tested):
        events = one.backtest.events.dropna(subset=["registrations"])
        expected = np.nan if one.expected is None else one.expected.reindex(events.index)
        frames.append(events.assign(expected=expected, size=_sizes(events), history=number))
    return pd.concat(frames) if frames else pd.DataFrame()


def pooled_rows(tested: Sequence[Tested]) -> pd.DataFrame:
    """Held-out rows of all histories, with the ``channel`` of the tactic."""
    frames = [one.backtest.rows.assign(history=number) for number, one in enumerate(tested)]
    if not frames:
        return pd.DataFrame()
    rows = pd.concat(frames, ignore_index=True)
    catalogue = load_catalogue()
    channel = {t: catalogue.get(t).channel if t in catalogue else "other" for t in rows["tactic_id"].unique()}
    return rows.assign(channel=rows["tactic_id"].map(channel))


def _sizes(events: pd.DataFrame) -> list[str]:
    borders = [f"{b:.0f}" for b in SIZES]
    labels = [f"below {borders[0]}", *(f"{a}-{b}" for a, b in pairwise(borders))]
    labels.append(f"{borders[-1]} or more")
    places = np.searchsorted(np.asarray(SIZES), events["predicted"].to_numpy(dtype=np.float64), side="right")
    return [labels[i] for i in places]


# --- accuracy ---------------------------------------------------------------------------------------------------------


def _accuracy(events: pd.DataFrame, column: str) -> float | None:
    """1 − WAPE of ``column``; ``None`` where it is not known for every event or nobody registered."""
    if events.empty or events[column].isna().any():
        return None
    actual = events["registrations"].to_numpy(dtype=np.float64)
    if actual.sum() <= 0:
        return None
    return _rounded(1.0 - float(np.abs(events[column].to_numpy(dtype=np.float64) - actual).sum() / actual.sum()))


def _bias(events: pd.DataFrame) -> float | None:
    total = float(events["registrations"].sum()) if len(events) else 0.0
    return _rounded(float((events["predicted"] - events["registrations"]).sum()) / total) if total > 0 else None


def yardstick_table(events: pd.DataFrame, rows: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """``ours`` and each yardstick: accuracy of event totals, and WAPE and MAE per tactic."""
    return {
        name: {"accuracy": _accuracy(events, "predicted" if name == "ours" else name), **_row_errors(rows, column)}
        for name, column in (("ours", "mean"), *((y, y) for y in YARDSTICKS))
    }


def _row_errors(rows: pd.DataFrame, column: str) -> dict[str, float | None]:
    total = float(rows["y"].sum()) if len(rows) else 0.0
    if total <= 0:
        return {"wape_tactics": None, "mae_tactics": None}
    error = (rows[column] - rows["y"]).abs()
    return {"wape_tactics": _rounded(float(error.sum()) / total), "mae_tactics": _rounded(float(error.mean()))}


def error_by(events: pd.DataFrame, column: str) -> dict[str, dict[str, float | None]]:
    """Accuracy, bias and coverage of events, and the best yardstick's accuracy, by ``column``."""
    found: dict[str, dict[str, float | None]] = {}
    for key, group in events.groupby(column, sort=True) if len(events) else ():
        best = max((_accuracy(group, name) or -9.0 for name in YARDSTICKS), default=None)
        found[str(key)] = {
            "events": float(len(group)),
            "accuracy": _accuracy(group, "predicted"),
            "attainable_accuracy": _accuracy(group, "expected"),
            "best_yardstick": best,
            "bias": _bias(group),
            "coverage_90": _rounded(_covered(group)),
        }
    return found


# --- coverage ---------------------------------------------------------------------------------------------------------


def _covered(events: pd.DataFrame, low: str = "p05", high: str = "p95") -> float | None:
    if events.empty:
        return None
    actual = events["registrations"].to_numpy(dtype=np.float64)
    inside = (actual >= events[low].to_numpy(dtype=np.float64)) & (actual <= events[high].to_numpy(dtype=np.float64))
    return float(inside.mean())


def _attendees(events: pd.DataFrame) -> float | None:
    shown = events.dropna(subset=["attendees"]) if len(events) else events
    if shown.empty:
        return None
    return float(
        ((shown["attendees"] >= shown["attendees_p10"]) & (shown["attendees"] <= shown["attendees_p90"])).mean()
    )


def row_z(rows: pd.DataFrame) -> Floats:
    """Φ⁻¹ of the mid-PIT of each held-out row: standard normal where the spreads are right."""
    spread = np.hypot(rows["log_sd"].to_numpy(dtype=np.float64), rows["shared_log_sd"].to_numpy(dtype=np.float64))
    return standardised(rows["y"].to_numpy(dtype=np.float64), rows["mean"].to_numpy(dtype=np.float64), spread)


def _row_coverage(rows: pd.DataFrame) -> float | None:
    return float((np.abs(row_z(rows)) <= _Z90).mean()) if len(rows) else None


def coverage_by_channel(rows: pd.DataFrame) -> dict[str, float | None]:
    """Coverage of the tactics' 90 % intervals by channel: the tactic groups of the catalogue."""
    if rows.empty:
        return {}
    inside = pd.Series(np.abs(row_z(rows)) <= _Z90, index=rows.index)
    return {str(key): _rounded(float(group.mean())) for key, group in inside.groupby(rows["channel"])}


def coverage_by(events: pd.DataFrame, column: str) -> dict[str, float | None]:
    """Coverage of the events' 90 % intervals by ``column``."""
    groups = events.groupby(column, sort=True) if len(events) else ()
    return {str(key): _rounded(_covered(group)) for key, group in groups}


# --- goals ------------------------------------------------------------------------------------------------------------


def own_goals(events: pd.DataFrame) -> pd.DataFrame:
    """The organisers' own targets alone, in the form of :func:`goal_table`."""
    if events.empty:
        return events
    known = events.dropna(subset=["target", "goal_probability"])
    reached = (known["registrations"] >= known["target"]).astype(np.float64)
    return pd.DataFrame({"probability": known["goal_probability"].astype(np.float64), "reached": reached})


def goal_table(tested: Sequence[Tested]) -> pd.DataFrame:
    """One row per held-out event and goal: history, event_id, goal, probability, reached (0 or 1)."""
    records = [record for number, one in enumerate(tested) for record in _goals(one.backtest, number)]
    return pd.DataFrame.from_records(records, columns=["history", "event_id", "goal", "probability", "reached"])


def _goals(backtest: Backtest, number: int) -> Iterator[tuple[int, str, float, float, float]]:
    known = backtest.events.dropna(subset=["registrations"])
    for event_id, event in zip(known.index, known.to_dict("records"), strict=True):
        goals = [max(round(float(event["p50"]) * factor), 1) for factor in GOALS]
        if pd.notna(event["target"]):
            goals.append(int(event["target"]))
        values = backtest.quantiles.loc[event_id].to_numpy(dtype=np.float64)
        # as a plan would answer: the share of draws, on the scale that this fold's model had measured for goals
        scale = GoalScale(float(event.get("goal_offset", 0.0)), float(event.get("goal_slope", 1.0)))
        for goal in goals:
            share = scale(reach_probability(values, goal))
            yield number, str(event_id), float(goal), share, float(event["registrations"] >= goal)


def reach_probability(quantiles: Floats, goal: float) -> float:
    """The chance of at least ``goal`` registrations, from the quantiles at :data:`training.backtest.LEVELS`."""
    # counts are whole: P(N >= goal) = 1 − P(N <= goal − 1), and a quantile's level lies in the middle of its step
    below = float(np.searchsorted(quantiles, goal - 0.5, side="left"))
    return 1.0 - below / len(LEVELS)


def reliability(goals: pd.DataFrame) -> list[dict[str, float]]:
    """Per bin of the probability: goals, mean probability, share reached."""
    if goals.empty:
        return []
    at = np.minimum((goals["probability"].to_numpy(dtype=np.float64) * _BINS).astype(int), _BINS - 1)
    return [
        {
            "goals": float(len(group)),
            "probability": _plain(group["probability"].mean()),
            "reached": _plain(group["reached"].mean()),
        }
        for _, group in goals.groupby(at)
    ]


def expected_calibration_error(goals: pd.DataFrame) -> float | None:
    """Weighted mean of |probability − share reached| over the bins."""
    bins = reliability(goals)
    total = sum(b["goals"] for b in bins)
    return sum(b["goals"] * abs(b["probability"] - b["reached"]) for b in bins) / total if total else None


def perfect_calibration_error(goals: pd.DataFrame) -> float | None:
    """What the error comes to where every probability is exactly right: luck alone, which few goals do not average out.

    The mean over :data:`_LUCK` draws of outcomes from the probabilities themselves.
    """
    if goals.empty:
        return None
    rng = np.random.default_rng(0)
    p = goals["probability"].to_numpy(dtype=np.float64)
    errors = [expected_calibration_error(goals.assign(reached=(rng.random(len(p)) < p) * 1.0)) for _ in range(_LUCK)]
    return float(np.mean([e for e in errors if e is not None]))


# --- helpers ----------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> float:
    return round(float(value), 4)


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 4)


def true_expectations(events: pd.DataFrame, truth: Sequence[Mapping[str, Any]]) -> pd.Series:
    """The world's true expectation by event_id.

    Args:
        events: index event_id, columns name and event_date.
        truth: the entries of the simulation's ``events.json``.
    """
    expected = {(str(e["name"]), str(e["date"])): float(e["expected"]) for e in truth}
    keys = zip(events["name"], events["event_date"], strict=True)
    return pd.Series([expected.get((str(n), d.date().isoformat()), np.nan) for n, d in keys], index=events.index)
