"""SendGrid's statistics, asked with its own client: the whole account, and each of its categories, by day.

Category ``''`` is the whole account. A mail of two categories counts under both, so categories overlap and are never
summed. Opens include those of privacy proxies; the event webhook tells them apart (:mod:`turnout.mail_events`).

SendGrid answers every day that is asked for: days before an account's first mail, and days without any, come as rows of
zeros, and are zeros. A metric it leaves out is unknown.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from itertools import count
from typing import Any, ClassVar, Final

from python_http_client.exceptions import HTTPError
from sendgrid import SendGridAPIClient

from ingestion.connectors.base import (
    AccessDenied,
    Check,
    Connector,
    RateLimited,
    ReadExpired,
    SourceAccount,
    SourceFault,
    TooMuchData,
    TransientError,
    Unavailable,
)
from ingestion.connectors.retry import PATIENCE_SECONDS, patiently
from ingestion.records import Record, Rejected
from turnout.credentials import SENDGRID_ACCOUNT, SendGridCredentials
from turnout.errors import ConfigurationError, Problem
from turnout.mail_events import Verifier
from turnout.personal import scrub
from turnout.settings import Settings
from turnout.warehouse.tables import EMAIL_METRICS

HOST: Final = "https://api.sendgrid.com"
#: Elements asked for at once. A page may hold fewer: what comes next is asked for until nothing new does.
PAGE: Final = 500
#: SendGrid's own limit.
CATEGORIES_PER_CALL: Final = 10
#: Scopes without which an account cannot be read, and the one for statistics of categories, which some keys of older
#: days may read without holding it.
SCOPES: Final = ("stats.read", "categories.read")
CATEGORY_STATS_SCOPE: Final = "categories.stats.read"
_CHECK_PATIENCE_SECONDS: Final = 15.0

# The client logs every request's headers, the key among them, and every body for whoever wants to debug it.
logging.getLogger("python_http_client.client").setLevel(logging.INFO)

_MetricsOf = tuple[date, str, dict[str, Any]]


class SendGridConnector(Connector):
    """One API key: its own account, or the subusers named in ``accounts``."""

    source: ClassVar[str] = "sendgrid"
    table: ClassVar[str] = "email_performance"
    max_days: ClassVar[int] = 90
    #: Thirteen months, February included: before that there are no statistics of categories, and a day is replaced
    #: as a whole.
    history_days: ClassVar[int | None] = 392

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        credentials = settings.sendgrid
        if credentials is None or credentials.api_key is None:
            raise AccessDenied("SendGrid has no API key: set TURNOUT_SENDGRID__API_KEY")
        self._credentials: SendGridCredentials = credentials
        self._key = credentials.api_key.get_secret_value()
        self._host = (credentials.base_url or HOST).rstrip("/")
        self._zone = credentials.time_zone or settings.time_zone
        self._categories: dict[str, list[str]] = {}
        self._own_name: str | None = None
        self._own_name_asked = False
        #: How long one call may be waited for, and with what.
        self.patience_seconds = PATIENCE_SECONDS
        self.sleep: Callable[[float], None] = time.sleep

    # --- accounts ------------------------------------------------------------------------------------------------
    def accounts(self) -> Sequence[SourceAccount]:
        self._scopes(None)
        if self._credentials.time_zone is None:
            self.notes.warn(
                f"time_zone_assumed: SendGrid does not say in which time zone its days are; taken for {self._zone}."
                " Set TURNOUT_SENDGRID__TIME_ZONE to the account's"
            )
        if not self._credentials.accounts:
            return [self._account(SENDGRID_ACCOUNT, self._name() or "")]
        return [self._account(name, name) for name in self._credentials.accounts]

    def _account(self, account_id: str, name: str) -> SourceAccount:
        return SourceAccount(self.source, account_id, name, time_zone=self._zone)

    def _name(self) -> str | None:
        """SendGrid's name of the key's own account, where the key may know it."""
        if not self._own_name_asked:
            self._own_name_asked = True
            try:
                answer = self._get(self._client(None).user.username, "the account's name", "user.username.read")
            except (AccessDenied, SourceFault):
                answer = None
            if isinstance(answer, dict) and isinstance(answer.get("username"), str):
                self._own_name = answer["username"]
        return self._own_name

    def _client(self, account_id: str | None) -> Any:
        """SendGrid's client; of a subuser on its behalf."""
        subuser = account_id if self._credentials.accounts else None
        if subuser is not None and subuser == self._name():
            subuser = None  # nobody acts on behalf of himself
        client = SendGridAPIClient(self._key, host=self._host, impersonate_subuser=subuser).client
        client.timeout = self._credentials.timeout_seconds
        return client

    # --- rows ----------------------------------------------------------------------------------------------------
    def rows(self, account: SourceAccount, first: date, last: date) -> Iterator[Record | Rejected]:
        client = self._client(account.account_id)
        seen: set[str] = set()
        unknown: set[str] = set()
        number = count(1)
        for day, category, metrics in self._statistics(client, account, first, last):
            seen |= metrics.keys()
            unknown |= metrics.keys() - set(EMAIL_METRICS)
            yield self._record(next(number), day, category, metrics)
        if seen and (silent := [name for name in EMAIL_METRICS if name not in seen]):
            self.notes.warn(f"fields_missing: SendGrid sends no {', '.join(silent)} any more; unknown, not zero")
        if unknown:
            self.notes.warn(f"fields_unknown: SendGrid also sends {', '.join(sorted(unknown))}; not stored")

    def _statistics(self, client: Any, account: SourceAccount, first: date, last: date) -> Iterator[_MetricsOf]:
        yield from self._series(client.stats, "statistics", SCOPES[0], first, last, [])
        known = self._known_categories(client, account.account_id)
        for start in range(0, len(known), CATEGORIES_PER_CALL):
            group = known[start : start + CATEGORIES_PER_CALL]
            yield from self._series(
                client.categories.stats, "statistics of categories", CATEGORY_STATS_SCOPE, first, last, group
            )

    def _record(self, row: int, day: date, category: str, metrics: dict[str, Any]) -> Record | Rejected:
        values: dict[str, Any] = {"date": day, "category": category}
        problems = []
        for name in EMAIL_METRICS:
            value = metrics.get(name)
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                shown = scrub(str(value))[:80]
                message = f"{name} of {day} is {shown!r}, not a whole number"
                problems.append(Problem("not_a_number", message, row=row, column=name, value=shown))
                value = None
            values[name] = value
        if problems:
            kept = {"date": day.isoformat(), "category": category}
            return Rejected(row, tuple(problems), kept, day)
        return Record(self.table, row, values)

    def _series(
        self, resource: Any, what: str, scope: str, first: date, last: date, categories: list[str]
    ) -> Iterator[_MetricsOf]:
        """All pages of daily statistics, of the account or of some categories.

        Raises:
            ReadExpired: pages overlap: what is counted moved while it was read.
        """
        query: dict[str, Any] = {
            "start_date": first.isoformat(), "end_date": last.isoformat(), "aggregated_by": "day", "limit": PAGE,
        }  # fmt: skip
        if categories:
            query["categories"] = categories
        asked = {name.casefold(): name for name in categories}
        seen: set[tuple[date, str]] = set()
        days: set[date] = set()
        while True:
            page = _elements(self._get(resource, what, scope, {**query, "offset": len(days)}), what)
            fresh = [element for element in page if _day(element, what) not in days]
            if not fresh:
                return
            if len(fresh) < len(page):
                raise ReadExpired(f"SendGrid's pages of {what} overlap: they changed while they were read")
            for element in fresh:
                day = _day(element, what)
                days.add(day)
                for name, metrics in _parts(element, asked, what):
                    if (day, name) in seen:
                        raise ReadExpired(f"SendGrid told {what} of {day} twice")
                    seen.add((day, name))
                    yield day, name, metrics
            if len(days) > (last - first).days:
                return

    def _known_categories(self, client: Any, account_id: str) -> list[str]:
        """The categories to read: those SendGrid lists, of them those configured."""
        if account_id not in self._categories:
            names: dict[str, None] = {}
            while True:
                query = {"limit": PAGE, "offset": len(names)}
                page = _elements(self._get(client.categories, "the categories", SCOPES[1], query), "the categories")
                fresh = [
                    c["category"] for c in page if isinstance(c.get("category"), str) and c["category"] not in names
                ]
                names.update(dict.fromkeys(fresh))
                if not fresh:
                    break
            wanted = self._credentials.categories
            listed = {name.casefold(): name for name in names}
            if absent := [name for name in wanted if name.casefold() not in listed]:
                self.notes.warn(f"category_unknown: SendGrid knows no category {', '.join(map(repr, absent))}")
            self._categories[account_id] = (
                [listed[n.casefold()] for n in dict.fromkeys(wanted) if n.casefold() in listed] if wanted else [*names]
            )
        return self._categories[account_id]

    # --- access --------------------------------------------------------------------------------------------------
    def confirm_access(self, account: SourceAccount) -> None:
        scopes = self._scopes(account.account_id)
        if lacking := [scope for scope in SCOPES if scope not in scopes]:
            raise AccessDenied(
                f"SendGrid gave nothing for account {account.account_id}, and the API key may not read it: add the"
                f" scopes {', '.join(lacking)}"
            )

    def _scopes(self, account_id: str | None) -> set[str]:
        answer = self._get(self._client(account_id).scopes, "the API key's scopes", "")
        scopes = answer.get("scopes") if isinstance(answer, dict) else None
        if not isinstance(scopes, list):
            raise SourceFault("SendGrid's answer about the API key's scopes has another shape than documented")
        return {str(scope) for scope in scopes}

    def check(self) -> Iterator[Check]:
        self.patience_seconds = _CHECK_PATIENCE_SECONDS
        try:
            self._scopes(None)
            accounts = self.accounts()
        except (AccessDenied, SourceFault, TransientError) as error:
            yield Check("credentials", "failed", str(error))
            return
        yield Check("credentials", "ok", f"SendGrid accepts the API key{f' of {self._name()}' if self._name() else ''}")
        for account in accounts:
            yield from self._check_account(account)
        if self._credentials.time_zone is None:
            yield Check(
                "time zone", "warning", f"not set: days are taken for {self._zone}. SendGrid's account settings show"
                " the right one; set TURNOUT_SENDGRID__TIME_ZONE",
            )  # fmt: skip
        else:
            yield Check("time zone", "ok", self._zone)
        yield from self._check_webhook()

    def _check_account(self, account: SourceAccount) -> Iterator[Check]:
        what = f"account {account.account_id}"
        try:
            scopes = self._scopes(account.account_id)
            if lacking := [scope for scope in SCOPES if scope not in scopes]:
                yield Check(
                    what, "failed", f"the API key lacks {', '.join(lacking)}: add them under Settings, API Keys"
                )
                return
            if CATEGORY_STATS_SCOPE not in scopes:
                yield Check(
                    f"{what}, scopes", "warning", f"the API key does not list {CATEGORY_STATS_SCOPE}; if statistics of"
                    " categories are refused, add it",
                )  # fmt: skip
            today = datetime.now(UTC).date()
            client = self._client(account.account_id)
            rows = sum(1 for _ in self._series(client.stats, "statistics", SCOPES[0], today, today, []))
            known = self._known_categories(client, account.account_id)
        except (AccessDenied, SourceFault, TransientError, ReadExpired, TooMuchData) as error:
            yield Check(what, "failed", str(error))
            return
        for warning in self.notes.take():
            if warning.startswith("category_unknown"):
                yield Check(f"{what}, categories", "warning", warning.partition(": ")[2])
        told = "statistics" if rows else "statistics (none today)"
        yield Check(what, "ok", f"{told} and {len(known)} categories can be read")

    def _check_webhook(self) -> Iterator[Check]:
        """The service reads these settings; whether SendGrid posts to it only SendGrid's own test button can tell."""
        credentials = self._credentials
        keys = {a: credentials.webhook_key_of(a) for a in credentials.webhook_accounts}
        if not any(keys.values()):
            yield Check(
                "event webhook", "missing", "not set up: opens of privacy proxies cannot be told apart."
                " Set TURNOUT_SENDGRID__WEBHOOK_PUBLIC_KEY to its verification key",
            )  # fmt: skip
            return
        for account, key in keys.items():
            try:
                if key is None:
                    yield Check(f"event webhook of {account}", "missing", "no verification key")
                else:
                    Verifier(key)
                    yield Check(f"event webhook of {account}", "ok", "the verification key can be read")
            except ConfigurationError as error:
                yield Check(f"event webhook of {account}", "failed", str(error))

    # --- one request -----------------------------------------------------------------------------------------------
    def _get(self, resource: Any, what: str, scope: str, query: dict[str, Any] | None = None) -> Any:
        """One GET, waited for as :func:`patiently` does.

        Args:
            resource: the client at the path to ask.
            what: what is asked for, in words.
            scope: that the key must have for it; ``''`` where any key may ask.

        Raises:
            AccessDenied, SourceFault, TooMuchData, TransientError: as base says.
        """

        def call() -> Any:
            try:
                response = resource.get(query_params=query)
            except HTTPError as error:
                raise self._meaning(error, what, scope) from None  # its text may quote the request
            except (HTTPException, OSError) as error:
                raise Unavailable(f"SendGrid cannot be reached for {what}: {self._without_key(error)}") from error
            try:
                return json.loads(response.body)
            except ValueError as error:
                raise Unavailable(f"SendGrid's answer for {what} is no JSON") from error

        return patiently(call, what=f"sendgrid {what}", patience_seconds=self.patience_seconds, sleep=self.sleep)

    def _meaning(self, error: HTTPError, what: str, scope: str) -> Exception:
        status, said = error.status_code, self._said(error)
        if status in (401, 403):
            return AccessDenied(self._denied(status, what, scope, said))
        if status == 429:
            return RateLimited(f"SendGrid takes no more calls for {what} now", _wait(error.headers))
        if status in (413, 414):
            return TooMuchData(f"SendGrid finds the range of {what} too large{said}")
        if status == 408 or status >= 500:
            return Unavailable(f"SendGrid is not able to answer for {what} now ({status})")
        return SourceFault(f"SendGrid refuses the request for {what} ({status}){said}")

    def _denied(self, status: int, what: str, scope: str, said: str) -> str:
        if status == 401:
            return (
                f"SendGrid refuses the API key{said}: make a new one under Settings, API Keys, and set"
                " TURNOUT_SENDGRID__API_KEY"
            )
        cure = f"add the scope {scope} to it" if scope else "use a key of this account"
        return (
            f"SendGrid does not let the API key read {what}{said}: {cure}; a subuser named in"
            " TURNOUT_SENDGRID__ACCOUNTS must belong to the key's account"
        )

    def _said(self, error: HTTPError) -> str:
        """SendGrid's own words about an error, in brackets, with the field it names."""
        try:
            errors = json.loads(error.body)["errors"]
            words = "; ".join(f"{e['field']}: {e['message']}" if e.get("field") else str(e["message"]) for e in errors)
        except (ValueError, KeyError, TypeError, AttributeError):
            return ""
        return f" ({self._without_key(words)})" if words else ""

    def _without_key(self, text: object) -> str:
        return scrub(str(text).replace(self._key, "…"))[:300]


