"""Google Ads through its API: every campaign and day of an account, as its own screen shows them.

Read at the level of campaigns, which every kind of campaign has and which adds up to the account to the cent:
Performance Max campaigns have no ad groups, and sums over ad groups miss them. Removed campaigns are among the rows.

Registrations and leads are the account's conversions by the category of their action. They come from a second report,
because a report cut by category leaves out every row without a conversion, and its cost with it. An account that counts
no action of a kind does not say zero of it: the column is unknown there.

Days are those of the account's time zone and amounts in its currency. Conversions are fractional and booked on the day
of the click, so a day's figure grows for as long as the conversion window lasts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from ingestion.connectors.base import AccessDenied, Check, Connector, SourceAccount, SourceFault, TransientError
from ingestion.connectors.google_client import GoogleClient
from ingestion.records import Record, Rejected
from turnout.credentials import GoogleAdsCredentials, variables
from turnout.errors import Problem
from turnout.settings import Settings

#: Conversion categories that are a registration, and those that are a first contact. A qualified or converted lead is
#: the same person again, later.
REGISTRATIONS: Final = frozenset({"SIGNUP", "BOOK_APPOINTMENT"})
LEADS: Final = frozenset({
    "SUBMIT_LEAD_FORM", "IMPORTED_LEAD", "PHONE_CALL_LEAD", "MESSAGE_LEAD", "CONTACT", "REQUEST_QUOTE",
})  # fmt: skip
#: Longest wait within ``turnout sources check``: somebody is looking.
CHECK_PATIENCE_SECONDS: Final = 10.0

#: The screen's words for kinds of campaigns where they are not the API's.
_KINDS: Mapping[str, str] = {"MULTI_CHANNEL": "App"}
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

_CUSTOMER = (
    "SELECT customer.id, customer.descriptive_name, customer.currency_code, customer.time_zone, customer.manager, "
    "customer.test_account FROM customer"
)
_CLIENTS = (
    "SELECT customer_client.id, customer_client.descriptive_name, customer_client.currency_code, "
    "customer_client.time_zone, customer_client.manager, customer_client.status FROM customer_client "
    "WHERE customer_client.manager = FALSE AND customer_client.status = 'ENABLED'"
)
_ACTIONS = (
    "SELECT conversion_action.id, conversion_action.category, conversion_action.include_in_conversions_metric "
    "FROM conversion_action WHERE conversion_action.include_in_conversions_metric = TRUE"
)
_PERFORMANCE = (
    "SELECT campaign.id, campaign.name, campaign.advertising_channel_type, customer.currency_code, segments.date, "
    "metrics.impressions, metrics.clicks, metrics.cost_micros, metrics.conversions "
    "FROM campaign WHERE segments.date BETWEEN '{first}' AND '{last}'"
)
_CONVERSIONS = (
    "SELECT campaign.id, segments.date, segments.conversion_action_category, metrics.conversions "
    "FROM campaign WHERE segments.date BETWEEN '{first}' AND '{last}'"
)
_PROBE = "SELECT metrics.impressions FROM customer WHERE segments.date DURING YESTERDAY"


@dataclass(frozen=True, slots=True)
class _Customer:
    account: SourceAccount
    manager: bool = False
    test: bool = False
    status: str | None = None


@dataclass(frozen=True, slots=True)
class _CampaignDay:
    """A row of the report, as it came: what it did not say is ``None``."""

    campaign: int | None
    name: str | None
    kind: str | None
    day: str | None
    currency: str | None
    impressions: int | None
    clicks: int | None
    micros: int | None
    conversions: float | None


class GoogleAdsConnector(Connector):
    """Campaigns and days of Google Ads accounts.

    Attributes:
        client: asks the platform.
    """

    source = "google_ads"
    table = "ad_performance"
    max_days = 31

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if settings.google_ads is None:
            raise AccessDenied(f"Google Ads is not set up: {variables(self.source)[0]} is missing")
        self.credentials: GoogleAdsCredentials = settings.google_ads
        self.client = GoogleClient(self.credentials)
        self._login: dict[str, str | None] = {}
        self._denied: dict[str, AccessDenied] = {}
        self._counted: dict[str, frozenset[str]] = {}
        self._tests: set[str] = set()

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    # -- accounts ------------------------------------------------------------------------------------------------------

    def accounts(self) -> Sequence[SourceAccount]:
        """The configured accounts; else the clients of ``login_customer_id``; else all the Google user can see.

        Managers have no figures of their own and are replaced by their enabled clients. A configured account that may
        not be read is listed nevertheless, so that the others are read; reading it says why not.

        Raises:
            AccessDenied: no account can be read.
            SourceFault: the platform names a time zone nobody knows.
            TransientError: the platform does not answer now.
        """
        self._denied.clear()
        self._login.clear()
        self.client.renew_token()  # what no account can be read with is told once
        login = self._manager_login()
        if self.credentials.accounts:
            found = self._configured(login)
        elif login is not None:
            found = self._below(login)
        else:
            found = self._visible()
        if not found or set(found) <= set(self._denied):
            reasons = "; ".join(f"account {dashed(a)}: {e}" for a, e in self._denied.items())
            raise AccessDenied(reasons or "the Google user sees no account: give it access to one in Google Ads")
        return list(found.values())

    def _configured(self, login: str | None) -> dict[str, SourceAccount]:
        found: dict[str, SourceAccount] = {}
        for written in self.credentials.accounts:
            account_id = _digits(written)
            if account_id is None:
                self._denied[written] = AccessDenied(f"{written!r} is no account id: it is ten digits, 123-456-7890")
                found[written] = SourceAccount(self.source, written)
                continue
            self._login[account_id] = login
            try:
                customer = self._customer(account_id)
                if customer.manager:
                    raise _manager(account_id)
                found[account_id] = customer.account
            except AccessDenied as error:
                self._denied[account_id] = error
                found[account_id] = SourceAccount(self.source, account_id)
        return found

    def _below(self, login: str) -> dict[str, SourceAccount]:
        """The clients of a manager; the account itself where it is none."""
        customer = self._customer(login)
        return self._clients(login) if customer.manager else {login: customer.account}

    def _clients(self, manager: str) -> dict[str, SourceAccount]:
        """The enabled accounts below a manager, at any depth."""
        clients = self.client.search(manager, _CLIENTS, self._client_of, login=manager)
        found = {c.account.account_id: c.account for c in clients if not c.manager and c.status == "ENABLED"}
        self._login |= dict.fromkeys(found, manager)
        return found

    def _visible(self) -> dict[str, SourceAccount]:
        """Accounts the user has access to directly, and those below the managers among them."""
        found: dict[str, SourceAccount] = {}
        below: dict[str, SourceAccount] = {}
        for account_id in self.client.accessible_customers():
            try:
                customer = self._customer(account_id)
                if customer.manager:
                    below |= self._clients(account_id)
                else:
                    found[account_id] = customer.account
            except AccessDenied as error:
                self._denied[account_id] = error
        self._login |= dict.fromkeys(found)
        for account_id in [a for a in self._denied if a in below]:
            del self._denied[account_id]
        for account_id, reason in self._denied.items():
            # cancelled accounts stay in the list of what is visible
            self.notes.warn(f"account {dashed(account_id)} is not read: {reason}")
        return below | found

    def _customer(self, account_id: str) -> _Customer:
        """An account as it describes itself.

        Raises:
            AccessDenied: it may not be read.
        """
        login = self._login_of(account_id)
        found = self.client.search(account_id, _CUSTOMER, self._customer_of, login=login)
        if not found:
            raise AccessDenied(f"account {dashed(account_id)} does not answer; check its id and the access to it")
        if found[0].test:
            self._tests.add(account_id)
        return found[0]

    def _customer_of(self, row: Any) -> _Customer:
        it = row.customer
        return _Customer(self._account(it), manager=it.manager, test=it.test_account)

    def _client_of(self, row: Any) -> _Customer:
        it = row.customer_client
        return _Customer(self._account(it), manager=it.manager, status=_enum(it, "status"))

    def _account(self, it: Any) -> SourceAccount:
        try:
            zone = ZoneInfo(it.time_zone).key
        except (ValueError, KeyError, OSError) as error:
            raise SourceFault(f"account {dashed(str(it.id))} has the unknown time zone {it.time_zone!r}") from error
        return SourceAccount(self.source, str(it.id), it.descriptive_name, zone, it.currency_code or None)

    def _login_of(self, account_id: str) -> str | None:
        return self._login[account_id] if account_id in self._login else self._manager_login()

    def _manager_login(self) -> str | None:
        """The manager account through which others are read, if one is configured.

        Raises:
            AccessDenied: it is no account id.
        """
        written = self.credentials.login_customer_id
        if written and _digits(written) is None:
            raise AccessDenied(f"login_customer_id {written!r} is no account id: it is ten digits, 123-456-7890")
        return _digits(written)

    def confirm_access(self, account: SourceAccount) -> None:
        """Ask the account for its own description and for figures."""
        if (denied := self._denied.get(account.account_id)) is not None:
            raise denied
        if self._customer(account.account_id).manager:
            raise _manager(account.account_id)
        self.client.search(account.account_id, _PROBE, lambda row: None, login=self._login_of(account.account_id))

    # -- rows ----------------------------------------------------------------------------------------------------------

    def rows(self, account: SourceAccount, first: date, last: date) -> Iterator[Record | Rejected]:
        """Every campaign and day that the account has figures for, by day and campaign."""
        if (denied := self._denied.get(account.account_id)) is not None:
            raise denied
        login, divisible = self._login_of(account.account_id), first < last
        days, total = self.client.stream(
            account.account_id, _PERFORMANCE.format(first=first, last=last), _campaign_day,
            login=login, divisible=divisible, with_total=True,
        )  # fmt: skip
        if not days:
            return
        self._compare(days, total)
        by_category: dict[tuple[int, str], dict[str | None, Decimal]] = defaultdict(dict)
        if any(row.conversions for row in days):
            found, _ = self.client.stream(
                account.account_id, _CONVERSIONS.format(first=first, last=last), _conversion,
                login=login, divisible=divisible,
            )  # fmt: skip
            for campaign, day, category, conversions in found:
                known = by_category[campaign, day]
                known[category] = known.get(category, Decimal()) + conversions
        counted = self._counted_categories(account)
        for number, row in enumerate(sorted(days, key=lambda r: (r.day or "", r.campaign or 0)), 1):
            yield self._outcome(number, row, by_category, counted, account)

    def _counted_categories(self, account: SourceAccount) -> frozenset[str]:
        """Categories of which the account counts an action, now or ever: removed ones are among the answers."""
        if account.account_id not in self._counted:
            found = self.client.search(
                account.account_id, _ACTIONS, lambda row: _enum(row.conversion_action, "category"),
                login=self._login_of(account.account_id),
            )  # fmt: skip
            self._counted[account.account_id] = frozenset(c for c in found if c is not None)
        return self._counted[account.account_id]

    def _compare(self, days: Sequence[_CampaignDay], total: Any) -> None:
        """What a user should know of the answer as a whole."""
        for name, of in (
            ("impressions", "impressions"), ("clicks", "clicks"), ("cost_micros", "micros"),
            ("conversions", "conversions"),
        ):  # fmt: skip
            if all(getattr(row, of) is None for row in days):
                self.notes.warn(f"Google Ads says metrics.{name} of no campaign: it is stored as unknown")
        if total is not None and total.metrics.HasField("cost_micros"):
            ours, theirs = sum(row.micros or 0 for row in days), total.metrics.cost_micros
            if ours != theirs:
                self.notes.warn(
                    f"the campaigns' cost adds up to {_money(ours)}, Google Ads' own total of the same days is "
                    f"{_money(theirs)}"
                )

    def _outcome(
        self,
        number: int,
        row: _CampaignDay,
        by_category: Mapping[tuple[int, str], Mapping[str | None, Decimal]],
        counted: frozenset[str],
        account: SourceAccount,
    ) -> Record | Rejected:
        place = f"{self.source}/{account.account_id}"
        problems = []
        day = None
        try:
            day = date.fromisoformat(row.day or "")
        except ValueError:
            problems.append(
                Problem("not_a_date", f"segments.date is {row.day!r}", file=place, row=number, value=row.day)
            )
        if row.campaign is None:
            problems.append(Problem("missing_value", "the row names no campaign.id", file=place, row=number))
        conversions = None
        if row.conversions is not None:
            if math.isfinite(row.conversions):
                conversions = Decimal(repr(row.conversions))
            else:
                problems.append(Problem(
                    "not_a_number", f"metrics.conversions is {row.conversions}",
                    file=place, row=number, value=str(row.conversions),
                ))  # fmt: skip
        if problems:
            said = {k: str(v) for k, v in (("campaign", row.name), ("cost_micros", row.micros)) if v is not None}
            return Rejected(number, tuple(problems), said, day)
        assert row.campaign is not None
        assert row.day is not None
        categories = by_category.get((row.campaign, row.day), {})
        return Record(self.table, number, {
            "date": day,
            "period_end": day,
            "campaign_id": str(row.campaign),
            "campaign_name": row.name or str(row.campaign),
            "campaign_type": row.kind,
            "ad_group": None,
            "ad_name": None,
            "impressions": row.impressions,
            "clicks": row.clicks,
            "spend": None if row.micros is None else _money(row.micros),
            "currency": row.currency or account.currency,
            "conversions": conversions,
            "registrations": _part(conversions, categories, REGISTRATIONS, counted),
            "leads": _part(conversions, categories, LEADS, counted),
        })  # fmt: skip

    # -- check ---------------------------------------------------------------------------------------------------------

    def check(self) -> Iterator[Check]:
        """Token, developer token, then each account with its time zone and currency."""
        self.client.patience_seconds = CHECK_PATIENCE_SECONDS
        if missing := self.client.missing():
            names = ", ".join(f"TURNOUT_GOOGLE_ADS__{name.upper()}" for name in missing)
            yield Check("credentials", "missing", f"set {names}, or TURNOUT_GOOGLE_ADS__SERVICE_ACCOUNT_FILE")
            return
        address = urlsplit(self.credentials.base_url or "")
        if address.scheme == "http" and address.hostname not in _LOCAL_HOSTS:
            yield Check("address", "warning", f"{address.netloc} is asked in plain text: tokens can be read on the way")
        if failed := _try("credentials", self.client.renew_token):
            yield failed
            return
        yield Check("credentials", "ok", "Google accepts them")
        if failed := _try("developer token", self.client.accessible_customers):
            yield failed
            return
        yield Check("developer token", "ok", "the API answers")
        accounts: list[SourceAccount] = []
        if failed := _try("accounts", lambda: accounts.extend(self.accounts())):
            yield failed
            return
        listed = {a.account_id for a in accounts}
        for account in accounts:
            what = f"account {dashed(account.account_id)}"
            if failed := _try(what, lambda a=account: self.confirm_access(a)):  # type: ignore[misc]
                yield failed
                continue
            found = f"{account.name or 'without a name'}, {account.currency}, days of {account.time_zone}"
            if account.account_id in self._tests:
                yield Check(what, "warning", f"{found}; a test account, which never has figures")
            else:
                yield Check(what, "ok", found)
        for account_id, error in self._denied.items():
            if account_id not in listed:
                yield Check(f"account {dashed(account_id)}", "warning", f"visible, but not read: {error}")


def dashed(account_id: str) -> str:
    """An account's id as Google shows it: 123-456-7890."""
    return f"{account_id[:3]}-{account_id[3:6]}-{account_id[6:]}" if len(account_id) == 10 else account_id


