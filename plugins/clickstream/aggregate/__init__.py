"""From the raw zone to published windows: claim a batch, run Spark as a new attempt, publish."""
