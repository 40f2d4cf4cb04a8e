"""How the tactics of the simulated world really work: shapes, reference parameters, and the response functions.

The figures below are the middle of the world's own distribution. Every world draws its parameters around them
(:class:`turnout.simulation.world.World`), so that no world equals the catalogue's benchmark priors and no two seeds
are alike. They are invented, not measured: plausible for Japanese business and technology events of 50 to 500 people,
and nothing more may be concluded from them.

Amounts
    ``x`` is yen for a paid tactic and staff hours for a free one. Responses are expected registrations.

Shapes
    ======== ============================================================================================
    hill     ``top * x^p / (half^p + x^p)``; concave for p <= 1, S-shaped for p > 1
    capped   ``top * min(x / half, 1)``: linear up to a hard cap (queries, contacts, members)
    step     whole units of ``unit`` after ``setup``; the k-th adds ``top * decay^(k-1)``, none beyond ``max_units``
    listing  nothing below ``setup`` hours, then ``0.7 * top`` at once and the rest over ``half`` hours
    ======== ============================================================================================

What a unit costs, the hours a tactic takes and how many units there are is the market's price list, known to everybody:
the world takes it from the catalogue (:func:`turnout.simulation.world.price_list`). Responses it draws itself.

Two tactics feed on the others: retargeting needs visitors and a referral needs registrants. Their ``top`` is a share
of what the organic baseline and the other tactics bring.
"""

# ruff: noqa: E501 - the table of mechanisms is read across

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Shape(IntEnum):
    """The form of a response; see the module's table."""

    hill = 0
    capped = 1
    step = 2
    listing = 3


#: The part of a listing's response that comes with the listing itself; the rest trickles in with more work on it.
LISTING_JUMP = 0.7

#: Audiences that tactics share. Reaching a person twice gives one registration, so tactics of a group overlap.
AUDIENCES = ("owned", "professional", "social")


@dataclass(frozen=True, slots=True)
class Mechanism:
    """How one tactic works at the reference event (demand 1, reference assets, middle of the audience effects).

    Attributes:
        shape, top, half, power, decay: see the module's table; ``half`` in yen or hours.
        lead_days: days before the event by which it must start for its full effect.
        asset: the organiser's asset that scales ``top``, a field of :class:`turnout.brief.Assets`.
        reach: weight in each of :data:`AUDIENCES`, summing to 1.
        elasticity: exponent of the event's demand.
        feeds_on_others: ``top`` is a share of the rest's registrations.
        technical: factor on ``top`` for events whose audience is not technical.
        use: how often an organiser uses it.
        typical: usual amount, in units of ``half`` (hill, capped, listing) or whole units (step).
        cost_per_click, click_rate: yen, and clicks per impression, send or page view.
        show_up: shift of the log-odds that a registrant attends.
    """

    id: str
    shape: Shape
    top: float
    half: float = 1.0
    power: float = 1.0
    decay: float = 0.5
    lead_days: float = 21.0
    asset: str | None = None
    reach: tuple[float, float, float] = (0.0, 0.5, 0.5)
    elasticity: float = 1.0
    feeds_on_others: bool = False
    technical: float = 1.0
    use: float = 0.2
    typical: float = 1.0
    cost_per_click: float = 150.0
    click_rate: float = 0.01
    show_up: float = 0.0

    @property
    def is_s_shaped(self) -> bool:
        return self.shape is Shape.hill and self.power > 1


