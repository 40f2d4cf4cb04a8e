"""Limits: how often, how much, how deep, how many at once.

**How often.** A moving window per user, exact over all workers: Redis keeps the moments of a user's last requests and
its own clock decides, in one script and so in one round trip, which also brings the mark of the API keys
(:mod:`serving.auth_keys`). Without Redis requests are let in by a window of this worker alone, with its share of the
limit, and that is counted (``turnout_rate_limits_total{outcome="local_…"}``).

**How many at once.** :class:`Admission`: some plans are made, some wait, the rest is sent away at once; so is who has
waited too long. An answer that comes too late helps nobody and costs the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic, time
from typing import Final

import structlog
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from starlette.types import Receive

from serving import metrics
from turnout.errors import TurnoutError
from turnout.identity_keys import MARK
from turnout.settings import Settings

log = structlog.get_logger("turnout.limits")

WINDOW_SECONDS: Final = 60
#: A limiter that makes requests wait for long would be worse than none; one that gives up on a busy machine, inexact.
REDIS_SECONDS: Final = 1.0
#: How long Redis is left alone after it failed.
PAUSE_SECONDS: Final = 1.0
_CONNECTIONS: Final = 32

#: Moments in microseconds, newest first. KEYS: the user's list, the keys' mark. ARGV: limit, window in microseconds.
#: Answers: let in, hits left, microseconds until the oldest hit leaves the window, the mark.
_SCRIPT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local mark = redis.call('GET', KEYS[2]) or ''
local oldest = redis.call('LINDEX', KEYS[1], -1)
while oldest and now - oldest >= window do
    redis.call('RPOP', KEYS[1])
    oldest = redis.call('LINDEX', KEYS[1], -1)
end
local hits = redis.call('LLEN', KEYS[1])
if hits >= limit then
    return {0, 0, oldest + window - now, mark}
end
redis.call('LPUSH', KEYS[1], string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
return {1, limit - hits - 1, (oldest or now) + window - now, mark}
"""


class OverloadedError(TurnoutError):
    """Too much at once; ask again in a moment."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a limit says of one request.

    Attributes:
        limit: requests a window; 0 is no limit.
        remaining: of them, after this one.
        reset: seconds until the oldest request leaves the window.
        mark: of the API keys; ``None`` where Redis did not answer.
    """

    allowed: bool
    limit: int
    remaining: int
    reset: float
    mark: str | None

    @property
    def headers(self) -> dict[str, str]:
        """The fields of the IETF's draft on rate limits, and ``Retry-After`` (RFC 9110) on a refusal."""
        if not self.limit:
            return {}
        seconds = str(max(1, math.ceil(self.reset)))
        fields = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": seconds,
            "RateLimit-Policy": f"{self.limit};w={WINDOW_SECONDS}",
        }
        return fields if self.allowed else {**fields, "Retry-After": seconds}


