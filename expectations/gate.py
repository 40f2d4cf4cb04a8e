"""The gate between reading and loading: every frame is checked before it counts.

``make_gate(settings)`` gives a :class:`turnout.quality.Gate`. For each frame it runs the table's Great Expectations
suite on the rows, then on the partitions, and says which rows go to quarantine, which partitions stop and what is worth
a word. A row that fails is refused with a reason a person understands; nothing is repaired.

Each result is kept under ``home/data_docs`` until :func:`build_docs` (or :meth:`TurnoutGate.write_docs`) makes pages of
it: once per run, for building pages takes longer than checking.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
import structlog

# GX reads these when it is imported.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("TQDM_DISABLE", "1")

import great_expectations as gx

from expectations import (
    ad_performance,
    docs,
    email_performance,
    event,
    partitions,
    reconciliation,
    registration,
    tactic_result,
)
from expectations.history import History
from expectations.people import attendance_drift, event_days, same_people
from expectations.prepare import prepare
from expectations.rules import POSITION, Rule, Suite
from expectations.tuning import FILE_NAME, Limits, Tuning, load_tuning
from turnout.acceptance import Acceptance, accepted_partitions
from turnout.quality import GateDecision, RejectedRow, StoppedPartition
from turnout.settings import Settings
from turnout.warehouse import tables as wh
from turnout.warehouse.engine import create_engine

log = structlog.get_logger(__name__)

#: The suite of each gated table.
SUITES: Mapping[str, Callable[[pd.Timestamp, float, Limits], Suite]] = {
    "ad_performance": ad_performance.suite,
    "email_performance": email_performance.suite,
    "registration": registration.suite,
    "event": event.suite,
    "tactic_result": tactic_result.suite,
}
#: Examples named in a warning.
_EXAMPLES = 3
#: Places (account and day) named in what is stored of a failure.
_PLACES = 20


def all_checks() -> dict[str, set[str]]:
    """Every check by its code, with the severities it comes in: what ``expectations.yaml`` may name."""
    found: dict[str, set[str]] = {}
    for make in SUITES.values():
        suite = make(pd.Timestamp(2000, 1, 1), 1.0, Limits())
        for rule in (*suite.rows, *suite.partitions):
            found.setdefault(rule.code, set()).add("stop" if rule.is_critical else "warn")
    return found


def make_gate(settings: Settings) -> TurnoutGate:
    """The gate of this installation. It costs the import of Great Expectations; make one per run."""
    return TurnoutGate(settings)


def build_docs(settings: Settings) -> Path | None:
    """Make Data Docs of what the gate has checked since the last time; returns the index page, if there is one.

    New results are new data, so the page of claims and registrations is made anew with them, where the warehouse is
    known.
    """
    folder = settings.home_path / "data_docs"
    fresh = any(docs.pending(folder))
    index = docs.build(folder)
    if settings.database_url is not None and (fresh or not (folder / reconciliation.PAGE).exists()):
        engine = create_engine(settings, pool_size=1)
        try:
            reconciliation.write_page(settings, engine)
        except sa.exc.SQLAlchemyError as error:  # a page is for reading; data that is in must not fail for it
            log.warning("reconciliation page not written", error=type(error).__name__)
        finally:
            engine.dispose()
    return index


class TurnoutGate:
    """See the module. Usable as a context manager, which writes the Data Docs at the end."""

    def __init__(self, settings: Settings, *, today: date | None = None) -> None:
        """Make a gate.

        Raises:
            ConfigurationError: ``expectations.yaml`` holds something it should not.
        """
        self._settings = settings
        self._today = pd.Timestamp(today or datetime.now(settings.zone).date())
        rates = settings.fx_rates
        self._base_per_yen = rates.get("JPY", 1.0) / rates[settings.currency]
        self._started = datetime.now(UTC)
        path = settings.home_path / FILE_NAME
        self._tuning: Tuning = load_tuning(settings.home_path).naming_only(all_checks(), str(path))
        self.forget()

    def __enter__(self) -> TurnoutGate:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.write_docs()
        except OSError as error:  # pages are for reading; data that is in must not fail for them
            log.warning("data docs not written", error=str(error))

    def forget(self) -> None:
        """Ask the warehouse anew: something else has written to it."""
        connect = self._connect if self._knows else None
        self._history = History(connect, self._settings.organisation, self._tuning.limits.weeks)
        self.__dict__.pop("_accepted", None)

    def write_docs(self) -> Path | None:
        """:func:`build_docs` for this gate's installation, with the page of claims beside registrations."""
        if self._knows and any(pending(self._settings)):
            from expectations.reconciliation import write_page

            try:
                write_page(self._settings, self._engine)
            except sa.exc.SQLAlchemyError as error:  # the other pages are worth having without it
                log.warning("reconciliation page not written", error=type(error).__name__)
        return build_docs(self._settings)

    def __call__(self, table: str, frame: pd.DataFrame) -> GateDecision:
        """Check ``frame``, whose columns are those of the warehouse table ``table``.

        Raises:
            KeyError: the table has no suite.
            RuntimeError: an expectation could not be evaluated; that is a fault of the suite, not of the data.
        """
        checks = self._suites[table]
        if frame.empty:
            return GateDecision()
        prepared = prepare(wh.metadata.tables[f"{wh.SCHEMA}.{table}"], frame)
        if table == "registration" and self._knows:
            with self._engine.connect() as connection:
                prepared["event_day"] = event_days(connection, self._settings.organisation, prepared)
        prepared = checks.suite.derive(prepared, self._today)
        broken, result = checks.rows.check(prepared)
        broken = self._unsilenced(broken, prepared)
        is_rejected = np.zeros(len(frame), dtype=bool)
        for one in broken:
            if one.rule.is_critical:
                is_rejected[one.positions] = True
        decision = GateDecision(
            rejected=[row for one in broken if one.rule.is_critical for row in one.rejections(frame, prepared)],
            warnings=[one.warning(prepared, "rows") for one in broken if not one.rule.is_critical],
            rows_checked=len(frame),
            failures=[one.failure(prepared) for one in broken],
        )
        results = [result]
        if checks.partitions is not None:
            results.append(self._check_partitions(table, prepared, is_rejected, checks.partitions, decision))
        self._keep(table, frame, results, decision)
        log.info(
            "gate", table=table, rows=len(frame), rejected=int(is_rejected.sum()), stopped=len(decision.stopped),
            warnings=len(decision.warnings),
        )  # fmt: skip
        return decision

    def _check_partitions(
        self, table: str, prepared: pd.DataFrame, is_rejected: np.ndarray, runner: _Runner, decision: GateDecision
    ) -> Any:
        """Add to ``decision`` what the days and accounts of a frame say; returns the result for Data Docs."""
        days = prepared["date"].dropna()
        history, show_up, twins = self._history.nothing(table), None, None
        if len(days):
            sources = prepared["source"].dropna().astype(str).unique()
            history = self._history.around(table, sources, days.min().date(), days.max().date())
        if table == "registration" and self._knows:
            limits = self._tuning.limits
            with self._engine.connect() as connection:
                show_up = attendance_drift(connection, self._settings.organisation, prepared, limits.show_up)
                twins = same_people(connection, self._settings.organisation, prepared)
        summary, own = partitions.summarise(
            table, prepared, is_rejected, history, self._tuning.limits, self._today, show_up, twins
        )
        broken, result = runner.check(summary)
        broken = self._unsilenced(broken, summary)
        stops = [stop for one in broken if one.rule.is_critical for stop in one.stops(summary)]
        accepted = [stop for stop in stops if any(a.covers(stop, table) for a in self._accepted)]
        decision.stopped = [stop for stop in stops if stop not in accepted]
        decision.warnings = [
            *decision.warnings,
            *(one.warning(summary, "days") for one in broken if not one.rule.is_critical),
            *(f"accepted: {stop.code} of {stop.account or stop.source} {stop.date or ''}" for stop in accepted),
        ]
        decision.failures = [*decision.failures, *(one.failure(summary) for one in broken)]
        stopped_days = {(s.source, s.account, s.date) for s in decision.stopped}
        is_loaded = np.ones(len(own), dtype=bool)
        if stopped_days:  # a long file has tens of thousands of days and campaigns
            is_loaded[:] = [
                (source, account, day.date()) not in stopped_days and (source, account, None) not in stopped_days
                for source, account, day in zip(own["source"], own["account"], own["date"], strict=True)
            ]
        self._history.note(table, own[is_loaded])
        return result

    def _unsilenced(self, broken: list[_Broken], prepared: pd.DataFrame) -> list[_Broken]:
        """Without what the user asked not to hear of."""
        today, kept = self._today.date(), []
        for one in broken:
            silences = [s for s in self._tuning.silence if s.check == one.rule.code]
            if not silences or "source" not in prepared:
                kept.append(one)
                continue
            loud = np.array([
                not any(s.covers(one.rule.code, str(source), str(account), today) for s in silences)
                for source, account in zip(
                    prepared["source"].iloc[one.positions], prepared["account"].iloc[one.positions], strict=True
                )
            ], dtype=bool)  # fmt: skip
            if loud.any():
                kept.append(_Broken(one.rule, one.positions[loud], one.count - int((~loud).sum())))
        return kept

    @property
    def _knows(self) -> bool:
        """Whether there is a warehouse to ask."""
        return self._settings.database_url is not None

    @cached_property
    def _accepted(self) -> list[Acceptance]:
        if not self._knows:
            return []
        with self._engine.connect() as connection:
            return accepted_partitions(connection, self._settings.organisation)

    @cached_property
    def _suites(self) -> dict[str, _Checks]:
        context = _context()
        return {
            table: _Checks(context, make(self._today, self._base_per_yen, self._tuning.limits), self._tuning)
            for table, make in SUITES.items()
        }

    def _connect(self) -> sa.Connection:
        return self._engine.connect()

    @cached_property
    def _engine(self) -> sa.Engine:
        return create_engine(self._settings, pool_size=1)

    @property
    def _folder(self) -> Path:
        return self._settings.home_path / "data_docs"

    def _keep(self, table: str, frame: pd.DataFrame, results: list[Any], decision: GateDecision) -> None:
        run = str(frame["run_id"].iloc[0]) if "run_id" in frame else self._started.strftime("%Y%m%dT%H%M%S")
        source = str(frame["source"].iloc[0]) if "source" in frame else ""
        with contextlib.suppress(OSError):  # a full disk must not keep good data out
            docs.keep(self._folder, run, table, source, results, docs.facts(decision), self._settings.zone)


