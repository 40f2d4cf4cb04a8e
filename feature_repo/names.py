"""The names of everything in the feature store, and nothing heavy: training and serving import this freely.

Words
    * A *snapshot* is the state of all features at the start of one day (``as_of``), in the installation's time zone.
      It knows the facts of the days before ``as_of``, and the outcome of an event only once the event's day is over.
    * ``…_28d`` looks back 28 days from the snapshot; ``…_total`` looks back over everything.
    * Rates are shrunk (empirical Bayes): a tactic's rate towards the rate over all tactics, a tactic's rate in a
      segment towards the tactic's own, a short window's towards the long one's. So little data gives the pooled figure
      and much data its own. A tactic without any exposure in the long window has no rate (NULL): its benchmark knows
      more than other tactics do. The formulas stand in :mod:`feature_repo.build`.

Units: registrations in people; ``per_1000`` is people per 1,000 units of the base currency (1,000 yen); ``per_hour`` is
people per staff hour; spend in base currency; ``ctr`` is clicks per impression (or per mail delivered); ``cvr`` is
registrations per click; recency in days.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

PROJECT: Final = "turnout"

# --- entities and their join keys -------------------------------------------------------------------------------------
ORGANISATION: Final = "organisation"
TACTIC: Final = "tactic_id"
SEGMENT: Final = "segment_id"
TARGET_WEEK: Final = "target_week"

TACTIC_KEYS: Final = (ORGANISATION, TACTIC)
TACTIC_SEGMENT_KEYS: Final = (ORGANISATION, TACTIC, SEGMENT)
SEGMENT_KEYS: Final = (ORGANISATION, SEGMENT)
DEMAND_KEYS: Final = (ORGANISATION, SEGMENT, TARGET_WEEK)

#: The pooled segment: every category of the organisation together. It has rows like any other segment.
ALL_SEGMENTS: Final = "all"

# --- feature views (each is fed by the table of the same name in schema ``features``) ---------------------------------
TACTIC_VIEW: Final = "tactic_stats"
TACTIC_SEGMENT_VIEW: Final = "tactic_segment_stats"
SEGMENT_VIEW: Final = "segment_stats"
DEMAND_VIEW: Final = "demand_forecast"

# --- feature services, named by the model they feed -------------------------------------------------------------------
RESPONSE_SERVICE: Final = "response_v1"
DEMAND_SERVICE: Final = "demand_v1"

# --- columns every source table carries -------------------------------------------------------------------------------
EVENT_TIMESTAMP: Final = "event_timestamp"
CREATED_TIMESTAMP: Final = "created_timestamp"

#: Trailing windows in days.
WINDOWS: Final = (7, 28, 90, 365)
#: The window whose data set the strength of the shrinkage, and that backs the shorter ones.
LONG_WINDOW: Final = WINDOWS[-1]
#: The rates, as ``name: (numerator, exposure)``.
RATES: Final = {
    "registrations_per_1000": ("registrations", "spend"),
    "registrations_per_hour": ("registrations", "hours"),
    "ctr": ("clicks", "reach"),
    "cvr": ("registrations", "clicks"),
}


def rate_features(prefix: str) -> tuple[str, ...]:
    """The rate columns of a view: ``<prefix>_<rate>_<window>d`` for every rate and window."""
    return tuple(f"{prefix}_{rate}_{window}d" for rate in RATES for window in WINDOWS)


TACTIC_COUNTS: Final = (
    *(f"tactic_events_{window}d" for window in WINDOWS),
    "tactic_events_total",
    "tactic_registrations_365d",
    "tactic_spend_365d",
    "tactic_hours_365d",
    "tactic_clicks_365d",
    "tactic_days_since_last",
)
TACTIC_LEVELS: Final = (
    "tactic_registrations_per_event_365d",
    "tactic_spend_per_event_365d",
    "tactic_hours_per_event_365d",
    "tactic_cost_per_click_28d",
    "tactic_cost_per_click_365d",
    "tactic_cost_per_mille_365d",
)
TACTIC_FEATURES: Final = (*rate_features("tactic"), *TACTIC_COUNTS, *TACTIC_LEVELS)

TACTIC_SEGMENT_COUNTS: Final = (
    "tactic_segment_events_365d",
    "tactic_segment_events_total",
    "tactic_segment_registrations_365d",
    "tactic_segment_spend_365d",
    "tactic_segment_hours_365d",
    "tactic_segment_days_since_last",
)
TACTIC_SEGMENT_FEATURES: Final = (*rate_features("tactic_segment"), *TACTIC_SEGMENT_COUNTS)

SEGMENT_FEATURES: Final = (
    "segment_events_90d",
    "segment_events_365d",
    "segment_events_total",
    "segment_registrations_per_event_90d",
    "segment_registrations_per_event_365d",
    "segment_organic_per_event_365d",
    "segment_show_up_rate_365d",
    "segment_registrations_28d",
    "segment_registrations_90d",
    "segment_days_since_last",
)

#: Forecasts for the week of the event, as they stood at the snapshot. Written by training, see feature_repo.schema.
DEMAND_FEATURES: Final = ("demand_index", "demand_organic_per_event", "demand_trend")

#: What the response model uses: numeric columns, the same names offline and online. Order is part of the contract.
RESPONSE_FEATURES: Final[tuple[str, ...]] = (
    *(f"tactic_{rate}_{window}d" for rate in RATES for window in (28, 90, 365)),
    "tactic_events_90d",
    "tactic_events_365d",
    "tactic_events_total",
    "tactic_days_since_last",
    *TACTIC_LEVELS,
    *(f"tactic_segment_{rate}_{window}d" for rate in RATES for window in (90, 365)),
    "tactic_segment_events_365d",
    "tactic_segment_events_total",
    "tactic_segment_days_since_last",
    *SEGMENT_FEATURES,
)

#: Feature columns by view, in table order.
FEATURES_BY_VIEW: Final = {
    TACTIC_VIEW: TACTIC_FEATURES,
    TACTIC_SEGMENT_VIEW: TACTIC_SEGMENT_FEATURES,
    SEGMENT_VIEW: SEGMENT_FEATURES,
    DEMAND_VIEW: DEMAND_FEATURES,
}
KEYS_BY_VIEW: Final = {
    TACTIC_VIEW: TACTIC_KEYS,
    TACTIC_SEGMENT_VIEW: TACTIC_SEGMENT_KEYS,
    SEGMENT_VIEW: SEGMENT_KEYS,
    DEMAND_VIEW: DEMAND_KEYS,
}
#: What each service hands out, by view.
SERVICES: Final = {
    RESPONSE_SERVICE: {
        view: tuple(f for f in FEATURES_BY_VIEW[view] if f in RESPONSE_FEATURES)
        for view in (TACTIC_VIEW, TACTIC_SEGMENT_VIEW, SEGMENT_VIEW)
    },
    DEMAND_SERVICE: {SEGMENT_VIEW: SEGMENT_FEATURES, DEMAND_VIEW: DEMAND_FEATURES},
}

#: Offline, a value older than this is no value; online, its age is handed out beside it.
MAXIMUM_AGE: Final = timedelta(days=35)


def service_keys(service: str) -> tuple[str, ...]:
    """The join keys an entity frame for ``service`` must carry.

    Raises:
        KeyError: no such service.
    """
    keys: dict[str, None] = {}
    for view in SERVICES[service]:
        keys.update(dict.fromkeys(KEYS_BY_VIEW[view]))
    return tuple(keys)


def service_features(service: str) -> tuple[str, ...]:
    """The columns ``service`` answers with; for the response model in the order of :data:`RESPONSE_FEATURES`."""
    if service == RESPONSE_SERVICE:
        return RESPONSE_FEATURES
    return tuple(feature for features in SERVICES[service].values() for feature in features)


def snapshot_timestamp(as_of: date, zone: ZoneInfo) -> datetime:
    """The instant of the snapshot of ``as_of``: the start of that day in ``zone``, as UTC.

    Entity rows of a plan made on ``as_of`` carry this as their ``event_timestamp``.
    """
    return datetime.combine(as_of, time(), tzinfo=zone).astimezone(UTC)


def target_week(day: date) -> str:
    """The demand view's key of the week that ``day`` falls in: its Monday as ``YYYY-MM-DD``."""
    return (day - timedelta(days=day.weekday())).isoformat()


def snapshot_days(since: date, as_of: date) -> list[date]:
    """The days history snapshots are taken on: every Monday from ``since``, and ``as_of`` itself.

    Raises:
        ValueError: ``since`` is after ``as_of``.
    """
    if since > as_of:
        raise ValueError(f"since {since} is after as_of {as_of}")
    first_monday = since + timedelta(days=-since.weekday() % 7)
    mondays = range((as_of - first_monday).days // 7 + 1)
    return sorted({*(first_monday + timedelta(weeks=week) for week in mondays), as_of})
