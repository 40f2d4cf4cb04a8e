"""Lists of registrations: status, attendance, origin, event, and nobody's name anywhere."""

from __future__ import annotations

import stat
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog
from pydantic import SecretStr

from ingestion.api import ingest_paths, quarantine_rows
from ingestion.personal import identity_salt, scrub
from turnout.errors import ConfigurationError
from turnout.identity import hashed_identity
from turnout.quality import accept_everything
from turnout.settings import Settings
from turnout.warehouse import tables as wh

T = wh.registration


@pytest.fixture
def read(settings, engine, tmp_path):
    """Reads text into the warehouse and returns the rows of ``registration``."""

    def read(text: str, *, name: str = "list.csv", **options):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        report = ingest_paths(
            [path], settings=settings, engine=engine, gate=accept_everything, trigger="test", **options
        )
        with engine.connect() as connection:
            rows = connection.execute(sa.select(T).order_by(T.c.event_label, T.c.date, T.c.line)).all()
        return report.files[0], rows

    return read


@pytest.mark.parametrize(
    ("status", "meaning", "attended"),
    [
        ("confirmed", "confirmed", None),
        ("申込済み", "confirmed", None),
        ("Participando", "confirmed", None),
        ("no-show", "confirmed", False),
        ("欠席", "confirmed", False),
        ("キャンセル", "cancelled", None),
        ("Refunded", "cancelled", None),
        ("cancelado", "cancelled", None),
        ("キャンセル待ち", "waitlist", None),
        ("Warteliste", "waitlist", None),
        ("ＣＯＮＦＩＲＭＥＤ", "confirmed", None),
    ],
)
def test_what_systems_call_a_status(read, status, meaning, attended):
    _, rows = read(f"registered_at,ticket_type,status\n2026-03-22,early,{status}\n")
    assert [(r.status, r.attended) for r in rows] == [(meaning, attended)]


def test_an_unknown_or_empty_status_is_quarantined_with_what_is_allowed(read):
    report, rows = read("registered_at,status\n2026-03-22,？？？\n2026-03-22,\n2026-03-22,confirmed\n")
    assert len(rows) == 1
    assert [(p.row, p.code) for p in report.problems] == [(2, "unknown_status"), (3, "missing_value")]
    assert "allowed are confirmed, attended, no-show, cancelled" in report.problems[0].message


def test_the_day_is_the_one_in_the_installations_zone(read):
    text = (
        "registered_at,status\n2026-03-22T20:00:00+00:00,confirmed\n2026-03-22 20:00,confirmed\n2026-03-22,confirmed\n"
    )
    _, rows = read(text)
    assert sorted((r.date, r.registered_at) for r in rows if r.registered_at) == [
        (date(2026, 3, 22), datetime(2026, 3, 22, 11, tzinfo=UTC)),
        (date(2026, 3, 23), datetime(2026, 3, 22, 20, tzinfo=UTC)),
    ]
    assert [r.date for r in rows if r.registered_at is None] == [date(2026, 3, 22)]


def test_attendance_that_was_never_recorded_is_unknown(read):
    text = "registered_at,status,attended\n2026-03-22,confirmed,{}\n2026-03-22,confirmed,\n2026-03-22,cancelled,\n"
    for answer, came, other in (
        ("yes", True, False),  # with marks for those who came only, the others stayed away
        ("○", True, False),
        ("参加", True, False),
        ("2026-05-21 10:00", True, False),
        ("×", False, None),  # who stayed away is marked too, so no mark says nothing
        ("0", False, None),
        ("", None, None),
    ):
        _, rows = read(text.format(answer))
        assert [r.attended for r in rows] == [came, other, None], answer
    report, _ = read(text.format("perhaps"))
    assert report.problems[0].code == "not_yes_or_no"


