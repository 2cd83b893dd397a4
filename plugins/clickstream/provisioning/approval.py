"""Approvals that a person gives in the Airflow UI, after reading a file that an earlier task wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from clickstream.provisioning.form import BODY, run_folder

if TYPE_CHECKING:
    from airflow.sdk import Context

TYPED = "stack"


class ApprovePreviewOperator(ApprovalOperator):
    """Shows the text that the run has written for it, and waits for a yes or no."""

    def execute(self, context: Context) -> Any:  # noqa: ANN401 - as its base
        """Read the text, then wait."""
        self.body = (run_folder(context["run_id"]) / BODY).read_text(encoding="utf-8")
        return super().execute(context)


class ApproveByNameOperator(ApprovePreviewOperator):
    """A yes counts only with a name typed in; Airflow lets an answer without the field pass.

    Args:
        name: What must be typed.
    """

    def __init__(self, *, name: str, **kwargs: Any) -> None:  # noqa: ANN401 - as its base
        field = Param("", type="string", title="Name of the stack", description=f"Type {name} to delete it.")
        super().__init__(**kwargs | {"params": {TYPED: field}})  # not those of the DAG, which Airflow passes here
        self.name = name

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:  # noqa: ANN401 - as its base
        """Take the answer.

        Raises:
            AirflowFailException: It is a yes without the name; nothing is deleted.
        """
        typed = (event.get("params_input") or {}).get(TYPED, "")
        if self.APPROVE in (event.get("chosen_options") or ()) and typed != self.name:
            raise AirflowFailException(
                f"The approval has {typed!r} where the stack's name {self.name!r} must be typed. Nothing is deleted."
                " Clear this task to be asked again."
            )
        return super().execute_complete(context, event)
