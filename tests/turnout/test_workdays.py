"""Days off: public holidays, customs, a company's own."""

from datetime import date

import pytest
from pydantic import ValidationError

from turnout.settings import Settings
from turnout.workdays import Closure, WorkCalendar, is_working_day


@pytest.mark.parametrize("day", [date(2026, 12, 29), date(2027, 1, 2), date(2026, 8, 13), date(2026, 8, 14)])
def test_japanese_companies_close_over_new_year_and_obon_though_no_law_says_so(day):
    assert is_working_day(day, "JP") == (day.weekday() < 5)
    assert not WorkCalendar.of("JP").is_working_day(day)


def test_golden_week_is_public_holidays_with_working_days_between():
    calendar = WorkCalendar.of("JP")
    assert not any(calendar.is_working_day(date(2026, 5, d)) for d in (3, 4, 5, 6))
    assert calendar.is_working_day(date(2026, 5, 1))
    assert not WorkCalendar.of("JP", ["2026-04-29/2026-05-06"]).is_working_day(date(2026, 5, 1))


def test_a_companys_own_closures_stand_instead_of_the_customary_ones():
    calendar = WorkCalendar.of("JP", ["08-10/08-12"])
    assert calendar.is_working_day(date(2026, 8, 13))
    assert not calendar.is_working_day(date(2026, 8, 12))
    assert WorkCalendar.of("US").is_working_day(date(2026, 12, 30))


def test_a_closure_may_pass_new_year_and_may_be_one_day():
    assert date(2027, 1, 3) in Closure.parse("12-29/01-03")
    assert date(2027, 1, 4) not in Closure.parse("12-29/01-03")
    assert date(2030, 6, 1) in Closure.parse("06-01")
    assert date(2030, 6, 2) not in Closure.parse("06-01")


@pytest.mark.parametrize("text", ["13-01", "summer", "2026-02-30", "2026-05-06/2026-05-01", "02-30/03-01", ""])
def test_a_closure_that_cannot_be_read_says_what_is_allowed(text):
    with pytest.raises(ValueError, match="allowed are MM-DD/MM-DD"):
        Closure.parse(text)


def test_closures_are_a_setting():
    settings = Settings(closures=["08-10/08-16"])
    assert not settings.calendar.is_working_day(date(2026, 8, 10))
    assert not Settings().calendar.is_working_day(date(2026, 8, 14))
    assert Settings(closures=[]).calendar.is_working_day(date(2026, 8, 14))
    assert settings.environment()["TURNOUT_CLOSURES"] == '["08-10/08-16"]'
    with pytest.raises(ValidationError, match="MM-DD"):
        Settings(closures=["Obon"])
