"""From the arguments of a task to the request that is sent: folded into one, in JSON's types, converted and checked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.json_text.nesting import LEVELS, TooDeep, fault, loads
from airflow_chat_provider.core.messages import fitted_to_server
from airflow_chat_provider.core.request.coerce import Meant, is_blank, typed
from airflow_chat_provider.core.request.coerce import filled as filled_by
from airflow_chat_provider.core.request.json_values import opened, plain
from airflow_chat_provider.core.request.rules import check_rules
from airflow_chat_provider.core.request.schema import RequestSchema
from airflow_chat_provider.core.request.validator import UNKNOWN
from airflow_chat_provider.core.spelling import with_article


def parse_text(text: str, where: str = "request") -> Any:
    """``text`` as JSON. Raises InvalidRequest if it is not JSON, or if an object has a key twice."""
    try:
        return loads(text, object_pairs_hook=lambda pairs: _unique(pairs, where))
    except json.JSONDecodeError as error:
        why = "it is not JSON ({} at line {}, column {})".format(*fault(error))
    except TooDeep:
        why = f"it is nested too deep ({LEVELS})"
    except ValueError as error:  # InvalidRequest of _unique, or an integer with thousands of digits
        if isinstance(error, InvalidRequest):
            raise
        why = "it holds a number with too many digits"
    raise InvalidRequest(f"Correct {where}: {why}", path=where, keyword="json")


def _unique(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise InvalidRequest(f"Correct {where}: it has the key {twice[:64]!r} twice", path=where, keyword="json")
    return result


def mask_templates(value: object, is_template: Callable[[Any], bool]) -> Any:
    """``value`` with UNKNOWN for each leaf that is known only when the task runs."""
    if isinstance(value, dict):
        return {key: mask_templates(item, is_template) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_templates(item, is_template) for item in value]
    # An iterator can be read only once, and the run has to.
    return UNKNOWN if is_template(value) or isinstance(value, Iterator) else value


def fold(
    request: object,
    *,
    messages: object = None,
    model: object = None,
    prompt: object = None,
    system_prompt: object = None,
    empty: list[str] | None = None,
) -> Any:
    """One request from the operator's arguments, which win over the same keys in ``request``.

    ``prompt`` is added to the messages as the user's; ``system_prompt`` becomes the only leading system message. An
    empty ``model`` counts as not set, and its name is added to ``empty``.
    """
    request = {} if request is None else opened(request)
    if request is UNKNOWN:
        return request
    if not isinstance(request, Mapping):
        raise _not_a_mapping(request)
    folded = dict(request)
    if is_blank(model):
        if empty is not None:
            empty.append("model")
    elif model is not None:
        folded["model"] = model
    if messages is not None:
        folded["messages"] = messages
    for name, text in (("prompt", prompt), ("system_prompt", system_prompt)):
        if isinstance(text, str) and not text:
            raise InvalidRequest(f"Give {name} a text, or leave it out: it is empty", path=name, keyword="minLength")
    if prompt is not None or system_prompt is not None:
        folded["messages"] = _with_prompts(folded.get("messages"), prompt, system_prompt)
    return folded


def _not_a_mapping(request: object) -> InvalidRequest:
    kind = "text" if isinstance(request, str) else with_article(type(request).__name__)
    message = f"Give request as a mapping, or as the JSON text of an object: it is {kind}"
    return InvalidRequest(message, path="$", keyword="type")


def _with_prompts(messages: object, prompt: object, system_prompt: object) -> Any:
    if messages is UNKNOWN:
        return messages
    if isinstance(messages, str):
        messages = parse_text(messages, "messages")
    messages = [] if messages is None else opened(messages)
    if isinstance(messages, str) or not isinstance(messages, Sequence):
        kind = with_article(type(messages).__name__)
        problem = f"Give messages as a list, so that prompt can be added to it: $.messages is {kind}"
        raise InvalidRequest(problem, path="$.messages", keyword="type")
    conversation = list(map(opened, messages))
    if system_prompt is not None:
        leads = conversation and isinstance(conversation[0], Mapping) and conversation[0].get("role") == "system"
        conversation[: 1 if leads else 0] = [{"role": "system", "content": system_prompt}]
    if prompt is not None:
        conversation.append({"role": "user", "content": prompt})
    return conversation


def finish(
    request: Any, schema: RequestSchema | None, *, base_url: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The request as it will be sent, checked against schema and rules, and the warnings. Raises InvalidRequest."""
    request = plain(request, exact=True)
    request = schema.typed(request) if schema else typed(request, None)
    as_written = schema is None or schema.is_open
    request, left_out = (request, []) if as_written else fitted_to_server(request, base_url)
    doubts: list[str] = [*left_out, *(schema.validate(request, base_url=base_url) if schema else ())]
    if not isinstance(request, dict):
        raise _not_a_mapping(request)
    return request, doubts + check_rules(request, base_url=base_url, **_rules_of(schema))


def _rules_of(schema: RequestSchema | None) -> dict[str, Any]:
    """The arguments of ``check_rules`` that go with a schema."""
    if schema is None:
        return {"mode": "unchecked"}
    return {"known": schema.properties, "mode": "open" if schema.is_open else "checked"}


def filled(
    request: object, schema: RequestSchema | None, empty: Sequence[str] = (), is_meant: Meant = lambda _: False
) -> tuple[Any, list[str]]:
    """A rendered request in the schema's types, without what its templates left empty; a warning for each empty text.

    ``empty``: the names that ``fold`` found empty. ``is_meant``: did the author write a null at this path?
    """
    request = plain(request, exact=True)
    request, paths = schema.filled(request, is_meant) if schema else filled_by(request, None)
    return request, [f"{path} is not sent, because it is an empty text" for path in (*empty, *paths)]


def check_known(request: Any, schema: RequestSchema | None, *, may_grow: bool = False) -> list[str]:
    """Check what is known of a request before its templates are rendered; ``UNKNOWN`` stands for each template.

    ``may_grow``: keys that are missing may still come. The server is not known yet, so its own rules wait; the warnings
    name what OpenAI would refuse.
    """
    request = plain(request, exact=True)
    if request is UNKNOWN:
        return []
    doubts: list[str] = []
    if schema is not None:
        request = schema.typed(request)
        doubts += schema.validate(request)
    if isinstance(request, dict):
        check_rules(_Growing(request) if may_grow else request, **_rules_of(schema))
    return doubts


class _Growing(dict[str, Any]):
    """A request in which every missing key may still come."""

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ARG002 - there is no absence to have a default for
        return super().get(key, UNKNOWN)

    def __missing__(self, key: str) -> Any:
        return UNKNOWN
