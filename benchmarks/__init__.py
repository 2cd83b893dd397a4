"""Measurements with limits: `make benchmark`, or `python -m benchmarks.<name>` for one of them."""

import sys
from pathlib import Path

ROOMS = ("plugins", "spark_apps", "lambda")

sys.path[:0] = [str(Path(__file__).parents[1] / room) for room in ROOMS]
