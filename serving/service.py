"""The BentoML service: ``bentoml serve serving.service:Turnout``.

BentoML runs the workers, their life and its own clients' API; the HTTP API of :mod:`serving.http` is mounted beside it.
:class:`Front` sends every request there except those under :data:`NATIVE`, because BentoML's own routes would answer
``/readyz`` without naming the part that is missing, and unknown paths without a problem document. BentoML's own metrics
and access log are off: they label by raw path, so every plan's id would become a time series.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

import bentoml
import structlog
from bentoml.exceptions import BentoMLException, ServiceUnavailable, UnprocessableEntity
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.auth import NATIVE as GUARDED
from serving.auth import Guard, caller, is_served, mode_of
from serving.http import RequestScope, create_app
from serving.limits import OverloadedError
from serving.state import Planning
from turnout.brief import Brief
from turnout.errors import ConfigurationError, InputError, NotReadyError
from turnout.logs import configure
from turnout.plan import Plan
from turnout.settings import load_settings

log = structlog.get_logger(__name__)

#: Paths that BentoML answers itself.
NATIVE: Final = ("/bento/", "/static_content/", "/schema.json")

_settings = load_settings()
if is_served():
    try:  # before any worker: they would be started again and again
        mode_of(_settings)
    except ConfigurationError as error:
        raise SystemExit(f"error: {error}") from error
_planning = Planning(_settings)
_app = create_app(_planning)


class Front:
    """Sends requests to the HTTP API, or on to BentoML: to its endpoint only past the guard."""

    def __init__(self, app: ASGIApp) -> None:
        self.native = app
        self.guarded = RequestScope(Guard(app, _planning.access, route_of=lambda _: "other"), _app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(GUARDED):
            await self.guarded(scope, receive, send)
        elif scope["type"] != "http" or scope["path"].startswith(NATIVE):
            await self.native(scope, receive, send)
        else:
            await _app(scope, receive, send)


@contextmanager
def _in_bentomls_words() -> Iterator[None]:
    """What :mod:`serving.http` answers with a problem document, in the errors that BentoML's clients know."""
    try:
        yield
    except InputError as error:
        raise UnprocessableEntity(str(error)) from error
    except OverloadedError as error:
        raise BentoMLException("too many plans at once", error_code=HTTPStatus.TOO_MANY_REQUESTS) from error
    except TimeoutError as error:
        raise BentoMLException("the deadline passed", error_code=HTTPStatus.GATEWAY_TIMEOUT) from error
    except (NotReadyError, RedisError, SQLAlchemyError) as error:
        log.warning("plan not made", error=type(error).__name__)
        raise ServiceUnavailable("plans cannot be made now; see /readyz") from error


@bentoml.service(
    name="turnout",
    workers=_settings.service_workers,
    # Requests have a deadline of their own, which answers with a problem document; this is the last resort.
    traffic={"timeout": _settings.request_timeout_seconds + 5},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Turnout:
    """Plans how to fill an event."""

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        configure("json", "INFO")
        await _planning.start()
        log.info("service started", workers=_settings.service_workers)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def stop(self) -> None:
        await _planning.close()

    @bentoml.api(route="/bento/plan")  # type: ignore[untyped-decorator]
    async def plan(self, brief: Brief, /) -> Plan:
        """A plan for BentoML's own clients: ``bentoml.SyncHTTPClient(url).plan(brief)``."""
        principal = caller.get()
        assert principal is not None, "the guard has let nobody pass"
        with _in_bentomls_words():
            async with asyncio.timeout(_settings.request_timeout_seconds):
                stored = await _planning.plan(brief, organisation=principal.organisation)
        return Plan.model_validate(stored.answer)


_service: Any = Turnout
_service.add_asgi_middleware(Front)
