"""From Kafka's log to the raw zone: plan bounded ranges, land them, commit them."""
