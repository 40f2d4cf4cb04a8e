"""What connectors over HTTP have in common: how long to wait, and what of an answer may be shown."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from pydantic import SecretStr

from turnout.credentials import SourceCredentials
from turnout.personal import scrub

#: Platforms explain themselves in a sentence or two; what is longer is a page of HTML.
_LONGEST = 400


def shown(text: object, credentials: SourceCredentials) -> str:
    """``text`` for a message or a log, in one line, without the credentials' secrets and without anybody's address.

    Platforms quote tokens in what they say of them ("Malformed access token …").
    """
    line = " ".join(str(text).split())
    values = (getattr(credentials, name) for name in type(credentials).model_fields)
    for value in values:
        if isinstance(value, SecretStr) and (secret := value.get_secret_value()):
            line = line.replace(secret, "…")
    return scrub(line)[:_LONGEST]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After``, be it a number or a moment; ``None`` where there is none that can be read."""
    given = headers.get("Retry-After")
    if given is None:
        return None
    try:
        return max(float(given), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(given).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError):
        return None
