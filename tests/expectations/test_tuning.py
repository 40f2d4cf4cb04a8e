"""What a user may adjust, and overrule."""

from __future__ import annotations

import json
from datetime import date, timedelta
from decimal import Decimal

import pytest
from typer.testing import CliRunner

from benchmarks.quality import load_history, said
from benchmarks.quality_nights import YESTERDAY, accounts, times, without, yesterday
from benchmarks.quality_world import TODAY
from expectations.gate import TurnoutGate, all_checks
from expectations.tuning import load_tuning
from ingestion.api import ingest_paths
from turnout.acceptance import accept_partition, accepted_partitions, stopped_partitions, withdraw_acceptance
from turnout.cli.app import app
from turnout.errors import ConfigurationError
from turnout.settings import Settings


def _tuned(tmp_path, text: str) -> Settings:
    (tmp_path / "expectations.yaml").write_text(text, encoding="utf-8")
    return Settings(home=tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("checks: {no_such_check: off}", "there is no check no_such_check; known are"),
        ("silence: [{check: few_rows, acount: a}]", "silence.0.acount"),
        ("limits: {spend_jmp: 3}", "limits.spend_jmp"),
        ("limits: {few_rows: 20}", "limits.few_rows"),
        ("checks: {few_rows: loud}", "checks.few_rows"),
        ("checks: [", "is no YAML"),
        ("a sentence", "expectations.yaml"),
    ],
)
def test_a_key_that_does_nothing_is_an_error_that_says_which(tmp_path, text, said):
    with pytest.raises(ConfigurationError, match=said.replace(".", r"\.")):
        TurnoutGate(_tuned(tmp_path, text))


def test_no_file_and_an_empty_one_are_the_defaults(tmp_path):
    assert load_tuning(tmp_path) == load_tuning(_tuned(tmp_path, "").home)


def test_checks_are_switched_off_softened_and_hardened(tmp_path, clean):
    def decide(text: str):
        frame = clean("event", 6)
        frame.at["r1", "format"] = "somewhere"
        frame.at["r2", "registration_opens"] = date(2030, 1, 1)
        return said(TurnoutGate(_tuned(tmp_path, text), today=TODAY)("event", frame))

    assert decide("") == {("reject", "unknown_format"), ("warn", "opens_after_event")}
    assert decide("checks: {unknown_format: off}") == {("warn", "opens_after_event")}
    assert decide("checks: {unknown_format: warn, opens_after_event: stop}") == {
        ("warn", "unknown_format"), ("reject", "opens_after_event"),
    }  # fmt: skip


def test_a_limit_moves_what_is_said(settings, engine):
    account = accounts()["ads"]
    load_history(engine, account, account.known(TODAY))
    frame = yesterday(times(7, "spend", "spend_base"))(account.night(TODAY))
    settings.home_path.mkdir(parents=True)
    assert ("warn", "cost_drift") in said(TurnoutGate(settings, today=TODAY)(account.table, frame))
    (settings.home_path / "expectations.yaml").write_text("limits: {cost_drift: 12}", encoding="utf-8")
    assert ("warn", "cost_drift") not in said(TurnoutGate(settings, today=TODAY)(account.table, frame))


def test_a_silence_holds_for_its_account_until_its_day(tmp_path, clean):
    frame = clean("ad_performance", 12)
    frame.at["r3", "impressions"] = frame.at["r3", "clicks"] = 0
    rule = "silence: [{{check: spend_without_impressions, account: {account}, until: {until}}}]"

    def warns(account: str, until: date) -> bool:
        gate = TurnoutGate(_tuned(tmp_path, rule.format(account=account, until=until)), today=TODAY)
        return ("warn", "spend_without_impressions") in said(gate("ad_performance", frame))

    assert not warns("a1", TODAY)
    assert warns("a2", TODAY)
    assert warns("a1", TODAY - timedelta(days=1))


def test_every_check_says_how_it_ends(gate):
    assert all(levels <= {"stop", "warn"} for levels in all_checks().values())
    assert {"stop", "warn"} == all_checks()["schema_change"]


# --- what somebody vouches for ----------------------------------------------------------------------------------------


def _accept(engine, settings, code: str, *, first: date | None = None, last: date | None = None) -> str:
    return accept_partition(
        engine, settings.organisation, table="ad_performance", source="google_ads", account="steady-900", code=code,
        first=first, last=last,
    )  # fmt: skip


def test_an_accepted_day_loads_with_a_warning_and_others_stop(settings, engine):
    account = accounts()["ads"]
    load_history(engine, account, account.known(TODAY))
    wrong = account.night(TODAY)
    for day in (YESTERDAY, YESTERDAY - timedelta(days=1)):
        there = wrong["date"] == day
        for name in ("spend", "spend_base"):
            wrong.loc[there, name] = [v * 100 for v in wrong.loc[there, name]]
    days = [s.date for s in TurnoutGate(settings, today=TODAY)(account.table, wrong).stopped]
    assert sorted(days) == [YESTERDAY - timedelta(days=1), YESTERDAY]
    _accept(engine, settings, "amount_scale", first=YESTERDAY, last=YESTERDAY)
    decision = TurnoutGate(settings, today=TODAY)(account.table, wrong)
    assert [s.date for s in decision.stopped] == [YESTERDAY - timedelta(days=1)]
    assert f"accepted: amount_scale of steady-900 {YESTERDAY}" in decision.warnings


