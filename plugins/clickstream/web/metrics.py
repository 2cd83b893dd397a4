"""`GET /clickstream/metrics`: the pipeline's metrics in Prometheus' text format."""

# No postponed annotations: FastAPI reads them at run time.

from collections.abc import Iterable
from pathlib import Path

from airflow.utils.session import create_session
from fastapi import APIRouter, Depends, Response
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from clickstream.airflow_metadata import figures as airflow_figures
from clickstream.ledger import metrics as ledger_figures
from clickstream.metrics import airflow_families, disk_families, ledger_families
from clickstream.metrics.collector import Exporter
from clickstream.orchestration import connection
from clickstream.settings import MetricsSettings, settings
from clickstream.storage import LOCAL
from clickstream.web import CONNECT_TIMEOUT_SECONDS
from clickstream.web.access import require_reader

router = APIRouter()


def _ledger() -> Iterable[Metric]:
    with connection(timeout_seconds=CONNECT_TIMEOUT_SECONDS) as conn:
        return ledger_families.families(ledger_figures.read(conn))


def _airflow() -> Iterable[Metric]:
    with create_session() as session:
        return airflow_families.families(airflow_figures.read(session))


def _disks() -> Iterable[Metric]:
    current = settings()
    volumes = {"database": current.database_folder} if current.database_folder else {}
    if current.storage_url.startswith(LOCAL):
        volumes["storage"] = Path(current.storage_url.removeprefix(LOCAL))
    return disk_families.families(volumes)


SOURCES = {"The ledger": _ledger, "Airflow's database": _airflow, "The disk": _disks}


@router.get("/metrics", dependencies=[Depends(require_reader)])
def metrics() -> Response:
    """Return all metrics, as of this moment."""
    exporter = Exporter(SOURCES, revision=MetricsSettings().revision)
    return Response(generate_latest(exporter), media_type=CONTENT_TYPE_PLAIN_0_0_4)
