"""Webhooks: what other services post to this one.

``POST /v1/webhooks/sendgrid`` takes SendGrid's signed mail events; ``…/sendgrid/{account}`` those of one of several
accounts. SendGrid posts a batch again until it gets a 2xx, so 200 is said only after the batch is committed, and what
cannot be stored now gets a 503. A batch that would not be better the next time (some events of it malformed, or all)
is taken. What is not SendGrid's is refused before it is read; nothing a request holds is ever logged or said back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any, Final
from zoneinfo import ZoneInfo

import structlog
from fastapi import FastAPI, Request
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from serving import metrics
from serving.problems import Language, ProblemDetails, language_of, problem, request_id_of
from serving.state import Planning
from serving.store import owners_engine, session
from turnout.credentials import SendGridCredentials
from turnout.errors import ConfigurationError, NotReadyError
from turnout.mail_events import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    Batch,
    NotEventsError,
    Verifier,
    is_timely,
    parse,
    store,
)
from turnout.personal import identity_salt
from turnout.settings import Settings
from turnout.warehouse.partitions import ensure_partitions, missing_months
from turnout.warehouse.tables import email_event

log = structlog.get_logger("turnout.webhooks")

#: SendGrid's batches stay below one megabyte.
MOST_BYTES: Final = 10 * 1024 * 1024
#: Requests read and checked at once, and requests stored at once: the pool is for plans as well.
AT_ONCE: Final = 16
STORED_AT_ONCE: Final = 4
#: More than this waiting are sent away at once; SendGrid comes back.
MOST_WAITING: Final = 1000
#: A month whose partition could not be made is tried again not before this; its rows are in the DEFAULT one meanwhile.
MONTHS_EVERY_SECONDS: Final = 60.0
#: The next month is made this long before its first day, so that its events find it there.
MONTHS_AHEAD_DAYS: Final = 5
#: What another transaction did to the table at that moment: a month was attached, or a deadlock was broken.
ATTEMPTS: Final = 3
_PASSING: Final = frozenset({"23514", "40001", "40P01"})
_RETRY_AFTER: Final = {"Retry-After": "30"}

_TEXTS: Final[dict[str, dict[Language, str]]] = {
    "not_configured": {
        "ja": "SendGridのイベントを受け取る設定がありません。TURNOUT_SENDGRID__WEBHOOK_PUBLIC_KEY に"
        "署名検証用の公開鍵を設定してください",
        "en": "SendGrid's events are not awaited: set TURNOUT_SENDGRID__WEBHOOK_PUBLIC_KEY to the webhook's"
        " verification key",
    },
    "no_account": {
        "ja": "このSendGridアカウントは設定されていません(TURNOUT_SENDGRID__ACCOUNTS)",
        "en": "No such SendGrid account is configured (TURNOUT_SENDGRID__ACCOUNTS)",
    },
    "which_account": {
        "ja": "複数のアカウントがあります。/v1/webhooks/sendgrid/アカウント名 に送ってください",
        "en": "There are several accounts: post to /v1/webhooks/sendgrid/ followed by the account's name",
    },
    "bad_key": {
        "ja": "署名検証用の公開鍵が読めません(TURNOUT_SENDGRID__WEBHOOK_PUBLIC_KEY)",
        "en": "The verification key cannot be read (TURNOUT_SENDGRID__WEBHOOK_PUBLIC_KEY)",
    },
    "unsigned": {"ja": "署名がありません", "en": "The request is not signed"},
    "mis_signed": {"ja": "署名が本文と一致しません", "en": "The signature does not match the body"},
    "stale": {
        "ja": "署名の時刻が許容範囲外です(TURNOUT_SENDGRID__WEBHOOK_TOLERANCE_SECONDS)",
        "en": "The signed time is out of tolerance (TURNOUT_SENDGRID__WEBHOOK_TOLERANCE_SECONDS)",
    },
    "media_type": {
        "ja": "圧縮しない application/json を送ってください",
        "en": "Send application/json without compression",
    },
    "too_large": {"ja": "本文は{most:,}バイトまでです", "en": "A body may have {most:,} bytes at most"},
    "not_events": {"ja": "本文はイベントのJSON配列にしてください", "en": "The body must be a JSON array of events"},
    "unavailable": {"ja": "今は保存できません", "en": "They cannot be stored now; post them again later"},
}  # fmt: skip


class Taken(BaseModel):
    """What became of the events of a request."""

    received: int = Field(description="Elements of the array.")
    stored: int = Field(description="Events that were new.")
    repeated: int = Field(description="Events that had been stored before, or that the request itself repeats.")
    malformed: int = Field(description="Elements that are no event, and are not stored.")
    examples: int = Field(description="SendGrid's own test events, which are not stored.")


class _RefusedError(Exception):
    """A request that ends here.

    Attributes:
        kind: of the problem, see :mod:`serving.problems`.
        text: key of what to say.
        outcome: label of the metric.
    """

    def __init__(self, kind: str, text: str, outcome: str) -> None:
        super().__init__(outcome)
        self.kind, self.text, self.outcome = kind, text, outcome


class MailEvents:
    """One worker's reception of SendGrid's events."""

    def __init__(self, planning: Planning) -> None:
        self.planning = planning
        self.settings = planning.settings
        self._reading = asyncio.Semaphore(AT_ONCE)
        self._storing = asyncio.Semaphore(STORED_AT_ONCE)
        self._waiting = 0
        self._verifiers: dict[str, Verifier] = {}
        self._salt: str | None = None
        self._months = _Months()

    async def take(self, request: Request, account: str | None) -> Taken:
        """Check, read and store one request.

        Raises:
            _RefusedError: it is not to be stored, or cannot be now.
        """
        credentials, account = self._account(account)
        verifier = self._verifier(credentials, account)
        signature, timestamp = request.headers.get(SIGNATURE_HEADER), request.headers.get(TIMESTAMP_HEADER)
        if not signature or not timestamp:
            raise _RefusedError("forbidden", "unsigned", "unsigned")
        async with self._turn():
            body = await _body(request)
            batch = await asyncio.to_thread(self._checked, body, signature, timestamp, verifier, credentials)
            stored = await self._stored(account, batch)
        self._count(account, batch, stored)
        return Taken(
            received=batch.received, stored=stored, repeated=batch.repeated + len(batch.events) - stored,
            malformed=batch.malformed.total(), examples=batch.examples,
        )  # fmt: skip

    def _account(self, account: str | None) -> tuple[SendGridCredentials, str]:
        credentials = self.settings.sendgrid
        if credentials is None or not (credentials.webhook_public_key or credentials.webhook_public_keys):
            raise _RefusedError("not-found", "not_configured", "not_configured")
        known = credentials.webhook_accounts
        if account is None:
            if len(known) > 1:
                raise _RefusedError("not-found", "which_account", "not_configured")
            account = known[0]
        elif account not in known:
            raise _RefusedError("not-found", "no_account", "not_configured")
        return credentials, account

    def _verifier(self, credentials: SendGridCredentials, account: str) -> Verifier:
        key = credentials.webhook_key_of(account)
        if not key:
            raise _RefusedError("not-found", "not_configured", "not_configured")
        if key not in self._verifiers:
            try:
                self._verifiers[key] = Verifier(key)
            except ConfigurationError as error:
                log.warning("webhook key unreadable", account=account, error=str(error))
                raise _RefusedError("unavailable", "bad_key", "unavailable") from error
        return self._verifiers[key]

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of a few at once; the others wait without their bodies being read, and not longer than a request may."""
        if self._waiting >= MOST_WAITING:
            raise _RefusedError("unavailable", "unavailable", "unavailable")
        self._waiting += 1
        try:
            async with asyncio.timeout(self.settings.request_timeout_seconds):
                async with self._reading:
                    yield
        except TimeoutError as error:
            raise _RefusedError("unavailable", "unavailable", "unavailable") from error
        finally:
            self._waiting -= 1

    def _checked(
        self, body: bytes, signature: str, timestamp: str, verifier: Verifier, credentials: SendGridCredentials
    ) -> Batch:
        now = datetime.now(UTC)
        if not verifier.is_genuine(body, signature, timestamp):
            raise _RefusedError("forbidden", "mis_signed", "mis_signed")
        if not is_timely(timestamp, now, credentials.webhook_tolerance_seconds):
            raise _RefusedError("forbidden", "stale", "stale")
        if self._salt is None:
            try:
                self._salt = identity_salt(self.settings)
            except (ConfigurationError, OSError) as error:
                log.warning("no salt to hash recipients with", error=type(error).__name__)
                raise _RefusedError("unavailable", "unavailable", "unavailable") from error
        zone = ZoneInfo(credentials.time_zone) if credentials.time_zone else self.settings.zone
        try:
            return parse(body, zone=zone, salt=self._salt, now=now)
        except NotEventsError as error:
            raise _RefusedError("bad-request", "not_events", "not_events") from error

    async def _stored(self, account: str, batch: Batch) -> int:
        """Commit the batch. Whatever keeps it from being stored is no reason to lose it."""
        if not batch.events:
            return 0
        work = partial(store, organisation=self.settings.organisation, account=account, events=batch.events)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._storing, session(self.planning.engine, self.settings.organisation) as connection:
                    stored = await connection.run_sync(work)
            except (SQLAlchemyError, OSError, NotReadyError) as error:
                if attempt < ATTEMPTS and getattr(getattr(error, "orig", None), "sqlstate", None) in _PASSING:
                    continue
                log.warning(
                    "mail events not stored", account=account, events=len(batch.events), error=type(error).__name__
                )
                raise _RefusedError("unavailable", "unavailable", "unavailable") from error
            break
        soon = (datetime.now(UTC) + timedelta(days=MONTHS_AHEAD_DAYS)).date()
        self._months.want(self.settings, batch.days | {soon})
        return stored

    def _count(self, account: str, batch: Batch, stored: int) -> None:
        repeated = batch.repeated + len(batch.events) - stored
        for outcome, count in (
            ("stored", stored), ("repeated", repeated), ("malformed", batch.malformed.total()),
            ("example", batch.examples),
        ):  # fmt: skip
            metrics.MAIL_EVENTS.labels(outcome).inc(count)
        if batch.malformed:
            log.warning("mail events malformed", account=account, fields=dict(batch.malformed), of=batch.received)


