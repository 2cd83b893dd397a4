"""## Bring the pipeline up on AWS

Run it from a control Airflow, such as the embedded stack on your machine, with credentials of the account where the
AWS SDKs look (`AWS_PROFILE`). Begin with *dry run*: it shows what would be added, changed, replaced and what it costs a
month, and changes nothing but the bucket of templates. With *dry run* off it asks for your approval (**Required
actions**) of the same preview, and then deploys.

| task | what | when it fails |
|---|---|---|
| `validate` | the form, and that the credentials are of the account | correct what it names |
| `synthesize` | runs the CDK app, which cdk-nag checks | it prints the rule that is broken |
| `upload_assets` | templates and code, each once | rights on S3 |
| `preview` | change sets, and a readable text of them | the state of the stack that it names, with the remedy |
| `approve` | waits for you, a day at most | |
| `deploy_<stack>` | executes what was approved, events in the log | the first resource that failed, with its reason |
| `connect` | Airflow's connections into Secrets Manager | a missing output or secret |
| `bootstrap` | on the host: the newest release, topic, roles, migrations | the end of what the host printed |
| `verify` | health checks on the host, and of AWS from here | what is down |

**What you can do safely.** Clear any task at any time. What was approved is what is deployed: if the template or a
stack has changed since, `deploy` refuses, and you clear `preview`. After a rollback: docs/aws.md.
"""

from datetime import timedelta

from airflow.sdk import Param, dag, task

from clickstream.orchestration import TASK_DEFAULTS
from clickstream.provisioning import form
from clickstream.provisioning.approval import ApprovePreviewOperator
from clickstream.provisioning.names import STACKS

PARAMS = {
    "profile": Param(
        "small",
        type="string",
        enum=["small", "scaled"],
        description="Size: one host, or managed services (docs/aws.md).",
    ),
    **form.PLACE,
    "allowed_cidr": Param(
        "",
        type="string",
        description="IPv4 network that may open Airflow and Grafana, such as 203.0.113.4/32; at widest a /16.",
    ),
    "alarm_email": Param("", type="string", description="Address that CloudWatch's alarms go to; empty for nobody."),
    "dry_run": Param(True, type="boolean", description="Only show what would change and what it costs."),
}


@task
def validate(params: dict[str, object] | None = None) -> None:
    """Check the form and the account."""
    from clickstream.provisioning.deployment import Deployment

    Deployment.of(params or {}).place.require_account()


@task
def synthesize(params: dict[str, object] | None = None, run_id: str | None = None) -> None:
    """Run the CDK app."""
    from clickstream.provisioning import synthesis
    from clickstream.provisioning.deployment import Deployment

    synthesis.synthesize(Deployment.of(params or {}), form.run_folder(str(run_id)))


@task
def upload_assets(params: dict[str, object] | None = None, run_id: str | None = None) -> int:
    """Returns how many objects were put."""
    from clickstream.provisioning import assets
    from clickstream.provisioning.deployment import Deployment
    from clickstream.provisioning.synthesis import Assembly

    place = Deployment.of(params or {}).place
    assets.ensure_bucket(place)
    return assets.upload(Assembly(form.run_folder(str(run_id))), place)


@task
def preview(params: dict[str, object] | None = None, run_id: str | None = None) -> list[dict[str, str]]:
    """Returns, by stack, the change set and what it was made of."""
    from clickstream.provisioning import provision, report
    from clickstream.provisioning.deployment import Deployment
    from clickstream.provisioning.synthesis import Assembly

    wanted, assembly = Deployment.of(params or {}), Assembly(form.run_folder(str(run_id)))
    previews = provision.preview(assembly, wanted.place, run=str(run_id))
    text = report.markdown(wanted, assembly, previews)
    (assembly.folder / form.BODY).write_text(text, encoding="utf-8")
    print(text)
    return [one.planned.as_dict() for one in previews]


@task.short_circuit
def unless_dry_run(planned: list[dict[str, str]], params: dict[str, object] | None = None) -> bool:
    """Ends a dry run here, without its change sets."""
    from clickstream.provisioning import provision
    from clickstream.provisioning.deployment import Deployment

    if (params or {})["dry_run"]:
        place = Deployment.of(params or {}).place
        provision.discard(place, [provision.Planned(**plan) for plan in planned])
    return not (params or {})["dry_run"]


@task(execution_timeout=timedelta(hours=3))
def deploy(
    number: int, planned: list[dict[str, str]], params: dict[str, object] | None = None, run_id: str | None = None
) -> None:
    """Execute the change set of one stack."""
    from clickstream.provisioning import provision
    from clickstream.provisioning.deployment import Deployment
    from clickstream.provisioning.synthesis import Assembly

    plan = provision.Planned(**planned[number])
    provision.deploy(Assembly(form.run_folder(str(run_id))), Deployment.of(params or {}).place, plan)


@task
def connect(params: dict[str, object] | None = None) -> list[str]:
    """Returns the names of the secrets."""
    from clickstream.provisioning import connections, provision
    from clickstream.provisioning.deployment import Deployment

    place = Deployment.of(params or {}).place
    return connections.write(place, provision.outputs(place))


@task(execution_timeout=timedelta(hours=1))
def bootstrap(params: dict[str, object] | None = None) -> None:
    """Bring the host to this release."""
    from clickstream.provisioning import host, provision
    from clickstream.provisioning.deployment import Deployment

    place = Deployment.of(params or {}).place
    host.run(place, provision.outputs(place)["HostInstanceId"], host.BOOTSTRAP)


@task(retries=3, retry_delay=timedelta(minutes=1), retry_exponential_backoff=False)
def verify(params: dict[str, object] | None = None) -> None:
    """Fail while anything is down."""
    from clickstream.provisioning import host, provision, verification
    from clickstream.provisioning.deployment import Deployment

    place = Deployment.of(params or {}).place
    verification.check_aws(place)
    host.run(place, provision.outputs(place)["HostInstanceId"], host.CHECK_HEALTH)


@dag(
    description="Deploys the stacks on AWS, after a preview and an approval",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args={**TASK_DEFAULTS, "retries": 0, "execution_timeout": timedelta(minutes=15)},
    doc_md=__doc__,
    tags=["clickstream", "aws"],
    params=PARAMS,
)
def provision_infrastructure() -> None:
    """Validate, synthesize, preview, approve, deploy, connect, bootstrap, verify."""
    approve = ApprovePreviewOperator(
        task_id="approve",
        subject="Deploy to AWS?",
        execution_timeout=None,
        response_timeout=timedelta(days=1),
    )
    planned = preview()
    validate() >> synthesize() >> upload_assets() >> planned
    first, second = (deploy.override(task_id=f"deploy_{stack}")(n, planned) for n, stack in enumerate(STACKS))
    unless_dry_run(planned) >> approve >> first >> second >> connect() >> bootstrap() >> verify()


provision_infrastructure()
