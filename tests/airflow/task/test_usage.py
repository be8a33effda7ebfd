"""The XCom ``usage``: what all calls of a task took, for tasks downstream, whichever way the task ends."""

import threading
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import task

from airflow_chat_provider.airflow_api.compat import FINAL_BY_POLICY
from airflow_chat_provider.core.answer.usage import KEYS
from airflow_chat_provider.decorators import chat_completion, chat_completion_branch
from airflow_chat_provider.errors import TransportError
from airflow_chat_provider.operators import ChatCompletionBranchOperator, ChatCompletionOperator
from airflow_chat_provider.testing import faults, replies
from tests.support.asking import ask
from tests.support.running import Airflow

SCHEMA = {"type": "object", "required": ["a"], "properties": {"a": {}}, "additionalProperties": False}
DETAILED = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 12},
    "cost": 0.0125,
}
retries = pytest.mark.skipif(not FINAL_BY_POLICY, reason="dag.test() of this Airflow does not retry")


@task
def tell(usage):
    return usage


@task
def total(usages):
    return sum(usage["total_tokens"] for usage in usages)


def test_it_has_sixteen_keys_and_what_the_server_says(airflow, chat):
    chat.script(replies.ok(usage=DETAILED, headers={"x-request-id": "req-1"}))
    with airflow.dag():
        ask(prompt="Hi", model="asked")
    usage = airflow.run().xcoms()["usage"]
    assert set(usage) == set(KEYS)  # a database may keep keys in an order of its own
    assert usage.pop("seconds") > 0
    assert usage == {
        "requests": 1,
        "input_tokens": 100,
        "output_tokens": 20,
        "total_tokens": 120,
        "cache_read_tokens": 64,
        "cache_write_tokens": None,
        "reasoning_tokens": 12,
        "tool_calls": 0,
        "cost": 0.0125,
        "model": "test-model",
        "attempts": 1,
        "request_id": "req-1",
        "errors": {},
        "rejected": [],
        "currency": "USD",
    }


def test_it_counts_all_calls_of_the_dialogue_and_all_their_attempts(airflow, chat):
    chat.script(replies.status(500), replies.ok("{}"), replies.ok('{"a": 1}', headers={"x-request-id": "req-3"}))
    with airflow.dag():
        ask(prompt="Hi", response_schema=SCHEMA)
    usage = airflow.run().xcoms()["usage"]
    assert (usage["requests"], usage["attempts"], usage["total_tokens"]) == (2, 3, 22)
    assert usage["request_id"] == "req-3"
    assert (usage["errors"], usage["rejected"]) == ({}, ["$: 'a' is missing"])


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([replies.error(400, "no")], (0, 1, None, {"StatusError 400": 1})),
        ([replies.ok("not JSON")], (1, 1, 11, {"InvalidOutput 200": 1})),
        ([replies.status(500), replies.status(500)], (0, 2, None, {"StatusError 500": 1})),
        ([replies.status(500), replies.status(429)], (0, 2, None, {"RateLimited 429": 1})),
        ([replies.Reply(200, body=b"<html>")], (0, 1, None, {"ProtocolError 200": 1})),
        ([replies.status(500), faults.reset()], (0, 2, None, {"TransportError": 1})),
    ],
    ids=["refused", "of no use", "given up", "rate limit", "HTML", "no response"],
)
def test_it_is_there_if_the_task_fails(airflow, chat, script, expected):
    chat.script(*script)
    with airflow.dag():
        ask(prompt="Hi", result_format="json", max_attempts=2)
    run = airflow.run()
    usage = run.xcoms()["usage"]
    found = (usage["requests"], usage["attempts"], usage["total_tokens"], usage["errors"])
    assert (run.state, found) == ("failed", expected)


def test_it_is_there_if_the_last_call_of_a_dialogue_brought_no_response(airflow, chat):
    chat.script(replies.ok("{}"), faults.reset())
    with airflow.dag():
        ask(prompt="Hi", response_schema=SCHEMA, max_attempts=1)
    run = airflow.run()
    usage = run.xcoms()["usage"]
    assert (run.state, usage["requests"], usage["attempts"], usage["total_tokens"]) == ("failed", 1, 2, 11)


@pytest.mark.parametrize("fault", [faults.reset(), faults.hang()], ids=["reset", "timeout"])
def test_it_is_alone_if_no_response_came(airflow, chat, fault):
    chat.script(fault, fault)
    with airflow.dag():
        ask(prompt="Hi", model="asked", max_attempts=2, timeout=0.2)
    run = airflow.run()
    (usage,) = run.xcoms().values()
    kind = type(airflow.error()).__name__
    assert (run.state, usage["requests"], usage["attempts"], usage["errors"]) == ("failed", 0, 2, {kind: 1})
    assert (usage["model"], usage["total_tokens"], usage["request_id"]) == ("asked", None, None)
    assert usage["seconds"] > 0


def test_it_is_not_there_if_nothing_was_sent(airflow, chat):
    with airflow.dag():
        ask(prompt="Hi", attachments=["/nowhere/at/all.png"])
    run = airflow.run()
    assert (run.state, run.xcoms(), chat.requests) == ("failed", {}, [])


