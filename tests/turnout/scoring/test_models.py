"""Response and demand models as serving loads them."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
import xgboost

from turnout.brief import Brief
from turnout.curves import CappedLinear, Hill, Step
from turnout.errors import NotReadyError
from turnout.money import Rates
from turnout.plan import Evidence
from turnout.scoring import DemandModel, Pacing, ResponseModel, ScoringRequest, ShowUp
from turnout.scoring.demand import FILE as DEMAND_FILE
from turnout.scoring.demand import DemandParameters, Organic
from turnout.scoring.design import derived_names
from turnout.scoring.effects import season_terms
from turnout.scoring.parameters import FILE, ResponseParameters, TacticHistory, stretch
from turnout.scoring.published import KINDS, published_pacing, published_show_up
from turnout.tactics import load_catalogue
from turnout.tactics.priors import prior_curve

NAMES = (*derived_names(), "tactic_rate")
RATES = Rates({"JPY": 1.0, "USD": 150.0})
BRIEF = Brief.model_validate(
    {
        "event": {"name": "e", "date": "2026-12-16", "category": "ai_data", "format": "online"},
        "goal": {"target": 100},
        "budget": {"amount": 0},
    }
)
HISTORY = TacticHistory(
    log_scale=0.4, log_sd={"": 0.3, "ai_data": 0.1}, noise_log_sd=0.2, events=9, segments={"ai_data": 6},
    first=date(2025, 4, 10), last=date(2026, 10, 20), log_stretch=0.5,
)  # fmt: skip
META = load_catalogue().get("meta_ads")


def trees(rounds: int = 20, effect: float = 1.0) -> xgboost.Booster:
    """Trees that raise registrations where tactic_rate is above 1, by e^effect."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, len(NAMES))).astype(np.float32)
    y = np.exp(effect * (x[:, -1] > 1))
    data = xgboost.DMatrix(x, label=y, base_margin=np.zeros(400), feature_names=list(NAMES))
    return xgboost.train({"objective": "count:poisson", "max_depth": 2, "eta": 0.5, "nthread": 1}, data, rounds)


def model(parameters: ResponseParameters | None = None, booster: xgboost.Booster | None = None) -> ResponseModel:
    return ResponseModel(
        booster or trees(0), parameters or ResponseParameters(NAMES), name="turnout-response", version="1", alias=None
    )


def request(tactics=(META,), brief=BRIEF, **changes) -> ScoringRequest:
    return ScoringRequest(brief, date(2026, 11, 18), list(tactics), fx=RATES, **changes)


def test_without_history_the_answer_is_the_benchmark():
    for response, tactic in zip(model().score(request(load_catalogue())), load_catalogue(), strict=True):
        prior = prior_curve(tactic, BRIEF, RATES)
        assert response.curve == prior.curve
        assert response.evidence == prior.evidence
        assert response.evidence_source == prior.source_text
        assert response.reasons == ()


def test_own_history_moves_the_height_and_the_size_of_the_audience():
    parameters = ResponseParameters(
        NAMES, tactics={"meta_ads": HISTORY}, effects={"organisation": {"": 0.1}, "segment": {"ai_data": -0.2}}
    )
    [response] = model(parameters).score(request())
    prior = prior_curve(META, BRIEF, RATES).curve
    wanted = prior.stretched(math.exp(0.5)).scaled(math.exp(0.4 + 0.1 - 0.2))
    assert response.curve(250_000) == pytest.approx(wanted(250_000))
    assert response.log_sd == pytest.approx(math.hypot(0.1, 0.2))


def test_the_badge_says_what_a_number_rests_on():
    other = replace(HISTORY, segments={"cloud": 9})
    few = replace(HISTORY, events=4)
    badges = {}
    for name, history in (("own", HISTORY), ("similar", other), ("few", few)):
        [response] = model(ResponseParameters(NAMES, tactics={"meta_ads": history})).score(request())
        badges[name] = (response.evidence, response.evidence_source)
    assert badges["own"][0] is Evidence.own_data
    assert badges["own"][1].startswith("own data: 9 events 2025-04…2026-10 (6 in ")
    assert badges["similar"][0] is Evidence.similar_events
    assert badges["few"][0] in (Evidence.benchmark, Evidence.guess)
    assert "own data: 4 events" in badges["few"][1]
    japanese = BRIEF.model_copy(update={"language": "ja"})
    [response] = model(ResponseParameters(NAMES, tactics={"meta_ads": HISTORY}, is_simulated_data=True)).score(
        request(brief=japanese)
    )
    assert response.evidence_source.startswith("自社データ(シミュレーション): 9件のイベント")
    assert "ベンチマーク" in response.reasons[0]


