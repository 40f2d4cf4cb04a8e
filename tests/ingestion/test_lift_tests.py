"""Lift tests from files: every defect with its place, all or nothing, again is nothing."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from ingestion.lift_tests import import_tests
from tests.training import histories
from turnout import lift
from turnout.errors import InputError
from turnout.money import Rates

RATES = Rates({"JPY": 1.0, "USD": 150.0}, day="2026-01-01")
HEADER = "name,tactic,split,event,from,to,treated units,control units,treated registrations,control registrations,spend"


@pytest.fixture
def event(engine, settings):
    [event] = histories.records(1)
    histories.store(engine, settings, [event])
    return event


def write(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "tests.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_a_file_is_read_once_however_often_it_is_handed_in(engine, event, tmp_path):
    path = write(
        tmp_path,
        f"mail,メルマガ,list,{event['name']},,,5000,5000,84,51,",
        "kansai,Facebook広告,region,,2026-03-01,2026-03-31,400,600,240,150,¥300,000".replace("¥300,000", '"¥300,000"'),
    )
    first = import_tests(engine, "default", path, RATES)
    again = import_tests(engine, "default", path, RATES)
    assert (len(first.added), len(again.unchanged), again.added) == (2, 2, [])
    with engine.connect() as connection:
        stored = {s.test.name: s for s in lift.read(connection, "default")}
    mail = stored["mail"].test
    assert (mail.tactic_id, mail.event_id, mail.segment_id) == ("own_email", event["event_id"], event["segment_id"])
    assert mail.first_date == mail.last_date == event["event_date"]
    assert stored["kansai"].test.first_date == date(2026, 3, 1)
    assert stored["kansai"].spend_base == 300_000


def test_japanese_headers_and_cells_are_read(engine, tmp_path):
    path = write(
        tmp_path,
        "春,Meta広告,地域,2026年3月1日,令和8年3月31日,400,600,240,150,30万円",
        header="テスト名,施策,分け方,開始日,終了日,実施群の規模,対照群の規模,実施群の申込数,対照群の申込数,費用",
    )
    import_tests(engine, "default", path, RATES)
    with engine.connect() as connection:
        [stored] = lift.read(connection, "default")
    assert (stored.test.split, stored.test.last_date, stored.spend_base) == ("region", date(2026, 3, 31), 300_000)


def test_every_defect_is_named_with_its_row_and_column_and_nothing_is_stored(engine, event, tmp_path):
    path = write(
        tmp_path,
        f"good,own_email,list,{event['name']},,,5000,5000,84,51,",
        f"a,pigeons,list,{event['name']},,,5000,5000,84,51,",
        "b,own_email,list,nobody's event,,,5000,5000,84,51,",
        "c,own_email,list,,,,5000,5000,84,51,",
        f"d,own_email,both,{event['name']},,,5000,many,84,51,",
        f"e,meta_ads,list,{event['name']},,,5000,5000,84,51,",
        f"f,own_email,list,{event['name']},,,50,5000,84,51,",
        f"g,meta_ads,list,{event['name']},,,5000,5000,84,51,100 CHF",
        f"good,own_email,list,{event['name']},,,5000,5000,90,51,",
        f"h,own_email,list,{event['name']},,,5000,5000,,51,",
    )
    with pytest.raises(InputError) as raised:
        import_tests(engine, "default", path, RATES)
    problems = {(p.row, p.column): p for p in raised.value.problems}
    assert set(problems) == {
        (3, "tactic"), (4, "event"), (5, "event"), (6, "split"), (6, "control units"), (7, "spend"),
        (8, "treated registrations"), (9, "currency"), (10, None), (11, "treated registrations"),
    }  # fmt: skip
    assert all(p.file == "tests.csv" for p in raised.value.problems)
    assert "no tactic 'pigeons'" in problems[3, "tactic"].message
    assert "row 2" in problems[10, None].message
    with engine.connect() as connection:
        assert lift.read(connection, "default") == []


def test_what_is_no_file_of_tests_is_refused(engine, tmp_path):
    with pytest.raises(InputError, match="'treated_units' is missing"):
        import_tests(engine, "default", write(tmp_path, "a,1", header="tactic,cost"), RATES)
    with pytest.raises(InputError, match="no such file"):
        import_tests(engine, "default", tmp_path / "none.csv", RATES)
    with pytest.raises(InputError, match="no lift test"):
        import_tests(engine, "default", write(tmp_path, ",,,,,,,,,,"), RATES)


def test_a_dry_run_stores_nothing(engine, event, tmp_path):
    path = write(tmp_path, f"mail,own_email,list,{event['name']},,,5000,5000,84,51,")
    assert len(import_tests(engine, "default", path, RATES, dry_run=True).added) == 1
    with engine.connect() as connection:
        assert lift.read(connection, "default") == []
