"""How Spark reaches S3: as the AWS SDKs do, with the credentials that they find by themselves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SCHEME = "s3://"
PREFIX = "spark.hadoop.fs.s3a."


def conf(jars: Path | None) -> dict[str, str]:
    """Spark's configuration for S3A, from the variables of the AWS SDKs; it holds no credential.

    Args:
        jars: Folder with the jars of S3A; None where Spark has them.
    """
    found = {
        f"{PREFIX}aws.credentials.provider": "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider",
        # Output shows only when its whole job has ended; what a task that failed has left is never in a listing.
        "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "1",
    }
    if jars is not None:
        found["spark.jars"] = ",".join(sorted(map(str, jars.glob("*.jar"))))
    if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        found[f"{PREFIX}endpoint.region"] = region
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        found |= {
            f"{PREFIX}endpoint": endpoint,
            f"{PREFIX}path.style.access": "true",
            f"{PREFIX}connection.ssl.enabled": str(endpoint.startswith("https:")).lower(),
        }
    return found
