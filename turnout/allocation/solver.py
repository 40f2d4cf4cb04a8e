"""Exact search: dual bounds, rounding, and branch and bound on the pieces.

See :mod:`turnout.allocation` for the mathematics in words.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from time import perf_counter

import numpy as np

from turnout.allocation import overlap
from turnout.allocation.bounds import (
    Builder,
    Floats,
    Ints,
    Model,
    Pieces,
    Pool,
    bury_hopeless,
    cut_into_pieces,
    lowest_point,
)
from turnout.allocation.coupled import CoupledSearch, Locked
from turnout.allocation.feasibility import smallest_conflict, some_portfolio
from turnout.allocation.problem import (
    TOLERANCE,
    Candidate,
    Choice,
    Group,
    InfeasibleError,
    Problem,
    Solution,
    Status,
    Unspent,
    contradictions,
    locks_above,
)
from turnout.curves import Hill, Logistic

#: Rounding in the bound's arithmetic, relative; added to every bound that is reported.
_ROUNDING = 1e-11
_ROOT_CUTS, _NODE_CUTS = 40, 6


@dataclass(slots=True)
class _Portfolio:
    """A feasible answer in scaled units: one row (piece) and one x per free candidate."""

    rows: Ints
    x: Floats
    money: Floats
    hours: Floats
    response: Floats
    objective: float


@dataclass(slots=True)
class _Node:
    """A subproblem: the pieces each restricted candidate may still use, and its dual values at the pool's columns."""

    ranges: dict[int, tuple[int, int]]
    value: Floats
    slack_money: Floats
    slack_hours: Floats
    generation: int = 0
    basis: tuple[int, int, int] | None = None  # of its parent's cutting-plane model

    @property
    def bound(self) -> float:
        return float(self.value.min())


