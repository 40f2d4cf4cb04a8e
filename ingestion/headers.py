"""What columns are called: the table of synonyms in ``headers.yaml``, and how a header is compared with it.

A spreadsheet's header row is found, its language guessed, and each of its columns tied to a field with this one table.
``<home>/headers.yaml`` in the same form adds an organiser's own spellings.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from turnout.errors import ConfigurationError

_BRACKETS = str.maketrans("[]{}【】〔〕〈〉「」", "()()()()()()")
#: Zero-width characters, and what people write now one way, now another.
_IGNORED = re.compile(r"[\s_\-‐-―./,:;'’`´\"!?*#№・･\u200b-\u200f\u2060\ufeff]+")
_NOTE = re.compile(r"\(([^()]*)\)$")

#: Cells remembered as headers or not while header rows are looked for.
_KNOWN_LIMIT = 20_000

#: Sections of the YAML that name no layout.
_NOT_LAYOUTS = ("personal", "totals")


@lru_cache(maxsize=65_536)
def header_key(text: str) -> str:
    """The form in which two headers are compared: width, case, spaces and punctuation folded, brackets kept."""
    return _IGNORED.sub("", unicodedata.normalize("NFKC", text).translate(_BRACKETS)).casefold()


def split_note(text: str) -> tuple[str, str | None]:
    """A header without the bracket at its end, and what stood in it: ``Amount spent (USD)`` → Amount spent, USD."""
    folded = unicodedata.normalize("NFKC", text).translate(_BRACKETS).strip()
    if (match := _NOTE.search(folded)) and match.start() > 0:
        return folded[: match.start()].strip(), match.group(1).strip()
    return folded, None


class Synonyms:
    """Fields by header, per layout family.

    Attributes:
        families: family → field → language → spellings, as written in the YAML.
        total_words: folded words that begin a row of sums, in every language known.
    """

    def __init__(self, families: Mapping[str, Mapping[str, Mapping[str, Iterable[str]]]]) -> None:
        self.families: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {}
        self._fields: dict[str, dict[str, str]] = {}
        self._languages: dict[str, set[str]] = {}
        self._known: dict[str, bool] = {}
        self.total_words: frozenset[str] = frozenset()
        self.add(families)

    def add(self, families: Mapping[str, Mapping[str, Mapping[str, Iterable[str]]]]) -> None:
        """Add spellings. The first family entry that claims a spelling keeps it."""
        for family, fields in families.items():
            known = self._fields.setdefault(family, {})
            for field, languages in fields.items():
                for language, spellings in languages.items():
                    listed = self.families.setdefault(family, {}).setdefault(field, {})
                    listed[language] = (*listed.get(language, ()), *spellings)
                    for spelling in spellings:
                        key = header_key(str(spelling))
                        known.setdefault(key, field)
                        if family not in _NOT_LAYOUTS:
                            self._languages.setdefault(key, set()).add(language)
        self._known.clear()
        words = self.families.get("totals", {}).get("words", {})
        self.total_words = frozenset(unicodedata.normalize("NFKC", w).casefold() for ws in words.values() for w in ws)

    def field(self, family: str, header: str) -> str | None:
        """The field of ``family`` that ``header`` names, with its bracketed note or, failing that, without."""
        fields = self._fields.get(family, {})
        if found := fields.get(header_key(header)):
            return found
        base, note = split_note(header)
        return fields.get(header_key(base)) if note is not None else None

    def is_exact(self, family: str, header: str) -> bool:
        """Whether ``header`` is listed as it stands, its bracketed note included."""
        return header_key(header) in self._fields.get(family, {})

    def is_known(self, header: str) -> bool:
        """Whether any layout, or a person's column, is called so."""
        known = self._known.get(header)
        if known is None:
            keys = (header_key(header), header_key(split_note(header)[0]))
            known = any(key in f for name, f in self._fields.items() if name != "totals" for key in keys)
            if len(self._known) > _KNOWN_LIMIT:
                self._known.clear()
            self._known[header] = known
        return known

    def languages(self, header: str) -> frozenset[str]:
        """The languages in which some layout uses this header."""
        found = self._languages.get(header_key(header)) or self._languages.get(header_key(split_note(header)[0]))
        return frozenset(found or ())

    def language(self, headers: Iterable[str]) -> str | None:
        """The language most of ``headers`` are in; ``None`` when nothing speaks for one. Ties go to English."""
        votes: dict[str, float] = {}
        for header in headers:
            if found := self.languages(header):
                for language in found:
                    votes[language] = votes.get(language, 0.0) + 1.0 / len(found)
            elif re.search(r"[぀-ヿ]", header):
                votes["ja"] = votes.get("ja", 0.0) + 0.5
        return max(votes, key=lambda name: (votes[name], name == "en", name)) if votes else None

    def personal(self, header: str) -> str | None:
        """``person``, ``contact``, ``email`` or ``employer`` when the column is about a person, else ``None``."""
        return self.field("personal", header)

    def spelling(self, family: str, field: str, language: str | None) -> str:
        """How a message names a field: its first spelling in ``language``, else in English, else the field's id."""
        spellings = self.families.get(family, {}).get(field, {})
        for candidate in (language, "en", *spellings):
            if candidate and spellings.get(candidate):
                return str(spellings[candidate][0])
        return field


def _checked(loaded: Any, path: Path) -> Mapping[str, Mapping[str, Mapping[str, Iterable[str]]]]:
    """Refuse a YAML of another shape with a message, so that a user's own file cannot fail obscurely."""
    ok = isinstance(loaded, Mapping) and all(
        isinstance(fields, Mapping)
        and all(
            isinstance(languages, Mapping) and all(isinstance(words, list) for words in languages.values())
            for languages in fields.values()
        )
        for fields in loaded.values()
    )
    if not ok:
        raise ConfigurationError(f"{path}: expected layout → field → language → list of headers, as in headers.yaml")
    return loaded  # type: ignore[no-any-return]


@lru_cache(maxsize=8)
def _load(paths: tuple[tuple[Path, int], ...]) -> Synonyms:
    synonyms = Synonyms({})
    for path, _ in paths:
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ConfigurationError(f"{path} is not YAML: {error}") from error
        synonyms.add(_checked(loaded or {}, path))
    return synonyms


def load_synonyms(home: Path | None = None) -> Synonyms:
    """The synonyms shipped with Turnout (every ``headers*.yaml`` of this package) and those in ``home``.

    Raises:
        ConfigurationError: a file is not of the form of ``headers.yaml``.
    """
    own = sorted(Path(__file__).parent.glob("headers*.yaml"))
    extra = [home / "headers.yaml"] if home is not None and (home / "headers.yaml").is_file() else []
    return _load(tuple((path, path.stat().st_mtime_ns) for path in (*own, *extra)))
