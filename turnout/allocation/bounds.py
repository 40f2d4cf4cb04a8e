"""Upper bounds: exact Lagrangian relaxation over the pieces of all curves.

Each candidate's x-axis is cut into **pieces**: intervals on which its response is concave (or single points). Money and
hours are priced with multipliers λ and μ >= 0; the relaxation

    D(λ, μ) = λ·B + μ·H + Σᵢ max over i's pieces of [ r(x) − λ·money(x) − μ·hours(x) ]

is at least the optimum for every (λ, μ), whatever the curves (weak duality), because each inner maximum is exact:

* Hill: r'(x) = c. Shape 1 has the closed form x = √(top·half/c) − half. Else, with v = s·ln(x/half), it reads
  ((s−1)/s)·v − 2·ln(1+eᵛ) = ln(c·half/(top·s)), whose left side is concave and falling right of its peak; Newton's
  method falls monotonically onto the root from the right. What is left of the residual is added to the value, so that
  an unfinished iteration can only raise the bound.
* Logistic: r'(x) = c has the closed form x = (2/a)·artanh √(1 − 2c/(top·a)).
* everything else is piecewise linear, so its maximum is at a knot.

The convex part of an S-shaped curve is cut into short pieces; a maximum there is at an end of one.

All curves of one kind, all pieces and any number of multipliers are evaluated together. A :class:`Pool` keeps what was
evaluated: every column (λ, μ) is a bound for every subproblem, because a subproblem only takes pieces away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from turnout.allocation.problem import TOLERANCE, Candidate
from turnout.curves import Hill, Logistic, Step

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
_Triple = tuple[float, float, float]

#: Most and fewest pieces the convex part of an S-shaped curve is cut into. The chords' error, 1/(8·pieces²) of that
#: part's height, counts for the one or two candidates that end there: many candidates need fewer pieces each.
_MOST_BENT, _FEWEST_BENT = 80, 8
#: A candidate counted in whole units has one piece per unit, up to this many; beyond, it is treated as continuous.
MOST_UNITS = 1024
#: With fewer units of money than this in the budget, every payable amount is a point.
COARSE = 200
#: Newton steps of the Hill inverse; six are usual.
_NEWTON = 50


@dataclass(slots=True)
class _Smooth:
    """Hill or Logistic on [a, b], as a piece. ``shape`` 0 marks Logistic."""

    row: int
    a: float
    b: float
    top: float
    half: float
    shape: float


@dataclass(slots=True)
class Builder:
    """Collects pieces, then freezes them to arrays."""

    owner: list[int] = field(default_factory=list)
    fixed: list[tuple[float, float]] = field(default_factory=list)
    rates: list[tuple[float, float]] = field(default_factory=list)
    start: list[tuple[float, float, float, float]] = field(
        default_factory=list
    )  # x, money, hours, response at its left
    most: list[tuple[float, float, float]] = field(default_factory=list)  # money, hours, response at its right end
    knots: list[tuple[int, list[float], list[float], list[float], list[float]]] = field(default_factory=list)
    smooth: list[_Smooth] = field(default_factory=list)
    convex_pieces: int = _MOST_BENT

    def bend_pieces(self, bent: int) -> None:
        """Choose how finely the convex parts of ``bent`` S-shaped curves are cut."""
        self.convex_pieces = max(_FEWEST_BENT, min(_MOST_BENT, round(115 / math.sqrt(max(bent, 1)))))

    def add_points(
        self, owner: int, c: Candidate, xs: Sequence[float], rs: Sequence[float], unit: float | None
    ) -> None:
        """One piece for each point."""
        for x, r in zip(xs, rs, strict=True):
            self.add_knots(owner, c, [x], [r], unit)

    def add_knots(self, owner: int, c: Candidate, xs: list[float], rs: list[float], unit: float | None) -> None:
        """One concave piece with straight lines between its knots; a single knot is a point.

        A point's money is rounded up to ``unit``: a price of 86,602.54 yen is paid with 86,603.
        """
        if len(xs) == 1:
            money, hours = [c.money_at(xs[0])], [c.hours_at(xs[0])]
            if unit is not None:
                money = [math.ceil(money[0] / unit - 1e-6) * unit]
        else:  # x = 0 as the left end of a used piece pays the fixed part too; not using it is a piece of its own
            money = [c.fixed_cost + c.cost * x for x in xs]
            hours = [c.fixed_hours + c.hours * x for x in xs]
        row = self._row(owner, c, (xs[0], money[0], hours[0], rs[0]), (money[-1], hours[-1], max(rs)))
        self.knots.append((row, xs, rs, money, hours))

    def add_smooth(self, owner: int, c: Candidate, curve: Hill | Logistic, a: float, b: float) -> None:
        left = (a, c.fixed_cost + c.cost * a, c.fixed_hours + c.hours * a, float(curve(a)))
        right = (c.fixed_cost + c.cost * b, c.fixed_hours + c.hours * b, float(curve(b)))
        row = self._row(owner, c, left, right)
        shape = curve.shape if isinstance(curve, Hill) else 0.0
        self.smooth.append(_Smooth(row, a, b, curve.top, curve.half, shape))

    def _row(
        self,
        owner: int,
        c: Candidate,
        start: tuple[float, float, float, float],
        most: tuple[float, float, float],
    ) -> int:
        self.owner.append(owner)
        self.fixed.append((c.fixed_cost, c.fixed_hours))
        self.rates.append((c.cost, c.hours))
        self.start.append(start)
        self.most.append(most)
        return len(self.owner) - 1


def limits(
    c: Candidate, budget: float, hours: float, unit: float | None, *, keep: bool = False
) -> tuple[float, float] | None:
    """The smallest and largest x > 0 that is worth looking at; ``None`` where not even the smallest can be had.

    Ends are moved to what is payable: whole units of the candidate, else of money (steps have prices of their own,
    which are rounded up). ``keep``: money is to be spent even where it brings nothing.
    """
    within = 1 + TOLERANCE
    if c.fixed_cost > budget * within or c.fixed_hours > hours * within or (c.curve.saturated == 0 and not keep):
        return None
    lo, most = c.minimum, c.maximum
    if c.cost > 0:
        most = min(most, (budget - c.fixed_cost) / c.cost)
    if c.hours > 0:
        most = min(most, (hours - c.fixed_hours) / c.hours)
    enough = most if keep and math.isfinite(most) else _enough(c, most)
    if c.unit is not None:
        step, offset = c.unit, 0.0
    elif unit is not None and c.cost > 0 and lo != c.maximum and not isinstance(c.curve, Step):
        step, offset = unit / c.cost, -c.fixed_cost / c.cost
    else:
        return (lo, max(min(enough, most), min(lo, most))) if lo <= most * within and most > 0 else None
    if lo > 0:
        lo = math.ceil((lo - offset) / step - 1e-6) * step + offset
    if math.isfinite(most):
        most = math.floor((most - offset) / step + 1e-6) * step + offset
    if math.isfinite(enough):
        enough = math.ceil((enough - offset) / step - 1e-6) * step + offset
    hi = min(max(enough, lo), most)
    return (lo, hi) if lo <= hi * within and hi > 0 else None


def _enough(c: Candidate, most: float) -> float:
    """An x beyond which nothing more is gained."""
    enough, knots = c.curve.saturated, c.curve.knots()
    if knots is not None:  # the best x may not be allowed (a minimum, whole units); a lesser peak may stand beyond it
        return max(c.minimum, float(knots[0][-1]))
    if math.isinf(enough) and math.isinf(most) and isinstance(c.curve, Hill):
        return c.curve.half * float(1e12 ** (1.0 / c.curve.shape))  # nothing ends it: at the top, to float precision
    return enough


def cut_into_pieces(
    build: Builder,
    owner: int,
    c: Candidate,
    budget: float,
    hours: float,
    unit: float | None,
    *,
    keep: bool = False,
) -> None:
    """Add the pieces of one free candidate: what it may do within its own limits and the whole budget.

    ``keep`` leaves parts in that bring no more than a smaller x: some limit may ask for them.
    """
    if unit is not None and c.cost == 0 and c.fixed_cost > 0:  # a price that is paid whole
        c = replace(c, fixed_cost=math.ceil(c.fixed_cost / unit - 1e-6) * unit)
    curve = c.curve
    nothing = float(curve(0.0))
    ends = limits(c, budget, hours, unit, keep=keep)
    if c.is_out or ends is None:
        build.add_points(owner, c, [0.0], [nothing], unit)
        return
    lo, hi = ends[0], max(ends)
    if c.unit is not None and (hi - lo) / c.unit <= MOST_UNITS:
        first, last = round(lo / c.unit), round(hi / c.unit)
        xs = c.unit * np.arange(max(first, 1), last + 1, dtype=np.float64)
        _add_record_points(build, owner, c, xs, unit, keep)
    elif isinstance(curve, Step):
        at = curve.knots()[0]
        reached = at[(at > lo) & (at <= hi * (1 + TOLERANCE))]
        xs = np.asarray([*([lo] if lo > 0 else []), *np.minimum(reached, hi).tolist()], dtype=np.float64)
        _add_record_points(build, owner, c, xs, unit, keep)
    elif lo == hi:
        _add_record_points(build, owner, c, np.array([lo]), unit, keep)
    elif unit is not None and c.cost > 0 and budget / unit <= COARSE:
        first = math.ceil((c.fixed_cost + c.cost * lo) / unit - 1e-6)
        last = math.floor((c.fixed_cost + c.cost * hi) / unit + 1e-6)
        xs = (np.arange(first, last + 1, dtype=np.float64) * unit - c.fixed_cost) / c.cost
        _add_record_points(build, owner, c, np.minimum(xs[xs > 0], hi), unit, keep)
    elif isinstance(curve, Hill | Logistic):
        _add_smooth_pieces(build, owner, c, curve, lo, hi, unit)
    else:
        _add_runs(build, owner, c, lo, hi, unit, keep)


def _add_smooth_pieces(
    build: Builder, owner: int, c: Candidate, curve: Hill | Logistic, lo: float, hi: float, unit: float | None
) -> None:
    """Nothing (where using it costs something fixed or has a minimum), the convex part in short pieces, the rest."""
    if lo > 0 or c.fixed_cost > 0 or c.fixed_hours > 0:
        build.add_points(owner, c, [0.0], [float(curve(0.0))], unit)
    bend = min(max(curve.inflection, lo), hi)
    if bend > lo:
        grid = np.linspace(lo, bend, build.convex_pieces + 1)
        rs = np.asarray(curve(grid)).tolist()
        for k in range(build.convex_pieces):
            build.add_knots(owner, c, grid[k : k + 2].tolist(), rs[k : k + 2], unit)
    if hi > bend:
        build.add_smooth(owner, c, curve, bend, hi)


def _add_record_points(build: Builder, owner: int, c: Candidate, xs: Floats, unit: float | None, keep: bool) -> None:
    """Nothing, and every point that brings more than all smaller ones; every point at all where they are kept."""
    nothing = float(c.curve(0.0))
    rs = np.asarray(c.curve(xs), dtype=np.float64)
    record = keep | (rs > np.maximum.accumulate(np.concatenate(([nothing], rs)))[:-1])
    build.add_points(owner, c, [0.0, *xs[record].tolist()], [nothing, *rs[record].tolist()], unit)


def _knots_between(c: Candidate, lo: float, hi: float, unit: float | None) -> tuple[list[float], list[float]]:
    """The corners of a piecewise-linear curve on [lo, hi]; with a unit of money, the payable amounts around them."""
    knots = c.curve.knots()
    if knots is None:
        name = type(c.curve).__name__
        raise TypeError(f"{name}: the allocator knows no exact maximum of this curve; give it knots()")
    xs = knots[0]
    inside = xs[(xs > lo) & (xs < hi)]
    if unit is not None and c.cost > 0:
        count = (c.fixed_cost + c.cost * inside) / unit
        payable = np.concatenate((np.floor(count + 1e-9), np.ceil(count - 1e-9))) * unit
        around = np.sort((payable - c.fixed_cost) / c.cost)
        inside = around[(around > lo) & (around < hi) & (np.diff(around, prepend=-np.inf) > 0)]
    inside = np.concatenate(([lo], inside, [hi]))
    return inside.tolist(), np.asarray(c.curve(inside), dtype=np.float64).tolist()


def _add_runs(build: Builder, owner: int, c: Candidate, lo: float, hi: float, unit: float | None, keep: bool) -> None:
    """Piecewise-linear curves: one piece per concave run of segments, without parts that bring no more than less x."""
    xs, rs = _knots_between(c, lo, hi, unit)
    nothing = float(c.curve(0.0))
    starts_free = lo == 0 and c.fixed_cost == 0 and c.fixed_hours == 0
    record = nothing
    runs: list[tuple[list[float], list[float]]] = []
    if not starts_free and (rs[0] > record or keep):
        runs.append(([xs[0]], [rs[0]]))
        record = rs[0]
    last_slope = math.inf
    connected = bool(runs) or starts_free
    if starts_free:
        runs.append(([0.0], [nothing]))
    for x1, x2, r1, r2 in zip(xs, xs[1:], rs, rs[1:], strict=False):
        if r2 <= record and not keep:
            connected = False
            continue
        slope = (r2 - r1) / (x2 - x1)
        begin, value = (x1, r1) if r1 >= record or keep else (x1 + (record - r1) / slope, record)
        if not connected or slope > last_slope or begin > x1:
            runs.append(([begin], [value]))
        runs[-1][0].append(x2)
        runs[-1][1].append(r2)
        record, last_slope, connected = r2, slope, True
    if not starts_free:
        build.add_points(owner, c, [0.0], [nothing], unit)
    for run_x, run_r in runs:
        build.add_knots(owner, c, run_x, run_r, unit)


#: Attributes of :class:`Pieces` with one value per piece.
_PER_PIECE = (
    "fixed_money", "fixed_hours", "cost", "hours", "start_x", "start_money", "start_hours", "start_response",
    "is_point",
)  # fmt: skip


class Pieces:
    """All pieces as arrays, sorted by owner and x. Money, hours and response are in the solver's scaled units.

    Attributes:
        owner: candidate of each piece, shape (Q,).
        first: the first piece of each candidate, shape (n,); ``last`` its last one.
        start_money, start_hours: what a piece costs at its left end, shape (Q,).
    """

    def __init__(self, build: Builder, money_scale: float, hours_scale: float, response_scale: float) -> None:
        self.owner: Ints = np.asarray(build.owner, dtype=np.intp)
        self.count = int(self.owner[-1]) + 1 if self.owner.size else 0
        self.first: Ints = np.searchsorted(self.owner, np.arange(self.count))
        self.last: Ints = np.append(self.first[1:], self.owner.size) - 1
        fixed = np.asarray(build.fixed).reshape(-1, 2)
        rates = np.asarray(build.rates).reshape(-1, 2)
        self.fixed_money, self.fixed_hours = fixed[:, 0] / money_scale, fixed[:, 1] / hours_scale
        self.cost, self.hours = rates[:, 0] / money_scale, rates[:, 1] / hours_scale
        start = np.asarray(build.start).reshape(-1, 4)
        self.start_x, self.start_money = start[:, 0], start[:, 1] / money_scale
        self.start_hours, self.start_response = start[:, 2] / hours_scale, start[:, 3] / response_scale
        self.knot_rows: Ints = np.asarray([k[0] for k in build.knots], dtype=np.intp)
        lengths = np.asarray([len(k[1]) for k in build.knots], dtype=np.intp)
        self.knot_first: Ints = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.intp)
        self.knot_of: Ints = np.repeat(np.arange(lengths.size), lengths)
        self.knot_x = np.asarray([x for k in build.knots for x in k[1]], dtype=np.float64)
        self.knot_r = np.asarray([r for k in build.knots for r in k[2]], dtype=np.float64) / response_scale
        self.knot_m = np.asarray([m for k in build.knots for m in k[3]], dtype=np.float64) / money_scale
        self.knot_h = np.asarray([h for k in build.knots for h in k[4]], dtype=np.float64) / hours_scale
        self.is_point = np.zeros(self.owner.size, dtype=bool)
        self.is_point[self.knot_rows[lengths == 1]] = True
        # Hill curves of shape 1 first, then the other Hill curves, then Logistic ones (marked by shape 0)
        rows = sorted(build.smooth, key=lambda s: (s.shape != 1.0, s.shape == 0.0))
        self.smooth_rows: Ints = np.asarray([s.row for s in rows], dtype=np.intp)
        self.a = np.asarray([s.a for s in rows], dtype=np.float64)
        self.b = np.asarray([s.b for s in rows], dtype=np.float64)
        self.top = np.asarray([s.top for s in rows], dtype=np.float64) / response_scale
        self.half = np.asarray([s.half for s in rows], dtype=np.float64)
        self.shape = np.asarray([s.shape for s in rows], dtype=np.float64)
        self._prepare()

    def _prepare(self) -> None:
        """Constants of the inverse slopes."""
        self.plain = p = int((self.shape == 1.0).sum())
        self.hills = h = int((self.shape > 0.0).sum())
        shape = self.shape[p:h]
        self._top, self._half, self._shape = self.top[p:h, None], self.half[p:h, None], shape[:, None]
        self._slope_unit = np.log(self._top * self._shape / self._half) if h > p else np.zeros((0, 1))
        self._tilt = (self._shape - 1.0) / self._shape
        self._peak = np.full((h - p, 1), -np.inf)  # v of the inflection, for S-shaped ones
        bent = shape > 1.0
        self._peak[bent, 0] = np.log((shape[bent] - 1.0) / (shape[bent] + 1.0))
        self._rate = math.log(3.0) / self.half[h:, None]
        self._smooth_cost = self.cost[self.smooth_rows, None]
        self._smooth_hours = self.hours[self.smooth_rows, None]
        self._smooth_fixed_m = self.fixed_money[self.smooth_rows, None]
        self._smooth_fixed_h = self.fixed_hours[self.smooth_rows, None]

    def take(self, rows: Ints) -> Pieces:
        """The sub-problem made of these rows only, one per candidate (``rows[i]`` belongs to candidate i)."""
        sub = object.__new__(Pieces)
        sub.owner = np.arange(rows.size)
        sub.count = rows.size
        sub.first = sub.last = sub.owner
        for name in _PER_PIECE:
            setattr(sub, name, getattr(self, name)[rows])
        new_row = np.full(self.owner.size, -1, dtype=np.intp)
        new_row[rows] = sub.owner
        kept = new_row[self.knot_rows] >= 0
        knots = kept[self.knot_of]
        sub.knot_rows = new_row[self.knot_rows[kept]]
        lengths = np.bincount(self.knot_of[knots], minlength=self.knot_rows.size)[kept]
        sub.knot_first = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.intp)
        sub.knot_of = np.repeat(np.arange(lengths.size), lengths)
        for name in ("knot_x", "knot_r", "knot_m", "knot_h"):
            setattr(sub, name, getattr(self, name)[knots])
        keep = new_row[self.smooth_rows] >= 0
        sub.smooth_rows = new_row[self.smooth_rows[keep]]
        for name in ("a", "b", "top", "half", "shape"):
            setattr(sub, name, getattr(self, name)[keep])
        sub._prepare()
        return sub

    def best(
        self, lam: Floats, mu: Floats, factor: Floats | None = None
    ) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Exact best response of every piece to K price pairs.

        Args:
            lam, mu: prices of money and hours, shape (K,), or (Q, K) where they differ between pieces.
            factor: what a unit of each piece's response is worth, > 0, shape (Q, K); ``None``: 1.

        Returns:
            value, x, money, hours, response: each of shape (Q, K). The smallest maximiser is taken where there are
            several.
        """

        def at(prices: Floats, rows: Ints) -> Floats:
            return prices if prices.ndim == 1 else prices[rows]

        q, k = self.owner.size, lam.shape[-1]
        value, x, money, hours, response = (np.empty((q, k)) for _ in range(5))
        if self.knot_rows.size:
            of = self.knot_rows[self.knot_of]
            worth = self.knot_r[:, None] if factor is None else self.knot_r[:, None] * factor[of]
            score = worth - self.knot_m[:, None] * at(lam, of) - self.knot_h[:, None] * at(mu, of)
            if self.knot_of.size == self.knot_rows.size:  # points only
                pick: Ints = np.broadcast_to(np.arange(self.knot_of.size)[:, None], score.shape)
                top = score
            else:
                top = np.maximum.reduceat(score, self.knot_first, axis=0)
                index = np.where(score >= top[self.knot_of], np.arange(self.knot_of.size)[:, None], self.knot_of.size)
                pick = np.minimum.reduceat(index, self.knot_first, axis=0)
            value[self.knot_rows] = top
            x[self.knot_rows] = self.knot_x[pick]
            money[self.knot_rows] = self.knot_m[pick]
            hours[self.knot_rows] = self.knot_h[pick]
            response[self.knot_rows] = self.knot_r[pick]
        if self.smooth_rows.size:
            rows = self.smooth_rows
            lam_at, mu_at = at(lam, rows), at(mu, rows)
            price = np.maximum(self._smooth_cost * lam_at + self._smooth_hours * mu_at, 0.0)
            if factor is not None:
                price = price / factor[rows]
            p, h = self.plain, self.hills
            xs, rs, residual = np.empty_like(price), np.empty_like(price), np.zeros_like(price)
            if p:
                xs[:p], rs[:p] = self._plain(price[:p])
            if h > p:
                xs[p:h], rs[p:h], residual[p:h] = self._hill(price[p:h])
            if h < self.smooth_rows.size:
                xs[h:], rs[h:] = self._logistic(price[h:])
            cost = self._smooth_fixed_m + self._smooth_cost * xs
            effort = self._smooth_fixed_h + self._smooth_hours * xs
            brought = rs + residual if factor is None else (rs + residual) * factor[rows]
            value[rows] = brought - cost * lam_at - effort * mu_at
            x[rows], money[rows], hours[rows], response[rows] = xs, cost, effort, rs
        return value, x, money, hours, response

    def _plain(self, price: Floats) -> tuple[Floats, Floats]:
        """Hill curves of shape 1: top·half/(half + x)² = price has a closed form."""
        p = self.plain
        top, half = self.top[:p, None], self.half[:p, None]
        with np.errstate(divide="ignore"):
            x = np.sqrt(top * half / price) - half
        x = np.clip(x, self.a[:p, None], self.b[:p, None])
        return x, top * x / (half + x)

    def _hill(self, price: Floats) -> tuple[Floats, Floats, Floats]:
        """x, response and what is left of the residual, for the other Hill curves, at unit prices of shape (…, K)."""
        a, b = self.a[self.plain : self.hills, None], self.b[self.plain : self.hills, None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            q = np.log(price) - self._slope_unit
            # two starts: where the asymptotes tilt·v − 2·max(v, 0), never below the left side, meet q (right of the
            # root), and where −2·ln(1+eᵛ) alone does (near it for shapes near 1); the nearer one is taken
            v = np.where(q > 0, np.where(self._tilt < 0, q / self._tilt, 0.0), -q * self._shape / (self._shape + 1.0))
            plain = np.log(np.expm1(np.maximum(-0.5 * q, 1e-300)))
            lowest = np.maximum(self._peak, -700.0)
            v, plain = np.clip(v, lowest, 700.0), np.clip(plain, lowest, 700.0)
            v = np.where(np.abs(self._side(plain) - q) < np.abs(self._side(v) - q), plain, v)
            for _ in range(_NEWTON):
                softplus = np.logaddexp(0.0, v)
                sigma = np.exp(v - softplus)
                falling = np.minimum(self._tilt - 2.0 * sigma, -1e-12)
                step = (self._tilt * v - 2.0 * softplus - q) / falling
                moved = np.clip(v - step, lowest, 700.0)
                done = not (np.abs(moved - v) > 1e-9).any()
                v = moved
                if done:
                    break
            x = self._half * np.exp(v / self._shape)
            x = np.where(price > 0, x, np.inf)
            x = np.clip(np.where(np.isnan(x), a, x), a, b)
            u = (self._half / x) ** self._shape
            r = self._top / (1.0 + u)
            slope = np.where(x > 0, self._top * self._shape * u / (x * (1.0 + u) ** 2), price)
            slope = np.where(np.isfinite(slope), slope, price)
        # concave on [a, b]: the maximum is at most what the tangent at x promises at either end
        residual = np.maximum((price - slope) * (x - a), (slope - price) * (b - x))
        residual = np.where((x > a) & (x < b), np.maximum(residual, 0.0), 0.0)
        residual = np.where(residual < 1e-12 * self._top, 0.0, residual)
        return x, r, residual

    def _side(self, v: Floats) -> Floats:
        return np.asarray(self._tilt * v - 2.0 * np.logaddexp(0.0, v))

    def _logistic(self, price: Floats) -> tuple[Floats, Floats]:
        top, rate = self.top[self.hills :, None], self._rate
        a, b = self.a[self.hills :, None], self.b[self.hills :, None]
        with np.errstate(divide="ignore"):
            y = np.sqrt(np.maximum(1.0 - 2.0 * price / (top * rate), 0.0))
            x = np.clip(2.0 / rate * np.arctanh(y), a, b)
        return x, top * np.tanh(0.5 * rate * x)


@dataclass(frozen=True, slots=True)
class Model:
    """The minimum of a set of cuts over the box: where, how low, and the convex weights of the cuts that hold it."""

    lam: float
    mu: float
    value: float
    columns: Ints
    weights: Floats
    basis: tuple[int, int, int]


#: Sides of the box as constraints: λ >= 0, λ <= box₀, μ >= 0, μ <= box₁, numbered −1 … −4.
_SIDES = ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))
_PIVOTS = 60


