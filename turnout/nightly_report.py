"""One message a morning about the night: what failed, what was stopped, what is odd, ranked by what depends on it.

It looks at everything between noon and noon: failed runs and refused files, partitions the gate stopped, rows that went
to quarantine, what it warned of, accounts that have gone quiet, campaigns that belong to no event, the models. What an
earlier message has told is not told again, unless it stops data. A night is reported once per channel; reading again
sends another message only if there is something new in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any, Final, Literal

import sqlalchemy as sa
import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from turnout import alerts, model_news
from turnout.freshness import stale_accounts
from turnout.identity import key_of
from turnout.nightly_words import WORDS, Language, what
from turnout.settings import Settings
from turnout.warehouse import tables as wh
from turnout.warehouse.engine import create_engine
from turnout.warehouse.load import upsert

log = structlog.get_logger(__name__)

Kind = Literal["failed", "stopped", "refused", "model", "quarantine", "stale", "unmapped", "warning"]
#: The order of a message: what keeps data out comes first.
_ORDER: Final[tuple[Kind, ...]] = (
    "failed",
    "stopped",
    "refused",
    "model",
    "quarantine",
    "stale",
    "unmapped",
    "warning",
)
#: What is told as long as it lasts; everything else once.
_LASTING: Final = frozenset(("failed", "stopped", "refused"))
#: Findings a message lists; more are counted.
_LISTED: Final = 8
#: Of what the monitoring of models found, the things that are told one by one.
_MODEL_NEWS: Final = 4
#: Nights that count as told before.
_REMEMBERED_DAYS: Final = 60
#: Days of spend that say how much an unmapped campaign matters.
_RECENT_DAYS: Final = 28
_FAULT_CODES: Final = frozenset(("access_denied", "source_fault", "source_unavailable"))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that matters.

    Attributes:
        key: the same thing has the same key tomorrow.
        code: the check, or the kind of failure.
        places: how many days, rows, files or campaigns it is about.
        spend: base currency at stake; ``registrations`` likewise.
        parts: keys of the days or campaigns it is made of, by which tomorrow knows what was told.
    """

    kind: Kind
    key: str
    code: str
    source: str
    account: str
    detail: str
    places: int = 1
    spend: float = 0.0
    registrations: float = 0.0
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class NightReport:
    """One night.

    Attributes:
        night: the day whose morning it is of.
        findings: what matters, most important first; told ones are left out.
        told_before: findings of lesser kinds that an earlier message told and that last.
        models: one line on the models: how predictions did and what was trained; None where there is nothing to say.
    """

    organisation: str
    night: date
    runs: int
    failed_runs: int
    files: int
    rows_loaded: int
    rows_quarantined: int
    findings: list[Finding] = field(default_factory=list)
    told_before: int = 0
    models: str | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether nothing needs anybody."""
        return not self.findings

    @property
    def content_key(self) -> str:
        """Changes when there is something else to tell."""
        return key_of(self.night, *sorted(finding.key for finding in self.findings), prefix="night_")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "night": self.night.isoformat(), "is_quiet": self.is_quiet}


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a night's message: ``channels`` that took it now, or why there was nothing to send."""

    channels: list[str]
    reason: str


# --- gathering --------------------------------------------------------------------------------------------------------


def gather(settings: Settings, engine: Engine, night: date) -> NightReport:
    """Everything about the night whose morning is ``night``."""
    organisation, zone = settings.organisation, settings.zone
    until = datetime.combine(night, time(12), zone)
    since = until - timedelta(days=1)
    decided = model_news.decisions(settings, since, until)
    with engine.connect() as connection:
        told = _told(connection, organisation, night)
        measured = model_news.measured(connection, organisation, night)
        found = [
            *_model_findings(measured, decided, night, settings.language),
            *_failures(connection, organisation, since, until), *_checks(connection, organisation, since, until, told),
            *_quarantine(connection, organisation, since, until), *_stale(connection, organisation, night),
            *_unmapped(connection, organisation, night, told),
        ]  # fmt: skip
        new = [finding for finding in found if finding.kind in _LASTING or finding.key not in told]
        counts = _counts(connection, organisation, since, until)
    # those of the models come worst first
    new.sort(
        key=lambda f: (
            _ORDER.index(f.kind), -f.spend, -f.registrations, -f.places if f.kind != "model" else 0, f.source,
            f.account, f.code if f.kind != "model" else "",
        )
    )  # fmt: skip
    return NightReport(
        organisation, night, **counts, findings=new, told_before=len(found) - len(new),
        models=model_news.line(measured, decided, settings.language),
    )  # fmt: skip


