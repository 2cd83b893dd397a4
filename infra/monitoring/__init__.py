"""How the pipeline is watched: Prometheus' rules, Grafana's dashboards and alerts."""
