"""What a server or a prompt holds that the metadata database refuses, or that Airflow's readers would make objects of.

`make test-postgres` runs these on PostgreSQL, which is the stricter one: it takes no NUL and no NaN.
"""

import json

import pytest

from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.testing import replies

# As JSON text, since Python writes none of it: (what stands in the body, what is read from XCom).
UNSAFE = {
    "NUL": (r'"a\u0000b"', "a\ufffdb"),
    "half a surrogate pair": (r'"a\ud800b"', "a\ufffdb"),
    "both halves the wrong way round": (r'"\udc00\ud800"', "\ufffd\ufffd"),
    "a whole pair": (r'"\ud83d\ude00"', "\U0001f600"),
    "NaN": ("NaN", "nan"),
    "infinity": ("[Infinity, -Infinity]", ["inf", "-inf"]),
    "a float that is none": ("1e999", "inf"),
    "the largest integer of 64 bits": ("9223372036854775807", 9223372036854775807),
    "an integer over 64 bits": ("9223372036854775808", "9223372036854775808"),
    "an integer below 64 bits": ("-9223372036854775809", "-9223372036854775809"),
    "an integer of 5,000 digits": ("9" * 5000, "9" * 5000),
    "a class of Airflow's": (
        '{"__classname__": "airflow.sdk.definitions.asset.Asset", "__version__": 1, "__data__": {"uri": "s3://x"}}',
        {
            "___classname__": "airflow.sdk.definitions.asset.Asset",
            "___version__": 1,
            "___data__": {"uri": "s3://x"},
        },
    ),
    "an encoded value of Airflow's": ('{"__type": "set", "__var": [1]}', {"___type": "set", "___var": [1]}),
    "a key with NUL and a surrogate": (r'{"\u0000\udfff": 1}', {"\ufffd\ufffd": 1}),
}
ALL = "{" + ", ".join(f"{json.dumps(name)}: {written}" for name, (written, _) in UNSAFE.items()) + "}"
ALL_KEPT = {name: kept for name, (_, kept) in UNSAFE.items()}


def ask(**arguments):
    return ChatCompletionOperator(task_id="ask", prompt="Hi", **arguments)


def json_text(status, text):
    return replies.text(status, text, "application/json")


def completion_with(text, field="score"):
    """A completion with that JSON text in a field of its own."""
    body = json.dumps(replies.completion(**{field: "HERE"}))
    return json_text(200, body.replace('"HERE"', text))


def test_a_completion_is_kept(airflow, chat):
    chat.script(completion_with(ALL))
    with airflow.dag():
        ask()
    run = airflow.run()
    assert run.state == "success"
    assert run.xcoms()["body"] == {**replies.completion(), "score": ALL_KEPT}
    assert run.xcoms()["return_value"] == {"body": run.xcoms()["body"], "status": 200}


@pytest.mark.parametrize(("written", "kept"), UNSAFE.values(), ids=UNSAFE)
def test_the_body_of_an_error_is_kept_and_its_words_stop_nothing(airflow, chat, written, kept):
    detail = f'{{"message": {written}, "code": {written}, "type": {written}}}'
    chat.script(json_text(400, f'{{"error": {detail}}}'))
    with airflow.dag():
        ask()
    run = airflow.run()
    assert run.state == "failed"
    xcoms = run.xcoms()
    assert set(xcoms) == {"status", "body", "usage"}
    assert (xcoms["status"], xcoms["body"]) == (400, {"error": {"message": kept, "code": kept, "type": kept}})


def test_the_body_of_an_error_that_counts_as_data_is_kept(airflow, chat):
    chat.script(json_text(404, ALL))
    with airflow.dag():
        ask(check_status=False)
    run = airflow.run()
    assert run.state == "success"
    assert run.xcoms()["body"] == ALL_KEPT
    assert run.xcoms()["return_value"] == {"status": 404, "body": ALL_KEPT}


def test_json_that_the_model_wrote_is_kept(airflow, chat):
    long = UNSAFE["an integer of 5,000 digits"][0]
    chat.script(replies.ok(ALL.replace(long, "1")))
    with airflow.dag():
        ask(result_format="json")
    assert airflow.run().xcoms()["return_value"] == ALL_KEPT | {"an integer of 5,000 digits": 1}


