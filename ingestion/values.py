"""Cells into values: numbers, money, percentages and dates as people and platforms write them.

Every ``parse_…`` takes a cell as :mod:`ingestion.reading` hands it out (text from CSV, native values from XLSX and
JSON), returns ``None`` for *unknown* (empty, ``--``, ``n/a``, a bound such as ``< 10%``) and raises
:class:`CellError`, a ``ValueError`` whose message names the value and what is allowed. Nothing else is ever raised.

What one cell cannot decide is decided for its column over the whole file: is ``1,234`` a thousand or one and a bit
(:class:`NumberColumn`), is ``3/4/2026`` in March or April (:class:`DateColumn`).
"""

from __future__ import annotations

import calendar
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Literal, NoReturn, Self, TypeVar
from zoneinfo import ZoneInfo

Cell = str | int | float | Decimal | bool | datetime | date | time | timedelta | None
DecimalMark = Literal[".", ","]
DateOrder = Literal["ymd", "mdy", "dmy"]
T = TypeVar("T")

#: Dates before this are typing errors: 1900-01-00 is what a spreadsheet makes of an empty or misread cell.
FIRST_DAY = date(2000, 1, 1)
#: Events are not planned further ahead than this many years.
YEARS_AHEAD = 5
#: NUMERIC(20, 6) holds fourteen digits before the point.
LIMIT = Decimal(10) ** 14

_EXCEL_EPOCH = date(1899, 12, 30)

_UNKNOWN = frozenset((
    "", "-", "--", "---", "‐", "–", "—", "―", "−", "ー", "─", "n/a", "na", "n.a.", "n.d.", "s/d", "k.a.", "null",
    "none", "nan", "#n/a", "#div/0!", "不明", "未定", "未集計", "該当なし", "データなし", "unknown", "tbd",
))  # fmt: skip

_SPREADSHEET_ERRORS = frozenset(("#value!", "#ref!", "#name?", "#num!", "#null!", "#error!"))


class CellError(ValueError):
    """A cell that is not what its column needs.

    Attributes:
        code: stable reason: ``not_a_number``, ``formula``, ``not_a_date``, ``ambiguous_date``, ``date_out_of_range``,
            ``ambiguous_number``, ``negative``, ``not_whole``, ``number_too_large``, ``not_a_percentage``,
            ``spreadsheet_error``, ``mojibake``, ``not_a_choice``, …
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Formula(str):
    """A spreadsheet formula as it is written, ``=1+1``.

    Attributes:
        result: what the spreadsheet program calculated when it last saved; ``None`` where the file does not hold it.
    """

    __slots__ = ("result",)

    result: Cell

    def __new__(cls, text: str, result: Cell = None) -> Self:
        formula = super().__new__(cls, text)
        formula.result = result
        return formula


def fold(text: str) -> str:
    """Width and white space folded: full-width digits and brackets, non-breaking and ideographic spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def shown(cell: Cell, limit: int = 60) -> str:
    """A cell for a message: quoted, control characters escaped, cut."""
    text = repr(cell if isinstance(cell, str) else str(cell))
    text = repr(str(cell)) if isinstance(cell, Formula) else text
    return text if len(text) <= limit else text[: limit - 2] + "…" + text[0]


def is_unknown(cell: Cell) -> bool:
    """Whether the cell says "no value": empty, dashes, n/a, or a bound such as ``> 90 %``."""
    if cell is None:
        return True
    if not isinstance(cell, str):
        return isinstance(cell, float) and cell != cell  # noqa: PLR0124  (NaN)
    folded = fold(cell).casefold()
    return folded in _UNKNOWN or _BOUND.match(folded) is not None


# --- text ------------------------------------------------------------------------------------------------------------

#: UTF-8 read as a Western code page, and as Shift_JIS: sequences that no language writes.
_WESTERN_MOJIBAKE = re.compile(
    r"ã[\x80-\xbf‚ƒ„…†‡ˆ‰Š‹Œ‘’“”•–—˜™š›œžŸ€]|Ã[\x80-\xbf‰‚ƒ„]|â€[\x80-\xbf™œ“”˜¦]|ï¼|Â[\xa0-\xbf]"
    # kanji without kana; twice in a row, because French writes one such sequence: « modifié » with a no-break space
    r"|(?:[ä-é][\x80-\xbf‚ƒ„…†‡ˆ‰Š‹Œ‘’“”•–—˜™š›œžŸŽ€]{2}){2}"
)
_JAPANESE_MOJIBAKE = re.compile(r"(?:[繧縺繝]\S?){2}|(?:[譁蜿莨荳諠蛹隱郢邵][｡-ﾟ\S]){3}")
#: Shift_JIS read as a Western code page: ``ƒCƒxƒ“ƒg``.
_SJIS_AS_WESTERN = re.compile(r"(?:[ƒ‚][\x20-\xff‘’“”•–—˜™š›œžŸ€†‡ˆ‰Š‹Œ…„ƒ‚]){2}")


def _as_bytes(text: str, encoding: str) -> bytes | None:
    raw = bytearray()
    for char in text:
        try:
            raw += char.encode(encoding)
        except UnicodeEncodeError:
            if ord(char) > 0xFF:
                return None
            raw.append(ord(char))
    return bytes(raw)


@lru_cache(maxsize=16_384)
def mojibake(text: str) -> str | None:
    """What is wrong with text that was read in the wrong encoding, or ``None`` when it looks sound.

    Returns:
        A clause for a message; with the text as it was meant where it can be restored.
    """
    if text.isascii():
        stripped = text.replace(" ", "")
        lost = stripped.count("?")
        return "its letters were lost and became question marks" if lost >= 3 and lost * 2 > len(stripped) else None
    if "\ufffd" in text:
        return "some of its letters could not be decoded"
    for pattern, wrong, right in (
        (_WESTERN_MOJIBAKE, "cp1252", "utf-8"),
        (_JAPANESE_MOJIBAKE, "cp932", "utf-8"),
        (_SJIS_AS_WESTERN, "cp1252", "cp932"),
    ):
        if pattern.search(text):
            raw = _as_bytes(text, wrong)
            meant = raw.decode(right, errors="replace") if raw else ""
            if meant and "\ufffd" not in meant and meant != text:
                return f"it was saved in the wrong encoding and probably means {shown(meant)}"
            return "it was saved in the wrong encoding"
    return None


