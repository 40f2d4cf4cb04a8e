"""The allocator beside scipy's SLSQP and HiGHS on the same problems.

    python -m benchmarks.allocation [--json] [--seeds 2] [--time-limit 5]

Families of problems, each with 5, 15, 50 and 200 candidates:

* ``concave``   Hill (shape <= 1) and Logistic curves, one budget;
* ``s_shaped``  Hill curves with shape 1.5 to 3.5, one budget;
* ``on_off``    each tactic at a fixed price or not at all, one budget;
* ``planner``   saturating ads with minimum-or-nothing and set-up hours, releases in whole units, free tactics that take
  hours; a budget of money and one of hours;
* ``groups``    ``planner`` with side constraints: at most 60 % of the budget on ads, at least 5 % on releases, at most
  a third of the ads used, at least two searches;
* ``overlap``   ``planner`` with three shared audiences;
* ``feeding``   ``overlap`` with a referral and a retargeting tactic, which bring a share of what the others bring.

**SLSQP** starts from the equal split, as the peers' optimisers do, on the response as it is; it can express the first
two families only. **HiGHS** gets the curves as 40 straight pieces with binaries where they are needed, an audience as
40 tangents, and a relative gap of 0.01 %, one thread; its x is then put into the true curves, so that all are judged by
the same measure. A product of responses (``feeding``) is no linear program: it cannot express that. Quality is the
objective relative to ours (1 is equal, below 1 worse). Ours is asked for a gap of 0.01 %, and of 0.1 % in the last two
families. Times are CPU times, so that others on the machine do not count (one thread where OMP_NUM_THREADS is 1).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from time import process_time
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from turnout.allocation import (
    Audience,
    Candidate,
    CappedLinear,
    Group,
    Hill,
    Logistic,
    Problem,
    Solution,
    Step,
    credit,
    solve,
)

Floats = NDArray[np.float64]
T = TypeVar("T")

SIZES = (5, 15, 50, 200)
FAMILIES = ("concave", "s_shaped", "on_off", "planner", "groups", "overlap", "feeding")
#: Asked of ours.
GAPS = dict.fromkeys(FAMILIES, 1e-4) | dict.fromkeys(("overlap", "feeding"), 1e-3)
PIECES = 40
_REPEATS = 5


def make_problem(family: str, size: int, seed: int) -> Problem:
    """One random problem; amounts in yen, responses in people. The budget is scarce: about a third of what would be
    used at the curves' halves."""
    rng = np.random.default_rng([FAMILIES.index(family), size, seed])
    budget = 100_000.0 * size
    if family not in ("concave", "s_shaped", "on_off"):
        planner = _planner(rng, size, budget)
        return planner if family == "planner" else _with_sides(family, planner, rng)
    candidates = []
    for i in range(size):
        top, half = float(10 ** rng.uniform(0.5, 2.3)), float(100_000 * 10 ** rng.uniform(-0.3, 1.0))
        rules: dict[str, Any] = {}
        if family == "concave":
            curve: Any = Logistic(top, half) if i % 3 == 0 else Hill(top, half, float(rng.uniform(0.5, 1)))
        elif family == "s_shaped":
            curve = Hill(top, half, float(rng.uniform(1.5, 3.5)))
        else:
            price = float(round(half / 2))
            curve, rules = Hill(top, half), {"minimum": price, "maximum": price}
        candidates.append(Candidate(f"t{i:03}", curve, **rules))
    return Problem(candidates, budget, unit=1.0)


def _planner(rng: np.random.Generator, size: int, budget: float) -> Problem:
    candidates = []
    for i in range(size):
        kind = ("ads", "ads", "search", "release", "effort")[i % 5]
        name, top = f"{kind}{i:03}", float(10 ** rng.uniform(0.7, 2.0))
        hours = float(rng.integers(2, 8))
        if kind == "ads":
            minimum = float(rng.choice([10_000, 30_000, 50_000]))
            curve = Hill(top, top * float(10 ** rng.uniform(3.3, 4.3)))
            candidates.append(Candidate(name, curve, minimum=minimum, maximum=3e6, fixed_hours=hours))
        elif kind == "search":
            capped = CappedLinear(float(10 ** -rng.uniform(3.5, 4.3)), top / 3)
            candidates.append(Candidate(name, capped, minimum=30_000, fixed_hours=hours))
        elif kind == "release":
            price = float(rng.choice([30_000, 86_603, 200_000]))
            units = Step.units(price, top / 4, float(rng.uniform(0.2, 0.7)), 2)
            candidates.append(Candidate(name, units, hours=4 / price, fixed_hours=2))
        else:
            steps = Step.units(float(rng.uniform(0.5, 3)), top / 4, 0.6, 3, float(rng.uniform(0.5, 4)))
            candidates.append(Candidate(name, steps, cost=0, hours=1))
    return Problem(candidates, budget, hours=2.5 * size, unit=1.0)