def test_check_ins_of_daily_counts_make_the_rest_absent_per_kind_of_ticket(read):
    report, rows = read(
        "date,tipo_de_ingresso,tipo_do_pedido,status_do_participante,n,total_paid_brl\n"
        "2024-04-01,Geral,Eventbrite Concluído,Fez check-in,12,5184.0\n"
        "2024-04-01,Geral,Eventbrite Concluído,Participando,3,864.0\n"
        "2024-04-02,Online,Pedido grátis,Participando,99,0.0\n"
        "2024-04-02,Online,Pedido grátis,Fez check-in,1,0.0\n"
        "2024-04-03,Tutorial,Pedido grátis,Participando,7,0.0\n"
    )
    assert [(r.quantity, r.attended) for r in rows] == [(12, True), (3, False), (99, None), (1, None), (7, None)]
    assert {r.status for r in rows} == {"confirmed"}
    assert report.warnings[0] == (
        "1 check-ins among 100 Online: too few to be a record of attendance, which is left unknown"
    )


def test_a_list_without_status_counts_everybody_and_says_so(read):
    report, rows = read("申込日時,チケット種別,人数\n2026/3/22 10:00,一般,2\n")
    assert [(r.status, r.quantity, r.ticket_type) for r in rows] == [("confirmed", 2, "一般")]
    assert any("no status" in w for w in report.warnings)


def test_the_event_is_named_by_the_list_or_by_the_caller(read):
    _, rows = read("registered_at,event,status\n2026-03-22,Summit,confirmed\n2026-03-22,,confirmed\n", event="EV1")
    assert sorted(r.event_label for r in rows) == ["EV1", "Summit"]
    _, rows = read("申込日時,イベント名,イベントコード,ステータス\n2026/3/23,Summit,EV2026-001,確定\n", name="b.csv")
    assert "EV2026-001 Summit" in {r.event_label for r in rows}


def test_lists_of_different_events_stand_beside_each_other(read):
    header = "registered_at,event,status\n"
    read(header + "2026-03-22,A,confirmed\n2026-03-25,A,confirmed\n", name="a.csv")
    _, rows = read(header + "2026-03-21,B,confirmed\n2026-03-30,B,confirmed\n", name="b.csv")
    assert [r.event_label for r in rows] == ["A", "A", "B", "B"]


def test_a_newer_list_of_the_same_event_replaces_its_days(read):
    header = "registered_at,event,status\n"
    read(header + "2026-03-22,A,confirmed\n2026-03-24,A,confirmed\n2026-03-29,A,confirmed\n", name="a.csv")
    _, rows = read(header + "2026-03-22,A,cancelled\n2026-03-25,A,confirmed\n", name="a2.csv")
    assert [(r.date.day, r.status) for r in rows] == [(22, "cancelled"), (25, "confirmed"), (29, "confirmed")]


# --- persons ----------------------------------------------------------------------------------------------------------

SECRETS = ("山田太郎", "やまだ", "taro.yamada@example.co.jp", "090-1234-5678", "渋谷区神南1-2-3", "Yamada", "123-4567")
PERSONAL = (
    "申込番号,申込日時,氏名,フリガナ,メールアドレス,電話番号,住所,郵便番号,会社名,担当者メモ,ステータス,流入元\n"
    "R-1,2026/3/22 10:00,山田太郎,やまだ,taro.yamada@example.co.jp,090-1234-5678,"
    "渋谷区神南1-2-3,123-4567,Yamada,山田太郎,確定,twitter\n"
    "R-2,2026/3/23 10:00,山田太郎,やまだ,TARO.Yamada@example.co.jp,090-1234-5678,"
    "渋谷区神南1-2-3,123-4567,Yamada,山田太郎,確定,taro.yamada@example.co.jp\n"
    "R-3,2026/13/45,山田太郎,やまだ,taro.yamada@example.co.jp,090-1234-5678,渋谷区神南1-2-3,123-4567,Yamada,山田太郎,確定,twitter\n"
    "R-4,2026/3/24 10:00,山田太郎,やまだ,taro.yamada@example.co.jp,090-1234-5678,"
    "渋谷区神南1-2-3,123-4567,Yamada,山田太郎,Yamada taro.yamada@example.co.jp,x\n"
    "R-5,2026/3/24 10:00,山田太郎,山田,太郎,taro.yamada@example.co.jp,090-1234-5678,"
    "渋谷区神南1-2-3,123-4567,Yamada,山田太郎,確定,twitter\n"
)


