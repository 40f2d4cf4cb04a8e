"""What happened in the simulated world: what the organisers did, who registered, and what the platforms claim.

The organiser is partly right. It feels the demand for an event, not exactly, and spends more where it feels more;
among the auctions it prefers those that suit the audience, not exactly. So spend is confounded with demand, and a
naive regression of registrations on spend overrates every tactic.

Hardness, all measured again on what was drawn (:func:`hardness`):

    * log-normal shocks of 0.10 per event and 0.25 per tactic, of mean one, on top of Poisson counts;
    * spend correlated at least 0.5 with demand;
    * 5 % of the registrations carry no source, or a wrong one;
    * platforms claim 30 % more registrations than they brought, and claims arrive over weeks (:func:`matured`);
    * 15 % of the tactics start too late for their full effect.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from turnout.simulation import calendar
from turnout.simulation.mechanics import Floats, Shape
from turnout.simulation.population import FIELDS
from turnout.simulation.world import Bools, Expectation, Ints, World, stream

#: Spread of the shocks on the log scale.
EVENT_SHOCK_SD, TACTIC_SHOCK_SD = 0.10, 0.25

#: Platforms claim this many registrations for one that they brought.
CLAIM_RATIO = 1.30

#: Share of registrations without a source or with a wrong one.
MISLABELLED_SHARE = 0.05

#: How well the organiser feels demand: correlation of its feeling with the truth.
_FEELING = 0.90
_LATE_SHARE = 0.15
_FREE_ONLY_SHARE = 0.04
_CANCELLED_SHARE = 0.06
_ATTENDANCE_KEPT_SHARE = 0.92
_TYPICAL_BUDGET = 1_350_000.0

#: Labels of the origin of a registration that are no tactic.
ORGANIC, NO_LABEL = -1, -2

#: Which platform reports which tactic's performance. The other tactics' results stand in the organiser's sheet only.
PLATFORM_TACTICS: dict[str, tuple[str, ...]] = {
    "google_ads": ("google_search", "google_display", "youtube", "retargeting"),
    "meta_ads": ("meta_ads", "meta_traffic"),
    "linkedin_ads": ("linkedin_ads", "linkedin_msg"),
}
#: Optimised for clicks: the platform reports no registrations for it.
WITHOUT_CLAIMS = frozenset({"meta_traffic"})
EMAIL_TACTICS = ("own_email", "own_email_last")

#: Days after which a platform's figure for a day no longer changes.
RESTATED_DAYS = 30


@dataclass(frozen=True)
class Registrations:
    """One entry per registration, cancelled ones included.

    Attributes:
        event, tactic: indices; tactic is :data:`ORGANIC` for those who came by themselves. This is the truth.
        label: what the registration system says: a tactic index, :data:`ORGANIC` or :data:`NO_LABEL`.
        day: of registration; second: within that day, Japanese time.
        is_confirmed: False for cancelled ones.
        attended: 1, 0, or -1 where it was not recorded.
    """

    event: Ints
    tactic: Ints
    label: Ints
    day: npt.NDArray[np.datetime64]
    second: Ints
    is_confirmed: Bools
    attended: Ints


@dataclass(frozen=True)
class AdDays:
    """One entry per event, platform tactic and day on which it ran.

    Attributes:
        spend: yen; LinkedIn's is cents of a dollar times the rate, so not whole.
        cents: the same in the smallest coin of the account's currency (yen, or cents of a dollar).
        claimed: registrations the platform will claim for the clicks of this day once all have arrived.
    """

    event: Ints
    tactic: Ints
    day: npt.NDArray[np.datetime64]
    spend: Floats
    cents: Ints
    impressions: Ints
    clicks: Ints
    claimed: Floats


@dataclass(frozen=True)
class MailDays:
    """One entry per event, e-mail tactic and day with mail activity."""

    event: Ints
    tactic: Ints
    day: npt.NDArray[np.datetime64]
    requests: Ints
    opens: Ints
    clicks: Ints


@dataclass(frozen=True)
class Spending:
    """What the organisers decided, (E, T) unless said otherwise.

    Attributes:
        amount: yen of a paid tactic, staff hours of a free one; 0 where it is not used.
        staff_hours: of paid tactics too.
        starts, ends: days before the event; 0 where it is not used.
        budget: yen for promotion, (E,).
    """

    amount: Floats
    staff_hours: Floats
    starts: Ints
    ends: Ints
    budget: Ints

    @property
    def used(self) -> Bools:
        return self.amount > 0


@dataclass(frozen=True)
class History:
    """A world's history; the truth and what was recorded of it."""

    world: World
    spending: Spending
    expected: Expectation
    event_shock: Floats
    tactic_shock: Floats
    organic_count: Ints
    tactic_count: Ints
    target: Ints
    reach: Ints
    clicks: Ints
    registrations: Registrations
    ads: AdDays
    mail: MailDays

    @property
    def spend(self) -> Floats:
        """Yen per event and tactic, (E, T); 0 for free tactics."""
        return np.asarray(np.where(self.world.prices.is_paid, self.spending.amount, 0.0), dtype=np.float64)

    @property
    def total_count(self) -> Ints:
        """Confirmed registrations per event."""
        return np.asarray(self.organic_count + self.tactic_count.sum(axis=1), dtype=np.int64)


