"""Whatever the request, the rules answer with warnings or an ``InvalidRequest``, never with another error."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.rules import check_rules
from airflow_chat_provider.core.request.rules.names import API_NAMES
from tests.support import cases
from tests.support.rule_requests import ANTHROPIC, AZURE, MISTRAL, OLLAMA, OPENAI, VLLM

BODIES = cases("request_bodies.jsonl")
VALID = {body["name"]: body["body"] for body in BODIES if body["valid"]}
SERVERS = [None, OPENAI, AZURE, VLLM, ANTHROPIC, MISTRAL, OLLAMA]

# Bodies that the schema accepts and a rule does not.
BROKEN = {
    "unknown_parameter_unlisted_model_zero_max_tokens_pass_schema": "token_limit",  # max_tokens is 0
}
BROKEN_AT_OPENAI = {
    "assistant_role_only_passes_schema": "assistant_content",  # the message says nothing at all
    "empty_tools_format_and_bias_pass_schema": "empty_tools",  # `tools: []`
    "unknown_parameter_unlisted_model_zero_max_tokens_pass_schema": "unknown_key",  # top_k
}


def broken_rule(body: dict[str, Any], base_url: str | None) -> str | None:
    try:
        check_rules(body, base_url=base_url)
    except InvalidRequest as error:
        return error.keyword
    return None


@pytest.mark.parametrize("name", VALID)
def test_a_body_of_the_collection_passes_save_the_few_that_are_listed(name: str) -> None:
    assert broken_rule(VALID[name], None) == BROKEN.get(name)
    assert broken_rule(VALID[name], OPENAI) == BROKEN_AT_OPENAI.get(name, BROKEN.get(name))


@pytest.mark.parametrize("base_url", SERVERS)
@pytest.mark.parametrize("body", BODIES, ids=lambda body: body["name"])
def test_a_body_that_the_schema_would_refuse_breaks_nothing(body: dict[str, Any], base_url: str | None) -> None:
    with contextlib.suppress(InvalidRequest):
        check_rules(body["body"], base_url=base_url)


# Words that the rules look for, so that arbitrary JSON comes past the first look.
_WORDS = """
    role content user assistant tool developer system function custom type text tool_calls tool_call_id id
    name arguments input parameters properties items required object array strict json_schema schema url
    json_object image_url input_audio data file file_data file_id allowed_tools tools audio voice none auto
    true json additionalProperties anyOf
"""
WORDS = st.sampled_from(_WORDS.split())
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-(10**400), 10**400])
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=5)
    | WORDS
)
KEYS = WORDS | st.text(st.characters(exclude_categories=()), max_size=5)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)
PARTS = st.dictionaries(KEYS, JSON, max_size=4) | st.fixed_dictionaries({"type": WORDS}, optional={"file": JSON})
CALLS = st.lists(st.fixed_dictionaries({"id": JSON, "function": JSON}) | JSON, max_size=3)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool", "developer", "function"]) | JSON},
        optional={
            "content": st.lists(PARTS, max_size=3) | JSON,
            "tool_calls": CALLS,
            "tool_call_id": JSON,
            "name": JSON,
            "function_call": JSON,
        },
    )
    | JSON,
    max_size=5,
)
TOOLS = st.lists(
    st.fixed_dictionaries(
        {"type": WORDS},
        optional={
            "function": st.fixed_dictionaries({"name": JSON, "parameters": JSON, "strict": JSON}),
            "custom": JSON,
        },
    )
    | JSON,
    max_size=3,
)
REQUESTS = st.dictionaries(st.sampled_from(sorted(API_NAMES)) | KEYS, JSON, max_size=8) | st.fixed_dictionaries(
    {"messages": MESSAGES},
    optional=dict.fromkeys(sorted(API_NAMES - {"messages", "tools"}), JSON) | {"tools": TOOLS},
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(REQUESTS, st.sampled_from(SERVERS), st.sampled_from(["checked", "open"]))
def test_any_json_object_is_at_worst_an_invalid_request(body: dict[str, Any], base_url: str | None, mode: Any) -> None:
    with contextlib.suppress(InvalidRequest):
        warnings = check_rules(body, base_url=base_url, mode=mode)
        assert all(text.startswith("$") and text.endswith(".") for text in warnings)
    with contextlib.suppress(InvalidRequest):
        check_rules(body)


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_base_url_is_some_server(base_url: str) -> None:
    assert check_rules({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}, base_url=base_url) == []


@pytest.mark.parametrize("key", [None, 1, True, 1.5, "1"])
def test_keys_that_python_allows_and_json_does_not_break_nothing(key: object) -> None:
    strange = {key: {"type": "array"}}
    schema = {"type": "object", "properties": strange}
    body: dict[Any, Any] = {
        "messages": [{"role": "user", "content": "Hi", key: 1}],
        "logit_bias": {key: 1},
        "metadata": {key: "x"},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": schema, "strict": True}}],
        key: 1,
    }
    for base_url in SERVERS:
        with contextlib.suppress(InvalidRequest):
            check_rules(body, base_url=base_url)


def test_a_text_of_deep_brackets_in_arguments_is_only_no_object() -> None:
    message = {
        "role": "assistant",
        "content": "",
        "function_call": {"name": "f", "arguments": "[" * 50_000},
    }
    assert any("arguments" in text for text in check_rules({"messages": [message]}))
