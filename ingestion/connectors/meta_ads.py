"""Meta's insights, asked with its own SDK: one row per ad and day, as asynchronous reports.

**Level.** Ads, for an ad has one attribution setting: where a campaign's ad sets have different ones, Meta leaves the
conversions of the whole campaign out. Archived and deleted ads are asked for by name, or Meta would leave them out of
an account's ads; what the ads add up to is compared with the account's own total, day by day.

**Actions.** One registration comes under several names, of which one is taken: the ``omni_`` name, which Meta has
deduplicated over web, app and shop; else the plain one, deduplicated over pixel and server; else the channels' own
names, added up. Only ``value`` counts, the ad set's own attribution window. The list names only what happened:

* a list that does not name a kind of action says there was none of it;
* a row without the list that counts no click either had no action: zero;
* a row that counts clicks and has no list contradicts itself (each click is an action), so Meta kept the list back:
  unknown;
* registrations are unknown, not zero, where a row has none but has leads or purchases: a lead form or a sold ticket
  may well be how people register, and Meta does not tell.

**Days** are those of the ad account's time zone, **money** is in its currency. **Clicks** are link clicks, as in the
exports; clicks of all kinds include likes and opened images. Reach is not read: it does not add up over days.

Sources: Meta's pages on insights (deleted objects, action metrics, error codes) for v24.0 to v26.0.
"""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import count
from typing import Any, ClassVar, Final, TypeVar
from zoneinfo import ZoneInfo, available_timezones

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
from turnout.credentials import MetaAdsCredentials
from turnout.errors import Problem
from turnout.settings import Settings

T = TypeVar("T")

HOST: Final = "https://graph.facebook.com"
#: Rows of a page of results; Meta gives fewer where they are long.
PAGE: Final = 500
FIELDS: Final = (
    "account_currency", "campaign_id", "campaign_name", "objective", "adset_name", "ad_id", "ad_name",
    "impressions", "clicks", "inline_link_clicks", "spend", "actions",
)  # fmt: skip
ACCOUNT_FIELDS: Final = "account_id,name,currency,timezone_name,timezone_offset_hours_utc,account_status"

#: The names of one kind of action, best first. A name's channels are added; a channel's own names are alternatives.
_Names = tuple[tuple[tuple[str, ...], ...], ...]
REGISTRATION: Final[_Names] = (
    (("omni_complete_registration",),),
    (("complete_registration",),),
    (
        ("offsite_conversion.fb_pixel_complete_registration",),
        ("app_custom_event.fb_mobile_complete_registration",),
    ),
)
LEAD: Final[_Names] = (
    (("omni_lead",),),
    (("lead",),),
    (
        ("offsite_conversion.fb_pixel_lead",),
        ("onsite_conversion.lead_grouped", "leadgen_grouped", "onsite_conversion.lead"),
    ),
)
PURCHASE: Final[_Names] = (
    (("omni_purchase",),),
    (("purchase",),),
    (
        ("offsite_conversion.fb_pixel_purchase",),
        ("onsite_conversion.purchase", "onsite_web_purchase"),
        ("app_custom_event.fb_mobile_purchase",),
    ),
)

#: Waits between looks at a report: growing, at most this.
_LONGEST_POLL_SECONDS: Final = 30.0
#: Meta says that a report may take up to an hour, its own retries included.
REPORT_DEADLINE_SECONDS: Final = 3600.0
#: A report that fails is asked for again for so long; then for fewer days.
_REPORT_PATIENCE_SECONDS: Final = 40.0
#: The ads are read; how long to wait only to compare them.
_TOTALS_PATIENCE_SECONDS: Final = 60.0
_CHECK_PATIENCE_SECONDS: Final = 15.0