def test_a_whole_account_is_accepted_only_as_a_whole(settings, engine):
    account = accounts()["ads"]
    load_history(engine, account, account.known(TODAY))
    dollars = account.night(TODAY).assign(currency="USD")
    dollars["fx_rate"], dollars["spend_base"] = Decimal(1), dollars["spend"]
    gate = TurnoutGate(settings, today=TODAY)
    assert [(s.date, s.code) for s in gate(account.table, dollars).stopped] == [(None, "currency_changed")]
    _accept(engine, settings, "currency_changed", first=YESTERDAY, last=YESTERDAY)
    gate.forget()
    assert len(gate(account.table, dollars).stopped) == 1
    key = _accept(engine, settings, "currency_changed")
    gate.forget()
    assert list(gate(account.table, dollars).stopped) == []
    with engine.connect() as connection:
        assert len(accepted_partitions(connection, settings.organisation)) == 2
        assert accepted_partitions(connection, "somebody-else") == []
    assert withdraw_acceptance(engine, settings.organisation, key)
    assert not withdraw_acceptance(engine, settings.organisation, key)


_HEAD = "Day,Campaign,Campaign ID,Currency code,Cost,Impr.,Clicks,Conversions\n"


def _export(path, days, factor: int = 1) -> None:
    lines = [
        f"{day},AI {c},{100 + c},JPY,{(200 + 10 * c) * 40 * (factor if day == days[-1] else 1)},4000,40,2.00\n"
        for day in days for c in range(3)
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_HEAD + "".join(lines), encoding="utf-8")


@pytest.fixture
def stopped_file(settings, engine):
    """An account with a month of history whose newest file has yesterday's amounts a hundredfold: stopped."""
    days = [TODAY - timedelta(days=n) for n in range(40, 0, -1)]
    path = settings.inbox_path / "tokyo" / "google.csv"
    _export(path, days[:-1])
    ingest_paths([path], settings=settings, engine=engine, gate=TurnoutGate(settings, today=TODAY))
    _export(path, days, factor=100)
    ingest_paths([path], settings=settings, engine=engine, gate=TurnoutGate(settings, today=TODAY))
    return path, days[-1]


def _rows_of(engine, day: date) -> int:
    import sqlalchemy as sa

    from turnout.warehouse import tables as wh

    with engine.connect() as connection:
        return connection.execute(
            sa.select(sa.func.count()).select_from(wh.ad_performance).where(wh.ad_performance.c.date == day)
        ).scalar_one()


def test_a_stopped_day_is_released_from_the_command_line(settings, engine, stopped_file, monkeypatch):
    path, day = stopped_file
    assert _rows_of(engine, day) == 0
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    run = CliRunner()
    listed = json.loads(run.invoke(app, ["quarantine", "stopped", "--json"]).stdout)
    assert [(s["source"], s["account"], s["date"], s["code"]) for s in listed] == [
        ("google_ads", "tokyo", str(day), "amount_scale")
    ]
    wrong = run.invoke(app, ["quarantine", "accept", "google_ads", "--account", "tokyo", "--check", "days_gone"])
    assert wrong.exit_code == 1
    options = ["--account", "tokyo", "--check", "amount_scale", "--note", "a trade fair", "--json"]
    accepted = run.invoke(app, ["quarantine", "accept", "google_ads", *options])
    assert accepted.exit_code == 0, accepted.output
    ingest_paths([path], settings=settings, engine=engine, gate=TurnoutGate(settings, today=TODAY))
    assert _rows_of(engine, day) == 3
    assert stopped_partitions(engine, settings.organisation) == []
    (shown,) = json.loads(run.invoke(app, ["quarantine", "accepted", "--json"]).stdout)
    assert (shown["note"], shown["first"], shown["last"]) == ("a trade fair", str(day), str(day))
    withdrawn = run.invoke(app, ["quarantine", "accepted", "--withdraw", shown["acceptance_id"], "--json"])
    assert json.loads(withdrawn.stdout) == []


def test_a_day_that_is_gone_from_the_file_stays_in_the_warehouse(settings, engine):
    days = [TODAY - timedelta(days=n) for n in range(30, 0, -1)]
    path = settings.inbox_path / "tokyo" / "google.csv"
    head = f'Campaign report\n"{days[0]:%B %d, %Y} - {days[-1]:%B %d, %Y}"\n'
    gate = TurnoutGate(settings, today=TODAY)
    _export(path, days)
    path.write_text(head + path.read_text(encoding="utf-8"), encoding="utf-8")
    ingest_paths([path], settings=settings, engine=engine, gate=gate)
    gone = days[12]
    assert _rows_of(engine, gone) == 3
    _export(path, [day for day in days if day != gone])
    path.write_text(head + path.read_text(encoding="utf-8"), encoding="utf-8")
    ingest_paths([path], settings=settings, engine=engine, gate=gate)
    assert _rows_of(engine, gone) == 3
    assert [(s["date"], s["code"]) for s in stopped_partitions(engine, settings.organisation)] == [
        (str(gone), "days_gone")
    ]


def test_the_days_of_a_night_lack_one(settings, engine):
    account = accounts()["ads"]
    load_history(engine, account, account.known(TODAY))
    day = TODAY - timedelta(days=9)
    decision = TurnoutGate(settings, today=TODAY)(account.table, without(day)(account.night(TODAY)))
    assert [(s.date, s.code) for s in decision.stopped] == [(day, "days_gone")]
    failure = next(f for f in decision.failures if f["code"] == "days_gone")
    assert failure["places"] == [["google_ads", "steady-900", str(day)]]
    assert failure["spend"] > 0