def lowest_point(
    value: Floats,
    slack_m: Floats,
    slack_h: Floats,
    lam: Floats,
    mu: Floats,
    box: tuple[float, float],
    start: tuple[int, int, int] | None = None,
) -> Model | None:
    """Minimum over [0, box₀] × [0, box₁] of max over k of value_k + slack_k·((λ, μ) − (λ_k, μ_k)).

    A linear program in (λ, μ, z), solved by the simplex method on its dual: three constraints hold the point, the one
    most violated there takes the place of the one whose weight vanishes first, until none is violated. The prices of
    the three are the convex weights. ``start`` may be the basis of a model of the same cuts before more were added.
    ``None`` where no value is finite.
    """
    finite = np.isfinite(value)
    if not finite.any():
        return None
    base = np.where(finite, value - slack_m * lam - slack_h * mu, -np.inf)
    scale = float(np.abs(value[finite]).max()) or 1.0
    tolerance = 1e-11 * scale
    basis = list(start) if start is not None else []
    inverse = _inverse(basis, slack_m, slack_h) if start is not None else None
    if inverse is None:
        basis, inverse = _first_basis(int(np.argmin(np.where(finite, value, np.inf))), slack_m, slack_h)
    limits = (0.0, -box[0], 0.0, -box[1])
    at_m = at_h = z = 0.0
    for _ in range(_PIVOTS):
        c0, c1, c2 = (float(base[j]) if j >= 0 else limits[-1 - j] for j in basis)
        (a0, a1, a2), (b0, b1, b2), (d0, d1, d2) = inverse
        at_m, at_h = c0 * a0 + c1 * b0 + c2 * d0, c0 * a1 + c1 * b1 + c2 * d1
        z = c0 * a2 + c1 * b2 + c2 * d2
        enter = _violated(at_m, at_h, box)
        if enter is None:
            heights = base + slack_m * at_m + slack_h * at_h
            enter = int(heights.argmax())
            if heights[enter] <= z + tolerance or enter in basis:
                break
            u, v, w = -float(slack_m[enter]), -float(slack_h[enter]), 1.0
        else:
            u, v = _SIDES[-1 - enter]
            w = 0.0
        direction = (a0 * u + a1 * v + a2 * w, b0 * u + b1 * v + b2 * w, d0 * u + d1 * v + d2 * w)
        ratios = [(max(inverse[r][2], 0.0) / direction[r], r) for r in (0, 1, 2) if direction[r] > 1e-13]
        if not ratios:
            break
        leave = min(ratios)[1]
        p0, p1, p2 = inverse[leave]
        share = 1.0 / direction[leave]
        p0, p1, p2 = p0 * share, p1 * share, p2 * share
        for r in (0, 1, 2):
            if r != leave:
                x0, x1, x2 = inverse[r]
                k = direction[r]
                inverse[r] = (x0 - k * p0, x1 - k * p1, x2 - k * p2)
        inverse[leave] = (p0, p1, p2)
        basis[leave] = enter
    weights = np.array([max(inverse[r][2], 0.0) for r in range(3) if basis[r] >= 0])
    columns = np.array([j for j in basis if j >= 0], dtype=np.intp)
    total = float(weights.sum())
    weights = weights / total if total > 0 else np.full(weights.size, 1.0 / weights.size)
    point = min(max(at_m, 0.0), box[0]), min(max(at_h, 0.0), box[1])
    return Model(*point, z, columns, weights, (basis[0], basis[1], basis[2]))