class Limiter:
    """One worker's end of the limit that all workers share."""

    def __init__(self, settings: Settings) -> None:
        self.limit = settings.rate_limit_per_minute
        pool = BlockingConnectionPool.from_url(
            settings.redis_url or "redis://127.0.0.1", max_connections=_CONNECTIONS, timeout=REDIS_SECONDS,
            socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS, retry=Retry(NoBackoff(), 1),
            decode_responses=True,
        )  # fmt: skip
        self._redis = Redis(connection_pool=pool)
        self._script = self._redis.register_script(_SCRIPT)
        self._paused_until = 0.0 if settings.redis_url else math.inf
        self._is_away = False
        self._window = MovingWindowRateLimiter(MemoryStorage())
        self._share = RateLimitItemPerSecond(max(1, math.ceil(self.limit / settings.service_workers)), WINDOW_SECONDS)

    async def close(self) -> None:
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def hit(self, organisation: str, subject: str) -> Verdict:
        """Count a request of a user."""
        user = hashlib.blake2b(f"{organisation}\x1f{subject}".encode("utf-8", "surrogatepass"), digest_size=16)
        if monotonic() >= self._paused_until:
            try:
                # without a limit the script would let nobody in; the mark is wanted all the same
                if not self.limit:
                    found = await self._redis.get(MARK)
                    return self._here(Verdict(True, 0, 0, 0.0, found or ""))
                answer = await self._script(
                    keys=[f"turnout:rate:{user.hexdigest()}", MARK], args=[self.limit, WINDOW_SECONDS * 1_000_000]
                )
                allowed, left, reset, mark = answer
                return self._here(Verdict(bool(allowed), self.limit, int(left), int(reset) / 1e6, str(mark)))
            except (RedisError, OSError, TimeoutError) as error:
                self._paused_until = monotonic() + PAUSE_SECONDS
                if not self._is_away:
                    self._is_away = True
                    log.warning("Redis away: rates are limited per worker", error=type(error).__name__)
        return self._alone(user.hexdigest())

    def _here(self, verdict: Verdict) -> Verdict:
        if self._is_away:
            self._is_away = False
            log.info("Redis answers: rates are limited over all workers")
        metrics.RATE_LIMITS.labels("allowed" if verdict.allowed else "refused").inc()
        return verdict

    def _alone(self, user: str) -> Verdict:
        if not self.limit:
            metrics.RATE_LIMITS.labels("local_allowed").inc()
            return Verdict(True, 0, 0, 0.0, None)
        allowed = self._window.hit(self._share, user)
        stats = self._window.get_window_stats(self._share, user)
        metrics.RATE_LIMITS.labels("local_allowed" if allowed else "local_refused").inc()
        return Verdict(allowed, self._share.amount, stats.remaining, max(0.0, stats.reset_time - time()), None)


class Admission:
    """At most so many at once, so many waiting, and nobody waiting longer than a moment."""

    def __init__(self, at_once: int, waiting: int, seconds: float) -> None:
        self.at_once, self.most_waiting, self.seconds = at_once, waiting, seconds
        self.running = 0
        self.waiting = 0
        self._turns = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and have it.

        Raises:
            OverloadedError: too many wait already, or the turn did not come in time.
        """
        if self._turns.locked() and self.waiting >= self.most_waiting:
            raise OverloadedError(f"{self.at_once} are at work and {self.waiting} wait already")
        self.waiting += 1
        metrics.WAITING.inc()
        try:
            async with asyncio.timeout(self.seconds):
                await self._turns.acquire()
        except TimeoutError as error:
            raise OverloadedError(f"no turn within {self.seconds:g} s") from error
        finally:
            self.waiting -= 1
            metrics.WAITING.dec()
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._turns.release()


# --- bodies -----------------------------------------------------------------------------------------------------------
class TooLargeError(TurnoutError):
    """A body has more bytes than allowed."""


class CutOffError(TurnoutError):
    """The client went away before the end of its body."""


async def read_body(receive: Receive, most: int, seconds: float) -> bytes:
    """A request's whole body.

    Raises:
        TooLargeError: it is larger than ``most`` bytes.
        TimeoutError: it did not come within ``seconds``.
        CutOffError: it never came.
    """
    received = bytearray()
    async with asyncio.timeout(seconds):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise CutOffError("cut off")
            received += message.get("body", b"")
            if len(received) > most:
                raise TooLargeError(f"more than {most} bytes")
            if not message.get("more_body", False):
                return bytes(received)


#: Matches wherever a quote stands, also where its string never ends: so a body is gone through once, whatever is in it.
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.|\\\Z)*+(?:"|\Z)', re.DOTALL)
_BRACKETS: Final = re.compile(rb"[\[\]{}]")


def is_deeper(body: bytes, most: int) -> bool:
    """Whether JSON nests deeper than ``most``, told without parsing it."""
    if body.count(b"[") + body.count(b"{") <= most:
        return False
    depth = 0
    for bracket in _BRACKETS.finditer(_STRINGS.sub(b"", body)):
        depth += 1 if bracket.group() in b"[{" else -1
        if depth > most:
            return True
    return False
