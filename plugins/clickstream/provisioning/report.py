"""A preview as a person reads it: as Markdown for the approval, the same text in the log."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from clickstream.provisioning.cost import monthly_cost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clickstream.provisioning.deployment import Deployment
    from clickstream.provisioning.provision import Preview
    from clickstream.provisioning.synthesis import Assembly

WITH_DATA = ("AWS::RDS::DBInstance", "AWS::EC2::Volume", "AWS::S3::Bucket", "AWS::MSK::Cluster")


def markdown(deployment: Deployment, assembly: Assembly, previews: Sequence[Preview]) -> str:
    """Everything that a person needs to say yes or no: dangers first, then counts and cost, then each resource."""
    place = deployment.place
    where = f"account {place.account}, {place.region}; the web ports open to {deployment.allowed_cidr}"
    lines = [f"**{deployment.profile}** in {where}.", ""]
    dangers = [
        f"- **{change.action if change.action == 'Remove' else 'Replace'} {change.resource}** ({change.type}):"
        f" {'its data would be lost with it.' if change.type in WITH_DATA else 'it stops meanwhile.'}"
        for one in previews
        for change in one.changes or ()
        if change.action == "Remove" or change.replacement in {"True", "Conditional"}
    ]
    if dangers:
        lines += ["Look at these first:", "", *dangers, ""]
    lines += ["| stack | add | change | replace | remove | USD a month |", "|---|---|---|---|---|---|"]
    costs = {
        one.planned.stack: monthly_cost(assembly.template(one.planned.stack), region=place.region).monthly
        for one in previews
    }
    for one in previews:
        counts = Counter(
            "Replace" if change.replacement in {"True", "Conditional"} else change.action
            for change in one.changes or ()
        )
        lines.append(
            f"| {one.planned.stack} | {counts['Add']} | {counts['Modify'] + counts['Import'] + counts['Dynamic']}"
            f" | {counts['Replace']} | {counts['Remove']} | {costs[one.planned.stack]:,.2f} |"
        )
    lines += ["", f"All together {sum(costs.values()):,.2f} USD a month at list prices (docs/cost.md).", ""]
    for one in previews:
        lines += [f"**{one.planned.stack}**", ""]
        if one.changes is None:
            lines += ["Nothing changes.", ""]
            continue
        if not one.planned.change_set:
            lines += ["It refers to the stack before it, which isn't there yet: its change set is made after that.", ""]
        lines += ["| | resource | type | replacement |", "|---|---|---|---|"]
        lines += [f"| {c.action} | {c.resource} | {c.type} | {c.replacement} |" for c in one.changes]
        lines.append("")
    return "\n".join(lines)
