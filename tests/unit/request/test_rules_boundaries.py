"""Just inside and just outside of what a rule says, where the table has only one side."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.rules import check_rules
from tests.support.rule_requests import (
    AZURE,
    DEVELOPER,
    EMPTY,
    HI,
    OPENAI,
    answer,
    call,
    calls,
    custom,
    image,
    json_schema,
    request,
    takes,
    talk,
    tool,
    tools,
)

A = "A" * 100
ANY_OBJECT = {"type": "object"}

INSIDE = {
    "developer at OpenAI": (request(DEVELOPER, HI), OPENAI),
    "developer at an unknown server": (request(DEVELOPER, HI), None),
    "developer at Azure": (request(DEVELOPER, HI), AZURE),
    "description of 1,024 characters": (tools(tool(description="x" * 1024)), None),
    "prefixItems": (takes({**EMPTY, "properties": {"a": {"type": "array", "prefixItems": []}}}), OPENAI),
    "top_p alone": (request(top_p=0.5, temperature=None), None),
    "no effort with tools": (tools(tool(), model="gpt-5.4", reasoning_effort="none"), OPENAI),
    "effort with custom tools": (tools(custom(), model="gpt-5.4", reasoning_effort="low"), OPENAI),
    "effort without tools": (request(model="gpt-5.4", reasoning_effort="low"), OPENAI),
    "a built-in tool of another vendor": (tools({"type": "web_search"}, tool_choice="any"), None),
    "an answer in parts": (
        talk(calls(call()), {**answer(), "content": [{"type": "text", "text": "42"}]}),
        OPENAI,
    ),
    "several choices at OpenAI": (request(n=3), OPENAI),
    "image by URL": (image("HTTPS://example.com/a.png"), OPENAI),
    "strict false": (takes({**EMPTY, "properties": {"a": {}}}, strict=False), OPENAI),
}
OUTSIDE = {
    "a tool message alone": (request({"role": "tool", "content": "x"}), "tool_message_without_call"),
    "an answer with a list for its id": (
        talk(calls(call()), {"role": "tool", "tool_call_id": ["c1"]}),
        "tool_message_without_call",
    ),
    "a digit of another script": (request(logit_bias={"٣": 1}), "logit_bias"),
    "a schema for json_object": (
        request(response_format={"type": "json_object", "schema": {}}),
        "json_object_without_json",
    ),
    "an open object below": (
        json_schema(name="a", strict=True, schema={"additionalProperties": False, "$defs": {"b": {"properties": {}}}}),
        "strict_schema",
    ),
}
SPOKEN_OF = {
    "tool messages only": request(calls(call()), answer()),
    "an image that is not base64": image("data:image/svg+xml,<svg/>"),
    "base64 that is no image": image("data:text/plain;base64,AAAA"),
    "long arguments that start with something else": talk(calls(call(arguments="x" * 200_000 + "}")), answer()),
    "an array that may be null": takes({**EMPTY, "properties": {"a": {"type": ["null", "array"]}}}),
    "an object nobody describes": tools(tool(parameters=ANY_OBJECT)),
}


@pytest.mark.parametrize(("body", "base_url"), INSIDE.values(), ids=INSIDE)
def test_a_request_just_inside_a_rule_passes_without_a_word(body: dict[str, Any], base_url: str | None) -> None:
    assert check_rules(body, base_url=base_url) == []


@pytest.mark.parametrize(("body", "rule"), OUTSIDE.values(), ids=OUTSIDE)
def test_a_request_just_outside_a_rule_is_an_error_at_openai(body: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_rules(body, base_url=OPENAI)
    assert caught.value.keyword == rule


@pytest.mark.parametrize("body", SPOKEN_OF.values(), ids=SPOKEN_OF)
def test_a_request_just_outside_a_warning_is_warned_of(body: dict[str, Any]) -> None:
    assert len(check_rules(body)) == 1


def test_a_function_call_may_name_any_function_that_is_defined() -> None:
    functions = [{"name": "f"}, {"name": "g"}]
    (deprecated,) = check_rules(request(functions=functions, function_call={"name": "g"}))
    assert "deprecated" in deprecated
