"""What Turnout needs to ask each platform's API: one model per source, from settings or from an Airflow connection.

From settings: nested variables, e.g. ``TURNOUT_GOOGLE_ADS__DEVELOPER_TOKEN``. From Airflow: a connection whose id is
``turnout_<source>``; its password is the model's :attr:`~SourceCredentials.SECRET`, its host the ``base_url``, its
extras the other fields under their own names. A source without credentials is simply not asked.

``base_url`` re-bases a client to another address, such as a proxy or a recorded server. Secrets are ``SecretStr``: they
never show in a log, a traceback of pydantic or a ``repr``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from turnout.errors import ConfigurationError

#: The account of a SendGrid API key that names none: SendGrid's own name for it may be hidden from the key, and an
#: account's id must never change.
SENDGRID_ACCOUNT: Final = "sendgrid"


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

    @property
    def can_ask(self) -> bool:
        """Whether there is what the API wants; some credentials may be set for another purpose alone."""
        return True


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
    #: The SDK's own; Meta answers a version for about a year (v25.0 until February 2027).
    api_version: str = Field(default="v26.0", pattern=r"^v\d{1,3}\.\d$")


class LinkedInAdsCredentials(SourceCredentials):
    """LinkedIn: a member's token (60 days), or what renews it."""

    SECRET: ClassVar[str] = "access_token"  # noqa: S105 - a field's name

    access_token: SecretStr | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    refresh_token: SecretStr | None = None
    #: LinkedIn answers a version for about a year (202511 until November 2026).
    api_version: str = Field(default="202607", pattern=r"^20\d{4}$", description="LinkedIn-Version header, YYYYMM.")
    token_url: str | None = Field(default=None, pattern=r"^https?://[^\s]+$", description="Re-bases the OAuth server.")


class SendGridCredentials(SourceCredentials):
    """SendGrid: an API key that may read statistics; the webhook's public key for signed events."""

    SECRET: ClassVar[str] = "api_key"  # noqa: S105 - a field's name

    api_key: SecretStr | None = None
    time_zone: str | None = Field(default=None, description="Zone of the account's days; the API does not say.")
    categories: tuple[str, ...] = Field(default=(), description="Categories to read; empty means all that it lists.")
    webhook_public_key: str | None = Field(default=None, description="Base64 of the event webhook's verification key.")
    webhook_public_keys: dict[str, str] = Field(
        default={}, description="The same per account, where several accounts have a webhook each."
    )
    #: SendGrid posts again what it could not deliver for about a day and does not say whether it signs anew; a repeat
    #: stores nothing, so waiting for it costs nothing.
    webhook_tolerance_seconds: int = Field(default=90_000, ge=0, description="Oldest signed timestamp taken; 0 is any.")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None and value not in available_timezones():
            raise ValueError(f"unknown time zone {value!r}; use an IANA name such as Asia/Tokyo or UTC")
        return value

    @property
    def can_ask(self) -> bool:
        """Whether there is an API key. The webhook needs none."""
        return self.api_key is not None

    @property
    def webhook_accounts(self) -> tuple[str, ...]:
        """The accounts events may come from: those read, else the one of the API key."""
        return self.accounts or (SENDGRID_ACCOUNT,)

    def webhook_key_of(self, account: str) -> str | None:
        """The verification key of an account's webhook."""
        return self.webhook_public_keys.get(account, self.webhook_public_key)


ConnectedSource = Literal["google_ads", "meta_ads", "linkedin_ads", "sendgrid"]
CREDENTIALS: Mapping[str, type[SourceCredentials]] = {
    "google_ads": GoogleAdsCredentials,
    "meta_ads": MetaAdsCredentials,
    "linkedin_ads": LinkedInAdsCredentials,
    "sendgrid": SendGridCredentials,
}


def connection_id(source: str) -> str:
    """The id of the Airflow connection that may hold a source's credentials."""
    return f"turnout_{source}"


def from_connection(
    source: str,
    *,
    host: str | None = None,
    scheme: str | None = None,
    port: int | None = None,
    login: str | None = None,
    password: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> SourceCredentials:
    """Credentials from the parts of an Airflow connection; see the module for which part is what.

    Raises:
        ConfigurationError: a field is missing or unknown; the message names connection and field, never the value.
    """
    model = CREDENTIALS[source]
    fields: dict[str, Any] = dict(extra or {})
    if password:
        fields.setdefault(model.SECRET, password)
    if login and "client_id" in model.model_fields:
        fields.setdefault("client_id", login)
    if host:
        address = host if "://" in host else f"{scheme or 'https'}://{host}"
        fields.setdefault("base_url", f"{address}:{port}" if port else address)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise ConfigurationError(
            f"the Airflow connection {connection_id(source)} cannot be used: {said}. Its extras may be "
            f"{', '.join(model.model_fields)}; its password is {model.SECRET}"
        ) from None


def variables(source: str) -> list[str]:
    """The environment variables that may hold a source's credentials, required ones first."""
    fields = CREDENTIALS[source].model_fields
    ordered = sorted(fields, key=lambda name: (not fields[name].is_required(), name != CREDENTIALS[source].SECRET))
    return [f"TURNOUT_{source.upper()}__{name.upper()}" for name in ordered]
