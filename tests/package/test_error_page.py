"""docs/errors.md quotes messages. Each is what the code really says: here it is made to say it."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_chat_provider import errors
from airflow_chat_provider.durable import ledger
from airflow_chat_provider.errors import ChatCompletionError
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.task import handoff
from airflow_chat_provider.testing import ChatServer, Reply, faults, replies
from tests.support.batching import Batch
from tests.support.running import Airflow

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
BASE = "https://api.example.com/v1"  # what the page calls the server
ASK = {"messages": [{"role": "user", "content": "Hi"}]}
QUOTED: list[str] = re.findall(r"^\| `(.+?)` \|", PAGE.read_text("utf-8"), re.MULTILINE)

# What a server answers to a plain request.
ANSWERS: dict[str, Reply] = {
    "wrong key": replies.error(401, "Incorrect API key provided", "invalid_api_key"),
    "no access": replies.error(403, "You do not have access", "permission_denied"),
    "unknown model": replies.error(404, "The model does not exist", "model_not_found"),
    "unknown path": replies.text(404, "<html>Not Found</html>", "text/html"),
    "wrong method": replies.error(405, "Method Not Allowed", kind="not_allowed"),
    "bad value": replies.error(400, "'temperature' does not support 0.2 with this model.", "unsupported_value"),
    "too long": replies.error(400, "The maximum context length is 8192 tokens.", "context_length_exceeded"),
    "not processable": replies.error(422, "Extra inputs are not permitted", "extra_forbidden"),
    "too large": replies.text(413, "Payload Too Large"),
    "no credit": replies.error(402, "Insufficient Balance", "insufficient_balance"),
    "no quota": replies.error(429, "You exceeded your current quota", "insufficient_quota"),
    "over the limit": replies.error(429, "Request too large: Limit 30000, Requested 42000.", "rate_limit_exceeded"),
    "rate limit": replies.rate_limited(7200),
    "rate limit in a 200": replies.json_reply(200, {"error": {"code": 429, "message": "Rate limit exceeded"}}),
    "server error": replies.error(500, "Something broke", "server_error"),
    "bad JSON of the model": replies.error(400, "Failed to validate JSON.", "json_validate_failed"),
    "redirect": replies.status(301, {"Location": "/v1/chat/completions/"}),
    "a web page": replies.text(200, "<html>Sign in</html>", "text/html"),
    "no choices": replies.json_reply(200, {"ok": True}),
    "an empty body": replies.text(200, ""),
    "half an answer": faults.half_body(),
    "a reset": faults.reset(),
}
# What is wrong with a connection.
CONNECTIONS: dict[str, Mapping[str, Any]] = {
    "no answer in time": {"extra": {"timeout": 0.1}},
    "nobody listens": {"host": "http://127.0.0.1:9/v1"},
    "no such host": {"host": "https://chat.invalid/v1"},
    "two schemes": {"host": "https://https://api.openai.com/v1"},
    "endpoint in the base URL": {"host": "https://api.openai.com/v1/chat/completions"},
    "unknown scheme": {"host": "htps://api.openai.com/v1"},
    "misspelt extra": {"extra": {"modle": "x"}},
    "extra of the wrong type": {"extra": {"timeout": "soon"}},
    "not a key": {"password": "ключ-api"},
    "no model": {"extra": {"model": None}},
    "another port": {"port": 1},
    "a login": {"login": "me"},
    "another type": {"conn_type": "openai"},
}
# What a DAG's author wrote wrong.
ARGUMENTS: dict[str, Mapping[str, Any]] = {
    "a parameter as an argument": {"prompt": "Hi", "temperature": 0.2},
    "another provider's argument": {"prompt": "Hi", "conn_id": "chat_default"},
    "a misspelt argument": {"promt": "Hi"},
    "a misspelt parameter": {"prompt": "Hi", "request": {"tempreture": 0.2}},
    "a wrong value": {"prompt": "Hi", "request": {"temperature": 3}},
    "a text as messages": {"messages": "Hi"},
}


@pytest.fixture
def server(chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> ChatServer:
    """One attempt a call, and the connection is put back where it belongs."""
    connect(chat_server, monkeypatch, {})
    return chat_server


def connect(server: ChatServer, monkeypatch: pytest.MonkeyPatch, changes: Mapping[str, Any]) -> None:
    extra = {**server.connection["extra"], "max_attempts": 1, **changes.get("extra", {})}
    value = {**server.connection, **changes, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_CHAT_DEFAULT", json.dumps(value))


def said(error: BaseException, server: ChatServer) -> str:
    """A message as the page has it."""
    host: str = server.connection["host"]
    return re.sub(r"^Task '?\w+'?: ", "", str(error).replace(host, BASE))


def row_of(message: str) -> str:
    """The one row that begins as the message does."""
    assert QUOTED
    rows = [row for row in QUOTED if message.startswith(row)]
    assert len(rows) == 1, f"docs/errors.md has {len(rows)} rows that quote the beginning of: {message}"
    return str(rows[0])


def message_of_call(server: ChatServer) -> str:
    hook = ChatCompletionHook("chat_default")
    with pytest.raises(ChatCompletionError) as caught:
        hook.create(ASK)
    hook.close()
    return said(caught.value, server)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_page_quotes_what_a_call_says_of_an_answer(name: str, server: ChatServer) -> None:
    server.script(ANSWERS[name])
    assert row_of(message_of_call(server))


@pytest.mark.parametrize("name", CONNECTIONS)
def test_the_page_quotes_what_a_call_says_of_a_connection(
    name: str, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.default = faults.hang()
    connect(server, monkeypatch, CONNECTIONS[name])
    assert row_of(message_of_call(server))


def test_the_page_quotes_what_a_call_says_of_a_connection_that_is_missing(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_CHAT_DEFAULT")
    assert row_of(message_of_call(server))


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_page_quotes_what_the_import_of_a_dag_says(name: str, server: ChatServer) -> None:
    with pytest.raises(Exception, match=r"\w") as caught:
        ChatCompletionOperator(task_id="ask", **ARGUMENTS[name])
    assert row_of(said(caught.value, server))


# A task's arguments, and what the server answers.
TASKS: dict[str, tuple[Mapping[str, Any], Reply]] = {
    "cut off": (
        {"on_incomplete": "fail"},
        replies.ok("Half of", finish_reason="length"),
    ),
    "not JSON": (
        {"result_format": "json", "output_retries": 0},
        replies.ok("Sorry."),
    ),
    "does not fit": (
        {"response_schema": {"type": "object", "required": ["city"]}, "output_retries": 0},
        replies.ok_json({"town": "Rome"}),
    ),
    "a missing Variable": ({"system_prompt": "{{ var.value.no_such_variable }}"}, replies.ok("Hi")),
}


@pytest.mark.parametrize("name", TASKS)
def test_the_page_quotes_what_a_task_says(name: str, server: ChatServer, run_dag: Callable[..., Any]) -> None:
    arguments, reply = TASKS[name]
    server.default = reply
    airflow = Airflow(run_dag)
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi", **arguments)
    assert airflow.run().state == "failed"
    assert row_of(said(airflow.error(), server))


PRICES = {"test-model": {"input": 1, "output": 1}}
# A task's limits, and the connection's extras.
LIMITS: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "of tokens": ({"max_total_tokens": 0}, {}),
    "of cost": ({"max_cost": 0}, {"prices": PRICES}),
    "of cost without a price": ({"max_cost": 1}, {}),
}


@pytest.mark.parametrize("name", LIMITS)
def test_the_page_quotes_what_a_task_says_over_its_limit(
    name: str, server: ChatServer, run_dag: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, extra = LIMITS[name]
    connect(server, monkeypatch, {"extra": extra})
    airflow = Airflow(run_dag)
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi", **arguments)
    assert airflow.run().state == "failed"
    assert row_of(said(airflow.error(), server))


def test_the_page_quotes_what_a_batch_says_over_its_limit(server: ChatServer, tmp_path: Path) -> None:
    batch = Batch(tmp_path, server)
    batch.texts(1)
    assert row_of(said(batch.error(max_total_tokens=0), server))


def test_the_page_quotes_what_a_deferred_task_says(server: ChatServer) -> None:
    sent = SimpleNamespace(state="sent", key="KEY")
    ready = SimpleNamespace(state="ready", key="KEY", owner=None)
    found: list[BaseException] = [
        handoff._lost(handoff._WHY["uncertain"], "uncertain", sent, "fail"),  # type: ignore[arg-type]
        handoff._lost("its trigger ended without an event", "no event", ready, "fail"),  # type: ignore[arg-type]
        handoff._time_out(ready),  # type: ignore[arg-type]
        handoff._time_out(None),
    ]
    with pytest.raises(errors.TransportError) as caught:
        ledger._uncertain("KEY", "fail")
    rows = [row_of(said(error, server)) for error in (*found, caught.value)]
    assert len(set(rows)) == len(rows)


def test_each_row_of_the_page_is_held_against_the_code() -> None:
    """By its number: the tests above look for a row of each of their cases, and no two may share one."""
    cases = len(ANSWERS) + len(CONNECTIONS) + 1 + len(ARGUMENTS) + len(TASKS) + len(LIMITS) + 1 + 5
    assert len(QUOTED) == len(set(QUOTED)) == cases


@pytest.mark.parametrize("name", errors.__all__)
def test_the_page_names_each_class_of_error(name: str) -> None:
    assert name == "ChatCompletionError" or f"`{name}`" in PAGE.read_text("utf-8")
