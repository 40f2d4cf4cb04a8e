"""Lists of connpass, Peatix, Doorkeeper, Eventbrite, Luma and others: the platform's own counts, and nobody's name."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from pydantic import SecretStr

from expectations.gate import make_gate
from ingestion.api import ingest_paths, ingest_source, totals
from ingestion.explaining import explain
from ingestion.layouts import Context, recognise
from ingestion.reading import open_tables
from ingestion.records import Record, Rejected, Total, Uncounted
from ingestion.registration_dates import odd_days
from ingestion.registration_words import load_words, ticket_key
from turnout.errors import ConfigurationError
from turnout.identity import event_key
from turnout.quality import accept_everything
from turnout.settings import Settings
from turnout.warehouse import tables as wh

LISTS = Path(__file__).parents[1] / "data" / "exports" / "registrations"
EXPECTED: dict[str, dict[str, Any]] = json.loads((LISTS / "expected.json").read_text(encoding="utf-8"))
FILES = sorted({LISTS / name.split("#")[0] for name in EXPECTED})
PLATFORMS = ("connpass", "peatix", "doorkeeper", "eventbrite", "luma")
T = wh.registration
TODAY = date(2026, 11, 1)


def outcomes(path: Path, *, today: date = TODAY, home: Path | None = None, **more: Any):
    """(layout, outcomes, warnings) of the first table of a file."""
    table = next(iter(open_tables(path, max_line_bytes=1_000_000)))
    layout, _ = recognise(table)
    settings = Settings(
        home=home or path.parent / "home", identity_salt=SecretStr("s" * 32), **more.pop("settings", {})
    )
    context = Context(settings, today=today, **more)
    return layout, list(layout.read(table, context)), context.warnings


@pytest.fixture
def make(tmp_path):
    """Reads text, without a database; returns (layout, outcomes, warnings)."""

    def make(text: str, *, name: str = "list.csv", **options: Any):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return outcomes(path, **options)

    return make


def rows_of(found: list[Any]) -> list[dict[str, Any]]:
    return [o.values for o in found if isinstance(o, Record)]


@pytest.fixture
def read(settings: Settings, engine: sa.Engine):
    """Reads files into the warehouse and returns (reports, rows of ``registration``)."""

    def read(*paths: Path, gate=accept_everything, **options: Any):
        report = ingest_paths(paths, settings=settings, engine=engine, gate=gate, trigger="test", **options)
        with engine.connect() as connection:
            found = connection.execute(sa.select(T).order_by(T.c.event_label, T.c.date, T.c.line)).all()
        return report.files, found

    return read


@pytest.fixture
def event(settings: Settings, engine: sa.Engine):
    """Puts an event into the warehouse."""

    def event(name: str, day: date, notes: str = "") -> str:
        key = event_key(settings.organisation, name, day)
        with engine.begin() as connection:
            connection.execute(
                sa.insert(wh.event).values(
                    event_id=key, organisation=settings.organisation, source="spreadsheet", account="", run_id=_RUN,
                    fetched_at=datetime.now(UTC), name=name, event_date=day, time_zone="Asia/Tokyo", category="other",
                    format="online", currency="JPY", notes=notes,
                )
            )  # fmt: skip
        return key

    return event


_RUN = "00000000-0000-0000-0000-000000000001"

# --- the samples ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.name)
def test_each_list_counts_what_the_platform_counts(file, read, settings, engine):
    reports, rows = read(file)
    assert [r.status for r in reports] == ["loaded"] * len(reports)
    sums = totals(engine, settings.organisation)
    for report in reports:
        expected = EXPECTED[report.name]
        mine = [r for r in rows if r.file_id == _file_id(engine, report)]
        assert report.layout == expected["layout"]
        assert (report.rows_loaded, report.rows_quarantined) == (expected["rows"], expected["quarantined"])
        assert report.rows_total == expected["uncounted"] + expected["totals"]
        for status in ("confirmed", "cancelled", "waitlist"):
            assert sums[report.name][status] == expected[status], status
        people = Counter({True: 0, False: 0})
        for r in mine:
            people[r.attended] += r.quantity if r.status == "confirmed" else 0
        assert people[True] == expected["attended"]
        assert people[False] == expected["absent"]
        assert people[None] == expected["attendance_unknown"]
        assert [str(min(r.date for r in mine)), str(max(r.date for r in mine))] == [expected["first"], expected["last"]]
        assert sorted({r.event_label for r in mine}) == expected["events"]
        assert dict(sorted(Counter(r.tactic_id for r in mine if r.tactic_id).items())) == expected["tactics"]
        assert len({r.registrant_hash for r in mine}) == expected["people"]


def _file_id(engine: sa.Engine, report: Any) -> str:
    f = wh.ingest_file
    with engine.connect() as connection:
        return connection.execute(
            sa.select(f.c.file_id).where(f.c.path == str(report.path), f.c.sheet == (report.sheet or ""))
        ).scalar_one()


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.name)
def test_reading_a_list_twice_or_in_windows_changes_nothing(file, read, settings, engine):
    def content(rows):
        return [tuple(v for c, v in r._mapping.items() if c not in ("run_id", "fetched_at", "file_id")) for r in rows]

    before = content(read(file)[1])
    assert content(read(file)[1]) == before
    with engine.begin() as connection:
        connection.execute(sa.delete(T))
    settings.inbox_path.mkdir(parents=True)
    (settings.inbox_path / file.name).write_bytes(file.read_bytes())
    for first, last in (((2026, 5, 1), (2026, 12, 31)), ((2000, 1, 1), (2025, 6, 30)), ((2025, 7, 1), (2026, 4, 30))):
        ingest_source(
            "registrations", date(*first), date(*last), settings=settings, engine=engine, gate=accept_everything
        )
    with engine.connect() as connection:
        rows = connection.execute(sa.select(T).order_by(T.c.event_label, T.c.date, T.c.line)).all()
    assert content(rows) == before


def test_the_gate_accepts_every_sample(read, settings):
    gate = make_gate(settings)
    for file in FILES:
        reports, _ = read(file, gate=gate)
        assert [(r.name, r.problems) for r in reports if r.rows_quarantined] == []


@pytest.mark.parametrize("file", [f for f in FILES if f.suffix == ".csv"], ids=lambda p: p.name)
def test_a_list_is_known_by_its_columns_alone(file, tmp_path):
    layout, found, _ = outcomes(file, home=tmp_path)
    table = next(iter(open_tables(file, max_line_bytes=1_000_000)))
    text = file.read_bytes().decode(table.encoding or "utf-8").lstrip("\ufeff")
    lines = list(csv.reader(io.StringIO(text), delimiter=table.delimiter or ","))
    turned = [[*line[1:], line[0]] for line in lines if len(line) == len(lines[0])][::-1]
    turned.insert(0, turned.pop())
    other = tmp_path / "whatever.csv"
    with other.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows(turned)
    again, others, _ = outcomes(other)
    assert again.name == layout.name == EXPECTED[file.name]["layout"]
    count = Counter((v["date"], v["status"], v["quantity"], v["attended"]) for v in rows_of(found))
    assert Counter((v["date"], v["status"], v["quantity"], v["attended"]) for v in rows_of(others)) == count


def test_every_row_of_a_list_is_one_outcome(tmp_path):
    for file in FILES:
        for table in open_tables(file, max_line_bytes=1_000_000):
            layout, _ = recognise(table)
            found = list(layout.read(table, Context(Settings(home=tmp_path), today=TODAY)))
            assert [o.row for o in found] == [row.number for row in table.rows()]


# --- states -----------------------------------------------------------------------------------------------------------

HEADERS = {
    "connpass": "参加枠名,参加ステータス,更新日時,受付番号",
    "peatix": "チケット名,ステータス,注文日時,販売ID,ユーザーID",
    "doorkeeper": "Ticket type,Status,Registered at,Ticket number",
    "eventbrite": "Ticket Type,Attendee Status,Order Date,Order #,Attendee #",
    "luma": "ticket_name,approval_status,created_at,api_id",
}


def one(make, platform: str, status: str):
    header = HEADERS[platform]
    row = ["General", status, "2026-03-01 10:00", "1001", "55"][: header.count(",") + 1]
    layout, found, warnings = make(f"{header}\n{','.join(row)}\n")
    assert layout.name == f"registrations.{platform}"
    return found[0], warnings


@pytest.mark.parametrize(
    ("platform", "status", "meaning"),
    [
        ("connpass", "参加", "confirmed"), ("connpass", "参加者", "confirmed"),
        ("connpass", "参加キャンセル", "cancelled"), ("connpass", "キャンセル者", "cancelled"),
        ("connpass", "補欠", "waitlist"), ("connpass", "補欠参加者", "waitlist"),
        ("connpass", "抽選中", "waitlist"), ("connpass", "落選", "cancelled"),
        ("peatix", "支払い済み", "confirmed"), ("peatix", "支払済", "confirmed"), ("peatix", "無料", "confirmed"),
        ("peatix", "支払い待ち", "waitlist"), ("peatix", "期限切れ", "cancelled"),
        ("peatix", "キャンセル済み", "cancelled"),
        ("peatix", "10", "confirmed"), ("peatix", "0", "waitlist"), ("peatix", "20", "cancelled"),
        ("peatix", "-10", "waitlist"),
        ("doorkeeper", "Registered", "confirmed"), ("doorkeeper", "Waiting", "waitlist"),
        ("doorkeeper", "Canceled", "cancelled"), ("doorkeeper", "キャンセル待ち", "waitlist"),
        ("eventbrite", "Attending", "confirmed"), ("eventbrite", "Checked In", "confirmed"),
        ("eventbrite", "Not Attending", "cancelled"), ("eventbrite", "Deleted", "cancelled"),
        ("eventbrite", "Transferred", "cancelled"), ("eventbrite", "Refunded", "cancelled"),
        ("eventbrite", "Partially Refunded", "confirmed"), ("eventbrite", "Pending", "waitlist"),
        ("eventbrite", "Fez check-in", "confirmed"),
        ("luma", "approved", "confirmed"), ("luma", "pending_approval", "waitlist"), ("luma", "waitlist", "waitlist"),
        ("luma", "declined", "cancelled"),
    ],
)  # fmt: skip
def test_what_each_platform_calls_a_state(make, platform, status, meaning):
    outcome, _ = one(make, platform, status)
    assert isinstance(outcome, Record)
    assert outcome.values["status"] == meaning


@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_unknown_state_is_quarantined_with_the_words_allowed(make, platform):
    outcome, _ = one(make, platform, "half-decided")
    assert isinstance(outcome, Rejected)
    (problem,) = outcome.problems
    assert problem.code == "unknown_status"
    assert "'half-decided' is not a known status; allowed are confirmed, attended, no-show, cancelled, waitlist" in (
        problem.message
    )
    assert "statuses.yaml in the home folder adds words" in problem.message
    assert problem.row == 2


def test_an_organisers_own_words_decide(make, tmp_path):
    home = tmp_path / "mine"
    home.mkdir()
    (home / "statuses.yaml").write_text(
        "confirmed: {en: [half-decided]}\ncancelled: {ja: [確定]}\ncounted: {ja: [登壇者]}\nstaff: {en: [crowd]}\n",
        encoding="utf-8",
    )
    text = "申込日時,ステータス,チケット種別\n2026-03-01,{},{}\n"
    for status, ticket, expected in (
        ("half-decided", "一般", "confirmed"),
        ("確定", "一般", "cancelled"),
        ("参加", "登壇者枠", "confirmed"),
        ("参加", "crowd", Uncounted),
        ("参加", "運営枠", Uncounted),
    ):
        _, found, _ = make(text.format(status, ticket), home=home)
        outcome = found[0]
        assert (outcome.values["status"] if isinstance(outcome, Record) else type(outcome)) == expected
    (home / "statuses.yaml").write_text("maybe: {en: [perhaps]}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="it has maybe"):
        load_words(home)
    (home / "statuses.yaml").write_text("confirmed: [perhaps\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="is not YAML"):
        load_words(home)


def test_people_who_were_only_invited_are_no_registrations(make):
    for platform, status in (("luma", "invited"), ("eventbrite", "Abandoned"), ("doorkeeper", "招待済み")):
        outcome, warnings = one(make, platform, status)
        assert isinstance(outcome, Uncounted), status
        assert "1 rows are of people who were invited or did not finish, and are no registrations" in warnings


@pytest.mark.parametrize(
    ("ticket", "is_staff"),
    [
        ("運営枠", True), ("運営スタッフ枠（現地）", True), ("登壇者", True), ("スピーカー用チケット", True),
        ("Speaker pass", True),
        ("STAFF", True), ("Volunteer ticket", True), ("Moderator", True),
        ("LT枠", False), ("ブログ枠", False), ("一般", False), ("スピーカーと話せる席", False), ("Staff pick", False),
        ("招待", False), ("Complimentary", False), ("学生スタッフ割引", False), ("Speakers' dinner", False),
    ],
)  # fmt: skip
def test_staff_and_speakers_are_not_registrations(make, ticket, is_staff):
    _, found, warnings = make(f"申込日時,ステータス,チケット種別\n2026-03-01,参加,{ticket}\n2026-03-02,参加,一般\n")
    assert isinstance(found[0], Uncounted) is is_staff, ticket_key(ticket)
    assert any("staff or speakers" in w and ticket in w for w in warnings) is is_staff


def test_test_orders_are_not_registrations_and_complimentary_tickets_are(make):
    _, found, warnings = make(
        "Order #,Order Date,Ticket Type,Attendee #,Order Type,Attendee Status\n"
        "1,2026-03-01 10:00,General,1,Test order,Attending\n"
        "2,2026-03-01 10:00,テスト,2,Free Order,Attending\n"
        "3,2026-03-01 10:00,General,3,Complimentary,Attending\n"
        "4,2026-03-01 10:00,Testing Conference pass,4,Paid Order,Attending\n"
    )
    assert [type(o) for o in found] == [Uncounted, Uncounted, Record, Record]
    assert "2 rows (Test order 1, テスト 1) are tests and are not counted as registrations" in warnings


def test_an_order_that_is_cancelled_or_unpaid_decides_over_its_attendee(make):
    _, found, _ = make(
        "Order #,Order Date,Attendee #,Attendee Status,Order Status\n"
        "1,2026-03-01,1,Attending,Completed\n2,2026-03-01,2,Attending,Refunded\n3,2026-03-01,3,Attending,Unpaid\n"
        "4,2026-03-01,4,Not Attending,Completed\n5,2026-03-01,5,,Completed\n6,2026-03-01,6,Attending,Abandoned\n"
    )
    states = [o.values["status"] if isinstance(o, Record) else "none" for o in found]
    assert states == ["confirmed", "cancelled", "waitlist", "cancelled", "confirmed", "none"]


# --- attendance -------------------------------------------------------------------------------------------------------

CONNPASS = "参加枠名,参加ステータス,出欠ステータス,更新日時,受付番号\n"


def test_a_list_without_a_single_check_in_knows_nothing_of_attendance(make):
    rows = "".join(f"一般,参加,欠席,2026年3月{d}日 10時00分,{d}\n" for d in range(1, 9))
    _, found, warnings = make(CONNPASS + rows)
    assert {v["attended"] for v in rows_of(found)} == {None}
    assert "none of 8 confirmed registrations is checked in" in warnings[0]


def test_with_check_ins_the_others_stayed_away_and_the_cancelled_are_not_asked(make):
    _, found, _ = make(
        CONNPASS + "一般,参加,出席,2026年3月1日 10時00分,1\n一般,参加,欠席,2026年3月2日 10時00分,2\n"
        "一般,参加,,2026年3月3日 10時00分,3\n一般,参加キャンセル,欠席,2026年3月4日 10時00分,4\n"
        "一般,補欠,,2026年3月4日 10時00分,5\n"
    )
    assert [v["attended"] for v in rows_of(found)] == [True, False, False, None, None]


def test_each_kind_of_ticket_speaks_for_itself_once_it_is_large(make):
    header = "ticket_name,approval_status,created_at,api_id,checked_in_at\n"
    rows = [f"On site,approved,2026-03-01T10:00:00Z,a{n},{'2026-04-01T10:00:00Z' if n < 6 else ''}" for n in range(10)]
    rows += [f"Online,approved,2026-03-01T10:00:00Z,b{n}," for n in range(5)]
    rows += [f"Press,approved,2026-03-01T10:00:00Z,c{n}," for n in range(2)]
    _, found, _ = make(header + "\n".join(rows) + "\n")
    came = {t: Counter(v["attended"] for v in rows_of(found) if v["ticket_type"] == t) for t in ("On site", "Online")}
    assert came == {"On site": {True: 6, False: 4}, "Online": {None: 5}}
    assert {v["attended"] for v in rows_of(found) if v["ticket_type"] == "Press"} == {False}


def test_a_few_check_ins_among_many_are_chance(make):
    header = "ticket_name,approval_status,created_at,api_id,checked_in_at\n"
    rows = [f"All,approved,2026-03-01T10:00:00Z,a{n},{'2026-04-01T10:00:00Z' if n < 2 else ''}" for n in range(50)]
    _, found, warnings = make(header + "\n".join(rows) + "\n")
    assert {v["attended"] for v in rows_of(found)} == {None}
    assert "2 check-ins among 50 All: too few to be a record of attendance, which is left unknown" in warnings


def test_a_list_kept_by_hand_in_which_all_are_absent_was_never_filled_in(make):
    _, found, _ = make("申込日時,ステータス,参加\n" + "2026-03-01,確定,×\n" * 6)
    assert {v["attended"] for v in rows_of(found)} == {None}
    _, found, _ = make("申込日時,ステータス,参加\n2026-03-01,確定,×\n2026-03-02,確定,○\n2026-03-03,確定,\n")
    assert [v["attended"] for v in rows_of(found)] == [False, True, None]


def test_nobody_has_attended_an_event_that_lies_ahead(make):
    header = "Order #,Order Date,Attendee #,Attendee Status,Event Date\n"
    ahead = (TODAY + timedelta(days=20)).isoformat()
    rows = "".join(f"{n},2026-10-0{n},{n},Checked In,{ahead}\n" for n in range(1, 5))
    _, found, warnings = make(header + rows)
    assert {v["attended"] for v in rows_of(found)} == {None}
    assert warnings[0] == f"the event lies ahead ({ahead}), so nobody's attendance is known yet"
    _, found, _ = make(header + rows.replace(ahead, "2026-10-20"))
    assert {v["attended"] for v in rows_of(found)} == {True}


def test_an_event_ahead_in_the_warehouse_counts_too(read, event, tmp_path):
    text = "イベント名,申込日時,ステータス,参加\n" + "".join(f"未来会議,2026-0{n}-01,確定,○\n" for n in range(1, 5))
    path = tmp_path / "list.csv"
    path.write_text(text, encoding="utf-8")
    assert {r.attended for r in read(path)[1]} == {True}
    event("未来会議", datetime.now(UTC).date() + timedelta(days=30))
    reports, rows = read(path)
    assert {r.attended for r in rows} == {None}
    assert any("lies ahead" in w for w in reports[0].warnings)


# --- orders -----------------------------------------------------------------------------------------------------------


def test_several_tickets_of_one_order_are_several_people(read, settings, tmp_path):
    path = tmp_path / "attendees.csv"
    path.write_text(
        "Order #,Order Date,Email,Quantity,Ticket Type,Attendee #,Attendee Status\n"
        "77,2026-03-01 10:00,buyer@example.com,1,General,1,Attending\n"
        "77,2026-03-01 10:00,buyer@example.com,1,General,2,Attending\n"
        "77,2026-03-01 10:00,buyer@example.com,1,General,3,Attending\n"
        "78,2026-03-09 10:00,Buyer@Example.com,1,General,4,Attending\n"
    )
    reports, rows = read(path, gate=make_gate(settings))
    assert reports[0].problems == []
    assert [r.quantity for r in rows] == [1, 1, 1, 1]
    assert len({r.registrant_hash for r in rows}) == 3
    assert rows[0].registrant_hash == rows[3].registrant_hash
    assert "1 people are confirmed more than once for one event" in " ".join(reports[0].warnings)


def test_the_same_row_twice_is_one_registration(read, settings, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(
        "registered_at,event,email,ticket_type,status\n" + "2026-03-01 10:00,A,one@example.com,early,confirmed\n" * 2
    )
    reports, rows = read(path, gate=make_gate(settings))
    assert [(p.row, p.code) for p in reports[0].problems] == [(3, "duplicate")]
    assert len(rows) == 1


def test_an_orders_number_of_tickets_is_taken_once(make):
    header = "販売ID,ユーザーID,注文日時,チケット名,枚数,チケットID,ステータス\n"
    _, found, warnings = make(
        header
        + "S1,u1,2026/5/1 9:00,一般,3,T1,無料\nS1,u1,2026/5/1 9:00,一般,3,T2,無料\nS1,u1,2026/5/1 9:00,一般,3,T3,無料\n"
        "S2,u2,2026/5/1 9:00,一般,2,T4,無料\nS3,u3,2026/5/1 9:00,一般,2,T5,無料\nS3,u3,2026/5/1 9:00,学生,1,T6,無料\n"
    )
    assert [v["quantity"] for v in rows_of(found)] == [1, 1, 1, 2, 2, 1]
    assert "3 rows repeat the number of tickets of their whole order; each counts as one" in warnings


def test_whoever_cancelled_and_came_back_is_two_rows_and_a_later_list_replaces(read, tmp_path):
    header = "登録日時,イベント名,メールアドレス,ステータス\n"
    path = tmp_path / "list.csv"
    path.write_text(header + "2026/3/1 10:00,A,one@example.com,確定\n2026/3/2 10:00,A,two@example.com,確定\n")
    read(path)
    later = tmp_path / "list (1).csv"
    later.write_text(
        header + "2026/3/1 10:00,A,one@example.com,キャンセル\n2026/3/2 10:00,A,two@example.com,確定\n"
        "2026/3/5 10:00,A,one@example.com,確定\n2026/3/6 10:00,A,three@example.com,確定\n"
    )
    _, rows = read(path, later)
    assert [(r.date.day, r.status) for r in rows] == [
        (1, "cancelled"), (2, "confirmed"), (5, "confirmed"), (6, "confirmed")
    ]  # fmt: skip
    assert rows[0].registrant_hash == rows[2].registrant_hash


def test_sheets_with_one_state_each_are_one_list(read, tmp_path):
    from openpyxl import load_workbook

    source = LISTS / "doorkeeper_ja.xlsx"
    path = tmp_path / "group-tickets-1.xlsx"
    path.write_bytes(source.read_bytes())
    _, rows = read(path)
    assert Counter(r.status for r in rows) == {"confirmed": 5, "cancelled": 2, "waitlist": 1}
    assert len({(r.date, r.line) for r in rows}) == 8
    book = load_workbook(path)
    book["参加者"].delete_rows(6)
    book["キャンセル"].delete_rows(2, 2)
    book.save(path)
    _, rows = read(path)
    assert Counter(r.status for r in rows) == {"confirmed": 4, "waitlist": 1}
    # a list with states of its own is not added to: the sheet read last has the day
    book = load_workbook(path)
    for sheet in book:
        sheet["G1"] = "ステータス"
        for row in range(2, sheet.max_row + 1):
            sheet.cell(row, 7).value = "確定"
            sheet.cell(row, 5).value = "2026-07-01 10:00:00 +0900"
    book.save(path)
    _, rows = read(path)
    assert Counter(r.status for r in rows) == {"confirmed": 1}


# --- times ------------------------------------------------------------------------------------------------------------


def test_times_without_an_offset_are_the_platforms_and_days_the_installations(make):
    berlin = {"settings": {"time_zone": "Europe/Berlin"}}
    _, found, _ = make("参加枠名,参加ステータス,更新日時,受付番号\n一般,参加,2026年3月2日 01時00分,1\n", **berlin)
    (row,) = rows_of(found)
    assert (row["registered_at"], row["date"]) == (datetime(2026, 3, 1, 16, tzinfo=UTC), date(2026, 3, 1))
    _, found, _ = make("api_id,approval_status,created_at\ng1,approved,2026-03-01T23:30:00.000Z\n", **berlin)
    (row,) = rows_of(found)
    assert (row["registered_at"], row["date"]) == (datetime(2026, 3, 1, 23, 30, tzinfo=UTC), date(2026, 3, 2))
    text = "Order #,Order Date,Attendee #,Event Timezone\n1,2026-03-01 22:00,1,{}\n"
    for zone, at in (("America/New_York", 27), ("Asia/Tokyo", 13), ("", 21), ("Nowhere/At_All", 21)):
        _, found, _ = make(text.format(zone), **berlin)
        assert rows_of(found)[0]["registered_at"] == datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=at), zone
    _, found, _ = make("販売ID,ユーザーID,注文日時,チケット名\nS1,u1,2026/03/01 09:00,一般\n", **berlin)
    assert rows_of(found)[0]["registered_at"] == datetime(2026, 3, 1, tzinfo=UTC)


def test_a_registration_of_a_day_to_come_is_refused_with_the_likely_year(make):
    later = (TODAY + timedelta(days=60)).replace(day=15)
    _, found, _ = make(
        f"registered_at,status\n2026-10-01,confirmed\n{later},confirmed\n{TODAY + timedelta(days=1)},ok\n"
    )
    assert [type(o) for o in found] == [Record, Rejected, Record]
    (problem,) = found[1].problems
    assert (problem.code, problem.row, problem.column) == ("date_in_future", 3, "registered_at")
    assert problem.message.endswith(f"probably {later.replace(year=later.year - 1)} is meant")


def test_a_year_unlike_all_others_is_named_with_its_row(make):
    rows = "".join(f"2026-01-{d:02d},confirmed\n" for d in range(5, 25))
    _, found, warnings = make(f"registered_at,status\n{rows}2025-01-25,confirmed\n")
    assert len(rows_of(found)) == 21
    assert warnings[0] == (
        "row 22, column registered_at: 2025-01-25 is far from all others (2026-01-05 to 2026-01-24); probably "
        "2026-01-25 is meant"
    )
    # two seasons of one list are no mistake
    many = "".join(f"2025-01-{d:02d},confirmed\n" for d in range(5, 25))
    _, _, warnings = make(f"registered_at,status\n{rows}{many}")
    assert not any("far from" in w for w in warnings)


def test_days_after_the_event_and_long_before_it_are_named(read, event, tmp_path):
    event("Summit", date(2026, 6, 20))
    path = tmp_path / "list.csv"
    path.write_text(
        "registered_at,event,status\n2026-06-01,Summit,confirmed\n2026-06-21,Summit,confirmed\n"
        "2025-06-02,Summit,confirmed\n2026-07-03,Summit,confirmed\n2024-06-10,Summit,confirmed\n"
    )
    reports, rows = read(path)
    assert len(rows) == 5
    named = [w for w in reports[0].warnings if w.startswith("row")]
    assert named == [
        "row 4, column registered_at: 2025-06-02 is more than a year before the event on 2026-06-20; probably "
        "2026-06-02 is meant",
        "row 5, column registered_at: 2026-07-03 is after the event on 2026-06-20; probably 2025-07-03 is meant",
        "row 6, column registered_at: 2024-06-10 is more than a year before the event on 2026-06-20; probably "
        "2026-06-10 is meant",
    ]


def test_a_corrected_year_leaves_nothing_of_the_wrong_one(read, tmp_path):
    path = tmp_path / "list.csv"
    text = "登録日時,イベント名,メールアドレス,ステータス\n" + "".join(
        f"2026/2/{d} 10:00,A,p{d}@example.com,確定\n" for d in range(1, 9)
    )
    path.write_text(text + "2025/2/9 10:00,A,p9@example.com,確定\n", encoding="utf-8")
    reports, rows = read(path)
    assert any("probably 2026-02-09 is meant" in w for w in reports[0].warnings)
    assert len(rows) == 9
    path.write_text(text + "2026/2/9 10:00,A,p9@example.com,確定\n", encoding="utf-8")
    _, rows = read(path)
    assert [r.date for r in rows] == [date(2026, 2, d) for d in range(1, 10)]
    # a list that goes back less far now takes nothing away of other people
    path.write_text(text[: text.index("2026/2/1 ")] + "2026/2/20 10:00,A,p20@example.com,確定\n", encoding="utf-8")
    assert len(read(path)[1]) == 10


def test_odd_days_without_neighbours_or_events_are_not_doubted():
    assert odd_days({}, (), TODAY) == {}
    assert odd_days({date(2024, 2, 29): 1}, (), TODAY) == {}
    assert odd_days({date(2024, 2, 29): 3, date(2025, 2, 28): 1}, (), TODAY)[date(2025, 2, 28)].likely == date(
        2024, 2, 28
    )
    assert odd_days({date(2020, 1, 1): 1, date(2026, 6, 1): 1}, (), TODAY) == {}


# --- origins ----------------------------------------------------------------------------------------------------------


def test_paid_and_posted_links_of_one_platform_are_two_tactics(read, tmp_path):
    path = tmp_path / "guests.csv"
    path.write_text(
        "api_id,created_at,approval_status,utm_source,utm_medium\n"
        "a,2026-03-01T00:00:00Z,approved,facebook,cpc\nb,2026-03-02T00:00:00Z,approved,facebook,social\n"
        "c,2026-03-03T00:00:00Z,approved,google,organic\nd,2026-03-04T00:00:00Z,approved,,\n"
    )
    _, rows = read(path)
    assert [(r.source_label, r.tactic_id) for r in rows] == [
        ("utm_source=facebook&utm_medium=cpc", "meta_ads"),
        ("utm_source=facebook&utm_medium=social", "own_social"),
        ("utm_source=google&utm_medium=organic", None),
        (None, None),
    ]


@pytest.mark.parametrize(
    "question",
    ["どこからこのイベントを知りましたか？", "何でこのセミナーを知りましたか", "参加のきっかけ", "認知経路",
     "How did you hear about this event?", "Where did you hear about us",
     "¿Cómo te enteraste del evento?", "Como ficou sabendo do evento?",
     "Wie haben Sie von uns erfahren?", "Comment avez-vous connu cet événement ?"],
)  # fmt: skip
def test_a_forms_question_is_an_origin_but_what_people_wrote_is_not_kept(make, question):
    answers = [
        "Newsletter",
        "Newsletter",
        "Newsletter",
        "山田太郎さんの紹介",
        "Taro told me in the bar",
        "Facebook広告",
        "",
    ]
    rows = "".join(f"2026-03-0{n},confirmed,{answer}\n" for n, answer in enumerate(answers, 1))
    _, found, warnings = make(f"registered_at,status,{question}\n{rows}")
    labels = [v["source_label"] for v in rows_of(found)]
    assert labels == ["Newsletter", "Newsletter", "Newsletter", "referral", None, "meta_ads", None]
    assert any("1 answers to" in w and "are not kept" in w for w in warnings)


def test_of_an_address_only_site_and_utm_parameters_are_kept(make):
    _, found, _ = make(
        "registered_at,status,Referrer URL\n"
        "2026-03-01,ok,https://l.facebook.com/l.php?u=x&fbclid=SECRET\n"
        "2026-03-02,ok,https://user:SECRET@example.com/me?utm_source=x&utm_medium=cpc&token=SECRET\n"
        "2026-03-03,ok,https://user:SECRET@example.com/SECRET\n"
    )
    labels = [v["source_label"] for v in rows_of(found)]
    assert labels == ["https://l.facebook.com/", "utm_source=x&utm_medium=cpc", "https://example.com/"]


# --- events -----------------------------------------------------------------------------------------------------------


def test_a_list_that_names_no_event_says_how_to_name_it(read, tmp_path):
    path = tmp_path / "event_375981_participants.csv"
    path.write_bytes((LISTS / "connpass_ja.csv").read_bytes())
    reports, rows = read(path)
    (said,) = [w for w in reports[0].warnings if "names no event" in w]
    assert "--event NAME" in said
    assert "folder" in said
    assert "'event_375981_participants' is not trusted" in said
    assert {r.event_label for r in rows} == {""}
    reports, _ = read(path, event="EV-1")
    assert not any("names no event" in w for w in reports[0].warnings)


def test_a_folder_called_after_the_event_names_it(read, event, settings):
    first, second = event("朝会 第1回", date(2026, 5, 20)), event("朝会 第2回", date(2026, 5, 21))
    for name in ("朝会 第1回", "朝会 第2回"):
        folder = settings.inbox_path / name
        folder.mkdir(parents=True)
        (folder / "participants.csv").write_bytes((LISTS / "connpass_ja.csv").read_bytes())
    _, rows = read(settings.inbox_path)
    assert Counter((r.account, r.event_id) for r in rows) == {("朝会 第1回", first): 13, ("朝会 第2回", second): 13}


def test_lumas_id_keeps_lists_apart_and_finds_the_event_whose_notes_have_it(read, event):
    luma, utm = LISTS / "luma.csv", LISTS / "luma_utm.csv"
    mine = event("Guests of ours", date(2026, 4, 25), notes="https://luma.com/event/manage/evt-SampleAB12")
    event("Another one", date(2026, 5, 30))
    _, rows = read(luma, utm)
    assert {r.event_label: r.event_id for r in rows}["evt-SampleAB12"] == mine
    assert len(rows) == EXPECTED["luma.csv"]["rows"] + EXPECTED["luma_utm.csv"]["rows"]
    _, rows = read(luma, event="Guests of ours")
    assert {r.event_id for r in rows if r.event_label == "Guests of ours"} == {mine}


# --- persons ----------------------------------------------------------------------------------------------------------

CANARY = "canary"
PHONE = "090-7777-1234"
#: Columns that hold what is kept: a state, a time, a label.
KEPT = frozenset((
    "registered_at", "status", "order_status", "attended", "checked_in_at", "ticket_type", "quantity", "source",
    "utm_source", "utm_medium", "utm_campaign", "event", "event_code", "event_day", "time_zone", "order_kind",
))  # fmt: skip


def poisoned(file: Path, target: Path) -> None:
    """A list with somebody in every cell that is no label, and rows that are broken in every way."""
    table = next(iter(open_tables(file, max_line_bytes=1_000_000)))
    _, match = recognise(table)
    fields = {column.index: name for name, column in match.fields.items()}
    lines = [["" if c is None else str(c) for c in row.cells] for row in table.rows()]
    for number, line in enumerate(lines):
        for index in range(len(line)):
            name = fields.get(index)
            if name in KEPT:
                continue
            kind = "email" if name in ("email", "buyer_email") else name
            line[index] = {
                "email": f"{CANARY}{number}@{CANARY}.example",
                "check_in_url": f"https://luma.com/check-in/evt-{'a' * 8}?pk={CANARY}{number}",
                "heard": f"{CANARY} {number} told me, {PHONE}",
                "order_id": f"{CANARY}-{number}",
            }.get(kind or "", f"{CANARY} 太郎 {index} {number} {PHONE}")
    index = {name: column.index for name, column in match.fields.items()}
    bad = [list(lines[0]) for _ in range(5)]
    bad[0][index["registered_at"]] = f"{CANARY} 花子"
    bad[1] = [*bad[1][1:], ""]
    bad[2] = ["", *bad[2][:-1]]
    bad[3] = [*bad[3], f"{CANARY} one too many"]
    bad[4][index["registered_at"]] = "2026-99-99"
    with target.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([[c.name for c in table.columns], *lines, *bad])


def everything_stored(engine: sa.Engine) -> str:
    """The whole database, as a dump would hold it."""
    with engine.connect() as connection:
        names = connection.execute(
            sa.text(
                "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables WHERE "
                "table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
            )
        ).scalars()
        return "\n".join(
            "\n".join(connection.execute(sa.text(f"SELECT t::text FROM {name} t")).scalars()) for name in list(names)
        )


@pytest.mark.parametrize("file", [f for f in FILES if f.suffix == ".csv"], ids=lambda p: p.name)
def test_nobody_reaches_any_output(file, settings, engine, tmp_path, monkeypatch, caplog, capfd):
    import ingestion.api
    from ingestion.staging import Staged

    spooled: list[bytes] = []

    class Watched(Staged):
        def __init__(self, folder: Path) -> None:
            super().__init__(folder, batch_rows=2)

        def __exit__(self, *error: object) -> None:
            spooled.extend(p.read_bytes() for p in settings.home_path.rglob("tmp/*/*"))
            super().__exit__(*error)  # type: ignore[arg-type]

    monkeypatch.setattr(ingestion.api, "Staged", Watched)
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "list.csv"
    poisoned(file, path)
    # the real gate quotes values too; it is slow to build, so two lists stand for all
    gate = make_gate(settings) if file.name in ("list_ja.csv", "luma.csv") else accept_everything
    with structlog.testing.capture_logs() as logged:
        report = ingest_paths([path], settings=settings, engine=engine, gate=gate, trigger="test")
    (one,) = report.files
    assert one.layout == EXPECTED[file.name]["layout"]
    assert one.rows_loaded >= EXPECTED[file.name]["rows"] - 1
    assert one.rows_quarantined >= 3
    printed = capfd.readouterr()
    outputs = {
        "database": everything_stored(engine),
        "spool": b"".join(spooled).decode("utf-8", "replace") + b"".join(spooled).decode("utf-16-le", "replace"),
        "home": "".join(
            str(p.relative_to(settings.home_path)) + p.read_bytes().decode("utf-8", "replace")
            for p in settings.home_path.rglob("*") if p.is_file()
        ),
        "log": repr(logged) + caplog.text + printed.out + printed.err,
        "report": repr(report),
    }  # fmt: skip
    for where, text in outputs.items():
        for secret in (CANARY, PHONE, PHONE.replace("-", ""), "花子"):
            at = text.lower().find(secret)
            assert at < 0, (where, text[max(0, at - 200) : at + 100])


def test_a_list_without_headers_is_refused_without_telling_who_is_in_it(read, tmp_path, engine):
    path = tmp_path / "list.csv"
    path.write_text("見本太郎,taro@example.com,090-1234-5678\n見本花子,hanako@example.com,090-1234-5679\n" * 3)
    reports, _ = read(path)
    assert reports[0].status == "refused"
    assert "the row of headers is missing" in reports[0].problems[0].message
    for text in (repr(reports), everything_stored(engine)):
        assert "見本" not in text
        assert "taro@" not in text


def test_explaining_shows_states_and_times_and_nobody(tmp_path):
    path = tmp_path / "guests.csv"
    path.write_text(
        "api_id,name,email,created_at,approval_status,Where did you hear of us?,Emergency number\n"
        "canary-1,Canary,canary@canary.example,2026-03-01T10:00:00Z,pending_approval,canary told me,09077771234\n"
    )
    table = next(iter(open_tables(path, max_line_bytes=1_000_000)))
    layout, _ = recognise(table)
    uses = {u.column: u for u in explain(table, layout, Context(Settings(home=tmp_path), today=TODAY))}
    assert uses["approval_status"].samples == ("waitlist",)
    assert uses["created_at"].samples[0].startswith("2026-03-01")
    assert (uses["Where did you hear of us?"].field, uses["Emergency number"].field) == ("heard", None)
    assert "canary" not in repr(list(uses.values())).lower()
    assert "9077771234" not in repr(list(uses.values()))


def test_one_user_name_on_two_platforms_is_two_people(make):
    _, found, _ = make("参加枠名,ユーザー名,参加ステータス,更新日時,受付番号\n一般,taro,参加,2026年3月1日 10時00分,1\n")
    connpass = rows_of(found)[0]["registrant_hash"]
    _, found, _ = make("販売ID,ユーザーID,注文日時,チケット名\nS1,taro,2026/03/01 09:00,一般\n")
    assert rows_of(found)[0]["registrant_hash"] != connpass
    _, found, _ = make(
        "参加枠名,ユーザー名,参加ステータス,更新日時,受付番号\n一般,(退会ユーザー),参加,2026年3月1日 10時00分,1\n"
        "一般,(退会ユーザー),参加,2026年3月1日 10時00分,2\n"
    )
    assert len({v["registrant_hash"] for v in rows_of(found)}) == 2


def test_totals_of_a_list_are_totals(make):
    _, found, _ = make("申込日時,ステータス,枚数\n2026-03-01,確定,2\n合計,,2\n")
    assert [type(o) for o in found] == [Record, Total]
