"""Rules of the plain parameters: their limits, which of them need or exclude each other, and the form of the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_chat_provider.core.request.rules.conversation import may_mention_json
from airflow_chat_provider.core.request.rules.report import (
    Report,
    as_dict,
    as_list,
    as_number,
    child,
    more_than,
    shown,
    unsure,
)
from airflow_chat_provider.core.request.rules.tools import check_name, check_schema

_METADATA_PAIRS, _METADATA_KEY, _METADATA_VALUE = 16, 64, 512
_LARGEST_BIAS = 100


def check(request: Mapping[str, Any], report: Report) -> None:
    _check_needs(request, report)
    _check_token_limits(request, report)
    _check_logit_bias(as_dict(request.get("logit_bias")), report)
    _check_choices(request.get("n"), report)
    _check_stop(request.get("stop"), report)
    _check_metadata(request, report)
    _check_answer_form(request, report)
    if request.get("temperature") is not None and request.get("top_p") is not None:
        problem = "is set together with top_p, and some models refuse the two together"
        report.warn("temperature_and_top_p", "$.temperature", problem, "set one of the two")


def _check_needs(request: Mapping[str, Any], report: Report) -> None:
    if _lacks(request, "top_logprobs", "logprobs"):
        problem, remedy = ("is set, but logprobs is not true", "set logprobs to true, or leave top_logprobs out")
        here = report.server.needs_switches  # vLLM and llama.cpp refuse it, too; Ollama and SGLang pass over it
        report.refused_by_openai("top_logprobs_without_logprobs", "$.top_logprobs", problem, remedy, here=here)
    if _lacks(request, "stream_options", "stream"):
        problem, remedy = "is set, but stream is not true", "set stream to true, or leave stream_options out"
        here = report.server.needs_switches  # and at vLLM; llama.cpp and Ollama pass over it
        report.refused_by_openai("stream_options_without_stream", "$.stream_options", problem, remedy, here=here)


def _lacks(request: Mapping[str, Any], name: str, needed: str) -> bool:
    """Is ``name`` set, while the parameter that it needs is not true?"""
    value, switch = request.get(name), request.get(needed)
    return value is not None and switch is not True and not unsure(value, switch)


def _check_token_limits(request: Mapping[str, Any], report: Report) -> None:
    limits = {key: request.get(key) for key in ("max_tokens", "max_completion_tokens")}
    if all(value is not None for value in limits.values()) and not unsure(*limits.values()):
        problem = "is set together with max_completion_tokens, and the server decides which of them counts"
        report.refused_by_openai("two_token_limits", "$.max_tokens", problem, "leave the deprecated max_tokens out")
    for key, value in limits.items():
        limit = as_number(value)
        if limit is not None and limit < 1:
            _too_few(key, limit, report)


def _too_few(key: str, limit: float, report: Report) -> None:
    path, remedy = f"$.{key}", "set it to 1 or more, or leave it out for no limit"
    if limit in (-1, -2):
        problem = f"is {limit}, which means no limit to llama.cpp and Ollama, and is an error elsewhere"
        report.refused_by_openai("token_limit", path, problem, remedy)
    else:
        report.refuse("token_limit", path, f"is {shown(limit)}, and leaves no token for an answer", remedy)


def _check_logit_bias(biases: dict[str, Any], report: Report) -> None:
    for key, value in biases.items():
        token = str(key)
        if not (token.isascii() and token.isdecimal()):
            # llama.cpp takes the text of tokens, too.
            problem = "is not a token id, which is a whole number written in digits"
            remedy = "use the model's token ids as keys"
            report.refused_by_openai("logit_bias", child("$.logit_bias", key), problem, remedy)
        bias = as_number(value)
        if bias is not None and not -_LARGEST_BIAS <= bias <= _LARGEST_BIAS:
            # vLLM brings it within these bounds itself.
            problem = f"is {shown(bias)}, and a bias is -{_LARGEST_BIAS} to {_LARGEST_BIAS}"
            remedy = "bring it within these bounds"
            report.refused_by_openai("logit_bias_range", child("$.logit_bias", key), problem, remedy)


def _check_choices(n: Any, report: Report) -> None:
    if not more_than(n, 1) or report.server.openai:
        return
    problem, remedy = f"is {shown(n)}", "set n to 1, and map the task for more than one answer"
    if report.server.one_choice:
        report.refuse("several_choices", "$.n", f"{problem}, and this server takes only 1", remedy)
    else:
        report.warn("several_choices", "$.n", f"{problem}, which many servers refuse or ignore", remedy)


def _check_stop(stop: object, report: Report) -> None:
    sequences = enumerate(as_list(stop)) if not isinstance(stop, str) else [(None, stop)]
    for index, sequence in sequences:
        if not isinstance(sequence, str) or sequence.strip():
            continue
        path = "$.stop" if index is None else f"$.stop[{index}]"
        if report.server.no_blank_stop:
            report.refuse("blank_stop", path, "is blank, and this server takes no blank stop sequence", "leave it out")
        elif not sequence:
            report.warn("blank_stop", path, "is an empty text, which stops nothing or everything", "leave it out")
        elif not report.server.openai:  # OpenAI's own example of a stop sequence is a line break.
            report.warn("blank_stop", path, "is only white space, which some servers refuse", "use a visible text")


def _check_metadata(request: Mapping[str, Any], report: Report) -> None:
    metadata = as_dict(request.get("metadata"))
    if metadata and request.get("store") is not True and not unsure(request.get("store")):
        problem, remedy = "is set, but store is not true", "set store to true, or leave metadata out"
        report.refused_by_openai_alone("metadata_without_store", "$.metadata", problem, remedy)
    for path, problem in _oversized(metadata):
        remedy = f"keep to {_METADATA_PAIRS} pairs of {_METADATA_KEY} and {_METADATA_VALUE} characters"
        report.refused_by_openai_alone("metadata_limits", path, problem, remedy)


def _oversized(metadata: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if len(metadata) > _METADATA_PAIRS:
        yield "$.metadata", f"has {len(metadata)} pairs"
    for key, value in metadata.items():
        if len(str(key)) > _METADATA_KEY:
            yield child("$.metadata", key), f"has a key of {len(str(key))} characters"
        if isinstance(value, str) and len(value) > _METADATA_VALUE:
            yield child("$.metadata", key), f"has {len(value)} characters"


def _check_answer_form(request: Mapping[str, Any], report: Report) -> None:
    response_format = as_dict(request.get("response_format"))
    kind = response_format.get("type")
    if kind == "json_object":
        _check_json_object(request, response_format, report)
    elif kind == "json_schema":
        _check_json_schema(as_dict(response_format.get("json_schema")), report)
    _check_audio(request, report)
    if request.get("prediction") is not None:
        for problem in _unpredictable(request):
            remedy = "leave one of the two out"
            report.warn("prediction", "$.prediction", f"cannot be combined with {problem}", remedy)


def _check_json_object(request: Mapping[str, Any], response_format: dict[str, Any], report: Report) -> None:
    # llama.cpp enforces a schema beside json_object, and needs no word about JSON.
    if "schema" in response_format and not report.server.openai:
        return
    if may_mention_json(request.get("messages")):
        return
    path, problem = "$.response_format", "is json_object, but no message has the word JSON in its text"
    remedy = "ask for JSON in a message; a model that is not told may write white space until the token limit"
    here = report.server.needs_json_word
    report.refused_by_openai("json_object_without_json", path, problem, remedy, here=here)


def _check_json_schema(json_schema: dict[str, Any], report: Report) -> None:
    path = "$.response_format.json_schema"
    check_name(json_schema.get("name"), f"{path}.name", report, rule="json_schema_name")
    schema = json_schema.get("schema")
    if schema is None:
        problem = "has no schema, which leaves the server nothing to enforce"
        report.warn("json_schema_without_schema", path, problem, "add the schema, or use json_object")
    elif isinstance(schema, dict) and json_schema.get("strict") is True:
        check_schema(schema, f"{path}.schema", report, strict=True)


def _check_audio(request: Mapping[str, Any], report: Report) -> None:
    modalities, audio = request.get("modalities"), request.get("audio")
    wanted, described = "audio" in as_list(modalities), audio is not None
    if unsure(modalities, audio, *as_list(modalities)):
        return
    if wanted and not described:
        problem = "asks for audio, but the request has no audio parameter"
        report.refused_by_openai("audio_parameter", "$.modalities", problem, "add audio with voice and format")
    if described and not wanted:
        problem = "is set, but modalities does not ask for audio"
        remedy = 'add "audio" to modalities, or leave audio out'
        report.refused_by_openai("audio_parameter", "$.audio", problem, remedy)


def _unpredictable(request: Mapping[str, Any]) -> Iterator[str]:
    if more_than(request.get("n"), 1):
        yield "n above 1"
    if request.get("tools"):
        yield "tools"
    if request.get("logprobs") is True:
        yield "logprobs"
    if request.get("audio") is not None:
        yield "audio"
    if request.get("max_completion_tokens") is not None:
        yield "max_completion_tokens"
