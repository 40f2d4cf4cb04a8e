"""One way to be patient with a platform: wait as it asks, else back off, and give up in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import structlog
import tenacity

from ingestion.connectors.base import RateLimited, TransientError

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Longest time spent waiting for one call; a scheduler tries the whole task again later.
PATIENCE_SECONDS = 600.0
#: Back-off where the platform names no time: 1 s, 2 s, 4 s … at most this, each with up to a second of jitter.
LONGEST_WAIT_SECONDS = 60.0

_backoff = tenacity.wait_exponential_jitter(initial=1.0, max=LONGEST_WAIT_SECONDS, jitter=1.0)


def patiently(
    call: Callable[[], T],
    *,
    what: str,
    patience_seconds: float = PATIENCE_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Call until it answers.

    Args:
        call: one request; raises :class:`TransientError` where trying again may help.
        what: for the log, e.g. ``meta_ads insights``; no secrets.
        patience_seconds: waits beyond this in all are not begun: the last error is raised instead, at once.

    Raises:
        TransientError: the platform asks for more patience than there is.
        Exception: whatever else ``call`` raises, at once.
    """

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, RateLimited) and error.retry_after is not None:
            return max(error.retry_after, 0.0)
        return _backoff(state)

    def stop(state: tenacity.RetryCallState) -> bool:
        return state.idle_for + state.upcoming_sleep > patience_seconds

    def say(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning(
            "waiting for the platform",
            what=what, attempt=state.attempt_number, seconds=round(state.upcoming_sleep, 1), error=str(error)[:300],
        )  # fmt: skip

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        wait=wait, stop=stop, sleep=sleep, before_sleep=say, reraise=True,
    )(call)  # fmt: skip
