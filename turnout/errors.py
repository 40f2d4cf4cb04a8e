"""Errors that reach a user. Each says where, what was given and what is allowed."""

from __future__ import annotations

from dataclasses import dataclass, field


class TurnoutError(Exception):
    """Base of every expected failure: shown as one message without a traceback."""


class ConfigurationError(TurnoutError):
    """A setting is missing or contradicts another one; the message names the fix."""


class NotReadyError(TurnoutError):
    """Something that must exist first does not (no model, no features, no history)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One defect in the input.

    Attributes:
        code: stable machine-readable reason, e.g. ``not_a_number``.
        message: one sentence that names the value and what is allowed.
        file, sheet, row, column, value: where it stands; ``row`` counts from 1 as a spreadsheet shows it.
    """

    code: str
    message: str
    file: str | None = None
    sheet: str | None = None
    row: int | None = None
    column: str | None = None
    value: str | None = None

    def __str__(self) -> str:
        place = [p for p in (
            self.file,
            f"sheet {self.sheet}" if self.sheet else None,
            f"row {self.row}" if self.row is not None else None,
            f"column {self.column}" if self.column else None,
        ) if p]  # fmt: skip
        return f"{', '.join(place)}: {self.message}" if place else self.message


@dataclass
class InputError(TurnoutError):
    """A whole input (file, brief) cannot be used. ``problems`` lists every reason at once."""

    problems: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(str(p) for p in self.problems)