def test_a_status_that_is_data_counts_as_an_error(airflow, chat):
    chat.script(replies.error(404, "no"))
    with airflow.dag():
        ask(prompt="Hi", check_status=False)
    run = airflow.run()
    assert (run.state, run.xcoms()["usage"]["errors"]) == ("success", {"StatusError 404": 1})


@pytest.mark.parametrize(
    ("arguments", "reply", "kind"),
    [
        ({"on_incomplete": "fail"}, replies.ok("Hel", finish_reason="length"), "IncompleteReply 200"),
        ({"result_format": "json"}, replies.ok("{"), "InvalidOutput 200"),
        ({"result_format": "json", "multiple_outputs": True}, replies.ok("[1]"), "InvalidOutput 200"),
    ],
    ids=["incomplete", "no JSON", "no keys"],
)
def test_an_answer_that_its_task_cannot_use_is_an_error(airflow, chat, arguments, reply, kind):
    chat.script(reply)
    with airflow.dag():
        ask(prompt="Hi", **arguments)
    run = airflow.run()
    usage = run.xcoms()["usage"]
    assert (run.state, usage["errors"], usage["requests"], usage["rejected"]) == ("failed", {kind: 1}, 1, [])


def test_it_says_what_was_wrong_with_each_answer_that_was_asked_for_again(airflow, chat):
    chat.script(replies.ok("secret"), replies.ok('{"a": 1, "secret": 2}'), replies.ok("{}"))
    with airflow.dag():
        ask(prompt="Hi", response_schema=SCHEMA, output_retries=2)
    run = airflow.run()
    usage = run.xcoms()["usage"]
    assert (run.state, usage["requests"], usage["errors"]) == ("failed", 3, {"InvalidOutput 200": 1})
    assert len(usage["rejected"]) == 2
    assert "secret" not in str(usage["rejected"])
    assert usage["rejected"][0].startswith("it is not JSON")


@pytest.mark.parametrize("answers", [0, 1])
def test_it_is_there_if_execution_timeout_ends_a_call(airflow, chat, answers):
    chat.script(*[replies.ok("{}")] * answers, faults.hang())
    with airflow.dag():
        ask(prompt="Hi", response_schema=SCHEMA, execution_timeout=timedelta(seconds=2))
    run = airflow.run()
    usage = run.xcoms()["usage"]
    assert (run.state, usage["errors"]) == ("failed", {"AirflowTaskTimeout": 1})
    assert (usage["requests"], usage["attempts"], len(usage["rejected"])) == (answers, answers + 1, answers)


def test_it_is_there_if_the_call_is_aborted(run_dag, chat):
    class Killed(ChatCompletionOperator):
        def execute(self, context):
            threading.Timer(0.5, self.on_kill).start()
            return super().execute(context)

    airflow = Airflow(run_dag)  # a deferred call has no worker to kill
    chat.script(faults.hang())
    with airflow.dag():
        Killed(task_id="ask", prompt="Hi")
    usage = airflow.run().xcoms()["usage"]
    assert (usage["requests"], usage["attempts"], usage["errors"]) == (0, 1, {"TransportError": 1})


def test_a_failure_to_store_it_does_not_hide_why_no_response_came(airflow, chat, monkeypatch):
    def fails(*arguments, **more):
        raise RuntimeError("no room")

    chat.script(faults.reset())
    with airflow.dag():
        ask(prompt="Hi", max_attempts=1)
    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.xcom_push", fails)
    assert airflow.run().state == "failed"
    assert isinstance(airflow.error(), TransportError)


def test_each_mapped_task_has_its_own_errors(airflow, chat):
    chat.default = lambda request: replies.error(400, "no") if "bad" in str(request.json) else replies.ok()
    with airflow.dag():
        ChatCompletionOperator.partial(task_id="ask").expand(prompt=["good", "bad"])
    run = airflow.run()
    assert [run.xcoms(map_index=index)["usage"]["errors"] for index in (0, 1)] == [{}, {"StatusError 400": 1}]


@retries
def test_an_answer_that_an_earlier_try_received_is_counted_too(airflow, chat):
    chat.script(replies.ok("{}"), faults.reset(), replies.ok('{"a": 1}'))
    with airflow.dag():
        ask(prompt="Hi", response_schema=SCHEMA, retries=1, retry_delay=0, max_attempts=1)
    usage = airflow.run().xcoms()["usage"]
    assert (usage["requests"], usage["attempts"], usage["total_tokens"]) == (2, 2, 22)
    assert (usage["errors"], len(usage["rejected"])) == ({}, 1)


def test_what_a_hostile_server_counts_fails_no_task(airflow, chat):
    wrong = {"total_tokens": 10**400, "prompt_tokens": True, "completion_tokens_details": [1], "cost": "much"}
    chat.script(replies.json_reply(200, replies.completion(usage=wrong, model={"__classname__": "x"})))
    with airflow.dag():
        ask(prompt="Hi", model="asked")
    run = airflow.run()
    usage = run.xcoms()["usage"]
    assert run.state == "success"
    assert (usage["total_tokens"], usage["input_tokens"], usage["cost"], usage["model"]) == (None, None, None, "asked")


