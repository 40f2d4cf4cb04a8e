"""Bearer tokens of an OpenID provider: Auth0 or any other issuer with a discovery document.

Only RS256 and ES256 are taken, and only under a key of the kind that the algorithm is for: ``none``, and HS256 signed
with a public key, end before any signature is looked at. The provider's key set is read when first needed, again after
``TURNOUT_OIDC_KEYS_SECONDS`` in the background, and at once for a token under an unknown key, though not more often
than every :data:`REFETCH_SECONDS`, so that invented key ids cannot make this service flood the provider.

A verified token is kept by its hash until it expires, at most :data:`KEPT_SECONDS`, and not beyond a change of the
key set.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from time import monotonic, time
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from serving.auth_types import DeniedError, Principal, UnavailableError
from turnout.identity_roles import permissions_of
from turnout.settings import Settings, is_loopback

log = structlog.get_logger("turnout.auth")

ALGORITHMS: Final = ("RS256", "ES256")
LONGEST_TOKEN: Final = 8192
REFETCH_SECONDS: Final = 10.0
KEPT_SECONDS: Final = 300.0
MOST_KEPT: Final = 10_000
FETCH_SECONDS: Final = 5.0
_SMALLEST_RSA: Final = 2048
_LARGEST_DOCUMENT: Final = 512 * 1024
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


class Issuer:
    """One worker's view of the provider."""

    def __init__(self, settings: Settings) -> None:
        assert settings.oidc_issuer is not None
        assert settings.oidc_audience is not None
        self.settings = settings
        self.name, self.audience = settings.oidc_issuer, settings.oidc_audience
        self._keys: dict[str | None, list[jwt.PyJWK]] = {}
        self._document: bytes = b""
        self._fetched = self._tried = self._ended = float("-inf")
        self._fetching = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None
        self._kept: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        self._http = httpx.AsyncClient(
            timeout=FETCH_SECONDS, trust_env=not is_loopback(urlsplit(self.name).hostname or ""),
            headers={"Accept": "application/json"},
        )  # fmt: skip

    async def close(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
        await self._http.aclose()

    async def verify(self, token: str) -> Principal:
        """Who a token says is asking.

        Raises:
            DeniedError: the token is none of the issuer's for us, or not any more.
            UnavailableError: the provider's keys are unknown and cannot be had.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        found = self._kept.get(digest)
        if found is not None:
            if found[1] > time():
                return found[0]
            del self._kept[digest]
        claims = await self._claims(token)
        principal = principal_of(claims, self.settings)
        self._kept[digest] = principal, min(float(claims["exp"]), time() + KEPT_SECONDS)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return principal

    async def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > LONGEST_TOKEN or not _TOKEN.fullmatch(token):
            raise DeniedError("malformed")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise DeniedError("malformed") from error
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise DeniedError("algorithm")
        if "crit" in header or (kid is not None and not isinstance(kid, str)):
            raise DeniedError("malformed")
        key = await self._key(kid, algorithm)
        try:
            claims: dict[str, Any] = jwt.decode(
                token, key, algorithms=[algorithm], audience=self.audience, issuer=self.name,
                leeway=self.settings.oidc_clock_skew_seconds,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
        except tuple(_REASONS) as error:
            raise DeniedError(next(r for kind, r in _REASONS.items() if isinstance(error, kind))) from error
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError) as error:
            raise DeniedError("malformed") from error
        if not claims["sub"] or len(claims["sub"]) > 255:
            raise DeniedError("malformed")
        return claims

    # --- keys ---------------------------------------------------------------------------------------------------------
    async def _key(self, kid: str | None, algorithm: str) -> jwt.PyJWK:
        if not self._keys:
            await self._fetch(monotonic())
        elif monotonic() - self._fetched > self.settings.oidc_keys_seconds:
            self._refresh()
        found = self._pick(kid, algorithm)
        if found is None and monotonic() - self._tried >= REFETCH_SECONDS:
            await self._fetch(monotonic())
            found = self._pick(kid, algorithm)
        if found is None:
            if not self._keys:
                raise UnavailableError("provider")
            raise DeniedError("unknown_key")
        return found

    def _pick(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        # a token may leave out its key's id where there is one key to choose from
        keys = self._keys.get(kid, []) if kid is not None else [k for some in self._keys.values() for k in some]
        fitting = [key for key in keys if key.algorithm_name == algorithm]
        return fitting[0] if len(fitting) == 1 or (fitting and kid is not None) else None

    def _refresh(self) -> None:
        """In the background: the keys there are stay good meanwhile, also where the provider does not answer."""
        if (self._refreshing is None or self._refreshing.done()) and monotonic() - self._tried >= REFETCH_SECONDS:
            self._refreshing = asyncio.create_task(self._fetch(monotonic()))

    async def _fetch(self, asked: float) -> None:
        """Read the key set, unless somebody did after ``asked``, or it failed a moment ago and there is still none."""
        async with self._fetching:
            if self._ended >= asked or (not self._keys and monotonic() - self._ended < 1.0):
                return
            self._tried = monotonic()
            try:
                document = await self._get(f"{self.name.rstrip('/')}/.well-known/openid-configuration")
                raw = await self._get(_keys_url(_as_object(document), self.name))
                keys = _usable(_as_object(raw))
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                log.warning("provider's keys not read", error=type(error).__name__, reason=str(error)[:200])
                return
            finally:
                self._ended = monotonic()
            self._fetched = monotonic()
            if raw != self._document:
                self._keys, self._document = keys, raw
                self._kept.clear()
                log.info("provider's keys read", keys=sum(map(len, keys.values())))

    async def _get(self, url: str) -> bytes:
        async with asyncio.timeout(FETCH_SECONDS * 2), self._http.stream("GET", url) as answer:
            answer.raise_for_status()
            body = bytearray()
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > _LARGEST_DOCUMENT:
                    raise ValueError(f"{url} answers with more than {_LARGEST_DOCUMENT} bytes")
            return bytes(body)


#: What PyJWT finds → what is said about it.
_REASONS: Final[dict[type[Exception], str]] = {
    jwt.ExpiredSignatureError: "expired",
    jwt.ImmatureSignatureError: "not_yet",
    jwt.InvalidAudienceError: "audience",
    jwt.InvalidIssuerError: "issuer",
    jwt.MissingRequiredClaimError: "incomplete",
    jwt.InvalidSignatureError: "signature",
}


def _as_object(document: bytes) -> dict[str, Any]:
    try:
        found = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - a bad answer, not a bad call
    return found


def _keys_url(discovery: Mapping[str, Any], issuer: str) -> str:
    if discovery.get("issuer") != issuer:
        raise ValueError(f"the discovery document is of another issuer: {discovery.get('issuer')!r}")
    url = discovery.get("jwks_uri")
    if isinstance(url, str):
        parts = urlsplit(url)
        if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            return url
    raise ValueError("the discovery document has no https:// jwks_uri")


def _usable(document: Mapping[str, Any]) -> dict[str | None, list[jwt.PyJWK]]:
    """Signing keys of the two algorithms, by id. Keys of other kinds are left out, whatever they say they are for."""
    keys: dict[str | None, list[jwt.PyJWK]] = {}
    for entry in document.get("keys") or []:
        if not isinstance(entry, dict) or entry.get("kty") not in ("RSA", "EC") or entry.get("use", "sig") != "sig":
            continue
        public = {name: value for name, value in entry.items() if name not in _PRIVATE}
        try:
            key = jwt.PyJWK(public)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        large = not isinstance(key.key, RSAPublicKey) or key.key.key_size >= _SMALLEST_RSA
        if key.algorithm_name in ALGORITHMS and large:
            keys.setdefault(entry.get("kid"), []).append(key)
    if not keys:
        raise ValueError("the key set has no RS256 or ES256 key")
    return keys


_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})


# --- from claims to a caller -----------------------------------------------------------------------------------------
def principal_of(claims: Mapping[str, Any], settings: Settings) -> Principal:
    """The caller that verified claims describe.

    Raises:
        DeniedError: the organisation is missing or unknown.
    """
    roles = [settings.oidc_role_names.get(name, name) for name in _names(_claim(claims, settings.oidc_roles_claim))]
    return Principal(
        subject=f"oidc:{claims['sub']}",
        organisation=_organisation(claims, settings),
        permissions=permissions_of(roles),
    )


def _organisation(claims: Mapping[str, Any], settings: Settings) -> str:
    if settings.oidc_organisation_claim is None:
        return settings.organisation
    named = _claim(claims, settings.oidc_organisation_claim)
    if not isinstance(named, str) or not 1 <= len(named) <= 80 or not named.isprintable():
        raise DeniedError("organisation")
    if settings.oidc_organisations:
        if named not in settings.oidc_organisations:
            raise DeniedError("organisation")
        return settings.oidc_organisations[named]
    return named


def _claim(claims: Mapping[str, Any], path: str) -> object:
    """A claim by its name, which may itself hold dots (``https://example.org/roles``), or by a path into others."""
    if path in claims:
        return claims[path]
    found: object = claims
    for part in path.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def _names(value: object) -> list[str]:
    if isinstance(value, str):
        return value.replace(",", " ").split()
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []
