"""What the night found out about the models, in words: from the table ``model_monitor`` and the registry's decisions.

:mod:`training.monitoring` measures and judges; here is only what is said of it, in Japanese and English, so that the
night's message can be written where no training code is installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, Protocol

import sqlalchemy as sa
import structlog
from sqlalchemy import Connection

from turnout.identity import key_of
from turnout.settings import Settings
from turnout.warehouse.tables import model_monitor

log = structlog.get_logger(__name__)

#: Days of events that summaries and alarms speak of, and of predictions whose features are compared.
MAIN_WINDOW: Final = 90
DRIFT_DAYS: Final = 28
#: Fewer events than this are shown and not summed up.
FEWEST_SHOWN: Final = 5
#: A morning's measurements older than this are no news.
_OLDEST: Final = timedelta(days=1)
_RANK: Final[Mapping[str, int]] = {"ok": 0, "too_few": 0, "warning": 1, "alarm": 2}


class Measured(Protocol):
    """A row of ``model_monitor``; :class:`training.monitoring.Row` is one, a row of the database another."""

    @property
    def metric(self) -> str: ...
    @property
    def value(self) -> float | None: ...
    @property
    def reference(self) -> float | None: ...
    @property
    def evidence(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def window_days(self) -> int: ...
    @property
    def segment_id(self) -> str: ...
    @property
    def model_version(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def detail(self) -> str | None: ...


_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "all": "all segments",
        "coverage_80": "{where}: the 80 % intervals held {value:.0%} of {n} events",
        "bias": "{where}: predictions are {value:+.0%} off over {n} events",
        "tactic_bias": "{subject}: predictions are {value:+.0%} off over {n} events",
        "wape": "{where}: error {value:.0%} of registrations over {n} events, {reference:.0%} in the backtest",
        "psi": "{subject} has drifted from what the model was trained on (PSI {value:.2f}, {n} values)",
        "missing": "{subject} is unknown in {value:.0%} more of the plans than in training",
        "restated": "outcomes of {n} of {reference:.0f} events were restated after the champion was trained "
        "({value:+.0%} in all): predictions are measured against the new figures, the next training learns from them",
        "ab": "A/B test, {subject}: {detail} is better ({n} events, p = {reference:.2g}, valid at any time)",
        "other": "{where}: {metric} {value:.3g} ({n})",
        "line": "predictions of the last {window} days: {n} events, mean error {mae:.1f} registrations ({wape:.0%}), "
        "bias {bias:+.0%}, 80 % intervals held {coverage:.0%}",
        "few": "predictions of the last {window} days: {n} events with a plan and an outcome, too few to judge",
        "fine": "nothing to worry about",
        "worse": "{name} version {version} was not promoted: {reasons}",
        "promoted": "{name} v{version} promoted", "refused": "{name} v{version} not promoted",
        "by hand": "{name} v{version} set by hand", "trained": "{name} v{version} trained",
        "error": "prediction error", "attainment": "registrations over target",
    },
    "ja": {
        "all": "全カテゴリ",
        "coverage_80": "{where}: 80%区間に入ったのは{n}件中{value:.0%}",
        "bias": "{where}: {n}件の予測が実績から{value:+.0%}ずれています",
        "tactic_bias": "{subject}: {n}件の予測が実績から{value:+.0%}ずれています",
        "wape": "{where}: {n}件の誤差は申込数の{value:.0%}(検証時は{reference:.0%})",
        "psi": "{subject} の分布が学習時から変わりました(PSI {value:.2f}、{n}件)",
        "missing": "{subject} が不明な計画が学習時より{value:.0%}多くなっています",
        "restated": "現行モデルの学習後に{reference:.0f}件中{n}件の実績が訂正されました(合計{value:+.0%})。"
        "予測は訂正後の実績と比べ、次回の学習に使います",
        "ab": "A/Bテスト({subject}): {detail} が優位({n}件、p = {reference:.2g}、随時有効)",
        "other": "{where}: {metric} {value:.3g}({n}件)",
        "line": "直近{window}日の予測: {n}件、平均誤差{mae:.1f}人({wape:.0%})、偏り{bias:+.0%}、"
        "80%区間の的中{coverage:.0%}",
        "few": "直近{window}日の予測: 計画と結果がそろったイベントは{n}件で、判断には足りません",
        "fine": "異常なし",
        "worse": "{name} バージョン{version} は不採用: {reasons}",
        "promoted": "{name} v{version} 採用", "refused": "{name} v{version} 見送り",
        "by hand": "{name} v{version} 手動で設定", "trained": "{name} v{version} 学習済み",
        "error": "予測誤差", "attainment": "目標に対する申込",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class News:
    """One thing about the models that somebody should know.

    Attributes:
        key: the same thing has the same key on the next morning of the month.
        code: the metric, or ``retrain_worse``.
        weight: how much it matters, larger is more.
        text: in the installation's language.
    """

    key: str
    code: str
    weight: int
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a version made in the night.

    Attributes:
        verdict: ``promoted``, ``refused``, ``by hand``, or ``trained`` where nothing was decided.
        is_worse: it was refused for what is wrong with it, not for being no better.
    """

    name: str
    version: str
    verdict: str
    is_worse: bool = False
    reasons: tuple[str, ...] = ()


