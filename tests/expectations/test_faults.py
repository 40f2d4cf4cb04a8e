"""A corpus of single faults, one a row among clean ones: each is caught with its reason, and nothing else is."""

from __future__ import annotations

from decimal import Decimal

import pandas as pd
import pytest

from benchmarks.quality_rows import REJECTED, WARNED, Fault
from expectations.gate import TurnoutGate


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
