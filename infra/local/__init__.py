"""The embedded stack: Kafka, PostgreSQL, Airflow, Prometheus and the generator, supervised on one machine.

Run it with ``python -m infra.local up`` (or ``make up``). A test starts its own stack beside it::

    from infra.local import Stack, down, up

    stack = Stack.create(folder)  # free ports, nothing shared but the cache of downloads
    up(stack)
    ...
    down(stack)
"""

from infra.local.errors import StackError
from infra.local.lifecycle import down, restart, up
from infra.local.stack import Stack

__all__ = ["Stack", "StackError", "down", "restart", "up"]
