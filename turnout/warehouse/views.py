"""Views that say what counts: one figure per event and tactic, wherever it was reported, never twice.

Three systems speak of the same tactic in the same event: the ad platform or mail service (spend, reach, clicks, claimed
conversions), the registration system (who really registered, and where from) and the organiser's own sheet (cost,
hours, results). These rules decide between them; every consumer reads the views, so there is one answer.

``ad_counted``
    Rows of ``ad_performance`` that count. A row that covers a period (a report without a day column) counts only where
    no daily row of its campaign falls into the period. Where one of two reports states no ids,
    the name says that it is the same campaign. Of overlapping periods of one campaign the longest counts; of equally
    long ones the one fetched last. The claim is what the platform calls a registration, else its leads, else its
    conversions.
``ad_daily``
    The same added up by campaign and day, or period: what everything that needs no single ad reads. The table of ads
    is by far the largest, so its rows are added up where they lie, month by month, before anything is joined to them.
``mail_counted``
    Rows of ``email_performance`` that count. Categories overlap, so per event, tactic and account only the category
    with the most deliveries counts.
``mail_event_daily``
    What the mail service's webhook told, by account, category and day; category '' is the whole account, and one mail's
    categories overlap. Opens by persons (``opens``) and by privacy proxies (``machine_opens``) stand apart; those of
    which it cannot be told are in neither (``unclear_opens``). ``unique_…`` counts a recipient and message once, on the
    first day that it happened, so that days add up.
``mail_opens``
    The statistics' opens, which include privacy proxies, beside the share of persons among the webhook's opens of the
    same day and category. NULL where no event says.
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
``claim_reconciliation``
    What platforms claim beside what is counted: one row per event, tactic and source; ``source`` is empty for a tactic
    that no platform reports on, ``tactic_id`` NULL for campaigns of the event whose tactic is unknown. ``claimed`` and
    its words (``claimed_registrations``, ``claimed_leads``, ``claimed_conversions``), ``campaigns`` and
    ``spend_platform`` are the source's. ``counted`` is the tactic's figure of ``event_tactic``, shared out by claims
    where several sources report on it (NULL where they claim nothing to share by): it adds up to that figure, and never
    past ``event_registrations``. ``difference`` is claimed - counted. Columns beginning with ``tactic_`` are the
    tactic's, those with ``event_`` the event's: repeated on each of its rows.
``account_overlap``
    Campaigns that two accounts of one source both report, by id or name, on the same days: ``days`` of them, on
    ``same_days`` with the same impressions and clicks and, but for rounding, spend, which is then very likely one
    campaign counted twice; ``spend_twice`` is what these days cost, in the base currency.
``event_summary``
    One row per event: registrations, how many of them the tactics brought, the rest (organic and unknown origin),
    attendees and show-up rate.
``late_registration``
    Confirmed registrations dated after the day of their event, by tactic and day: on-demand viewers, or a wrong date.
    They are in the event's totals; whoever asks for figures as of an earlier day takes them out again.
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

#: Campaigns of reports that state no id have a key made of their name; see ``ingestion.ads.campaign_key``.
_KEY_OF_NAME = "cmp_"

#: Whether a row covers more than its day. Daily rows are asked for as those of which this is not so: the planner takes
#: that for most of them, and ``period_end = date`` for next to none; the few others have an index of their own.
_IS_PERIOD = "period_end > date"

#: The periods that count, in the CTE ``counted``.
_COUNTED_PERIODS = f"""
WITH period AS (
    SELECT organisation, source, account, campaign_id, starts_with(campaign_id, '{_KEY_OF_NAME}') AS is_of_name,
           max(campaign_name) AS campaign_name, date, period_end, max(fetched_at) AS fetched_at
    FROM {SCHEMA}.ad_performance
    WHERE {_IS_PERIOD}
    GROUP BY organisation, source, account, campaign_id, date, period_end
), without_days AS (
    SELECT * FROM period p
    WHERE NOT EXISTS (
        SELECT FROM {SCHEMA}.ad_performance d
        WHERE d.organisation = p.organisation AND d.source = p.source AND d.account = p.account
          AND d.campaign_id = p.campaign_id AND d.period_end = d.date AND d.date BETWEEN p.date AND p.period_end
    ) AND NOT EXISTS (
        SELECT FROM {SCHEMA}.ad_performance d
        WHERE d.organisation = p.organisation AND d.source = p.source AND d.account = p.account
          AND d.campaign_name = p.campaign_name AND d.period_end = d.date AND d.date BETWEEN p.date AND p.period_end
          AND (p.is_of_name OR starts_with(d.campaign_id, '{_KEY_OF_NAME}'))
    )
), counted AS (
    SELECT * FROM without_days p
    WHERE NOT EXISTS (
        SELECT FROM without_days o
        WHERE o.organisation = p.organisation AND o.source = p.source AND o.account = p.account
          AND o.campaign_id = p.campaign_id AND o.date <= p.period_end AND o.period_end >= p.date
          AND (o.period_end - o.date, o.fetched_at, o.date) > (p.period_end - p.date, p.fetched_at, p.date)
    ) AND NOT EXISTS (
        SELECT FROM without_days o
        WHERE o.organisation = p.organisation AND o.source = p.source AND o.account = p.account
          AND o.campaign_name = p.campaign_name AND o.campaign_id <> p.campaign_id
          AND (o.is_of_name OR p.is_of_name) AND o.date <= p.period_end AND o.period_end >= p.date
          AND (o.period_end - o.date, o.fetched_at, o.date, p.is_of_name)
            > (p.period_end - p.date, p.fetched_at, p.date, o.is_of_name)
    )
)"""

_CLAIM = "coalesce(registrations, nullif(leads, 0), conversions, leads)"

_AD_COUNTED = f"""
{_COUNTED_PERIODS}, ad AS (
    SELECT organisation, source, account, campaign_id, date, period_end, impressions, clicks, spend_base,
           {_CLAIM} AS registrations_claimed, registrations, leads, conversions, spend, currency
    FROM {SCHEMA}.ad_performance
    WHERE NOT {_IS_PERIOD}
    UNION ALL
    SELECT organisation, source, account, campaign_id, date, period_end, impressions, clicks, spend_base,
           {_CLAIM}, registrations, leads, conversions, spend, currency
    FROM {SCHEMA}.ad_performance
    JOIN counted USING (organisation, source, account, campaign_id, date, period_end)
    WHERE {_IS_PERIOD}
)
SELECT ad.organisation, ad.source, ad.account, ad.campaign_id, c.tactic_id, c.event_id, ad.date, ad.period_end,
       ad.impressions, ad.clicks, ad.spend_base, ad.registrations_claimed,
       ad.registrations, ad.leads, ad.conversions, ad.spend, ad.currency
