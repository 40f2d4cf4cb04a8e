"""Data Docs: pages of what the gate checked, kept under ``home/data_docs``.

The gate drops each result as a file (cheap, and safe from several processes at once); :func:`build` turns what has
gathered into pages, under a lock, and forgets the oldest runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from turnout.quality import GateDecision

log = structlog.get_logger(__name__)

#: Validation results shown; older ones are removed.
KEPT_RESULTS = 200
_PENDING = "pending"
#: Great Expectations keeps its site deep inside its project; people open ``data_docs/index.html``.
_FRONT_PAGE = (
    '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={0}"><a href="{0}">{0}</a>'
)


def facts(decision: GateDecision) -> dict[str, int]:
    """The counts of a decision that the front page sums up."""
    return {
        "rows": decision.rows_checked, "rejected": len({row.index for row in decision.rejected}),
        "stopped": len(decision.stopped), "warnings": len(decision.warnings),
    }  # fmt: skip


def keep(
    folder: Path, run: str, table: str, source: str, results: list[Any], counts: Mapping[str, int] | None = None
) -> None:
    """Write results down for the next :func:`build`.

    Args:
        counts: see :func:`facts`.
    """
    target = folder / _PENDING
    target.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    document = {
        "run": run, "table": table, "source": source, "at": now.isoformat(),
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
        for path in waiting:
            with contextlib.suppress(FileNotFoundError):  # another process took it
                stored += _store(context, path.stem, json.loads(path.read_text(encoding="utf-8")))
        _forget(context, folder)
        if stored:
            # only the new pages, and the index
            context.build_data_docs(resource_identifiers=stored)
        (folder / "index.html").write_text(_FRONT_PAGE.format(index.relative_to(folder).as_posix()), encoding="utf-8")
        for path in waiting:
            path.unlink(missing_ok=True)
    log.info("data docs written", results=len(stored), index=str(index))
    return index


def index_of(folder: Path) -> Path:
    """The index page, whether or not it is there yet."""
    return _site(folder) / "index.html"


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
