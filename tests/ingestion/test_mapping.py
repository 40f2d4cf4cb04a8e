"""What a user ties to events and tactics: rules, suggestions, and the mapping in a spreadsheet."""

from __future__ import annotations

import csv
import io
import itertools
import time
from datetime import UTC, date, datetime
from uuid import UUID

import openpyxl
import pytest
import sqlalchemy as sa
import yaml

from ingestion.api import ingest_paths, link
from ingestion.mapping import (
    add_rule,
    apply,
    find_event,
    find_tactic,
    list_mapped,
    list_rules,
    remove_rules,
    set_mapping,
)
from ingestion.mapping_files import export_mapping, import_mapping
from ingestion.rules import Rule, RuleBook, Subject, check_pattern
from turnout.errors import InputError
from turnout.identity import event_key
from turnout.quality import accept_everything
from turnout.warehouse import tables as wh

RUN = UUID(int=1)
HEADER = "Day,Campaign,Campaign ID,Campaign type,Currency,Cost,Impr.,Clicks\n"
MAIL = "date,category,requests,processed,delivered,opens,unique_opens,clicks,unique_clicks,bounces\n"


class Desk:
    """An organisation whose files are read and whose mapping is looked at."""

    def __init__(self, settings, engine, folder) -> None:
        self.settings, self.engine, self.folder = settings, engine, folder
        self.organisation = settings.organisation
        self.numbers = itertools.count()

    def event(self, name: str, on: date, *, account: str = "", notes: str | None = None) -> str:
        event_id = event_key(self.organisation, name, on)
        with self.engine.begin() as connection:
            connection.execute(
                sa.insert(wh.event).values(
                    event_id=event_id, organisation=self.organisation, source="spreadsheet", account=account,
                    fetched_at=datetime.now(UTC), run_id=RUN, name=name, event_date=on, time_zone="Asia/Tokyo",
                    category="ai_data", format="online", currency="JPY", notes=notes,
                )
            )  # fmt: skip
        return event_id

    def ads(self, *rows: tuple[str, str], day: str = "2026-05-01", account: str = "", cost: int = 1) -> None:
        """Campaigns as (name, id), each with one day."""
        self.read(HEADER + "".join(f'{day},"{n}",{i},Search,JPY,{cost},1,1\n' for n, i in rows), account)

    def read(self, text: str, account: str = "") -> None:
        path = self.folder / f"{next(self.numbers)}.csv"
        path.write_text(text, encoding="utf-8")
        report = ingest_paths(
            [path], settings=self.settings, engine=self.engine, gate=accept_everything, account=account
        )
        assert report.ok, report.refused

    def campaigns(self, *names: str) -> list[tuple]:
        with self.engine.connect() as connection:
            query = sa.select(*[wh.campaign.c[n] for n in names]).order_by(*wh.campaign.primary_key.columns)
            return [tuple(row) for row in connection.execute(query)]

    def link(self):
        return link(self.engine, self.organisation)

    def set(self, name, **parts):
        return set_mapping(self.engine, self.organisation, name, **parts)

    def rule(self, kind: str, pattern: str, **parts):
        return add_rule(self.engine, self.organisation, kind=kind, pattern=pattern, **parts)

    def remove(self, *names: str, **parts):
        return remove_rules(self.engine, self.organisation, names, **parts)

    def listed(self, **parts):
        return list_mapped(self.engine, self.organisation, **parts)

    def file(self, name: str, content: str | bytes):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def take_in(self, path, **parts):
        return import_mapping(self.engine, self.organisation, path, **parts)


@pytest.fixture
def desk(settings, engine, tmp_path) -> Desk:
    return Desk(settings, engine, tmp_path)


# --- rules, without a database ----------------------------------------------------------------------------------------


def decided(rules: list[Rule], *subjects: Subject) -> list[tuple[str | None, str | None]]:
    return [(d.event and d.event.rule_id, d.tactic and d.tactic.rule_id) for d in RuleBook(rules).decide(subjects)]


def named(text: str, *others: str) -> Subject:
    return Subject("google_ads", "a", "1", (text, *others))


