"""Response curves: what a spend (or an effort) is expected to bring.

A curve maps x >= 0 (spend in base currency, or staff hours of a free tactic) to expected registrations. Every curve is
zero at x = 0 unless said otherwise, never negative, immutable, and works on a float or on an array of any shape. A
negative x counts as 0.

==================  ==================================================  ==============================================
Hill                top · xˢ / (halfˢ + xˢ)                             concave for s <= 1, S-shaped for s > 1
Logistic            top · (1 − e⁻ᵃˣ) / (1 + e⁻ᵃˣ),  a = ln 3 / half     concave, saturates sooner than Hill
Step                level of the last threshold <= x                    whole units: releases, slots, sends
CappedLinear        min(cap, rate · max(0, x − start))                  a fixed price each until nobody is left
Tabulated           straight lines between (spend, response) points     anything measured; may be noisy or falling
==================  ==================================================  ==============================================

``half`` is where half of ``top`` is reached: Hill(half) = top/2 for every shape; for Logistic
(1 − e⁻ˡⁿ³)/(1 + e⁻ˡⁿ³) = (1 − 1/3)/(1 + 1/3) = 1/2.

Beside its value a curve knows what an exact optimiser needs: its ``slope``, its ``maximum`` (supremum), where it is
``saturated`` (no x beyond brings more), and either its ``inflection`` (the smooth ones) or its ``knots`` (the piecewise
ones). Only numpy is imported.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

#: Thresholds and knots that came through a currency conversion may be off by rounding; this much is forgiven.
RELATIVE_TOLERANCE = 1e-9


def _positive(name: str, value: float, curve: str, *, zero: bool = False) -> float:
    value = float(value)
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{curve}: {name} must be a finite number {'>= 0' if zero else '> 0'}; got {value}")
    return value


class Curve(ABC):
    """Base of all response curves."""

    @overload
    def __call__(self, x: float, /) -> float: ...
    @overload
    def __call__(self, x: ArrayLike, /) -> Floats: ...
    def __call__(self, x: ArrayLike, /) -> float | Floats:
        """Expected response at ``x``: a float for a scalar, else an array of ``x``'s shape."""
        array = np.maximum(np.asarray(x, dtype=np.float64), 0.0)
        value = self._value(array)
        return float(value) if value.ndim == 0 else value

    @overload
    def slope(self, x: float, /) -> float: ...
    @overload
    def slope(self, x: ArrayLike, /) -> Floats: ...
    def slope(self, x: ArrayLike, /) -> float | Floats:
        """Response per further unit of x (the right-hand derivative where there is a kink or a jump)."""
        array = np.maximum(np.asarray(x, dtype=np.float64), 0.0)
        value = self._slope(array)
        return float(value) if value.ndim == 0 else value

    @abstractmethod
    def _value(self, x: Floats) -> Floats: ...

    @abstractmethod
    def _slope(self, x: Floats) -> Floats: ...

    @abstractmethod
    def scaled(self, factor: float, /) -> Self:
        """The curve times ``factor`` >= 0: the same x brings ``factor`` times as many."""

    @abstractmethod
    def stretched(self, factor: float, /) -> Self:
        """The curve over an audience ``factor`` > 0 times as large: y(x) = factor · curve(x / factor)."""

    @property
    @abstractmethod
    def maximum(self) -> float:
        """The least upper bound of the response."""

    @property
    @abstractmethod
    def saturated(self) -> float:
        """The smallest x beyond which nothing more is gained, to float precision; inf when there is none."""

    @property
    def inflection(self) -> float:
        """From here on the curve is concave; on the left of it, it is convex. 0 for concave curves."""
        return 0.0

    def knots(self) -> tuple[Floats, Floats] | None:
        """The (x, response) points that describe a piecewise curve; ``None`` for smooth ones."""
        return None


@dataclass(frozen=True, slots=True)
class _Saturating(Curve):
    """A curve that rises towards ``top`` and reaches half of it at ``half``."""

    top: float
    half: float

    def scaled(self, factor: float, /) -> Self:
        return replace(self, top=self.top * _positive("factor", factor, "scaled", zero=True))

    def stretched(self, factor: float, /) -> Self:
        factor = _positive("factor", factor, "stretched")
        return replace(self, top=self.top * factor, half=self.half * factor)

    @property
    def maximum(self) -> float:
        return self.top


