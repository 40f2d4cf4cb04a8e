"""What a portfolio is worth in truth: the measure of a decision made in the simulated world.

    >>> world = load_world(Path("demo/truth"))
    >>> expected_total(world, "EV2026-014", {"own_email": 3.5, "meta_ads": 300_000})
    118.4…

The regret of a plan is the best portfolio's :func:`expected_total` less its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import numpy as np

from turnout.simulation.mechanics import Floats
from turnout.simulation.truth import load_world
from turnout.simulation.world import Expectation, SimulatedEvent, World

__all__ = ["brief_fields", "expectation_of", "expected_attendees", "expected_total", "load_world"]


def expectation_of(
    world: World,
    event: SimulatedEvent | str | int,
    portfolio: Mapping[str, float],
    starts: Mapping[str, date] | None = None,
) -> Expectation:
    """Expected registrations of one event under ``portfolio``; arrays of one row.

    Args:
        event: the event, its code, name or index.
        portfolio: tactic id → yen (paid) or staff hours (free); tactics left out are not used.
        starts: first day of a tactic. Default: in time for its full effect, but not before registration opens.

    Raises:
        KeyError: no such event or tactic.
        ValueError: an amount is negative or not finite.
    """
    at = world.event(event)
    amount = np.zeros((1, len(world.tactics)))
    before = np.minimum(np.ceil(world.lead), at.opens_before)[None, :].astype(np.float64)
    for tactic, value in portfolio.items():
        if not np.isfinite(value) or value < 0:
            raise ValueError(f"the amount of {tactic!r} is {value}; it must be zero or more")
        t = world.position(tactic)
        amount[0, t] = value
        if starts is not None and tactic in starts:
            before[0, t] = max((at.date - starts[tactic]).days, 0)
    return world.expectation(np.array([at.index]), amount, before)


def expected_total(
    world: World,
    event: SimulatedEvent | str | int,
    portfolio: Mapping[str, float],
    starts: Mapping[str, date] | None = None,
) -> float:
    """Expected registrations of the event, organic ones included; see :func:`expectation_of`."""
    return float(expectation_of(world, event, portfolio, starts).total[0])


def expected_attendees(
    world: World,
    event: SimulatedEvent | str | int,
    portfolio: Mapping[str, float],
    starts: Mapping[str, date] | None = None,
) -> float:
    """Expected attendees: registrations by origin times their show-up rates.

    An approximation: everybody counts as registered a week before, and the event's own effect as none.
    """
    expected = expectation_of(world, event, portfolio, starts)
    logit = world.show_up_logit(np.array([world.event(event).index]))[0] - 0.012 * 7
    rates: Floats = 1 / (1 + np.exp(-(logit + world.show_up_shift)))
    organic = float(expected.organic[0] / (1 + np.exp(-logit)))
    return organic + float((expected.tactics[0] * rates).sum())


def brief_fields(
    world: World, event: SimulatedEvent | str | int, *, target: int, budget: float, staff_hours: float = 80.0
) -> dict[str, object]:
    """The event as a planner would ask about it: fields of :class:`turnout.brief.Brief`.

    ``as_of`` is the day registration opens.
    """
    at = world.event(event)
    return {
        "event": {
            "name": at.name,
            "date": at.date.isoformat(),
            "category": at.category,
            "theme": at.theme,
            "format": at.format,
            "price": {"amount": str(at.price), "currency": "JPY"},
            "organiser": world.organisers[at.organiser].folder,
            "registration_opens": (at.date - timedelta(days=at.opens_before)).isoformat(),
            "audience": {
                "industries": list(at.industries),
                "job_titles": list(at.job_titles),
                "company_sizes": list(at.company_sizes),
            },
        },
        "goal": {"target": target},
        "budget": {"amount": str(round(budget)), "currency": "JPY"},
        "staff_hours": staff_hours,
        "assets": dict(at.assets),
        "as_of": (at.date - timedelta(days=at.opens_before)).isoformat(),
    }
