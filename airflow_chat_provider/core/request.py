"""From what a task was given to the request that is sent: folded, made plain, typed, checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.keywords import UNKNOWN
from airflow_chat_provider.core.paths import step
from airflow_chat_provider.core.rules import check_names, check_rules
from airflow_chat_provider.core.schema import RequestSchema

_DEPTH = 200  # deeper than any request that a server takes, shallow enough for Python's own recursion


def parse_text(text: str, where: str = "request") -> Any:
    """``text`` as JSON; InvalidRequest with line and column where it is not, or where a key stands twice."""
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, where))
    except json.JSONDecodeError as error:
        why = f"{error.msg} at line {error.lineno}, column {error.colno}"
    except RecursionError:
        why = "it is nested too deep"
    except ValueError as error:  # InvalidRequest of _unique, or an integer with thousands of digits
        if isinstance(error, InvalidRequest):
            raise
        why = "it holds a number that is too long"
    raise InvalidRequest(f"Correct {where}, it is not JSON: {why}", path=where, keyword="json")


def _unique(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in result if names.count(name) > 1)
        raise InvalidRequest(f"Correct {where}: the key {twice[:64]!r} stands twice", path=where, keyword="json")
    return result


def plain(value: Any, path: str = "$", depth: int = 0) -> Any:
    """``value`` in JSON's own types: any mapping a dict, any sequence a list; InvalidRequest names what is neither.

    The same object where nothing had to change. ``UNKNOWN`` passes.
    """
    if value is None or value is UNKNOWN or type(value) in (str, bool, int):
        return value
    if depth > _DEPTH:
        raise InvalidRequest(f"{path}: is nested more than {_DEPTH} deep", path=path, keyword="json")
    if isinstance(value, Mapping):
        return _plain_object(value, path, depth)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        new = [plain(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
        return value if type(value) is list and all(map(_same, new, value)) else new
    return _plain_scalar(value, path)


def _plain_object(value: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
    new = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise InvalidRequest(
                f"{path}: has a key that is a {type(key).__name__}; JSON keys are text",
                path=path,
                keyword="json",
            )
        scalar = item is None or type(item) is str
        new[key] = item if scalar else plain(item, path + step(key), depth + 1)
    return value if type(value) is dict and all(map(_same, new.values(), value.values())) else new


def _same(a: Any, b: Any) -> bool:
    return a is b


def _plain_scalar(value: Any, path: str) -> Any:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRequest(f"{path}: is {value}, which JSON cannot hold", path=path, keyword="json")
        return value
    hint = "list it" if isinstance(value, set | frozenset) else "end the template with '| string' to send it as text"
    raise InvalidRequest(
        f"{path}: is a {type(value).__name__}, which JSON cannot hold; {hint}", path=path, keyword="json"
    )


def mask_templates(value: Any, is_template: Callable[[Any], bool]) -> Any:
    """``value`` with UNKNOWN for each leaf that only a run can know."""
    if isinstance(value, dict):
        return {key: mask_templates(item, is_template) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_templates(item, is_template) for item in value]
    return UNKNOWN if is_template(value) else value


def fold(
    request: Any,
    *,
    messages: Any = None,
    model: Any = None,
    prompt: Any = None,
    system_prompt: Any = None,
) -> Any:
    """One request from the operator's shorthands, which win over the same keys in ``request``.

    ``prompt`` is added to the messages as the user's, ``system_prompt`` becomes the one leading system message.
    """
    request = {} if request is None else request
    if request is UNKNOWN:
        return request
    if not isinstance(request, Mapping):
        kind = "text" if isinstance(request, str) else f"a {type(request).__name__}"
        raise InvalidRequest(f"request must be a mapping or its JSON text, not {kind}", path="$", keyword="type")
    folded = dict(request)
    if model is not None:
        folded["model"] = model
    if messages is not None:
        folded["messages"] = messages
    if prompt is not None or system_prompt is not None:
        folded["messages"] = _with_prompts(folded.get("messages"), prompt, system_prompt)
    return folded


def _with_prompts(messages: Any, prompt: Any, system_prompt: Any) -> Any:
    if messages is UNKNOWN:
        return messages
    if isinstance(messages, str):
        messages = parse_text(messages, "messages")
    if messages is None:
        messages = []
    if isinstance(messages, str) or not isinstance(messages, Sequence):
        raise InvalidRequest(
            f"$.messages: must be an array for prompt to be added to it, got a {type(messages).__name__}",
            path="$.messages",
            keyword="type",
        )
    conversation = list(messages)
    if system_prompt is not None:
        leads = conversation and isinstance(conversation[0], Mapping) and conversation[0].get("role") == "system"
        conversation[: 1 if leads else 0] = [{"role": "system", "content": system_prompt}]
    if prompt is not None:
        conversation.append({"role": "user", "content": prompt})
    return conversation


def finish(
    request: Any, schema: RequestSchema | None, *, base_url: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The request as it will be sent, proved against schema and rules, and a warning for each doubtful thing in it."""
    request = plain(request)
    known = schema.properties if schema else None
    if schema is not None:
        request = schema.typed(request)
        schema.validate(request)
    if not isinstance(request, dict):
        raise InvalidRequest("request must be a mapping or its JSON text", path="$", keyword="type")
    return request, check_rules(request, base_url=base_url, known=known)


def check_known(request: Any, schema: RequestSchema | None) -> None:
    """Check what is known of a request before its templates are rendered: ``UNKNOWN`` stands for each of those."""
    request = plain(request)
    if schema is not None and request is not UNKNOWN:
        schema.validate(schema.typed(request))
        check_names(request, known=schema.properties)


def encode(request: dict[str, Any]) -> bytes:
    """The request's bytes: UTF-8, nothing escaped that need not be."""
    try:
        return json.dumps(request, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        path = _surrogate(request, "$")
        raise InvalidRequest(
            f"{path}: holds half of a surrogate pair, which is no text", path=path, keyword="json"
        ) from None


def _surrogate(value: Any, path: str) -> str | None:
    if isinstance(value, dict):
        bad = (path if _surrogate(key, path) else _surrogate(item, path + step(key)) for key, item in value.items())
        return next(filter(None, bad), None)
    if isinstance(value, list):
        return next(filter(None, (_surrogate(item, f"{path}[{i}]") for i, item in enumerate(value))), None)
    lone = isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value)
    return path if lone else None
