"""Names are a contract: complete, distinct, light."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from feature_repo import names


def test_every_feature_belongs_to_one_view():
    every = [feature for features in names.FEATURES_BY_VIEW.values() for feature in features]
    assert len(every) == len(set(every))
    assert set(names.RESPONSE_FEATURES) <= set(every)
    assert len(set(names.RESPONSE_FEATURES)) == len(names.RESPONSE_FEATURES)


def test_the_response_service_hands_out_exactly_what_the_model_uses():
    handed_out = [f for features in names.SERVICES[names.RESPONSE_SERVICE].values() for f in features]
    assert sorted(handed_out) == sorted(names.RESPONSE_FEATURES)
    assert names.service_features(names.RESPONSE_SERVICE) == names.RESPONSE_FEATURES
    assert names.service_keys(names.RESPONSE_SERVICE) == ("organisation", "tactic_id", "segment_id")
    assert names.service_keys(names.DEMAND_SERVICE) == ("organisation", "segment_id", "target_week")


def test_a_snapshot_is_taken_at_the_start_of_the_day_where_the_organisation_is():
    tokyo = ZoneInfo("Asia/Tokyo")
    assert names.snapshot_timestamp(date(2026, 6, 15), tokyo) == datetime(2026, 6, 14, 15, tzinfo=UTC)


def test_history_is_every_monday_and_the_day_itself():
    days = names.snapshot_days(date(2026, 11, 1), date(2026, 11, 25))
    assert days == [date(2026, 11, 2), date(2026, 11, 9), date(2026, 11, 16), date(2026, 11, 23), date(2026, 11, 25)]
    assert names.snapshot_days(date(2026, 11, 23), date(2026, 11, 23)) == [date(2026, 11, 23)]
    assert names.snapshot_days(date(2026, 11, 24), date(2026, 11, 25)) == [date(2026, 11, 25)]
    with pytest.raises(ValueError, match="after"):
        names.snapshot_days(date(2026, 11, 26), date(2026, 11, 25))


def test_the_target_week_is_its_monday():
    assert {names.target_week(date(2026, 11, day)) for day in range(23, 30)} == {"2026-11-23"}


def test_names_cost_no_heavy_import():
    code = (
        "import sys, feature_repo.names; heavy = {'feast', 'pandas', 'sqlalchemy', 'numpy'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
