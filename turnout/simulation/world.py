"""The simulated world and its truth: organisers, events, audiences, and what every tactic really brings.

    >>> from datetime import date
    >>> world = World(WorldConfig(seed=1, events=40, until=date(2026, 9, 30)))
    >>> event = world.events[0]
    >>> world.true_expectation(event.code, "meta_ads", [0, 100_000, 400_000], event.date - timedelta(days=21))
    array([ 0.        , 21.75…, 45.10…])

A world is drawn from its seed alone: the same configuration is the same world on every machine. It is for
demonstrations and for measuring decisions where the best one is known. Nothing in it is a finding about real events.

The truth of one event with tactics t at amounts x_t (yen or staff hours)::

    demand      D   = category level x category trend x season x holidays near the event x theme
    event size  M   = D x organiser x format x price x time since registration opened
    alone       a_t = response_t(x_t) x asset_t x audience_t x M^elasticity_t x lead_time_t x efficiency_t(day)
    organic     a_0 = baseline x category x M
    overlap         in each shared audience g of size N_g, with r_g = sum_t reach_tg a_t / N_g, only the share
                    (1 - exp(-r_g)) / r_g of the people reached is new; tactics and the organic baseline lose alike
    dependent       retargeting and referral then add their share of what the others bring

and the history (:mod:`turnout.simulation.history`) multiplies each expectation by a log-normal shock per event and one
per tactic, both of mean one, and draws a Poisson count.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from turnout import taxonomy
from turnout.errors import InputError, Problem
from turnout.simulation import calendar
from turnout.simulation.mechanics import AUDIENCES, MECHANISMS, Floats, Mechanism, respond
from turnout.simulation.population import (
    DIGITAL_INDUSTRIES,
    FAMILIES,
    FAMILY_OF,
    FIELDS,
    KINDS,
    REFERENCE_ASSETS,
    SIZE_GROUPS,
    organiser_name,
)

if TYPE_CHECKING:
    from turnout.tactics import Tactic

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Share of tactics whose efficiency changes within each year of the world.
CHANGING_SHARE = 0.10

#: Organic registrations of the reference event.
_BASELINE = 34.0

#: People in each shared audience who would register for the reference event, before overlap.
_AUDIENCE_SIZE = (260.0, 330.0, 360.0)

#: Spread of the world's own parameters around the reference mechanisms, on the log scale.
_SD = {
    "top": 0.30, "half": 0.25, "lead": 0.15, "organiser": 0.18, "asset": 0.25, "category": 0.20, "trend": 0.14,
    "theme": 0.12, "audience_size": 0.15, "organic": 0.20, "click": 0.20,
    # how far the audience and theme of an event move one tactic away from its middle
    "category_tactic": 0.22, "family_tactic": 0.20, "size_tactic": 0.12, "theme_tactic": 0.10, "digital_tactic": 0.10,
    "category_half": 0.12, "family_half": 0.12,
}  # fmt: skip

_FORMAT_FACTOR = {"offline": 1.0, "hybrid": 1.15, "online": 1.35}
_WEEKDAY_FACTOR = np.array([0.93, 1.03, 1.05, 1.04, 0.95, 0.90, 0.90])
_REST_DAY_EFFECT = -0.035
_ASSET_GROWTH = 0.08


def stream(seed: int, name: str) -> np.random.Generator:
    """An independent source of random numbers for one purpose, so that adding a draw elsewhere changes nothing here."""
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(name.encode())]))


@dataclass(frozen=True, slots=True)
class PriceList:
    """What everybody knows of the tactics' costs, one entry per mechanism.

    Attributes:
        is_paid: amounts are yen, else staff hours.
        unit: price of one unit in yen (paid by the piece) or hours of one unit (free); 1 where there are no units.
        setup: hours before the first unit of a free tactic.
        max_units: units one event can use.
        minimum: smallest spend of an auction, yen.
        lead_days: days before the event on which planners start it.
        last_day: days before the event after which it is of no use.
        staff_setup, staff_per_unit: staff hours, of paid tactics too.
    """

    is_paid: Bools
    unit: Floats
    setup: Floats
    max_units: Floats
    minimum: Floats
    lead_days: Ints
    last_day: Ints
    staff_setup: Floats
    staff_per_unit: Floats


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """What defines a world. Two equal configurations are the same world.

    Attributes:
        seed: of every draw.
        until: last day on which an event may take place.
        events, organisers, months: size of the world; events lie in the ``months`` up to ``until``.
        fx_rates: yen for one unit of a currency, for accounts that are billed in it.
    """

    seed: int
    until: date
    events: int = 160
    organisers: int = 3
    months: int = 24
    fx_rates: Mapping[str, float] = field(default_factory=lambda: {"USD": 150.0})

    def __post_init__(self) -> None:
        problems = [
            Problem("out_of_range", f"{name} is {value}; allowed are {low} to {high}")
            for name, value, low, high in (
                ("seed", self.seed, 0, 2**63 - 1),
                ("events", self.events, 1, 1_000_000),
                ("organisers", self.organisers, 1, 10_000),
                ("months", self.months, 3, 240),
            )
            if not low <= value <= high
        ]
        if "USD" not in self.fx_rates:
            problems.append(Problem("missing", "fx_rates has no rate for USD, in which LinkedIn bills"))
        if problems:
            raise InputError(problems)

    @property
    def first(self) -> date:
        """First day on which an event may take place."""
        months = self.until.year * 12 + self.until.month - 1 - self.months
        first_of_month = date(months // 12, months % 12 + 1, 1)
        return first_of_month + timedelta(days=min(self.until.day - 1, 27))


@dataclass(frozen=True, slots=True)
class Organiser:
    """One organiser: its folder in the inbox, how strong it is, and what it has."""

    folder: str
    name: str
    strength: float
    assets: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SimulatedEvent:
    """What everybody may know of an event. Its truth is in the :class:`World`."""

    index: int
    code: str
    name: str
    organiser: int
    date: date
    category: str
    theme: str
    format: str
    price: int
    opens_before: int
    job_titles: tuple[str, ...]
    industries: tuple[str, ...]
    company_sizes: tuple[str, ...]
    assets: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class EfficiencyChange:
    """From ``day`` on, ``tactic`` brings ``factor`` times as much as before."""

    tactic: str
    day: date
    factor: float


@dataclass(frozen=True)
class Expectation:
    """Expected registrations of n portfolios over T tactics.

    Attributes:
        organic: after overlap, shape (n,).
        alone: each tactic as if no one else reached its audience, shape (n, T).
        tactics: after overlap, shape (n, T).
    """

    organic: Floats
    alone: Floats
    tactics: Floats

    @property
    def total(self) -> Floats:
        return np.asarray(self.organic + self.tactics.sum(axis=1), dtype=np.float64)


def price_list(mechanisms: Sequence[Mechanism] = MECHANISMS) -> PriceList:
    """Prices, hours and windows from the tactic catalogue: the world charges what the planner is told."""
    from turnout.tactics import load_catalogue

    catalogue = load_catalogue()
    rows = [catalogue.get(m.id) for m in mechanisms]
    return PriceList(
        is_paid=np.array([t.is_paid for t in rows]),
        unit=np.array([_unit(t) for t in rows]),
        setup=np.array([0.0 if t.is_paid else t.hours.setup_hours for t in rows]),
        max_units=np.array([float(t.hours.max_units or 1) for t in rows]),
        minimum=np.array([float(t.cost.minimum_spend or 0) for t in rows]),
        lead_days=np.array([t.lead_time_days for t in rows]),
        last_day=np.array([t.window.last_day for t in rows]),
        staff_setup=np.array([t.hours.setup_hours for t in rows]),
        staff_per_unit=np.array([t.hours.hours_per_unit for t in rows]),
    )


class World:
    """Events, audiences and tactics with their true parameters.

    Attributes:
        config: what it was drawn from.
        organisers, events: who and what; ``events`` are in order of date.
        tactics: ids, in the order of every array's last axis.
        changes: the tactics whose efficiency changes, and when.

    Arrays (E events, T tactics, G shared audiences)
        ``demand`` (E,), ``size`` (E,), ``organic`` (E,), ``top`` and ``half`` (E, T) with the audience's effect,
        ``power``, ``decay``, ``lead``, ``elasticity``, ``click_cost``, ``click_rate`` (T,), ``audience`` (E, G).
    """

    def __init__(self, config: WorldConfig, prices: PriceList | None = None) -> None:
        self.config = config
        self.mechanisms = MECHANISMS
        self.tactics: tuple[str, ...] = tuple(m.id for m in MECHANISMS)
        self.prices = prices or price_list()
        self._position = {tactic: t for t, tactic in enumerate(self.tactics)}
        self._draw_tactics()
        self.organisers = self._draw_organisers()
        self.events = self._draw_events()
        self._draw_effects()

    # --- drawing --------------------------------------------------------------------------------------------------
    def _draw_tactics(self) -> None:
        rng = stream(self.config.seed, "tactics")
        shape = (len(MECHANISMS),)
        self.shape = np.array([m.shape for m in MECHANISMS], dtype=np.int64)
        self.base_top = np.array([m.top for m in MECHANISMS]) * np.exp(rng.normal(0, _SD["top"], shape))
        self.base_half = np.array([m.half for m in MECHANISMS]) * np.exp(rng.normal(0, _SD["half"], shape))
        power = np.array([m.power for m in MECHANISMS])
        # a curve keeps its kind: concave ones stay below 1, S-shaped ones above 1.3
        noise = rng.normal(0, 0.05, shape) * np.where(power > 1, 2.5, 1.0)
        self.power = np.where(power > 1, np.maximum(power + noise, 1.3), np.clip(power + noise, 0.6, 1.0))
        self.decay = np.clip(np.array([m.decay for m in MECHANISMS]) + rng.normal(0, 0.05, shape), 0.05, 0.95)
        self.lead = np.array([m.lead_days for m in MECHANISMS]) * np.exp(rng.normal(0, _SD["lead"], shape))
        self.elasticity = np.array([m.elasticity for m in MECHANISMS]) + rng.normal(0, 0.05, shape)
        self.reach = np.array([m.reach for m in MECHANISMS])
        self.feeds_on_others = np.array([m.feeds_on_others for m in MECHANISMS])
        self.click_cost = np.array([m.cost_per_click for m in MECHANISMS]) * np.exp(rng.normal(0, _SD["click"], shape))
        self.click_rate = np.array([m.click_rate for m in MECHANISMS]) * np.exp(rng.normal(0, _SD["click"], shape))
        self.show_up_shift = np.array([m.show_up for m in MECHANISMS])
        self.changes = self._draw_changes(rng)

    def _draw_changes(self, rng: np.random.Generator) -> tuple[EfficiencyChange, ...]:
        days = (self.config.until - self.config.first).days
        changes = []
        for year_start in range(0, days, 365):
            year_days = min(365, days - year_start)
            count = int(np.ceil(CHANGING_SHARE * len(self.tactics)))
            for t in rng.permutation(len(self.tactics))[:count]:
                day = self.config.first + timedelta(days=year_start + int(rng.integers(0, max(year_days, 1))))
                factor = float(np.exp(rng.choice([-1.0, 1.0]) * rng.uniform(0.30, 0.60)))
                changes.append(EfficiencyChange(self.tactics[t], day, factor))
        return tuple(sorted(changes, key=lambda c: (c.day, c.tactic)))

    def _draw_organisers(self) -> tuple[Organiser, ...]:
        rng = stream(self.config.seed, "organisers")
        organisers = []
        for number in range(self.config.organisers):
            folder, name = organiser_name(number)
            strength = float(np.exp(rng.normal(0, _SD["organiser"])))
            assets = {k: v * float(np.exp(rng.normal(0, _SD["asset"]))) for k, v in REFERENCE_ASSETS.items()}
            organisers.append(Organiser(folder, name, strength, assets))
        return tuple(organisers)

    def _draw_events(self) -> tuple[SimulatedEvent, ...]:
        config, rng = self.config, stream(self.config.seed, "events")
        n = config.events
        days = calendar.business_days(config.first, config.until)
        # more events are held when demand is high, as everywhere
        weight = calendar.season(days) ** 1.5
        dates = np.sort(rng.choice(days, size=n, p=weight / weight.sum()))
        organiser = rng.integers(0, config.organisers, n)
        organiser[: min(n, config.organisers)] = np.arange(min(n, config.organisers))  # nobody without an event
        organiser = rng.permutation(organiser)
        # each organiser has favourite fields
        favour = rng.gamma(0.8, 1.0, (config.organisers, len(FIELDS))) + 0.08
        chance = favour * np.array([f.weight for f in FIELDS])
        bound = np.cumsum(chance / chance.sum(axis=1, keepdims=True), axis=1)
        number = (rng.random(n)[:, None] > bound[organiser]).sum(axis=1).clip(0, len(FIELDS) - 1)
        self.field_index = number
        self.theme_index = rng.integers(0, 4, n)
        formats = np.array(["offline", "online", "hybrid"])[rng.choice(3, n, p=[0.40, 0.45, 0.15])]
        is_charged = rng.random(n) < np.where(formats == "online", 0.10, 0.32)
        price = np.where(is_charged, rng.choice([2000, 3000, 5000, 8000, 12000, 20000], n), 0)
        price = np.where(formats == "online", np.minimum(price, 5000), price)
        opens = rng.integers(35, calendar.LONGEST_RUN_UP + 1, n)
        opens = np.where(rng.random(n) < 0.15, rng.integers(18, 35, n), opens)  # some are announced late
        kind = rng.integers(0, 6, n)
        size_group = rng.choice(3, n, p=[0.28, 0.37, 0.35])
        size_of = list(SIZE_GROUPS)
        self.size_index = size_group
        held: dict[str, int] = {}
        numbered: dict[int, int] = {}
        events = []
        for i in range(n):
            day = dates[i].astype(object)
            here = FIELDS[number[i]]
            theme = here.themes[self.theme_index[i]]
            kinds = KINDS[formats[i]]
            series = theme + kinds[kind[i] % len(kinds)]
            held[series] = held.get(series, 0) + 1
            numbered[day.year] = numbered.get(day.year, 0) + 1
            titles = _likeliest(rng, here.job_titles, int(rng.integers(1, 4)))
            industries = _likeliest(rng, here.industries, int(rng.integers(1, 4)))
            years = (day - config.first).days / 365.25
            assets = {
                k: max(1, round(v * (1 + _ASSET_GROWTH) ** years))
                for k, v in self.organisers[organiser[i]].assets.items()
            }
            events.append(
                SimulatedEvent(
                    index=i,
                    code=f"EV{day.year}-{numbered[day.year]:03d}",
                    name=f"第{held[series]}回 {series}",
                    organiser=int(organiser[i]),
                    date=day,
                    category=here.category,
                    theme=theme,
                    format=str(formats[i]),
                    price=int(price[i]),
                    opens_before=int(opens[i]),
                    job_titles=titles,
                    industries=industries,
                    company_sizes=SIZE_GROUPS[size_of[size_group[i]]],
                    assets=assets,
                )
            )
        return tuple(events)

    def _draw_effects(self) -> None:
        """Demand, size and the audience's effect on every tactic, from the events' attributes."""
        config, rng = self.config, stream(self.config.seed, "effects")
        n, fields, families, tactics = len(self.events), len(FIELDS), len(FAMILIES), len(self.tactics)
        self.dates = np.array([e.date for e in self.events], dtype="datetime64[D]")
        self.organiser_index = np.array([e.organiser for e in self.events], dtype=np.int64)
        self.opens_before = np.array([e.opens_before for e in self.events], dtype=np.int64)
        field_, theme, size = self.field_index, self.theme_index, self.size_index
        years = (self.dates - np.datetime64(config.first)).astype(np.float64) / 365.25

        self.category_level = rng.normal(0, _SD["category"], fields)
        self.category_trend = rng.normal(0, _SD["trend"], fields)
        self.season_phase = rng.normal(0, 15.0, fields)
        self.theme_level = rng.normal(0, _SD["theme"], (fields, 4))
        weekday = (self.dates.astype(np.int64) + 3) % 7
        self.season = calendar.season(self.dates, self.season_phase[field_])
        log_demand = (
            self.category_level[field_]
            + self.category_trend[field_] * (years - config.months / 24)
            + self.theme_level[field_, theme]
            + np.log(self.season)
            + np.log(_WEEKDAY_FACTOR[weekday])
            + _REST_DAY_EFFECT * calendar.rest_days_near(self.dates)
        )
        self.demand = np.exp(log_demand)
        price = np.array([e.price for e in self.events], dtype=np.float64)
        offer = np.array([_FORMAT_FACTOR[e.format] for e in self.events]) / (1 + price / 9000) ** 0.9
        ahead = np.clip(self.opens_before / 45, 0, 1) ** 0.35
        strength = np.array([o.strength for o in self.organisers])[self.organiser_index]
        self.size = self.demand * strength * offer * ahead

        family = np.zeros((n, families))
        digital = np.zeros(n)
        position = {name: k for k, name in enumerate(FAMILIES)}
        for i, event in enumerate(self.events):
            for title in event.job_titles:
                family[i, position[FAMILY_OF[title]]] += 1 / len(event.job_titles)
            digital[i] = sum(name in DIGITAL_INDUSTRIES for name in event.industries) / len(event.industries)
        self.audience_effect = (
            rng.normal(0, _SD["category_tactic"], (fields, tactics))[field_]
            + family @ rng.normal(0, _SD["family_tactic"], (families, tactics))
            + rng.normal(0, _SD["size_tactic"], (3, tactics))[size]
            + rng.normal(0, _SD["theme_tactic"], (fields, 4, tactics))[field_, theme]
            + np.outer(digital - 0.5, rng.normal(0, 2 * _SD["digital_tactic"], tactics))
        )
        half_effect = rng.normal(0, _SD["category_half"], (fields, tactics))[field_] + family @ rng.normal(
            0, _SD["family_half"], (families, tactics)
        )
        asset = np.ones((n, tactics))
        for t, mechanism in enumerate(MECHANISMS):
            if mechanism.asset is not None:
                reference = REFERENCE_ASSETS[mechanism.asset]
                asset[:, t] = [e.assets[mechanism.asset] / reference for e in self.events]
        technical = np.array([f.technical for f in FIELDS])[field_]
        not_technical = np.where(technical[:, None], 1.0, np.array([m.technical for m in MECHANISMS])[None, :])
        self.top = self.base_top * np.exp(self.audience_effect) * asset * not_technical
        self.half = self.base_half * np.exp(half_effect)
        self.organic = _BASELINE * np.exp(rng.normal(0, _SD["organic"], fields)[field_]) * self.size * np.sqrt(strength)
        breadth = 0.75 + 0.25 * np.array([len(e.job_titles) for e in self.events]) / 2
        self.audience = (
            np.array(_AUDIENCE_SIZE)
            * np.exp(rng.normal(0, _SD["audience_size"], (fields, len(AUDIENCES))))[field_]
            * (breadth * np.sqrt(self.size))[:, None]
        )
        reach_organic = rng.dirichlet([6.0, 4.0, 4.0])
        self.organic_reach = reach_organic

    # --- truth ----------------------------------------------------------------------------------------------------
    def event(self, which: SimulatedEvent | str | int) -> SimulatedEvent:
        """An event by itself, its code, its name or its index.

        Raises:
            KeyError: there is no such event.
        """
        if isinstance(which, SimulatedEvent):
            return which
        if isinstance(which, str):
            if which not in self._by_name:
                raise KeyError(f"the simulated world has no event {which!r}")
            return self.events[self._by_name[which]]
        return self.events[which]

    @cached_property
    def _by_name(self) -> dict[str, int]:
        return {e.name: e.index for e in self.events} | {e.code: e.index for e in self.events}

    def position(self, tactic: str) -> int:
        """The index of a tactic in every array.

        Raises:
            KeyError: the world does not know it.
        """
        if tactic not in self._position:
            raise KeyError(f"the simulated world has no tactic {tactic!r}; it has {', '.join(self.tactics)}")
        return self._position[tactic]

    def efficiency(self, days: npt.NDArray[np.datetime64], tactic: int | None = None) -> Floats:
        """The factor of each tactic on each day; ``days`` has T columns, or any shape for one ``tactic``."""
        log = np.zeros(days.shape)
        for change in self.changes:
            t = self._position[change.tactic]
            step = np.log(change.factor)
            if tactic is None:
                log[..., t] += np.where(days[..., t] >= np.datetime64(change.day), step, 0.0)
            elif tactic == t:
                log += np.where(days >= np.datetime64(change.day), step, 0.0)
        return np.asarray(np.exp(log), dtype=np.float64)

    def lead_factor(self, start_before: npt.ArrayLike) -> Floats:
        """What is left of a tactic that starts ``start_before`` days before the event, shape (…, T); 1 if in time."""
        return np.asarray(np.clip(np.asarray(start_before) / self.lead, 0.0, 1.0) ** 0.6, dtype=np.float64)

    def alone(self, events: Ints, amount: Floats, start_before: Floats) -> Floats:
        """Each tactic's expectation as if it were the only one, before dependence and overlap.

        Args:
            events: indices, shape (n,).
            amount: yen or staff hours, shape (n, T).
            start_before: days from the tactic's start to the event, shape (n, T).

        Returns:
            Registrations, shape (n, T); for tactics that feed on the others, a share of theirs.
        """
        response = respond(
            self.shape, amount, top=self.top[events], half=self.half[events], power=self.power, decay=self.decay,
            setup=self.prices.setup, unit=self.prices.unit, max_units=self.prices.max_units,
        )  # fmt: skip
        middle = self.dates[events][:, None] - np.rint(start_before / 2).astype("timedelta64[D]")
        scale = np.where(self.feeds_on_others, 1.0, self.size[events][:, None] ** self.elasticity)
        return np.asarray(response * scale * self.efficiency(middle) * self.lead_factor(start_before), dtype=np.float64)

    def expectation(self, events: Ints, amount: Floats, start_before: Floats | None = None) -> Expectation:
        """Expected registrations of a portfolio per event, with overlap.

        Args:
            events: indices, shape (n,); an event may appear often.
            amount: yen (paid) or staff hours (free), shape (n, T).
            start_before: days before the event on which each tactic starts, shape (n, T). Default: in time.
        """
        if start_before is None:
            start_before = np.broadcast_to(np.ceil(self.lead), amount.shape)
        alone = self.alone(events, amount, start_before)
        base = np.where(self.feeds_on_others, 0.0, alone)
        organic = self.organic[events]
        crowd = base @ self.reach + organic[:, None] * self.organic_reach
        ratio = crowd / self.audience[events]
        fresh = np.where(ratio > 1e-12, -np.expm1(-ratio) / np.maximum(ratio, 1e-12), 1.0)
        credited = base * (fresh @ self.reach.T)
        organic = organic * (fresh @ self.organic_reach)
        for t in np.flatnonzero(self.feeds_on_others):
            others = organic + credited.sum(axis=1)
            credited[:, t] = alone[:, t] * others
            alone[:, t] = credited[:, t]
        return Expectation(organic=organic, alone=alone, tactics=credited)

    def true_expectation(
        self, event: SimulatedEvent | str | int, tactic: str, amount: npt.ArrayLike, starts: date
    ) -> Floats:
        """Expected registrations of one tactic used alone in an event, at one or many amounts.

        Alone: nobody else reaches its audience, and a tactic that feeds on the others has the organic baseline only.
        For a whole portfolio use :meth:`expectation`.

        Args:
            event: the event, its code, name or index.
            amount: yen (paid) or staff hours (free), any shape.
            starts: first day of the tactic. On the event's day or later it brings nothing.

        Returns:
            Registrations, in the shape of ``amount``.
        """
        at, t = self.event(event), self.position(tactic)
        x = np.asarray(amount, dtype=np.float64)
        flat = x.reshape(-1)
        portfolio = np.zeros((flat.size, len(self.tactics)))
        portfolio[:, t] = flat
        before = np.full(portfolio.shape, float(max((at.date - starts).days, 0)))
        events = np.full(flat.size, at.index, dtype=np.int64)
        brought = self.alone(events, portfolio, before)[:, t]
        if self.feeds_on_others[t]:
            brought = brought * self.organic[at.index]
        return brought.reshape(x.shape)

    def show_up_logit(self, events: Ints) -> Floats:
        """Log-odds that somebody who registers on the event's day attends, by format and price."""
        base = {"offline": 1.15, "hybrid": 0.85, "online": 0.35}
        logit = np.array([base[self.events[i].format] + (0.75 if self.events[i].price else 0.0) for i in events])
        return np.asarray(logit, dtype=np.float64)


