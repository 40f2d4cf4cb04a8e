"""All tactics of a plan together: nobody is worn out, and everything adds up."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise, permutations
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from turnout.brief import Assets
from turnout.money import Rates
from turnout.schedule import SendWish, place
from turnout.scoring.published import published_pacing
from turnout.tactics import load_catalogue
from turnout.timetable import Part, portfolio_schedule
from turnout.workdays import WorkCalendar

CATALOGUE = load_catalogue()
RATES = Rates({"JPY": 1.0, "USD": 150.0})
PACING = published_pacing("offline|free")
MAILS = ("own_email", "own_email_last")
WORKING = WorkCalendar.of("JP")


def everything(spend=123_457, hours=7.3):
    return [
        Part(t, Decimal(spend) if t.is_paid else Decimal(0), len(t.send_days) or None, hours) for t in CATALOGUE.tactics
    ]


def timetable(parts, event, as_of, zone="Asia/Tokyo", **options):
    return portfolio_schedule(parts, event, as_of, zone, currency="JPY", pacing=PACING, rates=RATES, **options)


@hypothesis_settings(deadline=None)
@given(st.dates(date(2025, 1, 1), date(2028, 12, 31)), st.integers(0, 90), st.integers(0, 3), st.integers(0, 1))
def test_no_two_mails_to_one_list_on_the_same_or_the_next_day(event, days_before, sends, last):
    parts = [Part(CATALOGUE.get("own_email"), units=sends)] if sends else []
    parts += [Part(CATALOGUE.get("own_email_last"), units=1)] if last else []
    as_of = event - timedelta(days=days_before)
    found = timetable(parts, event, as_of)
    mails = sorted(at for t in found.timings.values() for at in t.sends)
    assert all((b.date() - a.date()).days >= 2 for a, b in pairwise(mails))
    assert all(as_of <= at.date() <= event for at in mails)
    assert all(t.sends for t in found.timings.values()), "whatever fits goes out at least once"
    for part in parts:
        if (timing := found.timings.get(part.tactic.id)) is not None:
            ahead = sum(event - timedelta(days=d) > as_of for d in part.tactic.send_days[: part.units])
            assert len(timing.sends) + timing.given_up >= min(ahead, 1)
    if days_before >= 60:
        assert all(t.given_up == 0 for t in found.timings.values())
        # the last call has three days: of Golden Week, Obon and New Year all of them may be holidays
        near = any(WORKING.is_working_day(event - timedelta(days=d)) for d in range(1, 4))
        assert all(WORKING.is_working_day(at.date()) for at in mails) or event.month in (1, 8) or not near


@hypothesis_settings(deadline=None)
@given(st.dates(date(2025, 1, 1), date(2028, 12, 31)), st.integers(0, 90), st.integers(0, 10**6))
def test_every_plan_adds_up_and_does_not_depend_on_the_order(event, days_before, spend):
    as_of = event - timedelta(days=days_before)
    parts = everything(spend)
    found = timetable(parts, event, as_of)
    Random(1).shuffle(parts)
    assert timetable(parts, event, as_of) == found
    assert set(found.timings) | set(found.too_late) == {t.id for t in CATALOGUE.tactics}
    assert not set(found.timings) & set(found.too_late)
    for tactic_id, timing in found.timings.items():
        tactic = CATALOGUE.get(tactic_id)
        assert sum((d.amount for d in timing.daily_spend), Decimal(0)) == (spend if tactic.is_paid else 0)
        assert as_of <= timing.window.starts <= timing.window.ends <= event
        assert all(timing.window.starts <= d.date <= timing.window.ends for d in timing.daily_spend)
        assert sum(w.hours for w in timing.staff_hours_by_week) == pytest.approx(7.3)


@hypothesis_settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 6), st.lists(st.integers(-3, 8), min_size=1, max_size=3)),
        min_size=1, max_size=2,
    ),
    st.integers(1, 4),
)  # fmt: skip
@example(drawn=[(1, 1, [-1]), (1, 2, [0, -1])], gap=1)
def test_placing_is_the_best_there_is(drawn, gap):
    """Against every possibility, for sends of one or two tactics in two weeks."""
    monday = date(2026, 6, 1)
    wishes = [
        SendWish(f"t{i}", monday + timedelta(days=a + p), monday + timedelta(days=a), monday + timedelta(days=a + n))
        for i, (a, n, planned) in enumerate(drawn)
        for p in planned
    ]
    found = place(wishes, gap, WORKING)

    def cost(wish, day):
        shift = (day - wish.planned).days
        return 10 * abs(shift) + 35 * max(shift, 0) + (0 if WORKING.is_working_day(day) else 50_000)

    def best(at, taken, served):
        if at == len(wishes):
            return 1_000_000 * (len(drawn) - len(served))
        wish = wishes[at]
        days = [wish.earliest + timedelta(days=d) for d in range((wish.latest - wish.earliest).days + 1)]
        free = [d for d in days if all(abs((d - t).days) >= gap for t in taken)]
        return min([
            20_000 + best(at + 1, taken, served),
            *(cost(wish, d) + best(at + 1, [*taken, d], served | {wish.owner}) for d in free),
        ])  # fmt: skip

    def matched(owner):
        """The cheapest way to say which of an owner's sends goes out on which of its days."""
        own = [w for w in wishes if w.owner == owner]
        days = found[owner]
        ways = ([cost(w, d) for w, d in zip(chosen, days, strict=True)] for chosen in permutations(own, len(days)))
        return min(map(sum, ways)) + 20_000 * (len(own) - len(days)) + (0 if days else 1_000_000)

    days = sorted(d for group in found.values() for d in group)
    assert all((b - a).days >= gap for a, b in pairwise(days))
    assert sum(map(matched, found)) == best(0, [], frozenset())


