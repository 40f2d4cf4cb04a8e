"""Insights held against the organiser's own history.

**The question.** Where the rule's conditions hold, do more (or fewer) people come than elsewhere, once what else is
known is taken out? For registrations a row is one tactic in one event and ``expected`` what the benchmark curve says at
its spend; for show-up a row is an event, and ``expected`` its registrations times the usual rate. With d = 1 where the
conditions hold,

    E[y] = expected · exp(a + b·d + controls),       effect = exp(b)

The controls (tactic, category, format and price, organiser, year, as far as the rule does not speak of them) are shrunk
towards 0, b is not. Counts scatter more than Poisson: rows weigh as a negative binomial's with the overdispersion
:data:`OVERDISPERSION`. The interval is the sandwich's, clustered by event (rows of one event share its luck), with
Student's t on the smaller number of events less one: few events on one side give wide intervals, as they must.

A rule that names tactics and something else compares within these tactics. One that names only tactics compares them
with all others, each against its own benchmark.

**The verdict.** *supported*: the 95 % interval lies on the claimed side of 1. *contradicted*: it lies on the other
side, or it holds 1 and excludes the whole claimed range. Else *untested*: too few events (:data:`FEWEST_EVENTS` on
either side), nothing in the data on which to decide, or an interval that allows both.

Who checks many rules finds some by chance. So a verdict also needs a Benjamini-Hochberg q of at most
:data:`MOST_FALSE`: of the rules called supported or contradicted for differing from 1, about that share is expected to
be chance. And all of it is association: a rule may hold because of something else that goes with its conditions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from turnout.brief import Brief
from turnout.insights import AUDIENCES, Facts, Insight, Scope, applicable
from turnout.plan import InsightNote

Floats = NDArray[np.float64]
Language = Literal["ja", "en"]
VerdictName = Literal["supported", "contradicted", "untested"]

FEWEST_EVENTS: Final = 6
MOST_FALSE: Final = 0.1
#: Variance of counts is mu + 0.15 mu²: what training starts from, too.
OVERDISPERSION: Final = 0.15
_CONFIDENCE: Final = 0.95
#: Controls are N(0, sd²) on the log scale. Tactics may stand far from their benchmarks.
_CONTROL_SD: Final[Mapping[str, float]] = {"tactic": 1.0, "category": 0.3, "kind": 0.3, "organiser": 0.3, "year": 0.3}
#: Which conditions of a rule make a control part of the question.
_SPOKEN_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "tactic": ("tactics",), "category": ("categories",), "kind": ("formats", "price"), "organiser": ("organisers",),
    "year": (),
}  # fmt: skip
_STEPS: Final = 60
_TOLERANCE: Final = 1e-9
_LEAST_EXPECTED: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Observations:
    """What happened, row by row.

    Attributes:
        events: whose row it is, shape (rows,).
        facts: what conditions look at, one per row.
        y: people who came, shape (rows,).
        expected: what was expected of the row before anything was learnt, shape (rows,).
        weight: trust in each row, 1 is full.
    """

    events: Sequence[str]
    facts: Sequence[Facts]
    y: Floats
    expected: Floats
    weight: Floats

    def __post_init__(self) -> None:
        count = len(self.events)
        if not count == len(self.facts) == len(self.y) == len(self.expected) == len(self.weight):
            raise ValueError("observations need as many facts, counts, expectations and weights as events")
        if count and not (np.isfinite(self.y).all() and (self.y >= 0).all() and (self.expected > 0).all()):
            raise ValueError("counts are 0 or more, expectations above 0")

    def where(self, mask: NDArray[np.bool_]) -> Observations:
        """The rows where ``mask`` holds."""
        kept = np.flatnonzero(mask)
        return Observations(
            [self.events[int(i)] for i in kept], [self.facts[int(i)] for i in kept], self.y[kept], self.expected[kept],
            self.weight[kept],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Effect:
    """A multiplier with its 95 % interval, and the p-value of 1."""

    effect: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the history says of one rule.

    Attributes:
        reason: confirmed, confirmed_smaller, confirmed_larger (the interval excludes the claimed range), opposite,
            no_such_size; too_few_events, other_metric, unknown_condition, no_comparison, inconclusive, by_chance.
        effect, low, high: the multiplier and its 95 % interval; None where not measured.
        p_value, q_value: of no effect, alone and among all rules measured at once.
        events_with, events_without: events where the conditions hold, and those compared with.
        checked: how many rules were measured at once.
    """

    insight_id: str
    verdict: VerdictName
    reason: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    q_value: float | None = None
    events_with: int = 0
    events_without: int = 0
    checked: int = 0

    def sentence(self, language: Language) -> str:
        """The verdict with the numbers behind it."""
        said = _VERDICTS[self.verdict][language]
        why = _REASONS[self.reason][language]
        events = _EVENTS[language].format(with_=self.events_with, without=self.events_without)
        if self.effect is None or self.low is None or self.high is None:
            return f"{said}: {why} ({events})" if self.reason == "too_few_events" else f"{said}: {why}"
        numbers = f"×{self.effect:.2f} (95 % {self.low:.2f}–{self.high:.2f}), q = {self.q_value or 0.0:.2g}"
        return f"{said}: {why}; {numbers}, {events}"


