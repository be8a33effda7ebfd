"""A chat completion as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_chat_provider.airflow_api.compat import conf, exceptions, final_errors
from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest
from airflow_chat_provider.core.request.attachments import MAX_BYTES, Attachments
from airflow_chat_provider.core.request.schema import DEFAULT_SCHEMA
from airflow_chat_provider.task.arguments import ARGUMENTS, TEMPLATE_FIELDS, ChatArguments, Try
from airflow_chat_provider.task.base import RequestOperator, placed

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import DAG, Context

    from airflow_chat_provider.core.answer.dialogue import Dialogue, Wanted
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.core.types import OnIncomplete, ResultFormat
    from airflow_chat_provider.durable.entry import Deferred
    from airflow_chat_provider.hooks import ChatCompletionHook
    from airflow_chat_provider.task import rendering
    from airflow_chat_provider.task.arguments import OnUncertain, OutputArgument, SchemaArgument
    from airflow_chat_provider.task.handoff import Found
    from airflow_chat_provider.transport.session import Session

_ENDING = ("execute_complete", "resume_execution", "post_execute", "_conclude", "_wanted")


class ChatCompletionOperator(RequestOperator):
    """Send one chat completion request; push ``body``, ``status``, ``usage``, ``configuration`` and ``messages``.

    :param request: (templated) the API's request: a dict, its JSON text, or the path of a ``.json`` file
    :param messages: (templated) used instead of ``request["messages"]``; an upstream task's ``messages`` continues it
    :param model: (templated) used instead of ``request["model"]``, the configuration's and the connection's
    :param prompt: (templated) a user message that is added at the end
    :param system_prompt: (templated) the one leading system message
    :param attachments: (templated) paths or URLs of files that go into the last user message; see ``docs/files.md``
    :param max_attachment_bytes: the most bytes that each of these files may have
    :param chat_conn_id: (templated) a connection of type ``chat``
    :param configuration: (templated) the XCom ``configuration`` of an upstream task
    :param request_schema: (templated) "2026-11", "2023-12", "open", a JSON Schema or its path; None sends unchecked
    :param response_schema: the answer must fit it: a JSON Schema, its path, a Pydantic model, ``list[Model]``
    :param output_retries: how often an answer that does not fit is asked for again
    :param result_format: the form of ``return_value``: raw (body and status), message, text, json (parsed), tool_calls
    :param check_status: False: a final 4xx or 5xx is data, and the task succeeds
    :param on_incomplete: warn, fail or ignore if the answer was cut off, filtered or refused
    :param push_messages: push the conversation including the reply
    :param timeout: (templated) seconds for one attempt; this and the next two override the connection
    :param deadline: (templated) seconds for all attempts and the waits between them
    :param max_attempts: (templated) attempts of a call
    :param max_total_tokens: (templated) the most tokens that all calls of the task instance may take
    :param max_cost: (templated) the most that they may cost
    :param deferrable: wait for the answer in the triggerer, which takes no worker slot
    :param on_uncertain: fail or resend if a triggerer ended while the (deferred) request was under way
    :param dry_run: send nothing: check the request, print it as a curl command without the key, and return it
    """

    __module__ = "airflow_chat_provider.operators"  # the public path: loggers and serialized DAGs name it
    template_fields: Sequence[str] = TEMPLATE_FIELDS
    _own_fields = TEMPLATE_FIELDS
    _kinds = ARGUMENTS
    ui_color = "#e6f2ec"

    def __init__(
        self,
        *,
        request: Mapping[str, Any] | str | None = None,
        messages: Sequence[Any] | str | None = None,
        model: str | None = None,
        prompt: Any = None,
        system_prompt: Any = None,
        attachments: Any = None,
        max_attachment_bytes: int = MAX_BYTES,
        chat_conn_id: str = "chat_default",
        configuration: Mapping[str, Any] | None = None,
        request_schema: SchemaArgument = DEFAULT_SCHEMA,
        response_schema: OutputArgument = None,
        output_retries: int = 1,
        result_format: ResultFormat = "raw",
        check_status: bool = True,
        on_incomplete: OnIncomplete = "warn",
        push_messages: bool = True,
        timeout: float | str | None = None,
        deadline: float | str | None = None,
        max_attempts: int | str | None = None,
        max_total_tokens: int | str | None = None,
        max_cost: float | str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        on_uncertain: OnUncertain = "fail",
        dry_run: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.request = request
        self.messages = messages
        self.model = model
        self.prompt = prompt
        self.system_prompt = system_prompt
        self.attachments = attachments
        self.max_attachment_bytes = max_attachment_bytes
        self.chat_conn_id = chat_conn_id
        self.configuration = configuration
        self._take_request_schema(request_schema)
        self.response_schema = response_schema
        self.output_retries = output_retries
        self.result_format = result_format
        self.check_status = check_status
        self.on_incomplete = on_incomplete
        self.push_messages = push_messages
        self.timeout = timeout
        self.deadline = deadline
        self.max_attempts = max_attempts
        self.max_total_tokens = max_total_tokens
        self.max_cost = max_cost
        self.deferrable = deferrable
        self.on_uncertain = on_uncertain
        self._dry_run = dry_run  # BaseOperator has a method dry_run
        self._rendered: rendering.RenderedRequest | None = None
        self._hook: ChatCompletionHook | None = None
        self._check_self()

    @classmethod
    def _check_arguments(cls, arguments: Mapping[str, Any], dag: DAG | None, *, mapped: bool) -> None:
        from airflow_chat_provider.task.parse_checks import check_multiple_outputs, check_request

        cls._check_each(arguments, dag)
        request = check_request(arguments, dag, mapped=mapped, may_grow=cls._function_adds)
        check_multiple_outputs(arguments, request, dag)

    def _render_request(
        self, fields: list[str], context: Any, env: jinja2.Environment, data: frozenset[str]
    ) -> InvalidRequest | None:
        from airflow_chat_provider.task import rendering

        self._rendered = rendered = rendering.RenderedRequest.render(self, fields, context, env, data)
        try:
            if rendered.error is None:
                rendered.show()
        except InvalidRequest as error:  # execute() comes upon it again
            return error
        return rendered.error

    def _built(self, context: Context) -> dict[str, Any]:  # noqa: ARG002 - a decorated function takes it
        """The request for what the task's arguments are now."""
        return self._rendered_fields().request()

    def _rendered_fields(self) -> rendering.RenderedRequest:
        from airflow_chat_provider.task import rendering

        if self._rendered is None:
            self._rendered = rendering.RenderedRequest.from_data(self)
        return self._rendered

    def execute(self, context: Context) -> Any:
        """Send the request and push what came back. Raises ChatCompletionError for what is wrong with it."""
        with final_errors():
            return self._execute(context)

    def _execute(self, context: Context) -> Any:
        from airflow_chat_provider.durable.ledger import Ledger
        from airflow_chat_provider.task.attachments import located
        from airflow_chat_provider.task.limits import account_of, limits_of
        from airflow_chat_provider.task.lineage import Facts
        from airflow_chat_provider.task.xcoms import Upstream
        from airflow_chat_provider.transport import server_memory

        context, inside = placed(self, context)
        request = self._built(context)
        self._check_filled()
        arguments = ChatArguments.from_task(self)
        upstream = Upstream(arguments.configuration or {})
        self._hook = hook = upstream.hook(arguments)
        try:
            session = hook.session
            settings = session.settings
            schema = upstream.schema(arguments, settings)
            files = arguments.files()
            request = session.prepare(files.with_stand_ins(upstream.with_model(request)), schema)
            request, files = files.noted(request)
            if arguments.multiple_outputs:  # of a mapped task, only now is all known that decides
                from airflow_chat_provider.task.parse_checks import check_multiple_outputs

                check_multiple_outputs(arguments._asdict(), request, arguments.dag)
            wanted = self._wanted(arguments)
            server_memory.warn(wanted)
            dialogue = server_memory.begin(self._question(request, settings), wanted, settings)
            self._show(dialogue.request, settings.base_url)
            limits = limits_of(arguments, session, request)
            if arguments.dry_run:
                return self._plan(dialogue.request, settings, located(files, arguments.dag))
            configuration = upstream.downstream(request, schema, settings)
            ledger, replies = Ledger.open(
                context, files.identity(request), settings.base_url, on_uncertain=arguments.on_uncertain, inside=inside
            )
            account = account_of(context, limits, replies, inside)
            this = Try(context, arguments, ledger, configuration, replies, located(files, arguments.dag), account)
            self.facts = Facts(configuration)
            reply = self._ask(this, session, dialogue, replies)
            server_memory.learn(dialogue, settings.base_url)
            return self._conclude(this, dialogue.question, reply)
        finally:
            hook.close()

    def _plan(self, request: dict[str, Any], settings: Settings, attachments: Attachments) -> dict[str, Any]:
        """Print and return what a dry run would send."""
        from airflow_chat_provider.task.dry_run import plan, told

        found = plan(request, settings, attachments)
        print(told(found))  # noqa: T201 - asked for; no other code shows a prompt
        self.multiple_outputs = False  # the plan has none of the keys that tasks downstream wait for
        return found

    def _wanted(self, arguments: ChatArguments) -> Wanted:
        """What an answer has to be."""
        return arguments.wanted()

    def _question(self, request: dict[str, Any], settings: Settings) -> dict[str, Any]:  # noqa: ARG002 - a branch's
        """The checked request, with what an operator of this kind adds to it."""
        return request

    def _show(self, request: dict[str, Any], base_url: str) -> None:
        """Let the rendered fields show what is really sent: the connection's model, for example, is known only now."""
        from airflow_chat_provider.transport.server_memory import variants

        request = variants(request, base_url)[0]
        if request != self.request:
            self.request, self.overwrite_rtif_after_execution = request, True
            self._rendered_fields().note()

    def _ask(self, this: Try, session: Session, dialogue: Dialogue, replies: list[Reply]) -> Reply:
        """Send until the dialogue has ended, or defer. ``replies`` are those that an earlier try received."""
        from airflow_chat_provider.core.answer.dialogue import drive
        from airflow_chat_provider.core.answer.record import safe
        from airflow_chat_provider.core.answer.reply import Reply
        from airflow_chat_provider.core.cost.estimate import sure_tokens
        from airflow_chat_provider.task.xcoms import leave_usage

        if replies:
            self.log.info("Using the answer to this request that an earlier try received")
        final = dialogue.replay(replies)

        def send(dialogue: Dialogue) -> Reply:
            if dialogue.call > 1:
                self.log.info("%s", dialogue.asking_again)
            request, account = dialogue.request, this.account
            if this.arguments.deferrable:
                over = account.refusal(sure_tokens(request)) if account is not None else None
                if over is not None:
                    return Reply(None, None, attempts=0, error=over)
                self._defer(this, session.settings.limits, dialogue, replies)
            key = this.ledger.key_of(dialogue.call, request)
            sent = session.send(request, idempotency_key=key, attachments=this.attachments, purse=account)
            replies.append(safe(sent))
            if this.arguments.do_xcom_push:
                this.ledger.keep(replies)
            return replies[-1]

        try:
            return drive(dialogue, send) if final is None else final
        except exceptions.AirflowTaskTimeout as error:
            if (cut := session.unfinished()) is not None:
                cut_off = this._replace(replies=[*replies, cut])
                leave_usage(self, cut_off, dialogue.question, error, dialogue.rejected)
            raise

    def _defer(self, this: Try, limits: dict[str, float], dialogue: Dialogue, replies: list[Reply]) -> NoReturn:
        """Let a trigger make the calls that are still due."""
        from airflow_chat_provider.durable.entry import Deferred
        from airflow_chat_provider.task import handoff

        why = handoff.needs_worker(self, this.context["ti"], is_customised=self._has_own_ending())
        if why is not None:
            self.log.debug("A worker finishes this task, not its trigger: %s", why)
        delivery = this.arguments.delivery()._asdict() if why is None else None
        wanted = dialogue.wanted.to_dict()
        deferred = Deferred(limits, {}, None, dialogue.began, wanted, delivery, this.configuration, this.ledger.state)
        deferred = deferred._replace(attachments=this.attachments.to_dict())
        handoff.hand_over(self, this, dialogue, deferred, replies)

    def _conclude(self, this: Try, question: dict[str, Any], reply: Reply) -> Any:
        """Leave the reply that ended the dialogue, or what is wrong with it."""
        from airflow_chat_provider.task.xcoms import deliver

        try:
            return deliver(self, this, question, reply)
        except ChatCompletionError as error:
            this.ledger.close(error)
            raise

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """The second half of ``execute`` if a trigger left the end of a deferred call to a worker."""
        from airflow_chat_provider.task import handoff

        with final_errors():
            found = handoff.find(context["ti"], event, on_uncertain=self.on_uncertain)
            if found.has_ended:
                return found.journal.left_value()
            if found.entry is None:
                raise found.error or RuntimeError("a deferred call left neither an entry nor an error")
            return self._take_up(context, found, found.entry.deferred)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Airflow's way back from a trigger. One that could not run has left a journal all the same."""
        if next_method != "__fail__":
            return super().resume_execution(next_method, next_kwargs, context)
        from airflow_chat_provider.task.handoff import failure_event

        return self.execute_complete(context, failure_event(next_kwargs))

    def _take_up(self, context: Context, found: Found, deferred: Deferred) -> Any:
        """Go on with what the trigger left: another call, or the end of the task."""
        from airflow_chat_provider.durable.ledger import Ledger
        from airflow_chat_provider.task import handoff
        from airflow_chat_provider.task.limits import account_taken_up
        from airflow_chat_provider.task.lineage import Facts
        from airflow_chat_provider.transport import server_memory

        base_url = deferred.configuration["base_url"]
        self._show(deferred.request, base_url)
        ledger = Ledger.resume(context, deferred.ledger)
        replies = found.replies if found.unfinished is None else [*found.replies, found.unfinished]
        arguments, files = ChatArguments.from_task(self), Attachments.from_dict(deferred.attachments)
        account = account_taken_up(context, found.entry)
        this = Try(context, arguments, ledger, deferred.configuration, replies, files, account)
        self.facts = Facts(this.configuration)
        if this.arguments.do_xcom_push:
            ledger.keep(found.replies)
        else:
            ledger.release()
        question = deferred.question or deferred.request
        dialogue, final = self._replayed(this.arguments, question, deferred.rung, found.replies)
        if found.error is not None:
            final = handoff.lost(self, this, found, question, dialogue)
        elif final is None:
            self.log.info("%s", dialogue.asking_again)
            handoff.hand_over(self, this, dialogue, deferred, found.replies)
        elif dialogue is not None:
            server_memory.learn(dialogue, base_url)
        try:
            value = self._conclude(this, question, final)
        except (ChatCompletionError, exceptions.DownstreamTasksSkipped):  # the second one is how a branch ends well
            found.journal.clear()
            raise
        found.journal.clear()  # not if Airflow took no XCom: then the answer is nowhere else
        return value

    def _replayed(
        self, arguments: ChatArguments, question: dict[str, Any], rung: int, replies: list[Reply]
    ) -> tuple[Any, Reply | None]:
        """The dialogue as far as its replies go, and the last of them, unless there is another call to make."""
        from airflow_chat_provider.core.answer.dialogue import Dialogue
        from airflow_chat_provider.core.answer.result import unreadable

        try:
            dialogue = Dialogue(question, self._wanted(arguments), rung)
            final = dialogue.replay(replies)
        except Exception as error:  # noqa: BLE001 - the answer is paid for: whatever this is, body and status are pushed first
            if not replies:
                return None, None
            return None, replies[-1]._replace(error=unreadable(replies[-1], error))
        return dialogue, final

    @classmethod
    def _has_own_ending(cls) -> bool:
        """True if a subclass ends its task in a way of its own, which runs in workers only."""
        return any(getattr(cls, name) is not getattr(ChatCompletionOperator, name) for name in _ENDING)

    def on_kill(self) -> None:
        """Close the socket of the call, so that the server can stop working on it."""
        if self._hook is not None:
            self._hook.abort()
