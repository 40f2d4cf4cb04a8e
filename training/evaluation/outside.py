"""The relevant part of the models on outside files, against the yardsticks. Nothing is stored.

==============  ======================================================================================================
``spend``       rows with money spent and what it brought: a curve of the spend, partial pooling of the groups, trees
                with the pooled mean as base margin; later rows (where there are days) or other folds are held out
``experiment``  one row per recipient with the arm of an experiment: rates per group and arm, half of the people held
                out, and the lift over the control arm
``daily``       registrations per day before one event: forecast from 30, 14 and 7 days before it
==============  ======================================================================================================

What a file is, and which of its columns mean what, is found from their names and contents; every guess is in the
report's notes, and an option overrules it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.evaluation.daily import evaluate_daily
from training.evaluation.experiment import evaluate_experiment
from training.evaluation.spending import evaluate_spend
from turnout.errors import InputError, Problem

Floats = NDArray[np.float64]
Progress = Callable[[str], None]

KINDS = ("spend", "experiment", "daily")
_SPEND = re.compile(
    r"(^|_|\b)(spend|spent|cost|amount[_ ]spent)(\b|_|$)|(_s|_spend)$|費用|消化金額|コスト", re.IGNORECASE
)
_TARGET = re.compile(
    r"total.?conversion|conversion|registrations?|sign.?ups?|leads?|申込|登録数|revenue|sales|^y$|visits?",
    re.IGNORECASE,
)
_DATE = re.compile(r"^(date|day|time|ds|week|date_week|日付|年月日)$|date$", re.IGNORECASE)
_ARM = re.compile(r"^(arm|variant|treatment|experiment_group|segment)$", re.IGNORECASE)
_CONTROL = re.compile(r"\b(no|none|control|hold.?out|nothing)\b|なし|対照", re.IGNORECASE)
_COUNT = re.compile(r"^(n|count|quantity|registrations?|tickets?|申込数|件数)$", re.IGNORECASE)
_NOT_GROUP = re.compile(r"(^|_)id$", re.IGNORECASE)
_MOST_LEVELS = 60


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a file mean."""

    kind: str
    targets: tuple[str, ...]
    spend: tuple[str, ...] = ()
    day: str | None = None
    groups: tuple[str, ...] = ()
    arm: str | None = None
    control: str | None = None


