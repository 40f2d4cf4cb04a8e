"""Which version serves: the gate between challenger and champion, and the way back.

A challenger becomes champion if it passes all of these:

1. **sane**, after being loaded again from the registry: it scores every tactic of the catalogue for briefs of many
   kinds; all curves finite, never negative, never falling in spend, also at ten times what anybody would spend; the
   same answer when tactics or features come in another order; all features it was trained with are known;
2. **calibrated**: its 90 % intervals do not miss significantly more later events than they should;
3. **better**, against the champion on the same later events, that neither was fitted to
   (:mod:`training.comparison`): by more than noise, and by at least
   :data:`~training.comparison.LEAST_GAIN`. Or **as good and fresher**: not worse beyond noise, surely no worse than by
   :data:`~training.comparison.MARGIN`, and fitted to at least :data:`FRESHER` more events, because evidence counts and
   tactics' levels go stale. A challenger that loses on the later events although it was fitted to them is never
   promoted.

The first model only has to be sane, as has one whose champion this code cannot load any more. What was decided and why
is kept with the version: tags ``promotion`` (``promoted``, ``refused``, ``by hand``) and ``promotion_reasons``, the
description a reader of MLflow sees, and the artefact ``promotion.json`` of its run with the whole comparison. The alias
``challenger`` goes to a version only when it has passed the first two points and is not worse: a share of events may be
planned with it. Of a version that is insane, not calibrated or worse the team is told
(:func:`turnout.alerts.send_alert`), once.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray
from scipy import stats

from training import registry as models
from training.comparison import MARGIN, Comparison, Paired, compare
from training.registry import ModelRef
from turnout import registry, taxonomy
from turnout.alerts import send_alert
from turnout.brief import Brief
from turnout.errors import NotReadyError
from turnout.money import Rates
from turnout.scoring import DemandModel, ResponseModel, ScoringRequest
from turnout.settings import Settings
from turnout.tactics import Tactic, load_catalogue

log = structlog.get_logger(__name__)

Floats = NDArray[np.float64]

#: A challenger that is as good must know this much more to be worth a change.
FRESHER = 0.02
_COVERAGE, _COVERAGE_ALPHA = 0.9, 0.005


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a challenger, in plain values.

    Attributes:
        champion: the version that serves now.
        reasons: why, one sentence each.
    """

    name: str
    version: str
    promoted: bool
    champion: str | None
    reasons: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def promote_if_better(settings: Settings, ref: ModelRef) -> Decision:
    """Make ``ref`` champion if it passes the gate; records the reasons on the version either way."""
    champion = registry.alias_version(settings, ref.name)
    client = registry.client(settings)
    decided = client.get_model_version(ref.name, ref.version).tags.get("promotion")
    if champion == ref.version:
        if not decided:  # killed between moving the alias and writing why
            client.set_model_version_tag(ref.name, ref.version, "promotion", "promoted")
        return Decision(ref.name, ref.version, False, champion, ["it is the champion already"], ref.metrics)
    if not ref.created and decided:
        reasons = [f"the data are unchanged, and version {ref.version} was decided on before"]
        return Decision(ref.name, ref.version, False, champion, reasons, ref.metrics)
    failures = sanity(settings, ref)
    if failures:
        return _record(settings, ref, champion, promoted=False, reasons=failures, alarming=True)
    if champion is None:
        return _record(settings, ref, champion, promoted=True, reasons=["first model, and sane"])
    reference = models.reference(settings, client.get_model_version(ref.name, champion), created=False)
    unreadable = _unreadable(settings, reference)
    if unreadable is not None:
        reasons = [f"sane, and the champion cannot serve: {unreadable}"]
        return _record(settings, ref, champion, promoted=True, reasons=reasons)
    comparison = compare(settings, reference, ref, seed=settings.random_seed)
    unfit = miscalibrated(settings, ref) if ref.name == registry.RESPONSE else None
    promoted, reasons = (False, [unfit]) if unfit else judge(comparison, reference, ref)
    return _record(
        settings, ref, champion, promoted=promoted, reasons=reasons, comparison=comparison,
        alarming=unfit is not None or comparison.verdict == "worse" or _lost(comparison.registered),
    )  # fmt: skip