def _digits(written: str | None) -> str | None:
    """An account's id as the API takes it; ``None`` where it is none."""
    text = (written or "").replace("-", "").replace(" ", "")
    return text if text.isascii() and text.isdigit() else None


def _manager(account_id: str) -> AccessDenied:
    return AccessDenied(
        f"{dashed(account_id)} is a manager account and has no figures of its own; name its client accounts in "
        "accounts, or set it as login_customer_id and leave accounts empty"
    )


def _money(micros: int) -> Decimal:
    """Millionths of the account's currency, exactly."""
    return Decimal(micros).scaleb(-6)


def _said(message: Any, name: str) -> Any:
    """A field's value, ``None`` where the message does not carry it: zero is something else."""
    return getattr(message, name) if message.HasField(name) else None


def _enum(message: Any, name: str) -> str | None:
    """An enum's word; ``None`` where it is not set, or newer than the library."""
    known = message.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number.get(getattr(message, name))
    return None if known is None or known.name in ("UNSPECIFIED", "UNKNOWN") else str(known.name)


def _campaign_day(row: Any) -> _CampaignDay:
    campaign, metrics = row.campaign, row.metrics
    kind = _enum(campaign, "advertising_channel_type")
    return _CampaignDay(
        campaign=_said(campaign, "id"),
        name=_said(campaign, "name"),
        kind=None if kind is None else _KINDS.get(kind, kind.replace("_", " ").title()),
        day=_said(row.segments, "date"),
        currency=_said(row.customer, "currency_code"),
        impressions=_said(metrics, "impressions"),
        clicks=_said(metrics, "clicks"),
        micros=_said(metrics, "cost_micros"),
        conversions=_said(metrics, "conversions"),
    )


def _conversion(row: Any) -> tuple[int, str, str | None, Decimal]:
    """Campaign, day, category, conversions."""
    value = row.metrics.conversions
    category = _enum(row.segments, "conversion_action_category")
    return row.campaign.id, row.segments.date, category, Decimal(repr(value)) if math.isfinite(value) else Decimal()


def _part(
    conversions: Decimal | None,
    categories: Mapping[str | None, Decimal],
    wanted: frozenset[str],
    counted: frozenset[str],
) -> Decimal | None:
    """How many of a row's conversions are of the wanted categories; ``None`` where the platform does not say.

    Args:
        conversions: all of the row.
        categories: the same by category, where the row has any.
        counted: categories the account counts at all.
    """
    if conversions is None or None in categories:
        return None
    found = [value for category, value in categories.items() if category in wanted]
    if found:
        return sum(found, Decimal())
    if not wanted & counted or (conversions and not categories):
        return None
    return Decimal()


def _try(what: str, ask: Callable[[], object]) -> Check | None:
    """The failed check, if it failed."""
    try:
        ask()
    except (AccessDenied, SourceFault, TransientError) as error:
        return Check(what, "failed", str(error))
    return None


CONNECTOR: Final = GoogleAdsConnector