def _first_basis(k: int, slack_m: Floats, slack_h: Floats) -> tuple[list[int], list[_Triple]]:
    """One cut and, in each direction, the side of the box it falls towards; with the inverse of their columns.

    Columns are (−slack, 1) for a cut and (±1, 0, 0) or (0, ±1, 0) for a side.
    """
    side_m, side_h = (-1 if slack_m[k] >= 0 else -2), (-3 if slack_h[k] >= 0 else -4)
    sign_m, sign_h = _SIDES[-1 - side_m][0], _SIDES[-1 - side_h][1]
    inverse = [
        (0.0, 0.0, 1.0),
        (sign_m, 0.0, sign_m * float(slack_m[k])),
        (0.0, sign_h, sign_h * float(slack_h[k])),
    ]
    return [k, side_m, side_h], inverse


def _inverse(basis: list[int], slack_m: Floats, slack_h: Floats) -> list[_Triple] | None:
    """The inverse of a basis' columns; ``None`` where they are dependent or a weight would be negative."""
    a, b, c = ((-float(slack_m[j]), -float(slack_h[j]), 1.0) if j >= 0 else (*_SIDES[-1 - j], 0.0) for j in basis)
    rows = [_cross(b, c), _cross(c, a), _cross(a, b)]
    det = sum(x * y for x, y in zip(a, rows[0], strict=True))
    if abs(det) < 1e-13:
        return None
    inverse = [(row[0] / det, row[1] / det, row[2] / det) for row in rows]
    return inverse if min(row[2] for row in inverse) >= -1e-12 else None


