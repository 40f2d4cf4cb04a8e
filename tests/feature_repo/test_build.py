"""Snapshots know only what was known, shrink little data towards much, and are the same when computed again."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from feature_repo import build, names, schema
from turnout import taxonomy
from turnout.tactics import load_catalogue
from turnout.warehouse import tables as wh

MONDAY = date(2026, 6, 15)


def ago(days: int, of: date = MONDAY) -> date:
    return of - timedelta(days=days)


def snapshot(engine: Engine, view: str, as_of: date | None = None, **keys: str) -> pd.DataFrame:
    """Rows of one feature table in a stable order, newest version last."""
    conditions = [f"{key} = :{key}" for key in keys]
    bound: dict[str, object] = dict(keys)
    if as_of:
        conditions.append("event_timestamp = :at")
        bound["at"] = datetime.combine(as_of, datetime.min.time(), tzinfo=UTC) - timedelta(hours=9)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    order = ", ".join([*names.KEYS_BY_VIEW[view], names.EVENT_TIMESTAMP, names.CREATED_TIMESTAMP])
    with engine.connect() as connection:
        query = sa.text(f"SELECT * FROM features.{view} {where} ORDER BY {order}").bindparams(**bound)
        return pd.read_sql(query, connection)


def tactic(engine: Engine, tactic_id: str, as_of: date = MONDAY) -> pd.Series:
    return snapshot(engine, names.TACTIC_VIEW, as_of, tactic_id=tactic_id).iloc[-1]


def in_segment(engine: Engine, tactic_id: str, segment_id: str, as_of: date = MONDAY) -> pd.Series:
    return snapshot(engine, names.TACTIC_SEGMENT_VIEW, as_of, tactic_id=tactic_id, segment_id=segment_id).iloc[-1]


def segment(engine: Engine, segment_id: str, as_of: date = MONDAY) -> pd.Series:
    return snapshot(engine, names.SEGMENT_VIEW, as_of, segment_id=segment_id).iloc[-1]


# --- points in time ---------------------------------------------------------------------------------------------------


def test_an_events_outcome_counts_only_after_its_day(settings, engine, history):
    history.hold(ago(10), partner=(10, 50_000, 2))
    history.hold(MONDAY, partner=(999, 1, 1), attended=1.0)
    history.hold(ago(-5), partner=(999, 1, 1))
    build.refresh(settings, MONDAY)
    row = tactic(engine, "partner")
    assert (row.tactic_events_total, row.tactic_registrations_365d, row.tactic_days_since_last) == (1, 10, 10)
    assert segment(engine, "ai_data").segment_events_total == 1

    build.refresh(settings, ago(-1))
    later = tactic(engine, "partner", ago(-1))
    assert (later.tactic_events_total, later.tactic_registrations_365d) == (2, 1009)


def test_days_of_a_campaign_count_before_its_event_but_not_from_the_snapshots_day_on(settings, engine, history):
    event_id = history.hold(ago(-30))
    history.advertise(event_id, ago(4), 10, clicks=10, impressions=1000, spend=500)
    history.register(event_id, ago(1), 7)
    history.register(event_id, MONDAY, 100)
    build.refresh(settings, MONDAY)
    row = tactic(engine, "meta_ads")
    assert row.tactic_ctr_28d == pytest.approx(0.01)
    assert row.tactic_cost_per_click_28d == pytest.approx(50)
    assert row.tactic_events_total == 0
    assert segment(engine, "ai_data").segment_registrations_28d == 7


def test_a_fact_planted_in_the_future_changes_nothing(settings, engine, history):
    history.hold(ago(40), partner=(10, 50_000, 2), own_email=(30, None, 1), organic=20, attended=0.5)
    history.hold(ago(20), partner=(14, 50_000, 2), own_email=(20, None, 1), organic=10, attended=0.6)
    build.refresh(settings, MONDAY)
    views = (names.TACTIC_VIEW, names.TACTIC_SEGMENT_VIEW, names.SEGMENT_VIEW)
    before = {view: snapshot(engine, view) for view in views}
    late = history.hold(ago(-1), "marketing", partner=(5000, 10, 1), own_email=(5000, 1, 1), attended=1.0)
    history.advertise(late, MONDAY, 5, clicks=900, impressions=1000, spend=1)
    history.register(late, MONDAY, 500)
    build.refresh(settings, MONDAY)
    for view in views:
        pd.testing.assert_frame_equal(before[view], snapshot(engine, view))


def test_windows_end_where_they_say(settings, engine, history):
    for days in (1, 7, 8, 28, 29, 90, 91, 365, 366):
        history.hold(ago(days), partner=(1, 1_000, 1))
    build.refresh(settings, MONDAY)
    row = tactic(engine, "partner")
    counted = [row[f"tactic_events_{window}"] for window in ("7d", "28d", "90d", "365d", "total")]
    assert counted == [2, 4, 6, 8, 9]


# --- values -----------------------------------------------------------------------------------------------------------


def test_a_lone_tactics_rates_are_its_own(settings, engine, history):
    history.hold(ago(30), partner=(10, 40_000, 4))
    history.hold(ago(10), partner=(20, 80_000, None))
    build.refresh(settings, MONDAY)
    row = tactic(engine, "partner")
    assert row.tactic_registrations_per_1000_365d == pytest.approx(30 / 120)
    assert row.tactic_registrations_per_hour_365d == pytest.approx(10 / 4)  # of the event whose hours are known
    assert row.tactic_cvr_365d == pytest.approx(30 / 400)
    assert row.tactic_ctr_365d == pytest.approx(400 / 20_000)
    assert row.tactic_registrations_per_event_365d == 15
    assert row.tactic_spend_per_event_365d == 60_000
    assert row.tactic_hours_per_event_365d == 4
    assert row.tactic_cost_per_mille_365d == pytest.approx(6_000)


def test_a_tactic_without_exposure_has_counts_of_zero_and_no_rates(settings, engine, history):
    history.hold(ago(30), partner=(10, 40_000, 4))
    build.refresh(settings, MONDAY)
    row = tactic(engine, "seo_blog")
    assert (row.tactic_events_total, row.tactic_spend_365d) == (0, 0)
    assert pd.isna(row.tactic_registrations_per_1000_365d)
    assert pd.isna(row.tactic_days_since_last)
    assert pd.isna(in_segment(engine, "seo_blog", "ai_data").tactic_segment_ctr_365d)


def test_every_tactic_and_segment_there_is_has_a_row(settings, engine, history):
    history.hold(ago(30), "nobody_knows_this", partner=(10, 40_000, 4))
    counts = build.refresh(settings, MONDAY)
    tactics = len(load_catalogue().tactics)
    segments = len(taxonomy.categories.ids) + 2  # the unknown one, and all of them
    assert counts == {
        "tactic_stats": tactics,
        "tactic_segment_stats": tactics * segments,
        "segment_stats": segments,
        "snapshots": 1,
    }


def _credibility(groups: list[list[tuple[float, float]]]) -> list[float]:
    """Bühlmann-Straub, step by step: the shrunk rate of each group of (count, exposure)."""
    y = np.array([sum(c for c, _ in group) for group in groups])
    e = np.array([sum(x for _, x in group) for group in groups])
    m = y.sum() / e.sum()
    mu, parts = e * m, sum(len(group) for group in groups)
    squares = sum((c - x * m * y[g] / mu[g]) ** 2 / (x * m) for g, group in enumerate(groups) for c, x in group)
    within = max(squares / (parts - len(groups)), 1.0)
    between = (np.sum(mu * (y / mu - 1) ** 2) - (len(groups) - 1) * within) / (mu.sum() - np.sum(mu**2) / mu.sum())
    k = max(within / between, 1.0)
    return list(m * (y + k) / (mu + k))


def test_rates_are_shrunk_as_the_theory_says(settings, engine, history):
    results = {
        "partner": [(30, 40_000), (22, 30_000), (41, 60_000), (35, 55_000)],
        "google_display": [(3, 90_000), (5, 120_000), (2, 80_000)],
        "pr_release": [(1, 3_000)],
    }
    for name, parts in results.items():
        for n, (brought, spend) in enumerate(parts):
            history.hold(ago(100 + 7 * n), **{name: (brought, spend, None)})
    build.refresh(settings, MONDAY)
    expected = _credibility([[(y, spend / 1000) for y, spend in parts] for parts in results.values()])
    found = [tactic(engine, name).tactic_registrations_per_1000_365d for name in results]
    assert found == pytest.approx(expected, rel=1e-9)
    # the one with a single small event moved most, towards the others
    raw = [sum(y for y, _ in parts) / sum(s / 1000 for _, s in parts) for parts in results.values()]
    assert abs(found[2] / raw[2] - 1) > abs(found[0] / raw[0] - 1)
    # nothing in the last 90 days: the long window's rate stands
    assert tactic(engine, "partner").tactic_registrations_per_1000_90d == pytest.approx(found[0])


def test_short_windows_lean_on_the_long_one(settings, engine, history):
    for n in range(12):
        history.hold(ago(60 + 20 * n), partner=(30 + n % 3, 30_000, None), google_display=(2 + n % 2, 40_000, None))
    history.hold(ago(5), partner=(90, 30_000, None))
    build.refresh(settings, MONDAY)
    row = tactic(engine, "partner")
    assert row.tactic_registrations_per_1000_365d < row.tactic_registrations_per_1000_28d < 90 / 30


def test_where_tactics_do_not_differ_they_are_pooled(settings, engine, history):
    for n in range(6):
        history.hold(ago(10 + n), partner=(10, 10_000, None), pr_release=(10, 10_000, None))
    history.hold(ago(30), x_ads=(2, 1_000, None))
    build.refresh(settings, MONDAY)
    rates = {tactic(engine, name).tactic_registrations_per_1000_365d for name in ("partner", "pr_release", "x_ads")}
    assert max(rates) - min(rates) < 1e-9
    assert rates.pop() == pytest.approx(122 / 121)


def test_a_segments_rate_leans_on_the_tactics_own(settings, engine, history):
    for n in range(8):
        history.hold(ago(30 + 9 * n), "ai_data", own_email=(40 + n, None, 2))
        history.hold(ago(31 + 9 * n), "marketing", own_email=(10 + n % 3, None, 2))
    history.hold(ago(20), "sales_cs", own_email=(1, None, 2))
    build.refresh(settings, MONDAY)
    own = tactic(engine, "own_email").tactic_registrations_per_hour_365d
    rates = {
        name: in_segment(engine, "own_email", name).tactic_segment_registrations_per_hour_365d
        for name in ("ai_data", "marketing", "sales_cs", "all")
    }
    assert rates["ai_data"] > own > rates["marketing"]
    assert rates["all"] == pytest.approx(own)
    assert 1 / 2 < rates["sales_cs"] < own
    untouched = next(i for i in taxonomy.categories.ids if i not in rates)
    assert in_segment(engine, "own_email", untouched).tactic_segment_registrations_per_hour_365d == pytest.approx(own)
    assert in_segment(engine, "own_email", untouched).tactic_segment_events_total == 0


def test_a_lone_tactics_segments_are_shrunk_as_the_theory_says(settings, engine, history):
    brought = {"ai_data": [40, 52, 33, 47], "marketing": [9, 14, 11], "sales_cs": [1]}
    for name, counts in brought.items():
        for n, count in enumerate(counts):
            history.hold(ago(30 + n), name, own_email=(count, None, 2))
    build.refresh(settings, MONDAY)
    found = [in_segment(engine, "own_email", name).tactic_segment_registrations_per_hour_365d for name in brought]
    assert found == pytest.approx(_credibility([[(count, 2) for count in counts] for counts in brought.values()]))


def test_segments_know_their_events(settings, engine, history):
    for n in range(5):
        history.hold(ago(30 + n), "ai_data", own_email=(40, None, 2), organic=60, attended=0.5)
        history.hold(ago(200 + n), "marketing", own_email=(10, None, 2), organic=10, attended=0.8)
    build.refresh(settings, MONDAY)
    ai, marketing, pooled = (segment(engine, name) for name in ("ai_data", "marketing", "all"))
    assert (ai.segment_events_90d, ai.segment_events_365d, ai.segment_days_since_last) == (5, 5, 30)
    assert (marketing.segment_events_90d, marketing.segment_events_365d) == (0, 5)
    assert pooled.segment_events_total == 10
    assert pooled.segment_registrations_per_event_365d == pytest.approx(60)
    assert 60 < ai.segment_registrations_per_event_365d <= 100
    assert ai.segment_organic_per_event_365d > marketing.segment_organic_per_event_365d
    assert 0.5 <= ai.segment_show_up_rate_365d < marketing.segment_show_up_rate_365d <= 0.8
    never = segment(engine, next(i for i in taxonomy.categories.ids if i not in {"ai_data", "marketing"}))
    assert never.segment_registrations_per_event_365d == pytest.approx(60)
    assert never.segment_events_total == 0


def test_nothing_is_negative_or_infinite(settings, engine, history):
    generator = np.random.default_rng(5)
    for n in range(40):
        history.hold(
            ago(int(generator.integers(1, 500))), generator.choice(["ai_data", "marketing"]), organic=int(n % 3),
            clicks=int(generator.integers(0, 3)), reach=int(generator.integers(0, 3)),
            partner=(float(generator.poisson(0.3)), float(generator.choice([0, 1, 50_000])), 0.0),
            x_ads=(0.0, 10_000.0, None), attended=float(generator.choice([0, 1])),
        )  # fmt: skip
    build.refresh(settings, MONDAY, ago(200))
    for view in (names.TACTIC_VIEW, names.TACTIC_SEGMENT_VIEW, names.SEGMENT_VIEW):
        values = snapshot(engine, view)[list(names.FEATURES_BY_VIEW[view])].to_numpy(dtype=float)
        known = values[~np.isnan(values)]
        assert np.isfinite(known).all()
        assert (known >= 0).all()


def test_an_organisation_without_history_has_snapshots_without_rates(settings, engine):
    build.refresh(settings, MONDAY)
    rows = snapshot(engine, names.TACTIC_VIEW)
    assert (rows.tactic_events_total == 0).all()
    assert rows[list(names.rate_features("tactic"))].isna().all().all()
    assert segment(engine, "all").segment_events_total == 0


def test_organisations_do_not_learn_from_one_another(settings, engine, history):
    history.hold(ago(30), partner=(10, 40_000, 4))
    build.refresh(settings, MONDAY)
    before = snapshot(engine, names.TACTIC_VIEW, organisation=settings.organisation)
    history.hold(ago(20), organisation="rival", partner=(900, 1_000, 4), x_ads=(50, 1_000, 1))
    build.refresh(settings.model_copy(update={"organisation": "rival"}), MONDAY)
    build.refresh(settings, MONDAY)
    pd.testing.assert_frame_equal(before, snapshot(engine, names.TACTIC_VIEW, organisation=settings.organisation))
    rival = snapshot(engine, names.TACTIC_VIEW, organisation="rival", tactic_id="partner").iloc[0]
    assert rival.tactic_registrations_365d == 900


# --- history and versions ---------------------------------------------------------------------------------------------


def test_history_at_once_equals_day_by_day(settings, engine, history):
    generator = np.random.default_rng(2)
    for _ in range(30):
        history.hold(
            ago(int(generator.integers(0, 400))), generator.choice(["ai_data", "marketing"]), organic=5,
            partner=(float(generator.poisson(12)), 40_000.0, 2.0), own_email=(float(generator.poisson(30)), None, 3.0),
            attended=0.6,
        )  # fmt: skip
    counts = build.refresh(settings, ago(-2), ago(60))
    assert counts["snapshots"] == 10
    views = (names.TACTIC_VIEW, names.TACTIC_SEGMENT_VIEW, names.SEGMENT_VIEW)
    at_once = {view: snapshot(engine, view) for view in views}
    with engine.begin() as connection:
        for view in views:
            connection.execute(sa.text(f"TRUNCATE features.{view}"))
    for day in names.snapshot_days(ago(60), ago(-2)):
        build.refresh(settings, day)
    for view in views:
        pd.testing.assert_frame_equal(at_once[view], snapshot(engine, view), rtol=1e-12)


def test_computing_again_changes_nothing(settings, engine, history):
    history.hold(ago(30), partner=(10, 40_000, 4))
    build.refresh(settings, MONDAY, ago(30))
    before = snapshot(engine, names.TACTIC_SEGMENT_VIEW)
    build.refresh(settings, MONDAY, ago(30))
    pd.testing.assert_frame_equal(before, snapshot(engine, names.TACTIC_SEGMENT_VIEW))


def test_rebuilt_history_is_replaced_when_facts_arrive_late(settings, engine, history):
    history.hold(ago(30), partner=(10, 40_000, 4))
    build.refresh(settings, MONDAY)
    history.hold(ago(20), partner=(20, 40_000, 4))
    build.refresh(settings, MONDAY)
    rows = snapshot(engine, names.TACTIC_VIEW, MONDAY, tactic_id="partner")
    assert list(rows.tactic_registrations_365d) == [30]


def test_what_was_served_stays_and_corrections_are_further_versions(settings, engine, history, monkeypatch):
    today = datetime.now(settings.zone).date()
    event_id = history.hold(ago(3, today), partner=(10, 40_000, 4))
    build.refresh(settings, today)
    _correct(engine, event_id, 11)
    build.refresh(settings, today)  # the same day: nothing else was ever served to training
    assert list(snapshot(engine, names.TACTIC_VIEW, today, tactic_id="partner").tactic_registrations_365d) == [11]

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=1)

    monkeypatch.setattr(build, "datetime", Tomorrow)
    build.refresh(settings, today)
    assert len(snapshot(engine, names.TACTIC_VIEW, today, tactic_id="partner")) == 1
    _correct(engine, event_id, 99)
    build.refresh(settings, today)
    build.refresh(settings, today)
    versions = snapshot(engine, names.TACTIC_VIEW, today, tactic_id="partner")
    assert list(versions.tactic_registrations_365d) == [11, 99]
    assert versions.created_timestamp.iloc[0] == versions.event_timestamp.iloc[0]
    assert versions.created_timestamp.iloc[1] > versions.event_timestamp.iloc[1]
    assert len(snapshot(engine, names.TACTIC_VIEW, today, tactic_id="seo_blog")) == 1  # unchanged: no second version

    _correct(engine, event_id, 50)
    build.refresh(settings, today)
    assert list(snapshot(engine, names.TACTIC_VIEW, today, tactic_id="partner").tactic_registrations_365d) == [11, 50]
    _correct(engine, event_id, 11)
    build.refresh(settings, today)
    assert list(snapshot(engine, names.TACTIC_VIEW, today, tactic_id="partner").tactic_registrations_365d) == [11]


def _correct(engine: Engine, event_id: str, registrations: int) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.update(wh.tactic_result)
            .where(wh.tactic_result.c.event_id == event_id)
            .values(registrations=registrations)
        )
        connection.execute(
            sa.update(wh.event).where(wh.event.c.event_id == event_id).values(actual_registrations=registrations)
        )


def test_a_run_that_dies_half_way_leaves_what_was_there(settings, engine, history, monkeypatch):
    history.hold(ago(30), partner=(10, 40_000, 4))
    build.refresh(settings, MONDAY)
    before = snapshot(engine, names.TACTIC_VIEW)
    history.hold(ago(20), partner=(20, 40_000, 4))
    write = build._write

    def die(connection, table, *rest):
        if table.name == names.SEGMENT_VIEW:
            raise KeyboardInterrupt
        return write(connection, table, *rest)

    monkeypatch.setattr(build, "_write", die)
    with pytest.raises(KeyboardInterrupt):
        build.refresh(settings, MONDAY)
    pd.testing.assert_frame_equal(before, snapshot(engine, names.TACTIC_VIEW))


def test_since_after_as_of_is_refused(settings, engine):
    with pytest.raises(ValueError, match="after"):
        build.refresh(settings, MONDAY, ago(-1))


# --- tables -----------------------------------------------------------------------------------------------------------


def test_a_column_that_a_newer_version_wants_is_added(settings, engine, history):
    history.hold(ago(30), partner=(10, 40_000, 4))
    build.refresh(settings, MONDAY)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE features.tactic_stats DROP COLUMN tactic_ctr_365d"))
        schema.create_tables(connection)
    build.refresh(settings, MONDAY)
    assert tactic(engine, "partner").tactic_ctr_365d == pytest.approx(0.02)


def test_forecasts_replace_those_of_the_same_moment(engine):
    at = datetime(2026, 6, 14, 15, tzinfo=UTC)
    rows = pd.DataFrame(
        {
            "segment_id": ["ai_data", "ai_data"], "target_week": ["2026-06-15", "2026-06-22"],
            "demand_index": [1.1, float("nan")], "demand_organic_per_event": [20.0, 21.0], "demand_trend": [0.1, 0.1],
        }
    )  # fmt: skip
    with engine.begin() as connection:
        assert schema.replace_demand_forecast(connection, "org", at, rows, "m/1") == 2
        assert schema.replace_demand_forecast(connection, "org", at, rows[:1], "m/2") == 1
    stored = snapshot(engine, names.DEMAND_VIEW)
    assert list(stored.model_version) == ["m/2"]
    with engine.begin() as connection:
        with pytest.raises(ValueError, match="lacks"):
            schema.replace_demand_forecast(connection, "org", at, rows.drop(columns="demand_index"), "m/3")
        with pytest.raises(ValueError, match="twice"):
            schema.replace_demand_forecast(connection, "org", at, pd.concat([rows, rows]), "m/3")
        with pytest.raises(ValueError, match="zone"):
            schema.replace_demand_forecast(connection, "org", at.replace(tzinfo=None), rows, "m/3")
