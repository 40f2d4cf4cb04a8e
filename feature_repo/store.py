"""The feature store as the rest of Turnout uses it: register, publish, read history, read online.

* :func:`apply` registers the definitions in Feast's SQL registry (database ``feast``).
* :func:`materialize_latest` publishes one day's snapshot to Redis.
* :func:`historical` joins features to past plans, as they were known then.
* :func:`online` reads what a plan needs now, in one round trip to Redis.

What Feast 0.67 leaves to its users is settled here:

* Redis keeps, per key, what was written last (``skip_dedup``): with Feast's own guard a corrected row of the same event
  time would be dropped. So an older snapshot must never be written after a newer one: publishing goes one at a time
  (advisory lock), refuses to go back in time, and is per organisation. ``FeatureStore.materialize`` knows no
  organisations; one that lags behind would drag the others' older rows into Redis. The rows of the window are therefore
  read here and handed to ``FeatureStore.write_to_online_store``.
* Feast's row identity is the keys' text run together, so one call must not mix organisations: ``ab`` + ``c`` is
  ``a`` + ``bc``.
* Point-in-time joins may reorder rows and turn integers into floats: rows are matched by key and counted.
"""

from __future__ import annotations

import getpass
import json
import math
import os
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
import structlog
from redis.connection import parse_url
from sqlalchemy import Column, Connection, DateTime, MetaData, Table, Text, text
from sqlalchemy.dialects.postgresql import insert

from feature_repo import names, schema
from turnout.errors import ConfigurationError, NotReadyError
from turnout.settings import Settings
from turnout.warehouse import load
from turnout.warehouse.engine import create_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

log = structlog.get_logger(__name__)

_LOCK = "turnout:features:online"
_REGISTRY_LOCK = "turnout:features:registry"
#: Seconds a process may go on with the registry it has read.
_REGISTRY_SECONDS = 600


# --- configuration ----------------------------------------------------------------------------------------------------


def cli_environment(settings: Settings) -> dict[str, str]:
    """The variables that ``feature_store.yaml`` takes its values from. They hold passwords: hand on, never print.

    Raises:
        ConfigurationError: the Redis URL cannot be written the way Feast wants it.
        RuntimeError: no server is known yet.
    """
    url = settings.url_for("turnout")
    query = {key: value if isinstance(value, str) else value[-1] for key, value in url.query.items()}
    return {
        "FEAST_REGISTRY_URL": settings.url_string("feast"),
        "FEAST_OFFLINE_HOST": url.host or query.get("host", "localhost"),
        "FEAST_OFFLINE_PORT": str(url.port or query.get("port", 5432)),
        "FEAST_OFFLINE_DATABASE": url.database or "turnout",
        "FEAST_OFFLINE_USER": url.username or query.get("user") or getpass.getuser(),
        "FEAST_OFFLINE_PASSWORD": url.password or query.get("password", ""),
        "FEAST_OFFLINE_SSLMODE": query.get("sslmode", "prefer"),
        "FEAST_ONLINE_CONNECTION": redis_connection_string(settings.redis_url),
    }


def redis_connection_string(redis_url: str | None) -> str:
    """A redis, rediss or unix URL in Feast's notation ``host:port,key=value,…``; unix sockets work too.

    Raises:
        ConfigurationError: the URL holds a comma, which Feast splits at, or is not set.
    """
    if not redis_url:
        raise ConfigurationError("no Redis: call inside turnout.runtime.services(), or set TURNOUT_REDIS_URL")
    parts: dict[str, Any] = dict(parse_url(redis_url))  # type: ignore[no-untyped-call]
    kind = parts.pop("connection_class", None)
    node = f"{parts.pop('host', 'localhost')}:{parts.pop('port', 6379)}"
    if "path" in parts:
        parts["unix_socket_path"] = parts.pop("path")
    if kind is not None and "SSL" in kind.__name__:
        parts["ssl"] = True
    # Values are read as JSON where they can be; quoting keeps a password of digits a text.
    pairs = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in parts.items()]
    if any("," in pair for pair in pairs):
        raise ConfigurationError(
            "TURNOUT_REDIS_URL must not contain a comma (user, password or path): Feast splits there"
        )
    return ",".join([node, *pairs])


