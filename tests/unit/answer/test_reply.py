"""What came back: is it a completion, is it whole, and what does it say."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_chat_provider.core.answer.reply import Reply, flaw, incomplete
from airflow_chat_provider.core.answer.result import incomplete_error, result
from airflow_chat_provider.core.errors import IncompleteReply, InvalidOutput, ProtocolError
from airflow_chat_provider.core.messages import conversation_message, text_of
from airflow_chat_provider.core.types import ResultFormat
from airflow_chat_provider.schema import validate_request


def choice(content: Any = "Hi", finish_reason: Any = "stop", **message: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish_reason}


def reply(*choices: dict[str, Any], **body: Any) -> Reply:
    return Reply(200, {"choices": list(choices), **body}, request_id="req_1")


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}

FLAWS: list[tuple[Any, str | None]] = [
    ({"choices": [choice()]}, None),
    ({"choices": [choice(), choice(None, "tool_calls", tool_calls=[CALL])]}, None),
    ({"choices": [choice()], "error": None}, None),
    ({"choices": [{"message": {}}]}, None),
    ({"choices": [choice(finish_reason="whatever")]}, None),
    ({"choices": [choice(finish_reason=None)]}, None),
    ({}, "a body without choices"),
    ({"choices": []}, "a body without choices"),
    ({"choices": None}, "a body without choices"),
    ({"choices": {"0": choice()}}, "a body without choices"),
    ({"error": {"message": "No"}}, "an error in place of a completion"),
    ({"error": "No", "choices": [choice()]}, "an error in place of a completion"),
    ({"choices": [None]}, "choices[0] without a message"),
    ({"choices": [choice(), {"text": "Hi"}]}, "choices[1] without a message"),
    ({"choices": [{"message": None}]}, "choices[0] without a message"),
    ({"choices": [{"delta": {}}]}, "choices[0] without a message"),
    ({"choices": [choice(), choice(finish_reason="error")]}, "choices[1] that ended in an error"),
    ({"choices": [{**choice(), "error": {"code": 502}}]}, "choices[0] that ended in an error"),
    ([choice()], "JSON that is not an object (a list)"),
    ("Hi", "JSON that is not an object (a str)"),
    (None, "the JSON null"),
]


@pytest.mark.parametrize(("body", "why"), FLAWS)
def test_flaw_says_why_a_body_is_not_a_completion(body: Any, why: str | None) -> None:
    assert flaw(body, is_json=True) == why


@pytest.mark.parametrize(("text", "why"), [("", "an empty body"), ("<html>", "text that is not JSON")])
def test_flaw_of_a_body_that_is_not_json(text: str, why: str) -> None:
    assert flaw(text, is_json=False) == why


@pytest.mark.parametrize(
    ("choices", "why"),
    [
        ([choice()], None),
        ([choice(finish_reason=None)], None),
        ([choice(finish_reason=["length"])], None),
        ([choice(None, "tool_calls", tool_calls=[CALL])], None),
        ([choice(refusal=None)], None),
        ([choice(finish_reason="length")], "choices[0] was cut off by its length limit (finish_reason length)"),
        (
            [choice(), choice(finish_reason="model_length")],
            "choices[1] was cut off by the model's context limit (finish_reason model_length)",
        ),
        (
            [choice(finish_reason="content_filter")],
            "choices[0] was cut off by a content filter (finish_reason content_filter)",
        ),
        ([choice(None, refusal="I cannot say kestrel")], "choices[0] is a refusal"),
    ],
)
def test_incomplete_says_why_an_answer_is_not_complete(choices: list[Any], why: str | None) -> None:
    assert incomplete({"choices": choices}) == why


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Hi", "Hi"),
        (None, ""),
        (5, ""),
        ([], ""),
        (
            [{"type": "text", "text": "A"}, {"text": "B"}, {"type": "thinking", "text": "x"}, {"type": "text"}, "y"],
            "AB",
        ),
        ([{"type": "reference", "text": "x"}, {"type": "text", "text": None}], ""),
    ],
)
def test_text_of_content_in_each_form(content: Any, text: str) -> None:
    assert text_of(content) == text
    assert reply(choice(content)).text == text


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"usage": {"total_tokens": 7}}, 7),
        ({"usage": {}}, None),
        ({"usage": None}, None),
        ({"usage": {"total_tokens": "7"}}, None),
        ({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}, 7),
        ({"usage": {"total_tokens": None, "prompt_tokens": 3, "completion_tokens": 4}}, 7),
        ({"usage": {"prompt_tokens": 3, "completion_tokens": None}}, 3),
        ({"usage": {"input_tokens": 3, "output_tokens": 4}}, 7),
        ({"usage": {"total_tokens": 0, "prompt_tokens": 0, "completion_tokens": 0}}, 0),
        ({"usage": [{"total_tokens": 7}]}, None),
        ({"usage": [None]}, None),
        ("text", None),
        (None, None),
    ],
)
def test_tokens_are_the_total_or_the_sum_of_the_parts(body: Any, tokens: int | None) -> None:
    assert Reply(200, body).tokens == tokens


AUDIO = {"id": "a", "data": "...", "expires_at": 5, "transcript": "Hi"}
MESSAGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"role": "assistant", "content": "Hi"}, {"content": "Hi"}),
    ({"content": "Hi", "refusal": None, "annotations": [], "tool_calls": [], "function_call": None}, {"content": "Hi"}),
    ({"content": None, "tool_calls": [CALL]}, {"tool_calls": [CALL]}),
    ({"content": "", "reasoning_content": "hm", "token_ids": [1]}, {"content": "", "reasoning_content": "hm"}),
    ({"content": None}, {"content": ""}),
    ({}, {"content": ""}),
    ({"content": None, "refusal": "No"}, {"refusal": "No"}),
    ({"content": None, "audio": AUDIO}, {"audio": {"id": "a"}}),
    ({"content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]}, {"content": "Hi"}),
    ({"content": [{"type": "refusal", "refusal": "No"}]}, {"content": [{"type": "refusal", "refusal": "No"}]}),
    ({"content": [{"type": "tool_use", "id": "c"}, {"type": "text", "text": "Hi"}]}, {"content": "Hi"}),
    ({"content": "Hi", "role": "model", "name": "n"}, {"content": "Hi", "name": "n"}),
]


@pytest.mark.parametrize(("message", "expected"), MESSAGES)
def test_conversation_message_is_valid_in_a_request(message: dict[str, Any], expected: dict[str, Any]) -> None:
    found = conversation_message(message)
    assert found == {"role": "assistant", **expected}
    validate_request({"model": "m", "messages": [found]})


def test_the_result_in_each_format() -> None:
    answer = reply(choice('{"a": 1}'))
    assert result(answer, "raw") == {"body": answer.body, "status": 200}
    assert result(answer, "message") == {"role": "assistant", "content": '{"a": 1}'}
    assert result(answer, "text") == '{"a": 1}'
    assert result(answer, "json") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1]", [1]),
        (" 5\n", 5),
        ('"x"', "x"),
        ("null", None),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('\n  ```\n{"a":\n 1}```  ', {"a": 1}),
        ("```JSON  \r\n[1]\r\n```\n", [1]),
        ('```json\n{"a": "```"}\n```', {"a": "```"}),
    ],
)
def test_json_is_read_with_or_without_a_fence(text: str, value: Any) -> None:
    assert result(reply(choice(text)), "json") == value


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("The kestrel is", "line 1, column 1 of 14 characters"),
        ("", "line 1, column 1 of 0 characters"),
        ('{"kestrel": 1,\n}', "line 2, column 1 of 16 characters"),
        ('Here: ```json\n{"a": 1}\n```', "line 1, column 1"),
        ("```json\n", "line 1, column 1"),
        ("```", "line 1, column 1"),
        ("[" * 100_000, "nested too deep: more than 200 levels, in 100000 characters"),
        ("1" * 5000, "a number with too many digits, in 5000 characters"),
    ],
    ids=lambda value: value[:20],
)
def test_an_answer_that_is_not_json_is_an_error_that_does_not_quote_it(text: str, where: str) -> None:
    answer = reply(choice(text))
    with pytest.raises(InvalidOutput) as caught:
        result(answer, "json")
    assert where in str(caught.value)
    assert "kestrel" not in str(caught.value)
    assert (caught.value.status, caught.value.request_id, caught.value.body) == (200, "req_1", answer.body)


@pytest.mark.parametrize(
    "text", ["```json\n" + "\n" * 200_000, "```" + " " * 200_000 + "x", "```\n" * 50_000], ids=range(3)
)
def test_an_answer_of_repeated_newlines_is_read_in_linear_time(text: str) -> None:
    # A pattern with two wildcards would need hours here.
    with pytest.raises(InvalidOutput):
        result(reply(choice(text)), "json")


def test_json_that_was_cut_off_is_an_incomplete_reply() -> None:
    with pytest.raises(IncompleteReply, match=r"Raise the token limit.*choices.0. was cut off by its length limit"):
        result(reply(choice('{"a": ', "length")), "json")


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_answer_that_only_calls_tools_has_no_text(form: ResultFormat) -> None:
    answer = reply(choice(None, "tool_calls", tool_calls=[CALL]))
    assert result(answer, "message")["tool_calls"] == [CALL]
    with pytest.raises(InvalidOutput, match="Use result_format='tool_calls'"):
        result(answer, form)


def test_text_beside_tool_calls_is_the_text() -> None:
    assert result(reply(choice("Hi", tool_calls=[CALL])), "text") == "Hi"


def test_a_reply_raises_its_error_or_is_returned() -> None:
    answer = reply(choice())
    assert answer.raise_for_error() is answer
    error = answer.as_error(ProtocolError, "Look here")
    with pytest.raises(ProtocolError) as caught:
        Reply(200, None, error=error).raise_for_error()
    assert caught.value is error
    assert (error.status, error.request_id, error.body) == (200, "req_1", answer.body)
    assert incomplete_error(answer, "x").request_id == "req_1"
