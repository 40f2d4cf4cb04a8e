"""The files a real organiser would hand in, written from a simulated history.

One folder per organiser: the team's own sheets (events, tactic results), monthly exports of Google Ads, Meta Ads and
LinkedIn, half-yearly ones of SendGrid's statistics and registration lists. Ad exports of a month cover that month
and the one before, as teams make them, so every day is reported twice and its conversions are restated: see
:func:`turnout.simulation.history.matured`. What lies further back than ``recent_months`` is handed in by half-years.

What differs between organisers, by their number
    ===================  =========================  ============================  ==============================
    tactic results       0: xlsx                    1: csv in cp932               2: csv in UTF-8 with BOM
    SendGrid             0: category statistics     1: account statistics (CSV)   2: category statistics
    registrations        0: English headers         1: Japanese headers           2: Japanese, event codes
    ===================  =========================  ============================  ==============================

Every file says that it is simulated where ingestion keeps it: folder (so account), campaign names, mail categories,
備考 and データ区分 of the sheets.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from turnout import taxonomy
from turnout.simulation.history import (
    NO_LABEL,
    ORGANIC,
    PLATFORM_TACTICS,
    WITHOUT_CLAIMS,
    AdDays,
    History,
    matured,
)
from turnout.simulation.mess import MessLog, Row, Spoiler, garble, put, put_text, spoil, total
from turnout.simulation.population import LABEL, LABEL_SHORT
from turnout.simulation.world import SimulatedEvent, World, stream
from turnout.simulation.xlsx import workbook_bytes

#: Share of the campaigns that name their event in words, not by its code.
_NAMED_BY_TITLE = 0.20
#: Share of the cells of the team's own sheets that are written in one of the ways people write them.
_DRESSED = 0.30

_FULL_WIDTH = str.maketrans("0123456789,", "０１２３４５６７８９，")
_WEEKDAYS = "月火水木金土日"

EVENT_HEADERS = (
    "イベント名", "開催日", "カテゴリ", "テーマ", "形式", "募集開始日", "参加費", "目標申込数", "実際申込数",
    "実際参加数", "予算", "実際コスト", "主要ターゲット業種", "主要ターゲット職種", "主要ターゲット規模", "備考",
    "データ区分",
)  # fmt: skip
RESULT_HEADERS = (
    "施策名", "カンファレンス名", "開催日", "テーマ・カテゴリ", "形式", "ターゲット(業種)", "ターゲット(職種)",
    "ターゲット(従業員規模)", "配信数/PV", "クリック数", "申込(CV数)", "費用(税抜)", "CPA", "工数(時間)", "備考",
    "データ区分",
)  # fmt: skip
GOOGLE_HEADERS = (
    "日", "キャンペーン", "クリック数", "表示回数", "クリック率", "通貨コード", "平均クリック単価", "費用",
    "コンバージョン", "コンバージョン率", "コンバージョン単価", "すべてのコンバージョン値",
    "検索広告のインプレッション シェア",
)  # fmt: skip
META_HEADERS = (
    "Reporting starts", "Reporting ends", "Campaign name", "Ad set name", "Ad name", "Ad delivery",
    "Attribution setting", "Results", "Result indicator", "Reach", "Impressions", "Frequency", "Cost per results",
    "Amount spent (JPY)", "Ends", "Quality ranking", "Link clicks",
)  # fmt: skip
LINKEDIN_HEADERS = (
    "Start Date (in UTC)", "Currency", "Campaign Name", "Campaign ID", "Campaign Type", "Total Spent", "Impressions",
    "Clicks", "Click Through Rate", "Average CPM", "Average CPC", "Leads", "Average Dwell Time (in seconds)",
)  # fmt: skip
SENDGRID_METRICS = (
    "blocks", "bounce_drops", "bounces", "clicks", "deferred", "delivered", "invalid_emails", "opens", "processed",
    "requests", "spam_report_drops", "spam_reports", "unique_clicks", "unique_opens", "unsubscribe_drops",
    "unsubscribes",
)  # fmt: skip

_GOOGLE_TITLE = f"キャンペーンのパフォーマンス（{LABEL}）"

#: Advertisements of one Meta campaign: set, name, and share of the campaign.
_META_ADS = (("Set 0", "Speaker teaser", 0.45), ("Set 0", "Agenda", 0.20), ("Set 1", "Speaker teaser", 0.35))

# --- faults: most show in one cell, some only beside the others ------------------------------------------------------
EVENT_FAULTS = (
    Spoiler("duplicate_event", list, adds=True),
    Spoiler("total_row", total({0: "合計", 8: 9999, 9: 8888, 10: 77_777_777, 11: 66_666_666}), adds=True),
    Spoiler("blank_row", total({}), adds=True),
    Spoiler("text_in_number", put(7, "たくさん")),
    Spoiler("negative_budget", put(10, -500_000)),
    Spoiler("date_1900", put(1, "1900/1/0")),
    Spoiler("unknown_format", put(4, "宇宙")),
    Spoiler("mojibake", put_text(0, garble)),
)
RESULT_FAULTS = (
    Spoiler("total_row", total({0: "合計", 8: 999_999, 9: 9_999, 10: 999, 11: 9_999_999}), adds=True),
    Spoiler("blank_row", total({}), adds=True),
    Spoiler("text_in_number", put(11, "見積待ち")),
    Spoiler("negative_cost", put(11, -30_000)),
    Spoiler("unknown_tactic", put(0, "謎の施策Ω")),
    Spoiler("no_event", put(1, "")),
    Spoiler("clicks_over_reach", put(9, 99_999_999)),
)
GOOGLE_FAULTS = (
    Spoiler(
        "total_row",
        total({0: "合計: すべてのキャンペーン", 1: " --", 5: "JPY"}),
        adds=True,
        sums={2: ",.0f", 3: ",.0f", 7: ".0f", 8: ",.2f"},
    ),
    Spoiler("blank_row", total({}), adds=True),
    Spoiler("text_in_number", put(7, "#REF!")),
    Spoiler("negative_cost", put(7, "-12000")),
    Spoiler("date_1900", put(0, "1900-01-01")),
    Spoiler("impossible_date", put_text(0, lambda day: day[:5] + "13-45")),
    Spoiler("clicks_over_impressions", put(2, "99,999,999")),
)
META_FAULTS = (
    Spoiler("blank_row", total({}), adds=True),
    Spoiler("text_in_number", put(13, "abc")),
    Spoiler("negative_cost", put(13, "-12000")),
    Spoiler("impossible_date", lambda row: ["2025-02-30", "2025-02-30", *row[2:]]),
    Spoiler("clicks_over_impressions", put(16, "99999999")),
)
LINKEDIN_FAULTS = (
    Spoiler("total_row", total({0: "Total"}, keep=(1,)), adds=True, sums={5: ",.2f", 6: ".0f", 7: ".0f", 11: ".0f"}),
    Spoiler("blank_row", total({}), adds=True),
    Spoiler("text_in_number", put(5, "see invoice")),
    Spoiler("negative_cost", put(5, "-120.00")),
    Spoiler("impossible_date", put(0, "13/32/2025")),
)
MAIL_FAULTS = (
    Spoiler("negative_count", put(2 + SENDGRID_METRICS.index("delivered"), -40)),
    Spoiler("text_in_number", put(2 + SENDGRID_METRICS.index("opens"), "many")),
    Spoiler("impossible_date", put(0, "2025-02-30")),
    Spoiler("unique_opens_over_opens", put(2 + SENDGRID_METRICS.index("unique_opens"), 99_999_999)),
)
#: On columns (registered_at, event, ticket, status, source, attended).
REGISTRATION_FAULTS = (
    Spoiler("total_row", total({0: "合計"}), adds=True),
    Spoiler("blank_row", total({}), adds=True),
    Spoiler("impossible_date", put(0, "2025-13-45T25:61:00")),
    Spoiler("date_1900", put(0, "1900-01-01T00:00:00+09:00")),
    Spoiler("no_date", put(0, "")),
    Spoiler("unknown_status", put(3, "？？？")),
    Spoiler("mojibake", put_text(1, garble)),
)


@dataclass
class HandIn:
    """What one organiser hands in.

    Attributes:
        folder: of the inbox.
        files: file name → bytes.
    """

    folder: str
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Month:
    """What goes into one monthly ad export: rows in order, what the platform claims of each on the ``last`` day."""

    folder: str
    place: str
    first: date
    last: date
    days: AdDays
    claimed: npt.NDArray[np.float64]
    rng: np.random.Generator


class Exporter:
    """Writes a history as files. ``log`` holds every fault afterwards.

    Args:
        messy: without it the files are clean, for tests of exact sums.
        recent_months: months of ad exports with a file each; earlier ones come by half-years.
    """

    def __init__(self, history: History, *, messy: bool = True, recent_months: int = 12) -> None:
        self.history = history
        self.world: World = history.world
        self.messy = messy
        self.recent_months = recent_months
        self.log = MessLog()
        self.campaigns = self._name_campaigns()
        who = history.registrations
        # what the teams count from their lists: confirmed registrations with this label
        labelled = who.is_confirmed & (who.label >= 0)
        self.labelled = np.zeros_like(history.tactic_count)
        np.add.at(self.labelled, (who.event[labelled], who.label[labelled]), 1)

    def hand_in(self, organiser: int) -> HandIn:
        """Every file of one organiser."""
        folder = self.world.organisers[organiser].folder
        rng = stream(self.world.config.seed, f"files of {folder}")
        result = HandIn(folder)
        events = [e for e in self.world.events if e.organiser == organiser]
        for name, content in self._files(organiser, folder, events, rng):
            result.files[name] = content
        result.files["README.txt"] = self._readme(organiser).encode("utf-8")
        return result

    def _files(
        self, organiser: int, folder: str, events: Sequence[SimulatedEvent], rng: np.random.Generator
    ) -> Iterator[tuple[str, bytes]]:
        yield self._events_sheet(folder, events, rng)
        yield self._results_sheet(organiser, folder, events, rng)
        mine = np.isin(self.history.ads.event, [e.index for e in events])
        for platform, write in (
            ("google_ads", self._google), ("meta_ads", self._meta), ("linkedin_ads", self._linkedin),
        ):  # fmt: skip
            wanted = [self.world.position(t) for t in PLATFORM_TACTICS[platform]]
            rows = mine & np.isin(self.history.ads.tactic, wanted)
            days = AdDays(*(getattr(self.history.ads, name)[rows] for name in AdDays.__dataclass_fields__))
            yield from self._monthly(platform, folder, days, write, rng)
        yield from self._sendgrid(organiser, folder, events, rng)
        yield from self._registrations(organiser, folder, events, rng)

    # --- names ----------------------------------------------------------------------------------------------------
    def _name_campaigns(self) -> dict[tuple[int, int], str]:
        """(event, tactic) → campaign name: code or title, tactic in words, and that it is simulated."""
        from turnout.tactics import load_catalogue

        catalogue, rng = load_catalogue(), stream(self.world.config.seed, "campaign names")
        names: dict[tuple[int, int], str] = {}
        for platform, tactics in PLATFORM_TACTICS.items():
            for tactic in tactics:
                t, entry = self.world.position(tactic), catalogue.get(tactic)
                words = [
                    w
                    for w in (entry.name_ja, *entry.aliases, entry.name_en)
                    if catalogue.match(f"x_{w}_{LABEL_SHORT}", platform) == tactic
                ]
                words = [w for w in words if not w.isascii()] or words
                for e in np.flatnonzero(self.history.spending.used[:, t]):
                    event = self.world.events[int(e)]
                    word = words[int(rng.integers(min(len(words), 4)))]
                    if rng.random() < _NAMED_BY_TITLE:
                        names[event.index, t] = f"{word}｜{event.name}｜{LABEL_SHORT}"
                    else:
                        names[event.index, t] = f"{event.code}_{word}_{event.theme}_{LABEL_SHORT}"
        return names

    def _labels(self, style: int) -> list[str]:
        """What the registration system calls the origin of each tactic."""
        from turnout.tactics import load_catalogue

        catalogue = load_catalogue()
        entries = [catalogue.get(t) for t in self.world.tactics]
        if style == 0:
            return [
                t.utm_labels[0] if t.utm_labels and catalogue.match(t.utm_labels[0]) == t.id else t.id for t in entries
            ]
        return [t.name_ja for t in entries] if style == 1 else [t.id for t in entries]

    # --- the team's own sheets ------------------------------------------------------------------------------------
    def _events_sheet(
        self, folder: str, events: Sequence[SimulatedEvent], rng: np.random.Generator
    ) -> tuple[str, bytes]:
        history, spent = self.history, self.history.spend.sum(axis=1)
        attended, kept = self._attendance()
        rows: list[Row] = []
        for e in events:
            i = e.index
            rows.append([
                e.name,
                _dressed_day(e.date, rng),
                taxonomy.categories.label(e.category, "ja"),
                e.theme,
                taxonomy.formats.label(e.format, "ja"),
                (e.date - timedelta(days=e.opens_before)).strftime("%Y/%m/%d"),
                "無料" if e.price == 0 else e.price,
                _dressed_count(int(history.target[i]), rng),
                int(history.total_count[i]),
                int(attended[i]) if kept[i] else None,
                _dressed_money(int(history.spending.budget[i]), rng),
                round(float(spent[i])),
                _joined(taxonomy.industries, e.industries),
                _joined(taxonomy.job_titles, e.job_titles),
                _joined(taxonomy.company_sizes, e.company_sizes),
                f"管理番号 {e.code}（{LABEL}）",
                LABEL,
            ])  # fmt: skip
        name = "events.xlsx"
        spoilt = self._spoil(
            rows, EVENT_FAULTS, rng, file=f"{folder}/{name}", first_row=3, key=lambda row: _code_in(str(row[15]))
        )
        title: Row = [f"イベント一覧（{LABEL}）"]
        return name, workbook_bytes("イベント一覧", [title, list(EVENT_HEADERS), *spoilt])

    def _results_sheet(
        self, organiser: int, folder: str, events: Sequence[SimulatedEvent], rng: np.random.Generator
    ) -> tuple[str, bytes]:
        from turnout.tactics import load_catalogue

        history, catalogue = self.history, load_catalogue()
        paid = self.world.prices.is_paid
        rows: list[Row] = []
        for e in events:
            for t in np.flatnonzero(history.spending.used[e.index]):
                cost = round(float(history.spend[e.index, t]))
                found = int(self.labelled[e.index, t])
                rows.append([
                    catalogue.get(self.world.tactics[t]).name_ja,
                    e.name.translate(_FULL_WIDTH) if rng.random() < 0.1 else e.name,
                    e.date.strftime("%Y/%m/%d"),
                    f"{e.theme}・{taxonomy.categories.label(e.category, 'ja')}",
                    taxonomy.formats.label(e.format, "ja"),
                    _joined(taxonomy.industries, e.industries),
                    _joined(taxonomy.job_titles, e.job_titles),
                    _joined(taxonomy.company_sizes, e.company_sizes),
                    int(history.reach[e.index, t]),
                    int(history.clicks[e.index, t]),
                    found,
                    _dressed_money(cost, rng) if paid[t] else 0,
                    round(cost / found) if cost and found else "--",
                    float(history.spending.staff_hours[e.index, t]),
                    f"{e.code}",
                    LABEL,
                ])  # fmt: skip
        style = organiser % 3
        name = "tactic_results.xlsx" if style == 0 else "tactic_results.csv"
        spoilt = self._spoil(
            rows, RESULT_FAULTS, rng, file=f"{folder}/{name}", first_row=2, key=lambda row: f"{row[14]} {row[0]}"
        )
        if style == 0:
            return name, workbook_bytes("施策実績", [list(RESULT_HEADERS), *spoilt])
        return name, _csv([RESULT_HEADERS, *spoilt], "cp932" if style == 1 else "utf-8-sig", line_end="\r\n")

    def _attendance(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Attendees per event, and whether attendance was recorded at all."""
        who, n = self.history.registrations, len(self.world.events)
        known = who.attended >= 0
        return (
            np.bincount(who.event[who.attended == 1], minlength=n),
            np.bincount(who.event[known], minlength=n) > 0,
        )

    # --- ad platforms ---------------------------------------------------------------------------------------------
    def _monthly(
        self, platform: str, folder: str, days: AdDays, write: Callable[[_Month], bytes], rng: np.random.Generator
    ) -> Iterator[tuple[str, bytes]]:
        """One file per period, each covering it and the month before, as seen on its last day."""
        if days.day.size == 0:
            return
        earliest = days.day.min().astype(object).replace(day=1)
        for first, last in _periods(earliest, self.world.config.until, self.recent_months):
            begin = max((first - timedelta(days=1)).replace(day=1), earliest)
            inside = np.flatnonzero((days.day >= np.datetime64(begin)) & (days.day <= np.datetime64(last)))
            if inside.size == 0:
                continue
            inside = inside[np.lexsort((days.tactic[inside], days.event[inside], days.day[inside]))]
            part = AdDays(*(getattr(days, name)[inside] for name in AdDays.__dataclass_fields__))
            age = (np.datetime64(last) - part.day).astype(np.int64)
            claimed = matured(part.claimed, age, fractional=platform == "google_ads")
            name = f"{platform}_{_stamp(first, last)}.csv"
            yield name, write(_Month(folder, f"{folder}/{name}", begin, last, part, claimed, rng))

    def _google(self, month: _Month) -> bytes:
        days = month.days
        rows: list[Row] = [
            _google_row(
                str(days.day[k]),
                self.campaigns[int(days.event[k]), int(days.tactic[k])],
                clicks=int(days.clicks[k]),
                seen=int(days.impressions[k]),
                yen=int(days.cents[k]),
                claimed=float(month.claimed[k]),
            )
            for k in range(days.day.size)
        ]
        # a campaign for the organiser's name that runs all year and belongs to no event
        brand = stream(self.world.config.seed, f"brand {month.folder}")
        span = np.arange(np.datetime64(self.world.config.first) - 90, np.datetime64(self.world.config.until) + 1)
        name = f"指名ブランド_通年_{LABEL_SHORT}"
        for day, clicks in zip(span, brand.poisson(7.0, span.size).tolist(), strict=True):
            if clicks and np.datetime64(month.first) <= day <= np.datetime64(month.last):
                rows.append(
                    _google_row(str(day), name, clicks=clicks, seen=clicks * 9, yen=clicks * 131, claimed=clicks / 4)
                )
        rows.sort(key=lambda row: str(row[0]))
        header = [[_GOOGLE_TITLE], [f"{_ja(month.first)} - {_ja(month.last)}"], list(GOOGLE_HEADERS)]
        spoilt = self._spoil_month(rows, GOOGLE_FAULTS, month, first_row=4, name=1)
        return _csv([*header, *spoilt], "utf-8")

    def _meta(self, month: _Month) -> bytes:
        days, claimed = month.days, month.claimed
        without = {self.world.position(t) for t in WITHOUT_CLAIMS}
        rows: list[Row] = []
        bounds = np.cumsum([share for _, _, share in _META_ADS])
        for k in range(days.day.size):
            event, tactic, day = int(days.event[k]), int(days.tactic[k]), str(days.day[k])
            # every quantity is split so that the advertisements add up to the campaign
            spend, seen, clicks, results = (
                np.diff(np.rint(bounds * total), prepend=0.0).astype(int)
                for total in (days.cents[k], days.impressions[k], days.clicks[k], claimed[k])
            )
            for number, (set_name, ad_name, _) in enumerate(_META_ADS):
                if tactic in without:
                    count, indicator = int(clicks[number]), "actions:link_click"
                else:
                    count, indicator = int(results[number]), "actions:offsite_conversion.fb_pixel_complete_registration"
                reach = round(int(seen[number]) / 1.25)
                rows.append([
                    day, day, self.campaigns[event, tactic], set_name, ad_name, "active", "7-day click or 1-day view",
                    count or "", indicator if count else "", reach, int(seen[number]), "1.250000" if reach else "",
                    f"{spend[number] / count:.6f}" if count else "", int(spend[number]), "Ongoing", "-",
                    int(clicks[number]) or "",
                ])  # fmt: skip
        # Meta's own row of sums covers the whole period and names no campaign
        period = total({0: str(month.first), 1: str(month.last)})
        sums = {9: ".0f", 10: ".0f", 13: ".0f", 16: ".0f"}
        faults = (Spoiler("total_row", period, adds=True, sums=sums), *META_FAULTS)
        spoilt = self._spoil_month(rows, faults, month, first_row=2, name=2)
        return _csv([META_HEADERS, *spoilt], "utf-8-sig")

    def _linkedin(self, month: _Month) -> bytes:
        days, claimed, first, last = month.days, month.claimed, month.first, month.last
        rows: list[Row] = []
        for k in range(days.day.size):
            event, tactic = int(days.event[k]), int(days.tactic[k])
            spend, seen, clicks = int(days.cents[k]) / 100, int(days.impressions[k]), int(days.clicks[k])
            rows.append([
                _us(days.day[k].astype(object)), "USD", self.campaigns[event, tactic],
                str(7_000_000 + event * 64 + tactic),
                "Sponsored Message" if self.world.tactics[tactic] == "linkedin_msg" else "Sponsored Update",
                f"{spend:,.2f}", str(seen), str(clicks), f"{clicks / seen:.2%}" if seen else "0.00%",
                f"{spend / seen * 1000:,.2f}" if seen else "0.00", f"{spend / clicks:,.2f}" if clicks else "0.00",
                str(int(claimed[k])), f"{2 + (event * 7 + k) % 90 / 10:.10f}",
            ])  # fmt: skip
        made = last + timedelta(days=1)
        head: list[Sequence[Any]] = [
            ["Campaign Performance Report (in UTC)"],
            [f"Report Start: {first:%B} {first.day}, {first.year}, 12:00 AM"],
            [f"Report End: {last:%B} {last.day}, {last.year}, 11:59 PM"],
            [f"Date Generated: {made:%B} {made.day}, {made.year}, 8:54 AM"],
            [],
            [],
            LINKEDIN_HEADERS,
        ]
        spoilt = self._spoil_month(rows, LINKEDIN_FAULTS, month, first_row=8, name=2)
        return _csv([*head, *spoilt], "utf-16", delimiter="\t", line_end="\r\n")

    # --- mail -----------------------------------------------------------------------------------------------------
    def _sendgrid(
        self, organiser: int, folder: str, events: Sequence[SimulatedEvent], rng: np.random.Generator
    ) -> Iterator[tuple[str, bytes]]:
        mail = self.history.mail
        mine = np.isin(mail.event, [e.index for e in events]) & (mail.day <= np.datetime64(self.world.config.until))
        by_category = organiser % 3 != 1
        sums: dict[tuple[date, str], npt.NDArray[np.int64]] = defaultdict(lambda: np.zeros(3, dtype=np.int64))
        for k in np.flatnonzero(mine):
            code = self.world.events[int(mail.event[k])].code
            tactic = self.world.tactics[int(mail.tactic[k])]
            category = f"{code}_{tactic}_{LABEL_SHORT}" if by_category else ""
            sums[mail.day[k].astype(object), category] += (
                int(mail.requests[k]),
                int(mail.opens[k]),
                int(mail.clicks[k]),
            )
        if not sums:
            return
        for first, last in _periods(min(day for day, _ in sums), self.world.config.until):
            rows: list[Row] = []
            for (day, category), figures in sorted(sums.items()):
                if first <= day <= last:
                    metrics = _mail_metrics(*(int(f) for f in figures))
                    rows.append([day.isoformat(), category, *(metrics[m] for m in SENDGRID_METRICS)])
            if not rows:
                continue
            name = f"sendgrid_{_stamp(first, last)}.{'json' if by_category else 'csv'}"
            spoilt = self._spoil(
                rows, MAIL_FAULTS, rng, file=f"{folder}/{name}", first_row=1 if by_category else 2,
                key=lambda row: f"{row[1]} {row[0]}",
            )  # fmt: skip
            if by_category:
                yield name, _category_json(spoilt)
            else:
                yield name, _csv([("date", *SENDGRID_METRICS), *([row[0], *row[2:]] for row in spoilt)], "utf-8")

    # --- registrations --------------------------------------------------------------------------------------------
    def _registrations(
        self, organiser: int, folder: str, events: Sequence[SimulatedEvent], rng: np.random.Generator
    ) -> Iterator[tuple[str, bytes]]:
        who = self.history.registrations
        mine = np.flatnonzero(np.isin(who.event, [e.index for e in events]))
        if mine.size == 0:
            return
        mine = mine[np.lexsort((who.second[mine], who.day[mine]))]
        style = organiser % 3
        labels = self._labels(style)
        words = {ORGANIC: "direct" if style != 1 else "直接", NO_LABEL: ""}
        yes_no = {1: "yes", 0: "no", -1: ""} if style == 0 else {1: "参加", 0: "不参加", -1: ""}
        status = ("cancelled", "confirmed") if style == 0 else ("キャンセル", "確定")
        header = {
            0: ("registered_at", "event", "ticket_type", "status", "source", "attended"),
            1: ("申込日時", "イベント名", "チケット種別", "ステータス", "流入元", "参加"),
            2: ("申込日時", "イベント名", "チケット種別", "ステータス", "流入元", "参加", "イベントコード"),
        }[style]
        periods = _periods(who.day[mine].min().astype(object), self.world.config.until)
        ends = np.array([last for _, last in periods], dtype="datetime64[D]")
        lists: list[list[Row]] = [[] for _ in periods]
        for k in mine:
            event = self.world.events[int(who.event[k])]
            day, second = str(who.day[k]), int(who.second[k])
            clock = f"{second // 3600:02d}:{second // 60 % 60:02d}"
            label, ahead = int(who.label[k]), (event.date - who.day[k].astype(object)).days
            row: Row = [
                f"{day}T{clock}:{second % 60:02d}+09:00" if style == 0 else f"{day.replace('-', '/')} {clock}",
                event.name,
                _ticket(event, ahead, second, english=style == 0),
                status[bool(who.is_confirmed[k])],
                words[label] if label in words else labels[label],
                yes_no[int(who.attended[k])],
            ]
            lists[int(np.searchsorted(ends, who.day[k]))].append([*row, event.code] if style == 2 else row)
        for period, rows in zip(periods, lists, strict=True):
            if not rows:
                continue
            name = f"registrations_{_stamp(*period)}.csv"
            spoilt = self._spoil(
                rows,
                REGISTRATION_FAULTS,
                rng,
                file=f"{folder}/{name}",
                first_row=2,
                key=lambda row: str(row[1]),
            )
            yield name, _csv([header, *spoilt], "utf-8-sig" if style else "utf-8")

    # --- the rest -------------------------------------------------------------------------------------------------
    def _spoil(
        self,
        rows: Sequence[Row],
        faults: Sequence[Spoiler],
        rng: np.random.Generator,
        *,
        file: str,
        first_row: int,
        key: Callable[[Row], str],
    ) -> list[Row]:
        return spoil(rows, faults, rng=rng, log=self.log, file=file, first_row=first_row, key=key, messy=self.messy)

    def _spoil_month(
        self, rows: Sequence[Row], faults: Sequence[Spoiler], month: _Month, *, first_row: int, name: int
    ) -> list[Row]:
        """Spoil an ad export; ``name`` is the column of the campaign's name."""
        return self._spoil(
            rows, faults, month.rng, file=month.place, first_row=first_row, key=lambda row: f"{row[name]} {row[0]}"
        )

    def _readme(self, organiser: int) -> str:
        config, name = self.world.config, self.world.organisers[organiser].name
        return (
            f"{name}\n\n"
            "このフォルダのファイルはすべて架空のデータ（シミュレーション）です。実在の組織・イベント・人物とは関係ありません。\n"
            "Every file in this folder is simulated. No organisation, event or person in it exists.\n\n"
            f"turnout simulate: seed {config.seed}, {config.events} events, {config.organisers} organisers, "
            f"{config.months} months until {config.until}\n"
        )


