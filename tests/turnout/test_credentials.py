"""Credentials come from settings or an Airflow connection, and never show."""

from __future__ import annotations

import json

import pytest

from turnout.credentials import CREDENTIALS, from_connection, variables
from turnout.errors import ConfigurationError
from turnout.settings import Settings


def test_nested_variables_fill_a_sources_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNOUT_META_ADS__ACCESS_TOKEN", "hidden-token")
    monkeypatch.setenv("TURNOUT_META_ADS__ACCOUNTS", '["111", "222"]')
    found = Settings()
    assert found.meta_ads is not None
    assert found.meta_ads.accounts == ("111", "222")
    assert found.google_ads is None
    assert "hidden-token" not in repr(found)
    assert "hidden-token" not in found.model_dump_json()


def test_a_child_process_gets_them_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNOUT_SENDGRID__API_KEY", "hidden-key")
    variables_of_child = Settings().environment()
    monkeypatch.delenv("TURNOUT_SENDGRID__API_KEY")
    assert json.loads(variables_of_child["TURNOUT_SENDGRID"])["api_key"] == "hidden-key"
    monkeypatch.setenv("TURNOUT_SENDGRID", variables_of_child["TURNOUT_SENDGRID"])
    child = Settings().sendgrid
    assert child is not None
    assert child.api_key is not None
    assert child.api_key.get_secret_value() == "hidden-key"


def test_an_airflow_connection_fills_them_by_its_parts() -> None:
    found = from_connection(
        "google_ads", host="127.0.0.1", scheme="http", port=8800, login="client", password="refresh",
        extra={"developer_token": "dev", "client_secret": "cs", "accounts": ["1234567890"]},
    )  # fmt: skip
    assert found.base_url == "http://127.0.0.1:8800"
    assert found.accounts == ("1234567890",)
    assert {"refresh", "dev", "cs"}.isdisjoint(repr(found).replace("'", " ").split())


def test_a_connection_that_lacks_a_field_says_which_and_no_value() -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_connection("google_ads", password="hidden-token", extra={"developer_tokn": "hidden-too"})
    text = str(caught.value)
    assert "developer_token" in text
    assert "developer_tokn" in text
    assert "turnout_google_ads" in text
    assert "hidden" not in text


@pytest.mark.parametrize("source", CREDENTIALS)
def test_every_source_names_its_variables(source: str) -> None:
    assert all(v.startswith(f"TURNOUT_{source.upper()}__") for v in variables(source))
