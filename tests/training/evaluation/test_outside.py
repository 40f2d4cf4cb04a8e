"""Outside files of invented data in the shape of the public ones: what is found in them, and that ours beats chance."""

from __future__ import annotations

import json
from datetime import date

import numpy as np
import pandas as pd
import pytest

from training.evaluation import outside
from training.evaluation.daily import still_to_come
from training.evaluation.outside import evaluate, recognise
from training.evaluation.report import outside_page
from turnout.errors import InputError
from turnout.scoring.published import published_pacing
from turnout.simulation.sample import conference_daily


def ads(rows=400, seed=0):
    """Ads with a saturating effect of spend and a strong effect of age, and conversions without any spend."""
    rng = np.random.default_rng(seed)
    spend = np.where(rng.random(rows) < 0.2, 0.0, rng.lognormal(3, 1, rows))
    age, campaign = rng.integers(0, 4, rows), rng.integers(0, 3, rows)
    mean = (1.0 + 12 * spend / (60 + spend)) * np.array([1.8, 1.2, 0.8, 0.5])[age]
    return pd.DataFrame({
        "ad_id": np.arange(700_000, 700_000 + rows), "xyz_campaign_id": campaign + 900,
        "age": np.array(["30-34", "35-39", "40-44", "45-49"])[age],
        "gender": np.where(rng.random(rows) < 0.5, "M", "F"),
        "Impressions": rng.integers(1000, 100_000, rows), "Spent": spend, "Total_Conversion": rng.poisson(mean),
    })  # fmt: skip


def mails(rows=2400, seed=0):
    rng = np.random.default_rng(seed)
    arm = np.array(["No E-Mail", "Mens E-Mail", "Womens E-Mail"])[rng.integers(0, 3, rows)]
    band = rng.integers(0, 4, rows)
    rate = 0.08 * np.array([0.8, 1.0, 1.3, 1.8])[band] * np.where(arm == "No E-Mail", 1.0, 1.6)
    visit = (rng.random(rows) < rate).astype(int)
    spend = np.where(visit & (rng.random(rows) < 0.2), rng.gamma(2, 50, rows), 0.0)
    return pd.DataFrame({
        "recency": rng.integers(1, 13, rows), "history_segment": np.array([f"{b + 1}) band" for b in range(4)])[band],
        "segment": arm, "visit": visit, "spend": spend,
    })  # fmt: skip


def write(tmp_path, frame, name="data.csv"):
    path = tmp_path / name
    frame.to_csv(path, index=False)
    return path


def test_columns_of_advertising_are_recognised():
    found = recognise(ads())
    assert found.kind == "spend"
    assert found.spend == ("Spent",)
    assert found.targets == ("Total_Conversion",)
    assert set(found.groups) == {"xyz_campaign_id", "age", "gender"}


def test_columns_of_an_experiment_are_recognised_although_one_is_called_spend():
    found = recognise(mails())
    assert (found.kind, found.arm, found.control) == ("experiment", "segment", "No E-Mail")
    assert found.targets == ("visit", "spend")
    assert found.groups == ("history_segment",)


def test_conversions_of_held_out_ads_beat_the_yardsticks(tmp_path):
    report = evaluate(write(tmp_path, ads(800)), seed=1)
    scores = report["results"]["Total_Conversion"]["scores"]
    ours = scores.pop("ours")["wape"]
    assert all(ours <= other["wape"] * 1.01 for other in scores.values()), (ours, scores)
    assert 0.8 < report["results"]["Total_Conversion"]["coverage_90"] <= 1
    json.dumps(report)
    assert "<table>" in outside_page("Ads", report)


def test_weekly_spend_in_several_channels_is_held_out_by_date(tmp_path):
    rng = np.random.default_rng(0)
    tv, search = rng.gamma(2, 5000, 120), rng.gamma(2, 2000, 120)
    weeks = pd.date_range("2023-01-02", periods=120, freq="7D")
    revenue = 50_000 + 80_000 * tv / (8000 + tv) + 6 * search + rng.normal(0, 2000, 120)
    frame = pd.DataFrame({"DATE": weeks.strftime("%Y-%m-%d"), "revenue": revenue, "tv_S": tv, "search_S": search})
    report = evaluate(write(tmp_path, frame), seed=1)
    assert report["columns"]["spend"] == ["tv_S", "search_S"]
    assert report["columns"]["date"] == "DATE"
    scores = report["results"]["revenue"]["scores"]
    assert scores["ours"]["wape"] < 0.06
    assert scores["ours"]["wape"] < scores["historical_cpa"]["wape"]


