"""What the operators share that send requests of a user's: how their arguments are checked and rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.definitions._internal.contextmanager import DagContext

from airflow_chat_provider.core.schema import NotGiven
from airflow_chat_provider.retry_policy import DEFAULT_POLICY, policy_argument

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

    from airflow_chat_provider.building import Upstream
    from airflow_chat_provider.core.settings import Settings
    from airflow_chat_provider.hooks import ChatCompletionHook


class RequestOperator(BaseOperator):
    """Arguments are assigned unchanged in ``__init__``, then ``_check_self`` is called.

    Airflow knows values that a mapped task got from XCom by their identity, and would render a copy as a template.
    """

    template_fields_renderers: ClassVar[dict[str, str]] = {"request": "json", "messages": "json", "prompt": "md"}
    chat_conn_id: str
    timeout: float | str | None
    deadline: float | str | None
    max_attempts: int | str | None
    _own_fields: ClassVar[Sequence[str]]
    """The template fields that ``_render_request`` renders; a subclass of a user's may have more."""

    def __init__(self, *, retry_policy: Any = DEFAULT_POLICY, **kwargs: Any) -> None:
        # An argument of ours, so that Airflow takes it from default_args, and ours as the default of partial().
        super().__init__(**policy_argument(retry_policy), **kwargs)

    @classmethod
    def _check_arguments(cls, arguments: Mapping[str, Any], dag: Any, *, mapped: bool) -> None:
        raise NotImplementedError

    def _render_request(self, fields: list[str], context: Any, env: Any, seen_oids: set[int]) -> None:
        raise NotImplementedError

    def _take_request_schema(self, given: Any) -> None:
        # A plain text: msgpack, in which the DAG processor hands over what it parsed, takes no subclass of str.
        self.request_schema = str(given) if isinstance(given, NotGiven) else given
        self._names_schema = not isinstance(given, NotGiven)

    def schema_for(self, upstream: Upstream, settings: Settings) -> Any:
        """The task's own request_schema, where it names one; else upstream's or the connection's."""
        return self.request_schema if self._names_schema else upstream.schema(settings)

    def hook_for(self, upstream: Upstream) -> ChatCompletionHook:
        """The hook for the task's connection, with the task's own limits."""
        from airflow_chat_provider.hooks import ChatCompletionHook

        return ChatCompletionHook(
            upstream.conn_id(self.chat_conn_id, ChatCompletionHook.default_conn_name),
            timeout=self.timeout,  # type: ignore[arg-type]  # text that a template rendered is read as an extra's is
            deadline=self.deadline,  # type: ignore[arg-type]
            max_attempts=self.max_attempts,  # type: ignore[arg-type]
        )

    def _check_self(self) -> None:
        dag = self.get_dag() if self.has_dag() else None  # type: ignore[no-untyped-call]
        self._check_arguments(self._to_check(), dag, mapped=False)

    def _to_check(self) -> Mapping[str, Any]:
        """The arguments, without the paths of a mapped task, which may be data of an upstream's: no file is read."""
        if not getattr(self, "_BaseOperator__from_mapped", False):
            return vars(self)
        from airflow_chat_provider.parsing import without_paths

        return without_paths(vars(self))

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Airflow's ``partial``, whose arguments are checked like the operator's."""
        cls._check_arguments(kwargs, kwargs.get("dag") or DagContext.get_current(), mapped=True)
        return super().partial(**kwargs)

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Any,
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        # Airflow's hook for rendering, of mapped tasks too. Its own would render data again and log what fails.
        ours = [name for name in template_fields if parent is self and name in self._own_fields]
        rest = [name for name in template_fields if name not in ours]
        super()._do_render_template_fields(parent, rest, context, jinja_env, seen_oids)
        if ours:
            self._render_request(ours, context, jinja_env, seen_oids)
