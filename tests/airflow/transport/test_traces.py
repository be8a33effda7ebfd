"""The spans of calls and attempts, as OpenTelemetry's own SDK collects them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import pytest

from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.testing import ChatServer, replies
from airflow_chat_provider.transport import observer
from airflow_chat_provider.triggers import ChatCompletionTrigger
from tests.support import faults, telemetry
from tests.support.calling import AT_ONCE, KEY, PROMPT, REQUEST, Create, Log, both, failure
from tests.support.running import Airflow
from tests.support.telemetry import Traces

Connect = Callable[..., str]
ANSWER = "canary answer about nothing"
AIRFLOW = tuple(map(int, version("apache-airflow-core").split(".")[:2]))


def attributes(span: Any) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in span.attributes.items()}


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch, traces: Traces) -> None:
    monkeypatch.setenv("AIRFLOW__CHAT__TRACE_CONTENT", "True")


@both
def test_a_call_is_a_span_with_what_the_conventions_name_and_an_attempt_is_one_below_it(
    chat: ChatServer, traces: Traces, create: Create
) -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "total_tokens": 11,
        "cost": 0.5,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    chat.script(replies.ok(ANSWER, usage=usage, model="test-model-0613"))
    more = {"temperature": 0, "top_p": 0.5, "max_completion_tokens": 50, "seed": 7, "n": 1}
    create(ChatCompletionHook(), {**REQUEST, **more, "response_format": {"type": "json_object"}})
    call = traces.one("chat test-model")
    port = int(chat.url.split(":")[2].split("/")[0])
    assert call.kind.name == "CLIENT"
    assert call.status.status_code.name == "UNSET"
    assert attributes(call) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "test-model",
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.seed": 7,
        "gen_ai.output.type": "json",
        "gen_ai.response.model": "test-model-0613",
        "gen_ai.response.id": "chatcmpl-test",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 1,
        "server.address": "127.0.0.1",
        "server.port": port,
        "chat_completion.attempts": 1,
        "chat_completion.conn_id": "chat_default",
        "chat_completion.cost": 0.5,
    }
    (attempt,) = traces.attempts(call)
    assert attempt.kind.name == "CLIENT"
    assert attributes(attempt) == {
        "http.request.method": "POST",
        "url.full": f"http://127.0.0.1:{port}/v1/chat/completions",
        "server.address": "127.0.0.1",
        "server.port": port,
        "http.response.status_code": 200,
    }


def test_the_names_are_those_of_the_conventions_that_are_installed(chat: ChatServer, traces: Traces) -> None:
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, http_attributes, server_attributes
    from opentelemetry.semconv.attributes import error_attributes, url_attributes

    modules = (gen_ai_attributes, http_attributes, server_attributes, error_attributes, url_attributes)
    known = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    chat.script(replies.error(500, "busy", headers=AT_ONCE), replies.ok())
    with contextlib.closing(ChatCompletionHook()) as hook:
        hook.create({**REQUEST, "temperature": 1})
    used = {name for span in traces.spans for name in span.attributes if not name.startswith("chat_completion.")}
    newer = {"gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.reasoning.output_tokens", "gen_ai.request.stream"}
    assert used - newer <= known
    assert "http.request.resend_count" in used


@both
def test_each_attempt_has_its_span_with_its_number_and_what_was_wrong_with_it(
    chat: ChatServer, traces: Traces, create: Create
) -> None:
    chat.script(replies.error(503, "busy", headers=AT_ONCE), faults.reset(), replies.ok())
    create(ChatCompletionHook())
    call = traces.one("chat test-model")
    told = [
        (
            span.attributes.get("http.request.resend_count"),
            span.attributes.get("http.response.status_code"),
            span.attributes.get("error.type"),
        )
        for span in traces.attempts(call)
    ]
    assert told == [(None, 503, "503"), (1, None, "TransportError"), (2, 200, None)]
    assert call.attributes["chat_completion.attempts"] == 3
    assert "error.type" not in call.attributes


@both
def test_a_failed_call_says_which_kind_of_error_it_was_and_quotes_nobody(
    chat: ChatServer, traces: Traces, create: Create
) -> None:
    chat.script(replies.error(400, f"no, {PROMPT}", "bad"))
    failure(create, ChatCompletionHook())
    call = traces.one("chat test-model")
    assert call.attributes["error.type"] == "StatusError 400"
    assert call.status.status_code.name == "ERROR"
    assert call.status.description is None
    assert not call.events
    assert "canary" not in traces.text


@both
def test_nothing_of_prompt_answer_key_headers_and_query_is_in_a_span(
    server: ChatServer, traces: Traces, connect: Connect, create: Create
) -> None:
    extra = {"headers": {"x-secret": "canary-header"}, "query": {"key": "canary-query"}}
    connect(server.url, password=KEY, extra=extra)
    thoughts = {"message": {"role": "assistant", "content": ANSWER, "reasoning_content": "canary thought"}}
    body = replies.completion(choices=[{"index": 0, "finish_reason": "stop", **thoughts}])
    server.script(replies.error(500, f"no {KEY} {PROMPT}", headers=AT_ONCE), replies.json_reply(200, body))
    create(ChatCompletionHook(), {**REQUEST, "stop": ["canary stop"], "user": "canary user"})
    assert traces.one("chat test-model")
    assert len(traces.spans) == 3
    assert not [secret for secret in (KEY, "canary", "nothing") if secret in traces.text]


@both
def test_prompts_and_answers_are_there_if_the_user_wants_them(
    server: ChatServer, traces: Traces, content: None, connect: Connect, create: Create
) -> None:
    connect(server.url, password=KEY)
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [
        {"role": "system", "content": f"the key is {KEY}"},
        {"role": "user", "content": [{"type": "text", "text": PROMPT}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "57"},
    ]
    server.script(replies.ok(ANSWER))
    create(ChatCompletionHook(), {"model": "test-model", "messages": messages})
    told = traces.one("chat test-model").attributes
    assert json.loads(told["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "the key is ***"}]},
        {"role": "user", "parts": [{"type": "text", "content": PROMPT}, {"type": "image_url"}]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "call_1", "name": "look", "arguments": '{"a": 1}'}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": "57"}]},
    ]
    assert json.loads(told["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": ANSWER}], "finish_reason": "stop"}
    ]


@both
def test_however_much_was_said_a_span_stays_small(
    chat: ChatServer, traces: Traces, content: None, create: Create
) -> None:
    chat.script(replies.ok("y" * 1_000_000))
    messages = [{"role": "user", "content": "x" * 100} for _ in range(5000)] + [{"role": "user", "content": "the end"}]
    create(ChatCompletionHook(), {"model": "test-model", "messages": messages})
    told = traces.one("chat test-model").attributes
    said = json.loads(told["gen_ai.input.messages"])
    assert said[-1]["parts"] == [{"type": "text", "content": "the end"}]
    assert len(told["gen_ai.input.messages"]) < 150_000
    assert len(told["gen_ai.output.messages"]) < 150_000


HOSTILE: list[Mapping[str, Any]] = [
    {"model": "a\ud800\x00\u202eb", "id": "x" * 100_000},
    {"model": {"no": "name"}, "id": 17},
    {"choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "\ud800" * 5000}]},
    {"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": {"no": "word"}}] * 1000},
    {"usage": {"prompt_tokens": 2**70, "completion_tokens": -1, "cost": float("1e300")}},
]


@both
@pytest.mark.parametrize("answer", HOSTILE)
def test_whatever_a_server_sends_its_span_can_be_exported_and_is_small(
    chat: ChatServer, traces: Traces, content: None, create: Create, answer: Mapping[str, Any]
) -> None:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    chat.script(replies.json_reply(200, replies.completion(**answer)))
    with contextlib.suppress(Exception):
        create(ChatCompletionHook())
    exported = encode_spans(traces.spans).SerializeToString()
    told = traces.one("chat test-model").attributes
    assert all(str(told.get(f"gen_ai.response.{name}", "")).isprintable() for name in ("model", "id", "finish_reasons"))
    assert len(exported) < 300_000


@both
def test_a_model_that_the_data_names_cannot_break_a_span(chat: ChatServer, traces: Traces, create: Create) -> None:
    create(ChatCompletionHook(), {**REQUEST, "model": "two\nlines \u202e" + "x" * 10_000})
    (call,) = (span for span in traces.spans if span.name.startswith("chat "))
    assert call.name.isprintable()
    assert len(call.name) < 200


@both
def test_a_call_belongs_to_the_span_around_it(chat: ChatServer, traces: Traces, create: Create) -> None:
    with traces.task() as task:
        create(ChatCompletionHook())
    call = traces.one("chat test-model")
    assert call.parent.span_id == task.get_span_context().span_id


def test_a_task_has_its_calls_below_its_span_whether_it_waits_or_defers(
    airflow: Airflow, chat: ChatServer, traces: Traces
) -> None:
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", model="asked", prompt=PROMPT)
    with traces.task() as task:
        assert airflow.run().state == "success"
    call = traces.one("chat asked")
    if AIRFLOW >= (3, 2):  # Airflow 3.1 leaves spans of its own current
        assert call.context.trace_id == task.get_span_context().trace_id
    assert call.parent
    assert [span.attributes["http.response.status_code"] for span in traces.attempts(call)] == [200]
    assert "canary" not in traces.text


def test_a_worker_hands_the_span_of_its_task_over_to_the_trigger(
    run_dag: Callable[..., Any], chat: ChatServer, traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.definitions import dag

    handed: list[str] = []
    run = dag._run_inline_trigger

    def noted(trigger: Any, *more: Any) -> Any:
        handed.append(trigger.traceparent)
        return run(trigger, *more)

    monkeypatch.setattr(dag, "_run_inline_trigger", noted)
    airflow = Airflow(run_dag, deferrable=True)
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", model="asked", prompt=PROMPT)
    with traces.task():
        assert airflow.run().state == "success"
    (parent,) = handed
    assert parent.split("-")[1] == format(traces.one("chat asked").context.trace_id, "032x")


def test_a_trigger_takes_the_span_of_its_task_from_its_arguments(traces: Traces) -> None:
    with traces.task() as task:
        parent = observer.traceparent()
    trigger = ChatCompletionTrigger(dag_id="d", run_id="r", task_id="t", traceparent=parent)
    _, arguments = trigger.serialize()
    assert arguments["traceparent"] == parent
    assert len(parent or "") == 55
    again = ChatCompletionTrigger(**arguments)
    with observer.under(again.traceparent), traces.provider.get_tracer("x").start_as_current_span("below") as span:
        assert span.get_span_context().trace_id == task.get_span_context().trace_id
        assert span.parent.span_id == task.get_span_context().span_id  # type: ignore[attr-defined]


def test_without_traces_a_trigger_has_no_argument_for_them() -> None:
    assert observer.traceparent() is None
    _, arguments = ChatCompletionTrigger(dag_id="d", run_id="r", task_id="t").serialize()
    assert "traceparent" not in arguments


def test_the_span_that_airflow_gives_a_trigger_in_the_same_trace_stays_the_parent(traces: Traces) -> None:
    with traces.task():
        parent = observer.traceparent()
        with traces.task("trigger") as trigger, observer.under(parent), traces.task("below") as below:
            assert below.parent.span_id == trigger.get_span_context().span_id


def test_a_parent_that_is_no_traceparent_is_passed_over(traces: Traces) -> None:
    with observer.under("nonsense"), traces.task("alone") as alone:
        assert alone.parent is None


def test_a_call_that_is_cancelled_ends_its_spans(chat: ChatServer, traces: Traces) -> None:
    telemetry.cancel_a_call(chat)
    assert {span.attributes["error.type"] for span in traces.spans} == {"CancelledError"}
    assert len(traces.spans) == 2


def test_a_stream_that_was_left_early_ends_its_span_without_an_error(chat: ChatServer, traces: Traces) -> None:
    chat.script(replies.stream("one two three"))
    with contextlib.closing(ChatCompletionHook()) as hook, hook.stream(REQUEST) as chunks:
        next(iter(chunks))
    call = traces.one("chat test-model")
    assert call.attributes["gen_ai.request.stream"] is True
    assert "error.type" not in call.attributes


def test_a_stream_that_was_read_has_its_usage_in_the_span(chat: ChatServer, traces: Traces) -> None:
    chat.script(replies.stream("one two three"))
    with contextlib.closing(ChatCompletionHook()) as hook, hook.stream(REQUEST) as chunks:
        list(chunks)
    assert traces.one("chat test-model").attributes["gen_ai.response.finish_reasons"] == ("stop",)


class Broken:
    """A span processor of the user's that raises, at the start or the end of a span."""

    def __init__(self, when: str) -> None:
        self._when = when

    def __getattr__(self, name: str) -> Any:
        def call(*_: Any, **__: Any) -> None:
            if name == self._when:
                raise RuntimeError("canary of a processor")

        return call


