"""Scheduling: lead times, working days, and when it is too late."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from turnout.errors import ConfigurationError
from turnout.schedule import TooLate, Window, is_working_day, schedule
from turnout.tactics import load_catalogue

CATALOGUE = load_catalogue()
EVENT = date(2026, 12, 10)  # a Thursday
TOKYO = ZoneInfo("Asia/Tokyo")


def test_with_enough_time_a_tactic_starts_at_its_lead_time():
    window = schedule(CATALOGUE.get("meta_ads"), EVENT, date(2026, 10, 1), TOKYO)
    assert window == Window(EVENT - timedelta(days=21), EVENT - timedelta(days=1))
    assert window.days == 21


def test_with_less_time_it_starts_as_soon_as_it_is_prepared():
    window = schedule(CATALOGUE.get("meta_ads"), EVENT, date(2026, 12, 1), TOKYO)
    assert window == Window(date(2026, 12, 3), date(2026, 12, 9))


def test_too_late_names_the_last_day_that_would_have_worked():
    tactic = CATALOGUE.get("media_article")
    late = schedule(tactic, EVENT, date(2026, 11, 20), TOKYO)
    assert isinstance(late, TooLate)
    assert isinstance(schedule(tactic, EVENT, late.last_start, TOKYO), Window)
    assert isinstance(schedule(tactic, EVENT, late.last_start + timedelta(days=1), TOKYO), TooLate)


def test_sends_avoid_weekends_and_japanese_holidays():
    # 21 days before 14 May 2026 is 23 April; 10 days before is 4 May, inside Golden Week
    window = schedule(CATALOGUE.get("own_email"), date(2026, 5, 14), date(2026, 4, 1), TOKYO, "JP")
    assert isinstance(window, Window)
    assert window.sends == (date(2026, 4, 23), date(2026, 5, 1), date(2026, 5, 8))


def test_another_country_has_other_holidays():
    window = schedule(CATALOGUE.get("own_email"), date(2026, 5, 14), date(2026, 4, 1), TOKYO, "US")
    assert isinstance(window, Window)
    assert date(2026, 5, 4) in window.sends


def test_only_as_many_sends_as_wanted():
    window = schedule(CATALOGUE.get("own_email"), EVENT, date(2026, 10, 1), TOKYO, units=1)
    assert isinstance(window, Window)
    assert len(window.sends) == 1
    assert window.starts == window.ends == window.sends[0]


def test_a_last_call_before_a_sunday_event_may_go_out_on_saturday():
    window = schedule(CATALOGUE.get("own_email_last"), date(2026, 12, 13), date(2026, 12, 12), TOKYO)
    assert isinstance(window, Window)
    assert window.sends[0] in (date(2026, 12, 12), date(2026, 12, 13))


def test_the_moment_of_the_decision_is_read_in_the_events_zone():
    moment = datetime(2026, 12, 7, 23, 30, tzinfo=UTC)  # already the 8th in Tokyo
    tactic = CATALOGUE.get("google_search")
    assert schedule(tactic, EVENT, moment, TOKYO) == schedule(tactic, EVENT, date(2026, 12, 8), TOKYO)
    assert schedule(tactic, EVENT, moment, "America/New_York") == schedule(tactic, EVENT, date(2026, 12, 7), TOKYO)


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        schedule(CATALOGUE.get("meta_ads"), EVENT, datetime(2026, 12, 1), TOKYO)  # noqa: DTZ001


def test_an_unknown_country_is_refused_with_the_setting_that_mends_it():
    with pytest.raises(ConfigurationError, match="TURNOUT_COUNTRY"):
        is_working_day(date(2026, 5, 4), "QQ")


@hypothesis_settings(deadline=None)
@given(
    st.sampled_from(CATALOGUE.tactics),
    st.dates(date(2025, 1, 1), date(2028, 12, 31)),
    st.integers(-10, 120),
)
def test_a_window_lies_between_the_decision_and_the_event(tactic, event, days_before):
    as_of = event - timedelta(days=days_before)
    window = schedule(tactic, event, as_of, TOKYO)
    if isinstance(window, TooLate):
        assert window.last_start < as_of
        return
    assert as_of + timedelta(days=tactic.preparation_days) <= window.starts <= window.ends <= event
    assert list(window.sends) == sorted(set(window.sends))
    if days_before >= 60:
        assert all(is_working_day(day, "JP") for day in window.sends)
        assert len(window.sends) == len(tactic.send_days)
