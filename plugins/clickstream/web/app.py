"""The application that Airflow's API server mounts at `/clickstream`."""

from fastapi import FastAPI

from clickstream.web import health_page, metrics

# No generated documentation: its pages would be open to everyone.
app = FastAPI(title="Clickstream", docs_url=None, redoc_url=None, openapi_url=None)
app.include_router(metrics.router)
app.include_router(health_page.router)
