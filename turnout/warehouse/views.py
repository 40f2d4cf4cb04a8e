"""Views that say what counts: one figure per event and tactic, wherever it was reported, never twice.

Three systems speak of the same tactic in the same event: the ad platform or mail service (spend, reach, clicks, claimed
conversions), the registration system (who really registered, and where from) and the organiser's own sheet (cost,
hours, results). These rules decide between them; every consumer reads the views, so there is one answer.

``ad_counted``
    Rows of ``ad_performance`` that count. A row that covers a period (a report without a day column) counts only where
    no daily row of its campaign falls into the period. Of overlapping periods of one campaign the longest counts; of
    equally long ones the one fetched last.
``mail_counted``
    Rows of ``email_performance`` that count. Categories overlap, so per event, tactic and account only the category
    with the most deliveries counts.
``tactic_daily``
    Reach, clicks and spend by tactic, event and day, from both. Daily figures only.
``event_tactic``
    One row per event × tactic that anything is known of.

    * spend: the platform's (``platform_daily``, else ``platform_period``), else the sheet's cost (``tactic_result``),
      else what was reported through the API (``outcome``). Never the sum of two of them.
    * registrations: the registration system's attributed, confirmed count (``registration_system``) where it knows the
      origin of at least half of the event's registrations: a tactic it does not name then brought none. Else the
      sheet's figure (``tactic_result``), else the reported ``outcome``, else the count of the registrations whose
      origin is known, else the platform's claim (``claimed``). Figures that do not come from the registration system
      are scaled down so that they never add past the event's own count; claims give way first.
    * NULL is unknown and stays unknown. A sheet's figure that is missing in one of several rows of a tactic makes the
      tactic's figure unknown; platforms leave out zeros, so theirs are summed over what is there.
``event_summary``
    One row per event: registrations, how many of them the tactics brought, the rest (organic and unknown origin),
    attendees and show-up rate.
``segment_daily``
    Confirmed registrations per segment and day, with a row for every day from the segment's first registration to the
    organisation's last: a day without rows in between is a true zero.

Points in time: an event's figures are final only after its day. Whoever learns from them must ask for
``event_date < as_of``.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection, text

from turnout.warehouse.tables import SCHEMA

#: Share of an event's confirmed registrations whose origin must be known before a tactic not named counts as zero.
ORIGIN_KNOWN_SHARE = 0.5

_AD_COUNTED = f"""
WITH period AS (
    SELECT organisation, source, account, campaign_id, date, period_end, max(fetched_at) AS fetched_at
    FROM {SCHEMA}.ad_performance
    WHERE period_end > date
    GROUP BY organisation, source, account, campaign_id, date, period_end
), without_days AS (
    SELECT * FROM period p
    WHERE NOT EXISTS (
        SELECT FROM {SCHEMA}.ad_performance d
        WHERE d.organisation = p.organisation AND d.source = p.source AND d.account = p.account
          AND d.campaign_id = p.campaign_id AND d.period_end = d.date AND d.date BETWEEN p.date AND p.period_end
    )
), counted AS (
    SELECT * FROM without_days p
    WHERE NOT EXISTS (
        SELECT FROM without_days o
        WHERE o.organisation = p.organisation AND o.source = p.source AND o.account = p.account
          AND o.campaign_id = p.campaign_id AND o.date <= p.period_end AND o.period_end >= p.date
          AND (o.period_end - o.date, o.fetched_at, o.date) > (p.period_end - p.date, p.fetched_at, p.date)
    )
), ad AS (
    SELECT organisation, source, account, campaign_id, date, period_end, impressions, clicks, spend_base,
           coalesce(registrations, conversions, leads) AS registrations_claimed
    FROM {SCHEMA}.ad_performance
    WHERE period_end = date
    UNION ALL
    SELECT a.organisation, a.source, a.account, a.campaign_id, a.date, a.period_end, a.impressions, a.clicks,
           a.spend_base, coalesce(a.registrations, a.conversions, a.leads)
    FROM {SCHEMA}.ad_performance a
    JOIN counted USING (organisation, source, account, campaign_id, date, period_end)
)
SELECT ad.organisation, ad.source, ad.account, ad.campaign_id, c.tactic_id, c.event_id, ad.date, ad.period_end,
       ad.impressions, ad.clicks, ad.spend_base, ad.registrations_claimed
