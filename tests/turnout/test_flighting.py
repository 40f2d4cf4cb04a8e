"""Daily spend and weekly hours: to the unit, within the run, without pauses."""

from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from turnout.flighting import LEARNING_DAYS, STEADY, apportion, flight, hours_by_week
from turnout.money import Rates, minor_digits
from turnout.schedule import TooLate, schedule
from turnout.scoring.published import KINDS, published_pacing
from turnout.scoring.types import Pacing
from turnout.tactics import load_catalogue
from turnout.workdays import WorkCalendar

CATALOGUE = load_catalogue()
PAID = [t for t in CATALOGUE.tactics if t.is_paid]
AUCTIONS = [t for t in PAID if t.cost.kind == "auction"]
EVENT = date(2026, 12, 10)
RATES = Rates({"JPY": 1.0, "USD": 150.0, "KWD": 490.0})
PACING = published_pacing("online|free")
WORKING = WorkCalendar.of("JP")


def window(tactic, event=EVENT, days_before=60, units=None):
    return schedule(tactic, event, event - timedelta(days=days_before), "Asia/Tokyo", units=units)


def spent(tactic, total, currency="JPY", *, event=EVENT, days_before=60, **options):
    run = window(tactic, event, days_before)
    return run, flight(tactic, run, Decimal(total), currency, PACING, rates=RATES, **options)


@hypothesis_settings(deadline=None)
@given(
    st.sampled_from(PAID), st.integers(0, 10**9), st.sampled_from(["JPY", "USD", "KWD"]), st.integers(0, 90),
    st.dates(date(2025, 1, 1), date(2028, 12, 31)), st.sampled_from(KINDS), st.none() | st.integers(1, 5),
)  # fmt: skip
def test_daily_spend_adds_up_to_the_unit_within_the_run(tactic, units, currency, days_before, event, kind, wanted):
    run = window(tactic, event, days_before, wanted)
    if isinstance(run, TooLate):
        return
    total = Decimal(units).scaleb(-minor_digits(currency))
    pacing = published_pacing(kind)
    days = flight(tactic, run, total, currency, pacing, rates=RATES)
    assert sum((d.amount for d in days), Decimal(0)) == total
    assert all(d.amount > 0 and d.amount == d.amount.quantize(Decimal(1).scaleb(-minor_digits(currency))) for d in days)
    assert [d.date for d in days] == sorted({d.date for d in days})
    assert all(run.starts <= d.date <= run.ends for d in days)
    assert days == flight(tactic, run, total, currency, pacing, rates=RATES)
    if tactic.cost.kind == "auction" and days:
        assert days[-1].date == run.ends
        assert all((b.date - a.date).days == 1 for a, b in pairwise(days)), "no start and stop"


def test_an_uneven_total_in_yen_is_spent_to_the_yen():
    run, days = spent(CATALOGUE.get("meta_ads"), 12_345)
    assert sum(d.amount for d in days) == 12_345
    assert run.days == 21


def test_more_is_spent_late_than_early():
    _, days = spent(CATALOGUE.get("google_search"), 300_000)
    amounts = [d.amount for d in days]
    assert sum(amounts[-7:]) > 1.5 * float(sum(amounts[:7]))
    flat = Pacing((30, 0), (1 / 31, 1.0))
    run = window(CATALOGUE.get("youtube"))
    even = flight(CATALOGUE.get("youtube"), run, Decimal(300_000), "JPY", flat, rates=RATES)
    assert max(d.amount for d in even) < Decimal("1.35") * min(d.amount for d in even)


