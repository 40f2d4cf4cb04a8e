"""From a brief to response curves, a demand outlook and a predictive distribution.

Training fits what this package evaluates; serving only evaluates. Both build the model's inputs with the same
:func:`~turnout.scoring.design.design_matrix`, so the two cannot drift apart.

    expected registrations of a tactic
        = prior curve(x)                    benchmark of the catalogue, x = spend in base currency or staff hours
        x exp(map_log_scale)                what the organiser's own events say (:mod:`turnout.scoring.parameters`)
                                            of its height, and of the size of its audience (``log_stretch``)
        x exp(clip(correction, +-1.5))      what the event, season and recent rates change (XGBoost)

The correction does not see the spend: along x the answer keeps the prior curve's shape, so it stays monotone, never
negative and saturating also beyond every amount that was ever spent. What the data can change is the height of the
curve, per tactic, segment, format and event.

Modules: ``types`` (what goes in and out), ``design`` (the feature matrix), ``parameters`` (what a trained response
model knows besides its trees), ``response``, ``demand``, ``predictive`` (intervals and goal probability).
"""

from turnout.scoring.demand import DemandModel
from turnout.scoring.design import design_matrix
from turnout.scoring.predictive import Chosen, Predictive, predictive
from turnout.scoring.response import ResponseModel
from turnout.scoring.types import (
    DemandOutlook,
    Pacing,
    ScoringRequest,
    ShowUp,
    TacticResponse,
)

__all__ = [
    "Chosen",
    "DemandModel",
    "DemandOutlook",
    "Pacing",
    "Predictive",
    "ResponseModel",
    "ScoringRequest",
    "ShowUp",
    "TacticResponse",
    "design_matrix",
    "predictive",
]
