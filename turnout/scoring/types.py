"""What scoring takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from turnout.brief import Brief
from turnout.curves import Curve
from turnout.money import Rates
from turnout.plan import Evidence
from turnout.tactics import Tactic
from turnout.tactics.priors import PriorCurve


@dataclass(frozen=True, slots=True)
class Pacing:
    """The share of an event's registrations that have come in by a number of days before it.

    Attributes:
        days: days before the event, strictly falling, ending with 0 (the event's day).
        share: cumulative share in [0, 1] at the end of each of these days, never falling, ending with 1.
        source: where the curve comes from.
    """

    days: tuple[int, ...]
    share: tuple[float, ...]
    source: str = ""

    def __post_init__(self) -> None:
        if len(self.days) != len(self.share) or not self.days or self.days[-1] != 0:
            raise ValueError("a pacing curve needs as many shares as days, and must end at day 0")
        if any(a <= b for a, b in pairwise(self.days)):
            raise ValueError(f"days must fall strictly towards the event; got {self.days}")
        if any(a > b for a, b in pairwise(self.share)) or self.share[0] < 0 or abs(self.share[-1] - 1) > 1e-9:
            raise ValueError(f"shares must rise from >= 0 to 1; got {self.share}")

    def expected_share(self, days_before: float) -> float:
        """Share of the final registrations expected ``days_before`` the event (linear between knots, 0 well before)."""
        return float(np.interp(-days_before, [-self.days[0] - 1, *(-d for d in self.days)], [0.0, *self.share]))

    def daily(self) -> NDArray[np.float64]:
        """Share arriving on each day, index = days before the event (0 … the earliest day); sums to 1."""
        cumulative = np.array([self.expected_share(d) for d in range(self.days[0], -1, -1)])
        return np.diff(cumulative, prepend=0.0)[::-1]


@dataclass(frozen=True, slots=True)
class ShowUp:
    """The show-up rate of one event: attendees / registrations ~ Beta(alpha, beta).

    The spread is that between events of one kind, not the uncertainty of their mean alone.
    """

    alpha: float
    beta: float
    source: str = ""
    events: int = 0

    def __post_init__(self) -> None:
        if not (self.alpha > 0 and self.beta > 0 and np.isfinite(self.alpha + self.beta)):
            raise ValueError(f"a Beta needs two positive finite parameters; got {self.alpha}, {self.beta}")

    @property
    def mean(self) -> float:
        return self.alpha / (self.alpha + self.beta)


@dataclass(frozen=True, slots=True)
class DemandOutlook:
    """What the demand model expects of one event before any tactic.

    Attributes:
        segment_id: event category, or ``all`` when the pooled shape was used.
        index: demand around the event against the usual (1.0 = usual).
        organic_mean: registrations that come without any tactic, expected.
        organic_log_sd: standard deviation of the log of that number, event to event.
        pacing: when registrations come.
        show_up: how many of them attend.
        evidence, source: what the organic baseline rests on.
    """

    segment_id: str
    index: float
    organic_mean: float
    organic_log_sd: float
    pacing: Pacing
    show_up: ShowUp
    evidence: Evidence
    source: str


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """One event to score, with its features as they are known now.

    Attributes:
        brief: the question.
        as_of: the day of planning.
        tactics: catalogue entries to score.
        features: per tactic id, feature name → value; ``None`` is unknown.
        segment: features of the segment, shared by all tactics.
        demand: the outlook; ``None`` means an index of 1.
        fx: exchange rates, with the base currency that x of paid tactics is in.
    """

    brief: Brief
    as_of: date
    tactics: Sequence[Tactic]
    features: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    segment: Mapping[str, float | None] = field(default_factory=dict)
    demand: DemandOutlook | None = None
    fx: Rates = field(default_factory=lambda: Rates({"JPY": 1.0}))


@dataclass(frozen=True, slots=True)
class TacticResponse:
    """What one tactic would bring.

    Attributes:
        tactic_id: catalogue id.
        curve: x → expected registrations (a curve of :mod:`turnout.curves`).
        log_sd: standard deviation of log registrations around the curve: what is not known of its height, and how
            events differ. Counting noise comes on top, as does the shock all tactics of an event share.
        evidence: own data, similar events, benchmark or guess.
        evidence_source: counts and dates, or the publication.
        reasons: what moved the curve away from the benchmark, in the brief's language.
        prior: the untouched benchmark with its assumptions and whole units.
        log_correction: the learned correction within +-1.5.
    """

    tactic_id: str
    curve: Curve
    log_sd: float
    evidence: Evidence
    evidence_source: str
    reasons: tuple[str, ...] = ()
    prior: PriorCurve | None = None
    log_correction: float = 0.0
