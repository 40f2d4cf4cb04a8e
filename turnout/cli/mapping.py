"""`turnout map`: tie campaigns, mail categories, registration lists and origins to events and tactics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from turnout.cli.output import JsonFlag, emit_json, err, out
from turnout.cli.session import warehouse

map_app = typer.Typer(
    help="Tie campaigns, mail categories, registration lists and origins to events and tactics.", no_args_is_help=True
)
rule_app = typer.Typer(help="Rules by name: they hold for campaigns still to come too.", no_args_is_help=True)
map_app.add_typer(rule_app, name="rule")

SourceOption = Annotated[
    str | None, typer.Option(help="google_ads, meta_ads, linkedin_ads, sendgrid or registrations. Default: all.")
]
AccountOption = Annotated[str | None, typer.Option(help="Account, or folder of the inbox. Default: all.")]
EventOption = Annotated[
    str | None, typer.Option(help="Event: name, code or key; “name @ 2026-06-01” where several share a name.")
]
TacticOption = Annotated[str | None, typer.Option(help="Tactic: id or name; `none` for no tactic on purpose.")]
IgnoreOption = Annotated[bool, typer.Option("--ignore", help="Belongs to no event, on purpose.")]
NoteOption = Annotated[str | None, typer.Option(help="A note for colleagues.")]
#: Rows of a table unless more are asked for.
SHOWN = 50
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")]


@map_app.command("list")
def map_list(
    unmapped: Annotated[bool, typer.Option("--unmapped", help="Only what lacks an event or tactic.")] = False,
    source: SourceOption = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"At most this many. Default: {SHOWN} in a table, all as JSON.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """What is tied to which event and tactic, the costliest first, with suggestions for what is not."""
    from ingestion.mapping import list_mapped
    from turnout.warehouse.reconciliation import account_overlaps

    limit = limit or (None if as_json else SHOWN)
    with warehouse() as (settings, engine):
        rows = list_mapped(engine, settings.organisation, source=source, unmapped=unmapped, suggest_for=limit)
        with engine.connect() as connection:
            overlaps = [o for o in account_overlaps(connection, settings.organisation) if source in (None, o.source)]
    if as_json:
        emit_json({"currency": settings.currency, "rows": rows[:limit], "account_overlaps": overlaps})
        return
    if not rows:
        out.print("everything is tied to an event and tactic" if unmapped else "nothing to map has been read yet")
    else:
        _print_mapped(rows[:limit], settings.currency)
        if limit is not None and len(rows) > limit:
            err.print(f"the first {limit} of {len(rows)}; --limit shows more")
    print_overlaps(overlaps)


def _print_mapped(rows: Sequence[Any], currency: str) -> None:
    from turnout.warehouse.reconciliation import figure

    table = Table(title="mapping")
    for column, share in (("what", None), ("source, account", None), ("name and id", 1)):
        table.add_column(column, overflow="fold", ratio=share)
    for column in (f"spend {currency}", "count", "days"):
        table.add_column(column, justify="right")
    table.add_column("last seen", no_wrap=True)
    table.add_column("event, tactic; or suggestions", overflow="fold", ratio=2)
    for row in rows:
        name = escape(row.name or "(no name)")
        if row.what == "campaign" and row.id != row.name and not row.id.startswith("cmp_"):
            name += f"\n[dim]{escape(row.id)}[/]"
        if row.other_names:
            name += f"\n[dim]also: {escape(', '.join(row.other_names[:3]))}[/]"
        table.add_row(
            row.what, escape(f"{row.source}\n{row.account}".strip()), name, figure(_float(row.spend)),
            figure(_float(row.amount)), str(row.days), str(row.last_seen or "–"), _told(row),
        )  # fmt: skip
    out.print(table)


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _told(row: Any) -> str:
    lines = []
    if row.ignored:
        lines.append("belongs to no event, on purpose")
    elif row.events:
        lines.append(escape(", ".join(row.events)))
    tactic = row.tactic_id or ("" if row.what == "list" else "no tactic")
    if row.events or row.what == "origin" or row.ignored:
        lines.append(f"[dim]{tactic}{' (your rule)' if row.mapped_by == 'user' else ''}[/]")
    if row.is_unmapped:
        lines += [_suggested(s) for s in row.suggestions] or ["[yellow]nothing resembles it[/]"]
    return "\n".join(lines)


def _suggested(suggestion: Any) -> str:
    what = suggestion.tactic_id or f"{suggestion.event_name} @ {suggestion.event_date}"
    return f"[yellow]{suggestion.score:.2f}[/] {escape(what)} [dim]({escape(suggestion.reason)})[/]"


def print_overlaps(overlaps: Sequence[Any]) -> None:
    """Warn of campaigns that two accounts of one source report."""
    from turnout.warehouse.reconciliation import figure

    overlaps = [o for o in overlaps if o.is_suspect]
    for overlap in overlaps[:20]:
        a, b = (f"“{name}”" if name else "(none)" for name in (overlap.account_a, overlap.account_b))
        if overlap.is_double:
            said = (
                f"on {overlap.same_days} of {overlap.days} days with the same figures: it is very likely read twice "
                f"({figure(overlap.spend_twice)} counted double). Read the export with --account, or take it out"
            )
        else:
            said = f"on {overlap.days} days, {overlap.same_days} of them with the same figures: is it one campaign?"
        err.print(
            f"[yellow]warning:[/] {overlap.source}: accounts {escape(a)} and {escape(b)} both report "
            f"“{escape(overlap.name)}” {said}",
            highlight=False,
        )
    if len(overlaps) > 20:
        err.print(f"… and {len(overlaps) - 20} more (`--json` shows all)")


@map_app.command("set")
def map_set(
    name: Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Campaign (id or name), category, list or origin.")],
    event: EventOption = None,
    tactic: TacticOption = None,
    ignore: IgnoreOption = False,
    source: SourceOption = None,
    account: AccountOption = None,
    note: NoteOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Tie one campaign, mail category, registration list or origin. A campaign is tied by its id and may be renamed."""
    from ingestion.mapping import set_mapping

    with warehouse() as (settings, engine):
        done = set_mapping(
            engine, settings.organisation, name, event=event, tactic=tactic, ignore=ignore, source=source,
            account=account, note=note, dry_run=dry_run,
        )  # fmt: skip
    _report(done, as_json=as_json)