class _Search:
    """Branch and bound over the free candidates of one problem. All amounts are scaled: budget, hours and the sum of
    the candidates' largest responses are 1."""

    def __init__(self, candidates: Sequence[Candidate], problem: Problem, budget: float, hours: float) -> None:
        self.candidates = list(candidates)
        build = Builder()
        build.bend_pieces(sum(c.curve.inflection > 0 for c in self.candidates))
        for i, c in enumerate(self.candidates):
            cut_into_pieces(build, i, c, budget, hours, problem.unit)
        owner = np.asarray(build.owner)
        most = np.asarray(build.most)
        first = np.searchsorted(owner, np.arange(len(self.candidates)))
        largest = np.maximum.reduceat(most, first, axis=0)
        needs = largest.sum(axis=0)
        self.money_scale = budget if budget > 0 else 1.0
        self.hours_scale = hours if 0 < hours < math.inf else 1.0
        self.response_scale = float(needs[2]) if needs[2] > 0 else 1.0
        self.has_money = bool(needs[0] > budget * (1 + TOLERANCE))
        self.has_hours = bool(needs[1] > hours * (1 + TOLERANCE))
        self.pieces = Pieces(build, self.money_scale, self.hours_scale, self.response_scale)
        self.budget = budget / self.money_scale
        self.hours = hours / self.hours_scale
        self.money_worth = problem.money_worth * self.money_scale / self.response_scale
        self.hours_worth = problem.hours_worth * self.hours_scale / self.response_scale
        self.pool = Pool(
            self.pieces, self.budget, self.hours if self.has_hours else 0.0, self.money_worth, self.hours_worth
        )
        # D(0, 0) <= 1 and D >= λ·B + μ·H bound the multipliers of the minimum
        self.box = (
            1.0 / self.budget if self.has_money else 0.0,
            1.0 / self.hours if self.has_hours and self.hours > 0 else 0.0,
        )
        if self.has_hours and self.hours == 0:  # what needs hours was cut away already
            self.has_hours = False
        self._families()
        self.best: _Portfolio | None = None
        self.tried: set[bytes] = set()
        self.closed = 0.0  # the highest bound of what was given up
        self.gap = 0.0
        self.goal: float | None = None
        self.buried_at = -1.0  # the value hopeless pieces were last looked for with
        self.nodes = 0
        self.multipliers = (0.0, 0.0)

    def _families(self) -> None:
        """Parameters by candidate, to evaluate true responses together."""
        self.hill: Ints = np.asarray([i for i, c in enumerate(self.candidates) if isinstance(c.curve, Hill)], np.intp)
        hills = [c.curve for c in self.candidates if isinstance(c.curve, Hill)]
        self.hill_top = np.asarray([h.top for h in hills]) / self.response_scale
        self.hill_half = np.asarray([h.half for h in hills])
        self.hill_shape = np.asarray([h.shape for h in hills])
        self.logistic: Ints = np.asarray(
            [i for i, c in enumerate(self.candidates) if isinstance(c.curve, Logistic)], np.intp
        )
        logistics = [c.curve for c in self.candidates if isinstance(c.curve, Logistic)]
        self.logistic_top = np.asarray([h.top for h in logistics]) / self.response_scale
        self.logistic_rate = np.asarray([h.rate for h in logistics])
        self.others = [i for i, c in enumerate(self.candidates) if not isinstance(c.curve, Hill | Logistic)]

    def _responses(self, rows: Ints, x: Floats) -> Floats:
        """True response of one x per candidate, scaled."""
        r = np.zeros(x.size)
        if self.hill.size:
            with np.errstate(divide="ignore", over="ignore"):
                r[self.hill] = self.hill_top / (1.0 + (self.hill_half / x[self.hill]) ** self.hill_shape)
        if self.logistic.size:
            r[self.logistic] = self.logistic_top * np.tanh(0.5 * self.logistic_rate * x[self.logistic])
        points = self.pieces.is_point[rows]
        for i in self.others:
            if not points[i]:
                r[i] = float(self.candidates[i].curve(float(x[i]))) / self.response_scale
        return np.where(points, self.pieces.start_response[rows], r)

    # --- bounds ------------------------------------------------------------------------------------------------

    def _first_columns(self) -> None:
        """A coarse grid of multipliers to start from."""
        lam = np.concatenate(([0.0], self.box[0] * 2.0 ** -np.arange(13.0))) if self.has_money else np.zeros(1)
        if self.has_hours:
            lam = np.concatenate(([0.0], self.box[0] * 3.0 ** -np.arange(7.0))) if self.has_money else lam
            mu = np.concatenate(([0.0], self.box[1] * 4.0 ** -np.arange(6.0)))
            grid = np.meshgrid(lam, mu, indexing="ij")
            self.pool.add(grid[0].ravel(), grid[1].ravel())
        else:
            self.pool.add(lam, np.zeros_like(lam))

    def _refresh(self, node: _Node) -> None:
        """Bring a node's dual values up to the pool's columns."""
        pool = self.pool
        since = node.value.size if node.generation == pool.generation else 0
        if since == pool.size:
            return
        value = pool.total[since:].copy()
        money, hours = pool.total_money[since:].copy(), pool.total_hours[since:].copy()
        columns = np.arange(since, pool.size)
        for i, (low, high) in node.ranges.items():
            rows = pool.value[low : high + 1, since:].argmax(axis=0) + low
            with np.errstate(invalid="ignore"):
                value += pool.value[rows, columns] - pool.root_value[i, since:]
            money -= pool.money[rows, columns] - pool.root_money[i, since:]
            hours -= pool.hours[rows, columns] - pool.root_hours[i, since:]
        value[np.isnan(value)] = -np.inf  # no piece is left
        if not self.has_hours:
            hours = np.zeros_like(hours)
        node.generation = pool.generation
        if since:
            value = np.concatenate((node.value, value))
            money = np.concatenate((node.slack_money, money))
            hours = np.concatenate((node.slack_hours, hours))
        node.value, node.slack_money, node.slack_hours = value, money, hours

    def _tighten(self, node: _Node, rounds: int, precision: float) -> Model | None:
        """Lower a node's bound by cutting planes in (λ, μ); the last model tells which pieces its relaxation mixes."""
        pool = self.pool
        model: Model | None = None
        # where not using a candidate is no longer allowed, resources may be dearer than in the whole problem
        loose = 256.0 if node.ranges or pool.generation else 1.0
        box = (self.box[0] * loose, self.box[1] * loose)
        for _ in range(rounds):
            model = lowest_point(node.value, node.slack_money, node.slack_hours, pool.lam, pool.mu, box, node.basis)
            node.basis = model.basis if model is not None else None
            if model is None or node.bound - model.value <= precision * node.bound or node.bound <= self.cutoff:
                break
            # the model's lowest point, and halfway to the best one: cutting planes alone tend to swing
            best = int(np.argmin(node.value))
            lam = np.array([model.lam, 0.5 * (model.lam + pool.lam[best])])
            mu = np.array([model.mu, 0.5 * (model.mu + pool.mu[best])])
            pool.add(lam, mu)
            self._refresh(node)
        return model

    def _rows_at(self, node: _Node, columns: Ints) -> Ints:
        """The best piece of every candidate at some columns, within the node: shape (n, columns)."""
        rows = self.pool.root_row[:, columns].copy()
        for i, (low, high) in node.ranges.items():
            rows[i] = self.pool.value[low : high + 1, columns].argmax(axis=0) + low
        return rows

    # --- feasible portfolios -----------------------------------------------------------------------------------

    @property
    def value(self) -> float:
        """The best objective so far."""
        return self.best.objective if self.best is not None else 0.0

    def _fits(self, rows: Ints) -> bool:
        p = self.pieces
        return bool(
            p.start_money[rows].sum() <= self.budget * (1 + TOLERANCE)
            and p.start_hours[rows].sum() <= self.hours * (1 + TOLERANCE)
        )

    def _repaired(self, rows: Ints, column: int) -> Ints | None:
        """Pieces that fit, reached by giving up the least value per resource freed."""
        p, pool = self.pieces, self.pool
        rows = rows.copy()
        value = pool.value[:, column]
        for _ in range(2 * rows.size):
            over_money = p.start_money[rows].sum() - self.budget * (1 + TOLERANCE)
            over_hours = p.start_hours[rows].sum() - self.hours * (1 + TOLERANCE) if self.has_hours else 0.0
            if over_money <= 0 and over_hours <= 0:
                return rows
            use = p.start_money if over_money > 0 else p.start_hours
            freed = use[rows][p.owner] - use
            with np.errstate(divide="ignore", invalid="ignore"):
                price = np.where(freed > 1e-15, (value[rows][p.owner] - value) / freed, np.inf)
            price[np.isnan(price)] = np.inf
            row = int(np.argmin(price))
            if not math.isfinite(price[row]):
                return None
            rows[p.owner[row]] = row
        return None

    def _consider(self, rows: Ints, column: int) -> None:
        """Make the best of one choice of pieces, from a column of the pool on, and keep it if it is the best so far."""
        key = rows.tobytes()
        if key in self.tried:
            return
        self.tried.add(key)
        found = self._polish(rows, column)
        filled = self._fill(found)
        if filled is not None:
            found = filled if self.pieces.is_point[filled.rows].all() else self._polish(filled.rows, column)
        if self.best is None or found.objective > self.best.objective:
            self.best = found

    def _portfolio(self, rows: Ints, x: Floats, money: Floats, hours: Floats) -> _Portfolio:
        response = self._responses(rows, x)
        worth = self.money_worth * money.sum() + self.hours_worth * hours.sum()
        return _Portfolio(rows, x, money, hours, response, math.fsum(response) - float(worth))

    def _polish(self, rows: Ints, column: int) -> _Portfolio:
        """The best x for fixed pieces: a concave problem, solved through its multipliers.

        Between two multipliers that just miss and just meet a resource, the portfolio on the line between their best
        responses uses it up; all pieces being concave, it is at least as good as the line says.
        """
        p = self.pieces
        if p.is_point[rows].all():
            return self._portfolio(rows, p.start_x[rows], p.start_money[rows], p.start_hours[rows])
        sub = p.take(rows)
        lam, mu = float(self.pool.lam[column]), float(self.pool.mu[column])
        x, money, hours, used_lam = self._spend_money(sub, lam, 0.0)
        used_mu = 0.0
        if self.has_hours and hours.sum() > self.hours * (1 + TOLERANCE):
            x, money, hours, used_lam, used_mu = self._spend_both(sub, used_lam, mu, (x, money, hours))
        if self.has_money or self.has_hours:
            self.pool.add(
                np.array([used_lam if self.has_money else 0.0]), np.array([used_mu if self.has_hours else 0.0])
            )
        return self._portfolio(rows, x, money, hours)

    def _spend_money(self, sub: Pieces, lam: float, mu: float) -> tuple[Floats, Floats, Floats, float]:
        """x, money, hours and λ of the best portfolio within the budget at a price μ of hours."""
        offsets = np.array([-0.5, -0.2, -0.05, -1e-2, -1e-3, -1e-5, 1e-5, 1e-3, 1e-2, 0.05, 0.2, 0.5])
        limit = self.budget * (1 + 1e-12)
        grid = np.concatenate(([0.0], lam * (1 + offsets), [2 * lam + 1e-12, 8 * lam + 1e-9, 1e3, 1e9]))
        for _ in range(12):
            _, x, money, hours, _ = sub.best(grid + self.money_worth, np.full(grid.size, mu + self.hours_worth))
            spent = money.sum(axis=0)
            within = int(np.argmax(spent <= limit)) if (spent <= limit).any() else -1
            if within == 0:
                return x[:, 0], money[:, 0], hours[:, 0], float(grid[0])
            if within < 0:  # only at the very start of every piece
                return sub.start_x.copy(), sub.start_money.copy(), sub.start_hours.copy(), float(grid[-1])
            low, high = grid[within - 1], grid[within]
            if high - low <= 3e-5 * high:  # the line between the two loses the square of this
                break
            if low > 0:
                grid = np.geomspace(low, high, 12)
            else:
                grid = np.concatenate(([0.0], high * 10.0 ** -np.arange(11.0)[::-1]))
            grid[-1] = high
        excess, rest = spent[within - 1] - spent[within], self.budget - spent[within]
        t = min(max(rest / excess, 0.0), 1.0) if excess > 0 else 0.0
        blend = [part[:, within] + t * (part[:, within - 1] - part[:, within]) for part in (x, money, hours)]
        return blend[0], blend[1], blend[2], float(high)

    def _spend_both(
        self, sub: Pieces, lam: float, mu: float, free: tuple[Floats, Floats, Floats]
    ) -> tuple[Floats, Floats, Floats, float, float]:
        """The same with hours binding too: bisection on μ, money solved inside."""
        over, over_mu = free, 0.0
        high = max(mu * (1 + 1e-5), 1e-9)
        within = self._spend_money(sub, lam, high)
        step = 1e-3
        while within[2].sum() > self.hours and high < 1e9:
            over, over_mu = within[:3], high
            high *= 1 + step
            step *= 8.0
            within = self._spend_money(sub, within[3], high)
        if within[2].sum() > self.hours:
            start = sub.start_x.copy(), sub.start_money.copy(), sub.start_hours.copy()
            return (*start, within[3], high)
        below = mu * (1 - 1e-5)  # the bound's price is nearly right: try just below it first
        for _ in range(60):
            if high - over_mu <= 3e-5 * high or high < 1e-12:
                break
            middle = math.sqrt(over_mu * high) if over_mu > 0 else high / 16.0
            if over_mu < below < high:
                middle = below
            below = 0.0
            tried = self._spend_money(sub, within[3], middle)
            if tried[2].sum() > self.hours:
                over, over_mu = tried[:3], middle
            else:
                within, high = tried, middle
        excess = over[2].sum() - within[2].sum()
        t = min(max((self.hours - within[2].sum()) / excess, 0.0), 1.0) if excess > 0 else 0.0
        blend = [w + t * (o - w) for w, o in zip(within[:3], over, strict=True)]
        return blend[0], blend[1], blend[2], within[3], high

    def _fill(self, found: _Portfolio) -> _Portfolio | None:
        """Steps up that the resources left still pay for, the largest gain first; ``None`` when there is none."""
        p = self.pieces
        rows, x = found.rows.copy(), found.x.copy()
        money, hours, response = found.money.copy(), found.hours.copy(), found.response.copy()
        changed = False
        for _ in range(4 * rows.size):
            left_money = self.budget * (1 + TOLERANCE) - money.sum()
            left_hours = self.hours * (1 + TOLERANCE) - hours.sum()
            more_money = p.start_money - money[p.owner]
            more_hours = p.start_hours - hours[p.owner]
            gain = p.start_response - response[p.owner]
            gain = gain - self.money_worth * more_money - self.hours_worth * more_hours
            gain[(more_money > left_money) | (more_hours > left_hours)] = 0.0
            row = int(np.argmax(gain))
            if gain[row] <= 1e-12:
                break
            i = p.owner[row]
            rows[i], x[i], money[i] = row, p.start_x[row], p.start_money[row]
            hours[i], response[i] = p.start_hours[row], p.start_response[row]
            changed = True
        return self._portfolio(rows, x, money, hours) if changed else None

    def _round(self, node: _Node, model: Model | None) -> tuple[Ints, Floats]:
        """Try the feasible choices of pieces near the node's relaxation.

        Returns the pieces the relaxation mixes, shape (n, columns), and their weights.
        """
        pool = self.pool
        if model is None:
            columns, weights = np.array([int(np.argmin(node.value))]), np.ones(1)
        else:
            columns, weights = model.columns, model.weights
        rows = self._rows_at(node, columns)
        column = int(columns[np.argmax(weights)])
        base = rows[:, int(np.argmax(weights))]
        mixed = np.flatnonzero((rows != base[:, None]).any(axis=1))
        if mixed.size > 4:
            size = np.ptp(self.pieces.start_money[rows[mixed]], axis=1)
            size = size + np.ptp(self.pieces.start_hours[rows[mixed]], axis=1)
            mixed = mixed[np.argsort(-size, kind="stable")[:4]]
        options = [sorted(set(rows[i].tolist())) for i in mixed]
        ranked: list[tuple[float, int, Ints]] = []
        base_value = pool.value[base].sum(axis=0) + pool.paid
        for picks in product(*options):
            trial, estimate = base.copy(), base_value
            for i, row in zip(mixed, picks, strict=True):
                estimate = estimate + pool.value[row] - pool.value[trial[i]]
                trial[i] = row
            if self._fits(trial):
                ranked.append((-float(estimate.min()), len(ranked), trial))
        ranked.sort(key=lambda entry: entry[:2])
        for negative, _, trial in ranked[:2]:
            if -negative > self.value * (1 + 1e-9):
                self._consider(trial, column)
        if not ranked:
            repaired = self._repaired(base, column)
            if repaired is not None:
                self._consider(repaired, column)
        return rows, weights

    # --- the search --------------------------------------------------------------------------------------------

    @property
    def cutoff(self) -> float:
        """A bound at or below this is close enough, or below the goal."""
        enough = self.value / (1.0 - self.gap) if self.best is not None else -math.inf
        return enough if self.goal is None else max(enough, self.goal * (1.0 - 1e-10))

    def _give_up(self, bound: float) -> None:
        self.closed = max(self.closed, bound)

    def _bury(self) -> None:
        """Take out the pieces that no better portfolio contains."""
        self._give_up(bury_hopeless(self.pool, self.pieces.owner, self.cutoff))

    def run(self, gap: float, stop_at: float, goal: float | None = None) -> float:
        """Search until the gap is closed or the time is up; returns the upper bound (scaled).

        ``goal``: it is enough to know whether this much can be reached.
        """
        self.gap, self.goal = gap, goal
        self._first_columns()
        empty = np.empty(0)
        root = _Node({}, empty, empty, empty)
        self._refresh(root)
        column = int(np.argmin(root.value))
        # the first piece of everything, nothing for most, is always possible
        self._consider(self.pieces.first.copy(), column)
        heap: list[tuple[float, int, _Node]] = [(-root.bound, 0, root)]
        rounds = _ROOT_CUTS
        while heap:
            negative, _, node = heapq.heappop(heap)
            if self.nodes and ((goal is not None and self.value >= goal) or perf_counter() > stop_at):
                heapq.heappush(heap, (negative, 0, node))
                break
            self._refresh(node)
            if node.bound <= self.cutoff:
                self._give_up(node.bound)
                continue
            if heap and node.bound < -heap[0][0] * (1 - 1e-9):  # others are more promising now
                heapq.heappush(heap, (-node.bound, self.nodes, node))
                self.nodes += 1
                continue
            self.nodes += 1
            self._expand(node, heap, rounds)
            rounds = _NODE_CUTS
        upper = max([self.closed, self.value, *(-entry[0] for entry in heap)])
        column = int(np.argmin(self.pool.total))
        self.multipliers = (float(self.pool.lam[column]), float(self.pool.mu[column]))
        return upper

    def _expand(self, node: _Node, heap: list[tuple[float, int, _Node]], rounds: int) -> None:
        rows, weights = np.empty((0, 0), dtype=np.intp), np.empty(0)
        # at the root the coarse bound often closes the gap already
        for precision in (0.25,) if node.ranges else (0.5, 0.05):
            model = self._tighten(node, rounds, self.gap * precision)
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
        if split is None:  # one piece each
            if not self.pieces.is_point[rows[:, 0]].all():
                self._give_up(node.bound)
            return
        i, low, at, high = split
        for begin, end in ((low, at), (at + 1, high)):
            child = self._child(node, i, begin, end)
            if not math.isfinite(child.bound):
                continue
            if child.bound <= self.cutoff:
                self._give_up(child.bound)
            else:
                heapq.heappush(heap, (-child.bound, 2 * self.nodes + (begin > low), child))

    def _child(self, node: _Node, i: int, begin: int, end: int) -> _Node:
        empty = np.empty(0)
        child = _Node({**node.ranges, i: (begin, end)}, empty, empty, empty, basis=node.basis)
        if self._fits(self._least_rows(child)):
            self._refresh(child)
        else:
            child.value = np.array([-np.inf])
        return child

    def _least_rows(self, node: _Node) -> Ints:
        """The first piece each candidate may still use."""
        p, dead = self.pieces, self.pool.dead
        rows = p.first.copy()
        for i, (low, _) in node.ranges.items():
            rows[i] = low
        while (gone := dead[rows] & (rows < p.last)).any():
            rows[gone] += 1
        return rows

    def _split(self, node: _Node, rows: Ints, weights: Floats) -> tuple[int, int, int, int] | None:
        """The candidate to branch on and where: (candidate, low, last piece of the left part, high)."""
        p, pool = self.pieces, self.pool
        mixed = np.flatnonzero((rows != rows[:, :1]).any(axis=1))
        if mixed.size:
            money, hours = p.start_money[rows[mixed]], p.start_hours[rows[mixed]]
            size = np.ptp(money, axis=1) * max(self.box[0], 1e-3) + np.ptp(hours, axis=1) * max(self.box[1], 1e-3)
            i = int(mixed[np.argmax(size + 1e-12 * np.ptp(rows[mixed], axis=1))])
            left, right = int(rows[i].min()), int(rows[i].max())
            at = min(max(math.floor(float(rows[i] @ weights)), left), right - 1)
        else:  # the pieces agree: whatever is left is where some other piece comes nearest
            column = int(np.argmin(node.value))
            now = self._rows_at(node, np.array([column]))[:, 0]
            with np.errstate(invalid="ignore"):
                regret = pool.value[now, column][p.owner] - pool.value[:, column]
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


