"""A trigger ends its task, unless something is due at the end of it that runs in workers alone."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import Asset, BaseOperator
from airflow.triggers.base import TaskSuccessEvent
from pydantic import BaseModel

from airflow_chat_provider.durable.entry import KEY
from airflow_chat_provider.errors import IncompleteReply, InvalidOutput
from airflow_chat_provider.operators import ChatCompletionBranchOperator, ChatCompletionOperator
from airflow_chat_provider.testing import replies
from tests.support.running import Airflow, noting_events

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "required": ["city"]}},
}


class Answer(BaseModel):
    a: int


def without_names(xcoms: dict[str, Any]) -> dict[str, Any]:
    usage = {name: value for name, value in xcoms["usage"].items() if name != "seconds"}
    return {key: value for key, value in xcoms.items() if key != "configuration"} | {"usage": usage}


class Own(ChatCompletionOperator):
    """A user's subclass that leaves the end of the task alone."""

    template_fields = (*ChatCompletionOperator.template_fields, "more")
    more = "{{ ds_nodash | default('x') }}"


class Completes(ChatCompletionOperator):
    def execute_complete(self, context: Any, event: Any = None) -> Any:
        return super().execute_complete(context, event)


class Posts(ChatCompletionOperator):
    def post_execute(self, context: Any, result: Any = None) -> None:
        pass


