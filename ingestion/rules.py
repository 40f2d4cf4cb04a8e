"""Rules a user has made to tie campaigns, mail categories and registration lists to events and tactics.

They live in table ``mapping_rule``, are the only record of what a user has mapped, and come before everything that is
found by itself; a removed rule therefore gives back what stood before. Event and tactic are decided apart: for each the
first rule that speaks of it.

Order
    Rules of kind ``id`` first; then by ``position``, the lowest first; then ``exact`` before ``contains`` before
    ``glob`` before ``regex``, rules of one source or account before those of all, and longer patterns before shorter
    ones.

Patterns
    ``id``        the platform's id of a campaign, to the letter.
    ``exact``     the whole name.
    ``contains``  a part of the name.
    ``glob``      the whole name, with ``*`` for anything and ``?`` for one character; brackets mean themselves, for
                  names are full of them.
    ``regex``     found anywhere in the name, in the syntax of RE2: no look-around and no back-references, and in return
                  no pattern can make a search run away. At most :data:`LONGEST_PATTERN` characters.

Width (``ＡＩ`` and AI), case and runs of spaces make no difference. Rules are asked of a campaign's newest name, then
of the other ones it had: renaming it does not untie it.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy import Connection

from turnout.errors import InputError, Problem
from turnout.identity import key_of, normalise_name
from turnout.warehouse import tables as wh

Kind = Literal["id", "exact", "contains", "glob", "regex"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LONGEST_PATTERN = 200
#: The tactic of a rule that says "no tactic, on purpose".
NO_TACTIC = ""

_SPACES = re.compile(r"\s+")


@dataclass(frozen=True)
class Rule:
    """One row of table ``mapping_rule``; ``source`` and ``account`` are empty where the rule holds for all."""

    rule_id: str
    source: str
    account: str
    kind: Kind
    pattern: str
    position: int = 0
    event_id: str | None = None
    event_name: str | None = None
    event_date: date | None = None
    tactic_id: str | None = None
    ignored: bool = False
    note: str | None = None
    created_at: datetime | None = None

    @property
    def order(self) -> tuple[bool, int, int, int, int, str]:
        """Where the rule stands among others."""
        narrow = (self.source != "") + (self.account != "")
        return self.kind != "id", self.position, KINDS.index(self.kind), -narrow, -len(self.pattern), self.rule_id

    @property
    def decides_event(self) -> bool:
        return self.ignored or self.event_id is not None


@dataclass(frozen=True, slots=True)
class Subject:
    """What a rule may be about.

    Attributes:
        key: a campaign's id; ``None`` of what has only a name.
        names: the newest first.
    """

    source: str
    account: str
    key: str | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """Which rule decides the event of a subject, and which its tactic."""

    event: Rule | None = None
    tactic: Rule | None = None


NOTHING = Decision()


def rule_key(source: str, account: str, kind: str, pattern: str) -> str:
    """The key of a rule: the same pattern for the same source and account is one rule."""
    return key_of(source, account, kind, pattern, prefix="map_", length=10)


def check_pattern(kind: str, pattern: str, *, narrowed: bool = True) -> None:
    """Refuse what cannot be a rule's pattern.

    Args:
        narrowed: whether the rule names a source or an account; one that does not may not match every name.

    Raises:
        InputError: ``unknown_kind``, ``empty_pattern``, ``pattern_too_long``, ``bad_regex`` or ``matches_everything``.
    """
    if kind not in KINDS:
        raise _refused("unknown_kind", f"{kind!r} is no kind of rule; allowed are {', '.join(KINDS)}", kind)
    if not pattern.strip():
        raise _refused("empty_pattern", "the pattern is empty; write an id, a name or a part of one", pattern)
    if len(pattern) > LONGEST_PATTERN and kind not in ("id", "exact"):
        raise _refused(
            "pattern_too_long",
            f"the pattern has {len(pattern)} characters; allowed are {LONGEST_PATTERN}",
            pattern[:80],
        )
    if kind == "regex":
        try:
            pc.match_substring_regex(pa.array([""]), _plain(pattern), ignore_case=True)
        except pa.ArrowInvalid as error:
            said = str(error).removeprefix("Invalid regular expression: ").strip()
            raise _refused(
                "bad_regex",
                f"{pattern!r} is no regular expression: {said}. The syntax is RE2's, without look-around and "
                "back-references",
                pattern,
            ) from error
    if not narrowed and kind in ("glob", "regex") and _matches(kind, pattern, pa.array(["", "⁂"])).to_pylist()[1]:
        raise _refused(
            "matches_everything", f"{pattern!r} matches every name; narrow it, or name a source or an account", pattern
        )


def _refused(code: str, message: str, value: str) -> InputError:
    return InputError([Problem(code, message, column="pattern" if code != "unknown_kind" else "kind", value=value)])


def _plain(text: str) -> str:
    """Width and spaces folded, case kept."""
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text)).strip()


def _glob(pattern: str) -> str:
    """A glob as a regular expression of the whole text."""
    words = {"*": ".*", "?": "."}
    return "^(?s:" + "".join(words.get(c) or (re.escape(c) if c.isascii() else c) for c in _plain(pattern)) + ")$"


def _matches(kind: str, pattern: str, texts: pa.Array) -> pa.Array:
    """Which of the texts (width and spaces folded) the pattern of a glob or regex matches."""
    return pc.match_substring_regex(texts, _glob(pattern) if kind == "glob" else _plain(pattern), ignore_case=True)


class RuleBook:
    """The rules of an organisation, to be asked of many subjects at once."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules: tuple[Rule, ...] = tuple(sorted(rules, key=lambda rule: rule.order))

    def __bool__(self) -> bool:
        return bool(self.rules)

    def decide(self, subjects: Sequence[Subject]) -> list[Decision]:
        """What the rules say of each subject. A rule that is broken (edited by hand) says nothing."""
        if not self.rules or not subjects:
            return [NOTHING] * len(subjects)
        events: list[Rule | None] = [None] * len(subjects)
        tactics: list[Rule | None] = [None] * len(subjects)
        keys: dict[str, list[int]] = {}
        newest: dict[str, list[int]] = {}
        earlier: dict[str, list[int]] = {}
        for at, subject in enumerate(subjects):
            if subject.key is not None:
                keys.setdefault(subject.key, []).append(at)
            for number, name in enumerate(subject.names):
                (earlier if number else newest).setdefault(_plain(name), []).append(at)
        ids = tuple(rule for rule in self.rules if rule.kind == "id")
        named = self.rules[len(ids) :]
        found = itertools.chain(
            ((rule, keys.get(rule.pattern, ())) for rule in ids),
            self._found(named, newest),
            self._found(named, earlier),
        )
        for rule, candidates in found:
            for at in candidates:
                if rule.source not in ("", subjects[at].source) or rule.account not in ("", subjects[at].account):
                    continue
                if events[at] is None and rule.decides_event:
                    events[at] = rule
                if tactics[at] is None and rule.tactic_id is not None:
                    tactics[at] = rule
        return [
            NOTHING if event is None and tactic is None else Decision(event, tactic)
            for event, tactic in zip(events, tactics, strict=True)
        ]

    def _found(self, rules: Sequence[Rule], texts: dict[str, list[int]]) -> Iterator[tuple[Rule, Iterable[int]]]:
        """Each rule in its order, with the positions of the subjects whose texts it matches."""
        if not rules or not texts:
            return
        plain = list(texts)
        folded = [text.casefold() for text in plain]
        by_name: dict[str, list[int]] = {}
        for number, text in enumerate(folded):
            by_name.setdefault(text, []).append(number)
        arrays = pa.array(plain, pa.string()), pa.array(folded, pa.string())
        for rule in rules:
            yield rule, [at for number in self._texts(rule, by_name, arrays) for at in texts[plain[number]]]

    @staticmethod
    def _texts(rule: Rule, by_name: dict[str, list[int]], arrays: tuple[pa.Array, pa.Array]) -> Iterable[int]:
        """Numbers of the texts a rule matches."""
        if rule.kind == "exact":
            return by_name.get(normalise_name(rule.pattern), ())
        if rule.kind == "contains":
            mask = pc.match_substring(arrays[1], normalise_name(rule.pattern))
        else:
            try:
                mask = _matches(rule.kind, rule.pattern, arrays[0])
            except pa.ArrowInvalid:
                return ()
        found: list[int] = pc.indices_nonzero(mask).to_pylist()
        return found


def load_rules(
    connection: Connection, organisation: str, find_again: Callable[[Rule], str | None] | None = None
) -> tuple[Rule, ...]:
    """The rules of an organisation in the order in which they are asked.

    Args:
        find_again: given a rule with an event, the id of the event it means now, or ``None`` where it is gone: the
            rule then leaves the event to the others.
    """
    t = wh.mapping_rule
    names = [c for c in t.c if c.name != "organisation"]
    rows = connection.execute(sa.select(*names).where(t.c.organisation == organisation)).mappings()
    rules = [Rule(**row) for row in rows]
    if find_again is not None:
        rules = [rule if rule.event_id is None else replace(rule, event_id=find_again(rule)) for rule in rules]
    return tuple(sorted(rules, key=lambda rule: rule.order))
