"""The closed vocabularies of an event: categories, formats, industries, job titles, company sizes.

Each is a :class:`Vocabulary`, read from ``taxonomy.yaml`` beside this module. People write these words in two
languages and in many ways; a vocabulary maps every spelling it knows to one id. Looking up ignores width (NFKC), case,
white space and punctuation, so ``ＡＩ／データ``, ``AI・データ`` and ``ai データ`` are one word.

    >>> categories.parse("ＡＩ・データ")
    'ai_data'
    >>> industries.parse_many("製造・メーカー・金融、宇宙")
    (['manufacturing', 'finance'], ['宇宙'])
    >>> company_sizes.parse("1,000〜4,999名")
    '1000-4999'

Cells that address everybody (``全業種``, ``指定なし``, ``-``) name no id: :meth:`Vocabulary.parse_many` gives two empty
lists for them, which the rest of Turnout reads as "no restriction".
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

import yaml

from turnout.errors import ConfigurationError

Language = Literal["ja", "en"]

#: What separates values in one cell, after NFKC (which turns ，／；･ into ,/;・).
_SEPARATORS = re.compile(r"[・、,/;|\n\r\t]+")

#: Anything that is not a letter or a digit. The prolonged sound mark ー is a letter and stays.
_NOT_WORD = re.compile(r"[\W_]+")

_BRACKETED = re.compile(r"^(?P<outer>[^(\[【「]+)[(\[【「](?P<inner>[^)\]】」]*)[)\]】」]?$")

#: Endings that add nothing: 金融業界 is 金融, マーケティング部門 is マーケティング.
_ENDINGS = (
    "業界", "業", "部門", "部署", "部", "課", "担当者", "担当", "関係者", "関係", "関連", "系", "職種", "職", "向け",
    "全般", "企業", "会社", "セミナー", "イベント", "開催", "形式", "など", "等", "の方",
    "industry", "sector", "team", "department", "event", "seminar", "conference",
)  # fmt: skip

#: A word that turns the meaning round; such text is never guessed at.
_DENIALS = re.compile(r"非|以外|除く|ない|なし|無し|不可|\b(?:not?|non|except|without)\b")

_LONGEST_QUOTE = 60


def _fold(text: str) -> str:
    """NFKC, case folded, trimmed: punctuation still there."""
    return unicodedata.normalize("NFKC", text).strip().casefold()


def _quoted(text: str) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= _LONGEST_QUOTE else flat[: _LONGEST_QUOTE - 1] + "…")


class Vocabulary:
    """A closed list of ids with labels in Japanese and English, and every spelling that means one of them.

    Attributes:
        name: what one value is, in the singular, for messages ("category").
        ids: every id in the order in which it should be offered.
    """

    def __init__(
        self,
        name: str,
        entries: Mapping[str, Mapping[str, Any]],
        *,
        groups: Mapping[str, Sequence[str]] | None = None,
        everybody: Iterable[str] = (),
    ) -> None:
        """
        Args:
            entries: id → ``{"ja": label, "en": label, "spellings": [...]}``.
            groups: words that stand for several ids; only :meth:`parse_many` expands them.
            everybody: words that name nobody in particular.

        Raises:
            ConfigurationError: one spelling is claimed by two ids, a group names an id that does not exist.
        """
        self.name = name
        self.ids: tuple[str, ...] = tuple(entries)
        self._labels: dict[str, dict[str, str]] = {i: {"ja": e["ja"], "en": e["en"]} for i, e in entries.items()}
        self._spellings: dict[str, tuple[str, ...]] = {
            i: (str(e["ja"]), str(e["en"]), i, *map(str, e.get("spellings") or ())) for i, e in entries.items()
        }
        self._by_key: dict[str, str] = {}
        for identifier, spellings in self._spellings.items():
            for spelling in spellings:
                owner = self._by_key.setdefault(self._key(spelling), identifier)
                if owner != identifier:
                    raise ConfigurationError(
                        f"taxonomy: the {name} spelling {spelling!r} belongs to both {owner!r} and {identifier!r}"
                    )
        self._groups: dict[str, tuple[str, ...]] = {}
        for word, members in (groups or {}).items():
            missing = [m for m in members if m not in entries]
            if missing or self._key(word) in self._by_key:
                raise ConfigurationError(f"taxonomy: the {name} group {word!r} names {missing or 'an id of its own'}")
            self._groups[self._key(word)] = tuple(members)
        self._everybody = frozenset(self._key(w) for w in everybody) - self._by_key.keys()
        pieces = [len(_SEPARATORS.split(_fold(s))) for s in [*self._all_spellings(), *(groups or {})]]
        self._most_pieces = max(pieces, default=1)
        self._cached_find = lru_cache(maxsize=4096)(self._find)

    def __repr__(self) -> str:
        return f"Vocabulary({self.name!r}, {len(self.ids)} ids)"

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._labels

    def __len__(self) -> int:
        return len(self.ids)

    def label(self, identifier: str, language: Language = "en") -> str:
        """The word to show for an id.

        Raises:
            KeyError: no such id, or no such language.
        """
        return self._labels[identifier][language]

    def spellings(self, identifier: str) -> tuple[str, ...]:
        """Every spelling of an id, its two labels first."""
        return self._spellings[identifier]

    def parse(self, text: object) -> str:
        """The id that ``text`` means.

        Raises:
            ValueError: unknown; the message names the value and the closest or all allowed values.
        """
        if not isinstance(text, str):
            raise ValueError(f"{self.name} must be text, not {type(text).__name__}; {self._allowed()}")  # noqa: TRY004
        found = self.find(text)
        if found is not None:
            return found
        several = self._many(text)
        if several:
            raise ValueError(f"{_quoted(text)} covers more than one {self.name}; name them: {', '.join(several)}")
        if self.is_everybody(text):
            raise ValueError(f"{self.name} is empty or says nothing ({_quoted(text)}); {self._allowed()}")
        close = self.suggest(text)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(f"unknown {self.name} {_quoted(text)}; {hint}{self._allowed()}")

    def find(self, text: str) -> str | None:
        """:meth:`parse` that answers ``None`` for what it does not know."""
        return self._cached_find(text) if len(text) <= 500 else None

    def exact(self, text: str) -> str | None:
        """The id that ``text`` spells word for word, nothing interpreted; ``None`` where it spells none."""
        return self._by_key.get(self._key(text))

    def is_everybody(self, cell: str) -> bool:
        """Whether a cell is empty, a dash, or says "all" or "not specified"."""
        return not _NOT_WORD.sub("", _fold(cell)).strip("ー") or self._key(cell) in self._everybody

    def parse_many(self, cell: str | None) -> tuple[list[str], list[str]]:
        """The ids of a cell that may hold several values, and the pieces that mean nothing.

        Separators are ``・ 、 , / ; |`` and line breaks, in either width. A piece of text that is a known word is never
        split, even if it holds a separator: ``製造・メーカー・金融`` is two industries. The longest known word wins.

        Returns:
            (ids in order of appearance, each once; unknown pieces as written, each once).
        """
        if cell is None or self.is_everybody(cell):
            return [], []
        text = unicodedata.normalize("NFKC", cell)
        spans = self._pieces(text)
        ids: list[str] = []
        unknown: list[str] = []
        position = 0
        while position < len(spans):
            start = spans[position][0]
            taken = 1
            found: Sequence[str] | None = None
            for width in range(min(self._most_pieces, len(spans) - position), 0, -1):
                piece = text[start : spans[position + width - 1][1]]
                # Joined pieces must be known word for word; only a single piece is interpreted.
                found = self._many(piece) if width == 1 else self._exactly(piece)
                if found is not None:
                    taken = width
                    break
            if found is None:
                unknown.append(text[start : spans[position][1]].strip())
            else:
                ids.extend(found)
            position += taken
        return list(dict.fromkeys(ids)), list(dict.fromkeys(u for u in unknown if u))

    def suggest(self, text: str, limit: int = 3) -> list[str]:
        """Labels that look like ``text``, closest first; empty where nothing is near."""
        key = self._key(text)[:200]
        if not key:
            return []
        near = difflib.get_close_matches(key, self._by_key, n=limit * 4, cutoff=0.6)
        inside = [
            k for k in self._by_key if len(k) >= 2 and not k.isascii() and (k in key or (len(key) > 1 and key in k))
        ]
        ids = dict.fromkeys(self._by_key[k] for k in [*near, *sorted(inside, key=len, reverse=True)])
        return [self._both(i) for i in list(ids)[:limit]]

    # --- inside ------------------------------------------------------------------------------------------------

    def _all_spellings(self) -> Iterable[str]:
        for spellings in self._spellings.values():
            yield from spellings

    def _key(self, text: str) -> str:
        """What two spellings of one word have in common."""
        return _NOT_WORD.sub("", _fold(text))

    def _both(self, identifier: str) -> str:
        ja, en = self._labels[identifier]["ja"], self._labels[identifier]["en"]
        return f"{ja} ({en})" if ja != en else ja

    def _allowed(self) -> str:
        return f"allowed: {', '.join(self.ids)}, or their Japanese or English names"

    def _pieces(self, text: str) -> list[tuple[int, int]]:
        """(start, end) of each stretch between separators that holds something."""
        spans: list[tuple[int, int]] = []
        start = 0
        for match in _SEPARATORS.finditer(text):
            spans.append((start, match.start()))
            start = match.end()
        spans.append((start, len(text)))
        return [(a, b) for a, b in spans if text[a:b].strip()]

    def _exactly(self, piece: str) -> Sequence[str] | None:
        key = self._key(piece)
        if key in self._by_key:
            return (self._by_key[key],)
        return self._groups.get(key)

    def _many(self, piece: str) -> Sequence[str] | None:
        """The ids of one piece; empty for "everybody", ``None`` for the unknown."""
        if self.is_everybody(piece):
            return ()
        exact = self._exactly(piece)
        if exact is not None:
            return exact
        found = self.find(piece)
        return None if found is None else (found,)

    def _find(self, text: str) -> str | None:
        folded = _fold(text)
        exact = self._by_key.get(self._key(folded))
        if exact is not None:
            return exact
        if self.is_everybody(folded):
            return None
        bracketed = _BRACKETED.match(folded)
        if bracketed:
            outer, inner = (self._find_plain(bracketed[g]) for g in ("outer", "inner"))
            if outer is not None and not (outer == "other" and inner is not None):
                return outer
            if inner is not None:
                return inner
        return self._find_plain(folded)

    def _find_plain(self, folded: str) -> str | None:
        """By key, then without an ending that adds nothing."""
        key = self._key(folded)
        seen = self._by_key.get(key)
        while seen is None:
            ending = next((e for e in _ENDINGS if key.endswith(e) and len(key) > len(e)), None)
            if ending is None:
                return None
            key = key.removesuffix(ending)
            seen = self._by_key.get(key)
        return seen


class _Formats(Vocabulary):
    """Formats are also found inside free text: ``Zoomによる配信`` is online, ``会場+Web配信`` hybrid."""

    def _find_plain(self, folded: str) -> str | None:
        found = super()._find_plain(folded)
        if found is not None or _DENIALS.search(folded):
            return found
        key = self._key(folded)
        # English words are looked for as words (``web`` is not in ``cobweb``), Japanese has no spaces to go by.
        words = set(re.findall(r"[a-z]+", folded))
        hits = {
            identifier
            for known, identifier in self._by_key.items()
            if (known in words if known.isascii() else len(known) >= 2 and known in key)
        }
        if "hybrid" in hits or {"offline", "online"} <= hits:
            return "hybrid"
        return hits.pop() if len(hits) == 1 else None


_PEOPLE = r"(?:名|人|employees|people|staff|persons)"
_TO = r"(?:-|to|から)"
_SIZE_PREFIX = re.compile(r"^(?:従業員数?|社員数?|企業規模|規模)[:は]?")
_SIZE_RANGE = re.compile(rf"^(\d+){_PEOPLE}?{_TO}(\d+){_PEOPLE}?(?:程度|規模|まで|の企業|企業|以下)*$")
_SIZE_OVER = re.compile(
    rf"^(?:(\d+){_PEOPLE}?(?:以上|超|から|-|\+|ormore|andmore|andover|andabove|andup)(?:の企業|企業)?|"
    rf"(?:over|morethan|atleast|>=?)(\d+){_PEOPLE}?){_PEOPLE}?$"
)
_SIZE_UNDER = re.compile(
    rf"^(?:-?(\d+){_PEOPLE}?(以下|未満|まで|orfewer|orless)(?:の企業|企業)?|-(\d+){_PEOPLE}?|"
    rf"(upto|under|lessthan|fewerthan|<=?)(\d+){_PEOPLE}?)$"
)
_SIZE_ONE = re.compile(rf"^(?:約)?(\d+){_PEOPLE}?(?:程度|規模)?$")
_THOUSANDS_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_MYRIADS = re.compile(r"(\d+)(万|千)")
_DASHES = re.compile(r"\s*[~〜～‐‑‒–—―−ー]\s*")


class _CompanySizes(Vocabulary):
    """Sizes are numbers: ``1,000~4,999名``, ``5000人以上``, ``300名未満`` and ``120`` are understood as such.

    A range that covers several bands yields them all in :meth:`parse_many`; one that cuts through a band yields the
    band too, since some of its companies are meant.
    """

    def __init__(self, name: str, entries: Mapping[str, Mapping[str, Any]], **more: Any) -> None:
        self._bands: dict[str, tuple[int, float]] = {}
        for identifier in entries:
            low, _, high = identifier.rstrip("+").partition("-")
            self._bands[identifier] = (int(low), int(high) if high else float("inf"))
        super().__init__(name, entries, **more)

    def _key(self, text: str) -> str:
        """Keeps ``-``, ``+`` and comparison signs: 1-9 is not 19."""
        folded = _MYRIADS.sub(
            lambda m: str(int(m[1]) * (10_000 if m[2] == "万" else 1_000)),
            _THOUSANDS_COMMA.sub("", _DASHES.sub("-", _fold(text))),
        )
        return re.sub(r"[^\w<>=+-]+|_", "", folded)

    def _pieces(self, text: str) -> list[tuple[int, int]]:
        # The comma of 1,000 separates nothing.
        return super()._pieces(_THOUSANDS_COMMA.sub("\x00", text))

    def _limits(self, text: str) -> tuple[int, float] | None:
        key = _SIZE_PREFIX.sub("", self._key(text))
        if len(key) > 60:
            return None
        if match := _SIZE_RANGE.match(key):
            low, high = int(match[1]), int(match[2])
            return (low, high) if low <= high else None
        if match := _SIZE_OVER.match(key):
            return int(match[1] or match[2]), float("inf")
        if match := _SIZE_UNDER.match(key):
            number = int(match[1] or match[3] or match[5])
            strict = match[2] == "未満" or match[4] in {"under", "lessthan", "fewerthan", "<"}
            return (1, number - strict) if number - strict >= 1 else None
        if match := _SIZE_ONE.match(key):
            return (int(match[1]),) * 2 if int(match[1]) > 0 else None
        return None

    def _covered(self, text: str) -> list[str]:
        limits = self._limits(text)
        if limits is None:
            return []
        return [i for i, (low, high) in self._bands.items() if low <= limits[1] and limits[0] <= high]

    def _find_plain(self, folded: str) -> str | None:
        found = super()._find_plain(folded)
        if found is not None:
            return found
        covered = self._covered(folded)
        return covered[0] if len(covered) == 1 else None

    def _many(self, piece: str) -> Sequence[str] | None:
        found = super()._many(piece)
        return found if found is not None else self._covered(piece) or None


def _load() -> tuple[Vocabulary, Vocabulary, Vocabulary, Vocabulary, Vocabulary]:
    text = resources.files("turnout").joinpath("taxonomy.yaml").read_text(encoding="utf-8")
    data: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    groups, everybody = data["groups"], data["everybody"]
    return (
        Vocabulary("category", data["categories"], everybody=everybody),
        _Formats("format", data["formats"], everybody=everybody),
        Vocabulary("industry", data["industries"], everybody=everybody),
        Vocabulary("job title", data["job_titles"], everybody=everybody),
        _CompanySizes("company size", data["company_sizes"], groups=groups["company_sizes"], everybody=everybody),
    )


categories, formats, industries, job_titles, company_sizes = _load()