def check(insights: Sequence[Insight], data: Mapping[str, Observations]) -> list[Verdict]:
    """Verdicts on all rules at once, in their order.

    Args:
        data: observations by what they count, ``registrations`` and ``show_up``; one may be missing.
    """
    found = [_measured(rule, data) for rule in insights]
    tested = [i for i, v in enumerate(found) if v.p_value is not None]
    for i, q in zip(tested, _q_values([found[i].p_value or 0.0 for i in tested]), strict=True):
        found[i] = _judged(insights[i], replace(found[i], q_value=q))
    return [replace(v, checked=len(tested)) for v in found]


def caution(verdicts: Sequence[Verdict], language: Language) -> str:
    """What to keep in mind when reading so many verdicts; empty where nothing was measured."""
    tested = [v for v in verdicts if v.p_value is not None]
    if not tested:
        return ""
    decided = sum(v.verdict != "untested" for v in tested)
    chance = len(tested) * (1 - _CONFIDENCE)
    return _CAUTION[language].format(
        tested=len(tested), chance=f"{chance:.1f}", decided=decided, share=f"{MOST_FALSE:.0%}"
    )


def notes(
    insights: Iterable[Insight],
    verdicts: Mapping[str, Verdict],
    brief: Brief,
    tactic: str | None = None,
) -> list[InsightNote]:
    """The rules to show beside a tactic of a plan, or beside the plan without ``tactic``, with their last verdicts."""
    found = []
    for rule in applicable(insights, brief, tactic):
        verdict = verdicts.get(rule.insight_id)
        found.append(
            InsightNote(
                insight_id=rule.insight_id, text=rule.text, impact=rule.impact, confidence=rule.confidence,
                verdict=verdict.verdict if verdict else None,
                detail=verdict.sentence(brief.language) if verdict else "",
            )
        )  # fmt: skip
    return found


def _measured(rule: Insight, data: Mapping[str, Observations]) -> Verdict:
    """The effect where it can be measured; the verdict is still open."""
    rows = data.get(rule.about)
    if (reason := _unmeasurable(rule)) is not None or rows is None or not rows.events:
        return Verdict(rule.insight_id, "untested", reason or "too_few_events")
    rows, holds = _compared(rows, rule.scope)
    with_, without = (len({rows.events[int(i)] for i in np.flatnonzero(side)}) for side in (holds, ~holds))
    verdict = Verdict(rule.insight_id, "untested", "too_few_events", events_with=with_, events_without=without)
    if min(with_, without) < FEWEST_EVENTS:
        return verdict
    effect = measure(rows, holds, spoken_of=rule.scope.conditions)
    if effect is None:
        return replace(verdict, reason="inconclusive")
    return replace(
        verdict, effect=effect.effect, low=effect.low, high=effect.high, p_value=effect.p_value, reason="inconclusive"
    )


def _unmeasurable(rule: Insight) -> str | None:
    """Why no data could decide on a rule."""
    if rule.about == "other":
        return "other_metric"
    if rule.scope.unknown:
        return "unknown_condition"
    if rule.scope.is_everywhere or (rule.about == "show_up" and rule.scope.tactics):
        return "no_comparison"
    return None


