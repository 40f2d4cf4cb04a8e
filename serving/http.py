"""The HTTP API (v1): FastAPI routes over :class:`serving.state.Planning`.

Bodies are read by hand, not by FastAPI: so that a body of any kind (no JSON, too large, too deep, wrong in ten places)
gets one problem document that names every fault in the asked language, and never a stack trace.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any, Final
from uuid import UUID, uuid4

import structlog
from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field
from pydantic_core import from_json
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import metrics
from serving.auth import ACCESS, OPEN, TEXTS, Guard, check_routes, principal_of
from serving.briefs import BriefRejectedError, read_brief
from serving.limits import CutOffError, OverloadedError, TooLargeError, is_deeper, read_body
from serving.problems import (
    MEDIA_TYPE,
    FieldError,
    Language,
    ProblemDetails,
    field_error,
    from_input_error,
    invalid_fields,
    language_of,
    problem,
    request_id_of,
)
from serving.state import Planning
from serving.store import KeyConflictError, StoredPlan
from serving.webhooks import add_webhooks
from turnout.brief import Brief
from turnout.errors import InputError, NotReadyError
from turnout.identity_roles import Permission
from turnout.plan import ModelVersion, Plan
from turnout.settings import Settings

log = structlog.get_logger("turnout.http")

VERSION: Final = version("turnout")
VERSION_HEADER: Final = "Turnout-Version"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,200}")

_TEXTS: Final[dict[str, dict[Language, str]]] = {
    "json": {"ja": "本文をJSONとして読めません: {why}", "en": "The body cannot be read as JSON: {why}"},
    "not_object": {"ja": "本文はJSONオブジェクトにしてください", "en": "The body must be a JSON object"},
    "too_large": {"ja": "本文は{most:,}バイトまでです", "en": "A body may have {most:,} bytes at most"},
    "too_deep": TEXTS["too_deep"],
    "cut_off": TEXTS["cut_off"],
    "media_type": {
        "ja": "Content-Type は application/json にしてください",
        "en": "Send Content-Type: application/json",
    },
    "key": {
        "ja": "Idempotency-Key は空白を含まない1〜200文字のASCIIにしてください",
        "en": "An Idempotency-Key has 1 to 200 visible ASCII characters",
    },
    "key_taken": {
        "ja": "このIdempotency-Keyは別の依頼に使われています",
        "en": "This Idempotency-Key was used for another brief",
    },
    "no_plan": {"ja": "この番号の計画はありません", "en": "There is no plan with this id"},
    "no_path": {"ja": "このアドレスはありません。/docs を見てください", "en": "There is nothing here; see /docs"},
    "method": {"ja": "使えるメソッド: {allowed}", "en": "Allowed: {allowed}"},
    "overloaded": {"ja": "少し待ってから送り直してください", "en": "Send it again in a moment"},
    "timeout": {"ja": "{seconds:g}秒以内に終わりませんでした", "en": "It took longer than {seconds:g} s"},
    "not_ready": {"ja": "まだ計画を作れません: {why}", "en": "Plans cannot be made yet: {why}"},
    "part_down": {"ja": "{part}に接続できません", "en": "{part} does not answer"},
    "internal": {
        "ja": "予期しないエラーです。番号 {request_id} をお知らせください",
        "en": "Something unexpected happened; quote the id {request_id}",
    },
}


def _say(key: str, language: Language, **values: object) -> str:
    return _TEXTS[key][language].format(**values)


# --- schemas of the answers that are not plans -------------------------------------------------------------------
class TacticInfo(BaseModel):
    """One tactic of the catalogue."""

    id: str
    name: str = Field(description="In the language of Accept-Language.")
    name_en: str
    name_ja: str
    channel: str
    is_paid: bool
    platform: str | None
    asset: str | None = Field(description="The field of the brief's assets that sizes it.")
    minimum_spend_jpy: float | None
    maximum_spend_jpy: float | None
    lead_time_days: int
    setup_hours: float
    sources: list[str] = Field(description="Where its benchmarks come from.")


class ModelInfo(ModelVersion):
    """A model in use."""

    loaded_at: str


class Health(BaseModel):
    """What works. Every part is ``ok`` or says why it does not."""

    status: str
    parts: dict[str, str] = {}


# --- reading a body ------------------------------------------------------------------------------------------------
class _RefusedError(Exception):
    """A request that ends here, with its answer."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


