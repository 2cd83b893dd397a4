"""## Take the pipeline down from AWS

Run it from a control Airflow outside of the account's stacks, such as the embedded stack on your machine; it refuses
where this Airflow's own host or database would go. Begin with *dry run*: it lists what would go, and what data with it.
With *dry run* off it asks for your approval (**Required actions**), in which you type the name of the stack,
`InfrastructureStack`. A yes without the name deletes nothing.

What stays, on purpose: the bucket of all zones, the bucket of templates, a final snapshot of the database, the volume
of Kafka's log. `scan_for_leftovers` lists each with the command that deletes it, and fails if anything else is left
(docs/aws.md). Clear any task at any time; what is gone already is fine.
"""

from datetime import timedelta

from airflow.sdk import Param, dag, task

from clickstream.orchestration import TASK_DEFAULTS
from clickstream.provisioning import form
from clickstream.provisioning.approval import ApproveByNameOperator
from clickstream.provisioning.names import HOST_STACK, STACKS


@task
def plan(params: dict[str, object] | None = None, run_id: str | None = None) -> list[str]:
    """Returns the stacks that would go."""
    from clickstream.provisioning import teardown
    from clickstream.provisioning.deployment import place_of

    place = place_of(params or {})
    place.require_account()
    doomed = teardown.plan(place)
    teardown.refuse_own_ground(place, doomed)
    text = teardown.markdown(place, doomed)
    folder = form.run_folder(str(run_id))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / form.BODY).write_text(text, encoding="utf-8")
    print(text)
    return [one.stack for one in doomed]


@task.short_circuit
def unless_dry_run(params: dict[str, object] | None = None) -> bool:
    """Ends a dry run here."""
    return not (params or {})["dry_run"]


@task(execution_timeout=timedelta(hours=3))
def delete(stack: str, params: dict[str, object] | None = None) -> None:
    """Delete one stack."""
    from clickstream.provisioning import teardown
    from clickstream.provisioning.deployment import place_of

    place = place_of(params or {})
    place.require_account()
    teardown.refuse_own_ground(place, teardown.plan(place))
    teardown.delete(place, stack)


@task
def delete_connections(params: dict[str, object] | None = None) -> list[str]:
    """Returns the names of Airflow's connections that were deleted from Secrets Manager."""
    from clickstream.provisioning import connections
    from clickstream.provisioning.deployment import place_of

    return connections.delete(place_of(params or {}))


@task
def scan_for_leftovers(params: dict[str, object] | None = None) -> None:
    """List what stays, and fail if it is more than is meant to."""
    from clickstream.provisioning import leftovers
    from clickstream.provisioning.deployment import place_of

    found = leftovers.scan(place_of(params or {}))
    print(leftovers.listing(found))
    leftovers.require_none(found)


@dag(
    description="Deletes the stacks on AWS, after a list and an approval by name",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args={**TASK_DEFAULTS, "retries": 0, "execution_timeout": timedelta(minutes=15)},
    doc_md=__doc__,
    tags=["clickstream", "aws"],
    params={
        **form.PLACE,
        "dry_run": Param(True, type="boolean", description="Only list what would go, and what data with it."),
    },
)
def teardown_infrastructure() -> None:
    """List, approve, delete in reverse order, scan."""
    approve = ApproveByNameOperator(
        task_id="approve",
        name=HOST_STACK,
        subject="Delete the pipeline from AWS?",
        execution_timeout=None,
        response_timeout=timedelta(days=1),
    )
    second, first = (delete.override(task_id=f"delete_{stack}")(stack) for stack in STACKS)
    plan() >> unless_dry_run() >> approve >> first >> second >> delete_connections() >> scan_for_leftovers()


teardown_infrastructure()
