"""An index of the few ad rows that cover more than a day, so that reading daily figures need not look for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0006"
branch_labels = None
depends_on = None

SCHEMA = "turnout"


def upgrade() -> None:
    op.create_index(
        op.f("ix_ad_performance_period"),
        "ad_performance",
        ["organisation", "source", "account", "campaign_id", "date"],
        schema=SCHEMA,
        postgresql_where=sa.text("period_end > date"),
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_ad_performance_period"), table_name="ad_performance", schema=SCHEMA)
