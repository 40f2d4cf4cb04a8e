"""A corpus of single faults, one a row among clean ones: each is caught with its reason, and nothing else is."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest

from expectations.gate import TurnoutGate

Fault = tuple[str, dict[str, Any], str]

#: name of the fault, what it does to a row, the code it is caught by.
REJECTED: dict[str, list[Fault]] = {
    "ad_performance": [
        ("no day", {"date": None}, "missing"),
        ("no end of period", {"period_end": None}, "missing"),
        ("no campaign", {"campaign_id": None}, "missing"),
        ("no campaign name", {"campaign_name": None}, "missing"),
        ("no currency", {"currency": None}, "missing"),
        ("no rate", {"fx_rate": None}, "missing"),
        ("text in a count", {"impressions": "many"}, "wrong_type"),
        ("text in an amount", {"spend": "¥1,2oo"}, "wrong_type"),
        ("text in a day", {"date": "sometime"}, "wrong_type"),
        ("half a click", {"clicks": Decimal("3.5")}, "wrong_type"),
        ("infinite spend", {"spend": float("inf")}, "wrong_type"),
        ("a number for a name", {"campaign_name": 12}, "wrong_type"),
        ("day in 1900", {"date": date(1900, 1, 1)}, "implausible_date"),
        ("day in 2099", {"date": date(2099, 1, 1), "period_end": date(2099, 1, 1)}, "implausible_date"),
        ("period backwards", {"period_end": date(2026, 8, 1)}, "period_reversed"),
        ("negative impressions", {"impressions": -5}, "out_of_range"),
        ("negative clicks", {"clicks": -5}, "out_of_range"),
        ("negative spend", {"spend": Decimal(-1), "spend_base": Decimal(-1)}, "out_of_range"),
        ("negative conversions", {"conversions": Decimal(-2)}, "out_of_range"),
        ("negative registrations", {"registrations": Decimal(-2)}, "out_of_range"),
        ("absurd impressions", {"impressions": 10**12}, "out_of_range"),
        ("absurd spend", {"spend": Decimal(10**12), "spend_base": Decimal(10**12)}, "out_of_range"),
        ("currency sign", {"currency": "¥"}, "unknown_currency"),
        ("currency in words", {"currency": "yen"}, "unknown_currency"),
        ("rate of zero", {"fx_rate": Decimal(0)}, "bad_rate"),
        ("wrongly converted", {"spend_base": Decimal(1)}, "wrong_conversion"),
        ("columns swapped", {"source": "google_ads", "impressions": 40, "clicks": 9_000}, "clicks_over_impressions"),
        ("clicks on nothing", {"source": "meta_ads", "impressions": 0, "clicks": 300}, "clicks_over_impressions"),
        (
            "spend in millionths",
            {"impressions": 900, "spend": Decimal(9_000_000_000), "spend_base": Decimal(9_000_000_000)},
            "implausible_price",
        ),
    ],
    "email_performance": [
        ("no day", {"date": None}, "missing"),
        ("text in a count", {"opens": "n/a"}, "wrong_type"),
        ("day in 1970", {"date": date(1970, 1, 1)}, "implausible_date"),
        ("negative deliveries", {"delivered": -1}, "out_of_range"),
        ("negative bounces", {"bounces": -3}, "out_of_range"),
        ("absurd requests", {"requests": 10**13}, "out_of_range"),
        ("more unique opens than opens", {"opens": 10, "unique_opens": 20}, "unique_opens_over_opens"),
        ("more unique clicks than clicks", {"clicks": 1, "unique_clicks": 2}, "unique_clicks_over_clicks"),
    ],
    "registration": [
        ("no day", {"date": None}, "missing"),
        ("no status", {"status": None}, "missing"),
        ("no quantity", {"quantity": None}, "missing"),
        ("unknown status", {"status": "maybe"}, "unknown_status"),
        ("quantity of zero", {"quantity": 0}, "out_of_range"),
        ("quantity below zero", {"quantity": -1}, "out_of_range"),
        ("text in a quantity", {"quantity": "two"}, "wrong_type"),
        ("attendance neither yes nor no", {"attended": "perhaps"}, "wrong_type"),
        ("day in 1900", {"date": date(1900, 1, 1), "registered_at": None}, "implausible_date"),
        ("day and instant a year apart", {"registered_at": datetime(2025, 9, 1, tzinfo=UTC)}, "dates_apart"),
    ],
    "event": [
        ("no name", {"name": None}, "missing"),
        ("blank name", {"name": " 　"}, "missing"),
        ("no day", {"event_date": None}, "missing"),
        ("day in 1900", {"event_date": date(1900, 1, 1)}, "implausible_date"),
        ("day in 2126", {"event_date": date(2126, 1, 1)}, "implausible_date"),
        ("unknown format", {"format": "somewhere"}, "unknown_format"),
        ("unknown category", {"category": "gardening"}, "unknown_category"),
        ("negative target", {"target_registrations": -1}, "out_of_range"),
        ("negative attendees", {"actual_attendees": -1}, "out_of_range"),
        ("negative budget", {"budget": Decimal(-1)}, "out_of_range"),
        ("absurd price", {"price": Decimal(10**10)}, "out_of_range"),
        ("text in a budget", {"budget": "120万円くらい"}, "wrong_type"),
        ("currency sign", {"currency": "$"}, "unknown_currency"),
        ("same event again", {"event_id": "evt_0"}, "duplicate"),
    ],
    "tactic_result": [
        ("no event", {"event_name": None}, "missing"),
        ("blank event", {"event_name": ""}, "missing"),
        ("no tactic", {"tactic_id": None}, "missing"),
        ("unknown tactic", {"tactic_id": "skywriting"}, "unknown_tactic"),
        ("negative reach", {"reach": -1}, "out_of_range"),
        ("negative registrations", {"registrations": Decimal(-1)}, "out_of_range"),
        ("negative cost", {"cost": Decimal(-1), "cost_base": Decimal(-1)}, "out_of_range"),
        ("a year of hours in a day", {"staff_hours": Decimal(50_000)}, "out_of_range"),
        ("text in a cost", {"cost": "unknown"}, "wrong_type"),
        ("columns swapped", {"reach": 10, "clicks": 5_000}, "clicks_over_reach"),
        ("same result again", {"result_id": "r0"}, "duplicate"),
    ],
}
WARNED: dict[str, list[Fault]] = {
    "ad_performance": [
        ("day to come", {"date": date(2027, 3, 1), "period_end": date(2027, 3, 1)}, "date_in_future"),
        ("more clicks", {"source": "meta_ads", "impressions": 20, "clicks": 27}, "more_clicks_than_impressions"),
        ("many conversions", {"clicks": 2, "conversions": Decimal(900)}, "many_conversions"),
        (
            "more registrations than conversions",
            {"clicks": 90, "conversions": Decimal(1), "registrations": Decimal(9)},
            "more_registrations_than_conversions",
        ),
        ("spend on nothing", {"impressions": 0, "clicks": 0}, "spend_without_impressions"),
    ],
    "registration": [
        ("came without registration", {"status": "cancelled", "attended": True}, "attended_without_registration"),
    ],
    "event": [
        ("opens after", {"registration_opens": date(2030, 1, 1)}, "opens_after_event"),
        (
            "a crowd",
            {"actual_registrations": 10, "actual_attendees": 400},
            "more_attendees_than_registrations",
        ),
        ("ten cinemas in one", {"capacity": 10, "actual_registrations": 900}, "far_over_capacity"),
        ("budget in thousands", {"budget": Decimal(100), "actual_cost": Decimal(1_000_000)}, "far_over_budget"),
    ],
    "tactic_result": [
        ("registrations past clicks", {"clicks": 3, "registrations": Decimal(30)}, "more_registrations_than_clicks"),
        ("CPA of another row", {"reported_cpa": Decimal(9_999_999)}, "cpa_differs"),
    ],
}


def _spoil(frame: pd.DataFrame, faults: list[Fault]) -> dict[str, Fault]:
    """Put every fault into a row of its own, each on a day of its own; returns the faults by row label."""
    placed = {}
    for n, fault in enumerate(faults, start=1):
        label = f"r{6 * n}"
        for column, value in fault[1].items():
            frame.at[label, column] = value
        placed[label] = fault
    return placed


@pytest.mark.parametrize("table", REJECTED)
def test_every_fault_is_refused_with_its_reason_and_clean_rows_pass(table, gate, clean):
    faults = REJECTED[table]
    frame = clean(table, 6 * len(faults) + 6)
    placed = _spoil(frame, faults)
    decision = gate(table, frame)
    codes: dict[str, set[str]] = {}
    for row in decision.rejected:
        codes.setdefault(row.index, set()).add(row.code)
        assert row.reason
        assert "{" not in row.reason
    for label, (name, _, code) in placed.items():
        assert code in codes.get(label, set()), f"{name}: caught as {codes.get(label)}"
    assert set(codes) == set(placed)
    assert list(decision.stopped) == []
    assert decision.rows_checked == len(frame)


@pytest.mark.parametrize("table", WARNED)
def test_what_is_odd_but_possible_is_loaded_with_a_warning(table, gate, clean):
    faults = WARNED[table]
    frame = clean(table, 6 * len(faults) + 6)
    _spoil(frame, faults)
    decision = gate(table, frame)
    assert list(decision.rejected) == []
    assert {warning.split(":")[0] for warning in decision.warnings} == {code for _, _, code in faults}


def test_the_corpus_has_at_least_sixty_faults():
    assert sum(len(faults) for faults in (*REJECTED.values(), *WARNED.values())) >= 60


def test_a_reason_names_the_value_and_what_is_allowed(gate, clean):
    frame = clean("ad_performance", 12)
    frame.at["r3", "spend"] = Decimal(-1200)
    frame.at["r3", "spend_base"] = Decimal(-1200)
    frame.at["r8", "impressions"] = "三千"
    by_label = {row.index: row for row in gate("ad_performance", frame).rejected}
    assert by_label["r3"].reason == "spend is -1,200; it must lie between 0 and 10,000,000,000"
    assert (by_label["r3"].column, by_label["r3"].value) == ("spend", "-1200")
    assert by_label["r8"].reason == "impressions is '三千', not a whole number"
    assert (by_label["r8"].column, by_label["r8"].value) == ("impressions", "三千")


def test_of_duplicates_the_first_stays(gate, clean):
    frame = clean("registration", 10)
    frame.loc["r4"] = frame.loc["r3"]
    frame.loc["r5"] = frame.loc["r3"]
    decision = gate("registration", frame)
    assert [(row.index, row.code) for row in decision.rejected] == [("r4", "duplicate"), ("r5", "duplicate")]

    mails = clean("email_performance", 9)
    mails.at["r4", "category"] = mails.at["r3", "category"]
    assert [row.index for row in gate("email_performance", mails).rejected] == ["r4"]


def test_registrations_without_identity_are_never_duplicates(gate, clean):
    frame = clean("registration", 6)
    frame["registrant_hash"] = None
    frame.loc["r1"] = frame.loc["r2"] = frame.loc["r0"]
    assert list(gate("registration", frame).rejected) == []


def test_a_column_that_lacks_altogether_refuses_every_row(gate, clean):
    decision = gate("ad_performance", clean("ad_performance", 6).drop(columns="currency"))
    assert {(row.index, row.code) for row in decision.rejected} == {(f"r{n}", "missing") for n in range(6)}


def test_unknown_figures_are_no_fault(gate, clean):
    frame = clean("ad_performance", 6)
    for column in ("impressions", "clicks", "spend", "spend_base", "conversions"):
        frame[column] = None
    decision = gate("ad_performance", frame)
    assert (list(decision.rejected), list(decision.stopped), list(decision.warnings)) == ([], [], [])


def test_relations_that_need_not_hold_do_not_refuse(gate, clean):
    ads = clean("ad_performance", 6)
    ads["source"] = "linkedin_ads"
    ads["impressions"], ads["clicks"] = 10, 400  # message ads: clicks on sends
    mails = clean("email_performance", 6)
    mails["delivered"], mails["requests"] = 0, 0  # yesterday's mailing, opened today
    assert list(gate("ad_performance", ads).rejected) == []
    assert list(gate("email_performance", mails).rejected) == []
    assert list(gate("email_performance", mails).warnings) == []


def test_an_unknown_table_is_the_callers_mistake(gate: TurnoutGate, clean):
    with pytest.raises(KeyError):
        gate("plan", clean("event", 1))
