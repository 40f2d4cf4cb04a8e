"""By hand: may Turnout read every platform, with the credentials that Airflow holds?"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from _common import report_run_failure, task_defaults, with_connection

DOC = """
### check_sources

Asks each platform, step by step, whether Turnout may read it, and says what is missing; started by hand only. The same
as `turnout sources check`, with the connections kept in Airflow (`turnout_google_ads`, `turnout_meta_ads`,
`turnout_linkedin_ads`, `turnout_sendgrid`). A source that is not set up is passed over; one that says no fails its
task, whose log names the fix. Nothing is written.
"""

SOURCES = ("google_ads", "meta_ads", "linkedin_ads", "sendgrid")


@dag(
    dag_id="check_sources",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args=task_defaults(timedelta(minutes=15)),
    on_failure_callback=report_run_failure,
    tags=["turnout", "ingestion", "manual"],
    doc_md=DOC,
)
def check_sources() -> None:
    @task
    def check(source: str) -> list[dict[str, Any]]:
        """Test one source from its credentials to each account."""
        from ingestion.connectors.check import report_check
        from turnout.settings import load_settings

        return report_check(source, with_connection(load_settings(), source))

    for source in SOURCES:
        check.override(task_id=source)(source)


check_sources()
