"""Amounts that nobody has tried: where a plan's numbers rest on the benchmark's shape and not on what was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from turnout.scoring.parameters import TacticHistory

#: An amount this much above the largest one seen is beyond it.
BEYOND = 1.1
#: Spend whose spread (standard deviation / mean) over events is below this says nothing of other amounts …
CONSTANT = 0.05
#: … where it was seen in this many events, and the plan differs from it by more than :data:`BEYOND`.
ENOUGH_EVENTS = 5

Kind = Literal["beyond", "constant"]


@dataclass(frozen=True, slots=True)
class Untried:
    """Why an amount is not covered by history.

    Attributes:
        kind: ``beyond`` everything spent before; ``constant``: always the same was spent, so what more or less brings
            was never seen.
        most, typical: the largest and the mean amount seen, base currency.
        events: in which the tactic was used.
    """

    kind: Kind
    most: float
    typical: float
    events: int


def untried(history: TacticHistory | None, x: float) -> tuple[Untried, ...]:
    """What to say of spending ``x`` (base currency) on a tactic; nothing where history covers it, or there is none.

    Both kinds at once are possible: a plan at 150 % of what was spent every time.
    """
    if history is None or history.amounts is None or x <= 0:
        return ()
    least, mean, most, spread = history.amounts
    found: list[Kind] = []
    if x > BEYOND * most:
        found.append("beyond")
    if history.events >= ENOUGH_EVENTS and spread < CONSTANT and not least / BEYOND <= x <= BEYOND * most:
        found.append("constant")
    return tuple(Untried(kind, most, mean, history.events) for kind in found)