def promote(settings: Settings, name: str, version: str) -> None:
    """Make a version champion by hand.

    Raises:
        NotReadyError: there is no such version, or it is not sane.
    """
    client = registry.client(settings)
    ref = _reference(settings, name, version)
    failures = sanity(settings, ref)
    if failures:
        raise NotReadyError(f"{name} version {version} must not serve: {'; '.join(failures)}")
    client.set_registered_model_alias(name, registry.CHAMPION, version)
    client.set_model_version_tag(name, version, "promotion", "by hand")
    log.info("champion_set", model=name, version=version)


def rollback(settings: Settings, name: str, to: str | None = None) -> str:
    """Make an earlier version champion again.

    Args:
        to: the version; by default the newest one before the champion that was champion itself.

    Returns:
        The version that is champion now.

    Raises:
        NotReadyError: there is nothing to go back to, or the version is not sane.
    """
    current = registry.alias_version(settings, name)
    if to is None:
        if current is None:
            raise NotReadyError(f"{name} has no champion to roll back from")
        served = ("promoted", "by hand")
        earlier = [
            str(v.version)
            for v in models.versions(settings, name)
            if int(v.version) < int(current) and v.tags.get("promotion") in served
        ]
        if not earlier:
            raise NotReadyError(f"{name} version {current} is the first champion; there is nothing before it")
        to = earlier[0]
    promote(settings, name, to)
    return to


def _reference(settings: Settings, name: str, version: str) -> ModelRef:
    for found in models.versions(settings, name):
        if str(found.version) == version:
            return models.reference(settings, found, created=False)
    known = ", ".join(str(v.version) for v in models.versions(settings, name)) or "none"
    raise NotReadyError(f"{name} has no version {version}; registered: {known}")


def _record(
    settings: Settings,
    ref: ModelRef,
    champion: str | None,
    *,
    promoted: bool,
    reasons: list[str],
    comparison: Comparison | None = None,
    alarming: bool = False,
) -> Decision:
    client = registry.client(settings)
    before = champion
    if not alarming:  # a challenger may plan a share of events, so one that is unfit is none
        client.set_registered_model_alias(ref.name, registry.CHALLENGER, ref.version)
    if promoted:
        client.set_registered_model_alias(ref.name, registry.CHAMPION, ref.version)
        champion = ref.version
    verdict = "promoted" if promoted else "refused"
    client.log_dict(
        ref.run_id,
        {
            "decision": verdict,
            "decided_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "champion_before": before,
            "reasons": reasons,
            "comparison": comparison.as_dict() if comparison else None,
        },
        "promotion.json",
    )
    client.update_model_version(ref.name, ref.version, description=described(verdict, before, reasons))
    client.set_model_version_tag(ref.name, ref.version, "promotion_reasons", json.dumps(reasons, ensure_ascii=False))
    if alarming:  # the night's message tells it apart from a version that is merely no better
        client.set_model_version_tag(ref.name, ref.version, "promotion_alarming", "true")
    # last: where it is missing, the decision is made again
    client.set_model_version_tag(ref.name, ref.version, "promotion", verdict)
    log.info("promotion", model=ref.name, version=ref.version, promoted=promoted, reasons=reasons)
    if alarming:
        serving = f"Version {champion} goes on serving." if champion else "No version serves."
        send_alert(
            settings, f"Turnout: {ref.name} version {ref.version} was not promoted", "\n".join([*reasons, serving])
        )
    return Decision(ref.name, ref.version, promoted, champion, reasons, ref.metrics)


def described(verdict: str, champion: str | None, reasons: Sequence[str]) -> str:
    """The decision as Markdown, for people who look at the version in MLflow."""
    against = f" against version {champion}" if champion else ""
    return "\n".join([f"**{verdict}**{against}", "", *(f"- {reason}" for reason in reasons)])


# --- better? ----------------------------------------------------------------------------------------------------------