# --- from the search to an answer ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Line:
    """One candidate's x and spend while the answer is put together."""

    candidate: Candidate
    x: float
    spend: float
    hours: float
    divisible: bool  # x may move by a unit of money
    top: float = 0.0  # the largest x its own limits and curve allow
    worth: float = 1.0  # what one more of its own response adds to the total


def solve(problem: Problem, *, gap: float = 1e-4, deadline: float = 1.0, goal: float | None = None) -> Solution:
    """The best portfolio, with a proof of how good it is.

    Args:
        gap: stop when (upper bound − value) / upper bound is proved to be at most this.
        deadline: seconds after which the best portfolio found is returned with its bound.
        goal: stop as soon as the objective is at least this, or proved to stay below it.

    Raises:
        InfeasibleError: constraints contradict one another; ``problems`` names them.
        ValueError: ``gap`` is not in [0, 1) or ``deadline`` is not positive.
    """
    started = perf_counter()
    if not 0 <= gap < 1:
        raise ValueError(f"gap must be in [0, 1); got {gap}")
    if not deadline > 0:
        raise ValueError(f"deadline must be positive; got {deadline}")
    defects = contradictions(problem) or locks_above(problem)
    if defects:
        raise InfeasibleError(defects)
    lines = {
        c.name: _Line(c, c.lock or 0.0, c.money_at(c.lock or 0.0), c.hours_at(c.lock or 0.0), divisible=False)
        for c in problem.candidates
    }
    free = sorted((c for c in problem.candidates if c.lock is None and not c.is_out), key=lambda c: c.name)
    budget = max(problem.budget - math.fsum(line.spend for line in lines.values()), 0.0)
    hours = max(problem.hours - math.fsum(line.hours for line in lines.values()), 0.0)
    if problem.unit is not None:
        budget = math.floor(budget / problem.unit + 1e-9) * problem.unit
    search = _search_coupled if problem.is_coupled or problem.groups else _search_apart
    found = search(problem, lines, free, (budget, hours), gap, started + deadline, goal)
    return _answer(problem, lines, found, gap, started)


