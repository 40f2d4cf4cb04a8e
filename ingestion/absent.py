"""Figures a platform stops giving: what earlier days of the account had and this report has no column for.

The days are loaded all the same, with the figure unknown. Whoever reads the report has to know, because an unknown
figure and a figure of zero look alike in a chart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import date, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from turnout.warehouse import tables as wh

#: How far back before a report's first day its predecessors are looked at.
LOOKED_BACK = timedelta(days=60)

#: Column of the warehouse → the fields of reports it may come from.
_FROM: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "ad_performance": {
        "impressions": ("impressions",),
        "clicks": ("clicks", "clicks_all"),
        "spend": ("spend",),
        "conversions": ("conversions", "results"),
        "registrations": ("registrations", "results"),
        "leads": ("leads", "results"),
    },
    "email_performance": {name: (name,) for name in wh.EMAIL_METRICS},
}


def stopped_figures(
    connection: Connection,
    *,
    organisation: str,
    source: str,
    table: str,
    account: str | None,
    fields: Collection[str],
    first: date,
    last: date,
) -> Iterator[str]:
    """Warnings, one for each figure that earlier rows have and a report does not give.

    Args:
        account: the report's; ``None`` where its rows name their own, and every account of the source is looked at.
        fields: the fields the report has columns for.
        first, last: the report's days.
    """
    target = wh.metadata.tables[f"{wh.SCHEMA}.{table}"] if table in _FROM else None
    if target is None:
        return
    absent = [name for name, origins in _FROM[table].items() if not any(o in fields for o in origins)]
    lacks_ids = table == "ad_performance" and "campaign_id" not in fields
    if not absent and not lacks_ids:
        return
    has_id = sa.not_(target.c.campaign_id.startswith("cmp_", autoescape=True)) if lacks_ids else sa.false()
    query = sa.select(
        *[sa.func.max(target.c.date).filter(target.c[name].is_not(None)).label(name) for name in absent],
        sa.func.max(target.c.date).filter(has_id).label("campaign ids"),
    ).where(
        target.c.organisation == organisation,
        target.c.source == source,
        target.c.date >= first - LOOKED_BACK,
        target.c.date <= last,
    )
    if account is not None:
        query = query.where(target.c.account == account)
    until = connection.execute(query).mappings().one()
    for name in absent:
        if until[name] is not None:
            yield (
                f"the report has no column of {name.replace('_', ' ')}, which earlier ones of this account had until "
                f"{until[name]}: unknown for its days; add the column and export again if the platform still has it"
            )
    if until["campaign ids"] is not None:
        yield (
            "the report has no campaign ids, earlier ones had: its campaigns are told apart by name, so they are not "
            "recognised as those with ids, and one that was renamed is a new one; add the column of ids"
        )
