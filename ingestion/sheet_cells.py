"""How the cells of the event team's own sheets are read, by the kind of their column.

============== ===================================================================================================
day            any date of :func:`ingestion.values.parse_date`; of ``6/15〜16`` or ``14:00-17:00`` the start counts
count          a whole number of 0 or more; ``quantity`` may have a fraction
money, price   any amount; ``予算(千円)`` or ``Cost (USD)`` in the header gives unit and currency; 無料 costs 0
percent        ``1.8%`` or 0.018; a number above 1 without ``%`` is refused, unless the header has the ``%``
hours          ``6``, ``2.5h``, ``1時間30分``, ``90分``, ``3人日`` (8 hours a day)
category, …    any spelling of :mod:`turnout.taxonomy`; an unknown one is warned about, the row is kept
format         likewise, but an unknown one is refused
tactic         any name the catalogue knows; an unknown one is refused with suggestions
level          high, medium or low in ja or en, ★ or A to C; other words stay as written
scope          categories, formats, tactics and audiences by id
============== ===================================================================================================

Every reader returns ``None`` for *unknown*, may wrap its value in :class:`Noted`, and raises only
:class:`ingestion.values.CellError`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from ingestion.layouts import Context
from ingestion.personal import scrub
from ingestion.values import (
    Amount,
    Cell,
    CellError,
    DateOrder,
    DecimalMark,
    Formula,
    find_moments,
    fold,
    has_time,
    is_unknown,
    parse_count,
    parse_date,
    parse_money,
    parse_number,
    parse_percent,
    parse_text,
    parse_timestamp,
    shown,
)
from turnout import taxonomy
from turnout.tactics import load_catalogue
from turnout.taxonomy import Vocabulary

#: A person-day in hours.
HOURS_PER_DAY = 8
#: People, seats, sends: beyond this a figure is a typing error, and would not fit the warehouse's INTEGER.
MOST_PEOPLE = 1_000_000_000
#: A name longer than this is a paragraph that slipped into the wrong column.
LONGEST_NAME = 300

VOCABULARIES: Mapping[str, Vocabulary] = {
    "industries": taxonomy.industries,
    "job_titles": taxonomy.job_titles,
    "company_sizes": taxonomy.company_sizes,
}


# --- what a header says beside its name -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unit:
    """What the header adds to a column's numbers.

    Attributes:
        scale: factor of numbers that state no unit themselves (千円 → 1,000).
        currency: ISO code the header names.
        with_tax: whether it says that amounts include tax.
        is_percent: whether bare numbers are percentages.
        is_days: whether hours are given in person-days.
    """

    scale: Decimal = Decimal(1)
    currency: str | None = None
    with_tax: bool = False
    is_percent: bool = False
    is_days: bool = False


_SCALES: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"億円"), 100_000_000),
    (re.compile(r"百万円|million|mio\b", re.IGNORECASE), 1_000_000),
    (re.compile(r"万円"), 10_000),
    (re.compile(r"千円|thousand|in k\b|[$¥€£]\s?k\b|\bk ?(?:jpy|usd|eur|yen)\b", re.IGNORECASE), 1_000),
)
_CURRENCY_WORDS: Mapping[str, str] = {
    "円": "JPY", "日本円": "JPY", "yen": "JPY", "¥": "JPY", "ドル": "USD", "米ドル": "USD", "us$": "USD", "$": "USD",
    "dollar": "USD", "dollars": "USD", "ユーロ": "EUR", "€": "EUR", "euro": "EUR", "euros": "EUR", "ポンド": "GBP",
    "£": "GBP", "pounds": "GBP",
}  # fmt: skip
_HEADER_CURRENCY = re.compile(
    r"[(\[_ ](?:in )?(?:(?P<code>[A-Z]{3})|(?P<word>円|yen|ドル|米ドル|ユーロ|[$¥€£]|US\$))[)\] ]?$"
)
#: Three capitals in a header's bracket that are no currency.
_NOT_CURRENCIES = frozenset(("TAX", "VAT", "CPA", "CTR", "CVR", "AVG", "MAX", "MIN", "KPI", "CPL"))
_WITH_TAX = re.compile(r"税込|incl\w*\.? (?:of )?(?:tax|vat)|with tax|tax included", re.IGNORECASE)


def unit_of(header: str) -> Unit:
    """The unit, currency and tax note in a header: ``予算(千円)``, ``Cost (USD)``, ``費用(税込)``, ``CTR(%)``."""
    text = fold(header)
    scale = next((Decimal(factor) for pattern, factor in _SCALES if pattern.search(text)), Decimal(1))
    currency = "JPY" if re.search(r"[億万千]円", text) else None
    if (match := _HEADER_CURRENCY.search(text)) and match["code"] not in _NOT_CURRENCIES:
        currency = match["code"] or _CURRENCY_WORDS[match["word"].lower()]
    return Unit(scale, currency, bool(_WITH_TAX.search(text)), "%" in text, bool(re.search(r"人日|days?\b", text)))


# --- cells ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Noted:
    """A value with something the user should know about how it was read."""

    value: Any
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadAs:
    """What reading one column's cells depends on: settled date order and decimal mark, the header's unit."""

    order: DateOrder | None
    mark: DecimalMark | None
    unit: Unit
    context: Context


def _text(cell: Cell, at: ReadAs) -> str | None:
    text = parse_text(cell)
    return None if text is None else scrub(text.replace("\0", ""))


def read_name(cell: Cell, at: ReadAs) -> str | None:
    text = _text(cell, at)
    if text is not None and len(text) > LONGEST_NAME:
        raise CellError("too_long", f"{shown(text)} has {len(text)} letters; a name has at most {LONGEST_NAME}")
    return text


def _start(cell: Cell, at: ReadAs) -> Cell | Noted:
    """The cell itself, or the first of several moments in it: ``2024/6/15 14:00-17:00``, ``6月15日〜16日``."""
    try:
        parse_date(cell, order=at.order, today=at.context.today)
    except CellError as error:
        moments = find_moments(cell, at.order) if isinstance(cell, str) and error.code == "not_a_date" else []
        if not moments or not re.search(r"[〜~～\-‐–—、,・&+]|から|まで|\bto\b|\band\b", fold(str(cell))):
            raise
        day, clock = moments[0]
        start = datetime.combine(day, clock).isoformat(sep=" ") if clock else day.isoformat()
        parse_date(start, today=at.context.today)
        return Noted(start, (f"of {shown(cell)} the start, {start[:16]}, counts",))
    return cell


def _day(cell: Cell, at: ReadAs) -> Any:
    """(day, moment or None); the moment where the cell names a time."""
    if is_unknown(cell):
        return None
    start = _start(cell, at)
    notes = start.notes if isinstance(start, Noted) else ()
    moment_cell = start.value if isinstance(start, Noted) else start
    zone = at.context.settings.zone
    day = parse_date(moment_cell, order=at.order, zone=zone, today=at.context.today)
    moment = None
    if has_time(moment_cell, order=at.order):
        moment = parse_timestamp(moment_cell, zone=zone, order=at.order, today=at.context.today)
    return Noted((day, moment), notes)


_CLOCK = re.compile(
    r"^(午前|午後)?\s*(\d{1,2})(?::|時)(\d{2})?(?:分)?(?::\d{2})?\s*([ap]\.?m\.?)?(?=$|[^\d])", re.IGNORECASE
)


def _clock(cell: Cell, at: ReadAs) -> time | None:
    """A time of day; of a range, its start."""
    if isinstance(cell, datetime):
        return cell.time()
    if isinstance(cell, time):
        return cell
    if isinstance(cell, timedelta) and timedelta(0) <= cell < timedelta(days=1):
        return _after_midnight(cell)
    if isinstance(cell, float) and 0 <= cell < 1:
        return _after_midnight(timedelta(days=cell))
    text = parse_text(cell)
    if text is None:
        return None
    if match := _CLOCK.match(fold(text)):
        hour, minute = int(match[2]), int(match[3] or 0)
        late = match[1] == "午後" or (match[4] or "").lower().startswith("p")
        early = match[1] == "午前" or (match[4] or "").lower().startswith("a")
        hour = hour % 12 if (late or early) and hour <= 12 else hour
        hour += 12 if late and hour < 12 else 0
        if hour < 24 and minute < 60:
            return time(hour, minute)
    raise CellError("not_a_time", f"{shown(cell)} is not a time of day; write it as 14:00")


def _after_midnight(passed: timedelta) -> time:
    minutes = min(round(passed.total_seconds() / 60), 24 * 60 - 1)
    return time(minutes // 60, minutes % 60)


def _count(cell: Cell, at: ReadAs) -> int | None:
    value = parse_count(cell)
    if value is not None and value > MOST_PEOPLE:
        raise CellError("number_too_large", f"{shown(cell)} is too large; at most {MOST_PEOPLE:,}")
    return value


def _quantity(cell: Cell, at: ReadAs) -> Decimal | None:
    value = parse_number(cell, mark=at.mark)
    if value is not None and value < 0:
        raise CellError("negative", f"{shown(cell)} is negative; a count is 0 or more")
    if value is not None and value > MOST_PEOPLE:
        raise CellError("number_too_large", f"{shown(cell)} is too large; at most {MOST_PEOPLE:,}")
    return value


#: An amount that says its own unit is not scaled by the header's.
_OWN_UNIT = re.compile(r"[万千億円¥$€£]|[A-Za-z]")


def _money(cell: Cell, at: ReadAs) -> Amount | None:
    amount = parse_money(cell, mark=at.mark)
    if amount is None:
        return None
    own_unit = isinstance(cell, str) and _OWN_UNIT.search(unicodedata.normalize("NFKC", cell))
    value = amount.amount if own_unit else amount.amount * at.unit.scale
    return Amount(value, amount.currency or at.unit.currency)


_FREE = frozenset(
    (
        "無料",
        "無償",
        "0円",
        "free",
        "free of charge",
        "gratis",
        "gratuito",
        "gratuita",
        "gratuit",
        "gratuite",
        "grátis",
        "kostenlos",
        "kostenfrei",
        "entrada libre",
        "entrée libre",
        "no charge",
        "タダ",
        "ただ",
    )
)


def _price(cell: Cell, at: ReadAs) -> Amount | None:
    if isinstance(cell, str) and re.sub(r"\s*\(.*\)$", "", fold(cell)).casefold() in _FREE:
        return Amount(Decimal(0))
    return _money(cell, at)


def _percent(cell: Cell, at: ReadAs) -> Decimal | None:
    value = parse_percent(cell, mark=at.mark, bare="percent" if at.unit.is_percent else "fraction")
    if value is not None and value < 0:
        raise CellError("negative", f"{shown(cell)} is negative; a rate is between 0 and 100 %")
    if value is not None and value > 1:
        raise CellError("not_a_percentage", f"{shown(cell)} is above 100 %; a rate is between 0 and 100 %")
    return value


_HOURS_MINUTES = re.compile(
    r"^(?:([\d.,]+)\s*(?:時間|hours?|hrs?|horas?|heures?|stunden?|std\.?|h))?\s*"
    r"(?:([\d.,]+)\s*(?:分|minutes?|minutos?|minuten|mins?|min\.?|m))?$",
    re.IGNORECASE,
)
_DAYS = re.compile(
    r"^([\d.,]+)\s*(?:人日|日|person[- ]?days?|days?|d[ií]as?|dias?|tage?|personentage?|jours?|d)$", re.IGNORECASE
)
MOST_HOURS = 1_000_000


def _hours(cell: Cell, at: ReadAs) -> Decimal | None:
    if isinstance(cell, timedelta):
        hours: Decimal | None = Decimal(int(cell.total_seconds())) / 3600
    elif isinstance(cell, time):
        hours = Decimal(cell.hour * 60 + cell.minute) / 60
    else:
        text = fold(cell).removesuffix("程度").removeprefix("約") if isinstance(cell, str) else ""
        if match := _DAYS.match(text):
            hours = (parse_number(match[1], mark=at.mark) or Decimal(0)) * HOURS_PER_DAY
        elif text and (match := _HOURS_MINUTES.match(text)) and match[0]:
            hours = (parse_number(match[1], mark=at.mark) or Decimal(0)) + (
                parse_number(match[2], mark=at.mark) or Decimal(0)
            ) / 60
        else:
            hours = parse_number(cell, mark=at.mark)
            if hours is not None and at.unit.is_days:
                hours *= HOURS_PER_DAY
    if hours is None:
        return None
    if hours < 0:
        raise CellError("negative", f"{shown(cell)} is negative; hours are 0 or more")
    if hours > MOST_HOURS:
        raise CellError("number_too_large", f"{shown(cell)} is too large; at most {MOST_HOURS:,} hours")
    return hours.quantize(Decimal("0.01"))


def _currency(cell: Cell, at: ReadAs) -> str | None:
    text = parse_text(cell)
    if text is None:
        return None
    folded = fold(text)
    code = _CURRENCY_WORDS.get(folded.casefold(), folded.upper())
    if not re.fullmatch(r"[A-Z]{3}", code):
        raise CellError("unknown_currency", f"{shown(text)} is not a currency; write its code, for example JPY or USD")
    return code


def _suggestion(vocabulary: Vocabulary, text: str) -> str:
    close = vocabulary.suggest(text)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _category(cell: Cell, at: ReadAs) -> Any:
    text = parse_text(cell)
    if text is None or taxonomy.categories.is_everybody(text):
        return None
    if (found := taxonomy.categories.find(text)) is not None:
        return found
    ids, _ = taxonomy.categories.parse_many(text)
    if ids:
        label = taxonomy.categories.label(ids[0], at.context.settings.language)
        return Noted(ids[0], (f"{shown(text)} is not one category; {label} is taken",))
    return Noted(
        "other", (f"{shown(text)} is no known category, stored as other{_suggestion(taxonomy.categories, text)}",)
    )


def _format(cell: Cell, at: ReadAs) -> str | None:
    text = parse_text(cell)
    if text is None:
        return None
    found = taxonomy.formats.find(text)
    if found is None:
        ids, _ = taxonomy.formats.parse_many(text)
        found = "hybrid" if {"offline", "online"} <= set(ids) else ids[0] if len(ids) == 1 else None
    if found is None and not taxonomy.formats.is_everybody(text):
        allowed = ", ".join(
            f"{taxonomy.formats.label(i, 'ja')} ({taxonomy.formats.label(i, 'en')})" for i in taxonomy.formats.ids
        )
        raise CellError("unknown_format", f"{shown(text)} is no known format; allowed are {allowed}")
    return found


def _many(cell: Cell, at: ReadAs, *, vocabulary: Vocabulary) -> Any:
    """The ids of a cell; what is not known is left out with a warning, for one word must not cost the row."""
    text = parse_text(cell)
    ids, unknown = vocabulary.parse_many(text)
    notes = tuple(
        f"{shown(word)} is no known {vocabulary.name}, left out{_suggestion(vocabulary, word)}" for word in unknown
    )
    return Noted(ids, notes)


_DAY_FOR_SIZE = re.compile(r"^(\d{1,2})月(\d{1,2})日$")


def _company_sizes(cell: Cell, at: ReadAs) -> Any:
    """Also undoes what spreadsheets make of ``1-9`` and ``10-49`` when typed: 9 January, October 1949."""
    if isinstance(cell, date):
        meant = f"{cell.month}-{cell.year % 100 if cell.day == 1 and cell.year < 2000 else cell.day}"
    elif isinstance(cell, str) and (match := _DAY_FOR_SIZE.match(fold(cell))):
        meant = f"{int(match[1])}-{int(match[2])}"
    else:
        return _many(cell, at, vocabulary=taxonomy.company_sizes)
    ids, _ = taxonomy.company_sizes.parse_many(meant)
    if not ids:
        return Noted([], (f"{shown(cell)} is a date, not a company size; write it as {meant}名",))
    return Noted(ids, (f"the spreadsheet made a date of a company size; {shown(cell)} is read as {meant}",))


def _tactic(cell: Cell, at: ReadAs) -> tuple[str, str] | None:
    """(id, as written)."""
    text = read_name(cell, at)
    if text is None:
        return None
    catalogue = load_catalogue()
    found = catalogue.match(text)
    if found is None:
        close = [f"{catalogue.get(i).name(at.context.settings.language)} ({i})" for i in catalogue.suggest(text)]
        hint = (
            f"did you mean {', '.join(close)}?" if close else "the template of tactic results lists all that are known"
        )
        raise CellError("unknown_tactic", f"{shown(text)} names no tactic, or more than one; {hint}")
    return found, text


_LEVELS: Mapping[str, str] = {
    word: level
    for level, words in {
        "high": "high strong large big major alto alta hoch élevé élevée fort forte a "
        "高 高い 大 大きい 強 強い 確実 最高 非常に高い ★★★ ◎ ○ 5 4",
        "medium": "medium mid moderate average medio media médio média mittel moyen moyenne b "
        "中 中程度 普通 ふつう まあまあ 並 ★★ △ 3",
        "low": "low weak small minor bajo baja baixo baixa niedrig gering faible c "
        "低 低い 小 小さい 弱 弱い 不確実 最低 ★ × 2 1",
    }.items()
    for word in words.split()
}


def _level(cell: Cell, at: ReadAs) -> str | None:
    """``high``, ``medium`` or ``low``; anything else as written."""
    text = _text(cell, at)
    return None if text is None else read_level(text)


def read_level(text: str) -> str:
    """``high``, ``medium`` or ``low`` in any of its spellings; anything else as written."""
    return _LEVELS.get(fold(text).casefold().rstrip("☆"), text)


_SCOPE_SEPARATORS = re.compile(r"[・、,/;|\n]+|(?<=\S)\s+[xX×&+]\s+(?=\S)")
#: Where an insight may hold, in the order in which a word is looked up.
_SCOPES: Mapping[str, Vocabulary] = {
    "formats": taxonomy.formats,
    "categories": taxonomy.categories,
    "industries": taxonomy.industries,
    "job_titles": taxonomy.job_titles,
    "company_sizes": taxonomy.company_sizes,
}


def _scope(cell: Cell, at: ReadAs) -> dict[str, Any] | None:
    """Where an insight holds: categories, formats, tactics and audiences by id, and what else is written."""
    text = _text(cell, at)
    return None if text is None else read_scope(text)


def read_scope(text: str) -> dict[str, Any] | None:
    """Where words say that something holds, as the column ``applies_to`` of insights; ``None`` is everywhere."""
    if taxonomy.categories.is_everybody(text):
        return None
    scope: dict[str, Any] = {"as_written": text}
    folded = unicodedata.normalize("NFKC", text)
    pieces = _pieces(folded)
    while pieces:
        for width in range(min(4, len(pieces)), 0, -1):
            piece = folded[pieces[0][0] : pieces[width - 1][1]].strip()
            name, found = _place(piece) if width == 1 else _joined(piece)
            if found:
                scope[name] = list(dict.fromkeys([*scope.get(name, []), *found]))
                break
        pieces = pieces[width:]
    return scope


def _pieces(text: str) -> list[tuple[int, int]]:
    """(start, end) of what stands between separators."""
    spans, start = [], 0
    for match in _SCOPE_SEPARATORS.finditer(text):
        spans.append((start, match.start()))
        start = match.end()
    return [(a, b) for a, b in (*spans, (start, len(text))) if text[a:b].strip()]


def _joined(text: str) -> tuple[str, list[str]]:
    """What several pieces together spell, as ``製造・メーカー`` does; nothing is interpreted here."""
    for name, vocabulary in _SCOPES.items():
        if (found := vocabulary.exact(text)) is not None:
            return name, [found]
    return "other", []


def _place(text: str) -> tuple[str, list[str]]:
    """What one piece names; ``other`` with the text itself where nothing knows it."""
    if (format_id := taxonomy.formats.find(text)) is not None:
        return "formats", [format_id]
    if (tactic := load_catalogue().match(text)) is not None:
        return "tactics", [tactic]
    for name, vocabulary in _SCOPES.items():
        ids, unknown = vocabulary.parse_many(text)
        if ids and not unknown:
            return name, ids
    return "other", [text]


_SIMULATED = frozenset((
    "シミュレーション", "シミュレーションデータ", "模擬", "模擬データ", "擬似", "擬似データ", "仮想", "仮想データ",
    "架空", "simulado", "simulados", "simuliert", "simulé", "simulées", "simulés",
    "simulated", "simulation", "simulated data", "synthetic", "synthetic data", "true", "yes", "1",
))  # fmt: skip
_REAL = frozenset((
    "実績", "実データ", "実測", "本番", "本番データ", "実際", "reales", "reais", "echt", "réel", "réelles", "réels",
    "real", "real data", "actual", "actuals", "observed",
    "measured", "false", "no", "0",
))  # fmt: skip
#: The marker inside free notes stands alone or in brackets: an event about simulation is not marked by its topic.
_MARKER = re.compile(
    r"(?:^|[\s(\[【「;、。,/|※])"
    r"(?:シミュレーション(?:データ)?|模擬データ|simulated(?: data)?|simulation(?: data)?|synthetic data)"
    r"(?:$|[\s)\]】」;、。,/|:])",
    re.IGNORECASE,
)


def marks_as_simulated(notes: str) -> bool:
    """Whether free notes carry the marker for simulated rows."""
    return _MARKER.search(fold(notes)) is not None


def _data_kind(cell: Cell, at: ReadAs) -> bool | None:
    if isinstance(cell, bool):
        return cell
    text = parse_text(cell)
    if text is None:
        return None
    folded = fold(text).casefold()
    if folded in _SIMULATED:
        return True
    if folded in _REAL:
        return False
    raise CellError(
        "not_a_choice", f"{shown(text)} is no known kind of data; write 実績 (real) or シミュレーション (simulated)"
    )


READERS: Mapping[str, Callable[[Cell, ReadAs], Any]] = {
    "text": _text, "day": _day, "time": _clock, "count": _count, "quantity": _quantity, "money": _money,
    "price": _price, "percent": _percent, "hours": _hours, "currency": _currency, "category": _category,
    "format": _format, "tactic": _tactic, "level": _level, "scope": _scope, "data_kind": _data_kind,
    **{name: partial(_many, vocabulary=vocabulary) for name, vocabulary in VOCABULARIES.items()},
    "company_sizes": _company_sizes,
}  # fmt: skip


def read_cell(reader: Callable[[Cell, ReadAs], Any], at: ReadAs, cell: Cell) -> Any:
    """Read a cell, whatever its column holds; of a formula the result, and where the file has none it is refused."""
    if not isinstance(cell, Formula):
        return reader(cell, at)
    if cell.result is None:
        parse_text(cell)
    value = reader(cell.result, at)
    noted = value if isinstance(value, Noted) else Noted(value)
    return Noted(noted.value, ("formulas, read by the results the file was last saved with", *noted.notes))
