"""Who is let in: tokens of a real provider and forged ones, API keys, roles, organisations."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
import redis
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy.engine import Engine

from serving import auth, auth_keys, auth_oidc, store
from serving.http import create_app
from serving.state import Planning
from tests.serving.conftest import brief
from tests.serving.provider import CLIENT, Provider, ec_key, running
from turnout.errors import ConfigurationError, InputError
from turnout.identity_keys import create_key, key_secret, list_keys, revoke_key, rotate_key, tell_workers
from turnout.identity_roles import PERMISSIONS, Permission, Role, auth_mode, permissions_of
from turnout.settings import Settings
from turnout.warehouse.tables import api_key, plan

pytestmark = pytest.mark.xdist_group("auth")


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running() as found:
        yield found


@pytest.fixture
def oidc(settings: Settings, provider: Provider, redis_url: str, engine: Engine) -> Settings:
    provider.extra.clear()
    provider.asked.clear()
    return settings.model_copy(
        update={
            "auth": "oidc", "oidc_issuer": provider.issuer, "oidc_audience": CLIENT,
            "oidc_organisation_claim": "org_id", "oidc_clock_skew_seconds": 10.0,
        }
    )  # fmt: skip


@pytest.fixture
def keys(settings: Settings, redis_url: str, engine: Engine) -> Settings:
    return settings.model_copy(update={"auth": "keys"})


@asynccontextmanager
async def client(settings: Settings, client_host: str = "127.0.0.1") -> AsyncIterator[httpx.AsyncClient]:
    """The application without models, on real PostgreSQL and Redis."""
    planning = Planning(settings)
    planning._engine = store.create_engine(settings)
    transport = httpx.ASGITransport(create_app(planning), raise_app_exceptions=False, client=(client_host, 4711))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as http:
            yield http
    finally:
        await planning.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def make_key(engine: Engine, settings: Settings, *roles: str, **options: Any) -> tuple[str, str]:
    """An API key of the installation; its id and itself."""
    given = {"organisation": settings.organisation, "name": "test", **options}
    with engine.begin() as connection:
        made, key = create_key(connection, key_secret(settings), roles=list(roles) or ["planner"], **given)
    return made.key_id, key


def store_plan(engine: Engine, organisation: str) -> str:
    plan_id = uuid4()
    with engine.begin() as connection:
        connection.execute(sa.insert(plan), {
            "plan_id": plan_id, "organisation": organisation, "event_id": "evt_1", "brief": {},
            "answer": {"of": organisation}, "model_versions": [], "created_at": datetime.now(UTC),
        })  # fmt: skip
    return str(plan_id)


# --- the table --------------------------------------------------------------------------------------------------------
def test_every_role_has_permissions_and_only_the_operator_has_all():
    assert set(PERMISSIONS) == set(Role)
    assert permissions_of(["operator"]) == set(Permission)
    assert Permission.make_plans not in permissions_of(["analyst"])
    assert permissions_of(["planner", "analyst"]) == PERMISSIONS[Role.planner] | PERMISSIONS[Role.analyst]
    assert permissions_of(["root", "OPERATOR", ""]) == set()
    assert permissions_of(["operator"], ["metrics:read", "everything"]) == {Permission.read_metrics}


def test_a_route_that_nobody_decided_about_is_a_fault_at_start():
    with pytest.raises(RuntimeError, match="/v1/secrets"):
        auth.check_routes([("GET", "/livez"), ("GET", "/v1/secrets")])


async def test_every_guarded_route_wants_a_caller_in_words_of_the_asked_language(keys):
    async with client(keys) as http:
        for (method, route), needed in auth.ACCESS.items():
            if needed is None or route.startswith("/bento"):
                continue
            path = route.replace("{plan_id}", str(uuid4()))
            for language, words in (("en", "Send Authorization"), ("ja", "ヘッダーが必要です")):
                answer = await http.request(method, path, headers={"Accept-Language": language})
                assert answer.status_code == 401, route
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["www-authenticate"] == 'Bearer realm="turnout"'
                assert words in answer.json()["detail"]
                assert answer.json()["type"] == "urn:turnout:problem:unauthenticated"


async def test_probes_and_documentation_are_open_and_metrics_when_told(keys):
    async with client(keys) as http:
        for path in ("/livez", "/openapi.json", "/docs"):
            assert (await http.get(path)).status_code == 200
        assert (await http.get("/readyz")).status_code == 503, "no model, but an answer"
        assert (await http.get("/nothing")).status_code == 404
        assert (await http.get("/metrics")).status_code == 401
    async with client(keys.model_copy(update={"metrics_open": True})) as http:
        assert (await http.get("/metrics")).status_code == 200


# --- tokens -----------------------------------------------------------------------------------------------------------
async def test_a_person_who_logged_in_at_the_provider_is_let_in(oidc, provider, engine):
    token = provider.log_in("hanako", roles=["analyst"], org_id="ours")
    mine, theirs = store_plan(engine, "ours"), store_plan(engine, "theirs")
    async with client(oidc) as http:
        answer = await http.get(f"/v1/plans/{mine}", headers=bearer(token))
        assert (answer.status_code, answer.json()) == (200, {"of": "ours"})
        assert (await http.get("/v1/tactics", headers=bearer(token))).status_code == 200
        refused = await http.post("/v1/plans", headers=bearer(token), json=brief())
        assert refused.status_code == 403
        assert "plans:write" in refused.json()["detail"]
        assert (await http.get(f"/v1/plans/{theirs}", headers=bearer(token))).status_code == 404


async def test_keys_are_fetched_once_and_a_token_is_verified_once(oidc, provider, monkeypatch):
    token, other = provider.forge(org_id="ours"), provider.forge(org_id="ours", sub="other")
    verified, decode = [], jwt.decode
    monkeypatch.setattr(auth_oidc.jwt, "decode", lambda *a, **k: verified.append(1) or decode(*a, **k))
    provider.asked.clear()
    async with client(oidc) as http:
        answers = await asyncio.gather(*(http.get("/v1/tactics", headers=bearer(token)) for _ in range(20)))
        answers += [await http.get("/v1/tactics", headers=bearer(token)) for _ in range(5)]
        answers.append(await http.get("/v1/tactics", headers=bearer(other)))
    assert {a.status_code for a in answers} == {200}
    assert provider.asked == ["/.well-known/openid-configuration", "/jwks"]
    assert len(verified) <= 21, "those that came before the first was done, and the other one"


def _public_pem(provider: Provider) -> bytes:
    return provider.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _handmade(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def _claims(provider: Provider, **changes: Any) -> dict[str, Any]:
    return jwt.decode(provider.forge(org_id="ours", **changes), options={"verify_signature": False})


def _hs256(provider: Provider) -> str:
    """HS256 with the public key as the secret, as an unsuspecting library would verify it."""
    import hashlib
    import hmac

    unsigned = _handmade({"alg": "HS256", "typ": "JWT", "kid": provider.key_id}, _claims(provider)).rstrip(".")
    mac = hmac.new(_public_pem(provider), unsigned.encode(), hashlib.sha256).digest()
    return f"{unsigned}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _swapped(provider: Provider) -> str:
    header, _, signature = provider.forge(org_id="ours").split(".")
    return f"{header}.{_handmade({}, _claims(provider, sub='admin')).split('.')[1]}.{signature}"


NOW = int(time.time())
FORGED = {
    "alg none": ("algorithm", lambda p: _handmade({"alg": "none", "kid": p.key_id}, _claims(p))),
    "alg None": ("algorithm", lambda p: _handmade({"alg": "None"}, _claims(p))),
    "HS256 with the public key": ("algorithm", _hs256),
    "PS256": ("algorithm", lambda p: p.forge(algorithm="PS256", org_id="ours")),
    "no algorithm": ("algorithm", lambda p: _handmade({"kid": p.key_id}, _claims(p))),
    "stripped signature": ("signature", lambda p: p.forge(org_id="ours").rsplit(".", 1)[0] + "."),
    "changed claims": ("signature", _swapped),
    "another key under the known id": ("signature", lambda p: p.forge(key=_rsa(), org_id="ours")),
    "unknown key id": ("unknown_key", lambda p: p.forge(headers={"kid": "nobody's"}, org_id="ours")),
    "key id that is no text": ("malformed", lambda p: _handmade({"alg": "RS256", "kid": 7}, _claims(p))),
    "key of its own in the header": (
        "signature", lambda p: p.forge(key=_rsa(), headers={"jwk": p.key_set()["keys"][0]}, org_id="ours"),
    ),
    "critical extension": ("malformed", lambda p: _handmade({"alg": "RS256", "crit": ["x"], "kid": "k"}, _claims(p))),
    "wrong audience": ("audience", lambda p: p.forge(aud="somebody-else", org_id="ours")),
    "no audience": ("incomplete", lambda p: p.forge(aud=None, org_id="ours")),
    "wrong issuer": ("issuer", lambda p: p.forge(iss=f"{p.issuer}/", org_id="ours")),
    "expired": ("expired", lambda p: p.forge(exp=NOW - 60, org_id="ours")),
    "no expiry": ("incomplete", lambda p: p.forge(exp=None, org_id="ours")),
    "not valid yet": ("not_yet", lambda p: p.forge(nbf=int(time.time()) + 600, org_id="ours")),
    "no subject": ("incomplete", lambda p: p.forge(sub=None, org_id="ours")),
    "expiry that is no number": ("malformed", lambda p: p.forge(exp="tomorrow", org_id="ours")),
    "no organisation": ("organisation", lambda p: p.forge()),
    "organisation that is no text": ("organisation", lambda p: p.forge(org_id=["ours"])),
    "organisation with a line break": ("organisation", lambda p: p.forge(org_id="ours\ntheirs")),
    "no token at all": ("malformed", lambda p: "abc"),
    "too long": ("malformed", lambda p: "a" * 9000 + ".b.c"),
    "claims that are no object": ("malformed", lambda p: jwt.api_jws.encode(b"[1]", p.key, "RS256", {"kid": p.key_id})),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
async def test_no_forged_token_is_let_in(oidc, provider, name):
    reason, forge = FORGED[name]
    token = forge(provider)
    async with client(oidc) as http:
        answer = await http.get("/v1/tactics", headers=bearer(token))
    assert answer.status_code == 401, name
    assert answer.json()["detail"] == auth.TEXTS[reason]["en"]
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert token not in answer.text


async def test_clocks_may_differ_by_the_skew_and_no_more(oidc, provider):
    now = int(time.time())
    async with client(oidc) as http:
        for claims, status in (
            ({"exp": now - 4}, 200), ({"exp": now - 40}, 401), ({"nbf": now + 5}, 200), ({"nbf": now + 60}, 401),
        ):  # fmt: skip
            answer = await http.get("/v1/tactics", headers=bearer(provider.forge(org_id="ours", **claims)))
            assert answer.status_code == status, claims


async def test_a_kept_token_ends_with_its_expiry(oidc, provider):
    settings = oidc.model_copy(update={"oidc_clock_skew_seconds": 0.0})
    token = provider.forge(org_id="ours", exp=int(time.time()) + 2)
    async with client(settings) as http:
        assert (await http.get("/v1/tactics", headers=bearer(token))).status_code == 200
        await asyncio.sleep(2.1)
        assert (await http.get("/v1/tactics", headers=bearer(token))).status_code == 401


async def test_es256_is_taken_and_other_kinds_of_keys_are_not(oidc, provider):
    private, public = ec_key("elliptic")
    secret = base64.urlsafe_b64encode(b"s" * 32).rstrip(b"=").decode()
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    provider.extra += [
        public, {"kty": "oct", "k": secret, "kid": "shared", "alg": "HS256"},
        {**jwt.algorithms.RSAAlgorithm.to_jwk(weak.public_key(), as_dict=True), "kid": "weak"},
        {**jwt.algorithms.RSAAlgorithm.to_jwk(provider.key.public_key(), as_dict=True), "kid": "enc", "use": "enc"},
    ]  # fmt: skip
    async with client(oidc) as http:
        for token, status in (
            (provider.forge(key=private, algorithm="ES256", headers={"kid": "elliptic"}, org_id="ours"), 200),
            (provider.forge(headers={"kid": "elliptic"}, org_id="ours"), 401),
            (provider.forge(key="s" * 32, algorithm="HS256", headers={"kid": "shared"}, org_id="ours"), 401),
            (provider.forge(key=weak, headers={"kid": "weak"}, org_id="ours"), 401),
            (provider.forge(headers={"kid": "enc"}, org_id="ours"), 401),
        ):
            assert (await http.get("/v1/tactics", headers=bearer(token))).status_code == status


async def test_a_rotated_key_is_found_and_the_old_one_counts_no_more(oidc, provider, monkeypatch):
    old = provider.forge(org_id="ours")
    async with client(oidc) as http:
        assert (await http.get("/v1/tactics", headers=bearer(old))).status_code == 200
        provider.rotate()
        new = provider.forge(org_id="ours")
        # within the pause after the last fetch a new key is not looked for
        assert (await http.get("/v1/tactics", headers=bearer(new))).status_code == 401
        monkeypatch.setattr(auth_oidc, "REFETCH_SECONDS", 0.0)
        assert (await http.get("/v1/tactics", headers=bearer(new))).status_code == 200
        assert (await http.get("/v1/tactics", headers=bearer(old))).status_code == 401


async def test_invented_key_ids_do_not_flood_the_provider(oidc, provider):
    good = provider.forge(org_id="ours")
    tokens = [provider.forge(headers={"kid": f"invented-{n}"}) for n in range(30)]
    provider.asked.clear()
    async with client(oidc) as http:
        assert (await http.get("/v1/tactics", headers=bearer(good))).status_code == 200
        answers = await asyncio.gather(*(http.get("/v1/tactics", headers=bearer(token)) for token in tokens))
    assert {a.status_code for a in answers} == {401}
    assert provider.asked.count("/jwks") == 1


async def test_stale_keys_are_read_again_beside_the_requests(oidc, provider, monkeypatch):
    monkeypatch.setattr(auth_oidc, "REFETCH_SECONDS", 0.0)
    settings = oidc.model_copy(update={"oidc_keys_seconds": 0.05})
    tokens = [provider.forge(org_id="ours", sub=str(n)) for n in range(3)]
    provider.asked.clear()
    async with client(settings) as http:
        for token in tokens:
            assert (await http.get("/v1/tactics", headers=bearer(token))).status_code == 200
            await asyncio.sleep(0.3)
    assert provider.asked.count("/jwks") == 3


async def test_without_the_provider_its_last_keys_go_on_and_without_keys_it_is_said(oidc, monkeypatch):
    with ExitStack() as stack:
        short = stack.enter_context(running())
        settings = oidc.model_copy(update={"oidc_issuer": short.issuer, "oidc_keys_seconds": 0.01})
        token, other, third = (short.forge(org_id="ours", sub=s) for s in "abc")
        monkeypatch.setattr(auth_oidc, "REFETCH_SECONDS", 0.0)
        async with client(settings) as http:
            assert (await http.get("/v1/tactics", headers=bearer(token))).status_code == 200
            stack.close()
            for _ in range(3):
                assert (await http.get("/v1/tactics", headers=bearer(other))).status_code == 200
                await asyncio.sleep(0.05)
    async with client(settings) as http:
        answer = await http.get("/v1/tactics", headers=bearer(third))
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "identity provider" in answer.json()["detail"]


async def test_a_discovery_document_of_another_issuer_is_not_believed(oidc, provider):
    settings = oidc.model_copy(update={"oidc_issuer": provider.issuer.replace("localhost", "127.0.0.1") + "/"})
    async with client(settings) as http:
        answer = await http.get("/v1/tactics", headers=bearer(provider.forge(org_id="ours")))
    assert answer.status_code == 503


@pytest.mark.parametrize(
    ("changes", "claims", "status"),
    [
        ({"oidc_roles_claim": "https://example.org/roles"}, {"https://example.org/roles": ["operator"]}, 200),
        ({"oidc_roles_claim": "realm_access.roles"}, {"realm_access": {"roles": ["operator"]}}, 200),
        ({"oidc_roles_claim": "scope"}, {"scope": "openid planner"}, 200),
        ({"oidc_role_names": {"Marketing": "planner"}}, {"roles": ["Marketing"]}, 200),
        ({}, {"roles": ["Marketing"]}, 403),
        ({}, {"roles": None}, 403),
        ({}, {"roles": {"operator": True}}, 403),
        ({"oidc_organisations": {"org_1": "ours"}}, {"roles": ["operator"], "org_id": "org_1"}, 200),
        ({"oidc_organisations": {"org_1": "ours"}}, {"roles": ["operator"], "org_id": "ours"}, 401),
        ({"oidc_organisation_claim": None}, {"roles": ["operator"], "org_id": None}, 200),
    ],
)
async def test_roles_and_organisations_are_read_as_the_provider_names_them(oidc, provider, changes, claims, status):
    given = {"org_id": "ours", "roles": None, **claims}
    async with client(oidc.model_copy(update=changes)) as http:
        answer = await http.get("/v1/tactics", headers=bearer(provider.forge(**given)))
    assert answer.status_code == status, answer.text


# --- API keys ---------------------------------------------------------------------------------------------------------
async def test_a_key_is_let_in_either_way_and_its_use_is_noted(keys, engine):
    key_id, key = make_key(engine, keys, "planner")
    async with client(keys) as http:
        assert (await http.get("/v1/tactics", headers=bearer(key))).status_code == 200
        assert (await http.get("/v1/tactics", headers={"X-API-Key": key})).status_code == 200
        await asyncio.sleep(0.3)
    with engine.connect() as connection:
        (listed,) = list_keys(connection, keys.organisation)
        stored = connection.execute(sa.select(api_key)).mappings().one()
    assert listed.key_id == key_id
    assert listed.last_used_at is not None
    assert key not in str(dict(stored)), "only its hash is kept"
    assert len(key.rsplit("_", 1)[1]) == 64, "256 bit"


async def test_wrong_keys_are_refused_with_one_answer(keys, engine):
    key_id, key = make_key(engine, keys)
    _, expired = make_key(engine, keys, expires_at=datetime.now(UTC) + timedelta(seconds=0.2))
    await asyncio.sleep(0.3)
    wrong = [
        key[:-1] + ("0" if key[-1] != "0" else "1"), f"turnout_{key_id}_{'0' * 64}", f"turnout_{'0' * 12}_{'0' * 64}",
        key.upper(), key + "0", "turnout_", "turnout_' OR 1=1 --", expired,
    ]  # fmt: skip
    async with client(keys) as http:
        answers = [await http.get("/v1/tactics", headers=bearer(w)) for w in wrong]
        assert (await http.get("/v1/tactics", headers=bearer(key))).status_code == 200
    details = {a.json()["detail"] for a in answers}
    assert {a.status_code for a in answers} == {401}
    # what has not even the form of a key is taken for a token, which this service does not take
    assert details <= {auth.TEXTS["key"]["en"], auth.TEXTS["keys_only"]["en"]}
    assert not any(w in a.text for w, a in zip(wrong, answers, strict=True) if len(w) > 20)


async def revoked(engine, keys, key_id):
    """Revoke a key as another process would: the service may be noting its last use at that moment."""

    def revoke():
        with engine.begin() as connection:
            revoke_key(connection, keys.organisation, key_id)

    await asyncio.to_thread(revoke)


async def test_a_revoked_key_is_refused_at_once_in_every_worker(keys, engine):
    key_id, key = make_key(engine, keys)
    async with client(keys) as one, client(keys) as two:
        for http in (one, two, one, two):
            assert (await http.get("/v1/tactics", headers=bearer(key))).status_code == 200
        await revoked(engine, keys, key_id)
        assert tell_workers(keys)
        for http in (one, two):
            assert (await http.get("/v1/tactics", headers=bearer(key))).status_code == 401


async def test_without_redis_a_revoked_key_is_refused_within_a_second(keys, engine, monkeypatch):
    monkeypatch.setattr(auth_keys, "FRESH_WITHOUT_MARK", 0.0)
    key_id, key = make_key(engine, keys)
    async with client(keys.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"})) as http:
        assert (await http.get("/v1/tactics", headers=bearer(key))).status_code == 200
        await revoked(engine, keys, key_id)
        assert (await http.get("/v1/tactics", headers=bearer(key))).status_code == 401


async def test_known_keys_work_while_postgresql_is_away_and_unknown_ones_are_not_judged(keys, engine, redis_url):
    _, key = make_key(engine, keys)
    _, other = make_key(engine, keys)
    planning = Planning(keys)
    planning._engine = store.create_engine(keys)
    transport = httpx.ASGITransport(create_app(planning))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        assert (await http.get("/v1/tactics", headers=bearer(key))).status_code == 200
        await planning._engine.dispose()
        planning._engine = store.create_engine(
            keys.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:9/turnout"})
        )
        assert (await http.get("/v1/tactics", headers=bearer(key))).status_code == 200
        answer = await http.get("/v1/tactics", headers=bearer(other))
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        # whether the key was revoked meanwhile cannot be known: better refused than wrong
        with redis.Redis.from_url(redis_url) as direct:
            direct.set("turnout:keys:mark", "changed")
        assert (await http.get("/v1/tactics", headers=bearer(key))).status_code == 503
    await planning.close()


async def test_one_lookup_for_many_requests(keys, engine, monkeypatch):
    _, key = make_key(engine, keys)
    asked = []
    find = auth_keys.KeyRing._find

    async def counted(self, key_id):
        asked.append(key_id)
        return await find(self, key_id)

    monkeypatch.setattr(auth_keys.KeyRing, "_find", counted)
    async with client(keys) as http:
        for _ in range(3):
            answers = await asyncio.gather(*(http.get("/v1/tactics", headers=bearer(key)) for _ in range(30)))
            assert {a.status_code for a in answers} == {200}
    assert len(asked) <= 2, "one, and one more when the first mark is seen"


async def test_scopes_narrow_a_role(keys, engine):
    _, key = make_key(engine, keys, "operator", scopes=["metrics:read"])
    async with client(keys) as http:
        assert (await http.get("/metrics", headers=bearer(key))).status_code == 200
        assert (await http.get("/v1/tactics", headers=bearer(key))).status_code == 403


def test_a_rotated_key_goes_on_for_its_grace_and_has_one_successor(keys, engine):
    now = datetime.now(UTC)
    key_id, _ = make_key(engine, keys, "analyst", name="report", expires_at=now + timedelta(days=90))
    with engine.begin() as connection:
        new, key = rotate_key(connection, key_secret(keys), keys.organisation, key_id, grace=timedelta(hours=1))
    with engine.begin() as connection:
        listed = {k.key_id: k for k in list_keys(connection, keys.organisation)}
        assert listed[key_id].replaced_by == new.key_id
        assert listed[key_id].expires_at < now + timedelta(hours=2)
        assert (listed[new.key_id].name, listed[new.key_id].roles) == ("report", ("analyst",))
        assert abs(listed[new.key_id].expires_at - now - timedelta(days=90)) < timedelta(minutes=1)
        assert key.startswith(f"turnout_{new.key_id}_")
        with pytest.raises(InputError, match="replaced by"):
            rotate_key(connection, key_secret(keys), keys.organisation, key_id)
        with pytest.raises(InputError, match="no key"):
            revoke_key(connection, "theirs", new.key_id)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"roles": ["root"]}, "planner, analyst, operator"), ({"roles": []}, "needs a role"),
        ({"roles": ["analyst"], "scopes": ["plans:write"]}, "outside the roles"), ({"scopes": ["all"]}, "plans:read"),
        ({"name": " "}, "needs a name"), ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "past"),
    ],
)  # fmt: skip
def test_keys_that_make_no_sense_are_refused_in_words(keys, engine, options, words):
    given = {"organisation": "ours", "name": "x", "roles": ["planner"], **options}
    with engine.begin() as connection, pytest.raises(InputError, match=words):
        create_key(connection, b"secret", **given)


# --- organisations and what is sent ----------------------------------------------------------------------------------
async def test_another_organisations_plan_is_not_there(keys, engine):
    _, mine = make_key(engine, keys, "operator", organisation="ours")
    _, theirs = make_key(engine, keys, "operator", organisation="theirs")
    plan_id = store_plan(engine, "ours")
    async with client(keys) as http:
        assert (await http.get(f"/v1/plans/{plan_id}", headers=bearer(mine))).status_code == 200
        hidden = await http.get(f"/v1/plans/{plan_id}", headers={**bearer(theirs), "X-Request-ID": "same"})
        absent = await http.get(f"/v1/plans/{uuid4()}", headers={**bearer(theirs), "X-Request-ID": "same"})
    assert hidden.status_code == absent.status_code == 404
    assert hidden.json() == absent.json(), "nothing tells the two apart"


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Bearer")], [("Authorization", "Bearer ")], [("Authorization", "Basic dXNlcjpwdw==")],
        [("Authorization", "Bearer a"), ("Authorization", "Bearer b")],
        [("Authorization", "Bearer a"), ("X-API-Key", "b")], [("X-API-Key", "")], [("X-API-Key", "x\tOR 1=1")],
        [("Authorization", "Bearer turnout_%00%0d%0aSet-Cookie: a=b")],
        [("Authorization", "Bearer \xff\xfe.\xff.\xff")],
    ],
)  # fmt: skip
async def test_malformed_credentials_are_refused_and_not_said_back(oidc, headers):
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    async with client(oidc) as http:
        answer = await http.get("/v1/tactics", headers=raw)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "OR 1=1" not in answer.text


@pytest.mark.parametrize(
    "plan_id", ["'; DROP TABLE turnout.plan; --", "1 OR 1=1", "%27%20OR%20%271%27=%271", "a%0d%0aSet-Cookie: x=y"]
)
async def test_injected_ids_find_nothing_and_do_nothing(keys, engine, plan_id):
    _, key = make_key(engine, keys)
    kept = store_plan(engine, keys.organisation)
    async with client(keys) as http:
        answer = await http.get(f"/v1/plans/{plan_id}", headers=bearer(key))
        assert answer.status_code == 404
        assert "set-cookie" not in answer.headers
        assert (await http.get(f"/v1/plans/{kept}", headers=bearer(key))).status_code == 200


@pytest.mark.parametrize("name", ["x'); DROP TABLE turnout.plan; --", "a\x1fb", "組織", "\\", "a' OR organisation<>'"])
async def test_names_of_organisations_are_values_not_sql(keys, engine, name):
    _, key = make_key(engine, keys, organisation=name)
    own, other = store_plan(engine, name), store_plan(engine, "theirs")
    async with client(keys) as http:
        assert (await http.get(f"/v1/plans/{own}", headers=bearer(key))).json() == {"of": name}
        assert (await http.get(f"/v1/plans/{other}", headers=bearer(key))).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"[" * 200_000, 400, "malformed-json"), (b'{"a":' * 40 + b"1" + b"}" * 40, 400, "malformed-json"),
        (b'{"event": ' + b"[" * 33 + b"]" * 33 + b"}", 400, "malformed-json"),
        (b'{"a": "' + b"[" * 1000 + b'"}', 422, "invalid-brief"),
        (b'{"a": "' + b"x" * 300_000 + b'"}', 413, "too-large"),
        (b'{"a": "\\"[[[[' + b"[" * 100 + b'"}', 422, "invalid-brief"), (b"1" * 5000, 400, None),
        (b'{"a": 1' + b"0" * 5000 + b"}", None, None), (b"\xff\xfe{}", 400, "malformed-json"),
    ],
)  # fmt: skip
async def test_huge_and_deep_bodies_are_refused(keys, engine, body, status, kind):
    _, key = make_key(engine, keys)
    async with client(keys) as http:
        began = time.monotonic()
        answer = await http.post("/v1/plans", content=body, headers={**bearer(key), "Content-Type": "application/json"})
    assert time.monotonic() - began < 2
    assert 400 <= answer.status_code < 500
    assert status is None or answer.status_code in (status, 422)
    assert kind is None or answer.json()["type"].endswith(kind)


async def test_a_body_that_does_not_come_is_not_awaited_for_ever(keys, engine):
    _, key = make_key(engine, keys)

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    async with client(keys.model_copy(update={"request_timeout_seconds": 0.3})) as http:
        answer = await http.post(
            "/v1/plans", content=never(), headers={**bearer(key), "Content-Type": "application/json"}
        )
    assert answer.status_code == 504


# --- local mode -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/v1/tactics", "/metrics", "/livez", "/docs"])
async def test_local_mode_answers_this_machine_only(settings, redis_url, path):
    local = settings.model_copy(update={"auth": "local"})
    async with client(local) as http:
        assert (await http.get(path)).status_code == 200
    for host in ("203.0.113.5", "10.0.0.1", "::ffff:192.0.2.1"):
        async with client(local, host) as http:
            answer = await http.get(path)
        assert answer.status_code == 403
        assert "TURNOUT_AUTH=keys" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example:3000"}, 403), ({"Origin": "https://evil.example"}, 403), ({"Origin": "null"}, 403),
        ({"Host": "localhost.evil.example"}, 403), ({"Origin": "http://localhost:3000"}, 200),
        ({"Host": "[::1]:3000"}, 200),
        ({"Host": "127.0.0.1"}, 200), ({"Host": "["}, 403),
    ],
)  # fmt: skip
async def test_local_mode_takes_nothing_from_pages_of_others(settings, redis_url, headers, status):
    async with client(settings.model_copy(update={"auth": "local"})) as http:
        assert (await http.get("/v1/tactics", headers=headers)).status_code == status


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org", "::"])
def test_local_mode_does_not_start_where_others_reach_it(host):
    with pytest.raises(ConfigurationError, match=r"TURNOUT_HOST=127\.0\.0\.1"):
        auth_mode(Settings(auth="local", host=host))
    with pytest.raises(ConfigurationError, match=r"TURNOUT_HOST=127\.0\.0\.1"):
        auth_mode(Settings(auth="local"), *auth.bound_hosts(["serve", "serving.service:Turnout", f"--host={host}"], {}))
    with pytest.raises(ConfigurationError, match="TURNOUT_AUTH=keys"):
        auth_mode(Settings(auth="local"), *auth.bound_hosts(["serve", "x"], {"BENTOML_HOST": host}))
    assert auth_mode(Settings(auth="keys", host=host)) == "keys"


def test_without_a_word_about_it_only_the_own_stack_is_local():
    with pytest.raises(ConfigurationError, match="TURNOUT_AUTH"):
        auth_mode(Settings())
    assert auth_mode(Settings(), default="local") == "local"
    issued = Settings(oidc_issuer="https://issuer.example/", oidc_audience="turnout")
    assert auth_mode(issued, default="local") == "oidc"


@pytest.mark.parametrize(
    "given",
    [
        {"oidc_issuer": "http://issuer.example"}, {"oidc_issuer": "issuer.example"}, {"auth": "oidc"},
        {"auth": "oidc", "oidc_issuer": "https://issuer.example"},
    ],
)  # fmt: skip
def test_an_issuer_that_cannot_be_trusted_is_refused(given):
    with pytest.raises(ValueError, match="TURNOUT_OIDC"):
        Settings(**given)


async def test_a_service_about_which_nothing_is_said_lets_nobody_in(settings, redis_url):
    async with client(settings) as http:
        assert (await http.get("/v1/tactics")).status_code == 503
        assert (await http.get("/livez")).status_code == 200
