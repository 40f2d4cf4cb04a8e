"""Whole nights against a history in the warehouse: every fault is caught, and clean ones pass in silence."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from benchmarks.quality import load_history, night_faults, quiet_nights, said
from benchmarks.quality_nights import NIGHT_FAULTS, YESTERDAY, accounts, times, yesterday
from benchmarks.quality_rows import REJECTED, WARNED
from benchmarks.quality_world import TODAY, ad_account
from expectations.gate import TurnoutGate, all_checks


@pytest.mark.slow
def test_every_fault_of_a_night_is_caught_as_it_should_be(settings, engine):
    outcomes = night_faults(TurnoutGate(settings, today=TODAY), engine)
    assert [(o.name, o.said) for o in outcomes if not o.caught] == []


@pytest.mark.slow
def test_clean_nights_are_quiet(settings, engine):
    nights = quiet_nights(settings, TurnoutGate(settings, today=TODAY), engine, 28, mornings_each=1)
    assert [(night.account, night.morning, night.alarms) for night in nights if night.alarms] == []
    assert sum(night.partitions for night in nights) > 200


def test_the_corpus_is_large_and_has_a_fault_for_every_check():
    rows = [code for corpus in (REJECTED, WARNED) for faults in corpus.values() for _, _, code in faults]
    assert len(rows) + len(NIGHT_FAULTS) >= 60
    assert max(Counter(fault.name for fault in NIGHT_FAULTS).values()) == 1
    assert set(all_checks()) - {*rows, *(fault.code for fault in NIGHT_FAULTS)} == set()


def test_reading_a_night_again_says_the_same(settings, engine):
    account = accounts()["ads"]
    load_history(engine, account, account.known(TODAY))
    frame = yesterday(times(7, "spend", "spend_base"))(account.night(TODAY))
    first, again = (said(TurnoutGate(settings, today=TODAY)(account.table, frame)) for _ in range(2))
    assert first == again == {("warn", "cost_drift")}
    # and once it is loaded
    load_history(engine, account, frame)
    assert ("stop", "days_gone") not in said(TurnoutGate(settings, today=TODAY)(account.table, frame))


def test_a_search_campaign_beside_display_ads_is_no_drift(settings, engine):
    account = ad_account("mixed", 77)
    load_history(engine, account, account.known(TODAY))
    assert said(TurnoutGate(settings, today=TODAY)(account.table, account.night(TODAY))) == set()


def test_a_long_first_file_is_its_own_history(settings, engine):
    account = accounts()["ads"]
    everything = account.rows[account.rows["date"] < TODAY].reset_index(drop=True)
    assert said(TurnoutGate(settings, today=TODAY)(account.table, everything)) == set()
    wrong = yesterday(times(100, "spend", "spend_base"))(everything)
    decision = TurnoutGate(settings, today=TODAY)(account.table, wrong)
    assert [(s.date, s.code) for s in decision.stopped] == [(YESTERDAY, "amount_scale")]


def test_frames_of_one_run_know_of_those_before(settings, engine):
    account = accounts()["ads"]
    gate = TurnoutGate(settings, today=TODAY)
    middle = TODAY - timedelta(days=20)
    early = account.rows[account.rows["date"] <= middle].reset_index(drop=True)
    late = account.rows[(account.rows["date"] > middle) & (account.rows["date"] < TODAY)].reset_index(drop=True)
    assert said(gate(account.table, early)) == set()
    decision = gate(account.table, yesterday(times(100, "spend", "spend_base"))(late))
    assert [(s.date, s.code) for s in decision.stopped] == [(YESTERDAY, "amount_scale")]
