"""Reading a brief from a file: every wrong field is named at once."""

import json
from pathlib import Path

import pytest

from turnout.cli.plans import read_brief
from turnout.errors import InputError

SAMPLES = Path(__file__).parents[3] / "samples" / "briefs"


def _written(folder: Path, data: object) -> Path:
    path = folder / "brief.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["brief_ja.yaml", "brief_en.yaml", "brief.json"])
def test_sample_briefs_are_readable(name):
    assert read_brief(SAMPLES / name).goal.target > 0


def test_japanese_spellings_become_ids(tmp_path):
    brief = read_brief(_written(tmp_path, {
        "event": {"name": "x", "date": "2027-03-03", "category": "AI・データ", "format": "会場"},
        "goal": {"target": 10}, "budget": {"amount": 1},
    }))  # fmt: skip
    assert (brief.event.category, brief.event.format) == ("ai_data", "offline")


def test_every_wrong_field_is_named_with_what_was_given(tmp_path):
    path = _written(tmp_path, {
        "event": {"name": "", "date": "2027-13-03", "category": "cooking", "format": "offline"},
        "goal": {"target": -5}, "budget": {"amount": -1, "currency": "yen"}, "surprise": 1,
    })  # fmt: skip
    with pytest.raises(InputError) as caught:
        read_brief(path)
    named = {problem.column for problem in caught.value.problems}
    assert named == {
        "event.name", "event.date", "event.category", "goal.target", "budget.amount", "budget.currency", "surprise",
    }  # fmt: skip
    assert "cooking" in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", "a: [1\n"])
def test_what_is_no_brief_is_refused_in_words(tmp_path, text):
    path = tmp_path / "brief.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"brief\.yaml"):
        read_brief(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        read_brief(tmp_path / "nowhere.yaml")
