"""A chat completion as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_chat_provider.arguments import TEMPLATE_FIELDS
from airflow_chat_provider.batch.operator import ChatCompletionBatchOperator
from airflow_chat_provider.compat import conf
from airflow_chat_provider.core.errors import ChatCompletionError
from airflow_chat_provider.core.schema import DEFAULT_SCHEMA, NotGiven
from airflow_chat_provider.request_operator import RequestOperator
from airflow_chat_provider.retry_policy import final_errors

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import Context

    from airflow_chat_provider import building
    from airflow_chat_provider.core.response import Reply
    from airflow_chat_provider.hooks import ChatCompletionHook
    from airflow_chat_provider.ledger import Ledger

__all__ = ["ChatCompletionBatchOperator", "ChatCompletionOperator"]


class ChatCompletionOperator(RequestOperator):
    """Send one chat completion request; push ``body``, ``status``, ``configuration`` and ``messages``.

    :param request: (templated) the API's request: a dict, its JSON text, or the path of a ``.json`` file
    :param messages: (templated) wins over ``request["messages"]``; an upstream task's ``messages`` continues it
    :param model: (templated) wins over ``request["model"]``, the configuration's and the connection's
    :param prompt: (templated) a user message added at the end
    :param system_prompt: (templated) the one leading system message
    :param chat_conn_id: (templated) a connection of type ``chat``
    :param configuration: (templated) what an upstream task left under ``configuration``
    :param request_schema: (templated) "2026-11", "2023-12", a JSON Schema or its path; None sends unchecked
    :param result_format: what ``return_value`` is: raw (body and status), message, text, json (the text parsed)
    :param check_status: False: a final 4xx or 5xx is data, and the task succeeds
    :param on_incomplete: warn, fail or ignore where the answer was cut off, filtered or refused
    :param push_messages: push the conversation with the reply
    :param timeout: (templated) seconds for one attempt; like the next two it overrides the connection
    :param deadline: (templated) seconds for all attempts and waits
    :param max_attempts: (templated) sends in all
    :param deferrable: wait for the answer in the triggerer, which takes no worker slot
    :param on_uncertain: fail or resend where a triggerer ended while the (deferred) request was under way
    """

    template_fields: Sequence[str] = TEMPLATE_FIELDS
    _own_fields = TEMPLATE_FIELDS
    ui_color = "#e6f2ec"

    def __init__(
        self,
        *,
        request: Mapping[str, Any] | str | None = None,
        messages: Sequence[Any] | str | None = None,
        model: str | None = None,
        prompt: Any = None,
        system_prompt: Any = None,
        chat_conn_id: str = "chat_default",
        configuration: Mapping[str, Any] | None = None,
        request_schema: Mapping[str, Any] | str | Path | None = DEFAULT_SCHEMA,
        result_format: Literal["raw", "message", "text", "json"] = "raw",
        check_status: bool = True,
        on_incomplete: Literal["warn", "fail", "ignore"] = "warn",
        push_messages: bool = True,
        timeout: float | str | None = None,
        deadline: float | str | None = None,
        max_attempts: int | str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        on_uncertain: Literal["fail", "resend"] = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.request = request
        self.messages = messages
        self.model = model
        self.prompt = prompt
        self.system_prompt = system_prompt
        self.chat_conn_id = chat_conn_id
        self.configuration = configuration
        # A plain text: msgpack, in which the DAG processor hands over what it parsed, takes no subclass of str.
        self.request_schema = str(request_schema) if isinstance(request_schema, NotGiven) else request_schema
        self._names_schema = not isinstance(request_schema, NotGiven)
        self.result_format = result_format
        self.check_status = check_status
        self.on_incomplete = on_incomplete
        self.push_messages = push_messages
        self.timeout = timeout
        self.deadline = deadline
        self.max_attempts = max_attempts
        self.deferrable = deferrable
        self.on_uncertain = on_uncertain
        self._built: building.Built | None = None
        self._hook: ChatCompletionHook | None = None
        self._check_self()

    @classmethod
    def _check_arguments(cls, arguments: Mapping[str, Any], dag: Any, *, mapped: bool) -> None:
        from airflow_chat_provider.parsing import check_arguments

        check_arguments(arguments, dag, mapped=mapped)

    def _render_request(self, fields: list[str], context: Any, env: Any, seen_oids: set[int]) -> None:
        from airflow_chat_provider import building

        self._built = building.render(self, fields, context, env, seen_oids)

    def execute(self, context: Context) -> Any:
        """Send the request and push what came back; raises ChatCompletionError for what is wrong with it."""
        with final_errors():
            return self._execute(context)

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """``execute``'s second half, where the request was deferred: push what the trigger got."""
        from airflow_chat_provider import deferral
        from airflow_chat_provider.ledger import Ledger

        with final_errors():
            journal, entry, reply = deferral.find(context["ti"], event, on_uncertain=self.on_uncertain)
            if entry is None:
                return reply.raise_for_error()
            deferred = entry.deferred
            self._show(deferred.request, deferred.configuration["base_url"])
            ledger = Ledger.resume(context, deferred.ledger)
            try:
                return self._conclude(context, ledger, deferred.request, reply, deferred.configuration)
            finally:
                journal.drop()

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Airflow's way back from a trigger; one that could not run has a journal all the same."""
        if next_method != "__fail__":
            return super().resume_execution(next_method, next_kwargs, context)
        from airflow_chat_provider.deferral import failure_event

        return self.execute_complete(context, failure_event(next_kwargs))

    def _execute(self, context: Context) -> Any:
        from airflow_chat_provider import building
        from airflow_chat_provider.core.record import safe
        from airflow_chat_provider.ledger import Ledger

        built = self._built or building.build(self)
        if built.error is not None:
            raise built.error
        upstream = building.Upstream.of(self.configuration)
        self._hook = hook = self._make_hook(upstream)
        try:
            schema = self.request_schema if self._names_schema else upstream.schema(hook.settings)
            request = hook.prepare(upstream.request(built.request), schema)
            self._show(request, hook.settings.base_url)
            configuration = upstream.downstream(request, schema, hook.settings)
            ledger, reply = Ledger.open(context, request, hook.settings.base_url)
            if reply is not None:
                self.log.info("This request was answered in an earlier try, which ended before its task did")
            elif self.deferrable:
                from airflow_chat_provider import deferral

                deferral.leave(self, context["ti"], hook.settings, request, configuration, ledger)
            reply = reply or safe(hook.send(request, idempotency_key=ledger.idempotency_key))
            return self._conclude(context, ledger, request, reply, configuration)
        finally:
            hook.close()

    def _conclude(
        self, context: Context, ledger: Ledger, request: dict[str, Any], reply: Reply, configuration: dict[str, Any]
    ) -> Any:
        from airflow_chat_provider.delivery import deliver

        if self.do_xcom_push:
            ledger.keep(reply)
        try:
            return deliver(self, context["ti"], request, reply, configuration)
        except ChatCompletionError as error:
            ledger.close(error)
            raise

    def _show(self, request: dict[str, Any], base_url: str) -> None:
        """Let the rendered fields be what is really sent; some of it (the connection's model) is known only now."""
        from airflow_chat_provider.outgoing import variants

        request = variants(request, base_url)[0]
        if request != self.request:
            self.request, self.overwrite_rtif_after_execution = request, True

    def _make_hook(self, upstream: building.Upstream) -> ChatCompletionHook:
        from airflow_chat_provider.hooks import ChatCompletionHook

        return ChatCompletionHook(
            upstream.conn_id(self.chat_conn_id, ChatCompletionHook.default_conn_name),
            timeout=self.timeout,  # type: ignore[arg-type]  # text that a template rendered is read as an extra's is
            deadline=self.deadline,  # type: ignore[arg-type]
            max_attempts=self.max_attempts,  # type: ignore[arg-type]
        )

    def on_kill(self) -> None:
        """Close the socket of the call, so that the server can stop working for it."""
        if self._hook is not None:
            self._hook.abort()