def parse_text(cell: Cell) -> str | None:
    """Text with its spaces tidied, letters otherwise unchanged; ``None`` when empty or a dash.

    Raises:
        CellError: ``formula``, ``mojibake`` or ``spreadsheet_error``.
    """
    if cell is None:
        return None
    if isinstance(cell, str):
        _refuse_formula(cell)
        text = " ".join(cell.split())
        if reason := mojibake(text):
            raise CellError(
                "mojibake", f"{shown(text)} cannot be read: {reason}; save the file again as UTF-8 (CSV UTF-8) or XLSX"
            )
        return None if text.casefold() in _UNKNOWN - {"unknown", "none", "null", "nan", "na", "tbd"} else text
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime):
        return cell.isoformat(sep=" ")
    return str(cell)


def _refuse_formula(cell: str) -> None:
    text = cell.lstrip("'\t ")
    if isinstance(cell, Formula) or (text.startswith("=") and len(text) > 1):
        raise CellError(
            "formula", f"{shown(str(cell))} is a formula, not a value; copy the column and paste it as values only"
        )
    if text[:1] == "#" and text.strip().casefold() in _SPREADSHEET_ERRORS:
        raise CellError("spreadsheet_error", f"{shown(text)} is a spreadsheet's error, not a value; mend the cell")


def parse_choice(cell: Cell, choices: Mapping[str, T], *, what: str = "value") -> T | None:
    """The choice a cell names; keys of ``choices`` are folded spellings (:func:`fold` and casefold).

    Raises:
        CellError: ``not_a_choice``, naming what is allowed.
    """
    text = parse_text(cell)
    if text is None:
        return None
    try:
        return choices[fold(text).casefold()]
    except KeyError:
        allowed = ", ".join(dict.fromkeys(choices))
        raise CellError("not_a_choice", f"{shown(text)} is not a known {what}; allowed are {allowed}") from None


# --- numbers ---------------------------------------------------------------------------------------------------------

_CURRENCY_SIGNS: tuple[tuple[str, str], ...] = (
    ("US$", "USD"), ("R$", "BRL"), ("A$", "AUD"), ("C$", "CAD"), ("NT$", "TWD"), ("HK$", "HKD"), ("S$", "SGD"),
    ("$", "USD"), ("€", "EUR"), ("£", "GBP"), ("¥", "JPY"), ("\\", "JPY"), ("円", "JPY"), ("₩", "KRW"), ("元", "CNY"),
    ("ドル", "USD"), ("ユーロ", "EUR"), ("ポンド", "GBP"),
)  # fmt: skip
_ISO_CURRENCY = re.compile(r"^([A-Z]{3})\s*(?=[\d.,(+-])|(?<=[\d.,)万億])\s*([A-Z]{3})$")

#: Counters that follow a number without changing it.
_UNIT = re.compile(
    r"\s*(?:名様|名|人|件|回|通|個|枚|社|時間|h|hours?|hrs?|pv|imp|impressions?|clicks?|クリック|リーチ|配信|pt|ポイント|日|程度|ほど|前後|くらい)\.?$",
    re.IGNORECASE,
)
_TAX = re.compile(
    r"^(?:税抜き?|税込み?|税別)\s*|\s*\(?(?:税抜き?|税込み?|税別|excl\.? ?tax|incl\.? ?tax)\)?$", re.IGNORECASE
)
_BOUND = re.compile(r"^(?:[<>≤≥≦≧]=?\s*[\d.,]+\s*%?|[\d.,]+\s*[万億]?[%円名人件]?(?:未満|以上|以下|超|以内))$")
_MAGNITUDE: dict[str, Decimal] = {
    "千": Decimal(1_000), "万": Decimal(10_000), "億": Decimal(10) ** 8, "兆": Decimal(10) ** 12,
    "k": Decimal(1_000), "K": Decimal(1_000), "M": Decimal(1_000_000), "百万": Decimal(1_000_000),
}  # fmt: skip
_JA_PARTS = re.compile(r"([\d.,'’ ]+)(兆|億|百万|万|千)")
_SCALED = re.compile(r"^([\d.,]+) ?([kKM])$")
_DIGITS = re.compile(r"^\d+$")
_EXPONENT = re.compile(r"^\d+(?:\.\d+)?[eE][+-]?\d{1,2}$")
_NEGATIVE_SIGNS = "-−–△▲‐"


@dataclass(frozen=True, slots=True)
class Amount:
    """A sum of money; ``currency`` as the cell itself states it, else ``None``."""

    amount: Decimal
    currency: str | None = None


def _grouped(groups: Sequence[str]) -> bool:
    """Whether digit groups are thousands (1 234 567) or the Indian 12 34 567."""
    if not all(g.isdigit() for g in groups) or not 1 <= len(groups[0]) <= 3 or len(groups[-1]) != 3:
        return False
    middle = {len(g) for g in groups[1:-1]}
    return middle <= {3} or (middle <= {2} and len(groups[0]) <= 2)


def _mark_of(digits: str) -> DecimalMark | None:
    """The decimal mark that ``digits`` proves by itself, or ``None`` when both readings are possible."""
    dots, commas = digits.count("."), digits.count(",")
    if dots and commas:
        return "." if digits.rfind(".") > digits.rfind(",") else ","
    if not dots and not commas:
        return None
    mark: DecimalMark | None = "." if dots else ","
    other: DecimalMark = "," if dots else "."
    groups = re.split(r"[.,]", digits)
    if len(groups) > 2:
        return other
    whole, fraction = groups
    if len(fraction) == 3 and 1 <= len(whole) <= 3 and not whole.startswith("0"):
        return None
    return mark


