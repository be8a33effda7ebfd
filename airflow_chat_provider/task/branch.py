"""A model that decides which tasks run next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_chat_provider.airflow_api.compat import DownstreamTasksSkipped
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.task.base import naming
from airflow_chat_provider.task.chat import ChatCompletionOperator

try:
    from airflow.sdk.bases.branch import BranchMixIn
    from airflow.sdk.bases.skipmixin import XCOM_SKIPMIXIN_FOLLOWED, XCOM_SKIPMIXIN_KEY
except ImportError:  # before Airflow 3.2
    from airflow.providers.standard.operators.branch import BranchMixIn  # type: ignore[assignment]
    from airflow.providers.standard.utils.skipmixin import (
        XCOM_SKIPMIXIN_FOLLOWED,
        XCOM_SKIPMIXIN_KEY,
    )

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_chat_provider.core.answer.choice import Choice
    from airflow_chat_provider.core.answer.dialogue import Wanted
    from airflow_chat_provider.task.downstream import Downstream

_OURS = ("result_format", "response_schema", "multiple_outputs")


class ChatCompletionBranchOperator(ChatCompletionOperator, BranchMixIn):
    """Let the model pick among the tasks downstream; the others are skipped.

    Takes ChatCompletionOperator's arguments but ``result_format`` and ``response_schema``. ``return_value`` is the
    picked task's id (a list of them where several tools were called); under the XCom key ``arguments`` stand the
    arguments of each picked task by its id. An id that is not downstream is asked for again ``output_retries`` times.

    :param branches: the ids to pick from, in a list or with a description (or description and parameters) each;
        else all tasks directly downstream but setups and teardowns
    :param choose_by: enum (one id, in an answer of JSON) or tool (one or more, each with arguments)
    """

    __module__ = "airflow_chat_provider.operators"  # the public path: loggers and serialized DAGs name it
    ui_color = "#f4e1c6"
    # Let the scheduler skip what was not picked, also where it is cleared or expanded later on. Airflow asks for the
    # first of these, and for the second one where a decorated function is mapped.
    inherits_from_skipmixin = True
    _can_skip_downstream = True
    is_branch = True

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
            from airflow_chat_provider.core.answer.choice import described
            from airflow_chat_provider.core.answer.output_schema import load_parameters

            for name, branch in described(arguments.get("branches") or ()).items():
                if branch.get("parameters"):
                    load_parameters(name, branch["parameters"])

    def resolve_template_files(self) -> None:
        """Check the branches, too: Airflow calls this when a DAG is parsed, and all of its tasks are known."""
        super().resolve_template_files()
        if not self.branches:
            return
        after = self._downstream()
        for name in self.branches:
            if name in after.tasks and name not in after.possible:
                with naming(self.task_id):
                    raise self._wrong_branches(after, after.why_not(name))

    def _downstream(self) -> Downstream:
        from airflow_chat_provider.task.downstream import Downstream

        return Downstream(self)

    def _choice(self) -> Choice:
        from airflow_chat_provider.core.answer.choice import Choice, described

        after = self._downstream()
        branches = described(self.branches if self.branches is not None else after.offered)
        what = next(filter(None, map(after.why_not, sorted(branches))), None)
        if what or not branches:
            raise self._wrong_branches(after, what or "there is no task downstream that can be picked")
        return Choice(branches)

    def _wrong_branches(self, after: Downstream, what: str | None) -> InvalidRequest:
        listed = ", ".join(sorted(after.possible))
        return InvalidRequest(
            f"Correct branches of task {self.task_id!r}: {what}; downstream are: {listed}",
            path="branches",
            keyword="enum",
        )

    def _wanted(self) -> Wanted:
        from airflow_chat_provider.core.answer.dialogue import Wanted
        from airflow_chat_provider.core.answer.output_schema import load_output

        schema = load_output(self._choice().schema()) if self.choose_by == "enum" else None
        return Wanted(schema, self.choose_by == "tool", self.output_retries, self.result_format)

    def _question(self, request: dict[str, Any]) -> dict[str, Any]:
        from airflow_chat_provider.core.answer.choice import with_instruction

        choice = self._choice()
        if self.choose_by == "enum":
            return {**request, "messages": with_instruction(request["messages"], choice.prompt())}
        if request.get("tools"):
            raise InvalidRequest("Leave tools out: a branch has its own", path="$.tools", keyword="branch")
        return self._taken({**request, "tools": choice.tools(), "tool_choice": "required"})

    def _taken(self, question: dict[str, Any]) -> dict[str, Any]:
        """The question with what the model needs to take the tools, which the user has not written."""
        from airflow_chat_provider.core.request.rules.reasoning import effort_for_tools

        if self._hook is None:
            return question
        question, warnings = effort_for_tools(question, self._hook.settings.base_url)
        for warning in warnings:
            self.log.warning("%s", warning)
        return question

    def _execute(self, context: Context) -> Any:
        value = super()._execute(context)
        if self._dry_run:  # nobody picked anything
            self.do_branch(context, [])
        return value

    def _conclude(self, context: Context, *arguments: Any) -> Any:
        answer = super()._conclude(context, *arguments)
        picked = self._choice().picked(answer) if answer is not None else {}
        value: str | list[str] = next(iter(picked)) if len(picked) == 1 else list(picked)
        if self.do_xcom_push:  # now: where tasks are skipped, do_branch raises, and nothing is returned
            context["ti"].xcom_push(key="arguments", value=picked)
            context["ti"].xcom_push(key="return_value", value=value)
        self.do_branch(context, list(picked))
        return value

    def skip_all_except(self, ti: Any, branch_task_ids: str | Iterable[str] | None) -> None:
        """Airflow's, which would skip teardowns too, and before 3.4 leaves out tasks that are expanded already."""
        after = self._downstream()
        picked = [branch_task_ids] if isinstance(branch_task_ids, str) else branch_task_ids or ()
        followed = after.followed(picked)
        ti.xcom_push(key=XCOM_SKIPMIXIN_KEY, value={XCOM_SKIPMIXIN_FOLLOWED: sorted(followed)})
        skipped = [
            (name, index) for name, one in after.tasks.items() if name not in followed for index in _indices(one, ti)
        ]
        self.log.info("Following %s, skipping %s", sorted(followed), skipped)
        if skipped:
            raise DownstreamTasksSkipped(tasks=skipped)  # type: ignore[no-untyped-call]


def _indices(task: Any, ti: Any) -> Iterable[int]:
    """The map indices of a task after ``ti`` that are to be skipped now. The scheduler skips the rest."""
    if ti.map_index >= 0:  # in a mapped group; from Airflow 3.4 on the scheduler knows what to do
        return () if hasattr(ti, "region_id") else (ti.map_index,)
    known = getattr(task, "get_parse_time_mapped_ti_count", None)  # until Airflow 3.1, whose scheduler skips none
    try:
        return (-1, *range(known() if known is not None else 0))
    except Exception:  # noqa: BLE001 - it is not mapped, or over an upstream task's list, and not yet expanded
        return (-1,)