def live(world: World) -> History:
    """Let the organisers of ``world`` act and the audiences answer. The same world always has the same history."""
    seed = world.config.seed
    n, tactics = len(world.events), len(world.tactics)
    shocks = stream(seed, "shocks")
    event_shock = np.exp(shocks.normal(-(EVENT_SHOCK_SD**2) / 2, EVENT_SHOCK_SD, n))
    tactic_shock = np.exp(shocks.normal(-(TACTIC_SHOCK_SD**2) / 2, TACTIC_SHOCK_SD, (n, tactics)))
    spending = _spend(world, event_shock, stream(seed, "spending"))
    everybody = np.arange(n)
    expected = world.expectation(everybody, spending.amount, spending.starts.astype(np.float64))
    counts = stream(seed, "counts")
    organic_mean = expected.organic * event_shock
    tactic_mean = expected.tactics * event_shock[:, None] * tactic_shock
    organic_count, tactic_count = counts.poisson(organic_mean), counts.poisson(tactic_mean)
    guess = expected.total * np.exp(stream(seed, "targets").normal(0, 0.20, n))
    target = np.maximum(10 * np.rint(guess / 10), 20).astype(np.int64)
    cancelled = counts.poisson(_CANCELLED_SHARE * organic_mean), counts.poisson(_CANCELLED_SHARE * tactic_mean)
    registrations = _register(world, spending, confirmed=(organic_count, tactic_count), cancelled=cancelled)
    reach, clicks = _reach(world, spending, tactic_count)
    ads = _ad_days(world, spending, tactic_count, reach, clicks)
    return History(
        world=world, spending=spending, expected=expected, event_shock=event_shock, tactic_shock=tactic_shock,
        organic_count=organic_count, tactic_count=tactic_count, target=target, reach=reach, clicks=clicks,
        registrations=registrations, ads=ads, mail=_mail_days(world, spending, reach, clicks),
    )  # fmt: skip


# --- what the organisers do -----------------------------------------------------------------------------------------


