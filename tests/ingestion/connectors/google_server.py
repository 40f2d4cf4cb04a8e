"""A Google Ads of its own: a gRPC server with the library's messages that plays scripted answers, and a token server.

What is not scripted is answered from :attr:`GoogleServer.customers`, so that a test says only what it is about. Calls
without a token that the token server gave out, or without the developer token, are refused as Google refuses them.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import grpc
from google.ads.googleads.v26.errors.types.errors import GoogleAdsFailure
from google.ads.googleads.v26.services.types.customer_service import (
    ListAccessibleCustomersRequest,
    ListAccessibleCustomersResponse,
)
from google.ads.googleads.v26.services.types.google_ads_service import (
    SearchGoogleAdsRequest,
    SearchGoogleAdsResponse,
    SearchGoogleAdsStreamRequest,
    SearchGoogleAdsStreamResponse,
)

SHAPES = Path(__file__).parents[2] / "data" / "api_shapes"
DEVELOPER_TOKEN = "developer-token-XYZZY"
REFRESH_TOKEN = "1//refresh-token-PLUGH"
CLIENT_SECRET = "client-secret-FROTZ"
FAILURE_KEY = "google.ads.googleads.v26.errors.googleadsfailure-bin"


def shape(name: str) -> Any:
    """A recorded answer."""
    return json.loads((SHAPES / f"{name}.json").read_text(encoding="utf-8"))


def stream_batches(name: str) -> list[SearchGoogleAdsStreamResponse]:
    """A recorded answer of SearchStream, batch by batch."""
    return [batch(**one) for one in shape(name)]


def batch(**fields: Any) -> SearchGoogleAdsStreamResponse:
    """One message of SearchStream, in the JSON of the REST interface."""
    return SearchGoogleAdsStreamResponse.from_json(json.dumps(fields))


def page(**fields: Any) -> SearchGoogleAdsResponse:
    """One page of Search."""
    return SearchGoogleAdsResponse.from_json(json.dumps(fields))


def campaign_day(
    campaign: int = 11, day: str = "2026-05-01", name: str = "EV-1 Spring", **metrics: Any
) -> dict[str, Any]:
    """A row of the campaign report; ``metrics`` are those of the JSON, e.g. ``costMicros``."""
    return {
        "customer": {"currencyCode": "JPY"},
        "campaign": {"id": str(campaign), "name": name, "advertisingChannelType": "SEARCH"},
        "segments": {"date": day},
        "metrics": metrics,
    }


def converted(category: str, conversions: float, campaign: int = 11, day: str = "2026-05-01") -> dict[str, Any]:
    """A row of the report by conversion category."""
    return {
        "campaign": {"id": str(campaign)},
        "segments": {"date": day, "conversionActionCategory": category},
        "metrics": {"conversions": conversions},
    }


def action(category: str) -> dict[str, Any]:
    """A conversion action that counts."""
    return {"conversionAction": {"id": "1", "category": category, "includeInConversionsMetric": True}}


@dataclass(frozen=True)
class Refuse:
    """Ends a call with an error of Google's."""

    code: grpc.StatusCode
    errors: Sequence[dict[str, Any]] = ()
    message: str = "refused"

    @classmethod
    def of(cls, error: str, message: str = "No.", **fields: Any) -> Refuse:
        """An error by its name, e.g. ``query_error.UNRECOGNIZED_FIELD``, in the status that Google gives it."""
        group, name = error.split(".")
        status = {
            "quota_error": grpc.StatusCode.RESOURCE_EXHAUSTED,
            "authentication_error": grpc.StatusCode.UNAUTHENTICATED,
            "authorization_error": grpc.StatusCode.PERMISSION_DENIED,
            "internal_error": grpc.StatusCode.INTERNAL,
        }.get(group, grpc.StatusCode.INVALID_ARGUMENT)
        return cls(status, [{"errorCode": {group: name}, "message": message, **fields}])

    @classmethod
    def shape(cls, name: str) -> Refuse:
        """A recorded error."""
        error = shape(name)["error"]
        return cls(grpc.StatusCode[error["status"]], error["details"][0]["errors"], error["message"])


@dataclass(frozen=True)
class Wait:
    """Says nothing for a while."""

    seconds: float


