"""An AWS account of the tests' own: moto's server, with which everything talks as with AWS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest import mock

import boto3
import httpx
import pytest

from infra.local.ports import LOOPBACK, free_ports
from tests.kit.waiting import wait_for

REGION = "eu-central-1"
ACCOUNT = "123456789012"


@dataclass(frozen=True)
class Account:
    """Where the account is.

    Attributes:
        endpoint: URL of the server.
        environment: What boto3's default chain, Airflow's provider and S3A read.
    """

    endpoint: str
    environment: Mapping[str, str]

    @classmethod
    def at(cls, port: int) -> Account:
        """That of the server at a port of this machine."""
        endpoint = f"http://{LOOPBACK}:{port}"
        return cls(
            endpoint=endpoint,
            environment={
                "AWS_ENDPOINT_URL": endpoint,
                "AWS_DEFAULT_REGION": REGION,
                "AWS_REGION": REGION,
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": "testing-secret",
                "AWS_EC2_METADATA_DISABLED": "true",
            },
        )

    def client(self, service: str) -> Any:
        """A client of one service, without a look at the environment of the tests."""
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
        )

    @contextmanager
    def known(self) -> Iterator[None]:
        """Let boto3's default chain of this process, and of what it starts, find the account."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            yield

    def reset(self) -> None:
        """Empty the account."""
        httpx.post(f"{self.endpoint}/moto-api/reset", timeout=30).raise_for_status()

    @contextmanager
    def copied(self) -> Iterator[Account]:
        """Another account that has what this one has, for the block."""
        copy = httpx.post(f"{self.endpoint}/moto-api/copy", timeout=30).raise_for_status().json()
        try:
            yield Account.at(copy["port"])
        finally:
            os.kill(copy["process"], signal.SIGKILL)

    @contextmanager
    def in_use(self) -> Iterator[Account]:
        """It, found by boto3's default chain of this process, for the block."""
        with mock.patch.dict(os.environ, self.environment):
            yield self


class Server(AbstractContextManager["Server"]):
    """The server, as a process that begins when it is needed and ends with the block; its address is known before."""

    def __init__(self, folder: Path) -> None:
        port = free_ports().airflow
        self.account = Account.at(port)
        self._log = folder / "moto.log"
        program = str(Path(__file__).with_name("moto_server.py"))
        self._command = [sys.executable, program, str(port)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers."""
        if self._process:
            return
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        wait_for(self._answers, "answer of moto's server")

    def _answers(self) -> bool:
        assert self._process
        assert self._process.poll() is None, self._log.read_text()
        return httpx.get(f"{self.account.endpoint}/moto-api/", timeout=30).is_success

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(timeout=30)
