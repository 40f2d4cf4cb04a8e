"""The command a planner uses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
import yaml
from pydantic import SecretStr, ValidationError

from turnout.brief import Brief
from turnout.cli.output import JsonFlag, emit_json, out
from turnout.cli.session import warehouse
from turnout.errors import InputError, Problem, TurnoutError
from turnout.plan import Plan
from turnout.settings import load_settings


def read_brief(path: Path) -> Brief:
    """Read a YAML or JSON brief (``-`` is standard input).

    Raises:
        InputError: the file is unreadable, or fields are wrong: all of them at once.
    """
    name = "standard input" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
        data: Any = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            [Problem("unreadable_brief", f"cannot be read as YAML or JSON: {error}", file=name)]
        ) from error
    if not isinstance(data, dict):
        raise InputError([Problem("not_a_brief", "is empty or not a mapping of event, goal, budget, …", file=name)])
    try:
        return Brief.model_validate(data)
    except ValidationError as error:
        raise InputError([
            Problem(
                item["type"],
                f"{item['msg']} (given: {_short(item['input'])})",
                file=name,
                column=".".join(str(part) for part in item["loc"]) or None,
            )
            for item in error.errors(include_url=False)
        ]) from error  # fmt: skip


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def ask_service(url: str, brief: Brief, key: SecretStr | None = None) -> Plan:
    """Send ``brief`` to a running service.

    Args:
        key: the API key to show, where the service asks for one.

    Raises:
        TurnoutError: the service refused, with its own words, or did not answer.
    """
    try:
        response = httpx.post(
            f"{url.rstrip('/')}/v1/plans",
            json=brief.model_dump(mode="json", exclude_none=True),
            headers={
                "Accept-Language": brief.language,
                **({"Authorization": f"Bearer {key.get_secret_value()}"} if key is not None else {}),
            },
            timeout=30,
        )
    except httpx.HTTPError as error:
        raise TurnoutError(f"the service at {url} did not answer: {error}") from error
    if response.is_error:
        try:
            problem = response.json()
        except json.JSONDecodeError:
            problem = {"title": response.text[:200]}
        lines = [str(problem.get("title") or response.reason_phrase), str(problem.get("detail") or "")]
        lines += [
            f"  {item.get('field') or item.get('pointer')}: {item.get('detail')}" for item in problem.get("errors", [])
        ]
        raise TurnoutError("\n".join(line for line in lines if line))
    return Plan.model_validate(response.json())


def plan(
    brief: Annotated[Path, typer.Argument(help="Brief in YAML or JSON; - is standard input.")],
    url: Annotated[
        str | None, typer.Option(help="Service to ask. Default: the running one, else in this process.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the plan as JSON to this file.")
    ] = None,
    calendar: Annotated[
        Path | None, typer.Option("--calendar", help="Also write sends, starts and daily spend as CSV to this file.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Answer a brief with a portfolio: tactics, money, hours, dates, registrations, and what each number rests on."""
    from turnout.agenda import as_csv
    from turnout.render import render_plan
    from turnout.runtime.supervisor import service_url

    question = read_brief(brief)
    settings = load_settings()
    target = url or service_url(settings)
    answer = ask_service(target, question, settings.api_key) if target else _plan_here(question)
    if output:
        output.write_text(answer.model_dump_json(indent=2), encoding="utf-8")
    if calendar:
        calendar.write_text(as_csv(answer), encoding="utf-8-sig", newline="")
    if as_json:
        emit_json(answer)
    else:
        out.print(render_plan(answer))


def _plan_here(question: Brief) -> Plan:
    from serving.local import plan_in_process

    with warehouse() as (settings, engine):
        return plan_in_process(settings, engine, question)


def register(app: typer.Typer) -> None:
    app.command()(plan)
