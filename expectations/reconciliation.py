"""A page of Data Docs: platforms' claims beside registrations, event by event, in Japanese and English."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine

from expectations import docs
from turnout.settings import Settings
from turnout.warehouse.reconciliation import (
    Claim,
    EventReconciliation,
    Language,
    Overlap,
    Reconciliation,
    TacticLine,
    basis_words,
    figure,
    reconcile,
    standing_words,
    words,
)

log = structlog.get_logger(__name__)

#: Events shown: those of so many days back, and those to come; of these the latest.
SHOWN_DAYS = 400
SHOWN_EVENTS = 300
#: The page in the installation's language; the other language's stands beside it.
PAGE = "reconciliation.html"
_LINK = "turnout-reconciliation"

_TEXTS: dict[Language, dict[str, str]] = {
    "en": {
        "title": "Claims and registrations",
        "lead": "What advertising platforms claim, beside who registered. Counted figures never add up past the "
        "registrations there are: where the registration system knows where people came from, it decides; claims only "
        "fill what nobody else speaks of, scaled down to what is left.",
        "made": "Made", "other": "日本語", "back": "Checks", "event": "Event", "date": "Date",
        "registered": "Registered", "claimed": "Claimed", "ratio": "Claims / registrations", "counted": "Counted",
        "spend": "Spend, platforms",
        "sheet": "Spend, sheet", "against": "Checked against", "tactic": "Tactic", "words": "Platform's words",
        "system": "Registration system", "basis": "Basis", "difference": "Difference", "total": "Total",
        "no_tactic": "no tactic", "simulated": "simulated",
        "nothing": "No events with claims or results in these days.",
        "unmapped": "Campaigns of no event", "source": "Source", "campaigns": "Campaigns",
        "overlaps": "Campaigns that two accounts report", "accounts": "Accounts", "days": "Days",
        "same": "of these with the same figures", "twice": "Counted double", "campaign": "Campaign",
        "registrations": "registrations", "leads": "leads", "conversions": "conversions", "none": "nothing claimed",
        "amounts": "Amounts in",
    },
    "ja": {
        "title": "媒体の主張と実際の申込",
        "lead": "広告媒体が主張する申込数と、実際の申込を並べます。数えた値の合計が実際の申込を超えることはありません。"
        "申込システムが流入元を知っていればそれに従い、媒体の主張は、ほかに情報のない分だけを、残りに収まるよう縮小して使います。",
        "made": "作成", "other": "English", "back": "検査結果", "event": "イベント", "date": "開催日",
        "registered": "申込", "claimed": "媒体の主張", "ratio": "主張÷申込", "counted": "数えた値",
        "spend": "費用（媒体）",
        "sheet": "費用（主催者の表）", "against": "照合先", "tactic": "施策", "words": "媒体の用語",
        "system": "申込システム", "basis": "根拠", "difference": "差", "total": "合計",
        "no_tactic": "施策なし", "simulated": "シミュレーション",
        "nothing": "この期間に、主張や結果のあるイベントはありません。",
        "unmapped": "どのイベントにも属さないキャンペーン", "source": "媒体", "campaigns": "キャンペーン数",
        "overlaps": "2 つのアカウントが報告するキャンペーン", "accounts": "アカウント", "days": "日数",
        "same": "うち同じ数値の日", "twice": "二重に数えた費用", "campaign": "キャンペーン",
        "registrations": "申込", "leads": "リード", "conversions": "コンバージョン", "none": "主張なし",
        "amounts": "金額の単位:",
    },
}  # fmt: skip
_STYLE = """
body{font:15px/1.55 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%;margin:.6rem 0 1.4rem}th,td{padding:.3rem .6rem;border-bottom:1px solid #ddd;
text-align:left;vertical-align:top}th{background:#f4f4f2}.n{text-align:right;font-variant-numeric:tabular-nums}
.warning{color:#9a4d00}.info{color:#555}.over{color:#b00020;font-weight:600}tr.total td{font-weight:600}
summary{cursor:pointer;font-weight:600;margin:.4rem 0}nav{float:right}
"""


def write_page(settings: Settings, engine: Engine) -> Path:
    """Write the page into ``home/data_docs``, in both languages; returns the one in the installation's language.

    Raises:
        OSError: it cannot be written.
        sqlalchemy.exc.SQLAlchemyError: the warehouse cannot be read.
    """
    now = datetime.now(UTC)
    since = now.astimezone(settings.zone).date() - timedelta(days=SHOWN_DAYS)
    found = reconcile(engine, settings.organisation, currency=settings.currency, first=since)
    folder = settings.home_path / "data_docs"
    folder.mkdir(parents=True, exist_ok=True)
    languages: tuple[Language, Language] = ("ja", "en") if settings.language == "ja" else ("en", "ja")
    for language, name, other in (
        (languages[0], PAGE, _other(languages[1])), (languages[1], _other(languages[1]), PAGE),
    ):  # fmt: skip
        text = _page(found, language, other, now.astimezone(settings.zone))
        draft = folder / f".{name}.draft"
        draft.write_text(text, encoding="utf-8")
        draft.replace(folder / name)
    _link_from_checks(folder, _TEXTS[settings.language]["title"])
    log.info("reconciliation page written", events=len(found.events))
    return folder / PAGE


def _link_from_checks(folder: Path, title: str) -> None:
    """Lead from the index of the checks, which Great Expectations writes, to this page."""
    index = docs.index_of(folder)
    if not index.exists():
        return
    text = index.read_text(encoding="utf-8")
    if (mark := f'<p id="{_LINK}"') in text:
        return
    target = Path(os.path.relpath(folder / PAGE, index.parent)).as_posix()
    link = f'{mark} style="padding:.6rem 1rem;margin:0"><a href="{target}">{escape(title)}</a></p>'
    # behind the tag that opens the body, whatever its attributes are
    linked = re.sub(r"<body[^>]*>", lambda tag: tag.group() + link, text, count=1)
    draft = index.with_name(f".{index.name}.draft")
    draft.write_text(linked, encoding="utf-8")
    draft.replace(index)


def _other(language: Language) -> str:
    return PAGE.replace(".html", f".{language}.html")


def _page(found: Reconciliation, language: Language, other: str, made: datetime) -> str:
    t = _TEXTS[language]
    events = found.events[:SHOWN_EVENTS]
    body = [
        f'<nav><a href="index.html">{t["back"]}</a> · <a href="{other}">{t["other"]}</a></nav>',
        f"<h1>{t['title']}</h1><p>{t['lead']}</p>",
        f"<p class=info>{t['made']} {made:%Y-%m-%d %H:%M %Z}. {t['amounts']} {escape(found.currency)}</p>",
        _summary(events, t, language) if events else f"<p>{t['nothing']}</p>",
        *(_event(event, t, language) for event in events),
        _unmapped(found, t),
        _overlaps([o for o in found.overlaps if o.is_suspect], t),
    ]
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8"><title>{t["title"]}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[int], *, last: str = "") -> str:
    """A table; cells are HTML already, those of the columns ``numbers`` stand to the right."""

    def cells(row: Sequence[Any], tag: str) -> str:
        return "".join(f"<{tag}{' class=n' if i in numbers else ''}>{c}</{tag}>" for i, c in enumerate(row))

    lines = [f"<tr>{cells(row, 'td')}</tr>" for row in rows]
    return f"<table><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{''.join(lines)}{last}</tbody></table>"


def _summary(events: Sequence[EventReconciliation], t: dict[str, str], language: Language) -> str:
    head = [
        t[n] for n in ("event", "date", "registered", "claimed", "ratio", "counted", "spend", "sheet", "against")
    ]  # fmt: skip
    rows = [
        (
            f'<a href="#{escape(e.event_id)}">{escape(e.name)}</a>', e.event_date, figure(e.registrations),
            figure(e.claimed), _ratio(e), figure(e.counted), figure(e.spend_platform), figure(e.spend_sheet),
            f"<span class={'warning' if e.standing == 'unverified' else 'info'}>"
            f"{standing_words(e.standing, language)}</span>",
        )
        for e in events
    ]  # fmt: skip
    return _table(head, rows, range(2, 8))


def _ratio(event: EventReconciliation) -> str:
    if event.ratio is None:
        return "–"
    return f"<span class={'over' if event.ratio > 1 else 'info'}>{event.ratio:.2f}</span>"


def _event(event: EventReconciliation, t: dict[str, str], language: Language) -> str:
    head = [
        t[n] for n in ("tactic", "words", "claimed", "system", "counted", "basis", "difference", "spend", "sheet")
    ]  # fmt: skip
    difference = None if event.claimed is None or event.counted is None else event.claimed - event.counted
    total = (
        t["total"], "", figure(event.claimed), figure(event.registrations), figure(event.counted), "",
        figure(difference), figure(event.spend_platform), figure(event.spend_sheet),
    )  # fmt: skip
    numbers = (2, 3, 4, 6, 7, 8)
    last = "".join(f"<td{' class=n' if i in numbers else ''}>{c}</td>" for i, c in enumerate(total))
    table = _table(
        head, (_tactic(line, t, language) for line in event.tactics), numbers, last=f"<tr class=total>{last}</tr>"
    )
    remarks = "".join(f"<li class={r.severity}>{escape(words(r, language))}</li>" for r in event.remarks)
    simulated = f" ({t['simulated']})" if event.is_simulated else ""
    return (
        f'<details id="{escape(event.event_id)}"{" open" if event.remarks else ""}><summary>{escape(event.name)}, '
        f"{event.event_date}{simulated}</summary><p>{t['registered']}: {figure(event.registrations)} "
        f"({escape(basis_words(event.basis, language))})</p>{table}<ul>{remarks}</ul></details>"
    )


def _tactic(line: TacticLine, t: dict[str, str], language: Language) -> Sequence[str]:
    return (
        escape(line.tactic_id) if line.tactic_id else f"<span class=warning>{t['no_tactic']}</span>",
        "<br>".join(_claim(c, t) for c in line.claims) or "–", figure(line.claimed), figure(line.listed),
        figure(line.counted), escape(basis_words(line.basis, language)), figure(line.difference),
        figure(line.spend_platform), figure(line.spend_sheet),
    )  # fmt: skip


def _claim(claim: Claim, t: dict[str, str]) -> str:
    said = [
        f"{figure(value)} {t[name]}"
        for name, value in (
            ("registrations", claim.registrations), ("leads", claim.leads), ("conversions", claim.conversions)
        )
        if value is not None
    ]  # fmt: skip
    return f"{escape(claim.source)}: {', '.join(said) or t['none']}"


def _unmapped(found: Reconciliation, t: dict[str, str]) -> str:
    if not found.unmapped:
        return ""
    rows = [(escape(u.source), u.campaigns, figure(u.claimed), figure(u.spend)) for u in found.unmapped]
    return f"<h2>{t['unmapped']}</h2>" + _table(
        [t["source"], t["campaigns"], t["claimed"], t["spend"]], rows, (1, 2, 3)
    )


def _overlaps(overlaps: Sequence[Overlap], t: dict[str, str]) -> str:
    if not overlaps:
        return ""
    rows = [
        (
            escape(o.source), escape(o.name), escape(f"{o.account_a or '–'}, {o.account_b or '–'}"), o.days,
            f"<span class={'over' if o.is_double else 'info'}>{o.same_days}</span>", figure(o.spend_twice),
        )
        for o in overlaps[:SHOWN_EVENTS]
    ]  # fmt: skip
    head = [t[n] for n in ("source", "campaign", "accounts", "days", "same", "twice")]
    return f"<h2>{t['overlaps']}</h2>" + _table(head, rows, (3, 4, 5))
