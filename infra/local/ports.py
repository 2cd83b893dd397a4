"""Which TCP ports are free, and who has taken the others."""

import random
import socket
from contextlib import closing

import psutil

from infra.local.errors import StackError
from infra.local.settings import Ports, variable

LOOPBACK = "127.0.0.1"
TEST_PORTS = range(20000, 32000)  # below the range from which the kernel takes ports of outgoing connections


def is_free(port: int) -> bool:
    """Say whether a program could listen on this port of the loopback address."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_ports() -> Ports:
    """Choose free ports for a stack beside others."""
    candidates = random.sample(TEST_PORTS, k=200)
    free = (port for port in candidates if is_free(port))
    return Ports(**{name: next(free) for name in Ports.model_fields})


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
