"""Data Docs: pages of what the gate checked, kept under ``home/data_docs``.

The gate drops each result as a file (cheap, and safe from several processes at once); :func:`build` turns what has
gathered into pages, under a lock, and forgets the oldest runs. The front page sums up each night by source, and links
to Great Expectations' own index and to the pages of :func:`add_page`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from html import escape, unescape
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from turnout.quality import GateDecision

log = structlog.get_logger(__name__)

#: Validation results shown; older ones are removed.
KEPT_RESULTS = 200
_PENDING = "pending"
#: What was checked, one line a frame, kept for the front page: it outlives the pages of single results.
_LOG = "checked.jsonl"
#: Nights the front page shows.
KEPT_NIGHTS = 60
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1c2530}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.3rem .7rem;border-bottom:1px solid #dde3ea}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}td.bad{color:#b3261e;font-weight:600}"
    "td.odd{color:#8a5a00}h2{margin-top:2.2rem;font-size:1.1rem}a{color:#0b57d0}"
)


def facts(decision: GateDecision) -> dict[str, int]:
    """The counts of a decision that the front page sums up."""
    return {
        "rows": decision.rows_checked, "rejected": len({row.index for row in decision.rejected}),
        "stopped": len(decision.stopped), "warnings": len(decision.warnings),
    }  # fmt: skip


def keep(
    folder: Path,
    run: str,
    table: str,
    source: str,
    results: list[Any],
    counts: Mapping[str, int] | None = None,
    zone: ZoneInfo | None = None,
) -> None:
    """Write results down for the next :func:`build`.

    Args:
        counts: see :func:`facts`.
        zone: whose calendar days the front page has.
    """
    target = folder / _PENDING
    target.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    document = {
        "run": run, "table": table, "source": source, "at": now.isoformat(),
        "day": now.astimezone(zone or UTC).date().isoformat(),
        "counts": dict(counts or {}), "results": [result.to_json_dict() for result in results],
    }  # fmt: skip
    name = f"{now:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}"
    draft = target / f"{name}.draft"
    draft.write_text(json.dumps(document, ensure_ascii=False, default=str), encoding="utf-8")
    draft.rename(target / f"{name}.json")
    waiting = sorted(target.glob("*.json"))
    for old in waiting[: max(len(waiting) - KEPT_RESULTS, 0)]:
        old.unlink(missing_ok=True)


def pending(folder: Path) -> Iterator[Path]:
    """Result files that are not in the pages yet, oldest first."""
    return iter(sorted((folder / _PENDING).glob("*.json")))


def build(folder: Path) -> Path | None:
    """Bring the pages up to date; returns the index page, ``None`` while nothing was ever checked."""
    waiting = list(pending(folder))
    index = index_of(folder)
    if not waiting:
        return index if index.exists() else None
    with _alone(folder):
        context = _context(folder)
        stored = []
        documents = []
        for path in waiting:
            with contextlib.suppress(FileNotFoundError):  # another process took it
                documents.append(json.loads(path.read_text(encoding="utf-8")) | {"name": path.stem})
        for document in documents:
            stored += _store(context, document["name"], document)
        _note(folder, documents)
        _forget(context, folder)
        if stored:
            # only the new pages, and the index
            context.build_data_docs(resource_identifiers=stored)
        _write_front_page(folder)
        for path in waiting:
            path.unlink(missing_ok=True)
    log.info("data docs written", results=len(stored), index=str(index))
    return index


def index_of(folder: Path) -> Path:
    """The index page, whether or not it is there yet."""
    return _site(folder) / "index.html"


def _note(folder: Path, documents: list[dict[str, Any]]) -> None:
    """Add frames to the log of what was checked, each once, and forget nights long past."""
    known = {entry["name"]: entry for entry in _noted(folder)}
    for document in documents:
        known[document["name"]] = {
            "name": document["name"], "at": document["at"], "day": document.get("day"), "table": document["table"],
            "source": document["source"],
            "failed": [
                f"{result.get('suite_name')}: {outcome['expectation_config'].get('meta', {}).get('code', '?')}"
                for result in document["results"] for outcome in result.get("results", []) if not outcome["success"]
            ],
            **document.get("counts", {}),
        }  # fmt: skip
    entries = sorted(known.values(), key=lambda entry: entry["at"])
    nights = sorted({_day(entry) for entry in entries})[-KEPT_NIGHTS:]
    kept = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries if _day(entry) in nights]
    draft = folder / f"{_LOG}.draft"
    draft.write_text("".join(kept), encoding="utf-8")
    draft.replace(folder / _LOG)


def _day(entry: dict[str, Any]) -> str:
    """The day of a check, in the installation's time zone."""
    return str(entry.get("day") or entry["at"][:10])


