"""Exchange rates for loading: exact, dated, and said with every amount they were used on."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy import Connection

from turnout.settings import Settings
from turnout.warehouse.tables import fx_rate

#: A dated rate of the warehouse stands for its own day and this many following ones (weekends, holidays).
VALID_DAYS = 10


@dataclass
class DatedRates:
    """Units of base currency for one unit of another, on a day.

    The warehouse's table ``fx_rate`` wins where it has a rate of the day or shortly before; else the settings' rates,
    with the day these stand for.
    """

    base: str
    settings_rates: dict[str, Decimal]
    settings_day: date
    _dated: dict[str, tuple[list[date], list[Decimal]]] = field(default_factory=dict)

    @classmethod
    def load(cls, connection: Connection, settings: Settings) -> DatedRates:
        """Every rate towards the installation's currency."""
        base = settings.currency
        to_jpy = {code: Decimal(repr(rate)) for code, rate in settings.fx_rates.items()}
        rates = cls(
            base,
            {code: rate / to_jpy[base] for code, rate in to_jpy.items()},
            date.fromisoformat(settings.fx_rates_date),
        )
        query = (
            sa.select(fx_rate.c.currency, fx_rate.c.date, fx_rate.c.rate)
            .where(fx_rate.c.base_currency == base)
            .order_by(fx_rate.c.currency, fx_rate.c.date)
        )
        for currency, day, rate in connection.execute(query):
            days, values = rates._dated.setdefault(currency, ([], []))
            days.append(day)
            values.append(rate)
        return rates

    def rate(self, currency: str, day: date | None) -> tuple[Decimal, date] | None:
        """The rate to use for ``day`` (``None``: the newest) and the day it is of; ``None`` where none is known."""
        if currency == self.base:
            return Decimal(1), day or self.settings_day
        if currency in self._dated:
            days, values = self._dated[currency]
            at = len(days) - 1 if day is None else bisect.bisect_right(days, day) - 1
            if at >= 0 and (day is None or day - days[at] <= timedelta(days=VALID_DAYS)):
                return values[at], days[at]
        known = self.settings_rates.get(currency)
        return None if known is None else (known, self.settings_day)

    @property
    def currencies(self) -> list[str]:
        """Every currency with some rate."""
        return sorted({self.base, *self.settings_rates, *self._dated})