@dataclass(frozen=True, slots=True)
class _Found:
    """What a search says of the whole: bound of the objective, what one more unit of money and hour brings, which group
    limits hold it."""

    upper: float
    multipliers: tuple[float, float] = (0.0, 0.0)
    nodes: int = 0
    held: tuple[str, ...] = ()


def _search_apart(
    problem: Problem,
    lines: dict[str, _Line],
    free: list[Candidate],
    available: tuple[float, float],
    gap: float,
    stop_at: float,
    goal: float | None,
) -> _Found:
    """Decide the free lines where nobody depends on others."""
    locked = problem.organic
    locked += math.fsum(float(line.candidate.curve(line.x)) for line in lines.values() if line.x > 0)
    locked -= math.fsum(problem.money_worth * line.spend + problem.hours_worth * line.hours for line in lines.values())
    locked += math.fsum(
        float(c.curve(0.0)) for c in problem.candidates if (c.is_out or c.lock is not None) and not c.lock
    )
    if not free:
        return _Found(locked)
    search = _Search(free, problem, *available)
    wanted = None if goal is None else (goal - locked) / search.response_scale
    upper = search.run(0.9 * gap, stop_at, wanted)  # the rest of the gap is for making money payable
    upper *= search.response_scale
    multipliers = (
        search.multipliers[0] * search.response_scale / search.money_scale,
        search.multipliers[1] * search.response_scale / search.hours_scale,
    )
    assert search.best is not None
    points = search.pieces.is_point[search.best.rows]
    _take_over(lines, free, search.best.x, search.best.money * search.money_scale, points)
    _settle([lines[c.name] for c in free], problem, available, multipliers[0])
    return _Found(upper + locked, multipliers, search.nodes)