class Consumer(BaseOperator):
    def __init__(self, item: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.item = item

    def execute(self, context: Any) -> None:
        pass


@pytest.fixture
def ask(run_dag, chat):
    """Runs one deferred task; what its trigger fired, the run, and the error that the task ended with."""

    def run(operator: Any = ChatCompletionOperator, then: Any = None, **arguments: Any):
        airflow, events = Airflow(run_dag, deferrable=True), dict[str, Any]()
        with airflow.dag():
            task = operator(task_id="ask", prompt="Hi", **arguments)
            if then is not None:
                then(task)
        with noting_events(events):
            found = airflow.run()
        return events["ask"], found, airflow.error()

    return run


@pytest.mark.parametrize(
    ("arguments", "reply"),
    [
        ({}, replies.ok()),
        ({"result_format": "text"}, replies.ok()),
        ({"result_format": "message", "push_messages": False}, replies.ok()),
        ({"result_format": "json"}, replies.ok_json({"a": 1})),
        ({"result_format": "json", "response_schema": SCHEMA}, replies.ok_json({"a": 1})),
        (
            {"result_format": "tool_calls", "request": {"tools": [TOOL]}},
            replies.tool_calls([("weather", {"city": "R"})]),
        ),
        ({"check_status": False}, replies.error(404, "no such model")),
        ({"check_status": False, "result_format": "text"}, replies.error(404, "no such model")),
        ({"operator": Own}, replies.ok()),
    ],
    ids=["raw", "text", "message", "json", "schema", "tools", "status", "status, no value", "subclass"],
)
def test_a_trigger_leaves_what_a_worker_leaves(ask, chat, arguments, reply):
    chat.script(reply, reply)
    event, run, error = ask(**arguments)
    assert (run.state, error) == ("success", None)
    assert isinstance(event, TaskSuccessEvent)
    assert not event.xcoms
    event, by_worker, _ = ask(**{"operator": Posts, **arguments})
    if "operator" not in arguments:
        assert event.payload["state"] == "done"
    assert without_names(run.xcoms()) == without_names(by_worker.xcoms())


@pytest.mark.parametrize(
    "arguments",
    [
        {"response_schema": Answer},
        {"outlets": [Asset("answers")]},
        {"do_xcom_push": False},
        {"post_execute": lambda context, result=None: None},
        {"on_success_callback": lambda context: None},
        {"operator": Completes},
        {"operator": Posts},
        {"operator": ChatCompletionBranchOperator, "branches": ["next"]},
        {"then": lambda task: Consumer.partial(task_id="next").expand(item=task.output)},
    ],
    ids=[
        "class",
        "outlets",
        "no XCom",
        "post_execute",
        "callback",
        "execute_complete",
        "own post_execute",
        "branch",
        "mapped over",
    ],
)
def test_a_worker_ends_a_task_at_whose_end_something_of_the_dags_runs(ask, chat, arguments):
    if "then" not in arguments:
        arguments = {**arguments, "then": lambda task: task >> Consumer(task_id="next")}
    chat.default = replies.ok_json({"a": 1} if "branches" not in arguments else {"branch": "next"})
    event, run, error = ask(**arguments)
    assert (run.state, error) == ("success", None)
    assert event.payload["state"] == "done"


@pytest.mark.parametrize(
    ("arguments", "reply", "kind"),
    [
        ({"on_incomplete": "fail"}, replies.ok("cut", finish_reason="length"), IncompleteReply),
        ({"result_format": "json"}, replies.ok("no JSON"), InvalidOutput),
    ],
)
def test_a_worker_ends_a_task_that_fails(ask, chat, arguments, reply, kind):
    chat.script(reply)
    event, run, error = ask(**arguments)
    assert event.payload["state"] == "done"
    assert isinstance(error, kind)
    assert set(run.xcoms()) >= {"body", "status", "usage"}


def test_a_trigger_asks_again_until_the_answer_fits(ask, chat):
    chat.script(replies.ok("{}"), replies.ok_json({"a": 1}))
    event, run, _ = ask(result_format="json", response_schema=SCHEMA)
    assert isinstance(event, TaskSuccessEvent)
    assert run.xcoms()["return_value"] == {"a": 1}
    assert run.xcoms()["body"]["usage"]["total_tokens"] == 22, "of both answers"
    assert len({request.headers["idempotency-key"] for request in chat.requests}) == 2


def test_an_answer_that_never_fits_fails_in_a_worker_and_is_told_with_all_it_cost(ask, chat):
    chat.default = replies.ok("{}")
    event, run, error = ask(result_format="json", response_schema=SCHEMA, output_retries=2)
    assert event.payload["state"] == "done"
    assert isinstance(error, InvalidOutput)
    assert "none of 3 answers fits" in error.message
    assert run.xcoms()["body"]["usage"]["total_tokens"] == 33
    assert len(chat.requests) == 3


def test_a_server_that_refuses_the_form_of_the_schema_is_asked_in_another_by_the_trigger(ask, chat):
    chat.script(replies.error(400, "response_format is not supported"), replies.ok_json({"a": 1}))
    event, run, _ = ask(result_format="json", response_schema=SCHEMA)
    assert isinstance(event, TaskSuccessEvent)
    assert run.xcoms()["return_value"] == {"a": 1}
    assert [request.json["response_format"]["type"] for request in chat.requests] == ["json_schema", "json_object"]


def test_an_answer_too_large_for_an_event_is_left_to_a_worker(ask, chat):
    chat.script(replies.ok("x" * 400_000))
    event, run, _ = ask(result_format="text")
    assert event.payload["state"] == "done"
    assert len(run.xcoms()["return_value"]) == 400_000


def test_with_an_xcom_backend_of_the_users_the_trigger_leaves_its_xcoms_by_it(run_dag, chat, monkeypatch):
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time import xcom

    written: dict[str, int] = {}

    class Backend(BaseXCom):
        @staticmethod
        def serialize_value(value, *, key=None, **kwargs):
            written[key] = written.get(key, 0) + 1
            return BaseXCom.serialize_value(value)

    monkeypatch.setattr(xcom, "XCom", Backend)
    airflow, events = Airflow(run_dag, deferrable=True), dict[str, Any]()
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi")
    with noting_events(events):
        assert airflow.run().state == "success"
    assert {"body", "status", "usage", "configuration", "messages", "return_value"} <= set(written)


def test_a_decorated_function_ends_in_its_trigger_too(run_dag, chat):
    from airflow_chat_provider.decorators import chat_completion

    @chat_completion(task_id="ask", result_format="text")
    def ask(name: str) -> str:
        return f"Hi {name}"

    airflow, events = Airflow(run_dag, deferrable=True), dict[str, Any]()
    with airflow.dag():
        ask("Ann")
    with noting_events(events):
        run = airflow.run()
    assert (run.state, run.xcoms()["return_value"]) == ("success", "Hello")
    assert isinstance(events["ask"], TaskSuccessEvent)


def test_an_answer_that_airflow_takes_into_no_xcom_stays_in_the_journal(run_dag, chat, monkeypatch):
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    def refuse(*_arguments: Any, **_more: Any) -> None:
        raise ConnectionError("no")

    monkeypatch.setattr(RuntimeTaskInstance, "xcom_push", refuse)
    airflow = Airflow(run_dag, deferrable=True)
    with airflow.dag():
        Posts(task_id="ask", prompt="Hi")
    run = airflow.run()
    assert run.state == "failed"
    assert run.xcoms()[f"{KEY}_1"]["state"] == "done"
