"""The installation that a task of Airflow runs in."""

from __future__ import annotations

from typing import Any

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.providers.postgres.hooks.postgres import PostgresHook  # noqa: F401 - loaded before the clocks run
from airflow.sdk.configuration import conf

from clickstream.aggregate.spark import master_url
from clickstream.health.check import Installation
from clickstream.health.spark import DEFAULT_UI_PORT, Master
from clickstream.orchestration import SPARK, connection
from clickstream.settings import settings

CONNECT_TIMEOUT_SECONDS = 5


def this() -> Installation:
    """The installation as Airflow's configuration, its connections and the settings describe it."""
    return Installation(
        settings=settings(),
        connect=lambda: connection(timeout_seconds=CONNECT_TIMEOUT_SECONDS),
        spark=_spark,
        airflow_url=lambda: str(conf.get("api", "base_url")).rstrip("/"),
    )


def _spark() -> Master:
    defined: Any = SparkSubmitHook.get_connection(SPARK)
    return Master(
        url=master_url(),
        ui_port=int(defined.extra_dejson.get("webui-port", DEFAULT_UI_PORT)),
    )