@pytest.mark.parametrize(
    ("kind", "pattern", "matching", "other"),
    [
        ("id", "77", Subject("google_ads", "", "77", ("x",)), Subject("google_ads", "", "777", ("77",))),
        ("exact", "ＡＩ  サミット", named("AI サミット"), named("AI サミット 2")),
        ("contains", "ai サミット", named("検索_ＡＩ サミット_x"), named("AI-サミット")),
        ("glob", "EV-1_*_検索", named("ev-1_x_検索"), named("EV-1_x_検索_2")),
        ("glob", "[Brand] ?", named("[brand] x"), named("B x")),
        ("glob", "a.c*", named("a.cd"), named("abcd")),
        ("regex", r"^検索.*第\d+回$", named("検索 第12回"), named("検索 第回")),
        ("regex", "É", named("café"), named("cafe")),
    ],
)
def test_what_a_pattern_matches(kind, pattern, matching, other):
    rule = Rule("r", "", "", kind, pattern, event_id="e")
    assert decided([rule], matching, other) == [("r", None), (None, None)]


def test_rules_are_asked_by_id_then_position_then_precision():
    rules = [
        Rule("late", "", "", "exact", "summit brand", 5, event_id="e"),
        Rule("regex", "", "", "regex", "summit", event_id="e"),
        Rule("short", "", "", "contains", "summit", event_id="e"),
        Rule("long", "", "", "contains", "summit brand", event_id="e"),
        Rule("narrow", "google_ads", "a", "contains", "brand", event_id="e"),
        Rule("id", "", "", "id", "1", 99, event_id="e"),
    ]
    found = []
    while rules:
        [(first, _)] = decided(rules, named("Summit Brand"))
        found.append(first)
        rules = [r for r in rules if r.rule_id != first]
    assert found == ["id", "narrow", "long", "short", "regex", "late"]


def test_event_and_tactic_are_decided_apart_and_only_within_source_and_account():
    rules = [
        Rule("tactic", "", "", "contains", "gdn", tactic_id="google_display"),
        Rule("event", "google_ads", "a", "contains", "summit", event_id="e"),
        Rule("left", "meta_ads", "", "contains", "summit", ignored=True),
    ]
    others = Subject("google_ads", "b", "1", ("Summit GDN",)), Subject("meta_ads", "a", "1", ("Summit",))
    assert decided(rules, named("Summit GDN"), *others) == [("event", "tactic"), (None, "tactic"), ("left", None)]


def test_the_newest_name_goes_before_earlier_ones():
    rules = [
        Rule("old", "", "", "exact", "old", event_id="e1"),
        Rule("new", "", "", "contains", "new", 9, event_id="e2"),
    ]
    assert decided(rules, named("new", "old"), named("other", "old")) == [("new", None), ("old", None)]


@pytest.mark.parametrize(
    ("kind", "pattern", "code", "said"),
    [
        ("regex", "(", "bad_regex", "missing )"),
        ("regex", "(?<=a)b", "bad_regex", "look-around"),
        ("regex", "a" * 201, "pattern_too_long", "201"),
        ("glob", "*", "matches_everything", "narrow it"),
        ("regex", ".*", "matches_everything", "narrow it"),
        ("contains", "  ", "empty_pattern", "empty"),
        ("fuzzy", "x", "unknown_kind", "id, exact, contains, glob, regex"),
    ],
)
def test_patterns_that_cannot_be_rules(kind, pattern, code, said):
    with pytest.raises(InputError) as caught:
        check_pattern(kind, pattern, narrowed=False)
    assert caught.value.problems[0].code == code
    assert said in str(caught.value)


def test_no_pattern_makes_a_search_run_away():
    rules = [Rule("r", "", "", "regex", "(a+)+(a+)+(a+)+$", event_id="e")]
    began = time.monotonic()
    assert decided(rules, named("a" * 5000 + "b")) == [(None, None)]
    assert time.monotonic() - began < 2