def _search_coupled(
    problem: Problem,
    lines: dict[str, _Line],
    free: list[Candidate],
    available: tuple[float, float],
    gap: float,
    stop_at: float,
    goal: float | None,
) -> _Found:
    """The same where candidates share audiences or feed on one another."""
    fixed = [line for line in lines.values() if line.candidate.lock is not None or line.candidate.is_out]
    cost = math.fsum(problem.money_worth * line.spend + problem.hours_worth * line.hours for line in fixed)
    if not free:
        if problem.groups and (defects := smallest_conflict(problem)):
            raise InfeasibleError(defects)
        return _Found(float(_credited(problem, lines).total) - cost)
    locked = Locked(
        {line.candidate.name: line.spend for line in fixed},
        {line.candidate.name: float(line.candidate.curve(line.x)) for line in fixed},
        frozenset(line.candidate.name for line in fixed if line.x > 0),
    )
    search = CoupledSearch(free, problem, locked, *available)
    wanted = None if goal is None else (goal + cost) / search.response_scale
    upper = search.run(0.9 * gap, stop_at, wanted) * search.response_scale
    if search.best is None:
        x = some_portfolio(problem)
        if x is None:
            raise InfeasibleError(smallest_conflict(problem))
        for c in free:  # possible, but nothing the search could tell apart: any portfolio, with the bound of everything
            line = lines[c.name]
            line.x, line.spend, line.hours = x[c.name], c.money_at(x[c.name]), c.hours_at(x[c.name])
        return _Found(search.everything * search.response_scale - cost, (0.0, 0.0), search.nodes)
    prices = {r.name: float(p) for r, p in zip(search.resources, search.prices, strict=True)}
    multipliers = (
        prices.get("budget", 0.0) * search.response_scale / search.money_scale,
        prices.get("hours", 0.0) * search.response_scale / search.hours_scale,
    )
    points = search.pieces.is_point[search.best.rows]
    _take_over(lines, free, search.best.x, search.best.money * search.money_scale, points)
    _weigh(problem, lines)
    _settle([lines[c.name] for c in free], problem, available, multipliers[0])
    held = tuple(name for name, price in prices.items() if name not in ("budget", "hours") and price > 1e-9)
    return _Found(upper - cost, multipliers, search.nodes, held)