def _told(connection: Connection, organisation: str, night: date) -> set[str]:
    t = wh.night_report
    rows = connection.execute(
        sa.select(t.c.findings).where(
            t.c.organisation == organisation, t.c.night < night, t.c.night >= night - timedelta(days=_REMEMBERED_DAYS)
        )
    ).scalars()
    return {key for keys in rows for key in keys}


def _counts(connection: Connection, organisation: str, since: datetime, until: datetime) -> dict[str, int]:
    run, file = wh.ingest_run, wh.ingest_file
    of_run = sa.and_(run.c.organisation == organisation, run.c.started_at >= since, run.c.started_at < until)
    runs, failed = connection.execute(
        sa.select(sa.func.count(), sa.func.count().filter(run.c.status == "failed")).where(of_run)
    ).one()
    files, loaded, quarantined = connection.execute(
        sa.select(
            sa.func.count(), sa.func.coalesce(sa.func.sum(file.c.rows_loaded), 0),
            sa.func.coalesce(sa.func.sum(file.c.rows_quarantined), 0),
        ).where(file.c.organisation == organisation, file.c.loaded_at >= since, file.c.loaded_at < until)
    ).one()  # fmt: skip
    return {
        "runs": runs, "failed_runs": failed, "files": files, "rows_loaded": int(loaded),
        "rows_quarantined": int(quarantined),
    }  # fmt: skip


def _failures(connection: Connection, organisation: str, since: datetime, until: datetime) -> Iterator[Finding]:
    """Runs that failed, sources that said no, files nobody could read, and what the pipeline reported."""
    run, incident, q = wh.ingest_run, wh.incident, wh.quarantine
    for error, count in connection.execute(
        sa.select(run.c.error, sa.func.count()).where(
            run.c.organisation == organisation, run.c.started_at >= since, run.c.started_at < until,
            run.c.status == "failed",
        ).group_by(run.c.error)
    ):  # fmt: skip
        text = str(error or "")[:300]
        if not any(
            word in text for word in ("TransientError", "AccessDenied", "SourceFault")
        ):  # told below, by account
            yield Finding("failed", key_of("run", text), "run_failed", "", "", text, count)
    for title, text in connection.execute(
        sa.select(incident.c.title, incident.c.text).where(
            incident.c.organisation == organisation, incident.c.occurred_at >= since, incident.c.occurred_at < until
        ).order_by(incident.c.title)
    ):  # fmt: skip
        yield Finding("failed", key_of("incident", title, text), "pipeline_failed", "", "", f"{title}: {text}"[:300])
    tonight = sa.select(run.c.run_id).where(
        run.c.organisation == organisation, run.c.started_at >= since, run.c.started_at < until
    )
    refused = connection.execute(
        sa.select(q.c.source, q.c.file, q.c.reason_code, sa.func.min(q.c.reason)).where(
            q.c.organisation == organisation, q.c.table_name.is_(None), q.c.run_id.in_(tonight)
        ).group_by(q.c.source, q.c.file, q.c.reason_code).order_by(q.c.source, q.c.file)
    )  # fmt: skip
    for source, file, code, reason in refused:
        name = str(file or "").rsplit("/", 1)[-1]
        kind: Kind = "failed" if code in _FAULT_CODES else "refused"
        detail = reason[:300] if kind == "failed" else f"{name}: {reason}"[:300]
        account = name if kind == "failed" else ""
        yield Finding(kind, key_of(kind, source, file, code), code, source, account, detail)


