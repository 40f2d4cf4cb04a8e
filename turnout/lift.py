"""Lift tests: a tactic held out for one half of an audience, so that one sees what it causes.

Registrations that carry a tactic's name are not all caused by it: some people would have come anyway, and some that it
moved come without its name. A lift test counts everybody who registered, in a treated group and in a control group that
the tactic was kept from. The groups are halves of a list drawn by lot (``list``), or areas (``region``).

With y registrations among n units, t for treated and c for control,

    lift = y_t − y_c · n_t / n_c           registrations in the treated group that the tactic caused

Units are people of a list, or the size of areas: their population, or better their registrations before the test, which
takes out how areas differ anyhow. The interval comes from the posterior of both rates: Beta with Jeffreys' prior for
people, Gamma for areas, whose rates also drift apart by chance by :data:`AREA_LOG_SD` (a guess; two areas cannot tell).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID, uuid4

import numpy as np
from sqlalchemy import Connection, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from turnout.errors import InputError, Problem
from turnout.identity import key_of, normalise_name
from turnout.money import Rates
from turnout.warehouse.tables import lift_test

Split = Literal["list", "region"]
SPLITS: tuple[Split, ...] = ("list", "region")

#: How far rates of two areas drift apart in a few weeks by themselves, on the log scale: a guess.
AREA_LOG_SD = 0.10
#: Fewer registrations than this in both groups tell nothing.
_DRAWS = 20_000
_SEED = 20_261_125


@dataclass(frozen=True, slots=True)
class LiftTest:
    """One test.

    Attributes:
        treated_units, control_units: people, or the size of the areas, in one unit.
        treated_registrations, control_registrations: of everybody in the group, whatever their origin.
        spend: on the treated group, in ``currency``; None for free tactics.
        staff_hours: on the treated group; None: the usual effort.
    """

    name: str
    tactic_id: str
    split: Split
    first_date: date
    last_date: date
    treated_units: float
    control_units: float
    treated_registrations: int
    control_registrations: int
    event_id: str | None = None
    segment_id: str | None = None
    spend: Decimal | None = None
    currency: str | None = None
    staff_hours: float | None = None
    notes: str | None = None

    def test_id(self, organisation: str) -> str:
        """The key: figures may be corrected, what was tested when may not."""
        name = normalise_name(self.name)
        return key_of(
            organisation, self.tactic_id, name, self.event_id, self.first_date, self.last_date, prefix="lift_"
        )


@dataclass(frozen=True, slots=True)
class Lift:
    """What a test says.

    Attributes:
        incremental: registrations caused in the treated group, with its 90 % interval.
        relative: the same as a share of what would have come without the tactic; None where nothing would have.
        whole: registrations caused if everybody had been treated: incremental · (n_t + n_c) / n_t.
        sd: standard deviation of ``incremental``.
        probability: that the tactic brings anybody at all.
        cost_per_registration: spend over incremental, in ``currency``; None where free or nothing was caused.
    """

    incremental: float
    low: float
    high: float
    relative: float | None
    whole: float
    sd: float
    probability: float
    cost_per_registration: float | None


def measure(test: LiftTest) -> Lift:
    """Compute the lift of a test, with its uncertainty. The same test always gives the same figures."""
    rng = np.random.default_rng(_SEED)
    n_t, n_c = test.treated_units, test.control_units
    y_t, y_c = test.treated_registrations, test.control_registrations
    if test.split == "list" and y_t <= n_t and y_c <= n_c:
        treated = rng.beta(y_t + 0.5, n_t - y_t + 0.5, _DRAWS)
        control = rng.beta(y_c + 0.5, n_c - y_c + 0.5, _DRAWS)
    else:
        treated = rng.gamma(y_t + 0.5, 1 / n_t, _DRAWS)
        control = rng.gamma(y_c + 0.5, 1 / n_c, _DRAWS)
    if test.split == "region":
        drift = math.sqrt(2) * AREA_LOG_SD
        control = control * np.exp(rng.normal(-(drift**2) / 2, drift, _DRAWS))
    drawn = n_t * (treated - control)
    expected = y_c * n_t / n_c
    incremental = y_t - expected
    low, high = np.quantile(drawn, (0.05, 0.95))
    spend = float(test.spend) if test.spend is not None else 0.0
    return Lift(
        incremental=incremental,
        low=float(low),
        high=float(high),
        relative=incremental / expected if expected > 0 else None,
        whole=incremental * (n_t + n_c) / n_t,
        sd=float(drawn.std()),
        probability=float((drawn > 0).mean()),
        cost_per_registration=spend / incremental if spend > 0 and incremental > 0 else None,
    )


def check(test: LiftTest) -> list[Problem]:
    """What is wrong with a test; ``column`` names the field."""
    found: list[Problem] = []

    def wrong(code: str, message: str, column: str) -> None:
        value = getattr(test, column)
        found.append(Problem(code, message, column=column, value=None if value is None else str(value)))

    if not test.name.strip():
        wrong("missing", "a test needs a name", "name")
    if test.split not in SPLITS:
        wrong("not_a_choice", f"{test.split!r} is no split; choose from {', '.join(SPLITS)}", "split")
    if test.last_date < test.first_date:
        wrong("period", f"the last day {test.last_date} is before the first {test.first_date}", "last_date")
    for side in ("treated", "control"):
        units, registrations = getattr(test, f"{side}_units"), getattr(test, f"{side}_registrations")
        if not (math.isfinite(units) and units > 0):
            wrong("not_positive", f"a group has more than 0 units, not {units:g}", f"{side}_units")
        elif test.split == "list" and registrations > units:
            message = f"{registrations} registrations from {units:g} people; of areas, say split = region"
            wrong("more_than_units", message, f"{side}_registrations")
        if registrations < 0:
            wrong("negative", f"{registrations} is negative; a count is 0 or more", f"{side}_registrations")
    if test.spend is not None and test.spend < 0:
        wrong("negative", f"{test.spend} is negative; an amount is 0 or more", "spend")
    if test.staff_hours is not None and not test.staff_hours >= 0:
        wrong("negative", f"{test.staff_hours} is negative; hours are 0 or more", "staff_hours")
    from turnout.tactics import load_catalogue

    catalogue = load_catalogue()
    if test.tactic_id in catalogue:
        if catalogue.get(test.tactic_id).is_paid and not (test.spend and test.spend > 0):
            wrong("missing", f"{test.tactic_id} is paid: say what was spent on the treated group", "spend")
    else:
        wrong("unknown_tactic", f"there is no tactic {test.tactic_id!r}", "tactic_id")
    return found


# --- storing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """What a command changed; the ids of the tests."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