# fmt: off
MECHANISMS: tuple[Mechanism, ...] = (
    # --- auctions: money buys clicks, the audience runs out ----------------------------------------------------
    Mechanism("meta_ads", Shape.hill, 62, 340_000, 0.90, reach=(0.1, 0.2, 0.7), use=0.70, cost_per_click=260, click_rate=0.018, show_up=-0.20),
    Mechanism("meta_traffic", Shape.hill, 24, 260_000, 0.85, reach=(0.1, 0.1, 0.8), use=0.25, cost_per_click=90, click_rate=0.016, show_up=-0.25),
    Mechanism("linkedin_ads", Shape.hill, 26, 360_000, 0.95, lead_days=28, reach=(0.1, 0.8, 0.1), elasticity=0.9, use=0.40, cost_per_click=1_050, click_rate=0.006, show_up=0.05),
    Mechanism("linkedin_msg", Shape.capped, 10, 260_000, reach=(0.1, 0.8, 0.1), elasticity=0.8, use=0.12, cost_per_click=1_900, click_rate=0.030),
    Mechanism("google_search", Shape.capped, 20, 190_000, reach=(0.1, 0.7, 0.2), elasticity=1.25, use=0.60, cost_per_click=420, click_rate=0.065, show_up=0.05),
    Mechanism("yahoo_search", Shape.capped, 8, 80_000, reach=(0.1, 0.6, 0.3), elasticity=1.2, use=0.20, cost_per_click=330, click_rate=0.050),
    Mechanism("google_display", Shape.hill, 20, 290_000, 0.80, reach=(0.1, 0.3, 0.6), use=0.30, cost_per_click=80, click_rate=0.005, show_up=-0.25),
    Mechanism("yahoo_display", Shape.hill, 14, 250_000, 0.80, reach=(0.1, 0.3, 0.6), use=0.14, cost_per_click=80, click_rate=0.004, show_up=-0.25),
    Mechanism("line_ads", Shape.hill, 22, 380_000, 1.60, reach=(0.05, 0.1, 0.85), use=0.14, cost_per_click=60, click_rate=0.006, show_up=-0.30),
    Mechanism("x_ads", Shape.hill, 16, 150_000, 0.90, lead_days=14, reach=(0.1, 0.2, 0.7), technical=0.6, use=0.22, cost_per_click=60, click_rate=0.012, show_up=-0.15),
    Mechanism("youtube", Shape.hill, 26, 430_000, 2.00, lead_days=28, reach=(0.1, 0.3, 0.6), use=0.16, cost_per_click=200, click_rate=0.003, show_up=-0.20),
    Mechanism("platform_boost", Shape.hill, 12, 55_000, 0.85, lead_days=14, reach=(0.2, 0.3, 0.5), use=0.22, cost_per_click=90, click_rate=0.010),
    Mechanism("retargeting", Shape.capped, 0.08, 90_000, lead_days=14, reach=(0.2, 0.4, 0.4), feeds_on_others=True, use=0.30, cost_per_click=110, click_rate=0.009),
    # --- bought by the piece: a price list, little or nothing for the second one -------------------------------
    Mechanism("paid_newsletter", Shape.step, 17, decay=0.55, lead_days=28, reach=(0.1, 0.8, 0.1), use=0.32, cost_per_click=450, click_rate=0.006),
    Mechanism("media_article", Shape.step, 32, decay=0.30, lead_days=45, reach=(0.1, 0.7, 0.2), use=0.16, cost_per_click=900, click_rate=0.020),
    Mechanism("pr_release", Shape.step, 7, decay=0.25, reach=(0.1, 0.6, 0.3), use=0.40, cost_per_click=180, click_rate=0.030),
    Mechanism("speaker_fee", Shape.step, 26, decay=0.60, lead_days=45, reach=(0.1, 0.4, 0.5), elasticity=0.8, use=0.16, cost_per_click=600, click_rate=0.010),
    Mechanism("influencer", Shape.step, 13, decay=0.50, reach=(0.0, 0.2, 0.8), use=0.10, cost_per_click=300, click_rate=0.008, show_up=-0.15),
    # --- free: staff hours, limited by what the team has -------------------------------------------------------
    Mechanism("own_email", Shape.step, 26, decay=0.50, asset="email_list", reach=(0.85, 0.15, 0.0), elasticity=0.8, use=0.95, typical=2, click_rate=0.025, show_up=0.20),
    Mechanism("own_email_last", Shape.step, 12, decay=0.30, lead_days=3, asset="email_list", reach=(0.85, 0.15, 0.0), elasticity=0.8, use=0.60, click_rate=0.018, show_up=0.35),
    Mechanism("sales_invite", Shape.capped, 22, 24, lead_days=14, asset="sales_contacts", reach=(0.7, 0.3, 0.0), elasticity=0.6, use=0.35, typical=0.6, click_rate=0.25, show_up=0.45),
    Mechanism("own_social", Shape.step, 2.6, decay=0.82, asset="social_followers", reach=(0.5, 0.1, 0.4), use=0.80, typical=5, click_rate=0.008),
    Mechanism("employee_share", Shape.hill, 12, 4, 0.90, lead_days=14, asset="employees", reach=(0.3, 0.4, 0.3), use=0.30, click_rate=0.015),
    Mechanism("speaker_share", Shape.hill, 16, 3, 0.90, lead_days=14, asset="speakers", reach=(0.2, 0.4, 0.4), use=0.50, click_rate=0.010),
    Mechanism("partner", Shape.hill, 34, 8, 0.95, lead_days=28, asset="partners", reach=(0.3, 0.6, 0.1), elasticity=0.9, use=0.50, click_rate=0.012),
    Mechanism("connpass", Shape.listing, 24, 5, lead_days=28, asset="community_members", reach=(0.3, 0.4, 0.3), elasticity=0.9, technical=0.30, use=0.40, typical=1.2, click_rate=0.06, show_up=-0.05),
    Mechanism("peatix", Shape.listing, 12, 5, lead_days=28, asset="community_members", reach=(0.2, 0.2, 0.6), use=0.35, typical=1.2, click_rate=0.05),
    Mechanism("doorkeeper", Shape.listing, 10, 5, lead_days=28, asset="community_members", reach=(0.3, 0.4, 0.3), technical=0.40, use=0.14, typical=1.2, click_rate=0.05),
    Mechanism("global_platform", Shape.listing, 8, 5, lead_days=28, asset="community_members", reach=(0.1, 0.3, 0.6), technical=0.70, use=0.10, typical=1.2, click_rate=0.04, show_up=-0.20),
    Mechanism("community_post", Shape.step, 3.2, decay=0.80, lead_days=14, reach=(0.1, 0.4, 0.5), technical=0.60, use=0.35, typical=3, click_rate=0.020),
    Mechanism("seo_blog", Shape.hill, 15, 16, 2.00, lead_days=45, asset="site_visitors", reach=(0.2, 0.6, 0.2), elasticity=1.1, use=0.26, click_rate=0.030),
    Mechanism("referral", Shape.hill, 0.09, 5, 0.90, lead_days=14, reach=(0.3, 0.4, 0.3), feeds_on_others=True, use=0.18, click_rate=0.20, show_up=0.15),
)
# fmt: on


