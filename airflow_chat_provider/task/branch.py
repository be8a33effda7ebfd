"""A model that decides which tasks run next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.task.chat import ChatCompletionOperator
from airflow_chat_provider.templates.dag_templates import dag_of

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
    from airflow.sdk import DAG, BaseOperator, Context
    from airflow.sdk.types import Operator

    from airflow_chat_provider.core.answer.choice import Choice
    from airflow_chat_provider.core.answer.dialogue import Wanted
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.task.arguments import ChatArguments, Try

_NOT_FOR_BRANCHES = ("result_format", "response_schema", "multiple_outputs")


class ChatCompletionBranchOperator(ChatCompletionOperator, BranchMixIn):
    """Let the model pick from the tasks downstream; the others are skipped.

    It takes ChatCompletionOperator's arguments except ``result_format``, ``response_schema`` and ``multiple_outputs``.
    ``return_value`` is the id of the picked task, or a list of ids if the model called several tools. The XCom
    ``arguments`` has the arguments of each picked task by its id. An answer that names no task downstream is asked for
    again ``output_retries`` times.

    :param branches: the ids to pick from: a list, or a dict with the description of each (or its description and
        parameters); None: all tasks directly downstream except setups and teardowns
    :param choose_by: enum (one id, as a JSON answer) or tool (one or more ids, each with arguments)
    """

    __module__ = "airflow_chat_provider.operators"  # the public path: loggers and serialized DAGs name it
    ui_color = "#f4e1c6"
    # With these the scheduler skips what was not picked, even if it is cleared or expanded later. Airflow looks at the
    # first one, and at the second one where a decorated function is mapped.
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
    def _check_each(cls, arguments: Mapping[str, Any], dag: DAG | None) -> None:
        given = next((name for name in _NOT_FOR_BRANCHES if arguments.get(name) not in (None, "raw", False)), None)
        if given is not None:
            raise InvalidRequest(f"Remove {given}: a branch sets it itself", path=given, keyword="branch")
        super()._check_each(arguments, dag)
        if arguments.get("choose_by") == "tool":
            from airflow_chat_provider.core.answer.choice import described
            from airflow_chat_provider.core.answer.output_schema import load_parameters

            for name, branch in described(arguments.get("branches") or ()).items():
                if branch.get("parameters"):
                    load_parameters(name, branch["parameters"])

    def resolve_template_files(self) -> None:
        """Check the branches, too: Airflow calls this when a DAG is parsed and all of its tasks are known."""
        super().resolve_template_files()
        if not self.branches:
            return
        from airflow_chat_provider.task.parse_checks import naming

        after = Downstream(self)
        for name in self.branches:
            if name in after.tasks and name not in after.possible:
                with naming(self.task_id):
                    raise self._wrong_branches(after, after.why_not(name))

    def _choice(self) -> Choice:
        from airflow_chat_provider.core.answer.choice import Choice, described

        after = Downstream(self)
        branches = described(self.branches if self.branches is not None else after.offered)
        what = next(filter(None, map(after.why_not, sorted(branches))), None)
        if what or not branches:
            raise self._wrong_branches(after, what or "there is no task downstream that can be picked")
        return Choice(branches)

    def _wrong_branches(self, after: Downstream, what: str | None) -> InvalidRequest:
        listed = ", ".join(sorted(after.possible))
        return InvalidRequest(
            f"Correct branches: {what}; it can pick from: {listed or 'nothing'}",
            path="branches",
            keyword="enum",
        )

    def _wanted(self, arguments: ChatArguments) -> Wanted:
        from airflow_chat_provider.core.answer.dialogue import Wanted
        from airflow_chat_provider.core.answer.output_schema import load_output

        schema = load_output(self._choice().schema()) if self.choose_by == "enum" else None
        return Wanted(schema, self.choose_by == "tool", arguments.output_retries, arguments.result_format)

    def _question(self, request: dict[str, Any], settings: Settings) -> dict[str, Any]:
        from airflow_chat_provider.core.messages import with_instruction

        choice = self._choice()
        if self.choose_by == "enum":
            return {**request, "messages": with_instruction(request["messages"], choice.prompt())}
        if request.get("tools"):
            raise InvalidRequest("Remove tools: a branch sets them itself", path="$.tools", keyword="branch")
        # Some models take tools only with a certain reasoning_effort, and the user has not asked for tools here.
        from airflow_chat_provider.core.request.rules.reasoning import effort_for_tools

        question = {**request, "tools": choice.tools(), "tool_choice": "required"}
        question, warnings = effort_for_tools(question, settings.base_url)
        for warning in warnings:
            self.log.warning("%s", warning)
        return question

    def _execute(self, context: Context) -> Any:
        value = super()._execute(context)
        if self._dry_run:  # nothing was picked, and no task may run that a model did not pick
            if self.do_xcom_push and context.get("ti") is not None:  # here, because do_branch raises
                context["ti"].xcom_push(key="return_value", value=value)
            self.do_branch(context, [])
        return value

    def _conclude(self, this: Try, question: dict[str, Any], reply: Reply) -> Any:
        answer = super()._conclude(this, question, reply)
        picked = self._choice().picked(answer) if answer is not None else {}
        value: str | list[str] = next(iter(picked)) if len(picked) == 1 else list(picked)
        if self.do_xcom_push:  # here, because do_branch raises if tasks are skipped: then nothing is returned
            this.context["ti"].xcom_push(key="arguments", value=picked)
            this.context["ti"].xcom_push(key="return_value", value=value)
        self.do_branch(this.context, list(picked))
        return value

    def skip_all_except(self, ti: Any, branch_task_ids: str | Iterable[str] | None) -> None:
        """Skip as Airflow does, but never a teardown, and (as Airflow from 3.4 on) tasks that are already expanded."""
        after = Downstream(self)
        picked = [branch_task_ids] if isinstance(branch_task_ids, str) else branch_task_ids or ()
        followed = after.followed(picked)
        ti.xcom_push(key=XCOM_SKIPMIXIN_KEY, value={XCOM_SKIPMIXIN_FOLLOWED: sorted(followed)})
        skipped = [
            (name, index) for name, one in after.tasks.items() if name not in followed for index in _indices(one, ti)
        ]
        self.log.info("Following %s, skipping %s", sorted(followed), skipped)
        if skipped:
            raise exceptions.DownstreamTasksSkipped(tasks=skipped)  # type: ignore[no-untyped-call]


def _indices(task: Operator, ti: Any) -> Iterable[int]:
    """The map indices of a task downstream that are to be skipped now. The scheduler skips the rest."""
    if ti.map_index >= 0:  # inside a mapped group, whose branches the scheduler follows from Airflow 3.4 on
        return () if hasattr(ti, "region_id") else (ti.map_index,)
    known = getattr(task, "get_parse_time_mapped_ti_count", None)  # on Airflow 3.1, whose scheduler skips none
    try:
        return (-1, *range(known() if known is not None else 0))
    except Exception:  # noqa: BLE001 - the task is not mapped, or is mapped over a list that is not there yet
        return (-1,)


class Downstream:
    """The tasks directly downstream of ``branch``.

    Setups and teardowns cannot be picked: Airflow runs them for the tasks that they belong to.
    """

    def __init__(self, branch: BaseOperator) -> None:
        self._dag: Any = dag_of(branch)
        downstream = branch.downstream_list if self._dag is not None else ()
        self.tasks: dict[str, Any] = {task.task_id: task for task in downstream}
        self._roots = dict(self._groups())
        self._plain = {name for name, task in self.tasks.items() if _is_plain(task)}

    def _groups(self) -> Iterable[tuple[str, set[str]]]:
        """The groups whose first tasks are all directly downstream, each with the ids of its first tasks."""
        groups = self._dag.task_group.get_task_group_dict() if self._dag is not None else {}
        for name, group in groups.items():
            roots = {root.task_id for root in group.get_roots()}
            if name and roots <= self.tasks.keys() and any(map(_is_plain, group)):
                yield name, roots

    @property
    def possible(self) -> set[str]:
        """The ids of the tasks and groups that can be picked."""
        return self._plain | self._roots.keys()

    @property
    def offered(self) -> list[str]:
        """The ids to pick from if ``branches`` is None: each task, and each group that begins with a setup."""
        setups = [task for task in self.tasks.values() if task.is_setup and task.task_group is not None]
        groups = {setup.task_group.group_id for setup in setups}
        return sorted(self._plain | (groups & self._roots.keys()))

    def why_not(self, name: str) -> str | None:
        """Why an id cannot be picked; None if it can."""
        if name in self.possible:
            return None
        task = self.tasks.get(name)
        if task is None:
            return f"{name!r} is not downstream"
        if task.is_teardown:
            return f"{name!r} is a teardown, which cannot be picked: it runs whatever is picked"
        return f"{name!r} is a setup, which cannot be picked: name a task that needs it, or a group that begins with it"

    def followed(self, picked: Iterable[str]) -> set[str]:
        """The ids of the tasks directly downstream that are not skipped.

        As in Airflow, a task downstream of a picked one is not skipped either. Unlike there, teardowns always run, and
        so do setups, except those that only serve tasks that are skipped.
        """
        followed = self._with_all_after(picked)
        governed = self._with_all_after(self._plain)
        begin_groups = set().union(*self._roots.values())
        for name, task in self.tasks.items():
            if task.is_teardown:
                followed.add(name)
            elif task.is_setup:
                needed_by = _needed_by(task)
                if needed_by & followed or not (name in begin_groups or needed_by & governed):
                    followed.add(name)
        return self.tasks.keys() & followed

    def _with_all_after(self, names: Iterable[str]) -> set[str]:
        found = set(names)
        return found.union(*(self._dag.get_task(name).get_flat_relative_ids(upstream=False) for name in found))


def _needed_by(setup: Operator) -> set[str]:
    """The ids of the tasks that Airflow skips if this setup is skipped."""
    found = set()
    for task in setup.downstream_list:
        if task.is_setup:
            found |= _needed_by(task)
        elif not task.is_teardown:
            found.add(task.task_id)
    return found


def _is_plain(task: Operator) -> bool:
    return not (task.is_setup or task.is_teardown)
