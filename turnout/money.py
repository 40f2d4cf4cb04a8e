"""Money in and out of the planning maths.

All planning is done in one base currency with one float per amount; what leaves is :class:`turnout.brief.Money`,
rounded to what the currency can pay (whole yen, cents). :class:`Rates` is the one place that converts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from turnout.errors import InputError, Problem

if TYPE_CHECKING:
    from turnout.brief import Money
    from turnout.settings import Settings


@lru_cache(maxsize=256)
def minor_digits(currency: str) -> int:
    """Decimal places of a currency's smallest coin: 0 for JPY, 2 for USD, 3 for KWD (CLDR, by babel)."""
    from babel.numbers import get_currency_precision

    return int(get_currency_precision(currency))


def minor_unit(currency: str) -> float:
    """The smallest payable amount in major units: 1.0 for JPY, 0.01 for USD."""
    return float(10.0 ** -minor_digits(currency))


def rounded(amount: float | Decimal, currency: str) -> Decimal:
    """``amount`` rounded half-even to the currency's minor unit. A float is read as its shortest decimal."""
    exact = amount if isinstance(amount, Decimal) else Decimal(repr(float(amount)))
    return exact.quantize(Decimal(1).scaleb(-minor_digits(currency)), rounding=ROUND_HALF_EVEN)


@dataclass(frozen=True, slots=True)
class Rates:
    """Exchange rates towards one base currency.

    Attributes:
        to_jpy: units of JPY for one unit of each currency.
        base: the currency planning is done in.
        day: the day the rates stand for, as ISO text; shown wherever a figure was converted.
    """

    to_jpy: Mapping[str, float]
    base: str = "JPY"
    day: str = ""

    def __post_init__(self) -> None:
        self.rate(self.base)

    @classmethod
    def of(cls, settings: Settings) -> Rates:
        return cls(settings.fx_rates, settings.currency, settings.fx_rates_date)

    def rate(self, currency: str) -> float:
        """Units of JPY for one unit of ``currency``.

        Raises:
            InputError: there is no rate, or it is not positive.
        """
        rate = 1.0 if currency == "JPY" else self.to_jpy.get(currency, 0.0)
        if not rate > 0:
            known = ", ".join(sorted({"JPY", *self.to_jpy}))
            message = f"no exchange rate for {currency}; known are {known} (setting TURNOUT_FX_RATES)"
            raise InputError([Problem("unknown_currency", message, value=currency)])
        return rate

    def convert(self, amount: float, currency: str, to: str) -> float:
        """``amount`` of ``currency`` in units of ``to``; unchanged, to the bit, when both are the same."""
        return amount if currency == to else amount * self.rate(currency) / self.rate(to)

    def to_base(self, money: Money) -> float:
        """A :class:`~turnout.brief.Money` as a float in base currency."""
        return self.convert(float(money.amount), money.currency, self.base)

    def from_jpy(self, amount: float) -> float:
        """A catalogue amount (JPY) in base currency."""
        return self.convert(amount, "JPY", self.base)

    def money(self, amount: float, currency: str | None = None) -> Money:
        """A base-currency float as :class:`~turnout.brief.Money` of ``currency`` (default: base), rounded to its
        minor unit."""
        from turnout.brief import Money

        currency = currency or self.base
        return Money(amount=rounded(self.convert(amount, self.base, currency), currency), currency=currency)

    @property
    def unit(self) -> float:
        """The base currency's smallest payable amount."""
        return minor_unit(self.base)