def _compared(rows: Observations, scope: Scope) -> tuple[Observations, NDArray[np.bool_]]:
    """The rows that a rule compares, and where its conditions hold."""
    others = [c for c in scope.conditions if c != "tactics"]
    known = np.array([all(getattr(f, n) for n in AUDIENCES if n in others) for f in rows.facts], dtype=np.bool_)
    if scope.tactics and others:
        known &= np.array([f.tactic in scope.tactics for f in rows.facts], dtype=np.bool_)
    rows = rows.where(known)
    return rows, np.array([scope.holds_for(f, tactics=bool(scope.tactics)) for f in rows.facts], dtype=np.bool_)


def _judged(rule: Insight, v: Verdict) -> Verdict:
    claim, low, high = rule.claim, v.low, v.high
    assert low is not None
    assert high is not None
    assert v.q_value is not None
    above, below = low > 1, high < 1
    if above or below:
        if v.q_value > MOST_FALSE:
            return replace(v, reason="by_chance")
        if above != (claim.sign > 0):
            return replace(v, verdict="contradicted", reason="opposite")
        weaker = claim.low is not None and (high < claim.low if above else low > (claim.high or 1.0))
        stronger = claim.high is not None and (low > claim.high if above else high < (claim.low or 1.0))
        size = "confirmed_smaller" if weaker else "confirmed_larger" if stronger else "confirmed"
        return replace(v, verdict="supported", reason=size)
    if claim.low is not None and claim.high is not None and (high < claim.low or low > claim.high):
        return replace(v, verdict="contradicted", reason="no_such_size")
    return v


