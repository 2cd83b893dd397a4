import os
import socket

import pytest

from infra.local import ports
from infra.local.errors import StackError
from infra.local.ports import draw_ports, free_ports, is_free, require_free


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - the case to be noticed
def test_a_taken_port_names_its_program_and_the_variable(address: str) -> None:
    with socket.socket() as listener:
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(StackError) as caught:
            require_free("kafka_controller", port)
    assert f"Port {port} for kafka controller is taken by" in caught.value.problem
    assert f"(pid {os.getpid()})" in caught.value.problem
    assert "CLICKSTREAM_PORT_KAFKA_CONTROLLER=<port>" in caught.value.remedy


def test_a_port_whose_connections_have_just_closed_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            connection, _ = listener.accept()
            connection.close()  # the server closes first, so its side stays in TIME_WAIT
    assert is_free(port)


def test_free_ports_are_distinct_and_free() -> None:
    chosen = free_ports().model_dump().values()
    assert len(set(chosen)) == 5
    assert all(is_free(port) for port in chosen)


def test_no_port_is_drawn_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "TEST_PORTS", ports.TEST_PORTS[:30])
    drawn = [*free_ports().model_dump().values(), *draw_ports()]
    assert len(drawn) == len(set(drawn))
    assert list(draw_ports()) == []