def _checks(
    connection: Connection, organisation: str, since: datetime, until: datetime, told: set[str]
) -> Iterator[Finding]:
    """What the gate stopped, and what it warned of where no earlier message did."""
    t = wh.validation
    rows = connection.execute(
        sa.select(t.c.table_name, t.c.source, t.c.account, t.c.failures).where(
            t.c.organisation == organisation, t.c.checked_at >= since, t.c.checked_at < until,
            t.c.status != "passed",
        ).order_by(t.c.source, t.c.account, t.c.validation_id)
    )  # fmt: skip
    stopped: dict[tuple[str, str, str], dict[str, Any]] = {}
    for table, source, account, failures in rows:
        at_stake = {f["code"]: f for f in failures if "stopped" not in f}
        for failure in failures:
            if "stopped" in failure:
                place = (source, failure.get("account", account), failure["code"])
                one = stopped.setdefault(place, {"days": set(), "detail": failure["reason"], "at_stake": {}})
                one["days"].add(failure["stopped"])
                one["at_stake"][table] = at_stake.get(failure["code"], {})
            elif failure["severity"] == "warning":
                yield from _warning(source, account, failure, told)
    for (source, account, code), one in sorted(stopped.items()):
        days = sorted(day for day in one["days"] if day != "None")
        stakes = one["at_stake"].values()
        yield Finding(
            "stopped", key_of("stopped", source, account, code, *days), code, source, account,
            (f"{days[0]}: " if days else "") + one["detail"], max(1, len(days)),
            sum(s.get("spend", 0.0) for s in stakes), sum(s.get("registrations", 0.0) for s in stakes),
        )  # fmt: skip


def _warning(source: str, account: str, failure: dict[str, Any], told: set[str]) -> Iterator[Finding]:
    """One finding per account, of the days that are new to the team."""
    by_account: dict[str, list[str]] = {}
    for _, where, day in failure.get("places") or [[source, account, None]]:
        by_account.setdefault(where, []).append(str(day))
    for where, days in by_account.items():
        keys = [key_of("warning", source, where, failure["code"], day) for day in days]
        # of days that were all told before, one stands for them: it is only counted
        new = [key for key in keys if key not in told] or keys[:1]
        share = len(new) / max(1, sum(len(d) for d in by_account.values()))
        yield Finding(
            "warning", key_of(*new) if len(new) > 1 else new[0], failure["code"], source, where,
            (failure.get("examples") or [""])[0], len(new), failure.get("spend", 0.0) * share,
            failure.get("registrations", 0.0) * share, tuple(new),
        )  # fmt: skip


def _quarantine(connection: Connection, organisation: str, since: datetime, until: datetime) -> Iterator[Finding]:
    """Rows newly refused, by source and reason; those of stopped partitions are told with them."""
    q = wh.quarantine
    spend = q.c.record["spend"].astext
    is_number = spend.regexp_match(r"^-?\d{1,14}(\.\d+)?$")
    amount = sa.func.coalesce(sa.func.sum(sa.case((is_number, sa.cast(spend, sa.Numeric)), else_=0)), 0)
    rows = connection.execute(
        sa.select(
            q.c.source, q.c.reason_code, sa.func.count(), amount, sa.func.min(q.c.reason), sa.func.min(q.c.file),
            sa.func.max(q.c.created_at), sa.func.count(sa.distinct(q.c.file)),
        ).where(
            q.c.organisation == organisation, q.c.table_name.is_not(None), q.c.created_at >= since,
            q.c.created_at < until, q.c.reason.not_like("the partition is stopped:%"),
        ).group_by(q.c.source, q.c.reason_code)
    )  # fmt: skip
    for source, code, count, money, reason, file, newest, files in rows:
        name = str(file or "").rsplit("/", 1)[-1]
        more = f" (+{files - 1})" if files > 1 else ""
        yield Finding(
            "quarantine", key_of("quarantine", source, code, file, count, newest), code, source, "",
            f"{name}{more}: {reason}"[:300], count, float(money), 0.0,
        )  # fmt: skip


def _stale(connection: Connection, organisation: str, night: date) -> Iterator[Finding]:
    for one in stale_accounts(connection, organisation, night):
        yield Finding(
            "stale", key_of("stale", one.source, one.account, one.newest), "stale", one.source, one.account,
            f"{one.newest} ({one.age} d; ≤ {one.longest_pause} d)", one.age,
        )  # fmt: skip


