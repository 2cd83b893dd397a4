"""What makes clickstream records: simulated visitors, and access logs of real sites."""