def test_many_rules_over_many_campaigns_take_seconds():
    subjects = [Subject("google_ads", "", str(i), (f"EV2026-{i % 2000:04d}_検索_{i}",)) for i in range(20_000)]
    kinds = ("contains", "glob", "regex")
    rules = [
        Rule(f"r{i}", "", "", k, p, event_id=f"e{i}")
        for i in range(20)
        for k, p in zip(kinds, (f"2026-{i:04d}", f"*2026-{i + 20:04d}*", rf"2026-0*{i + 40}_"), strict=True)
    ]
    began = time.monotonic()
    found = RuleBook(rules).decide(subjects)
    assert sum(d.event is not None for d in found) == 20_000 // 2000 * 60
    assert time.monotonic() - began < 5


# --- campaigns --------------------------------------------------------------------------------------------------------


def test_a_campaign_set_by_id_keeps_its_event_through_renaming_and_reloading(desk):
    mine = desk.event("AIサミット", date(2026, 6, 1))
    desk.ads(("Brand always on", "77"))
    done = desk.set("Brand always on", event="AIサミット", tactic="youtube")
    assert [(c.events_before, c.events_after) for c in done.changes] == [((), ("AIサミット",))]
    desk.ads(("Something else", "77"), day="2026-05-09")
    desk.link()
    assert desk.campaigns("name", "event_id", "tactic_id", "mapped_by") == [("Something else", mine, "youtube", "user")]
    [row] = desk.listed()
    assert (row.name, row.other_names, row.mapped_by) == ("Something else", ("Brand always on",), "user")


def test_a_campaign_renamed_to_a_name_without_its_event_stays_with_it(desk):
    event = desk.event("AIサミット", date(2026, 6, 1), notes="EV2026-014")
    desk.event("DXフォーラム", date(2026, 6, 2))
    desk.ads(("EV2026-014_検索", "77"))
    desk.ads(("検索 v2", "77"), day="2026-05-01")  # the platform restates the day under the new name
    assert desk.campaigns("name", "event_id") == [("検索 v2", event)]
    desk.ads(("DXフォーラム", "77"), day="2026-05-02")
    assert desk.campaigns("event_id") == [(event_key(desk.organisation, "DXフォーラム", date(2026, 6, 2)),)]


def test_it_does_not_matter_whether_the_rule_or_the_campaign_comes_first(desk):
    event = desk.event("AIサミット", date(2026, 6, 1))
    desk.rule("glob", "brand*", event="AIサミット")
    desk.ads(("Brand tokyo", "1"), ("Other", "2"))
    assert desk.campaigns("event_id", "mapped_by") == [(event, "user"), (None, "rule")]
    assert apply(desk.engine, desk.organisation) == ()


def test_an_ignored_campaign_belongs_to_no_event_and_is_not_open(desk):
    desk.event("AIサミット", date(2026, 6, 1))
    desk.ads(("AIサミット採用", "1"))
    desk.rule("contains", "採用", ignore=True)
    assert desk.campaigns("event_id", "mapped_by") == [(None, "user")]
    assert desk.listed(unmapped=True) == []
    assert desk.listed()[0].ignored
    assert desk.link().unmapped_campaigns == 0


def test_removing_a_rule_gives_back_what_stood_before(desk):
    found = desk.event("AIサミット", date(2026, 6, 1))
    mine = desk.event("DXフォーラム", date(2026, 7, 1))
    desk.ads(("AIサミット_検索", "1"))
    done = desk.rule("contains", "サミット", event="DXフォーラム", tactic="none")
    assert desk.campaigns("event_id", "tactic_id") == [(mine, None)]
    undone = desk.remove(done.rules[0].rule_id)
    assert desk.campaigns("event_id", "tactic_id", "mapped_by") == [(found, "google_search", "rule")]
    assert [(c.events_before, c.events_after) for c in undone.changes] == [(("DXフォーラム",), ("AIサミット",))]


