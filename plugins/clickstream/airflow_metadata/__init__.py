"""Airflow's own database: counters that its tables feed as tasks and runs finish, and what the metrics read of it."""