class _Months:
    """Makes partitions for months that events came for, in the background: no request waits for a lock on a table."""

    def __init__(self) -> None:
        self._made: set[date] = set()
        self._next_try = 0.0
        self._task: asyncio.Task[None] | None = None

    def want(self, settings: Settings, days: set[date]) -> None:
        missing = {day.replace(day=1) for day in days} - self._made
        if missing and (self._task is None or self._task.done()) and monotonic() >= self._next_try:
            self._task = asyncio.create_task(self._make(settings, missing))

    async def _make(self, settings: Settings, months: set[date]) -> None:
        try:
            # a table's owner makes its partitions, and the service is not the owner
            engine = owners_engine(settings)
            async with engine.begin() as connection:
                await connection.run_sync(partial(ensure_partitions, table=email_event, days=sorted(months)))
                left = await connection.run_sync(partial(missing_months, table=email_event, days=sorted(months)))
        except Exception as error:  # the rows are safe where they are
            log.warning("months of mail events not made", error=type(error).__name__)
            left = months
        self._made |= months - left
        if left:
            self._next_try = monotonic() + MONTHS_EVERY_SECONDS


async def _body(request: Request) -> bytes:
    """The request's bytes, exactly.

    Raises:
        _RefusedError: no JSON, compressed, or too large.
    """
    media_type = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if media_type != "application/json" or encoding not in ("", "identity"):
        raise _RefusedError("unsupported-media-type", "media_type", "not_events")
    too_large = _RefusedError("too-large", "too_large", "too_large")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > MOST_BYTES:
        raise too_large
    received = bytearray()
    try:
        async for part in request.stream():
            received += part
            if len(received) > MOST_BYTES:
                raise too_large
    except ClientDisconnect as error:
        raise _RefusedError("bad-request", "not_events", "cut_off") from error
    return bytes(received)