def compare_versions(
    settings: Settings, name: str, challenger: str | None = None, champion: str | None = None
) -> Comparison:
    """Compare two versions of a model; by default the aliases' own.

    Raises:
        NotReadyError: a version does not exist, no alias points to one, or both are the same.
    """
    sides = []
    for given, alias in ((champion, registry.CHAMPION), (challenger, registry.CHALLENGER)):
        version = given or registry.alias_version(settings, name, alias)
        if version is None:
            raise NotReadyError(f"{name} has no {alias}; train one, or name a version")
        sides.append(_reference(settings, name, version))
    if sides[0].version == sides[1].version:
        raise NotReadyError(f"{name}: champion and challenger are both version {sides[0].version}; name another one")
    return compare(settings, sides[0], sides[1], seed=settings.random_seed)


def judge(comparison: Comparison, champion: ModelRef, challenger: ModelRef) -> tuple[bool, list[str]]:
    """Whether the challenger should serve, and why."""
    fresher = challenger.events >= champion.events * (1 + FRESHER) and challenger.events > champion.events
    more = f"it knows {challenger.events} events, the champion {champion.events}"
    if _lost(comparison.registered):
        return False, [
            "worse than the champion even on later events that it was fitted to and the champion was not",
            *comparison.notes,
        ]
    promoted, reason = rule(comparison.test, fresher=fresher)
    if comparison.verdict == "too_few":
        return promoted, [f"{reason}; {more}", *comparison.notes]
    measured = f"{reason}: {comparison.sentence()}"
    return promoted, [
        measured if comparison.verdict in ("better", "worse") else f"{measured}; {more}",
        *comparison.notes,
    ]


def rule(test: Paired, *, fresher: bool) -> tuple[bool, str]:
    """The decision from the test alone, in a few words."""
    match test.verdict():
        case "too_few":
            events = f"only {test.events} later events in common, too few to compare"
            return fresher, events if test.events else "no later events to compare on"
        case "better":
            return True, "better beyond noise"
        case "worse":
            return False, "worse beyond noise"
        case _ if fresher and test.low > -MARGIN:
            return True, "as good and fresher"
        case _ if fresher:
            return False, f"fresher, but it could be worse by more than {MARGIN:.0%}"
    return False, "not better beyond noise"


def _lost(test: Paired | None) -> bool:
    return test is not None and test.verdict() == "worse"


def miscalibrated(settings: Settings, ref: ModelRef) -> str | None:
    """Why the intervals of a version must not be trusted; None where they may."""
    table = models.read_table(settings, ref.run_id, "backtest.csv")
    if table is None:
        return None
    events = pd.read_csv(io.StringIO(table)).dropna(subset=["registrations"])
    if len(events) < 20:
        return None
    inside = (events["registrations"] >= events["p05"]) & (events["registrations"] <= events["p95"])
    test = stats.binomtest(int(inside.sum()), len(events), _COVERAGE)
    if test.pvalue < _COVERAGE_ALPHA and float(inside.mean()) < _COVERAGE:
        return f"not calibrated: its 90 % intervals held {inside.mean():.0%} of {len(events)} later events"
    return None


# --- sane? ------------------------------------------------------------------------------------------------------------


def sanity(settings: Settings, ref: ModelRef) -> list[str]:
    """What is wrong with a version as loaded from the registry; nothing if it may serve."""
    try:
        directory = registry.version_directory(settings, ref.name, ref.version)
        if ref.name == registry.DEMAND:
            return demand_faults(DemandModel.load(directory, ref.name, ref.version))
        return response_faults(ResponseModel.load(directory, ref.name, ref.version), Rates.of(settings))
    except NotReadyError as error:
        return [str(error)]


def _unreadable(settings: Settings, ref: ModelRef) -> str | None:
    """Why this code cannot load a version; None where it can."""
    try:
        directory = registry.version_directory(settings, ref.name, ref.version)
        kind = DemandModel if ref.name == registry.DEMAND else ResponseModel
        kind.load(directory, ref.name, ref.version)
    except NotReadyError as error:
        return str(error)
    return None


