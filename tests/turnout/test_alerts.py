"""A failed night is reported once, and a broken webhook breaks nothing."""

from __future__ import annotations

import json

import pytest
from structlog.testing import capture_logs

from tests.turnout.smtp_sink import Sink
from turnout.alerts import NotDelivered, channels, deliver, send_alert
from turnout.settings import Settings


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


@pytest.fixture
def sink():
    server = Sink()
    yield server
    server.stop()


def _mail(sink: Sink, login: str = "", **more) -> Settings:
    return Settings(
        smtp_url=f"smtp://{login}127.0.0.1:{sink.port}", alert_from="turnout@example.jp",
        alert_to="a@example.jp, b@example.jp", **more,
    )  # fmt: skip


def test_the_message_reaches_everybody_by_mail(sink):
    assert send_alert(_mail(sink), "夜間処理\nが失敗", "費用が桁違い：¥1,200,000\n.見る")
    message, recipients = sink.messages[0]
    assert recipients == ["a@example.jp", "b@example.jp"]
    assert (message["Subject"], message["From"]) == ("夜間処理 が失敗", "turnout@example.jp")
    assert message.get_content().splitlines() == ["費用が桁違い：¥1,200,000", ".見る"]
    assert message["Date"]
    assert message["Message-ID"]


def test_a_login_is_used_and_no_password_is_logged(sink):
    with capture_logs() as logs:
        assert send_alert(_mail(sink, "bot:s%40cret@"), "title", "text")
    assert sink.logins == [("bot", "s@cret")]
    assert "cret" not in json.dumps(logs)


def test_both_channels_are_told_and_one_is_enough(webhook, sink):
    url, received, answer = webhook
    settings = _mail(sink, slack_webhook_url=url)
    assert channels(settings) == ["slack", "email"]
    answer[0] = 500
    assert send_alert(settings, "title", "text")
    assert (len(received), len(sink.messages)) == (1, 1)


def test_a_mail_server_that_refuses_or_is_away_is_said_without_its_address(sink):
    sink.refuse = b"550 no such person"
    settings = _mail(sink, "bot:secret@")
    with pytest.raises(NotDelivered) as refused:
        deliver(settings, "email", "title", "text")
    assert "secret" not in str(refused.value)
    sink.stop()
    assert not send_alert(settings, "title", "text")


def test_without_recipients_there_is_no_mail():
    assert channels(Settings(smtp_url="smtp://127.0.0.1:25")) == []


@pytest.fixture
def certificate(tmp_path):
    """A certificate for the loopback that nobody has signed."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    paths[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def test_encryption_that_is_offered_is_used_and_a_false_certificate_refused(certificate, monkeypatch):
    server = Sink(certificate)
    try:
        with pytest.raises(NotDelivered, match="SSLCertVerificationError"):
            deliver(_mail(server, "bot:secret@"), "email", "title", "text")
        assert server.logins == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        deliver(_mail(server, "bot:secret@"), "email", "title", "text")
        assert server.used_tls
        assert len(server.messages) == 1
    finally:
        server.stop()
