"""Natural keys: the same thing gets the same key in every source, run and machine."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from datetime import date

_SPACES = re.compile(r"\s+")


def normalise_name(text: str) -> str:
    """Fold width, case and white space, so that ``ＡＩ　セミナー`` and ``ai セミナー`` are one name."""
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text)).strip().casefold()


def key_of(*parts: object, prefix: str = "", length: int = 20) -> str:
    """A stable hex key of ``parts``; ``None`` differs from the empty string."""
    joined = "\x1f".join("\x00" if p is None else str(p) for p in parts)
    return prefix + hashlib.sha256(joined.encode()).hexdigest()[:length]


def event_key(organisation: str, name: str, event_date: date) -> str:
    """The key of an event: one organisation cannot hold two events of one name on one day."""
    return key_of(organisation, normalise_name(name), event_date.isoformat(), prefix="evt_")


def share_of(key: str, purpose: str) -> float:
    """A number in [0, 1) that is always the same for a key, evenly spread over keys, and unrelated between purposes."""
    digest = hashlib.sha256(f"{purpose}\x1f{key}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def hashed_identity(salt: str, *parts: str) -> str:
    """A salted hash of personal values: says "the same person", never who."""
    return hashlib.blake2b(
        "\x1f".join(normalise_name(p) for p in parts).encode(), key=salt.encode()[:64], digest_size=12
    ).hexdigest()
