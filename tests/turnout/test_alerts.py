"""A failed night is reported once, and a broken webhook breaks nothing."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from structlog.testing import capture_logs

from turnout.alerts import send_alert
from turnout.settings import Settings


@pytest.fixture
def webhook():
    """A chat service on the loopback; ``(url, received, answer)`` with ``answer[0]`` the status it gives."""
    received: list[dict] = []
    answer = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(answer[0])
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/services/secret-path", received, answer
    server.shutdown()


def test_the_message_reaches_the_webhook(webhook):
    url, received, _ = webhook
    assert send_alert(Settings(slack_webhook_url=url), "ingest failed", "see the log")
    assert received == [{"text": "*ingest failed*\nsee the log"}]


def test_without_a_webhook_it_is_only_logged():
    with capture_logs() as logs:
        assert not send_alert(Settings(slack_webhook_url=None), "ingest failed", "see the log")
    assert logs[0]["event"] == "alert"


@pytest.mark.parametrize("status", [404, 500])
def test_a_webhook_that_refuses_is_logged_without_its_address(webhook, status):
    url, _, answer = webhook
    answer[0] = status
    with capture_logs() as logs:
        assert not send_alert(Settings(slack_webhook_url=url), "title", "text")
    assert "secret-path" not in json.dumps(logs)


def test_a_webhook_that_is_away_is_no_error():
    assert not send_alert(Settings(slack_webhook_url="http://127.0.0.1:9/x"), "title", "text")
    assert not send_alert(Settings(slack_webhook_url="not a url"), "title", "text")
