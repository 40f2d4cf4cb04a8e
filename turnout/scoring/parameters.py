"""What a trained response model knows besides its trees, as one JSON file (``parameters.json``).

The height of a tactic's curve is a sum of effects on the log scale, each shrunk towards its prior by how little the
data say (:mod:`training.hierarchy` fits them, :mod:`turnout.scoring.effects` lists them and looks them up). An effect
never seen in the data is its prior: mean zero, the prior's spread. So a model without any history is the benchmark
itself, and says so.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from turnout.curves import Curve, Step, Tabulated
from turnout.scoring.effects import Columns, EffectTable, EventFacts
from turnout.scoring.overlap import Overlap

Floats = NDArray[np.float64]

SCHEMA = 3
FILE = "parameters.json"
LOG_CORRECTION_LIMIT = 1.5


#: Key of "a segment that is not in the data" in the tables of spreads.
NEW_SEGMENT = ""
_KEYS = ("tactic_id", "segment_id")


@dataclass(frozen=True, slots=True)
class TacticHistory:
    """What the organiser has seen of one tactic until the model was trained.

    Attributes:
        log_scale: the tactic's own effect, posterior mean.
        log_stretch: log of the audience's size against the benchmark's: moves the saturation, not the first
            registrations' price (:meth:`turnout.curves.Curve.stretched`).
        log_sd: posterior spread of the whole log scale (all effects and their covariances), by segment; the key ``''``
            is a segment without data. It replaces the benchmark's log_sd.
        noise_log_sd: spread of this tactic's registrations from event to event, beyond counting noise and the shared
            shock, calibrated on events later than those trained on.
        events: events in which it was used; ``segments`` splits them by segment.
        first, last: dates of the first and last of these events.
        amounts: of x over these events, least, mean, most and standard deviation / mean: what was ever tried. None in
            models made before it was recorded.
    """

    log_scale: float
    log_sd: dict[str, float]
    noise_log_sd: float
    events: int
    segments: dict[str, int]
    first: date
    last: date
    log_stretch: float = 0.0
    amounts: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class ResponseParameters:
    """Everything :class:`turnout.scoring.ResponseModel` needs besides the booster.

    Attributes:
        feature_names: columns of the design matrix, in the booster's order.
        tactics: history per tactic id; a tactic that is absent was never used.
        effects: posterior means, group → key → effect (:mod:`turnout.scoring.effects`); of the tactics' own
            only those that are known from lift tests alone.
        effect_sd: spread of a level that was never seen, by group.
        trend_origin: the day trends are counted from.
        country: whose public holidays count.
        level_log_sd: posterior spread of all effects but the tactic's own, by segment (``''``: one without data): what
            is not known of a tactic without history, on top of its benchmark's log_sd.
        demand_elasticity: change of log registrations per change of the log demand index.
        noise_log_sd: :attr:`TacticHistory.noise_log_sd` of a tactic without history.
        shared_log_sd: spread of the shock that all tactics of one event share.
        goal_offset, goal_slope: of :class:`turnout.scoring.predictive.GoalScale`.
        overlap: the usual company of tactics at past events.
        overdispersion: of the counts given the mean, as the training weights used it.
        trained_until: the last event date that was seen, None without history.
        is_simulated_data: any training row came from the simulated world.
        rows, events: size of the training data.
    """

    feature_names: tuple[str, ...]
    tactics: dict[str, TacticHistory] = field(default_factory=dict)
    effects: dict[str, dict[str, float]] = field(default_factory=dict)
    effect_sd: dict[str, float] = field(default_factory=dict)
    trend_origin: date | None = None
    country: str = "JP"
    level_log_sd: dict[str, float] = field(default_factory=dict)
    demand_elasticity: float = 0.0
    noise_log_sd: float = 0.5
    shared_log_sd: float = 0.2
    goal_offset: float = 0.0
    goal_slope: float = 1.0
    overlap: Overlap = field(default_factory=Overlap)
    overdispersion: float = 0.1
    trained_until: date | None = None
    is_simulated_data: bool = False
    rows: int = 0
    events: int = 0

    @property
    def table(self) -> EffectTable:
        own = self.effects.get("tactic", {}) | {t: history.log_scale for t, history in self.tactics.items()}
        return EffectTable({**self.effects, "tactic": own}, self.effect_sd, self.trend_origin, self.country)

    def log_scales(self, columns: Columns, rows: int) -> Floats:
        """Posterior mean of log(own registrations / benchmark) per row, without the trees' correction and demand.

        Args:
            columns: as :func:`turnout.scoring.effects.terms` reads them.
        """
        return self.table.log_scale(columns, rows)

    def log_scale(self, tactic_id: str, facts: EventFacts) -> float:
        """The same for one tactic of one event."""
        return float(self.log_scales(facts.columns([tactic_id]), 1)[0])

    def log_correction(self, trees: Floats, demand_index: ArrayLike) -> Floats:
        """What the trees and the demand outlook add to the log scale, within +-1.5 together."""
        index = np.maximum(np.asarray(demand_index, dtype=np.float64), 1e-6)
        limit = LOG_CORRECTION_LIMIT
        return np.clip(np.clip(trees, -limit, limit) + self.demand_elasticity * np.log(index), -limit, limit)

    def event_size(self, facts: EventFacts, demand_index: float) -> float:
        """Everything that lifts all tactics of an event alike, on the log scale."""
        shared = float(self.table.event_size(facts.columns([""]), 1)[0])
        return shared + self.demand_elasticity * math.log(max(demand_index, 1e-6))

    def curve(self, tactic_id: str, prior: Curve) -> Curve:
        """The prior curve over an audience of the size the data suggest; its height is not touched."""
        history = self.tactics.get(tactic_id)
        return stretch(prior, history.log_stretch) if history else prior

    def height_log_sd(self, tactic_id: str, segment_id: str, *, prior_log_sd: float) -> float:
        """How uncertain the height of a curve is; ``prior_log_sd``, the benchmark's, counts without history."""
        history = self.tactics.get(tactic_id)
        if history is not None:
            return _by_segment(history.log_sd, segment_id)
        return math.hypot(_by_segment(self.level_log_sd, segment_id), prior_log_sd)

    def height_log_sds(self, columns: Columns, prior_log_sds: ArrayLike) -> Floats:
        """How uncertain the height of each row's curve is, levels never seen (organiser, theme …) included."""
        priors = np.asarray(prior_log_sds, dtype=np.float64)
        rows = len(priors)
        tactics, segments = (np.broadcast_to(np.asarray(columns[n], dtype=object), (rows,)) for n in _KEYS)
        known = np.array(
            [self.height_log_sd(t, s, prior_log_sd=p) for t, s, p in zip(tactics, segments, priors, strict=True)]
        )
        return np.asarray(np.sqrt(known**2 + self.table.unseen_variance(columns, rows)))

    def noise(self, tactic_id: str) -> float:
        """Spread of a tactic's registrations from event to event."""
        history = self.tactics.get(tactic_id)
        return history.noise_log_sd if history else self.noise_log_sd

    # --- JSON --------------------------------------------------------------------------------------------------
    def to_json(self) -> str:
        return json.dumps(
            {"schema": SCHEMA, **asdict(self)}, default=_plain, ensure_ascii=False, sort_keys=True, indent=1
        )

    @classmethod
    def from_json(cls, text: str) -> ResponseParameters:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: another schema version, or not JSON.
        """
        data: dict[str, Any] = json.loads(text)
        if (schema := data.pop("schema", None)) != SCHEMA:
            raise ValueError(f"{FILE} has schema {schema!r}; this code reads {SCHEMA}: train again")
        return cls(
            **data
            | {
                "feature_names": tuple(data["feature_names"]),
                "trend_origin": _date(data["trend_origin"]),
                "tactics": {name: _history(value) for name, value in data["tactics"].items()},
                "overlap": Overlap(**data["overlap"]),
                "trained_until": _date(data["trained_until"]),
            }
        )

    @classmethod
    def read(cls, directory: Path) -> ResponseParameters:
        """From a model directory, where MLflow keeps extra files in ``extra_files/``.

        Raises:
            FileNotFoundError: there is none.
        """
        return cls.from_json(find_extra_file(directory, FILE).read_text(encoding="utf-8"))


def stretch(curve: Curve, log_stretch: float) -> Curve:
    """``curve`` over an audience exp(log_stretch) times as large.

    Curves of whole units keep their thresholds, which are prices, and what the first unit brings: in a larger audience
    each further unit finds more people whom the ones before did not reach, exp(log_stretch) times as many.
    """
    if log_stretch == 0.0 or isinstance(curve, Tabulated):
        return curve
    if isinstance(curve, Step):
        levels = np.atleast_1d(np.asarray(curve.levels, dtype=np.float64))
        return Step(curve.at, (levels[0] + (levels - levels[0]) * math.exp(log_stretch)).tolist())
    return curve.stretched(math.exp(log_stretch))


def find_extra_file(directory: Path, name: str) -> Path:
    """A file that was logged with a model: beside it, or in a folder MLflow put it in."""
    for folder in (directory, directory / "extra_files", directory / "data" / "demand"):
        if (path := folder / name).is_file():
            return path
    raise FileNotFoundError(f"{directory} holds no {name}: not a Turnout model, or an incomplete download")


def _by_segment(spreads: dict[str, float], segment_id: str) -> float:
    return spreads.get(segment_id, spreads.get(NEW_SEGMENT, 0.0))


def _plain(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"not JSON: {value!r}")


def _date(value: str | None) -> date | None:
    return None if value is None else date.fromisoformat(value)


def _history(value: dict[str, Any]) -> TacticHistory:
    return TacticHistory(
        **value
        | {
            "first": date.fromisoformat(value["first"]),
            "last": date.fromisoformat(value["last"]),
            "amounts": tuple(value["amounts"]) if value.get("amounts") else None,
        }
    )