def test_the_trees_correct_the_height_and_never_the_shape():
    scorer = model(booster=trees())
    [low] = scorer.score(request(features={"meta_ads": {"tactic_rate": 0.0}}))
    [high] = scorer.score(request(features={"meta_ads": {"tactic_rate": 2.0}}))
    spend = np.geomspace(1_000, 1e9, 50)
    ratio = high.curve(spend) / low.curve(spend)
    assert ratio == pytest.approx(np.full(50, ratio[0]))
    assert ratio[0] == pytest.approx(math.e, rel=0.1)
    assert (np.diff(high.curve(spend)) >= 0).all()
    assert any("%" in reason for reason in high.reasons)


def test_a_correction_is_limited_however_wild_the_features_are():
    scorer = model(booster=trees(60, effect=6.0))
    [response] = scorer.score(request(features={"meta_ads": {"tactic_rate": 1e30}}))
    assert response.log_correction == pytest.approx(1.5)
    [response] = scorer.score(request(features={"meta_ads": {"tactic_rate": float("nan")}}))
    assert abs(response.log_correction) <= 1.5


def test_demand_lifts_a_tactic_by_its_elasticity():
    outlook = DemandModel.benchmark().outlook("ai_data", date(2026, 12, 16), date(2026, 11, 18), "online")
    parameters = ResponseParameters(NAMES, demand_elasticity=0.5)
    [plain] = model(parameters).score(request(demand=outlook))
    [lifted] = model(parameters).score(request(demand=replace(outlook, index=1.44)))
    assert lifted.curve(1e5) / plain.curve(1e5) == pytest.approx(1.2)


def test_history_knows_the_size_of_a_list_so_the_brief_does_not_count_it_twice():
    email = load_catalogue().get("own_email")
    small, large = (
        BRIEF.model_copy(update={"assets": BRIEF.assets.model_copy(update={"email_list": size})})
        for size in (500, 50_000)
    )
    parameters = ResponseParameters(NAMES, tactics={"own_email": HISTORY})
    with_history = [model(parameters).score(request([email], brief=b))[0].curve(8.0) for b in (small, large)]
    without = [model().score(request([email], brief=b))[0].curve(8.0) for b in (small, large)]
    assert with_history[0] == with_history[1]
    assert without[1] == pytest.approx(100 * without[0])
    none = BRIEF.model_copy(update={"assets": BRIEF.assets.model_copy(update={"email_list": 0})})
    assert model(parameters).score(request([email], brief=none))[0].curve(8.0) == 0


def test_order_of_the_tactics_does_not_matter():
    features = {t.id: {"tactic_rate": float(i)} for i, t in enumerate(load_catalogue())}
    tactics = list(load_catalogue())
    scorer = model(booster=trees())
    one = {r.tactic_id: r.curve for r in scorer.score(request(tactics, features=features))}
    other = {r.tactic_id: r.curve for r in scorer.score(request(tactics[::-1], features=features))}
    assert one == other
    assert scorer.score(request([])) == []


def test_an_audience_does_not_change_the_price_of_a_unit():
    assert stretch(Step((1e5, 2e5), (5.0, 8.0)), math.log(2)) == Step((1e5, 2e5), (5.0, 11.0))
    assert stretch(Hill(10, 100), 1.0) == Hill(10 * math.e, 100 * math.e)
    assert stretch(CappedLinear(0.1, 50), 0.0) == CappedLinear(0.1, 50)


def test_a_model_comes_back_from_disk_as_it_was(tmp_path: Path):
    parameters = ResponseParameters(
        NAMES, tactics={"meta_ads": HISTORY}, effects={"tactic_segment": {"meta_ads|ai_data": 0.1}},
        effect_sd={"theme": 0.1}, trend_origin=date(2026, 10, 31), level_log_sd={"": 0.3},
        trained_until=date(2026, 10, 31), is_simulated_data=True, rows=70, events=12,
    )  # fmt: skip
    trees().save_model(tmp_path / "model.ubj")
    (tmp_path / "extra_files").mkdir()
    (tmp_path / "extra_files" / FILE).write_text(parameters.to_json())
    loaded = ResponseModel.load(tmp_path, "turnout-response", "4", "champion")
    assert loaded.parameters == parameters
    assert (loaded.version, loaded.trained_until) == ("4", date(2026, 10, 31))
    asked = request(features={"meta_ads": {"tactic_rate": 2.0}})
    assert loaded.score(asked)[0] == model(parameters, trees()).score(asked)[0]


def test_half_a_model_is_refused(tmp_path: Path):
    with pytest.raises(NotReadyError, match=FILE):
        ResponseModel.load(tmp_path, "turnout-response", "1")
    (tmp_path / FILE).write_text(ResponseParameters(NAMES[::-1]).to_json())
    with pytest.raises(NotReadyError, match="cannot be read"):
        ResponseModel.load(tmp_path, "turnout-response", "1")
    trees().save_model(tmp_path / "model.ubj")
    with pytest.raises(NotReadyError, match="other features"):
        ResponseModel.load(tmp_path, "turnout-response", "1")
    (tmp_path / FILE).write_text('{"schema": 99}')
    with pytest.raises(NotReadyError, match="train again"):
        ResponseModel.load(tmp_path, "turnout-response", "1")
    with pytest.raises(NotReadyError, match=DEMAND_FILE):
        DemandModel.load(tmp_path, "turnout-demand", "1")


