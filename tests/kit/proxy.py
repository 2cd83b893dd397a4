"""A TCP proxy before PostgreSQL that lets a COMMIT through and loses the answer."""

from __future__ import annotations

import socket
import threading
from typing import Self


class LosesTheAnswerToCommit:
    """Forwards bytes; after the COMMIT number `nth` it waits for the server's answer, drops it, and hangs up."""

    def __init__(self, port: int, nth: int = 1) -> None:
        self._target = port
        self._left = nth
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._target))
        committing = threading.Event()

        def back() -> None:
            while data := server.recv(65536):
                if committing.is_set():
                    self.cut.set()
                    client.shutdown(socket.SHUT_RDWR)
                    server.close()
                    return
                client.sendall(data)

        threading.Thread(target=back, daemon=True).start()
        while data := client.recv(65536):
            if b"COMMIT\0" in data:
                self._left -= 1
                if self._left == 0:
                    committing.set()
            server.sendall(data)