def _unmapped(connection: Connection, organisation: str, night: date, told: set[str]) -> Iterator[Finding]:
    """Campaigns without an event that spend money; the dearest is named."""
    c, p = wh.campaign, wh.ad_performance
    spend = sa.func.coalesce(sa.func.sum(p.c.spend_base), 0)
    rows = connection.execute(
        sa.select(c.c.source, c.c.account, c.c.campaign_id, c.c.name, spend)
        .select_from(c.join(p, sa.and_(
            p.c.organisation == c.c.organisation, p.c.source == c.c.source, p.c.account == c.c.account,
            p.c.campaign_id == c.c.campaign_id, p.c.date > night - timedelta(days=_RECENT_DAYS),
        )))
        .where(c.c.organisation == organisation, c.c.mapped_by == "unmapped")
        .group_by(c.c.source, c.c.account, c.c.campaign_id, c.c.name).having(spend > 0).order_by(spend.desc())
    ).all()  # fmt: skip
    for source in dict.fromkeys(row[0] for row in rows):
        of_source = [row for row in rows if row[0] == source]
        ours = [row for row in of_source if key_of("unmapped", *row[:3]) not in told] or of_source[:1]
        keys = [key_of("unmapped", *row[:3]) for row in ours]
        yield Finding(
            "unmapped", keys[0] if len(keys) == 1 else key_of(*keys), "unmapped", source, ours[0][1], str(ours[0][3]),
            len(ours), float(sum(row[4] for row in ours)), 0.0, tuple(keys),
        )  # fmt: skip


def _model_findings(
    measured: Sequence[model_news.Measured], decided: Sequence[model_news.Decision], night: date, language: Language
) -> Iterator[Finding]:
    """What is wrong with the models, or decided about them: the worst by themselves, the rest together."""
    news = model_news.news(measured, decided, night, language)
    for one in news[:_MODEL_NEWS]:
        yield Finding("model", one.key, f"model_{one.code}", "", "", one.text[:300])
    rest = news[_MODEL_NEWS:]
    if rest:
        text = "; ".join(dict.fromkeys(what(f"model_{one.code}", language) for one in rest))
        yield Finding(
            "model", key_of(*(one.key for one in rest)), "model_more", "", "", text[:300], len(rest),
            parts=tuple(one.key for one in rest),
        )  # fmt: skip


# --- words ------------------------------------------------------------------------------------------------------------


def render(report: NightReport, settings: Settings) -> tuple[str, str]:
    """Title and text of the message, in the installation's language."""
    t = WORDS[settings.language]
    urgent = sum(f.kind in _LASTING for f in report.findings)
    others = len(report.findings) - urgent
    title = t["quiet_title"] if report.is_quiet else t["title"]
    title = title.format(night=report.night, urgent=urgent, others=others, organisation=report.organisation)
    lines = [_line(finding, settings) for finding in report.findings[:_LISTED]]
    if len(report.findings) > _LISTED:
        lines.append(t["more"].format(count=len(report.findings) - _LISTED))
    lines.append(
        t["counts"].format(
            rows=f"{report.rows_loaded:,}", files=report.files, quarantined=f"{report.rows_quarantined:,}",
            runs=report.runs, failed=report.failed_runs,
        )
    )  # fmt: skip
    if report.told_before:
        lines.append(t["told"].format(count=report.told_before))
    if report.models:
        lines.append(t["models"].format(what=report.models))
    docs = settings.docs_url or str(settings.home_path / "data_docs" / "index.html")
    lines.append(t["docs"].format(docs=docs))
    return title, "\n".join(lines)


def _line(finding: Finding, settings: Settings) -> str:
    t = WORDS[settings.language]
    where = " ".join(part for part in (finding.source, finding.account) if part)
    stake = []
    if finding.places > 1 and finding.kind != "stale":
        stake.append(t["places"].format(count=f"{finding.places:,}"))
    if finding.spend >= 1:
        stake.append(f"{finding.spend:,.0f} {settings.currency}")
    if finding.registrations >= 1:
        stake.append(t["registrations"].format(count=f"{finding.registrations:,.0f}"))
    tail = f" [{', '.join(stake)}]" if stake else ""
    head = f"{t[finding.kind]} {where}".rstrip()
    return f"• {head}: {what(finding.code, settings.language)} – {finding.detail}{tail}"


