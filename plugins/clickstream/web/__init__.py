"""What the pipeline serves on Airflow's API server, below `/clickstream`."""

CONNECT_TIMEOUT_SECONDS = 2  # to the ledger: what is served gives up soon instead of holding whoever asks