def respond(
    shape: npt.ArrayLike,
    amount: npt.ArrayLike,
    *,
    top: npt.ArrayLike,
    half: npt.ArrayLike,
    power: npt.ArrayLike,
    decay: npt.ArrayLike,
    setup: npt.ArrayLike,
    unit: npt.ArrayLike,
    max_units: npt.ArrayLike,
) -> Floats:
    """The response at ``amount`` (yen or hours), elementwise; every argument broadcasts against the others.

    Negative amounts count as zero. Zero gives zero in every shape.
    """
    x = np.maximum(np.asarray(amount, dtype=np.float64), 0.0)
    half_, power_ = np.asarray(half, dtype=np.float64), np.asarray(power, dtype=np.float64)
    setup_, decay_ = np.asarray(setup, dtype=np.float64), np.asarray(decay, dtype=np.float64)
    ratio = (x / half_) ** power_
    # a price or an hour written as a float must still buy the unit it is meant to buy
    units = np.floor((x - setup_) / np.asarray(unit, dtype=np.float64) + 1e-9)
    units = np.clip(units, 0.0, np.asarray(max_units, dtype=np.float64))
    listed = (x > 0) & (x >= setup_ * (1 - 1e-9))
    trickle = np.clip((x - setup_) / half_, 0.0, 1.0)
    share = np.choose(
        np.asarray(shape, dtype=np.intp),
        [
            ratio / (1.0 + ratio),
            np.minimum(x / half_, 1.0),
            (1.0 - decay_**units) / (1.0 - decay_),
            np.where(listed, LISTING_JUMP + (1.0 - LISTING_JUMP) * trickle, 0.0),
        ],
    )
    return np.asarray(np.asarray(top, dtype=np.float64) * share, dtype=np.float64)
