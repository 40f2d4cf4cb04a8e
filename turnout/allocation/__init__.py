"""The exact allocator: who gets how much of the money and the staff hours.

    >>> from turnout.allocation import Candidate, Hill, Problem, solve
    >>> answer = solve(Problem([Candidate("a", Hill(100, 1000)), Candidate("b", Hill(60, 400))], budget=1500, unit=1))
    >>> answer.spend, round(answer.response, 3), answer.gap < 1e-6
    ({'a': 946.0, 'b': 554.0}, 83.455, True)

The problem
-----------
Candidate i gets an amount xᵢ, which costs money mᵢ(x) = fixed_cost + cost · x and hours hᵢ(x) = fixed_hours + hours · x
when x > 0 and nothing when x = 0, and brings rᵢ(x), any curve of :mod:`turnout.curves`:

    maximise    Σ rᵢ(xᵢ) − money_worth · Σ mᵢ(xᵢ) − hours_worth · Σ hᵢ(xᵢ)
    subject to  Σ mᵢ(xᵢ) <= budget,  Σ hᵢ(xᵢ) <= hours,
                xᵢ = 0  or  minimumᵢ <= xᵢ <= maximumᵢ,  xᵢ in whole units where the candidate has a unit,
                xᵢ = lockᵢ where locked,  xᵢ = 0 where excluded.

Minimum-or-nothing, fixed costs, whole units, steps, S-shaped and noisy curves make this non-convex; a solver that
starts somewhere and walks uphill stops in the wrong place, and one that scales its variables badly does not walk.

The method
----------
1. **Pieces.** Every curve is cut into pieces on which it is concave, or into points (:mod:`turnout.allocation.bounds`).
   Parts that bring no more than a smaller x are dropped, so flat parts are never bought.
2. **Bound.** With prices λ of money and μ of hours, D(λ, μ) = λ·budget + μ·hours + Σ max over x of the priced response
   is an upper bound for every λ, μ >= 0. The inner maxima are exact, all candidates at once. D is convex; cutting
   planes find its minimum. By the theorem of Shapley and Folkman at most as many candidates as there are resources
   (two) sit between two pieces there, so the bound is off by about one tactic's worth of indivisibility, whatever n is.
3. **Rounding.** The cutting planes' weights say which pieces are mixed. The feasible choices near them are completed:
   for fixed pieces the problem is concave and solved through its own λ and μ, what is left over buys further steps.
4. **Branch and bound.** Where the gap is not closed, a mixed candidate's pieces are split in two ranges, best bound
   first. Pieces that no better portfolio can contain (D with the piece forced in is below the best value) are removed
   for good. Every (λ, μ) ever looked at bounds every subproblem, so most are decided without new work.

The answer carries its bound: ``upper_bound`` >= optimum >= ``objective`` always holds, also after the deadline, and
``gap`` is the relative difference. Money is made payable at the end (whole ``unit``); the little that costs is part of
the gap. Amounts are scaled by the budget, the hours and the total of the largest responses, and candidates are taken in
the order of their names: the answer does not depend on units or on the order given.

``marginal_response`` is the λ of the bound: what one more unit of money would bring.
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
