"""Who may do what: three roles, and the permissions each of them has. The one place where this stands."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, Literal

from turnout.errors import ConfigurationError
from turnout.settings import Settings, is_loopback


class Role(StrEnum):
    """What somebody is in an organisation."""

    planner = "planner"
    analyst = "analyst"
    operator = "operator"


class Permission(StrEnum):
    """What a route asks for. Also the scopes to which an API key can be limited."""

    make_plans = "plans:write"
    read_plans = "plans:read"
    read_catalogue = "catalogue:read"
    read_models = "models:read"
    report_outcomes = "outcomes:write"
    read_metrics = "metrics:read"


#: Roles and their permissions. An analyst looks and does not plan; an operator does everything.
PERMISSIONS: Final[dict[Role, frozenset[Permission]]] = {
    Role.planner: frozenset({
        Permission.make_plans, Permission.read_plans, Permission.read_catalogue, Permission.read_models,
        Permission.report_outcomes,
    }),
    Role.analyst: frozenset({
        Permission.read_plans, Permission.read_catalogue, Permission.read_models, Permission.read_metrics,
    }),
    Role.operator: frozenset(Permission),
}  # fmt: skip


def permissions_of(roles: Iterable[str], scopes: Iterable[str] = ()) -> frozenset[Permission]:
    """The permissions of some roles, within the scopes where there are any. Unknown names give nothing."""
    known = [Role(role) for role in roles if role in Role.__members__.values()]
    given = frozenset().union(*(PERMISSIONS[role] for role in known)) if known else frozenset()
    limits = set(scopes)
    return frozenset(p for p in given if not limits or p.value in limits)


def auth_mode(
    settings: Settings, *hosts: str, default: Literal["local"] | None = None
) -> Literal["local", "keys", "oidc"]:
    """How the service finds out who asks.

    Args:
        hosts: addresses it is about to listen on, besides ``settings.host``.
        default: what counts where nothing is set: ``local`` for the stack on one's own machine, nothing for a service
            that somebody starts by hand.

    Raises:
        ConfigurationError: nothing is set, or local mode on an address that others reach; the message names the fix.
    """
    mode = settings.auth or ("oidc" if settings.oidc_issuer and settings.oidc_audience else default)
    if mode is None:
        raise ConfigurationError(
            "who may use the service is not set: TURNOUT_AUTH=oidc (with TURNOUT_OIDC_ISSUER and"
            " TURNOUT_OIDC_AUDIENCE) or keys (`turnout keys create`), or local: no log-in, this machine only"
        )
    if mode == "local":
        for host in (settings.host, *hosts):
            if not is_loopback(host):
                raise ConfigurationError(
                    f"TURNOUT_AUTH=local lets anybody in, so the service may listen on loopback only, not on {host}:"
                    " set TURNOUT_HOST=127.0.0.1, or TURNOUT_AUTH=keys or oidc"
                )
    return mode