def response_faults(model: ResponseModel, fx: Rates) -> list[str]:
    """Faults of a response model over briefs of many kinds and every tactic."""
    from feature_repo.names import RESPONSE_FEATURES
    from turnout.scoring.design import derived_names

    unknown = set(model.feature_names) - set(derived_names()) - set(RESPONSE_FEATURES)
    if tuple(model.booster.feature_names or ()) != model.feature_names:
        return ["its trees and its parameters name other features, or the same in another order"]
    if unknown:
        return [f"it was trained with features that nothing delivers: {', '.join(sorted(unknown))}"]
    tactics = list(load_catalogue())
    rng = np.random.default_rng(7)
    faults: list[str] = []
    for brief in _probes(fx.base):
        request = _probe_request(brief, tactics, fx, rng)
        straight = {r.tactic_id: r for r in model.score(request)}
        turned = _probe_request(brief, tactics[::-1], fx, rng, like=request)
        reverse = {r.tactic_id: r for r in model.score(turned)}
        for tactic in tactics:
            curve = straight[tactic.id].curve
            x = _grid(tactic, fx)
            y = np.asarray(curve(x), dtype=np.float64)
            name = f"{tactic.id} for {brief.event.category}/{brief.event.format}"
            if not np.isfinite(y).all() or not math.isfinite(straight[tactic.id].log_sd):
                faults.append(f"{name}: not finite")
            elif (y < 0).any():
                faults.append(f"{name}: negative")
            elif (np.diff(y) < -1e-9 * max(float(y.max()), 1.0)).any():
                faults.append(f"{name}: falls although more is spent")
            elif not np.allclose(y, np.asarray(reverse[tactic.id].curve(x)), rtol=1e-6, atol=1e-9):
                faults.append(f"{name}: depends on the order of tactics or features")
    return faults[:10]


def _probes(currency: str) -> list[Brief]:
    day = date(2027, 2, 17)
    formats = taxonomy.formats.ids
    return [
        Brief.model_validate({
            "event": {
                "name": "probe", "date": day + timedelta(days=37 * i), "category": category,
                "format": formats[i % len(formats)],
                "price": {"amount": 5000 if i % 4 == 3 else 0, "currency": currency},
            },
            "goal": {"target": 20 * 4 ** (i % 4)},
            "budget": {"amount": 0, "currency": currency},
        })
        for i, category in enumerate(taxonomy.categories.ids)
    ]  # fmt: skip


def _probe_request(
    brief: Brief, tactics: Sequence[Tactic], fx: Rates, rng: np.random.Generator, like: ScoringRequest | None = None
) -> ScoringRequest:
    """A request with random features, some of them unknown; ``like`` repeats another request's features."""
    from feature_repo.names import RESPONSE_FEATURES

    if like is None:
        drawn = np.exp(rng.normal(0, 3, (len(tactics), len(RESPONSE_FEATURES))))
        known = rng.random(drawn.shape) < 0.7
        features: Any = {
            tactic.id: {name: float(drawn[i, j]) if known[i, j] else None for j, name in enumerate(RESPONSE_FEATURES)}
            for i, tactic in enumerate(tactics)
        }
    else:
        # the same values, tactics and names in another order
        features = {t: dict(reversed(list(v.items()))) for t, v in reversed(list(like.features.items()))}
    return ScoringRequest(brief, brief.event.date - timedelta(days=28), tactics, features, fx=fx)


def _grid(tactic: Tactic, fx: Rates) -> Floats:
    """From nothing to ten times what anybody would spend."""
    top = fx.from_jpy(30_000_000.0) if tactic.is_paid else 300.0
    return np.concatenate([[0.0], np.geomspace(top / 1e5, top, 60)])


def demand_faults(model: DemandModel) -> list[str]:
    """Faults of a demand model over all segments, formats and a span of dates."""
    faults: list[str] = []
    start = (model.trained_until or date(2026, 1, 1)) + timedelta(days=1)
    for segment in [*taxonomy.categories.ids, "all"]:
        for event_format in taxonomy.formats.ids:
            for ahead in (0, 7, 45, 200, 400, 900):
                day = start + timedelta(days=ahead)
                outlook = model.outlook(segment, day, start, event_format, price=float(1000 * (ahead % 2)))
                values = (outlook.index, outlook.organic_mean, outlook.organic_log_sd)
                if not all(math.isfinite(v) and v >= 0 for v in values) or outlook.index <= 0:
                    faults.append(f"{segment}/{event_format} on {day}: index or baseline not a positive number")
                if not 0 < outlook.show_up.mean < 1:
                    faults.append(f"{segment}/{event_format}: show-up rate {outlook.show_up.mean}")
    return faults[:10]
