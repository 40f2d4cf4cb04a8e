"""What Feast knows: entities, sources, feature views and services, made from :mod:`feature_repo.names`.

``feast apply`` finds the module's objects; :func:`feature_repo.store.apply` hands it :data:`OBJECTS`.
"""

from __future__ import annotations

from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource
from feast.types import Float64, String

from feature_repo import names
from feature_repo.schema import SCHEMA

ENTITIES: dict[str, Any] = {
    key: Entity(name=key, join_keys=[key], value_type=ValueType.STRING, description=description)
    for key, description in (
        (names.ORGANISATION, "whose history it is"),
        (names.TACTIC, "tactic of the catalogue"),
        (names.SEGMENT, "event category, or all of them"),
        (names.TARGET_WEEK, "calendar: Monday of the week an event is in"),
    )
}

_DESCRIPTIONS = {
    names.TACTIC_VIEW: "How a tactic did in the organisation's past events.",
    names.TACTIC_SEGMENT_VIEW: "How a tactic did in past events of one segment, shrunk towards its own average.",
    names.SEGMENT_VIEW: "Past events of a segment: registrations, organic share, attendance.",
    names.DEMAND_VIEW: "Demand of a segment in a coming week, as forecast at the time.",
}

SOURCES: dict[str, Any] = {
    view: PostgreSQLSource(
        name=f"{view}_source",
        query=f'SELECT * FROM {SCHEMA}."{view}"',
        timestamp_field=names.EVENT_TIMESTAMP,
        created_timestamp_column=names.CREATED_TIMESTAMP,
    )
    for view in names.KEYS_BY_VIEW
}

VIEWS: dict[str, Any] = {
    view: FeatureView(
        name=view,
        entities=[ENTITIES[key] for key in keys],
        ttl=names.MAXIMUM_AGE,
        schema=[
            *(Field(name=key, dtype=String) for key in keys),
            *(Field(name=feature, dtype=Float64) for feature in names.FEATURES_BY_VIEW[view]),
        ],
        source=SOURCES[view],
        online=True,
        description=_DESCRIPTIONS[view],
    )
    for view, keys in names.KEYS_BY_VIEW.items()
}

SERVICES: dict[str, Any] = {
    service: FeatureService(name=service, features=[VIEWS[view][list(features)] for view, features in views.items()])
    for service, views in names.SERVICES.items()
}

#: Everything, in the form ``FeatureStore.apply`` takes.
OBJECTS: list[Any] = [*ENTITIES.values(), *SOURCES.values(), *VIEWS.values(), *SERVICES.values()]