def test_json_that_the_model_wrote_and_python_cannot_read_is_kept_as_the_body(airflow, chat):
    chat.script(replies.ok("9" * 5000))
    with airflow.dag():
        ask(result_format="json")
    run = airflow.run()
    assert run.state == "failed"
    assert run.xcoms()["body"]["choices"][0]["message"]["content"] == "9" * 5000


def test_text_that_is_no_json_is_kept(airflow, chat):
    chat.script(replies.text(502, "bad\x00gateway"))
    with airflow.dag():
        ask(max_attempts=1)
    xcoms = airflow.run().xcoms()
    assert (xcoms["status"], xcoms["body"]) == (502, "bad\ufffdgateway")


@pytest.mark.parametrize("depth", [100, 900, 100_000])
def test_deep_nesting_is_kept_as_text(airflow, chat, depth):
    chat.script(completion_with("[" * depth + "]" * depth, "deep"))
    with airflow.dag():
        ask()
    run = airflow.run()
    kept = json.dumps(run.xcoms()["body"])
    assert run.xcoms()["status"] == 200
    assert kept.count("[") >= min(depth, 60)


def test_deep_nesting_that_the_model_wrote_is_kept_as_text(airflow, chat):
    chat.script(replies.ok("[" * 100 + "]" * 100))
    with airflow.dag():
        ask(result_format="json")
    run = airflow.run()
    assert run.state == "success"
    assert json.dumps(run.xcoms()["return_value"]).count("[") == 100


@pytest.mark.slow
@pytest.mark.parametrize("result_format", ["raw", "text"])
def test_a_reply_of_megabytes_is_kept_whole(airflow, chat, result_format):
    text = "é\U0001f600 and more " * 250_000
    chat.script(replies.ok(text))
    with airflow.dag():
        ask(result_format=result_format, push_messages=False)
    run = airflow.run()
    assert run.state == "success"
    assert run.xcoms()["body"]["choices"][0]["message"]["content"] == text


def test_another_task_continues_a_conversation_that_had_to_be_made_safe(airflow, chat):
    call = r'{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": \"\u0000\ud800\"}"}}'
    message = rf'{{"role": "assistant", "content": "x\u0000\udfff", "tool_calls": [{call}], "__classname__": "a.B"}}'
    choice = f'[{{"index": 0, "finish_reason": "tool_calls", "message": {message}}}]'
    chat.script(completion_with(choice, "choices"))
    with airflow.dag():
        first = ask()
        ChatCompletionOperator(
            task_id="next",
            configuration=first.output["configuration"],
            messages=first.output["messages"],
            request={"tools": [{"type": "function", "function": {"name": "f"}}]},
        )
    run = airflow.run()
    assert run.states() == {"ask": "success", "next": "success"}
    assert (
        run.xcoms()["messages"][1]
        == chat.requests[-1].json["messages"][1]
        == {
            "role": "assistant",
            "content": "x\ufffd\ufffd",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": "\ufffd\ufffd"}'}}
            ],
        }
    )


@pytest.mark.parametrize("text", ["{{ '\\x00' }}", "{% include 'nul.txt' %}"], ids=["rendered", "included"])
def test_a_prompt_with_nul_does_not_lose_the_reply(airflow, chat, tmp_path, text):
    (tmp_path / "nul.txt").write_text("a\x00b", "utf-8")
    with airflow.dag(template_searchpath=[str(tmp_path)]):
        ChatCompletionOperator(task_id="ask", prompt=text)
    run = airflow.run()
    assert "\x00" in chat.requests[0].json["messages"][0]["content"]
    assert run.state == "success"
    assert "\ufffd" in run.xcoms()["messages"][0]["content"]


@pytest.mark.parametrize(
    "case", ["NUL", "an integer over 64 bits", "a class of Airflow's", "an encoded value of Airflow's"]
)
def test_messages_that_were_sent_unchecked_do_not_lose_the_reply(airflow, chat, tmp_path, case):
    written, kept = UNSAFE[case]
    messages = f'[{{"role": "user", "content": "Hi", "vendor": {written}}}]'
    (tmp_path / "request.json").write_text(f'{{"messages": {messages}}}', "utf-8")
    with airflow.dag(template_searchpath=[str(tmp_path)]):
        ChatCompletionOperator(task_id="ask", request="request.json", request_schema=None)
    run = airflow.run()
    assert run.state == "success"
    assert chat.requests[0].json["messages"] == json.loads(messages)
    assert run.xcoms()["messages"][0]["vendor"] == kept