def _noted(folder: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = (folder / _LOG).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        with contextlib.suppress(ValueError):  # half a line of a process that was killed
            yield json.loads(line)


def _write_front_page(folder: Path) -> None:
    """``index.html``: each night by source with its totals, newest first, and links to everything else."""
    nights: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    for entry in _noted(folder):
        line = nights.setdefault(_day(entry), {}).setdefault(
            (entry["source"] or "–", entry["table"]),
            {"frames": 0, "rows": 0, "rejected": 0, "stopped": 0, "warnings": 0, "failed": set()},
        )
        line["frames"] += 1
        for name in ("rows", "rejected", "stopped", "warnings"):
            line[name] += int(entry.get(name, 0))
        line["failed"].update(failed.split(": ", 1)[1] for failed in entry.get("failed", []))
    index = (_site(folder) / "index.html").relative_to(folder).as_posix()
    links = [f'<li><a href="{escape(index)}">Great Expectations: every result</a></li>']
    links += [
        f'<li><a href="{escape(page.name)}">{escape(title)}</a></li>' for page, title in pages(folder)
    ]  # fmt: skip
    body = "".join(_night(night, nights[night]) for night in sorted(nights, reverse=True))
    _write(folder / "index.html", "Turnout: checks", f"<h1>Checks</h1><ul>{''.join(links)}</ul>{body}")


def _night(night: str, lines: dict[tuple[str, str], dict[str, Any]]) -> str:
    names = ("frames", "rows", "rejected", "stopped", "warnings")
    head = "".join(f'<th class="n">{name}</th>' for name in names)
    rows = []
    for (source, table), line in sorted(lines.items()):
        cells = "".join(
            f'<td class="n{" bad" if name in ("rejected", "stopped") and line[name] else ""}'
            f'{" odd" if name == "warnings" and line[name] else ""}">{line[name]:,}</td>'
            for name in names
        )
        failed = escape(", ".join(sorted(line["failed"])))
        rows.append(f"<tr><td>{escape(source)}</td><td>{escape(table)}</td>{cells}<td>{failed}</td></tr>")
    total = "".join(f'<th class="n">{sum(line[name] for line in lines.values()):,}</th>' for name in names)
    return (
        f"<h2>{escape(night)}</h2><table><tr><th>source</th><th>table</th>{head}<th>checks that failed</th></tr>"
        f"{''.join(rows)}<tr><th>all</th><th></th>{total}<th></th></tr></table>"
    )


def pages(folder: Path) -> list[tuple[Path, str]]:
    """Pages beside the front page, by name, with their titles: those of :func:`add_page` and other stages' own."""
    found = []
    for page in sorted(folder.glob("*.html")):
        if page.name == "index.html" or page.name.startswith("."):
            continue
        title = _TITLE.search(page.read_text(encoding="utf-8", errors="replace")[:4000])
        found.append((page, unescape(title[1]).strip() if title else page.stem))
    return found


def add_page(folder: Path, name: str, title: str, body: str) -> Path:
    """Put an extra page beside the front page, which links to it; the same name replaces the page.

    Args:
        name: of the file, without ending: letters, digits, ``-`` and ``_``.
        body: HTML; what comes from data must be escaped.

    Raises:
        ValueError: the name is not one, or the front page's.
    """
    if not _NAME.fullmatch(name) or name == "index":
        raise ValueError(f"{name!r} is no name of a page; use letters, digits, - and _")
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        _write(folder / f"{name}.html", title, body)
        if (folder / _LOG).exists():
            _write_front_page(folder)
    return folder / f"{name}.html"


def _write(path: Path, title: str, body: str) -> None:
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(
        f'<!doctype html><html><head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head>'
        f"<body>{body}</body></html>",
        encoding="utf-8",
    )
    draft.replace(path)


_TITLE = re.compile(r"<title>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")


def _site(folder: Path) -> Path:
    return folder / "gx" / "uncommitted" / "data_docs" / "local_site"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _context(folder: Path) -> Any:
    import great_expectations as gx

    context = gx.get_context(mode="file", project_root_dir=str(folder))
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    return context


def _store(context: Any, name: str, document: dict[str, Any]) -> list[Any]:
    from great_expectations.core.expectation_validation_result import expectationSuiteValidationResultSchema
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.resource_identifiers import (
        ExpectationSuiteIdentifier,
        ValidationResultIdentifier,
    )

    run = RunIdentifier(run_name=document["run"], run_time=datetime.fromisoformat(document["at"]))
    keys = []
    for stated in document["results"]:
        result = expectationSuiteValidationResultSchema.load(stated)
        result.meta["run_id"] = run
        key = ValidationResultIdentifier(
            expectation_suite_identifier=ExpectationSuiteIdentifier(name=result.suite_name),
            run_id=run,
            batch_identifier=f"{document['source'] or document['table']}-{name[-8:]}",
        )
        context.validation_results_store.set(key, result)
        keys.append(key)
    return keys


def _forget(context: Any, folder: Path) -> None:
    """Remove the oldest results and their pages."""
    store = context.validation_results_store
    keys = sorted(store.list_keys(), key=lambda key: str(key.run_id.run_time))
    for key in keys[: max(len(keys) - KEPT_RESULTS, 0)]:
        store.remove_key(key)
        page = (_site(folder) / "validations").joinpath(*key.to_tuple())
        page.with_name(f"{page.name}.html").unlink(missing_ok=True)
