"""Single mail events as SendGrid's event webhook posts them: is it SendGrid, what do they say, and store each once.

SendGrid posts events in batches, repeats batches until it gets a 2xx (for about a day) and repeats single events
besides; they come in any order and days late. So every event is a row of its own under SendGrid's ``sg_event_id``, and
storing one again changes nothing.

Addresses, IPs, user agents, links and subjects are not kept. A recipient is a salted hash that no other source uses:
it tells whether two opens are one person's, and nothing else.

Events keep SendGrid's word, except where its statistics tell apart what the webhook gives one word:

=====================  ==============================================  ===================
webhook                also says                                       stored as
=====================  ==============================================  ===================
``bounce``             ``type`` = ``blocked``                          ``block``
``dropped``            ``reason`` = Bounced Address                    ``bounce_drop``
``dropped``            ``reason`` = Spam Reporting Address             ``spam_report_drop``
``dropped``            ``reason`` = Unsubscribed Address               ``unsubscribe_drop``
``dropped``            ``reason`` = Invalid                            ``invalid_email``
=====================  ==============================================  ===================
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from sendgrid.helpers.eventwebhook import EventWebhook, EventWebhookHeader
from sqlalchemy import Connection, text

from turnout.errors import ConfigurationError
from turnout.identity import hashed_identity, key_of
from turnout.personal import scrub
from turnout.warehouse.tables import SCHEMA

SIGNATURE_HEADER: Final[str] = EventWebhookHeader.SIGNATURE
TIMESTAMP_HEADER: Final[str] = EventWebhookHeader.TIMESTAMP

#: Clocks differ: a signature from further ahead than this is refused.
_SECONDS_AHEAD: Final = 300
#: SendGrid began in 2009; events dated before it, or after tomorrow, are not dated in seconds.
_EARLIEST: Final = datetime(2009, 1, 1, tzinfo=UTC)
_LATEST: Final = timedelta(days=1)

_EVENT: Final = re.compile(r"[a-z][a-z_]{0,39}")
_DROPS: Final = {
    "bounced address": "bounce_drop",
    "spam reporting address": "spam_report_drop",
    "unsubscribed address": "unsubscribe_drop",
    "invalid": "invalid_email",
}
#: "Test Your Integration" posts eleven examples of this one message; they are no mail anybody sent.
_EXAMPLE_MESSAGE: Final = "14c5d75ce93.dfd.64b469"
#: What follows a message's own id says which machine took it in, and which recipient of it this is.
_MESSAGE_TAIL: Final = re.compile(r"\.(?:filter|recvd).*", re.DOTALL)
_LONGEST_ID: Final = 200
_LONGEST_CATEGORY: Final = 255
#: Not storable as text in PostgreSQL: NUL, and halves of surrogate pairs.
_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")


# --- whether it is SendGrid ------------------------------------------------------------------------------------------
class Verifier:
    """Tells whether a request was signed with the private half of a webhook's key.

    Args:
        public_key: what SendGrid shows as *Verification Key*: base64 of SPKI DER, with or without PEM's frame.

    Raises:
        ConfigurationError: that is no public key of the curve P-256.
    """

    def __init__(self, public_key: str) -> None:
        bare = "".join(line for line in public_key.split() if line)
        bare = re.sub(r"-----(?:BEGIN|END)PUBLICKEY-----", "", bare)
        try:
            key = EventWebhook(bare).public_key
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ConfigurationError(
                "TURNOUT_SENDGRID__WEBHOOK_PUBLIC_KEY is no public key; copy the Verification Key of the signed"
                " event webhook from SendGrid's mail settings"
            ) from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ConfigurationError(
                "TURNOUT_SENDGRID__WEBHOOK_PUBLIC_KEY is a key of another kind; SendGrid signs with ECDSA on P-256"
            )
        self._key = key

    def is_genuine(self, body: bytes, signature: str, timestamp: str) -> bool:
        """Whether the signature is over exactly these bytes and this timestamp.

        The bytes are the request's own. SendGrid's helper takes text, which a body need not be, so the check itself is
        made here: ECDSA with SHA-256 over the timestamp's characters followed by the body.
        """
        try:
            self._key.verify(
                base64.b64decode(signature, validate=True), timestamp.encode() + body, ec.ECDSA(hashes.SHA256())
            )
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True


def is_timely(timestamp: str, now: datetime, tolerance_seconds: int) -> bool:
    """Whether a signed timestamp (seconds since 1970, as sent) lies within the tolerance; 0 tolerates any."""
    if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 12:
        return False
    age = now.timestamp() - int(timestamp)
    return tolerance_seconds == 0 or -_SECONDS_AHEAD <= age <= tolerance_seconds


# --- what it says ----------------------------------------------------------------------------------------------------
class NotEventsError(ValueError):
    """The body is no JSON array."""


@dataclass(frozen=True, slots=True)
class MailEvent:
    """One event, as it is stored; see table ``email_event``."""

    date: date
    sg_event_id: str
    event: str
    occurred_at: datetime
    categories: tuple[str, ...]
    message_hash: str | None
    recipient_hash: str | None
    is_machine: bool | None


@dataclass(slots=True)
class Batch:
    """The events of one request.

    Attributes:
        events: each once, in the order of their keys.
        received: elements of the array.
        repeated: of them, those the batch itself repeats.
        examples: of them, SendGrid's own test events, which are not stored.
        malformed: what is wrong → how many of them; these are not stored.
    """

    events: list[MailEvent] = field(default_factory=list)
    received: int = 0
    repeated: int = 0
    examples: int = 0
    malformed: Counter[str] = field(default_factory=Counter)

    @property
    def days(self) -> set[date]:
        return {e.date for e in self.events}


class _MalformedError(Exception):
    """An element that is no event. The message names the field, never its value."""


class _ExampleError(Exception):
    """One of SendGrid's own test events."""