def _report(done: Any, *, as_json: bool) -> None:
    """What an edit did."""
    if as_json:
        emit_json(done)
        return
    would = "would be " if done.dry_run else ""
    for rules, verb in ((done.rules, "set"), (done.removed, "removed")):
        for rule in rules:
            out.print(f"{would}{verb}: {_rule(rule)}", highlight=False, markup=False, soft_wrap=True)
    _print_changes(done.changes, dry_run=done.dry_run)


def _rule(rule: Any) -> str:
    said = [
        "no event" if rule.ignored else rule.event_name and f"{rule.event_name} ({rule.event_date})",
        "no tactic" if rule.tactic_id == "" else rule.tactic_id,
    ]
    place = ", ".join(p for p in (rule.source, rule.account) if p)
    where = f" [{place}]" if place else ""
    return f"{rule.rule_id}: {rule.kind} “{rule.pattern}”{where} → {', '.join(s for s in said if s)}"


def _print_changes(changes: Sequence[Any], *, dry_run: bool = False) -> None:
    if not changes:
        out.print("nothing would change" if dry_run else "nothing else changes")
        return
    table = Table(title=f"{len(changes)} would change" if dry_run else f"{len(changes)} changed")
    for column in ("what", "source, account", "name", "event before", "event now", "tactic before", "tactic now"):
        table.add_column(column, overflow="fold")
    for change in changes[:100]:
        table.add_row(
            change.what, escape(f"{change.source} {change.account}".strip()), escape(change.name),
            escape(", ".join(change.events_before)) or "–", escape(", ".join(change.events_after)) or "–",
            change.tactic_before or "–", change.tactic_after or "–",
        )  # fmt: skip
    out.print(table)
    if len(changes) > 100:
        err.print(f"the first 100 of {len(changes)}; --json shows all")


@map_app.command("apply")
def map_apply(dry_run: DryRun = False, as_json: JsonFlag = False) -> None:
    """Tie everything anew by the rules and names there are. Every load does this by itself."""
    from ingestion.mapping import apply

    with warehouse() as (settings, engine):
        changes = apply(engine, settings.organisation, dry_run=dry_run)
    if as_json:
        emit_json({"dry_run": dry_run, "changes": changes})
    else:
        _print_changes(changes, dry_run=dry_run)


