"""The feature matrix that training and serving share."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from turnout.brief import Brief
from turnout.scoring.design import (
    CHANNELS,
    RAW_COLUMNS,
    derived_names,
    design_matrix,
    event_columns,
    store_columns,
    tactic_columns,
)
from turnout.tactics import load_catalogue

BRIEF = Brief.model_validate(
    {
        "event": {
            "name": "e", "date": "2026-12-16", "category": "ai_data", "format": "online",
            "audience": {"industries": ["manufacturing", "finance"]},
        },
        "goal": {"target": 100},
        "budget": {"amount": 0},
    }
)  # fmt: skip
TACTICS = list(load_catalogue())


def columns(price=0.0, index=1.0):
    event = event_columns(BRIEF, date(2026, 11, 18), price_base=price, demand_index=index)
    return event | tactic_columns(TACTICS)


def at(name: str, **changes) -> np.ndarray:
    names = derived_names()
    return design_matrix(columns(**changes), names, len(TACTICS))[:, names.index(name)]


def test_features_of_an_event_are_what_their_names_say():
    assert (at("lead_days") == 28).all()
    assert (at("weekday") == 2).all()  # a Wednesday
    assert (at("format:online") == 1).all()
    assert (at("format:offline") == 0).all()
    assert (at("category:ai_data") == 1).all()
    assert (at("industries_n") == 2).all()
    assert at("log_price", price=3000.0)[0] == pytest.approx(np.log1p(3000))
    assert at("demand_index", index=1.3)[0] == pytest.approx(1.3)


def test_features_of_a_tactic_differ_by_row():
    paid = at("is_paid")
    assert [bool(v) for v in paid] == [t.is_paid for t in TACTICS]
    assert at("channel:email").sum() == sum(t.channel == "email" for t in TACTICS)


def test_every_channel_of_the_catalogue_has_a_column():
    assert {t.channel for t in TACTICS} <= set(CHANNELS)


def test_scalars_and_arrays_give_the_same_matrix():
    names = derived_names()
    spread = {k: np.full(len(TACTICS), v) if np.ndim(v) == 0 else v for k, v in columns().items()}
    assert np.array_equal(design_matrix(columns(), names, 32), design_matrix(spread, names, 32), equal_nan=True)
    assert set(RAW_COLUMNS) == set(columns())


def test_a_row_does_not_depend_on_its_neighbours():
    names = derived_names()
    whole = design_matrix(columns(), names, len(TACTICS))
    one = columns() | tactic_columns([TACTICS[5]])
    assert np.array_equal(whole[5], design_matrix(one, names, 1)[0], equal_nan=True)


def test_unknown_values_are_nan_and_never_zero():
    features = {"meta_ads": {"rate": 2.0, "gone": None}, "x_ads": {"rate": float("inf")}}
    ids = ["meta_ads", "x_ads", "peatix"]
    found = store_columns(
        ("rate", "gone", "segment_rate", "weekday"), ids, features, {"segment_rate": 7.0, "rate": None}
    )
    matrix = design_matrix(found, ("rate", "gone", "segment_rate", "never_heard_of"), 3)
    assert matrix[0].tolist()[:1] == [2.0]
    assert np.isnan(matrix[1:, 0]).all()
    assert np.isnan(matrix[:, 1]).all()
    assert (matrix[:, 2] == 7.0).all()
    assert np.isnan(matrix[:, 3]).all()
    assert "weekday" not in found


def test_what_is_wished_for_is_no_feature():
    assert not {n for n in derived_names() if "target" in n or "budget" in n or "spend" in n}


def test_a_missing_raw_column_is_named():
    with pytest.raises(KeyError, match="price_base"):
        design_matrix({k: v for k, v in columns().items() if k != "price_base"}, derived_names(), 32)
