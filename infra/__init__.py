"""What the pipeline runs on: the embedded stack, the cloud stacks and the monitoring."""
