"""One message a night: complete, ranked, never twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from turnout.alerts import NotDelivered
from turnout.freshness import stale_accounts
from turnout.nightly_report import gather, note_failure, render, send_nightly_report
from turnout.settings import Settings
from turnout.warehouse import tables as wh
from turnout.warehouse.load import replace_partitions, upsert

MORNING = date(2026, 11, 25)
#: Two o'clock in Tokyo.
NIGHT = datetime(2026, 11, 24, 17, tzinfo=UTC)
RUN = UUID(int=11)


@pytest.fixture(autouse=True)
def _no_registry(monkeypatch):
    """The tests of a worker share a registry that other tests fill."""
    monkeypatch.setattr("turnout.registry.client", lambda settings: (_ for _ in ()).throw(OSError("away")))


def _with(settings: Settings, **more: Any) -> Settings:
    return settings.model_copy(update=more)


def _run(engine, organisation: str, status: str = "succeeded", error: str | None = None, at: datetime = NIGHT) -> None:
    with engine.begin() as connection:
        connection.execute(sa.insert(wh.ingest_run).values(
            run_id=RUN if status == "succeeded" else uuid4(), organisation=organisation, started_at=at, status=status,
            error=error, trigger="airflow", code_version="1",
        ))  # fmt: skip


def _validated(engine, organisation: str, failures: list[dict], *, account: str = "a1", at: datetime = NIGHT) -> None:
    stopped = any("stopped" in failure for failure in failures)
    with engine.begin() as connection:
        upsert(connection, wh.validation, [{
            "organisation": organisation, "validation_id": f"v-{account}-{at}", "run_id": RUN,
            "table_name": "ad_performance", "source": "google_ads", "account": account,
            "status": "stopped" if stopped else "warned", "rows_checked": 10, "rows_rejected": 0,
            "failures": failures, "checked_at": at,
        }])  # fmt: skip


def _warning(code: str, *days: str, spend: float = 0.0, account: str = "a1") -> dict:
    return {
        "code": code, "severity": "warning", "failed": len(days), "checked": 30, "examples": [f"{code} in words"],
        "spend": spend, "registrations": 0.0, "places": [["google_ads", account, day] for day in days],
    }  # fmt: skip


def _stop(code: str, day: str, account: str = "a1") -> dict:
    return {"stopped": day, "account": account, "code": code, "reason": f"{code} in words"}


def test_a_night_without_anything_is_quiet(settings, engine):
    report = gather(settings, engine, MORNING)
    assert report.is_quiet
    assert (report.runs, report.files, report.rows_loaded) == (0, 0, 0)
    assert render(report, settings)[0] == "Turnout 2026-11-25: all fine"


def test_what_matters_is_gathered_and_ranked(settings, engine):
    organisation = settings.organisation
    _run(engine, organisation)
    _run(engine, organisation, "failed", "OperationalError: the disk is full")
    stake = {"code": "amount_scale", "severity": "critical", "failed": 1, "checked": 30, "spend": 5_000_000.0}
    _validated(engine, organisation, [_stop("amount_scale", "2026-11-23"), stake, _warning("spend_jump", "2026-11-23")])
    _validated(engine, organisation, [_stop("days_gone", "2026-11-20", "a2")], account="a2")
    with engine.begin() as connection:
        for n in range(3):
            upsert(connection, wh.quarantine, [{
                "organisation": organisation, "quarantine_id": f"q{n}", "run_id": RUN, "source": "meta_ads",
                "table_name": "ad_performance", "file": "/inbox/meta.csv", "reason_code": "out_of_range",
                "reason": "clicks is -1", "record": {"spend": "1500.5"}, "created_at": NIGHT,
            }])  # fmt: skip
        upsert(connection, wh.quarantine, [{
            "organisation": organisation, "quarantine_id": "away", "run_id": RUN, "source": "linkedin_ads",
            "table_name": None, "file": "api/linkedin_ads/512", "reason_code": "access_denied",
            "reason": "the token has expired; log in again", "created_at": NIGHT - timedelta(days=9),
        }])  # fmt: skip
    report = gather(settings, engine, MORNING)
    assert [(f.kind, f.code, f.places) for f in report.findings] == [
        ("failed", "run_failed", 1), ("failed", "access_denied", 1), ("stopped", "amount_scale", 1),
        ("stopped", "days_gone", 1), ("quarantine", "out_of_range", 3), ("warning", "spend_jump", 1),
    ]  # fmt: skip
    assert report.failed_runs == 1
    title, text = render(report, settings)
    assert title == "Turnout 2026-11-25: 4 to act on, 2 to know"
    assert "STOPPED google_ads a1: amounts are in another unit" in text
    assert "[5,000,000 JPY]" in text
    assert "meta.csv: clicks is -1 [3 places, 4,502 JPY]" in text
    assert "linkedin_ads 512: the platform denies access – the token has expired" in text


def test_the_message_speaks_japanese(settings, engine):
    _validated(engine, settings.organisation, [_stop("currency_changed", "None")])
    title, text = render(gather(settings, engine, MORNING), _with(settings, language="ja"))
    assert title == "Turnout 2026-11-25：要対応 1 件、確認 0 件"
    assert "【停止】 google_ads a1: 通貨が変わった" in text


def test_only_this_night_counts(settings, engine):
    _validated(engine, settings.organisation, [_stop("days_gone", "2026-11-20")], at=NIGHT - timedelta(days=1))
    _run(engine, settings.organisation, "failed", "x", at=NIGHT + timedelta(days=1))
    assert gather(settings, engine, MORNING).is_quiet


def test_another_organisations_night_is_not_told(settings, engine):
    _validated(engine, "somebody-else", [_stop("days_gone", "2026-11-20")])
    assert gather(settings, engine, MORNING).is_quiet


def test_a_long_list_is_cut(settings, engine):
    for n in range(12):
        _validated(engine, settings.organisation, [_stop("days_gone", "2026-11-20", f"a{n}")], account=f"a{n}")
    text = render(gather(settings, engine, MORNING), settings)[1]
    assert text.count("STOPPED") == 8
    assert "… and 4 more" in text


def test_it_is_sent_once_and_again_only_with_something_new(settings, engine, webhook):
    url, received, _ = webhook
    settings = _with(settings, slack_webhook_url=_secret(url))
    _validated(engine, settings.organisation, [_stop("days_gone", "2026-11-20")])
    assert send_nightly_report(settings, MORNING).channels == ["slack"]
    again = send_nightly_report(settings, MORNING)
    assert (again.channels, again.reason) == ([], "already sent")
    _validated(engine, settings.organisation, [_stop("amount_scale", "2026-11-20", "a9")], account="a9")
    assert send_nightly_report(settings, MORNING).channels == ["slack"]
    assert send_nightly_report(settings, MORNING).channels == []
    assert [m["text"].startswith("*Update – Turnout") for m in received] == [False, True]
    assert send_nightly_report(settings, MORNING, force=True).channels == ["slack"]


def _secret(text: str):
    from pydantic import SecretStr

    return SecretStr(text)


def test_two_processes_send_one_message(settings, engine, webhook):
    url, received, _ = webhook
    settings = _with(settings, slack_webhook_url=_secret(url))
    _validated(engine, settings.organisation, [_stop("days_gone", "2026-11-20")])
    with ThreadPoolExecutor(4) as pool:
        sent = list(pool.map(lambda _: send_nightly_report(settings, MORNING).channels, range(4)))
    assert sorted(sent) == [[], [], [], ["slack"]]
    assert len(received) == 1


def test_a_quiet_night_says_nothing_unless_asked_to(settings, engine, webhook):
    url, received, _ = webhook
    settings = _with(settings, slack_webhook_url=_secret(url))
    assert send_nightly_report(settings, MORNING).reason == "a quiet night"
    assert received == []
    assert send_nightly_report(_with(settings, alert_when_quiet=True), MORNING).channels == ["slack"]
    assert send_nightly_report(_with(settings, alert_when_quiet=True), MORNING).channels == []
    assert "all fine" in received[0]["text"]


def test_a_channel_that_failed_is_tried_again_and_the_other_is_not(settings, engine, webhook):
    from tests.turnout.smtp_sink import Sink

    url, received, answer = webhook
    sink = Sink()
    try:
        settings = _with(
            settings, slack_webhook_url=_secret(url), smtp_url=_secret(f"smtp://127.0.0.1:{sink.port}"),
            alert_to="ops@example.jp",
        )  # fmt: skip
        settings.__dict__.pop("mail_recipients", None)
        _validated(engine, settings.organisation, [_stop("days_gone", "2026-11-20")])
        answer[0] = 503
        with pytest.raises(NotDelivered, match="slack answered 503"):
            send_nightly_report(settings, MORNING)
        assert (len(received), len(sink.messages)) == (1, 1)
        answer[0] = 200
        assert send_nightly_report(settings, MORNING).channels == ["slack"]
        assert (len(received), len(sink.messages)) == (2, 1)
    finally:
        sink.stop()


def test_without_a_channel_nothing_is_taken_for_told(settings, engine, webhook):
    _validated(engine, settings.organisation, [_warning("spend_jump", "2026-11-23")])
    assert "no channel is set up" in send_nightly_report(settings, MORNING).reason
    _validated(engine, settings.organisation, [_warning("spend_jump", "2026-11-23")], at=NIGHT + timedelta(days=1))
    assert not gather(settings, engine, MORNING + timedelta(days=1)).is_quiet


def test_a_warning_is_told_once_and_a_stop_as_long_as_it_lasts(settings, engine, webhook):
    settings = _with(settings, slack_webhook_url=_secret(webhook[0]))
    tomorrow, later = MORNING + timedelta(days=1), NIGHT + timedelta(days=1)
    said = [_stop("days_gone", "2026-11-20"), _warning("spend_jump", "2026-11-22", "2026-11-23")]
    _validated(engine, settings.organisation, said)
    send_nightly_report(settings, MORNING)
    # the look-back window reads the same days again, and one more
    said = [_stop("days_gone", "2026-11-20"), _warning("spend_jump", "2026-11-22", "2026-11-23", "2026-11-24")]
    _validated(engine, settings.organisation, said, at=later)
    found = gather(settings, engine, tomorrow).findings
    assert [(f.kind, f.places) for f in found] == [("stopped", 1), ("warning", 1)]
    _validated(engine, settings.organisation, [_warning("spend_jump", "2026-11-22", "2026-11-23")], at=later)
    report = gather(settings, engine, tomorrow)
    assert (report.findings, report.told_before) == ([], 1)


def test_a_failed_run_waits_for_the_morning_and_counts_once(settings, engine):
    for _ in range(2):
        assert note_failure(settings, "Turnout: nightly_retrain failed", "Run x: see its log", "x")
    with engine.begin() as connection:
        connection.execute(sa.update(wh.incident).values(occurred_at=NIGHT))
    found = gather(settings, engine, MORNING).findings
    assert [(f.kind, f.code) for f in found] == [("failed", "pipeline_failed")]
    assert "nightly_retrain failed: Run x" in found[0].detail


def test_a_warehouse_that_is_away_cannot_keep_a_failure(tmp_path):
    away = Settings(home=tmp_path, database_url="postgresql://nobody@127.0.0.1:9/turnout")
    assert not note_failure(away, "title", "text", "run")
    assert not note_failure(Settings(home=tmp_path), "title", "text", "run")


def _ads(engine, organisation: str, account: str, days: list[date], campaign: str = "c1") -> None:
    import pandas as pd

    rows = [
        {
            "organisation": organisation, "source": "google_ads", "account": account, "account_time_zone": "Asia/Tokyo",
            "fetched_at": NIGHT, "run_id": RUN, "date": day, "period_end": day, "campaign_id": campaign,
            "campaign_name": f"集客 {campaign}", "impressions": 100, "clicks": 3, "spend": Decimal(1000),
            "currency": "JPY", "spend_base": Decimal(1000), "base_currency": "JPY", "fx_rate": Decimal(1),
            "fx_date": day,
        }
        for day in days
    ]  # fmt: skip
    with engine.begin() as connection:
        replace_partitions(connection, wh.ad_performance, pd.DataFrame(rows, dtype=object))


def _days(*ago: int) -> list[date]:
    return [MORNING - timedelta(days=n) for n in ago]


def test_accounts_that_are_late_for_their_rhythm_are_told(settings, engine):
    organisation = settings.organisation
    _ads(engine, organisation, "daily, on time", _days(*range(1, 60)))
    _ads(engine, organisation, "daily, late", _days(*range(5, 60)))
    _ads(engine, organisation, "with pauses", _days(*[n for n in range(8, 90) if n % 21 < 13]))
    _ads(engine, organisation, "new", _days(*range(6, 10)))
    _ads(engine, organisation, "ended", _days(*range(70, 110)))
    with engine.connect() as connection:
        late = stale_accounts(connection, organisation, MORNING)
    assert [(one.account, one.age, one.newest) for one in late] == [("daily, late", 5, MORNING - timedelta(days=5))]
    finding = next(f for f in gather(settings, engine, MORNING).findings if f.kind == "stale")
    assert finding.account == "daily, late"


def test_a_platform_that_answered_says_itself_that_there_is_nothing(settings, engine):
    _ads(engine, settings.organisation, "512", _days(*range(5, 60)))
    with engine.begin() as connection:
        upsert(connection, wh.ingest_file, [{
            "organisation": settings.organisation, "file_id": "f", "run_id": RUN, "name": "google_ads/512",
            "path": "api/google_ads/512", "content_sha256": "x", "source": "google_ads", "layout": "google_ads.api",
            "table_name": "ad_performance", "rows_read": 0, "rows_loaded": 0, "rows_quarantined": 0, "rows_total": 0,
            "rows_blank": 0, "first_date": MORNING - timedelta(days=30), "last_date": MORNING, "totals": {},
            "loaded_at": NIGHT,
        }])  # fmt: skip
    with engine.connect() as connection:
        assert stale_accounts(connection, settings.organisation, MORNING) == []


def test_campaigns_without_an_event_are_told_once_with_their_money(settings, engine, webhook):
    settings = _with(settings, slack_webhook_url=_secret(webhook[0]))
    _ads(engine, settings.organisation, "a1", _days(1, 2, 3))
    with engine.begin() as connection:
        upsert(connection, wh.campaign, [{
            "organisation": settings.organisation, "source": "google_ads", "account": "a1", "campaign_id": "c1",
            "name": "集客 c1", "fetched_at": NIGHT, "run_id": RUN, "mapped_by": "unmapped",
        }])  # fmt: skip
    (finding,) = gather(settings, engine, MORNING).findings
    assert (finding.kind, finding.detail, finding.spend) == ("unmapped", "集客 c1", 3000.0)
    send_nightly_report(settings, MORNING)
    tomorrow = gather(settings, engine, MORNING + timedelta(days=1))
    assert (tomorrow.findings, tomorrow.told_before) == ([], 1)


# --- models -----------------------------------------------------------------------------------------------------------


def _monitored(engine, organisation: str, *rows: dict, as_of: date = MORNING) -> None:
    """What the monitoring of models found on a morning."""
    usual = {
        "model_name": "turnout-response", "model_version": "", "window_days": 90, "evidence": 40, "status": "ok",
        "organisation": organisation, "as_of": as_of, "value": None, "reference": None, "detail": None, "subject": "",
        "segment_id": "",
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(sa.insert(wh.model_monitor), [usual | row for row in rows])


FINE = (
    {"metric": "mae", "value": 12.3}, {"metric": "rmse", "value": 20.0}, {"metric": "wape", "value": 0.14},
    {"metric": "bias", "value": -0.02}, {"metric": "coverage_80", "value": 0.81},
)  # fmt: skip


def test_models_that_do_well_are_one_line_on_a_quiet_night(settings, engine):
    _monitored(engine, settings.organisation, *FINE)
    report = gather(settings, engine, MORNING)
    assert report.is_quiet
    lines = [line for line in render(report, settings)[1].splitlines() if "predictions" in line.lower()]
    assert lines == [
        "Models: predictions of the last 90 days: 40 events, mean error 12.3 registrations (14%), bias -2%, "
        "80 % intervals held 81%; nothing to worry about."
    ]
    japanese = render(gather(_with(settings, language="ja"), engine, MORNING), _with(settings, language="ja"))[1]
    assert "モデル：直近90日の予測: 40件、平均誤差12.3人(14%)" in japanese
    assert "異常なし。" in japanese


def test_what_is_wrong_with_the_models_is_told_worst_first_and_once(settings, engine, webhook):
    rows = [
        {"metric": "psi", "subject": "tactic_ctr_28d", "window_days": 28, "value": 0.3, "status": "warning"},
        {"metric": "bias", "segment_id": "cloud", "value": 0.41, "status": "alarm"},
        {"metric": "restated", "value": 0.5, "evidence": 3, "reference": 60, "status": "warning", "detail": "e1 2 → 3"},
        {"metric": "bias", "model_version": "2", "value": 0.9, "status": "alarm"},
    ]  # fmt: skip
    fine = [dict(row, value=0.3) if row["metric"] == "bias" else row for row in FINE]
    _monitored(engine, settings.organisation, *fine, *rows)
    report = gather(settings, engine, MORNING)
    assert [f.code for f in report.findings] == ["model_bias", "model_psi", "model_restated"]
    text = render(report, settings)[1]
    assert "Predictions: predictions are off to one side – cloud: predictions are +41% off over 40 events" in text
    assert "outcomes of 3 of 60 events were restated" in text
    assert "nothing to worry about" not in text

    ready = _with(settings, slack_webhook_url=_secret(webhook[0]))
    assert send_nightly_report(ready, MORNING).channels
    _monitored(engine, settings.organisation, *fine, *rows,
               as_of=MORNING + timedelta(days=1))  # fmt: skip
    next_morning = gather(ready, engine, MORNING + timedelta(days=1))
    assert next_morning.is_quiet
    assert next_morning.told_before == 3


def test_many_things_about_the_models_are_summed_up(settings, engine):
    rows = [
        {"metric": "psi", "subject": f"feature_{n}", "window_days": 28, "value": 0.3, "status": "warning"}
        for n in range(9)
    ]  # fmt: skip
    _monitored(engine, settings.organisation, *rows)
    found = gather(settings, engine, MORNING).findings
    assert [f.places for f in found] == [1, 1, 1, 1, 5]
    assert found[-1].detail == "features have drifted"
    assert len(found[-1].parts) == 5


def test_a_retrained_model_that_got_worse_is_told_and_one_that_is_no_better_is_not(settings, engine, monkeypatch):
    class Version:
        creation_timestamp = NIGHT.timestamp() * 1000

        def __init__(self, version: str, **tags: str) -> None:
            self.version, self.tags = version, tags

    class Client:
        def search_model_versions(self, wanted: str) -> list[Version]:
            if "demand" in wanted:
                return [Version("4", promotion="refused", promotion_reasons='["not better beyond noise"]')]
            reasons = '["worse beyond noise: loss 9.0% higher"]'
            return [Version("7", promotion="refused", promotion_reasons=reasons, promotion_alarming="true")]

    monkeypatch.setattr("turnout.registry.client", lambda settings: Client())
    report = gather(settings, engine, MORNING)
    [finding] = report.findings
    assert finding.code == "model_retrain_worse"
    assert finding.detail == "turnout-response version 7 was not promoted: worse beyond noise: loss 9.0% higher"
    assert report.models == "turnout-demand v4 not promoted; turnout-response v7 not promoted"
    japanese = gather(_with(settings, language="ja"), engine, MORNING)
    assert japanese.findings[0].detail.startswith("turnout-response バージョン7 は不採用")


def test_measurements_of_days_ago_are_no_news(settings, engine):
    _monitored(engine, settings.organisation, *FINE, as_of=MORNING - timedelta(days=2))
    assert gather(settings, engine, MORNING).models is None
