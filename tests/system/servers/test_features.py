"""The features, one test each, the same for every server. A test's docstring is its row in the table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator

from airflow_chat_provider.errors import IncompleteReply, InvalidOutput, RateLimited, StatusError
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.operators import (
    ChatCompletionBatchOperator,
    ChatCompletionBranchOperator,
    ChatCompletionOperator,
)
from airflow_chat_provider.tools import tool_message
from tests.system.servers.asking import At, leaves, stable
from tests.system.servers.served import JUDGE, NUMBERS, WAY, WEATHER

WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
FITTING = ({"city": "Rome"}, {"city": "Oslo"})
# By its name: what a small model writes is then held to the tool's schema, by servers that can.
CALL_WEATHER = {"type": "function", "function": {"name": "weather"}}
ALMOST_THE_SAME = 0.01  # as a temperature: at 0, vLLM refuses to give two answers
VERDICT = {
    "type": "object",
    "properties": {"verdict": {"type": "string", "enum": ["good", "bad"]}},
    "required": ["verdict"],
    "additionalProperties": False,
}
SHAPES = {"id", "object", "created", "model", "choices"}


def test_plain(at: At):
    """A question and its answer"""
    body = at.body()
    direct = at.direct(body)
    done = at.succeed(body, result_format="text")
    assert stable(done.body) == stable(direct.json)
    assert done.value == direct.text
    assert done.messages[-1]["content"] == direct.text
    at.yes()


def test_system(at: At):
    """A system prompt"""
    body = at.body()
    told = {"role": "system", "content": "You are a pirate. Begin each answer with Arr."}
    direct = at.direct({**body, "messages": [told, *body["messages"]]})
    done = at.succeed(body, system_prompt=told["content"])
    assert stable(done.body) == stable(direct.json)
    assert done.messages[0] == told
    at.yes()


def test_chained(at: At):
    """A conversation over two tasks"""
    settings = {key: value for key, value in at.body().items() if key != "messages"}
    airflow = at.airflow()
    with airflow.dag():
        first: Any = ChatCompletionOperator(task_id="first", request=settings, prompt=NUMBERS)
        ChatCompletionOperator(
            task_id="ask", request=settings, messages=first.output["messages"], prompt="Which of them is the warmest?"
        )
    run = airflow.run()
    assert airflow.error("first") is None
    assert airflow.error() is None
    xcoms = run.xcoms()
    *before, last = xcoms["messages"]
    assert [message["role"] for message in before] == ["user", "assistant", "user"]
    direct = at.direct({**settings, "messages": before})
    assert stable(xcoms["body"]) == stable(direct.json)
    assert last["content"] == direct.text
    at.yes()


def test_stream(at: At):
    """Streamed is what comes unstreamed"""
    body = at.body()
    whole, events = at.direct(body), at.direct({**body, "stream": True, "stream_options": {"include_usage": True}})
    done = at.succeed({**body, "stream": True})
    assert done.text == whole.text
    assert done.choice["finish_reason"] == whole.choice["finish_reason"]
    assert set(done.body) >= SHAPES
    assert done.body["object"] == "chat.completion"
    told = [chunk["usage"] for chunk in events.chunks if chunk.get("usage")]
    if told:
        assert stable(done.body["usage"]) == stable(told[-1])
    lost = set(leaves(stable(whole.json))) - set(leaves(stable(done.body)))
    sent = events.content.decode()
    # What stands nowhere in the stream was not lost by whoever put it together.
    assert [path for path in lost if f'"{path.rpartition(".")[2].rstrip("[]")}"' in sent and "usage" not in path] == []
    at.yes(f"its streams leave out {', '.join(sorted(lost))}" if lost else "")


def test_n(at: At):
    """Two answers (n)"""
    body = at.body(n=2, temperature=ALMOST_THE_SAME)
    direct = at.direct(body)
    done = at.ask(body)
    if not direct.ok:
        at.refused(direct, done)
        return
    assert done.error is None, done.error
    assert len(done.body["choices"]) == len(direct.json["choices"])
    if len(direct.json["choices"]) == 1:
        at.no("one choice came")
        return
    events = at.direct({**body, "stream": True})
    streamed = at.succeed({**body, "stream": True})
    assert [choice["index"] for choice in streamed.body["choices"]] == [0, 1]
    texts = [choice["message"]["content"] for choice in streamed.body["choices"]]
    assert texts == [events.streamed_text(0), events.streamed_text(1)]
    at.yes()


def test_stop(at: At):
    """A stop sequence"""
    plain = at.direct(at.body()).text
    word = plain.split()[len(plain.split()) // 2]
    body = at.body(stop=[word])
    direct = at.direct(body)
    done = at.ask(body, result_format="text")
    if not direct.ok:
        at.refused(direct, done)
        return
    assert done.error is None, done.error
    assert done.value == direct.text
    at.yes() if word not in direct.text else at.no("the answer goes on past it")


def test_cut(at: At):
    """An answer that max_tokens cuts off is an error where the task says so"""
    body = at.body(max_tokens=3)
    direct = at.direct(body)
    done = at.ask(body, on_incomplete="fail")
    if direct.choice["finish_reason"] == "stop":
        assert done.error is None, done.error
        at.no(f"'stop' after {len(direct.text.split())} words")
        return
    assert isinstance(done.error, IncompleteReply)
    assert done.text == direct.text
    streamed = at.ask({**body, "stream": True}, on_incomplete="fail")
    assert isinstance(streamed.error, IncompleteReply)
    at.yes()


def test_logprobs(at: At):
    """Log-probabilities"""
    body = at.body(logprobs=True, top_logprobs=2, max_tokens=4)
    direct = at.direct(body)
    done = at.ask(body)
    if not direct.ok:
        at.refused(direct, done)
        return
    assert done.error is None, done.error
    found = (direct.choice.get("logprobs") or {}).get("content")
    assert ((done.choice.get("logprobs") or {}).get("content") or None) == (found or None)
    if not found:
        at.no("none came")
        return
    streamed = at.succeed({**body, "stream": True})
    tokens = [entry["token"] for entry in (streamed.choice.get("logprobs") or {}).get("content") or ()]
    if not tokens:
        assert b'"logprobs":{' not in at.direct({**body, "stream": True}).content.replace(b" ", b"")
        at.yes("not in its streams")
        return
    assert tokens == [entry["token"] for entry in found]
    at.yes()


def test_tools(at: At):
    """A tool call, and its result answered"""
    body = at.body(WEATHER, tools=[WEATHER_TOOL], tool_choice=CALL_WEATHER, max_tokens=64)
    direct = at.direct(body)
    done = at.ask(body, result_format="tool_calls", output_retries=0)
    if not direct.ok:
        at.refused(direct, done)
        return
    calls = direct.choice["message"].get("tool_calls")
    if not calls:
        is_cut = direct.choice["finish_reason"] == "length"
        assert isinstance(done.error, IncompleteReply if is_cut else InvalidOutput), done.error
        at.no("it answers in words, where a call is required")
        return
    wanted = [_called(call["function"]) for call in calls]
    if any(arguments not in FITTING for _, arguments in wanted):
        assert isinstance(done.error, InvalidOutput), done.error
        at.no(f"what it calls does not fit, and the task says so: {calls[0]['function']}")
        return
    assert done.error is None, done.error
    assert [(call["name"], call["arguments"]) for call in done.value] == wanted
    streamed = at.succeed({**body, "stream": True}, result_format="tool_calls", output_retries=0)
    assert [(call["name"], call["arguments"]) for call in streamed.value] == wanted
    results = [tool_message(call, {"sky": "sunny"}) for call in done.value]
    after = {**body, "messages": [*done.messages, *results], "tool_choice": "none"}
    answer = at.direct(after)
    assert answer.ok, answer.words
    assert at.succeed(after).text == answer.text
    at.yes()


def _called(function: dict[str, Any]) -> tuple[str, Any]:
    try:
        return function["name"], json.loads(function["arguments"])
    except ValueError:
        return function["name"], None


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_response_schema(at: At, stream: bool):
    """An answer that fits a schema"""
    body = at.body(JUDGE, max_tokens=32)
    done = at.ask({**body, "stream": stream}, response_schema=VERDICT, result_format="json")
    if done.error is None:
        assert done.value in ({"verdict": "good"}, {"verdict": "bad"})
        at.yes()
        return
    assert isinstance(done.error, InvalidOutput | IncompleteReply), done.error
    form = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": VERDICT, "strict": True}}
    direct = at.direct({**body, "stream": stream, "response_format": form})
    assert not direct.ok or not _fits(direct.text), f"the server's own answer fits: {direct.text}"
    at.no(f"its answer does not fit, and the task says so ({type(done.error).__name__})")


def _fits(text: str) -> bool:
    try:
        return json.loads(text) in ({"verdict": "good"}, {"verdict": "bad"})
    except ValueError:
        return False


@pytest.mark.parametrize("choose_by", ["enum", "tool"], ids=["by its words", "by a tool"])
def test_branch(at: At, choose_by: Any):
    """A branch"""
    settings = {key: value for key, value in at.body(max_tokens=48).items() if key != "messages"}
    airflow = at.airflow()
    with airflow.dag():
        choose = ChatCompletionBranchOperator(
            task_id="ask",
            prompt=WAY,
            request=settings,
            branches={"left": "the way home", "right": "the way into the woods"},
            choose_by=choose_by,
        )
        choose >> [EmptyOperator(task_id="left"), EmptyOperator(task_id="right")]
    run = airflow.run()
    error, states = airflow.error(), run.states()
    if error is None or type(error).__name__ == "DownstreamTasksSkipped":  # so Airflow's own ends a branch
        picked = run.xcoms()["return_value"]
        picked = [picked] if isinstance(picked, str) else picked
        assert {name for name in ("left", "right") if states[name] == "success"} == set(picked)
        at.yes()
        return
    assert isinstance(error, InvalidOutput | IncompleteReply | StatusError), error
    at.no(f"it does not choose, and the task fails ({type(error).__name__})")


def test_errors(at: At):
    """Errors: a wrong model, parameter and key"""
    wrong = {
        "an unknown model": (at.body(model="no-such-model"), None),
        "temperature 99": (at.body(temperature=99), None),
        "a wrong key": (at.body(), "sk-wrong-9876543210"),
    }
    refused, taken = [], []
    for what, (body, key) in wrong.items():
        direct = at.direct(body, key=key)
        with pytest.MonkeyPatch.context() as patch:
            if key:
                patch.setenv("AIRFLOW_CONN_CHAT_WRONG", _connection(at, key))
            conn_id = "chat_wrong" if key else "chat_default"
            done = at.ask(body, request_schema=None, chat_conn_id=conn_id, max_attempts=1)
        if direct.ok:
            assert done.error is None, done.error
            taken.append(what)
        else:
            assert isinstance(done.error, StatusError)
            at.refused(direct, done)
            refused.append(f"{what} ({direct.words})")
    note = "; ".join([f"refuses {', '.join(refused)}"] * bool(refused) + [f"takes {', '.join(taken)}"] * bool(taken))
    at.yes(note) if refused else at.no(note)


def _connection(at: At, key: str) -> str:
    extra = {"model": at.served.model, "headers": dict(at.served.headers)}
    return json.dumps({"conn_type": "chat", "host": at.served.url, "password": key, "extra": extra})


def test_rate_limit(at: At):
    """A 429 is told with the server's wait"""
    if at.served.limit is None:
        at.no("it cannot be told to refuse")
        return
    changed = at.served.limit()
    try:
        body = at.body(**changed)
        if at.served.verdict:
            done = at.succeed(body, max_attempts=3)
            assert at.served.verdict() == []
            at.yes("two refusals are waited out, and the server's own verdict finds no fault with it")
            return
        direct = next((one for one in (at.direct(body) for _ in range(6)) if one.status == 429), None)
        assert direct is not None, "it did not refuse"
        done = at.ask(body, max_attempts=1)
        assert isinstance(done.error, RateLimited)
        wait = direct.headers.get("retry-after")
        assert (done.error.retry_after is not None) or not wait
        at.yes(f"retry-after: {wait}" if wait else "it names no wait")
    finally:
        at.served.unlimit()