@pytest.mark.parametrize("tactic", AUCTIONS, ids=lambda t: t.id)
def test_the_level_is_still_while_a_platform_learns_and_steady_afterwards(tactic):
    run, days = spent(tactic, 1_000_000)
    working = [d for d in days if WORKING.is_working_day(d.date)]
    learning = [d.amount for d in working if d.date < run.starts + timedelta(days=min(LEARNING_DAYS, run.days // 2))]
    assert max(learning) - min(learning) <= 1
    for before, after in pairwise(working):
        apart = (after.date - before.date).days
        assert 1 / STEADY**apart - 0.01 <= after.amount / before.amount <= STEADY**apart + 0.01


def test_days_off_get_less_where_offices_are_the_audience():
    _, days = spent(CATALOGUE.get("google_search"), 300_000)
    by_day = {d.date: d.amount for d in days}
    assert by_day[date(2026, 11, 21)] < by_day[date(2026, 11, 20)] * Decimal("0.6")  # a Saturday
    assert by_day[date(2026, 11, 23)] < by_day[date(2026, 11, 20)] * Decimal("0.7")  # a holiday on a Monday


def test_a_small_total_runs_fewer_days_rather_than_below_the_platforms_minimum():
    run, days = spent(CATALOGUE.get("linkedin_ads"), 15_000)  # the minimum is 10 dollars a day: 1,500 yen
    assert len(days) == 10
    assert days[-1].date == run.ends
    assert all(d.amount == 1_500 for d in days)
    _, fewest = spent(CATALOGUE.get("linkedin_ads"), 3_000)
    assert len(fewest) == CATALOGUE.get("linkedin_ads").minimum_run_days
    _, coins = spent(CATALOGUE.get("google_search"), 2)
    assert [d.amount for d in coins] == [1, 1]


def test_no_day_exceeds_what_the_audience_may_see_unless_the_total_needs_it():
    _, days = spent(CATALOGUE.get("retargeting"), 20_000, daily_limit=Decimal(1_500))
    assert max(d.amount for d in days) == 1_500
    assert sum(d.amount for d in days) == 20_000
    _, tight = spent(CATALOGUE.get("retargeting"), 20_000, daily_limit=Decimal(10))
    assert max(d.amount for d in tight) == 1_334, "20,000 over 15 days, rounded up"


def test_whole_units_are_paid_when_they_go_out():
    tactic = CATALOGUE.get("paid_newsletter")
    run, days = spent(tactic, 1_000_000)
    assert [d.date for d in days] == list(run.sends)
    assert [d.amount for d in days] == [333_334, 333_333, 333_333]


@pytest.mark.parametrize(
    ("total", "currency"), [("-1", "JPY"), ("0.5", "JPY"), ("1.005", "USD"), ("NaN", "JPY"), ("Infinity", "USD")]
)
def test_a_total_that_cannot_be_paid_is_refused(total, currency):
    with pytest.raises(ValueError, match=r"payable|0 or more"):
        spent(CATALOGUE.get("meta_ads"), total, currency)


@hypothesis_settings(deadline=None)
@given(
    st.integers(0, 10**13), st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40), st.floats(0, 1), st.floats(1, 40),
)  # fmt: skip
def test_apportioning_keeps_the_sum_and_the_bounds(total, weights, low, high):
    least = int(low * total / len(weights))
    most = -(-int(high * total) // len(weights)) + 1
    parts = apportion(total, weights, least, most)
    assert sum(parts) == total
    assert all(least <= part <= most for part in parts)


def test_apportioning_is_proportional_where_nothing_binds():
    assert apportion(100, [1, 2, 1]) == [25, 50, 25]
    assert apportion(10, [1, 1, 1]) == [4, 3, 3]
    with pytest.raises(ValueError, match="cannot be divided"):
        apportion(10, [1, 1], high=4)
    with pytest.raises(ValueError, match="positive"):
        apportion(10, [1, 0])


@hypothesis_settings(deadline=None)
@given(st.sampled_from(CATALOGUE.tactics), st.floats(0, 500), st.integers(0, 90))
def test_hours_by_week_add_up_and_none_is_before_the_day_of_planning(tactic, hours, days_before):
    run = window(tactic, days_before=days_before)
    if isinstance(run, TooLate):
        return
    as_of = EVENT - timedelta(days=days_before)
    weeks = hours_by_week(tactic, run, hours, as_of=as_of)
    assert sum(w.hours for w in weeks) == pytest.approx(float(round(Decimal(repr(hours)), 2)), abs=1e-6)
    assert all(w.week.weekday() == 0 and w.hours > 0 for w in weeks)
    assert all(w.week + timedelta(days=6) >= as_of and w.week <= run.ends for w in weeks)


def test_set_up_is_done_before_the_start_and_the_rest_with_the_sends():
    tactic = CATALOGUE.get("own_email")
    run = window(tactic, date(2026, 12, 16))
    weeks = {w.week: w.hours for w in hours_by_week(tactic, run, 2.0 + 3 * 1.5)}
    assert sum(weeks.values()) == 6.5
    assert weeks[run.sends[-1] - timedelta(days=run.sends[-1].weekday())] == 1.5
