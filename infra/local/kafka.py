"""The Kafka broker: one combined KRaft node, from the jars of Maven Central."""

import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from infra.bootstrap import topic
from infra.local import jars
from infra.local.commands import run
from infra.local.errors import StackError
from infra.local.files import made_whole, private_folder
from infra.local.java import Java
from infra.local.ports import LOOPBACK
from infra.local.stack import TOPIC, Stack
from infra.local.supervision import Program, base_environment

VERSION = "4.3.0"
LOG4J_VERSION = "2.25.4"
IVY_MODULE = f"""\
<ivy-module version="2.0">
  <info organisation="clickstream" module="kafka"/>
  <configurations><conf name="jars"/></configurations>
  <dependencies>
    <dependency org="org.apache.kafka" name="kafka_2.13" rev="{VERSION}" conf="jars->default"/>
    <dependency org="org.apache.logging.log4j" name="log4j-slf4j2-impl" rev="{LOG4J_VERSION}" conf="jars->default"/>
  </dependencies>
</ivy-module>
"""
LOG4J = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSSX}{UTC} %p %c{1}: %m%n
"""
SERVER = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes=2097152
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.retention.check.interval.ms=30000
"""


def fetch_jars(java: Java) -> Path:
    """Return the folder of Kafka's jars, brought the first time.

    Raises:
        StackError: The download fails.
    """
    return jars.fetch(f"kafka-{VERSION}", IVY_MODULE, java)


def prepare(stack: Stack, java: Java, jars: Path) -> None:
    """Write the broker's configuration and format its data folder the first time."""
    folder = private_folder(stack.folder / "kafka")
    data = folder / "data"
    (folder / "log4j2.properties").write_text(LOG4J, encoding="utf-8")
    _write_server_properties(stack, folder / "server.properties", data)
    if data.exists():
        return
    with made_whole(data) as partial:
        format_properties = folder / "format.properties"
        _write_server_properties(stack, format_properties, partial)
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        run(
            [
                *_java_command(java, jars, folder),
                *("kafka.tools.StorageTool", "format"),
                f"--cluster-id={cluster_id}",  # which may begin with a hyphen
                *("--config", format_properties),
            ],
            purpose="format Kafka's data folder",
            remedy=f"Remove {folder} if it holds nothing of value, then run it again.",
            environment=base_environment(),
        )


def program(stack: Stack, java: Java, jars: Path) -> Program:
    """Describe the broker to the supervisor."""
    folder = stack.folder / "kafka"
    heap = [f"-Xmx{stack.kafka_heap_mb}m", "-XX:+ExitOnOutOfMemoryError"]
    return Program(
        name="kafka",
        command=[*_java_command(java, jars, folder, *heap), "kafka.Kafka", folder / "server.properties"],
        stop_seconds=40,
    )


def probe(stack: Stack) -> None:
    """Check that the broker answers.

    Raises:
        KafkaError: It does not.
    """
    _admin(stack).close()


def ensure_topic(stack: Stack) -> None:
    """Create the topic, or give the one that exists the settings of the contract.

    Raises:
        StackError: The broker refuses.
    """
    admin = _admin(stack)
    try:
        topic.ensure_topic(admin, TOPIC, stack.environment)
    except KafkaError as error:
        raise StackError(
            f"Kafka refuses to create or configure topic {TOPIC}: {error}",
            remedy=f"See the broker's log: {stack.log('kafka')}",
        ) from error
    finally:
        admin.close()


def _admin(stack: Stack) -> KafkaAdminClient:
    return KafkaAdminClient(
        bootstrap_servers=stack.bootstrap_servers,
        client_id="clickstream-stack",
        request_timeout_ms=5000,
        bootstrap_timeout_ms=1000,
    )


def _java_command(java: Java, jars: Path, folder: Path, *options: str) -> list[str | Path]:
    return [
        java.binary,
        *options,
        "-Djava.awt.headless=true",
        "-Djava.net.preferIPv4Stack=true",
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        "-cp",
        f"{jars}/*",
    ]


def _write_server_properties(stack: Stack, path: Path, data: Path) -> None:
    ports = stack.ports
    content = SERVER.format(host=LOOPBACK, port=ports.kafka, controller_port=ports.kafka_controller, data=data)
    path.write_text(content, encoding="utf-8")
