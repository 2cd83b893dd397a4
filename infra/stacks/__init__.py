"""The stacks on AWS, as code: two of them, in the sizes of `profile`."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
