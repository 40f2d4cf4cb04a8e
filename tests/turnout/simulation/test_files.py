"""The files: the same for the same seed, whole or not at all, messy enough, and labelled wherever one looks."""

import csv
import io
import json
import re
from collections import defaultdict
from datetime import date
from itertools import pairwise
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from turnout.errors import InputError
from turnout.settings import Settings
from turnout.simulation import publish, simulate
from turnout.simulation.history import live
from turnout.simulation.mess import garble
from turnout.simulation.sample import conference_daily, write_sample_history
from turnout.simulation.truth import load_world

UNTIL = date(2026, 9, 30)
SMALL = {"events": 24, "organisers": 3, "months": 8, "until": UNTIL}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rows_of(path: Path, *, skip: int = 0, encoding: str = "utf-8-sig", delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_bytes().decode(encoding)), delimiter=delimiter))[skip:]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    return folder, simulate(folder, seed=5, **SMALL)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    return folder, simulate(folder, seed=5, messy=False, **SMALL)


def test_same_seed_same_bytes_and_another_seed_other_bytes(written, tmp_path):
    folder, _ = written
    simulate(tmp_path / "again", seed=5, **SMALL)
    assert contents(folder / "inbox") == contents(tmp_path / "again" / "inbox")
    assert contents(folder / "truth") == contents(tmp_path / "again" / "truth")
    simulate(tmp_path / "other", seed=6, **SMALL)
    assert contents(folder / "inbox") != contents(tmp_path / "other" / "inbox")


def test_writing_again_replaces_and_leaves_other_folders_alone(tmp_path):
    simulate(tmp_path, seed=5, **SMALL)
    (tmp_path / "inbox" / "mine").mkdir()
    (tmp_path / "inbox" / "mine" / "events.csv").write_text("a")
    (tmp_path / "inbox" / "sim-like").mkdir()
    (tmp_path / "inbox" / "sim-like" / "README.txt").write_text("my own similar folder")
    (tmp_path / "inbox" / "sim-aoba" / "left over.csv").write_text("old")
    simulate(tmp_path, seed=5, **{**SMALL, "organisers": 2})
    assert sorted(p.name for p in (tmp_path / "inbox").iterdir()) == ["mine", "sim-aoba", "sim-like", "sim-minato"]
    assert not (tmp_path / "inbox" / "sim-aoba" / "left over.csv").exists()


@pytest.mark.parametrize("survives", range(1, 5))
def test_killed_between_two_folders_the_next_run_completes(tmp_path, monkeypatch, survives):
    class Killed(BaseException):
        pass

    real, seen = publish.Staging.publish, []

    def dying(self, folder, target):
        seen.append(folder)
        if len(seen) == survives:
            raise Killed
        real(self, folder, target)

    with monkeypatch.context() as patched:
        patched.setattr(publish.Staging, "publish", dying)
        with pytest.raises(Killed):
            simulate(tmp_path / "a", seed=5, **SMALL)
    # what a kill -9 leaves, which no handler could tidy
    (tmp_path / "a" / ".simulation.part" / "inbox" / "sim-aoba").mkdir(parents=True)
    (tmp_path / "a" / ".simulation.part" / "inbox" / "sim-aoba" / "half.csv").write_text("ha")
    simulate(tmp_path / "a", seed=5, **SMALL)
    simulate(tmp_path / "b", seed=5, **SMALL)
    assert contents(tmp_path / "a" / "inbox") == contents(tmp_path / "b" / "inbox")
    assert contents(tmp_path / "a" / "truth") == contents(tmp_path / "b" / "truth")
    assert not (tmp_path / "a" / ".simulation.part").exists()


def test_a_folder_that_is_no_truth_is_not_overwritten(tmp_path):
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="no simulation wrote"):
        simulate(tmp_path, seed=1, **SMALL)
    assert not (tmp_path / "inbox").exists()


def test_two_rows_in_a_hundred_are_messy_and_each_is_on_record(written):
    folder, summary = written
    assert summary.checks["messy_share"] >= 0.02
    faults = json.loads((folder / "truth" / "mess.json").read_text(encoding="utf-8"))
    assert len(faults) == summary.messy_rows
    per_file = defaultdict(set)
    for fault in faults:
        per_file[fault["file"]].add(fault["kind"])
        path = folder / "inbox" / fault["file"]
        if fault["kind"] == "total_row" and path.name.startswith("google"):
            assert rows_of(path)[fault["row"] - 1][0].startswith("合計")
        if fault["kind"] == "impossible_date" and path.name.startswith("linkedin"):
            assert rows_of(path, encoding="utf-16", delimiter="\t")[fault["row"] - 1][0] == "13/32/2025"
        if fault["kind"] == "negative_budget":
            cell = openpyxl.load_workbook(path).active.cell(fault["row"], 11)
            assert cell.value == -500_000
    assert len(set().union(*per_file.values())) >= 8
    assert all(any(name.startswith(f"{o}/") for name in per_file) for o in ("sim-aoba", "sim-minato", "sim-sakura"))