def _decimal(digits: str, mark: DecimalMark | None) -> Decimal | None:
    """Unsigned digits with separators as a number; ``None`` when they are not one.

    Raises:
        CellError: ``ambiguous_number``: both readings are possible and ``mark`` is not known.
    """
    if _DIGITS.match(digits) or _EXPONENT.match(digits):
        return Decimal(digits)
    mark = _mark_of(digits) or mark
    if mark is None:
        if re.fullmatch(r"\d{1,3}[.,]\d{3}", digits):
            raise CellError(
                "ambiguous_number",
                f"{shown(digits)} may be a thousand or a fraction: the column has decimal points and decimal commas; "
                "write all its numbers alike",
            )
        mark = "."
    whole, found, fraction = digits.rpartition(mark)
    if not found:
        whole, fraction = digits, ""
    elif not fraction.isdigit() and (fraction or not whole):
        return None
    separators = {c for c in whole if not c.isdigit()}
    groups = whole.split(separators.pop()) if separators else [whole]
    if separators or mark in whole or (len(groups) > 1 and not _grouped(groups)):
        return None
    whole = "".join(groups)
    if not (whole or fraction).isdigit() or not (whole + fraction).isascii():
        return None
    return Decimal(f"{whole or '0'}.{fraction}" if fraction else whole)


def _not_a_number(cell: Cell, what: str) -> NoReturn:
    raise CellError("not_a_number", f"{shown(cell)} is not {what}; write digits only, for example 1200 or 1,200.50")


def _number(text: str, mark: DecimalMark | None, cell: Cell, what: str) -> Decimal:
    """A folded text, currency and per cent already taken off, as a signed number."""
    negative = False
    if text.startswith("(") and text.endswith(")"):
        negative, text = True, text[1:-1].strip()
    if text[:1] in _NEGATIVE_SIGNS and text:
        negative, text = not negative, text[1:].lstrip()
    elif text[-1:] in ("-", "−") and text:
        negative, text = True, text[:-1].rstrip()
    elif text[:1] == "+":
        text = text[1:].lstrip()
    text = text.replace("\u2019", "'")
    value: Decimal | None
    if _JA_PARTS.search(text):
        value = _japanese(text, mark)
    elif match := _SCALED.match(text):
        base = _decimal(match.group(1), mark)
        value = None if base is None else base * _MAGNITUDE[match.group(2)]
    else:
        value = _decimal(text, mark) if text and text[0] in "0123456789.," else None
    if value is None:
        _not_a_number(cell, what)
    if value >= LIMIT:
        raise CellError("number_too_large", f"{shown(cell)} is too large; at most fourteen digits before the point")
    return -value if negative else value


def _japanese(text: str, mark: DecimalMark | None) -> Decimal | None:
    """``1億2,000万`` and ``120万5000``: parts from large to small, each scaled."""
    total, position, last = Decimal(0), 0, Decimal(10) ** 13
    for match in _JA_PARTS.finditer(text):
        part = _decimal(match.group(1).strip(), mark)
        scale = _MAGNITUDE[match.group(2)]
        if part is None or match.start() != position or scale >= last:
            return None
        total, position, last = total + part * scale, match.end(), scale
    rest = text[position:].strip()
    if rest:
        part = _decimal(rest, mark)
        if part is None or part >= last:
            return None
        total += part
    return total


def _native(cell: int | float | Decimal, what: str) -> Decimal:
    try:
        value = Decimal(repr(cell)) if isinstance(cell, float) else Decimal(cell)
    except InvalidOperation:
        _not_a_number(cell, what)
    if not value.is_finite():
        _not_a_number(cell, what)
    if abs(value) >= LIMIT:
        raise CellError("number_too_large", f"{shown(cell)} is too large; at most fourteen digits before the point")
    return value


def _prepared(cell: str) -> str:
    """Folded text of a number cell without approximations and apostrophes that force text."""
    text = fold(cell)
    return text.lstrip("'").removeprefix("約").removeprefix("~").removeprefix("～").strip()


def parse_number(cell: Cell, *, mark: DecimalMark | None = ".", what: str = "a number") -> Decimal | None:
    """A number. ``mark`` is the column's decimal mark, used only where the cell itself does not settle it.

    >>> parse_number("1,234.56"), parse_number("1.234,56"), parse_number("１２０万"), parse_number("(1,234)")
    (Decimal('1234.56'), Decimal('1234.56'), Decimal('1200000.0'), Decimal('-1234'))
    """
    amount = _amount(cell, mark=mark, what=what)
    if amount is None:
        return None
    if amount.currency is not None and what == "a number":
        _not_a_number(cell, what)
    return amount.amount


def parse_money(
    cell: Cell, *, mark: DecimalMark | None = ".", allow_negative: bool = False, what: str = "an amount of money"
) -> Amount | None:
    """A sum of money with the currency the cell states: ``¥1,200,000``, ``120万円``, ``1.234,56 €``, ``USD 20``.

    Raises:
        CellError: not a number, a formula, or negative where ``allow_negative`` is false.
    """
    amount = _amount(cell, mark=mark, what=what)
    if amount is not None and amount.amount < 0 and not allow_negative:
        raise CellError("negative", f"{shown(cell)} is negative; an amount here is 0 or more")
    return amount