async def _body(request: Request, settings: Settings, language: Language) -> bytes:
    media_type = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if not (
        media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))
    ):
        raise _RefusedError(_problem(request, "unsupported-media-type", _say("media_type", language), language))
    most = settings.max_body_bytes
    too_large = _problem(request, "too-large", _say("too_large", language, most=most), language)
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > most:
        raise _RefusedError(too_large)
    try:
        return await read_body(request.receive, most, settings.request_timeout_seconds)
    except TooLargeError as error:
        raise _RefusedError(too_large) from error
    except CutOffError as error:
        raise _RefusedError(_problem(request, "bad-request", _say("cut_off", language), language)) from error


def _parsed(request: Request, body: bytes, settings: Settings, language: Language) -> dict[str, Any]:
    if is_deeper(body, settings.max_json_depth):
        detail = _say("too_deep", language, most=settings.max_json_depth)
        raise _RefusedError(_problem(request, "malformed-json", detail, language))
    try:
        data = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        detail = _say("json", language, why=str(error)[:200])
        raise _RefusedError(_problem(request, "malformed-json", detail, language)) from error
    if not isinstance(data, dict):
        not_an_object = field_error([], "not_an_object", _say("not_object", language))
        raise _RefusedError(_invalid(request, [not_an_object], language))
    return data


def _problem(request: Request, kind: str, detail: str, language: Language, **options: Any) -> JSONResponse:
    return problem(kind, detail, language, request_id=request_id_of(request.scope), **options)


def _invalid(request: Request, errors: list[FieldError], language: Language) -> JSONResponse:
    return invalid_fields(errors, language, request_id=request_id_of(request.scope))


# --- the application -----------------------------------------------------------------------------------------------
_PROBLEM_ANSWER: Final = {"model": ProblemDetails, "content": {MEDIA_TYPE: {}}}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ProblemDetails, "description": _MEANINGS[status]} for status in statuses}


_MEANINGS: Final = {
    400: "Not JSON, or a malformed header.",
    401: "Who asks is unknown: no token or key, or none that counts.",
    403: "The caller has no such permission, or local mode is asked from elsewhere.",
    404: "There is no such thing.",
    409: "The idempotency key was used for another brief.",
    413: "The body is too large.",
    415: "Not application/json.",
    422: "Well-formed JSON that is no brief one can plan; `errors` names every wrong field.",
    429: "Too many requests of this user, or too many plans at once; see Retry-After.",
    503: "A part is missing or does not answer; see Retry-After and /readyz.",
    504: "The deadline passed.",
}