def parse(body: bytes, *, zone: ZoneInfo, salt: str, now: datetime) -> Batch:
    """Read a request's body. What is no event is counted and left out; the others do not suffer from it.

    Args:
        zone: of the account's days.
        salt: of the hashes, see :func:`turnout.personal.identity_salt`.
        now: when it was received; events from later than tomorrow are malformed.

    Raises:
        NotEventsError: the body is no JSON array.
    """
    batch = Batch()
    events: dict[tuple[date, str], MailEvent] = {}
    for element in _elements(body):
        batch.received += 1
        try:
            event = _event(element, zone, salt, now)
        except _MalformedError as error:
            batch.malformed[str(error)] += 1
        except _ExampleError:
            batch.examples += 1
        else:
            key = (event.date, event.sg_event_id)
            batch.repeated += key in events
            events.setdefault(key, event)
    batch.events = [events[key] for key in sorted(events)]
    return batch


def _elements(body: bytes) -> list[Any]:
    try:
        # A byte that is no UTF-8, or a NaN, spoils the one field it stands in, not the batch.
        found = json.loads(
            body.decode("utf-8-sig", errors="replace"), parse_int=_integer, parse_constant=lambda _: None
        )
    except (ValueError, RecursionError) as error:
        raise NotEventsError("the body is no JSON") from error
    if not isinstance(found, list):
        raise NotEventsError(f"the body is no JSON array but a {type(found).__name__}")
    return found


def _integer(digits: str) -> int | str:
    """A custom argument may be a number of any length; Python refuses to read more than some thousand digits."""
    return int(digits) if len(digits) <= 20 else digits


def _event(element: object, zone: ZoneInfo, salt: str, now: datetime) -> MailEvent:
    if not isinstance(element, Mapping):
        raise _MalformedError("not an object")
    word = element.get("event")
    if not isinstance(word, str) or not _EVENT.fullmatch(word):
        raise _MalformedError("event")
    occurred_at = _instant(element.get("timestamp"), now)
    message = _message(element)
    if message == _EXAMPLE_MESSAGE:
        raise _ExampleError
    recipient = element.get("email")
    if recipient is not None and not isinstance(recipient, str):
        raise _MalformedError("email")
    return MailEvent(
        date=occurred_at.astimezone(zone).date(),
        sg_event_id=_id(element, message, salt),
        event=_told_apart(word, element),
        occurred_at=occurred_at,
        categories=_categories(element.get("category")),
        message_hash=_hashed(salt, "mail message", message),
        recipient_hash=_hashed(salt, "mail recipient", recipient),
        is_machine=_is_machine(word, element.get("sg_machine_open")),
    )


