"""The CDK app, run as a program: templates and assets in a folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clickstream.errors import ProvisioningRefused

if TYPE_CHECKING:
    from clickstream.provisioning.deployment import Deployment

APP = Path(__file__).parents[3] / "infra" / "app.py"
TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Assembly:
    """A folder with `<Stack>.template.json`, `<Stack>.assets.json` and what these name."""

    folder: Path

    def template(self, stack: str) -> dict[str, Any]:
        """A stack's template."""
        return dict(json.loads(self._template_file(stack).read_text(encoding="utf-8")))

    def digest(self, stack: str) -> str:
        """SHA-256 of a stack's template, by which an approval knows what it approved."""
        return sha256(self._template_file(stack).read_bytes()).hexdigest()

    def assets(self, stack: str) -> list[dict[str, Any]]:
        """The files to upload for a stack, as its manifest lists them."""
        manifest = json.loads((self.folder / f"{stack}.assets.json").read_text(encoding="utf-8"))
        return list(manifest["files"].values())

    def template_key(self, stack: str) -> str:
        """The object that the manifest gives to the stack's template."""
        for asset in self.assets(stack):
            if asset["source"]["path"] == f"{stack}.template.json":
                (destination,) = asset["destinations"].values()
                return str(destination["objectKey"])
        raise ProvisioningRefused(
            f"{self.folder}/{stack}.assets.json names no object for the template. Synthesize again."
        )

    def _template_file(self, stack: str) -> Path:
        file = self.folder / f"{stack}.template.json"
        if not file.exists():
            raise ProvisioningRefused(f"{file} does not exist. Clear the task `synthesize`, or run `make synth`.")
        return file


def synthesize(deployment: Deployment, folder: Path) -> Assembly:
    """Run the app; what was in the folder is gone.

    Raises:
        ProvisioningRefused: The app refuses the context, or a rule of cdk-nag or CloudFormation is broken; carries what
            it printed.
    """
    if shutil.which("node") is None:
        raise ProvisioningRefused(
            "The CDK needs Node.js, and there is no `node` on PATH. Install it: apt install nodejs"
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(  # noqa: S603 - the project's own app
        [sys.executable, str(APP)],
        env=os.environ | {"CDK_OUTDIR": str(folder), "CDK_CONTEXT_JSON": json.dumps(deployment.context)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )
    if done.returncode != 0:
        raise ProvisioningRefused(f"The CDK app ended with code {done.returncode}:\n{done.stdout.strip()}")
    return Assembly(folder)