def create_app(planning: Planning) -> FastAPI:
    """The application over one worker's state."""
    app = FastAPI(title="Turnout", version=VERSION, docs_url=None, redoc_url=None, openapi_url=None)

    @app.post(
        "/v1/plans",
        status_code=201,
        response_model=Plan,
        summary="Make a plan",
        responses={
            200: {"model": Plan, "description": "The plan made earlier under the same Idempotency-Key."},
            **_problems(400, 409, 413, 415, 422, 429, 503, 504),
        },
        openapi_extra=_BRIEF_BODY,
        tags=["plans"],
    )
    async def create_plan(request: Request) -> Response:
        """The best portfolio for a brief. Messages are in the brief's language, else in that of Accept-Language."""
        language = language_of(request.headers.get("accept-language"))
        body = await _body(request, planning.settings, language)
        data = _parsed(request, body, planning.settings, language)
        language = language_of(request.headers.get("accept-language"), data)
        key = request.headers.get("idempotency-key")
        if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
            return _problem(request, "bad-request", _say("key", language), language)
        return await _answer(request, planning, data, key, language)

    @app.get(
        "/v1/plans/{plan_id}", response_model=Plan, summary="A plan made earlier", responses=_problems(404, 503, 504),
        tags=["plans"],
    )  # fmt: skip
    async def read_plan(plan_id: str, request: Request) -> Response:
        language = language_of(request.headers.get("accept-language"))
        try:
            stored = await _in_time(planning, planning.find(principal_of(request).organisation, UUID(plan_id)))
        except ValueError:
            stored = None
        if stored is None:
            return _problem(request, "not-found", _say("no_plan", language), language)
        return JSONResponse(stored.answer)

    @app.get("/v1/tactics", summary="The catalogue of tactics", tags=["catalogue"])
    async def list_tactics(request: Request) -> list[TacticInfo]:
        language = language_of(request.headers.get("accept-language"))
        return [
            TacticInfo(
                id=t.id, name=t.name(language), name_en=t.name_en, name_ja=t.name_ja, channel=t.channel,
                is_paid=t.is_paid, platform=t.platform, asset=t.asset, minimum_spend_jpy=t.cost.minimum_spend,
                maximum_spend_jpy=t.cost.maximum_spend, lead_time_days=t.lead_time_days,
                setup_hours=t.hours.setup_hours, sources=list(dict.fromkeys(p.source for p in t.priors)),
            )
            for t in planning.catalogue
        ]  # fmt: skip

    @app.get("/v1/models", response_model=list[ModelInfo], summary="The models in use", responses=_problems(503),
             tags=["models"])  # fmt: skip
    async def list_models(request: Request) -> Response:
        loaded = planning.loaded
        if loaded is None:
            raise NotReadyError(planning.why_not.get("model", "no model"))
        return JSONResponse([
            {**version.model_dump(mode="json"), "loaded_at": loaded.since.isoformat()}
            for version in loaded.models
        ])  # fmt: skip

    @app.get("/livez", summary="Whether the process is alive", tags=["health"])
    async def livez() -> Health:
        return Health(status="alive")

    @app.get("/readyz", response_model=Health, summary="Whether plans can be made, part by part",
             responses={503: {"model": Health, "description": "At least one part does not work."}},
             tags=["health"])  # fmt: skip
    async def readyz() -> Response:
        parts = await planning.parts()
        ready = all(state == "ok" for state in parts.values())
        health = Health(status="ready" if ready else "not ready", parts=parts)
        return JSONResponse(health.model_dump(), status_code=200 if ready else 503)

    @app.get("/metrics", include_in_schema=False)
    async def metrics_page() -> Response:
        figures = await planning.monitored()
        content, media_type = await asyncio.to_thread(metrics.page, figures)
        return Response(content, headers={"Content-Type": media_type})

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return JSONResponse(_openapi(app))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        # BentoML ships Swagger UI: no page of ours loads anything from elsewhere.
        return get_swagger_ui_html(
            openapi_url="/openapi.json", title="Turnout API",
            swagger_js_url="/static_content/swagger-ui-bundle.js",
            swagger_css_url="/static_content/swagger-ui.css",
            swagger_favicon_url="/static_content/favicon-light-32x32.png",
        )  # fmt: skip

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return RedirectResponse("/docs")

    add_webhooks(app, planning)
    _add_error_handlers(app, planning)
    check_routes(_methods_and_routes(app))
    app.add_middleware(Guard, access=planning.access, route_of=partial(_route_of, app))
    app.add_middleware(RequestScope, app=app)
    return app


async def _in_time(planning: Planning, work: Awaitable[StoredPlan | None]) -> StoredPlan | None:
    async with asyncio.timeout(planning.settings.request_timeout_seconds):
        return await work


