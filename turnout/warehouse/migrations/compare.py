"""What Alembic compares: our own tables, not the partitions of facts nor the schemas of others."""

from __future__ import annotations

from typing import Any

from turnout.warehouse.migrate import VERSION_TABLE
from turnout.warehouse.partitions import is_partition
from turnout.warehouse.tables import SCHEMA, metadata


def include_name(name: str | None, kind: str, parents: Any) -> bool:
    """Alembic asks for every schema, table, column… it finds in the database."""
    if kind == "schema":
        return name == SCHEMA
    return not (kind == "table" and name is not None and is_partition(name))


OPTIONS: dict[str, Any] = {
    "target_metadata": metadata,
    "version_table": VERSION_TABLE,
    "version_table_schema": SCHEMA,
    "include_schemas": True,
    "include_name": include_name,
    "compare_type": True,
    "compare_server_default": True,
}
