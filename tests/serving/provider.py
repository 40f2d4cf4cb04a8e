"""A real OpenID provider on loopback: discovery, key set, authorisation code flow; and forgeries with its key."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import flask
import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import oidc_provider_mock
    from authlib import jose
    from oidc_provider_mock._server import _threaded_server

CLIENT = "turnout-client"
_REDIRECT = "http://localhost/callback"


class Provider:
    """A running provider.

    Attributes:
        issuer: its name and address.
        asked: paths it was asked for, in order.
    """

    def __init__(self, app: flask.Flask, issuer: str, asked: list[str]) -> None:
        self.issuer, self.asked = issuer, asked
        with app.test_request_context("/"):
            app.preprocess_request()
            self._storage = flask.g.oidc_provider_mock_storage
        self.extra: list[dict[str, Any]] = []
        asked.clear()

    def log_in(self, subject: str, **claims: object) -> str:
        """The ID token a person gets by the authorisation code flow."""
        with httpx.Client(base_url=self.issuer, trust_env=False, timeout=20) as http:
            http.put(f"/users/{subject}", json=claims).raise_for_status()
            asked = {"client_id": CLIENT, "redirect_uri": _REDIRECT, "response_type": "code", "scope": "openid"}
            answer = http.post("/oauth2/authorize", params=asked, data={"sub": subject})
            code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
            tokens = http.post(
                "/oauth2/token", auth=(CLIENT, "secret"),
                data={"grant_type": "authorization_code", "code": code, "redirect_uri": _REDIRECT},
            ).raise_for_status()  # fmt: skip
            return str(tokens.json()["id_token"])

    @property
    def key(self) -> rsa.RSAPrivateKey:
        return self._storage.jwk.get_private_key()

    @property
    def key_id(self) -> str:
        return self.key_set()["keys"][0]["kid"]

    def key_set(self) -> dict[str, Any]:
        return httpx.get(f"{self.issuer}/jwks", trust_env=False).json()

    def rotate(self) -> None:
        """Another signing key; the old one is published no more."""
        self._storage.jwk = jose.RSAKey.generate_key(is_private=True)

    def forge(self, *, key: Any = None, algorithm: str = "RS256", headers: dict[str, Any] | None = None,
              **claims: Any) -> str:  # fmt: skip
        """A token with any content, signed with the provider's key unless another is given; ``None`` drops a claim."""
        now = int(time.time())
        body = {
            "iss": self.issuer, "aud": CLIENT, "sub": "forged", "iat": now, "exp": now + 600, "roles": ["operator"],
            **claims,
        }  # fmt: skip
        return jwt.encode(
            {name: value for name, value in body.items() if value is not None}, self.key if key is None else key,
            algorithm=algorithm, headers={"kid": self.key_id, **(headers or {})},
        )  # fmt: skip


@contextmanager
def running() -> Iterator[Provider]:
    """A provider on a free port of its own."""
    app, asked = oidc_provider_mock.app(), []
    published: list[Provider] = []

    @app.before_request
    def note() -> None:
        asked.append(flask.request.path)

    @app.after_request
    def more_keys(response: flask.Response) -> flask.Response:
        if flask.request.path == "/jwks" and published and published[0].extra:
            response.set_data(flask.json.dumps({"keys": [*response.get_json()["keys"], *published[0].extra]}))
        return response

    with _threaded_server(app=app) as server:
        provider = Provider(app, f"http://localhost:{server.server_port}", asked)
        published.append(provider)
        yield provider


def ec_key(key_id: str) -> tuple[ec.EllipticCurvePrivateKey, dict[str, Any]]:
    """A key for ES256, and its public half as it is published."""
    private = ec.generate_private_key(ec.SECP256R1())
    return private, {**jwt.algorithms.ECAlgorithm.to_jwk(private.public_key(), as_dict=True), "kid": key_id}