def _spend(world: World, event_shock: Floats, rng: np.random.Generator) -> Spending:
    """The organisers' decisions: budget by felt demand, fixed prices first, the rest to the auctions."""
    n, tactics, prices = len(world.events), len(world.tactics), world.prices
    use = np.array([m.use for m in world.mechanisms])
    technical = np.array([FIELDS[k].technical for k in world.field_index])
    suits = np.where(technical[:, None], 1.0, np.array([m.technical for m in world.mechanisms]))

    demand = np.log(world.demand * event_shock)
    spread = demand.std()
    felt = (demand - demand.mean()) / (spread if spread > 0 else 1.0)
    felt = _FEELING * felt + np.sqrt(1 - _FEELING**2) * rng.normal(0, 1, n)
    habit = np.exp(rng.normal(0, 0.10, world.config.organisers))[world.organiser_index]
    budget = _TYPICAL_BUDGET * habit * np.exp(0.52 * felt + rng.normal(0, 0.10, n))
    budget = np.where(rng.random(n) < _FREE_ONLY_SHARE, 0.0, np.maximum(np.rint(budget / 10_000), 10) * 10_000)

    chance = 1 / (1 + (1 / np.clip(use, 0.01, 0.97) - 1) * np.exp(-0.25 * felt[:, None])) * suits
    wanted = rng.random((n, tactics)) < chance
    is_auction = prices.is_paid & (world.shape != Shape.step)
    is_piece = prices.is_paid & ~is_auction

    amount = np.zeros((n, tactics))
    amount += _buy_pieces(world, wanted & is_piece, 0.60 * budget, rng)
    left = np.maximum(budget * rng.uniform(0.86, 1.0, n) - amount.sum(axis=1), 0.0)
    nothing = ~(wanted & is_auction).any(axis=1)
    wanted[nothing, world.position("meta_ads")] = True
    wanted[nothing, world.position("google_search")] = True
    amount += _bid(world, wanted & is_auction, left, rng)
    amount += np.where(wanted & ~prices.is_paid, _hours(world, n, rng), 0.0)

    used = amount > 0
    on_time = prices.lead_days * rng.uniform(0.95, 1.25, (n, tactics))
    late = prices.lead_days * rng.uniform(0.20, 0.80, (n, tactics))
    starts = np.rint(np.where(rng.random((n, tactics)) < _LATE_SHARE, late, on_time))
    starts = np.clip(starts, np.maximum(prices.last_day, 1), world.opens_before[:, None])
    last_call = world.position("own_email_last")
    starts[:, last_call] = np.minimum(rng.integers(2, 4, n), world.opens_before)
    starts = np.where(used, starts, 0).astype(np.int64)
    ends = np.where(used, np.minimum(prices.last_day, starts), 0).astype(np.int64)

    # LinkedIn bills in dollars: what was spent is a whole number of cents at the day's rate
    rate = world.config.fx_rates["USD"]
    for tactic in PLATFORM_TACTICS["linkedin_ads"]:
        t = world.position(tactic)
        amount[:, t] = np.rint(amount[:, t] / rate * 100) * rate / 100
    paid_units = np.where(is_piece, amount / prices.unit, 0.0)
    staff = np.where(prices.is_paid, prices.staff_setup + prices.staff_per_unit * paid_units, amount)
    return Spending(
        amount=amount,
        staff_hours=np.where(used, np.round(staff * 4) / 4, 0.0),
        starts=starts,
        ends=ends,
        budget=budget.astype(np.int64),
    )


def _buy_pieces(world: World, wanted: Bools, limit: Floats, rng: np.random.Generator) -> Floats:
    """Yen for tactics bought by the piece: in random order, as long as they take no more than ``limit`` (E,)."""
    prices = world.prices
    units = 1 + (rng.random(wanted.shape) < 0.30) * (prices.max_units > 1)
    cost = np.where(wanted, prices.unit * units, 0.0)
    order = np.argsort(rng.random(wanted.shape), axis=1)
    running = np.cumsum(np.take_along_axis(cost, order, axis=1), axis=1)
    affordable = np.zeros(wanted.shape, dtype=bool)
    np.put_along_axis(affordable, order, running <= limit[:, None], axis=1)
    return np.asarray(np.where(affordable, cost, 0.0), dtype=np.float64)


