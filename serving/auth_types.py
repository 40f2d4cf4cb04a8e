"""What the parts of identity share: who asks, and how a request ends that may not be answered."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from turnout.errors import TurnoutError
from turnout.identity_roles import Permission


class DeniedError(TurnoutError):
    """Nobody known is asking (401). ``reason`` is a key of :data:`serving.auth.TEXTS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnavailableError(TurnoutError):
    """Who asks cannot be found out now (503). ``reason`` is a key of :data:`serving.auth.TEXTS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    Attributes:
        subject: ``oidc:<sub>``, ``key:<id>`` or ``local``; the user of the rate limit. Personal: never logged.
        organisation: whose data it may see.
        permissions: what it may do there.
        caller: the same as ``subject`` for logs: a key's id is no secret, a person becomes a hash.
    """

    subject: str
    organisation: str
    permissions: frozenset[Permission]
    caller: str = field(init=False)

    def __post_init__(self) -> None:
        kind, _, rest = self.subject.partition(":")
        shown = self.subject
        if kind == "oidc":
            shown = f"oidc:{hashlib.blake2b(rest.encode('utf-8', 'surrogatepass'), digest_size=6).hexdigest()}"
        object.__setattr__(self, "caller", shown)