_COLUMNS = tuple(LiftTest.__dataclass_fields__)


def save(
    connection: Connection, organisation: str, tests: Iterable[LiftTest], rates: Rates, *, file: str | None = None
) -> Change:
    """Store tests; those that are there already get the new figures, those that say the same stay untouched.

    Raises:
        InputError: a test is wrong (:func:`check`), or its currency has no rate. Nothing is stored then.
    """
    tests = list(tests)
    problems = [p for test in tests for p in check(test)]
    if problems:
        raise InputError(problems)
    _lock(connection, organisation)
    there = _rows(connection, organisation)
    change, outcome = uuid4(), Change()
    for test in tests:
        row = _row(organisation, test, rates, file)
        old = there.get(row["test_id"])
        if old is not None and not old["is_removed"] and all(_same(old[c], row[c]) for c in _COLUMNS):
            outcome.unchanged.append(row["test_id"])
            continue
        (outcome.added if old is None or old["is_removed"] else outcome.changed).append(row["test_id"])
        _write(connection, row | {"is_removed": False}, change, old)
        there[row["test_id"]] = {**row, "is_removed": False}
    return outcome


def remove(connection: Connection, organisation: str, names: Iterable[str]) -> Change:
    """Take tests out, by id or name. They stay in the table for :func:`undo`.

    Raises:
        InputError: a name is unknown or belongs to several tests. Nothing is removed then.
    """
    _lock(connection, organisation)
    there = {k: row for k, row in _rows(connection, organisation).items() if not row["is_removed"]}
    problems: list[Problem] = []
    chosen: dict[str, Mapping[str, Any]] = {}
    for name in names:
        found = [k for k, row in there.items() if name == k or normalise_name(row["name"]) == normalise_name(name)]
        if len(found) == 1:
            chosen[found[0]] = there[found[0]]
        elif found:
            problems.append(Problem("ambiguous", f"{name!r} is several tests: {', '.join(sorted(found))}", value=name))
        else:
            problems.append(Problem("unknown_test", f"there is no lift test {name!r}", value=name))
    if problems:
        raise InputError(problems)
    change = uuid4()
    for row in chosen.values():
        _write(connection, {**row, "is_removed": True}, change, row)
    return Change(removed=list(chosen))


