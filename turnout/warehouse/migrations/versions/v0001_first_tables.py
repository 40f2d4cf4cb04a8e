"""Every table of the first version.

Fact tables get their DEFAULT partition here, so that a row of any date finds a place; the months are made by
:func:`turnout.warehouse.partitions.ensure_months` as data arrives.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "turnout"
FACT_TABLES = ("ad_performance", "email_performance", "registration")
MONEY = sa.Numeric(precision=20, scale=6)
RATE = sa.Numeric(precision=20, scale=10)
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "ad_performance",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="google_ads, sendgrid, spreadsheet, …"),
        sa.Column(
            "account", sa.Text(), server_default="", nullable=False, comment="platform account, or folder of the inbox"
        ),
        sa.Column("account_time_zone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("fetched_at", INSTANT, nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column(
            "file_id", sa.Text(), nullable=True, comment="key of the file it was read from; NULL where an API was asked"
        ),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column(
            "period_end",
            sa.Date(),
            nullable=False,
            comment="= date for daily rows; later for reports without a day column",
        ),
        sa.Column("campaign_id", sa.Text(), nullable=False),
        sa.Column("campaign_name", sa.Text(), nullable=False),
        sa.Column("ad_group", sa.Text(), nullable=True),
        sa.Column("ad_name", sa.Text(), nullable=True),
        sa.Column("impressions", sa.BigInteger(), nullable=True),
        sa.Column("clicks", sa.BigInteger(), nullable=True),
        sa.Column("spend", MONEY, nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("spend_base", MONEY, nullable=True),
        sa.Column("base_currency", sa.Text(), nullable=False),
        sa.Column("fx_rate", RATE, nullable=False),
        sa.Column("fx_date", sa.Date(), nullable=False),
        sa.Column(
            "conversions",
            MONEY,
            nullable=True,
            comment="all conversions as the platform claims them; may be fractional",
        ),
        sa.Column("registrations", MONEY, nullable=True, comment="the part of the claim that is a registration"),
        sa.Column("leads", MONEY, nullable=True),
        sa.Column(
            "is_partial", sa.Boolean(), server_default=sa.text("false"), nullable=False, comment="day not over yet"
        ),
        sa.CheckConstraint("period_end >= date", name=op.f("ck_ad_performance_period")),
        sa.PrimaryKeyConstraint("organisation", "source", "account", "date", "line", name=op.f("pk_ad_performance")),
        schema=SCHEMA,
        postgresql_partition_by="RANGE (date)",
    )
    op.create_index(
        op.f("ix_ad_performance_campaign_id_date"),
        "ad_performance",
        ["campaign_id", "date"],
        unique=False,
        schema=SCHEMA,
    )
    op.create_table(
        "attendance",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="google_ads, sendgrid, spreadsheet, …"),
        sa.Column(
            "account", sa.Text(), server_default="", nullable=False, comment="platform account, or folder of the inbox"
        ),
        sa.Column("account_time_zone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("fetched_at", INSTANT, nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column(
            "file_id", sa.Text(), nullable=True, comment="key of the file it was read from; NULL where an API was asked"
        ),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("registered", sa.Integer(), nullable=False),
        sa.Column("attended", sa.Integer(), nullable=False),
        sa.Column("updated_at", INSTANT, server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("registered >= 0 AND attended >= 0", name=op.f("ck_attendance_counts")),
        sa.PrimaryKeyConstraint("organisation", "event_id", "source", name=op.f("pk_attendance")),
        schema=SCHEMA,
    )
    op.create_table(
        "campaign",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="google_ads, sendgrid, spreadsheet, …"),
        sa.Column(
            "account", sa.Text(), server_default="", nullable=False, comment="platform account, or folder of the inbox"
        ),
        sa.Column("account_time_zone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("fetched_at", INSTANT, nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column(
            "file_id", sa.Text(), nullable=True, comment="key of the file it was read from; NULL where an API was asked"
        ),
        sa.Column("campaign_id", sa.Text(), nullable=False, comment="the platform's id, else a key of the name"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("campaign_type", sa.Text(), nullable=True),
        sa.Column("tactic_id", sa.Text(), nullable=True),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("mapped_by", sa.Text(), server_default="unmapped", nullable=False, comment="rule, user or unmapped"),
        sa.Column("first_seen", sa.Date(), nullable=True),
        sa.Column("last_seen", sa.Date(), nullable=True),
        sa.Column("updated_at", INSTANT, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("organisation", "source", "account", "campaign_id", name=op.f("pk_campaign")),
        schema=SCHEMA,
    )
    op.create_index(op.f("ix_campaign_event_id"), "campaign", ["event_id"], unique=False, schema=SCHEMA)
    op.create_table(
        "email_performance",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="google_ads, sendgrid, spreadsheet, …"),
        sa.Column(
            "account", sa.Text(), server_default="", nullable=False, comment="platform account, or folder of the inbox"
        ),
        sa.Column("account_time_zone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("fetched_at", INSTANT, nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column(
            "file_id", sa.Text(), nullable=True, comment="key of the file it was read from; NULL where an API was asked"
        ),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column(
            "category", sa.Text(), server_default="", nullable=False, comment="'' = whole account; categories overlap"
        ),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("tactic_id", sa.Text(), nullable=True),
        sa.Column("requests", sa.BigInteger(), nullable=True),
        sa.Column("processed", sa.BigInteger(), nullable=True),
        sa.Column("delivered", sa.BigInteger(), nullable=True),
        sa.Column("opens", sa.BigInteger(), nullable=True),
        sa.Column("unique_opens", sa.BigInteger(), nullable=True),
        sa.Column("clicks", sa.BigInteger(), nullable=True),
        sa.Column("unique_clicks", sa.BigInteger(), nullable=True),
        sa.Column("bounces", sa.BigInteger(), nullable=True),
        sa.Column("bounce_drops", sa.BigInteger(), nullable=True),
        sa.Column("blocks", sa.BigInteger(), nullable=True),
        sa.Column("deferred", sa.BigInteger(), nullable=True),
        sa.Column("invalid_emails", sa.BigInteger(), nullable=True),
        sa.Column("spam_reports", sa.BigInteger(), nullable=True),
        sa.Column("spam_report_drops", sa.BigInteger(), nullable=True),
        sa.Column("unsubscribes", sa.BigInteger(), nullable=True),
        sa.Column("unsubscribe_drops", sa.BigInteger(), nullable=True),
        sa.Column("is_partial", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint(
            "organisation", "source", "account", "category", "date", "line", name=op.f("pk_email_performance")
        ),
        schema=SCHEMA,
        postgresql_partition_by="RANGE (date)",
    )
    op.create_table(
        "event",
        sa.Column("event_id", sa.Text(), nullable=False, comment="turnout.identity.event_key"),
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="google_ads, sendgrid, spreadsheet, …"),
        sa.Column(
            "account", sa.Text(), server_default="", nullable=False, comment="platform account, or folder of the inbox"
        ),
        sa.Column("account_time_zone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("fetched_at", INSTANT, nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column(
            "file_id", sa.Text(), nullable=True, comment="key of the file it was read from; NULL where an API was asked"
        ),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("event_date", sa.Date(), nullable=False),
        sa.Column("starts_at", INSTANT, nullable=True),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False, comment="turnout.taxonomy category"),
        sa.Column("theme", sa.Text(), nullable=True),
        sa.Column("format", sa.Text(), nullable=False, comment="offline, online, hybrid"),
        sa.Column("registration_opens", sa.Date(), nullable=True),
        sa.Column("price", MONEY, nullable=True),
        sa.Column("capacity", sa.Integer(), nullable=True),
        sa.Column("target_registrations", sa.Integer(), nullable=True),
        sa.Column("actual_registrations", sa.Integer(), nullable=True, comment="the organiser's own figure"),
        sa.Column("actual_attendees", sa.Integer(), nullable=True),
        sa.Column("budget", MONEY, nullable=True),
        sa.Column("actual_cost", MONEY, nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("fx_rate", RATE, nullable=True),
        sa.Column("fx_date", sa.Date(), nullable=True),
        sa.Column("base_currency", sa.Text(), nullable=True),
        sa.Column("industries", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("job_titles", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("company_sizes", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("notes", sa.Text(), nullable=True),
        sa.Column("is_simulated", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("updated_at", INSTANT, server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("format IN ('offline', 'online', 'hybrid')", name=op.f("ck_event_format")),
        sa.CheckConstraint(
            "target_registrations >= 0 AND actual_registrations >= 0 AND actual_attendees >= 0",
            name=op.f("ck_event_counts"),
        ),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_event")),
        schema=SCHEMA,
    )
    op.create_index(
        op.f("ix_event_organisation_event_date"), "event", ["organisation", "event_date"], unique=False, schema=SCHEMA
    )
    op.create_table(
        "fx_rate",
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("base_currency", sa.Text(), nullable=False),
        sa.Column("rate", RATE, nullable=False, comment="units of base for one unit of currency"),
        sa.Column("source", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("date", "currency", "base_currency", name=op.f("pk_fx_rate")),
        schema=SCHEMA,
    )
    op.create_table(
        "ingest_file",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column(
            "file_id", sa.Text(), nullable=False, comment="key of the resolved path, the sheet and the window read"
        ),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sheet", sa.Text(), server_default="", nullable=False),
        sa.Column("content_sha256", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("layout", sa.Text(), nullable=False, comment="the layout recognised, e.g. google_ads.campaign_daily"),
        sa.Column("table_name", sa.Text(), nullable=False, comment="the warehouse table it filled"),
        sa.Column("encoding", sa.Text(), nullable=True),
        sa.Column("rows_read", sa.BigInteger(), nullable=False),
        sa.Column("rows_loaded", sa.BigInteger(), nullable=False),
        sa.Column("rows_quarantined", sa.BigInteger(), nullable=False),
        sa.Column(
            "rows_total", sa.BigInteger(), nullable=False, comment="total and summary rows recognised and not counted"
        ),
        sa.Column("rows_blank", sa.BigInteger(), nullable=False),
        sa.Column(
            "rows_outside", sa.BigInteger(), server_default="0", nullable=False, comment="outside the window asked for"
        ),
        sa.Column(
            "first_date", sa.Date(), nullable=True, comment="of every dated row of the file, inside the window or not"
        ),
        sa.Column("last_date", sa.Date(), nullable=True),
        sa.Column("window_first", sa.Date(), nullable=True, comment="NULL where the whole file was read"),
        sa.Column("window_last", sa.Date(), nullable=True),
        sa.Column("totals", JSONB(), nullable=False, comment="sums over what this file loaded"),
        sa.Column("loaded_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("organisation", "file_id", name=op.f("pk_ingest_file")),
        schema=SCHEMA,
    )
    op.create_table(
        "ingest_run",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("started_at", INSTANT, server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.Column("status", sa.Text(), server_default="running", nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False, comment="cli, airflow, test"),
        sa.Column("code_version", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("status IN ('running', 'succeeded', 'failed')", name=op.f("ck_ingest_run_status")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_ingest_run")),
        schema=SCHEMA,
    )
    op.create_table(
        "insight",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="google_ads, sendgrid, spreadsheet, …"),
        sa.Column(
            "account", sa.Text(), server_default="", nullable=False, comment="platform account, or folder of the inbox"
        ),
        sa.Column("account_time_zone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("fetched_at", INSTANT, nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column(
            "file_id", sa.Text(), nullable=True, comment="key of the file it was read from; NULL where an API was asked"
        ),
        sa.Column("insight_id", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("impact", sa.Text(), nullable=True),
        sa.Column("confidence", sa.Text(), nullable=True),
        sa.Column("applies_to", JSONB(), server_default="{}", nullable=False),
        sa.Column("updated_at", INSTANT, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("organisation", "insight_id", name=op.f("pk_insight")),
        schema=SCHEMA,
    )
    op.create_table(
        "outcome",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("tactic_id", sa.Text(), server_default="", nullable=False, comment="'' is the whole event"),
        sa.Column("registrations", sa.Integer(), nullable=True),
        sa.Column("attendees", sa.Integer(), nullable=True),
        sa.Column("spend", MONEY, nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("reported_at", INSTANT, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("organisation", "event_id", "tactic_id", name=op.f("pk_outcome")),
        schema=SCHEMA,
    )
    op.create_table(
        "paid_media",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="google_ads, sendgrid, spreadsheet, …"),
        sa.Column(
            "account", sa.Text(), server_default="", nullable=False, comment="platform account, or folder of the inbox"
        ),
        sa.Column("account_time_zone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("fetched_at", INSTANT, nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column(
            "file_id", sa.Text(), nullable=True, comment="key of the file it was read from; NULL where an API was asked"
        ),
        sa.Column("media_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=True),
        sa.Column("industries", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("job_titles", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("company_sizes", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("reach", sa.BigInteger(), nullable=True),
        sa.Column("ctr", RATE, nullable=True),
        sa.Column("cvr", RATE, nullable=True),
        sa.Column("cpa", MONEY, nullable=True),
        sa.Column("minimum_price", MONEY, nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=True),
        sa.Column("updated_at", INSTANT, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("organisation", "media_id", name=op.f("pk_paid_media")),
        schema=SCHEMA,
    )
    op.create_table(
        "plan",
        sa.Column("plan_id", sa.Uuid(), nullable=False),
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("brief", JSONB(), nullable=False),
        sa.Column("answer", JSONB(), nullable=False),
        sa.Column("model_versions", JSONB(), nullable=False),
        sa.Column("created_at", INSTANT, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("plan_id", name=op.f("pk_plan")),
        sa.UniqueConstraint("organisation", "idempotency_key", name=op.f("uq_plan_organisation_idempotency_key")),
        schema=SCHEMA,
    )
    op.create_index(
        op.f("ix_plan_organisation_created_at"), "plan", ["organisation", "created_at"], unique=False, schema=SCHEMA
    )
    op.create_table(
        "prediction",
        sa.Column("plan_id", sa.Uuid(), nullable=False),
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("tactic_id", sa.Text(), nullable=False, comment="'' is the event's total"),
        sa.Column("spend_base", MONEY, nullable=False),
        sa.Column("staff_hours", sa.Numeric(precision=10, scale=2), nullable=False),
        sa.Column("registrations_mean", MONEY, nullable=False),
        sa.Column("registrations_p10", MONEY, nullable=False),
        sa.Column("registrations_p50", MONEY, nullable=False),
        sa.Column("registrations_p90", MONEY, nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("features", JSONB(), server_default="{}", nullable=False),
        sa.Column("created_at", INSTANT, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("plan_id", "tactic_id", name=op.f("pk_prediction")),
        schema=SCHEMA,
    )
    op.create_table(
        "quarantine",
        sa.Column(
            "quarantine_id", sa.Text(), nullable=False, comment="key of file, place, reason: reading again does not add"
        ),
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("table_name", sa.Text(), nullable=True),
        sa.Column("file", sa.Text(), nullable=True, comment="resolved path"),
        sa.Column(
            "content_sha256",
            sa.Text(),
            nullable=True,
            comment="of the file: a corrected file clears what its earlier version left here",
        ),
        sa.Column("sheet", sa.Text(), nullable=True),
        sa.Column("row_number", sa.Integer(), nullable=True),
        sa.Column("row_date", sa.Date(), nullable=True, comment="of the row, where it could be read"),
        sa.Column("column_name", sa.Text(), nullable=True),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("reason_code", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("record", JSONB(), server_default="{}", nullable=False, comment="the row without personal columns"),
        sa.Column("created_at", INSTANT, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("organisation", "quarantine_id", name=op.f("pk_quarantine")),
        schema=SCHEMA,
    )
    op.create_table(
        "registration",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="google_ads, sendgrid, spreadsheet, …"),
        sa.Column(
            "account", sa.Text(), server_default="", nullable=False, comment="platform account, or folder of the inbox"
        ),
        sa.Column("account_time_zone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("fetched_at", INSTANT, nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column(
            "file_id", sa.Text(), nullable=True, comment="key of the file it was read from; NULL where an API was asked"
        ),
        sa.Column("date", sa.Date(), nullable=False, comment="day of registration in the event's time zone"),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column(
            "event_label", sa.Text(), server_default="", nullable=False, comment="as the list names it, else empty"
        ),
        sa.Column("event_id", sa.Text(), nullable=True, comment="NULL while the event is not in the warehouse"),
        sa.Column("registered_at", INSTANT, nullable=True, comment="NULL where only daily counts are known"),
        sa.Column("quantity", sa.Integer(), server_default="1", nullable=False),
        sa.Column("ticket_type", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False, comment="confirmed, cancelled, waitlist"),
        sa.Column(
            "source_label",
            sa.Text(),
            nullable=True,
            comment="what the registration system says of the origin, unchanged",
        ),
        sa.Column("tactic_id", sa.Text(), nullable=True, comment="NULL where the origin is not known"),
        sa.Column("attended", sa.Boolean(), nullable=True, comment="NULL where attendance was not recorded"),
        sa.Column("registrant_hash", sa.Text(), nullable=True),
        sa.CheckConstraint("status IN ('confirmed', 'cancelled', 'waitlist')", name=op.f("ck_registration_status")),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_registration_quantity")),
        sa.PrimaryKeyConstraint(
            "organisation", "source", "account", "event_label", "date", "line", name=op.f("pk_registration")
        ),
        schema=SCHEMA,
        postgresql_partition_by="RANGE (date)",
    )
    op.create_index(
        op.f("ix_registration_event_id_date"), "registration", ["event_id", "date"], unique=False, schema=SCHEMA
    )
    op.create_table(
        "tactic",
        sa.Column("tactic_id", sa.Text(), nullable=False),
        sa.Column("name_en", sa.Text(), nullable=False),
        sa.Column("name_ja", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("is_paid", sa.Boolean(), nullable=False),
        sa.Column("spec", JSONB(), nullable=False, comment="the catalogue entry as read from YAML"),
        sa.Column("updated_at", INSTANT, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tactic_id", name=op.f("pk_tactic")),
        schema=SCHEMA,
    )
    op.create_table(
        "tactic_result",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="google_ads, sendgrid, spreadsheet, …"),
        sa.Column(
            "account", sa.Text(), server_default="", nullable=False, comment="platform account, or folder of the inbox"
        ),
        sa.Column("account_time_zone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("fetched_at", INSTANT, nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column(
            "file_id", sa.Text(), nullable=True, comment="key of the file it was read from; NULL where an API was asked"
        ),
        sa.Column("result_id", sa.Text(), nullable=False, comment="key of event, tactic, theme, format and audience"),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("event_name", sa.Text(), nullable=False),
        sa.Column(
            "event_date",
            sa.Date(),
            nullable=True,
            comment="as the organiser wrote it; tells monthly events of one name apart",
        ),
        sa.Column("tactic_id", sa.Text(), nullable=False),
        sa.Column("tactic_name", sa.Text(), nullable=False, comment="as the organiser wrote it"),
        sa.Column("theme", sa.Text(), nullable=True),
        sa.Column("format", sa.Text(), nullable=True),
        sa.Column("industries", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("job_titles", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("company_sizes", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("reach", sa.BigInteger(), nullable=True, comment="sends or page views"),
        sa.Column("clicks", sa.BigInteger(), nullable=True),
        sa.Column("registrations", MONEY, nullable=True),
        sa.Column("cost", MONEY, nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("cost_base", MONEY, nullable=True),
        sa.Column("base_currency", sa.Text(), nullable=False),
        sa.Column("fx_rate", RATE, nullable=False),
        sa.Column("fx_date", sa.Date(), nullable=False),
        sa.Column("staff_hours", sa.Numeric(precision=10, scale=2), nullable=True),
        sa.Column("reported_cpa", MONEY, nullable=True, comment="as written; never computed from"),
        sa.Column("is_simulated", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("updated_at", INSTANT, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("organisation", "result_id", name=op.f("pk_tactic_result")),
        schema=SCHEMA,
    )
    op.create_index(op.f("ix_tactic_result_event_id"), "tactic_result", ["event_id"], unique=False, schema=SCHEMA)
    op.create_table(
        "validation",
        sa.Column("organisation", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), server_default="", nullable=False),
        sa.Column("first_date", sa.Date(), nullable=True),
        sa.Column("last_date", sa.Date(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False, comment="passed, warned, stopped"),
        sa.Column("rows_checked", sa.BigInteger(), nullable=False),
        sa.Column("rows_rejected", sa.BigInteger(), nullable=False),
        sa.Column("failures", JSONB(), server_default="[]", nullable=False),
        sa.Column("checked_at", INSTANT, server_default=sa.text("now()"), nullable=False),
        sa.Column("validation_id", sa.Text(), nullable=False),
        sa.CheckConstraint("status IN ('passed', 'warned', 'stopped')", name=op.f("ck_validation_status")),
        sa.PrimaryKeyConstraint("organisation", "validation_id", name=op.f("pk_validation")),
        schema=SCHEMA,
    )
    for name in FACT_TABLES:
        op.execute(f"CREATE TABLE {SCHEMA}.{name}_default PARTITION OF {SCHEMA}.{name} DEFAULT")


def downgrade() -> None:
    # Partitions go with their parent.
    for name in (
        "validation",
        "tactic_result",
        "tactic",
        "registration",
        "quarantine",
        "prediction",
        "plan",
        "paid_media",
        "outcome",
        "insight",
        "ingest_run",
        "ingest_file",
        "fx_rate",
        "event",
        "email_performance",
        "campaign",
        "attendance",
        "ad_performance",
    ):
        op.drop_table(name, schema=SCHEMA)
