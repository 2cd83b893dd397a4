"""The generator: the Lambda handler, called every minute as EventBridge would."""

from infra.local.commands import run
from infra.local.stack import PYTHON, REPOSITORY, TOPIC, Stack
from infra.local.supervision import Program, base_environment


def environment(stack: Stack) -> dict[str, str]:
    """Return the environment that the deployed function would have."""
    return {
        **{name: value for name, value in stack.environment.items() if name.startswith("GENERATOR_")},
        "PYTHONPATH": f"{REPOSITORY / 'lambda'}:{REPOSITORY}",
        "KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers,
        "TOPIC": TOPIC,
        "ARCHIVE_URL": f"{stack.storage_url}/archive",
    }


def program(stack: Stack) -> Program:
    """Describe the generator to the supervisor."""
    limit = [] if stack.generator_minutes is None else ["--minutes", str(stack.generator_minutes)]
    return Program(
        name="generator",
        command=[PYTHON, "-m", "infra.local.eventbridge", *limit],
        environment=environment(stack),
        stop_seconds=35,
        once=stack.generator_minutes is not None,
    )


def check_settings(stack: Stack) -> None:
    """Check the generator's settings as the handler will read them.

    Raises:
        StackError: One is wrong; names the setting, its value and the rule.
    """
    run(
        [PYTHON, "-m", "infra.local.eventbridge", "--check"],
        purpose="accept the generator's settings",
        remedy=f"Correct it in the environment or in {stack.folder / 'settings.env'}, then try again.",
        environment=base_environment() | environment(stack),
        directory=REPOSITORY,
    )