def _bid(world: World, wanted: Bools, left: Floats, rng: np.random.Generator) -> Floats:
    """Yen for auctions out of what is ``left`` (E,), mostly to what suits the audience, each above its minimum."""
    liking = world.half * np.exp(0.6 * world.audience_effect + rng.normal(0, 0.55, wanted.shape))
    bid = np.zeros(wanted.shape)
    for _ in range(3):  # dropping what falls below an auction's minimum leaves more for the others
        weight = np.where(wanted, liking, 0.0)
        share = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
        bid = np.minimum(share * left[:, None], 3.0 * world.half)
        wanted = wanted & (bid >= world.prices.minimum)
    return np.asarray(np.where(wanted, np.rint(bid), 0.0), dtype=np.float64)


def _hours(world: World, n: int, rng: np.random.Generator) -> Floats:
    """Staff hours a free tactic gets where it is used, (E, T), in quarters of an hour."""
    prices, shape = world.prices, (n, len(world.tactics))
    typical = np.array([m.typical for m in world.mechanisms])
    units = np.clip(np.rint(typical * np.exp(rng.normal(0, 0.35, shape))), 1, prices.max_units)
    effort = typical * world.half * np.exp(rng.normal(0, 0.45, shape))
    hours = np.where(
        world.shape == Shape.step,
        prices.setup + prices.unit * units,
        np.where(world.shape == Shape.listing, prices.setup + effort, np.maximum(effort, 0.5)),
    )
    return np.asarray(np.ceil(hours * 4) / 4, dtype=np.float64)


# --- who registers --------------------------------------------------------------------------------------------------


def _register(
    world: World, spending: Spending, *, confirmed: tuple[Ints, Ints], cancelled: tuple[Ints, Ints]
) -> Registrations:
    """Spread the counts over days, label them, and let people attend.

    Args:
        confirmed, cancelled: organic registrations per event, and those of each event and tactic.
    """
    rng = stream(world.config.seed, "registrations")
    n = len(world.events)
    is_online = np.array([e.format == "online" for e in world.events])
    late_share = np.clip(np.where(is_online, 0.42, 0.34) + rng.normal(0, 0.06, n), 0.15, 0.65)
    at = np.concatenate([np.arange(n), np.nonzero(spending.used)[0]])
    by = np.concatenate([np.full(n, ORGANIC), np.nonzero(spending.used)[1]])
    count = np.concatenate([confirmed[0], confirmed[1][spending.used]])
    every = count + np.concatenate([cancelled[0], cancelled[1][spending.used]])
    pieces = []
    for low in range(0, at.size, 8192):  # keeps the (pairs x days) matrices small at any size of world
        part = slice(low, low + 8192)
        where = np.repeat(np.arange(at[part].size), every[part])
        chances = _run_up(world, spending, late_share, at[part], by[part])
        pieces.append(_sample_rows(chances, where, rng))
    ahead = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)
    pair = np.repeat(np.arange(at.size), every)
    event, tactic = at[pair], by[pair]
    first = np.cumsum(every) - every
    # the rows of a pair are exchangeable, so any of them may be the cancelled ones
    is_confirmed = np.arange(pair.size) - first[pair] < count[pair]
    day = world.dates[event] - ahead.astype("timedelta64[D]")
    hour = _HOURS[np.searchsorted(_HOUR_BOUNDS, rng.random(pair.size))]
    hour = np.where(ahead == 0, rng.integers(0, 10, pair.size), hour)  # doors open at ten
    second = hour * 3600 + rng.integers(0, 3600, pair.size)
    return Registrations(
        event=event,
        tactic=tactic,
        label=_labels(world, tactic, rng),
        day=day,
        second=second.astype(np.int64),
        is_confirmed=is_confirmed,
        attended=_attendance(world, event=event, tactic=tactic, ahead=ahead, is_confirmed=is_confirmed, rng=rng),
    )


_HOUR_WEIGHT = np.array(
    [1, 0.6, 0.3, 0.2, 0.2, 0.4, 1, 2.5, 5, 8, 9, 8.5, 9, 8, 7.5, 7.5, 7, 6.5, 5, 4, 4, 4, 3.5, 2.2]
)  # fmt: skip
_HOUR_BOUNDS = np.cumsum(_HOUR_WEIGHT) / _HOUR_WEIGHT.sum()
_HOURS = np.append(np.arange(24), 23)


