"""Claims beside registrations: never past the truth, the difference shown, unknown stays unknown."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.warehouse.test_views import DAY, World
from turnout.warehouse import tables as wh
from turnout.warehouse.reconciliation import Reconciliation, figure, reconcile, words

SOURCES = ("google_ads", "meta_ads", "linkedin_ads")
TACTICS = ("meta_ads", "google_search", "retargeting", "own_email")


@pytest.fixture
def world(engine) -> World:
    return World(engine)


def compare(world: World, **parts: Any) -> Reconciliation:
    return reconcile(world.engine, "org", currency="JPY", **parts)


def claimed(world: World, source: str, tactic: str | None, claim: float | None, *, event_id: str = "e1", **values: Any):
    """A campaign of a source with one day."""
    world.lines += 1
    campaign = f"c{world.lines}"
    world.campaign(campaign, tactic, source=source, event_id=event_id)
    world.ad(DAY - timedelta(days=2), values.pop("spend", 100), campaign_id=campaign, source=source,
             **({"registrations": claim} | values))  # fmt: skip


def rows(world: World) -> pd.DataFrame:
    return world.view("claim_reconciliation").set_index(["tactic_id", "source"]).sort_index()


# --- the view ---------------------------------------------------------------------------------------------------------


def test_a_platforms_claim_stands_beside_what_the_registration_system_says(world):
    world.event()
    claimed(world, "meta_ads", "meta_ads", 40)
    claimed(world, "google_ads", "google_search", 30)
    world.registered(8, "meta_ads")
    world.registered(30, "own_email")
    world.registered(20, None, label="direct")
    found = rows(world)
    meta = found.loc[("meta_ads", "meta_ads")]
    assert (meta.claimed, meta.tactic_listed, meta.counted, meta.difference) == (40, 8, 8, 32)
    google = found.loc[("google_search", "google_ads")]
    assert (google.claimed, google.tactic_listed, google.counted) == (30, 0, 0)
    mail = found.loc[("own_email", "")]
    assert (mail.counted, mail.counted_basis) == (30, "registration_system")
    assert pd.isna(mail.claimed)
    assert (meta.event_claimed, meta.event_registrations, meta.event_basis) == (70, 58, "registration_system")


def test_a_tactic_of_two_sources_is_shared_out_by_their_claims(world):
    world.event(actual_registrations=30)
    claimed(world, "meta_ads", "retargeting", 30)
    claimed(world, "google_ads", "retargeting", 10)
    claimed(world, "linkedin_ads", "retargeting", None)
    found = rows(world)
    assert found.loc[("retargeting", "meta_ads")].counted == pytest.approx(22.5)
    assert found.loc[("retargeting", "google_ads")].counted == pytest.approx(7.5)
    assert pd.isna(found.loc[("retargeting", "linkedin_ads")].counted)


def test_nothing_claimed_is_not_shared_out(world):
    world.event()
    for source in ("meta_ads", "google_ads"):
        claimed(world, source, "retargeting", 0)
    world.registered(5, "retargeting")
    found = rows(world)
    assert found.counted.isna().all()
    assert set(found.tactic_registrations) == {5}


def test_the_platforms_own_words_are_kept_apart(world):
    world.event()
    claimed(world, "meta_ads", "meta_ads", 3, leads=9, conversions=20.5)
    claimed(world, "meta_ads", "meta_ads", None, leads=5)
    row = rows(world).loc[("meta_ads", "meta_ads")]
    assert (row.claimed, row.claimed_registrations, row.claimed_leads, row.claimed_conversions) == (8, 3, 14, 20.5)
    assert row.campaigns == 2


_AMOUNT = st.one_of(st.none(), st.integers(0, 200), st.floats(0, 200).map(lambda x: round(x, 3)))
_CLAIMS = st.lists(st.tuples(st.sampled_from(SOURCES), st.sampled_from(TACTICS), _AMOUNT), max_size=6)
_LISTED = st.lists(
    st.tuples(
        st.integers(1, 60), st.one_of(st.none(), st.sampled_from(TACTICS)), st.sampled_from(("confirmed", "cancelled"))
    ),
    max_size=4,
)  # fmt: skip
_STATED = st.lists(st.tuples(st.sampled_from(TACTICS), _AMOUNT), max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(claims=_CLAIMS, listed=_LISTED, stated=_STATED, total=st.one_of(st.none(), st.integers(0, 100)))
def test_what_is_counted_never_adds_up_past_the_registrations(engine, claims, listed, stated, total):
    with engine.begin() as connection:
        for table in (wh.event, wh.campaign, wh.ad_performance, wh.registration, wh.tactic_result):
            connection.execute(sa.delete(table))
    world = World(engine)
    world.event(actual_registrations=total)
    for source, tactic, claim in claims:
        claimed(world, source, tactic, claim)
    for quantity, tactic, status in listed:
        world.registered(quantity, tactic, status=status)
    for tactic, figure_ in stated:
        world.result(tactic, figure_)
    found = world.view("claim_reconciliation")
    whole = world.view("event_tactic").set_index("tactic_id").registrations
    truth = sum(q for q, _, status in listed if status == "confirmed") if listed else total
    # sums: the shares of a tactic are its figure, or are not known
    for tactic, group in found.groupby("tactic_id"):
        assert group.tactic_registrations.nunique(dropna=False) == 1
        if pd.isna(whole[tactic]):
            assert group.counted.isna().all()
        elif group.counted.notna().any():
            assert group.counted.sum() == pytest.approx(float(whole[tactic]), abs=1e-6)
    assert set(found.tactic_id) == set(whole.index)
    if truth is not None:
        assert found.counted.sum() <= truth + 1e-6
    # what a platform claims is passed on unchanged, and unknown stays unknown
    for (source, tactic), group in found.groupby(["source", "tactic_id"]):
        theirs = [c for s, t, c in claims if (s, t) == (source, tactic) and c is not None]
        value = group.claimed.iloc[0]
        assert (pd.isna(value) and not theirs) or value == pytest.approx(float(sum(theirs)), abs=1e-6)
    # and so does it event by event
    events = compare(world).events
    if events and truth is not None and events[0].counted is not None:
        assert events[0].counted <= truth + 1e-6
    assert (events[0].claimed is None) == all(c is None for _, _, c in claims) if events else not claims


# --- by event ---------------------------------------------------------------------------------------------------------


def test_an_event_is_told_with_totals_ratio_and_remarks(world):
    world.event("e1", name="AIサミット")
    claimed(world, "meta_ads", "meta_ads", 40, spend=1000)
    claimed(world, "google_ads", "google_search", 30, spend=500)
    world.result("meta_ads", None, cost=1500)
    world.registered(8, "meta_ads")
    world.registered(12, "own_email")
    world.registered(5)
    [event] = compare(world).events
    assert (event.name, event.standing, event.registrations, event.without_origin) == ("AIサミット", "verified", 25, 5)
    assert (event.claimed, event.counted, event.ratio) == (70, 20, 2.8)
    assert (event.spend_platform, event.spend_sheet) == (1500, 1500)
    assert [t.tactic_id for t in event.tactics] == ["meta_ads", "google_search", "own_email"]
    said = {r.code: words(r) for r in event.remarks}
    assert set(said) == {"claimed_twice", "claim_differs", "spend_differs", "origin_unknown"}
    assert "google_ads and meta_ads together claim 70 of 25 registrations: at least 45" in said["claimed_twice"]
    assert "5 of 25 registrations have no origin (20%)" in said["origin_unknown"]
    assert "1,000" in said["spend_differs"]
    assert "1,500" in said["spend_differs"]
    assert all(words(r, "ja") != words(r, "en") for r in event.remarks)


def test_claims_without_any_count_are_marked_unverified_and_a_total_as_such(world):
    world.event()
    claimed(world, "meta_ads", "meta_ads", 40)
    world.event("e2", actual_registrations=100, event_date=DAY + timedelta(days=1))
    claimed(world, "meta_ads", "meta_ads", 40, event_id="e2")
    world.event("e3", event_date=DAY + timedelta(days=2))
    world.registered(5, "own_email", event_id="e3")
    found = compare(world).events
    assert [(e.event_id, e.standing) for e in found] == [("e3", "no_claims"), ("e2", "counted"), ("e1", "unverified")]
    assert [r.code for r in found[2].remarks] == ["unverified"]
    assert found[2].remarks[0].severity == "warning"
    assert [r.code for r in found[1].remarks] == ["only_a_total"]


def test_one_platform_alone_claiming_too_much_is_not_called_an_overlap(world):
    world.event()
    claimed(world, "meta_ads", "meta_ads", 40)
    world.registered(20, "meta_ads")
    [event] = compare(world).events
    assert [r.code for r in event.remarks] == ["claimed_too_much", "claim_differs"]


def test_events_are_chosen_by_key_and_day(world):
    for number in range(3):
        world.event(f"e{number}", event_date=DAY + timedelta(days=number))
        claimed(world, "meta_ads", "meta_ads", 1, event_id=f"e{number}")
    world.event("silent")
    assert [e.event_id for e in compare(world, first=DAY + timedelta(days=1)).events] == ["e2", "e1"]
    assert [e.event_id for e in compare(world, last=DAY).events] == ["e0"]
    [silent] = compare(world, events=["silent"]).events
    assert (silent.standing, silent.tactics, silent.registrations) == ("no_claims", (), None)


def test_what_belongs_to_no_event_or_tactic_is_shown(world):
    world.event()
    claimed(world, "meta_ads", "meta_ads", 7, event_id=None, spend=900)
    claimed(world, "google_ads", None, 3, spend=50)
    world.registered(9, "own_email")
    found = compare(world)
    assert [(u.source, u.campaigns, u.claimed, u.spend) for u in found.unmapped] == [("meta_ads", 1, 7, 900)]
    [event] = found.events
    lost = next(t for t in event.tactics if t.tactic_id is None)
    assert (lost.claimed, lost.counted, lost.spend_platform) == (3, None, 50)
    assert "without_tactic" in {r.code for r in event.remarks}


def test_organisations_do_not_mix(world):
    world.event()
    claimed(world, "meta_ads", "meta_ads", 40)
    world.registered(5, "meta_ads", organisation="other")
    [event] = compare(world).events
    assert (event.standing, event.claimed) == ("unverified", 40)
    assert reconcile(world.engine, "other", currency="JPY").events == ()


def test_figures_are_shown_whole_where_they_are():
    assert [figure(v) for v in (None, 0.0, 1234.0, 1234.5, 0.125)] == ["–", "0", "1,234", "1,234.5", "0.12"]


# --- accounts ---------------------------------------------------------------------------------------------------------


def both(world: World, days: int, *, spend: tuple[float, float] = (100, 100), ids: tuple[str, str] = ("77", "cmp_1")):
    """One campaign as the interface gives it, with an account, and as an export without one has it."""
    for account, campaign, amount in (("1234567890", ids[0], spend[0]), ("", ids[1], spend[1])):
        world.campaign(
            campaign, account=account, source="google_ads", name="Brand", first_seen=DAY,
            last_seen=DAY + timedelta(days=days - 1),
        )  # fmt: skip
        for number in range(days):
            world.ad(DAY + timedelta(days=number), amount, campaign_id=campaign, account=account, source="google_ads")


def test_one_campaign_read_under_two_accounts_is_told(world):
    world.event()
    both(world, 3, spend=(100, 100.004))  # the export rounds
    [overlap] = compare(world).overlaps
    assert (overlap.source, overlap.name, overlap.account_a, overlap.account_b) == (
        "google_ads",
        "Brand",
        "",
        "1234567890",
    )
    assert (overlap.days, overlap.same_days, overlap.is_double) == (3, 3, True)
    assert overlap.spend_twice == pytest.approx(300, abs=1)


def test_two_campaigns_of_one_name_with_other_figures_are_no_double(world):
    world.event()
    both(world, 3, spend=(100, 250))
    [overlap] = compare(world).overlaps
    assert (overlap.days, overlap.same_days, overlap.is_double, overlap.spend_twice) == (3, 0, False, None)
    assert not overlap.is_suspect


def test_one_id_in_two_accounts_is_suspect_whatever_the_figures(world):
    world.event()
    both(world, 3, spend=(100, 250), ids=("77", "77"))
    [overlap] = compare(world).overlaps
    assert (overlap.is_suspect, overlap.is_double) == (True, False)


def test_a_period_report_beside_days_is_recognised_by_its_sum(world):
    world.event()
    both(world, 3)
    with world.engine.begin() as connection:
        connection.execute(sa.delete(wh.ad_performance).where(wh.ad_performance.c.account == ""))
    last = DAY + timedelta(days=2)
    world.ad(
        DAY, 300, campaign_id="cmp_1", account="", source="google_ads", period_end=last, impressions=3000, clicks=60
    )
    [overlap] = compare(world).overlaps
    assert (overlap.days, overlap.same_days, overlap.is_double) == (3, 3, True)


def test_campaigns_of_other_days_names_or_sources_do_not_meet(world):
    world.event()
    both(world, 2)
    with world.engine.begin() as connection:
        t = wh.campaign
        connection.execute(sa.update(t).where(t.c.account == "").values(name="Other"))
    assert compare(world).overlaps == ()
