"""Airflow's components on the stack's PostgreSQL, and the environment of its tasks."""

import json
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from pathlib import Path

import httpx
import psycopg

from infra.bootstrap import s3a
from infra.local import credentials, jars, prometheus
from infra.local.commands import run
from infra.local.errors import StackError
from infra.local.files import private_folder, write_private
from infra.local.java import Java
from infra.local.ports import LOOPBACK
from infra.local.spark_cds import archive_path
from infra.local.stack import ADMIN, PYTHON, REPOSITORY, TOPIC, VENV, Stack
from infra.local.supervision import Program, Supervisor, base_environment

AIRFLOW = VENV / "bin" / "airflow"
COUNTERS = REPOSITORY / "plugins" / "clickstream" / "airflow_metadata" / "versions"
POOLS = REPOSITORY / "infra" / "bootstrap" / "pools.json"
COMPONENTS = ("airflow-scheduler", "airflow-triggerer", "airflow-dag-processor", "airflow-api-server")
PERSONAL_PARAMS = "user_id,confirm"  # of erase_user: Airflow's audit log keeps what forms were sent with
TRIGGERS = 3  # of the counters, on Airflow's tables
GIT_TIMEOUT_SECONDS = 5
PARSED_ONCE_SECONDS = 86_400
REMEDY = "The lines above name the cause. Correct it and run it again."


def environment(stack: Stack, java: Java) -> dict[str, str]:
    """Return what Airflow's components and tasks get: paths and settings, and files of secrets, never secrets."""
    secrets = stack.secrets
    backend = {"connections_file_path": str(secrets / "connections.json")}
    airflow = {
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "8",
        "CORE__DAGS_FOLDER": REPOSITORY / "dags",
        "CORE__PLUGINS_FOLDER": REPOSITORY / "plugins",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": stack.dags_paused,
        "CORE__DEFAULT_TIMEZONE": "utc",
        "CORE__EXECUTION_API_SERVER_URL": f"{stack.airflow_url}/execution/",
        "CORE__FERNET_KEY_CMD": _print(credentials.fernet_key_file(stack)),
        "CORE__SENSITIVE_VAR_CONN_NAMES": PERSONAL_PARAMS,
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": secrets / "airflow_passwords.json",
        "DATABASE__SQL_ALCHEMY_CONN_CMD": _print(secrets / "airflow_metadata_url"),
        "API__HOST": LOOPBACK,
        "API__PORT": stack.ports.airflow,
        "API__BASE_URL": stack.airflow_url,
        "API__WORKERS": 1,
        "API__SECRET_KEY_CMD": _print(credentials.token_file(stack, "airflow_api_key")),
        "API_AUTH__JWT_SECRET_CMD": _print(credentials.token_file(stack, "airflow_jwt_key")),
        "LOGGING__BASE_LOG_FOLDER": stack.folder / "airflow" / "logs",
        "SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
        "SECRETS__BACKEND_KWARGS": json.dumps(backend),
        "WORKERS__SECRETS_BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
        "WORKERS__SECRETS_BACKEND_KWARGS": json.dumps(backend),
        "WORKERS__SOCKET_CLEANUP_TIMEOUT": 10,
        # A task whose worker or scheduler was killed is found and tried again within half a minute.
        "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": 1 if stack.disposable else 5,
        "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": 20,
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": 10,
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 30,
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": 5,
        "DAG_PROCESSOR__REFRESH_INTERVAL": PARSED_ONCE_SECONDS if stack.disposable else 30,
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": PARSED_ONCE_SECONDS if stack.disposable else 30,
    }
    return {
        "CLICKSTREAM_REVISION": _revision(),
        "CLICKSTREAM_DATABASE_FOLDER": str(stack.folder),
        **_optional_parts(stack),
        **{name: value for name, value in stack.environment.items() if name.startswith("CLICKSTREAM_")},
        "AIRFLOW_HOME": str(stack.folder / "airflow"),
        **{f"AIRFLOW__{name}": str(value) for name, value in airflow.items()},
        "PYTHONPATH": f"{REPOSITORY / 'plugins'}:{REPOSITORY / 'spark_apps'}",
        "JAVA_HOME": str(java.home),
        "CLICKSTREAM_KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers,
        "CLICKSTREAM_TOPIC": TOPIC,
        "CLICKSTREAM_STORAGE_URL": stack.storage_url,
        **_storage(stack, java),
        "CLICKSTREAM_METRICS_TOKEN_FILE": str(credentials.token_file(stack, "metrics_token")),
        "CLICKSTREAM_ERASURE_KEY_FILE": str(credentials.token_file(stack, "erasure_key")),
        "CLICKSTREAM_SPARK_CDS_ARCHIVE": str(archive_path(java)),
    }