def test_an_experiment_gives_cells_and_lifts(tmp_path):
    report = evaluate(write(tmp_path, mails()), seed=1)
    visits = report["results"]["visit"]
    assert visits["wape_cells"]["ours"] < visits["wape_cells"]["cell"]
    assert visits["wape_cells"]["ours"] < visits["wape_cells"]["overall"]
    for lift in visits["lift"].values():
        assert 0.02 < lift["predicted"] < 0.09
    assert set(report["results"]) == {"visit", "spend"}


def test_a_real_conference_is_forecast_nearer_than_prophet_and_the_pace_so_far(tmp_path):
    path = write(tmp_path, pd.DataFrame(conference_daily()))
    report = evaluate(path, event_date=date(2024, 10, 16), event_format="hybrid")
    assert report["data_kind"] == "daily"
    first = report["results"]["30"]
    assert first["actual"] == 873
    assert first["forecasts"]["prophet"] == pytest.approx(183, abs=10)
    assert abs(first["forecasts"]["ours"] - 873) < 200
    assert first["p05"] < 873 < first["p95"]
    errors = report["results"]["mean_absolute_error"]
    assert errors["ours"] < min(v for k, v in errors.items() if k != "ours")
    for ahead in ("30", "14", "7"):
        assert report["results"][ahead]["p05"] < report["results"][ahead]["actual"] < report["results"][ahead]["p95"]


def test_a_sale_that_follows_the_published_pace_is_forecast_to_the_point():
    pacing = published_pacing("offline|paid")
    event = date(2026, 6, 30)
    days = pd.date_range(end="2026-06-30", periods=57, freq="D")
    before = [(pd.Timestamp(event) - d).days for d in days]
    daily = pd.Series([1000 * (pacing.expected_share(b) - pacing.expected_share(b + 1)) for b in before], index=days)
    known, coming = daily[:-14], daily[-14:-1]
    mean, log_sd = still_to_come(known, pacing, event, 13)
    assert mean == pytest.approx(float(coming.sum()), rel=0.1)
    assert 0.2 < log_sd < 1


def test_a_series_too_short_says_so(tmp_path):
    frame = pd.DataFrame({"date": [f"2026-05-{d:02d}" for d in range(1, 11)], "n": range(10)})
    report = evaluate(write(tmp_path, frame))
    assert any("not forecast" in note for note in report["notes"])
    assert report["results"]["mean_absolute_error"] == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["Conversions"]}, "--target names 'Conversions'; the file has ad_id"),
        ({"spend": ["age"]}, "does not hold numbers"),
        ({"kind": "weekly"}, "allowed are spend, experiment, daily"),
        ({"kind": "experiment"}, "no column for --arm was found"),
    ],
)
def test_wrong_options_name_what_there_is(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        evaluate(write(tmp_path, ads(60)), **options)


def test_files_that_are_no_data_are_refused(tmp_path):
    (tmp_path / "empty.csv").write_text("a,b\n")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01" * 40)
    unclear = write(tmp_path, pd.DataFrame({"colour": ["red", "blue"], "shape": ["a", "b"]}), "unclear.csv")
    for path, message in (
        (tmp_path / "empty.csv", "no rows"), (tmp_path / "binary.csv", "not a UTF-8 CSV"), (unclear, "set --kind"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            evaluate(path)
    with pytest.raises(InputError, match="at least 40 are needed"):
        evaluate(write(tmp_path, ads(30)))
    with pytest.raises(InputError, match="negative"):
        evaluate(write(tmp_path, ads(60).assign(Spent=-1.0)))
    assert outside.KINDS == ("spend", "experiment", "daily")
