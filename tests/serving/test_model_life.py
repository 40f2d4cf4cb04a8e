"""Models change while people plan: aliases move, a challenger takes its share, and nobody notices."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
import sqlalchemy as sa

from serving.local import plan_in_process
from tests.serving.conftest import Service, add_history, brief, publish_features
from tests.serving.models import HISTORY, register
from turnout import registry
from turnout.brief import Brief
from turnout.identity import event_key, share_of
from turnout.runtime.supervisor import free_port
from turnout.settings import Settings
from turnout.warehouse import tables
from turnout.warehouse.engine import create_engine

SHARE = 0.4


@pytest.fixture(scope="module")
def service(_servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A ready service that looks at the aliases all the time and gives a challenger 40 % of the events."""
    folder = tmp_path_factory.mktemp("life")
    settings = Settings(
        home=folder / "home", service_port=free_port("127.0.0.1", 3600 + os.getpid() % 300), model_check_seconds=0.2,
        challenger_share=SHARE, **_servers,
    )  # fmt: skip
    client = registry.client(settings)
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    add_history(settings)
    publish_features(settings)
    register(settings, folder / "1")
    register(settings, folder / "2", tactics=HISTORY, trained_until=date(2026, 10, 20), events=12)
    running = Service(settings, folder)
    try:
        running.wait("/readyz", 200)
        yield running
    finally:
        running.stop()


def in_use(service: Service) -> dict[str, str]:
    return {f"{m['name']}@{m['alias']}": m["version"] for m in service.http.get("/v1/models").json()}


def named(name: str) -> dict:
    asked = brief()
    return {**asked, "event": {**asked["event"], "name": name}}


def key_of(asked: dict) -> str:
    return event_key("default", asked["event"]["name"], date.fromisoformat(asked["event"]["date"]))


def test_no_request_fails_while_the_champion_changes_again_and_again(service):
    client = registry.client(service.settings)
    stop, answers, changes = threading.Event(), [], []

    def ask(worker: int) -> None:
        while not stop.is_set():
            began = time.monotonic()
            answer = service.http.post("/v1/plans", json=named(f"load {worker}"))
            versions = {m["name"]: m["version"] for m in answer.json().get("models", [])}
            answers.append((answer.status_code, versions.get(registry.RESPONSE), time.monotonic() - began))

    with ThreadPoolExecutor(6) as pool:
        workers = [pool.submit(ask, i) for i in range(6)]
        # as many changes as it takes until there are answers enough to tell, on a slow machine more of them
        while len(changes) < 10 or (len(answers) < 60 and len(changes) < 100):
            version = "1" if len(changes) % 2 == 0 else "2"
            client.set_registered_model_alias(registry.RESPONSE, registry.CHAMPION, version)
            key = f"{registry.RESPONSE}@champion"
            service.wait_for(lambda key=key: in_use(service)[key], lambda found, v=version: found == v)
            changes.append(version)
            time.sleep(0.3)
        stop.set()
        for worker in workers:
            worker.result(30)

    assert Counter(status for status, _, _ in answers) == {201: len(answers)}
    assert len(answers) >= 60
    assert {version for _, version, _ in answers} == {"1", "2"}
    assert service.log.read_text().count('"models loaded"') >= 10


def test_a_challenger_plans_its_share_of_the_events_and_always_the_same_ones(service):
    client = registry.client(service.settings)
    client.set_registered_model_alias(registry.RESPONSE, registry.CHAMPION, "2")
    client.set_registered_model_alias(registry.RESPONSE, registry.CHALLENGER, "1")
    service.wait_for(
        lambda: in_use(service),
        lambda m: (m.get(f"{registry.RESPONSE}@champion"), m.get(f"{registry.RESPONSE}@challenger")) == ("2", "1"),
    )

    arms = {}
    for i in range(24):
        asked = named(f"split {i}")
        plan = service.http.post("/v1/plans", json=asked).json()
        model = plan["models"][0]
        arms[i] = model["alias"]
        assert model["alias"] == ("challenger" if share_of(key_of(asked), "challenger") < SHARE else "champion")
        assert model["version"] == {"champion": "2", "challenger": "1"}[model["alias"]]
    again = service.http.post("/v1/plans", json=named("split 3")).json()
    assert again["models"][0]["alias"] == arms[3]
    assert set(arms.values()) == {"champion", "challenger"}

    engine = create_engine(service.settings)
    with engine.connect() as connection:
        rows = connection.execute(
            sa.select(tables.prediction.c.model_version).where(tables.prediction.c.plan_id == again["plan_id"])
        ).scalars()
        assert set(rows) == {again["models"][0]["version"]}
    # without the service the same event goes to the same model
    alone = plan_in_process(service.settings, engine, Brief.model_validate(named("split 3")))
    engine.dispose()
    assert alone.models[0].alias == arms[3]

    client.delete_registered_model_alias(registry.RESPONSE, registry.CHALLENGER)
    service.wait_for(lambda: in_use(service), lambda m: f"{registry.RESPONSE}@challenger" not in m)
    assert service.http.post("/v1/plans", json=named("split 3")).json()["models"][0]["alias"] == "champion"