def _take_over(lines: dict[str, _Line], free: list[Candidate], x: Floats, spend: Floats, points: Floats) -> None:
    for i, c in enumerate(free):
        line = lines[c.name]
        line.x = float(x[i])
        line.divisible = not bool(points[i])
        line.spend = float(spend[i]) if line.x > 0 else 0.0
        line.hours = c.hours_at(line.x)
        line.top = min(c.maximum, c.curve.saturated)


def _credited(problem: Problem, lines: dict[str, _Line]) -> overlap.Credited:
    return overlap.credit(
        problem.audiences,
        [c.reach for c in problem.candidates],
        [float(c.curve(lines[c.name].x)) for c in problem.candidates],
        [c.of_others for c in problem.candidates],
        problem.organic,
    )


def _weigh(problem: Problem, lines: dict[str, _Line]) -> None:
    """What one more of each candidate's own response (or share) adds to the total."""
    credited = _credited(problem, lines)
    times = float(credited.total / credited.base) if credited.base > 0 else 1.0
    reach = overlap.reach_matrix(problem.audiences, [c.reach for c in problem.candidates])
    for c, row in zip(problem.candidates, reach, strict=True):
        line = lines[c.name]
        if c.of_others:
            line.worth = float(credited.total) / (1.0 + float(c.curve(line.x)))
        else:
            line.worth = times * float(row @ credited.fresh + 1.0 - row.sum())


def _settle(lines: list[_Line], problem: Problem, available: tuple[float, float], marginal: float) -> None:
    """Make spends payable: whole units of money that sum to at most the budget, and to all of it where it binds."""
    for line in lines:
        if line.divisible and line.candidate.unit is not None and line.x > 0:  # too many units to search one by one
            step = line.candidate.unit
            line.x = max(
                math.floor(line.x / step + 1e-6) * step, math.ceil(line.candidate.minimum / step - 1e-6) * step
            )
            line.spend, line.hours = line.candidate.money_at(line.x), line.candidate.hours_at(line.x)
            line.divisible = False
    moving = [line for line in lines if line.divisible and line.candidate.cost > 0 and line.x > 0]
    if problem.unit is not None:
        _Payable(lines, moving, problem, problem.unit).settle(available, marginal)
        return
    rest = available[0] - math.fsum(line.spend for line in lines)
    if moving and abs(rest) <= 1e-9 * available[0]:  # rounding: the largest spend takes it
        line = max(moving, key=lambda entry: entry.spend)
        line.spend += rest
        line.x = (line.spend - line.candidate.fixed_cost) / line.candidate.cost


