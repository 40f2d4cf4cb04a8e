"""The stages of the nightly retraining, as its DAG calls them; each in a process of its own.

    python -m benchmarks.retrain_stages STAGE STATE

reads its settings from the environment and what earlier stages said from the file STATE, adds its own answer there, and
prints one line of progress after another.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import structlog

from turnout.settings import Settings, load_settings

State = dict[str, Any]
Progress = Callable[[str], None]


def fill(settings: Settings, state: State, say: Progress) -> Any:
    """The warehouse's content: not a stage of the night, and not counted."""
    from benchmarks.retrain_world import fill

    given = state["world"]
    return fill(settings, events=given["events"], rows=given["rows"], seed=given["seed"], progress=say).as_dict()


def features(settings: Settings, state: State, say: Progress) -> Any:
    """Compute the snapshots, those of past weeks too."""
    from feature_repo import build

    as_of = _as_of(state)
    say("computing snapshots")
    return build.refresh(settings, as_of, build.history_start(settings, as_of))


def publish(settings: Settings, state: State, say: Progress) -> Any:
    """Register the views and publish the newest snapshot."""
    from feature_repo import store

    say("registering")
    store.apply(settings)
    say("publishing")
    return store.materialize_latest(settings, _as_of(state))


def demand(settings: Settings, state: State, say: Progress) -> Any:
    """Train the demand model and publish its forecasts."""
    from feature_repo import store
    from training import demand as stage

    say("walking through the history")
    ref = stage.train(settings, _as_of(state))
    store.materialize_latest(settings, _as_of(state))
    return ref.as_dict()


def response(settings: Settings, state: State, say: Progress) -> Any:
    """Train, backtest and register the response model."""
    from training import response as stage

    say("reading features")
    return stage.train(settings, _as_of(state), progress=say).as_dict()


def promote(settings: Settings, state: State, say: Progress) -> Any:
    """Make the better model champion."""
    from training.promotion import promote_if_better
    from training.registry import ModelRef

    say("comparing")
    return [promote_if_better(settings, ModelRef(**state[name])).as_dict() for name in ("demand", "response")]


#: In the order of the night.
STAGES: dict[str, Callable[[Settings, State, Progress], Any]] = {
    "features": features,
    "publish": publish,
    "demand": demand,
    "response": response,
    "promote": promote,
}


def _as_of(state: State) -> date:
    return date.fromisoformat(state["as_of"])


def main(arguments: list[str] | None = None) -> int:
    name, place = arguments or sys.argv[1:]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    path = Path(place)
    state: State = json.loads(path.read_text(encoding="utf-8"))
    run = fill if name == "fill" else STAGES[name]
    answer = run(load_settings(), state, lambda message: print(message, flush=True))
    # written beside and renamed: a killed stage leaves what the earlier ones said
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(state | {name: answer}, default=str), encoding="utf-8")
    draft.replace(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
