"""Private buckets: encrypted, versioned, TLS only."""

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.stacks.acknowledgements import acknowledge
from infra.stacks.retention import retention


class PrivateBucket(Construct):
    """A bucket that nobody outside of the account reads, kept when its stack goes."""

    def __init__(self, scope: Construct, construct_id: str, *, name: str, lifecycle: list[s3.LifecycleRule]) -> None:
        super().__init__(scope, construct_id)
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            bucket_name=name,
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            removal_policy=RemovalPolicy.RETAIN,
            lifecycle_rules=[
                *lifecycle,
                s3.LifecycleRule(
                    id="replaced-and-deleted",
                    noncurrent_version_expiration=Duration.days(retention().replaced_objects),
                    expired_object_delete_marker=True,
                ),
                s3.LifecycleRule(
                    id="unfinished-uploads",
                    abort_incomplete_multipart_upload_after=Duration.days(retention().unfinished_uploads),
                ),
            ],
        )
        acknowledge(
            self,
            {
                "S1": "Access logs of a bucket that only the pipeline's roles use would cost more than they tell; "
                "CloudTrail's data events answer who read what, where an account wants that."
            },
        )


def zones_lifecycle() -> list[s3.LifecycleRule]:
    """The archive's rule, the only one for a zone.

    Raw, events, rejected and batches have none: the ledger decides what goes, and `maintain_storage` removes it.
    A rule of S3 knows only an object's age, and would take the files of an open batch or of an hour that is still read.
    """
    kept = retention()
    return [
        s3.LifecycleRule(
            id="archive",
            prefix="archive/",
            expiration=Duration.days(kept.archive),
            transitions=[
                s3.Transition(
                    storage_class=s3.StorageClass.INFREQUENT_ACCESS,
                    transition_after=Duration.days(kept.archive_infrequent),
                )
            ]
            if kept.archive_infrequent < kept.archive
            else [],
        )
    ]
