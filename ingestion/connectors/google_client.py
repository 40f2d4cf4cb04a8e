"""How Google Ads is asked: tokens, the gRPC channel, one request at a time, and what each refusal means.

The library's generated clients and its own interceptors are used; three things are done here instead of by its
``GoogleAdsClient``:

* The access token is fetched before a request, not by gRPC within it: a refused refresh token is then told as what it
  is, and a token that was revoked or ran out while reading is renewed once. The same goes for a plain-text channel to
  another address, to which gRPC itself would attach no token.
* The library's request log is left out, and its token log filtered. They would write headers and answers.
* Every request has a deadline. The library sets none and repeats nothing, so that
  :func:`~ingestion.connectors.retry.patiently` is the only one who waits.

Importing the library takes a second; it happens with the first request.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from ingestion.connectors.base import AccessDenied, RateLimited, ReadExpired, SourceFault, TooMuchData, Unavailable
from ingestion.connectors.retry import PATIENCE_SECONDS, patiently
from turnout.credentials import GoogleAdsCredentials

T = TypeVar("T")

#: The newest version the installed library speaks. Google ends a version about a year after it came out.
API_VERSION: Final = "v26"
DEFAULT_HOST: Final = "googleads.googleapis.com"
DEFAULT_TOKEN_URL: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
SCOPE: Final = "https://www.googleapis.com/auth/adwords"
#: An answer of more rows is not kept in memory; the range is halved.
MOST_ROWS: Final = 100_000
#: Paged lists are read again from their start when their page token died, so often.
_LIST_ATTEMPTS = 3
#: The library's own sizes. Errors travel in the metadata.
_CHANNEL_OPTIONS = (
    ("grpc.max_metadata_size", 16 * 1024 * 1024),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)
#: What Google's documentation asks to wait where the error itself says nothing.
_QUOTA_WAITS: Mapping[str, float] = {
    "EXCESSIVE_SHORT_TERM_QUERY_RESOURCE_CONSUMPTION": 300.0,
    "EXCESSIVE_LONG_TERM_QUERY_RESOURCE_CONSUMPTION": 1800.0,
}
_STATED_WAIT = re.compile(r"retry in (\d+(?:\.\d+)?) ?s", re.IGNORECASE)
_FIELD = re.compile(r"\b[a-z_]+(?:\.[a-z_0-9]+)+\b")

#: Errors of whole groups that mean "you may not", and what to do about them.
_DENIALS: Mapping[str, str] = {
    "authentication_error": "consent again with a Google user that may read the account and store its refresh_token",
    "authorization_error": "check the user's access to the account and the developer token in the API Center",
    "header_error": "login_customer_id must be the ten digits of a manager account of this user",
    "customer_error": "finish setting the account up in Google Ads",
}
_ADVICE: Mapping[str, str] = {
    "CUSTOMER_NOT_FOUND": "there is no such account; correct its id in accounts",
    "NOT_ADS_USER": "the Google user has no Google Ads account; consent with one that has",
    "DEVELOPER_TOKEN_INVALID": "copy developer_token anew from the manager account's API Center",
    "USER_PERMISSION_DENIED": (
        "give the Google user read access to the account, or set login_customer_id to the manager account through "
        "which it is reached"
    ),
    "INVALID_LOGIN_CUSTOMER_ID_SERVING_CUSTOMER_ID_COMBINATION": (
        "the account is not under the manager account of login_customer_id; correct one of them"
    ),
    "CUSTOMER_NOT_ENABLED": "the account is cancelled or not set up yet; reactivate it or take it out of accounts",
    "DEVELOPER_TOKEN_NOT_APPROVED": "the developer token is for test accounts only; apply for Basic access",
    "DEVELOPER_TOKEN_NOT_ON_ALLOWLIST": "the developer token may not use this; apply for Basic access",
    "DEVELOPER_TOKEN_PROHIBITED": "the developer token belongs to another Google Cloud project; use that one's client",
    "PROJECT_DISABLED": "enable the Google Ads API in the Google Cloud project of client_id",
    "CLOUD_PROJECT_NOT_APPROVED_FOR_PRODUCTION": "apply for production access for the Google Cloud project",
    "TWO_STEP_VERIFICATION_NOT_ENROLLED": "turn on two-step verification for the Google user and consent again",
    "MISSING_TOS": "accept the API's terms in the manager account's API Center",
    "INVALID_CUSTOMER_ID": "an account's id is ten digits; correct it in accounts",
    "LOGIN_CUSTOMER_ID_PARAMETER_MISSING": "set login_customer_id",
    "DEVELOPER_TOKEN_PARAMETER_MISSING": "set developer_token",
    "CLOUD_PROJECT_NOT_FOUND": "client_id belongs to no Google Cloud project; make a new OAuth client",
    "ACCESS_PROHIBITED": "Google closed the API for this developer token; see the API Center",
    "REQUESTED_METRICS_FOR_MANAGER": (
        "it is a manager account and has no figures of its own; name its client accounts in accounts, or set it as "
        "login_customer_id and leave accounts empty"
    ),
}
#: Errors of other groups that are denials too.
_DENIAL_CODES = frozenset({
    "request_error.INVALID_CUSTOMER_ID", "request_error.LOGIN_CUSTOMER_ID_PARAMETER_MISSING",
    "request_error.DEVELOPER_TOKEN_PARAMETER_MISSING", "request_error.CLOUD_PROJECT_NOT_FOUND",
    "quota_error.ACCESS_PROHIBITED", "query_error.REQUESTED_METRICS_FOR_MANAGER",
})  # fmt: skip
_STALE_PAGES = frozenset({"request_error.EXPIRED_PAGE_TOKEN", "request_error.INVALID_PAGE_TOKEN"})
_SLOW = frozenset({"internal_error.DEADLINE_EXCEEDED", "request_error.RPC_DEADLINE_TOO_SHORT"})
_STALE_TOKENS = frozenset({"authentication_error.OAUTH_TOKEN_EXPIRED", "authentication_error.OAUTH_TOKEN_INVALID"})
#: gRPC's own codes for what may pass.
_PASSING = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "ABORTED", "CANCELLED", "DATA_LOSS"})


class _TokenRefused(AccessDenied):
    """The access token was not accepted; a new one may be."""


class _TookTooLong(Unavailable):
    """The deadline passed, here or there."""


class GoogleClient:
    """Google Ads as one user sees it.

    Args:
        credentials: of the source.
        patience_seconds: see :func:`~ingestion.connectors.retry.patiently`.
        sleep: what waits.

    All methods raise as a connector does: see :mod:`ingestion.connectors.base`.
    """

    def __init__(
        self,
        credentials: GoogleAdsCredentials,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.credentials = credentials
        self.patience_seconds = patience_seconds
        self.sleep = sleep
        self._oauth: Any = None
        self._http: Any = None
        self._channel: Any = None
        self._services: dict[str, Any] = {}

    def close(self) -> None:
        """Close the connections. The next request would open them again."""
        if self._channel is not None:
            self._channel.close()
        if self._http is not None:
            self._http.close()
        self._channel, self._http, self._oauth, self._services = None, None, None, {}

    # -- requests ------------------------------------------------------------------------------------------------------

    def accessible_customers(self) -> list[str]:
        """Ids of the accounts the Google user was given access to directly; managers are among them."""

        def ask() -> list[str]:
            answer = self._service("customer_service", "CustomerService").list_accessible_customers(
                timeout=self.credentials.timeout_seconds, retry=None
            )
            return [name.rsplit("/", 1)[-1] for name in answer.resource_names]

        return self._patiently(ask, what="google_ads accessible customers")

    def search(self, customer_id: str, query: str, read: Callable[[Any], T], *, login: str | None = None) -> list[T]:
        """A short list, by pages: Google stops serving the later pages of a list read too slowly.

        Args:
            query: in Google Ads Query Language.
            read: makes a result of a ``GoogleAdsRow`` (protobuf).
            login: manager account through which ``customer_id`` is read.

        Raises:
            Unavailable: page tokens died each time.
        """

        def ask() -> list[T]:
            pager = self._service("google_ads_service", "GoogleAdsService").search(
                customer_id=customer_id, query=query,
                timeout=self.credentials.timeout_seconds, retry=None, metadata=_through(login),
            )  # fmt: skip
            return [read(row) for row in pager]

        for attempt in range(1, _LIST_ATTEMPTS + 1):
            try:
                return self._patiently(ask, what="google_ads search")
            except ReadExpired as error:
                expired = f"the list went stale {attempt} times while it was read: {error}"
        raise Unavailable(expired)

    def stream(
        self,
        customer_id: str,
        query: str,
        read: Callable[[Any], T],
        *,
        login: str | None = None,
        divisible: bool,
        with_total: bool = False,
    ) -> tuple[list[T], Any]:
        """A report in one answer.

        Args:
            query, read, login: as in :meth:`search`.
            divisible: whether less can be asked for, so that a shorter range is the answer to one that takes too long.
            with_total: ask for Google's own sums too.

        Returns:
            What ``read`` made of the rows, and the row of sums (``None`` unless asked for and given).

        Raises:
            TooMuchData: more than :data:`MOST_ROWS` rows, an answer larger than the channel takes, or one that was
                still arriving when its time was up.
        """
        setting = "SUMMARY_ROW_WITH_RESULTS" if with_total else "NO_SUMMARY_ROW"

        def ask() -> tuple[list[T], Any]:
            rows: list[T] = []
            total = None
            try:
                batches = self._service("google_ads_service", "GoogleAdsService").search_stream(
                    request={"customer_id": customer_id, "query": query, "summary_row_setting": setting},
                    timeout=self.credentials.timeout_seconds, retry=None, metadata=_through(login),
                )  # fmt: skip
                for batch in batches:
                    rows.extend(read(row) for row in batch.results)
                    if batch.HasField("summary_row"):
                        total = batch.summary_row
                    if divisible and len(rows) > MOST_ROWS:
                        batches.cancel()
                        raise TooMuchData(f"more than {MOST_ROWS:,} rows")
            except self._expected_errors() as error:
                fault = self._translated(error)
                if divisible and isinstance(fault, _TookTooLong) and (rows or not _is_ours(error)):
                    raise TooMuchData(str(fault)) from None
                raise fault from None
            return rows, total

        return self._patiently(ask, what="google_ads stream")

    def renew_token(self) -> None:
        """Fetch an access token.

        Raises:
            AccessDenied: Google does not accept the refresh token or the key file.
            Unavailable: the token server does not answer.
        """
        patiently(
            self._renew, what="google_ads token", patience_seconds=self.patience_seconds, sleep=self.sleep
        )  # fmt: skip

    def _patiently(self, ask: Callable[[], T], *, what: str) -> T:
        def once() -> T:
            if self._oauth is None or not self._oauth.valid:
                self._renew()
            try:
                return ask()
            except self._expected_errors() as error:
                raise self._translated(error) from None

        def with_a_new_token_if_need_be() -> T:
            try:
                return once()
            except _TokenRefused:
                self._renew()
                return once()

        return patiently(
            with_a_new_token_if_need_be, what=what, patience_seconds=self.patience_seconds, sleep=self.sleep
        )

    # -- tokens --------------------------------------------------------------------------------------------------------

    def missing(self) -> list[str]:
        """Settings without which there is no token."""
        own = self.credentials
        if own.service_account_file:
            return []
        return [name for name in ("client_id", "client_secret", "refresh_token") if not getattr(own, name)]

    def _renew(self) -> None:
        import requests
        from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
        from google.auth.transport.requests import Request

        if self._http is None:
            logging.getLogger("google.auth.transport.requests").addFilter(_without_bodies)
            self._http = requests.Session()
        if self._oauth is None:
            self._oauth = self._grant()
        try:
            self._oauth.refresh(partial(Request(self._http), timeout=self.credentials.timeout_seconds))
        except TransportError as error:
            raise Unavailable(f"Google's token server does not answer: {self._clean(error)}") from None
        except GoogleAuthError as error:
            if getattr(error, "retryable", False):
                raise Unavailable(f"Google's token server does not answer: {self._clean(error)}") from None
            said = error.args[0] if isinstance(error, RefreshError) and error.args else error
            raise AccessDenied(
                f"Google refuses the {'key file' if self.credentials.service_account_file else 'refresh token'}: "
                f"{self._clean(said)}; {_DENIALS['authentication_error']}. A client in test mode has tokens of 7 days"
            ) from None

    def _grant(self) -> Any:
        from google.auth.exceptions import GoogleAuthError
        from google.oauth2 import credentials as user
        from google.oauth2 import service_account

        if missing := self.missing():
            raise AccessDenied(
                f"Google Ads needs {', '.join(missing)} (or service_account_file) beside the developer token"
            )
        own = self.credentials
        if own.service_account_file:
            try:
                grant = service_account.Credentials.from_service_account_file(own.service_account_file, scopes=[SCOPE])
            except (OSError, ValueError, GoogleAuthError) as error:
                raise AccessDenied(
                    f"the key file of service_account_file cannot be used: {self._clean(error)}"
                ) from None
            return grant.with_token_uri(own.token_url) if own.token_url else grant
        assert own.client_secret is not None
        assert own.refresh_token is not None
        return user.Credentials(
            None,
            refresh_token=own.refresh_token.get_secret_value(),
            token_uri=own.token_url or DEFAULT_TOKEN_URL,
            client_id=own.client_id,
            client_secret=own.client_secret.get_secret_value(),
        )

    # -- channel -------------------------------------------------------------------------------------------------------

    def _service(self, module: str, name: str) -> Any:
        """A generated client of the library on the one channel."""
        if name not in self._services:
            from importlib import import_module

            if self._channel is None:
                self._channel = self._open()
            found = import_module(f"google.ads.googleads.{API_VERSION}.services.services.{module}")
            client = getattr(found, f"{name}Client")
            self._services[name] = client(transport=client.get_transport_class("grpc")(channel=self._channel))
        return self._services[name]

    def _open(self) -> Any:
        import grpc
        from google.ads.googleads.interceptors import ExceptionInterceptor, Interceptor, MetadataInterceptor

        address = urlsplit(self.credentials.base_url or f"https://{DEFAULT_HOST}")
        if address.path.strip("/") or address.hostname is None:
            raise AccessDenied(
                f"base_url {self.credentials.base_url!r} must be scheme, host and port: gRPC has no paths"
            )
        host = f"[{address.hostname}]" if ":" in address.hostname else address.hostname
        if address.scheme == "http":
            channel = grpc.insecure_channel(f"{host}:{address.port or 80}", options=_CHANNEL_OPTIONS)
        else:
            channel = grpc.secure_channel(
                f"{host}:{address.port or 443}", grpc.ssl_channel_credentials(), options=_CHANNEL_OPTIONS
            )
        client = self

        class Authorization(Interceptor, grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[misc]
            """Adds the token innermost, where no other interceptor sees, or could log, it."""

            def __init__(self) -> None:
                super().__init__(API_VERSION)

            def _call(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
                metadata = [*(details.metadata or ()), ("authorization", f"Bearer {client._oauth.token}")]
                return continuation(
                    self.get_client_call_details_instance(
                        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
                    ),
                    request,
                )

            intercept_unary_unary = _call
            intercept_unary_stream = _call

        return grpc.intercept_channel(
            channel,
            MetadataInterceptor(developer_token=self.credentials.developer_token.get_secret_value()),
            ExceptionInterceptor(API_VERSION, use_proto_plus=False),
            Authorization(),
        )

    # -- refusals ------------------------------------------------------------------------------------------------------

    @staticmethod
    def _expected_errors() -> tuple[type[Exception], ...]:
        import grpc
        from google.ads.googleads.errors import GoogleAdsException
        from google.api_core.exceptions import GoogleAPICallError

        return GoogleAdsException, GoogleAPICallError, grpc.RpcError

    def _translated(self, error: Exception) -> Exception:
        """What a refusal means, without any secret that it may repeat."""
        if (fault := next(_faults(error), None)) is not None:
            return self._of_fault(*fault)
        code, details = _status(error)
        said = f"Google Ads ({code}): {self._clean(details)}"
        meaning: Exception
        if code == "RESOURCE_EXHAUSTED":
            # gRPC says the same where an answer is larger than the channel takes.
            meaning = TooMuchData(said) if "larger than max" in details else RateLimited(said, _wait_of(error, details))
        elif code == "UNAUTHENTICATED":
            meaning = _TokenRefused(f"{said}; {_DENIALS['authentication_error']}")
        elif code == "PERMISSION_DENIED":
            meaning = AccessDenied(f"{said}; {_DENIALS['authorization_error']}")
        elif code == "DEADLINE_EXCEEDED":
            meaning = _TookTooLong(f"{said} (timeout_seconds is {self.credentials.timeout_seconds:g})")
        elif code == "UNIMPLEMENTED":
            meaning = SourceFault(f"{said}; Google Ads {API_VERSION} is not offered there: update Turnout")
        else:
            meaning = Unavailable(said) if code in _PASSING else SourceFault(said)
        return meaning

    def _of_fault(self, code: str, message: str, wait: float | None, place: str) -> Exception:
        """The meaning of one error of Google's own list, e.g. ``quota_error.RESOURCE_EXHAUSTED``."""
        group, _, name = code.partition(".")
        said = f"Google Ads ({name}): {self._clean(message)}"
        meaning: Exception
        if code in _STALE_PAGES:
            meaning = ReadExpired(said)
        elif group in _DENIALS or code in _DENIAL_CODES:
            kind = _TokenRefused if code in _STALE_TOKENS else AccessDenied
            meaning = kind(f"{said} {_sentence(_ADVICE.get(name) or _DENIALS[group])}")
        elif group == "quota_error":
            meaning = RateLimited(said, wait if wait is not None else _QUOTA_WAITS.get(name))
        elif code in _SLOW:
            meaning = _TookTooLong(said)
        elif group == "internal_error":
            meaning = Unavailable(said)
        elif code == "query_error.DATE_RANGE_TOO_WIDE":
            meaning = TooMuchData(said)
        elif group == "query_error":
            named = ", ".join(dict.fromkeys(_FIELD.findall(message))) or self._clean(place) or "a field of the query"
            meaning = SourceFault(f"Google Ads no longer answers for {named}: {said} Update Turnout")
        elif name == "UNSUPPORTED_VERSION":
            meaning = SourceFault(f"{said} Google ended {API_VERSION} of its API: update Turnout")
        else:
            meaning = SourceFault(said)
        return meaning

    def _clean(self, said: object) -> str:
        own = self.credentials
        secrets = [s.get_secret_value() for s in (own.developer_token, own.client_secret, own.refresh_token) if s]
        if self._oauth is not None and self._oauth.token:
            secrets.append(self._oauth.token)
        text = str(said)
        for secret in secrets:
            text = text.replace(secret, "***") if secret else text
        return text


