"""Synthesizes the stacks: `CDK_OUTDIR=<folder> CDK_CONTEXT_JSON='{"profile": ...}' python infra/app.py`.

The context's names are those of `infra.stacks.context.Deployment`. Nothing is looked up in an account.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")

from infra.stacks.assembly import main

if __name__ == "__main__":
    sys.exit(main())