def _cross(u: _Triple, v: _Triple) -> _Triple:
    return u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]


def _violated(at_m: float, at_h: float, box: tuple[float, float]) -> int | None:
    """The side of the box that a point lies beyond."""
    sides = ((-1, -at_m, box[0]), (-2, at_m - box[0], box[0]), (-3, -at_h, box[1]), (-4, at_h - box[1], box[1]))
    for side, excess, size in sides:
        if excess > 1e-12 + 1e-12 * size:
            return side
    return None


class Pool:
    """Every multiplier pair looked at, with the exact best response of every piece to it.

    Attributes:
        lam, mu: the K columns, shape (K,).
        value, money, hours: shape (Q, K); x likewise.
        root_value, root_money, root_hours: the best piece of each candidate, shape (n, K); root_row which piece.
        total: D at each column, shape (K,); total_money, total_hours: what the best responses leave of either resource.
    """

    def __init__(self, pieces: Pieces, budget: float, hours: float, money_worth: float, hours_worth: float) -> None:
        self.pieces = pieces
        self.budget, self.available = budget, hours  # hours = 0 with every mu = 0 where hours do not matter
        self.money_worth, self.hours_worth = money_worth, hours_worth
        q, n = pieces.owner.size, pieces.count
        self.lam, self.mu = np.empty(0), np.empty(0)
        self.value = self.x = self.money = self.hours = np.empty((q, 0))
        self.root_value = self.root_money = self.root_hours = np.empty((n, 0))
        self.root_row: Ints = np.empty((n, 0), dtype=np.intp)
        self.dead = np.zeros(q, dtype=bool)
        self.generation = 0  # counts burials: values computed before the last one are out of date
        self.total = self.total_money = self.total_hours = np.empty(0)

    @property
    def size(self) -> int:
        return int(self.lam.size)

    def add(self, lam: Floats, mu: Floats) -> None:
        """Evaluate new columns."""
        p = self.pieces
        value, x, money, hours, _ = p.best(lam + self.money_worth, mu + self.hours_worth)
        value[self.dead] = -np.inf
        root_value, root_row = self._root(value)
        columns = np.arange(lam.size)
        self.lam, self.mu = np.concatenate((self.lam, lam)), np.concatenate((self.mu, mu))
        self.value = np.hstack((self.value, value))
        self.x = np.hstack((self.x, x))
        self.money = np.hstack((self.money, money))
        self.hours = np.hstack((self.hours, hours))
        self.root_value = np.hstack((self.root_value, root_value))
        self.root_row = np.hstack((self.root_row, root_row))
        self.root_money = np.hstack((self.root_money, money[root_row, columns]))
        self.root_hours = np.hstack((self.root_hours, hours[root_row, columns]))
        self._sum()

    def _root(self, value: Floats) -> tuple[Floats, Ints]:
        p = self.pieces
        best = np.maximum.reduceat(value, p.first, axis=0)
        index = np.where(value >= best[p.owner], np.arange(p.owner.size)[:, None], p.owner.size)
        return best, np.minimum.reduceat(index, p.first, axis=0)

    def bury(self, rows: NDArray[np.bool_]) -> None:
        """Take pieces out for good."""
        self.dead |= rows
        self.generation += 1
        self.value[self.dead] = -np.inf
        self.root_value, self.root_row = self._root(self.value)
        columns = np.arange(self.size)
        self.root_money = self.money[self.root_row, columns]
        self.root_hours = self.hours[self.root_row, columns]
        self._sum()

    def _sum(self) -> None:
        self.paid = self.lam * self.budget + self.mu * self.available
        self.total = self.root_value.sum(axis=0) + self.paid
        self.total_money = self.budget - self.root_money.sum(axis=0)
        self.total_hours = self.available - self.root_hours.sum(axis=0)


class Bounded(Protocol):
    """Columns that bound every piece: :class:`Pool`, and those of coupled problems."""

    total: Floats
    root_value: Floats
    value: Floats
    dead: NDArray[np.bool_]

    def bury(self, rows: NDArray[np.bool_]) -> None:
        """Take pieces out for good."""


def bury_hopeless(pool: Bounded, owner: Ints, cutoff: float) -> float:
    """Take out the pieces that no portfolio above ``cutoff`` contains.

    Args:
        owner: the candidate of each piece, shape (Q,).

    Returns:
        What none of the portfolios that are lost with them exceeds; -inf where there are none.
    """
    with np.errstate(invalid="ignore"):
        without = pool.total - pool.root_value
        bound = (without[owner] + pool.value).min(axis=1)
    bound[np.isnan(bound)] = -np.inf
    hopeless = (bound <= cutoff) & ~pool.dead
    if not hopeless.any():
        return -math.inf
    lost = float(bound[hopeless].max())
    pool.bury(hopeless)
    return lost
