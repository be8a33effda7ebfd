"""What the operators share: how their arguments are checked and rendered, and in which context they execute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from airflow.sdk import BaseOperator

from airflow_chat_provider.airflow_api.compat import current_context, final_errors
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.schema import NotGiven
from airflow_chat_provider.retry_policy import DEFAULT_POLICY, policy_argument
from airflow_chat_provider.task.argument_kinds import Kind
from airflow_chat_provider.task.arguments import arguments_of, check_filled
from airflow_chat_provider.templates.dag_templates import dag_of

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import DAG, Context

_PACKAGE = __name__.partition(".")[0]


class RequestOperator(BaseOperator):
    """The base of all operators that send a user's requests.

    A subclass assigns its arguments unchanged in ``__init__``, since a copy of a mapped value would be rendered again,
    and then calls ``_check_self``.
    """

    template_fields_renderers: ClassVar[dict[str, str]] = {"request": "json", "messages": "json", "prompt": "md"}
    chat_conn_id: str
    timeout: float | str | None
    deadline: float | str | None
    max_attempts: int | str | None
    deferrable: bool = False
    is_branch: ClassVar[bool] = False
    """True for a branch: another task cannot execute it, because only a task of the DAG has tasks downstream."""
    _function_adds: ClassVar[bool] = False
    """True if a function that is called when the task runs adds to the request."""
    _kinds: ClassVar[Mapping[str, Kind]]
    """What each argument may be."""
    _own_fields: ClassVar[Sequence[str]]
    """The template fields that ``_render_request`` renders. A user's subclass may have more."""
    given_by_mapping: Mapping[str, Any] | None = None
    """The arguments that a mapped task was made with; None for any other task."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give a user's subclass the link to its conversation: Airflow's plugins know no class but by its name."""
        super().__init_subclass__(**kwargs)
        if cls.__module__.partition(".")[0] != _PACKAGE:
            from airflow_chat_provider.task.link import links_of

            cls.operator_extra_links = links_of(cls)

    def __new__(cls, **kwargs: Any) -> Self:
        """Keep the arguments of a mapped task, before a user's subclass changes them."""
        task = super().__new__(cls)
        if kwargs.get("_airflow_from_mapped"):
            from airflow_chat_provider.task.mapped import given_by_mapping

            object.__setattr__(task, "given_by_mapping", given_by_mapping(kwargs))
        return task

    def __init__(self, *, retry_policy: Any = DEFAULT_POLICY, **kwargs: Any) -> None:
        # retry_policy is named here so that Airflow takes it from default_args, and our default for partial().
        from airflow_chat_provider.task.parse_checks import naming
        from airflow_chat_provider.task.unknown_arguments import check_names

        with naming(str(kwargs.get("task_id"))):
            check_names(type(self), kwargs, above=RequestOperator)
        super().__init__(**policy_argument(retry_policy), **kwargs)

    @classmethod
    def _check_arguments(cls, arguments: Mapping[str, Any], dag: DAG | None, *, mapped: bool) -> None:
        """Check all arguments when the DAG is parsed. ``mapped``: some of them come only when the task runs."""
        raise NotImplementedError

    @classmethod
    def _check_each(cls, arguments: Mapping[str, Any], dag: DAG | None) -> None:
        """Check each of these arguments by itself."""
        from airflow_chat_provider.task.parse_checks import check_each

        check_each(arguments, cls._kinds, cls._own_fields, dag)

    def _render_request(
        self, fields: list[str], context: Any, env: jinja2.Environment, data: frozenset[str]
    ) -> InvalidRequest | None:
        """Render these fields of the operator's own, in place. Those in ``data`` are data, not templates.

        Returns the first error, which is kept: ``execute()`` raises it.
        """
        raise NotImplementedError

    def _take_request_schema(self, given: Any) -> None:
        # A plain str, because msgpack, by which the DAG processor passes on what it parsed, takes no subclass of str.
        self.request_schema = str(given) if isinstance(given, NotGiven) else given
        self.names_schema = not isinstance(given, NotGiven)

    def _check_self(self) -> None:
        """Check the arguments when the DAG is parsed.

        A mapped task is made when it runs. What it got from an upstream task is data, neither a template nor the path
        of a file, so ``_check_filled`` and the request's own checks look at it instead.
        """
        if getattr(self, "_BaseOperator__from_mapped", False):
            return
        from airflow_chat_provider.task.parse_checks import naming

        with naming(self.task_id):
            self._check_arguments(arguments_of(self), dag_of(self), mapped=self._function_adds)

    def _check_filled(self) -> None:
        """Check the arguments again once their templates are rendered, or fields were set. Raises InvalidRequest.

        The request's arguments are left to the check of the whole request.
        """
        check_filled(arguments_of(self), self._kinds)

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Airflow's ``partial``. Its arguments and those of ``expand()`` are checked as the operator's are."""
        from airflow_chat_provider.task.mapping import check_partial, checked_partial

        check_partial(cls, kwargs)
        return checked_partial(super().partial(**kwargs))

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Any,
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        # Airflow calls this to render a task, a mapped one too. Its own method would render data again, and would log
        # a template that fails with all that stands in it.
        if parent is not self:
            super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)
            return
        from airflow_chat_provider.task.mapped import from_upstream

        if getattr(context.get("task"), "task_id", None) == self.task_id:
            context["task"] = self  # Airflow 3.1 has the task there that this one is a copy of
        data = from_upstream(self, self.given_by_mapping, [*template_fields, "response_schema"], context)
        for name in template_fields:
            if name not in self._own_fields and name not in data:
                self._render_other(name, context, jinja_env)
        own = [name for name in template_fields if name in self._own_fields]
        error = self._render_request(own, context, jinja_env, data) if own else None
        # Without a running task (`airflow tasks render`) it is raised here. In a running one it waits for execute():
        # an earlier try may have an answer that is paid for.
        if error is not None and current_context() is None and context.get("ti") is not None:
            raise error

    def _render_other(self, name: str, context: Any, env: jinja2.Environment) -> None:
        """Render a template field of a user's subclass as Airflow does. What fails is an InvalidRequest."""
        from airflow_chat_provider.templates.failures import failing_at, naming_what_is_missing

        named = cast("Context", naming_what_is_missing(context))
        with final_errors(), failing_at(name, str(getattr(self, name))):
            super()._do_render_template_fields(self, [name], named, env, set())


