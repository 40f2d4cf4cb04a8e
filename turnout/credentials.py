"""What Turnout needs to ask each platform's API: one model per source, from settings or from an Airflow connection.

From settings: nested variables, e.g. ``TURNOUT_GOOGLE_ADS__DEVELOPER_TOKEN``. From Airflow: a connection whose id is
``turnout_<source>``; its password is the model's :attr:`~SourceCredentials.SECRET`, its host the ``base_url``, its
extras the other fields under their own names. A source without credentials is simply not asked.

``base_url`` re-bases a client to another address, such as a proxy or a recorded server. Secrets are ``SecretStr``: they
never show in a log, a traceback of pydantic or a ``repr``.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class SourceCredentials(BaseModel):
    """What all sources have in common.

    Attributes:
        SECRET: the field that an Airflow connection's password fills.
        base_url: address the client is re-based to, scheme and port included; ``None`` is the platform's own.
        accounts: ids of the accounts to read; empty means every account the credentials can see.
        timeout_seconds: for one request.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)
    SECRET: ClassVar[str] = ""

    base_url: str | None = Field(default=None, pattern=r"^https?://[^\s]+$")
    accounts: tuple[str, ...] = ()
    timeout_seconds: float = Field(default=60.0, gt=0, le=900)


class GoogleAdsCredentials(SourceCredentials):
    """Google Ads: a developer token and an OAuth refresh token, or a service account's key file."""

    SECRET: ClassVar[str] = "refresh_token"  # noqa: S105 - a field's name

    developer_token: SecretStr
    client_id: str | None = None
    client_secret: SecretStr | None = None
    refresh_token: SecretStr | None = None
    service_account_file: str | None = Field(default=None, description="JSON key file, instead of the OAuth fields.")
    login_customer_id: str | None = Field(default=None, description="Manager account through which others are read.")
    token_url: str | None = Field(default=None, pattern=r"^https?://[^\s]+$", description="Re-bases the OAuth server.")


class MetaAdsCredentials(SourceCredentials):
    """Meta: a system user's token; with the app's secret each call carries a proof."""

    SECRET: ClassVar[str] = "access_token"  # noqa: S105 - a field's name

    access_token: SecretStr
    app_id: str | None = None
    app_secret: SecretStr | None = None
    api_version: str = Field(default="v25.0", pattern=r"^v\d{1,3}\.\d$")


class LinkedInAdsCredentials(SourceCredentials):
    """LinkedIn: a member's token (60 days), or what renews it."""

    SECRET: ClassVar[str] = "access_token"  # noqa: S105 - a field's name

    access_token: SecretStr | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    refresh_token: SecretStr | None = None
    api_version: str = Field(default="202511", pattern=r"^20\d{4}$", description="LinkedIn-Version header, YYYYMM.")
    token_url: str | None = Field(default=None, pattern=r"^https?://[^\s]+$", description="Re-bases the OAuth server.")


class SendGridCredentials(SourceCredentials):
    """SendGrid: an API key that may read statistics; the webhook's public key for signed events."""

    SECRET: ClassVar[str] = "api_key"  # noqa: S105 - a field's name

    api_key: SecretStr | None = None
    time_zone: str | None = Field(default=None, description="Zone of the account's days; the API does not say.")
    categories: tuple[str, ...] = Field(default=(), description="Categories to read; empty means all that it lists.")
    webhook_public_key: str | None = Field(default=None, description="Base64 of the event webhook's verification key.")
    webhook_tolerance_seconds: int = Field(default=300, ge=0, description="Oldest signed timestamp taken; 0 is any.")