def test_button(at: At):
    """The connection's Test"""
    direct = at.served.get("/models")
    good, said = ChatCompletionHook().test_connection()
    assert good, said
    at.yes("" if direct.ok else f"has no list of models ({direct.status})")


def test_deferred(at: At):
    """Deferred is what comes undeferred"""
    body = at.body()
    done, deferred = at.succeed(body), at.succeed(body, deferrable=True)
    assert stable(deferred.xcoms) == stable(done.xcoms)
    at.yes()


def test_batch(at: At, tmp_path: Any):
    """A batch of 200, 16 at a time"""
    airflow = at.airflow()
    settings = {key: value for key, value in at.body(max_tokens=2).items() if key != "messages"}
    with airflow.dag():
        ChatCompletionBatchOperator(
            task_id="ask",
            input=[{"number": number} for number in range(200)],
            prompt="What comes after {{ row.number }}?",
            request=settings,
            result_format="text",
            output=str(tmp_path / "out"),
            max_concurrency=16,
            max_failures=0,
        )
    run = airflow.run()
    assert airflow.error() is None
    assert run.states()["ask"] == "success"
    manifest = run.xcoms()["return_value"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert sorted(line["index"] for line in lines) == list(range(200))
    assert (manifest["succeeded"], manifest["missing"]) == (200, 0)
    tokens = [line["usage"]["total_tokens"] for line in lines if line.get("usage")]
    if tokens:
        assert manifest["usage"]["total_tokens"] == sum(tokens)
    at.yes(f"{manifest['rows_per_second']:.0f} rows a second")


def test_usage(at: At):
    """Usage is the server's own count"""
    body = at.body()
    direct, done, streamed = at.direct(body), at.succeed(body), at.succeed({**body, "stream": True})
    told = direct.json.get("usage")
    assert stable(done.body.get("usage")) == stable(told)
    if not told:
        at.no("no usage came")
        return
    names = ("prompt_tokens", "completion_tokens")
    counted = at.served.count(body, direct.json) if at.served.count else {name: told[name] for name in names}
    assert {name: done.body["usage"][name] for name in names} == counted
    usage = streamed.body.get("usage")
    events = at.direct({**body, "stream": True, "stream_options": {"include_usage": True}})
    last = next((chunk["usage"] for chunk in reversed(events.chunks) if chunk.get("usage")), None)
    assert stable(usage) == stable(last)
    at.yes("; ".join(_about_usage(at, told, last)))


def _about_usage(at: At, told: Any, streamed: Any) -> Iterator[str]:
    if at.served.count is None:
        yield "as its reply says: it shows no count beside that"
    if not streamed:
        yield "not in its streams"
    elif streamed["total_tokens"] != told["total_tokens"]:
        yield f"it counts {told['total_tokens']} tokens whole, and {streamed['total_tokens']} streamed"
