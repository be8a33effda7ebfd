"""A reply that outlives its process: as a body that Airflow's stores can keep, and as text that keeps every field."""

from __future__ import annotations

import json
from typing import Any

from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.cost.prices import read_amount
from airflow_chat_provider.core.errors import ChatCompletionError
from airflow_chat_provider.core.json_text.writing import sanitize, write_json

_TUPLES = ("notes", "changes", "doubts")  # which JSON knows as lists alone


def safe(reply: Reply) -> Reply:
    """The reply with a body that XCom can keep. ``changes`` says what was changed; its error has the same body."""
    body, changes = sanitize(reply.body)
    if reply.error is not None and reply.error.body is reply.body:
        reply.error.body = body
    return reply._replace(body=body, changes=tuple(changes))


def dump(reply: Reply) -> str:
    """A safe reply as ASCII text, without the response's headers. A body that the error has too stands in it once."""
    return write_json(_plain(reply))


def _plain(reply: Reply) -> dict[str, Any]:
    fields: dict[str, Any] = reply._asdict()
    fields["headers"] = {}
    del fields["key"], fields["rejected"]  # found out anew
    if reply.error is not None:
        fields["error"] = reply.error.to_dict()
        if reply.error.body is reply.body:
            del fields["error"]["body"]
    for name in _TUPLES:
        fields[name] = list(fields[name])
    fields["cost"] = None if reply.cost is None else str(reply.cost)
    fields["earlier"] = list(map(_plain, reply.earlier))
    return fields


def safe_dump(reply: Reply) -> tuple[Reply, str]:
    """``safe`` and ``dump`` in one, for a thread of its own: a large reply takes seconds."""
    kept = safe(reply)
    return kept, dump(kept)


def load(text: str) -> Reply:
    """The reply that ``dump`` wrote, in this version or an older one."""
    return _read(json.loads(text))


def _read(fields: dict[str, Any]) -> Reply:
    if fields["error"] is not None:
        fields["error"] = ChatCompletionError.from_dict({"body": fields["body"], **fields["error"]})
    for name in _TUPLES:
        fields[name] = tuple(fields.get(name, ()))
    fields["cost"] = read_amount(fields.get("cost"))
    fields["earlier"] = tuple(map(_read, fields.get("earlier", ())))
    return Reply(**fields)
