"""Errors of the HTTP API: problem details (RFC 9457) that name every wrong field at once, in Japanese or English."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Literal

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from turnout.errors import InputError

Language = Literal["ja", "en"]
MEDIA_TYPE: Final = "application/problem+json"
_TYPE: Final = "urn:turnout:problem:"
#: More errors than this tell nobody anything; the count of the rest is in ``detail``.
MOST_ERRORS: Final = 100
_LONGEST_VALUE: Final = 80


class FieldError(BaseModel):
    """One wrong field."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the request body, e.g. /event/date.")
    field: str = Field(description="The same as dotted names, e.g. event.date.")
    code: str = Field(description="Stable machine-readable reason.")
    detail: str = Field(description="What is wrong and what is allowed, in the language asked for.")


class ProblemDetails(BaseModel):
    """A refused request (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = Field(default=None, description="The request's id, to be found in the logs.")
    errors: list[FieldError] = []


#: kind → (status, title ja, title en)
_KINDS: Final[dict[str, tuple[int, str, str]]] = {
    "malformed-json": (400, "JSONとして読めません", "The body is not JSON"),
    "bad-request": (400, "リクエストが不正です", "The request is malformed"),
    "unauthenticated": (401, "認証が必要です", "Not authenticated"),
    "forbidden": (403, "受け付けられません", "Refused"),
    "not-found": (404, "見つかりません", "Not found"),
    "method-not-allowed": (405, "このメソッドは使えません", "Method not allowed"),
    "conflict": (409, "同じキーで別の依頼が処理されています", "The idempotency key belongs to another request"),
    "too-large": (413, "本文が大きすぎます", "The body is too large"),
    "unsupported-media-type": (415, "この形式の本文は受け付けません", "Unsupported media type"),
    "invalid-brief": (422, "依頼内容に誤りがあります", "The brief cannot be planned"),
    "overloaded": (429, "混み合っています", "Too many requests at once"),
    "rate-limited": (429, "リクエストが多すぎます", "Too many requests"),
    "internal": (500, "内部エラー", "Internal error"),
    "not-ready": (503, "まだ準備ができていません", "Not ready"),
    "unavailable": (503, "今は受け取れません", "Cannot be taken now"),
    "timeout": (504, "時間内に終わりませんでした", "Timed out"),
}  # fmt: skip


def language_of(accept_language: str | None, body: object = None) -> Language:
    """The language of an answer: the brief's if it states one, else the best of ``Accept-Language``, else English."""
    if isinstance(body, Mapping) and body.get("language") in ("ja", "en"):
        return "ja" if body["language"] == "ja" else "en"
    best: tuple[float, Language] = (0.0, "en")
    for part in (accept_language or "").split(",")[:20]:
        tag, _, rest = part.strip().partition(";")
        weight = re.search(r"q=([01](?:\.\d{0,3})?)", rest)
        quality = float(weight.group(1)) if weight else 1.0
        primary = tag.split("-")[0].lower()
        if primary in ("ja", "en") and quality > best[0]:
            best = (quality, "ja" if primary == "ja" else "en")
    return best[1]


def request_id_of(scope: Mapping[str, Any]) -> str | None:
    """The id that :class:`serving.http.RequestScope` gave a request."""
    found = scope.get("turnout_request_id")
    return str(found) if found else None


