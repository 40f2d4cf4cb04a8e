"""Partial pooling finds what was put in, and survives what real data do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from training.hierarchy import Covariate, Group, Members, codes_of, fit


def world(rows: int, *, seed: int = 0, noise: float = 0.3):
    rng = np.random.default_rng(seed)
    tactic, segment = rng.integers(0, 12, rows), rng.integers(0, 6, rows)
    levels, segments = rng.normal(0.3, 0.5, 12), rng.normal(0, 0.25, 6)
    base = np.exp(rng.normal(2.5, 0.6, rows))
    demand = rng.normal(0, 0.3, rows)
    mean = base * np.exp(levels[tactic] + segments[segment] + 0.6 * demand)
    y = rng.poisson(mean * np.exp(rng.normal(-(noise**2) / 2, noise, rows)))
    groups = {
        "organisation": Group(np.zeros(rows, dtype=np.int64), 1, 0.35),
        "tactic": Group(tactic, 12, 0.6),
        "segment": Group(segment, 6, 0.2, learn=True),
    }
    return y, base, groups, {"demand": Covariate(demand, 0.8, 0.4)}, levels, segments


def test_effects_and_elasticity_are_found():
    y, base, groups, covariates, levels, segments = world(3000)
    found = fit(y, base, groups, covariates)
    height = found.effects["organisation"][0] + found.effects["tactic"][:, None] + found.effects["segment"][None, :]
    assert np.abs(height - levels[:, None] - segments[None, :]).max() < 0.12
    assert found.coefficients["demand"] == pytest.approx(0.6, abs=0.06)
    assert found.overdispersion == pytest.approx(np.expm1(0.09), rel=0.35)


def test_the_posterior_spread_says_how_wrong_it_is():
    z = []
    for seed in range(25):
        y, base, groups, covariates, levels, segments = world(150, seed=seed)
        found = fit(y, base, groups, covariates)
        for t in range(0, 12, 3):
            spread = np.sqrt(found.variance({"organisation": 0, "tactic": t, "segment": 1}))
            height = found.effects["organisation"][0] + found.effects["tactic"][t] + found.effects["segment"][1]
            z.append((height - levels[t] - segments[1]) / spread)
    assert 0.75 < np.std(z) < 1.35


def test_one_typing_error_of_a_hundredfold_does_not_set_the_level():
    y, base, groups, covariates, *_ = world(400)
    clean = fit(y, base, groups, covariates)
    dirty = y.copy()
    dirty[7] = 100 * max(dirty[7], 10)
    spoilt = fit(dirty, base, groups, covariates)
    tactic = groups["tactic"].codes[7]
    assert abs(spoilt.effects["tactic"][tactic] - clean.effects["tactic"][tactic]) < 0.15
    assert spoilt.overdispersion < 1.5 * clean.overdispersion + 0.05


def test_zeros_only_stay_finite_and_go_down():
    zeros = np.zeros(8, dtype=np.int64)
    found = fit(np.zeros(8), np.full(8, 20.0), {"tactic": Group(zeros, 1, 0.6)})
    assert -4 < found.effects["tactic"][0] < -0.5


def test_no_rows_give_the_prior():
    nothing = np.zeros(0, dtype=np.int64)
    found = fit(
        [], [], {"tactic": Group(nothing, 3, np.array([0.5, 0.6, 0.7]))}, {"demand": Covariate(np.zeros(0), 0.8, 0.4)}
    )
    assert (found.effects["tactic"] == 0).all()
    assert found.coefficients["demand"] == 0.8
    assert found.variance({"tactic": 2}) == pytest.approx(0.49)


def test_a_level_that_was_never_seen_has_its_priors_spread():
    y, base, groups, *_ = world(500)
    found = fit(y, base, groups)
    seen, unseen = ({"organisation": 0, "tactic": t, "segment": 0} for t in (0, -1))
    assert found.variance(unseen) > found.variance(seen)
    eta = found.eta({"tactic": np.array([-1, 0])}, {}, 2)
    assert eta[0] == 0
    assert eta[1] == found.effects["tactic"][0]


def test_little_data_move_less_than_much():
    few = fit([40.0], [10.0], {"tactic": Group(np.zeros(1, dtype=np.int64), 1, 0.6)})
    many = fit([40.0] * 50, [10.0] * 50, {"tactic": Group(np.zeros(50, dtype=np.int64), 1, 0.6)})
    assert 0 < few.effects["tactic"][0] < many.effects["tactic"][0] < np.log(4) + 0.01


@pytest.mark.parametrize(("y", "base"), [([-1.0], [1.0]), ([np.nan], [1.0]), ([1.0], [0.0]), ([1.0, 2.0], [1.0])])
def test_impossible_counts_are_refused(y, base):
    with pytest.raises(ValueError, match=r"negative|shape"), np.errstate(divide="ignore"):
        fit(y, base, {"tactic": Group(np.zeros(len(y), dtype=np.int64), 1, 0.6)})


def test_values_that_are_no_level_have_no_code():
    assert codes_of(["b", "x", "a"], ["a", "b"]).tolist() == [1, -1, 0]


def test_rows_that_belong_to_several_levels_share_their_effects():
    rng = np.random.default_rng(3)
    effects, rows = rng.normal(0, 0.5, 8), 3000
    named = rng.random((rows, 8)) < 0.4
    named[np.arange(rows), rng.integers(0, 8, rows)] = True
    weights = named / named.sum(axis=1, keepdims=True)
    y = rng.poisson(20 * np.exp(weights @ effects))
    found = fit(y, np.full(rows, 20.0), {"size": Members(sparse.csr_matrix(weights), 0.5, learn=True)})
    assert found.effects["size"] == pytest.approx(effects, abs=0.12)
    spread = np.sqrt(found.variances(sparse.csr_matrix(weights[:50])))
    assert np.abs((weights @ (found.effects["size"] - effects))[:50] / spread).max() < 4


def test_a_drift_is_a_slope_and_a_prior_mean_stands_where_nothing_is_seen():
    rng = np.random.default_rng(4)
    years, segment = rng.uniform(-2, 0, 1500), rng.integers(0, 2, 1500)
    y = rng.poisson(30 * np.exp(np.where(segment == 0, 0.3, -0.2) * years))
    slopes = sparse.csr_matrix((years, (np.arange(1500), segment)), shape=(1500, 3))
    found = fit(y, np.full(1500, 30.0), {"trend": Members(slopes, 0.2, mean=0.1)})
    assert found.effects["trend"] == pytest.approx([0.3, -0.2, 0.1], abs=0.03)


def test_blocks_change_the_time_and_not_the_result():
    rng = np.random.default_rng(4)
    rows, tactics, pairs = 400, 5, 30
    tactic, pair = rng.integers(0, tactics, rows), rng.integers(0, pairs, rows)
    of = np.arange(pairs) % tactics
    pair = pair - pair % tactics + tactic  # a pair belongs to the row's tactic
    ones = np.ones(rows)
    shared = sparse.csr_matrix((ones, (np.arange(rows), rng.integers(0, 7, rows))), shape=(rows, 7))
    first = sparse.csr_matrix((ones, (np.arange(rows), tactic)), shape=(rows, tactics))
    second = sparse.csr_matrix((ones, (np.arange(rows), pair)), shape=(rows, pairs))
    y, base = rng.poisson(20, rows), np.full(rows, 18.0)

    def fitted(blocked):
        return fit(
            y,
            base,
            {
                "shared": Members(shared, 0.2, learn=True),
                "tactic": Members(first, 0.5, blocks=np.arange(tactics) if blocked else None),
                "pair": Members(second, 0.2, learn=True, blocks=of if blocked else None),
            },
            {"demand": Covariate(np.linspace(-1, 1, rows), 0.5, 0.3)},
        )

    whole, blocked = fitted(False), fitted(True)
    for name, effects in whole.effects.items():
        assert blocked.effects[name] == pytest.approx(effects, abs=1e-6)
        assert blocked.sd[name] == pytest.approx(whole.sd[name], rel=1e-6)
    assert blocked.coefficients["demand"] == pytest.approx(whole.coefficients["demand"], abs=1e-6)
    design = sparse.random(40, 7 + tactics + pairs + 1, 0.2, random_state=1, format="csr")
    assert blocked.variances(design) == pytest.approx(whole.variances(design), rel=1e-6)
