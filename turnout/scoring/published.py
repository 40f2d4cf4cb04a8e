"""Published figures on events as such (not on tactics): when people register, how many of them come.

The figures are the catalogue's event-level priors; this module says which of them stands for which kind of event.
"""

from __future__ import annotations

from functools import lru_cache

from turnout.scoring.types import Pacing, ShowUp

KINDS: tuple[str, ...] = tuple(f"{f}|{p}" for f in ("offline", "online", "hybrid") for p in ("free", "paid"))

#: Events of one kind differ: a Beta worth this many registrants has a standard deviation of about 0.1 around 0.65.
SHOW_UP_CONCENTRATION = 20.0


def kind_of(format: str, price: float) -> str:
    """``offline|free``, ``online|paid``, …: what show-up and pacing depend on."""
    return f"{format}|{'paid' if price > 0 else 'free'}"


#: Which published rows say how many of the registered attend, per kind. Several are averaged.
_SHOW_UP_ROWS: dict[str, tuple[str, ...]] = {
    "offline|free": ("inperson_free", "free_japan_peatix", "tech_meetup_japan"),
    "offline|paid": ("inperson_paid", "prepaid_japan_peatix", "prepaid_japan_organiser", "paid_conference"),
    "online|free": ("webinar_japan", "webinar_japan_single_host", "webinar_all"),
    # nothing was published on paid online events: between the two kinds it shares a property with
    "online|paid": ("webinar_japan", "webinar_japan_single_host", "inperson_paid", "prepaid_japan_organiser"),
    "hybrid|free": ("inperson_free", "free_japan_peatix", "webinar_japan", "webinar_japan_single_host"),
    "hybrid|paid": ("inperson_paid", "prepaid_japan_organiser", "webinar_japan", "webinar_japan_single_host"),
}


@lru_cache(maxsize=32)
def published_show_up(kind: str) -> ShowUp:
    """The show-up rate of a kind before own data.

    Raises:
        KeyError: no such kind.
    """
    from turnout.tactics import load_event_priors

    rows = {p.metric: p for p in load_event_priors().show_up}
    chosen = [rows[name] for name in _SHOW_UP_ROWS[kind]]
    mean = sum(p.value for p in chosen) / len(chosen)
    sources = "; ".join(p.source for p in chosen)
    return ShowUp(mean * SHOW_UP_CONCENTRATION, (1 - mean) * SHOW_UP_CONCENTRATION, f"benchmark: {sources}")


@lru_cache(maxsize=32)
def published_pacing(kind: str) -> Pacing:
    """The pacing curve of a kind before own data.

    Two points are published per kind: the share of the last 7 days, and that of the event's day (online, ON24) or the
    multiplier at 14 days (ticketed, Ticketleap). Free events on site lie between the two. Earlier points fall off as
    0.55 (28 days) and 0.2 (56 days) of the share at 14 days: a guess.
    """
    from turnout.tactics import load_event_priors

    rows = {p.metric: p for p in load_event_priors().pacing}
    webinar = (rows["webinar_share_last_7_days"], rows["webinar_share_event_day_at_least"])
    ticketed = (rows["ticketed_share_last_7_days"], rows["multiplier_at_d_minus_14"])
    at_7_online = 1 - webinar[0].value
    at_7_ticketed = 1 - ticketed[0].value
    points = {
        "online": (at_7_online * 0.65, at_7_online, 1 - webinar[1].value, webinar),
        "paid": (1 / ticketed[1].value, at_7_ticketed, at_7_ticketed + 0.3, ticketed),
    }
    event_format, price = kind.split("|")
    if event_format == "online":
        at_14, at_7, at_1, used = points["online"]
    elif price == "paid":
        at_14, at_7, at_1, used = points["paid"]
    else:
        at_14, at_7, at_1 = ((a + b) / 2 for a, b in zip(points["online"][:3], points["paid"][:3], strict=True))
        used = (webinar[0], ticketed[0])
    sources = "; ".join(p.source for p in used)
    return Pacing(
        days=(56, 28, 14, 7, 1, 0),
        share=(0.2 * at_14, 0.55 * at_14, at_14, at_7, at_1, 1.0),
        source=f"benchmark: {sources}",
    )