def problem(
    kind: str,
    detail: str,
    language: Language,
    *,
    request_id: str | None = None,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A response of ``kind``; its status and title come from the kind."""
    status, title_ja, title_en = _KINDS[kind]
    details = ProblemDetails(
        type=_TYPE + kind,
        title=title_ja if language == "ja" else title_en,
        status=status,
        detail=detail,
        instance=f"urn:request:{request_id}" if request_id else None,
        errors=list(errors),
    )
    return JSONResponse(
        details.model_dump(mode="json", exclude_none=True, exclude=None if errors else {"errors"}),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers={"Content-Language": language, **(headers or {})},
    )


def invalid_fields(errors: Sequence[FieldError], language: Language, *, request_id: str | None = None) -> JSONResponse:
    """422 with one entry per wrong field."""
    shown = list(errors)[:MOST_ERRORS]
    rest = len(errors) - len(shown)
    if language == "ja":
        detail = f"{len(errors)}か所に誤りがあります。" + (f"先頭の{len(shown)}件を示します。" if rest else "")
    else:
        detail = f"{len(errors)} field{'s are' if len(errors) != 1 else ' is'} wrong." + (
            f" The first {len(shown)} are listed." if rest else ""
        )
    return problem("invalid-brief", detail, language, request_id=request_id, errors=shown)


# --- from other errors -------------------------------------------------------------------------------------------
def field_error(path: Sequence[str | int], code: str, detail: str) -> FieldError:
    """An error at a place in the body."""
    escaped = (str(p).replace("~", "~0").replace("/", "~1") for p in path)
    return FieldError(
        pointer="".join(f"/{p}" for p in escaped), field=".".join(map(str, path)), code=code, detail=detail
    )


def from_input_error(error: InputError) -> list[FieldError]:
    """Problems found by the planner; their ``column`` is the dotted path of the field."""
    return [
        field_error([int(p) if p.isdigit() else p for p in (p.column or "").split(".") if p], p.code, p.message)
        for p in error.problems
    ]


def from_validation(errors: Sequence[Mapping[str, Any]], language: Language) -> list[FieldError]:
    """What pydantic found, in words of the asked language.

    Args:
        errors: ``ValidationError.errors()``.
    """
    return [field_error(_path(item["loc"]), str(item["type"]), _describe(item, language)) for item in errors]


def _path(location: Sequence[str | int]) -> list[str | int]:
    # Names in brackets are steps inside pydantic's schema (validators, unions), no part of the body.
    return [p for p in location if not (isinstance(p, str) and re.fullmatch(r"[\w-]+\[.*\]", p))]


def shown(value: object) -> str:
    """A given value for a message, cut where it is long."""
    if not isinstance(value, str | int | float | bool | None):
        return type(value).__name__
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


_JAPANESE: Final[dict[str, str]] = {
    "missing": "必須です",
    "extra_forbidden": "この項目はありません。つづりを確かめてください",
    "greater_than_equal": "{ge}以上にしてください",
    "greater_than": "{gt}より大きくしてください",
    "less_than_equal": "{le}以下にしてください",
    "less_than": "{lt}より小さくしてください",
    "string_too_short": "{min_length}文字以上にしてください",
    "string_too_long": "{max_length}文字以内にしてください",
    "string_type": "文字列にしてください",
    "string_pattern_mismatch": "形式が違います(正規表現 {pattern})",
    "string_unicode": "正しいUnicode文字列ではありません",
    "too_short": "{min_length}件以上にしてください",
    "too_long": "{max_length}件以内にしてください",
    "list_type": "リスト([...])にしてください",
    "dict_type": "オブジェクト({{...}})にしてください",
    "model_type": "オブジェクト({{...}})にしてください",
    "model_attributes_type": "オブジェクト({{...}})にしてください",
    "int_type": "整数にしてください",
    "int_parsing": "整数にしてください",
    "int_from_float": "整数にしてください(小数は使えません)",
    "int_parsing_size": "数が大きすぎます",
    "float_type": "数にしてください",
    "float_parsing": "数にしてください",
    "finite_number": "有限の数にしてください",
    "decimal_type": "数にしてください",
    "decimal_parsing": "数にしてください",
    "bool_type": "true か false にしてください",
    "bool_parsing": "true か false にしてください",
    "literal_error": "使える値: {expected}",
    "enum": "使える値: {expected}",
    "date_type": "日付(YYYY-MM-DD)にしてください",
    "date_parsing": "日付(YYYY-MM-DD)にしてください",
    "date_from_datetime_parsing": "日付(YYYY-MM-DD)にしてください",
    "date_from_datetime_inexact": "時刻を除いた日付(YYYY-MM-DD)にしてください",
}
_NOT_A_DATE: Final = "Use a date, YYYY-MM-DD"
#: Where pydantic's own English would not help a planner.
_ENGLISH: Final[dict[str, str]] = {
    "missing": "This field is required",
    "extra_forbidden": "There is no such field; check the spelling",
    "date_type": _NOT_A_DATE,
    "date_parsing": _NOT_A_DATE,
    "date_from_datetime_parsing": _NOT_A_DATE,
    "date_from_datetime_inexact": "Use a date without a time, YYYY-MM-DD",
}


def _describe(item: Mapping[str, Any], language: Language) -> str:
    context = item.get("ctx") or {}
    code = str(item["type"])
    message = str(context.get("error") or item["msg"])
    if code == "string_pattern_mismatch" and item["loc"][-1:] == ("currency",):
        message = (
            "ISO 4217の3文字コード(JPYなど)にしてください" if language == "ja" else "Use an ISO 4217 code such as JPY"
        )
    elif code == "value_error":
        message = _value_error_in_japanese(message) if language == "ja" else message
    elif template := (_JAPANESE if language == "ja" else _ENGLISH).get(code):
        with suppress(KeyError, IndexError):
            message = template.format(**{name: _plain(value) for name, value in context.items()})
    # A value error names its value; the others would only repeat the structure.
    if code in ("missing", "value_error", "extra_forbidden", "model_type", "dict_type", "list_type"):
        return message
    given = shown(item.get("input"))
    return f"{message} (入力: {given})" if language == "ja" else f"{message} (given: {given})"


def _plain(value: object) -> object:
    """A bound as a person writes it: 100000, not 100000.0."""
    return int(value) if isinstance(value, float) and math.isfinite(value) and value == int(value) else value


#: Our own validators speak English; these are the same sentences in Japanese. Anything else is passed on as it is.
_SENTENCES: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern, re.DOTALL), japanese)
    for pattern, japanese in (
        (r"unknown (.+?) ('.*'); did you mean (.+?)\? allowed: (.*), or their Japanese or English names",
         r"\2 という{\1}はありません。もしかして: \3。使える値: \4(日本語・英語の名前も可)"),
        (r"unknown time zone ('.*'); .*", r"\1 という時間帯はありません。Asia/Tokyo のようなIANA名にしてください"),
        (r"unknown (.+?) ('.*'); allowed: (.*), or their Japanese or English names",
         r"\2 という{\1}はありません。使える値: \3(日本語・英語の名前も可)"),
        (r"(.+?) must be text, not (\w+); allowed: (.*), or .*", r"{\1}は文字列にしてください。使える値: \3"),
        (r"('.*') covers more than one (.+?); name them: (.*)", r"\1 は複数の{\2}を指します。分けてください: \3"),
        (r"(.+?) is empty or says nothing \(('.*')\); allowed: (.*), or .*", r"{\1}が空です(\2)。使える値: \3"),
        (r"tactic ('.*?') is excluded, so it cannot also have (.*)", r"施策 \1 は除外なので \2 は指定できません"),
        (r"tactic ('.*?') is locked, so .*", r"施策 \1 は金額固定なので、minimum や maximum は同時に指定できません"),
        (r"tactic ('.*?'): minimum (\S+) is above maximum (\S+)", r"施策 \1: 最小 \2 が最大 \3 を超えています"),
        (r"two constraints name the tactic ('.*?'); .*", r"施策 \1 の条件が二つあります。一つにまとめてください"),
    )
)  # fmt: skip
_VOCABULARIES: Final = {
    "category": "カテゴリ", "format": "形式", "industry": "業種", "job title": "職種", "company size": "企業規模",
}  # fmt: skip


def _value_error_in_japanese(message: str) -> str:
    for pattern, japanese in _SENTENCES:
        found = pattern.fullmatch(message)
        if found:
            text = found.expand(japanese)
            return re.sub(r"\{(.*?)\}", lambda m: _VOCABULARIES.get(m.group(1), m.group(1)), text)
    return message
