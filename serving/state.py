"""What one worker of the service holds: models, features, connections; and how a plan comes out of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter
from typing import Final, TypeVar
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from serving import metrics, store
from serving.auth import Access, mode_of
from serving.features import FeatureReader
from serving.limits import Admission
from serving.planner import Bundle, Features, Insights, make_plan
from serving.store import StoredPlan
from turnout import registry
from turnout.brief import Brief
from turnout.errors import NotReadyError
from turnout.identity import event_key, share_of
from turnout.money import Rates
from turnout.plan import ModelVersion, Plan
from turnout.scoring import DemandModel, ResponseModel
from turnout.settings import Settings
from turnout.tactics import Catalogue, load_catalogue

log = structlog.get_logger(__name__)
T = TypeVar("T")

#: How soon a failed start is tried again.
RETRY_SECONDS: Final = 3.0
#: How long monitoring figures are kept before they are read again.
MONITOR_SECONDS: Final = 30.0
#: How long an organisation's rules of thumb are kept before they are read again.
INSIGHT_SECONDS: Final = 60.0
#: Organisations whose rules of thumb are kept at once.
_MOST_KEPT: Final = 1000
PROBE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """The models in use and since when.

    Attributes:
        versions: of the champions; then, where a share of events goes to it, of the challenging response model.
        challenger: the challenging response model beside the champion's demand model; None where there is none, where
            it is the champion itself, or where no event goes to it.
    """

    bundle: Bundle
    since: datetime
    versions: tuple[str, ...]
    challenger: Bundle | None = None

    @property
    def models(self) -> list[ModelVersion]:
        """Every model in use."""
        return [*self.bundle.versions, *(self.challenger.versions[:1] if self.challenger else [])]

    def bundle_for(self, event_id: str, challenger_share: float) -> Bundle:
        """The models that plan an event: always the same ones for one event while the aliases stay."""
        if self.challenger is not None and share_of(event_id, "challenger") < challenger_share:
            return self.challenger
        return self.bundle


def versions_in_use(settings: Settings) -> tuple[str, ...]:
    """What the aliases point to now: :attr:`Loaded.versions`."""
    versions = [registry.champion_directory(settings, name)[1] for name in registry.MODELS]
    if settings.challenger_share > 0:
        versions.append(_challenger_directory(settings)[1])
    return tuple(versions)


def _challenger_directory(settings: Settings) -> tuple[Path | None, str]:
    """The challenging response model; None where nobody challenges."""
    try:
        return registry.champion_directory(settings, registry.RESPONSE, registry.CHALLENGER)
    except NotReadyError:
        return None, ""


def load_bundle(settings: Settings) -> Loaded:
    """Both champions, and the challenger where it plans a share of events; downloaded where necessary.

    Raises:
        NotReadyError: a champion was never trained, or cannot be read. A challenger that cannot be read is left out.
    """
    response_directory, response_version = registry.champion_directory(settings, registry.RESPONSE)
    demand_directory, demand_version = registry.champion_directory(settings, registry.DEMAND)
    bundle = Bundle(
        ResponseModel.load(response_directory, registry.RESPONSE, response_version, registry.CHAMPION),
        DemandModel.load(demand_directory, registry.DEMAND, demand_version, registry.CHAMPION),
    )
    versions: tuple[str, ...] = (response_version, demand_version)
    challenger = None
    if settings.challenger_share > 0:
        directory, version = _challenger_directory(settings)
        versions = (*versions, version)
        if directory is not None and version != response_version:
            try:
                model = ResponseModel.load(directory, registry.RESPONSE, version, registry.CHALLENGER)
                challenger = Bundle(model, bundle.demand)
            except NotReadyError as error:
                log.warning("challenger not loaded", version=version, reason=str(error))
    return Loaded(bundle, datetime.now(UTC), versions, challenger)


class Planning:
    """The service's state. One per worker: :meth:`start` it in the event loop that serves.

    Models and features are loaded in the background, and again whenever the registry's alias changes; a request uses
    the bundle it started with to its end, so none is dropped by a change.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.rates = Rates.of(settings)
        self.catalogue: Catalogue = load_catalogue()
        self.loaded: Loaded | None = None
        self.why_not: dict[str, str] = {"model": "not loaded yet", "features": "not opened yet"}
        self._reader: FeatureReader | None = None
        self._engine: AsyncEngine | None = None
        self._redis: Redis | None = None
        # The trees and numpy release the interpreter, so two plans can be made side by side.
        self._workers = ThreadPoolExecutor(max(1, settings.threads), thread_name_prefix="plan")
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._tasks: list[asyncio.Task[None]] = []
        self.admission = Admission(settings.max_in_flight, settings.max_waiting, settings.queue_seconds)
        self.access = Access(settings, lambda: self.engine)
        self._monitored: tuple[float, list[store.Monitored]] | None = None
        self._insights: dict[str, tuple[float, asyncio.Task[Insights]]] = {}

    # --- life ------------------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Open connections and begin loading; returns at once.

        Raises:
            ConfigurationError: nobody has said who may use the service, or anybody could.
        """
        assert self.settings.redis_url is not None, "start inside turnout.runtime.services()"
        mode_of(self.settings)
        self._engine = store.create_engine(self.settings)
        self._redis = Redis.from_url(
            self.settings.redis_url,
            socket_timeout=PROBE_SECONDS,
            socket_connect_timeout=PROBE_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._tasks = [asyncio.create_task(self._keep_models()), asyncio.create_task(self._open_features())]

    async def close(self) -> None:
        """Stop loading, close connections."""
        for task in (*self._tasks, *(reading for _, reading in self._insights.values())):
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        await self.access.close()
        if self._engine is not None:
            await self._engine.dispose()
        if self._redis is not None:
            await self._redis.aclose()
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._loader.shutdown(wait=False, cancel_futures=True)

    async def _keep_models(self) -> None:
        while True:
            try:
                await self._reload()
            except NotReadyError as error:
                self._model_failed(str(error), error)
            except Exception as error:
                self._model_failed(f"{type(error).__name__}: loading failed, see the log", error)
            await asyncio.sleep(self.settings.model_check_seconds if self.loaded else RETRY_SECONDS)

    async def _reload(self) -> None:
        versions = await self._load(partial(versions_in_use, self.settings))
        if self.loaded is not None and self.loaded.versions == versions:
            return
        before, loaded = self.loaded, await self._load(partial(load_bundle, self.settings))
        self.loaded = loaded
        self.why_not.pop("model", None)
        metrics.MODEL_RELOADS.labels("loaded").inc()
        if before is not None:
            for model in before.models:
                metrics.MODEL_LOADED.labels(model.name, model.version).set(0)
        for model in loaded.models:
            metrics.MODEL_LOADED.labels(model.name, model.version).set(1)
        log.info("models loaded", response=loaded.versions[0], demand=loaded.versions[1])

    def _model_failed(self, reason: str, error: Exception) -> None:
        metrics.MODEL_RELOADS.labels("failed").inc()
        if self.loaded is not None:
            # the models in use are still good
            log.warning("models not reloaded", error=type(error).__name__)
            return
        if self.why_not.get("model") != reason:
            log.warning("no model yet", reason=reason)
        self.why_not["model"] = reason

    async def _open_features(self) -> None:
        while self._reader is None:
            try:
                self._reader = await self._load(partial(FeatureReader, self.settings))
                self.why_not.pop("features", None)
            except Exception as error:
                if "features" not in self.why_not or self.why_not["features"] == "not opened yet":
                    log.warning("feature store not opened", error=type(error).__name__)
                self.why_not["features"] = f"the feature store cannot be opened ({type(error).__name__})"
                await asyncio.sleep(RETRY_SECONDS)

    async def _load(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._loader, function)

    # --- plans -----------------------------------------------------------------------------------------------------
    async def plan(self, brief: Brief, *, organisation: str, idempotency_key: str | None = None) -> StoredPlan:
        """Make a plan of an organisation and store it, or give the one stored under the key.

        Raises:
            NotReadyError: a model, the features or the database is missing.
            limits.OverloadedError: too many plans are being made.
            InputError: the brief cannot be planned.
            store.KeyConflictError: the key belongs to another brief.
        """
        async with self.admission.turn():
            metrics.IN_FLIGHT.inc()
            try:
                return await self._plan(brief, organisation, idempotency_key)
            finally:
                metrics.IN_FLIGHT.dec()

    async def _plan(self, brief: Brief, organisation: str, key: str | None) -> StoredPlan:
        if key is not None:
            earlier = await store.find_by_key(self.engine, organisation, key, brief)
            if earlier is not None:
                return earlier
        loaded, reader = self.loaded, self._reader
        if loaded is None:
            raise NotReadyError(self.why_not.get("model", "no model"))
        if reader is None:
            raise NotReadyError(self.why_not.get("features", "no features"))
        bundle = loaded.bundle_for(
            event_key(organisation, brief.event.name, brief.event.date), self.settings.challenger_share
        )
        insights = await self.insights(organisation)
        # One hop to a thread for everything that is not waiting: the feature read is one round trip of milliseconds.
        features, plan = await asyncio.get_running_loop().run_in_executor(
            self._workers, partial(self._compute, brief, organisation, bundle, reader, insights)
        )
        started = perf_counter()
        stored = await store.save(
            self.engine, organisation, plan, features=features.tactics, rates=self.rates, idempotency_key=key
        )
        metrics.STAGE_SECONDS.labels("store").observe(perf_counter() - started)
        metrics.GOAL_PROBABILITY.observe(plan.totals.goal_probability)
        return stored

    def _compute(
        self, brief: Brief, organisation: str, bundle: Bundle, reader: FeatureReader, insights: Insights
    ) -> tuple[Features, Plan]:
        began = perf_counter()
        features = reader.read(self.catalogue.ids, brief.event.category, organisation)
        read = perf_counter()
        now = datetime.now(UTC)
        plan = make_plan(
            brief, bundle, features, now, rates=self.rates, calendar=self.settings.calendar, insights=insights
        )
        metrics.STAGE_SECONDS.labels("features").observe(read - began)
        metrics.STAGE_SECONDS.labels("plan").observe(perf_counter() - read)
        if features.as_of is not None:
            metrics.FEATURE_AGE.set((now - features.as_of).total_seconds())
        return features, plan

    async def find(self, organisation: str, plan_id: UUID) -> StoredPlan | None:
        """A stored plan of an organisation."""
        return await store.find(self.engine, organisation, plan_id)

    async def insights(self, organisation: str) -> Insights:
        """An organisation's rules of thumb, at most a minute old; those read last while the database does not answer.

        However many requests wait for them, they are read once.
        """
        now = monotonic()
        kept = self._insights.get(organisation)
        if kept is None or now - kept[0] > INSIGHT_SECONDS:
            before = kept[1].result() if kept is not None and kept[1].done() and not kept[1].cancelled() else Insights()
            if kept is None and len(self._insights) >= _MOST_KEPT:
                self._insights.pop(min(self._insights, key=lambda name: self._insights[name][0]))
            kept = self._insights[organisation] = now, asyncio.create_task(self._read_insights(organisation, before))
        # a request that is given up must not take the reading away from the others
        return await asyncio.shield(kept[1])

    async def _read_insights(self, organisation: str, before: Insights) -> Insights:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await store.insights(self.engine, organisation)
        except Exception as error:  # what is shown beside a plan must not keep it from being made
            log.warning("rules of thumb not read", error=type(error).__name__)
            return before

    async def monitored(self) -> list[store.Monitored]:
        """The newest monitoring figures; those read last while the database does not answer."""
        now = monotonic()
        if self._monitored is None or now - self._monitored[0] > MONITOR_SECONDS:
            found = self._monitored[1] if self._monitored else []
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    found = await store.monitored(self.engine, self.settings.organisation)
            except Exception as error:  # figures about the past must not take the page about the present with them
                log.warning("monitoring figures not read", error=type(error).__name__)
            self._monitored = now, found
        return self._monitored[1]

    @property
    def engine(self) -> AsyncEngine:
        if self._engine is None:
            raise NotReadyError("the service has not started")
        return self._engine

    # --- health ----------------------------------------------------------------------------------------------------
    async def parts(self) -> dict[str, str]:
        """Every part a plan needs: ``"ok"``, or why it does not work."""
        database, cache = await asyncio.gather(self._probe_database(), self._probe_redis())
        found = {
            "model": "ok" if self.loaded else self.why_not.get("model", "not loaded"),
            "features": "ok" if self._reader else self.why_not.get("features", "not opened"),
            "postgresql": database,
            "redis": cache,
        }
        for part, state in found.items():
            metrics.PART_READY.labels(part).set(state == "ok")
        return found

    async def _probe_database(self) -> str:
        try:
            async with asyncio.timeout(PROBE_SECONDS), self.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except Exception as error:  # whatever it is, the part does not work; details could hold addresses
            return f"does not answer ({type(error).__name__})"
        return "ok"

    async def _probe_redis(self) -> str:
        try:
            assert self._redis is not None
            async with asyncio.timeout(PROBE_SECONDS):
                await self._redis.execute_command("PING")  # type: ignore[no-untyped-call]
        except Exception as error:
            return f"does not answer ({type(error).__name__})"
        return "ok"
