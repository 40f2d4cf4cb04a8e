"""Campaigns, registrations, results and mails are tied to events and tactics, whatever came first."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime
from uuid import UUID

import pytest
import sqlalchemy as sa

from ingestion.api import ingest_paths, link
from ingestion.linking import Event, Events, campaign_tactic, codes_in, folded
from turnout.identity import event_key
from turnout.quality import accept_everything
from turnout.tactics import load_catalogue
from turnout.warehouse import tables as wh

RUN = UUID(int=1)


def add_event(engine, settings, name: str, on: date, *, account: str = "", notes: str | None = None) -> str:
    event_id = event_key(settings.organisation, name, on)
    with engine.begin() as connection:
        connection.execute(
            sa.insert(wh.event).values(
                event_id=event_id,
                organisation=settings.organisation,
                source="spreadsheet",
                account=account,
                fetched_at=datetime.now(UTC),
                run_id=RUN,
                name=name,
                event_date=on,
                time_zone="Asia/Tokyo",
                category="ai_data",
                format="online",
                currency="JPY",
                notes=notes,
            )
        )
    return event_id


@pytest.fixture
def read(settings, engine, tmp_path):
    numbers = itertools.count()

    def read(text: str, account: str = "") -> None:
        path = tmp_path / f"{next(numbers)}.csv"
        path.write_text(text, encoding="utf-8")
        report = ingest_paths([path], settings=settings, engine=engine, gate=accept_everything, account=account)
        assert report.ok

    return read


def values(engine, table: sa.Table, *names: str) -> list[tuple]:
    with engine.connect() as connection:
        query = sa.select(*[table.c[n] for n in names]).order_by(*table.primary_key.columns)
        return [tuple(r) for r in connection.execute(query)]


def campaigns(*names: str, day: str = "2026-05-01") -> str:
    return "Day,Campaign,Campaign type,Currency,Cost,Impr.,Clicks\n" + "".join(
        f"{day},{n},Search,JPY,1,1,1\n" for n in names
    )


# --- finding events ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "campaign",
    [
        "EV2026-014_検索_AI",
        "検索｜ＡＩサミット ２０２６｜x",
        "ai-summit... ＡＩサミット２０２６",
        "EV2026014 brand",
        "ev2026-014",
        "【EV2026-014】指名",
    ],
)
def test_a_campaign_names_its_event_by_code_or_name(read, settings, engine, campaign):
    wanted = add_event(engine, settings, "AIサミット2026", date(2026, 6, 1), notes="管理番号 EV2026-014")
    add_event(engine, settings, "DXフォーラム", date(2026, 6, 2), notes="管理番号 EV2026-015")
    read(campaigns(campaign))
    assert values(engine, wh.campaign, "event_id", "mapped_by") == [(wanted, "rule")]


@pytest.mark.parametrize("campaign", ["EV2026-0145_x", "XEV2026-014", "サミット", "Summit", "2026"])
def test_what_only_resembles_an_event_names_none(read, settings, engine, campaign):
    add_event(engine, settings, "AIサミット2026", date(2026, 6, 1), notes="管理番号 EV2026-014")
    read(campaigns(campaign))
    assert values(engine, wh.campaign, "event_id") == [(None,)]


def test_a_name_within_a_longer_name_does_not_count(read, settings, engine):
    add_event(engine, settings, "AIサミット", date(2026, 6, 1))
    longer = add_event(engine, settings, "AIサミット大阪", date(2026, 6, 2))
    read(campaigns("検索_AIサミット大阪"))
    assert values(engine, wh.campaign, "event_id") == [(longer,)]


def test_two_events_in_one_text_are_none(read, settings, engine):
    add_event(engine, settings, "AIサミット", date(2026, 6, 1))
    add_event(engine, settings, "DXフォーラム", date(2026, 6, 2))
    read(campaigns("AIサミット+DXフォーラム 共通"))
    assert values(engine, wh.campaign, "event_id") == [(None,)]


def test_of_events_of_one_name_the_next_one_is_meant(read, settings, engine):
    first, second, third = (add_event(engine, settings, "月例勉強会", date(2026, m, 10)) for m in (4, 5, 6))
    read(
        campaigns("月例勉強会 A", day="2026-04-09")
        + "2026-05-01,月例勉強会 B,Search,JPY,1,1,1\n2026-08-01,月例勉強会 C,Search,JPY,1,1,1\n"
    )
    found = dict(values(engine, wh.campaign, "name", "event_id"))
    assert found == {"月例勉強会 A": first, "月例勉強会 B": second, "月例勉強会 C": third}


def test_events_of_the_same_account_go_before(read, settings, engine):
    tokyo = add_event(engine, settings, "AIサミット", date(2026, 6, 1), account="tokyo")
    osaka = add_event(engine, settings, "AIサミット", date(2026, 6, 2), account="osaka")
    for account in ("tokyo", "osaka"):
        read(campaigns("AIサミット検索"), account)
    assert values(engine, wh.campaign, "account", "event_id") == [("osaka", osaka), ("tokyo", tokyo)]


def test_codes():
    assert codes_in("EV2026-014（AI）と S24_031") == {"ev2026014", "s24031"}
    assert codes_in("AI 2026 B2B 24/7") == set()
    assert folded("ＡＩ　サミット-2026！") == "aiサミット2026"


# --- tactics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "name", "kind", "tactic"),
    [
        ("google_ads", "Summit 2026 - Search (Brand)", "Search", "google_search"),
        ("google_ads", "Summit", "Display", "google_display"),
        ("google_ads", "【CP】P-MAX_展示会", None, "google_display"),
        ("google_ads", 'Retarget "early bird"', "Display", "retargeting"),
        ("google_ads", "※終了※01_一般｜セミナー", None, "google_search"),
        ("meta_ads", "Summit - Prospecting", None, "meta_ads"),
        ("meta_ads", "リタゲ_サミット", None, "retargeting"),
        ("linkedin_ads", "Lead gen - Summit", "Sponsored Update", "linkedin_ads"),
        ("linkedin_ads", "Summit InMail", None, "linkedin_msg"),
        ("google_ads", "Partner webinar", None, "google_search"),
    ],
)
def test_the_tactic_of_a_campaign(source, name, kind, tactic):
    assert campaign_tactic(load_catalogue(), source, name, kind) == tactic


@pytest.mark.parametrize(
    ("source", "name", "tactic"),
    [
        ("meta_ads", "EV2026-023_Facebookトラフィック_営業DX_SIM", "meta_traffic"),
        ("google_ads", "EV2026-001_GDN_インサイドセールス_SIM", "google_display"),
        ("google_ads", "GDN｜営業DX｜メルマガ活用セミナー", "google_display"),
        ("google_ads", "YouTube_パートナー連携セミナー", "youtube"),
        ("google_ads", "検索_パートナー連携セミナー", "google_search"),
    ],
)
def test_the_theme_in_a_campaigns_name_is_no_tactic(source, name, tactic):
    assert campaign_tactic(load_catalogue(), source, name, None) == tactic


def test_source_labels_are_tactics_and_direct_is_none(read, engine):
    labels = ("google", "linkedin", "direct", "", "メルマガ", "謎の経路")
    read("registered_at,status,source\n" + "".join(f"2026-04-01,confirmed,{x}\n" for x in labels))
    assert values(engine, wh.registration, "source_label", "tactic_id") == [
        ("google", "google_search"),
        ("linkedin", "linkedin_ads"),
        ("direct", None),
        (None, None),
        ("メルマガ", "own_email"),
        ("謎の経路", None),
    ]


# --- registrations, mails, results ------------------------------------------------------------------------------------


def test_a_list_of_a_series_belongs_to_the_next_event_by_day(read, settings, engine):
    april, may = (add_event(engine, settings, "月例勉強会", date(2026, m, 10)) for m in (4, 5))
    days = ("2026-04-01", "2026-04-10", "2026-04-11", "2026-04-12", "2026-05-10", "2026-05-20")
    read("registered_at,event,status\n" + "".join(f"{d},月例勉強会,confirmed\n" for d in days))
    assert [e for (e,) in values(engine, wh.registration, "event_id")] == [april, april, april, may, may, may]


def test_a_list_without_an_event_is_of_its_folder_or_of_the_only_one_it_can_be(read, settings, engine):
    only = add_event(engine, settings, "DXフォーラム", date(2026, 5, 21), account="tokyo")
    named = add_event(engine, settings, "AIサミット", date(2027, 1, 1))
    text = "registered_at,status\n2026-05-01,confirmed\n2026-05-20,confirmed\n"
    read(text, "tokyo")
    read(text, "AIサミット")
    found = set(values(engine, wh.registration, "account", "event_id"))
    assert found == {("tokyo", only), ("AIサミット", named)}
    add_event(engine, settings, "もう一つ", date(2026, 5, 25), account="tokyo")
    link(engine, settings.organisation)
    assert ("tokyo", None) in set(values(engine, wh.registration, "account", "event_id"))


def test_mail_categories_belong_to_events_and_the_whole_account_to_none(read, settings, engine):
    event = add_event(engine, settings, "AIサミット2026", date(2026, 6, 1), notes="EV2026-014")
    metrics = "requests,processed,delivered,opens,unique_opens,clicks,unique_clicks,bounces"
    read(
        f"date,category,{metrics}\n2026-05-01,EV2026-014_invite,1,1,1,1,1,1,1,1\n2026-05-01,月報,1,1,1,1,1,1,1,1\n", "a"
    )
    read(f"date,{metrics}\n2026-05-01,1,1,1,1,1,1,1,1\n", "a")
    read(f"date,{metrics}\n2026-05-01,1,1,1,1,1,1,1,1\n", "b")
    found = values(engine, wh.email_performance, "account", "category", "event_id", "tactic_id")
    assert found == [
        ("a", "", None, None),
        ("a", "EV2026-014_invite", event, "own_email"),
        ("a", "月報", None, "own_email"),
        ("b", "", None, "own_email"),
    ]


# --- order and repetition ---------------------------------------------------------------------------------------------


def test_it_does_not_matter_whether_events_or_data_come_first(read, settings, engine):
    read(campaigns("EV2026-014_検索"))
    read("registered_at,event,status\n2026-05-01,AIサミット2026,confirmed\n")
    assert values(engine, wh.registration, "event_id") == [(None,)]
    event = add_event(engine, settings, "AIサミット2026", date(2026, 6, 1), notes="EV2026-014")
    first = link(engine, settings.organisation)
    assert (first.campaigns, first.registrations) == (1, 1)
    assert values(engine, wh.campaign, "event_id") == [(event,)]
    assert values(engine, wh.registration, "event_id") == [(event,)]
    again = link(engine, settings.organisation)
    assert (again.campaigns, again.registrations, again.tactic_results, again.mails) == (0, 0, 0, 0)


def test_an_event_that_is_gone_is_forgotten(read, settings, engine):
    add_event(engine, settings, "AIサミット2026", date(2026, 6, 1))
    read("registered_at,event,status\n2026-05-01,AIサミット2026,confirmed\n")
    with engine.begin() as connection:
        connection.execute(sa.delete(wh.event))
    link(engine, settings.organisation)
    assert values(engine, wh.registration, "event_id") == [(None,)]


def test_what_a_user_has_mapped_stays_until_the_rule_goes(read, settings, engine):
    found = add_event(engine, settings, "AIサミット2026", date(2026, 6, 1))
    mine = add_event(engine, settings, "DXフォーラム", date(2026, 7, 1))
    read(campaigns("AIサミット2026"))
    rule = {
        "organisation": settings.organisation, "rule_id": "map_1", "source": "google_ads", "kind": "exact",
        "pattern": "AIサミット2026", "event_id": mine, "tactic_id": "line_ads",
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(sa.insert(wh.mapping_rule).values(rule))
    link(engine, settings.organisation)
    read(campaigns("AIサミット2026"))
    assert values(engine, wh.campaign, "event_id", "tactic_id", "mapped_by") == [(mine, "line_ads", "user")]
    with engine.begin() as connection:
        connection.execute(sa.delete(wh.mapping_rule))
    link(engine, settings.organisation)
    assert values(engine, wh.campaign, "event_id", "tactic_id", "mapped_by") == [(found, "google_search", "rule")]


def test_other_organisations_events_are_not_looked_at(read, settings, engine):
    other = settings.model_copy(update={"organisation": "other"})
    add_event(engine, other, "AIサミット2026", date(2026, 6, 1))
    read(campaigns("AIサミット2026"))
    assert values(engine, wh.campaign, "event_id") == [(None,)]


def test_many_names_are_found_quickly():
    events = Events()
    for n in range(20_000):
        event = Event(f"e{n}", "", date(2026, 1, 1), folded(f"カンファレンス第{n:05d}回"))
        events.by_name.setdefault(event.name, []).append(event)
        events.beginnings.setdefault(event.name[:4], set()).add(len(event.name))
    found = events.find("検索_カンファレンス第12345回_x", "", None)
    assert found is not None
    assert found.event_id == "e12345"