def test_a_stream_leaves_it_too(airflow, chat):
    chat.script(replies.stream("Hello world"))
    with airflow.dag():
        ask(prompt="Hi", request={"stream": True})
    assert airflow.run().xcoms()["usage"]["total_tokens"] == 11


def test_a_task_downstream_takes_it_by_its_key(airflow, chat):
    with airflow.dag():
        tell(ask(prompt="Hi").output["usage"])
    assert airflow.run().xcoms("tell")["return_value"]["input_tokens"] == 9


def test_a_task_downstream_of_mapped_ones_takes_that_of_each(airflow, chat):
    with airflow.dag():
        mapped = ChatCompletionOperator.partial(task_id="ask").expand(prompt=["a", "b"])
        total(mapped.output["usage"])
    assert airflow.run().xcoms("total")["return_value"] == 22


def test_a_template_reads_one_count_of_it(airflow, chat):
    with airflow.dag():
        first = ask(prompt="Hi")
        again = ChatCompletionOperator(
            task_id="again", prompt="{{ ti.xcom_pull('ask', key='usage')['total_tokens'] }} tokens"
        )
        first >> again
    airflow.run()
    assert chat.requests[1].json["messages"][0]["content"] == "11 tokens"


def test_a_key_of_the_answer_does_not_overwrite_it(airflow, chat):
    chat.script(replies.ok('{"usage": "mine", "a": 1}'))
    with airflow.dag():
        ask(prompt="Hi", result_format="json", multiple_outputs=True)
    xcoms = airflow.run().xcoms()
    assert (xcoms["usage"]["total_tokens"], xcoms["a"], xcoms["return_value"]["usage"]) == (11, 1, "mine")


@pytest.mark.parametrize("form", ["operator", "function"])
def test_a_branch_leaves_it(airflow, chat, form):
    @chat_completion_branch(task_id="ask")
    def choose():
        return "Which?"

    chat.script(replies.ok('{"branch": "c"}'), replies.ok('{"branch": "a"}'))
    with airflow.dag():
        branch = choose() if form == "function" else ChatCompletionBranchOperator(task_id="ask", prompt="Which?")
        branch >> [EmptyOperator(task_id="a"), EmptyOperator(task_id="b")]
    run = airflow.run()
    usage = run.xcoms()["usage"]
    assert (run.states()["b"], usage["requests"], usage["total_tokens"]) == ("skipped", 2, 22)
    assert (usage["errors"], len(usage["rejected"])) == ({}, 1)


def test_a_branch_that_gets_no_response_leaves_it_too(airflow, chat):
    chat.script(faults.reset())
    with airflow.dag():
        branch = ChatCompletionBranchOperator(task_id="ask", prompt="Which?", max_attempts=1)
        branch >> [EmptyOperator(task_id="a"), EmptyOperator(task_id="b")]
    assert airflow.run().xcoms()["usage"]["errors"] == {"TransportError": 1}


def test_a_decorated_function_leaves_it(airflow, chat):
    @chat_completion(task_id="ask")
    def prompt():
        return "Hi"

    with airflow.dag():
        prompt()
    assert airflow.run().xcoms()["usage"]["total_tokens"] == 11


@contextmanager
def noting_messages():
    """Every message of a task to Airflow about an XCom or the task state store, with its key."""
    from airflow.sdk.execution_time.supervisor import InProcessSupervisorComms

    told: Counter[tuple[str, str]] = Counter()
    send = InProcessSupervisorComms.send

    def noted(self, msg):
        kind = type(msg).__name__
        if "XCom" in kind or "TaskStateStore" in kind:
            told[kind, msg.key] += 1
        return send(self, msg)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InProcessSupervisorComms, "send", noted)
        yield told


LEFT = ("body", "status", "usage", "configuration", "messages", "return_value")


def test_a_plain_task_tells_airflow_six_xcoms_and_nothing_else(run_dag, chat):
    airflow = Airflow(run_dag)  # a deferred task has a journal in XCom, too
    with airflow.dag():
        ask(prompt="Hi")
    with noting_messages() as told:
        assert airflow.run().state == "success"
    assert told == Counter({("SetXCom", key): 1 for key in LEFT})


@retries
def test_only_a_try_that_another_can_follow_keeps_its_answer(run_dag, chat):
    airflow = Airflow(run_dag)
    chat.script(replies.ok("no JSON"), replies.ok("{}"))
    with airflow.dag():
        ask(prompt="Hi", result_format="json", retries=1, retry_delay=0)
    with noting_messages() as told:
        assert airflow.run().state == "success"
    store = {key: count for key, count in told.items() if "TaskStateStore" in key[0]}
    # The first try keeps its answer and then notes that it is of no use; the second, which is the last, looks once.
    assert store == {("SetTaskStateStore", "chat_ledger"): 2, ("GetTaskStateStore", "chat_ledger"): 1}
