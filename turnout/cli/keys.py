"""Commands around API keys."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Annotated

import typer
from rich.table import Table

from turnout.cli.output import JsonFlag, emit_json, err, out
from turnout.cli.session import warehouse
from turnout.identity_keys import ApiKey
from turnout.identity_roles import Role
from turnout.settings import Settings

keys_app = typer.Typer(help="API keys of the service: make, list, revoke, rotate.", no_args_is_help=True)

Organisation = Annotated[str | None, typer.Option(help="Whose key. Default: TURNOUT_ORGANISATION.")]
KeyId = Annotated[str, typer.Argument(help="The key's id, as `turnout keys list` shows it.")]


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(help="What it is for, e.g. 'web site' or 'prometheus'.")],
    role: Annotated[list[Role] | None, typer.Option(help="May be repeated. Default: planner.")] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="Only these permissions of the roles, e.g. metrics:read; may be repeated.")
    ] = None,
    expires: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day, in the installation's time zone.")
    ] = None,
    organisation: Organisation = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key and show it, this once."""
    from turnout.identity_keys import create_key, key_secret

    with warehouse() as (settings, engine):
        ends = None
        if expires is not None:
            ends = datetime.combine(expires.date() + timedelta(days=1), time(), settings.zone).astimezone(UTC)
        with engine.begin() as connection:
            made, key = create_key(
                connection, key_secret(settings), organisation=organisation or settings.organisation, name=name,
                roles=[r.value for r in role or [Role.planner]], scopes=scope or [], expires_at=ends,
            )  # fmt: skip
    _show_new(made, key, as_json=as_json)


@keys_app.command("list")
def keys_list(organisation: Organisation = None, as_json: JsonFlag = False) -> None:
    """Every key, without the key itself."""
    from turnout.identity_keys import list_keys

    with warehouse() as (settings, engine), engine.connect() as connection:
        found = list_keys(connection, organisation or settings.organisation)
    now = datetime.now(UTC)
    if as_json:
        emit_json([{**_as_dict(key), "state": key.state(now)} for key in found])
        return
    table = Table()
    for column in ("id", "name", "roles", "scopes", "state", "created", "expires", "last used", "replaced by"):
        table.add_column(column, overflow="fold")
    for key in found:
        table.add_row(
            key.key_id, key.name, ", ".join(key.roles), ", ".join(key.scopes) or "–", key.state(now),
            *(f"{at.astimezone(settings.zone):%Y-%m-%d %H:%M}" if at else "–"
              for at in (key.created_at, key.expires_at, key.last_used_at)),
            key.replaced_by or "–",
        )  # fmt: skip
    out.print(table)


@keys_app.command("revoke")
def keys_revoke(key_id: KeyId, organisation: Organisation = None, as_json: JsonFlag = False) -> None:
    """Refuse a key from the next request on, in every worker."""
    from turnout.identity_keys import revoke_key

    with warehouse() as (settings, engine):
        with engine.begin() as connection:
            key = revoke_key(connection, organisation or settings.organisation, key_id)
        told = _tell(settings)
    if as_json:
        emit_json({**_as_dict(key), "workers_told": told})
    else:
        out.print(f"revoked {key.key_id} ({key.name})", highlight=False)


@keys_app.command("rotate")
def keys_rotate(
    key_id: KeyId,
    grace_hours: Annotated[float, typer.Option(min=0, max=24 * 90, help="How long the old key goes on working.")] = 24,
    organisation: Organisation = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key like this one and show it, this once; the old one ends after a while."""
    from turnout.identity_keys import key_secret, rotate_key

    with warehouse() as (settings, engine):
        with engine.begin() as connection:
            made, key = rotate_key(
                connection, key_secret(settings), organisation or settings.organisation, key_id,
                grace=timedelta(hours=grace_hours),
            )  # fmt: skip
        _tell(settings)
    _show_new(made, key, as_json=as_json)


def _tell(settings: Settings) -> bool:
    from turnout.identity_keys import tell_workers

    told = tell_workers(settings)
    if not told:
        err.print("Redis does not answer: running workers notice within half a minute", highlight=False)
    return told


def _show_new(made: ApiKey, key: str, *, as_json: bool) -> None:
    if as_json:
        emit_json({**_as_dict(made), "key": key})
        return
    typer.echo(key)
    err.print(
        f"key {made.key_id} for {made.organisation} ({', '.join(made.roles)}). It is shown this once: keep it now.\n"
        "Send it as `Authorization: Bearer <key>` or `X-API-Key: <key>`.",
        highlight=False,
    )


def _as_dict(key: ApiKey) -> dict[str, object]:
    return {name: getattr(key, name) for name in ApiKey.__dataclass_fields__}


def register(app: typer.Typer) -> None:
    app.add_typer(keys_app, name="keys")
