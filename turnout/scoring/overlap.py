"""Shared audiences: what several tactics together bring is less than the sum of what each brings alone.

The curves of the response model are fitted to events with their usual company of other tactics, so they already hold
the usual overlap. History cannot tell how strong it is: events that draw more get more tactics, and the two are seen
together only. So its strength is the catalogue's guess (:func:`turnout.tactics.catalogue.load_audiences`), and history
gives the usual company:

    usual_g      of 100 registrations that tactics would each bring alone from audience g, those that were left to them
                 at past events: credited crowd C_g, people N_g → r = −log(1 − C_g / N_g), usual = C_g / N_g / r
    alone_t(x)   = curve_t(x) / Σ_g w_tg usual_g
    N_g          = size · exp(growth · (event size − usual event size)), event size on the log scale: everything that
                 lifts all tactics of an event alike

and :func:`turnout.allocation.credit` puts a portfolio together: a plan with the usual company has the fitted sum, one
with more brings less than the curves add up to, one with less brings more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from turnout.allocation import Audience
from turnout.tactics import Tactic
from turnout.tactics.catalogue import load_audiences

Floats = NDArray[np.float64]

#: No audience is ever taken for emptier than this, whatever a single event brought.
_FULLEST = 0.95
#: An event is taken for at most e^1.5 times as large or small as the usual one.
_SIZE_RANGE = 1.5


@dataclass(frozen=True, slots=True)
class Overlap:
    """What history says of overlap.

    Attributes:
        usual: per audience, the share that was left to the tactics of past events; 1 without history.
        event_size: the usual event size, on the log scale.
    """

    usual: Mapping[str, float] = field(default_factory=dict)
    event_size: float = 0.0

    def left(self, tactic: Tactic | None) -> float:
        """The share of a tactic's registrations alone that was left to it at past events; ``None``: organic ones."""
        reach = load_audiences().reach(tactic)
        return 1.0 - math.fsum(weight * (1.0 - self.usual.get(name, 1.0)) for name, weight in reach.items())

    def audiences(self, event_size: float, organic: float) -> tuple[Audience, ...]:
        """The audiences of one event.

        Args:
            event_size: on the log scale, like :attr:`event_size`.
            organic: registrations that are expected to come by themselves at a usual event.
        """
        known = load_audiences()
        alone = organic / self.left(None)
        sizes = float(self.people(event_size))
        return tuple(Audience(name, sizes, known.organic.get(name, 0.0) * alone) for name in known.names)

    def people(self, event_size: ArrayLike) -> Floats:
        """People of one audience who would register, of events of these sizes."""
        known = load_audiences()
        apart = np.clip(np.asarray(event_size, dtype=np.float64) - self.event_size, -_SIZE_RANGE, _SIZE_RANGE)
        return np.asarray(known.size.value * np.exp(known.growth.value * apart))


def usual_overlap(means: Floats, reach: Floats, events: NDArray[np.int64], sizes: Floats) -> Overlap:
    """The usual company at past events.

    Args:
        means: fitted registrations of each tactic and of what comes by itself, shape (rows,).
        reach: weights of the audiences, shape (rows, audiences).
        events: event of each row, 0 … n - 1.
        sizes: event size of each row, on the log scale.
    """
    if not len(means):
        return Overlap()
    centre = Overlap(event_size=float(np.average(sizes, weights=means)))
    count = int(events.max()) + 1
    people = np.zeros(count)
    people[events] = centre.people(sizes)
    usual = {}
    for g, name in enumerate(load_audiences().names):
        crowd = np.bincount(events, means * reach[:, g], count)
        filled = np.clip(crowd / np.maximum(people, 1e-9), 1e-9, _FULLEST)
        left = filled / -np.log1p(-filled)
        usual[name] = float(np.average(left, weights=np.maximum(crowd, 1e-9)))
    return Overlap(usual, centre.event_size)


def reach_of(tactics: Mapping[str, Tactic | None], ids: NDArray[np.object_]) -> Floats:
    """Weights of the audiences per row, shape (rows, audiences); ``tactics`` maps an id to its entry."""
    known = load_audiences()
    rows = {key: [known.reach(tactic).get(name, 0.0) for name in known.names] for key, tactic in tactics.items()}
    return np.array([rows[key] for key in ids.tolist()], dtype=np.float64).reshape(-1, len(known.names))
