"""Fields that the forms of both DAGs share, and where a run keeps its files."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import Param

PLACE = {
    "account": Param(
        "",
        type="string",
        pattern="^([0-9]{12})?$",
        description="The 12 digits of the AWS account; the credentials must be of it.",
    ),
    "region": Param("eu-central-1", type="string", description="The region of the stacks."),
}
BODY = "preview.md"


def run_folder(run_id: str) -> Path:
    """Where a run's tasks leave templates and previews for each other."""
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "provisioning" / run_id
