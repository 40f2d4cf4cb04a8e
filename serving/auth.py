"""Who asks, and whether they may: in front of every route, also BentoML's own.

:data:`ACCESS` is the table of routes and what each wants. A route that is not in it is a fault found at start, not a
hole found later. Three modes (``TURNOUT_AUTH``):

``local``
    Nobody logs in, and only this machine is answered: the service refuses to start on another address, a request from
    elsewhere is refused, and so is one that a web page sends (foreign ``Host`` or ``Origin``), for a browser on this
    machine is no guard against pages from elsewhere.
``keys``
    API keys (``turnout keys``), as ``Authorization: Bearer …`` or ``X-API-Key: …``.
``oidc``
    Tokens of the issuer in ``TURNOUT_OIDC_ISSUER``, and API keys beside them.

What a request costs here: a look into a table for who asks, and one round trip to Redis for the limit.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Final
from urllib.parse import urlsplit

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import metrics
from serving.auth_keys import KeyRing
from serving.auth_oidc import Issuer
from serving.auth_types import DeniedError, Principal, UnavailableError
from serving.limits import CutOffError, Limiter, TooLargeError, Verdict, is_deeper, read_body
from serving.problems import Language, language_of, problem, request_id_of
from turnout.identity_roles import Permission, auth_mode
from turnout.settings import Settings, is_loopback

log = structlog.get_logger("turnout.auth")

#: Open to everybody: says nothing about anybody's data, or proves itself otherwise.
OPEN: Final = None
#: What a route wants; roles and their permissions are in :mod:`turnout.identity_roles`.
ACCESS: Final[dict[tuple[str, str], Permission | None]] = {
    ("POST", "/v1/plans"): Permission.make_plans,
    ("GET", "/v1/plans/{plan_id}"): Permission.read_plans,
    ("GET", "/v1/tactics"): Permission.read_catalogue,
    ("GET", "/v1/models"): Permission.read_models,
    ("POST", "/bento/plan"): Permission.make_plans,
    ("GET", "/metrics"): Permission.read_metrics,  # unless TURNOUT_METRICS_OPEN
    # probes of whoever runs the service: which part works, nothing else
    ("GET", "/livez"): OPEN,
    ("GET", "/readyz"): OPEN,
    # what the API looks like, which is public with the code
    ("GET", "/"): OPEN,
    ("GET", "/docs"): OPEN,
    ("GET", "/openapi.json"): OPEN,
    # signed by SendGrid over the very bytes
    ("POST", "/v1/webhooks/sendgrid"): OPEN,
    ("POST", "/v1/webhooks/sendgrid/{account}"): OPEN,
}
#: Routes under these belong to BentoML; all of them want what its one endpoint wants.
NATIVE: Final = "/bento/"
_NATIVE_ROUTE: Final = "/bento/plan"
_WEBHOOKS: Final = "/v1/webhooks/"

#: The caller of the request at hand, for code that BentoML calls without the request.
caller: ContextVar[Principal | None] = ContextVar("caller", default=None)

TEXTS: Final[dict[str, dict[Language, str]]] = {
    "missing": {
        "ja": "Authorization: Bearer <トークンまたはAPIキー> か X-API-Key ヘッダーが必要です",
        "en": "Send Authorization: Bearer <token or API key>, or X-API-Key: <key>",
    },
    "two": {"ja": "認証情報は一つだけ送ってください", "en": "Send one credential, not two"},
    "scheme": {"ja": "Authorization は Bearer 方式にしてください", "en": "Use the scheme Bearer in Authorization"},
    "key": {
        "ja": "このAPIキーは存在しないか、失効または期限切れです",
        "en": "This API key is unknown, revoked or expired",
    },
    "keys_only": {
        "ja": "このサービスはAPIキーだけを受け付けます(turnout keys create で作成)",
        "en": "This service takes API keys only (made by turnout keys create)",
    },
    "malformed": {"ja": "トークンの形式が正しくありません", "en": "The token is malformed"},
    "algorithm": {
        "ja": "トークンの署名方式は RS256 か ES256 でなければなりません",
        "en": "The token must be signed with RS256 or ES256",
    },
    "unknown_key": {
        "ja": "トークンの署名鍵を発行者が公開していません",
        "en": "The issuer publishes no such key as the token names",
    },
    "signature": {"ja": "トークンの署名が一致しません", "en": "The token's signature does not match"},
    "expired": {"ja": "トークンの有効期限が切れています", "en": "The token has expired"},
    "not_yet": {"ja": "トークンはまだ有効ではありません", "en": "The token is not valid yet"},
    "audience": {
        "ja": "トークンはこのサービス宛てではありません(aud)",
        "en": "The token is not for this service (aud)",
    },
    "issuer": {"ja": "トークンの発行者が違います(iss)", "en": "The token is of another issuer (iss)"},
    "incomplete": {
        "ja": "トークンに必要な項目(exp・iss・aud・sub)がありません",
        "en": "The token lacks a claim that it needs (exp, iss, aud, sub)",
    },
    "organisation": {
        "ja": "トークンの組織がここにはありません",
        "en": "The token names no organisation that is known here",
    },
    "provider": {
        "ja": "認証プロバイダーが応答しません",
        "en": "The identity provider does not answer",
    },
    "closed": {
        "ja": "認証の方式が設定されていません(TURNOUT_AUTH)",
        "en": "Who may use the service is not set (TURNOUT_AUTH)",
    },
    "keys": {"ja": "APIキーを今は確認できません", "en": "API keys cannot be checked now"},
    "permission": {
        "ja": "この操作には権限 {permission} が必要です",
        "en": "This takes the permission {permission}, which the caller does not have",
    },
    "elsewhere": {
        "ja": "ローカルモード(TURNOUT_AUTH=local)はこのマシンからだけ使えます。他から使うには TURNOUT_AUTH=keys か oidc"
        " を設定してください",
        "en": "Local mode (TURNOUT_AUTH=local) answers this machine only; set TURNOUT_AUTH=keys or oidc for others",
    },
    "page": {
        "ja": "ローカルモードでは他のサイトのページからの要求を受け付けません",
        "en": "In local mode no request is taken from pages of other sites",
    },
    "rate": {
        "ja": "1分あたり{limit:,}件までです",
        "en": "{limit:,} requests a minute are allowed",
    },
    "too_large": {"ja": "本文は{most:,}バイトまでです", "en": "A body may have {most:,} bytes at most"},
    "too_deep": {
        "ja": "JSONの入れ子は{most}段までです",
        "en": "JSON may be nested {most} levels deep at most",
    },
    "slow": {"ja": "本文が{seconds:g}秒以内に届きませんでした", "en": "The body did not come within {seconds:g} s"},
    "cut_off": {"ja": "本文が途中で切れました", "en": "The body was cut off"},
}  # fmt: skip


def mode_of(settings: Settings) -> str:
    """``local``, ``keys`` or ``oidc``: for a service that is about to start.

    Raises:
        ConfigurationError: no mode is set, or local mode on an address that others reach.
    """
    return auth_mode(settings, *bound_hosts())


def is_served(arguments: Sequence[str] | None = None) -> bool:
    """Whether this process is ``bentoml serve`` itself, before its workers."""
    return "serve" in (sys.argv[1:] if arguments is None else arguments)[:3]


def bound_hosts(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The address that ``bentoml serve`` was told to listen on; empty in its workers, which inherit the socket."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not is_served(given):
        return []
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--host", default=environment.get("BENTOML_HOST"))
    host = parser.parse_known_args(given)[0].host
    return [host] if host else []


class Access:
    """One worker's identity and rate limit."""

    def __init__(self, settings: Settings, engine: Callable[[], AsyncEngine]) -> None:
        self.settings = settings
        # built for looking at, say for its OpenAPI: then nobody is let in
        self.mode = settings.auth or "closed"
        self.keys = KeyRing(settings, engine)
        self.issuer = Issuer(settings) if self.mode == "oidc" else None
        self.limiter = Limiter(settings)
        self._local = Principal("local", settings.organisation, frozenset(Permission))

    async def close(self) -> None:
        await self.keys.close()
        if self.issuer is not None:
            await self.issuer.close()
        await self.limiter.close()

    async def admit(self, request: Request) -> tuple[Principal, Verdict]:
        """Who asks, and what the limit says of it.

        Raises:
            DeniedError: nobody known.
            UnavailableError: it cannot be found out now.
        """
        if self.mode == "closed":
            raise UnavailableError("closed")
        if self.mode == "local":
            return self._local, await self.limiter.hit(self._local.organisation, self._local.subject)
        presented = _presented(request)
        if not presented.startswith("turnout_"):
            if self.issuer is None:
                raise DeniedError("keys_only")
            principal = await self.issuer.verify(presented)
            return principal, await self.limiter.hit(principal.organisation, principal.subject)
        principal = await self.keys.verify(presented)
        verdict = await self.limiter.hit(principal.organisation, principal.subject)
        return await self.keys.confirm(presented, verdict.mark), verdict

    def needed(self, method: str, route: str) -> Permission | None:
        """What a route wants of its caller."""
        if route == "/metrics" and self.settings.metrics_open:
            return OPEN
        return ACCESS[method, route]