def evaluate(
    path: Path,
    *,
    kind: str | None = None,
    targets: Sequence[str] | None = None,
    spend: Sequence[str] | None = None,
    day: str | None = None,
    groups: Sequence[str] | None = None,
    arm: str | None = None,
    event_date: date | None = None,
    event_format: str = "offline",
    free: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate on one CSV file.

    Returns:
        Plain JSON: ``kind`` ("outside"), ``data_kind``, ``columns``, ``notes``, ``tables`` (title, columns, rows,
        caption) and ``results`` (figures by target).

    Raises:
        InputError: the file is no usable table, or its columns do not say what is what; names the option to set.
    """
    say = progress or (lambda message: None)
    say("reading")
    frame = read(path)
    columns = recognise(frame, kind=kind, targets=targets, spend=spend, day=day, groups=groups, arm=arm)
    notes = [_said(columns, len(frame))]
    if columns.kind == "daily":
        assert columns.day is not None, "recognise() lets no daily file without days pass"
        counts = _daily_counts(frame, columns.day, columns.targets[0])
        found = evaluate_daily(counts, event_date=event_date, event_format=event_format, is_free=free, progress=say)
    elif columns.kind == "experiment":
        assert columns.arm is not None, "recognise() lets no experiment without arms pass"
        usable = frame.dropna(subset=[columns.arm, *columns.targets])
        found = evaluate_experiment(
            usable, arm=columns.arm, control=columns.control, groups=columns.groups, targets=columns.targets, seed=seed,
            progress=say,
        )  # fmt: skip
    else:
        days = None if columns.day is None else pd.to_datetime(frame[columns.day], errors="coerce")
        found = evaluate_spend(
            frame,
            targets=columns.targets,
            spend=columns.spend,
            groups=columns.groups,
            days=days,
            seed=seed,
            progress=say,
        )
    return {
        "kind": "outside",
        "data_kind": columns.kind,
        "file": path.name,
        "rows": len(frame),
        "is_simulated": False,
        "columns": {
            "target": list(columns.targets), "spend": list(columns.spend), "date": columns.day,
            "group": list(columns.groups), "arm": columns.arm,
        },
        "notes": [*notes, *found.pop("notes", [])],
        **found,
    }  # fmt: skip


def read(path: Path) -> pd.DataFrame:
    """The file as a table; every encoding and separator that pandas finds.

    Raises:
        InputError: it is none, or has no rows.
    """
    try:
        frame = pd.read_csv(path, sep=None, engine="python", encoding="utf-8-sig")
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise InputError([Problem("unreadable", f"{path.name} is not a UTF-8 CSV table: {error}")]) from error
    if frame.empty:
        raise InputError([Problem("empty", f"{path.name} has a header and no rows")])
    return frame.rename(columns=lambda name: str(name).strip())


# --- what the columns are ---------------------------------------------------------------------------------------------


def recognise(
    frame: pd.DataFrame,
    *,
    kind: str | None = None,
    targets: Sequence[str] | None = None,
    spend: Sequence[str] | None = None,
    day: str | None = None,
    groups: Sequence[str] | None = None,
    arm: str | None = None,
) -> Columns:
    """Which column means what; options come first, then names and contents.

    Raises:
        InputError: an option names no column, or something needed was not found.
    """
    given = {"--target": targets, "--spend": spend, "--group": groups, "--date": [day] if day else None}
    given["--arm"] = [arm] if arm else None
    _check(frame, kind, given)
    names = [str(c) for c in frame.columns]
    numeric = [c for c in names if pd.api.types.is_numeric_dtype(frame[c])]
    found_arm = arm or _arm_of(frame)
    found_day = day or next((c for c in names if _DATE.search(c) and _are_days(frame[c])), None)
    # an arm beside an outcome of the same name ("spend" per customer) is an experiment, not advertising
    found_spend = tuple(spend) if spend else tuple(c for c in numeric if _SPEND.search(c))
    decided = kind or _kind_of(frame, found_arm, found_day, found_spend, numeric)
    if decided == "daily":
        count = targets[0] if targets else next((c for c in numeric if _COUNT.search(c)), None)
        if found_day is None or count is None:
            raise _missing("daily", {"--date": found_day, "--target": count}, frame)
        return Columns("daily", (count,), day=found_day)
    if decided == "experiment":
        if found_arm is None:
            raise _missing("experiment", {"--arm": found_arm}, frame)
        outcome = tuple(targets) if targets else _outcomes(frame, numeric)
        if not outcome:
            raise _missing("experiment", {"--target": None}, frame)
        chosen = tuple(groups) if groups else _segments(frame, found_arm, outcome)
        return Columns(
            "experiment", outcome, day=None, groups=chosen, arm=found_arm, control=_control(frame, found_arm)
        )
    target = tuple(targets) if targets else _first_target(numeric, found_spend)
    if not found_spend or not target:
        raise _missing("spend", {"--spend": found_spend or None, "--target": target or None}, frame)
    chosen = tuple(groups) if groups else _groups(frame, {*target, *found_spend, found_day or ""})
    return Columns("spend", target, spend=found_spend, day=found_day, groups=chosen)


def _check(frame: pd.DataFrame, kind: str | None, given: Mapping[str, Sequence[str] | None]) -> None:
    problems = [
        Problem("unknown_column", f"{option} names {name!r}; the file has {', '.join(map(str, frame.columns))}")
        for option, names in given.items()
        for name in names or ()
        if name not in frame.columns
    ]
    if kind is not None and kind not in KINDS:
        problems.append(Problem("unknown_kind", f"--kind is {kind!r}; allowed are {', '.join(KINDS)}"))
    for option in ("--target", "--spend"):
        problems += [
            Problem("not_numeric", f"{option} {name!r} does not hold numbers")
            for name in given[option] or ()
            if name in frame.columns and not pd.api.types.is_numeric_dtype(frame[name])
        ]
    if problems:
        raise InputError(problems)


def _missing(kind: str, wanted: Mapping[str, object], frame: pd.DataFrame) -> InputError:
    lacking = [option for option, value in wanted.items() if value is None]
    columns = ", ".join(map(str, frame.columns))
    return InputError([
        Problem("not_recognised", f"no column for {option} was found for --kind {kind}; name one of: {columns}")
        for option in lacking
    ])  # fmt: skip


def _kind_of(
    frame: pd.DataFrame, arm: str | None, day: str | None, spend: Sequence[str], numeric: Sequence[str]
) -> str:
    if arm is not None and day is None:
        return "experiment"
    if spend:
        return "spend"
    if day is not None and any(_COUNT.search(c) for c in numeric):
        return "daily"
    columns = ", ".join(map(str, frame.columns))
    message = f"what the file holds is not clear from its columns ({columns}); set --kind to one of {', '.join(KINDS)}"
    raise InputError([Problem("not_recognised", message)])


def _are_days(values: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(values):
        return False
    return bool(pd.to_datetime(values, errors="coerce").notna().mean() > 0.9)


def _arm_of(frame: pd.DataFrame) -> str | None:
    for name in frame.columns:
        values = frame[name]
        if _ARM.search(str(name)) and values.nunique() <= 12 and any(_CONTROL.search(str(v)) for v in values.unique()):
            return str(name)
    return None


def _control(frame: pd.DataFrame, arm: str) -> str | None:
    return next((str(v) for v in sorted(frame[arm].dropna().unique(), key=str) if _CONTROL.search(str(v))), None)


def _outcomes(frame: pd.DataFrame, numeric: Sequence[str]) -> tuple[str, ...]:
    wanted = [
        c for c in numeric if re.search(r"^visits?$|^spend$|^conversions?$|^clicks?$|^opens?$|^registered$", c, re.I)
    ]
    return tuple(c for c in wanted if frame[c].min() >= 0)


def _segments(frame: pd.DataFrame, arm: str, outcomes: Sequence[str]) -> tuple[str, ...]:
    """The text column with the most levels that is no identifier: the segments of the recipients."""
    texts = [
        str(c)
        for c in frame.columns
        if c not in {arm, *outcomes} and not pd.api.types.is_numeric_dtype(frame[c]) and frame[c].nunique() <= 20
    ]
    return tuple(sorted(texts, key=lambda c: -frame[c].nunique())[:1])


def _first_target(numeric: Sequence[str], spend: Sequence[str]) -> tuple[str, ...]:
    candidates = [c for c in numeric if _TARGET.search(c) and c not in spend and "per_conversion" not in c.lower()]
    return tuple(sorted(candidates, key=lambda c: not c.lower().startswith("total"))[:1])


def _groups(frame: pd.DataFrame, used: set[str]) -> tuple[str, ...]:
    """Columns of few levels that were known beforehand: texts, and numbers that name something."""
    found = []
    for name in frame.columns:
        levels = frame[name].nunique()
        if name in used or not 1 < levels <= _MOST_LEVELS:
            continue
        is_text = not pd.api.types.is_numeric_dtype(frame[name])
        is_name = _NOT_GROUP.search(str(name)) is not None or re.search(r"interest|campaign|code", str(name), re.I)
        if is_text or is_name:
            found.append(str(name))
    return tuple(found)


def _daily_counts(frame: pd.DataFrame, day: str, count: str) -> pd.Series:
    """Registrations per day, every day between the first and the last, zeros filled."""
    days = pd.to_datetime(frame[day], errors="coerce")
    counts = frame[count].groupby(days.dt.normalize()).sum()
    return counts.reindex(pd.date_range(counts.index.min(), counts.index.max(), freq="D"), fill_value=0).astype(float)


def _said(columns: Columns, rows: int) -> str:
    parts = [f"{rows:,} rows taken as {columns.kind} data", f"target {', '.join(columns.targets)}"]
    for label, value in (
        ("spend", ", ".join(columns.spend)), ("day", columns.day), ("groups", ", ".join(columns.groups)),
        ("arm", columns.arm), ("control arm", columns.control),
    ):  # fmt: skip
        if value:
            parts.append(f"{label} {value}")
    return "; ".join(parts)
