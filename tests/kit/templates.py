"""The stacks on AWS as templates, synthesized by a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.kit.aws import ACCOUNT, REGION
from tests.kit.services import REPOSITORY

PROFILES = ("small", "scaled")


def synthesize(folder: Path, environment: Mapping[str, str] | None = None, **context: str) -> subprocess.Popen[str]:
    """Start the app of the stacks; what it is not told here is as in the tests' account."""
    given = {"account": ACCOUNT, "region": REGION, "allowedCidr": "203.0.113.4/32", "alarmEmail": "ops@example.org"}
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "infra" / "app.py")],
        env=os.environ
        | {"CDK_OUTDIR": str(folder), "CDK_CONTEXT_JSON": json.dumps(given | context)}
        | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