def _presented(request: Request) -> str:
    """The one credential of a request."""
    header, key = request.headers.getlist("authorization"), request.headers.getlist("x-api-key")
    if len(header) + len(key) > 1:
        raise DeniedError("two")
    if key:
        return key[0].strip()
    if not header:
        raise DeniedError("missing")
    scheme, _, credential = header[0].partition(" ")
    if scheme.lower() != "bearer":
        raise DeniedError("scheme")
    if not credential.strip():
        raise DeniedError("missing")
    return credential.strip()


class Guard:
    """Lets a request pass to ``inner``, or answers it."""

    def __init__(self, inner: ASGIApp, access: Access, route_of: Callable[[Scope], str]) -> None:
        self.inner, self.access, self.route_of = inner, access, route_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        request = Request(scope)
        native = scope["path"].startswith(NATIVE)
        refusal = self._from_elsewhere(request)
        if refusal is not None:
            metrics.AUTHENTICATIONS.labels(self.access.mode, "elsewhere").inc()
            await _answer(request, "forbidden", refusal)(scope, receive, send)
            return
        route = _NATIVE_ROUTE if native else self.route_of(scope)
        method = "POST" if native else scope["method"]
        if (method, route) not in ACCESS:
            await self.inner(scope, receive, send)  # nothing is there: 404 or 405
            return
        needed = self.access.needed(method, route)
        if needed is OPEN:
            await self.inner(scope, receive, send)
            return
        found = await self._admitted(request, needed)
        if isinstance(found, Response):
            await found(scope, receive, send)
            return
        principal, verdict = found
        scope["turnout_principal"] = principal
        fields = [(name.lower().encode(), value.encode()) for name, value in verdict.headers.items()]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *fields]
            await send(message)

        token = caller.set(principal)
        try:
            if native:
                await self._native(request, receive, answer)
            else:
                await self.inner(scope, receive, answer)
        finally:
            caller.reset(token)

    async def _admitted(self, request: Request, needed: Permission) -> tuple[Principal, Verdict] | Response:
        mode = self.access.mode
        try:
            principal, verdict = await self.access.admit(request)
        except DeniedError as denied:
            metrics.AUTHENTICATIONS.labels(mode, denied.reason).inc()
            log.info("not let in", reason=denied.reason)
            # RFC 6750: no error code where nothing was sent
            challenge = 'Bearer realm="turnout"' + ("" if denied.reason == "missing" else ', error="invalid_token"')
            return _answer(request, "unauthenticated", denied.reason, headers={"WWW-Authenticate": challenge})
        except UnavailableError as missing:
            metrics.AUTHENTICATIONS.labels(mode, missing.reason).inc()
            return _answer(request, "not-ready", missing.reason, headers={"Retry-After": "5"})
        request.scope["turnout_principal"] = principal
        if not verdict.allowed:
            return _answer(request, "rate-limited", "rate", headers=verdict.headers, limit=verdict.limit)
        if needed not in principal.permissions:
            metrics.AUTHENTICATIONS.labels(mode, "permission").inc()
            return _answer(request, "forbidden", "permission", headers=verdict.headers, permission=needed.value)
        metrics.AUTHENTICATIONS.labels(mode, "ok").inc()
        return principal, verdict

    def _from_elsewhere(self, request: Request) -> str | None:
        """Why local mode does not answer a request; ``None`` where it does."""
        if self.access.mode != "local" or request.url.path.startswith(_WEBHOOKS):
            return None
        if request.client is not None and not is_loopback(request.client.host):
            return "elsewhere"
        named = [f"//{host}" for host in request.headers.getlist("host")] + request.headers.getlist("origin")
        return None if all(_is_here(address, self.access.settings.host) for address in named) else "page"

    async def _native(self, request: Request, receive: Receive, send: Send) -> None:
        """BentoML reads bodies of any size and depth: so its bodies are read here, and handed on."""
        settings = self.access.settings
        refusal: Response
        try:
            body = await read_body(receive, settings.max_body_bytes, settings.request_timeout_seconds)
        except TooLargeError:
            refusal = _answer(request, "too-large", "too_large", most=settings.max_body_bytes)
        except TimeoutError:
            refusal = _answer(request, "timeout", "slow", seconds=settings.request_timeout_seconds)
        except CutOffError:
            refusal = _answer(request, "bad-request", "cut_off")
        else:
            if not is_deeper(body, settings.max_json_depth):
                await self.inner(request.scope, _replayed(body, receive), send)
                return
            refusal = _answer(request, "malformed-json", "too_deep", most=settings.max_json_depth)
        await refusal(request.scope, receive, send)


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _is_here(address: str, own: str) -> bool:
    try:
        host = urlsplit(address).hostname
    except ValueError:
        return False
    return host is not None and (is_loopback(host) or host == own.lower())


def _answer(
    request: Request, kind: str, text: str, *, headers: Mapping[str, str] | None = None, **values: object
) -> Response:
    language = language_of(request.headers.get("accept-language"))
    return problem(
        kind, TEXTS[text][language].format(**values), language, request_id=request_id_of(request.scope), headers=headers
    )


def principal_of(request: Request) -> Principal:
    """The caller of a guarded route."""
    found = request.scope["turnout_principal"]
    assert isinstance(found, Principal)
    return found


def check_routes(routes: Iterable[tuple[str, str]]) -> None:
    """Every route must be in :data:`ACCESS`.

    Raises:
        RuntimeError: one is not, so nobody has decided who may use it.
    """
    unknown = sorted(route for route in routes if route not in ACCESS)
    if unknown:
        raise RuntimeError(f"serving.auth.ACCESS does not say who may use {unknown}")