def test_a_dry_run_shows_the_changes_and_makes_none(desk):
    desk.event("AIサミット", date(2026, 6, 1))
    desk.event("DXフォーラム", date(2026, 7, 1))
    desk.ads(("AIサミット_検索", "1"), ("Brand", "2"), ("Third", "3"))
    before = desk.campaigns("campaign_id", "event_id", "tactic_id", "mapped_by")
    tried = desk.rule("regex", "サミット|brand", event="DXフォーラム", tactic="youtube", dry_run=True)
    assert {(c.name, c.events_before, c.events_after, c.tactic_before, c.tactic_after) for c in tried.changes} == {
        ("AIサミット_検索", ("AIサミット",), ("DXフォーラム",), "google_search", "youtube"),
        ("Brand", (), ("DXフォーラム",), "google_search", "youtube"),
    }
    assert desk.campaigns("campaign_id", "event_id", "tactic_id", "mapped_by") == before
    assert list_rules(desk.engine, desk.organisation) == []


def test_setting_one_part_leaves_the_other(desk):
    event = desk.event("AIサミット", date(2026, 6, 1))
    desk.ads(("Brand", "1"))
    desk.set("1", event="AIサミット")
    desk.set("1", tactic="youtube")
    assert desk.campaigns("event_id", "tactic_id") == [(event, "youtube")]
    desk.set("1", ignore=True)
    assert desk.campaigns("event_id", "tactic_id") == [(None, "youtube")]
    assert len(list_rules(desk.engine, desk.organisation)) == 1


def test_a_rule_finds_its_event_again_when_its_day_or_name_is_corrected(desk):
    desk.event("AIサミット", date(2026, 6, 1), notes="EV2026-014")
    desk.event("AIサミット", date(2027, 6, 1))
    desk.ads(("Brand", "1"))
    desk.set("1", event="AIサミット @ 2026-06-01")
    moved = event_key(desk.organisation, "AIサミット", date(2026, 6, 8))
    with desk.engine.begin() as connection:
        connection.execute(
            sa.update(wh.event).where(wh.event.c.event_date == date(2026, 6, 1))
            .values(event_id=moved, event_date=date(2026, 6, 8))
        )  # fmt: skip
    desk.link()
    assert desk.campaigns("event_id") == [(moved,)]
    with desk.engine.begin() as connection:
        connection.execute(sa.delete(wh.event))
    desk.link()
    assert desk.campaigns("event_id") == [(None,)]
    [use] = list_rules(desk.engine, desk.organisation)
    assert (use.event, use.event_gone) == (None, True)


def test_organisations_rules_do_not_mix(desk):
    other = Desk(desk.settings.model_copy(update={"organisation": "other"}), desk.engine, desk.folder)
    other.event("AIサミット", date(2026, 6, 1))
    other.rule("contains", "brand", event="AIサミット")
    desk.ads(("Brand", "1"))
    assert desk.campaigns("event_id") == [(None,)]


# --- mail categories, registration lists, origins ---------------------------------------------------------------------


def test_mail_lists_and_origins_are_mapped_too(desk, engine):
    event = desk.event("AIサミット", date(2026, 6, 1))
    desk.event("DXフォーラム", date(2026, 6, 20))
    desk.read(MAIL + "2026-05-01,campaign-7,1,1,1,1,1,1,1,1\n")
    desk.read(
        "registered_at,event,status,source\n2026-05-01,Summit (Peatix),confirmed,謎の経路\n"
        "2026-05-02,Summit (Peatix),confirmed,direct\n"
    )
    assert {(m.what, m.name) for m in desk.listed(unmapped=True)} == {
        ("mail", "campaign-7"), ("list", "Summit (Peatix)"), ("origin", "謎の経路"),
    }  # fmt: skip
    desk.set("campaign-7", event="AIサミット")
    desk.set("Summit (Peatix)", event="AIサミット", source="registrations")
    desk.set("謎の経路", tactic="partner")
    assert desk.listed(unmapped=True) == []
    with engine.connect() as connection:
        assert connection.execute(sa.select(wh.email_performance.c.event_id)).scalars().all() == [event]
        found = connection.execute(sa.select(wh.registration.c.event_id, wh.registration.c.tactic_id)).all()
    assert {tuple(row) for row in found} == {(event, "partner"), (event, None)}


