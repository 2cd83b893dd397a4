"""Which TCP ports are free, and who has taken the others."""

import random
import socket
from collections.abc import Iterator
from contextlib import closing

import psutil

from infra.local.errors import StackError
from infra.local.settings import Ports, variable

LOOPBACK = "127.0.0.1"
TEST_PORTS = range(20000, 32000)  # below the range from which the kernel takes ports of outgoing connections
_drawn: set[int] = set()


def is_free(port: int) -> bool:
    """Say whether a program could listen on this port of the loopback address."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def draw_ports() -> Iterator[int]:
    """Draw free ports; none is drawn twice by this process, whose program may not listen on it yet."""
    for port in random.sample(TEST_PORTS, k=len(TEST_PORTS)):
        if port not in _drawn and is_free(port):
            _drawn.add(port)
            yield port


def free_ports() -> Ports:
    """Choose free ports for a stack beside others."""
    drawn = draw_ports()
    return Ports(**{name: next(drawn) for name in Ports.model_fields})


def require_free(name: str, port: int) -> None:
    """Check that a component of the stack can listen on its port.

    Raises:
        StackError: The port is taken; names the program that has it and the variable that chooses another.
    """
    if not is_free(port):
        raise StackError(
            f"Port {port} for {name.replace('_', ' ')} is taken by {_holder(port)}.",
            remedy=f"Stop that program, or choose another port: {variable(name)}=<port> make up",
        )


def _holder(port: int) -> str:
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.NoSuchProcess:
                return f"pid {connection.pid}"
    return "a program of another user"
