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
from datetime import UTC, date, datetime, timedelta
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

from expectations import ad_performance, docs, email_performance, event, partitions, registration, tactic_result
from expectations.prepare import prepare
from expectations.rules import POSITION, Rule, Suite
from turnout.quality import GateDecision, RejectedRow, StoppedPartition
from turnout.settings import Settings
from turnout.warehouse import tables as wh
from turnout.warehouse.engine import create_engine

log = structlog.get_logger(__name__)

#: The suite of each gated table.
SUITES: Mapping[str, Callable[[pd.Timestamp, float], Suite]] = {
    "ad_performance": ad_performance.suite,
    "email_performance": email_performance.suite,
    "registration": registration.suite,
    "event": event.suite,
    "tactic_result": tactic_result.suite,
}
#: How many weeks before a frame say what is usual.
_USUAL_WEEKS = 8
#: Examples named in a warning.
_EXAMPLES = 3


def make_gate(settings: Settings) -> TurnoutGate:
    """The gate of this installation. It costs the import of Great Expectations; make one per run."""
    return TurnoutGate(settings)


def build_docs(settings: Settings) -> Path | None:
    """Make Data Docs of what the gate has checked since the last time; returns the index page, if there is one."""
    return docs.build(settings.home_path / "data_docs")


class TurnoutGate:
    """See the module. Usable as a context manager, which writes the Data Docs at the end."""

    def __init__(self, settings: Settings, *, today: date | None = None) -> None:
        self._settings = settings
        self._today = pd.Timestamp(today or datetime.now(settings.zone).date())
        rates = settings.fx_rates
        self._base_per_yen = rates.get("JPY", 1.0) / rates[settings.currency]
        self._started = datetime.now(UTC)

    def __enter__(self) -> TurnoutGate:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.write_docs()
        except OSError as error:  # pages are for reading; data that is in must not fail for them
            log.warning("data docs not written", error=str(error))

    def write_docs(self) -> Path | None:
        """:func:`build_docs` for this gate's installation."""
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
        prepared = checks.suite.derive(prepare(wh.metadata.tables[f"{wh.SCHEMA}.{table}"], frame), self._today)
        broken, result = checks.rows.check(prepared)
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
            summary = partitions.summarise(prepared, is_rejected, self._usual(table, prepared))
            broken, result = checks.partitions.check(summary)
            results.append(result)
            decision.stopped = [stop for one in broken if one.rule.is_critical for stop in one.stops(summary)]
            decision.warnings = [
                *decision.warnings,
                *(one.warning(summary, "days") for one in broken if not one.rule.is_critical),
            ]
            decision.failures = [*decision.failures, *(one.failure(summary) for one in broken)]
        self._keep(table, frame, results)
        log.info(
            "gate", table=table, rows=len(frame), rejected=int(is_rejected.sum()), stopped=len(decision.stopped),
            warnings=len(decision.warnings),
        )  # fmt: skip
        return decision

    @cached_property
    def _suites(self) -> dict[str, _Checks]:
        context = _context()
        return {
            table: _Checks(context, make(self._today, self._base_per_yen)) for table, make in SUITES.items()
        }  # fmt: skip

    def _usual(self, table: str, prepared: pd.DataFrame) -> pd.DataFrame | None:
        """What the weeks before the frame had a day, per source and account: median rows and the highest spend."""
        if self._settings.database_url is None or prepared["date"].isna().all():
            return None
        first = prepared["date"].min().date()
        spend = "sum(spend_base)" if table == "ad_performance" else "NULL::numeric"
        only_days = "AND period_end = date" if table == "ad_performance" else ""
        query = f"""
            SELECT source, account, percentile_cont(0.5) WITHIN GROUP (ORDER BY rows) AS usual_rows,
                   max(spend) AS usual_spend,
                   count(*) AS usual_days
            FROM (
                SELECT source, account, date, count(*)::float8 AS rows, ({spend})::float8 AS spend
                FROM {wh.SCHEMA}.{table}
                WHERE organisation = :organisation AND source = ANY(:sources)
                  AND date >= :since AND date < :first {only_days}
                GROUP BY source, account, date
            ) AS day
            GROUP BY source, account
        """
        with self._engine.connect() as connection:
            return pd.read_sql_query(
                sa.text(query).bindparams(
                    organisation=self._settings.organisation,
                    sources=sorted(prepared["source"].dropna().unique()),
                    since=first - timedelta(weeks=_USUAL_WEEKS),
                    first=first,
                ),
                connection,
            ).astype({"usual_rows": float, "usual_spend": float, "usual_days": float})

    @cached_property
    def _engine(self) -> sa.Engine:
        return create_engine(self._settings, pool_size=1)

    def _keep(self, table: str, frame: pd.DataFrame, results: list[Any]) -> None:
        run = str(frame["run_id"].iloc[0]) if "run_id" in frame else self._started.strftime("%Y%m%dT%H%M%S")
        source = str(frame["source"].iloc[0]) if "source" in frame else ""
        with contextlib.suppress(OSError):  # a full disk must not keep good data out
            docs.keep(self._settings.home_path / "data_docs", run, table, source, results)


def _context() -> Any:
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    return context


class _Checks:
    """The suites of one table, ready to be run."""

    def __init__(self, context: Any, suite: Suite) -> None:
        self.suite = suite
        self.rows = _Runner(context, suite.table, suite.rows)
        self.partitions = _Runner(context, f"{suite.table}_by_day", suite.partitions) if suite.partitions else None


class _Runner:
    """Runs one list of rules on frames."""

    def __init__(self, context: Any, name: str, rules: tuple[Rule, ...]) -> None:
        self._rules = rules
        for number, rule in enumerate(rules):
            rule.expectation.meta = {"rule": number, "code": rule.code}
        self._suite = gx.ExpectationSuite(name=name, expectations=[rule.expectation for rule in rules])
        read = (column for rule in rules for column in rule.columns)
        self._columns = list(dict.fromkeys([POSITION, *read]))
        asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
        self._batches = asset.add_batch_definition_whole_dataframe("frame")

    def check(self, frame: pd.DataFrame) -> tuple[list[_Broken], Any]:
        """The rules that did not hold with the rows that broke them, and the whole result."""
        # Great Expectations hashes and copies the whole frame, so it gets what the rules read and no more
        batch = self._batches.get_batch(batch_parameters={"dataframe": frame[self._columns]})
        result = batch.validate(self._suite, result_format="BASIC")
        broken = []
        # results come in an order of their own
        outcomes = sorted(result.results, key=lambda outcome: outcome.expectation_config.meta["rule"])
        for rule, outcome in zip(self._rules, outcomes, strict=True):
            _raise_for(outcome)
            if not outcome.success:
                broken.append(self._broken(batch, rule, frame))
        return broken, result

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
        }

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