def known_context(context: Any) -> Any:
    """``context``, or the running task's if somebody executes an operator with an empty one."""
    if context and context.get("ti") is not None:
        return context
    return current_context() or context or {}  # no task is running in a unit test


def outer_task(operator: BaseOperator, context: Any) -> BaseOperator | None:
    """The task that executes ``operator``; None if Airflow does, or if no task is running."""
    task = getattr(context.get("ti"), "task", None)
    return task if isinstance(task, BaseOperator) and task is not operator else None


def placed(task: RequestOperator, context: Any) -> tuple[Any, str | None]:
    """The context to go by, and the operator's task_id if another task executes it.

    Raises InvalidRequest for what is impossible there. An operator that only Airflow's default would defer is not
    deferred.
    """
    context = known_context(context)
    outer = outer_task(task, context)
    if outer is None:
        return context, None
    if task.is_branch:
        raise _inside_error(task, outer, "branches", "so it has no tasks downstream")
    if task.deferrable:
        # Airflow would defer the outer task, which knows nothing of the call: the answer would be lost.
        if "deferrable" in getattr(task, "_BaseOperator__init_kwargs", ()):
            raise _inside_error(task, outer, "deferrable", "so it cannot be deferred", ", or set deferrable=False")
        task.deferrable = False
        task.log.info(
            "%s waits in the worker: task %s executes it, so it cannot be deferred", task.task_id, outer.task_id
        )
    return context, task.task_id


def _inside_error(task: BaseOperator, outer: BaseOperator, path: str, why: str, way_out: str = "") -> InvalidRequest:
    return InvalidRequest(
        f"Make {task.task_id!r} a task of the DAG{way_out}: task {outer.task_id!r} executes it, {why}",
        path=path,
        keyword="inside",
    )