def _context() -> Any:
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    return context


class _Checks:
    """The suites of one table, ready to be run."""

    def __init__(self, context: Any, suite: Suite, tuning: Tuning) -> None:
        self.suite = suite
        self.rows = _Runner(context, suite.table, tuned(suite.rows, tuning))
        by_day = tuned(suite.partitions, tuning)
        self.partitions = _Runner(context, f"{suite.table}_by_day", by_day) if by_day else None


def tuned(rules: tuple[Rule, ...], tuning: Tuning) -> tuple[Rule, ...]:
    """Rules with the severities a user has chosen, without those switched off."""
    kept = []
    for rule in rules:
        level = tuning.checks.get(rule.code)
        if level == "off":
            continue
        if level is not None:
            rule.expectation.severity = "critical" if level == "stop" else "warning"
        kept.append(rule)
    return tuple(kept)


class _Runner:
    """Runs one list of rules on frames."""

    def __init__(self, context: Any, name: str, rules: tuple[Rule, ...]) -> None:
        self._rules = rules
        for number, rule in enumerate(rules):
            rule.expectation.meta = {"rule": number, "code": rule.code}
        self._name = name
        self._suites: dict[tuple[int, ...], Any] = {}
        read = (column for rule in rules for column in rule.columns)
        self._columns = list(dict.fromkeys([POSITION, *read]))
        asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
        self._batches = asset.add_batch_definition_whole_dataframe("frame")

    def check(self, frame: pd.DataFrame) -> tuple[list[_Broken], Any]:
        """The rules that did not hold with the rows that broke them, and the whole result.

        Rules about columns of which nothing is known hold by nature; Great Expectations takes milliseconds for each.
        """
        is_unknown = frame[self._columns].isna().all()
        chosen = tuple(n for n, rule in enumerate(self._rules) if rule.asks(is_unknown))
        # Great Expectations hashes and copies the whole frame, so it gets what the rules read and no more
        read = dict.fromkeys([POSITION, *(column for n in chosen for column in self._rules[n].columns)])
        batch = self._batches.get_batch(batch_parameters={"dataframe": frame[list(read)]})
        result = batch.validate(self._suite_of(chosen), result_format="BASIC")
        broken = []
        # results come in an order of their own
        outcomes = sorted(result.results, key=lambda outcome: outcome.expectation_config.meta["rule"])
        for number, outcome in zip(chosen, outcomes, strict=True):
            _raise_for(outcome)
            if not outcome.success:
                broken.append(self._broken(batch, self._rules[number], frame))
        return broken, result

    def _suite_of(self, chosen: tuple[int, ...]) -> Any:
        if chosen not in self._suites:
            expectations = [self._rules[n].expectation for n in chosen]
            self._suites[chosen] = gx.ExpectationSuite(name=self._name, expectations=expectations)
        return self._suites[chosen]

    def _broken(self, batch: Any, rule: Rule, frame: pd.DataFrame) -> _Broken:
        """Only what failed is asked again for its rows; of a warning a few are enough, for the full answer is large."""
        outcome = batch.validate(
            rule.expectation,
            result_format={
                "result_format": "COMPLETE" if rule.is_critical else "SUMMARY",
                "unexpected_index_column_names": [POSITION],
                "return_unexpected_index_query": False,
            },
        )
        _raise_for(outcome)
        listed = outcome.result["unexpected_index_list" if rule.is_critical else "partial_unexpected_index_list"]
        positions = np.array([int(row[POSITION]) for row in listed], dtype=int)
        if not rule.keep_first:
            return _Broken(rule, positions, int(outcome.result["unexpected_count"]))
        again = frame.loc[positions, rule.expectation.column_list].duplicated(keep="first").to_numpy()
        return _Broken(rule, positions[again], int(again.sum()))