def undo(connection: Connection, organisation: str) -> Change:
    """Take the last command back: every test it wrote is again what it was before. May be repeated.

    Raises:
        InputError: there is nothing to take back.
    """
    _lock(connection, organisation)
    here = lift_test.c.organisation == organisation
    last = connection.execute(
        select(lift_test.c.change_id).where(here).order_by(lift_test.c.updated_at.desc()).limit(1)
    ).scalar_one_or_none()
    if last is None:
        raise InputError([Problem("nothing_to_undo", "there is no change of lift tests to take back")])
    outcome = Change()
    for row in connection.execute(select(lift_test).where(here, lift_test.c.change_id == last)).mappings().all():
        key = lift_test.c.test_id == row["test_id"]
        was = row["previous"]
        connection.execute(delete(lift_test).where(here, key))
        if was is None:
            outcome.removed.append(row["test_id"])
            continue
        connection.execute(insert(lift_test), {c.name: _from_json(c.name, was[c.name]) for c in lift_test.columns})
        (outcome.removed if was["is_removed"] else outcome.added if row["is_removed"] else outcome.changed).append(
            row["test_id"]
        )
    return outcome


@dataclass(frozen=True, slots=True)
class Stored:
    """A test as stored, with its lift. ``spend_base`` is the spend in ``base_currency``."""

    test_id: str
    test: LiftTest
    lift: Lift
    spend_base: float | None
    base_currency: str | None


def read(connection: Connection, organisation: str, *, until: date | None = None) -> list[Stored]:
    """The tests that count, oldest first; only those over before ``until``."""
    found = []
    for key, row in _rows(connection, organisation).items():
        if row["is_removed"] or (until is not None and row["last_date"] >= until):
            continue
        values = {c: row[c] for c in _COLUMNS}
        for name in ("treated_units", "control_units", "staff_hours"):
            values[name] = None if values[name] is None else float(values[name])
        test = LiftTest(**values)
        base = None if row["spend_base"] is None else float(row["spend_base"])
        found.append(Stored(key, test, measure(test), base, row["base_currency"]))
    return sorted(found, key=lambda s: (s.test.first_date, s.test.tactic_id, s.test_id))


def _row(organisation: str, test: LiftTest, rates: Rates, file: str | None) -> dict[str, Any]:
    money: dict[str, Any] = dict.fromkeys(("spend_base", "base_currency", "fx_rate", "fx_date"))
    if test.spend is not None:
        currency = test.currency or rates.base
        rate = rates.convert(1.0, currency, rates.base)
        money = {
            "currency": currency, "spend_base": test.spend * Decimal(repr(rate)), "base_currency": rates.base,
            "fx_rate": Decimal(repr(rate)), "fx_date": date.fromisoformat(rates.day) if rates.day else None,
        }  # fmt: skip
    key = test.test_id(organisation)
    return asdict(test) | money | {"organisation": organisation, "test_id": key, "source_file": file}


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, Decimal) and new is not None:
        return math.isclose(float(old), float(new), rel_tol=1e-9, abs_tol=1e-6)
    return bool(old == new)


def _lock(connection: Connection, organisation: str) -> None:
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"lift_test:{organisation}"}
    )


def _rows(connection: Connection, organisation: str) -> dict[str, Mapping[str, Any]]:
    found = connection.execute(select(lift_test).where(lift_test.c.organisation == organisation)).mappings()
    return {row["test_id"]: dict(row) for row in found}


def _write(connection: Connection, row: Mapping[str, Any], change: UUID, previous: Mapping[str, Any] | None) -> None:
    values = {c.name: row[c.name] for c in lift_test.columns if c.name in row}
    was = None if previous is None else {name: _to_json(value) for name, value in previous.items()}
    values |= {"change_id": change, "previous": was, "updated_at": func.clock_timestamp()}
    statement = insert(lift_test).values(values)
    keys = ("organisation", "test_id")
    updated = {name: statement.excluded[name] for name in values if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=updated))


def _to_json(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | str | dict) else str(value)


def _from_json(name: str, value: Any) -> Any:
    """A value of ``previous`` in its column's type; PostgreSQL reads the rest from text."""
    if value is None or isinstance(value, dict):
        return value
    kind = lift_test.c[name].type.python_type
    if kind is date:
        return date.fromisoformat(value)
    if kind is UUID:
        return UUID(value)
    if kind is Decimal:
        return Decimal(value)
    if name == "updated_at":
        from datetime import datetime

        return datetime.fromisoformat(value)
    return value
