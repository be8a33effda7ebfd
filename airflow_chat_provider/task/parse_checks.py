"""What can be known of an operator's mistakes before a run: it breaks the import of the DAG."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any
from weakref import ref

from airflow_chat_provider.airflow_api.compat import current_context
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.json_values import plain
from airflow_chat_provider.core.request.prepare import check_known, fold, mask_templates, parse_text
from airflow_chat_provider.core.request.schema import DEFAULT_SCHEMA
from airflow_chat_provider.core.request.validator import UNKNOWN
from airflow_chat_provider.schema import load_schema
from airflow_chat_provider.task.arguments import ATTRIBUTES, REQUEST_FIELDS, XCOMS
from airflow_chat_provider.task.kinds import Kind, check_values
from airflow_chat_provider.templates.renderer import is_path, json_or_none, markers, no_path, read_template
from airflow_chat_provider.templates.schema_files import opened
from airflow_chat_provider.templates.syntax import Syntax

_LAST: dict[str, tuple[Callable[[], Any], Syntax]] = {}  # of the DAG that is being made
_TOLD: set[str] = set()
_MOST_TOLD = 100
_ARGUMENT_OF = {attribute: name for name, attribute in ATTRIBUTES.items()}

log = logging.getLogger(__name__)


def check_each(arguments: Mapping[str, Any], kinds: Mapping[str, Kind], fields: Iterable[str], dag: Any) -> None:
    """Check each argument by itself, and the templates in ``fields``; raises InvalidRequest."""
    options = dag and dag.jinja_environment_kwargs
    check_values(arguments, kinds, options)
    _check_templates(arguments, fields, dag)
    if not markers(options)(source := arguments.get("request_schema")):
        load_schema(opened(source, dag, "request_schema"))
    _answer(arguments, dag)


def _answer(arguments: Mapping[str, Any], dag: Any) -> Any:
    """What an answer has to be; None: anything."""
    if arguments.get("response_schema") is None:
        return None
    from airflow_chat_provider.schema import load_response_schema

    return load_response_schema(opened(arguments["response_schema"], dag, "response_schema"))


def check_multiple_outputs(arguments: Mapping[str, Any], request: Any, dag: Any) -> None:
    """Each key of the answer becomes an XCom: it must be a dict, and none of its keys one of the task's own XComs."""
    if not arguments.get("multiple_outputs"):
        return
    if arguments.get("result_format", "json") != "json":
        why = f"only an answer in JSON has keys of its own, and result_format is {arguments['result_format']!r}"
    else:
        answer = _answer(arguments, dag)
        schema = answer.schema if answer is not None else _response_format(request)
        taken = [name for name in XCOMS if name in _mapping(_mapping(schema).get("properties"))]
        if taken:
            why = f"the answer's key {taken[0]!r} would overwrite the task's own XCom of that name"
        elif _mapping(schema).get("type", "object") not in ("object", ["object"]):
            why = "the answer's schema describes no object"
        else:
            return
    raise InvalidRequest(
        f"Leave multiple_outputs out and read the whole answer (return_value): {why}",
        path="multiple_outputs",
        keyword="multiple_outputs",
    )


def _response_format(request: Any) -> Any:
    """The answer's schema, as far as the request says it."""
    response_format = _mapping(_mapping(request).get("response_format"))
    return _mapping(response_format.get("json_schema")).get("schema")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _syntax(dag: Any) -> Syntax:
    """The Jinja of a DAG: one for all of its tasks."""
    if dag is None:  # which may come later, with filters of its own
        from jinja2.sandbox import SandboxedEnvironment

        return Syntax(SandboxedEnvironment, markers(), knows_names=False)
    if (known := _LAST.get("syntax")) is not None and known[0]() is dag:
        return known[1]
    there: Callable[[], Any] = ref(dag)
    options = dag.jinja_environment_kwargs
    syntax = Syntax(cache(lambda: there().get_template_env(force_sandboxed=True)), markers(options), options)
    _LAST["syntax"] = (there, syntax)
    return syntax


def _check_templates(arguments: Mapping[str, Any], fields: Iterable[str], dag: Any) -> None:
    """Check the Jinja of all templates that the DAG's author wrote."""
    if dag is None and current_context() is not None:
        return  # an operator that a task makes and executes: nothing renders what it is given
    syntax = _syntax(dag)
    for field in fields:
        name = _ARGUMENT_OF.get(field, field)
        value = arguments.get(name)
        if name == "request":
            syntax.check(_request_text(value, dag, syntax.is_template), "$")
        elif name != "input" or isinstance(value, str):  # a list of rows is data
            syntax.check(value, name)


def _request_text(value: Any, dag: Any, is_template: Callable[[Any], bool]) -> Any:
    """The request, read where it is JSON in a text or a file; a text that is JSON only when it is rendered."""
    if not isinstance(value, str):
        return value
    parsed = json_or_none(value)
    if parsed is None and dag is not None and is_path(value) and not is_template(value):
        value = read_template(dag.get_template_env(force_sandboxed=True), value.strip())
        parsed = json_or_none(value)
    return value if parsed is None else parsed


def check_request(arguments: Mapping[str, Any], dag: Any, *, mapped: bool, may_grow: bool = False) -> Any:
    """Check what is known of the request against schema and rules, and return that; raises InvalidRequest.

    ``mapped``: ``partial()`` has only a part of it; the messages may come with ``expand()``. ``may_grow``: keys may be
    added to it when the task runs.
    """
    may_grow = may_grow or (mapped and "request" not in arguments)
    is_template = markers(dag and dag.jinja_environment_kwargs)
    source = arguments.get("request_schema", DEFAULT_SCHEMA)
    request = _known(arguments, dag, is_template, mapped=mapped)
    if not is_template(source):
        schema = load_schema(opened(source, dag, "request_schema"))
        _tell(arguments.get("task_id"), check_known(request, schema, may_grow=may_grow))
    if arguments.get("result_format") == "tool_calls" and isinstance(request, dict):
        from airflow_chat_provider.core.answer.output_schema import Tools

        Tools(plain(request))  # whose arguments are checked by the tools' own schemas
    return request


def _tell(task_id: Any, doubts: Iterable[str]) -> None:
    """Log each doubt once: a worker parses the file of a DAG, too, and its tasks may have the same doubts."""
    for doubt in doubts:
        if doubt not in _TOLD and len(_TOLD) < _MOST_TOLD:
            _TOLD.add(doubt)
            log.warning("Task %r: %s", task_id, doubt)


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
        text = read_template(dag.get_template_env(force_sandboxed=True), where)
        parsed = json_or_none(text)
    if parsed is None:
        return UNKNOWN if is_template(text) else parse_text(text, where)
    return parsed
