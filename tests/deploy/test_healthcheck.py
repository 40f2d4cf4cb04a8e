"""The containers' health check against a real server."""

import json
import runpy
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

main = runpy.run_path(str(Path(__file__).parents[2] / "deploy" / "healthcheck.py"))["main"]


class _Health(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"scheduler": {"status": "healthy"}, "triggerer": {"status": None}}).encode()
        self.send_response(200 if self.path == "/health" else 503)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    server = HTTPServer(("127.0.0.1", 0), _Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_answer_is_healthy(url):
    assert main(f"{url}/health") == 0


def test_a_part_is_healthy_only_when_it_says_so(url, capsys):
    assert main(f"{url}/health", "scheduler") == 0
    assert main(f"{url}/health", "triggerer") == 1
    assert main(f"{url}/health", "dag_processor") == 1
    assert "triggerer is None" in capsys.readouterr().err


def test_an_error_or_nobody_there_is_not(url):
    assert main(f"{url}/other") == 1
    assert main("http://127.0.0.1:9/") == 1
