"""What an event's and a tactic's effects are looked up by: one function for training and for scoring.

The height of a response is a sum on the log scale, ``log scale = Σ weight · effect[group][key]``. This module says
which keys and weights one row has; :mod:`training.hierarchy` estimates the effects, ``parameters.json`` stores them.

===================  ===========================  =====================================================================
group                key                          weight
===================  ===========================  =====================================================================
organisation         one                          1 for tactics, nothing for what comes by itself
tactic               tactic, '' for organic       1
segment, kind        category; format and price   1
tactic_segment       both                         1
organic_kind         kind                         1 for organic alone
organiser            account                      1: names, rooms and audiences differ between an organisation's teams
organiser_tactic     both                         1: the size of its list, its followers, its partners
theme                theme, normalised            1
weekday              0 (Monday) … 6               1
theme_tactic         both                         1
size, size_tactic    company size (and tactic)    1/n for each of the n sizes named: several levels per row
title_tactic         job title and tactic         1/n for each of the n titles named
price                one, organic                 log(1 + p/h), h the ticket price that halves interest (catalogue)
opens                one                          log(days from opening of registration to event / 45), bounded
rest                 one                          days off (weekend, public holiday) in the week before, beyond two
run, run_tactic      one; tactic                  log of the share of its usual run that the tactic had
open_run,            one; tactic                  log of the share of its usual run for which registration was open
open_run_tactic
trend                one, each segment            years from the end of the training data, bounded
season               four terms                   two harmonics of the year
segment_season       four terms, each segment     the same: each segment's own year
segment_recent,      quarter and segment, or      1 for every quarter of a year from the event to the end of the data: a
tactic_recent        quarter and tactic           random walk told backwards, so that the other effects are today's
===================  ===========================  =====================================================================

A key that is not known (no theme, no organiser named) or was never seen adds nothing to the mean and the group's
variance to the spread: :meth:`EffectTable.unseen_variance`. So the first event ever still has an answer.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from turnout.brief import Brief
from turnout.errors import ConfigurationError
from turnout.money import Rates
from turnout.schedule import is_working_day
from turnout.scoring.published import kind_of
from turnout.tactics.catalogue import load_catalogue, load_event_priors

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Columns = Mapping[str, Any]

#: The tactic of the organic baseline.
ORGANIC = ""
#: "The one": key of a group of one level.
ONE = ""
#: Days ahead at which registration usually opens, where its effect is zero, and how far it is believed.
USUAL_OPENS = 45.0
_OPENS_RANGE = (0.1, 1.5)
#: A trend is not carried further than half a year beyond the data.
_TREND_RANGE = (-10.0, 0.5)
_LEAST_SHARE = 0.05
#: Steps of a random walk that are told apart.
_QUARTERS = 12
_YEAR = 365.2425
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Prior:
    """A group's effects are N(mean, sd²); ``learn``: sd is estimated, held near this one."""

    sd: float
    mean: float = 0.0
    learn: bool = False


