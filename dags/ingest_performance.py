"""Every night: read again what the platforms, the e-mail service and the organiser's sheets say."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import CronDataIntervalTimetable, TriggerRule, dag, task

from _common import WAREHOUSE, read_source, report_run_failure, run_window, task_defaults
from turnout.settings import load_settings

DOC = """
### ingest_performance

Reads the inbox once per source, every night at 02:00 in the installation's time zone (`TURNOUT_TIME_ZONE`).

Platforms restate their figures for weeks, so each source is read again over its look-back window
(`TURNOUT_LOOKBACK_DAYS`, e.g. 30 days for Google Ads). Rows of a day are **replaced**, never added: running this
twice, after a crash or over days that were read before leaves the same data.

The organiser's sheets come first, because they name the events; the other sources follow even if a sheet is broken, and
tie themselves to what is there. A row the gate refuses goes to quarantine (`turnout quarantine list`); a source whose
data fails as a whole stops itself, keeps yesterday's data, and makes this run fail at the end.

* **By hand:** *Trigger* reads up to now. For given days use `backfill_history`, or
  `airflow backfill create --dag-id ingest_performance --from-date … --to-date …` for one run per day.
* **After it:** `refresh_features` starts by itself.
"""

#: After the spreadsheet, which names the events.
FOLLOWING = ("registrations", "google_ads", "meta_ads", "linkedin_ads", "sendgrid")


@dag(
    dag_id="ingest_performance",
    schedule=CronDataIntervalTimetable("0 2 * * *", timezone=load_settings().time_zone),
    start_date=datetime(2020, 1, 1),  # noqa: DTZ001 - Airflow reads it in its default time zone, which is ours
    catchup=False,
    max_active_runs=1,
    default_args=task_defaults(timedelta(hours=1)),
    on_failure_callback=report_run_failure,
    tags=["turnout", "ingestion"],
    doc_md=DOC,
)
def ingest_performance() -> None:
    @task
    def ingest(source: str) -> dict[str, Any]:
        """Read one source over its look-back window."""
        settings, window = run_window()
        return read_source(source, window.looking_back(settings.lookback_days[source]), settings)

    first = ingest.override(task_id="spreadsheet")("spreadsheet")
    others = [ingest.override(task_id=source, trigger_rule=TriggerRule.ALL_DONE)(source) for source in FOLLOWING]
    done = EmptyOperator(task_id="done", outlets=[WAREHOUSE])
    first >> others >> done
    first >> done


ingest_performance()
