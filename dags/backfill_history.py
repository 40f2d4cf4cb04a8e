"""By hand: read chosen sources over chosen days, in chunks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Param, TriggerRule, dag, task

from _common import WAREHOUSE, read_source, report_run_failure, run_window, task_defaults

DOC = """
### backfill_history

Reads the sources you choose over the days you choose; started by hand only.

| parameter | meaning |
|---|---|
| `from`, `to` | first and last day, both included (`YYYY-MM-DD`) |
| `sources` | which sources; all six unless said otherwise |
| `chunk_days` | a longer range is cut into chunks of this many days, one mapped task each |

Sheets come first, because they name the events. A chunk that was killed or failed is tried again, and may be cleared
and run again on its own: days are replaced, never added, so the result is the same.

From a terminal: `airflow dags trigger backfill_history --conf '{"from": "2025-04-01", "to": "2026-03-31"}'`.
"""

SHEETS = "spreadsheet"
SOURCES = (SHEETS, "registrations", "google_ads", "meta_ads", "linkedin_ads", "sendgrid")


@dag(
    dag_id="backfill_history",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    params={
        "from": Param(type="string", format="date", description="First day to read."),
        "to": Param(type="string", format="date", description="Last day to read."),
        "sources": Param(
            list(SOURCES), type="array", items={"type": "string", "enum": list(SOURCES)}, minItems=1, uniqueItems=True,
            description="Sources to read.",
        ),
        "chunk_days": Param(366, type="integer", minimum=1, maximum=3660, description="Longest range of one task."),
    },
    default_args=task_defaults(timedelta(hours=2)),
    on_failure_callback=report_run_failure,
    tags=["turnout", "ingestion", "manual"],
    doc_md=DOC,
)  # fmt: skip
def backfill_history() -> None:
    @task
    def chunks(params: dict[str, Any], sheets: bool) -> list[dict[str, str]]:
        """Cut the range into chunks: those of the sheets, or those of everything else."""
        _, window = run_window()
        return [
            {"source": source, "from": str(part.first), "to": str(part.last)}
            for source in params["sources"] if (source == SHEETS) == sheets
            # a sheet is always read whole, so that one chunk is all of it
            for part in ([window] if sheets else window.chunks(params["chunk_days"]))
        ]  # fmt: skip

    @task(map_index_template="{{ task.op_kwargs['piece']['source'] }} {{ task.op_kwargs['piece']['from'] }}")
    def ingest(piece: dict[str, str]) -> dict[str, Any]:
        """Read one source over one chunk."""
        from turnout.runtime.windows import resolve_window
        from turnout.settings import load_settings

        settings = load_settings()
        return read_source(piece["source"], resolve_window(None, piece, settings.zone), settings)

    sheets = ingest.override(task_id="sheets").expand(piece=chunks.override(task_id="sheet_chunks")(sheets=True))
    rest = ingest.override(task_id="ingest", trigger_rule=TriggerRule.ALL_DONE).expand(
        piece=chunks.override(task_id="other_chunks")(sheets=False)
    )
    done = EmptyOperator(task_id="done", outlets=[WAREHOUSE], trigger_rule=TriggerRule.NONE_FAILED)
    sheets >> rest >> done
    sheets >> done


backfill_history()
