"""A platform to ask in tests: real HTTP on a real socket, with answers that go wrong when a test says so."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

SHAPES = Path(__file__).parents[2] / "data" / "api_shapes"


def shape(name: str) -> Any:
    """A recorded answer."""
    return json.loads((SHAPES / name).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Asked:
    """One request as it came over the wire.

    Attributes:
        path: without the server's prefix and without the query.
        raw_query: before anything was decoded.
        query: of the address and of a form.
    """

    method: str
    path: str
    raw_query: str
    query: dict[str, str]
    headers: dict[str, str]
    body: str


@dataclass(frozen=True)
class Answer:
    """What goes back. ``cut`` breaks the connection off in the middle of the body, ``hang`` waits before answering."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    hang: float = 0.0


class RecordedServer:
    """Answers what its subclass says, except where :meth:`script` put something else in the way."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.asked: list[Asked] = []
        self._scripts: defaultdict[str, deque[Answer | None]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}{self.prefix}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()

    def script(self, what: str, *answers: Answer | None) -> None:
        """What the next requests for ``what`` (see :meth:`name`) get; ``None`` is the ordinary answer."""
        self._scripts[what].extend(answers)

    def asked_for(self, what: str) -> list[Asked]:
        """The requests so far for ``what``."""
        return [a for a in self.asked if self.name(a) == what]

    def name(self, asked: Asked) -> str:
        """What a request is for, as scripts name it."""
        return asked.path

    def answer(self, asked: Asked) -> Answer:
        """The ordinary answer."""
        raise LookupError(asked.path)

    def _reply(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            queue = self._scripts[self.name(asked)]
            scripted = queue.popleft() if queue else None
            return scripted or self.answer(asked)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet

            def do_GET(self) -> None:
                self._serve()

            def do_POST(self) -> None:
                self._serve()

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                url = urlsplit(self.path)
                form = body if "urlencoded" in self.headers.get("Content-Type", "") else ""
                query = dict(parse_qsl(url.query, keep_blank_values=True)) | dict(parse_qsl(form))
                path = url.path.removeprefix(server.prefix).rstrip("/")
                assert url.path.startswith(server.prefix)
                asked = Asked(self.command, path, url.query, query, dict(self.headers.items()), body)
                self._send(server._reply(asked))

            def _send(self, answer: Answer) -> None:
                time.sleep(answer.hang)
                text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body, ensure_ascii=False)
                data = text.encode()
                self.send_response(answer.status)
                # No charset: JSON is UTF-8 whether or not the answer says so.
                self.send_header("Content-Type", "text/html" if isinstance(answer.body, str) else "application/json")
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if answer.cut:
                    self.wfile.write(data[: len(data) // 2])
                    self.close_connection = True
                    return
                self.wfile.write(data)

        return Handler