def _sample_rows(chances: Floats, row: Ints, rng: np.random.Generator) -> Ints:
    """One column per entry of ``row``, drawn from that row of ``chances``; rows sum to 1."""
    bounds = np.cumsum(chances, axis=1)
    bounds[:, -1] = 1.0
    flat = (bounds + np.arange(chances.shape[0])[:, None]).ravel()
    column = np.searchsorted(flat, row + rng.random(row.size), side="right") - row * chances.shape[1]
    return np.asarray(np.clip(column, 0, chances.shape[1] - 1), dtype=np.int64)


def _run_up(world: World, spending: Spending, late_share: Floats, at: Ints, by: Ints) -> Floats:
    """How the registrations of each (event, tactic) pair spread over the days before the event: rows sum to 1.

    Auctions bring people while they run, more towards the end. Mails, posts and releases bring a burst each time.
    Listings, partners and speakers bring some at once and some with everybody else's last-minute wave.
    """
    ahead = np.arange(calendar.LONGEST_RUN_UP + 1, dtype=np.float64)[None, :]
    weight = calendar.run_up(world.opens_before[at], late_share[at])
    t = np.where(by == ORGANIC, 0, by)
    starts = np.where(by == ORGANIC, world.opens_before[at], spending.starts[at, t]).astype(np.float64)[:, None]
    ends = np.where(by == ORGANIC, 0, spending.ends[at, t]).astype(np.float64)[:, None]
    shape = np.where(by == ORGANIC, -1, world.shape[t])[:, None]
    is_auction = (world.prices.is_paid[t] & (world.shape[t] != Shape.step) & (by != ORGANIC))[:, None]
    lag = starts - ahead
    flow = np.where(ahead >= ends, 0.6 + 0.8 * np.exp(-ahead / 6), 0.0)
    burst = np.zeros_like(weight)
    rounds = _rounds(world, spending, at, t)[:, None]
    for k in range(int(rounds.max(initial=1))):
        sent = np.rint(starts - k * (starts - ends) / np.maximum(rounds, 1))
        burst += np.where((k < rounds) & (ahead <= sent), 0.7**k * np.exp(-(sent - ahead) / 2.0), 0.0)
    mixed = 0.5 * np.exp(-np.maximum(lag, 0) / 5) / 5 + 0.5 * np.exp(-ahead / 5) / 5
    weight = np.where(is_auction, flow, np.where(shape == Shape.step, burst, np.where(shape < 0, weight, mixed)))
    weight = np.where(ahead <= starts, weight, 0.0)
    weight *= calendar.day_weights(world.dates[at][:, None] - ahead.astype("timedelta64[D]"))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True), dtype=np.float64)


def _rounds(world: World, spending: Spending, at: Ints, t: Ints) -> Ints:
    """How often a tactic of steps goes out: its units."""
    amount, prices = spending.amount[at, t], world.prices
    units = np.floor((amount - prices.setup[t]) / prices.unit[t] + 1e-9)
    return np.clip(units, 1, np.minimum(prices.max_units[t], 12)).astype(np.int64)


def _labels(world: World, tactic: Ints, rng: np.random.Generator) -> Ints:
    """The recorded origin: the truth, but for the mislabelled share, half of which is empty and half wrong."""
    label = tactic.copy()
    chosen = rng.permutation(tactic.size)[: int(np.ceil(MISLABELLED_SHARE * tactic.size))]
    use = np.array([m.use for m in world.mechanisms])
    wrong = rng.choice(len(use), size=chosen.size, p=use / use.sum())
    wrong = np.where(wrong == tactic[chosen], ORGANIC, wrong)
    label[chosen] = np.where(np.arange(chosen.size) % 2 == 0, NO_LABEL, wrong)
    return label