def test_a_challenger_that_cannot_be_read_leaves_all_events_to_the_champion(service, tmp_path):
    client = registry.client(service.settings)
    run = client.create_run(client.get_experiment_by_name("serving-tests").experiment_id)
    (tmp_path / "model.ubj").write_bytes(b"broken")
    client.log_artifact(run.info.run_id, str(tmp_path / "model.ubj"), "model")
    broken = client.create_model_version(registry.RESPONSE, f"{run.info.artifact_uri}/model", run.info.run_id).version
    client.set_registered_model_alias(registry.RESPONSE, registry.CHALLENGER, broken)
    service.wait_for(service.log.read_text, lambda log: "challenger not loaded" in log)
    for i in range(6):
        assert service.http.post("/v1/plans", json=named(f"split {i}")).json()["models"][0]["alias"] == "champion"
    client.delete_registered_model_alias(registry.RESPONSE, registry.CHALLENGER)


def test_shares_are_even_and_unrelated_between_purposes():
    shares = [share_of(f"evt_{i}", "challenger") for i in range(4000)]
    assert abs(sum(s < SHARE for s in shares) / 4000 - SHARE) < 0.03
    assert share_of("evt_1", "challenger") == shares[1]
    both = sum(s < 0.5 and share_of(f"evt_{i}", "other") < 0.5 for i, s in enumerate(shares))
    assert abs(both / 4000 - 0.25) < 0.03


def test_how_predictions_did_is_on_the_metrics_page(service):
    row = {
        "organisation": "default", "as_of": date(2026, 11, 1), "model_name": registry.RESPONSE, "model_version": "",
        "segment_id": "", "subject": "", "window_days": 90, "value": 12.5, "evidence": 34, "status": "ok",
    }  # fmt: skip
    engine = create_engine(service.settings)
    with engine.begin() as connection:
        connection.execute(sa.delete(tables.model_monitor))
        connection.execute(sa.insert(tables.model_monitor), [
            {**row, "metric": "mae"}, {**row, "metric": "mae", "segment_id": "cloud", "value": 7.0},
            {**row, "metric": "mae", "model_version": "2", "value": 99.0},
            {**row, "metric": "mae", "as_of": date(2026, 10, 31), "value": 88.0, "segment_id": "old"},
            {**row, "metric": "mae", "organisation": "other", "as_of": date(2026, 11, 9), "value": 77.0},
            {**row, "metric": "psi", "subject": "tactic_ctr_28d", "value": 0.3, "status": "alarm"},
        ])  # fmt: skip
    engine.dispose()
    page = service.wait_for(lambda: service.http.get("/metrics").text, lambda text: "turnout_prediction_mae{" in text)
    assert 'turnout_prediction_mae{segment="all",window_days="90"} 12.5' in page
    assert 'turnout_prediction_mae_events{segment="all",window_days="90"} 34.0' in page
    assert 'turnout_prediction_mae{segment="cloud",window_days="90"} 7.0' in page
    assert 'turnout_drift_psi{subject="tactic_ctr_28d"} 0.3' in page
    assert 'turnout_prediction_alarms{status="alarm"} 1.0' in page
    errors = [line for line in page.splitlines() if line.startswith("turnout_prediction_mae{")]
    assert not any(line.endswith(other) for line in errors for other in (" 99.0", " 88.0", " 77.0"))
    assert "turnout_requests_total" in page
