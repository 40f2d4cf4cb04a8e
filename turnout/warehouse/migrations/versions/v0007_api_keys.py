"""API keys, and the one way the service looks one up before it knows whose it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = "turnout"
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("key_id", sa.Text(), nullable=False, comment="public part of the key, by which it is looked up"),
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="what it is for"),
        sa.Column(
            "secret_hash", sa.Text(), nullable=False, comment="keyed hash of the whole key; the key itself is nowhere"
        ),
        sa.Column("roles", ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "scopes",
            ARRAY(sa.Text()),
            server_default="{}",
            nullable=False,
            comment="only these permissions, unless empty",
        ),
        sa.Column("created_at", INSTANT, server_default=sa.func.now(), nullable=False),
        sa.Column("expires_at", INSTANT),
        sa.Column("revoked_at", INSTANT),
        sa.Column("last_used_at", INSTANT),
        sa.Column("replaced_by", sa.Text(), comment="the key that rotation made in its place"),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_api_key")),
        schema=SCHEMA,
    )
    op.create_index(op.f("ix_api_key_organisation"), "api_key", ["organisation"], schema=SCHEMA)
    # With its owner's rights: who asks does not know yet which organisation the key belongs to. One key at a time.
    op.execute(f"""
        CREATE FUNCTION {SCHEMA}.find_api_key(wanted text)
        RETURNS TABLE (organisation text, name text, secret_hash text, roles text[], scopes text[],
                       expires_at timestamptz, revoked_at timestamptz)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
        AS $$
            SELECT k.organisation, k.name, k.secret_hash, k.roles, k.scopes, k.expires_at, k.revoked_at
            FROM {SCHEMA}.api_key k WHERE k.key_id = wanted
        $$""")
    op.execute(f"REVOKE ALL ON FUNCTION {SCHEMA}.find_api_key(text) FROM PUBLIC")


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SCHEMA}.find_api_key(text)")
    op.drop_table("api_key", schema=SCHEMA)
