"""A reply that outlives its process: safe for any store of Airflow's, and as text that keeps every field."""

from __future__ import annotations

import json
from typing import Any

from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.errors import ChatCompletionError
from airflow_chat_provider.core.json_text.sanitize import sanitize
from airflow_chat_provider.core.json_text.writing import write_json

_TUPLES = ("notes", "changes", "doubts")


def safe(reply: Reply) -> Reply:
    """The reply with a body that XCom can keep; ``changes`` names what had to be changed for that."""
    body, changes = sanitize(reply.body)
    error = reply.error
    if error is not None and error.body is reply.body:
        error.body = body
    return reply._replace(body=body, changes=tuple(changes))


def dump(reply: Reply) -> str:
    """A safe reply as ASCII text; the response's headers are left out."""
    error = reply.error.to_dict() if reply.error is not None else None
    if error is not None and reply.error is not None and reply.error.body is reply.body:
        del error["body"]
    fields = reply._replace(headers={}, error=None)._asdict()
    return write_json({**fields, **{name: list(fields[name]) for name in _TUPLES}, "error": error})


def safe_dump(reply: Reply) -> tuple[Reply, str]:
    """``safe`` and ``dump`` in one, for a thread of its own: a large reply takes seconds."""
    kept = safe(reply)
    return kept, dump(kept)


def load(text: str) -> Reply:
    """The reply that ``dump`` wrote."""
    fields: dict[str, Any] = json.loads(text)
    error = fields["error"]
    if error is not None:
        fields["error"] = ChatCompletionError.from_dict({"body": fields["body"], **error})
    return Reply(**{**fields, **{name: tuple(fields.get(name, ())) for name in _TUPLES}})
