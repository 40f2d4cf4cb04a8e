"""The HTTP API over a real service process with real PostgreSQL, Redis and MLflow."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from tests.serving.conftest import MAIL_RULE, TODAY, Service, brief
from tests.serving.models import register
from turnout.plan import Plan
from turnout.warehouse import tables
from turnout.warehouse.engine import create_engine

pytestmark = pytest.mark.xdist_group("service")

#: An id nobody has; fixed, so that parallel test runs collect the same names.
NO_PLAN = "5f0c3a52-2f6e-4d3b-9a4e-0d6f6c2b7a11"


def post(service: Service, body: object, **headers: str):
    return service.http.post("/v1/plans", json=body, headers=headers)


def rows(service: Service, table: sa.Table, **where: object) -> list[sa.RowMapping]:
    engine = create_engine(service.settings)
    try:
        with engine.connect() as connection:
            query = sa.select(table).where(*(table.c[name] == value for name, value in where.items()))
            return list(connection.execute(query).mappings())
    finally:
        engine.dispose()


# --- plans -----------------------------------------------------------------------------------------------------------
def test_a_brief_becomes_a_plan_that_is_kept(service):
    answer = post(service, brief())
    assert answer.status_code == 201, answer.text
    plan = Plan.model_validate(answer.json())
    assert answer.headers["location"] == f"/v1/plans/{plan.plan_id}"
    assert {a.is_paid for a in plan.allocations} == {True, False}
    assert plan.totals.spend.amount <= plan.brief.budget.amount
    assert {(m.name, m.alias) for m in plan.models} == {
        ("turnout-response", "champion"), ("turnout-demand", "champion"),
    }  # fmt: skip
    assert plan.features_as_of is not None
    assert service.http.get(answer.headers["location"]).json() == answer.json()


def test_a_plan_and_its_predictions_are_stored_together(service):
    plan = Plan.model_validate(post(service, brief()).json())
    (stored,) = rows(service, tables.plan, plan_id=plan.plan_id)
    assert stored["organisation"] == service.settings.organisation
    assert stored["answer"] == plan.model_dump(mode="json")
    predictions = {r["tactic_id"]: r for r in rows(service, tables.prediction, plan_id=plan.plan_id)}
    assert set(predictions) == {a.tactic for a in plan.allocations} | {""}
    assert float(predictions[""]["registrations_p50"]) == pytest.approx(plan.totals.registrations.p50, abs=1e-5)
    assert float(predictions[""]["spend_base"]) == float(plan.totals.spend.amount)
    own = predictions["own_email"]
    assert own["features"]["tactic_events_total"] == 8
    assert own["model_version"] == plan.models[0].version


def test_a_plan_carries_its_calendar_and_the_organisers_rules_of_thumb(service):
    plan = Plan.model_validate(post(service, brief()).json())
    days = [d.amount for a in plan.allocations for d in a.daily_spend]
    assert sum(days) == plan.totals.spend.amount > 0
    mail = next(a for a in plan.allocations if a.tactic == "own_email")
    assert mail.sends
    assert mail.staff_hours_by_week
    [note] = mail.insights
    assert (note.text, note.impact, note.verdict) == (MAIL_RULE.text, "+20%", "untested")
    assert "該当2件・非該当6件" in note.detail
    assert not any(a.insights for a in plan.allocations if a is not mail)


def test_the_answer_is_in_the_briefs_language(service):
    japanese = Plan.model_validate(post(service, brief(language="ja")).json())
    english = Plan.model_validate(post(service, brief(language="en")).json())
    names = {
        a.tactic: (a.name, b.name) for a in japanese.allocations for b in english.allocations if a.tactic == b.tactic
    }
    assert names["own_email"] == ("自社メルマガ・ハウスリスト", "Own email list invitation")
    assert any("シミュレーション" in w for w in japanese.warnings)
    assert any("SIMULATED" in w for w in english.warnings)


def test_the_same_key_gives_the_same_plan_made_once(service):
    key = uuid4().hex
    first = post(service, brief(), **{"Idempotency-Key": key})
    again = post(service, brief(), **{"Idempotency-Key": key})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert len(rows(service, tables.plan, idempotency_key=key)) == 1


def test_the_same_key_at_once_is_still_one_plan(service):
    key = uuid4().hex
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(service, brief(), **{"Idempotency-Key": key}), range(6)))
    assert {a.status_code for a in answers} <= {200, 201}
    assert len({a.json()["plan_id"] for a in answers}) == 1
    assert len(rows(service, tables.plan, idempotency_key=key)) == 1


def test_a_key_of_another_brief_is_a_conflict(service):
    key = uuid4().hex
    post(service, brief(), **{"Idempotency-Key": key})
    other = post(service, brief(staff_hours=1), **{"Idempotency-Key": key})
    assert other.status_code == 409
    assert other.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("key", ["with space", "日本語".encode().decode("latin-1"), "x" * 201, ""])
def test_a_malformed_key_is_refused(service, key):
    answer = service.http.post("/v1/plans", json=brief(), headers=[(b"Idempotency-Key", key.encode("latin-1"))])
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["detail"]


# --- refusals --------------------------------------------------------------------------------------------------------
WRONG = {
    "event": {
        "name": "", "date": "2020-01-01", "category": "宇宙", "format": "by post", "time_zone": "Mars/Olympus",
        "price": {"amount": -1, "currency": "XXX"}, "audience": {"industries": ["製造", "宇宙"]},
    },
    "goal": {"target": 0, "metric": "fans"},
    "budget": {"amount": "lots", "currency": "JPY"},
    "constraints": [{"tactic": "teleportation", "exclude": True}, {"tactic": "own_email", "lock": {"amount": 5}}],
    "colour": "red",
}  # fmt: skip
WRONG_FIELDS = {
    "/event/name", "/event/category", "/event/format", "/event/time_zone", "/event/price/amount",
    "/event/price/currency", "/event/audience/industries/1", "/goal/target", "/goal/metric", "/budget/amount",
    "/constraints/0/tactic", "/constraints/1", "/colour",
}  # fmt: skip


@pytest.mark.parametrize("language", ["ja", "en"])
def test_every_wrong_field_is_named_at_once(service, language):
    answer = post(service, {**WRONG, "language": language})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["content-language"] == language
    problem = answer.json()
    assert problem["type"] == "urn:turnout:problem:invalid-brief"
    assert {e["pointer"] for e in problem["errors"]} == WRONG_FIELDS
    said = {e["pointer"]: e["detail"] for e in problem["errors"]}
    assert "security" in said["/event/category"], "names what is allowed"
    japanese = [d for d in said.values() if any("\u3040" <= c <= "\u30ff" or "\u4e00" <= c <= "\u9fff" for c in d)]
    assert len(japanese) == len(said) if language == "ja" else len(japanese) <= 3  # quoted values


def test_a_past_event_is_named_beside_other_faults(service):
    body = brief(goal={"target": 0})
    body["event"]["date"] = (TODAY - timedelta(days=3)).isoformat()
    errors = post(service, body).json()["errors"]
    assert {e["code"] for e in errors} == {"event_in_the_past", "greater_than_equal"}


def test_accept_language_decides_where_the_brief_does_not(service):
    answer = service.http.get(f"/v1/plans/{uuid4()}", headers={"Accept-Language": "fr, ja;q=0.8, en;q=0.5"})
    assert answer.status_code == 404
    assert answer.json()["title"] == "見つかりません"


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b'{"a": NaN}', {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'{"a":' * 20_000, {}, 400),
        (b"null", {}, 422),
        (b"[1, 2]", {}, 422),
        (b"{}", {}, 422),
        (b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b'"' + b"x" * 300_000 + b'"', {}, 413),
        (b'{"event": {"name": "\\ud800"}}', {}, 400),
        (b'{"event": {"name": "a\\u0000b"}}', {}, 422),
        (b'{"budget": {"amount": "1e999999999"}, "goal": {"target": 1e400}}', {}, 422),
        (b'{"budget": {"amount": "1e999999999"}, "goal": {"target": 99999999999999999999999}}', {}, 422),
        (b'{"event": {"date": "9999-12-31"}, "as_of": "0001-01-01"}', {}, 422),
    ],
)
def test_hostile_bodies_are_refused_with_a_problem(service, content, headers, status):
    answer = service.http.post("/v1/plans", content=content, headers={"Content-Type": "application/json", **headers})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


def test_a_body_without_a_stated_length_is_cut_off(service):
    def endless():
        for _ in range(400):
            yield b" " * 1024

    answer = service.http.post("/v1/plans", content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


def test_extreme_but_valid_briefs_get_an_answer(service):
    far = (TODAY + timedelta(days=1000)).isoformat()
    for changes in (
        {"budget": {"amount": 0}, "staff_hours": 0},
        {"budget": {"amount": "1000000000000"}, "staff_hours": 100_000, "goal": {"target": 1_000_000}},
        {"event": {**brief()["event"], "date": far}},
        {"event": {**brief()["event"], "date": TODAY.isoformat(), "time_zone": "Etc/GMT+12"}},
        {"event": {**brief()["event"], "price": {"amount": 50_000, "currency": "USD"}, "capacity": 1}},
        {"assets": dict.fromkeys(["email_list", "social_followers", "sales_contacts", "site_visitors"], 500_000)},
        {"constraints": [{"tactic": "Meta広告", "lock": {"amount": 123_456}}, {"tactic": "partner", "exclude": True}]},
        {"budget": {"amount": "1234.56", "currency": "USD"}, "language": "en"},
    ):
        answer = post(service, brief(**changes))
        assert answer.status_code == 201, (changes, answer.text)
        plan = Plan.model_validate(answer.json())
        assert sum(a.spend.amount for a in plan.allocations) == plan.totals.spend.amount
        assert plan.totals.spend.amount + plan.totals.unspent.amount == plan.brief.budget.amount


def test_locks_that_no_hours_allow_are_a_conflict_in_words(service):
    answer = post(service, brief(staff_hours=1, constraints=[{"tactic": "meta_ads", "lock": {"amount": 100_000}}]))
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "/constraints"
    assert "meta_ads" in error["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/plans/not-an-id", 404), ("GET", f"/v1/plans/{NO_PLAN}", 404), ("GET", "/v2", 404),
        ("GET", "/v1/plans/%00", 404), ("GET", "/v1/plans/..%2f..%2fetc%2fpasswd", 404), ("DELETE", "/v1/plans", 405),
        ("PUT", f"/v1/plans/{NO_PLAN}", 405), ("POST", "/v1/tactics", 405), ("GET", "/v1/plans", 405),
    ],
)  # fmt: skip
def test_what_is_not_there_is_a_problem(service, method, path, status):
    answer = service.http.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    if status == 405:
        assert answer.headers["allow"]


def test_bytes_that_are_no_http_do_not_disturb_the_service(service):
    for noise in (
        b"\x00\x01\x02\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /v1/plans HTTP/9\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", service.settings.service_port), timeout=5) as connection:
            connection.sendall(noise)
    assert service.http.get("/livez").status_code == 200


# --- the rest --------------------------------------------------------------------------------------------------------
def test_the_catalogue_is_listed_in_the_asked_language(service):
    tactics = service.http.get("/v1/tactics", headers={"Accept-Language": "ja-JP"}).json()
    assert len(tactics) >= 28
    assert {t["is_paid"] for t in tactics} == {True, False}
    assert next(t for t in tactics if t["id"] == "own_email")["name"] == "自社メルマガ・ハウスリスト"


def test_models_in_use_are_told(service):
    models = service.http.get("/v1/models").json()
    assert [m["name"] for m in models] == ["turnout-response", "turnout-demand"]
    assert all(m["is_simulated_data"] is True for m in models[:1])


def test_health_names_every_part(service):
    ready = service.http.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {
        "status": "ready", "parts": dict.fromkeys(["model", "features", "postgresql", "redis"], "ok"),
    }  # fmt: skip
    assert service.http.get("/livez").json()["status"] == "alive"


def test_metrics_count_by_route_never_by_id(service):
    service.http.get(f"/v1/plans/{uuid4()}")
    post(service, brief())
    page = service.http.get("/metrics").text
    assert 'turnout_requests_total{method="GET",route="/v1/plans/{plan_id}",status="404"}' in page
    assert 'turnout_stage_seconds_count{stage="features"}' in page
    assert "turnout_model_loaded{" in page
    assert "-" not in "".join(line.split("}")[0] for line in page.splitlines() if line.startswith("turnout_requests"))


def test_every_answer_carries_its_request_id(service):
    assert service.http.get("/livez", headers={"X-Request-ID": "abc.123"}).headers["x-request-id"] == "abc.123"
    strange = service.http.get("/livez", headers={"X-Request-ID": "<script>"}).headers["x-request-id"]
    assert strange.isalnum()
    refused = service.http.get("/nowhere", headers={"X-Request-ID": "r-1"})
    assert refused.json()["instance"] == "urn:request:r-1"


def test_logs_are_json_without_the_brief(service):
    body = brief()
    body["event"]["name"] = "NamedAfterSomebody"
    post(service, body, **{"X-Request-ID": "log-test"})
    # the line is written when the answer is out
    lines = service.wait_for(
        lambda: [line for line in service.log.read_text().splitlines() if "log-test" in line], lambda found: found
    )
    entry = json.loads(lines[-1])
    assert (entry["route"], entry["status"], entry["request_id"]) == ("/v1/plans", 201, "log-test")
    assert "NamedAfterSomebody" not in service.log.read_text()


def test_openapi_describes_the_brief_the_plan_and_the_problems(service):
    schema = service.http.get("/openapi.json").json()
    operation = schema["paths"]["/v1/plans"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"] == "#/components/schemas/Brief"
    assert set(operation["responses"]) >= {"201", "400", "409", "413", "415", "422", "503", "504"}
    assert "application/problem+json" in operation["responses"]["422"]["content"]
    references = {part.split('"')[0] for part in json.dumps(schema).split("#/components/schemas/")[1:]}
    assert references <= set(schema["components"]["schemas"])


def test_the_docs_page_loads_nothing_from_elsewhere(service):
    page = service.http.get("/docs").text
    assert "https://" not in page
    assert service.http.get("/static_content/swagger-ui-bundle.js").status_code == 200
    assert service.http.get("/").headers["location"] == "/docs"


def test_bentomls_own_client_gets_a_plan_too(service):
    import bentoml

    with bentoml.SyncHTTPClient(service.url) as client:
        plan = client.plan(brief())
    plan = Plan.model_validate(plan)
    assert plan.allocations
    assert service.http.post("/bento/plan", content=b"{").status_code == 400
    assert service.http.post("/bento/plan", json=WRONG).status_code == 400


def test_without_the_service_the_same_plan_is_made_and_kept(service):
    from serving.local import plan_in_process
    from turnout.brief import Brief

    question = Brief.model_validate(brief())
    engine = create_engine(service.settings)
    here = plan_in_process(service.settings, engine, question)
    engine.dispose()
    there = Plan.model_validate(post(service, brief()).json())
    differ = {"plan_id", "created_at"}
    assert here.model_dump(exclude=differ) == there.model_dump(exclude=differ)
    assert rows(service, tables.plan, plan_id=here.plan_id)
    assert rows(service, tables.prediction, plan_id=here.plan_id, tactic_id="")


def test_a_new_champion_is_taken_over_without_a_restart(service, tmp_path):
    response, _ = register(service.settings, tmp_path)
    models = service.wait_for(lambda: service.http.get("/v1/models").json(), lambda m: m[0]["version"] == response)
    assert models[0]["trained_until"] is None
    plan = Plan.model_validate(post(service, brief(language="en")).json())
    assert plan.models[0].version == response
    assert not any("SIMULATED" in w for w in plan.warnings)
