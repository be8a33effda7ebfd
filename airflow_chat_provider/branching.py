"""A model that decides which tasks run next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_chat_provider.chat_operator import ChatCompletionOperator
from airflow_chat_provider.core.errors import InvalidRequest

try:
    from airflow.sdk.bases.branch import BranchMixIn
except ImportError:  # before Airflow 3.2
    from airflow.providers.standard.operators.branch import BranchMixIn  # type: ignore[assignment]

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_chat_provider.core.choice import Choice
    from airflow_chat_provider.core.dialogue import Wanted

_OURS = ("result_format", "response_schema", "multiple_outputs")


class ChatCompletionBranchOperator(ChatCompletionOperator, BranchMixIn):
    """Let the model pick among the tasks downstream; the others are skipped.

    Takes ChatCompletionOperator's arguments but ``result_format`` and ``response_schema``. ``return_value`` is the
    picked task's id (a list of them where several tools were called); under the XCom key ``arguments`` stand the
    arguments of each picked task by its id. An id that is not downstream is asked for again ``output_retries`` times.

    :param branches: the ids to pick from, in a list or with a description (or description and parameters) each;
        else all tasks directly downstream
    :param choose_by: enum (one id, in an answer of JSON) or tool (one or more, each with arguments)
    """

    ui_color = "#f4e1c6"

    def __init__(
        self,
        *,
        branches: Mapping[str, Any] | Sequence[str] | None = None,
        choose_by: Literal["enum", "tool"] = "enum",
        **kwargs: Any,
    ) -> None:
        self.branches = branches
        self.choose_by = choose_by
        super().__init__(**kwargs)
        self.result_format = "tool_calls" if choose_by == "tool" else "json"

    @classmethod
    def _check_each(cls, arguments: Mapping[str, Any], dag: Any) -> None:
        given = next((name for name in _OURS if arguments.get(name) not in (None, "raw", False)), None)
        if given is not None:
            raise InvalidRequest(f"Leave {given} out: a branch has its own", path=given, keyword="branch")
        super()._check_each(arguments, dag)
        if arguments.get("choose_by") == "tool":
            from airflow_chat_provider.core.choice import described
            from airflow_chat_provider.core.output import load_parameters

            for name, branch in described(arguments.get("branches") or ()).items():
                if branch.get("parameters"):
                    load_parameters(name, branch["parameters"])

    def _choice(self) -> Choice:
        from airflow_chat_provider.core.choice import Choice, described

        branches = described(self.branches if self.branches is not None else sorted(self.downstream_task_ids))
        strange = sorted(set(branches) - self._possible())
        if strange or not branches:
            what = f"{strange[0]!r} is not downstream" if strange else "there is no task downstream"
            listed = ", ".join(sorted(self._possible()))
            raise InvalidRequest(
                f"Correct branches of task {self.task_id!r}: {what}; downstream are: {listed}",
                path="branches",
                keyword="enum",
            )
        return Choice(branches)

    def _possible(self) -> set[str]:
        """The tasks directly downstream, and the groups whose first tasks are."""
        ids = set(self.downstream_task_ids)
        dag = self.get_dag() if self.has_dag() else None  # type: ignore[no-untyped-call]
        groups = dag.task_group.get_task_group_dict() if dag is not None else {}
        return ids | {
            name for name, group in groups.items() if name and {root.task_id for root in group.get_roots()} <= ids
        }

    def _wanted(self) -> Wanted:
        from airflow_chat_provider.core.dialogue import Wanted
        from airflow_chat_provider.core.output import load_output

        schema = load_output(self._choice().schema()) if self.choose_by == "enum" else None
        return Wanted(schema, self.choose_by == "tool", self.output_retries, self.result_format)

    def _question(self, request: dict[str, Any]) -> dict[str, Any]:
        from airflow_chat_provider.core.choice import with_instruction

        choice = self._choice()
        if self.choose_by == "enum":
            return {**request, "messages": with_instruction(request["messages"], choice.prompt())}
        if request.get("tools"):
            raise InvalidRequest("Leave tools out: a branch has its own", path="$.tools", keyword="branch")
        return {**request, "tools": choice.tools(), "tool_choice": "required"}

    def _conclude(self, context: Context, *arguments: Any) -> Any:
        answer = super()._conclude(context, *arguments)
        picked = self._choice().picked(answer) if answer is not None else {}
        value: str | list[str] = next(iter(picked)) if len(picked) == 1 else list(picked)
        if self.do_xcom_push:  # now: where tasks are skipped, do_branch raises, and nothing is returned
            context["ti"].xcom_push(key="arguments", value=picked)
            context["ti"].xcom_push(key="return_value", value=value)
        self.do_branch(context, list(picked))
        return value
