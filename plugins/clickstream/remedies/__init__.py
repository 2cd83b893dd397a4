"""The manual ways out: each shows first what it would do."""
