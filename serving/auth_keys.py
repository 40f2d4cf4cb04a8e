"""API keys as a worker sees them: looked up once, kept for a while, dropped as soon as any key changes.

With each request the worker reads a mark from Redis, in the round trip of the rate limit. An entry remembers the mark
that was read before it was looked up; under another mark it is looked up again. So a key that was revoked
(:func:`turnout.identity_keys.revoke_key`) is refused from the next request on. While Redis is away entries are good for
a second, and while PostgreSQL is away as well for :data:`STALE_SECONDS`.
"""

from __future__ import annotations

import asyncio
import hmac
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final

import structlog
from sqlalchemy import text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from serving import store
from serving.auth_types import DeniedError, Principal, UnavailableError
from turnout.errors import NotReadyError
from turnout.identity_keys import hash_of, key_id_of, key_secret
from turnout.identity_roles import permissions_of
from turnout.settings import Settings
from turnout.warehouse.tables import SCHEMA, api_key

log = structlog.get_logger("turnout.auth")

FRESH_SECONDS: Final = 30.0
#: The same while Redis cannot say whether a key changed.
FRESH_WITHOUT_MARK: Final = 1.0
STALE_SECONDS: Final = 900.0
LOOKUP_SECONDS: Final = 2.0
TOUCH_SECONDS: Final = 60.0
MOST_KEPT: Final = 10_000
_FIND: Final = text(f"SELECT * FROM {SCHEMA}.find_api_key(:key_id)")


@dataclass(frozen=True, slots=True)
class Kept:
    """A row as it was found; ``row`` is ``None`` where there is no such key."""

    row: Any
    mark: str | None
    looked_up: float

    @property
    def age(self) -> float:
        return monotonic() - self.looked_up


class KeyRing:
    """One worker's keys."""

    def __init__(self, settings: Settings, engine: Callable[[], AsyncEngine]) -> None:
        self._settings, self._engine = settings, engine
        self._secret: bytes | None = None
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._asking: dict[tuple[str, str | None], asyncio.Task[Any]] = {}
        self._touched: dict[str, float] = {}
        self._touching: set[asyncio.Task[None]] = set()
        self._mark: str | None = None

    async def close(self) -> None:
        for task in [*self._touching, *self._asking.values()]:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task

    async def verify(self, key: str) -> Principal:
        """Who owns a key, as far as known; :meth:`confirm` it when the mark has been read.

        Raises:
            DeniedError: it is unknown, revoked or expired.
            UnavailableError: the keys cannot be looked up now.
        """
        key_id = key_id_of(key)
        if key_id is None:
            raise DeniedError("key")
        kept = self._kept.get(key_id)
        if kept is None or kept.age > FRESH_SECONDS:
            kept = await self._look_up(key_id, self._mark, kept)
        return self._checked(key, key_id, kept)

    async def confirm(self, key: str, mark: str | None) -> Principal:
        """:meth:`verify` under the mark that Redis holds now; ``None`` where Redis did not answer."""
        key_id = key_id_of(key)
        assert key_id is not None, "verified before"
        kept = self._kept.get(key_id)
        if mark is None:
            if kept is None or kept.age > FRESH_WITHOUT_MARK:
                kept = await self._look_up(key_id, None, kept)
        else:
            self._mark = mark
            if kept is None or kept.mark != mark:
                kept = await self._look_up(key_id, mark, None)
        principal = self._checked(key, key_id, kept)
        self._touch(key_id, principal.organisation)
        return principal

    def _checked(self, key: str, key_id: str, kept: Kept) -> Principal:
        if self._secret is None:
            self._secret = key_secret(self._settings)
        row = kept.row
        # the comparison is made in any case: how long it takes says nothing about which keys there are
        same = hmac.compare_digest(hash_of(self._secret, key), row.secret_hash if row is not None else "0" * 64)
        now = datetime.now(UTC)
        if (
            row is None or not same or row.revoked_at is not None
            or (row.expires_at is not None and row.expires_at <= now)
        ):  # fmt: skip
            raise DeniedError("key")
        return Principal(f"key:{key_id}", row.organisation, permissions_of(row.roles, row.scopes))

    async def _look_up(self, key_id: str, mark: str | None, otherwise: Kept | None) -> Kept:
        """Ask PostgreSQL: of many requests with one key at a time, one asks."""
        asked = (key_id, mark)
        task = self._asking.get(asked)
        if task is None:
            task = self._asking[asked] = asyncio.create_task(self._find(key_id))
            task.add_done_callback(lambda _: self._asking.pop(asked, None))
        try:
            row = await asyncio.shield(task)
        except (SQLAlchemyError, OSError, TimeoutError, NotReadyError) as error:
            log.warning("api key not looked up", key=key_id, error=type(error).__name__)
            if otherwise is not None and otherwise.age < STALE_SECONDS:
                return otherwise
            raise UnavailableError("keys") from error
        kept = Kept(row, mark, monotonic())
        self._kept[key_id] = kept
        self._kept.move_to_end(key_id)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return kept

    async def _find(self, key_id: str) -> Any:
        async with asyncio.timeout(LOOKUP_SECONDS), self._engine().connect() as connection:
            return (await connection.execute(_FIND, {"key_id": key_id})).one_or_none()

    def _touch(self, key_id: str, organisation: str) -> None:
        """Note when a key was used, at most once a minute and beside the request."""
        now = monotonic()
        if now - self._touched.get(key_id, float("-inf")) < TOUCH_SECONDS:
            return
        if len(self._touched) > MOST_KEPT:
            self._touched.clear()
        self._touched[key_id] = now
        task = asyncio.create_task(self._note_use(key_id, organisation))
        self._touching.add(task)
        task.add_done_callback(self._touching.discard)

    async def _note_use(self, key_id: str, organisation: str) -> None:
        used = (
            update(api_key)
            .where(api_key.c.key_id == key_id, api_key.c.organisation == organisation)
            .values(last_used_at=datetime.now(UTC))
        )
        try:
            async with asyncio.timeout(LOOKUP_SECONDS), store.session(self._engine(), organisation) as connection:
                await connection.execute(used)
        except (SQLAlchemyError, OSError, TimeoutError, NotReadyError) as error:
            log.info("use of a key not noted", key=key_id, error=type(error).__name__)
