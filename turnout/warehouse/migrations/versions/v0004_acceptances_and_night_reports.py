"""Stops that somebody vouched for, runs that failed, and what each night's message told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCHEMA = "turnout"
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "accepted_partition",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("acceptance_id", sa.Text(), nullable=False, comment="key of everything it holds for"),
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), server_default="", nullable=False),
        sa.Column("code", sa.Text(), nullable=False, comment="the check that stops no more"),
        sa.Column("first_date", sa.Date(), comment="NULL is open"),
        sa.Column("last_date", sa.Date(), comment="NULL is open"),
        sa.Column("note", sa.Text()),
        sa.Column("accepted_at", INSTANT, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("organisation", "acceptance_id", name=op.f("pk_accepted_partition")),
        schema=SCHEMA,
    )
    op.create_table(
        "incident",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=False, comment="key of title and run: reported twice is once"),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("occurred_at", INSTANT, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("organisation", "incident_id", name=op.f("pk_incident")),
        schema=SCHEMA,
    )
    op.create_table(
        "night_report",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("night", sa.Date(), nullable=False, comment="the day whose morning it is of"),
        sa.Column(
            "content_key", sa.Text(), nullable=False, comment="key of what matters in it: the same is not sent again"
        ),
        sa.Column(
            "sent", JSONB(), server_default="{}", nullable=False, comment="channel → content key it was sent with"
        ),
        sa.Column("findings", JSONB(), server_default="[]", nullable=False, comment="keys of what was told"),
        sa.Column("sent_at", INSTANT, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("organisation", "night", name=op.f("pk_night_report")),
        schema=SCHEMA,
    )


def downgrade() -> None:
    for table in ("night_report", "incident", "accepted_partition"):
        op.drop_table(table, schema=SCHEMA)