def _q_values(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg (1995): the smallest false discovery rate at which each would still be called."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i], reverse=True)
    found, least = [0.0] * len(p_values), 1.0
    for rank, i in zip(range(len(p_values), 0, -1), order, strict=True):
        least = min(least, p_values[i] * len(p_values) / rank)
        found[i] = least
    return found


# --- the measurement --------------------------------------------------------------------------------------------------


def measure(rows: Observations, holds: NDArray[np.bool_], *, spoken_of: Sequence[str] = ()) -> Effect | None:
    """The multiplier of the rows where ``holds``, against the others, with an interval clustered by event.

    Args:
        spoken_of: conditions that are part of the question and so no controls.

    Returns:
        None where the rows cannot tell (one side brought nobody at all).
    """
    from scipy.stats import t as student

    if rows.y[holds].sum() == 0 or rows.y[~holds].sum() == 0:
        return None
    design, ridge = _design(rows, holds, spoken_of)
    offset = np.log(np.maximum(rows.expected, _LEAST_EXPECTED))
    beta = np.zeros(design.shape[1])
    beta[0] = math.log(rows.y.sum() / np.exp(offset).sum())
    for _ in range(_STEPS):
        gradient, hessian, _ = _score(design, ridge, offset, beta, rows)
        step = np.linalg.solve(hessian, gradient)
        beta = beta + step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < _TOLERANCE:
            break
    _, hessian, scores = _score(design, ridge, offset, beta, rows)
    clusters: dict[str, Floats] = {}
    for event, score in zip(rows.events, scores, strict=True):
        clusters[event] = clusters.get(event, np.zeros_like(score)) + score
    sums = np.array(list(clusters.values()))
    bread = np.linalg.inv(hessian)
    count = len(sums)
    variance = float((bread @ (sums.T @ sums) @ bread)[1, 1]) * count / (count - 1)
    # With few clusters the sandwich is too small; what the model itself says is the least to be believed.
    sd = math.sqrt(max(variance, float(bread[1, 1])))
    sides = [len({rows.events[int(i)] for i in np.flatnonzero(side)}) for side in (holds, ~holds)]
    freedom = min(sides) - 1
    reach = float(student.ppf(0.5 + _CONFIDENCE / 2, freedom)) * sd
    b = float(beta[1])
    return Effect(
        math.exp(b), math.exp(max(b - reach, -20.0)), math.exp(min(b + reach, 20.0)),
        float(2 * student.sf(abs(b) / sd, freedom)),
    )  # fmt: skip


def _score(
    design: Floats, ridge: Floats, offset: Floats, beta: Floats, rows: Observations
) -> tuple[Floats, Floats, Floats]:
    """Gradient and Hessian of the penalised likelihood, and each row's part of the gradient."""
    mu = np.exp(np.clip(offset + design @ beta, -30.0, 30.0))
    scale = rows.weight / (1 + OVERDISPERSION * mu)
    scores = design * (scale * (rows.y - mu))[:, None]
    hessian = design.T @ (design * (scale * mu)[:, None]) + np.diag(ridge)
    return scores.sum(axis=0) - ridge * beta, hessian, scores


def _design(rows: Observations, holds: NDArray[np.bool_], spoken_of: Sequence[str]) -> tuple[Floats, Floats]:
    """Columns (intercept, where it holds, controls) and the precision that each is shrunk with."""
    columns: list[Floats] = [np.ones(len(rows.y)), holds.astype(np.float64)]
    ridge = [1e-8, 1e-8]
    labels: dict[str, list[Any]] = {
        "tactic": [f.tactic for f in rows.facts],
        "category": [f.category for f in rows.facts],
        "kind": [(f.format, f.is_paid) for f in rows.facts],
        "organiser": [f.organiser for f in rows.facts],
        "year": [f.day.year for f in rows.facts],
    }
    for name, values in labels.items():
        # Within the tactics a rule names they differ all the same; alone, they are what is compared.
        within = name == "tactic" and len(spoken_of) > 1
        if not within and any(condition in spoken_of for condition in _SPOKEN_OF[name]):
            continue
        levels = sorted(set(values), key=repr)
        if len(levels) > 1:
            columns += [np.array([v == level for v in values], dtype=np.float64) for level in levels]
            ridge += [_CONTROL_SD[name] ** -2] * len(levels)
    return np.column_stack(columns), np.array(ridge)


_VERDICTS: Final[Mapping[VerdictName, dict[Language, str]]] = {
    "supported": {"en": "supported", "ja": "裏付けあり"},
    "contradicted": {"en": "contradicted", "ja": "データと矛盾"},
    "untested": {"en": "untested", "ja": "未検証"},
}
_REASONS: Final[Mapping[str, dict[Language, str]]] = {
    "confirmed": {"en": "the history agrees", "ja": "実績と一致"},
    "confirmed_smaller": {"en": "right direction, smaller than claimed", "ja": "方向は一致、効果は想定より小さい"},
    "confirmed_larger": {"en": "right direction, larger than claimed", "ja": "方向は一致、効果は想定より大きい"},
    "opposite": {"en": "the history says the opposite", "ja": "実績は逆の傾向"},
    "no_such_size": {"en": "an effect of the claimed size is ruled out", "ja": "想定した大きさの効果は認められない"},
    "too_few_events": {
        "en": f"at least {FEWEST_EVENTS} events with it and {FEWEST_EVENTS} without are needed",
        "ja": f"該当・非該当それぞれ{FEWEST_EVENTS}件以上のイベントが必要",
    },
    "other_metric": {
        "en": "it is not about registrations or show-up, which alone are checked",
        "ja": "申込数・参加率以外についての知見",
    },
    "unknown_condition": {"en": "its conditions are not in the data", "ja": "適用条件がデータにない"},
    "no_comparison": {"en": "there is nothing to compare it with", "ja": "比較対象がない"},
    "inconclusive": {"en": "the interval allows it and also no effect", "ja": "効果なしの可能性も残る"},
    "by_chance": {
        "en": "it may be chance, given how many insights were checked",
        "ja": "検証した知見の数を考えると偶然の可能性がある",
    },
}  # fmt: skip
_EVENTS: Final[dict[Language, str]] = {
    "en": "{with_} events with, {without} without", "ja": "該当{with_}件・非該当{without}件",
}  # fmt: skip
_CAUTION: Final[dict[Language, str]] = {
    "en": "{tested} insights were measured at once; by chance alone about {chance} of them would seem to have an "
    "effect. {decided} got a verdict, at a false discovery rate of {share} at most. These are associations in past "
    "events, no proof of cause: only a lift test tells.",
    "ja": "{tested}件を同時に検証しました。偶然だけでも約{chance}件は差があるように見えます。判定が付いたのは"
    "{decided}件(誤発見率{share}以下)です。過去のイベントでの関連であり、因果の証明ではありません(因果はリフトテストで確かめられます)。",
}
