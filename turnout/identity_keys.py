"""API keys: made, listed, revoked, rotated.

A key is ``turnout_<id>_<secret>``: the id (48 bit) finds its row, the secret (256 bit, random) proves it. The row holds
HMAC-SHA256 of the whole key under the installation's own secret (:func:`key_secret`), so a copy of the table alone can
neither log in nor be tried against guesses. A slow hash would add nothing: 256 random bits cannot be guessed.

Workers keep verified keys for a while (:mod:`serving.auth_keys`). Every change here writes a new mark to Redis, which
they read with each request, so that a revoked key is refused from the next request on.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import redis
import structlog
from sqlalchemy import Connection, insert, select, update

from turnout.errors import InputError, Problem
from turnout.identity_roles import PERMISSIONS, Permission, Role
from turnout.personal import home_secret
from turnout.settings import Settings
from turnout.warehouse.tables import api_key

log = structlog.get_logger(__name__)

_KEY: Final = re.compile(r"turnout_([0-9a-f]{12})_([0-9a-f]{64})")
_SECRET_FILE: Final = "api_keys.secret"  # noqa: S105 - a file's name
#: Redis key with a random mark that changes whenever a key does.
MARK: Final = "turnout:keys:mark"
#: How long a replaced key goes on working unless told otherwise.
GRACE: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is listed: everything but the key."""

    key_id: str
    organisation: str
    name: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    replaced_by: str | None

    def state(self, now: datetime) -> str:
        """``active``, ``revoked`` or ``expired``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


def key_secret(settings: Settings) -> bytes:
    """The secret of the keyed hash: the setting, else a file in the home folder, made once.

    Raises:
        ConfigurationError: the file is unreadable.
    """
    return home_secret(settings, settings.key_secret, _SECRET_FILE, "TURNOUT_KEY_SECRET").encode()


def key_id_of(key: str) -> str | None:
    """The public part of a key; ``None`` where it has not the form of one."""
    found = _KEY.fullmatch(key)
    return found.group(1) if found else None


def hash_of(secret: bytes, key: str) -> str:
    """The keyed hash of a key, as stored."""
    return hmac.new(secret, key.encode(), hashlib.sha256).hexdigest()


def create_key(
    connection: Connection,
    secret: bytes,
    *,
    organisation: str,
    name: str,
    roles: Sequence[str],
    scopes: Sequence[str] = (),
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key within the caller's transaction; the second value is the key itself, which is nowhere else.

    Raises:
        InputError: no or unknown roles, unknown scopes, scopes that no role has, an empty name, an expiry in the past.
    """
    problems = _problems(name, roles, scopes, expires_at)
    if problems:
        raise InputError(problems)
    key_id = secrets.token_hex(6)
    key = f"turnout_{key_id}_{secrets.token_hex(32)}"
    row = {
        "key_id": key_id, "organisation": organisation, "name": name.strip(), "secret_hash": hash_of(secret, key),
        "roles": sorted(set(roles)), "scopes": sorted(set(scopes)), "expires_at": expires_at,
    }  # fmt: skip
    connection.execute(insert(api_key), row)
    return _one(connection, organisation, key_id), key


def list_keys(connection: Connection, organisation: str) -> list[ApiKey]:
    """Every key of an organisation, newest first."""
    query = select(*_COLUMNS).where(api_key.c.organisation == organisation)
    rows = connection.execute(query.order_by(api_key.c.created_at.desc(), api_key.c.key_id)).mappings()
    return [_as_key(row) for row in rows]


def revoke_key(connection: Connection, organisation: str, key_id: str) -> ApiKey:
    """Refuse a key from now on; repeatable. Call :func:`tell_workers` when the transaction is committed.

    Raises:
        InputError: this organisation has no such key.
    """
    _one(connection, organisation, key_id)
    connection.execute(
        update(api_key)
        .where(api_key.c.organisation == organisation, api_key.c.key_id == key_id, api_key.c.revoked_at.is_(None))
        .values(revoked_at=datetime.now(UTC))
    )
    return _one(connection, organisation, key_id)