def test_an_origin_that_is_no_tactic_on_purpose_is_not_open(desk):
    desk.read("registered_at,event,status,source\n2026-05-01,x,confirmed,社内\n")
    desk.set("社内", tactic="none", source="registrations")
    assert [m.what for m in desk.listed(unmapped=True)] == ["list"]


def test_a_rule_of_all_sources_reaches_campaigns_mails_and_lists(desk):
    desk.event("AIサミット", date(2026, 6, 1))
    desk.ads(("spring brand", "1"))
    desk.read(MAIL + "2026-05-01,spring-mail,1,1,1,1,1,1,1,1\n")
    desk.read("registered_at,event,status\n2026-05-01,Spring list,confirmed\n")
    done = desk.rule("contains", "spring", event="AIサミット")
    assert {c.what for c in done.changes} == {"campaign", "mail", "list"}


def test_the_list_of_a_folder_that_names_no_event_can_be_mapped(desk, engine):
    event = desk.event("AIサミット", date(2026, 6, 1))
    desk.event("DXフォーラム", date(2026, 6, 2))
    desk.read("registered_at,status\n2026-05-01,confirmed\n", "tokyo")
    desk.set("", event="AIサミット", source="registrations", account="tokyo")
    with engine.connect() as connection:
        assert connection.execute(sa.select(wh.registration.c.event_id)).scalars().all() == [event]


# --- what is said -----------------------------------------------------------------------------------------------------


def test_the_costliest_come_first_with_what_is_known_of_them(desk):
    desk.event("AIサミット", date(2026, 6, 1))
    desk.ads(("Cheap", "1"), cost=10)
    desk.ads(("Dear", "2"), day="2026-05-03", cost=500)
    desk.ads(("Dear", "2"), ("Dear too", "3"), day="2026-05-04", cost=300)
    rows = desk.listed(unmapped=True, source="google_ads")
    assert [(r.name, r.spend, r.days, r.first_seen, r.last_seen) for r in rows] == [
        ("Dear", 800, 2, date(2026, 5, 3), date(2026, 5, 4)),
        ("Dear too", 300, 1, date(2026, 5, 4), date(2026, 5, 4)),
        ("Cheap", 10, 1, date(2026, 5, 1), date(2026, 5, 1)),
    ]
    assert desk.listed(source="meta_ads") == []


def test_mistakes_are_named_with_what_comes_near(desk):
    desk.event("AIサミット2026", date(2026, 6, 1))
    desk.event("月例勉強会", date(2026, 6, 1))
    desk.event("月例勉強会", date(2026, 7, 1))
    desk.ads(("Brand tokyo", "1"), ("Brand", "2"))
    desk.ads(("Brand", "3"), account="b")
    for parts, code, said in (
        ({"name": "1", "event": "AIサミット2025"}, "unknown_event", "did you mean “AIサミット2026”"),
        ({"name": "1", "event": "月例勉強会"}, "ambiguous_event", "月例勉強会 @ 2026-07-01"),
        ({"name": "1", "tactic": "yuotube"}, "unknown_tactic", "youtube"),
        ({"name": "Brand tokio", "tactic": "youtube"}, "unknown_name", "did you mean brand tokyo"),
        ({"name": "Brand", "tactic": "youtube"}, "ambiguous_name", "account b"),
        ({"name": "1"}, "says_nothing", "names neither event nor tactic"),
        ({"name": "1", "event": "AIサミット2026", "ignore": True}, "contradiction", "cannot name an event"),
    ):
        with pytest.raises(InputError) as caught:
            desk.set(parts.pop("name"), **parts)
        assert [p.code for p in caught.value.problems] == [code]
        assert said in str(caught.value)
    with pytest.raises(InputError) as caught:
        desk.rule("regex", "(", event="x", tactic="y", source="google")
    assert {p.code for p in caught.value.problems} == {
        "unknown_source", "bad_regex", "unknown_event", "unknown_tactic",
    }  # fmt: skip
    with pytest.raises(InputError, match="no rule"):
        desk.remove("map_nothing")
    assert list_rules(desk.engine, desk.organisation) == []


