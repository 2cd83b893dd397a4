"""Command line of the counters in Airflow's database: `python -m clickstream.airflow_metadata.migrate up|down|status`.

Connects as libpq does, as the owner of Airflow's tables, after `airflow db migrate`. After `airflow db reset`, which
takes the triggers away, run `down base` and `up`.
"""

from __future__ import annotations

from pathlib import Path

from clickstream.ledger.migrate import command_line

cli = command_line(Path(__file__).parent / "versions", explanation=__doc__)

if __name__ == "__main__":
    cli()
