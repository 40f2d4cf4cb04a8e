"""Insights that people add, remove and undo, and what the history says of them.

Numbered before 0007, which came into being at the same time; it follows it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0007"
branch_labels = None
depends_on = None

SCHEMA = "turnout"
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    for column in (
        sa.Column("direction", sa.Text(), comment="up or down; NULL: read from the words"),
        sa.Column("metric", sa.Text(), comment="registrations, show_up or other; NULL: read from the words"),
        sa.Column(
            "is_removed",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="reading the sheet keeps it",
        ),
        sa.Column(
            "change_id", sa.Uuid(), comment="rows of one command share it: undone together; NULL where only read"
        ),
        sa.Column("changed_at", INSTANT, comment="when that command ran"),
        sa.Column("previous", JSONB(), comment="the row before that change; NULL where there was none"),
    ):
        op.add_column("insight", column, schema=SCHEMA)
    op.create_check_constraint(op.f("ck_insight_direction"), "insight", "direction IN ('up', 'down')", schema=SCHEMA)
    op.create_check_constraint(
        op.f("ck_insight_metric"), "insight", "metric IN ('registrations', 'show_up', 'other')", schema=SCHEMA
    )
    op.create_table(
        "insight_verdict",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("insight_id", sa.Text(), nullable=False),
        sa.Column("as_of", sa.Date(), nullable=False, comment="only events before this day were looked at"),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column(
            "reason", sa.Text(), nullable=False, comment="why, in a word: confirmed, opposite, too_few_events, …"
        ),
        sa.Column(
            "effect", sa.Double(), comment="multiplier where it applies, against elsewhere; NULL where not measured"
        ),
        sa.Column("low", sa.Double(), comment="95 % interval of the effect"),
        sa.Column("high", sa.Double()),
        sa.Column("p_value", sa.Double(), comment="of no effect, two-sided"),
        sa.Column("q_value", sa.Double(), comment="the same, for all insights checked at once (Benjamini-Hochberg)"),
        sa.Column("events_with", sa.Integer(), nullable=False),
        sa.Column("events_without", sa.Integer(), nullable=False),
        sa.Column("checked", sa.Integer(), nullable=False, comment="insights that were measured in the same run"),
        sa.Column("computed_at", INSTANT, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("organisation", "insight_id", "as_of", name=op.f("pk_insight_verdict")),
        sa.CheckConstraint(
            "verdict IN ('supported', 'contradicted', 'untested')", name=op.f("ck_insight_verdict_verdict")
        ),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("insight_verdict", schema=SCHEMA)
    op.drop_constraint(op.f("ck_insight_metric"), "insight", schema=SCHEMA, type_="check")
    op.drop_constraint(op.f("ck_insight_direction"), "insight", schema=SCHEMA, type_="check")
    for name in ("previous", "changed_at", "change_id", "is_removed", "metric", "direction"):
        op.drop_column("insight", name, schema=SCHEMA)