def _configuration(settings: Settings, *, create: bool) -> dict[str, Any]:
    """The content of ``feature_store.yaml`` with the values of ``settings``; see there for what each line is for."""
    given = cli_environment(settings)
    return {
        "project": names.PROJECT,
        "provider": "local",
        "entity_key_serialization_version": 3,
        "registry": {
            "registry_type": "sql",
            "path": given["FEAST_REGISTRY_URL"],
            "cache_ttl_seconds": _REGISTRY_SECONDS,
            "serve_features_while_materializing": True,
            "schema_mode": "auto" if create else "verify",
            "sqlalchemy_config_kwargs": {"echo": False, "pool_pre_ping": True, "pool_size": 1, "max_overflow": 2},
        },
        "offline_store": {
            "type": "postgres",
            "host": given["FEAST_OFFLINE_HOST"],
            "port": int(given["FEAST_OFFLINE_PORT"]),
            "database": given["FEAST_OFFLINE_DATABASE"],
            "user": given["FEAST_OFFLINE_USER"],
            "password": given["FEAST_OFFLINE_PASSWORD"],
            "sslmode": given["FEAST_OFFLINE_SSLMODE"],
            "db_schema": schema.SCHEMA,
            "entity_select_mode": "embed_query",
        },
        "online_store": {
            "type": "redis",
            "connection_string": given["FEAST_ONLINE_CONNECTION"],
            "skip_dedup": True,
        },
        "materialization": {"pull_latest_features": True},
        "data_quality_monitoring": {"auto_baseline": False},
    }


def _make_store(settings: Settings, *, create: bool) -> Any:
    with _without_feasts_warnings():
        from feast import FeatureStore, RepoConfig

        return FeatureStore(config=RepoConfig(**_configuration(settings, create=create)))


def open_store(settings: Settings) -> Any:
    """This process's ``feast.FeatureStore`` for ``settings``: one per process, made once.

    Raises:
        NotReadyError: nothing is registered yet; call :func:`apply` first.
    """
    return _opened(os.getpid(), json.dumps(cli_environment(settings), sort_keys=True), _Hidden(settings))


