"""Predictions and what came of them, on real PostgreSQL and a real registry."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from tests.training import histories
from tests.training.histories import UNTIL, Law
from training import drift, monitoring, response
from training.drift import Reference
from training.promotion import promote_if_better
from turnout import model_news, registry
from turnout.settings import Settings
from turnout.warehouse import tables
from turnout.warehouse.partitions import ensure_months

LAW = Law(days=80)


def plan(
    engine,
    settings,
    event,
    *,
    factor=1.0,
    spend=1.0,
    version="1",
    arm="champion",
    days_before=28,
    width=0.5,
    features=None,
):
    """Store a plan: predictions are the outcome times ``factor``, the money is what was spent times ``spend``."""
    plan_id, made = (
        uuid4(),
        datetime.combine(event["event_date"] - timedelta(days=days_before), datetime.min.time(), UTC),
    )
    brief = {"event": {"category": event["segment_id"]}, "goal": {"target": event["target_registrations"]}}
    rows = []
    parts = {t: (r["registrations"], r["spend_base"] or 0, r["staff_hours"] or 0) for t, r in event["tactics"].items()}
    for tactic, (count, money, hours) in {**parts, "": (event["registrations"], 0, 0)}.items():
        mean = count * factor
        rows.append({
            "plan_id": plan_id, "organisation": settings.organisation, "tactic_id": tactic, "spend_base": money * spend,
            "staff_hours": hours, "registrations_mean": mean, "registrations_p10": mean * (1 - width),
            "registrations_p50": mean, "registrations_p90": mean * (1 + width), "model_name": registry.RESPONSE,
            "model_version": version, "features": (features or {}).get(tactic, {}), "created_at": made,
        })  # fmt: skip
    with engine.begin() as connection:
        connection.execute(sa.insert(tables.plan), {
            "plan_id": plan_id, "organisation": settings.organisation, "event_id": event["event_id"], "brief": brief,
            "answer": {}, "model_versions": [{"name": registry.RESPONSE, "version": version, "alias": arm}],
            "created_at": made,
        })  # fmt: skip
        connection.execute(sa.insert(tables.prediction), rows)
    return plan_id


@pytest.fixture
def told(monkeypatch):
    sent: list[tuple[str, str]] = []
    monkeypatch.setattr(monitoring, "send_alert", lambda settings, title, text: sent.append((title, text)))
    return sent


def value(rows, metric, *, segment="", window=90, version="", subject=""):
    wanted = (metric, segment, window, version, subject)
    [row] = [r for r in rows if (r.metric, r.segment_id, r.window_days, r.model_version, r.subject) == wanted]
    return row


# --- joining ----------------------------------------------------------------------------------------------------------


def test_each_event_counts_once_by_the_plan_that_was_followed(settings, engine):
    events = histories.records(3, LAW)
    histories.store(engine, settings, events)
    followed = plan(engine, settings, events[0], days_before=40)
    plan(engine, settings, events[0], spend=3.0, days_before=20)  # a later what-if that nobody followed
    plan(engine, settings, events[0], days_before=-1)  # after the event
    plan(engine, settings, events[1], spend=5.0)  # planned, and done otherwise
    with engine.connect() as connection:
        found = monitoring.join(connection, settings, UNTIL - timedelta(days=365), UNTIL)

    by_event = found.events.set_index("event_id")
    assert set(by_event.index) == {events[0]["event_id"], events[1]["event_id"]}
    assert by_event.loc[events[0]["event_id"], "plan_id"] == followed
    assert by_event["followed"].to_dict() == {events[0]["event_id"]: True, events[1]["event_id"]: False}
    assert by_event.loc[events[0]["event_id"], "registrations"] == events[0]["registrations"]
    done = found.tactics[found.tactics["event_id"] == events[0]["event_id"]].set_index("tactic_id")
    assert done["registrations"].to_dict() == {t: r["registrations"] for t, r in events[0]["tactics"].items()}
    paid = {t for t, r in events[1]["tactics"].items() if r["spend_base"]}
    assert not paid & set(found.tactics.loc[found.tactics["event_id"] == events[1]["event_id"], "tactic_id"])


def test_where_nobody_knows_what_was_spent_the_last_plan_counts():
    planned = pd.DataFrame([
        {"plan_id": p, "event_id": "e", "created_at": day, "tactic_id": t, "spend_base": s, "registrations": 10.0}
        for p, day in (("a", date(2026, 1, 1)), ("b", date(2026, 1, 5))) for t, s in (("", 100.0), ("meta_ads", 100.0))
    ])  # fmt: skip
    actual = pd.DataFrame({
        "event_id": ["e"], "tactic_id": ["meta_ads"], "spend_base": [np.nan], "registrations": [4.0],
    })  # fmt: skip
    found = monitoring.joined(planned, actual)
    assert found.events["plan_id"].tolist() == ["b"]
    assert found.events["followed"].all()
    assert len(found.tactics) == 1


# --- measuring --------------------------------------------------------------------------------------------------------


def test_error_bias_and_coverage_are_counted_per_segment_version_and_window(settings, engine, empty_registry, told):
    events = histories.records(40, LAW)
    histories.store(engine, settings, events)
    for i, event in enumerate(events):
        plan(engine, settings, event, factor=1.1, version="2" if i % 4 == 0 else "1")

    report = monitoring.observe(settings, UNTIL)

    rows = report.rows
    total = np.array([e["registrations"] for e in events])
    assert value(rows, "mae").value == pytest.approx(0.1 * total.mean(), rel=1e-6)
    assert value(rows, "rmse").value == pytest.approx(0.1 * np.sqrt((total**2).mean()), rel=1e-6)
    assert value(rows, "bias").value == pytest.approx(0.1)
    assert value(rows, "bias").status == "ok"
    assert (value(rows, "coverage_80").value, value(rows, "coverage_80").status) == (1.0, "warning")
    assert not told
    assert value(rows, "not_followed").value == 0.0
    cloud = [e for e in events if e["segment_id"] == "cloud"]
    assert value(rows, "mae", segment="cloud").evidence == len(cloud)
    assert value(rows, "mae", version="2").evidence == 10
    recent = [e for e in events if e["event_date"] >= UNTIL - timedelta(days=28)]
    assert value(rows, "mae", window=28).evidence == len(recent)
    assert value(rows, "tactic_bias", subject="meta_ads").value == pytest.approx(0.1)
    with engine.connect() as connection:
        stored = connection.scalar(sa.select(sa.func.count()).select_from(tables.model_monitor))
    assert stored == len(rows)
    day, read = monitoring.latest(settings)
    assert day == UNTIL
    assert sorted(map(str, read)) == sorted(map(str, rows))
    assert json.loads(json.dumps(report.as_dict()))["as_of"] == "2026-11-01"


def test_what_goes_wrong_is_told_once_until_it_was_right_again(settings, engine, empty_registry, told):
    events = histories.records(40, LAW)
    histories.store(engine, settings, events)
    rng = np.random.default_rng(0)
    for event in events:
        plan(engine, settings, event, factor=float(np.exp(rng.normal(0.6, 0.1))), width=0.1)

    first = monitoring.observe(settings, UNTIL)
    again = monitoring.observe(settings, UNTIL)
    next_night = monitoring.observe(settings, UNTIL + timedelta(days=1))

    assert value(first.rows, "bias").status == "alarm"
    assert value(first.rows, "coverage_80").status == "alarm"
    assert any("off over 40 events" in line for line in first.alarms)
    assert (again.alarms, next_night.alarms) == ([], [])
    assert len(told) == 1
    assert "all segments: predictions are +8" in told[0][1]
    with engine.connect() as connection:
        rows = model_news.measured(connection, settings.organisation, UNTIL + timedelta(days=1))
    assert model_news.headline(rows, "en").startswith("predictions of the last 90 days: 40 events, mean error ")
    assert "直近90日の予測: 40件" in model_news.headline(rows, "ja")
    said = model_news.news(rows, [], UNTIL, "en")
    assert any("80 % intervals held 0% of 40 events" in one.text for one in said)


def test_few_events_are_shown_and_not_judged(settings, engine, empty_registry, told):
    events = histories.records(4, LAW)
    histories.store(engine, settings, events)
    for event in events:
        plan(engine, settings, event, factor=5.0)
    rows = monitoring.observe(settings, UNTIL).rows
    assert value(rows, "bias").value == pytest.approx(4.0)
    assert {r.status for r in rows if r.metric != "not_followed"} == {"too_few"}
    assert not told
    assert "too few to judge" in model_news.headline(rows, "en")


def test_good_predictions_seldom_alarm(settings):
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(200):
        mean = rng.uniform(50, 200, 40)
        rate = mean * np.exp(rng.normal(0, 0.25, 40) - 0.25**2 / 2)
        events = pd.DataFrame({
            "segment_id": [("ai_data", "cloud")[i % 2] for i in range(40)], "followed": True, "mean": mean,
            "p10": mean * np.exp(-1.2816 * 0.27), "p90": mean * np.exp(1.2816 * 0.27),
            "registrations": rng.poisson(rate),
        })  # fmt: skip
        alarms += any(r.status == "alarm" for r in monitoring.event_rows(events, 90, expected=0.22))
    assert alarms / 200 <= 0.03


def test_nothing_to_look_at_is_no_error(settings, engine, empty_registry, told):
    assert monitoring.observe(settings, UNTIL).rows == []
    with engine.connect() as connection:
        assert model_news.measured(connection, settings.organisation, UNTIL) == []


def test_other_organisations_stay_out(settings, engine, empty_registry, told):
    events = histories.records(10, LAW)
    histories.store(engine, settings, events)
    other = settings.model_copy(update={"organisation": "other"})
    for event in events:
        plan(engine, settings, event)
    monitoring.observe(settings, UNTIL)
    assert monitoring.observe(other, UNTIL).rows == []
    assert monitoring.latest(settings)[1]


# --- restated outcomes ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_outcomes_restated_after_training_are_noticed_measured_anew_and_learnt_next(
    settings: Settings, engine, empty_registry, told
):
    events = histories.records(24, LAW)
    histories.store(engine, settings, events)
    for event in events:
        plan(engine, settings, event)
    first = response.train(settings, UNTIL)
    promote_if_better(settings, first)
    before = monitoring.observe(settings, UNTIL).rows
    assert (value(before, "restated").status, value(before, "restated").evidence) == ("ok", 0)
    assert value(before, "mae").value == pytest.approx(0.0)

    changed = events[20]
    came = tables.registration.c
    with engine.begin() as connection:
        mine = came.event_id == changed["event_id"]
        connection.execute(sa.update(tables.registration).where(mine).values(quantity=came.quantity * 3))
    after = monitoring.observe(settings, UNTIL + timedelta(days=1)).rows

    restated = value(after, "restated")
    assert (restated.status, restated.evidence, restated.reference) == ("warning", 1, 24)
    assert restated.value == pytest.approx(2.0)
    assert f"{changed['event_id']} {changed['registrations']:,} → {3 * changed['registrations']:,}" in restated.detail
    # the prediction made long ago is held against the new figure
    assert value(after, "mae").value == pytest.approx(2 * changed["registrations"] / value(after, "mae").evidence)
    said = {language: model_news.sentence(restated, language) for language in ("en", "ja")}
    assert "1 of 24 events were restated" in said["en"]
    assert "+200%" in said["en"]
    assert "24件中1件の実績が訂正" in said["ja"]
    second = response.train(settings, UNTIL + timedelta(days=1))
    assert second.created
    assert second.version != first.version


@pytest.mark.slow
def test_what_comes_after_the_events_day_is_no_outcome_of_its_plan(settings, engine, empty_registry, told):
    events = histories.records(6, LAW)
    histories.store(engine, settings, events)
    for event in events:
        plan(engine, settings, event)
    late = {
        "organisation": settings.organisation, "source": "registrations", "account": "late", "line": 1,
        "account_time_zone": "Asia/Tokyo", "fetched_at": datetime(2026, 11, 1, tzinfo=UTC), "run_id": uuid4(),
        "event_id": events[0]["event_id"], "date": events[0]["event_date"] + timedelta(days=2), "quantity": 5000,
        "status": "confirmed", "source_label": "meta", "tactic_id": "meta_ads",
    }  # fmt: skip
    with engine.begin() as connection:
        ensure_months(connection, tables.registration, late["date"], late["date"])
        connection.execute(sa.insert(tables.registration), [late])
    with engine.connect() as connection:
        found = monitoring.join(connection, settings, UNTIL - timedelta(days=365), UNTIL)
    outcomes = found.events.set_index("event_id")["registrations"]
    assert outcomes.to_dict() == {e["event_id"]: e["registrations"] for e in events}
    parts = found.tactics.set_index(["event_id", "tactic_id"])["registrations"]
    for tactic, result in events[0]["tactics"].items():
        assert parts.get((events[0]["event_id"], tactic), result["registrations"]) == result["registrations"]


@pytest.mark.slow
def test_a_decided_ab_test_is_news_and_an_open_one_is_not(settings, engine, empty_registry, told, monkeypatch):
    from training import abtest

    def measure(better):
        return abtest.Measure("error", 2.0, 1.0, 30, 30, -1.0, -1.3, -0.7, 0.001, better, 60)

    def standing(better):
        found = abtest.Report("1", "2", 0.5, "2026-09-01", str(UNTIL), [measure(better)], "")
        monkeypatch.setattr(abtest, "report", lambda *_, **__: found)
        shared = settings.model_copy(update={"challenger_share": 0.5})
        rows = monitoring.observe(shared, UNTIL).rows
        return value(rows, "ab", subject="error"), model_news.news(rows, [], UNTIL, "en")

    row, news = standing("challenger")
    assert (row.status, row.evidence, row.detail) == ("warning", 60, "challenger v2")
    assert news[0].text == (
        "A/B test, prediction error: challenger v2 is better (60 events, p = 0.001, valid at any time)"
    )
    row, news = standing("not_yet")
    assert (row.status, news) == ("ok", [])


# --- drift ------------------------------------------------------------------------------------------------------------


def frame(rng, n, *, shift=0.0, tactics=("a", "b")):
    tactic = rng.choice(list(tactics), n)
    scale = np.where(tactic == "a", 1.0, 1000.0)
    return pd.DataFrame({"tactic_id": tactic, "rate": scale * np.exp(rng.normal(shift, 0.5, n)), "fixed": 3.0})


def test_another_mix_of_tactics_is_no_drift_and_a_shift_is():
    rng = np.random.default_rng(1)
    reference = Reference.from_json(Reference.of(frame(rng, 2000), ["rate", "fixed"]).to_json())
    same = {d.feature: d for d in drift.measure(reference, frame(rng, 300, tactics=("a", "a", "a", "b")))}
    assert same["rate"].status == same["fixed"].status == "ok"
    moved = {d.feature: d for d in drift.measure(reference, frame(rng, 300, shift=0.5))}
    assert moved["rate"].status == "alarm"
    assert moved["fixed"].status == "ok"
    assert {d.status for d in drift.measure(reference, frame(rng, 30, shift=3.0))} == {"too_few"}


def test_without_drift_few_values_do_not_alarm():
    rng = np.random.default_rng(2)
    found = [
        drift.measure(Reference.of(frame(rng, 200), ["rate"]), frame(rng, 60))[0].status for _ in range(300)
    ]  # fmt: skip
    assert found.count("alarm") + found.count("warning") <= 3


def test_a_feature_that_is_no_longer_delivered_alarms():
    rng = np.random.default_rng(3)
    reference = Reference.of(frame(rng, 500), ["rate"])
    [gone] = drift.measure(reference, frame(rng, 100).assign(rate=np.nan))
    assert (gone.status, gone.missing) == ("alarm", 1.0)


def test_a_tactic_that_training_never_saw_says_nothing():
    rng = np.random.default_rng(4)
    reference = Reference.of(frame(rng, 500), ["rate"])
    [found] = drift.measure(reference, frame(rng, 100, tactics=("new",)))
    assert (found.status, found.values) == ("too_few", 0)


@pytest.mark.slow
def test_features_of_plans_are_compared_with_those_of_the_champions_training(
    settings: Settings, engine, empty_registry, told
):
    from feature_repo import store as feature_store
    from feature_repo.build import refresh

    events = histories.records(80, Law(days=700))
    histories.store(engine, settings, events)
    feature_store.apply(settings)
    refresh(settings, UNTIL, UNTIL - timedelta(days=800))
    promote_if_better(settings, response.train(settings, UNTIL))
    name = "tactic_registrations_per_1000_365d"
    for day in range(27):
        event = dict(events[-1], event_date=UNTIL + timedelta(days=20 - day))
        plan(engine, settings, event, features={t: {name: 1e6} for t in event["tactics"]})

    rows = monitoring.observe(settings, UNTIL).rows

    psi = [r for r in rows if r.metric == "psi" and r.subject == name]
    missing = {r.subject: r.status for r in rows if r.metric == "missing"}
    assert len(psi) == 1
    assert psi[0].evidence > 0
    assert psi[0].value > drift.ALARM
    assert "alarm" in missing.values(), "the other features were not delivered at all"
    assert missing[name] == "ok"