#: Prior spreads of what a benchmark cannot know, on the log scale: guesses, learnt where there are levels enough.
#: The tactic's own prior is its benchmark's spread.
PRIORS: Mapping[str, Prior] = {
    "organisation": Prior(0.35),
    "tactic": Prior(0.6),
    "segment": Prior(0.25, learn=True),
    "kind": Prior(0.15, learn=True),
    "tactic_segment": Prior(0.15, learn=True),
    "organic_kind": Prior(0.30, learn=True),
    "organiser": Prior(0.20, learn=True),
    "organiser_tactic": Prior(0.20, learn=True),
    "theme": Prior(0.15, learn=True),
    "weekday": Prior(0.10, learn=True),
    "size": Prior(0.10, learn=True),
    "size_tactic": Prior(0.15, learn=True),
    "title_tactic": Prior(0.15, learn=True),
    "theme_tactic": Prior(0.10, learn=True),
    "price": Prior(0.5),
    "opens": Prior(0.3, mean=0.2),
    "rest": Prior(0.05),
    "run": Prior(0.3, mean=0.2),
    "run_tactic": Prior(0.2, learn=True),
    "open_run": Prior(0.3, mean=0.2),
    "open_run_tactic": Prior(0.2, learn=True),
    "trend": Prior(0.10, learn=True),
    "season": Prior(0.10),
    "segment_season": Prior(0.05, learn=True),
    "segment_recent": Prior(0.05, learn=True),
    "tactic_recent": Prior(0.08, learn=True),
}
#: Groups in which a level that was never seen, or is not known, makes an answer less certain.
OPEN_GROUPS: tuple[str, ...] = (
    "organiser", "organiser_tactic", "theme", "theme_tactic", "size", "size_tactic", "title_tactic",
)  # fmt: skip
#: Groups of which an effect acts on all of an event alike.
SHARED_GROUPS: tuple[str, ...] = (
    "segment", "kind", "organiser", "theme", "weekday", "size", "price", "opens", "rest", "trend", "season",
    "segment_season", "segment_recent",
)  # fmt: skip
_ANY_TACTIC = "any"
#: Groups of which each effect belongs to one tactic, and where in the key it stands.
TACTIC_GROUPS: Mapping[str, int] = {
    "tactic": 0, "tactic_segment": 0, "organiser_tactic": -1, "theme_tactic": -1, "size_tactic": -1, "title_tactic": -1,
    "run_tactic": 0, "open_run_tactic": 0, "tactic_recent": -1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Terms:
    """Which effects of one group act on which rows: arrays of one length (entries,)."""

    rows: Ints
    keys: NDArray[np.object_]
    weights: Floats


@dataclass(frozen=True, slots=True)
class EventFacts:
    """What is known of an event when it is planned, as far as effects hang on it.

    Attributes:
        organiser: the account it is held under; '' is not known.
        theme: free text; '' is not known.
        opens_days: days from the opening of registration to the event; None is not known.
        left_days: days from the day of planning to the event; None: enough for everything.
        price_ratio: ticket price over the price that halves interest (:func:`price_ratio`).
    """

    segment_id: str
    kind: str
    event_date: date
    organiser: str = ""
    theme: str = ""
    opens_days: float | None = None
    left_days: float | None = None
    price_ratio: float = 0.0
    company_sizes: tuple[str, ...] = ()
    job_titles: tuple[str, ...] = ()

    @classmethod
    def of(cls, brief: Brief, rates: Rates) -> EventFacts:
        """The facts of a brief."""
        event = brief.event
        opens = event.registration_opens
        return cls(
            segment_id=event.category,
            kind=kind_of(str(event.format), float(event.price.amount)),
            event_date=event.date,
            organiser=event.organiser,
            theme=event.theme,
            opens_days=None if opens is None else float((event.date - opens).days),
            left_days=None if brief.as_of is None else float((event.date - brief.as_of).days),
            price_ratio=price_ratio(rates.to_base(event.price), rates),
            company_sizes=tuple(event.audience.company_sizes),
            job_titles=tuple(event.audience.job_titles),
        )

    def columns(self, tactic_ids: Sequence[str]) -> dict[str, Any]:
        """The raw columns of :func:`terms` for one row per tactic."""
        return {
            "tactic_id": np.array(tactic_ids, dtype=object),
            "segment_id": self.segment_id,
            "kind": self.kind,
            "event_date": np.datetime64(self.event_date, "D"),
            "organiser": self.organiser,
            "theme": self.theme,
            "opens_days": math.nan if self.opens_days is None else self.opens_days,
            "run_days": _run_days(self.left_days, tactic_ids),
            "price_ratio": self.price_ratio,
            "company_sizes": self.company_sizes,
            "job_titles": self.job_titles,
        }


def price_ratio(price_base: float, rates: Rates) -> float:
    """A ticket price (base currency) over the catalogue's price that halves interest."""
    return price_base / rates.from_jpy(load_event_priors().get("factors", "price_half_jpy").value)


def _run_days(left: float | None, tactic_ids: Sequence[str]) -> Floats:
    """Days before the event on which each tactic can begin if planned ``left`` days ahead; NaN: early enough."""
    catalogue = load_catalogue()
    days = np.full(len(tactic_ids), math.nan)
    if left is not None:
        for row, tactic in enumerate(tactic_ids):
            if tactic in catalogue:
                days[row] = left - catalogue.get(tactic).preparation_days
    return days


def log_run_share(tactic_ids: ArrayLike, days: Floats) -> Floats:
    """Log of the share of its usual run that is left to a tactic begun ``days`` before the event; 0 where unknown.

    The usual run goes from the catalogue's lead time to the last day of its window. Shares below a twentieth count as
    one: so late, nothing is known.
    """
    lead, last = _usual_runs(tuple(np.asarray(tactic_ids, dtype=object).tolist()))
    share = (np.minimum(days, lead) - last + 1.0) / (lead - last + 1.0)
    return np.asarray(np.nan_to_num(np.log(np.clip(share, _LEAST_SHARE, 1.0)), nan=0.0))


def _usual_runs(tactic_ids: tuple[str, ...]) -> tuple[Floats, Floats]:
    catalogue = load_catalogue()
    runs = {
        t: (float(catalogue.get(t).lead_time_days), float(catalogue.get(t).window.last_day))
        for t in set(tactic_ids)
        if t in catalogue
    }
    both = np.array([runs.get(t, (math.nan, math.nan)) for t in tactic_ids]).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def normalised(text: str) -> str:
    """One spelling of a theme: NFKC, no case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def season_terms(day_number: ArrayLike) -> Floats:
    """Two harmonics of the year at days since 1970 (any shape); the terms are a new last axis of length 4."""
    turn = 2 * np.pi * np.asarray(day_number, dtype=np.float64) / _YEAR
    return np.stack([np.sin(turn), np.cos(turn), np.sin(2 * turn), np.cos(2 * turn)], axis=-1)


@lru_cache(maxsize=4096)
def _rest_days(day: date, country: str) -> float:
    """Days on which offices are closed in the week before ``day``, beyond the two of every week."""
    week = [day - timedelta(days=ahead) for ahead in range(1, 8)]
    try:
        return float(sum(not is_working_day(d, country) for d in week) - 2)
    except ConfigurationError:  # no holidays are known there
        return 0.0


def terms(columns: Columns, rows: int, origin: date | None, country: str = "JP") -> dict[str, Terms]:
    """The effects that act on each row, by group.

    Args:
        columns: tactic_id, segment_id, kind, event_date, organiser, theme, opens_days, run_days (days before the event
            on which the tactic begins, NaN if not known), price_ratio, company_sizes:
            arrays of length ``rows``, or scalars (a tuple of sizes) that hold for every row.
        origin: the day trends are counted from, the last one of the training data; None: no trend.
        country: whose public holidays count.
    """
    tactic, segment, kind = (_texts(columns[name], rows) for name in ("tactic_id", "segment_id", "kind"))
    organiser = _texts(columns["organiser"], rows)
    theme = _mapped(_texts(columns["theme"], rows), normalised)
    organic = tactic == ORGANIC
    days = np.broadcast_to(np.asarray(columns["event_date"], dtype="datetime64[D]"), (rows,)).astype(np.int64)
    every, ones = np.arange(rows), np.ones(rows)
    one = np.full(rows, ONE, dtype=object)
    price = np.log1p(np.maximum(_numbers(columns["price_ratio"], rows), 0.0))
    ahead = _numbers(columns["opens_days"], rows) / USUAL_OPENS
    opens = np.nan_to_num(np.log(np.clip(ahead, *_OPENS_RANGE)), nan=0.0)
    run = log_run_share(tactic, _numbers(columns["run_days"], rows))
    open_run = log_run_share(tactic, _numbers(columns["opens_days"], rows))
    years = np.zeros(rows)
    if origin is not None:
        years = np.clip((days - (np.datetime64(origin, "D").astype(np.int64))) / _YEAR, *_TREND_RANGE)
    season = season_terms(days)
    distinct, position = np.unique(days, return_inverse=True)
    rest = np.array([_rest_days(_EPOCH + timedelta(days=int(day)), country) for day in distinct])[position]
    sizes, titles = (_listed(columns[name], rows) for name in ("company_sizes", "job_titles"))
    back = _quarters_back(days, origin)
    return {
        "organisation": Terms(every[~organic], one[~organic], ones[~organic]),
        "tactic": Terms(every, tactic, ones),
        "segment": Terms(every, segment, ones),
        "kind": Terms(every, kind, ones),
        "tactic_segment": Terms(every, _pairs(tactic, segment), ones),
        "organic_kind": Terms(every[organic], kind[organic], ones[organic]),
        "organiser": Terms(every, organiser, ones),
        "organiser_tactic": Terms(every, np.where(organiser == "", "", _pairs(organiser, tactic)), ones),
        "theme": Terms(every, theme, ones),
        "weekday": Terms(every, ((days + 3) % 7).astype(str).astype(object), ones),
        "size": sizes,
        "size_tactic": _of_tactic(sizes, tactic),
        "title_tactic": _of_tactic(titles, tactic),
        "theme_tactic": Terms(every, np.where(theme == "", "", _pairs(theme, tactic)), ones),
        "price": _joined((every, one, price), (every[organic], _same("organic", organic), price[organic])),
        "opens": Terms(every, one, opens),
        "rest": Terms(every, one, rest),
        "run": Terms(every[~organic], one[~organic], run[~organic]),
        "run_tactic": Terms(every[~organic], tactic[~organic], run[~organic]),
        "open_run": Terms(every[~organic], one[~organic], open_run[~organic]),
        "open_run_tactic": Terms(every[~organic], tactic[~organic], open_run[~organic]),
        "trend": _joined((every, one, years), (every, segment, years)),
        "season": Terms(
            np.repeat(every, 4), np.tile(np.array([str(i) for i in range(4)], dtype=object), rows), season.reshape(-1)
        ),
        "segment_season": Terms(
            np.repeat(every, 4),
            _pairs(np.tile(np.array([str(i) for i in range(4)], dtype=object), rows), np.repeat(segment, 4)),
            season.reshape(-1),
        ),
        "segment_recent": _since(back, segment),
        "tactic_recent": _since(back, tactic),
    }


def _quarters_back(days: Ints, origin: date | None) -> Ints:
    """Whole quarters of a year from each row's day to ``origin``, at most :data:`_QUARTERS`; 0 for later days."""
    if origin is None:
        return np.zeros(len(days), dtype=np.int64)
    ago = np.datetime64(origin, "D").astype(np.int64) - days
    return np.clip(np.floor(ago / (_YEAR / 4)), 0, _QUARTERS).astype(np.int64)


def _since(back: Ints, key: NDArray[np.object_]) -> Terms:
    """A random walk told backwards from today: a row of q quarters ago holds the steps 1 … q of its key."""
    rows = np.repeat(np.arange(len(back)), back)
    step = np.arange(len(rows)) - np.repeat(np.cumsum(back) - back, back) + 1
    names = np.array([f"{s}|{k}" for s, k in zip(step.tolist(), key[rows].tolist(), strict=True)], dtype=object)
    return Terms(rows, names, np.ones(len(rows)))


def _of_tactic(entries: Terms, tactic: NDArray[np.object_]) -> Terms:
    return Terms(entries.rows, _pairs(entries.keys, tactic[entries.rows]), entries.weights)


@dataclass(frozen=True, slots=True)
class EffectTable:
    """Posterior means of effects, with what is needed to evaluate them at new events.

    Attributes:
        effects: group → key → effect.
        sd: group → spread of a level that was never seen.
        origin: the day trends are counted from.
        country: whose public holidays count.
    """

    effects: Mapping[str, Mapping[str, float]]
    sd: Mapping[str, float]
    origin: date | None = None
    country: str = "JP"

    def log_scale(self, columns: Columns, rows: int) -> Floats:
        """The sum of the effects of each row, shape (rows,). A level that was never seen adds nothing."""
        total = np.zeros(rows)
        for group, entries in terms(self._asked(columns, rows), rows, self.origin, self.country).items():
            known = self.effects.get(group)
            if not known or not len(entries.keys):
                continue
            values = np.array([known.get(key, 0.0) for key in entries.keys]) * entries.weights
            total += np.bincount(entries.rows, values, rows)
        return total

    def event_size(self, columns: Columns, rows: int) -> Floats:
        """Everything that lifts all tactics of an event alike, on the log scale, shape (rows,)."""
        shared = {group: effects for group, effects in self.effects.items() if group in SHARED_GROUPS}
        table = EffectTable(shared, {}, self.origin, self.country)
        return table.log_scale({**self._asked(columns, rows), "tactic_id": _ANY_TACTIC}, rows)

    def unseen_variance(self, columns: Columns, rows: int) -> Floats:
        """Variance that levels without data add, shape (rows,)."""
        total = np.zeros(rows)
        for group, entries in terms(self._asked(columns, rows), rows, self.origin, self.country).items():
            sd = self.sd.get(group, 0.0)
            if group not in OPEN_GROUPS or sd == 0.0 or not len(entries.keys):
                continue
            known = self.effects.get(group, {})
            missing = np.array([key not in known for key in entries.keys], dtype=np.float64)
            total += np.bincount(entries.rows, missing * (entries.weights * sd) ** 2, rows)
        return total

    def _asked(self, columns: Columns, rows: int) -> Columns:
        """Where all of the data are one organiser's, an event whose organiser is not named is its, too."""
        only = list(self.effects.get("organiser", {}))
        if len(only) != 1:
            return columns
        named = _texts(columns["organiser"], rows)
        return {**columns, "organiser": np.where(named == "", only[0], named)}


def _texts(column: Any, rows: int) -> NDArray[np.object_]:
    values = np.asarray(column, dtype=object)
    return np.broadcast_to(values, (rows,)).copy() if values.ndim == 0 else values


def _numbers(column: Any, rows: int) -> Floats:
    return np.broadcast_to(np.asarray(column, dtype=np.float64), (rows,))


def _mapped(texts: NDArray[np.object_], change: Any) -> NDArray[np.object_]:
    changed = {text: change(text) for text in set(texts.tolist())}
    return np.array([changed[text] for text in texts], dtype=object)


def _pairs(first: NDArray[np.object_], second: NDArray[np.object_]) -> NDArray[np.object_]:
    return np.array([f"{a}|{b}" for a, b in zip(first.tolist(), second.tolist(), strict=True)], dtype=object)


def _same(key: str, chosen: NDArray[np.bool_]) -> NDArray[np.object_]:
    return np.full(int(chosen.sum()), key, dtype=object)


def _joined(*parts: tuple[Ints, NDArray[np.object_], Floats]) -> Terms:
    rows, keys, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Terms(rows, keys, weights)


def _listed(column: Any, rows: int) -> Terms:
    """Ids of an audience, each with its share of the row; a scalar is one tuple of ids for all rows."""
    named = [tuple(column)] * rows if isinstance(column, tuple | list) else [tuple(sizes) for sizes in column]
    at = [(row, size, 1.0 / len(sizes)) for row, sizes in enumerate(named) for size in sizes]
    keys = np.empty(len(at), dtype=object)
    keys[:] = [size for _, size, _ in at]
    return Terms(
        np.array([row for row, _, _ in at], dtype=np.int64),
        keys,
        np.array([share for _, _, share in at], dtype=np.float64),
    )
