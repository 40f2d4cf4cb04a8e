"""The model registry of an installation, as every stage opens it."""

from __future__ import annotations

import os

import pytest

from turnout import registry
from turnout.settings import Settings


def test_opening_the_registry_leaves_no_address_in_the_environment(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlflow.set_tracking_uri("")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    registry.client(settings)
    assert mlflow.get_tracking_uri() == registry.tracking_uri(settings)
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert Settings().mlflow_tracking_uri is None
