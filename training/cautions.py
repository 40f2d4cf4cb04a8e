"""What in a history the models cannot learn from, or should not: said, never silently mended.

The models bear all of it (priors, Huberised residuals, clipped labels); whoever reads their numbers should know.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.dataset import Dataset
from turnout.tactics import load_catalogue

Floats = NDArray[np.float64]

#: Events below which nothing but benchmarks can be told apart.
FEW_EVENTS = 5
#: Rows of a tactic before anything is said of it.
ENOUGH_ROWS = 5
#: Spend whose spread (standard deviation / mean) is below this says nothing of other amounts.
CONSTANT = 0.02
#: Registrations this many times the tactic's median per unit of benchmark are taken for a typing error; spend this many
#: times the tactic's median is asked about.
OUTLIER = 20.0
_LEAST_OUTLIER = 30.0


def cautions(dataset: Dataset) -> list[str]:
    """Sentences on what in ``dataset`` limits the models; empty where nothing does."""
    rows = dataset.rows
    events = int(rows["event_id"].nunique())
    found: list[str] = []
    if events == 0:
        return ["no past event can be learnt from: predictions are published benchmarks"]
    if events < FEW_EVENTS:
        found.append(f"{events} past event{'s' if events > 1 else ''}: predictions are close to published benchmarks")
    missing = [
        name for name in dataset.feature_names if name in rows.columns and bool(pd.to_numeric(rows[name]).isna().all())
    ]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        found.append(f"features without any value, which the models ignore: {shown}")
    for tactic, group in rows.groupby("tactic_id", sort=True):
        found += _of_tactic(str(tactic), group)
    return found


def _of_tactic(tactic: str, rows: pd.DataFrame) -> list[str]:
    found: list[str] = []
    x, y, base = (rows[c].to_numpy(dtype=np.float64) for c in ("x", "y", "baseline"))
    if len(rows) < ENOUGH_ROWS:
        return found
    catalogue = load_catalogue()
    is_paid = tactic in catalogue and catalogue.get(tactic).is_paid
    if y.sum() <= 0:
        found.append(f"{tactic}: no registration in {len(rows)} events; check the labels, or stop using it")
        return found
    if is_paid and x.std() < CONSTANT * x.mean():
        amount = f"{tactic}: spend was {x.mean():,.0f} in all {len(rows)} events"
        found.append(f"{amount}; what other amounts bring rests on the benchmark")
    if is_paid:
        for i in np.flatnonzero(x > OUTLIER * np.median(x)):
            found.append(
                f"{tactic}: {x[i]:,.0f} was spent in {rows['event_id'].iloc[i]}, where about {np.median(x):,.0f} is "
                "usual; check the amount and its currency"
            )
    for event, value, usual in _outliers(rows, y, base):
        found.append(
            f"{tactic}: {value:,.0f} registrations in {event}, where about {usual:,.0f} are usual; taken for a typing "
            "error until it is put right"
        )
    return found


def _outliers(rows: pd.DataFrame, y: Floats, base: Floats) -> list[tuple[str, float, float]]:
    usual = base * float(np.median((y + 0.5) / base))
    at = np.flatnonzero((y > OUTLIER * usual) & (y > _LEAST_OUTLIER))
    return [(str(rows["event_id"].iloc[i]), float(y[i]), float(usual[i])) for i in at]
