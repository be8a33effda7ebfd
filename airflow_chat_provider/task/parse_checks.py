"""Mistakes in an operator's arguments that are known before a run: each breaks the import of the DAG."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.airflow_api.compat import current_context
from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest
from airflow_chat_provider.core.request.json_values import plain
from airflow_chat_provider.core.request.prepare import check_known
from airflow_chat_provider.core.request.schema import DEFAULT_SCHEMA
from airflow_chat_provider.core.request.validator import UNKNOWN
from airflow_chat_provider.schema import load_schema
from airflow_chat_provider.task.argument_kinds import Kind
from airflow_chat_provider.task.arguments import ARGUMENT_OF, REQUEST_FIELDS, XCOMS, check_values
from airflow_chat_provider.task.attachments import check_user_message
from airflow_chat_provider.templates.dag_templates import opened, output_schema, templates_of
from airflow_chat_provider.templates.request_template import RequestTemplate

if TYPE_CHECKING:
    from airflow.sdk import DAG

_TOLD: set[str] = set()
_MOST_TOLD = 100
_TEXT_FILE = r"[\w./\\~-]+\.(?:md|markdown|txt|text|rst|jinja2?|j2|prompt|prompty|tmpl|html?|json|ya?ml|sql)"
_LONGEST_PATH = 200

log = logging.getLogger(__name__)


@contextmanager
def naming(task_id: str) -> Iterator[None]:
    """Let an error that breaks the import of a DAG begin with its task: a DAG file has many."""
    try:
        yield
    except ChatCompletionError as error:
        error.reword(f"Task {task_id!r}: {error.message}")
        raise
    except RecursionError:
        why = f"Task {task_id!r}: Correct the arguments: one is nested too deep, or contains itself"
        raise InvalidRequest(why, path="$", keyword="json") from None


def check_each(arguments: Mapping[str, Any], kinds: Mapping[str, Kind], fields: Iterable[str], dag: DAG | None) -> None:
    """Check each argument by itself, and the Jinja of the template fields. Raises InvalidRequest."""
    templates = templates_of(dag)
    check_values(arguments, kinds, templates.options)
    _warn(arguments.get("task_id"), _paths_as_texts(arguments))
    if dag is not None or current_context() is None:  # nothing renders an operator that a running task makes
        for field in fields:
            name = ARGUMENT_OF.get(field, field)
            value = arguments.get(name)
            if name == "request":
                templates.check(_template(arguments, dag).source[0], "$")
            elif name != "input" or isinstance(value, str):  # a list of rows is data
                templates.check(value, name)
    if not templates.is_template(source := arguments.get("request_schema")):
        load_schema(opened(source, dag, "request_schema"))
    output_schema(arguments.get("response_schema"), dag)


def _paths_as_texts(arguments: Mapping[str, Any]) -> Iterator[str]:
    """A warning for each prompt that is nothing but the path of a file: other operators would read it."""
    for name in ("prompt", "system_prompt"):
        value = arguments.get(name)
        text = os.fspath(value) if isinstance(value, os.PathLike) else value
        if isinstance(text, str) and len(text) <= _LONGEST_PATH and re.fullmatch(_TEXT_FILE, text.strip()):
            include = f"{{% include {text.strip()!r} %}}"
            yield f"Write {name}={json.dumps(include)} to send what is in the file: now its path is sent as the prompt"


def check_request(arguments: Mapping[str, Any], dag: DAG | None, *, mapped: bool, may_grow: bool = False) -> Any:
    """Check the request, as far as it is known, against its schema and the rules, and return it.

    ``mapped``: these are the arguments of ``partial()``, so messages may come with ``expand()``. ``may_grow``: a
    function adds to the request when the task runs. Raises InvalidRequest.
    """
    may_grow = may_grow or (mapped and "request" not in arguments)
    request = _template(arguments, dag).known()
    if isinstance(request, dict):
        if request.get("model") is None:
            request = {**request, "model": UNKNOWN}  # the configuration or the connection may have one
        if mapped:
            request = {"messages": UNKNOWN, **request}
    source = arguments.get("request_schema", DEFAULT_SCHEMA)
    if not templates_of(dag).is_template(source):
        schema = load_schema(opened(source, dag, "request_schema"))
        _warn(arguments.get("task_id"), check_known(request, schema, may_grow=may_grow))
    if not mapped and not may_grow:
        check_user_message(arguments, request)
    if arguments.get("result_format") == "tool_calls" and isinstance(request, dict):
        from airflow_chat_provider.core.answer.output_schema import Tools

        Tools(plain(request))  # raises for a tool by whose schema no arguments can be checked
    return request


def _template(arguments: Mapping[str, Any], dag: DAG | None) -> RequestTemplate:
    templates = templates_of(dag)
    given = {name: arguments.get(name) for name in REQUEST_FIELDS}
    return RequestTemplate(given, templates.is_template, (lambda: templates.environment) if dag is not None else None)


def _warn(task_id: str | None, doubts: Iterable[str]) -> None:
    """Log each doubt once in a process: a worker parses the DAG's file, too, and its tasks may share doubts."""
    for doubt in doubts:
        if doubt not in _TOLD and len(_TOLD) < _MOST_TOLD:
            _TOLD.add(doubt)
            log.warning("Task %r: %s", task_id, doubt)


def check_multiple_outputs(arguments: Mapping[str, Any], request: Any, dag: DAG | None) -> None:
    """Check that each key of the answer can be an XCom: a JSON object, without a key that the task itself pushes."""
    if not arguments.get("multiple_outputs"):
        return
    if arguments.get("result_format", "json") != "json":
        why = f"only an answer in JSON has keys of its own, and result_format is {arguments['result_format']!r}"
    else:
        output = output_schema(arguments.get("response_schema"), dag)
        schema = output.schema if output is not None else _response_format(request)
        taken = [name for name in XCOMS if name in _mapping(_mapping(schema).get("properties"))]
        if taken:
            why = f"the answer's key {taken[0]!r} would overwrite the task's own XCom of that name"
        elif _mapping(schema).get("type", "object") not in ("object", ["object"]):
            why = "the answer's schema does not describe an object"
        else:
            return
    raise InvalidRequest(
        f"Leave multiple_outputs out and read the whole answer (return_value): {why}",
        path="multiple_outputs",
        keyword="multiple_outputs",
    )


def _response_format(request: Any) -> Any:
    """The schema of the answer, if the request has one."""
    response_format = _mapping(_mapping(request).get("response_format"))
    return _mapping(response_format.get("json_schema")).get("schema")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
