"""How insights and verdicts are kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
import sqlalchemy as sa

from turnout import insight_store as store
from turnout.errors import InputError
from turnout.insight_check import Verdict
from turnout.insights import Insight
from turnout.warehouse.tables import insight_verdict

MAIL = Insight("", "mail works online", "+20%", "high", {"as_written": "online", "formats": ["online"]})
ADS = Insight(
    "", "ads are weak in August", "-10%", None, {"as_written": "8月", "other": ["8月"]}, "down", "registrations"
)


def texts(connection, organisation="default"):
    return [i.text for i in store.read(connection, organisation)]


def test_a_rule_comes_back_as_it_was_stored(engine):
    with engine.begin() as connection:
        change = store.save(connection, "default", [MAIL, ADS])
        found = store.read(connection, "default")
    assert found == [replace(r, insight_id=i) for r, i in zip((ADS, MAIL), reversed(change.added), strict=True)]


def test_the_same_again_changes_nothing_and_other_figures_correct(engine):
    with engine.begin() as connection:
        store.save(connection, "default", [MAIL])
        again = store.save(connection, "default", [MAIL])
        other = store.save(connection, "default", [replace(MAIL, impact="+30%")])
        [found] = store.read(connection, "default")
    assert (len(again.unchanged), len(other.changed), found.impact) == (1, 1, "+30%")


def test_commands_are_taken_back_one_after_the_other(engine):
    def undo():
        with engine.begin() as connection:
            return store.undo(connection, "default"), {i.text: i.impact for i in store.read(connection, "default")}

    for rules in ([MAIL, ADS], [replace(MAIL, impact="+30%")]):
        with engine.begin() as connection:
            store.save(connection, "default", rules)
    with engine.begin() as connection:
        removed = store.remove(connection, "default", ["ads are weak"]).removed
        assert texts(connection) == [MAIL.text]
    change, now = undo()
    assert (change.added, now) == (removed, {ADS.text: "-10%", MAIL.text: "+30%"})
    change, now = undo()
    assert (len(change.changed), now[MAIL.text]) == (1, "+20%")
    change, now = undo()
    assert (len(change.removed), now) == (2, {})
    with pytest.raises(InputError, match="no change of insights"):
        undo()


def test_a_name_must_fit_one_rule(engine):
    with engine.begin() as connection:
        store.save(connection, "default", [MAIL, ADS, replace(MAIL, text="mail works")])
    with pytest.raises(InputError) as caught, engine.begin() as connection:
        store.remove(connection, "default", ["mail", "nothing", "mail works"])
    assert [p.code for p in caught.value.problems] == ["ambiguous", "unknown_insight"]
    with engine.begin() as connection:
        assert len(texts(connection)) == 3, "nothing is removed then"
        store.remove(connection, "default", ["mail works"])
        assert texts(connection) == [ADS.text, MAIL.text], "the whole text wins over a part of another"


def test_what_is_wrong_is_named_with_what_is_allowed(engine):
    bad = Insight("", " ", "so so", "sure", {}, "sideways", "money")  # type: ignore[arg-type]
    with pytest.raises(InputError) as caught, engine.begin() as connection:
        store.save(connection, "default", [MAIL, bad, replace(MAIL, text="x" * 1001)])
    assert [p.column for p in caught.value.problems] == ["text", "impact", "confidence", "direction", "metric", "text"]
    with engine.begin() as connection:
        assert texts(connection) == []


def test_organisations_do_not_see_each_others_rules(engine):
    with engine.begin() as connection:
        store.save(connection, "default", [MAIL])
        store.save(connection, "other", [ADS])
        assert texts(connection) == [MAIL.text]
        with pytest.raises(InputError, match="no insight"):
            store.remove(connection, "default", [ADS.text])
        store.undo(connection, "default")
        assert texts(connection, "other") == [ADS.text]


VERDICT = Verdict("ins_1", "supported", "confirmed", 1.2, 1.1, 1.3, 0.001, 0.002, 10, 20, 3)


def test_verdicts_of_a_day_replace_each_other_and_the_last_counts(engine):
    day = date(2026, 11, 1)
    with engine.begin() as connection:
        for _ in range(2):
            store.save_verdicts(connection, "default", day, [VERDICT, replace(VERDICT, insight_id="ins_2")])
        store.save_verdicts(connection, "default", day, [VERDICT])
        assert connection.scalar(sa.select(sa.func.count()).select_from(insight_verdict)) == 1
        later = replace(VERDICT, verdict="untested", reason="inconclusive")
        store.save_verdicts(connection, "default", date(2026, 11, 2), [later])
        assert store.read_verdicts(connection, "default") == {"ins_1": later}
        assert store.read_verdicts(connection, "default", as_of=day) == {"ins_1": VERDICT}
        assert store.read_verdicts(connection, "other") == {}