def _amount(cell: Cell, *, mark: DecimalMark | None, what: str) -> Amount | None:
    if cell is None or isinstance(cell, bool | datetime | date | time | timedelta):
        if cell is None:
            return None
        _not_a_number(cell, what)
    if not isinstance(cell, str):
        return None if is_unknown(cell) else Amount(_native(cell, what))
    if cell.isascii() and cell.isdigit() and len(cell) < 14:  # most cells of an export
        return Amount(Decimal(cell))
    if is_unknown(cell):
        return None
    _refuse_formula(cell)
    text = _TAX.sub("", _prepared(cell))
    currency: str | None = None
    if match := _ISO_CURRENCY.search(text):
        currency = match.group(1) or match.group(2)
        text = (text[: match.start()] + text[match.end() :]).strip()
    else:
        for sign, code in _CURRENCY_SIGNS:
            if sign in text:
                currency, text = code, text.replace(sign, "", 1).strip()
                break
    text = _UNIT.sub("", text)
    return Amount(_number(text.strip(), mark, cell, what), currency)


def parse_integer(cell: Cell, *, what: str = "a whole number") -> int | None:
    """A whole number, negative or not. Any separator groups thousands: ``1.479`` in such a column is 1479.

    Raises:
        CellError: ``not_whole`` and what :func:`parse_number` raises.
    """
    value = parse_number(cell, mark=_integer_mark(cell), what=what)
    if value is None:
        return None
    if value != value.to_integral_value():
        raise CellError("not_whole", f"{shown(cell)} is not {what}; fractions are not allowed here")
    return int(value)


def _integer_mark(cell: Cell) -> DecimalMark:
    return "," if isinstance(cell, str) and "." in cell else "."


def parse_count(cell: Cell, *, what: str = "a count") -> int | None:
    """A whole number of 0 or more: impressions, clicks, people.

    Raises:
        CellError: ``negative`` and what :func:`parse_integer` raises.
    """
    value = parse_integer(cell, what=what)
    if value is not None and value < 0:
        raise CellError("negative", f"{shown(cell)} is negative; {what} is 0 or more")
    return value


def parse_percent(
    cell: Cell, *, mark: DecimalMark | None = ".", bare: Literal["fraction", "percent"] = "fraction"
) -> Decimal | None:
    """A share as a fraction: ``1.8%`` → 0.018.

    ``bare`` says what a number without a per cent sign is. A bare fraction above 1 is refused: it was most likely meant
    as a percentage.

    Raises:
        CellError: ``not_a_percentage`` and what :func:`parse_number` raises.
    """
    what = "a percentage"
    if isinstance(cell, str) and not is_unknown(cell):
        text = fold(cell)
        for sign in ("%", "パーセント", "percent"):
            if text.endswith(sign) or text.startswith(sign):
                value = parse_number(text.removesuffix(sign).removeprefix(sign).strip(), mark=mark, what=what)
                return None if value is None else value / 100
    value = parse_number(cell, mark=mark, what=what)
    if value is None:
        return None
    if bare == "percent":
        return value / 100
    if abs(value) > 1:
        raise CellError("not_a_percentage", f"{shown(cell)} has no % sign and is above 1; write {cell}% or a fraction")
    return value


@dataclass
class NumberColumn:
    """Learns the decimal mark of one column from all its cells.

    One file may hold ``1.198,94`` in one column and ``1.7967991533`` in another, so this is per column.
    """

    points: int = 0
    commas: int = 0
    open_points: int = 0
    open_commas: int = 0

    def add(self, cell: Cell, times: int = 1) -> None:
        """Take one cell into account, or several alike."""
        if cell.__class__ is not str:
            return
        text: str = cell
        point = text.find(".")
        if "," not in text:
            if point < 0:
                return
            if len(text) - point != 4 and text.isascii() and text.replace(".", "", 1).isdigit():
                self.points += times  # 12.5 and 1234.56, most of what exports hold
                return
        if isinstance(cell, str):
            digits = re.sub(r"[^\d.,]", "", unicodedata.normalize("NFKC", cell)).strip(".,")
            proven = _mark_of(digits) if digits else None
            if proven == ".":
                self.points += times
            elif proven == ",":
                self.commas += times
            elif "." in digits:
                self.open_points += times
            elif "," in digits:
                self.open_commas += times

    @property
    def proven(self) -> DecimalMark | None:
        """What the column's own cells prove; the majority where they disagree."""
        if self.points == self.commas:
            return None
        return "." if self.points > self.commas else ","

    #: One cell in so many that proves the other mark is a slip of the hand.
    SLIPS = 20

    def decide(self, fallback: DecimalMark) -> DecimalMark | None:
        """The column's decimal mark; ``fallback`` (the file's language) where no cell proves one.

        ``None`` where cells prove both marks and neither is the rare exception: then a cell such as ``1,234``, which
        can be read either way, is refused rather than guessed, and all others are read as they prove themselves.
        """
        few, many = sorted((self.points, self.commas))
        if few and few * self.SLIPS > many:
            return None
        return self.proven or fallback


#: Languages whose decimal mark is a comma.
COMMA_LANGUAGES = frozenset(("es", "pt", "de", "fr", "it", "nl", "pl", "ru", "tr", "sv", "da", "nb", "fi", "cs"))


def language_mark(language: str | None) -> DecimalMark:
    """The decimal mark a language uses, for columns that prove none themselves."""
    return "," if language in COMMA_LANGUAGES else "."


# --- dates -----------------------------------------------------------------------------------------------------------

_ERAS = {"令和": 2018, "r": 2018, "平成": 1988, "h": 1988, "昭和": 1925, "s": 1925, "㋿": 2018}

_MONTHS: dict[str, int] = {}
for _number_of_month, _names in enumerate(
    (
        "january jan enero ene januar jänner janvier janv janeiro gennaio gen januari",
        "february feb febrero februar février fevrier févr fevr fevereiro fev febbraio februari",
        "march mar marzo märz maerz mars março marco maart mrz",
        "april apr abril abr avril avr aprile",
        "may mayo mai maio maggio mag mei",
        "june jun junio juni juin junho giugno giu",
        "july jul julio juli juillet juil julho luglio lug",
        "august aug agosto ago août aout augustus",
        "september sep sept septiembre setiembre septembre setembro set settembre",
        "october oct octubre oktober okt octobre outubro out ottobre",
        "november nov noviembre novembre novembro",
        "december dec diciembre dic dezember dez décembre decembre déc dezembro dicembre",
    ),
    start=1,
):
    _MONTHS.update(dict.fromkeys(_names.split(), _number_of_month))

