"""The store on real PostgreSQL and Redis: history as it was known, the newest online, nothing lost on the way."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import redis
import sqlalchemy as sa
from redis.client import Pipeline
from sqlalchemy.engine import Engine, make_url

from feature_repo import build, names, schema, store
from turnout import taxonomy
from turnout.errors import ConfigurationError, NotReadyError
from turnout.settings import Settings
from turnout.tactics import load_catalogue
from turnout.warehouse.migrate import ensure_database

MONDAY = date(2026, 6, 15)
TACTICS = [tactic.id for tactic in load_catalogue().tactics]


def ago(days: int) -> date:
    return MONDAY - timedelta(days=days)


@pytest.fixture
def ready(settings: Settings, engine: Engine, redis_url: str, history) -> Settings:
    """A registered store, nothing computed, a small history in the warehouse."""
    history.hold(ago(50), "ai_data", partner=(10, 40_000, 4), own_email=(30, None, 2), organic=20, attended=0.5)
    history.hold(ago(20), "marketing", partner=(30, 60_000, 4), own_email=(25, None, 2), organic=10, attended=0.7)
    store.apply(settings)
    return settings


def entities(settings: Settings, *rows: tuple[str, str, date]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            names.TACTIC: [tactic for tactic, _, _ in rows],
            names.SEGMENT: [segment for _, segment, _ in rows],
            names.EVENT_TIMESTAMP: [names.snapshot_timestamp(day, settings.zone) for _, _, day in rows],
        }
    )


def plant(engine: Engine, settings: Settings, view: str, as_of: date, *, created: date | None = None, **values) -> None:
    """Write one row into a feature table by hand."""
    row = {
        names.ORGANISATION: settings.organisation,
        names.EVENT_TIMESTAMP: names.snapshot_timestamp(as_of, settings.zone),
        names.CREATED_TIMESTAMP: names.snapshot_timestamp(created or as_of, settings.zone),
    } | values
    with engine.begin() as connection:
        connection.execute(schema.metadata.tables[f"features.{view}"].insert().values(row))


# --- history ----------------------------------------------------------------------------------------------------------


def test_each_plan_sees_the_snapshot_of_its_day(ready):
    build.refresh(ready, MONDAY, ago(63))
    answer = store.historical(
        ready,
        entities(
            ready, ("partner", "ai_data", ago(56)), ("partner", "ai_data", ago(42)), ("partner", "ai_data", MONDAY)
        ),
        names.RESPONSE_SERVICE,
    )
    assert list(answer.tactic_events_total) == [0, 1, 2]
    assert list(answer.tactic_segment_events_total) == [0, 1, 1]
    assert list(answer.segment_events_total) == [0, 1, 1]
    assert [c for c in answer.columns if c in names.RESPONSE_FEATURES] == list(names.RESPONSE_FEATURES)
    assert (answer[list(names.RESPONSE_FEATURES)].dtypes == np.float64).all()


def test_between_snapshots_the_last_one_counts(ready):
    build.refresh(ready, MONDAY, ago(28))
    answer = store.historical(ready, entities(ready, ("partner", "ai_data", ago(17))), names.RESPONSE_SERVICE)
    assert list(answer.tactic_days_since_last) == [50 - 21]


@pytest.mark.parametrize(
    ("view", "keys", "feature"),
    [
        (names.TACTIC_VIEW, {"tactic_id": "partner"}, "tactic_events_365d"),
        (names.TACTIC_SEGMENT_VIEW, {"tactic_id": "partner", "segment_id": "ai_data"}, "tactic_segment_events_365d"),
        (names.SEGMENT_VIEW, {"segment_id": "ai_data"}, "segment_events_365d"),
    ],
)
def test_a_row_from_the_future_is_not_returned(ready, engine, view, keys, feature):
    build.refresh(ready, ago(7))
    asked = entities(ready, ("partner", "ai_data", ago(6)))
    before = store.historical(ready, asked, names.RESPONSE_SERVICE)
    plant(engine, ready, view, ago(5), **keys, **{feature: 1e9})
    pd.testing.assert_frame_equal(before, store.historical(ready, asked, names.RESPONSE_SERVICE))
    later = store.historical(ready, entities(ready, ("partner", "ai_data", ago(5))), names.RESPONSE_SERVICE)
    assert list(later[feature]) == [1e9]


def test_a_forecast_from_the_future_is_not_returned(ready, engine):
    build.refresh(ready, ago(7))
    keys = {"segment_id": "ai_data", "target_week": names.target_week(MONDAY)}
    plant(engine, ready, names.DEMAND_VIEW, ago(14), **keys, demand_index=1.5)
    plant(engine, ready, names.DEMAND_VIEW, ago(6), **keys, demand_index=99.0)
    asked = entities(ready, ("-", "ai_data", ago(7))).assign(target_week=names.target_week(MONDAY))
    assert list(store.historical(ready, asked, names.DEMAND_SERVICE).demand_index) == [1.5]
    other_week = asked.assign(target_week=names.target_week(ago(14)))
    assert store.historical(ready, other_week, names.DEMAND_SERVICE).demand_index.isna().all()


def test_a_later_correction_stays_out_of_training(ready, engine):
    build.refresh(ready, ago(7))
    asked = entities(ready, ("partner", "ai_data", ago(6)))
    before = store.historical(ready, asked, names.RESPONSE_SERVICE)
    plant(engine, ready, names.SEGMENT_VIEW, ago(7), created=ago(3), segment_id="ai_data", segment_events_365d=77)
    pd.testing.assert_frame_equal(before, store.historical(ready, asked, names.RESPONSE_SERVICE))


def test_what_is_too_old_is_unknown(ready):
    build.refresh(ready, ago(60))
    age = names.MAXIMUM_AGE.days
    answer = store.historical(
        ready,
        entities(ready, ("partner", "ai_data", ago(60 - age)), ("partner", "ai_data", ago(59 - age))),
        names.RESPONSE_SERVICE,
    )
    assert answer.tactic_events_total.isna().tolist() == [False, True]


def test_every_row_comes_back_in_its_place(ready):
    build.refresh(ready, MONDAY)
    asked = entities(
        ready,
        ("partner", "ai_data", MONDAY), ("no_such_tactic", "ai_data", MONDAY), ("partner", "no_such_segment", MONDAY),
        ("partner", "ai_data", MONDAY), ("own_email", "marketing", MONDAY), ("partner", "ai_data", ago(400)),
    ).set_axis([9, 9, "x", 4, 2, 0])  # fmt: skip
    asked["note"] = list("abcdef")
    answer = store.historical(ready, asked, names.RESPONSE_SERVICE)
    assert list(answer.index) == list(asked.index)
    assert list(answer.note) == list("abcdef")
    assert answer.tactic_events_total.tolist()[:1] == [2]
    assert answer.tactic_events_total.isna().tolist() == [False, True, False, False, False, True]
    assert answer.segment_events_total.isna().tolist() == [False, False, True, False, False, True]
    assert len(store.historical(ready, asked[:0], names.RESPONSE_SERVICE)) == 0


def test_history_leaves_no_tables_behind(ready, engine):
    build.refresh(ready, MONDAY)
    old = f"entity_frame_{int(time.time()) - 100_000}_abc"
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE TABLE features.{old} (x int)"))
    store.historical(ready, entities(ready, ("partner", "ai_data", MONDAY)), names.RESPONSE_SERVICE)
    assert [t for t in sa.inspect(engine).get_table_names(schema="features") if t.startswith("entity_frame_")] == []


def test_thousands_of_rows_take_moments(ready):
    build.refresh(ready, MONDAY, ago(189))
    rows = [(TACTICS[n % len(TACTICS)], ("ai_data", "marketing")[n % 2], ago(n % 180)) for n in range(6_000)]
    started = time.monotonic()
    answer = store.historical(ready, entities(ready, *rows), names.RESPONSE_SERVICE)
    assert time.monotonic() - started < 15
    assert answer.tactic_events_total.notna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segment_id": None}, "empty keys"),
        ({"organisation": "rival"}, "another organisation"),
        ({"event_timestamp": pd.Timestamp("2026-06-15")}, "time zone"),
    ],
)
def test_a_frame_that_asks_amiss_is_refused(ready, change, message):
    asked = entities(ready, ("partner", "ai_data", MONDAY)).assign(**change)
    with pytest.raises(ValueError, match=message):
        store.historical(ready, asked, names.RESPONSE_SERVICE)
    with pytest.raises(ValueError, match="lacks segment_id"):
        store.historical(ready, asked.drop(columns="segment_id"), names.RESPONSE_SERVICE)


# --- online -----------------------------------------------------------------------------------------------------------


def test_online_says_what_history_says(ready, engine):
    build.refresh(ready, MONDAY)
    week = names.target_week(date(2026, 7, 20))
    plant(engine, ready, names.DEMAND_VIEW, ago(3), segment_id="ai_data", target_week=week, demand_index=1.25)
    written = store.materialize_latest(ready, MONDAY)
    segments = len(taxonomy.categories.ids) + 1
    assert written == {
        "tactic_stats": len(TACTICS),
        "tactic_segment_stats": len(TACTICS) * segments,
        "segment_stats": segments,
        "demand_forecast": 1,
    }
    online = store.online(ready, TACTICS, "ai_data", event_date=date(2026, 7, 22))
    offline = store.historical(
        ready, entities(ready, *((tactic, "ai_data", MONDAY) for tactic in TACTICS)), names.RESPONSE_SERVICE
    ).set_index(names.TACTIC)
    for tactic in TACTICS:
        merged = {**online.segment, **online.tactics[tactic]}
        assert set(merged) == set(names.RESPONSE_FEATURES)
        for feature in names.RESPONSE_FEATURES:
            stored = offline.loc[tactic, feature]
            assert merged[feature] == (None if np.isnan(stored) else stored), feature
    assert set(online.segment) == set(names.SEGMENT_FEATURES)
    assert online.demand == {"demand_index": 1.25, "demand_organic_per_event": None, "demand_trend": None}
    assert online.as_of == names.snapshot_timestamp(MONDAY, ready.zone)
    assert online.event_timestamps[names.DEMAND_VIEW] == names.snapshot_timestamp(ago(3), ready.zone)


def test_age_is_known_and_stale_features_are_called_so(ready):
    build.refresh(ready, MONDAY)
    store.materialize_latest(ready, MONDAY)
    online = store.online(ready, ["partner"], "ai_data")
    taken = names.snapshot_timestamp(MONDAY, ready.zone)
    assert not online.is_stale(taken + timedelta(days=1))
    assert online.is_stale(taken + names.MAXIMUM_AGE + timedelta(days=1))


def test_what_was_never_published_is_unknown_not_zero(ready):
    online = store.online(ready, ["partner"], "ai_data", event_date=MONDAY)
    assert set(online.tactics["partner"].values()) == {None}
    assert set(online.segment.values()) == {None}
    assert (online.as_of, online.event_timestamps) == (None, {})
    assert online.is_stale()


def test_no_tactics_still_say_what_the_segment_is(ready):
    build.refresh(ready, MONDAY)
    store.materialize_latest(ready, MONDAY)
    online = store.online(ready, [], "ai_data")
    assert online.tactics == {}
    assert online.segment["segment_events_total"] == 1


def test_a_plan_costs_one_round_trip(ready, monkeypatch):
    build.refresh(ready, MONDAY)
    store.materialize_latest(ready, MONDAY)
    store.online(ready, ["partner"], "ai_data")  # connects
    trips = []
    execute, command = Pipeline.execute, redis.Redis.execute_command
    monkeypatch.setattr(Pipeline, "execute", lambda self, *a, **k: trips.append("pipeline") or execute(self, *a, **k))
    monkeypatch.setattr(
        redis.Redis, "execute_command", lambda self, *a, **k: trips.append(a[0]) or command(self, *a, **k)
    )
    store.online(ready, TACTICS, "ai_data", event_date=MONDAY)
    assert trips == ["pipeline"]


def test_a_correction_of_the_same_snapshot_reaches_the_online_store(ready, engine):
    build.refresh(ready, MONDAY)
    store.materialize_latest(ready, MONDAY)
    plant(engine, ready, names.SEGMENT_VIEW, MONDAY, created=ago(-1), segment_id="ai_data", segment_events_total=42)
    store.materialize_latest(ready, MONDAY)
    assert store.online(ready, ["partner"], "ai_data").segment["segment_events_total"] == 42


def test_an_older_snapshot_never_replaces_a_newer_one(ready):
    build.refresh(ready, MONDAY, ago(40))
    store.materialize_latest(ready, MONDAY)
    newest = store.online(ready, TACTICS, "ai_data")
    written = store.materialize_latest(ready, ago(35))
    assert set(written.values()) == {0}
    assert store.online(ready, TACTICS, "ai_data") == newest


def test_only_the_day_asked_for_is_published(ready):
    build.refresh(ready, MONDAY, ago(40))
    store.materialize_latest(ready, ago(35))
    assert store.online(ready, ["partner"], "ai_data").tactics["partner"]["tactic_events_total"] == 1
    store.materialize_latest(ready, MONDAY)
    assert store.online(ready, ["partner"], "ai_data").tactics["partner"]["tactic_events_total"] == 2


def test_publishing_again_is_publishing_once(ready, redis_url):
    build.refresh(ready, MONDAY)
    store.materialize_latest(ready, MONDAY)

    def content() -> dict[bytes, dict[bytes, bytes]]:
        with redis.Redis.from_url(redis_url) as client:
            return {key: client.hgetall(key) for key in client.scan_iter()}

    before = content()
    store.materialize_latest(ready, MONDAY)
    assert content() == before
    with redis.Redis.from_url(redis_url) as client:  # a store that lost everything is filled again
        client.flushdb()
    store.materialize_latest(ready, MONDAY)
    assert content() == before


def test_an_organisation_that_lags_behind_takes_nobody_back(ready):
    build.refresh(ready, MONDAY, ago(40))
    store.materialize_latest(ready, MONDAY)
    newest = store.online(ready, TACTICS, "ai_data")
    slow = ready.model_copy(update={"organisation": "slow"})
    build.refresh(slow, ago(35))
    store.materialize_latest(slow, ago(35))
    assert store.online(ready, TACTICS, "ai_data") == newest
    assert store.online(slow, ["partner"], "ai_data").as_of == names.snapshot_timestamp(ago(35), ready.zone)


def test_without_a_snapshot_there_is_nothing_to_publish(ready):
    build.refresh(ready, ago(7))
    with pytest.raises(NotReadyError, match="no snapshot of 2026-06-15"):
        store.materialize_latest(ready, MONDAY)


# --- registry and configuration ---------------------------------------------------------------------------------------


def test_registering_again_changes_nothing(ready):
    def registered() -> pd.DataFrame:
        engine = sa.create_engine(ready.url_for("feast"))
        with engine.connect() as connection:
            frame = pd.read_sql(
                sa.text("SELECT feature_view_name, last_updated_timestamp FROM feature_views"), connection
            )
        engine.dispose()
        return frame.sort_values("feature_view_name", ignore_index=True)

    before = registered()
    assert sorted(before.feature_view_name) == sorted(names.KEYS_BY_VIEW)
    store.apply(ready)
    pd.testing.assert_frame_equal(before, registered())


def test_a_view_that_is_no_longer_defined_goes(ready):
    from feast import FeatureView, Field
    from feast.types import Float64

    from feature_repo import definitions

    old = FeatureView(
        name="forgotten", entities=[definitions.ENTITIES["organisation"]], ttl=None,
        schema=[Field(name="x", dtype=Float64)], source=definitions.SOURCES[names.SEGMENT_VIEW],
    )  # fmt: skip
    store.open_store(ready).apply([old])
    store.apply(ready)
    assert {view.name for view in store.open_store(ready).list_feature_views()} == set(names.KEYS_BY_VIEW)


def test_before_anything_is_registered_it_says_what_to_do(settings, engine, redis_url):
    url = make_url(settings.feast_database_url)
    fresh = settings.model_copy(
        update={"feast_database_url": url.set(database=f"{url.database}_fresh").render_as_string(hide_password=False)}
    )
    ensure_database(fresh, "feast")
    with pytest.raises(NotReadyError, match="turnout pipeline"):
        store.online(fresh, ["partner"], "ai_data")


def test_one_store_per_process(ready):
    assert store.open_store(ready) is store.open_store(ready.model_copy())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("unix:///tmp/t/redis.sock?db=3", 'localhost:6379,db=3,unix_socket_path="/tmp/t/redis.sock"'),
        ("redis://cache:6380/2", "cache:6380,db=2"),
        ("redis://:0123@cache:6379/0", 'cache:6379,password="0123",db=0'),
        ("rediss://me:p%40ss@cache:6379/0", 'cache:6379,username="me",password="p@ss",db=0,ssl=true'),
    ],
)
def test_redis_urls_in_feasts_notation(url, expected):
    from feast.infra.online_stores.redis import RedisOnlineStore

    found = store.redis_connection_string(url)
    assert sorted(found.split(",")) == sorted(expected.split(","))
    nodes, parameters = RedisOnlineStore._parse_connection_string(found)
    assert len(nodes) == 1
    assert parameters.get("password") in (None, "0123", "p@ss")


def test_what_feast_cannot_express_is_refused():
    with pytest.raises(ConfigurationError, match="comma"):
        store.redis_connection_string("redis://:a,b@cache:6379/0")
    with pytest.raises(ConfigurationError, match="TURNOUT_REDIS_URL"):
        store.redis_connection_string(None)


def test_the_yaml_for_feasts_command_line_says_the_same(settings, monkeypatch):
    from feast.repo_config import load_repo_config

    for name, value in store.cli_environment(settings).items():
        monkeypatch.setenv(name, value)
    folder = Path(store.__file__).parent
    written = load_repo_config(folder, folder / "feature_store.yaml")
    meant = store._configuration(settings, create=True)
    assert written.project == meant["project"]
    assert written.entity_key_serialization_version == meant["entity_key_serialization_version"]
    assert written.materialization_config.pull_latest_features
    for part, config in (("offline_store", written.offline_store), ("online_store", written.online_store)):
        for key, value in meant[part].items():
            if key != "entity_select_mode":
                found = getattr(config, key)
                assert getattr(found, "value", found) == value, (part, key)
    assert written.registry.path == meant["registry"]["path"]


def test_feasts_command_line_lists_the_views(ready):
    code = "import sys; from feast.cli.cli import cli; sys.argv = ['feast', *sys.argv[1:]]; cli()"
    folder = str(Path(store.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, "--chdir", folder, "feature-views", "list"], check=True, text=True,
        capture_output=True, env=store.cli_environment(ready),
    )  # fmt: skip
    for view in names.KEYS_BY_VIEW:
        assert view in done.stdout
