"""A tactic's response curve before any own data: the catalogue's figures for one brief.

x is spend in base currency for paid tactics and staff hours for free ones. With ``v(m)`` the typical value of metric m:

* **auction** tactics: one registration costs ``c = v(cost) / (v(per_1) · v(per_2) …)`` at small spend (``cpm_*`` is per
  1,000 impressions, so divided by 1,000), and the audience is exhausted at ``L = v(limit)`` registrations. A Hill curve
  with shape 1 has slope top/half at 0, hence ``Hill(top=L, half=L·c)``; a capped-linear one is
  ``CappedLinear(1/c, L)``.
* **per_unit** tactics (a release, a slot, a send): n units cost ``n · v(price)`` and the first brings
  ``size · v(rate_1) · v(rate_2) …``; each further one brings ``v(decay)`` of the one before. A ``Step``.
* **effort** tactics: n units take ``setup_hours + n · hours_per_unit`` and bring the same kind of decreasing steps;
  where units are contacts (sales invitations), a ``CappedLinear`` that starts after the set-up.

The brief changes this in four ways, all of them guesses in the catalogue's ``factors`` until own data say more:

* *assets* give the size; a brief that does not know one gets the typical size, and ``assumptions`` says so;
* *format*: ``reach_online`` … multiplies the reach (auction: the limit, at the same cost each; else the response);
* *price*: a ticket price p leaves ``h / (h + p)`` of the registrations, h = ``price_half_jpy``; money buys less then;
* *audience*: naming k of n industries (job titles, sizes) leaves ``√(k/n)`` of an auction's reach each, never less
  than ``audience_floor``: platforms find look-alikes.

A brief with ``as_of`` also loses what no longer fits: sends whose day has passed, and of everything else
``1 − √(days left / usual days)`` (an auction's limit, a listing's yield). The root, because registrations come late:
58 % of a webinar's come in the last 7 of about 28 days (the ``pacing`` priors), and √(7/28) = 50 %.

``log_sd`` is the standard deviation of log(response): each figure's range read as a 90 % interval
(``ln(high/low) / 3.29``), a figure without a range counts ``unstated_log_sd``, and ``transport_log_sd`` is added for
carrying a published figure to this organiser; variances add.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Literal

from turnout import taxonomy
from turnout.brief import Audience, Brief
from turnout.curves import CappedLinear, Curve, Hill, Logistic, Step
from turnout.money import Rates
from turnout.plan import Evidence
from turnout.tactics.catalogue import Prior, Tactic, load_event_priors

#: More steps than this say nothing that a planner could follow.
_MOST_UNITS = 400


@dataclass(frozen=True, slots=True)
class PriorCurve:
    """What the benchmarks say of one tactic in one event.

    Attributes:
        curve: x → expected registrations; its ``maximum`` is 0 where an asset is known to be missing.
        log_sd: standard deviation of the logarithm of the response.
        evidence: ``benchmark`` when every rate and cost was published, else ``guess``.
        source_text: the publications used, with years.
        assumptions: typical sizes used because the brief does not give the asset, one sentence each.
        unit_at: x of each whole unit (empty where x is continuous).
    """

    curve: Curve
    log_sd: float
    evidence: Literal[Evidence.benchmark, Evidence.guess]
    source_text: str
    assumptions: tuple[str, ...] = ()
    unit_at: tuple[float, ...] = ()

    def units(self, x: float) -> int | None:
        """Whole units that x pays for; ``None`` where the tactic has none."""
        if not self.unit_at:
            return None
        return sum(at <= x * (1 + 1e-9) for at in self.unit_at)


@lru_cache(maxsize=64)
def _factor(metric: str) -> float:
    return load_event_priors().get("factors", metric).value


def _log_sd_of(prior: Prior) -> float:
    spread = prior.log_sd
    return _factor("unstated_log_sd") if spread is None else spread


@lru_cache(maxsize=256)
def _evidence(tactic: Tactic) -> tuple[float, Literal[Evidence.benchmark, Evidence.guess], str]:
    """log_sd, evidence and sources: they depend on the catalogue alone."""
    response = tactic.response
    names = [m for m in (response.cost, *response.per, *response.rates, *response.unit_rates) if m]
    used = [tactic.prior(m) for m in names]
    variance = _factor("transport_log_sd") ** 2 + sum(_log_sd_of(p) ** 2 for p in used)
    guessed = any(p.kind == "guess" for p in used)
    texts = dict.fromkeys(
        f"{p.metric}: {p.source}" + (f" ({p.year})" if p.year and str(p.year) not in p.source else "") for p in used
    )
    return math.sqrt(variance), Evidence.guess if guessed else Evidence.benchmark, "; ".join(texts)


def _in_base(metric: str, value: float, rates: Rates) -> float:
    """A cost metric in base currency for one registration, click or impression."""
    currency = "USD" if "_usd" in metric else "JPY"
    amount = rates.convert(value, currency, rates.base)
    return amount / 1000.0 if metric.startswith("cpm") else amount


def _product(tactic: Tactic, metrics: tuple[str, ...]) -> float:
    return math.prod(tactic.prior(m).value for m in metrics)


def _audience_share(audience: Audience) -> float:
    share = 1.0
    for chosen, vocabulary in (
        (audience.industries, taxonomy.industries),
        (audience.job_titles, taxonomy.job_titles),
        (audience.company_sizes, taxonomy.company_sizes),
    ):
        if chosen:
            share *= math.sqrt(len(set(chosen)) / len(vocabulary.ids))
    return max(share, _factor("audience_floor"))


def _size(tactic: Tactic, brief: Brief) -> tuple[float, tuple[str, ...]]:
    """What the response's ``size`` stands for in this brief, and what had to be assumed."""
    response = tactic.response
    if response.size is None:
        return 1.0, ()
    if response.size == "goal":
        return float(brief.goal.target), ()
    known: int | None = getattr(brief.assets, tactic.asset) if tactic.asset else None
    if known is not None:
        share = tactic.prior(response.asset_factor).value if response.asset_factor else 1.0
        return known * share, ()
    typical = tactic.prior(response.size).value
    note = f"{tactic.asset or response.size} is not known: {response.size} {typical:,.0f} assumed"
    return typical, (note,)


