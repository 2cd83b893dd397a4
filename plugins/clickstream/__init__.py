"""The library behind the DAGs: exact micro-batches from Kafka's log to PostgreSQL.

Rooms: `settings` (every setting), `broker` (what Kafka says), `storage` (files), `ledger` (the only truth about
progress; all SQL on it and on the results), `drain` (log to raw zone), `aggregate` (raw zone to published windows),
`remedies` (the manual ways out), `health` (checks of every component), `airflow_metadata` (counters in Airflow's
database, and all SQL on it), `metrics` (what Prometheus scrapes), `web` (what Airflow's API server serves), `links` (of
tasks in the UI), `orchestration` (what all DAGs share), `errors` (everything that can stop the pipeline).
"""

VERSION = "0.1.0"  # as in pyproject.toml
