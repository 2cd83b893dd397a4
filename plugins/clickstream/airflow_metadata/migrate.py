"""Command line of the counters in Airflow's database: `python -m clickstream.airflow_metadata.migrate up|down|status`.

Connects as libpq does (PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSFILE), as the owner of Airflow's tables, after
`airflow db migrate`. `down 0001` removes the triggers alone; where they are missing (`airflow db reset` takes them
away), it is followed by `up`.
"""

from __future__ import annotations

from pathlib import Path

from clickstream.ledger.migrate import command_line

cli = command_line(Path(__file__).parent / "versions", explanation=__doc__)

if __name__ == "__main__":
    cli()