@dataclass(frozen=True, slots=True)
class Hill(_Saturating):
    """top · xˢ / (halfˢ + xˢ).

    Args:
        top: response as x grows without end, >= 0.
        half: the x that brings half of ``top``, > 0.
        shape: s > 0. 1 is plain saturation (marginal cost at 0 is half/top); below 1 the first units are worth most;
            above 1 the curve is S-shaped with its inflection at half · ((s − 1)/(s + 1))^(1/s).
    """

    shape: float = 1.0

    def __post_init__(self) -> None:
        _positive("top", self.top, "Hill", zero=True)
        _positive("half", self.half, "Hill")
        _positive("shape", self.shape, "Hill")

    def _value(self, x: Floats) -> Floats:
        with np.errstate(divide="ignore", over="ignore"):
            return np.asarray(self.top / (1.0 + (self.half / x) ** self.shape))

    def _slope(self, x: Floats) -> Floats:
        # u = (half/x)^s, d/dx top/(1+u) = top s u / (x (1+u)²); written so that neither end overflows
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            log_u = self.shape * (math.log(self.half) - np.log(x))
            steep = np.exp(-np.abs(log_u)) / (1.0 + np.exp(-np.abs(log_u))) ** 2
            slope = self.top * self.shape * steep / x
        at_zero = self.top / self.half if self.shape == 1.0 else 0.0
        if self.shape < 1.0 and self.top > 0:
            at_zero = math.inf
        return np.where(x > 0, slope, at_zero)

    @property
    def saturated(self) -> float:
        return math.inf if self.top > 0 else 0.0

    @property
    def inflection(self) -> float:
        if self.shape <= 1.0:
            return 0.0
        return float(self.half * ((self.shape - 1.0) / (self.shape + 1.0)) ** (1.0 / self.shape))


@dataclass(frozen=True, slots=True)
class Logistic(_Saturating):
    """top · (1 − e⁻ᵃˣ) / (1 + e⁻ᵃˣ) = top · tanh(ax/2) with a = ln 3 / half: half of ``top`` is reached at ``half``.

    Concave on x >= 0; the slope at 0 is top · a / 2.
    """

    def __post_init__(self) -> None:
        _positive("top", self.top, "Logistic", zero=True)
        _positive("half", self.half, "Logistic")

    @property
    def rate(self) -> float:
        """a = ln 3 / half."""
        return math.log(3.0) / self.half

    def _value(self, x: Floats) -> Floats:
        return np.asarray(self.top * np.tanh(0.5 * self.rate * x))

    def _slope(self, x: Floats) -> Floats:
        decay = np.exp(-self.rate * x)
        return np.asarray(2.0 * self.top * self.rate * decay / (1.0 + decay) ** 2)

    @property
    def saturated(self) -> float:
        # 1 - tanh(z) = 2e^{-2z} falls below half an ulp of 1 at z = 18.7
        return 2.0 * 18.72 / self.rate if self.top > 0 else 0.0


def _points(name: str, x: ArrayLike, y: ArrayLike) -> tuple[tuple[float, ...], tuple[float, ...]]:
    xs = np.atleast_1d(np.asarray(x, dtype=np.float64))
    ys = np.atleast_1d(np.asarray(y, dtype=np.float64))
    if xs.ndim != 1 or xs.shape != ys.shape or not xs.size:
        raise ValueError(f"{name}: needs as many responses as x values, at least one; got {xs.shape} and {ys.shape}")
    if not (np.isfinite(xs).all() and np.isfinite(ys).all()):
        raise ValueError(f"{name}: x and response must be finite")
    if (xs < 0).any() or (ys < 0).any():
        raise ValueError(f"{name}: x and response must not be negative")
    if (np.diff(xs) <= 0).any():
        raise ValueError(f"{name}: x must rise strictly; got {xs.tolist()}")
    return tuple(xs.tolist()), tuple(ys.tolist())


@dataclass(frozen=True, slots=True)
class Step(Curve):
    """Whole units: ``levels[k]`` from ``at[k]`` on, 0 before ``at[0]``.

    Args:
        at: x of each step, rising. A number makes one step.
        levels: cumulative response from each step on, never falling.
    """

    at: Sequence[float] | float
    levels: Sequence[float] | float
    _at: Floats = field(init=False, repr=False, compare=False)
    _levels: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        at, levels = _points("Step", self.at, self.levels)
        if any(b < a for a, b in pairwise(levels)):
            raise ValueError(f"Step: levels must never fall; got {list(levels)}")
        object.__setattr__(self, "at", at)
        object.__setattr__(self, "levels", levels)
        object.__setattr__(self, "_at", np.asarray(at))
        object.__setattr__(self, "_levels", np.asarray((0.0, *levels)))

    @classmethod
    def units(cls, price: float, first: float, decay: float, count: int, start: float = 0.0) -> Self:
        """``count`` units at ``start + k · price``; the first brings ``first``, each further ``decay`` of the one
        before."""
        k = np.arange(1, count + 1)
        brought = first * decay ** (k - 1.0)
        return cls(tuple((start + price * k).tolist()), tuple(np.cumsum(brought).tolist()))

    def _value(self, x: Floats) -> Floats:
        return np.asarray(self._levels[np.searchsorted(self._at, x * (1.0 + RELATIVE_TOLERANCE), side="right")])

    def _slope(self, x: Floats) -> Floats:
        return np.zeros_like(x)

    def scaled(self, factor: float, /) -> Self:
        factor = _positive("factor", factor, "scaled", zero=True)
        return type(self)(self._at, self._levels[1:] * factor)  # type: ignore[arg-type]

    def stretched(self, factor: float, /) -> Self:
        """A larger audience does not change how many units there are, only what each brings."""
        return self.scaled(_positive("factor", factor, "stretched"))

    @property
    def maximum(self) -> float:
        return float(self._levels[-1])

    @property
    def saturated(self) -> float:
        first_best = int(np.argmax(self._levels))  # 0: no step brings anything
        return float(self._at[first_best - 1]) if first_best else 0.0

    def knots(self) -> tuple[Floats, Floats]:
        if self._at[0] == 0.0:
            return self._at, self._levels[1:]
        return np.concatenate(([0.0], self._at)), self._levels