def demand(**changes) -> DemandModel:
    index = {"all": [1.0 + 0.1 * math.sin(w / 52 * 2 * math.pi) for w in range(104)], "ai_data": [1.2] * 104}
    organic = Organic(
        level=math.log(20), effects={"segment": {"ai_data": 0.5}, "kind": {"online|free": 0.1}},
        log_sd={"": 0.6, "ai_data": 0.3}, events={"ai_data": 8},
    )  # fmt: skip
    parameters = DemandParameters(first_week=date(2026, 11, 2), index=index, organic=organic, events=8)
    return DemandModel(replace(parameters, **changes), name="turnout-demand", version="1")


def test_an_outlook_multiplies_baseline_and_demand():
    outlook = demand().outlook("ai_data", date(2026, 12, 16), date(2026, 11, 18), "online")
    assert outlook.index == 1.2
    assert outlook.organic_mean == pytest.approx(20 * math.exp(0.6) * 1.2)
    assert outlook.organic_log_sd == 0.3
    assert outlook.evidence is Evidence.own_data
    elsewhere = demand().outlook("cloud", date(2026, 12, 16), date(2026, 11, 18), "online")
    assert elsewhere.segment_id == "all"
    assert elsewhere.organic_log_sd == 0.6
    assert elsewhere.evidence is Evidence.similar_events


def test_a_season_moves_tactics_and_the_baseline_alike():
    season = {"0": 0.1, "3": 0.05}
    parameters = ResponseParameters(NAMES, effects={"season": season})
    [plain], [seasonal] = model().score(request()), model(parameters).score(request())
    organic = replace(demand().parameters.organic, effects=demand().parameters.organic.effects | {"season": season})
    lifted = demand(organic=organic).outlook("ai_data", date(2026, 12, 16), date(2026, 11, 18), "online")
    usual = demand().outlook("ai_data", date(2026, 12, 16), date(2026, 11, 18), "online")
    factor = seasonal.curve(1e5) / plain.curve(1e5)
    assert factor == pytest.approx(lifted.organic_mean / usual.organic_mean)
    next_year = season_terms((date(2027, 12, 16) - date(1970, 1, 1)).days)
    assert factor == pytest.approx(math.exp(0.1 * next_year[0] + 0.05 * next_year[3]), rel=0.01)


def test_far_away_dates_take_their_season():
    found = demand()
    first = date(2026, 11, 2)
    for weeks in (-60, -3, 0, 50, 103, 104, 200, 2000):
        assert 0.85 <= found.index("cloud", first + timedelta(weeks=weeks)) <= 1.15
    assert found.index("cloud", first + timedelta(weeks=104 + 10)) == found.index("cloud", first + timedelta(weeks=62))


def test_published_figures_stand_in_for_history():
    outlook = DemandModel.benchmark().outlook("hr", date(2026, 12, 16), date(2026, 11, 18), "offline", price=5000)
    assert outlook.evidence is Evidence.guess
    assert outlook.show_up.mean == pytest.approx(0.83, abs=0.03)
    assert "PheedLoop" in outlook.show_up.source
    for kind in KINDS:
        pacing = published_pacing(kind)
        assert 0.3 < pacing.expected_share(7) < 0.6
        assert pacing.daily().sum() == pytest.approx(1)
        assert 0.4 < published_show_up(kind).mean < 0.95
    assert (
        published_show_up("offline|paid").mean
        > published_show_up("offline|free").mean
        > published_show_up("online|free").mean
    )


def test_a_demand_model_comes_back_from_disk_as_it_was(tmp_path: Path):
    own = demand(
        pacing={"online|free": Pacing((7, 0), (0.5, 1.0), "own")}, show_up={"online|free": ShowUp(6, 4, "own", 8)}
    )
    (tmp_path / DEMAND_FILE).write_text(own.parameters.to_json())
    loaded = DemandModel.load(tmp_path, "turnout-demand", "2", "champion")
    assert loaded.parameters == own.parameters
    assert loaded.outlook("ai_data", date(2026, 12, 16), date(2026, 11, 18), "online").show_up.mean == 0.6


def test_pacing_curves_must_rise_to_one_at_the_event():
    for days, share in (
        ((7,), (1.0,)),
        ((0, 7), (0.5, 1.0)),
        ((7, 0), (0.6, 0.5)),
        ((7, 0), (0.5, 0.9)),
        ((7, 0), (1.0,)),
    ):
        with pytest.raises(ValueError, match=r"pacing|days|shares"):
            Pacing(days, share)
    pacing = Pacing((10, 0), (0.4, 1.0))
    assert pacing.expected_share(30) == 0
    assert pacing.expected_share(5) == pytest.approx(0.7)
    assert pacing.expected_share(-3) == 1


def test_a_show_up_rate_needs_a_proper_beta():
    with pytest.raises(ValueError, match="positive"):
        ShowUp(0.0, 1.0)