def _without_bodies(record: logging.LogRecord) -> bool:
    """Keeps what a token server answered out of the logs; it may repeat what it was asked."""
    return not (hasattr(record, "httpRequest") or hasattr(record, "httpResponse"))


def _sentence(advice: str) -> str:
    return f"{advice[0].upper()}{advice[1:]}"


def _through(login: str | None) -> Sequence[tuple[str, str]]:
    return (("login-customer-id", login),) if login else ()


def _faults(error: Exception) -> Iterator[tuple[str, str, float | None, str]]:
    """Google's own errors in a refusal: code, message, seconds to wait, what they are about.

    The library hands them over ready-made, except where a status may pass: then they are in the trailing metadata.
    """
    from importlib import import_module

    failures = import_module(f"google.ads.googleads.{API_VERSION}.errors.types.errors").GoogleAdsFailure
    found = getattr(error, "failure", None)
    if found is None:
        call = getattr(error, "response", None) or error
        trailing = call.trailing_metadata() if hasattr(call, "trailing_metadata") else None
        key = f"google.ads.googleads.{API_VERSION}.errors.googleadsfailure-bin"
        for name, value in trailing or ():
            if name == key:
                found = failures.deserialize(value)
    if found is None:
        return
    for one in failures.pb(found).errors:
        group = one.error_code.WhichOneof("error_code")
        if group is None:
            continue
        number = getattr(one.error_code, group)
        known = one.error_code.DESCRIPTOR.fields_by_name[group].enum_type.values_by_number.get(number)
        quota = one.details.quota_error_details
        wait = quota.retry_delay.ToTimedelta().total_seconds() if quota.HasField("retry_delay") else None
        place = ".".join(part.field_name for part in one.location.field_path_elements) or one.trigger.string_value
        yield f"{group}.{known.name if known else number}", one.message, wait or _stated(one.message), place


def _status(error: Any) -> tuple[str, str]:
    """gRPC's own code and words."""
    call = getattr(error, "response", None) or getattr(error, "error", None) or error
    code = call.code() if callable(getattr(call, "code", None)) else None
    details = call.details() if callable(getattr(call, "details", None)) else None
    return code.name if code is not None else "UNKNOWN", details or str(error)


def _is_ours(error: Any) -> bool:
    """Whether it was this side's clock that ran out."""
    return next(_faults(error), None) is None


def _wait_of(error: Any, details: str) -> float | None:
    """Seconds a status asks to wait: in its details, or in words."""
    stated = getattr(error, "details", ())
    for detail in () if callable(stated) else stated:
        if hasattr(detail, "retry_delay"):
            return float(detail.retry_delay.ToTimedelta().total_seconds()) or None
    return _stated(details)


def _stated(message: str) -> float | None:
    found = _STATED_WAIT.search(message)
    return float(found.group(1)) if found else None
