"""Why a server refuses a request: by the words that servers were seen to use."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_chat_provider.core.answer.refusal import Why, names_field, refuses_unknown_field, why_refused
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.errors import ProtocolError, StatusError
from airflow_chat_provider.core.server.error_body import read_error

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0.5}
WITH_TOOLS = {**REQUEST, "tools": [{"type": "function", "function": {"name": "f", "strict": True}}]}


def error(message: Any, code: Any = None, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code, **more}}


def refused(body: Any, status: int = 400, request: dict[str, Any] = REQUEST) -> Why:
    code = read_error(body).code
    kind = ProtocolError if status < 300 else StatusError
    return why_refused(Reply(status, body, error=kind("no", status=status, code=code, body=body)), request)


FORM = {
    "OpenAI": error("Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."),
    "OpenAI, with its guide": error(
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model. Learn more about "
        "supported models at the Structured Outputs guide: https://platform.openai.com/docs/guides/structured-outputs"
    ),
    "OpenAI, an old model": error("Invalid value: 'json_schema'. Supported values are: 'json_object' and 'text'."),
    "Azure": error(
        "response_format value as json_schema is enabled only for api versions 2024-08-01-preview and later"
    ),
    "DeepSeek": error("This response_format type is unavailable now", "invalid_request_error"),
    "DeepSeek, earlier": (
        "Failed to deserialize the JSON body into the target type: response_format: unknown variant `json_schema`, "
        "expected `text` or `json_object` at line 1 column 88"
    ),
    "Groq": error("This model does not support response format `json_schema`. See supported models at https://x"),
    "Groq, earlier": error(
        "'response_format' : one of the following must be satisfied[('response_format.type' : value is not one of the "
        "allowed values ['text']) OR ('response_format.name' : property 'name' is missing)]"
    ),
    "LM Studio": {"error": "'response_format.type' must be 'json_schema' or 'text'"},
    "FastAPI": {
        "detail": [
            {
                "type": "literal_error",
                "loc": ["body", "response_format", "type"],
                "msg": "Input should be 'text' or 'json_object'",
                "input": "json_schema",
            }
        ]
    },
    "vLLM, earlier": {
        "object": "error",
        "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'response_format'), 'msg': 'Extra inputs are not "
        "permitted', 'input': {'type': 'json_object'}}]",
        "type": "BadRequestError",
        "param": None,
        "code": 400,
    },
    "an old Azure": error("Unrecognized request argument supplied: response_format"),
    "only the parameter is named": error("Unsupported parameter", "unsupported_parameter", param="response_format"),
    "Gemini": [{"error": {"code": 400, "message": "Json mode is not enabled for models/gemini-pro", "status": "X"}}],
    "LiteLLM": error("litellm.UnsupportedParamsError: x does not support parameters: ['response_format'], for model=m"),
    "OpenRouter": error("Provider returned error", 400, metadata={"raw": "json_schema is not supported by this model"}),
    "json_object too": error("json_object is not supported"),
}

SCHEMA = {
    "OpenAI": error(
        "Invalid schema for response_format 'verdict': In context=('properties', 'a'), 'minLength' is not permitted.",
        param="response_format",
    ),
    "OpenAI, required": error(
        "Invalid schema for response_format 'verdict': In context=(), 'additionalProperties' is required to be "
        "supplied and to be false."
    ),
    "Groq": error(
        "invalid schema for response format: response_format/json_schema/next_step: minItems is not supported"
    ),
    "Anthropic": error("output_config.format.schema: For 'array' type, 'minItems' values other than 0 or 1 are not"),
    "vLLM": error("The provided JSON schema contains features not supported by xgrammar."),
    "a property that is called like another reason": error(
        "Invalid schema for response_format: ('properties', 'safety')"
    ),
    "Fireworks": error("JSON Schema not supported: could not understand the instance `{'required': ['criteria']}`."),
    "llama.cpp": error('JSON schema conversion failed:\nUnrecognized schema: {"type":"strin"}', 400),
    "llama.cpp, a grammar": error("Failed to initialize samplers: failed to parse grammar", 400),
    "Gemini": [{"error": {"code": 400, "message": "The specified schema produces too many states for serving."}}],
    "Gemini, a field": [
        {
            "error": {
                "code": 400,
                "message": "Unknown name \"additional_properties\" at 'generation_config.response_schema'",
            }
        }
    ],
    "LM Studio": {"error": "'response_format.json_schema.schema' must be an object"},
    "Gemini, beside tools": [
        {"error": {"message": "Function calling with a response mime type: 'application/json' is unsupported"}}
    ],
    "llama.cpp, with a property that is called like a field": error(
        'JSON schema conversion failed:\nUnrecognized schema: {"content":{"type":"strin"},"model":{}}'
    ),
    "beside tools": error("response_format json_schema is not supported together with tools"),
}

OTHER = {
    "vLLM, context": {
        "error": {
            "message": "This model's maximum context length is 16384 tokens. However, you requested 19591 tokens.",
            "type": "BadRequestError",
            "param": "input_tokens",
            "code": 400,
        }
    },
    "llama.cpp, context": error(
        "the request exceeds the available context size", 400, type="exceed_context_size_error"
    ),
    "context, by its code": error("Too long", "context_length_exceeded"),
    "Anthropic, context": error("prompt is too long: 210000 tokens > 200000 maximum"),
    "Gemini, context": [
        {
            "error": {
                "message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
            }
        }
    ],
    "TGI, context": {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"},
    "vLLM, context, newer": error("The decoder prompt (length 9000) is longer than the maximum model length of 8192"),
    "LM Studio, context": {"error": "Cannot truncate prompt with n_keep (4706) >= n_ctx (4096)"},
    "Alibaba, context": error("Range of input length should be [1, 30720]"),
    "LiteLLM, context": error("litellm.ContextWindowExceededError: it is too much", "400"),
    "Kimi, filter": {
        "error": {"message": "The request was rejected, it was considered high risk", "type": "content_filter"}
    },
    "DeepSeek, filter": error("Content Exists Risk"),
    "Anthropic, filter": error("Output blocked by content filtering policy"),
    "Zhipu, filter": error("\u7cfb\u7edf\u68c0\u6d4b", "1301"),
    "Azure, filter": error(
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "content_filter",
    ),
    "a filter by words": error("Your request was flagged by our moderation system"),
    "Alibaba, filter": error("Input data may contain inappropriate content.", "data_inspection_failed"),
    "Alibaba, account": error("Access denied, please make sure your account is in good standing.", "Arrearage"),
    "DeepSeek, model": error("Model Not Exist"),
    "model": error("The model `x` does not exist", "model_not_found"),
    "key": error("API key not valid. Please pass a valid API key."),
    "another parameter": error("Unsupported value: 'temperature' does not support 0.5", "unsupported_value"),
    "a parameter by name alone": error("Invalid value", "invalid_value", param="temperature"),
    "a message": error("messages.0.content: Input should be a valid string"),
    "a message, FastAPI": {"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "Field required"}]},
    "an image": error("Invalid image data", "invalid_image"),
}

SPOILT = {
    "Groq, JSON": error("Failed to generate JSON. Please adjust your prompt.", "json_validate_failed"),
    "Groq, a call": error(
        "Failed to call a function. Please adjust your prompt. See 'failed_generation' for more details.",
        "tool_use_failed",
        failed_generation="<function=get_weather>",
    ),
    "Groq, by words": error("tool call validation failed: parameters for tool f did not match schema: errors: [...]"),
    "Groq, a schema": error("Generated JSON does not match the expected schema. Please adjust your prompt. Error: x"),
    "Groq, no call": error("Tool choice is required, but model did not call a tool"),
    "Groq, gpt-oss": error(
        "Parsing failed. The model generated output that could not be parsed.", "output_parse_failed"
    ),
    "llama.cpp, behind a gateway": error(
        "Failed to parse tool call arguments as JSON: parse error at line 1, column 27"
    ),
    "Cohere": {"message": "No valid tool call or response generated"},
    "LiteLLM": error('GroqException - {"error":{"message":"x","code":"tool_use_failed"}}'),
}


@pytest.mark.parametrize("body", FORM.values(), ids=FORM)
def test_an_error_about_the_form_is_form(body: Any) -> None:
    assert refused(body) is Why.FORM
    assert refused(body, 422) is Why.FORM


@pytest.mark.parametrize("body", SCHEMA.values(), ids=SCHEMA)
def test_an_error_about_this_schema_is_schema(body: Any) -> None:
    assert refused(body) is Why.SCHEMA


@pytest.mark.parametrize("body", OTHER.values(), ids=OTHER)
def test_an_error_about_anything_else_is_other(body: Any) -> None:
    assert refused(body) is Why.OTHER


@pytest.mark.parametrize("body", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("status", [400, 422, 200])
def test_an_error_about_one_answer_is_spoilt(body: Any, status: int) -> None:
    assert refused(body, status) is Why.SPOILT


@pytest.mark.parametrize("body", [error("Request contains an invalid argument."), error("Bad Request"), {}, "", "no"])
@pytest.mark.parametrize(("status", "why"), [(400, Why.UNNAMED), (422, Why.UNNAMED), (501, Why.UNNAMED)])
def test_an_error_without_a_reason_is_unnamed(body: Any, status: int, why: Why) -> None:
    assert refused(body, status) is why


@pytest.mark.parametrize("status", [401, 402, 403, 408, 413, 429, 503])
def test_other_statuses_are_other_whatever_the_message(status: int) -> None:
    assert refused(FORM["OpenAI"], status) is Why.OTHER


@pytest.mark.parametrize("status", [200, 404, 500])
def test_404_and_500_count_if_they_name_the_form(status: int) -> None:
    assert refused(FORM["OpenAI"], status) is Why.FORM
    assert refused({"error": {"message": "oops"}}, status) is Why.OTHER


def test_the_code_in_a_200_is_its_status() -> None:
    assert refused({"error": {"message": "Bad request", "code": 400}}, 200) is Why.UNNAMED
    assert refused({"error": {"message": "Bad request", "type": "invalid_request_error"}}, 200) is Why.UNNAMED
    assert refused({"error": {"message": "busy", "code": 429}}, 200) is Why.OTHER


def test_openrouter_finds_no_server_that_takes_the_form() -> None:
    assert refused(error("No endpoints found that can handle the requested parameters.", 404), 404) is Why.SCHEMA


def test_an_engine_that_fails_at_a_grammar_refuses_the_schema() -> None:
    assert refused(error('Grammar error: Unimplemented keys: ["propertyNames"]'), 500) is Why.SCHEMA


@pytest.mark.parametrize(
    "message",
    [
        "Invalid schema for function 'f': In context=(), 'x' is not permitted, tools[0].function.parameters",
        "unknown field: parameter 'strict' is not a valid field.",
    ],
)
def test_an_error_about_the_schema_of_a_tool_is_other(message: str) -> None:
    assert refused(error(message), request=WITH_TOOLS) is Why.OTHER


@pytest.mark.parametrize("where", ["message", "failed_generation"])
def test_an_error_about_an_answer_that_the_token_limit_cut_off_is_cut(where: str) -> None:
    said = {
        "message": "Failed to generate JSON.",
        where: "max completion tokens reached before generating a valid document",
    }
    assert refused({"error": {"code": "json_validate_failed", **said}}) is Why.CUT


UNKNOWN = {
    "Azure": error("Additional properties are not allowed"),
    "FastAPI": {"detail": [{"type": "extra_forbidden", "loc": ["body"], "msg": "Extra inputs are not permitted"}]},
    "Pydantic 1": error("extra fields not permitted"),
    "OpenAI": error("Unrecognized request argument supplied: stream_options"),
    "xAI": error("Argument not supported: stream_options"),
    "Gemini": [
        {"error": {"message": 'Invalid JSON payload received. Unknown name "stream_options": Cannot find field.'}}
    ],
    "Fireworks": error("Extra inputs are not permitted, field: 'stream_options'"),
    "Azure, on its data": error("Validation error at #/stream_options: Extra inputs are not permitted"),
    "by the parameter": error("Unknown parameter.", "unknown_parameter", param="stream_options"),
    "unknown field": {"error": "json: unknown field"},
    "zod": error("Unrecognized key(s) in object"),
    "ajv": error("must NOT have additional properties"),
    "LiteLLM": error("m does not support parameters: {'stream_options': {'include_usage': True}}"),
    "no field is named": error("This model does not support some parameters"),
}

OURS_NOT = {
    "Azure": error("Additional properties are not allowed ('is_example' was unexpected) - 'messages.0'"),
    "FastAPI": {"detail": [{"loc": ["body", "top_k"], "msg": "Extra inputs are not permitted"}]},
    "OpenAI": error("Unrecognized request argument supplied: top_k"),
    "Gemini": [{"error": {"message": 'Invalid JSON payload received. Unknown name "top_k": Cannot find field.'}}],
    "by the parameter": error("Unknown parameter.", "unknown_parameter", param="top_k"),
    "Azure, on its data": error("Validation error at #/messages/0/x: Extra inputs are not permitted"),
    "nested": error("messages.1.assistant.reasoning_content: property is unsupported"),
    "Go": error('json: unknown field "top_k"'),
    "plain": error("stream is not supported for this model"),
    "context": error("This model's maximum context length is 16384 tokens."),
    "empty": {},
}

STREAM = {**REQUEST, "stream": True, "top_k": 5}


@pytest.mark.parametrize("body", UNKNOWN.values(), ids=UNKNOWN)
def test_refuses_unknown_field_if_no_field_of_the_user_is_named(body: Any) -> None:
    assert refuses_unknown_field(body, STREAM)


@pytest.mark.parametrize("body", OURS_NOT.values(), ids=OURS_NOT)
def test_refuses_unknown_field_is_false_if_a_field_of_the_user_is_named(body: Any) -> None:
    assert not refuses_unknown_field(body, STREAM)


def test_a_word_of_a_message_is_not_the_name_of_a_field() -> None:
    assert not names_field("Additional properties are not allowed by this model in a stream", STREAM)


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_body_can_be_judged(body: Any) -> None:
    reply = Reply(400, body, error=StatusError("no", status=400))
    assert isinstance(why_refused(reply, REQUEST), Why)
    assert refuses_unknown_field(body, body) in (True, False)
