"""Champion and challenger in earnest: a share of events is planned with each, and the outcomes are compared.

Serving splits by event (:func:`turnout.identity.share_of`, setting ``challenger_share``): all plans of one event come
from one version. Two things are compared, over the events planned since the challenger was first asked:

* **error**: |√actual − √predicted| of events that were done as planned; does it predict better?
* **attainment**: log of registrations over target, of every planned event whether its plan was followed or not
  (intention to treat); does planning with it bring more people?

The report is read every morning until something shows, so a fixed-horizon test would find differences that are not
there. The test is a mixture sequential probability ratio test (Robbins 1970; Johari, Koomen, Pekelis & Walsh 2017,
"Peeking at A/B tests"): with V the variance of the difference Δ of the arms' means and τ the size of effects one cares
for,

    Λ = √(V / (V + τ²)) · exp(τ² Δ² / (2 V (V + τ²))),    p = 1 / Λ

p stays valid however often one looks, and the interval of Δ likewise. The normal approximation needs
:data:`FEWEST` events in each arm.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sqlalchemy import Engine

from training.monitoring import join
from turnout import registry
from turnout.settings import Settings
from turnout.warehouse.engine import create_engine

Floats = NDArray[np.float64]
Outcome = Literal["challenger", "champion", "not_yet", "too_few"]

ALPHA = 0.05
POWER = 0.8
FEWEST = 10
#: Effects one cares for: of the error as a share of the champion's, of the attainment on the log scale.
ERROR_EFFECT, ATTAINMENT_EFFECT = 0.10, 0.10
_Z_POWER = 0.8416212335729143
_DAYS = 365


@dataclass(frozen=True, slots=True)
class Measure:
    """One comparison of the arms.

    Attributes:
        champion, challenger: means of the arms; None where an arm has no event.
        champion_events, challenger_events: events behind them.
        difference: challenger − champion, with its always-valid 95 % interval; None where an arm has fewer than two.
        p: always-valid p-value of "no difference".
        better: which arm is better, if that is certain.
        needed: events in all after which an effect of the size one cares for would be found with 80 % certainty;
            None where the spread is not known yet.
    """

    name: str
    champion: float | None
    challenger: float | None
    champion_events: int
    challenger_events: int
    difference: float | None
    low: float | None
    high: float | None
    p: float
    better: Outcome
    needed: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """The A/B test so far; :meth:`as_dict` is plain JSON."""

    champion: str | None
    challenger: str | None
    share: float
    since: str | None
    until: str
    measures: list[Measure] = field(default_factory=list)
    verdict: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def report(
    settings: Settings,
    as_of: date,
    *,
    champion: str | None = None,
    challenger: str | None = None,
    engine: Engine | None = None,
) -> Report:
    """Compare the versions behind the aliases, or two given ones, on events before ``as_of``."""
    champion = champion or registry.alias_version(settings, registry.RESPONSE)
    challenger = challenger or registry.alias_version(settings, registry.RESPONSE, registry.CHALLENGER)
    share = settings.challenger_share
    if champion is None or challenger is None or champion == challenger:
        why = "there is no challenger: the newest fit version is the champion itself" if champion else "no champion yet"
        return Report(champion, challenger, share, None, as_of.isoformat(), verdict=why)
    own = engine or create_engine(settings, pool_size=1)
    try:
        with own.connect() as connection:
            events = join(connection, settings, as_of - timedelta(days=_DAYS), as_of).events
    finally:
        if engine is None:
            own.dispose()
    asked = events.loc[events["model_version"] == challenger, "created_at"]
    since = asked.min() if len(asked) else None
    if since is not None:
        events = events[events["created_at"] >= since]
    measures = compare_arms(
        events[events["model_version"] == champion], events[events["model_version"] == challenger], share
    )
    return Report(
        champion, challenger, share, None if since is None else since.date().isoformat(), as_of.isoformat(), measures,
        verdict(measures, champion, challenger),
    )  # fmt: skip


def compare_arms(champion: pd.DataFrame, challenger: pd.DataFrame, share: float = 0.5) -> list[Measure]:
    """Both measures of two arms' events (columns of :class:`training.monitoring.Joined`)."""
    sides = [_errors(arm) for arm in (champion, challenger)]
    scale = float(sides[0].mean()) if len(sides[0]) else 1.0
    error = sequential("error", *sides, effect=ERROR_EFFECT * max(scale, 1e-9), share=share, lower_is_better=True)
    reached = [_attainments(arm) for arm in (champion, challenger)]
    attainment = sequential("attainment", *reached, effect=ATTAINMENT_EFFECT, share=share, lower_is_better=False)
    return [error, attainment]


