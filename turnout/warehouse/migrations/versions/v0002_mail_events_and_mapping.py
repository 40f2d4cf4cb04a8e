"""Single mail events from the webhook, and the rules that tie campaigns to events and tactics."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = "turnout"
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "email_event",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column(
            "account", sa.Text(), server_default="", nullable=False, comment="the mail service's account, as configured"
        ),
        sa.Column("date", sa.Date(), nullable=False, comment="day of occurred_at in the account's time zone"),
        sa.Column(
            "sg_event_id", sa.Text(), nullable=False, comment="the service's own key: repeats of an event share it"
        ),
        sa.Column(
            "event", sa.Text(), nullable=False, comment="processed, delivered, open, click, bounce, unsubscribe, …"
        ),
        sa.Column("occurred_at", INSTANT, nullable=False),
        sa.Column("received_at", INSTANT, server_default=sa.func.now(), nullable=False),
        sa.Column("categories", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("message_hash", sa.Text(), comment="salted; tells one message's events apart from another's"),
        sa.Column("recipient_hash", sa.Text(), comment="salted; for unique counts only"),
        sa.Column(
            "is_machine", sa.Boolean(), comment="opened by a privacy proxy, not a person; NULL where it cannot be told"
        ),
        sa.PrimaryKeyConstraint("organisation", "date", "sg_event_id", name=op.f("pk_email_event")),
        schema=SCHEMA,
        postgresql_partition_by="RANGE (date)",
    )
    op.create_index(
        op.f("ix_email_event_organisation_account_date"),
        "email_event",
        ["organisation", "account", "date"],
        schema=SCHEMA,
    )
    op.execute(f"CREATE TABLE {SCHEMA}.email_event_default PARTITION OF {SCHEMA}.email_event DEFAULT")
    op.create_table(
        "mapping_rule",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("rule_id", sa.Text(), nullable=False, comment="key of source, account, kind and pattern"),
        sa.Column("source", sa.Text(), server_default="", nullable=False, comment="'' is every source"),
        sa.Column("account", sa.Text(), server_default="", nullable=False, comment="'' is every account"),
        sa.Column("kind", sa.Text(), nullable=False, comment="id, exact, contains, glob or regex"),
        sa.Column("pattern", sa.Text(), nullable=False, comment="compared with the campaign's id or name"),
        sa.Column("position", sa.Integer(), server_default="0", nullable=False, comment="lower is asked first"),
        sa.Column("event_id", sa.Text(), comment="NULL leaves the event to the other rules"),
        sa.Column("tactic_id", sa.Text(), comment="NULL leaves the tactic to the other rules"),
        sa.Column(
            "ignored",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="belongs to no event, on purpose",
        ),
        sa.Column("note", sa.Text()),
        sa.Column("created_at", INSTANT, server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("kind IN ('id', 'exact', 'contains', 'glob', 'regex')", name=op.f("ck_mapping_rule_kind")),
        sa.PrimaryKeyConstraint("organisation", "rule_id", name=op.f("pk_mapping_rule")),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("mapping_rule", schema=SCHEMA)
    op.drop_table("email_event", schema=SCHEMA)  # its partitions go with it
