"""Airflow's whole configuration comes from our settings."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from turnout.errors import ConfigurationError
from turnout.runtime import airflow
from turnout.settings import Settings


@pytest.fixture
def installation(tmp_path) -> Settings:
    return Settings(
        home=tmp_path, airflow_port=18999, redis_url="redis://127.0.0.1:6379/0",
        database_url="postgresql://someone:p%40ss%25word@db.example/turnout?sslmode=require",
    )  # fmt: skip


def test_both_drivers_reach_airflows_own_database(installation):
    variables = airflow.airflow_environment(installation)
    expected = "someone:p%40ss%25word@db.example/airflow?sslmode=require"
    assert variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"postgresql+psycopg2://{expected}"
    # asyncpg calls the same option by another name.
    assert variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"] == (
        f"postgresql+asyncpg://{expected.replace('sslmode', 'ssl')}"
    )


def test_a_socket_folder_is_kept_for_both_drivers(tmp_path):
    settings = Settings(
        home=tmp_path, database_url="postgresql://postgres@/turnout?host=/run/pg", redis_url="redis://x"
    )
    variables = airflow.airflow_environment(settings)
    for key in ("SQL_ALCHEMY_CONN", "SQL_ALCHEMY_CONN_ASYNC"):
        assert variables[f"AIRFLOW__DATABASE__{key}"].endswith("postgres@/airflow?host=%2Frun%2Fpg")


def test_every_setting_reaches_the_tasks(installation):
    variables = airflow.airflow_environment(installation)
    assert variables["TURNOUT_DATABASE_URL"] == installation.database_url
    assert json.loads(variables["TURNOUT_LOOKBACK_DAYS"]) == installation.lookback_days
    assert variables["TURNOUT_HOME"] == str(installation.home_path)


def test_nothing_default_guards_the_login(installation, tmp_path):
    first = airflow.airflow_environment(installation)
    assert first == airflow.airflow_environment(installation), "secrets must outlive a restart"
    other = airflow.airflow_environment(
        Settings(home=tmp_path / "other", database_url="postgresql://db.example/turnout")
    )
    for key in ("AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__CORE__FERNET_KEY"):
        assert len(first[key]) >= 40
        assert first[key] != other[key]
    assert first["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == "False"
    user, password = airflow.credentials(installation)
    assert len(password) >= 20
    assert password not in {user, "admin", "airflow"}


def test_secrets_are_for_the_owner_alone(installation):
    airflow.airflow_environment(installation)
    for path in airflow.airflow_home(installation).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_processes_that_start_together_agree_on_the_secrets(installation):
    with ThreadPoolExecutor(8) as pool:
        seen = list(
            pool.map(lambda _: airflow.airflow_environment(installation)["AIRFLOW__API__SECRET_KEY"], range(16))
        )
    assert len(set(seen)) == 1
    assert sorted(p.name for p in airflow.airflow_home(installation).iterdir()) == ["passwords.json", "secrets.json"]


def test_a_missing_folder_of_dags_is_named(installation, monkeypatch, tmp_path):
    monkeypatch.setenv("TURNOUT_DAGS_FOLDER", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match="TURNOUT_DAGS_FOLDER"):
        airflow.airflow_environment(installation)


def test_an_airflow_that_is_away_is_said_with_what_to_do(installation):
    settings = installation.model_copy(update={"airflow_port": 9})
    with pytest.raises(airflow.AirflowError, match="turnout up"):
        airflow.trigger(settings, "backfill_history")