@both
@pytest.mark.parametrize("when", ["on_start", "on_end"])
def test_a_processor_that_raises_harms_no_call_and_is_told_of_once(
    chat: ChatServer, traces: Traces, create: Create, when: str, log: Log
) -> None:
    traces.provider.add_span_processor(Broken(when))  # type: ignore[arg-type]
    for _ in range(2):
        assert create(ChatCompletionHook()).text
    (line,) = log.lines("could not be told of")
    assert "canary" not in line


@both
def test_an_exporter_that_hangs_holds_up_no_call(chat: ChatServer, traces: Traces, create: Create) -> None:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    began, over = threading.Event(), threading.Event()

    class Hanging(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            began.set()
            over.wait(60)
            return SpanExportResult.FAILURE

    processor = BatchSpanProcessor(Hanging(), schedule_delay_millis=1, max_export_batch_size=1)
    traces.provider.add_span_processor(processor)  # as Airflow does
    try:
        for _ in range(3):
            assert create(ChatCompletionHook()).text
        assert began.wait(30)
        assert not over.is_set()
    finally:
        over.set()
        processor.shutdown()


def test_an_attempt_that_is_made_elsewhere_goes_on_with_its_number(chat: ChatServer, traces: Traces) -> None:
    from airflow_chat_provider.core.call.steps import Begun
    from tests.support.calling import async_session

    async def main() -> None:
        session = await async_session(ChatCompletionHook())
        await session.send(dict(REQUEST), begun=Begun(3, 1.0))
        await session.aclose()

    asyncio.run(main())
    (attempt,) = traces.named("POST")
    assert attempt.attributes["http.request.resend_count"] == 2


def test_traces_that_cannot_be_set_up_harm_no_call(chat: ChatServer, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TRACES__OTEL_ON", "perhaps")
    telemetry.forget()
    with contextlib.closing(ChatCompletionHook()) as hook:
        assert hook.create(REQUEST).text
    telemetry.forget()
    assert log.lines("Check Airflow's settings for metrics and traces")
