"""Exact search where candidates depend on one another: shared audiences, shares of what others bring, group limits.

The separable search of :mod:`turnout.allocation.solver` with more prices. Beside λ for money and μ for hours, every
group limit has one, and so has every audience: with fresh registrations of audience g priced at ν_g, the concave
N(1 − e^(−q/N)) is at most its tangent N(1 − ν + ν ln ν) + ν·q, so that with wₜg the candidates' reach

    D(λ, ν) = Σ_g [N_g (1 − ν_g + ν_g ln ν_g) + ν_g o_g] + organic + Σ_k λ_k·limit_k
              + Σₜ max over x of [(1 − Σ_g wₜg (1 − ν_g)) · aₜ(x) − Σ_k λ_k · use_k(x)]

bounds every portfolio for every ν in (0, 1] and λ >= 0: once more one exact maximum per candidate. Where some feed
on the others, total = base · Π(1 + s_d), the bound is that of log total = log base + Σ log(1 + s_d): the logarithm has
tangents above it, too (price ρ), and the shares' logarithms are replaced by piecewise-linear curves that are nowhere
below them. Where money is worth something besides, total = e^(log total) is replaced by chords over ranges of the total
so short that they are off by less than the gap asked for.

D is convex in all prices together; cutting planes with as many dimensions as there are prices find its minimum. A
choice of pieces is completed by the same cutting planes over these pieces alone: the mix of their best responses that
holds the minimum satisfies every limit, and since all pieces are concave it brings at least what the mix promises.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from turnout.allocation.bounds import Builder, Floats, Ints, Pieces, bury_hopeless, cut_into_pieces, limits
from turnout.allocation.overlap import reach_matrix
from turnout.allocation.problem import TOLERANCE, Audience, Candidate, Problem
from turnout.curves import CappedLinear, Curve, Hill, Logistic, Step, Tabulated

_ROOT_ROUNDS, _NODE_ROUNDS, _POLISH_ROUNDS, _LAST_ROUNDS = 40, 8, 12, 30
_PIVOTS = 80
#: Points of a feeding candidate's curve where its logarithm's outline is exact.
_OUTLINE = 24


# --- the outline of log(1 + share) ----------------------------------------------------------------------------------


def log_outline(curve: Curve, most: float) -> Curve:
    """A piecewise curve nowhere below log(1 + curve) on [0, most], and equal to it at its main points."""
    if isinstance(curve, Step):
        return Step(curve.at, tuple(np.log1p(np.asarray(curve.levels, dtype=np.float64)).tolist()))
    knots = curve.knots()
    if knots is None:
        knots = _outline(curve, most if math.isfinite(most) else curve.saturated)
    xs, ys = _refined(*knots)
    out_x, out_y = [float(xs[0])], [math.log1p(float(ys[0]))]
    for x1, x2, y1, y2 in zip(xs[:-1], xs[1:], ys[:-1], ys[1:], strict=True):
        l1, l2 = math.log1p(float(y1)), math.log1p(float(y2))
        slope = (y2 - y1) / (x2 - x1)
        # log of a straight line is concave: its tangents at both ends meet above it
        s1, s2 = slope / (1 + y1), slope / (1 + y2)
        if abs(s1 - s2) > 1e-9 * max(abs(s1), abs(s2)):
            meet = float((l2 - l1 + s1 * x1 - s2 * x2) / (s1 - s2))
            if x1 < meet < x2:
                out_x.append(meet)
                out_y.append(float(l1 + s1 * (meet - x1)))
        out_x.append(float(x2))
        out_y.append(l2)
    if len(out_x) == 1:
        return CappedLinear(0.0, 0.0)
    return Tabulated(tuple(out_x), tuple(out_y))


def _refined(xs: Floats, ys: Floats) -> tuple[Floats, Floats]:
    """Straight lines with further points where they rise or fall by more than a hundredth."""
    parts = [(xs[:1], ys[:1])]
    for x1, x2, y1, y2 in zip(xs[:-1], xs[1:], ys[:-1], ys[1:], strict=True):
        steps = np.linspace(0.0, 1.0, 1 + max(1, min(math.ceil(abs(y2 - y1) / 0.01), 100)))[1:]
        parts.append((x1 + (x2 - x1) * steps, y1 + (y2 - y1) * steps))
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def _outline(curve: Curve, most: float) -> tuple[Floats, Floats]:
    """Knots nowhere below a smooth curve: chords of its convex part, tangents of its concave one."""
    bend = min(curve.inflection, most)
    xs: list[float] = [0.0]
    ys: list[float] = [float(curve(0.0))]
    if bend > 0:
        grid = np.linspace(0.0, bend, _OUTLINE)[1:]
        xs += grid.tolist()
        ys += np.asarray(curve(grid)).tolist()
    if most > bend:
        scale = min(bend if bend > 0 else getattr(curve, "half", most), most - bend)
        reach = math.log1p((most - bend) / (0.2 * scale))
        grid = bend + 0.2 * scale * np.expm1(reach * np.linspace(0.0, 1.0, 3 * _OUTLINE))
        grid[-1] = most
        if math.isinf(float(curve.slope(0.0))):
            grid = np.concatenate((np.geomspace(1e-13 * most, grid[1], _OUTLINE), grid[2:]))
        at, slopes = np.asarray(curve(grid)), np.asarray(curve.slope(grid))
        if grid[0] > bend:
            xs.append(float(grid[0]))
            ys.append(float(at[0]))
        for k in range(grid.size - 1):
            fall = float(slopes[k] - slopes[k + 1])
            if fall > 1e-12 * float(slopes[k]):
                rise = at[k + 1] - at[k] + slopes[k] * grid[k] - slopes[k + 1] * grid[k + 1]
                meet = float(rise / fall)
                if grid[k] < meet < grid[k + 1]:
                    xs.append(meet)
                    ys.append(float(at[k] + slopes[k] * (meet - grid[k])))
            xs.append(float(grid[k + 1]))
            ys.append(float(at[k + 1]))
    kept = [0, *(k for k in range(1, len(xs)) if xs[k] > xs[k - 1])]
    return np.asarray(xs)[kept], np.asarray(ys)[kept]


# --- what is maximised ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Resource:
    """Something of which there is only so much: Σ money·moneyᵢ + hours·hoursᵢ + used·[xᵢ > 0] <= limit."""

    name: str
    limit: float
    money: Floats
    hours: Floats
    used: Floats


@dataclass(slots=True)
class Together:
    """The response of a whole portfolio, in scaled units.

    Attributes:
        reach: shape (n, G); apart: what of each overlaps with nobody, shape (n,); 0 for those of others.
        feeds: which ones feed on the others.
        size, others: per audience, finite, shape (G,). organic: what comes by itself.
        factor: what locked feeding ones multiply the base by.
    """

    reach: Floats
    apart: Floats
    feeds: np.ndarray
    size: Floats
    others: Floats
    organic: float
    factor: float

    def base(self, alone: Floats) -> tuple[float, Floats]:
        """The base and how fresh each audience still is."""
        filled = (self.others + np.where(self.feeds, 0.0, alone) @ self.reach) / self.size
        return float(-(self.size * np.expm1(-filled)).sum() + alone @ self.apart + self.organic), np.exp(-filled)

    def total(self, alone: Floats) -> float:
        """``alone`` holds the shares of those that feed on the others."""
        shares = float(np.log1p(alone[self.feeds]).sum()) if self.feeds.any() else 0.0
        return self.base(alone)[0] * self.factor * math.exp(shares)


@dataclass(slots=True)
class Scale:
    """How the search counts: u = tilt · log(total) + offset − cost where some feed on others, else total − cost.

    ``is_log``: the cost is 0 and u is the logarithm itself, so that its bound is one of the total.
    """

    tilt: float = 0.0
    offset: float = 0.0
    is_log: bool = False

    @classmethod
    def chord(cls, low: float, high: float) -> Scale:
        """e^v lies below its chord between log low and log high."""
        tilt = (high - low) / math.log(high / low)
        return cls(tilt, low - tilt * math.log(low))


# --- cutting planes -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Lowest:
    """The minimum of a set of cuts over a box, and the convex weights of the cuts that hold it."""

    point: Floats
    value: float
    columns: Ints
    weights: Floats
    basis: list[int]


def lowest_point(
    value: Floats,
    slack: Floats,
    points: Floats,
    box: tuple[Floats, Floats],
    start: list[int] | None = None,
) -> Lowest | None:
    """Minimum over a box of max over k of value_k + slack_k · (p − points_k): the simplex method on the dual.

    Args:
        value: shape (K,); −inf where a cut says that nothing is possible.
        slack, points: shape (D, K).
        box: lower and upper ends, shape (D,) each.
        start: the basis of an earlier model of the same cuts; cuts are numbered from 0, sides −1 − j (lower) and
            −1 − D − j (upper).
    """
    finite = np.isfinite(value)
    if not finite.any():
        return None
    d = slack.shape[0]
    if d == 0:  # nothing has a price
        k = int(np.argmin(np.where(finite, value, np.inf)))
        return Lowest(np.empty(0), float(value[k]), np.array([k]), np.ones(1), [k])
    base = np.where(finite, value - (slack * points).sum(axis=0), -np.inf)
    tolerance = 1e-11 * (float(np.abs(value[finite]).max()) or 1.0)
    basis = list(start) if start is not None else []
    inverse = _inverse(basis, slack) if basis else None
    if inverse is None:
        basis, inverse = _first_basis(int(np.argmin(np.where(finite, value, np.inf))), slack)
    normal, bound, forgiven = _constraints(base, slack, box, tolerance)
    k = value.size
    active = [j if j >= 0 else k - 1 - j for j in basis]
    right = bound[active]
    solution = np.zeros(d + 1)
    for _ in range(_PIVOTS):
        solution = right @ inverse
        violated = forgiven - solution @ normal
        enter = int(violated.argmax())
        if violated[enter] <= 0.0 or enter in active:
            break
        direction = inverse @ normal[:, enter]
        leave, least = -1, math.inf
        for r, (step, weight) in enumerate(zip(direction.tolist(), inverse[:, d].tolist(), strict=True)):
            if step > 1e-13 and max(weight, 0.0) < least * step:
                leave, least = r, max(weight, 0.0) / step
        if leave < 0:
            break
        row = inverse[leave] / direction[leave]
        direction[leave] = 0.0
        inverse -= direction[:, None] * row
        inverse[leave] = row
        active[leave] = enter
        right[leave] = bound[enter]
    basis = [j if j < k else k - 1 - j for j in active]
    point, z = solution[:d], float(solution[d])
    held = [r for r in range(d + 1) if basis[r] >= 0]
    weights = np.maximum(inverse[held, d], 0.0)
    total = float(weights.sum())
    weights = weights / total if total > 0 else np.full(len(held), 1.0 / max(len(held), 1))
    columns = np.array([basis[r] for r in held], dtype=np.intp)
    return Lowest(np.clip(point, *box), z, columns, weights, basis)


def _constraints(
    base: Floats, slack: Floats, box: tuple[Floats, Floats], tolerance: float
) -> tuple[Floats, Floats, Floats]:
    """Cuts, lower and upper sides as bound <= normal · (p, z): normals by column, bounds, and bounds with tolerance."""
    d, k = slack.shape
    low, high = box
    normal = np.zeros((d + 1, k + 2 * d))
    normal[:d, :k] = -slack
    normal[d, :k] = 1.0
    each = np.arange(d)
    normal[each, k + each] = 1.0
    normal[each, k + d + each] = -1.0
    bound = np.concatenate((base, low, -high))
    forgiven = bound.copy()
    forgiven[:k] -= tolerance
    forgiven[k:] -= np.tile(1e-12 * (1.0 + np.abs(high) + np.abs(low)), 2)
    return normal, bound, forgiven


def _first_basis(k: int, slack: Floats) -> tuple[list[int], Floats]:
    """One cut and, in each direction, the side of the box it falls towards; with the inverse of their normals."""
    d = slack.shape[0]
    basis, inverse = [k], np.zeros((d + 1, d + 1))
    inverse[0, d] = 1.0
    for j in range(d):
        sign = 1.0 if slack[j, k] >= 0 else -1.0
        basis.append(-1 - j if sign > 0 else -1 - d - j)
        inverse[j + 1, j] = sign
        inverse[j + 1, d] = sign * slack[j, k]
    return basis, inverse


def _inverse(basis: list[int], slack: Floats) -> Floats | None:
    d = slack.shape[0]
    normals = np.zeros((d + 1, d + 1))
    for r, j in enumerate(basis):
        if j >= 0:
            normals[:d, r] = -slack[:, j]
            normals[d, r] = 1.0
        elif j >= -d:
            normals[-1 - j, r] = 1.0
        else:
            normals[-1 - d - j, r] = -1.0
    try:
        inverse = np.linalg.inv(normals)
    except np.linalg.LinAlgError:
        return None
    return inverse if np.isfinite(inverse).all() and inverse[:, d].min() >= -1e-9 else None


class Columns:
    """Price vectors looked at, with the exact best response of every piece to each.

    A price vector is (one price per resource, one per audience, and ρ where some feed on others). Attributes as in
    :class:`turnout.allocation.bounds.Pool`, with ``points`` the K price vectors, shape (D, K).
    """

    def __init__(
        self,
        pieces: Pieces,
        together: Together,
        resources: Sequence[Resource],
        scale: Scale,
        worths: tuple[float, float],
        room: int = 128,
    ) -> None:
        self.pieces, self.together, self.scale = pieces, together, scale
        n, r = pieces.count, len(resources)
        self.resources = r
        self.audiences = together.size.size
        self.is_log = scale.tilt > 0
        self.dimensions = r + self.audiences + int(self.is_log)
        self.limit = np.array([x.limit for x in resources])
        self.use_money = np.array([x.money for x in resources]).reshape(r, n)
        self.use_hours = np.array([x.hours for x in resources]).reshape(r, n)
        self.use_used = np.array([x.used for x in resources]).reshape(r, n)
        self.counts = bool(self.use_used.any())
        self.worths = worths
        self.used = (~(pieces.is_point & (pieces.start_x == 0))).astype(np.float64)
        q = pieces.owner.size
        self.points = np.empty((self.dimensions, 0))
        self.value = self.x = self.money = self.hours = self.response = np.empty((q, 0))
        self.const = np.empty(0)
        self.conjugate = np.empty((self.dimensions - r, 0))
        self.root_value = np.empty((n, 0))
        self.root_row: Ints = np.empty((n, 0), dtype=np.intp)
        self.total = np.empty(0)
        self.slack = np.empty((self.dimensions, 0))
        names = ("points", "const", "conjugate", "value", "x", "money", "hours", "response", "root_value", "root_row",
                 "total", "slack")  # fmt: skip
        self._buffers: dict[str, np.ndarray] = {name: getattr(self, name) for name in names}
        self._grow(room)
        self.dead = np.zeros(q, dtype=bool)
        self.generation = 0

    @property
    def size(self) -> int:
        return int(self.const.size)

    def _conjugate(self, points: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Constant of each column, its gradient in the prices of response, and those prices themselves: ν and ρ."""
        t, r = self.together, self.resources
        if self.is_log:
            rho = points[-1]
            fresh = points[r:-1] / rho
        else:
            rho = np.full(points.shape[1], t.factor)
            fresh = points[r:] / t.factor
        log_fresh = np.log(fresh)
        size, others = t.size[:, None], t.others[:, None]
        tangent = size * (1.0 - fresh + fresh * log_fresh) + fresh * others
        const = self.limit @ points[:r] + rho * (tangent.sum(axis=0) + t.organic)
        gradient = size * log_fresh + others
        if self.is_log:
            level = self.scale.tilt / rho
            const = const + self.scale.tilt * (np.log(level) - 1.0 + math.log(t.factor)) + self.scale.offset
            along = (size * (1.0 - fresh)).sum(axis=0) + t.organic - level
            gradient = np.vstack((gradient, along))
        return const, gradient, fresh, rho

    def add(self, points: Floats) -> None:
        """Evaluate new price vectors, shape (D, k)."""
        p, t, r = self.pieces, self.together, self.resources
        const, gradient, fresh, rho = self._conjugate(points)
        prices = points[:r]
        lam = self.use_money.T @ prices + self.worths[0]
        mu = self.use_hours.T @ prices + self.worths[1]
        factor = np.maximum((t.reach @ fresh + t.apart[:, None]) * rho, 1e-12)
        if self.is_log:
            factor[t.feeds] = self.scale.tilt
        value, x, money, hours, response = p.best(lam[p.owner], mu[p.owner], factor[p.owner])
        if self.counts:
            value -= self.used[:, None] * (self.use_used.T @ prices)[p.owner]
        value[self.dead] = -np.inf
        since, to = self.size, self.size + const.size
        self._grow(to)
        best, row = self._root(value)
        for name, part in (
            ("points", points),
            ("const", const),
            ("conjugate", gradient),
            ("value", value),
            ("x", x),
            ("money", money),
            ("hours", hours),
            ("response", response),
            ("root_value", best),
            ("root_row", row),
        ):
            self._buffers[name][..., since:to] = part
            setattr(self, name, self._buffers[name][..., :to])
        total, slack = self.sums(row, since)
        for name, part in (("total", total), ("slack", slack)):
            self._buffers[name][..., since:to] = part
            setattr(self, name, self._buffers[name][..., :to])

    def _grow(self, to: int) -> None:
        """Room for ``to`` columns: arrays are views of buffers that double."""
        room = self._buffers["const"].size
        if to <= room:
            return
        room = max(2 * room, to)
        for name, old in self._buffers.items():
            new = np.empty((*old.shape[:-1], room), dtype=old.dtype)
            new[..., : self.size] = old[..., : self.size]
            self._buffers[name] = new

    def _root(self, value: Floats) -> tuple[Floats, Ints]:
        p = self.pieces
        if p.count == p.owner.size:
            return value, np.broadcast_to(p.owner[:, None], value.shape)
        best = np.maximum.reduceat(value, p.first, axis=0)
        index = np.where(value >= best[p.owner], np.arange(p.owner.size)[:, None], p.owner.size)
        return best, np.minimum.reduceat(index, p.first, axis=0)

    def sums(self, rows: Ints, since: int) -> tuple[Floats, Floats]:
        """Bound and gradient at the columns from ``since`` on, with one row per candidate, shape (n, k)."""
        t = self.together
        at = np.arange(since, self.size)
        total = self.const[since:] + self.value[rows, at].sum(axis=0)
        money, hours, response = self.money[rows, at], self.hours[rows, at], self.response[rows, at]
        use = self.use_money @ money + self.use_hours @ hours
        if self.counts:
            use += self.use_used @ self.used[rows]
        parts = [self.limit[:, None] - use]
        if self.audiences:
            parts.append(t.reach.T @ response)
        if self.is_log:
            parts.append((t.apart @ response)[None])
        slack = np.vstack(parts)
        slack[self.resources :] += self.conjugate[:, since:]
        return total, slack

    def bury(self, rows: np.ndarray) -> None:
        """Take pieces out for good."""
        self.dead |= rows
        self.generation += 1
        self.value[self.dead] = -np.inf
        self.root_value[:], self.root_row[:] = self._root(self.value)
        self.total[:], self.slack[:] = self.sums(self.root_row, 0)


