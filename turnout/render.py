"""A plan as a planner wants to read it, in Japanese or English."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from typing import Final, Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from turnout import taxonomy
from turnout.brief import GoalMetric, Money
from turnout.plan import Allocation, Evidence, InsightNote, Interval, Plan, SkipReason

Language = Literal["ja", "en"]

_WORDS: Final[dict[str, dict[Language, str]]] = {
    "free": {"ja": "無料", "en": "free"},
    "paid": {"ja": "有料", "en": "paid"},
    "tactic": {"ja": "施策", "en": "Tactic"},
    "spend": {"ja": "費用", "en": "Spend"},
    "hours": {"ja": "工数", "en": "Hours"},
    "when": {"ja": "期間", "en": "When"},
    "registrations": {"ja": "申込", "en": "Registrations"},
    "interval": {"ja": "80%区間", "en": "80 % interval"},
    "marginal": {"ja": "次の1件", "en": "Next one costs"},
    "evidence": {"ja": "根拠", "en": "Evidence"},
    "units": {"ja": "回", "en": "×"},
    "insights": {"ja": "知見", "en": "Your rules of thumb"},
    "calendar": {"ja": "日程", "en": "Calendar"},
    "legend": {
        "ja": "● 配信・投稿 ▁▄█ 1日の費用 ─ 実施中 ◆ 開催日",
        "en": "● send  ▁▄█ spend of a day  ─ running  ◆ event",
    },
    "legend_weeks": {"ja": "1文字は1週間", "en": "one sign is a week"},
    "week": {"ja": "週", "en": "week of"},
    "skipped": {"ja": "使わない施策", "en": "Left out"},
    "sources": {"ja": "数字の出どころ", "en": "Where the numbers come from"},
    "totals": {"ja": "合計", "en": "In total"},
    "organic": {"ja": "自然流入", "en": "come by themselves"},
    "attendees": {"ja": "参加者", "en": "Attendees"},
    "show_up": {"ja": "参加率", "en": "show-up"},
    "unspent": {"ja": "使わない予算", "en": "Unspent"},
    "goal": {"ja": "目標達成の確率", "en": "Chance of reaching the goal"},
    "alternatives": {"ja": "別の案", "en": "Other ways"},
    "optimality": {"ja": "最適性", "en": "Optimality"},
    "gap": {"ja": "理論上の上限との差", "en": "at most below the best possible:"},
    "models": {"ja": "モデル", "en": "Models"},
    "features": {"ja": "特徴量", "en": "features of"},
    "until": {"ja": "学習データ", "en": "data until"},
    "simulated": {"ja": "シミュレーションデータ", "en": "SIMULATED DATA"},
    "warnings": {"ja": "注意", "en": "Mind"},
    "nothing": {"ja": "使える施策がありません。", "en": "No tactic can be used."},
    "last_start": {"ja": "最終判断日", "en": "last day to decide"},
    "target": {"ja": "目標", "en": "goal"},
    "budget": {"ja": "予算", "en": "budget"},
    "free_only": {"ja": "無料施策のみ", "en": "Free tactics only"},
    "half_budget": {"ja": "予算半分", "en": "Half the budget"},
    "cheapest_for_goal": {"ja": "目標に届く最少費用", "en": "Cheapest for the goal"},
}
_EVIDENCE: Final[dict[Evidence, dict[Language, str]]] = {
    Evidence.own_data: {"ja": "自社実績", "en": "own data"},
    Evidence.similar_events: {"ja": "類似イベント", "en": "similar events"},
    Evidence.benchmark: {"ja": "公開ベンチマーク", "en": "benchmark"},
    Evidence.guess: {"ja": "推測", "en": "guess"},
}
_EVIDENCE_STYLE: Final = {
    Evidence.own_data: "green",
    Evidence.similar_events: "cyan",
    Evidence.benchmark: "yellow",
    Evidence.guess: "red",
}
_SKIP: Final[dict[SkipReason, dict[Language, str]]] = {
    SkipReason.excluded: {"ja": "除外指定", "en": "excluded"},
    SkipReason.too_late: {"ja": "間に合わない", "en": "too late"},
    SkipReason.no_asset: {"ja": "資産なし", "en": "nothing to use"},
    SkipReason.not_worth_it: {"ja": "効果が見合わない", "en": "not worth it"},
    SkipReason.over_budget: {"ja": "予算外", "en": "over budget"},
    SkipReason.no_hours: {"ja": "工数不足", "en": "no hours left"},
    SkipReason.does_not_apply: {"ja": "対象外", "en": "does not apply"},
}
_SYMBOLS: Final = {"JPY": "¥", "USD": "$", "EUR": "€", "GBP": "£"}


def money(value: Money) -> str:
    """``¥1,200,000``, ``$12.50``, ``CHF 9.00``."""
    exponent = value.amount.as_tuple().exponent
    digits = -exponent if isinstance(exponent, int) and exponent < 0 else 0
    text = f"{value.amount:,.{digits}f}"
    symbol = _SYMBOLS.get(value.currency)
    return f"{symbol}{text}" if symbol else f"{value.currency} {text}"


def _people(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.95 or value == 0 else f"{value:.1f}"


def _interval(interval: Interval) -> str:
    return f"{_people(interval.p10)}–{_people(interval.p90)}"


def _day(day: date, language: Language) -> str:
    return f"{day.month}/{day.day}" if language == "ja" else f"{day:%b} {day.day}"


def _days(starts: date, ends: date, language: Language) -> str:
    first = _day(starts, language)
    return first if starts == ends else f"{first}–{_day(ends, language)}"


def _percent(share: float) -> str:
    """Whole percents, but never a rounded certainty."""
    if 0 < share < 0.01:
        return "<1 %"
    if 0.99 < share < 1:
        return ">99 %"
    return f"{share:.0%}".replace("%", " %")


def render_plan(plan: Plan) -> RenderableType:
    """A plan for the terminal, in the language of its brief."""
    language: Language = plan.brief.language

    def word(key: str) -> str:
        return _WORDS[key][language]

    parts: list[RenderableType] = [_head(plan, language)]
    if any(m.is_simulated_data for m in plan.models):
        parts.append(Text(f"■ {word('simulated')}", style="bold magenta"))
    if plan.allocations:
        parts += [_Portfolio(plan.allocations, language), _totals(plan, language)]
        if any(a.sends or a.daily_spend or a.staff_hours_by_week for a in plan.allocations):
            parts += [Text(f"\n{word('calendar')}", style="bold"), Padding(_Calendar(plan), (0, 0, 0, 2))]
        parts += _section(word("sources"), (_source(a, language) for a in plan.allocations))
    else:
        parts += [Text(word("nothing"), style="bold"), _totals(plan, language)]
    if plan.alternatives:
        parts += _section(word("alternatives"), (
            Text(
                f"{word(a.name)}: {money(a.spend)} → {word('registrations')} {_people(a.registrations.mean)}"
                f" ({_interval(a.registrations)}), {word('goal')} {_percent(a.goal_probability)}"
            )
            for a in plan.alternatives
        ))  # fmt: skip
    known: list[tuple[str | None, InsightNote]] = [(None, note) for note in plan.insights]
    known += [(a.name, note) for a in plan.allocations for note in a.insights]
    if known:
        parts += _section(word("insights"), (_insight(name, note) for name, note in known))
    if plan.skipped:
        parts += [Text(f"\n{word('skipped')}", style="bold"), Padding(_skipped(plan, language), (0, 0, 0, 2))]
    if plan.warnings:
        parts += _section(word("warnings"), (Text(f"! {w}", style="yellow") for w in plan.warnings))
    parts.append(_foot(plan, language))
    return Group(*parts)


def _section(title: str, lines: Iterable[RenderableType]) -> list[RenderableType]:
    return [Text(f"\n{title}", style="bold"), *(Padding(line, (0, 0, 0, 2)) for line in lines)]


def _head(plan: Plan, language: Language) -> RenderableType:
    event, goal = plan.brief.event, plan.brief.goal
    metric = _WORDS["attendees" if goal.metric is GoalMetric.attendees else "registrations"][language]
    facts = " · ".join([
        event.date.isoformat(),
        taxonomy.categories.label(event.category, language),
        taxonomy.formats.label(event.format, language),
        f"{_WORDS['target'][language]} {goal.target:,} {metric if language == 'ja' else metric.lower()}",
        f"{_WORDS['budget'][language]} {money(plan.brief.budget)}",
        f"{_WORDS['hours'][language]} {plan.brief.staff_hours:g} h",
    ])  # fmt: skip
    return Panel(Text(facts), title=Text(event.name, style="bold"), title_align="left", expand=False)


#: Below this many columns the table has no room for names, and each tactic takes two lines instead.
_WIDE: Final = 108


class _Portfolio:
    """The tactics of a plan: a table, or two lines each on a narrow terminal."""

    def __init__(self, allocations: list[Allocation], language: Language) -> None:
        self.allocations, self.language = allocations, language

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.max_width >= _WIDE:
            yield self._table()
        else:
            for allocation in self.allocations:
                yield from self._lines(allocation)

    def _word(self, key: str) -> str:
        return _WORDS[key][self.language]

    def _name(self, a: Allocation) -> str:
        if not a.units:
            return a.name
        return (
            f"{a.name} {self._word('units')}{a.units}"
            if self.language == "en"
            else f"{a.name} {a.units}{self._word('units')}"
        )

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
        table.add_column(self._word("tactic"), overflow="fold")
        for key in ("spend", "hours"):
            table.add_column(self._word(key), justify="right", no_wrap=True)
        table.add_column(self._word("when"), no_wrap=True)
        for key in ("registrations", "interval", "marginal"):
            table.add_column(self._word(key), justify="right", no_wrap=True)
        table.add_column(self._word("evidence"), no_wrap=True)
        for a in self.allocations:
            table.add_row(
                Text(self._name(a)),
                money(a.spend) if a.is_paid else Text(self._word("free"), style="dim"),
                f"{a.staff_hours:.1f}",
                _days(a.starts, a.ends, self.language),
                _people(a.registrations.mean),
                _interval(a.registrations),
                money(a.marginal_cpa) if a.marginal_cpa else Text("–", style="dim"),
                Text(_EVIDENCE[a.evidence][self.language], style=_EVIDENCE_STYLE[a.evidence]),
            )
        return table

    def _lines(self, a: Allocation) -> Iterable[RenderableType]:
        yield Text(self._name(a), style="bold")
        facts = [
            money(a.spend) if a.is_paid else self._word("free"),
            f"{a.staff_hours:.1f} h",
            _days(a.starts, a.ends, self.language),
            f"{self._word('registrations')} {_people(a.registrations.mean)} ({_interval(a.registrations)})",
        ]
        if a.marginal_cpa:
            facts.append(f"{self._word('marginal')} {money(a.marginal_cpa)}")
        line = Text(" · ".join(facts) + " · ")
        line.append(_EVIDENCE[a.evidence][self.language], style=_EVIDENCE_STYLE[a.evidence])
        yield Padding(line, (0, 0, 0, 2))


#: A calendar of more days than this, or without room for them, has one sign a week.
_MOST_DAYS: Final = 63
_BARS: Final = "▁▂▃▄▅▆▇█"
_SEND, _RUN, _REST, _EVENT = "●", "─", "·", "◆"


class _Calendar:
    """One line per tactic, one sign per day (or week), and what each week takes of money and hours."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.language = plan, plan.brief.language
        self.event = plan.brief.event.date
        first = min(a.starts for a in plan.allocations)
        self.first = first - timedelta(days=first.weekday())
        self.days = (max(self.event, *(a.ends for a in plan.allocations)) - self.first).days + 1

    def _word(self, key: str) -> str:
        return _WORDS[key][self.language]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widest = max(cell_len(a.name) for a in self.plan.allocations)
        names = min(widest, max(options.max_width // 3, 12))
        step = 1 if self.days <= min(_MOST_DAYS, options.max_width - names - 2) else 7
        grid = Table.grid(padding=(0, 2))
        grid.add_column(width=names, no_wrap=True, overflow="ellipsis")
        grid.add_column(no_wrap=True)
        grid.add_row("", Text(self._head(step), style="dim"))
        for allocation in self.plan.allocations:
            grid.add_row(Text(allocation.name), Text(self._line(allocation, step)))
        grid.add_row("", Text(self._event_line(step), style="bold"))
        yield grid
        legend = self._word("legend") + ("" if step == 1 else f"  {self._word('legend_weeks')}")
        yield Text(legend, style="dim")
        yield self._weeks()

    def _head(self, step: int) -> str:
        """The Mondays, as far as there is room: every week by day, every fourth by week."""
        every = 7 if step == 1 else 28
        label = 7 if step == 1 else 4
        return "".join(
            _day(self.first + timedelta(days=d), self.language)[:label].ljust(label) for d in range(0, self.days, every)
        )

    def _line(self, a: Allocation, step: int) -> str:
        spend = {d.date: d.amount for d in a.daily_spend}
        sends = {at.date() for at in a.sends}
        most = self._most(spend, step)
        signs = []
        for at in range(0, self.days, step):
            days = [self.first + timedelta(days=at + d) for d in range(step)]
            amount = sum((spend.get(day, Decimal(0)) for day in days), Decimal(0))
            if any(day in sends for day in days):
                signs.append(_SEND)
            elif amount:
                signs.append(_BARS[min(int(amount / most * len(_BARS)), len(_BARS) - 1)])
            elif any(a.starts <= day <= a.ends for day in days):
                signs.append(_REST if a.sends else _RUN)
            else:
                signs.append(_REST)
        return "".join(signs)

    def _most(self, spend: dict[date, Decimal], step: int) -> Decimal:
        starts = range(0, self.days, step)
        return max(
            sum((spend.get(self.first + timedelta(days=at + d), Decimal(0)) for d in range(step)), Decimal(0))
            for at in starts
        )

    def _event_line(self, step: int) -> str:
        return " " * ((self.event - self.first).days // step) + _EVENT

    def _weeks(self) -> RenderableType:
        spend: dict[date, Decimal] = {}
        hours: dict[date, float] = {}
        for a in self.plan.allocations:
            for d in a.daily_spend:
                monday = d.date - timedelta(days=d.date.weekday())
                spend[monday] = spend.get(monday, Decimal(0)) + d.amount
            for w in a.staff_hours_by_week:
                hours[w.week] = hours.get(w.week, 0.0) + w.hours
        currency = self.plan.totals.spend.currency
        grid = Table.grid(padding=(0, 2))
        grid.add_column()
        grid.add_column(justify="right")
        grid.add_column(justify="right")
        for monday in sorted(spend.keys() | hours.keys()):
            shown = _day(monday, self.language)
            name = f"{shown}{self._word('week')}" if self.language == "ja" else f"{self._word('week')} {shown}"
            amount = Money(amount=spend.get(monday, Decimal(0)), currency=currency)
            grid.add_row(name, money(amount), f"{hours.get(monday, 0.0):.1f} h")
        return grid


def _totals(plan: Plan, language: Language) -> RenderableType:
    def word(key: str) -> str:
        return _WORDS[key][language]

    totals = plan.totals
    unspent = f" ({totals.unspent_reason})" if totals.unspent_reason else ""
    lines = [
        (word("spend"), f"{money(totals.spend)} · {totals.staff_hours:.1f} h"),
        (word("unspent"), f"{money(totals.unspent)}{unspent}"),
        (
            word("registrations"),
            f"{_people(totals.registrations.mean)} ({_interval(totals.registrations)}), "
            f"{word('organic')} {_people(totals.organic_registrations.mean)}",
        ),
        (
            word("attendees"),
            f"{_people(totals.attendees.mean)} ({_interval(totals.attendees)}), "
            f"{word('show_up')} {_percent(totals.show_up_rate)}",
        ),
        (word("goal"), _percent(totals.goal_probability)),
    ]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column()
    for label, value in lines:
        grid.add_row(label, Text(value))
    return Group(Text(f"\n{word('totals')}", style="bold"), Padding(grid, (0, 0, 0, 2)))


def _source(allocation: Allocation, language: Language) -> Text:
    text = Text()
    text.append(f"{allocation.name}: ")
    text.append(_EVIDENCE[allocation.evidence][language], style=_EVIDENCE_STYLE[allocation.evidence])
    text.append(f" – {allocation.evidence_source}", style="dim")
    if allocation.reasons:
        text.append(f" ({'; '.join(allocation.reasons)})")
    return text


_VERDICT_STYLE: Final = {"supported": "green", "contradicted": "red", "untested": "dim", None: "dim"}


def _insight(name: str | None, note: InsightNote) -> Text:
    text = Text(f"{name}: {note.text}" if name else note.text)
    said = " · ".join(part for part in (note.impact, note.confidence) if part)
    if said:
        text.append(f" ({said})", style="dim")
    if note.detail:
        text.append(f" – {note.detail}", style=_VERDICT_STYLE[note.verdict])
    return text


def _skipped(plan: Plan, language: Language) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(overflow="fold", min_width=14)
    grid.add_column(no_wrap=True)
    grid.add_column(style="dim")
    for s in plan.skipped:
        detail = s.detail
        if s.last_start:
            detail = f"{detail} ({_WORDS['last_start'][language]}: {s.last_start.isoformat()})"
        grid.add_row(Text(s.name), _SKIP[s.reason][language], Text(detail))
    return grid


def _foot(plan: Plan, language: Language) -> Text:
    def word(key: str) -> str:
        return _WORDS[key][language]

    models = []
    for model in plan.models:
        alias = f"@{model.alias}" if model.alias else ""
        until = f", {word('until')} {model.trained_until.isoformat()}" if model.trained_until else ""
        simulated = f", {word('simulated')}" if model.is_simulated_data else ""
        models.append(f"{model.name} v{model.version}{alias}{until}{simulated}")
    optimality = plan.optimality
    lines = [
        f"\n{word('models')}: {' · '.join(models)}",
        f"{word('optimality')}: {word('gap')} {optimality.gap:.2%}",
    ]
    if plan.features_as_of:
        lines.append(f"{word('features')} {plan.features_as_of:%Y-%m-%d %H:%M %Z}".rstrip())
    lines.append(f"plan {plan.plan_id}")
    return Text("\n".join(lines), style="dim")