def _storage(stack: Stack, java: Java) -> dict[str, str]:
    """Return what Spark needs where the zones are on S3."""
    if not stack.storage_url.startswith("s3://"):
        return {}
    return {"CLICKSTREAM_SPARK_S3_JARS": str(jars.fetch(f"s3a-{s3a.VERSION}", s3a.MODULE, java))}


@cache
def _revision() -> str:
    """Return the commit of this clone, `unknown` where it is none."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    try:
        described = subprocess.run(  # noqa: S603 - git itself, on this folder
            [git, "-C", str(REPOSITORY), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=False,
            timeout=GIT_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return "unknown"
    return described.stdout.strip() or "unknown"


def _optional_parts(stack: Stack) -> dict[str, str]:
    """What is to be checked only where the stack has it."""
    parts = {}
    if stack.with_generator and stack.generator_minutes is None:
        parts["CLICKSTREAM_ARCHIVE_MAX_AGE_MINUTES"] = "5"
    if stack.with_prometheus and prometheus.find_binary():
        parts["CLICKSTREAM_PROMETHEUS_URL"] = stack.prometheus_url
    return parts


def _print(file: Path) -> str:
    """Return the command that prints a file, which Airflow splits like a shell but runs without one."""
    return "cat " + re.sub(r"([^\w/.-])", r"\\\1", str(file))


def prepare(stack: Stack) -> None:
    """Write the files of secrets that the components read."""
    private_folder(stack.folder / "airflow")
    credentials.write_metadata_url(stack)
    credentials.write_airflow_passwords(stack)
    credentials.write_connections(stack)


def check_settings(stack: Stack, java: Java) -> None:
    """Check the pipeline's settings as its tasks will read them.

    Raises:
        StackError: One is wrong or unknown; names the setting, its value and the rule.
    """
    remedy = f"Correct it in the environment or in {stack.folder / 'settings.env'}, then try again."
    shown = run(
        [PYTHON, "-m", "clickstream.settings"],
        purpose="accept the pipeline's settings",
        remedy=remedy,
        environment=base_environment() | environment(stack, java),
    )
    known = {line.partition("=")[0] for line in shown.splitlines()}
    given = {name for name in stack.environment if name.startswith("CLICKSTREAM_")}
    if unknown := sorted(given - known):
        raise StackError(
            f"Unknown setting {', '.join(unknown)}. The pipeline knows {', '.join(sorted(known))}.",
            remedy=remedy,
        )


def migrate(stack: Stack, java: Java) -> None:
    """Bring Airflow's database to the installed version, make counters and pools, unless that is done already."""
    stamp = stack.folder / "airflow" / "migrated"
    wanted = " ".join([version("apache-airflow"), *sorted(file.stem for file in COUNTERS.glob("*.py"))])
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted and _is_made(stack):
        return
    surroundings = base_environment() | environment(stack, java)
    if _has_counters(stack):  # PostgreSQL refuses to change a column that a trigger looks at
        _migrate_counters(stack, "down", "0001")
    run(
        [AIRFLOW, "db", "migrate"],
        purpose="migrate Airflow's database",
        remedy=REMEDY,
        environment=surroundings,
        timeout=300,
    )
    run(
        [AIRFLOW, "pools", "import", POOLS],
        purpose="make Airflow's pools",
        remedy=REMEDY,
        environment=surroundings,
    )
    _migrate_counters(stack, "up")
    stamp.write_text(wanted, encoding="utf-8")


def _migrate_counters(stack: Stack, *arguments: str) -> None:
    run(
        [PYTHON, "-m", "clickstream.airflow_metadata.migrate", *arguments],
        purpose="make the counters in Airflow's database",
        remedy=REMEDY,
        environment=base_environment() | as_airflow(stack),
    )