def test_every_file_says_that_it_is_simulated(written):
    folder, _ = written
    for name, content in contents(folder / "inbox").items():
        assert name.startswith("sim-")
        base = name.split("/")[1]
        if base.endswith(".xlsx"):
            sheet = openpyxl.load_workbook(io.BytesIO(content)).active
            cells = [[c for c in row if c] for row in sheet.iter_rows(values_only=True)]
            labelled = sum("シミュレーション" in row for row in cells)
            assert labelled > 0.9 * len(cells) - 3
        elif base.startswith(("google", "meta", "linkedin")):
            text = content.decode("utf-16" if base.startswith("linkedin") else "utf-8-sig")
            assert "SIM" in text
    assert "架空" in (folder / "inbox" / "sim-aoba" / "README.txt").read_text(encoding="utf-8")


def test_encodings_and_layouts_are_those_of_the_platforms(written):
    inbox = written[0] / "inbox"
    google = next((inbox / "sim-aoba").glob("google_ads_*.csv"))
    title, period, header = rows_of(google, encoding="utf-8")[:3]
    assert title[0].startswith("キャンペーンのパフォーマンス")
    assert re.fullmatch(r"\d{4}年\d+月\d+日 - \d{4}年\d+月\d+日", period[0])
    assert header[:2] == ["日", "キャンペーン"]
    assert all(re.fullmatch(r"-?\d+|#REF!", row[7]) for row in rows_of(google, skip=3, encoding="utf-8") if row[7])
    linkedin = next((inbox / "sim-minato").glob("linkedin_ads_*.csv"))
    assert linkedin.read_bytes()[:2] == b"\xff\xfe"
    assert rows_of(linkedin, encoding="utf-16", delimiter="\t")[0] == ["Campaign Performance Report (in UTC)"]
    meta = next((inbox / "sim-minato").glob("meta_ads_*.csv"))
    assert meta.read_bytes().startswith(b"\xef\xbb\xbf")
    assert rows_of(inbox / "sim-minato" / "tactic_results.csv", encoding="cp932")[0][0] == "施策名"
    assert (inbox / "sim-aoba" / "tactic_results.xlsx").exists()
    stats = json.loads(next((inbox / "sim-aoba").glob("sendgrid_*.json")).read_text(encoding="utf-8"))
    assert stats[0]["stats"][0]["type"] == "category"
    assert next((inbox / "sim-minato").glob("sendgrid_*.csv")).read_text().startswith("date,blocks,")


def test_events_are_written_in_the_ways_people_write(tmp_path):
    simulate(tmp_path, seed=2, **{**SMALL, "events": 60})
    text = ""
    for path in (tmp_path / "inbox").glob("*/events.xlsx"):
        for row in openpyxl.load_workbook(path).active.iter_rows(values_only=True):
            text += "\t".join(str(c) for c in row) + "\n"
    for pattern in (r"\d万円", r"令和\d年\d", r"¥[\d,]+", r"[０-９]+", r"\d名", r"、"):
        assert re.search(pattern, text), pattern


def _google_by_day(path: Path) -> dict[tuple[str, str], tuple[int, float]]:
    return {
        (row[0], row[1]): (int(row[7]), float(row[8].replace(",", "")))
        for row in rows_of(path, skip=3, encoding="utf-8")
    }


def test_each_month_is_restated_by_the_next_file(clean):
    folder, _ = clean
    restated = higher = 0
    files = sorted((folder / "inbox" / "sim-aoba").glob("google_ads_*.csv"))
    for first, second in pairwise(files):
        before, after = _google_by_day(first), _google_by_day(second)
        shared = before.keys() & after.keys()
        assert shared
        for key in shared:
            assert before[key][0] == after[key][0]
            assert before[key][1] <= after[key][1] + 1e-9
            restated += 1
            higher += before[key][1] < after[key][1]
    assert higher > 0.25 * restated


def test_the_past_comes_by_half_years_and_the_recent_months_one_by_one(tmp_path):
    simulate(tmp_path, seed=4, events=30, organisers=1, months=24, until=UNTIL, recent_months=3, messy=False)
    stated = []
    for path in sorted((tmp_path / "inbox" / "sim-aoba").glob("google_ads_*.csv")):
        first, last = (date(*map(int, re.findall(r"\d+", part))) for part in rows_of(path)[1][0].split(" - "))
        stated.append((first, last))
    assert stated[-1] == (date(2026, 8, 1), UNTIL)
    assert [(last - first).days > 100 for first, last in stated[-4:]] == [True, False, False, False]
    for before, after in pairwise(stated):
        assert after[0] < before[1] < after[1]  # every file holds the last month of the one before


