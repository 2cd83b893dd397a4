"""The library behind the DAGs: exact micro-batches from Kafka's log to PostgreSQL.

Rooms: `settings` (every setting), `broker` (what Kafka says), `storage` (files), `ledger` (the only truth
about progress, and all SQL), `drain` (log to raw zone), `aggregate` (raw zone to published windows),
`remedies` (the manual ways out), `health` (checks of every component), `airflow_metadata` (counters in Airflow's
database), `metrics` (what Prometheus scrapes), `web` (what is served), `errors` (everything that can stop the
pipeline).
"""

VERSION = "0.1.0"  # as in pyproject.toml
