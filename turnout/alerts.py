"""Messages to the team, over Slack and e-mail: best effort at once, or as a delivery that says whether it happened."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Final
from urllib.parse import unquote, urlsplit

import httpx
import structlog

from turnout.settings import Settings

log = structlog.get_logger(__name__)

_PATIENCE: Final = 10.0


class NotDelivered(RuntimeError):  # noqa: N818 - what happened to the message
    """A channel did not take a message. Its text names the channel and the kind of failure, never an address."""


def channels(settings: Settings) -> list[str]:
    """The channels that are set up: ``slack``, ``email``."""
    found = ["slack"] if settings.slack_webhook_url is not None else []
    return [*found, "email"] if settings.smtp_url is not None and settings.mail_recipients else found


def deliver(settings: Settings, channel: str, title: str, text: str) -> None:
    """Send a message over one channel.

    Raises:
        NotDelivered: it was not taken.
        KeyError: there is no such channel.
    """
    _CHANNELS[channel](settings, title, text)


def send_alert(settings: Settings, title: str, text: str) -> bool:
    """Log the message and send it over every channel there is. Never fails what it reports on.

    Returns:
        Whether somebody was told: ``False`` where no channel is set up or none took the message.
    """
    log.error("alert", title=title, text=text)
    told = False
    for channel in channels(settings):
        try:
            deliver(settings, channel, title, text)
        except NotDelivered as error:
            log.warning("alert not delivered", channel=channel, error=str(error))
        else:
            told = True
    return told


def _slack(settings: Settings, title: str, text: str) -> None:
    assert settings.slack_webhook_url is not None
    try:
        httpx.post(
            settings.slack_webhook_url.get_secret_value(), json={"text": f"*{title}*\n{text}"}, timeout=_PATIENCE
        ).raise_for_status()
    except httpx.HTTPStatusError as error:
        raise NotDelivered(f"slack answered {error.response.status_code}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # The webhook's address is a secret, and httpx puts it into its messages.
        raise NotDelivered(f"slack: {type(error).__name__}") from None


def _email(settings: Settings, title: str, text: str) -> None:
    """Over ``smtps://`` from the start, over ``smtp://`` encrypted as soon as the server offers it; a password is never
    sent unencrypted to another machine."""
    assert settings.smtp_url is not None
    address = urlsplit(settings.smtp_url.get_secret_value())
    message = EmailMessage()
    message["Subject"] = " ".join(title.split())
    message["From"] = settings.alert_from
    message["To"] = ", ".join(settings.mail_recipients)
    message["Date"] = formatdate(localtime=False)
    message["Message-ID"] = make_msgid(domain="turnout.invalid")
    message.set_content(text + "\n", charset="utf-8")
    host = address.hostname or "localhost"
    context = ssl.create_default_context()
    try:
        if address.scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, address.port or 465, timeout=_PATIENCE, context=context)
        else:
            server = smtplib.SMTP(host, address.port or 587, timeout=_PATIENCE)
        with server:
            server.ehlo()
            is_secure = address.scheme == "smtps"
            if not is_secure and server.has_extn("starttls"):
                server.starttls(context=context)
                server.ehlo()
                is_secure = True
            if address.username:
                if not is_secure and host not in {"localhost", "127.0.0.1", "::1"}:
                    raise NotDelivered("email: the server offers no encryption, so the password was not sent")
                server.login(unquote(address.username), unquote(address.password or ""))
            server.send_message(message)
    except (smtplib.SMTPException, OSError) as error:
        raise NotDelivered(f"email: {type(error).__name__}") from None


_CHANNELS: Final[Mapping[str, Callable[[Settings, str, str], None]]] = {"slack": _slack, "email": _email}