FROM ad
LEFT JOIN {SCHEMA}.campaign c USING (organisation, source, account, campaign_id)
"""

_SUMS = f"""sum(impressions) AS impressions, sum(clicks) AS clicks, sum(spend_base) AS spend_base,
           sum({_CLAIM}) AS registrations_claimed"""

_AD_DAILY = f"""
{_COUNTED_PERIODS}, ad AS (
    SELECT organisation, source, account, campaign_id, date, date AS period_end, {_SUMS}
    FROM {SCHEMA}.ad_performance
    WHERE NOT {_IS_PERIOD}
    GROUP BY organisation, source, account, campaign_id, date
    UNION ALL
    SELECT organisation, source, account, campaign_id, date, period_end, {_SUMS}
    FROM {SCHEMA}.ad_performance
    JOIN counted USING (organisation, source, account, campaign_id, date, period_end)
    WHERE {_IS_PERIOD}
    GROUP BY organisation, source, account, campaign_id, date, period_end
)
SELECT ad.organisation, ad.source, ad.account, ad.campaign_id, c.tactic_id, c.event_id, ad.date, ad.period_end,
       ad.impressions, ad.clicks, ad.spend_base, ad.registrations_claimed
FROM ad
LEFT JOIN {SCHEMA}.campaign c USING (organisation, source, account, campaign_id)
"""

_MAIL_COUNTED = f"""
WITH mail AS (
    SELECT *, sum(delivered) OVER (PARTITION BY organisation, source, account, event_id, tactic_id, category) AS total
    FROM {SCHEMA}.email_performance
    WHERE tactic_id IS NOT NULL
), largest AS (
    SELECT *, first_value(category) OVER (
        PARTITION BY organisation, source, account, event_id, tactic_id ORDER BY total DESC NULLS LAST, category
    ) AS counted_category
    FROM mail
)
SELECT organisation, source, account, category, tactic_id, event_id, date, delivered, unique_clicks AS clicks
FROM largest
WHERE category = counted_category
"""

_MAIL_EVENT_DAILY = f"""
WITH told AS (
    SELECT m.organisation, m.account, c.category, m.date, m.event, m.is_machine, m.message_hash, m.recipient_hash
    FROM {SCHEMA}.email_event m
    CROSS JOIN LATERAL unnest(array_append(m.categories, '')) AS c (category)
), counted AS (
    SELECT organisation, account, category, date,
           count(*) FILTER (WHERE event = 'processed') AS processed,
           count(*) FILTER (WHERE event = 'delivered') AS delivered,
           count(*) FILTER (WHERE event = 'deferred') AS deferred,
           count(*) FILTER (WHERE event = 'bounce') AS bounces,
           count(*) FILTER (WHERE event = 'block') AS blocks,
           count(*) FILTER (WHERE event IN ('dropped', 'bounce_drop', 'spam_report_drop', 'unsubscribe_drop',
                                            'invalid_email')) AS drops,
           count(*) FILTER (WHERE event = 'open' AND NOT is_machine) AS opens,
           count(*) FILTER (WHERE event = 'open' AND is_machine) AS machine_opens,
           count(*) FILTER (WHERE event = 'open' AND is_machine IS NULL) AS unclear_opens,
           count(*) FILTER (WHERE event = 'click') AS clicks,
           count(*) FILTER (WHERE event = 'spamreport') AS spam_reports,
           count(*) FILTER (WHERE event IN ('unsubscribe', 'group_unsubscribe')) AS unsubscribes
    FROM told
    GROUP BY organisation, account, category, date
), once AS (
    SELECT organisation, account, category, event, min(date) AS date
    FROM told
    WHERE message_hash IS NOT NULL AND recipient_hash IS NOT NULL
      AND (event = 'click' OR event = 'open' AND is_machine IS NOT TRUE)
    GROUP BY organisation, account, category, event, message_hash, recipient_hash
), uniques AS (
    SELECT organisation, account, category, date,
           count(*) FILTER (WHERE event = 'open') AS unique_opens,
           count(*) FILTER (WHERE event = 'click') AS unique_clicks
    FROM once
    GROUP BY organisation, account, category, date
)
SELECT c.*, coalesce(u.unique_opens, 0) AS unique_opens, coalesce(u.unique_clicks, 0) AS unique_clicks,
       c.opens::float8 / nullif(c.opens + c.machine_opens, 0) AS human_open_share
