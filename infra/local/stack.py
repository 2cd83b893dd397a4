"""One embedded stack: its folder, its ports, its options, and where everything in it lies."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from infra.local.files import private_folder, write_private
from infra.local.ports import LOOPBACK, free_ports
from infra.local.settings import Ports, component_environment, read_settings

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_FOLDER = REPOSITORY / ".clickstream"
CACHE = DEFAULT_FOLDER / "cache"  # downloads and archives, the same for every stack of this clone
VENV = Path(sys.prefix)
PYTHON = VENV / "bin" / "python"
TOPIC = "clickstream-events"
ADMIN = "admin"


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A description of one stack; two with different folders and ports never touch each other.

    Attributes:
        folder: All of its state.
        ports: Its TCP ports on loopback.
        with_airflow: Whether Airflow runs; without it the stack is Kafka and PostgreSQL, migrated.
        with_generator: Whether the generator is called every minute.
        generator_minutes: After how many minutes the generator stops; never when None.
        with_prometheus: Whether Prometheus runs, where it is installed.
        dags_paused: Whether DAGs start paused, for a test that triggers each run itself.
        disposable: Whether its data may go with the machine, and its DAG files never change: PostgreSQL then waits for
            no disk, and the files are parsed once.
        kafka_heap_mb: Heap of the broker, in MiB.
        environment: Settings of the pipeline (CLICKSTREAM_) and of the generator (GENERATOR_), passed on to them.
    """

    folder: Path
    ports: Ports
    with_airflow: bool = True
    with_generator: bool = True
    generator_minutes: int | None = None
    with_prometheus: bool = True
    dags_paused: bool = False
    disposable: bool = False
    kafka_heap_mb: int = 512
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def create(cls, folder: Path, *, ports: Ports | None = None, **options: Any) -> Self:  # noqa: ANN401
        """Describe a stack in a folder of its own, on free ports unless given; ``options`` are the attributes."""
        return cls(folder=folder.resolve(), ports=ports or free_ports(), **options)

    @classmethod
    def from_settings(cls, folder: Path = DEFAULT_FOLDER) -> Self:
        """Describe the stack in this folder as the environment and its settings file ask for it.

        Raises:
            StackError: A setting is wrong.
        """
        settings, ports = read_settings(folder)
        return cls(
            folder=folder.resolve(),
            ports=ports,
            with_generator=settings.generator,
            kafka_heap_mb=settings.kafka_heap_mb,
            environment=component_environment(folder),
        )

    @classmethod
    def load(cls, folder: Path = DEFAULT_FOLDER) -> Self | None:
        """Describe the stack as the last ``up`` in this folder made it; None if there was none."""
        try:
            saved = json.loads((folder / "stack.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return cls(folder=folder.resolve(), ports=Ports(**saved.pop("ports")), **saved)

    def save(self) -> None:
        """Write the description into the folder, for the commands that come after ``up``."""
        saved = asdict(self) | {"ports": self.ports.model_dump()}
        del saved["folder"]
        write_private(self.folder / "stack.json", json.dumps(saved, indent=2))

    @property
    def secrets(self) -> Path:
        """Folder of the generated credentials, mode 0700."""
        return private_folder(self.folder / "secrets")

    @property
    def logs(self) -> Path:
        """Folder of each component's log."""
        return private_folder(self.folder / "logs")

    @property
    def storage(self) -> Path:
        """Folder of the zones."""
        return private_folder(self.folder / "storage")

    @property
    def storage_url(self) -> str:
        """URL of the zones: a folder of the stack, or what its owner chose as CLICKSTREAM_STORAGE_URL."""
        if chosen := self.environment.get("CLICKSTREAM_STORAGE_URL"):
            return chosen.rstrip("/")
        return f"file://{self.storage}"  # verbatim: neither Spark nor fsspec decodes percent signs

    @property
    def bootstrap_servers(self) -> str:
        """Where Kafka clients connect."""
        return f"{LOOPBACK}:{self.ports.kafka}"

    @property
    def airflow_url(self) -> str:
        """Airflow's UI and API."""
        return f"http://{LOOPBACK}:{self.ports.airflow}"

    @property
    def metrics_url(self) -> str:
        """The pipeline's metrics, for Prometheus; needs the bearer token."""
        return f"{self.airflow_url}/clickstream/metrics"

    @property
    def prometheus_url(self) -> str:
        """Prometheus' UI and API."""
        return f"http://{LOOPBACK}:{self.ports.prometheus}"

    def log(self, component: str) -> Path:
        """Return the path of a component's log."""
        return self.logs / f"{component}.log"
