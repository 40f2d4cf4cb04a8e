"""What only the warehouse knows of people on a list: when their event is, who else has them, how many usually come."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy import Connection

from turnout.warehouse import tables as wh

#: People looked for in other accounts, how many of them it takes, and their share.
_SAMPLE: Final = 500
_TWIN_PEOPLE, _TWIN_SHARE = 10, 0.8
#: Registrations with known attendance that make an event's share of attendees tell.
_ENOUGH_PEOPLE = 30
#: Events that say what is usual.
_ENOUGH_EVENTS = 5
_MAD_TO_SD = 1.4826


def event_days(connection: Connection, organisation: str, frame: pd.DataFrame) -> pd.Series:
    """The day of each row's event: by its key, by what earlier reads tied the list's name to, or by the name itself."""
    event, registration = wh.event, wh.registration
    days = dict(
        connection.execute(
            sa.select(event.c.event_id, event.c.event_date).where(event.c.organisation == organisation)
        ).all()
    )
    labels = sorted({str(label) for label in frame["event_label"].dropna().unique()} - {""})
    by_label: dict[str, object] = {}
    if labels and days:
        names = connection.execute(
            sa.select(event.c.name, sa.func.min(event.c.event_date)).where(
                event.c.organisation == organisation, event.c.name.in_(labels)
            ).group_by(event.c.name).having(sa.func.count() == 1)
        )  # fmt: skip
        by_label.update(dict(names.all()))
        tied = connection.execute(
            sa.select(registration.c.event_label, sa.func.min(registration.c.event_id)).where(
                registration.c.organisation == organisation, registration.c.event_label.in_(labels),
                registration.c.event_id.is_not(None),
            ).group_by(registration.c.event_label)
            .having(sa.func.count(sa.distinct(registration.c.event_id)) == 1)
        )  # fmt: skip
        by_label.update({label: days[event_id] for label, event_id in tied if event_id in days})
    found = frame["event_id"].astype(object).map(days)
    found = found.where(found.notna(), frame["event_label"].astype(object).map(by_label))
    return pd.to_datetime(found, errors="coerce").astype("datetime64[ns]")


def same_people(connection: Connection, organisation: str, frame: pd.DataFrame) -> dict[tuple[str, str], str]:
    """(source, account) → another account with the same people, who registered at the same second.

    An account that has them already is not new, and keeps them.
    """
    t = wh.registration
    known = frame[frame["registrant_hash"].notna() & frame["registered_at"].notna()]
    known = known[known["registrant_hash"] != ""]
    found = {}
    for (source, account), rows in known.groupby(["source", "account"], observed=True):
        sample = rows.iloc[:: max(1, len(rows) // _SAMPLE)][:_SAMPLE]
        if len(sample) < _TWIN_PEOPLE:
            continue
        ours = set(zip(sample["registrant_hash"], sample["registered_at"], strict=True))
        query = sa.select(t.c.account, t.c.registrant_hash, t.c.registered_at).where(
            t.c.organisation == organisation, t.c.source == str(source),
            t.c.date.between(
                sample["date"].min().date() - timedelta(days=2), sample["date"].max().date() + timedelta(days=2)
            ),
            t.c.registrant_hash == sa.any_(sa.cast([h for h, _ in ours], sa.ARRAY(sa.Text))),
        )  # fmt: skip
        same: dict[str, int] = {}
        for theirs, who, at in connection.execute(query):
            if at is not None and (who, pd.Timestamp(at).tz_convert("UTC").tz_localize(None)) in ours:
                same[theirs] = same.get(theirs, 0) + 1
        needed = max(_TWIN_PEOPLE, _TWIN_SHARE * len(ours))
        if same.get(str(account), 0) >= needed:
            continue
        twin = next((a for a, count in sorted(same.items()) if a != account and count >= needed), None)
        if twin is not None:
            found[str(source), str(account)] = twin or "without a name"
    return found


def attendance_drift(
    connection: Connection, organisation: str, frame: pd.DataFrame, limit: float
) -> pd.DataFrame | None:
    """Events of which everybody, nobody, or another share than usual came: source, account and ``show_up`` in words.

    Args:
        limit: share by which events differ, at least.
    """
    known = frame[frame["attended"].isin([True, False]) & (frame["status"] == "confirmed")]
    if known.empty:
        return None
    labels = known["event_label"].astype(object).where(known["event_label"].notna(), known["event_id"].astype(object))
    shares = (
        known.assign(label=labels.fillna(""), came=known["attended"].eq(True).astype(float))
        .groupby(["source", "account", "label"], observed=True)["came"].agg(["size", "mean"]).reset_index()
    )  # fmt: skip
    shares = shares[shares["size"] >= _ENOUGH_PEOPLE]
    if shares.empty:
        return None
    elsewhere = _usual_attendance(connection, organisation, [str(label) for label in shares["label"]])
    odd = []
    for place, (source, account, label, people, share) in enumerate(shares.itertuples(index=False)):
        usual = np.concatenate([elsewhere, np.delete(shares["mean"].to_numpy(dtype=float), place)])
        what = f"{share:.0%} of {people} came to {label or 'the event'}"
        if share in (0.0, 1.0):
            odd.append((source, account, f"{what}: attendance may be recorded for some only"))
        elif len(usual) >= _ENOUGH_EVENTS:
            middle = float(np.median(usual))
            spread = _MAD_TO_SD * float(np.median(np.abs(usual - middle)))
            if abs(share - middle) > max(limit, 4 * spread):
                odd.append((source, account, f"{what}; {middle:.0%} are usual"))
    if not odd:
        return None
    found = pd.DataFrame(odd, columns=["source", "account", "show_up"])
    return found.assign(date=pd.Series(pd.NaT, index=found.index, dtype="datetime64[ns]"))


def _usual_attendance(connection: Connection, organisation: str, without: list[str]) -> np.ndarray:
    t = wh.registration
    share = sa.func.avg(sa.case((t.c.attended, 1.0), else_=0.0))
    query = sa.select(share).where(
        t.c.organisation == organisation, t.c.attended.is_not(None), t.c.status == "confirmed",
        t.c.event_label.not_in(without),
    ).group_by(t.c.source, t.c.account, t.c.event_label).having(sa.func.count() >= _ENOUGH_PEOPLE)  # fmt: skip
    return np.array([float(value) for value in connection.execute(query).scalars()])
