"""What Prometheus reads. Labels come from fixed sets, never from a request: no path, id or name of a person.

Several workers share one page: BentoML sets ``PROMETHEUS_MULTIPROC_DIR``, and the values are added up over the files
there. How predictions turned out is no worker's own: these figures are read from the warehouse for each page.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import generate_latest as _generate
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from serving.store import Monitored

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
AUTHENTICATIONS = Counter(
    "turnout_authentications", "Requests to guarded routes, by who was found to ask.", ["mode", "outcome"]
)
RATE_LIMITS = Counter("turnout_rate_limits", "Requests counted by the rate limit.", ["outcome"])
WAITING = Gauge("turnout_plans_waiting", "Plans waiting for their turn.", multiprocess_mode="livesum")
PART_READY = Gauge("turnout_part_ready", "1 while a part works.", ["part"], multiprocess_mode="livemin")


#: Metric of the monitoring table → name and help of its gauge. Labels: segment ("all" for all), window in days.
_OUTCOMES: Final = {
    "mae": ("turnout_prediction_mae", "Mean absolute error of registrations per event."),
    "rmse": ("turnout_prediction_rmse", "Root mean squared error of registrations per event."),
    "wape": ("turnout_prediction_wape", "Sum of absolute errors over the sum of registrations."),
    "bias": ("turnout_prediction_bias", "(Predicted - actual) / actual, over all events."),
    "coverage_80": ("turnout_prediction_coverage_80", "Share of events within their 80 % interval."),
    "not_followed": ("turnout_plans_not_followed", "Share of planned events that were done otherwise."),
}
#: The same for drift. Label: the feature or prediction.
_DRIFT: Final = {
    "psi": ("turnout_drift_psi", "Population stability index against the training, less chance."),
    "missing": ("turnout_drift_missing", "Share of unknown values beyond that of the training."),
}


class Outcomes(Collector):
    """Gauges of the newest nightly monitoring."""

    def __init__(self, figures: Iterable[Monitored]) -> None:
        self._figures = list(figures)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for metric, (name, text) in _OUTCOMES.items():
            gauge = GaugeMetricFamily(name, text, labels=["segment", "window_days"])
            events = GaugeMetricFamily(f"{name}_events", "Events behind it.", labels=["segment", "window_days"])
            for f in self._figures:
                if f.metric == metric:
                    labels = [f.segment_id or "all", str(f.window_days)]
                    gauge.add_metric(labels, f.value)
                    events.add_metric(labels, f.evidence)
            yield gauge
            yield events
        for metric, (name, text) in _DRIFT.items():
            gauge = GaugeMetricFamily(name, text, labels=["subject"])
            for f in self._figures:
                if f.metric == metric:
                    gauge.add_metric([f.subject], f.value)
            yield gauge
        alarms = GaugeMetricFamily("turnout_prediction_alarms", "Monitored figures by their status.", labels=["status"])
        for status in ("warning", "alarm"):
            alarms.add_metric([status], sum(f.status == status for f in self._figures))
        yield alarms


def page(figures: Iterable[Monitored] = ()) -> tuple[bytes, str]:
    """The metrics of all workers with the newest monitoring figures, and their media type."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    outcomes = CollectorRegistry()
    outcomes.register(Outcomes(figures))
    return _generate(registry) + _generate(outcomes), CONTENT_TYPE_LATEST
