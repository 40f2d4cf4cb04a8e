"""The warehouse: every table of schema ``turnout``, as SQLAlchemy Core.

Conventions
    * Natural keys only. ``organisation`` is part of each of them: tenants share tables, never rows.
    * Fact tables are range-partitioned by month on ``date``. A *partition key* in the ingestion sense is
      (organisation, source, account, date): its rows are replaced together, so reading again never adds.
      ``line`` numbers rows within it; two identical ads on one day are two lines, not a duplicate.
    * Money is NUMERIC in ``currency``, beside ``…_base`` in ``base_currency`` with ``fx_rate`` and ``fx_date``.
    * NULL means unknown. It is never written for a zero, nor a zero for it.
    * No names, addresses or other personal data.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    Index,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

SCHEMA = "turnout"
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(schema=SCHEMA, naming_convention=NAMING)

MONEY = Numeric(20, 6)
RATE = Numeric(20, 10)


def _now() -> Column[Any]:
    return Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now())


def _provenance() -> list[Column[Any]]:
    """Where a row came from: on every table that ingestion fills."""
    return [
        Column("organisation", Text, nullable=False),
        Column("source", Text, nullable=False, comment="google_ads, sendgrid, spreadsheet, …"),
        Column("account", Text, nullable=False, server_default="", comment="platform account, or folder of the inbox"),
        Column("account_time_zone", Text, nullable=False, server_default="UTC"),
        Column("fetched_at", DateTime(timezone=True), nullable=False),
        Column("run_id", Uuid, nullable=False),
        Column("file_id", Text, comment="key of the file it was read from; NULL where an API was asked"),
    ]  # fmt: skip


event = Table(
    "event", metadata,
    Column("event_id", Text, primary_key=True, comment="turnout.identity.event_key"),
    *_provenance(),
    Column("name", Text, nullable=False),
    Column("event_date", Date, nullable=False),
    Column("starts_at", DateTime(timezone=True)),
    Column("time_zone", Text, nullable=False),
    Column("category", Text, nullable=False, comment="turnout.taxonomy category"),
    Column("theme", Text),
    Column("format", Text, nullable=False, comment="offline, online, hybrid"),
    Column("registration_opens", Date),
    Column("price", MONEY),
    Column("capacity", Integer),
    Column("target_registrations", Integer),
    Column("actual_registrations", Integer, comment="the organiser's own figure"),
    Column("actual_attendees", Integer),
    Column("budget", MONEY),
    Column("actual_cost", MONEY),
    Column("currency", Text, nullable=False),
    Column("fx_rate", RATE),
    Column("fx_date", Date),
    Column("base_currency", Text),
    Column("industries", ARRAY(Text), nullable=False, server_default="{}"),
    Column("job_titles", ARRAY(Text), nullable=False, server_default="{}"),
    Column("company_sizes", ARRAY(Text), nullable=False, server_default="{}"),
    Column("notes", Text),
    Column("is_simulated", Boolean, nullable=False, server_default=text("false")),
    _now(),
    CheckConstraint("format IN ('offline', 'online', 'hybrid')", name="format"),
    CheckConstraint("target_registrations >= 0 AND actual_registrations >= 0 AND actual_attendees >= 0", name="counts"),
    Index(None, "organisation", "event_date"),
)  # fmt: skip

tactic = Table(
    "tactic", metadata,
    Column("tactic_id", Text, primary_key=True),
    Column("name_en", Text, nullable=False),
    Column("name_ja", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("is_paid", Boolean, nullable=False),
    Column("spec", JSONB, nullable=False, comment="the catalogue entry as read from YAML"),
    _now(),
)  # fmt: skip

campaign = Table(
    "campaign", metadata,
    *_provenance(),
    Column("campaign_id", Text, nullable=False, comment="the platform's id, else a key of the name"),
    Column("name", Text, nullable=False),
    Column("names", ARRAY(Text), nullable=False, server_default="{}", comment="every name seen, sorted"),
    Column("campaign_type", Text),
    Column("tactic_id", Text),
    Column("event_id", Text),
    Column("mapped_by", Text, nullable=False, server_default="unmapped", comment="rule, user or unmapped"),
    Column("first_seen", Date),
    Column("last_seen", Date),
    _now(),
    PrimaryKeyConstraint("organisation", "source", "account", "campaign_id"),
    Index(None, "event_id"),
)  # fmt: skip

ad_performance = Table(
    "ad_performance", metadata,
    *_provenance(),
    Column("date", Date, nullable=False),
    Column("line", Integer, nullable=False),
    Column("period_end", Date, nullable=False, comment="= date for daily rows; later for reports without a day column"),
    Column("campaign_id", Text, nullable=False),
    Column("campaign_name", Text, nullable=False),
    Column("ad_group", Text),
    Column("ad_name", Text),
    Column("impressions", BigInteger),
    Column("clicks", BigInteger),
    Column("spend", MONEY),
    Column("currency", Text, nullable=False),
    Column("spend_base", MONEY),
    Column("base_currency", Text, nullable=False),
    Column("fx_rate", RATE, nullable=False),
    Column("fx_date", Date, nullable=False),
    Column("conversions", Numeric(20, 6), comment="all conversions as the platform claims them; may be fractional"),
    Column("registrations", Numeric(20, 6), comment="the part of the claim that is a registration"),
    Column("leads", Numeric(20, 6)),
    Column("is_partial", Boolean, nullable=False, server_default=text("false"), comment="day not over yet"),
    PrimaryKeyConstraint("organisation", "source", "account", "date", "line"),
    CheckConstraint("period_end >= date", name="period"),
    Index(None, "campaign_id", "date"),
    Index(
        "ix_ad_performance_period", "organisation", "source", "account", "campaign_id", "date",
        postgresql_where=text("period_end > date"),
    ),
    postgresql_partition_by="RANGE (date)",
)  # fmt: skip

#: SendGrid's statistics, in its own words; also the columns of ``email_performance``.
EMAIL_METRICS = (
    "requests", "processed", "delivered", "opens", "unique_opens", "clicks", "unique_clicks", "bounces", "bounce_drops",
    "blocks", "deferred", "invalid_emails", "spam_reports", "spam_report_drops", "unsubscribes", "unsubscribe_drops",
)  # fmt: skip

email_performance = Table(
    "email_performance", metadata,
    *_provenance(),
    Column("date", Date, nullable=False),
    Column("line", Integer, nullable=False),
    Column("category", Text, nullable=False, server_default="", comment="'' = whole account; categories overlap"),
    Column("event_id", Text),
    Column("tactic_id", Text),
    *[Column(name, BigInteger) for name in EMAIL_METRICS],
    Column("is_partial", Boolean, nullable=False, server_default=text("false")),
    PrimaryKeyConstraint("organisation", "source", "account", "category", "date", "line"),
    postgresql_partition_by="RANGE (date)",
)  # fmt: skip

registration = Table(
    "registration", metadata,
    *_provenance(),
    Column("date", Date, nullable=False, comment="day of registration in the event's time zone"),
    Column("line", Integer, nullable=False),
    Column("event_label", Text, nullable=False, server_default="", comment="as the list names it, else empty"),
    Column("event_id", Text, comment="NULL while the event is not in the warehouse"),
    Column("registered_at", DateTime(timezone=True), comment="NULL where only daily counts are known"),
    Column("quantity", Integer, nullable=False, server_default="1"),
    Column("ticket_type", Text),
    Column("status", Text, nullable=False, comment="confirmed, cancelled, waitlist"),
    Column("source_label", Text, comment="what the registration system says of the origin, unchanged"),
    Column("tactic_id", Text, comment="NULL where the origin is not known"),
    Column("attended", Boolean, comment="NULL where attendance was not recorded"),
    Column("registrant_hash", Text),
    PrimaryKeyConstraint("organisation", "source", "account", "event_label", "date", "line"),
    CheckConstraint("status IN ('confirmed', 'cancelled', 'waitlist')", name="status"),
    CheckConstraint("quantity > 0", name="quantity"),
    Index(None, "event_id", "date"),
    postgresql_partition_by="RANGE (date)",
)  # fmt: skip

attendance = Table(
    "attendance", metadata,
    *_provenance(),
    Column("event_id", Text, nullable=False),
    Column("registered", Integer, nullable=False),
    Column("attended", Integer, nullable=False),
    _now(),
    PrimaryKeyConstraint("organisation", "event_id", "source"),
    CheckConstraint("registered >= 0 AND attended >= 0", name="counts"),
)  # fmt: skip

tactic_result = Table(
    "tactic_result", metadata,
    *_provenance(),
    Column("result_id", Text, nullable=False, comment="key of event, tactic, theme, format and audience"),
    Column("event_id", Text),
    Column("event_name", Text, nullable=False),
    Column("event_date", Date, comment="as the organiser wrote it; tells monthly events of one name apart"),
    Column("tactic_id", Text, nullable=False),
    Column("tactic_name", Text, nullable=False, comment="as the organiser wrote it"),
    Column("theme", Text),
    Column("format", Text),
    Column("industries", ARRAY(Text), nullable=False, server_default="{}"),
    Column("job_titles", ARRAY(Text), nullable=False, server_default="{}"),
    Column("company_sizes", ARRAY(Text), nullable=False, server_default="{}"),
    Column("reach", BigInteger, comment="sends or page views"),
    Column("clicks", BigInteger),
    Column("registrations", Numeric(20, 6)),
    Column("cost", MONEY),
    Column("currency", Text, nullable=False),
    Column("cost_base", MONEY),
    Column("base_currency", Text, nullable=False),
    Column("fx_rate", RATE, nullable=False),
    Column("fx_date", Date, nullable=False),
    Column("staff_hours", Numeric(10, 2)),
    Column("reported_cpa", MONEY, comment="as written; never computed from"),
    Column("is_simulated", Boolean, nullable=False, server_default=text("false")),
    _now(),
    PrimaryKeyConstraint("organisation", "result_id"),
    Index(None, "event_id"),
)  # fmt: skip

paid_media = Table(
    "paid_media", metadata,
    *_provenance(),
    Column("media_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("media_type", Text),
    Column("industries", ARRAY(Text), nullable=False, server_default="{}"),
    Column("job_titles", ARRAY(Text), nullable=False, server_default="{}"),
    Column("company_sizes", ARRAY(Text), nullable=False, server_default="{}"),
    Column("reach", BigInteger),
    Column("ctr", RATE),
    Column("cvr", RATE),
    Column("cpa", MONEY),
    Column("minimum_price", MONEY),
    Column("currency", Text, nullable=False),
    Column("notes", Text),
    _now(),
    PrimaryKeyConstraint("organisation", "media_id"),
)  # fmt: skip

insight = Table(
    "insight", metadata,
    *_provenance(),
    Column("insight_id", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("impact", Text),
    Column("confidence", Text),
    Column("applies_to", JSONB, nullable=False, server_default="{}"),
    Column("direction", Text, comment="up or down; NULL: read from the words"),
    Column("metric", Text, comment="registrations, show_up or other; NULL: read from the words"),
    Column("is_removed", Boolean, nullable=False, server_default=text("false"), comment="reading the sheet keeps it"),
    Column("change_id", Uuid, comment="rows of one command share it: undone together; NULL where only read"),
    Column("changed_at", DateTime(timezone=True), comment="when that command ran"),
    Column("previous", JSONB(none_as_null=True), comment="the row before that change; NULL where there was none"),
    _now(),
    PrimaryKeyConstraint("organisation", "insight_id"),
    CheckConstraint("direction IN ('up', 'down')", name="direction"),
    CheckConstraint("metric IN ('registrations', 'show_up', 'other')", name="metric"),
)  # fmt: skip

insight_verdict = Table(
    "insight_verdict", metadata,
    Column("organisation", Text, nullable=False),
    Column("insight_id", Text, nullable=False),
    Column("as_of", Date, nullable=False, comment="only events before this day were looked at"),
    Column("verdict", Text, nullable=False),
    Column("reason", Text, nullable=False, comment="why, in a word: confirmed, opposite, too_few_events, …"),
    Column("effect", Double, comment="multiplier where it applies, against elsewhere; NULL where not measured"),
    Column("low", Double, comment="95 % interval of the effect"),
    Column("high", Double),
    Column("p_value", Double, comment="of no effect, two-sided"),
    Column("q_value", Double, comment="the same, for all insights checked at once (Benjamini-Hochberg)"),
    Column("events_with", Integer, nullable=False),
    Column("events_without", Integer, nullable=False),
    Column("checked", Integer, nullable=False, comment="insights that were measured in the same run"),
    Column("computed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("organisation", "insight_id", "as_of"),
    CheckConstraint("verdict IN ('supported', 'contradicted', 'untested')", name="verdict"),
)  # fmt: skip

plan = Table(
    "plan", metadata,
    Column("plan_id", Uuid, primary_key=True),
    Column("organisation", Text, nullable=False),
    Column("event_id", Text),
    Column("idempotency_key", Text),
    Column("brief", JSONB, nullable=False),
    Column("answer", JSONB, nullable=False),
    Column("model_versions", JSONB, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    UniqueConstraint("organisation", "idempotency_key"),
    Index(None, "organisation", "created_at"),
)  # fmt: skip

prediction = Table(
    "prediction", metadata,
    Column("plan_id", Uuid, nullable=False),
    Column("organisation", Text, nullable=False),
    Column("tactic_id", Text, nullable=False, comment="'' is the event's total"),
    Column("spend_base", MONEY, nullable=False),
    Column("staff_hours", Numeric(10, 2), nullable=False),
    Column("registrations_mean", Numeric(20, 6), nullable=False),
    Column("registrations_p10", Numeric(20, 6), nullable=False),
    Column("registrations_p50", Numeric(20, 6), nullable=False),
    Column("registrations_p90", Numeric(20, 6), nullable=False),
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("features", JSONB, nullable=False, server_default="{}"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("plan_id", "tactic_id"),
    Index(None, "organisation", "created_at"),
)  # fmt: skip

outcome = Table(
    "outcome", metadata,
    Column("organisation", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("tactic_id", Text, nullable=False, server_default="", comment="'' is the whole event"),
    Column("registrations", Integer),
    Column("attendees", Integer),
    Column("spend", MONEY),
    Column("currency", Text),
    Column("reported_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("organisation", "event_id", "tactic_id"),
)  # fmt: skip

ingest_run = Table(
    "ingest_run", metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("organisation", Text, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("finished_at", DateTime(timezone=True)),
    Column("status", Text, nullable=False, server_default="running"),
    Column("trigger", Text, nullable=False, comment="cli, airflow, test"),
    Column("code_version", Text, nullable=False),
    Column("error", Text),
    CheckConstraint("status IN ('running', 'succeeded', 'failed')", name="status"),
)  # fmt: skip

ingest_file = Table(
    "ingest_file", metadata,
    Column("organisation", Text, nullable=False),
    Column("file_id", Text, nullable=False, comment="key of the resolved path, the sheet and the window read"),
    Column("run_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("sheet", Text, nullable=False, server_default=""),
    Column("content_sha256", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("layout", Text, nullable=False, comment="the layout recognised, e.g. google_ads.campaign_daily"),
    Column("table_name", Text, nullable=False, comment="the warehouse table it filled"),
    Column("encoding", Text),
    Column("rows_read", BigInteger, nullable=False),
    Column("rows_loaded", BigInteger, nullable=False),
    Column("rows_quarantined", BigInteger, nullable=False),
    Column("rows_total", BigInteger, nullable=False, comment="total and summary rows recognised and not counted"),
    Column("rows_blank", BigInteger, nullable=False),
    Column("rows_outside", BigInteger, nullable=False, server_default="0", comment="outside the window asked for"),
    Column("first_date", Date, comment="of every dated row of the file, inside the window or not"),
    Column("last_date", Date),
    Column("window_first", Date, comment="NULL where the whole file was read"),
    Column("window_last", Date),
    Column("totals", JSONB, nullable=False, comment="sums over what this file loaded"),
    Column("loaded_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("organisation", "file_id"),
)  # fmt: skip

quarantine = Table(
    "quarantine", metadata,
    Column("quarantine_id", Text, nullable=False, comment="key of file, place, reason: reading again does not add"),
    Column("organisation", Text, nullable=False),
    Column("run_id", Uuid, nullable=False),
    Column("source", Text, nullable=False),
    Column("table_name", Text),
    Column("file", Text, comment="resolved path"),
    Column("content_sha256", Text, comment="of the file: a corrected file clears what its earlier version left here"),
    Column("sheet", Text),
    Column("row_number", Integer),
    Column("row_date", Date, comment="of the row, where it could be read"),
    Column("column_name", Text),
    Column("value", Text),
    Column("reason_code", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("record", JSONB, nullable=False, server_default="{}", comment="the row without personal columns"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("organisation", "quarantine_id"),
)  # fmt: skip

validation = Table(
    "validation", metadata,
    Column("organisation", Text, nullable=False),
    Column("run_id", Uuid, nullable=False),
    Column("table_name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("account", Text, nullable=False, server_default=""),
    Column("first_date", Date),
    Column("last_date", Date),
    Column("status", Text, nullable=False, comment="passed, warned, stopped"),
    Column("rows_checked", BigInteger, nullable=False),
    Column("rows_rejected", BigInteger, nullable=False),
    Column("failures", JSONB, nullable=False, server_default="[]"),
    Column("checked_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("validation_id", Text, nullable=False),
    PrimaryKeyConstraint("organisation", "validation_id"),
    CheckConstraint("status IN ('passed', 'warned', 'stopped')", name="status"),
)  # fmt: skip

fx_rate = Table(
    "fx_rate", metadata,
    Column("date", Date, nullable=False),
    Column("currency", Text, nullable=False),
    Column("base_currency", Text, nullable=False),
    Column("rate", RATE, nullable=False, comment="units of base for one unit of currency"),
    Column("source", Text, nullable=False),
    PrimaryKeyConstraint("date", "currency", "base_currency"),
)  # fmt: skip

email_event = Table(
    "email_event", metadata,
    Column("organisation", Text, nullable=False),
    Column("account", Text, nullable=False, server_default="", comment="the mail service's account, as configured"),
    Column("date", Date, nullable=False, comment="day of occurred_at in the account's time zone"),
    Column("sg_event_id", Text, nullable=False, comment="the service's own key: repeats of an event share it"),
    Column("event", Text, nullable=False, comment="processed, delivered, open, click, bounce, unsubscribe, …"),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("categories", ARRAY(Text), nullable=False, server_default="{}"),
    Column("message_hash", Text, comment="salted; tells one message's events apart from another's"),
    Column("recipient_hash", Text, comment="salted; for unique counts only"),
    Column("is_machine", Boolean, comment="opened by a privacy proxy, not a person; NULL where it cannot be told"),
    PrimaryKeyConstraint("organisation", "date", "sg_event_id"),
    Index(None, "organisation", "account", "date"),
    postgresql_partition_by="RANGE (date)",
)  # fmt: skip

mapping_rule = Table(
    "mapping_rule", metadata,
    Column("organisation", Text, nullable=False),
    Column("rule_id", Text, nullable=False, comment="key of source, account, kind and pattern"),
    Column("source", Text, nullable=False, server_default="", comment="'' is every source"),
    Column("account", Text, nullable=False, server_default="", comment="'' is every account"),
    Column("kind", Text, nullable=False, comment="id, exact, contains, glob or regex"),
    Column("pattern", Text, nullable=False, comment="compared with the campaign's id or name"),
    Column("position", Integer, nullable=False, server_default="0", comment="lower is asked first"),
    Column("event_id", Text, comment="NULL leaves the event to the other rules"),
    Column("event_name", Text, comment="as the rule meant it: finds it again after a correction"),
    Column("event_date", Date, comment="likewise"),
    Column("tactic_id", Text, comment="NULL leaves the tactic to the other rules; '' is none, on purpose"),
    Column("ignored", Boolean, nullable=False, server_default=text("false"), comment="belongs to no event, on purpose"),
    Column("note", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("organisation", "rule_id"),
    CheckConstraint("kind IN ('id', 'exact', 'contains', 'glob', 'regex')", name="kind"),
)  # fmt: skip

accepted_partition = Table(
    "accepted_partition", metadata,
    Column("organisation", Text, nullable=False),
    Column("acceptance_id", Text, nullable=False, comment="key of everything it holds for"),
    Column("table_name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("account", Text, nullable=False, server_default=""),
    Column("code", Text, nullable=False, comment="the check that stops no more"),
    Column("first_date", Date, comment="NULL is open"),
    Column("last_date", Date, comment="NULL is open"),
    Column("note", Text),
    Column("accepted_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("organisation", "acceptance_id"),
)  # fmt: skip

incident = Table(
    "incident", metadata,
    Column("organisation", Text, nullable=False),
    Column("incident_id", Text, nullable=False, comment="key of title and run: reported twice is once"),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("occurred_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("organisation", "incident_id"),
)  # fmt: skip

night_report = Table(
    "night_report", metadata,
    Column("organisation", Text, nullable=False),
    Column("night", Date, nullable=False, comment="the day whose morning it is of"),
    Column("content_key", Text, nullable=False, comment="key of what matters in it: the same is not sent again"),
    Column("sent", JSONB, nullable=False, server_default="{}", comment="channel → content key it was sent with"),
    Column("findings", JSONB, nullable=False, server_default="[]", comment="keys of what was told"),
    Column("sent_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("organisation", "night"),
)  # fmt: skip

lift_test = Table(
    "lift_test", metadata,
    Column("organisation", Text, nullable=False),
    Column("test_id", Text, nullable=False, comment="key of tactic, name, event and period"),
    Column("name", Text, nullable=False),
    Column("tactic_id", Text, nullable=False),
    Column("split", Text, nullable=False, comment="list: people drawn by lot; region: areas"),
    Column("event_id", Text, comment="NULL where the test ran over a period, not for one event"),
    Column("segment_id", Text, comment="event category; NULL where the test ran over several"),
    Column("first_date", Date, nullable=False),
    Column("last_date", Date, nullable=False),
    Column("treated_units", Numeric(20, 6), nullable=False, comment="people, or the size of the areas"),
    Column("control_units", Numeric(20, 6), nullable=False),
    Column("treated_registrations", Integer, nullable=False, comment="all of the group, whatever their origin"),
    Column("control_registrations", Integer, nullable=False),
    Column("spend", MONEY, comment="on the treated group"),
    Column("currency", Text),
    Column("spend_base", MONEY),
    Column("base_currency", Text),
    Column("fx_rate", RATE),
    Column("fx_date", Date),
    Column("staff_hours", Numeric(10, 2), comment="on the treated group; of free tactics"),
    Column("notes", Text),
    Column("source_file", Text, comment="NULL where it was typed in"),
    Column("is_removed", Boolean, nullable=False, server_default=text("false")),
    Column("change_id", Uuid, nullable=False, comment="rows of one command share it: undone together"),
    Column("previous", JSONB(none_as_null=True), comment="the row before that change; NULL where there was none"),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    PrimaryKeyConstraint("organisation", "test_id"),
    CheckConstraint("split IN ('list', 'region')", name="split"),
    CheckConstraint("last_date >= first_date", name="period"),
    CheckConstraint("treated_units > 0 AND control_units > 0", name="units"),
    CheckConstraint("treated_registrations >= 0 AND control_registrations >= 0", name="counts"),
)  # fmt: skip

model_monitor = Table(
    "model_monitor", metadata,
    Column("organisation", Text, nullable=False),
    Column("as_of", Date, nullable=False, comment="the morning it was computed for"),
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, nullable=False, server_default="", comment="'' is whichever version served"),
    Column("segment_id", Text, nullable=False, server_default="", comment="'' is every segment"),
    Column("window_days", Integer, nullable=False),
    Column("metric", Text, nullable=False, comment="mae, rmse, wape, bias, coverage_80, psi, …"),
    Column("subject", Text, nullable=False, server_default="", comment="the feature or prediction that drifts"),
    Column("value", Double, comment="NULL where nothing can be said"),
    Column("reference", Double, comment="what it is judged against"),
    Column("evidence", Integer, nullable=False, comment="events, or values compared"),
    Column("status", Text, nullable=False),
    Column("detail", Text),
    Column("computed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint(
        "organisation", "as_of", "model_name", "model_version", "segment_id", "window_days", "metric", "subject"
    ),
    CheckConstraint("status IN ('ok', 'too_few', 'warning', 'alarm')", name="status"),
)  # fmt: skip

api_key = Table(
    "api_key", metadata,
    Column("key_id", Text, primary_key=True, comment="public part of the key, by which it is looked up"),
    Column("organisation", Text, nullable=False),
    Column("name", Text, nullable=False, comment="what it is for"),
    Column("secret_hash", Text, nullable=False, comment="keyed hash of the whole key; the key itself is nowhere"),
    Column("roles", ARRAY(Text), nullable=False),
    Column("scopes", ARRAY(Text), nullable=False, server_default="{}", comment="only these permissions, unless empty"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),
    Column("replaced_by", Text, comment="the key that rotation made in its place"),
    Index(None, "organisation"),
)  # fmt: skip

#: Facts that are replaced by (organisation, source, account, date).
FACT_TABLES: tuple[Table, ...] = (ad_performance, email_performance, registration)
#: Tables partitioned by month on ``date``.
PARTITIONED_TABLES: tuple[Table, ...] = (*FACT_TABLES, email_event)
