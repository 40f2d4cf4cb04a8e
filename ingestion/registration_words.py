"""The words of registration lists: states, attendance, staff tickets, test orders. Read from ``statuses.yaml``.

``<home>/statuses.yaml`` in the same form adds an organiser's own words; of a word in both, the meaning there counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ingestion.values import Cell, CellError, fold, parse_date, parse_text, shown
from turnout.errors import ConfigurationError

#: What a row says of the person's registration. ``none``: invited, or began to register; no registration.
State = str

#: Group of ``statuses.yaml`` → (state, attended where the word says it).
_STATES: Mapping[str, tuple[State, bool | None]] = {
    "confirmed": ("confirmed", None),
    "attended": ("confirmed", True),
    "absent": ("confirmed", False),
    "cancelled": ("cancelled", None),
    "waitlist": ("waitlist", None),
    "not_registered": ("none", None),
}
_SETS = ("staff", "test", "counted")

_BRACKET = re.compile(r"\s*[(（\[【〔].*?[)）\]】〕]\s*")
_TICKET_WORD = re.compile(r"(?:枠|席|券|用|チケット|の方|\b(?:only|ticket|tickets|pass|passes|admission|entry))\s*$")

ALLOWED = "confirmed, attended, no-show, cancelled, waitlist"


def _key(word: object) -> str:
    return fold(str(word)).casefold()


@lru_cache(maxsize=4_096)
def text_key(text: str) -> str:
    """A text as words are compared: width and case folded."""
    return _key(text)


@lru_cache(maxsize=4_096)
def ticket_key(ticket: str) -> str:
    """A kind of ticket without its bracket and without the word for ticket: ``運営枠(現地)`` → 運営."""
    key = _BRACKET.sub(" ", _key(ticket)).strip()
    shorter = _TICKET_WORD.sub("", key).strip()
    while shorter and shorter != key:
        key, shorter = shorter, _TICKET_WORD.sub("", shorter).strip()
    return key


@dataclass
class Words:
    """What words of registration lists mean; keys folded."""

    states: dict[str, tuple[State, bool | None]] = field(default_factory=dict)
    attendance: dict[str, bool] = field(default_factory=dict)
    staff: set[str] = field(default_factory=set)
    test: set[str] = field(default_factory=set)
    counted: set[str] = field(default_factory=set)

    def add(self, groups: Mapping[str, Iterable[str]]) -> None:
        """Add words by group; a later meaning replaces an earlier one, within one call the first stands."""
        states: dict[str, tuple[State, bool | None]] = {}
        for group, meaning in _STATES.items():
            for word in groups.get(group, ()):
                states.setdefault(_key(word), meaning)
        self.states |= states
        answers: dict[str, bool] = {}
        for group, came in (("yes", True), ("attended", True), ("no", False), ("absent", False)):
            for word in groups.get(group, ()):
                answers.setdefault(_key(word), came)
        self.attendance |= answers
        self.staff |= {ticket_key(word) for word in groups.get("staff", ())}
        self.test |= {_key(word) for word in groups.get("test", ())}
        self.counted |= {ticket_key(word) for word in groups.get("counted", ())}

    def status(self, cell: Cell) -> tuple[State, bool | None] | None:
        """A status as (confirmed, cancelled, waitlist or none; attended or not where the word says).

        Raises:
            CellError: ``unknown_status``.
        """
        text = parse_text(cell)
        if text is None:
            return None
        try:
            return self.states[_key(text)]
        except KeyError:
            raise CellError(
                "unknown_status",
                f"{shown(text)} is not a known status; allowed are {ALLOWED} and what registration systems call these "
                "in ja, en, es, pt, de and fr; statuses.yaml in the home folder adds words",
            ) from None

    def attended(self, cell: Cell) -> bool | None:
        """Whether somebody came; a moment of check-in counts as yes, an empty cell is unknown.

        Raises:
            CellError: ``not_yes_or_no``.
        """
        if isinstance(cell, bool):
            return cell
        if isinstance(cell, datetime):
            return True
        if isinstance(cell, int | float) and cell in (0, 1):
            return bool(cell)
        text = parse_text(cell)
        if text is None:
            return None
        if (known := self.attendance.get(_key(text))) is not None:
            return known
        try:
            parse_date(text)
        except CellError:
            raise CellError(
                "not_yes_or_no", f"{shown(text)} is neither yes nor no; write yes, no, ○, × or leave it empty"
            ) from None
        return True

    def is_staff(self, ticket: str) -> bool:
        """Whether a kind of ticket is that of people who work at the event."""
        key = ticket_key(ticket)
        return key in self.staff and key not in self.counted

    def is_test(self, text: str) -> bool:
        """Whether a text is exactly a word for trying the form."""
        return text_key(text) in self.test


def _checked(loaded: Any, path: Path) -> dict[str, list[str]]:
    """The groups of one file, all languages together."""
    ok = isinstance(loaded, Mapping) and all(
        isinstance(languages, Mapping) and all(isinstance(words, list) for words in languages.values())
        for languages in loaded.values()
    )
    groups = {*_STATES, *_SETS, "yes", "no"}
    if not ok or (unknown := sorted(str(g) for g in loaded if g not in groups)):
        found = f"; it has {', '.join(unknown)}" if ok else ""
        raise ConfigurationError(
            f"{path}: expected group → language → list of words, with groups {', '.join(sorted(groups))}{found}"
        )
    return {group: [str(word) for words in languages.values() for word in words] for group, languages in loaded.items()}


@lru_cache(maxsize=8)
def _load(paths: tuple[tuple[Path, int], ...]) -> Words:
    words = Words()
    for path, _ in paths:
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ConfigurationError(f"{path} is not YAML: {error}") from error
        words.add(_checked(loaded or {}, path))
    return words


def load_words(home: Path | None = None) -> Words:
    """The words shipped with Turnout and those in ``home``.

    Raises:
        ConfigurationError: a file is not of the form of ``statuses.yaml``.
    """
    paths = [Path(__file__).with_name("statuses.yaml")]
    if home is not None and (home / "statuses.yaml").is_file():
        paths.append(home / "statuses.yaml")
    return _load(tuple((path, path.stat().st_mtime_ns) for path in paths))