@dataclass(frozen=True, slots=True)
class _Broken:
    """A rule that did not hold: ``count`` rows, at ``positions`` (all of them for a critical rule)."""

    rule: Rule
    positions: np.ndarray
    count: int

    def reasons(self, prepared: pd.DataFrame, positions: np.ndarray | None = None) -> list[str]:
        """The rule's reason with the values of each row, in words."""
        wanted = self.positions if positions is None else positions
        named = {name for _, name, _, _ in Formatter().parse(self.rule.reason) if name}
        columns = {name: prepared[name].iloc[wanted].tolist() for name in named if name in prepared}
        return [
            self.rule.reason.format_map({name: _said(values[n]) for name, values in columns.items()})
            for n in range(len(wanted))
        ]

    def examples(self, prepared: pd.DataFrame) -> list[str]:
        return list(dict.fromkeys(self.reasons(prepared, self.positions[:_EXAMPLES])))

    def warning(self, prepared: pd.DataFrame, what: str) -> str:
        return f"{self.rule.code}: {self.count} {what}, e.g. {'; '.join(self.examples(prepared))}"

    def failure(self, prepared: pd.DataFrame) -> dict[str, Any]:
        """For the table ``validation``."""
        return {
            "code": self.rule.code,
            "expectation": self.rule.expectation.expectation_type,
            "column": self.rule.column,
            "severity": "critical" if self.rule.is_critical else "warning",
            "failed": self.count,
            "checked": len(prepared),
            "examples": self.examples(prepared),
            **self.affected(prepared),
        }

    def affected(self, prepared: pd.DataFrame) -> dict[str, Any]:
        """Money and registrations at stake, and where: account and day, as far as the positions are known."""
        rows = prepared.iloc[self.positions]
        spend = rows["spend_base"] if "spend_base" in rows else rows.get("cost_base")
        people = rows["quantity"] if "quantity" in rows else rows.get("registrations", rows.get("conversions"))
        found: dict[str, Any] = {
            "spend": 0.0 if spend is None else round(float(spend.abs().sum()), 2),
            "registrations": 0.0 if people is None else round(float(people.sum()), 2),
        }
        if {"source", "account", "date"} <= set(rows.columns):
            places = rows[["source", "account", "date"]].drop_duplicates()[:_PLACES]
            found["places"] = [
                [str(source), str(account), None if pd.isna(day) else f"{day:%Y-%m-%d}"]
                for source, account, day in places.itertuples(index=False)
            ]
        return found

    def rejections(self, frame: pd.DataFrame, prepared: pd.DataFrame) -> list[RejectedRow]:
        reasons = self.reasons(prepared)
        # of the rule on types, the reason begins with the column
        columns = [self.rule.column or reason.split(" ", 1)[0] for reason in reasons]
        return [
            RejectedRow(frame.index[at], column, _given(frame, column, at), self.rule.code, reason)
            for at, column, reason in zip(self.positions, columns, reasons, strict=True)
        ]

    def stops(self, summary: pd.DataFrame) -> list[StoppedPartition]:
        rows = summary.iloc[self.positions]
        return [
            StoppedPartition(str(source), str(account), None if pd.isna(day) else day.date(), self.rule.code, reason)
            for source, account, day, reason in zip(
                rows["source"], rows["account"], rows["date"], self.reasons(summary), strict=True
            )
        ]


def _raise_for(outcome: Any) -> None:
    info = outcome.exception_info or {}
    nested = info.values() if info and all(isinstance(v, dict) for v in info.values()) else [info]
    for one in nested:
        if one.get("raised_exception"):
            raise RuntimeError(f"{outcome.expectation_config.type} failed: {one.get('exception_message')}")


# --- words ------------------------------------------------------------------------------------------------------------


def _said(value: Any) -> str:
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return "unknown"
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}" if value == value.normalize() else f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, float | np.floating):
        return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int | np.integer) and not isinstance(value, bool) else str(value)[:80]


def _given(frame: pd.DataFrame, column: str, position: int) -> str | None:
    if column not in frame.columns:
        return None
    value: Any = frame[column].iat[position]
    return None if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)) else str(value)


def validate(settings: Settings, table: str, frame: pd.DataFrame) -> GateDecision:
    """One frame through a gate made for it: for a single check from Python. Runs make one gate and keep it."""
    return make_gate(settings)(table, frame)


def pending(settings: Settings) -> Iterator[Path]:
    """Results that Data Docs do not show yet."""
    return docs.pending(settings.home_path / "data_docs")
