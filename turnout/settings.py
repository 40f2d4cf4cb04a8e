"""Every setting, once.

Values come from the environment (prefix ``TURNOUT_``), then from ``.env`` in the working directory, then from the
defaults below. Stages never read ``os.environ`` themselves: they take a :class:`Settings`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AliasChoices, BaseModel, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import URL, make_url

from turnout.credentials import GoogleAdsCredentials, LinkedInAdsCredentials, MetaAdsCredentials, SendGridCredentials
from turnout.workdays import Closure, WorkCalendar

#: The databases Turnout keeps apart on one PostgreSQL server.
DatabaseName = Literal["turnout", "airflow", "mlflow", "feast"]
DATABASES: tuple[DatabaseName, ...] = ("turnout", "airflow", "mlflow", "feast")

#: Airflow, MLflow and Feast each want their own driver behind the same server.
_DRIVERS: dict[str, str] = {"turnout": "psycopg", "airflow": "psycopg2", "mlflow": "psycopg2", "feast": "psycopg"}

#: A unix socket's path may have about 100 characters, so sockets never live below a deep checkout.
_SOCKET_DIR_LIMIT = 70


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine alone."""
    bare = host.strip("[]").removeprefix("::ffff:").lower()
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


class Settings(BaseSettings):
    """Configuration of one Turnout installation.

    ``database_url`` and ``redis_url`` unset means: embedded servers below ``home``. After
    :func:`turnout.runtime.services` both are always set.
    """

    model_config = SettingsConfigDict(
        env_prefix="TURNOUT_", env_nested_delimiter="__", env_file=".env", extra="ignore", frozen=True
    )

    # --- where state lives -------------------------------------------------------------------------------------
    home: Path = Field(default=Path(".turnout"), description="Folder for servers, inbox, logs and Data Docs.")
    runtime_dir: Path | None = Field(default=None, description="Short folder for sockets; chosen when unset.")
    inbox: Path | None = Field(default=None, description="Folder the nightly run reads exports from (home/inbox).")

    # --- servers -----------------------------------------------------------------------------------------------
    database_url: str | None = Field(default=None, description="PostgreSQL, e.g. postgresql://user:pw@host/turnout.")
    redis_url: str | None = Field(default=None, description="Redis, e.g. redis://host:6379/0.")
    airflow_database_url: str | None = Field(default=None, description="Default: database_url's server, db airflow.")
    mlflow_database_url: str | None = Field(default=None, description="Default: database_url's server, db mlflow.")
    feast_database_url: str | None = Field(default=None, description="Default: database_url's server, db feast.")
    mlflow_tracking_uri: str | None = Field(
        default=None,
        validation_alias=AliasChoices("turnout_mlflow_tracking_uri", "mlflow_tracking_uri"),
        description="An MLflow server (http://…). Unset: its store in the mlflow database is used directly.",
    )

    # --- HTTP --------------------------------------------------------------------------------------------------
    host: str = Field(default="127.0.0.1", description="Address the service, Airflow and MLflow bind to.")
    service_port: int = Field(default=3000, ge=1, le=65535)
    airflow_port: int = Field(default=8080, ge=1, le=65535)
    airflow_url: str | None = Field(
        default=None,
        description="Where other machines reach Airflow's API server, e.g. http://airflow-api-server:8080.",
    )
    mlflow_port: int = Field(default=5000, ge=1, le=65535)
    service_workers: int = Field(default=1, ge=1, le=64)
    request_timeout_seconds: float = Field(default=10.0, gt=0, le=300)
    model_check_seconds: float = Field(default=15.0, gt=0, le=3600, description="How often the alias is looked at.")
    challenger_share: float = Field(
        default=0.0, ge=0, le=1, description="Share of events planned with the challenger, to compare it in earnest."
    )

    # --- who may ask -------------------------------------------------------------------------------------------
    auth: Literal["local", "keys", "oidc"] | None = Field(
        default=None,
        description="local: no log-in, loopback only. keys: API keys. oidc: tokens of TURNOUT_OIDC_ISSUER, and API"
        " keys. Unset, the service started by `turnout up` is local, and one started by hand refuses to start.",
    )
    oidc_issuer: str | None = Field(default=None, description="The issuer exactly as its tokens name it (iss).")
    oidc_audience: str | None = Field(default=None, description="What tokens must be made out to (aud).")
    oidc_clock_skew_seconds: float = Field(default=30.0, ge=0, le=300, description="Clocks may differ by this much.")
    oidc_roles_claim: str = Field(default="roles", description="Claim with the roles; dots lead into nested claims.")
    oidc_role_names: dict[str, str] = Field(default={}, description="The provider's names of the roles → ours.")
    oidc_organisation_claim: str | None = Field(
        default=None, description="Claim with the organisation. Unset: everybody belongs to TURNOUT_ORGANISATION."
    )
    oidc_organisations: dict[str, str] = Field(
        default={}, description="The provider's names of organisations → ours; others are refused. Empty: same names."
    )
    oidc_keys_seconds: float = Field(default=600.0, ge=1, le=86_400, description="How long its key set is good for.")
    key_secret: SecretStr | None = Field(
        default=None, description="Secret of the keyed hashes of API keys; made once in home. Its loss voids all keys."
    )
    api_key: SecretStr | None = Field(default=None, description="Key that `turnout plan` shows to the service.")
    service_database_url: str | None = Field(
        default=None,
        description="Log-in of the service at database_url's database, without rights over other organisations' rows."
        " `turnout migrate` makes the role. Unset: database_url, and the service steps down to such a role.",
    )
    metrics_open: bool = Field(default=False, description="Let /metrics be read without a log-in.")

    # --- limits ------------------------------------------------------------------------------------------------
    rate_limit_per_minute: int = Field(
        default=1000, ge=0, le=1_000_000, description="Requests per user; 0 is no limit."
    )
    max_body_bytes: int = Field(default=256 * 1024, ge=1024, le=64 * 1024 * 1024)
    max_json_depth: int = Field(default=32, ge=4, le=128)
    max_in_flight: int = Field(default=32, ge=1, le=10_000, description="Plans a worker makes at once.")
    max_waiting: int = Field(default=512, ge=0, le=100_000, description="Plans that may wait for their turn.")
    queue_seconds: float = Field(default=1.0, gt=0, le=60, description="Who waited this long is sent away with 429.")

    # --- who and where -----------------------------------------------------------------------------------------
    organisation: str = Field(default="default", min_length=1, max_length=80)
    time_zone: str = Field(default="Asia/Tokyo", description="IANA zone of events and the nightly run.")
    currency: str = Field(default="JPY", pattern=r"^[A-Z]{3}$", description="Base currency all money is converted to.")
    fx_rates: dict[str, float] = Field(
        default={"JPY": 1.0, "USD": 150.0, "EUR": 163.0, "GBP": 190.0, "BRL": 27.0},
        description="Units of JPY for one unit of each currency, used where the warehouse has no dated rate.",
    )
    fx_rates_date: str = Field(default="2026-01-01", description="The day fx_rates stands for; shown with every use.")
    country: str = Field(default="JP", pattern=r"^[A-Z]{2}$", description="Country whose public holidays count.")
    closures: list[str] | None = Field(
        default=None,
        description="Days the company is closed: MM-DD/MM-DD, or YYYY-MM-DD/YYYY-MM-DD. Default: the country's custom.",
    )
    language: Literal["ja", "en"] = "en"

    # --- ingestion ---------------------------------------------------------------------------------------------
    lookback_days: dict[str, int] = Field(
        default={
            "google_ads": 30, "meta_ads": 28, "linkedin_ads": 90, "sendgrid": 7, "registrations": 365,
            "spreadsheet": 3650,
        },
        description="Days each nightly read goes back per source, because platforms restate their figures.",
    )  # fmt: skip
    identity_salt: SecretStr | None = Field(default=None, description="Salt of hashed identities; made once in home.")
    max_line_bytes: int = Field(default=1_000_000, ge=1_000, description="A longer line is refused, never buffered.")

    # --- platform APIs: a source without credentials is read from exports only -----------------------------------
    google_ads: GoogleAdsCredentials | None = None
    meta_ads: MetaAdsCredentials | None = None
    linkedin_ads: LinkedInAdsCredentials | None = None
    sendgrid: SendGridCredentials | None = None

    # --- alerts ------------------------------------------------------------------------------------------------
    slack_webhook_url: SecretStr | None = Field(default=None, description="Where each night's message is posted.")
    smtp_url: SecretStr | None = Field(
        default=None, description="Mail server: smtp://user:password@host:587 (STARTTLS) or smtps://…:465."
    )
    alert_from: str = Field(default="turnout@localhost", description="Sender of the night's message.")
    alert_to: str = Field(default="", description="Recipients of the night's message, separated by commas.")
    alert_when_quiet: bool = Field(default=False, description="Send the night's message also when all is well.")
    docs_url: str | None = Field(default=None, description="Where people open Data Docs, e.g. https://…/data_docs/.")

    # --- training ----------------------------------------------------------------------------------------------
    random_seed: int = 20261125
    threads: int = Field(default=2, ge=1, le=256)

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"unknown time zone {value!r}; use an IANA name such as Asia/Tokyo or Europe/Berlin")
        return value

    @field_validator("closures")
    @classmethod
    def _known_closures(cls, value: list[str] | None) -> list[str] | None:
        for text in value or []:
            Closure.parse(text)
        return value

    @model_validator(mode="after")
    def _urls_are_postgres_and_redis(self) -> Self:
        for name in (
            "database_url", "airflow_database_url", "mlflow_database_url", "feast_database_url", "service_database_url",
        ):  # fmt: skip
            url = getattr(self, name)
            if url and not make_url(url).drivername.startswith("postgresql"):
                raise ValueError(f"TURNOUT_{name.upper()} must be a postgresql:// URL")
        if self.redis_url and not self.redis_url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("TURNOUT_REDIS_URL must start with redis://, rediss:// or unix://")
        if self.smtp_url is not None and not self.smtp_url.get_secret_value().startswith(("smtp://", "smtps://")):
            raise ValueError("TURNOUT_SMTP_URL must start with smtp:// or smtps://")
        if self.currency not in self.fx_rates:
            raise ValueError(f"TURNOUT_FX_RATES has no rate for TURNOUT_CURRENCY={self.currency}; add one")
        return self

    @model_validator(mode="after")
    def _issuer_can_be_trusted(self) -> Self:
        if self.oidc_issuer is not None:
            url = urlsplit(self.oidc_issuer)
            if not url.hostname or not (url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname))):
                raise ValueError("TURNOUT_OIDC_ISSUER must be an https:// URL (http:// only on loopback)")
        if self.auth == "oidc" and not (self.oidc_issuer and self.oidc_audience):
            raise ValueError("TURNOUT_AUTH=oidc needs TURNOUT_OIDC_ISSUER and TURNOUT_OIDC_AUDIENCE")
        return self

    # --- derived paths -----------------------------------------------------------------------------------------
    @cached_property
    def home_path(self) -> Path:
        """``home`` as an absolute path."""
        return self.home.expanduser().resolve()

    @cached_property
    def inbox_path(self) -> Path:
        """Where the nightly run looks for exports: ``inbox/<organisation>/…`` or files directly below."""
        return (self.inbox or self.home_path / "inbox").expanduser().resolve()

    @cached_property
    def runtime_path(self) -> Path:
        """A folder short enough for unix sockets and particular to this ``home``, so that checkouts do not collide."""
        if self.runtime_dir is not None:
            return self.runtime_dir.expanduser().resolve()
        nested = self.home_path / "run"
        if len(str(nested)) <= _SOCKET_DIR_LIMIT:
            return nested
        digest = hashlib.sha256(str(self.home_path).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"turnout-{os.getuid()}-{digest}"

    @cached_property
    def mail_recipients(self) -> tuple[str, ...]:
        """The addresses of ``alert_to``."""
        return tuple(address.strip() for address in self.alert_to.split(",") if address.strip())

    @cached_property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @cached_property
    def calendar(self) -> WorkCalendar:
        """The working days of the company."""
        return WorkCalendar.of(self.country, self.closures)

    # --- derived URLs ------------------------------------------------------------------------------------------
    def url_for(self, database: DatabaseName) -> URL:
        """The SQLAlchemy URL of one of the four databases.

        Raises:
            RuntimeError: no server is known yet; enter :func:`turnout.runtime.services` first.
        """
        own = self.database_url if database == "turnout" else getattr(self, f"{database}_database_url")
        if own:
            url = make_url(own)
        elif self.database_url:
            url = make_url(self.database_url).set(database=database)
        else:
            raise RuntimeError("no database: call inside turnout.runtime.services(), or set TURNOUT_DATABASE_URL")
        return url.set(drivername=f"postgresql+{_DRIVERS[database]}")

    def url_string(self, database: DatabaseName) -> str:
        """:meth:`url_for` with the password in clear, for handing to an engine. Never log it."""
        return self.url_for(database).render_as_string(hide_password=False)

    def environment(self) -> dict[str, str]:
        """The ``TURNOUT_…`` variables that give a child process these settings. Contains secrets: never log it."""
        variables = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, SecretStr):
                text = value.get_secret_value()
            elif isinstance(value, Path):
                text = str(value.expanduser().resolve())  # a child may run in another folder
            elif isinstance(value, BaseModel):
                text = json.dumps({
                    n: v.get_secret_value() if isinstance(v, SecretStr) else v
                    for n, v in ((n, getattr(value, n)) for n in type(value).model_fields) if v is not None
                })  # fmt: skip
            elif isinstance(value, dict | list):
                text = json.dumps(value)
            else:
                text = str(value)
            variables[f"TURNOUT_{name.upper()}"] = text
        return variables


def load_settings(**overrides: object) -> Settings:
    """The settings of this process: environment and ``.env``, with ``overrides`` on top."""
    return Settings(**overrides)  # type: ignore[arg-type]
