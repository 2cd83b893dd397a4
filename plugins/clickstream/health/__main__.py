"""Check every component now and print each row as a line of JSON: `python -m clickstream.health`.

Runs where Airflow's tasks run and writes nothing to the ledger. Ends with 1 where a component is down.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict

from clickstream.health import installation, run
from clickstream.health.check import Status


def main() -> int:
    """Print the rows; returns the exit code."""
    logging.disable(logging.WARNING)  # standard output is for the rows, and the reasons are in them
    rows = run.run(installation.this())
    for row in rows:
        print(json.dumps(asdict(row)))  # noqa: T201 - a command line's output
    return int(any(row.status == Status.DOWN for row in rows))


if __name__ == "__main__":
    sys.exit(main())
