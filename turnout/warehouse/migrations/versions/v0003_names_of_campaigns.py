"""Every name a campaign had, and the event a mapping rule meant in words: both outlive a renaming."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = "turnout"


def upgrade() -> None:
    op.add_column(
        "campaign",
        sa.Column(
            "names",
            sa.ARRAY(sa.Text()),
            server_default="{}",
            nullable=False,
            comment="every name seen, sorted",
        ),
        schema=SCHEMA,
    )
    op.execute(f"UPDATE {SCHEMA}.campaign SET names = ARRAY[name]")
    op.add_column(
        "mapping_rule",
        sa.Column(
            "event_name",
            sa.Text(),
            comment="as the rule meant it: finds it again after a correction",
        ),
        schema=SCHEMA,
    )
    op.add_column("mapping_rule", sa.Column("event_date", sa.Date(), comment="likewise"), schema=SCHEMA)
    op.alter_column(
        "mapping_rule",
        "tactic_id",
        existing_type=sa.Text(),
        comment="NULL leaves the tactic to the other rules; '' is none, on purpose",
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_column("mapping_rule", "event_date", schema=SCHEMA)
    op.drop_column("mapping_rule", "event_name", schema=SCHEMA)
    op.drop_column("campaign", "names", schema=SCHEMA)
