"""Insights from files: headings of both languages, every defect with its place, all or nothing, again is nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from expectations.gate import make_gate
from ingestion.api import ingest_paths
from ingestion.insights import import_insights, make_insight
from turnout import insight_store
from turnout.errors import InputError

HEADER = "Insight,Impact,Confidence,Applies to"


def write(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "rules.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def stored(engine):
    with engine.connect() as connection:
        return {i.text: i for i in insight_store.read(connection, "default")}


def test_a_file_is_read_once_however_often_it_is_handed_in(engine, tmp_path):
    path = write(tmp_path, 'Mail works online,+20%,high,"own email, online"', "Paid events fill late,medium,★★,paid")
    first = import_insights(engine, "default", path)
    again = import_insights(engine, "default", path)
    assert (len(first.added), len(again.unchanged), again.added) == (2, 2, [])
    rules = stored(engine)
    mail = rules["Mail works online"]
    assert (mail.scope.tactics, mail.scope.formats) == ({"own_email"}, {"online"})
    assert mail.confidence == "high"
    assert rules["Paid events fill late"].scope.price == "paid"
    assert rules["Paid events fill late"].confidence == "medium"


def test_japanese_headings_and_cells_are_read(engine, tmp_path):
    path = write(
        tmp_path, "8月は申込が減る,中,低,8月,減,申込数", "平日は参加率が高い,1.1〜1.3倍,高,平日,,",
        header="知見,影響度,確信度,適用範囲,方向,指標",
    )  # fmt: skip
    import_insights(engine, "default", path)
    rules = stored(engine)
    august = rules["8月は申込が減る"]
    assert (august.claim.direction, august.metric, august.scope.months) == ("down", "registrations", {8})
    assert rules["平日は参加率が高い"].about == "show_up"


def test_every_defect_is_named_with_its_place_and_what_is_allowed(engine, tmp_path):
    path = write(
        tmp_path, "good,+10%,high,online", "bad,somewhat,high,online", "worse,+10%,sure,", "good,low,high,online",
        ",+10%,,",
    )  # fmt: skip
    with pytest.raises(InputError) as caught:
        import_insights(engine, "default", path)
    found = {(p.row, p.column): p for p in caught.value.problems}
    assert set(found) == {(3, "Impact"), (4, "Confidence"), (5, "text"), (6, "Insight")}
    assert found[3, "Impact"].value == "somewhat"
    assert "allowed are a percentage" in found[3, "Impact"].message
    assert "high, medium, low" in found[4, "Confidence"].message
    assert "row 2" in found[5, "text"].message
    assert all(p.file == "rules.csv" for p in caught.value.problems)
    assert stored(engine) == {}, "all or nothing"


def test_a_dry_run_stores_nothing(engine, tmp_path):
    change = import_insights(engine, "default", write(tmp_path, "rule,+10%,high,online"), dry_run=True)
    assert len(change.added) == 1
    assert stored(engine) == {}


@pytest.mark.parametrize(
    ("lines", "header", "code"),
    [((), HEADER, "no_rows"), (("a,b",), "Confidence,Impact", "missing_column")],
)
def test_a_file_without_insights_is_refused(engine, tmp_path, lines, header, code):
    with pytest.raises(InputError) as caught:
        import_insights(engine, "default", write(tmp_path, *lines, header=header))
    assert [p.code for p in caught.value.problems] == [code]
    with pytest.raises(InputError, match="no such file"):
        import_insights(engine, "default", tmp_path / "none.csv")


def test_a_rule_typed_in_and_the_same_rule_in_a_sheet_are_one(engine, settings, tmp_path):
    """Also: what somebody removed stays removed when the sheet is read again, until it is brought back."""
    sheet = tmp_path / "insights.csv"
    sheet.write_text(
        "知見,影響度,確信度,適用範囲\n水曜のメールが効く,中,高,自社メルマガ・オンライン\n", encoding="utf-8"
    )
    gate = make_gate(settings)

    def ingest():
        return ingest_paths([sheet], settings=settings, engine=engine, gate=gate)

    ingest()
    typed = make_insight("水曜のメールが効く", impact="中", confidence="高", applies_to="自社メルマガ・オンライン")
    with engine.begin() as connection:
        change = insight_store.save(connection, "default", [typed])
    assert (change.added, len(change.unchanged)) == ([], 1)
    with engine.begin() as connection:
        insight_store.remove(connection, "default", ["水曜のメール"])
    sheet.write_text(sheet.read_text(encoding="utf-8") + "新しい知見,低,低,\n", encoding="utf-8")
    ingest()
    assert list(stored(engine)) == ["新しい知見"]
    with engine.begin() as connection:
        assert len(insight_store.undo(connection, "default").added) == 1
    assert set(stored(engine)) == {"新しい知見", "水曜のメールが効く"}
