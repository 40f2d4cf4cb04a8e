"""Insights against histories in the warehouse."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from tests.training import histories
from tests.training.histories import RATES, UNTIL, Law
from training.dataset import assemble
from training.insights import check_insights, observations, refresh_verdicts
from turnout import insight_store
from turnout.insights import Insight

ONLINE = Insight("", "オンラインは申込が多い", "+50%", "medium", {"as_written": "online", "formats": ["online"]})
MAIL = Insight("", "メルマガはよく効く", None, None, {"as_written": "メルマガ", "tactics": ["own_email"]})
OPENS = Insight("", "件名で開封率が変わる", "中", None, {})


def events_with(factor: float, count: int = 60):
    """A history in which online events bring ``factor`` times as many by every tactic."""
    rng = np.random.default_rng(3)
    found = histories.records(count, Law(season=0.0))
    for event in found:
        if event["format"] == "online":
            for result in event["tactics"].values():
                result["registrations"] = int(rng.poisson(result["registrations"] * factor))
        event["registrations"] = event["organic"] + sum(t["registrations"] for t in event["tactics"].values())
        event["attendees"] = int(event["registrations"] * 0.6)
    return found


def test_rows_are_those_of_training_with_their_benchmark():
    dataset = assemble(histories.history(events_with(1.0, 20)), RATES)
    data = observations(dataset)
    rows = data["registrations"]
    assert len(rows.y) == len(dataset.rows)
    assert list(rows.expected) == list(dataset.rows["baseline"])
    assert {f.tactic for f in rows.facts} == set(dataset.rows["tactic_id"])
    shown = data["show_up"]
    assert len(shown.y) == 20
    assert shown.expected.sum() == pytest.approx(shown.y.sum())


@pytest.mark.parametrize(("factor", "verdict"), [(1.8, "supported"), (0.5, "contradicted")])
def test_a_law_put_into_the_history_is_found(engine, settings, factor, verdict):
    histories.store(engine, settings, events_with(factor))
    with engine.begin() as connection:
        insight_store.save(connection, settings.organisation, [ONLINE, MAIL, OPENS])
    found = {rule.text: v for rule, v in check_insights(settings, UNTIL, engine=engine)}
    online = found[ONLINE.text]
    assert online.verdict == verdict
    assert online.low < factor < online.high
    assert found[OPENS.text].reason == "other_metric"


def test_nightly_verdicts_are_stored_once_and_only_from_the_past(engine, settings):
    histories.store(engine, settings, events_with(1.8))
    with engine.begin() as connection:
        insight_store.save(connection, settings.organisation, [ONLINE])
    first = refresh_verdicts(settings, UNTIL, engine=engine)
    assert refresh_verdicts(settings, UNTIL, engine=engine) == first == {
        "supported": 1, "contradicted": 0, "untested": 0,
    }  # fmt: skip
    early = UNTIL - timedelta(days=720)
    assert refresh_verdicts(settings, early, engine=engine)["untested"] == 1
    with engine.connect() as connection:
        latest = insight_store.read_verdicts(connection, settings.organisation)
        then = insight_store.read_verdicts(connection, settings.organisation, as_of=early)
    assert [v.verdict for v in latest.values()] == ["supported"]
    assert [v.reason for v in then.values()] == ["too_few_events"]


def test_without_rules_nothing_is_read(engine, settings):
    assert check_insights(settings, UNTIL, engine=engine) == []
    assert refresh_verdicts(settings, UNTIL, engine=engine) == {"supported": 0, "contradicted": 0, "untested": 0}


def test_rules_before_the_first_event_are_untested(engine, settings):
    with engine.begin() as connection:
        insight_store.save(connection, settings.organisation, [ONLINE, MAIL])
    assert refresh_verdicts(settings, UNTIL, engine=engine)["untested"] == 2