def _errors(events: pd.DataFrame) -> Floats:
    done = events[events["followed"].astype(bool)]
    actual, mean = (done[c].to_numpy(dtype=np.float64) for c in ("registrations", "mean"))
    return np.asarray(np.abs(np.sqrt(actual) - np.sqrt(np.maximum(mean, 0.0))))


def _attainments(events: pd.DataFrame) -> Floats:
    asked = events[events["target"] > 0]
    reached, target = (asked[c].to_numpy(dtype=np.float64) for c in ("registrations", "target"))
    return np.asarray(np.log((reached + 1) / (target + 1)))


def sequential(
    name: str, champion: ArrayLike, challenger: ArrayLike, *, effect: float, share: float, lower_is_better: bool
) -> Measure:
    """The always-valid comparison of two independent samples.

    Args:
        effect: τ, in the unit of the values.
        share: of the events that go to the challenger, for the sample size.
    """
    old, new = (np.asarray(v, dtype=np.float64) for v in (champion, challenger))
    old, new = old[np.isfinite(old)], new[np.isfinite(new)]
    was, now = (float(v.mean()) if len(v) else None for v in (old, new))
    n, m = len(old), len(new)
    if min(n, m) < 2:
        return Measure(name, was, now, n, m, None, None, None, 1.0, "too_few", None)
    difference = float(new.mean() - old.mean())
    variance = max(float(old.var(ddof=1) / n + new.var(ddof=1) / m), 1e-12)
    needed = needed_events(float(np.concatenate([old - old.mean(), new - new.mean()]).std(ddof=2)), effect, share)
    p = always_valid_p(difference, variance, effect)
    half = boundary(variance, effect)
    better: Outcome = "not_yet"
    if min(n, m) < FEWEST:
        better = "too_few"
    elif p <= ALPHA:
        better = "challenger" if (difference < 0) == lower_is_better else "champion"
    return Measure(name, was, now, n, m, difference, difference - half, difference + half, p, better, needed)


def always_valid_p(difference: float, variance: float, effect: float) -> float:
    """1 / Λ, at most 1."""
    tau2 = effect**2
    log_ratio = 0.5 * math.log(variance / (variance + tau2))
    log_ratio += tau2 * difference**2 / (2 * variance * (variance + tau2))
    return math.exp(-max(log_ratio, 0.0))


def boundary(variance: float, effect: float, alpha: float = ALPHA) -> float:
    """The |Δ| at which Λ reaches 1/α: half the width of the always-valid interval."""
    tau2 = effect**2
    return math.sqrt(
        variance * (variance + tau2) / tau2 * (2 * math.log(1 / alpha) + math.log((variance + tau2) / variance))
    )


def needed_events(sd: float, effect: float, share: float) -> int | None:
    """Events in both arms together after which an effect of this size crosses the boundary with 80 % certainty."""
    share = share if 0 < share < 1 else 0.5
    if not (sd > 0 and effect > 0):
        return None
    low, high = 1e-12, effect**2
    # the largest variance at which the boundary lies 0.84 standard errors below the effect
    for _ in range(200):
        middle = math.sqrt(low * high)
        if boundary(middle, effect) + _Z_POWER * math.sqrt(middle) <= effect:
            low = middle
        else:
            high = middle
    return math.ceil(sd**2 * (1 / share + 1 / (1 - share)) / low)


def verdict(measures: list[Measure], champion: str, challenger: str) -> str:
    """The report in one or two sentences."""
    parts = []
    for measure in measures:
        what = "error" if measure.name == "error" else "registrations over target"
        have = measure.champion_events + measure.challenger_events
        match measure.better:
            case "challenger" | "champion" as arm:
                version = challenger if arm == "challenger" else champion
                parts.append(f"{what}: {arm} version {version} is better (p = {measure.p:.2g}, valid at any time)")
            case "too_few":
                fewest = min(measure.champion_events, measure.challenger_events)
                parts.append(f"{what}: {fewest} events in the smaller arm, {FEWEST} at least are needed")
            case _:
                more = (
                    f"; an effect of 10 % takes about {measure.needed} events, there are {have}"
                    if measure.needed
                    else ""
                )
                parts.append(f"{what}: no difference shown (p = {measure.p:.2g}){more}")
    return ". ".join(parts)
