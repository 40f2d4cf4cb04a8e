"""A world whose truth is known: files as real organisers hand them in, and what really happened, kept apart.

For demonstrations and for measuring decisions against the best one possible. Always labelled as simulated.

    >>> summary = simulate(Path("demo"), seed=1, events=160, until=date(2026, 9, 30))
    >>> summary.checks["spend_demand_correlation"] >= 0.5
    True

:mod:`turnout.simulation.world` holds the truth, :mod:`turnout.simulation.history` what happened,
:mod:`turnout.simulation.exports` the files, :mod:`turnout.simulation.regret` the value of a portfolio in truth.
"""

from turnout.simulation.api import WorldSummary, simulate

__all__ = ["WorldSummary", "simulate"]
