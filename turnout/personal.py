"""Keeping persons out: the salt of hashed identities, and striking addresses out of what is kept or shown."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from pydantic import SecretStr

from turnout.errors import ConfigurationError
from turnout.settings import Settings

_SALT_FILE = "identity.salt"
_EMAIL = re.compile(r"[\w.+\-%]+@[\w\-]+(?:\.[\w\-]+)+")
#: Ten digits or more written as a telephone number; dates, amounts and ids have no such shape.
_PHONE = re.compile(
    r"(?<![\d.,])(?:\+\d{1,3}[\s\-]?)?\(?0\d{1,4}\)?[\s\-]\d{1,4}[\s\-]\d{3,4}(?!\d)|\+\d{1,3}[\s\-]?\d{9,12}(?!\d)"
)


def scrub(text: str) -> str:
    """``text`` with e-mail addresses and telephone numbers struck out."""
    if "@" in text:
        text = _EMAIL.sub("[e-mail]", text)
    return _PHONE.sub("[telephone]", text) if any(c.isdigit() for c in text) else text


def identity_salt(settings: Settings) -> str:
    """The salt of hashed identities: the setting, else a secret file in the home folder, made once.

    With the salt gone, the same person gets another hash: back it up with the warehouse.

    Raises:
        ConfigurationError: the file exists but is empty or unreadable.
    """
    return home_secret(settings, settings.identity_salt, _SALT_FILE, "TURNOUT_IDENTITY_SALT")


def home_secret(settings: Settings, given: SecretStr | None, file: str, variable: str) -> str:
    """A secret of this installation: the setting, else a file in the home folder that only its owner reads, made once.

    Args:
        given: the setting's value.
        file: name within the home folder.
        variable: the setting's variable, for messages.

    Raises:
        ConfigurationError: the file exists but is empty or unreadable.
    """
    if given is not None:
        return given.get_secret_value()
    path = settings.home_path / file
    if not path.exists():
        _make(path)
    try:
        secret = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}); set {variable}") from error
    if len(secret) < 16:
        raise ConfigurationError(f"{path} holds no secret; delete it to make a new one, or set {variable}")
    return secret


def _make(path: Path) -> None:
    """Write a secret readable by its owner only. Of several processes the first wins; nobody sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
