"""The bucket of templates and code, and what is put into it: each object named by its content, and once."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from clickstream.provisioning.names import DEPLOYMENT, STACKS, TAG

if TYPE_CHECKING:
    from pathlib import Path

    from clickstream.provisioning.deployment import Place
    from clickstream.provisioning.synthesis import Assembly

log = logging.getLogger(__name__)

NO_REGION = "us-east-1"  # the only region whose buckets are made without naming it
EARLIEST = (1980, 1, 1, 0, 0, 0)


def ensure_bucket(place: Place) -> None:
    """Make the bucket if it is missing; private, encrypted, versioned, over TLS only, tagged."""
    s3, bucket = place.client("s3"), place.assets_bucket
    if not _exists(s3, Bucket=bucket):
        where = {} if place.region == NO_REGION else {"LocationConstraint": place.region}
        s3.create_bucket(Bucket=bucket, **({"CreateBucketConfiguration": where} if where else {}))
        log.info("Made the bucket %s", bucket)
    s3.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration=dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
        ),
    )
    s3.put_bucket_encryption(
        Bucket=bucket,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}],
        },
    )
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": TAG, "Value": DEPLOYMENT}]})
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(_tls_only(bucket)))


def upload(assembly: Assembly, place: Place) -> int:
    """Put the assets of all stacks where their manifests say, unless they are there; returns how many were put."""
    s3 = place.client("s3")
    count = 0
    for stack in STACKS:
        for asset in assembly.assets(stack):
            (destination,) = asset["destinations"].values()
            where = {"Bucket": destination["bucketName"], "Key": destination["objectKey"]}
            if _exists(s3, **where):
                continue
            content = _content(assembly.folder / asset["source"]["path"], packaging=asset["source"]["packaging"])
            s3.put_object(**where, Body=content)
            log.info("%s: %s, %s bytes", stack, asset.get("displayName", where["Key"]), f"{len(content):,}")
            count += 1
    return count


def _content(path: Path, *, packaging: str) -> bytes:
    """A file, or a folder as an archive whose bytes depend on nothing but its files."""
    if packaging == "file" or path.is_file():
        return path.read_bytes()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in sorted(one for one in path.rglob("*") if one.is_file()):
            entry = zipfile.ZipInfo(str(file.relative_to(path)), EARLIEST)
            entry.external_attr = (file.stat().st_mode & 0o777) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            zipped.writestr(entry, file.read_bytes())
    return archive.getvalue()


def _exists(s3: Any, **where: str) -> bool:  # noqa: ANN401 - boto3's clients have no types
    """Whether a bucket or an object is there."""
    try:
        (s3.head_object if "Key" in where else s3.head_bucket)(**where)
    except ClientError as error:
        if error.response["Error"]["Code"] in {"404", "NoSuchBucket", "NoSuchKey"}:
            return False
        raise
    return True


def _tls_only(bucket: str) -> dict[str, Any]:
    arn = f"arn:aws:s3:::{bucket}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [arn, f"{arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }
