"""Response curves: their formulas, and what every curve promises."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.curves import CappedLinear, Curve, Hill, Logistic, Step, Tabulated, concave_envelope

positive = st.floats(1e-6, 1e9, allow_nan=False, allow_infinity=False)
amounts = st.lists(st.floats(0, 1e9), min_size=1, max_size=6, unique=True).map(sorted)


@st.composite
def points(draw, monotone=False):
    xs = draw(st.lists(st.floats(1e-3, 1e8), min_size=1, max_size=8, unique=True).map(sorted))
    # far enough apart that slopes are not rounding errors
    xs = [x * (1 + 1e-3 * k) for k, x in enumerate(xs)]
    ys = draw(st.lists(st.floats(0, 1e6), min_size=len(xs), max_size=len(xs)))
    return xs, sorted(ys) if monotone else ys


monotone_curves = st.one_of(
    st.builds(Hill, positive, positive, st.floats(0.2, 6)),
    st.builds(Logistic, positive, positive),
    st.builds(lambda rate, cap, wait: CappedLinear(rate, cap, wait * cap / rate), positive, positive, st.floats(0, 10)),
    points(monotone=True).map(lambda p: Step(*p)),
    points(monotone=True).map(lambda p: Tabulated(*p)),
)
curves = st.one_of(monotone_curves, points().map(lambda p: Tabulated(*p)))


def test_hill_reaches_half_of_top_at_half_for_every_shape():
    for shape in (0.3, 1.0, 2.5):
        assert Hill(120, 40_000, shape)(40_000.0) == pytest.approx(60)


def test_hill_value_agrees_with_its_formula():
    x = np.array([0.0, 1.0, 10.0, 1e4])
    assert np.allclose(Hill(7, 30, 1.7)(x), 7 * x**1.7 / (30**1.7 + x**1.7))


def test_logistic_value_agrees_with_its_formula():
    curve = Logistic(0.6, 40_000)
    a, x = math.log(3) / 40_000, 26_745
    assert curve(float(x)) == pytest.approx(0.6 * (1 - math.exp(-a * x)) / (1 + math.exp(-a * x)))
    assert curve(40_000.0) == pytest.approx(0.3)


def test_step_brings_nothing_before_the_first_unit_and_levels_after():
    curve = Step((30_000, 60_000), (5, 6))
    assert curve(np.array([0, 29_999, 30_000, 59_999, 60_000, 1e9])).tolist() == [0, 0, 5, 5, 6, 6]


def test_step_forgives_the_rounding_of_a_currency_conversion():
    assert Step(30_000, 5)(30_000 * (1 - 1e-12)) == 5


def test_units_bring_a_falling_share_each():
    curve = Step.units(price=2.0, first=10, decay=0.5, count=3, start=1.0)
    assert curve.at == (3.0, 5.0, 7.0)
    assert curve.levels == (10.0, 15.0, 17.5)


def test_capped_linear_starts_after_its_setup_and_ends_at_its_cap():
    curve = CappedLinear(2.0, 10.0, start=1.0)
    assert curve(np.array([0.0, 1.0, 2.0, 6.0, 100.0])).tolist() == [0, 0, 2, 10, 10]
    assert curve.saturated == 6.0


def test_table_is_zero_at_zero_and_flat_after_its_last_point():
    curve = Tabulated((10, 20), (4, 3))
    assert curve(np.array([0.0, 5.0, 10.0, 15.0, 20.0, 99.0])).tolist() == [0, 2, 4, 3.5, 3, 3]
    assert (curve.maximum, curve.saturated) == (4, 10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hill(-1, 1), "top"),
        (lambda: Hill(1, 0), "half"),
        (lambda: Hill(1, 1, math.nan), "shape"),
        (lambda: Logistic(1, math.inf), "half"),
        (lambda: Step((2, 1), (1, 2)), "rise"),
        (lambda: Step((1, 2), (2, 1)), "never fall"),
        (lambda: Tabulated((1, 2), (1,)), "as many"),
        (lambda: Tabulated((1, 2), (1, -1)), "negative"),
        (lambda: CappedLinear(1, 1, -1), "start"),
        (lambda: Hill(1, 1).scaled(-1), "factor"),
        (lambda: Hill(1, 1).stretched(0), "factor"),
    ],
)
def test_impossible_parameters_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@given(curves, amounts)
def test_a_curve_is_finite_never_negative_and_below_its_maximum(curve: Curve, xs):
    y = curve(np.array(xs))
    assert np.isfinite(y).all()
    assert (y >= 0).all()
    assert (y <= curve.maximum * (1 + 1e-9)).all()


@given(monotone_curves, amounts)
def test_more_spend_never_brings_less(curve: Curve, xs):
    y = curve(np.array(xs))
    assert (np.diff(y) >= -1e-9 * curve.maximum).all()


@given(curves, amounts)
def test_an_array_and_a_number_give_the_same(curve: Curve, xs):
    assert curve(np.array(xs)) == pytest.approx([curve(x) for x in xs], rel=1e-12)
    assert isinstance(curve(xs[0]), float)


@given(curves, st.floats(0, 100), amounts)
def test_scaling_scales_the_response(curve: Curve, factor, xs):
    assert np.allclose(curve.scaled(factor)(np.array(xs)), factor * curve(np.array(xs)), rtol=1e-9)


@given(st.one_of(st.builds(Hill, positive, positive), st.builds(Logistic, positive, positive)), st.floats(0.01, 100))
def test_a_larger_audience_costs_the_same_at_the_start(curve: Curve, factor):
    assert curve.stretched(factor).maximum == pytest.approx(factor * curve.maximum)
    assert curve.stretched(factor).slope(0.0) == pytest.approx(curve.slope(0.0))


@given(st.one_of(st.builds(Hill, positive, positive, st.floats(0.3, 5)), st.builds(Logistic, positive, positive)),
       st.floats(0.05, 20))  # fmt: skip
def test_the_slope_is_the_derivative(curve: Hill | Logistic, relative):
    x = relative * curve.half
    step = 1e-5 * x
    numeric = (curve(x + step) - curve(x - step)) / (2 * step)
    assert curve.slope(x) == pytest.approx(numeric, rel=1e-4, abs=1e-9 * curve.top / curve.half)


@given(monotone_curves)
def test_nothing_is_gained_beyond_saturation(curve: Curve):
    if math.isfinite(curve.saturated):
        assert curve(curve.saturated) == pytest.approx(curve.maximum, rel=1e-9)


@given(st.builds(Hill, positive, positive, st.floats(1.05, 6)))
def test_an_s_shaped_curve_is_steepest_at_its_inflection(curve: Hill):
    steepest = curve.slope(curve.inflection)
    assert steepest >= curve.slope(0.8 * curve.inflection)
    assert steepest >= curve.slope(1.2 * curve.inflection)


@given(points())
def test_the_envelope_is_concave_and_nowhere_below(p):
    xs, ys = p
    hull_x, hull_y = concave_envelope(xs, ys)
    assert (np.interp(xs, hull_x, hull_y) >= np.array(ys) - 1e-9 * max(ys)).all()
    slopes = np.diff(hull_y) / np.diff(hull_x)
    assert (np.diff(slopes) <= 1e-9 * (1 + np.abs(slopes).max(initial=0))).all()
    assert set(hull_x.tolist()) <= set(xs)