class _Payable:
    """Spends as whole numbers of the smallest payable amount.

    Every spend that may move is first rounded down. What that frees goes, unit by unit, to whoever gains most from it:
    for concave responses the best there is.
    """

    def __init__(self, lines: list[_Line], moving: list[_Line], problem: Problem, unit: float) -> None:
        self.lines, self.moving, self.unit = lines, moving, unit
        self.worth = problem.money_worth
        self.counts: dict[str, int] = {}
        self.groups = [
            (frozenset(g.members), least, most)
            for g in problem.groups
            for least, most in [_payable_limits(g, problem, unit)]
        ]
        for line in moving:
            c = line.candidate
            least = math.ceil((c.fixed_cost + c.cost * c.minimum) / unit - 1e-6)
            self.counts[c.name] = max(math.floor(line.spend / unit + 1e-6), least, 0)
            line.hours = c.hours_at(self._x(line))
        self.every = lines
        self.still = [line for line in lines if line.candidate.name not in self.counts]

    def _x(self, line: _Line, by: int = 0) -> float:
        c = line.candidate
        return ((self.counts[c.name] + by) * self.unit - c.fixed_cost) / c.cost

    def _gain(self, line: _Line, by: int) -> float:
        """What ``by`` units more bring; −inf where the candidate cannot move there."""
        c, moved = line.candidate, self._x(line, by)
        if moved > line.top * (1 + TOLERANCE) or moved < c.minimum * (1 - TOLERANCE) or moved <= 0:
            return -math.inf
        now = float(c.curve(max(self._x(line), 0.0)))
        return line.worth * (float(c.curve(moved)) - now) - by * self.unit * self.worth

    def settle(self, available: tuple[float, float], marginal: float) -> None:
        fixed = sum(round(line.spend / self.unit) for line in self.still)
        left = round(available[0] / self.unit) - fixed - sum(self.counts.values())
        left = self._give_back(left)
        for members, _, most in self.groups:
            over = self._of_group(members) - most
            if over > 0:
                left += int(over) + self._give_back(-int(over), members)
        left = self._reach_least(left)
        if marginal > 0 and left > 0:
            self._hand_out(left, max(available[1] - math.fsum(line.hours for line in self.lines), 0.0))
        for line in self.moving:
            line.spend = _units(self.counts[line.candidate.name], self.unit)
            line.x = max(self._x(line), 0.0)
            line.hours = line.candidate.hours_at(line.x)
        for line in self.still:
            line.spend = _units(round(line.spend / self.unit), self.unit)

    def _give_back(self, left: int, members: frozenset[str] | None = None) -> int:
        """Minimums that were rounded up may overdraw the budget or a group's most (``left`` below 0): take from whoever
        loses least, or drop one. Returns what is left then."""
        while left < 0:
            lines = [line for line in self.moving if members is None or line.candidate.name in members]
            if not lines:
                break
            line = max(lines, key=lambda entry: self._gain(entry, -1))
            if self._gain(line, -1) > -math.inf:
                self.counts[line.candidate.name] -= 1
                left += 1
                continue
            line = min(lines, key=lambda entry: entry.worth * float(entry.candidate.curve(entry.x)))
            left += self.counts.pop(line.candidate.name)
            line.x = line.spend = line.hours = 0.0
            self.moving.remove(line)
        return left

    def _of_group(self, members: frozenset[str]) -> int:
        still = sum(
            round(line.spend / self.unit) for line in self.every if line.candidate.name in members - set(self.counts)
        )
        return still + sum(count for name, count in self.counts.items() if name in members)

    def _reach_least(self, left: int) -> int:
        """Rounding down may have left a group below its least money: it gets that back first."""
        for members, least, _ in self.groups:
            mine = [line for line in self.moving if line.candidate.name in members]
            for _ in range(4 * len(mine)):
                if left <= 0 or self._of_group(members) >= least:
                    break
                line = max(mine, key=lambda entry: self._gain(entry, +1))
                if self._gain(line, +1) == -math.inf:
                    break
                self.counts[line.candidate.name] += 1
                left -= 1
            for others, _, most in self.groups:  # which another group that is full has to give
                over = self._of_group(others) - most
                if over > 0:
                    left += int(over) + self._give_back(-int(over), others - members)
        return left

    def _hand_out(self, left: int, hours: float) -> None:
        offers = [(-self._gain(line, +1), k) for k, line in enumerate(self.moving)]
        heapq.heapify(offers)
        for _ in range(min(left, 4 * len(offers))):
            if not offers:
                break
            loss, k = heapq.heappop(offers)
            if loss >= 0:
                break
            line = self.moving[k]
            if any(line.candidate.name in m and self._of_group(m) >= most for m, _, most in self.groups):
                continue
            more_hours = line.candidate.hours * self.unit / line.candidate.cost
            if more_hours > hours:
                continue
            hours -= more_hours
            self.counts[line.candidate.name] += 1
            heapq.heappush(offers, (-self._gain(line, +1), k))


def _payable_limits(group: Group, problem: Problem, unit: float) -> tuple[float, float]:
    """Least and most of a group, in units of money, without what is locked."""
    least, most = group.money(problem.budget)
    locked = math.fsum(c.money_at(c.lock or 0.0) for c in problem.candidates if c.name in group.members)
    return math.ceil((least - locked) / unit - 1e-6), (
        math.floor((most - locked) / unit + 1e-6) if math.isfinite(most) else math.inf
    )


def _units(count: int, unit: float) -> float:
    """``count · unit`` as the float nearest to it: 1,234 cents are 12.34, not 12.340000000000002."""
    per_one = round(1.0 / unit)
    return count / per_one if unit < 1 and abs(per_one * unit - 1.0) < 1e-13 else float(count * unit)