def test_sends_go_out_on_working_mornings_of_the_events_zone():
    found = timetable(everything(), date(2026, 12, 16), date(2026, 10, 1), "America/New_York")
    first = found.timings["own_email"].sends[0]
    assert first.timetz().replace(tzinfo=None) == time(10)
    assert first.tzinfo == ZoneInfo("America/New_York")
    assert found.timings["own_social"].sends[0].hour == 12


def test_sends_avoid_new_year_obon_and_golden_week():
    for event in (date(2027, 1, 14), date(2026, 8, 27), date(2026, 5, 21)):
        found = timetable(everything(), event, event - timedelta(days=60))
        for timing in found.timings.values():
            assert all(WORKING.is_working_day(at.date()) for at in timing.sends), timing


def test_a_company_closed_for_a_week_sends_nothing_then():
    closed = WorkCalendar.of("JP", ["2026-11-20/2026-11-30"])
    found = timetable(everything(), date(2026, 12, 16), date(2026, 10, 1), calendar=closed)
    days = [at.date() for t in found.timings.values() for at in t.sends]
    assert not [d for d in days if date(2026, 11, 20) <= d <= date(2026, 11, 30)]


def test_campaigns_of_one_platform_share_a_frequency_cap():
    found = timetable(everything(), date(2026, 12, 16), date(2026, 10, 1))
    cap = found.timings["meta_ads"].frequency_cap
    assert cap is not None
    assert cap.shared_with == ["meta_traffic"]
    assert "Meta広告(トラフィック)と合算" in found.timings["meta_ads"].notes("ja")[0]
    assert found.timings["google_search"].frequency_cap is None, "nobody sees a search advertisement unasked"
    alone = timetable([Part(CATALOGUE.get("meta_ads"), Decimal(50_000))], date(2026, 12, 16), date(2026, 10, 1))
    assert alone.timings["meta_ads"].frequency_cap.shared_with == []


def test_few_visitors_are_not_followed_all_day_long():
    part = [Part(CATALOGUE.get("retargeting"), Decimal(30_000))]
    event, as_of = date(2026, 12, 16), date(2026, 10, 1)
    free = timetable(part, event, as_of).timings["retargeting"].daily_spend
    held = timetable(part, event, as_of, assets=Assets(site_visitors=4_000)).timings["retargeting"].daily_spend
    assert max(d.amount for d in held) < max(d.amount for d in free)
    assert sum(d.amount for d in held) == 30_000


def test_a_postponed_start_is_said():
    part = [Part(CATALOGUE.get("linkedin_ads"), Decimal(15_000))]
    timing = timetable(part, date(2026, 12, 16), date(2026, 10, 1)).timings["linkedin_ads"]
    assert timing.postponed
    assert timing.window.starts == timing.daily_spend[0].date == date(2026, 12, 6)
    assert any("2026-12-06" in note for note in timing.notes("en"))


def test_two_tactics_share_what_few_days_are_left_for_their_list():
    # Decided on Thursday for Tuesday: the list can be written to on Friday and on Monday.
    parts = [Part(CATALOGUE.get("own_email"), units=3), Part(CATALOGUE.get("own_email_last"), units=1)]
    timings = timetable(parts, date(2026, 12, 15), date(2026, 12, 10)).timings
    assert [at.day for at in timings["own_email"].sends] == [11]
    assert [at.day for at in timings["own_email_last"].sends] == [14]


def test_a_send_that_finds_no_day_is_said():
    # Golden Week leaves Thursday and Friday before a Saturday's event: two posts would follow each other.
    posts = [Part(CATALOGUE.get("own_social"), units=6)]
    timing = timetable(posts, date(2026, 5, 9), date(2026, 5, 2)).timings["own_social"]
    assert [at.day for at in timing.sends] == [7]
    assert timing.given_up == 1
    assert "1 of 2 sends" in timing.notes("en")[0]
    assert "2回のうち1回" in timing.notes("ja")[0]


def test_what_is_too_late_keeps_its_last_day():
    found = timetable(everything(), date(2026, 12, 16), date(2026, 12, 10))
    assert found.too_late["media_article"].last_start < date(2026, 12, 10)
    assert "media_article" not in found.timings


def test_the_day_of_planning_is_that_of_the_events_zone():
    late = datetime(2026, 12, 7, 23, 30, tzinfo=UTC)
    event = date(2026, 12, 16)
    assert timetable(everything(), event, late) == timetable(everything(), event, date(2026, 12, 8))


def test_one_tactic_twice_is_refused():
    part = Part(CATALOGUE.get("meta_ads"), Decimal(1))
    with pytest.raises(ValueError, match="only once"):
        timetable([part, part], date(2026, 12, 16), date(2026, 10, 1))