def rotate_key(
    connection: Connection, secret: bytes, organisation: str, key_id: str, *, grace: timedelta = GRACE
) -> tuple[ApiKey, str]:
    """Make a key with the same name, roles, scopes and life time; the old one works for ``grace`` longer.

    Raises:
        InputError: there is no such key, or it does not work any more.
    """
    old, now = _one(connection, organisation, key_id), datetime.now(UTC)
    if old.state(now) != "active" or old.replaced_by is not None:
        state = old.state(now) if old.replaced_by is None else f"replaced by {old.replaced_by} already"
        raise InputError([Problem("not_active", f"key {key_id} is {state}; make a new one", value=key_id)])
    life = old.expires_at - old.created_at if old.expires_at is not None else None
    new, key = create_key(
        connection, secret, organisation=organisation, name=old.name, roles=old.roles, scopes=old.scopes,
        expires_at=now + life if life is not None else None,
    )  # fmt: skip
    ends = now + grace
    connection.execute(
        update(api_key)
        .where(api_key.c.organisation == organisation, api_key.c.key_id == key_id)
        .values(replaced_by=new.key_id, expires_at=min(ends, old.expires_at) if old.expires_at else ends)
    )
    return new, key


def tell_workers(settings: Settings) -> bool:
    """Make every worker look its keys up again with the next request.

    Returns:
        Whether Redis took the mark. Without it, workers look again within
        :data:`serving.auth_keys.FRESH_SECONDS`, and at every request while they themselves cannot reach Redis.
    """
    assert settings.redis_url is not None, "call inside turnout.runtime.services()"
    try:
        with redis.Redis.from_url(settings.redis_url, socket_timeout=5, socket_connect_timeout=5) as client:
            client.set(MARK, secrets.token_hex(8))
    except redis.RedisError as error:
        log.warning("workers not told about a changed key", error=type(error).__name__)
        return False
    return True


# --- rows -------------------------------------------------------------------------------------------------------------
_COLUMNS: Final = [api_key.c[name] for name in ApiKey.__dataclass_fields__]


def _as_key(row: object) -> ApiKey:
    values = dict(row)  # type: ignore[call-overload]
    return ApiKey(**{**values, "roles": tuple(values["roles"]), "scopes": tuple(values["scopes"])})


def _one(connection: Connection, organisation: str, key_id: str) -> ApiKey:
    query = select(*_COLUMNS).where(api_key.c.organisation == organisation, api_key.c.key_id == key_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        message = f"{organisation} has no key {key_id!r}; see `turnout keys list`"
        raise InputError([Problem("unknown_key", message, value=key_id)])
    return _as_key(row)


def _problems(
    name: str, roles: Iterable[str], scopes: Iterable[str], expires_at: datetime | None
) -> list[Problem]:  # fmt: skip
    roles, problems = list(roles), []
    if not 1 <= len(name.strip()) <= 100:
        problems.append(Problem("name", "a key needs a name of 1 to 100 characters: what it is for", value=name))
    allowed = ", ".join(Role)
    if not roles:
        problems.append(Problem("no_role", f"a key needs a role; allowed: {allowed}"))
    problems += [
        Problem("unknown_role", f"unknown role {role!r}; allowed: {allowed}", value=role)
        for role in roles if role not in list(Role)
    ]  # fmt: skip
    within = frozenset().union(*(PERMISSIONS[Role(r)] for r in roles if r in list(Role))) if roles else frozenset()
    for scope in scopes:
        if scope not in list(Permission):
            problems.append(
                Problem("unknown_scope", f"unknown scope {scope!r}; allowed: {', '.join(Permission)}", value=scope)
            )
        elif Permission(scope) not in within:
            message = f"scope {scope} lies outside the roles {', '.join(roles)}"
            problems.append(Problem("scope_without_role", message, value=scope))
    if expires_at is not None and expires_at <= datetime.now(UTC):
        problems.append(Problem("expired", f"a key cannot expire in the past ({expires_at:%Y-%m-%d})"))
    return problems