def test_nobody_reaches_disk_quarantine_or_logs(read, settings: Settings, engine, tmp_path):
    with structlog.testing.capture_logs() as captured:
        report, _ = read(PERSONAL)
    logged = list(map(repr, captured))
    assert report.rows_loaded == 2
    assert report.rows_quarantined == 3
    with engine.connect() as connection:
        stored = [
            repr(row)
            for table in (*wh.FACT_TABLES, wh.quarantine, wh.ingest_file, wh.ingest_run, wh.validation, wh.campaign)
            for row in connection.execute(sa.select(table))
        ]
    source = (tmp_path / "list.csv").resolve()
    files = [p for p in settings.home_path.rglob("*") if p.is_file() and p.resolve() != source]
    on_disk = [p.read_bytes().decode("utf-8", errors="replace") for p in files]
    said = [str(p) for p in report.problems] + [repr(p) for p in report.problems] + report.warnings
    for secret in SECRETS:
        for text in (*stored, *on_disk, *said, *logged):
            assert secret.lower() not in text.lower(), secret
    assert report.problems[1].message.startswith(
        "a cell with an address or telephone number in it is not a known status"
    )


def test_spooled_rows_hold_nobody_either(settings, engine, tmp_path, monkeypatch):
    import ingestion.api
    from ingestion.staging import Staged

    seen: list[bytes] = []

    class Watched(Staged):
        def __init__(self, folder: Path) -> None:
            super().__init__(folder, batch_rows=2)

        def __exit__(self, *error: object) -> None:
            seen.extend(p.read_bytes() for p in settings.home_path.rglob("tmp/*/*"))
            super().__exit__(*error)  # type: ignore[arg-type]

    monkeypatch.setattr(ingestion.api, "Staged", Watched)
    path = tmp_path / "list.csv"
    path.write_text(PERSONAL)
    ingest_paths([path], settings=settings, engine=engine, gate=accept_everything)
    assert seen
    for secret in SECRETS[:4]:
        assert not any(secret.encode() in content for content in seen)
    assert not list(settings.home_path.rglob("tmp/*"))


def test_the_same_person_has_the_same_hash_and_no_name(read, settings):
    _, rows = read(PERSONAL)
    hashes = {r.registrant_hash for r in rows}
    assert len(hashes) == 1
    assert hashes == {hashed_identity(identity_salt(settings), "email", "taro.yamada@example.co.jp")}
    assert rows[1].source_label == "[e-mail]"


def test_an_id_is_hashed_where_there_is_no_address(read):
    _, rows = read("申込番号,申込日時,ステータス\nR-1,2026/3/22,確定\nR-2,2026/3/22,確定\n,2026/3/22,確定\n")
    assert [r.registrant_hash is None for r in rows] == [False, False, True]
    assert rows[0].registrant_hash != rows[1].registrant_hash


def test_the_salt_is_made_once_and_readable_by_its_owner_only(settings, tmp_path):
    first = identity_salt(settings)
    path = settings.home_path / "identity.salt"
    assert len(first) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert identity_salt(settings) == first
    assert identity_salt(Settings(home=tmp_path / "other")) != first
    assert identity_salt(Settings(home=tmp_path, identity_salt=SecretStr("given"))) == "given"
    path.chmod(0o600)
    path.write_text("")
    with pytest.raises(ConfigurationError, match="holds no secret"):
        identity_salt(settings)


def test_the_salt_is_one_for_processes_that_start_together(settings):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: identity_salt(settings), range(64)))) == 1


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("taro@example.com called", "[e-mail] called"),
        ("090-1234-5678", "[telephone]"),
        ("+81 9012345678", "[telephone]"),
        ("2026-03-22", "2026-03-22"),
        ("1,234,567", "1,234,567"),
        ("EV2026-014_meta", "EV2026-014_meta"),
    ],
)
def test_scrubbing(text, kept):
    assert scrub(text) == kept


def test_quarantine_says_where_and_why(read, settings, engine):
    read(PERSONAL)
    rows = quarantine_rows(engine, settings.organisation)
    assert {(r["row_number"], r["reason_code"]) for r in rows} == {
        (4, "not_a_date"),
        (5, "unknown_status"),
        (6, "too_many_cells"),
    }
    assert {r["file"] for r in rows} == {"list.csv"}
