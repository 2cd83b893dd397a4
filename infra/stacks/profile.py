"""The two sizes of a deployment: one host for everything, or managed services."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HostSize:
    """The EC2 host.

    Attributes:
        instance_type: EC2's name of the size.
        root_gib: system, images and builds.
        data_gib: the retained volume with Kafka's log and the data of the monitoring.
    """

    instance_type: str
    root_gib: int
    data_gib: int


@dataclass(frozen=True, kw_only=True)
class DatabaseSize:
    """RDS for PostgreSQL.

    Attributes:
        instance_type: without the prefix `db.`.
        storage_gib: at the start.
        max_storage_gib: how far it may grow by itself.
        multi_az: with a standby in another zone.
        replica: with a replica that Grafana reads.
        protected: refuses deletion until the protection is switched off.
    """

    instance_type: str
    storage_gib: int
    max_storage_gib: int
    multi_az: bool
    replica: bool
    protected: bool


@dataclass(frozen=True, kw_only=True)
class ManagedServices:
    """MSK, EMR Serverless and MWAA.

    Attributes:
        kafka_version: as MSK names it.
        broker_type: size of each broker; there is one in each zone.
        broker_storage_gib: of each broker.
        spark_release: of EMR Serverless.
        spark_max_cores: of all jobs together.
        spark_max_memory_gib: of all jobs together.
        airflow_version: the newest that MWAA offers.
        airflow_class: size of the MWAA environment.
    """

    kafka_version: str
    broker_type: str
    broker_storage_gib: int
    spark_release: str
    spark_max_cores: int
    spark_max_memory_gib: int
    airflow_version: str
    airflow_class: str


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A size of the whole deployment.

    Attributes:
        zones: availability zones that the network spans.
        function_zones: how many of them the Lambda uses; in one alone it is no safer than the host beside it.
        host: the EC2 host.
        database: the database.
        managed: the managed services, or None where the host runs everything.
    """

    zones: int
    function_zones: int
    host: HostSize
    database: DatabaseSize
    managed: ManagedServices | None


SMALL = Profile(
    zones=2,
    function_zones=1,
    host=HostSize(instance_type="t3.large", root_gib=30, data_gib=50),
    database=DatabaseSize(
        instance_type="t4g.small",
        storage_gib=20,
        max_storage_gib=100,
        multi_az=False,
        replica=False,
        protected=False,
    ),
    managed=None,
)
"""One host runs Kafka, Airflow, Spark, Prometheus, Alertmanager and Grafana; the database is RDS.

They need 3.5 to 4.5 GiB: Kafka's heap 0.5 and as much page cache, Airflow's four components 0.85, a Spark job 1 to 1.5,
Prometheus, Alertmanager and Grafana 0.4, Docker and the system 0.5. `t3.large` (8 GiB) runs them with room for a larger
batch. `t3.medium` (4 GiB) has none: the kernel kills one of them when Spark starts. `t3.micro` (1 GiB), the size of the
free tier, holds Airflow alone and nothing beside it.
"""

SCALED = Profile(
    zones=3,
    function_zones=2,
    host=HostSize(instance_type="t3.small", root_gib=20, data_gib=20),
    database=DatabaseSize(
        instance_type="m7g.large",
        storage_gib=100,
        max_storage_gib=1000,
        multi_az=True,
        replica=True,
        protected=True,
    ),
    managed=ManagedServices(
        kafka_version="4.1.x.kraft",
        broker_type="kafka.m7g.large",
        broker_storage_gib=200,
        spark_release="emr-spark-8.0.0",
        spark_max_cores=32,
        spark_max_memory_gib=128,
        airflow_version="3.0.6",
        airflow_class="mw1.small",
    ),
)
"""Managed services instead of the host: MSK over three zones, EMR Serverless, MWAA, RDS over two zones with a replica.

The host that is left runs Prometheus, Alertmanager and Grafana, for which `t3.small` (2 GiB) suffices.
"""

PROFILES = {"small": SMALL, "scaled": SCALED}
