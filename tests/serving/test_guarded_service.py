"""The service as it runs for several organisations: two workers, a real provider, a database log-in of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine, make_url

from tests.serving.conftest import TODAY, Service, add_history, brief, publish_features
from tests.serving.models import HISTORY, register
from tests.serving.provider import CLIENT, Provider, running
from turnout.identity_keys import create_key, key_secret, revoke_key, tell_workers
from turnout.runtime.stack import service_spec
from turnout.runtime.supervisor import free_port
from turnout.settings import Settings
from turnout.warehouse import security, tables
from turnout.warehouse.engine import create_engine

pytestmark = pytest.mark.xdist_group("service")

LIMIT = 40
PASSWORD = "databasepassword4711"


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def owner(_servers: dict[str, str]) -> Iterator[Engine]:
    engine = create_engine(Settings(**_servers))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def guarded(
    _servers: dict[str, str], owner: Engine, provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("guarded")
    url = make_url(_servers["database_url"])
    url = url.set(username=f"guarded_{url.database}", password=PASSWORD)
    settings = Settings(
        home=folder / "home", service_port=free_port("127.0.0.1", 3600 + os.getpid() % 300), service_workers=2,
        auth="oidc", oidc_issuer=provider.issuer, oidc_audience=CLIENT, oidc_organisation_claim="org_id",
        rate_limit_per_minute=LIMIT, service_database_url=url.render_as_string(hide_password=False),
        identity_salt="salt", key_secret="verysecretpepper4711", **_servers,
    )  # fmt: skip
    with owner.begin() as connection:
        security.secure(connection, settings)
    add_history(settings)
    publish_features(settings)
    register(settings, folder / "models", tactics=HISTORY, trained_until=TODAY, events=12)
    service = Service(settings, folder)
    try:
        service.wait("/readyz", 200)
        yield service
    finally:
        service.stop()
        with owner.begin() as connection:
            connection.execute(sa.text(f'DROP ROLE IF EXISTS "{url.username}"'))


def make_key(owner: Engine, service: Service, *roles: str, organisation: str = "ours") -> tuple[str, dict[str, str]]:
    """A key's id, and the header that shows it."""
    with owner.begin() as connection:
        made, key = create_key(
            connection, key_secret(service.settings), organisation=organisation, name="test",
            roles=roles or ["planner"],
        )  # fmt: skip
    return made.key_id, {"Authorization": f"Bearer {key}"}


def ask_all(service: Service, headers: dict[str, str], times: int) -> list[httpx.Response]:
    """Many requests at once, each on a connection of its own, so that every worker gets some."""

    def ask(_: int) -> httpx.Response:
        return httpx.get(f"{service.url}/v1/tactics", headers=headers, timeout=30, trust_env=False)

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(ask, range(times)))


def test_plans_belong_to_the_organisation_of_who_asked(guarded, owner, provider):
    _, ours = make_key(owner, guarded, organisation="ours")
    token = {"Authorization": f"Bearer {provider.log_in('hanako', roles=['planner'], org_id='theirs')}"}
    made = guarded.http.post("/v1/plans", json=brief(), headers={**ours, "Idempotency-Key": "same"})
    other = guarded.http.post("/v1/plans", json=brief(), headers={**token, "Idempotency-Key": "same"})
    assert (made.status_code, other.status_code) == (201, 201), (made.text, other.text)
    assert made.json()["plan_id"] != other.json()["plan_id"], "a key of idempotency is the organisation's own"
    for answer, own, foreign in ((made, ours, token), (other, token, ours)):
        path = answer.headers["location"]
        assert guarded.http.get(path, headers=own).json() == answer.json()
        assert guarded.http.get(path, headers=foreign).status_code == 404
        assert guarded.http.get(path).status_code == 401
    with owner.connect() as connection:
        stored = sa.select(tables.plan.c.plan_id, tables.plan.c.organisation)
        owners = {str(row.plan_id): row.organisation for row in connection.execute(stored)}
    assert owners[made.json()["plan_id"]] == "ours"
    assert owners[other.json()["plan_id"]] == "theirs"


def test_features_are_those_of_who_asked(guarded, owner):
    _, stranger = make_key(owner, guarded, organisation="stranger")
    _, default = make_key(owner, guarded, organisation=guarded.settings.organisation)
    plans: dict[str, Any] = {}
    for name, headers in (("stranger", stranger), ("default", default)):
        answer = guarded.http.post("/v1/plans", json=brief(), headers=headers)
        assert answer.status_code == 201, answer.text
        plans[name] = answer.json()["plan_id"]
    with owner.connect() as connection:
        seen = {
            name: connection.scalar(
                sa.select(tables.prediction.c.features["tactic_events_total"].astext).where(
                    tables.prediction.c.plan_id == plan_id, tables.prediction.c.tactic_id == "own_email"
                )
            )
            for name, plan_id in plans.items()
        }
    assert float(seen["default"]) == 8
    assert seen["stranger"] in (None, "0", "0.0")


