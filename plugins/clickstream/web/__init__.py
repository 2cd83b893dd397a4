"""What the pipeline serves on Airflow's API server, below `/clickstream`."""
