"""The response model as serving uses it: a booster, its parameters, and the catalogue's curves."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from turnout import taxonomy
from turnout.brief import Brief
from turnout.errors import NotReadyError
from turnout.money import Rates
from turnout.plan import Evidence
from turnout.scoring.design import design_matrix, event_columns, store_columns, tactic_columns
from turnout.scoring.effects import EventFacts
from turnout.scoring.parameters import ResponseParameters
from turnout.scoring.predictive import GoalScale
from turnout.scoring.types import ScoringRequest, TacticResponse
from turnout.tactics import Tactic
from turnout.tactics.priors import PriorCurve, prior_curve

#: From so many own events on, a tactic's number rests on own data.
OWN_DATA_EVENTS = 5
_MENTION_FROM = math.log(1.1)


class ResponseModel:
    """Scores all tactics of a brief in one call. Thread-safe: nothing changes after loading.

    Attributes:
        name, version, alias: of the model registry.
        feature_names: columns of the design matrix, in order.
        trained_until: last event date seen, None for the benchmark alone.
        is_simulated_data: trained on a simulated history.
        shared_log_sd: spread of the shock that all tactics of one event share.
    """

    def __init__(
        self, booster: Any, parameters: ResponseParameters, *, name: str, version: str, alias: str | None
    ) -> None:
        self.booster = booster
        self.parameters = parameters
        self.name = name
        self.version = version
        self.alias = alias

    @classmethod
    def load(cls, directory: Path, name: str, version: str, alias: str | None = None) -> Self:
        """Load the model that MLflow (or :mod:`turnout.registry`) put into ``directory``.

        Raises:
            NotReadyError: the directory holds no complete model, or its trees and parameters do not belong together.
        """
        import xgboost

        try:
            parameters = ResponseParameters.read(directory)
            booster = xgboost.Booster({"nthread": 1})
            booster.load_model(directory / "model.ubj")
        except (OSError, ValueError, xgboost.core.XGBoostError) as error:
            raise NotReadyError(f"model {name} version {version} cannot be read from {directory}: {error}") from error
        # a thread pool costs more than it saves on 32 rows, and would fight with the service's own workers
        booster.set_param({"nthread": 1})
        if tuple(booster.feature_names or ()) != parameters.feature_names:
            raise NotReadyError(f"model {name} version {version}: its trees and parameters.json name other features")
        return cls(booster, parameters, name=name, version=version, alias=alias)

    @property
    def feature_names(self) -> tuple[str, ...]:
        return self.parameters.feature_names

    @property
    def trained_until(self) -> date | None:
        return self.parameters.trained_until

    @property
    def is_simulated_data(self) -> bool:
        return self.parameters.is_simulated_data

    @property
    def shared_log_sd(self) -> float:
        return self.parameters.shared_log_sd

    @property
    def goal(self) -> GoalScale:
        return GoalScale(self.parameters.goal_offset, self.parameters.goal_slope)

    def trees(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """What the trees add to the log of the curve, per row of the design matrix."""
        return tree_margins(self.booster, matrix)

    def prior(self, tactic: Tactic, brief: Brief, fx: Rates) -> PriorCurve:
        """The benchmark curve that this model's scale refers to.

        A tactic with own history was trained on the catalogue's typical size of its asset (past lists' sizes are not
        known), so its scale already holds how large the organiser's list, group or sales team is. The brief's figure
        would count it twice; only "there is none" (0) is heeded.
        """
        asset = tactic.asset
        if asset and tactic.id in self.parameters.tactics and getattr(brief.assets, asset):
            assets = brief.assets.model_copy(update={asset: None})
            return replace(prior_curve(tactic, brief.model_copy(update={"assets": assets}), fx), assumptions=())
        return prior_curve(tactic, brief, fx)

    def score(self, request: ScoringRequest) -> list[TacticResponse]:
        """One response per tactic of the request, in its order; the trees are called once for all of them."""
        if not request.tactics:
            return []
        brief = request.brief
        priors = [self.prior(tactic, brief, request.fx) for tactic in request.tactics]
        columns = (
            event_columns(
                brief,
                request.as_of,
                price_base=request.fx.to_base(brief.event.price),
                demand_index=request.demand.index if request.demand else 1.0,
            )
            | tactic_columns(request.tactics)
            | store_columns(self.feature_names, [t.id for t in request.tactics], request.features, request.segment)
        )
        trees = self.trees(design_matrix(columns, self.feature_names, len(request.tactics)))
        corrections = self.parameters.log_correction(trees, columns["demand_index"])
        keys = EventFacts.of(brief, request.fx).columns([t.id for t in request.tactics])
        scales = self.parameters.log_scales(keys, len(priors))
        heights = self.parameters.height_log_sds(keys, [prior.log_sd for prior in priors])
        return [
            self._respond(brief, tactic, prior, (float(scale), float(correction)), float(height))
            for tactic, prior, scale, correction, height in zip(
                request.tactics, priors, scales, corrections, heights, strict=True
            )
        ]

    def _respond(
        self, brief: Brief, tactic: Tactic, prior: PriorCurve, moved: tuple[float, float], height: float
    ) -> TacticResponse:
        scale, correction = moved
        evidence, source = self._evidence(tactic.id, brief.event.category, prior, brief.language)
        return TacticResponse(
            tactic_id=tactic.id,
            curve=self.parameters.curve(tactic.id, prior.curve).scaled(math.exp(scale + correction)),
            log_sd=math.hypot(height, self.parameters.noise(tactic.id)),
            evidence=evidence,
            evidence_source=source,
            reasons=_reasons(scale, correction, brief.language),
            prior=prior,
            log_correction=correction,
        )

    def _evidence(self, tactic_id: str, segment: str, prior: PriorCurve, language: str) -> tuple[Evidence, str]:
        """The badge, and in words what it stands on."""
        history = self.parameters.tactics.get(tactic_id)
        if history is None:
            return Evidence(prior.evidence), prior.source_text
        here = history.segments.get(segment, 0)
        period = f"{history.first:%Y-%m}…{history.last:%Y-%m}"
        label = taxonomy.categories.label(segment, "ja" if language == "ja" else "en")
        simulated = self.is_simulated_data
        if language == "ja":
            own = f"自社データ{'(シミュレーション)' if simulated else ''}: {history.events}件のイベント {period}"
            where = f"(うち「{label}」{here}件)" if here else f"(「{label}」では未実施)"
            few = f"{prior.source_text}; {own}"
        else:
            own = f"{'simulated ' if simulated else ''}own data: {history.events} events {period}"
            where = f" ({here} in {label})" if here else f" (none in {label})"
            few = f"{prior.source_text}; {own}"
        if history.events < OWN_DATA_EVENTS:
            return Evidence(prior.evidence), few
        return (Evidence.own_data if here else Evidence.similar_events), own + where


def tree_margins(booster: Any, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    """The sum of the trees' leaves per row: the margin without any base."""
    if not len(matrix) or booster.num_boosted_rounds() == 0:
        return np.zeros(len(matrix))
    nothing = np.zeros(len(matrix), dtype=np.float32)
    margins = booster.inplace_predict(matrix, predict_type="margin", base_margin=nothing, validate_features=False)
    return np.nan_to_num(np.asarray(margins, dtype=np.float64), nan=0.0)


def _reasons(scale: float, correction: float, language: str) -> tuple[str, ...]:
    """Why the curve differs from the benchmark, where it does by a tenth or more."""
    reasons = []
    if abs(scale) >= _MENTION_FROM:
        factor = f"{math.exp(scale):.2g}"
        reasons.append(
            f"自社実績はベンチマークの{factor}倍" if language == "ja" else f"own results are {factor}× the benchmark"
        )
    if abs(correction) >= _MENTION_FROM:
        percent = f"{100 * math.expm1(correction):+.0f}"
        reasons.append(
            f"このイベントの条件・時期・直近の実績で{percent}%"
            if language == "ja"
            else f"{percent}% for this event's kind, season and recent results"
        )
    return tuple(reasons)