@dataclass(frozen=True, slots=True)
class CappedLinear(Curve):
    """min(cap, rate · max(0, x − start)): a constant cost per registration until the pool is exhausted.

    Args:
        rate: response per unit of x after ``start``, >= 0.
        cap: the most it can bring, >= 0.
        start: x that must be paid before anything happens (set-up), >= 0. Above 0 the curve is not concave.
    """

    rate: float
    cap: float
    start: float = 0.0

    def __post_init__(self) -> None:
        _positive("rate", self.rate, "CappedLinear", zero=True)
        _positive("cap", self.cap, "CappedLinear", zero=True)
        _positive("start", self.start, "CappedLinear", zero=True)

    def _value(self, x: Floats) -> Floats:
        return np.minimum(self.cap, self.rate * np.maximum(x - self.start, 0.0))

    def _slope(self, x: Floats) -> Floats:
        return np.where((x >= self.start) & (x < self.saturated), self.rate, 0.0)

    def scaled(self, factor: float, /) -> Self:
        factor = _positive("factor", factor, "scaled", zero=True)
        return replace(self, rate=self.rate * factor, cap=self.cap * factor)

    def stretched(self, factor: float, /) -> Self:
        """More people at the same cost each: only the cap grows."""
        return replace(self, cap=self.cap * _positive("factor", factor, "stretched"))

    @property
    def maximum(self) -> float:
        return self.cap if self.rate > 0 else 0.0

    @property
    def saturated(self) -> float:
        return self.start + self.cap / self.rate if self.rate > 0 and self.cap > 0 else 0.0

    def knots(self) -> tuple[Floats, Floats]:
        if self.saturated == 0.0:
            return np.zeros(1), np.zeros(1)
        xs, ys = [0.0, self.saturated], [0.0, self.cap]
        if self.start > 0:
            xs.insert(1, self.start)
            ys.insert(1, 0.0)
        return np.asarray(xs), np.asarray(ys)


@dataclass(frozen=True, slots=True)
class Tabulated(Curve):
    """Straight lines between measured points, flat after the last one; from (0, 0) to the first one where no point
    stands at 0.

    The responses may be noisy, so that they fall in places: nothing here assumes that more spend brings more.
    """

    spend: Sequence[float]
    response: Sequence[float]
    _x: Floats = field(init=False, repr=False, compare=False)
    _y: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        spend, response = _points("Tabulated", self.spend, self.response)
        object.__setattr__(self, "spend", spend)
        object.__setattr__(self, "response", response)
        if spend[0] > 0:
            spend, response = (0.0, *spend), (0.0, *response)
        object.__setattr__(self, "_x", np.asarray(spend))
        object.__setattr__(self, "_y", np.asarray(response))

    def _value(self, x: Floats) -> Floats:
        return np.asarray(np.interp(x, self._x, self._y))

    def _slope(self, x: Floats) -> Floats:
        slopes = np.append(np.diff(self._y) / np.diff(self._x), 0.0)
        return np.asarray(slopes[np.searchsorted(self._x, x, side="right") - 1])

    def scaled(self, factor: float, /) -> Self:
        factor = _positive("factor", factor, "scaled", zero=True)
        return type(self)(self._x, self._y * factor)  # type: ignore[arg-type]

    def stretched(self, factor: float, /) -> Self:
        factor = _positive("factor", factor, "stretched")
        return type(self)(self._x * factor, self._y * factor)  # type: ignore[arg-type]

    def envelope(self) -> Self:
        """The least concave curve that is nowhere below this one (see :func:`concave_envelope`)."""
        return type(self)(*concave_envelope(self._x, self._y))  # type: ignore[arg-type]

    @property
    def maximum(self) -> float:
        return float(self._y.max())

    @property
    def saturated(self) -> float:
        return float(self._x[np.argmax(self._y)])

    def knots(self) -> tuple[Floats, Floats]:
        return self._x, self._y


def concave_envelope(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """The corners of the least concave function above the points (upper hull; Andrew's monotone chain).

    Args:
        x: rising strictly, shape (n,).
        y: values, shape (n,).

    Returns:
        The points on the hull, first and last of ``x`` always among them, with strictly falling slopes.
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    hull: list[int] = []
    for k in range(xs.size):
        while len(hull) >= 2:
            a, b = hull[-2], hull[-1]
            # b stays only if it lies strictly above the line from a to k
            if (ys[b] - ys[a]) * (xs[k] - xs[a]) > (ys[k] - ys[a]) * (xs[b] - xs[a]):
                break
            hull.pop()
        hull.append(k)
    return xs[hull], ys[hull]