async def _answer(
    request: Request, planning: Planning, data: dict[str, Any], key: str | None, language: Language
) -> Response:
    try:
        brief = read_brief(
            data, now=datetime.now(UTC), catalogue=planning.catalogue, rates=planning.rates, language=language
        )
    except BriefRejectedError as rejected:
        metrics.PLANS.labels("refused").inc()
        return _invalid(request, rejected.errors, language)
    organisation = principal_of(request).organisation
    stored = await _in_time(planning, planning.plan(brief, organisation=organisation, idempotency_key=key))
    assert stored is not None
    metrics.PLANS.labels("replayed" if stored.replayed else "made").inc()
    headers = {"Location": f"/v1/plans/{stored.answer['plan_id']}", "Content-Language": language}
    if stored.replayed:
        return JSONResponse(stored.answer, headers={**headers, "Idempotent-Replayed": "true"})
    return JSONResponse(stored.answer, status_code=201, headers=headers)


def _add_error_handlers(app: FastAPI, planning: Planning) -> None:
    """Every exception a request can end with, as a problem document."""

    def refused(request: Request, language: Language, error: _RefusedError) -> Response:
        return error.response

    def http(request: Request, language: Language, error: HTTPException) -> Response:
        if error.status_code == 405:
            allowed = ", ".join(_allowed_methods(app, request.scope))
            detail = _say("method", language, allowed=allowed)
            return _problem(request, "method-not-allowed", detail, language, headers={"Allow": allowed})
        if error.status_code == 404:
            return _problem(request, "not-found", _say("no_path", language), language)
        return _problem(request, "bad-request", str(error.detail), language)

    def unplannable(request: Request, language: Language, error: InputError) -> Response:
        metrics.PLANS.labels("refused").inc()
        return _invalid(request, from_input_error(error), language)

    def conflict(request: Request, language: Language, _: KeyConflictError) -> Response:
        return _problem(request, "conflict", _say("key_taken", language), language)

    def not_ready(request: Request, language: Language, error: NotReadyError) -> Response:
        metrics.PLANS.labels("not_ready").inc()
        detail = _say("not_ready", language, why=str(error))
        return _problem(request, "not-ready", detail, language, headers={"Retry-After": "15"})

    def part_down(request: Request, language: Language, error: Exception) -> Response:
        metrics.PLANS.labels("not_ready").inc()
        part = "Redis" if isinstance(error, RedisError) else "PostgreSQL"
        log.warning("part does not answer", part=part, error=type(error).__name__)
        return _problem(
            request, "not-ready", _say("part_down", language, part=part), language, headers={"Retry-After": "5"}
        )

    def overloaded(request: Request, language: Language, _: OverloadedError) -> Response:
        metrics.PLANS.labels("overloaded").inc()
        return _problem(request, "overloaded", _say("overloaded", language), language, headers={"Retry-After": "1"})

    def timed_out(request: Request, language: Language, _: TimeoutError) -> Response:
        metrics.PLANS.labels("timeout").inc()
        seconds = planning.settings.request_timeout_seconds
        return _problem(request, "timeout", _say("timeout", language, seconds=seconds), language)

    def add(kind: type[Exception], handler: Callable[[Request, Language, Any], Response]) -> None:
        async def handle(request: Request, error: Exception) -> Response:
            return handler(request, language_of(request.headers.get("accept-language")), error)

        app.add_exception_handler(kind, handle)

    add(_RefusedError, refused)
    add(HTTPException, http)
    add(InputError, unplannable)
    add(KeyConflictError, conflict)
    add(NotReadyError, not_ready)
    add(RedisError, part_down)
    add(SQLAlchemyError, part_down)
    add(OverloadedError, overloaded)
    add(TimeoutError, timed_out)


def _allowed_methods(app: FastAPI, scope: Scope) -> list[str]:
    methods: set[str] = set()
    for route in app.routes:
        if route.matches(scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods)


