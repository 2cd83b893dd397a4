"""What ages: each module is one step of `maintain_storage`, safe to kill, to repeat and to run beside all others."""