# --- cells ------------------------------------------------------------------------------------------------------------


def _code_in(note: str) -> str:
    """The event code in an events sheet's 備考."""
    return note.split(" ", 1)[1].split("（", maxsplit=1)[0]


def _ja(day: date) -> str:
    return f"{day.year}年{day.month}月{day.day}日"


def _us(day: date) -> str:
    return f"{day.month}/{day.day}/{day.year}"


def _periods(first: date, until: date, recent_months: int = 0) -> list[tuple[date, date]]:
    """What a team exports at a time: half-years of the past, then the ``recent_months`` one by one.

    Returns:
        First and last day of each, from ``first``'s month to ``until``, without gaps.
    """
    months = until.year * 12 + until.month - recent_months
    boundary = date(months // 12, months % 12 + 1, 1)
    periods = []
    start = first.replace(day=1)
    while start <= until:
        if start >= boundary:
            following = (start + timedelta(days=32)).replace(day=1)
        else:
            following = min(date(start.year, 7, 1) if start.month < 7 else date(start.year + 1, 1, 1), boundary)
        periods.append((start, min(following - timedelta(days=1), until)))
        start = following
    return periods


def _stamp(first: date, last: date) -> str:
    """The period of a file as its name says it."""
    begins, ends = f"{first:%Y-%m}", f"{last:%Y-%m}"
    return begins if begins == ends else f"{begins}_{ends}"


def _joined(vocabulary: taxonomy.Vocabulary, ids: Iterable[str]) -> str:
    return "、".join(vocabulary.label(i, "ja") for i in ids)


def _dressed_day(day: date, rng: np.random.Generator) -> str | date:
    """A day as people write it: mostly a real date, sometimes an era year, slashes or kanji."""
    if rng.random() >= _DRESSED:
        return day
    return (
        f"{day.year}/{day.month}/{day.day}",
        f"令和{day.year - 2018}年{day.month}月{day.day}日",
        f"{_ja(day)}({_WEEKDAYS[day.weekday()]})",
    )[int(rng.integers(3))]


def _dressed_money(yen: int, rng: np.random.Generator) -> str | int:
    """Yen as people write them; never another amount."""
    if rng.random() >= _DRESSED:
        return yen
    ways = [f"¥{yen:,}", f"{yen:,}".translate(_FULL_WIDTH), f"{yen:,}円"]
    if yen and yen % 10_000 == 0:
        ways.append(f"{yen // 10_000}万円")
    return ways[int(rng.integers(len(ways)))]


def _dressed_count(count: int, rng: np.random.Generator) -> str | int:
    if rng.random() >= _DRESSED:
        return count
    return (f"{count}名", str(count).translate(_FULL_WIDTH))[int(rng.integers(2))]


def _ticket(event: SimulatedEvent, ahead: int, second: int, *, english: bool) -> str:
    if event.format == "online" or (event.format == "hybrid" and second % 2):
        return "online" if english else "オンライン"
    if event.price and ahead > 30:
        return "early" if english else "早割"
    return "regular" if english else "一般"


def _google_row(day: str, campaign: str, *, clicks: int, seen: int, yen: int, claimed: float) -> Row:
    return [
        day,
        campaign,
        f"{clicks:,}",
        f"{seen:,}",
        f"{clicks / seen:.2%}" if seen else "0.00%",
        "JPY",
        str(round(yen / clicks)) if clicks else "0",
        str(yen),
        f"{claimed:,.2f}",
        f"{claimed / clicks:.2%}" if clicks else "0.00%",
        str(round(yen / claimed)) if claimed else "0",
        f"{claimed * 1000:,.2f}",
        (" --", "> 90 %", "43.75%")[seen % 3],
    ]


def _mail_metrics(requests: int, opens: int, clicks: int) -> dict[str, int]:
    """SendGrid's sixteen counters of a day. Repeated opens and clicks come on top of the unique ones."""
    bounces, blocks, invalid = round(requests * 0.012), round(requests * 0.004), round(requests * 0.001)
    drops = round(requests * 0.003)
    processed = requests - invalid - drops
    return {
        "requests": requests, "processed": processed, "delivered": max(processed - bounces - blocks, 0),
        "opens": round(opens * 1.6), "unique_opens": opens, "clicks": round(clicks * 1.4), "unique_clicks": clicks,
        "bounces": bounces, "bounce_drops": drops, "blocks": blocks, "deferred": round(requests * 0.04),
        "invalid_emails": invalid, "spam_reports": round(requests * 0.0002), "spam_report_drops": 0,
        "unsubscribes": round(requests * 0.001), "unsubscribe_drops": 0,
    }  # fmt: skip


def _category_json(rows: Iterable[Row]) -> bytes:
    """SendGrid's category statistics, one entry per day; rows keep their order."""
    days = [
        {
            "date": day,
            "stats": [
                {"type": "category", "name": row[1], "metrics": dict(zip(SENDGRID_METRICS, row[2:], strict=True))}
                for row in same_day
            ],
        }
        for day, same_day in groupby(rows, key=lambda row: row[0])
    ]
    return json.dumps(days, ensure_ascii=False, indent=1).encode("utf-8")


def _csv(rows: Iterable[Sequence[Any]], encoding: str, *, delimiter: str = ",", line_end: str = "\n") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=line_end).writerows(
        ["" if cell is None else cell for cell in row] for row in rows
    )
    body = text.getvalue()
    if encoding == "cp932":  # Windows has a full-width tilde for the wave dash, and the backslash's byte for the yen
        body = body.replace("\u301c", "\uff5e").replace("\u00a5", "\\")
    if encoding == "utf-16":  # little-endian with a mark on every machine
        return b"\xff\xfe" + body.encode("utf-16-le")
    return body.encode(encoding)
