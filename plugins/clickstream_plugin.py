"""Registers what the pipeline adds to Airflow."""

from typing import Any

from airflow.plugins_manager import AirflowPlugin


async def routes(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - an ASGI application
    """Load the routes with the first request: every process of Airflow imports this file, one serves them."""
    from clickstream.web.app import app  # noqa: PLC0415

    await app(scope, receive, send)


class ClickstreamPlugin(AirflowPlugin):
    """The library's folder is importable because Airflow puts the plugins folder on the path."""

    name = "clickstream"
    fastapi_apps = [{"app": routes, "url_prefix": "/clickstream", "name": "Clickstream"}]  # noqa: RUF012 - as its base
    external_views = [  # noqa: RUF012
        {
            "name": "Pipeline health",
            "href": "clickstream/health",
            "destination": "nav",
            "url_route": "pipeline-health",
            "nav_top_level": True,
            "icon": "clickstream/static/icon.svg",
        }
    ]
