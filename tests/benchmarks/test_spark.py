"""The Spark benchmark without Spark: what it exports, and what it says where something is missing."""

import stat
from datetime import UTC, datetime

import pandas as pd
import pyarrow.parquet as pq
import pytest
import structlog

from benchmarks import spark
from feature_repo import names, schema

AT = datetime(2026, 10, 4, 15, tzinfo=UTC)


def java(folder, text):
    """A runtime that tells its version as Java does."""
    program = folder / "bin" / "java"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' '{text}' >&2\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(folder)


@pytest.fixture
def with_pyspark(monkeypatch):
    monkeypatch.setattr(spark, "find_spec", lambda name: object())


def test_without_pyspark_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(spark, "find_spec", lambda name: None)
    assert spark.main([]) == 2
    assert "pip install 'turnout[spark]'" in capsys.readouterr().err
    structlog.reset_defaults()


def test_without_java_it_says_what_to_install(monkeypatch, tmp_path, with_pyspark):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(spark.MissingError, match="openjdk-17-jre-headless"):
        spark.require()


@pytest.mark.parametrize(
    ("told", "version"),
    [('openjdk version "17.0.15" 2025-04-15', "17.0.15"), ('java version "21" 2023-09-19 LTS', "21")],
)
def test_a_runtime_of_17_or_newer_will_do(monkeypatch, tmp_path, with_pyspark, told, version):
    monkeypatch.setenv("JAVA_HOME", java(tmp_path, told))
    assert spark.require() == version


@pytest.mark.parametrize("told", ['openjdk version "11.0.2" 2019-01-15', 'java version "1.8.0_202"', "no version"])
def test_an_older_runtime_is_refused_by_its_version(monkeypatch, tmp_path, with_pyspark, told):
    monkeypatch.setenv("JAVA_HOME", java(tmp_path, told))
    with pytest.raises(spark.MissingError, match="17 or newer"):
        spark.require()


def test_feature_tables_are_exported_as_they_are(settings, engine, tmp_path):
    rows = pd.DataFrame(
        {
            names.SEGMENT: ["cloud", "all"],
            names.TARGET_WEEK: ["2026-10-05", "2026-10-12"],
            "demand_index": [1.25, 0.1 + 0.2],
            "demand_organic_per_event": [None, 3.0],
            "demand_trend": [0.0, -0.05],
        }
    )
    with engine.begin() as connection:
        schema.replace_demand_forecast(connection, settings.organisation, AT, rows, "turnout-demand/1")
    files = spark.export(settings, tmp_path)
    assert set(files) == set(names.KEYS_BY_VIEW)
    table = pq.read_table(files[names.DEMAND_VIEW])
    assert {str(table.schema.field(c).type) for c in (names.EVENT_TIMESTAMP, names.CREATED_TIMESTAMP)} == {
        "timestamp[us, tz=UTC]"
    }
    found = table.to_pandas().sort_values(names.TARGET_WEEK, ignore_index=True)
    assert (found[names.EVENT_TIMESTAMP] == pd.Timestamp(AT)).all()
    pd.testing.assert_frame_equal(found[list(rows)], rows.astype({"demand_organic_per_event": float}))
    assert pq.read_table(files[names.TACTIC_VIEW]).num_rows == 0