@map_app.command("suggest")
def map_suggest(
    accept: Annotated[
        list[str] | None, typer.Option(help="Take the best suggestion for this campaign (id or name); repeatable.")
    ] = None,
    accept_above: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Take every best suggestion with at least this score.")
    ] = None,
    interactive: Annotated[bool, typer.Option("--interactive", "-i", help="Ask one by one.")] = False,
    source: SourceOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Suggest events and tactics for what lacks them, and take suggestions over. Nothing is taken by itself."""
    from ingestion.mapping import list_mapped, set_things
    from turnout.errors import InputError, Problem

    with warehouse() as (settings, engine):
        rows = list_mapped(engine, settings.organisation, source=source, unmapped=True)
        chosen: list[tuple[Any, dict[str, Any]]] = []
        for name in accept or ():
            found = [r for r in rows if name in (r.id, r.name)]
            if len(found) != 1 or not found[0].suggestions:
                said = "has no suggestion" if len(found) == 1 else f"names {len(found)} things that lack an event"
                raise InputError([Problem("no_suggestion", f"{name!r} {said}", value=name)])
            chosen.append((found[0], _parts(found[0].suggestions[0])))
        if accept_above is not None:
            taken = [row for row, _ in chosen]
            chosen += [
                (r, _parts(r.suggestions[0]))
                for r in rows
                if r not in taken and r.suggestions and r.suggestions[0].score >= accept_above
            ]
        if interactive:
            chosen += _asked([r for r in rows if r not in [row for row, _ in chosen]])
        if not chosen:
            if accept_above is not None or interactive:
                out.print("nothing taken over")
            elif as_json:
                emit_json({"currency": settings.currency, "rows": rows})
            elif rows:
                _print_mapped(rows[:SHOWN], settings.currency)
                err.print("--accept NAME, --accept-above SCORE or --interactive takes suggestions over")
            else:
                out.print("everything is tied to an event and tactic")
            return
        done = set_things(engine, settings.organisation, chosen, dry_run=dry_run)
    _report(done, as_json=as_json)


def _parts(suggestion: Any) -> dict[str, Any]:
    return {"event": suggestion.event_id, "tactic": suggestion.tactic_id, "ignore": False}


def _asked(rows: Sequence[Any]) -> list[tuple[Any, dict[str, Any]]]:
    """Ask of each row; the answers so far count when somebody stops."""
    from turnout.warehouse.reconciliation import figure

    chosen = []
    for number, row in enumerate(rows, start=1):
        spend = f", {figure(_float(row.spend))} spent" if row.spend is not None else ""
        err.print(
            f"\n[bold]{number}/{len(rows)} {row.what} {escape(row.name)}[/] ({row.source}{spend})", highlight=False
        )
        for choice, suggestion in enumerate(row.suggestions, start=1):
            err.print(f"  {choice}: {_suggested(suggestion)}", highlight=False)
        answers = [str(n) for n in range(1, len(row.suggestions) + 1)]
        hint = f"{'/'.join([*answers, 'i', 's', 'q'])}: number, i = ignore, s = skip, q = stop"
        answer = typer.prompt(hint, default="s", err=True).strip().casefold()
        while answer not in (*answers, "i", "s", "q"):
            answer = typer.prompt(hint, default="s", err=True).strip().casefold()
        if answer == "q":
            break
        if answer == "i":
            parts = {"tactic": "none"} if row.what == "origin" else {"ignore": True}
            chosen.append((row, {"event": None, "tactic": None, "ignore": False} | parts))
        elif answer != "s":
            chosen.append((row, _parts(row.suggestions[int(answer) - 1])))
    return chosen


@map_app.command("export")
def map_export(
    file: Annotated[Path, typer.Argument(help="Where to write: .csv or .yaml.")] = Path("mapping.csv"),
    language: Annotated[Literal["ja", "en"] | None, typer.Option(help="Headers of CSV in this language.")] = None,
    rules_only: Annotated[bool, typer.Option("--rules-only", help="Without what lacks an event or tactic.")] = False,
) -> None:
    """Write the rules, and what lacks an event or tactic, for a spreadsheet; `turnout map import` reads it back."""
    from ingestion.mapping_files import export_mapping

    kind: Literal["csv", "yaml"] = "yaml" if file.suffix.casefold() in (".yaml", ".yml") else "csv"
    with warehouse() as (settings, engine):
        text = export_mapping(
            engine, settings.organisation, kind, language=language or settings.language, unmapped=not rules_only
        )
    file.write_text(text, encoding="utf-8", newline="")
    out.print(str(file), highlight=False, soft_wrap=True)


@map_app.command("import")
def map_import(
    file: Annotated[Path, typer.Argument(help="CSV, XLSX or YAML as `turnout map export` writes it.")],
    replace: Annotated[bool, typer.Option("--replace", help="Remove rules that the file does not have.")] = False,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Read rules from a spreadsheet. A row without event, tactic and ignore takes its rule away; twice is as once."""
    from ingestion.mapping_files import import_mapping

    with warehouse() as (settings, engine):
        done = import_mapping(engine, settings.organisation, file, replace=replace, dry_run=dry_run)
    _report(done, as_json=as_json)


