"""Rules of what is asked for: the response format, audio, and predicted output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_chat_provider.core.request.rules.conversation import may_mention_json
from airflow_chat_provider.core.request.rules.function_schema import check_schema
from airflow_chat_provider.core.request.rules.report import Report, as_dict, as_list, more_than, unsure
from airflow_chat_provider.core.request.rules.tools import check_name


def check(request: Mapping[str, Any], report: Report) -> None:
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
            report.warn("prediction", "$.prediction", f"does not go together with {problem}", remedy)


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
