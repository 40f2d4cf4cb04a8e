"""A Graph API to ask in tests: accounts, ads by day, reports that take their time, pages."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from tests.ingestion.connectors.http_server import Answer, Asked, RecordedServer, shape

TOKEN = "EAAB-secret-token-of-the-tests"
APP_SECRET = "secret-of-the-app"


def error(
    code: int, message: str, subcode: int | None = None, *, status: int = 400, headers: dict[str, str] | None = None,
    **more: Any,
) -> Answer:  # fmt: skip
    """An error as the Graph API gives it."""
    body = {"message": message, "type": "OAuthException", "code": code, "fbtrace_id": "invented", **more}
    if subcode is not None:
        body["error_subcode"] = subcode
    return Answer({"error": body}, status, headers or {})


def row(day: date | str, **changes: Any) -> dict[str, Any]:
    """An ad's day; a field set to ``None`` is left out. ``status`` is the ad's and no field of the answer."""
    item = {
        **shape("meta_insights_page1.json")["data"][0], "account_currency": "JPY", "campaign_id": "c1",
        "campaign_name": "EV-1 Spring", "objective": "OUTCOME_LEADS", "adset_name": "Tokyo", "ad_id": "a1",
        "ad_name": "Video", "date_start": str(day), "date_stop": str(day), **changes,
    }  # fmt: skip
    return {name: value for name, value in item.items() if value is not None}


@dataclass
class Account:
    name: str = "Main"
    currency: str = "JPY"
    zone: str = "Asia/Tokyo"
    status: int = 1
    tasks: list[str] | None = field(default_factory=lambda: ["ANALYZE"])
    rows: list[dict[str, Any]] = field(default_factory=list)

    def described(self, account_id: str) -> dict[str, Any]:
        told = {
            "account_id": account_id, "id": f"act_{account_id}", "name": self.name, "currency": self.currency,
            "timezone_name": self.zone, "timezone_offset_hours_utc": 9, "account_status": self.status,
        }  # fmt: skip
        return told if self.tasks is None else {**told, "user_tasks": self.tasks}


class MetaServer(RecordedServer):
    """Names for scripts: ``order`` (of a report), ``poll``, ``results``, ``totals``, else the path without version."""

    def __init__(self, prefix: str = "") -> None:
        super().__init__(prefix)
        self.accounts: dict[str, Account] = {"901": Account()}
        self.reports: dict[str, dict[str, Any]] = {}
        self.page = 500
        self.polls = 1
        self.longest_days = 10_000
        self.retired_fields: set[str] = set()
        self.app_secret: str | None = None

    def name(self, asked: Asked) -> str:
        path = asked.path.split("/", 2)[2]
        if path in self.reports:
            return "poll"
        if path.endswith("/insights"):
            if asked.method == "POST":
                return "order"
            return "totals" if path.startswith("act_") else "results"
        return path

    def answer(self, asked: Asked) -> Answer:
        token = asked.headers.get("Authorization", "").removeprefix("Bearer ") or asked.query.get("access_token")
        if token != TOKEN:
            return error(190, f"Malformed access token {token}", status=400)
        if self.app_secret is not None:
            proof = hmac.new(self.app_secret.encode(), TOKEN.encode(), hashlib.sha256).hexdigest()
            if asked.query.get("appsecret_proof") != proof:
                return error(100, "API calls from the server require an appsecret_proof argument")
        what = self.name(asked)
        path = asked.path.split("/", 2)[2]
        if what == "me":
            return Answer({"id": "77"})
        if what == "me/permissions":
            return Answer({"data": [{"permission": "ads_read", "status": "granted"}]})
        if what == "me/adaccounts":
            return self._page(asked, [a.described(i) for i, a in self.accounts.items()])
        if what == "poll":
            return self._poll(path)
        if what == "results":
            return self._page(asked, self._results(path.split("/")[0]))
        account_id = path.split("/")[0].removeprefix("act_")
        account = self.accounts.get(account_id)
        if account is None:
            return error(100, "Unsupported get request. Object does not exist or cannot be loaded", 33)
        if what == "order":
            return self._order(asked, account_id)
        if what == "totals":
            return self._page(asked, self._totals(account, json.loads(asked.query["time_range"])))
        return Answer(account.described(account_id))

    def _order(self, asked: Asked, account_id: str) -> Answer:
        fields, span = json.loads(asked.query["fields"]), json.loads(asked.query["time_range"])
        if retired := [f for f in fields if f in self.retired_fields]:
            return error(100, f"(#100) {', '.join(retired)} is not valid for fields param. please check the docs")
        first, last = date.fromisoformat(span["since"]), date.fromisoformat(span["until"])
        if last - first >= timedelta(days=self.longest_days):
            return Answer(shape("meta_error_too_much_data.json"), 500)
        report = str(6023920149050 + len(self.reports))
        statuses = {s for f in json.loads(asked.query.get("filtering", "[]")) for s in f["value"]}
        self.reports[report] = {"account": account_id, "fields": fields, "span": span, "polls": 0, "statuses": statuses}
        return Answer(shape("meta_async_1_created.json") | {"report_run_id": report})

    def _poll(self, report: str) -> Answer:
        self.reports[report]["polls"] += 1
        done = self.reports[report]["polls"] > self.polls
        state = shape("meta_async_3_completed.json" if done else "meta_async_2_running.json")
        return Answer(state | {"id": report})

    def _results(self, report: str) -> list[dict[str, Any]]:
        order = self.reports[report]
        given = {*order["fields"], "date_start", "date_stop"}
        return [
            {k: v for k, v in item.items() if k in given}
            for item in self.accounts[order["account"]].rows
            if order["span"]["since"] <= item["date_start"] <= order["span"]["until"]
            and (item.get("status", "ACTIVE") in (order["statuses"] or {"ACTIVE"}))
        ]

    @staticmethod
    def _totals(account: Account, span: dict[str, str]) -> list[dict[str, Any]]:
        days: defaultdict[str, Decimal] = defaultdict(Decimal)
        for item in account.rows:
            if span["since"] <= item["date_start"] <= span["until"]:
                days[item["date_start"]] += Decimal(item.get("spend", "0"))
        return [{"spend": str(v), "date_start": d, "date_stop": d} for d, v in sorted(days.items())]

    def _page(self, asked: Asked, items: list[dict[str, Any]]) -> Answer:
        start = int(asked.query.get("after") or 0)
        size = min(self.page, int(asked.query.get("limit") or self.page))
        ends = start + size
        paging: dict[str, Any] = {"cursors": {"before": str(start), "after": str(ends)}}
        if ends < len(items):
            paging["next"] = f"{self.url}{asked.path}?after={ends}"
        return Answer({"data": items[start:ends], "paging": paging})
