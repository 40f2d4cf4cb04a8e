"""What past events are worth: accuracy on the same later events after 0, 5, 20, 100 and 1,000 of them.

One simulated world is ingested; for each size the history of so many past events is copied to an organisation of its
own, with the later events to be predicted. Features and demand forecasts are computed there anew, as of the day on
which all later events are asked for, so nothing of the other events reaches them. Small histories differ by luck: of
those several are drawn (:data:`DRAWS`), one after the other back from that day.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine

from turnout.cli.worlds import Progress, WorldSpec, ingested, organisation_settings, workshop
from turnout.settings import Settings

if TYPE_CHECKING:
    from training.dataset import Dataset

#: Past events, and how many histories of that size are drawn.
DRAWS: Mapping[int, int] = {0: 1, 5: 4, 20: 3, 100: 2, 1000: 1}
#: Later events that are predicted.
TEST_EVENTS = 150


def learning_curve(
    settings: Settings,
    *,
    seed: int,
    progress: Progress,
    fresh: bool = False,
    draws: Mapping[int, int] | None = None,
    test_events: int = TEST_EVENTS,
) -> list[dict[str, Any]]:
    """Per size: past_events, accuracy of ours and each yardstick, attainable_accuracy, coverage_90, test_events."""
    from turnout.warehouse.engine import create_engine

    draws = draws or DRAWS
    largest = max(draws)
    spec = WorldSpec(seed, events=largest + test_events, months=24)
    with ExitStack() as stack:
        ready = stack.enter_context(workshop(settings))
        own, folder = ingested(ready, spec, progress, keep_in=settings, fresh=fresh)
        truth = json.loads((folder / "events.json").read_text(encoding="utf-8"))
        engine = create_engine(own)
        stack.callback(engine.dispose)
        dates = _dates(own, engine, spec.until + timedelta(days=1))
        cut = dates.iloc[-test_events].date()
        later = dates.index[dates >= pd.Timestamp(cut)]
        earlier = dates.index[dates < pd.Timestamp(cut)]
        points = []
        for size, count in sorted(draws.items()):
            runs = []
            for draw in range(count):
                end = len(earlier) - draw * size
                if size and end < size:
                    break
                progress(f"{size:,} past events, history {draw + 1}/{count}")
                chosen = [*earlier[end - size : end], *later]
                runs.append(_measure(ready, own, engine, f"{size}-{draw}", chosen, cut, truth))
            if runs:
                points.append({"past_events": size, "histories": len(runs), **_mean(runs)})
    return points


def _dates(settings: Settings, engine: Engine, until: date) -> pd.Series:
    from training.dataset import load_history

    events = load_history(settings, until, engine=engine).events
    return events["event_date"][events["registrations"].notna()]


def _measure(
    ready: Settings,
    source: Settings,
    engine: Engine,
    name: str,
    chosen: Sequence[str],
    cut: date,
    truth: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    from training import backtest
    from training.evaluation import measures
    from turnout.cli import snapshots

    organisation = f"{source.organisation}-{name}"
    snapshots.copy_events(engine, source.organisation, organisation, chosen)
    settings = organisation_settings(ready, organisation, Path(source.inbox_path))
    dataset = _dataset(settings, engine, cut)
    end = dataset.history.events["event_date"].max() + pd.Timedelta(days=1)
    earlier = backtest.run(dataset.before(cut), seed=settings.random_seed, threads=settings.threads)
    found = backtest.hold_out(
        dataset, pd.Timestamp(cut), end, seed=settings.random_seed, threads=settings.threads, spread=earlier.spread
    )
    assert found is not None, "a learning curve has later events"
    expected = measures.true_expectations(dataset.history.events, truth)
    summary = measures.summary([measures.Tested(found, None, expected)])
    return {
        "accuracy": {name: row["accuracy"] for name, row in summary["yardsticks"].items()},
        "attainable_accuracy": summary["attainable_accuracy"],
        "coverage_90": summary["coverage_90"],
        "test_events": summary["test_events"],
    }


def _dataset(settings: Settings, engine: Engine, cut: date) -> Dataset:
    """Rows of past and later events; what is known of the later ones is what was known on the morning of ``cut``."""
    from feature_repo import build as features
    from feature_repo import store
    from training import demand
    from training.dataset import assemble, load_history, with_features
    from turnout.money import Rates

    dataset = assemble(load_history(settings, date.max, engine=engine), Rates.of(settings))
    start = features.history_start(settings, cut)
    if start is not None and start < cut:
        features.refresh(settings, cut, start)
    store.apply(settings)
    past = dataset.before(cut)
    if len(past.history.events):
        trained = demand.fit(past, cut, country=settings.country, seed=settings.random_seed)
        demand.publish(settings, engine, trained, "evaluation")
    planned = dataset.rows["as_of"]
    known = planned.where(planned <= pd.Timestamp(cut), pd.Timestamp(cut))
    capped = with_features(settings, replace(dataset, rows=dataset.rows.assign(as_of=known)))
    return replace(capped, rows=capped.rows.assign(as_of=planned.to_numpy()))


def _mean(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = list(runs[0]["accuracy"])
    return {
        "accuracy": {n: round(float(np.mean([r["accuracy"][n] for r in runs])), 4) for n in names},
        "attainable_accuracy": runs[0]["attainable_accuracy"],
        "coverage_90": round(float(np.mean([r["coverage_90"] for r in runs])), 4),
        "test_events": runs[0]["test_events"],
    }
