"""Links from a task instance to what it worked on: its batch, its offsets, Spark's log, Grafana.

Airflow asks for a link when a try of the task has ended, however it ended, and keeps it as XCom `_link_<Class>`; one
that has nothing to show is empty, and the UI then shows no button.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from airflow.providers.standard.decorators.python import _PythonDecoratedOperator
from airflow.sdk import BaseOperatorLink
from airflow.sdk.bases.decorator import task_decorator_factory
from airflow.sdk.configuration import conf
from airflow.sdk.execution_time.xcom import XCom

from clickstream.settings import PageSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

DASHBOARD = "clickstream-pipeline-health"
MARGIN = timedelta(minutes=15)  # shown of Grafana before and after the task


def page_url(**asked: object) -> str:
    """The page `Pipeline health` inside of Airflow's UI, opened at what is asked for."""
    base = conf.get("api", "base_url").rstrip("/")
    return f"{base}/plugin/pipeline-health{urlsplit(base).path}/clickstream/health?{urlencode(asked)}"


class BatchLink(BaseOperatorLink):
    """The batch that `claim` returned in the same run."""

    name = "Batch"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - as its base
        """Return its URL, empty where nothing was claimed."""
        batch_id = XCom.get_one(
            key="return_value", dag_id=ti_key.dag_id, task_id="claim", run_id=ti_key.run_id, map_index=-1
        )
        return "" if batch_id is None else page_url(batch=batch_id)


class OffsetRangeLink(BaseOperatorLink):
    """The offset ranges that the task's run was given to land."""

    name = "Offset range"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return their URL."""
        return page_url(drain_run=ti_key.run_id)


class SparkLogLink(BaseOperatorLink):
    """The log of this very try, which has all that Spark printed."""

    name = "Spark log"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return its URL."""
        base = conf.get("api", "base_url").rstrip("/")
        run = quote(ti_key.run_id, safe="")
        return f"{base}/dags/{ti_key.dag_id}/runs/{run}/tasks/{ti_key.task_id}?try_number={ti_key.try_number}"


class GrafanaLink(BaseOperatorLink):
    """Grafana's dashboard around the task's time."""

    name = "Grafana"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return its URL."""
        # What Airflow passes is the running task instance.
        began: datetime = ti_key.start_date  # type: ignore[attr-defined]
        span = {"from": began - MARGIN, "to": datetime.now(UTC) + MARGIN}
        query = urlencode({name: int(time.timestamp() * 1000) for name, time in span.items()})
        return f"{str(PageSettings().grafana_url).rstrip('/')}/d/{DASHBOARD}?{query}"


GRAFANA = (GrafanaLink(),) if PageSettings().grafana_url else ()
AGGREGATE_LINKS: Sequence[BaseOperatorLink] = (BatchLink(), SparkLogLink(), *GRAFANA)


class _BatchTask(_PythonDecoratedOperator):
    operator_extra_links = (BatchLink(), *GRAFANA)


class _DrainTask(_PythonDecoratedOperator):
    operator_extra_links = (OffsetRangeLink(), *GRAFANA)


# As `airflow.sdk.task`, with the links of a task that works on a batch, or on a drain. Airflow takes links from a
# task's class, so the class of every other TaskFlow task must stay without.
batch_task = partial(task_decorator_factory, decorated_operator_class=_BatchTask)
drain_task = partial(task_decorator_factory, decorated_operator_class=_DrainTask)
