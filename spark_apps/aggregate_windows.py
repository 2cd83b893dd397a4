"""Transform one batch of raw clickstream records: `spark-submit aggregate_windows.py --spec <url or path>`.

Pure: reads the spec and the files it names, writes Parquet where the spec says and, last, report.json. It
needs no database and no credentials but those of the storage, so anyone can run an attempt again by hand,
into other output folders. Exit status 0 means that the report exists.

With Spark Connect: `SPARK_REMOTE=sc://localhost:15002 python aggregate_windows.py --spec ...` (the server
must see the same storage). Executors need pyarrow, but not this package: the code that runs there travels
with the query.
"""

import argparse
import logging
import os
import sys

from pyspark.sql import SparkSession

from clickstream_transform import pipeline, storage
from clickstream_transform.protocol import Spec

logger = logging.getLogger("aggregate_windows")

_CLASSIC_SETTINGS = {  # a Spark Connect server has its own
    "spark.ui.enabled": "false",
    "spark.log.level": "WARN",
    # Recording each DataFrame call's line for error messages would cost more than planning it.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}


def _is_connect() -> bool:
    """Tell whether the session will be a Spark Connect one: by `--remote` of spark-submit, or by the environment."""
    return "SPARK_REMOTE" in os.environ or "SPARK_CONNECT_MODE_ENABLED" in os.environ


def main(arguments: list[str]) -> None:
    """Run the batch that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, help="URL or path of the attempt's spec.json")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logger.setLevel(logging.INFO)

    spec = Spec.from_json(storage.read_bytes(options.spec))
    builder = SparkSession.builder.appName(f"aggregate_windows batch={spec.batch_id} attempt={spec.attempt_id}")
    for key, value in () if _is_connect() else _CLASSIC_SETTINGS.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    try:
        report = pipeline.run(spark, spec)
    finally:
        spark.stop()
    logger.info(
        "Batch %d: landed %d = accepted %d + duplicate %d + late %d + rejected %d. Report: %s",
        report.batch_id,
        report.landed,
        report.accepted,
        report.duplicate,
        report.late,
        report.rejected,
        spec.output.report,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
