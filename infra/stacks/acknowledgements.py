"""Findings of cdk-nag that are meant to be as they are, each with its reason beside the construct it concerns."""

from collections.abc import Mapping

from aws_cdk import Acknowledgment, Validations
from constructs import IConstruct


def acknowledge(construct: IConstruct, reasons: Mapping[str, str]) -> None:
    """Say why findings on a construct, and on what it holds, are right.

    Args:
        construct: where the findings are.
        reasons: why, by rule of the pack AwsSolutions, such as `IAM5[Resource::*]`.
    """
    for rule, reason in reasons.items():
        Validations.of(construct).acknowledge(Acknowledgment(id=f"AwsSolutions-{rule}", reason=reason))
