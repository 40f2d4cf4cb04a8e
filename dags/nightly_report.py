"""Every morning at 06:30: one message about the night."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, dag, task

from _common import report_run_failure, run_window, task_defaults
from turnout.settings import load_settings

DOC = """
### nightly_report

At 06:30 in the installation's time zone (`TURNOUT_TIME_ZONE`): one message over Slack and e-mail about what failed, was
stopped, went to quarantine or is odd, the most expensive first. It waits for nobody: a run that failed, hangs or
never began is in it.

Once a night and channel: running it again sends nothing, unless there is something new to tell. Without
`TURNOUT_SLACK_WEBHOOK_URL`, or `TURNOUT_SMTP_URL` and `TURNOUT_ALERT_TO`, it is only logged. A quiet night sends
nothing, unless `TURNOUT_ALERT_WHEN_QUIET` is true. The same by hand: `turnout report night --send`.
"""


@dag(
    dag_id="nightly_report",
    schedule=CronDataIntervalTimetable("30 6 * * *", timezone=load_settings().time_zone),
    start_date=datetime(2020, 1, 1),  # noqa: DTZ001 - Airflow reads it in its default time zone, which is ours
    catchup=False,
    max_active_runs=1,
    default_args=task_defaults(timedelta(minutes=15)),
    on_failure_callback=report_run_failure,
    tags=["turnout", "alerts"],
    doc_md=DOC,
)
def nightly_report() -> None:
    @task
    def report() -> dict[str, Any]:
        """Send the message about the night that ended this morning."""
        from turnout.nightly_report import send_nightly_report

        settings, window = run_window()
        sent = send_nightly_report(settings, window.last)
        return {"night": str(window.last), "sent": sent.channels, "reason": sent.reason}

    report()


nightly_report()
