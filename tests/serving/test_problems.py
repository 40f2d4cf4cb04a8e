"""Errors in the words of the person who made them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from serving.briefs import BriefRejectedError, read_brief
from serving.problems import MOST_ERRORS, field_error, invalid_fields, language_of, problem
from turnout.money import Rates
from turnout.tactics import load_catalogue

NOW = datetime(2026, 11, 25, tzinfo=UTC)
GOOD = {
    "event": {"name": "x", "date": "2027-01-20", "category": "cloud", "format": "online"},
    "goal": {"target": 10},
    "budget": {"amount": 100},
}


def errors_of(data: object, language: str = "en") -> dict[str, str]:
    with pytest.raises(BriefRejectedError) as refused:
        read_brief(data, now=NOW, catalogue=load_catalogue(), rates=Rates({"JPY": 1.0}), language=language)
    return {e.pointer: e.detail for e in refused.value.errors}


@pytest.mark.parametrize(
    ("header", "body", "expected"),
    [
        (None, None, "en"), ("ja", None, "ja"), ("ja-JP,en;q=0.5", None, "ja"), ("en;q=0.9,ja;q=0.8", None, "en"),
        ("en;q=0.2, ja;q=0.8", None, "ja"), ("de", None, "en"), ("*", None, "en"), ("ja;q=0", None, "en"),
        (",;q=,;;", None, "en"), ("en", {"language": "ja"}, "ja"), ("ja", {"language": "fr"}, "ja"), ("ja", [], "ja"),
    ],
)  # fmt: skip
def test_the_brief_decides_the_language_then_the_header(header, body, expected):
    assert language_of(header, body) == expected


def test_a_good_brief_passes():
    assert (
        read_brief(GOOD, now=NOW, catalogue=load_catalogue(), rates=Rates({"JPY": 1.0}), language="en").goal.target
        == 10
    )


@pytest.mark.parametrize("data", [None, [], "brief", 3, {"event": []}, {"event": {"date": {}}}, {"constraints": [[]]}])
def test_any_shape_is_refused_not_tripped_over(data):
    assert errors_of(data)


def test_schema_and_planning_errors_come_together_in_the_briefs_order():
    found = errors_of({
        **GOOD, "goal": {}, "event": {**GOOD["event"], "date": "2026-11-01"},
        "constraints": [{"tactic": "nothing like it"}],
    })  # fmt: skip
    assert list(found) == ["/event/date", "/goal/target", "/constraints/0/tactic"]


JAPANESE = {
    "/event/name": "200文字以内", "/event/date": "YYYY-MM-DD", "/event/price/currency": "ISO 4217",
    "/goal/target": "整数", "/budget/amount": "0以上", "/staff_hours": "100000以下", "/assets/partners": "1000以下",
    "/language": "使える値", "/extra": "つづり", "/constraints": "リスト", "/event/category": "カテゴリはありません",
}  # fmt: skip


def test_each_kind_of_error_has_japanese_words():
    found = errors_of({
        "event": {**GOOD["event"], "name": "x" * 201, "date": "soon", "price": {"amount": 1, "currency": "yen"},
                  "category": "料理教室"},
        "goal": {"target": 1.5}, "budget": {"amount": -1}, "staff_hours": float("inf"), "assets": {"partners": 5000},
        "language": "fr", "extra": 1, "constraints": {},
    }, "ja")  # fmt: skip
    assert set(found) == set(JAPANESE)
    for pointer, words in JAPANESE.items():
        assert words in found[pointer], (pointer, found[pointer])


def test_a_close_name_is_suggested():
    found = errors_of({**GOOD, "constraints": [{"tactic": "influenser", "exclude": True}]})
    assert "influencer" in found["/constraints/0/tactic"]


def test_long_values_are_cut_and_pointers_escaped():
    found = errors_of({**GOOD, "goal": {"target": "9" * 5_000}, "a/b~c": 1})
    assert len(found["/goal/target"]) < 250
    assert "/a~1b~0c" in found


def test_very_many_errors_are_counted_and_cut():
    errors = [field_error(["constraints", n], "x", "y") for n in range(MOST_ERRORS + 50)]
    body = json.loads(invalid_fields(errors, "en").body)
    assert len(body["errors"]) == MOST_ERRORS
    assert f"{MOST_ERRORS + 50} fields" in body["detail"]


def test_a_problem_without_fields_has_no_empty_list():
    body = json.loads(problem("not-found", "gone", "en", request_id="r").body)
    assert body == {
        "type": "urn:turnout:problem:not-found", "title": "Not found", "status": 404, "detail": "gone",
        "instance": "urn:request:r",
    }  # fmt: skip