def _attendance(
    world: World, *, event: Ints, tactic: Ints, ahead: Ints, is_confirmed: Bools, rng: np.random.Generator
) -> Ints:
    """Who came: by format, price, origin and how long ago they registered, with an effect of the event's own."""
    n = len(world.events)
    fields = rng.normal(0, 0.15, len(FIELDS))[world.field_index]
    logit = world.show_up_logit(np.arange(n)) + fields + rng.normal(0, 0.20, n)
    shift = np.append(world.show_up_shift, 0.0)[tactic]  # index -1 is the organic ones
    came = rng.random(event.size) < 1 / (1 + np.exp(-(logit[event] + shift - 0.012 * ahead)))
    is_kept = rng.random(n) < _ATTENDANCE_KEPT_SHARE
    is_known = is_kept[event] & (rng.random(event.size) < 0.99) & is_confirmed
    return np.where(is_known, came, -1).astype(np.int64)


# --- what the platforms say -----------------------------------------------------------------------------------------


def _reach(world: World, spending: Spending, tactic_count: Ints) -> tuple[Ints, Ints]:
    """Impressions, sends or page views, and clicks, per event and tactic: (E, T) each."""
    rng = stream(world.config.seed, "reach")
    n, tactics = tactic_count.shape
    used = spending.used
    noise = np.exp(rng.normal(0, 0.15, (n, tactics)))
    bought = spending.amount / (world.click_cost * noise)
    worked = (tactic_count + 1) * rng.uniform(3.0, 6.0, (n, tactics))
    clicks = np.where(world.prices.is_paid, bought, worked)
    list_size = np.array([e.assets["email_list"] for e in world.events], dtype=np.float64)
    reach = clicks / world.click_rate * np.exp(rng.normal(0, 0.10, (n, tactics)))
    for tactic in EMAIL_TACTICS:
        t = world.position(tactic)
        sends = _rounds(world, spending, np.arange(n), np.full(n, t))
        reach[:, t] = np.rint(list_size) * sends
        clicks[:, t] = reach[:, t] * world.click_rate[t] * noise[:, t]
    clicks = np.where(used, np.maximum(np.rint(clicks), np.ceil(1.3 * tactic_count) + 2), 0)
    reach = np.where(used, np.maximum(np.rint(reach), 2 * clicks + 10), 0)
    for tactic in EMAIL_TACTICS:  # mails sent are what they are; clicks give way
        t = world.position(tactic)
        sends = np.rint(list_size) * _rounds(world, spending, np.arange(n), np.full(n, t))
        reach[:, t] = np.where(used[:, t], sends, 0)
        clicks[:, t] = np.minimum(clicks[:, t], reach[:, t])
    return reach.astype(np.int64), clicks.astype(np.int64)


def _whole_parts(shares: Floats, total: Floats) -> Ints:
    """Split whole ``total`` (n,) by ``shares`` (n, d), rows summing to 1, into whole parts that sum to it."""
    edge = np.rint(np.cumsum(shares, axis=1) * total[:, None])
    edge[:, -1] = total
    return np.diff(edge, axis=1, prepend=0.0).astype(np.int64)