# --- the search -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Portfolio:
    """A feasible answer in scaled units: one row (piece) and one x per free candidate; ``value`` is made best."""

    rows: Ints
    x: Floats
    money: Floats
    hours: Floats
    alone: Floats
    total: float
    value: float


@dataclass(slots=True)
class _Node:
    ranges: dict[int, tuple[int, int]]
    value: Floats
    slack: Floats
    generation: int = 0
    basis: list[int] | None = None

    @property
    def bound(self) -> float:
        return float(self.value.min())


@dataclass(slots=True)
class Locked:
    """What is decided before the search: money and responses of locked candidates, and which are used."""

    money: dict[str, float] = field(default_factory=dict)
    alone: dict[str, float] = field(default_factory=dict)
    used: frozenset[str] = frozenset()


class CoupledSearch:
    """Branch and bound over the free candidates of one problem; amounts are scaled so that budget, hours and what all
    candidates bring at most are about 1."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        problem: Problem,
        locked: Locked,
        budget: float,
        hours: float,
        *,
        only_feasible: bool = False,
    ) -> None:
        """``only_feasible``: responses are nothing; any portfolio will do."""
        self.candidates = list(candidates)
        self.only_feasible = only_feasible
        self.problem = problem
        n = len(self.candidates)
        self.money_scale = budget if budget > 0 else 1.0
        self.budget = budget / self.money_scale
        self.hours_scale = hours if 0 < hours < math.inf else 1.0
        self.hours = hours / self.hours_scale
        self._together(locked, budget, hours)
        build = Builder()
        build.bend_pieces(sum(c.curve.inflection > 0 for c in self.inner))
        kept = {m for g in problem.groups if g.money(problem.budget)[0] > 0 for m in g.members}
        for i, c in enumerate(self.inner):
            keep = only_feasible or (c.name in kept and c.cost > 0)
            cut_into_pieces(build, i, c, budget, hours, problem.unit, keep=keep)
        self.pieces = Pieces(build, self.money_scale, self.hours_scale, 1.0)
        p = self.pieces
        most = np.asarray(build.most).reshape(-1, 3)
        end_money, end_hours = most[:, 0] / self.money_scale, most[:, 1] / self.hours_scale
        largest = np.maximum.reduceat(np.column_stack((end_money, end_hours, most[:, 2])), p.first, axis=0)
        self.resources = self._resources(locked, budget, hours, largest)
        used = ~(p.is_point & (p.start_x == 0))
        # the least each piece can take of each resource; what is asked for at least counts negative
        self.least = np.zeros((len(self.resources), p.owner.size))
        for k, resource in enumerate(self.resources):
            of_money, of_hours = resource.money[p.owner], resource.hours[p.owner]
            self.least[k] = np.where(of_money >= 0, of_money * p.start_money, of_money * end_money)
            self.least[k] += np.where(of_hours >= 0, of_hours * p.start_hours, of_hours * end_hours)
            self.least[k] += resource.used[p.owner] * used
        self.limit = np.array([r.limit for r in self.resources])
        self.slackness = TOLERANCE * np.maximum(1.0, np.abs(self.limit))
        self.worths = (
            problem.money_worth * self.money_scale / self.response_scale,
            problem.hours_worth * self.hours_scale / self.response_scale,
        )
        #: The most that a portfolio can cost, as the objective counts.
        self.dearest = self.worths[0] * self.budget + (self.worths[1] * self.hours if self.worths[1] else 0.0)
        self.any_feeds = bool(self.together.feeds.any())
        self.most_alone = np.where(self.together.feeds, np.expm1(largest[:, 2]), largest[:, 2])
        self.best: Portfolio | None = None
        self.tried: set[bytes] = set()
        self.buried_at = self.closed = -math.inf
        self.nodes = 0
        self.gap = 0.0
        self.goal: float | None = None
        self.stop_at = math.inf
        self.prices: Floats = np.zeros(len(self.resources))
        self.root_point: Floats = np.empty(0)
        self.scale = Scale()
        self.opened = False
        self._families(n)

    # --- setting up ---------------------------------------------------------------------------------------------

    def _together(self, locked: Locked, budget: float, hours: float) -> None:
        """Responses in a scale where all together bring about 1; locked candidates become part of what comes anyway."""
        problem = self.problem
        finite = sorted((a for a in problem.audiences if math.isfinite(a.size)), key=lambda a: a.name)
        everybody = {c.name: c for c in problem.candidates}
        inside = {a.name for a in finite}

        def weights(c: Candidate) -> dict[str, float]:
            return {g: w for g, w in c.reach.items() if g in inside}

        organic = problem.organic + math.fsum(a.others for a in problem.audiences if math.isinf(a.size))
        others = np.array([a.others for a in finite])
        factor = 1.0
        for name, alone in locked.alone.items():
            c = everybody[name]
            if c.of_others:
                factor *= 1.0 + alone
                continue
            row = reach_matrix(finite, [weights(c)])[0]
            others = others + row * alone
            organic += alone * (1.0 - float(row.sum()))
        reach = reach_matrix(finite, [weights(c) for c in self.candidates])
        feeds = np.array([c.of_others for c in self.candidates], dtype=bool)
        ends = [limits(c, budget, hours, problem.unit, keep=self.only_feasible) for c in self.candidates]
        most = organic + float(others.sum())
        for c, end in zip(self.candidates, ends, strict=True):
            if end is not None and not c.of_others:
                most += float(c.curve(max(end)))
        self.response_scale = scale = most if most > 0 else 1.0
        self.together = Together(
            reach, np.where(feeds, 0.0, 1.0 - reach.sum(axis=1)), feeds, np.array([a.size for a in finite]) / scale,
            others / scale, organic / scale, factor,
        )  # fmt: skip
        self.inner = [
            replace(
                self._counted(c, end),
                curve=log_outline(c.curve, max(end) if end else 0.0) if c.of_others else c.curve.scaled(1 / scale),
            )
            for c, end in zip(self.candidates, ends, strict=True)
        ]

    def _resources(self, locked: Locked, budget: float, hours: float, largest: Floats) -> list[Resource]:
        n = len(self.candidates)
        one, zero = np.ones(n), np.zeros(n)
        found = []
        if largest[:, 0].sum() > budget / self.money_scale * (1 + TOLERANCE):
            found.append(Resource("budget", budget / self.money_scale, one, zero, zero))
        if largest[:, 1].sum() > hours / self.hours_scale * (1 + TOLERANCE) and hours > 0:
            found.append(Resource("hours", hours / self.hours_scale, zero, one, zero))
        for g in self.problem.groups:
            members = np.array([c.name in g.members for c in self.candidates], dtype=np.float64)
            spent = math.fsum(locked.money.get(m, 0.0) for m in g.members)
            least, most = g.money(self.problem.budget)
            least, most = (least - spent) / self.money_scale, (most - spent) / self.money_scale
            if most < float(members @ largest[:, 0]) or most < 0:
                found.append(Resource(f"{g.name}.most", most, members, zero, zero))
            if least > 0:
                found.append(Resource(f"{g.name}.least", -least, -members, zero, zero))
            used = len(locked.used & set(g.members))
            if g.at_most is not None and g.at_most - used < members.sum():
                found.append(Resource(f"{g.name}.at_most", g.at_most - used, zero, zero, members))
            if g.at_least is not None and g.at_least > used:
                found.append(Resource(f"{g.name}.at_least", used - g.at_least, zero, zero, -members))
        return found

    def _counted(self, c: Candidate, end: tuple[float, float] | None) -> Candidate:
        """The candidate with a smallest x that is used, where somebody counts or asks for what using it costs."""
        if c.minimum > 0 or c.unit is not None or end is None or isinstance(c.curve, Step):
            return c
        groups = [g for g in self.problem.groups if c.name in g.members]
        pays = c.fixed_cost > 0 and any(g.money(self.problem.budget)[0] > 0 for g in groups)
        if not pays and not any(g.at_least or g.at_most is not None for g in groups):
            return c
        unit = self.problem.unit
        return replace(c, minimum=unit / c.cost if unit is not None and c.cost > 0 else 1e-6 * max(end))

    def _families(self, n: int) -> None:
        curves = [c.curve for c in self.inner]
        self.hill: Ints = np.asarray([i for i in range(n) if isinstance(curves[i], Hill)], np.intp)
        hills = [h for h in curves if isinstance(h, Hill)]
        self.hill_top = np.asarray([h.top for h in hills])
        self.hill_half = np.asarray([h.half for h in hills])
        self.hill_shape = np.asarray([h.shape for h in hills])
        self.logistic: Ints = np.asarray([i for i in range(n) if isinstance(curves[i], Logistic)], np.intp)
        logistics = [h for h in curves if isinstance(h, Logistic)]
        self.logistic_top = np.asarray([h.top for h in logistics])
        self.logistic_rate = np.asarray([h.rate for h in logistics])
        self.other = [i for i in range(n) if not isinstance(curves[i], Hill | Logistic)]

    def _alone(self, rows: Ints, x: Floats) -> Floats:
        """True response alone of one x per candidate; the true share of those that feed on the others."""
        r = np.zeros(x.size)
        if self.hill.size:
            with np.errstate(divide="ignore", over="ignore"):
                r[self.hill] = self.hill_top / (1.0 + (self.hill_half / x[self.hill]) ** self.hill_shape)
        if self.logistic.size:
            r[self.logistic] = self.logistic_top * np.tanh(0.5 * self.logistic_rate * x[self.logistic])
        for i in self.other:
            c = self.candidates[i]
            if c.of_others:
                r[i] = float(c.curve(float(x[i])))
            elif self.pieces.is_point[rows[i]]:
                r[i] = self.pieces.start_response[rows[i]]
            else:
                r[i] = float(self.inner[i].curve(float(x[i])))
        return r

    # --- counting -----------------------------------------------------------------------------------------------

    @property
    def value(self) -> float:
        return self.best.value if self.best is not None else -math.inf

    @property
    def cutoff(self) -> float:
        """A bound, as the search counts, at or below this is close enough."""
        if self.only_feasible:
            return 0.0 if self.best is not None else -1e-7
        return max(self._close_enough(), self._goal)

    @property
    def _goal(self) -> float:
        """What is below the goal is of no interest."""
        if self.goal is None:
            return -math.inf
        goal = self.goal * (1 - 1e-10)
        return (math.log(goal) if goal > 0 else -math.inf) if self.scale.is_log else goal

    def _close_enough(self) -> float:
        if self.best is None:  # whatever is possible at all is worth more
            return -60.0 if self.scale.is_log else -1.0 - self.dearest
        if self.scale.is_log:
            return math.log(self.best.total / (1.0 - self.gap)) if self.best.total > 0 else -math.inf
        return self.best.value / (1.0 - self.gap) if self.best.value > 0 else self.best.value

    def _portfolio(self, rows: Ints, x: Floats, money: Floats, hours: Floats) -> Portfolio:
        alone = self._alone(rows, x)
        total = self.together.total(alone)
        cost = self.worths[0] * float(money.sum()) + self.worths[1] * float(hours.sum())
        return Portfolio(rows, x, money, hours, alone, total, total - cost)

    def _fits(self, rows: Ints) -> bool:
        return bool((self.least[:, rows].sum(axis=1) <= self.limit + self.slackness).all())

    # --- the columns --------------------------------------------------------------------------------------------

    def _point(self, prices: Floats, fresh: Floats, level: float) -> Floats:
        """A price vector from prices of resources, freshness of audiences and the base."""
        if self.pool.is_log:
            rho = self.scale.tilt / max(level, 1e-12)
            return np.concatenate((prices, fresh * rho, [rho]))
        return np.concatenate((prices, fresh * self.together.factor))

    def _open(self, scale: Scale, start: Floats | None) -> None:
        """Begin a search that counts by ``scale``, from price vectors (without ρ's scale) of an earlier one."""
        self.scale, self.opened = scale, True
        t, r = self.together, len(self.resources)
        self.pool = Columns(self.pieces, t, self.resources, scale, self.worths)
        at_most, _ = t.base(np.where(t.feeds, 0.0, self.most_alone))
        unit = scale.tilt if scale.tilt > 0 else t.factor
        fill = (t.others + np.where(t.feeds, 0.0, self.most_alone) @ t.reach) / t.size
        fresh_low, fresh_high = np.exp(-np.minimum(fill, 600.0)), np.exp(-np.minimum(t.others / t.size, 600.0))
        top = 64.0 * unit / np.maximum(np.abs(self.limit), 1e-3)
        top[[r.name not in ("budget", "hours") for r in self.resources]] *= 64.0
        if scale.tilt > 0:
            fed = t.factor * float((1.0 + self.most_alone[t.feeds]).prod())
            floor = max(self.value / fed, 1e-9 * at_most, 1e-300)  # nothing with less is better
            rho = scale.tilt / max(at_most, floor), scale.tilt / floor
            low = np.concatenate((np.zeros(r), fresh_low * rho[0], rho[:1]))
            high = np.concatenate((top, fresh_high * rho[1], rho[1:]))
        else:
            low = np.concatenate((np.zeros(r), fresh_low * t.factor))
            high = np.concatenate((top, fresh_high * t.factor))
        self.box = (low, high)
        if start is not None:
            self.pool.add(np.clip(start, low[:, None], high[:, None]))
            return
        self._first_columns(fresh_high, at_most, unit)

    def _first_columns(self, fresh: Floats, at_most: float, unit: float) -> None:
        r = len(self.resources)
        names = [x.name for x in self.resources]
        grid = [np.zeros(r)]
        money = [0.0]
        if "budget" in names:
            money = [0.0, *(unit * 3.0 * 2.0 ** -np.arange(11.0)).tolist()]
        hours = [0.0]
        if "hours" in names:
            hours = [0.0, *(unit * 4.0 ** -np.arange(5.0)).tolist()]
            money = money[::2] if len(money) > 1 else money
        grid = []
        for lam in money:
            for mu in hours:
                prices = np.zeros(r)
                if "budget" in names:
                    prices[names.index("budget")] = lam
                if "hours" in names:
                    prices[names.index("hours")] = mu
                grid.append(prices)
        level = 0.6 * at_most
        self.pool.add(np.column_stack([self._point(p, fresh, level) for p in grid]))
        for _ in range(2):
            k = int(np.argmin(self.pool.total))
            level, fresh = self._level(self.pool.root_row[:, [k]], np.array([k]), np.ones(1))
            base = self.pool.points[:r, k]
            near = [base * f for f in (0.4, 0.6, 0.8, 1.0, 1.25, 1.6)] if base.any() else [base]
            self.pool.add(np.column_stack([self._point(p, fresh, level) for p in near]))

    def _level(self, rows: Ints, columns: Ints, weights: Floats) -> tuple[float, Floats]:
        """Base and freshness at a mix of columns' best responses."""
        response = self.pool.response[rows, columns] @ weights
        return self.together.base(np.where(self.together.feeds, 0.0, response))

    def _refresh(self, node: _Node) -> None:
        pool = self.pool
        since = node.value.size if node.generation == pool.generation else 0
        if since == pool.size:
            return
        if node.ranges:
            total, slack = pool.sums(self._rows_at(node, np.arange(since, pool.size)), since)
        else:
            total, slack = pool.total[since:], pool.slack[:, since:]
        node.generation = pool.generation
        if since:
            total, slack = np.concatenate((node.value, total)), np.hstack((node.slack, slack))
        node.value, node.slack = total, slack

    def _rows_at(self, node: _Node, columns: Ints) -> Ints:
        rows = self.pool.root_row[:, columns].copy()
        for i, (low, high) in node.ranges.items():
            rows[i] = self.pool.value[low : high + 1, columns].argmax(axis=0) + low
        return rows

    def _near_enough(self, excess: float, bound: float, precision: float) -> bool:
        return excess <= precision * (self.scale.tilt if self.scale.is_log else abs(bound))

    def _tighten(self, node: _Node, rounds: int, precision: float, *, to_the_end: bool = False) -> Lowest | None:
        """Lower a node's bound by cutting planes; the last model tells which pieces its relaxation mixes."""
        pool = self.pool
        model: Lowest | None = None
        r = len(self.resources)
        for _ in range(rounds):
            model = lowest_point(node.value, node.slack, pool.points, self.box, node.basis)
            node.basis = model.basis if model is not None else None
            if model is None or node.bound <= self.cutoff:
                break
            if self._near_enough(node.bound - model.value, node.bound, precision) or perf_counter() > self.stop_at:
                break
            if node.ranges and model.value > self.cutoff and not to_the_end:  # no prices decide it
                break
            best = pool.points[:, int(np.argmin(node.value))]
            level, fresh = self._level(self._rows_at(node, model.columns), model.columns, model.weights)
            new = [model.point, 0.5 * (model.point + best), self._point(model.point[:r], fresh, level)]
            pool.add(np.clip(np.column_stack(new), self.box[0][:, None], self.box[1][:, None]))
            self._refresh(node)
        return model

    # --- feasible portfolios ------------------------------------------------------------------------------------

    def _consider(self, rows: Ints, column: int) -> None:
        key = rows.tobytes()
        if key in self.tried:
            return
        self.tried.add(key)
        found = self._polish(rows, self.pool.points[:, column])
        if found is None:
            return
        filled = self._fill(found)
        if filled is not None:
            better = self._polish(filled, self.pool.points[:, column])
            if better is not None and better.value > found.value:
                found = better
        if self.best is None or found.value > self.best.value:
            self.best = found

    def _polish(
        self, rows: Ints, point: Floats, rounds: int = _POLISH_ROUNDS, precision: float = 0.08
    ) -> Portfolio | None:
        """The best x for fixed pieces: cutting planes over these pieces alone, whose mix is feasible.

        ``precision``: as a share of the gap, where ``rounds`` suffice.
        """
        p = self.pieces
        if p.is_point[rows].all():
            if not self._fits(rows):
                return None
            return self._portfolio(rows, p.start_x[rows], p.start_money[rows], p.start_hours[rows])
        sub = Columns(p.take(rows), self.together, self.resources, self.scale, self.worths, room=3 * rounds + 5)
        r, final = len(self.resources), rounds > _POLISH_ROUNDS
        low, high = self.box[0][:, None], self.box[1][:, None]
        start = np.repeat(point[:, None], 5, axis=1)
        start[:r] *= np.array([0.8, 0.97, 1.0, 1.03, 1.25])
        sub.add(np.clip(start, low, high))
        basis: list[int] | None = None
        model = None
        for turn in range(rounds):
            model = lowest_point(sub.total, sub.slack, sub.points, self.box, basis)
            if model is None:
                return None
            basis = model.basis
            bound = float(sub.total.min())
            if bound <= self.cutoff and turn > 0 and not final:
                return None
            if self._near_enough(bound - model.value, bound, precision * self.gap) or turn == rounds - 1:
                break
            if turn > 4 and perf_counter() > self.stop_at:
                break
            response = sub.response[:, model.columns] @ model.weights
            level, fresh = self.together.base(np.where(self.together.feeds, 0.0, response))
            best = sub.points[:, int(np.argmin(sub.total))]
            new = [model.point, 0.5 * (model.point + best), self._point(model.point[:r], fresh, level)]
            sub.add(np.clip(np.column_stack(new), low, high))
        assert model is not None
        columns, weights = model.columns, model.weights
        x, money, hours = (part[:, columns] @ weights for part in (sub.x, sub.money, sub.hours))
        points = p.is_point[rows]  # exactly, not as a sum of weights
        x[points], money[points], hours[points] = (
            start[rows[points]] for start in (p.start_x, p.start_money, p.start_hours)
        )
        short = self._over(rows, money, hours)
        if short > 1e-9:  # the prices' box or the rounds ended it early: towards the cheapest point of every piece
            x, money, hours = self._pull_back(rows, x, money, hours)
            if self._over(rows, money, hours) > 1e-9:
                return None
        return self._portfolio(rows, x, money, hours)

    def _uses(self, rows: Ints, money: Floats, hours: Floats) -> Floats:
        pool = self.pool
        return np.asarray(pool.use_money @ money + pool.use_hours @ hours + pool.use_used @ pool.used[rows])

    def _over(self, rows: Ints, money: Floats, hours: Floats) -> float:
        """By how much the worst limit is broken."""
        if not self.resources:
            return 0.0
        return float((self._uses(rows, money, hours) - self.limit).max())

    def _pull_back(self, rows: Ints, x: Floats, money: Floats, hours: Floats) -> tuple[Floats, Floats, Floats]:
        p = self.pieces
        start = p.start_x[rows], p.start_money[rows], p.start_hours[rows]
        at, least = self._uses(rows, money, hours), self._uses(rows, start[1], start[2])
        broken = at > self.limit
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(broken, (self.limit - least) / (at - least), 1.0)
        t = float(np.clip(np.nan_to_num(share, nan=0.0), 0.0, 1.0).min()) if share.size else 1.0
        return tuple(s + t * (v - s) for s, v in zip(start, (x, money, hours), strict=True))

    def _fill(self, found: Portfolio) -> Ints | None:
        """Steps up that the resources left still pay for, the largest gain first; ``None`` when there is none."""
        p, t, pool = self.pieces, self.together, self.pool
        rows, money, hours = found.rows.copy(), found.money.copy(), found.hours.copy()
        base, fresh = t.base(np.where(t.feeds, 0.0, found.alone))
        worth = (t.reach @ fresh + t.apart) * (found.total / base if base > 0 else t.factor)
        worth[t.feeds] = found.total
        response = np.where(t.feeds, np.log1p(np.where(t.feeds, found.alone, 0.0)), found.alone)
        changed = False
        for _ in range(2 * rows.size):
            left = self.limit - self._uses(rows, money, hours) + self.slackness
            more_money, more_hours = p.start_money - money[p.owner], p.start_hours - hours[p.owner]
            more = pool.use_money[:, p.owner] * more_money + pool.use_hours[:, p.owner] * more_hours
            if pool.counts:
                more = more + pool.use_used[:, p.owner] * (pool.used - pool.used[rows][p.owner])
            gain = (p.start_response - response[p.owner]) * worth[p.owner]
            gain = gain - self.worths[0] * more_money - self.worths[1] * more_hours
            gain[(more > left[:, None]).any(axis=0)] = 0.0
            row = int(np.argmax(gain))
            if gain[row] <= 1e-9:
                break
            i = p.owner[row]
            rows[i], money[i], hours[i], response[i] = (
                row,
                p.start_money[row],
                p.start_hours[row],
                p.start_response[row],
            )
            changed = True
        return rows if changed else None

    def _repaired(self, rows: Ints, column: int) -> Ints | None:
        """Pieces that fit, reached by giving up the least value per unit of what is missing."""
        p = self.pieces
        rows = rows.copy()
        value = self.pool.value[:, column]
        for _ in range(3 * rows.size):
            over = self.least[:, rows].sum(axis=1) - self.limit - self.slackness
            if not over.size or over.max() <= 0:
                return rows
            k = int(over.argmax())
            freed = self.least[k][rows][p.owner] - self.least[k]
            with np.errstate(divide="ignore", invalid="ignore"):
                price = np.where(freed > 1e-15, (value[rows][p.owner] - value) / freed, np.inf)
            price[np.isnan(price)] = np.inf
            row = int(np.argmin(price))
            if not math.isfinite(price[row]):
                return None
            rows[p.owner[row]] = row
        return None

    def _round(self, node: _Node, model: Lowest | None) -> tuple[Ints, Floats]:
        pool = self.pool
        if model is None:
            columns, weights = np.array([int(np.argmin(node.value))]), np.ones(1)
        else:
            columns, weights = model.columns, model.weights
        rows = self._rows_at(node, columns)
        lead = int(np.argmax(weights))
        column, base = int(columns[lead]), rows[:, lead]
        mixed = np.flatnonzero((rows != base[:, None]).any(axis=1))
        if mixed.size > 6:  # the least decided ones
            share = np.array([weights[rows[i] == base[i]].sum() for i in mixed])
            mixed = mixed[np.argsort(share, kind="stable")[:6]]
        trials, estimate = [base.copy()], [pool.const + pool.value[base].sum(axis=0)]
        for i in mixed:
            options = sorted(set(rows[i].tolist()))
            grown: list[Ints] = []
            sums: list[Floats] = []
            for trial, value in zip(trials, estimate, strict=True):
                for row in options:
                    other = trial.copy()
                    other[i] = row
                    grown.append(other)
                    sums.append(value + pool.value[row] - pool.value[trial[i]])
            trials, estimate = grown, sums
        heights = np.nan_to_num(np.array(estimate).min(axis=1), nan=-np.inf)
        fits = (self.least[:, np.array(trials)].sum(axis=2) <= (self.limit + self.slackness)[:, None]).all(axis=0)
        order = [k for k in np.argsort(-heights, kind="stable") if fits[k]]
        for k in order[:3]:
            if heights[k] > self.cutoff:
                self._consider(trials[k], column)
        if not order:
            repaired = self._repaired(base, column)
            if repaired is not None:
                self._consider(repaired, column)
        return rows, weights

    def bound_draws(
        self,
        factor: Floats,
        crowd: Floats,
        outside: Floats,
        times: Floats,
        audiences: Sequence[Audience],
        shift: float,
        lift: float = 1.0,
    ) -> Floats:
        """A bound of the total in each of S draws, each with prices fitted to it, in the problem's units, shape (S,).

        Args:
            factor: of the candidates' responses and shares, shape (S, n).
            crowd: what comes from each of ``audiences`` anyway, shape (S, G'); outside: from nobody's, shape (S,).
            times: what locked candidates that feed on others multiply the base by, shape (S,).
            shift: factor of the prices of resources; lift: of the base where the logarithm's tangent is taken.
        """
        if not self.opened:
            self.gap = 1e-2
            self._open(Scale(1.0, 0.0, is_log=True) if self.any_feeds else Scale(), None)
            root = _Node({}, np.empty(0), np.empty((self.pool.dimensions, 0)))
            self._refresh(root)
            self._tighten(root, _ROOT_ROUNDS // 2, 0.1 * self.gap)
            self.root_point = self.pool.points[:, int(self.pool.total.argmin())]
        t, r = self.together, len(self.resources)
        finite = [
            g for g, _ in sorted(enumerate(audiences), key=lambda e: e[1].name) if math.isfinite(audiences[g].size)
        ]
        endless = [g for g in range(len(audiences)) if g not in finite]
        own = crowd[:, finite].T / self.response_scale
        organic = (outside + crowd[:, endless].sum(axis=1)) / self.response_scale
        unit = self.root_point[-1] if self.any_feeds else t.factor
        fresh = np.clip(self.root_point[r : r + t.size.size] / unit, 1e-12, None)[:, None]
        # more response than expected fills an audience more; prices of resources rise with what response there is
        mean = factor[:, ~t.feeds].mean(axis=1) if (~t.feeds).any() else np.ones(times.size)
        fresh = fresh ** np.clip(mean, 0.05, 20.0)
        price = self.root_point[:r, None] * shift / unit * mean
        base = (t.size[:, None] * (1.0 - fresh + fresh * np.log(fresh)) + fresh * own).sum(axis=0) + organic
        worth = np.maximum((t.reach @ fresh + t.apart[:, None]) * factor.T, 1e-12)
        if not self.any_feeds:
            value = base + self.limit @ price + self._best_sum(price, worth)
            return np.asarray(value * times * self.response_scale)
        # log base <= (base's tangent) / level − 1 + log level, and log(1 + f·s) <= max(1, f) · log(1 + s)
        level = np.maximum(lift / self.root_point[-1] * np.clip(mean, 0.05, 20.0), 1e-12)
        worth = worth / level
        worth[t.feeds] = np.maximum(factor.T[t.feeds], 1.0)
        price = self.root_point[:r, None] * shift * np.ones_like(mean)
        logs = base / level - 1.0 + np.log(level) + self.limit @ price + self._best_sum(price, worth)
        return np.asarray(np.exp(np.minimum(logs, 600.0)) * times * self.response_scale)

    def _best_sum(self, price: Floats, worth: Floats) -> Floats:
        """Σ over candidates of the best of their pieces at prices of resources (R, S) and worths of response (n, S)."""
        p, pool = self.pieces, self.pool
        lam, mu = pool.use_money.T @ price, pool.use_hours.T @ price
        value = p.best(lam[p.owner], mu[p.owner], worth[p.owner])[0]
        if pool.counts:
            value = value - pool.used[:, None] * (pool.use_used.T @ price)[p.owner]
        return np.asarray(np.maximum.reduceat(value, p.first, axis=0).sum(axis=0))

    # --- branch and bound ---------------------------------------------------------------------------------------

    def _give_up(self, bound: float) -> None:
        self.closed = max(self.closed, bound)

    def _bury(self) -> None:
        self._give_up(bury_hopeless(self.pool, self.pieces.owner, self.cutoff))

    def run(self, gap: float, stop_at: float, goal: float | None = None) -> float:
        """Search until the gap is closed or the time is up; returns the upper bound of total − cost (scaled).

        ``goal``: it is enough to know whether this much can be reached.
        """
        self.gap, self.stop_at, self.goal = gap, stop_at, goal
        t = self.together
        if self.any_feeds and t.base(np.where(t.feeds, 0.0, self.most_alone))[0] <= 0.0:  # shares of nothing
            self._open(Scale(), None)
            self._seed()
            return 0.0
        if self.any_feeds and self.worths != (0.0, 0.0):
            return self._by_ranges()
        self._open(Scale(1.0, 0.0, is_log=True) if self.any_feeds else Scale(), None)
        self._seed()
        upper = self._search()
        self._keep_prices()
        self._finish()
        if self.any_feeds:
            return math.exp(upper) if upper > -math.inf else 0.0
        return upper

    @property
    def everything(self) -> float:
        """A total that no portfolio exceeds: all candidates at their most."""
        return self.together.total(self.most_alone)

    def _seed(self) -> None:
        """Begin with the first piece of everything, nothing for most, or what is near it and possible."""
        self.tried = set()
        self.buried_at = self.closed = -math.inf
        if self.best is not None:
            return
        column = int(np.argmin(self.pool.total))
        first: Ints | None = self.pieces.first.copy()
        if first is not None and not self._fits(first):
            first = self._repaired(first, column)
        if first is None:
            return
        p = self.pieces
        if self._over(first, p.start_money[first], p.start_hours[first]) <= 1e-9:
            self.best = self._portfolio(first, p.start_x[first], p.start_money[first], p.start_hours[first])
        else:
            self._consider(first, column)

    def _finish(self) -> None:
        """The best portfolio's x, as exactly as it goes."""
        if self.best is None or self.pieces.is_point[self.best.rows].all():
            return
        rounds = _LAST_ROUNDS if perf_counter() < self.stop_at else _POLISH_ROUNDS
        better = self._polish(self.best.rows, self.pool.points[:, int(self.pool.total.argmin())], rounds, 0.02)
        if better is not None and better.value > self.best.value:
            self.best = better

    def _keep_prices(self) -> None:
        """What one more unit of each resource would bring: the prices of the whole problem's bound."""
        if self.root_point.size:
            unit = self.best.total if self.scale.is_log and self.best is not None else 1.0
            self.prices = self.root_point[: len(self.resources)] * unit

    def _by_ranges(self) -> float:
        """Chords over ranges of the total, each so short that it is off by a third of the gap at most.

        No portfolio with a total up to the best objective is better, none has a total above what the bound allows;
        the ranges between the two are looked at from the best portfolio's outwards.
        """
        t = self.together
        nothing = t.factor * t.base(np.zeros(len(self.candidates)))[0]
        everything = t.factor * t.base(np.where(t.feeds, 0.0, self.most_alone))[0]
        everything = max(everything * float((1.0 + self.most_alone[t.feeds]).prod()), 1e-12)
        least = max(nothing, 1e-6 * everything)
        self._look_around(max(0.6 * everything, least))
        highest = min(math.log(everything), self._highest())
        width = math.sqrt(8.0 / 3.0 * max(self.gap, 1e-6))
        middle = math.log(max(self.best.total if self.best is not None else 0.0, least))
        low, high = middle - 0.5 * width, middle + 0.5 * width
        below, above, upper = low, high, -math.inf
        tried: Portfolio | None = None
        while True:
            if math.exp(high) > max(self.value, least):
                self._move(Scale.chord(math.exp(low), math.exp(high)))
                highest = min(highest, self._highest())
                before = self.best
                upper = max(upper, self._search())
                if self.best is not before or not self.prices.any():
                    self._keep_prices()
            floor = math.log(max(self.value, least))
            late = perf_counter() > self.stop_at
            # what is left above and below, each in one go: if that is no better, or the time is up, it is enough
            if late or self.best is not tried:
                tried = self.best
                above, upper = self._skip(above, highest, above, highest, upper, late)
                below, upper = self._skip(floor, below, below, floor, upper, late)
            if above < highest:
                low, high = above, min(above + width, highest + 1e-9)
                above = high
            elif below > floor:
                low, high = below - width, below
                below = low
            else:  # what has a total below the least one is not above it in value either
                break
        if self.best is not None and self.best.total > 0:
            self._move(Scale.chord(0.99 * self.best.total, 1.01 * self.best.total))
            self._finish()
        return max(upper, self.value, least if self.value < 1e-6 * everything and nothing == 0.0 else -math.inf)

    def _skip(self, low: float, high: float, now: float, done: float, upper: float, late: bool) -> tuple[float, float]:
        """Where to go on (``done`` if this range is no better or the time is up, else ``now``), and the bound."""
        if low >= high:
            return now, upper
        rest = self._in_one_go(low, high)
        return (done, max(upper, rest)) if late or rest <= self.cutoff else (now, upper)

    def _in_one_go(self, low: float, high: float) -> float:
        """A bound of what portfolios with a total between e^low and e^high are worth, without search."""
        self._move(Scale.chord(math.exp(low), math.exp(max(high, low + 1e-9))))
        return float(self.pool.total.min())

    def _look_around(self, guess: float) -> None:
        """A first portfolio and first prices, with the total as it may be."""
        self._open(Scale.chord(0.95 * guess, 1.05 * guess), None)
        self._seed()
        root = _Node({}, np.empty(0), np.empty((self.pool.dimensions, 0)))
        self._refresh(root)
        self._round(root, self._tighten(root, _NODE_ROUNDS, 0.5 * self.gap))

    def _move(self, scale: Scale) -> None:
        """Count by another chord: the best price vectors so far, in its terms."""
        order = np.argsort(self.pool.total, kind="stable")[:24]
        start = self.pool.points[:, order].copy()
        ratio, r = scale.tilt / self.scale.tilt, len(self.resources)
        start[r:] *= ratio
        worths = np.array([self._worth_of(x) for x in self.resources]).reshape(r, 1)
        start[:r] = np.maximum((start[:r] + worths) * ratio - worths, 0.0)
        self._open(scale, start)
        self._seed()

    def _highest(self) -> float:
        """The logarithm of a total that no portfolio exceeds: the bound and the most that a portfolio costs.

        Only before pieces are buried, which is done for totals within one range.
        """
        return float((self.pool.total.min() + self.dearest - self.scale.offset) / self.scale.tilt)

    def _worth_of(self, resource: Resource) -> float:
        return {"budget": self.worths[0], "hours": self.worths[1]}.get(resource.name, 0.0)

    def _search(self) -> float:
        """Branch and bound on the pieces, in the scale that is open."""
        empty = np.empty(0)
        root = _Node({}, empty, np.empty((self.pool.dimensions, 0)))
        self._refresh(root)
        heap: list[tuple[float, int, _Node]] = [(-root.bound, 0, root)]
        rounds = _ROOT_ROUNDS
        begun = False
        self.root_point = self.pool.points[:, int(np.argmin(self.pool.total))]
        while heap:
            negative, _, node = heapq.heappop(heap)
            reached = self.goal is not None and self.value >= self.goal
            if begun and (reached or perf_counter() > self.stop_at):
                heapq.heappush(heap, (negative, 0, node))
                break
            begun = True
            self._refresh(node)
            if node.bound <= self.cutoff:
                self._give_up(node.bound)
                continue
            if heap and node.bound < -heap[0][0] - 1e-9 * abs(node.bound):  # others are more promising now
                heapq.heappush(heap, (-node.bound, self.nodes, node))
                self.nodes += 1
                continue
            self.nodes += 1
            self._expand(node, heap, rounds)
            rounds = _NODE_ROUNDS
        return max([self.closed, *(-entry[0] for entry in heap)])

    def _expand(self, node: _Node, heap: list[tuple[float, int, _Node]], rounds: int) -> None:
        rows, weights = np.empty((0, 0), dtype=np.intp), np.empty(0)
        for precision in (0.25,) if node.ranges else (0.5, 0.05):
            model = self._tighten(node, rounds, self.gap * precision)
            if not node.ranges and model is not None:
                self.root_point = model.point
            if node.bound <= self.cutoff:
                self._give_up(node.bound)
                return
            rows, weights = self._round(node, model)
            if self.value > self.buried_at:
                self.buried_at = self.value
                self._bury()
            self._refresh(node)
            if node.bound <= self.cutoff:
                self._give_up(node.bound)
                return
        split = self._split(node, rows, weights)
        if split is None:
            self._settle_leaf(node)
            return
        i, low, at, high = split
        for begin, end in ((low, at), (at + 1, high)):
            child = _Node({**node.ranges, i: (begin, end)}, np.empty(0), np.empty((self.pool.dimensions, 0)))
            child.basis = node.basis
            if not self._possible(child):
                continue
            self._refresh(child)
            if not math.isfinite(child.bound):
                continue
            if child.bound <= self.cutoff:
                self._give_up(child.bound)
            else:
                heapq.heappush(heap, (-child.bound, 2 * self.nodes + (begin > low), child))

    def _settle_leaf(self, node: _Node) -> None:
        """One piece is left of each candidate: a concave problem, so only the prices are open."""
        self._tighten(node, _ROOT_ROUNDS, 0.02 * self.gap, to_the_end=True)
        if node.bound > self.cutoff:
            column = int(node.value.argmin())
            last = self._rows_at(node, np.array([column]))[:, 0]
            found = self._polish(last, self.pool.points[:, column], _LAST_ROUNDS, 0.02)
            if found is not None and (self.best is None or found.value > self.best.value):
                self.best = found
        self._give_up(node.bound)

    def _possible(self, node: _Node) -> bool:
        """Whether every limit by itself can be met by the pieces the node has left."""
        p = self.pieces
        if not self.resources:
            return True
        least = np.where(self.pool.dead, np.inf, self.least)
        lowest = np.minimum.reduceat(least, p.first, axis=1)
        for i, (low, high) in node.ranges.items():
            lowest[:, i] = least[:, low : high + 1].min(axis=1)
        return bool((lowest.sum(axis=1) <= self.limit + self.slackness).all())

    def _split(self, node: _Node, rows: Ints, weights: Floats) -> tuple[int, int, int, int] | None:
        p, pool = self.pieces, self.pool
        mixed = np.flatnonzero((rows != rows[:, :1]).any(axis=1))
        if mixed.size:
            # the split that lowers both sides' bounds most, as far as the columns so far can tell
            lead, i, at = -math.inf, -1, -1
            for j in mixed.tolist():
                left, right = int(rows[j].min()), int(rows[j].max())
                cut = min(max(math.floor(float(rows[j] @ weights)), left), right - 1)
                low, high = node.ranges.get(j, (int(p.first[j]), int(p.last[j])))
                values = pool.value[low : high + 1]
                whole = values.max(axis=0)
                with np.errstate(invalid="ignore"):
                    first = node.bound - (node.value - whole + values[: cut - low + 1].max(axis=0)).min()
                    second = node.bound - (node.value - whole + values[cut - low + 1 :].max(axis=0)).min()
                smaller, larger = sorted((float(first), float(second)))
                score = smaller + 0.2 * larger + 1e-12 * float(np.ptp(p.start_response[rows[j]]))
                if score > lead:
                    lead, i, at = score, j, cut
        else:
            k = int(np.argmin(node.value))
            now = self._rows_at(node, np.array([k]))[:, 0]
            with np.errstate(invalid="ignore"):
                regret = pool.value[now, k][p.owner] - pool.value[:, k]
            regret[np.isnan(regret)] = np.inf
            regret[now] = np.inf
            for j, (low, high) in node.ranges.items():
                regret[p.first[j] : low] = np.inf
                regret[high + 1 : p.last[j] + 1] = np.inf
            row = int(np.argmin(regret))
            if not math.isfinite(regret[row]):
                return None
            i = int(p.owner[row])
            at = min(row, int(now[i]))
        low, high = node.ranges.get(i, (int(p.first[i]), int(p.last[i])))
        return i, low, at, high