class _Hidden:
    """Carries the settings past the cache: equal to any other, for the key says it all."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hidden)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=8)
def _opened(pid: int, key: str, hidden: _Hidden) -> Any:
    from feast.errors import FeatureServiceNotFoundException
    from feast.infra.registry.sql import FeastRegistrySchemaError
    from sqlalchemy.exc import DBAPIError

    try:
        store = _make_store(hidden.settings, create=False)
        for service in names.SERVICES:
            store.get_feature_service(service)
    except (FeastRegistrySchemaError, FeatureServiceNotFoundException) as error:
        raise NotReadyError("no features are registered; run `turnout pipeline` first") from error
    except DBAPIError as error:
        if "does not exist" in str(error.orig):
            raise NotReadyError("no features are registered; run `turnout pipeline` first") from error
        raise
    return store


@contextmanager
def _without_feasts_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _locked(settings: Settings, key: str) -> Iterator[Connection]:
    """A connection that holds an advisory lock of the warehouse for as long as the block runs."""
    engine = create_engine(settings, pool_size=1)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:key, 0))"), {"key": key})
            try:
                yield connection
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:key, 0))"), {"key": key})
    finally:
        engine.dispose()


# --- register and publish ---------------------------------------------------------------------------------------------


def apply(settings: Settings) -> None:
    """Make the registry say what :mod:`feature_repo.definitions` says; views and services it no longer has go.

    Safe to call at every start and from several processes at once: nothing is written where nothing changed.
    """
    from feature_repo import definitions

    with _locked(settings, _REGISTRY_LOCK) as connection:
        with connection.engine.begin() as transaction:
            schema.create_tables(transaction)
        with _without_feasts_warnings():
            store = _make_store(settings, create=True)
            gone = [
                *(view for view in store.list_feature_views() if view.name not in definitions.VIEWS),
                *(service for service in store.list_feature_services() if service.name not in definitions.SERVICES),
            ]
            store.apply(definitions.OBJECTS, objects_to_delete=gone, partial=False)
    _opened.cache_clear()
    log.info("feature store registered", views=len(definitions.VIEWS), services=len(definitions.SERVICES))


def materialize_latest(settings: Settings, as_of: date) -> dict[str, int]:
    """Publish the snapshot of ``as_of`` to the online store; returns the rows written by view.

    The window is the day of ``as_of`` up to its last microsecond; forecasts, which may be older, are the newest made
    within :data:`feature_repo.names.MAXIMUM_AGE`. A view whose newer snapshot is already online is left alone (0 rows),
    so a backfill of old days cannot make the answers of today older. Running again, also after a kill half-way, gives
    the same state; a corrected snapshot of the same day replaces what was there.

    Raises:
        NotReadyError: there is no snapshot of ``as_of``, or nothing is registered.
    """
    start = names.snapshot_timestamp(as_of, settings.zone)
    end = names.snapshot_timestamp(as_of + timedelta(days=1), settings.zone) - timedelta(microseconds=1)
    written: dict[str, int] = {}
    with _locked(settings, f"{_LOCK}:{settings.organisation}") as connection:
        store = open_store(settings)
        for view in names.KEYS_BY_VIEW:
            first = start - names.MAXIMUM_AGE if view == names.DEMAND_VIEW else start
            rows = _latest_rows(connection, settings.organisation, view, first, end)
            if rows.empty and view != names.DEMAND_VIEW:
                raise NotReadyError(f"no snapshot of {as_of} in {view}; compute it with feature_repo.build.refresh")
            written[view] = 0 if rows.empty else _publish(connection, store, settings.organisation, view, rows)
    log.info("features published", as_of=as_of.isoformat(), **written)
    return written


def _latest_rows(connection: Connection, organisation: str, view: str, first: datetime, last: datetime) -> pd.DataFrame:
    keys = ", ".join(names.KEYS_BY_VIEW[view])
    columns = ", ".join([names.EVENT_TIMESTAMP, names.CREATED_TIMESTAMP, *names.FEATURES_BY_VIEW[view]])
    statement = text(
        f"SELECT DISTINCT ON ({keys}) {keys}, {columns} FROM {schema.SCHEMA}.{view}"
        f" WHERE organisation = :organisation AND {names.EVENT_TIMESTAMP} BETWEEN :first AND :last"
        f" ORDER BY {keys}, {names.EVENT_TIMESTAMP} DESC, {names.CREATED_TIMESTAMP} DESC"
    )
    return pd.read_sql_query(statement.bindparams(organisation=organisation, first=first, last=last), connection)


def _publish(connection: Connection, store: Any, organisation: str, view: str, rows: pd.DataFrame) -> int:
    newest = rows[names.EVENT_TIMESTAMP].max().to_pydatetime()
    table = schema.materialization
    online_now = connection.scalar(
        sa.select(table.c.event_timestamp).where(table.c.view == view, table.c.organisation == organisation)
    )
    if online_now is not None and online_now > newest:
        log.warning("newer features are online, not replaced", view=view, online=str(online_now), given=str(newest))
        return 0
    with _without_feasts_warnings():
        store.write_to_online_store(view, df=rows)
    entry = insert(table).values(view=view, organisation=organisation, event_timestamp=newest)
    connection.execute(
        entry.on_conflict_do_update(
            index_elements=[table.c.view, table.c.organisation],
            set_={"event_timestamp": entry.excluded.event_timestamp, "finished_at": sa.func.now()},
        )
    )
    return len(rows)


# --- read -------------------------------------------------------------------------------------------------------------


def historical(settings: Settings, entity_frame: pd.DataFrame, service: str) -> pd.DataFrame:
    """Features as they were known at each row's ``event_timestamp``.

    Args:
        entity_frame: the keys of ``service`` (:func:`feature_repo.names.service_keys`) and ``event_timestamp`` with a
            time zone (:func:`feature_repo.names.snapshot_timestamp` of the planning day). ``organisation`` may be left
            out. Further columns and duplicate rows are kept.
        service: :data:`feature_repo.names.RESPONSE_SERVICE` or :data:`feature_repo.names.DEMAND_SERVICE`.

    Returns:
        ``entity_frame`` with the service's columns (float64) added: same rows, same order, same index. NaN is unknown:
        no snapshot at or before that time within :data:`feature_repo.names.MAXIMUM_AGE`. Later corrections stay out.

    Raises:
        ValueError: a key is missing, a time has no zone, or another organisation is asked for.
        NotReadyError: nothing is registered yet.
        AssertionError: Feast answered other rows than it was asked for.
    """
    features = list(names.service_features(service))
    asked = entity_frame.drop(columns=[name for name in features if name in entity_frame.columns])
    if names.ORGANISATION not in asked.columns:
        asked = asked.assign(**{names.ORGANISATION: settings.organisation})
    keys = [*names.service_keys(service), names.EVENT_TIMESTAMP]
    missing = [key for key in keys if key not in asked.columns]
    if missing:
        raise ValueError(f"the entity frame lacks {', '.join(missing)}; {service} needs {', '.join(keys)}")
    if not (asked[names.ORGANISATION] == settings.organisation).all():
        raise ValueError(f"features of {settings.organisation!r} only: the entity frame names another organisation")
    if asked[keys].isna().to_numpy().any():
        raise ValueError(f"the entity frame has empty keys; {', '.join(keys)} must all be known")
    times = asked[names.EVENT_TIMESTAMP]
    if any(at.tzinfo is None for at in times):
        raise ValueError("event_timestamp needs a time zone; use feature_repo.names.snapshot_timestamp")
    wanted = asked[keys].assign(**{names.EVENT_TIMESTAMP: pd.to_datetime(times, utc=True)})
    result = asked.copy()
    if asked.empty:
        return result.assign(**{name: pd.Series(dtype=float) for name in features})
    distinct = wanted.drop_duplicates(ignore_index=True)
    answer = _point_in_time(settings, distinct, service)
    assert len(answer) == len(distinct), f"Feast answered {len(answer)} rows for {len(distinct)} keys"
    answer[names.EVENT_TIMESTAMP] = pd.to_datetime(answer[names.EVENT_TIMESTAMP], utc=True)
    joined = wanted.merge(answer[[*keys, *features]], on=keys, how="left", validate="many_to_one", indicator="_found")
    assert (joined["_found"] == "both").all(), "Feast answered keys it was not asked for"
    return result.assign(**{name: joined[name].to_numpy(dtype=np.float64) for name in features})


def _point_in_time(settings: Settings, keys: pd.DataFrame, service: str) -> pd.DataFrame:
    """Feast's point-in-time join of ``keys``, run on a connection of ours.

    Feast writes the query and would run it with the planner's defaults, which take each of its stages for a single row
    and loop over them in one another, or merge them on the organisation alone: 15 s for 2,000 keys on two years of
    history. With nothing but hash joins it is 0.3 s, and 50,000 keys take 3 s.
    """
    store = open_store(settings)
    engine = create_engine(settings, pool_size=1)
    table = _entity_table(service)
    try:
        with engine.begin() as connection:
            _drop_orphans(connection)
            table.create(connection)
            load.copy(connection, table, keys)
            connection.execute(text(f"ANALYZE {table.schema}.{table.name}"))
        try:
            with _without_feasts_warnings():
                query: str = store.get_historical_features(
                    entity_df=f"SELECT * FROM {table.schema}.{table.name}",
                    features=store.get_feature_service(service),
                    filter_by_created_timestamp=True,
                ).to_sql()
            with engine.connect() as connection:
                for join in ("nestloop", "mergejoin"):
                    connection.execute(text(f"SET LOCAL enable_{join} = off"))
                connection.execute(text(f"SET LOCAL search_path = {schema.SCHEMA}, public"))
                rows = connection.exec_driver_sql(query)
                return pd.DataFrame(rows.fetchall(), columns=list(rows.keys()))
        finally:
            with engine.begin() as connection:
                table.drop(connection)
    finally:
        engine.dispose()


#: Feast asks for the entity rows on connections of its own, so they cannot be in a temporary table.
_ENTITY_TABLE = "entity_frame_"


def _entity_table(service: str) -> Table:
    return Table(
        f"{_ENTITY_TABLE}{int(time.time())}_{uuid.uuid4().hex[:12]}",
        MetaData(schema=schema.SCHEMA),
        *(Column(key, Text, nullable=False) for key in names.service_keys(service)),
        Column(names.EVENT_TIMESTAMP, DateTime(timezone=True), nullable=False),
        prefixes=["UNLOGGED"],
    )


def _drop_orphans(connection: Connection) -> None:
    """Remove what processes killed a day ago or more left behind."""
    found = connection.scalars(
        text("SELECT tablename FROM pg_tables WHERE schemaname = :schema AND starts_with(tablename, :prefix)"),
        {"schema": schema.SCHEMA, "prefix": _ENTITY_TABLE},
    )
    for name in found.all():
        if int(name.removeprefix(_ENTITY_TABLE).split("_")[0]) < time.time() - 86_400:
            connection.execute(text(f'DROP TABLE IF EXISTS {schema.SCHEMA}."{name}"'))


Values = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class OnlineFeatures:
    """What the online store holds for one plan. ``None`` is unknown.

    Attributes:
        tactics: per tactic asked for, its features overall and in the segment.
        segment: the segment's features.
        demand: forecasts for the week of the event; all ``None`` unless the event's date was given.
        event_timestamps: per view, the snapshot the values are of (the oldest among the rows read); views without
            any row are absent.
    """

    tactics: Mapping[str, Values]
    segment: Values
    demand: Values
    event_timestamps: Mapping[str, datetime]

    @property
    def as_of(self) -> datetime | None:
        """The snapshot behind the answer: the oldest among tactics and segment, ``None`` where there is none."""
        return min((at for view, at in self.event_timestamps.items() if view != names.DEMAND_VIEW), default=None)

    def is_stale(self, now: datetime | None = None) -> bool:
        """Whether the values are missing, or older than what training would have looked at."""
        return self.as_of is None or (now or datetime.now(UTC)) - self.as_of > names.MAXIMUM_AGE


#: What the response model's service hands out; asking by name spares the registry a query per plan.
_RESPONSE_REFERENCES = [
    f"{view}:{feature}"
    for view, features in names.SERVICES[names.RESPONSE_SERVICE].items()
    for feature in features
]  # fmt: skip
_VIEW_OF = {feature: view for view, features in names.FEATURES_BY_VIEW.items() for feature in features}
_DEMAND_REFERENCES = [f"{names.DEMAND_VIEW}:{feature}" for feature in names.DEMAND_FEATURES]


def online(
    settings: Settings, tactic_ids: Sequence[str], segment_id: str, *, event_date: date | None = None
) -> OnlineFeatures:
    """Read the newest features of ``tactic_ids`` in ``segment_id`` in one round trip to Redis.

    Args:
        event_date: also read the demand forecast for the week of this day.

    Raises:
        NotReadyError: nothing is registered yet.
        redis.RedisError: Redis cannot be reached.
    """
    references = _RESPONSE_REFERENCES + (_DEMAND_REFERENCES if event_date else [])
    asked = list(tactic_ids) or [""]
    rows: dict[str, list[str]] = {
        names.ORGANISATION: [settings.organisation] * len(asked),
        names.TACTIC: asked,
        names.SEGMENT: [segment_id] * len(asked),
    }
    if event_date:
        rows[names.TARGET_WEEK] = [names.target_week(event_date)] * len(asked)
    answer = open_store(settings).get_online_features(features=references, entity_rows=rows)
    return _parsed(answer.proto, list(tactic_ids))


def _parsed(answer: Any, tactic_ids: list[str]) -> OnlineFeatures:
    """Take Feast's columns of (value, event time) apart. A row that Redis lacks carries the epoch as its time."""
    tactics: dict[str, Values] = {tactic: {} for tactic in tactic_ids}
    segment: Values = {}
    demand: Values = dict.fromkeys(names.DEMAND_FEATURES)
    seconds: dict[str, int] = {}
    for feature, column in zip(answer.metadata.feature_names.val, answer.results, strict=True):
        view = _VIEW_OF.get(feature)
        if view is None:  # a key, handed back
            continue
        values = [_number(value) for value in column.values]
        if view in {names.TACTIC_VIEW, names.TACTIC_SEGMENT_VIEW}:
            for tactic, value in zip(tactic_ids, values, strict=False):
                tactics[tactic][feature] = value
        else:
            (segment if view == names.SEGMENT_VIEW else demand)[feature] = values[0]
        if view not in seconds:
            seconds[view] = min((at.seconds for at in column.event_timestamps if at.seconds > 0), default=0)
    times = {view: datetime.fromtimestamp(at, UTC) for view, at in seconds.items() if at > 0}
    return OnlineFeatures(tactics, segment, demand, times)


def _number(value: Any) -> float | None:
    if value.WhichOneof("val") is None:
        return None
    number = float(value.double_val)
    return None if math.isnan(number) else number