FROM ad
LEFT JOIN {SCHEMA}.campaign c USING (organisation, source, account, campaign_id)
"""

_MAIL_COUNTED = f"""
WITH category AS (
    SELECT organisation, source, account, event_id, tactic_id, category,
           row_number() OVER (
               PARTITION BY organisation, source, account, event_id, tactic_id
               ORDER BY sum(delivered) DESC NULLS LAST, category
           ) AS place
    FROM {SCHEMA}.email_performance
    WHERE tactic_id IS NOT NULL
    GROUP BY organisation, source, account, event_id, tactic_id, category
)
SELECT m.organisation, m.source, m.account, m.category, m.tactic_id, m.event_id, m.date, m.delivered,
       m.unique_clicks AS clicks
FROM {SCHEMA}.email_performance m
JOIN category c
  ON c.organisation = m.organisation AND c.source = m.source AND c.account = m.account AND c.category = m.category
 AND c.tactic_id = m.tactic_id AND c.event_id IS NOT DISTINCT FROM m.event_id AND c.place = 1
"""

_TACTIC_DAILY = f"""
WITH fact AS (
    SELECT organisation, tactic_id, event_id, date, impressions AS reach, clicks, spend_base
    FROM {SCHEMA}.ad_counted
    WHERE tactic_id IS NOT NULL AND period_end = date
    UNION ALL
    SELECT organisation, tactic_id, event_id, date, delivered, clicks, NULL
    FROM {SCHEMA}.mail_counted
)
SELECT f.organisation, f.tactic_id, f.event_id, e.category AS segment_id, f.date,
       sum(f.reach) AS reach, sum(f.clicks) AS clicks, sum(f.spend_base) AS spend_base
FROM fact f
LEFT JOIN {SCHEMA}.event e ON e.organisation = f.organisation AND e.event_id = f.event_id
GROUP BY f.organisation, f.tactic_id, f.event_id, e.category, f.date
"""

#: The registration system's word on each event: confirmed people, those of known origin, those with known attendance.
_REGISTERED = f"""
    SELECT organisation, event_id,
           coalesce(sum(quantity) FILTER (WHERE status = 'confirmed'), 0) AS confirmed,
           coalesce(sum(quantity) FILTER (
               WHERE status = 'confirmed' AND (tactic_id IS NOT NULL OR btrim(source_label) <> '')
           ), 0) AS origin_known,
           sum(quantity) FILTER (WHERE status = 'confirmed' AND attended) AS attended,
           sum(quantity) FILTER (WHERE status = 'confirmed' AND attended IS NOT NULL) AS attendance_known,
           min(date) AS first_date
    FROM {SCHEMA}.registration
    WHERE event_id IS NOT NULL
    GROUP BY organisation, event_id
"""

#: Lists of one event overlap, so the largest counts.
_ATTENDANCE = f"""
    SELECT DISTINCT ON (organisation, event_id) organisation, event_id, registered, attended
    FROM {SCHEMA}.attendance
    ORDER BY organisation, event_id, registered DESC, attended DESC, source