# --- sending ----------------------------------------------------------------------------------------------------------


def send_nightly_report(settings: Settings, as_of: date, *, force: bool = False) -> Sent:
    """Send the message about the night whose morning is ``as_of``, once per channel.

    Sent again only if there is something that the night's earlier message did not have, or where a channel did not take
    it. Two processes at once send one message.

    Args:
        force: send it whatever was sent before, and on a quiet night, too.

    Raises:
        NotDelivered: a channel did not take it; the others have it, and calling again reaches only the missing one.
    """
    engine = create_engine(settings, pool_size=2)
    try:
        report = gather(settings, engine, as_of)
        with engine.begin() as connection:
            connection.execute(
                sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"),
                {"key": f"turnout:night:{settings.organisation}:{as_of}"},
            )
            sent, failed = _send(connection, settings, report, force=force)
    finally:
        engine.dispose()
    if failed:
        raise alerts.NotDelivered("; ".join(failed))
    return sent


def _send(connection: Connection, settings: Settings, report: NightReport, *, force: bool) -> tuple[Sent, list[str]]:
    t = wh.night_report
    earlier = connection.execute(
        sa.select(t.c.sent, t.c.findings).where(t.c.organisation == report.organisation, t.c.night == report.night)
    ).one_or_none()
    delivered: dict[str, str] = dict(earlier.sent) if earlier else {}
    known = set(earlier.findings) if earlier else set()
    keys = {finding.key for finding in report.findings}
    wanted = [
        channel for channel in alerts.channels(settings)
        if force or channel not in delivered or (keys - known and delivered[channel] != report.content_key)
    ]  # fmt: skip
    reason, failed, now = "", [], []
    if not alerts.channels(settings):
        reason = "no channel is set up (TURNOUT_SLACK_WEBHOOK_URL, or TURNOUT_SMTP_URL and TURNOUT_ALERT_TO)"
    elif report.is_quiet and not settings.alert_when_quiet and not force:
        wanted, reason = [], "a quiet night"
    elif not wanted:
        reason = "already sent"
    if wanted:
        title, text = render(report, settings)
        if delivered and not force:
            title = WORDS[settings.language]["update"].format(title=title)
        for channel in wanted:
            try:
                alerts.deliver(settings, channel, title, text)
            except alerts.NotDelivered as error:
                failed.append(str(error))
                log.warning("night's report not delivered", channel=channel, error=str(error))
            else:
                delivered[channel] = report.content_key
                now.append(channel)
    # what nobody was told is not remembered as told
    remembered = known | _memories(report.findings) if now or report.is_quiet else known
    upsert(connection, t, [{
        "organisation": report.organisation, "night": report.night, "content_key": report.content_key,
        "sent": delivered, "findings": sorted(remembered),
    }])  # fmt: skip
    log.info("night's report", night=str(report.night), findings=len(report.findings), sent=now, reason=reason)
    return Sent(now, reason), failed


def _memories(findings: Iterable[Finding]) -> set[str]:
    return {key for finding in findings for key in (finding.key, *finding.parts)}


# --- incidents --------------------------------------------------------------------------------------------------------


def note_failure(settings: Settings, title: str, text: str, run: str) -> bool:
    """Keep a failed run for the morning's message; the same run twice is one.

    Returns:
        Whether it was kept. ``False`` where the warehouse does not answer: tell somebody now.
    """
    try:
        engine = create_engine(settings, pool_size=1)
        try:
            with engine.begin() as connection:
                upsert(connection, wh.incident, [{
                    "organisation": settings.organisation, "incident_id": key_of(title, run), "title": title,
                    "text": text[:1000],
                }])  # fmt: skip
        finally:
            engine.dispose()
    except (SQLAlchemyError, RuntimeError, OSError) as error:
        log.warning("failure not kept for the morning", error=type(error).__name__)
        return False
    return True
