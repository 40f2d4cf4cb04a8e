"""Simulated histories for evaluation, taken through the real stages: files, loader and gate, features, demand, dataset.

Everything happens in a home of its own with its own servers, which is removed afterwards: an installation's warehouse
never sees a simulated world that was made to measure it. One server serves all worlds, each as an organisation.

Two things are kept below ``home/cache/evaluation``, each by what it is made of: the ingested rows, by the world's
configuration and the code of simulation and ingestion; the dataset, by that of features and forecasts, too.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import Engine

from turnout.settings import Settings

if TYPE_CHECKING:
    from training.dataset import Dataset
    from turnout.scoring.demand import DemandParameters

#: The last day of every evaluated world: results stay comparable from one night to the next.
UNTIL = date(2026, 9, 30)
#: Decisions are measured on the events announced after this share of the events was over.
DECISION_CUT = 0.8
#: At most this many per world, the latest.
DECISIONS = 40
#: Worlds and their rows that are kept for later runs.
_KEPT = 16

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class WorldSpec:
    """What is simulated: arguments of :func:`turnout.simulation.simulate`."""

    seed: int
    events: int = 400
    months: int = 24
    organisers: int = 3
    until: date = UNTIL

    @property
    def key(self) -> str:
        """Names the dataset: changes with the world and with the code that leads to it."""
        return self._key(data_fingerprint())

    @property
    def warehouse_key(self) -> str:
        """Names the ingested rows, and their organisation."""
        return self._key(ingest_fingerprint())

    def _key(self, code: str) -> str:
        text = json.dumps(asdict(self), default=str, sort_keys=True) + code
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Question:
    """A held-out event as it stood on the day registration opened.

    Attributes:
        features: per tactic, the store's features of that day.
    """

    event_id: str
    name: str
    as_of: date
    features: dict[str, dict[str, float | None]]


@dataclass(frozen=True, slots=True)
class SimulatedHistory:
    """A world's history as the models see it, and its truth.

    Attributes:
        dataset: of all events.
        truth: entries of the simulation's ``events.json``.
        manifest: its manifest, from which the world can be drawn again.
        hours: staff hours spent on each event, by name.
        cut: events before this day are known to those who decide.
        demand: the demand model of the morning of ``cut``.
        questions: events announced on ``cut`` or later.
        ingested: rows read and quarantined.
    """

    spec: WorldSpec
    dataset: Dataset
    truth: list[dict[str, Any]]
    manifest: bytes
    hours: dict[str, float]
    cut: date
    demand: DemandParameters | None
    questions: tuple[Question, ...]
    ingested: dict[str, int]


@lru_cache(maxsize=1)
def data_fingerprint() -> str:
    """Changes with the code and the catalogue between a world and its dataset."""
    training = [f"training/{n}.py" for n in ("dataset", "demand", "outlook", "pooling", "hierarchy", "attendance")]
    return _fingerprint(["turnout", "ingestion", "expectations", "feature_repo", *training])


@lru_cache(maxsize=1)
def ingest_fingerprint() -> str:
    """Changes with the code between a world and its rows in the warehouse, and with the columns of these rows."""
    from turnout.cli import snapshots

    own = [f"turnout/{n}" for n in ("simulation", "tactics/catalogue.yaml", "taxonomy.py", "identity.py", "money.py")]
    columns = "".join(f"{t.name}:{','.join(t.c.keys())};" for t in snapshots.TABLES)
    return hashlib.sha256((_fingerprint(["ingestion", "expectations", *own]) + columns).encode()).hexdigest()


def _fingerprint(parts: Sequence[str]) -> str:
    root = Path(__file__).resolve().parents[2]
    found = {p for part in parts for p in ((root / part).rglob("*") if (root / part).is_dir() else [root / part])}
    hasher = hashlib.sha256()
    for path in sorted(p for p in found if p.suffix in {".py", ".yaml", ".sql"} and p.is_file()):
        # the world's truth is read with it, but no row depends on how the best portfolio is found
        if "cli" not in path.relative_to(root).parts and path.name not in {"best.py", "regret.py"}:
            hasher.update(path.relative_to(root).as_posix().encode())
            hasher.update(path.read_bytes())
    return hasher.hexdigest()


def cached(settings: Settings, spec: WorldSpec) -> SimulatedHistory | None:
    """The result of an earlier run, if the world and the code are the same."""
    try:
        with _path(settings, spec).open("rb") as file:
            found = pickle.load(file)  # noqa: S301 - a file of our own, below our own home
    except (OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, TypeError):
        return None
    return found if isinstance(found, SimulatedHistory) and found.spec == spec else None


def _path(settings: Settings, spec: WorldSpec) -> Path:
    return settings.home_path / "cache" / "evaluation" / f"world-{spec.key}.pkl"


def keep(settings: Settings, history: SimulatedHistory) -> None:
    """Keep a result for later runs; those of older code are removed."""
    path = _path(settings, history.spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(pickle.dumps(history))
    part.replace(path)
    _tidy(path.parent)


def _tidy(folder: Path) -> None:
    """Keep the newest of what was kept."""
    for pattern in ("world-*.pkl", "rows-*"):
        newest = sorted(folder.glob(pattern), key=lambda p: p.stat().st_mtime, reverse=True)
        for stale in newest[_KEPT:]:
            if stale.is_dir():
                shutil.rmtree(stale)
            else:
                stale.unlink(missing_ok=True)


@contextmanager
def workshop(settings: Settings) -> Iterator[Settings]:
    """Servers of their own in a temporary home; both are gone afterwards.

    Yields:
        Settings of that home: Tokyo and yen, as the simulated worlds are, with ``settings``' seed and threads.
    """
    from turnout.runtime import services

    home = Path(tempfile.mkdtemp(prefix="turnout-eval-"))
    home.chmod(0o711)
    own = Settings(
        home=home, inbox=home / "inbox", runtime_dir=None, database_url=None, redis_url=None, airflow_database_url=None,
        mlflow_database_url=None, feast_database_url=None, identity_salt="simulated", time_zone="Asia/Tokyo",
        currency="JPY", country="JP", random_seed=settings.random_seed, threads=settings.threads,
    )  # fmt: skip
    try:
        with services(own, migrate=True, durable=False) as ready:
            yield ready
    finally:
        shutil.rmtree(home, ignore_errors=True)


def build(
    ready: Settings, spec: WorldSpec, progress: Progress, *, keep_in: Settings, fresh: bool = False
) -> SimulatedHistory:
    """One world as the models see it: its rows (:func:`ingested`), features, forecasts and training rows.

    Args:
        ready: of :func:`workshop`.
        keep_in: the installation whose cache keeps the ingested rows.
        fresh: simulate and ingest again, whatever was kept.
    """
    from turnout.warehouse.engine import create_engine

    settings, folder = ingested(ready, spec, progress, keep_in=keep_in, fresh=fresh)
    engine = create_engine(settings)
    try:
        return _finished(settings, engine, spec, folder, progress)
    finally:
        engine.dispose()


def ingested(
    ready: Settings, spec: WorldSpec, progress: Progress, *, keep_in: Settings, fresh: bool = False
) -> tuple[Settings, Path]:
    """Have a world's rows in the warehouse: simulated and given to the loader and the gate, or put back from the cache.

    Returns:
        Settings of the world's organisation, and the folder with its truth.
    """
    from turnout.cli import snapshots
    from turnout.simulation import simulate
    from turnout.warehouse.engine import create_engine

    organisation = f"world-{spec.warehouse_key}"
    kept = keep_in.home_path / "cache" / "evaluation" / f"rows-{spec.warehouse_key}"
    folder = ready.home_path / organisation
    settings = organisation_settings(ready, organisation, folder / "inbox")
    engine = create_engine(settings)
    try:
        if (kept / _COMPLETE).is_file() and not fresh:
            progress("putting back ingested rows")
            snapshots.restore(engine, kept)
            return organisation_settings(ready, (kept / _COMPLETE).read_text(encoding="utf-8"), folder), kept
        progress("simulating")
        simulate(
            folder, seed=spec.seed, events=spec.events, organisers=spec.organisers, months=spec.months, until=spec.until
        )
        counts = _ingest(settings, engine, spec.until, progress)
        shutil.rmtree(kept, ignore_errors=True)
        snapshots.dump(engine, organisation, kept)
    finally:
        engine.dispose()
    for name in _TRUTH:
        shutil.copyfile(folder / "truth" / name, kept / name)
    (kept / "ingested.json").write_text(json.dumps(counts), encoding="utf-8")
    # written last, and says whose rows they are
    (kept / _COMPLETE).write_text(organisation, encoding="utf-8")
    shutil.rmtree(folder)
    _tidy(kept.parent)
    return settings, kept


_TRUTH = ("events.json", "event_tactic.parquet", "manifest.json")
_COMPLETE = "complete"


def organisation_settings(ready: Settings, organisation: str, inbox: Path) -> Settings:
    """The settings of the workshop for one of its organisations."""
    values = {name: getattr(ready, name) for name in type(ready).model_fields if name != "mlflow_tracking_uri"}
    return Settings(**values | {"organisation": organisation, "inbox": inbox})


def _ingest(settings: Settings, engine: Engine, until: date, progress: Progress) -> dict[str, int]:
    """The whole inbox through the loader and the gate, as a first night would."""
    from expectations.gate import make_gate
    from ingestion.api import ingest_source
    from turnout.cli.nightly import SOURCES

    totals: dict[str, int] = {}
    with make_gate(settings) as gate:
        for source in SOURCES:
            progress(f"ingesting {source}")
            report = ingest_source(source, date.min, until, settings=settings, engine=engine, gate=gate, trigger="cli")
            for name, value in report.summary().items():
                if isinstance(value, int) and not isinstance(value, bool):
                    totals[name] = totals.get(name, 0) + value
    return totals


def _finished(settings: Settings, engine: Engine, spec: WorldSpec, truth: Path, progress: Progress) -> SimulatedHistory:
    from training import demand

    as_of = spec.until + timedelta(days=1)
    dataset = dataset_of(settings, engine, as_of, progress)
    entries = json.loads((truth / "events.json").read_text(encoding="utf-8"))
    used = pd.read_parquet(truth / "event_tactic.parquet")
    dates = dataset.history.events["event_date"]
    cut = dates.iloc[int(len(dates) * DECISION_CUT)].date()
    opened = {(str(e["name"]), str(e["date"])): date.fromisoformat(e["opens"]) for e in entries}
    progress("features of the decisions")
    questions = _questions(settings, dataset, cut, opened)
    before = dataset.before(cut)
    progress(f"demand model of {cut}")
    trained = demand.fit(before, cut, country=settings.country, seed=settings.random_seed)
    return SimulatedHistory(
        spec=spec,
        dataset=dataset,
        truth=entries,
        manifest=(truth / "manifest.json").read_bytes(),
        hours={str(k): float(v) for k, v in used.groupby("event_name")["staff_hours"].sum().items()},
        cut=cut,
        demand=trained.parameters,
        questions=questions,
        ingested=json.loads((truth / "ingested.json").read_text(encoding="utf-8")),
    )


def dataset_of(settings: Settings, engine: Engine, as_of: date, progress: Progress) -> Dataset:
    """Features, past demand forecasts and the training rows of what the warehouse holds of one organisation."""
    from feature_repo import build as features
    from feature_repo import store
    from training import demand
    from training.dataset import assemble, load_history, with_features
    from turnout.money import Rates

    progress("features")
    features.refresh(settings, as_of, features.history_start(settings, as_of))
    store.apply(settings)
    dataset = assemble(load_history(settings, as_of, engine=engine), Rates.of(settings))
    progress("demand forecasts")
    trained = demand.fit(dataset, as_of, country=settings.country, seed=settings.random_seed)
    demand.publish(settings, engine, trained, "evaluation")
    progress("training rows")
    return with_features(settings, dataset)


def _questions(
    settings: Settings, dataset: Dataset, cut: date, opened: dict[tuple[str, str], date]
) -> tuple[Question, ...]:
    """The latest events announced on ``cut`` or later, with every tactic's features of that day."""
    from feature_repo import names, store
    from turnout.tactics import load_catalogue

    events = dataset.history.events
    chosen = []
    for event_id, event in events.iterrows():
        as_of = opened.get((str(event["name"]), event["event_date"].date().isoformat()))
        if as_of is not None and as_of >= cut:
            chosen.append((str(event_id), str(event["name"]), as_of, str(event["segment_id"])))
    chosen = chosen[-DECISIONS:]
    tactics = load_catalogue().ids
    frame = pd.DataFrame.from_records(
        [
            (event_id, tactic, segment, names.snapshot_timestamp(as_of, settings.zone))
            for event_id, _, as_of, segment in chosen
            for tactic in tactics
        ],
        columns=["event_id", names.TACTIC, names.SEGMENT, names.EVENT_TIMESTAMP],
    )
    columns = list(names.RESPONSE_FEATURES)
    if frame.empty:
        return ()
    found = store.historical(settings, frame, names.RESPONSE_SERVICE)
    values: dict[str, dict[str, dict[str, float | None]]] = {}
    for row in found.to_dict("records"):
        own = {name: None if pd.isna(row[name]) else float(row[name]) for name in columns}
        values.setdefault(str(row["event_id"]), {})[str(row[names.TACTIC])] = own
    return tuple(Question(event_id, name, as_of, values[event_id]) for event_id, name, as_of, _ in chosen)
