"""A simulated organiser's files through real ingestion: what arrives in the warehouse is what happened."""

import json
from collections import Counter
from datetime import date

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from expectations.gate import make_gate
from ingestion.api import ingest_paths
from turnout.quality import Gate, accept_everything
from turnout.settings import Settings
from turnout.simulation import simulate
from turnout.simulation.history import RESTATED_DAYS
from turnout.simulation.sample import CONFERENCE_DATE, CONFERENCE_NAME, write_sample_history

UNTIL = date(2026, 9, 30)
SMALL = {"seed": 3, "events": 18, "organisers": 3, "months": 3, "until": UNTIL}


def ingest(settings: Settings, engine: Engine, gate: Gate = accept_everything):
    return ingest_paths([settings.inbox_path], settings=settings, engine=engine, gate=gate)


def frame(engine: Engine, query: str) -> pd.DataFrame:
    with engine.connect() as connection:
        return pd.read_sql(sa.text(query), connection)


def truth_of(settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Events, event × tactic, and the faults in the files."""
    folder = settings.home_path / "truth"
    return (
        pd.DataFrame(json.loads((folder / "events.json").read_text(encoding="utf-8"))).set_index("name"),
        pd.read_parquet(folder / "event_tactic.parquet"),
        pd.DataFrame(
            json.loads((folder / "mess.json").read_text(encoding="utf-8")),
            columns=["file", "row", "kind", "loses", "key"],
        ),
    )


_REGISTERED = """
    SELECT coalesce(e.name, r.event_label) AS name, r.status, count(*) AS n,
           count(*) FILTER (WHERE r.attended) AS attended, bool_and(r.event_id IS NOT NULL) AS is_tied
    FROM turnout.registration r LEFT JOIN turnout.event e USING (event_id)
    GROUP BY 1, 2
"""
_SPENT = """
    SELECT a.campaign_name, min(e.name) AS event_name, min(c.tactic_id) AS tactic_id, a.currency,
           sum(a.spend) AS spend, sum(coalesce(a.registrations, a.leads, a.conversions)) AS claimed
    FROM turnout.ad_performance a
    JOIN turnout.campaign c USING (organisation, source, account, campaign_id)
    LEFT JOIN turnout.event e USING (event_id)
    GROUP BY a.campaign_name, a.currency
"""


def test_clean_files_arrive_to_the_last_yen_person_and_restated_claim_once(settings, engine):
    simulate(settings.home_path, messy=False, **SMALL)
    report = ingest(settings, engine)
    assert report.refused == []
    assert report.summary()["rows_quarantined"] == 0
    events, tactics, _ = truth_of(settings)

    stored = frame(engine, "SELECT * FROM turnout.event").set_index("name").loc[events.index]
    assert stored.is_simulated.all()
    assert list(stored.event_date.astype(str)) == list(events.date)
    for column, told in (("category", "category"), ("format", "format"), ("price", "price"), ("budget", "budget"),
                         ("target_registrations", "target"), ("actual_registrations", "registrations")):  # fmt: skip
        assert list(stored[column]) == list(events[told]), column
    for column in ("industries", "job_titles", "company_sizes"):
        assert [sorted(v) for v in stored[column]] == [sorted(v) for v in events[column]], column

    registered = frame(engine, _REGISTERED)
    assert registered.is_tied.all()
    confirmed = registered[registered.status == "confirmed"].set_index("name").loc[events.index]
    assert list(confirmed.n) == list(events.registrations)
    assert list(confirmed.attended) == list(events.attended)
    assert registered[registered.status == "cancelled"].n.sum() == events.cancelled.sum()

    campaigns = tactics[tactics.campaign.notna()].set_index("campaign")
    spent = frame(engine, _SPENT).set_index("campaign_name")
    brand = spent[~spent.index.isin(campaigns.index)]
    assert set(brand.index) == {"指名ブランド_通年_SIM"}
    assert brand.event_name.isna().all()
    assert set(campaigns.index) <= set(spent.index)
    for name, expected in campaigns.iterrows():
        row = spent.loc[name]
        assert row.event_name == expected.event_name
        rate = 150 if row.currency == "USD" else 1
        assert float(row.spend) * rate == pytest.approx(expected.spend, abs=0.005)

    results = frame(engine, "SELECT * FROM turnout.tactic_result")
    assert results.event_id.notna().all()
    assert results.staff_hours.astype(float).sum() == pytest.approx(tactics.staff_hours.sum())
    assert results.registrations.astype(int).sum() == tactics.labelled.sum()

    # claims are those of the last file that holds the day, so for old days the final ones; Meta leaves zeros out
    claims = spent.claimed.astype(float).fillna(0.0)
    old = {name for name, day in events.date.items() if (UNTIL - date.fromisoformat(day)).days > RESTATED_DAYS}
    claimed = campaigns[campaigns.event_name.isin(old) & (campaigns.tactic_id != "meta_traffic")].claimed
    assert len(claimed) > 10
    pd.testing.assert_series_equal(claims[claimed.index], claimed, atol=0.005, check_names=False)

    before = frame(engine, _REGISTERED), frame(engine, _SPENT)
    assert ingest(settings, engine).summary() == report.summary()
    for old, new in zip(before, (frame(engine, _REGISTERED), frame(engine, _SPENT)), strict=True):
        keys = list(old)[:2]
        pd.testing.assert_frame_equal(
            old.sort_values(keys, ignore_index=True), new.sort_values(keys, ignore_index=True)
        )


@pytest.mark.slow
def test_messy_rows_are_caught_and_nothing_else_is_lost(settings, engine):
    gate = make_gate(settings)
    simulate(settings.home_path, recent_months=1, **SMALL)
    report = ingest(settings, engine, gate)
    assert report.refused == []
    events, tactics, faults = truth_of(settings)
    counted = report.summary()
    kinds = Counter(faults.kind)
    assert counted["rows_blank"] == kinds["blank_row"]
    assert counted["rows_total"] == kinds["total_row"]
    # text garbled beyond recognition may pass as an unknown name; every other fault is caught
    spoilt = faults[faults.loses | (faults.kind == "duplicate_event")]
    assert spoilt[spoilt.kind != "mojibake"].shape[0] <= counted["rows_quarantined"] <= spoilt.shape[0]

    in_sheets = faults[faults.file.str.endswith("events.xlsx") & faults.loses]
    lost_events = set(events.index[events.code.isin(in_sheets.key)])
    stored = set(frame(engine, "SELECT name FROM turnout.event").name)
    assert stored == set(events.index) - lost_events

    lost = Counter(faults[faults.file.str.contains("/registrations_") & faults.loses].key)
    registered = frame(engine, _REGISTERED)
    by_event = registered[registered.is_tied].groupby("name").n.sum()
    for name, event in events.iterrows():
        if name not in lost_events:
            assert by_event[name] + lost[name] == event.registrations + event.cancelled

    spent = frame(engine, _SPENT).set_index("campaign_name")
    in_ads = faults[faults.file.str.contains("_ads_") & faults.loses]
    spoilt_campaigns = {key.rsplit(" ", 1)[0] for key in in_ads.key}
    clean = 0
    for row in tactics[tactics.campaign.notna()].itertuples():
        found = spent.loc[row.campaign]
        yen = float(found.spend) * (150 if found.currency == "USD" else 1)
        if row.campaign in spoilt_campaigns:
            assert 0.5 * row.spend < yen <= row.spend + 0.005
        else:
            assert yen == pytest.approx(row.spend, abs=0.005)
            clean += 1
    assert clean > 10


def test_sample_history_holds_the_real_conference_apart(settings, engine):
    write_sample_history(settings, seed=1, events=4, until=UNTIL, months=3)
    ingest(settings, engine)
    event = frame(engine, "SELECT * FROM turnout.event").set_index("name")
    conference = event.loc[CONFERENCE_NAME]
    assert not conference.is_simulated
    assert conference.event_date == CONFERENCE_DATE
    assert event.drop(CONFERENCE_NAME).is_simulated.all()
    tickets = frame(
        engine,
        f"""SELECT sum(quantity) AS n, sum(quantity) FILTER (WHERE attended) AS came,
                   sum(quantity) FILTER (WHERE attended IS NULL) AS unknown
            FROM turnout.registration WHERE event_id = '{conference.event_id}' AND status = 'confirmed'""",
    ).iloc[0]
    assert (tickets.n, tickets.came) == (1753, 557)
    assert tickets.unknown > 800