def test_events_are_found_by_key_name_code_and_day(desk):
    from ingestion.linking import Events

    first = desk.event("月例勉強会", date(2026, 6, 1), notes="EV2026-014")
    second = desk.event("月例勉強会", date(2026, 7, 1))
    with desk.engine.connect() as connection:
        events = Events.load(connection, desk.organisation)
    for text, wanted in (
        (first, first), ("ev2026-014", first), ("月例勉強会 @ 2026-07-01", second),
        ("月例 勉強会（2026-06-01）", first),
    ):  # fmt: skip
        assert find_event(events, text).event_id == wanted
    assert [find_tactic(t) for t in ("youtube", "メルマガ", "none", "なし")] == ["youtube", "own_email", "", ""]


# --- suggestions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wanted", "least", "said"),
    [
        ("AI Summit brand", "AI Summit 2026", 0.5, "of the event's name"),
        ("AIｻﾐｯﾄ大阪 検索", "AIサミット大阪2026春", 0.5, "of the event's name"),
        ("EV26-14 brand", "DXフォーラム", 0.75, "code"),
        ("インサイドセールス勉強会 第3回 GDN", "インサイドセールス実践勉強会 第3回", 0.4, "last seen 30 days"),
    ],
)
def test_suggestions_name_the_likeliest_event_and_why(desk, name, wanted, least, said):
    for title, notes in (
        ("AI Summit 2026", None), ("AIサミット大阪2026春", None), ("DXフォーラム", "EV26-014"),
        ("マーケティングDay 2026", None),
        ("インサイドセールス実践勉強会 第3回", None), ("インサイドセールス実践勉強会 第8回", None),
    ):  # fmt: skip
        desk.event(title, date(2026, 5, 31) if "第8回" not in title else date(2026, 11, 30), notes=notes)
    desk.ads((name, "1"))
    [row] = desk.listed(unmapped=True)
    best = row.suggestions[0]
    assert best.event_name == wanted
    assert least <= best.score <= 1
    assert said in best.reason


def test_nothing_like_it_is_no_suggestion_but_the_only_event_of_the_time_is_a_weak_one(desk):
    desk.event("AI Summit", date(2027, 6, 1))
    desk.ads(("全社ブランド", "1"))
    assert desk.listed(unmapped=True)[0].suggestions == ()
    desk.event("DXフォーラム", date(2026, 5, 20))
    [suggestion] = desk.listed(unmapped=True)[0].suggestions
    assert (suggestion.event_name, suggestion.score) == ("DXフォーラム", 0.3)


def test_an_origin_nobody_knows_gets_tactics_that_resemble_it(desk):
    desk.read("registered_at,event,status,source\n2026-05-01,x,confirmed,youtub\n")
    origin = next(m for m in desk.listed(unmapped=True) if m.what == "origin")
    assert origin.suggestions[0].tactic_id == "youtube"


# --- a spreadsheet ----------------------------------------------------------------------------------------------------


def exported(desk: Desk, **parts) -> list[dict[str, str]]:
    text = export_mapping(desk.engine, desk.organisation, "csv", **parts)
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))


def written(rows: list[dict[str, str]], delimiter: str = ",") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@pytest.fixture
def filled(desk) -> Desk:
    desk.event("AIサミット", date(2026, 6, 1))
    desk.event("月例勉強会", date(2026, 6, 1))
    desk.event("月例勉強会", date(2026, 7, 1))
    desk.ads(("@Brand", "120210000000000001"), ("Second", "120210000000000002"), ("Third", "3"))
    desk.rule("contains", "second", event="月例勉強会 @ 2026-07-01", tactic="youtube", note="朝会, 確認済")
    desk.rule("glob", "third*", ignore=True, position=4)
    return desk


@pytest.mark.parametrize("kind", ["csv", "yaml"])
def test_reading_an_export_back_changes_nothing(filled, kind):
    before = list_rules(filled.engine, filled.organisation)
    text = export_mapping(filled.engine, filled.organisation, kind)
    done = filled.take_in(filled.file(f"mapping.{kind}", text))
    assert (done.rules, done.removed, done.changes) == ((), (), ())
    assert list_rules(filled.engine, filled.organisation) == before


