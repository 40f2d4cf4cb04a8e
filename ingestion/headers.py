"""What columns are called: the table of synonyms in ``headers.yaml``, and how a header is compared with it.

A spreadsheet's header row is found, its language guessed, and each of its columns tied to a field with this one table.
``<home>/headers.yaml`` in the same form adds an organiser's own spellings, and a mapping file
(:mod:`ingestion.mapped`) says of single files what their headers mean.
"""

from __future__ import annotations

import copy
import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

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

#: Languages a header may be listed under.
LANGUAGES = (
    "ja", "en", "es", "pt", "de", "fr", "it", "nl", "zh", "ko", "ru", "pl", "sv", "da", "nb", "fi", "tr", "id", "th",
    "vi", "ar", "cs", "hu", "uk", "el", "he",
)  # fmt: skip

#: Where a spelling comes from: this package, the user's ``headers.yaml``, a mapping file.
Origin = Literal["shipped", "home", "mapping"]


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
        self._origins: dict[tuple[str, str], Origin] = {}
        self._languages: dict[str, set[str]] = {}
        self._known: dict[str, bool] = {}
        self.total_words: frozenset[str] = frozenset()
        self.add(families)

    def add(
        self, families: Mapping[str, Mapping[str, Mapping[str, Iterable[str]]]], origin: Origin = "shipped"
    ) -> None:
        """Add spellings. The first entry of a family that claims one keeps it, but the user's own win over shipped."""
        for family, fields in families.items():
            known = self._fields.setdefault(family, {})
            for field, languages in fields.items():
                for language, spellings in languages.items():
                    listed = self.families.setdefault(family, {}).setdefault(field, {})
                    listed[language] = (*listed.get(language, ()), *spellings)
                    for spelling in spellings:
                        key = header_key(str(spelling))
                        if origin == "shipped":
                            known.setdefault(key, field)
                        else:
                            known[key] = field
                        if known[key] == field:
                            self._origins.setdefault((family, key), origin)
                        if family not in _NOT_LAYOUTS:
                            self._languages.setdefault(key, set()).add(language)
        self._known.clear()
        words = self.families.get("totals", {}).get("words", {})
        self.total_words = frozenset(unicodedata.normalize("NFKC", w).casefold() for ws in words.values() for w in ws)

    def field(self, family: str, header: str) -> str | None:
        """The field of ``family`` that ``header`` names, with its bracketed note or, failing that, without."""
        fields = self._fields.get(family, {})
        if (found := fields.get(header_key(header))) is not None:
            return found or None  # "" is a header of which a mapping says that it means nothing
        base, note = split_note(header)
        return (fields.get(header_key(base)) or None) if note is not None else None

    def origin(self, family: str, header: str) -> Origin | None:
        """Where the spelling comes from that ties ``header`` to its field; ``None`` where nothing does."""
        exact = self._origins.get((family, header_key(header)))
        return exact or self._origins.get((family, header_key(split_note(header)[0])))

    def mapped(self, family: str, columns: Mapping[str, str | None]) -> Synonyms:
        """These synonyms with what a mapping file says of ``family``'s headers; ``None`` is a column not to be used.

        A field the mapping names is found under the mapping's header only.
        """
        made = copy.copy(self)
        claimed = {field for field in columns.values() if field is not None}
        own = {header_key(header): field or "" for header, field in columns.items()}
        kept = {key: field for key, field in self._fields.get(family, {}).items() if field not in claimed}
        made._fields = {**self._fields, family: {**kept, **own}}
        made._origins = {**self._origins, **{(family, key): "mapping" for key in own}}
        made._known = {}
        return made

    def with_total_words(self, words: Iterable[str]) -> Synonyms:
        """These synonyms with more words that begin a row of sums."""
        made = copy.copy(self)
        made.total_words = self.total_words | {unicodedata.normalize("NFKC", w).casefold() for w in words}
        return made

    def with_headers(self, headers: Iterable[str]) -> Synonyms:
        """These synonyms, with more texts that are headers, whatever they mean: by them a header row is found."""
        made = copy.copy(self)
        extra = {header_key(header): "known" for header in headers}
        made._fields = {**self._fields, "mapping files": {**self._fields.get("mapping files", {}), **extra}}
        made._known = {}
        return made

    def close_fields(self, family: str, header: str, limit: int = 3) -> list[str]:
        """The fields of ``family`` whose spellings resemble ``header`` most, best first; none when nothing does."""
        key = header_key(split_note(header)[0])
        near = difflib.get_close_matches(key, [k for k, f in self._fields.get(family, {}).items() if f], 12, 0.7)
        inside = [k for k in self._fields.get(family, {}) if len(k) >= 2 and len(key) >= 2 and (k in key or key in k)]
        inside.sort(key=lambda k: -min(len(k), len(key)) / max(len(k), len(key)))
        found = dict.fromkeys(self._fields[family][k] for k in (*near, *inside) if self._fields[family][k])
        return list(found)[:limit]

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


