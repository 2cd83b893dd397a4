"""Names that the stacks, made by the CDK app, and their deployment agree on."""

from __future__ import annotations

STACKS = ("InfrastructureStack", "ClickstreamLambdaStack")
"""In the order in which they are deployed; they go in the reverse one."""

HOST_STACK = STACKS[0]
TAG = "clickstream:deployment"
DEPLOYMENT = "clickstream"
GENERATOR = "clickstream-generator"
GENERATOR_FAILURES = "clickstream-generator-failures"
