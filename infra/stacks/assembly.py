"""From the context to the two stacks, checked by cdk-nag."""

import sys

from aws_cdk import App, Tags, Validations
from cdk_nag import AwsSolutionsChecks

from infra.periods import PeriodError
from infra.stacks import names
from infra.stacks.bundle import BundleError
from infra.stacks.clickstream_lambda_stack import ClickstreamLambdaStack
from infra.stacks.context import ContextError, Deployment
from infra.stacks.infrastructure_stack import InfrastructureStack
from infra.stacks.retention import retention


def build(app: App) -> None:
    """Put the stacks into an app.

    Raises:
        ContextError: the context is missing something or holds a wrong value.
        PeriodError: a period is wrong or unknown, or two disagree.
        BundleError: the Lambda's dependencies could not be installed.
    """
    deployment = Deployment.of(app)
    retention()
    infrastructure = InfrastructureStack(app, names.INFRASTRUCTURE_STACK, deployment=deployment)
    ClickstreamLambdaStack(app, names.LAMBDA_STACK, deployment=deployment, infrastructure=infrastructure)
    Tags.of(app).add(names.TAG, names.DEPLOYMENT)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))


def main() -> int:
    """Synthesize; returns 0, or 1 after saying what is wrong with the context or a period."""
    app = App(post_cli_context={"@aws-cdk/core:validateAgainstDefaultRules": True})
    try:
        build(app)
    except (ContextError, PeriodError, BundleError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - this is a command
        return 1
    app.synth()
    return 0
