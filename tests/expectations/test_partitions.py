"""Whole days that must not count, and clean ones that must pass."""

from __future__ import annotations

from datetime import date, timedelta

import pandas as pd
import pytest

from expectations.gate import TurnoutGate
from turnout.warehouse import tables as wh
from turnout.warehouse.load import replace_partitions


@pytest.mark.parametrize("table", ["ad_performance", "email_performance", "registration", "event", "tactic_result"])
def test_two_hundred_clean_partitions_raise_no_alarm(table, gate, clean):
    partitions = 0
    for seed in range(4):
        frame = clean(table, 320, seed=seed)
        if "date" in frame:
            partitions += frame.groupby(["source", "account", "date"]).ngroups
        decision = gate(table, frame)
        assert (list(decision.rejected), list(decision.stopped), list(decision.warnings)) == ([], [], [])
    assert partitions >= 200 or "date" not in frame


def test_a_mostly_faulty_day_stops_and_others_do_not(gate, clean):
    frame = clean("ad_performance", 18)
    frame["source"] = "meta_ads"
    frame.loc[["r6", "r7", "r8", "r9"], "clicks"] = -1
    frame.at["r12", "clicks"] = -1
    decision = gate("ad_performance", frame)
    assert [(s.source, s.account, s.date, s.code) for s in decision.stopped] == [
        ("meta_ads", "a1", date(2026, 9, 2), "mostly_faulty")
    ]
    assert decision.stopped[0].reason == "4 of 6 rows are faulty"
    assert {row.index for row in decision.rejected} == {"r6", "r7", "r8", "r9", "r12"}


def test_an_export_pasted_twice_stops(gate, clean):
    once = clean("ad_performance", 6)
    once["source"] = "google_ads"
    twice = pd.concat([once, once], ignore_index=True)
    decision = gate("ad_performance", twice)
    assert [(s.date, s.code) for s in decision.stopped] == [(date(2026, 9, 1), "everything_twice")]
    assert list(gate("ad_performance", once).stopped) == []


def test_two_equal_ads_on_one_day_are_no_copy(gate, clean):
    frame = clean("ad_performance", 6)
    frame["source"] = "google_ads"
    frame.loc["r1"] = frame.loc["r0"]
    assert list(gate("ad_performance", frame).stopped) == []


@pytest.fixture
def history(engine, settings, clean) -> pd.DataFrame:
    """Thirty days of 30 rows in the warehouse; returns the frame of the day after."""
    frame = pd.concat([clean("ad_performance", 30, seed=seed) for seed in range(31)], ignore_index=True)
    days = [date(2026, 10, 1) + timedelta(days=n // 30) for n in range(len(frame))]
    frame = frame.assign(date=days, period_end=days, source="meta_ads", organisation=settings.organisation)
    with engine.begin() as connection:
        replace_partitions(connection, wh.ad_performance, frame[:900].drop(columns="line"))
    return frame[900:].reset_index(drop=True)


def test_a_usual_day_passes(settings, history):
    decision = TurnoutGate(settings)("ad_performance", history)
    assert (list(decision.stopped), list(decision.warnings)) == ([], [])


def _times(frame: pd.DataFrame, factor: int) -> pd.DataFrame:
    """A day on which everything is so many times more: no price tells."""
    columns = ("impressions", "clicks", "spend", "spend_base", "conversions")
    return frame.assign(**{name: pd.Series([v * factor for v in frame[name]], dtype=object) for name in columns})


def test_spend_out_of_all_proportion_stops_the_day(settings, history):
    decision = TurnoutGate(settings)("ad_performance", _times(history, 10_000))
    assert [(s.date, s.code) for s in decision.stopped] == [(date(2026, 10, 31), "spend_out_of_proportion")]


def test_a_dear_day_and_a_thin_day_are_worth_a_word(settings, history):
    dear = TurnoutGate(settings)("ad_performance", _times(history, 60))
    assert list(dear.stopped) == []
    assert [w.split(":")[0] for w in dear.warnings] == ["spend_jump"]
    thin = TurnoutGate(settings)("ad_performance", history[:3])
    assert [w.split(":")[0] for w in thin.warnings] == ["few_rows"]


def test_a_day_five_times_as_dear_is_a_sale(settings, history):
    decision = TurnoutGate(settings)("ad_performance", _times(history, 5))
    assert (list(decision.stopped), list(decision.warnings)) == ([], [])


def test_another_accounts_history_says_nothing(settings, history):
    other = _times(history.assign(account="a2"), 10_000)
    assert list(TurnoutGate(settings)("ad_performance", other).stopped) == []