def line_of(path: Path, keys: Iterable[str | int], document: int = 0) -> int | None:
    """The line on which an entry of a YAML file stands, counted from 1; the nearest one above where it is absent.

    Args:
        keys: the way to the entry, from the top; positions in lists count from 0.
        document: which of the documents of the file, from 0.
    """
    try:
        documents = list(yaml.compose_all(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader))
        node = documents[document]
    except (yaml.YAMLError, OSError, IndexError, ValueError):
        return None
    line: int = node.start_mark.line + 1 if node is not None else 1
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(key)), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _checked(loaded: Any, path: Path, shipped: Synonyms | None) -> Mapping[str, Mapping[str, Mapping[str, list[str]]]]:
    """Refuse a YAML of another shape with a message, so that a user's own file cannot fail obscurely.

    Args:
        shipped: what may be named; ``None`` for the files that define it.
    """

    def refuse(message: str, *keys: str | int) -> None:
        line = line_of(path, keys)
        raise ConfigurationError(f"{path}{f', line {line}' if line else ''}: {message}")

    if not isinstance(loaded, Mapping):
        refuse("expected kind of report → field → language → list of headers, as in headers.yaml")
    checked: dict[str, dict[str, dict[str, list[str]]]] = {}
    for family, fields in loaded.items():
        if shipped is not None and family not in shipped.families:
            allowed = ", ".join(sorted(shipped.families))
            refuse(f"there is no kind of report {family!r}; allowed are {allowed}", str(family))
        if not isinstance(fields, Mapping):
            refuse(f"{family} must hold fields, each with headers per language: {{ja: [header, …]}}", str(family))
        for field, languages in fields.items():
            if shipped is not None and field not in shipped.families[family]:
                allowed = ", ".join(sorted(shipped.families[family]))
                refuse(f"{family} has no field {field!r}; allowed are {allowed}", str(family), str(field))
            if isinstance(languages, list):  # without a language: of any
                languages = {"en": languages}  # noqa: PLW2901
            if not isinstance(languages, Mapping):
                refuse(
                    f"{family}.{field} must be a list of headers, or languages with lists: {{ja: [header, …]}}",
                    str(family), str(field),
                )  # fmt: skip
            for language, words in languages.items():
                where = (str(family), str(field), str(language))
                if language not in LANGUAGES:
                    refuse(f"{language!r} is no language; allowed are {', '.join(LANGUAGES)}", *where)
                if isinstance(words, str | int | float):
                    words = [words]  # noqa: PLW2901
                if not isinstance(words, list) or not all(isinstance(w, str | int | float) for w in words):
                    refuse(f"{'.'.join(where)} must be a list of headers: [header, …]", *where)
                headers = [str(w) for w in words]
                checked.setdefault(str(family), {}).setdefault(str(field), {})[str(language)] = headers
    return checked


@lru_cache(maxsize=1)
def _shipped(own: tuple[tuple[Path, int], ...]) -> Synonyms:
    synonyms = Synonyms({})
    for path, _ in own:
        synonyms.add(_checked(_parsed(path), path, None))
    return synonyms


@lru_cache(maxsize=8)
def _load(own: tuple[tuple[Path, int], ...], extra: tuple[Path, int] | None) -> Synonyms:
    shipped = _shipped(own)
    if extra is None:
        return shipped
    checked = _checked(_parsed(extra[0]), extra[0], shipped)
    synonyms = copy.deepcopy(shipped)
    synonyms.add(checked, "home")
    return synonyms


def _parsed(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8-sig")) or {}
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not YAML: {error}") from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def load_synonyms(home: Path | None = None) -> Synonyms:
    """The synonyms shipped with Turnout (every ``headers*.yaml`` of this package) and those in ``home``.

    Raises:
        ConfigurationError: a file is not of the form of ``headers.yaml``; the message names file, line and what is
            allowed.
    """
    own = sorted(Path(__file__).parent.glob("headers*.yaml"))
    extra = home / "headers.yaml" if home is not None and (home / "headers.yaml").is_file() else None
    return _load(
        tuple((path, path.stat().st_mtime_ns) for path in own),
        None if extra is None else (extra, extra.stat().st_mtime_ns),
    )
