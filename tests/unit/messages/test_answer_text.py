"""The JSON of an answer: after a model's thoughts, in its reasoning, or as the end of what the request began."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_chat_provider.core.answer.dialogue import Dialogue, Wanted
from airflow_chat_provider.core.answer.output_schema import load_output
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.answer.result import Delivery, outcome, read_json
from airflow_chat_provider.core.errors import InvalidOutput
from airflow_chat_provider.core.messages import parsed
from airflow_chat_provider.core.types import ResultFormat

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
REQUEST: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}


def reply(content: Any, finish_reason: Any = "stop", **message: Any) -> Reply:
    answer = {"role": "assistant", "content": content, **message}
    return Reply(200, {"choices": [{"index": 0, "message": answer, "finish_reason": finish_reason}]})


def asked(answer: Reply, result_format: ResultFormat = "json") -> Reply | None:
    return Dialogue(REQUEST, Wanted(schema=load_output(SCHEMA), result_format=result_format)).take(answer)


THOUGHT = [
    '<think>I see {one} claim.</think>\n\n```json\n{"a": 1}\n```',
    '<think>\n</think>{"a": 1}',
    '  <think>hm</think>\n{"a": 1}\n',
    'The template ate the tag.</think>\n{"a": 1}',
    '</think>\n\n{"a": 1}',
    '<thinking>[1, 2]</thinking> {"a": 1}',
    '[THINK]hm[/THINK]{"a": 1}',
    '<think>Close it with </think> I must.</think>{"a": 1}',
    '\u25c1think\u25b7hm\u25c1/think\u25b7```\n{"a": 1}```',
]


@pytest.mark.parametrize("text", THOUGHT)
def test_json_is_read_after_a_models_thoughts(text: str) -> None:
    found = outcome(Delivery("json"), REQUEST, reply(text), {})
    assert (found.value, found.warnings) == ({"a": 1}, ())
    assert asked(reply(text)) is not None
    assert outcome(Delivery("text"), REQUEST, reply(text), {}).value == text
    assert found.xcoms["messages"][-1]["content"] == text


def test_a_tag_within_the_answer_is_a_part_of_it() -> None:
    assert parsed('{"a": "</think>"}') == ({"a": "</think>"}, None)
    assert parsed('<think>hm</think>{"a": "</think>"}') == ({"a": "</think>"}, None)


@pytest.mark.parametrize(
    "text",
    [
        '<think>{"a": 1}',
        '{"a": 1}<think>',
        '{"a": 1}</think>',
        "<think>hm</think>The kestrel is",
        '<think>hm</think>Here it is: {"a": 1}',
        'Here is the JSON: ```json\n{"a": 1}\n```',
        '<think>hm</think>{"a": 1',
    ],
)
def test_text_about_json_is_no_json(text: str) -> None:
    value, where = parsed(text)
    assert value is None
    assert where is not None
    assert "kestrel" not in where


@pytest.mark.parametrize(
    "text", ["</think>" * 100_000, "<think>" * 100_000, "</think>{" * 50_000 + "[/THINK]" * 50_000]
)
def test_a_model_that_repeats_its_tags_does_not_hold_the_task_up(text: str) -> None:
    assert parsed(text)[1] is not None


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("content", [None, "", " \n"])
def test_json_in_the_reasoning_of_an_empty_answer_is_read_and_told_of(name: str, content: Any) -> None:
    answer = reply(content, **{name: '{"a": 1}'})
    found = outcome(Delivery("json"), REQUEST, answer, {})
    assert found.value == {"a": 1}
    assert any(f"the JSON in its {name} was taken for the answer" in warning for warning in found.warnings)
    final = asked(answer)
    assert final is not None
    assert final.error is None


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (reply("", reasoning_content='I think {"a": 1}'), True),
        (reply("", reasoning_content="5"), True),
        (reply("", "length", reasoning_content='{"a": 1}'), True),
        (reply("", None, reasoning_content='{"a": 1}'), True),
        (reply("", "brand_new_reason", reasoning_content='{"a": 1}'), True),
        (reply("no", reasoning_content='{"a": 1}'), False),
        (reply(""), False),
    ],
)
def test_reasoning_is_not_believed_where_it_may_be_reasoning(answer: Reply, named: bool) -> None:
    found = read_json(answer, REQUEST, may_be_hidden=True)
    assert found.value is None
    assert ("reasoning_content" in str(found.where)) is named


def test_the_error_says_where_the_text_is() -> None:
    error = outcome(Delivery("json"), REQUEST, reply("", reasoning_content="A kestrel"), {}).error
    assert isinstance(error, InvalidOutput)
    assert "reasoning_content" in error.message
    assert "kestrel" not in error.message


@pytest.mark.parametrize("result_format", ["raw", "text", "message"])
def test_reasoning_that_fits_is_no_answer_where_the_text_is_what_is_returned(result_format: ResultFormat) -> None:
    assert asked(reply("", reasoning_content='{"a": 1}'), result_format) is None


def test_reasoning_that_does_not_fit_the_schema_is_asked_again() -> None:
    assert asked(reply("", reasoning_content='{"b": 1}')) is None


def test_an_unflagged_text_counts_as_begun_only_where_the_answer_alone_is_no_json() -> None:
    last = {"role": "assistant", "content": "1"}
    request = {"messages": [last]}
    assert read_json(reply("2"), request).value == 2
    assert read_json(reply("2"), {"messages": [{**last, "prefix": True}]}).value == 12
    joined = read_json(reply("]"), {"messages": [{"role": "assistant", "content": "["}]})
    assert (joined.value, len(joined.doubts)) == ([], 1)


def test_json_that_is_not_text_is_read_and_told_of() -> None:
    found = outcome(Delivery("json"), REQUEST, reply({"a": 1}), {})
    assert found.value == {"a": 1}
    assert any("a JSON object instead of text" in warning for warning in found.warnings)
    (warning,) = outcome(Delivery("text"), REQUEST, reply({"a": 1}), {}).warnings
    assert "the content of choices[0] is not text" in warning