"""

_EVENT_TACTIC = f"""
WITH ads AS (
    SELECT organisation, event_id, tactic_id, sum(spend_base) AS spend_base, sum(impressions) AS reach,
           sum(clicks) AS clicks, sum(registrations_claimed) AS registrations, min(date) AS first_date,
           bool_or(period_end = date) AS is_daily
    FROM {SCHEMA}.ad_counted
    WHERE event_id IS NOT NULL AND tactic_id IS NOT NULL
    GROUP BY organisation, event_id, tactic_id
), mail AS (
    SELECT organisation, event_id, tactic_id, sum(delivered) AS reach, sum(clicks) AS clicks, min(date) AS first_date
    FROM {SCHEMA}.mail_counted
    WHERE event_id IS NOT NULL
    GROUP BY organisation, event_id, tactic_id
), sheet AS (
    SELECT organisation, event_id, tactic_id,
           CASE WHEN bool_and(cost_base IS NOT NULL) THEN sum(cost_base) END AS spend_base,
           CASE WHEN bool_and(staff_hours IS NOT NULL) THEN sum(staff_hours) END AS staff_hours,
           CASE WHEN bool_and(reach IS NOT NULL) THEN sum(reach) END AS reach,
           CASE WHEN bool_and(clicks IS NOT NULL) THEN sum(clicks) END AS clicks,
           CASE WHEN bool_and(registrations IS NOT NULL) THEN sum(registrations) END AS registrations
    FROM {SCHEMA}.tactic_result
    WHERE event_id IS NOT NULL
    GROUP BY organisation, event_id, tactic_id
), reported AS (
    SELECT o.organisation, o.event_id, o.tactic_id, o.registrations,
           CASE WHEN o.currency = e.base_currency THEN o.spend
                WHEN o.currency = e.currency THEN o.spend * e.fx_rate END AS spend_base
    FROM {SCHEMA}.outcome o
    JOIN {SCHEMA}.event e USING (organisation, event_id)
    WHERE o.tactic_id <> ''
), attributed AS (
    SELECT organisation, event_id, tactic_id, min(date) AS first_date,
           coalesce(sum(quantity) FILTER (WHERE status = 'confirmed'), 0) AS registrations
    FROM {SCHEMA}.registration
    WHERE event_id IS NOT NULL AND tactic_id IS NOT NULL
    GROUP BY organisation, event_id, tactic_id
), registered AS ({_REGISTERED}
), known AS (
    SELECT organisation, event_id, tactic_id FROM ads
    UNION SELECT organisation, event_id, tactic_id FROM mail
    UNION SELECT organisation, event_id, tactic_id FROM sheet
    UNION SELECT organisation, event_id, tactic_id FROM reported
    UNION SELECT organisation, event_id, tactic_id FROM attributed
), attended AS ({_ATTENDANCE}
), chosen AS (
    SELECT k.organisation, k.event_id, k.tactic_id, e.event_date, e.category AS segment_id, e.format, e.is_simulated,
           CASE WHEN ads.spend_base IS NOT NULL AND ads.is_daily THEN 'platform_daily'
                WHEN ads.spend_base IS NOT NULL THEN 'platform_period'
                WHEN sheet.spend_base IS NOT NULL THEN 'tactic_result'
                WHEN reported.spend_base IS NOT NULL THEN 'outcome' END AS spend_basis,
           coalesce(ads.spend_base, sheet.spend_base, reported.spend_base) AS spend_base,
           sheet.staff_hours,
           coalesce(ads.reach, mail.reach, sheet.reach) AS reach,
           -- reach and clicks come from one system, or their ratio would mean nothing
           CASE WHEN ads.reach IS NOT NULL THEN ads.clicks
                WHEN mail.reach IS NOT NULL THEN mail.clicks
                WHEN sheet.reach IS NOT NULL THEN sheet.clicks
                ELSE coalesce(ads.clicks, mail.clicks, sheet.clicks) END AS clicks,
           least(ads.first_date, mail.first_date, attributed.first_date) AS first_date,
           ads.registrations AS registrations_claimed,
           attributed.registrations AS attributed, sheet.registrations AS stated,
           reported.registrations AS reported,
           registered.confirmed > 0 AND registered.origin_known >= registered.confirmed * {ORIGIN_KNOWN_SHARE}
               AS is_origin_known,
           coalesce(registered.confirmed, attended.registered, whole.registrations, e.actual_registrations)
               AS event_registrations
    FROM known k
    JOIN {SCHEMA}.event e USING (organisation, event_id)
    LEFT JOIN ads USING (organisation, event_id, tactic_id)
    LEFT JOIN mail USING (organisation, event_id, tactic_id)
    LEFT JOIN sheet USING (organisation, event_id, tactic_id)
    LEFT JOIN reported USING (organisation, event_id, tactic_id)
    LEFT JOIN attributed USING (organisation, event_id, tactic_id)
    LEFT JOIN registered USING (organisation, event_id)
    LEFT JOIN attended USING (organisation, event_id)
    LEFT JOIN {SCHEMA}.outcome whole
      ON whole.organisation = k.organisation AND whole.event_id = k.event_id AND whole.tactic_id = ''
), based AS (
    SELECT *,
           CASE WHEN is_origin_known THEN 'registration_system'
                WHEN stated IS NOT NULL THEN 'tactic_result'
                WHEN reported IS NOT NULL THEN 'outcome'
                WHEN attributed > 0 THEN 'registration_system'
                WHEN registrations_claimed IS NOT NULL THEN 'claimed' END AS registrations_basis
    FROM chosen
), unscaled AS (
    SELECT *,
           CASE registrations_basis
                WHEN 'registration_system' THEN coalesce(attributed, 0)::numeric
                WHEN 'tactic_result' THEN stated
                WHEN 'outcome' THEN reported
                WHEN 'claimed' THEN registrations_claimed END AS figure,
           CASE registrations_basis
                WHEN 'registration_system' THEN 1 WHEN 'tactic_result' THEN 2 WHEN 'outcome' THEN 2 ELSE 3
           END AS standing
    FROM based
), room AS (
    SELECT *,
           -- greatest() and least() pass over NULL, so an unknown count must not reach them
           CASE WHEN event_registrations IS NOT NULL THEN greatest(
               event_registrations - coalesce(sum(figure) FILTER (WHERE standing = 1) OVER event, 0), 0
           ) END AS left_by_system,
           coalesce(sum(figure) FILTER (WHERE standing = 2) OVER event, 0) AS all_stated,
           coalesce(sum(figure) FILTER (WHERE standing = 3) OVER event, 0) AS all_claimed
    FROM unscaled
    WINDOW event AS (PARTITION BY organisation, event_id)
)
SELECT organisation, event_id, tactic_id, event_date, segment_id, format, spend_base, staff_hours, reach, clicks,
       CASE WHEN standing = 2 AND all_stated > left_by_system THEN figure * left_by_system / all_stated
            WHEN standing = 3 AND all_claimed > left_by_system - all_stated
                THEN figure * greatest(left_by_system - all_stated, 0) / nullif(all_claimed, 0)
            ELSE figure END AS registrations,
       registrations_basis, registrations_claimed, spend_basis, first_date, is_simulated
