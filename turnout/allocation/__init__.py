"""The exact allocator: who gets how much of the money and the staff hours.

    >>> from turnout.allocation import Candidate, Hill, Problem, solve
    >>> answer = solve(Problem([Candidate("a", Hill(100, 1000)), Candidate("b", Hill(60, 400))], budget=1500, unit=1))
    >>> answer.spend, round(answer.response, 3), answer.gap < 1e-6
    ({'a': 946.0, 'b': 554.0}, 83.455, True)

The problem
-----------
Candidate i gets an amount xᵢ, which costs money mᵢ(x) = fixed_cost + cost · x and hours hᵢ(x) = fixed_hours + hours · x
when x > 0 and nothing when x = 0, and brings aᵢ(x) alone, any curve of :mod:`turnout.curves`:

    maximise    total(a) − money_worth · Σ mᵢ(xᵢ) − hours_worth · Σ hᵢ(xᵢ)
    subject to  Σ mᵢ(xᵢ) <= budget,  Σ hᵢ(xᵢ) <= hours,
                xᵢ = 0  or  minimumᵢ <= xᵢ <= maximumᵢ,  xᵢ in whole units where the candidate has a unit,
                xᵢ = lockᵢ where locked,  xᵢ = 0 where excluded or not available,
                least <= Σ of the members' money <= most,  at_least <= members used <= at_most  for every group.

Where nobody depends on anybody, total = Σ aᵢ + organic. With shared audiences and candidates that feed on the others
(:mod:`turnout.allocation.overlap`, :func:`credit`)

    total = [Σ_g N_g (1 − exp(−(others_g + Σᵢ reachᵢg aᵢ) / N_g)) + Σᵢ (1 − Σ_g reachᵢg) aᵢ + organic] · Π_d (1 + a_d)

    >>> from turnout.allocation import Audience
    >>> people = [Audience("readers", 100.0)]
    >>> both = [Candidate(name, Hill(80, 1000), reach={"readers": 1.0}) for name in ("mail", "ads")]
    >>> answer = solve(Problem(both, budget=2000, audiences=people))
    >>> round(answer.total, 2), round(answer.overlap, 2)  # 40 each alone, but they reach the same people
    (55.07, 24.93)

Minimum-or-nothing, fixed costs, whole units, steps, S-shaped and noisy curves make this non-convex; a solver that
starts somewhere and walks uphill stops in the wrong place, and one that scales its variables badly does not walk.

The method
----------
1. **Pieces.** Every curve is cut into pieces on which it is concave, or into points (:mod:`turnout.allocation.bounds`).
   Parts that bring no more than a smaller x are dropped, so flat parts are never bought (unless a group must spend).
2. **Bound.** With prices λ of money and μ of hours, D(λ, μ) = λ·budget + μ·hours + Σ max over x of the priced response
   is an upper bound for every λ, μ >= 0. The inner maxima are exact, all candidates at once. D is convex; cutting
   planes find its minimum. By the theorem of Shapley and Folkman at most as many candidates as there are resources
   (two) sit between two pieces there, so the bound is off by about one tactic's worth of indivisibility, whatever n is.
   Every group limit and every audience adds a price (:mod:`turnout.allocation.coupled`): the base is concave in a and
   lies below its tangents, log(total) = log(base) + Σ log(1 + a_d) likewise, so that the sum over candidates remains.
3. **Rounding.** The cutting planes' weights say which pieces are mixed. The feasible choices near them are completed:
   for fixed pieces the problem is concave and solved through its own prices, what is left over buys further steps.
4. **Branch and bound.** Where the gap is not closed, a mixed candidate's pieces are split in two ranges, best bound
   first. Pieces that no better portfolio can contain (D with the piece forced in is below the best value) are removed
   for good. All prices ever looked at bound every subproblem, so most are decided without new work.

The answer carries its bound: ``upper_bound`` >= optimum >= ``objective`` always holds, also after the deadline, and
``gap`` is the relative difference. Money is made payable at the end (whole ``unit``); the little that costs is part of
the gap. Amounts are scaled by the budget, the hours and the total of the largest responses, and candidates are taken in
the order of their names: the answer does not depend on units or on the order given.

``marginal_response`` is the λ of the bound: what one more unit of money would bring.

Constraints that contradict one another raise :class:`InfeasibleError`; its ``problems`` name an irreducible set of them
(:mod:`turnout.allocation.feasibility`): without any one of its members the rest could be satisfied.

Other questions (:mod:`turnout.allocation.objectives`)
------------------------------------------------------
===================  =====================================================================
:func:`frontier`     budgets → the best portfolio for each
:func:`cheapest`     the least money for a target total, with a lower bound of that money
:func:`at_cost`      the most at an average or marginal cost per registration
:func:`under_risk`   the best mean, quantile, CVaR or probability of a target over draws
===================  =====================================================================

    >>> from turnout.allocation import cheapest
    >>> found = cheapest(Problem([Candidate("a", Hill(100, 1000))], budget=5000, unit=1), target=50)
    >>> found.solution.spend, found.proved
    ({'a': 1000.0}, True)

How fast, on one core (``python -m benchmarks.allocation``, CPU time, Python): concave or S-shaped curves, or a
planner's mix, with a gap of 0.01 %: 3 to 9 ms for 50 candidates, 8 to 45 ms for 200; with group limits 15 to 30 ms and
30 to 55 ms. With three shared audiences and a gap of 0.1 %: 15 to 30 ms for 50 and for 200; with feeding candidates
besides 25 to 60 ms. A problem of 30 candidates whose whole units are large against the total can take 100 ms; the
deadline then returns the best portfolio found, mostly the optimum or within 0.2 % of it, with a bound of about 1 %.
"""

from turnout.allocation.objectives import (
    Cheapest,
    CostKind,
    Draws,
    Measure,
    UnderRisk,
    at_cost,
    cheapest,
    frontier,
    under_risk,
)
from turnout.allocation.overlap import Credited, credit
from turnout.allocation.problem import (
    Audience,
    Candidate,
    Choice,
    Group,
    InfeasibleError,
    Problem,
    Solution,
    Status,
    Unspent,
)
from turnout.allocation.solver import solve
from turnout.curves import CappedLinear, Curve, Hill, Logistic, Step, Tabulated

__all__ = [
    "Audience",
    "Candidate",
    "CappedLinear",
    "Cheapest",
    "Choice",
    "CostKind",
    "Credited",
    "Curve",
    "Draws",
    "Group",
    "Hill",
    "InfeasibleError",
    "Logistic",
    "Measure",
    "Problem",
    "Solution",
    "Status",
    "Step",
    "Tabulated",
    "UnderRisk",
    "Unspent",
    "at_cost",
    "cheapest",
    "credit",
    "frontier",
    "solve",
    "under_risk",
]