def _wait(headers: Any) -> float | None:
    """Seconds until a rate limit ends, by the platform's own clock where it shows one."""
    given = headers.get("Retry-After") or headers.get("X-RateLimit-Reset")
    try:
        seconds = float(given)
    except (TypeError, ValueError):
        return None
    if seconds > 1e9:  # a moment, not a span
        now = time.time()
        if stamp := headers.get("Date"):
            with suppress(ValueError):
                now = parsedate_to_datetime(stamp).timestamp()
        seconds -= now
    return max(seconds, 1.0)


def _elements(answer: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(answer, list) or not all(isinstance(element, dict) for element in answer):
        raise SourceFault(f"SendGrid's answer about {what} has another shape than documented")
    return answer


def _day(element: dict[str, Any], what: str) -> date:
    try:
        return date.fromisoformat(element["date"])
    except (KeyError, TypeError, ValueError) as error:
        raise SourceFault(f"SendGrid's answer about {what} has a row without a day") from error


def _parts(element: dict[str, Any], asked: dict[str, str], what: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The categories of a day (``''`` is the account) with their metrics, named as they were asked for.

    Raises:
        SourceFault: another shape than documented, or a category nobody asked for.
    """
    stats = element.get("stats")
    if not isinstance(stats, list):
        raise SourceFault(f"SendGrid's answer about {what} has a day without statistics")
    for part in stats:
        metrics = part.get("metrics") if isinstance(part, dict) else None
        if not isinstance(metrics, dict):
            raise SourceFault(f"SendGrid's answer about {what} has statistics without metrics")
        name = str(part.get("name", "")) if asked else ""
        if asked and name.casefold() not in asked:
            raise SourceFault(f"SendGrid answered about the category {scrub(name)[:80]!r}, which nobody asked for")
        yield asked.get(name.casefold(), ""), metrics


CONNECTOR = SendGridConnector