FROM room
"""

_EVENT_SUMMARY = f"""
WITH registered AS ({_REGISTERED}
), attended AS ({_ATTENDANCE}
), brought AS (
    SELECT organisation, event_id, sum(registrations) AS registrations, sum(spend_base) AS spend_base,
           sum(staff_hours) AS staff_hours
    FROM {SCHEMA}.event_tactic
    GROUP BY organisation, event_id
), whole AS (
    SELECT organisation, event_id, registrations, attendees FROM {SCHEMA}.outcome WHERE tactic_id = ''
), chosen AS (
    SELECT e.organisation, e.event_id, e.event_date, e.category AS segment_id, e.format, e.is_simulated,
           CASE WHEN e.price IS NULL THEN NULL
                WHEN e.currency = e.base_currency OR e.price = 0 THEN e.price
                ELSE e.price * e.fx_rate END AS price_base,
           coalesce(registered.confirmed, attended.registered, whole.registrations, e.actual_registrations)
               AS registrations,
           CASE WHEN registered.confirmed IS NOT NULL THEN 'registration_system'
                WHEN attended.registered IS NOT NULL THEN 'attendance'
                WHEN whole.registrations IS NOT NULL THEN 'outcome'
                WHEN e.actual_registrations IS NOT NULL THEN 'organiser' END AS registrations_basis,
           CASE WHEN registered.confirmed > 0 THEN registered.origin_known END AS origin_known,
           coalesce(brought.registrations, CASE WHEN registered.origin_known > 0 THEN 0 END) AS attributed,
           registered.first_date AS first_registration,
           coalesce(registered.attendance_known, 0) > 0 AS is_attendance_recorded,
           registered.attended AS attended_rows, registered.attendance_known,
           attended.attended AS attended_list, attended.registered AS registered_list,
           coalesce(whole.attendees, e.actual_attendees) AS attendees_stated,
           coalesce(whole.registrations, e.actual_registrations) AS registrations_stated,
           brought.spend_base, brought.staff_hours
    FROM {SCHEMA}.event e
    LEFT JOIN registered USING (organisation, event_id)
    LEFT JOIN attended USING (organisation, event_id)
    LEFT JOIN brought USING (organisation, event_id)
    LEFT JOIN whole USING (organisation, event_id)
)
SELECT organisation, event_id, event_date, segment_id, format, price_base, registrations, registrations_basis,
       origin_known,
       attributed AS attributed_registrations,
       CASE WHEN registrations - attributed > 0 THEN registrations - attributed
            WHEN registrations - attributed <= 0 THEN 0 END AS organic_registrations,
       first_registration,
       CASE WHEN is_attendance_recorded THEN coalesce(attended_rows, 0)
            ELSE coalesce(attended_list, attendees_stated) END AS attendees,
       -- walk-ins can push attendance past registration; a rate is at most one
       CASE WHEN is_attendance_recorded THEN coalesce(attended_rows, 0)::numeric / attendance_known
            WHEN attended_list IS NOT NULL
                THEN least(attended_list, registered_list)::numeric / nullif(registered_list, 0)
            WHEN attendees_stated IS NOT NULL AND registrations_stated IS NOT NULL
                THEN least(attendees_stated, registrations_stated)::numeric / nullif(registrations_stated, 0)
       END AS show_up_rate,
       spend_base, staff_hours, is_simulated
