"""The tree of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from turnout.cli import data, evaluate, insights, keys, lift, mapping, models, plans, quality, reconcile, run, sources
from turnout.logs import configure

app = typer.Typer(
    name="turnout",
    help="Plan how to fill an event: which free and paid tactics, how much, when, and what to expect.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what happens inside.")] = False,
    log_json: Annotated[bool, typer.Option("--log-json", help="Logs on stderr as one JSON object a line.")] = False,
) -> None:
    configure("json" if log_json else "console", "DEBUG" if verbose else "INFO" if log_json else "WARNING")


run.register(app)
data.register(app)
sources.register(app)
mapping.register(app)
reconcile.register(app)
models.register(app)
lift.register(app)
insights.register(app)
evaluate.register(app)
plans.register(app)
quality.register(app)
keys.register(app)
