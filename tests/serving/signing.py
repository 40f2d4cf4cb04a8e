"""Signs as SendGrid does, with a key of the tests' own."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from turnout.mail_events import SIGNATURE_HEADER, TIMESTAMP_HEADER

_KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC_KEY = base64.b64encode(
    _KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
).decode()


def signed(body: bytes, at: float | None = None) -> dict[str, str]:
    """The headers of a request with this body, signed now or ``at`` a time in seconds."""
    timestamp = str(int(time.time() if at is None else at))
    signature = base64.b64encode(_KEY.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()
    return {SIGNATURE_HEADER: signature, TIMESTAMP_HEADER: timestamp, "Content-Type": "application/json"}


def event(name: str, **changes: Any) -> dict[str, Any]:
    """A mail event of a minute ago."""
    return {
        "email": f"{name}@example.com", "timestamp": int(time.time()) - 60, "event": "delivered",
        "sg_event_id": f"id-{name}", "sg_message_id": f"{name}.recvd-1", "smtp-id": f"<{name}@example.com>", **changes,
    }  # fmt: skip


def body_of(events: Iterable[object]) -> bytes:
    """As SendGrid writes a batch: a line per event, and a last line end that is signed as well."""
    return b"[" + b",\r\n".join(json.dumps(e, separators=(",", ":")).encode() for e in events) + b"]\r\n"
