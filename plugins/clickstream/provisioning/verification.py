"""Whether what was deployed is well, as far as the control Airflow can see: AWS itself."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from clickstream.errors import ComponentsDown
from clickstream.health import installation, run
from clickstream.health.check import Status

if TYPE_CHECKING:
    from clickstream.provisioning.deployment import Place

log = logging.getLogger(__name__)

PREFIX = "aws_"


def check_aws(place: Place) -> None:
    """Run the health checks of AWS.

    Raises:
        ComponentsDown: One is down; with its reason and remedy.
    """
    here = installation.this()
    there = replace(here, settings=here.settings.model_copy(update={"aws_region": place.region}))
    rows = run.run(there, [check for check in run.CHECKS if check.component.startswith(PREFIX)])
    found = "\n".join(f"- [{row.status}] {row.component}: {row.reason}" for row in rows)
    log.info("AWS:\n%s", found)
    if any(row.status == Status.DOWN for row in rows):
        raise ComponentsDown(f"Not all of AWS is well:\n{found}")