#: Days of the week in en, es, pt, de, fr, it and nl, short and long, as the start of a word.
_WEEKDAYS = (
    r"mon(?:day|tag)?|tue(?:s(?:day)?)?|wed(?:nesday)?|thu(?:r(?:s(?:day)?)?)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?"
    r"|lun(?:es|di|edì)?|mar(?:tes|di|tedì)?|mi[ée]r?(?:c(?:oles)?)?|jue(?:ves)?|vie(?:rnes)?|s[áa]b(?:ado|ato)?"
    r"|dom(?:ingo|enica)?|seg(?:unda)?(?:-feira)?|ter(?:ça)?(?:-feira)?|qua(?:rta)?(?:-feira)?|qui(?:nta)?(?:-feira)?"
    r"|sex(?:ta)?(?:-feira)?|mo|di(?:enstag|nsdag)?|mi(?:ttwoch)?|do(?:nnerstag|nderdag)?|fr(?:eitag)?|sa(?:mstag)?"
    r"|sonnabend|so(?:nntag)?|mer(?:credi|coledì)?|jeu(?:di)?|ven(?:dredi|erdì)?|sam(?:edi)?|dim(?:anche)?|gio(?:vedì)?"
    r"|ma(?:andag)?|wo(?:ensdag)?|vr(?:ijdag)?|za(?:terdag)?|zo(?:ndag)?"
)
_WEEKDAY_NOTE = re.compile(
    rf"\s*\((?:[月火水木金土日](?:曜日?)?(?:・?祝)?|祝|(?:{_WEEKDAYS})\.?)\)"
    r"|(?<=[\d日])\s+[月火水木金土日]曜日?(?=$|\s)",
    re.IGNORECASE,
)
_ERA = re.compile(
    r"^(令和|平成|昭和|[RHS])\s*(\d{1,2}|元)\s*(?:年|[./-])\s*(\d{1,2})\s*(?:月|[./-])\s*(\d{1,2})\s*日?", re.IGNORECASE
)
_YMD = re.compile(r"^(\d{4})\s*(?:年|[-/.])\s*(\d{1,2})\s*(?:月|[-/.])\s*(\d{1,2})\s*日?(?!\d)")
_COMPACT = re.compile(r"^(\d{4})(\d{2})(\d{2})(?!\d)")
_NUMERIC = re.compile(r"^(\d{1,2})([-/.])\s?(\d{1,2})\2\s?(\d{4}|\d{2})(?!\d)")
_DAY_MONTH_YEAR = re.compile(
    r"^(\d{1,2})(?:\.|er|st|nd|rd|th|º)?\s*(?:de |of )?\s*([^\W\d_]+)\.?,?\s*(?:de |del |of )?\s*(\d{4})(?!\d)",
    re.IGNORECASE,
)
_MONTH_DAY_YEAR = re.compile(r"^([^\W\d_]+)\.?\s*(\d{1,2})(?:st|nd|rd|th)?,?\s+(\d{4})(?!\d)", re.IGNORECASE)
_DAY_MON_YEAR = re.compile(r"^(\d{1,2})[-/]([^\W\d_]{3,9})\.?[-/](\d{4}|\d{2})(?!\d)", re.IGNORECASE)
_WEEKDAY_LEAD = re.compile(rf"^(?:{_WEEKDAYS}|[月火水木金土日](?:曜日?))\.?,?\s+(?:den |le |el |o )?", re.IGNORECASE)
_TIME = re.compile(
    r"^\s*(?:t|,|at|à|a las|um|às|\s)?\s*(午前|午後)?\s*(\d{1,2})"
    r"(?::|時|h|\.)(\d{2})?(?:(?::|分)(\d{2})?(?:秒)?(?:[.,](\d{1,9}))?)?分?"
    r"\s*([ap]\.?\s?m\.?)?"
    r"\s*(z|utc|gmt|jst|[+-]\d{2}:?\d{2}|[+-]\d{1,2})?\s*(?:uhr)?$",
    re.IGNORECASE,
)  # fmt: skip
_YEARLESS = re.compile(r"^\d{1,2}\s*(?:/|月)\s*\d{1,2}\s*日?$")


def _not_a_date(cell: Cell) -> NoReturn:
    raise CellError("not_a_date", f"{shown(cell)} is not a date; write it as 2026-06-15 or 2026/6/15")


def _calendar_day(year: int, month: int, day: int, cell: Cell) -> date:
    if not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(max(1, min(year, 9999)), month)[1]:
        raise CellError("not_a_date", f"{shown(cell)} names a day that does not exist; write it as 2026-06-15")
    return date(max(1, min(year, 9999)), month, day)


def _within_reason(day: date, cell: Cell, today: date | None) -> date:
    # The calendar of now is enough: the limit only has to catch typing errors.
    last_year = (today or date.today()).year + YEARS_AHEAD  # noqa: DTZ011
    if not FIRST_DAY <= day <= date(last_year, 12, 31):
        raise CellError(
            "date_out_of_range",
            f"{shown(cell)} is outside of what is allowed, {FIRST_DAY} to {last_year}-12-31; correct the year",
        )
    return day


def numeric_day(first: int, second: int, year: int, order: DateOrder | None, cell: Cell) -> date:
    """``first/second/year`` as a day, by ``order`` or by the one reading that exists."""
    year = year + 2000 if year < 100 else year
    if order == "mdy" or (order != "dmy" and second > 12):
        return _calendar_day(year, first, second, cell)
    if order == "dmy" or first > 12:
        return _calendar_day(year, second, first, cell)
    if first == second:
        return _calendar_day(year, first, second, cell)
    raise CellError(
        "ambiguous_date",
        f"{shown(cell)} may be day/month or month/day, and nothing in the file settles it; "
        "write dates as 2026-06-15, or keep the report's period lines above the header",
    )


