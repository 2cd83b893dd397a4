"""Registers what the pipeline adds to Airflow."""

from airflow.plugins_manager import AirflowPlugin


class ClickstreamPlugin(AirflowPlugin):
    """The library's folder is importable because Airflow puts the plugins folder on the path."""

    name = "clickstream"