def _instant(value: object, now: datetime) -> datetime:
    """Seconds since 1970. Never a float's fraction: SendGrid counts whole seconds."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 12:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _MalformedError("timestamp")
    try:
        found = datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise _MalformedError("timestamp") from error
    if not _EARLIEST <= found <= now + _LATEST:
        raise _MalformedError("timestamp")
    return found


def _message(element: Mapping[str, Any]) -> str | None:
    for name in ("sg_message_id", "smtp-id"):
        value = element.get(name)
        if isinstance(value, str) and value.strip():
            return _MESSAGE_TAIL.sub("", value.strip())
    return None


def _id(element: Mapping[str, Any], message: str | None, salt: str) -> str:
    """SendGrid's key of the event. Few kinds come without: a repeat of one is told by all that it says."""
    value = element.get("sg_event_id")
    if value is None:
        if message is None and element.get("email") is None:
            raise _MalformedError("sg_event_id")
        try:
            said = json.dumps(element, sort_keys=True)
        except RecursionError as error:
            raise _MalformedError("sg_event_id") from error
        return key_of(salt, said, prefix="x-", length=32)
    if not isinstance(value, str) or not value or len(value) > _LONGEST_ID or _UNSTORABLE.search(value):
        raise _MalformedError("sg_event_id")
    return value


def _told_apart(word: str, element: Mapping[str, Any]) -> str:
    if word == "bounce" and element.get("type") == "blocked":
        return "block"
    if word == "dropped" and isinstance(reason := element.get("reason"), str):
        return _DROPS.get(reason.strip().casefold(), word)
    return word


def _categories(value: object) -> tuple[str, ...]:
    """One category is text, several are an array. Each once, in the order given."""
    if value is None:
        return ()
    given = value if isinstance(value, list) else [value]
    found: dict[str, None] = {}
    for name in given:
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise _MalformedError("category")
        if clean := scrub(_UNSTORABLE.sub("", str(name)).strip())[:_LONGEST_CATEGORY]:
            found[clean] = None
    return tuple(found)


def _is_machine(word: str, value: object) -> bool | None:
    """Whether a privacy proxy opened it. Only opens are told so, and not by all of SendGrid's ages."""
    if word != "open":
        return None
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.casefold())
    return value if isinstance(value, bool) else None


def _hashed(salt: str, kind: str, value: str | None) -> str | None:
    if value is None or not (clean := _UNSTORABLE.sub("", value).strip()):
        return None
    return hashed_identity(salt, kind, clean)


# --- storing it ------------------------------------------------------------------------------------------------------
#: Rows go as one document: one statement and one round trip for a batch of any size. Two batches that share events
#: take their keys in one order, so that neither waits for the other in a circle.
_STORE: Final = text(f"""
INSERT INTO {SCHEMA}.email_event (
    organisation, account, date, sg_event_id, event, occurred_at, categories, message_hash, recipient_hash, is_machine
)
SELECT :organisation, :account, date, sg_event_id, event, occurred_at, categories, message_hash, recipient_hash,
       is_machine
FROM jsonb_to_recordset(CAST(:events AS jsonb)) AS e (
    date date, sg_event_id text, event text, occurred_at timestamptz, categories text[], message_hash text,
    recipient_hash text, is_machine boolean
)
ORDER BY date, sg_event_id COLLATE "C"
ON CONFLICT (organisation, date, sg_event_id) DO NOTHING
""")


def store(connection: Connection, organisation: str, account: str, events: Iterable[MailEvent]) -> int:
    """Store what is not there yet, within the caller's transaction. Returns how many events were new."""
    rows = [
        {
            "date": e.date.isoformat(),
            "sg_event_id": e.sg_event_id,
            "event": e.event,
            "occurred_at": e.occurred_at.isoformat(),
            "categories": e.categories,
            "message_hash": e.message_hash,
            "recipient_hash": e.recipient_hash,
            "is_machine": e.is_machine,
        }
        for e in events
    ]
    if not rows:
        return 0
    given = {"organisation": organisation, "account": account, "events": json.dumps(rows, ensure_ascii=False)}
    return int(connection.execute(_STORE, given).rowcount)