def add_webhooks(app: FastAPI, planning: Planning) -> None:
    """The routes, on an application."""
    mail_events = MailEvents(planning)

    async def answer(request: Request, account: str | None) -> Response:
        try:
            taken = await mail_events.take(request, account)
        except _RefusedError as refused:
            metrics.MAIL_POSTS.labels(refused.outcome).inc()
            language = language_of(request.headers.get("accept-language"))
            detail = _TEXTS[refused.text][language].format(most=MOST_BYTES)
            headers = _RETRY_AFTER if refused.kind == "unavailable" else None
            return problem(refused.kind, detail, language, request_id=request_id_of(request.scope), headers=headers)
        metrics.MAIL_POSTS.labels("taken").inc()
        return JSONResponse(taken.model_dump())

    @app.post("/v1/webhooks/sendgrid", summary="SendGrid's mail events", **_DOCUMENTED)
    async def sendgrid_events(request: Request) -> Response:
        """Signed events of the one account there is. Each is stored once, however often it comes."""
        return await answer(request, None)

    @app.post("/v1/webhooks/sendgrid/{account}", summary="SendGrid's mail events of one account", **_DOCUMENTED)
    async def sendgrid_account_events(account: str, request: Request) -> Response:
        """The same where several accounts are configured."""
        return await answer(request, account)


_MEANINGS: Final = {
    400: "Not a JSON array.",
    403: "Not signed by the configured key, or too long ago.",
    404: "The webhook, or the account, is not configured.",
    413: "The body is too large.",
    415: "Not application/json, or compressed.",
    503: "Cannot be stored now; post it again later.",
}
_DOCUMENTED: Final[dict[str, Any]] = {
    "response_model": Taken,
    "responses": {status: {"model": ProblemDetails, "description": meaning} for status, meaning in _MEANINGS.items()},
    "tags": ["webhooks"],
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}},
        },
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}
            for name in (SIGNATURE_HEADER, TIMESTAMP_HEADER)
        ],
    },
}
