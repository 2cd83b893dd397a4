"""Airflow's connections of the host, in Secrets Manager, where its secrets backend looks for them."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from clickstream.errors import ProvisioningRefused
from clickstream.orchestration import DATABASE, SPARK
from clickstream.provisioning.names import DEPLOYMENT, TAG

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clickstream.provisioning.deployment import Place

log = logging.getLogger(__name__)

PREFIX = "clickstream/airflow/connections"
WRITER = "clickstream/database/clickstream_writer"
SCHEMA = "clickstream"


def write(place: Place, outputs: Mapping[str, str]) -> list[str]:
    """Write the connections from the stacks' outputs and the generated passwords; returns the secrets' names.

    Raises:
        ProvisioningRefused: An output or the writer's password is missing.
    """
    secrets = place.client("secretsmanager")
    try:
        host, port = outputs["DatabaseEndpoint"], int(outputs["DatabasePort"])
    except KeyError as missing:
        raise ProvisioningRefused(
            f"The stacks have no output {missing}. Clear the task `preview`, and deploy."
        ) from None
    writer = _account(secrets)
    content: dict[str, dict[str, Any]] = {
        DATABASE: {"conn_type": "postgres", "host": host, "port": port, "schema": SCHEMA, "login": writer["username"],
                   "password": writer["password"]},
        SPARK: {"conn_type": "spark", "host": "spark://spark-master", "port": 7077, "extra": {"webui-port": "8080"}},
    }  # fmt: skip
    for connection, definition in content.items():
        _put(secrets, f"{PREFIX}/{connection}", json.dumps(definition))
    return [f"{PREFIX}/{connection}" for connection in content]


def _account(secrets: Any) -> dict[str, str]:  # noqa: ANN401 - boto3's clients have no types
    try:
        return dict(json.loads(secrets.get_secret_value(SecretId=WRITER)["SecretString"]))
    except secrets.exceptions.ResourceNotFoundException:
        raise ProvisioningRefused(f"Secrets Manager has no secret {WRITER}, which InfrastructureStack makes.") from None


def _put(secrets: Any, name: str, value: str) -> None:  # noqa: ANN401
    """Make a secret, take it back from its deletion, or give it a new value."""
    try:
        found = secrets.describe_secret(SecretId=name)
    except secrets.exceptions.ResourceNotFoundException:
        secrets.create_secret(Name=name, SecretString=value, Tags=[{"Key": TAG, "Value": DEPLOYMENT}])
        log.info("Made the secret %s", name)
        return
    if "DeletedDate" in found:
        secrets.restore_secret(SecretId=name)
    secrets.put_secret_value(SecretId=name, SecretString=value)
    log.info("Wrote the secret %s", name)


def delete(place: Place) -> list[str]:
    """Delete the connections, which no stack has made; Secrets Manager keeps them for a week. Returns their names."""
    secrets = place.client("secretsmanager")
    pages = secrets.get_paginator("list_secrets").paginate(Filters=[{"Key": "name", "Values": [PREFIX]}])
    names = [found["Name"] for page in pages for found in page["SecretList"]]
    for name in names:
        secrets.delete_secret(SecretId=name, RecoveryWindowInDays=7)
    return names