# --- around every request ------------------------------------------------------------------------------------------
class RequestScope:
    """Gives every request an id, a log line, metrics by route, and an answer also when everything else fails."""

    def __init__(self, inner: ASGIApp, app: FastAPI) -> None:
        self.inner = inner
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        request = Request(scope)
        given = request.headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        scope["turnout_request_id"] = request_id
        status = 0
        started = time.perf_counter()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                    (VERSION_HEADER.lower().encode(), VERSION.encode()),
                ]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.inner(scope, receive, answer)
            except Exception:
                log.exception("request failed")
                if status:  # half an answer is out already; the server will cut the connection
                    raise
                language = language_of(request.headers.get("accept-language"))
                detail = _say("internal", language, request_id=request_id)
                await problem("internal", detail, language, request_id=request_id)(scope, receive, answer)
            finally:
                self._record(scope, status or 499, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route_of(self.app, scope)
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        metrics.REQUESTS.labels(route, method, str(status)).inc()
        metrics.REQUEST_SECONDS.labels(route).observe(seconds)
        if route not in _QUIET:
            principal = scope.get("turnout_principal")
            log.info(
                "request", method=method, route=route, status=status, milliseconds=round(seconds * 1000, 1),
                caller=principal.caller if principal else None,
            )  # fmt: skip


_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_QUIET: Final = frozenset({"/livez", "/readyz", "/metrics"})


def _route_of(app: FastAPI, scope: Scope) -> str:
    """The template of the route that answers, e.g. ``/v1/plans/{plan_id}``; one name for all that is not there."""
    known = scope.get("turnout_route")
    if known is None:
        matching = (getattr(r, "path", "other") for r in app.routes if r.matches(scope)[0] is not Match.NONE)
        known = scope["turnout_route"] = str(next(matching, "other"))
    return str(known)


def _methods_and_routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    for route in app.routes:
        for method in getattr(route, "methods", None) or ():
            if method != "HEAD":
                yield method, str(getattr(route, "path", ""))


# --- OpenAPI -------------------------------------------------------------------------------------------------------
_BRIEF_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Brief"}}},
    },
    "parameters": [
        {
            "name": "Idempotency-Key", "in": "header", "required": False,
            "description": "Sending the same brief again under the same key gives the same plan, made once.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[\\x21-\\x7e]+$"},
        },
        {
            "name": "Accept-Language", "in": "header", "required": False, "schema": {"type": "string"},
            "description": "ja or en; the brief's own language wins.",
        },
    ],
}  # fmt: skip


def _add_guard(operation: dict[str, Any], needed: Permission | None) -> None:
    """What :class:`serving.auth.Guard` does before a route, in the route's own description."""
    answers = operation["responses"]
    for status in (401, 403, 429, 503) if needed is not OPEN else (403,):
        reference = {"$ref": "#/components/schemas/ProblemDetails"}
        answers.setdefault(
            str(status), {"description": _MEANINGS[status], "content": {"application/json": {"schema": reference}}}
        )
    if needed is None:
        return
    operation["security"] = [{"bearer": []}, {"key": []}]
    operation["x-permission"] = needed.value
    fields = {
        "RateLimit-Limit": "Requests a user may make in the window.",
        "RateLimit-Remaining": "How many of them are left.",
        "RateLimit-Reset": "Seconds until the oldest one leaves the window.",
    }
    for described in answers.values():
        described.setdefault("headers", {}).update({
            name: {"description": text, "schema": {"type": "integer"}} for name, text in fields.items()
        })  # fmt: skip


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, routes=app.routes,
            description="Plans how to fill an event. Errors are problem details (RFC 9457).",
        )  # fmt: skip
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        brief = Brief.model_json_schema(ref_template="#/components/schemas/{model}")
        definitions = brief.pop("$defs", {})
        for name, definition in {**definitions, "Brief": brief}.items():
            components.setdefault(name, definition)
        # FastAPI's own validation never answers: bodies and ids are read by hand.
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                answers = operation["responses"]
                if "422" in answers and "HTTPValidationError" in str(answers["422"]):
                    del answers["422"]
                _add_guard(operation, ACCESS[method.upper(), path])
                for status, described in answers.items():
                    if int(status) >= 400 and "ProblemDetails" in str(described):
                        described["content"] = {MEDIA_TYPE: next(iter(described["content"].values()))}
        schema["components"]["securitySchemes"] = {
            "bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token of the identity provider, or an API key.",
            },
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
        }
        for unused in ("HTTPValidationError", "ValidationError"):
            components.pop(unused, None)
        app.openapi_schema = schema
    return app.openapi_schema
