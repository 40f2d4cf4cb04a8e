"""May Turnout read each platform, and what is missing: behind ``turnout sources check``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import structlog

from ingestion.connectors.base import AccessDenied, Check, SourceFault, TransientError
from ingestion.connectors.run import CONNECTED_SOURCES, connector_class, is_configured
from turnout.credentials import connection_id, variables
from turnout.settings import Settings

log = structlog.get_logger(__name__)


def connected_sources() -> tuple[str, ...]:
    """Sources that can be asked through an API."""
    return CONNECTED_SOURCES


def check_source(source: str, settings: Settings) -> Iterator[Check]:
    """Test one source from its credentials to each account.

    Yields:
        One check a step. A source without credentials is ``missing``, which is no failure: its exports are read.

    Raises:
        ValueError: the source has no API.
    """
    found = connector_class(source)
    if not is_configured(source, settings):
        yield Check(
            "credentials",
            "missing",
            f"not set up: read from exports only. Set {variables(source)[0]} and what goes with it "
            f"({', '.join(v.rsplit('__', 1)[1] for v in variables(source)[1:])}), or the Airflow connection "
            f"{connection_id(source)}",
        )
        return
    try:
        with found(settings) as connector:
            yield from connector.check()
    except (AccessDenied, SourceFault, TransientError) as error:
        yield Check("connection", "failed", str(error))


def report_check(source: str, settings: Settings) -> list[dict[str, str]]:
    """:func:`check_source` for a scheduler: every step logged, and an error if one failed.

    Raises:
        AccessDenied: a step failed; the message holds each failure.
    """
    checks = list(check_source(source, settings))
    for check in checks:
        log.info("source check", source=source, what=check.what, status=check.status, message=check.message)
    if failed := [c for c in checks if c.status == "failed"]:
        raise AccessDenied("; ".join(f"{c.what}: {c.message}" for c in failed))
    return [asdict(c) for c in checks]
