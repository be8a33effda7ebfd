"""What can be known of an operator's mistakes before a run: it breaks the import of the DAG."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from airflow_chat_provider.arguments import REQUEST_FIELDS
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.keywords import UNKNOWN
from airflow_chat_provider.core.plain import plain
from airflow_chat_provider.core.request import check_known, fold, mask_templates, parse_text
from airflow_chat_provider.core.schema import DEFAULT_SCHEMA, SHIPPED, load_schema
from airflow_chat_provider.templating import is_path, json_or_none, markers, no_path, read_template

REPLY_CHOICES = {
    "result_format": ("raw", "message", "text", "json", "tool_calls"),
    "on_incomplete": ("warn", "fail", "ignore"),
}
_CHOICES = {**REPLY_CHOICES, "on_uncertain": ("fail", "resend")}


def check_arguments(arguments: Mapping[str, Any], dag: Any, *, mapped: bool = False) -> None:
    """Check every argument, and every leaf that holds no template against the schema; raises InvalidRequest.

    ``mapped``: ``partial()`` has only some of them; the messages may come with ``expand()``.
    """
    check_choices(arguments, _CHOICES)
    check_output(arguments)
    check_request(arguments, dag, mapped=mapped)


def without_paths(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with nothing in them that would make the checks read a file."""
    request, schema, answer = (arguments.get(name) for name in ("request", "request_schema", "response_schema"))
    return {
        **arguments,
        "request": UNKNOWN if isinstance(request, str) and is_path(request) else request,
        "request_schema": schema if isinstance(schema, Mapping) or schema in SHIPPED else None,
        "response_schema": None if isinstance(answer, str | os.PathLike) else answer,
    }


def check_output(arguments: Mapping[str, Any]) -> None:
    """Check what says how an answer has to be."""
    retries = arguments.get("output_retries", 1)
    if type(retries) is not int or retries < 0:
        raise InvalidRequest(
            f"output_retries must be a number of 0 or more, not {str(retries)[:64]!r}",
            path="output_retries",
            keyword="minimum",
        )
    if arguments.get("response_schema") is not None:
        from airflow_chat_provider.core.output import load_output

        load_output(arguments["response_schema"])


def check_choices(arguments: Mapping[str, Any], choices: Mapping[str, tuple[str, ...]]) -> None:
    """Check the arguments that have one of few values."""
    for name, allowed in choices.items():
        if (value := arguments.get(name, allowed[0])) not in allowed:
            listed = ", ".join(map(repr, allowed))
            raise InvalidRequest(f"{name} must be one of {listed}, not {value!r}", path=name, keyword="enum")


def check_request(arguments: Mapping[str, Any], dag: Any, *, mapped: bool) -> None:
    """Check what is known of the request."""
    is_template = markers(dag and dag.jinja_environment_kwargs)
    source = arguments.get("request_schema", DEFAULT_SCHEMA)
    request = _known(arguments, dag, is_template, mapped=mapped)
    if not is_template(source):
        check_known(request, load_schema(source))
    if arguments.get("result_format") == "tool_calls" and isinstance(request, dict):
        from airflow_chat_provider.core.output import Tools

        Tools(plain(request))  # whose arguments are checked by the tools' own schemas


def _known(arguments: Mapping[str, Any], dag: Any, is_template: Callable[[Any], bool], *, mapped: bool) -> Any:
    """The request with UNKNOWN for all that is not known yet."""
    known = {name: mask_templates(arguments.get(name), is_template) for name in REQUEST_FIELDS}
    if isinstance(arguments.get("request"), str):
        known["request"] = mask_templates(_known_text(arguments["request"], dag, is_template), is_template)
    request = fold(known.pop("request"), **known)
    if not isinstance(request, dict):
        return request
    if request.get("model") is None:
        request = {**request, "model": UNKNOWN}  # the configuration or the connection may have one
    return {"messages": UNKNOWN, **request} if mapped else request


def _known_text(text: str, dag: Any, is_template: Callable[[Any], bool]) -> Any:
    """A request's text, or its file's, as far as it is JSON before it is rendered."""
    parsed, where = json_or_none(text), "request"
    if parsed is None and is_template(text) and is_path(text):
        raise no_path("request")
    if parsed is None and is_path(text):
        if dag is None:
            return UNKNOWN
        where = text.strip()
        text = read_template(dag.get_template_env(), where)
        parsed = json_or_none(text)
    if parsed is None:
        return UNKNOWN if is_template(text) else parse_text(text, where)
    return parsed
