"""The demand model as serving uses it: tables made at training time, no Prophet at request time.

    demand index       per segment and week of the event; 1 is the usual demand of the segment's last year
    organic baseline   exp(level + effects) x index^elasticity, the effects those of :mod:`turnout.scoring.effects`
    pacing             cumulative share by days before the event, per kind
    show-up rate       a Beta per kind

Without history all of it is published figures (the catalogue's event-level priors) and says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from turnout.errors import NotReadyError
from turnout.plan import Evidence
from turnout.scoring.effects import ORGANIC, Columns, EffectTable, EventFacts
from turnout.scoring.parameters import find_extra_file
from turnout.scoring.published import kind_of, published_pacing, published_show_up
from turnout.scoring.types import DemandOutlook, Pacing, ShowUp

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

SCHEMA = 2
FILE = "demand.json"
ALL_SEGMENTS = "all"
#: From so many events of a segment on, its organic baseline rests on own data.
OWN_DATA_EVENTS = 5
#: Registrations of an event nobody promotes: a guess, wide enough to be overruled by a few events.
ORGANIC_GUESS = 15.0
ORGANIC_GUESS_LOG_SD = 1.0


@dataclass(frozen=True, slots=True)
class Organic:
    """Registrations that come without any tactic, log scale.

    Attributes:
        level: log of the expected number of an average event.
        effects, effect_sd, trend_origin, country: as in :class:`turnout.scoring.parameters.ResponseParameters`.
        elasticity: change of the log number per change of the log demand index.
        log_sd: spread of one event's log number by segment (``''``: a segment without data).
        events: events per segment the effects rest on.
    """

    level: float = math.log(ORGANIC_GUESS)
    effects: dict[str, dict[str, float]] = field(default_factory=dict)
    effect_sd: dict[str, float] = field(default_factory=dict)
    trend_origin: date | None = None
    country: str = "JP"
    elasticity: float = 1.0
    log_sd: dict[str, float] = field(default_factory=lambda: {"": ORGANIC_GUESS_LOG_SD})
    events: dict[str, int] = field(default_factory=dict)

    @property
    def table(self) -> EffectTable:
        return EffectTable(self.effects, self.effect_sd, self.trend_origin, self.country)

    def log_means(self, columns: Columns, index: ArrayLike) -> Floats:
        """Log of the expected number per event at its demand index, shape (events,).

        Args:
            columns: as :func:`turnout.scoring.effects.terms` reads them, the tactic being ``ORGANIC``.
        """
        demand = self.elasticity * np.log(np.maximum(np.asarray(index, dtype=np.float64), 1e-6))
        return np.asarray(np.minimum(self.level + self.table.log_scale(columns, len(demand)) + demand, 16.0))

    def spreads(self, columns: Columns, segments: Sequence[str]) -> Floats:
        """Spread of the log number per event, what is not known of organiser or theme included."""
        own = np.array([self.log_sd.get(s, self.log_sd.get("", ORGANIC_GUESS_LOG_SD)) for s in segments])
        return np.asarray(np.sqrt(own**2 + self.table.unseen_variance(columns, len(own))))


@dataclass(frozen=True, slots=True)
class DemandParameters:
    """The content of ``demand.json``.

    Attributes:
        first_week: Monday of the first entry of every list in ``index``.
        index: demand index per week, by segment; ``all`` is the pooled one.
        pacing, show_up: by kind (:func:`turnout.scoring.published.kind_of`); a kind that is absent is published.
    """

    first_week: date | None = None
    index: dict[str, list[float]] = field(default_factory=dict)
    organic: Organic = field(default_factory=Organic)
    pacing: dict[str, Pacing] = field(default_factory=dict)
    show_up: dict[str, ShowUp] = field(default_factory=dict)
    trained_until: date | None = None
    is_simulated_data: bool = False
    events: int = 0

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, default=str, ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> DemandParameters:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: another schema version, or not JSON.
        """
        data: dict[str, Any] = json.loads(text)
        if (schema := data.pop("schema", None)) != SCHEMA:
            raise ValueError(f"{FILE} has schema {schema!r}; this code reads {SCHEMA}: train again")
        origin = data["organic"]["trend_origin"]
        origin = None if origin is None else date.fromisoformat(origin)
        data["organic"] = Organic(**data["organic"] | {"trend_origin": origin})
        data["pacing"] = {
            kind: Pacing(tuple(p["days"]), tuple(p["share"]), p["source"]) for kind, p in data["pacing"].items()
        }
        data["show_up"] = {kind: ShowUp(**s) for kind, s in data["show_up"].items()}
        for name in ("first_week", "trained_until"):
            data[name] = None if data[name] is None else date.fromisoformat(data[name])
        return cls(**data)