FROM chosen
"""

_SEGMENT_DAILY = f"""
WITH fact AS (
    SELECT r.organisation, e.category AS segment_id, r.date, sum(r.quantity) AS registrations
    FROM {SCHEMA}.registration r
    JOIN {SCHEMA}.event e ON e.organisation = r.organisation AND e.event_id = r.event_id
    WHERE r.status = 'confirmed'
    GROUP BY r.organisation, e.category, r.date
), span AS (
    SELECT organisation, segment_id, min(date) AS first_date,
           max(max(date)) OVER (PARTITION BY organisation) AS last_date
    FROM fact
    GROUP BY organisation, segment_id
)
SELECT s.organisation, s.segment_id, day::date AS date, coalesce(f.registrations, 0) AS registrations
FROM span s
CROSS JOIN LATERAL generate_series(s.first_date::timestamp, s.last_date::timestamp, interval '1 day') AS day
LEFT JOIN fact f ON f.organisation = s.organisation AND f.segment_id = s.segment_id AND f.date = day::date
"""

#: The views by name, in the order they build upon one another.
VIEWS: dict[str, str] = {
    "ad_counted": _AD_COUNTED,
    "mail_counted": _MAIL_COUNTED,
    "tactic_daily": _TACTIC_DAILY,
    "event_tactic": _EVENT_TACTIC,
    "event_summary": _EVENT_SUMMARY,
    "segment_daily": _SEGMENT_DAILY,
}


def _fingerprint() -> str:
    return hashlib.sha256("\n".join(f"{name}:{sql}" for name, sql in VIEWS.items()).encode()).hexdigest()[:16]


def create_views(connection: Connection) -> bool:
    """Make the views what :data:`VIEWS` says, inside the caller's transaction. Returns whether anything changed.

    Views that are already as they should be are left alone, so that an upgrade at every start does not wait for
    whoever reads them. Otherwise all are dropped and made again: PostgreSQL cannot replace a view whose columns move.

    They run with the rights of whoever asks (``security_invoker``), so row level security on the tables holds.
    """
    mark = f"turnout views {_fingerprint()}"
    found = connection.execute(
        text(
            "SELECT relname, obj_description(c.oid, 'pg_class') FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE nspname = :schema AND relname = ANY(:names) AND relkind = 'v'"
        ),
        {"schema": SCHEMA, "names": list(VIEWS)},
    ).all()
    if {name for name, comment in found if comment == mark} == set(VIEWS):
        return False
    for name in reversed(VIEWS):
        connection.execute(text(f"DROP VIEW IF EXISTS {SCHEMA}.{name}"))
    for name, sql in VIEWS.items():
        connection.exec_driver_sql(f"CREATE VIEW {SCHEMA}.{name} WITH (security_invoker = true) AS {sql}")
        connection.exec_driver_sql(f"COMMENT ON VIEW {SCHEMA}.{name} IS '{mark}'")
    return True