def _split_date(text: str, order: DateOrder | None, cell: Cell) -> tuple[date, str] | None:
    """The date at the start of folded ``text`` and what follows it."""
    if match := _YMD.match(text) or _COMPACT.match(text):
        return _calendar_day(int(match[1]), int(match[2]), int(match[3]), cell), text[match.end() :]
    if match := _NUMERIC.match(text):
        # A dot between day and month is the German and Slavic way, never the American one.
        used: DateOrder | None = "dmy" if match[2] == "." else order
        return numeric_day(int(match[1]), int(match[3]), int(match[4]), used, cell), text[match.end() :]
    if match := _ERA.match(text):
        year = _ERAS[match[1].casefold()] + (1 if match[2] == "元" else int(match[2]))
        return _calendar_day(year, int(match[3]), int(match[4]), cell), text[match.end() :]
    for pattern, month_at, day_at in ((_MONTH_DAY_YEAR, 1, 2), (_DAY_MONTH_YEAR, 2, 1), (_DAY_MON_YEAR, 2, 1)):
        if (match := pattern.match(text)) and (month := _MONTHS.get(match[month_at].casefold())):
            year = int(match[3]) + (2000 if len(match[3]) == 2 else 0)
            return _calendar_day(year, month, int(match[day_at]), cell), text[match.end() :]
    # Last, because "mar" is Tuesday in some languages and March in others: "mar. 3 avr. 2026", but "mar 3, 2026".
    rest = _WEEKDAY_LEAD.sub("", text)
    return _split_date(rest, order, cell) if len(rest) < len(text) else None


def _split_time(rest: str, cell: Cell) -> tuple[time, tzinfo | None] | None:
    """The time of day in what follows a date; ``None`` when nothing follows."""
    if not rest.strip():
        return None
    match = _TIME.match(rest)
    if match is None:
        _not_a_date(cell)
    half, hour, minute, second, fraction, suffix, offset = match.groups()
    hours = int(hour)
    late = half == "午後" or (suffix or "").lower().startswith("p")
    early = half == "午前" or (suffix or "").lower().startswith("a")
    if (late or early) and hours == 12:
        hours = 0
    hours += 12 if late else 0
    extra_day = hours == 24 and int(minute or 0) == 0
    if hours > 23 and not extra_day:
        _not_a_date(cell)
    try:
        clock = time(
            0 if extra_day else hours, int(minute or 0), int(second or 0), int((fraction or "0").ljust(6, "0")[:6])
        )
    except ValueError:
        _not_a_date(cell)
    return clock, _offset(offset, cell)


def _offset(text: str | None, cell: Cell) -> tzinfo | None:
    if not text:
        return None
    if text.lower() in ("z", "utc", "gmt"):
        return ZoneInfo("UTC")
    if text.lower() == "jst":
        return ZoneInfo("Asia/Tokyo")
    digits = text[1:].replace(":", "")
    hours, minutes = int(digits[:2]), int(digits[2:4] or 0)
    if hours > 14 or minutes > 59:
        _not_a_date(cell)
    return timezone((1 if text[0] == "+" else -1) * timedelta(hours=hours, minutes=minutes))


def _serial(number: Decimal, cell: Cell) -> datetime:
    """A spreadsheet's day number (1900 system): 45458 is 2024-06-15."""
    if not Decimal(36_526) <= number < Decimal(80_000):  # 2000-01-01 and far enough ahead for the check that follows
        raise CellError("date_out_of_range", f"{shown(cell)} is not a date of 2000 or later; write it as 2026-06-15")
    days = int(number)
    seconds = round((number - days) * 86_400)
    return datetime.combine(_EXCEL_EPOCH + timedelta(days=days), time()) + timedelta(seconds=int(seconds))


@lru_cache(maxsize=65_536)
def _moment(text: str, order: DateOrder | None) -> tuple[date, time | None, tzinfo | None]:
    """A date cell's text as day, time of day and offset."""
    _refuse_formula(text)
    folded = _WEEKDAY_NOTE.sub("", fold(text)).strip("'")
    if folded.isdigit() and len(folded) == 5:
        return _serial(Decimal(folded), text).date(), None, None
    found = _split_date(folded, order, text)
    if found is None:
        if _YEARLESS.match(folded):
            raise CellError("not_a_date", f"{shown(text)} has no year; write it as 2026-06-15")
        if reason := mojibake(text):
            raise CellError("mojibake", f"{shown(text)} cannot be read: {reason}; save the file again as UTF-8")
        _not_a_date(text)
    day, rest = found
    timed = _split_time(rest, text)
    if timed is None:
        return day, None, None
    return day, timed[0], timed[1]


def parse_date(
    cell: Cell, *, order: DateOrder | None = None, zone: tzinfo | None = None, today: date | None = None
) -> date | None:
    """A day.

    Understood are ISO 8601, ``2024/6/15``, ``2024年6月15日(土)``, ``令和6年6月15日``, ``R6.6.15``, ``6/15/2024`` and
    ``15/6/2024`` (by ``order``), ``15.6.2024``, month names in ja, en, es, pt, de and fr, 20240615, spreadsheet day
    numbers, and any of them with a time. With ``zone``, a moment with an offset is the day it was there.

    Raises:
        CellError: ``not_a_date``, ``ambiguous_date``, ``date_out_of_range``, ``formula`` or ``mojibake``.
    """
    if is_unknown(cell):
        return None
    if isinstance(cell, str):
        day, clock, offset = _moment(cell, order)
        if clock is not None and offset is not None and zone is not None:
            day = _in_zone(datetime.combine(day, clock, offset), zone, cell).date()
    else:
        moment = _native_moment(cell)
        day = moment.astimezone(zone).date() if zone is not None and moment.tzinfo is not None else moment.date()
    return _within_reason(day, cell, today)


