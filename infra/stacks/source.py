"""The project's source as an asset, which the host unpacks and builds its images from."""

from pathlib import Path

from aws_cdk import IgnoreMode
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from infra.stacks import REPOSITORY

CONTENTS = [
    "dags",
    "plugins",
    "spark_apps",
    "lambda",
    "docker",
    "infra/__init__.py",
    "infra/periods.py",
    "infra/bootstrap",
    "infra/monitoring",
    "docs/runbooks",
    "requirements.txt",
    "pyproject.toml",
]


def source_asset(scope: Construct, construct_id: str) -> s3_assets.Asset:
    """Make the asset; its hash is that of the contents, so that it changes only when the host's files do."""
    parents = {Path(path).parts[0] for path in CONTENTS if "/" in path}
    return s3_assets.Asset(
        scope,
        construct_id,
        path=str(REPOSITORY),
        ignore_mode=IgnoreMode.GIT,
        exclude=[
            "/*",
            *(f"!/{parent}" for parent in sorted(parents)),
            *(f"/{parent}/*" for parent in sorted(parents)),
            *(f"!/{path}" for path in CONTENTS),
            "__pycache__",
        ],
    )
