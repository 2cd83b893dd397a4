"""Grafana as code: dashboards and alert rules, built with the Grafana Foundation SDK and committed as files.

``make dashboards`` writes what `infra.monitoring.grafana.files` makes; a test compares both byte for byte.
"""
