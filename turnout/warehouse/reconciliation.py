"""What platforms claim beside who registered, event by event; and what is counted of it.

Platforms claim registrations by their own attribution: two of them may claim one person, and none of them knows who
cancelled. The registration system knows who registered and, where it asks or follows links, where from. The figures
come from view ``claim_reconciliation``, so they are those that planning and training use; here they are gathered by
event, with what follows from them in words (:class:`Remark`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

Standing = Literal["verified", "counted", "unverified", "no_claims"]
Language = Literal["ja", "en"]

#: Claims this far above the truth, or spend this far from the sheet, are remarked on.
REMARKABLE = 0.05


@dataclass(frozen=True)
class Claim:
    """One platform's word on one tactic of an event.

    Attributes:
        claimed: registrations as counted as a claim: what the platform calls registrations, else leads, else
            conversions. ``None`` where it says nothing.
        registrations, leads, conversions: the platform's own words.
        counted: this source's share of the tactic's counted registrations.
        spend: as the platform reports it, in the base currency.
    """

    source: str
    campaigns: int
    claimed: float | None
    registrations: float | None
    leads: float | None
    conversions: float | None
    counted: float | None
    spend: float | None


@dataclass(frozen=True)
class TacticLine:
    """One tactic of an event: the table's row.

    Attributes:
        tactic_id: ``None`` for campaigns of the event whose tactic is unknown; they are counted nowhere.
        claimed: sum of the claims; ``None`` where no platform claims anything.
        listed: the registration system's confirmed registrations with this origin; ``None`` where it cannot tell.
        stated: the organiser's sheet.
        counted: what planning and training use, and ``basis`` where it comes from: ``registration_system``,
            ``tactic_result``, ``outcome`` or ``claimed``.
        difference: claimed - counted.
        spend_platform, spend_sheet: cost by both, in the base currency; the platform's is counted where there is one.
    """

    tactic_id: str | None
    claims: tuple[Claim, ...]
    claimed: float | None
    listed: float | None
    stated: float | None
    counted: float | None
    basis: str | None
    difference: float | None
    spend_platform: float | None
    spend_sheet: float | None


@dataclass(frozen=True)
class Remark:
    """Something to know of an event: a stable code and its figures. :func:`words` says it."""

    code: str
    severity: Literal["info", "warning"]
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EventReconciliation:
    """One event.

    Attributes:
        standing: ``verified`` by a registration list; ``counted``: only a total is known, from the organiser, an
            attendance list or the API; ``unverified``: claims and nothing to compare them with; ``no_claims``.
        registrations: confirmed; ``None`` where unknown. ``basis`` is where the number comes from.
        without_origin: registrations of the list whose origin is not known.
        claimed, counted: over all tactics; ``None`` where nothing is claimed or counted.
        ratio: claimed / registrations.
    """

    event_id: str
    name: str
    event_date: date
    standing: Standing
    registrations: float | None
    basis: str | None
    without_origin: float | None
    claimed: float | None
    counted: float | None
    ratio: float | None
    spend_platform: float | None
    spend_sheet: float | None
    is_simulated: bool
    tactics: tuple[TacticLine, ...]
    remarks: tuple[Remark, ...]


@dataclass(frozen=True)
class Overlap:
    """A campaign that two accounts of one source report on the same days; amounts in the base currency."""

    source: str
    name: str
    account_a: str
    account_b: str
    campaign_a: str
    campaign_b: str
    days: int
    same_days: int
    first_day: date
    last_day: date
    spend: float | None
    spend_twice: float | None

    @property
    def is_double(self) -> bool:
        """Whether the figures agree on so many days that it must be one campaign, read twice."""
        return (self.same_days >= 2 and self.same_days * 2 >= self.days) or 0 < self.same_days == self.days

    @property
    def is_suspect(self) -> bool:
        """Whether it may be one campaign: the platform gives it one id, or a third of the days agree.

        Small figures agree by chance now and then. Keys made of a name (``cmp_…``) are no id: two accounts may each
        have a campaign of one name.
        """
        one_id = self.campaign_a == self.campaign_b and not self.campaign_a.startswith("cmp_")
        return one_id or 0 < self.days <= self.same_days * 3


@dataclass(frozen=True)
class Unmapped:
    """What campaigns without an event claim and cost, per source; it is in no event's figures."""

    source: str
    campaigns: int
    claimed: float | None
    spend: float | None


