"""What Prometheus reads. Labels come from fixed sets, never from a request: no path, id or name of a person.

Several workers share one page: BentoML sets ``PROMETHEUS_MULTIPROC_DIR``, and the values are added up over the files
there.
"""

from __future__ import annotations

import os
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import generate_latest as _generate
from prometheus_client.multiprocess import MultiProcessCollector

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS = Counter("turnout_requests", "Requests answered.", ["route", "method", "status"])
REQUEST_SECONDS = Histogram("turnout_request_seconds", "Time to answer a request.", ["route"], buckets=_SECONDS)
STAGE_SECONDS = Histogram("turnout_stage_seconds", "Time of one step of a plan.", ["stage"], buckets=_SECONDS)
PLANS = Counter("turnout_plans", "Plans asked for, by what became of them.", ["outcome"])
IN_FLIGHT = Gauge("turnout_plans_in_flight", "Plans being made now.", multiprocess_mode="livesum")
GOAL_PROBABILITY = Histogram(
    "turnout_goal_probability", "Goal probability of plans made.", buckets=[x / 10 for x in range(1, 11)]
)
FEATURE_AGE = Gauge("turnout_feature_age_seconds", "Age of the features last read.", multiprocess_mode="livemax")
MODEL_LOADED = Gauge(
    "turnout_model_loaded", "1 for the model version in use.", ["name", "version"], multiprocess_mode="livemin"
)
MODEL_RELOADS = Counter("turnout_model_reloads", "Changes of the model in use.", ["outcome"])
MAIL_EVENTS = Counter("turnout_mail_events", "Mail events received, by what became of them.", ["outcome"])
MAIL_POSTS = Counter("turnout_mail_posts", "Requests with mail events, by what became of them.", ["outcome"])
PART_READY = Gauge("turnout_part_ready", "1 while a part works.", ["part"], multiprocess_mode="livemin")


def page() -> tuple[bytes, str]:
    """The metrics of all workers, and their media type."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return _generate(registry), CONTENT_TYPE_LATEST
    return _generate(REGISTRY), CONTENT_TYPE_LATEST
