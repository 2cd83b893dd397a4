"""The pipeline's metrics: every name with its unit and meaning, read from the databases at each scrape."""