FROM counted c
LEFT JOIN uniques u USING (organisation, account, category, date)
"""

_MAIL_OPENS = f"""
SELECT p.organisation, p.account, p.category, p.date, p.event_id, p.tactic_id, p.delivered, p.opens, p.unique_opens,
       d.opens AS human_opens, d.machine_opens, d.human_open_share, p.opens * d.human_open_share AS opens_by_persons
FROM {SCHEMA}.email_performance p
LEFT JOIN {SCHEMA}.mail_event_daily d USING (organisation, account, category, date)
WHERE p.source = 'sendgrid'
"""

_TACTIC_DAILY = f"""
WITH fact AS (
    SELECT organisation, tactic_id, event_id, date, impressions AS reach, clicks, spend_base
    FROM {SCHEMA}.ad_daily
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

#: What is said of an event and a tactic, column by column: its type and how pieces of it combine. Columns from
#: ``confirmed`` on are said of the event as a whole (tactic NULL).
_SAID = {
    "ads_spend": ("numeric", "max"),
    "ads_reach": ("numeric", "max"),
    "ads_clicks": ("numeric", "max"),
    "claimed": ("numeric", "max"),
    "has_days": ("boolean", "bool_or"),
    "first_date": ("date", "min"),
    "mail_reach": ("numeric", "max"),
    "mail_clicks": ("numeric", "max"),
    "sheet_spend": ("numeric", "max"),
    "sheet_hours": ("numeric", "max"),
    "sheet_reach": ("numeric", "max"),
    "sheet_clicks": ("numeric", "max"),
    "stated": ("numeric", "max"),
    "reported": ("numeric", "max"),
    "reported_spend": ("numeric", "max"),
    "attributed": ("numeric", "max"),
    "confirmed": ("numeric", "max"),
    "origin_known": ("numeric", "max"),
    "attended": ("numeric", "max"),
    "attendance_known": ("numeric", "max"),
    "listed": ("numeric", "max"),
    "listed_attended": ("numeric", "max"),
    "reported_total": ("numeric", "max"),
    "reported_attendees": ("numeric", "max"),
    "brought": ("numeric", "max"),
    "brought_spend": ("numeric", "max"),
    "brought_hours": ("numeric", "max"),
}


def _said(*pieces: tuple[str, str, dict[str, str]]) -> str:
    """Rows by organisation, event and tactic with the columns that ``pieces`` speak of.

    Each piece is (tactic, FROM clause, column: expression). They are stacked and grouped rather than joined: whatever
    the planner knows of the tables, it cannot choose a nested loop, and a filter on the organisation reaches each.
    """
    columns = [name for name in _SAID if any(name in said for _, _, said in pieces)]
    stacked = " UNION ALL ".join(
        f"SELECT organisation, event_id, {tactic} AS tactic_id, "
        + ", ".join(f"CAST({said.get(name, 'NULL')} AS {_SAID[name][0]}) AS {name}" for name in columns)
        + f" FROM {source}"
        for tactic, source, said in pieces
    )
    combined = ", ".join(f"{_SAID[name][1]}({name}) AS {name}" for name in columns)
    return f"SELECT organisation, event_id, tactic_id, {combined} FROM ({stacked}) s GROUP BY 1, 2, 3"


def _all_known(column: str) -> str:
    """The sum, unless one of its parts is unknown."""
    return f"CASE WHEN bool_and({column} IS NOT NULL) THEN sum({column}) END"


_CONFIRMED = "FILTER (WHERE status = 'confirmed')"

#: The registration system's word on an event.
_REGISTERED = (
    "NULL",
    f"{SCHEMA}.registration WHERE event_id IS NOT NULL GROUP BY organisation, event_id",
    {
        "confirmed": f"coalesce(sum(quantity) {_CONFIRMED}, 0)",
        "origin_known": "coalesce(sum(quantity) FILTER ("
        "WHERE status = 'confirmed' AND (tactic_id IS NOT NULL OR btrim(source_label) <> '')), 0)",
        "attended": "sum(quantity) FILTER (WHERE status = 'confirmed' AND attended)",
        "attendance_known": "sum(quantity) FILTER (WHERE status = 'confirmed' AND attended IS NOT NULL)",
        "first_date": "min(date)",
    },
)
#: Attendance lists of one event overlap, so the largest counts.
_LISTED = (
    "NULL",
    f"(SELECT DISTINCT ON (organisation, event_id) * FROM {SCHEMA}.attendance"
    " ORDER BY organisation, event_id, registered DESC, attended DESC, source) a",
    {"listed": "registered", "listed_attended": "attended"},
)
_REPORTED_TOTAL = (
    "NULL",
    f"{SCHEMA}.outcome WHERE tactic_id = ''",
    {"reported_total": "registrations", "reported_attendees": "attendees"},
)

_EVENT_TACTIC = f"""
WITH said AS ({
    _said(
        (
            "tactic_id",
            f"{SCHEMA}.ad_daily WHERE event_id IS NOT NULL AND tactic_id IS NOT NULL"
            " GROUP BY organisation, event_id, tactic_id",
            {
                "ads_spend": "sum(spend_base)",
                "ads_reach": "sum(impressions)",
                "ads_clicks": "sum(clicks)",
                "claimed": "sum(registrations_claimed)",
                "has_days": "bool_or(period_end = date)",
                "first_date": "min(date)",
            },
        ),
        (
            "tactic_id",
            f"{SCHEMA}.mail_counted WHERE event_id IS NOT NULL GROUP BY organisation, event_id, tactic_id",
            {"mail_reach": "sum(delivered)", "mail_clicks": "sum(clicks)", "first_date": "min(date)"},
        ),
        (
            "tactic_id",
            f"{SCHEMA}.tactic_result WHERE event_id IS NOT NULL GROUP BY organisation, event_id, tactic_id",
            {
                "sheet_spend": _all_known("cost_base"),
                "sheet_hours": _all_known("staff_hours"),
                "sheet_reach": _all_known("reach"),
                "sheet_clicks": _all_known("clicks"),
                "stated": _all_known("registrations"),
            },
        ),
        (
            "tactic_id",
            f"{SCHEMA}.outcome o JOIN {SCHEMA}.event e USING (organisation, event_id) WHERE tactic_id <> ''",
            {
                "reported": "registrations",
                "reported_spend": "CASE WHEN o.currency = e.base_currency THEN o.spend"
                " WHEN o.currency = e.currency THEN o.spend * e.fx_rate END",
            },
        ),
        (
            "tactic_id",
            f"{SCHEMA}.registration WHERE event_id IS NOT NULL AND tactic_id IS NOT NULL"
            " GROUP BY organisation, event_id, tactic_id",
            {"attributed": f"coalesce(sum(quantity) {_CONFIRMED}, 0)", "first_date": "min(date)"},
        ),
        _REGISTERED,
        _LISTED,
        _REPORTED_TOTAL,
    )
}
), told AS (
    SELECT s.organisation, s.event_id, s.tactic_id, ads_spend, ads_reach, ads_clicks, claimed, has_days, first_date,
           mail_reach, mail_clicks, sheet_spend, sheet_hours, sheet_reach, sheet_clicks, stated, reported,
           reported_spend, attributed, e.event_date, e.category AS segment_id, e.format, e.is_simulated,
           max(confirmed) OVER event AS confirmed, max(origin_known) OVER event AS origin_known,
           coalesce(
               max(confirmed) OVER event, max(listed) OVER event, max(reported_total) OVER event, e.actual_registrations
           ) AS event_registrations
    FROM said s
    JOIN {SCHEMA}.event e ON e.organisation = s.organisation AND e.event_id = s.event_id
    WINDOW event AS (PARTITION BY s.organisation, s.event_id)
), based AS (
    SELECT *,
           CASE WHEN confirmed > 0 AND origin_known >= confirmed * {ORIGIN_KNOWN_SHARE} THEN 'registration_system'
                WHEN stated IS NOT NULL THEN 'tactic_result'
                WHEN reported IS NOT NULL THEN 'outcome'
                WHEN attributed > 0 THEN 'registration_system'
                WHEN claimed IS NOT NULL THEN 'claimed' END AS registrations_basis
    FROM told
    WHERE tactic_id IS NOT NULL
), unscaled AS (
    SELECT *,
           CASE registrations_basis
                WHEN 'registration_system' THEN coalesce(attributed, 0)
                WHEN 'tactic_result' THEN stated
                WHEN 'outcome' THEN reported
                WHEN 'claimed' THEN claimed END AS figure,
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
SELECT organisation, event_id, tactic_id, event_date, segment_id, format,
       coalesce(ads_spend, sheet_spend, reported_spend) AS spend_base,
       sheet_hours AS staff_hours,
       -- reach and clicks come from one system, or their ratio would mean nothing
       coalesce(ads_reach, mail_reach, sheet_reach) AS reach,
       CASE WHEN ads_reach IS NOT NULL THEN ads_clicks
            WHEN mail_reach IS NOT NULL THEN mail_clicks
            WHEN sheet_reach IS NOT NULL THEN sheet_clicks
            ELSE coalesce(ads_clicks, mail_clicks, sheet_clicks) END AS clicks,
       CASE WHEN standing = 2 AND all_stated > left_by_system THEN figure * left_by_system / all_stated
            WHEN standing = 3 AND all_claimed > left_by_system - all_stated
                THEN figure * greatest(left_by_system - all_stated, 0) / nullif(all_claimed, 0)
            ELSE figure END AS registrations,
       registrations_basis, claimed AS registrations_claimed,
       CASE WHEN ads_spend IS NOT NULL AND has_days THEN 'platform_daily'
            WHEN ads_spend IS NOT NULL THEN 'platform_period'
            WHEN sheet_spend IS NOT NULL THEN 'tactic_result'
            WHEN reported_spend IS NOT NULL THEN 'outcome' END AS spend_basis,
       first_date, is_simulated, ads_spend AS spend_platform, sheet_spend AS spend_sheet,
       CASE WHEN confirmed > 0 AND origin_known >= confirmed * {ORIGIN_KNOWN_SHARE} THEN coalesce(attributed, 0)
            ELSE attributed END AS registrations_listed,
       coalesce(stated, reported) AS registrations_stated, event_registrations
FROM room
"""

_EVENT_SUMMARY = f"""
WITH said AS ({
    _said(
        _REGISTERED,
        _LISTED,
        _REPORTED_TOTAL,
        (
            "NULL",
            f"{SCHEMA}.event_tactic GROUP BY organisation, event_id",
            {"brought": "sum(registrations)", "brought_spend": "sum(spend_base)", "brought_hours": "sum(staff_hours)"},
        ),
        ("NULL", f"{SCHEMA}.event", {}),
    )
}
), told AS (
    SELECT s.*, e.event_date, e.category AS segment_id, e.format, e.is_simulated,
           CASE WHEN e.price = 0 OR e.currency = e.base_currency THEN e.price
                ELSE e.price * e.fx_rate END AS price_base,
           coalesce(confirmed, listed, reported_total, e.actual_registrations) AS registrations,
           CASE WHEN confirmed IS NOT NULL THEN 'registration_system'
                WHEN listed IS NOT NULL THEN 'attendance'
                WHEN reported_total IS NOT NULL THEN 'outcome'
                WHEN e.actual_registrations IS NOT NULL THEN 'organiser' END AS registrations_basis,
           coalesce(brought, CASE WHEN origin_known > 0 THEN 0 END) AS attributed_registrations,
           coalesce(reported_attendees, e.actual_attendees) AS attendees_stated,
           coalesce(reported_total, e.actual_registrations) AS registrations_stated
    FROM said s
    JOIN {SCHEMA}.event e ON e.organisation = s.organisation AND e.event_id = s.event_id
)
SELECT organisation, event_id, event_date, segment_id, format, price_base, registrations, registrations_basis,
       CASE WHEN confirmed > 0 THEN origin_known END AS origin_known, attributed_registrations,
       CASE WHEN registrations > attributed_registrations THEN registrations - attributed_registrations
            WHEN registrations <= attributed_registrations THEN 0 END AS organic_registrations,
       first_date AS first_registration,
       CASE WHEN attendance_known > 0 THEN coalesce(attended, 0)
            ELSE coalesce(listed_attended, attendees_stated) END AS attendees,
       -- walk-ins can push attendance past registration; a rate is at most one
       CASE WHEN attendance_known > 0 THEN coalesce(attended, 0) / attendance_known
            WHEN listed > 0 THEN least(listed_attended, listed) / listed
            WHEN registrations_stated > 0 AND attendees_stated IS NOT NULL
                THEN least(attendees_stated, registrations_stated) / registrations_stated::numeric
       END AS show_up_rate,
       brought_spend AS spend_base, brought_hours AS staff_hours, is_simulated
FROM told
"""

_CLAIM_RECONCILIATION = f"""
WITH told AS (
    -- stacked, not joined, for the same reason as in event_tactic
    SELECT 'claim' AS what, organisation, event_id, tactic_id, source,
           count(DISTINCT (account, campaign_id)) AS campaigns, sum(registrations_claimed) AS claimed,
           sum(registrations) AS claimed_registrations, sum(leads) AS claimed_leads,
           sum(conversions) AS claimed_conversions, sum(spend_base) AS spend_platform,
           NULL::numeric AS tactic_registrations, NULL AS tactic_basis, NULL::numeric AS tactic_listed,
           NULL::numeric AS tactic_stated, NULL::numeric AS tactic_spend_sheet,
           NULL::numeric AS event_registrations, NULL AS event_basis, NULL::date AS event_date,
           NULL::boolean AS is_simulated
    FROM {SCHEMA}.ad_counted
    WHERE event_id IS NOT NULL
    GROUP BY organisation, event_id, tactic_id, source
    UNION ALL
    SELECT 'tactic', organisation, event_id, tactic_id, '', NULL, NULL, NULL, NULL, NULL, NULL,
           registrations, registrations_basis, registrations_listed, registrations_stated, spend_sheet,
           NULL, NULL, NULL, NULL
    FROM {SCHEMA}.event_tactic
    UNION ALL
    SELECT 'event', organisation, event_id, NULL, '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
           registrations, registrations_basis, event_date, is_simulated
    FROM {SCHEMA}.event_summary
), whole AS (
    SELECT what, organisation, event_id, tactic_id, source, campaigns, claimed, claimed_registrations, claimed_leads,
           claimed_conversions, spend_platform,
           count(*) FILTER (WHERE what = 'claim') OVER tactic AS sources,
           sum(claimed) OVER tactic AS tactic_claimed,
           max(tactic_registrations) OVER tactic AS tactic_registrations,
           max(tactic_basis) OVER tactic AS tactic_basis,
           max(tactic_listed) OVER tactic AS tactic_listed,
           max(tactic_stated) OVER tactic AS tactic_stated,
           max(tactic_spend_sheet) OVER tactic AS tactic_spend_sheet,
           sum(claimed) OVER event AS event_claimed,
           max(event_registrations) OVER event AS event_registrations,
           max(event_basis) OVER event AS event_basis,
           max(event_date) OVER event AS event_date,
           bool_or(is_simulated) OVER event AS is_simulated
    FROM told
    WINDOW event AS (PARTITION BY organisation, event_id), tactic AS (PARTITION BY organisation, event_id, tactic_id)
), shared AS (
    SELECT *,
           CASE WHEN sources <= 1 THEN tactic_registrations
                WHEN tactic_claimed > 0 THEN tactic_registrations * claimed / tactic_claimed END AS counted
    FROM whole
    WHERE (what = 'claim' OR what = 'tactic' AND sources = 0) AND event_date IS NOT NULL
)
SELECT organisation, event_id, event_date, tactic_id, source, campaigns,
       claimed, claimed_registrations, claimed_leads, claimed_conversions, counted, tactic_basis AS counted_basis,
       claimed - counted AS difference, spend_platform,
       tactic_claimed, tactic_registrations, tactic_listed, tactic_stated, tactic_spend_sheet,
       event_claimed, event_registrations, event_basis, is_simulated
FROM shared
"""

_ACCOUNT_OVERLAP = f"""
WITH pair AS (
    SELECT a.organisation, a.source, a.account AS account_a, b.account AS account_b, a.campaign_id AS campaign_a,
           b.campaign_id AS campaign_b, a.name
    FROM {SCHEMA}.campaign a
    JOIN {SCHEMA}.campaign b ON b.organisation = a.organisation AND b.source = a.source AND b.name = a.name
     AND b.account > a.account AND b.first_seen <= a.last_seen AND b.last_seen >= a.first_seen
    UNION
    SELECT a.organisation, a.source, a.account, b.account, a.campaign_id, b.campaign_id, a.name
    FROM {SCHEMA}.campaign a
    JOIN {SCHEMA}.campaign b ON b.organisation = a.organisation AND b.source = a.source
     AND b.campaign_id = a.campaign_id
     AND b.account > a.account AND b.first_seen <= a.last_seen AND b.last_seen >= a.first_seen
), fact AS (
    SELECT f.organisation, f.source, f.account, f.campaign_id, f.date, f.period_end, sum(f.impressions) AS impressions,
           sum(f.clicks) AS clicks, sum(f.spend) AS spend, sum(f.spend_base) AS spend_base
    FROM {SCHEMA}.ad_performance f
    WHERE (f.organisation, f.source, f.account, f.campaign_id) IN (
        SELECT organisation, source, account_a, campaign_a FROM pair
        UNION ALL
        SELECT organisation, source, account_b, campaign_b FROM pair
    )
    GROUP BY f.organisation, f.source, f.account, f.campaign_id, f.date, f.period_end
), side AS (
    -- the account whose row covers the longer time is compared with the other's rows of that time
    SELECT organisation, source, account_a AS account, campaign_a AS campaign_id, account_b AS other_account,
           campaign_b AS other_campaign, account_a, account_b, campaign_a, campaign_b, name, false AS swapped
    FROM pair
    UNION ALL
    SELECT organisation, source, account_b, campaign_b, account_a, campaign_a, account_a, account_b, campaign_a,
           campaign_b, name, true
    FROM pair
), met AS (
    SELECT s.organisation, s.source, s.account_a, s.account_b, s.campaign_a, s.campaign_b, s.name, f.date, f.period_end,
           f.spend_base,
           coalesce(sum(o.impressions) = f.impressions, true) AND coalesce(sum(o.clicks) = f.clicks, true)
           -- one export rounds amounts, another gives millionths
           AND coalesce(abs(sum(o.spend) - f.spend) <= f.spend * 0.01 + 0.01, true)
           AND coalesce(greatest(f.impressions, f.clicks, f.spend) > 0, false)
           AND coalesce(greatest(sum(o.impressions), sum(o.clicks), sum(o.spend)) > 0, false) AS same
    FROM side s
    JOIN fact f ON f.organisation = s.organisation AND f.source = s.source AND f.account = s.account
     AND f.campaign_id = s.campaign_id
    JOIN fact o ON o.organisation = s.organisation AND o.source = s.source AND o.account = s.other_account
     AND o.campaign_id = s.other_campaign AND o.date >= f.date AND o.period_end <= f.period_end
     AND (o.period_end - o.date < f.period_end - f.date OR NOT s.swapped)
    GROUP BY s.organisation, s.source, s.account_a, s.account_b, s.campaign_a, s.campaign_b, s.name, f.account, f.date,
             f.period_end, f.impressions, f.clicks, f.spend, f.spend_base
)
SELECT organisation, source, account_a, account_b, campaign_a, campaign_b, name,
       sum(period_end - date + 1) AS days, coalesce(sum(period_end - date + 1) FILTER (WHERE same), 0) AS same_days,
       min(date) AS first_day, max(period_end) AS last_day,
       sum(spend_base) AS spend_base, sum(spend_base) FILTER (WHERE same) AS spend_twice
FROM met
GROUP BY organisation, source, account_a, account_b, campaign_a, campaign_b, name
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

_LATE_REGISTRATION = f"""
SELECT r.organisation, r.event_id, r.tactic_id, r.date, sum(r.quantity) AS registrations,
       coalesce(sum(r.quantity) FILTER (WHERE r.attended), 0) AS attended,
       coalesce(sum(r.quantity) FILTER (WHERE r.attended IS NOT NULL), 0) AS attendance_known
FROM {SCHEMA}.registration r
JOIN {SCHEMA}.event e ON e.organisation = r.organisation AND e.event_id = r.event_id
WHERE r.status = 'confirmed' AND r.date > e.event_date
GROUP BY r.organisation, r.event_id, r.tactic_id, r.date
"""

#: The views by name, in the order they build upon one another.
VIEWS: dict[str, str] = {
    "ad_counted": _AD_COUNTED,
    "ad_daily": _AD_DAILY,
    "mail_counted": _MAIL_COUNTED,
    "mail_event_daily": _MAIL_EVENT_DAILY,
    "mail_opens": _MAIL_OPENS,
    "tactic_daily": _TACTIC_DAILY,
    "event_tactic": _EVENT_TACTIC,
    "event_summary": _EVENT_SUMMARY,
    "claim_reconciliation": _CLAIM_RECONCILIATION,
    "account_overlap": _ACCOUNT_OVERLAP,
    "segment_daily": _SEGMENT_DAILY,
    "late_registration": _LATE_REGISTRATION,
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
