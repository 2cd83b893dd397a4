"""`GET /clickstream/metrics`: the pipeline's metrics in Prometheus' text format."""

# No postponed annotations: FastAPI reads them at run time.

from fastapi import APIRouter, Depends, Response
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from clickstream.metrics import LedgerCollector
from clickstream.web.access import require_reader
from clickstream.web.database import ledger_reader

router = APIRouter()


@router.get("/metrics", dependencies=[Depends(require_reader)])
def metrics() -> Response:
    """Return all metrics, as of this moment."""
    return Response(generate_latest(LedgerCollector(ledger_reader)), media_type=CONTENT_TYPE_PLAIN_0_0_4)
