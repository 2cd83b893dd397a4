"""Stands where `infra/app.py` does, for what depends on no more than the stacks' names, order and outputs."""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

OUTPUTS = {"DatabaseEndpoint": "database.internal", "DatabasePort": "5432", "HostInstanceId": "i-0123456789abcdef0"}


def templates(context: dict[str, str]) -> dict[str, Any]:
    """The first holds the context, so that another one changes it; the second refers to the first."""
    network = {"Type": "String", "Name": "/clickstream/allowed-cidr", "Value": context["allowedCidr"]}
    queue = {"QueueName": {"Fn::ImportValue": "queue-name"}}
    outputs = {name: {"Value": value} for name, value in OUTPUTS.items()}
    return {
        "InfrastructureStack": {
            "Resources": {"Network": {"Type": "AWS::SSM::Parameter", "Properties": network}},
            "Outputs": outputs | {"QueueName": {"Value": "clickstream-little", "Export": {"Name": "queue-name"}}},
        },
        "ClickstreamLambdaStack": {"Resources": {"Failures": {"Type": "AWS::SQS::Queue", "Properties": queue}}},
    }


def main() -> None:
    folder, context = Path(os.environ["CDK_OUTDIR"]), json.loads(os.environ["CDK_CONTEXT_JSON"])
    folder.mkdir(parents=True)
    bucket = f"clickstream-assets-{context['account']}-{context['region']}"
    for stack, template in templates(context).items():
        text = json.dumps(template)
        (folder / f"{stack}.template.json").write_text(text)
        key = f"{sha256(text.encode()).hexdigest()}.json"
        asset = {
            "source": {"path": f"{stack}.template.json", "packaging": "file"},
            "destinations": {"here": {"bucketName": bucket, "objectKey": key}},
        }
        (folder / f"{stack}.assets.json").write_text(json.dumps({"files": {"template": asset}}))


if __name__ == "__main__":
    main()