def _unit(tactic: Tactic) -> float:
    """Yen for one unit of a tactic bought by the piece, hours for one of a free one; 1 where there are no units."""
    if tactic.cost.kind == "effort":
        return tactic.hours.hours_per_unit or 1.0
    return tactic.cost.unit_price or 1.0


def _likeliest(rng: np.random.Generator, values: Sequence[str], count: int) -> tuple[str, ...]:
    """``count`` different values, earlier ones likelier."""
    weight = 1.0 / np.arange(1, len(values) + 1)
    chosen = rng.choice(len(values), size=min(count, len(values)), replace=False, p=weight / weight.sum())
    return tuple(values[i] for i in sorted(chosen))


def check_vocabularies() -> None:
    """Every id the population uses is one of the taxonomy's.

    Raises:
        InputError: names the ids that are not.
    """
    used = {
        "category": ({f.category for f in FIELDS}, taxonomy.categories.ids),
        "job title": ({t for f in FIELDS for t in f.job_titles} | set(FAMILY_OF), taxonomy.job_titles.ids),
        "industry": ({i for f in FIELDS for i in f.industries} | DIGITAL_INDUSTRIES, taxonomy.industries.ids),
        "company size": ({s for group in SIZE_GROUPS.values() for s in group}, taxonomy.company_sizes.ids),
    }
    problems = [
        Problem("unknown_id", f"{kind} {value!r} is not in the taxonomy")
        for kind, (values, known) in used.items()
        for value in sorted(values - set(known))
    ]
    if problems:
        raise InputError(problems)
