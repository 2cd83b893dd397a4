"""What an empty Kafka, PostgreSQL and Airflow need before the pipeline runs; each step may run again at any time."""