def _days_left(tactic: Tactic, brief: Brief) -> int | None:
    """Days before the event on which the tactic can begin at the earliest; ``None`` without ``as_of``."""
    if brief.as_of is None:
        return None
    return (brief.event.date - brief.as_of - timedelta(days=tactic.preparation_days)).days


def _run_share(tactic: Tactic, brief: Brief) -> float:
    """The part of the usual run's registrations that is still ahead, in [0, 1]."""
    left = _days_left(tactic, brief)
    if left is None:
        return 1.0
    last = tactic.window.last_day
    return math.sqrt(min(1.0, max(0.0, (left - last + 1) / (tactic.lead_time_days - last + 1))))


def _units(tactic: Tactic, brief: Brief, size: float) -> int:
    """How many whole units there can be."""
    most = tactic.hours.max_units or _MOST_UNITS
    if tactic.response.unit_rates and tactic.response.size:
        most = min(most, math.floor(size + 1e-9))
    left = _days_left(tactic, brief)
    if left is not None and tactic.send_days:
        most = min(most, sum(day <= left for day in tactic.send_days[:most]) or int(left >= tactic.window.last_day))
    return min(most, _MOST_UNITS)


def _rates(fx: Rates | Mapping[str, float] | Any) -> Rates:
    return fx if isinstance(fx, Rates) else Rates(fx)


def prior_curve(tactic: Tactic, brief: Brief, fx: Rates | Mapping[str, float]) -> PriorCurve:
    """The prior curve of ``tactic`` for ``brief``; see the module docstring for the formulas.

    Args:
        fx: exchange rates with the base currency x is in; a bare mapping (units of JPY for one unit) means base JPY.

    Raises:
        InputError: a currency has no exchange rate.
    """
    rates = _rates(fx)
    response = tactic.response
    log_sd, evidence, source_text = _evidence(tactic)
    reach = _factor(f"reach_{brief.event.format}")
    price_jpy = rates.convert(float(brief.event.price.amount), brief.event.price.currency, "JPY")
    price_half = _factor("price_half_jpy")
    willing = price_half / (price_half + price_jpy)
    size, assumptions = _size(tactic, brief)
    decay = tactic.prior(response.decay).value if response.decay else 1.0
    per_unit = _product(tactic, (*response.rates, *response.unit_rates))
    if not response.unit_rates:
        per_unit *= size

    curve: Curve
    unit_at: tuple[float, ...] = ()
    if tactic.cost.kind == "auction":
        assert response.cost is not None
        cost = _in_base(response.cost, tactic.prior(response.cost).value, rates) / _product(tactic, response.per)
        limit = (
            tactic.prior(response.limit).value * _audience_share(brief.event.audience) if response.limit else per_unit
        )
        limit *= reach * _run_share(tactic, brief)
        curve = _auction(response.curve, limit, cost)
    elif tactic.cost.kind == "per_unit":
        assert response.price is not None
        price = _in_base(response.price, tactic.prior(response.price).value, rates)
        price *= size if response.price_per_size else 1.0
        units = _units(tactic, brief, size)
        curve, unit_at = _steps(price, per_unit * reach, decay, units, 0.0)
    elif response.curve == "capped_linear":
        hours = tactic.hours
        rate = _product(tactic, response.rates) * reach / hours.hours_per_unit  # each contact is as likely as ever
        curve = CappedLinear(rate, per_unit * reach * _run_share(tactic, brief), start=hours.setup_hours)
    else:
        units = _units(tactic, brief, size)
        curve, unit_at = _steps(tactic.hours.hours_per_unit, per_unit * reach, decay, units, tactic.hours.setup_hours)
    return PriorCurve(curve.scaled(willing), log_sd, evidence, source_text, assumptions, unit_at)


def _auction(kind: str, limit: float, cost: float) -> Curve:
    if kind == "capped_linear":
        return CappedLinear(1.0 / cost, limit)
    # an empty audience still needs a half-saturation point to be a curve
    half = limit * cost if limit > 0 else cost
    if kind == "logistic":
        # slope at 0 is top·ln3/(2·half): the same cost at small spend needs half = L·c·ln3/2
        return Logistic(limit, half * math.log(3.0) / 2.0)
    return Hill(limit, half)


def _steps(price: float, first: float, decay: float, count: int, start: float) -> tuple[Step, tuple[float, ...]]:
    """Decreasing steps of whole units, and where they stand; a curve that brings nothing when there is no unit."""
    if count < 1 or first <= 0:
        return Step(max(start + price, 1.0), 0.0), ()
    if price <= 0:  # everything is in the set-up: one unit
        return Step(start, first), (start,)
    step = Step.units(price, first, decay, count, start)
    assert not isinstance(step.at, (int, float))
    return step, tuple(step.at)
