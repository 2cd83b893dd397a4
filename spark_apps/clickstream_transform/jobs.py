"""Spark jobs side by side: they share the executors' cores, and one is planned while another runs."""

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from time import sleep
from typing import Final, TypeVar

from pyspark.sql import SparkSession

Result = TypeVar("Result")

THREADS: Final = 3
SECONDS_BETWEEN_INTERRUPTS: Final = 0.2


def side_by_side(spark: SparkSession, jobs: Mapping[str, Callable[[], Result]]) -> dict[str, Result]:
    """Run jobs, a few at a time in the order given, and return their results by name.

    The first error interrupts what runs and is raised once nothing runs any more.

    Args:
        spark: the session that the jobs use, and nobody else: one job's error interrupts all that it runs.
        jobs: by name; each runs in a thread of its own.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        started = {name: pool.submit(job) for name, job in jobs.items()}
        ended, _ = wait(started.values(), return_when=FIRST_EXCEPTION)
        for error in filter(None, (job.exception() for job in ended)):
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(job.done() for job in started.values()):
                spark.interruptAll()  # again, as a job that was being planned may have begun since
                sleep(SECONDS_BETWEEN_INTERRUPTS)
            raise error
        return {name: job.result() for name, job in started.items()}
