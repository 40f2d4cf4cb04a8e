"""What every connector is, and how a platform says no.

A connector asks one platform and yields the same typed records as the reader of its exports. It does not write, retry
whole slices, or decide what counts: :mod:`ingestion.connectors.run` stages each slice (account × days), lets the gate
look at it and replaces the days in one transaction. So a connector is free to raise in the middle of a slice; what it
had yielded is thrown away.

How a connector fails decides what happens next:

=========================  ===========================================================================================
raises                     and the runner
=========================  ===========================================================================================
:class:`TooMuchData`       halves the range and asks again; a single day that is still too much is reported
:class:`ReadExpired`       asks for the slice again from its start (an expired page token, a report that went stale)
:class:`RateLimited`       waits as long as the platform said, else backs off; beyond the patience the task is retried
:class:`Unavailable`       backs off and asks again; then the task is retried
:class:`AccessDenied`      stops this account with what to do about it; nothing of it is deleted
=========================  ===========================================================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from types import TracebackType
from typing import ClassVar, Literal, Self

from ingestion.records import Record, Rejected
from turnout.errors import TurnoutError
from turnout.settings import Settings


@dataclass(frozen=True, slots=True)
class SourceAccount:
    """An account of a platform, as the platform describes it.

    Attributes:
        account_id: the platform's own id; the warehouse's ``account``.
        time_zone: IANA name of the zone its days are in; LinkedIn's are UTC whatever the account says.
        currency: ISO 4217; ``None`` where the source has no money.
    """

    source: str
    account_id: str
    name: str = ""
    time_zone: str = "UTC"
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One line of ``turnout sources check``.

    Attributes:
        what: e.g. ``credentials``, ``account 123-456-7890``.
        status: ``missing`` where something has to be configured, ``failed`` where the platform said no.
        message: what was found; of a failure also what to do.
    """

    what: str
    status: Literal["ok", "warning", "missing", "failed"]
    message: str


class AccessDenied(TurnoutError):  # noqa: N818 - says what happened, as the platforms do
    """Credentials are missing, expired or may not read this account. Trying again does not help."""


class SourceFault(TurnoutError):  # noqa: N818
    """The platform refuses the request as such (a field it no longer knows). Trying again does not help."""


class TransientError(Exception):
    """Trying again later may help. No :class:`TurnoutError`, so that a scheduler retries the task."""


@dataclass
class RateLimited(TransientError):  # noqa: N818
    """Too many calls. ``retry_after`` is the platform's word in seconds, if it gave one."""

    message: str
    retry_after: float | None = None

    def __str__(self) -> str:
        wait = "" if self.retry_after is None else f" (wait {self.retry_after:.0f} s)"
        return f"{self.message}{wait}"


class Unavailable(TransientError):  # noqa: N818
    """The platform, or the way to it, is down: 5xx, a timeout, a broken connection."""


class TooMuchData(Exception):  # noqa: N818
    """The range asked for is too large for one answer."""


class ReadExpired(Exception):  # noqa: N818
    """The answer went stale while it was read."""


@dataclass
class Notes:
    """What a connector wants a user to know of a slice; shown with the run, and in the nightly message."""

    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Add a warning once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def take(self) -> list[str]:
        """The warnings since the last call."""
        taken, self.warnings = self.warnings, []
        return taken


class Connector(ABC):
    """One platform. Use as a context manager; it may hold connections.

    Attributes:
        source: the warehouse's word, e.g. ``google_ads``.
        table: the warehouse table its records belong to.
        max_days: the longest range one request should ask for.
        history_days: how far back the platform answers; ``None`` is without limit. Older days are left alone.
    """

    source: ClassVar[str]
    table: ClassVar[str]
    max_days: ClassVar[int] = 31
    history_days: ClassVar[int | None] = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.notes = Notes()

    @abstractmethod
    def accounts(self) -> Sequence[SourceAccount]:
        """The accounts to read: those configured, else all the credentials can see.

        Raises:
            AccessDenied: the credentials are refused, or a configured account cannot be seen with them.
            TransientError: the platform does not answer now.
        """

    @abstractmethod
    def rows(self, account: SourceAccount, first: date, last: date) -> Iterator[Record | Rejected]:
        """Everything the platform says of an account's days ``first`` to ``last``, both included, in its zone.

        Each record's ``values`` hold the columns of :attr:`table` that the platform gave: a field it left out is
        ``None``, never zero. ``Record.row`` counts from 1 within the slice. The runner sets ``account``.

        Raises:
            TooMuchData, ReadExpired, RateLimited, Unavailable, AccessDenied, SourceFault: see the module.
        """

    @abstractmethod
    def confirm_access(self, account: SourceAccount) -> None:
        """Ask something that only a reader of the account may know: called when a slice came back empty.

        Raises:
            AccessDenied: the empty answer meant no access.
        """

    @abstractmethod
    def check(self) -> Iterator[Check]:
        """Test everything the connector needs, from credentials to each account, and say what is missing.

        Never raises what a platform says: a failure is a :class:`Check`.
        """

    def close(self) -> None:  # noqa: B027 - most connectors hold nothing
        """Give back connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
