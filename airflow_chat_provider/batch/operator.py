"""Thousands of chat completions as one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_chat_provider.airflow_api.compat import final_errors
from airflow_chat_provider.batch.checks import ARGUMENTS
from airflow_chat_provider.core.request.attachments import MAX_BYTES, check_turn
from airflow_chat_provider.core.request.schema import DEFAULT_SCHEMA
from airflow_chat_provider.task.arguments import BATCH_FIELDS, REQUEST_FIELDS, TEMPLATE_FIELDS
from airflow_chat_provider.task.base import RequestOperator

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import Context, ObjectStoragePath

    from airflow_chat_provider.batch.background import Background
    from airflow_chat_provider.batch.job import Job
    from airflow_chat_provider.batch.vendor.waiting import GoesOn
    from airflow_chat_provider.core.errors import InvalidRequest
    from airflow_chat_provider.task.arguments import OutputArgument
    from airflow_chat_provider.task.rendering import RenderedFields

_FIELDS = (*BATCH_FIELDS, *TEMPLATE_FIELDS)


class ChatCompletionBatchOperator(RequestOperator):
    """Send a chat completion request for each row of ``input``; ``return_value`` is the manifest, with its ``usage``.

    ``request``, ``messages``, ``model``, ``prompt`` and ``system_prompt`` are as in ChatCompletionOperator; their
    templates see ``row``, whose values are data. A retry continues with the rows without a result, on any worker.

    :param input: (templated) the path of a .jsonl or .csv file, or a list of rows
    :param output: (templated) the folder for results, errors and manifest; one batch to a folder
    :param attachments: (templated) files for the row's last user message: ``["/data/{{ row.image }}"]``
    :param max_attachment_bytes: the most bytes that each of these files may have
    :param response_schema: what an answer must fit: a JSON Schema, its path, a Pydantic model, ``list[Model]``
    :param output_retries: how often to ask again if an answer does not fit
    :param result_format: what to keep of an answer: raw, message, text, json (the text parsed), tool_calls
    :param response_key: the key under which to keep it ("response")
    :param id_key: the column with the row's id
    :param keep_row: copy the row into its result
    :param shard: (templated) "2/8" for the second of eight parts, "1000:2000" for these rows
    :param max_concurrency: (templated) how many requests may be under way at once
    :param requests_per_minute: (templated) how many requests at most
    :param tokens_per_minute: (templated) how many tokens at most, of prompts and answers
    :param max_failures: (templated) how many rows, or "5%" of them, may fail before the task fails; None: all of them
    :param on_changed: "fail" or "restart" if the output holds results for another input or request
    :param on_incomplete: "warn", "fail" (the row) or "ignore" if an answer was cut off, filtered or refused
    :param file_mode: the mode of new files in a folder on this machine, like 0o600 or "0640"; None: the umask decides
    :param part_rows: in an object store: how many lines a part of the output has
    :param part_seconds: in an object store: a part is written after so many seconds, even with fewer lines
    :param max_total_tokens: (templated) the most tokens that all rows may take, in all tries
    :param max_cost: (templated) the most that all rows may cost, in all tries
    :param reuse: (templated) the output folder of an earlier batch, or a list of them: equal requests take its answers
    :param deduplicate: ask equal requests of this batch once
    :param dry_run: send nothing: check all rows, and return what they would take and cost
    :param via: "calls", or "batch_api" for the server's batch API: half the price, within ``completion_window``
    :param completion_window: with the batch API: how long the server may take
    :param cancel_on_kill: with the batch API: cancel what is under way if the task is killed
    :param deferrable: with the batch API: wait in the triggerer, which takes no worker slot
    """

    __module__ = "airflow_chat_provider.operators"  # the public path: loggers and serialized DAGs name it
    template_fields: Sequence[str] = _FIELDS
    _own_fields = _FIELDS
    _kinds = ARGUMENTS
    ui_color = "#d9ead3"

    def __init__(
        self,
        *,
        input: str | ObjectStoragePath | Sequence[Any],  # noqa: A002 - the field's name for it
        output: str | ObjectStoragePath,
        request: Mapping[str, Any] | str | None = None,
        messages: Sequence[Any] | str | None = None,
        model: str | None = None,
        prompt: Any = None,
        system_prompt: Any = None,
        attachments: Any = None,
        max_attachment_bytes: int = MAX_BYTES,
        chat_conn_id: str = "chat_default",
        configuration: Mapping[str, Any] | None = None,
        request_schema: Mapping[str, Any] | str | Path | None = DEFAULT_SCHEMA,
        response_schema: OutputArgument = None,
        output_retries: int = 1,
        result_format: Literal["raw", "message", "text", "json", "tool_calls"] = "raw",
        response_key: str | None = None,
        id_key: str = "custom_id",
        keep_row: bool = True,
        shard: str | None = None,
        max_concurrency: int | str = 64,
        requests_per_minute: float | str | None = None,
        tokens_per_minute: float | str | None = None,
        max_failures: float | str | None = "5%",
        on_changed: Literal["fail", "restart"] = "fail",
        on_incomplete: Literal["warn", "fail", "ignore"] = "warn",
        file_mode: int | str | None = 0o600,
        part_rows: int = 500,
        part_seconds: float = 10.0,
        timeout: float | str | None = None,
        deadline: float | str | None = None,
        max_attempts: int | str | None = None,
        max_total_tokens: int | str | None = None,
        max_cost: float | str | None = None,
        reuse: Any = None,
        deduplicate: bool = False,
        dry_run: bool = False,
        via: Literal["calls", "batch_api"] = "calls",
        completion_window: str = "24h",
        cancel_on_kill: bool = True,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input = input
        self.output_path = output  # `output` is the XComArg of every operator
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
        self.response_key = response_key
        self.id_key = id_key
        self.keep_row = keep_row
        self.shard = shard
        self.max_concurrency = max_concurrency
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self.max_failures = max_failures
        self.on_changed = on_changed
        self.on_incomplete = on_incomplete
        self.file_mode = file_mode
        self.part_rows = part_rows
        self.part_seconds = part_seconds
        self.timeout = timeout
        self.deadline = deadline
        self.max_attempts = max_attempts
        self.max_total_tokens = max_total_tokens
        self.max_cost = max_cost
        self.reuse = reuse
        self.deduplicate = deduplicate
        self._dry_run = dry_run  # BaseOperator has a method dry_run
        self.via = via
        self.completion_window = completion_window
        self.cancel_on_kill = cancel_on_kill
        self.deferrable = deferrable
        self._rendered: RenderedFields | None = None
        self._background: Background | None = None
        self._check_self()

    @classmethod
    def _check_arguments(cls, arguments: Mapping[str, Any], dag: Any, *, mapped: bool) -> None:
        from airflow_chat_provider.task.parse_checks import check_request

        cls._check_each(arguments, dag)
        given = (name for name in REQUEST_FIELDS if name != "model")  # a model alone is for rows that are requests
        if any(arguments.get(name) is not None for name in given):
            check_request(arguments, dag, mapped=mapped)
        elif arguments.get("attachments") is not None and not mapped:
            check_turn(None)  # a row that is a request itself is sent as it is

    def _render_request(self, fields: list[str], context: Any, env: Any, data: frozenset[str]) -> InvalidRequest | None:
        from airflow_chat_provider.task.rendering import RenderedFields

        # A subclass may have left fields out of template_fields; in a batch, those of the request are templates still.
        self._rendered = RenderedFields.render(self, (*fields, *RenderedFields.own_fields), context, env, data)
        return self._rendered.error

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask for every row without a result, and return the manifest; a dry run returns its plan.

        Raises ChatCompletionError if too many rows failed, or if no other row could fare better.
        """
        return self._run(context)

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on with ``execute`` when a trigger has waited for the batch API."""
        from airflow_chat_provider.batch.vendor.waiting import GoesOn

        with final_errors():
            goes_on = GoesOn.from_event(event)
        return self._run(context, goes_on)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Airflow's way back from a trigger, also from one that took too long, or that could not run."""
        if next_method != "__fail__":
            return super().resume_execution(next_method, next_kwargs, context)
        from airflow_chat_provider.batch.vendor.waiting import failure_event

        return self.execute_complete(context, failure_event(next_kwargs))

    def _run(self, context: Context, goes_on: GoesOn | None = None) -> dict[str, Any]:
        from airflow_chat_provider.batch.background import Background
        from airflow_chat_provider.batch.setup import make_job
        from airflow_chat_provider.batch.trace import span_of
        from airflow_chat_provider.batch.xcoms import XComs
        from airflow_chat_provider.task.base import known_context, outer_task
        from airflow_chat_provider.task.rendering import RenderedFields

        context = known_context(context)
        with final_errors():
            if self._rendered is None:
                env = self.get_template_env()
                own = RenderedFields.own_fields
                self._rendered = RenderedFields.render(self, own, context, env, frozenset())
            template = self._rendered.template()
            self._check_filled()
            self._background = Background()
            if self._dry_run:
                return self._plan(make_job(self, template), self._background)
            has_own_xcoms = self.do_xcom_push and context.get("ti") is not None and outer_task(self, context) is None
            xcoms = XComs(context["ti"]) if has_own_xcoms else None
            terms = None
            if self.via == "batch_api":
                from airflow_chat_provider.batch.vendor.waiting import terms_of

                terms = terms_of(self, context, goes_on)
            job = make_job(self, template, terms)
            with span_of(job) as span:
                manifest, error = job.run(self._background, xcoms)
                span.error = error
            if job.waits is not None:
                from airflow_chat_provider.batch.vendor.waiting import defer

                defer(self, job.engine.settings.conn_id, job.waits)
            if xcoms is not None:
                xcoms.leave(manifest, failed=error is not None)
            self._tell(context, manifest)
            if error is not None:
                raise error
            return manifest

    def _plan(self, job: Job, background: Background) -> dict[str, Any]:
        """Print and return what a real run would do."""
        from airflow_chat_provider.batch.plan import plan, told
        from airflow_chat_provider.batch.preflight import Preflight, Terms

        look = Preflight(job, Terms(self.deduplicate, self.via == "batch_api"))
        look.run(lambda: background.cancelled)
        found = plan(look)
        self.outlets = []  # nothing was written, so no other DAG may start
        print(told(found, self.max_failures))  # noqa: T201 - asked for; no other code shows a prompt
        return found

    def _tell(self, context: Context, manifest: dict[str, Any]) -> None:
        """Tell lineage and the task's outlets of what was written."""
        from airflow_chat_provider.airflow_api.lineage import tell_outlets
        from airflow_chat_provider.batch.lineage import ended
        from airflow_chat_provider.task.base import outer_task

        self.facts = ended(self, self.facts, manifest)
        if outer_task(self, context) is None:  # or the outlets are the outer task's
            tell_outlets(self, context, self.facts.for_outlets)

    def on_kill(self) -> None:
        """Close every socket, and cancel what a batch API has under way. What has come is kept."""
        if self._background is not None:
            self._background.cancel()