_MONTH_FIRST = re.compile(r"^(\d{1,2}|[^\W\d_]+)\.?\s*(?:月\s*)?(?:de |del |of )?[-/ ,]*\s*(\d{4})$", re.IGNORECASE)
_YEAR_FIRST = re.compile(r"^(\d{4})\s*(?:年|[-/. ])\s*(\d{1,2}|[^\W\d_]+)\.?\s*月?$", re.IGNORECASE)


def parse_month(cell: Cell, *, order: DateOrder | None = None, today: date | None = None) -> date | None:
    """A month as its first day: ``2026-04``, ``April 2026``, ``abr. de 2026``, ``2026年4月``, or any day of it.

    Raises:
        CellError: as :func:`parse_date`.
    """
    if is_unknown(cell):
        return None
    if isinstance(cell, str):
        text = fold(cell)
        for pattern, month_at, year_at in ((_YEAR_FIRST, 2, 1), (_MONTH_FIRST, 1, 2)):
            if match := pattern.match(text):
                word = match[month_at].casefold()
                month = int(word) if word.isdigit() else _MONTHS.get(word.removesuffix("月"), 0)
                return _within_reason(_calendar_day(int(match[year_at]), month, 1, cell), cell, today)
    day = parse_date(cell, order=order, today=today)
    return None if day is None else day.replace(day=1)


def parse_week(cell: Cell, *, order: DateOrder | None = None, today: date | None = None) -> tuple[date, date] | None:
    """A week as its first and last day: of ``2026-04-06`` seven days, of ``2026-04-06 - 2026-04-12`` what it says.

    Raises:
        CellError: as :func:`parse_date`.
    """
    if is_unknown(cell):
        return None
    if isinstance(cell, str) and len(moments := find_moments(cell, order)) == 2:
        first, last = moments[0][0], moments[1][0]
        if first <= last:
            return _within_reason(first, cell, today), _within_reason(last, cell, today)
    day = parse_date(cell, order=order, today=today)
    return None if day is None else (day, day + timedelta(days=6))


def _native_moment(cell: Cell) -> datetime:
    if isinstance(cell, datetime):
        return cell
    if isinstance(cell, date):
        return datetime.combine(cell, time())
    if isinstance(cell, int | float | Decimal) and not isinstance(cell, bool):
        number = _native(cell, "a date")
        if number == number.to_integral_value() and Decimal(19_000_101) <= number <= Decimal(99_991_231):
            return datetime.combine(parse_date(str(int(number)), today=date(9990, 1, 1)) or FIRST_DAY, time())
        return _serial(number, cell)
    _not_a_date(cell)


def _in_zone(moment: datetime, zone: tzinfo, cell: Cell) -> datetime:
    try:
        return moment.astimezone(zone)
    except (OverflowError, ValueError):
        _not_a_date(cell)


def parse_timestamp(
    cell: Cell, *, zone: tzinfo, order: DateOrder | None = None, today: date | None = None
) -> datetime | None:
    """A moment, with its offset. Without one of its own it was in ``zone``; without a time it is ``None``'s day only.

    A day alone gives midnight in ``zone``; ask :func:`has_time` first where that matters.

    Raises:
        CellError: as :func:`parse_date`.
    """
    if is_unknown(cell):
        return None
    if isinstance(cell, str):
        day, clock, offset = _moment(cell, order)
        _within_reason(day, cell, today)
        return _in_zone(datetime.combine(day, clock or time(), offset or zone), zone, cell)
    moment = _native_moment(cell)
    _within_reason(moment.date(), cell, today)
    return _in_zone(moment if moment.tzinfo is not None else moment.replace(tzinfo=zone), zone, cell)


def has_time(cell: Cell, *, order: DateOrder | None = None) -> bool:
    """Whether a date cell also says a time of day."""
    if isinstance(cell, datetime):
        return cell.time() != time()
    if isinstance(cell, float):
        return not cell.is_integer()
    if not isinstance(cell, str) or is_unknown(cell):
        return False
    try:
        return _moment(cell, order)[1] is not None
    except CellError:
        return False


@dataclass
class DateColumn:
    """Learns from all cells of a column whether ``3/4/2026`` is in March or in April.

    What speaks, in this order: a cell that allows one reading only; the period the report states; the language of
    the headers or what is known of the platform. Otherwise the column stays undecided and its ambiguous cells are
    refused by :func:`parse_date`.
    """

    day_first: int = 0
    month_first: int = 0
    open_pairs: set[tuple[int, int, int]] = field(default_factory=set)

    #: More distinct days than this add nothing to the decision.
    _ENOUGH = 2_000

    def add(self, cell: Cell, times: int = 1) -> None:
        """Take one cell into account, or several alike."""
        if not isinstance(cell, str) or cell[:4].isdigit() or ("/" not in cell and "-" not in cell):
            return  # begins with its year, most of what exports hold
        text = fold(cell)
        match = _NUMERIC.match(text) or _NUMERIC.match(_WEEKDAY_LEAD.sub("", text))
        if match is None or match[2] == ".":
            return
        first, second, year = int(match[1]), int(match[3]), int(match[4])
        if first > 12 >= second:
            self.day_first += times
        elif second > 12 >= first:
            self.month_first += times
        elif first <= 12 and second <= 12 and len(self.open_pairs) < self._ENOUGH:
            self.open_pairs.add((first, second, year + 2000 if year < 100 else year))

    def decide(
        self, language: str | None = None, period: tuple[date, date] | None = None, hint: DateOrder | None = None
    ) -> DateOrder | None:
        """The order of the column, or ``None`` when nothing settles it.

        Args:
            language: of the headers; es, pt, de and fr put the day first, English alone says nothing.
            period: first and last day the report states.
            hint: what is known of the platform's exports in this language.

        Raises:
            CellError: ``mixed_date_order``: some cells can only be day/month, others only month/day.
        """
        if self.day_first and self.month_first:
            raise CellError(
                "mixed_date_order",
                f"{self.day_first} dates can only be day/month and {self.month_first} only month/day; "
                "write all dates of the column as 2026-06-15",
            )
        if self.day_first:
            return "dmy"
        if self.month_first:
            return "mdy"
        if period is not None and self.open_pairs:
            orders: tuple[DateOrder, DateOrder] = ("dmy", "mdy")
            fits = [o for o in orders if all(_inside(pair, o, period) for pair in self.open_pairs)]
            if len(fits) == 1:
                return fits[0]
        if hint is not None:
            return hint
        return "dmy" if language in COMMA_LANGUAGES else None


