"""The catalogue: what one can do to fill an event, what it costs, when it runs, and what is known of its effect.

``catalogue.yaml`` beside this module holds 32 tactics and the event-level priors, every figure with its source, year
and whether it was published (``sourced``) or is an estimate of ours (``guess``).

    >>> load_catalogue().match("Facebook広告")
    'meta_ads'

:mod:`turnout.tactics.priors` turns an entry into a response curve for one brief.
"""

from turnout.tactics.catalogue import (
    Catalogue,
    Cost,
    CostKind,
    CurveKind,
    EventPriors,
    Hours,
    Prior,
    Response,
    Tactic,
    Window,
    is_organic,
    load_catalogue,
    load_event_priors,
)
from turnout.tactics.utm import match_label, match_utm, utm_label

__all__ = [
    "Catalogue",
    "Cost",
    "CostKind",
    "CurveKind",
    "EventPriors",
    "Hours",
    "Prior",
    "Response",
    "Tactic",
    "Window",
    "is_organic",
    "load_catalogue",
    "load_event_priors",
    "match_label",
    "match_utm",
    "utm_label",
]