def _answer(
    problem: Problem,
    lines: dict[str, _Line],
    found: _Found,
    gap: float,
    started: float,
) -> Solution:
    multipliers = found.multipliers
    choices = tuple(_choice(lines[c.name], problem) for c in problem.candidates)
    organic, lost = problem.organic, 0.0
    if problem.is_coupled:
        _weigh(problem, lines)
        credited = _credited(problem, lines)
        organic, lost = float(credited.organic), float(credited.overlap)
        choices = tuple(
            replace(
                choice,
                response=float(r),
                alone=float(r) if c.of_others else choice.alone,
                marginal_response=choice.marginal_response and choice.marginal_response * lines[c.name].worth,
            )
            for c, choice, r in zip(problem.candidates, choices, credited.response, strict=True)
        )
    spend, hours = math.fsum(c.spend for c in choices), math.fsum(c.hours for c in choices)
    response = math.fsum(c.response for c in choices)
    objective = response + organic - problem.money_worth * spend - problem.hours_worth * hours
    upper = max(found.upper + abs(found.upper) * _ROUNDING, objective)
    reached = (upper - objective) / upper if upper > 0 else 0.0
    unspent = max(problem.budget - spend, 0.0)
    if multipliers[0] == 0 and unspent <= problem.budget * 1e-9 and spend > 0:
        # the budget binds, but no other candidate competes for it: what the next unit brings to whoever can use it
        offers = [c.marginal_response for c in choices if c.marginal_response and "maximum" not in c.binding]
        multipliers = (max([0.0, *offers]), multipliers[1])
    binding = [f"{c.name}.{limit}" for c in choices for limit in c.binding]
    binding[:0] = found.held
    if multipliers[1] > 0:
        binding.insert(0, "hours")
    if multipliers[0] > 0:
        binding.insert(0, "budget")
    reason = _unspent_reason(problem, lines, choices, multipliers, unspent)
    return Solution(
        choices=choices,
        response=response,
        objective=objective,
        upper_bound=upper,
        gap=reached,
        marginal_response=multipliers[0],
        marginal_response_hours=multipliers[1],
        binding=tuple(binding),
        total_spend=spend,
        total_hours=hours,
        unspent=unspent if reason is not None else 0.0,
        unspent_reason=reason,
        proved=reached <= gap * (1 + 1e-6) + 1e-9,
        nodes=found.nodes,
        seconds=perf_counter() - started,
        organic=organic,
        overlap=lost,
    )


def _choice(line: _Line, problem: Problem) -> Choice:
    c = line.candidate
    response = float(c.curve(line.x))
    marginal: float | None = None
    limits: list[str] = []
    if line.x > 0 and line.divisible and c.cost > 0:
        marginal = float(c.curve.slope(line.x)) / c.cost
    if c.exclude:
        limits, status = ["exclude"], Status.excluded
    elif not c.available:
        limits, status = ["available"], Status.unavailable
    elif c.lock is not None:
        limits, status = ["lock"], Status.locked
    elif line.x > 0:
        status = Status.used
        if c.minimum > 0 and line.x <= c.minimum * (1 + 1e-6):
            limits.append("minimum")
        if line.x >= c.maximum * (1 - 1e-6):
            limits.append("maximum")
    else:
        status = _why_not(c, problem)
    return Choice(c.name, line.x, line.spend, line.hours, response, status, marginal, tuple(limits), response)


def _smallest_use(c: Candidate) -> float:
    """The smallest x that brings anything: the minimum, the first step, or any."""
    knots = c.curve.knots()
    if knots is None:
        return c.minimum
    bringing = knots[0][knots[1] > knots[1][0]]
    first = float(bringing[0]) if bringing.size else c.minimum
    linear = type(c.curve).__name__ != "Step"
    return max(c.minimum, 0.0 if linear else first)


def _why_not(c: Candidate, problem: Problem) -> Status:
    x = _smallest_use(c)
    others = [o for o in problem.candidates if o.lock]
    money = problem.budget - math.fsum(o.money_at(o.lock or 0.0) for o in others)
    hours = problem.hours - math.fsum(o.hours_at(o.lock or 0.0) for o in others)
    need = c.fixed_cost + c.cost * x
    if need > money * (1 + TOLERANCE) or (c.cost > 0 and money <= 0):
        return Status.over_budget
    if c.fixed_hours + c.hours * x > hours * (1 + TOLERANCE) or ((c.hours > 0 or c.fixed_hours > 0) and hours <= 0):
        return Status.no_hours
    return Status.not_worth_it


def _unspent_reason(
    problem: Problem,
    lines: dict[str, _Line],
    choices: tuple[Choice, ...],
    multipliers: tuple[float, float],
    unspent: float,
) -> Unspent | None:
    if unspent <= problem.budget * 1e-9 or unspent < (problem.unit or 0.0) * 1e-6:
        return None
    takers = [c for c in problem.candidates if c.lock is None and not c.is_out and (c.cost > 0 or c.fixed_cost > 0)]
    if not takers:
        return Unspent.nothing_to_buy
    wanting = [c for c in takers if lines[c.name].x < min(c.maximum, c.curve.saturated) * (1 - 1e-9)]
    if not wanting:
        return Unspent.at_maximum
    status = {c.name: c.status for c in choices}
    if all(status[c.name] is Status.no_hours for c in wanting):
        return Unspent.no_hours
    if problem.money_worth > 0 and multipliers[0] <= 0:
        return Unspent.not_worth_it
    # hours have a price and money has none: more money would not help
    return Unspent.no_hours if multipliers[1] > 0 and multipliers[0] <= 0 else Unspent.indivisible