def _with_sides(family: str, problem: Problem, rng: np.random.Generator) -> Problem:
    """A planner's problem with limits on groups, or with shared audiences and those that feed on others."""
    names = [c.name for c in problem.candidates]
    kinds = {kind: [n for n in names if n.startswith(kind)] for kind in ("ads", "search", "release")}
    if family == "groups":
        groups = [
            Group("ads", kinds["ads"], most_share=0.6, at_most=max(len(kinds["ads"]) // 3, 1)),
            Group("releases", kinds["release"], least_share=0.05),
            Group("searches", kinds["search"], at_least=min(2, len(kinds["search"]))),
        ]
        return replace(problem, groups=groups)
    size = len(names)
    audiences = [Audience(f"g{k}", 12.0 * size * float(rng.uniform(0.3, 1.5)), others=float(size)) for k in range(3)]
    candidates = []
    for c in problem.candidates:
        weights = rng.dirichlet(np.ones(4))[:3]
        candidates.append(replace(c, reach={f"g{k}": float(w) for k, w in enumerate(weights)}))
    if family == "feeding":
        candidates[-1] = Candidate(
            "referral", Step.units(1.5, 0.06, 0.5, 2, start=1.0), cost=0, hours=1, of_others=True
        )
        candidates[0] = Candidate("retargeting", Hill(0.15, 2e4 * size), minimum=30_000, fixed_hours=3, of_others=True)
    return replace(problem, candidates=candidates, audiences=audiences, organic=float(size))


# --- the others ------------------------------------------------------------------------------------------------


def objective(problem: Problem, x: Floats) -> float:
    """True total of one x per candidate."""
    alone = [float(c.curve(float(v))) for c, v in zip(problem.candidates, x, strict=True)]
    if not problem.is_coupled:
        return math.fsum(alone)
    reach, feeds = [c.reach for c in problem.candidates], [c.of_others for c in problem.candidates]
    return float(credit(problem.audiences, reach, alone, feeds, problem.organic).total)


def solve_slsqp(problem: Problem) -> Floats:
    """SLSQP from the equal split, one inequality for the budget."""
    from scipy.optimize import minimize

    n = len(problem.candidates)

    def negative(x: Floats) -> float:
        return -math.fsum(float(c.curve(float(v))) for c, v in zip(problem.candidates, x, strict=True))

    def gradient(x: Floats) -> Floats:
        # the slope at 0 of a Hill with shape below 1 is infinite; the solver needs a number
        return -np.array([
            float(c.curve.slope(max(float(v), 1e-3))) for c, v in zip(problem.candidates, x, strict=True)
        ])  # fmt: skip

    start = np.full(n, problem.budget / n)
    budget = {"type": "ineq", "fun": lambda x: problem.budget - x.sum(), "jac": lambda x: -np.ones(n)}
    result = minimize(
        negative, start, jac=gradient, method="SLSQP", bounds=[(0.0, problem.budget)] * n, constraints=[budget],
        options={"maxiter": 1000},
    )  # fmt: skip
    x = np.clip(np.asarray(result.x, dtype=np.float64), 0.0, None)
    return x * min(1.0, problem.budget / x.sum()) if x.sum() > 0 else x


def breakpoints(c: Candidate, problem: Problem) -> tuple[Floats, bool]:
    """The x a linear model is built on, and whether only these x are allowed."""
    hi = min(c.maximum, problem.budget / c.cost if c.cost > 0 else math.inf, c.curve.saturated)
    if c.minimum == c.maximum:
        return np.array([c.minimum]), True
    knots = c.curve.knots()
    if isinstance(c.curve, Step) and knots is not None:
        return knots[0][knots[0] > 0], True
    if knots is not None:  # capped-linear: one straight piece from the minimum on
        return np.array(sorted({c.minimum, max(hi, c.minimum)})), False
    return c.minimum + (hi - c.minimum) * np.linspace(0, 1, PIECES + 1) ** 2, False


@contextmanager
def _silent_stdout() -> Iterator[None]:
    """Send what C code prints to nowhere."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
        ctypes.CDLL(None).fflush(None)
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


class _Model:
    """A mixed-integer program, built row by row."""

    def __init__(self) -> None:
        self.cost: list[float] = []
        self.integer: list[bool] = []
        self.upper: list[float] = []
        self.rows: list[tuple[list[int], list[float], float, float]] = []

    def column(self, cost: float, *, integer: bool = False, upper: float = 1.0) -> int:
        self.cost.append(cost)
        self.upper.append(upper)
        self.integer.append(integer)
        return len(self.cost) - 1

    def row(self, index: list[int], value: list[float], low: float, high: float) -> None:
        self.rows.append((index, value, low, high))

    def solve(self, time_limit: float) -> Floats:
        import highspy

        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(self.cost), len(self.rows)
        lp.sense_ = highspy.ObjSense.kMaximize
        lp.col_cost_ = np.array(self.cost)
        lp.col_lower_, lp.col_upper_ = np.zeros(lp.num_col_), np.array(self.upper)
        lp.row_lower_ = np.array([r[2] for r in self.rows])
        lp.row_upper_ = np.array([r[3] for r in self.rows])
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.cumsum([0, *(len(r[0]) for r in self.rows)])
        lp.a_matrix_.index_ = np.concatenate([r[0] for r in self.rows]).astype(np.int32)
        lp.a_matrix_.value_ = np.concatenate([r[1] for r in self.rows]).astype(np.float64)
        kinds = highspy.HighsVarType
        lp.integrality_ = [kinds.kInteger if i else kinds.kContinuous for i in self.integer]
        with _silent_stdout():  # its constructor prints a banner that would spoil the JSON
            solver = highspy.Highs()
        for name, value in (
            ("log_to_console", False),
            ("output_flag", False),
            ("time_limit", time_limit),
            ("mip_rel_gap", 1e-4),
            ("threads", 1),
        ):
            solver.setOptionValue(name, value)
        solver.passModel(lp)
        solver.run()
        return np.asarray(solver.getSolution().col_value, dtype=np.float64)


def solve_highs(problem: Problem, time_limit: float) -> Floats:
    """A piecewise-linear model: x is a mix of neighbouring breakpoints, used or not.

    Weights of the breakpoints sum to the binary "used". Where the curve is not concave the mix must be of neighbours,
    which takes a binary for each segment.
    """
    model = _Model()
    money: tuple[list[int], list[float]] = ([], [])
    hours: tuple[list[int], list[float]] = ([], [])
    mixes: list[tuple[list[int], Floats]] = []
    spent: dict[str, tuple[list[int], list[float]]] = {}
    use: dict[str, int] = {}
    crowds: dict[str, tuple[list[int], list[float]]] = {a.name: ([], []) for a in problem.audiences}
    for c in problem.candidates:
        xs, points = breakpoints(c, problem)
        rs = np.asarray(c.curve(xs), dtype=np.float64)
        apart = 1.0 - math.fsum(c.reach.values())
        weights = [model.column(float(r) * apart, integer=points) for r in rs]
        for name, share in c.reach.items():
            crowds[name][0].extend(weights)
            crowds[name][1].extend((share * rs).tolist())
        mixes.append((weights, xs))
        used = model.column(0.0, integer=True)
        model.row([*weights, used], [*([1.0] * len(weights)), -1.0], 0.0, 0.0)
        if c.curve.inflection > xs[0] and not points:
            segments = [model.column(0.0, integer=True) for _ in xs[1:]]
            model.row([*segments, used], [*([1.0] * len(segments)), -1.0], 0.0, 0.0)
            for k, weight in enumerate(weights):
                near = segments[max(k - 1, 0) : k + 1]
                model.row([weight, *near], [1.0, *([-1.0] * len(near))], -math.inf, 0.0)
        for (index, value), rate, fixed in ((money, c.cost, c.fixed_cost), (hours, c.hours, c.fixed_hours)):
            index.extend([*weights, used])
            value.extend([*(rate * xs).tolist(), fixed])
        spent[c.name], use[c.name] = ([*weights, used], [*(c.cost * xs).tolist(), c.fixed_cost]), used
    # rows in thousands of yen: the solver's own tolerance is absolute
    model.row(money[0], [v / 1000 for v in money[1]], -math.inf, problem.budget / 1000)
    if math.isfinite(problem.hours):
        model.row(hours[0], hours[1], -math.inf, problem.hours)
    _add_audiences(model, problem, crowds)
    _add_groups(model, problem, spent, use)
    answer = model.solve(time_limit)
    return np.array([float(answer[weights] @ xs) for weights, xs in mixes])


def _add_audiences(model: _Model, problem: Problem, crowds: dict[str, tuple[list[int], list[float]]]) -> None:
    """What an audience gives, below 40 of its tangents."""
    for a in problem.audiences:
        index, value = crowds[a.name]
        given = model.column(1.0, upper=a.size)
        for crowd in a.others + 5.0 * a.size * np.linspace(0, 1, PIECES) ** 2:
            fresh = math.exp(-crowd / a.size)
            at = a.size * (1.0 - fresh) + fresh * (a.others - crowd)
            model.row([given, *index], [1.0, *(-fresh * v for v in value)], -math.inf, at)


def _add_groups(
    model: _Model, problem: Problem, spent: dict[str, tuple[list[int], list[float]]], use: dict[str, int]
) -> None:
    for g in problem.groups:
        least, most = g.money(problem.budget)
        index = [i for m in g.members for i in spent[m][0]]
        model.row(index, [v / 1000 for m in g.members for v in spent[m][1]], least / 1000, most / 1000)
        high = math.inf if g.at_most is None else float(g.at_most)
        model.row([use[m] for m in g.members], [1.0] * len(g.members), float(g.at_least or 0), high)


# --- measuring -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One family and size: medians over the seeds; quality is the worst for us, the best for the others."""

    family: str
    candidates: int
    ms: float
    gap: float
    nodes: float
    slsqp_ms: float | None
    slsqp_quality: float | None
    highs_ms: float | None
    highs_quality: float | None
    highs_over_ours: float | None


#: Title, width and format of each of the row's fields.
_COLUMNS = (
    ("family", 9, "s"), ("n", 4, "d"), ("ours ms", 8, ".2f"), ("gap", 8, ".1e"), ("nodes", 6, ".0f"),
    ("SLSQP ms", 9, ".1f"), ("quality", 8, ".4f"), ("HiGHS ms", 9, ".1f"), ("quality", 8, ".5f"),
    ("HiGHS/ours", 10, ".1f"),
)  # fmt: skip


def timed(run: Callable[[], T], repeats: int) -> tuple[float, T]:
    """Median milliseconds of ``repeats`` runs, and the last result."""
    times, result = [], run()
    for _ in range(repeats):
        started = process_time()
        result = run()
        times.append((process_time() - started) * 1e3)
    return statistics.median(times), result


def measure(family: str, size: int, seeds: int, time_limit: float) -> Row:
    ours: list[tuple[float, Solution]] = []
    slsqp: list[tuple[float, float]] = []
    highs: list[tuple[float, float]] = []
    for seed in range(seeds):
        problem = make_problem(family, size, seed)
        ours.append(timed(partial(solve, problem, gap=GAPS[family], deadline=5.0), _REPEATS))
        value = ours[-1][1].objective
        if family in ("concave", "s_shaped"):
            ms, x = timed(partial(solve_slsqp, problem), 1)
            slsqp.append((ms, objective(problem, x) / value))
        if family == "feeding":
            continue
        started = process_time()
        x = solve_highs(problem, time_limit)
        highs.append(((process_time() - started) * 1e3, objective(problem, x) / value))
    ms = statistics.median(t for t, _ in ours)
    highs_ms = statistics.median(t for t, _ in highs) if highs else None
    return Row(
        family, size, ms, max(s.gap for _, s in ours), statistics.median(s.nodes for _, s in ours),
        statistics.median(t for t, _ in slsqp) if slsqp else None, max(q for _, q in slsqp) if slsqp else None,
        highs_ms, max(q for _, q in highs) if highs else None, highs_ms / ms if highs_ms is not None else None,
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.allocation", description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--seeds", type=int, default=2, help="problems per family and size (default 2)")
    parser.add_argument("--time-limit", type=float, default=5.0, help="seconds HiGHS may take per problem (default 5)")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of candidates")
    options = parser.parse_args(argv)
    solve(make_problem("planner", 5, 0))  # first imports and allocations are not what is measured
    rows = []
    if not options.json:
        print(" ".join(title.rjust(width) for title, width, _ in _COLUMNS))
    for family in FAMILIES:
        for size in options.sizes:
            row = measure(family, size, options.seeds, options.time_limit)
            rows.append(row)
            if not options.json:
                values = (getattr(row, field.name) for field in fields(row))
                cells = (
                    ("-" if value is None else format(value, pattern)).rjust(width)
                    for value, (_, width, pattern) in zip(values, _COLUMNS, strict=True)
                )
                print(" ".join(cells), flush=True)
    if options.json:
        report = {"benchmark": "allocation", "seeds": options.seeds, "rows": [asdict(row) for row in rows]}
        print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