@dataclass(frozen=True)
class Cut:
    """Breaks every connection."""


@dataclass(frozen=True)
class RevokeTokens:
    """From here on no token given out before counts."""


@dataclass
class Asked:
    """One call as it arrived."""

    kind: str
    customer_id: str
    query: str
    metadata: dict[str, str]
    page_token: str = ""


@dataclass
class Customer:
    """An account; ``clients`` are those below a manager."""

    name: str = "Events KK"
    currency: str = "JPY"
    zone: str = "Asia/Tokyo"
    manager: bool = False
    test: bool = False
    clients: dict[str, dict[str, Any]] = field(default_factory=dict)


def kind_of(query: str) -> str:
    """What a query is after."""
    resource = re.search(r" FROM (\w+)", query)
    assert resource is not None, query
    return {
        "campaign": "conversions" if "conversion_action_category" in query else "performance",
        "customer": "probe" if "metrics" in query else "customer",
        "customer_client": "clients",
        "conversion_action": "actions",
    }[resource.group(1)]


class GoogleServer:
    """Use as a context manager.

    Attributes:
        url, token_url: where to re-base a connector to.
        customers: id → account; those are also what the user sees directly, unless ``accessible`` is set.
        asked: every call, oldest first.
        tokens: access tokens given out, newest last.
    """

    def __init__(self, certificate: tuple[bytes, bytes] | None = None) -> None:
        self.customers: dict[str, Customer] = {"1112223333": Customer()}
        self.accessible: list[str] | None = None
        self.asked: list[Asked] = []
        self.token_server = TokenServer()
        self._scripts: dict[tuple[str, str | None], list[list[Any]]] = {}
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(4), handlers=(_Handlers(self),))
        if certificate is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            port = self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([certificate]))
        self._wire = Wire(port)
        self.url = f"{'http' if certificate is None else 'https'}://localhost:{self._wire.port}"
        self.token_url = self.token_server.url

    def __enter__(self) -> GoogleServer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()
        self._server.stop(None).wait()
        self.token_server.close()

    def script(self, kind: str, *plays: Sequence[Any], customer: str | None = None) -> None:
        """Answer calls of a kind with one play after the other; the last one is played for ever.

        Each play is a sequence of messages, :class:`Refuse`, :class:`Wait`, :class:`Cut` and :class:`RevokeTokens`.
        """
        self._scripts[kind, customer] = [list(play) for play in plays]

    def calls(self, kind: str) -> list[Asked]:
        """The calls of a kind."""
        return [one for one in self.asked if one.kind == kind]

    # -- what the handlers ask -----------------------------------------------------------------------------------------

    def play(self, asked: Asked, context: grpc.ServicerContext) -> Iterator[Any]:
        """The answer to a call, message by message."""
        self.asked.append(asked)
        self._admit(asked, context)
        with self._lock:
            plays = self._scripts.get((asked.kind, asked.customer_id)) or self._scripts.get((asked.kind, None))
            steps = None if plays is None else plays.pop(0) if len(plays) > 1 else plays[0]
        for step in self._answer(asked, context) if steps is None else steps:
            if isinstance(step, Refuse):
                self._refuse(context, step)
            elif isinstance(step, Wait):
                time.sleep(step.seconds)
            elif isinstance(step, Cut):
                time.sleep(0.1)  # what was said before arrives
                self._wire.cut()
            elif isinstance(step, RevokeTokens):
                self.token_server.revoke()
            else:
                yield step

    def _admit(self, asked: Asked, context: grpc.ServicerContext) -> None:
        if asked.metadata.get("developer-token") != DEVELOPER_TOKEN:
            self._refuse(context, Refuse.of("authentication_error.DEVELOPER_TOKEN_INVALID", "Not a developer token."))
        token = asked.metadata.get("authorization", "").removeprefix("Bearer ")
        if token not in self.token_server.valid:
            self._refuse(context, Refuse.of("authentication_error.OAUTH_TOKEN_EXPIRED", "The token has expired."))

    def _refuse(self, context: grpc.ServicerContext, refusal: Refuse) -> None:
        if refusal.errors:
            failure = GoogleAdsFailure.from_json(json.dumps({"errors": list(refusal.errors)}))
            context.set_trailing_metadata(((FAILURE_KEY, GoogleAdsFailure.serialize(failure)), ("request-id", "r-1")))
        context.abort(refusal.code, refusal.message)

    def _answer(self, asked: Asked, context: grpc.ServicerContext) -> list[Any]:
        known = self.customers.get(asked.customer_id)
        if asked.kind == "accessible":
            names = self.customers if self.accessible is None else self.accessible
            return [ListAccessibleCustomersResponse(resource_names=[f"customers/{c}" for c in names])]
        if known is None:
            return [Refuse.of("authorization_error.USER_PERMISSION_DENIED", "The caller has no permission.")]
        if known.manager and asked.kind in ("performance", "conversions", "probe"):
            return [Refuse.of("query_error.REQUESTED_METRICS_FOR_MANAGER", "Metrics of a manager.")]
        if asked.kind in ("performance", "conversions"):
            return [batch(results=[], requestId="r-1")]
        return [page(results=self._list(asked, known))]

    def _list(self, asked: Asked, known: Customer) -> list[dict[str, Any]]:
        own = {
            "id": asked.customer_id, "descriptiveName": known.name, "currencyCode": known.currency,
            "timeZone": known.zone, "manager": known.manager, "testAccount": known.test,
        }  # fmt: skip
        if asked.kind == "customer":
            return [{"customer": own}]
        if asked.kind == "clients":
            return [
                {"customerClient": {"id": c, "currencyCode": "JPY", "timeZone": "Asia/Tokyo", "status": "ENABLED"} | d}
                for c, d in known.clients.items()
            ]
        return []


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, server: GoogleServer) -> None:
        self.server = server

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        service, _, method = call.method.removeprefix("/google.ads.googleads.v26.services.").partition("/")
        metadata = {name: value for name, value in call.invocation_metadata if isinstance(value, str)}

        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            asked = Asked(kind_of(request.query), request.customer_id, request.query, metadata)
            yield from self.server.play(asked, context)

        def search(request: Any, context: grpc.ServicerContext) -> Any:
            asked = Asked(kind_of(request.query), request.customer_id, request.query, metadata, request.page_token)
            return list(self.server.play(asked, context))[-1]

        def accessible(request: Any, context: grpc.ServicerContext) -> Any:
            return list(self.server.play(Asked("accessible", "", "", metadata), context))[-1]

        return {
            ("GoogleAdsService", "SearchStream"): grpc.unary_stream_rpc_method_handler(
                stream, SearchGoogleAdsStreamRequest.deserialize, SearchGoogleAdsStreamResponse.serialize
            ),
            ("GoogleAdsService", "Search"): grpc.unary_unary_rpc_method_handler(
                search, SearchGoogleAdsRequest.deserialize, SearchGoogleAdsResponse.serialize
            ),
            ("CustomerService", "ListAccessibleCustomers"): grpc.unary_unary_rpc_method_handler(
                accessible, ListAccessibleCustomersRequest.deserialize, ListAccessibleCustomersResponse.serialize
            ),
        }.get((service, method))


class Wire:
    """A TCP relay before the server, so that connections can be broken."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(one, other), daemon=True).start()

    @staticmethod
    def _relay(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Break every connection there is."""
        cut, self._open = self._open, []
        for one in cut:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        """Take no further connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


class TokenServer:
    """Google's OAuth server.

    Attributes:
        answers: (status, body) to give before the usual ones.
        asked: the forms posted.
        valid: tokens that count.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, Any]]] = []
        self.asked: list[dict[str, str]] = []
        self.given: list[str] = []
        self.valid: set[str] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                status, body = outer.answer({k: v[0] for k, v in form.items()})
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Nothing: the tests read the records."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/token"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """The next scripted answer, or what Google says to these credentials."""
        self.asked.append(form)
        if self.answers:
            return self.answers.pop(0)
        if form.get("grant_type") == "refresh_token" and form.get("refresh_token") != REFRESH_TOKEN:
            return 400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
        token = f"ya29.access-token-{len(self.given)}"
        self.given.append(token)
        self.valid.add(token)
        return 200, {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}

    def revoke(self) -> None:
        """No token given out so far counts any more."""
        self.valid.clear()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
