"""The demand model: index, organic baseline, pacing, show-up; trained, measured on later events, registered.

Training walks through the history in steps of four weeks (:func:`cutoffs`). At each step everything is fitted to the
events before it alone, and its forecasts are

* written to the feature table ``features.demand_forecast``, dated that day, so that the response model learns from
  forecasts as they would have been made, never from hindsight;
* compared with the events planned in the four weeks that follow: the evaluation.

The last step, ``until``, is the model that is registered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, select

from feature_repo import names
from training import registry as models
from training.attendance import pacing_curves, show_up_rates
from training.dataset import PLANNING_DAYS, Dataset, assemble, demand_index_of, load_history, with_index
from training.estimator import Fitted
from training.outlook import FEWEST_EVENTS, Outlook, forecast_index
from training.pooling import Pooled, fit_pooling, forecast_organic
from training.registry import Card, ModelRef
from turnout.money import Rates
from turnout.registry import DEMAND
from turnout.scoring.demand import ALL_SEGMENTS, FILE, DemandParameters, Organic
from turnout.scoring.effects import ORGANIC, EventFacts
from turnout.scoring.published import published_show_up
from turnout.scoring.types import Pacing, ShowUp
from turnout.settings import Settings
from turnout.warehouse.engine import create_engine

log = structlog.get_logger(__name__)

Floats = NDArray[np.float64]

#: Any Monday; steps are counted from it, so that every night takes the same ones.
_ORIGIN = date(2020, 1, 6)
_STEP = timedelta(weeks=4)
#: How far forecasts reach: past ones as far as plans of their time, the current one two years.
_PAST_WEEKS = 16
_WEEKS = 104


@dataclass(frozen=True, slots=True)
class Step:
    """Everything known on the morning of one day.

    Attributes:
        outlook: the index for the coming weeks.
        organic: fitted to the events before, at their forecast demand.
        basis: what it was made of, see :func:`_basis`.
    """

    cutoff: date
    outlook: Outlook
    organic: Organic
    fitted: Fitted
    pacing: dict[str, Pacing]
    show_up: dict[str, ShowUp]
    basis: str = ""


@dataclass(frozen=True, slots=True)
class Trained:
    """A demand model in memory.

    Attributes:
        parameters: content of ``demand.json``.
        steps: the past forecasts, oldest first; the last one is the model itself.
        backtest: per held-out event: event_id, event_date, actual, predicted, without_index, organic,
            organic_predicted, show_up, show_up_predicted, show_up_published.
        metrics: of the backtest.
    """

    parameters: DemandParameters
    steps: list[Step]
    backtest: pd.DataFrame
    metrics: dict[str, float]
    prophets: dict[str, Any] = field(default_factory=dict)


def cutoffs(first: date, until: date) -> Iterator[date]:
    """Every fourth Monday after ``first`` and before ``until``, then ``until``."""
    day = _ORIGIN + ((first - _ORIGIN) // _STEP + 1) * _STEP
    while day < until:
        yield day
        day += _STEP
    yield until


def fit(dataset: Dataset, until: date, *, country: str, seed: int, threads: int = 1) -> Trained:
    """Fit the model to the events before ``until``, through all its past forecasts.

    Args:
        dataset: rows without features of the store; their demand index is ignored.
    """
    history = dataset.history
    if history.events.empty:
        return Trained(DemandParameters(), [], _backtest_frame([]), {})
    index = pd.Series(1.0, index=history.events.index)
    steps: list[Step] = []
    scored: list[pd.DataFrame] = []
    first = history.events["event_date"].min().date()
    planned = history.events["event_date"] - pd.Timedelta(days=PLANNING_DAYS)
    for cutoff in cutoffs(first, until):
        past = dataset.before(cutoff)
        if len(past.history.events) < FEWEST_EVENTS and cutoff != until:
            continue
        step = _step(past, index, cutoff, _WEEKS if cutoff == until else _PAST_WEEKS, country, seed, threads)
        steps.append(step)
        following = history.events[(planned >= pd.Timestamp(cutoff)) & (planned < pd.Timestamp(cutoff + _STEP))]
        if len(following):
            index[following.index] = index_of(step.outlook, following)
            scored.append(_score(step, dataset, following))
    last = steps[-1]
    backtest = pd.concat(scored, ignore_index=True) if scored else _backtest_frame([])
    parameters = DemandParameters(
        first_week=last.outlook.first_week,
        index={segment: np.round(values, 4).tolist() for segment, values in last.outlook.index.items()},
        organic=last.organic,
        pacing=last.pacing,
        show_up=last.show_up,
        trained_until=history.events["event_date"].max().date(),
        is_simulated_data=bool(history.events["is_simulated"].any()),
        events=len(history.events),
    )
    return Trained(parameters, steps, backtest, measure(backtest), last.outlook.prophets)


def _step(past: Dataset, index: pd.Series, cutoff: date, weeks: int, country: str, seed: int, threads: int) -> Step:
    events = past.history.events
    pooled = fit_pooling(with_index(past, index.reindex(events.index).to_numpy(dtype=np.float64)), stretched=False)
    pacing = pacing_curves(past.history)
    outlook = forecast_index(
        past.history,
        _without_demand(pooled, past),
        pacing,
        cutoff=cutoff,
        weeks=weeks,
        country=country,
        seed=seed,
        threads=threads,
    )
    fitted = Fitted.without_trees(pooled.parameters)
    basis = _basis([cutoff, country, seed], events)
    return Step(cutoff, outlook, pooled.organic, fitted, pacing, show_up_rates(events), basis)


def _without_demand(pooled: Pooled, past: Dataset) -> pd.Series:
    """What each event would have brought at usual demand in no season: the index must explain both itself."""
    still = {group: levels for group, levels in pooled.parameters.effects.items() if group != "season"}
    parameters = replace(pooled.parameters, effects=still, demand_elasticity=0.0)
    organic = replace(pooled.organic, elasticity=0.0)
    organic = replace(organic, effects={group: v for group, v in organic.effects.items() if group != "season"})
    events = past.history.events
    totals = pd.Series(forecast_organic(organic, events, np.ones(len(events))).mean, index=events.index)
    means = pd.Series(Fitted.without_trees(parameters).means(past))
    return totals.add(means.groupby(past.rows["event_id"].to_numpy()).sum(), fill_value=0.0)


def step_at(dataset: Dataset, cutoff: date, *, last: date, settings: Settings) -> Step:
    """What the recipe knows on the morning of ``cutoff``, with an outlook as far as the week of ``last``.

    Args:
        dataset: with the demand forecast for each event at its time (:func:`training.dataset.build`).
    """
    past = dataset.before(cutoff)
    index = pd.Series(demand_index_of(past.history.events), index=past.history.events.index)
    weeks = (last - cutoff).days // 7 + 2
    return _step(past, index, cutoff, weeks, settings.country, settings.random_seed, settings.threads)


def index_of(outlook: Outlook, events: pd.DataFrame) -> Floats:
    """The index of each event in ``outlook``; beyond it, that of its first or last week."""
    weeks = len(outlook.index[ALL_SEGMENTS])
    return np.array([
        outlook.of(segment, min(max((day.date() - outlook.first_week).days // 7, 0), weeks - 1))
        for segment, day in zip(events["segment_id"], events["event_date"], strict=True)
    ])  # fmt: skip


# --- evaluation -------------------------------------------------------------------------------------------------------


def _backtest_frame(records: list[dict[str, Any]]) -> pd.DataFrame:
    columns = (
        "event_id", "event_date", "actual", "predicted", "without_index", "organic", "organic_predicted", "show_up",
        "show_up_predicted", "show_up_published",
    )  # fmt: skip
    return pd.DataFrame.from_records(records, columns=list(columns))


def _score(step: Step, dataset: Dataset, events: pd.DataFrame) -> pd.DataFrame:
    """Forecasts of ``step`` for events it has not seen, beside what came."""
    rows = dataset.subset(dataset.rows["event_id"].isin(events.index).to_numpy())
    index = index_of(step.outlook, events)
    at_index = pd.Series(index, index=events.index).reindex(dataset.history.events.index).fillna(1.0)

    def tactics(part: Dataset) -> Floats:
        sums = pd.Series(step.fitted.means(part)).groupby(part.rows["event_id"].to_numpy()).sum()
        return np.asarray(sums.reindex(events.index).fillna(0.0), dtype=np.float64)

    then, usual = np.asarray(at_index, dtype=np.float64), np.ones(len(dataset.history.events))
    organic = forecast_organic(step.organic, events, index).mean
    plain = tactics(with_index(rows, usual)) + forecast_organic(step.organic, events, np.ones(len(events))).mean
    rates = [step.show_up.get(kind) or published_show_up(kind) for kind in events["kind"]]
    return pd.DataFrame(
        {
            "event_id": events.index.to_numpy(),
            "event_date": [d.date().isoformat() for d in events["event_date"]],
            "actual": events["registrations"].to_numpy(dtype=np.float64),
            "predicted": tactics(with_index(rows, then)) + organic,
            "without_index": plain,
            "organic": events["organic_registrations"].to_numpy(dtype=np.float64),
            "organic_predicted": organic,
            "show_up": events["show_up_rate"].to_numpy(dtype=np.float64),
            "show_up_predicted": [r.mean for r in rates],
            "show_up_published": [published_show_up(kind).mean for kind in events["kind"]],
        }
    )


def measure(backtest: pd.DataFrame) -> dict[str, float]:
    """Metrics on events later than those fitted to: WAPE of totals with and without the index, of the organic baseline,
    and the mean absolute error of show-up rates beside that of the published rates."""
    known = backtest.dropna(subset=["actual"])
    metrics = {"test_events": float(len(known))}
    if known["actual"].sum() > 0:
        total = float(known["actual"].sum())
        metrics["wape_events"] = float((known["actual"] - known["predicted"]).abs().sum()) / total
        metrics["wape_events_without_index"] = float((known["actual"] - known["without_index"]).abs().sum()) / total
        metrics["bias_events"] = float((known["predicted"] - known["actual"]).sum()) / total
    organic = backtest.dropna(subset=["organic"])
    if organic["organic"].sum() > 0:
        error = (organic["organic"] - organic["organic_predicted"]).abs().sum()
        metrics["wape_organic"] = float(error / organic["organic"].sum())
    shown = backtest.dropna(subset=["show_up"])
    if len(shown):
        metrics["mae_show_up"] = float((shown["show_up"] - shown["show_up_predicted"]).abs().mean())
        metrics["mae_show_up_published"] = float((shown["show_up"] - shown["show_up_published"]).abs().mean())
    return metrics


# --- storing ----------------------------------------------------------------------------------------------------------


def train(settings: Settings, until: date, *, engine: Engine | None = None) -> ModelRef:
    """Train on the events before ``until``, publish the forecasts, register the model.

    On data and code that a registered version was made from already, nothing is registered, and nothing is computed
    either unless a forecast is missing from the feature table.
    """
    own = engine or create_engine(settings, pool_size=1)
    try:
        history = load_history(settings, until, engine=own)
        dataset = replace(assemble(history, Rates.of(settings)), country=settings.country)
        fingerprint = models.combined_fingerprint(settings, dataset.fingerprint)
        ref = models.find(settings, DEMAND, fingerprint)
        if ref is not None and _is_published(settings, own, dataset, until, f"{DEMAND}/{ref.version}"):
            log.info("model_unchanged", model=DEMAND, version=ref.version)
            return ref
        trained = fit(dataset, until, country=settings.country, seed=settings.random_seed, threads=settings.threads)
        ref = ref or _register(settings, dataset, trained, fingerprint)
        publish(settings, own, trained, f"{DEMAND}/{ref.version}")
    finally:
        if engine is None:
            own.dispose()
    return ref


def _is_published(settings: Settings, engine: Engine, dataset: Dataset, until: date, version: str) -> bool:
    """Whether the forecasts of every past step stand in the feature table, and any of ``version``."""
    from feature_repo import schema

    dates = dataset.history.events["event_date"]
    if dates.empty:
        return True
    steps = [d for d in cutoffs(dates.min().date(), until) if (dates < pd.Timestamp(d)).sum() >= FEWEST_EVENTS]
    wanted = {
        names.snapshot_timestamp(d, settings.zone): _basis(
            [d, settings.country, settings.random_seed], dataset.history.events[dates < pd.Timestamp(d)]
        )
        for d in steps
        if d != until
    }
    table = schema.demand_forecast
    own = select(table.c.event_timestamp).limit(1)
    own = own.where(table.c.organisation == settings.organisation, table.c.model_version == version)
    with engine.begin() as connection:
        schema.create_tables(connection)
        present = _bases(connection, settings)
        return connection.scalar(own) is not None and wanted.items() <= present.items()


def publish(settings: Settings, engine: Engine, trained: Trained, version: str) -> int:
    """Write the forecasts of every step to the feature table; returns the rows written. Idempotent.

    A forecast of a past step stays as it was first made while it knows the same events (:func:`_basis`): what was
    corrected since was not known then. With other events, or other code, it is made again.

    Of the nights between the steps only the newest is kept: past plans are joined with the steps, which every night
    makes again alike, so that data which did not change give training rows that did not change.
    """
    from feature_repo import schema

    written = 0
    if not trained.steps:
        return written
    stamps = [names.snapshot_timestamp(step.cutoff, settings.zone) for step in trained.steps]
    table = schema.demand_forecast
    with engine.begin() as connection:
        schema.create_tables(connection)
        kept = _bases(connection, settings)
        connection.execute(
            table.delete().where(
                table.c.organisation == settings.organisation,
                table.c.event_timestamp < stamps[-1],
                table.c.event_timestamp.not_in(stamps),
            )
        )
        for step, stamp in zip(trained.steps, stamps, strict=True):
            if step is not trained.steps[-1] and kept.get(stamp) == step.basis:
                continue
            written += schema.replace_demand_forecast(
                connection, settings.organisation, stamp, _forecast_frame(step), version, step.basis
            )
    return written


def _basis(options: Iterable[Any], known: pd.DataFrame) -> str:
    """What a forecast is made of but for figures: the recipe, and the events that it knows."""
    text = "|".join([*map(str, options), models.recipe_fingerprint(), *sorted(map(str, known.index))])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _bases(connection: Connection, settings: Settings) -> dict[datetime, str]:
    """The basis of each forecast that stands in the feature table."""
    from feature_repo import schema

    table = schema.demand_forecast
    found = select(table.c.event_timestamp, table.c.basis).distinct()
    found = found.where(table.c.organisation == settings.organisation, table.c.basis.is_not(None))
    return {row.event_timestamp: str(row.basis) for row in connection.execute(found)}


def _forecast_frame(step: Step) -> pd.DataFrame:
    """One row per segment and week, in the feature table's columns."""
    outlook, frames = step.outlook, []
    for segment, index in outlook.index.items():
        mondays = [outlook.first_week + timedelta(weeks=week) for week in range(len(index))]
        kinds = list(step.organic.effects.get("kind", {})) or [""]
        organic = np.mean([_organic_weeks(step.organic, segment, kind, mondays, index) for kind in kinds], axis=0)
        frames.append(
            pd.DataFrame(
                {
                    names.SEGMENT: segment,
                    names.TARGET_WEEK: [names.target_week(day) for day in mondays],
                    "demand_index": index,
                    "demand_organic_per_event": organic,
                    "demand_trend": outlook.trend.get(segment, 0.0),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _organic_weeks(organic: Organic, segment: str, kind: str, mondays: list[date], index: Floats) -> Floats:
    """Organic registrations of an event of one segment and kind in each week."""
    days = np.array(mondays, dtype="datetime64[D]")
    columns = EventFacts(segment, kind, mondays[0]).columns([ORGANIC] * len(mondays)) | {"event_date": days}
    return np.exp(organic.log_means(columns, index))


def _register(settings: Settings, dataset: Dataset, trained: Trained, fingerprint: str) -> ModelRef:
    events = dataset.history.events
    card = Card(
        fingerprint=fingerprint,
        events=len(events),
        rows=len(dataset.history.daily),
        first_event=None if events.empty else events["event_date"].min().date(),
        last_event=trained.parameters.trained_until,
        simulated_share=float(events["is_simulated"].mean()) if len(events) else 0.0,
        params={
            "country": settings.country,
            "seed": settings.random_seed,
            "prophet_segments": ",".join(sorted(trained.prophets)),
            "steps": len(trained.steps),
        },
        metrics=trained.metrics,
        tables={"backtest.csv": trained.backtest.to_csv(index=False)},
    )
    return models.register(
        settings, DEMAND, card, lambda mlflow: log_model(mlflow, trained.parameters, trained.prophets)
    )


def log_model(mlflow: Any, parameters: DemandParameters, prophets: Mapping[str, Any]) -> Any:
    """Log the tables that serving reads, with the fitted Prophets beside them."""
    import tempfile
    from pathlib import Path

    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    signature = ModelSignature(
        inputs=Schema([
            ColSpec("string", "segment_id"), ColSpec("string", "event_date"), ColSpec("string", "format"),
            ColSpec("double", "price"),
        ]),
        outputs=Schema([ColSpec("double", n) for n in ("index", "organic_mean", "show_up_rate")]),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "demand"
        folder.mkdir()
        (folder / FILE).write_text(parameters.to_json(), encoding="utf-8")
        if prophets:
            from prophet.serialize import model_to_json

            for segment, model in prophets.items():
                (folder / f"prophet_{segment}.json").write_text(model_to_json(model), encoding="utf-8")
        return mlflow.pyfunc.log_model(
            name="model",
            loader_module="turnout.scoring.demand",
            data_path=str(folder),
            signature=signature,
            pip_requirements=models.requirements(),
            registered_model_name=DEMAND,
        )
