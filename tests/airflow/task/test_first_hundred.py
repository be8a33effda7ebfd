"""Airflow's UI shows the first hundred characters of an error: they hold what is wrong, whatever it is."""

from typing import Any

import pytest

from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.core.call.attempt import Attempt
from airflow_chat_provider.core.call.steps import Send
from airflow_chat_provider.core.connection.settings import Settings
from airflow_chat_provider.durable import ledger
from airflow_chat_provider.errors import ChatCompletionError, TransportError
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.task import handoff
from airflow_chat_provider.testing import ChatServer, End, replies
from tests.support import faults
from tests.support.calling import deaf_port, free_port

SHOWN = 100  # characters
# Azure's are about as long, and so are those of gateways.
PATH = "/openai/deployments/a-deployment-with-a-name/v1"
MODEL = "gpt-4-turbo-2024"
CUT = replies.ok("Hel", finish_reason="length")
AGAIN = {"output_retries": 0, "result_format": "json"}
VERDICT = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
NO_MODEL = f"The model `{MODEL}` does not exist or you do not have access to it."

FAILURES: dict[str, tuple[Any, dict[str, Any], str]]
# What the server answers, how the task asks, and what its error's beginning has to hold.
FAILURES = {
    "wrong key": (replies.error(401, "Incorrect API key", "invalid_api_key"), {}, "API key|HTTP 401|invalid_api_key"),
    "empty account": (replies.error(402, "No credit"), {}, "Add credit|HTTP 402"),
    "not allowed": (replies.error(403, "no"), {}, "not allowed|HTTP 403"),
    "unknown model": (replies.error(404, NO_MODEL, "model_not_found"), {}, f"{MODEL}|HTTP 404|model_not_found"),
    "unknown model, in words": (replies.error(404, NO_MODEL, None, "NotFoundError"), {}, f"{MODEL}|HTTP 404"),
    "unknown path": (replies.error(404, "Not Found"), {}, "base URL|HTTP 404"),
    "a page": (replies.text(404, "<h1>Not here</h1>", "text/html"), {}, "base URL|HTTP 404"),
    "wrong method": (replies.error(405, "no"), {}, "endpoint|HTTP 405"),
    "quota": (replies.error(429, "You exceeded your quota", "insufficient_quota"), {}, "quota|insufficient_quota"),
    "rate limit": (replies.error(429, "slow down", "rate_limit_exceeded"), {}, "rate limit|rate_limit_exceeded"),
    "too large": (
        replies.error(429, "Request too large for gpt: Limit 100, Requested 200", "tokens"),
        {},
        "smaller request|HTTP 429",
    ),
    "context": (
        replies.error(400, "too long", "context_length_exceeded"),
        {},
        "context_length_exceeded|larger context",
    ),
    "bad request": (replies.error(400, "no", "bad_value"), {}, "HTTP 400|bad_value"),
    "server": (replies.error(500, "oops", "server_error"), {}, "the server failed|HTTP 500|server_error"),
    "redirect": (faults.redirect("https://elsewhere.example/v1/chat/completions"), {}, "redirects|HTTP 307"),
    "page in a 200": (replies.text(200, "<html>login</html>", "text/html"), {}, "text that is not JSON|HTTP 200"),
    "no choices": (replies.json_reply(200, replies.completion(choices=[])), {}, "without choices|HTTP 200"),
    "error in a 200": (replies.json_reply(200, {"error": {"message": "odd"}}), {}, "an error instead of|HTTP 200"),
    "empty body": (replies.text(200, ""), {}, "an empty body|HTTP 200"),
    "closed": (faults.close(), {}, "the connection broke|Server disconnected"),
    "reset": (faults.reset(), {}, "the connection broke|Connection reset"),
    "half an answer": (faults.half_body(replies.ok().body), {}, "was cut off"),
    "cut stream": (faults.cut_stream("Hel lo", end=End.KEEP), {"request": {"stream": True}}, "the stream ended"),
    "timeout": (faults.hang(), {"timeout": 0.5}, "timeout|no answer within 0.5 s"),
    "deadline": (faults.hang(), {"deadline": 0.5}, "deadline|no answer within 0.5 s"),
    "incomplete": (CUT, {"on_incomplete": "fail"}, "cut off by its length limit"),
    "content filter": (replies.ok("", finish_reason="content_filter"), {"on_incomplete": "fail"}, "content filter"),
    "refusal": (replies.ok(None, refusal="I will not"), {"on_incomplete": "fail"}, "is a refusal"),
    "not JSON": (replies.ok("canary"), {"result_format": "json"}, "the answer is not JSON"),
    "not JSON for a schema": (replies.ok("canary"), {"response_schema": VERDICT, **AGAIN}, "does not fit|not JSON"),
    "misfit": (replies.ok_json({"mood": "odd"}), {"response_schema": VERDICT, **AGAIN}, "does not fit|$.mood"),
    "calls no tool": (replies.tool_calls([("f", {})]), {"result_format": "text"}, "calls tools and has no text"),
}


