"""Shared audiences and tactics that feed on others: what a portfolio brings together.

With aₜ what candidate t would bring alone, wₜg the share of it that comes from audience g, N_g the people in g who
would register at all and o_g those who come by themselves,

    crowd_g = o_g + Σₜ wₜg aₜ
    base    = Σ_g N_g (1 − exp(−crowd_g / N_g)) + Σₜ (1 − Σ_g wₜg) aₜ + organic
    total   = base · Π_d (1 + s_d)

with s_d the shares of those that feed on the others. Every invitation finds one of the N_g at random: crowd_g
invitations that would each have brought one registration find N_g (1 − e^(−crowd_g/N_g)) different people. A small
crowd overlaps little, no audience gives more than it has, and the order of the tactics does not matter.

What is brought together is credited in proportion: of everything that reached for audience g the share

    fresh_g = (1 − e^(−r)) / r,   r = crowd_g / N_g

was not there yet. What the feeding ones bring on top is divided among them in proportion to log(1 + s_d), the same
whichever is counted first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from turnout.allocation.problem import Audience

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Credited:
    """What is credited to whom; all shapes lead with those of ``alone`` without its last axis.

    Attributes:
        response: per candidate after overlap, shape (…, n). Those of others: their part of what comes on top.
        organic: what comes by itself after overlap, shape (…).
        overlap: what overlap costs, shape (…): candidates alone + organic before overlap − base.
        base: without those that feed on the others, shape (…).
        total: everything, shape (…): the sum of ``response`` and ``organic``.
        fresh: what one further registration alone from each audience would add to the base now, shape (…, G): at most
            the credited share.
    """

    response: Floats
    organic: Floats
    overlap: Floats
    base: Floats
    total: Floats
    fresh: Floats


def reach_matrix(audiences: Sequence[Audience], reach: Sequence[Mapping[str, float]]) -> Floats:
    """Weights of n candidates in G audiences, shape (n, G)."""
    index = {a.name: g for g, a in enumerate(audiences)}
    weights = np.zeros((len(reach), len(audiences)))
    for t, row in enumerate(reach):
        for name, weight in row.items():
            weights[t, index[name]] = weight
    return weights


def credit(
    audiences: Sequence[Audience],
    reach: Sequence[Mapping[str, float]],
    alone: ArrayLike,
    of_others: Sequence[bool],
    organic: ArrayLike = 0.0,
    *,
    others: ArrayLike | None = None,
) -> Credited:
    """What a given portfolio brings, and who brought it. Works on one portfolio or on many draws of it at once.

    Args:
        audiences: G audiences.
        reach: per candidate audience → weight, n of them (as :attr:`Candidate.reach`).
        alone: what each would bring alone, shape (…, n); for those of others the share, 0.1 for a tenth on top.
        of_others: which ones feed on the others, n of them.
        organic: what comes by itself from people nobody reaches, shape () or (…).
        others: what comes by itself from the audiences, shape (…, G), where it differs between draws; default: as the
            audiences say.

    Raises:
        ValueError: lengths do not fit one another.
        KeyError: a reach names an audience that is not given.
    """
    a = np.asarray(alone, dtype=np.float64)
    feeds = np.asarray(of_others, dtype=bool)
    if a.shape[-1:] != (len(reach),) or feeds.shape != (len(reach),):
        raise ValueError(f"alone {a.shape}, of_others {feeds.shape} and reach ({len(reach)},) must agree")
    weights = reach_matrix(audiences, reach)
    weights[feeds] = 0.0
    size = np.asarray([x.size for x in audiences])
    own = np.asarray([x.others for x in audiences]) if others is None else np.asarray(others, dtype=np.float64)
    sources = np.where(feeds, 0.0, a)
    crowd = sources @ weights + own
    with np.errstate(divide="ignore", invalid="ignore"):
        filled = crowd / size
        share = np.where(filled > 0, -np.expm1(-filled) / filled, 1.0)
    apart = 1.0 - weights.sum(axis=1)
    response = sources * (share @ weights.T + apart)
    organic = np.broadcast_to(np.asarray(organic, dtype=np.float64), a.shape[:-1])
    by_itself = organic + (share * own).sum(axis=-1)
    base = response.sum(axis=-1) + by_itself
    lost = sources.sum(axis=-1) + organic + own.sum(axis=-1) - base
    logs = np.where(feeds, np.log1p(np.where(feeds, a, 0.0)), 0.0)
    together = logs.sum(axis=-1)
    on_top = base * np.expm1(together)
    part = logs / np.where(together > 0, together, 1.0)[..., None]
    response = response + on_top[..., None] * part
    return Credited(response, by_itself, np.maximum(lost, 0.0), base, base + on_top, np.exp(-filled))
