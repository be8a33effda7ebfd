"""What the operators share that send requests of a user's: how their arguments are checked and rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from airflow.sdk import BaseOperator

from airflow_chat_provider.airflow_api.compat import current_context
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.schema import NotGiven
from airflow_chat_provider.retry_policy import DEFAULT_POLICY, final_errors, policy_argument

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

    from airflow_chat_provider.task.kinds import Kind


class RequestOperator(BaseOperator):
    """Arguments are assigned unchanged in ``__init__``, then ``_check_self`` is called."""

    template_fields_renderers: ClassVar[dict[str, str]] = {"request": "json", "messages": "json", "prompt": "md"}
    chat_conn_id: str
    timeout: float | str | None
    deadline: float | str | None
    max_attempts: int | str | None
    _function_adds: ClassVar[bool] = False
    """Does a function that is called when the task runs add to the request?"""
    _own_fields: ClassVar[Sequence[str]]
    """The template fields that ``_render_request`` renders; a subclass of a user's may have more."""
    given_by_mapping: Mapping[str, Any] | None = None
    """What a mapped task was made with."""

    def __new__(cls, **kwargs: Any) -> Self:
        """Note what a mapped task is made with, before a subclass makes something else of it."""
        task = super().__new__(cls)
        if kwargs.get("_airflow_from_mapped"):
            from airflow_chat_provider.task.mapped import given_by_mapping

            object.__setattr__(task, "given_by_mapping", given_by_mapping(kwargs))
        return task

    def __init__(self, *, retry_policy: Any = DEFAULT_POLICY, **kwargs: Any) -> None:
        # An argument of ours, so that Airflow takes it from default_args, and ours as the default of partial().
        super().__init__(**policy_argument(retry_policy), **kwargs)

    @classmethod
    def _kinds(cls) -> Mapping[str, Kind]:
        """What each argument may be."""
        raise NotImplementedError

    @classmethod
    def _check_arguments(cls, arguments: Mapping[str, Any], dag: Any, *, mapped: bool) -> None:
        """Check all arguments when the DAG is parsed; ``mapped``: as far as they are there."""
        raise NotImplementedError

    @classmethod
    def _check_each(cls, arguments: Mapping[str, Any], dag: Any) -> None:
        """Check each of these by itself."""
        from airflow_chat_provider.task.parse_checks import check_each

        check_each(arguments, cls._kinds(), cls._own_fields, dag)

    def _render_request(self, fields: list[str], context: Any, env: Any, data: frozenset[str]) -> InvalidRequest | None:
        """Render the operator's own fields; those in ``data`` hold no template. What failed is kept for execute()."""
        raise NotImplementedError

    def _take_request_schema(self, given: Any) -> None:
        # A plain text: msgpack, in which the DAG processor hands over what it parsed, takes no subclass of str.
        self.request_schema = str(given) if isinstance(given, NotGiven) else given
        self._names_schema = not isinstance(given, NotGiven)

    def _check_self(self) -> None:
        """Check the arguments when the DAG is parsed.

        Not those of a mapped task, which is made when it runs: what an upstream task left is data, and is neither a
        template nor the path of a file. ``_check_filled`` and the request's own checks look at them.
        """
        if getattr(self, "_BaseOperator__from_mapped", False):
            return
        from airflow_chat_provider.task.kinds import arguments_of
        from airflow_chat_provider.task.parse_checks import naming
        from airflow_chat_provider.templates.dag_templates import dag_of

        with naming(self.task_id):
            self._check_arguments(arguments_of(self), dag_of(self), mapped=self._function_adds)

    def _check_filled(self) -> None:
        """Check the arguments once their templates are rendered: what parsing knew nothing of is looked at now."""
        from airflow_chat_provider.task.kinds import check_filled

        check_filled(self, self._kinds())

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Airflow's ``partial``, whose arguments are checked like the operator's, as are those of ``expand()``."""
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
        # Airflow's hook for rendering, of mapped tasks too. Its own would render data again and log what fails.
        if parent is not self:
            super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)
            return
        from airflow_chat_provider.task.mapped import from_upstream

        if getattr(context.get("task"), "task_id", None) == self.task_id:
            context["task"] = self  # Airflow 3.1 leaves there the task that this one is a copy of
        data = from_upstream(self, [*template_fields, "response_schema"], context)
        for name in template_fields:
            if name not in self._own_fields and name not in data:
                self._render_other(name, context, jinja_env)
        own = [name for name in template_fields if name in self._own_fields]
        error = self._render_request(own, context, jinja_env, data) if own else None
        if error is not None and _is_only_shown(context):
            raise error

    def _render_other(self, name: str, context: Any, env: jinja2.Environment) -> None:
        """A template field of a user's subclass, as Airflow renders it; what fails is said as we say it."""
        from airflow_chat_provider.templates.failures import failing_at, naming_what_is_missing

        named = cast("Context", naming_what_is_missing(context))
        with final_errors(), failing_at(name, str(getattr(self, name))):
            super()._do_render_template_fields(self, [name], named, env, set())


def _is_only_shown(context: Any) -> bool:
    """Is no task running (``airflow tasks render``)? Else an error waits for execute(): a paid answer may be there."""
    return current_context() is None and context.get("ti") is not None


def known_context(context: Any) -> Any:
    """``context``, or the running task's if somebody executes an operator with an empty one."""
    if context and context.get("ti") is not None:
        return context
    return current_context() or context or {}  # no task is running in a unit test


def outer_task(operator: BaseOperator, context: Any) -> BaseOperator | None:
    """The task that executes ``operator``; None if Airflow does, or if no task is running."""
    task = getattr(context.get("ti"), "task", None)
    return task if isinstance(task, BaseOperator) and task is not operator else None


def inside_error(operator: BaseOperator, outer: BaseOperator, path: str, why: str, way_out: str = "") -> InvalidRequest:
    """The error of what is impossible for an operator that another task executes."""
    return InvalidRequest(
        f"Make {operator.task_id!r} a task of the DAG{way_out}: task {outer.task_id!r} executes it, {why}",
        path=path,
        keyword="inside",
    )