def beginning(error: BaseException) -> str:
    return str(error)[:SHOWN]


def held(words: str, error: BaseException) -> None:
    for word in words.split("|"):
        assert word in beginning(error)


def failure_of(**arguments):
    task = ChatCompletionOperator(
        task_id="ask",
        **{"messages": [{"role": "user", "content": "Hi"}], "model": MODEL, "max_attempts": 1, **arguments},
    )
    with pytest.raises((ChatCompletionError, exceptions.AirflowFailException)) as caught:
        task.execute({"ti": None})  # type: ignore[typeddict-item]
    error = caught.value
    return error if isinstance(error, ChatCompletionError) else error.__cause__


@pytest.mark.parametrize("name", FAILURES)
def test_the_beginning_of_an_error_holds_what_is_wrong(server, connect, name):
    reply, arguments, words = FAILURES[name]
    connect(server.url.removesuffix("/v1") + PATH)
    server.default = reply
    error = failure_of(**arguments)
    held(words, error)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (f"http://127.0.0.1:{{port}}{PATH}", "Connection refused|base URL"),
        (f"https://no-such-host.invalid{PATH}", "no connection|base URL"),
    ],
)
def test_a_server_that_cannot_be_reached_is_told_by_its_reason(connect, host, words):
    connect(host.format(port=free_port()))
    held(words, failure_of())


def test_a_host_that_takes_no_connection_is_told_by_the_time_that_ran_out(connect):
    with deaf_port() as port:
        connect(f"http://127.0.0.1:{port}{PATH}", extra={"connect_timeout": 0.5})
        held("can be reached|no connection within 0.5 s|connect_timeout", failure_of())


def test_a_certificate_that_nobody_knows_is_told(connect, certificates):
    with ChatServer(tls=certificates.server_tls) as server:
        connect(server.url)
        held("CERTIFICATE_VERIFY_FAILED|TLS", failure_of())


def test_a_stream_that_stalls_is_told_by_the_time_that_ran_out():
    attempt = Attempt(Settings(base_url=f"https://h{PATH}"), Send(600.0, 1))
    attempt.begin(200, {"content-type": "text/event-stream"})
    held("stall_timeout|sent nothing for 120 s", attempt.timed_out(stalled=True))


@pytest.mark.parametrize("state", ["uncertain", "spent", "unstored", "overtaken", "missing", "failed", "no event"])
@pytest.mark.parametrize("on_uncertain", ["fail", "resend"])
def test_a_deferred_call_that_was_lost_says_why(state, on_uncertain):
    from airflow_chat_provider.durable.entry import Deferred, Entry

    deferred = Deferred({}, {}, None, 0, None, None, {"chat_conn_id": "chat_default"}, {})
    entry = Entry.from_deferred(deferred, "f0a6d2c4-8e36-4a9d-b1a7-0c4f6d4b8c11", []).sent("owner", "key", 1, 0.0)
    error = handoff._lost(handoff._WHY[state], state, entry, on_uncertain)
    held(handoff._WHY[state][:45], error)


def test_an_earlier_try_that_may_have_been_answered_is_what_the_error_says():
    with pytest.raises(TransportError) as caught:
        ledger._uncertain("f0a6d2c4-8e36-4a9d-b1a7-0c4f6d4b8c11", "fail")
    held("Find out whether the server answered|an earlier try handed the call to a trigger", caught.value)


def test_no_connection_of_that_name_is_told_before_the_way_out():
    error = failure_of(chat_conn_id="a_connection_with_a_name")
    held("a_connection_with_a_name|Airflow finds none", error)