def _inside(pair: tuple[int, int, int], order: DateOrder, period: tuple[date, date]) -> bool:
    try:
        day = numeric_day(*pair, order, "")
    except CellError:
        return False
    return period[0] <= day <= period[1]


_STARTS_OF_DATES = re.compile(
    r"(?:令和|平成|[RrHh]\d{1,2}[./年])|\d{4}\s*(?:年|[-/.])\s*\d{1,2}|\b20\d{6}\b|\b\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}"
    r"|\b\d{1,2}(?:\.|er|st|nd|rd|th)?\s*(?:de |of )?\s*[^\W\d_]{3,10}\.?,?\s*(?:de |del |of )?\s*\d{4}"
    r"|\b[^\W\d_]{3,10}\.?\s*\d{1,2}(?:st|nd|rd|th)?,?\s+\d{4}",
    re.IGNORECASE,
)


def find_moments(text: str, order: DateOrder | None = None) -> list[tuple[date, time | None]]:
    """Every date in a line of text, with its time where one follows: for the lines above a report's header."""
    folded = _WEEKDAY_NOTE.sub("", fold(text))
    found: list[tuple[date, time | None]] = []
    position = 0
    while match := _STARTS_OF_DATES.search(folded, position):
        try:
            split = _split_date(folded[match.start() :], order, text)
        except CellError:
            split = None
        if split is None:
            position = match.start() + 1
            continue
        day, rest = split
        clock: time | None = None
        following = re.match(r"[\s,T]*((?:午前|午後)?\d{1,2}(?::|時)\d{2}(?::\d{2})?\s*(?:[AaPp]\.?[Mm]\.?)?)", rest)
        if following:
            try:
                timed = _split_time(" " + following[1], text)
                clock = timed[0] if timed else None
            except CellError:
                clock = None
        found.append((day, clock))
        position = len(folded) - len(rest)
    return found


_TO = r"(?:[-–—~〜～]+|から|bis(?: zum)?|to|al|au|a|até|hasta(?: el)?)"
_WORD = r"([^\W\d_]{3,12})\.?"
#: Periods that write year or month once: ``April 1 – 30, 2026``, ``1.–30. April 2026``, ``2026年4月1日～30日``.
_MONTH_FIRST_PERIOD = re.compile(
    rf"{_WORD}\s+(\d{{1,2}})\s*{_TO}\s*(?:{_WORD}\s+)?(\d{{1,2}}),?\s+(\d{{4}})\b", re.IGNORECASE
)
_DAY_FIRST_PERIOD = re.compile(
    rf"\b(\d{{1,2}})(?:\.|er|º)?\s*(?:(?:de\s+)?{_WORD}\s*)?{_TO}\s*(\d{{1,2}})(?:\.|er|º)?\s*(?:de\s+)?{_WORD}\s+"
    r"(?:de\s+|del\s+)?(\d{4})\b",
    re.IGNORECASE,
)
_YEAR_FIRST_PERIOD = re.compile(
    rf"\b(\d{{4}})\s*[年/.-]\s*(\d{{1,2}})\s*[月/.-]\s*(\d{{1,2}})\s*日?\s*(?:\([^)]*\))?\s*{_TO}\s*"
    r"(?:(\d{1,2})\s*[月/.]\s*)?(\d{1,2})\s*日?(?![\d年/.-])",
    re.IGNORECASE,
)


def _period_of(year: str, first: tuple[str | int, str], last: tuple[str | int, str]) -> tuple[date, date] | None:
    """A period of a year; months as numbers or as words of some language."""
    days = []
    for month, day in (first, last):
        number = int(month) if str(month).isdigit() else _MONTHS.get(str(month).casefold(), 0)
        try:
            days.append(_within_reason(_calendar_day(int(year), number, int(day), year), year, None))
        except CellError:
            return None
    return (days[0], days[1]) if days[0] <= days[1] else None


def find_period(text: str, language: str | None = None) -> tuple[date, date] | None:
    """The first and last day a line of text names, in any of the ways of reports; ``None`` where it names no period.

    ``3/4/2026 - 5/4/2026`` is read as the only way in which it is a period; where both are, by ``language``: es, pt, de
    and fr put the day first, and of others nobody knows.
    """
    folded = _WEEKDAY_NOTE.sub("", fold(text))
    if (moments := find_moments(folded)) and len(moments) >= 2:
        first, last = sorted((moments[0][0], moments[1][0]))
        return first, last
    if match := _MONTH_FIRST_PERIOD.search(folded):
        return _period_of(match[5], (match[1], match[2]), (match[3] or match[1], match[4]))
    if match := _DAY_FIRST_PERIOD.search(folded):
        return _period_of(match[5], (match[2] or match[4], match[1]), (match[4], match[3]))
    if match := _YEAR_FIRST_PERIOD.search(folded):
        return _period_of(match[1], (match[2], match[3]), (match[4] or match[2], match[5]))
    orders: tuple[DateOrder, DateOrder] = ("dmy", "mdy")
    read = {order: [m[0] for m in find_moments(folded, order)] for order in orders}
    fits = [o for o in orders if len(read[o]) == 2 and read[o][0] <= read[o][1]]
    if len(fits) == 2:
        fits = ["dmy"] if language in COMMA_LANGUAGES else []
    return (read[fits[0]][0], read[fits[0]][1]) if fits else None
