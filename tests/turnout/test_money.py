"""Conversion and rounding of money."""

from decimal import Decimal

import pytest

from turnout.brief import Money
from turnout.errors import InputError
from turnout.money import Rates, minor_unit, rounded
from turnout.settings import Settings

RATES = Rates({"USD": 150.0, "EUR": 163.0}, "JPY", "2026-01-01")


def test_minor_units_are_the_currencys_own():
    assert (minor_unit("JPY"), minor_unit("USD"), minor_unit("KWD")) == (1.0, 0.01, 0.001)


def test_amounts_round_half_even_to_what_can_be_paid():
    assert rounded(1234.5, "JPY") == 1234
    assert rounded(1235.5, "JPY") == 1236
    assert rounded(0.1 + 0.2, "USD") == Decimal("0.30")


def test_money_converts_to_base_and_back():
    assert RATES.to_base(Money(amount=Decimal("10.50"), currency="USD")) == pytest.approx(1575)
    assert RATES.money(1575.0) == Money(amount=Decimal(1575), currency="JPY")
    assert RATES.money(1575.0, "USD") == Money(amount=Decimal("10.50"), currency="USD")


def test_the_same_currency_is_not_touched():
    assert RATES.convert(0.1, "EUR", "EUR") == 0.1


def test_another_base_takes_the_same_rates():
    euro = Rates({"USD": 150.0, "EUR": 163.0}, "EUR")
    assert euro.from_jpy(163.0) == pytest.approx(1.0)
    assert euro.unit == 0.01


def test_a_currency_without_a_rate_is_refused_with_those_there_are():
    with pytest.raises(InputError, match="CHF; known are EUR, JPY, USD"):
        RATES.to_base(Money(amount=Decimal(1), currency="CHF"))
    with pytest.raises(InputError, match="CHF"):
        Rates({}, base="CHF")


def test_settings_give_the_rates():
    rates = Rates.of(Settings(currency="USD"))
    assert rates.base == "USD"
    assert rates.from_jpy(150.0) == pytest.approx(1.0)
    assert rates.day
