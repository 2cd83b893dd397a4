"""moto's server at a port, with what its CloudFormation gets wrong put right, so that it takes the stacks as AWS does.

- A reference to a DB parameter group is its name. (moto: an internal error.)
- The tags of an SSM parameter are a mapping. (moto: an internal error.)
- A policy that denies what does not come over TLS does not concern the tests' loopback. (moto: denies everything.)
- A VPC is deleted with what its stack has made in it, in whatever order. (moto: refuses; keeps flow logs.)
- A stack that is gone has no outputs. (moto: looking at them makes what they name anew.)
- A change set executed leaves outputs and exports, and may import those of other stacks. (moto: neither.)

And it can be copied with all that is in its account, as fast as a process forks: for tests that begin with stacks.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any

from moto.cloudformation.models import CloudFormationBackend, Stack
from moto.ec2.models import EC2Backend
from moto.iam.access_control import IAMPolicyStatement, PermissionResult
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.rds.models import DBParameterGroup
from moto.ssm.models import Parameter
from werkzeug.serving import make_server

HOST = "127.0.0.1"
COPY = "/moto-api/copy"

backend: Any = CloudFormationBackend
parameter: Any = Parameter
parameter_group: Any = DBParameterGroup

create_parameter = parameter.create_from_cloudformation_json.__func__
execute_change_set = backend.execute_change_set


def create_tagged_parameter(cls: Any, /, name: str, resource: dict[str, Any], *place: str, **where: Any) -> Any:
    properties = resource["Properties"]
    tags = [{"Key": key, "Value": value} for key, value in properties.get("Tags", {}).items()]
    return create_parameter(cls, name, resource | {"Properties": properties | {"Tags": tags}}, *place, **where)


def execute_change_set_with_outputs(self: Any, change_set_name: str, stack_name: str | None = None) -> None:
    stack = self.describe_change_set(change_set_name).stack
    stack.resource_map.cross_stack_resources = self.exports
    execute_change_set(self, change_set_name, stack_name)
    stack._parse_template()
    stack.output_map = stack._create_output_map()
    self.exports.update({export.name: export for export in stack.exports})


parameter.create_from_cloudformation_json = classmethod(create_tagged_parameter)
parameter_group.physical_resource_id = property(lambda group: group.name)
backend.execute_change_set = execute_change_set_with_outputs

ec2: Any = EC2Backend
stack_class: Any = Stack
statement: Any = IAMPolicyStatement

delete_vpc = ec2.delete_vpc
is_action_permitted = statement.is_action_permitted
delete_stack = stack_class.delete


def delete_stack_with_its_outputs(self: Any) -> None:
    delete_stack(self)
    self.output_map = {}


def delete_vpc_with_its_parts(self: Any, vpc_id: str) -> Any:
    if not self.describe_subnets(filters={"vpc-id": vpc_id}):
        for table in self.describe_route_tables(filters={"vpc-id": vpc_id}):
            if table.main_association_id is None:
                del self.route_tables[table.id]
    self.flow_logs.clear()
    return delete_vpc(self, vpc_id)


def is_action_permitted_over_tls(self: Any, *arguments: Any, **values: Any) -> Any:
    if self._statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}:
        return PermissionResult.NEUTRAL
    return is_action_permitted(self, *arguments, **values)


stack_class.delete = delete_stack_with_its_outputs
ec2.delete_vpc = delete_vpc_with_its_parts
statement.is_action_permitted = is_action_permitted_over_tls


class Services(DomainDispatcherApplication):
    """All services of AWS."""

    def serve(self, listener: socket.socket) -> None:
        port = listener.getsockname()[1]
        self.server = make_server(
            HOST, port, self, threaded=True, request_handler=MotoRequestHandler, fd=listener.fileno()
        )
        listener.close()  # the server has one of its own for the same port
        self.server.serve_forever()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != COPY:
            found: Iterable[bytes] = super().__call__(environ, start_response)
            return found
        body = json.dumps(self.copy()).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def copy(self) -> dict[str, int]:
        """Where the copy is; no other request may be at work meanwhile."""
        listener = socket.create_server((HOST, 0))
        port = listener.getsockname()[1]
        process = os.fork()
        if process == 0:
            try:
                self.server.socket.close()
                self.serve(listener)
            finally:
                os._exit(1)
        listener.close()
        return {"port": port, "process": process}


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a copy
    Services(create_backend_app).serve(socket.create_server((HOST, int(sys.argv[1]))))