def _ad_days(world: World, spending: Spending, tactic_count: Ints, reach: Ints, clicks: Ints) -> AdDays:
    """Daily rows of the tactics that an ad platform reports."""
    rng = stream(world.config.seed, "ads")
    rate = world.config.fx_rates["USD"]
    parts = []
    for platform, names in PLATFORM_TACTICS.items():
        positions = np.array([world.position(name) for name in names])
        at, k = np.nonzero(spending.used[:, positions])
        by = positions[k]
        ahead = np.arange(calendar.LONGEST_RUN_UP, -1, -1)[None, :]  # forwards in time
        runs = (ahead <= spending.starts[at, by][:, None]) & (ahead >= spending.ends[at, by][:, None])
        days = world.dates[at][:, None] - ahead.astype("timedelta64[D]")
        pace = np.exp(rng.normal(0, 0.30, runs.shape)) * (0.8 + 0.4 * np.exp(-ahead / 7))
        pace = np.where(runs, pace * (0.5 + 0.5 * calendar.day_weights(days)), 0.0)
        share = pace / pace.sum(axis=1, keepdims=True)
        per_yen = 100 / rate if platform == "linkedin_ads" else 1.0
        cents = _whole_parts(share, np.rint(spending.amount[at, by] * per_yen))
        seen = _whole_parts(share, reach[at, by].astype(np.float64))
        noisy = share * np.exp(rng.normal(0, 0.15, share.shape))
        clicked = _whole_parts(noisy / noisy.sum(axis=1, keepdims=True), clicks[at, by].astype(np.float64))
        clicked = np.minimum(clicked, seen)
        claims = CLAIM_RATIO * tactic_count[at, by] * np.exp(rng.normal(0, 0.10, at.size))
        claims = np.where(np.isin(by, [world.position(x) for x in WITHOUT_CLAIMS]), 0.0, claims)
        true = tactic_count[at, by][claims > 0].sum()
        claims *= CLAIM_RATIO * true / claims.sum() if claims.sum() > 0 else 1.0
        spread = share * rng.gamma(2.0, 0.5, share.shape)
        claimed = claims[:, None] * spread / np.maximum(spread.sum(axis=1, keepdims=True), 1e-12)
        # Google splits a conversion between clicks (two decimals); the others count whole ones
        grain = 100 if platform == "google_ads" else 1
        row, column = np.nonzero(runs)
        edge = np.rint(np.cumsum(claimed[row, column]) * grain)
        parts.append(
            AdDays(
                event=at[row],
                tactic=by[row],
                day=days[row, column],
                spend=cents[row, column] / per_yen,
                cents=cents[row, column],
                impressions=seen[row, column],
                clicks=clicked[row, column],
                claimed=np.diff(edge, prepend=0.0) / grain,
            )
        )
    return AdDays(*(np.concatenate([getattr(p, name) for p in parts]) for name in AdDays.__dataclass_fields__))


def matured(claimed: Floats, age_days: npt.NDArray[np.int64], *, fractional: bool) -> Floats:
    """What a platform shows of ``claimed`` when the clicks are ``age_days`` old: conversions arrive late.

    A third shows at once, all after :data:`RESTATED_DAYS`; it never falls as time passes.
    """
    share = np.where(age_days >= RESTATED_DAYS, 1.0, 1.0 - 0.66 * np.exp(-np.maximum(age_days, 0) / 8.0))
    shown = np.floor(claimed * share * 100) / 100 if fractional else np.floor(claimed * share)
    return np.asarray(np.where(age_days >= RESTATED_DAYS, claimed, shown), dtype=np.float64)


def _mail_days(world: World, spending: Spending, reach: Ints, clicks: Ints) -> MailDays:
    """Daily mail activity: everything is sent in the rounds, opened and clicked over the four days from each."""
    tail = np.array([0.62, 0.21, 0.10, 0.07])
    parts = []
    for tactic in EMAIL_TACTICS:
        t = world.position(tactic)
        at = np.flatnonzero(spending.used[:, t])
        rounds = _rounds(world, spending, at, np.full(at.size, t))
        starts, ends = spending.starts[at, t], spending.ends[at, t]
        for k in range(int(rounds.max(initial=0))):
            going = k < rounds
            sent = np.rint(starts - k * (starts - ends) / rounds)[going].astype(np.int64)
            who = at[going]
            requests = reach[who, t] // rounds[going]
            clicked = np.diff(
                np.rint(clicks[who, t][:, None] * np.array([k, k + 1]) / rounds[going][:, None]), axis=1
            ).ravel()
            opened = np.rint(requests * 0.28)
            for lag, share in enumerate(tail):
                day = world.dates[who] - (sent - lag).astype("timedelta64[D]")
                parts.append(
                    MailDays(
                        event=who,
                        tactic=np.full(who.size, t),
                        day=day,
                        requests=requests if lag == 0 else np.zeros_like(requests),
                        opens=np.rint(opened * share).astype(np.int64),
                        clicks=np.rint(clicked * share).astype(np.int64),
                    )
                )
    if not parts:
        nothing = np.zeros(0, dtype=np.int64)
        return MailDays(nothing, nothing, np.zeros(0, dtype="datetime64[D]"), nothing, nothing, nothing)
    return MailDays(*(np.concatenate([getattr(p, name) for p in parts]) for name in MailDays.__dataclass_fields__))