@dataclass(frozen=True)
class Reconciliation:
    """Events by date, and what belongs to none."""

    currency: str
    events: tuple[EventReconciliation, ...]
    unmapped: tuple[Unmapped, ...]
    overlaps: tuple[Overlap, ...]


def reconcile(
    engine: Engine,
    organisation: str,
    *,
    currency: str,
    events: Sequence[str] | None = None,
    first: date | None = None,
    last: date | None = None,
) -> Reconciliation:
    """Compare claims with registrations.

    Args:
        currency: the base currency of the amounts.
        events: keys of the events wanted; all by default.
        first, last: days of the events.

    Returns:
        Events that a platform reports on, or that any tactic's figures are known of, the latest first. What belongs to
        no event, and accounts that overlap, only where all events are asked for.
    """
    condition = "WHERE v.organisation = :organisation"
    if events is not None:
        condition += " AND v.event_id = ANY(:events)"
    if first is not None:
        condition += " AND v.event_date >= :first"
    if last is not None:
        condition += " AND v.event_date <= :last"
    given = {"organisation": organisation, "events": list(events or ()), "first": first, "last": last}
    with engine.connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ")
        rows = connection.execute(sa.text(_ROWS + condition + _ORDER), given).all()
        known = {
            row.event_id: row
            for row in connection.execute(sa.text(_EVENTS + condition.replace("v.", "e.")), given)
        }  # fmt: skip
        unmapped = _unmapped(connection, organisation) if events is None else ()
        overlaps = account_overlaps(connection, organisation) if events is None else ()
    grouped: dict[str, list[Any]] = {}
    for row in rows:
        grouped.setdefault(row.event_id, []).append(row)
    wanted = dict.fromkeys((*grouped, *(known if events is not None else ())))
    found = [_event(known[event_id], grouped.get(event_id, [])) for event_id in wanted if event_id in known]
    found.sort(key=lambda e: (e.event_date, e.event_id), reverse=True)
    return Reconciliation(currency, tuple(found), unmapped, overlaps)


_ROWS = """
SELECT v.* FROM turnout.claim_reconciliation v
"""
_ORDER = """
ORDER BY v.event_id, v.tactic_id, v.source
"""
_EVENTS = """
SELECT e.event_id, e.event_date, n.name, e.registrations, e.registrations_basis, e.origin_known, e.is_simulated
FROM turnout.event_summary e
JOIN turnout.event n ON n.organisation = e.organisation AND n.event_id = e.event_id
"""


def account_overlaps(connection: Connection, organisation: str) -> tuple[Overlap, ...]:
    """Campaigns reported by two accounts of one source on the same days, the costliest doubt first."""
    query = sa.text(
        "SELECT * FROM turnout.account_overlap WHERE organisation = :organisation"
        " ORDER BY spend_twice DESC NULLS LAST, same_days DESC, days DESC, source, name, account_a, account_b"
    )
    return tuple(
        Overlap(
            r.source, r.name, r.account_a, r.account_b, r.campaign_a, r.campaign_b, int(r.days), int(r.same_days),
            r.first_day, r.last_day, _number(r.spend_base), _number(r.spend_twice),
        )
        for r in connection.execute(query, {"organisation": organisation})
    )  # fmt: skip


