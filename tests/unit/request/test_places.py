"""Open places: what OpenAI alone does not know is refused for OpenAI, and told once to everybody else."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.prepare import check_known, filled, finish
from airflow_chat_provider.core.request.schema import OPEN
from airflow_chat_provider.core.request.validator import UNKNOWN
from airflow_chat_provider.schema import load_schema, validate_request
from tests.support.bodies import MINIMAL, shipped

OPENAI = "https://api.openai.com/v1"
SERVERS_OF_OPENAI = [OPENAI, "https://eu.api.openai.com/v1", "https://mine.openai.azure.com/openai/v1"]
SERVERS = [None, "http://localhost:8000/v1", "https://api.groq.com/openai/v1", "https://openai.example.com/v1"]
USER = {"role": "user", "content": "Hi"}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
URL = {"url": "https://example.com/a.png"}
SECRET = "the prompt, which nobody may see"


def said(part: dict[str, Any], role: str = "user") -> dict[str, Any]:
    more = {"tool_call_id": "a"} if role == "tool" else {}
    before = [{"role": "assistant", "tool_calls": [CALL]}] if role == "tool" else []
    return {"messages": [*before, {"role": role, "content": [part], **more}, USER]}


def choice(value: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": value}


def verdict(change: dict[str, Any], base_url: str | None = None, schema: Any = "2026-11") -> list[str]:
    """The warnings; raises InvalidRequest."""
    loaded = load_schema(schema)
    assert loaded is not None
    return [*loaded.validate({**MINIMAL, **change}, base_url=base_url)]


def refusal(change: dict[str, Any], base_url: str | None = None, schema: Any = "2026-11") -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        verdict(change, base_url, schema)
    return caught.value


OPEN_PLACES = [
    ({"service_tier": "on_demand"}, "$.service_tier is 'on_demand'"),
    ({"reasoning_effort": "default"}, "$.reasoning_effort is 'default'"),
    ({"verbosity": "max"}, "$.verbosity is 'max'"),
    ({"modalities": ["image", "text"]}, "$.modalities[0] is 'image'"),
    ({"prompt_cache_retention": "1h"}, "$.prompt_cache_retention has a value"),
    ({"prompt_cache_options": {"ttl": "5m", "mode": "explicit"}}, "$.prompt_cache_options.ttl has a value"),
    ({"moderation": {"model": "m", "policy": {"input": {"mode": "log"}}}}, "$.moderation.policy.input.mode is 'log'"),
    ({"modalities": ["text", "audio"], "audio": {"voice": "v", "format": "m4a"}}, "$.audio.format is 'm4a'"),
    ({"modalities": ["audio"], "audio": {"voice": {"name": "v"}, "format": "mp3"}}, "$.audio.voice has a form"),
    ({"metadata": {"tags": ["a"], "trace": {"b": 1}}}, "$.metadata.tags is an array, but OpenAI takes a string"),
    ({"web_search_options": {"user_location": {"country": "FR"}}}, "$.web_search_options.user_location lacks 'type'"),
    ({"web_search_options": {"search_context_size": "huge"}}, "$.web_search_options.search_context_size is 'huge'"),
    ({"prediction": {"type": "draft", "content": "x"}}, "$.prediction.type is 'draft'"),
    ({"response_format": {"type": "structural_tag", "format": {}}}, "$.response_format.type is 'structural_tag'"),
    ({"response_format": {"type": "regex", "pattern": "a+"}}, "$.response_format.type is 'regex'"),
    ({"function_call": "any", "functions": [{"name": "f"}]}, "$.function_call is 'any'"),
    ({"tools": [{"type": "web_search"}]}, "$.tools[0].type is 'web_search'"),
    ({"tools": [{"type": "builtin_function", "function": {"name": "$web_search"}}]}, "$.tools[0].type is 'builtin_fun"),
    (
        {"tools": [{"type": "custom", "custom": {"name": "f", "format": {"type": "gbnf", "gbnf": "x"}}}]},
        "$.tools[0].custom.format.type is 'gbnf'",
    ),
    (choice("any"), "$.tool_choice is 'any'"),
    (choice({"type": "tool", "name": "f"}), "$.tool_choice.type is 'tool'"),
    (
        choice({"type": "allowed_tools", "allowed_tools": {"mode": "any", "tools": []}}),
        "$.tool_choice.allowed_tools.mode is 'any'",
    ),
    (said({"type": "video_url", "video_url": URL}), "$.messages[0].content[0].type is 'video_url'"),
    (said({"type": "audio_url", "audio_url": URL}), "$.messages[0].content[0].type is 'audio_url'"),
    (said({"type": "input_video", "input_video": {}}), "$.messages[0].content[0].type is 'input_video'"),
    (
        said({"type": "image_url", "image_url": {**URL, "detail": "medium"}}),
        "$.messages[0].content[0].image_url.detail is 'medium'",
    ),
    (
        said({"type": "input_audio", "input_audio": {"data": "AA==", "format": "ogg"}}),
        "$.messages[0].content[0].input_audio.format is 'ogg'",
    ),
    (
        said({"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "implicit"}}),
        "$.messages[0].content[0].prompt_cache_breakpoint.mode is 'implicit'",
    ),
    (said({"type": "thinking", "thinking": []}, "assistant"), "$.messages[0].content[0].type is 'thinking'"),
    *(
        (said({"type": "image_url", "image_url": URL}, role), "content[0].type is 'image_url'")
        for role in ("system", "developer", "assistant", "tool")
    ),
    (said({"type": "document", "document": {}}, "tool"), "$.messages[1].content[0].type is 'document'"),
    ({"messages": [{"role": "ipython", "content": "1"}, USER]}, "$.messages[0].role is 'ipython'"),
    (
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{**CALL, "type": "builtin_function"}]},
                {"role": "tool", "tool_call_id": "a", "content": "1"},
            ]
        },
        "$.messages[0].tool_calls[0].type is 'builtin_function'",
    ),
]


@pytest.mark.parametrize(("change", "words"), OPEN_PLACES, ids=[words for _, words in OPEN_PLACES])
def test_what_openai_does_not_know_is_told_once_and_sent_elsewhere(change: dict[str, Any], words: str) -> None:
    for base_url in SERVERS:
        warning, *more = verdict(change, base_url)
        assert words in warning
        assert more == []
        assert finish({**MINIMAL, **change}, load_schema("2026-11"), base_url=None)[0] == {**MINIMAL, **change}


@pytest.mark.parametrize(("change", "words"), OPEN_PLACES, ids=[words for _, words in OPEN_PLACES])
def test_what_openai_does_not_know_is_not_sent_to_openai_or_azure(change: dict[str, Any], words: str) -> None:
    for base_url in SERVERS_OF_OPENAI:
        error = refusal(change, base_url)
        assert words.split(" ", maxsplit=1)[0] in str(error.path)
        assert error.message.endswith("; nothing was sent, and request_schema='open' sends it as it is")
        assert str(error.path) in error.message


@pytest.mark.parametrize(("change", "words"), OPEN_PLACES, ids=[words for _, words in OPEN_PLACES])
def test_a_copy_of_the_schema_is_as_strict_as_it_was_published(change: dict[str, Any], words: str) -> None:
    assert words
    assert refusal(change, None, shipped("2026-11")).path == refusal(change, OPENAI).path


def test_each_kind_of_place_is_told_once_with_how_many_there_are() -> None:
    parts = [{"type": "video_url", "video_url": URL}, {"type": "audio_url", "audio_url": URL}]
    request = {"messages": [{"role": "user", "content": parts}] * 3, "service_tier": "on_demand"}
    assert [warning.partition(";")[0] for warning in verdict(request)] == [
        "$.messages[0].content[0].type is 'video_url', which OpenAI does not know (the first of 6 such places)",
        "$.service_tier is 'on_demand', which OpenAI does not know",
    ]


def test_the_kind_of_a_warning_is_the_same_wherever_its_place_is() -> None:
    def warning(before: int, kind: str) -> Any:
        messages = [USER] * before + said({"type": kind})["messages"]
        return verdict({"messages": messages})[0]

    first, second = warning(0, "video_url"), warning(5, "input_video")
    assert first != second
    assert first.kind == second.kind


def test_a_reader_gets_no_more_warnings_than_can_be_read() -> None:
    request = {**MINIMAL, **{name: {"no": "such"} for name in shipped("2026-11")["properties"] if name != "messages"}}
    warnings = verdict({**request, "model": "m"}, schema=OPEN)
    assert len(warnings) == 11
    assert "more ways" in warnings[-1]


@pytest.mark.parametrize(
    ("change", "meant"),
    [
        ({"tools": [{"type": "fucntion"}]}, "function"),
        ({"tools": [{"type": "functions"}]}, "function"),
        ({"service_tier": "priorty"}, "priority"),
        ({"verbosity": "hihg"}, "high"),
        ({"reasoning_effort": "lwo"}, "low"),
        ({"verbosity": "LOW"}, "low"),
        ({"tools": [{"type": "FUNCTION"}]}, "function"),
        ({"tools": [{"type": "builtin_function"}]}, None),
        ({"tools": [{"type": "function_2"}]}, None),
        (said({"type": "video_url"}), None),
        (said({"type": "audio_url"}), None),
        (said({"type": "input_video"}), None),
        (said({"type": "image"}), None),
        ({"audio": {"voice": "v", "format": "mp4"}}, None),
        ({"service_tier": "on_demand"}, None),
        ({"reasoning_effort": "ultra"}, None),
        (choice("any"), None),
    ],
    ids=str,
)
def test_a_slip_of_a_letter_or_two_is_told_and_another_word_is_no_slip(change: Any, meant: str | None) -> None:
    (warning,) = verdict(change)
    assert ("did you mean" in warning) is (meant is not None)
    assert meant is None or f"(did you mean {meant!r}?)" in warning
    error = refusal(change, OPENAI)
    assert ("did you mean" in error.message) is (meant is not None)
    assert meant is None or f"did you mean {meant!r}?" in error.message


@pytest.mark.parametrize(
    "value",
    [SECRET, "sk-abcdef", "x" * 40, "SECRET", "a b", "\ud800", "", "é"],
    ids=ascii,
)
def test_a_value_is_quoted_only_where_it_is_short_and_like_a_name(value: str) -> None:
    changes = ({"service_tier": value}, said({"type": value, "text": SECRET}))
    for change in changes:
        (warning,) = verdict(change)
        assert "has a value that OpenAI does not know;" in warning
        assert not value or value not in warning
        assert SECRET not in refusal(change, OPENAI).message


TODO = "Correct the request: "
WAY_OUT = "; nothing was sent, and request_schema='open' sends it as it is"
CLOSED_PLACES = [
    ({"stop": list("abcde")}, "$.stop: must have at most 4 items, but has 5"),
    ({"logit_bias": {"50256": -1.5}}, "$.logit_bias['50256']: must be an integer, got -1.5"),
    ({"stop": [5]}, "$.stop[0]: must be a string, got 5"),
    ({"logprobs": 1}, "$.logprobs: must be a boolean or null, got 1"),
    ({"temperature": 2.5}, "$.temperature: must be at most 2, got 2.5"),
    ({"top_logprobs": 50, "logprobs": True}, "$.top_logprobs: must be at most 20, got 50"),
    ({"n": 0}, "$.n: must be at least 1, got 0"),
    ({"service_tier": ["fast"]}, "$.service_tier: must be a string or null, got an array"),
    ({"tools": [{"function": {"name": "f"}}]}, "$.tools[0]: 'type' is missing"),
    ({"tools": [{"type": "function"}]}, "$.tools[0]: 'function' is missing"),
    ({"tools": {}}, "$.tools: must be an array, got an object"),
    ({"metadata": ["a"]}, "$.metadata: must be an object or null, got an array"),
    ({"response_format": {"type": "json_schema"}}, "$.response_format: 'json_schema' is missing"),
    (said({"type": "image_url", "image_url": "https://a"}), "$.messages[0].content[0].image_url: must be an object"),
    (said({"type": "image_url"}), "$.messages[0].content[0]: 'image_url' is missing"),
    (said({"text": "x"}), "$.messages[0].content[0]: 'type' is missing"),
    ({"messages": [{"role": "user"}]}, "$.messages[0]: 'content' is missing"),
    ({"messages": [{"role": "uesr", "content": "x"}]}, "$.messages[0].role: must be one of "),
    ({"messages": [{"role": "USER", "content": "x"}]}, "$.messages[0].role: must be one of "),
]


@pytest.mark.parametrize(("change", "words"), CLOSED_PLACES, ids=[words for _, words in CLOSED_PLACES])
def test_a_closed_place_is_an_error_everywhere_whose_remedy_names_the_way_out(change: Any, words: str) -> None:
    for base_url in (*SERVERS, *SERVERS_OF_OPENAI):
        error = refusal(change, base_url)
        assert error.message.startswith(TODO + words)
        assert error.message.endswith(WAY_OUT)
    if "got 5" not in words:  # which is text, where text is due
        with pytest.raises(InvalidRequest, match="request_schema='open'"):
            check_known({**MINIMAL, **change}, load_schema("2026-11"))


@pytest.mark.parametrize(("change", "words"), CLOSED_PLACES, ids=[words for _, words in CLOSED_PLACES])
def test_the_open_schema_takes_what_openai_refuses_with_a_warning(change: dict[str, Any], words: str) -> None:
    for base_url in (None, OPENAI):
        warning, *more = verdict(change, base_url, OPEN)
        assert warning.startswith(words.partition(": ")[0])
        assert more == []


@pytest.mark.parametrize("role", ["system", "developer", "assistant", "tool"])
@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "image_url"}, ": 'image_url' is missing"),
        ({"type": "image_url", "image_url": {}}, ".image_url: 'url' is missing"),
        ({"type": "image_url", "image_url": {"url": 5}}, ".image_url.url: must be a string, got 5"),
        ({"type": "input_audio", "input_audio": {"data": "AA=="}}, ".input_audio: 'format' is missing"),
        ({"type": "file", "file": "a"}, ".file: must be an object, got a string"),
    ],
)
def test_in_an_open_place_the_fields_of_a_known_kind_are_closed(role: str, part: Any, words: str) -> None:
    error = refusal(said(part, role))
    index = 1 if role == "tool" else 0
    assert error.message == f"{TODO}$.messages[{index}].content[0]{words}{WAY_OUT}"


def test_a_part_of_a_kind_that_stands_elsewhere_gets_the_types_of_that_kind() -> None:
    request = {**MINIMAL, **said({"type": "image_url", "image_url": {"url": 5, "detail": None}}, "tool")}
    made, _ = filled(request, load_schema("2026-11"))
    assert made["messages"][1]["content"] == [{"type": "image_url", "image_url": {"url": "5"}}]


def test_an_error_with_a_remedy_of_its_own_names_the_way_out_after_it() -> None:
    error = refusal({"messages": [{"role": "user", "content": ["a", "b"]}]})
    assert error.message.startswith("Join the list of texts into one text")
    assert error.message.endswith(WAY_OUT)


REFUSED_EVERYWHERE = [
    ({"messages": []}, "$.messages"),
    ({"messages": None}, "$.messages"),
    ({"messages": "Hi there"}, "$.messages"),
    ({"messages": ["Hi"]}, "$.messages[0]"),
    ({"messages": [USER, None]}, "$.messages[1]"),
    ({"messages": [{"content": "Hi"}]}, "$.messages[0]"),
    ({"messages": [{"role": None, "content": "Hi"}]}, "$.messages[0].role"),
    ({"messages": [{"role": 5, "content": "Hi"}]}, "$.messages[0].role"),
    ({"model": 5}, "$.model"),
    ({"model": ["m"]}, "$.model"),
]


@pytest.mark.parametrize(("change", "path"), REFUSED_EVERYWHERE, ids=str)
def test_what_every_server_refuses_is_an_error_that_names_no_way_out(change: dict[str, Any], path: str) -> None:
    for schema in ("2026-11", OPEN):
        error = refusal(change, None, schema)
        assert error.path == path
        assert "request_schema" not in error.message


def test_open_needs_messages_and_no_model() -> None:
    loaded = load_schema(OPEN)
    assert loaded is not None
    assert loaded.required == {"messages"}
    with pytest.raises(InvalidRequest, match="'messages' is missing"):
        loaded.validate({"model": "m"})
    (warning,) = loaded.validate({"messages": [USER]})
    assert "'model' is missing" in warning
    with pytest.raises(InvalidRequest):
        loaded.validate([])


def test_open_gives_the_types_of_the_newest_schema() -> None:
    made, warnings = finish({**MINIMAL, "temperature": "0.5", "top_k": "5", "stop": list("abcde")}, load_schema(OPEN))
    assert (made["temperature"], made["top_k"], made["stop"]) == (0.5, "5", list("abcde"))
    assert any(warning.startswith("$.stop ") for warning in warnings)


DUMPED = {"role": "assistant", "content": "Hi", "refusal": None, "audio": None, "annotations": None}
NULLS: list[tuple[dict[str, Any], list[str]]] = [
    ({"tools": None}, ["$.tools"]),
    ({"user": None, "response_format": None}, ["$.response_format", "$.user"]),
    ({"tool_choice": None, "parallel_tool_calls": None}, ["$.tool_choice", "$.parallel_tool_calls"]),
    ({"functions": None, "function_call": None}, ["$.function_call", "$.functions"]),
    ({"web_search_options": None, "prompt_cache_options": None}, ["$.web_search_options", "$.prompt_cache_options"]),
    ({"messages": [{**DUMPED, "tool_calls": None, "function_call": None}, USER]}, ["$.messages[0].tool_calls"]),
    ({"messages": [{**USER, "name": None}]}, ["$.messages[0].name"]),
    (said({"type": "image_url", "image_url": {**URL, "detail": None}}), ["$.messages[0].content[0].image_url.detail"]),
    ({"tools": [{"type": "function", "function": {"name": "f", "description": None}}]}, ["$.tools[0].function.desc"]),
    ({"response_format": {"type": None}}, ["$.response_format.type"]),
    ({"temperature": None, "stop": None, "service_tier": None}, []),
]


@pytest.mark.parametrize(("change", "paths"), NULLS, ids=str)
def test_a_null_in_the_place_of_nothing_is_a_warning_at_every_server(change: dict[str, Any], paths: list[str]) -> None:
    for base_url in (None, OPENAI):
        for schema in ("2026-11", OPEN):
            warnings = verdict(change, base_url, schema)
            assert len(warnings) == len(paths)
            for warning, path in zip(warnings, paths, strict=True):
                assert warning.startswith(path)
                assert "is null, but OpenAI's schema allows no null here" in warning


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"stop": [None]}, "$.stop"),
        ({"messages": [{"role": "user", "content": None}]}, "$.messages[0].content"),
        ({"tools": [None]}, "$.tools[0]"),
        ({"tools": [{"type": None, "function": {"name": "f"}}]}, "$.tools[0].type"),
        ({"tools": [{"type": "function", "function": None}]}, "$.tools[0].function"),
        ({"messages": [{"role": "assistant", "tool_calls": [{**CALL, "id": None}]}]}, "$.messages[0].tool_calls[0].id"),
    ],
    ids=str,
)
def test_a_null_in_the_place_of_something_is_an_error(change: dict[str, Any], path: str) -> None:
    assert str(refusal(change).path).startswith(path)


@pytest.mark.parametrize("change", [{"functions": None}, {"response_format": None}, {"tools": None}], ids=str)
def test_the_schema_of_2023_has_no_open_places_and_no_nulls(change: dict[str, Any]) -> None:
    error = refusal(change, None, "2023-12")
    assert error.message.startswith("Correct the request: ")
    assert "request_schema" not in error.message


@pytest.mark.parametrize(
    "change", [{"tool_choice": "any"}, {"tools": [{"type": "web_search"}]}, said({"type": "video_url"})], ids=str
)
def test_what_the_schema_of_2023_does_not_know_is_an_error_of_it(change: dict[str, Any]) -> None:
    assert refusal(change, "http://localhost:8000/v1", "2023-12").message.endswith("; nothing was sent")


def test_before_a_task_runs_its_server_may_be_any_and_a_warning_says_what_openai_refuses() -> None:
    schema = load_schema("2026-11")
    assert check_known({**MINIMAL, "temperature": UNKNOWN}, schema) == []
    (warning,) = check_known({**MINIMAL, "service_tier": "on_demand", "user": UNKNOWN}, schema)
    assert warning.startswith("$.service_tier is 'on_demand'")
    assert check_known({**MINIMAL, "service_tier": "on_demand"}, None) == []


def test_the_public_check_takes_the_server_that_decides_of_open_places() -> None:
    request = {**MINIMAL, "service_tier": "on_demand", "stop": list("abcd")}
    validate_request(request)
    validate_request(request, base_url="https://api.groq.com/openai/v1")
    with pytest.raises(InvalidRequest):
        validate_request(request, base_url=OPENAI)
    with pytest.raises(InvalidRequest):
        validate_request({**request, "stop": list("abcde")})
    validate_request({**request, "stop": list("abcde")}, "open", base_url=OPENAI)
