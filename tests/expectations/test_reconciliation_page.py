"""The page of claims and registrations in Data Docs."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from expectations.reconciliation import PAGE, write_page
from tests.warehouse.test_views import DAY, World
from turnout.settings import Settings


class _Reader(HTMLParser):
    """Text and links of a page, and whether its tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag == "a":
            self.links.append(dict(attrs)["href"])

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.texts.append(data)


@pytest.fixture
def filled(engine, settings) -> Settings:
    from datetime import date, timedelta

    world = World(engine)
    today = date.today()  # noqa: DTZ011
    world.event(name='<script>alert("x")</script>', event_date=today)
    world.campaign(tactic_id="meta_ads")
    world.ad(DAY, 1000, registrations=40, leads=2)
    world.registered(25, "meta_ads")
    world.event("old", event_date=today - timedelta(days=1000), name="Long ago")
    world.campaign("c2", event_id="old")
    world.ad(DAY, 1000, registrations=40, campaign_id="c2")
    world.campaign("c3", event_id=None)
    world.ad(DAY, 777, campaign_id="c3")
    return settings.model_copy(update={"organisation": "org"})


def test_both_languages_are_written_and_lead_to_each_other(engine, filled):
    path = write_page(filled, engine)
    assert path == filled.home_path / "data_docs" / PAGE
    english, japanese = (_Reader((path.parent / n).read_text()) for n in (PAGE, "reconciliation.ja.html"))
    assert "reconciliation.ja.html" in english.links
    assert PAGE in japanese.links
    assert "index.html" in english.links
    assert "Claims and registrations" in english.texts
    assert "媒体の主張と実際の申込" in japanese.texts
    for page in (english, japanese):
        assert {"40", "25", "1.60", "777"} <= set(page.texts)
        assert "Long ago" not in page.texts
        assert '<script>alert("x")</script>' in page.texts  # as text, not as a tag
    assert any("40 registrations, 2 leads" in text for text in english.texts)
    ja_first = filled.model_copy(update={"language": "ja"})
    assert "媒体の主張と実際の申込" in write_page(ja_first, engine).read_text()


def test_an_empty_warehouse_has_a_page_too(engine, settings):
    assert "No events with claims" in write_page(settings, engine).read_text()


def test_writing_again_replaces_the_page(engine, filled):
    first = write_page(filled, engine)
    assert write_page(filled, engine) == first
    assert sorted(p.name for p in first.parent.iterdir()) == ["reconciliation.html", "reconciliation.ja.html"]


def test_data_docs_lead_to_the_page_and_renew_it_with_new_data(engine, filled, clean):
    from expectations.gate import build_docs, make_gate

    gate = make_gate(filled)
    for number in range(2):
        with gate:
            gate("event", clean("event", 5))
        folder = filled.home_path / "data_docs"
        index = build_docs(filled)
        assert index is not None
        [link] = [x for x in _links(index.read_text(encoding="utf-8")) if x.endswith(PAGE)]
        assert (index.parent / link).resolve() == (folder / PAGE).resolve()
        assert ("80" in _Reader((folder / PAGE).read_text()).texts) is (number == 1)
        World(engine).ad(DAY, 1, registrations=40, line=9 + number)


def test_a_warehouse_that_does_not_answer_does_not_stop_the_checks(settings, clean):
    from expectations.gate import build_docs

    gone = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:9/gone"})
    assert build_docs(gone) is None


def _links(text: str) -> list[str]:
    return re.findall(r'href="([^"]+)"', text)