def _unmapped(connection: Connection, organisation: str) -> tuple[Unmapped, ...]:
    query = sa.text(
        "SELECT source, count(DISTINCT (account, campaign_id)) AS campaigns, sum(registrations_claimed) AS claimed,"
        " sum(spend_base) AS spend FROM turnout.ad_counted"
        " WHERE organisation = :organisation AND event_id IS NULL GROUP BY source ORDER BY source"
    )
    return tuple(
        Unmapped(r.source, r.campaigns, _number(r.claimed), _number(r.spend))
        for r in connection.execute(query, {"organisation": organisation})
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum of what is known; ``None`` where nothing is."""
    known = [v for v in values if v is not None]
    return sum(known) if known else None


def _event(event: Any, rows: Sequence[Any]) -> EventReconciliation:
    by_tactic: dict[str | None, list[Any]] = {}
    for row in rows:
        by_tactic.setdefault(row.tactic_id, []).append(row)
    tactics = [_tactic(tactic_id, group) for tactic_id, group in by_tactic.items()]
    tactics.sort(key=lambda t: (-(t.claimed or 0), -(t.counted or 0), t.tactic_id or ""))
    claimed = _sum(t.claimed for t in tactics)
    registrations = _number(event.registrations)
    standing: Standing = "no_claims"
    if claimed is not None:
        basis = event.registrations_basis
        standing = "verified" if basis == "registration_system" else "counted" if basis else "unverified"
    known = _number(event.origin_known)
    listed = event.registrations_basis == "registration_system" and registrations is not None
    found = EventReconciliation(
        event.event_id, event.name, event.event_date, standing, registrations, event.registrations_basis,
        None if not listed or registrations is None else registrations - (known or 0), claimed,
        _sum(t.counted for t in tactics),
        claimed / registrations if claimed is not None and registrations else None,
        _sum(t.spend_platform for t in tactics), _sum(t.spend_sheet for t in tactics), event.is_simulated,
        tuple(tactics), (),
    )  # fmt: skip
    return replace(found, remarks=tuple(_remarks(found)))


def _tactic(tactic_id: str | None, rows: Sequence[Any]) -> TacticLine:
    claims = tuple(
        Claim(
            r.source, r.campaigns, _number(r.claimed), _number(r.claimed_registrations), _number(r.claimed_leads),
            _number(r.claimed_conversions), _number(r.counted), _number(r.spend_platform),
        )
        for r in rows
        if r.source
    )  # fmt: skip
    whole = rows[0]
    claimed, counted = _sum(c.claimed for c in claims), _number(whole.tactic_registrations)
    return TacticLine(
        tactic_id, claims, claimed, _number(whole.tactic_listed), _number(whole.tactic_stated), counted,
        whole.counted_basis, claimed - counted if claimed is not None and counted is not None else None,
        _sum(c.spend for c in claims), _number(whole.tactic_spend_sheet),
    )  # fmt: skip


# --- remarks ----------------------------------------------------------------------------------------------------------


def _remarks(event: EventReconciliation) -> Iterable[Remark]:
    claimed, truth = event.claimed, event.registrations
    sources = sorted({c.source for t in event.tactics for c in t.claims if c.claimed})
    if event.standing == "unverified" and claimed:
        yield Remark("unverified", "warning", {"claimed": claimed})
    elif event.standing == "counted":
        yield Remark("only_a_total", "info", {"basis": event.basis})
    if claimed is not None and truth is not None and claimed > truth:
        code = "claimed_twice" if len(sources) > 1 else "claimed_too_much"
        serious = claimed > truth * (1 + REMARKABLE)
        yield Remark(
            code, "warning" if serious else "info",
            {"sources": sources, "claimed": claimed, "registrations": truth, "excess": claimed - truth},
        )  # fmt: skip
    for tactic in event.tactics:
        if tactic.claimed and tactic.listed is not None and tactic.basis == "registration_system":
            gap = tactic.claimed - tactic.listed
            if abs(gap) > max(1.0, REMARKABLE * max(tactic.claimed, tactic.listed)):
                yield Remark(
                    "claim_differs", "info",
                    {"tactic": tactic.tactic_id, "claimed": tactic.claimed, "listed": tactic.listed, "difference": gap},
                )  # fmt: skip
        if tactic.tactic_id is None:
            yield Remark("without_tactic", "warning", {"claimed": tactic.claimed, "spend": tactic.spend_platform})
        if tactic.spend_platform is not None and tactic.spend_sheet is not None:
            gap = tactic.spend_platform - tactic.spend_sheet
            if abs(gap) > REMARKABLE * max(tactic.spend_platform, tactic.spend_sheet):
                yield Remark(
                    "spend_differs", "warning",
                    {"tactic": tactic.tactic_id, "platform": tactic.spend_platform, "sheet": tactic.spend_sheet,
                     "difference": gap},
                )  # fmt: skip
    if event.without_origin and truth:
        yield Remark(
            "origin_unknown", "info" if event.without_origin * 2 <= truth else "warning",
            {"without_origin": event.without_origin, "registrations": truth, "share": event.without_origin / truth},
        )  # fmt: skip


_WORDS: dict[str, dict[Language, str]] = {
    "unverified": {
        "en": "there is no registration list and no total: the {claimed} registrations that platforms claim cannot be "
        "checked, and are counted as they are",
        "ja": "申込リストも総数もないため、媒体が主張する {claimed} 件は確かめられず、そのまま数えています",
    },
    "only_a_total": {
        "en": "there is no registration list, only a total ({basis}): claims are scaled to it, not checked one by one",
        "ja": "申込リストがなく総数（{basis}）だけのため、媒体の主張は総数に収まるよう縮小しただけで、"
        "個別には確かめていません",
    },
    "claimed_twice": {
        "en": "{sources} together claim {claimed} of {registrations} registrations: at least {excess} are claimed by "
        "more than one platform, were cancelled, or are no registrations",
        "ja": "{sources} の主張は合わせて {claimed} 件で、実際の申込 {registrations} 件を超えます。"
        "少なくとも {excess} 件は複数の媒体が同じ申込者を主張したか、取り消されたか、申込ではありません",
    },
    "claimed_too_much": {
        "en": "{sources} claims {claimed} of {registrations} registrations: at least {excess} were cancelled, are for "
        "something else, or are no registrations",
        "ja": "{sources} の主張 {claimed} 件は実際の申込 {registrations} 件を超えます。"
        "少なくとも {excess} 件は取り消されたか、別のもの、または申込ではありません",
    },
    "claim_differs": {
        "en": "{tactic}: platforms claim {claimed}, the registration system says {listed}; the latter is counted",
        "ja": "{tactic}: 媒体の主張は {claimed} 件、申込システムでは {listed} 件。後者を数えています",
    },
    "without_tactic": {
        "en": "campaigns of this event have no tactic ({claimed} claimed, {spend} spent): they are counted nowhere; "
        "`turnout map list --unmapped` shows them",
        "ja": "施策の決まっていないキャンペーンがあります（主張 {claimed} 件、費用 {spend}）。どこにも数えていません。"
        "`turnout map list --unmapped` で確認できます",
    },
    "spend_differs": {
        "en": "{tactic}: the platform reports {platform} spent, the organiser's sheet says {sheet}; the platform's "
        "figure counts",
        "ja": "{tactic}: 費用は媒体の報告で {platform}、主催者の表で {sheet}。媒体の値を使います",
    },
    "origin_unknown": {
        "en": "{without_origin} of {registrations} registrations have no origin ({share:.0%})",
        "ja": "申込 {registrations} 件のうち {without_origin} 件は流入元が不明です（{share:.0%}）",
    },
}

_BASES: dict[str, dict[Language, str]] = {
    "registration_system": {"en": "registration system", "ja": "申込システム"},
    "tactic_result": {"en": "organiser's sheet", "ja": "主催者の表"},
    "outcome": {"en": "reported result", "ja": "報告された結果"},
    "claimed": {"en": "platform's claim", "ja": "媒体の主張"},
    "attendance": {"en": "attendance list", "ja": "参加者リスト"},
    "organiser": {"en": "organiser's total", "ja": "主催者の総数"},
}
_STANDINGS: dict[Standing, dict[Language, str]] = {
    "verified": {"en": "registration list", "ja": "申込リストあり"},
    "counted": {"en": "total only", "ja": "総数のみ"},
    "unverified": {"en": "unverified", "ja": "未確認"},
    "no_claims": {"en": "no claims", "ja": "主張なし"},
}


def basis_words(basis: str | None, language: Language = "en") -> str:
    """Where a figure comes from, in words; a dash for none."""
    return "–" if basis is None else _BASES[basis][language] if basis in _BASES else basis


def standing_words(standing: Standing, language: Language = "en") -> str:
    """How well an event's claims can be checked, in words."""
    return _STANDINGS[standing][language]


def figure(value: float | None) -> str:
    """A count or amount with thousands separated, whole where it is whole; a dash for unknown."""
    if value is None:
        return "–"
    rounded = round(value, 2)
    return f"{rounded:,.0f}" if rounded == int(rounded) else f"{rounded:,.2f}".rstrip("0")


def words(remark: Remark, language: Language = "en") -> str:
    """A remark as a sentence."""
    shown: dict[str, Any] = {}
    for name, value in remark.values.items():
        if name == "share":
            shown[name] = value
        elif name == "basis":
            shown[name] = basis_words(value, language)
        elif isinstance(value, list):
            shown[name] = {"en": " and ", "ja": "と"}[language].join(value)
        elif isinstance(value, int | float) or value is None:
            shown[name] = figure(value) if name != "tactic" else "–"
        else:
            shown[name] = value
    return _WORDS[remark.code][language].format(**shown)
