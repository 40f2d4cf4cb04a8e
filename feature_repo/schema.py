"""The tables behind the feature views: schema ``features`` of the warehouse database.

``tactic_stats``, ``tactic_segment_stats`` and ``segment_stats`` are computed here from the warehouse
(:mod:`feature_repo.build`). ``demand_forecast`` is written by training through :func:`replace_demand_forecast`: per
segment and *target week* (:func:`feature_repo.names.target_week`), what the demand model said at ``event_timestamp`` of
the demand in that week. A plan made on day P for an event on day D joins the newest forecast made up to P for D's week.

Versions: a row is (keys, ``event_timestamp``, ``created_timestamp``). What was known when the snapshot was taken has
``created_timestamp = event_timestamp``; a later correction of it is a further row with the time of the correction.
:func:`feature_repo.store.historical` leaves corrections out, the online store gets them. Snapshots and forecasts that
were rebuilt from history stay as they were first computed as long as the events and days they speak of are the same
(``snapshot_basis``, ``demand_forecast.basis``): restated figures do not get into the past, newly loaded history does.
"""

from __future__ import annotations

from datetime import datetime

import pandas as pd
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    DateTime,
    Double,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    inspect,
    text,
)

from feature_repo import names
from turnout.warehouse.security import protect

SCHEMA = "features"
metadata = MetaData(schema=SCHEMA)
_LOCK = "turnout:features:schema"


def _feature_table(view: str, *extra: Column[object]) -> Table:
    keys = names.KEYS_BY_VIEW[view]
    return Table(
        view,
        metadata,
        *(Column(key, Text, nullable=False) for key in keys),
        Column(names.EVENT_TIMESTAMP, DateTime(timezone=True), nullable=False),
        Column(names.CREATED_TIMESTAMP, DateTime(timezone=True), nullable=False),
        *(Column(feature, Double) for feature in names.FEATURES_BY_VIEW[view]),
        *extra,
        PrimaryKeyConstraint(*keys, names.EVENT_TIMESTAMP, names.CREATED_TIMESTAMP, name=f"pk_{view}"),
        Index(f"ix_{view}_{names.EVENT_TIMESTAMP}", names.ORGANISATION, names.EVENT_TIMESTAMP),
    )


def _is_live() -> Column[object]:
    """Whether the snapshot was taken on its own day, so that it is what was served, or rebuilt later from history."""
    return Column("is_live", Boolean, nullable=False, server_default=text("false"))


tactic_stats = _feature_table(names.TACTIC_VIEW, _is_live())
tactic_segment_stats = _feature_table(names.TACTIC_SEGMENT_VIEW, _is_live())
segment_stats = _feature_table(names.SEGMENT_VIEW, _is_live())
#: demand_index: expected demand of the target week over the segment's usual (1 = usual), dimensionless;
#: demand_organic_per_event: people who come to an event of that week without any tactic;
#: demand_trend: relative change of the segment's level per year (0.1 is +10 %).
demand_forecast = _feature_table(names.DEMAND_VIEW, Column("model_version", Text), Column("basis", Text))

#: Which snapshot the online store holds, per view: the guard against an older one overwriting it.
materialization = Table(
    "materialization",
    metadata,
    Column("view", Text, primary_key=True),
    Column(names.ORGANISATION, Text, primary_key=True),
    Column(names.EVENT_TIMESTAMP, DateTime(timezone=True), nullable=False),
    Column("finished_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
)

#: What each snapshot was computed of: the facts there were (not their figures) and the code. While that is the same, a
#: snapshot stays as it is, so that later corrections of figures do not get into it; see feature_repo.build.
snapshot_basis = Table(
    "snapshot_basis",
    metadata,
    Column(names.ORGANISATION, Text, primary_key=True),
    Column(names.EVENT_TIMESTAMP, DateTime(timezone=True), primary_key=True),
    Column("basis", Text, nullable=False),
)

SNAPSHOT_TABLES: tuple[Table, ...] = (tactic_stats, tactic_segment_stats, segment_stats)


def create_tables(connection: Connection) -> None:
    """Make the schema, its tables and any column that a newer version added; leaves what exists alone.

    Runs inside the caller's transaction. The computed tables can be dropped at any time: history is computed again.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": _LOCK})
    if not connection.scalar(text("SELECT to_regnamespace(:name) IS NOT NULL"), {"name": SCHEMA}):
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
    metadata.create_all(connection)
    inspector = inspect(connection)
    for table in metadata.tables.values():
        present = {column["name"] for column in inspector.get_columns(table.name, schema=SCHEMA)}
        for column in table.columns:
            if column.name not in present:
                kind = column.type.compile(connection.dialect)
                connection.execute(text(f'ALTER TABLE {SCHEMA}.{table.name} ADD COLUMN "{column.name}" {kind}'))
                connection.execute(snapshot_basis.delete())  # rows without the column are not to be kept
    protect(connection, SCHEMA)


def replace_demand_forecast(
    connection: Connection,
    organisation: str,
    event_timestamp: datetime,
    forecast: pd.DataFrame,
    model_version: str,
    basis: str | None = None,
) -> int:
    """Store one run's forecasts, replacing those of the same organisation and ``event_timestamp``.

    Args:
        event_timestamp: when the forecast counts as known: :func:`feature_repo.names.snapshot_timestamp` of the last
            day of data the model saw, plus one.
        forecast: columns ``segment_id``, ``target_week`` (:func:`feature_repo.names.target_week`) and
            :data:`feature_repo.names.DEMAND_FEATURES`; one row per segment and week.
        model_version: of the demand model, e.g. ``turnout-demand/3``.
        basis: what the forecast was made of, without figures: by it the writer knows whether to make it again.

    Returns:
        Rows written.

    Raises:
        ValueError: a column is missing or a key appears twice.
    """
    wanted = [names.SEGMENT, names.TARGET_WEEK, *names.DEMAND_FEATURES]
    missing = [name for name in wanted if name not in forecast.columns]
    if missing:
        raise ValueError(f"demand forecast lacks the columns {', '.join(missing)}; expected {', '.join(wanted)}")
    if forecast.duplicated([names.SEGMENT, names.TARGET_WEEK]).any():
        raise ValueError("demand forecast names a segment and week twice")
    if event_timestamp.tzinfo is None:
        raise ValueError("event_timestamp needs a time zone")
    create_tables(connection)
    connection.execute(
        demand_forecast.delete().where(
            demand_forecast.c.organisation == organisation, demand_forecast.c.event_timestamp == event_timestamp
        )
    )
    rows = [
        {
            names.ORGANISATION: organisation,
            names.EVENT_TIMESTAMP: event_timestamp,
            names.CREATED_TIMESTAMP: event_timestamp,
            "model_version": model_version,
            "basis": basis,
            **{str(key): None if pd.isna(value) else value for key, value in row.items()},
        }
        for row in forecast[wanted].to_dict("records")
    ]
    if rows:
        connection.execute(demand_forecast.insert(), rows)
    return len(rows)
