"""Structured logging, set up once per process."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog


def configure(style: Literal["console", "json"] = "console", level: str = "INFO") -> None:
    """Send structlog and the standard library to stderr in one format.

    Args:
        style: ``console`` for people, ``json`` (one object a line) for log collectors.
        level: a standard level name; libraries stay at WARNING unless this asks for DEBUG.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="@timestamp"),
    ]
    renderer: structlog.types.Processor
    if style == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # a line in one write: workers share the stream, and print() writes the line and its end apart
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    threshold = level if level.upper() == "DEBUG" else "WARNING"
    logging.basicConfig(stream=sys.stderr, level=threshold, force=True)
    # on the handler too, for libraries that set a level of their own
    logging.getLogger().handlers[0].setLevel(threshold)
