"""LinkedIn's adAnalytics over REST (there is no SDK for it): one row per campaign and day.

**Level.** Campaigns of the API, the level of the exports' "Campaign Name"; since October 2025 Campaign Manager shows
them as ad sets and calls their groups campaigns. The group's name is the row's ``ad_group``, as in the exports.

**What is counted.** ``conversions`` are ``externalWebsiteConversions``, the screen's "Conversions" (after a click or a
view); ``leads`` are ``oneClickLeads``, sent lead forms; ``registrations`` are ``registrations``, of LinkedIn events.
LinkedIn does not tell which website conversions or forms were registrations too, so that a zero of the last is only
known where the first two are zero as well; else it is unknown.

**Days** are UTC whatever the account says, **money** is in the account's currency, ``clicks`` are chargeable clicks.

**Limits.** adAnalytics has no pages: it leaves out silently what goes beyond 15,000 elements, and takes 20 fields a
call. More fields are asked for in several calls, whose elements are put together by campaign and day.

Sources: LinkedIn's pages on reporting, query tunneling, cursor-based pagination and versioning (2026-03 to 2026-07).
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import count
from typing import Any, ClassVar, Final, TypeVar
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from ingestion.connectors.answers import retry_after, shown
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
from turnout.credentials import LinkedInAdsCredentials
from turnout.errors import Problem
from turnout.settings import Settings

T = TypeVar("T")

HOST: Final = "https://api.linkedin.com"
OAUTH: Final = "https://www.linkedin.com/oauth/v2/accessToken"
METRICS: Final = (
    "impressions", "clicks", "costInLocalCurrency", "externalWebsiteConversions", "oneClickLeads", "registrations",
)  # fmt: skip
#: What identifies an element, asked for with every call.
_KEY_FIELDS: Final = ("dateRange", "pivotValues")
#: An answer this long may have been cut.
MAX_ELEMENTS: Final = 15_000
#: Longest query string LinkedIn reads from an address; a longer one goes into the body.
_LONGEST_QUERY: Final = 4096
_PAGE: Final = 500
#: LinkedIn keeps a version of its API for about a year.
_VERSION_MONTHS: Final = 11
_CHECK_PATIENCE_SECONDS: Final = 15.0
_ACCOUNT: Final = "urn:li:sponsoredAccount:"
_REPORTING: Final = "r_ads_reporting"
_STRUCTURE: Final = "r_ads"
_REFUSALS: Final = (AccessDenied, SourceFault, TransientError, TooMuchData, ReadExpired)


class _NotFound(SourceFault):
    """There is no such thing, or nothing of it that may be seen."""


@dataclass(frozen=True)
class _Campaign:
    name: str
    kind: str | None
    group: str | None


class LinkedInAdsConnector(Connector):
    """One member's token: the ad accounts configured, or all the member has a role in."""

    source: ClassVar[str] = "linkedin_ads"
    table: ClassVar[str] = "ad_performance"
    max_days: ClassVar[int] = 31
    #: Of the twenty fields of a call two say what the others are about.
    metrics_per_call: ClassVar[int] = 20 - len(_KEY_FIELDS)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        credentials = settings.linkedin_ads
        if credentials is None or (credentials.access_token is None and not _can_renew(credentials)):
            raise AccessDenied(
                "LinkedIn has no token: set TURNOUT_LINKEDIN_ADS__ACCESS_TOKEN, or what makes one "
                "(…__REFRESH_TOKEN, …__CLIENT_ID, …__CLIENT_SECRET)"
            )
        self._credentials: LinkedInAdsCredentials = credentials
        self._token: SecretStr | None = credentials.access_token
        self._base = (credentials.base_url or HOST).rstrip("/").removesuffix("/rest") + "/rest/"
        self._http: httpx.Client | None = None
        self._campaigns: dict[str, dict[str, _Campaign]] = {}
        #: How long one call may be waited for, and with what.
        self.patience_seconds = PATIENCE_SECONDS
        self.sleep: Callable[[float], None] = time.sleep

    # --- accounts ------------------------------------------------------------------------------------------------
    def accounts(self) -> Sequence[SourceAccount]:
        found = [self._account(item) for item in self._described()]
        if not found:
            raise AccessDenied(
                "LinkedIn shows the token's member no ad account: give the member a role (Viewer is enough) in "
                "Campaign Manager, Account settings, Manage access, and the token the scope r_ads"
            )
        return found

    def _described(self) -> Iterator[Mapping[str, Any]]:
        for name in dict.fromkeys(self._credentials.accounts):
            yield self._describe(name)
        if not self._credentials.accounts:
            try:
                yield from (a for a in self._search("adAccounts", "ad accounts") if a.get("test") is not True)
            except (TooMuchData, ReadExpired) as error:
                raise Unavailable(str(error)) from error

    def _describe(self, name: str) -> Mapping[str, Any]:
        account_id = name.removeprefix(_ACCOUNT)
        try:
            return self._get(f"adAccounts/{quote(account_id, safe='')}", "", f"account {account_id}", _STRUCTURE)
        except _NotFound as error:
            raise AccessDenied(
                f"LinkedIn knows no ad account {account_id} that the token's member may see: check the number, and "
                "give the member a role (Viewer is enough) in Campaign Manager"
            ) from error

    def _account(self, item: Mapping[str, Any]) -> SourceAccount:
        if not item.get("id"):
            raise SourceFault("LinkedIn described an ad account without its id")
        currency = item.get("currency")
        return SourceAccount(
            self.source, str(item["id"]).removeprefix(_ACCOUNT), str(item.get("name") or ""), "UTC",
            str(currency) if currency else None,
        )  # fmt: skip

    # --- rows ----------------------------------------------------------------------------------------------------
    def rows(self, account: SourceAccount, first: date, last: date) -> Iterator[Record | Rejected]:
        elements = self._analytics(account, first, last)
        if not elements:
            return
        number = count(1)
        silent = {name for name in METRICS if not any(name in e for e in elements)}
        for element in elements:
            yield self._record(next(number), element, account)
        if silent:
            self.notes.warn(
                f"fields_missing: LinkedIn sends no {', '.join(sorted(silent))} any more; unknown, not zero"
            )

    def _analytics(self, account: SourceAccount, first: date, last: date) -> list[dict[str, Any]]:
        """Every campaign's days, the metrics of all calls put together."""
        merged: dict[tuple[str, int], dict[str, Any]] = {}
        for start in range(0, len(METRICS), self.metrics_per_call):
            asked = METRICS[start : start + self.metrics_per_call]
            query = "&".join((
                "q=analytics", "pivot=CAMPAIGN", "timeGranularity=DAILY", f"dateRange={_range(first, last)}",
                f"accounts={_list(_ACCOUNT + account.account_id)}", f"fields={','.join((*asked, *_KEY_FIELDS))}",
            ))  # fmt: skip
            answer = self._get("adAnalytics", query, "adAnalytics", _REPORTING, fields=asked)
            elements = _elements(answer, "adAnalytics")
            if len(elements) >= MAX_ELEMENTS:
                raise TooMuchData(f"LinkedIn answered with {len(elements)} elements and leaves out what is beyond")
            told: Counter[str] = Counter()
            for element in elements:
                what = repr((element.get("pivotValues"), element.get("dateRange")))
                # Told twice in one call they are two, and nothing is lost.
                merged.setdefault((what, told[what]), {}).update(element)
                told[what] += 1
        return list(merged.values())

    def _record(self, row: int, element: Mapping[str, Any], account: SourceAccount) -> Record | Rejected:
        problems: list[Problem] = []

        def refuse(code: str, message: str, column: str) -> None:
            problems.append(Problem(code, message, row=row, column=column))

        def read(name: str, parse: Callable[[Any], T]) -> T | None:
            given = element.get(name)
            if given is None:
                return None
            try:
                return parse(given)
            except (ValueError, TypeError, InvalidOperation) as error:
                refuse("unreadable", f"{name} is {shown(given, self._credentials)[:80]!r}: {error}", name)
                return None

        day = self._day(element, refuse)
        pivots = element.get("pivotValues")
        urn = str(pivots[0]) if isinstance(pivots, list) and pivots else ""
        if not urn:
            refuse("missing_value", "the row has no campaign", "pivotValues")
        impressions, clicks = read("impressions", _count), read("clicks", _count)
        spend = read("costInLocalCurrency", _amount)
        conversions, leads, registrations = (
            read(name, _claim) for name in ("externalWebsiteConversions", "oneClickLeads", "registrations")
        )
        if problems:
            kept = {k: shown(v, self._credentials)[:80] for k, v in element.items() if isinstance(v, str | int | float)}
            return Rejected(row, tuple(problems), kept, day)
        campaign_id = urn.rpartition(":")[2]
        campaign = self._campaign(account, campaign_id)
        values = {
            "date": day,
            "period_end": day,
            "campaign_id": campaign_id,
            "campaign_name": campaign.name,
            "campaign_type": campaign.kind,
            "ad_group": campaign.group,
            "ad_name": None,
            "impressions": impressions,
            "clicks": clicks,
            "spend": spend,
            "currency": account.currency,
            "conversions": conversions,
            "registrations": registrations if registrations or (conversions == 0 and leads == 0) else None,
            "leads": leads,
        }
        return Record(self.table, row, values)

    @staticmethod
    def _day(element: Mapping[str, Any], refuse: Callable[[str, str, str], None]) -> date | None:
        span = element.get("dateRange") or {}
        try:
            first, last = (
                date(*(int(span[end][part]) for part in ("year", "month", "day"))) for end in ("start", "end")
            )
        except (KeyError, TypeError, ValueError):
            refuse("missing_value", "the row has no day that can be read", "dateRange")
            return None
        if first != last:
            refuse("bad_period", f"the row covers {first} to {last}, not a day", "dateRange")
        return first

    # --- names ---------------------------------------------------------------------------------------------------
    def _campaign(self, account: SourceAccount, campaign_id: str) -> _Campaign:
        """A campaign's present name, by its id: renaming one makes no second one."""
        known = self._campaigns.get(account.account_id)
        if known is None:
            known = self._campaigns[account.account_id] = self._listed(account)
        if campaign_id not in known:
            path = f"adAccounts/{account.account_id}/adCampaigns/{quote(campaign_id, safe='')}"
            try:
                known[campaign_id] = _campaign(self._get(path, "", "a campaign", _STRUCTURE), {})
            except _NotFound:
                known[campaign_id] = _Campaign(campaign_id, None, None)
                self.notes.warn(f"campaign_unknown: LinkedIn no longer tells the name of campaign {campaign_id}")
        return known[campaign_id]

    def _listed(self, account: SourceAccount) -> dict[str, _Campaign]:
        where = f"adAccounts/{account.account_id}"
        groups = {
            str(g["id"]): str(g["name"])
            for g in self._search(f"{where}/adCampaignGroups", "campaign groups")
            if g.get("id") and g.get("name")
        }
        found = self._search(f"{where}/adCampaigns", "campaigns")
        return {str(c["id"]).rpartition(":")[2]: _campaign(c, groups) for c in found if c.get("id")}

    def _search(self, path: str, what: str) -> Iterator[Mapping[str, Any]]:
        """The elements of all pages of a search.

        Raises:
            ReadExpired: the page token leads nowhere any more.
        """
        token: str | None = None
        while True:
            query = f"q=search&pageSize={_PAGE}" + (f"&pageToken={quote(token, safe='')}" if token else "")
            answer = self._get(path, query, what, _STRUCTURE)
            yield from _elements(answer, what)
            before, token = token, (answer.get("metadata") or {}).get("nextPageToken")
            if not token:
                return
            if token == before:
                raise ReadExpired(f"LinkedIn's pages of {what} lead in a circle")

    # --- access --------------------------------------------------------------------------------------------------
    def confirm_access(self, account: SourceAccount) -> None:
        self._describe(account.account_id)
        if self._role(account.account_id) is None:
            raise AccessDenied(
                f"LinkedIn gave nothing for account {account.account_id}, and the token's member has no role in it: "
                "give the member one (Viewer is enough) in Campaign Manager, Account settings, Manage access"
            )

    def _role(self, account_id: str) -> str | None:
        """The member's role in an account; ``None`` without one."""
        start = 0
        while True:
            query = f"q=authenticatedUser&start={start}&count=100"
            answer = self._get("adAccountUsers", query, "the member's roles", _STRUCTURE)
            elements = _elements(answer, "the member's roles")
            for element in elements:
                if str(element.get("account")) == _ACCOUNT + account_id:
                    return str(element.get("role") or "a role")
            start += len(elements)
            total = (answer.get("paging") or {}).get("total")
            if not elements or (start >= total if isinstance(total, int) else len(elements) < 100):
                return None

    def check(self) -> Iterator[Check]:
        self.patience_seconds = _CHECK_PATIENCE_SECONDS
        credentials = self._credentials
        yield from self._check_version()
        if not _can_renew(credentials):
            yield Check(
                "renewal", "missing", "not set up: the token ends 60 days after it was made, and a new one has to be "
                "made. Set TURNOUT_LINKEDIN_ADS__REFRESH_TOKEN, …__CLIENT_ID and …__CLIENT_SECRET",
            )  # fmt: skip
        try:
            self._get("adAccountUsers", "q=authenticatedUser&start=0&count=1", "the member's roles", _STRUCTURE)
        except _REFUSALS as error:
            yield Check("credentials", "failed", str(error))
            return
        yield Check("credentials", "ok", f"LinkedIn accepts the token (version {credentials.api_version})")
        if credentials.accounts:
            for name in dict.fromkeys(credentials.accounts):
                yield from self._check_account(name)
            return
        try:
            listed = [self._account(item) for item in self._described()]
        except _REFUSALS as error:
            yield Check("accounts", "failed", str(error))
            return
        if not listed:
            yield Check("accounts", "failed", "the member sees none: give it a role in Campaign Manager")
        for account in listed:
            yield from self._check_account(account.account_id)

    def _check_version(self) -> Iterator[Check]:
        version = self._credentials.api_version
        today = datetime.now(UTC)
        age = (today.year - int(version[:4])) * 12 + today.month - int(version[4:])
        if age >= _VERSION_MONTHS:
            yield Check(
                "version", "warning", f"{version} is {age} months old; LinkedIn ends versions after about twelve. Set "
                "TURNOUT_LINKEDIN_ADS__API_VERSION to a newer one",
            )  # fmt: skip

    def _check_account(self, name: str) -> Iterator[Check]:
        what = f"account {name}"
        try:
            item = self._describe(name)
            account = self._account(item)
            role = self._role(account.account_id)
            today = datetime.now(UTC).date()
            self._analytics(account, today, today)
        except _REFUSALS as error:
            yield Check(what, "failed", str(error))
            return
        if role is None:
            text = "the token's member has no role in it: give it one (Viewer is enough) in Campaign Manager"
            yield Check(what, "failed", text)
            return
        status = item.get("status")
        if status not in (None, "ACTIVE"):
            yield Check(what, "warning", f"{account.name}: LinkedIn calls it {status}; its history can be read")
            return
        yield Check(what, "ok", f"{account.name}: adAnalytics can be read as {role}; days in UTC, {account.currency}")

    # --- one request -----------------------------------------------------------------------------------------------
    def close(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None

    def _client(self) -> httpx.Client:
        if self._http is None:
            self._http = httpx.Client(timeout=self._credentials.timeout_seconds)
        return self._http

    def _get(self, path: str, query: str, what: str, scope: str, *, fields: Sequence[str] = ()) -> Mapping[str, Any]:
        """One GET, waited for as :func:`patiently` does.

        Args:
            query: as it goes over the wire: Rest.li wants its brackets, commas and colons plain and those of values
                encoded.
            what: what is asked for, in words.
            scope: that the token must have for it.
            fields: that are asked for, to be named if LinkedIn does not know them.

        Raises:
            AccessDenied, SourceFault, TooMuchData, ReadExpired, TransientError: as base says.
        """

        def once() -> Mapping[str, Any]:
            renewed = self._token is None
            if renewed:
                self._renew()
            response = self._send(path, query, what)
            if response.status_code == 401 and not renewed and _can_renew(self._credentials):
                self._renew()
                response = self._send(path, query, what)
            if response.status_code != 200:
                raise self._meaning(response, what, scope, fields)
            try:
                answer = response.json()
            except ValueError:
                raise Unavailable(f"LinkedIn's answer for {what} is no JSON") from None
            if not isinstance(answer, dict):
                raise Unavailable(f"LinkedIn's answer for {what} is no JSON object")
            return answer

        return patiently(once, what=f"linkedin_ads {what}", patience_seconds=self.patience_seconds, sleep=self.sleep)

    def _send(self, path: str, query: str, what: str) -> httpx.Response:
        assert self._token is not None
        headers = {
            "Authorization": f"Bearer {self._token.get_secret_value()}",
            "LinkedIn-Version": self._credentials.api_version,
            "X-Restli-Protocol-Version": "2.0.0",
        }
        url = self._base + path
        try:
            if len(query) <= _LONGEST_QUERY:
                response = self._client().get(f"{url}?{query}" if query else url, headers=headers)
                if response.status_code != 414:
                    return response
            # Query tunneling: the same request with its query in the body.
            headers |= {"X-HTTP-Method-Override": "GET", "Content-Type": "application/x-www-form-urlencoded"}
            return self._client().post(url, content=query, headers=headers)
        except httpx.HTTPError as error:
            raise Unavailable(f"LinkedIn cannot be reached for {what}: {type(error).__name__}") from None

    def _renew(self) -> None:
        """Have a new token made.

        Raises:
            AccessDenied: LinkedIn refuses what would renew it.
        """
        given = self._credentials
        assert given.refresh_token is not None
        assert given.client_secret is not None
        form = {
            "grant_type": "refresh_token",
            "refresh_token": given.refresh_token.get_secret_value(),
            "client_id": given.client_id or "",
            "client_secret": given.client_secret.get_secret_value(),
        }
        try:
            response = self._client().post(given.token_url or OAUTH, data=form)
            answer = response.json()
        except httpx.HTTPError as error:
            raise Unavailable(f"LinkedIn's OAuth server cannot be reached: {type(error).__name__}") from None
        except ValueError:
            answer = {}
        answer = answer if isinstance(answer, dict) else {}
        if response.status_code == 429:
            raise RateLimited("LinkedIn's OAuth server takes no more calls now", retry_after(response.headers))
        if 400 <= response.status_code < 500:
            said = self._say(answer.get("error_description") or answer.get("error") or response.status_code)
            raise AccessDenied(
                f"LinkedIn does not renew the token: {said}. Refresh tokens last a year; authorise the app again and "
                "set TURNOUT_LINKEDIN_ADS__REFRESH_TOKEN (and check …__CLIENT_ID, …__CLIENT_SECRET)"
            )
        if response.status_code != 200 or not answer.get("access_token"):
            raise Unavailable(f"LinkedIn's OAuth server gave no token (HTTP {response.status_code})")
        self._token = SecretStr(str(answer["access_token"]))

    def _say(self, text: object) -> str:
        line = shown(text, self._credentials)
        return line.replace(self._token.get_secret_value(), "…") if self._token else line

    def _meaning(self, response: httpx.Response, what: str, scope: str, fields: Sequence[str]) -> Exception:
        """What an answer other than 200 is to the runner."""
        status = response.status_code
        try:
            body = response.json()
        except ValueError:
            body = {}
        body = body if isinstance(body, dict) else {}
        message, service = str(body.get("message") or body.get("code") or ""), body.get("serviceErrorCode")
        text = f" (HTTP {status}{f', {service}' if service else ''}): {self._say(message)}".removesuffix(".")
        if status == 429:
            return RateLimited(f"LinkedIn takes no more calls for {what} now{text}", _wait(response.headers, message))
        if status == 408 or status >= 500:
            return Unavailable(f"LinkedIn cannot answer for {what} now{text}")
        if status in (413, 414) or "too many entities" in message.lower():
            return TooMuchData(f"LinkedIn finds the range of {what} too large{text}")
        if status in (401, 403):
            return self._denied(status, what, scope, text)
        if "pagetoken" in message.lower():
            return ReadExpired(f"LinkedIn's page of {what} is not there any more{text}")
        return self._fault(status, body, what, fields, text)

    def _fault(self, status: int, body: Mapping[str, Any], what: str, fields: Sequence[str], text: str) -> SourceFault:
        version = self._credentials.api_version
        if status == 426 or body.get("code") in ("NONEXISTENT_VERSION", "VERSION_MISSING"):
            return SourceFault(
                f"LinkedIn does not answer version {version} of its API{text}. To go on, set "
                "TURNOUT_LINKEDIN_ADS__API_VERSION to a newer one (YYYYMM)"
            )
        if status == 404:
            return _NotFound(f"LinkedIn knows no such thing as {what}{text}")
        told = f"{body.get('message') or ''} {body.get('errorDetails') or ''}"
        if unknown := [name for name in fields if re.search(rf"\b{name}\b", told)]:
            return SourceFault(
                f"version {version} of LinkedIn's API refuses the field {', '.join(unknown)}{text}; until Turnout asks "
                "without it, set TURNOUT_LINKEDIN_ADS__API_VERSION to a version that knows it"
            )
        return SourceFault(f"LinkedIn refuses the request for {what}{text}")

    def _denied(self, status: int, what: str, scope: str, text: str) -> AccessDenied:
        if status == 403:
            return AccessDenied(
                f"LinkedIn does not let the token read {what}{text}. It needs the scope {scope}, the app the "
                "Advertising API, and the token's member a role in the ad account (Viewer is enough)"
            )
        cure = "TURNOUT_LINKEDIN_ADS__ACCESS_TOKEN"
        if not _can_renew(self._credentials):
            cure += ", or …__REFRESH_TOKEN, …__CLIENT_ID and …__CLIENT_SECRET, which renew it"
        return AccessDenied(
            f"LinkedIn does not accept the token{text}. Tokens last 60 days; make a new one with the scopes "
            f"{_STRUCTURE} and {_REPORTING}, and set {cure}"
        )


def _can_renew(credentials: LinkedInAdsCredentials) -> bool:
    return bool(credentials.refresh_token and credentials.client_id and credentials.client_secret)


def _campaign(item: Mapping[str, Any], groups: Mapping[str, str]) -> _Campaign:
    kind = item.get("objectiveType") or item.get("type")
    group = str(item.get("campaignGroup") or "").rpartition(":")[2]
    return _Campaign(str(item.get("name") or item.get("id") or ""), str(kind) if kind else None, groups.get(group))


def _list(*values: str) -> str:
    """A list as Rest.li 2.0 writes it."""
    return f"List({','.join(quote(v, safe='') for v in values)})"


def _range(first: date, last: date) -> str:
    ends = (f"{name}:(year:{d.year},month:{d.month},day:{d.day})" for name, d in (("start", first), ("end", last)))
    return f"({','.join(ends)})"


def _elements(answer: Mapping[str, Any], what: str) -> list[dict[str, Any]]:
    elements = answer.get("elements")
    if not isinstance(elements, list) or not all(isinstance(e, dict) for e in elements):
        raise SourceFault(f"LinkedIn's answer about {what} has another shape than documented")
    return elements


def _amount(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError("not a number")
    number = Decimal(str(value))
    if not number.is_finite():
        raise ValueError("not a number")
    return number


def _claim(value: Any) -> Decimal:
    number = _amount(value)
    if number < 0:
        raise ValueError("negative")
    return number


def _count(value: Any) -> int:
    number = _claim(value)
    if number != number.to_integral_value():
        raise ValueError("not a count")
    return int(number)


def _wait(headers: Mapping[str, str], message: str) -> float | None:
    """Seconds until calls are taken again. LinkedIn seldom says; its limits are of a day and end at midnight UTC."""
    told = retry_after(headers)
    if told is not None or "minute" in message.lower():
        return told
    now = datetime.now(UTC)
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
    return (midnight - now).total_seconds() + 1.0


CONNECTOR = LinkedInAdsConnector
