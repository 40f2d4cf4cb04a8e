"""LinkedIn's REST API to ask in tests: accounts, roles, campaigns over pages, adAnalytics, and the OAuth server."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from tests.ingestion.connectors.http_server import Answer, Asked, RecordedServer

TOKEN = "AQV-secret-token-of-the-tests"
RENEWED = "AQV-renewed-secret-token"
REFRESH_TOKEN = "AQX-secret-refresh-token"
CLIENT_SECRET = "secret-of-the-client"
VERSION = "202607"
_ACCOUNT = "urn:li:sponsoredAccount:"
_GROUP = "urn:li:sponsoredCampaignGroup:"


def error(
    status: int, message: str, code: str | None = None, *, headers: dict[str, str] | None = None, **more: Any
) -> Answer:
    """An error as LinkedIn gives it."""
    body = {"status": status, "message": message, **more}
    return Answer(body if code is None else {**body, "code": code}, status, headers or {})


def element(day: date, campaign: str = "312345678", **changes: Any) -> dict[str, Any]:
    """A campaign's day; a metric set to ``None`` is left out."""
    end = {"year": day.year, "month": day.month, "day": day.day}
    item = {
        "pivotValues": [f"urn:li:sponsoredCampaign:{campaign}"], "dateRange": {"start": end, "end": end},
        "costInLocalCurrency": "33.33", "impressions": 1000, "clicks": 4, "externalWebsiteConversions": 0,
        "oneClickLeads": 1, "registrations": 0, **changes,
    }  # fmt: skip
    return {name: value for name, value in item.items() if value is not None}


@dataclass
class Account:
    name: str = "Main"
    currency: str = "EUR"
    status: str = "ACTIVE"
    role: str | None = "VIEWER"
    elements: list[dict[str, Any]] = field(default_factory=list)
    campaigns: dict[str, str] = field(default_factory=lambda: {"312345678": "EV-1 Spring", "312345679": "EV-2"})


class LinkedInServer(RecordedServer):
    """Scripts go by the path behind ``/rest/``, and ``oauth``."""

    def __init__(self, prefix: str = "") -> None:
        super().__init__(prefix)
        self.accounts: dict[str, Account] = {"901": Account()}
        self.tokens = {TOKEN}
        self.page = 500
        self.longest_query = 1_000_000
        self.longest_days = 10_000

    @property
    def token_url(self) -> str:
        return f"{self.url}/oauth/v2/accessToken"

    def name(self, asked: Asked) -> str:
        return "oauth" if asked.path.startswith("/oauth/") else asked.path.removeprefix("/rest/")

    def answer(self, asked: Asked) -> Answer:
        what = self.name(asked)
        if what == "oauth":
            return self._oauth(asked)
        if asked.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return error(
                401, "The token used in the request has expired", "EXPIRED_ACCESS_TOKEN", serviceErrorCode=65602
            )
        headers = {k.lower(): v for k, v in asked.headers.items()}
        if headers.get("x-restli-protocol-version") != "2.0.0":
            return error(400, "Rest.li protocol 2.0.0 is wanted")
        if headers.get("linkedin-version", "") < "202512":
            version = headers.get("linkedin-version")
            return error(426, f"Requested version {version}01 is not active", "NONEXISTENT_VERSION")
        if len(asked.raw_query) > self.longest_query:
            return Answer("URI Too Long", 414)
        if asked.method == "POST" and headers.get("x-http-method-override") != "GET":
            return error(405, "method not allowed")
        if what == "adAnalytics":
            return self._analytics(asked.body if asked.method == "POST" else asked.raw_query)
        if what == "adAccountUsers":
            return self._roles(asked)
        if what == "adAccounts":
            return self._search(asked, [self._described(i) for i in self.accounts])
        return self._account(asked, what)

    def _account(self, asked: Asked, what: str) -> Answer:
        _, account_id, *rest = what.split("/")
        account = self.accounts.get(account_id)
        if account is None:
            return error(404, "Could not find entity", "RESOURCE_NOT_FOUND")
        if not rest:
            return Answer(self._described(account_id))
        if rest == ["adCampaignGroups"]:
            return self._search(asked, [{"id": 7, "name": "Spring group"}])
        campaigns = [
            {"id": int(i), "name": n, "objectiveType": "LEAD_GENERATION", "campaignGroup": f"{_GROUP}7"}
            for i, n in account.campaigns.items()
        ]  # fmt: skip
        if rest == ["adCampaigns"]:
            return self._search(asked, campaigns)
        found = [c for c in campaigns if str(c["id"]) == rest[1]]
        return Answer(found[0]) if found else error(404, "Could not find entity", "RESOURCE_NOT_FOUND")

    def _described(self, account_id: str) -> dict[str, Any]:
        account = self.accounts[account_id]
        return {"id": int(account_id), "name": account.name, "currency": account.currency, "status": account.status}

    def _search(self, asked: Asked, items: list[dict[str, Any]]) -> Answer:
        assert asked.query["q"] == "search"
        start = int(asked.query.get("pageToken", "t0")[1:])
        ends = start + min(self.page, int(asked.query["pageSize"]))
        metadata = {"nextPageToken": f"t{ends}"} if ends < len(items) else {}
        return Answer({"elements": items[start:ends], "metadata": metadata})

    def _roles(self, asked: Asked) -> Answer:
        held = [
            {"account": _ACCOUNT + i, "role": a.role, "user": "urn:li:person:x"}
            for i, a in self.accounts.items()
            if a.role is not None
        ]
        start, size = int(asked.query["start"]), min(self.page, int(asked.query["count"]))
        paging = {"start": start, "count": size, "total": len(held), "links": []}
        return Answer({"elements": held[start : start + size], "paging": paging})

    def _analytics(self, query: str) -> Answer:
        """Reads the query as it came: what is encoded otherwise than Rest.li 2.0 wants is refused."""
        found = re.fullmatch(
            r"q=analytics&pivot=CAMPAIGN&timeGranularity=DAILY"
            r"&dateRange=\(start:\(year:(\d+),month:(\d+),day:(\d+)\),end:\(year:(\d+),month:(\d+),day:(\d+)\)\)"
            r"&accounts=List\(urn%3Ali%3AsponsoredAccount%3A(\d+)\)&fields=([\w,]+)",
            query,
        )
        if found is None:
            return error(400, "Invalid query parameters passed to request", "ILLEGAL_ARGUMENT")
        numbers = [int(n) for n in found.groups()[:6]]
        first, last = date(*numbers[:3]), date(*numbers[3:])
        fields = found[8].split(",")
        if len(fields) > 20:
            return error(400, "Too many fields")
        if last - first >= timedelta(days=self.longest_days):
            return error(400, "Request would return too many entities.")
        account = self.accounts.get(found[7])
        seen = account.elements if account is not None and account.role is not None else []
        elements = [
            {k: v for k, v in e.items() if k in fields}
            for e in seen
            if first <= date(*e["dateRange"]["start"].values()) <= last
        ]
        return Answer({"paging": {"start": 0, "count": 10, "links": []}, "elements": elements})

    def _oauth(self, asked: Asked) -> Answer:
        wanted = {
            "grant_type": "refresh_token", "refresh_token": REFRESH_TOKEN, "client_id": "me",
            "client_secret": CLIENT_SECRET,
        }  # fmt: skip
        if asked.query != wanted:
            said = f"The provided authorization grant or refresh token {asked.query.get('refresh_token')} is invalid"
            return Answer({"error": "invalid_grant", "error_description": said}, 400)
        self.tokens = {RENEWED}
        return Answer({"access_token": RENEWED, "expires_in": 5183999})