def test_an_analyst_fills_in_the_open_rows(filled):
    rows = exported(filled)
    assert [r["pattern"] for r in rows] == ["second", "third*", '="120210000000000001"']
    assert rows[2]["name"] == "'@Brand"
    rows[2]["event"] = "AIサミット"
    path = filled.file("back.csv", written(rows, ";").encode("cp932"))
    done = filled.take_in(path)
    assert [(r.kind, r.pattern) for r in done.rules] == [("id", "120210000000000001")]
    assert filled.take_in(path).rules == ()
    assert dict(filled.campaigns("campaign_id", "event_id"))["120210000000000001"] == event_key(
        filled.organisation, "AIサミット", date(2026, 6, 1)
    )


def test_a_workbook_comes_back_too(filled):
    rows = exported(filled)
    rows[2]["event"] = "AIサミット"
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(list(rows[0]))
    for row in rows:
        sheet.append([v[2:-1] if v.startswith('="') else v for v in row.values()])
    book.save(filled.folder / "back.xlsx")
    assert [r.pattern for r in filled.take_in(filled.folder / "back.xlsx").rules] == ["120210000000000001"]


def test_an_emptied_row_takes_its_rule_away_and_replace_what_is_not_there(filled):
    rows = exported(filled)
    rows[0]["event"] = rows[0]["tactic"] = ""
    assert [r.pattern for r in filled.take_in(filled.file("a.csv", written(rows))).removed] == ["second"]
    done = filled.take_in(filled.file("b.yaml", "[]"), replace=True)
    assert [r.pattern for r in done.removed] == ["third*"]
    assert list_rules(filled.engine, filled.organisation) == []


def test_every_mistake_of_a_file_is_named_with_its_place_and_nothing_is_written(filled):
    path = filled.file(
        "bad.csv",
        "source,account,kind,pattern,event,tactic,ignore,position\n"
        "google_ads,,id,1.2021E+17,AIサミット,,,\n"
        "google,,contains,a,,youtube,,\n"
        ",,regex,(,AIサミト,,,\n"
        ",,contains,b,,youtube,maybe,x\n"
        ",,contains,c,,youtube,,\n"
        ",,contains,c,,youtube,,\n",
    )
    with pytest.raises(InputError) as caught:
        filled.take_in(path)
    assert {(p.row, p.column, p.code) for p in caught.value.problems} == {
        (2, "pattern", "damaged_id"), (3, "source", "unknown_source"), (4, "pattern", "bad_regex"),
        (4, "event", "unknown_event"), (5, "ignore", "not_yes_or_no"), (5, "position", "not_a_number"),
        (7, "pattern", "duplicate"),
    }  # fmt: skip
    assert all(p.file == "bad.csv" for p in caught.value.problems)
    assert len(list_rules(filled.engine, filled.organisation)) == 2


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.csv", "source,event,tactic\nx,y,z\n", "missing_column"),
        ("a.yaml", "rules: {}", "not_a_list"),
        ("a.yaml", "[{kind: id, patern: x}]", "unknown_field"),
        ("a.yaml", "[", "not_yaml"),
    ],
)
def test_what_is_no_mapping_is_refused(desk, name, content, code):
    with pytest.raises(InputError) as caught:
        desk.take_in(desk.file(name, content))
    assert caught.value.problems[0].code == code


def test_japanese_headers_and_yaml_are_readable(filled):
    text = export_mapping(filled.engine, filled.organisation, "csv", language="ja")
    assert text.splitlines()[0].startswith("\ufeff媒体,アカウント,照合方法,照合する文字列,イベント,施策")
    assert filled.take_in(filled.file("ja.csv", text)).rules == ()
    loaded = yaml.safe_load(export_mapping(filled.engine, filled.organisation, "yaml", unmapped=False))
    assert loaded[0]["event"] == "月例勉強会 @ 2026-07-01"
    assert loaded[1]["ignore"] == "yes"