def test_the_limit_is_exact_over_both_workers(guarded, owner):
    _, headers = make_key(owner, guarded)
    answers = ask_all(guarded, headers, LIMIT * 3)
    assert Counter(a.status_code for a in answers) == {200: LIMIT, 429: LIMIT * 2}
    refused = next(a for a in answers if a.status_code == 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert guarded.http.get("/v1/plans/none", headers=headers).status_code == 429, "whatever is asked"


def test_a_revoked_key_ends_in_both_workers_at_once(guarded, owner):
    key_id, headers = make_key(owner, guarded)
    assert {a.status_code for a in ask_all(guarded, headers, 16)} == {200}
    with owner.begin() as connection:
        revoke_key(connection, "ours", key_id)
    assert tell_workers(guarded.settings)
    assert {a.status_code for a in ask_all(guarded, headers, 16)} == {401}


def test_bentomls_own_endpoint_is_guarded_as_well(guarded, owner):
    import bentoml

    _, headers = make_key(owner, guarded)
    _, analyst = make_key(owner, guarded, "analyst")
    post = guarded.http.post
    for path in ("/bento/plan", "/bento/plan/", "/bento/", "/bento/%70lan"):
        refused = post(path, json=brief())
        assert refused.status_code == 401, path
        assert refused.headers["content-type"] == "application/problem+json"
    assert post("/bento/plan", json=brief(), headers=analyst).status_code == 403
    json_type = {**headers, "Content-Type": "application/json"}
    assert post("/bento/plan", content=b" " * 300_000, headers=json_type).status_code == 413
    assert post("/bento/plan", content=b"[" * 50_000, headers=json_type).status_code == 400
    impossible = brief(staff_hours=1, constraints=[{"tactic": "meta_ads", "lock": {"amount": 100_000}}])
    assert post("/bento/plan", json=impossible, headers=headers).status_code == 422
    with bentoml.SyncHTTPClient(guarded.url, token=headers["Authorization"].removeprefix("Bearer ")) as client:
        plan_id = client.plan(brief())["plan_id"]
    with owner.connect() as connection:
        query = sa.select(tables.plan.c.organisation).where(tables.plan.c.plan_id == sa.cast(plan_id, sa.Uuid))
        assert connection.scalar(query) == "ours"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs", "/openapi.json", "/static_content/swagger-ui.css"])
def test_what_is_open_needs_nobody(guarded, path):
    assert guarded.http.get(path).status_code == 200


def test_who_has_the_service_role_alone_reaches_the_database(guarded, owner):
    with owner.connect() as connection:
        users = connection.scalars(
            sa.text(
                "SELECT DISTINCT usename FROM pg_stat_activity "
                "WHERE usename LIKE 'guarded_%' AND datname = current_database()"
            )
        ).all()
    assert users == [make_url(guarded.settings.service_database_url).username]


def test_openapi_says_how_to_log_in_and_what_it_takes(guarded):
    schema = guarded.http.get("/openapi.json").json()
    operation = schema["paths"]["/v1/plans"]["post"]
    assert operation["security"] == [{"bearer": []}, {"key": []}]
    assert operation["x-permission"] == "plans:write"
    assert set(schema["components"]["securitySchemes"]) == {"bearer", "key"}
    assert {"401", "403", "429"} <= set(operation["responses"])
    assert "RateLimit-Remaining" in operation["responses"]["201"]["headers"]
    assert "security" not in schema["paths"]["/livez"]["get"]


def test_no_secret_and_no_person_is_in_the_logs(guarded, owner, provider):
    key_id, headers = make_key(owner, guarded)
    subject = "taro.yamada@example.co.jp"
    token = provider.log_in(subject, roles=["planner"], org_id="ours")
    expired = provider.forge(sub=subject, exp=1, org_id="ours")
    forged = provider.forge(sub=subject, headers={"kid": "nobody's"}, org_id="ours")
    wrong = headers["Authorization"][:-4] + "0000"
    for shown in (headers["Authorization"], f"Bearer {token}", f"Bearer {expired}", f"Bearer {forged}", wrong):
        for path in ("/v1/tactics", "/v1/plans/none"):
            guarded.http.get(path, headers={"Authorization": shown, "X-Request-ID": "secrets"})
        guarded.http.post("/v1/plans", json=brief(), headers={"Authorization": shown})
        guarded.http.post("/v1/plans", content=b"{", headers={"X-API-Key": shown.removeprefix("Bearer ")})
    log = guarded.wait_for(
        guarded.log.read_text, lambda text: text.count('"secrets"') >= 10 and f"key:{key_id}" in text
    )
    secret = headers["Authorization"].rsplit("_", 1)[1]
    for hidden in (
        secret, secret[:32], token, token.split(".")[1], token.split(".")[2], expired, forged, subject, "yamada",
        PASSWORD, "verysecretpepper4711", "Bearer ", guarded.settings.database_url,
    ):  # fmt: skip
        assert hidden not in log
    entries = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    callers = {e["caller"] for e in entries if e.get("event") == "request" and e.get("caller")}
    assert f"key:{key_id}" in callers
    assert any(c.startswith("oidc:") and len(c) == 17 for c in callers)


@pytest.mark.parametrize(
    ("auth", "host", "words"),
    [("local", "0.0.0.0", "TURNOUT_HOST=127.0.0.1"), (None, "127.0.0.1", "TURNOUT_AUTH=oidc")],
)
def test_bentoml_serve_does_not_start_where_anybody_could_come_in(guarded, tmp_path, auth, host, words):
    spec = service_spec(guarded.settings)
    argv = [*spec.argv[: spec.argv.index("--host")], "--host", host, "--port", "1"]
    environment = {k: v for k, v in {**os.environ, **spec.environment}.items() if not k.startswith("TURNOUT_OIDC")}
    environment.pop("TURNOUT_AUTH")
    if auth:
        environment["TURNOUT_AUTH"] = auth
    done = subprocess.run(argv, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