# --- rules ------------------------------------------------------------------------------------------------------------

KindArgument = Annotated[
    str,
    typer.Argument(
        help="id, exact, contains, glob (* and ?) or regex (RE2, at most 200 characters). Width, case and spaces "
        "make no difference."
    ),
]
PatternArgument = Annotated[str, typer.Argument(help="Id, name, part of a name, or pattern.")]
PositionOption = Annotated[int, typer.Option(help="Lower is asked first; rules by id are always first.")]


@rule_app.command("add")
def rule_add(
    kind: KindArgument,
    pattern: PatternArgument,
    event: EventOption = None,
    tactic: TacticOption = None,
    ignore: IgnoreOption = False,
    source: SourceOption = None,
    account: AccountOption = None,
    position: PositionOption = 0,
    note: NoteOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a rule, or replace the one of the same kind, pattern, source and account, and show what it changes."""
    from ingestion.mapping import add_rule

    with warehouse() as (settings, engine):
        done = add_rule(
            engine, settings.organisation, kind=kind, pattern=pattern, event=event, tactic=tactic, ignore=ignore,
            source=source or "", account=account or "", position=position, note=note, dry_run=dry_run,
        )  # fmt: skip
    _report(done, as_json=as_json)


@rule_app.command("test")
def rule_test(
    kind: KindArgument,
    pattern: PatternArgument,
    event: EventOption = None,
    tactic: TacticOption = None,
    ignore: IgnoreOption = False,
    source: SourceOption = None,
    account: AccountOption = None,
    position: PositionOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Show which campaigns a rule would change, and from what to what; nothing is written."""
    rule_add(
        kind, pattern, event=event, tactic=tactic, ignore=ignore, source=source, account=account, position=position,
        note=None, dry_run=True, as_json=as_json,
    )  # fmt: skip


@rule_app.command("list")
def rule_list(as_json: JsonFlag = False) -> None:
    """The rules in the order in which they are asked, and how much each decides."""
    from ingestion.mapping import list_rules

    with warehouse() as (settings, engine):
        uses = list_rules(engine, settings.organisation)
    if as_json:
        emit_json(uses)
        return
    if not uses:
        out.print("no rules yet: `turnout map set` and `turnout map rule add` make them")
        return
    table = Table(title="rules")
    for column in ("rule", "source, account", "kind", "pattern", "event", "tactic", "note"):
        table.add_column(column, overflow="fold")
    table.add_column("decides", justify="right")
    for use in uses:
        rule = use.rule
        event = "no event, on purpose" if rule.ignored else escape(use.event or "–")
        if use.event_gone:
            event = f"[yellow]gone: {escape(rule.event_name or rule.event_id or '')} ({rule.event_date})[/]"
        table.add_row(
            rule.rule_id + (f" at {rule.position}" if rule.position else ""),
            escape(f"{rule.source or 'all'} {rule.account}".strip()), rule.kind, escape(rule.pattern), event,
            "none, on purpose" if rule.tactic_id == "" else rule.tactic_id or "–", escape(rule.note or ""),
            f"{use.decides:,}",
        )  # fmt: skip
    out.print(table)


@rule_app.command("remove")
def rule_remove(
    rules: Annotated[list[str], typer.Argument(help="Ids of rules (or how they begin), or patterns.")],
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove rules; what stood before them stands again."""
    from ingestion.mapping import remove_rules

    with warehouse() as (settings, engine):
        done = remove_rules(engine, settings.organisation, rules, dry_run=dry_run)
    _report(done, as_json=as_json)


def register(app: typer.Typer) -> None:
    app.add_typer(map_app, name="map")
