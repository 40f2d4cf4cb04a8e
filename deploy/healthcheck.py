"""Health of a container, for Docker: exit code 0 when an address answers well.

Usage: ``python healthcheck.py URL [PART]``. With PART the answer must be JSON in which that part's status is healthy,
as Airflow's ``/api/v2/monitor/health`` says of its scheduler, dag_processor and triggerer.
"""

import json
import sys
import urllib.request


def main(url: str, part: str | None = None) -> int:
    """0 when healthy, 1 with the reason on stderr when not."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - the address stands in the compose file
            body = answer.read()
    except OSError as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    if part is None:
        return 0
    state = (json.loads(body).get(part) or {}).get("status")
    if state != "healthy":
        print(f"{part} is {state}", file=sys.stderr)
    return int(state != "healthy")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
