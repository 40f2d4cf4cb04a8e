"""One message to the team when a night went wrong. Best effort: an alert never fails what it reports on."""

from __future__ import annotations

import httpx
import structlog

from turnout.settings import Settings

log = structlog.get_logger(__name__)


def send_alert(settings: Settings, title: str, text: str) -> bool:
    """Log the message, and post it to ``slack_webhook_url`` where that is set.

    Returns:
        Whether somebody was told: ``False`` where no webhook is set or it did not take the message.
    """
    log.error("alert", title=title, text=text)
    if settings.slack_webhook_url is None:
        return False
    try:
        httpx.post(
            settings.slack_webhook_url.get_secret_value(), json={"text": f"*{title}*\n{text}"}, timeout=10
        ).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # The webhook's address is a secret, and httpx puts it into its messages.
        log.warning("alert not delivered", error=type(error).__name__)
        return False
    return True
