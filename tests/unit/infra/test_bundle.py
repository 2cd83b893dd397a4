import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from infra.local.ports import LOOPBACK, free_ports
from infra.stacks import REPOSITORY
from infra.stacks.bundle import Bundle, lambda_bundle
from tests.kit.aws import Account

# What Lambda's runtime brings.
RUNTIME = ["boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six.py"]
CALL = """
import json, sys
sys.path += sys.argv[1:3]
from clickstream_generator import handler
handler(json.loads(sys.argv[3]), None)
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return lambda_bundle(tmp_path_factory.mktemp("bundles"))


def test_the_handler_runs_from_its_bundle_alone(bundle: Bundle, aws: Account, tmp_path: Path) -> None:
    aws.client("s3").create_bucket(
        Bucket="clickstream", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    for package in RUNTIME:
        (tmp_path / package).symlink_to(Path(sysconfig.get_path("purelib")) / package)
    detail = {"producerId": "burst-1", "eventsPerMinute": 100}
    event = {"time": "2026-11-25T12:00:00Z", "detail": detail}
    done = subprocess.run(
        [sys.executable, "-B", "-I", "-S", "-c", CALL, str(bundle.folder), str(tmp_path), json.dumps(event)],
        env={
            **aws.environment,
            "ARCHIVE_URL": "s3://clickstream/archive",
            "KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{free_ports().kafka}",
            "KAFKA_DELIVERY_TIMEOUT_SECONDS": "1",
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "DeliveryError" in done.stderr, done.stderr
    archived = (
        aws.client("s3")
        .get_object(Bucket="clickstream", Key="archive/clickstream/2026/11/25/12/00-burst-1.json")["Body"]
        .read()
    )
    events = [json.loads(line) for line in archived.splitlines()]
    assert f"{len(events)} of {len(events)} records were not acknowledged" in done.stderr
    assert len(events) > 50


def test_the_bundle_is_small_and_leaves_out_what_lambda_brings(bundle: Bundle) -> None:
    assert sum(path.stat().st_size for path in bundle.folder.rglob("*") if path.is_file()) < 20 * 1024**2
    assert not {path.name for path in bundle.folder.iterdir()} & {*RUNTIME, "bin"}


def test_the_same_content_makes_the_same_bundle(bundle: Bundle, tmp_path: Path) -> None:
    def contents(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    again = lambda_bundle(tmp_path)
    assert again.digest == bundle.digest
    assert contents(again.folder) == contents(bundle.folder)


def test_the_bundle_has_the_versions_that_everything_else_is_tested_with() -> None:
    pins = (REPOSITORY / "lambda" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    everything = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert pins
    assert set(pins) <= set(everything)