_RATE_CODES: Final = frozenset({4, 17, 32, 341, 613, *range(80000, 80015)})
#: (code, subcode) of answers that are too large or take too long.
_TOO_MUCH: Final = frozenset({(100, 1487534), (100, 1504018), (2, 1504038)})
#: Combinations of fields that there are no figures for; the code alone would say "later".
_REFUSED: Final = frozenset({(2, 1504041), (2, 1504042)})
#: The report, or the place in it, is not there any more.
_STALE_CODES: Final = frozenset({2601, 2642})
_UNKNOWN_FIELD: Final = re.compile(
    r"\(#100\)\s*(?P<fields>[\w, .]+?) (?:is|are) not valid for fields|nonexisting field \((?P<field>\w+)\)"
)
_STATUSES: Final = {
    2: "disabled", 3: "unsettled", 7: "under risk review", 8: "pending settlement", 9: "in grace period",
    100: "about to be closed", 101: "closed",
}  # fmt: skip
_ACTIVE: Final = frozenset({1, 201})
_RENEWAL: Final = (
    "make a new one for a system user (Business settings, System users, Generate token, permission ads_read) and set "
    "TURNOUT_META_ADS__ACCESS_TOKEN"
)


_REFUSALS: Final = (AccessDenied, SourceFault, TransientError, TooMuchData, ReadExpired)


class _ReportFailed(Unavailable):
    """Meta could not make a report; it may be able to the next time, or for fewer days."""


@dataclass(frozen=True)
class _Error:
    """What Meta says of a call that failed, or of a report that did."""

    code: int | None
    subcode: int | None
    message: str
    words: str
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    is_transient: bool = False

    @property
    def numbers(self) -> str:
        if self.code is None:
            return f" (HTTP {self.status})" if self.status else ""
        return f" (error {self.code}/{self.subcode})" if self.subcode else f" (error {self.code})"


class MetaAdsConnector(Connector):
    """One token: the ad accounts configured, or all it may read."""

    source: ClassVar[str] = "meta_ads"
    table: ClassVar[str] = "ad_performance"
    max_days: ClassVar[int] = 31
    #: Thirty-seven months, the shortest there are; Meta refuses a range that begins earlier.
    history_days: ClassVar[int | None] = 1120

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if settings.meta_ads is None:
            raise AccessDenied("Meta has no access token: set TURNOUT_META_ADS__ACCESS_TOKEN")
        self._credentials: MetaAdsCredentials = settings.meta_ads
        self._api: Any = None
        self._session: Any = None
        #: How long one call may be waited for, and with what.
        self.patience_seconds = PATIENCE_SECONDS
        self.sleep: Callable[[float], None] = time.sleep

    # --- accounts ------------------------------------------------------------------------------------------------
    def accounts(self) -> Sequence[SourceAccount]:
        if self._credentials.accounts:
            return [self._account(self._describe(name)) for name in dict.fromkeys(self._credentials.accounts)]
        listed = self._listed()
        if not listed:
            raise AccessDenied(
                "the Meta token sees no ad account: assign the system user to the ad accounts (Business settings, "
                "Ad accounts, Assign people, 'View performance') and grant ads_read"
            )
        return [self._account(item) for item in listed]

    def _listed(self) -> list[Mapping[str, Any]]:
        """Every ad account the token sees."""
        try:
            return list(self._pages("me/adaccounts", {"fields": ACCOUNT_FIELDS, "limit": 100}, "ad accounts"))
        except TooMuchData as error:
            raise Unavailable(str(error)) from error

    def _describe(self, name: str) -> Mapping[str, Any]:
        account_id = name.removeprefix("act_")
        return self._get(f"act_{account_id}", {"fields": ACCOUNT_FIELDS}, f"account {account_id}")

    def _account(self, item: Mapping[str, Any]) -> SourceAccount:
        account_id = str(item.get("account_id") or str(item.get("id", "")).removeprefix("act_"))
        if not account_id:
            raise SourceFault("Meta described an ad account without its id")
        currency = item.get("currency")
        return SourceAccount(
            self.source, account_id, str(item.get("name") or ""), self._zone(item, account_id),
            str(currency) if currency else None,
        )  # fmt: skip

    def _zone(self, item: Mapping[str, Any], account_id: str) -> str:
        """The account's zone; of an unknown name its offset of today."""
        name = item.get("timezone_name")
        if name in available_timezones():
            return str(name)
        try:
            offset = float(item["timezone_offset_hours_utc"])
        except (KeyError, TypeError, ValueError):
            offset = 0.0
        fixed = f"Etc/GMT{-offset:+.0f}" if offset.is_integer() and offset and abs(offset) <= 12 else "UTC"
        self.notes.warn(f"time_zone_assumed: Meta names no zone known here for account {account_id}; taken for {fixed}")
        return fixed

    # --- rows ----------------------------------------------------------------------------------------------------
    def rows(self, account: SourceAccount, first: date, last: date) -> Iterator[Record | Rejected]:
        report = self._report(account, first, last)
        number = count(1)
        spend: defaultdict[date, Decimal] = defaultdict(Decimal)
        for item in self._pages(f"{report}/insights", {"limit": PAGE}, "insights", report=True):
            outcome = self._record(next(number), item)
            if isinstance(outcome, Record):
                spend[outcome.values["date"]] += outcome.values["spend"] or 0
            yield outcome
        if spend:
            self._compare(account, first, last, spend)

    def _report(self, account: SourceAccount, first: date, last: date) -> str:
        """The id of a finished report of an account's ads by day.

        Raises:
            TooMuchData: Meta fails to make it, again and again, or takes too long over several days.
            Unavailable: the same of a single day.
        """

        def once() -> str | TransientError:
            try:
                return self._one_report(account, first, last)
            except _ReportFailed:
                raise
            except TransientError as error:
                return error  # has been waited for already

        try:
            report = patiently(
                once, what="meta_ads report", patience_seconds=_REPORT_PATIENCE_SECONDS, sleep=self.sleep
            )
        except _ReportFailed as error:
            if first == last:
                raise
            raise TooMuchData(str(error)) from error
        if isinstance(report, TransientError):
            raise report
        return report

    def _one_report(self, account: SourceAccount, first: date, last: date) -> str:
        from facebook_business.adobjects.adaccount import AdAccount
        from facebook_business.adobjects.adreportrun import AdReportRun

        run = self._ask(
            lambda api: AdAccount(f"act_{account.account_id}", api=api).get_insights_async(
                params={
                    "level": "ad",
                    "fields": list(FIELDS),
                    "time_range": _range(first, last),
                    "time_increment": 1,
                    "filtering": _any_status(),
                }
            ),
            "report",
        )
        report = run.get("report_run_id")
        if not report:
            raise _ReportFailed("Meta took the order for a report and gave no number for it")
        waited, wait = 0.0, 1.0
        while True:
            state = self._ask(lambda api: AdReportRun(str(report), api=api).api_get(), "report", report=True)
            status = str(state.get("async_status"))
            done = state.get("async_percent_completion")
            if status == "Job Completed" and str(done) == "100":
                return str(report)
            if status in ("Job Failed", "Job Skipped"):
                raise self._why_failed(str(report), status, state)
            if waited >= REPORT_DEADLINE_SECONDS:
                late = f"Meta's report {report} is at {done} % after {waited / 60:.0f} minutes"
                raise Unavailable(late) if first == last else TooMuchData(late)
            self.sleep(wait)
            waited += wait
            wait = min(wait * 1.5, _LONGEST_POLL_SECONDS)

    def _why_failed(self, report: str, status: str, state: Mapping[str, Any]) -> Exception:
        message = str(state.get("error_message") or "")
        words = str(state.get("error_user_msg") or message or status)
        error = _Error(_whole(state.get("error_code")), _whole(state.get("error_subcode")), message, words)
        meaning = self._meaning(error, report=True)
        if not isinstance(meaning, Unavailable):
            return meaning
        return _ReportFailed(f"Meta could not make report {report}: {shown(words, self._credentials)}{error.numbers}")

    def _record(self, row: int, item: Mapping[str, Any]) -> Record | Rejected:
        problems: list[Problem] = []

        def read(name: str, parse: Callable[[Any], T]) -> T | None:
            given = item.get(name)
            if given is None or given == "":
                return None
            try:
                return parse(given)
            except (ValueError, TypeError, InvalidOperation) as error:
                text = shown(given, self._credentials)[:80]
                problems.append(Problem("unreadable", f"{name} is {text!r}: {error}", row=row, column=name, value=text))
                return None

        day, end = read("date_start", date.fromisoformat), read("date_stop", date.fromisoformat)
        campaign = read("campaign_id", str)
        everything, link_clicks = read("clicks", _count), read("inline_link_clicks", _count)
        impressions, spend = read("impressions", _count), read("spend", _amount)
        actions = read("actions", _actions)
        if day is None and not problems:
            problems.append(Problem("missing_value", "the row has no day", row=row, column="date_start"))
        elif end is not None and end != day and not problems:
            text = f"the row covers {day} to {end}, not a day"
            problems.append(Problem("bad_period", text, row=row, column="date_stop"))
        if campaign is None and not problems:
            problems.append(Problem("missing_value", "the row has no campaign", row=row, column="campaign_id"))
        if problems:
            kept = {k: shown(v, self._credentials)[:80] for k, v in item.items() if isinstance(v, str | int | float)}
            return Rejected(row, tuple(problems), kept, day)
        values = {
            "date": day,
            "period_end": day,
            "campaign_id": campaign,
            "campaign_name": str(item.get("campaign_name") or campaign),
            "campaign_type": item.get("objective"),
            "ad_group": item.get("adset_name"),
            "ad_name": item.get("ad_name"),
            "impressions": impressions,
            "clicks": _link_clicks(link_clicks, actions, everything),
            "spend": spend,
            "currency": item.get("account_currency"),
            **_claims(actions, everything, link_clicks),
        }
        return Record(self.table, row, values)

    def _compare(self, account: SourceAccount, first: date, last: date, ads: Mapping[date, Decimal]) -> None:
        """Say so where the ads do not add up to what Meta gives for the account; today's figures still move."""
        last = min(last, datetime.now(ZoneInfo(account.time_zone)).date() - timedelta(days=1))
        if last < first:
            return
        query = {
            "level": "account",
            "fields": "spend",
            "time_increment": 1,
            "limit": PAGE,
            "time_range": _range(first, last),
        }
        totals: defaultdict[date, Decimal] = defaultdict(Decimal)
        try:
            for item in self._pages(
                f"act_{account.account_id}/insights", query, "totals", patience=_TOTALS_PATIENCE_SECONDS
            ):
                totals[date.fromisoformat(str(item["date_start"]))] += _amount(item["spend"])
        except (TransientError, TooMuchData, SourceFault, KeyError, TypeError, ValueError, InvalidOperation) as error:
            self.notes.warn(f"totals_not_compared: Meta gave no totals for {first} to {last}: {error}")
            return
        days = sorted(d for d in {*totals, *ads} if d <= last and totals[d] != ads.get(d, Decimal()))
        if days:
            self.notes.warn(
                f"totals_differ: Meta's total of account {account.account_id} differs from what its ads add up to on "
                f"{len(days)} days, first {days[0]}: {totals[days[0]]} against {ads.get(days[0], Decimal())}"
            )

    # --- access --------------------------------------------------------------------------------------------------
    def confirm_access(self, account: SourceAccount) -> None:
        what = f"account {account.account_id}"
        answer = self._get(f"act_{account.account_id}", {"fields": "account_id,user_tasks"}, what)
        tasks = answer.get("user_tasks")
        if isinstance(tasks, list) and "ANALYZE" not in tasks:
            raise AccessDenied(
                f"Meta gave nothing for account {account.account_id}, and the token's user may not see its "
                "performance: assign it to the ad account with 'View performance' (Business settings, Ad accounts)"
            )

    def check(self) -> Iterator[Check]:
        self.patience_seconds = _CHECK_PATIENCE_SECONDS
        try:
            self._get("me", {"fields": "id"}, "the token's user")
        except _REFUSALS as error:
            yield Check("credentials", "failed", str(error))
            return
        yield Check("credentials", "ok", f"Meta accepts the token ({self._credentials.api_version})")
        if self._credentials.app_secret is None:
            text = "not set: an app that requires a proof for each call is refused. Set TURNOUT_META_ADS__APP_SECRET"
            yield Check("app secret", "missing", text)
        with suppress(*_REFUSALS):  # not every kind of token may ask; the accounts tell
            granted = [
                p.get("permission")
                for p in self._pages("me/permissions", {}, "permissions")
                if p.get("status") == "granted"
            ]
            if granted and not {"ads_read", "ads_management"} & set(granted):
                yield Check("permissions", "failed", f"the token lacks ads_read: {_RENEWAL}")
        yield from self._check_accounts()

    def _check_accounts(self) -> Iterator[Check]:
        try:
            listed = [] if self._credentials.accounts else self._listed()
        except _REFUSALS as error:
            yield Check("accounts", "failed", str(error))
            return
        if not listed and not self._credentials.accounts:
            text = "the token sees none: assign the system user to the ad accounts with 'View performance'"
            yield Check("accounts", "failed", text)
        for item in listed:
            yield from self._check_account(item)
        for name in dict.fromkeys(self._credentials.accounts):
            try:
                item = self._describe(name)
            except _REFUSALS as error:
                yield Check(f"account {name}", "failed", str(error))
                continue
            yield from self._check_account(item)

    def _check_account(self, item: Mapping[str, Any]) -> Iterator[Check]:
        what = f"account {item.get('account_id') or item.get('id')}"
        try:
            account = self._account(item)
            self.confirm_access(account)
            today = datetime.now(ZoneInfo(account.time_zone)).date()
            query = {"level": "account", "fields": "spend", "time_range": _range(today, today)}
            self._get(f"act_{account.account_id}/insights", query, f"insights of {what}")
        except _REFUSALS as error:
            yield Check(what, "failed", str(error))
            return
        for warning in self.notes.take():
            yield Check(what, "warning", warning.partition(": ")[2])
        status = _whole(item.get("account_status"))
        if status is not None and status not in _ACTIVE:
            text = f"{account.name}: Meta calls it {_STATUSES.get(status, f'status {status}')}; its history can be read"
            yield Check(what, "warning", text)
            return
        yield Check(
            what, "ok", f"{account.name}: insights can be read; days in {account.time_zone}, {account.currency}"
        )

    # --- one request -----------------------------------------------------------------------------------------------
    def _client(self) -> Any:
        """The SDK's client with an address and a timeout of its own; nothing global is set."""
        if self._api is None:
            from facebook_business.api import FacebookAdsApi
            from facebook_business.session import FacebookSession

            credentials = self._credentials
            token = credentials.access_token.get_secret_value()
            secret = credentials.app_secret.get_secret_value() if credentials.app_secret else None
            session = FacebookSession(credentials.app_id, secret, token, timeout=credentials.timeout_seconds)
            # The token goes into a header: addresses end up in logs, of libraries and of proxies.
            del session.requests.params["access_token"]
            session.requests.headers["Authorization"] = f"Bearer {token}"
            session.requests.hooks["response"].append(_as_utf8)
            if credentials.base_url is not None:
                session.GRAPH = credentials.base_url.rstrip("/")
                session.requests.verify = True  # the SDK's own certificates know Meta alone
            self._session = session
            self._api = FacebookAdsApi(session, api_version=credentials.api_version)
        return self._api

    def close(self) -> None:
        if self._session is not None:
            self._session.requests.close()
            self._api = self._session = None

    def _pages(
        self, path: str, query: Mapping[str, Any], what: str, *, report: bool = False, patience: float | None = None
    ) -> Iterator[Mapping[str, Any]]:
        """The elements of all pages. A page without ``next`` is the last, though it too has a cursor.

        Raises:
            ReadExpired: the cursor leads nowhere any more.
        """
        after: str | None = None
        while True:
            asked = query if after is None else {**query, "after": after}
            page = self._get(path, asked, what, report=report, patience=patience)
            elements = page.get("data")
            if not isinstance(elements, list):
                raise SourceFault(f"Meta's answer about {what} has another shape than documented")
            yield from elements
            paging = page.get("paging") or {}
            if not paging.get("next"):
                return
            before, after = after, (paging.get("cursors") or {}).get("after")
            if after is None or after == before:
                circle = f"Meta's pages of {what} lead in a circle"
                raise ReadExpired(circle) if report else Unavailable(circle)

    def _get(
        self, path: str, query: Mapping[str, Any], what: str, *, report: bool = False, patience: float | None = None
    ) -> Mapping[str, Any]:
        parts = tuple(path.split("/"))
        return self._ask(
            lambda api: api.call("GET", parts, params=dict(query)).json(), what, report=report, patience=patience
        )

    def _ask(
        self, call: Callable[[Any], Any], what: str, *, report: bool = False, patience: float | None = None
    ) -> Mapping[str, Any]:
        """One call, waited for as :func:`patiently` does.

        Args:
            call: takes the SDK's client.
            report: it is about a report that was made: what is not there any more went stale.
            patience: where it is not worth the usual one.

        Raises:
            AccessDenied, SourceFault, TooMuchData, ReadExpired, TransientError: as base says.
        """
        from facebook_business.exceptions import FacebookError, FacebookRequestError
        from requests import RequestException

        def once() -> Mapping[str, Any]:
            # ``from None``: what the SDK and requests say quotes the whole request.
            try:
                answer = call(self._client())
            except FacebookRequestError as error:
                raise self._translated(error, report=report) from None
            except RequestException as error:
                raise Unavailable(f"Meta cannot be reached for {what}: {type(error).__name__}") from None
            except (FacebookError, TypeError, AttributeError, KeyError, ValueError):
                # The SDK takes for granted that every answer is its JSON.
                raise Unavailable(f"Meta's answer for {what} cannot be read") from None
            if not isinstance(answer, Mapping):
                raise Unavailable(f"Meta's answer for {what} is no JSON object")
            return answer

        longest = self.patience_seconds if patience is None else min(patience, self.patience_seconds)
        return patiently(once, what=f"meta_ads {what}", patience_seconds=longest, sleep=self.sleep)

    def _translated(self, error: Any, *, report: bool) -> Exception:
        body = error.body()
        said = body.get("error") if isinstance(body, dict) else None
        said = said if isinstance(said, dict) else {}
        message = str(said.get("message") or "")
        told = _Error(
            _whole(said.get("code")), _whole(said.get("error_subcode")), message,
            str(said.get("error_user_msg") or message), int(error.http_status() or 0), error.http_headers() or {},
            said.get("is_transient") is True,
        )  # fmt: skip
        return self._meaning(told, report=report)

    def _meaning(self, error: _Error, *, report: bool) -> Exception:
        """What an error is to the runner; see Meta's pages of error codes."""
        code, pair, message = error.code, (error.code, error.subcode), error.message.lower()
        text = f"{error.numbers}: {shown(error.words, self._credentials)}".removesuffix(".")
        if code in _RATE_CODES or error.status == 429:
            return RateLimited(f"Meta takes no more calls now{text}", _wait(error.headers))
        if pair in _TOO_MUCH or "reduce the amount of data" in message:
            return TooMuchData(f"Meta finds the range too large{text}")
        if report and (code in _STALE_CODES or pair == (100, 33) or (code == 100 and "cursor" in message)):
            return ReadExpired(f"Meta's report went stale{text}")
        if refused := self._denied(error, text) or self._fault(error, text):
            return refused
        passes = code in (-2, 1, 2, *_STALE_CODES) or (code is None and not 400 <= error.status < 500)
        if error.is_transient or passes or error.status >= 500 or error.status == 408:
            return Unavailable(f"Meta cannot answer now{text}")
        return SourceFault(f"Meta refuses the request{text}")

    def _denied(self, error: _Error, text: str) -> AccessDenied | None:
        code = error.code
        if "appsecret_proof" in error.message:
            cure = "set TURNOUT_META_ADS__APP_SECRET to the secret of the app that the token is of"
            return AccessDenied(f"Meta refuses the proof of the call{text}. To go on, {cure}")
        if code in (102, 190) or (code is None and error.status == 401):
            return AccessDenied(f"Meta does not accept the access token{text}. To go on, {_RENEWAL}")
        if code in (3, 10) or (code is not None and 200 <= code <= 299) or (code, error.subcode) == (100, 33):
            return AccessDenied(
                f"Meta does not let the token read this{text}. Grant it ads_read, and assign its user to the ad "
                "account with 'View performance' (Business settings, Ad accounts)"
            )
        return None

    def _fault(self, error: _Error, text: str) -> SourceFault | None:
        version = self._credentials.api_version
        if error.code in (12, 2635) or (error.code == 2500 and "unknown path components" in error.message.lower()):
            cure = "set TURNOUT_META_ADS__API_VERSION to a newer version"
            return SourceFault(f"Meta does not answer version {version} of its API{text}. To go on, {cure}")
        if unknown := _UNKNOWN_FIELD.search(error.message):
            name = unknown["fields"] or unknown["field"]
            return SourceFault(
                f"version {version} of Meta's API knows no field {name}{error.numbers}; until Turnout asks without it, "
                "set TURNOUT_META_ADS__API_VERSION to a version that does"
            )
        if (error.code, error.subcode) in _REFUSED:
            return SourceFault(f"Meta has no figures for this combination of fields{text}")
        return None


