"""What only the simulation knows, written apart from the inbox: for evaluation, never for learning.

``manifest.json``       seed and configuration, hardness, every file with its SHA-256; written last
``events.json``         per event: code, name, day, attributes, assets, demand, expected and true totals
``event_tactic.parquet`` per event and tactic used: amount, start, expected and true registrations, shock, claims
``parameters.json``     the tactics' true parameters, changes of efficiency, effects
``mess.json``           every fault in the files
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from turnout.errors import InputError, Problem
from turnout.simulation.exports import Exporter
from turnout.simulation.history import History
from turnout.simulation.world import World, WorldConfig

MANIFEST = "manifest.json"
_FORMAT = 1


def truth_files(history: History, exporter: Exporter) -> dict[str, bytes]:
    """The files of the truth, without the manifest."""
    return {
        "events.json": _json(_events(history)),
        "event_tactic.parquet": _parquet(event_tactic(history, exporter)),
        "parameters.json": _json(_parameters(history.world)),
        "mess.json": _json(exporter.log.plain()),
    }


def manifest(config: WorldConfig, **more: Any) -> bytes:
    """The manifest; ``more`` are further entries."""
    described = {**asdict(config), "until": config.until.isoformat(), "fx_rates": dict(config.fx_rates)}
    return _json({"format": _FORMAT, "is_simulated": True, "config": described, **more})


def load_world(truth: Path) -> World:
    """The world whose truth is in this folder, drawn again from its manifest.

    Raises:
        InputError: the folder holds no manifest of this format.
    """
    path = truth / MANIFEST
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        config = WorldConfig(**{**entry["config"], "until": date.fromisoformat(entry["config"]["until"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = Problem("no_manifest", f"{path} is not a manifest of `turnout simulate`: {error}")
        raise InputError([problem]) from error
    return World(config)


def event_tactic(history: History, exporter: Exporter) -> pd.DataFrame:
    """One row per event and tactic used. Money in yen; ``labelled`` is what clean registration lists say."""
    world, spending = history.world, history.spending
    e, t = np.nonzero(spending.used)
    claimed = np.zeros(spending.amount.shape)
    np.add.at(claimed, (history.ads.event, history.ads.tactic), history.ads.claimed)
    codes, names = (np.array([getattr(x, k) for x in world.events], dtype=object) for k in ("code", "name"))
    starts = world.dates[e] - spending.starts[e, t].astype("timedelta64[D]")
    ends = world.dates[e] - spending.ends[e, t].astype("timedelta64[D]")
    return pd.DataFrame(
        {
            "event_code": codes[e],
            "event_name": names[e],
            "event_date": world.dates[e].astype(str).astype(object),
            "organiser": np.array([o.folder for o in world.organisers], dtype=object)[world.organiser_index[e]],
            "tactic_id": np.array(world.tactics, dtype=object)[t],
            "is_paid": world.prices.is_paid[t],
            "amount": spending.amount[e, t],
            "spend": history.spend[e, t],
            "staff_hours": spending.staff_hours[e, t],
            "starts": starts.astype(str).astype(object),
            "ends": ends.astype(str).astype(object),
            "expected_alone": history.expected.alone[e, t],
            "expected": history.expected.tactics[e, t],
            "event_shock": history.event_shock[e],
            "tactic_shock": history.tactic_shock[e, t],
            "registrations": history.tactic_count[e, t],
            "labelled": exporter.labelled[e, t],
            "claimed": claimed[e, t],
            "reach": history.reach[e, t],
            "clicks": history.clicks[e, t],
            "campaign": [exporter.campaigns.get((int(i), int(k))) for i, k in zip(e, t, strict=True)],
        }
    )


def _events(history: History) -> list[dict[str, Any]]:
    world, who = history.world, history.registrations
    known = np.bincount(who.event[who.attended >= 0], minlength=len(world.events))
    attended = np.bincount(who.event[who.attended == 1], minlength=len(world.events))
    cancelled = np.bincount(who.event[~who.is_confirmed], minlength=len(world.events))
    return [
        {
            "code": e.code,
            "name": e.name,
            "date": e.date.isoformat(),
            "organiser": world.organisers[e.organiser].folder,
            "category": e.category,
            "theme": e.theme,
            "format": e.format,
            "price": e.price,
            "opens": (e.date - pd.Timedelta(days=e.opens_before)).isoformat()[:10],
            "job_titles": list(e.job_titles),
            "industries": list(e.industries),
            "company_sizes": list(e.company_sizes),
            "assets": dict(e.assets),
            "target": int(history.target[e.index]),
            "budget": int(history.spending.budget[e.index]),
            "spend": float(history.spend[e.index].sum()),
            "demand": float(world.demand[e.index]),
            "season": float(world.season[e.index]),
            "event_shock": float(history.event_shock[e.index]),
            "expected_organic": float(history.expected.organic[e.index]),
            "expected": float(history.expected.total[e.index]),
            "organic": int(history.organic_count[e.index]),
            "registrations": int(history.total_count[e.index]),
            "cancelled": int(cancelled[e.index]),
            "attendance_known": int(known[e.index]),
            "attended": int(attended[e.index]),
        }
        for e in world.events
    ]


def _parameters(world: World) -> dict[str, Any]:
    return {
        "tactics": [
            {
                "id": m.id,
                "shape": m.shape.name,
                "is_s_shaped": m.is_s_shaped,
                "top": float(world.base_top[t]),
                "half": float(world.base_half[t]),
                "power": float(world.power[t]),
                "decay": float(world.decay[t]),
                "lead_days": float(world.lead[t]),
                "elasticity": float(world.elasticity[t]),
                "reach": [float(r) for r in world.reach[t]],
                "feeds_on_others": bool(world.feeds_on_others[t]),
                "audience_effect_sd": float(world.audience_effect[:, t].std()),
            }
            for t, m in enumerate(world.mechanisms)
        ],
        "changes": [{"tactic": c.tactic, "day": c.day.isoformat(), "factor": c.factor} for c in world.changes],
        "organisers": [
            {"folder": o.folder, "name": o.name, "strength": o.strength, "assets": dict(o.assets)}
            for o in world.organisers
        ],
    }


def _json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode("utf-8")


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow", index=False, compression="zstd")
    return buffer.getvalue()