# --- how hard it is -------------------------------------------------------------------------------------------------


def hardness(history: History) -> dict[str, float]:
    """The properties that make the world hard to learn, measured on what was drawn.

    Keys: ``spend_demand_correlation`` (the smaller of the plain one, and the logarithmic one of events that spend),
    ``mislabelled_share``, ``claim_ratio``, ``event_shock_sd`` and ``tactic_shock_sd`` (of the logarithm),
    ``season_amplitude``, ``changing_share`` (the smallest share of tactics that change within one year of the world),
    ``shapes`` (number of different forms in use), ``tactics_used``, ``overlap_share`` (expected registrations that
    tactics lose to one another), ``late_share`` (uses that start too late for their full effect), ``show_up_rate``,
    ``tactic_spread`` (standard deviation of the audience's effect on a tactic, on the log scale).
    """
    world, used = history.world, history.spending.used
    spent = history.spend.sum(axis=1)
    demand = world.demand * history.event_shock
    some = spent > 0
    correlation = float("nan")
    if some.sum() > 2:
        plain = np.corrcoef(spent, demand)[0, 1]
        logarithmic = np.corrcoef(np.log(spent[some]), np.log(demand[some]))[0, 1]
        correlation = float(min(plain, logarithmic))
    who = history.registrations
    claiming = np.array(
        [world.position(x) for names in PLATFORM_TACTICS.values() for x in names if x not in WITHOUT_CLAIMS]
    )
    true_claimable = history.tactic_count[:, claiming].sum()
    base = ~world.feeds_on_others
    alone, together = history.expected.alone[:, base].sum(), history.expected.tactics[:, base].sum()
    year = np.arange(np.datetime64("2025-01-01"), np.datetime64("2026-01-01"))
    swing = calendar.season(year)
    known = who.attended >= 0
    days = (world.config.until - world.config.first).days
    per_year = []
    for start in range(0, max(days - 300, 1), 365):  # a last stretch of a few weeks is not a year
        low, high = np.datetime64(world.config.first) + start, np.datetime64(world.config.first) + start + 365
        changing = {c.tactic for c in world.changes if low <= np.datetime64(c.day) < high}
        per_year.append(len(changing) / len(world.tactics))
    shape = {(m.shape, m.is_s_shaped) for m in world.mechanisms}
    late = history.spending.starts < world.lead - 0.5
    return {
        "spend_demand_correlation": correlation,
        "mislabelled_share": float((who.label != who.tactic).mean()) if who.label.size else float("nan"),
        "claim_ratio": float(history.ads.claimed.sum() / true_claimable) if true_claimable else float("nan"),
        "event_shock_sd": float(np.log(history.event_shock).std()),
        "tactic_shock_sd": float(np.log(history.tactic_shock[used]).std()) if used.any() else float("nan"),
        "season_amplitude": float((swing.max() - swing.min()) / 2),
        "changing_share": float(min(per_year)),
        "shapes": float(len(shape)),
        "tactics_used": float(used.any(axis=0).sum()),
        "overlap_share": float(1 - together / alone) if alone else float("nan"),
        "late_share": float(late[used].mean()) if used.any() else float("nan"),
        "show_up_rate": float((who.attended[known] == 1).mean()) if known.any() else float("nan"),
        "tactic_spread": float(world.audience_effect.std(axis=0).mean()),
    }