class DemandModel:
    """Outlooks for events. Nothing changes after loading."""

    def __init__(self, parameters: DemandParameters, *, name: str, version: str, alias: str | None = None) -> None:
        self.parameters = parameters
        self.name = name
        self.version = version
        self.alias = alias

    @classmethod
    def load(cls, directory: Path, name: str, version: str, alias: str | None = None) -> Self:
        """Load the model that :mod:`turnout.registry` put into ``directory``.

        Raises:
            NotReadyError: the directory holds no complete model.
        """
        try:
            text = find_extra_file(directory, FILE).read_text(encoding="utf-8")
            return cls(DemandParameters.from_json(text), name=name, version=version, alias=alias)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise NotReadyError(f"model {name} version {version} cannot be read from {directory}: {error}") from error

    @classmethod
    def benchmark(cls) -> Self:
        """Published figures alone, for a machine without any trained model."""
        return cls(DemandParameters(), name="turnout-demand", version="0", alias=None)

    @property
    def trained_until(self) -> date | None:
        return self.parameters.trained_until

    @property
    def is_simulated_data(self) -> bool:
        return self.parameters.is_simulated_data

    def index(self, segment_id: str, event_date: date) -> float:
        """Demand for an event of ``segment_id`` on ``event_date`` against the usual.

        Dates beyond the forecast take the value of the same season in its last or first year.
        """
        series, first = self._series(segment_id), self.parameters.first_week
        if not series or first is None:
            return 1.0
        week = (event_date - first) // timedelta(weeks=1)
        if week < 0:
            week = min(week % 52, len(series) - 1)
        elif week >= len(series):
            week = max(len(series) - 52 + (week - len(series)) % 52, 0)
        return series[week]

    def outlook(
        self,
        segment_id: str,
        event_date: date,
        as_of: date,
        format: str,
        *,
        price: float = 0.0,
        facts: EventFacts | None = None,
    ) -> DemandOutlook:
        """What to expect of an event before any tactic.

        Args:
            segment_id: event category.
            as_of: the day of planning. Registrations that came before it are not subtracted.
            format: offline, online or hybrid.
            price: ticket price; only whether it is zero matters here.
            facts: what else is known of the event; default: nothing.
        """
        p = self.parameters
        kind = kind_of(format, price)
        index = self.index(segment_id, event_date)
        organic = p.organic
        columns = (facts or EventFacts(segment_id, kind, event_date)).columns([ORGANIC])
        evidence, source = self._evidence(segment_id)
        return DemandOutlook(
            segment_id=segment_id if segment_id in p.index else ALL_SEGMENTS,
            index=index,
            organic_mean=math.exp(float(organic.log_means(columns, [index])[0])),
            organic_log_sd=float(organic.spreads(columns, [segment_id])[0]),
            pacing=p.pacing.get(kind) or published_pacing(kind),
            show_up=p.show_up.get(kind) or published_show_up(kind),
            evidence=evidence,
            source=source,
        )

    def _series(self, segment_id: str) -> list[float]:
        index: Mapping[str, list[float]] = self.parameters.index
        return index.get(segment_id) or index.get(ALL_SEGMENTS) or []

    def _evidence(self, segment_id: str) -> tuple[Evidence, str]:
        p = self.parameters
        here, everywhere = p.organic.events.get(segment_id, 0), sum(p.organic.events.values())
        mark = "simulated " if p.is_simulated_data else ""
        if here >= OWN_DATA_EVENTS:
            return Evidence.own_data, f"{mark}own data: {here} events of this category"
        if everywhere >= OWN_DATA_EVENTS:
            return Evidence.similar_events, f"{mark}own data: {everywhere} events, {here} of this category"
        return Evidence.guess, f"guess: {ORGANIC_GUESS:.0f} registrations come by themselves; {everywhere} own events"


class _Table:
    """The model as MLflow's generic flavour serves it: a frame of events in, a frame of outlooks out."""

    def __init__(self, model: DemandModel) -> None:
        self.model = model

    def predict(self, frame: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Columns segment_id, event_date (ISO), format, price → index, organic_mean, show_up_rate."""
        import pandas

        outlooks = []
        for row in frame.to_dict("records"):
            day = date.fromisoformat(str(row["event_date"]))
            price = float(row["price"])
            outlooks.append(self.model.outlook(str(row["segment_id"]), day, day, str(row["format"]), price=price))
        return pandas.DataFrame({
            "index": [o.index for o in outlooks],
            "organic_mean": [o.organic_mean for o in outlooks],
            "show_up_rate": [o.show_up.mean for o in outlooks],
        })  # fmt: skip


def _load_pyfunc(path: str) -> _Table:
    """How ``mlflow.pyfunc.load_model`` opens the model; ``path`` is the data folder it was logged with."""
    return _Table(DemandModel.load(Path(path), "turnout-demand", version="mlflow"))
