"""The rules of everything that is neither a message nor a tool."""

from __future__ import annotations

from typing import Any

from tests.support.rule_requests import (
    ANTHROPIC,
    AZURE,
    DASHSCOPE,
    DEEPSEEK,
    GROQ,
    OPENAI,
    VLLM,
    A,
    C,
    Case,
    O,
    W,
    json_schema,
    request,
    tool,
    tools,
)

CLOSED = {"additionalProperties": False}
AUDIO = {"voice": "ash", "format": "wav"}
PREDICTED: dict[str, Any] = {"prediction": {"type": "content", "content": "x"}}
TWO = request(n=2)
NOT_JSON, IS_JSON = request(response_format={"type": "json_object"}), {"role": "user", "content": "As Json."}
JSON_PART = {"role": "user", "content": [{"type": "text", "text": "x" * 65_534 + "JSON"}]}
JSON_FORMAT: dict[str, Any] = {"response_format": {"type": "json_object"}}
LLAMA_FORMAT: dict[str, Any] = {"response_format": {"type": "json_object", "schema": {}}}
CASES = [
    # Rows 18 and 19: the format of the answer
    Case(O, "json_object_without_json", "$.response_format", NOT_JSON, request(IS_JSON, **JSON_FORMAT)),
    Case(
        C,
        "json_object_without_json",
        "$.response_format",
        NOT_JSON,
        request(JSON_PART, **JSON_FORMAT),
        DASHSCOPE,
    ),
    Case(W, "json_object_without_json", "$.response_format", NOT_JSON, request(**LLAMA_FORMAT), VLLM),
    Case(
        W,
        "json_schema_without_schema",
        "$.response_format.json_schema",
        json_schema(name="a"),
        json_schema(name="a", schema={}),
    ),
    # Rows 20 to 25: parameters
    Case(
        O,
        "top_logprobs_without_logprobs",
        "$.top_logprobs",
        request(top_logprobs=0, logprobs=None),
        request(top_logprobs=0, logprobs=True),
    ),
    Case(
        O,
        "stream_options_without_stream",
        "$.stream_options",
        request(stream_options={}, stream=False),
        request(stream_options={}, stream=True),
    ),
    Case(C, "json_object_without_json", "$.response_format", NOT_JSON, request(IS_JSON, **JSON_FORMAT), GROQ),
    Case(
        C,
        "top_logprobs_without_logprobs",
        "$.top_logprobs",
        request(top_logprobs=1),
        request(top_logprobs=1, logprobs=True),
        DEEPSEEK,
    ),
    Case(
        C,
        "stream_options_without_stream",
        "$.stream_options",
        request(stream_options={}),
        request(stream_options={}, stream=True),
        DEEPSEEK,
    ),
    Case(
        O,
        "two_token_limits",
        "$.max_tokens",
        request(max_tokens=9, max_completion_tokens=9),
        request(max_tokens=9, max_completion_tokens=None),
    ),
    Case(C, "token_limit", "$.max_tokens", request(max_tokens=0), request(max_tokens=1)),
    Case(
        C,
        "token_limit",
        "$.max_completion_tokens",
        request(max_completion_tokens=-3),
        request(max_tokens=None),
    ),
    Case(O, "token_limit", "$.max_tokens", request(max_tokens=-1), request(max_tokens=1)),
    Case(O, "token_limit", "$.max_tokens", request(max_tokens=-2), request(max_tokens=1)),
    Case(O, "logit_bias", "$.logit_bias.Hello", request(logit_bias={"Hello": 1}), request(logit_bias={"1": 1})),
    Case(O, "logit_bias", "$.logit_bias['-1']", request(logit_bias={"-1": 1}), request(logit_bias={"1": 100})),
    Case(O, "logit_bias_range", "$.logit_bias['1']", request(logit_bias={"1": -101}), request(logit_bias={"1": -100})),
    Case(
        W,
        "reasoning_max_tokens",
        "$.max_tokens",
        request(model="gpt-5.4-mini", max_tokens=9),
        request(model="gpt-5.4-mini", max_completion_tokens=9),
    ),
    Case(
        W,
        "reasoning_sampling",
        "$.temperature",
        request(model="ft:o4-mini:us::x", temperature=0.2),
        request(model="ft:o4-mini:us::x", temperature=1),
        OPENAI,
    ),
    Case(
        W,
        "reasoning_sampling",
        "$.logit_bias",
        request(model="o3", logit_bias={"1": 1}),
        request(model="o3", logit_bias={}),
    ),
    Case(
        W,
        "reasoning_effort_with_tools",
        "$.reasoning_effort",
        tools(tool(), model="gpt-5.2", reasoning_effort="low"),
        tools(tool(), model="gpt-5.1", reasoning_effort="low"),
        AZURE,
    ),
    Case(
        W,
        "reasoning_effort_with_tools",
        "$.reasoning_effort",
        tools(tool(), model="gpt-5.6-luna"),
        tools(tool(), model="gpt-5.6-luna", reasoning_effort="none"),
        OPENAI,
    ),
    Case(
        W,
        "reasoning_effort_with_tools",
        "$.reasoning_effort",
        tools(tool(), model="gpt-6-astra", reasoning_effort=None),
        tools(tool(), model="gpt-5.5", reasoning_effort=None),
        AZURE,
    ),
    # Rows 26 to 32
    Case(
        W,
        "temperature_and_top_p",
        "$.temperature",
        request(temperature=0.2, top_p=0.9),
        request(temperature=0.2, top_p=None),
    ),
    Case(W, "several_choices", "$.n", TWO, request(n=1)),
    Case(C, "several_choices", "$.n", TWO, request(n=1), GROQ),
    Case(C, "several_choices", "$.n", TWO, request(n=None), ANTHROPIC),
    Case(W, "blank_stop", "$.stop[1]", request(stop=["a", ""]), request(stop=["a", "\n"]), OPENAI),
    Case(W, "blank_stop", "$.stop", request(stop="\n"), request(stop="END"), VLLM),
    Case(C, "blank_stop", "$.stop", request(stop=" "), request(stop="END"), ANTHROPIC),
    Case(
        A,
        "metadata_without_store",
        "$.metadata",
        request(metadata={"a": "b"}),
        request(metadata={"a": "b"}, store=True),
    ),
    Case(
        A,
        "metadata_limits",
        "$.metadata",
        request(store=True, metadata={str(i): "" for i in range(17)}),
        request(store=True, metadata={str(i): "" for i in range(16)}),
    ),
    Case(
        A,
        "metadata_limits",
        f"$.metadata['{'k' * 63}…']",
        request(store=True, metadata={"k" * 65: ""}),
        request(store=True, metadata={"k" * 64: ""}),
    ),
    Case(
        A,
        "metadata_limits",
        "$.metadata.k",
        request(store=True, metadata={"k": "v" * 513}),
        request(store=True, metadata={"k": "v" * 512}),
    ),
    Case(
        O,
        "audio_parameter",
        "$.modalities",
        request(modalities=["text", "audio"]),
        request(modalities=["audio"], audio=AUDIO),
    ),
    Case(
        O,
        "audio_parameter",
        "$.audio",
        request(modalities=["text"], audio=AUDIO),
        request(modalities=["text"]),
    ),
    Case(W, "prediction", "$.prediction", request(n=2, **PREDICTED), request(n=1, **PREDICTED), OPENAI),
    Case(W, "prediction", "$.prediction", tools(tool(), **PREDICTED), request(**PREDICTED)),
    Case(
        W,
        "prediction",
        "$.prediction",
        request(logprobs=True, **PREDICTED),
        request(logprobs=False, **PREDICTED),
    ),
    Case(W, "prediction", "$.prediction", request(max_completion_tokens=9, **PREDICTED), request(**PREDICTED)),
    Case(
        W,
        "prediction",
        "$.prediction",
        request(modalities=["audio"], audio=AUDIO, **PREDICTED),
        request(modalities=["audio"], audio=AUDIO, prediction=None),
    ),
    # Row 37: names that only other servers know; elsewhere they pass (test_rules_names.py)
    Case(C, "unknown_key", "$.top_k", request(top_k=1), request(), OPENAI),
    Case(C, "unknown_key", "$.top_k", request(top_k=1), request(data_sources=[]), AZURE),
]