def _as_utf8(response: Any, *_: Any, **__: Any) -> Any:
    """JSON is UTF-8 whether or not the answer says so; requests would guess, and guess names wrong."""
    response.encoding = "utf-8"
    return response


def _range(first: date, last: date) -> dict[str, str]:
    return {"since": first.isoformat(), "until": last.isoformat()}


def _any_status() -> list[dict[str, Any]]:
    """The filter that takes archived and deleted ads in."""
    from facebook_business.adobjects.ad import Ad

    statuses = sorted(v for k, v in vars(Ad.EffectiveStatus).items() if not k.startswith("_"))
    return [{"field": "ad.effective_status", "operator": "IN", "value": statuses}]


def _whole(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _amount(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError("not a number")
    number = Decimal(str(value))
    if not number.is_finite():
        raise ValueError("not a number")
    return number


def _count(value: Any) -> int:
    number = _amount(value)
    if number < 0 or number != number.to_integral_value():
        raise ValueError("not a count")
    return int(number)


def _actions(value: Any) -> dict[str, Decimal | None]:
    """Kind of action → its value in the ad set's own window; ``None`` where only other windows are given."""
    if not isinstance(value, list):
        raise TypeError("not a list of actions")
    found: dict[str, Decimal | None] = {}
    for item in value:
        kind, given = str(item["action_type"]), item.get("value")
        known = found.get(kind, Decimal())
        found[kind] = None if given is None or known is None else known + _amount(given)
    return found


def _claim(names: _Names, actions: Mapping[str, Decimal | None]) -> Decimal | None:
    """How often one kind of action happened, under the best of its names; none of them is never."""
    for channels in names:
        present = [next((actions[n] for n in channel if n in actions), Decimal()) for channel in channels]
        if any(n in actions for channel in channels for n in channel):
            return None if None in present else sum((p for p in present if p is not None), Decimal())
    return Decimal()


def _link_clicks(given: int | None, actions: Mapping[str, Decimal | None] | None, clicks: int | None) -> int | None:
    """Clicks on links: as given, else as the actions tell; no click at all is none on a link."""
    if given is None and actions is not None:
        told = actions.get("link_click", Decimal())
        return None if told is None else int(told)
    return 0 if given is None and clicks == 0 else given


def _claims(
    actions: Mapping[str, Decimal | None] | None, clicks: int | None, link_clicks: int | None
) -> dict[str, Decimal | None]:
    """What Meta claims for a row; see the module for what is zero and what is unknown."""
    if actions is None:
        if clicks == 0 and not link_clicks:
            actions = {}
        else:
            return {"conversions": None, "registrations": None, "leads": None}
    registrations, leads, purchases = (_claim(names, actions) for names in (REGISTRATION, LEAD, PURCHASE))
    known = [v for v in (registrations, leads, purchases) if v is not None]
    total = sum(known, Decimal()) if len(known) == 3 else None
    if registrations == 0 and total != 0:
        registrations = None
    return {"conversions": total, "registrations": registrations, "leads": leads}


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds until calls are taken again: the longest that any header tells."""
    found = [retry_after(headers) or 0.0]
    for uses in _usage(headers, "x-business-use-case-usage").values():
        for use in uses if isinstance(uses, list) else ():
            minutes = _whole(use.get("estimated_time_to_regain_access")) if isinstance(use, dict) else None
            found.append(60.0 * (minutes or 0))
    account = _usage(headers, "x-ad-account-usage")
    if (_whole(account.get("acc_id_util_pct")) or 0) >= 100:
        found.append(float(_whole(account.get("reset_time_duration")) or 0))
    return max(found) or None


def _usage(headers: Mapping[str, str], name: str) -> Mapping[str, Any]:
    try:
        usage = json.loads(headers.get(name) or "{}")
    except ValueError:
        return {}
    return usage if isinstance(usage, dict) else {}


CONNECTOR = MetaAdsConnector
