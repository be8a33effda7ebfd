"""What to do about messages in a shape that is often taken for another: the first words of an error."""

from __future__ import annotations

from typing import Any

from jsonschema import ValidationError

_JOIN = 'Join the list of texts into one text with "\\n".join(...)'
_AS_MESSAGES = "Give the messages as messages: a prompt is a text or a list of parts"
_AS_CONTENT = 'Put the parts into a message, {"role": "user", "content": [...]}'
_CORRECT = "Correct the request"
_WAY_OUT = ", or send it as it is with request_schema='open'"
_AS_IT_IS = " (request_schema='open' sends it as it is)"
_IN_LIST = "Put the {} into a list"


def with_remedy(error: ValidationError, wrong: str, *, may_pass: bool) -> str:
    """What to do about ``wrong``, and what it is. Of a request: a hint would tell something of an answer's content.

    ``may_pass``: there are servers that take such a request.
    """
    found = _remedy(error)
    if found is None:
        return f"{_CORRECT}{_WAY_OUT if may_pass else ''}; nothing was sent: {wrong}"
    return f"{found}; nothing was sent: {wrong}" + (_AS_IT_IS if may_pass else "")


def _remedy(error: ValidationError) -> str | None:
    *_, key, last = None, None, *error.absolute_path
    return _in_list(key, error) if isinstance(last, int) else _instead_of_list(last, error)


def _in_list(key: object, error: ValidationError) -> str | None:
    value: Any = error.instance
    is_object = isinstance(value, dict)
    if key in ("messages", "content") and isinstance(value, str) and error.validator == "type":
        return _JOIN
    if key == "content" and is_object and "role" in value:
        return _AS_MESSAGES
    if key == "messages" and is_object and "type" in value and "role" not in value:
        return _AS_CONTENT
    return None


def _instead_of_list(key: object, error: ValidationError) -> str | None:
    value: Any = error.instance
    due: Any = error.validator_value
    if key == "content" and isinstance(value, list) and any(isinstance(item, str) for item in value):
        return _JOIN  # where a schema takes text alone
    if key == "messages" and isinstance(value, dict) and "role" in value:
        return _IN_LIST.format("message")
    if key == "content" and isinstance(value, dict) and "type" in value and "array" in due:
        return _IN_LIST.format("part")
    return None
