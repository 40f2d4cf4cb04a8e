"""What the models' predictions turned out to be worth, and experiments that hold a tactic out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = "turnout"
MONEY = sa.Numeric(20, 6)
RATE = sa.Numeric(20, 10)
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "lift_test",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("test_id", sa.Text(), nullable=False, comment="key of tactic, name, event and period"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("tactic_id", sa.Text(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False, comment="list: people drawn by lot; region: areas"),
        sa.Column("event_id", sa.Text(), comment="NULL where the test ran over a period, not for one event"),
        sa.Column("segment_id", sa.Text(), comment="event category; NULL where the test ran over several"),
        sa.Column("first_date", sa.Date(), nullable=False),
        sa.Column("last_date", sa.Date(), nullable=False),
        sa.Column("treated_units", MONEY, nullable=False, comment="people, or the size of the areas"),
        sa.Column("control_units", MONEY, nullable=False),
        sa.Column(
            "treated_registrations", sa.Integer(), nullable=False, comment="all of the group, whatever their origin"
        ),
        sa.Column("control_registrations", sa.Integer(), nullable=False),
        sa.Column("spend", MONEY, comment="on the treated group"),
        sa.Column("currency", sa.Text()),
        sa.Column("spend_base", MONEY),
        sa.Column("base_currency", sa.Text()),
        sa.Column("fx_rate", RATE),
        sa.Column("fx_date", sa.Date()),
        sa.Column("staff_hours", sa.Numeric(10, 2), comment="on the treated group; of free tactics"),
        sa.Column("notes", sa.Text()),
        sa.Column("source_file", sa.Text(), comment="NULL where it was typed in"),
        sa.Column("is_removed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("change_id", sa.Uuid(), nullable=False, comment="rows of one command share it: undone together"),
        sa.Column("previous", JSONB(), comment="the row before that change; NULL where there was none"),
        sa.Column("updated_at", INSTANT, server_default=sa.func.clock_timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("organisation", "test_id", name=op.f("pk_lift_test")),
        sa.CheckConstraint("split IN ('list', 'region')", name=op.f("ck_lift_test_split")),
        sa.CheckConstraint("last_date >= first_date", name=op.f("ck_lift_test_period")),
        sa.CheckConstraint("treated_units > 0 AND control_units > 0", name=op.f("ck_lift_test_units")),
        sa.CheckConstraint(
            "treated_registrations >= 0 AND control_registrations >= 0", name=op.f("ck_lift_test_counts")
        ),
        schema=SCHEMA,
    )
    op.create_table(
        "model_monitor",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("as_of", sa.Date(), nullable=False, comment="the morning it was computed for"),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column(
            "model_version", sa.Text(), server_default="", nullable=False, comment="'' is whichever version served"
        ),
        sa.Column("segment_id", sa.Text(), server_default="", nullable=False, comment="'' is every segment"),
        sa.Column("window_days", sa.Integer(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False, comment="mae, rmse, wape, bias, coverage_80, psi, …"),
        sa.Column(
            "subject",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="the feature or prediction that drifts",
        ),
        sa.Column("value", sa.Double(), comment="NULL where nothing can be said"),
        sa.Column("reference", sa.Double(), comment="what it is judged against"),
        sa.Column("evidence", sa.Integer(), nullable=False, comment="events, or values compared"),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text()),
        sa.Column("computed_at", INSTANT, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint(
            "organisation",
            "as_of",
            "model_name",
            "model_version",
            "segment_id",
            "window_days",
            "metric",
            "subject",
            name=op.f("pk_model_monitor"),
        ),
        sa.CheckConstraint("status IN ('ok', 'too_few', 'warning', 'alarm')", name=op.f("ck_model_monitor_status")),
        schema=SCHEMA,
    )
    op.create_index(
        op.f("ix_prediction_organisation_created_at"), "prediction", ["organisation", "created_at"], schema=SCHEMA
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_prediction_organisation_created_at"), "prediction", schema=SCHEMA)
    op.drop_table("model_monitor", schema=SCHEMA)
    op.drop_table("lift_test", schema=SCHEMA)