def sentence(row: Measured, language: str) -> str:
    """One row in words."""
    words = _WORDS["ja" if language == "ja" else "en"]
    return words.get(row.metric, words["other"]).format(
        where=row.segment_id or words["all"], subject=words.get(row.subject, row.subject), metric=row.metric,
        n=row.evidence, detail=row.detail or "",
        value=float("nan") if row.value is None else row.value,
        reference=float("nan") if row.reference is None else row.reference,
    )  # fmt: skip


def matter(rows: Iterable[Measured]) -> list[Measured]:
    """The rows that are not as they should be, worst first."""
    bad = [r for r in rows if _RANK[r.status] and not r.model_version and r.window_days in (MAIN_WINDOW, DRIFT_DAYS)]
    return sorted(bad, key=lambda r: -_RANK[r.status])


def headline(rows: Iterable[Measured], language: str) -> str | None:
    """How predictions did, in one line; None where nothing was measured."""
    words = _WORDS["ja" if language == "ja" else "en"]
    whole = {r.metric: r for r in rows if r.window_days == MAIN_WINDOW and not (r.segment_id or r.model_version)}
    if not whole:
        return None
    n = whole["mae"].evidence if "mae" in whole else 0
    if n < FEWEST_SHOWN or "wape" not in whole or "bias" not in whole:
        return words["few"].format(window=MAIN_WINDOW, n=n)
    value = {metric: whole[metric].value for metric in ("mae", "wape", "bias", "coverage_80")}
    return words["line"].format(
        window=MAIN_WINDOW, n=n, mae=value["mae"], wape=value["wape"], bias=value["bias"], coverage=value["coverage_80"]
    )


def measured(connection: Connection, organisation: str, night: date) -> list[Measured]:
    """The newest measurements of the morning of ``night`` or the one before."""
    t = model_monitor.c
    newest = connection.scalar(
        sa.select(sa.func.max(t.as_of)).where(
            t.organisation == organisation, t.as_of <= night, t.as_of >= night - _OLDEST
        )
    )
    if newest is None:
        return []
    found = connection.execute(
        sa.select(model_monitor)
        .where(t.organisation == organisation, t.as_of == newest)
        .order_by(t.segment_id, t.window_days, t.metric, t.subject)
    )
    return list(found.all())


def decisions(settings: Settings, since: datetime, until: datetime) -> list[Decision]:
    """What became of the versions made in a span of time; nothing where the registry does not answer."""
    from turnout import registry

    found: list[Decision] = []
    try:
        client = registry.client(settings)
        for name in sorted(registry.MODELS):
            for version in client.search_model_versions(f"name='{name}'"):
                if since.timestamp() * 1000 <= version.creation_timestamp < until.timestamp() * 1000:
                    found.append(_decision(name, version))
    except Exception as error:  # whatever a registry that is away raises: the message must go out all the same
        log.warning("models left out of the night's report", error=type(error).__name__)
    return found


def _decision(name: str, version: Any) -> Decision:
    tags = version.tags
    return Decision(
        name, str(version.version), tags.get("promotion") or "trained", tags.get("promotion_alarming") == "true",
        tuple(json.loads(tags.get("promotion_reasons") or "[]")),
    )  # fmt: skip


def news(rows: Iterable[Measured], made: Iterable[Decision], night: date, language: str) -> list[News]:
    """Everything about the models that matters, worst first; empty where all is well.

    What lasts is told once a month: its key holds the month.
    """
    words = _WORDS["ja" if language == "ja" else "en"]
    found = [
        News(
            key_of("model", one.name, one.version), "retrain_worse", 3,
            words["worse"].format(name=one.name, version=one.version, reasons="; ".join(one.reasons)),
        )
        for one in made if one.is_worse and one.verdict == "refused"
    ]  # fmt: skip
    month = night.isoformat()[:7]
    found += [
        News(
            key_of("model", row.metric, row.segment_id, row.window_days, row.subject, row.status, row.detail
                   if row.metric in ("ab", "restated") else "", month),
            row.metric, _RANK[row.status], sentence(row, language),
        )
        for row in matter(rows)
    ]  # fmt: skip
    return sorted(found, key=lambda one: -one.weight)


def line(rows: Iterable[Measured], made: Iterable[Decision], language: str) -> str | None:
    """The one line that is always there: how predictions did, and what was trained in the night."""
    words = _WORDS["ja" if language == "ja" else "en"]
    rows = list(rows)
    parts = [headline(rows, language) or ""]
    if rows and not matter(rows):
        parts.append(words["fine"])
    parts += [words[d.verdict].format(name=d.name, version=d.version) for d in made if d.verdict in words]
    return "; ".join(part for part in parts if part) or None
