"""Tactics that reach the same people bring less together than one by one."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.allocation import credit
from turnout.scoring.overlap import Overlap, reach_of, usual_overlap
from turnout.tactics import load_catalogue
from turnout.tactics.catalogue import Audiences, load_audiences

CATALOGUE = load_catalogue()


def test_every_channel_of_the_catalogue_says_whom_it_reaches():
    known = load_audiences()
    assert {t.channel for t in CATALOGUE} <= set(known.channels)
    for tactic in CATALOGUE:
        assert 0 < sum(known.reach(tactic).values()) <= 1 + 1e-9


def test_a_channel_that_names_no_audience_of_the_catalogue_is_refused():
    document = load_audiences().model_dump()
    document["channels"]["email"] = {"everybody": 1.0}
    with pytest.raises(ValueError, match="audiences of email"):
        Audiences.model_validate(document)


def test_without_history_nothing_is_taken_for_overlap_already():
    assert Overlap().left(CATALOGUE.get("meta_ads")) == 1.0
    assert Overlap().people(0.7) > Overlap().people(0.0) == load_audiences().size.value


def past(events: int, each: float) -> Overlap:
    ids = np.array(["meta_ads", "own_email", ""] * events, dtype=object)
    reach = reach_of({"meta_ads": CATALOGUE.get("meta_ads"), "own_email": CATALOGUE.get("own_email"), "": None}, ids)
    return usual_overlap(np.full(len(ids), each), reach, np.repeat(np.arange(events), 3), np.zeros(len(ids)))


def test_fuller_events_left_less_to_each_tactic():
    few, many = past(5, 20.0), past(5, 100.0)
    for name in load_audiences().names:
        assert 0 < many.usual[name] < few.usual[name] < 1


def test_the_usual_company_brings_what_was_fitted():
    """Curves are taken apart by the usual overlap and put together again by the allocator's crediting."""
    each = 60.0
    overlap = past(5, each)
    tactics = [CATALOGUE.get("meta_ads"), CATALOGUE.get("own_email")]
    audiences = overlap.audiences(0.0, each)
    alone = [each / overlap.left(t) for t in tactics]
    together = credit(audiences, [load_audiences().reach(t) for t in tactics], alone, [False, False])
    # the share of an audience is one figure for all of its tactics, so a tactic's own part is met on average
    assert together.total == pytest.approx(3 * each, rel=0.02)
    more = credit(audiences, [load_audiences().reach(t) for t in tactics], [3 * a for a in alone], [False, False])
    assert more.total < 7 * each


def test_an_event_of_any_size_has_people():
    sizes = Overlap().people(np.array([-50.0, 0.0, 50.0]))
    assert np.isfinite(sizes).all()
    assert (sizes > 0).all()
    assert (np.diff(sizes) > 0).all()
