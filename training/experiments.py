"""Lift tests as evidence of what a tactic causes (:mod:`turnout.lift`).

A test is one more observation of a tactic's curve: so many registrations, caused by so much money or work. It is told
as if everybody had been treated, both groups together being the audience: lift and spend are scaled by
(n_t + n_c) / n_t. The observed lift may be negative, a count cannot; what is below nothing counts as nothing, with the
uncertainty it was measured with.

In the pooled fit (:mod:`training.pooling`) an observation is a row of its own, of the tactic and the segment, of no
event. Its weight gives it the variance that it was measured with instead of the model's, times :data:`TRUST`: a count
of an event says who carried the tactic's name, an experiment what it caused.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine

from turnout import taxonomy
from turnout.brief import Brief
from turnout.lift import Stored, read
from turnout.money import Rates
from turnout.scoring.published import kind_of
from turnout.settings import Settings
from turnout.tactics import load_catalogue
from turnout.tactics.priors import prior_curve
from turnout.warehouse.engine import create_engine

#: An experiment weighs as much as so many attributed counts of the same precision: a guess.
TRUST = 4.0
#: Overdispersion of counts that weights are computed with; the fit's own starts there.
_OVERDISPERSION = 0.15
#: What the benchmark of a test is read at.
FORMAT = "online"
COLUMNS = (
    "test_id", "tactic_id", "segment_id", "event_id", "day", "x", "y", "sd", "log_sd", "weight",
)  # fmt: skip


def observations(settings: Settings, until: date, *, engine: Engine | None = None) -> pd.DataFrame:
    """The lift tests that were over before ``until``.

    Returns:
        test_id, tactic_id, segment_id ('' where it ran over several), event_id ('' where for none), day (its last),
        x (spend in base currency, or staff hours; NaN: the usual effort), y (registrations caused, ≥ 0), sd (of y),
        log_sd (of its logarithm), weight (of a row of the pooled fit).
    """
    own = engine or create_engine(settings, pool_size=1)
    try:
        with own.connect() as connection:
            found = read(connection, settings.organisation, until=until)
    finally:
        if engine is None:
            own.dispose()
    return as_frame(found)


def as_frame(tests: Iterable[Stored]) -> pd.DataFrame:
    """Tests as observations, in the columns of :func:`observations`."""
    catalogue = load_catalogue()
    records = []
    for stored in tests:
        test, lift = stored.test, stored.lift
        if test.tactic_id not in catalogue:
            continue
        factor = (test.treated_units + test.control_units) / test.treated_units
        paid = catalogue.get(test.tactic_id).is_paid
        amount = (stored.spend_base or 0.0) * factor if paid else test.staff_hours
        y, sd = max(lift.whole, 0.0), lift.sd * factor
        records.append(
            {
                "test_id": stored.test_id,
                "tactic_id": test.tactic_id,
                "segment_id": test.segment_id or "",
                "event_id": test.event_id or "",
                "day": test.last_date,
                "x": np.nan if amount is None else amount,
                "y": y,
                "sd": sd,
                "log_sd": float(np.sqrt(np.log1p((sd / max(y, sd)) ** 2))),
                "weight": _weight(y, sd),
            }
        )
    frame = pd.DataFrame.from_records(records, columns=list(COLUMNS))
    frame["day"] = pd.to_datetime(frame["day"]).astype("datetime64[s]")
    return frame


def _weight(y: float, sd: float) -> float:
    """What a count of the model must be weighted by to be as uncertain as the test.

    A row of mean μ and weight w tells as much as one with variance (μ + φμ²) / w. The tactic differs from event to
    event by φ in a test as in any row.
    """
    mean = max(y, 1.0)
    between = _OVERDISPERSION * mean**2
    return TRUST * min((mean + between) / (sd**2 + between), 1.0)


def nothing() -> pd.DataFrame:
    """No observations, in the columns of :func:`with_benchmark`."""
    return with_benchmark(as_frame([]), Rates({"JPY": 1.0}))


def with_benchmark(frame: pd.DataFrame, rates: Rates) -> pd.DataFrame:
    """Observations with their benchmark: x filled in, and the columns ``curve``, ``baseline`` and ``prior_log_sd``.

    The event of a test is not asked what it was like: an experiment speaks of the tactic, so its benchmark is that of a
    free online event of its segment.
    """
    from training.dataset import expected, usual_effort

    catalogue = load_catalogue()
    amounts, curves, baselines, spreads = [], [], [], []
    for row in frame.to_dict("records"):
        brief = Brief.model_validate(
            {
                "event": {
                    "name": "test",
                    "date": row["day"].date(),
                    "category": row["segment_id"] or taxonomy.categories.ids[-1],
                    "format": FORMAT,
                },
                "goal": {"target": 100},
                "budget": {"amount": 0, "currency": rates.base},
            }
        )
        prior = prior_curve(catalogue.get(row["tactic_id"]), brief, rates)
        x = usual_effort(prior) if np.isnan(row["x"]) else float(row["x"])
        amounts.append(x)
        curves.append(prior.curve)
        baselines.append(expected(prior.curve, x))
        spreads.append(prior.log_sd)
    shapes = np.empty(len(curves), dtype=object)
    shapes[:] = curves
    numbers = {"x": amounts, "baseline": baselines, "prior_log_sd": spreads}
    return frame.assign(curve=shapes, **{n: np.array(v, dtype=np.float64) for n, v in numbers.items()})


def effect_columns(frame: pd.DataFrame, rows: pd.DataFrame) -> dict[str, Any]:
    """The columns of :func:`turnout.scoring.effects.terms` for observations beside the training's ``rows``.

    A test over several segments is put to the one with most rows, for it has to be somewhere.
    """
    count = len(frame)
    usual = rows["segment_id"].mode().iloc[0] if len(rows) else taxonomy.categories.ids[-1]
    nobody = np.empty(count, dtype=object)
    nobody[:] = [()] * count
    same = {"kind": kind_of(FORMAT, 0.0), "organiser": "", "theme": ""}
    return {
        "tactic_id": frame["tactic_id"].to_numpy(),
        "segment_id": frame["segment_id"].replace("", usual).to_numpy(),
        "event_date": frame["day"].to_numpy(),
        "opens_days": np.full(count, np.nan),
        "run_days": np.full(count, np.nan),
        "price_ratio": np.zeros(count),
        "company_sizes": nobody,
        "job_titles": nobody,
        **{name: np.full(count, value, dtype=object) for name, value in same.items()},
    }
