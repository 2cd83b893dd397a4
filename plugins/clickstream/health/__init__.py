"""Health checks: one module a component; `run.CHECKS` lists them all."""