def as_airflow(stack: Stack) -> dict[str, str]:
    """Return the environment in which libpq connects to Airflow's database as its owner."""
    return {
        "PYTHONPATH": str(REPOSITORY / "plugins"),
        "PGHOST": LOOPBACK,
        "PGPORT": str(stack.ports.postgres),
        "PGUSER": credentials.AIRFLOW_ROLE,
        "PGDATABASE": "airflow",
        "PGPASSFILE": str(stack.secrets / "pgpass"),
    }


def _is_made(stack: Stack) -> bool:
    """Say whether the pools and the triggers that count are there."""
    with _connect(stack) as connection:
        try:
            pools = connection.execute("SELECT pool FROM slot_pool").fetchall()
        except psycopg.errors.UndefinedTable:
            return False
        triggers = connection.execute("SELECT FROM pg_trigger WHERE tgname LIKE 'clickstream_%'").rowcount
    return {name for (name,) in pools} >= set(json.loads(POOLS.read_text(encoding="utf-8"))) and triggers == TRIGGERS


def _has_counters(stack: Stack) -> bool:
    """Say whether the counters are there, with triggers that Airflow's tables may have lost or not."""
    with _connect(stack) as connection:
        return connection.execute("SELECT to_regnamespace('clickstream') IS NOT NULL").fetchone() == (True,)


def _connect(stack: Stack) -> psycopg.Connection:
    return psycopg.connect(
        host=LOOPBACK,
        port=stack.ports.postgres,
        dbname="airflow",
        user=credentials.AIRFLOW_ROLE,
        passfile=str(stack.secrets / "pgpass"),
    )


def rotate_fernet_key(stack: Stack, java: Java) -> None:
    """Encrypt what Airflow has stored with a new key; the file holds both until that is done."""
    file = credentials.fernet_key_file(stack)
    new = credentials.new_fernet_key()
    write_private(file, f"{new},{file.read_text(encoding='utf-8')}")
    run(
        [AIRFLOW, "rotate-fernet-key"],
        purpose="encrypt with a new key what Airflow has stored",
        remedy=f"Airflow works on: {file} holds the old key too. Run it again.",
        environment=base_environment() | environment(stack, java),
    )
    write_private(file, new)


def stop(stack: Stack) -> None:
    """Stop Airflow's components; the scheduler first, whose running tasks need the others until they end."""
    supervisor = Supervisor(stack)
    first, *others = COMPONENTS
    supervisor.stop_program(first)
    with ThreadPoolExecutor() as pool:
        list(pool.map(supervisor.stop_program, others))


def programs(stack: Stack, java: Java) -> list[Program]:
    """Describe Airflow's components to the supervisor.

    The scheduler gets time to let running tasks end, which need the API server meanwhile.
    """
    commands: dict[str, tuple[list[str | Path], int]] = {
        "airflow-scheduler": ([AIRFLOW, "scheduler", "--skip-serve-logs"], 30),
        "airflow-triggerer": ([AIRFLOW, "triggerer", "--skip-serve-logs"], 10),
        "airflow-dag-processor": ([AIRFLOW, "dag-processor"], 10),
        "airflow-api-server": ([AIRFLOW, "api-server"], 10),
    }
    surroundings = environment(stack, java)
    return [
        Program(name=name, command=command, environment=surroundings, stop_seconds=seconds)
        for name, (command, seconds) in commands.items()
    ]


def heartbeat(stack: Stack, component: str | None) -> str | None:
    """Ask the API server for the last heartbeat (ISO 8601) of ``scheduler``, ``triggerer`` or ``dag_processor``.

    With None as component it only checks that the API server answers and reaches its database.

    Raises:
        httpx.HTTPError: The API server does not answer.
        StackError: The database or the component is not healthy.
    """
    answer = httpx.get(f"{stack.airflow_url}/api/v2/monitor/health", timeout=5)
    answer.raise_for_status()
    health = answer.json()
    checked = component or "metadatabase"
    if health[checked]["status"] != "healthy":
        raise StackError(f"Airflow calls {checked} {health[checked]['status']}", remedy="See its log.")
    if component is None:
        return None
    return str(health[component][f"latest_{component}_heartbeat"])