def test_clean_exports_add_up_to_the_truth(clean):
    folder, summary = clean
    assert summary.messy_rows == 0
    truth = pd.read_parquet(folder / "truth" / "event_tactic.parquet")
    by_campaign = truth[truth.campaign.notna()].set_index("campaign")
    latest: dict[tuple[str, str, str], float] = {}
    for path in sorted((folder / "inbox").glob("*/google_ads_*.csv")):
        for (day, campaign), (yen, _) in _google_by_day(path).items():
            latest[path.parent.name, day, campaign] = yen
    spent = defaultdict(int)
    for (_, _, campaign), yen in latest.items():
        spent[campaign] += yen
    brand = {c for c in spent if c.startswith("指名ブランド")}
    assert len(brand) == 1
    google = by_campaign[by_campaign.tactic_id.isin(["google_search", "google_display", "youtube", "retargeting"])]
    assert {c: spent[c] for c in google.index} == google.spend.astype(int).to_dict()
    assert set(spent) - brand == set(google.index)

    dollars = defaultdict(float)
    last: dict[tuple[str, str, str], float] = {}
    for path in sorted((folder / "inbox").glob("*/linkedin_ads_*.csv")):
        for row in rows_of(path, skip=7, encoding="utf-16", delimiter="\t"):
            last[path.parent.name, row[0], row[2]] = float(row[5].replace(",", ""))
    for (_, _, campaign), amount in last.items():
        dollars[campaign] += amount
    linkedin = by_campaign[by_campaign.tactic_id.isin(["linkedin_ads", "linkedin_msg"])]
    assert len(linkedin) > 0
    for campaign, row in linkedin.iterrows():
        assert dollars[campaign] * 150 == pytest.approx(row.spend, abs=0.01)


def test_clean_registration_lists_are_the_truth(clean):
    folder, summary = clean
    events = {e["name"]: e for e in json.loads((folder / "truth" / "events.json").read_text(encoding="utf-8"))}
    confirmed, cancelled, attended = defaultdict(int), defaultdict(int), defaultdict(int)
    for path in (folder / "inbox").glob("*/registrations_*.csv"):
        for row in rows_of(path, skip=1):
            (confirmed if row[3] in ("confirmed", "確定") else cancelled)[row[1]] += 1
            attended[row[1]] += row[5] in ("yes", "参加")
    for name, event in events.items():
        assert confirmed[name] == event["registrations"]
        assert cancelled[name] == event["cancelled"]
        assert attended[name] == event["attended"]
    assert sum(confirmed.values()) == summary.registrations


def test_most_campaigns_carry_the_code_the_others_the_name_of_their_event(clean):
    truth = pd.read_parquet(clean[0] / "truth" / "event_tactic.parquet")
    named = truth[truth.campaign.notna()]
    has_code = [row.event_code in row.campaign for row in named.itertuples()]
    has_name = [row.event_name in row.campaign for row in named.itertuples()]
    assert all(code or name for code, name in zip(has_code, has_name, strict=True))
    assert 0.6 < sum(has_code) / len(named) < 0.95


def test_the_world_is_drawn_again_from_its_manifest(clean):
    folder, summary = clean
    history = live(load_world(folder / "truth"))
    assert int(history.total_count.sum()) == summary.registrations
    with pytest.raises(InputError, match="not a manifest"):
        load_world(folder)


def test_garbled_text_is_what_a_wrong_encoding_makes():
    assert garble("第1回 生成AI") != "第1回 生成AI"
    assert "ç¬¬1" in garble("第1回")


# --- the sample history ----------------------------------------------------------------------------------------------


def test_sample_history_is_a_simulated_world_and_one_real_conference(tmp_path):
    settings = Settings(home=tmp_path / "home")
    summary = write_sample_history(settings, seed=1, events=12, until=UNTIL, months=6)
    assert summary.conference_registrations == 1753
    folders = sorted(p.name for p in settings.inbox_path.iterdir())
    assert folders == ["pybr2024", "sim-aoba", "sim-minato"]
    assert (settings.home_path / "truth" / "manifest.json").exists()
    header, event = openpyxl.load_workbook(settings.inbox_path / "pybr2024" / "events.xlsx").active.iter_rows(
        values_only=True
    )
    assert dict(zip(header, event, strict=True))["データ区分"] == "実データ"
    before = contents(settings.inbox_path)
    write_sample_history(settings, seed=1, events=12, until=UNTIL, months=6)
    assert contents(settings.inbox_path) == before


def test_conference_list_keeps_every_published_ticket_and_invents_no_attendance(tmp_path):
    settings = Settings(home=tmp_path / "home")
    summary = write_sample_history(settings, seed=1, events=3, until=UNTIL, months=3)
    listed = pd.read_csv(summary.conference / "registrations_daily.csv", keep_default_na=False)
    assert listed.quantity.sum() == 1753
    month = listed[(listed.date > "2024-09-15") & (listed.date <= "2024-10-15")]
    assert month.quantity.sum() == 873
    remote = listed[listed.ticket_type.str.startswith("Ingresso Online")]
    assert set(remote.attended) == {"", "yes"}
    on_site = listed[listed.ticket_type.str.startswith("Ingresso Geral")]
    assert set(on_site.attended) == {"yes", "no"}
    published = sum(int(r["n"]) for r in conference_daily() if r["status_do_participante"] == "Fez check-in")
    assert listed[listed.attended == "yes"].quantity.sum() == published
