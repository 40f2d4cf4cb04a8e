"""A SendGrid to ask in tests: HTTP on a real socket, the documented shapes, and answers that go wrong on request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

SHAPES = Path(__file__).parents[2] / "data" / "api_shapes"
KEY = "SG.secret-key-of-the-tests"
ALL_SCOPES = ("stats.read", "categories.read", "categories.stats.read", "user.username.read")
#: Path → the scope its reader needs.
_SCOPE_OF = {
    "/v3/stats": "stats.read",
    "/v3/categories": "categories.read",
    "/v3/categories/stats": "categories.stats.read",
    "/v3/user/username": "user.username.read",
}


def shape(name: str) -> Any:
    return json.loads((SHAPES / name).read_text())


def metrics(**changes: int | None) -> dict[str, Any]:
    """A day's metrics with everything zero but ``changes``; ``None`` leaves the metric out."""
    zeros = dict.fromkeys(shape("sendgrid_v3_stats.json")[0]["stats"][0]["metrics"], 0)
    return {name: value for name, value in {**zeros, **changes}.items() if value is not None}


@dataclass
class Fault:
    """How one request goes wrong.

    Attributes:
        path: of the request, exactly.
        kind: ``status`` answers so; ``cut`` breaks the connection off in the body; ``hang`` says nothing for a while;
            ``text`` answers 200 with ``body`` as it is.
        after: requests of this path that are answered before.
    """

    path: str
    kind: str = "status"
    status: int = 500
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    after: int = 0
    times: int = 1


@dataclass
class Account:
    """What SendGrid knows of an account: category ('' is the whole) → day → metrics."""

    days: dict[str, dict[date, dict[str, Any]]] = field(default_factory=lambda: {"": {}})
    scopes: tuple[str, ...] = ALL_SCOPES
    username: str = "kaigi"


class SendGridServer:
    """The recorded platform.

    Attributes:
        subusers: by name; the key's own account is ``own``.
        page: at most so many elements a page, whatever is asked for.
        silent: statistics come as an empty array.
        requests: path, query and headers of every request, in order.
    """

    def __init__(self) -> None:
        self.own = Account()
        self.subusers: dict[str, Account] = {}
        self.faults: list[Fault] = []
        self.page = 10_000
        self.silent = False
        self.requests: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []
        self.before: list[Any] = []

    def asked(self, path: str) -> list[dict[str, list[str]]]:
        return [query for p, query, _ in self.requests if p == path]

    def replay(self) -> None:
        """Hold what the sample answers hold."""
        for element in shape("sendgrid_v3_stats.json"):
            self.own.days[""][date.fromisoformat(element["date"])] = element["stats"][0]["metrics"]
        for element in shape("sendgrid_v3_category_stats.json"):
            for part in element["stats"]:
                self.own.days.setdefault(part["name"], {})[date.fromisoformat(element["date"])] = part["metrics"]

    # --- answers ---------------------------------------------------------------------------------------------------
    def answer(self, path: str, query: dict[str, list[str]], headers: dict[str, str]) -> tuple[int, Any]:
        if headers.get("authorization") != f"Bearer {KEY}":
            return 401, _errors("authorization required")
        account = self.own
        if (name := headers.get("on-behalf-of")) is not None:
            if name not in self.subusers:
                return 403, _errors("access forbidden")
            account = self.subusers[name]
        if path == "/v3/scopes":
            return 200, {"scopes": list(account.scopes)}
        if path not in _SCOPE_OF:
            return 404, _errors("not found")
        if _SCOPE_OF[path] not in account.scopes:
            return 403, _errors("access forbidden")
        if path == "/v3/user/username":
            return 200, {"username": account.username, "user_id": 7}
        if path == "/v3/categories":
            return 200, self._page([{"category": c} for c in account.days if c], query)
        if self.silent:
            return 200, []
        return self._statistics(account, path, query)

    def _statistics(self, account: Account, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        try:
            first, last = (date.fromisoformat(query[n][0]) for n in ("start_date", "end_date"))
        except (KeyError, ValueError):
            return 400, _errors("start_date must be YYYY-MM-DD", "start_date")
        if query.get("aggregated_by") != ["day"]:
            return 400, _errors("aggregated_by must be day in these tests", "aggregated_by")
        if first > last:
            return 400, _errors("end_date cannot be before start_date", "end_date")
        names = [""]
        if path.startswith("/v3/categories"):
            names = query.get("categories", [])
            if not 0 < len(names) <= 10:
                return 400, _errors("categories: 1 to 10", "categories")
        every = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        elements = []
        for day in every:
            parts = []
            for name in names:
                part: dict[str, Any] = {"metrics": account.days.get(name, {}).get(day, metrics())}
                parts.append({"type": "category", "name": name, **part} if name else part)
            elements.append({"date": day.isoformat(), "stats": parts})
        return 200, self._page(elements, query)

    def _page(self, elements: list[Any], query: dict[str, list[str]]) -> list[Any]:
        limit = min(int(query.get("limit", ["50"])[0]), self.page)
        offset = int(query.get("offset", ["0"])[0])
        return elements[offset : offset + limit]

    def fault(self, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.path == path:
                if fault.after > 0:
                    fault.after -= 1
                    return None
                fault.times -= 1
                if fault.times == 0:
                    self.faults.remove(fault)
                return fault
        return None


def _errors(message: str, field_name: str | None = None) -> dict[str, Any]:
    return {"errors": [{"field": field_name, "message": message}]}


@contextmanager
def running() -> Iterator[tuple[SendGridServer, str]]:
    """The server and its address."""
    platform = SendGridServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query, keep_blank_values=True)
            headers = {name.lower(): value for name, value in self.headers.items()}
            platform.requests.append((parts.path, query, headers))
            for hook in platform.before:
                hook(parts.path, query)
            status, body = platform.answer(parts.path, query, headers)
            fault = platform.fault(parts.path)
            extra: dict[str, str] = {}
            if fault is not None and fault.kind == "hang":
                time.sleep(1.5)
            elif fault is not None and fault.kind == "status":
                status, body, extra = fault.status, fault.body, dict(fault.headers)
            elif fault is not None and fault.kind == "text":
                body = fault.body
            content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response_only(status)
            extra.setdefault("Date", self.date_time_string())
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in extra.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if fault is not None and fault.kind == "cut" else content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield platform, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
